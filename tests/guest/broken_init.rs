//! The PID 1 of a release that fails on purpose: it says so and ends, and the kernel panics.

use std::io::Write;

fn main() -> std::process::ExitCode {
    if let Ok(mut log) = std::fs::OpenOptions::new().write(true).open("/dev/kmsg") {
        // Nobody reads a failure to write here; the exit below is the point.
        let _ = log.write_all(b"<2>broken-init: this release ends PID 1 on purpose\n");
    }
    std::process::ExitCode::from(3)
}
