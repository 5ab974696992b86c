//! Lines in two rings of fixed size: what is known of each line, and all texts one behind the other. No line
//! has memory of its own, so the log takes what its limit says and not a page more.

use goblin_core_types::LogLevel;
use std::collections::VecDeque;
use std::ops::Range;

/// What is known of a line.
#[derive(Debug, Clone, Copy)]
pub(super) struct Head {
    pub(super) at_ms: u64,
    /// Where its text begins, in bytes since the first line of all; wraps around.
    start: u32,
    bytes: u16,
    /// Number of the unit that wrote it.
    pub(super) unit: u16,
    pub(super) level: LogLevel,
}

/// The lines, oldest first.
#[derive(Debug)]
pub(super) struct Store {
    heads: VecDeque<Head>,
    text: VecDeque<u8>,
    /// Where the oldest text begins.
    start: u32,
    lines_max: usize,
    text_bytes_max: usize,
}

impl Store {
    /// Room for lines in this many bytes. A quarter is for what is known of them: lines are mostly longer
    /// than three times that.
    pub(super) fn new(bytes_max: usize) -> Self {
        let heads_bytes = bytes_max.checked_div(4).unwrap_or(0);
        let lines_max = heads_bytes.checked_div(size_of::<Head>()).unwrap_or(0).max(1);
        let text_bytes_max = bytes_max.saturating_sub(heads_bytes);
        Self {
            // All at once: growing would need the old and the new room at the same time. Memory that no
            // line has touched yet is none.
            heads: VecDeque::with_capacity(lines_max),
            text: VecDeque::with_capacity(text_bytes_max),
            start: 0,
            lines_max,
            text_bytes_max,
        }
    }

    /// Lines held.
    pub(super) fn count(&self) -> usize {
        self.heads.len()
    }

    /// Adds a line of at most 64 KiB, and returns how many old ones had to go. One that is larger than all
    /// the room is kept without its text.
    pub(super) fn push(&mut self, at_ms: u64, unit: u16, level: LogLevel, text: &str) -> u64 {
        let text = if text.len() > self.text_bytes_max { "" } else { text };
        let Ok(bytes) = u16::try_from(text.len()) else { return 0 };
        let mut dropped = 0u64;
        while self.heads.len() >= self.lines_max
            || self.text.len().saturating_add(text.len()) > self.text_bytes_max
        {
            let Some(oldest) = self.heads.pop_front() else { break };
            drop(self.text.drain(..usize::from(oldest.bytes).min(self.text.len())));
            self.start = self.start.wrapping_add(u32::from(oldest.bytes));
            dropped = dropped.saturating_add(1);
        }
        let behind = u32::try_from(self.text.len()).unwrap_or(0);
        let start = self.start.wrapping_add(behind);
        self.heads.push_back(Head { at_ms, start, bytes, unit, level });
        self.text.extend(text.as_bytes());
        dropped
    }

    /// What is known of the lines at these places.
    pub(super) fn heads(
        &self,
        places: Range<usize>,
    ) -> impl DoubleEndedIterator<Item = (usize, &Head)> {
        let end = places.end.min(self.heads.len());
        let start = places.start.min(end);
        (start..end).zip(self.heads.range(start..end))
    }

    /// Text of the line at a place; empty where there is none.
    pub(super) fn text(&self, place: usize) -> String {
        let Some(head) = self.heads.get(place) else { return String::new() };
        let from = usize::try_from(head.start.wrapping_sub(self.start)).unwrap_or(usize::MAX);
        let from = from.min(self.text.len());
        let to = from.saturating_add(usize::from(head.bytes)).min(self.text.len());
        let bytes: Vec<u8> = self.text.range(from..to).copied().collect();
        // It was a text when it came in.
        String::from_utf8(bytes).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_newest_lines_are_whole_and_the_room_is_never_outgrown(
            sizes in prop::collection::vec(0usize..3000, 0..200),
            bytes_max in 0usize..10_000,
            start in any::<u32>(),
        ) {
            let mut store = Store::new(bytes_max);
            // As after gigabytes of lines.
            store.start = start;
            let room = (store.heads.capacity(), store.text.capacity());
            let mut said = Vec::new();
            let mut dropped = 0;
            for (number, size) in sizes.into_iter().enumerate() {
                let text = char::from(b'a' + (number % 26) as u8).to_string().repeat(size);
                dropped += store.push(number as u64, 7, LogLevel::Warn, &text);
                said.push(if size > store.text_bytes_max { String::new() } else { text });
                prop_assert_eq!(room, (store.heads.capacity(), store.text.capacity()));
                prop_assert_eq!(store.count() as u64 + dropped, said.len() as u64);
            }
            let first = dropped as usize;
            for (place, head) in store.heads(0..usize::MAX) {
                prop_assert_eq!(head.at_ms as usize, first + place);
                prop_assert_eq!(&store.text(place), &said[first + place]);
            }
            prop_assert_eq!(store.text(store.count()), "");
        }
    }
}
