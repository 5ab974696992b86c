//! What shall run: the files' word, the role's, and people's.

use super::slot::{Slot, Will};
use super::{Action, Order, RoleState, Supervisor, UnitIndex};
use crate::graph::Need;
use crate::unit::RoleWord;
use goblin_core_types::{Role, UnitPhase};

impl Supervisor {
    /// True when a unit is for the board's role, or that is not known yet.
    pub(super) fn role_fits(&self, slot: &Slot) -> bool {
        let RoleState::Known(role) = self.role else { return true };
        slot.unit.roles.is_empty()
            || slot.unit.roles.iter().any(|word| match word {
                RoleWord::Role(wanted) => Some(*wanted) == role,
                RoleWord::Unprovisioned => role.is_none(),
            })
    }

    fn may_run(&self, index: UnitIndex) -> bool {
        self.slots.get(index).is_some_and(|slot| {
            !slot.broken
                && slot.will != Will::Down
                && slot.enabled() != Some(false)
                && (!slot.unit.trial_only || self.boot.trial)
                && self.role_fits(slot)
        })
    }

    /// Finds out anew which units shall run: those that are started by themselves or by a person, and all
    /// that these need. Once for each change of the role or of a will, in the time of one walk over all
    /// dependencies.
    pub(super) fn settle_wanted(&mut self) {
        let mut wanted = std::mem::take(&mut self.wanted_scratch);
        let mut open = std::mem::take(&mut self.open_scratch);
        wanted.clear();
        wanted.resize(self.slots.len(), false);
        open.clear();
        if self.begun && self.shutdown.is_none() {
            for index in 0..self.slots.len() {
                let by_itself = self.slots.get(index).is_some_and(|slot| {
                    slot.unit.autostart || slot.enabled() == Some(true) || slot.will == Will::Up
                });
                if by_itself && self.may_run(index) {
                    mark(&mut wanted, &mut open, index);
                }
            }
        }
        while let Some(index) = open.pop() {
            for (need, to) in self.graph.needs(index) {
                if need.pulls() && self.may_run(*to) {
                    mark(&mut wanted, &mut open, *to);
                }
            }
        }
        for index in 0..self.slots.len() {
            let now = wanted.get(index).copied().unwrap_or(false);
            if let Some(slot) = self.slots.get_mut(index)
                && slot.wanted != now
            {
                slot.wanted = now;
                self.touch(index);
            }
        }
        self.wanted_scratch = wanted;
        self.open_scratch = open;
    }

    /// The role became known or changed: units that are not for it end, those that are begin.
    pub(super) fn set_role(&mut self, role: Option<Role>) {
        self.role = RoleState::Known(role);
        self.settle_wanted();
        for index in 0..self.slots.len() {
            if self.slots.get(index).is_some_and(|slot| !slot.unit.roles.is_empty()) {
                self.touch(index);
            }
        }
    }

    /// Why a person's order is refused, with the remedy; `None` when it is followed.
    pub fn refusal(&self, index: usize, order: Order) -> Option<String> {
        let Some(slot) = self.slots.get(index) else {
            let (name, why) = self.refused.get(index.checked_sub(self.slots.len())?)?;
            return Some(format!("{name} is no unit that can run: {why}"));
        };
        let name = &slot.unit.name;
        if self.shutdown.is_some() {
            return Some("the board is shutting down".into());
        }
        if order == Order::Stop {
            return slot.unit.refuse_stop.then(|| {
                format!("{name} is what this board is asked through; restart it instead")
            });
        }
        if slot.broken {
            return Some(format!("{name} can never be started: {}", slot.detail));
        }
        if slot.enabled() == Some(false) {
            return Some(format!(
                "{name} is switched off by its settings; `goblin units unset {name} enabled` lets it run"
            ));
        }
        if slot.unit.trial_only && !self.boot.trial {
            return Some(format!("{name} only runs while a release is on trial"));
        }
        (!self.role_fits(slot)).then(|| format!("{name} is not for this board's role"))
    }

    pub(super) fn order(&mut self, index: UnitIndex, order: Order, out: &mut Vec<Action>) {
        if self.refusal(index, order).is_some() {
            return;
        }
        match order {
            Order::Stop => {
                if let Some(slot) = self.slots.get_mut(index) {
                    slot.will = Will::Down;
                    slot.again = false;
                }
            }
            Order::Start => self.raise(index, out),
            Order::Restart => {
                self.raise(index, out);
                if let Some(slot) = self.slots.get_mut(index)
                    && matches!(slot.phase, UnitPhase::Starting | UnitPhase::Ready)
                {
                    slot.again = true;
                }
            }
        }
        self.settle_wanted();
        self.touch(index);
    }

    /// A unit shall run: what it needs is not held down any more, and what failed of it is tried anew.
    fn raise(&mut self, index: UnitIndex, out: &mut Vec<Action>) {
        if let Some(slot) = self.slots.get_mut(index) {
            slot.will = Will::Up;
        }
        let mut seen = vec![false; self.slots.len()];
        let mut open = Vec::new();
        mark(&mut seen, &mut open, index);
        while let Some(index) = open.pop() {
            let Some(slot) = self.slots.get_mut(index) else { continue };
            if slot.will == Will::Down {
                slot.will = Will::None;
            }
            if slot.phase == UnitPhase::Stopping {
                slot.after_stop = super::slot::AfterStop::Again;
            }
            if matches!(slot.phase, UnitPhase::Failed | UnitPhase::BackOff) && !slot.broken {
                slot.restarts = slot.restarts.saturating_add(1);
                slot.detail.clear();
                self.timers.clear_all(index);
                self.set_phase(index, UnitPhase::Waiting);
                out.push(Action::Changed(index));
            }
            if let Some(slot) = self.slots.get_mut(index) {
                slot.fresh();
            }
            self.touch(index);
            for (need, to) in self.graph.needs(index) {
                if matches!(need, Need::Requires | Need::Milestone) {
                    mark(&mut seen, &mut open, *to);
                }
            }
        }
    }
}

fn mark(seen: &mut [bool], open: &mut Vec<UnitIndex>, index: UnitIndex) {
    if let Some(seen @ false) = seen.get_mut(index) {
        *seen = true;
        open.push(index);
    }
}
