//! The manifest of one release.
//!
//! Generic over the recipe `R` that rebuilds the UKI: the recipe's types belong to the image writers,
//! which this crate does not know. The recipe names every file content by blake3.

use goblin_core_types::{Digest, Role, Version};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// Version of [`Manifest`].
pub const MANIFEST_SCHEMA: u32 = 1;
/// Largest manifest in bytes.
pub const MANIFEST_BYTES_MAX: u64 = 4 << 20;
/// Longest notes in bytes.
pub const NOTES_BYTES_MAX: usize = 400;
/// Longest channel name in bytes.
pub const CHANNEL_BYTES_MAX: usize = 32;
/// Largest content of one file in bytes: the whole base lives in RAM.
pub const BLOB_BYTES_MAX: u64 = 256 << 20;
/// Most file contents a release is made of.
pub const BLOBS_MAX: usize = 16_384;
/// Largest pack in bytes: every content, and room for what does not compress.
pub const PACK_BYTES_MAX: u64 = 1 << 30;
/// Most patches that a release names.
pub const PATCHES_MAX: usize = 16;
/// Largest UKI in bytes: three of them and a temporary one fit on the ESP.
pub const UKI_BYTES_MAX: u64 = 240 << 20;

const _: () = assert!(UKI_BYTES_MAX * 4 < 1 << 30, "the ESP has 1 GiB");
const _: () = assert!(BLOB_BYTES_MAX >= UKI_BYTES_MAX, "the base fits in one blob");

/// Versions of the protocol between boards that a release speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProtocolRange {
    /// Oldest.
    pub min: u32,
    /// Newest.
    pub max: u32,
}

impl ProtocolRange {
    /// True when both releases have a version in common.
    pub const fn meets(self, other: Self) -> bool {
        self.min <= other.max && other.min <= self.max
    }
}

/// Versions of the protocol between boards that this source speaks.
pub const SPOKEN: ProtocolRange = ProtocolRange { min: 1, max: 1 };

/// The file that holds every content of a release; [`pack_path`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PackFile {
    /// Its size in bytes.
    pub bytes: u64,
    /// Size in bytes of the index at its head.
    pub index_bytes: u64,
    /// blake3 of the index. The rest is checked content by content.
    pub index: Digest,
}

/// The file that leads from an older release to this one; [`patch_path`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PatchFile {
    /// The older release.
    pub from: Version,
    /// Its size in bytes.
    pub bytes: u64,
    /// Its blake3.
    pub digest: Digest,
}

/// How the contents come in few requests. A release that does not know of it, of the publisher or of the
/// board, goes by [`blob_path`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parcels {
    /// Every content.
    pub pack: PackFile,
    /// From the releases before, newest first; at most [`PATCHES_MAX`].
    #[serde(default)]
    pub patches: Vec<PatchFile>,
}

/// A release.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest<R> {
    /// [`MANIFEST_SCHEMA`].
    pub schema: u32,
    /// Its version.
    pub version: Version,
    /// Channel it is offered in: `a-z 0-9 -`, at most [`CHANNEL_BYTES_MAX`].
    pub channel: String,
    /// One line of what it brings, at most [`NOTES_BYTES_MAX`].
    pub notes: String,
    /// The console's accent colour, `#rrggbb`; empty for the default.
    #[serde(default)]
    pub accent: String,
    /// When it was made, where the publisher says so. Left out of reproducible releases.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created: Option<crate::time::Instant>,
    /// Versions of the protocol between boards that it speaks.
    pub protocol: ProtocolRange,
    /// Boards it is for.
    pub roles: Vec<Role>,
    /// How its contents come in few requests; absent in releases of publishers that made none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parcels: Option<Parcels>,
    /// Rebuilds the UKI from file contents; holds its size and digest.
    pub uki: R,
}

/// Why a manifest was refused although its signature holds: a mistake of the publisher, or a release
/// for other boards.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ManifestError {
    /// Longer than [`MANIFEST_BYTES_MAX`].
    #[error(
        "the manifest has {got} bytes, at most {MANIFEST_BYTES_MAX} are allowed; publish the release again"
    )]
    TooLong {
        /// Bytes found.
        got: usize,
    },
    /// A schema this release does not read.
    #[error(
        "the manifest has schema {got}, this release reads {MANIFEST_SCHEMA}; upgrade to a release in between first"
    )]
    Schema {
        /// Schema found.
        got: u32,
    },
    /// Not the JSON of a manifest.
    #[error("the manifest cannot be read: {detail}; publish the release again")]
    Malformed {
        /// The parser's words.
        detail: String,
    },
    /// A value outside its bounds.
    #[error("the manifest's `{field}` is not allowed: {rule}; publish the release again")]
    Field {
        /// Field.
        field: &'static str,
        /// The rule it breaks.
        rule: &'static str,
    },
    /// Not the release that the signed metadata names.
    #[error("the manifest is that of release {got}, not of {wanted}; publish the release again")]
    OtherRelease {
        /// Version found.
        got: Version,
        /// Version wanted.
        wanted: Version,
    },
    /// Half way through an upgrade of both boards they could not speak with each other.
    #[error(
        "release {version} speaks versions {} to {} of the protocol between boards and this board speaks {} to {}: half way through the upgrade the boards would not understand each other; upgrade to a release in between first",
        theirs.min, theirs.max, ours.min, ours.max
    )]
    Protocol {
        /// Its version.
        version: Version,
        /// What it speaks.
        theirs: ProtocolRange,
        /// What this board speaks.
        ours: ProtocolRange,
    },
    /// Not for this board.
    #[error("release {version} is not made for a {role} board; follow another channel")]
    OtherRole {
        /// Its version.
        version: Version,
        /// This board's role.
        role: Role,
    },
}

/// Only what tells which shape follows.
#[derive(Deserialize)]
struct SchemaOnly {
    schema: u32,
}

impl<R: Serialize + DeserializeOwned> Manifest<R> {
    /// Reads and checks a manifest.
    ///
    /// # Errors
    /// [`ManifestError`]: the release is not used.
    pub fn parse(bytes: &[u8]) -> Result<Self, ManifestError> {
        let malformed =
            |err: serde_json::Error| ManifestError::Malformed { detail: err.to_string() };
        if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > MANIFEST_BYTES_MAX {
            return Err(ManifestError::TooLong { got: bytes.len() });
        }
        let SchemaOnly { schema } = serde_json::from_slice(bytes).map_err(malformed)?;
        if schema != MANIFEST_SCHEMA {
            return Err(ManifestError::Schema { got: schema });
        }
        let manifest: Self = serde_json::from_slice(bytes).map_err(malformed)?;
        manifest.check()?;
        Ok(manifest)
    }

    /// The bytes of the manifest, the same for the same release.
    ///
    /// # Errors
    /// [`ManifestError`] when a device would refuse them.
    pub fn to_bytes(&self) -> Result<Vec<u8>, ManifestError> {
        self.check()?;
        let mut bytes = serde_json::to_vec(self)
            .map_err(|err| ManifestError::Malformed { detail: err.to_string() })?;
        bytes.push(b'\n');
        if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > MANIFEST_BYTES_MAX {
            return Err(ManifestError::TooLong { got: bytes.len() });
        }
        Ok(bytes)
    }
}

impl Parcels {
    fn is_bounded(&self) -> bool {
        let PackFile { bytes, index_bytes, .. } = self.pack;
        bytes <= PACK_BYTES_MAX && index_bytes <= bytes && self.patches.len() <= PATCHES_MAX
    }
}

impl<R> Manifest<R> {
    fn check(&self) -> Result<(), ManifestError> {
        let rules = [
            ("channel", is_channel(&self.channel), "1 to 32 of a-z 0-9 -"),
            (
                "notes",
                self.notes.len() <= NOTES_BYTES_MAX && !self.notes.chars().any(char::is_control),
                "one line of at most 400 bytes",
            ),
            ("accent", is_accent(&self.accent), "#rrggbb or empty"),
            ("protocol", self.protocol.min <= self.protocol.max, "min is at most max"),
            ("roles", (1..=8).contains(&self.roles.len()), "1 to 8 roles"),
            (
                "parcels",
                self.parcels.as_ref().is_none_or(Parcels::is_bounded),
                "an index inside a pack of at most 1 GiB, and at most 16 patches",
            ),
        ];
        match rules.into_iter().find(|&(_, holds, _)| !holds) {
            Some((field, _, rule)) => Err(ManifestError::Field { field, rule }),
            None => Ok(()),
        }
    }

    /// Checks that this is the release that was asked for, and that it is for this board.
    ///
    /// # Errors
    /// [`ManifestError::OtherRelease`] or [`ManifestError::OtherRole`].
    pub fn check_is(&self, wanted: Version, role: Role) -> Result<(), ManifestError> {
        if self.version != wanted {
            return Err(ManifestError::OtherRelease { got: self.version, wanted });
        }
        if !self.roles.contains(&role) {
            return Err(ManifestError::OtherRole { version: self.version, role });
        }
        Ok(())
    }
}

impl<R> Manifest<R> {
    /// Checks that a board that speaks `ours` can work beside one that runs this release.
    ///
    /// # Errors
    /// [`ManifestError::Protocol`].
    pub fn check_speaks(&self, ours: ProtocolRange) -> Result<(), ManifestError> {
        let (version, theirs) = (self.version, self.protocol);
        if theirs.meets(ours) {
            return Ok(());
        }
        Err(ManifestError::Protocol { version, theirs, ours })
    }
}

/// True for 1 to [`CHANNEL_BYTES_MAX`] of `a-z 0-9 -`.
pub fn is_channel(text: &str) -> bool {
    (1..=CHANNEL_BYTES_MAX).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}

fn is_accent(text: &str) -> bool {
    text.is_empty()
        || text
            .strip_prefix('#')
            .is_some_and(|hex| hex.len() == 6 && hex.bytes().all(|b| b.is_ascii_hexdigit()))
}

/// Path of a file content inside the repository: `blobs/<first 2 digits>/<blake3>`.
pub fn blob_path(digest: &Digest) -> String {
    let text = digest.to_string();
    let folder: String = text.chars().take(2).collect();
    format!("blobs/{folder}/{text}")
}

/// Path of a release's pack inside the repository.
pub fn pack_path(version: Version) -> String {
    format!("releases/{version}/pack")
}

/// Path inside the repository of the patch between two releases.
pub fn patch_path(from: Version, to: Version) -> String {
    format!("releases/{to}/from-{from}.patch")
}

/// What is added to a manifest's path for the same manifest compressed with zstd.
pub const MANIFEST_PACKED: &str = ".zst";

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn manifest() -> Manifest<Vec<u32>> {
        Manifest {
            schema: MANIFEST_SCHEMA,
            version: Version::new(2, 0, 0),
            channel: "stable".into(),
            notes: "a visible change".into(),
            accent: "#10a0ff".into(),
            created: None,
            protocol: ProtocolRange { min: 1, max: 1 },
            roles: Role::ALL.to_vec(),
            parcels: None,
            uki: vec![1, 2, 3],
        }
    }

    #[test]
    fn written_manifest_reads_back() {
        let bytes = manifest().to_bytes().unwrap();
        assert_eq!(Manifest::parse(&bytes).unwrap(), manifest());
    }

    #[test]
    fn bounds_are_enforced_on_both_sides() {
        let mut wrong = manifest();
        wrong.notes = "x".repeat(NOTES_BYTES_MAX + 1);
        assert!(matches!(wrong.to_bytes(), Err(ManifestError::Field { field: "notes", .. })));
        let mut wrong = manifest();
        wrong.roles.clear();
        let bytes = serde_json::to_vec(&wrong).unwrap();
        let refused = Manifest::<Vec<u32>>::parse(&bytes);
        assert!(matches!(refused, Err(ManifestError::Field { field: "roles", .. })));
    }

    #[test]
    fn manifest_without_parcels_is_that_of_older_releases() {
        let bytes = manifest().to_bytes().unwrap();
        assert!(!String::from_utf8(bytes).unwrap().contains("parcels"));
        let mut with = manifest();
        let digest = Digest([7; 32]);
        let pack = PackFile { bytes: 100, index_bytes: 10, index: digest };
        let patch = PatchFile { from: Version::new(1, 0, 0), bytes: 5, digest };
        with.parcels = Some(Parcels { pack, patches: vec![patch] });
        assert_eq!(Manifest::parse(&with.to_bytes().unwrap()).unwrap(), with);
        with.parcels =
            Some(Parcels { pack: PackFile { index_bytes: 101, ..pack }, patches: vec![] });
        let refused = with.to_bytes();
        assert!(matches!(refused, Err(ManifestError::Field { field: "parcels", .. })));
        // A reader that does not know the field takes the release all the same.
        #[derive(Deserialize)]
        struct Older {
            schema: u32,
            uki: Vec<u32>,
        }
        with.parcels = Some(Parcels { pack, patches: vec![patch] });
        let older: Older = serde_json::from_slice(&with.to_bytes().unwrap()).unwrap();
        assert_eq!((older.schema, older.uki), (MANIFEST_SCHEMA, vec![1, 2, 3]));
    }

    #[test]
    fn newer_schema_is_told_apart_from_damage() {
        let refused = Manifest::<Vec<u32>>::parse(br#"{"schema": 9, "surprise": true}"#);
        assert_eq!(refused, Err(ManifestError::Schema { got: 9 }));
    }

    #[test]
    fn release_for_other_boards_is_refused() {
        let mut only_storage = manifest();
        only_storage.roles = vec![Role::Storage];
        let version = only_storage.version;
        assert!(only_storage.check_is(version, Role::Storage).is_ok());
        assert!(only_storage.check_is(version, Role::Compute).is_err());
        assert!(only_storage.check_is(Version::new(3, 0, 0), Role::Storage).is_err());
    }

    #[test]
    fn release_that_speaks_another_protocol_is_refused() {
        let range = |min, max| ProtocolRange { min, max };
        let mut newer = manifest();
        newer.protocol = range(2, 4);
        for ours in [range(1, 2), range(4, 4), range(1, 9)] {
            assert_eq!(newer.check_speaks(ours), Ok(()));
        }
        for ours in [range(1, 1), range(5, 6)] {
            assert!(newer.check_speaks(ours).unwrap_err().to_string().contains("in between"));
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_answered(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            let _ = Manifest::<Vec<u32>>::parse(&bytes);
        }
    }
}
