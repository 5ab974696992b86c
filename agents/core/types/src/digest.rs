use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// Why a text is not a digest or an identity of the wanted length.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected {expected} lower-case hexadecimal digits, got {got} characters")]
pub struct ParseDigestError {
    expected: usize,
    got: usize,
}

fn parse_hex<const N: usize>(text: &str) -> Result<[u8; N], ParseDigestError> {
    let refuse = || ParseDigestError { expected: N.saturating_mul(2), got: text.len() };
    if text.len() != N.saturating_mul(2) {
        return Err(refuse());
    }
    let mut out = [0u8; N];
    for (byte, pair) in out.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        let digit = |b: u8| match b {
            b'0'..=b'9' => Ok(b.wrapping_sub(b'0')),
            b'a'..=b'f' => Ok(b.wrapping_sub(b'a').wrapping_add(10)),
            _ => Err(refuse()),
        };
        if let [high, low] = *pair {
            *byte = (digit(high)? << 4) | digit(low)?;
        }
    }
    Ok(out)
}

fn write_hex(bytes: &[u8], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
}

macro_rules! hex_id {
    ($(#[$doc:meta])* $name:ident, $len:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(pub [u8; $len]);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write_hex(&self.0, f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write_hex(&self.0, f)
            }
        }

        impl FromStr for $name {
            type Err = ParseDigestError;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                parse_hex(text).map(Self)
            }
        }

        impl TryFrom<String> for $name {
            type Error = ParseDigestError;

            fn try_from(text: String) -> Result<Self, Self::Error> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> Self {
                id.to_string()
            }
        }
    };
}

hex_id!(
    /// A blake3 digest, 32 bytes; its text is 64 lower-case hexadecimal digits.
    Digest,
    32
);
hex_id!(
    /// Identity of one box (a pair of boards), 16 random bytes made by `cargo xtask provision`; its
    /// text is 32 lower-case hexadecimal digits.
    BoxId,
    16
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_round_trips() {
        let id = BoxId([0xa5; 16]);
        assert_eq!(id.to_string().parse::<BoxId>().unwrap(), id);
    }

    #[test]
    fn upper_case_and_short_texts_are_refused() {
        assert!("AA".repeat(16).parse::<BoxId>().is_err());
        assert!("aa".parse::<Digest>().is_err());
    }
}
