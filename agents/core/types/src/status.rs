//! What a board says about itself. Each agent owns one part and writes it to
//! [`crate::paths::RUN_STATE`]; the control agent joins the parts into a [`BoardStatus`].

use crate::{
    Attempt, BoxId, LifeStatus, MirrorStatus, Quarantined, ResetReport, Role, UpdateReport,
    UpdateSettings, Version,
};
use serde::{Deserialize, Serialize};

/// Version of [`BoardStatus`].
pub const STATUS_SCHEMA: u32 = 1;

/// Both boards as the compute board sees them; what `goblin status --json` prints.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct BoxStatus {
    /// [`STATUS_SCHEMA`].
    pub schema: u32,
    /// Boards in sight, the local one first.
    pub boards: Vec<BoardStatus>,
    /// Why a board is missing from the list, in one sentence each.
    pub absent: Vec<String>,
}

/// Everything one board knows about itself.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct BoardStatus {
    /// [`STATUS_SCHEMA`].
    pub schema: u32,
    /// Absent while the board is not provisioned.
    pub role: Option<Role>,
    /// Host name; `goblin` until provisioned.
    pub host: String,
    /// Identity of the box the board belongs to.
    pub box_id: Option<BoxId>,
    /// The running release and how it was started.
    pub boot: BootStatus,
    /// UKIs on the ESP.
    pub slots: Vec<SlotStatus>,
    /// Verdict of the role checks.
    pub health: Health,
    /// Units of PID 1.
    pub units: Vec<UnitStatus>,
    /// Interfaces and addresses.
    pub network: NetStatus,
    /// The cable to the other board.
    pub link: LinkStatus,
    /// The clock.
    pub time: TimeStatus,
    /// The data disks; only the storage board has them.
    pub pool: Option<PoolStatus>,
    /// Shares served here.
    pub shares: Vec<ShareStatus>,
    /// Shares of the other board mounted here.
    pub mounts: Vec<MountStatus>,
    /// The updater.
    pub update: UpdateStatus,
    /// The system disk and its mirror; absent on a board that has, and shall have, one disk.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disks: Option<MirrorStatus>,
    /// What became of the provisioning file.
    pub provision: ProvisionStatus,
    /// Memory in use.
    pub memory: MemoryStatus,
}

/// The running release.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct BootStatus {
    /// Release that runs; absent when the base image does not say.
    pub version: Option<Version>,
    /// One line of what this release brings.
    pub notes: String,
    /// The kernel's release string.
    pub kernel: String,
    /// The kernel's boot id.
    pub boot_id: String,
    /// Seconds since the kernel started.
    pub uptime_s: u64,
    /// True while this boot is a try that may still be taken back.
    pub trial: bool,
    /// The loader entry that was started, a file name on the ESP.
    pub entry: String,
    /// Attempts from the boot record, newest last.
    pub attempts: Vec<Attempt>,
    /// Decided upgrades and rollbacks from the boot record, newest last.
    pub reports: Vec<UpdateReport>,
    /// How the last factory reset ended, from the boot record.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_reset: Option<ResetReport>,
}

/// One UKI on the ESP.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SlotStatus {
    /// Its release.
    pub version: Version,
    /// File name in `EFI/Linux`.
    pub file: String,
    /// What the loader makes of it.
    pub state: SlotState,
    /// True for the release that runs now.
    pub running: bool,
    /// Size in bytes.
    #[serde(default)]
    pub size_bytes: u64,
}

/// What the name of a UKI says by systemd-boot's boot counting.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "kebab-case")]
pub enum SlotState {
    /// Blessed: no counter in the name.
    Good,
    /// `+LEFT[-DONE]` with tries left.
    Trial {
        /// Tries left.
        left: u32,
        /// Tries used.
        done: u32,
    },
    /// All tries used: the loader prefers every other entry.
    Bad {
        /// Tries used.
        done: u32,
    },
}

/// Overall verdict.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HealthState {
    /// Checks have not all answered yet.
    #[default]
    Starting,
    /// Everything the role needs works.
    Healthy,
    /// The board serves, but something a person should know of is wrong.
    Degraded,
    /// Something the role needs does not work.
    Failing,
}

/// The role checks.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Health {
    /// The worst of the checks.
    pub state: HealthState,
    /// Each check, in a fixed order.
    pub checks: Vec<Check>,
}

/// One role check.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Check {
    /// What is checked: `config`, `clock`, `link`, `pool`, `shares`, `console`...
    pub name: String,
    /// Verdict.
    pub state: CheckState,
    /// One sentence: what was seen, and what to do about it where it is wrong.
    pub detail: String,
}

/// Verdict of one check.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CheckState {
    /// Not answered yet.
    Waiting,
    /// Works.
    Ok,
    /// Wrong, but the board serves without it.
    Warn,
    /// Wrong, and the role needs it.
    Fail,
}

/// Life of a unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum UnitPhase {
    /// Not for this role, or not wanted.
    Off,
    /// Waits for a unit it needs.
    Waiting,
    /// Started, not ready yet.
    Starting,
    /// Ready; a task in this phase has run to completion.
    Ready,
    /// Ended and will be started again after a pause.
    BackOff,
    /// Told to stop.
    Stopping,
    /// Ended for good, or cannot be started.
    Failed,
}

/// One unit of PID 1.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct UnitStatus {
    /// Its name, the stem of its TOML file.
    pub name: String,
    /// What it is for.
    #[serde(default)]
    pub description: String,
    /// Where it stands.
    pub phase: UnitPhase,
    /// Process id while it runs.
    #[serde(default)]
    pub pid: Option<u32>,
    /// Times it was started again.
    #[serde(default)]
    pub restarts: u32,
    /// Why it is where it is: exit status, failed stage, what it waits for.
    #[serde(default)]
    pub detail: String,
    /// Milliseconds after PID 1 started when it first became ready.
    #[serde(default)]
    pub ready_ms: Option<u64>,
    /// What a person should know of it besides: that its settings are ignored, and why.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub note: String,
}

/// Interfaces and what they got.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct NetStatus {
    /// Wired interfaces, by name.
    pub interfaces: Vec<InterfaceStatus>,
    /// Addresses by which client PCs reach the board, without prefix length.
    pub lan_addresses: Vec<String>,
    /// Name servers in use.
    pub dns: Vec<String>,
    /// What is wrong, where something is.
    pub problem: Option<String>,
}

/// One wired interface.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct InterfaceStatus {
    /// The kernel's name.
    pub name: String,
    /// Hardware address.
    pub mac: String,
    /// A cable with a live other end.
    pub carrier: bool,
    /// `link` towards the other board, `lan` towards clients, `idle` when neither.
    pub purpose: String,
    /// Addresses with prefix length.
    pub addresses: Vec<String>,
}

/// State of the inter-board link.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LinkState {
    /// No hello of the other board yet.
    #[default]
    Searching,
    /// The other board answers.
    Up,
    /// It answered before and has fallen silent.
    Lost,
    /// Someone claims to be this very board, or both claim the same role.
    Conflict,
    /// A board of another box, or one whose signature does not match the provisioned key.
    Foreign,
}

/// The cable to the other board.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct LinkStatus {
    /// Verdict.
    pub state: LinkState,
    /// Interface on which the other board was heard.
    pub interface: Option<String>,
    /// Its link-local address, without scope.
    pub peer_address: Option<String>,
    /// Release the other board runs, as it says.
    pub peer_version: Option<Version>,
    /// Host name of the other board.
    pub peer_host: Option<String>,
    /// Milliseconds since its last hello.
    pub silent_ms: Option<u64>,
    /// One sentence where something is wrong.
    pub problem: Option<String>,
}

/// The clock.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct TimeStatus {
    /// True after a time server or the peer agreed with the clock within a second.
    pub synced: bool,
    /// Server that was used last.
    pub server: Option<String>,
    /// Last measured offset in milliseconds; positive when the board was late.
    pub offset_ms: Option<i64>,
    /// IANA name of the time zone.
    pub zone: String,
    /// What is wrong, where something is.
    pub problem: Option<String>,
}

/// State of the data disks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PoolState {
    /// The provisioning file names no data disk.
    #[default]
    None,
    /// Looking for the disks.
    Searching,
    /// A named disk is not there.
    Absent,
    /// A disk holds something that is not this box's pool; it was not touched.
    Foreign,
    /// Being made.
    Formatting,
    /// Mounted, with every disk.
    Mounted,
    /// Mounted, with a disk missing.
    Degraded,
    /// Cannot be used.
    Failed,
}

impl PoolState {
    /// True when nothing is stored or served for a reason that only a person ends: a disk that is not
    /// there, holds something else, or does not work.
    pub fn cannot_be_had(self) -> bool {
        matches!(self, Self::Absent | Self::Foreign | Self::Failed)
    }
}

/// The pool.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct PoolStatus {
    /// Verdict.
    pub state: PoolState,
    /// `single` or `raid1`.
    pub profile: String,
    /// Named disks.
    pub disks: Vec<DiskStatus>,
    /// Size in bytes of what can be stored.
    pub total_bytes: u64,
    /// Bytes in use.
    pub used_bytes: u64,
    /// One sentence where something is wrong, with the remedy.
    pub problem: Option<String>,
}

/// One data disk.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DiskStatus {
    /// Serial as the provisioning file names it.
    pub serial: String,
    /// Kernel name, when present.
    pub device: Option<String>,
    /// Size in bytes.
    pub size_bytes: u64,
    /// What was found on it.
    pub detail: String,
}

/// One share served here.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ShareStatus {
    /// Its name, the attach name clients use.
    pub name: String,
    /// True while clients can attach.
    pub served: bool,
    /// Connections now attached.
    #[serde(default)]
    pub clients: u32,
    /// Bytes sent to clients.
    #[serde(default)]
    pub read_bytes: u64,
    /// Bytes received from clients.
    #[serde(default)]
    pub written_bytes: u64,
    /// One sentence where it is not served.
    #[serde(default)]
    pub problem: Option<String>,
}

/// One share of the other board mounted here.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MountStatus {
    /// Share.
    pub name: String,
    /// Directory on this board.
    pub path: String,
    /// True while it answers.
    pub mounted: bool,
    /// One sentence where it is not.
    #[serde(default)]
    pub problem: Option<String>,
}

/// Phase of the updater.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum UpdatePhase {
    /// Nothing to do.
    #[default]
    Idle,
    /// Reading the repository's metadata.
    Checking,
    /// Downloading blobs.
    Fetching,
    /// Rebuilding and writing the image.
    Building,
    /// Written, read back, not armed.
    Staged,
    /// Armed: the next boot tries it.
    Armed,
    /// This boot is the try.
    Trial,
}

/// The updater's part.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct UpdateStatus {
    /// Where it stands.
    pub phase: UpdatePhase,
    /// Where releases come from.
    pub source: Option<String>,
    /// Release being fetched, staged or tried.
    pub target: Option<Version>,
    /// Newest release the repository offers, after a check.
    pub offered: Option<Version>,
    /// What it brings.
    pub offered_notes: Option<String>,
    /// Bytes done of the present phase.
    pub done_bytes: u64,
    /// Bytes the present phase needs.
    pub total_bytes: u64,
    /// How the last upgrade ended.
    pub last: Option<UpdateReport>,
    /// Releases that are not tried again.
    pub quarantine: Vec<Quarantined>,
    /// The last error, with its remedy.
    pub problem: Option<String>,
    /// What the upgrade of both boards is doing, in one sentence; compute board only.
    pub pair: Option<String>,
    /// The life of the newest upgrade; what people are shown. [`UpdateStatus::phase`] is what the updater
    /// does right now.
    pub life: LifeStatus,
    /// What a person set.
    pub settings: UpdateSettings,
    /// Channel in force.
    pub channel: Option<String>,
    /// What an upgrade that nobody waits for is waiting for, in one sentence.
    pub waiting: Option<String>,
}

/// What became of the provisioning file.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ProvisionOutcome {
    /// Not looked at yet.
    #[default]
    Unknown,
    /// Applied, now or on an earlier boot.
    Applied,
    /// No file on the ESP, and none was applied before.
    Missing,
    /// The file was refused; the board has no role.
    Refused,
}

/// Result of provisioning.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ProvisionStatus {
    /// Verdict.
    pub outcome: ProvisionOutcome,
    /// File, field and remedy where it was refused; a plain sentence otherwise.
    pub detail: String,
    /// blake3 of the file that was applied.
    pub digest: Option<crate::Digest>,
    /// Seconds since 1970 by the board's clock when it was applied.
    pub at_unix_s: u64,
}

/// Memory in use, in KiB.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct MemoryStatus {
    /// MemTotal.
    pub total_kib: u64,
    /// MemAvailable.
    pub available_kib: u64,
    /// Resident set of PID 1.
    pub pid1_rss_kib: u64,
}
