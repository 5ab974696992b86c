//! What people set about upgrades, and what they are told about them.

use crate::Version;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// Releases that may be pinned at one time: the third place on the boot disk is for the next one.
pub const PINS_MAX: usize = 2;
/// Packages of a release that are looked at.
pub const PACKAGES_MAX: usize = 2000;
/// Changed files listed of a comparison; more are only counted.
pub const CHANGES_MAX: usize = 2000;
/// Longest name of a channel in bytes.
pub const CHANNEL_BYTES_MAX: usize = 32;
/// Longest text of an [`UpdateSource`] in bytes.
const SOURCE_BYTES_MAX: usize = 1024;
const DAY_MINUTES: u16 = 24 * 60;

/// Where a release is taken from, when not from the board's own source. Text: `board`, `usb`, an
/// `http://` or `https://` address, or the absolute path of a folder.
///
/// Wherever it comes from, it is checked against the trust root of the provisioning file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum UpdateSource {
    /// The other board, over the link.
    Board,
    /// A USB stick with a repository's folder on it.
    Usb,
    /// A web server.
    Url(String),
    /// A folder of the board that is asked.
    Folder(String),
}

/// A text that names no source.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{text}` is no source: write `board`, `usb`, an address that begins with http:// or https://, or the absolute path of a folder"
)]
pub struct ParseSourceError {
    text: String,
}

impl FromStr for UpdateSource {
    type Err = ParseSourceError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let refuse = || ParseSourceError { text: text.chars().take(80).collect() };
        if text.len() > SOURCE_BYTES_MAX || text.chars().any(char::is_control) {
            return Err(refuse());
        }
        match text {
            "board" => Ok(Self::Board),
            "usb" => Ok(Self::Usb),
            _ if text.starts_with("http://") || text.starts_with("https://") => {
                Ok(Self::Url(text.into()))
            }
            _ if text.starts_with('/') => Ok(Self::Folder(text.into())),
            _ => Err(refuse()),
        }
    }
}

impl fmt::Display for UpdateSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Board => f.write_str("board"),
            Self::Usb => f.write_str("usb"),
            Self::Url(text) | Self::Folder(text) => f.write_str(text),
        }
    }
}

impl TryFrom<String> for UpdateSource {
    type Error = ParseSourceError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<UpdateSource> for String {
    fn from(source: UpdateSource) -> Self {
        source.to_string()
    }
}

/// Where the life of an upgrade stands, in one word; the same on console, command line and D-Bus.
///
/// ```text
/// Idle -> Checking -> Fetching -> Building -> Staged -> Armed -> Trial -> Good
///                        \___________\___________\_________\-> Failed   \-> Quarantined
/// Good -> (asked) Armed -> Trial -> RolledBack
/// ```
/// From `Staged` on it follows from the boot record and the boot disk alone; what a person should know of
/// the steps before is kept on STATE. So it is the same after any restart.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum UpdateLife {
    /// Nothing was tried yet.
    #[default]
    Idle,
    /// The repository is being asked.
    Checking,
    /// Contents are being fetched; goes on after a restart.
    Fetching,
    /// The image is being rebuilt, written and read back; goes on after a restart.
    Building,
    /// On the disk, verified, not armed.
    Staged,
    /// The next boot tries it.
    Armed,
    /// This boot is the try.
    Trial,
    /// The last upgrade proved itself.
    Good,
    /// The last upgrade ended before a trial, or its failure was forgiven.
    Failed,
    /// A person went back, and the older release runs.
    RolledBack,
    /// The last release failed its trial and is not tried again.
    Quarantined,
}

impl UpdateLife {
    /// Its word, as in JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Checking => "checking",
            Self::Fetching => "fetching",
            Self::Building => "building",
            Self::Staged => "staged",
            Self::Armed => "armed",
            Self::Trial => "trial",
            Self::Good => "good",
            Self::Failed => "failed",
            Self::RolledBack => "rolled-back",
            Self::Quarantined => "quarantined",
        }
    }
}

/// The life of the newest upgrade.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct LifeStatus {
    /// Where it stands.
    pub state: UpdateLife,
    /// The release it is about.
    pub version: Option<Version>,
    /// Why it ended so, in one sentence; empty while it goes on.
    pub reason: String,
}

/// What a person set about upgrades of one board. Kept on STATE; JSON.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct UpdateSettings {
    /// Channel followed instead of the provisioning file's.
    pub channel: Option<String>,
    /// Releases that are neither deleted nor replaced; at most [`PINS_MAX`].
    pub pins: Vec<Version>,
    /// What happens unasked.
    pub schedule: Schedule,
}

/// True for a channel's name: 1 to [`CHANNEL_BYTES_MAX`] of `a-z 0-9 -`, not starting with `-`.
pub fn is_channel(name: &str) -> bool {
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    (1..=CHANNEL_BYTES_MAX).contains(&name.len())
        && !name.starts_with('-')
        && name.bytes().all(plain)
}

/// What the box does about new releases unasked.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Schedule {
    /// How much.
    pub mode: ScheduleMode,
    /// When it may restart boards; any time when absent.
    pub window: Option<Window>,
    /// What it does while clients use the shares.
    pub reboot: RebootPolicy,
}

/// How much is done unasked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ScheduleMode {
    /// Nothing.
    #[default]
    Off,
    /// Look for releases and say so.
    Check,
    /// Upgrade both boards.
    Install,
}

/// What an upgrade that nobody waits for does while clients use the shares.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RebootPolicy {
    /// Waits until none does, or a person says `goblin upgrade`.
    #[default]
    Ask,
    /// Goes on.
    Anyway,
}

/// Hours of the day, by the board's own time zone, `HH:MM-HH:MM`; the end may lie on the next day, and
/// is not part of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Window {
    from_minute: u16,
    to_minute: u16,
}

/// A text that is no [`Window`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is no window: write two times of day, like 02:00-05:00")]
pub struct ParseWindowError {
    text: String,
}

impl Window {
    /// True when a minute of the day lies in the window.
    pub const fn holds(self, minute: u16) -> bool {
        if self.from_minute < self.to_minute {
            self.from_minute <= minute && minute < self.to_minute
        } else {
            self.from_minute <= minute || minute < self.to_minute
        }
    }
}

impl FromStr for Window {
    type Err = ParseWindowError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let refuse = || ParseWindowError { text: text.chars().take(40).collect() };
        let minute = |text: &str| -> Option<u16> {
            let (hours, minutes) = text.split_once(':')?;
            let two = |part: &str| part.len() == 2 && part.bytes().all(|b| b.is_ascii_digit());
            if !two(hours) || !two(minutes) {
                return None;
            }
            let (hours, minutes): (u16, u16) = (hours.parse().ok()?, minutes.parse().ok()?);
            let minute = hours.checked_mul(60)?.checked_add(minutes)?;
            (minutes < 60 && minute < DAY_MINUTES).then_some(minute)
        };
        let (from, to) = text.split_once('-').ok_or_else(refuse)?;
        match (minute(from), minute(to)) {
            (Some(from_minute), Some(to_minute)) if from_minute != to_minute => {
                Ok(Self { from_minute, to_minute })
            }
            _ => Err(refuse()),
        }
    }
}

impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { from_minute: a, to_minute: b } = self;
        write!(f, "{:02}:{:02}-{:02}:{:02}", a / 60, a % 60, b / 60, b % 60)
    }
}

impl TryFrom<String> for Window {
    type Error = ParseWindowError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Window> for String {
    fn from(window: Window) -> Self {
        window.to_string()
    }
}

/// What an upgrade of one board would do; nothing of it is done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UpgradePlan {
    /// Release that runs.
    pub from: Version,
    /// Release that would run; absent when nothing else is offered.
    pub to: Option<Version>,
    /// What it brings.
    pub notes: String,
    /// Contents that would be fetched.
    pub fetch_count: u64,
    /// Bytes that would be fetched for them, in the cheapest way.
    pub fetch_bytes: u64,
    /// Requests that would take, beside those already made to look.
    #[serde(default)]
    pub fetch_requests: u64,
    /// Why that way: each way there is, with its cost, a line each.
    #[serde(default)]
    pub ways: Vec<String>,
    /// Size of the image that would be written, in bytes; 0 when it is on the boot disk already.
    pub image_bytes: u64,
    /// Releases that would be deleted from the boot disk to make room.
    pub deletes: Vec<Version>,
    /// Why it would be refused, with the remedy; empty when it would not.
    pub problems: Vec<String>,
}

/// How two releases differ.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReleaseDiff {
    /// The one.
    pub a: Version,
    /// The other.
    pub b: Version,
    /// Size of each image in bytes.
    pub image_bytes: (u64, u64),
    /// Kernel, command line and other parts that are no files, each with its words in both.
    pub parts: Vec<PartChange>,
    /// Changed files by path, at most [`CHANGES_MAX`].
    pub files: Vec<FileChange>,
    /// Changed files in all.
    pub changed_count: u64,
    /// Files that are equal.
    pub equal_count: u64,
    /// Bytes of contents in `b` that `a` does not have.
    pub new_bytes: u64,
    /// Packages that are not the same; absent where a release says nothing of its packages.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub packages: Option<Vec<PackageChange>>,
}

/// A package or crate that is not the same in two releases.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PackageChange {
    /// `deb` or `cargo`.
    pub kind: String,
    /// Its name.
    pub name: String,
    /// Its version in the first release; absent when it is not in it. Several are joined by commas.
    pub a: Option<String>,
    /// Its version in the second.
    pub b: Option<String>,
}

/// A part of a release that is no file and differs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartChange {
    /// `kernel`, `command line`, `preinit`...
    pub name: String,
    /// What it is in the first release.
    pub a: String,
    /// What it is in the second.
    pub b: String,
}

/// A file that is not the same in two releases.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileChange {
    /// Path.
    pub path: String,
    /// Size in the first release, in bytes; absent when it is not there. 0 for what has no content.
    pub a_bytes: Option<u64>,
    /// Size in the second.
    pub b_bytes: Option<u64>,
    /// The content is the same, only mode or owner differ.
    pub same_content: bool,
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn sources_are_told_by_their_first_letters() {
        let source = |text: &str| text.parse::<UpdateSource>().ok();
        assert_eq!(source("board"), Some(UpdateSource::Board));
        assert_eq!(source("usb"), Some(UpdateSource::Usb));
        assert_eq!(source("http://h/r"), Some(UpdateSource::Url("http://h/r".into())));
        assert_eq!(source("/media/r"), Some(UpdateSource::Folder("/media/r".into())));
        for odd in ["", "ftp://h", "media", "/a\nb", "USB"] {
            assert_eq!(source(odd), None, "{odd}");
        }
    }

    #[test]
    fn window_may_span_midnight_and_ends_before_its_end() {
        let window = |text: &str| text.parse::<Window>().unwrap();
        let night = window("23:30-05:00");
        assert!(night.holds(23 * 60 + 30) && night.holds(0) && night.holds(299));
        assert!(!night.holds(300) && !night.holds(12 * 60));
        assert!(window("02:00-05:00").holds(120) && !window("02:00-05:00").holds(300));
        for odd in ["", "2-5", "02:00", "24:00-05:00", "02:60-03:00", "02:00-02:00", "+2:00-05:00"]
        {
            assert!(odd.parse::<Window>().is_err(), "{odd}");
        }
    }

    #[test]
    fn channels_are_plain_words() {
        assert!(is_channel("stable") && is_channel("edge-2"));
        for odd in ["", "-x", "Stable", "a/b", "a b", &"x".repeat(33)] {
            assert!(!is_channel(odd), "{odd}");
        }
    }

    #[test]
    fn settings_of_another_release_are_read() {
        let read: UpdateSettings = serde_json::from_str(r#"{"pins":["2"],"new":1}"#).unwrap();
        assert_eq!(read.pins, [Version::new(2, 0, 0)]);
        assert_eq!(read.schedule, Schedule::default());
    }

    proptest! {
        #[test]
        fn written_windows_read_back(a in 0u16..1440, b in 0u16..1440) {
            prop_assume!(a != b);
            let window = Window { from_minute: a, to_minute: b };
            prop_assert_eq!(window.to_string().parse::<Window>().unwrap(), window);
        }

        #[test]
        fn any_text_is_answered(text in ".{0,40}") {
            let _ = text.parse::<Window>();
            let _ = text.parse::<UpdateSource>();
        }
    }
}
