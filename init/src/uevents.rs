//! Devices that units wait for: what the kernel says of them, and whether they are there already.
//!
//! PID 1 listens only when some unit waits for a device, and drops what no unit names. Modules, names and
//! those who want to know of every device are the `devices` agent's.

use goblin_sys::uevent::{self, Received, UeventSocket};
use std::collections::BTreeSet;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use goblin_init_core::uevent::{Change, Uevent};

/// Datagrams taken before others have their turn.
const TURN_EVENTS_MAX: usize = 64;

/// The kernel's announcements, for the devices that units name.
#[derive(Debug)]
pub struct Uevents {
    socket: UeventSocket,
    /// As the units' key `device` has them: `block:sda1`, `partlabel:NAME`.
    wanted: BTreeSet<String>,
}

impl Uevents {
    /// Listens, if any device is wanted.
    ///
    /// # Errors
    /// When the kernel has no such socket; units that wait for a device then wait for ever.
    pub fn open(wanted: BTreeSet<String>) -> io::Result<Option<Self>> {
        if wanted.is_empty() {
            return Ok(None);
        }
        Ok(Some(Self { socket: UeventSocket::open()?, wanted }))
    }

    /// Which wanted devices are there, and which are not: to be asked after [`open`](Self::open), so that
    /// nothing is missed in between.
    pub fn look(&self) -> Vec<(String, bool)> {
        let subsystems: BTreeSet<&str> = self
            .wanted
            .iter()
            .filter_map(|name| name.split_once(':'))
            .map(|(subsystem, _)| if subsystem == "partlabel" { "block" } else { subsystem })
            .collect();
        let there: BTreeSet<String> = subsystems
            .into_iter()
            .flat_map(uevent::devices_of)
            .flat_map(|event| event.unit_names().collect::<Vec<_>>())
            .collect();
        self.wanted.iter().map(|name| (name.clone(), there.contains(name))).collect()
    }

    /// What happened to wanted devices since the last call, in order.
    pub fn read(&self) -> Vec<(String, bool)> {
        let mut news = Vec::new();
        for _ in 0..TURN_EVENTS_MAX {
            match self.socket.receive() {
                Ok(Received::Event(event)) => news.extend(self.news_of(&event)),
                Ok(Received::Lost) => news.extend(self.look()),
                Ok(Received::Strange(_)) => {}
                Ok(Received::Empty) | Err(_) => break,
            }
        }
        news
    }

    fn news_of(&self, event: &Uevent) -> Vec<(String, bool)> {
        let present = match event.change {
            Change::Add | Change::Change | Change::Online | Change::Move => true,
            Change::Remove => false,
            Change::Bind | Change::Unbind | Change::Offline => return Vec::new(),
        };
        let names = event.unit_names().filter(|name| self.wanted.contains(name));
        names.map(|name| (name, present)).collect()
    }
}

impl AsFd for Uevents {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_wanted_devices_are_news() {
        assert!(Uevents::open(BTreeSet::new()).unwrap().is_none());
        let wanted = BTreeSet::from(["block:sda".to_owned(), "partlabel:x".to_owned()]);
        let Ok(Some(uevents)) = Uevents::open(wanted) else { return };
        let news = |text: &str| uevents.news_of(&Uevent::parse(text.as_bytes()).unwrap());
        assert_eq!(news("add@/b/sda\0SUBSYSTEM=block\0"), [("block:sda".to_owned(), true)]);
        assert_eq!(news("remove@/b/sda\0SUBSYSTEM=block\0"), [("block:sda".to_owned(), false)]);
        let label = "add@/b/sdb1\0SUBSYSTEM=block\0PARTNAME=x\0";
        assert_eq!(news(label), [("partlabel:x".to_owned(), true)]);
        assert!(news("add@/b/sdb\0SUBSYSTEM=block\0").is_empty());
        assert!(news("bind@/b/sda\0SUBSYSTEM=block\0").is_empty());
        assert!(uevents.look().iter().any(|(name, there)| name == "partlabel:x" && !there));
    }
}
