//! The end of PID 1's loop: the units have stopped; what is left is killed, disks are synced, the board
//! reboots or goes off.
//!
//! PID 1 may wait here, each time with a limit. The watchdog is fed once at the beginning and left armed:
//! it ends what these limits do not.

use crate::cgroup;
use crate::finish::{ALL_UNMOUNTED, STAYS};
use crate::record::Job;
use crate::runtime::{Runtime, now_ms};
use goblin_core_types::LogLevel;
use goblin_init_core::shutdown::How;
use goblin_sys::reboot;
use rustix::process::Signal;
use std::time::Duration;

/// Time for a write to the boot record that is under way, in milliseconds.
const RECORD_MS: u64 = 10_000;
/// Time for strangers to end by themselves, in milliseconds.
const TERMINATE_MS: u64 = 1_000;
/// Time for the killed to be gone, in milliseconds.
const KILL_MS: u64 = 2_000;
/// Time for unmounting and syncing, in milliseconds.
const UNMOUNT_MS: u64 = 20_000;
/// Pause between two looks.
const POLL: Duration = Duration::from_millis(5);

/// Ends the board.
pub fn end(mut runtime: Runtime, how: How) -> ! {
    feed(&runtime);
    // Only now is it true, and soon nothing is left that could write it.
    runtime.queue_job(Job::Ended);
    wait(&mut runtime, RECORD_MS, |runtime| !runtime.record_is_busy());
    runtime.signal_all(Signal::TERM);
    wait(&mut runtime, TERMINATE_MS, |_| no_children());
    // By the group first: a process that forks faster than it is found cannot get away from that.
    cgroup::kill_all();
    runtime.signal_all(Signal::KILL);
    wait(&mut runtime, KILL_MS, |_| no_children());
    feed(&runtime);
    match runtime.helper(&["finish".to_owned()]) {
        Ok(_) => wait(&mut runtime, UNMOUNT_MS, |_| no_children()),
        Err(err) => runtime.say(LogLevel::Error, &format!("unmount: {err}")),
    }
    runtime.drain_logs();
    let late: Vec<String> = runtime
        .ring
        .newest(4, Some("init"))
        .filter(|line| line.text.contains(STAYS) || line.text == ALL_UNMOUNTED)
        .map(|line| line.text.clone())
        .collect();
    for line in late {
        runtime.kmsg.say_always(&format!("goblin-init: {line}"));
    }
    let (word, err): (_, fn() -> std::io::Error) = match how {
        How::Reboot => ("reboots now", reboot::reboot),
        How::PowerOff => ("goes off now", reboot::power_off),
    };
    runtime.kmsg.say_always(&format!("goblin-init: {word}"));
    let err = err();
    // The kernel refused; the other way is better than a board that stands still.
    runtime.kmsg.say_always(&format!("goblin-init: the kernel refused: {err}"));
    let _ = reboot::reboot();
    loop {
        std::thread::sleep(Duration::from_secs(1));
    }
}

fn feed(runtime: &Runtime) {
    if let Some(watchdog) = &runtime.watchdog {
        let _ = watchdog.keepalive();
    }
}

fn wait(runtime: &mut Runtime, limit_ms: u64, done: impl Fn(&Runtime) -> bool) {
    let until_ms = now_ms().saturating_add(limit_ms);
    loop {
        runtime.reap();
        if done(runtime) || now_ms() >= until_ms {
            return;
        }
        std::thread::sleep(POLL);
    }
}

/// True when PID 1 has no child any more, dead or alive.
fn no_children() -> bool {
    let flags = rustix::process::WaitIdOptions::EXITED
        | rustix::process::WaitIdOptions::NOHANG
        | rustix::process::WaitIdOptions::NOWAIT;
    matches!(
        rustix::process::waitid(rustix::process::WaitId::All, flags),
        Err(rustix::io::Errno::CHILD)
    )
}
