//! The kernel's word that a device came, went or changed.
//!
//! Two texts say the same: a datagram of the netlink family `KOBJECT_UEVENT`, `ACTION@PATH NUL` and then
//! `KEY=VALUE NUL` as often as there are keys; and the file `uevent` of a device below `/sys`, with
//! `KEY=VALUE` lines, for what was there before anyone listened.
//!
//! Sources: `lib/kobject_uevent.c` and `Documentation/ABI/testing/sysfs-uevent` of the kernel.

use std::collections::BTreeMap;

/// Longest datagram, in bytes: the kernel's 2048 for the keys, and a path before them.
pub const UEVENT_BYTES_MAX: usize = 8 * 1024;
/// Most keys of one event; the kernel stops at 64.
const KEYS_MAX: usize = 64;
/// Longest path below `/sys`, in bytes.
const PATH_BYTES_MAX: usize = 4 * 1024;

/// What happened to a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// It is there now.
    Add,
    /// It is gone.
    Remove,
    /// Its content or state is another one, like a card in a reader or a partition table read anew.
    Change,
    /// Its path is another one, like that of a network card with a new name.
    Move,
    /// It may be used again.
    Online,
    /// It may not be used for now.
    Offline,
    /// A driver took it.
    Bind,
    /// Its driver let it go.
    Unbind,
}

impl Change {
    fn parse(word: &str) -> Option<Self> {
        Some(match word {
            "add" => Self::Add,
            "remove" => Self::Remove,
            "change" => Self::Change,
            "move" => Self::Move,
            "online" => Self::Online,
            "offline" => Self::Offline,
            "bind" => Self::Bind,
            "unbind" => Self::Unbind,
            _ => return None,
        })
    }
}

/// One event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Uevent {
    /// What happened.
    pub change: Change,
    /// The device's path below `/sys`, like `/devices/pci0000:00/0000:00:03.0`.
    pub path: String,
    /// Its keys; bytes that are not UTF-8 and control characters are replaced.
    keys: BTreeMap<String, String>,
}

/// Why bytes are no event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum UeventError {
    /// The datagram is longer than the kernel makes them.
    #[error("a device event of {got} bytes, at most {UEVENT_BYTES_MAX} are read")]
    TooLong {
        /// Its length in bytes.
        got: usize,
    },
    /// The datagram does not begin with `ACTION@PATH`.
    #[error("a device event without `ACTION@PATH`")]
    NoHeader,
    /// The action is none the kernel has.
    #[error("a device event with an unknown action")]
    UnknownAction,
    /// The path is not one below `/sys`.
    #[error("a device event with a path that is not below /sys")]
    BadPath,
    /// A key is not of capitals, digits and `_`, or has no value.
    #[error("a device event with a key that is none")]
    BadKey,
    /// There are more keys than the kernel writes.
    #[error("a device event with more than {KEYS_MAX} keys")]
    TooManyKeys,
}

impl Uevent {
    /// Reads a datagram. That it came from the kernel is the caller's to know.
    ///
    /// # Errors
    /// When it is not as the kernel writes them; the caller drops it.
    pub fn parse(datagram: &[u8]) -> Result<Self, UeventError> {
        if datagram.len() > UEVENT_BYTES_MAX {
            return Err(UeventError::TooLong { got: datagram.len() });
        }
        let mut parts = datagram.split(|byte| *byte == 0);
        let header = parts.next().and_then(|part| std::str::from_utf8(part).ok());
        let (word, path) =
            header.and_then(|header| header.split_once('@')).ok_or(UeventError::NoHeader)?;
        let change = Change::parse(word).ok_or(UeventError::UnknownAction)?;
        Ok(Self { change, path: checked_path(path)?, keys: keys(parts)? })
    }

    /// The event that a device would have caused, from its path below `/sys`, the name of its subsystem,
    /// and the content of its file `uevent`.
    ///
    /// # Errors
    /// When the content is not as the kernel writes it.
    pub fn of_device(path: &str, subsystem: &str, content: &[u8]) -> Result<Self, UeventError> {
        if content.len() > UEVENT_BYTES_MAX {
            return Err(UeventError::TooLong { got: content.len() });
        }
        let mut keys = keys(content.split(|byte| *byte == b'\n'))?;
        keys.insert("SUBSYSTEM".into(), clean(subsystem.as_bytes()));
        Ok(Self { change: Change::Add, path: checked_path(path)?, keys })
    }

    /// The value of a key, when it is there and not empty.
    pub fn value(&self, key: &str) -> Option<&str> {
        self.keys.get(key).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// The kernel's class or bus of the device, like `block`, `net`, `usb`; empty when it has none.
    pub fn subsystem(&self) -> &str {
        self.value("SUBSYSTEM").unwrap_or_default()
    }

    /// The last part of its path, like `sda1` or `eth0`.
    pub fn name(&self) -> &str {
        self.path.rsplit('/').next().unwrap_or_default()
    }

    /// Its device file, like `/dev/sda1`, where it has one.
    pub fn dev_path(&self) -> Option<String> {
        let name = self.value("DEVNAME")?;
        let name = name.strip_prefix("/dev/").unwrap_or(name);
        let safe =
            !name.starts_with('/') && name.split('/').all(|part| part != ".." && part != ".");
        safe.then(|| format!("/dev/{name}"))
    }

    /// Names by which a unit of kind `device` may call it: `SUBSYSTEM:NAME`, like `block:sda1`, and
    /// `partlabel:NAME` for a partition with a name in its table.
    pub fn unit_names(&self) -> impl Iterator<Item = String> {
        let by_name = format!("{}:{}", self.subsystem(), self.name());
        let label = self.value("PARTNAME").filter(|_| self.subsystem() == "block");
        std::iter::once(by_name).chain(label.map(|label| format!("partlabel:{label}")))
    }

    /// The word by which its driver is found.
    pub fn modalias(&self) -> Option<&str> {
        self.value("MODALIAS")
    }
}

/// A path that stays below `/sys`.
fn checked_path(path: &str) -> Result<String, UeventError> {
    let good = path.len() <= PATH_BYTES_MAX
        && path.len() > 1
        && path.starts_with('/')
        && !path.contains(char::is_control)
        && path.split('/').skip(1).all(|part| !matches!(part, "" | "." | ".."));
    if good { Ok(path.to_owned()) } else { Err(UeventError::BadPath) }
}

fn keys<'a>(
    parts: impl Iterator<Item = &'a [u8]>,
) -> Result<BTreeMap<String, String>, UeventError> {
    let mut keys = BTreeMap::new();
    for part in parts.filter(|part| !part.is_empty()) {
        let at = part.iter().position(|byte| *byte == b'=').ok_or(UeventError::BadKey)?;
        let (key, value) = part.split_at_checked(at).ok_or(UeventError::BadKey)?;
        let good = |byte: &u8| byte.is_ascii_uppercase() || byte.is_ascii_digit() || *byte == b'_';
        if key.is_empty() || !key.iter().all(good) {
            return Err(UeventError::BadKey);
        }
        if keys.len() >= KEYS_MAX {
            return Err(UeventError::TooManyKeys);
        }
        keys.insert(clean(key), clean(value.get(1..).unwrap_or_default()));
    }
    Ok(keys)
}

/// Text that may stand in a log line and in a name.
fn clean(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    text.chars().map(|c| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const STICK: &[u8] =
        b"add@/devices/pci0000:00/0000:00:04.0/usb1/1-1/1-1:1.0/host0/target0:0:0/0:0:0:0/\
        block/sda\0ACTION=add\0DEVPATH=/devices/x\0SUBSYSTEM=block\0MAJOR=8\0MINOR=0\0DEVNAME=sda\0\
        DEVTYPE=disk\0DISKSEQ=7\0SEQNUM=1234\0";

    #[test]
    fn a_datagram_is_read_whole() {
        let event = Uevent::parse(STICK).unwrap();
        assert_eq!((event.change, event.subsystem(), event.name()), (Change::Add, "block", "sda"));
        assert_eq!(event.dev_path().as_deref(), Some("/dev/sda"));
        assert_eq!((event.value("DEVTYPE"), event.modalias()), (Some("disk"), None));
        assert_eq!(event.unit_names().collect::<Vec<_>>(), ["block:sda"]);
        let text = b"remove@/devices/x/sda1\0SUBSYSTEM=block\0PARTNAME=goblin-state\0";
        let names: Vec<_> = Uevent::parse(text).unwrap().unit_names().collect();
        assert_eq!(names, ["block:sda1", "partlabel:goblin-state"]);
    }

    #[test]
    fn the_file_of_a_device_says_the_same() {
        let content = b"MAJOR=189\nMINOR=1\nDEVNAME=bus/usb/001/002\nMODALIAS=usb:v0403p6001\n";
        let event = Uevent::of_device("/devices/usb1/1-1", "usb", content).unwrap();
        assert_eq!(event.dev_path().as_deref(), Some("/dev/bus/usb/001/002"));
        assert_eq!((event.subsystem(), event.modalias()), ("usb", Some("usb:v0403p6001")));
    }

    #[test]
    fn what_the_kernel_never_writes_is_refused() {
        for (bytes, err) in [
            (&b""[..], UeventError::NoHeader),
            (b"libudev\0\xfe\xed\xca\xfe", UeventError::NoHeader),
            (b"explode@/devices/x\0", UeventError::UnknownAction),
            (b"add@devices/x\0", UeventError::BadPath),
            (b"add@/\0", UeventError::BadPath),
            (b"add@/devices/../../etc\0", UeventError::BadPath),
            (b"add@/devices//x\0", UeventError::BadPath),
            (b"add@/devices/x\0SUBSYSTEM\0", UeventError::BadKey),
            (b"add@/devices/x\0sub=x\0", UeventError::BadKey),
            (b"add@/devices/x\0=x\0", UeventError::BadKey),
            (&[b'a'; UEVENT_BYTES_MAX + 1], UeventError::TooLong { got: UEVENT_BYTES_MAX + 1 }),
        ] {
            assert_eq!(Uevent::parse(bytes), Err(err), "{}", bytes.escape_ascii());
        }
        let many: String = (0..=KEYS_MAX).map(|n| format!("K{n}=1\0")).collect();
        let many = format!("add@/devices/x\0{many}");
        assert_eq!(Uevent::parse(many.as_bytes()), Err(UeventError::TooManyKeys));
    }

    #[test]
    fn a_device_file_never_lies_outside_dev() {
        let dev = |name: &str| {
            let text = format!("add@/devices/x\0DEVNAME={name}\0");
            Uevent::parse(text.as_bytes()).unwrap().dev_path()
        };
        assert_eq!(dev("../etc/passwd"), None);
        assert_eq!(dev("/etc/passwd"), None);
        assert_eq!(dev("a/../../b"), None);
        assert_eq!(dev("/dev/sda").as_deref(), Some("/dev/sda"));
        assert_eq!(dev(""), None);
    }

    #[test]
    fn odd_bytes_of_a_value_cannot_break_a_log_line() {
        let event = Uevent::parse(b"add@/devices/x\0HID_NAME=a\nb\xff\x1b[2J\0").unwrap();
        assert!(event.value("HID_NAME").is_some_and(|v| !v.contains(char::is_control)));
    }

    proptest! {
        #[test]
        fn any_bytes_return(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = Uevent::parse(&bytes);
            let _ = Uevent::of_device("/devices/x", "x", &bytes);
        }

        #[test]
        fn what_is_accepted_stays_below_its_folders(
            path in "(/[a-z.]{0,3}){0,4}", name in "[a-z./]{0,8}",
        ) {
            let text = format!("add@{path}\0DEVNAME={name}\0");
            if let Ok(event) = Uevent::parse(text.as_bytes()) {
                prop_assert!(!event.path.split('/').any(|part| part == ".."));
                let outside = event.dev_path().is_some_and(|dev| dev.split('/').any(|p| p == ".."));
                prop_assert!(!outside);
            }
        }
    }
}
