//! Where in the log a board decides something, found by what each write leaves on the disk.

use super::disk::{Disk, Region};
use super::inspect;
use super::record::{BROKEN, FALL_BACK, FIRST_BOOT, Phase, SECOND, UPGRADE};
use super::replay;
use anyhow::{Context, Result};
use goblin_core_types::{SlotState, Version, paths, reset_entry_name};
use goblin_core_update::slots;
use goblin_tests::writelog::{Entry, Kind, WriteLog};
use std::ops::RangeInclusive;

/// ESP requests longer than this carry an image, in sectors.
pub(super) const IMAGE_SECTORS_MIN: u64 = 64;

/// Part of an upgrade until the boot record says what will be armed.
pub(super) const STAGE: &str = "stage";

/// Numbers of log entries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Landmarks {
    /// Both copies of the partition table, when STATE was added.
    pub(super) table: RangeInclusive<usize>,
    /// The key reached STATE.
    pub(super) key: usize,
    /// The provisioning file on the ESP was overwritten.
    pub(super) scrub: usize,
    /// The first piece of the new image.
    pub(super) image: usize,
    /// The boot record says what will be armed.
    pub(super) pending: usize,
    /// The image got the name by which the loader boots it.
    pub(super) armed: usize,
    /// The new release got the name of a good one.
    pub(super) good: usize,
    /// That, and the boot record knows it: from here on it writes its entry of the boot menu.
    pub(super) blessed: usize,
    /// That entry got its name.
    pub(super) entry: usize,
    /// The release that never comes up got the name by which the loader boots it.
    pub(super) doomed: usize,
    /// The boot record says that it is not tried again.
    pub(super) given_up: usize,
}

/// What was found so far.
#[derive(Debug, Default)]
struct Search {
    table: Vec<usize>,
    records: Vec<usize>,
    key: Option<usize>,
    scrub: Option<usize>,
    image: Option<usize>,
    armed: Option<usize>,
    good: Option<usize>,
    entry: Option<usize>,
    doomed: Option<usize>,
    given_up: Option<usize>,
}

impl Landmarks {
    /// Replays the log onto `disk`.
    ///
    /// # Errors
    /// When the log has no place for one of them, or the disk cannot be read.
    pub(super) fn find(
        log: &WriteLog,
        phases: &[Phase],
        mut disk: Disk,
        sealed: &[u8],
    ) -> Result<Self> {
        let mut search = Search::default();
        for (index, entry) in log.entries().iter().enumerate() {
            let had_key = !disk.digests.keys.is_empty();
            disk.apply(log, &replay::whole(log, index)?, None)?;
            if !matches!(entry.kind, Kind::Write | Kind::DurableWrite) {
                continue;
            }
            if !had_key && !disk.digests.keys.is_empty() {
                search.key.get_or_insert(index);
            }
            let phase = phases.iter().find(|phase| (index as u64) < phase.end);
            search.look(&disk, (index, entry), phase.map_or("", |phase| &phase.name), sealed)?;
            if search.given_up.is_some() {
                break;
            }
        }
        search.settled()
    }

    /// The phases of a recording, the upgrade in its parts.
    pub(super) fn divide(&self, phases: &[Phase]) -> Vec<Phase> {
        let mut divided = Vec::new();
        for phase in phases {
            if phase.name == UPGRADE {
                let parts = [(STAGE, self.pending), ("arm", self.armed + 1), ("trial", self.good)];
                divided.extend(parts.map(|(name, end)| Phase::new(name, end as u64)));
                divided.push(Phase::new("bless", phase.end));
            } else {
                divided.push(phase.clone());
            }
        }
        divided
    }
}

impl Search {
    fn look(
        &mut self,
        disk: &Disk,
        (index, entry): (usize, &Entry),
        phase: &str,
        sealed: &[u8],
    ) -> Result<()> {
        match (disk.layout.region(entry.sector), phase) {
            (Region::Table, FIRST_BOOT) => self.table.push(index),
            (Region::Record, FALL_BACK) => {
                let record = inspect::newest_record(disk)?.record;
                let known = record.quarantine.iter().any(|known| known.version == BROKEN);
                self.given_up = known.then_some(index);
            }
            (Region::Record, _) => self.records.push(index),
            (Region::Esp, FIRST_BOOT) if self.scrub.is_none() => {
                let intact = inspect::read_file(disk, paths::ESP_PROVISION);
                if intact.map_or(true, |bytes| bytes != sealed) {
                    self.scrub = Some(index);
                }
            }
            (Region::Esp, UPGRADE) => self.upgrade(disk, (index, entry))?,
            (Region::Esp, FALL_BACK) if self.doomed.is_none() => {
                self.doomed = arms(disk, entry, BROKEN)?.then_some(index);
            }
            _ => {}
        }
        Ok(())
    }

    fn upgrade(&mut self, disk: &Disk, (index, entry): (usize, &Entry)) -> Result<()> {
        if self.armed.is_none() {
            if entry.sector_count >= IMAGE_SECTORS_MIN {
                self.image.get_or_insert(index);
            }
            self.armed = arms(disk, entry, SECOND)?.then_some(index);
        } else if self.good.is_none() {
            let names = inspect::list(disk, paths::ESP_LINUX)?;
            let good = slots::file_name(SECOND, SlotState::Good);
            self.good = names.contains(&good).then_some(index);
        } else if self.entry.is_none() {
            let names = inspect::list(disk, paths::ESP_ENTRIES)?;
            self.entry = names.contains(&reset_entry_name(SECOND)).then_some(index);
        }
        Ok(())
    }

    fn settled(self) -> Result<Landmarks> {
        let armed = self.armed.context("no release was armed in the recording")?;
        let good = self.good.context("the new release was not blessed")?;
        let entry = self.entry.context("the new release has no entry in the boot menu")?;
        let pending = self.records.iter().copied().rfind(|&index| index < armed);
        // What the boot record loses is another mutant's.
        let recorded = self.records.into_iter().rfind(|&index| index < entry).unwrap_or(good);
        let (first, last) = (self.table.first().copied(), self.table.last().copied());
        Ok(Landmarks {
            table: first.context("the partition table was not written")?
                ..=last.context("the partition table was not written")?,
            key: self.key.context("the key never reached STATE")?,
            scrub: self.scrub.context("the provisioning file was never overwritten")?,
            image: self.image.context("no image was written")?,
            pending: pending.context("the boot record was not written before arming")?,
            armed,
            good,
            blessed: recorded.max(good),
            entry,
            doomed: self.doomed.context("the release that never comes up was not armed")?,
            given_up: self.given_up.context("no release was given up in the recording")?,
        })
    }
}

/// True when the write was one of names, and with it the loader's next boot is the first try of a release.
fn arms(disk: &Disk, entry: &Entry, release: Version) -> Result<bool> {
    Ok(entry.sector_count < IMAGE_SECTORS_MIN
        && inspect::armed(&inspect::list(disk, paths::ESP_LINUX)?) == Some(release))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_upgrade_is_divided_where_the_board_decides() {
        let marks = Landmarks {
            table: 1..=2,
            key: 3,
            scrub: 4,
            image: 10,
            pending: 20,
            armed: 21,
            good: 30,
            blessed: 31,
            entry: 35,
            doomed: 50,
            given_up: 60,
        };
        let phases = [(FIRST_BOOT, 8), (UPGRADE, 40), (FALL_BACK, 70)];
        let divided = marks.divide(&phases.map(|(name, end)| Phase::new(name, end)));
        let wanted = [
            (FIRST_BOOT, 8),
            (STAGE, 20),
            ("arm", 22),
            ("trial", 30),
            ("bless", 40),
            (FALL_BACK, 70),
        ];
        assert_eq!(divided, wanted.map(|(name, end)| Phase::new(name, end)));
    }
}
