//! What PID 1 does before its loop: mounts, kernel settings, the board's starting name.
//!
//! Nothing here is fatal: each step that fails is a line for the log, and the board goes on as far as it
//! can, for a board that is up and complains can be repaired.

use crate::{cgroup, preinit};
use goblin_sys::mount::MountFlags;
use goblin_sys::{efivar, reboot};
use rustix::mount::MountPropagationFlags;
use rustix::process::{Resource, Rlimit};
use std::fs;

/// Name of a board that was not provisioned.
const HOST_NAME: &[u8] = b"goblin";
/// Open files a unit may have.
const FILES_MAX: u64 = 65_536;

/// Settings of the kernel and why.
const SYSCTLS: &[(&str, &str)] = &[
    // Every unit's phase goes to the serial console; the default allows ten lines in five seconds.
    // The kernel wants the newline here.
    ("kernel/printk_devkmsg", "on\n"),
    // The console shows errors only; everything is in the log.
    ("kernel/printk", "4 4 1 4"),
    // Kernel addresses and the kernel's log are for root.
    ("kernel/kptr_restrict", "1"),
    ("kernel/dmesg_restrict", "1"),
    // Links in world-writable directories cannot be used to trick another user's program.
    ("fs/protected_hardlinks", "1"),
    ("fs/protected_symlinks", "1"),
    ("fs/protected_fifos", "2"),
    ("fs/protected_regular", "2"),
];

/// What else is mounted: type, target, flags, options.
const MOUNTS: &[(&str, &str, MountFlags, &str)] = &[
    ("devpts", "/dev/pts", MountFlags::NOSUID.union(MountFlags::NOEXEC), "mode=0620,ptmxmode=0666"),
    ("tmpfs", "/dev/shm", STRICT, "mode=1777"),
    ("tmpfs", "/tmp", STRICT, "mode=1777,size=25%"),
    // A unit that may read below a directory may do so in what is mounted there later only if the directory is
    // its own file system from the start: Landlock looks at no directory under a mount.
    ("tmpfs", "/shares", STRICT, "mode=0755,size=256k"),
    ("cgroup2", cgroup::CGROUP, STRICT, "nsdelegate,memory_recursiveprot"),
    ("pstore", crate::record::PSTORE, STRICT, ""),
];

const STRICT: MountFlags = MountFlags::NOSUID.union(MountFlags::NODEV).union(MountFlags::NOEXEC);

/// The kernel's file systems that preinit hands on, for a PID 1 that was started without one.
const MOUNTS_WITHOUT_PREINIT: &[(&str, &str, MountFlags, &str)] = &[
    ("devtmpfs", "/dev", MountFlags::NOSUID, "mode=0755"),
    ("proc", "/proc", STRICT, ""),
    ("sysfs", "/sys", STRICT, ""),
    ("tmpfs", "/run", MountFlags::NOSUID.union(MountFlags::NODEV), "mode=0755,size=32m"),
];

/// Brings the board to where units can start. Returns what went wrong, one sentence each.
pub fn prepare(mounted: bool) -> Vec<String> {
    let mut problems = Vec::new();
    if !mounted {
        mount_all(MOUNTS_WITHOUT_PREINIT, &mut problems);
        note(&mut problems, "mount efivarfs", efivar::mount_efivarfs());
    }
    mount_all(MOUNTS, &mut problems);
    // What a unit mounts for the board shows up in the trees of the others, which are made from this one.
    let shared = MountPropagationFlags::REC | MountPropagationFlags::SHARED;
    note(&mut problems, "shared mounts", rustix::mount::mount_change(c"/", shared));
    for (name, value) in SYSCTLS {
        note(&mut problems, name, fs::write(format!("/proc/sys/{name}"), value));
    }
    note(&mut problems, "cgroups", cgroup::prepare());
    // The `devices` unit may write there and nowhere else below /dev.
    let directories =
        [goblin_core_types::paths::RUN, goblin_core_types::paths::RUN_STATE, "/dev/disk"];
    for directory in directories {
        note(&mut problems, directory, fs::create_dir_all(directory));
    }
    let limit = Rlimit { current: Some(FILES_MAX), maximum: Some(FILES_MAX) };
    note(&mut problems, "file limit", rustix::process::setrlimit(Resource::Nofile, limit));
    note(&mut problems, "host name", rustix::system::sethostname(HOST_NAME));
    note(&mut problems, "loopback", goblin_sys::netdev::bring_loopback_up());
    note(&mut problems, "ctrl-alt-del", reboot::ctrl_alt_del_is_a_signal());
    // Files that units make are theirs and readable; what is secret says so itself.
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
    problems
}

fn mount_all(mounts: &[(&str, &str, MountFlags, &str)], problems: &mut Vec<String>) {
    for (fs_type, target, flags, data) in mounts {
        // Only where the root can be written to, and needed only there: the base has its mount points.
        let _ = fs::create_dir_all(target);
        note(problems, target, preinit::mount_kernel(fs_type, target, *flags, data));
    }
}

fn note<E: std::fmt::Display>(problems: &mut Vec<String>, what: &str, result: Result<(), E>) {
    if let Err(err) = result {
        problems.push(format!("{what}: {err}"));
    }
}
