//! Files that are replaced whole: a reader sees the old or the new content, never a part.

use crate::writer::Change;
use rustix::fs::{Mode, OFlags};
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::path::Path;

/// Replaces `path` by `bytes`: writes a temporary file beside it, syncs it, renames it over, syncs the
/// directory. After a power cut the file is whole, old or new.
///
/// # Errors
/// Whatever the file system says; the old content is then still there.
pub fn replace(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    replace_told(path, bytes, mode, &|_| {})
}

/// [`replace`], with a word after each step.
pub(crate) fn replace_told(
    path: &Path,
    bytes: &[u8],
    mode: u32,
    tell: &dyn Fn(Change<'_>),
) -> io::Result<()> {
    let (parent, temporary) = beside(path)?;
    let replaced = write_new(&temporary, bytes, mode).and_then(|file| {
        tell(Change::Create(&temporary));
        tell(Change::Write(&temporary, 0, bytes));
        file.sync_all()?;
        tell(Change::SyncFile(&temporary));
        std::fs::rename(&temporary, path)
    });
    if let Err(err) = replaced {
        // The rest of a failed write only costs space; the first error is the one to report.
        let _ = std::fs::remove_file(&temporary);
        return Err(err);
    }
    tell(Change::Rename(&temporary, path));
    File::open(parent)?.sync_all()?;
    tell(Change::SyncFolder(parent));
    Ok(())
}

/// Like [`replace`], without waiting for the disk: for tmpfs, where there is none.
///
/// # Errors
/// Whatever the file system says; the old content is then still there.
pub fn replace_volatile(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let (_, temporary) = beside(path)?;
    write_new(&temporary, bytes, mode)?;
    std::fs::rename(&temporary, path)
}

/// Reads a file of at most `bytes_max` bytes.
///
/// # Errors
/// `InvalidData` when the file is longer; otherwise whatever the file system says.
pub fn read_bounded(path: &Path, bytes_max: usize) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let limit = u64::try_from(bytes_max).unwrap_or(u64::MAX).saturating_add(1);
    File::open(path)?.take(limit).read_to_end(&mut bytes)?;
    if bytes.len() > bytes_max {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            format!("longer than the {bytes_max} bytes allowed"),
        ));
    }
    Ok(bytes)
}

fn beside(path: &Path) -> io::Result<(&Path, std::path::PathBuf)> {
    let invalid = || io::Error::new(io::ErrorKind::InvalidInput, "path has no parent or name");
    let parent = path.parent().ok_or_else(invalid)?;
    let mut name = OsString::from(".");
    name.push(path.file_name().ok_or_else(invalid)?);
    // Two writers of one file in one process would be two owners of one truth; the pid keeps processes
    // apart.
    name.push(format!(".{}.new", std::process::id()));
    Ok((parent, parent.join(name)))
}

fn write_new(path: &Path, bytes: &[u8], mode: u32) -> io::Result<File> {
    let flags =
        OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let fd: OwnedFd = rustix::fs::open(path, flags, Mode::from_raw_mode(mode))?;
    let mut file = File::from(fd);
    file.write_all(bytes)?;
    Ok(file)
}
