//! Reading, writing, syncing and listing open files and directories.

use rustix::fs::RawDir;
use rustix::io::{Errno, ReadWriteFlags};
use std::io::{self, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd};

/// What came of a read that must not wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReadNow {
    /// So many bytes; 0 at the end.
    Got(usize),
    /// The disk would have to be asked.
    WouldWait,
    /// The file system cannot tell; it never will.
    Unknown,
}

/// Offsets are signed for the kernel: beyond half of all numbers they are refused by `pread(2)`, and the last one
/// means "wherever the descriptor stands" to `preadv2(2)`.
fn checked(offset: u64) -> io::Result<u64> {
    if i64::try_from(offset).is_ok() { Ok(offset) } else { Err(Errno::INVAL.into()) }
}

/// Reads what is in memory (`preadv2(2)`, RWF_NOWAIT).
///
/// # Errors
/// Whatever the file system says.
pub fn read_now(file: impl AsFd, offset: u64, into: &mut [u8]) -> io::Result<ReadNow> {
    let offset = checked(offset)?;
    let mut slices = [IoSliceMut::new(into)];
    match rustix::io::preadv2(file, &mut slices, offset, ReadWriteFlags::NOWAIT) {
        Ok(got) => Ok(ReadNow::Got(got)),
        Err(Errno::AGAIN | Errno::INTR) => Ok(ReadNow::WouldWait),
        Err(Errno::OPNOTSUPP) => Ok(ReadNow::Unknown),
        Err(err) => Err(err.into()),
    }
}

/// Reads until `into` is full or the file ends.
///
/// # Errors
/// Whatever the file system says.
pub fn read_at(file: impl AsFd, offset: u64, into: &mut [u8]) -> io::Result<usize> {
    checked(offset)?;
    let mut filled = 0usize;
    while let Some(rest) = into.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        let at = offset.saturating_add(u64::try_from(filled).unwrap_or(u64::MAX));
        match rustix::io::pread(&file, rest, at) {
            Ok(0) => break,
            Ok(got) => filled = filled.saturating_add(got),
            Err(Errno::INTR) => {}
            // What was read counts; the error comes again with the next read.
            Err(_) if filled > 0 => break,
            Err(err) => return Err(err.into()),
        }
    }
    Ok(filled)
}

/// Writes once; answers how many bytes were taken.
///
/// # Errors
/// Whatever the file system says.
pub fn write_at(file: impl AsFd, offset: u64, bytes: &[u8]) -> io::Result<usize> {
    let offset = checked(offset)?;
    loop {
        match rustix::io::pwrite(&file, bytes, offset) {
            Err(Errno::INTR) => {}
            other => return Ok(other?),
        }
    }
}

/// What came of a write that must not wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WriteNow {
    /// So many bytes were taken.
    Took(usize),
    /// The disk would have to be waited for.
    WouldWait,
    /// The file system cannot tell; it never will.
    Unknown,
}

/// Writes what memory takes (`pwritev2(2)`, RWF_NOWAIT).
///
/// # Errors
/// Whatever the file system says.
pub fn write_now(file: impl AsFd, offset: u64, bytes: &[u8]) -> io::Result<WriteNow> {
    let offset = checked(offset)?;
    let slices = [io::IoSlice::new(bytes)];
    match rustix::io::pwritev2(file, &slices, offset, ReadWriteFlags::NOWAIT) {
        Ok(took) => Ok(WriteNow::Took(took)),
        Err(Errno::AGAIN | Errno::INTR) => Ok(WriteNow::WouldWait),
        // Both are answers of kernels to "not on this file system"; a real EINVAL comes again from the
        // plain write.
        Err(Errno::OPNOTSUPP | Errno::INVAL) => Ok(WriteNow::Unknown),
        Err(err) => Err(err.into()),
    }
}

/// Waits until a file is on the disk; its data only, when `data_only`.
///
/// # Errors
/// Whatever the disk says.
pub fn sync(file: impl AsFd, data_only: bool) -> io::Result<()> {
    Ok(if data_only { rustix::fs::fdatasync(file) } else { rustix::fs::fsync(file) }?)
}

/// Waits until the whole file system of an open file is on the disk (`syncfs(2)`).
///
/// # Errors
/// The disk's, also for what was written back before, since `file` was opened.
pub fn sync_all(file: impl AsFd) -> io::Result<()> {
    Ok(rustix::fs::syncfs(file)?)
}

/// One entry of a listing.
#[derive(Debug, Clone, Copy)]
pub struct DirEntry<'a> {
    /// File.
    pub ino: u64,
    /// Cookie with which a listing goes on after this entry.
    pub next: u64,
    /// `d_type`: file type of `st_mode`, shifted right by 12 bits; 0 where the file system does not say.
    pub kind: u8,
    /// Name, with `.` and `..` among them.
    pub name: &'a [u8],
}

/// Lists an open directory from `cookie` on (0: the start) until its end or until `each` says no.
/// `buffer_bytes` is how much is asked of the kernel at a time.
///
/// # Errors
/// Whatever the file system says.
pub fn list(
    dir: BorrowedFd<'_>,
    cookie: u64,
    buffer_bytes: usize,
    mut each: impl FnMut(DirEntry<'_>) -> bool,
) -> io::Result<()> {
    rustix::fs::seek(dir, rustix::fs::SeekFrom::Start(cookie))?;
    let mut buffer = vec![MaybeUninit::uninit(); buffer_bytes];
    let mut raw = RawDir::new(dir, &mut buffer);
    while let Some(entry) = raw.next() {
        let entry = entry?;
        let kind = u8::try_from(entry.file_type().as_raw_mode() >> 12).unwrap_or(0);
        let name = entry.file_name().to_bytes();
        let next = entry.next_entry_cookie();
        if !each(DirEntry { ino: entry.ino(), next, kind, name }) {
            break;
        }
    }
    Ok(())
}
