//! The publisher's roots: who may sign what, changed by consent of those who may sign now.
//!
//! ```text
//! Signers --first--> root 1 --signatures of its own keys--> published
//! root N --Signers--> draft N+1 --signatures of N's and of its own keys--> published
//! ```
//! A draft travels: it is a metadata file with some of its signatures, and each holder of a root key adds
//! theirs on a machine of their own. Source: TUF specification 1.0, sections 5.3 and 6.1.

use crate::canonical;
use crate::keys::Key;
use crate::publish::Seed;
use crate::time::Instant;
use crate::tuf::{Envelope, Kind, RoleKeys, Root, SignatureEntry, TufError};
use ed25519_dalek::{Signer, SigningKey};
use std::collections::BTreeMap;

/// The public keys of one role, and how many of them must sign.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Voices {
    /// Distinct keys.
    pub keys: Vec<Key>,
    /// How many must sign.
    pub threshold: u32,
}

/// Why a set of signers makes no root.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RootError {
    /// A role without keys, or fewer than must sign.
    #[error(
        "`{role}` has {keys} keys and needs {threshold} signatures: at least one, and no more than there are keys"
    )]
    Threshold {
        /// The role.
        role: &'static str,
        /// Its distinct keys.
        keys: usize,
        /// Signatures asked for.
        threshold: u32,
    },
    /// The key of a root also signs something else: it could not be kept offline.
    #[error(
        "key {keyid} is to sign both as `root` and as `{role}`; a root key is kept offline, make another for `{role}`"
    )]
    RootKeyOnline {
        /// Identity of the key.
        keyid: String,
        /// The other role.
        role: &'static str,
    },
    /// No key of that identity, or of several.
    #[error("{got} root keys begin with `{keyid}`; give enough digits of one in {known}")]
    NoSuchKey {
        /// As asked.
        keyid: String,
        /// How many there are.
        got: usize,
        /// The identities there are.
        known: String,
    },
    /// The last version there is.
    #[error("there is no version after {version}; begin another repository")]
    LastVersion {
        /// The version.
        version: u64,
    },
}

/// Who signs for each role.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signers {
    /// Names all others; offline.
    pub root: Voices,
    /// Names the releases.
    pub targets: Voices,
    /// Online.
    pub snapshot: Voices,
    /// Online.
    pub timestamp: Voices,
}

impl Voices {
    /// Every key must sign.
    pub fn all(keys: Vec<Key>) -> Self {
        let threshold = u32::try_from(keys.len()).unwrap_or(u32::MAX);
        Self { keys, threshold }
    }

    fn of(root: &Root, role: Kind) -> Result<Self, TufError> {
        let RoleKeys { keyids, threshold } = root.role(role)?;
        let keys = keyids.iter().filter_map(|id| root.keys.get(id).cloned()).collect();
        Ok(Self { keys, threshold: *threshold })
    }

    fn distinct(&self) -> BTreeMap<String, Key> {
        self.keys.iter().map(|key| (key.id(), key.clone())).collect()
    }
}

impl Signers {
    /// Those of a root that there is.
    ///
    /// # Errors
    /// [`TufError::Malformed`] when it lacks a role.
    pub fn of(root: &Root) -> Result<Self, TufError> {
        Ok(Self {
            root: Voices::of(root, Kind::Root)?,
            targets: Voices::of(root, Kind::Targets)?,
            snapshot: Voices::of(root, Kind::Snapshot)?,
            timestamp: Voices::of(root, Kind::Timestamp)?,
        })
    }

    /// Takes the root key whose identity begins with `keyid` out.
    ///
    /// # Errors
    /// [`RootError::NoSuchKey`] unless it is exactly one.
    pub fn remove_root_key(&mut self, keyid: &str) -> Result<(), RootError> {
        let known: Vec<String> = self.root.keys.iter().map(Key::id).collect();
        let got = known.iter().filter(|id| id.starts_with(keyid)).count();
        if got != 1 || keyid.is_empty() {
            let (keyid, known) = (keyid.to_owned(), known.join(", "));
            return Err(RootError::NoSuchKey { keyid, got, known });
        }
        self.root.keys.retain(|key| !key.id().starts_with(keyid));
        Ok(())
    }

    /// The first root.
    ///
    /// # Errors
    /// [`RootError`].
    pub fn first(&self, expires: Instant) -> Result<Root, RootError> {
        self.root(1, expires)
    }

    /// The root after `old`.
    ///
    /// # Errors
    /// [`RootError`].
    pub fn after(&self, old: &Root, expires: Instant) -> Result<Root, RootError> {
        let last = RootError::LastVersion { version: old.version };
        self.root(old.version.checked_add(1).ok_or(last)?, expires)
    }

    fn root(&self, version: u64, expires: Instant) -> Result<Root, RootError> {
        let own = self.root.distinct();
        let (mut keys, mut roles) = (BTreeMap::new(), BTreeMap::new());
        for (role, voices) in [
            (Kind::Root, &self.root),
            (Kind::Targets, &self.targets),
            (Kind::Snapshot, &self.snapshot),
            (Kind::Timestamp, &self.timestamp),
        ] {
            let (distinct, threshold) = (voices.distinct(), voices.threshold);
            let count = distinct.len();
            if threshold == 0 || usize::try_from(threshold).is_ok_and(|needed| needed > count) {
                let role = role.as_str();
                return Err(RootError::Threshold { role, keys: count, threshold });
            }
            if let Some(keyid) =
                distinct.keys().find(|id| role != Kind::Root && own.contains_key(*id))
            {
                let (keyid, role) = (keyid.clone(), role.as_str());
                return Err(RootError::RootKeyOnline { keyid, role });
            }
            let keyids = distinct.keys().cloned().collect();
            roles.insert(role.as_str().to_owned(), RoleKeys { keyids, threshold });
            keys.extend(distinct);
        }
        Ok(Root::new(version, expires, false, keys, roles))
    }
}

/// A root on its way to its signatures.
#[derive(Debug, Clone, PartialEq)]
pub struct Draft {
    envelope: Envelope,
    root: Root,
}

/// Distinct keys that signed, of those that must.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Count {
    /// Signed.
    pub valid: usize,
    /// Needed.
    pub threshold: u32,
}

impl Count {
    /// True when enough signed.
    pub fn is_enough(self) -> bool {
        u32::try_from(self.valid).unwrap_or(u32::MAX) >= self.threshold
    }
}

impl Draft {
    /// Begins one without signatures.
    ///
    /// # Errors
    /// [`TufError::Malformed`]; does not happen.
    pub fn new(root: Root) -> Result<Self, TufError> {
        let signed = serde_json::to_value(&root).map_err(|err| TufError::Malformed {
            file: Kind::Root.to_string(),
            detail: err.to_string(),
        })?;
        Ok(Self { envelope: Envelope { signatures: Vec::new(), signed }, root })
    }

    /// Reads one; `file` names it in errors. Nothing in it is believed.
    ///
    /// # Errors
    /// [`TufError`] when it is no root.
    pub fn parse(file: &str, bytes: &[u8]) -> Result<Self, TufError> {
        let envelope = Envelope::parse(file, bytes, Kind::Root.bytes_max())?;
        let root: Root = envelope.decode(file)?;
        root.check(file)?;
        Ok(Self { envelope, root })
    }

    /// The root.
    pub const fn root(&self) -> &Root {
        &self.root
    }

    /// Adds the signature of a key, in place of an older one of the same.
    ///
    /// # Errors
    /// [`TufError::NotCanonical`].
    pub fn sign(&mut self, seed: &Seed) -> Result<(), TufError> {
        let file = Kind::Root.to_string();
        let message = canonical::to_vec(&self.envelope.signed)
            .map_err(|source| TufError::NotCanonical { file, source })?;
        let keyid = Key::of_seed(&seed.0).id();
        let sig = hex::encode(SigningKey::from_bytes(&seed.0).sign(&message).to_bytes());
        self.envelope.signatures.retain(|entry| entry.keyid != keyid);
        self.envelope.signatures.push(SignatureEntry { keyid, sig });
        Ok(())
    }

    /// How many of the root keys of `by` signed: of the root before, and of the draft itself.
    pub fn signed_by(&self, by: &Root) -> Count {
        let file = Kind::Root.to_string();
        let threshold = by.role(Kind::Root).map_or(u32::MAX, |keys| keys.threshold);
        match self.envelope.verify(&file, by, Kind::Root) {
            Ok(()) => Count { valid: usize::try_from(threshold).unwrap_or(usize::MAX), threshold },
            Err(TufError::Signature { valid, threshold, .. }) => Count { valid, threshold },
            Err(_) => Count { valid: 0, threshold },
        }
    }

    /// The bytes of the file, the same for the same signatures.
    ///
    /// # Errors
    /// [`TufError::Malformed`]; does not happen.
    pub fn to_bytes(&self) -> Result<Vec<u8>, TufError> {
        let mut bytes = serde_json::to_vec_pretty(&self.envelope).map_err(|err| {
            TufError::Malformed { file: Kind::Root.to_string(), detail: err.to_string() }
        })?;
        bytes.push(b'\n');
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::{Client, TrustedState};
    use proptest::prelude::*;

    const NOW: Instant = Instant::from_unix_s(1_800_000_000);

    fn seed(n: u8) -> Seed {
        Seed([n; 32])
    }

    fn key(n: u8) -> Key {
        Key::of_seed(&seed(n).0)
    }

    fn signers(root: &[u8], threshold: u32) -> Signers {
        let one = |n| Voices::all(vec![key(n)]);
        let root = Voices { keys: root.iter().map(|&n| key(n)).collect(), threshold };
        Signers { root, targets: one(101), snapshot: one(102), timestamp: one(103) }
    }

    fn signed(root: Root, by: &[u8]) -> Draft {
        let mut draft = Draft::new(root).unwrap();
        for &n in by {
            // Through its bytes: it travels between machines.
            draft = Draft::parse("draft", &draft.to_bytes().unwrap()).unwrap();
            draft.sign(&seed(n)).unwrap();
        }
        draft
    }

    #[test]
    fn two_of_three_are_enough_and_one_twice_is_one() {
        let root = signers(&[1, 2, 3], 2).first(NOW).unwrap();
        let count = |by: &[u8]| signed(root.clone(), by).signed_by(&root);
        assert_eq!(count(&[1, 1]), Count { valid: 1, threshold: 2 });
        assert!(!count(&[1, 9]).is_enough());
        assert!(count(&[3, 1]).is_enough());
        let first =
            |by: &[u8]| TrustedState::from_root(&signed(root.clone(), by).to_bytes().unwrap());
        assert!(first(&[1]).is_err());
        assert!(first(&[1, 3]).is_ok());
    }

    #[test]
    fn board_with_the_first_root_follows_three_rotations() {
        // Each rotation takes a holder out and another in; the last one asks for more signatures.
        let chain: [(&[u8], u32, &[u8]); 4] = [
            (&[1, 2, 3], 2, &[1, 2]),
            (&[2, 3, 4], 2, &[2, 3]),
            (&[3, 4, 5], 2, &[3, 4]),
            (&[4, 5, 6], 3, &[3, 4, 5, 6]),
        ];
        let mut files = Vec::new();
        let mut last: Option<Root> = None;
        for (keys, threshold, by) in chain {
            let signers = signers(keys, threshold);
            let root = match &last {
                None => signers.first(NOW.plus_days(1)),
                Some(old) => signers.after(old, NOW.plus_days(1)),
            };
            let draft = signed(root.unwrap(), by);
            assert!(draft.signed_by(last.as_ref().unwrap_or(draft.root())).is_enough());
            assert!(draft.signed_by(draft.root()).is_enough());
            files.push(draft.to_bytes().unwrap());
            last = Some(draft.root().clone());
        }
        let begin = || Client::new(TrustedState::from_root(&files[0]).unwrap(), NOW).unwrap();
        let mut client = begin();
        for file in &files[1..] {
            client.apply_root(file).unwrap();
        }
        assert_eq!(client.wanted_root().unwrap().path, "metadata/5.root.json");
        assert!(begin().apply_root(&files[2]).is_err(), "a link left out");
    }

    #[test]
    fn holder_that_was_taken_out_cannot_come_back_alone() {
        let first = signed(signers(&[1, 2, 3], 2).first(NOW).unwrap(), &[1, 2]);
        let second = signers(&[2, 3, 4], 2).after(first.root(), NOW).unwrap();
        let third = signers(&[1], 1).after(&second, NOW).unwrap();
        let mut client =
            Client::new(TrustedState::from_root(&first.to_bytes().unwrap()).unwrap(), NOW).unwrap();
        client.apply_root(&signed(second, &[2, 3]).to_bytes().unwrap()).unwrap();
        assert!(client.apply_root(&signed(third, &[1, 2]).to_bytes().unwrap()).is_err());
    }

    #[test]
    fn signers_that_make_no_root_are_refused() {
        let refused = signers(&[1, 1], 2).first(NOW);
        assert!(matches!(refused, Err(RootError::Threshold { role: "root", keys: 1, .. })));
        assert!(signers(&[], 0).first(NOW).is_err());
        let refused = signers(&[1, 102], 1).first(NOW);
        assert!(matches!(refused, Err(RootError::RootKeyOnline { role: "snapshot", .. })));
        let mut some = signers(&[1, 2], 1);
        assert!(matches!(some.remove_root_key(""), Err(RootError::NoSuchKey { got: 2, .. })));
        some.remove_root_key(&key(1).id()[..12]).unwrap();
        assert_eq!(some.root.keys, [key(2)]);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(16))]

        #[test]
        fn as_many_as_needed_and_no_fewer(
            mask in 0u8..32, threshold in 1u32..6
        ) {
            let holders = [1, 2, 3, 4, 5];
            let root = signers(&holders, threshold).first(NOW).unwrap();
            let by: Vec<u8> = holders.into_iter().filter(|n| mask & (1 << (n - 1)) != 0).collect();
            let draft = signed(root, &by);
            let enough = by.len() >= threshold as usize;
            prop_assert_eq!(draft.signed_by(draft.root()).is_enough(), enough);
            prop_assert_eq!(TrustedState::from_root(&draft.to_bytes().unwrap()).is_ok(), enough);
        }

        #[test]
        fn any_bytes_are_answered(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Draft::parse("draft", &bytes);
        }
    }
}
