//! Tries to get out of the sandbox it was started in, and says on one line what it could do.
//!
//! Started in the place of each shipped unit's program, under that unit's own sandbox. Each attempt is a
//! word `NAME=ok` or `NAME=ERRNO`; what is tried does no harm where it succeeds. It ends with status 1, for
//! PID 1 shows the last lines of a unit that failed on the console. `tests/e2e/escape.rs` starts it so and
//! compares its words with what each unit's `[sandbox]` gives.
#![allow(unsafe_code, reason = "system calls for which nobody should want a wrapper")]

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

/// Where the test's first unit wrote the number of a process of nobody's.
const VICTIM: &str = "/run/goblin/victim";

/// preinit, as the kernel would start it.
const PREINIT: &str = "/init";
/// What it keeps open from the moment on in which the board is guarded.
const WATCHDOG: &str = goblin_sys::watchdog::DEVICE;
/// Mounts that preinit may make before: `/dev`, in which the watchdog lies.
const MOUNTS_BEFORE: u32 = 1;

fn main() -> ExitCode {
    if std::process::id() == 1 {
        return hold_preinit();
    }
    goblin_sys::sandbox::report_refusals();
    let words: Vec<String> = std::env::args().skip(1).collect();
    if words.first().is_some_and(|word| word == "victim") {
        let _ = std::fs::write(VICTIM, std::process::id().to_string());
        goblin_sys::notify::ready();
        loop {
            std::thread::park();
        }
    }
    if words.first().is_some_and(|word| word == "hold") {
        return hold();
    }
    let unit = std::env::var("GOBLIN_UNIT").unwrap_or_default();
    let mut line = format!("escape {unit}:");
    for (name, result) in attempts(&unit) {
        let word = match result {
            Ok(()) => "ok".to_owned(),
            Err(err) => err.raw_os_error().map_or_else(|| "failed".into(), |code| code.to_string()),
        };
        line.push_str(&format!(" {name}={word}"));
    }
    eprintln!("{line}");
    ExitCode::FAILURE
}

/// Stops PID 1 as a debugger does, until the hardware watchdog resets the board; says so when it did.
fn hold() -> ExitCode {
    if goblin_sys::watchdog::has_reset() {
        say("the watchdog had reset the board");
    } else {
        // SAFETY: integers only; the one that is stopped is not this process.
        let seized = call(unsafe { libc::ptrace(libc::PTRACE_SEIZE, 1, 0, 0) });
        // SAFETY: as above.
        let held =
            seized.and_then(|()| call(unsafe { libc::ptrace(libc::PTRACE_INTERRUPT, 1, 0, 0) }));
        match held {
            Ok(()) => say("PID 1 is held"),
            Err(err) => say(&format!("PID 1 cannot be held: {err}")),
        }
    }
    loop {
        std::thread::park();
    }
}

/// A line for the host, over the console.
fn say(text: &str) {
    let _ = std::fs::write("/dev/kmsg", format!("<3>hold: {text}\n"));
}

/// As process 1, in the place of preinit: becomes preinit, which a child of it holds as a debugger does when it has
/// armed the watchdog and goes on to mount file systems. Nothing of preinit itself knows of that.
fn hold_preinit() -> ExitCode {
    for (kind, target) in [("devtmpfs", "/dev"), ("proc", "/proc"), ("sysfs", "/sys")] {
        let flags = rustix::mount::MountFlags::empty();
        // What is not there is missed below.
        let _ = rustix::mount::mount(kind, target, kind, flags, None::<&std::ffi::CStr>);
    }
    if goblin_sys::watchdog::has_reset() {
        say("the watchdog had reset the board");
        loop {
            std::thread::park();
        }
    }
    let Ok((attached, child_attached)) = rustix::pipe::pipe() else { return ExitCode::FAILURE };
    // SAFETY: this program has one thread, so no lock can be held by another one.
    match unsafe { libc::fork() } {
        0 => {
            drop(attached);
            let held = step_to_the_first_mount_behind_the_watchdog(child_attached);
            match held {
                Ok(exe) => say(&format!("{exe} is held, and has the watchdog open")),
                Err(err) => say(&format!("FAILED: preinit is not held: {err}")),
            }
            loop {
                std::thread::park();
            }
        }
        _ => {
            drop(child_attached);
            let mut room = [0; 1];
            // Its end, when the child is ready.
            let _ = rustix::io::read(&attached, &mut room);
            drop(attached);
            let err =
                std::os::unix::process::CommandExt::exec(&mut std::process::Command::new(PREINIT));
            say(&format!("FAILED: {PREINIT}: {err}"));
            ExitCode::FAILURE
        }
    }
}

/// Lets process 1 run from system call to system call, and leaves it where it mounts something with the watchdog
/// open. Returns what program it is.
fn step_to_the_first_mount_behind_the_watchdog(
    attached: std::os::fd::OwnedFd,
) -> io::Result<String> {
    let options = libc::PTRACE_O_TRACEEXEC | libc::PTRACE_O_TRACESYSGOOD;
    // SAFETY: integers only; the one that is traced is not this process.
    call(unsafe { libc::ptrace(libc::PTRACE_SEIZE, 1, 0, options) })?;
    drop(attached);
    let (mut executed, mut mounts, mut entering) = (false, 0, false);
    loop {
        let mut status = 0;
        // SAFETY: `status` is an integer that the call writes to.
        call(unsafe { libc::waitpid(1, &raw mut status, libc::__WALL) }.into())?;
        if !libc::WIFSTOPPED(status) {
            return Err(io::Error::other("it has ended"));
        }
        if status >> 16 == libc::PTRACE_EVENT_EXEC {
            if std::mem::replace(&mut executed, true) {
                return Err(io::Error::other("it has handed over"));
            }
            // The end of the very call of exec comes next.
            entering = false;
        } else if executed && libc::WSTOPSIG(status) == libc::SIGTRAP | 0x80 {
            if entering && called()? == libc::SYS_mount {
                let open = std::fs::read_dir("/proc/1/fd")?.flatten().any(|entry| {
                    std::fs::read_link(entry.path()).is_ok_and(|to| to == Path::new(WATCHDOG))
                });
                if open {
                    return Ok(std::fs::read_link("/proc/1/exe")?.display().to_string());
                }
                mounts += 1;
                if mounts > MOUNTS_BEFORE {
                    return Err(io::Error::other("it goes on without a watchdog"));
                }
            }
            entering = !entering;
        }
        // SAFETY: integers only; signals of others are not passed on, for preinit waits for none.
        call(unsafe { libc::ptrace(libc::PTRACE_SYSCALL, 1, 0, 0) })?;
    }
}

/// The system call at whose beginning process 1 stands.
fn called() -> io::Result<libc::c_long> {
    let register = std::mem::offset_of!(libc::user_regs_struct, orig_rax);
    // SAFETY: integers only: the place of a register in `struct user`, which begins with them.
    let number = unsafe { libc::ptrace(libc::PTRACE_PEEKUSER, 1, register, 0) };
    if number < 0 { Err(io::Error::last_os_error()) } else { Ok(number) }
}

fn attempts(unit: &str) -> Vec<(&'static str, io::Result<()>)> {
    let victim = std::fs::read_to_string(VICTIM).ok().and_then(|text| text.parse().ok());
    let victim: i32 = victim.unwrap_or(1);
    vec![
        ("own", write(&format!("/run/goblin/state/{unit}/probe"))),
        ("base", write("/usr/lib/goblin/probe")),
        ("etc", write("/etc/probe")),
        ("state", write("/state/probe")),
        ("store", write("/state/update/probe")),
        ("role", write("/run/goblin/role")),
        ("other", write("/run/goblin/state/victim/probe")),
        ("sysctl", setting("kernel/panic")),
        ("cores", setting("kernel/core_pattern")),
        ("sleep", write("/sys/power/state")),
        ("keys", std::fs::read("/state/config/provision.toml").map(drop)),
        ("order", order()),
        ("memory", std::fs::File::open("/dev/mem").map(drop)),
        ("peek", std::fs::File::open(format!("/proc/{victim}/mem")).map(drop)),
        ("environ", std::fs::read("/proc/1/environ").map(drop)),
        ("kmsg", OpenOptions::new().write(true).open("/dev/kmsg").map(drop)),
        ("raw", socket(libc::AF_INET, libc::SOCK_RAW, libc::IPPROTO_ICMP)),
        ("packet", socket(libc::AF_PACKET, libc::SOCK_RAW, 0)),
        // SAFETY: integers only; nothing happens to a process that may not be attached to, and one that
        // may is let go when this program ends.
        ("ptrace", call(unsafe { libc::ptrace(libc::PTRACE_SEIZE, victim, 0, 0) })),
        // SAFETY: integers only; signal 0 asks whether one could be sent.
        ("kill1", call(unsafe { libc::kill(1, 0) }.into())),
        // SAFETY: as above.
        ("kill", call(unsafe { libc::kill(victim, 0) }.into())),
        ("mount", rustix_result(mount())),
        // Before the attempt that may end in a user namespace of its own, where nothing is given any more.
        ("devtmpfs", rustix_result(all_devices())),
        // SAFETY: a null pointer and no length: with the right the kernel answers EFAULT or ENOEXEC.
        ("module", call(unsafe { libc::syscall(libc::SYS_init_module, 0, 0, c"".as_ptr()) })),
        ("clock", clock()),
        // SAFETY: the name is a string of the length given.
        ("hostname", call(unsafe { libc::sethostname(c"probe".as_ptr(), 5) }.into())),
        // After the order: who gets out of its group is no unit any more.
        ("cgroup", leave_group()),
        // SAFETY: integers only; a new user namespace changes nothing outside of this process.
        ("userns", call(unsafe { libc::unshare(libc::CLONE_NEWUSER) }.into())),
        // SAFETY: wrong magic numbers: with the right the kernel answers EINVAL.
        ("reboot", call(unsafe { libc::syscall(libc::SYS_reboot, 0, 0, 0, 0) })),
        ("device", device()),
        // SAFETY: the path ends with NUL; this program looks at no path afterwards that it has not named.
        ("chroot", call(unsafe { libc::chroot(c"/usr".as_ptr()) }.into())),
        // SAFETY: integers only; asks for the number of this process' own ring of keys (keyctl(2), 0 and -2).
        ("keyring", call(unsafe { libc::syscall(libc::SYS_keyctl, 0, -2, 0, 0, 0) })),
        // SAFETY: a null pointer and no length: with the right the kernel answers EINVAL or EFAULT.
        ("bpf", call(unsafe { libc::syscall(libc::SYS_bpf, 0, 0, 0) })),
        // SAFETY: as above.
        ("perf", call(unsafe { libc::syscall(libc::SYS_perf_event_open, 0, 0, -1, -1, 0) })),
        // SAFETY: no segments: with the right the kernel forgets a loaded kernel, of which there is none.
        ("kexec", call(unsafe { libc::syscall(libc::SYS_kexec_load, 0, 0, 0, 0) })),
        // SAFETY: integers only; this program uses no port it may then reach.
        ("ports", call(unsafe { libc::syscall(libc::SYS_iopl, 3) })),
        // SAFETY: no such descriptor: with the right the kernel answers EBADF.
        ("setns", call(unsafe { libc::setns(-1, 0) }.into())),
        // SAFETY: no pieces to be read, so nothing is written.
        ("read", call(unsafe { libc::syscall(libc::SYS_process_vm_readv, victim, 0, 0, 0, 0, 0) })),
    ]
}

fn write(path: &str) -> io::Result<()> {
    OpenOptions::new().append(true).create(true).open(path)?.write_all(b"")
}

/// Sets one of the kernel's settings to what it is: where `/proc` is, or else where a new one can be mounted.
fn setting(name: &str) -> io::Result<()> {
    let set = |root: &str| {
        let path = format!("{root}/sys/{name}");
        let value = std::fs::read(&path)?;
        OpenOptions::new().write(true).open(&path)?.write_all(&value)
    };
    set("/proc").or_else(|err| {
        let flags = rustix::mount::MountFlags::empty();
        let none = None::<&std::ffi::CStr>;
        rustix::mount::mount(c"proc", c"/tmp", c"proc", flags, none).map_err(|_| err)?;
        let done = set("/tmp");
        rustix_result(rustix::mount::unmount(c"/tmp", rustix::mount::UnmountFlags::empty()))?;
        done
    })
}

fn leave_group() -> io::Result<()> {
    OpenOptions::new().write(true).open("/sys/fs/cgroup/cgroup.procs")?.write_all(b"0")
}

/// Tells PID 1 to start a unit that there is not: who may give orders is told so, others are refused before.
fn order() -> io::Result<()> {
    use std::io::Read;
    let mut socket =
        std::os::unix::net::UnixStream::connect(goblin_core_types::paths::INIT_SOCKET)?;
    socket.write_all(b"{\"op\":\"start\",\"unit\":\"nobody\"}\n")?;
    let mut text = String::new();
    socket.read_to_string(&mut text)?;
    if text.contains("no unit") { Ok(()) } else { Err(io::ErrorKind::PermissionDenied.into()) }
}

fn socket(family: i32, kind: i32, protocol: i32) -> io::Result<()> {
    // SAFETY: integers only.
    let fd = unsafe { libc::socket(family, kind, protocol) };
    call(fd.into())?;
    // SAFETY: the descriptor was opened above and is used nowhere else.
    call(unsafe { libc::close(fd) }.into())
}

fn mount() -> rustix::io::Result<()> {
    let flags = rustix::mount::MountFlags::empty();
    rustix::mount::mount(c"tmpfs", c"/tmp", c"tmpfs", flags, None::<&std::ffi::CStr>)?;
    rustix::mount::unmount(c"/tmp", rustix::mount::UnmountFlags::empty())
}

/// Mounts every device there is, and opens one that no unit is given.
fn all_devices() -> rustix::io::Result<()> {
    let flags = rustix::mount::MountFlags::empty();
    let none = None::<&std::ffi::CStr>;
    rustix::mount::mount(c"devtmpfs", c"/tmp", c"devtmpfs", flags, none)?;
    let opened =
        rustix::fs::open(c"/tmp/kmsg", rustix::fs::OFlags::WRONLY, rustix::fs::Mode::empty());
    let closed = opened.map(drop);
    rustix::mount::unmount(c"/tmp", rustix::mount::UnmountFlags::empty())?;
    closed
}

/// Makes a node of the kernel's memory.
fn device() -> io::Result<()> {
    // SAFETY: the path ends with NUL and is only read.
    call(unsafe { libc::mknod(c"/tmp/probe".as_ptr(), libc::S_IFCHR, 0x101) }.into())
}

/// Sets the clock to what it shows.
fn clock() -> io::Result<()> {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Realtime);
    let now = libc::timespec { tv_sec: now.tv_sec, tv_nsec: now.tv_nsec };
    // SAFETY: `now` is a whole `timespec` and is only read.
    call(unsafe { libc::clock_settime(libc::CLOCK_REALTIME, &raw const now) }.into())
}

fn rustix_result(result: rustix::io::Result<()>) -> io::Result<()> {
    result.map_err(io::Error::from)
}

fn call(result: libc::c_long) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
