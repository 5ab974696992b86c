//! PID 1's own words in the kernel's log, so that they reach the serial console and survive a panic; and
//! the kernel's own on their way into the log ring.
//!
//! Source: `Documentation/ABI/testing/dev-kmsg` of the kernel.

use goblin_core_types::LogLevel;
use rustix::fs::{Mode, OFlags};
use std::borrow::Cow;
use std::mem::MaybeUninit;
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
        self.say_always(text);
    }

    /// Writes one line, however many there were: for words that come once, and last.
    pub fn say_always(&mut self, text: &str) {
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
    /// Number of the next record, if none is lost.
    next_number: u64,
    missed: u64,
}

/// What came of one reading.
#[derive(Debug, PartialEq, Eq)]
pub enum KernelRecord {
    /// A line of the kernel.
    Line {
        /// Milliseconds since the kernel started, by its own stamp.
        at_ms: u64,
        /// Severity: what the kernel calls a notice is information here, what it calls information a
        /// detail.
        level: LogLevel,
        /// The text.
        text: String,
    },
    /// A record that is not of the kernel, or not understood.
    Skipped,
    /// Nothing more for now.
    Empty,
}

impl KernelLog {
    /// Opens the log at its oldest record.
    pub fn open() -> Option<Self> {
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let device = rustix::fs::open("/dev/kmsg", flags, Mode::empty()).ok()?;
        Some(Self { device, next_number: 0, missed: 0 })
    }

    /// Records that were overwritten before they were read, since the last time this was asked.
    pub fn take_missed(&mut self) -> u64 {
        std::mem::take(&mut self.missed)
    }

    /// The next record.
    pub fn read_next(&mut self) -> KernelRecord {
        // Hundreds of records at the start: clearing the room for each would cost more than reading it.
        let mut room = [MaybeUninit::uninit(); RECORD_BYTES_MAX];
        match rustix::io::read(&self.device, &mut room) {
            Ok((record, _)) => {
                // What is text already, which is nearly all, need not be looked at by character.
                let text = std::str::from_utf8(record)
                    .map_or_else(|_| String::from_utf8_lossy(record), Cow::Borrowed);
                let (number, record) = parse(&text);
                self.passed(number);
                record
            }
            // EPIPE: records were overwritten before they were read; the next read goes on after them.
            Err(rustix::io::Errno::PIPE | rustix::io::Errno::INVAL | rustix::io::Errno::INTR) => {
                KernelRecord::Skipped
            }
            Err(_) => KernelRecord::Empty,
        }
    }

    fn passed(&mut self, number: Option<u64>) {
        let Some(number) = number else { return };
        let skipped = number.saturating_sub(self.next_number);
        self.missed = self.missed.saturating_add(skipped);
        self.next_number = number.saturating_add(1);
    }
}

impl AsFd for KernelLog {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.device.as_fd()
    }
}

/// `PRIORITY,SEQUENCE,MICROSECONDS,FLAGS[,..];TEXT\n[ KEY=VALUE\n..]`: the number, and what it says.
fn parse(record: &str) -> (Option<u64>, KernelRecord) {
    let Some((head, text)) = record.split_once(';') else { return (None, KernelRecord::Skipped) };
    let mut numbers = head.split(',').map(|number| number.parse::<u64>().ok());
    let mut number = || numbers.next().flatten();
    let (priority, sequence, micros) = (number(), number(), number());
    let level = match priority {
        Some(0..=3) => LogLevel::Error,
        Some(4) => LogLevel::Warn,
        Some(5) => LogLevel::Info,
        Some(6 | 7) => LogLevel::Debug,
        // Of another facility: that is what `Kmsg` itself wrote.
        _ => return (sequence, KernelRecord::Skipped),
    };
    let at_ms = micros.unwrap_or(0).checked_div(1000).unwrap_or(0);
    let text = text.lines().next().unwrap_or_default().to_owned();
    (sequence, KernelRecord::Line { at_ms, level, text })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_own_words_are_kept_with_its_stamp() {
        let line = |level, text: &str| KernelRecord::Line { at_ms: 7, level, text: text.into() };
        let said = |record: &str| parse(record).1;
        assert_eq!(said("4,9,7100,-;slow\n KEY=x\n"), line(LogLevel::Warn, "slow"));
        assert_eq!(said("2,9,7100,-;bad;x\n"), line(LogLevel::Error, "bad;x"));
        assert_eq!(said("6,9,7100,-;fine\n"), line(LogLevel::Debug, "fine"));
        assert_eq!(parse("6,9,7100,-;fine\n").0, Some(9));
        assert_eq!(parse(&format!("{PRIORITY},9,100,-;own\n")), (Some(9), KernelRecord::Skipped));
        assert_eq!(parse("nonsense"), (None, KernelRecord::Skipped));
    }

    #[test]
    fn records_that_were_overwritten_are_counted() {
        let device = rustix::fs::open("/dev/null", OFlags::RDONLY, Mode::empty()).unwrap();
        let mut log = KernelLog { device, next_number: 0, missed: 0 };
        for number in [Some(0), Some(1), None, Some(5), Some(6)] {
            log.passed(number);
        }
        assert_eq!((log.take_missed(), log.take_missed()), (3, 0));
    }

    #[test]
    fn a_flood_is_cut_and_counted() {
        let mut kmsg = Kmsg { left: BURST_MAX, ..Kmsg::default() };
        for _ in 0..BURST_MAX + 7 {
            kmsg.say(0, "x");
        }
        assert_eq!((kmsg.left, kmsg.dropped), (0, 7));
        kmsg.say_always("the last word");
        assert_eq!((kmsg.left, kmsg.dropped), (0, 0));
        kmsg.say(1000, "x");
        assert_eq!((kmsg.left, kmsg.dropped), (9, 0));
    }
}
