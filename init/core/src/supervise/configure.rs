//! What people set of units on STATE: read once STATE is there, before the units that come after it start.

use super::slot::Tuned;
use super::{Action, Supervisor, UnitIndex};
use crate::settings::{Found, Settings};

/// Unit after whose readiness the settings are read.
pub(super) const STATE: &str = "state";
/// Longest that units wait for the settings to be read, in milliseconds: a slow disk must not hold up the board,
/// which then runs as shipped until they come.
pub const SETTINGS_PATIENCE_MS: u64 = 5_000;
/// Longest reason why settings are ignored, in bytes.
const NOTE_BYTES_MAX: usize = 300;

/// Where the settings are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reading {
    /// STATE is not there yet.
    NotYet,
    /// Being read; units that did not start yet wait for it until this time.
    Until(u64),
    /// Read, or given up.
    Over,
}

impl Supervisor {
    /// STATE is there.
    pub(super) fn read_settings(&mut self, now_ms: u64, index: UnitIndex, out: &mut Vec<Action>) {
        let state = self.slots.get(index).is_some_and(|slot| slot.unit.name == STATE);
        if state && self.reading == Reading::NotYet {
            self.reading = Reading::Until(now_ms.saturating_add(SETTINGS_PATIENCE_MS));
            out.push(Action::ReadSettings);
        }
    }

    /// They will be read anew.
    pub(super) fn settings_change(&mut self, now_ms: u64) {
        self.reading = Reading::Until(now_ms.saturating_add(SETTINGS_PATIENCE_MS));
    }

    /// True while units wait for the settings.
    pub(super) fn waits_for_settings(&self) -> bool {
        matches!(self.reading, Reading::Until(_))
    }

    /// Units do not wait for ever.
    pub(super) fn check_settings(&mut self, now_ms: u64) {
        if matches!(self.reading, Reading::Until(until_ms) if now_ms >= until_ms) {
            self.settings_are_over();
        }
    }

    fn settings_are_over(&mut self) {
        self.reading = Reading::Over;
        for index in 0..self.slots.len() {
            self.touch(index);
        }
    }

    /// Takes over what was found: all there is, so that units that are not named go back to what was shipped.
    /// Limits and log rates count from a unit's next start on.
    pub(super) fn configure(&mut self, found: Result<Vec<Found>, String>) {
        match found {
            Ok(found) => {
                for slot in &mut self.slots {
                    slot.tune(None);
                    slot.note.clear();
                }
                self.stray_settings.clear();
                for Found { unit, settings } in found {
                    self.configure_one(&unit, settings);
                }
            }
            Err(why) => {
                let mut text = format!("the units' settings are ignored: {why}");
                text.truncate(text.floor_char_boundary(NOTE_BYTES_MAX));
                self.stray_settings = vec![text];
            }
        }
        self.settings_are_over();
        self.settle_wanted();
    }

    fn configure_one(&mut self, name: &str, settings: Result<Settings, String>) {
        let slot = self.slots.iter_mut().find(|slot| slot.unit.name == name);
        match (slot, settings) {
            (Some(slot), Ok(settings)) => slot.tune(Some(settings)),
            (slot, Err(why)) => {
                let mut text = format!("settings ignored: {why}");
                text.truncate(text.floor_char_boundary(NOTE_BYTES_MAX));
                match slot {
                    Some(slot) => slot.note = text,
                    None => self.stray_settings.push(text),
                }
            }
            (None, Ok(_)) => {}
        }
    }

    /// Why settings are ignored, a sentence each; with the unit's name where there is such a unit.
    pub fn ignored_settings(&self) -> impl Iterator<Item = (&str, &str)> {
        let notes = self.slots.iter().filter(|slot| !slot.note.is_empty());
        let notes = notes.map(|slot| (slot.unit.name.as_str(), slot.note.as_str()));
        notes.chain(self.stray_settings.iter().map(|text| ("", text.as_str())))
    }

    /// A unit's settings as a file, with one key changed, or taken away.
    ///
    /// # Errors
    /// Why not, with the remedy.
    pub fn set(&self, index: UnitIndex, key: &str, value: Option<&str>) -> Result<String, String> {
        let unit = self.shipped(index).ok_or("is no unit that can run; correct its file first")?;
        match self.reading {
            Reading::Over => {}
            Reading::NotYet => return Err("STATE is not there to keep settings; try again".into()),
            Reading::Until(_) => return Err("settings are being read; try again".into()),
        }
        let none = Settings::default();
        let now = self.settings(index).unwrap_or(&none);
        let set = now.with(key, value, &unit, self.is_essential(index));
        set.map(|(_, text)| text).map_err(|err| err.to_string())
    }

    /// What is set of a unit.
    pub fn settings(&self, index: UnitIndex) -> Option<&Settings> {
        self.slots.get(index)?.tuned.as_ref().map(|tuned| &tuned.settings)
    }

    /// A unit as it was shipped, for a check of new settings.
    pub fn shipped(&self, index: UnitIndex) -> Option<crate::unit::Unit> {
        let slot = self.slots.get(index)?;
        let mut unit = slot.unit.clone();
        if let Some(tuned) = &slot.tuned {
            unit.limits = tuned.limits.clone();
            unit.log_rate = tuned.log_rate;
        }
        Some(unit)
    }

    /// True for a unit that the board cannot do without.
    pub fn is_essential(&self, index: UnitIndex) -> bool {
        let units: Vec<_> = self.slots.iter().map(|slot| &slot.unit).collect();
        let name = self.slots.get(index).map_or("", |slot| slot.unit.name.as_str());
        crate::settings::essential(&units).contains(name)
    }
}

impl super::slot::Slot {
    /// Sets what a person set, or what was shipped.
    fn tune(&mut self, settings: Option<Settings>) {
        if let Some(tuned) = self.tuned.take() {
            self.unit.limits = tuned.limits;
            self.unit.log_rate = tuned.log_rate;
        }
        if let Some(settings) = settings.filter(|settings| !settings.is_empty()) {
            let limits = settings.limits(&self.unit.limits);
            let log_rate = settings.log_rate.unwrap_or(self.unit.log_rate);
            self.tuned = Some(Box::new(Tuned {
                limits: std::mem::replace(&mut self.unit.limits, limits.into()),
                log_rate: std::mem::replace(&mut self.unit.log_rate, log_rate),
                settings,
            }));
        }
    }

    /// Whether a person switched it on or off for good.
    pub(super) fn enabled(&self) -> Option<bool> {
        self.tuned.as_ref().and_then(|tuned| tuned.settings.enabled)
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Boot, Event, Exit, Order};
    use super::*;
    use crate::unit::Unit;
    use goblin_core_types::UnitPhase;

    fn unit(name: &str, text: &str) -> Unit {
        let kind = if name == STATE { "task" } else { "service" };
        let text = format!("description = 'd'\nkind = '{kind}'\nexec = ['/x']\n{text}");
        crate::unit::parse(name, &text).unwrap()
    }

    fn board(units: Vec<Unit>) -> Supervisor {
        let boot = Boot { trial: false, last_resort: false, start_ms: 0 };
        Supervisor::new(units, vec![], boot)
    }

    fn spawned(actions: &[Action]) -> Vec<UnitIndex> {
        let of = |action: &Action| match action {
            Action::Spawn(index) => Some(*index),
            _ => None,
        };
        actions.iter().filter_map(of).collect()
    }

    fn found(unit: &str, text: &str) -> Found {
        Found { unit: unit.into(), settings: Ok(toml::from_str(text).unwrap()) }
    }

    /// A board whose STATE is there: the first unit.
    fn with_state(more: &[(&str, &str)]) -> Supervisor {
        let rest = more.iter().map(|(name, text)| unit(name, text));
        let mut board = board([unit(STATE, "")].into_iter().chain(rest).collect());
        board.step(0, Event::Start);
        board.step(0, Event::RoleRead(None));
        board.step(1, Event::Forked(0, 1));
        let actions = board.step(2, Event::Ended(0, Exit::Status(0)));
        assert!(actions.contains(&Action::ReadSettings));
        assert_eq!(spawned(&actions), [], "units wait");
        board
    }

    #[test]
    fn units_behind_state_start_with_what_is_set() {
        let mut board = with_state(&[
            ("a", "requires = ['state']\n[limits]\nmemory_max_mib = 9\n"),
            ("b", "requires = ['state']"),
            ("c", "requires = ['state']\nautostart = false"),
        ]);
        let set = vec![
            found("a", "memory_max_mib = 7\nnice = 3"),
            found("b", "enabled = false"),
            found("c", "enabled = true"),
        ];
        assert_eq!(spawned(&board.step(3, Event::SettingsRead(Ok(set)))), [1, 3]);
        assert_eq!(board.unit(1).unwrap().limits.memory_max_mib, Some(7));
        assert_eq!(board.shipped(1).unwrap().limits.memory_max_mib, Some(9));
        assert_eq!(board.status(2).unwrap().detail, "switched off by its settings");
        assert!(board.refusal(2, Order::Start).unwrap().contains("goblin units unset b enabled"));
        // They are taken away: what was shipped counts again.
        assert_eq!(spawned(&board.step(4, Event::SettingsRead(Ok(vec![])))), [2]);
        assert_eq!(board.unit(1).unwrap().limits, board.shipped(1).unwrap().limits);
        assert_eq!(board.settings(1), None);
    }

    #[test]
    fn what_is_ignored_is_told_and_changes_nothing() {
        let mut board = with_state(&[("a", "requires = ['state']")]);
        let why = "a.toml:3: `nice` is odd; remove it".to_owned();
        let bad = |unit: &str| Found { unit: unit.into(), settings: Err(why.clone()) };
        let actions = board.step(3, Event::SettingsRead(Ok(vec![bad("a"), bad("ghost")])));
        assert_eq!(spawned(&actions), [1]);
        let note = format!("settings ignored: {why}");
        assert_eq!(board.status(1).unwrap().note, note);
        let told: Vec<_> = board.ignored_settings().collect();
        assert_eq!(told, [("a", note.as_str()), ("", note.as_str())]);
        let text = board.set(1, "nice", Some("4")).unwrap();
        assert_eq!(text, "nice = 4\n", "what was ignored is gone with the next word");
        assert!(board.set(1, "exec", Some("4")).unwrap_err().contains("unknown field"));
        assert!(board.set(0, "enabled", Some("false")).unwrap_err().contains("cannot do without"));
        assert!(board.set(9, "nice", None).is_err());
        board.step(4, Event::SettingsRead(Err("the reader died".into())));
        assert!(board.ignored_settings().any(|(_, text)| text.ends_with("the reader died")));
    }

    #[test]
    fn a_disk_that_does_not_answer_holds_nothing_up_for_long() {
        let mut board = with_state(&[("a", "requires = ['state']")]);
        assert!(board.set(1, "nice", Some("4")).unwrap_err().contains("try again"));
        assert_eq!(board.status(1).unwrap().detail, "waits for the units' settings");
        assert_eq!(board.next_deadline_ms(), Some(2 + SETTINGS_PATIENCE_MS));
        assert_eq!(spawned(&board.step(2 + SETTINGS_PATIENCE_MS, Event::Tick)), [1]);
        // They come late, and count all the same.
        let late = vec![found("a", "enabled = false")];
        let actions = board.step(9_000, Event::SettingsRead(Ok(late)));
        assert_eq!(board.status(1).unwrap().phase, UnitPhase::Stopping, "{actions:?}");
    }
}
