//! Boots and moments as people write them.

use goblin_core_types::{BootChoice, Since};

/// Reads `0`, `-1`, a boot's number, or the first characters of its id.
///
/// # Errors
/// A sentence, for an empty text or a negative number that is none.
pub fn boot(text: &str) -> Result<BootChoice, String> {
    match text.strip_prefix('-') {
        Some(back) => match back.parse() {
            Ok(back) => Ok(BootChoice::Back(back)),
            Err(_) => {
                Err("write -1 for the boot before this one, -2 for the one before that".into())
            }
        },
        None if text.is_empty() => Err("write a boot's number or id, or -1".into()),
        None if text == "0" => Ok(BootChoice::Running),
        None => Ok(BootChoice::Named(text.into())),
    }
}

/// Reads `90s`, `10m`, `2h`, `3d` (ago), or a time of RFC 3339.
///
/// # Errors
/// A sentence.
pub fn since(text: &str) -> Result<Since, String> {
    let wrong = || "write 90s, 10m, 2h, 3d, or a time like 2026-05-01T12:00:00Z".to_owned();
    if let Ok(moment) = text.parse::<jiff::Timestamp>() {
        return u64::try_from(moment.as_millisecond()).map(Since::UnixMs).map_err(|_| wrong());
    }
    let unit = text.chars().next_back().ok_or_else(wrong)?;
    let unit_ms: u64 = match unit {
        's' => 1_000,
        'm' => 60_000,
        'h' => 3_600_000,
        'd' => 86_400_000,
        _ => return Err(wrong()),
    };
    let count: u64 = text.trim_end_matches(unit).parse().map_err(|_| wrong())?;
    count.checked_mul(unit_ms).map(Since::AgoMs).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn boots_are_counted_back_or_named() {
        assert_eq!(boot("0"), Ok(BootChoice::Running));
        assert_eq!(boot("-3"), Ok(BootChoice::Back(3)));
        assert_eq!(boot("17"), Ok(BootChoice::Named("17".into())));
        assert_eq!(boot("0f1e2d"), Ok(BootChoice::Named("0f1e2d".into())));
        for odd in ["", "-", "-x", "--1"] {
            assert!(boot(odd).is_err(), "{odd}");
        }
    }

    #[test]
    fn moments_are_spans_or_times() {
        assert_eq!(since("90s"), Ok(Since::AgoMs(90_000)));
        assert_eq!(since("3d"), Ok(Since::AgoMs(3 * 86_400_000)));
        assert_eq!(since("2026-05-01T12:00:00Z"), Ok(Since::UnixMs(1_777_636_800_000)));
        for odd in ["", "s", "5", "-5m", "5ms", "1969-01-01T00:00:00Z", "99999999999999999999s"] {
            assert!(since(odd).is_err(), "{odd}");
        }
    }
}
