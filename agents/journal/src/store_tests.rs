use super::*;
use goblin_core_types::{LogLevel, LogLine};
use goblin_init_core::journal::JOURNAL_BYTES_MAX;
use std::path::Path;

const NOW: Now = Now { at_ms: 5, unix_ms: 1000 };

fn boot(byte: u8) -> Boot {
    Boot { id: BootId([byte; 16]), number: u64::from(byte), version: "2.0.0".into() }
}

fn line(seq: u64, text: &str) -> Kept {
    let line =
        LogLine { seq, at_ms: seq, unit: "u".into(), level: LogLevel::Info, text: text.into() };
    Kept::Line(line, 1000 + seq)
}

/// Boot and number of every line, in order; boots as `(boot, 0)`.
fn read(dir: &Path) -> Vec<(u8, u64)> {
    let mut all = Vec::new();
    for segment in journal::segments(dir).unwrap() {
        let bytes = journal::read(dir, segment.number).unwrap();
        all.extend(Records::new(segment.number, &bytes).map(|entry| match entry {
            Entry::Line(line) => (line.boot.0[0], line.seq),
            Entry::Boot(boot) => (boot.boot.0[0], 0),
            Entry::Lost(lost) => (lost.boot.0[0], lost.first_seq),
        }));
    }
    all
}

#[test]
fn boots_share_a_segment_and_a_restarted_agent_goes_on() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("journal");
    let mut store = Store::new(dir.clone(), boot(1));
    assert_eq!(store.last_seq().unwrap(), 0);
    store.append(&[line(1, "a"), line(2, "b")], NOW).unwrap();
    store.append(&[line(3, "c")], NOW).unwrap();
    let mut again = Store::new(dir.clone(), boot(1));
    assert_eq!(again.last_seq().unwrap(), 3);
    again.append(&[line(4, "d")], NOW).unwrap();
    let mut next = Store::new(dir.clone(), boot(2));
    assert_eq!(next.last_seq().unwrap(), 0);
    next.append(&[line(1, "e")], NOW).unwrap();
    let expected = [(1, 0), (1, 1), (1, 2), (1, 3), (1, 0), (1, 4), (2, 0), (2, 1)];
    assert_eq!(read(&dir), expected);
    assert_eq!(journal::segments(&dir).unwrap().len(), 1);
}

#[test]
fn a_torn_end_is_left_and_what_follows_is_read() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path();
    Store::new(dir.into(), boot(1)).append(&[line(1, "a"), line(2, "b")], NOW).unwrap();
    let file = OpenOptions::new().write(true).open(dir.join(file_name(1))).unwrap();
    file.set_len(file.metadata().unwrap().len() - 3).unwrap();
    let mut store = Store::new(dir.into(), boot(2));
    store.append(&[line(1, "c")], NOW).unwrap();
    assert_eq!(read(dir), [(1, 0), (1, 1), (2, 0), (2, 1)]);
}

#[test]
fn the_journal_stays_within_its_bound_and_drops_the_oldest() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path();
    let mut store = Store::new(dir.into(), boot(1));
    let text = "x".repeat(1000);
    let mut seq = 0;
    for _ in 0..400 {
        let batch: Vec<Kept> = (0..100)
            .map(|_| {
                seq += 1;
                line(seq, &text)
            })
            .collect();
        store.append(&batch, NOW).unwrap();
        let used: u64 = journal::segments(dir).unwrap().iter().map(|found| found.bytes).sum();
        assert!(used <= JOURNAL_BYTES_MAX, "{used}");
    }
    assert_eq!(store.last_seq().unwrap(), seq);
    let lines = read(dir);
    let kept: Vec<u64> = lines.iter().map(|(_, seq)| *seq).filter(|seq| *seq > 0).collect();
    assert!(kept.windows(2).all(|pair| pair[0] + 1 == pair[1]), "a gap");
    assert!(kept.len() > 25_000 && kept.last() == Some(&seq));
}

#[test]
fn a_directory_that_cannot_be_made_is_an_error_and_passes() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("journal");
    std::fs::write(&dir, "in the way").unwrap();
    let mut store = Store::new(dir.clone(), boot(1));
    assert!(store.append(&[line(1, "a")], NOW).is_err());
    std::fs::remove_file(&dir).unwrap();
    store.append(&[line(1, "a")], NOW).unwrap();
    assert_eq!(read(&dir), [(1, 0), (1, 1)]);
}

#[test]
fn a_segment_of_a_newer_release_is_not_appended_to() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path();
    std::fs::write(dir.join(file_name(6)), b"GOBLINJ1 of a newer release").unwrap();
    Store::new(dir.into(), boot(1)).append(&[line(1, "a")], NOW).unwrap();
    let found: Vec<u64> = journal::segments(dir).unwrap().iter().map(|s| s.number).collect();
    assert_eq!((found, read(dir)), (vec![6, 7], vec![(1, 0), (1, 1)]));
}

/// `/dev/full` refuses every write.
#[test]
fn a_segment_that_takes_no_more_is_left_for_a_new_one() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path();
    let mut store = Store::new(dir.into(), boot(1));
    store.append(&[line(1, "a")], NOW).unwrap();
    if let Some(open) = &mut store.open {
        open.file = OpenOptions::new().write(true).open("/dev/full").unwrap();
    }
    let err = store.append(&[line(2, "b")], NOW).unwrap_err();
    assert_eq!(err.kind(), io::ErrorKind::StorageFull);
    let new = Open {
        file: OpenOptions::new().write(true).open("/dev/full").unwrap(),
        number: 2,
        bytes: 0,
        is_new: true,
    };
    std::fs::write(dir.join(file_name(2)), header(2)).unwrap();
    store.open = Some(new);
    assert!(store.append(&[line(2, "b")], NOW).is_err());
    assert_eq!(journal::segments(dir).unwrap().len(), 1, "an empty segment stays");
    store.append(&[line(2, "b")], NOW).unwrap();
    assert_eq!(read(dir), [(1, 0), (1, 1), (1, 0), (1, 2)]);
    assert_eq!(journal::segments(dir).unwrap().len(), 2);
}
