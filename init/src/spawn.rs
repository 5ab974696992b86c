//! From fork to exec: a process in its own session, cgroup and sandbox, with its output on a pipe, and a
//! name for the step that failed where one did.
//!
//! Everything that allocates happens before the fork: between fork and exec the child only makes system
//! calls. The child tells which step failed as `stage[1] errno[4]` (little endian) over a pipe that exec
//! closes, so that an end without words means that the program runs.
#![allow(unsafe_code, reason = "fork, exec and the end of a child")]

mod disks;
mod kernel;
mod landlock;
mod limits;
mod mounts;
mod sandbox;
mod sockets;
mod stage;

pub use kernel::{guard_sysctls, inherited, sysctl_guard};
pub use stage::{Started, explain};

use crate::cgroup::{self, Group, Holds};
use goblin_init_core::unit::Unit;
use goblin_sys::notify::NOTIFY_ENV;
use kernel::{duplicate, last_errno, reset_signals};
use rustix::fs::{Mode, OFlags};
use rustix::pipe::PipeFlags;
use sockets::{Passed, PidWord};
use stage::{Failed, Stage, at};
use std::ffi::CString;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd, RawFd};

/// First descriptor that is not a standard one: of the sockets that are passed on, else of the notify pipe,
/// which comes behind them.
const FIRST_FD: RawFd = 3;
/// Exit status of a child that did not reach its program.
pub const NOT_EXECUTED: i32 = 127;
/// Search path of units; the base image has no other programs.
const PATH: &str = "PATH=/usr/bin:/usr/sbin:/bin:/sbin";

/// A program to start.
#[derive(Debug)]
pub struct Program {
    exec: Vec<CString>,
    env: Vec<CString>,
    cgroup: Option<Group>,
    limits: limits::Prepared,
    sandbox: Option<sandbox::Prepared>,
    sockets: Passed,
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
    /// When the cgroup or the sandbox cannot be prepared, or a word holds a NUL.
    pub fn of_unit(unit: &Unit) -> io::Result<Self> {
        Self::with_sockets(unit, &[], Holds::Unknown)
    }

    /// The program of a unit, with listening sockets and their names passed on; `holds` tells what is known of its
    /// group.
    ///
    /// # Errors
    /// As for [`Program::of_unit`], and when a descriptor cannot be made.
    pub fn with_sockets(
        unit: &Unit,
        sockets: &[(&str, BorrowedFd<'_>)],
        holds: Holds,
    ) -> io::Result<Self> {
        let cgroup = cgroup::make(unit, holds).map_err(|err| named("cgroup", &err))?;
        let env = unit.env.iter().map(str::to_owned);
        let env = env.chain([format!("GOBLIN_UNIT={}", unit.name)]);
        let passed = Passed::new(sockets).map_err(|err| named("descriptors", &err))?;
        let mut program = Self::new(unit.exec.iter(), env, cgroup, passed)?;
        program.limits =
            limits::Prepared::new(&unit.limits).map_err(|err| named("limits", &err))?;
        let sandbox = unit.sandbox.as_deref();
        program.sandbox = sandbox::own_folder(&unit.name, sandbox)
            .and_then(|()| {
                sandbox.map(|table| sandbox::Prepared::new(&unit.name, table)).transpose()
            })
            .map_err(|err| named("sandbox", &err))?;
        if let (Some(group), Some(sandbox)) = (&program.cgroup, &program.sandbox) {
            let guarded = sandbox.guard_devices(&group.folder);
            guarded.map_err(|err| named("device guard", &err))?;
        }
        Ok(program)
    }

    /// A child of PID 1 that is no unit.
    ///
    /// # Errors
    /// When a word holds a NUL.
    pub fn helper(exec: &[String]) -> io::Result<Self> {
        Self::new(exec.iter().map(String::as_str), std::iter::empty(), None, Passed::default())
    }

    fn new<'a>(
        exec: impl Iterator<Item = &'a str>,
        env: impl Iterator<Item = String>,
        cgroup: Option<Group>,
        sockets: Passed,
    ) -> io::Result<Self> {
        let c_string = |text: &[u8]| CString::new(text).map_err(io::Error::from);
        let notify = format!("{NOTIFY_ENV}=/proc/self/fd/{}", sockets.notify_fd());
        let fixed = [PATH.to_owned(), "HOME=/".into(), notify];
        Ok(Self {
            exec: exec.map(|word| c_string(word.as_bytes())).collect::<Result<_, _>>()?,
            env: env
                .chain(fixed)
                .chain(sockets.env())
                .map(|word| c_string(word.as_bytes()))
                .collect::<Result<_, _>>()?,
            cgroup,
            limits: limits::Prepared::default(),
            sandbox: None,
            sockets,
        })
    }

    /// Forks.
    ///
    /// # Errors
    /// When pipes or the process cannot be made. What goes wrong later comes over [`Child::status`].
    pub fn start(&self) -> io::Result<Child> {
        let ((log, notify, status), ends, child_status) =
            self.pipes().map_err(|err| named("descriptors", &err))?;
        let argv = pointers(&self.exec);
        let mut envp = pointers(&self.env);
        // The child alone knows its id; the word has room for it.
        let pid_word = PidWord::new();
        if !self.sockets.is_empty() {
            envp.insert(0, pid_word.pointer());
        }
        // SAFETY: PID 1 has one thread, so no lock can be held by another one; the child only makes
        // system calls until exec or _exit.
        match unsafe { libc::fork() } {
            -1 => Err(named("fork", &io::Error::last_os_error())),
            0 => {
                pid_word.fill();
                let word = stage::word(self.become_program(&ends, &argv, &envp));
                let _ = rustix::io::write(&child_status, &word);
                // SAFETY: ends the child at once, without running the parent's destructors in it.
                unsafe { libc::_exit(NOT_EXECUTED) }
            }
            pid => Ok(Child { pid: pid.unsigned_abs(), log, notify, status }),
        }
    }

    /// PID 1's ends of the pipes, what becomes the child's descriptors, and its end of the status pipe.
    fn pipes(&self) -> io::Result<((OwnedFd, OwnedFd, OwnedFd), Ends, OwnedFd)> {
        let null = rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
        let (log, child_log) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?;
        let (notify, child_notify) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?;
        let (status, child_status) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?;
        for fd in [&log, &notify, &status] {
            rustix::io::ioctl_fionbio(fd, true)?;
        }
        if let Some(sandbox) = &self.sandbox {
            // The unit opens its end anew by name, which only the pipe's owner may.
            let user = Some(rustix::fs::Uid::from_raw(sandbox.user()));
            rustix::fs::fchown(&child_notify, user, None)?;
            rustix::fs::fchown(&child_log, user, None)?;
        }
        let ends = Ends { null, log: child_log, notify: child_notify };
        Ok(((log, notify, status), ends, child_status))
    }

    /// In the child: everything before exec.
    fn prepare(&self, ends: &Ends) -> Result<(), Failed> {
        at(Stage::Signals, reset_signals())?;
        at(Stage::Session, rustix::process::setsid())?;
        if let Some(group) = &self.cgroup {
            at(Stage::Cgroup, limit(group).and_then(|()| join(&group.folder)))?;
        }
        at(Stage::Descriptors, ends.install(&self.sockets))?;
        at(Stage::Limits, self.limits.set())?;
        match &self.sandbox {
            Some(sandbox) => sandbox.put_on(),
            None => at(Stage::Privileges, rustix::thread::set_no_new_privs(true)),
        }
    }

    /// In the child: returns only when a step failed.
    fn become_program(
        &self,
        ends: &Ends,
        argv: &[*const libc::c_char],
        envp: &[*const libc::c_char],
    ) -> Failed {
        if let Err(failed) = self.prepare(ends) {
            return failed;
        }
        let program = argv.first().copied().unwrap_or(std::ptr::null());
        // SAFETY: `argv` and `envp` point to NUL-terminated strings owned by `self`, and to the word of
        // `start`, which outlives this call, and end with a null pointer (`pointers`); `program` is the
        // first of them.
        unsafe { libc::execve(program, argv.as_ptr(), envp.as_ptr()) };
        (Stage::Exec, last_errno())
    }
}

/// What becomes the descriptors of the child, beside its sockets.
struct Ends {
    null: OwnedFd,
    log: OwnedFd,
    notify: OwnedFd,
}

impl Ends {
    fn install(&self, sockets: &Passed) -> rustix::io::Result<()> {
        // PID 1 has 0 to 2 open, but a source may lie above and must not be overwritten before its turn.
        let notify_fd = sockets.notify_fd();
        let notify = rustix::io::fcntl_dupfd_cloexec(&self.notify, notify_fd.saturating_add(1))?;
        let log = rustix::io::fcntl_dupfd_cloexec(&self.log, notify_fd.saturating_add(1))?;
        let null = rustix::io::fcntl_dupfd_cloexec(&self.null, notify_fd.saturating_add(1))?;
        duplicate(&null, 0)?;
        duplicate(&log, 1)?;
        duplicate(&log, 2)?;
        sockets.install()?;
        duplicate(&notify, notify_fd)
    }
}

/// Moves the child into its group. Not `CLONE_INTO_CGROUP`: Linux 6.12.107 kills at once every process
/// that is cloned into a group whose `cgroup.kill` was ever written, which each end of a unit does.
fn join(group: &OwnedFd) -> rustix::io::Result<()> {
    let flags = OFlags::WRONLY | OFlags::CLOEXEC;
    let file = rustix::fs::openat(group, c"cgroup.procs", flags, Mode::empty())?;
    rustix::io::write(&file, b"0").map(drop)
}

/// Gives the group its limits.
fn limit(group: &Group) -> rustix::io::Result<()> {
    let flags = OFlags::WRONLY | OFlags::CLOEXEC;
    for setting in &group.settings {
        let file = rustix::fs::openat(&group.folder, &*setting.file, flags, Mode::empty());
        match file.and_then(|file| rustix::io::write(&file, setting.value.as_bytes())) {
            // A disk that was pulled out a moment ago.
            Err(rustix::io::Errno::NODEV) => {}
            Err(err) if setting.needed => return Err(err),
            _ => {}
        }
    }
    Ok(())
}

/// An error that says which step it comes from.
fn named(step: &str, err: &impl std::fmt::Display) -> io::Error {
    io::Error::other(format!("{step}: {err}"))
}

fn pointers(words: &[CString]) -> Vec<*const libc::c_char> {
    words.iter().map(|word| word.as_ptr()).chain([std::ptr::null()]).collect()
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
    fn a_unit_whose_limits_nobody_would_keep_is_not_started() {
        let text =
            "description = 'd'\nkind = 'service'\nexec = ['/bin/true']\n[limits]\npids_max = 9\n";
        let unit = goblin_init_core::unit::parse("x", text).unwrap();
        let err = Program::of_unit(&unit).unwrap_err().to_string();
        assert!(err.starts_with("cgroup: there are no control groups"), "{err}");
        assert!(err.contains("`limits.pids_max`"), "{err}");
    }

    #[test]
    fn a_missing_program_is_named_by_its_step() {
        let (started, _, code) = run(&["/no/such/program"]);
        assert_eq!(code, NOT_EXECUTED);
        let Started::Failed(why) = started else { panic!("{started:?}") };
        assert!(why.contains("exec: No such file"), "{why}");
    }
}
