//! The host channel: `goblin` commands for tests and for `cargo xtask run`, over a virtio-serial port.
//!
//! Only where `debug.host_channel` says so: whoever holds the other end is root on this board.
//!
//! A host that closes the port ends its session: its commands are killed, and the next one is greeted.
//! The kernel only tells whether somebody is there now, so a host that closes and opens again within a
//! fifth of a second is taken for the same one. A host that wants to be sure sends an empty line first:
//! what runs is killed, and a `Hello` follows; replies before it belong to the host before.

mod command;
mod session;

use crate::AgentError;
use goblin_core_types::paths;
use rustix::fs::{Mode, OFlags};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Where the kernel lists its virtio-serial ports.
const PORTS: &str = "/sys/class/virtio-ports";
/// Pause between looks for a port that is not there, in milliseconds.
const SEARCH_MS: u64 = 2_000;
/// Pause before a port that broke is opened again, in milliseconds.
const REOPEN_MS: u64 = 500;

/// Answers `goblin` commands of a virtual machine's host until a fatal error. A board whose
/// provisioning file does not ask for it only says that it is ready, and sleeps.
///
/// # Errors
/// [`AgentError`] when no thread can be started.
pub fn run_channel() -> Result<(), AgentError> {
    let wanted = goblin_sys::provision::load().is_ok_and(|provision| provision.debug.host_channel);
    goblin_sys::notify::ready();
    if !wanted {
        tracing::info!("the host channel is switched off");
        loop {
            std::thread::park();
        }
    }
    let mut searched = false;
    loop {
        let Some(device) = find_port(Path::new(PORTS), paths::HOST_CHANNEL) else {
            if !searched {
                tracing::info!(port = paths::HOST_CHANNEL, "no such virtio-serial port yet");
                searched = true;
            }
            std::thread::sleep(Duration::from_millis(SEARCH_MS));
            continue;
        };
        match open(&device) {
            Ok(port) => session::serve_forever(&port, Path::new("/proc/self/exe"))?,
            Err(err) => {
                tracing::warn!(device = %device.display(), %err, "cannot open the host channel")
            }
        }
        std::thread::sleep(Duration::from_millis(REOPEN_MS));
    }
}

/// Without `O_NONBLOCK` a write to a port whose host has gone would block until it returns.
fn open(device: &Path) -> std::io::Result<File> {
    let flags = OFlags::RDWR | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOCTTY;
    Ok(File::from(rustix::fs::open(device, flags, Mode::empty())?))
}

/// The device of the port with this name: `/dev/` and the directory's name, where `name` holds it.
fn find_port(ports: &Path, name: &str) -> Option<PathBuf> {
    std::fs::read_dir(ports).ok()?.flatten().find_map(|entry| {
        let bytes = goblin_sys::files::read_bounded(&entry.path().join("name"), 256).ok()?;
        let found = String::from_utf8_lossy(&bytes);
        (found.trim() == name).then(|| Path::new("/dev").join(entry.file_name()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_found_by_its_name() {
        let dir = tempfile::tempdir().unwrap();
        for (port, name) in
            [("vport0p1", "org.qemu.guest_agent.0\n"), ("vport0p2", "goblin.host\n")]
        {
            std::fs::create_dir(dir.path().join(port)).unwrap();
            std::fs::write(dir.path().join(port).join("name"), name).unwrap();
        }
        std::fs::create_dir(dir.path().join("vport0p3")).unwrap();
        assert_eq!(find_port(dir.path(), "goblin.host"), Some("/dev/vport0p2".into()));
        assert_eq!(find_port(dir.path(), "other"), None);
        assert_eq!(find_port(&dir.path().join("absent"), "other"), None);
    }
}
