//! What a person set, what was begun, and what failed before anything was armed: small files of the store,
//! each replaced whole, so that a power cut leaves old or new.

use crate::error::UpdateError;
use goblin_core_types::{UpdateSettings, UpdateSource, Version};
use goblin_core_update::life::Failed;
use goblin_sys::files;
use goblin_sys::writer::Writer;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::io;
use std::path::PathBuf;

/// Largest note in bytes.
const NOTE_BYTES_MAX: usize = 16 << 10;
/// Times that a release is fetched anew after the board was restarted in the middle of it.
pub(crate) const RESUMES_MAX: u32 = 3;

/// A release that is being fetched and built.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Intent {
    /// The release.
    pub(crate) to: Version,
    /// Where it is taken from, when not from the board's own source.
    #[serde(default)]
    pub(crate) from: Option<UpdateSource>,
    /// Times it was taken up again after a restart.
    #[serde(default)]
    pub(crate) resumes: u32,
}

/// What failed.
#[derive(Debug, Serialize, Deserialize)]
struct Failure {
    version: Option<Version>,
    reason: String,
}

/// The notes in the store's folder.
#[derive(Debug, Clone)]
pub(crate) struct Notes {
    root: PathBuf,
    writer: Writer,
}

impl Notes {
    /// In the folder `root`.
    pub(crate) fn new(root: PathBuf, writer: Writer) -> Self {
        Self { root, writer }
    }

    /// What a person set; nothing where that cannot be read.
    pub(crate) fn settings(&self) -> UpdateSettings {
        self.read("settings.json").unwrap_or_default()
    }

    /// Keeps what a person set.
    pub(crate) fn keep_settings(&self, settings: &UpdateSettings) -> Result<(), UpdateError> {
        self.write("settings.json", Some(settings))
    }

    /// What was begun and not ended.
    pub(crate) fn intent(&self) -> Option<Intent> {
        self.read("intent.json")
    }

    /// Keeps or forgets what was begun.
    pub(crate) fn keep_intent(&self, intent: Option<&Intent>) -> Result<(), UpdateError> {
        self.write("intent.json", intent)
    }

    /// What failed since the last report of the boot record.
    pub(crate) fn failed(&self) -> Option<Failed> {
        let Failure { version, reason } = self.read("failed.json")?;
        Some(Failed { version, reason })
    }

    /// Keeps or forgets what failed.
    pub(crate) fn keep_failed(&self, failed: Option<&Failed>) -> Result<(), UpdateError> {
        let note = failed.cloned().map(|Failed { version, reason }| Failure { version, reason });
        self.write("failed.json", note.as_ref())
    }

    fn read<T: DeserializeOwned>(&self, name: &str) -> Option<T> {
        let path = self.root.join(name);
        let bytes = match files::read_bounded(&path, NOTE_BYTES_MAX) {
            Ok(bytes) => bytes,
            Err(err) => {
                if err.kind() != io::ErrorKind::NotFound {
                    tracing::warn!(%err, path = %path.display(), "a note of the updater is unreadable");
                }
                return None;
            }
        };
        let read = serde_json::from_slice(&bytes);
        read.map_err(|err| tracing::warn!(%err, name, "a note of the updater is damaged")).ok()
    }

    fn write<T: Serialize>(&self, name: &str, note: Option<&T>) -> Result<(), UpdateError> {
        let path = self.root.join(name);
        let broken = |source| UpdateError::Store { path: path.clone(), source };
        let Some(note) = note else {
            return match self.writer.remove(&path) {
                Err(err) if err.kind() != io::ErrorKind::NotFound => Err(broken(err)),
                _ => Ok(()),
            };
        };
        let bytes = serde_json::to_vec(note).map_err(|err| broken(err.into()))?;
        if files::read_bounded(&path, NOTE_BYTES_MAX).is_ok_and(|old| old == bytes) {
            return Ok(());
        }
        std::fs::create_dir_all(&self.root).map_err(broken)?;
        self.writer.replace(&path, &bytes, 0o600).map_err(broken)
    }
}
