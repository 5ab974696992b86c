use crate::PROVISION_BYTES_MAX;
use std::fmt;

/// Why a provisioning file was refused. Names the place, the field and the remedy, and never repeats
/// a line of the file, because a line may hold a private key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProvisionError {
    /// Nothing but blanks and comments: the room for the file on the disk was never filled, or the
    /// file was applied and scrubbed.
    #[error("there is no provisioning file: write one to the disk with `cargo xtask flash`")]
    Missing,
    /// Longer than [`PROVISION_BYTES_MAX`].
    #[error("the file has {got} bytes, at most {PROVISION_BYTES_MAX} are allowed")]
    TooLong {
        /// Bytes found.
        got: usize,
    },
    /// Zero bytes or bytes that are no text: what a write that was cut off leaves behind.
    #[error(
        "line {line}: the file is damaged from here on, it was not written completely; flash it again"
    )]
    Torn {
        /// Line of the first damaged byte, from 1.
        line: usize,
    },
    /// The first line promises other content than follows.
    #[error(
        "the file is not as it was written: flash it again; after an edit by hand, remove the line `# sealed ..`"
    )]
    SealBroken,
    /// Not TOML, an unknown key, a missing key or a value of the wrong kind.
    #[error("{}{message}", Where(.place))]
    Syntax {
        /// Where the parser stopped, when it knows.
        place: Option<Place>,
        /// The parser's words, one line.
        message: String,
    },
    /// A value that breaks a rule.
    #[error("{}`{field}` {problem}", Where(.place))]
    Field {
        /// The field, like `network.ntp[2]`; lists count from 0.
        field: String,
        /// Where it stands; absent when it was left out and its default breaks the rule.
        place: Option<Place>,
        /// What is wrong and what to write instead.
        problem: Problem,
    },
}

/// A place in the text; both count from 1, columns in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// Line.
    pub line: usize,
    /// Column.
    pub column: usize,
}

struct Where<'a>(&'a Option<Place>);

impl fmt::Display for Where<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(place) => write!(f, "line {}, column {}: ", place.line, place.column),
            None => Ok(()),
        }
    }
}

/// What is wrong with a value. The text continues a sentence that begins with the field's name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Problem {
    /// `schema`
    #[error("is {got}; this release knows schema 1 only")]
    Schema {
        /// Schema of the file.
        got: u32,
    },
    /// `host`
    #[error("is not a host name: write 1 to 63 of a-z, 0-9 and `-`, neither first nor last a `-`")]
    HostName,
    /// `box.name`
    #[error("must have 1 to 63 printable characters, no blank first or last")]
    BoxName,
    /// `time_zone`
    #[error(
        "is not a time zone: write an IANA name in its exact spelling, like Europe/Berlin or UTC"
    )]
    TimeZone,
    /// `keys.peer_public`
    #[error("is not an ed25519 public key; make a pair of files with `cargo xtask provision`")]
    PublicKey,
    /// `keys.peer_public`
    #[error(
        "is this board's own key: it must be the other board's, see the other file of the pair"
    )]
    OwnKeyAsPeer,
    /// `keys.peer_public`
    #[error("repeats the private key; a private key belongs on one board only, make a new pair")]
    PrivateKeyAsPeer,
    /// A hardware address.
    #[error("is not a hardware address: write six lower-case pairs, like 52:54:00:12:34:56")]
    HardwareAddress,
    /// `network.lan`
    #[error("names the same card as `network.link`: one card cannot be both")]
    SameCard,
    /// `network.ntp[..]`
    #[error("is neither a host name nor an address")]
    Server,
    /// A list that is too long.
    #[error("has {got} entries, at most {max} are allowed")]
    TooMany {
        /// Entries found.
        got: usize,
        /// Entries allowed.
        max: usize,
    },
    /// A list with the same entry twice.
    #[error("repeats entry {first}: every entry may stand once")]
    Twice {
        /// Index of the first of the two, from 0.
        first: usize,
    },
    /// `share[..].name`
    #[error("is not a share name: write 1 to 32 of a-z, 0-9, `-` and `_`, not starting with `-`")]
    ShareName,
    /// `update.url`, `update.mirrors[..]`
    #[error("is not usable: write an http:// or https:// address without user, `?` or `#`")]
    Url,
    /// `update.proxy`
    #[error("is not usable: write the http:// address of a proxy without user, `?` or `#`")]
    Proxy,
    /// `update.channel`
    #[error("is not a channel: write 1 to 32 of a-z, 0-9 and `-`")]
    Channel,
    /// `update.root`
    #[error(
        "is not JSON: put the whole text of the repository's first root.json between ''' quotes"
    )]
    RootNotJson,
    /// `update.root`
    #[error("is JSON, but not a signed trust root: use the repository's metadata/1.root.json")]
    RootNotRoot,
    /// `disk.data`
    #[error(
        "may only be given for the storage board: take the list out, or set role = \"storage\""
    )]
    DisksWithoutStorage,
    /// `disk.data[..]`
    #[error(
        "is not a serial: write 1 to 64 printable characters as `lsblk -o NAME,SERIAL` shows them"
    )]
    Serial,
}
