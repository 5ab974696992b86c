//! The system disk while its log is replayed: bytes, and digests of what matters for booting.

use super::copy_sparse;
use crate::host;
use anyhow::{Context, Result, bail};
use goblin_core_types::paths;
use goblin_image::gpt::{self, Gpt};
use goblin_tests::writelog::{Entry, Kind, SECTOR_BYTES, WriteLog};
use rustix::fs::FallocateFlags;
use std::collections::BTreeSet;
use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;

const SECTOR: usize = SECTOR_BYTES as usize;
/// Sectors at the end of a disk, or of a flashed image, that hold the second partition table.
const TABLE_SECTORS: u64 = 34;

/// What a sector belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Region {
    /// A copy of the partition table.
    Table,
    /// The EFI system partition.
    Esp,
    /// The boot record.
    Record,
    /// STATE, and everything that nothing is in.
    Rest,
}

/// Where things lie on the disk, in sectors.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Layout {
    pub(super) esp: Range<u64>,
    pub(super) record: Range<u64>,
    pub(super) sectors: u64,
}

impl Layout {
    /// The layout of a flashed disk.
    pub(super) fn of(table: &Gpt, disk_bytes: u64) -> Result<Self> {
        let range = |name: &str| {
            let partition = table.by_name(name).with_context(|| format!("no partition {name}"))?;
            anyhow::Ok(partition.first_lba..partition.last_lba + 1)
        };
        Ok(Self {
            esp: range(paths::PART_ESP)?,
            record: range(paths::PART_RECORD)?,
            sectors: disk_bytes / SECTOR_BYTES,
        })
    }

    /// What a sector belongs to.
    pub(super) fn region(&self, sector: u64) -> Region {
        let image_table = self.record.end..self.record.end + TABLE_SECTORS;
        if self.esp.contains(&sector) {
            Region::Esp
        } else if self.record.contains(&sector) {
            Region::Record
        } else if sector < self.esp.start
            || image_table.contains(&sector)
            || sector + TABLE_SECTORS >= self.sectors
        {
            Region::Table
        } else {
            Region::Rest
        }
    }
}

/// Digests of the parts that decide how a board starts. Equal digests: the board starts equally.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub(super) struct Digests {
    pub(super) table: u128,
    pub(super) esp: u128,
    pub(super) record: u128,
    /// Sectors of STATE that hold the board's private key.
    pub(super) keys: BTreeSet<u64>,
}

/// A piece of one logged request that reached the disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Piece {
    /// Number of the log entry.
    pub(super) entry: usize,
    /// Sectors of it that were written.
    pub(super) sectors: Range<u64>,
}

/// What brings the disk back to an earlier state.
pub(super) type Undo = Vec<(u64, Vec<u8>)>;

/// The disk under replay.
#[derive(Debug)]
pub(super) struct Disk {
    pub(super) path: PathBuf,
    /// A copy of the ESP alone: `fsck.fat` takes no offset.
    pub(super) esp_path: PathBuf,
    pub(super) layout: Layout,
    pub(super) digests: Digests,
    file: File,
    esp: File,
    key: Key,
}

/// Text whose presence in STATE shows that provisioning was kept there.
#[derive(Debug, Clone)]
pub(super) struct Key {
    /// The text: the board's private key.
    pub(super) text: Vec<u8>,
    /// Where it lies inside its sector: the file system keeps the file's sectors whole.
    pub(super) offset: usize,
}

/// For a disk of which only the bytes are wanted.
pub(super) fn no_key() -> Key {
    Key { text: Vec::new(), offset: 0 }
}

impl Key {
    fn is_in(&self, sector: &[u8]) -> bool {
        sector.get(self.offset..).is_some_and(|rest| rest.starts_with(&self.text))
    }
}

impl Disk {
    /// A copy of the disk `before` at `path`, to replay onto.
    pub(super) fn copy_of(before: &Path, path: &Path, key: Key) -> Result<Self> {
        copy_sparse(before, path)?;
        let mut file = File::options().read(true).write(true).open(path)?;
        let table = gpt::parse(&mut file).context("the flashed disk has no table")?.gpt;
        let layout = Layout::of(&table, file.metadata()?.len())?;
        let esp_path = path.with_extension("esp.img");
        let mut dd = Command::new("dd");
        dd.arg(format!("if={}", path.display()))
            .arg(format!("of={}", esp_path.display()))
            .arg(format!("skip={}", layout.esp.start * SECTOR_BYTES))
            .arg(format!("count={}", (layout.esp.end - layout.esp.start) * SECTOR_BYTES))
            .args(["bs=1M", "iflag=skip_bytes,count_bytes", "conv=sparse", "status=none"]);
        host::output(&mut dd, "copying the ESP")?;
        let esp = File::options().read(true).write(true).open(&esp_path)?;
        let digests = Digests::default();
        Ok(Self { path: path.into(), esp_path, layout, digests, file, esp, key })
    }

    /// Bytes of the disk.
    pub(super) fn read(&self, sector: u64, bytes: usize) -> Result<Vec<u8>> {
        let mut data = vec![0; bytes];
        self.file.read_exact_at(&mut data, sector * SECTOR_BYTES)?;
        Ok(data)
    }

    /// The table, read as a board does.
    pub(super) fn table(&self) -> Result<gpt::Found, gpt::GptError> {
        gpt::parse(&mut &self.file)
    }

    /// True when a request can change [`Digests`].
    pub(super) fn matters(&self, log: &WriteLog, entry: &Entry) -> Result<bool> {
        Ok(match entry.kind {
            Kind::Flush => false,
            Kind::Discard => {
                self.check_discard(entry)?;
                !self.keys_within(entry.sector..entry.sector + entry.sector_count).is_empty()
            }
            Kind::Write | Kind::DurableWrite => {
                let range = entry.sector..entry.sector + entry.sector_count;
                self.layout.region(entry.sector) != Region::Rest
                    || self.layout.region(range.end.saturating_sub(1)) != Region::Rest
                    || !self.keys_within(range).is_empty()
                    || log.data(entry)?.chunks(SECTOR).any(|sector| self.key.is_in(sector))
            }
        })
    }

    fn keys_within(&self, range: Range<u64>) -> Vec<u64> {
        self.digests.keys.range(range).copied().collect()
    }

    fn check_discard(&self, entry: &Entry) -> Result<()> {
        let ends = [entry.sector, (entry.sector + entry.sector_count).saturating_sub(1)];
        // Blocks of a new STATE partition that lie where the flashed image's table was are nobody's.
        if ends.iter().any(|&end| end < self.layout.record.end) {
            bail!("the board discards sectors {ends:?}, outside of STATE");
        }
        Ok(())
    }

    /// Lets a piece of a request reach the disk; what was there before is added to `undo`.
    pub(super) fn apply(
        &mut self,
        log: &WriteLog,
        piece: &Piece,
        undo: Option<&mut Undo>,
    ) -> Result<()> {
        let entry = *log.entries().get(piece.entry).context("a piece of no entry")?;
        match entry.kind {
            Kind::Flush => Ok(()),
            Kind::Discard => self.discard(&entry),
            Kind::Write | Kind::DurableWrite => {
                let data = log.data(&entry)?;
                let at = |sector: u64| usize::try_from(sector * SECTOR_BYTES);
                let data = data
                    .get(at(piece.sectors.start)?..at(piece.sectors.end)?)
                    .context("a piece beyond its entry")?;
                self.write(entry.sector + piece.sectors.start, data, undo)
            }
        }
    }

    fn discard(&mut self, entry: &Entry) -> Result<()> {
        self.check_discard(entry)?;
        let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        let (from, bytes) = (entry.sector * SECTOR_BYTES, entry.sector_count * SECTOR_BYTES);
        rustix::fs::fallocate(&self.file, flags, from, bytes)?;
        for key in self.keys_within(entry.sector..entry.sector + entry.sector_count) {
            self.digests.keys.remove(&key);
        }
        Ok(())
    }

    /// Takes back what `undo` holds.
    pub(super) fn revert(&mut self, undo: Undo) -> Result<()> {
        for (sector, data) in undo.into_iter().rev() {
            self.write(sector, &data, None)?;
        }
        Ok(())
    }

    /// Flips a bit of a sector, as a failing disk does.
    pub(super) fn damage(&mut self, sector: u64, undo: &mut Undo) -> Result<()> {
        let mut data = self.read(sector, SECTOR)?;
        for byte in data.iter_mut().take(1) {
            *byte ^= 1;
        }
        self.write(sector, &data, Some(undo))
    }

    /// Puts bytes where the board did not put them.
    pub(super) fn overwrite(&mut self, sector: u64, data: &[u8], undo: &mut Undo) -> Result<()> {
        self.write(sector, data, Some(undo))
    }

    fn write(&mut self, sector: u64, data: &[u8], undo: Option<&mut Undo>) -> Result<()> {
        let old = self.read(sector, data.len())?;
        if old == data {
            return Ok(());
        }
        for (at, (was, is)) in (sector..).zip(old.chunks(SECTOR).zip(data.chunks(SECTOR))) {
            if was != is {
                self.account(at, was, is);
            }
        }
        self.file.write_all_at(data, sector * SECTOR_BYTES)?;
        if self.layout.region(sector) == Region::Esp {
            self.esp.write_all_at(data, (sector - self.layout.esp.start) * SECTOR_BYTES)?;
        }
        if let Some(undo) = undo {
            undo.push((sector, old));
        }
        Ok(())
    }

    fn account(&mut self, sector: u64, was: &[u8], is: &[u8]) {
        let change = || digest(sector, was) ^ digest(sector, is);
        match self.layout.region(sector) {
            Region::Table => self.digests.table ^= change(),
            Region::Esp => self.digests.esp ^= change(),
            Region::Record => self.digests.record ^= change(),
            Region::Rest if self.key.is_in(is) => drop(self.digests.keys.insert(sector)),
            Region::Rest => drop(self.digests.keys.remove(&sector)),
        }
    }
}

fn digest(sector: u64, data: &[u8]) -> u128 {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&sector.to_le_bytes());
    hasher.update(data);
    let hash = hasher.finalize();
    hash.as_bytes().first_chunk::<16>().map_or(0, |low| u128::from_le_bytes(*low))
}
