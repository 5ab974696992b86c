//! The host: where things are kept, and how other programs are run.
//!
//! Everything made here goes below the workspace's `target/` or the user's cache folder; a failing
//! program is reported with its last lines and with what was being done.

use anyhow::{Context, Result, bail};
use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Lines of a failed program's output that are repeated in the error.
const OUTPUT_LINES_MAX: usize = 25;
/// Between two progress lines where the output is not a terminal.
const PROGRESS_PLAIN_EVERY: Duration = Duration::from_secs(20);
/// Between two redraws of the progress line on a terminal.
const PROGRESS_TTY_EVERY: Duration = Duration::from_millis(200);

/// The workspace's folder.
pub fn root() -> PathBuf {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    manifest.parent().unwrap_or(manifest).to_path_buf()
}

/// A folder below `target/`, made when absent.
///
/// # Errors
/// When the folder cannot be made.
pub fn target(name: &str) -> Result<PathBuf> {
    made(root().join("target").join(name))
}

/// A folder below the user's cache (`$XDG_CACHE_HOME/goblinux` or `~/.cache/goblinux`), made when
/// absent. Holds what is slow to make or to fetch and does not depend on the checkout.
///
/// # Errors
/// When neither variable names an absolute path, or the folder cannot be made.
pub fn cache(name: &str) -> Result<PathBuf> {
    let absolute = |var: &str| std::env::var_os(var).map(PathBuf::from).filter(|p| p.is_absolute());
    let base = absolute("XDG_CACHE_HOME")
        .or_else(|| absolute("HOME").map(|home| home.join(".cache")))
        .context("no cache folder: set HOME or XDG_CACHE_HOME to an absolute path")?;
    made(base.join("goblinux").join(name))
}

fn made(path: PathBuf) -> Result<PathBuf> {
    std::fs::create_dir_all(&path)
        .with_context(|| format!("cannot make the folder {}", path.display()))?;
    Ok(path)
}

/// Prints one step: what is being done now.
pub fn say(text: impl std::fmt::Display) {
    eprintln!("==> {text}");
}

/// Prints something worse than wished that does not stop the work.
pub fn warn(text: impl std::fmt::Display) {
    eprintln!("warning: {text}");
}

/// Runs a program to its end, its output shown as it comes.
///
/// # Errors
/// When it cannot be started or does not succeed.
pub fn run_shown(command: &mut Command, doing: &str) -> Result<()> {
    let status = command.status().with_context(|| cannot_start(command, doing))?;
    if !status.success() {
        bail!("{doing}: `{}` ended with {status}; its output is above", line_of(command));
    }
    Ok(())
}

/// Runs a program to its end and returns its standard output.
///
/// # Errors
/// When it cannot be started or does not succeed: the last lines of what it said are in the error.
pub fn output(command: &mut Command, doing: &str) -> Result<String> {
    let out =
        command.stdin(Stdio::null()).output().with_context(|| cannot_start(command, doing))?;
    if !out.status.success() {
        let said = [out.stdout.as_slice(), out.stderr.as_slice()].concat();
        bail!(
            "{doing}: `{}` ended with {}:\n{}",
            line_of(command),
            out.status,
            last_lines(&String::from_utf8_lossy(&said))
        );
    }
    Ok(String::from_utf8_lossy(&out.stdout).into_owned())
}

fn cannot_start(command: &Command, doing: &str) -> String {
    let program = command.get_program().to_string_lossy().into_owned();
    format!("{doing}: cannot start `{program}`; `cargo xtask setup` installs what is needed")
}

fn line_of(command: &Command) -> String {
    let mut words = vec![command.get_program().to_string_lossy().into_owned()];
    words.extend(command.get_args().map(|arg| arg.to_string_lossy().into_owned()));
    words.join(" ")
}

/// The last lines of a text, indented.
pub fn last_lines(text: &str) -> String {
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    let from = lines.len().saturating_sub(OUTPUT_LINES_MAX);
    lines.iter().skip(from).map(|line| format!("    {line}")).collect::<Vec<_>>().join("\n")
}

/// Writes a file by way of a temporary one beside it, so that it is whole or absent.
///
/// # Errors
/// When the folder cannot be written.
pub fn write_whole(path: &Path, bytes: &[u8]) -> Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    std::fs::create_dir_all(folder)
        .with_context(|| format!("cannot make the folder {}", folder.display()))?;
    let mut file = tempfile::NamedTempFile::new_in(folder)
        .with_context(|| format!("cannot write into {}", folder.display()))?;
    file.write_all(bytes).with_context(|| format!("cannot write {}", path.display()))?;
    persist(file, path)
}

/// Gives a finished temporary file its name and makes it readable for everybody.
///
/// # Errors
/// When the folder cannot be written.
pub fn persist(file: tempfile::NamedTempFile, path: &Path) -> Result<()> {
    // A temporary file starts as 0600; what is built is for everybody to read.
    let readable = std::os::unix::fs::PermissionsExt::from_mode(0o644);
    std::fs::set_permissions(file.path(), readable)
        .and_then(|()| file.persist(path).map_err(|err| err.error))
        .with_context(|| format!("cannot write {}", path.display()))?;
    Ok(())
}

/// Reads a file.
///
/// # Errors
/// Names the file.
pub fn read(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))
}

/// One line that is redrawn on a terminal, and repeated now and then elsewhere.
#[derive(Debug)]
pub struct Progress {
    label: String,
    tty: bool,
    began: Instant,
    shown: Option<Instant>,
}

impl Progress {
    /// Starts; nothing is printed yet.
    pub fn new(label: impl Into<String>) -> Self {
        let tty = std::io::stderr().is_terminal();
        let began = Instant::now();
        // Elsewhere than on a terminal, what is over at once needs no line.
        Self { label: label.into(), tty, began, shown: (!tty).then_some(began) }
    }

    /// Shows where the work is, unless that was done a moment ago.
    pub fn at(&mut self, state: impl std::fmt::Display) {
        let every = if self.tty { PROGRESS_TTY_EVERY } else { PROGRESS_PLAIN_EVERY };
        if self.shown.is_some_and(|shown| shown.elapsed() < every) {
            return;
        }
        self.shown = Some(Instant::now());
        let seconds = self.began.elapsed().as_secs();
        if self.tty {
            eprint!("\r\x1b[2K    {}: {state}, {seconds} s", self.label);
        } else {
            eprintln!("    {}: {state}, {seconds} s", self.label);
        }
    }

    /// Ends the line and returns how long it took.
    pub fn done(self) -> Duration {
        if self.tty && self.shown.is_some() {
            eprintln!();
        }
        self.began.elapsed()
    }
}

/// Bytes that the file system of a path still takes; `None` when it does not say.
pub fn room(path: &Path) -> Option<u64> {
    rustix::fs::statvfs(path).map(|found| found.f_bavail.saturating_mul(found.f_frsize)).ok()
}

/// Wants room for so many more bytes.
///
/// # Errors
/// When there is less.
pub fn need_room(path: &Path, bytes: u64) -> Result<()> {
    match room(path) {
        Some(free) if free < bytes => bail!(
            "{} MiB are free where {} lies, at least {} are needed: make room",
            free >> 20,
            path.display(),
            bytes >> 20
        ),
        _ => Ok(()),
    }
}

/// Claims what only one process may use at a time, until the returned file is dropped or the process
/// ends in whatever way.
///
/// # Errors
/// With `taken` and the other process's number when another one has it.
pub fn claim(path: &Path, taken: &str) -> Result<std::fs::File> {
    use std::os::unix::fs::FileExt;
    let file = std::fs::OpenOptions::new()
        .create(true)
        .truncate(false)
        .read(true)
        .write(true)
        .open(path)
        .with_context(|| cannot_write(path))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(std::fs::TryLockError::WouldBlock) => {
            let owner = std::fs::read_to_string(path).unwrap_or_default();
            bail!("{taken} (process {})", owner.trim());
        }
        Err(std::fs::TryLockError::Error(err)) => {
            return Err(err).with_context(|| format!("cannot lock {}", path.display()));
        }
    }
    file.set_len(0)
        .and_then(|()| file.write_all_at(format!("{}\n", std::process::id()).as_bytes(), 0))
        .with_context(|| format!("cannot write {}", path.display()))?;
    Ok(file)
}

/// What to say when a file of ours cannot be opened for writing: nearly always it is another user's.
fn cannot_write(path: &Path) -> String {
    use std::os::unix::fs::MetadataExt;
    let owner = path.parent().and_then(|folder| std::fs::metadata(folder).ok());
    let me = rustix::process::geteuid();
    match owner.map(|folder| folder.uid()) {
        Some(owner) if !me.is_root() && owner != me.as_raw() => format!(
            "cannot write {}: the folder belongs to another user (number {owner}), and you are number \
             {}; run the command as that user, or in a clone of your own",
            path.display(),
            me.as_raw()
        ),
        _ => format!("cannot write {}", path.display()),
    }
}

/// Holds a lock on a folder of the cache until dropped: two builds at once wait for each other.
///
/// # Errors
/// When the lock's file cannot be made.
pub fn lock(folder: &Path) -> Result<std::fs::File> {
    let path = folder.join(".lock");
    let file = std::fs::OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .with_context(|| format!("cannot write {}", path.display()))?;
    file.lock().with_context(|| format!("cannot lock {}", path.display()))?;
    Ok(file)
}
