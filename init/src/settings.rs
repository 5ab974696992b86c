//! What people set of units, on STATE: read and written by children of PID 1 (`goblin-init settings ..`), because
//! a disk can hold up whoever asks it, and because what lies there may be damaged in any way. PID 1 itself
//! takes the outcome from memory.
//!
//! Agents may write below `/state/config`; so links are not followed, and a file has to be one.

use crate::units;
use goblin_core_types::paths;
use goblin_init_core::settings::{self, FILE_BYTES_MAX, FILES_MAX, File, Found};
use goblin_sys::files;
use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags};
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::path::Path;

/// Where a child leaves what it found, for PID 1.
const RESULT: &str = "/run/goblin/unit-settings.json";
/// Longest outcome in bytes: a sentence or a few keys for each file.
const RESULT_BYTES_MAX: usize = FILES_MAX * 1024;
/// Beginning of a file that is being written; of a name that no unit has.
const UNFINISHED: &str = ".new-";
/// Most entries of the folder that are looked at.
const ENTRIES_MAX: usize = 4 * FILES_MAX;

/// In a child: reads every file and leaves the outcome for PID 1.
///
/// # Errors
/// When the units cannot be read, or the outcome cannot be written. A folder that is not there is an empty one.
pub fn read() -> io::Result<()> {
    let units = units::load_dir(Path::new(paths::UNITS))?.units;
    let found = settings::load(&units, contents(Path::new(paths::UNIT_SETTINGS))?);
    files::replace_volatile(Path::new(RESULT), &serde_json::to_vec(&found)?, 0o600)
}

/// In PID 1: what the child left.
///
/// # Errors
/// In a sentence, when there is nothing, or not what a child leaves.
pub fn outcome() -> Result<Vec<Found>, String> {
    let bytes = files::read_bounded(Path::new(RESULT), RESULT_BYTES_MAX)
        .map_err(|err| format!("{RESULT}: {err}"))?;
    serde_json::from_slice(&bytes).map_err(|err| format!("{RESULT}: {err}"))
}

/// In a child: keeps a unit's settings, or forgets them where the text is empty.
///
/// # Errors
/// The disk's; the file is then the old one.
pub fn write(unit: &str, text: &str) -> io::Result<()> {
    write_in(Path::new(paths::UNIT_SETTINGS), unit, text)
}

fn write_in(path: &Path, unit: &str, text: &str) -> io::Result<()> {
    match rustix::fs::mkdirat(CWD, path, Mode::from_raw_mode(0o700)) {
        Ok(()) | Err(rustix::io::Errno::EXIST) => {}
        Err(err) => return Err(err.into()),
    }
    let folder = open_folder(path)?;
    let (name, new) = (format!("{unit}.toml"), format!("{UNFINISHED}{unit}"));
    if text.is_empty() {
        rustix::fs::unlinkat(&folder, &name, AtFlags::empty())?;
    } else {
        // What a power cut left of an earlier try.
        let _ = rustix::fs::unlinkat(&folder, &new, AtFlags::empty());
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&folder, &new, flags, Mode::from_raw_mode(0o600))?;
        let mut file = std::fs::File::from(file);
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        rustix::fs::renameat(&folder, &new, &folder, &name)?;
    }
    Ok(rustix::fs::fsync(open_folder(path)?)?)
}

fn open_folder(path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(rustix::fs::open(path, flags, Mode::empty())?)
}

/// The files of the folder, by name, each with its content or why it cannot be read.
fn contents(path: &Path) -> io::Result<Vec<File>> {
    let folder = match open_folder(path) {
        Err(err) if err.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other?,
    };
    let mut names: Vec<String> = std::fs::read_dir(path)?
        .flatten()
        .take(ENTRIES_MAX)
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .filter(|name| !name.starts_with('.'))
        .collect();
    names.sort();
    let read = |name: String| {
        let content = content(&folder, &name).map_err(|err| err.to_string());
        (name, content)
    };
    Ok(names.into_iter().map(read).collect())
}

fn content(folder: &OwnedFd, name: &str) -> io::Result<Vec<u8>> {
    // A pipe must not make the reader wait for a writer.
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = rustix::fs::openat(folder, name, flags, Mode::empty())?;
    let kind = FileType::from_raw_mode(rustix::fs::fstat(&file)?.st_mode);
    if kind != FileType::RegularFile {
        return Err(io::Error::other("is not a file"));
    }
    let limit = u64::try_from(FILE_BYTES_MAX).unwrap_or(u64::MAX);
    let mut bytes = Vec::new();
    std::fs::File::from(file).take(limit.saturating_add(1)).read_to_end(&mut bytes)?;
    if bytes.len() > FILE_BYTES_MAX {
        return Err(io::Error::other(format!("is longer than {FILE_BYTES_MAX} bytes")));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_can_be_taken_away() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("units");
        assert_eq!(contents(&path).unwrap(), []);
        write_in(&path, "share", "nice = 1\n").unwrap();
        write_in(&path, "share", "nice = 2\n").unwrap();
        std::fs::write(path.join(".new-pool"), "torn").unwrap();
        let expected = ("share.toml".to_owned(), Ok(b"nice = 2\n".to_vec()));
        assert_eq!(contents(&path).unwrap(), [expected]);
        write_in(&path, "share", "").unwrap();
        assert_eq!(contents(&path).unwrap(), []);
        assert!(write_in(&path, "share", "").is_err(), "there is nothing to take away");
    }

    #[test]
    fn what_is_no_file_is_told_and_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("units");
        std::fs::create_dir_all(path.join("folder.toml")).unwrap();
        std::fs::write(dir.path().join("secret"), "nice = 1").unwrap();
        std::os::unix::fs::symlink("../secret", path.join("link.toml")).unwrap();
        std::fs::write(path.join("long.toml"), vec![b'#'; FILE_BYTES_MAX + 1]).unwrap();
        rustix::fs::mknodat(
            CWD,
            path.join("pipe.toml"),
            FileType::Fifo,
            Mode::from_raw_mode(0o600),
            0,
        )
        .unwrap();
        let found = contents(&path).unwrap();
        assert_eq!(found.len(), 4);
        assert!(found.iter().all(|(_, content)| content.is_err()), "{found:?}");
        // A folder that is a link is none.
        let link = dir.path().join("elsewhere");
        std::os::unix::fs::symlink("units", &link).unwrap();
        assert!(contents(&link).is_err());
        assert!(write_in(&link, "share", "nice = 1\n").is_err());
    }
}
