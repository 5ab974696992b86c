//! The changes of late, for people who want to know what was done, and to undo it.

use goblin_core_types::PastChange;
use goblin_sys::files;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

const SCHEMA: u32 = 1;
/// Changes that are kept.
const CHANGES_MAX: usize = 200;
/// Longest file in bytes.
const FILE_BYTES_MAX: usize = 1 << 20;
/// Longest command in a file that is kept, in bytes: a group of the most users of the longest names is longer, and
/// is cut.
const COMMAND_BYTES_MAX: usize = 2000;

const _: () = assert!(CHANGES_MAX * COMMAND_BYTES_MAX * 2 < FILE_BYTES_MAX);

#[derive(Debug, Default, Serialize, Deserialize)]
struct Stored {
    schema: u32,
    changes: Vec<PastChange>,
}

/// A file of changes. Rights do not hang on it: it may be lost or damaged.
#[derive(Debug)]
pub(crate) struct History {
    path: PathBuf,
    changes: Vec<PastChange>,
}

impl History {
    /// What is kept there; nothing when it cannot be read.
    pub(crate) fn open(path: &Path) -> Self {
        let stored = files::read_bounded(path, FILE_BYTES_MAX)
            .ok()
            .and_then(|bytes| serde_json::from_slice::<Stored>(&bytes).ok())
            .filter(|stored| stored.schema == SCHEMA && stored.changes.len() <= CHANGES_MAX);
        let changes = stored.unwrap_or_default().changes;
        Self { path: path.into(), changes }
    }

    pub(crate) fn all(&self) -> &[PastChange] {
        &self.changes
    }

    /// Writes down a change that was made. That it cannot be written down does not unmake it.
    pub(crate) fn note(&mut self, mut change: PastChange) {
        for command in [&mut change.command, &mut change.undo] {
            if command.len() > COMMAND_BYTES_MAX {
                // Names are ASCII: a character is a byte.
                let kept = command.chars().take(COMMAND_BYTES_MAX.saturating_sub(4));
                *command = kept.chain(" ...".chars()).collect();
            }
        }
        self.changes.push(change);
        let over = self.changes.len().saturating_sub(CHANGES_MAX);
        self.changes.drain(..over);
        let stored = Stored { schema: SCHEMA, changes: self.changes.clone() };
        let bytes = serde_json::to_vec(&stored).unwrap_or_default();
        if let Err(err) = files::replace(&self.path, &bytes, 0o600) {
            tracing::warn!(path = %self.path.display(), %err, "a change of rights is not written down");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(number: u64, command: &str) -> PastChange {
        PastChange { unix_s: number, command: command.into(), undo: "goblin x".into() }
    }

    #[test]
    fn the_newest_are_kept_and_damage_is_no_error() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("history");
        let mut history = History::open(&path);
        for number in 0..210 {
            history.note(change(number, &"x".repeat(5000)));
        }
        let again = History::open(&path);
        assert_eq!(again.all().len(), CHANGES_MAX);
        assert_eq!(again.all().first().unwrap().unix_s, 10);
        assert!(again.all().iter().all(|one| one.command.len() <= COMMAND_BYTES_MAX));
        std::fs::write(&path, b"{").unwrap();
        assert!(History::open(&path).all().is_empty());
    }
}
