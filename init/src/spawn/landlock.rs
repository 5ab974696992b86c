//! Landlock: the files a unit may reach, whatever user it is and whatever is mounted where, and nobody
//! outside of the unit to send signals to.
//!
//! Source: `Documentation/userspace-api/landlock.rst`, `include/uapi/linux/landlock.h`. The kernel is our
//! own, so its version is known (6.12: ABI 6) and nothing is left out silently.

use super::kernel::{self, Ruleset};
use super::sandbox::{c_string, names};
use goblin_init_core::sandbox::Sandbox;
use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;
use std::ffi::CString;
use std::io;

const EXECUTE: u64 = 1;
const WRITE_FILE: u64 = 1 << 1;
const READ_FILE: u64 = 1 << 2;
const READ_FOLDER: u64 = 1 << 3;
/// Remove, make of every kind but devices, move between folders.
const CHANGE_FOLDER: u64 =
    (1 << 4) | (1 << 5) | (1 << 7) | (1 << 8) | (1 << 9) | (1 << 10) | (1 << 12) | (1 << 13);
const MAKE_DEVICES: u64 = (1 << 6) | (1 << 11);
const TRUNCATE: u64 = 1 << 14;
const DEVICE_IOCTL: u64 = 1 << 15;

/// What can be allowed for a single file.
const OF_FILES: u64 = EXECUTE | WRITE_FILE | READ_FILE | TRUNCATE | DEVICE_IOCTL;
const READ: u64 = READ_FILE | READ_FOLDER;
const WRITE: u64 = READ | WRITE_FILE | TRUNCATE | CHANGE_FOLDER;
const USE_DEVICE: u64 = READ | WRITE_FILE | DEVICE_IOCTL;
const ALL: u64 = EXECUTE | WRITE | MAKE_DEVICES | DEVICE_IOCTL;

/// Neither abstract sockets nor signals leave the domain.
const SCOPED: u64 = 1 | (1 << 1);

/// What every unit may read: the base, which holds no secret, and the kernel's tables, where the rights of
/// files decide.
const PUBLIC: [(&str, u64); 9] = [
    ("/usr", READ | EXECUTE),
    ("/etc", READ),
    ("/proc", READ),
    ("/sys", READ),
    ("/dev/null", USE_DEVICE),
    ("/dev/zero", USE_DEVICE),
    ("/dev/full", USE_DEVICE),
    ("/dev/random", USE_DEVICE),
    ("/dev/urandom", USE_DEVICE),
];

/// The rules, ready to be made. They are made in the child, for its mounts are its own.
#[derive(Debug)]
pub(super) struct Prepared {
    files: u64,
    rules: Vec<(CString, u64)>,
}

impl Prepared {
    /// `run` is goblinux's folder below `/run`, `own` the unit's in it.
    pub(super) fn new(sandbox: &Sandbox, run: &str, own: &str) -> io::Result<Self> {
        if !sandbox.landlock {
            return Ok(Self { files: 0, rules: Vec::new() });
        }
        let mut rules = Vec::new();
        let mut allow = |path: &str, access| -> io::Result<()> {
            rules.push((c_string(path)?, access));
            Ok(())
        };
        for (path, access) in PUBLIC {
            allow(path, access)?;
        }
        allow(run, READ)?;
        allow(own, WRITE)?;
        if sandbox.private_tmp {
            allow("/tmp", WRITE)?;
        }
        for path in &sandbox.read_paths {
            allow(path, READ)?;
        }
        for path in &sandbox.write_paths {
            allow(path, WRITE)?;
        }
        let used = sandbox.devices.iter().map(|name| (name, USE_DEVICE));
        let read = sandbox.read_devices.iter().map(|name| (name, READ | DEVICE_IOCTL));
        for (name, access) in used.chain(read) {
            match name.strip_suffix("/*") {
                // The folder itself: what is plugged in later counts too.
                Some(folder) => allow(folder, access)?,
                None => names(name).iter().try_for_each(|path| allow(path, access))?,
            }
        }
        Ok(Self { files: ALL, rules })
    }

    /// In the child, after `no_new_privs`: what is not there is not allowed either.
    pub(super) fn restrict(&self) -> rustix::io::Result<()> {
        let ruleset =
            kernel::landlock_create(Ruleset { files: self.files, ports: 0, scoped: SCOPED })?;
        for (path, access) in &self.rules {
            let flags = OFlags::PATH | OFlags::CLOEXEC;
            let parent = match rustix::fs::open(path, flags, Mode::empty()) {
                Ok(parent) => parent,
                Err(Errno::NOENT | Errno::NOTDIR | Errno::ACCESS) => continue,
                Err(err) => return Err(err),
            };
            let kind = FileType::from_raw_mode(rustix::fs::fstat(&parent)?.st_mode);
            let possible = if kind == FileType::Directory { u64::MAX } else { OF_FILES };
            kernel::landlock_allow(&ruleset, &parent, access & possible)?;
        }
        kernel::landlock_restrict(&ruleset)
    }
}
