//! Units that do to PID 1 what bad programs do, and one that judges how PID 1 takes it. Only for the guests
//! of the scenarios `init`.
//!
//! The judge goes from phase to phase: it writes the phase's name to `/run/phase`, where the evil units
//! wait for their own, lets them do it for a while, and then looks whether PID 1 is what it was: it answers,
//! it holds little memory, and a unit that did nothing wrong runs on. It tells in the kernel's log:
//! `survive: PHASE ok ..` or `survive: PHASE FAILED: why`, and `survive: end` before it ends the board.

mod bus;
mod judge;
mod kinds;
mod limits;
mod look;

use rustix::process::{Pid, Resource, Rlimit, Signal};
use std::io::Write;
use std::time::Duration;

/// Name of the phase that runs.
pub(crate) const PHASE: &str = "/run/phase";
/// Between two looks for the own phase.
const LOOK: Duration = Duration::from_millis(100);

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["judge", "evil"] => judge::run(&judge::EVILS),
        ["judge", "many"] => judge::run(&judge::MANY),
        ["judge", "escape"] => judge::tell_escapes(),
        ["judge", "kinds"] => kinds::judge(),
        ["kinds", words @ ..] => kinds::act(words),
        ["judge", "bus"] => bus::judge(),
        ["bus", "stranger"] => bus::stranger(),
        ["judge", "limits"] => limits::judge(),
        ["limits", words @ ..] => limits::act(words),
        ["lay-out"] => lay_out(),
        ["nothing"] => {}
        ["serve"] => park(),
        ["stubborn"] => stubborn(),
        ["bomb"] => during("bomb", bomb),
        ["bomb-child"] => bomb(),
        ["fill"] => during("fill", || fill(0)),
        ["fill-all"] => during("fill-all", || fill(-500)),
        ["flood"] => during("flood", flood),
        ["crash"] => during("crash", || std::process::exit(1)),
        ["files"] => during("files", files),
        other => say(&format!("no such evil: {other:?}")),
    }
}

pub(crate) fn park() -> ! {
    loop {
        std::thread::park();
    }
}

/// Waits for the phase, does the evil in a thread, and ends when the phase is over: whatever the evil left
/// is PID 1's to clear away.
fn during(phase: &str, evil: fn()) {
    let runs = || std::fs::read_to_string(PHASE).is_ok_and(|now| now == phase);
    while !runs() {
        std::thread::sleep(LOOK);
    }
    // A bomb of the phase before may have left no room for a thread yet.
    while runs() && std::thread::Builder::new().spawn(evil).is_err() {
        std::thread::sleep(LOOK);
    }
    while runs() {
        std::thread::sleep(LOOK);
    }
    std::process::exit(1)
}

/// Every process starts others until the kernel refuses, and tries again for ever.
fn bomb() {
    loop {
        let child = std::process::Command::new("/proc/self/exe").arg("bomb-child").spawn();
        if child.is_err() {
            std::thread::sleep(LOOK);
        }
    }
}

/// Takes memory until the kernel takes the process. A process that may be spared by the kernel's choice
/// (a negative adjustment) is worse for its neighbours.
pub(crate) fn fill(adjustment: i32) {
    // Without the right to do so the evil is less, and the judge sees the rest.
    let _ = std::fs::write("/proc/self/oom_score_adj", adjustment.to_string());
    let mut held: Vec<Vec<u8>> = Vec::new();
    loop {
        held.push(vec![held.len() as u8 | 1; 1 << 20]);
    }
}

/// Lines without end, and among them what a reader may stumble over.
fn flood() {
    let long = "x".repeat(100_000);
    let mut out = std::io::stdout().lock();
    for number in 0u64.. {
        let line: &[u8] = match number % 1000 {
            0 => long.as_bytes(),
            1 => b"\xff\xfe\x00\x1b[2J",
            2 => br#"{"level":"error","text":"structured","#,
            3 => br#"{"level":"error","text":"an error of many"}"#,
            _ => b"a line of a flood that nobody can read as fast as it comes",
        };
        if out.write_all(line).and_then(|()| out.write_all(b"\n")).is_err() {
            return;
        }
    }
}

/// Opens files until the kernel refuses, holds them and goes on trying.
fn files() {
    let all = Rlimit { current: Some(1 << 20), maximum: Some(1 << 20) };
    // As many as its limits allow, if they cannot be raised.
    let _ = rustix::process::setrlimit(Resource::Nofile, all);
    let mut held = Vec::new();
    loop {
        match std::fs::File::open("/dev/null") {
            Ok(file) => held.push(file),
            Err(_) => std::thread::sleep(LOOK),
        }
    }
}

/// A service that does not end when it is asked to.
fn stubborn() -> ! {
    let deaf = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let _deaf = deaf.inspect(|runtime| {
        let kind = tokio::signal::unix::SignalKind::terminate();
        // A handler that nobody asks is as good as none; it stays when the runtime is gone.
        let _ = runtime.block_on(async { tokio::signal::unix::signal(kind) });
    });
    goblin_sys::notify::ready();
    park()
}

/// The folders and files of a board in use, for the guest in which units try to get out.
fn lay_out() {
    use std::os::unix::fs::{PermissionsExt, chown};
    let made = || -> std::io::Result<()> {
        for folder in ["/state/config", "/state/update", "/state/journal", "/pool/shares"] {
            std::fs::create_dir_all(folder)?;
        }
        let keys = goblin_core_types::paths::PROVISION;
        std::fs::write(keys, "the board's keys")?;
        std::fs::set_permissions(keys, std::fs::Permissions::from_mode(0o640))?;
        chown(keys, Some(0), Some(goblin_core_types::paths::KEYS_GROUP))
    };
    if let Err(err) = made() {
        eprintln!("{err}");
        std::process::exit(1)
    }
}

/// Sends PID 1 a signal.
pub(crate) fn signal_init(signal: Signal) {
    // A signal that the kernel keeps from PID 1 is sent all the same.
    if let Some(init) = Pid::from_raw(1) {
        let _ = rustix::process::kill_process(init, signal);
    }
}

/// Sends PID 1 a signal that has no name.
pub(crate) fn signal_init_raw(number: i32) {
    // As above.
    let _ = goblin_sys::signal::send(1, number);
}

/// A line for the host: an error, so that it reaches the console.
pub(crate) fn say(text: &str) {
    if let Ok(mut log) = std::fs::OpenOptions::new().write(true).open("/dev/kmsg") {
        // Without the line the scenario fails at its deadline.
        let _ = log.write_all(format!("<3>survive: {text}\n").as_bytes());
    }
}
