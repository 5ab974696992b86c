//! TUF 1.0 metadata: its types, and the check of a threshold of signatures by its [`keys`](crate::keys).
//!
//! Every file is `{"signatures": [{"keyid", "sig"}], "signed": {...}}`; a signature is made over the
//! canonical form ([`crate::canonical`]) of `signed` exactly as received, unknown members included.
//! Source: The Update Framework specification 1.0.

use crate::canonical::{self, CanonicalError};
use crate::keys::Key;
use crate::time::Instant;
use crate::waves::Waves;
use goblin_core_types::{Digest, Version};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::Digest as _;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// Version of the specification that is written; any 1.x is read.
pub const SPEC_VERSION: &str = "1.0.31";
/// Largest root metadata in bytes.
pub const ROOT_BYTES_MAX: u64 = 256 << 10;
/// Largest timestamp metadata in bytes.
pub const TIMESTAMP_BYTES_MAX: u64 = 16 << 10;
/// Largest snapshot metadata in bytes.
pub const SNAPSHOT_BYTES_MAX: u64 = 64 << 10;
/// Largest targets metadata in bytes.
pub const TARGETS_BYTES_MAX: u64 = 2 << 20;
/// Most signatures looked at in one file.
pub const SIGNATURES_MAX: usize = 64;
/// Most keys in a root.
pub const KEYS_MAX: usize = 128;
/// Most targets in a repository.
pub const TARGETS_MAX: usize = 4096;
/// Longest path of a target in bytes.
pub const TARGET_PATH_BYTES_MAX: usize = 128;

/// The four top-level roles of TUF. Whom targets metadata hands files on to is said in
/// [`delegation`](crate::delegation).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Names the keys of every role, itself included.
    Root,
    /// Names the newest snapshot; short-lived.
    Timestamp,
    /// Names the versions of all other metadata.
    Snapshot,
    /// Names the releases.
    Targets,
}

impl Kind {
    /// Every role.
    pub const ALL: [Self; 4] = [Self::Root, Self::Timestamp, Self::Snapshot, Self::Targets];

    /// The role's word, also the stem of its file name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Root => "root",
            Self::Timestamp => "timestamp",
            Self::Snapshot => "snapshot",
            Self::Targets => "targets",
        }
    }

    /// Largest file of this role in bytes, where nothing signed says less.
    pub const fn bytes_max(self) -> u64 {
        match self {
            Self::Root => ROOT_BYTES_MAX,
            Self::Timestamp => TIMESTAMP_BYTES_MAX,
            Self::Snapshot => SNAPSHOT_BYTES_MAX,
            Self::Targets => TARGETS_BYTES_MAX,
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.json", self.as_str())
    }
}

/// Why metadata or a target was refused. What was trusted before stays as it was.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TufError {
    /// Longer than allowed or than signed.
    #[error("{file} has {got} bytes where at most {max} are allowed; publish the repository again")]
    TooLong {
        /// File.
        file: String,
        /// Bytes found.
        got: u64,
        /// Bytes allowed.
        max: u64,
    },
    /// Not the JSON of this role.
    #[error("{file} is not valid metadata: {detail}; publish the repository again")]
    Malformed {
        /// File.
        file: String,
        /// What the parser met.
        detail: String,
    },
    /// Not canonical: cannot have been signed.
    #[error("{file} {source}; publish the repository again")]
    NotCanonical {
        /// File.
        file: String,
        /// What has no canonical form.
        source: CanonicalError,
    },
    /// Too few good signatures.
    #[error(
        "{file} carries {valid} valid signatures of the {threshold} needed: it was not signed by the keys this board trusts, or it was changed since; sign it with the repository's keys"
    )]
    Signature {
        /// File.
        file: String,
        /// Distinct trusted keys whose signature is good.
        valid: usize,
        /// Distinct trusted keys needed.
        threshold: u32,
    },
    /// Its time is over: it may be a frozen copy of the past.
    #[error(
        "{file} expired at {expires} and it is {now} now; publish the repository again, or correct the board's clock"
    )]
    Expired {
        /// File.
        file: String,
        /// When it ended.
        expires: Instant,
        /// The time it was compared with.
        now: Instant,
    },
    /// A lower version than one seen before: a replay of the past.
    #[error(
        "{file} is version {got}, older than version {trusted} this board has already seen; the server offers a past state, publish to it again"
    )]
    Older {
        /// File.
        file: String,
        /// Version found.
        got: u64,
        /// Version trusted before.
        trusted: u64,
    },
    /// A root that is not the successor of the trusted one.
    #[error(
        "{file} is version {got} where version {expected} must be; keep every N.root.json in the repository"
    )]
    RootGap {
        /// File.
        file: String,
        /// Version found.
        got: u64,
        /// Version that must follow.
        expected: u64,
    },
    /// Not the file that the signed metadata above it names: parts of different states were mixed.
    #[error(
        "{file} has {field} {got} where {expected} was signed; a publish may be under way, try again in a minute, or publish the repository again"
    )]
    Mismatch {
        /// File.
        file: String,
        /// `version`, `length` or `sha256`.
        field: &'static str,
        /// Found.
        got: String,
        /// Signed.
        expected: String,
    },
    /// The same version as one seen before, with other content: someone else signs with the same keys.
    #[error(
        "{file} is version {version} like the one this board has already seen, and says something else; two publishers may share the keys, or a key was stolen: publish the repository again, and rotate the keys if nobody else should have them"
    )]
    Changed {
        /// File.
        file: String,
        /// The version of both.
        version: u64,
    },
    /// More keys, signatures or targets than are ever looked at.
    #[error("{file} holds {got} {what}, at most {max} are allowed")]
    TooMany {
        /// File.
        file: String,
        /// What is counted.
        what: &'static str,
        /// Found.
        got: usize,
        /// Allowed.
        max: usize,
    },
    /// The metadata says nothing about this file.
    #[error("{file} is not named by the signed metadata; publish the repository again")]
    Unnamed {
        /// File.
        file: String,
    },
    /// A step of the client was asked before the one it builds on.
    #[error("{wanted} is applied before {file}")]
    OutOfOrder {
        /// File that was handed in.
        file: Kind,
        /// File that must be applied first.
        wanted: Kind,
    },
}

/// sha256 in lower-case hexadecimal, the form TUF names contents by.
pub fn sha256_hex(bytes: &[u8]) -> String {
    hex::encode(sha2::Sha256::digest(bytes))
}

/// Which keys may sign for a role, and how many of them must.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoleKeys {
    /// Identities of the keys.
    pub keyids: Vec<String>,
    /// Distinct keys needed, at least 1.
    pub threshold: u32,
}

/// What the four metadata types share.
pub trait Document: Serialize + DeserializeOwned {
    /// Its role.
    const KIND: Kind;
    /// Its version; only grows.
    fn version(&self) -> u64;
    /// When it must not be believed any more.
    fn expires(&self) -> Instant;
}

macro_rules! document {
    ($(#[$doc:meta])* $name:ident, { $($(#[$field_doc:meta])* $field:ident: $type:ty,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
        pub struct $name {
            /// The role's word.
            #[serde(rename = "_type")]
            pub kind: Kind,
            /// Version of the specification, `1.x`.
            pub spec_version: String,
            /// Version of this file; only grows.
            pub version: u64,
            /// When it must not be believed any more.
            pub expires: Instant,
            $($(#[$field_doc])* pub $field: $type,)*
        }

        impl $name {
            /// A document of the current specification.
            pub fn new(version: u64, expires: Instant $(, $field: $type)*) -> Self {
                Self {
                    kind: Kind::$name,
                    spec_version: SPEC_VERSION.into(),
                    version,
                    expires,
                    $($field,)*
                }
            }
        }

        impl Document for $name {
            const KIND: Kind = Kind::$name;

            fn version(&self) -> u64 {
                self.version
            }

            fn expires(&self) -> Instant {
                self.expires
            }
        }
    };
}

document!(
    /// Names the keys of every role. Version N+1 is signed by the keys of N and by its own.
    Root, {
        /// Metadata and targets also carry their version or digest in their file names.
        consistent_snapshot: bool,
        /// Keys by identity.
        keys: BTreeMap<String, Key>,
        /// Keys of each role, by the role's word.
        roles: BTreeMap<String, RoleKeys>,
    }
);
document!(
    /// Names the newest snapshot; short-lived, so that a frozen repository is noticed.
    Timestamp, {
        /// `snapshot.json` and nothing else.
        meta: BTreeMap<String, FileMeta>,
    }
);
document!(
    /// Names the versions of the targets metadata that belong together.
    Snapshot, {
        /// By file name.
        meta: BTreeMap<String, FileMeta>,
    }
);
document!(
    /// Names the releases.
    Targets, {
        /// By path inside the repository.
        targets: BTreeMap<String, Target>,
    }
);

/// What one metadata file says about another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileMeta {
    /// Its version.
    pub version: u64,
    /// Its length in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub length: Option<u64>,
    /// Its digests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hashes: Option<Hashes>,
}

/// Digests of a file. Others than these are ignored.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hashes {
    /// sha256 in lower-case hexadecimal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
    /// sha512 in lower-case hexadecimal; our own publisher writes none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha512: Option<String>,
}

impl Hashes {
    /// Only a sha256.
    pub fn sha256(hex: String) -> Self {
        Self { sha256: Some(hex), sha512: None }
    }

    /// The digest that a file is named by where names carry one.
    pub fn first(&self) -> Option<&str> {
        self.sha256.as_deref().or(self.sha512.as_deref())
    }

    /// Compares with every digest that is given.
    pub(crate) fn check(&self, file: &str, bytes: &[u8]) -> Result<(), TufError> {
        let compare = |field, got: String, signed: &str| {
            if got == signed {
                return Ok(());
            }
            Err(TufError::Mismatch { file: file.into(), field, got, expected: signed.into() })
        };
        if let Some(signed) = &self.sha256 {
            compare("sha256", sha256_hex(bytes), signed)?;
        }
        match &self.sha512 {
            Some(signed) => compare("sha512", hex::encode(sha2::Sha512::digest(bytes)), signed),
            None => Ok(()),
        }
    }
}

/// A file of the repository that the targets metadata vouches for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Target {
    /// Its length in bytes.
    pub length: u64,
    /// Its digests; without one of them the target cannot be used.
    pub hashes: Hashes,
    /// What it is; [`Target::release`] reads it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub custom: Option<Value>,
}

/// The `custom` member of a target that is a release's manifest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReleaseCustom {
    /// Version of the release.
    pub version: Version,
    /// Channel it is offered in.
    pub channel: String,
    /// blake3 of its UKI, so that a quarantined one is passed over before its manifest is fetched.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uki: Option<Digest>,
    /// How it is handed out; to all at once when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waves: Option<Waves>,
}

impl Target {
    /// The release this target is the manifest of; `None` for targets of other kinds.
    pub fn release(&self) -> Option<ReleaseCustom> {
        serde_json::from_value(self.custom.clone()?).ok()
    }

    /// Size in bytes of the same file compressed with zstd, which lies beside it under
    /// [`crate::release::MANIFEST_PACKED`]; `None` where the publisher made none.
    pub fn packed_bytes(&self) -> Option<u64> {
        self.custom.as_ref()?.get("packed_bytes")?.as_u64()
    }

    /// Checks a fetched target against what was signed.
    ///
    /// # Errors
    /// [`TufError::Mismatch`]: the bytes are not used.
    pub fn check(&self, path: &str, bytes: &[u8]) -> Result<(), TufError> {
        if self.hashes.first().is_none() {
            return Err(TufError::Unnamed { file: path.into() });
        }
        check_length(path, bytes, self.length)?;
        self.hashes.check(path, bytes)
    }
}

pub(crate) fn check_length(file: &str, bytes: &[u8], signed: u64) -> Result<(), TufError> {
    let got = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
    if got == signed {
        return Ok(());
    }
    Err(TufError::Mismatch {
        file: file.into(),
        field: "length",
        got: got.to_string(),
        expected: signed.to_string(),
    })
}

/// One signature of an [`Envelope`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignatureEntry {
    /// Identity of the key.
    pub keyid: String,
    /// Hexadecimal digits; 128 of an ed25519 key.
    pub sig: String,
}

/// A metadata file as it was received: nothing in it is believed before [`Envelope::verify`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Envelope {
    /// Signatures over the canonical form of `signed`.
    pub signatures: Vec<SignatureEntry>,
    /// The document.
    pub signed: Value,
}

impl Envelope {
    /// Reads a metadata file; `file` names it in errors.
    ///
    /// # Errors
    /// [`TufError::TooLong`], [`TufError::Malformed`] or [`TufError::TooMany`].
    pub fn parse(file: &str, bytes: &[u8], bytes_max: u64) -> Result<Self, TufError> {
        let got = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        if got > bytes_max {
            return Err(TufError::TooLong { file: file.into(), got, max: bytes_max });
        }
        let envelope: Self = serde_json::from_slice(bytes).map_err(|err| malformed(file, &err))?;
        let count = envelope.signatures.len();
        if count > SIGNATURES_MAX {
            return Err(TufError::TooMany {
                file: file.into(),
                what: "signatures",
                got: count,
                max: SIGNATURES_MAX,
            });
        }
        Ok(envelope)
    }

    /// Checks that enough distinct keys of `role` signed the document.
    ///
    /// # Errors
    /// [`TufError::Signature`], or [`TufError::Malformed`] when a key signs twice: the document must not be
    /// believed.
    pub fn verify(&self, file: &str, root: &Root, role: Kind) -> Result<(), TufError> {
        let role = root.role(role).map_err(|_| TufError::Unnamed { file: file.into() })?;
        self.verify_by(file, &root.keys, role)
    }

    /// [`Envelope::verify`] for a role that has its keys from anybody.
    pub(crate) fn verify_by(
        &self,
        file: &str,
        known: &BTreeMap<String, Key>,
        role: &RoleKeys,
    ) -> Result<(), TufError> {
        let message = canonical::to_vec(&self.signed)
            .map_err(|source| TufError::NotCanonical { file: file.into(), source })?;
        // The specification allows each key identity once; who repeats one hopes to be counted twice.
        let mut keyids = BTreeSet::new();
        if let Some(twice) = self.signatures.iter().find(|entry| !keyids.insert(&entry.keyid)) {
            let keyid: String = twice.keyid.chars().take(64).collect();
            let detail = format!("key {keyid} signs it twice");
            return Err(TufError::Malformed { file: file.into(), detail });
        }
        // Counted by the public key, not by its identity: one key under two names is one voice.
        let mut voices = BTreeSet::new();
        for entry in &self.signatures {
            let key = known.get(&entry.keyid).filter(|_| role.keyids.contains(&entry.keyid));
            let Some(verifier) = key.and_then(Key::verifier) else { continue };
            let Ok(signature) = hex::decode(&entry.sig) else { continue };
            if verifier.accepts(&message, &signature) {
                voices.insert(verifier.voice());
            }
        }
        let enough = u32::try_from(voices.len()).unwrap_or(u32::MAX) >= role.threshold;
        if enough && role.threshold > 0 {
            return Ok(());
        }
        Err(TufError::Signature {
            file: file.into(),
            valid: voices.len(),
            threshold: role.threshold,
        })
    }

    /// Reads the document without believing it: for a publisher that continues its own repository,
    /// and for a client right after [`Envelope::verify`].
    ///
    /// # Errors
    /// [`TufError::Malformed`] when it is of another role, another specification or another shape.
    pub fn decode<D: Document>(&self, file: &str) -> Result<D, TufError> {
        let refuse = |detail: String| TufError::Malformed { file: file.into(), detail };
        let word = self.signed.get("_type").and_then(Value::as_str).unwrap_or_default();
        if word != D::KIND.as_str() {
            return Err(refuse(format!("`_type` is not `{}`", D::KIND.as_str())));
        }
        let spec = self.signed.get("spec_version").and_then(Value::as_str).unwrap_or_default();
        if !spec.starts_with("1.") {
            return Err(refuse(
                "`spec_version` is not 1.x; a newer goblinux is needed to read it".into(),
            ));
        }
        let document: D =
            serde_json::from_value(self.signed.clone()).map_err(|err| malformed(file, &err))?;
        if document.version() == 0 {
            return Err(refuse("`version` is 0, the first is 1".into()));
        }
        Ok(document)
    }
}

pub(crate) fn malformed(file: &str, err: &serde_json::Error) -> TufError {
    TufError::Malformed { file: file.into(), detail: err.to_string() }
}

impl Root {
    /// The keys of a role.
    ///
    /// # Errors
    /// [`TufError::Malformed`] when the root does not name the role.
    pub fn role(&self, role: Kind) -> Result<&RoleKeys, TufError> {
        self.roles.get(role.as_str()).ok_or_else(|| TufError::Malformed {
            file: Kind::Root.to_string(),
            detail: format!("no keys for the role `{}`", role.as_str()),
        })
    }

    /// Checks what the shape cannot say: all four roles with a threshold of at least 1, counts in
    /// bounds.
    ///
    /// # Errors
    /// [`TufError::Malformed`] or [`TufError::TooMany`].
    pub fn check(&self, file: &str) -> Result<(), TufError> {
        if self.keys.len() > KEYS_MAX {
            let (file, got) = (file.into(), self.keys.len());
            return Err(TufError::TooMany { file, what: "keys", got, max: KEYS_MAX });
        }
        for role in Kind::ALL {
            if self.role(role)?.threshold == 0 {
                let detail = format!("the threshold of `{}` is 0", role.as_str());
                return Err(TufError::Malformed { file: file.into(), detail });
            }
        }
        Ok(())
    }
}

/// # Errors
/// [`TufError::TooMany`] for more than [`TARGETS_MAX`].
pub(crate) fn few_targets(file: &str, got: usize) -> Result<(), TufError> {
    if got <= TARGETS_MAX {
        return Ok(());
    }
    Err(TufError::TooMany { file: file.into(), what: "targets", got, max: TARGETS_MAX })
}

/// True for a path that stays inside the repository and needs no escaping in an address: `/`-joined
/// names of `A-Z a-z 0-9 . _ + -`, none of them starting with a dot, at most
/// [`TARGET_PATH_BYTES_MAX`] bytes.
pub fn is_plain_path(path: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"._+-".contains(&b);
    path.len() <= TARGET_PATH_BYTES_MAX
        && path
            .split('/')
            .all(|name| !name.is_empty() && !name.starts_with('.') && name.bytes().all(plain))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn key_that_signs_twice_is_refused_though_once_would_do() {
        use crate::publish::{RepositoryKeys, Seed, sign};
        let seed = |n: u8| vec![Seed([n; 32])];
        let keys = RepositoryKeys {
            root: seed(1),
            targets: seed(2),
            snapshot: seed(3),
            timestamp: seed(4),
        };
        let root = keys.root(1, Instant::from_unix_s(1000));
        let bytes = sign(&root, &keys.root).unwrap();
        let mut envelope = Envelope::parse("root.json", &bytes, ROOT_BYTES_MAX).unwrap();
        envelope.verify("root.json", &root, Kind::Root).unwrap();
        envelope.signatures.push(envelope.signatures[0].clone());
        let refused = envelope.verify("root.json", &root, Kind::Root);
        assert!(matches!(refused, Err(TufError::Malformed { .. })), "{refused:?}");
    }

    #[test]
    fn paths_that_leave_the_repository_are_not_plain() {
        assert!(is_plain_path("releases/2/manifest.json"));
        for path in ["", "/etc", "../x", "a/../b", "a//b", "a b", "a/.hidden", "a?b", "é"] {
            assert!(!is_plain_path(path), "{path}");
        }
    }
}
