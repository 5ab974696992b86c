use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// Largest value of one component: keeps names on the ESP short and comparisons by number safe.
const COMPONENT_MAX: u32 = 99_999;

/// A release's version: up to three numbers, `MAJOR[.MINOR[.PATCH]]`, compared as numbers.
///
/// The text form is canonical: trailing zero components are not written (`1.0.0` is `1`). It is part
/// of a file name on the ESP, so it holds only digits and dots.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Version {
    major: u32,
    minor: u32,
    patch: u32,
}

impl Version {
    /// A version from its three numbers; each is capped at 99,999.
    pub const fn new(major: u32, minor: u32, patch: u32) -> Self {
        const fn cap(n: u32) -> u32 {
            if n > COMPONENT_MAX { COMPONENT_MAX } else { n }
        }
        Self { major: cap(major), minor: cap(minor), patch: cap(patch) }
    }
}

/// Why a text is not a version.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{text}` is not a version: write one to three numbers joined by dots, like 2 or 2026.11.1"
)]
pub struct ParseVersionError {
    text: String,
}

impl FromStr for Version {
    type Err = ParseVersionError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let refuse = || ParseVersionError { text: text.chars().take(40).collect() };
        let mut numbers = [0u32; 3];
        let mut count = 0usize;
        for part in text.split('.') {
            let slot = numbers.get_mut(count).ok_or_else(refuse)?;
            if part.is_empty() || part.len() > 5 || !part.bytes().all(|b| b.is_ascii_digit()) {
                return Err(refuse());
            }
            *slot = part.parse().map_err(|_| refuse())?;
            count = count.saturating_add(1);
        }
        let [major, minor, patch] = numbers;
        Ok(Self { major, minor, patch })
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.major)?;
        if self.minor != 0 || self.patch != 0 {
            write!(f, ".{}", self.minor)?;
        }
        if self.patch != 0 {
            write!(f, ".{}", self.patch)?;
        }
        Ok(())
    }
}

impl TryFrom<String> for Version {
    type Error = ParseVersionError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Version> for String {
    fn from(version: Version) -> Self {
        version.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn text_is_canonical() {
        assert_eq!("1.0.0".parse::<Version>().unwrap().to_string(), "1");
        assert_eq!("1.0.7".parse::<Version>().unwrap().to_string(), "1.0.7");
        assert_eq!("2026.11".parse::<Version>().unwrap().to_string(), "2026.11");
    }

    #[test]
    fn numbers_are_compared_as_numbers() {
        assert!("10".parse::<Version>().unwrap() > "9.9".parse::<Version>().unwrap());
    }

    proptest! {
        #[test]
        fn any_text_is_answered(text in ".{0,40}") {
            let _ = text.parse::<Version>();
        }

        #[test]
        fn written_versions_read_back(a in 0u32..100_000, b in 0u32..100_000, c in 0u32..100_000) {
            let version = Version::new(a, b, c);
            prop_assert_eq!(version.to_string().parse::<Version>().unwrap(), version);
        }
    }
}
