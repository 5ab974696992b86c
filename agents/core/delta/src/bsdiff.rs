//! Differences between two contents, byte by byte (Colin Percival, "Naive differences of executable
//! code", 2003): long approximate matches whose bytes are subtracted, and what is new between them. A
//! program that was built again differs in addresses everywhere, and in little else.
// Positions are bounded by the lengths of both texts, checked where they are made.
#![allow(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use crate::suffix::{longest_match, suffix_array};

/// One step: `diff` bytes are the sum of old bytes and the diff stream, then `extra` bytes come from the
/// extra stream; then the place in the old content moves by `seek`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Step {
    /// Bytes that are a sum.
    pub diff: u64,
    /// Bytes that are new.
    pub extra: u64,
    /// Move in the old content, after the `diff` bytes.
    pub seek: i64,
}

/// What leads from one content to another.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Difference {
    /// In the order of the new content.
    pub steps: Vec<Step>,
    /// New bytes minus old bytes.
    pub diff: Vec<u8>,
    /// New bytes.
    pub extra: Vec<u8>,
}

/// How far a match must be better than going on as before.
const BETTER_BY: usize = 8;
/// Longest match that is looked for at once: comparing the rest of a long run of zeros with each of its
/// suffixes would take hours. A longer one goes on where this ends.
const MATCH_BYTES_MAX: usize = 64 << 10;

/// The difference that leads from `old` to `new`.
pub fn difference(old: &[u8], new: &[u8]) -> Difference {
    let mut out = Difference::default();
    if old.is_empty() {
        out.extra = new.to_vec();
        out.steps.push(Step { extra: new.len() as u64, ..Step::default() });
        return out;
    }
    let sa = suffix_array(old);
    let (mut scan, mut position, mut length) = (0usize, 0usize, 0usize);
    let (mut last_scan, mut last_position, mut last_offset) = (0usize, 0usize, 0i64);
    let at = |index: usize, offset: i64| -> Option<u8> {
        usize::try_from(index as i64 + offset).ok().and_then(|i| old.get(i)).copied()
    };
    while scan < new.len() {
        let mut same = 0usize;
        scan += length;
        let mut ahead = scan;
        while scan < new.len() {
            (position, length) =
                longest_match(&sa, old, &new[scan..new.len().min(scan + MATCH_BYTES_MAX)]);
            while ahead < scan + length {
                same += usize::from(at(ahead, last_offset) == Some(new[ahead]));
                ahead += 1;
            }
            if (length == same && length != 0) || length > same + BETTER_BY {
                break;
            }
            same -= usize::from(at(scan, last_offset) == Some(new[scan]) && same > 0);
            scan += 1;
        }
        if length == same && scan != new.len() {
            continue;
        }
        let mut forward = extent((scan - last_scan).min(old.len() - last_position), |i| {
            old[last_position + i] == new[last_scan + i]
        });
        let mut backward = 0;
        if scan < new.len() {
            backward = extent((scan - last_scan).min(position), |i| {
                old[position - 1 - i] == new[scan - 1 - i]
            });
        }
        if last_scan + forward > scan - backward {
            let overlap = last_scan + forward - (scan - backward);
            let split = best_split(overlap, |i| {
                let left = new[last_scan + forward - overlap + i]
                    == old[last_position + forward - overlap + i];
                let right = new[scan - backward + i] == old[position - backward + i];
                i32::from(left) - i32::from(right)
            });
            forward = forward - overlap + split;
            backward -= split;
        }
        let sums = new[last_scan..last_scan + forward].iter().zip(&old[last_position..]);
        out.diff.extend(sums.map(|(new, old)| new.wrapping_sub(*old)));
        out.extra.extend_from_slice(&new[last_scan + forward..scan - backward]);
        out.steps.push(Step {
            diff: forward as u64,
            extra: (scan - backward - last_scan - forward) as u64,
            seek: (position - backward) as i64 - (last_position + forward) as i64,
        });
        last_scan = scan - backward;
        last_position = position - backward;
        last_offset = position as i64 - scan as i64;
    }
    out
}

/// The length, up to `max`, at which twice the equal bytes exceed the length most.
fn extent(max: usize, equal: impl Fn(usize) -> bool) -> usize {
    let (mut score, mut best, mut best_length) = (0i64, 0i64, 0usize);
    for i in 0..max {
        score += if equal(i) { 1 } else { -1 };
        if score > best {
            (best, best_length) = (score, i + 1);
        }
    }
    best_length
}

fn best_split(overlap: usize, gain: impl Fn(usize) -> i32) -> usize {
    let (mut score, mut best, mut split) = (0i32, 0i32, 0usize);
    for i in 0..overlap {
        score += gain(i);
        if score > best {
            (best, split) = (score, i + 1);
        }
    }
    split
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn apply(old: &[u8], difference: &Difference) -> Vec<u8> {
        let (mut diff, mut extra) = (difference.diff.iter(), difference.extra.iter());
        let (mut new, mut at) = (Vec::new(), 0i64);
        for step in &difference.steps {
            for _ in 0..step.diff {
                new.push(old[at as usize].wrapping_add(*diff.next().unwrap()));
                at += 1;
            }
            new.extend(extra.by_ref().take(step.extra as usize));
            at += step.seek;
        }
        assert!(diff.next().is_none() && extra.next().is_none());
        new
    }

    #[test]
    fn moved_and_edited_text_costs_little_that_is_new() {
        let old: Vec<u8> = (0..40_000u32).flat_map(|i| (i * i % 65_521).to_le_bytes()).collect();
        let mut new = old[80_000..].to_vec();
        new.extend_from_slice(b"something new");
        new.extend_from_slice(&old[..80_000]);
        for at in (100..new.len()).step_by(97) {
            new[at] = new[at].wrapping_add(1);
        }
        let difference = difference(&old, &new);
        assert_eq!(apply(&old, &difference), new);
        assert!(difference.extra.len() < 2_000, "{} bytes are new", difference.extra.len());
    }

    proptest! {
        #[test]
        fn difference_leads_to_the_new(
            old in proptest::collection::vec(0u8..5, 0..300),
            new in proptest::collection::vec(0u8..5, 0..300),
        ) {
            prop_assert_eq!(apply(&old, &difference(&old, &new)), new);
        }

        #[test]
        fn difference_leads_to_an_edited_new(
            old: Vec<u8>, cut in 0usize..200, insert: Vec<u8>, edits: Vec<(usize, u8)>,
        ) {
            let mut new = old.clone();
            let cut = cut.min(new.len());
            new.splice(cut..cut, insert);
            for (at, byte) in edits {
                if let Some(place) = at.checked_rem(new.len()).and_then(|at| new.get_mut(at)) {
                    *place = byte;
                }
            }
            prop_assert_eq!(apply(&old, &difference(&old, &new)), new);
        }
    }
}
