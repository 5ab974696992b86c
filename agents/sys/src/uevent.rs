//! The kernel's announcements of devices: the netlink family `KOBJECT_UEVENT`, and what `/sys` says about
//! devices that were there before.
//!
//! Sources: `netlink(7)`; `lib/kobject_uevent.c` and `Documentation/ABI/testing/sysfs-uevent` of the kernel.

use crate::files;
use goblin_init_core::uevent::{UEVENT_BYTES_MAX, Uevent, UeventError};
use rustix::io::Errno;
use rustix::net::netlink::{KOBJECT_UEVENT, SocketAddrNetlink};
use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType, sockopt};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

/// Multicast group of the kernel's own messages; the other one is for programs among themselves.
const KERNEL_GROUP: u32 = 1;
/// What may lie unread, in bytes; a hub full of devices announces some hundred of them at once.
const BUFFER_BYTES: usize = 1 << 20;
/// Folders of `/sys` looked at in one walk.
const FOLDERS_MAX: usize = 20_000;
/// Depth below which the walk does not go.
const DEPTH_MAX: usize = 32;

/// A socket on which the kernel announces devices.
#[derive(Debug)]
pub struct UeventSocket {
    fd: OwnedFd,
}

/// What a socket had.
#[derive(Debug, PartialEq, Eq)]
pub enum Received {
    /// An event.
    Event(Uevent),
    /// Something that is no event of the kernel's; it is passed over.
    Strange(Option<UeventError>),
    /// The kernel had to drop events: what is there must be looked at again.
    Lost,
    /// Nothing for now.
    Empty,
}

impl UeventSocket {
    /// Opens a socket that never waits and is not inherited.
    ///
    /// # Errors
    /// The kernel's, when it has no netlink or the process no descriptor left.
    pub fn open() -> io::Result<Self> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let fd = rustix::net::socket_with(
            AddressFamily::NETLINK,
            SocketType::DGRAM,
            flags,
            Some(KOBJECT_UEVENT),
        )?;
        // Without the right to exceed the system's limit the default has to do.
        if sockopt::set_socket_recv_buffer_size_force(&fd, BUFFER_BYTES).is_err() {
            let _ = sockopt::set_socket_recv_buffer_size(&fd, BUFFER_BYTES);
        }
        rustix::net::bind(&fd, &SocketAddrNetlink::new(0, KERNEL_GROUP))?;
        Ok(Self { fd })
    }

    /// Takes one datagram.
    ///
    /// # Errors
    /// The kernel's; the socket is then of no use any more.
    pub fn receive(&self) -> io::Result<Received> {
        let mut room = [0u8; UEVENT_BYTES_MAX];
        let (bytes, sender) = loop {
            match rustix::net::recvfrom(&self.fd, &mut room[..], RecvFlags::TRUNC) {
                Ok((_, bytes, sender)) => break (bytes, sender),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return Ok(Received::Empty),
                Err(Errno::NOBUFS) => return Ok(Received::Lost),
                Err(err) => return Err(err.into()),
            }
        };
        // Any process may send to a netlink socket; only the kernel has port 0.
        let sender = sender.and_then(|sender| SocketAddrNetlink::try_from(sender).ok());
        if sender.is_none_or(|sender| sender.pid() != 0) {
            return Ok(Received::Strange(None));
        }
        let Some(datagram) = room.get(..bytes) else {
            return Ok(Received::Strange(Some(UeventError::TooLong { got: bytes })));
        };
        Ok(match Uevent::parse(datagram) {
            Ok(event) => Received::Event(event),
            Err(err) => Received::Strange(Some(err)),
        })
    }
}

impl AsFd for UeventSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Every device that is there, as if it had just come: parents before their children, otherwise by name.
///
/// # Errors
/// When sysfs is not mounted. Devices that go while they are looked at are left out.
pub fn devices() -> io::Result<Vec<Uevent>> {
    devices_below(Path::new("/sys"))
}

/// The device at a path below `/sys`, like `/devices/virtual/net/lo`; `None` when there is none.
pub fn device(path: &str) -> Option<Uevent> {
    read_device(Path::new("/sys"), &Path::new("/sys").join(path.trim_start_matches('/')))
}

/// Every device of a class or bus, like `block` or `usb`; empty where the kernel has no such thing.
pub fn devices_of(subsystem: &str) -> Vec<Uevent> {
    devices_of_below(Path::new("/sys"), subsystem)
}

fn devices_of_below(sysfs: &Path, subsystem: &str) -> Vec<Uevent> {
    if subsystem.is_empty() || subsystem.contains('/') || subsystem.starts_with('.') {
        return Vec::new();
    }
    let class = sysfs.join("class").join(subsystem);
    let bus = sysfs.join("bus").join(subsystem).join("devices");
    let entries = std::fs::read_dir(class).or_else(|_| std::fs::read_dir(bus));
    let entries = entries.into_iter().flatten().flatten().take(FOLDERS_MAX);
    entries.filter_map(|entry| read_device(sysfs, &entry.path().canonicalize().ok()?)).collect()
}

fn devices_below(sysfs: &Path) -> io::Result<Vec<Uevent>> {
    let mut found = Vec::new();
    let mut folders = vec![(sysfs.join("devices"), 0usize)];
    let mut looked_at = 0usize;
    while let Some((folder, depth)) = folders.pop() {
        looked_at = looked_at.saturating_add(1);
        if looked_at > FOLDERS_MAX {
            break;
        }
        found.extend(read_device(sysfs, &folder));
        let entries = match std::fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(err) if depth == 0 => return Err(err),
            Err(_) => continue,
        };
        if depth >= DEPTH_MAX {
            continue;
        }
        let mut below: Vec<PathBuf> = entries
            .flatten()
            // Links lead to other devices, which have their own place in the tree.
            .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
            .map(|entry| entry.path())
            .collect();
        below.sort_unstable_by(|a, b| b.cmp(a));
        folders.extend(below.into_iter().map(|path| (path, depth.saturating_add(1))));
    }
    Ok(found)
}

fn read_device(sysfs: &Path, folder: &Path) -> Option<Uevent> {
    let content = files::read_bounded(&folder.join("uevent"), UEVENT_BYTES_MAX).ok()?;
    let subsystem = std::fs::read_link(folder.join("subsystem")).ok()?;
    let subsystem = subsystem.file_name()?.to_str()?;
    let path = format!("/{}", folder.strip_prefix(sysfs).ok()?.to_str()?);
    Uevent::of_device(&path, subsystem, &content).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_that_are_there_are_found_parents_first() {
        let sysfs = tempfile::tempdir().unwrap();
        let sysfs = sysfs.path();
        let put = |path: &str, subsystem: &str, content: &str| {
            let folder = sysfs.join(path);
            std::fs::create_dir_all(&folder).unwrap();
            std::os::unix::fs::symlink(
                format!("../../class/{subsystem}"),
                folder.join("subsystem"),
            )
            .unwrap();
            std::fs::write(folder.join("uevent"), content).unwrap();
        };
        put("devices/usb1/1-1/host0/block/sda", "block", "DEVNAME=sda\n");
        put("devices/usb1/1-1", "usb", "MODALIAS=usb:v1\n");
        put("devices/net/eth0", "net", "INTERFACE=eth0\n");
        // A folder with attributes only, and one that says what no kernel says.
        std::fs::create_dir_all(sysfs.join("devices/usb1/power")).unwrap();
        put("devices/odd", "odd", "no key\n");
        let found = devices_below(sysfs).unwrap();
        let names: Vec<_> = found.iter().map(|event| (event.name(), event.subsystem())).collect();
        assert_eq!(names, [("eth0", "net"), ("1-1", "usb"), ("sda", "block")]);
        assert!(devices_below(Path::new("/none/such")).is_err());
        std::fs::create_dir_all(sysfs.join("class/block")).unwrap();
        let sda = sysfs.join("devices/usb1/1-1/host0/block/sda");
        std::os::unix::fs::symlink(sda, sysfs.join("class/block/sda")).unwrap();
        let disks = devices_of_below(sysfs, "block");
        assert_eq!(disks.iter().map(Uevent::name).collect::<Vec<_>>(), ["sda"]);
        assert!(devices_of_below(sysfs, "..").is_empty());
    }

    #[test]
    fn a_socket_has_nothing_at_first_and_no_other_program_is_heard() {
        let Ok(socket) = UeventSocket::open() else { return };
        // Events of the machine that runs the test may be there.
        while !matches!(socket.receive().unwrap(), Received::Empty) {}
    }
}
