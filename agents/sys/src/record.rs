//! The boot record on its partition: read, and changed so that a power cut leaves the old or the new one.
//!
//! The frame (two copies, sequence, checksum) is [`goblin_image::record`]'s; this file adds the disk and
//! the lock between processes: preinit, PID 1's children and the update agent all change the record.

use crate::writer::{Change, Writer};
use crate::{block, efivar};
use goblin_core_types::{
    ATTEMPTS_KEPT_MAX, BootRecord, DiskLabel, LAST_LINES_MAX, QUARANTINE_KEPT_MAX,
    REPORTS_KEPT_MAX, paths,
};
use goblin_image::record;
use rustix::fs::{FlockOperation, Mode, OFlags};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// Longest line kept of a failed boot, in bytes.
pub const LAST_LINE_BYTES_MAX: usize = 240;
/// Version of [`BootRecord`] written here.
const SCHEMA: u32 = 1;

/// The open partition.
#[derive(Debug)]
pub struct RecordPartition {
    device: File,
    dev_path: PathBuf,
    writer: Writer,
}

impl RecordPartition {
    /// Opens the partition's device (in tests: a file of the same size); to read only, where the caller
    /// may do no more.
    ///
    /// # Errors
    /// The kernel's.
    pub fn open(dev_path: &Path) -> io::Result<Self> {
        let flags = OFlags::CLOEXEC | OFlags::DSYNC;
        let open = |access| rustix::fs::open(dev_path, flags | access, Mode::empty());
        let device = match open(OFlags::RDWR) {
            Err(rustix::io::Errno::ACCESS | rustix::io::Errno::ROFS) => open(OFlags::RDONLY),
            opened => opened,
        };
        let (dev_path, writer) = (dev_path.to_owned(), Writer::default());
        Ok(Self { device: device?.into(), dev_path, writer })
    }

    /// Lets `writer` count its changes and tell of them.
    #[must_use]
    pub fn counted_by(self, writer: Writer) -> Self {
        Self { writer, ..self }
    }

    /// The newest whole record; an empty one when neither copy is whole, which is how a new board
    /// starts.
    ///
    /// # Errors
    /// The disk's.
    pub fn read(&self) -> io::Result<BootRecord> {
        let _locked = Locked::take(&self.device, FlockOperation::LockShared)?;
        Ok(self.newest()?.record)
    }

    /// Changes the record: reads the newest copy, lets `change` work on it, writes it over the other
    /// copy, and waits until the disk has it. Lists are cut to their limits, oldest first.
    ///
    /// # Errors
    /// The disk's, or `InvalidData` when the record outgrows its copy; the newest copy is then still the
    /// one that was read.
    pub fn update<T>(&self, change: impl FnOnce(&mut BootRecord) -> T) -> io::Result<T> {
        let _locked = Locked::take(&self.device, FlockOperation::LockExclusive)?;
        self.update_locked(change)
    }

    /// True once the board works from another disk than this one.
    pub fn is_left(&self) -> bool {
        let link = Path::new(paths::SYSTEM_DISK).join(paths::PART_RECORD);
        std::fs::read_link(link).is_ok_and(|device| device != self.dev_path)
    }

    /// What the disk says of itself where it is one of two.
    ///
    /// # Errors
    /// The disk's.
    pub fn label(&self) -> io::Result<Option<DiskLabel>> {
        Ok(crate::mirror::read(&self.device)?.map(|(label, _)| label))
    }

    /// Takes the newest whole record of another disk over where it is newer. True when it was.
    ///
    /// # Errors
    /// The disks'.
    pub fn carry_from(&self, other: &Self) -> io::Result<bool> {
        let _read = Locked::take(&other.device, FlockOperation::LockShared)?;
        let _written = Locked::take(&self.device, FlockOperation::LockExclusive)?;
        let theirs = other.newest()?;
        let offset = match theirs.which {
            Some(record::Which::A) => record::COPY_A_OFFSET,
            Some(record::Which::B) => record::COPY_B_OFFSET,
            None => return Ok(false),
        };
        if theirs.sequence <= self.newest()?.sequence {
            return Ok(false);
        }
        // As it is, also what only a newer release understands, and to the same place: what it replaces is older.
        let mut bytes = vec![0u8; record::COPY_READ_BYTES];
        other.device.read_exact_at(&mut bytes, offset)?;
        self.put((offset, bytes))?;
        Ok(true)
    }

    fn put(&self, (offset, bytes): (u64, Vec<u8>)) -> io::Result<()> {
        // The device is open with O_DSYNC: when this returns, the disk has the bytes.
        self.device.write_all_at(&bytes, offset)?;
        self.writer.note(Change::Write(&self.dev_path, offset, &bytes));
        self.device.sync_data()?;
        self.writer.note(Change::SyncFile(&self.dev_path));
        Ok(())
    }

    fn newest(&self) -> io::Result<record::Decoded> {
        let read = |offset: u64| {
            let mut copy = vec![0u8; record::COPY_READ_BYTES];
            self.device.read_exact_at(&mut copy, offset).map(|()| copy)
        };
        // A copy on a bad sector must not hide the other one.
        match (read(record::COPY_A_OFFSET), read(record::COPY_B_OFFSET)) {
            (Err(err), Err(_)) => Err(err),
            (a, b) => Ok(record::decode(&a.unwrap_or_default(), &b.unwrap_or_default())),
        }
    }

    fn update_locked<T>(&self, change: impl FnOnce(&mut BootRecord) -> T) -> io::Result<T> {
        let record::Decoded { record: mut boot_record, sequence, .. } = self.newest()?;
        let before = boot_record.clone();
        let result = change(&mut boot_record);
        if boot_record == before {
            return Ok(result);
        }
        limit(&mut boot_record);
        let next = sequence.saturating_add(1);
        let encoded = match record::encode(&boot_record, next) {
            // A decision that cannot be written would be taken again at every boot: what explains goes,
            // what decides stays.
            Err(record::RecordError::TooLarge { .. }) => {
                forget_lines(&mut boot_record);
                record::encode(&boot_record, next)
            }
            other => other,
        };
        self.put(encoded.map_err(|err| io::Error::new(io::ErrorKind::InvalidData, err))?)?;
        Ok(result)
    }
}

/// The device's lock, given back however its holder ends.
struct Locked<'a>(&'a File);

impl<'a> Locked<'a> {
    fn take(device: &'a File, how: FlockOperation) -> io::Result<Self> {
        rustix::fs::flock(device, how)?;
        Ok(Self(device))
    }
}

impl Drop for Locked<'_> {
    fn drop(&mut self) {
        // It ends with the process at the latest.
        let _ = rustix::fs::flock(self.0, FlockOperation::Unlock);
    }
}

/// Cuts every list to its limit, oldest first, and every kept line to [`LAST_LINE_BYTES_MAX`].
fn limit(boot_record: &mut BootRecord) {
    boot_record.schema = SCHEMA;
    keep_newest(&mut boot_record.attempts, ATTEMPTS_KEPT_MAX);
    keep_newest(&mut boot_record.reports, REPORTS_KEPT_MAX);
    keep_newest(&mut boot_record.quarantine, QUARANTINE_KEPT_MAX);
    let attempts = boot_record.attempts.iter_mut().map(|attempt| &mut attempt.last_lines);
    let reports = boot_record.reports.iter_mut().map(|report| &mut report.last_lines);
    for lines in attempts.chain(reports) {
        keep_newest(lines, LAST_LINES_MAX);
        for line in lines {
            line.truncate(line.floor_char_boundary(LAST_LINE_BYTES_MAX));
        }
    }
}

fn forget_lines(boot_record: &mut BootRecord) {
    boot_record.attempts.iter_mut().for_each(|attempt| attempt.last_lines.clear());
    boot_record.reports.iter_mut().for_each(|report| report.last_lines.clear());
    let newest = boot_record.attempts.len().saturating_sub(1);
    boot_record.attempts.drain(..newest);
}

fn keep_newest<T>(list: &mut Vec<T>, count_max: usize) {
    list.drain(..list.len().saturating_sub(count_max));
}

/// Opens the record of the disk this board was booted from: the partition named `goblin-record` on the
/// disk whose ESP the boot loader came from. `None` when the board was not started by the boot loader.
///
/// # Errors
/// `NotFound` when that disk or its record partition is not there (yet); otherwise the kernel's.
pub fn find() -> io::Result<Option<RecordPartition>> {
    let Some(esp) = efivar::loader_device_part_uuid() else { return Ok(None) };
    if let Ok(device) = std::fs::read_link(Path::new(paths::SYSTEM_DISK).join(paths::PART_RECORD)) {
        return RecordPartition::open(&device).map(Some);
    }
    let missing = |what: String| io::Error::new(io::ErrorKind::NotFound, what);
    let disk = block::system_disk(&esp)?
        .ok_or_else(|| missing(format!("no disk has the ESP {esp} the loader came from")))?;
    let partition = disk.partition(paths::PART_RECORD).ok_or_else(|| {
        missing(format!("disk {} has no partition {}", disk.name, paths::PART_RECORD))
    })?;
    RecordPartition::open(&partition.dev_path).map(Some)
}

/// True where the system disk has a mirror whose record this process cannot open: it was started before there was one.
pub fn is_mirror_out_of_reach() -> bool {
    let link = Path::new(paths::SYSTEM_DISK).join(paths::OTHER_RECORD);
    std::fs::read_link(link).is_ok_and(|device| !device.exists())
}

#[cfg(test)]
mod tests {
    use super::*;
    use goblin_core_types::{Attempt, AttemptStage, Version};

    fn attempt(boot: u64) -> Attempt {
        Attempt {
            version: Version::new(1, 0, 0),
            boot,
            trial: false,
            stage: AttemptStage::Preinit,
            fail: None,
            last_lines: vec!["\u{fc}".repeat(200); LAST_LINES_MAX + 3],
            at_unix_s: 0,
            end: None,
        }
    }

    fn partition(dir: &tempfile::TempDir) -> (RecordPartition, std::path::PathBuf) {
        let path = dir.path().join("record");
        File::create(&path).unwrap().set_len(record::RECORD_BYTES).unwrap();
        (RecordPartition::open(&path).unwrap(), path)
    }

    #[test]
    fn changes_are_read_back_and_lists_stay_short() {
        let dir = tempfile::tempdir().unwrap();
        let (partition, path) = partition(&dir);
        assert_eq!(partition.read().unwrap().boot_count, 0);
        for boot in 1..=20 {
            partition
                .update(|record| {
                    record.boot_count = boot;
                    record.attempts.push(attempt(boot));
                })
                .unwrap();
        }
        let record = RecordPartition::open(&path).unwrap().read().unwrap();
        assert_eq!((record.boot_count, record.attempts.len()), (20, ATTEMPTS_KEPT_MAX));
        let newest = record.attempts.last().unwrap();
        assert_eq!((newest.boot, newest.last_lines.len()), (20, LAST_LINES_MAX));
        assert!(newest.last_lines.iter().all(|line| line.len() <= LAST_LINE_BYTES_MAX));
    }

    #[test]
    fn a_record_that_outgrows_its_copy_loses_its_lines_and_not_its_decision() {
        let dir = tempfile::tempdir().unwrap();
        let (partition, _) = partition(&dir);
        partition
            .update(|record| {
                record.boot_count = 9;
                let message = "x".repeat(30_000);
                record.attempts = (0..12).map(attempt).collect();
                for attempt in &mut record.attempts {
                    let message = message.clone();
                    attempt.fail = Some(goblin_core_types::FailReason::Panic { message });
                }
            })
            .unwrap();
        assert_eq!(partition.read().unwrap().boot_count, 9);
    }

    #[test]
    fn two_processes_at_once_lose_no_change() {
        let dir = tempfile::tempdir().unwrap();
        let (_, path) = partition(&dir);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    // Every opening has a lock of its own, as every process has.
                    let partition = RecordPartition::open(&path).unwrap();
                    for _ in 0..5 {
                        partition.update(|record| record.boot_count += 1).unwrap();
                    }
                });
            }
        });
        assert_eq!(RecordPartition::open(&path).unwrap().read().unwrap().boot_count, 20);
    }

    #[test]
    fn a_ruined_record_starts_anew() {
        let dir = tempfile::tempdir().unwrap();
        let (partition, _) = partition(&dir);
        partition.device.write_all_at(b"GOBLREC\n garbage", 0).unwrap();
        assert_eq!(partition.read().unwrap().attempts, []);
        partition.update(|record| record.boot_count = 1).unwrap();
        assert_eq!(partition.read().unwrap().boot_count, 1);
    }
}
