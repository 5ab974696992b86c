//! A boot in which everything does what it should: programs start, are ready, and end when they are told to.
//! What does not become ready then never will, on any board. For the check of unit files before they ship.

use super::report::Blocker;
use super::slot::Slot;
use super::{Action, Boot, Event, Exit, How, Order, Supervisor, UnitIndex};
use crate::unit::{Kind, ReadyBy, Unit};
use goblin_core_types::{EndBy, Role, UnitPhase};
use std::collections::VecDeque;

/// Time for every unit to be ready after the longest `delay_ms`, in milliseconds; longer than any start may take.
const PATIENCE_MS: u64 = 600_000;
/// Units ping this often, in milliseconds.
const PING_MS: u64 = 500;

/// What is known of a boot before it begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Scene {
    /// What provisioning says; `None` on a board without.
    pub role: Option<Role>,
    /// The loader counts this boot as a try.
    pub trial: bool,
}

impl Scene {
    /// Every kind of boot there is.
    pub fn all() -> impl Iterator<Item = Self> {
        let roles = [Some(Role::Compute), Some(Role::Storage), None];
        roles.into_iter().flat_map(|role| [false, true].map(|trial| Self { role, trial }))
    }
}

impl std::fmt::Display for Scene {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let trial = if self.trial { ", on trial" } else { "" };
        match self.role {
            Some(role) => write!(f, "on the {} board{trial}", role.as_str()),
            None => write!(f, "on a board without a role{trial}"),
        }
    }
}

/// A unit that is not where it should be although nothing went wrong.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Stuck {
    /// Its name.
    pub unit: String,
    /// The key of its file that keeps it there.
    pub key: &'static str,
    /// The unit that this key names, where it is a dependency.
    pub needs: Option<String>,
    /// Where it stands, in a sentence.
    pub why: String,
}

/// Boots, starts what is only started by a person too, and ends the board. Returns what did not become
/// ready, or did not stop.
pub fn rehearse(units: &[Unit], scene: Scene) -> Vec<Stuck> {
    // What is stuck is told by name; a trial that is refused for it would end the rehearsal before.
    let boot = Boot { trial: scene.trial, last_resort: true, start_ms: 0 };
    let supervisor = Supervisor::new(units.to_vec(), Vec::new(), boot);
    let mut stage = Stage { supervisor, role: scene.role, now_ms: 0, next_pid: 2, finished: false };
    stage.event(Event::Start);
    for unit in units {
        if let Some(name) = &unit.device {
            stage.event(Event::Device { name: name.to_string(), present: true });
        }
    }
    for index in 0..units.len() {
        let by_hand = units.get(index).is_some_and(|unit| !unit.autostart);
        if by_hand && stage.supervisor.refusal(index, Order::Start).is_none() {
            stage.event(Event::Order(index, Order::Start));
        }
    }
    let delay_ms = units.iter().map(|unit| unit.delay_ms).max().unwrap_or(0);
    stage.run_until(delay_ms.saturating_add(PATIENCE_MS), Supervisor::all_are_ready);
    let late = stage.stuck(|slot| {
        (slot.wanted || slot.broken) && !slot.serves() && slot.phase != UnitPhase::Off
    });
    if !late.is_empty() {
        return late;
    }
    let by = EndBy::Program;
    stage.event(Event::Shutdown(How::Reboot, by, "the rehearsal is over".into()));
    let until_ms = stage.now_ms.saturating_add(PATIENCE_MS);
    stage.run_until(until_ms, |supervisor| supervisor.active == 0);
    if stage.finished { Vec::new() } else { stage.stuck(|slot| super::slot::is_active(slot.phase)) }
}

struct Stage {
    supervisor: Supervisor,
    role: Option<Role>,
    now_ms: u64,
    next_pid: u32,
    finished: bool,
}

impl Stage {
    fn run_until(&mut self, until_ms: u64, done: impl Fn(&Supervisor) -> bool) {
        while !self.finished && self.now_ms < until_ms && !done(&self.supervisor) {
            for index in 0..self.supervisor.slots.len() {
                self.event(Event::Ping(index));
            }
            let next_ms = self.supervisor.next_deadline_ms().unwrap_or(until_ms);
            self.now_ms = next_ms.max(self.now_ms).min(self.now_ms.saturating_add(PING_MS));
            self.event(Event::Tick);
        }
    }

    fn event(&mut self, event: Event) {
        let mut events = VecDeque::from([event]);
        while let Some(event) = events.pop_front() {
            for action in self.supervisor.step(self.now_ms, event) {
                self.play(action, &mut events);
            }
        }
    }

    fn play(&mut self, action: Action, events: &mut VecDeque<Event>) {
        match action {
            Action::Spawn(index) | Action::Unmount(index) => {
                events.push_back(Event::Forked(index, self.next_pid));
                self.next_pid = self.next_pid.saturating_add(1);
                events.push_back(Event::Executed(index));
                let of = self.supervisor.unit(index).map(|unit| (unit.kind, unit.ready));
                match of {
                    Some((Kind::Service, ReadyBy::Notify)) => events.push_back(Event::Ready(index)),
                    Some((Kind::Task | Kind::Mount, _)) => events.push_back(ended_well(index)),
                    _ => {}
                }
            }
            Action::Terminate(index) => events.push_back(ended_well(index)),
            Action::Listen(index) => events.push_back(Event::Listening(index)),
            Action::Probe(index) => events.push_back(Event::Probed(index, true)),
            Action::ReadRole => events.push_back(Event::RoleRead(self.role)),
            Action::ReadSettings => events.push_back(Event::SettingsRead(Ok(Vec::new()))),
            Action::RecordFail(_) => events.push_back(Event::RecordWritten),
            Action::Finish(_) => self.finished = true,
            Action::Kill(_)
            | Action::CloseSocket(_)
            | Action::Changed(_)
            | Action::AllReady
            | Action::Healthy { .. }
            | Action::RecordEnd(_) => {}
        }
    }

    fn stuck(&self, is_stuck: impl Fn(&Slot) -> bool) -> Vec<Stuck> {
        let slots = self.supervisor.slots.iter().enumerate();
        let stuck = slots.filter(|(_, slot)| is_stuck(slot));
        stuck
            .filter_map(|(index, _)| Some((index, self.supervisor.status(index)?)))
            .map(|(index, status)| {
                let (key, needs) = self.blame(index, status.phase);
                let why = match status.detail.as_str() {
                    "" => format!("is {:?}", status.phase).to_lowercase(),
                    detail => detail.to_owned(),
                };
                Stuck { unit: status.name, key, needs, why }
            })
            .collect()
    }

    /// The key that keeps a unit where it is, and the unit that it names.
    fn blame(&self, index: UnitIndex, phase: UnitPhase) -> (&'static str, Option<String>) {
        let name = |index| self.supervisor.name(index).map(str::to_owned);
        match self.supervisor.blocker(self.now_ms, index) {
            Some(Blocker::Need(need, to)) => (need.key(), name(to)),
            Some(Blocker::Role) => ("roles", None),
            Some(Blocker::Pause(_)) => ("delay_ms", None),
            _ if phase == UnitPhase::Stopping => ("stop_timeout_ms", None),
            _ if phase == UnitPhase::Starting => ("ready", None),
            Some(Blocker::Settings) | None => ("kind", None),
        }
    }
}

const fn ended_well(index: UnitIndex) -> Event {
    Event::Ended(index, Exit::Status(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unit(name: &str, text: &str) -> Unit {
        crate::unit::parse(name, &format!("description = 'd'\n{text}")).unwrap()
    }

    fn service(name: &str, text: &str) -> Unit {
        unit(name, &format!("kind = 'service'\nexec = ['/x']\n{text}"))
    }

    fn stuck(units: &[Unit], role: Option<Role>, trial: bool) -> Vec<(String, String)> {
        let stuck = rehearse(units, Scene { role, trial });
        stuck.into_iter().map(|stuck| (stuck.unit, stuck.why)).collect()
    }

    #[test]
    fn every_kind_of_unit_gets_there_and_back() {
        let units = [
            unit("provision", "kind = 'task'\nexec = ['/x']\nrestart = 'on-failure'"),
            unit("disk", "kind = 'device'\ndevice = 'block:sda1'"),
            unit(
                "in",
                "kind = 'mount'\nrequires = ['disk']\n[mount]\nwhat = 'a'\nwhere = '/a'\ntype = 'a'",
            ),
            unit("door", "kind = 'socket'\nlisten = 'unix:/x'"),
            unit("point", "kind = 'milestone'\nrequires = ['in', 'door']"),
            unit("later", "kind = 'task'\nexec = ['/x']\ndelay_ms = 3600000\nevery_ms = 1000"),
            service("probe", "ready = 'unix:/x'\nwatchdog_ms = 1000\nmilestone = ['point']"),
            service("plain", "ready = 'start'\nafter = ['probe']\nstop_last = true"),
            service("health", "gate = true\nstart_timeout_ms = 0"),
            service("hand", "autostart = false\nrequires = ['plain']"),
            unit("bless", "kind = 'task'\nexec = ['/x']\ntrial_only = true\nrequires = ['health']"),
        ];
        for scene in Scene::all() {
            assert_eq!(rehearse(&units, scene), [], "{scene}");
        }
    }

    #[test]
    fn a_unit_that_needs_one_of_the_other_board_is_told() {
        let units =
            [service("pool", "roles = ['storage']"), service("share", "requires = ['pool']")];
        assert_eq!(stuck(&units, Some(Role::Storage), false), []);
        let expected = [("share".to_owned(), "needs pool, which is off".to_owned())];
        assert_eq!(stuck(&units, Some(Role::Compute), true), expected);
        assert_eq!(stuck(&units, None, false), expected);
    }

    #[test]
    fn what_only_a_trial_has_must_not_be_needed_without_one() {
        let units = [
            service("judge", "trial_only = true"),
            service("user", "milestone = ['judge']\nautostart = false"),
        ];
        assert_eq!(stuck(&units, None, true), []);
        let expected = [("user".to_owned(), "needs judge, which is off".to_owned())];
        assert_eq!(stuck(&units, None, false), expected);
    }

    #[test]
    fn circles_and_units_that_take_too_long_are_told() {
        let circle = [service("a", "requires = ['b']"), service("b", "after = ['a']")];
        let names: Vec<_> = stuck(&circle, None, false).into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["a", "b"]);
    }

    #[test]
    fn the_key_that_is_to_blame_is_named() {
        for key in ["requires", "milestone"] {
            let units = [
                service("pool", "roles = ['storage']"),
                service("share", &format!("{key} = ['pool']")),
            ];
            let stuck = rehearse(&units, Scene { role: None, trial: false });
            let [stuck] = stuck.as_slice() else { panic!("{stuck:?}") };
            assert_eq!((stuck.key, stuck.needs.as_deref()), (key, Some("pool")));
        }
    }
}
