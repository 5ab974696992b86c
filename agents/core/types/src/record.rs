use crate::{Digest, PendingReset, ResetReport, UpdateSource, Version};
use serde::{Deserialize, Serialize};

/// Boot attempts remembered in the record; older ones are dropped.
pub const ATTEMPTS_KEPT_MAX: usize = 12;
/// Failed releases remembered in the record; older ones are dropped.
pub const QUARANTINE_KEPT_MAX: usize = 32;
/// Upgrade reports remembered in the record; older ones are dropped.
pub const REPORTS_KEPT_MAX: usize = 8;
/// Longest reason of an ordered end, in bytes.
pub const END_WHY_BYTES_MAX: usize = 240;
/// Last log lines kept of a failed boot.
pub const LAST_LINES_MAX: usize = 24;

/// What the RECORD partition remembers from one boot to the next: attempts, their outcome and reason,
/// a pending upgrade, versions that must not be tried again.
///
/// Stored as JSON inside the two-copy frame of `goblin_image::record`. A board whose record is lost
/// starts a new one; nothing in it is needed to boot.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct BootRecord {
    /// Version of this shape; 1.
    pub schema: u32,
    /// Boots counted since the record was made.
    pub boot_count: u64,
    /// The newest attempt is last; at most [`ATTEMPTS_KEPT_MAX`].
    pub attempts: Vec<Attempt>,
    /// An armed upgrade or rollback that has not been decided yet.
    pub pending: Option<Pending>,
    /// Releases that failed here and are not offered again until cleared.
    pub quarantine: Vec<Quarantined>,
    /// Decided upgrades, newest last; at most [`REPORTS_KEPT_MAX`].
    pub reports: Vec<UpdateReport>,
    /// On the compute board: the upgrade of both boards that is under way.
    pub pair: Option<PairPlan>,
    /// A factory reset that the next boot carries out; absent where an older release wrote this.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reset: Option<PendingReset>,
    /// How the last factory reset ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_reset: Option<ResetReport>,
}

/// One boot of one release.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempt {
    /// Release that was started.
    pub version: Version,
    /// Number of the boot, from [`BootRecord::boot_count`].
    pub boot: u64,
    /// True when the loader counted this boot as a try of a release that is not blessed yet.
    pub trial: bool,
    /// How far the boot came.
    pub stage: AttemptStage,
    /// Why it ended, where it failed.
    #[serde(default)]
    pub fail: Option<FailReason>,
    /// Last log lines before the failure, oldest first; at most [`LAST_LINES_MAX`].
    #[serde(default)]
    pub last_lines: Vec<String>,
    /// Seconds since 1970 by the board's clock when the attempt began; the clock may have been wrong.
    #[serde(default)]
    pub at_unix_s: u64,
    /// How it ended, or that it has not; absent where an older release wrote this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end: Option<BootEnd>,
}

/// How a boot ended.
///
/// ```text
///   Open -- an order --> Ordered, not done -- all units are down --> Ordered, done
///     | the next boot finds that the hardware watchdog had reset the board, order or not
///     +--> Watchdog
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "end", rename_all = "kebab-case")]
pub enum BootEnd {
    /// Nothing ended it yet. Of a boot that is over: it ended without a word, as by a power cut.
    Open,
    /// Somebody ended it.
    Ordered(OrderedEnd),
    /// The hardware watchdog reset the board.
    Watchdog {
        /// The end that was under way, if one was.
        #[serde(default)]
        during: Option<OrderedEnd>,
    },
    /// What a newer release wrote.
    #[serde(other)]
    Unknown,
}

/// An end of a boot that somebody or something asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrderedEnd {
    /// What was asked for.
    pub how: EndKind,
    /// Who asked.
    pub by: EndBy,
    /// Why, in the asker's words; at most [`END_WHY_BYTES_MAX`].
    pub why: String,
    /// True once every unit was down; false of a boot that is over when it did not get so far.
    #[serde(default)]
    pub done: bool,
    /// Seconds since 1970 by the board's clock when it was asked for.
    #[serde(default)]
    pub at_unix_s: u64,
}

/// What becomes of a board at the end of a boot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EndKind {
    /// It starts again.
    Reboot,
    /// It stays off.
    PowerOff,
    /// What a newer release wrote.
    #[serde(other)]
    Unknown,
}

/// Who ends a boot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "by", rename_all = "kebab-case")]
pub enum EndBy {
    /// A unit, over PID 1's socket: `control` for a command and for the other board, `console` for a person
    /// at the screen, `update` for the updater.
    Unit {
        /// Its name.
        name: String,
    },
    /// A program that is no unit's.
    Program,
    /// A signal to PID 1: Ctrl-Alt-Del, a failing supply, `SIGTERM`.
    Signal {
        /// What it stands for.
        name: String,
    },
    /// The power button.
    Button,
    /// PID 1 itself, for a release failed its trial.
    Trial,
    /// What a newer release wrote.
    #[serde(other)]
    Unknown,
}

/// How far a boot came, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AttemptStage {
    /// preinit ran: kernel and initramfs are good.
    Preinit,
    /// PID 1 of the base image runs.
    Init,
    /// Every role check passed.
    Healthy,
}

/// Why a boot failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "code", rename_all = "kebab-case")]
pub enum FailReason {
    /// The boot stopped without a word: panic, hang ended by the watchdog, or power loss.
    Stopped {
        /// The last stage that was written down.
        after: AttemptStage,
    },
    /// The kernel panicked and left its last lines in NVRAM.
    Panic {
        /// The line that names the panic.
        message: String,
    },
    /// Role checks did not pass before the deadline.
    Unhealthy {
        /// The checks that failed, with their detail.
        checks: Vec<String>,
        /// The deadline, seconds after PID 1 started.
        deadline_s: u32,
    },
    /// preinit could not hand over to the base image.
    HandOver {
        /// What preinit was doing, with the kernel's error.
        message: String,
    },
}

/// How the check of a trial that somebody ended begins.
const ENDED_EARLY: &str = "ended before the verdict";

impl FailReason {
    /// A trial that was ended in order, by a person or a failing supply, before its checks had passed.
    pub fn ended_early(why: &str, deadline_s: u32) -> Self {
        Self::Unhealthy { checks: vec![format!("{ENDED_EARLY}: {why}")], deadline_s }
    }

    /// Why somebody ended the trial, where that is what happened.
    pub fn why_ended_early(&self) -> Option<&str> {
        match self {
            Self::Unhealthy { checks, .. } => {
                checks.first()?.strip_prefix(ENDED_EARLY)?.strip_prefix(": ")
            }
            _ => None,
        }
    }
}

/// A flip that was written to the ESP and awaits its verdict.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pending {
    /// Release that shall run next.
    pub to: Version,
    /// Release that armed it.
    pub from: Version,
    /// True when a person asked to go back, false for an upgrade.
    #[serde(default)]
    pub rollback: bool,
    /// blake3 of the UKI on the ESP.
    pub uki: Digest,
    /// The other board was in sight when this was armed, so the trial must see it again.
    #[serde(default)]
    pub peer_expected: bool,
    /// The storage board had no pool when this was armed, for want of a disk or because of what is on it:
    /// the trial cannot be asked for one. False, which asks for it, where an older release wrote this.
    #[serde(default)]
    pub pool_missing: bool,
    /// Seconds since 1970 by the board's clock.
    #[serde(default)]
    pub at_unix_s: u64,
    /// [`BootRecord::boot_count`] when this was armed: later attempts are its tries. 0 where an older
    /// release wrote this.
    #[serde(default)]
    pub boot: u64,
    /// What it took to bring the release to the disk; absent for a rollback and where an older release
    /// wrote this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub written: Option<Written>,
}

/// What an upgrade wrote to the system disk, from its first fetched content until it was armed, by the run
/// of the updater that armed it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Written {
    /// To the ESP.
    pub esp: WriteCount,
    /// To the store on STATE.
    pub state: WriteCount,
}

/// Writes as a program asks for them; what the file system writes beside them is not counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct WriteCount {
    /// Bytes of contents.
    pub bytes: u64,
    /// Changes of contents and names.
    pub changes: u64,
    /// Waits for the disk.
    pub syncs: u64,
}

/// A release that failed its trial on this board.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quarantined {
    /// Its version.
    pub version: Version,
    /// blake3 of its UKI: a rebuilt release of the same version is another release.
    pub uki: Digest,
    /// The reason in one sentence.
    pub reason: String,
}

/// How an upgrade or rollback ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UpdateReport {
    /// Release that ran before.
    pub from: Version,
    /// Release that was tried.
    pub to: Version,
    /// Verdict.
    pub outcome: UpdateOutcome,
    /// One sentence for people: why it went this way.
    pub reason: String,
    /// Last log lines of the failed boot, where there was one.
    #[serde(default)]
    pub last_lines: Vec<String>,
    /// Seconds since 1970 by the board's clock.
    #[serde(default)]
    pub at_unix_s: u64,
    /// What the upgrade wrote to the disk; absent where that is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub written: Option<Written>,
}

/// Verdict over an upgrade.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum UpdateOutcome {
    /// The new release proved itself and was blessed.
    Good,
    /// The new release failed its trial; the old one runs again.
    FellBack,
    /// A person asked for the old release, and it runs.
    RolledBack,
    /// Nothing was flipped: the release was refused or could not be fetched.
    Refused,
}

/// The upgrade of both boards as one step: storage tries first, then compute.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PairPlan {
    /// Release both boards shall run.
    pub to: Version,
    /// True when a person asked both boards to go back.
    #[serde(default)]
    pub rollback: bool,
    /// Where the pair stands.
    pub step: PairStep,
    /// Times the compute board was told to restart into it; bounded, so that a loader that passes it
    /// over does not restart the board for ever.
    #[serde(default)]
    pub orders: u32,
    /// Where the release is taken from, when not from each board's own source.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<UpdateSource>,
}

/// Steps of a pair upgrade, in order. Each is durable before the next begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PairStep {
    /// Both boards fetch, rebuild and verify the release.
    Staging,
    /// The storage board was told to try it.
    StorageTrial,
    /// The storage board is good on it; the compute board tries it.
    ComputeTrial,
    /// The compute board fell back: the storage board is told to return too.
    Returning,
}
