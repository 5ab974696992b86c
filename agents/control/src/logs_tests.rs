use super::*;
use goblin_core_ninep::client::{Client, Fid};
use goblin_core_ninep::synthetic::{Dir, Talker, Tree};
use goblin_core_ninep::{Limits, serve};
use goblin_core_types::LogLevel;
use goblin_init_core::journal::{
    BootEntry, Entry, LineEntry, LostEntry, WhyLost, encode, file_name, header,
};
use goblin_sys::socket::Socket;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};

const OLD: BootId = BootId([0xaa; 16]);
const RUNNING: BootId = BootId([0xbb; 16]);

fn line(boot: BootId, seq: u64, unit: &'static str, level: LogLevel) -> Entry<'static> {
    let text = "from the journal";
    Entry::Line(LineEntry { boot, seq, at_ms: seq, unix_ms: 1000 + seq, level, unit, text })
}

fn begin(boot: BootId, number: u64) -> Entry<'static> {
    Entry::Boot(BootEntry { boot, number, at_ms: 0, unix_ms: 900, version: "2.0.0" })
}

fn write(dir: &Path, number: u64, entries: &[Entry<'_>]) {
    let mut bytes = header(number);
    for entry in entries {
        let offset = bytes.len() as u64;
        encode(entry, number, offset, &mut bytes);
    }
    std::fs::create_dir_all(dir).unwrap();
    std::fs::write(dir.join(file_name(number)), bytes).unwrap();
}

/// Two boots in two segments; the second repeats a line, as after a failed write.
fn sample(dir: &Path) {
    let lost = LostEntry {
        boot: OLD,
        first_seq: 3,
        count: 7,
        at_ms: 9,
        unix_ms: 1009,
        why: WhyLost::Disk,
    };
    write(
        dir,
        1,
        &[
            begin(OLD, 41),
            line(OLD, 1, "init", LogLevel::Info),
            line(OLD, 2, "share", LogLevel::Error),
        ],
    );
    write(
        dir,
        2,
        &[
            begin(OLD, 41),
            line(OLD, 2, "share", LogLevel::Error),
            Entry::Lost(lost),
            line(OLD, 10, "kernel", LogLevel::Debug),
            begin(RUNNING, 42),
            line(RUNNING, 1, "init", LogLevel::Info),
            line(RUNNING, 2, "init", LogLevel::Info),
            line(RUNNING, 3, "share", LogLevel::Warn),
        ],
    );
}

/// A PID 1 whose ring holds lines 3 and 4 of the running boot, and which sends line 5 to followers. Tells
/// when a follower has left.
fn fake_init(path: &Path) -> Receiver<()> {
    let listener = UnixListener::bind(path).unwrap();
    let (left, has_left) = channel();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let request = read_line(&mut BufReader::new(stream.try_clone().unwrap())).unwrap();
            let request = serde_json::from_slice(&request.unwrap()).unwrap();
            let InitRequest::Logs(LogFilter { follow, .. }) = request else { panic!() };
            for seq in if follow { 3..=5 } else { 3..=4 } {
                let line = LogLine {
                    seq,
                    at_ms: seq,
                    unit: "share".into(),
                    level: LogLevel::Info,
                    text: "from the ring".into(),
                };
                let reply = serde_json::to_string(&InitReply::Line(line)).unwrap();
                writeln!(stream, "{reply}").unwrap();
            }
            if follow {
                let left = left.clone();
                std::thread::spawn(move || {
                    let _ = io::copy(&mut stream, &mut io::sink());
                    left.send(()).unwrap();
                });
            } else {
                writeln!(stream, "{}", serde_json::to_string(&InitReply::Done).unwrap()).unwrap();
            }
        }
    });
    has_left
}

struct Board {
    _dir: tempfile::TempDir,
    places: LogPlaces,
    follower_left: Receiver<()>,
}

fn board() -> Board {
    let dir = tempfile::tempdir().unwrap();
    let places = LogPlaces {
        journal: dir.path().join("journal"),
        init: dir.path().join("init.sock"),
        boot: RUNNING,
    };
    sample(&places.journal);
    let follower_left = fake_init(&places.init);
    Board { _dir: dir, places, follower_left }
}

fn ask_over_9p(places: &LogPlaces, request: &LogsRequest) -> (Client<Socket>, Fid) {
    let (ours, theirs) = Socket::pair().unwrap();
    let places = places.clone();
    let ctl = Dir::new().conversation("ctl", move |_| {
        let places = places.clone();
        let talker: Talker = Box::new(move |line, reply| answer(&places, &line, reply));
        Ok(talker)
    });
    std::thread::spawn(move || {
        serve(Arc::new(theirs), Arc::new(Tree::new("control", ctl)), Limits::default())
    });
    let mut client = Client::connect(ours, 8192).unwrap();
    let root = client.attach("control", "root").unwrap();
    let line = serde_json::to_vec(request).unwrap();
    let fid = client.converse(&root, "ctl", &line).unwrap();
    (client, fid)
}

/// Every reply to a request that ends.
fn replies(places: &LogPlaces, request: &LogsRequest) -> Vec<LogsReply> {
    let (mut client, fid) = ask_over_9p(places, request);
    let mut bytes = Vec::new();
    loop {
        let part = client.read(&fid, bytes.len() as u64, u32::MAX).unwrap();
        if part.is_empty() {
            let lines = bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
            return lines.map(|line| serde_json::from_slice(line).unwrap()).collect();
        }
        bytes.extend_from_slice(part);
    }
}

fn seqs(places: &LogPlaces, filter: LogsFilter) -> Vec<u64> {
    let replies = replies(places, &LogsRequest::Lines(filter));
    assert_eq!(replies.last(), Some(&LogsReply::Done));
    let line = |reply: &LogsReply| match reply {
        LogsReply::Line(kept) => Some(kept.line.seq),
        _ => None,
    };
    replies.iter().filter_map(line).collect()
}

fn all() -> LogsFilter {
    LogsFilter::default()
}

fn named(name: &str) -> BootChoice {
    BootChoice::Named(name.into())
}

#[test]
fn the_ring_and_the_journal_are_read_as_one() {
    let board = board();
    let replies = replies(&board.places, &LogsRequest::Lines(all()));
    let texts: Vec<_> = replies
        .iter()
        .filter_map(|reply| match reply {
            LogsReply::Line(kept) => Some((kept.line.seq, kept.line.text.as_str())),
            _ => None,
        })
        .collect();
    let (journal, ring) = ("from the journal", "from the ring");
    assert_eq!(texts, [(1, journal), (2, journal), (3, ring), (4, ring)]);
    assert_eq!(seqs(&board.places, LogsFilter { lines_max: 3, ..all() }), [2, 3, 4]);
    assert_eq!(seqs(&board.places, LogsFilter { lines_max: 1, ..all() }), [4]);
    let init = Some("init".to_owned());
    assert_eq!(seqs(&board.places, LogsFilter { unit: init, lines_max: 1, ..all() }), [2]);
}

#[test]
fn an_earlier_boot_is_found_by_every_name() {
    let board = board();
    for boot in [BootChoice::Back(1), named("41"), named("aaaa"), named(&OLD.to_string())] {
        let filter = LogsFilter { boot, ..all() };
        assert_eq!(seqs(&board.places, filter), [1, 2, 3, 10], "line 3 tells of lost ones");
    }
    let of_old = |filter: LogsFilter| {
        seqs(&board.places, LogsFilter { boot: BootChoice::Back(1), ..filter })
    };
    assert_eq!(of_old(LogsFilter { level: Some(LogLevel::Warn), ..all() }), [2, 3]);
    assert_eq!(of_old(LogsFilter { since: Some(Since::UnixMs(1009)), ..all() }), [3, 10]);
    assert_eq!(of_old(LogsFilter { lines_max: 2, ..all() }), [3, 10]);
    assert_eq!(of_old(LogsFilter { unit: Some("share".into()), ..all() }), [2]);
}

#[test]
fn what_cannot_be_given_is_refused_with_the_remedy() {
    let board = board();
    let refused =
        |filter: LogsFilter| match replies(&board.places, &LogsRequest::Lines(filter)).as_slice() {
            [LogsReply::Refused { message }] => message.clone(),
            other => panic!("{other:?}"),
        };
    for boot in [BootChoice::Back(2), named("7"), named("aa"), named("nonsense")] {
        assert!(refused(LogsFilter { boot, ..all() }).contains("--list-boots"));
    }
    let past = LogsFilter { boot: BootChoice::Back(1), follow: true, ..all() };
    assert!(refused(past).contains("--follow"));
}

#[test]
fn boots_are_listed_oldest_first() {
    let board = board();
    let replies = replies(&board.places, &LogsRequest::Boots);
    let [LogsReply::Boots { boots }] = replies.as_slice() else { panic!("{replies:?}") };
    let facts: Vec<_> =
        boots.iter().map(|boot| (boot.back, boot.number, boot.lines, boot.lost)).collect();
    assert_eq!(facts, [(1, 41, 3, 7), (0, 42, 3, 0)]);
    assert_eq!(boots[0].boot_id, OLD.to_string());
    assert_eq!((boots[0].first_unix_ms, boots[0].last_unix_ms), (900, 1010));
}

#[test]
fn a_board_without_a_journal_shows_its_ring() {
    let mut board = board();
    board.places.journal = "/nowhere".into();
    assert_eq!(seqs(&board.places, all()), [3, 4]);
    board.places.journal = board.places.init.clone();
    assert_eq!(seqs(&board.places, all()), [3, 4], "a journal that cannot be read");
}

#[test]
fn a_follower_that_leaves_is_noticed_while_nothing_is_said() {
    let board = board();
    let filter = LogsFilter { follow: true, lines_max: 1, ..all() };
    let request = LogsRequest::Lines(filter);
    for leave in [true, false] {
        let (mut client, fid) = ask_over_9p(&board.places, &request);
        let mut text = String::new();
        while text.lines().count() < 2 || !text.ends_with('\n') {
            let part = client.read(&fid, text.len() as u64, 4096).unwrap();
            text.push_str(std::str::from_utf8(part).unwrap());
        }
        let seqs: Vec<u64> = text
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .map(|reply| match reply {
                LogsReply::Line(kept) => kept.line.seq,
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(seqs, [4, 5]);
        // Once by saying goodbye, once by a connection that breaks in the middle of a waiting read.
        if leave {
            client.clunk(fid).unwrap();
        } else {
            client.stream().set_limits(Some(Duration::from_millis(200)), None).unwrap();
            assert!(client.read(&fid, text.len() as u64, 4096).is_err());
            drop(client);
        }
        board.follower_left.recv_timeout(Duration::from_secs(10)).unwrap();
    }
}
