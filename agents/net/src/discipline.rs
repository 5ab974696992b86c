//! What to do about a measured offset of the clock: pure.

use std::time::Duration;

/// A larger offset is stepped, a smaller one slewed: half a second, what the kernel slews in a quarter of
/// an hour.
const STEP_MS: i64 = 500;
/// The clock agrees with the server.
const SYNCED_MS: i64 = 1_000;
/// Two measurements that call for a step after the first must agree this well.
const AGREE_MS: i64 = 500;
/// Pauses between measurements.
const PAUSE_SYNCED: Duration = Duration::from_secs(1_024);
const PAUSE_SETTLING: Duration = Duration::from_secs(64);
const PAUSE_CONFIRM: Duration = Duration::from_secs(4);
const PAUSE_FAILED_MIN: Duration = Duration::from_secs(2);
const PAUSE_FAILED_MAX: Duration = Duration::from_secs(256);

/// One measurement: how late this clock is, negative when it is early.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Measured {
    pub(crate) offset_ms: i64,
    /// Seconds since 1970 by this clock when it was measured.
    pub(crate) now_s: u64,
}

/// What to do to the clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    /// Set it at once.
    Step { offset_ms: i64 },
    /// Let it drift there.
    Slew { offset_ms: i64 },
    /// Measure again before anything is done.
    Confirm,
    /// The server's time is before the release was built: it cannot be right.
    Refuse,
}

/// State of the discipline.
#[derive(Debug, Default)]
pub(crate) struct Discipline {
    synced_once: bool,
    unconfirmed_ms: Option<i64>,
    failures: u32,
}

impl Discipline {
    /// Takes a measurement. `floor_s` is the release's own date.
    pub(crate) fn measured(&mut self, measured: Measured, floor_s: u64) -> (Action, Duration) {
        let Measured { offset_ms, now_s } = measured;
        let server_ms = i64::try_from(now_s)
            .unwrap_or(i64::MAX)
            .saturating_mul(1_000)
            .saturating_add(offset_ms);
        if server_ms < i64::try_from(floor_s).unwrap_or(i64::MAX).saturating_mul(1_000) {
            return (Action::Refuse, self.failed());
        }
        self.failures = 0;
        if offset_ms.saturating_abs() <= STEP_MS {
            self.synced_once = true;
            self.unconfirmed_ms = None;
            let pause = if offset_ms.saturating_abs() < 20 { PAUSE_SYNCED } else { PAUSE_SETTLING };
            return (Action::Slew { offset_ms }, pause);
        }
        // The first word of the network is taken: the battery clock may be years off. Later a jump
        // needs a second witness, because running programs rely on the clock.
        let confirmed = self
            .unconfirmed_ms
            .is_some_and(|earlier| earlier.saturating_sub(offset_ms).saturating_abs() <= AGREE_MS);
        if self.synced_once && !confirmed {
            self.unconfirmed_ms = Some(offset_ms);
            return (Action::Confirm, PAUSE_CONFIRM);
        }
        self.synced_once = true;
        self.unconfirmed_ms = None;
        (Action::Step { offset_ms }, PAUSE_SETTLING)
    }

    /// No server answered. Returns the pause before the next try, longer each time.
    pub(crate) fn failed(&mut self) -> Duration {
        let pause =
            PAUSE_FAILED_MIN.saturating_mul(1u32.checked_shl(self.failures.min(8)).unwrap_or(1));
        self.failures = self.failures.saturating_add(1);
        pause.min(PAUSE_FAILED_MAX)
    }

    /// True when the clock can be called right after this action.
    pub(crate) fn is_synced(action: Action) -> bool {
        match action {
            Action::Step { .. } => true,
            Action::Slew { offset_ms } => offset_ms.saturating_abs() < SYNCED_MS,
            Action::Confirm | Action::Refuse => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_800_000_000;

    fn measured(offset_ms: i64) -> Measured {
        Measured { offset_ms, now_s: NOW }
    }

    #[test]
    fn the_first_answer_is_taken_and_later_jumps_need_a_witness() {
        let mut discipline = Discipline::default();
        let hour = 3_600_000;
        assert_eq!(discipline.measured(measured(hour), 0).0, Action::Step { offset_ms: hour });
        assert_eq!(discipline.measured(measured(30), 0).0, Action::Slew { offset_ms: 30 });
        assert_eq!(discipline.measured(measured(hour), 0).0, Action::Confirm);
        assert_eq!(discipline.measured(measured(-hour), 0).0, Action::Confirm);
        assert_eq!(
            discipline.measured(measured(100 - hour), 0).0,
            Action::Step { offset_ms: 100 - hour }
        );
    }

    #[test]
    fn time_before_the_release_is_refused() {
        let mut discipline = Discipline::default();
        assert_eq!(discipline.measured(measured(-2_000), NOW).0, Action::Refuse);
        assert_eq!(discipline.measured(measured(0), NOW).0, Action::Slew { offset_ms: 0 });
        assert_eq!(discipline.measured(measured(i64::MIN), NOW).0, Action::Refuse);
    }

    #[test]
    fn pauses_grow_and_are_bounded() {
        let mut discipline = Discipline::default();
        let pauses: Vec<u64> = (0..12).map(|_| discipline.failed().as_secs()).collect();
        assert_eq!(pauses[..4], [2, 4, 8, 16]);
        assert_eq!(pauses[11], 256);
        discipline.measured(measured(0), 0);
        assert_eq!(discipline.failed(), Duration::from_secs(2));
    }
}
