//! Brings the ESP of the mirror to what the one of the booted disk holds.
//!
//! Order: what is new is written under another name, read back past the cache and compared, then gets its name;
//! releases come before the loader, and only then goes what the other ESP no longer has. So the mirror starts a
//! good release after any of these changes; only good releases are brought to it, and the loader's counters stay
//! where the loader counts.

use goblin_core_types::{Digest, SlotState, paths};
use goblin_core_update::slots;
use goblin_sys::block;
use goblin_sys::writer::Writer;
use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// Most files of an ESP.
const FILES_MAX: usize = 4096;
/// Largest file, in bytes.
const FILE_BYTES_MAX: u64 = 512 << 20;
/// Name under which a file is written.
const NEW_NAME: &str = ".new";

/// The files that a mirror shall have, by their path, with what tells that one changed.
pub(crate) type Files = BTreeMap<PathBuf, (u64, Option<SystemTime>)>;

/// What of an ESP is mirrored.
pub(crate) fn files(root: &Path) -> io::Result<Files> {
    let mut found = Files::new();
    let mut folders = vec![PathBuf::new()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(root.join(&folder))?.take(FILES_MAX) {
            let entry = entry?;
            let path = folder.join(entry.file_name());
            let about = entry.metadata()?;
            if about.is_dir() {
                folders.push(path);
            } else if is_mirrored(&path) && found.len() < FILES_MAX {
                found.insert(path, (about.len(), about.modified().ok()));
            }
        }
    }
    Ok(found)
}

fn is_mirrored(path: &Path) -> bool {
    let Some(name) = path.file_name().and_then(|name| name.to_str()) else { return false };
    if name == NEW_NAME
        || name.starts_with("random-seed")
        || path == Path::new(paths::ESP_PROVISION)
    {
        return false;
    }
    let in_linux = path.parent() == Some(Path::new(paths::ESP_LINUX));
    !in_linux
        || slots::parse_file_name(name).is_none_or(|(_, state)| matches!(state, SlotState::Good))
}

/// Makes the ESP at `to` hold `wanted` of the one at `from`.
pub(crate) fn bring(from: &Path, to: &Path, wanted: &Files) -> io::Result<()> {
    let writer = Writer::default();
    let mut order: Vec<&PathBuf> = wanted.keys().collect();
    let linux = Path::new(paths::ESP_LINUX);
    order.sort_by_key(|path| (!path.starts_with(linux), path.starts_with("EFI"), *path));
    for path in order {
        let (source, place) = (from.join(path), to.join(path));
        let digest = digest_of(&source)?;
        if place.is_file() && digest_of(&place)? == digest {
            continue;
        }
        let folder = place.parent().unwrap_or(to);
        std::fs::create_dir_all(folder)?;
        let new = folder.join(NEW_NAME);
        let mut file = writer.create(&new)?;
        io::copy(&mut File::open(&source)?, &mut file)?;
        file.sync()?;
        if digest_of(&new)? != digest {
            return Err(io::Error::other(format!("{} was not kept as written", path.display())));
        }
        writer.rename_whole(&new, &place)?;
    }
    for path in files_of_all(to)?.into_iter().filter(|path| !wanted.contains_key(path)) {
        writer.remove_whole(&to.join(path))?;
    }
    Ok(())
}

/// What [`bring`] may remove: releases and entries of the boot menu, nothing else.
fn files_of_all(root: &Path) -> io::Result<Vec<PathBuf>> {
    let mut all = Vec::new();
    for folder in [paths::ESP_LINUX, paths::ESP_ENTRIES] {
        let entries = match std::fs::read_dir(root.join(folder)) {
            Err(err) if err.kind() == io::ErrorKind::NotFound => continue,
            entries => entries?,
        };
        for entry in entries.take(FILES_MAX).flatten() {
            all.push(Path::new(folder).join(entry.file_name()));
        }
    }
    Ok(all)
}

fn digest_of(path: &Path) -> io::Result<Digest> {
    block::digest_direct(path, FILE_BYTES_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mirror_gets_good_releases_and_loses_what_is_gone() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("a"), dir.path().join("b"));
        let put = |root: &Path, path: &str, text: &str| {
            let path = root.join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        put(&from, "EFI/BOOT/BOOTX64.EFI", "loader");
        put(&from, "EFI/Linux/goblinux_2.efi", "two");
        put(&from, "EFI/Linux/goblinux_3+2-1.efi", "three");
        put(&from, "EFI/Linux/.new", "half");
        put(&from, "loader/entries/reset_2.conf", "entry");
        put(&from, "provision.toml", "secret");
        put(&to, "EFI/Linux/goblinux_1.efi", "one");
        put(&to, "EFI/Linux/goblinux_2.efi", "torn");
        put(&to, "provision.toml", "");
        bring(&from, &to, &files(&from).unwrap()).unwrap();
        let names: Vec<_> = files(&to).unwrap().into_keys().collect();
        let expected =
            ["EFI/BOOT/BOOTX64.EFI", "EFI/Linux/goblinux_2.efi", "loader/entries/reset_2.conf"];
        assert_eq!(names, expected.map(PathBuf::from));
        assert_eq!(std::fs::read(to.join("EFI/Linux/goblinux_2.efi")).unwrap(), b"two");
        assert_eq!(std::fs::read(to.join("provision.toml")).unwrap(), b"");
    }
}
