//! What the pool agent must know after a restart or power cut and the data disks do not tell: a small file
//! on STATE.
//!
//! - `making`: serials of disks that were found blank, and on which the pool is being made since. The
//!   remains of a run that a power cut ended are then known to be our own.
//! - `missed`: serials of disks that were away while the pool was written to. Such a disk alone must not be
//!   mounted: two halves of a mirror that were changed apart cannot be joined again.

use goblin_core_types::paths;
use goblin_sys::files;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

const BYTES_MAX: usize = 64 * 1024;

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
struct Content {
    making: BTreeSet<String>,
    missed: BTreeSet<String>,
}

/// The file and what it says.
#[derive(Debug)]
pub(crate) struct Memory {
    path: PathBuf,
    content: Content,
}

impl Memory {
    /// On the board's STATE.
    pub(crate) fn of_board() -> Self {
        Self::at(Path::new(paths::STATE).join("pool/memory.json"))
    }

    /// An absent file remembers nothing, and so does a damaged one: it was written by rename.
    pub(crate) fn at(path: PathBuf) -> Self {
        let content = match files::read_bounded(&path, BYTES_MAX) {
            Ok(bytes) => serde_json::from_slice(&bytes).unwrap_or_else(|err| {
                tracing::warn!(path = %path.display(), %err, "what the pool agent remembered is lost");
                Content::default()
            }),
            Err(err) => {
                if err.kind() != io::ErrorKind::NotFound {
                    tracing::warn!(path = %path.display(), %err, "what the pool agent remembers cannot be read");
                }
                Content::default()
            }
        };
        Self { path, content }
    }

    /// Disks on which the pool is being made.
    pub(crate) fn is_making(&self, serial: &str) -> bool {
        self.content.making.contains(serial)
    }

    /// Disks that were away while the pool was written to.
    pub(crate) const fn missed(&self) -> &BTreeSet<String> {
        &self.content.missed
    }

    /// Durable before the first byte is written to the disks.
    pub(crate) fn begin_making(&mut self, serials: &[String]) -> io::Result<()> {
        self.change(|content| content.making = serials.iter().cloned().collect())
    }

    /// The pool was made and mounted.
    pub(crate) fn end_making(&mut self) -> io::Result<()> {
        self.change(|content| content.making.clear())
    }

    /// Durable before the pool is written to without these disks.
    pub(crate) fn add_missed(
        &mut self,
        serials: impl IntoIterator<Item = String>,
    ) -> io::Result<()> {
        self.change(|content| content.missed.extend(serials))
    }

    fn change(&mut self, change: impl FnOnce(&mut Content)) -> io::Result<()> {
        let mut content = self.content.clone();
        change(&mut content);
        if content == self.content {
            return Ok(());
        }
        if let Some(dir) = self.path.parent() {
            DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
            if let Some(above) = dir.parent() {
                std::fs::File::open(above)?.sync_all()?;
            }
        }
        files::replace(&self.path, &serde_json::to_vec(&content)?, 0o600)?;
        self.content = content;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_remembered_outlives_the_process() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pool/memory.json");
        let mut memory = Memory::at(path.clone());
        memory.begin_making(&["A".into(), "B".into()]).unwrap();
        memory.add_missed(["B".to_owned()]).unwrap();
        let mut again = Memory::at(path.clone());
        assert!(again.is_making("A") && again.is_making("B") && !again.is_making("C"));
        assert_eq!(again.missed().len(), 1);
        again.end_making().unwrap();
        let again = Memory::at(path.clone());
        assert!(!again.is_making("A"));
        assert!(again.missed().contains("B"));
        std::fs::write(&path, b"{torn").unwrap();
        assert!(Memory::at(path).missed().is_empty());
    }
}
