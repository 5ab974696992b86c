//! Reads the journal's segments, one at a time, oldest first.

use super::LogsError;
use goblin_core_types::{BootListed, KeptLine, LogLevel, LogLine};
use goblin_init_core::journal::{BootId, Entry, LostEntry, Records, SegmentInfo};
use goblin_sys::journal;
use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::path::{Path, PathBuf};

/// Unit under which lost lines are shown.
const JOURNAL_UNIT: &str = "journal";
/// Memory for the newest lines while older ones are still read, in bytes; beyond it the oldest go.
const HELD_BYTES_MAX: usize = 16 << 20;
/// What a held line takes besides its text, in bytes.
const LINE_COST_BYTES: usize = 192;

/// From when on lines are wanted.
#[derive(Debug, Clone, Copy)]
pub(super) enum Earliest {
    /// Milliseconds since the kernel started.
    AtMs(u64),
    /// Milliseconds since 1970.
    UnixMs(u64),
}

/// Which lines are wanted.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wanted<'a> {
    pub boot: BootId,
    /// Only lines with a smaller number.
    pub before_seq: u64,
    pub unit: Option<&'a str>,
    pub level: Option<LogLevel>,
    pub from: Option<Earliest>,
}

impl Wanted<'_> {
    /// True for a line of this boot that is wanted.
    pub(super) fn takes(&self, kept: &KeptLine) -> bool {
        let line = &kept.line;
        line.seq < self.before_seq
            && self.unit.is_none_or(|unit| line.unit == unit)
            && self.level.is_none_or(|level| line.level >= level)
            && match self.from {
                Some(Earliest::AtMs(at_ms)) => line.at_ms >= at_ms,
                Some(Earliest::UnixMs(unix_ms)) => kept.unix_ms >= unix_ms,
                None => true,
            }
    }
}

/// The journal as it was when it was opened.
#[derive(Debug)]
pub(super) struct Journal {
    dir: PathBuf,
    segments: Vec<SegmentInfo>,
}

impl Journal {
    pub(super) fn open(dir: &Path) -> io::Result<Self> {
        Ok(Self { dir: dir.to_owned(), segments: journal::segments(dir)? })
    }

    /// Hands every record to `each`, without the second copies that a failed write leaves.
    fn each<E: From<io::Error>>(
        &self,
        each: &mut dyn FnMut(Entry<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut next_seq: BTreeMap<BootId, u64> = BTreeMap::new();
        for segment in &self.segments {
            let bytes = journal::read(&self.dir, segment.number)?;
            for entry in Records::new(segment.number, &bytes) {
                let (first, after) = match entry {
                    Entry::Boot(_) => (u64::MAX, 0),
                    Entry::Line(line) => (line.seq, line.seq.saturating_add(1)),
                    Entry::Lost(lost) => {
                        (lost.first_seq, lost.first_seq.saturating_add(lost.count))
                    }
                };
                let next = next_seq.entry(entry.boot()).or_default();
                if first >= *next {
                    *next = after.max(*next);
                    each(entry)?;
                }
            }
        }
        Ok(())
    }

    /// Every boot, oldest first; the running one last, whether or not it is in the journal yet.
    ///
    /// # Errors
    /// Whatever the file system says.
    pub(super) fn boots(&self, running: BootId) -> io::Result<Vec<BootListed>> {
        let mut order: Vec<BootId> = Vec::new();
        let mut boots: BTreeMap<BootId, BootListed> = BTreeMap::new();
        self.each::<io::Error>(&mut |entry| {
            let boot = boots.entry(entry.boot()).or_insert_with(|| {
                order.push(entry.boot());
                BootListed { boot_id: entry.boot().to_string(), ..BootListed::default() }
            });
            note(boot, entry);
            Ok(())
        })?;
        order.retain(|boot| *boot != running);
        order.push(running);
        let mut listed: Vec<BootListed> = order
            .iter()
            .map(|id| {
                boots.remove(id).unwrap_or_else(|| BootListed {
                    boot_id: id.to_string(),
                    ..BootListed::default()
                })
            })
            .collect();
        for (back, boot) in (0..).zip(listed.iter_mut().rev()) {
            boot.back = back;
        }
        Ok(listed)
    }

    /// Gives the `count_max` newest of the wanted lines, oldest first; 0 means all.
    ///
    /// # Errors
    /// `Journal` for what the file system says; those of `give`.
    pub(super) fn newest(
        &self,
        wanted: &Wanted<'_>,
        count_max: usize,
        give: &mut dyn FnMut(KeptLine) -> Result<(), LogsError>,
    ) -> Result<(), LogsError> {
        let mut held: VecDeque<KeptLine> = VecDeque::new();
        let mut held_bytes = 0usize;
        self.each::<LogsError>(&mut |entry| {
            let Some(line) =
                line_of(entry).filter(|line| entry.boot() == wanted.boot && wanted.takes(line))
            else {
                return Ok(());
            };
            if count_max == 0 {
                return give(line);
            }
            held_bytes = held_bytes.saturating_add(cost(&line));
            held.push_back(line);
            while held.len() > count_max || held_bytes > HELD_BYTES_MAX {
                let Some(oldest) = held.pop_front() else { break };
                held_bytes = held_bytes.saturating_sub(cost(&oldest));
            }
            Ok(())
        })?;
        held.into_iter().try_for_each(give)
    }
}

impl From<io::Error> for LogsError {
    fn from(source: io::Error) -> Self {
        Self::Journal(source)
    }
}

fn cost(line: &KeptLine) -> usize {
    line.line.text.len().saturating_add(LINE_COST_BYTES)
}

fn note(boot: &mut BootListed, entry: Entry<'_>) {
    let unix_ms = match entry {
        Entry::Boot(entry) => {
            boot.number = entry.number;
            boot.version = entry.version.parse().ok();
            entry.unix_ms
        }
        Entry::Line(line) => {
            boot.lines = boot.lines.saturating_add(1);
            line.unix_ms
        }
        Entry::Lost(lost) => {
            boot.lost = boot.lost.saturating_add(lost.count);
            lost.unix_ms
        }
    };
    if boot.first_unix_ms == 0 || unix_ms < boot.first_unix_ms {
        boot.first_unix_ms = unix_ms;
    }
    boot.last_unix_ms = boot.last_unix_ms.max(unix_ms);
}

/// A record as a line; lost lines are told in one.
fn line_of(entry: Entry<'_>) -> Option<KeptLine> {
    let boot_id = entry.boot().to_string();
    match entry {
        Entry::Boot(_) => None,
        Entry::Line(entry) => {
            let line = LogLine {
                seq: entry.seq,
                at_ms: entry.at_ms,
                unit: entry.unit.to_owned(),
                level: entry.level,
                text: entry.text.to_owned(),
            };
            Some(KeptLine { line, unix_ms: entry.unix_ms, boot_id })
        }
        Entry::Lost(LostEntry { first_seq, count, at_ms, unix_ms, why, .. }) => {
            let line = LogLine {
                seq: first_seq,
                at_ms,
                unit: JOURNAL_UNIT.to_owned(),
                level: LogLevel::Warn,
                text: format!("{count} lines dropped: {}", why.as_str()),
            };
            Some(KeptLine { line, unix_ms, boot_id })
        }
    }
}
