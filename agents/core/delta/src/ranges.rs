//! Which pieces of a pack a device asks for.

use crate::pack::Index;

/// A gap smaller than this is fetched too: a request costs about as much.
pub const GAP_BYTES: u64 = 64 << 10;
/// Most pieces of a pack in one fetch.
pub const RANGES_MAX: usize = 4;

const _: () = assert!(RANGES_MAX >= 1);

/// A piece of a pack: whole frames, one after the other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Range {
    /// Where it begins in the pack.
    pub at: u64,
    /// Its size.
    pub bytes: u64,
    /// Its frames, as places in the index.
    pub frames: std::ops::Range<usize>,
}

/// The pieces that hold every content for which `wanted` is true; neighbours are joined across small
/// gaps, and across the smallest ones until there are at most [`RANGES_MAX`].
pub fn ranges(index: &Index, wanted: impl Fn(u32) -> bool) -> Vec<Range> {
    let mut found: Vec<Range> = Vec::new();
    for (place, frame) in index.frames.iter().enumerate() {
        if !frame.contents.iter().any(|ordinal| wanted(*ordinal)) {
            continue;
        }
        let end = frame.at.saturating_add(frame.bytes);
        let next = place.saturating_add(1);
        match found.last_mut() {
            Some(last) if gap(last, frame.at) < GAP_BYTES => {
                last.bytes = end.saturating_sub(last.at);
                last.frames.end = next;
            }
            _ => found.push(Range { at: frame.at, bytes: frame.bytes, frames: place..next }),
        }
    }
    while found.len() > RANGES_MAX {
        let gaps = found.windows(2).map(|pair| match pair {
            [left, right] => gap(left, right.at),
            _ => u64::MAX,
        });
        let Some((place, _)) = gaps.enumerate().min_by_key(|(_, gap)| *gap) else { break };
        let right = found.remove(place.saturating_add(1));
        if let Some(left) = found.get_mut(place) {
            left.bytes = right.at.saturating_add(right.bytes).saturating_sub(left.at);
            left.frames.end = right.frames.end;
        }
    }
    found
}

fn gap(left: &Range, right_at: u64) -> u64 {
    right_at.saturating_sub(left.at.saturating_add(left.bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    proptest! {
        #[test]
        fn ranges_cover_what_is_wanted_and_are_few(
            sizes in proptest::collection::vec(1u64..400_000, 1..60),
            wanted: BTreeSet<u8>,
        ) {
            let frames = sizes.iter().enumerate().map(|(i, size)| (*size, vec![i as u32])).collect();
            let (index, _) = Index::new(frames).unwrap();
            let is_wanted = |ordinal: u32| u8::try_from(ordinal).is_ok_and(|o| wanted.contains(&o));
            let ranges = ranges(&index, is_wanted);
            prop_assert!(ranges.len() <= RANGES_MAX);
            for (place, frame) in index.frames.iter().enumerate() {
                let covered = ranges.iter().any(|range| range.frames.contains(&place));
                prop_assert!(covered || !is_wanted(place as u32));
                for range in ranges.iter().filter(|range| range.frames.contains(&place)) {
                    prop_assert!(frame.at >= range.at);
                    prop_assert!(frame.at + frame.bytes <= range.at + range.bytes);
                }
            }
            for range in &ranges {
                let frames = &index.frames[range.frames.clone()];
                prop_assert_eq!(range.bytes, frames.iter().map(|frame| frame.bytes).sum::<u64>());
            }
        }
    }
}
