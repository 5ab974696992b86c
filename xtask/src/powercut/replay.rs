//! Goes through the log, flush by flush, and looks at every disk that a power cut could leave.

use super::Places;
use super::cuts::{self, Cut, Depth, Dice, Request};
use super::disk::{Disk, Piece, Region};
use super::inspect::{EspView, Floor, Inspector, state_digest};
use super::record::{Phase, SETTINGS};
use super::report::{Failure, Report};
use crate::host::Progress;
use anyhow::{Context, Result};
use goblin_core_types::paths;
use goblin_tests::writelog::{Entry, Kind, WriteLog};
use std::collections::HashSet;
use std::ops::Range;
use std::path::Path;

/// Requests longer than this carry a large file's content.
const METADATA_SECTORS_MAX: u64 = 128;

/// Cuts of a stretch that are kept though they change nothing but STATE.
const CUTS_OF_STATE: usize = 4;

/// Where btrfs has its first superblock in a partition, and how long it is, in sectors.
const SUPERBLOCK_SECTOR: u64 = 128;
const SUPERBLOCK_SECTORS: u64 = 8;

/// A state that was looked at, so that it can be made again and booted.
#[derive(Debug, Clone)]
pub(super) struct State {
    /// Log entries before this one were flushed.
    pub(super) flushed: usize,
    /// What was written of the others.
    pub(super) cut: Cut,
    /// What the board was going through.
    pub(super) phase: String,
    /// What makes it worth booting.
    pub(super) marks: Marks,
}

/// What makes a state worth booting.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Marks {
    /// The provisioning file on the ESP is half overwritten or scrubbed.
    pub(super) is_scrubbed: bool,
    /// The temporary UKI is there in name only.
    pub(super) is_new_damaged: bool,
    /// The loader boots a release on trial.
    pub(super) is_trial: bool,
    /// Writes were torn, lost or out of order.
    pub(super) is_disordered: bool,
    /// The cut says of STATE, too, what was written.
    pub(super) is_of_state: bool,
    /// The superblock by which STATE is mounted is half old, half new.
    pub(super) is_super_torn: bool,
}

/// Everything of one replay.
pub(super) struct Replay<'a> {
    pub(super) log: &'a WriteLog,
    pub(super) phases: &'a [Phase],
    pub(super) depth: Depth,
    pub(super) seed: u64,
    pub(super) disk: Disk,
    pub(super) inspector: Inspector,
    pub(super) report: &'a mut Report,
    seen: HashSet<(u128, u128, u128, bool)>,
    states: Vec<State>,
}

impl<'a> Replay<'a> {
    pub(super) fn new(
        log: &'a WriteLog,
        phases: &'a [Phase],
        (depth, seed): (Depth, u64),
        (disk, inspector): (Disk, Inspector),
        report: &'a mut Report,
    ) -> Self {
        let (seen, states) = (HashSet::new(), Vec::new());
        Self { log, phases, depth, seed, disk, inspector, report, seen, states }
    }

    /// Looks at everything; the distinct states in the order of the log.
    pub(super) fn run(mut self, places: &Places) -> Result<Vec<State>> {
        let stretches = stretches(self.log.entries());
        let mut progress = Progress::new("replaying");
        let untouched = Cut { how: cuts::How::Prefix, pieces: Vec::new() };
        let floor = Inspector::floor(&self.disk)?;
        self.look(0, untouched, &floor, places)?;
        for stretch in stretches {
            progress.at(format!("entry {} of {}", stretch.start, self.log.entries().len()));
            self.stretch(stretch.clone(), places)
                .with_context(|| format!("replaying log entries {stretch:?}"))?;
            self.report.flushes += 1;
        }
        Ok(self.states)
    }

    fn stretch(&mut self, stretch: Range<usize>, places: &Places) -> Result<()> {
        let requests = requests(self.log, &self.disk, stretch.clone())?;
        if !requests.is_empty() {
            let floor = Inspector::floor(&self.disk)?;
            let mut dice = Dice::new(self.seed, stretch.start as u64);
            for cut in cuts::cuts(&requests, self.depth, &mut dice) {
                let mut undo = Vec::new();
                for piece in &cut.pieces {
                    self.disk.apply(self.log, piece, Some(&mut undo))?;
                }
                self.look(stretch.start, cut, &floor, places)?;
                self.disk.revert(undo)?;
            }
        } else if self.phase(stretch.start) == SETTINGS {
            self.keep_cuts_of_state(stretch.clone());
        }
        self.keep_torn_superblock(stretch.clone())?;
        for entry in stretch {
            self.disk.apply(self.log, &whole(self.log, entry)?, None)?;
        }
        Ok(())
    }

    /// A superblock of btrfs is longer than the sectors that disks promise to write whole, and the kernel mounts by
    /// the first one alone: each write of it is kept torn, to be booted.
    fn keep_torn_superblock(&mut self, stretch: Range<usize>) -> Result<()> {
        let table = self.disk.table().ok();
        let state = table.as_ref().and_then(|found| found.gpt.by_name(paths::PART_STATE));
        let Some(place) = state.map(|state| state.first_lba + SUPERBLOCK_SECTOR) else {
            return Ok(());
        };
        let mut dice = Dice::new(self.seed, stretch.start as u64);
        let mut pieces = Vec::new();
        for index in stretch.clone() {
            let Some(&entry) = self.log.entries().get(index) else { break };
            let is_superblock = entry.sector == place && entry.sector_count == SUPERBLOCK_SECTORS;
            if is_superblock && matches!(entry.kind, Kind::Write | Kind::DurableWrite) {
                let data = self.log.data(&entry)?;
                let before = self.disk.read(place, data.len())?;
                let mut sectors = (0u64..).zip(data.chunks(512).zip(before.chunks(512)));
                let first = sectors.find(|(_, (is, was))| is != was);
                let others = sectors.filter(|(_, (is, was))| is != was).map(|(at, _)| at);
                let others: Vec<u64> = others.collect();
                let chosen = usize::try_from(dice.below(others.len() as u64)).unwrap_or(0);
                if let (Some(_), Some(&middle)) = (first, others.get(chosen)) {
                    let sectors =
                        if dice.below(2) == 0 { 0..middle } else { middle..SUPERBLOCK_SECTORS };
                    let torn = [Piece { entry: index, sectors }];
                    let pieces = pieces.iter().cloned().chain(torn).collect();
                    let cut = Cut { how: cuts::How::Torn, pieces };
                    let marks = Marks { is_super_torn: true, ..Marks::default() };
                    self.keep_cut_of_state(stretch.start, cut, marks);
                }
            }
            pieces.push(whole(self.log, index)?);
        }
        Ok(())
    }

    /// Keeps a state to be booted that looks like others.
    fn keep_cut_of_state(&mut self, flushed: usize, cut: Cut, marks: Marks) {
        let is_disordered = cut.how != cuts::How::Prefix;
        let marks = Marks { is_disordered, is_of_state: true, ..marks };
        let phase = self.phase(cut.pieces.last().map_or(flushed, |piece| piece.entry));
        self.states.push(State { flushed, cut, phase, marks });
        self.report.cuts_of_state += 1;
    }

    /// Settings lie in STATE, where nothing is looked at: a few cuts of a stretch that writes nothing else are kept
    /// to be booted.
    fn keep_cuts_of_state(&mut self, stretch: Range<usize>) {
        let entries = stretch.clone().zip(self.log.entries().iter().skip(stretch.start));
        let requests: Vec<Request> = entries
            .filter(|(_, entry)| matches!(entry.kind, Kind::Write | Kind::DurableWrite))
            .map(|(index, entry)| Request {
                entry: index,
                sector_count: entry.sector_count,
                changed: (0..entry.sector_count).collect(),
                is_metadata: true,
            })
            .collect();
        let mut dice = Dice::new(self.seed, stretch.start as u64);
        let mut cuts = cuts::cuts(&requests, Depth::Sample, &mut dice);
        for _ in 0..CUTS_OF_STATE.min(cuts.len()) {
            let chosen = usize::try_from(dice.below(cuts.len() as u64)).unwrap_or(0);
            let cut = cuts.swap_remove(chosen);
            self.keep_cut_of_state(stretch.start, cut, Marks::default());
        }
    }

    fn look(&mut self, flushed: usize, cut: Cut, floor: &Floor, places: &Places) -> Result<()> {
        self.report.examined += 1;
        let (view, problems) = self.inspector.inspect(&self.disk, floor)?;
        let is_new = self.seen.insert(state_digest(&self.disk.digests));
        let phase = self.phase(cut.pieces.last().map_or(flushed, |piece| piece.entry));
        if is_new {
            self.report.states += 1;
            *self.report.states_by_phase.entry(phase.clone()).or_default() += 1;
            for note in &view.notes {
                *self.report.harmless.entry(note.clone()).or_default() += 1;
            }
        }
        if !problems.is_empty() && (is_new || problems != view.problems) {
            self.fail(flushed, &cut, &phase, problems, places)?;
        }
        if is_new {
            let marks = marks(&view, &cut);
            self.states.push(State { flushed, cut, phase, marks });
        }
        Ok(())
    }

    fn fail(
        &mut self,
        flushed: usize,
        cut: &Cut,
        phase: &str,
        problems: Vec<String>,
        places: &Places,
    ) -> Result<()> {
        if let Some(kept) =
            self.report.failed(Failure::new(self.seed, flushed, cut, phase, problems))
        {
            super::copy_sparse(&self.disk.path, &places.failure(kept))?;
        }
        Ok(())
    }

    fn phase(&self, entry: usize) -> String {
        let phase = self.phases.iter().find(|phase| (entry as u64) < phase.end);
        phase.or(self.phases.last()).map_or_else(String::new, |phase| phase.name.clone())
    }
}

/// The requests of a stretch that matter for booting, with the sectors they change.
pub(super) fn requests(log: &WriteLog, disk: &Disk, stretch: Range<usize>) -> Result<Vec<Request>> {
    let mut requests = Vec::new();
    let mut touched = HashSet::new();
    for (index, entry) in log.entries().iter().enumerate().take(stretch.end) {
        if index < stretch.start || !disk.matters(log, entry)? {
            continue;
        }
        let data = log.data(entry)?;
        let before = disk.read(entry.sector, data.len())?;
        let pairs = (0u64..).zip(data.chunks(512).zip(before.chunks(512)));
        let changed: Vec<u64> = pairs
            .filter(|(at, (is, was))| {
                (is != was && touched.insert(entry.sector + at))
                    || touched.contains(&(entry.sector + at))
            })
            .map(|(at, _)| at)
            .collect();
        if !changed.is_empty() {
            requests.push(Request {
                entry: index,
                sector_count: entry.sector_count,
                changed,
                is_metadata: entry.sector_count <= METADATA_SECTORS_MAX
                    || disk.layout.region(entry.sector) != Region::Esp,
            });
        }
    }
    Ok(requests)
}

fn marks(view: &EspView, cut: &Cut) -> Marks {
    Marks {
        is_scrubbed: !view.is_offered,
        is_new_damaged: view.notes.iter().any(|note| note.contains(".new")),
        is_trial: view.pick.as_ref().is_some_and(|pick| pick.contains('+')),
        is_disordered: cut.how != cuts::How::Prefix,
        is_of_state: false,
        is_super_torn: false,
    }
}

/// The stretches between flushes, without the flushes.
fn stretches(entries: &[Entry]) -> Vec<Range<usize>> {
    let mut stretches = Vec::new();
    let mut start = 0;
    for (index, entry) in entries.iter().enumerate() {
        // A durable write ends a stretch as a flush does: the board waited for it.
        match entry.kind {
            Kind::Flush => {}
            Kind::DurableWrite => stretches.push(start..index + 1),
            Kind::Write | Kind::Discard => continue,
        }
        if entry.kind == Kind::Flush && start < index {
            stretches.push(start..index);
        }
        start = index + 1;
    }
    if start < entries.len() {
        stretches.push(start..entries.len());
    }
    stretches
}

/// All of a request.
pub(super) fn whole(log: &WriteLog, entry: usize) -> Result<Piece> {
    let count = log.entries().get(entry).context("no such entry")?.sector_count;
    Ok(Piece { entry, sectors: 0..count })
}

/// Makes the disk of a state again, with what STATE had then: all of it up to the cut where the order
/// was kept, else a seeded choice.
pub(super) fn materialize(
    log: &WriteLog,
    state: &State,
    seed: u64,
    before: &Path,
    path: &Path,
) -> Result<()> {
    let mut disk = Disk::copy_of(before, path, super::disk::no_key())?;
    for entry in 0..state.flushed {
        disk.apply(log, &whole(log, entry)?, None)?;
    }
    let mut dice = Dice::new(seed, state.flushed as u64);
    let last = state.cut.pieces.last().map_or(state.flushed, |piece| piece.entry);
    for entry in state.flushed..=last {
        let mut is_cut = state.marks.is_of_state;
        for piece in state.cut.pieces.iter().filter(|piece| piece.entry == entry) {
            disk.apply(log, piece, None)?;
            is_cut = true;
        }
        let logged = log.entries().get(entry).context("no such entry")?;
        let is_rest = !is_cut && disk.layout.region(logged.sector) == Region::Rest;
        if is_rest && (!state.marks.is_disordered || dice.below(2) == 0) {
            disk.apply(log, &whole(log, entry)?, None)?;
        }
    }
    std::fs::remove_file(&disk.esp_path)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use goblin_tests::writelog;

    #[test]
    fn a_stretch_ends_with_what_makes_it_durable() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let sector = |words: &[u64]| {
            let mut bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
            bytes.resize(512, 0);
            bytes
        };
        let mut bytes = sector(&[0x006a_7366_7773_6872, 1, 6, 512]);
        for flags in [0u64, 1, 1, 0, 2, 0] {
            bytes.extend(sector(&[0, u64::from(flags != 1), flags, 0]));
            bytes.extend(if flags == 1 { vec![] } else { vec![0; 512] });
        }
        std::fs::write(&path, bytes).unwrap();
        let log = writelog::WriteLog::open(&path).unwrap();
        assert_eq!(stretches(log.entries()), [0..1, 3..5, 5..6]);
    }
}
