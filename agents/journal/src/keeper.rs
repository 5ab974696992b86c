//! Decides when lines go to the disk, and what is said when it does not take them. It reads no clock and
//! touches no file.
//!
//! ```text
//!            a line               due                 refused
//!   Empty ----------> Gathering ------> (flush) ---------------> Holding --(every RETRY_MS: flush)--+
//!     ^                                    | taken                  ^                               |
//!     +------------------------------------+----------- taken ------+-------------------------------+
//! ```
//! While it holds, no more lines are asked for once the room here is used up: they wait in PID 1's ring,
//! and what the ring overwrites is a gap in their numbers, which is counted.

use goblin_core_types::{LogLevel, LogLine};
use goblin_init_core::journal::{BootId, Entry, LineEntry, LostEntry, WhyLost};
use std::collections::VecDeque;

/// Promise: a line is on the disk this long after PID 1 took it, in milliseconds, as long as the disk takes
/// anything.
pub const SYNC_MS: u64 = 5_000;
/// Promise: a warning or an error is on the disk at once, but for this pause after the flush before, in
/// milliseconds, so that a stream of them does not keep the disk busy.
pub const URGENT_PAUSE_MS: u64 = 250;
/// Time for which a warning of the kernel's that was heard before is no news, in milliseconds. A disk that is gone is
/// told of with every flush, which must not call for the next one.
pub const REPEAT_MS: u64 = 60_000;
/// Warnings of the kernel's that are remembered for that.
const REPEATS_MAX: usize = 8;
/// Unit of the kernel's own lines.
const KERNEL: &str = "kernel";
/// Pause before the disk is tried again, in milliseconds.
pub const RETRY_MS: u64 = 5_000;
/// Lines are flushed when they take this much, in bytes.
const BATCH_BYTES: usize = 64 * 1024;
/// No more lines are taken when those that wait take this much, in bytes.
pub const PENDING_BYTES_MAX: usize = 256 * 1024;
/// A gap that shows within this time after the disk refused lines is the disk's, in milliseconds.
const BLAME_MS: u64 = 60_000;
/// What a record costs besides its text, in bytes.
const RECORD_COST_BYTES: usize = 96;

/// What waits for the disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kept {
    /// A line, and the wall clock in milliseconds since 1970.
    Line(LogLine, u64),
    /// Lines that are gone.
    Lost(LostEntry),
}

impl Kept {
    /// As the journal stores it.
    pub fn entry(&self, boot: BootId) -> Entry<'_> {
        match self {
            Self::Line(line, unix_ms) => Entry::Line(LineEntry {
                boot,
                seq: line.seq,
                at_ms: line.at_ms,
                unix_ms: *unix_ms,
                level: line.level,
                unit: &line.unit,
                text: &line.text,
            }),
            Self::Lost(lost) => Entry::Lost(*lost),
        }
    }
}

/// Both clocks at one moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Now {
    /// Milliseconds since the kernel started.
    pub at_ms: u64,
    /// Milliseconds since 1970, by the board's clock.
    pub unix_ms: u64,
}

impl Now {
    /// The wall clock's time of an earlier moment, as the wall clock stands now.
    fn unix_of(self, at_ms: u64) -> u64 {
        self.unix_ms.saturating_sub(self.at_ms.saturating_sub(at_ms))
    }
}

/// What a flush changed, to be said once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum News {
    /// Nothing.
    None,
    /// The disk refused lines for the first time.
    Stopped,
    /// The disk takes lines again, after so many milliseconds.
    GoesOn {
        /// How long it took none.
        after_ms: u64,
    },
}

/// The lines on their way to the disk.
#[derive(Debug)]
pub struct Keeper {
    boot: BootId,
    /// Number of the next line, if none is lost.
    next_seq: u64,
    pending: Vec<Kept>,
    pending_bytes: usize,
    /// When the oldest pending line was taken.
    oldest_ms: u64,
    urgent: bool,
    /// Warnings of the kernel's, without their numbers, and when each was urgent.
    heard: VecDeque<(String, u64)>,
    flushed_ms: Option<u64>,
    /// Since when the disk refuses lines, and when it is tried again.
    refused: Option<(u64, u64)>,
    /// Until when a gap is the disk's doing.
    blame_until_ms: u64,
}

impl Keeper {
    /// Nothing waits; the journal holds the lines of this boot up to number `last_seq`.
    pub const fn new(boot: BootId, last_seq: u64) -> Self {
        Self {
            boot,
            next_seq: last_seq.saturating_add(1),
            pending: Vec::new(),
            pending_bytes: 0,
            oldest_ms: 0,
            urgent: false,
            heard: VecDeque::new(),
            flushed_ms: None,
            refused: None,
            blame_until_ms: 0,
        }
    }

    /// Takes a line of PID 1's ring. One that was taken before is passed over; numbers that were passed
    /// are lost lines.
    pub fn take(&mut self, line: LogLine, now: Now) {
        if line.seq < self.next_seq {
            return;
        }
        let count = line.seq.saturating_sub(self.next_seq);
        if count > 0 {
            let why =
                if now.at_ms < self.blame_until_ms { WhyLost::Disk } else { WhyLost::Overrun };
            let (first_seq, boot) = (self.next_seq, self.boot);
            let Now { at_ms, unix_ms } = now;
            let lost = LostEntry { boot, first_seq, count, at_ms, unix_ms, why };
            self.put(Kept::Lost(lost), 0, now);
        }
        self.next_seq = line.seq.saturating_add(1);
        self.urgent |= line.level >= LogLevel::Warn && self.is_news(&line, now);
        let bytes = line.text.len().saturating_add(line.unit.len());
        let unix_ms = now.unix_of(line.at_ms);
        self.put(Kept::Line(line, unix_ms), bytes, now);
    }

    fn is_news(&mut self, line: &LogLine, now: Now) -> bool {
        if line.unit != KERNEL {
            return true;
        }
        self.heard.retain(|(_, at_ms)| at_ms.saturating_add(REPEAT_MS) > now.at_ms);
        let text = line.text.replace(|c: char| c.is_ascii_digit(), "");
        if self.heard.iter().any(|(heard, _)| *heard == text) {
            return false;
        }
        self.heard.push_back((text, now.at_ms));
        self.heard.drain(..self.heard.len().saturating_sub(REPEATS_MAX));
        true
    }

    fn put(&mut self, kept: Kept, bytes: usize, now: Now) {
        if self.pending.is_empty() {
            self.oldest_ms = now.at_ms;
        }
        self.pending.push(kept);
        self.pending_bytes =
            self.pending_bytes.saturating_add(bytes).saturating_add(RECORD_COST_BYTES);
    }

    /// False while there is no room for more lines here.
    pub const fn wants_lines(&self) -> bool {
        self.pending_bytes < PENDING_BYTES_MAX
    }

    /// When the pending lines go to the disk, in milliseconds since the kernel started; `None` while
    /// there are none.
    pub fn flush_due_ms(&self) -> Option<u64> {
        if self.pending.is_empty() {
            return None;
        }
        if let Some((_, again_ms)) = self.refused {
            return Some(again_ms);
        }
        let pause_ms = self.flushed_ms.map_or(0, |ms| ms.saturating_add(URGENT_PAUSE_MS));
        Some(match self.pending_bytes >= BATCH_BYTES {
            true => self.oldest_ms,
            false if self.urgent => self.oldest_ms.max(pause_ms),
            false => self.oldest_ms.saturating_add(SYNC_MS),
        })
    }

    /// What waits, oldest first.
    pub fn pending(&self) -> &[Kept] {
        &self.pending
    }

    /// The disk took everything that waited, for good.
    pub fn taken(&mut self, now: Now) -> News {
        self.pending.clear();
        self.pending_bytes = 0;
        self.urgent = false;
        self.flushed_ms = Some(now.at_ms);
        match self.refused.take() {
            Some((since_ms, _)) => {
                self.blame_until_ms = now.at_ms.saturating_add(BLAME_MS);
                News::GoesOn { after_ms: now.at_ms.saturating_sub(since_ms) }
            }
            None => News::None,
        }
    }

    /// The disk refused; everything still waits.
    pub fn refused(&mut self, now: Now) -> News {
        let again_ms = now.at_ms.saturating_add(RETRY_MS);
        self.blame_until_ms = again_ms.saturating_add(BLAME_MS);
        match &mut self.refused {
            Some((_, again)) => {
                *again = again_ms;
                News::None
            }
            None => {
                self.refused = Some((now.at_ms, again_ms));
                News::Stopped
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn line(seq: u64, level: LogLevel) -> LogLine {
        LogLine { seq, at_ms: seq, unit: "u".into(), level, text: "text".into() }
    }

    fn at(at_ms: u64) -> Now {
        Now { at_ms, unix_ms: 1_000_000 + at_ms }
    }

    #[test]
    fn a_kernel_that_repeats_itself_keeps_no_disk_busy() {
        let mut keeper = Keeper::new(BootId::default(), 0);
        let said = |seq, text: &str| LogLine {
            unit: KERNEL.into(),
            text: text.into(),
            ..line(seq, LogLevel::Error)
        };
        for (seq, text, at_ms, due_ms) in [
            (1, "bdev sda3 errs: wr 1", 1_000, 1_000),
            (2, "bdev sda3 errs: wr 22", 2_000, 2_000 + SYNC_MS),
            (3, "another", 3_000, 3_000),
            (4, "another", 4_000, 4_000 + SYNC_MS),
            (5, "bdev sda3 errs: wr 333", 1_000 + REPEAT_MS, 1_000 + REPEAT_MS),
        ] {
            keeper.take(said(seq, text), at(at_ms));
            assert_eq!(keeper.flush_due_ms(), Some(due_ms), "{text}");
            keeper.taken(at(at_ms));
        }
    }

    fn keeper() -> Keeper {
        Keeper::new(BootId([1; 16]), 0)
    }

    #[test]
    fn errors_go_at_once_and_others_within_the_time() {
        let mut keeper = keeper();
        assert_eq!(keeper.flush_due_ms(), None);
        keeper.take(line(1, LogLevel::Info), at(100));
        keeper.take(line(2, LogLevel::Info), at(200));
        assert_eq!(keeper.flush_due_ms(), Some(100 + SYNC_MS));
        keeper.take(line(3, LogLevel::Error), at(300));
        assert_eq!(keeper.flush_due_ms(), Some(100));
        assert_eq!(keeper.taken(at(301)), News::None);
        keeper.take(line(4, LogLevel::Error), at(310));
        assert_eq!(keeper.flush_due_ms(), Some(301 + URGENT_PAUSE_MS));
    }

    #[test]
    fn a_full_disk_is_said_once_and_nothing_is_forgotten() {
        let mut keeper = keeper();
        keeper.take(line(1, LogLevel::Warn), at(0));
        assert_eq!(keeper.refused(at(0)), News::Stopped);
        keeper.take(line(2, LogLevel::Error), at(10));
        assert_eq!(keeper.flush_due_ms(), Some(RETRY_MS));
        assert_eq!(keeper.refused(at(RETRY_MS)), News::None);
        let mut seq = 3;
        while keeper.wants_lines() {
            keeper.take(line(seq, LogLevel::Info), at(RETRY_MS));
            seq += 1;
        }
        assert_eq!(keeper.pending().len() as u64, seq - 1);
        let news = keeper.taken(at(3 * RETRY_MS));
        assert_eq!(news, News::GoesOn { after_ms: 3 * RETRY_MS });
        keeper.take(line(seq + 40, LogLevel::Info), at(3 * RETRY_MS + 1));
        let lost = LostEntry {
            boot: BootId([1; 16]),
            first_seq: seq,
            count: 40,
            at_ms: 3 * RETRY_MS + 1,
            unix_ms: 1_000_000 + 3 * RETRY_MS + 1,
            why: WhyLost::Disk,
        };
        assert_eq!(keeper.pending().first(), Some(&Kept::Lost(lost)));
    }

    #[test]
    fn a_restarted_agent_goes_on_where_it_was() {
        let mut keeper = Keeper::new(BootId([1; 16]), 5);
        for seq in 1..=6 {
            keeper.take(line(seq, LogLevel::Info), at(1000));
        }
        let expected = [Kept::Line(line(6, LogLevel::Info), 1_000_000 + 6)];
        assert_eq!(keeper.pending(), expected);
    }

    proptest! {
        /// Whatever comes in whatever order: every number is once a line or once lost.
        #[test]
        fn numbers_add_up(steps in prop::collection::vec((0u64..5, any::<bool>()), 1..200)) {
            let (mut keeper, mut seq, mut now_ms, mut accounted) = (keeper(), 0u64, 0, 0u64);
            for (skip, good) in steps {
                seq += skip;
                now_ms += 17;
                keeper.take(line(seq.max(1), LogLevel::Info), at(now_ms));
                if good {
                    accounted += keeper.pending().iter().map(|kept| match kept {
                        Kept::Line(..) => 1,
                        Kept::Lost(lost) => lost.count,
                    }).sum::<u64>();
                    keeper.taken(at(now_ms));
                } else {
                    keeper.refused(at(now_ms));
                }
            }
            accounted += keeper.pending().iter().map(|kept| match kept {
                Kept::Line(..) => 1,
                Kept::Lost(lost) => lost.count,
            }).sum::<u64>();
            prop_assert_eq!(accounted, seq.max(1));
        }
    }
}
