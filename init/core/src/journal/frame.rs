//! Records in a segment: framing, checksums, and the way past damage.

use super::BODY_BYTES_MAX;
use super::entry::Entry;

const MAGIC: [u8; 8] = *b"GOBLINJ1";
const VERSION: u16 = 1;
/// Length of a segment's header in bytes.
pub const HEADER_BYTES: usize = 8 + 2 + 8 + 4;
const MARKER: [u8; 4] = [0xff, b'G', b'J', 0xfe];
/// Marker, checksum, length, kind.
const FRAME_BYTES: usize = 4 + 4 + 2 + 1;

/// The header of segment `number`.
pub fn header(number: u64) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEADER_BYTES);
    bytes.extend_from_slice(&MAGIC);
    bytes.extend_from_slice(&VERSION.to_le_bytes());
    bytes.extend_from_slice(&number.to_le_bytes());
    bytes.extend_from_slice(&crc32fast::hash(&bytes).to_le_bytes());
    bytes
}

/// Appends a record to `out`. Its place in segment `number` is `offset`, in bytes from the segment's
/// beginning.
pub fn encode(entry: &Entry<'_>, number: u64, offset: u64, out: &mut Vec<u8>) {
    let mut body = Vec::with_capacity(256);
    let kind = entry.write_body(&mut body);
    // Texts were cut so that it fits.
    body.truncate(BODY_BYTES_MAX);
    let length = u16::try_from(body.len()).unwrap_or(u16::MAX);
    out.extend_from_slice(&MARKER);
    out.extend_from_slice(&checksum(number, offset, length, kind, &body).to_le_bytes());
    out.extend_from_slice(&length.to_le_bytes());
    out.push(kind);
    out.extend_from_slice(&body);
}

fn checksum(number: u64, offset: u64, length: u16, kind: u8, body: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&number.to_le_bytes());
    hasher.update(&offset.to_le_bytes());
    hasher.update(&length.to_le_bytes());
    hasher.update(&[kind]);
    hasher.update(body);
    hasher.finalize()
}

/// The records of a segment, whatever state it is in: every whole record is given once, in order, and
/// nothing else is.
#[derive(Debug, Clone)]
pub struct Records<'a> {
    number: u64,
    bytes: &'a [u8],
    at: usize,
    damaged: u64,
}

impl<'a> Records<'a> {
    /// Those of segment `number`, whose file has this content. A segment in a newer format has none.
    pub fn new(number: u64, bytes: &'a [u8]) -> Self {
        let good = bytes.split_first_chunk::<HEADER_BYTES>().map(|(head, _)| {
            let known = head.starts_with(&header(number));
            // A whole header of another version is told from a torn one by its own checksum.
            let newer = head.starts_with(&MAGIC)
                && head.split_last_chunk::<4>().is_some_and(|(covered, crc)| {
                    crc32fast::hash(covered).to_le_bytes() == *crc
                        && covered.get(8..10) != Some(&VERSION.to_le_bytes())
                });
            (known, newer)
        });
        match good {
            Some((true, _)) => Self { number, bytes, at: HEADER_BYTES, damaged: 0 },
            Some((_, true)) => Self { number, bytes: &[], at: 0, damaged: 0 },
            // The number is in the file's name too, so a torn header takes no record with it.
            _ => Self { number, bytes, at: 0, damaged: 0 },
        }
    }

    /// Bytes passed over so far because they are no whole record.
    pub const fn damaged_bytes(&self) -> u64 {
        self.damaged
    }

    /// Kind, body and end of the record at `at`.
    fn frame(&self, at: usize) -> Option<(u8, &'a [u8], usize)> {
        let (frame, rest) = self.bytes.get(at..)?.split_first_chunk::<FRAME_BYTES>()?;
        let [m0, m1, m2, m3, c0, c1, c2, c3, l0, l1, kind] = *frame;
        let length = u16::from_le_bytes([l0, l1]);
        if [m0, m1, m2, m3] != MARKER || usize::from(length) > BODY_BYTES_MAX {
            return None;
        }
        let body = rest.get(..usize::from(length))?;
        let offset = u64::try_from(at).ok()?;
        if u32::from_le_bytes([c0, c1, c2, c3]) != checksum(self.number, offset, length, kind, body)
        {
            return None;
        }
        Some((kind, body, at.checked_add(FRAME_BYTES)?.checked_add(body.len())?))
    }

    /// Goes to the next marker behind `at`, or to the end.
    fn pass_damage(&mut self) {
        let from = self.at.saturating_add(1);
        let rest = self.bytes.get(from..).unwrap_or_default();
        let next = rest.windows(MARKER.len()).position(|window| window == MARKER);
        let to = next.map_or(self.bytes.len(), |found| from.saturating_add(found));
        let passed = u64::try_from(to.saturating_sub(self.at)).unwrap_or(u64::MAX);
        self.damaged = self.damaged.saturating_add(passed);
        self.at = to;
    }
}

impl<'a> Iterator for Records<'a> {
    type Item = Entry<'a>;

    fn next(&mut self) -> Option<Self::Item> {
        while self.at < self.bytes.len() {
            let Some((kind, body, end)) = self.frame(self.at) else {
                self.pass_damage();
                continue;
            };
            self.at = end;
            if let Some(entry) = Entry::read_body(kind, body) {
                return Some(entry);
            }
        }
        None
    }
}
