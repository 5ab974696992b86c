//! The frame of the RECORD partition: two copies, one of which is always whole.
//!
//! Each copy is `magic[8] version[4] length[4] sequence[8] checksum[32] payload[length]`, integers
//! little-endian, zero padding to 4096. `checksum` is blake3 over version, length, sequence and
//! payload; the payload is a [`BootRecord`] as JSON. Copy A lies at offset 0 and takes odd sequence
//! numbers, copy B at 2 MiB takes even ones: a write can only ever hit the older copy, and a copy
//! that lies in the wrong place is not believed.

use crate::bytes::{align_up, get, get_u32, get_u64, len64, put};
use goblin_core_types::{BootRecord, DiskLabel};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

/// Size of the RECORD partition in bytes.
pub const RECORD_BYTES: u64 = 4 << 20;
/// Distance between the copies in bytes.
pub const COPY_STRIDE_BYTES: u64 = 2 << 20;
/// Offset of copy A in the partition.
pub const COPY_A_OFFSET: u64 = 0;
/// Offset of copy B in the partition.
pub const COPY_B_OFFSET: u64 = COPY_STRIDE_BYTES;
/// Largest payload in bytes.
pub const PAYLOAD_BYTES_MAX: usize = 256 << 10;
/// Bytes a reader needs of each copy: frame header and the largest payload, in whole 4096 blocks.
pub const COPY_READ_BYTES: usize = PAYLOAD_BYTES_MAX + BLOCK_BYTES;

const BLOCK_BYTES: usize = 4096;
const MAGIC: [u8; 8] = *b"GOBLREC\n";
const FORMAT: u32 = 1;
const HEAD_BYTES: usize = 56;
const CHECKSUM_AT: usize = 24;
const SCHEMA: u32 = 1;

const _: () = assert!(COPY_READ_BYTES as u64 <= COPY_STRIDE_BYTES);
const _: () = assert!(COPY_STRIDE_BYTES * 2 <= RECORD_BYTES);
const _: () = assert!(HEAD_BYTES < BLOCK_BYTES);

/// Offsets of the two copies of a disk's label, in the middle of the room behind each copy of the record, where a
/// release that knows no labels never writes.
pub const LABEL_OFFSETS: [u64; 2] = [1 << 20, 3 << 20];
/// Bytes a reader needs of each copy of a label.
pub const LABEL_BYTES: usize = 16 << 10;
const LABEL_MAGIC: [u8; 8] = *b"GOBLDSK\n";

const _: () = assert!(COPY_READ_BYTES as u64 <= 1 << 20);

/// Reads the label of a disk that is one of two: the newer whole copy and its sequence number. The frame is the
/// record's, with another magic.
pub fn decode_label(copies: [&[u8]; 2]) -> Option<(DiskLabel, u64)> {
    let [a, b] = copies.map(|copy| frame_of(copy, LABEL_MAGIC));
    let a = a.filter(|(sequence, _)| copy_of(*sequence) == Which::A);
    let b = b.filter(|(sequence, _)| copy_of(*sequence) == Which::B);
    let (sequence, payload) = a.into_iter().chain(b).max_by_key(|(sequence, _)| *sequence)?;
    Some((serde_json::from_slice(payload).ok()?, sequence))
}

/// The bytes of a label to write and their offset in the partition, as [`encode`] does for the record.
///
/// # Errors
/// [`RecordError`]; nothing needs to be undone.
pub fn encode_label(label: &DiskLabel, next_sequence: u64) -> Result<(u64, Vec<u8>), RecordError> {
    let payload = serde_json::to_vec(label)?;
    if payload.len().saturating_add(HEAD_BYTES) > LABEL_BYTES {
        return Err(RecordError::TooLarge { got: payload.len() });
    }
    let bytes = framed(LABEL_MAGIC, &payload, next_sequence)?;
    let [a, b] = LABEL_OFFSETS;
    Ok((if copy_of(next_sequence) == Which::A { a } else { b }, bytes))
}

/// One of the two copies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Which {
    /// At [`COPY_A_OFFSET`], odd sequence numbers.
    A,
    /// At [`COPY_B_OFFSET`], even sequence numbers.
    B,
}

/// What the partition holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decoded {
    /// The newer whole record, or an empty one with the present schema.
    pub record: BootRecord,
    /// Its sequence number; 0 when no copy is whole. The next write uses `sequence + 1`.
    pub sequence: u64,
    /// Where it was found; nothing on a blank or ruined partition.
    pub which: Option<Which>,
    /// Parts of the record that this release does not understand and left out.
    pub skipped_count: usize,
}

/// Why a record cannot be written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RecordError {
    /// The record does not fit; drop old attempts and reports and try again.
    #[error("the boot record takes {got} bytes, more than {PAYLOAD_BYTES_MAX}")]
    TooLarge {
        /// Its size in bytes.
        got: usize,
    },
    /// Sequence number 0 means "nothing written yet".
    #[error("sequence number 0 cannot be written")]
    Sequence,
    /// The record cannot be expressed as JSON.
    #[error("cannot encode the boot record")]
    Json(#[from] serde_json::Error),
}

/// Reads both copies and takes the whole one with the higher sequence number.
///
/// The slices are the beginnings of the copies, [`COPY_READ_BYTES`] each is enough; shorter ones are
/// taken as torn. Never fails: with no whole copy the record is empty.
pub fn decode(copy_a: &[u8], copy_b: &[u8]) -> Decoded {
    let a = frame(copy_a).filter(|(sequence, _)| copy_of(*sequence) == Which::A);
    let b = frame(copy_b).filter(|(sequence, _)| copy_of(*sequence) == Which::B);
    let newest = match (a, b) {
        (Some(a), Some(b)) if b.0 > a.0 => Some(b),
        (Some(a), _) => Some(a),
        (None, b) => b,
    };
    let Some((sequence, payload)) = newest else {
        let record = BootRecord { schema: SCHEMA, ..BootRecord::default() };
        return Decoded { record, sequence: 0, which: None, skipped_count: 0 };
    };
    let (record, skipped_count) = read_payload(payload);
    Decoded { record, sequence, which: Some(copy_of(sequence)), skipped_count }
}

/// The bytes to write and their offset in the partition. `next_sequence` is [`Decoded::sequence`] + 1;
/// the copy that was read is never the one written. The length is a multiple of 4096; the caller
/// makes it durable before it goes on.
///
/// # Errors
/// [`RecordError`]; nothing needs to be undone.
pub fn encode(record: &BootRecord, next_sequence: u64) -> Result<(u64, Vec<u8>), RecordError> {
    let payload = serde_json::to_vec(record)?;
    if payload.len() > PAYLOAD_BYTES_MAX {
        return Err(RecordError::TooLarge { got: payload.len() });
    }
    let bytes = framed(MAGIC, &payload, next_sequence)?;
    let offset = match copy_of(next_sequence) {
        Which::A => COPY_A_OFFSET,
        Which::B => COPY_B_OFFSET,
    };
    Ok((offset, bytes))
}

fn framed(magic: [u8; 8], payload: &[u8], next_sequence: u64) -> Result<Vec<u8>, RecordError> {
    if next_sequence == 0 {
        return Err(RecordError::Sequence);
    }
    let used = len64(payload).saturating_add(HEAD_BYTES as u64);
    let mut bytes = vec![0u8; align_up(used, BLOCK_BYTES as u64) as usize];
    put(&mut bytes, 0, &magic);
    put(&mut bytes, 8, &FORMAT.to_le_bytes());
    put(&mut bytes, 12, &(payload.len() as u32).to_le_bytes());
    put(&mut bytes, 16, &next_sequence.to_le_bytes());
    let sum = checksum(bytes.get(8..CHECKSUM_AT).unwrap_or_default(), payload);
    put(&mut bytes, CHECKSUM_AT, &sum);
    put(&mut bytes, HEAD_BYTES, payload);
    Ok(bytes)
}

fn copy_of(sequence: u64) -> Which {
    if sequence & 1 == 1 { Which::A } else { Which::B }
}

fn checksum(head: &[u8], payload: &[u8]) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(head);
    hasher.update(payload);
    *hasher.finalize().as_bytes()
}

/// Sequence number and payload of a whole copy.
fn frame(copy: &[u8]) -> Option<(u64, &[u8])> {
    frame_of(copy, MAGIC)
}

fn frame_of(copy: &[u8], magic: [u8; 8]) -> Option<(u64, &[u8])> {
    if get::<8>(copy, 0)? != magic || get_u32(copy, 8)? != FORMAT {
        return None;
    }
    let length = get_u32(copy, 12)? as usize;
    let sequence = get_u64(copy, 16)?;
    if length > PAYLOAD_BYTES_MAX || sequence == 0 {
        return None;
    }
    let payload = copy.get(HEAD_BYTES..HEAD_BYTES.checked_add(length)?)?;
    let sum = checksum(copy.get(8..CHECKSUM_AT)?, payload);
    (sum == get::<32>(copy, CHECKSUM_AT)?).then_some((sequence, payload))
}

/// Reads as much as this release understands: after a fall-back the record was written by a newer
/// release, and one word of it that is unknown here must not hide why the newer one failed.
fn read_payload(payload: &[u8]) -> (BootRecord, usize) {
    if let Ok(record) = serde_json::from_slice(payload) {
        return (record, 0);
    }
    let Ok(Value::Object(mut fields)) = serde_json::from_slice::<Value>(payload) else {
        return (BootRecord { schema: SCHEMA, ..BootRecord::default() }, 1);
    };
    let mut skipped = 0usize;
    let record = BootRecord {
        schema: one(&mut fields, "schema", &mut skipped).unwrap_or(SCHEMA),
        boot_count: one(&mut fields, "boot_count", &mut skipped).unwrap_or_default(),
        attempts: many(&mut fields, "attempts", &mut skipped),
        pending: one(&mut fields, "pending", &mut skipped).flatten(),
        quarantine: many(&mut fields, "quarantine", &mut skipped),
        reports: many(&mut fields, "reports", &mut skipped),
        pair: one(&mut fields, "pair", &mut skipped).flatten(),
        reset: one(&mut fields, "reset", &mut skipped).flatten(),
        last_reset: one(&mut fields, "last_reset", &mut skipped).flatten(),
    };
    (record, skipped)
}

fn one<T: DeserializeOwned>(
    fields: &mut Map<String, Value>,
    name: &str,
    skipped: &mut usize,
) -> Option<T> {
    let read = serde_json::from_value(fields.remove(name)?).ok();
    if read.is_none() {
        *skipped = skipped.saturating_add(1);
    }
    read
}

fn many<T: DeserializeOwned>(
    fields: &mut Map<String, Value>,
    name: &str,
    skipped: &mut usize,
) -> Vec<T> {
    let list: Vec<Value> = one(fields, name, skipped).unwrap_or_default();
    let all = list.len();
    let read: Vec<T> =
        list.into_iter().filter_map(|value| serde_json::from_value(value).ok()).collect();
    *skipped = skipped.saturating_add(all.saturating_sub(read.len()));
    read
}

#[cfg(test)]
mod tests {
    use super::*;
    use goblin_core_types::{Attempt, AttemptStage, Version};
    use proptest::prelude::*;

    fn record(boot_count: u64) -> BootRecord {
        BootRecord { schema: 1, boot_count, ..BootRecord::default() }
    }

    /// A partition as two copies, after a series of writes.
    fn write(copies: &mut [Vec<u8>; 2], record: &BootRecord, sequence: u64) {
        let (offset, bytes) = encode(record, sequence).unwrap();
        let copy = &mut copies[usize::from(offset == COPY_B_OFFSET)];
        copy.resize(copy.len().max(bytes.len()), 0);
        copy[..bytes.len()].copy_from_slice(&bytes);
    }

    #[test]
    fn a_label_lies_beside_the_record_and_the_newer_whole_copy_counts() {
        let label = |epoch: &str| DiskLabel { epoch: epoch.into(), ..DiskLabel::default() };
        let mut room = vec![0u8; RECORD_BYTES as usize];
        for (sequence, epoch) in [(1, "one"), (2, "two")] {
            let (offset, bytes) = encode_label(&label(epoch), sequence).unwrap();
            room[offset as usize..][..bytes.len()].copy_from_slice(&bytes);
        }
        let copies = LABEL_OFFSETS.map(|at| room[at as usize..][..LABEL_BYTES].to_vec());
        let read = |copies: &[Vec<u8>; 2]| decode_label([&copies[0], &copies[1]]);
        assert_eq!(read(&copies), Some((label("two"), 2)));
        let mut torn = copies.clone();
        torn[1][100] ^= 1;
        assert_eq!(read(&torn), Some((label("one"), 1)));
        assert_eq!(decode(&room[..COPY_READ_BYTES], &room[2 << 20..]).sequence, 0);
        assert_eq!(decode_label([&[], &[1; 80]]), None);
    }

    #[test]
    fn a_blank_partition_is_an_empty_record() {
        let blank = vec![0u8; COPY_READ_BYTES];
        let decoded = decode(&blank, &[]);
        assert_eq!((decoded.sequence, decoded.which), (0, None));
        assert_eq!(decoded.record, record(0));
    }

    #[test]
    fn writes_alternate_and_the_newest_wins() {
        let mut copies = [vec![], vec![]];
        for sequence in 1..=5 {
            write(&mut copies, &record(sequence * 10), sequence);
            let decoded = decode(&copies[0], &copies[1]);
            assert_eq!((decoded.sequence, decoded.record.boot_count), (sequence, sequence * 10));
        }
    }

    #[test]
    fn a_copy_in_the_wrong_place_is_not_believed() {
        let (_, bytes) = encode(&record(7), 3).unwrap();
        assert_eq!(decode(&[], &bytes).which, None);
    }

    #[test]
    fn a_record_too_large_is_refused() {
        let attempt = Attempt {
            version: Version::new(1, 0, 0),
            boot: 1,
            trial: false,
            stage: AttemptStage::Init,
            fail: None,
            last_lines: vec!["x".repeat(PAYLOAD_BYTES_MAX)],
            at_unix_s: 0,
            end: None,
        };
        let large = BootRecord { attempts: vec![attempt], ..record(1) };
        assert!(matches!(encode(&large, 1), Err(RecordError::TooLarge { .. })));
        assert!(matches!(encode(&record(1), 0), Err(RecordError::Sequence)));
    }

    #[test]
    fn words_of_a_newer_release_are_skipped_and_the_rest_is_kept() {
        let text = r#"{"schema":2,"boot_count":9,"pending":{"new":1},"attempts":[
            {"version":"1","boot":8,"trial":false,"stage":"healthy"},
            {"version":"2","boot":9,"trial":true,"stage":"orbit"}]}"#;
        let (read, skipped) = read_payload(text.as_bytes());
        assert_eq!((read.boot_count, read.attempts.len(), read.pending, skipped), (9, 1, None, 2));
        assert_eq!(read_payload(b"7").1, 1);
    }

    proptest! {
        #[test]
        fn a_flipped_bit_in_one_copy_leaves_the_other(
            last in 2u64..9, older in any::<bool>(), at in 0usize..200, bit in 0u8..8
        ) {
            let mut copies = [vec![], vec![]];
            write(&mut copies, &record(last - 1), last - 1);
            write(&mut copies, &record(last), last);
            let hit = if older { last - 1 } else { last };
            let copy = &mut copies[usize::from(hit % 2 == 0)];
            copy[at] ^= 1 << bit;
            let decoded = decode(&copies[0], &copies[1]);
            let expected = if older { last } else { last - 1 };
            // Padding is not covered; a flip there harms nothing.
            prop_assert!(decoded.sequence == expected || (!older && decoded.sequence == last));
            prop_assert_eq!(decoded.record.boot_count, decoded.sequence);
            // The next write may not hit the copy that was believed.
            let (offset, _) = encode(&record(0), decoded.sequence + 1).unwrap();
            prop_assert_eq!(offset == COPY_B_OFFSET, decoded.which == Some(Which::A));
        }

        #[test]
        fn a_torn_write_leaves_the_older_record(last in 2u64..9, cut in 0usize..8) {
            let mut copies = [vec![], vec![]];
            write(&mut copies, &record(last - 2), last.saturating_sub(2).max(1));
            write(&mut copies, &record(last - 1), last - 1);
            let before = decode(&copies[0], &copies[1]);
            let (offset, bytes) = encode(&record(last), last).unwrap();
            let copy = &mut copies[usize::from(offset == COPY_B_OFFSET)];
            copy.resize(copy.len().max(bytes.len()), 0);
            copy[..cut * 512].copy_from_slice(&bytes[..cut * 512]);
            let after = decode(&copies[0], &copies[1]);
            prop_assert!(after == before || after.sequence == last);
        }

        #[test]
        fn any_bytes_are_answered(a: Vec<u8>, b: Vec<u8>) {
            let mut framed = MAGIC.to_vec();
            framed.extend_from_slice(&1u32.to_le_bytes());
            framed.extend_from_slice(&a);
            let _ = decode(&framed, &b);
            let _ = read_payload(&a);
        }
    }
}
