use super::*;
use goblin_core_types::LogLevel;
use proptest::prelude::*;

const BOOT: BootId = BootId([7; 16]);

fn line(seq: u64, text: &str) -> Entry<'_> {
    Entry::Line(LineEntry {
        boot: BOOT,
        seq,
        at_ms: seq * 10,
        unix_ms: 1_800_000_000_000 + seq,
        level: LogLevel::Warn,
        unit: "share",
        text,
    })
}

/// A segment, and where each of its records ends.
fn segment(number: u64, entries: &[Entry<'_>]) -> (Vec<u8>, Vec<usize>) {
    let (mut bytes, mut ends) = (header(number), Vec::new());
    for entry in entries {
        let offset = bytes.len() as u64;
        encode(entry, number, offset, &mut bytes);
        ends.push(bytes.len());
    }
    (bytes, ends)
}

fn sample() -> Vec<Entry<'static>> {
    vec![
        Entry::Boot(BootEntry { boot: BOOT, number: 3, at_ms: 1, unix_ms: 2, version: "2.0.0" }),
        line(1, "first"),
        line(2, ""),
        line(4, "größer ✓"),
        Entry::Lost(LostEntry {
            boot: BOOT,
            first_seq: 3,
            count: 1,
            at_ms: 5,
            unix_ms: 6,
            why: WhyLost::Disk,
        }),
        line(5, "GJ"),
        line(6, "last"),
    ]
}

#[test]
fn a_segment_cut_at_every_byte_gives_every_whole_record_and_no_other() {
    let entries = sample();
    let (bytes, ends) = segment(9, &entries);
    for cut in 0..=bytes.len() {
        let whole = ends.iter().filter(|end| **end <= cut).count();
        let read: Vec<_> = Records::new(9, &bytes[..cut]).collect();
        assert_eq!(read, entries[..whole], "cut at {cut}");
    }
}

#[test]
fn what_is_appended_behind_a_torn_end_is_read() {
    let entries = sample();
    let (bytes, ends) = segment(9, &entries);
    for cut in 0..=bytes.len() {
        let whole = ends.iter().filter(|end| **end <= cut).count();
        let mut bytes = bytes[..cut].to_vec();
        let offset = bytes.len() as u64;
        encode(&line(100, "after the power cut"), 9, offset, &mut bytes);
        let mut expected = entries[..whole].to_vec();
        expected.push(line(100, "after the power cut"));
        assert_eq!(Records::new(9, &bytes).collect::<Vec<_>>(), expected, "cut at {cut}");
    }
}

#[test]
fn one_damaged_byte_costs_one_record() {
    let entries = sample();
    let (bytes, ends) = segment(9, &entries);
    for at in 0..bytes.len() {
        let mut bytes = bytes.clone();
        bytes[at] ^= 0x10;
        let mut records = Records::new(9, &bytes);
        let read: Vec<_> = records.by_ref().collect();
        let hit = ends.iter().position(|end| at < *end).filter(|_| at >= HEADER_BYTES);
        let mut expected = entries.clone();
        hit.map(|hit| expected.remove(hit));
        assert_eq!(read, expected, "damaged at {at}");
        assert!(records.damaged_bytes() > 0);
    }
}

#[test]
fn records_of_another_segment_or_place_are_not_taken() {
    let (bytes, ends) = segment(9, &sample());
    assert_eq!(Records::new(10, &bytes).count(), 0);
    let mut moved = header(9);
    moved.extend_from_slice(&bytes[ends[0]..]);
    assert_eq!(Records::new(9, &moved).count(), 0);
}

/// A unit may write what it likes: what a damaged record uncovers is never taken for a record.
#[test]
fn a_record_inside_a_text_is_not_read() {
    let inner_at = HEADER_BYTES as u64 + 11 + 42 + 5;
    let mut inner = Vec::new();
    encode(&line(77, "forged"), 9, inner_at, &mut inner);
    let text = String::from_utf8_lossy(&inner).into_owned();
    let (mut bytes, _) = segment(9, &[line(1, &text), line(2, "next")]);
    bytes[HEADER_BYTES + 5] ^= 1;
    assert_eq!(Records::new(9, &bytes).collect::<Vec<_>>(), [line(2, "next")]);
}

#[test]
fn a_newer_format_is_left_alone() {
    let (mut bytes, _) = segment(9, &sample());
    bytes[8] = 2;
    assert_eq!(Records::new(9, &bytes).count(), sample().len(), "a torn header");
    let crc = crc32fast::hash(&bytes[..HEADER_BYTES - 4]).to_le_bytes();
    bytes[HEADER_BYTES - 4..HEADER_BYTES].copy_from_slice(&crc);
    assert_eq!(Records::new(9, &bytes).count(), 0);
}

#[test]
fn texts_that_do_not_fit_are_cut_at_a_character() {
    let (text, unit) = ("ö".repeat(5000), "u".repeat(300));
    let Entry::Line(long) = line(1, &text) else { unreachable!() };
    let (bytes, _) = segment(1, &[Entry::Line(LineEntry { unit: &unit, ..long })]);
    let read = Records::new(1, &bytes).next();
    let Some(Entry::Line(read)) = read else { panic!("{read:?}") };
    assert_eq!(read.unit.len(), 255);
    assert!(read.text.len() > 1700 && read.text.chars().all(|c| c == 'ö'));
}

#[test]
fn boot_ids_read_as_the_kernel_writes_them() {
    let text = "0f1e2d3c-4b5a-6978-8796-a5b4c3d2e1f0";
    let id: BootId = text.parse().unwrap();
    assert_eq!(id.to_string(), text);
    for odd in ["", "0f1e", &text[1..], &format!("{text}0"), "0f1e2d3c-4b5a-6978-8796-a5b4c3d2e1g0"]
    {
        assert!(odd.parse::<BootId>().is_err(), "{odd}");
    }
}

#[test]
fn names_sort_like_numbers() {
    assert_eq!(file_name(26), "000000000000001a.gj");
    assert_eq!(number_of(&file_name(u64::MAX)), Some(u64::MAX));
    for odd in ["1.gj", "000000000000001A.gj", "000000000000001a", "+00000000000001a.gj", ""] {
        assert_eq!(number_of(odd), None, "{odd}");
    }
}

fn infos(count: u64, bytes: u64) -> Vec<SegmentInfo> {
    (1..=count).map(|number| SegmentInfo { number, bytes }).collect()
}

#[test]
fn the_oldest_go_when_the_journal_is_full() {
    let plenty = SPARE_BYTES * 10;
    assert_eq!(make_room(&[], plenty), Room::After(vec![]));
    assert_eq!(make_room(&infos(15, SEGMENT_BYTES_MAX), plenty), Room::After(vec![]));
    assert_eq!(make_room(&infos(16, SEGMENT_BYTES_MAX), plenty), Room::After(vec![1]));
}

#[test]
fn a_full_disk_lets_the_journal_reuse_its_own_room() {
    assert_eq!(make_room(&[], 0), Room::None);
    assert_eq!(make_room(&infos(1, SEGMENT_BYTES_MAX), 0), Room::None);
    assert_eq!(make_room(&infos(4, SEGMENT_BYTES_MAX), 0), Room::After(vec![1]));
    assert_eq!(make_room(&infos(4, SEGMENT_BYTES_MAX), SPARE_BYTES), Room::After(vec![1]));
}

proptest! {
    #[test]
    fn any_bytes_are_answered(number: u64, bytes: Vec<u8>) {
        let _ = Records::new(number, &bytes).count();
    }

    #[test]
    fn what_is_written_is_read(
        number: u64,
        texts in prop::collection::vec((any::<u64>(), "\\PC{0,200}"), 0..40),
    ) {
        let entries: Vec<_> = texts.iter().map(|(seq, text)| {
            let Entry::Line(entry) = line(0, text) else { unreachable!() };
            Entry::Line(LineEntry { seq: *seq, ..entry })
        }).collect();
        let (bytes, _) = segment(number, &entries);
        let mut records = Records::new(number, &bytes);
        prop_assert_eq!(records.by_ref().collect::<Vec<_>>(), entries);
        prop_assert_eq!(records.damaged_bytes(), 0);
    }

    /// Any overwritten stretch: what is read was written, in order, and only the hit records are missing.
    #[test]
    fn damage_never_invents(at in 0usize..800, noise in prop::collection::vec(any::<u8>(), 1..300)) {
        let entries = sample();
        let (mut bytes, ends) = segment(9, &entries);
        let from = at.min(bytes.len() - 1);
        let to = (from + noise.len()).min(bytes.len());
        bytes[from..to].copy_from_slice(&noise[..to - from]);
        let read: Vec<_> = Records::new(9, &bytes).collect();
        let mut rest = entries.iter();
        prop_assert!(read.iter().all(|entry| rest.any(|written| written == entry)));
        let starts = std::iter::once(HEADER_BYTES).chain(ends.iter().copied());
        let hit = starts.zip(&ends).filter(|(start, end)| *start < to && **end > from).count();
        prop_assert!(read.len() + hit >= entries.len());
    }

    #[test]
    fn the_bound_holds_after_any_history(
        sizes in prop::collection::vec(1u64..=SEGMENT_BYTES_MAX, 0..60),
        free in 0u64..SPARE_BYTES * 4,
    ) {
        let mut segments: Vec<SegmentInfo> = Vec::new();
        for (number, bytes) in (1..).zip(sizes) {
            match make_room(&segments, free) {
                Room::After(gone) => {
                    segments.retain(|segment| !gone.contains(&segment.number));
                    segments.push(SegmentInfo { number, bytes });
                }
                Room::None => prop_assert!(free < SPARE_BYTES + SEGMENT_BYTES_MAX),
            }
            prop_assert!(segments.iter().map(|segment| segment.bytes).sum::<u64>() <= JOURNAL_BYTES_MAX);
        }
    }
}
