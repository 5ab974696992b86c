//! Runs of this agent that ended in order.
//!
//! What a client wrote and did not sync may be lost when the board ends, and the client has to be told: the next use of
//! such a file fails. After an end in order that would be a false alarm. A run that is asked to stop lets nobody in,
//! cuts every connection, puts on the disks what it took, and only then writes down its name. Names are random and used
//! once, so a list that could not be changed for whatever reason never claims too much.

use crate::agent::hex_of;
use crate::gate::random;
use goblin_sys::files;
use serde::{Deserialize, Serialize};
use std::io;
use std::path::{Path, PathBuf};

const SCHEMA: u32 = 1;
/// Names that are kept: a client that was away while the board started so many times hears the false alarm.
const RUNS_MAX: usize = 16;
/// Characters of a name.
const NAME_MAX: usize = 64;
/// Longest file in bytes.
const FILE_BYTES_MAX: usize = 4096;

const _: () = assert!(RUNS_MAX * (NAME_MAX + 4) + 64 < FILE_BYTES_MAX);

#[derive(Debug, Default, Serialize, Deserialize)]
struct Stored {
    schema: u32,
    /// Oldest first.
    ended: Vec<String>,
}

/// This run, and those before it whose clients lost nothing.
#[derive(Debug, Clone)]
pub struct Runs {
    path: PathBuf,
    own: String,
    ended: Vec<String>,
}

impl Runs {
    /// Begins a run; a list that is not there or damaged claims nothing.
    ///
    /// # Errors
    /// When the kernel gives no random numbers.
    pub fn begin(path: &Path) -> io::Result<Self> {
        let stored = files::read_bounded(path, FILE_BYTES_MAX)
            .ok()
            .and_then(|bytes| serde_json::from_slice::<Stored>(&bytes).ok())
            .filter(|stored| stored.schema == SCHEMA && stored.ended.len() <= RUNS_MAX);
        let mut ended = stored.unwrap_or_default().ended;
        ended.retain(|name| !name.is_empty() && name.len() <= NAME_MAX);
        let own = hex_of(random()?);
        Ok(Self { path: path.into(), own, ended })
    }

    /// Name of this run.
    pub fn own(&self) -> &str {
        &self.own
    }

    /// Names of runs that ended in order.
    pub fn ended(&self) -> &[String] {
        &self.ended
    }

    /// Writes down, for good, that this run ended in order. Only for when nothing more is answered and all that was
    /// taken is on the disks.
    ///
    /// # Errors
    /// When the list cannot be written; this run then counts as cut off.
    pub fn end(mut self) -> io::Result<()> {
        self.ended.push(self.own);
        let over = self.ended.len().saturating_sub(RUNS_MAX);
        self.ended.drain(..over);
        let bytes = serde_json::to_vec(&Stored { schema: SCHEMA, ended: self.ended })?;
        files::replace(&self.path, &bytes, 0o600)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_runs_that_ended_in_order_are_known_later() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("runs.json");
        let first = Runs::begin(&path).unwrap();
        let name = first.own().to_owned();
        assert!(first.ended().is_empty());
        first.end().unwrap();
        let cut_off = Runs::begin(&path).unwrap();
        assert_eq!(cut_off.ended(), std::slice::from_ref(&name));
        let third = Runs::begin(&path).unwrap();
        assert_eq!(third.ended(), [name], "a run that was cut off is not in the list");
        assert!(third.own() != cut_off.own());
    }

    #[test]
    fn the_list_is_bounded_and_a_damaged_one_claims_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("runs.json");
        let mut last = String::new();
        for _ in 0..RUNS_MAX + 3 {
            let run = Runs::begin(&path).unwrap();
            last = run.own().to_owned();
            run.end().unwrap();
        }
        let run = Runs::begin(&path).unwrap();
        assert_eq!((run.ended().len(), run.ended().last()), (RUNS_MAX, Some(&last)));
        let bytes = std::fs::read(&path).unwrap();
        for torn in [&b""[..], b"{}", &bytes[..bytes.len() / 2], &[0; FILE_BYTES_MAX + 1]] {
            std::fs::write(&path, torn).unwrap();
            assert!(Runs::begin(&path).unwrap().ended().is_empty());
        }
    }
}
