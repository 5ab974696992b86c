//! The verdict over a trial: the gate, its deadline, the reason of a refusal.

use super::slot::Slot;
use super::{Action, RECORD_TIMEOUT_MS, Supervisor, UnitIndex, Verdict};
use crate::unit::GATE_DEADLINE_DEFAULT_S;
use goblin_core_types::{FailReason, UnitPhase};

/// Most lines of the gate's sentence that become checks of the record.
const CHECKS_MAX: usize = 16;

impl Supervisor {
    pub(super) fn gate(&self) -> Option<(UnitIndex, &Slot, u32)> {
        let mut slots = self.slots.iter().enumerate();
        slots.find_map(|(index, slot)| slot.unit.gate.map(|deadline_s| (index, slot, deadline_s)))
    }

    pub(super) fn gate_deadline_s(&self) -> u32 {
        self.gate().map_or(GATE_DEADLINE_DEFAULT_S, |(_, _, deadline_s)| deadline_s)
    }

    pub(super) fn gate_ms(&self) -> u64 {
        self.boot.start_ms.saturating_add(u64::from(self.gate_deadline_s()).saturating_mul(1000))
    }

    pub(super) fn unhealthy(&self, checks: Vec<String>) -> FailReason {
        FailReason::Unhealthy { checks, deadline_s: self.gate_deadline_s() }
    }

    /// A refused trial whose reason takes too long to write ends. Before units are looked at: none may start
    /// in the step that ends the board.
    pub(super) fn check_refused(&mut self, now_ms: u64, out: &mut Vec<Action>) {
        if matches!(self.verdict, Verdict::Refused { reboot_at_ms } if now_ms >= reboot_at_ms) {
            self.end_trial(now_ms, out);
        }
    }

    pub(super) fn check_verdict(&mut self, now_ms: u64, out: &mut Vec<Action>) {
        if self.shutdown.is_some() || self.verdict != Verdict::Open {
            return;
        }
        if self.gate().is_some_and(|(_, slot, _)| slot.phase == UnitPhase::Ready) {
            self.verdict = Verdict::Passed;
            out.push(Action::Healthy { trial: self.boot.trial });
        } else if self.can_be_refused() && now_ms >= self.gate_ms() {
            let reason = self.unhealthy(self.failed_checks());
            self.refuse_trial(now_ms, reason, out);
        }
    }

    /// Why the gate is not ready: what it said last, else where it stands.
    pub(super) fn failed_checks(&self) -> Vec<String> {
        let Some((index, slot, _)) = self.gate() else { return vec!["no unit is the gate".into()] };
        let said: Vec<String> = slot
            .said
            .lines()
            .map(|line| line.trim().to_owned())
            .filter(|line| !line.is_empty())
            .take(CHECKS_MAX)
            .collect();
        if !said.is_empty() {
            return said;
        }
        let detail = if slot.phase == UnitPhase::Waiting {
            self.waits_for(index)
        } else {
            slot.detail.clone()
        };
        let detail = if detail.is_empty() { "said nothing".to_owned() } else { detail };
        vec![format!("{}: {detail}", slot.unit.name)]
    }

    pub(super) fn refuse_trial(&mut self, now_ms: u64, reason: FailReason, out: &mut Vec<Action>) {
        if !self.trial_open() || !self.can_be_refused() || self.shutdown.is_some() {
            return;
        }
        self.verdict = Verdict::Refused { reboot_at_ms: now_ms.saturating_add(RECORD_TIMEOUT_MS) };
        out.push(Action::RecordFail(reason));
    }
}
