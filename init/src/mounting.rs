//! Mount units' work: `goblin-init mount` and `goblin-init unmount`, run as children of PID 1, because a dead
//! disk can hold up either for ever.

use goblin_init_core::unit::MOUNT_FLAGS;
use goblin_sys::mount::{self, MountFlags};
use std::io;
use std::path::Path;

/// Mounts `what` on `target`, which is made if it is not there. What is mounted there already is left as it
/// is.
///
/// # Errors
/// The kernel's, with the place.
pub fn mount(what: &str, target: &str, fs_type: &str, options: &str) -> io::Result<()> {
    let named = |err: io::Error| io::Error::new(err.kind(), format!("{what} on {target}: {err}"));
    if is_mounted(target, what, fs_type)? {
        return Ok(());
    }
    std::fs::create_dir_all(target).map_err(named)?;
    let (flags, data) = split(options);
    mount::mount(what, target, fs_type, flags, &data).map_err(named)
}

/// Takes the mount on `target` away; none is fine.
///
/// # Errors
/// The kernel's; `EBUSY` while something uses it.
pub fn unmount(target: &str) -> io::Result<()> {
    match mount::umount(target) {
        // Not a mount point (`umount(2)`).
        Err(err) if err.kind() == io::ErrorKind::InvalidInput => Ok(()),
        other => other.map_err(|err| io::Error::new(err.kind(), format!("{target}: {err}"))),
    }
}

fn is_mounted(target: &str, what: &str, fs_type: &str) -> io::Result<bool> {
    let same = |mount: &mount::Mount| {
        mount.target == Path::new(target)
            && mount.source == Path::new(what)
            && mount.fs_type == fs_type
    };
    Ok(mount::mounts()?.iter().any(same))
}

/// Options of the mount itself, and the file system's own.
fn split(options: &str) -> (MountFlags, String) {
    let mut flags = MountFlags::empty();
    let mut data = Vec::new();
    for word in options.split(',').filter(|word| !word.is_empty()) {
        match word {
            "ro" => flags |= MountFlags::RDONLY,
            "nosuid" => flags |= MountFlags::NOSUID,
            "nodev" => flags |= MountFlags::NODEV,
            "noexec" => flags |= MountFlags::NOEXEC,
            "noatime" => flags |= MountFlags::NOATIME,
            "relatime" => flags |= MountFlags::RELATIME,
            "sync" => flags |= MountFlags::SYNCHRONOUS,
            "lazytime" => flags |= MountFlags::LAZYTIME,
            other if MOUNT_FLAGS.contains(&other) => {}
            other => data.push(other),
        }
    }
    (flags, data.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_told_apart() {
        let (flags, data) = split("ro,nosuid,,size=1m,mode=0700");
        assert_eq!(flags, MountFlags::RDONLY | MountFlags::NOSUID);
        assert_eq!(data, "size=1m,mode=0700");
        assert_eq!(split("rw"), (MountFlags::empty(), String::new()));
    }

    #[test]
    fn what_is_there_is_seen() {
        assert!(is_mounted("/proc", "proc", "proc").unwrap());
        assert!(!is_mounted("/proc", "proc", "tmpfs").unwrap());
    }
}
