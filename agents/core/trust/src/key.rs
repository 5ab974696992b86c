//! ed25519 public keys, and their shape inside TLS.

use serde::{Deserialize, Serialize};
use std::fmt;

/// `SubjectPublicKeyInfo` of ed25519 up to the key itself (RFC 8410, section 4).
const SPKI_HEAD: [u8; 12] =
    [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];
/// `OneAsymmetricKey` of ed25519, version 1, up to the seed (RFC 8410, section 7).
const PKCS8_HEAD: [u8; 16] = [
    0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20,
];

/// An ed25519 public key (RFC 8032): who a board or a client PC is. In text 64 lower-case hexadecimal
/// digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PublicKey([u8; 32]);

/// Why bytes are no key that anybody may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// Not the 44 bytes of an ed25519 `SubjectPublicKeyInfo`.
    #[error("this is not an ed25519 key")]
    Shape,
    /// Not a point of the curve, or one of small order: it would accept signatures that nobody made.
    #[error("this ed25519 key is not usable")]
    Weak,
}

impl PublicKey {
    /// Checks 32 bytes.
    ///
    /// # Errors
    /// [`KeyError::Weak`].
    pub fn from_bytes(bytes: [u8; 32]) -> Result<Self, KeyError> {
        match ed25519_dalek::VerifyingKey::from_bytes(&bytes) {
            Ok(key) if !key.is_weak() => Ok(Self(bytes)),
            _ => Err(KeyError::Weak),
        }
    }

    /// The public half of a private key.
    pub fn of_seed(seed: &[u8; 32]) -> Self {
        Self(ed25519_dalek::SigningKey::from_bytes(seed).verifying_key().to_bytes())
    }

    /// The key out of `SubjectPublicKeyInfo` bytes, as a raw public key comes in TLS.
    ///
    /// # Errors
    /// [`KeyError`]; refuse the peer.
    pub fn from_spki(der: &[u8]) -> Result<Self, KeyError> {
        let key = der.strip_prefix(&SPKI_HEAD).ok_or(KeyError::Shape)?;
        Self::from_bytes(key.try_into().map_err(|_| KeyError::Shape)?)
    }

    /// The key as `SubjectPublicKeyInfo`.
    pub fn to_spki(&self) -> Vec<u8> {
        [&SPKI_HEAD[..], &self.0].concat()
    }

    /// The 32 bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

/// A private key in PKCS #8, for the TLS library.
pub fn pkcs8(seed: &[u8; 32]) -> Vec<u8> {
    [&PKCS8_HEAD[..], seed].concat()
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({})", hex::encode(self.0.split_at(4).0))
    }
}

impl std::str::FromStr for PublicKey {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        let mut bytes = [0; 32];
        // One spelling only, so that equal keys are equal text.
        if text.bytes().any(|byte| byte.is_ascii_uppercase()) {
            return Err(KeyError::Shape);
        }
        hex::decode_to_slice(text, &mut bytes).map_err(|_| KeyError::Shape)?;
        Self::from_bytes(bytes)
    }
}

impl TryFrom<String> for PublicKey {
    type Error = KeyError;

    fn try_from(text: String) -> Result<Self, KeyError> {
        text.parse()
    }
}

impl From<PublicKey> for String {
    fn from(key: PublicKey) -> Self {
        key.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        #[test]
        fn every_key_survives_both_shapes(seed: [u8; 32]) {
            let key = PublicKey::of_seed(&seed);
            prop_assert_eq!(PublicKey::from_spki(&key.to_spki()), Ok(key));
            prop_assert_eq!(key.to_string().parse::<PublicKey>(), Ok(key));
        }

        #[test]
        fn any_bytes_are_a_key_or_an_error(der in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = PublicKey::from_spki(&der);
        }
    }

    #[test]
    fn keys_that_anybody_could_sign_for_are_refused() {
        let mut identity = [0; 32];
        identity[0] = 1;
        assert_eq!(PublicKey::from_bytes(identity), Err(KeyError::Weak));
        let spki = [&SPKI_HEAD[..], &identity].concat();
        assert_eq!(PublicKey::from_spki(&spki), Err(KeyError::Weak));
    }

    #[test]
    fn other_kinds_of_keys_are_refused() {
        let mut spki = PublicKey::of_seed(&[7; 32]).to_spki();
        spki.push(0);
        assert_eq!(PublicKey::from_spki(&spki), Err(KeyError::Shape));
        spki.pop();
        spki[8] ^= 1;
        assert_eq!(PublicKey::from_spki(&spki), Err(KeyError::Shape));
    }
}
