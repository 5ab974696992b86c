//! Builds and signs the metadata of a repository: the publisher's half of TUF.
//!
//! `cargo xtask release` keeps the keys, reads what the folder already holds and writes what
//! [`Publisher::publish`] returns, in its order: a client that reads in between sees the old state or
//! the new one, or is told to try again.

use crate::canonical;
use crate::keys::Key;
use crate::time::Instant;
use crate::tuf::{
    Document, Envelope, FileMeta, Hashes, Kind, ReleaseCustom, RoleKeys, Root, SignatureEntry,
    Snapshot, Target, Targets, Timestamp, TufError, sha256_hex,
};
use crate::waves::Waves;
use ed25519_dalek::{Signer, SigningKey};
use goblin_core_types::Version;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;

/// A private ed25519 key: the 32-byte seed of RFC 8032, as 64 hexadecimal digits in JSON. `Debug`
/// hides it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Seed(pub [u8; 32]);

impl std::fmt::Debug for Seed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Seed(..)")
    }
}

impl TryFrom<String> for Seed {
    type Error = hex::FromHexError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let mut seed = [0; 32];
        hex::decode_to_slice(&text, &mut seed)?;
        Ok(Self(seed))
    }
}

impl From<Seed> for String {
    fn from(seed: Seed) -> Self {
        hex::encode(seed.0)
    }
}

/// The private keys of a repository, by role. Every key listed signs; the thresholds are the numbers
/// of keys.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RepositoryKeys {
    /// Keep offline.
    pub root: Vec<Seed>,
    /// Signs releases.
    pub targets: Vec<Seed>,
    /// May be online.
    pub snapshot: Vec<Seed>,
    /// May be online.
    pub timestamp: Vec<Seed>,
}

impl RepositoryKeys {
    /// The seeds of a role.
    pub fn of(&self, role: Kind) -> &[Seed] {
        match role {
            Kind::Root => &self.root,
            Kind::Targets => &self.targets,
            Kind::Snapshot => &self.snapshot,
            Kind::Timestamp => &self.timestamp,
        }
    }

    /// A root that names these keys.
    pub fn root(&self, version: u64, expires: Instant) -> Root {
        let mut keys = BTreeMap::new();
        let mut roles = BTreeMap::new();
        for role in Kind::ALL {
            let mut keyids = Vec::new();
            for seed in self.of(role) {
                let key = Key::of_seed(&seed.0);
                keyids.push(key.id());
                keys.insert(key.id(), key);
            }
            let threshold = u32::try_from(keyids.len()).unwrap_or(u32::MAX).max(1);
            roles.insert(role.as_str().to_owned(), RoleKeys { keyids, threshold });
        }
        Root::new(version, expires, false, keys, roles)
    }
}

/// Signs a document with every seed and returns the bytes of the file, the same for the same input.
///
/// # Errors
/// [`TufError::NotCanonical`] when a custom field holds a fraction.
pub fn sign<D: Document>(document: &D, seeds: &[Seed]) -> Result<Vec<u8>, TufError> {
    let file = D::KIND.to_string();
    let malformed = |err: serde_json::Error| TufError::Malformed {
        file: D::KIND.to_string(),
        detail: err.to_string(),
    };
    let signed = serde_json::to_value(document).map_err(malformed)?;
    let message =
        canonical::to_vec(&signed).map_err(|source| TufError::NotCanonical { file, source })?;
    let signatures = seeds
        .iter()
        .map(|seed| SignatureEntry {
            keyid: Key::of_seed(&seed.0).id(),
            sig: hex::encode(SigningKey::from_bytes(&seed.0).sign(&message).to_bytes()),
        })
        .collect();
    let mut bytes =
        serde_json::to_vec_pretty(&Envelope { signatures, signed }).map_err(malformed)?;
    bytes.push(b'\n');
    Ok(bytes)
}

/// The root that follows `old`: signed by the old keys and by the new ones. Write it as
/// `metadata/<version>.root.json` and `metadata/root.json`.
///
/// # Errors
/// As [`sign`].
pub fn sign_next_root(
    root: &Root,
    old: &RepositoryKeys,
    new: &RepositoryKeys,
) -> Result<Vec<u8>, TufError> {
    let mut seeds = new.root.clone();
    seeds.extend(old.root.iter().filter(|seed| !new.root.contains(seed)).cloned());
    sign(root, &seeds)
}

/// Path of a release's manifest inside the repository.
fn manifest_path(version: Version) -> String {
    format!("releases/{version}/manifest.json")
}

/// One file to write into the repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// Path inside the repository.
    pub path: String,
    /// Content.
    pub bytes: Vec<u8>,
}

/// How long each kind of metadata is good for, in days.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lifetimes {
    /// Root.
    pub root_days: u32,
    /// Targets and snapshot.
    pub targets_days: u32,
    /// Timestamp: how long a frozen repository goes unnoticed. 90 days: TUF's usual day needs a server that
    /// signs by itself; a plain folder is signed by a person, who publishes every few weeks at best.
    pub timestamp_days: u32,
}

impl Default for Lifetimes {
    fn default() -> Self {
        Self { root_days: 3650, targets_days: 730, timestamp_days: 90 }
    }
}

/// A repository's metadata as the publisher holds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Publisher {
    /// Version of the next timestamp, snapshot and targets: one number for the three, so that it is
    /// plain which belong together.
    pub version: u64,
    /// Releases and other targets by path.
    pub targets: BTreeMap<String, Target>,
}

impl Publisher {
    /// A repository with nothing in it.
    pub const fn empty() -> Self {
        Self { version: 1, targets: BTreeMap::new() }
    }

    /// Continues a repository of one's own from its `targets.json` and `timestamp.json`.
    ///
    /// # Errors
    /// [`TufError`] when they are not metadata; their signatures are not checked.
    pub fn resume(targets: &[u8], timestamp: &[u8]) -> Result<Self, TufError> {
        let file = Kind::Targets.to_string();
        let known: Targets =
            Envelope::parse(&file, targets, Kind::Targets.bytes_max())?.decode(&file)?;
        let file = Kind::Timestamp.to_string();
        let newest: Timestamp =
            Envelope::parse(&file, timestamp, Kind::Timestamp.bytes_max())?.decode(&file)?;
        // A publish that was cut off may have written targets and no timestamp.
        let version = known.version.max(newest.version).saturating_add(1);
        Ok(Self { version, targets: known.targets })
    }

    /// Adds or replaces a release's manifest and returns its path, `releases/<version>/manifest.json`.
    ///
    /// # Errors
    /// [`TufError::Malformed`]; does not happen for versions and plain channel names.
    pub fn add_release(
        &mut self,
        release: &ReleaseCustom,
        manifest: &[u8],
    ) -> Result<String, TufError> {
        let path = manifest_path(release.version);
        let custom = serde_json::to_value(release)
            .map_err(|err| TufError::Malformed { file: path.clone(), detail: err.to_string() })?;
        let target = Target {
            length: u64::try_from(manifest.len()).unwrap_or(u64::MAX),
            hashes: Hashes::sha256(sha256_hex(manifest)),
            custom: Some(custom),
        };
        self.targets.insert(path.clone(), target);
        Ok(path)
    }

    /// Says of a release's manifest that it also lies there compressed, with so many bytes.
    pub fn note_packed(&mut self, path: &str, packed_bytes: u64) {
        if let Some(Value::Object(custom)) =
            self.targets.get_mut(path).and_then(|target| target.custom.as_mut())
        {
            custom.insert("packed_bytes".into(), packed_bytes.into());
        }
    }

    /// The releases, oldest first.
    pub fn releases(&self) -> Vec<Version> {
        let mut all: Vec<Version> =
            self.targets.values().filter_map(|target| Some(target.release()?.version)).collect();
        all.sort_unstable();
        all
    }

    /// How a release is handed out; `None` when it is not there.
    pub fn waves(&self, version: Version) -> Option<Waves> {
        let custom = self.targets.get(&manifest_path(version))?.release()?;
        Some(custom.waves.unwrap_or_default())
    }

    /// Hands a release out in waves, or to all at once where nothing is said.
    pub fn hand_out(&mut self, version: Version, waves: Waves) {
        let Some(Value::Object(custom)) =
            self.targets.get_mut(&manifest_path(version)).and_then(|target| target.custom.as_mut())
        else {
            return;
        };
        match serde_json::to_value(&waves) {
            Ok(value) if waves != Waves::default() => custom.insert("waves".into(), value),
            _ => custom.remove("waves"),
        };
    }

    /// Signs targets, snapshot and timestamp; write them in this order, after the manifests and blobs.
    ///
    /// # Errors
    /// As [`sign`].
    pub fn publish(
        &self,
        keys: &RepositoryKeys,
        now: Instant,
        lifetimes: Lifetimes,
    ) -> Result<Vec<Written>, TufError> {
        let long = now.plus_days(lifetimes.targets_days);
        let targets = Targets::new(self.version, long, self.targets.clone());
        let targets = sign(&targets, &keys.targets)?;
        let snapshot = Snapshot::new(self.version, long, self.named(Kind::Targets, &targets));
        let snapshot = sign(&snapshot, &keys.snapshot)?;
        let timestamp = Timestamp::new(
            self.version,
            now.plus_days(lifetimes.timestamp_days),
            self.named(Kind::Snapshot, &snapshot),
        );
        let timestamp = sign(&timestamp, &keys.timestamp)?;
        let files =
            [(Kind::Targets, targets), (Kind::Snapshot, snapshot), (Kind::Timestamp, timestamp)];
        Ok(files
            .into_iter()
            .map(|(kind, bytes)| Written { path: format!("metadata/{kind}"), bytes })
            .collect())
    }

    /// Signs snapshot and timestamp anew for targets that stay as they are: what a server does that holds
    /// no key of the releases.
    ///
    /// # Errors
    /// As [`sign`], and [`TufError`] when `targets` is none.
    pub fn refresh(
        &self,
        targets: &[u8],
        keys: &RepositoryKeys,
        now: Instant,
        lifetimes: Lifetimes,
    ) -> Result<Vec<Written>, TufError> {
        let file = Kind::Targets.to_string();
        let known: Targets =
            Envelope::parse(&file, targets, Kind::Targets.bytes_max())?.decode(&file)?;
        let mut meta = self.named(Kind::Targets, targets);
        for named in meta.values_mut() {
            named.version = known.version;
        }
        let long = now.plus_days(lifetimes.targets_days);
        let snapshot = sign(&Snapshot::new(self.version, long, meta), &keys.snapshot)?;
        let timestamp = Timestamp::new(
            self.version,
            now.plus_days(lifetimes.timestamp_days),
            self.named(Kind::Snapshot, &snapshot),
        );
        let timestamp = sign(&timestamp, &keys.timestamp)?;
        Ok([(Kind::Snapshot, snapshot), (Kind::Timestamp, timestamp)]
            .into_iter()
            .map(|(kind, bytes)| Written { path: format!("metadata/{kind}"), bytes })
            .collect())
    }

    fn named(&self, kind: Kind, bytes: &[u8]) -> BTreeMap<String, FileMeta> {
        let meta = FileMeta {
            version: self.version,
            length: u64::try_from(bytes.len()).ok(),
            hashes: Some(Hashes::sha256(sha256_hex(bytes))),
        };
        BTreeMap::from([(kind.to_string(), meta)])
    }
}
