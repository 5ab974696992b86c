use goblin_core_types::{BoxId, Role};
use serde::{Deserialize, Serialize};

/// Largest provisioning file in bytes; also the size of the room reserved for it on the ESP.
pub const PROVISION_BYTES_MAX: usize = 65_536;

/// A checked provisioning file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Provision {
    /// Version of this shape; 1.
    pub schema: u32,
    /// What the board is for.
    pub role: Role,
    /// Host name: RFC 1123 label, 1 to 63 of `a-z 0-9 -`.
    pub host: String,
    /// IANA time zone; `UTC` when absent.
    #[serde(default = "utc")]
    pub time_zone: String,
    /// The box both boards belong to.
    #[serde(rename = "box")]
    pub the_box: BoxSection,
    /// Keys of the two boards.
    pub keys: KeySection,
    /// Interfaces and time servers.
    #[serde(default)]
    pub network: NetworkSection,
    /// Shares the storage board serves; the compute board's file lists the same ones to mount.
    #[serde(default, rename = "share")]
    pub shares: Vec<ShareSection>,
    /// Where releases come from; absent: this board is never updated over the network.
    #[serde(default)]
    pub update: Option<UpdateSection>,
    /// Disks.
    #[serde(default)]
    pub disk: DiskSection,
    /// Switches for demonstrations and tests; all off by default.
    #[serde(default)]
    pub debug: DebugSection,
}

fn utc() -> String {
    "UTC".into()
}

/// `[box]`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BoxSection {
    /// Identity shared by both boards.
    pub id: BoxId,
    /// Name people use for the box, 1 to 63 printable characters.
    pub name: String,
}

/// 32 bytes as 64 lower-case hexadecimal digits. `Debug` hides the bytes, for it may be a private key.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct HexKey(pub [u8; 32]);

/// `[keys]`: ed25519, RFC 8032.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeySection {
    /// This board's private key (the 32-byte seed).
    pub board_private: HexKey,
    /// The other board's public key.
    pub peer_public: HexKey,
}

/// `[network]`
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct NetworkSection {
    /// Hardware address of the NIC with the inter-board cable; found by itself when absent.
    pub link: Option<String>,
    /// Hardware address of the NIC towards the LAN; every NIC that is not the link when absent.
    pub lan: Option<String>,
    /// Time servers, names or addresses; at most 8. Empty: those that DHCP names, else `pool.ntp.org`.
    pub ntp: Vec<String>,
    /// Also serve shares over plain TCP without keys, to clients that have no other way. Only for an
    /// isolated network: whoever can reach the port can read and write everything. The boards themselves
    /// never speak without keys.
    pub allow_plain_9p: bool,
}

/// `[[share]]`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ShareSection {
    /// Attach name: 1 to 32 of `a-z 0-9 - _`, not starting with `-`.
    pub name: String,
    /// Clients may only read.
    #[serde(default)]
    pub read_only: bool,
}

/// `[update]`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UpdateSection {
    /// `http://` or `https://` address of the folder that `cargo xtask release` wrote.
    pub url: String,
    /// Addresses of the same folder elsewhere, asked where the first does not give what was signed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mirrors: Vec<String>,
    /// `http://` address of a proxy that releases are fetched over; without one directly.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proxy: Option<String>,
    /// Channel to follow; `stable` when absent.
    #[serde(default = "stable")]
    pub channel: String,
    /// The trust root: the text of the repository's first `root.json`.
    pub root: String,
}

fn stable() -> String {
    "stable".into()
}

/// `[disk]`
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DiskSection {
    /// Serials of the data disks: none, one (single) or two (raid1). Only these are ever touched, and
    /// only while they are blank or already belong to this box.
    pub data: Vec<String>,
    /// Serial of a second disk that shall be a mirror of the system disk. Taken only while it is blank, or is
    /// this board's mirror already.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub system_mirror: Option<String>,
}

/// `[debug]`
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DebugSection {
    /// Answer `goblin` commands on the virtio-serial port of a virtual machine's host.
    pub host_channel: bool,
}

impl std::fmt::Debug for HexKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("HexKey(..)")
    }
}

/// A text that is not 64 lower-case hexadecimal digits. Does not repeat the text: it may be a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "a key is 64 lower-case hexadecimal digits; make a pair of files with `cargo xtask provision`"
)]
pub struct ParseKeyError;

impl TryFrom<String> for HexKey {
    type Error = ParseKeyError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse::<goblin_core_types::Digest>().map(|d| Self(d.0)).map_err(|_| ParseKeyError)
    }
}

impl From<HexKey> for String {
    fn from(key: HexKey) -> Self {
        goblin_core_types::Digest(key.0).to_string()
    }
}
