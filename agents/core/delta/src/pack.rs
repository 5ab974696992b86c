//! The index of a pack, and the order of contents in one.
//!
//! ```text
//! pack  = index frame*                     the manifest signs size and blake3 of the index, and the pack's size
//! index = "GOBPACK1" frames frame-entry*   numbers have seven bits a byte, low bits first
//! frame-entry = bytes contents ordinal*    bytes of the zstd frame; ordinal: place of a content in the
//!                                          manifest's list, which is sorted by digest
//! ```
//! Ordinals instead of digests: the manifest has the digests already, and they cannot be compressed.

use crate::Content;
use crate::bytes::{put, read};
use std::io;

/// Largest index in bytes.
pub const INDEX_BYTES_MAX: u64 = 1 << 20;
/// Most contents of a pack.
pub const CONTENTS_MAX: usize = 16_384;
/// Largest frame in bytes, compressed: the largest content that zstd could not make smaller.
pub const FRAME_BYTES_MAX: u64 = 272 << 20;
/// Contents below this share frames; one of this size or more has its own.
pub const LARGE_BYTES: u64 = 1 << 20;
/// A shared frame ends once it holds so many bytes.
pub const GROUP_BYTES: u64 = 4 << 20;

const MAGIC: &[u8; 8] = b"GOBPACK1";

/// A zstd frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// Where it begins in the pack.
    pub at: u64,
    /// Its size in the pack.
    pub bytes: u64,
    /// Its contents in order, by their place in the manifest's list.
    pub contents: Vec<u32>,
}

/// What lies where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Index {
    /// In the order of the pack.
    pub frames: Vec<Frame>,
    /// Size of the whole pack.
    pub pack_bytes: u64,
}

/// Why an index is not used although it is what was signed: the publisher's mistake.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PackError {
    /// It ends early, or a number is too large.
    #[error("the pack's index is damaged near byte {at}; publish the release again")]
    Malformed {
        /// Bytes read until then.
        at: usize,
    },
    /// A content occurs twice, is unknown or missing.
    #[error(
        "the pack's index does not list each content of the release once; publish the release again"
    )]
    Contents,
    /// The frames do not fill the pack.
    #[error(
        "the pack would have {got} bytes, the manifest promises {promised}; publish the release again"
    )]
    Size {
        /// By the index.
        got: u64,
        /// By the manifest.
        promised: u64,
    },
    /// A value is beyond its limit.
    #[error("the pack's {field} is {got}, at most {max} are allowed; publish the release again")]
    Limit {
        /// What.
        field: &'static str,
        /// Found.
        got: u64,
        /// Allowed.
        max: u64,
    },
}

impl Index {
    /// Lays frames out after each other: `(bytes, contents)` of each. Answers the index and its bytes,
    /// which are the head of the pack.
    ///
    /// # Errors
    /// [`PackError::Limit`].
    pub fn new(frames: Vec<(u64, Vec<u32>)>) -> Result<(Self, Vec<u8>), PackError> {
        let mut bytes = MAGIC.to_vec();
        put(&mut bytes, len(&frames));
        for (size, contents) in &frames {
            put(&mut bytes, *size);
            put(&mut bytes, len(contents));
            contents.iter().for_each(|ordinal| put(&mut bytes, u64::from(*ordinal)));
        }
        let mut at = len(&bytes);
        limit("index size in bytes", at, INDEX_BYTES_MAX)?;
        let frames = frames
            .into_iter()
            .map(|(bytes, contents)| {
                let frame = Frame { at, bytes, contents };
                at = at.saturating_add(bytes);
                frame
            })
            .collect();
        Ok((Self { frames, pack_bytes: at }, bytes))
    }

    /// Reads the index of a release with so many contents, of a pack of `pack_bytes`.
    ///
    /// # Errors
    /// [`PackError`]: the pack is not used.
    pub fn decode(bytes: &[u8], contents: usize, pack_bytes: u64) -> Result<Self, PackError> {
        limit("index size in bytes", len(bytes), INDEX_BYTES_MAX)?;
        limit(
            "number of contents",
            u64::try_from(contents).unwrap_or(u64::MAX),
            CONTENTS_MAX as u64,
        )?;
        let mut rest = bytes.strip_prefix(MAGIC).ok_or(PackError::Malformed { at: 0 })?;
        let malformed =
            |rest: &[u8]| PackError::Malformed { at: bytes.len().saturating_sub(rest.len()) };
        let number = |rest: &mut &[u8]| {
            let mut from = *rest;
            let value = read(&mut from).map_err(|_: io::Error| malformed(from))?;
            *rest = from;
            Ok::<u64, PackError>(value)
        };
        let count = number(&mut rest)?;
        limit("number of frames", count, CONTENTS_MAX as u64)?;
        let mut seen = vec![false; contents];
        let mut frames = Vec::new();
        let mut at = len(bytes);
        for _ in 0..count {
            let size = number(&mut rest)?;
            limit("frame size in bytes", size, FRAME_BYTES_MAX)?;
            let held = number(&mut rest)?;
            limit("number of contents of a frame", held, CONTENTS_MAX as u64)?;
            let mut ordinals = Vec::new();
            for _ in 0..held {
                let ordinal = number(&mut rest)?;
                let place = usize::try_from(ordinal).ok().and_then(|place| seen.get_mut(place));
                match place {
                    Some(seen) if !*seen => *seen = true,
                    _ => return Err(PackError::Contents),
                }
                ordinals.push(u32::try_from(ordinal).map_err(|_| PackError::Contents)?);
            }
            frames.push(Frame { at, bytes: size, contents: ordinals });
            at = at.saturating_add(size);
        }
        if !rest.is_empty() {
            return Err(malformed(rest));
        }
        if seen.contains(&false) {
            return Err(PackError::Contents);
        }
        if at != pack_bytes {
            return Err(PackError::Size { got: at, promised: pack_bytes });
        }
        Ok(Self { frames, pack_bytes })
    }
}

fn limit(field: &'static str, got: u64, max: u64) -> Result<(), PackError> {
    if got > max { Err(PackError::Limit { field, got, max }) } else { Ok(()) }
}

fn len<T>(items: &[T]) -> u64 {
    u64::try_from(items.len()).unwrap_or(u64::MAX)
}

/// What the publisher knows of a content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    /// Its place in the manifest's list.
    pub ordinal: u32,
    /// Its size in bytes.
    pub size: u64,
    /// How many releases ago it came; 0 for the newest.
    pub age: u32,
    /// Where it is used; likes are put beside likes by it.
    pub path: String,
}

/// The frames of a pack: newest first, and in each age large contents alone, small ones together, alike
/// beside alike.
pub fn arrange(mut items: Vec<Item>, contents: &[Content]) -> Vec<Vec<u32>> {
    items.sort_by_cached_key(|item| {
        let digest = usize::try_from(item.ordinal).ok().and_then(|at| contents.get(at));
        (item.age, item.size >= LARGE_BYTES, likeness(&item.path), digest.map(|c| c.digest))
    });
    let mut frames: Vec<Vec<u32>> = Vec::new();
    let (mut open_age, mut open_bytes) = (None, 0u64);
    for item in items {
        let large = item.size >= LARGE_BYTES;
        let fits = !large && open_age == Some(item.age) && open_bytes < GROUP_BYTES;
        match frames.last_mut().filter(|_| fits) {
            Some(frame) => frame.push(item.ordinal),
            None => {
                frames.push(vec![item.ordinal]);
                open_bytes = 0;
            }
        }
        open_age = (!large).then_some(item.age);
        open_bytes = open_bytes.saturating_add(item.size);
    }
    frames
}

/// Sorts by the end of the name, then the folder: programs of one folder, libraries, modules, scripts.
pub fn likeness(path: &str) -> (String, String) {
    let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
    let ending = match name.split_once(".so") {
        Some(_) => "so",
        None => name.rsplit_once('.').map_or("", |(_, ending)| ending),
    };
    (format!("{ending}/{folder}"), name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use goblin_core_types::Digest;
    use proptest::prelude::*;

    fn item(ordinal: u32, size: u64, age: u32, path: &str) -> Item {
        Item { ordinal, size, age, path: path.into() }
    }

    #[test]
    fn newest_come_first_and_likes_together() {
        let contents = vec![Content { digest: Digest([0; 32]), size: 1 }; 6];
        let items = vec![
            item(0, 10, 1, "/etc/old"),
            item(1, 10, 0, "/usr/lib/b.py"),
            item(2, 10, 0, "/usr/lib/a.ko"),
            item(3, LARGE_BYTES, 0, "/usr/bin/big"),
            item(4, 10, 0, "/usr/lib/a.py"),
            item(5, LARGE_BYTES, 1, "/usr/bin/older"),
        ];
        assert_eq!(arrange(items, &contents), [vec![2, 4, 1], vec![3], vec![0], vec![5]]);
    }

    #[test]
    fn frames_that_do_not_fill_the_pack_are_refused() {
        let (index, bytes) = Index::new(vec![(7, vec![1]), (5, vec![0])]).unwrap();
        assert_eq!(Index::decode(&bytes, 2, index.pack_bytes), Ok(index.clone()));
        assert!(matches!(
            Index::decode(&bytes, 2, index.pack_bytes + 1),
            Err(PackError::Size { .. })
        ));
        assert_eq!(Index::decode(&bytes, 3, index.pack_bytes), Err(PackError::Contents));
        assert_eq!(Index::decode(&bytes, 1, index.pack_bytes), Err(PackError::Contents));
        let (twice, bytes) = Index::new(vec![(7, vec![0]), (5, vec![0])]).unwrap();
        assert_eq!(Index::decode(&bytes, 1, twice.pack_bytes), Err(PackError::Contents));
    }

    proptest! {
        #[test]
        fn index_comes_back(sizes in proptest::collection::vec(0u64..FRAME_BYTES_MAX, 1..40)) {
            let frames = sizes.iter().enumerate().map(|(i, s)| (*s, vec![i as u32])).collect();
            let (index, bytes) = Index::new(frames).unwrap();
            prop_assert_eq!(Index::decode(&bytes, sizes.len(), index.pack_bytes).unwrap(), index);
        }

        #[test]
        fn any_bytes_are_answered(bytes: Vec<u8>, contents in 0usize..50, size: u64) {
            let _ = Index::decode(&bytes, contents, size);
            let _ = Index::decode(&[MAGIC, &bytes[..]].concat(), contents, size);
        }
    }
}
