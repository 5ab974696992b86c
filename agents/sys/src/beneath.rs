//! File operations beneath a directory descriptor, for a server whose clients choose the names.
//!
//! Files are held as O_PATH descriptors: rename-proof, and without any effect on the file. A step to a
//! name uses `openat2(2)` with RESOLVE_BENEATH, RESOLVE_NO_SYMLINKS and RESOLVE_NO_MAGICLINKS. Every
//! other function takes a descriptor and **one** name; names with a slash are refused here once more.
//!
//! Opening for reading or writing goes through `/proc/self/fd`, and only for plain files and directories:
//! opening a FIFO blocks, opening a device may do anything.

use rustix::fs::{
    AtFlags, CWD, FileType, Mode, OFlags, ResolveFlags, StatxFlags, StatxTimestamp, Timespec,
    Timestamps,
};
use rustix::io::Errno;
use rustix::path::DecInt;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::OnceLock;

mod data;
mod range;
mod xattr;

pub use data::{
    DirEntry, ReadNow, WriteNow, list, read_at, read_now, sync, sync_all, write_at, write_now,
};
pub use range::{Hold, Range, lock_holder, try_lock};
pub use rustix::fs::{FileType as Kind, StatFs};
pub use xattr::{remove_xattr, set_xattr, xattr, xattr_names};

/// Longest target of a symbolic link in bytes (PATH_MAX of Linux without its NUL).
pub const LINK_BYTES_MAX: usize = 4095;
/// `f_type` of tmpfs (TMPFS_MAGIC of `linux/magic.h`).
const TMPFS_MAGIC: u64 = 0x0102_1994;

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

/// Several steps at once: a path of plain names below a held directory.
///
/// # Errors
/// `EINVAL` for a path with an empty name, `.` or `..`; else as [`step`].
pub fn walk(dir: impl AsFd, path: &str) -> io::Result<OwnedFd> {
    let mut names = path.split('/');
    let mut held = step(dir, names.next().unwrap_or_default().as_bytes())?;
    for name in names {
        held = step(&held, name.as_bytes())?;
    }
    Ok(held)
}

/// Attributes of a held file.
///
/// # Errors
/// Whatever the file system says.
pub fn stat(fd: impl AsFd) -> io::Result<Meta> {
    look(fd, b"", AtFlags::EMPTY_PATH | AtFlags::SYMLINK_NOFOLLOW)
}

/// Attributes of a name in a directory; a symbolic link's own.
///
/// # Errors
/// `NotFound`; `EINVAL` for what is no single name.
pub fn stat_at(dir: impl AsFd, name: &[u8]) -> io::Result<Meta> {
    look(dir, single(name)?, AtFlags::SYMLINK_NOFOLLOW)
}

fn look(fd: impl AsFd, name: &[u8], flags: AtFlags) -> io::Result<Meta> {
    let mask = StatxFlags::BASIC_STATS | StatxFlags::BTIME;
    let s = rustix::fs::statx(fd, name, flags, mask)?;
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
    open_file_of(held, stat(held)?.kind(), mode)
}

/// As [`open_file`], when the caller has looked at this descriptor before: a file stays of its kind.
///
/// # Errors
/// As [`open_file`].
pub fn open_file_of(held: BorrowedFd<'_>, kind: Kind, mode: OpenMode) -> io::Result<OwnedFd> {
    match kind {
        FileType::RegularFile => {}
        FileType::Directory => return Err(Errno::ISDIR.into()),
        FileType::Symlink => return Err(Errno::LOOP.into()),
        _ => return Err(Errno::PERM.into()),
    }
    // The descriptor pins the file that was looked at, so that nothing can be put in its place.
    let name = DecInt::from_fd(held);
    Ok(rustix::fs::openat(proc_fds()?, name, mode.flags(), Mode::empty())?)
}

/// The directory of this process's descriptors, held: the way to it costs a quarter of an open.
fn proc_fds() -> io::Result<BorrowedFd<'static>> {
    static HELD: OnceLock<OwnedFd> = OnceLock::new();
    if let Some(held) = HELD.get() {
        return Ok(held.as_fd());
    }
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let fd = rustix::fs::open("/proc/self/fd", flags, Mode::empty())?;
    // Another thread may have been quicker; both lead to the same.
    Ok(HELD.get_or_init(|| fd).as_fd())
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

/// Whether a held file is on a file system without a disk (`tmpfs(5)`).
pub fn is_in_memory(held: impl AsFd) -> bool {
    stat_fs(held).is_ok_and(|stat| u64::try_from(stat.f_type) == Ok(TMPFS_MAGIC))
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
