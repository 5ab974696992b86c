//! What the system that runs holds of a release: files of the base, which lies in memory, and the parts
//! of its UKI on the boot disk.

use crate::esp::OS_RELEASE;
use goblin_core_delta::patch::ReadAt;
use goblin_core_types::Digest;
use goblin_image::uki;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

/// Most files and folders that are looked at.
const ENTRIES_MAX: usize = 1 << 17;
/// Bytes hashed at once.
const PIECE_BYTES: usize = 256 << 10;
/// The section of the kernel.
const KERNEL: &str = ".linux";

/// A part of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Place {
    path: PathBuf,
    at: u64,
    size: u64,
}

/// Contents by digest, and where they lie.
#[derive(Debug, Clone, Default)]
pub struct Held {
    places: BTreeMap<Digest, Place>,
    /// What has not been hashed: most sizes are of no interest.
    unread: Vec<Place>,
}

impl Held {
    /// Lists the files below `base`, on its own file system only, and the parts of the UKI. What cannot be
    /// read is not held: it is fetched.
    pub fn list(base: &Path, uki: Option<&Path>) -> Self {
        let mut unread = Vec::new();
        let mut folders = vec![base.to_owned()];
        let device = base.symlink_metadata().map(|meta| meta.dev()).ok();
        let mut seen = 0usize;
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
                seen = seen.saturating_add(1);
                let Ok(meta) = entry.path().symlink_metadata() else { continue };
                if seen > ENTRIES_MAX || Some(meta.dev()) != device {
                    continue;
                }
                if meta.is_dir() {
                    folders.push(entry.path());
                } else if meta.is_file() {
                    unread.push(Place { path: entry.path(), at: 0, size: meta.len() });
                }
            }
        }
        unread.extend(uki.into_iter().flat_map(uki_parts));
        Self { places: BTreeMap::new(), unread }
    }

    /// Hashes everything that has one of these sizes, once.
    pub fn read_sizes(&mut self, sizes: &BTreeSet<u64>) {
        let (wanted, rest): (Vec<Place>, Vec<Place>) =
            self.unread.drain(..).partition(|place| sizes.contains(&place.size));
        self.unread = rest;
        for place in wanted {
            if let Ok(digest) = place.hash() {
                self.places.entry(digest).or_insert(place);
            }
        }
    }

    /// True when the content is here, with this size.
    pub fn has(&self, digest: &Digest, size: u64) -> bool {
        self.places.get(digest).is_some_and(|place| place.size == size)
    }

    /// Opens a content.
    ///
    /// # Errors
    /// `NotFound` when it is not held, or the kernel's.
    pub fn open(&self, digest: &Digest) -> io::Result<Window> {
        let place = self.places.get(digest).ok_or(io::ErrorKind::NotFound)?;
        Ok(Window { file: File::open(&place.path)?, at: place.at, left: place.size })
    }
}

impl Place {
    fn hash(&self) -> io::Result<Digest> {
        let mut window = Window { file: File::open(&self.path)?, at: self.at, left: self.size };
        let mut hasher = blake3::Hasher::new();
        let mut piece = vec![0; PIECE_BYTES];
        loop {
            match window.read(&mut piece)? {
                0 => return Ok(Digest(*hasher.finalize().as_bytes())),
                read => hasher.update(piece.get(..read).unwrap_or_default()),
            };
        }
    }
}

/// The boot program as it stands in a UKI, with the headers of all sections, and the kernel: what the
/// publisher takes the differences to from.
fn uki_parts(path: &Path) -> Vec<Place> {
    let sections = File::open(path).ok().and_then(|mut file| uki::parse_sections(&mut file).ok());
    let part = |section: uki::Section| match section.name.as_str() {
        // The first one that [`goblin_image::UkiRecipe`] adds to the boot program.
        OS_RELEASE => Some((0, section.file_offset)),
        KERNEL => Some((section.file_offset, section.size)),
        _ => None,
    };
    let parts = sections.into_iter().flatten().filter_map(part);
    parts.map(|(at, size)| Place { path: path.to_owned(), at, size }).collect()
}

/// A part of an open file.
#[derive(Debug)]
pub struct Window {
    file: File,
    at: u64,
    left: u64,
}

impl Read for Window {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        let read = self.file.read_at(buffer.get_mut(..length).unwrap_or_default(), self.at)?;
        let moved = u64::try_from(read).unwrap_or(u64::MAX);
        self.at = self.at.saturating_add(moved);
        self.left = self.left.saturating_sub(moved);
        Ok(read)
    }
}

impl ReadAt for Window {
    fn read_at(&mut self, at: u64, buffer: &mut [u8]) -> io::Result<()> {
        let length = u64::try_from(buffer.len()).unwrap_or(u64::MAX);
        let end = at.checked_add(length).filter(|end| *end <= self.left);
        let from = end.and_then(|_| self.at.checked_add(at)).ok_or(io::ErrorKind::UnexpectedEof)?;
        self.file.read_exact_at(buffer, from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_wanted_sizes_are_held_by_digest_and_links_are_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("sub")).unwrap();
        std::fs::write(dir.path().join("sub/a"), b"abc").unwrap();
        std::fs::write(dir.path().join("b"), b"longer").unwrap();
        std::os::unix::fs::symlink("/etc/passwd", dir.path().join("link")).unwrap();
        let mut held = Held::list(dir.path(), None);
        held.read_sizes(&BTreeSet::from([3]));
        let digest = |bytes: &[u8]| Digest(*blake3::hash(bytes).as_bytes());
        assert!(held.has(&digest(b"abc"), 3) && !held.has(&digest(b"abc"), 4));
        assert!(!held.has(&digest(b"longer"), 6));
        held.read_sizes(&BTreeSet::from([6]));
        let mut window = held.open(&digest(b"longer")).unwrap();
        let mut two = [0; 2];
        window.read_at(4, &mut two).unwrap();
        assert_eq!(&two, b"er");
        assert!(window.read_at(5, &mut two).is_err());
        let mut all = String::new();
        window.read_to_string(&mut all).unwrap();
        assert_eq!(all, "longer");
        assert_eq!(held.unread.len(), 0);
    }
}
