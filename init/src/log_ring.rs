//! The log of the running board: the newest lines of every unit, in bounded memory.
//!
//! Lines that no longer fit are dropped, oldest first, and counted; their numbers are the gaps that a
//! reader sees. A unit that writes more than its `log_rate` loses the rest before it comes here; how much
//! is told in a line of its own. Nothing here waits for anybody.

mod store;

use self::store::{Head, Store};
use goblin_core_types::{LogLevel, LogLine};
use goblin_init_core::log_rate::{Bucket, LogRate};
use serde_json::{Map, Value};
use std::borrow::Cow;

/// Memory for all lines, in bytes.
pub const RING_BYTES_MAX: usize = 384 * 1024;
/// Longest line kept, in bytes; the rest of a longer one is cut off.
pub const LINE_BYTES_MAX: usize = 1024;
/// Most bytes of one unfinished line; a line of JSON is longer than its text.
const PARTIAL_BYTES_MAX: usize = 4 * LINE_BYTES_MAX;

/// The newest lines.
#[derive(Debug)]
pub struct LogRing {
    store: Store,
    next_seq: u64,
    dropped: u64,
    /// Who wrote lines, numbered as they came.
    writers: Vec<Writer>,
    /// Their numbers in the order of their names.
    by_name: Vec<u16>,
}

/// Someone who writes lines: a unit, PID 1, the kernel. There are not more of them than units and a few.
#[derive(Debug)]
struct Writer {
    name: Box<str>,
    /// What it may still write.
    bucket: Bucket,
}

impl LogRing {
    /// A ring of at most `bytes_max` bytes.
    pub fn new(bytes_max: usize) -> Self {
        Self {
            store: Store::new(bytes_max),
            next_seq: 1,
            dropped: 0,
            writers: Vec::new(),
            by_name: Vec::new(),
        }
    }

    fn name(&self, number: u16) -> &str {
        self.writers.get(usize::from(number)).map_or("", |writer| &writer.name)
    }

    fn place_of(&self, name: &str) -> Result<usize, usize> {
        self.by_name.binary_search_by(|number| self.name(*number).cmp(name))
    }

    fn number_of(&self, name: &str) -> Option<u16> {
        self.place_of(name).ok().and_then(|place| self.by_name.get(place)).copied()
    }

    /// Number of a writer, which gets one if it has none.
    fn number(&mut self, now_ms: u64, name: &str) -> u16 {
        let place = match self.place_of(name) {
            Ok(place) => return self.by_name.get(place).copied().unwrap_or(0),
            Err(place) => place,
        };
        // More writers than numbers cannot be: a board has far fewer units.
        let number = u16::try_from(self.writers.len()).unwrap_or(u16::MAX);
        let bucket = Bucket::new(LogRate::default(), now_ms);
        self.writers.push(Writer { name: name.into(), bucket });
        self.by_name.insert(place, number);
        number
    }

    fn bucket(&mut self, now_ms: u64, name: &str) -> Option<&mut Bucket> {
        let number = self.number(now_ms, name);
        self.writers.get_mut(usize::from(number)).map(|writer| &mut writer.bucket)
    }

    /// A unit's limit, from now on; the default one where none was given.
    pub fn limit(&mut self, now_ms: u64, unit: &str, rate: LogRate) {
        let known = self.number_of(unit).is_some();
        if !known && rate == LogRate::default() {
            // Most units never write; the first line of one that does makes it known.
            return;
        }
        let Some(bucket) = self.bucket(now_ms, unit) else { return };
        if known {
            bucket.set_rate(rate);
        } else {
            *bucket = Bucket::new(rate, now_ms);
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
        let Some(bucket) = self.bucket(now_ms, unit) else { return true };
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
        while let Some(writer) = self.writers.iter_mut().find(|writer| due(&writer.bucket)) {
            let (unit, count) = (writer.name.clone(), writer.bucket.report());
            self.tell_dropped(now_ms, &unit, count);
        }
    }

    /// When [`settle`](Self::settle) has something to do.
    pub fn settle_due_ms(&self) -> Option<u64> {
        self.writers.iter().filter_map(|writer| writer.bucket.report_due_ms()).min()
    }

    fn tell_dropped(&mut self, now_ms: u64, unit: &str, count: u64) {
        if count > 0 {
            self.push(now_ms, unit, LogLevel::Warn, &format!("{count} lines dropped"));
        }
    }

    /// Adds a line; control characters are replaced by blanks, so that no unit can draw on a terminal.
    pub fn push(&mut self, at_ms: u64, unit: &str, level: LogLevel, text: &str) {
        let text = text.get(..text.floor_char_boundary(LINE_BYTES_MAX)).unwrap_or_default();
        let text = printable(text.trim_end());
        let writer = self.number(at_ms, unit);
        let dropped = self.store.push(at_ms, writer, level, &text);
        self.dropped = self.dropped.saturating_add(dropped);
        self.next_seq = self.next_seq.saturating_add(1);
    }

    /// Lines dropped since the start.
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Number that the next line will get.
    pub fn next_seq(&self) -> u64 {
        self.next_seq
    }

    /// Number of the oldest line.
    fn first_seq(&self) -> u64 {
        self.next_seq.saturating_sub(u64::try_from(self.store.count()).unwrap_or(0))
    }

    fn seq_at(&self, place: usize) -> u64 {
        self.first_seq().saturating_add(u64::try_from(place).unwrap_or(0))
    }

    fn line(&self, place: usize, head: &Head) -> LogLine {
        LogLine {
            seq: self.seq_at(place),
            at_ms: head.at_ms,
            unit: self.name(head.unit).to_owned(),
            level: head.level,
            text: self.store.text(place),
        }
    }

    /// Whether a line is of one unit, or of any.
    fn of(&self, unit: Option<&str>) -> impl Fn(&(usize, &Head)) -> bool + use<> {
        let number = unit.map(|unit| self.number_of(unit));
        move |(_, head)| number.is_none_or(|number| number == Some(head.unit))
    }

    /// The first line numbered `seq` or higher, of one unit or of all.
    pub fn at_or_after(&self, seq: u64, unit: Option<&str>) -> Option<LogLine> {
        // Numbers rise by one from line to line, so the place of a number is known.
        let skip = usize::try_from(seq.saturating_sub(self.first_seq())).unwrap_or(usize::MAX);
        let found = self.store.heads(skip..usize::MAX).find(self.of(unit));
        found.map(|(place, head)| self.line(place, head))
    }

    /// Number of the oldest of the `count_max` newest lines of one unit or of all; 0 means all lines.
    pub fn seq_of_newest(&self, count_max: usize, unit: Option<&str>) -> u64 {
        let mut lines = self.store.heads(0..usize::MAX).filter(self.of(unit));
        let oldest = match count_max {
            0 => lines.next(),
            count => lines.rev().take(count).last(),
        };
        oldest.map_or(self.next_seq, |(place, _)| self.seq_at(place))
    }

    /// The `count_max` newest lines of every unit that say more than details, oldest first.
    pub fn last_words(&self, count_max: usize) -> impl Iterator<Item = LogLine> {
        let telling = |(_, head): &(usize, &Head)| head.level > LogLevel::Debug;
        let lines = || self.store.heads(0..usize::MAX).filter(telling);
        let oldest = lines().rev().take(count_max).last();
        let from = oldest.map_or(usize::MAX, |(place, _)| place);
        lines()
            .skip_while(move |(place, _)| *place < from)
            .map(|(place, head)| self.line(place, head))
    }

    /// The `count_max` newest lines, oldest first.
    pub fn newest(&self, count_max: usize, unit: Option<&str>) -> impl Iterator<Item = LogLine> {
        let seq = self.seq_of_newest(count_max.max(1), unit);
        let skip = usize::try_from(seq.saturating_sub(self.first_seq())).unwrap_or(usize::MAX);
        let lines = self.store.heads(skip..usize::MAX).filter(self.of(unit));
        lines.map(|(place, head)| self.line(place, head))
    }
}

/// The text with blanks in place of control characters.
fn printable(text: &str) -> Cow<'_, str> {
    // Nearly every line is plain ASCII, and is not looked at by character.
    if text.bytes().all(|byte| matches!(byte, b' '..=b'~')) {
        return Cow::Borrowed(text);
    }
    Cow::Owned(text.replace(char::is_control, " "))
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
        let texts: Vec<_> = ring.newest(9, Some("loud")).map(|line| line.text).collect();
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
            |count| ring.last_words(count).map(|line| line.text).collect::<Vec<_>>().join(" ");
        assert_eq!((words(2).as_str(), words(9).as_str()), ("b c", "a b c"));
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
        fn any_bytes_are_answered(chunks in prop::collection::vec(any::<Vec<u8>>(), 0..8)) {
            for line in lines_of(&chunks.iter().map(Vec::as_slice).collect::<Vec<_>>()) {
                let _ = understand(&line);
            }
        }
    }
}
