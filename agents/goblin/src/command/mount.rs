//! `goblin mount`, `goblin umount`, and `goblin status` on a PC.

use crate::cli::Mount;
use crate::command::files::known;
use crate::error::CliError;
use crate::output::Output;
use goblin_agent_client::boxes::split_place;
use goblin_agent_client::kernel::{KernelMount, MountOptions};
use goblin_agent_client::mounts::{self, MountFile, MountRecord};
use goblin_agent_client::relay::{News, Patience};
use goblin_agent_client::remote;
use rustix::mount::UnmountFlags;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

/// What the relay says when the mount is there.
const MOUNTED: &str = "mounted";
/// Pause between looks at the mount.
const LOOK: Duration = Duration::from_secs(3600);
/// Longest error text of a relay that could not mount, in bytes.
const ERROR_BYTES_MAX: u64 = 16 * 1024;

/// `goblin mount`
pub fn mount(wanted: &Mount, output: &mut Output) -> Result<(), CliError> {
    if wanted.print_unit {
        return output.line(&unit(wanted));
    }
    if wanted.foreground { stay(wanted) } else { detach(wanted, output) }
}

/// Starts the relay as a process of its own and waits for its word.
fn detach(wanted: &Mount, output: &mut Output) -> Result<(), CliError> {
    let program = std::env::current_exe().map_err(CliError::pc)?;
    let mut command = Command::new(program);
    command.arg("mount").args(["--foreground", "--announce"]);
    command.arg(format!("--wait={}", wanted.wait));
    if wanted.read_only {
        command.arg("--read-only");
    }
    if let Some(cache) = &wanted.cache {
        command.arg(format!("--cache={cache}"));
    }
    // The relay stands in the root folder, so that no other mount is kept busy by it.
    command.arg("--").arg(&wanted.place).arg(canonical(&wanted.dir)?);
    // A group of its own: Ctrl-C at this terminal is not meant for the mount.
    command.process_group(0).current_dir("/");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(CliError::pc)?;
    let mut word = String::new();
    if let Some(out) = child.stdout.take() {
        BufReader::new(out).read_line(&mut word).map_err(CliError::pc)?;
    }
    if word.trim() == MOUNTED {
        return output.line(&format!("{} is mounted on {}", wanted.place, wanted.dir.display()));
    }
    let mut text = String::new();
    if let Some(err) = child.stderr.take() {
        err.take(ERROR_BYTES_MAX).read_to_string(&mut text).map_err(CliError::pc)?;
    }
    // It has ended, or is about to: its word was its last.
    let _ = child.wait();
    let text = text.trim();
    let text = text.strip_prefix("goblin: ").unwrap_or(text);
    Err(CliError::pc(
        if text.is_empty() { "the relay ended without a word" } else { text }.to_owned(),
    ))
}

fn canonical(dir: &Path) -> Result<PathBuf, CliError> {
    std::fs::canonicalize(dir)
        .map_err(|err| CliError::pc(format!("{}: {err}; make the folder first", dir.display())))
}

/// Mounts, and stays until the mount is taken away.
fn stay(wanted: &Mount) -> Result<(), CliError> {
    let (the_box, share, path) = split_place(&wanted.place).ok_or_else(|| {
        CliError::pc(format!("`{}` names no share: write BOX:SHARE", wanted.place))
    })?;
    if !path.is_empty() {
        return Err(CliError::pc("a share is mounted whole: write BOX:SHARE without a path"));
    }
    let boxes = known()?;
    let known = boxes.find(the_box).map_err(CliError::pc)?.clone();
    let me = boxes.identity().map_err(CliError::pc)?;
    let target = canonical(&wanted.dir)?;
    let first = remote::connect(&known, &me).map_err(CliError::pc)?;
    let record = MountRecord {
        pid: std::process::id(),
        the_box: known.name.clone(),
        share: share.into(),
        target: target.clone(),
        connected: true,
        reconnects: 0,
        lost_files: 0,
        problem: None,
    };
    // Without a place for it `goblin status` shows less; the mount works.
    let mut file = MountFile::new(Path::new(mounts::RUN), record).ok();
    let announce = wanted.announce;
    let news = Box::new(move |news: &News| {
        if let Some(file) = &mut file {
            let _ = file.note(news);
        }
        if !announce {
            // Nobody may read it any more.
            let _ = writeln!(io::stderr(), "{}", told(news));
        }
    });
    let options = MountOptions {
        share: share.into(),
        read_only: wanted.read_only,
        cache: wanted.cache.clone(),
        patience: Patience(Duration::from_secs(wanted.wait)),
    };
    let source = format!("{}:{share}", known.name);
    let dial = Box::new(move || remote::connect(&known, &me).map_err(io::Error::from));
    let mounted =
        KernelMount::open(first, dial, &options, &source, &target, news).map_err(CliError::pc)?;
    if announce {
        writeln!(io::stdout(), "{MOUNTED}").and_then(|()| io::stdout().flush())?;
    }
    while !mounted.wait(LOOK) {}
    Ok(())
}

fn told(news: &News) -> String {
    match news {
        News::Back { lost_files: 0 } => "the box is back".into(),
        News::Back { lost_files } => {
            format!("the box is back; {lost_files} open file(s) are not there any more")
        }
        News::Away { reason } => format!("{reason}; waiting for the box"),
        News::GaveUp { reason } => format!("calls fail until the box is back: {reason}"),
    }
}

/// `goblin umount`
pub fn umount(dir: &Path, force: bool, output: &mut Output) -> Result<(), CliError> {
    let flags = if force { UnmountFlags::DETACH } else { UnmountFlags::empty() };
    match rustix::mount::unmount(dir, flags) {
        Ok(()) => output.line(&format!("{} is unmounted", dir.display())),
        Err(rustix::io::Errno::BUSY) => Err(CliError::pc(format!(
            "{} is in use: end the programs that have files open there, or add --force",
            dir.display()
        ))),
        Err(rustix::io::Errno::PERM) => Err(CliError::pc("only root unmounts: use sudo")),
        Err(rustix::io::Errno::INVAL) => {
            Err(CliError::pc(format!("nothing is mounted on {}", dir.display())))
        }
        Err(err) => Err(CliError::pc(format!("{}: {err}", dir.display()))),
    }
}

/// `goblin status` on a PC.
pub fn status(output: &mut Output) -> Result<(), CliError> {
    let mounts = mounts::list(Path::new(mounts::RUN)).map_err(CliError::pc)?;
    if output.json {
        return output.json_value(&serde_json::json!({"mounts": mounts}));
    }
    if mounts.is_empty() {
        return output.line("no share is mounted here; `goblin shares` shows what there is");
    }
    for mount in mounts {
        let state = mount.problem.as_deref().unwrap_or("connected");
        output.line(&format!(
            "{:<30} {:<24} {state}; {} reconnection(s), {} open file(s) lost",
            format!("{}:{}", mount.the_box, mount.share),
            mount.target.display().to_string(),
            mount.reconnects,
            mount.lost_files
        ))?;
    }
    Ok(())
}

/// A systemd unit (`systemd.service(5)`).
fn unit(wanted: &Mount) -> String {
    let read_only = if wanted.read_only { " --read-only" } else { "" };
    let program = std::env::current_exe()
        .map_or_else(|_| "/usr/local/bin/goblin".to_owned(), |path| path.display().to_string());
    let (place, dir) = (&wanted.place, wanted.dir.display());
    format!(
        "[Unit]\n\
         Description={place} on {dir}\n\
         Wants=network-online.target\n\
         After=network-online.target\n\n\
         [Service]\n\
         ExecStart={program} mount --foreground{read_only} --wait={wait} {place} {dir}\n\
         ExecStopPost=-{program} umount --force {dir}\n\
         Restart=always\n\
         RestartSec=5\n\n\
         [Install]\n\
         WantedBy=multi-user.target",
        wait = wanted.wait
    )
}
