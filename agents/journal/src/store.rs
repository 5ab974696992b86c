//! The segments on the disk: appends to the newest, opens new ones, removes the oldest.

use crate::keeper::{Kept, Now};
use goblin_init_core::journal::{
    BootEntry, BootId, Entry, HEADER_BYTES, Records, Room, SEGMENT_BYTES_MAX, SegmentInfo, encode,
    file_name, header, make_room,
};
use goblin_sys::journal;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::PathBuf;

/// Longest record of a boot, in bytes.
const BOOT_BYTES_MAX: u64 = 512;
/// Segments looked through for the last line of this boot.
const LOOK_BACK_MAX: usize = 4;

/// The boot whose lines are written.
#[derive(Debug, Clone, Default)]
pub struct Boot {
    /// The kernel's id.
    pub id: BootId,
    /// Number in the boot record; 0 where it is not known.
    pub number: u64,
    /// Release that runs; empty where it is not known.
    pub version: String,
}

/// The segment that is appended to.
#[derive(Debug)]
struct Open {
    file: File,
    number: u64,
    /// Bytes that are good; what a failed write left behind comes after.
    bytes: u64,
    /// Made here, and without a line yet: it goes again when it takes none.
    is_new: bool,
}

/// The journal's directory.
#[derive(Debug)]
pub struct Store {
    dir: PathBuf,
    boot: Boot,
    open: Option<Open>,
    /// The newest segment was looked at, and may be gone on with.
    resumed: bool,
}

impl Store {
    /// A journal in `dir`, which is made when the first line is written.
    pub const fn new(dir: PathBuf, boot: Boot) -> Self {
        Self { dir, boot, open: None, resumed: false }
    }

    /// Number of the last line of this boot that the journal holds; 0 where it holds none.
    ///
    /// # Errors
    /// Whatever the file system says.
    pub fn last_seq(&self) -> io::Result<u64> {
        for segment in journal::segments(&self.dir)?.iter().rev().take(LOOK_BACK_MAX) {
            let bytes = journal::read(&self.dir, segment.number)?;
            let last = Records::new(segment.number, &bytes)
                .filter(|entry| entry.boot() == self.boot.id)
                .map(|entry| match entry {
                    Entry::Boot(_) => 0,
                    Entry::Line(line) => line.seq,
                    Entry::Lost(lost) => {
                        lost.first_seq.saturating_add(lost.count).saturating_sub(1)
                    }
                })
                .max();
            match last {
                // A segment that was just opened: the lines are in the one before.
                Some(0) => {}
                Some(last) => return Ok(last),
                None => return Ok(0),
            }
        }
        Ok(0)
    }

    /// Writes records and waits until the disk has them.
    ///
    /// # Errors
    /// Whatever the file system says, `StorageFull` where the journal may not grow. Nothing counts as
    /// written then: the same records may be written again, and readers pass over the second copy.
    pub fn append(&mut self, kept: &[Kept], now: Now) -> io::Result<()> {
        let wanted = kept.iter().fold(0u64, |sum, kept| sum.saturating_add(cost(kept)));
        let mut open = match self.open.take() {
            Some(open) if open.bytes.saturating_add(wanted) <= SEGMENT_BYTES_MAX => open,
            _ => self.open_with_room(wanted, now)?,
        };
        let mut bytes = Vec::new();
        for kept in kept {
            let offset = open.bytes.saturating_add(length(&bytes));
            encode(&kept.entry(self.boot.id), open.number, offset, &mut bytes);
        }
        // After a failed write or sync it is not known what the disk has: the segment is left as it is
        // (a reader passes over a torn end) and another one is opened.
        if let Err(err) = put(&mut open, &bytes).and_then(|()| open.file.sync_data()) {
            self.give_up(&open);
            return Err(err);
        }
        open.is_new = false;
        self.open = Some(open);
        Ok(())
    }

    /// A disk that stays full must not gather a new segment with every try.
    fn give_up(&self, open: &Open) {
        if open.is_new {
            // What stays is empty; the error that led here is the one to report.
            let _ = std::fs::remove_file(self.dir.join(file_name(open.number)));
        }
    }

    /// The newest segment, if this is the first time and it has room; else a new one.
    fn open_with_room(&mut self, wanted: u64, now: Now) -> io::Result<Open> {
        DirBuilder::new().recursive(true).mode(0o700).create(&self.dir)?;
        let segments = journal::segments(&self.dir)?;
        let mut first = Vec::new();
        let found =
            segments.last().filter(|newest| !self.resumed && self.may_resume(newest, wanted));
        let mut open = match found {
            Some(newest) => {
                let path = self.dir.join(file_name(newest.number));
                let file = OpenOptions::new().write(true).open(path)?;
                Open { file, number: newest.number, bytes: newest.bytes, is_new: false }
            }
            None => {
                let open = self.create(&segments)?;
                first = header(open.number);
                open
            }
        };
        let Now { at_ms, unix_ms } = now;
        let Boot { id, number, version } = &self.boot;
        let entry = BootEntry { boot: *id, number: *number, at_ms, unix_ms, version };
        let offset = open.bytes.saturating_add(length(&first));
        encode(&Entry::Boot(entry), open.number, offset, &mut first);
        if let Err(err) = put(&mut open, &first) {
            self.give_up(&open);
            return Err(err);
        }
        self.resumed = true;
        Ok(open)
    }

    /// True for a segment of this format with room for a boot's record and `wanted` bytes.
    fn may_resume(&self, newest: &SegmentInfo, wanted: u64) -> bool {
        let mut head = [0; HEADER_BYTES];
        let path = self.dir.join(file_name(newest.number));
        let read = File::open(path).and_then(|file| file.read_exact_at(&mut head, 0));
        let needed = wanted.saturating_add(BOOT_BYTES_MAX);
        read.is_ok()
            && header(newest.number) == head
            && newest.bytes.saturating_add(needed) <= SEGMENT_BYTES_MAX
    }

    /// Makes room for a new segment and makes it.
    fn create(&self, segments: &[SegmentInfo]) -> io::Result<Open> {
        let facts = rustix::fs::statvfs(&self.dir)?;
        let free_bytes = facts.f_bavail.saturating_mul(facts.f_frsize);
        let Room::After(gone) = make_room(segments, free_bytes) else {
            return Err(io::ErrorKind::StorageFull.into());
        };
        for number in gone {
            std::fs::remove_file(self.dir.join(file_name(number)))?;
        }
        let number = segments.last().map_or(1, |newest| newest.number.saturating_add(1));
        let path = self.dir.join(file_name(number));
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
        // The name must outlast a power cut too.
        File::open(&self.dir)?.sync_all()?;
        Ok(Open { file, number, bytes: 0, is_new: true })
    }
}

/// At least as much as a record takes.
fn cost(kept: &Kept) -> u64 {
    let texts = match kept {
        Kept::Line(line, _) => line.text.len().saturating_add(line.unit.len()),
        Kept::Lost(_) => 0,
    };
    u64::try_from(texts.saturating_add(96)).unwrap_or(u64::MAX)
}

fn length(bytes: &[u8]) -> u64 {
    u64::try_from(bytes.len()).unwrap_or(u64::MAX)
}

fn put(open: &mut Open, bytes: &[u8]) -> io::Result<()> {
    open.file.write_all_at(bytes, open.bytes)?;
    open.bytes = open.bytes.saturating_add(length(bytes));
    Ok(())
}

#[cfg(test)]
#[path = "store_tests.rs"]
mod tests;
