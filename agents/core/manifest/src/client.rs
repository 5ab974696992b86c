//! What a device believes about a repository, and the checks by which it comes to believe more.
//!
//! ```text
//! TrustedState --root*--> newest root --timestamp--> --snapshot--> --targets--> --delegated*--> releases
//! ```
//! Follows the client workflow of the TUF specification 1.0, section 5: root chain, then timestamp,
//! snapshot, targets, each checked for signatures, version (no way back), the file it is named by (no
//! mixing) and expiry (no freezing). Whatever passes is kept in [`TrustedState`], which the caller
//! stores between runs; a refused file changes nothing.

use crate::canonical;
use crate::delegation::{Delegations, Loaded, Way, escaped, file_of};
use crate::time::Instant;
use crate::tuf::{
    Document, Envelope, FileMeta, Kind, Root, Snapshot, Target, Targets, Timestamp, TufError,
    check_length, few_targets, is_plain_path, sha256_hex,
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Most roots followed in one run; a device further behind needs more than one run.
pub const ROOT_CHAIN_MAX: u32 = 64;

/// Version of [`TrustedState`].
const STATE_SCHEMA: u32 = 1;

/// What a device remembers between runs. JSON.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TrustedState {
    /// Version of this shape; 1.
    pub schema: u32,
    /// The newest root that was verified, as received.
    pub root: Envelope,
    /// The newest timestamp that was verified, as received: what counts when another of the same version
    /// comes (section 5.4.3.1).
    #[serde(default)]
    pub timestamp: Option<Envelope>,
    /// Version of the newest timestamp seen; 0 before the first.
    #[serde(default)]
    pub timestamp_version: u64,
    /// Version of the newest snapshot a timestamp named; 0 before the first.
    #[serde(default)]
    pub snapshot_version: u64,
    /// Versions of the metadata that the newest snapshot named.
    #[serde(default)]
    pub snapshot_meta: BTreeMap<String, u64>,
    /// Version of the newest targets seen; 0 before the first.
    #[serde(default)]
    pub targets_version: u64,
    /// sha256 of what each of these files said at the version above, by file name: a version has one
    /// content. Of the canonical form, for signing once more changes nothing that is said.
    #[serde(default)]
    pub said: BTreeMap<String, String>,
    /// The latest time this device was sure of: a dead clock battery must not revive what expired.
    #[serde(default = "epoch")]
    pub latest_known_time: Instant,
}

fn epoch() -> Instant {
    Instant::from_unix_s(0)
}

impl TrustedState {
    /// Begins with a root that came by a trusted way (the provisioning file). Its expiry does not
    /// matter; that of the newest root in its chain does.
    ///
    /// # Errors
    /// [`TufError`] when it is not a root, or not signed by its own keys.
    pub fn from_root(bytes: &[u8]) -> Result<Self, TufError> {
        let file = "the trust root of the provisioning file";
        let envelope = Envelope::parse(file, bytes, Kind::Root.bytes_max())?;
        let root: Root = envelope.decode(file)?;
        root.check(file)?;
        envelope.verify(file, &root, Kind::Root)?;
        Ok(Self {
            schema: STATE_SCHEMA,
            root: envelope,
            timestamp: None,
            timestamp_version: 0,
            snapshot_version: 0,
            snapshot_meta: BTreeMap::new(),
            targets_version: 0,
            said: BTreeMap::new(),
            latest_known_time: epoch(),
        })
    }

    /// Notes a time the caller is sure of (a time server agreed). Never goes back.
    pub fn note_time(&mut self, now: Instant) {
        self.latest_known_time = self.latest_known_time.max(now);
    }
}

/// Where the next file is and how long it may be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// Path inside the repository.
    pub path: String,
    /// Longest answer in bytes that is worth reading.
    pub bytes_max: u64,
}

/// One run of the client workflow. Pure: the caller fetches.
#[derive(Debug, Clone)]
pub struct Client {
    state: TrustedState,
    root: Root,
    now: Instant,
    roots_followed: u32,
    timestamp: Option<Timestamp>,
    snapshot: Option<Snapshot>,
    pub(crate) targets: Option<Targets>,
    pub(crate) delegations: Delegations,
    pub(crate) delegated: BTreeMap<Way, Loaded>,
}

impl Client {
    /// Begins a run at the time `now` of the board's clock; the later of it and the latest known time
    /// counts.
    ///
    /// # Errors
    /// [`TufError::Malformed`] when the stored state is damaged; begin again from the trust root.
    pub fn new(state: TrustedState, now: Instant) -> Result<Self, TufError> {
        let file = "the stored root";
        if state.schema != STATE_SCHEMA {
            let detail = format!("its schema is {}, not {STATE_SCHEMA}", state.schema);
            return Err(TufError::Malformed { file: file.into(), detail });
        }
        let root: Root = state.root.decode(file)?;
        root.check(file)?;
        state.root.verify(file, &root, Kind::Root)?;
        let now = now.max(state.latest_known_time);
        let fresh = Self {
            state,
            root,
            now,
            roots_followed: 0,
            timestamp: None,
            snapshot: None,
            targets: None,
            delegations: Delegations::default(),
            delegated: BTreeMap::new(),
        };
        Ok(fresh)
    }

    /// Notes the time of this run as one the caller is sure of, once the targets passed: a time at which
    /// nothing is good is not believed for ever.
    pub fn note_time(&mut self) {
        if self.targets.is_some() {
            self.state.note_time(self.now);
        }
    }

    /// The time that counts in this run.
    pub const fn now(&self) -> Instant {
        self.now
    }

    /// What is believed now; store it after every run, also after a refused one.
    pub fn state(&self) -> &TrustedState {
        &self.state
    }

    /// The root that follows the trusted one. The caller tries to fetch it; that it does not exist
    /// means that the trusted one is the newest. `None` once [`ROOT_CHAIN_MAX`] were followed.
    pub fn wanted_root(&self) -> Option<Wanted> {
        let next = self.root.version.checked_add(1)?;
        (self.roots_followed < ROOT_CHAIN_MAX).then(|| Wanted {
            path: format!("metadata/{next}.root.json"),
            bytes_max: Kind::Root.bytes_max(),
        })
    }

    /// Believes the next root: signed by the keys of the trusted one and by its own.
    ///
    /// # Errors
    /// [`TufError`]; the trusted root stays.
    pub fn apply_root(&mut self, bytes: &[u8]) -> Result<(), TufError> {
        let expected = self.root.version.saturating_add(1);
        let file = format!("{expected}.root.json");
        let envelope = Envelope::parse(&file, bytes, Kind::Root.bytes_max())?;
        envelope.verify(&file, &self.root, Kind::Root)?;
        let next: Root = envelope.decode(&file)?;
        next.check(&file)?;
        envelope.verify(&file, &next, Kind::Root)?;
        if next.version != expected {
            return Err(TufError::RootGap { file, got: next.version, expected });
        }
        // New keys for the short-lived roles answer a stolen one, which may have signed enormous
        // versions: what those keys said is forgotten (section 5.3.11).
        let rotated = |role: Kind| {
            let keys = |root: &Root| -> Option<Vec<String>> {
                let mut ids = root.role(role).ok()?.keyids.clone();
                ids.sort_unstable();
                Some(ids)
            };
            keys(&self.root) != keys(&next)
        };
        if rotated(Kind::Timestamp) || rotated(Kind::Snapshot) {
            self.state.timestamp = None;
            self.state.timestamp_version = 0;
            self.state.snapshot_version = 0;
            self.state.snapshot_meta.clear();
            self.state.targets_version = 0;
            self.state.said.clear();
        }
        self.state.root = envelope;
        self.root = next;
        self.roots_followed = self.roots_followed.saturating_add(1);
        Ok(())
    }

    /// Where the timestamp is.
    pub fn wanted_timestamp(&self) -> Wanted {
        Wanted { path: "metadata/timestamp.json".into(), bytes_max: Kind::Timestamp.bytes_max() }
    }

    /// Believes a timestamp. Ends the root chain: the newest root must not have expired. One of the version
    /// that is believed already is put aside whatever it says, and the believed one counts.
    ///
    /// # Errors
    /// [`TufError`]; nothing is changed.
    pub fn apply_timestamp(&mut self, bytes: &[u8]) -> Result<(), TufError> {
        self.unexpired(&self.root)?;
        let file = Kind::Timestamp.to_string();
        let received = Envelope::parse(&file, bytes, Kind::Timestamp.bytes_max())?;
        let (next, said): (Timestamp, _) = self.verified(&received)?;
        not_older(Kind::Timestamp, next.version, self.state.timestamp_version)?;
        // Under a root that wants more signatures than before, the believed one may not pass any more.
        let believed = self.state.timestamp.clone();
        let believed = believed.filter(|_| next.version == self.state.timestamp_version);
        let believed = believed.and_then(|kept| Some((self.verified(&kept).ok()?, kept)));
        let ((next, said), envelope) = believed.unwrap_or(((next, said), received));
        self.unchanged(Kind::Timestamp, (next.version, self.state.timestamp_version), &said)?;
        let named = named(&next.meta, Kind::Snapshot)?;
        not_older(Kind::Snapshot, named.version, self.state.snapshot_version)?;
        self.unexpired(&next)?;
        if named.version > self.state.snapshot_version {
            self.state.said.remove(&Kind::Snapshot.to_string());
        }
        self.state.timestamp_version = next.version;
        self.state.snapshot_version = named.version;
        self.state.said.insert(file, said);
        self.state.timestamp = Some(envelope);
        self.timestamp = Some(next);
        Ok(())
    }

    /// Where the snapshot is.
    ///
    /// # Errors
    /// [`TufError::OutOfOrder`] before the timestamp.
    pub fn wanted_snapshot(&self) -> Result<Wanted, TufError> {
        self.wanted(Kind::Snapshot, self.snapshot_meta()?)
    }

    /// Believes the snapshot that the timestamp names.
    ///
    /// # Errors
    /// [`TufError`]; nothing is changed.
    pub fn apply_snapshot(&mut self, bytes: &[u8]) -> Result<(), TufError> {
        let meta = self.snapshot_meta()?.clone();
        check_signed(&Kind::Snapshot.to_string(), bytes, &meta)?;
        let envelope = parsed(Kind::Snapshot, bytes)?;
        let (next, said): (Snapshot, _) = self.verified(&envelope)?;
        same_version(&Kind::Snapshot.to_string(), next.version, meta.version)?;
        self.unchanged(Kind::Snapshot, (next.version, self.state.snapshot_version), &said)?;
        let targets = named(&next.meta, Kind::Targets)?;
        not_older(Kind::Targets, targets.version, self.state.targets_version)?;
        for (name, &trusted) in &self.state.snapshot_meta {
            let got = next.meta.get(name).map_or(0, |meta| meta.version);
            if got < trusted {
                return Err(TufError::Older { file: name.clone(), got, trusted });
            }
        }
        self.unexpired(&next)?;
        self.state.snapshot_meta =
            next.meta.iter().map(|(name, meta)| (name.clone(), meta.version)).collect();
        self.state.said.insert(Kind::Snapshot.to_string(), said);
        self.snapshot = Some(next);
        Ok(())
    }

    /// Where the targets metadata is.
    ///
    /// # Errors
    /// [`TufError::OutOfOrder`] before the snapshot.
    pub fn wanted_targets(&self) -> Result<Wanted, TufError> {
        self.wanted(Kind::Targets, self.targets_meta()?)
    }

    /// Believes the targets metadata that the snapshot names.
    ///
    /// # Errors
    /// [`TufError`]; nothing is changed.
    pub fn apply_targets(&mut self, bytes: &[u8]) -> Result<(), TufError> {
        let meta = self.targets_meta()?.clone();
        check_signed(&Kind::Targets.to_string(), bytes, &meta)?;
        let envelope = parsed(Kind::Targets, bytes)?;
        let (next, said): (Targets, _) = self.verified(&envelope)?;
        let file = Kind::Targets.to_string();
        let delegations = Delegations::read(&file, &envelope.signed)?;
        same_version(&file, next.version, meta.version)?;
        self.unchanged(Kind::Targets, (next.version, self.state.targets_version), &said)?;
        few_targets(&file, next.targets.len())?;
        self.unexpired(&next)?;
        self.state.targets_version = next.version;
        self.state.said.insert(file, said);
        self.targets = Some(next);
        self.delegations = delegations;
        self.delegated.clear();
        Ok(())
    }

    /// Where the metadata of a delegated role is.
    ///
    /// # Errors
    /// [`TufError::Unnamed`] when the snapshot does not name it; [`TufError::OutOfOrder`] before that.
    pub fn wanted_delegated(&self, way: &Way) -> Result<Wanted, TufError> {
        let meta = self.delegated_meta(way)?;
        let mut path = format!("metadata/{}.json", escaped(way.role()));
        if self.root.consistent_snapshot {
            path = format!("metadata/{}.{}.json", meta.version, escaped(way.role()));
        }
        let bytes_max = meta.length.unwrap_or(u64::MAX).min(Kind::Targets.bytes_max());
        Ok(Wanted { path, bytes_max })
    }

    /// Believes the metadata of a delegated role, by the keys of those who hand files on to it.
    ///
    /// # Errors
    /// [`TufError`]; nothing is changed.
    pub fn apply_delegated(&mut self, way: &Way, bytes: &[u8]) -> Result<(), TufError> {
        let meta = self.delegated_meta(way)?;
        let file = file_of(way.role());
        check_signed(&file, bytes, meta)?;
        let envelope = Envelope::parse(&file, bytes, Kind::Targets.bytes_max())?;
        let (keys, signers) = self.signers(way)?;
        envelope.verify_by(&file, keys, signers)?;
        let targets: Targets = envelope.decode(&file)?;
        same_version(&file, targets.version, meta.version)?;
        few_targets(&file, targets.targets.len())?;
        let delegations = Delegations::read(&file, &envelope.signed)?;
        self.unexpired_file(&file, targets.expires)?;
        self.delegated.insert(way.clone(), Loaded { targets, delegations });
        Ok(())
    }

    fn delegated_meta(&self, way: &Way) -> Result<&FileMeta, TufError> {
        let early = TufError::OutOfOrder { file: Kind::Targets, wanted: Kind::Snapshot };
        let file = file_of(way.role());
        let meta = self.snapshot.as_ref().ok_or(early)?.meta.get(&file);
        meta.ok_or(TufError::Unnamed { file })
    }

    /// What `targets.json` itself names; `None` before [`Client::apply_targets`] passed.
    pub fn targets(&self) -> Option<&Targets> {
        self.targets.as_ref()
    }

    /// Where a target is.
    ///
    /// # Errors
    /// [`TufError::Unnamed`] for a path with anything but plain names in it, or without a digest.
    pub fn wanted_target(&self, path: &str, target: &Target) -> Result<Wanted, TufError> {
        let unnamed = || TufError::Unnamed { file: path.chars().take(80).collect() };
        if !is_plain_path(path) {
            return Err(unnamed());
        }
        let digest = target.hashes.first().ok_or_else(unnamed)?;
        if !digest.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(unnamed());
        }
        let path = match (self.root.consistent_snapshot, path.rsplit_once('/')) {
            (false, _) => path.to_owned(),
            (true, Some((folder, name))) => format!("{folder}/{digest}.{name}"),
            (true, None) => format!("{digest}.{path}"),
        };
        Ok(Wanted { path, bytes_max: target.length })
    }

    fn snapshot_meta(&self) -> Result<&FileMeta, TufError> {
        let early = TufError::OutOfOrder { file: Kind::Snapshot, wanted: Kind::Timestamp };
        named(&self.timestamp.as_ref().ok_or(early)?.meta, Kind::Snapshot)
    }

    fn targets_meta(&self) -> Result<&FileMeta, TufError> {
        let early = TufError::OutOfOrder { file: Kind::Targets, wanted: Kind::Snapshot };
        named(&self.snapshot.as_ref().ok_or(early)?.meta, Kind::Targets)
    }

    fn wanted(&self, kind: Kind, meta: &FileMeta) -> Result<Wanted, TufError> {
        let path = if self.root.consistent_snapshot {
            format!("metadata/{}.{kind}", meta.version)
        } else {
            format!("metadata/{kind}")
        };
        let bytes_max = meta.length.unwrap_or(u64::MAX).min(kind.bytes_max());
        Ok(Wanted { path, bytes_max })
    }

    /// The document, and the sha256 of what it says.
    fn verified<D: Document>(&self, envelope: &Envelope) -> Result<(D, String), TufError> {
        let file = D::KIND.to_string();
        envelope.verify(&file, &self.root, D::KIND)?;
        let document = envelope.decode(&file)?;
        let said = canonical::to_vec(&envelope.signed)
            .map_err(|source| TufError::NotCanonical { file, source })?;
        Ok((document, sha256_hex(&said)))
    }

    /// A version that was seen before must say what it said then.
    fn unchanged(
        &self,
        kind: Kind,
        (got, trusted): (u64, u64),
        said: &str,
    ) -> Result<(), TufError> {
        let file = kind.to_string();
        let same = self.state.said.get(&file).is_none_or(|before| before == said);
        if got != trusted || same {
            return Ok(());
        }
        Err(TufError::Changed { file, version: got })
    }

    fn unexpired<D: Document>(&self, document: &D) -> Result<(), TufError> {
        self.unexpired_file(&D::KIND.to_string(), document.expires())
    }

    fn unexpired_file(&self, file: &str, expires: Instant) -> Result<(), TufError> {
        if expires > self.now {
            return Ok(());
        }
        Err(TufError::Expired { file: file.into(), expires, now: self.now })
    }
}

fn parsed(kind: Kind, bytes: &[u8]) -> Result<Envelope, TufError> {
    Envelope::parse(&kind.to_string(), bytes, kind.bytes_max())
}

fn named(meta: &BTreeMap<String, FileMeta>, kind: Kind) -> Result<&FileMeta, TufError> {
    let file = kind.to_string();
    meta.get(&file).ok_or(TufError::Unnamed { file })
}

fn not_older(kind: Kind, got: u64, trusted: u64) -> Result<(), TufError> {
    if got >= trusted {
        return Ok(());
    }
    Err(TufError::Older { file: kind.to_string(), got, trusted })
}

fn same_version(file: &str, got: u64, signed: u64) -> Result<(), TufError> {
    if got == signed {
        return Ok(());
    }
    Err(TufError::Mismatch {
        file: file.into(),
        field: "version",
        got: got.to_string(),
        expected: signed.to_string(),
    })
}

fn check_signed(file: &str, bytes: &[u8], meta: &FileMeta) -> Result<(), TufError> {
    if let Some(length) = meta.length {
        check_length(file, bytes, length)?;
    }
    meta.hashes.as_ref().map_or(Ok(()), |hashes| hashes.check(file, bytes))
}
