//! What people are told about units.

use super::slot::{Slot, Will};
use super::{RoleState, Supervisor, UnitIndex};
use crate::graph::Need;
use crate::unit::Kind;
use goblin_core_types::{UnitDetail, UnitKind, UnitPhase, UnitStatus};

/// Why a unit that is wanted is not started yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Blocker {
    Role,
    Settings,
    Need(Need, UnitIndex),
    Pause(u64),
}

impl Supervisor {
    /// What a waiting unit waits for; `None` when it can start.
    pub(super) fn blocker(&self, now_ms: u64, index: UnitIndex) -> Option<Blocker> {
        let slot = self.slots.get(index)?;
        if !slot.unit.roles.is_empty() && self.role == RoleState::Unknown {
            return Some(Blocker::Role);
        }
        if self.waits_for_settings() {
            return Some(Blocker::Settings);
        }
        for (need, to) in self.graph.needs(index) {
            let Some(other) = self.slots.get(*to) else { continue };
            let open = match need {
                Need::Requires => !other.serves(),
                Need::Milestone => other.ready_ms.is_none(),
                Need::Wants | Need::After => !other.settled && other.phase != UnitPhase::Off,
                Need::Outlives => false,
            };
            if open {
                return Some(Blocker::Need(*need, *to));
            }
        }
        (now_ms < slot.not_before_ms).then_some(Blocker::Pause(slot.not_before_ms))
    }

    /// What a waiting unit waits for, in words.
    pub(super) fn waits_for(&self, index: UnitIndex) -> String {
        match self.blocker(0, index) {
            None => String::new(),
            Some(Blocker::Role) => "waits for the role".into(),
            Some(Blocker::Settings) => "waits for the units' settings".into(),
            Some(Blocker::Pause(_)) => "waits for its time".into(),
            Some(Blocker::Need(need, to)) => {
                let Some(other) = self.slots.get(to) else { return String::new() };
                let name = &other.unit.name;
                match (need, other.phase) {
                    (Need::Requires | Need::Milestone, UnitPhase::Failed) => {
                        format!("needs {name}, which failed")
                    }
                    (Need::Requires | Need::Milestone, UnitPhase::Off) => {
                        format!("needs {name}, which is off")
                    }
                    _ => format!("waits for {name}"),
                }
            }
        }
    }

    fn why_off(&self, slot: &Slot) -> String {
        if !slot.detail.is_empty() {
            return slot.detail.clone();
        }
        let why = if self.shutdown.is_some() {
            "shutting down"
        } else if slot.will == Will::Down {
            "stopped by a person"
        } else if slot.enabled() == Some(false) {
            "switched off by its settings"
        } else if slot.unit.trial_only && !self.boot.trial {
            "only for a trial"
        } else if !self.role_fits(slot) {
            "not for this role"
        } else if !slot.unit.autostart {
            "only when it is needed"
        } else {
            ""
        };
        why.to_owned()
    }

    /// State of one unit.
    pub fn status(&self, index: UnitIndex) -> Option<UnitStatus> {
        let slot = self.slots.get(index)?;
        let detail = match slot.phase {
            UnitPhase::Waiting => self.waits_for(index),
            UnitPhase::Off => self.why_off(slot),
            UnitPhase::Starting if slot.unit.kind == Kind::Device => {
                format!("waits for {}", slot.unit.device.as_deref().unwrap_or_default())
            }
            UnitPhase::Starting | UnitPhase::Ready if slot.detail.is_empty() => slot.said.clone(),
            _ => slot.detail.clone(),
        };
        Some(UnitStatus {
            name: slot.unit.name.clone(),
            description: slot.unit.description.clone(),
            phase: slot.phase,
            pid: slot.pid,
            restarts: slot.restarts,
            detail,
            ready_ms: slot.ready_ms.map(|ms| self.since_start(ms)),
            note: slot.note.clone(),
        })
    }

    fn since_start(&self, ms: u64) -> u64 {
        ms.saturating_sub(self.boot.start_ms)
    }

    /// State of a unit, or behind the units of a file that is none: that one has failed. `None` from
    /// [`Supervisor::count`] on.
    pub fn place_status(&self, index: usize) -> Option<UnitStatus> {
        let behind = || self.refused_status(index.checked_sub(self.slots.len())?);
        self.status(index).or_else(behind)
    }

    /// State of every unit, by name; files that are no units are listed as failed.
    pub fn statuses(&self) -> Vec<UnitStatus> {
        let mut all: Vec<_> =
            (0..self.count()).filter_map(|index| self.place_status(index)).collect();
        all.sort_by(|a, b| a.name.cmp(&b.name));
        all
    }

    fn refused_status(&self, index: usize) -> Option<UnitStatus> {
        self.refused.get(index).map(|(name, why)| UnitStatus {
            name: name.clone(),
            description: String::new(),
            phase: UnitPhase::Failed,
            pid: None,
            restarts: 0,
            detail: why.clone(),
            ready_ms: None,
            note: String::new(),
        })
    }

    /// Units and files that are no units, counted.
    pub fn count(&self) -> usize {
        self.slots.len().saturating_add(self.refused.len())
    }

    /// Everything that is known of a unit, or behind the units of a file that is none; `None` from
    /// [`Supervisor::count`] on.
    pub fn detail(&self, index: usize) -> Option<UnitDetail> {
        let Some(slot) = self.slots.get(index) else {
            let status = self.refused_status(index.checked_sub(self.slots.len())?)?;
            return Some(UnitDetail {
                status,
                kind: None,
                wanted: true,
                exec: Vec::new(),
                requires: Vec::new(),
                milestone: Vec::new(),
                wants: Vec::new(),
                after: Vec::new(),
                critical: false,
                started_ms: None,
                watchdog_ms: None,
                last_end: String::new(),
                settings: String::new(),
            });
        };
        let unit = &slot.unit;
        Some(UnitDetail {
            status: self.status(index)?,
            kind: Some(match unit.kind {
                Kind::Service => UnitKind::Service,
                Kind::Task => UnitKind::Task,
                Kind::Mount => UnitKind::Mount,
                Kind::Device => UnitKind::Device,
                Kind::Socket => UnitKind::Socket,
                Kind::Milestone => UnitKind::Milestone,
            }),
            wanted: slot.wanted || slot.broken,
            exec: unit.exec.to_vec(),
            requires: unit.requires.to_vec(),
            milestone: unit.milestone.to_vec(),
            wants: unit.wants.to_vec(),
            after: unit.after.to_vec(),
            critical: unit.critical,
            started_ms: slot.first_start_ms.map(|ms| self.since_start(ms)),
            watchdog_ms: unit.watchdog_ms,
            last_end: slot.last_end.map_or_else(String::new, |exit| exit.to_string()),
            settings: slot.tuned.as_ref().map_or_else(String::new, |tuned| tuned.settings.text()),
        })
    }

    /// Name of a unit, or behind the units of a file that is none.
    pub fn name(&self, index: usize) -> Option<&str> {
        match self.slots.get(index) {
            Some(slot) => Some(&slot.unit.name),
            None => {
                let (name, _) = self.refused.get(index.checked_sub(self.slots.len())?)?;
                Some(name)
            }
        }
    }

    /// The unit, or the file that is none, of a name; a place for [`Supervisor::detail`].
    pub fn find(&self, name: &str) -> Option<usize> {
        let unit = self.slots.iter().position(|slot| slot.unit.name == name);
        let refused = || self.refused.iter().position(|(refused, _)| refused == name);
        unit.or_else(|| refused().map(|index| self.slots.len().saturating_add(index)))
    }
}
