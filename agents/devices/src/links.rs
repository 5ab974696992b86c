//! Links below `/dev/disk`.

use std::io;
use std::path::{Path, PathBuf};

/// Makes a link in one step, so that whoever follows it finds the old target or the new one.
///
/// # Errors
/// The file system's.
pub fn make(link: &Path, target: &Path) -> io::Result<()> {
    let folder = link.parent().ok_or(io::ErrorKind::InvalidInput)?;
    std::fs::create_dir_all(folder)?;
    let mut fresh = PathBuf::from(link).into_os_string();
    fresh.push(".new");
    let _ = std::fs::remove_file(&fresh);
    std::os::unix::fs::symlink(target, &fresh)?;
    std::fs::rename(&fresh, link)
}

/// Takes a link away; that there is none is fine.
///
/// # Errors
/// The file system's.
pub fn remove(link: &Path) -> io::Result<()> {
    match std::fs::remove_file(link) {
        Err(err) if err.kind() != io::ErrorKind::NotFound => Err(err),
        _ => Ok(()),
    }
}

/// Takes every link away that an earlier run left, and leaves the folder: what is there now is named anew.
///
/// # Errors
/// The file system's.
pub fn clear(folder: &Path) -> io::Result<()> {
    let entries = match std::fs::read_dir(folder) {
        Err(err) if err.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            std::fs::remove_dir_all(entry.path())?;
        } else {
            std::fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_is_made_moved_and_taken_away() {
        let dir = tempfile::tempdir().unwrap();
        let link = dir.path().join("by-id/a");
        make(&link, Path::new("/dev/sda")).unwrap();
        make(&link, Path::new("/dev/sdb")).unwrap();
        assert_eq!(std::fs::read_link(&link).unwrap(), Path::new("/dev/sdb"));
        remove(&link).unwrap();
        remove(&link).unwrap();
        make(&link, Path::new("/dev/sda")).unwrap();
        clear(dir.path()).unwrap();
        clear(dir.path()).unwrap();
        assert!(dir.path().exists() && std::fs::symlink_metadata(&link).is_err());
        clear(&dir.path().join("none")).unwrap();
    }
}
