//! Folders of this machine, held open: every step goes by one name from an open folder, and follows no link.

use super::{CopyError, KIND, KIND_DIR, MODE_BITS, join};
use rustix::fs::{AtFlags, Dir, Mode, OFlags, Timespec, Timestamps};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

/// What is known of a file here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Meta {
    /// Kind and permission bits.
    pub mode: u32,
    /// Bytes.
    pub size: u64,
    /// Last change, seconds and nanoseconds; seconds before 1970 as two's complement.
    pub changed: (u64, u64),
    /// Its number on its file system.
    pub file: u64,
}

impl Meta {
    pub(super) fn is_dir(&self) -> bool {
        self.mode & KIND == KIND_DIR
    }
}

impl From<rustix::fs::Stat> for Meta {
    #[allow(clippy::unnecessary_cast)] // The kinds of the fields differ between machines.
    fn from(stat: rustix::fs::Stat) -> Self {
        Self {
            mode: stat.st_mode as u32,
            size: u64::try_from(stat.st_size).unwrap_or(0),
            changed: (unsigned(stat.st_mtime as i64), stat.st_mtime_nsec as u64),
            file: stat.st_ino as u64,
        }
    }
}

const fn unsigned(seconds: i64) -> u64 {
    u64::from_le_bytes(seconds.to_le_bytes())
}

const fn signed(seconds: u64) -> i64 {
    i64::from_le_bytes(seconds.to_le_bytes())
}

/// An open folder.
#[derive(Debug)]
pub(super) struct Folder {
    fd: OwnedFd,
    /// As messages show it.
    pub path: String,
}

impl Folder {
    /// A folder that a person named; links on the way are his.
    pub(super) fn open(path: &Path) -> Result<Self, CopyError> {
        let shown = path.display().to_string();
        let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC;
        match rustix::fs::open(path, flags, Mode::empty()) {
            Ok(fd) => Ok(Self { fd, path: shown }),
            Err(err) => Err(CopyError::Local { path: shown, source: err.into() }),
        }
    }

    /// The error of a name in it.
    pub(super) fn failed(&self, name: &[u8], err: impl Into<io::Error>) -> CopyError {
        CopyError::Local { path: join(&self.path, name), source: err.into() }
    }

    /// What is there under a name.
    pub(super) fn stat(&self, name: &[u8]) -> Result<Option<Meta>, CopyError> {
        match rustix::fs::statat(&self.fd, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(stat.into())),
            Err(rustix::io::Errno::NOENT) => Ok(None),
            Err(err) => Err(self.failed(name, err)),
        }
    }

    fn open_at(&self, name: &[u8], flags: OFlags, mode: u32) -> Result<OwnedFd, CopyError> {
        let flags = flags | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        rustix::fs::openat(&self.fd, name, flags, Mode::from_raw_mode(mode))
            .map_err(|err| self.failed(name, err))
    }

    /// A folder in it.
    pub(super) fn child(&self, name: &[u8]) -> Result<Self, CopyError> {
        let fd = self.open_at(name, OFlags::DIRECTORY | OFlags::RDONLY, 0)?;
        Ok(Self { fd, path: join(&self.path, name) })
    }

    /// A folder in it, made when it is not there.
    pub(super) fn child_or_new(&self, name: &[u8]) -> Result<Self, CopyError> {
        match rustix::fs::mkdirat(&self.fd, name, Mode::RWXU) {
            Ok(()) | Err(rustix::io::Errno::EXIST) => self.child(name),
            Err(err) => Err(self.failed(name, err)),
        }
    }

    /// An unfinished copy, made when it is not there.
    pub(super) fn open_part(&self, name: &[u8]) -> Result<File, CopyError> {
        // A FIFO in its place must not hold this program.
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NONBLOCK;
        Ok(self.open_at(name, flags, 0o600)?.into())
    }

    /// A file to be copied.
    pub(super) fn open_file(&self, name: &[u8]) -> Result<File, CopyError> {
        Ok(self.open_at(name, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY, 0)?.into())
    }

    pub(super) fn rename(&self, from: &[u8], to: &[u8]) -> Result<(), CopyError> {
        rustix::fs::renameat(&self.fd, from, &self.fd, to).map_err(|err| self.failed(to, err))
    }

    pub(super) fn remove(&self, name: &[u8]) -> Result<(), CopyError> {
        rustix::fs::unlinkat(&self.fd, name, AtFlags::empty()).map_err(|err| self.failed(name, err))
    }

    pub(super) fn read_link(&self, name: &[u8]) -> Result<Vec<u8>, CopyError> {
        rustix::fs::readlinkat(&self.fd, name, Vec::new())
            .map(std::ffi::CString::into_bytes)
            .map_err(|err| self.failed(name, err))
    }

    pub(super) fn symlink(&self, target: &[u8], name: &[u8]) -> Result<(), CopyError> {
        rustix::fs::symlinkat(target, &self.fd, name).map_err(|err| self.failed(name, err))
    }

    /// Names in it, sorted, without `.` and `..`.
    pub(super) fn names(&self) -> Result<Vec<Vec<u8>>, CopyError> {
        let failed =
            |err| CopyError::Local { path: self.path.clone(), source: io::Error::from(err) };
        let mut names = Vec::new();
        for entry in Dir::read_from(&self.fd).map_err(failed)? {
            let name = entry.map_err(failed)?.file_name().to_bytes().to_vec();
            if name != b"." && name != b".." {
                names.push(name);
            }
        }
        names.sort();
        Ok(names)
    }

    /// Gives the folder itself its permission bits and time, and brings its names to the disk.
    pub(super) fn finish(&self, mode: u32, changed: (u64, u64)) -> Result<(), CopyError> {
        set(&self.fd, mode, changed)
            .and_then(|()| self.sync())
            .map_err(|source| CopyError::Local { path: self.path.clone(), source })
    }

    /// Brings its names to the disk.
    pub(super) fn sync(&self) -> io::Result<()> {
        Ok(rustix::fs::fsync(&self.fd)?)
    }
}

/// What is known of an open file.
pub(super) fn meta(file: impl AsFd) -> io::Result<Meta> {
    Ok(rustix::fs::fstat(file)?.into())
}

/// Permission bits and time of change.
pub(super) fn set(file: impl AsFd, mode: u32, changed: (u64, u64)) -> io::Result<()> {
    rustix::fs::fchmod(&file, Mode::from_raw_mode(mode & MODE_BITS))?;
    let times = Timestamps {
        last_access: Timespec { tv_sec: 0, tv_nsec: rustix::fs::UTIME_OMIT },
        last_modification: Timespec {
            tv_sec: signed(changed.0),
            tv_nsec: i64::try_from(changed.1.min(999_999_999)).unwrap_or(0),
        },
    };
    Ok(rustix::fs::futimens(file, &times)?)
}
