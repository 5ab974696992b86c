//! Is the replay able to find anything? Each mutant takes one precaution away from the recording, as if the
//! board's code lacked it, and must turn the replay red.
//!
//! Taking a flush away means that what was written before it may be lost while what came after it was
//! kept; taking an order away means that the later write comes first; taking the read-back away means that
//! a disk that kept other bytes than it was given is believed. Each is tried in the stretch of the log
//! where that precaution stands, found by what the log holds, not by number.

use super::cuts::{self, Cut, Depth, Dice, How, Request};
use super::disk::{Disk, Piece, Region, Undo};
use super::inspect::{Floor, Inspector};
use super::landmarks::{IMAGE_SECTORS_MIN, Landmarks};
use super::replay;
use super::report::Mutant;
use anyhow::{Context, Result, ensure};
use goblin_image::record as frame;
use goblin_tests::writelog::{Entry, Kind, SECTOR_BYTES, WriteLog};
use std::ops::RangeInclusive;

/// Requests of which every choice is tried.
const CHOICES_OF_ALL_MAX: usize = 10;

/// The disk, and what is needed to judge it.
struct Bench<'a> {
    log: &'a WriteLog,
    disk: Disk,
    inspector: Inspector,
    seed: u64,
    /// Entries before this one are on the disk.
    at: usize,
}

/// Tries every mutant on a fresh copy of the flashed disk.
///
/// # Errors
/// When the disk cannot be read.
pub(super) fn run(
    log: &WriteLog,
    marks: &Landmarks,
    seed: u64,
    (disk, inspector): (Disk, Inspector),
) -> Result<Vec<Mutant>> {
    Bench { log, disk, inspector, seed, at: 0 }.all(marks)
}

impl Bench<'_> {
    fn all(&mut self, marks: &Landmarks) -> Result<Vec<Mutant>> {
        let mut found = vec![self.unflushed(
            "flush between the two copies of the partition table",
            marks.table.clone(),
        )?];
        ensure!(marks.key < marks.scrub, "the provisioning file went before the key was kept");
        let scrub = marks.key..=marks.scrub;
        found.push(self.unflushed("flush of STATE before the provisioning file goes", scrub)?);
        let image = marks.image..=marks.armed;
        found.push(self.unflushed("flush of the new image before it is named", image.clone())?);
        found.push(self.first("image that is written before it is named", image.clone())?);
        found.push(self.misread("read-back of the new image", image)?);
        let pending = marks.pending..=marks.armed;
        let name = "flush of the boot record before a release is armed";
        found.push(self.unflushed(name, pending.clone())?);
        found.push(self.first("boot record that is written before a release is armed", pending)?);
        found.push(self.in_place("two copies of the boot record", marks.pending)?);
        let entry = marks.blessed + 1..=marks.entry;
        let name = "flush of the boot menu's entry before it is named";
        found.push(self.unflushed(name, entry)?);
        let name = "flush of the loader's tries before a release is given up";
        found.push(self.esp_write_lost(name, marks.doomed + 1..=marks.given_up)?);
        Ok(found)
    }

    /// Brings the disk to where a stretch begins.
    fn go_to(&mut self, entry: usize) -> Result<()> {
        while self.at < entry {
            self.disk.apply(self.log, &replay::whole(self.log, self.at)?, None)?;
            self.at += 1;
        }
        Ok(())
    }

    /// What the board was promised at each flush of a stretch, by the number of the entry after it.
    fn promises(&mut self, stretch: &RangeInclusive<usize>) -> Result<Vec<(usize, Floor)>> {
        let mut floors = vec![(*stretch.start(), Inspector::floor(&self.disk)?)];
        let mut undo: Undo = Vec::new();
        for index in stretch.clone() {
            let entry = self.entry(index)?;
            if matches!(entry.kind, Kind::Write | Kind::DurableWrite) {
                let piece = replay::whole(self.log, index)?;
                self.disk.apply(self.log, &piece, Some(&mut undo))?;
            }
            if matches!(entry.kind, Kind::Flush | Kind::DurableWrite) {
                floors.push((index + 1, Inspector::floor(&self.disk)?));
            }
        }
        self.disk.revert(undo)?;
        Ok(floors)
    }

    fn entry(&self, index: usize) -> Result<Entry> {
        self.log.entries().get(index).copied().context("no such entry")
    }

    /// No flush in the stretch counts: a disk may have kept any of its writes.
    fn unflushed(&mut self, name: &str, stretch: RangeInclusive<usize>) -> Result<Mutant> {
        self.go_to(*stretch.start())?;
        let floors = self.promises(&stretch)?;
        let range = *stretch.start()..stretch.end() + 1;
        let requests = replay::requests(self.log, &self.disk, range)?;
        let mut dice = Dice::new(self.seed, *stretch.start() as u64);
        // What a write that overtook all others leaves comes first: it is what a flush is there for.
        let mut cuts = cuts::cuts(&requests, Depth::Sample, &mut dice);
        cuts.sort_by_key(|cut| !matches!(cut.how, How::Overtaking | How::Lost));
        cuts.extend(choices(&requests));
        let mut mutant = Mutant::new(name);
        for cut in cuts {
            let last = cut.pieces.iter().map(|piece| piece.entry).max().unwrap_or(0);
            let floor = floors.iter().rev().find(|(from, _)| *from <= last);
            let floor = floor.map(|(_, floor)| floor.clone()).unwrap_or_default();
            if self.is_red(&cut.pieces, &floor, &mut mutant)? {
                break;
            }
        }
        Ok(mutant)
    }

    /// One write of the ESP in the stretch was lost, and nothing else: what the boot record loses is another mutant's.
    fn esp_write_lost(&mut self, name: &str, stretch: RangeInclusive<usize>) -> Result<Mutant> {
        self.go_to(*stretch.start())?;
        let mut mutant = Mutant::new(name);
        for lost in stretch.clone() {
            if self.disk.layout.region(self.entry(lost)?.sector) != Region::Esp {
                continue;
            }
            let kept = stretch.clone().filter(|index| *index != lost);
            let pieces: Result<Vec<Piece>> =
                kept.map(|index| replay::whole(self.log, index)).collect();
            if self.is_red(&pieces?, &Floor::default(), &mut mutant)? {
                break;
            }
        }
        Ok(mutant)
    }

    /// The last write of the stretch comes before all others.
    fn first(&mut self, name: &str, stretch: RangeInclusive<usize>) -> Result<Mutant> {
        self.go_to(*stretch.start())?;
        let floor = Inspector::floor(&self.disk)?;
        let mut mutant = Mutant::new(name);
        let piece = replay::whole(self.log, *stretch.end())?;
        self.is_red(&[piece], &floor, &mut mutant)?;
        Ok(mutant)
    }

    /// The disk keeps one other bit of the image than it was given, and nobody looks.
    fn misread(&mut self, name: &str, stretch: RangeInclusive<usize>) -> Result<Mutant> {
        self.go_to(*stretch.start())?;
        let floor = Inspector::floor(&self.disk)?;
        let mut mutant = Mutant::new(name);
        let mut undo: Undo = Vec::new();
        let mut middle = None;
        for index in stretch {
            let entry = self.entry(index)?;
            if !matches!(entry.kind, Kind::Write | Kind::DurableWrite) {
                continue;
            }
            let piece = replay::whole(self.log, index)?;
            self.disk.apply(self.log, &piece, Some(&mut undo))?;
            if entry.sector_count >= IMAGE_SECTORS_MIN
                && self.disk.layout.region(entry.sector) == Region::Esp
            {
                middle = Some(entry.sector + entry.sector_count / 2);
            }
        }
        self.disk.damage(middle.context("no image in the stretch")?, &mut undo)?;
        self.judge(&floor, &mut mutant)?;
        self.disk.revert(undo)?;
        Ok(mutant)
    }

    /// The boot record is written over its newest copy, and the power fails in the middle.
    fn in_place(&mut self, name: &str, write: usize) -> Result<Mutant> {
        self.go_to(write)?;
        let floor = Inspector::floor(&self.disk)?;
        let mut mutant = Mutant::new(name);
        let entry = self.entry(write)?;
        let data = self.log.data(&entry)?;
        let start = self.disk.layout.record.start;
        let stride = frame::COPY_STRIDE_BYTES / SECTOR_BYTES;
        let other = if entry.sector < start + stride {
            entry.sector + stride
        } else {
            entry.sector - stride
        };
        let half = data.get(..(data.len() / 2).next_multiple_of(512)).unwrap_or_default();
        let mut undo: Undo = Vec::new();
        self.disk.overwrite(other, half, &mut undo)?;
        self.judge(&floor, &mut mutant)?;
        self.disk.revert(undo)?;
        Ok(mutant)
    }

    fn is_red(&mut self, pieces: &[Piece], floor: &Floor, mutant: &mut Mutant) -> Result<bool> {
        let mut undo: Undo = Vec::new();
        for piece in pieces {
            self.disk.apply(self.log, piece, Some(&mut undo))?;
        }
        self.judge(floor, mutant)?;
        self.disk.revert(undo)?;
        Ok(mutant.killed)
    }

    fn judge(&mut self, floor: &Floor, mutant: &mut Mutant) -> Result<()> {
        let (_, problems) = self.inspector.inspect(&self.disk, floor)?;
        mutant.states += 1;
        if let Some(problem) = problems.into_iter().next() {
            mutant.killed = true;
            mutant.seen = problem;
        }
        Ok(())
    }
}

/// Every choice of a few whole requests.
fn choices(requests: &[Request]) -> Vec<Cut> {
    if requests.len() > CHOICES_OF_ALL_MAX {
        return Vec::new();
    }
    (1u32..1 << requests.len())
        .map(|bits| {
            let chosen = requests.iter().enumerate().filter(|(at, _)| bits >> at & 1 == 1);
            Cut {
                how: How::Subset,
                pieces: chosen.map(|(_, request)| cuts::whole(request)).collect(),
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_requests_are_chosen_from_in_every_way() {
        let request =
            |entry| Request { entry, sector_count: 1, changed: vec![0], is_metadata: true };
        let some: Vec<Request> = (0..3).map(request).collect();
        assert_eq!(choices(&some).len(), 7);
        let many: Vec<Request> = (0..11).map(request).collect();
        assert!(choices(&many).is_empty());
    }
}
