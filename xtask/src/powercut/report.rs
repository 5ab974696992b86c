//! `target/powercut/report.json`.

use super::cuts::{Cut, How};
use crate::host;
use anyhow::Result;
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::Path;

/// Failures described; more are only counted.
const FAILURES_MAX: usize = 100;
/// Disks of failures that are kept.
const DISKS_KEPT_MAX: usize = 3;

/// What a run found.
#[derive(Debug, Default, Serialize)]
pub(super) struct Report {
    /// Distinct states.
    pub(super) states: u64,
    /// States and boots that failed.
    pub(super) failed: u64,
    /// States booted for real.
    pub(super) booted: u64,
    /// Cuts tried, equal states included.
    pub(super) examined: u64,
    /// Stretches between flushes.
    pub(super) flushes: u64,
    /// Requests of the log.
    pub(super) log_entries: u64,
    /// Where choices come from.
    pub(super) seed: u64,
    /// Every prefix was looked at.
    pub(super) full: bool,
    /// Seconds of the recording, the replay and the boots.
    pub(super) seconds: BTreeMap<&'static str, u64>,
    /// Distinct states of each phase.
    pub(super) states_by_phase: BTreeMap<String, u64>,
    /// Cuts that differ in STATE alone, none of them among the states: some are booted.
    pub(super) cuts_of_state: u64,
    /// States of each phase that were booted.
    pub(super) booted_by_phase: BTreeMap<String, u64>,
    /// Precautions that were taken away, one at a time.
    pub(super) mutants: u64,
    /// Those whose absence the replay noticed.
    pub(super) mutants_killed: u64,
    /// Each of them.
    pub(super) mutants_seen: Vec<Mutant>,
    /// Traces on the ESP that harm nobody, in how many states.
    pub(super) harmless: BTreeMap<String, u64>,
    /// Each state booted, in words.
    pub(super) boots: Vec<String>,
    /// The failures.
    pub(super) failures: Vec<Failure>,
}

/// A precaution that was taken away.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Mutant {
    /// What is missing.
    name: String,
    /// The replay noticed.
    pub(super) killed: bool,
    /// States that were looked at.
    pub(super) states: u64,
    /// What it noticed.
    pub(super) seen: String,
}

impl Mutant {
    pub(super) fn new(name: &str) -> Self {
        Self { name: name.to_owned(), killed: false, states: 0, seen: String::new() }
    }

    /// One line for a person.
    pub(super) fn sentence(&self) -> String {
        let verdict = if self.killed { "noticed" } else { "NOT NOTICED" };
        format!("without the {}: {verdict} after {} states, {}", self.name, self.states, self.seen)
    }
}

/// A state that must not be.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Failure {
    seed: u64,
    /// Log entries before this one were flushed.
    flushed: usize,
    /// Entries written of the others: `ENTRY` or `ENTRY[FIRST..END]` in sectors of the entry.
    written: String,
    how: How,
    phase: String,
    /// What is wrong.
    pub(super) problems: Vec<String>,
}

impl Failure {
    pub(super) fn new(
        seed: u64,
        flushed: usize,
        cut: &Cut,
        phase: &str,
        problems: Vec<String>,
    ) -> Self {
        let phase = phase.to_owned();
        Self { seed, flushed, written: describe(cut), how: cut.how, phase, problems }
    }
}

/// The entries that a cut left on the disk.
pub(super) fn describe(cut: &Cut) -> String {
    let piece = |piece: &super::disk::Piece| {
        format!("{}[{}..{}]", piece.entry, piece.sectors.start, piece.sectors.end)
    };
    cut.pieces.iter().map(piece).collect::<Vec<_>>().join(" ")
}

impl Report {
    /// Counts a failure; a number for its disk, when that should be kept.
    pub(super) fn failed(&mut self, failure: Failure) -> Option<usize> {
        self.failed += 1;
        let number = self.failures.len();
        if number < FAILURES_MAX {
            self.failures.push(failure);
        }
        (number < DISKS_KEPT_MAX).then_some(number)
    }

    /// Writes it.
    pub(super) fn write(&self, path: &Path) -> Result<()> {
        host::write_whole(path, &serde_json::to_vec_pretty(self)?)
    }
}
