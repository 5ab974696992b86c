//! What boards of an earlier release understand and say: status, boot record, commands and replies of the
//! updater, as they were when the first whole boxes were built. Frozen: a release in the field does not change.

use goblin_core_types::{BoxId, Digest, Role, Version};
use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct BoxStatus {
    pub schema: u32,
    pub boards: Vec<BoardStatus>,
    pub absent: Vec<String>,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct BoardStatus {
    pub schema: u32,
    pub role: Option<Role>,
    pub host: String,
    pub box_id: Option<BoxId>,
    pub boot: BootStatus,
    pub slots: Vec<SlotStatus>,
    pub health: Health,
    pub units: Vec<UnitStatus>,
    pub network: NetStatus,
    pub link: LinkStatus,
    pub time: TimeStatus,
    pub pool: Option<PoolStatus>,
    pub shares: Vec<ShareStatus>,
    pub mounts: Vec<MountStatus>,
    pub update: UpdateStatus,
    pub provision: ProvisionStatus,
    pub memory: MemoryStatus,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct BootStatus {
    pub version: Option<Version>,
    pub notes: String,
    pub kernel: String,
    pub boot_id: String,
    pub uptime_s: u64,
    pub trial: bool,
    pub entry: String,
    pub attempts: Vec<Attempt>,
    pub reports: Vec<UpdateReport>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SlotStatus {
    pub version: Version,
    pub file: String,
    pub state: SlotState,
    pub running: bool,
    #[serde(default)]
    pub size_bytes: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "kebab-case")]
pub enum SlotState {
    Good,
    Trial { left: u32, done: u32 },
    Bad { done: u32 },
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HealthState {
    #[default]
    Starting,
    Healthy,
    Degraded,
    Failing,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Health {
    pub state: HealthState,
    pub checks: Vec<Check>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Check {
    pub name: String,
    pub state: CheckState,
    pub detail: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CheckState {
    Waiting,
    Ok,
    Warn,
    Fail,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum UnitPhase {
    Off,
    Waiting,
    Starting,
    Ready,
    BackOff,
    Stopping,
    Failed,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct UnitStatus {
    pub name: String,
    #[serde(default)]
    pub description: String,
    pub phase: UnitPhase,
    #[serde(default)]
    pub pid: Option<u32>,
    #[serde(default)]
    pub restarts: u32,
    #[serde(default)]
    pub detail: String,
    #[serde(default)]
    pub ready_ms: Option<u64>,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct NetStatus {
    pub interfaces: Vec<InterfaceStatus>,
    pub lan_addresses: Vec<String>,
    pub dns: Vec<String>,
    pub problem: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct InterfaceStatus {
    pub name: String,
    pub mac: String,
    pub carrier: bool,
    pub purpose: String,
    pub addresses: Vec<String>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LinkState {
    #[default]
    Searching,
    Up,
    Lost,
    Conflict,
    Foreign,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct LinkStatus {
    pub state: LinkState,
    pub interface: Option<String>,
    pub peer_address: Option<String>,
    pub peer_version: Option<Version>,
    pub peer_host: Option<String>,
    pub silent_ms: Option<u64>,
    pub problem: Option<String>,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct TimeStatus {
    pub synced: bool,
    pub server: Option<String>,
    pub offset_ms: Option<i64>,
    pub zone: String,
    pub problem: Option<String>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PoolState {
    #[default]
    None,
    Searching,
    Absent,
    Foreign,
    Formatting,
    Mounted,
    Degraded,
    Failed,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct PoolStatus {
    pub state: PoolState,
    pub profile: String,
    pub disks: Vec<DiskStatus>,
    pub total_bytes: u64,
    pub used_bytes: u64,
    pub problem: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DiskStatus {
    pub serial: String,
    pub device: Option<String>,
    pub size_bytes: u64,
    pub detail: String,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ShareStatus {
    pub name: String,
    pub served: bool,
    #[serde(default)]
    pub clients: u32,
    #[serde(default)]
    pub read_bytes: u64,
    #[serde(default)]
    pub written_bytes: u64,
    #[serde(default)]
    pub problem: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MountStatus {
    pub name: String,
    pub path: String,
    pub mounted: bool,
    #[serde(default)]
    pub problem: Option<String>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum UpdatePhase {
    #[default]
    Idle,
    Checking,
    Fetching,
    Building,
    Staged,
    Armed,
    Trial,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct UpdateStatus {
    pub phase: UpdatePhase,
    pub source: Option<String>,
    pub target: Option<Version>,
    pub offered: Option<Version>,
    pub offered_notes: Option<String>,
    pub done_bytes: u64,
    pub total_bytes: u64,
    pub last: Option<UpdateReport>,
    pub quarantine: Vec<Quarantined>,
    pub problem: Option<String>,
    pub pair: Option<String>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ProvisionOutcome {
    #[default]
    Unknown,
    Applied,
    Missing,
    Refused,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ProvisionStatus {
    pub outcome: ProvisionOutcome,
    pub detail: String,
    pub digest: Option<Digest>,
    pub at_unix_s: u64,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct MemoryStatus {
    pub total_kib: u64,
    pub available_kib: u64,
    pub pid1_rss_kib: u64,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct BootRecord {
    pub schema: u32,
    pub boot_count: u64,
    pub attempts: Vec<Attempt>,
    pub pending: Option<Pending>,
    pub quarantine: Vec<Quarantined>,
    pub reports: Vec<UpdateReport>,
    pub pair: Option<PairPlan>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempt {
    pub version: Version,
    pub boot: u64,
    pub trial: bool,
    pub stage: AttemptStage,
    #[serde(default)]
    pub fail: Option<FailReason>,
    #[serde(default)]
    pub last_lines: Vec<String>,
    #[serde(default)]
    pub at_unix_s: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AttemptStage {
    Preinit,
    Init,
    Healthy,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "code", rename_all = "kebab-case")]
pub enum FailReason {
    Stopped { after: AttemptStage },
    Panic { message: String },
    Unhealthy { checks: Vec<String>, deadline_s: u32 },
    HandOver { message: String },
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pending {
    pub to: Version,
    pub from: Version,
    #[serde(default)]
    pub rollback: bool,
    pub uki: Digest,
    #[serde(default)]
    pub peer_expected: bool,
    #[serde(default)]
    pub at_unix_s: u64,
    #[serde(default)]
    pub boot: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quarantined {
    pub version: Version,
    pub uki: Digest,
    pub reason: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UpdateReport {
    pub from: Version,
    pub to: Version,
    pub outcome: UpdateOutcome,
    pub reason: String,
    #[serde(default)]
    pub last_lines: Vec<String>,
    #[serde(default)]
    pub at_unix_s: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum UpdateOutcome {
    Good,
    FellBack,
    RolledBack,
    Refused,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PairPlan {
    pub to: Version,
    #[serde(default)]
    pub rollback: bool,
    pub step: PairStep,
    #[serde(default)]
    pub orders: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PairStep {
    Staging,
    StorageTrial,
    ComputeTrial,
    Returning,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "kebab-case", deny_unknown_fields)]
pub enum UpdateCommand {
    Check,
    Stage { to: Option<Version> },
    Activate { to: Version },
    Discard,
    Rollback { to: Option<Version> },
    UpgradePair { to: Option<Version> },
    RollbackPair { to: Option<Version> },
    Bless,
    ClearQuarantine,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "re", rename_all = "kebab-case")]
pub enum UpdateReply {
    Progress { message: String, done_bytes: u64, total_bytes: u64 },
    Done { message: String, version: Option<Version> },
    Failed { kind: String, message: String },
}
