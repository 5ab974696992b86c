//! The journal on disk: what a segment holds, how it is written, and what is read back from one that is
//! torn. No file is touched here.
//!
//! ```text
//! segment: magic[8]="GOBLINJ1" version[2] number[8] crc[4]   record record record ..
//! record:  marker[4]=ff 47 4a fe   crc[4]   length[2]   kind[1]   body[length]
//! boot:    boot_id[16] number[8] at_ms[8] unix_ms[8] version[..]
//! line:    boot_id[16] seq[8] at_ms[8] unix_ms[8] level[1] unit_length[1] unit[..] text[..]
//! lost:    boot_id[16] first_seq[8] count[8] at_ms[8] unix_ms[8] why[1]
//! ```
//! Numbers are little-endian, texts UTF-8. Both checksums are CRC-32 (IEEE 802.3). A record's covers the
//! segment's number and the record's offset besides what follows it, so that bytes of another segment, or
//! of another place in this one, never pass for a record.
//!
//! A reader that meets damage looks for the next marker. A line's text cannot hold one, because `ff` and
//! `fe` do not occur in UTF-8: nobody can write a line that is read as a record of its own after the
//! record around it was torn. Kinds that are not known are passed over, so that an older release reads the
//! journal of a newer one.

mod entry;
mod frame;
mod room;

pub use entry::{BootEntry, BootId, Entry, LineEntry, LostEntry, ParseBootIdError, WhyLost};
pub use frame::{HEADER_BYTES, Records, encode, header};
pub use room::{Room, SegmentInfo, file_name, make_room, number_of};

/// A segment never grows beyond this, in bytes.
pub const SEGMENT_BYTES_MAX: u64 = 2 << 20;
/// All segments together never grow beyond this, in bytes.
pub const JOURNAL_BYTES_MAX: u64 = 32 << 20;
/// The journal does not grow while less than this is free on its file system, in bytes; it then reuses its
/// own room.
pub const SPARE_BYTES: u64 = 64 << 20;
/// Longest body of a record in bytes.
pub const BODY_BYTES_MAX: usize = 2048;

const _: () = assert!(JOURNAL_BYTES_MAX >= 4 * SEGMENT_BYTES_MAX);

#[cfg(test)]
mod tests;
