//! Each agent's part of the board's status: one JSON file in [`paths::RUN_STATE`], replaced whole.

use crate::files;
use goblin_core_types::paths;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::io;
use std::path::PathBuf;

/// Largest part of a status in bytes.
const PART_BYTES_MAX: usize = 1 << 20;

fn part_path(agent: &str) -> PathBuf {
    PathBuf::from(paths::RUN_STATE).join(format!("{agent}.json"))
}

/// Publishes an agent's part.
///
/// # Errors
/// When `/run` is full or absent; the old part stays.
pub fn write<T: Serialize>(agent: &str, part: &T) -> io::Result<()> {
    std::fs::create_dir_all(paths::RUN_STATE)?;
    files::replace_volatile(&part_path(agent), &serde_json::to_vec(part)?, 0o644)
}

/// Reads an agent's part, or `None` while the agent has not written one (or wrote one that this
/// release does not understand).
pub fn read<T: DeserializeOwned>(agent: &str) -> Option<T> {
    let bytes = files::read_bounded(&part_path(agent), PART_BYTES_MAX).ok()?;
    serde_json::from_slice(&bytes).ok()
}
