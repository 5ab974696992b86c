//! The children that read and write what people set of units.

use super::Runtime;
use crate::settings;
use goblin_core_types::LogLevel;
use goblin_init_core::supervise::{Event, Exit, UnitIndex};

/// What such a child does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Job {
    Read,
    Write,
}

impl Runtime {
    /// Starts the child that reads; tells at once when that is not possible.
    pub(super) fn read_settings(&mut self) -> Option<Event> {
        match self.helper(&["settings".into(), "read".into()]) {
            Ok(pid) => {
                self.settings_child = Some((pid, Job::Read));
                None
            }
            Err(err) => Some(Event::SettingsRead(Err(err.to_string()))),
        }
    }

    /// Starts the child that keeps a unit's settings; units that did not start yet wait for it.
    pub(super) fn keep_settings(&mut self, index: UnitIndex, text: String) {
        let name = self.name(index);
        if self.settings_child.is_some() {
            let text = format!("{name}: settings are not kept: earlier ones still are; try again");
            return self.log(LogLevel::Warn, &text);
        }
        let words = ["settings".into(), "write".into(), name.clone(), text];
        match self.helper(&words) {
            Ok(pid) => {
                self.settings_child = Some((pid, Job::Write));
                self.log(LogLevel::Info, &format!("{name}: a person changes its settings"));
                self.event(Event::SettingsChange);
            }
            Err(err) => self.log(LogLevel::Error, &format!("{name}: settings are not kept: {err}")),
        }
    }

    pub(super) fn settings_child_ended(&mut self, job: Job, exit: Exit) {
        match job {
            Job::Write => {
                if exit != Exit::Status(0) {
                    self.say(LogLevel::Error, &format!("settings are not kept: child {exit}"));
                }
                // What is on the disk counts, be it the old or the new.
                if let Some(event) = self.read_settings() {
                    self.event(event);
                }
            }
            Job::Read => {
                let found = match exit {
                    Exit::Status(0) => settings::outcome(),
                    other => Err(format!("the child that reads them {other}")),
                };
                self.event(Event::SettingsRead(found));
                self.tell_ignored();
            }
        }
    }

    fn tell_ignored(&mut self) {
        let sentence = |(unit, why): (&str, &str)| match unit {
            "" => why.to_owned(),
            unit => format!("{unit}: {why}"),
        };
        let lines: Vec<String> = self.supervisor.ignored_settings().map(sentence).collect();
        for line in lines {
            self.say(LogLevel::Warn, &line);
        }
    }
}
