//! How large the journal may be, and which segments go so that it stays so.

use super::{JOURNAL_BYTES_MAX, SEGMENT_BYTES_MAX, SPARE_BYTES};

/// End of a segment's file name.
const SUFFIX: &str = ".gj";
/// Digits of a segment's file name.
const DIGITS: usize = 16;

/// A segment that is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SegmentInfo {
    /// Its number; larger is newer, never used twice.
    pub number: u64,
    /// Its length in bytes.
    pub bytes: u64,
}

/// What must happen before a new segment is opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Room {
    /// These segments are removed, oldest first; then it may be opened.
    After(Vec<u64>),
    /// There is no room, and the journal is too small to make some.
    None,
}

/// Decides which of `segments` (oldest first) go before a new one is opened on a file system with
/// `free_bytes` left: all together stay within [`JOURNAL_BYTES_MAX`], and where less than [`SPARE_BYTES`]
/// is free, within what they take now. The newest segment never goes.
pub fn make_room(segments: &[SegmentInfo], free_bytes: u64) -> Room {
    let mut used = segments.iter().fold(0u64, |sum, segment| sum.saturating_add(segment.bytes));
    let may_grow = used.saturating_add(free_bytes.saturating_sub(SPARE_BYTES));
    let allowed = may_grow.max(used).min(JOURNAL_BYTES_MAX);
    let mut gone = Vec::new();
    let mut oldest = segments.iter().take(segments.len().saturating_sub(1));
    while used.saturating_add(SEGMENT_BYTES_MAX) > allowed {
        let Some(segment) = oldest.next() else { return Room::None };
        used = used.saturating_sub(segment.bytes);
        gone.push(segment.number);
    }
    Room::After(gone)
}

/// Name of a segment's file: 16 hexadecimal digits and `.gj`, so that names sort like numbers.
pub fn file_name(number: u64) -> String {
    format!("{number:016x}{SUFFIX}")
}

/// The number in the name of a segment's file; `None` for any other name.
pub fn number_of(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(SUFFIX)?;
    let plain = digits.bytes().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'));
    if digits.len() != DIGITS || !plain {
        return None;
    }
    u64::from_str_radix(digits, 16).ok()
}
