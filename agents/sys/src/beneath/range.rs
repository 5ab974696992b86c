//! Byte range locks of open file descriptions (`fcntl(2)`, F_OFD_SETLK): they end with the descriptor, and
//! know nothing of processes.

use rustix::io::Errno;
use std::io;
use std::os::fd::AsFd;

/// A byte range lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Range {
    /// What is held or wanted.
    pub hold: Hold,
    /// First byte.
    pub start: u64,
    /// Bytes; 0 for all to the end.
    pub length: u64,
}

/// Kind of lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hold {
    /// Shared.
    Shared,
    /// Alone.
    Exclusive,
    /// None.
    Nothing,
}

fn flock_of(range: Range) -> io::Result<libc::flock> {
    let kind = match range.hold {
        Hold::Shared => libc::F_RDLCK,
        Hold::Exclusive => libc::F_WRLCK,
        Hold::Nothing => libc::F_UNLCK,
    };
    Ok(libc::flock {
        l_type: i16::try_from(kind).unwrap_or_default(),
        l_whence: i16::try_from(libc::SEEK_SET).unwrap_or_default(),
        l_start: i64::try_from(range.start).map_err(|_| Errno::INVAL)?,
        // From a start within range, a longer length means "to the end" as well.
        l_len: i64::try_from(range.length)
            .ok()
            .filter(|length| {
                let end = range.start.checked_add(length.unsigned_abs());
                end.is_some_and(|end| i64::try_from(end).is_ok())
            })
            .unwrap_or(0),
        // fcntl(2): must be 0 for open file description locks.
        l_pid: 0,
    })
}

/// Takes or releases a lock of the open file description, without waiting; false when somebody else holds
/// it.
///
/// # Errors
/// Whatever the file system says.
pub fn try_lock(file: impl AsFd, range: Range) -> io::Result<bool> {
    let flock = flock_of(range)?;
    match nix::fcntl::fcntl(file, nix::fcntl::FcntlArg::F_OFD_SETLK(&flock)) {
        Ok(_) => Ok(true),
        Err(nix::Error::EAGAIN | nix::Error::EACCES) => Ok(false),
        Err(err) => Err(err.into()),
    }
}

/// Who stands in the way of a lock; [`Hold::Nothing`] when nobody does.
///
/// # Errors
/// Whatever the file system says.
pub fn lock_holder(file: impl AsFd, range: Range) -> io::Result<Range> {
    let mut flock = flock_of(range)?;
    nix::fcntl::fcntl(file, nix::fcntl::FcntlArg::F_OFD_GETLK(&mut flock))?;
    let hold = match i32::from(flock.l_type) {
        libc::F_RDLCK => Hold::Shared,
        libc::F_WRLCK => Hold::Exclusive,
        _ => return Ok(Range { hold: Hold::Nothing, ..range }),
    };
    Ok(Range {
        hold,
        start: u64::try_from(flock.l_start).unwrap_or(0),
        length: u64::try_from(flock.l_len).unwrap_or(0),
    })
}
