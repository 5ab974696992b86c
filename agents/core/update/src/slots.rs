//! The UKIs on the ESP: their names, their order, and the renames that switch between them.
//!
//! A name is `goblinux_VERSION[+LEFT[-DONE]].efi`, systemd-boot's boot counting (UAPI boot loader
//! specification, "Boot counting"). systemd-boot 257 sorts entries with no tries left behind all
//! others, then by version, newest first, and boots the first, even when it has no tries left.
//!
//! Going back is therefore one rename per newer release, to `+0-1`: the loader passes it over while
//! anything else is left. The older one is tried with a counter like any other, for what was good once
//! need not be good with today's data: when it uses up its tries, the loader takes the newest of those
//! passed over, and that must be the release that ran. Each rename changes one directory entry, so a
//! power cut leaves the old name or the new one.

use goblin_core_types::{PINS_MAX, SlotState, SlotStatus, Version};

/// Tries of a release that was not blessed yet.
pub const TRIES_MAX: u32 = 3;
/// UKIs on the ESP, so that the directory stays within the sector that makes renames atomic.
pub const SLOTS_MAX: usize = 3;
/// Where a UKI is written before it is armed; the loader ignores it.
pub const NEW_FILE: &str = ".new";

const PREFIX: &str = "goblinux_";
const SUFFIX: &str = ".efi";
/// Largest counter read; the loader's own limit is higher, but nobody writes such names.
const COUNTER_MAX: u32 = 999;

/// The file name of a release in a state.
pub fn file_name(version: Version, state: SlotState) -> String {
    match state {
        SlotState::Good => format!("{PREFIX}{version}{SUFFIX}"),
        SlotState::Trial { left, done: 0 } => format!("{PREFIX}{version}+{left}{SUFFIX}"),
        SlotState::Trial { left, done } => format!("{PREFIX}{version}+{left}-{done}{SUFFIX}"),
        SlotState::Bad { done } => format!("{PREFIX}{version}+0-{done}{SUFFIX}"),
    }
}

/// Reads a file name; `None` for files that are not ours.
pub fn parse_file_name(name: &str) -> Option<(Version, SlotState)> {
    let stem = name.strip_prefix(PREFIX)?.strip_suffix(SUFFIX)?;
    let Some((version, counters)) = stem.split_once('+') else {
        return Some((stem.parse().ok()?, SlotState::Good));
    };
    let (left, done) = match counters.split_once('-') {
        Some((left, done)) => (counter(left)?, counter(done)?),
        None => (counter(counters)?, 0),
    };
    let state = if left == 0 { SlotState::Bad { done } } else { SlotState::Trial { left, done } };
    Some((version.parse().ok()?, state))
}

fn counter(text: &str) -> Option<u32> {
    let digits = (1..=3).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
    digits.then(|| text.parse().ok())?.filter(|&n| n <= COUNTER_MAX)
}

/// A file on the ESP and its size in bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EspFile {
    /// Name in `EFI/Linux`.
    pub name: String,
    /// Size in bytes.
    pub size_bytes: u64,
}

/// The slots among the files of `EFI/Linux`, in the loader's order.
pub fn slots(files: &[EspFile], running: Version) -> Vec<SlotStatus> {
    let mut slots: Vec<SlotStatus> = files
        .iter()
        .filter_map(|file| {
            let (version, state) = parse_file_name(&file.name)?;
            Some(SlotStatus {
                version,
                file: file.name.clone(),
                state,
                running: version == running,
                size_bytes: file.size_bytes,
            })
        })
        .collect();
    slots.sort_by_key(loader_order);
    slots
}

/// systemd-boot 257's order, `boot_entry_compare`: the least is booted.
fn loader_order(
    slot: &SlotStatus,
) -> (bool, std::cmp::Reverse<Version>, std::cmp::Reverse<u32>, u32) {
    let (bad, left, done) = match slot.state {
        SlotState::Good => (false, u32::MAX, 0),
        SlotState::Trial { left, done } => (false, left, done),
        SlotState::Bad { done } => (true, 0, done),
    };
    (bad, std::cmp::Reverse(slot.version), std::cmp::Reverse(left), done)
}

/// The slot the loader would boot now.
pub fn loader_pick(slots: &[SlotStatus]) -> Option<&SlotStatus> {
    slots.iter().min_by_key(|slot| loader_order(slot))
}

/// The name a slot has after the loader counted a try, as the loader itself renames it.
pub fn counted(slot: &SlotStatus) -> String {
    let state = match slot.state {
        SlotState::Good => SlotState::Good,
        SlotState::Bad { done } => SlotState::Bad { done: done.saturating_add(1) },
        SlotState::Trial { left, done } => match left.saturating_sub(1) {
            0 => SlotState::Bad { done: done.saturating_add(1) },
            left => SlotState::Trial { left, done: done.saturating_add(1) },
        },
    };
    file_name(slot.version, state)
}

/// One change of the ESP's directory. Made in order, each durable before the next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EspStep {
    /// Renames a file inside `EFI/Linux`; what has the new name is replaced.
    Rename {
        /// Present name.
        from: String,
        /// New name.
        to: String,
    },
    /// Removes a file of `EFI/Linux`.
    Delete {
        /// Name.
        file: String,
    },
}

/// Where the release to boot next comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FlipSource {
    /// [`NEW_FILE`], verified on the disk.
    New,
    /// The file that already is on the ESP, verified on the disk, with fresh tries.
    Existing,
    /// The blessed file that already is on the ESP: it proved itself before, and gets fresh tries.
    Blessed,
}

/// Why the ESP was not touched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SlotError {
    /// The release is not on the ESP.
    #[error(
        "release {version} is not on the boot disk; fetch it with `goblin upgrade --to {version}`"
    )]
    Absent {
        /// Version.
        version: Version,
    },
    /// The release that runs cannot be flipped to.
    #[error("release {version} runs already; there is nothing to do")]
    Running {
        /// Version.
        version: Version,
    },
    /// Nothing older that proved itself is on the ESP.
    #[error(
        "no good release older than {running} is on the boot disk; name one to fetch: `goblin upgrade --to VERSION`"
    )]
    NothingOlder {
        /// What runs.
        running: Version,
    },
    /// The place that is needed is held by pinned releases.
    #[error(
        "the boot disk has no place for release {to}: {pinned} releases on it are pinned; let one go with `goblin unpin VERSION`"
    )]
    Pinned {
        /// Release that needs it.
        to: Version,
        /// How many.
        pinned: usize,
    },
    /// A pinned release would be deleted.
    #[error(
        "release {version} is pinned, and going to release {to} would delete it; let it go with `goblin unpin {version}`"
    )]
    PinnedInTheWay {
        /// The pinned one.
        version: Version,
        /// Where the way leads.
        to: Version,
    },
    /// As many releases are pinned as may be.
    #[error("{PINS_MAX} releases are pinned already; let one go with `goblin unpin VERSION`")]
    PinsFull,
    /// Files of others leave no room in the folder.
    #[error(
        "the folder EFI/Linux of the boot disk holds {foreign_count} files that are not goblinux's, so that names there can no longer be changed safely; move them to another folder of that disk"
    )]
    Crowded {
        /// Files of others.
        foreign_count: usize,
    },
    /// A release on the ESP that never proved itself here.
    #[error(
        "release {version} on the boot disk is not known to be good; try it with `goblin upgrade --to {version}`"
    )]
    NotGood {
        /// Version.
        version: Version,
    },
}

/// The renames after which the loader boots `to` next.
///
/// Order: the target gets its name first, then what the loader would prefer is taken back, the running
/// release last. Cut anywhere, the loader boots the running release or the target.
///
/// # Errors
/// [`SlotError`]; nothing is changed.
pub fn flip(
    slots: &[SlotStatus],
    to: Version,
    source: FlipSource,
) -> Result<Vec<EspStep>, SlotError> {
    if slots.iter().any(|slot| slot.running && slot.version == to) {
        return Err(SlotError::Running { version: to });
    }
    let mut steps = Vec::new();
    let fresh = file_name(to, SlotState::Trial { left: TRIES_MAX, done: 0 });
    let existing = || slots.iter().filter(|slot| slot.version == to);
    match source {
        FlipSource::New => {
            // A file of the same version is an older build of it: two entries of one version would
            // leave the choice to the loader.
            steps.extend(existing().map(|slot| EspStep::Delete { file: slot.file.clone() }));
            steps.push(EspStep::Rename { from: NEW_FILE.into(), to: fresh });
        }
        FlipSource::Existing => {
            let slot = existing().next().ok_or(SlotError::Absent { version: to })?;
            if slot.file != fresh {
                steps.push(EspStep::Rename { from: slot.file.clone(), to: fresh });
            }
        }
        FlipSource::Blessed => {
            let slot = existing()
                .find(|slot| slot.state == SlotState::Good)
                .ok_or(SlotError::NotGood { version: to })?;
            steps.push(EspStep::Rename { from: slot.file.clone(), to: fresh });
        }
    }
    steps.extend(unproven(slots, to));
    let deleted: Vec<&str> = steps
        .iter()
        .filter_map(|step| match step {
            EspStep::Delete { file } => Some(file.as_str()),
            EspStep::Rename { .. } => None,
        })
        .collect();
    let mut preferred: Vec<&SlotStatus> = slots
        .iter()
        .filter(|slot| slot.version > to && !matches!(slot.state, SlotState::Bad { .. }))
        .filter(|slot| !deleted.contains(&slot.file.as_str()))
        .collect();
    preferred.sort_by_key(|slot| slot.running);
    steps.extend(preferred.into_iter().map(|slot| EspStep::Rename {
        from: slot.file.clone(),
        to: file_name(slot.version, SlotState::Bad { done: 1 }),
    }));
    Ok(steps)
}

/// Deletes what the loader would prefer to the running release if `to` fails, and what never passed a
/// trial: those with tries left, and, where the running release is passed over too, those above it that
/// were set aside or failed.
fn unproven(slots: &[SlotStatus], to: Version) -> Vec<EspStep> {
    let passed_over = slots.iter().find(|slot| slot.running && slot.version > to);
    let in_the_way = |slot: &&SlotStatus| match slot.state {
        SlotState::Good => false,
        SlotState::Trial { .. } => true,
        SlotState::Bad { .. } => passed_over.is_some_and(|running| slot.version > running.version),
    };
    slots
        .iter()
        .filter(|slot| !slot.running && slot.version != to)
        .filter(in_the_way)
        .map(|slot| EspStep::Delete { file: slot.file.clone() })
        .collect()
}

/// The rename that blesses the running release; `None` when it is blessed already.
///
/// # Errors
/// [`SlotError::Absent`] when its file is gone.
pub fn bless(slots: &[SlotStatus], running: Version) -> Result<Option<EspStep>, SlotError> {
    let mine = || slots.iter().filter(|slot| slot.version == running);
    if mine().any(|slot| slot.state == SlotState::Good) {
        return Ok(None);
    }
    let slot = mine().next().ok_or(SlotError::Absent { version: running })?;
    let to = file_name(running, SlotState::Good);
    Ok(Some(EspStep::Rename { from: slot.file.clone(), to }))
}

/// The release to go back to.
///
/// # Errors
/// [`SlotError`] with the remedy.
pub fn rollback_target(
    slots: &[SlotStatus],
    running: Version,
    to: Option<Version>,
) -> Result<Version, SlotError> {
    let good = |slot: &&SlotStatus| slot.state == SlotState::Good && slot.version != running;
    let Some(to) = to else {
        let older = slots.iter().filter(good).map(|slot| slot.version).filter(|v| *v < running);
        return older.max().ok_or(SlotError::NothingOlder { running });
    };
    if to == running {
        return Err(SlotError::Running { version: to });
    }
    if slots.iter().filter(good).any(|slot| slot.version == to) {
        return Ok(to);
    }
    if slots.iter().any(|slot| slot.version == to) {
        return Err(SlotError::NotGood { version: to });
    }
    Err(SlotError::Absent { version: to })
}

/// Files to delete so that at most `keep_max` UKIs stay: first those that failed, then those never
/// tried, then the oldest good ones. The running release, those in `keep` and, while the running one is
/// not blessed, the newest good one are never among them.
pub fn prune(slots: &[SlotStatus], keep: &[Version], keep_max: usize) -> Vec<EspStep> {
    let blessed = slots.iter().any(|slot| slot.running && slot.state == SlotState::Good);
    let newest_good = slots
        .iter()
        .filter(|slot| !blessed && slot.state == SlotState::Good)
        .map(|slot| slot.version)
        .max();
    let mut spare: Vec<&SlotStatus> = slots
        .iter()
        .filter(|slot| {
            !slot.running && !keep.contains(&slot.version) && Some(slot.version) != newest_good
        })
        .collect();
    let worth = |slot: &SlotStatus| match slot.state {
        SlotState::Bad { .. } => 0u8,
        SlotState::Trial { .. } => 1,
        SlotState::Good => 2,
    };
    spare.sort_by_key(|slot| (worth(slot), slot.version));
    let excess = slots.len().saturating_sub(keep_max);
    spare.into_iter().take(excess).map(|slot| EspStep::Delete { file: slot.file.clone() }).collect()
}

/// Short entries of the ESP's folder that one sector of 512 bytes holds, 32 bytes each.
const SECTOR_ENTRIES: usize = 16;
/// Entries of a folder itself: `.` and `..`.
const OWN_ENTRIES: usize = 2;
/// Characters that one entry of a long name holds (FAT specification, section 7).
const LONG_NAME_CHARS: usize = 13;

/// Short directory entries that a file of this name takes: one, and those of its long name.
pub fn directory_entries(name: &str) -> usize {
    name.encode_utf16().count().div_ceil(LONG_NAME_CHARS).saturating_add(1)
}

/// The longest name that a release has in its life.
fn entries_of(version: Version) -> usize {
    directory_entries(&file_name(version, SlotState::Bad { done: TRIES_MAX }))
}

/// Files to delete before `to` may have a name beside the others: so many that at most [`SLOTS_MAX`] UKIs
/// are left, and that all names, and one more while a file is renamed, lie in one sector of the folder.
/// `names` is everything in the folder; `pins` are never deleted.
///
/// # Errors
/// [`SlotError::Pinned`] or [`SlotError::Crowded`] when there is no such choice.
pub fn room(
    names: &[String],
    slots: &[SlotStatus],
    to: Version,
    pins: &[Version],
) -> Result<Vec<EspStep>, SlotError> {
    let foreign: Vec<&String> =
        names.iter().filter(|name| parse_file_name(name).is_none() && *name != NEW_FILE).collect();
    let foreign_entries: usize = foreign.iter().map(|name| directory_entries(name)).sum();
    let there = slots.iter().any(|slot| slot.version == to);
    let choice = |pins: &[Version]| {
        let keep: Vec<Version> = pins.iter().copied().chain([to]).collect();
        // The running release and the new one have to be there in any case.
        (2..=SLOTS_MAX).rev().find_map(|count_max| {
            let others_max = count_max.saturating_sub(usize::from(!there));
            let steps = prune(slots, &keep, others_max);
            let deleted = |slot: &SlotStatus| {
                steps.iter().any(|s| matches!(s, EspStep::Delete { file } if *file == slot.file))
            };
            let mut left: Vec<usize> = slots
                .iter()
                .filter(|slot| !deleted(slot))
                .map(|slot| entries_of(slot.version))
                .collect();
            if left.len() > others_max {
                return None;
            }
            left.extend((!there).then(|| entries_of(to)));
            let longest = left.iter().copied().max().unwrap_or(0);
            let all = left.iter().sum::<usize>().saturating_add(longest);
            let all = all.saturating_add(OWN_ENTRIES).saturating_add(foreign_entries);
            (all <= SECTOR_ENTRIES).then_some(steps)
        })
    };
    if let Some(steps) = choice(pins) {
        return Ok(steps);
    }
    if choice(&[]).is_some() {
        return Err(SlotError::Pinned { to, pinned: pins.len() });
    }
    Err(SlotError::Crowded { foreign_count: foreign.len() })
}

/// Refuses steps that delete a pinned release.
///
/// # Errors
/// [`SlotError::PinnedInTheWay`].
pub fn spare_pinned(
    slots: &[SlotStatus],
    steps: &[EspStep],
    to: Version,
    pins: &[Version],
) -> Result<(), SlotError> {
    let hit = slots.iter().find(|slot| {
        pins.contains(&slot.version)
            && steps.iter().any(|s| matches!(s, EspStep::Delete { file } if *file == slot.file))
    });
    hit.map_or(Ok(()), |slot| Err(SlotError::PinnedInTheWay { version: slot.version, to }))
}

/// Adds a release to the pinned ones.
///
/// # Errors
/// [`SlotError`] when it is not on the ESP, not good, or too many are pinned.
pub fn pin(
    slots: &[SlotStatus],
    pins: &[Version],
    release: Version,
) -> Result<Vec<Version>, SlotError> {
    if pins.contains(&release) {
        return Ok(pins.to_vec());
    }
    let mine = || slots.iter().filter(|slot| slot.version == release);
    if mine().next().is_none() {
        return Err(SlotError::Absent { version: release });
    }
    if !mine().any(|slot| slot.state == SlotState::Good) {
        return Err(SlotError::NotGood { version: release });
    }
    if pins.len() >= PINS_MAX {
        return Err(SlotError::PinsFull);
    }
    Ok(pins.iter().copied().chain([release]).collect())
}

/// What a step makes of the list of files; for previews and tests. Unknown files change nothing.
pub fn apply(files: &mut Vec<EspFile>, step: &EspStep) {
    match step {
        EspStep::Delete { file } => files.retain(|present| present.name != *file),
        EspStep::Rename { from, to } => {
            if from == to || !files.iter().any(|present| present.name == *from) {
                return;
            }
            files.retain(|present| present.name != *to);
            for present in files.iter_mut().filter(|present| present.name == *from) {
                present.name.clone_from(to);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn v(n: u32) -> Version {
        Version::new(n, 0, 0)
    }

    fn files(names: &[&str]) -> Vec<EspFile> {
        names.iter().map(|name| EspFile { name: (*name).into(), size_bytes: 1 }).collect()
    }

    fn pick(files: &[EspFile]) -> String {
        loader_pick(&slots(files, v(0))).unwrap().file.clone()
    }

    #[test]
    fn newest_with_tries_is_booted_and_spent_ones_come_last() {
        assert_eq!(pick(&files(&["goblinux_9.efi", "goblinux_10+3.efi"])), "goblinux_10+3.efi");
        assert_eq!(pick(&files(&["goblinux_9.efi", "goblinux_10+0-3.efi"])), "goblinux_9.efi");
        let spent = files(&["goblinux_9+0-3.efi", "goblinux_10+0-1.efi"]);
        assert_eq!(pick(&spent), "goblinux_10+0-1.efi");
    }

    #[test]
    fn names_of_others_are_left_alone() {
        for name in [
            ".new",
            "goblinux_.efi",
            "goblinux_2+.efi",
            "goblinux_2+x.efi",
            "linux.efi",
            "goblinux_2+1-.efi",
            "goblinux_2+1000.efi",
            "goblinux_2.EFI",
            "goblinux_2+-1.efi",
        ] {
            assert_eq!(parse_file_name(name), None, "{name}");
        }
    }

    fn steps_leave(names: &[&str], running: u32, to: u32, source: FlipSource) -> Vec<String> {
        let mut now = files(names);
        for step in flip(&slots(&now, v(running)), v(to), source).unwrap() {
            apply(&mut now, &step);
        }
        now.into_iter().map(|file| file.name).collect()
    }

    #[test]
    fn upgrade_is_one_rename() {
        let names = steps_leave(&["goblinux_1.efi", ".new"], 1, 2, FlipSource::New);
        assert_eq!(names, ["goblinux_1.efi", "goblinux_2+3.efi"]);
    }

    #[test]
    fn rollback_marks_what_the_loader_would_prefer() {
        let names = steps_leave(
            &["goblinux_1.efi", "goblinux_2.efi", "goblinux_3.efi"],
            3,
            1,
            FlipSource::Blessed,
        );
        assert_eq!(names, ["goblinux_1+3.efi", "goblinux_2+0-1.efi", "goblinux_3+0-1.efi"]);
    }

    #[test]
    fn going_back_is_counted_and_returns_to_the_release_that_ran() {
        // 3 was set aside, 4 failed and its file was left behind by a power cut: neither may be what the
        // loader falls back to.
        let esp = ["goblinux_1.efi", "goblinux_2.efi", "goblinux_3+0-1.efi", "goblinux_4+0-3.efi"];
        for source in [FlipSource::Blessed, FlipSource::Existing, FlipSource::New] {
            let mut names = esp.to_vec();
            names.push(NEW_FILE);
            let mut now = files(
                &steps_leave(&names, 2, 1, source).iter().map(String::as_str).collect::<Vec<_>>(),
            );
            for _ in 0..TRIES_MAX {
                let all = slots(&now, v(2));
                let tried = loader_pick(&all).unwrap();
                assert_eq!(tried.version, v(1), "{source:?}");
                apply(&mut now, &EspStep::Rename { from: tried.file.clone(), to: counted(tried) });
            }
            assert_eq!(loader_pick(&slots(&now, v(2))).unwrap().version, v(2), "{source:?}");
        }
    }

    #[test]
    fn failed_trial_of_an_older_release_returns_to_the_newer() {
        let names = steps_leave(&["goblinux_2.efi", ".new"], 2, 1, FlipSource::New);
        assert_eq!(names, ["goblinux_2+0-1.efi", "goblinux_1+3.efi"]);
        let mut now: Vec<EspFile> = files(&names.iter().map(String::as_str).collect::<Vec<_>>());
        for _ in 0..TRIES_MAX {
            let all = slots(&now, v(2));
            let tried = loader_pick(&all).unwrap();
            assert_eq!(tried.version, v(1));
            apply(&mut now, &EspStep::Rename { from: tried.file.clone(), to: counted(tried) });
        }
        assert_eq!(loader_pick(&slots(&now, v(2))).unwrap().version, v(2));
    }

    #[test]
    fn rollback_names_its_target_or_the_remedy() {
        let all = slots(&files(&["goblinux_1.efi", "goblinux_2.efi", "goblinux_3+0-1.efi"]), v(2));
        assert_eq!(rollback_target(&all, v(2), None), Ok(v(1)));
        assert_eq!(
            rollback_target(&all, v(2), Some(v(3))),
            Err(SlotError::NotGood { version: v(3) })
        );
        assert_eq!(
            rollback_target(&all, v(2), Some(v(7))),
            Err(SlotError::Absent { version: v(7) })
        );
        assert_eq!(
            rollback_target(&all, v(2), Some(v(2))),
            Err(SlotError::Running { version: v(2) })
        );
        assert_eq!(
            rollback_target(&all[..1], v(2), None),
            Err(SlotError::NothingOlder { running: v(2) })
        );
    }

    fn room_leaves(names: &[&str], to: Version, pins: &[u32]) -> Result<Vec<String>, SlotError> {
        let mut now = files(names);
        let all: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let pins: Vec<Version> = pins.iter().map(|n| v(*n)).collect();
        for step in room(&all, &slots(&now, v(3)), to, &pins)? {
            apply(&mut now, &step);
        }
        Ok(now.into_iter().map(|file| file.name).collect())
    }

    #[test]
    fn room_is_made_by_the_oldest_that_is_not_pinned() {
        let esp = ["goblinux_1.efi", "goblinux_2.efi", "goblinux_3.efi"];
        assert_eq!(room_leaves(&esp, v(4), &[]).unwrap(), esp[1..]);
        assert_eq!(room_leaves(&esp, v(4), &[1]).unwrap(), [esp[0], esp[2]]);
        assert_eq!(
            room_leaves(&esp, v(4), &[1, 2]),
            Err(SlotError::Pinned { to: v(4), pinned: 2 })
        );
    }

    #[test]
    fn long_names_and_files_of_others_leave_less_room() {
        let long = Version::new(99_999, 99_999, 99_999);
        let esp = ["goblinux_1.efi", "goblinux_2.efi", "goblinux_3.efi"];
        assert_eq!(directory_entries(&file_name(long, SlotState::Bad { done: 3 })), 4);
        assert_eq!(room_leaves(&esp, long, &[]).unwrap(), esp[1..]);
        let with: Vec<&str> = esp.into_iter().chain(["debian.efi"]).collect();
        assert_eq!(room_leaves(&with, long, &[]).unwrap(), [esp[2], "debian.efi"]);
        let many: Vec<String> = (0..50).map(|n| format!("other{n}.efi")).collect();
        let many: Vec<&str> = esp.into_iter().chain(many.iter().map(String::as_str)).collect();
        let refused = room_leaves(&many, v(4), &[1]);
        assert_eq!(refused, Err(SlotError::Crowded { foreign_count: 50 }));
    }

    #[test]
    fn a_pinned_release_is_not_in_the_way() {
        let all = slots(&files(&["goblinux_1.efi", "goblinux_2.efi", "goblinux_3+0-1.efi"]), v(2));
        let steps = flip(&all, v(1), FlipSource::Blessed).unwrap();
        assert_eq!(spare_pinned(&all, &steps, v(1), &[v(2)]), Ok(()));
        let refused = spare_pinned(&all, &steps, v(1), &[v(3)]);
        assert_eq!(refused, Err(SlotError::PinnedInTheWay { version: v(3), to: v(1) }));
    }

    #[test]
    fn only_good_releases_are_pinned_and_not_all() {
        let all = slots(&files(&["goblinux_1.efi", "goblinux_2.efi", "goblinux_3+3.efi"]), v(2));
        assert_eq!(pin(&all, &[], v(1)), Ok(vec![v(1)]));
        assert_eq!(pin(&all, &[v(1)], v(1)), Ok(vec![v(1)]));
        assert_eq!(pin(&all, &[], v(3)), Err(SlotError::NotGood { version: v(3) }));
        assert_eq!(pin(&all, &[], v(9)), Err(SlotError::Absent { version: v(9) }));
        assert_eq!(pin(&all, &[v(7), v(8)], v(1)), Err(SlotError::PinsFull));
    }

    fn any_file() -> impl Strategy<Value = EspFile> {
        (
            1u32..6,
            prop_oneof![
                Just(SlotState::Good),
                (1u32..4, 0u32..3).prop_map(|(left, done)| SlotState::Trial { left, done }),
                (0u32..4).prop_map(|done| SlotState::Bad { done }),
            ],
        )
            .prop_map(|(n, state)| EspFile { name: file_name(v(n), state), size_bytes: 1 })
    }

    fn any_esp() -> impl Strategy<Value = (Vec<EspFile>, u32)> {
        // One file per version, the running one blessed among them.
        (proptest::collection::vec(any_file(), 0..5), 1u32..6).prop_map(|(mut files, running)| {
            files.push(EspFile { name: file_name(v(running), SlotState::Good), size_bytes: 1 });
            files.reverse();
            let mut seen = Vec::new();
            files.retain(|file| {
                let version = parse_file_name(&file.name).unwrap().0;
                let new = !seen.contains(&version);
                seen.push(version);
                new
            });
            (files, running)
        })
    }

    proptest! {
        #[test]
        fn written_names_read_back(file in any_file()) {
            let (version, state) = parse_file_name(&file.name).unwrap();
            prop_assert_eq!(file_name(version, state), file.name);
        }

        #[test]
        fn any_name_is_answered(name in "(goblinux_)?[0-9.+-]{0,12}(\\.efi)?") {
            let _ = parse_file_name(&name);
        }

        #[test]
        fn flip_boots_the_target_and_a_cut_boots_target_or_running(
            (mut files, running) in any_esp(), to in 1u32..7, blessed: bool,
        ) {
            let all = slots(&files, v(running));
            let before = loader_pick(&all).unwrap().version;
            let good = all.iter().filter(|slot| slot.state == SlotState::Good);
            let good_before: Vec<Version> = good.map(|slot| slot.version).collect();
            files.push(EspFile { name: NEW_FILE.into(), size_bytes: 1 });
            let source = if blessed { FlipSource::Blessed } else { FlipSource::New };
            let Ok(steps) = flip(&slots(&files, v(running)), v(to), source) else { return Ok(()) };
            for step in &steps {
                apply(&mut files, step);
                let all = slots(&files, v(running));
                prop_assert!(all.iter().any(|slot| slot.running));
                // A preferred newer release that does not run is somebody's choice at the loader.
                if before == v(running) {
                    let pick = loader_pick(&all).unwrap().version;
                    prop_assert!(pick == v(running) || pick == v(to));
                }
            }
            prop_assert_eq!(loader_pick(&slots(&files, v(running))).unwrap().version, v(to));
            // However its tries end, what is taken then proved itself before.
            for _ in 0..TRIES_MAX {
                let all = slots(&files, v(running));
                let tried = loader_pick(&all).unwrap();
                let step = EspStep::Rename { from: tried.file.clone(), to: counted(tried) };
                apply(&mut files, &step);
            }
            let then = loader_pick(&slots(&files, v(running))).unwrap().version;
            prop_assert!(then == v(running) || good_before.contains(&then), "{:?}", files);
        }

        #[test]
        fn prune_keeps_the_running_and_a_good_one((files, running) in any_esp(), keep_max in 1usize..4) {
            let mut left = files.clone();
            for step in prune(&slots(&files, v(running)), &[], keep_max) {
                apply(&mut left, &step);
            }
            let all = slots(&left, v(running));
            prop_assert!(all.len() <= keep_max);
            prop_assert!(all.iter().any(|slot| slot.running));
            prop_assert!(all.iter().any(|slot| slot.state == SlotState::Good));
        }

        #[test]
        fn prune_during_a_trial_keeps_the_way_back((mut files, running) in any_esp()) {
            files.retain(|file| parse_file_name(&file.name).unwrap().0 != v(running));
            let trial = SlotState::Trial { left: 2, done: 1 };
            files.push(EspFile { name: file_name(v(running), trial), size_bytes: 1 });
            let was_good = slots(&files, v(running)).iter().any(|slot| slot.state == SlotState::Good);
            for step in prune(&slots(&files, v(running)), &[], 1) {
                apply(&mut files, &step);
            }
            let all = slots(&files, v(running));
            prop_assert_eq!(was_good, all.iter().any(|slot| slot.state == SlotState::Good));
        }
    }
}
