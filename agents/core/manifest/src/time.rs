//! UTC instants in the one form TUF allows, `YYYY-MM-DDTHH:MM:SSZ`, as seconds since 1970.
//!
//! Own code because it is forty lines and the general crates bring time zones, clocks and a dozen other
//! forms that would then have to be refused. Source: TUF specification 1.0, section 4.2.2; the day
//! count is the proleptic Gregorian one.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

const DAY_S: u64 = 86_400;
/// 9999-12-31T23:59:59Z, the last instant with a four-digit year.
const SECONDS_MAX: u64 = 253_402_300_799;

/// An instant in UTC: seconds since 1970, up to the end of the year 9999. Stored as its text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Instant(u64);

/// A text that is not `YYYY-MM-DDTHH:MM:SSZ` with a day that exists, from 1970 on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a time like 2026-11-20T16:00:00Z")]
pub struct ParseInstantError {
    text: String,
}

impl Instant {
    /// The instant so many seconds after 1970; capped at the end of the year 9999.
    pub const fn from_unix_s(seconds: u64) -> Self {
        Self(if seconds > SECONDS_MAX { SECONDS_MAX } else { seconds })
    }

    /// Seconds since 1970.
    pub const fn unix_s(self) -> u64 {
        self.0
    }

    /// The instant so many days later; capped at the end of the year 9999.
    pub const fn plus_days(self, days: u32) -> Self {
        Self::from_unix_s(self.0.saturating_add((days as u64).saturating_mul(DAY_S)))
    }
}

const fn is_leap(year: u64) -> bool {
    year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
}

const fn days_of_year(year: u64) -> u64 {
    if is_leap(year) { 366 } else { 365 }
}

const fn days_of_month(year: u64, month: u64) -> u64 {
    match month {
        2 if is_leap(year) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

fn number(text: &str, from: usize, to: usize) -> Option<u64> {
    let digits = text.get(from..to)?;
    digits.bytes().all(|b| b.is_ascii_digit()).then(|| digits.parse().ok())?
}

fn parse(text: &str) -> Option<u64> {
    let separators = [(4, b'-'), (7, b'-'), (10, b'T'), (13, b':'), (16, b':'), (19, b'Z')];
    let bytes = text.as_bytes();
    if bytes.len() != 20 || separators.iter().any(|&(at, byte)| bytes.get(at) != Some(&byte)) {
        return None;
    }
    let (year, month, day) = (number(text, 0, 4)?, number(text, 5, 7)?, number(text, 8, 10)?);
    let (hour, minute, second) =
        (number(text, 11, 13)?, number(text, 14, 16)?, number(text, 17, 19)?);
    let in_range = year >= 1970
        && (1..=12).contains(&month)
        && (1..=days_of_month(year, month)).contains(&day)
        && hour < 24
        && minute < 60
        && second < 60;
    if !in_range {
        return None;
    }
    let years: u64 = (1970..year).map(days_of_year).sum();
    let months: u64 = (1..month).map(|m| days_of_month(year, m)).sum();
    let days = years.checked_add(months)?.checked_add(day.checked_sub(1)?)?;
    let clock =
        hour.checked_mul(3600)?.checked_add(minute.checked_mul(60)?)?.checked_add(second)?;
    days.checked_mul(DAY_S)?.checked_add(clock)
}

impl FromStr for Instant {
    type Err = ParseInstantError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        parse(text)
            .map(Self)
            .ok_or_else(|| ParseInstantError { text: text.chars().take(40).collect() })
    }
}

impl TryFrom<String> for Instant {
    type Error = ParseInstantError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Instant> for String {
    fn from(instant: Instant) -> Self {
        instant.to_string()
    }
}

impl fmt::Display for Instant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut days = self.0 / DAY_S;
        let clock = self.0 % DAY_S;
        let mut year = 1970;
        while days >= days_of_year(year) {
            days = days.saturating_sub(days_of_year(year));
            year = year.saturating_add(1);
        }
        let mut month = 1;
        while days >= days_of_month(year, month) {
            days = days.saturating_sub(days_of_month(year, month));
            month = month.saturating_add(1);
        }
        let day = days.saturating_add(1);
        let (hour, minute, second) = (clock / 3600, clock / 60 % 60, clock % 60);
        write!(f, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn known_instants_agree() {
        for (text, seconds) in [
            ("1970-01-01T00:00:00Z", 0),
            ("2000-02-29T12:34:56Z", 951_827_696),
            ("2026-11-20T16:00:00Z", 1_795_190_400),
            ("9999-12-31T23:59:59Z", SECONDS_MAX),
        ] {
            assert_eq!(text.parse::<Instant>().unwrap().unix_s(), seconds, "{text}");
            assert_eq!(Instant::from_unix_s(seconds).to_string(), text);
        }
    }

    #[test]
    fn other_forms_and_days_that_do_not_exist_are_refused() {
        for text in [
            "",
            "2026-02-29T00:00:00Z",
            "2026-13-01T00:00:00Z",
            "2026-01-01T24:00:00Z",
            "2026-01-01T00:00:60Z",
            "2026-01-01T00:00:00+00:00",
            "2026-01-01 00:00:00Z",
            "1969-12-31T23:59:59Z",
            "+026-01-01T00:00:00Z",
            "2026-01-01T00:00:0éZ",
        ] {
            assert!(text.parse::<Instant>().is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn written_instants_read_back(seconds in 0..=SECONDS_MAX) {
            let instant = Instant::from_unix_s(seconds);
            prop_assert_eq!(instant.to_string().parse::<Instant>().unwrap(), instant);
        }

        #[test]
        fn any_text_is_answered(text in ".{0,24}") {
            let _ = text.parse::<Instant>();
        }
    }
}
