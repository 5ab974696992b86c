//! The signed hello between boards: pure encoding and checking.
//!
//! Datagram: `signature[128] newline body`, where `signature` is the lower-case hexadecimal ed25519
//! signature (RFC 8032) over [`DOMAIN`] followed by the bytes of `body`, and `body` is the JSON of
//! [`Hello`]. The signed bytes are the sent bytes, so that no canonical form of JSON is needed.

use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
use goblin_core_types::{BoxId, Digest, Role, Version};
use serde::{Deserialize, Serialize};

/// Version of [`Hello`].
pub(crate) const HELLO_SCHEMA: u32 = 1;
/// Largest datagram; fits every Ethernet frame without fragments.
pub(crate) const HELLO_BYTES_MAX: usize = 1_200;
/// Keeps a signature made here from meaning anything elsewhere.
const DOMAIN: &[u8] = b"goblinux hello 1\n";
const SIGNATURE_BYTES: usize = 64;
const SIGNATURE_CHARS: usize = 128;
/// Longest host name shown, in characters; provisioned ones have at most 63.
const HOST_CHARS_MAX: usize = 63;
/// Longest boot id accepted, in characters; the kernel's have 36.
const BOOT_ID_CHARS_MAX: usize = 64;

const _: () = assert!(SIGNATURE_CHARS == 2 * SIGNATURE_BYTES);

/// What a board says of itself once a second. Unknown fields are ignored, so that N and N-1 hear each
/// other.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Hello {
    /// [`HELLO_SCHEMA`].
    pub(crate) schema: u32,
    /// The box.
    pub(crate) box_id: BoxId,
    /// The board's role.
    pub(crate) role: Role,
    /// Its host name.
    pub(crate) host: String,
    /// Its release, when it knows it.
    #[serde(default)]
    pub(crate) version: Option<Version>,
    /// The kernel's boot id.
    pub(crate) boot_id: String,
    /// Milliseconds since the kernel started: grows within one boot, also over a restart of the agent.
    pub(crate) seq: u64,
    /// The sender's public key.
    pub(crate) key: Digest,
}

/// Why a datagram is no hello.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum HelloError {
    #[error("not a hello")]
    Malformed,
    #[error("a hello of schema {0}, which this release does not know")]
    Schema(u32),
    #[error("the signature does not fit the key")]
    Signature,
}

/// The datagram for a hello.
pub(crate) fn encode(hello: &Hello, key: &SigningKey) -> Vec<u8> {
    // A struct of plain fields always has a JSON form.
    let body = serde_json::to_vec(hello).unwrap_or_default();
    let signature = key.sign(&signed_bytes(&body));
    let mut datagram = hex::encode(signature.to_bytes()).into_bytes();
    datagram.push(b'\n');
    datagram.extend_from_slice(&body);
    datagram
}

/// Reads a datagram and checks its signature against the key it names. Whether that key is the right
/// one is for the caller to decide.
pub(crate) fn decode(datagram: &[u8]) -> Result<Hello, HelloError> {
    if datagram.len() > HELLO_BYTES_MAX {
        return Err(HelloError::Malformed);
    }
    let (signature, rest) =
        datagram.split_at_checked(SIGNATURE_CHARS).ok_or(HelloError::Malformed)?;
    let body = rest.strip_prefix(b"\n").ok_or(HelloError::Malformed)?;
    let mut raw = [0u8; SIGNATURE_BYTES];
    hex::decode_to_slice(signature, &mut raw).map_err(|_| HelloError::Malformed)?;
    let hello: Hello = serde_json::from_slice(body).map_err(|_| HelloError::Malformed)?;
    if hello.schema != HELLO_SCHEMA {
        return Err(HelloError::Schema(hello.schema));
    }
    let short = hello.host.chars().count() <= HOST_CHARS_MAX
        && hello.boot_id.chars().count() <= BOOT_ID_CHARS_MAX
        && !hello.host.chars().any(char::is_control);
    if !short {
        return Err(HelloError::Malformed);
    }
    let key = VerifyingKey::from_bytes(&hello.key.0).map_err(|_| HelloError::Signature)?;
    key.verify_strict(&signed_bytes(body), &Signature::from_bytes(&raw))
        .map_err(|_| HelloError::Signature)?;
    Ok(hello)
}

fn signed_bytes(body: &[u8]) -> Vec<u8> {
    [DOMAIN, body].concat()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;

    pub(crate) fn key(seed: u8) -> SigningKey {
        SigningKey::from_bytes(&[seed; 32])
    }

    pub(crate) fn hello(role: Role, key: &SigningKey, seq: u64) -> Hello {
        Hello {
            schema: HELLO_SCHEMA,
            box_id: BoxId([7; 16]),
            role,
            host: format!("attic-{role}"),
            version: Some(Version::new(2, 0, 0)),
            boot_id: "11111111-2222-3333-4444-555555555555".into(),
            seq,
            key: Digest(key.verifying_key().to_bytes()),
        }
    }

    #[test]
    fn a_hello_reads_back() {
        let sent = hello(Role::Storage, &key(1), 5);
        let datagram = encode(&sent, &key(1));
        assert!(datagram.len() < HELLO_BYTES_MAX);
        assert_eq!(decode(&datagram), Ok(sent));
    }

    #[test]
    fn any_changed_byte_is_noticed() {
        let datagram = encode(&hello(Role::Storage, &key(1), 5), &key(1));
        for at in 0..datagram.len() {
            let mut changed = datagram.clone();
            changed[at] ^= 1;
            assert!(decode(&changed).is_err(), "byte {at}");
            assert!(decode(&datagram[..at]).is_err(), "cut at {at}");
        }
    }

    #[test]
    fn a_signature_by_another_key_is_refused() {
        let datagram = encode(&hello(Role::Storage, &key(1), 5), &key(2));
        assert_eq!(decode(&datagram), Err(HelloError::Signature));
    }

    #[test]
    fn unknown_fields_of_a_newer_release_are_ignored() {
        let mut body = serde_json::to_value(hello(Role::Storage, &key(1), 5)).unwrap();
        body["later"] = true.into();
        let body = serde_json::to_vec(&body).unwrap();
        let signature = key(1).sign(&signed_bytes(&body));
        let datagram = [hex::encode(signature.to_bytes()).as_bytes(), b"\n", &body].concat();
        assert!(decode(&datagram).is_ok());
    }

    proptest! {
        #[test]
        fn any_datagram_is_answered(bytes in prop::collection::vec(any::<u8>(), 0..1500)) {
            let _ = decode(&bytes);
        }
    }
}
