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
    assert_eq!(table.reply(&encoded(1, reply)), Heard::Kernel);
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
    assert_eq!(table.reply(&encoded(7, &Reply::Read { data: Data(b"") })), Heard::Kernel);
    // Once only.
    assert_eq!(table.reply(&encoded(7, &Reply::Read { data: Data(b"") })), Heard::Nobody);
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

/// The relay's own requests in what is sent: tags and types.
fn own_in(bytes: &[u8]) -> Vec<(u16, u8)> {
    let mut found = Vec::new();
    let mut rest = bytes;
    while !rest.is_empty() {
        let size = u32::from_le_bytes(rest[..4].try_into().unwrap()) as usize;
        let (header, _) = Header::split(&rest[..size]).unwrap();
        assert!(header.tag >= OWN_TAG_MIN);
        found.push((header.tag, header.kind));
        rest = &rest[size..];
    }
    found
}

const TGETATTR: u8 = 24;
const TWALK: u8 = 110;
const TCLUNK: u8 = 120;
const GETATTR: Request<'_> = Request::Getattr { fid: 2, mask: 0x17ff };

/// A walk to fid 2, the tag under which its attributes are asked, and the reply about them.
fn walk_ahead(table: &mut Table) -> (u16, Vec<u8>) {
    let names = Names::new(&[b"f"]).unwrap();
    let mut qids = Qids::default();
    qids.push(qid(102));
    let verdict = table.request(frame(1, &Request::Walk { fid: 0, newfid: 2, names }));
    let parcel = table.parcel(&verdict);
    let own = own_in(&parcel.after);
    assert_eq!((parcel.before.len(), own.len(), own[0].1), (0, 1, TGETATTR));
    assert_eq!(table.reply(&encoded(1, &Reply::Walk { qids })), Heard::Kernel);
    let attr = goblin_core_ninep::Attr { size: 77, ..Default::default() };
    (own[0].0, encoded(own[0].0, &Reply::Getattr { attr }))
}

fn size_in(frame: &[u8]) -> (u16, u64) {
    match Reply::decode(frame).unwrap() {
        (tag, Reply::Getattr { attr }) => (tag, attr.size),
        other => panic!("{other:?}"),
    }
}

#[test]
fn attributes_that_came_with_a_walk_answer_one_request() {
    let mut table = attached();
    let (_, reply) = walk_ahead(&mut table);
    assert_eq!(table.reply(&reply), Heard::Nobody);
    let Verdict::Answer(answer) = table.request(frame(9, &GETATTR)) else { panic!() };
    assert_eq!(size_in(&answer), (9, 77));
    // The next one may come much later, and is asked.
    assert!(matches!(table.request(frame(9, &GETATTR)), Verdict::Forward(_)));
}

#[test]
fn attributes_that_are_on_their_way_are_waited_for() {
    let mut table = attached();
    let (_, reply) = walk_ahead(&mut table);
    assert_eq!(table.request(frame(9, &GETATTR)), Verdict::Hold);
    // Another thread's is asked on its own.
    assert!(matches!(table.request(frame(4, &GETATTR)), Verdict::Forward(_)));
    let Heard::Answer(answer) = table.reply(&reply) else { panic!() };
    assert_eq!(size_in(&answer), (9, 77));
    assert_eq!(table.reply(&reply), Heard::Nobody);
}

#[test]
fn attributes_are_not_used_after_a_change_an_open_or_a_while() {
    let setattr = Request::Setattr { fid: 0, attr: SetAttr::default() };
    let names = Names::new(&[]).unwrap();
    for between in [
        WRITE,
        setattr,
        Request::Unlinkat { dirfid: 0, name: b"x", flags: 0 },
        Request::Walk { fid: 2, newfid: 3, names },
        Request::Lopen { fid: 2, flags: 0 },
        Request::Lock {
            fid: 0,
            kind: 0,
            flags: 0,
            start: 0,
            length: 0,
            proc_id: 0,
            client_id: b"",
        },
    ] {
        for comes_before in [true, false] {
            let mut table = attached();
            let (_, reply) = walk_ahead(&mut table);
            if comes_before {
                table.reply(&reply);
            }
            table.request(frame(5, &between));
            if !comes_before {
                table.reply(&reply);
            }
            let verdict = table.request(frame(9, &GETATTR));
            assert!(matches!(verdict, Verdict::Forward(_)), "{between:?}");
        }
    }
    // A change that was under way when they were asked for.
    let mut table = attached();
    table.request(frame(5, &Request::Mkdir { dfid: 0, name: b"d", mode: 0, gid: 0 }));
    let (_, reply) = walk_ahead(&mut table);
    table.reply(&reply);
    table.reply(&encoded(5, &Reply::Mkdir { qid: qid(3) }));
    assert!(matches!(table.request(frame(9, &GETATTR)), Verdict::Forward(_)));

    let mut table = attached();
    let (_, reply) = walk_ahead(&mut table);
    table.reply(&reply);
    let later = Instant::now() + std::time::Duration::from_millis(200);
    assert!(matches!(table.at(later).request(frame(9, &GETATTR)), Verdict::Forward(_)));
}

#[test]
fn a_walk_that_fails_says_so_and_leaves_nothing() {
    let mut table = attached();
    let names = Names::new(&[b"absent"]).unwrap();
    let verdict = table.request(frame(1, &Request::Walk { fid: 0, newfid: 2, names }));
    let own = own_in(&table.parcel(&verdict).after)[0].0;
    assert_eq!(table.reply(&encoded(1, &Reply::Error { ecode: 2 })), Heard::Kernel);
    assert_eq!(table.reply(&encoded(own, &Reply::Error { ecode: 9 })), Heard::Nobody);
    // The number is used anew.
    let (_, reply) = walk_ahead(&mut table);
    table.reply(&reply);
    assert!(matches!(table.request(frame(9, &GETATTR)), Verdict::Answer(_)));
}

#[test]
fn a_second_fid_and_a_fid_given_back_go_with_the_next_request() {
    let mut table = attached();
    walk(&mut table, 0, 2, &[b"f"]);
    table.idle();
    let names = Names::new(&[]).unwrap();
    let verdict = table.request(frame(1, &Request::Walk { fid: 2, newfid: 3, names }));
    let Verdict::Answer(answer) = &verdict else { panic!() };
    assert_eq!(Reply::decode(answer).unwrap(), (1, Reply::Walk { qids: Qids::default() }));
    assert_eq!(table.parcel(&verdict), Parcel::default());
    assert_eq!(path(&table, 3), "f");
    let verdict = table.request(frame(1, &Request::Clunk { fid: 2 }));
    assert!(matches!(verdict, Verdict::Answer(_)));
    assert_eq!(table.parcel(&verdict), Parcel::default());
    assert!(!table.has(2));
    let verdict = table.request(frame(1, &Request::Lopen { fid: 3, flags: 0 }));
    let kinds: Vec<u8> =
        own_in(&table.parcel(&verdict).before).into_iter().map(|(_, kind)| kind).collect();
    assert_eq!(kinds, [TWALK, TCLUNK], "in the order in which they were asked");
    assert_eq!(table.reply(&encoded(1, &Reply::Lopen { qid: qid(102), iounit: 0 })), Heard::Kernel);
    // A file that was open is closed at once.
    let verdict = table.request(frame(1, &Request::Clunk { fid: 3 }));
    assert!(matches!(verdict, Verdict::Answer(_)));
    assert_eq!(own_in(&table.parcel(&verdict).before).len(), 1);
}

#[test]
fn a_second_fid_that_the_server_refuses_fails_with_its_reason() {
    let mut table = attached();
    walk(&mut table, 0, 2, &[b"f"]);
    table.idle();
    let names = Names::new(&[]).unwrap();
    table.request(frame(1, &Request::Walk { fid: 2, newfid: 3, names }));
    let verdict = table.request(frame(1, &Request::Lopen { fid: 3, flags: 0 }));
    let own = own_in(&table.parcel(&verdict).before)[0].0;
    table.reply(&encoded(own, &Reply::Error { ecode: 24 }));
    let Heard::Answer(answer) = table.reply(&encoded(1, &Reply::Error { ecode: 9 })) else {
        panic!();
    };
    assert_eq!(errno_of(&answer), Some(24));
    let Verdict::Answer(answer) = table.request(frame(1, &Request::Lopen { fid: 3, flags: 0 }))
    else {
        panic!();
    };
    assert_eq!(errno_of(&answer), Some(24));
    // The server has nothing to give back.
    assert!(matches!(table.request(frame(1, &Request::Clunk { fid: 3 })), Verdict::Answer(_)));
    assert_eq!(table.idle(), Parcel::default());
}

#[test]
fn the_end_of_a_lock_and_of_an_attributes_value_is_waited_for() {
    let mut table = attached();
    walk(&mut table, 0, 2, &[b"f"]);
    open(&mut table, 2, 2);
    let held = Request::Lock {
        fid: 2,
        kind: lock::WRITE,
        flags: 0,
        start: 0,
        length: 0,
        proc_id: 1,
        client_id: b"",
    };
    talk(&mut table, &held, &Reply::Lock { status: lock::SUCCESS });
    assert!(matches!(table.request(frame(1, &Request::Clunk { fid: 2 })), Verdict::Forward(_)));
    walk(&mut table, 0, 4, &[b"f"]);
    let create = Request::Xattrcreate { fid: 4, name: b"user.a", size: 3, flags: 0 };
    talk(&mut table, &create, &Reply::Xattrcreate {});
    assert!(matches!(table.request(frame(1, &Request::Clunk { fid: 4 })), Verdict::Forward(_)));
}

#[test]
fn capabilities_are_not_asked_for() {
    let mut table = attached();
    let ask = |name| Request::Xattrwalk { fid: 0, newfid: 7, name };
    let Verdict::Answer(answer) = table.request(frame(1, &ask(CAPABILITY))) else { panic!() };
    assert_eq!(errno_of(&answer), Some(Errno::ENODATA.0));
    assert!(matches!(table.request(frame(1, &ask(b"user.a"))), Verdict::Forward(_)));
}

#[test]
fn what_was_asked_ahead_is_asked_again_after_a_loss_where_somebody_waits() {
    let mut table = attached();
    let (_, reply) = walk_ahead(&mut table);
    let asked = frame(9, &GETATTR);
    assert_eq!(table.request(asked.clone()), Verdict::Hold);
    let names = Names::new(&[]).unwrap();
    table.request(frame(1, &Request::Walk { fid: 0, newfid: 3, names }));
    assert!(table.lost().is_empty());
    assert_eq!(table.reply(&reply), Heard::Nobody);
    assert_eq!(table.idle(), Parcel::default());
    assert!(table.has(3), "it is bound with the others");
    table.back();
    assert_eq!(table.next_again(), Some(asked));
    assert_eq!(table.next_again(), None);
}

#[test]
fn a_killed_callers_tag_is_not_answered_for_another() {
    let mut table = attached();
    let (_, reply) = walk_ahead(&mut table);
    assert_eq!(table.request(frame(9, &GETATTR)), Verdict::Hold);
    talk(&mut table, &Request::Flush { oldtag: 9 }, &Reply::Flush {});
    table.request(frame(9, &Request::StatFs { fid: 0 }));
    assert_eq!(table.reply(&reply), Heard::Nobody);
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
