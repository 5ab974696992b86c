//! The directories that shares are mounted on.

use goblin_sys::mount::{self, MountFlags};
use std::io;
use std::path::Path;

/// Room of the small file system that holds nothing but directories.
const OPTIONS: &str = "size=256k,mode=0755";
const FLAGS: MountFlags = MountFlags::NOSUID.union(MountFlags::NODEV).union(MountFlags::NOEXEC);

/// Makes one directory per share in `root`, on a tmpfs of its own where `root` is read-only. That tmpfs
/// is read-only afterwards: what a program writes while a share is away must fail, not vanish under
/// the mount that comes later.
///
/// # Errors
/// The kernel's.
pub fn prepare(root: &Path, names: &[&str]) -> io::Result<()> {
    for name in names {
        // What an earlier run of this agent left; its connection cannot be watched any more.
        detach_all(&root.join(name))?;
    }
    let ours = mount::mount_at(root)?.is_some_and(|found| found.fs_type == "tmpfs");
    if ours {
        mount::remount(root, FLAGS, OPTIONS)?;
    } else if make(root, names).is_err() {
        mount::mount("shares", root, "tmpfs", FLAGS, OPTIONS)?;
    } else {
        return Ok(());
    }
    make(root, names)?;
    mount::remount(root, FLAGS | MountFlags::RDONLY, OPTIONS)
}

/// Takes away every mount on `path`.
///
/// # Errors
/// The kernel's.
pub fn detach_all(path: &Path) -> io::Result<()> {
    while mount::mount_at(path)?.is_some() {
        mount::umount_lazy(path)?;
    }
    Ok(())
}

fn make(root: &Path, names: &[&str]) -> io::Result<()> {
    names.iter().try_for_each(|name| match std::fs::create_dir(root.join(name)) {
        Err(err) if err.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        other => other,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_writable_root_gets_plain_directories() {
        let dir = tempfile::tempdir().unwrap();
        prepare(dir.path(), &["main", "photos"]).unwrap();
        prepare(dir.path(), &["main", "photos"]).unwrap();
        assert!(dir.path().join("photos").is_dir());
        assert!(mount::mount_at(dir.path()).unwrap().is_none());
    }
}
