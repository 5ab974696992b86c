//! What a running board says of itself in small files: its role, its boot, its release.

use crate::files;
use goblin_core_types::{Role, Version, paths};
use serde::Deserialize;
use std::path::Path;

/// Longest of the files read here, in bytes.
const BYTES_MAX: usize = 64 * 1024;

/// The role, as provisioning wrote it; `None` before, and on a board without one.
pub fn role() -> Option<Role> {
    text(Path::new(paths::ROLE_FILE))?.trim().parse().ok()
}

/// The kernel's boot id: another one after every start. Empty without `/proc`.
pub fn boot_id() -> String {
    let id = text(Path::new("/proc/sys/kernel/random/boot_id")).unwrap_or_default();
    id.trim().to_owned()
}

/// The running release, as the base image says: [`paths::RELEASE`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Release {
    /// Its version.
    pub version: Option<Version>,
    /// One line of what it brings.
    pub notes: String,
    /// Seconds since 1970 when it was made, where it says so.
    pub built_unix_s: Option<u64>,
    /// Colour that marks it on a screen, `#rrggbb`, where it says so.
    pub accent: Option<String>,
}

/// The running release; empty where the image does not say.
pub fn release() -> Release {
    release_at(Path::new(paths::RELEASE))
}

/// A release as another file describes it; empty where it does not.
pub fn release_at(path: &Path) -> Release {
    let bytes = files::read_bounded(path, BYTES_MAX).ok();
    bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default()
}

fn text(path: &Path) -> Option<String> {
    String::from_utf8(files::read_bounded(path, BYTES_MAX).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_release_says_what_it_knows() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("release.json");
        assert_eq!(release_at(&path), Release::default());
        std::fs::write(&path, br#"{"version": "2.0.0", "notes": "new", "accent": "x"}"#).unwrap();
        let release = release_at(&path);
        assert_eq!(release.version, Some(Version::new(2, 0, 0)));
        assert_eq!((release.notes.as_str(), release.built_unix_s), ("new", None));
        assert_eq!(release.accent.as_deref(), Some("x"));
    }

    #[test]
    fn a_boot_has_an_id() {
        assert_eq!(boot_id().len(), 36);
    }
}
