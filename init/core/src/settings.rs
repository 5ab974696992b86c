//! Settings of a unit on STATE, over its file in the image: `/state/config/units/NAME.toml`. Pure.
//!
//! A person may give a unit more or less of the board, and leave out what the board can do without. What a unit
//! is, runs and may reach is the image's alone: there are no keys for it here, and a key that is not known
//! refuses the whole file, for half of a person's wish may be worse than nothing of it. A file that is refused
//! changes nothing: the unit runs as it was shipped, and says why.

use crate::graph;
use crate::limits::{IoMax, Limits};
use crate::log_rate::LogRate;
use crate::unit::Unit;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// Longest file in bytes.
pub const FILE_BYTES_MAX: usize = 4096;
/// Most files that are looked at.
pub const FILES_MAX: usize = 128;
/// Most characters of a wrong word that are repeated.
const WORD_CHARS_MAX: usize = 40;
/// Units that the others are brought up by.
const FOUNDATIONS: [&str; 2] = ["state", "provision"];

/// What a person set of a unit. Absent keys leave what the image says.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// False: the unit is never started. True: it is, where its file waits to be asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enabled: Option<bool>,
    /// Priority, 0 (as others) to 19 (last).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nice: Option<i8>,
    /// As in a unit's `[limits]`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_high_mib: Option<u32>,
    /// As in a unit's `[limits]`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_max_mib: Option<u32>,
    /// As in a unit's `[limits]`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_weight: Option<u16>,
    /// As in a unit's `[limits]`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_max_percent: Option<u32>,
    /// As in a unit's `[limits]`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pids_max: Option<u32>,
    /// As in a unit's `[limits]`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub io_weight: Option<u16>,
    /// As in a unit's `[limits]`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub io_max: Option<IoMax>,
    /// As in a unit's file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log_rate: Option<LogRate>,
}

/// Why a file of settings is ignored.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{file}:{line}: {problem}; {remedy}")]
pub struct SettingsError {
    /// Its name.
    pub file: String,
    /// The line; 1 where it is about the file.
    pub line: usize,
    /// What is wrong.
    pub problem: String,
    /// What to do.
    pub remedy: String,
}

/// What was found for a unit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Found {
    /// Stem of the file's name.
    pub unit: String,
    /// What it holds, or why it is ignored.
    pub settings: Result<Settings, String>,
}

/// A file: its name, and its content or why that cannot be read.
pub type File = (String, Result<Vec<u8>, String>);

/// Reads files against the units they are for. Units that are not named have no settings.
pub fn load(units: &[Unit], files: impl IntoIterator<Item = File>) -> Vec<Found> {
    let essential = essential(&units.iter().collect::<Vec<_>>());
    let by_name: BTreeMap<&str, &Unit> =
        units.iter().map(|unit| (unit.name.as_str(), unit)).collect();
    let found = files.into_iter().take(FILES_MAX).map(|(file, content)| {
        let stem = file.strip_suffix(".toml").unwrap_or(&file).to_owned();
        let refuse = |problem: String, remedy: &str| SettingsError {
            file: file.clone(),
            line: 1,
            problem,
            remedy: remedy.to_owned(),
        };
        let settings = match (content, by_name.get(stem.as_str())) {
            (Err(why), _) => {
                Err(refuse(format!("cannot be read: {why}"), "write it anew or remove it"))
            }
            (Ok(_), None) => Err(refuse(
                format!("no unit is called `{}`", short(&stem)),
                "remove it; `goblin units` lists the units",
            )),
            (Ok(bytes), Some(unit)) => match String::from_utf8(bytes) {
                Ok(text) => parse(&file, &text, unit, essential.contains(stem.as_str())),
                Err(_) => Err(refuse("is no text".into(), "write it anew or remove it")),
            },
        };
        Found { unit: stem, settings: settings.map_err(|err| err.to_string()) }
    });
    found.collect()
}

/// The units without which a board is not one: what a trial is judged by, what people reach it through, what the
/// others are brought up by, what hears them out, and all that these need.
pub fn essential<'a>(units: &[&'a Unit]) -> BTreeSet<&'a str> {
    let by_name: BTreeMap<&str, &Unit> =
        units.iter().map(|unit| (unit.name.as_str(), *unit)).collect();
    let is_one = |unit: &&Unit| {
        unit.critical
            || unit.gate.is_some()
            || unit.refuse_stop
            || unit.trial_only
            || unit.stop_last
            || FOUNDATIONS.contains(&unit.name.as_str())
    };
    let mut open: Vec<&Unit> = units.iter().copied().filter(is_one).collect();
    let mut essential: BTreeSet<&str> = BTreeSet::new();
    while let Some(unit) = open.pop() {
        if !essential.insert(unit.name.as_str()) {
            continue;
        }
        let needs = graph::dependencies(unit);
        let hard = needs
            .filter(|(need, _)| matches!(need, graph::Need::Requires | graph::Need::Milestone));
        open.extend(hard.filter_map(|(_, name)| by_name.get(name)));
    }
    essential
}

/// Checks the text of a file for a unit.
///
/// # Errors
/// The first rule that is broken; nothing of the file counts then.
pub fn parse(
    file: &str,
    text: &str,
    unit: &Unit,
    is_essential: bool,
) -> Result<Settings, SettingsError> {
    let settings: Settings = toml::from_str(text).map_err(|err| {
        let before = err.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
        SettingsError {
            file: file.to_owned(),
            line: before.matches('\n').count().saturating_add(1),
            problem: err.message().replace(char::is_control, " "),
            remedy: "correct the line or remove the file".into(),
        }
    })?;
    settings.check(unit, is_essential).map_err(|(key, problem, remedy)| SettingsError {
        file: file.to_owned(),
        line: line_of(text, key),
        problem: format!("`{key}` {problem}"),
        remedy,
    })?;
    Ok(settings)
}

/// A broken rule: the key, what is wrong with it, and the remedy.
type Broken = (&'static str, String, String);

impl Settings {
    /// True when nothing is set.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// As a file has them.
    pub fn text(&self) -> String {
        // Numbers and words only: there is nothing that could not be written.
        toml::to_string(self).unwrap_or_default()
    }

    /// The unit's limits with what is set in place of what was shipped.
    pub fn limits(&self, shipped: &Limits) -> Limits {
        Limits {
            memory_high_mib: self.memory_high_mib.or(shipped.memory_high_mib),
            memory_max_mib: self.memory_max_mib.or(shipped.memory_max_mib),
            cpu_weight: self.cpu_weight.or(shipped.cpu_weight),
            cpu_max_percent: self.cpu_max_percent.or(shipped.cpu_max_percent),
            pids_max: self.pids_max.or(shipped.pids_max),
            io_weight: self.io_weight.or(shipped.io_weight),
            io_max: self.io_max.unwrap_or(shipped.io_max),
            nice: self.nice.or(shipped.nice),
            ..shipped.clone()
        }
    }

    fn check(&self, unit: &Unit, is_essential: bool) -> Result<(), Broken> {
        if is_essential && self.enabled == Some(false) {
            let problem = "is false for a unit that the board cannot do without".to_owned();
            return Err(("enabled", problem, "remove the key".into()));
        }
        if self.nice.is_some_and(|nice| nice < 0) {
            let problem = "puts the unit before others".to_owned();
            return Err(("nice", problem, "write 0 to 19".into()));
        }
        if let Some((problem, remedy)) = self.log_rate.and_then(|rate| rate.problem()) {
            return Err(("log_rate", problem.into(), remedy.into()));
        }
        let limits = self.limits(&unit.limits);
        if let Err(crate::unit::UnitError::Value { key, problem, remedy, .. }) = limits.check("") {
            let key = key.strip_prefix("limits.").unwrap_or(key);
            return Err((key, problem, remedy.into()));
        }
        if is_essential { self.leaves_room(&unit.limits) } else { Ok(()) }
    }

    /// What the board cannot do without keeps at least what it was shipped with: it was tested with that.
    fn leaves_room(&self, shipped: &Limits) -> Result<(), Broken> {
        let less = |set: Option<u32>, most: Option<u32>| match (set, most) {
            (Some(set), Some(most)) => set < most,
            (set, None) => set.is_some(),
            (None, Some(_)) => false,
        };
        for (key, set, most) in [
            ("memory_high_mib", self.memory_high_mib, shipped.memory_high_mib),
            ("memory_max_mib", self.memory_max_mib, shipped.memory_max_mib),
            ("pids_max", self.pids_max, shipped.pids_max),
            ("cpu_max_percent", self.cpu_max_percent, shipped.cpu_max_percent),
        ] {
            if less(set, most) {
                let most = most.map_or_else(|| "no limit".to_owned(), |most| most.to_string());
                let problem = format!("is less than it was shipped with ({most})");
                let remedy = "the board cannot do without this unit: write more or remove the key";
                return Err((key, problem, remedy.into()));
            }
        }
        if self.io_max.is_some_and(|limits| limits != shipped.io_max) {
            let problem = "slows down a unit that the board cannot do without".to_owned();
            return Err(("io_max", problem, "remove the key".into()));
        }
        Ok(())
    }

    /// These settings with one key changed to what a line of TOML gives it, or taken away with `None`; as text
    /// too, for the file.
    ///
    /// # Errors
    /// As [`parse`], about the unit's file.
    pub fn with(
        &self,
        key: &str,
        value: Option<&str>,
        unit: &Unit,
        is_essential: bool,
    ) -> Result<(Self, String), SettingsError> {
        let file = format!("{}.toml", unit.name);
        let refuse = |problem: String, remedy: &str| SettingsError {
            file: file.clone(),
            line: 1,
            problem,
            remedy: remedy.to_owned(),
        };
        let mut table: toml::Table = self.text().parse().unwrap_or_default();
        match value {
            None if table.remove(key).is_some() => {}
            None => {
                let problem = format!("`{}` is not set", short(key));
                return Err(refuse(problem, "`goblin units show` tells what is"));
            }
            Some(value) => {
                let line: toml::Table = format!("value = {value}").parse().map_err(|_| {
                    let problem = format!("`{}` is no value", short(value));
                    refuse(problem, "write a number, true, false, or { KEY = NUMBER }")
                })?;
                let only = line.get("value").filter(|_| line.len() == 1).cloned();
                let value = only.ok_or_else(|| {
                    refuse("is more than one value".into(), "set one key at a time")
                })?;
                table.insert(key.to_owned(), value);
            }
        }
        let text = table.to_string();
        if text.len() > FILE_BYTES_MAX {
            return Err(refuse("is too long".into(), "take keys away"));
        }
        Ok((parse(&file, &text, unit, is_essential)?, text))
    }
}

fn short(word: &str) -> String {
    word.chars().take(WORD_CHARS_MAX).map(|c| if c.is_control() { '?' } else { c }).collect()
}

/// The line on which a key is written, by its first word; 1 where it is not.
fn line_of(text: &str, key: &str) -> usize {
    let first = key.split('.').next().unwrap_or(key);
    let last = key.rsplit('.').next().unwrap_or(key);
    let starts = |line: &str, word: &str| {
        let rest = line.trim_start().trim_start_matches('[').strip_prefix(word);
        rest.is_some_and(|rest| rest.trim_start().starts_with(['=', ']', '.']))
    };
    let at = |word: &str| text.lines().position(|line| starts(line, word));
    at(last).or_else(|| at(first)).map_or(1, |index| index.saturating_add(1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn unit(name: &str, more: &str) -> Unit {
        let text = format!("description = 'd'\nkind = 'service'\nexec = ['/x']\n{more}");
        crate::unit::parse(name, &text).unwrap()
    }

    fn board() -> Vec<Unit> {
        vec![
            unit("state", ""),
            unit("pool", ""),
            unit(
                "share",
                "critical = true\nmilestone = ['pool']\n[limits]\nmemory_max_mib = 100\n",
            ),
            unit("extra", "after = ['share']\n[limits]\nmemory_max_mib = 100\npids_max = 8\n"),
        ]
    }

    fn one(file: &str, text: &str) -> Result<Settings, String> {
        let files = [(file.to_owned(), Ok(text.as_bytes().to_vec()))];
        load(&board(), files).pop().unwrap().settings
    }

    #[test]
    fn what_is_set_stands_in_place_of_what_was_shipped() {
        let text = "nice = 5\nmemory_max_mib = 50\nlog_rate = { per_s = 1, burst = 2 }\n\
            [io_max]\nwrite_kib_per_s = 512\n";
        let settings = one("extra.toml", text).unwrap();
        let shipped = &board()[3].limits;
        let limits = settings.limits(shipped);
        assert_eq!(
            (limits.memory_max_mib, limits.pids_max, limits.nice),
            (Some(50), Some(8), Some(5))
        );
        assert_eq!(limits.io_max.write_kib_per_s, Some(512));
        assert_eq!(settings.log_rate, Some(LogRate { per_s: 1, burst: 2 }));
        assert_eq!(Settings::default().limits(shipped), **shipped);
        assert_eq!(one("extra.toml", "").unwrap(), Settings::default());
    }

    #[test]
    fn a_file_counts_as_a_whole_and_says_where_it_is_wrong() {
        for (text, expected) in [
            ("nice = 5\nexec = ['/bin/sh']\n", "extra.toml:2: unknown field `exec`"),
            ("nice = 5\n[sandbox]\n", "extra.toml:2: unknown field `sandbox`"),
            ("nice = 5\n\u{0}", "extra.toml:2: "),
            ("enabled = 'no'", "extra.toml:1: invalid type"),
            (
                "cpu_weight = 3\nnice = -1\n",
                "extra.toml:2: `nice` puts the unit before others; write 0",
            ),
            ("\nmemory_max_mib = 0", "extra.toml:2: `memory_max_mib` is 0, which is not from 1"),
            ("memory_high_mib = 200", "extra.toml:1: `memory_high_mib` is 200, above"),
            ("[io_max]\n\nread_ops_per_s = 1\n", "extra.toml:3: `io_max.read_ops_per_s` is 1"),
            ("log_rate = { per_s = 0, burst = 0 }", "extra.toml:1: `log_rate` is no limit"),
        ] {
            let err = one("extra.toml", text).unwrap_err();
            assert!(err.starts_with(expected) && err.contains("; "), "{text}: {err}");
        }
        assert!(
            one("ghost.toml", "").unwrap_err().contains("no unit is called `ghost`; remove it")
        );
        assert!(one("extra.toml~", "").unwrap_err().contains("no unit"));
        let files = [
            ("extra.toml".to_owned(), Err("Input/output error".to_owned())),
            ("pool.toml".to_owned(), Ok(vec![0xff, 0xfe])),
        ];
        let why: Vec<_> =
            load(&board(), files).into_iter().map(|f| f.settings.unwrap_err()).collect();
        assert!(why[0].starts_with("extra.toml:1: cannot be read: Input/output"), "{why:?}");
        assert!(why[1].starts_with("pool.toml:1: is no text"), "{why:?}");
    }

    #[test]
    fn what_the_board_needs_is_neither_switched_off_nor_starved() {
        let board = board();
        let essential = essential(&board.iter().collect::<Vec<_>>());
        assert_eq!(essential.into_iter().collect::<Vec<_>>(), ["pool", "share", "state"]);
        assert!(one("extra.toml", "enabled = false\nmemory_max_mib = 1\n").is_ok());
        for (file, text) in [
            ("share.toml", "enabled = false"),
            ("pool.toml", "enabled = false"),
            ("state.toml", "enabled = false"),
            ("share.toml", "memory_max_mib = 99"),
            ("share.toml", "pids_max = 1000"),
            ("share.toml", "io_max = { read_ops_per_s = 10 }"),
        ] {
            let err = one(file, text).unwrap_err();
            assert!(err.contains("the board cannot do without"), "{file} {text}: {err}");
        }
        assert!(one("share.toml", "memory_max_mib = 101\nnice = 3\nenabled = true").is_ok());
    }

    #[test]
    fn keys_are_set_and_taken_away_one_at_a_time() {
        let board = board();
        let extra = &board[3];
        let (one, _) = Settings::default().with("nice", Some("4"), extra, false).unwrap();
        let (two, text) =
            one.with("io_max", Some("{ read_ops_per_s = 20 }"), extra, false).unwrap();
        assert_eq!(parse("extra.toml", &text, extra, false).unwrap(), two);
        let (three, _) = two.with("nice", None, extra, false).unwrap();
        assert_eq!((three.nice, three.io_max), (None, two.io_max));
        let (none, text) = three.with("io_max", None, extra, false).unwrap();
        assert!(none.is_empty() && text.is_empty());
        for (key, value, expected) in [
            ("nice", None, "`nice` is not set"),
            ("exec", Some("['/x']"), "unknown field `exec`"),
            ("nice", Some("-4"), "before others"),
            ("nice", Some(""), "is no value"),
            ("nice", Some("1\nexec = 1"), "more than one value"),
            ("nice", Some("1 = 2"), "is no value"),
        ] {
            let err = Settings::default().with(key, value, extra, false).unwrap_err();
            assert!(err.to_string().contains(expected), "{err}");
        }
    }

    proptest! {
        #[test]
        fn any_file_is_answered(name in "[a-z.]{0,12}", bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let found = load(&board(), [(name, Ok(bytes))]);
            prop_assert_eq!(found.len(), 1);
        }

        #[test]
        fn any_key_and_value_is_answered(key in "[a-z_.]{0,16}", value in "(?s).{0,40}") {
            let board = board();
            for unit in &board {
                if let Ok((settings, text)) = Settings::default().with(&key, Some(&value), unit, true) {
                    // What is written is what will be read.
                    prop_assert_eq!(parse("x", &text, unit, true).unwrap(), settings);
                }
            }
        }
    }
}
