//! PID 1's own words in the kernel's log, so that they reach the serial console and survive a panic; and
//! the kernel's warnings on their way into the log ring.
//!
//! Source: `Documentation/ABI/testing/dev-kmsg` of the kernel.

use goblin_core_types::LogLevel;
use rustix::fs::{Mode, OFlags};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// Facility `daemon` and severity `err`: the console shows what is below `loglevel=4`.
const PRIORITY: u32 = (3 << 3) | 3;
/// Lines that may be written at once.
const BURST_MAX: u64 = 60;
/// One more line for every this many milliseconds.
const REFILL_MS: u64 = 100;
/// Longest line in bytes.
const LINE_BYTES_MAX: usize = 240;
/// Room for one record of the kernel's log, in bytes; longer ones cannot be read and are skipped.
const RECORD_BYTES_MAX: usize = 4096;

/// The kernel's log, open for writing, with a limit on how much is written.
#[derive(Debug, Default)]
pub struct Kmsg {
    device: Option<OwnedFd>,
    /// Lines that may still be written.
    left: u64,
    refilled_ms: u64,
    dropped: u64,
}

impl Kmsg {
    /// Opens the log; without one, words go nowhere.
    pub fn open() -> Self {
        let flags = OFlags::WRONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let device = rustix::fs::open("/dev/kmsg", flags, Mode::empty()).ok();
        Self { device, left: BURST_MAX, ..Self::default() }
    }

    /// Writes one line, unless too many were written lately.
    pub fn say(&mut self, now_ms: u64, text: &str) {
        let refill = now_ms.saturating_sub(self.refilled_ms).checked_div(REFILL_MS).unwrap_or(0);
        if refill > 0 {
            self.left = self.left.saturating_add(refill).min(BURST_MAX);
            self.refilled_ms = now_ms;
        }
        if self.left == 0 {
            self.dropped = self.dropped.saturating_add(1);
            return;
        }
        self.left = self.left.saturating_sub(1);
        if self.dropped > 0 {
            self.write(&format!("goblin-init: {} lines left out here", self.dropped));
            self.dropped = 0;
        }
        self.write(text);
    }

    fn write(&self, text: &str) {
        let Some(device) = &self.device else { return };
        let text = text.get(..text.floor_char_boundary(LINE_BYTES_MAX)).unwrap_or_default();
        let line = format!("<{PRIORITY}>{}\n", text.replace(char::is_control, " "));
        // The kernel's log takes a line whole or not at all, and nobody could be told.
        let _ = rustix::io::write(device, line.as_bytes());
    }
}

/// The kernel's log, open for reading.
#[derive(Debug)]
pub struct KernelLog {
    device: OwnedFd,
}

/// What came of one reading.
#[derive(Debug, PartialEq, Eq)]
pub enum KernelRecord {
    /// A line worth keeping.
    Line(LogLevel, String),
    /// A record that is not: too harmless, not of the kernel, or not understood.
    Skipped,
    /// Nothing more for now.
    Empty,
}

impl KernelLog {
    /// Opens the log at its oldest record.
    pub fn open() -> Option<Self> {
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        rustix::fs::open("/dev/kmsg", flags, Mode::empty()).ok().map(|device| Self { device })
    }

    /// The next record.
    pub fn read_next(&self) -> KernelRecord {
        let mut room = [0u8; RECORD_BYTES_MAX];
        match rustix::io::read(&self.device, &mut room) {
            Ok(count) => parse(&String::from_utf8_lossy(room.get(..count).unwrap_or_default())),
            // EPIPE: records were overwritten before they were read; the next read goes on after them.
            Err(rustix::io::Errno::PIPE | rustix::io::Errno::INVAL | rustix::io::Errno::INTR) => {
                KernelRecord::Skipped
            }
            Err(_) => KernelRecord::Empty,
        }
    }
}

impl AsFd for KernelLog {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.device.as_fd()
    }
}

/// `PRIORITY,SEQUENCE,MICROSECONDS,FLAGS[,..];TEXT\n[ KEY=VALUE\n..]`
fn parse(record: &str) -> KernelRecord {
    let Some((head, text)) = record.split_once(';') else { return KernelRecord::Skipped };
    let priority = head.split(',').next().and_then(|priority| priority.parse::<u32>().ok());
    let level = match priority {
        Some(0..=3) => LogLevel::Error,
        Some(4) => LogLevel::Warn,
        // Harmless, or of another facility: that is what `Kmsg` itself wrote.
        _ => return KernelRecord::Skipped,
    };
    KernelRecord::Line(level, text.lines().next().unwrap_or_default().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_kernels_warnings_are_kept() {
        let line = |level, text: &str| KernelRecord::Line(level, text.into());
        assert_eq!(parse("4,9,100,-;slow\n KEY=x\n"), line(LogLevel::Warn, "slow"));
        assert_eq!(parse("2,9,100,-;bad;x\n"), line(LogLevel::Error, "bad;x"));
        assert_eq!(parse("6,9,100,-;fine\n"), KernelRecord::Skipped);
        assert_eq!(parse(&format!("{PRIORITY},9,100,-;own\n")), KernelRecord::Skipped);
        assert_eq!(parse("nonsense"), KernelRecord::Skipped);
    }

    #[test]
    fn a_flood_is_cut_and_counted() {
        let mut kmsg = Kmsg { left: BURST_MAX, ..Kmsg::default() };
        for _ in 0..BURST_MAX + 7 {
            kmsg.say(0, "x");
        }
        assert_eq!((kmsg.left, kmsg.dropped), (0, 7));
        kmsg.say(1000, "x");
        assert_eq!((kmsg.left, kmsg.dropped), (9, 0));
    }
}
