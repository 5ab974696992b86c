//! Which of the sticks that are plugged in holds a release folder: pure.
//!
//! ```text
//! devices of the board -> places: what on the USB may be a stick -> kind of its file system
//!                                 -> folders found in each -> choose: the one, or why there is none
//! ```
//! A stick is a stranger's. What is on it is looked at only when a person says `--from usb`, by the drivers of
//! two file systems, read-only; and nothing that is read from it is believed before it was compared with
//! what was signed.

use goblin_core_types::{Bus, Device, DeviceKind};

/// Most places that are looked at; more sticks than a board has sockets.
pub const PLACES_MAX: usize = 16;
/// Bytes of a place's start by which its file system is told.
pub const HEAD_BYTES: usize = 2048;
/// What makes a folder a release folder: the file of its metadata that has always this name (TUF
/// specification, section 3.1).
pub const MARK: &str = "metadata/timestamp.json";

/// Why a release cannot be taken from a stick.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StickError {
    /// Nobody tells what is plugged in.
    #[error(
        "what is plugged in is not known, for the `devices` agent does not answer: {detail}; look at `goblin logs --unit devices`"
    )]
    Unknown {
        /// Why.
        detail: String,
    },
    /// There is none.
    #[error(
        "no USB stick is plugged into this board; plug in one with a release folder, as `cargo xtask release` makes it, and try again"
    )]
    None,
    /// No stick could be read.
    #[error(
        "{stick} cannot be read: {detail}; copy the release folder to a stick with FAT32 or ext4"
    )]
    Unreadable {
        /// Which; the first where none can be read.
        stick: String,
        /// What it has, or the kernel's word.
        detail: String,
    },
    /// There are sticks, and no release folder.
    #[error(
        "no release folder on {sticks}: it has to lie on the stick itself or one folder deep, with the file `{MARK}` in it; copy the whole folder that `cargo xtask release` made"
    )]
    NoFolder {
        /// What was looked at.
        sticks: String,
    },
    /// There is more than one.
    #[error("there are several release folders: {found}; leave only one of them plugged in")]
    Several {
        /// Where.
        found: String,
    },
    /// It went while it was read.
    #[error(
        "{stick} was pulled out before all of the release was read; nothing was changed. Plug it in and try again"
    )]
    Pulled {
        /// Which.
        stick: String,
    },
    /// It is there, and something on it is not.
    #[error(
        "{stick} does not give `{path}`: {detail}; copy the whole release folder to it again, or take another stick"
    )]
    Damaged {
        /// Which.
        stick: String,
        /// The file, as the repository calls it.
        path: String,
        /// What was said.
        detail: String,
    },
}

/// What may be a stick, by path: partitions on the USB, and disks on it that have none. Left out is the disk
/// that the board itself runs from, of which `own` are the device files of partitions.
pub fn places<'d>(devices: &'d [Device], own: &[String]) -> Vec<&'d Device> {
    let block = |device: &&Device| {
        device.bus == Bus::Usb
            && device.dev_path.is_some()
            && device.size_bytes != Some(0)
            && matches!(device.kind, DeviceKind::Disk | DeviceKind::Partition)
    };
    let is_own = |device: &Device| device.dev_path.as_ref().is_some_and(|path| own.contains(path));
    // The disk of a partition is the folder above it in /sys.
    let own_disks: Vec<&str> = devices.iter().filter(|d| is_own(d)).filter_map(disk_of).collect();
    let divided: Vec<&str> = devices
        .iter()
        .filter(|device| device.kind == DeviceKind::Partition)
        .filter_map(disk_of)
        .collect();
    let mut places: Vec<&Device> = devices
        .iter()
        .filter(block)
        .filter(|device| match device.kind {
            DeviceKind::Partition => disk_of(device).is_none_or(|disk| !own_disks.contains(&disk)),
            _ => !is_own(device) && !divided.contains(&device.path.as_str()),
        })
        .collect();
    places.sort_by(|a, b| a.path.cmp(&b.path));
    places.truncate(PLACES_MAX);
    places
}

fn disk_of(partition: &Device) -> Option<&str> {
    partition.path.rsplit_once('/').map(|(disk, _)| disk)
}

/// What a person calls a place.
pub fn name_of(place: &Device) -> String {
    match place.model.trim() {
        "" => format!("the stick {}", place.name),
        model => format!("the stick `{model}` ({})", place.name),
    }
}

/// A file system, as its first bytes tell it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileSystem {
    /// FAT12, FAT16 or FAT32.
    Fat,
    /// ext2, ext3 or ext4.
    Ext,
    /// One that is not read here, by its usual name.
    Other(&'static str),
}

/// Tells the file system from [`HEAD_BYTES`] of its start; fewer bytes tell less.
///
/// FAT: `BS_FilSysType` at 54 or 82 and the mark 55aa at 510 (Microsoft's FAT specification, section 3). ext4:
/// `s_magic[2]` at 0x38 of the superblock at 1024 (`Documentation/filesystems/ext4/super.rst`).
pub fn file_system(head: &[u8]) -> FileSystem {
    let at = |place: usize, mark: &[u8]| head.get(place..).is_some_and(|h| h.starts_with(mark));
    if at(0x438, b"\x53\xef") {
        return FileSystem::Ext;
    }
    for (place, mark, name) in [
        (3, &b"NTFS    "[..], "NTFS"),
        (3, b"EXFAT   ", "exFAT"),
        (0, b"XFSB", "xfs"),
        (0, b"LUKS\xba\xbe", "an encrypted volume"),
    ] {
        if at(place, mark) {
            return FileSystem::Other(name);
        }
    }
    if at(510, b"\x55\xaa") && (at(82, b"FAT32") || at(54, b"FAT1")) {
        return FileSystem::Fat;
    }
    FileSystem::Other("no file system that is known here")
}

/// A release folder on a stick.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Which of the places.
    pub place: usize,
    /// The place, as people call it.
    pub stick: String,
    /// Folder inside it; empty for the stick itself.
    pub folder: String,
}

/// Decides, from what each place gave: its folders, or why it could not be read.
///
/// # Errors
/// Every [`StickError`] but those of a stick that is being read.
pub fn choose(looked: &[(String, Result<Vec<String>, String>)]) -> Result<Found, StickError> {
    let found: Vec<Found> = looked
        .iter()
        .enumerate()
        .flat_map(|(place, (stick, folders))| {
            let folders = folders.iter().flatten();
            folders.map(move |folder| Found { place, stick: stick.clone(), folder: folder.clone() })
        })
        .collect();
    match found.as_slice() {
        [one] => return Ok(one.clone()),
        [] => {}
        several => {
            let places: Vec<String> = several.iter().map(place_text).collect();
            return Err(StickError::Several { found: places.join(", ") });
        }
    }
    let read: Vec<&str> =
        looked.iter().filter(|(_, f)| f.is_ok()).map(|(stick, _)| stick.as_str()).collect();
    match looked.first() {
        None => Err(StickError::None),
        Some(_) if !read.is_empty() => Err(StickError::NoFolder { sticks: read.join(", ") }),
        Some((stick, folders)) => {
            let detail = folders.as_ref().err().cloned().unwrap_or_default();
            Err(StickError::Unreadable { stick: stick.clone(), detail })
        }
    }
}

fn place_text(found: &Found) -> String {
    match found.folder.as_str() {
        "" => format!("{} itself", found.stick),
        folder => format!("`{folder}` on {}", found.stick),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn device(path: &str, kind: DeviceKind, bus: Bus) -> Device {
        let name = path.rsplit('/').next().unwrap_or_default().to_owned();
        Device {
            path: path.into(),
            kind,
            bus,
            dev_path: Some(format!("/dev/{name}")),
            name,
            stable_names: Vec::new(),
            model: "Stick".into(),
            serial: None,
            size_bytes: Some(1 << 30),
            removable: true,
        }
    }

    fn names(devices: &[Device], own: &[&str]) -> Vec<String> {
        let own: Vec<String> = own.iter().map(|path| (*path).to_owned()).collect();
        places(devices, &own).iter().map(|device| device.name.clone()).collect()
    }

    #[test]
    fn only_sticks_are_looked_at_and_a_divided_one_by_its_parts() {
        let all = [
            device("/devices/a/sda", DeviceKind::Disk, Bus::Usb),
            device("/devices/a/sda/sda1", DeviceKind::Partition, Bus::Usb),
            device("/devices/b/sdb", DeviceKind::Disk, Bus::Usb),
            device("/devices/c/sdc", DeviceKind::Disk, Bus::Ata),
            device("/devices/c/sdc/sdc1", DeviceKind::Partition, Bus::Ata),
            device("/devices/d/eth0", DeviceKind::NetworkCard, Bus::Usb),
        ];
        assert_eq!(names(&all, &[]), ["sda1", "sdb"]);
        // A board that runs from a stick never takes it for one with a release.
        assert_eq!(names(&all, &["/dev/sda1"]), ["sdb"]);
        assert_eq!(names(&all, &["/dev/sdb"]), ["sda1"]);
    }

    #[test]
    fn file_systems_are_told_by_their_marks() {
        let with = |marks: &[(usize, &[u8])]| {
            let mut head = vec![0u8; HEAD_BYTES];
            for (at, mark) in marks {
                head[*at..*at + mark.len()].copy_from_slice(mark);
            }
            file_system(&head)
        };
        assert_eq!(with(&[(82, b"FAT32   "), (510, b"\x55\xaa")]), FileSystem::Fat);
        assert_eq!(with(&[(54, b"FAT16   "), (510, b"\x55\xaa")]), FileSystem::Fat);
        assert_eq!(with(&[(0x438, b"\x53\xef")]), FileSystem::Ext);
        assert_eq!(with(&[(3, b"NTFS    "), (510, b"\x55\xaa")]), FileSystem::Other("NTFS"));
        assert_eq!(with(&[(3, b"EXFAT   "), (510, b"\x55\xaa")]), FileSystem::Other("exFAT"));
        // A partition table alone is no file system.
        assert!(matches!(with(&[(510, b"\x55\xaa")]), FileSystem::Other(_)));
    }

    #[test]
    fn none_several_and_unreadable_ones_have_words_of_their_own() {
        let gave = |folders: &[&str]| Ok(folders.iter().map(|f| (*f).to_owned()).collect());
        let stick = |n: u8| format!("the stick {n}");
        let bad = || Err("it has NTFS".to_owned());
        assert_eq!(choose(&[]), Err(StickError::None));
        let one = choose(&[(stick(1), bad()), (stick(2), gave(&["repo"]))]).unwrap();
        assert_eq!((one.stick.as_str(), one.folder.as_str()), ("the stick 2", "repo"));
        assert!(matches!(choose(&[(stick(1), bad())]), Err(StickError::Unreadable { .. })));
        let none = choose(&[(stick(1), bad()), (stick(2), gave(&[]))]);
        assert_eq!(none, Err(StickError::NoFolder { sticks: stick(2) }));
        let several = choose(&[(stick(1), gave(&["", "old"])), (stick(2), gave(&[]))]);
        let Err(StickError::Several { found }) = several else { panic!("{several:?}") };
        assert!(found.contains("itself") && found.contains("`old`"), "{found}");
    }

    proptest! {
        #[test]
        fn any_bytes_are_answered(head in proptest::collection::vec(any::<u8>(), 0..2100)) {
            let _ = file_system(&head);
        }

        #[test]
        fn a_choice_is_made_only_when_there_is_exactly_one(
            counts in proptest::collection::vec(proptest::option::of(0usize..3), 0..5),
        ) {
            let looked: Vec<_> = counts
                .iter()
                .enumerate()
                .map(|(n, count)| {
                    let folders = count.map(|c| (0..c).map(|f| format!("f{f}")).collect());
                    (format!("stick {n}"), folders.ok_or_else(|| "broken".to_owned()))
                })
                .collect();
            let in_all: usize = counts.iter().flatten().sum();
            prop_assert_eq!(choose(&looked).is_ok(), in_all == 1);
        }

        #[test]
        fn what_the_board_runs_from_is_never_a_place(own in 0usize..3, part: bool) {
            let mut all = Vec::new();
            for n in 0..3 {
                all.push(device(&format!("/devices/{n}/sd{n}"), DeviceKind::Disk, Bus::Usb));
                if part {
                    let path = format!("/devices/{n}/sd{n}/sd{n}1");
                    all.push(device(&path, DeviceKind::Partition, Bus::Usb));
                }
            }
            let own_name = if part { format!("/dev/sd{own}1") } else { format!("/dev/sd{own}") };
            let found = names(&all, &[&own_name]);
            prop_assert_eq!(found.len(), 2);
            let prefix = format!("sd{own}");
            prop_assert!(found.iter().all(|name| !name.starts_with(&prefix)));
        }
    }
}
