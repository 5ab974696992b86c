//! The words and tones for states, sizes and names: one home, so that every page says the same.

use goblin_core_types::{
    BoardStatus, CheckState, FailReason, HealthState, LinkState, LogLevel, PoolState,
    ProvisionOutcome, Role, SlotState, SlotStatus, UpdateOutcome, UpdatePhase, UpdateStatus,
    Version,
};

/// Longest text taken from a status, in characters; the rest is replaced by an ellipsis.
pub const TEXT_CHARS_MAX: usize = 400;

/// What a colour and a shape stand for; the words beside it say the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Tone {
    /// Nothing to say.
    Quiet,
    /// Works.
    Good,
    /// Something is under way.
    Busy,
    /// Works, but a person should know.
    Warn,
    /// Does not work.
    Bad,
}

/// A tone with its word.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Badge {
    /// Colour and shape.
    pub tone: Tone,
    /// The word.
    pub word: String,
}

impl Badge {
    /// A badge.
    pub fn new(tone: Tone, word: impl Into<String>) -> Self {
        Self { tone, word: word.into() }
    }
}

/// Makes any text fit to be shown: control and direction characters replaced, blanks joined, length
/// bounded.
pub fn clean(text: &str) -> String {
    clean_to(text, TEXT_CHARS_MAX)
}

/// [`clean`] with a bound of its own.
pub fn clean_to(text: &str, chars_max: usize) -> String {
    let mut out = String::new();
    let mut blank = true;
    let mut count = 0usize;
    for c in text.chars() {
        let space = c.is_whitespace() || c.is_control() || is_direction(c);
        if space && blank {
            continue;
        }
        if count == chars_max {
            out.push('…');
            break;
        }
        out.push(if space { ' ' } else { c });
        blank = space;
        count = count.saturating_add(1);
    }
    out.truncate(out.trim_end().len());
    out
}

/// Like [`clean_to`], with blanks kept: a machine's line, whose columns mean something.
pub fn clean_line(text: &str, chars_max: usize) -> String {
    let fit = |c: char| if c.is_control() || is_direction(c) { ' ' } else { c };
    text.trim_end().chars().take(chars_max).map(fit).collect()
}

/// Marks that turn the direction of writing: a name must not reorder the words beside it.
fn is_direction(c: char) -> bool {
    matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

/// A reason told below a heading that names its release already: without `release 3` in front.
pub fn about(reason: &str, version: Version, chars_max: usize) -> String {
    let text = clean(reason);
    clean_to(text.strip_prefix(&format!("release {version} ")).unwrap_or(&text), chars_max)
}

/// `1.2 TB`: powers of 1000, as disks are sold.
pub fn size(bytes: u64) -> String {
    let units = ["B", "kB", "MB", "GB", "TB", "PB"];
    let mut scale = 1u64;
    let mut unit = 0usize;
    while bytes / scale >= 1000 && unit.saturating_add(1) < units.len() {
        scale = scale.saturating_mul(1000);
        unit = unit.saturating_add(1);
    }
    let name = units.get(unit).copied().unwrap_or("B");
    let whole = bytes / scale;
    let tenth = (bytes % scale) / (scale / 10).max(1);
    if unit == 0 || whole >= 100 {
        format!("{whole} {name}")
    } else {
        format!("{whole}.{tenth} {name}")
    }
}

/// Parts of a thousand, 0 where the whole is unknown.
pub fn permille(part: u64, whole: u64) -> u16 {
    let share = u128::from(part).saturating_mul(1000).checked_div(u128::from(whole)).unwrap_or(0);
    u16::try_from(share.min(1000)).unwrap_or(1000)
}

/// `1 client`, `3 clients`.
pub fn count(number: u64, one: &str, many: &str) -> String {
    if number == 1 { format!("1 {one}") } else { format!("{number} {many}") }
}

/// `Compute board`.
pub fn board(role: Option<Role>) -> &'static str {
    match role {
        Some(Role::Compute) => "Compute board",
        Some(Role::Storage) => "Storage board",
        None => "This board",
    }
}

/// A version that may be unknown.
pub fn version(version: Option<Version>) -> String {
    version.map_or_else(|| "unknown".to_owned(), |v| v.to_string())
}

/// Verdict over a board.
pub fn health(state: HealthState) -> Badge {
    match state {
        HealthState::Starting => Badge::new(Tone::Busy, "Starting"),
        HealthState::Healthy => Badge::new(Tone::Good, "Healthy"),
        HealthState::Degraded => Badge::new(Tone::Warn, "Degraded"),
        HealthState::Failing => Badge::new(Tone::Bad, "Failing"),
    }
}

/// Tone of one check.
pub fn check(state: CheckState) -> Tone {
    match state {
        CheckState::Waiting => Tone::Busy,
        CheckState::Ok => Tone::Good,
        CheckState::Warn => Tone::Warn,
        CheckState::Fail => Tone::Bad,
    }
}

/// State of the cable between the boards.
pub fn link(state: LinkState) -> Badge {
    match state {
        LinkState::Searching => Badge::new(Tone::Busy, "Searching"),
        LinkState::Up => Badge::new(Tone::Good, "Linked"),
        LinkState::Lost => Badge::new(Tone::Bad, "Link lost"),
        LinkState::Conflict => Badge::new(Tone::Bad, "Conflict"),
        LinkState::Foreign => Badge::new(Tone::Bad, "Foreign board"),
    }
}

/// State of the data disks.
pub fn pool(state: PoolState) -> Badge {
    match state {
        PoolState::None => Badge::new(Tone::Quiet, "No data disks"),
        PoolState::Searching => Badge::new(Tone::Busy, "Looking for disks"),
        PoolState::Absent => Badge::new(Tone::Bad, "Disk missing"),
        PoolState::Foreign => Badge::new(Tone::Bad, "Foreign disk"),
        PoolState::Formatting => Badge::new(Tone::Busy, "Being made"),
        PoolState::Mounted => Badge::new(Tone::Good, "In use"),
        PoolState::Degraded => Badge::new(Tone::Warn, "Disk missing, still works"),
        PoolState::Failed => Badge::new(Tone::Bad, "Not usable"),
    }
}

/// How an upgrade ended.
pub fn outcome(outcome: UpdateOutcome) -> Badge {
    match outcome {
        UpdateOutcome::Good => Badge::new(Tone::Good, "Upgraded"),
        UpdateOutcome::FellBack => Badge::new(Tone::Warn, "Fell back"),
        UpdateOutcome::RolledBack => Badge::new(Tone::Good, "Rolled back"),
        UpdateOutcome::Refused => Badge::new(Tone::Warn, "Refused"),
    }
}

/// What became of the provisioning file.
pub fn provision(outcome: ProvisionOutcome) -> Badge {
    match outcome {
        ProvisionOutcome::Unknown => Badge::new(Tone::Busy, "Reading its provisioning file"),
        ProvisionOutcome::Applied => Badge::new(Tone::Good, "Provisioned"),
        ProvisionOutcome::Missing => Badge::new(Tone::Bad, "Not provisioned"),
        ProvisionOutcome::Refused => Badge::new(Tone::Bad, "Provisioning refused"),
    }
}

/// Severity of a log line.
pub fn level(level: LogLevel) -> (&'static str, Tone) {
    match level {
        LogLevel::Debug => ("debug", Tone::Quiet),
        LogLevel::Info => ("info", Tone::Quiet),
        LogLevel::Warn => ("warning", Tone::Warn),
        LogLevel::Error => ("error", Tone::Bad),
    }
}

/// What a release on the ESP is to the board that holds it.
pub fn slot(slot: &SlotStatus, board: &BoardStatus) -> Badge {
    let running = board.boot.version;
    // Going back marks the newer release like one that failed; only a trial that failed quarantines it.
    let failed = || board.update.quarantine.iter().any(|bad| bad.version == slot.version);
    match slot.state {
        SlotState::Trial { left, .. } if slot.running => {
            Badge::new(Tone::Busy, format!("running, on trial, {left} left"))
        }
        SlotState::Trial { left, .. } => Badge::new(
            Tone::Busy,
            format!("next, {}", count(u64::from(left), "try left", "tries left")),
        ),
        _ if slot.running => Badge::new(Tone::Good, "running"),
        SlotState::Bad { .. } if failed() => Badge::new(Tone::Bad, "failed"),
        SlotState::Bad { .. } => Badge::new(Tone::Quiet, "set aside"),
        SlotState::Good if running.is_some_and(|v| slot.version > v) => {
            Badge::new(Tone::Quiet, "newer")
        }
        SlotState::Good => Badge::new(Tone::Quiet, "previous"),
    }
}

/// What the updater is doing, as a sentence; `None` while it rests.
pub fn phase(update: &UpdateStatus) -> Option<String> {
    let target = update.target.map_or_else(|| "a release".to_owned(), |v| format!("release {v}"));
    match update.phase {
        UpdatePhase::Idle => None,
        UpdatePhase::Checking => Some("Looking for a new release".to_owned()),
        UpdatePhase::Fetching => Some(format!("Downloading {target}")),
        UpdatePhase::Building => Some(format!("Building {target}")),
        UpdatePhase::Staged => Some(format!("{} is ready to be tried", capital(&target))),
        UpdatePhase::Armed => Some(format!("Restarting to try {target}")),
        UpdatePhase::Trial => Some(format!("Trying {target}; taken back if it is not healthy")),
    }
}

/// Why a boot failed, in one sentence.
pub fn fail(reason: &FailReason) -> String {
    match reason {
        FailReason::Stopped { after } => {
            format!(
                "stopped without a word after the stage `{}`",
                format!("{after:?}").to_lowercase()
            )
        }
        FailReason::Panic { message } => match clean(message) {
            text if text.to_lowercase().starts_with("kernel panic") => text,
            text => format!("kernel panic: {text}"),
        },
        FailReason::Unhealthy { .. } if reason.why_ended_early().is_some() => {
            format!(
                "ended before it was healthy: {}",
                clean(reason.why_ended_early().unwrap_or_default())
            )
        }
        FailReason::Unhealthy { checks, deadline_s } => {
            let failed: Vec<String> = checks.iter().take(4).map(|c| clean(c)).collect();
            format!("not healthy within {deadline_s} s: {}", failed.join("; "))
        }
        FailReason::HandOver { message } => format!("could not start: {}", clean(message)),
    }
}

/// First letter upper case.
pub fn capital(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |c| c.to_uppercase().chain(chars).collect())
}

/// The board's host name, fit to be shown.
pub fn host(board: &BoardStatus) -> String {
    let name = clean_to(&board.host, 64);
    if name.is_empty() { "goblin".to_owned() } else { name }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_of_others_is_made_harmless() {
        assert_eq!(clean("a\u{202e}b\n\n\tc\u{0}d"), "a b c d");
        assert_eq!(clean_to("äöüß", 2), "äö…");
        assert_eq!(clean("   "), "");
    }

    #[test]
    fn a_trial_that_somebody_ended_says_who() {
        let ended = FailReason::ended_early("reboot: asked", 180);
        assert_eq!(fail(&ended), "ended before it was healthy: reboot: asked");
        let unhealthy = FailReason::Unhealthy { checks: vec!["net: down".into()], deadline_s: 60 };
        assert_eq!(fail(&unhealthy), "not healthy within 60 s: net: down");
    }

    #[test]
    fn sizes_have_three_digits_at_most() {
        assert_eq!(size(0), "0 B");
        assert_eq!(size(1_234_000_000_000), "1.2 TB");
        assert_eq!(size(999_999), "999 kB");
        assert_eq!(size(u64::MAX), "18446 PB");
    }

    #[test]
    fn shares_of_nothing_are_nothing() {
        assert_eq!(permille(5, 0), 0);
        assert_eq!(permille(u64::MAX, 1), 1000);
        assert_eq!(permille(1, 4), 250);
    }
}
