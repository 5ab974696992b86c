//! Numbers and moments in the words people use.

use goblin_core_types::{CheckState, HealthState, SlotState};
use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::output::Tone;

/// Bytes with one decimal and a unit of 1000.
pub fn bytes(count: u64) -> String {
    const UNITS: [&str; 5] = ["B", "kB", "MB", "GB", "TB"];
    let mut value = count as f64;
    let mut unit = UNITS[0];
    for next in UNITS.iter().skip(1) {
        if value < 999.95 {
            break;
        }
        value /= 1000.0;
        unit = next;
    }
    if unit == UNITS[0] { format!("{count} B") } else { format!("{value:.1} {unit}") }
}

/// A span of seconds by its two largest units.
pub fn span(seconds: u64) -> String {
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, _) => format!("{minutes} min"),
        (0, _, _) => format!("{hours} h {} min", minutes % 60),
        _ => format!("{days} d {} h", hours % 24),
    }
}

/// A moment in the zone of the board, or in UTC where the zone is not known.
pub fn moment(unix_s: u64, zone: &str) -> String {
    let Some(at) = i64::try_from(unix_s).ok().and_then(|s| Timestamp::from_second(s).ok()) else {
        return "at an unknown time".into();
    };
    if unix_s == 0 {
        return "at an unknown time".into();
    }
    let zone =
        if zone.is_empty() { TimeZone::UTC } else { TimeZone::get(zone).unwrap_or(TimeZone::UTC) };
    at.to_zoned(zone).strftime("%Y-%m-%d %H:%M %Z").to_string()
}

/// The word for a board's health, and what it means.
pub const fn health(state: HealthState) -> (&'static str, Tone) {
    match state {
        HealthState::Starting => ("starting", Tone::Warn),
        HealthState::Healthy => ("healthy", Tone::Good),
        HealthState::Degraded => ("degraded", Tone::Warn),
        HealthState::Failing => ("failing", Tone::Bad),
    }
}

/// The word for a check's verdict, and what it means.
pub const fn check(state: CheckState) -> (&'static str, Tone) {
    match state {
        CheckState::Waiting => ("waiting", Tone::Warn),
        CheckState::Ok => ("ok", Tone::Good),
        CheckState::Warn => ("look", Tone::Warn),
        CheckState::Fail => ("failed", Tone::Bad),
    }
}

/// What a slot's name says.
pub fn slot(state: SlotState) -> (String, Tone) {
    match state {
        SlotState::Good => ("good".into(), Tone::Good),
        SlotState::Trial { left, done } => {
            (format!("on trial, {left} tries left, {done} used"), Tone::Warn)
        }
        SlotState::Bad { done } => (format!("failed {done} tries"), Tone::Bad),
    }
}

/// Text that came from elsewhere, with control characters replaced: a terminal must not obey it.
pub fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_one_decimal_and_never_four_digits() {
        assert_eq!(bytes(0), "0 B");
        assert_eq!(bytes(999), "999 B");
        assert_eq!(bytes(1_000), "1.0 kB");
        assert_eq!(bytes(999_960), "1.0 MB");
        assert_eq!(bytes(35_100_000), "35.1 MB");
        assert_eq!(bytes(u64::MAX), "18446744.1 TB");
    }

    #[test]
    fn spans_have_two_units() {
        assert_eq!(span(59), "59 s");
        assert_eq!(span(3_725), "1 h 2 min");
        assert_eq!(span(90_000), "1 d 1 h");
    }

    #[test]
    fn moments_are_told_in_the_boards_zone() {
        assert_eq!(moment(1_763_640_000, "UTC"), "2025-11-20 12:00 UTC");
        assert_eq!(moment(1_763_640_000, "Europe/Berlin"), "2025-11-20 13:00 CET");
        assert_eq!(moment(1_763_640_000, "Nowhere/Land"), "2025-11-20 12:00 UTC");
        assert_eq!(moment(0, "UTC"), "at an unknown time");
        assert_eq!(moment(u64::MAX, "UTC"), "at an unknown time");
    }

    #[test]
    fn terminals_get_no_orders() {
        assert_eq!(plain("a\x1b[2Jb"), "a\u{fffd}[2Jb");
    }
}
