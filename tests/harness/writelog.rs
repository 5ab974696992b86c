//! The log of a virtual disk's writes and flushes, as QEMU's `blklogwrites` keeps it.
//!
//! Shape (Linux, `Documentation/admin-guide/device-mapper/log-writes.rst`, little-endian): a sector with
//! `magic[8] version[8] entry_count[8] sector_bytes[4]`; then for each entry a sector with `sector[8]
//! sector_count[8] flags[8] data_bytes[8]`, followed by the data unless it is a discard. QEMU logs an
//! entry when the guest's request is done.

use anyhow::{Context, Result, ensure};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// Size of a sector of the disk and of the log, in bytes.
pub const SECTOR_BYTES: u64 = 512;
/// Most entries of a log that is read.
const ENTRIES_MAX: u64 = 4 << 20;
/// Most bytes of one entry's data.
const DATA_BYTES_MAX: u64 = 64 << 20;
const MAGIC: u64 = 0x006a_7366_7773_6872;
const FLAG_FLUSH: u64 = 1;
const FLAG_FUA: u64 = 2;
const FLAG_DISCARD: u64 = 4;

/// What the guest asked of its disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Bytes to keep; they may stay in the disk's cache.
    Write,
    /// Bytes that are durable when the request is done.
    DurableWrite,
    /// A range whose content is no longer wanted.
    Discard,
    /// Everything done before becomes durable.
    Flush,
}

/// One request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// What was asked.
    pub kind: Kind,
    /// First sector.
    pub sector: u64,
    /// Sectors; 0 for a flush.
    pub sector_count: u64,
    data_offset: u64,
}

/// A log that is not written any more.
#[derive(Debug)]
pub struct WriteLog {
    file: File,
    entries: Vec<Entry>,
}

/// Makes an empty log for QEMU to fill.
///
/// # Errors
/// When the file cannot be made.
pub fn create(path: &Path) -> Result<()> {
    let file =
        File::create(path).with_context(|| format!("cannot make the log {}", path.display()))?;
    // QEMU wants room for its first superblock.
    Ok(file.set_len(1 << 20)?)
}

/// Entries so far of a log that QEMU is writing.
///
/// # Errors
/// When the file cannot be read or is no log.
pub fn entry_count(path: &Path) -> Result<u64> {
    let file = File::open(path).with_context(|| format!("no log at {}", path.display()))?;
    superblock(&file).with_context(|| format!("{}", path.display()))
}

fn superblock(file: &File) -> Result<u64> {
    let mut head = [0u8; 32];
    file.read_exact_at(&mut head, 0)?;
    let [magic, version, count, sector_bytes] = words(&head);
    ensure!(magic == MAGIC && version == 1, "not a log of writes");
    ensure!(sector_bytes & 0xffff_ffff == SECTOR_BYTES, "a log with other sectors");
    ensure!(count <= ENTRIES_MAX, "{count} entries, more than {ENTRIES_MAX}");
    Ok(count)
}

fn words(head: &[u8; 32]) -> [u64; 4] {
    let mut words = [0u64; 4];
    for (word, bytes) in words.iter_mut().zip(head.as_chunks::<8>().0) {
        *word = u64::from_le_bytes(*bytes);
    }
    words
}

impl WriteLog {
    /// Reads the list of entries; their data stays on the disk.
    ///
    /// # Errors
    /// When the file cannot be read, is no log, or ends inside an entry.
    pub fn open(path: &Path) -> Result<Self> {
        let file = File::open(path).with_context(|| format!("no log at {}", path.display()))?;
        let count = superblock(&file).with_context(|| format!("{}", path.display()))?;
        let length = file.metadata()?.len();
        let mut entries = Vec::new();
        let mut at = SECTOR_BYTES;
        for number in 0..count {
            let mut head = [0u8; 32];
            file.read_exact_at(&mut head, at)
                .with_context(|| format!("entry {number} of {} is cut off", path.display()))?;
            let [sector, sector_count, flags, _] = words(&head);
            let kind = match flags {
                _ if flags & FLAG_DISCARD != 0 => Kind::Discard,
                _ if sector_count == 0 && flags & FLAG_FLUSH != 0 => Kind::Flush,
                _ if flags & FLAG_FUA != 0 => Kind::DurableWrite,
                _ => Kind::Write,
            };
            let data_offset = at + SECTOR_BYTES;
            let data_bytes = match kind {
                Kind::Write | Kind::DurableWrite => {
                    sector_count.checked_mul(SECTOR_BYTES).filter(|&n| n <= DATA_BYTES_MAX)
                }
                Kind::Discard | Kind::Flush => Some(0),
            };
            let data_bytes =
                data_bytes.with_context(|| format!("entry {number} has {sector_count} sectors"))?;
            at = data_offset + data_bytes;
            ensure!(at <= length, "entry {number} of {} is cut off", path.display());
            entries.push(Entry { kind, sector, sector_count, data_offset });
        }
        Ok(Self { file, entries })
    }

    /// The requests, in the order in which they were done.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// What a write wrote; nothing for other requests.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub fn data(&self, entry: &Entry) -> Result<Vec<u8>> {
        let bytes = match entry.kind {
            Kind::Write | Kind::DurableWrite => entry.sector_count * SECTOR_BYTES,
            Kind::Discard | Kind::Flush => 0,
        };
        let mut data = vec![0u8; usize::try_from(bytes)?];
        self.file.read_exact_at(&mut data, entry.data_offset)?;
        Ok(data)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sector(words: &[u64]) -> Vec<u8> {
        let mut bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        bytes.resize(512, 0);
        bytes
    }

    #[test]
    fn entries_and_data_are_read_in_order() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let log = [
            sector(&[MAGIC, 1, 4, 512]),
            sector(&[7, 2, 0, 0]),
            vec![0xaa; 1024],
            sector(&[0, 0, 1, 0]),
            sector(&[90, 1000, 4, 0]),
            sector(&[8, 1, 2, 0]),
            vec![0xbb; 512],
        ];
        std::fs::write(&path, log.concat()).unwrap();
        let log = WriteLog::open(&path).unwrap();
        let kinds: Vec<_> = log.entries().iter().map(|entry| entry.kind).collect();
        assert_eq!(kinds, [Kind::Write, Kind::Flush, Kind::Discard, Kind::DurableWrite]);
        assert_eq!(log.data(&log.entries()[0]).unwrap(), vec![0xaa; 1024]);
        assert_eq!(log.data(&log.entries()[3]).unwrap(), vec![0xbb; 512]);
        assert_eq!(log.data(&log.entries()[2]).unwrap(), b"");
    }

    #[test]
    fn a_log_that_ends_early_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        std::fs::write(&path, [sector(&[MAGIC, 1, 1, 512]), sector(&[7, 2, 0, 0])].concat())
            .unwrap();
        assert!(WriteLog::open(&path).is_err());
        std::fs::write(&path, [0u8; 4096]).unwrap();
        assert!(WriteLog::open(&path).is_err());
    }
}
