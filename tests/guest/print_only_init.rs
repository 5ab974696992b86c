//! The smallest PID 1: prints one line and sleeps; the floor that boot benchmarks compare with. It is also
//! the helper of measured guests:
//!
//! - `--once` prints the line, then how long the machine had nothing to do and the services that run
//!   beside it, and ends: the last unit of a boot.
//! - `--copy FROM TO` copies a file, where there is no shell to do it.

use rustix::mount::{MountFlags, mount};
use std::io::Write;
use std::path::Path;

/// Where systemd keeps one directory for each service that has processes.
const SERVICES: &str = "/sys/fs/cgroup/system.slice";

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    if let ["--copy", from, to] = words.as_slice() {
        if let Err(err) = std::fs::copy(from, to) {
            say(&format!("{from} to {to}: {err}"));
            std::process::exit(1);
        }
        return;
    }
    if std::process::id() == 1 {
        // The kernel mounts /dev by itself only on a real root. A failure shows as a missing line.
        let _ = mount("devtmpfs", "/dev", "devtmpfs", MountFlags::empty(), None);
    }
    // Before anything else: what follows is not measured.
    say("ready");
    if words == ["--once"] {
        // uptime and idle time in seconds (proc(5)).
        let uptime = std::fs::read_to_string("/proc/uptime").unwrap_or_default();
        say(&format!("idle {}", uptime.split_whitespace().nth(1).unwrap_or("?")));
        for name in services(Path::new(SERVICES)) {
            say(&format!("beside {name}"));
        }
        say("end");
        return;
    }
    loop {
        std::thread::park();
    }
}

fn services(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
    names.filter(|name| name.ends_with(".service")).collect()
}

fn say(text: &str) {
    if let Ok(mut log) = std::fs::OpenOptions::new().write(true).open("/dev/kmsg") {
        // An error, though it is none: our PID 1 keeps the console for those. Without the line the
        // benchmark reports a time-out.
        let _ = log.write_all(format!("<3>print-only: {text}\n").as_bytes());
    }
}
