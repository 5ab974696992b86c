//! One unit's state.

use super::Exit;
use crate::limits::OwnLimits;
use crate::log_rate::LogRate;
use crate::settings::Settings;
use crate::unit::{Kind, Unit};
use goblin_core_types::UnitPhase;

/// After running ready for this long, in milliseconds, a unit's next failure counts as its first, and is
/// followed by no pause: it cannot happen more often than this.
pub(super) const STEADY_MS: u64 = 60_000;
/// From that failure to the next start, in milliseconds: one turn in which the failure is told.
pub(super) const STEADY_PAUSE_MS: u64 = 1;

/// What follows on the end of a unit that is being stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum AfterStop {
    /// Nothing, unless it is wanted again by then.
    Off,
    /// The next start at once: a person wants it.
    Again,
    /// A pause, then the next start when what it requires is ready again.
    Wait,
    /// What follows on a failure.
    Failure,
}

/// What a person wants of a unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Will {
    /// Nothing: its file decides.
    None,
    Up,
    Down,
}

/// One unit and where it stands.
#[derive(Debug)]
pub(super) struct Slot {
    pub(super) unit: Unit,
    pub(super) phase: UnitPhase,
    /// Desired: it shall run.
    pub(super) wanted: bool,
    pub(super) will: Will,
    pub(super) pid: Option<u32>,
    /// Being forked, or has a process that was not reaped yet.
    pub(super) alive: bool,
    pub(super) restarts: u32,
    /// Failures with no steady run between them.
    pub(super) failures: u32,
    pub(super) pause_ms: u64,
    /// Not started before this.
    pub(super) not_before_ms: u64,
    pub(super) first_start_ms: Option<u64>,
    pub(super) start_ms: u64,
    pub(super) ready_ms: Option<u64>,
    pub(super) ready_since_ms: u64,
    /// Its first start came to an end, good or bad.
    pub(super) settled: bool,
    /// It shall go down, and waits for those that require it to be down first.
    pub(super) leaving: bool,
    /// A person wants a new start.
    pub(super) again: bool,
    pub(super) killed: bool,
    /// Its process, or the one that takes its mount away, is one that a stop waits for.
    pub(super) unmounting: bool,
    /// Since when it gives no sign of life.
    pub(super) hung_ms: Option<u64>,
    pub(super) after_stop: AfterStop,
    /// A device that the kernel reported.
    pub(super) present: bool,
    /// Units that depend on it and are starting, ready or stopping.
    pub(super) users: u32,
    /// Those of them that require it.
    pub(super) requirers: u32,
    /// It stands in the queue of units to be looked at.
    pub(super) queued: bool,
    pub(super) detail: String,
    pub(super) said: String,
    pub(super) last_end: Option<Exit>,
    /// It can never be started.
    pub(super) broken: bool,
    /// What a person set of it.
    pub(super) tuned: Option<Box<Tuned>>,
    /// Why what a person set of it is ignored.
    pub(super) note: String,
}

/// What a person set of a unit, and what was shipped in its place.
#[derive(Debug)]
pub(super) struct Tuned {
    pub(super) limits: OwnLimits,
    pub(super) log_rate: LogRate,
    pub(super) settings: Settings,
}

impl Slot {
    pub(super) fn new(unit: Unit, error: Option<String>) -> Self {
        Self {
            pause_ms: unit.backoff_ms.0,
            phase: UnitPhase::Off,
            wanted: false,
            will: Will::None,
            pid: None,
            alive: false,
            restarts: 0,
            failures: 0,
            not_before_ms: 0,
            first_start_ms: None,
            start_ms: 0,
            ready_ms: None,
            ready_since_ms: 0,
            settled: false,
            leaving: false,
            again: false,
            killed: false,
            unmounting: false,
            hung_ms: None,
            after_stop: AfterStop::Off,
            present: false,
            users: 0,
            requirers: 0,
            queued: false,
            broken: error.is_some(),
            detail: error.unwrap_or_default(),
            said: String::new(),
            last_end: None,
            tuned: None,
            note: String::new(),
            unit,
        }
    }

    /// True when it has been ready for so long that its failure is no sign of another one.
    pub(super) fn ran_steadily(&self, now_ms: u64) -> bool {
        let since_ms = now_ms.saturating_sub(self.ready_since_ms);
        self.phase == UnitPhase::Ready && since_ms >= STEADY_MS
    }

    /// Forgets that it failed.
    pub(super) fn fresh(&mut self) {
        self.pause_ms = self.unit.backoff_ms.0;
        self.failures = 0;
        self.not_before_ms = 0;
    }

    /// True when units that require it may run. A task with a schedule that was done once stays done while
    /// it is done again.
    pub(super) fn serves(&self) -> bool {
        let done_before = self.unit.every_ms.is_some() && self.ready_ms.is_some() && self.wanted;
        (self.phase == UnitPhase::Ready || done_before) && !self.leaving
    }

    /// True for a kind of which something is there without a process of it.
    pub(super) fn is_mounted(&self) -> bool {
        self.unit.kind == Kind::Mount && self.phase == UnitPhase::Ready
    }
}

/// True while a unit has something that a stop must take away first.
pub(super) const fn is_active(phase: UnitPhase) -> bool {
    matches!(phase, UnitPhase::Starting | UnitPhase::Ready | UnitPhase::Stopping)
}
