use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// A GUID; its text is `xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx` in lower case.
///
/// The bytes here are in the order of the text. On disk (UEFI 2.10, appendix A) the first three
/// groups are little-endian: see [`Guid::to_disk`].
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Guid(pub [u8; 16]);

/// Why a text is not a GUID.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected a GUID like c12a7328-f81f-11d2-ba4b-00a0c93ec93b")]
pub struct ParseGuidError;

impl Guid {
    /// The GUID of all zero bits, which marks an unused partition entry.
    pub const ZERO: Self = Self([0; 16]);

    /// A GUID made from seeds: the first 16 bytes of blake3 over each seed with its length before it,
    /// with the bits of version 8 (RFC 9562, section 5.8). The same seeds always give the same GUID.
    pub fn derive(seeds: &[&[u8]]) -> Self {
        let mut hasher = blake3::Hasher::new();
        for seed in seeds {
            hasher.update(&(seed.len() as u64).to_le_bytes());
            hasher.update(seed);
        }
        let mut bytes = [0u8; 16];
        for (to, from) in bytes.iter_mut().zip(hasher.finalize().as_bytes()) {
            *to = *from;
        }
        let [_, _, _, _, _, _, version, _, variant, ..] = &mut bytes;
        *version = (*version & 0x0f) | 0x80;
        *variant = (*variant & 0x3f) | 0x80;
        Self(bytes)
    }

    /// The mixed-endian form on disk.
    pub fn to_disk(self) -> [u8; 16] {
        let [a, b, c, d, e, f, g, h, rest @ ..] = self.0;
        let [i, j, k, l, m, n, o, p] = rest;
        [d, c, b, a, f, e, h, g, i, j, k, l, m, n, o, p]
    }

    /// Reads the mixed-endian form on disk.
    pub fn from_disk(bytes: [u8; 16]) -> Self {
        // The swap is its own inverse.
        Self(Self(bytes).to_disk())
    }
}

impl fmt::Display for Guid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, byte) in self.0.iter().enumerate() {
            if matches!(at, 4 | 6 | 8 | 10) {
                f.write_str("-")?;
            }
            write!(f, "{byte:02x}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Guid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Guid {
    type Err = ParseGuidError;

    /// Accepts both cases.
    fn from_str(text: &str) -> Result<Self, ParseGuidError> {
        let groups: Vec<&str> = text.split('-').collect();
        let lengths: Vec<usize> = groups.iter().map(|group| group.len()).collect();
        if lengths != [8, 4, 4, 4, 12] || !text.is_ascii() {
            return Err(ParseGuidError);
        }
        let digits = groups.concat();
        let mut bytes = [0u8; 16];
        for (byte, pair) in bytes.iter_mut().zip(digits.as_bytes().chunks_exact(2)) {
            let [high, low] = pair else { return Err(ParseGuidError) };
            let digit = |b: u8| char::from(b).to_digit(16).ok_or(ParseGuidError);
            *byte =
                u8::try_from((digit(*high)? << 4) | digit(*low)?).map_err(|_| ParseGuidError)?;
        }
        Ok(Self(bytes))
    }
}

impl TryFrom<String> for Guid {
    type Error = ParseGuidError;

    fn try_from(text: String) -> Result<Self, ParseGuidError> {
        text.parse()
    }
}

impl From<Guid> for String {
    fn from(guid: Guid) -> Self {
        guid.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_esp_type_has_its_known_bytes_on_disk() {
        let esp: Guid = "C12A7328-F81F-11D2-BA4B-00A0C93EC93B".parse().unwrap();
        assert_eq!(esp.to_disk()[..8], [0x28, 0x73, 0x2a, 0xc1, 0x1f, 0xf8, 0xd2, 0x11]);
        assert_eq!(esp.to_string(), "c12a7328-f81f-11d2-ba4b-00a0c93ec93b");
    }

    #[test]
    fn derived_guids_depend_on_seed_borders() {
        assert_ne!(Guid::derive(&[b"ab", b"c"]), Guid::derive(&[b"a", b"bc"]));
        assert_eq!(Guid::derive(&[b"ab"]).to_string().as_bytes()[14], b'8');
    }

    proptest! {
        #[test]
        fn text_and_disk_forms_round_trip(bytes: [u8; 16]) {
            let guid = Guid(bytes);
            prop_assert_eq!(guid.to_string().parse::<Guid>(), Ok(guid));
            prop_assert_eq!(Guid::from_disk(guid.to_disk()), guid);
        }

        #[test]
        fn any_text_is_answered(text in ".{0,40}") {
            let _ = text.parse::<Guid>();
        }
    }
}
