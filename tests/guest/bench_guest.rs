//! The one program of guests in which init systems are measured, in three roles:
//!
//! - **start** (as process 1): mounts what an initramfs hands on, marks the start, becomes the init that
//!   `/usr/lib/bench/init` names, with the environment that is written before its name. With `floor` there it starts the services itself and supervises nothing:
//!   what the kernel and the services cost by themselves.
//! - **serve NAME**: a service. Says that it is ready in whatever way it is asked to (pipe, socket or
//!   descriptor), then adds a byte to `/run/ready`; who sees the last byte marks the end of the start.
//! - The service that did so is then the **driver**: tells what every process holds, and kills one service
//!   again and again.
//!
//! Figures are printed as `bench: WORD ..` in the kernel's log: nanoseconds of the clock, which counts
//! instructions, and of it those in which the machine had nothing to do.

use goblin_sys::notify::{self, NOTIFY_ENV};
use rustix::mount::{MountFlags, mount};
use std::io::{self, Write};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::time::Duration;

/// Services of every measured guest.
const SERVICES: [&str; 12] = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l"];
/// One of these is killed: nobody waits for them, and some inits would start who does again too.
const VICTIMS: [&str; 2] = ["e", "f"];
/// Has a byte for each time a service became ready.
const READY: &str = "/run/ready";
/// When the driver killed a service, for the one that takes its place.
const KILLED: &str = "/run/killed";
/// How long that took.
const BACK: &str = "/run/back";
/// The init to become, in words.
const INIT: &str = "/usr/lib/bench/init";
/// In its place: supervise nothing.
const FLOOR: &str = "floor";
/// This program.
const SELF: &str = "/usr/lib/bench/guest";
/// Times a service is killed.
const ROUNDS: u32 = 8;
/// From one kill to the next: the longest pause of any init measured is a second.
const ROUND: Duration = Duration::from_secs(3);

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let done = match (std::process::id(), words.as_slice()) {
        (1, _) => start(),
        // The second: as the interpreter that a run script names.
        (_, ["serve", name] | [name, "./run", ..]) => serve(name),
        // A stage of an init's start that has nothing to do here.
        (_, []) => Ok(()),
        _ => Err(io::Error::other("started by the kernel, or with `serve NAME`")),
    };
    if let Err(err) = done {
        say(&format!("failed {err}"));
        say("end");
    }
}

/// The kernel's file systems, as an initramfs hands them on.
const MOUNTS: [(&str, &str); 4] =
    [("devtmpfs", "/dev"), ("proc", "/proc"), ("sysfs", "/sys"), ("tmpfs", "/run")];

fn start() -> io::Result<()> {
    for (kind, target) in MOUNTS {
        mount(kind, target, kind, MountFlags::empty(), None)?;
    }
    let text = std::fs::read_to_string(INIT)?;
    let mut words = text.split_whitespace().peekable();
    let mut variables = Vec::new();
    while let Some(pair) = words.next_if(|word| word.contains('=')) {
        variables.extend(pair.split_once('='));
    }
    let program = words.next().unwrap_or_default();
    let mut init = Command::new(program);
    init.args(words).envs(variables);
    let idle_ns = idle_ns()?;
    say(&format!("start {} {idle_ns}", now_ns()));
    if program == FLOOR { floor() } else { Err(init.exec()) }
}

fn floor() -> io::Result<()> {
    for name in SERVICES {
        Command::new(SELF).args(["serve", name]).spawn()?;
    }
    loop {
        if rustix::process::wait(rustix::process::WaitOptions::empty()).is_err() {
            std::thread::park();
        }
    }
}

fn serve(name: &str) -> io::Result<()> {
    if std::env::var_os(NOTIFY_ENV).is_some() {
        notify::ready();
    } else if let Some(path) = std::env::var_os("NOTIFY_SOCKET") {
        let path = path.to_string_lossy().into_owned();
        let address = match path.strip_prefix('@') {
            Some(name) => SocketAddr::from_abstract_name(name)?,
            None => SocketAddr::from_pathname(&path)?,
        };
        UnixDatagram::unbound()?.send_to_addr(b"READY=1", &address)?;
    } else if let Some(number) = std::env::var_os("READY_FD") {
        let mut path = std::ffi::OsString::from("/proc/self/fd/");
        path.push(number);
        std::fs::OpenOptions::new().write(true).open(path)?.write_all(b"\n")?;
    }
    let mut ready = std::fs::OpenOptions::new().append(true).create(true).open(READY)?;
    ready.write_all(name.as_bytes())?;
    match usize::try_from(ready.metadata()?.size()) {
        Ok(count) if count == SERVICES.len() => {
            let now_ns = now_ns();
            say(&format!("ready {now_ns} {}", idle_ns()?));
            drive(name)?;
        }
        Ok(count) if count > SERVICES.len() => {
            let now_ns = now_ns();
            let killed_ns = std::fs::read_to_string(KILLED)?.parse().unwrap_or(now_ns);
            std::fs::write(BACK, now_ns.saturating_sub(killed_ns).to_string())?;
        }
        _ => {}
    }
    loop {
        std::thread::park();
    }
}

/// Kills a service [`ROUNDS`] times, and tells how long the machine was busy from kill to kill; first the
/// same without a kill.
fn drive(own: &str) -> io::Result<()> {
    std::thread::sleep(ROUND);
    tell_memory()?;
    if std::fs::read_to_string(INIT)?.trim() == FLOOR {
        // Nobody would start it again.
        say("end");
        return Ok(());
    }
    let victim = VICTIMS.into_iter().find(|name| *name != own).unwrap_or_default();
    std::thread::sleep(ROUND);
    let mut told = Vec::new();
    for round in 0..=2 * ROUNDS {
        let (began_ns, began_idle_ns) = (now_ns(), idle_ns()?);
        let kill = round % 2 == 1;
        if kill {
            let pid = find(victim)?;
            std::fs::write(KILLED, now_ns().to_string())?;
            rustix::process::kill_process(pid, rustix::process::Signal::KILL)?;
        } else {
            // The same looks, so that only the kill is the difference.
            find(victim)?;
            std::fs::write(KILLED, now_ns().to_string())?;
        }
        std::thread::sleep(ROUND);
        let idle_ns = idle_ns()?.saturating_sub(began_idle_ns);
        let busy_ns = now_ns().saturating_sub(began_ns).saturating_sub(idle_ns);
        told.push(format!("{} {busy_ns}", if kill { "killed" } else { "quiet" }));
        if kill {
            told.push(format!("back {}", std::fs::read_to_string(BACK)?));
            std::fs::remove_file(BACK)?;
        }
    }
    // Not before: a line on a screen costs more than a restart.
    told.iter().for_each(|line| say(line));
    say("end");
    Ok(())
}

/// The process that serves under a name.
fn find(name: &str) -> io::Result<rustix::process::Pid> {
    for pid in processes()? {
        let words = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let words: Vec<&[u8]> = words.split(|byte| *byte == 0).collect();
        if let [_, b"serve", found, ..] | [_, found, b"./run", ..] = words.as_slice()
            && *found == name.as_bytes()
        {
            return rustix::process::Pid::from_raw(pid).ok_or(io::ErrorKind::NotFound.into());
        }
    }
    Err(io::Error::other(format!("no process serves as {name}")))
}

fn processes() -> io::Result<Vec<i32>> {
    let entries = std::fs::read_dir("/proc")?.flatten();
    Ok(entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect())
}

/// `rss PID NAME KIB PRIVATE_KIB` of every process that has memory (proc(5), status).
fn tell_memory() -> io::Result<()> {
    for pid in processes()? {
        let Ok(status) = std::fs::read_to_string(format!("/proc/{pid}/status")) else { continue };
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            line.and_then(|line| line.split_whitespace().next()).unwrap_or("?").to_owned()
        };
        let rss = field("VmRSS:");
        if rss != "?" {
            say(&format!("rss {pid} {} {rss} {}", field("Name:"), field("RssAnon:")));
        }
    }
    Ok(())
}

fn now_ns() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    let part = |value: i64| u64::try_from(value).unwrap_or(0);
    part(now.tv_sec) * 1_000_000_000 + part(now.tv_nsec)
}

/// Nanoseconds in which the one processor slept, from the kernel's list of timers.
fn idle_ns() -> io::Result<u64> {
    let text = std::fs::read_to_string("/proc/timer_list")?;
    let value = text.lines().find_map(|line| line.trim().strip_prefix(".idle_sleeptime"));
    value
        .and_then(|value| value.split_whitespace().nth(1)?.parse().ok())
        .ok_or_else(|| io::Error::other("the kernel does not tell its idle time"))
}

fn say(text: &str) {
    if let Ok(mut log) = std::fs::OpenOptions::new().write(true).open("/dev/kmsg") {
        // An error, though it is none: consoles are kept for those. Without the line the benchmark reports
        // a time-out.
        let _ = log.write_all(format!("<3>bench: {text}\n").as_bytes());
    }
}
