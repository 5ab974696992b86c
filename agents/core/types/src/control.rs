//! Messages of the local sockets and of the host channel. All are one JSON object per line.

use crate::{
    Digest, FailReason, ReleaseDiff, ResetLevel, Schedule, UnitStatus, UpdateSource, UpgradePlan,
    Version,
};
use serde::{Deserialize, Serialize};

/// Asked of PID 1 over [`crate::paths::INIT_SOCKET`]: one line, then replies until the end.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "kebab-case", deny_unknown_fields)]
pub enum InitRequest {
    /// State of every unit: one [`InitReply::Units`].
    Units,
    /// Log lines: [`InitReply::Line`]s, then [`InitReply::Done`] unless `follow`.
    Logs(LogFilter),
    /// Everything that is known of one unit: one [`InitReply::Unit`], then [`InitReply::Done`].
    Show {
        /// Its name.
        unit: String,
    },
    /// Everything that is known of every unit: an [`InitReply::Unit`] each, by name, then
    /// [`InitReply::Done`].
    Graph,
    /// A person wants a unit to run, and with it all that it requires. [`InitReply::Done`] says that this is
    /// wanted now, not that it runs.
    Start {
        /// Its name.
        unit: String,
    },
    /// A person wants a unit to be down until someone starts it; what requires it goes down first.
    Stop {
        /// Its name.
        unit: String,
    },
    /// A person wants a unit to be stopped and started again; what requires it goes down and comes back too.
    Restart {
        /// Its name.
        unit: String,
    },
    /// A person sets a key of a unit's settings, or takes it away. [`InitReply::Done`] says that this is allowed
    /// and being kept; [`UnitDetail::settings`] shows it once it is.
    Set {
        /// The unit's name.
        unit: String,
        /// The key, as in `goblin_init_core::settings`.
        key: String,
        /// A value as TOML writes it; absent to take the key away.
        #[serde(default)]
        value: Option<String>,
    },
    /// Ordered shutdown and reboot; the reason is logged and shown.
    Reboot {
        /// Why.
        reason: String,
    },
    /// Ordered shutdown and power-off.
    PowerOff {
        /// Why.
        reason: String,
    },
}

/// Which log lines are wanted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LogFilter {
    /// Only this unit.
    pub unit: Option<String>,
    /// Keep the connection and send new lines as they come.
    pub follow: bool,
    /// At most this many of the newest lines before following; 0 means all that the ring holds.
    pub lines_max: u32,
}

/// Severity of a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    /// Per request.
    Debug,
    /// A state change.
    Info,
    /// Worse but working.
    Warn,
    /// A person must act.
    Error,
}

/// One structured log line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogLine {
    /// Number of the line since PID 1 started; gaps are lines the ring dropped.
    pub seq: u64,
    /// Milliseconds since the kernel started.
    pub at_ms: u64,
    /// Unit that wrote it; `init` for PID 1 itself, `kernel` for the kernel.
    pub unit: String,
    /// Severity.
    pub level: LogLevel,
    /// The text, with control characters replaced.
    pub text: String,
}

/// Asked of the file `logs/ctl` of a board's control tree: one line, then [`LogsReply`] lines until the end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "kebab-case")]
pub enum LogsRequest {
    /// Lines of one boot, oldest first: of this one from the journal and PID 1's memory, of an earlier one
    /// from the journal.
    Lines(LogsFilter),
    /// The boots that the journal knows: one [`LogsReply::Boots`].
    Boots,
}

/// Which lines are wanted. What an older release does not know is ignored there.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct LogsFilter {
    /// Which boot.
    pub boot: BootChoice,
    /// Only this unit.
    pub unit: Option<String>,
    /// Only lines that are at least this severe.
    pub level: Option<LogLevel>,
    /// Only lines since then.
    pub since: Option<Since>,
    /// At most this many of the newest lines; 0 means all that are kept.
    pub lines_max: u32,
    /// Send new lines as they come; only of the running boot.
    pub follow: bool,
}

/// A boot, as a person names it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BootChoice {
    /// The running one.
    #[default]
    Running,
    /// So many boots before the running one, as far as the journal knows them; 1 is the last one.
    Back(u32),
    /// By number, or by the first characters of its id.
    Named(String),
}

/// A moment from which on lines are wanted, by the board's clock at that time, which may have been wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Since {
    /// Milliseconds before now.
    AgoMs(u64),
    /// Milliseconds since 1970.
    UnixMs(u64),
}

/// Answered by `logs/ctl`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "re", rename_all = "kebab-case")]
pub enum LogsReply {
    /// One line.
    Line(KeptLine),
    /// The boots of the journal.
    Boots {
        /// Oldest first; the running one is last.
        boots: Vec<BootListed>,
    },
    /// Everything was said.
    Done,
    /// The request was refused.
    Refused {
        /// One sentence with the remedy.
        message: String,
    },
}

/// A log line, and when and in which boot it was written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptLine {
    /// The line.
    #[serde(flatten)]
    pub line: LogLine,
    /// Milliseconds since 1970 by the board's clock at that time; 0 where it stood before 1970.
    pub unix_ms: u64,
    /// The kernel's id of the boot.
    pub boot_id: String,
}

/// A boot that the journal knows.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct BootListed {
    /// 0 for the running boot, 1 for the one before, and so on.
    pub back: u32,
    /// The kernel's id of the boot.
    pub boot_id: String,
    /// Its number in the boot record; 0 where that was not known.
    pub number: u64,
    /// Release that ran; absent where that was not known.
    pub version: Option<Version>,
    /// Milliseconds since 1970 of the oldest line that is kept.
    pub first_unix_ms: u64,
    /// Milliseconds since 1970 of the newest line that is kept.
    pub last_unix_ms: u64,
    /// Lines that are kept.
    pub lines: u64,
    /// Lines that are known to be lost.
    pub lost: u64,
}

/// What kind of unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum UnitKind {
    /// A program that keeps running.
    Service,
    /// A program that runs to completion; ready means that it ended with status 0.
    Task,
    /// A file system that is mounted.
    Mount,
    /// A device that the kernel has to report.
    Device,
    /// A listening socket that PID 1 holds open for services.
    Socket,
    /// A point that is reached when all that it requires is ready.
    Milestone,
}

/// Everything that is known of one unit.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct UnitDetail {
    /// Where it stands.
    pub status: UnitStatus,
    /// What kind of unit; absent for a file that could not be understood.
    #[serde(default)]
    pub kind: Option<UnitKind>,
    /// Whether it shall run: the desired state, of which [`UnitStatus::phase`] is the current one.
    #[serde(default)]
    pub wanted: bool,
    /// Program and arguments; empty where there is none.
    #[serde(default)]
    pub exec: Vec<String>,
    /// Units that must be ready while it runs.
    #[serde(default)]
    pub requires: Vec<String>,
    /// Units that must have been ready once.
    #[serde(default)]
    pub milestone: Vec<String>,
    /// Units that are started with it, and before it, whether that succeeds or not.
    #[serde(default)]
    pub wants: Vec<String>,
    /// Units that come before it if they are started at all.
    #[serde(default)]
    pub after: Vec<String>,
    /// The board cannot be healthy without it.
    #[serde(default)]
    pub critical: bool,
    /// Milliseconds after PID 1 started when it was first started; see [`UnitStatus::ready_ms`].
    #[serde(default)]
    pub started_ms: Option<u64>,
    /// Longest silence of its watchdog, in milliseconds.
    #[serde(default)]
    pub watchdog_ms: Option<u64>,
    /// How its process ended last.
    #[serde(default)]
    pub last_end: String,
    /// What a person set of it, a TOML table; empty when nothing is set.
    #[serde(default)]
    pub settings: String,
}

/// Answered by PID 1.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "re", rename_all = "kebab-case")]
pub enum InitReply {
    /// Every unit.
    Units {
        /// By name.
        units: Vec<UnitStatus>,
        /// Milliseconds since the kernel started when PID 1 began.
        init_start_ms: u64,
        /// Set when the boot counts as a trial and the verdict is still open.
        trial: bool,
        /// Lines the ring dropped since the start.
        dropped_lines: u64,
    },
    /// One log line.
    Line(LogLine),
    /// One unit.
    Unit(Box<UnitDetail>),
    /// The request was carried out, or the listing is complete.
    Done,
    /// The request was refused.
    Refused {
        /// One sentence with the remedy.
        message: String,
    },
}

/// Asked of the updater over [`crate::paths::UPDATE_SOCKET`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "kebab-case", deny_unknown_fields)]
pub enum UpdateCommand {
    /// Read the repository and say what it offers.
    Check,
    /// As [`UpdateCommand::Check`], without waiting for this box's turn where a release is handed out in
    /// waves.
    CheckNow,
    /// Fetch, rebuild and write a release, without arming it.
    Stage {
        /// Absent for the newest.
        to: Option<Version>,
        /// Absent for the board's own source.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        from: Option<UpdateSource>,
    },
    /// Say what [`UpdateCommand::Stage`] and activating would do here, and do nothing:
    /// [`UpdateReply::Plan`], then `Done`.
    Preview {
        /// Absent for the newest.
        to: Option<Version>,
        /// Absent for the board's own source.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        from: Option<UpdateSource>,
    },
    /// Say how two releases of the repository differ: [`UpdateReply::Diff`], then `Done`.
    Diff {
        /// Absent for the running one.
        a: Option<Version>,
        /// The other one.
        b: Version,
    },
    /// Arm the staged release (`+3`) and reboot into its trial.
    Activate {
        /// Must be the staged one.
        to: Version,
    },
    /// Forget the staged release and free its space.
    Discard,
    /// Boot the other good release on the ESP.
    Rollback {
        /// Absent for the newest good one that is older than the running one.
        to: Option<Version>,
    },
    /// On the compute board: upgrade both boards as one step.
    UpgradePair {
        /// Absent for the newest.
        to: Option<Version>,
        /// Absent for each board's own source.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        from: Option<UpdateSource>,
    },
    /// On the compute board: take both boards back as one step.
    RollbackPair {
        /// Absent for the newest good one that both have and that is older than the running one.
        to: Option<Version>,
    },
    /// PID 1's word that the trial passed: bless the running release.
    Bless,
    /// Forget that releases failed here.
    ClearQuarantine {
        /// Only this one; every one when absent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        release: Option<Version>,
    },
    /// Neither delete nor replace a good release that is on the boot disk.
    Pin {
        /// The release.
        release: Version,
    },
    /// Allow it again.
    Unpin {
        /// The release.
        release: Version,
    },
    /// Follow another channel.
    SetChannel {
        /// Absent for the one of the provisioning file.
        channel: Option<String>,
    },
    /// Write a factory reset down for the next boot, and restart.
    FactoryReset {
        /// How much.
        level: ResetLevel,
        /// Who asks, in words.
        #[serde(default)]
        why: String,
    },
    /// On the compute board: [`UpdateCommand::FactoryReset`] of both boards, storage first.
    FactoryResetPair {
        /// How much.
        level: ResetLevel,
        /// Who asks, in words.
        #[serde(default)]
        why: String,
    },
    /// Change what is done unasked.
    SetSchedule {
        /// All of it.
        schedule: Schedule,
    },
}

/// Asked of the compute board's updater over [`crate::paths::RELEASES_SOCKET`] for the storage board: one line,
/// answered by a [`ReleasesReply`] line and bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "kebab-case", deny_unknown_fields)]
pub enum ReleasesRequest {
    /// A small file of the repository, as metadata and manifests are.
    File {
        /// Its path in the repository.
        path: String,
        /// Most bytes that are of use.
        bytes_max: u64,
    },
    /// File contents of a release, one after another in this order.
    Contents {
        /// Which.
        contents: Vec<WantedContent>,
    },
}

/// A content by its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct WantedContent {
    /// blake3 of the content.
    pub digest: Digest,
    /// Size in bytes.
    pub size: u64,
}

/// The first line of the answer to a [`ReleasesRequest`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "re", rename_all = "kebab-case")]
pub enum ReleasesReply {
    /// So many bytes follow; fewer say that the rest could not be had.
    Bytes {
        /// Their number.
        bytes: u64,
    },
    /// There is no such file.
    Absent,
    /// It cannot be given.
    Failed {
        /// One sentence.
        message: String,
    },
}

/// Answered by the updater: any number of `Progress`, then `Done` or `Failed`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "re", rename_all = "kebab-case")]
pub enum UpdateReply {
    /// Something moved.
    Progress {
        /// One sentence.
        message: String,
        /// Bytes done, 0 where they are not counted.
        done_bytes: u64,
        /// Bytes in all.
        total_bytes: u64,
    },
    /// What an upgrade would do.
    Plan(UpgradePlan),
    /// How two releases differ.
    Diff(Box<ReleaseDiff>),
    /// Carried out.
    Done {
        /// One sentence.
        message: String,
        /// The release it was about.
        version: Option<Version>,
    },
    /// Not carried out; the board is as it was.
    Failed {
        /// A stable word for scripts: `signature`, `expired`, `older`, `blob-mismatch`, `network`,
        /// `space`, `quarantined`, `busy`, `not-found`, `esp`, `peer`, `stick`, `fell-back`, `refused`.
        kind: String,
        /// What went wrong and what to do.
        message: String,
    },
}

/// Asked over the host channel ([`crate::paths::HOST_CHANNEL`]). An empty line instead kills the commands
/// that run and is answered by [`HostReply::Hello`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HostRequest {
    /// Chosen by the host, repeated in every reply.
    pub id: u64,
    /// Arguments of the `goblin` command, without the program's name.
    pub argv: Vec<String>,
}

/// Answered over the host channel.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "re", rename_all = "kebab-case")]
pub enum HostReply {
    /// The agent is there; sent to every host that opens the port, and after an empty line. Commands that ran before
    /// it are not answered any more.
    Hello {
        /// The kernel's boot id: a new one means that the board was started again.
        boot_id: String,
        /// True after an empty line. Otherwise the agent opened the port, or was started, just now.
        #[serde(default)]
        asked: bool,
    },
    /// A piece of standard output.
    Out {
        /// Request.
        id: u64,
        /// Text; bytes that are not UTF-8 are replaced.
        text: String,
    },
    /// A piece of standard error.
    Err {
        /// Request.
        id: u64,
        /// Text.
        text: String,
    },
    /// The command ended.
    Exit {
        /// Request.
        id: u64,
        /// Exit status; 128 + signal when it was killed.
        code: i32,
    },
}

/// Handed to PID 1 by the health agent through its readiness descriptor, one JSON line each.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "notify", rename_all = "kebab-case")]
pub enum Notify {
    /// The unit is ready.
    Ready,
    /// A sentence for `goblin status`.
    Status {
        /// The sentence.
        text: String,
    },
    /// The unit's loop turns.
    Ping,
    /// The health agent's verdict over a trial: PID 1 writes it down and reboots.
    TrialFailed {
        /// Why.
        reason: FailReason,
    },
}
