//! What a release is made of: the part of a CycloneDX list that comparing two releases needs.
//!
//! A release's list is a signed target, [`sbom_path`]. Whoever audits a release reads the whole of it with
//! the usual tools; a board reads names and versions. Source: CycloneDX 1.6, JSON; Package URL.

use goblin_core_types::{PACKAGES_MAX, PackageChange, Version};
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};

/// Largest list in bytes.
pub const SBOM_BYTES_MAX: u64 = 2 << 20;
/// Longest name or version that is told, in characters.
const WORD_CHARS_MAX: usize = 80;
/// Largest changelog in bytes.
pub const CHANGELOG_BYTES_MAX: u64 = 256 << 10;

/// Path of a release's list inside the repository.
pub fn sbom_path(version: Version) -> String {
    format!("releases/{version}/sbom.cdx.json")
}

/// Path of a release's changelog inside the repository.
pub fn changelog_path(version: Version) -> String {
    format!("releases/{version}/changelog.txt")
}

/// A list that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SbomError {
    /// Not such a list.
    #[error("the list of packages cannot be read: {detail}; publish the release again")]
    Malformed {
        /// The parser's words.
        detail: String,
    },
    /// More than are ever looked at.
    #[error("the list names {got} packages, at most {PACKAGES_MAX} are allowed")]
    TooMany {
        /// How many.
        got: usize,
    },
}

#[derive(Deserialize)]
struct List {
    #[serde(rename = "bomFormat")]
    format: String,
    #[serde(default)]
    components: Vec<Component>,
}

#[derive(Deserialize)]
struct Component {
    name: String,
    #[serde(default)]
    version: String,
    #[serde(default)]
    purl: String,
}

/// Packages of a release: versions by kind and name. Two versions of one crate may be in.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Packages(BTreeMap<(String, String), BTreeSet<String>>);

impl Packages {
    /// Reads a list.
    ///
    /// # Errors
    /// [`SbomError`].
    pub fn parse(bytes: &[u8]) -> Result<Self, SbomError> {
        let list: List = serde_json::from_slice(bytes)
            .map_err(|err| SbomError::Malformed { detail: err.to_string() })?;
        if list.format != "CycloneDX" {
            return Err(SbomError::Malformed { detail: "it is not CycloneDX".into() });
        }
        if list.components.len() > PACKAGES_MAX {
            return Err(SbomError::TooMany { got: list.components.len() });
        }
        let word = |text: &str| -> String {
            text.chars().filter(|c| !c.is_control()).take(WORD_CHARS_MAX).collect()
        };
        let mut packages = BTreeMap::new();
        for Component { name, version, purl } in list.components {
            // `pkg:deb/debian/NAME@VERSION`: the type says where names and versions come from.
            let kind = purl.strip_prefix("pkg:").and_then(|rest| rest.split('/').next());
            let kind = word(kind.unwrap_or_default());
            let versions: &mut BTreeSet<String> = packages.entry((kind, word(&name))).or_default();
            versions.insert(word(&version));
        }
        Ok(Self(packages))
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// What is not the same in `other`, by kind and name.
    pub fn changes(&self, other: &Self) -> Vec<PackageChange> {
        let mut keys: Vec<_> = self.0.keys().chain(other.0.keys()).collect();
        keys.sort_unstable();
        keys.dedup();
        let text = |side: &Self, key: &(String, String)| -> Option<String> {
            let versions: Vec<&str> = side.0.get(key)?.iter().map(String::as_str).collect();
            Some(versions.join(", "))
        };
        keys.into_iter()
            .filter(|key| self.0.get(*key) != other.0.get(*key))
            .map(|key| PackageChange {
                kind: key.0.clone(),
                name: key.1.clone(),
                a: text(self, key),
                b: text(other, key),
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn packages(list: &[(&str, &str, &str)]) -> Packages {
        let components: Vec<_> = list
            .iter()
            .map(|(kind, name, version)| {
                let purl = format!("pkg:{kind}/{name}@{version}");
                serde_json::json!({"type": "library", "name": name, "version": version, "purl": purl})
            })
            .collect();
        let list = serde_json::json!({"bomFormat": "CycloneDX", "components": components});
        Packages::parse(list.to_string().as_bytes()).unwrap()
    }

    #[test]
    fn changes_are_told_by_kind_and_name() {
        let a = packages(&[
            ("deb", "libc6", "2.41-11"),
            ("cargo", "syn", "1.0"),
            ("cargo", "old", "1"),
        ]);
        let b = packages(&[
            ("deb", "libc6", "2.41-12"),
            ("cargo", "syn", "1.0"),
            ("cargo", "syn", "2.0"),
            ("deb", "old", "1"),
        ]);
        let told: Vec<String> = a
            .changes(&b)
            .into_iter()
            .map(|c| format!("{}/{} {:?} {:?}", c.kind, c.name, c.a, c.b))
            .collect();
        assert_eq!(
            told,
            [
                "cargo/old Some(\"1\") None",
                "cargo/syn Some(\"1.0\") Some(\"1.0, 2.0\")",
                "deb/libc6 Some(\"2.41-11\") Some(\"2.41-12\")",
                "deb/old None Some(\"1\")",
            ]
        );
        assert_eq!(a.changes(&a), []);
    }

    #[test]
    fn other_lists_are_refused() {
        for odd in ["", "[]", "{}", r#"{"bomFormat": "SPDX"}"#] {
            assert!(Packages::parse(odd.as_bytes()).is_err(), "{odd}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_answered(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Packages::parse(&bytes);
        }
    }
}
