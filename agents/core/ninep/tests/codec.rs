//! The codec against itself: what is written reads back, and any bytes are answered.

use goblin_core_ninep::wire::{Data, Field, LateU32, Reader, Rest, WireError};
use goblin_core_ninep::{
    Attr, AttrEntry, Connection, Handled, Limits, Names, Qid, Qids, Reply, ReplyBuf, Request,
    SetAttr, StatFs, Time, Token, synthetic,
};
use proptest::prelude::*;
use std::sync::Arc;

/// Values that fields are filled with.
#[derive(Debug, Clone)]
struct Fill {
    byte: u8,
    word: u32,
    long: u64,
    name: Vec<u8>,
    data: Vec<u8>,
    count: usize,
}

fn fill() -> impl Strategy<Value = Fill> {
    let bytes = |max| proptest::collection::vec(any::<u8>(), 0..max);
    (any::<u8>(), any::<u32>(), any::<u64>(), bytes(300), bytes(2000), 0usize..=16).prop_map(
        |(byte, word, long, name, data, count)| Fill { byte, word, long, name, data, count },
    )
}

fn requests(f: &Fill) -> Vec<Request<'_>> {
    let (fid, name, mode, gid, flags) = (f.word, &f.name[..], f.word ^ 7, !f.word, f.word / 3);
    let (dfid, other) = (f.word / 2, &f.name[f.name.len() / 2..]);
    let names = Names::new(&vec![name; f.count]).unwrap();
    let time = Time { sec: f.long, nsec: f.long / 7 };
    let attr = SetAttr {
        valid: flags,
        mode,
        uid: fid,
        gid,
        size: f.long,
        atime: time,
        mtime: Time { sec: 1, nsec: f.long },
    };
    let (kind, start, length, proc_id, client_id) = (f.byte, f.long, !f.long, f.word, name);
    vec![
        Request::Version { msize: f.word, version: name },
        Request::Auth { afid: fid, uname: name, aname: other, n_uname: gid },
        Request::Attach { fid, afid: dfid, uname: name, aname: other, n_uname: gid },
        Request::Flush { oldtag: f.byte.into() },
        Request::Walk { fid, newfid: dfid, names },
        Request::Read { fid, offset: f.long, count: flags },
        Request::Write { fid, offset: f.long, data: Data(&f.data) },
        Request::Clunk { fid },
        Request::Remove { fid },
        Request::StatFs { fid },
        Request::Lopen { fid, flags },
        Request::Lcreate { fid, name, flags, mode, gid },
        Request::Symlink { fid, name, target: other, gid },
        Request::Mknod { dfid, name, mode, major: fid, minor: flags, gid },
        Request::Rename { fid, dfid, name },
        Request::Readlink { fid },
        Request::Getattr { fid, mask: f.long },
        Request::Setattr { fid, attr },
        Request::Xattrwalk { fid, newfid: dfid, name },
        Request::Xattrcreate { fid, name, size: f.long, flags },
        Request::Readdir { fid, offset: f.long, count: flags },
        Request::Fsync { fid, datasync: LateU32(flags) },
        Request::Lock { fid, kind, flags, start, length, proc_id, client_id },
        Request::Getlock { fid, kind, start, length, proc_id, client_id },
        Request::Link { dfid, fid, name },
        Request::Mkdir { dfid, name, mode, gid },
        Request::Renameat { olddirfid: fid, oldname: name, newdirfid: dfid, newname: other },
        Request::Unlinkat { dirfid: fid, name, flags },
        Request::Gwalk { fid, newfid: dfid, names },
        Request::Greaddir { fid, offset: f.long, count: flags },
        Request::Gopen { fid, newfid: dfid, flags, count: mode, names },
        Request::Gcreate { dfid, newfid: fid, flags, mode, gid, name, data: Data(&f.data) },
        Request::Once { series: f.long, number: start, kind: f.byte, body: Rest(&f.data) },
        Request::Gtoken { fid },
        Request::Gsync { fid, token: Token { epoch: f.long, number: start } },
        Request::Gchanges { fid, token: Token { epoch: start, number: f.long }, count: flags },
    ]
}

fn replies(f: &Fill) -> Vec<Reply<'_>> {
    let qid = Qid { kind: f.byte, version: f.word, path: f.long };
    let mut qids = Qids::default();
    (0..f.count).for_each(|_| assert!(qids.push(qid)));
    let time = Time { sec: f.long, nsec: f.long / 7 };
    let attr = Attr {
        valid: f.long,
        qid,
        mode: f.word,
        nlink: f.long / 3,
        size: !f.long,
        mtime: time,
        btime: time,
        generation: f.long,
        ..Attr::default()
    };
    let stat = StatFs { kind: f.word, blocks: f.long, fsid: !f.long, ..StatFs::default() };
    let data = Data(&f.data);
    vec![
        Reply::Error { ecode: f.word },
        Reply::Version { msize: f.word, version: &f.name },
        Reply::Auth { aqid: qid },
        Reply::Attach { qid },
        Reply::Flush {},
        Reply::Walk { qids },
        Reply::Read { data },
        Reply::Write { count: f.word },
        Reply::Clunk {},
        Reply::Remove {},
        Reply::StatFs { stat },
        Reply::Lopen { qid, iounit: f.word },
        Reply::Lcreate { qid, iounit: f.word },
        Reply::Symlink { qid },
        Reply::Mknod { qid },
        Reply::Rename {},
        Reply::Readlink { target: &f.name },
        Reply::Getattr { attr },
        Reply::Setattr {},
        Reply::Xattrwalk { size: f.long },
        Reply::Xattrcreate {},
        Reply::Readdir { data },
        Reply::Fsync {},
        Reply::Lock { status: f.byte },
        Reply::Getlock {
            kind: f.byte,
            start: f.long,
            length: !f.long,
            proc_id: f.word,
            client_id: &f.name,
        },
        Reply::Link {},
        Reply::Mkdir { qid },
        Reply::Renameat {},
        Reply::Unlinkat {},
        Reply::Gwalk { attr, qids },
        Reply::Greaddir { data },
        Reply::Gopen { attr, iounit: f.word, eof: f.byte, data },
        Reply::Gcreate { attr, iounit: f.word, count: !f.word },
        Reply::Once { kind: f.byte, body: Rest(&f.data) },
        Reply::Gtoken { token: Token { epoch: f.long, number: 1 }, durable: !f.long },
        Reply::Gsync { token: Token { epoch: 1, number: f.long } },
        Reply::Gchanges { token: Token { epoch: f.long, number: !f.long }, data },
    ]
}

proptest! {
    #[test]
    fn written_requests_read_back(f in fill(), tag: u16) {
        for request in requests(&f) {
            let mut frame = Vec::new();
            request.encode(tag, &mut frame);
            prop_assert_eq!(Request::decode(&frame), Ok((tag, request)));
        }
    }

    #[test]
    fn written_replies_read_back(f in fill(), tag: u16) {
        for reply in replies(&f) {
            let mut frame = Vec::new();
            reply.encode(tag, &mut frame);
            prop_assert_eq!(Reply::decode(&frame), Ok((tag, reply)));
        }
    }

    #[test]
    fn any_body_is_read_or_refused(kind: u8, body in proptest::collection::vec(any::<u8>(), 0..400)) {
        if let Ok(request) = Request::decode_body(kind, &body) {
            let mut frame = Vec::new();
            request.encode(0, &mut frame);
            // One shape for one meaning, but for the field that old clients leave out.
            prop_assert!(frame[7..] == body[..] || kind == 50);
        }
        if let Ok(reply) = Reply::decode_body(kind, &body) {
            let mut frame = Vec::new();
            reply.encode(0, &mut frame);
            prop_assert_eq!(&frame[7..], &body[..]);
        }
    }

    #[test]
    fn any_frames_are_answered(
        frames in proptest::collection::vec((any::<u8>(), any::<u16>(),
            proptest::collection::vec(any::<u8>(), 0..60)), 0..20),
        extended: bool,
    ) {
        let tree = Arc::new(synthetic::Tree::new("t", synthetic::Dir::new()));
        let mut connection = Connection::new(tree, Limits::default());
        let mut out = ReplyBuf::new();
        let mut hello = Vec::new();
        let version: &[u8] = if extended { b"9P2000.L.gob1" } else { b"9P2000.L" };
        Request::Version { msize: 8192, version }.encode(u16::MAX, &mut hello);
        assert!(matches!(connection.handle(&hello, &mut out), Handled::Reply));
        for (kind, tag, body) in frames {
            let mut frame = (u32::try_from(body.len()).unwrap() + 7).to_le_bytes().to_vec();
            frame.push(kind);
            frame.extend(tag.to_le_bytes());
            frame.extend(body);
            if let Handled::Reply = connection.handle(&frame, &mut out) {
                prop_assert!(Reply::decode(out.bytes()).is_ok());
            }
        }
    }
}

#[test]
fn a_message_cut_anywhere_is_refused() {
    let f = Fill {
        byte: 3,
        word: 5,
        long: 7,
        name: b"name".to_vec(),
        data: b"data".to_vec(),
        count: 3,
    };
    for request in requests(&f) {
        let mut frame = Vec::new();
        request.encode(1, &mut frame);
        for cut in 0..frame.len() {
            assert!(Request::decode(&frame[..cut]).is_err(), "{} at {cut}", request.name());
            let body = frame.get(7..cut).unwrap_or(&[]);
            // Two bodies end early and are whole: the field that old clients leave out, and what has no count.
            let whole = match request {
                Request::Fsync { .. } => cut == 11,
                Request::Once { .. } => cut >= 7 + 17,
                _ => false,
            };
            assert_eq!(Request::decode_body(request.kind(), body).is_ok(), whole);
        }
        frame.push(0);
        if matches!(request, Request::Once { .. }) {
            continue;
        }
        let err = Request::decode_body(request.kind(), &frame[7..]).unwrap_err();
        assert_eq!(err, WireError::Trailing { extra: 1 });
    }
}

#[test]
fn attributes_and_their_entries_have_the_size_they_say() {
    let entry = AttrEntry { offset: 1, kind: 8, name: b"name", attr: Attr::default() };
    let mut bytes = Vec::new();
    entry.put(&mut bytes);
    assert_eq!(bytes.len(), entry.wire_bytes());
    assert_eq!(Reader::new(&bytes).get::<AttrEntry<'_>>(), Ok(entry));
    bytes.clear();
    Attr::default().put(&mut bytes);
    assert_eq!(bytes.len(), Attr::BYTES);
}

#[test]
fn a_walk_of_seventeen_names_is_refused() {
    let mut body = Vec::new();
    body.extend([0; 8]);
    body.extend(17u16.to_le_bytes());
    body.extend([0; 34]);
    let err = Request::decode_body(110, &body).unwrap_err();
    assert_eq!(err, WireError::TooManyNames { got: 17, max: 16 });
}

#[test]
fn bytes_are_those_of_the_protocols_page() {
    let mut frame = Vec::new();
    Request::Version { msize: 8192, version: b"9P2000.L" }.encode(u16::MAX, &mut frame);
    let wanted = b"\x15\0\0\0\x64\xff\xff\0\x20\0\0\x08\x009P2000.L";
    assert_eq!(frame, wanted);
    frame.clear();
    Request::Walk { fid: 1, newfid: 2, names: Names::new(&[b"a", b"bc"]).unwrap() }
        .encode(3, &mut frame);
    assert_eq!(frame, b"\x18\0\0\0\x6e\x03\0\x01\0\0\0\x02\0\0\0\x02\0\x01\0a\x02\0bc");
}
