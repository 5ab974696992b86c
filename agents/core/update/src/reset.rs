//! Factory reset: what is ordered, what of STATE goes, and when the order is done. Pure.
//!
//! ```text
//! asked -> order: in the boot record -> reboot -> the unit `state` of the next boot:
//!     begin (counted) -> for each entry of STATE its fate -> all on the disk -> done: out of the record
//!        ^------------------- power cut: the next boot begins anew ---------------------------'
//!        after TRIES_MAX boots that could not: given up, with the reason
//! ```
//! Invariants: nothing is removed that the record did not order first; the order leaves the record only after
//! everything that shall go is gone, or after it was given up; what stays is never touched, whatever the power
//! does; the disks of the pool are not STATE's, and what STATE remembers of them stays at every level, for a
//! pool without that memory could be mounted from a disk that missed writes.

use goblin_core_types::{BootRecord, PendingReset, ResetLevel, ResetReport};

/// Boots that try to carry a reset out.
pub const TRIES_MAX: u32 = 3;
/// Longest text of who asked or why it failed, in characters.
const WORDS_MAX: usize = 200;
/// Option of the kernel's command line that orders a reset: `goblin.reset=LEVEL`.
pub const OPTION: &str = "goblin.reset=";

/// Folder of STATE with what the pool agent remembers of its disks.
const POOL: &str = "pool";

/// Why a reset cannot be ordered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refused {
    /// A flip awaits its verdict.
    #[error(
        "an upgrade of this board is not decided yet; try again when `goblin status` shows it idle"
    )]
    Upgrading,
    /// Both boards are on their way to another release.
    #[error("an upgrade of both boards is under way; try again when `goblin status` shows it done")]
    Pair,
}

/// Orders a reset. Of two orders the one that takes more counts.
///
/// # Errors
/// [`Refused`]; the record is as it was.
pub fn order(
    record: &mut BootRecord,
    level: ResetLevel,
    why: &str,
    at_unix_s: u64,
) -> Result<(), Refused> {
    if record.pending.is_some() {
        return Err(Refused::Upgrading);
    }
    if record.pair.is_some() {
        return Err(Refused::Pair);
    }
    let level = record.reset.as_ref().map_or(level, |known| known.level.max(level));
    let why = why.chars().filter(|c| !c.is_control()).take(WORDS_MAX).collect();
    record.reset = Some(PendingReset { level, why, tries: 0, at_unix_s });
    Ok(())
}

/// The reset that the kernel's command line orders, the last one where there are several.
pub fn on_command_line(line: &str) -> Option<ResetLevel> {
    line.split_whitespace().rev().find_map(|word| word.strip_prefix(OPTION)?.parse().ok())
}

/// A boot begins to carry out what is ordered; answers how much. Durable before anything is removed.
pub fn begin(record: &mut BootRecord) -> Option<ResetLevel> {
    let pending = record.reset.as_mut()?;
    if pending.tries >= TRIES_MAX {
        give_up(record, "the boots that tried it ended before it was done");
        return None;
    }
    pending.tries = pending.tries.saturating_add(1);
    Some(pending.level)
}

/// Everything that shall go is gone.
pub fn done(record: &mut BootRecord) {
    let Some(PendingReset { level, why, at_unix_s, .. }) = record.reset.take() else { return };
    if level >= ResetLevel::System {
        // This boot is the first of the new life.
        let newest = record.attempts.len().saturating_sub(1);
        record.attempts.drain(..newest);
        record.reports.clear();
        record.quarantine.clear();
    }
    record.last_reset = Some(ResetReport { level, done: true, reason: why, at_unix_s });
}

/// Something that shall go could not be removed.
pub fn failed(record: &mut BootRecord, reason: &str) {
    if record.reset.as_ref().is_some_and(|pending| pending.tries >= TRIES_MAX) {
        give_up(record, reason);
    }
}

fn give_up(record: &mut BootRecord, reason: &str) {
    let Some(PendingReset { level, at_unix_s, .. }) = record.reset.take() else { return };
    let reason: String = reason.chars().filter(|c| !c.is_control()).take(WORDS_MAX).collect();
    let reason = format!("given up after {TRIES_MAX} boots: {reason}");
    record.last_reset = Some(ResetReport { level, done: false, reason, at_unix_s });
}

/// What becomes of an entry of STATE.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It is removed, with everything in it.
    Goes,
    /// It is not touched.
    Stays,
    /// A folder with both in it: its entries are asked for one by one.
    Divided,
}

/// What becomes of an entry by its path below STATE, `config/access.json`. What is not known here is gathered
/// and goes with the system, but not with the settings.
pub fn fate(level: ResetLevel, path: &str) -> Fate {
    let settings = match path {
        "config" | "update" => Fate::Divided,
        "config/access.json" | "config/units" | "update/settings.json" => Fate::Goes,
        _ => Fate::Stays,
    };
    match (level, path) {
        (_, POOL) => Fate::Stays,
        (ResetLevel::Settings, _) => settings,
        (ResetLevel::System, "config") => Fate::Divided,
        (ResetLevel::System, "config/provision.toml" | "config/provision-result.json") => {
            Fate::Stays
        }
        (ResetLevel::System | ResetLevel::All, _) => Fate::Goes,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use goblin_core_types::{Attempt, AttemptStage, PairPlan, PairStep, Version};
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    const STATE: [&str; 12] = [
        "config/provision.toml",
        "config/provision-result.json",
        "config/access.json",
        "config/units/share.toml",
        "config/of-tomorrow",
        "update/settings.json",
        "update/trusted.json",
        "update/blobs/aa",
        "journal/0000000000000001.gj",
        "pool/memory.json",
        "of-tomorrow/x",
        "stray",
    ];

    fn attempt(boot: u64) -> Attempt {
        Attempt {
            version: Version::new(1, 0, 0),
            boot,
            trial: false,
            stage: AttemptStage::Init,
            fail: None,
            last_lines: Vec::new(),
            at_unix_s: 0,
            end: None,
        }
    }

    /// Whether a file goes, by the fates of the folders above it and its own.
    fn goes(level: ResetLevel, file: &str) -> bool {
        let ends = file.match_indices('/').map(|(at, _)| at).chain([file.len()]);
        for end in ends {
            match fate(level, &file[..end]) {
                Fate::Goes => return true,
                Fate::Stays => return false,
                Fate::Divided => {}
            }
        }
        panic!("{file} is no folder")
    }

    fn left(level: ResetLevel) -> BTreeSet<&'static str> {
        STATE.into_iter().filter(|file| !goes(level, file)).collect()
    }

    #[test]
    fn each_level_leaves_what_people_are_told() {
        let all = left(ResetLevel::All);
        assert_eq!(all, BTreeSet::from(["pool/memory.json"]));
        let system = left(ResetLevel::System);
        let identity = ["config/provision.toml", "config/provision-result.json"];
        assert_eq!(system, all.iter().copied().chain(identity).collect());
        let gone: Vec<_> =
            STATE.into_iter().filter(|file| !left(ResetLevel::Settings).contains(file)).collect();
        assert_eq!(gone, ["config/access.json", "config/units/share.toml", "update/settings.json"]);
        assert!(system.is_subset(&left(ResetLevel::Settings)));
    }

    #[test]
    fn a_reset_waits_for_an_upgrade_and_of_two_the_greater_counts() {
        let mut record = BootRecord::default();
        let plan = PairPlan {
            to: Version::new(2, 0, 0),
            rollback: false,
            step: PairStep::Staging,
            orders: 0,
            from: None,
        };
        record.pair = Some(plan);
        assert_eq!(order(&mut record, ResetLevel::All, "x", 1), Err(Refused::Pair));
        record.pair = None;
        order(&mut record, ResetLevel::All, "x", 1).unwrap();
        order(&mut record, ResetLevel::Settings, "y", 2).unwrap();
        assert_eq!(begin(&mut record), Some(ResetLevel::All));
    }

    #[test]
    fn what_is_done_is_forgotten_with_what_explained_the_old_system() {
        for level in ResetLevel::ALL {
            let mut record =
                BootRecord { attempts: vec![attempt(1), attempt(2)], ..BootRecord::default() };
            order(&mut record, level, "asked", 7).unwrap();
            begin(&mut record);
            done(&mut record);
            let report = record.last_reset.clone().unwrap();
            assert!(report.done && report.level == level && report.reason == "asked");
            assert_eq!(record.reset, None);
            let kept = if level == ResetLevel::Settings { 2 } else { 1 };
            assert_eq!(record.attempts.len(), kept);
            assert_eq!(record.attempts.last().unwrap().boot, 2);
        }
    }

    #[test]
    fn a_reset_that_cannot_be_done_does_not_go_on_for_ever() {
        let mut record = BootRecord::default();
        order(&mut record, ResetLevel::System, "asked", 7).unwrap();
        for _ in 0..TRIES_MAX {
            assert_eq!(begin(&mut record), Some(ResetLevel::System));
            failed(&mut record, "the disk\nfails");
        }
        assert_eq!(begin(&mut record), None);
        let report = record.last_reset.unwrap();
        assert!(!report.done && report.reason.contains("the diskfails"), "{report:?}");
        // Cut off each time, without a word.
        let mut record = BootRecord::default();
        order(&mut record, ResetLevel::System, "asked", 7).unwrap();
        let begun = (0..10).filter(|_| begin(&mut record).is_some()).count();
        assert_eq!(begun, 3);
        assert!(!record.last_reset.unwrap().done);
    }

    #[test]
    fn the_command_line_names_a_level_or_nothing() {
        assert_eq!(on_command_line("quiet goblin.reset=system panic=5"), Some(ResetLevel::System));
        for odd in ["", "quiet", "goblin.reset=", "goblin.reset=everything", "xgoblin.reset=all"] {
            assert_eq!(on_command_line(odd), None, "{odd}");
        }
    }

    proptest! {
        /// The power is cut after any removal, as often as you like: no file goes that is not ordered, and the
        /// order leaves the record only when all of them are gone or it is given up.
        #[test]
        fn cuts_only_delay_a_reset(
            level in 0usize..3,
            cuts in proptest::collection::vec(0usize..16, 0..5),
            ordered: bool,
        ) {
            let level = ResetLevel::ALL[level];
            let mut record = BootRecord::default();
            if ordered {
                order(&mut record, level, "asked", 1).unwrap();
            }
            let mut state: BTreeSet<&str> = STATE.into_iter().collect();
            for cut in cuts.into_iter().chain([usize::MAX]) {
                let Some(level) = begin(&mut record) else { continue };
                let gone: Vec<_> = state.iter().copied().filter(|file| goes(level, file)).collect();
                let removed = gone.len().min(cut);
                for file in &gone[..removed] {
                    state.remove(file);
                }
                if removed == gone.len() && cut == usize::MAX {
                    done(&mut record);
                }
            }
            let stays = left(level);
            prop_assert!(state.is_superset(&stays));
            prop_assert_eq!(record.reset.is_none(), true);
            match record.last_reset {
                Some(report) if report.done => prop_assert_eq!(state, stays),
                Some(_) => {}
                None => {
                    prop_assert!(!ordered);
                    prop_assert_eq!(state.len(), STATE.len());
                }
            }
        }

        #[test]
        fn any_text_is_answered(line in ".{0,200}", path in ".{0,60}") {
            let _ = on_command_line(&line);
            for level in ResetLevel::ALL {
                let _ = fate(level, &path);
            }
        }
    }
}
