//! Mounts: the old `mount(2)` family, and the table of what is mounted.
//!
//! Source of the table's format: `Documentation/filesystems/proc.rst`, section 3.5, of the kernel.

pub use rustix::mount::MountFlags;
use rustix::mount::{MountPropagationFlags, UnmountFlags};
use std::ffi::CString;
use std::io;
use std::path::{Path, PathBuf};

/// Longest mount table read, in bytes.
const MOUNTINFO_BYTES_MAX: usize = 1 << 20;

/// One line of `/proc/self/mountinfo`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// Directory it is mounted on.
    pub target: PathBuf,
    /// File system, like `btrfs`.
    pub fs_type: String,
    /// Device or other source, as the file system names it.
    pub source: PathBuf,
    /// Device number of the file system, `(major, minor)`; anonymous for btrfs and tmpfs.
    pub device: (u32, u32),
    /// Options of the mount, joined by commas: `rw,nosuid`.
    pub options: String,
    /// Options of the file system itself, joined by commas.
    pub fs_options: String,
}

impl Mount {
    /// True when this mount cannot be written to.
    pub fn read_only(&self) -> bool {
        self.options.split(',').any(|word| word == "ro")
    }

    /// True when the file system itself refuses writes: it was mounted so everywhere, or it gave up writing
    /// after an error, as btrfs and ext4 do.
    pub fn fs_read_only(&self) -> bool {
        self.fs_options.split(',').any(|word| word == "ro")
    }
}

/// Mounts `source` of type `fs_type` on `target`, which must exist. `data` are the file system's own
/// options, joined by commas.
///
/// # Errors
/// The kernel's; `EBUSY` when the same thing is mounted there already.
pub fn mount(
    source: impl AsRef<Path>,
    target: impl AsRef<Path>,
    fs_type: &str,
    flags: MountFlags,
    data: &str,
) -> io::Result<()> {
    let data = CString::new(data).map_err(|_| io::ErrorKind::InvalidInput)?;
    let data = if data.is_empty() { None } else { Some(data.as_c_str()) };
    Ok(rustix::mount::mount(source.as_ref(), target.as_ref(), fs_type, flags, data)?)
}

/// Takes away the mount on `target`.
///
/// # Errors
/// The kernel's; `EBUSY` while something uses it.
pub fn umount(target: impl AsRef<Path>) -> io::Result<()> {
    Ok(rustix::mount::unmount(target.as_ref(), UnmountFlags::NOFOLLOW)?)
}

/// Takes away the mount on `target` from every path at once; the file system itself ends when its last
/// user does. For what must not hold up a shutdown.
///
/// # Errors
/// The kernel's.
pub fn umount_lazy(target: impl AsRef<Path>) -> io::Result<()> {
    Ok(rustix::mount::unmount(target.as_ref(), UnmountFlags::DETACH | UnmountFlags::NOFOLLOW)?)
}

/// Moves the mount on `from` to `to`.
///
/// # Errors
/// The kernel's.
pub fn move_mount(from: impl AsRef<Path>, to: impl AsRef<Path>) -> io::Result<()> {
    Ok(rustix::mount::mount_move(from.as_ref(), to.as_ref())?)
}

/// Makes `from` visible at `to` too.
///
/// # Errors
/// The kernel's.
pub fn bind(from: impl AsRef<Path>, to: impl AsRef<Path>) -> io::Result<()> {
    Ok(rustix::mount::mount_bind(from.as_ref(), to.as_ref())?)
}

/// Changes flags and options of what is mounted on `target`: all flags that shall hold, not only the
/// new ones.
///
/// # Errors
/// The kernel's; `EBUSY` when it shall become read-only and files are open for writing.
pub fn remount(target: impl AsRef<Path>, flags: MountFlags, data: &str) -> io::Result<()> {
    Ok(rustix::mount::mount_remount(target.as_ref(), flags, data)?)
}

/// Makes everything mounted at and below `target` private to this mount namespace.
///
/// # Errors
/// The kernel's.
pub fn make_private(target: impl AsRef<Path>) -> io::Result<()> {
    let flags = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    Ok(rustix::mount::mount_change(target.as_ref(), flags)?)
}

/// Everything mounted, in the order of mounting.
///
/// # Errors
/// When `/proc` is not there. Lines that cannot be understood are left out.
pub fn mounts() -> io::Result<Vec<Mount>> {
    let bytes = crate::files::read_bounded(Path::new("/proc/self/mountinfo"), MOUNTINFO_BYTES_MAX)?;
    Ok(parse(&String::from_utf8_lossy(&bytes)))
}

/// The mount on exactly `target`, the topmost where several are stacked.
///
/// # Errors
/// As [`mounts`].
pub fn mount_at(target: impl AsRef<Path>) -> io::Result<Option<Mount>> {
    Ok(mounts()?.into_iter().rev().find(|mount| mount.target == target.as_ref()))
}

fn parse(text: &str) -> Vec<Mount> {
    text.lines().filter_map(parse_line).collect()
}

/// `ID PARENT MAJOR:MINOR ROOT TARGET OPTIONS [OPTIONAL..] - TYPE SOURCE FS_OPTIONS`
fn parse_line(line: &str) -> Option<Mount> {
    let (place, file_system) = line.split_once(" - ")?;
    let mut place = place.split(' ').skip(2);
    let (major, minor) = place.next()?.split_once(':')?;
    let device = (major.parse().ok()?, minor.parse().ok()?);
    let target = unescape(place.nth(1)?);
    let options = place.next()?.to_owned();
    let mut file_system = file_system.split(' ');
    Some(Mount {
        target,
        device,
        options,
        fs_type: file_system.next()?.to_owned(),
        source: unescape(file_system.next()?),
        fs_options: file_system.next().unwrap_or_default().to_owned(),
    })
}

/// Undoes the kernel's `\040` for a blank, and the like.
fn unescape(text: &str) -> PathBuf {
    use std::os::unix::ffi::OsStringExt;
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, tail)) = rest.split_first() {
        rest = tail;
        if byte == b'\\'
            && let Some((digits, tail)) = tail.split_at_checked(3)
            && let Some(code) =
                std::str::from_utf8(digits).ok().and_then(|d| u8::from_str_radix(d, 8).ok())
        {
            out.push(code);
            rest = tail;
        } else {
            out.push(byte);
        }
    }
    PathBuf::from(std::ffi::OsString::from_vec(out))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_with_and_without_optional_fields_are_read() {
        let text = "24 1 0:22 / /my\\040disk rw,nosuid shared:7 - btrfs /dev/vda3 rw,space_cache\n\
                    25 24 254:1 / /x ro - vfat /dev/vda1 ro\n\
                    nonsense\n";
        let mounts = parse(text);
        assert_eq!(mounts.len(), 2);
        assert_eq!(mounts[0].target, Path::new("/my disk"));
        assert_eq!(mounts[0].fs_type, "btrfs");
        assert_eq!(mounts[0].source, Path::new("/dev/vda3"));
        assert!(!mounts[0].read_only() && !mounts[0].fs_read_only());
        let gave_up = parse("24 1 0:22 / /pool rw,nosuid - btrfs /dev/vdb ro,error\n");
        assert!(!gave_up[0].read_only() && gave_up[0].fs_read_only());
        assert_eq!(mounts[1].device, (254, 1));
        assert!(mounts[1].read_only());
    }

    #[test]
    fn the_table_of_this_machine_has_a_root() {
        assert!(mounts().unwrap().iter().any(|mount| mount.target == Path::new("/")));
    }
}
