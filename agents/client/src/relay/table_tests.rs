use super::*;
use goblin_core_ninep::wire::{Data, LateU32};
use goblin_core_ninep::{NO_FID, Names, Qid, Qids};

fn frame(tag: u16, request: &Request<'_>) -> Frame {
    let mut out = Vec::new();
    request.encode(tag, &mut out);
    out.into()
}

fn qid(path: u64) -> Qid {
    Qid { kind: 0, version: 1, path }
}

/// Asks and answers: the table of a session goes on.
fn talk(table: &mut Table, request: &Request<'_>, reply: &Reply<'_>) {
    assert!(matches!(table.request(frame(1, request)), Verdict::Forward(_)), "{request:?}");
    assert!(table.reply(&encoded(1, reply)));
}

fn attached() -> Table {
    let mut table = Table::default();
    let version = Request::Version { msize: 8192, version: b"9P2000.L" };
    talk(&mut table, &version, &Reply::Version { msize: 8192, version: b"9P2000.L" });
    let attach = Request::Attach { fid: 0, afid: NO_FID, uname: b"u", aname: b"home", n_uname: 0 };
    talk(&mut table, &attach, &Reply::Attach { qid: qid(1) });
    table
}

fn walk(table: &mut Table, fid: u32, newfid: u32, names: &[&[u8]]) {
    let mut qids = Qids::default();
    for (index, _) in names.iter().enumerate() {
        qids.push(qid(100 + u64::from(newfid) + index as u64));
    }
    let names = Names::new(names).unwrap();
    talk(table, &Request::Walk { fid, newfid, names }, &Reply::Walk { qids });
}

fn path(table: &Table, fid: u32) -> String {
    let (_, fid) = table.fids().into_iter().find(|(number, _)| *number == fid).unwrap();
    fid.path
        .iter()
        .map(|name| String::from_utf8_lossy(name).into_owned())
        .collect::<Vec<_>>()
        .join("/")
}

fn open(table: &mut Table, fid: u32, flags: u32) {
    let reply = Reply::Lopen { qid: qid(100 + u64::from(fid)), iounit: 0 };
    talk(table, &Request::Lopen { fid, flags }, &reply);
}

fn errno_of(answer: &[u8]) -> Option<u32> {
    match Reply::decode(answer).unwrap().1 {
        Reply::Error { ecode } => Some(ecode),
        _ => None,
    }
}

const READ: Request<'_> = Request::Read { fid: 2, offset: 0, count: 100 };
const WRITE: Request<'_> = Request::Write { fid: 2, offset: 0, data: Data(b"x") };

#[test]
fn a_fids_place_follows_walks_creations_and_moves() {
    let mut table = attached();
    walk(&mut table, 0, 1, &[b"a", b"b"]);
    walk(&mut table, 1, 2, &[b"..", b"c"]);
    assert_eq!(path(&table, 2), "a/c");
    walk(&mut table, 0, 3, &[b"a"]);
    let create = Request::Lcreate { fid: 3, name: b"new", flags: 0o1102, mode: 0, gid: 0 };
    talk(&mut table, &create, &Reply::Lcreate { qid: qid(9), iounit: 0 });
    assert_eq!(path(&table, 3), "a/new");
    let made = table.fids().into_iter().find(|(number, _)| *number == 3).unwrap().1;
    // Made and emptied once: opening it again must do neither.
    assert_eq!(made.open, Some(2));
    let moved = Request::Renameat { olddirfid: 0, oldname: b"a", newdirfid: 0, newname: b"z" };
    talk(&mut table, &moved, &Reply::Renameat {});
    assert_eq!((path(&table, 1), path(&table, 3)), ("z/b".into(), "z/new".into()));
    assert_eq!(path(&table, 0), "");
}

#[test]
fn a_partial_walk_binds_nothing() {
    let mut table = attached();
    let names = Names::new(&[b"a", b"b"]).unwrap();
    let mut qids = Qids::default();
    qids.push(qid(5));
    talk(&mut table, &Request::Walk { fid: 0, newfid: 4, names }, &Reply::Walk { qids });
    assert!(!table.has(4));
}

#[test]
fn reading_waits_for_the_server_and_is_asked_again_in_order() {
    let mut table = attached();
    walk(&mut table, 0, 2, &[b"f"]);
    open(&mut table, 2, 0);
    let asked = frame(7, &READ);
    assert!(matches!(table.request(asked.clone()), Verdict::Forward(_)));
    assert!(table.lost().is_empty());
    let later = frame(3, &Request::Getattr { fid: 2, mask: 0 });
    assert_eq!(table.request(later.clone()), Verdict::Hold);
    assert!(table.back().is_empty());
    assert_eq!(table.next_again(), Some(asked));
    assert_eq!(table.next_again(), Some(later));
    assert_eq!(table.next_again(), None);
    assert!(table.reply(&encoded(7, &Reply::Read { data: Data(b"") })));
    // Once only.
    assert!(!table.reply(&encoded(7, &Reply::Read { data: Data(b"") })));
}

#[test]
fn what_nobody_knows_whether_it_was_done_fails_once() {
    let mut table = attached();
    walk(&mut table, 0, 2, &[b"f"]);
    open(&mut table, 2, 0o2001);
    let unknown = [
        Request::Mkdir { dfid: 0, name: b"d", mode: 0, gid: 0 },
        Request::Unlinkat { dirfid: 0, name: b"f", flags: 0 },
        // Open for appending: the bytes could come twice.
        WRITE,
    ];
    for (tag, request) in unknown.iter().enumerate() {
        table.request(frame(tag as u16, request));
    }
    let answers = table.lost();
    assert_eq!(answers.len(), unknown.len());
    assert!(answers.iter().all(|answer| errno_of(answer) == Some(5)), "{answers:?}");
    table.back();
    assert_eq!(table.next_again(), None);
}

#[test]
fn a_process_that_is_killed_ends_while_the_server_is_away() {
    let mut table = attached();
    walk(&mut table, 0, 2, &[b"f"]);
    table.request(frame(7, &READ));
    table.lost();
    let Verdict::Answer(answer) = table.request(frame(8, &Request::Flush { oldtag: 7 })) else {
        panic!("a flush must not wait");
    };
    assert_eq!(Reply::decode(&answer).unwrap(), (8, Reply::Flush {}));
    let Verdict::Answer(_) = table.request(frame(9, &Request::Clunk { fid: 2 })) else {
        panic!("nor a clunk");
    };
    table.back();
    assert_eq!(table.next_again(), None);
    assert!(!table.has(2));
}

#[test]
fn a_flush_takes_back_what_was_not_asked_again_yet() {
    let mut table = attached();
    walk(&mut table, 0, 2, &[b"f"]);
    table.request(frame(7, &READ));
    table.lost();
    table.back();
    let verdict = table.request(frame(8, &Request::Flush { oldtag: 7 }));
    assert!(matches!(verdict, Verdict::Answer(_)));
    assert_eq!(table.next_again(), None);
}

#[test]
fn when_patience_is_over_everything_fails_at_once_until_the_server_is_back() {
    let mut table = attached();
    table.request(frame(7, &Request::Getattr { fid: 0, mask: 0 }));
    table.lost();
    assert_eq!(table.give_up().len(), 1);
    let Verdict::Answer(answer) = table.request(frame(8, &Request::Getattr { fid: 0, mask: 0 }))
    else {
        panic!();
    };
    assert_eq!(errno_of(&answer), Some(5));
    table.back();
    assert!(matches!(table.request(frame(9, &READ)), Verdict::Forward(_)));
}

#[test]
fn what_waits_for_an_absent_server_is_bounded() {
    let mut table = attached();
    table.lost();
    let data = vec![0; 1 << 20];
    let held = (0..100u16)
        .map(|tag| {
            let write = Request::Write { fid: 0, offset: 0, data: Data(&data) };
            table.request(frame(tag, &write))
        })
        .filter(|verdict| *verdict == Verdict::Hold)
        .count();
    assert!((64..=65).contains(&held), "{held}");
}

#[test]
fn a_sync_after_the_server_started_anew_does_not_lie() {
    let mut table = attached();
    walk(&mut table, 0, 2, &[b"f"]);
    open(&mut table, 2, 1);
    talk(&mut table, &WRITE, &Reply::Write { count: 1 });
    assert!(table.fids().iter().any(|(number, fid)| *number == 2 && fid.dirty));
    table.lost();
    table.set_fate(2, Fate::Unsure);
    table.back();
    let sync = Request::Fsync { fid: 2, datasync: LateU32(0) };
    let Verdict::Answer(answer) = table.request(frame(5, &sync)) else { panic!() };
    assert_eq!(errno_of(&answer), Some(5));
    // The program knows now; the next sync is about what is written from here on.
    assert!(matches!(table.request(frame(5, &sync)), Verdict::Forward(_)));
}

#[test]
fn a_file_that_is_not_there_any_more_fails_and_can_be_given_up() {
    let mut table = attached();
    walk(&mut table, 0, 2, &[b"f"]);
    table.lost();
    table.request(frame(7, &READ));
    table.set_fate(2, Fate::Lost);
    let answers = table.back();
    assert_eq!(errno_of(&answers[0]), Some(5));
    let Verdict::Answer(answer) = table.request(frame(8, &Request::Clunk { fid: 2 })) else {
        panic!()
    };
    assert_eq!(Reply::decode(&answer).unwrap().1, Reply::Clunk {});
    assert!(!table.has(2));
}

#[test]
fn identities_may_change_together_but_not_one_alone() {
    let mut table = attached();
    walk(&mut table, 0, 2, &[b"f"]);
    let fid = table.fids().into_iter().find(|(number, _)| *number == 2).unwrap().1;
    assert!(fid.is_same(qid(102), qid(1)));
    assert!(fid.is_same(qid(102 ^ 0xff00), qid(1 ^ 0xff00)));
    assert!(!fid.is_same(qid(103), qid(1)));
    assert!(!fid.is_same(Qid { kind: 0x80, ..qid(102) }, qid(1)));
}

proptest::proptest! {
    #[test]
    fn any_frames_leave_the_table_whole(
        frames in proptest::collection::vec(proptest::collection::vec(proptest::num::u8::ANY, 0..40), 0..40),
    ) {
        let mut table = attached();
        for (index, bytes) in frames.into_iter().enumerate() {
            match index % 4 {
                0 => { table.reply(&bytes); }
                1 if index % 3 == 0 => { table.lost(); }
                2 if index % 5 == 0 => { table.back(); }
                _ => { table.request(bytes.into()); }
            }
        }
        table.lost();
        table.give_up();
    }
}
