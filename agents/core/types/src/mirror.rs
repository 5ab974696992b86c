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
    /// What a newer release says.
    #[serde(other)]
    Unknown,
}
