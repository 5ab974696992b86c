//! Where a unit listens, is asked for readiness, or is mounted.

use crate::bus_name;
use std::net::SocketAddr;
use std::path::{Component, Path, PathBuf};

/// Longest path of a unix socket in bytes: `sun_path` with its NUL (`unix(7)`).
const SOCKET_PATH_BYTES_MAX: usize = 107;
/// Longest word of a mount in bytes.
const WORD_BYTES_MAX: usize = 1024;
/// Options that are flags of the mount itself; all others go to the file system.
pub const MOUNT_FLAGS: [&str; 9] =
    ["ro", "rw", "nosuid", "nodev", "noexec", "noatime", "relatime", "sync", "lazytime"];

/// A socket's place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// A path.
    Unix(PathBuf),
    /// An address and a port.
    Tcp(SocketAddr),
}

impl Address {
    /// Reads `unix:/PATH` or `tcp:ADDRESS:PORT`; the address is a number, for PID 1 asks no name server.
    pub fn parse(text: &str) -> Option<Self> {
        match text.split_once(':')? {
            ("unix", path) if is_plain(path) && path.len() <= SOCKET_PATH_BYTES_MAX => {
                Some(Self::Unix(path.into()))
            }
            ("tcp", address) => {
                address.parse().ok().filter(|at: &SocketAddr| at.port() != 0).map(Self::Tcp)
            }
            _ => None,
        }
    }
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Tcp(address) => write!(f, "tcp:{address}"),
        }
    }
}

/// How PID 1 asks a unit whether it is ready.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Probe {
    /// Whom it asks.
    pub address: Address,
    /// What it asks.
    pub question: ProbeKind,
}

/// What must be answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProbeKind {
    /// Nothing: an accepted connection is enough.
    Connect,
    /// A 9P `Tversion`.
    NineP,
    /// Whether somebody on the bus has this name.
    BusName(String),
}

impl Probe {
    /// Reads `unix:..`, `tcp:..`, `9p:unix:..`, `9p:tcp:..` or `dbus:NAME`, a name on the board's bus. TCP is
    /// for the loopback only: PID 1 has no business on a network.
    pub fn parse(text: &str) -> Option<Self> {
        if let Some(name) = text.strip_prefix("dbus:") {
            let address = Address::Unix(bus_name::SYSTEM_BUS.into());
            let question = ProbeKind::BusName(name.to_owned());
            return bus_name::is_name(name).then_some(Self { address, question });
        }
        let (question, place) = match text.strip_prefix("9p:") {
            Some(place) => (ProbeKind::NineP, place),
            None => (ProbeKind::Connect, text),
        };
        let address = Address::parse(place)?;
        let near = match address {
            Address::Tcp(address) => address.ip().is_loopback(),
            Address::Unix(_) => true,
        };
        near.then_some(Self { address, question })
    }
}

/// A file system to mount.
#[derive(Debug, Clone, PartialEq, Eq, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MountPlace {
    /// Device or other source, as the file system names it.
    pub what: String,
    /// Directory, made if it is not there.
    #[serde(rename = "where")]
    pub target: String,
    /// File system.
    #[serde(rename = "type")]
    pub fs_type: String,
    /// Options, joined by commas: [`MOUNT_FLAGS`] and the file system's own.
    #[serde(default)]
    pub options: String,
}

impl MountPlace {
    /// What is wrong with it.
    pub fn problem(&self) -> Option<&'static str> {
        let words = [&self.what, &self.fs_type, &self.options];
        if words.iter().any(|word| word.len() > WORD_BYTES_MAX || word.contains('\0')) {
            return Some("has a word that is too long or has a NUL");
        }
        if self.what.is_empty() || self.fs_type.is_empty() {
            return Some("has an empty `what` or `type`");
        }
        let root = Path::new(&self.target).parent().is_none();
        (root || !is_plain(&self.target)).then_some("has a `where` that is no plain absolute path")
    }
}

/// Absolute, without `..` and NUL, short enough for the kernel.
fn is_plain(path: &str) -> bool {
    let steps = Path::new(path).components();
    path.starts_with('/')
        && path.len() <= WORD_BYTES_MAX
        && !path.contains('\0')
        && steps.into_iter().all(|step| matches!(step, Component::RootDir | Component::Normal(_)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_numbers_and_plain_paths() {
        for good in ["unix:/run/x.sock", "tcp:127.0.0.1:564", "tcp:[::]:564"] {
            assert_eq!(Address::parse(good).unwrap().to_string(), good);
        }
        let long = format!("unix:/{}", "x".repeat(107));
        for bad in [
            "",
            "unix:",
            "unix:x",
            "unix:/a/../b",
            "tcp:box:1",
            "tcp:127.0.0.1:0",
            "udp:1:1",
            &long,
        ] {
            assert_eq!(Address::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn probes_stay_on_the_board() {
        let question = |text| Probe::parse(text).map(|probe| probe.question);
        assert_eq!(question("9p:unix:/run/x"), Some(ProbeKind::NineP));
        assert_eq!(question("tcp:[::1]:5641"), Some(ProbeKind::Connect));
        assert_eq!(question("dbus:org.x.Y"), Some(ProbeKind::BusName("org.x.Y".into())));
        assert_eq!(question("dbus:nobody"), None);
        assert_eq!(Probe::parse("tcp:192.0.2.1:80"), None);
        assert_eq!(Probe::parse("9p:9p:unix:/x"), None);
    }

    #[test]
    fn mounts_have_a_plain_place() {
        let mount = |target: &str| MountPlace {
            what: "tmpfs".into(),
            target: target.into(),
            fs_type: "tmpfs".into(),
            options: String::new(),
        };
        assert_eq!(mount("/run/x").problem(), None);
        for bad in ["", "/", "x", "/run/../x", "//"] {
            assert!(mount(bad).problem().is_some(), "{bad}");
        }
    }
}
