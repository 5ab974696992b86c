//! What to do with the data disks: pure.

use crate::sniff::{Btrfs, Content};
use goblin_core_types::{BoxId, DiskStatus, PoolState, PoolStatus};
use goblin_image::Guid;
use std::collections::BTreeSet;
use std::path::PathBuf;

/// Label of the pool's file system; for people, never for decisions.
pub(crate) const LABEL: &str = "goblin-pool";
/// A named disk that is missing may still spin up: with the others alone the pool is mounted only after
/// this time.
pub(crate) const GRACE_S: u64 = 30;
/// Missing disks hold up the boot no longer than this.
pub(crate) const BOOT_WAIT_S: u64 = 10;

/// UUID of a box's pool: the same on every boot and on a board that replaces this one.
pub(crate) fn pool_fsid(box_id: BoxId) -> Guid {
    Guid::derive(&[b"goblin-pool", &box_id.0])
}

/// One named disk as it is now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Sight {
    /// As the provisioning file names it.
    pub(crate) serial: String,
    pub(crate) place: Place,
}

/// Where a named disk is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Place {
    /// No disk tells this serial.
    Absent,
    /// Several do.
    Ambiguous,
    /// There, but it cannot be read, or something else uses it.
    Unusable { device: PathBuf, why: String },
    /// There.
    Found { device: PathBuf, size_bytes: u64, content: Content },
}

/// What to do now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Action {
    /// Nothing now: look again later.
    Wait,
    /// Make the pool on these devices.
    Format {
        devices: Vec<PathBuf>,
        /// The remains of an unfinished run of ours are on one of them.
        unfinished: bool,
    },
    /// Mount the pool from these devices; `degraded` when one of its disks is missing.
    Mount { devices: Vec<PathBuf>, degraded: bool },
}

/// What a disk is for this box.
enum Belonging<'a> {
    Gone,
    Blank,
    Unfinished,
    Ours(&'a Btrfs),
    Foreign,
}

fn belonging(sight: &Sight, fsid: Guid) -> Belonging<'_> {
    match &sight.place {
        Place::Absent => Belonging::Gone,
        Place::Ambiguous | Place::Unusable { .. } => Belonging::Foreign,
        Place::Found { content, .. } => match content {
            Content::Blank => Belonging::Blank,
            Content::Btrfs(btrfs) if btrfs.fsid != fsid => Belonging::Foreign,
            Content::Btrfs(btrfs) if btrfs.finished => Belonging::Ours(btrfs),
            Content::Btrfs(_) => Belonging::Unfinished,
            Content::Other(_) => Belonging::Foreign,
        },
    }
}

fn device_of(sight: &Sight) -> Option<PathBuf> {
    match &sight.place {
        Place::Found { device, .. } => Some(device.clone()),
        Place::Absent | Place::Ambiguous | Place::Unusable { .. } => None,
    }
}

/// Decides. A pool of this box is mounted with as many of its disks as are there; a new one is made only
/// when every named disk is there and blank.
///
/// `missed` are disks that were away while the pool was written to: they are never mounted without one
/// that was not.
pub(crate) fn decide(
    sights: &[Sight],
    fsid: Guid,
    missed: &BTreeSet<String>,
    waited_s: u64,
) -> (Action, PoolState, Option<String>) {
    let kinds: Vec<Belonging<'_>> = sights.iter().map(|sight| belonging(sight, fsid)).collect();
    let ours: Vec<PathBuf> = sights
        .iter()
        .zip(&kinds)
        .filter(|(_, kind)| matches!(kind, Belonging::Ours(_)))
        .filter_map(|(sight, _)| device_of(sight))
        .collect();
    let members = kinds.iter().filter_map(|kind| match kind {
        Belonging::Ours(btrfs) => Some(btrfs.devices),
        _ => None,
    });
    let gone = kinds.iter().filter(|kind| matches!(kind, Belonging::Gone)).count();
    if let Some(members) = members.max() {
        let complete = ours.len() as u64 >= members;
        if !complete && gone > 0 && waited_s < GRACE_S {
            return (Action::Wait, PoolState::Searching, Some(absent_sentence(sights)));
        }
        let is_stale = |sight: &&Sight| {
            missed.contains(&sight.serial) && matches!(belonging(sight, fsid), Belonging::Ours(_))
        };
        let stale = sights.iter().find(is_stale).map(|sight| sight.serial.as_str());
        if let Some(serial) = stale
            && sights.iter().filter(is_stale).count() == ours.len()
        {
            return (Action::Wait, PoolState::Absent, Some(stale_alone_sentence(serial)));
        }
        let whole = complete && stale.is_none();
        let state = if whole { PoolState::Mounted } else { PoolState::Degraded };
        let problem = match stale {
            Some(serial) if complete => Some(stale_sentence(serial)),
            _ => mounted_problem(sights, fsid, complete),
        };
        return (Action::Mount { devices: ours, degraded: !complete }, state, problem);
    }
    if kinds.iter().any(|kind| matches!(kind, Belonging::Foreign)) {
        return (Action::Wait, PoolState::Foreign, Some(foreign_sentence(sights, fsid)));
    }
    if gone > 0 {
        let state = if waited_s < BOOT_WAIT_S { PoolState::Searching } else { PoolState::Absent };
        return (Action::Wait, state, Some(absent_sentence(sights)));
    }
    let devices: Vec<PathBuf> = sights.iter().filter_map(device_of).collect();
    if devices.is_empty() {
        return (Action::Wait, PoolState::None, None);
    }
    let unfinished = kinds.iter().any(|kind| matches!(kind, Belonging::Unfinished));
    (Action::Format { devices, unfinished }, PoolState::Formatting, None)
}

fn stale_alone_sentence(serial: &str) -> String {
    format!(
        "data disk {serial} was away while the pool was written to, and the disk that has what it \
         missed is not there: put that one back; nothing is changed until then"
    )
}

fn stale_sentence(serial: &str) -> String {
    format!(
        "data disk {serial} was away while the pool was written to: what it missed is read from the other \
         disk, whose loss would lose it"
    )
}

fn absent_sentence(sights: &[Sight]) -> String {
    let names: Vec<&str> = sights
        .iter()
        .filter(|sight| sight.place == Place::Absent)
        .map(|sight| sight.serial.as_str())
        .collect();
    let (subject, cables) = match names.as_slice() {
        [one] => (format!("data disk {one} is not there"), "its power and data cable"),
        _ => (format!("data disks {} are not there", names.join(" and ")), "their cables"),
    };
    format!("{subject}: check {cables}; the pool is taken up when the disks are back")
}

fn foreign_sentence(sights: &[Sight], fsid: Guid) -> String {
    for sight in sights {
        if !matches!(belonging(sight, fsid), Belonging::Foreign) {
            continue;
        }
        let serial = &sight.serial;
        return match &sight.place {
            Place::Ambiguous => format!(
                "several disks call themselves {serial}, so none of them is touched: leave only one in"
            ),
            Place::Unusable { why, .. } => format!("data disk {serial} cannot be used: {why}"),
            Place::Found { content: Content::Btrfs(_), .. } => format!(
                "data disk {serial} holds a btrfs that this box did not make; it was not touched: put \
                 in a blank disk, or erase this one elsewhere if nothing on it is needed"
            ),
            Place::Found { content, .. } => format!(
                "data disk {serial} holds {content}; it was not touched: put in a blank disk, or erase \
                 this one elsewhere if nothing on it is needed"
            ),
            Place::Absent => continue,
        };
    }
    "a data disk cannot be used".to_owned()
}

fn mounted_problem(sights: &[Sight], fsid: Guid, complete: bool) -> Option<String> {
    let stranger =
        sights.iter().find(|sight| !matches!(belonging(sight, fsid), Belonging::Ours(_)));
    match (complete, stranger) {
        (true, None) => None,
        (true, Some(sight)) => Some(format!(
            "data disk {} is named by the provisioning file but is not part of the pool; it is not used",
            sight.serial
        )),
        (false, Some(sight)) if sight.place == Place::Absent => Some(format!(
            "the pool runs on one disk only, data disk {} is missing: everything is there, but a second \
             failure would lose it; check the disk's cables, then start the board again",
            sight.serial
        )),
        (false, Some(sight)) => Some(format!(
            "the pool runs on one disk only, data disk {} is not part of it: everything is there, but \
             a second failure would lose it; put the pool's own disk back and start the board again",
            sight.serial
        )),
        (false, None) => Some(
            "the pool was made with more disks than the provisioning file names: put them back and \
             start the board again"
                .to_owned(),
        ),
    }
}

/// The named disks for the status.
pub(crate) fn disk_status(sights: &[Sight], fsid: Guid) -> Vec<DiskStatus> {
    let name = |device: &std::path::Path| {
        device.file_name().map(|name| name.to_string_lossy().into_owned())
    };
    sights
        .iter()
        .map(|sight| {
            let (device, size_bytes, detail) = match &sight.place {
                Place::Absent => (None, 0, "not there".to_owned()),
                Place::Ambiguous => (None, 0, "several disks have this serial".to_owned()),
                Place::Unusable { device, why } => (name(device), 0, why.clone()),
                Place::Found { device, size_bytes, content } => {
                    let detail = match belonging(sight, fsid) {
                        Belonging::Ours(_) => "part of this box's pool".to_owned(),
                        Belonging::Unfinished => "pool being made".to_owned(),
                        Belonging::Blank => "blank".to_owned(),
                        _ => content.to_string(),
                    };
                    (name(device), *size_bytes, detail)
                }
            };
            DiskStatus { serial: sight.serial.clone(), device, size_bytes, detail }
        })
        .collect()
}

/// The word for how data is kept.
pub(crate) fn profile(disks: usize) -> &'static str {
    match disks {
        0 => "",
        1 => "single",
        _ => "raid1",
    }
}

/// True when the boot need not wait any longer.
pub(crate) fn is_decided(status: &PoolStatus) -> bool {
    !matches!(status.state, PoolState::Searching | PoolState::Formatting)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fsid() -> Guid {
        pool_fsid(BoxId([3; 16]))
    }

    fn found(serial: &str, content: Content) -> Sight {
        let device = PathBuf::from(format!("/dev/{serial}"));
        Sight { serial: serial.into(), place: Place::Found { device, size_bytes: 1, content } }
    }

    fn absent(serial: &str) -> Sight {
        Sight { serial: serial.into(), place: Place::Absent }
    }

    fn ours(devices: u64, finished: bool) -> Content {
        Content::Btrfs(Btrfs { fsid: fsid(), label: LABEL.into(), devices, finished })
    }

    fn foreign() -> Content {
        Content::Btrfs(Btrfs {
            fsid: Guid([1; 16]),
            label: LABEL.into(),
            devices: 1,
            finished: true,
        })
    }

    fn devices(names: &[&str]) -> Vec<PathBuf> {
        names.iter().map(|name| PathBuf::from(format!("/dev/{name}"))).collect()
    }

    #[test]
    fn blank_disks_become_the_pool_only_when_all_are_there() {
        let both = [found("a", Content::Blank), found("b", Content::Blank)];
        let format = Action::Format { devices: devices(&["a", "b"]), unfinished: false };
        assert_eq!(
            decide(&both, fsid(), &BTreeSet::new(), 0),
            (format, PoolState::Formatting, None)
        );
        for waited_s in [0, 1_000_000] {
            let one = [found("a", Content::Blank), absent("b")];
            let (action, state, problem) = decide(&one, fsid(), &BTreeSet::new(), waited_s);
            assert_eq!(action, Action::Wait);
            assert_eq!(state, if waited_s == 0 { PoolState::Searching } else { PoolState::Absent });
            assert!(problem.unwrap().contains("data disk b is not there"));
        }
    }

    #[test]
    fn nothing_foreign_is_ever_formatted() {
        let strangers = [
            Place::Ambiguous,
            Place::Unusable { device: "/dev/x".into(), why: "in use".into() },
            found("x", foreign()).place,
            found("x", Content::Other("an xfs file system")).place,
        ];
        for place in strangers {
            let stranger = Sight { serial: "x".into(), place };
            for other in [Content::Blank, ours(2, false), foreign()] {
                let sights = [stranger.clone(), found("b", other)];
                let (action, state, problem) = decide(&sights, fsid(), &BTreeSet::new(), 99);
                assert_eq!((action, state), (Action::Wait, PoolState::Foreign));
                assert!(problem.unwrap().contains('x'));
            }
        }
    }

    #[test]
    fn a_run_ended_by_a_power_cut_is_done_again() {
        let sights = [found("a", ours(1, false)), found("b", Content::Blank)];
        let format = Action::Format { devices: devices(&["a", "b"]), unfinished: true };
        assert_eq!(decide(&sights, fsid(), &BTreeSet::new(), 0).0, format);
    }

    #[test]
    fn our_pool_is_mounted_whole_or_after_a_while_with_one_disk() {
        let whole = [found("a", ours(2, true)), found("b", ours(2, true))];
        let mount = Action::Mount { devices: devices(&["a", "b"]), degraded: false };
        assert_eq!(decide(&whole, fsid(), &BTreeSet::new(), 0), (mount, PoolState::Mounted, None));

        let half = [found("a", ours(2, true)), absent("b")];
        assert_eq!(decide(&half, fsid(), &BTreeSet::new(), 0).0, Action::Wait);
        let (action, state, problem) = decide(&half, fsid(), &BTreeSet::new(), GRACE_S);
        assert_eq!(action, Action::Mount { devices: devices(&["a"]), degraded: true });
        assert_eq!(state, PoolState::Degraded);
        assert!(problem.unwrap().contains("disk b is missing"));
    }

    #[test]
    fn a_replaced_disk_is_not_touched_but_the_pool_serves() {
        for content in [Content::Blank, foreign()] {
            let sights = [found("a", ours(2, true)), found("new", content)];
            let (action, state, problem) = decide(&sights, fsid(), &BTreeSet::new(), 0);
            assert_eq!(action, Action::Mount { devices: devices(&["a"]), degraded: true });
            assert_eq!(state, PoolState::Degraded);
            assert!(problem.unwrap().contains("new is not part of it"));
        }
    }

    #[test]
    fn a_mirror_half_that_missed_writes_is_never_mounted_alone() {
        let missed: BTreeSet<String> = ["b".to_owned()].into();
        let alone = [absent("a"), found("b", ours(2, true))];
        let (action, state, problem) = decide(&alone, fsid(), &missed, 1_000_000);
        assert_eq!((action, state), (Action::Wait, PoolState::Absent));
        assert!(problem.unwrap().contains("data disk b was away"));

        let both = [found("a", ours(2, true)), found("b", ours(2, true))];
        let (action, state, problem) = decide(&both, fsid(), &missed, 0);
        let mount = Action::Mount { devices: devices(&["a", "b"]), degraded: false };
        // Not called whole: the other disk alone has everything.
        assert_eq!((action, state), (mount, PoolState::Degraded));
        assert!(problem.unwrap().contains("data disk b was away"));

        let good = [found("a", ours(2, true)), absent("b")];
        let mount = Action::Mount { devices: devices(&["a"]), degraded: true };
        assert_eq!(decide(&good, fsid(), &missed, GRACE_S).0, mount);
    }

    #[test]
    fn no_named_disk_means_no_pool() {
        assert_eq!(decide(&[], fsid(), &BTreeSet::new(), 0), (Action::Wait, PoolState::None, None));
    }

    #[test]
    fn boxes_have_pools_of_their_own() {
        assert_ne!(pool_fsid(BoxId([3; 16])), pool_fsid(BoxId([4; 16])));
    }
}
