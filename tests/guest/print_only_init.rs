//! The smallest PID 1: prints one line and sleeps; the floor that boot benchmarks compare with. With
//! `--once` it prints and ends: the last unit of a peer's boot.

use std::io::Write;

fn main() {
    if let Ok(mut log) = std::fs::OpenOptions::new().write(true).open("/dev/kmsg") {
        // The line is what the benchmark waits for: without it the benchmark reports a time-out.
        let _ = log.write_all(b"<4>print-only: ready\n");
    }
    while std::env::args().nth(1).as_deref() != Some("--once") {
        std::thread::park();
    }
}
