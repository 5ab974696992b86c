//! Directories of a FAT volume: long names, their 8.3 names, and the 32-byte slots.

use super::{DIR_ENTRIES_MAX, EspError, EspFile, FILE_BYTES_MAX, PATH_BYTES_MAX};
use crate::bytes::put;

/// Size of a directory slot in bytes.
pub(super) const SLOT_BYTES: u64 = 32;

const NAME_BYTES_MAX: usize = 100;
const UNITS_PER_SLOT: usize = 13;
const ATTR_VOLUME: u8 = 0x08;
const ATTR_DIR: u8 = 0x10;
const ATTR_ARCHIVE: u8 = 0x20;
const ATTR_LONG: u8 = 0x0f;
const LAST_LONG: u8 = 0x40;
/// 1980-01-01, the beginning of FAT's time.
const DATE: u16 = (1 << 5) | 1;
/// Highest number in a `NAME~1` tail.
const TAIL_MAX: u32 = 999;

/// What a name stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Target {
    /// Index in the list of directories.
    Dir(usize),
    /// Index in the list of files.
    File(usize),
}

#[derive(Debug)]
struct Child {
    name: String,
    short: [u8; 11],
    /// The 8.3 name alone says it all.
    short_only: bool,
    target: Target,
    first_cluster: u64,
    size: u64,
}

/// One directory. The first is the root.
#[derive(Debug)]
pub(super) struct Dir {
    parent: usize,
    children: Vec<Child>,
    pub(super) first_cluster: u64,
    pub(super) cluster_count: u64,
}

impl Dir {
    fn new(parent: usize) -> Self {
        Self { parent, children: Vec::new(), first_cluster: 0, cluster_count: 0 }
    }

    /// Slots that the entries take, with `.` and `..` or the label, and `spare` more.
    pub(super) fn slot_count(&self, spare: u64) -> u64 {
        let children =
            self.children.iter().map(|child| child.slot_count()).fold(0u64, u64::saturating_add);
        children.saturating_add(2).saturating_add(spare)
    }

    /// The slots, without padding.
    pub(super) fn bytes(&self, dirs: &[Self], label: &[u8; 11]) -> Vec<u8> {
        let mut bytes = Vec::new();
        if self.is_root() {
            bytes.extend_from_slice(&slot(label, ATTR_VOLUME, 0, 0));
        } else {
            // The root is written as cluster 0 in `..`.
            let up = dirs
                .get(self.parent)
                .filter(|dir| !dir.is_root())
                .map_or(0, |dir| dir.first_cluster);
            bytes.extend_from_slice(&slot(b".          ", ATTR_DIR, self.first_cluster, 0));
            bytes.extend_from_slice(&slot(b"..         ", ATTR_DIR, up, 0));
        }
        for child in &self.children {
            child.write(dirs, &mut bytes);
        }
        bytes
    }

    fn is_root(&self) -> bool {
        self.first_cluster == super::fat::ROOT_CLUSTER
    }

    /// Finds a name, in any case.
    fn find(&self, name: &str) -> Option<&Child> {
        self.children.iter().find(|child| child.name.eq_ignore_ascii_case(name))
    }

    fn add(&mut self, path: &str, name: &str, target: Target) -> Result<(), EspError> {
        let refuse = |rule| EspError::Path { path: path.to_owned(), rule };
        let (short, short_only) =
            short_name(name, |short| self.children.iter().any(|child| child.short == *short))
                .ok_or_else(|| refuse("too many names in its directory are alike"))?;
        let name = name.to_owned();
        self.children.push(Child { name, short, short_only, target, first_cluster: 0, size: 0 });
        if self.slot_count(0) > DIR_ENTRIES_MAX as u64 {
            return Err(refuse("its directory is full"));
        }
        Ok(())
    }
}

impl Child {
    fn long_slots(&self) -> usize {
        if self.short_only { 0 } else { self.name.len().div_ceil(UNITS_PER_SLOT) }
    }

    fn slot_count(&self) -> u64 {
        (self.long_slots() as u64).saturating_add(1)
    }

    fn write(&self, dirs: &[Dir], bytes: &mut Vec<u8>) {
        let sum = checksum(&self.short);
        let count = self.long_slots();
        // Stored last part first.
        for (part, piece) in
            self.name.as_bytes().chunks(UNITS_PER_SLOT).enumerate().take(count).rev()
        {
            bytes.extend_from_slice(&long_slot(part, count, piece, sum));
        }
        let (attr, cluster) = match self.target {
            Target::Dir(index) => (ATTR_DIR, dirs.get(index).map_or(0, |dir| dir.first_cluster)),
            Target::File(_) => (ATTR_ARCHIVE, self.first_cluster),
        };
        bytes.extend_from_slice(&slot(&self.short, attr, cluster, self.size));
    }
}

/// Makes the directories that the paths name; `first_cluster` of the root is set, the rest is not.
pub(super) fn make_dirs(files: &[EspFile]) -> Result<Vec<Dir>, EspError> {
    let mut dirs = vec![Dir::new(0)];
    for (index, file) in files.iter().enumerate() {
        let refuse = |rule| EspError::Path { path: file.path.clone(), rule };
        check_path(&file.path).map_err(refuse)?;
        if file.size > FILE_BYTES_MAX {
            return Err(refuse("it is larger than 4 GiB"));
        }
        let mut at = 0usize;
        let mut names = file.path.split('/').peekable();
        while let Some(name) = names.next() {
            let last = names.peek().is_none();
            let next = dirs.len();
            let Some(dir) = dirs.get_mut(at) else { break };
            match (dir.find(name).map(|child| child.target), last) {
                (None, true) => dir.add(&file.path, name, Target::File(index))?,
                (None, false) => {
                    dir.add(&file.path, name, Target::Dir(next))?;
                    dirs.push(Dir::new(at));
                    at = next;
                }
                (Some(Target::Dir(index)), false) => at = index,
                (Some(_), true) => return Err(refuse("the path occurs twice")),
                (Some(Target::File(_)), false) => {
                    return Err(refuse("a file is used as a directory"));
                }
            }
        }
    }
    Ok(dirs)
}

/// Puts the places of the files into their directory entries.
pub(super) fn set_clusters(dirs: &mut [Dir], first_clusters: &[u64], files: &[EspFile]) {
    for child in dirs.iter_mut().flat_map(|dir| &mut dir.children) {
        if let Target::File(index) = child.target {
            child.first_cluster = first_clusters.get(index).copied().unwrap_or(0);
            child.size = files.get(index).map_or(0, |file| file.size);
        }
    }
}

fn check_path(path: &str) -> Result<(), &'static str> {
    if path.len() > PATH_BYTES_MAX {
        return Err("the path is too long");
    }
    for name in path.split('/') {
        let allowed = |b: u8| b.is_ascii_graphic() && !b"\"*/:<>?\\|".contains(&b) || b == b' ';
        if name.is_empty() || name.len() > NAME_BYTES_MAX {
            return Err("a name is empty or longer than 100 bytes");
        }
        if !name.bytes().all(allowed) || name.ends_with(['.', ' ']) || name.starts_with(' ') {
            return Err(
                "a name has characters that FAT does not allow, is not ASCII, or ends with a dot or space",
            );
        }
    }
    Ok(())
}

/// The 8.3 name of `name` that is not `taken`, and whether it says the same without a long name
/// (fatgen103, "The Basis-Name Generation Algorithm").
fn short_name(name: &str, taken: impl Fn(&[u8; 11]) -> bool) -> Option<([u8; 11], bool)> {
    let stripped = name.trim_start_matches('.');
    let (base, extension) = stripped.rsplit_once('.').unwrap_or((stripped, ""));
    let mut lossy = stripped.len() != name.len();
    let base = basis(base, &mut lossy);
    let extension = basis(extension, &mut lossy);
    let mut short = [b' '; 11];
    put(&mut short, 8, extension.get(..3).unwrap_or(&extension));
    put(&mut short, 0, base.get(..8).unwrap_or(&base));
    lossy |= base.len() > 8 || extension.len() > 3 || base.is_empty();
    if !lossy && !taken(&short) {
        return Some((short, !name.bytes().any(|b| b.is_ascii_lowercase())));
    }
    for number in 1..=TAIL_MAX {
        let tail = format!("~{number}");
        let kept = base.len().min(8usize.saturating_sub(tail.len()));
        let mut candidate = [b' '; 11];
        put(&mut candidate, 8, extension.get(..3).unwrap_or(&extension));
        put(&mut candidate, 0, base.get(..kept).unwrap_or_default());
        put(&mut candidate, kept, tail.as_bytes());
        if !taken(&candidate) {
            return Some((candidate, false));
        }
    }
    None
}

/// Upper case, no spaces and dots, `_` for what 8.3 names cannot have.
fn basis(part: &str, lossy: &mut bool) -> Vec<u8> {
    let mut out = Vec::with_capacity(part.len());
    for byte in part.bytes() {
        match byte {
            b' ' | b'.' => *lossy = true,
            b'+' | b',' | b';' | b'=' | b'[' | b']' => {
                *lossy = true;
                out.push(b'_');
            }
            byte => out.push(byte.to_ascii_uppercase()),
        }
    }
    out
}

fn checksum(short: &[u8; 11]) -> u8 {
    short.iter().fold(0u8, |sum, byte| sum.rotate_right(1).wrapping_add(*byte))
}

fn slot(short: &[u8; 11], attr: u8, cluster: u64, size: u64) -> [u8; SLOT_BYTES as usize] {
    let mut slot = [0u8; SLOT_BYTES as usize];
    put(&mut slot, 0, short);
    put(&mut slot, 11, &[attr]);
    for date_at in [16, 18, 24] {
        put(&mut slot, date_at, &DATE.to_le_bytes());
    }
    put(&mut slot, 20, &((cluster >> 16) as u16).to_le_bytes());
    put(&mut slot, 26, &(cluster as u16).to_le_bytes());
    put(&mut slot, 28, &(size as u32).to_le_bytes());
    slot
}

/// Part `part` (from 0) of a name in `count` parts.
fn long_slot(part: usize, count: usize, piece: &[u8], sum: u8) -> [u8; SLOT_BYTES as usize] {
    const PLACES: [usize; UNITS_PER_SLOT] = [1, 3, 5, 7, 9, 14, 16, 18, 20, 22, 24, 28, 30];
    let mut slot = [0u8; SLOT_BYTES as usize];
    let number = part.saturating_add(1);
    let last = if number == count { LAST_LONG } else { 0 };
    put(&mut slot, 0, &[number as u8 | last]);
    put(&mut slot, 11, &[ATTR_LONG]);
    put(&mut slot, 13, &[sum]);
    // A name that does not fill its part ends with NUL, then ones.
    let units =
        piece.iter().map(|byte| u16::from(*byte)).chain([0]).chain(std::iter::repeat(0xffff));
    for (at, unit) in PLACES.into_iter().zip(units) {
        put(&mut slot, at, &unit.to_le_bytes());
    }
    slot
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn short(name: &str) -> (String, bool) {
        let (short, only) = short_name(name, |_| false).unwrap();
        (String::from_utf8(short.to_vec()).unwrap(), only)
    }

    #[test]
    fn short_names_follow_the_basis_algorithm() {
        assert_eq!(short("BOOTX64.EFI"), ("BOOTX64 EFI".into(), true));
        assert_eq!(short("Linux"), ("LINUX      ".into(), false));
        assert_eq!(short("loader.conf"), ("LOADER~1CON".into(), false));
        assert_eq!(short("goblinux_1+3.efi"), ("GOBLIN~1EFI".into(), false));
        assert_eq!(short("a+b.efi"), ("A_B~1   EFI".into(), false));
        assert_eq!(short(".new"), ("NEW~1      ".into(), false));
    }

    #[test]
    fn alike_names_get_numbers() {
        let (second, _) = short_name("goblinux_2.efi", |name| name == b"GOBLIN~1EFI").unwrap();
        assert_eq!(&second, b"GOBLIN~2EFI");
        let tenth = short_name("goblinux_2.efi", |name| !name.starts_with(b"GOBLI~10"));
        assert_eq!(&tenth.unwrap().0, b"GOBLI~10EFI");
        assert_eq!(short_name("goblinux_2.efi", |_| true), None);
    }

    proptest! {
        #[test]
        fn any_paths_are_answered_and_short_names_differ(
            paths in proptest::collection::vec("[a-cA-C.+ /~1]{1,14}|[ -~]{0,20}", 0..20)
        ) {
            let files: Vec<EspFile> =
                paths.into_iter().map(|path| EspFile { path, size: 1 }).collect();
            for dir in make_dirs(&files).unwrap_or_default() {
                let shorts: std::collections::BTreeSet<_> =
                    dir.children.iter().map(|child| child.short).collect();
                prop_assert_eq!(shorts.len(), dir.children.len());
            }
        }

        #[test]
        fn any_clean_name_has_a_clean_short_name(name in "[!-~]{1,40}") {
            if check_path(&name).is_ok() {
                let (short, _) = short_name(&name, |_| false).unwrap();
                prop_assert!(short[0] != b' ');
                prop_assert!(!short.iter().any(|b| b.is_ascii_lowercase() || b"+,;=[].".contains(b)));
            }
        }
    }

    #[test]
    fn unclean_paths_are_refused() {
        for path in ["", "/a", "a/", "a//b", "a/../b", "ä", "a:b", "a.", " a", "a\0"] {
            let files = [EspFile { path: path.into(), size: 1 }];
            assert!(make_dirs(&files).is_err(), "{path:?}");
        }
        let twice = ["EFI/a", "efi/A"].map(|path| EspFile { path: path.into(), size: 1 });
        assert!(make_dirs(&twice).is_err());
        let through_file = ["a", "A/b"].map(|path| EspFile { path: path.into(), size: 1 });
        assert!(make_dirs(&through_file).is_err());
    }
}
