//! cgroup v2: one group per unit, with its limits; killing a group kills all that a unit left behind.
//!
//! Source: `Documentation/admin-guide/cgroup-v2.rst` of the kernel.

use goblin_init_core::unit::Unit;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Where the tree is mounted.
pub const CGROUP: &str = "/sys/fs/cgroup";
/// Parent of the units' groups. PID 1 itself stays in the root group, which has no limits.
const UNITS: &str = "/sys/fs/cgroup/units";
/// Controllers handed down to the units.
const CONTROLLERS: [&str; 4] = ["+memory", "+pids", "+cpu", "+io"];

/// Makes the parent group and hands the controllers down. One that the kernel does not have is left out.
///
/// # Errors
/// When the tree is not mounted.
pub fn prepare() -> io::Result<()> {
    fs::create_dir_all(UNITS)?;
    for controller in CONTROLLERS {
        for group in [CGROUP, UNITS] {
            // Each by itself: one word that the kernel refuses would take the others down with it.
            let _ = fs::write(Path::new(group).join("cgroup.subtree_control"), controller);
        }
    }
    Ok(())
}

fn group(name: &str) -> PathBuf {
    Path::new(UNITS).join(name)
}

/// Makes a unit's group with its limits and returns the file through which a process joins it.
///
/// # Errors
/// When the group cannot be made or a limit cannot be set: a unit must not run without its limits.
pub fn make(unit: &Unit) -> io::Result<PathBuf> {
    let group = group(&unit.name);
    match fs::create_dir(&group) {
        Err(err) if err.kind() != io::ErrorKind::AlreadyExists => return Err(err),
        _ => {}
    }
    if let Some(mib) = unit.memory_max_mib {
        let bytes = u64::from(mib).saturating_mul(1 << 20);
        fs::write(group.join("memory.max"), bytes.to_string())?;
        // One process of a unit that is out of memory is no use without the others.
        fs::write(group.join("memory.oom.group"), "1")?;
    }
    if let Some(count) = unit.pids_max {
        fs::write(group.join("pids.max"), count.to_string())?;
    }
    Ok(group.join("cgroup.procs"))
}

/// Kills every process of a unit's group. Without a group there is nothing to kill.
pub fn kill(name: &str) {
    let _ = fs::write(group(name).join("cgroup.kill"), "1");
}
