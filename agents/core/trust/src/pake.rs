//! CPace: a password-authenticated key exchange (draft-irtf-cfrg-cpace, group ristretto255, hash SHA-512).
//!
//! Why this and not a MAC over the TLS exporter: a PC that enrols does not know the box's key yet, so
//! whoever stands in between can finish a TLS handshake with it, and would get a MAC made with 35 bits of
//! secret, which a desktop computer tries out in minutes, long before the code expires. With CPace each
//! end only learns whether the other knows the code, and every guess costs one exchange with the box, of
//! which it allows few. SPAKE2 would do the same; CPace needs no fixed points to trust and is smaller.
//!
//! Bound to the TLS session: the session identifier is the exporter's value (RFC 8446, section 7.5), and
//! the associated data of each end are the raw public keys. An attacker with two sessions has two
//! exporter values, and relayed messages fail.
//!
//! ```text
//!   initiator (PC)                                responder (box)
//!   Ya = ya * G(code, channel, sid)   -- Ya -->
//!                                     <-- Yb --   Yb = yb * G
//!   K = ya * Yb                                   K = yb * Ya
//!   MAC(ISK, Ya, key of the PC)       -- Ta -->   wrong: the try is counted, nothing is answered
//!   wrong: the box is not trusted     <-- Tb --   MAC(ISK, Yb, key of the box)
//! ```

// Products in a group of prime order have no overflow.
#![allow(clippy::arithmetic_side_effects)]

use curve25519_dalek::ristretto::{CompressedRistretto, RistrettoPoint};
use curve25519_dalek::scalar::Scalar;
use curve25519_dalek::traits::IsIdentity;
use sha2::{Digest, Sha512};

/// Domain of the suite (draft, section 7.3).
const DSI: &[u8] = b"CPaceRistretto255";
const DSI_ISK: &[u8] = b"CPaceRistretto255_ISK";
/// Block of SHA-512 in bytes: the password fills the first one, so that hashing it takes one time.
const BLOCK_BYTES: usize = 128;
/// What both ends agree the exchange is for.
const CHANNEL: &[u8] = b"goblin enrolment 1";
/// Domain of the confirmation key.
const CONFIRM_CONTEXT: &str = "goblin 2026 enrolment confirmation";

/// Which end this is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The PC, which speaks first.
    Initiator,
    /// The box.
    Responder,
}

/// Why an exchange is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PakeError {
    /// The peer's share is no element of the group, or the neutral one.
    #[error("the other end's part of the exchange is not valid")]
    Share,
}

/// One run, before the peer's share came. Used once.
pub struct Exchange {
    side: Side,
    scalar: Scalar,
    share: [u8; 32],
    session: Vec<u8>,
}

/// Both ends' proofs of the code.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Confirmation {
    /// To send.
    pub own: [u8; 32],
    peer: [u8; 32],
}

impl Confirmation {
    /// Whether the peer's proof is right, without telling by the time taken where it differs.
    pub fn is_right(&self, theirs: &[u8; 32]) -> bool {
        blake3::Hash::from(self.peer) == blake3::Hash::from(*theirs)
    }
}

impl std::fmt::Debug for Exchange {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Exchange").field("side", &self.side).finish_non_exhaustive()
    }
}

impl Exchange {
    /// Begins. `session` is the TLS exporter's value, `random` are 64 fresh random bytes.
    pub fn new(side: Side, password: &[u8], session: &[u8], random: &[u8; 64]) -> Self {
        let scalar = Scalar::from_bytes_mod_order_wide(random);
        let share = (generator(password, session) * scalar).compress().to_bytes();
        Self { side, scalar, share, session: session.to_vec() }
    }

    /// To send.
    pub const fn share(&self) -> [u8; 32] {
        self.share
    }

    /// Ends with the peer's share; `own_key` and `peer_key` are who each end is by TLS.
    ///
    /// # Errors
    /// [`PakeError::Share`]; refuse the peer.
    pub fn finish(
        self,
        peer_share: &[u8; 32],
        own_key: &[u8; 32],
        peer_key: &[u8; 32],
    ) -> Result<Confirmation, PakeError> {
        let point = CompressedRistretto(*peer_share).decompress().ok_or(PakeError::Share)?;
        let common = point * self.scalar;
        if common.is_identity() {
            return Err(PakeError::Share);
        }
        let common = common.compress().to_bytes();
        let (own, peer) = ((&self.share, own_key), (peer_share, peer_key));
        let (a, b) = match self.side {
            Side::Initiator => (own, peer),
            Side::Responder => (peer, own),
        };
        let mut hash = Sha512::new();
        for part in [DSI_ISK, &self.session, &common, a.0, a.1, b.0, b.1] {
            put(&mut hash, part);
        }
        let key = blake3::derive_key(CONFIRM_CONTEXT, &hash.finalize());
        let mac = |label: &[u8], (share, identity): (&[u8; 32], &[u8; 32])| {
            let mut mac = blake3::Hasher::new_keyed(&key);
            mac.update(label).update(share).update(identity);
            *mac.finalize().as_bytes()
        };
        let (first, second) = (mac(b"initiator", a), mac(b"responder", b));
        Ok(match self.side {
            Side::Initiator => Confirmation { own: first, peer: second },
            Side::Responder => Confirmation { own: second, peer: first },
        })
    }
}

/// The generator that only who knows the password can compute (draft, section 7.1 and 7.3).
fn generator(password: &[u8], session: &[u8]) -> RistrettoPoint {
    let used = DSI.len().saturating_add(password.len()).saturating_add(3);
    let padding = vec![0u8; BLOCK_BYTES.saturating_sub(used)];
    let mut hash = Sha512::new();
    for part in [DSI, password, &padding, CHANNEL, session] {
        put(&mut hash, part);
    }
    RistrettoPoint::from_uniform_bytes(&hash.finalize().into())
}

/// Appends a part behind its length (LEB128), so that no two lists of parts are the same bytes.
fn put(hash: &mut Sha512, part: &[u8]) {
    let mut left = part.len();
    loop {
        let low = u8::try_from(left & 0x7f).unwrap_or(0);
        left >>= 7;
        hash.update([if left == 0 { low } else { low | 0x80 }]);
        if left == 0 {
            break;
        }
    }
    hash.update(part);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const PC: [u8; 32] = [1; 32];
    const BOX: [u8; 32] = [2; 32];

    fn run(
        code: (&[u8], &[u8]),
        session: (&[u8], &[u8]),
        keys: ([u8; 32], [u8; 32]),
        seed: u8,
    ) -> (Confirmation, Confirmation) {
        let a = Exchange::new(Side::Initiator, code.0, session.0, &[seed | 1; 64]);
        let b = Exchange::new(Side::Responder, code.1, session.1, &[(seed | 1) ^ 0x54; 64]);
        let (to_b, to_a) = (a.share(), b.share());
        (a.finish(&to_a, &PC, &keys.1).unwrap(), b.finish(&to_b, &BOX, &keys.0).unwrap())
    }

    fn agree((a, b): &(Confirmation, Confirmation)) -> bool {
        assert_eq!(a.is_right(&b.own), b.is_right(&a.own));
        a.is_right(&b.own)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(12))]

        #[test]
        fn only_the_same_code_agrees(code: [u8; 8], other: [u8; 8], seed: u8) {
            let same = (b"s".as_slice(), b"s".as_slice());
            prop_assert!(agree(&run((&code, &code), same, (PC, BOX), seed)));
            prop_assert_eq!(agree(&run((&code, &other), same, (PC, BOX), seed)), code == other);
        }

        #[test]
        fn any_share_is_used_or_refused(share: [u8; 32]) {
            let exchange = Exchange::new(Side::Responder, b"code", b"s", &[3; 64]);
            let _ = exchange.finish(&share, &BOX, &PC);
        }
    }

    #[test]
    fn somebody_between_two_sessions_learns_nothing_and_fits_neither() {
        let code = (b"code".as_slice(), b"code".as_slice());
        assert!(!agree(&run(code, (b"to the pc", b"to the box"), (PC, BOX), 4)));
        let stranger = [9; 32];
        assert!(!agree(&run(code, (b"s", b"s"), (stranger, BOX), 4)));
        assert!(!agree(&run(code, (b"s", b"s"), (PC, stranger), 4)));
    }

    #[test]
    fn own_words_thrown_back_prove_nothing() {
        let a = Exchange::new(Side::Initiator, b"code", b"s", &[5; 64]);
        let share = a.share();
        let confirmation = a.finish(&share, &PC, &PC).unwrap();
        assert!(!confirmation.is_right(&confirmation.own));
    }

    #[test]
    fn the_neutral_element_is_refused() {
        let exchange = Exchange::new(Side::Responder, b"code", b"s", &[3; 64]);
        assert_eq!(exchange.finish(&[0; 32], &BOX, &PC), Err(PakeError::Share));
    }
}
