//! The sandbox of a unit, prepared before the fork and put on after it, from the widest wall to the
//! narrowest: namespaces, mounts, devices, user, capabilities, no new privileges, Landlock, system calls.

use super::stage::{Failed, Stage, at};
use super::{kernel, landlock, mounts};
use goblin_core_types::paths;
use goblin_init_core::sandbox::{PARTITION, Sandbox};
use goblin_init_core::seccomp;
use rustix::thread::{CapabilitiesSecureBits, CapabilitySet, CapabilitySets, Gid, Uid};
use std::ffi::CString;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

/// Highest capability that a kernel may know; asking for one it does not know is no error here.
const CAPABILITY_LAST: u32 = 63;

/// A sandbox, ready to be put on.
#[derive(Debug)]
pub(super) struct Prepared {
    mounts: mounts::Prepared,
    user: u32,
    groups: Vec<Gid>,
    capabilities: CapabilitySet,
    landlock: landlock::Prepared,
    filter: Vec<libc::sock_filter>,
}

impl Prepared {
    /// Reads the unit's compiled list of system calls.
    pub(super) fn new(name: &str, sandbox: &Sandbox) -> io::Result<Self> {
        let own = Path::new(paths::RUN_STATE).join(name);
        let bits = sandbox.capabilities.iter().map(|kept| 1u64.wrapping_shl(kept.number().into()));
        Ok(Self {
            mounts: mounts::Prepared::new(sandbox, &own)?,
            user: sandbox.user.id(),
            groups: sandbox.groups.iter().map(|group| Gid::from_raw(*group)).collect(),
            capabilities: CapabilitySet::from_bits_retain(bits.fold(0, |all, bit| all | bit)),
            landlock: landlock::Prepared::new(sandbox, paths::RUN, &own.to_string_lossy())?,
            filter: read_filter(&Path::new(seccomp::FOLDER).join(format!("{name}.bpf")))?,
        })
    }

    /// Number of the user, to whom the pipes are given.
    pub(super) fn user(&self) -> u32 {
        self.user
    }

    /// Lets the unit's group open what the unit's own `/dev` has, and no other device.
    pub(super) fn guard_devices(&self, group: &OwnedFd) -> rustix::io::Result<()> {
        self.mounts.guard_devices(group)
    }

    /// In the child.
    pub(super) fn put_on(&self) -> Result<(), Failed> {
        at(Stage::Namespaces, self.mounts.leave())?;
        at(Stage::Mounts, self.mounts.make())?;
        at(Stage::Devices, self.mounts.make_devices())?;
        at(Stage::Capabilities, self.bound_capabilities())?;
        at(Stage::User, self.become_user())?;
        at(Stage::Capabilities, self.keep_capabilities())?;
        at(Stage::Privileges, rustix::thread::set_no_new_privs(true))?;
        at(Stage::Landlock, self.landlock.restrict())?;
        at(Stage::Seccomp, kernel::seccomp_filter(&self.filter))
    }

    /// Takes the others out of the bounding set, from which no program can get them back, and makes root
    /// a user like any other, for whom only the kept ones count.
    fn bound_capabilities(&self) -> rustix::io::Result<()> {
        for number in 0..=CAPABILITY_LAST {
            let one = CapabilitySet::from_bits_retain(1u64.wrapping_shl(number));
            if !self.capabilities.contains(one) {
                match rustix::thread::remove_capability_from_bounding_set(one) {
                    Ok(()) | Err(rustix::io::Errno::INVAL) => {}
                    Err(err) => return Err(err),
                }
            }
        }
        rustix::thread::set_capabilities_secure_bits(
            CapabilitiesSecureBits::KEEP_CAPS
                | CapabilitiesSecureBits::NO_ROOT
                | CapabilitiesSecureBits::NO_ROOT_LOCKED,
        )
    }

    fn become_user(&self) -> rustix::io::Result<()> {
        let (user, group) = (Uid::from_raw(self.user), Gid::from_raw(self.user));
        rustix::thread::set_thread_groups(&self.groups)?;
        rustix::thread::set_thread_res_gid(group, group, group)?;
        rustix::thread::set_thread_res_uid(user, user, user)
    }

    fn keep_capabilities(&self) -> rustix::io::Result<()> {
        let kept = self.capabilities;
        let sets = CapabilitySets { effective: kept, permitted: kept, inheritable: kept };
        rustix::thread::set_capabilities(None, sets)?;
        for one in kept.iter() {
            rustix::thread::configure_capability_in_ambient_set(one, true)?;
        }
        Ok(())
    }
}

/// Makes the unit's own folder, for its part of the status and its sockets. Others may look into it.
///
/// # Errors
/// The kernel's, where it cannot be made or given to the unit's user.
pub(super) fn own_folder(name: &str, sandbox: Option<&Sandbox>) -> io::Result<()> {
    let own = Path::new(paths::RUN_STATE).join(name);
    match std::fs::DirBuilder::new().recursive(true).mode(0o755).create(&own) {
        Err(err) if err.kind() != io::ErrorKind::AlreadyExists => return Err(err),
        _ => {}
    }
    let user = sandbox.map_or(0, |table| table.user.id());
    std::os::unix::fs::lchown(&own, Some(user), Some(user))
}

/// A compiled list as [`seccomp::compile`] wrote it.
///
/// # Errors
/// With the path: a unit must not run without its list.
fn read_filter(path: &Path) -> io::Result<Vec<libc::sock_filter>> {
    let bytes_max = seccomp::INSTRUCTIONS_MAX.saturating_mul(seccomp::INSTRUCTION_BYTES);
    let bytes = goblin_sys::files::read_bounded(path, bytes_max)
        .map_err(|err| io::Error::new(err.kind(), format!("{}: {err}", path.display())))?;
    let instructions = bytes.chunks(seccomp::INSTRUCTION_BYTES).map(|bytes| match *bytes {
        [c0, c1, jt, jf, k0, k1, k2, k3] => Some(libc::sock_filter {
            code: u16::from_le_bytes([c0, c1]),
            jt,
            jf,
            k: u32::from_le_bytes([k0, k1, k2, k3]),
        }),
        _ => None,
    });
    instructions.collect::<Option<Vec<_>>>().filter(|list| !list.is_empty()).ok_or_else(|| {
        let text = format!("{}: is no list of system calls", path.display());
        io::Error::new(io::ErrorKind::InvalidData, text)
    })
}

/// A path of a unit file for the kernel.
pub(super) fn c_string(path: &str) -> io::Result<CString> {
    CString::new(path).map_err(io::Error::from)
}

/// The paths that a device's name stands for: itself, or, where it ends in `*`, all that begin so, or the
/// partition of the system disk of that name.
pub(super) fn names(pattern: &str) -> Vec<String> {
    if let Some(name) = pattern.strip_prefix(PARTITION) {
        // Links, for a look into the disks would wait for them. Should the system disk go, the board works from its
        // mirror.
        let other = (name == paths::PART_RECORD).then_some(paths::OTHER_RECORD);
        let links = [Some(name), other].into_iter().flatten();
        let devices = links
            .filter_map(|name| std::fs::read_link(Path::new(paths::SYSTEM_DISK).join(name)).ok());
        return devices
            .filter(|device| device.starts_with("/dev"))
            .map(|device| device.to_string_lossy().into_owned())
            .collect();
    }
    let Some(start) = pattern.strip_suffix('*') else { return vec![pattern.to_owned()] };
    let path = Path::new(start);
    // `/dev/input/*` names a folder, `/dev/input/event*` a folder and the start of a name.
    let (folder, begin) = if start.ends_with('/') {
        (path, String::new())
    } else {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        (path.parent().unwrap_or(Path::new("/")), name)
    };
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut found: Vec<String> = entries
        .filter(|entry| entry.file_name().to_string_lossy().starts_with(&begin))
        .map(|entry| entry.path().to_string_lossy().into_owned())
        .collect();
    found.sort();
    found
}

#[cfg(test)]
mod stages;
#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_what_is_there() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["vport0p1", "vport0p2", "vda"] {
            std::fs::write(dir.path().join(name), "").unwrap();
        }
        let at = |name: &str| format!("{}/{name}", dir.path().display());
        assert_eq!(names(&at("vport*")), [at("vport0p1"), at("vport0p2")]);
        assert_eq!(names(&at("*")).len(), 3);
        assert_eq!(names(&at("x")), [at("x")]);
        assert!(names(&at("absent/*")).is_empty());
    }

    #[test]
    fn a_compiled_list_is_read_whole_or_not_at_all() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.bpf");
        assert!(read_filter(&path).unwrap_err().to_string().contains("x.bpf"));
        let unit = "description = 'd'\nkind = 'service'\nexec = ['/x']\n[sandbox]\n";
        let unit = goblin_init_core::unit::parse("x", unit).unwrap();
        let bytes = seccomp::compile(&unit.sandbox.unwrap());
        std::fs::write(&path, &bytes).unwrap();
        assert_eq!(read_filter(&path).unwrap().len() * seccomp::INSTRUCTION_BYTES, bytes.len());
        std::fs::write(&path, &bytes[..bytes.len() - 1]).unwrap();
        assert!(read_filter(&path).is_err());
    }
}
