//! Times as people read them, in the box's time zone. Pure: the present moment is an argument.

use jiff::Timestamp;
use jiff::tz::TimeZone;

/// Clocks before this moment (2024-01-01) were never set: the board has no battery or it is empty.
const PLAUSIBLE_UNIX_S: u64 = 1_704_067_200;

/// False for a moment that a clock which was never set has told.
pub fn plausible(unix_s: u64) -> bool {
    unix_s >= PLAUSIBLE_UNIX_S
}

fn zoned(unix_s: u64, zone: &str) -> Option<jiff::Zoned> {
    let stamp = Timestamp::from_second(i64::try_from(unix_s).ok()?).ok()?;
    Some(stamp.to_zoned(TimeZone::get(zone).unwrap_or(TimeZone::UTC)))
}

/// `17:42`; `--:--` while the clock was never set.
pub fn hour(unix_s: u64, zone: &str) -> String {
    let time = Some(unix_s).filter(|s| *s >= PLAUSIBLE_UNIX_S).and_then(|s| zoned(s, zone));
    time.map_or_else(|| "--:--".to_owned(), |t| t.strftime("%H:%M").to_string())
}

/// `Friday 20 November`; empty while the clock was never set.
pub fn date(unix_s: u64, zone: &str) -> String {
    let time = Some(unix_s).filter(|s| *s >= PLAUSIBLE_UNIX_S).and_then(|s| zoned(s, zone));
    time.map_or_else(String::new, |t| t.strftime("%A %-d %B").to_string())
}

/// A past moment: `today 14:02`, `yesterday 23:10`, `3 Nov 14:02`, `3 Nov 2025`; `None` when that
/// moment is not known.
pub fn moment(unix_s: u64, now_unix_s: u64, zone: &str) -> Option<String> {
    if unix_s < PLAUSIBLE_UNIX_S {
        return None;
    }
    let (then, now) = (zoned(unix_s, zone)?, zoned(now_unix_s, zone)?);
    let format = if then.date() == now.date() {
        "today %H:%M"
    } else if now.date().yesterday().is_ok_and(|day| day == then.date()) {
        "yesterday %H:%M"
    } else if then.year() == now.year() {
        "%-d %b %H:%M"
    } else {
        "%-d %b %Y"
    };
    Some(then.strftime(format).to_string())
}

/// [`moment`] for a column of moments: of today, only the hour.
pub fn moment_short(unix_s: u64, now_unix_s: u64, zone: &str) -> Option<String> {
    let text = moment(unix_s, now_unix_s, zone)?;
    Some(text.strip_prefix("today ").map_or_else(|| text.clone(), ToOwned::to_owned))
}

/// Time since a board started: `just started`, `up 2 min`.
pub fn up(seconds: u64) -> String {
    if seconds < 60 { "just started".to_owned() } else { format!("up {}", span(seconds)) }
}

/// A length of time in one unit, coarse: `under 1 min`, `7 min`, `3 h`, `12 days`.
pub fn span(seconds: u64) -> String {
    match seconds {
        0..60 => "under 1 min".to_owned(),
        60..3600 => format!("{} min", seconds / 60),
        3600..172_800 => format!("{} h", seconds / 3600),
        _ => format!("{} days", seconds / 86_400),
    }
}

/// Milliseconds since the kernel started, as `12.345`, `3:07.5` or `27:03:07`.
pub fn since_start(at_ms: u64) -> String {
    let (s, ms) = (at_ms / 1000, at_ms % 1000);
    match s {
        0..60 => format!("{s}.{ms:03}"),
        60..3600 => format!("{}:{:02}.{}", s / 60, s % 60, ms / 100),
        _ => format!("{}:{:02}:{:02}", s / 3600, s / 60 % 60, s % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zone_is_applied() {
        assert_eq!(hour(1_795_192_920, "Europe/Berlin"), "17:42");
        assert_eq!(hour(1_795_192_920, "no/such zone"), "16:42");
        assert_eq!(date(1_795_192_920, "Europe/Berlin"), "Friday 20 November");
    }

    #[test]
    fn a_clock_that_was_never_set_shows_no_time() {
        assert_eq!(hour(77, "UTC"), "--:--");
        assert_eq!(moment(77, 1_795_192_920, "UTC"), None);
        assert_eq!(moment(u64::MAX, u64::MAX, "UTC"), None);
    }

    #[test]
    fn near_moments_are_named_by_day() {
        let now = 1_795_192_920;
        assert_eq!(moment(now - 60, now, "UTC").unwrap(), "today 16:41");
        assert_eq!(moment(now - 86_400, now, "UTC").unwrap(), "yesterday 16:42");
        assert_eq!(moment(now - 864_000, now, "UTC").unwrap(), "10 Nov 16:42");
    }

    #[test]
    fn a_short_moment_of_today_is_its_hour() {
        let now = 1_795_192_920;
        assert_eq!(moment_short(now - 60, now, "UTC").unwrap(), "16:41");
        assert_eq!(moment_short(now - 86_400, now, "UTC").unwrap(), "yesterday 16:42");
        assert_eq!(moment_short(0, now, "UTC"), None);
    }

    #[test]
    fn spans_are_coarse() {
        assert_eq!(span(59), "under 1 min");
        assert_eq!((up(59).as_str(), up(130).as_str()), ("just started", "up 2 min"));
        assert_eq!(span(7200), "2 h");
        assert_eq!(span(86_400 * 12), "12 days");
        assert_eq!(since_start(83_250), "1:23.2");
    }
}
