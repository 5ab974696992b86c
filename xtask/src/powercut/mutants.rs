//! Is the replay able to find anything? Each mutant takes one precaution away from the recording, as if the
//! board's code lacked it, and must turn the replay red.
//!
//! Taking a flush away means that what was written before it may be lost while what came after it was
//! kept; taking an order away means that the later write comes first; taking the read-back away means that
//! a disk that kept other bytes than it was given is believed. Each is tried in the stretch of the log
//! where that precaution stands, found by what the log holds, not by number.

use super::cuts::{self, Cut, Depth, Dice, How, Request};
use super::disk::{Disk, Piece, Region, Undo};
use super::inspect::{self, Floor, Inspector};
use super::record::{Phase, SECOND};
use super::replay;
use super::report::Mutant;
use anyhow::{Context, Result, ensure};
use goblin_core_types::{SlotState, paths, reset_entry_name};
use goblin_core_update::slots;
use goblin_image::record as frame;
use goblin_tests::writelog::{Entry, Kind, SECTOR_BYTES, WriteLog};
use std::ops::RangeInclusive;

/// ESP requests longer than this carry an image, in sectors.
const IMAGE_SECTORS_MIN: u64 = 64;
/// Requests of which every choice is tried.
const CHOICES_OF_ALL_MAX: usize = 10;

/// Where the precautions stand, as numbers of log entries.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Marks {
    /// Both copies of the partition table, when STATE was added.
    table: RangeInclusive<usize>,
    /// The key reached STATE.
    key: usize,
    /// The provisioning file on the ESP was overwritten.
    scrub: usize,
    /// The first piece of the new image.
    image: usize,
    /// The boot record says what will be armed.
    pending: usize,
    /// The image got the name by which the loader boots it.
    armed: usize,
    /// The new release is good, and the boot record knows it: from here on it writes its entry of the boot menu.
    blessed: usize,
    /// That entry got its name.
    entry: usize,
}

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
/// When the log has no place for one of them, or the disk cannot be read.
pub(super) fn run(
    log: &WriteLog,
    phases: &[Phase],
    seed: u64,
    fresh: &dyn Fn() -> Result<(Disk, Inspector)>,
) -> Result<Vec<Mutant>> {
    let (mut disk, inspector) = fresh()?;
    let marks = find(log, phases, &mut disk, inspector.sealed())?;
    let (disk, inspector) = fresh()?;
    let mut bench = Bench { log, disk, inspector, seed, at: 0 };
    bench.all(&marks)
}

/// Finds the places by looking at what each write leaves.
fn find(log: &WriteLog, phases: &[Phase], disk: &mut Disk, sealed: &[u8]) -> Result<Marks> {
    let phase_of = |entry: usize| {
        phases.iter().find(|phase| (entry as u64) < phase.end).map_or("", |phase| &phase.name)
    };
    let (mut table, mut image, mut records) = (Vec::new(), None, Vec::new());
    let (mut key, mut scrub, mut armed) = (None, None, None);
    let (mut blessed, mut menu) = (None, None);
    let good = slots::file_name(SECOND, SlotState::Good);
    let own = reset_entry_name(SECOND);
    for (index, entry) in log.entries().iter().enumerate() {
        let region = disk.layout.region(entry.sector);
        let had_key = !disk.digests.keys.is_empty();
        disk.apply(log, &replay::whole(log, index)?, None)?;
        if !matches!(entry.kind, Kind::Write | Kind::DurableWrite) {
            continue;
        }
        let phase = phase_of(index);
        if key.is_none() && !had_key && !disk.digests.keys.is_empty() {
            key = Some(index);
        }
        match region {
            Region::Table if phase == "first boot" => table.push(index),
            Region::Record => records.push(index),
            Region::Esp if phase == "first boot" && scrub.is_none() => {
                let intact = inspect::read_file(disk, paths::ESP_PROVISION);
                if intact.map_or(true, |bytes| bytes != sealed) {
                    scrub = Some(index);
                }
            }
            Region::Esp if phase == "upgrade" && armed.is_none() => {
                if entry.sector_count >= IMAGE_SECTORS_MIN {
                    image.get_or_insert(index);
                } else if inspect::is_armed(&inspect::list(disk, paths::ESP_LINUX)?) {
                    armed = Some(index);
                }
            }
            Region::Esp if armed.is_some() && blessed.is_none() => {
                let names = inspect::list(disk, paths::ESP_LINUX)?;
                blessed = names.contains(&good).then_some(index);
            }
            Region::Esp if blessed.is_some() => {
                let names = inspect::list(disk, paths::ESP_ENTRIES)?;
                menu = names.contains(&own).then_some(index);
            }
            _ => {}
        }
        if menu.is_some() {
            break;
        }
    }
    let armed = armed.context("no release was armed in the recording")?;
    let entry = menu.context("the new release has no entry in the boot menu")?;
    let pending = records.iter().copied().rfind(|&index| index < armed);
    // What the boot record loses is another mutant's.
    let settled = records.into_iter().rfind(|&index| index < entry);
    let (first, last) = (table.first().copied(), table.last().copied());
    Ok(Marks {
        table: first.context("the partition table was not written")?
            ..=last.context("the partition table was not written")?,
        key: key.context("the key never reached STATE")?,
        scrub: scrub.context("the provisioning file was never overwritten")?,
        image: image.context("no image was written")?,
        pending: pending.context("the boot record was not written before arming")?,
        armed,
        blessed: blessed.max(settled).context("the new release was not blessed")?,
        entry,
    })
}

impl Bench<'_> {
    fn all(&mut self, marks: &Marks) -> Result<Vec<Mutant>> {
        let mut found = vec![self.unflushed(
            "flush between the two copies of the partition table",
            marks.table.clone(),
        )?];
        ensure!(marks.key < marks.scrub, "the provisioning file went before the key was kept");
        let scrub = marks.key..=marks.scrub;
        found.push(self.unflushed("flush of STATE before the provisioning file goes", scrub)?);
        let image = marks.image..=marks.armed;
        found.push(self.unflushed("flush of the new image before it is named", image.clone())?);
        found.push(self.first("the image is written before it is named", image.clone())?);
        found.push(self.misread("read-back of the new image", image)?);
        let pending = marks.pending..=marks.armed;
        let name = "flush of the boot record before a release is armed";
        found.push(self.unflushed(name, pending.clone())?);
        found.push(self.first("the boot record is written before a release is armed", pending)?);
        found.push(self.in_place("two copies of the boot record", marks.pending)?);
        let entry = marks.blessed + 1..=marks.entry;
        let name = "flush of the boot menu's entry before it is named";
        found.push(self.unflushed(name, entry)?);
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
