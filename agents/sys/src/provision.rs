//! The provisioning file that was applied to this board, as every agent reads it.

use crate::files;
use goblin_core_config::{PROVISION_BYTES_MAX, Provision, ProvisionError, parse_bytes};
use goblin_core_types::paths;
use std::io;
use std::path::{Path, PathBuf};

/// Why there is no provisioning to work with.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// No file was applied to this board yet: it has no role. Serve what works without one.
    #[error(
        "this board is not provisioned: write a provisioning file to its disk with `cargo xtask flash`"
    )]
    NotProvisioned,
    /// STATE could not be read.
    #[error("{} cannot be read: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// The applied file is damaged, or was written by a release that knows more keys.
    #[error("{} is not usable: {source}", path.display())]
    Invalid {
        /// The file.
        path: PathBuf,
        /// Field and remedy.
        source: ProvisionError,
    },
}

/// Reads the provisioning file that was applied to this board ([`paths::PROVISION`]).
///
/// # Errors
/// [`LoadError::NotProvisioned`] when there is none; the other variants are for a person to act on.
pub fn load() -> Result<Provision, LoadError> {
    load_from(Path::new(paths::PROVISION))
}

/// Reads a provisioning file from another place: the ESP, or a test's directory.
///
/// # Errors
/// As [`load`]; a file of nothing but blanks counts as none.
pub fn load_from(path: &Path) -> Result<Provision, LoadError> {
    let io_error = |source| LoadError::Io { path: path.to_owned(), source };
    let bytes = match files::read_bounded(path, PROVISION_BYTES_MAX) {
        Ok(bytes) => bytes,
        Err(err) if err.kind() == io::ErrorKind::NotFound => return Err(LoadError::NotProvisioned),
        Err(err) => return Err(io_error(err)),
    };
    match parse_bytes(&bytes) {
        Ok(provision) => Ok(provision),
        Err(ProvisionError::Missing) => Err(LoadError::NotProvisioned),
        Err(source) => Err(LoadError::Invalid { path: path.to_owned(), source }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn absent_and_blank_files_are_not_provisioned() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("provision.toml");
        assert!(matches!(load_from(&path), Err(LoadError::NotProvisioned)));
        std::fs::write(&path, "\n\n\n").unwrap();
        assert!(matches!(load_from(&path), Err(LoadError::NotProvisioned)));
    }

    #[test]
    fn damage_is_told_apart_from_absence() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("provision.toml");
        std::fs::write(&path, b"schema = 1\0\0\0").unwrap();
        assert!(matches!(load_from(&path), Err(LoadError::Invalid { .. })));
        std::fs::remove_file(&path).unwrap();
        std::fs::create_dir(&path).unwrap();
        assert!(matches!(load_from(&path), Err(LoadError::Io { .. })));
    }
}
