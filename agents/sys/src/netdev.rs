//! Wired network cards as sysfs shows them.
//!
//! Source: `Documentation/ABI/testing/sysfs-class-net` of the kernel.

use crate::files;
use std::io;
use std::os::fd::AsRawFd;
use std::path::Path;

/// Wired cards looked at on one board; more are ignored, by name.
pub const NICS_MAX: usize = 16;
/// `ARPHRD_ETHER` of `include/uapi/linux/if_arp.h`.
const ARPHRD_ETHER: &str = "1";
/// `IFF_UP` of `include/uapi/linux/if.h`.
const IFF_UP: u32 = 1;
/// Longest attribute read, in bytes.
const ATTRIBUTE_BYTES_MAX: usize = 4096;

/// One wired network card.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Nic {
    /// The kernel's name, like `eth0`.
    pub name: String,
    /// Interface index.
    pub index: u32,
    /// Hardware address as six lower-case pairs joined by colons.
    pub mac: String,
    /// The same as bytes.
    pub mac_bytes: [u8; 6],
    /// True once somebody brought it up.
    pub up: bool,
    /// True while a cable with a live other end is plugged in; always false while not up.
    pub carrier: bool,
}

/// Brings `lo` up, with its addresses `127.0.0.1` and `::1`.
///
/// Source: `netdevice(7)`, `SIOCSIFFLAGS`.
///
/// # Errors
/// The kernel's, for a caller without `CAP_NET_ADMIN`.
#[allow(unsafe_code, reason = "no safe wrapper of this request exists")]
pub fn bring_loopback_up() -> io::Result<()> {
    let socket = rustix::net::socket(
        rustix::net::AddressFamily::INET,
        rustix::net::SocketType::DGRAM,
        None,
    )?;
    let mut name = [0; libc::IFNAMSIZ];
    for (to, from) in name.iter_mut().zip(b"lo") {
        *to = libc::c_char::from_ne_bytes([*from]);
    }
    let flags = libc::c_short::try_from(libc::IFF_UP | libc::IFF_RUNNING).unwrap_or_default();
    let request = libc::ifreq {
        ifr_name: name,
        ifr_ifru: libc::__c_anonymous_ifr_ifru { ifru_flags: flags },
    };
    // SAFETY: SIOCSIFFLAGS reads one `struct ifreq`; the reference lives through the call, its name ends
    // in zero bytes, and `ifru_flags` is the member that this request looks at. The descriptor is open.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &raw const request) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Every wired card, by index: Ethernet with a device behind it. Loopback, bridges, tunnels and radio
/// are none.
///
/// # Errors
/// When sysfs is not mounted.
pub fn wired() -> io::Result<Vec<Nic>> {
    wired_below(Path::new("/sys/class/net"))
}

fn wired_below(class: &Path) -> io::Result<Vec<Nic>> {
    let mut nics = Vec::new();
    for entry in std::fs::read_dir(class)? {
        let entry = entry?;
        // A card may be pulled out while it is looked at: what is half there is not there.
        if let Ok(name) = entry.file_name().into_string()
            && let Some(nic) = read_nic(&entry.path(), name)
        {
            nics.push(nic);
        }
    }
    nics.sort_by_key(|nic| nic.index);
    nics.truncate(NICS_MAX);
    Ok(nics)
}

fn read_nic(dir: &Path, name: String) -> Option<Nic> {
    let is_wired = attribute(dir, "type")? == ARPHRD_ETHER
        && dir.join("device").exists()
        && !dir.join("phy80211").exists()
        && !dir.join("wireless").exists();
    if !is_wired {
        return None;
    }
    let mac = attribute(dir, "address")?;
    let flags = attribute(dir, "flags")?;
    let flags = u32::from_str_radix(flags.trim_start_matches("0x"), 16).ok()?;
    Some(Nic {
        index: attribute(dir, "ifindex")?.parse().ok()?,
        mac_bytes: parse_mac(&mac)?,
        up: flags & IFF_UP != 0,
        // Reading it fails while the card is down.
        carrier: attribute(dir, "carrier").is_some_and(|word| word == "1"),
        mac,
        name,
    })
}

fn parse_mac(text: &str) -> Option<[u8; 6]> {
    let mut bytes = [0u8; 6];
    let mut pairs = text.split(':');
    for byte in &mut bytes {
        *byte = u8::from_str_radix(pairs.next()?, 16).ok()?;
    }
    pairs.next().is_none().then_some(bytes)
}

fn attribute(dir: &Path, name: &str) -> Option<String> {
    let bytes = files::read_bounded(&dir.join(name), ATTRIBUTE_BYTES_MAX).ok()?;
    Some(String::from_utf8_lossy(&bytes).trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn card(class: &Path, name: &str, index: &str, extra: &[(&str, &str)]) {
        let dir = class.join(name);
        std::fs::create_dir_all(&dir).unwrap();
        let base = [
            ("type", "1"),
            ("address", "52:54:00:00:00:0a"),
            ("flags", "0x1003"),
            ("ifindex", index),
        ];
        for (file, text) in base.iter().chain(extra) {
            std::fs::write(dir.join(file), format!("{text}\n")).unwrap();
        }
    }

    #[test]
    fn only_wired_cards_are_listed_by_index() {
        let class = tempfile::tempdir().unwrap();
        let class = class.path();
        card(class, "eth1", "3", &[("device", ""), ("carrier", "1")]);
        card(class, "eth0", "2", &[("device", ""), ("flags", "0x1002")]);
        card(class, "lo", "1", &[("type", "772")]);
        card(class, "veth7", "9", &[]);
        card(class, "wlan0", "5", &[("device", ""), ("wireless", "")]);
        card(class, "odd", "6", &[("device", ""), ("address", "00:00")]);
        let nics = wired_below(class).unwrap();
        let names: Vec<_> =
            nics.iter().map(|nic| (nic.name.as_str(), nic.up, nic.carrier)).collect();
        assert_eq!(names, [("eth0", false, false), ("eth1", true, true)]);
        assert_eq!(nics[0].mac_bytes, [0x52, 0x54, 0, 0, 0, 10]);
    }
}
