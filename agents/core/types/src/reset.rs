//! Factory reset: how much of a board goes, and what people are told of it.

use crate::Version;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// How much of a board a factory reset takes away, in order. None of them touches a disk of the pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ResetLevel {
    /// What people set since the provisioning file was applied.
    Settings,
    /// That, and everything else that the board gathered; who it is stays.
    System,
    /// Everything but data: who the board is goes too.
    All,
}

impl ResetLevel {
    /// Every level, the least first.
    pub const ALL: [Self; 3] = [Self::Settings, Self::System, Self::All];

    /// Its word, as in JSON, on the command line, and on the kernel's.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Settings => "settings",
            Self::System => "system",
            Self::All => "all",
        }
    }

    /// What goes, a phrase each.
    pub const fn goes(self) -> &'static [&'static str] {
        match self {
            Self::Settings => SETTINGS_GO,
            Self::System => SYSTEM_GOES,
            Self::All => ALL_GOES,
        }
    }

    /// What stays, a phrase each.
    pub const fn stays(self) -> &'static [&'static str] {
        match self {
            Self::Settings => SETTINGS_STAY,
            Self::System => SYSTEM_STAYS,
            Self::All => ALL_STAYS,
        }
    }
}

const SETTINGS_GO: &[&str] = &[
    "enrolled PCs, users, groups and their rights to shares",
    "shares added by command",
    "what was set of units",
    "channel, schedule and pinned releases",
];
const SYSTEM_GOES: &[&str] = &[
    "enrolled PCs, users, groups and their rights to shares",
    "shares added by command",
    "what was set of units",
    "channel, schedule and pinned releases",
    "the kept log",
    "downloads, and the memory of upgrades and of releases that failed",
];
const ALL_GOES: &[&str] = &[
    "the provisioning: name, role, keys, network; the board needs its provisioning file again",
    "enrolled PCs, users, groups and their rights to shares",
    "shares added by command",
    "what was set of units",
    "channel, schedule and pinned releases",
    "the kept log",
    "downloads, and the memory of upgrades and of releases that failed",
];
const SETTINGS_STAY: &[&str] = &[
    "every file on the shares, and the pool's disks",
    "the provisioning: name, role, keys, network",
    "the releases on the boot disk",
    "the kept log and the memory of upgrades",
];
const SYSTEM_STAYS: &[&str] = &[
    "every file on the shares, and the pool's disks",
    "the provisioning: name, role, keys, network",
    "the releases on the boot disk",
];
const ALL_STAYS: &[&str] =
    &["every file on the shares, and the pool's disks", "the releases on the boot disk"];

impl fmt::Display for ResetLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A word that names no level.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{word}` is no level of a factory reset: write `settings`, `system` or `all`")]
pub struct ParseLevelError {
    word: String,
}

impl FromStr for ResetLevel {
    type Err = ParseLevelError;

    fn from_str(word: &str) -> Result<Self, Self::Err> {
        let found = Self::ALL.into_iter().find(|level| level.as_str() == word);
        found.ok_or_else(|| ParseLevelError { word: word.chars().take(40).collect() })
    }
}

const ENTRY_PREFIX: &str = "reset_";
const ENTRY_SUFFIX: &str = ".conf";

/// File name of the boot menu's entry that starts a release to ask for a factory reset; it is the loader's
/// identity of the entry too.
pub fn reset_entry_name(version: Version) -> String {
    format!("{ENTRY_PREFIX}{version}{ENTRY_SUFFIX}")
}

/// The release of such an entry, by the loader's identity of it; `None` for every other entry.
pub fn reset_entry_version(entry: &str) -> Option<Version> {
    entry.strip_prefix(ENTRY_PREFIX)?.strip_suffix(ENTRY_SUFFIX)?.parse().ok()
}

/// A factory reset that was ordered and is carried out by the next boot. In the boot record until it is done, so
/// that a power cut only delays it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PendingReset {
    /// How much.
    pub level: ResetLevel,
    /// Who ordered it, in words.
    #[serde(default)]
    pub why: String,
    /// Boots that began to carry it out.
    #[serde(default)]
    pub tries: u32,
    /// Seconds since 1970 by the board's clock when it was ordered.
    #[serde(default)]
    pub at_unix_s: u64,
}

/// How the last factory reset ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResetReport {
    /// How much.
    pub level: ResetLevel,
    /// True when all of it was done.
    pub done: bool,
    /// One sentence: who ordered it, or why it was given up.
    #[serde(default)]
    pub reason: String,
    /// Seconds since 1970 by the board's clock when it was ordered.
    #[serde(default)]
    pub at_unix_s: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_entry_that_asks_for_a_reset_is_taken_for_it() {
        let version: Version = "2026.11.1".parse().unwrap();
        assert_eq!(reset_entry_name(version), "reset_2026.11.1.conf");
        assert_eq!(reset_entry_version(&reset_entry_name(version)), Some(version));
        for other in ["", "reset_.conf", "reset_2.efi", "goblinux_2.efi", "reset_2+3.conf"] {
            assert_eq!(reset_entry_version(other), None, "{other}");
        }
    }

    #[test]
    fn every_level_has_a_word_and_takes_more_than_the_one_before() {
        for level in ResetLevel::ALL {
            assert_eq!(level.as_str().parse(), Ok(level));
            assert_eq!(serde_json::to_string(&level).unwrap(), format!("\"{level}\""));
        }
        assert!("everything".parse::<ResetLevel>().is_err());
        for pair in ResetLevel::ALL.windows(2) {
            let [less, more] = pair else { panic!() };
            assert!(less < more);
            assert!(less.goes().iter().all(|what| more.goes().contains(what)));
            assert!(more.stays().iter().all(|what| less.stays().contains(what)));
        }
    }
}
