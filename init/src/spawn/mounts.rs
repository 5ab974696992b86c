//! What a unit sees of the file systems: its own tree of mounts, in which only what it may write to can
//! be written to.

use super::disks;
use super::kernel::{self, Writing};
use super::sandbox::{c_string, names};
use goblin_init_core::sandbox::{Mounts, Network, Sandbox};
use rustix::fs::{CWD, FileType, Mode, major, makedev, minor};
use rustix::io::Errno;
use rustix::mount::{MountFlags, MountPropagationFlags};
use rustix::thread::UnshareFlags;
use std::collections::BTreeSet;
use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

/// Devices that every program may expect; none of them reaches anything.
const HARMLESS: [&str; 5] = ["/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom"];
/// Their mode.
const FOR_ALL: u32 = 0o666;
/// Most nodes of one unit.
const NODES_MAX: usize = 64;

/// A device node to be made.
#[derive(Debug)]
struct Node {
    path: CString,
    kind: FileType,
    device: u64,
    mode: Mode,
}

impl Node {
    fn opened(&self) -> kernel::OpenDevice {
        kernel::OpenDevice {
            is_block: self.kind == FileType::BlockDevice,
            major: major(self.device),
            minor: minor(self.device),
            may_write: self.mode.contains(Mode::WUSR),
        }
    }
}

/// The mounts, ready to be made.
#[derive(Debug)]
pub(super) struct Prepared {
    namespaces: UnshareFlags,
    private: bool,
    read_only: bool,
    private_tmp: bool,
    hide_proc: bool,
    write_paths: Vec<CString>,
    dev: Option<Dev>,
    /// What it may open of the board's own `/dev`, which it sees.
    guard: Option<Dev>,
}

/// A `/dev` of its own.
#[derive(Debug)]
struct Dev {
    folders: Vec<CString>,
    nodes: Vec<Node>,
    read_disks: bool,
    /// Numbers of disks that it must not write to, where it may write to others.
    forbidden: Option<Vec<(u32, u32)>>,
    user: u32,
}

impl Prepared {
    /// `own` is the unit's own folder below `/run`.
    pub(super) fn new(sandbox: &Sandbox, own: &Path) -> io::Result<Self> {
        // What lies in cgroups above its own is not a unit's: it could leave its limits, and PID 1 knows it
        // by its group. The tree is mounted with `nsdelegate`, which makes the namespace the border.
        let mut namespaces = UnshareFlags::NEWCGROUP;
        for (wanted, flag) in [
            (sandbox.mounts == Mounts::Private, UnshareFlags::NEWNS),
            (sandbox.network == Network::None, UnshareFlags::NEWNET),
            (sandbox.private_uts, UnshareFlags::NEWUTS),
            (sandbox.private_ipc, UnshareFlags::NEWIPC),
        ] {
            namespaces.set(flag, wanted);
        }
        let own = own.to_string_lossy();
        let write_paths = sandbox.write_paths.iter().map(String::as_str).chain([&*own]);
        Ok(Self {
            namespaces,
            private: sandbox.mounts == Mounts::Private,
            read_only: sandbox.read_only,
            private_tmp: sandbox.private_tmp,
            hide_proc: sandbox.hide_proc,
            write_paths: write_paths.map(c_string).collect::<Result<_, _>>()?,
            dev: sandbox.private_dev.then(|| Dev::new(sandbox)).transpose()?,
            guard: (sandbox.mounts == Mounts::Host).then(|| Dev::new(sandbox)).transpose()?,
        })
    }

    /// With namespaces that no kernel has.
    #[cfg(test)]
    pub(super) fn impossible(&self) -> Self {
        Self {
            namespaces: UnshareFlags::from_bits_retain(1),
            write_paths: Vec::new(),
            dev: None,
            guard: None,
            ..*self
        }
    }

    /// In the child: leaves the board's namespaces.
    pub(super) fn leave(&self) -> rustix::io::Result<()> {
        if self.namespaces.is_empty() {
            return Ok(());
        }
        #[allow(
            deprecated,
            reason = "the replacement is unsafe for CLONE_FILES, which is not asked"
        )]
        rustix::thread::unshare(self.namespaces)
    }

    /// In the child: makes the mounts, `/dev` apart.
    pub(super) fn make(&self) -> rustix::io::Result<()> {
        if !self.private {
            return Ok(());
        }
        // What the board mounts later shows up here; what is done here stays here.
        let receive = MountPropagationFlags::REC | MountPropagationFlags::DOWNSTREAM;
        rustix::mount::mount_change(c"/", receive)?;
        let strict = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
        if self.private_tmp {
            rustix::mount::mount(c"tmpfs", c"/tmp", c"tmpfs", strict, c"mode=1777,size=25%")?;
        }
        if self.hide_proc {
            rustix::mount::mount(c"proc", c"/proc", c"proc", strict, c"hidepid=ptraceable")?;
        }
        if !self.read_only {
            return Ok(());
        }
        // A path becomes a mount of its own, which can be left writable.
        for path in &self.write_paths {
            absent_is_fine(rustix::mount::mount_bind_recursive(path, path))?;
        }
        kernel::set_writing(c"/", Writing::ForbiddenBelow)?;
        for path in &self.write_paths {
            absent_is_fine(kernel::set_writing(path, Writing::Allowed))?;
        }
        if self.private_tmp {
            kernel::set_writing(c"/tmp", Writing::Allowed)?;
        }
        Ok(())
    }

    /// Puts the unit's group under a program that lets it open what its own `/dev` has: a unit that may mount could
    /// mount the kernel's. One that sees the board's own may open what its file names, and no more.
    pub(super) fn guard_devices(&self, group: &OwnedFd) -> rustix::io::Result<()> {
        let Some(dev) = self.dev.as_ref().or(self.guard.as_ref()) else { return Ok(()) };
        let devices: Vec<kernel::OpenDevice> = dev.nodes.iter().map(Node::opened).collect();
        let disks = match &dev.forbidden {
            Some(numbers) => kernel::Disks::WriteBut(numbers),
            None if dev.read_disks => kernel::Disks::Read,
            None => kernel::Disks::No,
        };
        kernel::guard_devices(group, &kernel::device_guard(&devices, disks)?)
    }

    /// In the child, while it is still root: makes its `/dev`.
    pub(super) fn make_devices(&self) -> rustix::io::Result<()> {
        self.dev.as_ref().map_or(Ok(()), Dev::make)
    }
}

/// What is not there on this board cannot be written to.
pub(super) fn absent_is_fine(result: rustix::io::Result<()>) -> rustix::io::Result<()> {
    match result {
        Err(Errno::NOENT | Errno::NOTDIR) => Ok(()),
        other => other,
    }
}

impl Dev {
    fn new(sandbox: &Sandbox) -> io::Result<Self> {
        let mut folders = BTreeSet::new();
        let mut nodes = Vec::new();
        let with_mode = |mode| move |path| (path, Mode::from_raw_mode(mode));
        let harmless = HARMLESS.iter().map(|path| (*path).to_owned()).map(with_mode(FOR_ALL));
        let used = sandbox.devices.iter().flat_map(|name| names(name)).map(with_mode(0o600));
        let read = sandbox.read_devices.iter().flat_map(|name| names(name)).map(with_mode(0o400));
        for (path, mode) in harmless.chain(used).chain(read).take(NODES_MAX) {
            // A board without the device has no node either.
            let Ok(found) = std::fs::metadata(&path) else { continue };
            let kind = match found.file_type() {
                kind if kind.is_char_device() => FileType::CharacterDevice,
                kind if kind.is_block_device() => FileType::BlockDevice,
                _ => continue,
            };
            let folder = Path::new(&path).parent().unwrap_or(Path::new("/dev"));
            if folder != Path::new("/dev") {
                folders.insert(folder.to_string_lossy().into_owned());
            }
            nodes.push(Node {
                path: c_string(&path)?,
                kind,
                device: makedev(major(found.rdev()), minor(found.rdev())),
                mode,
            });
        }
        let folders = folders.iter().map(|path| c_string(path)).collect::<Result<_, _>>()?;
        let forbidden = sandbox.write_disks.map(disks::forbidden).transpose()?;
        let (read_disks, user) = (sandbox.read_disks, sandbox.user.id());
        Ok(Self { folders, nodes, read_disks, forbidden, user })
    }

    fn make(&self) -> rustix::io::Result<()> {
        let dev: &CStr = c"/dev";
        let flags = MountFlags::NOSUID | MountFlags::NOEXEC;
        rustix::mount::mount(c"tmpfs", dev, c"tmpfs", flags, c"mode=0755,size=64k")?;
        for folder in &self.folders {
            rustix::fs::mkdirat(CWD, folder, Mode::from_raw_mode(0o755))?;
        }
        let user = rustix::fs::Uid::from_raw(self.user);
        for node in &self.nodes {
            rustix::fs::mknodat(CWD, &node.path, node.kind, node.mode, node.device)?;
            // The mask of PID 1 is not meant for these.
            rustix::fs::chmodat(CWD, &node.path, node.mode, rustix::fs::AtFlags::empty())?;
            if node.mode != Mode::from_raw_mode(FOR_ALL) {
                rustix::fs::chown(&node.path, Some(user), None)?;
            }
        }
        kernel::set_writing(dev, Writing::Forbidden)
    }
}
