//! The last steps of a board: everything that still runs is killed, file systems are taken away, disks
//! are synced.
//!
//! Runs in a child of PID 1 (`goblin-init finish`), because a dead disk can hold up an unmount or a sync
//! for ever; PID 1 waits for it with a limit and then reboots all the same.

use goblin_sys::mount::{self, Mount, MountFlags};
use rustix::process::{Pid, Signal};

/// Rounds of taking mounts away: one that is in use by another one goes in the next round.
const ROUNDS_MAX: usize = 4;
/// File systems of the kernel, which hold nothing of the user's and are used until the very end.
const KERNEL_FS: [&str; 14] = [
    "proc",
    "sysfs",
    "devtmpfs",
    "devpts",
    "tmpfs",
    "cgroup2",
    "efivarfs",
    "pstore",
    "erofs",
    "ramfs",
    "rootfs",
    "securityfs",
    "debugfs",
    "tracefs",
];

/// What is told when nothing stays mounted.
pub const ALL_UNMOUNTED: &str = "every file system was taken away";
/// Is in each line about something that was not to be taken away.
pub const STAYS: &str = "stays ";

/// Unmounts and syncs. Lines for the log go to standard error, which PID 1 reads: what stayed mounted, or that
/// nothing did.
pub fn run() {
    for round in 0..ROUNDS_MAX {
        let mounts = mounted();
        if mounts.is_empty() {
            break;
        }
        let last = round.saturating_add(1) == ROUNDS_MAX;
        // The newest first: what is mounted inside another mount came after it.
        for mount in mounts.iter().rev() {
            take_away(mount, last);
        }
    }
    rustix::fs::sync();
    match mount::mounts().map(wanted) {
        Ok(mounts) if mounts.is_empty() => eprintln!("{ALL_UNMOUNTED}"),
        Ok(_) => {}
        Err(err) => eprintln!("what is mounted {STAYS}so, for it cannot be read: {err}"),
    }
}

/// What is to be taken away; what cannot be read is told at the end.
fn mounted() -> Vec<Mount> {
    mount::mounts().map(wanted).unwrap_or_default()
}

fn wanted(mounts: Vec<Mount>) -> Vec<Mount> {
    let ours = |mount: &Mount| !KERNEL_FS.contains(&mount.fs_type.as_str());
    mounts.into_iter().filter(ours).collect()
}

fn take_away(mount: &Mount, last: bool) {
    // A file system of the other board may never answer again; nothing here is lost with it.
    let remote = mount.fs_type == "9p" || mount.fs_type.starts_with("fuse");
    let result =
        if remote { mount::umount_lazy(&mount.target) } else { mount::umount(&mount.target) };
    let Err(err) = result else { return };
    if !last {
        return;
    }
    eprintln!("{} {STAYS}mounted: {err}", mount.target.display());
    // Read-only is as good as unmounted for what is on the disk.
    if let Err(err) = mount::remount(&mount.target, MountFlags::RDONLY, "") {
        eprintln!("{} {STAYS}writable: {err}", mount.target.display());
    }
}

/// Sends a signal to every process but PID 1.
pub fn signal_all(signal: Signal) {
    // ESRCH says that nobody is left.
    let _ = kill_everyone(signal);
}

fn kill_everyone(signal: Signal) -> nix::Result<()> {
    let signal = nix::sys::signal::Signal::try_from(signal.as_raw())?;
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(-1), signal)
}

/// Sends a signal to one process, which PID 1 has not reaped yet.
pub fn signal_one(pid: u32, signal: Signal) {
    if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
        let _ = rustix::process::kill_process(pid, signal);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_holds_data_is_taken_away() {
        let mount = |fs_type: &str| Mount {
            target: "/x".into(),
            fs_type: fs_type.into(),
            source: "s".into(),
            device: (0, 1),
            options: "rw".into(),
            fs_options: String::new(),
        };
        let kept = wanted(["erofs", "btrfs", "tmpfs", "vfat", "9p"].map(mount).to_vec());
        let kinds: Vec<_> = kept.iter().map(|mount| mount.fs_type.as_str()).collect();
        assert_eq!(kinds, ["btrfs", "vfat", "9p"]);
    }
}
