//! The words every part of goblinux shares: versions, digests, roles, and the shapes in which boards
//! and agents report their state.
//!
//! Everything here is a value. Nothing reads a clock, a file or a socket. Shapes that leave a process
//! (`status`, `record`, `control`) are serde types with a `schema` number; unknown fields are ignored
//! on reading, so that releases N and N-1 understand each other.

mod access;
mod control;
mod device;
mod digest;
mod escape;
mod mirror;
pub mod paths;
mod record;
mod reset;
mod role;
mod status;
mod update;
mod version;

pub use access::{
    AccessChange, ClientStatus, ConnectionStatus, GREETING_BYTES_MAX, Greeting, Group, May,
    PastChange, RightStatus, ShareCommand, ShareReply, ShareRight, ShareRights,
};
pub use control::{
    BootChoice, BootListed, HostReply, HostRequest, InitReply, InitRequest, KeptLine, LogFilter,
    LogLevel, LogLine, LogsFilter, LogsReply, LogsRequest, Notify, ReleasesReply, ReleasesRequest,
    Since, UnitDetail, UnitKind, UpdateCommand, UpdateReply, WantedContent,
};
pub use device::{Bus, DEVICE_LINE_BYTES_MAX, DEVICES_MAX, Device, DeviceEvent, DeviceKind};
pub use digest::{BoxId, Digest, ParseDigestError};
pub use escape::escape_bytes;
pub use mirror::{
    DiskLabel, DisksCommand, DisksReply, EPOCHS_KEPT_MAX, MirrorState, MirrorStatus,
    STATE_OF_TWO_LINE,
};
pub use record::{
    ATTEMPTS_KEPT_MAX, Attempt, AttemptStage, BootEnd, BootRecord, END_WHY_BYTES_MAX, EndBy,
    EndKind, FailReason, LAST_LINES_MAX, OrderedEnd, PairPlan, PairStep, Pending,
    QUARANTINE_KEPT_MAX, Quarantined, REPORTS_KEPT_MAX, UpdateOutcome, UpdateReport, WriteCount,
    Written,
};
pub use reset::{
    ParseLevelError, PendingReset, ResetLevel, ResetReport, reset_entry_name, reset_entry_version,
};
pub use role::{ParseRoleError, Role};
pub use status::{
    BoardStatus, BootStatus, BoxStatus, Check, CheckState, DiskStatus, Health, HealthState,
    InterfaceStatus, LinkState, LinkStatus, MemoryStatus, MountStatus, NetStatus, PoolState,
    PoolStatus, ProvisionOutcome, ProvisionStatus, STATUS_SCHEMA, ShareStatus, SlotState,
    SlotStatus, TimeStatus, UnitPhase, UnitStatus, UpdatePhase, UpdateStatus,
};
pub use update::{
    CHANGES_MAX, CHANNEL_BYTES_MAX, FileChange, LifeStatus, PACKAGES_MAX, PINS_MAX, PackageChange,
    ParseSourceError, ParseWindowError, PartChange, RebootPolicy, ReleaseDiff, Schedule,
    ScheduleMode, UpdateLife, UpdateSettings, UpdateSource, UpgradePlan, Window, is_channel,
};
pub use version::{ParseVersionError, Version};
