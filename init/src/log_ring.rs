//! The log of the running board: the newest lines of every unit, in bounded memory.
//!
//! Lines that no longer fit are dropped, oldest first, and counted; their numbers are the gaps that a
//! reader sees. A unit that writes more than its `log_rate` loses the rest before it comes here; how much
//! is told in a line of its own. Nothing here waits for anybody.

use goblin_core_types::{LogLevel, LogLine};
use goblin_init_core::log_rate::{Bucket, LogRate};
use serde_json::{Map, Value};
use std::collections::{BTreeMap, VecDeque};

/// Memory for all lines, in bytes.
pub const RING_BYTES_MAX: usize = 512 * 1024;
/// Longest line kept, in bytes; the rest of a longer one is cut off.
pub const LINE_BYTES_MAX: usize = 1024;
/// Most bytes of one unfinished line; a line of JSON is longer than its text.
const PARTIAL_BYTES_MAX: usize = 4 * LINE_BYTES_MAX;

/// The newest lines.
#[derive(Debug)]
pub struct LogRing {
    lines: VecDeque<LogLine>,
    bytes: usize,
    bytes_max: usize,
    next_seq: u64,
    dropped: u64,
    /// What each unit may still write.
    buckets: BTreeMap<String, Bucket>,
}

impl LogRing {
    /// A ring of at most `bytes_max` bytes.
    pub fn new(bytes_max: usize) -> Self {
        Self {
            lines: VecDeque::new(),
            bytes: 0,
            bytes_max,
            next_seq: 1,
            dropped: 0,
            buckets: BTreeMap::new(),
        }
    }

    /// A unit's limit, from now on; the default one where none was given.
    pub fn limit(&mut self, now_ms: u64, unit: &str, rate: LogRate) {
        match self.buckets.get_mut(unit) {
            Some(bucket) => bucket.set_rate(rate),
            None => drop(self.buckets.insert(unit.to_owned(), Bucket::new(rate, now_ms))),
        }
    }

    /// Takes a line as a unit wrote it, if the unit's limit has room for it. Those that have none are not
    /// even looked at.
    pub fn take(&mut self, now_ms: u64, unit: &str, line: &str) {
        if self.fits(now_ms, unit) {
            let (level, text) = understand(line);
            self.push(now_ms, unit, level, &text);
        }
    }

    /// Counts a line of a unit; true when it fits. What was dropped before it is told first.
    pub fn fits(&mut self, now_ms: u64, unit: &str) -> bool {
        if !self.buckets.contains_key(unit) {
            self.limit(now_ms, unit, LogRate::default());
        }
        let Some(bucket) = self.buckets.get_mut(unit) else { return true };
        let fits = bucket.take(now_ms);
        let told = if fits { bucket.report() } else { 0 };
        self.tell_dropped(now_ms, unit, told);
        fits
    }

    /// Lines of a unit were lost before they came here.
    pub fn missed(&mut self, now_ms: u64, unit: &str, count: u64) {
        self.tell_dropped(now_ms, unit, count);
    }

    /// Tells of dropped lines whose units have nothing more to say.
    pub fn settle(&mut self, now_ms: u64) {
        let due = |bucket: &Bucket| bucket.report_due_ms().is_some_and(|due_ms| due_ms <= now_ms);
        while let Some((unit, bucket)) = self.buckets.iter_mut().find(|(_, bucket)| due(bucket)) {
            let (unit, count) = (unit.clone(), bucket.report());
            self.tell_dropped(now_ms, &unit, count);
        }
    }

    /// When [`settle`](Self::settle) has something to do.
    pub fn settle_due_ms(&self) -> Option<u64> {
        self.buckets.values().filter_map(Bucket::report_due_ms).min()
    }

    fn tell_dropped(&mut self, now_ms: u64, unit: &str, count: u64) {
        if count > 0 {
            self.push(now_ms, unit, LogLevel::Warn, &format!("{count} lines dropped"));
        }
    }

    /// Adds a line; control characters are replaced by blanks, so that no unit can draw on a terminal.
    pub fn push(&mut self, at_ms: u64, unit: &str, level: LogLevel, text: &str) {
        let text = text.get(..text.floor_char_boundary(LINE_BYTES_MAX)).unwrap_or_default();
        let text = text.trim_end().replace(char::is_control, " ");
        let line = LogLine { seq: self.next_seq, at_ms, unit: unit.to_owned(), level, text };
        self.next_seq = self.next_seq.saturating_add(1);
        self.bytes = self.bytes.saturating_add(cost(&line));
        self.lines.push_back(line);
        while self.bytes > self.bytes_max
            && let Some(oldest) = self.lines.pop_front()
        {
            self.bytes = self.bytes.saturating_sub(cost(&oldest));
            self.dropped = self.dropped.saturating_add(1);
        }
    }

    /// Lines dropped since the start.
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Number that the next line will get.
    pub fn next_seq(&self) -> u64 {
        self.next_seq
    }

    /// The first line numbered `seq` or higher, of one unit or of all.
    pub fn at_or_after(&self, seq: u64, unit: Option<&str>) -> Option<&LogLine> {
        // Numbers rise by one from line to line, so the place of a number is known.
        let first = self.lines.front().map_or(self.next_seq, |line| line.seq);
        let skip = usize::try_from(seq.saturating_sub(first)).unwrap_or(usize::MAX);
        let wanted = |line: &&LogLine| unit.is_none_or(|unit| line.unit == unit);
        if skip >= self.lines.len() { None } else { self.lines.range(skip..).find(wanted) }
    }

    /// Number of the oldest of the `count_max` newest lines of one unit or of all; 0 means all lines.
    pub fn seq_of_newest(&self, count_max: usize, unit: Option<&str>) -> u64 {
        let wanted = |line: &&LogLine| unit.is_none_or(|unit| line.unit == unit);
        let oldest = match count_max {
            0 => self.lines.iter().find(wanted),
            count => self.lines.iter().rev().filter(wanted).take(count).last(),
        };
        oldest.map_or(self.next_seq, |line| line.seq)
    }

    /// The `count_max` newest lines of every unit that say more than details, oldest first.
    pub fn last_words(&self, count_max: usize) -> impl Iterator<Item = &LogLine> {
        let telling = |line: &&LogLine| line.level > LogLevel::Debug;
        let oldest = self.lines.iter().rev().filter(telling).take(count_max).last();
        let seq = oldest.map_or(self.next_seq, |line| line.seq);
        self.lines.iter().filter(move |line| line.seq >= seq && telling(line))
    }

    /// The `count_max` newest lines, oldest first.
    pub fn newest(&self, count_max: usize, unit: Option<&str>) -> impl Iterator<Item = &LogLine> {
        let seq = self.seq_of_newest(count_max.max(1), unit);
        self.lines
            .iter()
            .filter(move |line| line.seq >= seq && unit.is_none_or(|unit| line.unit == unit))
    }
}

fn cost(line: &LogLine) -> usize {
    size_of::<LogLine>().saturating_add(line.text.capacity()).saturating_add(line.unit.capacity())
}

/// Cuts the bytes of a pipe into lines.
#[derive(Debug, Default)]
pub struct Lines {
    partial: Vec<u8>,
    /// The rest of a line that was too long is being thrown away.
    skipping: bool,
}

impl Lines {
    /// Takes bytes in and hands every finished line out.
    pub fn take(&mut self, bytes: &[u8], mut on_line: impl FnMut(&str)) {
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            let (piece, whole) = match piece.strip_suffix(b"\n") {
                Some(piece) => (piece, true),
                None => (piece, false),
            };
            if !self.skipping {
                let room = PARTIAL_BYTES_MAX.saturating_sub(self.partial.len());
                self.partial
                    .extend_from_slice(piece.get(..piece.len().min(room)).unwrap_or_default());
                self.skipping = piece.len() > room;
            }
            if whole {
                self.end(&mut on_line);
            }
        }
    }

    /// The pipe has ended: what is left is a line too.
    pub fn end(&mut self, on_line: impl FnOnce(&str)) {
        self.skipping = false;
        if !self.partial.is_empty() {
            on_line(&String::from_utf8_lossy(&self.partial));
            self.partial.clear();
            // A unit that wrote one long line shall not hold that much memory for ever.
            self.partial.shrink_to(LINE_BYTES_MAX);
        }
    }
}

/// Level and text of a line as a unit wrote it: `{"level":"..","text":"..", FIELDS}`, whose fields are
/// appended as `name=value`; anything else is plain text of level info.
pub fn understand(line: &str) -> (LogLevel, String) {
    let plain = || (LogLevel::Info, line.to_owned());
    if !line.starts_with('{') {
        return plain();
    }
    let Ok(mut fields) = serde_json::from_str::<Map<String, Value>>(line) else { return plain() };
    let level = fields.remove("level").and_then(|level| serde_json::from_value(level).ok());
    let Some(Value::String(mut text)) = fields.remove("text") else { return plain() };
    for (name, value) in fields {
        let value = match value {
            Value::String(value) => value,
            other => other.to_string(),
        };
        text.push_str(&format!(" {name}={value}"));
    }
    (level.unwrap_or(LogLevel::Info), text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn lines_of(chunks: &[&[u8]]) -> Vec<String> {
        let (mut lines, mut out) = (Lines::default(), Vec::new());
        for chunk in chunks {
            lines.take(chunk, |line| out.push(line.to_owned()));
        }
        lines.end(|line| out.push(line.to_owned()));
        out
    }

    #[test]
    fn full_ring_drops_the_oldest_and_counts() {
        let mut ring = LogRing::new(2000);
        for number in 0..100 {
            let unit = if number % 2 == 0 { "even" } else { "odd" };
            ring.push(number, unit, LogLevel::Info, &format!("line {number}\x1b[2J"));
        }
        assert_eq!(ring.next_seq(), 101);
        assert!(ring.dropped() > 0);
        let first = ring.at_or_after(0, None).unwrap();
        assert_eq!(first.seq, ring.dropped() + 1);
        assert!(!first.text.contains('\x1b'));
        assert_eq!(ring.at_or_after(100, None).unwrap().text, "line 99 [2J");
        assert!(ring.at_or_after(101, None).is_none());
        assert!(ring.at_or_after(u64::MAX, None).is_none());
        let even: Vec<u64> = ring.newest(2, Some("even")).map(|line| line.at_ms).collect();
        assert_eq!(even, [96, 98]);
        assert_eq!(ring.newest(3, Some("nobody")).count(), 0);
        assert_eq!(ring.seq_of_newest(0, None), first.seq);
    }

    #[test]
    fn a_flood_is_cut_counted_and_told() {
        let mut ring = LogRing::new(1 << 20);
        ring.limit(0, "loud", LogRate { per_s: 1, burst: 2 });
        for number in 0..10 {
            ring.take(0, "loud", &format!("line {number}"));
        }
        ring.take(0, "other", "still heard");
        assert_eq!((ring.next_seq(), ring.settle_due_ms()), (4, Some(Bucket::REPORT_MS)));
        ring.settle(10);
        assert_eq!(ring.next_seq(), 4, "not yet");
        ring.settle(Bucket::REPORT_MS);
        assert_eq!(ring.settle_due_ms(), None);
        ring.take(2000, "loud", "later");
        let texts: Vec<_> = ring.newest(9, Some("loud")).map(|line| line.text.as_str()).collect();
        assert_eq!(texts, ["line 0", "line 1", "8 lines dropped", "later"]);
    }

    #[test]
    fn last_words_leave_details_out() {
        let mut ring = LogRing::new(1 << 20);
        for (level, text) in [
            (LogLevel::Info, "a"),
            (LogLevel::Warn, "b"),
            (LogLevel::Debug, "detail"),
            (LogLevel::Error, "c"),
        ] {
            ring.push(0, "u", level, text);
        }
        let words =
            |count| ring.last_words(count).map(|line| line.text.as_str()).collect::<Vec<_>>();
        assert_eq!((words(2), words(9)), (vec!["b", "c"], vec!["a", "b", "c"]));
        assert!(words(0).is_empty());
    }

    #[test]
    fn structured_and_plain_lines_are_understood() {
        assert_eq!(understand("hello"), (LogLevel::Info, "hello".into()));
        let line = r#"{"level":"warn","text":"disk slow","disk":"sda","elapsed_ms":3}"#;
        assert_eq!(understand(line), (LogLevel::Warn, "disk slow disk=sda elapsed_ms=3".into()));
        assert_eq!(understand(r#"{"level":"loud","text":"x"}"#), (LogLevel::Info, "x".into()));
        assert_eq!(understand("{broken"), (LogLevel::Info, "{broken".into()));
        assert_eq!(understand(r#"{"text":1}"#).1, r#"{"text":1}"#);
    }

    #[test]
    fn lines_are_cut_wherever_the_pipe_cut_them() {
        assert_eq!(lines_of(&[b"a\nb", b"c\n", b"\n", b"d"]), ["a", "bc", "d"]);
        let long = vec![b'x'; 10 * PARTIAL_BYTES_MAX];
        let lines = lines_of(&[&long, b"y\nz\n"]);
        assert_eq!((lines[0].len(), lines[1].as_str()), (PARTIAL_BYTES_MAX, "z"));
    }

    proptest! {
        #[test]
        fn the_ring_never_outgrows_its_limit(sizes in prop::collection::vec(0usize..3000, 0..200)) {
            let mut ring = LogRing::new(10_000);
            for size in sizes {
                ring.push(0, "u", LogLevel::Info, &"x".repeat(size));
                prop_assert!(ring.bytes <= 10_000);
                prop_assert_eq!(ring.bytes, ring.lines.iter().map(cost).sum::<usize>());
            }
        }

        #[test]
        fn any_bytes_are_answered(chunks in prop::collection::vec(any::<Vec<u8>>(), 0..8)) {
            for line in lines_of(&chunks.iter().map(Vec::as_slice).collect::<Vec<_>>()) {
                let _ = understand(&line);
            }
        }
    }
}
