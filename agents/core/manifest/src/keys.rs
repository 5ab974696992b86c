//! Public keys as TUF writes them, and what each of their types takes for a good signature.
//!
//! Our own publisher signs with ed25519. Boards also believe ECDSA over P-256 and RSA-PSS, for root keys that
//! live in hardware which knows nothing else. Sources: The Update Framework specification 1.0, section 4.2;
//! RFC 5280 and RFC 5480 for the shape of a key in PEM.

use crate::canonical;
use crate::tuf::sha256_hex;
use ed25519_dalek::{Signature, SigningKey, VerifyingKey};
use ring::signature::{ECDSA_P256_SHA256_ASN1, RSA_PSS_2048_8192_SHA256, UnparsedPublicKey};
use rustls_pki_types::SubjectPublicKeyInfoDer;
use rustls_pki_types::pem::PemObject;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Longest key in PEM that is read, in bytes; one of RSA with 8192 bits has 1500.
const PEM_BYTES_MAX: usize = 4096;
/// `rsaEncryption` with its empty parameters, as DER (RFC 3279, section 2.3.1).
const RSA: &[u8] = b"\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x01\x05\x00";
/// `id-ecPublicKey` over `secp256r1`, as DER (RFC 5480, section 2.1.1).
const P256: &[u8] = b"\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07";
const SEQUENCE: u8 = 0x30;
const BIT_STRING: u8 = 0x03;

/// A public key as TUF writes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Key {
    /// `ed25519`, `ecdsa` or `rsa`; others are listed but never count.
    pub keytype: String,
    /// The key itself.
    pub keyval: KeyValue,
    /// `ed25519`, `ecdsa-sha2-nistp256` or `rsassa-pss-sha256`.
    pub scheme: String,
}

/// The bytes of a [`Key`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyValue {
    /// For ed25519 64 lower-case hexadecimal digits, else a PEM. Keys of unknown types may have none.
    #[serde(default)]
    pub public: String,
}

impl Key {
    /// An ed25519 key from its 32 public bytes.
    pub fn ed25519(public: [u8; 32]) -> Self {
        let word = || "ed25519".to_owned();
        Self { keytype: word(), keyval: KeyValue { public: hex::encode(public) }, scheme: word() }
    }

    /// The public key that belongs to a private seed.
    pub fn of_seed(seed: &[u8; 32]) -> Self {
        Self::ed25519(SigningKey::from_bytes(seed).verifying_key().to_bytes())
    }

    /// sha256 of the canonical form, in hexadecimal (TUF 1.0, section 4.2.1).
    pub fn id(&self) -> String {
        // Strings in objects always have a canonical form; an empty input would only give an identity
        // that nothing is signed by.
        let value = serde_json::to_value(self).unwrap_or(Value::Null);
        sha256_hex(&canonical::to_vec(&value).unwrap_or_default())
    }

    /// What checks its signatures; `None` for a key of another type, or a damaged one.
    pub(crate) fn verifier(&self) -> Option<Verifier> {
        match (self.keytype.as_str(), self.scheme.as_str()) {
            ("ed25519", "ed25519") => {
                let bytes = hex::decode(&self.keyval.public).ok()?;
                Some(Verifier::Ed25519(VerifyingKey::from_bytes(&bytes.try_into().ok()?).ok()?))
            }
            // The keytype before version 1.0.32 of the specification was the scheme's word.
            ("ecdsa" | "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp256") => {
                self.subject(P256).map(Verifier::P256)
            }
            ("rsa", "rsassa-pss-sha256") => self.subject(RSA).map(Verifier::RsaPss),
            _ => None,
        }
    }

    /// The key inside a `SubjectPublicKeyInfo` of this algorithm.
    fn subject(&self, algorithm: &[u8]) -> Option<Vec<u8>> {
        let pem = self.keyval.public.as_bytes();
        if pem.len() > PEM_BYTES_MAX {
            return None;
        }
        let info = SubjectPublicKeyInfoDer::from_pem_slice(pem).ok()?;
        let (fields, after) = element(&info, SEQUENCE)?;
        let (named, bits) = element(fields, SEQUENCE)?;
        let (bits, last) = element(bits, BIT_STRING)?;
        let (0, key) = bits.split_first().map(|(unused, key)| (*unused, key))? else { return None };
        (named == algorithm && after.is_empty() && last.is_empty()).then(|| key.to_vec())
    }
}

/// The content of a DER element of this type, and what follows it.
fn element(der: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (&found, rest) = der.split_first()?;
    let (&first, rest) = rest.split_first()?;
    let (length, rest) = match first {
        0..=0x7f => (usize::from(first), rest),
        0x81 => rest.split_first().map(|(&length, rest)| (usize::from(length), rest))?,
        0x82 => {
            let (length, rest) = rest.split_first_chunk::<2>()?;
            (usize::from(u16::from_be_bytes(*length)), rest)
        }
        _ => return None,
    };
    (found == tag).then(|| rest.split_at_checked(length))?
}

/// A key that can be asked about a signature.
#[derive(Debug)]
pub(crate) enum Verifier {
    Ed25519(VerifyingKey),
    /// An uncompressed point.
    P256(Vec<u8>),
    /// An `RSAPublicKey` (RFC 8017, appendix A.1.1).
    RsaPss(Vec<u8>),
}

impl Verifier {
    pub(crate) fn accepts(&self, message: &[u8], signature: &[u8]) -> bool {
        match self {
            Self::Ed25519(key) => signature.try_into().is_ok_and(|signature| {
                key.verify_strict(message, &Signature::from_bytes(signature)).is_ok()
            }),
            Self::P256(point) => UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, point)
                .verify(message, signature)
                .is_ok(),
            Self::RsaPss(key) => UnparsedPublicKey::new(&RSA_PSS_2048_8192_SHA256, key)
                .verify(message, signature)
                .is_ok(),
        }
    }

    /// The public key, whatever it is called.
    pub(crate) fn voice(self) -> Vec<u8> {
        match self {
            Self::Ed25519(key) => key.to_bytes().to_vec(),
            Self::P256(key) | Self::RsaPss(key) => key,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Keys, and signatures over `goblin` by each; `data/README.md` says by whom.
    const P256_PEM: &str = include_str!("../data/p256.pem");
    const P256_SIGNATURE: &str = include_str!("../data/p256.sig.hex");
    const RSA_PEM: &str = include_str!("../data/rsa.pem");
    const RSA_SIGNATURE: &str = include_str!("../data/rsa.sig.hex");

    fn key(keytype: &str, scheme: &str, public: String) -> Key {
        Key { keytype: keytype.into(), keyval: KeyValue { public }, scheme: scheme.into() }
    }

    #[test]
    fn key_identity_is_the_digest_of_the_canonical_key() {
        let key = Key::ed25519([7; 32]);
        let text = format!(
            "{{\"keytype\":\"ed25519\",\"keyval\":{{\"public\":\"{}\"}},\"scheme\":\"ed25519\"}}",
            "07".repeat(32)
        );
        assert_eq!(key.id(), sha256_hex(text.as_bytes()));
    }

    #[test]
    fn signatures_of_every_type_are_believed() {
        let ec = "ecdsa-sha2-nistp256";
        for (keytype, scheme, pem, signature) in [
            ("ecdsa", ec, P256_PEM, P256_SIGNATURE),
            (ec, ec, P256_PEM, P256_SIGNATURE),
            ("rsa", "rsassa-pss-sha256", RSA_PEM, RSA_SIGNATURE),
        ] {
            let verifier = key(keytype, scheme, pem.into()).verifier().unwrap();
            let mut signature = hex::decode(signature.trim()).unwrap();
            assert!(verifier.accepts(b"goblin", &signature));
            assert!(!verifier.accepts(b"goblim", &signature));
            *signature.last_mut().unwrap() ^= 1;
            assert!(!verifier.accepts(b"goblin", &signature));
        }
    }

    #[test]
    fn a_key_counts_only_under_its_own_type() {
        assert!(key("rsa", "rsassa-pss-sha256", P256_PEM.into()).verifier().is_none());
        assert!(key("ecdsa", "ecdsa-sha2-nistp256", RSA_PEM.into()).verifier().is_none());
        assert!(key("ecdsa", "rsassa-pss-sha256", P256_PEM.into()).verifier().is_none());
        assert!(key("ed25519", "ed25519", P256_PEM.into()).verifier().is_none());
        let long = " ".repeat(PEM_BYTES_MAX) + RSA_PEM;
        assert!(key("rsa", "rsassa-pss-sha256", long).verifier().is_none());
    }

    proptest! {
        #[test]
        fn any_key_and_any_signature_are_answered(
            cut in 0usize..400, at in 0usize..400, byte: u8, rsa: bool, signature: Vec<u8>,
        ) {
            let mut bytes = if rsa { RSA_PEM } else { P256_PEM }.as_bytes().to_vec();
            if let Some(place) = bytes.get_mut(at) {
                *place = byte;
            }
            bytes.truncate(bytes.len().saturating_sub(cut / 40));
            let public = String::from_utf8_lossy(&bytes).into_owned();
            let words = if rsa { ("rsa", "rsassa-pss-sha256") } else { ("ecdsa", "ecdsa-sha2-nistp256") };
            if let Some(verifier) = key(words.0, words.1, public).verifier() {
                prop_assert!(!verifier.accepts(b"goblin", &signature));
            }
        }

        #[test]
        fn any_der_is_answered(der: Vec<u8>, tag: u8) {
            if let Some((content, after)) = element(&der, tag) {
                prop_assert!(content.len() + after.len() < der.len());
            }
        }
    }
}
