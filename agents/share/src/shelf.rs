//! The shares that are served now; they come and go while the agent runs.

use crate::Share;
use goblin_core_trust::ShareSpec;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

/// Permission bits of a share's directory when it is made.
const SHARE_MODE: u32 = 0o755;

/// Shares, in the order in which clients see them.
#[derive(Debug, Clone)]
pub struct Shelf(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    /// Where directories of new shares are made; nowhere when the shares are fixed.
    parent: Option<PathBuf>,
    shares: RwLock<Arc<[Arc<Share>]>>,
}

/// Why a share's directory cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{}: {source}; it must be a directory on the pool", path.display())]
pub struct ShelfError {
    /// The directory.
    pub path: PathBuf,
    /// What the file system said.
    #[source]
    pub source: io::Error,
}

impl From<Arc<[Arc<Share>]>> for Shelf {
    fn from(shares: Arc<[Arc<Share>]>) -> Self {
        Self(Arc::new(Inner { parent: None, shares: RwLock::new(shares) }))
    }
}

impl Shelf {
    /// Shares in directories below `parent`, which are made where they are not there.
    ///
    /// # Errors
    /// [`ShelfError`].
    pub fn open(parent: &Path, specs: &[ShareSpec]) -> Result<Self, ShelfError> {
        make(parent).map_err(|source| ShelfError { path: parent.into(), source })?;
        let shares = RwLock::new(Arc::from([]));
        let shelf = Self(Arc::new(Inner { parent: Some(parent.into()), shares }));
        shelf.set(specs)?;
        Ok(shelf)
    }

    /// The shares of now.
    pub fn all(&self) -> Arc<[Arc<Share>]> {
        self.0.shares.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Puts on the disks all that was written to shares, those that are served no more included.
    ///
    /// # Errors
    /// A disk's, also one that it had since a share is served.
    pub fn sync(&self) -> io::Result<()> {
        self.all().iter().try_for_each(|share| share.sync())?;
        let Some(parent) = &self.0.parent else { return Ok(()) };
        Ok(rustix::fs::syncfs(File::open(parent)?)?)
    }

    /// Serves these from now on. One that stays as it is stays the same: its counts go on. Directories are never
    /// removed.
    ///
    /// # Errors
    /// [`ShelfError`]; the shares are then as they were.
    pub fn set(&self, specs: &[ShareSpec]) -> Result<(), ShelfError> {
        let Some(parent) = &self.0.parent else { return Ok(()) };
        let before = self.all();
        let share = |spec: &ShareSpec| {
            let same =
                |old: &&Arc<Share>| (old.name(), old.read_only) == (&spec.name, spec.read_only);
            if let Some(share) = before.iter().find(same) {
                return Ok(share.clone());
            }
            let path = parent.join(&spec.name);
            make(&path)
                .and_then(|()| Share::new(&spec.name, &path, spec.read_only))
                .map(Arc::new)
                .map_err(|source| ShelfError { path, source })
        };
        let after = specs.iter().map(share).collect::<Result<Arc<[Arc<Share>]>, _>>()?;
        *self.0.shares.write().unwrap_or_else(PoisonError::into_inner) = after;
        Ok(())
    }
}

fn make(path: &Path) -> io::Result<()> {
    match std::fs::create_dir(path) {
        Err(err) if err.kind() != io::ErrorKind::AlreadyExists => Err(err),
        Err(_) => Ok(()),
        Ok(()) => Ok(rustix::fs::chmod(path, rustix::fs::Mode::from_raw_mode(SHARE_MODE))?),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(name: &str) -> ShareSpec {
        ShareSpec { name: name.into(), read_only: false }
    }

    #[test]
    fn shares_are_made_once_and_kept() {
        let dir = tempfile::tempdir().unwrap();
        let parent = dir.path().join("shares");
        let shelf = Shelf::open(&parent, &[spec("data")]).unwrap();
        std::fs::write(parent.join("data/file"), b"x").unwrap();
        let data = shelf.all()[0].clone();
        shelf.set(&[spec("new"), spec("data")]).unwrap();
        assert!(Arc::ptr_eq(&shelf.all()[1], &data), "its counts go on");
        shelf.set(&[]).unwrap();
        assert!(shelf.all().is_empty());
        assert!(parent.join("data/file").exists() && parent.join("new").is_dir());
    }

    #[test]
    fn a_file_in_a_shares_place_is_named_and_changes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("data"), b"x").unwrap();
        let err = Shelf::open(dir.path(), &[spec("data")]).unwrap_err();
        assert!(err.to_string().contains("data"));
        let shelf = Shelf::open(dir.path(), &[spec("good")]).unwrap();
        shelf.set(&[spec("good"), spec("data")]).unwrap_err();
        assert_eq!(shelf.all().len(), 1);
    }
}
