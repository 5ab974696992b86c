//! The supervisor's clocks: three for each unit, in one flat table.

use super::{Supervisor, UnitIndex};

/// No time: never due.
const NEVER: u64 = u64::MAX;

/// A clock of a unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Clock {
    /// End of the start, of a pause, of the patience with a stop, or of the time between two runs.
    Phase,
    /// End of the patience with a silent unit.
    Watchdog,
    /// When it is asked whether it is ready.
    Probe,
}

const CLOCKS: [Clock; 3] = [Clock::Phase, Clock::Watchdog, Clock::Probe];

/// When which unit's clock is due. Looking is a scan of 24 bytes for each unit, and none at all while
/// nothing can be due; setting a clock is a store, so that a unit's sign of life costs next to nothing.
#[derive(Debug)]
pub(super) struct Timers {
    due_ms: Vec<[u64; 3]>,
    /// Nothing is due before this; it may be too early, never too late.
    earliest_ms: u64,
}

impl Timers {
    pub(super) fn new(count: usize) -> Self {
        Self { due_ms: vec![[NEVER; 3]; count], earliest_ms: NEVER }
    }

    pub(super) fn set(&mut self, index: UnitIndex, clock: Clock, at_ms: u64) {
        if let Some(due) = self.due_ms.get_mut(index).and_then(|row| row.get_mut(clock as usize)) {
            *due = at_ms;
            self.earliest_ms = self.earliest_ms.min(at_ms);
        }
    }

    pub(super) fn clear_all(&mut self, index: UnitIndex) {
        if let Some(row) = self.due_ms.get_mut(index) {
            *row = [NEVER; 3];
        }
    }

    pub(super) fn is_set(&self, index: UnitIndex, clock: Clock) -> bool {
        self.due_ms.get(index).and_then(|row| row.get(clock as usize)) != Some(&NEVER)
    }

    /// The next time anything is due.
    pub(super) fn next_ms(&self) -> Option<u64> {
        self.due_ms.iter().flatten().copied().min().filter(|at_ms| *at_ms != NEVER)
    }

    fn take_due(&mut self, index: UnitIndex, clock: Clock, now_ms: u64) -> bool {
        let due = self.due_ms.get_mut(index).and_then(|row| row.get_mut(clock as usize));
        match due {
            Some(due) if *due <= now_ms => {
                *due = NEVER;
                true
            }
            _ => false,
        }
    }
}

impl Supervisor {
    pub(super) fn check_clocks(&mut self, now_ms: u64, out: &mut Vec<super::Action>) {
        if now_ms < self.timers.earliest_ms {
            return;
        }
        for index in 0..self.slots.len() {
            for clock in CLOCKS {
                if self.timers.take_due(index, clock, now_ms) {
                    self.due(now_ms, index, clock, out);
                }
            }
        }
        self.timers.earliest_ms = self.timers.next_ms().unwrap_or(NEVER);
    }
}
