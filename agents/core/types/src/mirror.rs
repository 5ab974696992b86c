use serde::{Deserialize, Serialize};

/// Older epochs that a label remembers; a disk that was away for longer counts as split, which is safe.
pub const EPOCHS_KEPT_MAX: usize = 32;

/// Line of a release's os-release by which it says that it mounts STATE of two disks. A release without it, of a
/// time before there were mirrors, finds half of a file system and nothing else.
pub const STATE_OF_TWO_LINE: &str = "GOBLIN_STATE_DISKS_MAX=2";

/// What one of two mirrored system disks says of itself; it lies on RECORD beside the boot record, where a
/// release that knows no mirrors leaves it alone.
///
/// An epoch is a time in which the same disks were written: it ends when a disk goes, and when one is taken in
/// again. So a disk whose epoch another one remembers missed what was written since.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct DiskLabel {
    /// Version of this shape; 1.
    pub schema: u32,
    /// Identity of the pair of disks.
    pub set: String,
    /// The present epoch.
    pub epoch: String,
    /// Epochs before it, oldest first; at most [`EPOCHS_KEPT_MAX`].
    pub history: Vec<String>,
    /// STATE is, or may have been, written without the other disk in this epoch.
    pub alone: bool,
    /// The disk does not hold all of STATE, RECORD and ESP yet.
    pub making: bool,
    /// Seconds since 1970 when it began to be written without the other disk, by the board's clock; 0 where nobody
    /// knows.
    pub alone_since_unix_s: u64,
    /// The pair was given up: the disk stands alone, and none of the pair is taken in unasked.
    pub single: bool,
    /// Times the board was started again from this disk to the other one, which is newer.
    pub sent_on: u32,
}

/// The system disks of a board that has a second one.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct MirrorStatus {
    /// How they stand.
    pub state: MirrorState,
    /// Serial of the disk the board was started from.
    pub booted: String,
    /// Serial of the other one, while it is there.
    pub other: Option<String>,
    /// Since when the board works from one of the two, in seconds since 1970 by its clock.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub alone_since_unix_s: Option<u64>,
    /// One sentence: what is done, or what a person should know or do.
    pub detail: String,
}

/// How two system disks stand.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MirrorState {
    /// There is no second one, and none was asked for.
    #[default]
    Single,
    /// One is asked for and is not there, or cannot be used.
    Wanted,
    /// The second one is being filled.
    Making,
    /// Either can be pulled.
    InStep,
    /// One of the two is not there.
    Alone,
    /// Each was written without the other.
    Split,
    /// A disk that was one of two is there, and not one of this board's.
    Foreign,
    /// What a newer release says.
    #[serde(other)]
    Unknown,
}

/// Asked of the keeper of the system disks over [`crate::paths::DISKS_SOCKET`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "kebab-case")]
pub enum DisksCommand {
    /// Make this disk the mirror of the system disk, or take one of the pair in again.
    Mirror {
        /// Its serial.
        serial: String,
    },
    /// Go back to one system disk, once the other one is out.
    Forget,
}

/// The answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "reply", rename_all = "kebab-case")]
pub enum DisksReply {
    /// It is written down and begun.
    Done {
        /// One sentence.
        message: String,
    },
    /// Nothing was changed.
    Failed {
        /// A stable word for scripts: `not-found`, `refused`, `storage`.
        kind: String,
        /// What is wrong and what to do.
        message: String,
    },
}
