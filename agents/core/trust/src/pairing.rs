//! The messages of enrolment, sent inside TLS by ends that do not know each other yet. All but the last are
//! of fixed shape, and nothing is allocated by a length the peer names.
//!
//! ```text
//!   PC:   hello    version[1] = 1, slot[2] LE, share[32], name_bytes[1], name[63]    (99 bytes)
//!   box:  share[32]
//!   PC:   proof[32]
//!   box:  verdict[1], proof[32]; zeros unless the verdict is `welcome`
//!   box:  its greeting, after `welcome`
//! ```

use crate::is_name;

/// Version of these messages.
const VERSION: u8 = 1;
/// Room for the PC's name in bytes.
const NAME_ROOM: usize = 63;
/// Size of [`Hello`] in bytes.
pub const HELLO_BYTES: usize = 99;
/// Size of a [`Verdict`] with its proof in bytes.
pub const VERDICT_BYTES: usize = 33;
/// Label of the TLS exporter's value both ends bind the exchange to (RFC 8446, section 7.5).
pub const EXPORTER_LABEL: &[u8] = b"EXPORTER-goblin-enrolment-1";

/// The PC's first message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hello {
    /// Which waiting code is meant.
    pub slot: u16,
    /// The PC's part of the exchange.
    pub share: [u8; 32],
    /// What the PC calls itself: a proposal, used where the code names none.
    pub name: String,
}

/// Why bytes are no [`Hello`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HelloError {
    /// Another release.
    #[error("the PC's program is of another release (enrolment version {got})")]
    Version {
        /// What it says.
        got: u8,
    },
    /// The name breaks the rules.
    #[error("the PC's name is not made of 1 to 63 of a-z, 0-9, - and _")]
    Name,
}

impl Hello {
    /// The message's bytes. A name that breaks the rules is cut to what fits.
    pub fn encode(&self) -> [u8; HELLO_BYTES] {
        let mut name = [0u8; NAME_ROOM];
        let length = self.name.len().min(NAME_ROOM);
        for (to, from) in name.iter_mut().zip(self.name.bytes()) {
            *to = from;
        }
        let mut out = [0u8; HELLO_BYTES];
        let bytes = [VERSION]
            .into_iter()
            .chain(self.slot.to_le_bytes())
            .chain(self.share)
            .chain([u8::try_from(length).unwrap_or(0)])
            .chain(name);
        for (to, from) in out.iter_mut().zip(bytes) {
            *to = from;
        }
        out
    }

    /// Reads the message.
    ///
    /// # Errors
    /// [`HelloError`]; refuse the peer.
    pub fn decode(bytes: &[u8; HELLO_BYTES]) -> Result<Self, HelloError> {
        let [version, low, high, rest @ ..] = bytes;
        if *version != VERSION {
            return Err(HelloError::Version { got: *version });
        }
        let (share, rest) = rest.split_first_chunk::<32>().ok_or(HelloError::Name)?;
        let (length, room) = rest.split_first().ok_or(HelloError::Name)?;
        let name = room.get(..usize::from(*length)).ok_or(HelloError::Name)?;
        let name = std::str::from_utf8(name).map_err(|_| HelloError::Name)?;
        if !is_name(name) {
            return Err(HelloError::Name);
        }
        Ok(Self { slot: u16::from_le_bytes([*low, *high]), share: *share, name: name.to_owned() })
    }
}

/// The box's last word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The code was right, the key is enrolled; the box's own proof.
    Welcome([u8; 32]),
    /// No such code waits, it expired, or it was wrong: the box does not say which.
    Wrong,
    /// Too many tries lately.
    Busy,
    /// The box is full of clients, or cannot keep its file of rights.
    CannotKeep,
}

impl Verdict {
    /// The message's bytes.
    pub fn encode(self) -> [u8; VERDICT_BYTES] {
        let (word, proof) = match self {
            Self::Welcome(proof) => (0, proof),
            Self::Wrong => (1, [0; 32]),
            Self::Busy => (2, [0; 32]),
            Self::CannotKeep => (3, [0; 32]),
        };
        let mut out = [word; VERDICT_BYTES];
        for (to, from) in out.iter_mut().skip(1).zip(proof) {
            *to = from;
        }
        out
    }

    /// Reads the message; a word of a later release is [`Verdict::Wrong`].
    pub fn decode(bytes: &[u8; VERDICT_BYTES]) -> Self {
        let [word, rest @ ..] = bytes;
        match word {
            0 => Self::Welcome(*rest),
            2 => Self::Busy,
            3 => Self::CannotKeep,
            _ => Self::Wrong,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_hello_survives(slot in 0u16..1024, share: [u8; 32], name in "[a-z0-9][a-z0-9_-]{0,62}") {
            let hello = Hello { slot, share, name };
            prop_assert_eq!(Hello::decode(&hello.encode()), Ok(hello));
        }

        #[test]
        fn any_bytes_are_a_hello_or_an_error(bytes in proptest::collection::vec(any::<u8>(), HELLO_BYTES)) {
            let mut bytes: [u8; HELLO_BYTES] = bytes.try_into().unwrap();
            let _ = Hello::decode(&bytes);
            bytes[0] = VERSION;
            if let Ok(hello) = Hello::decode(&bytes) {
                prop_assert!(is_name(&hello.name));
            }
        }

        #[test]
        fn a_verdict_survives(proof: [u8; 32]) {
            for verdict in [Verdict::Welcome(proof), Verdict::Wrong, Verdict::Busy, Verdict::CannotKeep] {
                prop_assert_eq!(Verdict::decode(&verdict.encode()), verdict);
            }
        }
    }
}
