//! File operations beneath a directory descriptor, for a server whose clients choose the names.
//!
//! Files are held as O_PATH descriptors: rename-proof, and without any effect on the file. A step to a
//! name uses `openat2(2)` with RESOLVE_BENEATH, RESOLVE_NO_SYMLINKS and RESOLVE_NO_MAGICLINKS. Every
//! other function takes a descriptor and **one** name; names with a slash are refused here once more.
//!
//! Opening for reading or writing goes through `/proc/self/fd`, and only for plain files and directories:
//! opening a FIFO blocks, opening a device may do anything.

use rustix::fs::{
    AtFlags, CWD, FileType, Mode, OFlags, RawDir, ResolveFlags, StatxFlags, StatxTimestamp,
    Timespec, Timestamps, XattrFlags,
};
use rustix::io::{Errno, ReadWriteFlags};
use std::ffi::CString;
use std::io::{self, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

pub use rustix::fs::{FileType as Kind, StatFs};

/// Longest target of a symbolic link in bytes (PATH_MAX of Linux without its NUL).
pub const LINK_BYTES_MAX: usize = 4095;

/// What `statx(2)` knows of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Meta {
    /// File system.
    pub dev: u64,
    /// File in it.
    pub ino: u64,
    /// Type and permission bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Hard links.
    pub nlink: u32,
    /// Device number of a device.
    pub rdev: u64,
    /// Size in bytes.
    pub size: u64,
    /// Good size of one read or write in bytes.
    pub blksize: u32,
    /// 512-byte blocks in use.
    pub blocks: u64,
    /// Last read.
    pub atime: Stamp,
    /// Last change of the content.
    pub mtime: Stamp,
    /// Last change of the attributes.
    pub ctime: Stamp,
    /// Birth, where the file system keeps it.
    pub btime: Option<Stamp>,
}

/// Seconds and nanoseconds since 1970.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stamp {
    /// Seconds; negative before 1970.
    pub sec: i64,
    /// Nanoseconds, below 1,000,000,000.
    pub nsec: u32,
}

impl From<StatxTimestamp> for Stamp {
    fn from(time: StatxTimestamp) -> Self {
        Self { sec: time.tv_sec, nsec: time.tv_nsec }
    }
}

impl Meta {
    /// Kind of file.
    pub const fn kind(&self) -> FileType {
        FileType::from_raw_mode(self.mode)
    }
}

/// How an access or modification time changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SetTime {
    /// Not at all.
    Keep,
    /// To the clock of this machine.
    Now,
    /// To this.
    To(Stamp),
}

fn single(name: &[u8]) -> io::Result<&[u8]> {
    match name {
        b"" | b"." | b".." => Err(Errno::INVAL.into()),
        name if name.contains(&b'/') => Err(Errno::INVAL.into()),
        name => Ok(name),
    }
}

fn proc_path(fd: BorrowedFd<'_>) -> String {
    format!("/proc/self/fd/{}", fd.as_raw_fd())
}

/// Holds a directory as the root of what is served.
///
/// # Errors
/// `NotFound`, `NotADirectory`, or whatever the file system says.
pub fn root(path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(rustix::fs::open(path, flags, Mode::empty())?)
}

/// One step to a name. Symbolic links are held themselves, never followed.
///
/// # Errors
/// `NotFound`; `ELOOP` or `EXDEV` when the kernel saw an attempt to leave.
pub fn step(dir: impl AsFd, name: &[u8]) -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    let name = single(name)?;
    loop {
        match rustix::fs::openat2(&dir, name, flags, Mode::empty(), resolve) {
            // openat2(2): a rename or mount elsewhere raced with the check; try again.
            Err(Errno::AGAIN | Errno::INTR) => {}
            other => return Ok(other?),
        }
    }
}

/// Attributes of a held file.
///
/// # Errors
/// Whatever the file system says.
pub fn stat(fd: impl AsFd) -> io::Result<Meta> {
    let mask = StatxFlags::BASIC_STATS | StatxFlags::BTIME;
    let s = rustix::fs::statx(fd, "", AtFlags::EMPTY_PATH | AtFlags::SYMLINK_NOFOLLOW, mask)?;
    let has_btime = s.stx_mask & StatxFlags::BTIME.bits() != 0;
    Ok(Meta {
        dev: rustix::fs::makedev(s.stx_dev_major, s.stx_dev_minor),
        ino: s.stx_ino,
        mode: u32::from(s.stx_mode),
        uid: s.stx_uid,
        gid: s.stx_gid,
        nlink: s.stx_nlink,
        rdev: rustix::fs::makedev(s.stx_rdev_major, s.stx_rdev_minor),
        size: s.stx_size,
        blksize: s.stx_blksize,
        blocks: s.stx_blocks,
        atime: s.stx_atime.into(),
        mtime: s.stx_mtime.into(),
        ctime: s.stx_ctime.into(),
        btime: has_btime.then(|| s.stx_btime.into()),
    })
}

/// How a file is opened.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct OpenMode {
    /// For reading.
    pub read: bool,
    /// For writing.
    pub write: bool,
    /// Every write goes to the end.
    pub append: bool,
    /// Cut to no bytes.
    pub truncate: bool,
    /// Every write waits for the disk.
    pub sync: bool,
}

impl OpenMode {
    fn flags(self) -> OFlags {
        let access = match (self.read, self.write) {
            (true, true) => OFlags::RDWR,
            (false, true) => OFlags::WRONLY,
            _ => OFlags::RDONLY,
        };
        let mut flags = access | OFlags::CLOEXEC | OFlags::NOCTTY | OFlags::NONBLOCK;
        flags.set(OFlags::APPEND, self.append);
        flags.set(OFlags::TRUNC, self.truncate);
        flags.set(OFlags::DSYNC, self.sync);
        flags
    }
}

/// Opens a held plain file.
///
/// # Errors
/// `EPERM` for anything but a plain file; `EISDIR` for a directory.
pub fn open_file(held: BorrowedFd<'_>, mode: OpenMode) -> io::Result<OwnedFd> {
    match stat(held)?.kind() {
        FileType::RegularFile => {}
        FileType::Directory => return Err(Errno::ISDIR.into()),
        FileType::Symlink => return Err(Errno::LOOP.into()),
        _ => return Err(Errno::PERM.into()),
    }
    // The descriptor pins the file that was looked at, so that nothing can be put in its place.
    Ok(rustix::fs::open(proc_path(held), mode.flags(), Mode::empty())?)
}

/// Holds the file of an open descriptor.
///
/// # Errors
/// When the process has no descriptor left.
pub fn hold(open: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    Ok(rustix::fs::open(proc_path(open), flags, Mode::empty())?)
}

/// Opens a held directory for listing.
///
/// # Errors
/// `ENOTDIR` for anything else.
pub fn open_dir(held: impl AsFd) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(rustix::fs::openat(held, ".", flags, Mode::empty())?)
}

/// Makes a plain file that was not there, and opens it.
///
/// # Errors
/// `AlreadyExists`, also for a dangling symbolic link.
pub fn create(
    dir: impl AsFd,
    name: &[u8],
    mode: OpenMode,
    permissions: u32,
) -> io::Result<OwnedFd> {
    let flags = mode.flags() | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW;
    let permissions = Mode::from_raw_mode(permissions & 0o7777);
    Ok(rustix::fs::openat(dir, single(name)?, flags, permissions)?)
}

/// Makes a directory.
///
/// # Errors
/// Whatever the file system says.
pub fn make_dir(dir: impl AsFd, name: &[u8], permissions: u32) -> io::Result<()> {
    Ok(rustix::fs::mkdirat(dir, single(name)?, Mode::from_raw_mode(permissions & 0o7777))?)
}

/// Makes a symbolic link.
///
/// # Errors
/// Whatever the file system says.
pub fn make_link(dir: impl AsFd, name: &[u8], target: &[u8]) -> io::Result<()> {
    if target.len() > LINK_BYTES_MAX {
        return Err(Errno::NAMETOOLONG.into());
    }
    Ok(rustix::fs::symlinkat(target, dir, single(name)?)?)
}

/// Makes a FIFO, socket or plain file; never a device.
///
/// # Errors
/// `EPERM` for a device; whatever the file system says.
pub fn make_node(dir: impl AsFd, name: &[u8], mode: u32) -> io::Result<()> {
    let kind = match FileType::from_raw_mode(mode) {
        kind @ (FileType::Fifo | FileType::Socket | FileType::RegularFile) => kind,
        // mknod(2): no type means a plain file.
        FileType::Unknown if mode & 0o170_000 == 0 => FileType::RegularFile,
        _ => return Err(Errno::PERM.into()),
    };
    let permissions = Mode::from_raw_mode(mode & 0o7777);
    Ok(rustix::fs::mknodat(dir, single(name)?, kind, permissions, 0)?)
}

/// Makes a further name of a held file.
///
/// # Errors
/// Whatever the file system says; `EPERM` for a directory.
pub fn hard_link(held: BorrowedFd<'_>, dir: impl AsFd, name: &[u8]) -> io::Result<()> {
    let name = single(name)?;
    match rustix::fs::linkat(held, "", &dir, name, AtFlags::EMPTY_PATH) {
        // linkat(2): without CAP_DAC_READ_SEARCH an empty path is not found; the way round it is /proc.
        Err(Errno::NOENT) => {
            let path = proc_path(held);
            Ok(rustix::fs::linkat(CWD, path, dir, name, AtFlags::SYMLINK_FOLLOW)?)
        }
        other => Ok(other?),
    }
}

/// Moves a name, over an existing one if there is one.
///
/// # Errors
/// Whatever the file system says.
pub fn rename(
    old_dir: impl AsFd,
    old_name: &[u8],
    new_dir: impl AsFd,
    new_name: &[u8],
) -> io::Result<()> {
    Ok(rustix::fs::renameat(old_dir, single(old_name)?, new_dir, single(new_name)?)?)
}

/// What a removal expects to find.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Remove {
    /// Anything but a directory.
    File,
    /// An empty directory.
    Dir,
}

/// Removes a name.
///
/// # Errors
/// Whatever the file system says.
pub fn remove(dir: impl AsFd, name: &[u8], what: Remove) -> io::Result<()> {
    let flags = match what {
        Remove::File => AtFlags::empty(),
        Remove::Dir => AtFlags::REMOVEDIR,
    };
    Ok(rustix::fs::unlinkat(dir, single(name)?, flags)?)
}

/// What a held symbolic link points to.
///
/// # Errors
/// `EINVAL` for anything else.
pub fn read_link(held: impl AsFd) -> io::Result<Vec<u8>> {
    match rustix::fs::readlinkat(held, "", Vec::new()) {
        // readlink(2) on something else than a link, by descriptor.
        Err(Errno::NOENT) => Err(Errno::INVAL.into()),
        other => Ok(other?.into_bytes()),
    }
}

/// Sets permission bits of a held file that is not a symbolic link.
///
/// # Errors
/// Whatever the file system says.
pub fn set_mode(held: BorrowedFd<'_>, permissions: u32) -> io::Result<()> {
    Ok(rustix::fs::chmod(proc_path(held), Mode::from_raw_mode(permissions & 0o7777))?)
}

/// Sets times of a held file, also of a symbolic link.
///
/// # Errors
/// Whatever the file system says.
pub fn set_times(held: impl AsFd, access: SetTime, modification: SetTime) -> io::Result<()> {
    let spec = |time| match time {
        SetTime::Keep => Timespec { tv_sec: 0, tv_nsec: rustix::fs::UTIME_OMIT },
        SetTime::Now => Timespec { tv_sec: 0, tv_nsec: rustix::fs::UTIME_NOW },
        SetTime::To(stamp) => Timespec { tv_sec: stamp.sec, tv_nsec: stamp.nsec.into() },
    };
    let times = Timestamps { last_access: spec(access), last_modification: spec(modification) };
    Ok(rustix::fs::utimensat(held, "", &times, AtFlags::EMPTY_PATH)?)
}

/// Sets the size of a file that is open for writing.
///
/// # Errors
/// Whatever the file system says.
pub fn cut(file: impl AsFd, size: u64) -> io::Result<()> {
    Ok(rustix::fs::ftruncate(file, size)?)
}

/// Sets the size of a held plain file.
///
/// # Errors
/// As [`open_file`]; whatever the file system says.
pub fn set_size(held: BorrowedFd<'_>, size: u64) -> io::Result<()> {
    let file = open_file(held, OpenMode { write: true, ..OpenMode::default() })?;
    cut(file, size)
}

/// Numbers of the file system of a held file.
///
/// # Errors
/// Whatever the file system says.
pub fn stat_fs(held: impl AsFd) -> io::Result<StatFs> {
    Ok(rustix::fs::fstatfs(held)?)
}

/// What came of a read that must not wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReadNow {
    /// So many bytes; 0 at the end.
    Got(usize),
    /// The disk would have to be asked.
    WouldWait,
}

/// Reads what is in memory (`preadv2(2)`, RWF_NOWAIT).
///
/// # Errors
/// Whatever the file system says.
pub fn read_now(file: impl AsFd, offset: u64, into: &mut [u8]) -> io::Result<ReadNow> {
    let mut slices = [IoSliceMut::new(into)];
    match rustix::io::preadv2(file, &mut slices, offset, ReadWriteFlags::NOWAIT) {
        Ok(got) => Ok(ReadNow::Got(got)),
        // Not all file systems know the flag.
        Err(Errno::AGAIN | Errno::OPNOTSUPP | Errno::INTR) => Ok(ReadNow::WouldWait),
        Err(err) => Err(err.into()),
    }
}

/// Reads until `into` is full or the file ends.
///
/// # Errors
/// Whatever the file system says.
pub fn read_at(file: impl AsFd, offset: u64, into: &mut [u8]) -> io::Result<usize> {
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

/// Value of an extended attribute of a held file that is not a symbolic link.
///
/// # Errors
/// `ENODATA` when there is none; whatever the file system says.
pub fn xattr(held: BorrowedFd<'_>, name: &[u8], bytes_max: usize) -> io::Result<Vec<u8>> {
    let mut value = vec![0; bytes_max];
    let name = CString::new(name)?;
    let got = rustix::fs::getxattr(proc_path(held), &name, value.as_mut_slice())?;
    value.truncate(got);
    Ok(value)
}

/// Names of the extended attributes of a held file that is not a symbolic link, each with a NUL.
///
/// # Errors
/// Whatever the file system says.
pub fn xattr_names(held: BorrowedFd<'_>, bytes_max: usize) -> io::Result<Vec<u8>> {
    let mut names = vec![0; bytes_max];
    let got = rustix::fs::listxattr(proc_path(held), names.as_mut_slice())?;
    names.truncate(got);
    Ok(names)
}

/// Sets an extended attribute; `flags` as in `setxattr(2)`.
///
/// # Errors
/// Whatever the file system says.
pub fn set_xattr(held: BorrowedFd<'_>, name: &[u8], value: &[u8], flags: u32) -> io::Result<()> {
    let flags = XattrFlags::from_bits(flags).ok_or(Errno::INVAL)?;
    Ok(rustix::fs::setxattr(proc_path(held), CString::new(name)?, value, flags)?)
}

/// Removes an extended attribute.
///
/// # Errors
/// `ENODATA` when there is none; whatever the file system says.
pub fn remove_xattr(held: BorrowedFd<'_>, name: &[u8]) -> io::Result<()> {
    Ok(rustix::fs::removexattr(proc_path(held), CString::new(name)?)?)
}

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
            .filter(|length| range.start.checked_add(length.unsigned_abs()).is_some())
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn a_step_holds_links_and_follows_none() {
        let dir = tempfile::tempdir().unwrap();
        symlink("/etc", dir.path().join("out")).unwrap();
        let root = root(dir.path()).unwrap();
        let link = step(&root, b"out").unwrap();
        assert_eq!(stat(&link).unwrap().kind(), FileType::Symlink);
        assert_eq!(read_link(&link).unwrap(), b"/etc");
        assert!(step(&link, b"passwd").is_err());
        assert!(open_file(link.as_fd(), OpenMode::default()).is_err());
    }

    #[test]
    fn names_that_are_paths_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("a")).unwrap();
        let root = root(dir.path()).unwrap();
        for name in [&b".."[..], b".", b"", b"a/..", b"/etc", b"a/"] {
            assert!(step(&root, name).is_err());
            assert!(make_dir(&root, name, 0o755).is_err());
            assert!(remove(&root, name, Remove::Dir).is_err());
        }
    }

    #[test]
    fn fifos_are_held_and_never_opened() {
        let dir = tempfile::tempdir().unwrap();
        let root = root(dir.path()).unwrap();
        make_node(&root, b"pipe", 0o010_644).unwrap();
        let held = step(&root, b"pipe").unwrap();
        let err = open_file(held.as_fd(), OpenMode::default()).unwrap_err();
        assert_eq!(err.raw_os_error(), Some(libc::EPERM));
        assert!(make_node(&root, b"disk", 0o060_644).is_err());
    }

    #[test]
    fn a_listing_goes_on_after_its_cookie() {
        let dir = tempfile::tempdir().unwrap();
        for index in 0..20 {
            std::fs::write(dir.path().join(format!("file{index}")), b"").unwrap();
        }
        let root = root(dir.path()).unwrap();
        let open = open_dir(&root).unwrap();
        let mut seen = Vec::new();
        let mut cookie = 0;
        loop {
            let before = seen.len();
            list(open.as_fd(), cookie, 256, |entry| {
                if seen.len() == before + 3 {
                    return false;
                }
                seen.push(entry.name.to_vec());
                cookie = entry.next;
                true
            })
            .unwrap();
            if seen.len() == before {
                break;
            }
        }
        seen.sort();
        seen.dedup();
        assert_eq!(seen.len(), 22);
    }
}
