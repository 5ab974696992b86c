//! How many lines a unit may write: a bucket of lines that fills up by the clock.

use serde::{Deserialize, Serialize};

/// Highest rate or burst of a unit, in lines.
const LINES_MAX: u32 = 1_000_000;

/// A unit's limit: the key `log_rate` of its file, `{ per_s = 50, burst = 1000 }`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogRate {
    /// Lines per second in the long run; at least 1.
    pub per_s: u32,
    /// Lines that may come at once; at least `per_s`.
    pub burst: u32,
}

impl Default for LogRate {
    /// Room for the words of a start, and for a unit that has something to say all the time; a flood is
    /// cut to a few kilobytes per second.
    fn default() -> Self {
        Self { per_s: 50, burst: 1000 }
    }
}

impl LogRate {
    /// What is wrong with it, if anything, and the remedy.
    pub fn problem(&self) -> Option<(&'static str, &'static str)> {
        if self.per_s == 0 || self.burst < self.per_s || self.burst > LINES_MAX {
            return Some((
                "is no limit that a unit can keep",
                "write { per_s = 1 or more, burst = per_s to 1000000 }",
            ));
        }
        None
    }
}

/// One unit's bucket, and the lines that did not fit.
///
/// Lines that are dropped are counted, and the count is due as a line of its own
/// [`REPORT_MS`](Bucket::REPORT_MS) after the first of them, or with the next line that fits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bucket {
    rate: LogRate,
    /// Room in the bucket, in thousandths of a line.
    left_milli: u64,
    filled_ms: u64,
    dropped: u64,
    /// When the first line was dropped that was not reported yet.
    since_ms: u64,
    dropped_ever: u64,
}

impl Bucket {
    /// Longest time that dropped lines go unsaid, in milliseconds.
    pub const REPORT_MS: u64 = 1_000;

    /// A full bucket.
    pub const fn new(rate: LogRate, now_ms: u64) -> Self {
        let left_milli = milli(rate.burst);
        Self { rate, left_milli, filled_ms: now_ms, dropped: 0, since_ms: 0, dropped_ever: 0 }
    }

    /// Another limit for the same unit; what it used up stays used up.
    pub fn set_rate(&mut self, rate: LogRate) {
        self.rate = rate;
        self.left_milli = self.left_milli.min(milli(rate.burst));
    }

    /// A line comes: true when it fits, else it is counted.
    pub fn take(&mut self, now_ms: u64) -> bool {
        // A thousandth of a line for every line per second and millisecond. A clock that goes back fills
        // nothing.
        let passed_ms = now_ms.saturating_sub(self.filled_ms);
        self.filled_ms = self.filled_ms.max(now_ms);
        let filled = u64::from(self.rate.per_s).saturating_mul(passed_ms);
        self.left_milli = self.left_milli.saturating_add(filled).min(milli(self.rate.burst));
        match self.left_milli.checked_sub(1000) {
            Some(left) => {
                self.left_milli = left;
                true
            }
            None => {
                if self.dropped == 0 {
                    self.since_ms = now_ms;
                }
                self.count(1);
                false
            }
        }
    }

    /// Lines were lost before they came here.
    pub fn count(&mut self, lines: u64) {
        self.dropped = self.dropped.saturating_add(lines);
        self.dropped_ever = self.dropped_ever.saturating_add(lines);
    }

    /// When dropped lines must be reported; `None` while there are none.
    pub fn report_due_ms(&self) -> Option<u64> {
        (self.dropped > 0).then(|| self.since_ms.saturating_add(Self::REPORT_MS))
    }

    /// Lines dropped since the last report, which this is.
    pub fn report(&mut self) -> u64 {
        std::mem::take(&mut self.dropped)
    }

    /// Lines dropped since the start.
    pub const fn dropped_ever(&self) -> u64 {
        self.dropped_ever
    }
}

const fn milli(lines: u32) -> u64 {
    (lines as u64).saturating_mul(1000)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_burst_fits_and_the_rest_is_counted() {
        let mut bucket = Bucket::new(LogRate { per_s: 10, burst: 20 }, 0);
        let taken = (0..50).filter(|_| bucket.take(5)).count();
        assert_eq!((taken, bucket.report_due_ms()), (20, Some(1005)));
        assert_eq!((bucket.report(), bucket.report(), bucket.dropped_ever()), (30, 0, 30));
        assert_eq!(bucket.report_due_ms(), None);
        assert!(!bucket.take(50));
        assert!(bucket.take(105));
    }

    #[test]
    fn limits_nobody_can_keep_are_refused() {
        for (per_s, burst, good) in
            [(0, 1, false), (2, 1, false), (1, 1, true), (1, LINES_MAX + 1, false)]
        {
            assert_eq!(LogRate { per_s, burst }.problem().is_none(), good, "{per_s} {burst}");
        }
        assert_eq!(LogRate::default().problem(), None);
    }

    #[test]
    fn a_unit_file_may_say_it() {
        let text = |rate| {
            format!("description = \"d\"\nkind = \"service\"\nexec = [\"/x\"]\nlog_rate = {rate}\n")
        };
        let parse = |rate| crate::unit::parse("u", &text(rate));
        let unit = parse("{ per_s = 5, burst = 9 }").unwrap();
        assert_eq!(unit.log_rate, LogRate { per_s: 5, burst: 9 });
        assert!(parse("{ per_s = 0, burst = 9 }").unwrap_err().to_string().contains("`log_rate`"));
        assert!(parse("{ per_s = 5, burst = 9, x = 1 }").is_err());
    }

    proptest! {
        #[test]
        fn never_more_than_burst_and_rate(
            per_s in 1u32..100, extra in 0u32..100, steps in prop::collection::vec(0u64..400, 1..300),
        ) {
            let rate = LogRate { per_s, burst: per_s + extra };
            let mut bucket = Bucket::new(rate, 0);
            let (mut now_ms, mut taken, mut asked) = (0, 0u64, 0u64);
            for step in steps {
                now_ms += step;
                asked += 1;
                taken += u64::from(bucket.take(now_ms));
                prop_assert!(taken <= u64::from(rate.burst) + u64::from(per_s) * now_ms / 1000);
                prop_assert_eq!(bucket.dropped_ever(), asked - taken);
            }
        }
    }
}
