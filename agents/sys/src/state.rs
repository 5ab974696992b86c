//! Each agent's part of the board's status: one JSON file in the unit's own folder below
//! [`paths::RUN_STATE`], replaced whole. Only the unit itself can write there.

use crate::files;
use goblin_core_types::paths;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::io;
use std::path::PathBuf;

/// Largest part of a status in bytes.
const PART_BYTES_MAX: usize = 1 << 20;
/// Parts that bear another name than the unit that writes them.
const OWNERS: [(&str, &str); 4] =
    [("connections", "share"), ("link", "net"), ("ntp", "net"), ("slots", "update")];

fn part_path(part: &str) -> PathBuf {
    let owner = OWNERS.iter().find(|(name, _)| *name == part).map_or(part, |(_, unit)| unit);
    PathBuf::from(paths::RUN_STATE).join(owner).join(format!("{part}.json"))
}

/// Publishes an agent's part.
///
/// # Errors
/// When `/run` is full or absent; the old part stays.
pub fn write<T: Serialize>(agent: &str, part: &T) -> io::Result<()> {
    let path = part_path(agent);
    // PID 1 made the folder for a unit; a program started by hand makes its own.
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    files::replace_volatile(&path, &serde_json::to_vec(part)?, 0o644)
}

/// Reads an agent's part, or `None` while the agent has not written one (or wrote one that this
/// release does not understand).
pub fn read<T: DeserializeOwned>(agent: &str) -> Option<T> {
    let bytes = files::read_bounded(&part_path(agent), PART_BYTES_MAX).ok()?;
    serde_json::from_slice(&bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_lies_with_the_unit_that_writes_it() {
        let path = |part: &str| part_path(part).to_string_lossy().into_owned();
        assert_eq!(path("net"), "/run/goblin/state/net/net.json");
        assert_eq!(path("link"), "/run/goblin/state/net/link.json");
        assert_eq!(path("connections"), "/run/goblin/state/share/connections.json");
        assert_eq!(path("slots"), "/run/goblin/state/update/slots.json");
    }
}
