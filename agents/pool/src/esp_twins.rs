//! Takes away the second name of a release, where a power cut during a change of its name left two.
//!
//! FAT writes the new name and then removes the old one. Where both lie in different sectors of the folder the disk may
//! have the one change without the other: two names of one file. Linux takes them for two files, and removing either
//! frees what the other one still names. So the second is removed here, in the folder alone, before the file system
//! is mounted.
//!
//! Layout: Microsoft's FAT specification (version 1.03), sections 3 and 6; little endian.

use goblin_core_types::{SlotState, Version};
use goblin_core_update::slots::{self, NEW_FILE};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

const SECTOR_BYTES: u64 = 512;
const ENTRY_BYTES: usize = 32;
/// Most clusters of a folder that are read.
const CLUSTERS_MAX: usize = 64;
/// Largest cluster in sectors.
const CLUSTER_SECTORS_MAX: u64 = 128;
/// First byte of an entry that is removed, and of the one after the last.
const REMOVED: u8 = 0xe5;
const END: u8 = 0;
/// Attributes of an entry that is a piece of a long name, of one that names a folder, and of a volume's label.
const LONG_NAME: u8 = 0x0f;
const FOLDER: u8 = 0x10;
const LABEL: u8 = 0x08;
/// Where a piece of a long name has its thirteen characters.
const LONG_NAME_CHARS: [std::ops::Range<usize>; 3] = [1..11, 14..26, 28..32];

/// A name in a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Name {
    /// As in the short entry, without blanks.
    short: String,
    /// Empty where there is none.
    long: String,
    is_folder: bool,
    first_cluster: u32,
    /// Where its short entry lies, in bytes from the start of the partition.
    entry: u64,
    /// Where the pieces of its long name lie.
    pieces: Vec<u64>,
}

/// Where the parts of the file system lie, in bytes.
#[derive(Debug, Clone, Copy)]
struct Volume<'a> {
    device: &'a File,
    table: u64,
    clusters: u64,
    cluster_bytes: u64,
    root: u32,
}

/// As [`remove`], with a word about it in the log.
pub(crate) fn mend(device: &Path) {
    match remove(device) {
        Ok(twins) if twins.is_empty() => {}
        Ok(twins) => tracing::warn!(?twins, "second names of releases are removed from the ESP"),
        // What cannot be read or written shows when it is mounted.
        Err(err) => tracing::warn!(%err, "the ESP was not searched for second names"),
    }
}

/// Removes the second names of releases; which they were. Nobody may have the file system mounted.
///
/// # Errors
/// The disk's; or that it holds no FAT32, or one that is not whole. A repetition goes on.
fn remove(device: &Path) -> io::Result<Vec<String>> {
    let twins = find(&File::open(device)?)?;
    if twins.is_empty() {
        return Ok(Vec::new());
    }
    let device = File::options().read(true).write(true).open(device)?;
    // The short entries first: a long name without one names nothing, and the other way round the twin would be left
    // under a name that nobody knows.
    let short: Vec<u64> = twins.iter().map(|twin| twin.entry).collect();
    let long = twins.iter().flat_map(|twin| twin.pieces.clone()).collect();
    for entries in [short, long] {
        for at in entries {
            device.write_all_at(&[REMOVED], at)?;
        }
        device.sync_all()?;
    }
    Ok(twins.into_iter().map(|twin| twin.long).collect())
}

fn find(device: &File) -> io::Result<Vec<Name>> {
    let volume = Volume::read(device)?;
    let mut folder = volume.root;
    for name in ["EFI", "LINUX"] {
        let names = volume.names(folder)?;
        let Some(found) = names.iter().find(|entry| entry.is_folder && entry.short == name) else {
            return Ok(Vec::new());
        };
        folder = found.first_cluster;
    }
    let names = volume.names(folder)?;
    Ok(names.iter().filter(|name| is_second(name, &names)).cloned().collect())
}

/// True when another name of the same release names the same file, and is the one to keep. What was just written
/// keeps the name of a release.
fn is_second(name: &Name, all: &[Name]) -> bool {
    if name.long == NEW_FILE && name.first_cluster != 0 {
        let is_named =
            |other: &Name| other.first_cluster == name.first_cluster && rank(other).is_some();
        return all.iter().any(is_named);
    }
    let Some(own) = rank(name) else { return false };
    all.iter().any(|other| {
        let is_twin = other.first_cluster == name.first_cluster && other.entry != name.entry;
        is_twin
            && rank(other).is_some_and(|theirs| {
                theirs.0 == own.0 && (theirs.1, name.entry) < (own.1, other.entry)
            })
    })
}

/// The release, and which of its names is kept: the least. A good release stays good; a try that was counted stays
/// counted.
fn rank(name: &Name) -> Option<(Version, u32)> {
    if name.is_folder || name.first_cluster == 0 {
        return None;
    }
    let (version, state) = slots::parse_file_name(&name.long)?;
    Some(match state {
        SlotState::Good => (version, 0),
        SlotState::Bad { .. } => (version, 1),
        SlotState::Trial { left, .. } => (version, left.saturating_add(1)),
    })
}

impl<'a> Volume<'a> {
    fn read(device: &'a File) -> io::Result<Self> {
        let mut boot = [0; SECTOR_BYTES as usize];
        device.read_exact_at(&mut boot, 0)?;
        let [cluster_sectors, tables] = [13, 16].map(|at| number(&boot, at, 1));
        let [sector_bytes, reserved] = [11, 14].map(|at| number(&boot, at, 2));
        let [table_sectors, root] = [36, 44].map(|at| number(&boot, at, 4));
        let is_fat32 = boot.ends_with(&[0x55, 0xaa])
            && sector_bytes == SECTOR_BYTES
            && (1..=CLUSTER_SECTORS_MAX).contains(&cluster_sectors)
            && number(&boot, 17, 2) == 0;
        if !is_fat32 {
            return Err(io::Error::other("no FAT32"));
        }
        let bytes = |sectors: u64| sectors.saturating_mul(SECTOR_BYTES);
        Ok(Self {
            device,
            table: bytes(reserved),
            clusters: bytes(reserved.saturating_add(tables.saturating_mul(table_sectors))),
            cluster_bytes: bytes(cluster_sectors),
            root: u32::try_from(root).unwrap_or(0),
        })
    }

    fn next(&self, cluster: u32) -> io::Result<u32> {
        let mut entry = [0; 4];
        let at = self.table.saturating_add(u64::from(cluster).saturating_mul(4));
        self.device.read_exact_at(&mut entry, at)?;
        Ok(u32::from_le_bytes(entry) & 0x0fff_ffff)
    }

    /// The names in the folder that begins with a cluster.
    fn names(&self, first: u32) -> io::Result<Vec<Name>> {
        let (mut names, mut pieces) = (Vec::new(), Vec::new());
        let mut cluster = first;
        for _ in 0..CLUSTERS_MAX {
            if !(2..0x0fff_fff0).contains(&cluster) {
                return Ok(names);
            }
            let number = u64::from(cluster.saturating_sub(2));
            let at = self.clusters.saturating_add(number.saturating_mul(self.cluster_bytes));
            let mut bytes = vec![0; usize::try_from(self.cluster_bytes).unwrap_or(0)];
            self.device.read_exact_at(&mut bytes, at)?;
            for (at, entry) in (at..).step_by(ENTRY_BYTES).zip(bytes.as_chunks::<ENTRY_BYTES>().0) {
                match (entry[0], entry[11]) {
                    (END, _) => return Ok(names),
                    (REMOVED, _) => pieces.clear(),
                    (_, LONG_NAME) => pieces.push((at, *entry)),
                    (_, attributes) if attributes & LABEL != 0 => pieces.clear(),
                    _ => names.push(Name::of(entry, at, &std::mem::take(&mut pieces))),
                }
            }
            cluster = self.next(cluster)?;
        }
        Err(io::Error::other("a folder of the ESP is too long"))
    }
}

impl Name {
    fn of(entry: &[u8; ENTRY_BYTES], at: u64, pieces: &[(u64, [u8; ENTRY_BYTES])]) -> Self {
        // The last piece comes first.
        let chars = pieces.iter().rev().flat_map(|(_, piece)| {
            LONG_NAME_CHARS
                .into_iter()
                .flat_map(|range| piece.get(range).unwrap_or_default().as_chunks::<2>().0)
        });
        let chars = chars.map(|char| u16::from_le_bytes(*char)).take_while(|char| *char != 0);
        let long: String = char::decode_utf16(chars)
            .map(|char| char.unwrap_or(char::REPLACEMENT_CHARACTER))
            .collect();
        let cluster = number(entry, 26, 2) | number(entry, 20, 2) << 16;
        Self {
            short: String::from_utf8_lossy(entry.get(..11).unwrap_or_default()).trim_end().into(),
            long,
            is_folder: entry[11] & FOLDER != 0,
            first_cluster: u32::try_from(cluster).unwrap_or(0),
            entry: at,
            pieces: pieces.iter().map(|(at, _)| *at).collect(),
        }
    }
}

/// A number of up to four bytes; 0 beyond the end.
fn number(bytes: &[u8], at: usize, length: usize) -> u64 {
    let piece = bytes.iter().skip(at).take(length);
    piece.rev().fold(0, |number, byte| number << 8 | u64::from(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;
    use goblin_image::esp::{EspFile, EspParams, EspPlan};
    use proptest::prelude::*;
    use std::process::Command;

    fn fsck(esp: &Path) -> String {
        let out = Command::new("fsck.fat").arg("-n").arg(esp).output();
        let out = out.expect("`cargo xtask setup` installs dosfstools");
        String::from_utf8_lossy(&out.stdout).into_owned()
    }

    const GOOD: &str = "goblinux_1.efi";

    /// An ESP with one release, and the places of its entries.
    fn esp() -> (tempfile::NamedTempFile, Name) {
        let image = tempfile::NamedTempFile::new().unwrap();
        let params = EspParams {
            size_bytes: goblin_image::disk::ESP_BYTES,
            volume_id: 1,
            label: "ESP".into(),
            hidden_sectors: 2048,
        };
        let files = ["EFI/BOOT/BOOTX64.EFI".to_owned(), format!("EFI/Linux/{GOOD}")];
        let files = files.map(|path| EspFile { path, size: 9000 });
        let plan = EspPlan::new(&params, &files).unwrap();
        image.as_file().set_len(plan.size()).unwrap();
        plan.write(&mut image.as_file(), 0, |_| Ok(Box::new(&[7; 9000][..]))).unwrap();
        let name = names(image.as_file()).remove(0);
        assert_eq!(name.long, GOOD);
        (image, name)
    }

    fn names(device: &File) -> Vec<Name> {
        let volume = Volume::read(device).unwrap();
        let folder = |first, name: &str| {
            let names = volume.names(first).unwrap();
            names.into_iter().find(|entry| entry.short == name).unwrap().first_cluster
        };
        let mut names = volume.names(folder(folder(volume.root, "EFI"), "LINUX")).unwrap();
        names.retain(|name| !name.is_folder);
        names
    }

    /// Gives the file that `first` names another name, in the next sector of the folder.
    fn add_twin(device: &File, first: &Name, long: &str, cluster: u32) {
        let sector = first.entry / SECTOR_BYTES * SECTOR_BYTES;
        let mut short = [0; ENTRY_BYTES];
        device.read_exact_at(&mut short, first.entry).unwrap();
        short[7] += 1;
        short[26..28].copy_from_slice(&cluster.to_le_bytes()[..2]);
        let sum = short[..11].iter().fold(0u8, |sum, byte| sum.rotate_right(1).wrapping_add(*byte));
        for at in (first.entry + 32..sector + SECTOR_BYTES).step_by(ENTRY_BYTES) {
            device.write_all_at(&[REMOVED], at).unwrap();
        }
        let mut at = sector + SECTOR_BYTES;
        let mut chars: Vec<u16> = long.encode_utf16().chain([0]).collect();
        chars.resize(26, 0xffff);
        for (order, chars) in [(0x42, &chars[13..]), (1, &chars[..13])] {
            let mut piece = [0; ENTRY_BYTES];
            (piece[0], piece[11], piece[13]) = (order, LONG_NAME, sum);
            let places = LONG_NAME_CHARS.into_iter().flat_map(|range| range.step_by(2));
            for (place, char) in places.zip(chars) {
                piece[place..place + 2].copy_from_slice(&char.to_le_bytes());
            }
            device.write_all_at(&piece, at).unwrap();
            at += 32;
        }
        device.write_all_at(&short, at).unwrap();
    }

    fn long(device: &File) -> Vec<String> {
        names(device).into_iter().map(|name| name.long).collect()
    }

    #[test]
    fn of_two_names_of_one_file_the_good_one_stays_and_the_file_with_it() {
        let (image, first) = esp();
        assert_eq!(remove(image.path()).unwrap(), [""; 0]);
        add_twin(image.as_file(), &first, "goblinux_1+2-1.efi", first.first_cluster);
        assert_eq!(long(image.as_file()), [GOOD, "goblinux_1+2-1.efi"]);
        assert!(fsck(image.path()).contains("share clusters"));
        assert_eq!(remove(image.path()).unwrap(), ["goblinux_1+2-1.efi"]);
        assert_eq!(long(image.as_file()), [GOOD]);
        let said = fsck(image.path());
        assert!(!said.contains("share") && !said.contains("Orphaned"), "{said}");
        assert_eq!(remove(image.path()).unwrap(), [""; 0]);
    }

    #[test]
    fn of_two_counted_names_the_one_with_fewer_tries_left_stays() {
        let (image, first) = esp();
        let twin = |long: &str, at| Name { long: long.into(), entry: at, ..first.clone() };
        let (older, newer) = (twin("goblinux_1+2-1.efi", 0), twin("goblinux_1+1-2.efi", 640));
        let all = [older.clone(), newer.clone()];
        assert!(is_second(&older, &all) && !is_second(&newer, &all));
        let alike = [twin("goblinux_1+1-2.efi", 0), newer];
        let fresh = [twin(NEW_FILE, 0), twin("goblinux_1+3.efi", 640)];
        assert!(is_second(&fresh[0], &fresh) && !is_second(&fresh[1], &fresh));
        assert!(!is_second(&fresh[0], &fresh[..1]));
        assert_eq!(alike.iter().filter(|name| is_second(name, &alike)).count(), 1);
        drop(image);
    }

    #[test]
    fn names_of_different_files_or_releases_stay() {
        for (long, cluster) in [("goblinux_1+2-1.efi", 40), ("goblinux_2.efi", 0), ("other", 0)] {
            let (image, first) = esp();
            let cluster = if cluster == 0 { first.first_cluster } else { cluster };
            add_twin(image.as_file(), &first, long, cluster);
            assert_eq!(remove(image.path()).unwrap(), [""; 0], "{long}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn any_bytes_are_answered(changes in proptest::collection::vec((0u64..4096, any::<u8>()), 1..40)) {
            let (image, first) = esp();
            let folder = first.entry / 4096 * 4096;
            for (at, byte) in changes {
                let at = if at < 512 { at } else { folder + at };
                image.as_file().write_all_at(&[byte], at).unwrap();
            }
            let _ = remove(image.path());
        }
    }
}
