//! One unit's state and its pauses.

use super::Exit;
use crate::unit::{Restart, Unit};
use goblin_core_types::UnitPhase;

/// After running ready for this long, in milliseconds, a unit's next failure counts as its first.
pub(super) const STEADY_MS: u64 = 60_000;

/// What follows on the end of a unit that is being stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum AfterStop {
    Restart,
    Failed,
    Off,
}

/// One unit and where it stands.
#[derive(Debug)]
pub(super) struct Slot {
    pub(super) unit: Unit,
    pub(super) phase: UnitPhase,
    pub(super) pid: Option<u32>,
    /// Being forked, or has a process that was not reaped yet.
    pub(super) alive: bool,
    pub(super) restarts: u32,
    pub(super) pause_ms: u64,
    /// End of the start, of the pause, or of the patience with a stop.
    pub(super) deadline_ms: Option<u64>,
    pub(super) ready_ms: Option<u64>,
    pub(super) ready_since_ms: u64,
    /// Its first start came to an end, good or bad.
    pub(super) settled: bool,
    pub(super) killed: bool,
    pub(super) after_stop: AfterStop,
    pub(super) detail: String,
    pub(super) said: String,
    /// It can never be started.
    pub(super) broken: bool,
}

impl Slot {
    pub(super) fn new(unit: Unit, error: Option<String>) -> Self {
        Self {
            pause_ms: unit.backoff_ms.0,
            phase: UnitPhase::Off,
            pid: None,
            alive: false,
            restarts: 0,
            deadline_ms: None,
            ready_ms: None,
            ready_since_ms: 0,
            settled: false,
            killed: false,
            after_stop: AfterStop::Off,
            broken: error.is_some(),
            detail: error.unwrap_or_default(),
            said: String::new(),
            unit,
        }
    }

    pub(super) fn off(&mut self, why: &str) {
        self.phase = UnitPhase::Off;
        self.deadline_ms = None;
        self.detail = why.to_owned();
    }

    /// It ended without being told to.
    pub(super) fn failed(&mut self, now_ms: u64, was: UnitPhase, exit: Option<Exit>) {
        let clean = exit == Some(Exit::Status(0));
        if let Some(exit) = exit.filter(|_| self.detail.is_empty()) {
            self.detail = exit.to_string();
        }
        if was == UnitPhase::Ready && now_ms.saturating_sub(self.ready_since_ms) >= STEADY_MS {
            self.pause_ms = self.unit.backoff_ms.0;
        }
        match self.unit.restart {
            Restart::Always => self.pause(now_ms),
            Restart::OnFailure if !clean => self.pause(now_ms),
            Restart::OnFailure | Restart::Never => self.phase = UnitPhase::Failed,
        }
    }

    /// Waits before the next start, each time twice as long up to the limit.
    pub(super) fn pause(&mut self, now_ms: u64) {
        self.phase = UnitPhase::BackOff;
        self.deadline_ms = Some(now_ms.saturating_add(self.pause_ms));
        self.pause_ms = self.pause_ms.saturating_mul(2).min(self.unit.backoff_ms.1);
    }
}
