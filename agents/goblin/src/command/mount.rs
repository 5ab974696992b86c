//! `goblin mount`, `goblin umount`, and `goblin status` on a PC.

use crate::cli::Mount;
use crate::command::files::known;
use crate::command::mount_unit;
use crate::error::CliError;
use crate::output::Output;
use goblin_agent_client::boxes::KnownBox;
use goblin_agent_client::boxes::split_place;
use goblin_agent_client::fuse::FuseMount;
use goblin_agent_client::kernel::{self, KernelMount, MountOptions};
use goblin_agent_client::mounts::{self, MountFile, MountRecord, Way};
use goblin_agent_client::relay::{Listener, News, Owner, Patience};
use goblin_agent_client::remote;
use goblin_tls::Identity;
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
        let Owner { uid, gid } = owner(wanted);
        let units = mount_unit::units(wanted, (uid, gid))?;
        return match &wanted.unit_dir {
            Some(folder) => units.write(folder, output),
            None => units.print(output),
        };
    }
    if wanted.direct {
        return direct(wanted, output);
    }
    if wanted.foreground { stay(wanted) } else { detach(wanted, output) }
}

/// What a mount is made of, looked up and checked.
struct Asked {
    known: KnownBox,
    me: Identity,
    share: String,
    target: PathBuf,
    source: String,
}

impl Asked {
    fn of(wanted: &Mount) -> Result<Self, CliError> {
        let (the_box, share, path) = split_place(&wanted.place).ok_or_else(|| {
            CliError::pc(format!("`{}` names no share: write BOX:SHARE", wanted.place))
        })?;
        if !path.is_empty() {
            return Err(CliError::pc("a share is mounted whole: write BOX:SHARE without a path"));
        }
        let boxes = known()?;
        let known = boxes.find(the_box).map_err(CliError::pc)?.clone();
        let me = boxes.identity().map_err(CliError::pc)?;
        let source = format!("{}:{share}", known.name);
        Ok(Self { known, me, share: share.into(), target: canonical(&wanted.dir)?, source })
    }

    fn options(&self, wanted: &Mount) -> MountOptions {
        MountOptions {
            share: self.share.clone(),
            read_only: wanted.read_only,
            cache: wanted.cache.clone(),
            patience: Patience(Duration::from_secs(wanted.wait)),
            owner: owner(wanted),
        }
    }

    fn record(&self, way: Way) -> MountRecord {
        MountRecord {
            pid: std::process::id(),
            way,
            the_box: self.known.name.clone(),
            share: self.share.clone(),
            target: self.target.clone(),
            connected: true,
            reconnects: 0,
            lost_files: 0,
            problem: None,
        }
    }
}

/// Whose the files are: as asked for, else who called `sudo`, else who calls.
fn owner(wanted: &Mount) -> Owner {
    if let Some((uid, gid)) = wanted.owner {
        return Owner { uid, gid };
    }
    let of = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u32>().ok());
    let (uid, gid) = (rustix::process::geteuid(), rustix::process::getegid());
    match (uid.is_root(), of("SUDO_UID"), of("SUDO_GID")) {
        (true, Some(uid), Some(gid)) => Owner { uid, gid },
        _ => Owner { uid: uid.as_raw(), gid: gid.as_raw() },
    }
}

fn direct(wanted: &Mount, output: &mut Output) -> Result<(), CliError> {
    let asked = Asked::of(wanted)?;
    let first = remote::connect_for_kernel(&asked.known, &asked.me).map_err(CliError::pc)?;
    kernel::mount_direct(first, &asked.options(wanted), &asked.source, &asked.target)
        .map_err(CliError::pc)?;
    // Without a place for it `goblin status` shows less; the mount works.
    let _ = MountFile::keep_direct(Path::new(mounts::RUN), &asked.record(Way::Direct));
    output.line(&format!("{} is mounted on {}", wanted.place, wanted.dir.display()))
}

/// Starts the relay as a process of its own and waits for its word.
fn detach(wanted: &Mount, output: &mut Output) -> Result<(), CliError> {
    let program = std::env::current_exe().map_err(CliError::pc)?;
    let mut command = Command::new(program);
    // A copy called `mount.goblin` would take itself for the helper.
    command.arg0("goblin").arg("mount").args(["--foreground", "--announce"]);
    command.arg(format!("--wait={}", wanted.wait));
    if wanted.read_only {
        command.arg("--read-only");
    }
    if let Some(cache) = &wanted.cache {
        command.arg(format!("--cache={cache}"));
    }
    if wanted.fuse {
        command.arg("--fuse");
    }
    let Owner { uid, gid } = owner(wanted);
    command.arg(format!("--owner={uid}:{gid}"));
    // The relay stands in the root folder, so that no other mount is kept busy by it.
    command.arg("--").arg(&wanted.place).arg(canonical(&wanted.dir)?);
    command.current_dir("/");
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
    let asked = Asked::of(wanted)?;
    let first = remote::connect(&asked.known, &asked.me).map_err(CliError::pc)?;
    let record = asked.record(if wanted.fuse { Way::Fuse } else { Way::Relay });
    // Without a place for it `goblin status` shows less; the mount works.
    let mut file = MountFile::new(Path::new(mounts::RUN), record).ok();
    let announce = wanted.announce;
    let news: Listener = Box::new(move |news: &News| {
        if let Some(file) = &mut file {
            let _ = file.note(news);
        }
        if !announce {
            // Nobody may read it any more.
            let _ = writeln!(io::stderr(), "{}", told(news));
        }
    });
    let options = asked.options(wanted);
    let (known, me) = (asked.known, asked.me);
    let dial = Box::new(move || remote::connect(&known, &me).map_err(io::Error::from));
    if wanted.fuse {
        let mounted = FuseMount::open(first, dial, &options, &asked.source, &asked.target, news)
            .map_err(CliError::pc)?;
        say_mounted(announce)?;
        return mounted.stay().map_err(CliError::pc);
    }
    let mounted = KernelMount::open(first, dial, &options, &asked.source, &asked.target, news)
        .map_err(CliError::pc)?;
    say_mounted(announce)?;
    while !mounted.wait(LOOK) {}
    Ok(())
}

fn say_mounted(announce: bool) -> Result<(), CliError> {
    if announce {
        // A group of its own: Ctrl-C at this terminal is not meant for the mount. Not before it is there: at an automount
        // of systemd the kernel lets only systemd's own group pass (`autofs_oz_mode`), everybody else waits for the mount.
        rustix::process::setpgid(None, None)
            .map_err(|err| CliError::pc(format!("cannot leave this process group: {err}")))?;
        writeln!(io::stdout(), "{MOUNTED}").and_then(|()| io::stdout().flush())?;
    }
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

/// Mounts by FUSE that were made without root are taken away by the program that made them.
fn umount_fuse(dir: &Path, force: bool) -> bool {
    let mut command = Command::new("fusermount3");
    command.arg("-u").args(force.then_some("-z")).arg("--").arg(dir);
    let done = command.stdout(Stdio::null()).stderr(Stdio::null()).status();
    done.is_ok_and(|status| status.success())
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
        Err(rustix::io::Errno::PERM) if umount_fuse(dir, force) => {
            output.line(&format!("{} is unmounted", dir.display()))
        }
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
        let state = match (mount.way, mount.problem.as_deref()) {
            (Way::Direct, _) => {
                output.line(&format!(
                    "{:<30} {:<24} mounted by the kernel alone",
                    format!("{}:{}", mount.the_box, mount.share),
                    mount.target.display().to_string(),
                ))?;
                continue;
            }
            (_, Some(problem)) => problem,
            (_, None) => "connected",
        };
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
