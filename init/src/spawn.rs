//! From fork to exec: a process in its own session and cgroup, with its output on a pipe, and a name for
//! the step that failed where one did.
//!
//! Everything that allocates happens before the fork: between fork and exec the child only makes system
//! calls. The child tells which step failed as `stage[1] errno[4]` (little endian) over a pipe that exec
//! closes, so that an end without words means that the program runs.
#![allow(
    unsafe_code,
    reason = "fork, signal dispositions and raw descriptors of a child before exec"
)]

use crate::cgroup;
use goblin_init_core::unit::Unit;
use goblin_sys::notify::NOTIFY_ENV;
use rustix::fs::{Mode, OFlags};
use rustix::pipe::PipeFlags;
use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

/// Descriptor of the notify pipe in the child.
const NOTIFY_FD: RawFd = 3;
/// Exit status of a child that did not reach its program.
const NOT_EXECUTED: i32 = 127;
/// Search path of units; the base image has no other programs.
const PATH: &str = "PATH=/usr/bin:/usr/sbin:/bin:/sbin";

/// A step between fork and exec.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum Stage {
    Signals = 1,
    Session,
    Cgroup,
    Descriptors,
    Privileges,
    Exec,
}

impl Stage {
    const ALL: [Self; 6] = [
        Self::Signals,
        Self::Session,
        Self::Cgroup,
        Self::Descriptors,
        Self::Privileges,
        Self::Exec,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::Signals => "signals",
            Self::Session => "session",
            Self::Cgroup => "cgroup",
            Self::Descriptors => "descriptors",
            Self::Privileges => "privileges",
            Self::Exec => "exec",
        }
    }
}

/// A program to start.
#[derive(Debug)]
pub struct Program {
    exec: Vec<CString>,
    env: Vec<CString>,
    cgroup_procs: Option<CString>,
}

/// A process that was forked, and PID 1's ends of its pipes; all of them are non-blocking.
#[derive(Debug)]
pub struct Child {
    /// Its process id.
    pub pid: u32,
    /// Its standard output and error.
    pub log: OwnedFd,
    /// Its words to PID 1.
    pub notify: OwnedFd,
    /// Ends at exec, or tells which step failed: see [`explain`].
    pub status: OwnedFd,
}

impl Program {
    /// The program of a unit; makes the unit's cgroup.
    ///
    /// # Errors
    /// When the cgroup cannot be made, or a word holds a NUL.
    pub fn of_unit(unit: &Unit) -> io::Result<Self> {
        let procs = if std::path::Path::new(cgroup::CGROUP).join("cgroup.procs").exists() {
            Some(cgroup::make(unit)?)
        } else {
            None
        };
        let env = unit.env.iter().map(|(name, value)| format!("{name}={value}"));
        Self::new(&unit.exec, env.chain([format!("GOBLIN_UNIT={}", unit.name)]), procs)
    }

    /// A child of PID 1 that is no unit.
    ///
    /// # Errors
    /// When a word holds a NUL.
    pub fn helper(exec: &[String]) -> io::Result<Self> {
        Self::new(exec, std::iter::empty(), None)
    }

    fn new(
        exec: &[String],
        env: impl Iterator<Item = String>,
        cgroup_procs: Option<PathBuf>,
    ) -> io::Result<Self> {
        let c_string = |text: &[u8]| CString::new(text).map_err(io::Error::from);
        let fixed =
            [PATH.to_owned(), "HOME=/".into(), format!("{NOTIFY_ENV}=/proc/self/fd/{NOTIFY_FD}")];
        Ok(Self {
            exec: exec.iter().map(|word| c_string(word.as_bytes())).collect::<Result<_, _>>()?,
            env: env
                .chain(fixed)
                .map(|word| c_string(word.as_bytes()))
                .collect::<Result<_, _>>()?,
            cgroup_procs: cgroup_procs
                .map(|path| c_string(path.as_os_str().as_bytes()))
                .transpose()?,
        })
    }

    /// Forks.
    ///
    /// # Errors
    /// When pipes or the process cannot be made. What goes wrong later comes over [`Child::status`].
    pub fn start(&self) -> io::Result<Child> {
        let null = rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
        let (log, child_log) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?;
        let (notify, child_notify) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?;
        let (status, child_status) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?;
        for fd in [&log, &notify, &status] {
            rustix::io::ioctl_fionbio(fd, true)?;
        }
        let argv = pointers(&self.exec);
        let envp = pointers(&self.env);
        // SAFETY: PID 1 has one thread, so no lock can be held by another one; the child only makes
        // system calls until exec or _exit.
        match unsafe { libc::fork() } {
            -1 => Err(io::Error::last_os_error()),
            0 => {
                let ends = Ends { null, log: child_log, notify: child_notify };
                let (stage, errno) = self.become_program(&ends, &argv, &envp);
                let errno = errno.raw_os_error().to_le_bytes();
                let word = [stage as u8, errno[0], errno[1], errno[2], errno[3]];
                let _ = rustix::io::write(&child_status, &word);
                // SAFETY: ends the child at once, without running the parent's destructors in it.
                unsafe { libc::_exit(NOT_EXECUTED) }
            }
            pid => Ok(Child { pid: pid.unsigned_abs(), log, notify, status }),
        }
    }

    /// In the child: returns only when a step failed.
    fn become_program(
        &self,
        ends: &Ends,
        argv: &[*const libc::c_char],
        envp: &[*const libc::c_char],
    ) -> (Stage, rustix::io::Errno) {
        let steps = || -> Result<(), (Stage, rustix::io::Errno)> {
            reset_signals().map_err(|err| (Stage::Signals, err))?;
            rustix::process::setsid().map_err(|err| (Stage::Session, err))?;
            if let Some(procs) = &self.cgroup_procs {
                join(procs).map_err(|err| (Stage::Cgroup, err))?;
            }
            ends.install().map_err(|err| (Stage::Descriptors, err))?;
            rustix::thread::set_no_new_privs(true).map_err(|err| (Stage::Privileges, err))
        };
        if let Err(failed) = steps() {
            return failed;
        }
        let program = argv.first().copied().unwrap_or(std::ptr::null());
        // SAFETY: `argv` and `envp` point to NUL-terminated strings owned by `self` and end with a null
        // pointer (`pointers`); `program` is the first of them.
        unsafe { libc::execve(program, argv.as_ptr(), envp.as_ptr()) };
        (Stage::Exec, last_errno())
    }
}

/// What becomes descriptors 0 to 3 of the child.
struct Ends {
    null: OwnedFd,
    log: OwnedFd,
    notify: OwnedFd,
}

impl Ends {
    fn install(&self) -> rustix::io::Result<()> {
        // PID 1 has 0 to 2 open, but a source may lie at 3 and must not be overwritten before its turn.
        let notify = rustix::io::fcntl_dupfd_cloexec(&self.notify, NOTIFY_FD.saturating_add(1))?;
        let log = rustix::io::fcntl_dupfd_cloexec(&self.log, NOTIFY_FD.saturating_add(1))?;
        let null = rustix::io::fcntl_dupfd_cloexec(&self.null, NOTIFY_FD.saturating_add(1))?;
        duplicate(&null, 0)?;
        duplicate(&log, 1)?;
        duplicate(&log, 2)?;
        duplicate(&notify, NOTIFY_FD)
    }
}

/// `dup2`: the new descriptor survives exec.
fn duplicate(from: &OwnedFd, to: RawFd) -> rustix::io::Result<()> {
    // SAFETY: dup2 takes any two integers; `from` is open, and what `to` was before belongs to this child
    // alone, which does not use it again.
    if unsafe { libc::dup2(from.as_raw_fd(), to) } < 0 { Err(last_errno()) } else { Ok(()) }
}

fn last_errno() -> rustix::io::Errno {
    rustix::io::Errno::from_io_error(&io::Error::last_os_error())
        .unwrap_or(rustix::io::Errno::INVAL)
}

/// PID 1 blocks the signals it reads from a descriptor and Rust ignores SIGPIPE; programs expect neither.
fn reset_signals() -> rustix::io::Result<()> {
    // SAFETY: SIG_DFL is a valid disposition of SIGPIPE, and no handler of this program is lost: it has
    // none.
    if unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) } == libc::SIG_ERR {
        return Err(last_errno());
    }
    nix::sys::signal::SigSet::empty()
        .thread_set_mask()
        .map_err(|err| rustix::io::Errno::from_raw_os_error(err as i32))
}

fn join(procs: &CStr) -> rustix::io::Result<()> {
    let file = rustix::fs::open(procs, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())?;
    rustix::io::write(&file, b"0").map(|_| ())
}

fn pointers(words: &[CString]) -> Vec<*const libc::c_char> {
    words.iter().map(|word| word.as_ptr()).chain([std::ptr::null()]).collect()
}

/// What came over [`Child::status`].
#[derive(Debug, PartialEq, Eq)]
pub enum Started {
    /// The program runs.
    Executed,
    /// It does not; the sentence names the step and the kernel's error.
    Failed(String),
    /// Not known yet.
    Unknown,
}

/// Reads a status pipe that is ready.
pub fn explain(status: BorrowedFd<'_>) -> Started {
    let mut word = [0u8; 5];
    match rustix::io::read(status, &mut word) {
        Ok(0) => Started::Executed,
        Ok(_) => {
            let [stage, errno @ ..] = word;
            let errno = io::Error::from_raw_os_error(i32::from_le_bytes(errno));
            let stage = Stage::ALL.into_iter().find(|known| *known as u8 == stage);
            Started::Failed(format!(
                "not started: {}: {errno}",
                stage.map_or("unknown step", Stage::name)
            ))
        }
        Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => Started::Unknown,
        Err(err) => Started::Failed(format!("not started: no word from the child: {err}")),
    }
}

/// A descriptor that the program before this one left open for it, made to end at the next exec.
pub fn inherited(number: RawFd) -> Option<OwnedFd> {
    if number <= 2 {
        return None;
    }
    // SAFETY: fcntl takes any integer and says EBADF for one that is not open.
    if unsafe { libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) } < 0 {
        return None;
    }
    // SAFETY: the descriptor is open (the call above), and preinit left it to this program alone: nothing
    // else here takes numbers from the environment.
    Some(unsafe { OwnedFd::from_raw_fd(number) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;
    use std::os::fd::AsFd;

    fn run(exec: &[&str]) -> (Started, String, i32) {
        let exec: Vec<String> = exec.iter().map(ToString::to_string).collect();
        let child = Program::helper(&exec).unwrap().start().unwrap();
        let pid = rustix::process::Pid::from_raw(child.pid as i32);
        let ended = rustix::process::waitpid(pid, rustix::process::WaitOptions::empty()).unwrap();
        let started = explain(child.status.as_fd());
        let mut text = String::new();
        std::fs::File::from(child.log).read_to_string(&mut text).unwrap();
        (started, text, ended.unwrap().1.exit_status().unwrap_or(-1))
    }

    #[test]
    fn output_of_a_child_comes_over_its_pipe() {
        let (started, text, code) =
            run(&["/bin/sh", "-c", "echo out; echo err >&2; read x; exit 3"]);
        assert_eq!((started, text.as_str(), code), (Started::Executed, "out\nerr\n", 3));
    }

    #[test]
    fn a_child_has_only_its_own_descriptors() {
        let (_, text, _) =
            run(&["/bin/sh", "-c", "for fd in /proc/self/fd/[4-9]; do readlink $fd; done"]);
        // The shell may open its own; none of ours is a pipe beyond 3.
        assert!(!text.contains("pipe:"), "{text}");
    }

    #[test]
    fn a_missing_program_is_named_by_its_step() {
        let (started, _, code) = run(&["/no/such/program"]);
        assert_eq!(code, NOT_EXECUTED);
        let Started::Failed(why) = started else { panic!("{started:?}") };
        assert!(why.contains("exec: No such file"), "{why}");
    }
}
