//! Where `rs9p` 0.13 departs from the protocol, and how we read the same bytes.

use crate::{Ours, our_bytes, their_bytes, their_reading};
use goblin_core_ninep::wire::{Data, Field, LateU32};
use goblin_core_ninep::{Attr, DirEntry, Qid, Reply, Request, Time};
use rs9p::{DirEntryData, FCall};

/// `Tfsync` and `Rreaddir`, which have a difference in every message.
pub const KINDS: [u8; 2] = [50, 41];

/// Linux sends `datasync[4]` since 2010 (`p9_client_fsync`); `rs9p` neither writes nor reads it. Its shorter
/// message is taken as a full sync, and ours is read by it as one.
#[test]
fn the_peers_fsync_has_no_datasync() {
    let theirs = FCall::TFSync { fid: 5 };
    let frame = their_bytes(1, &theirs);
    let full = Request::Fsync { fid: 5, datasync: LateU32(0) };
    assert_eq!(Request::decode(&frame), Ok((1, full.clone())));
    let ours = our_bytes(1, &Ours::Request(full));
    assert_eq!((ours.len(), &ours[4..11]), (frame.len() + 4, &frame[4..11]));
    assert_eq!(their_reading(&ours).unwrap().body, theirs);
}

fn listing() -> (Vec<u8>, DirEntryData) {
    let mut bytes = Vec::new();
    let mut theirs = DirEntryData::new();
    for (index, name) in ["one", "two"].into_iter().enumerate() {
        let (path, offset) = (index as u64 + 7, index as u64 + 1);
        let qid = Qid { kind: Qid::FILE, version: 3, path };
        DirEntry { qid, offset, kind: 8, name: name.as_bytes() }.put(&mut bytes);
        let qid = rs9p::QId { typ: rs9p::QIdType::FILE, version: 3, path };
        theirs.push(rs9p::DirEntry { qid, offset, typ: 8, name: name.to_owned() });
    }
    (bytes, theirs)
}

/// `count[4]` of `Rreaddir` is in bytes. `rs9p` writes it so, and reads it as a number of entries.
#[test]
fn the_peer_writes_listings_and_cannot_read_them() {
    let (bytes, data) = listing();
    let theirs = FCall::RReadDir { data };
    let ours = Reply::Readdir { data: Data(&bytes) };
    let frame = their_bytes(1, &theirs);
    assert_eq!(our_bytes(1, &Ours::Reply(ours.clone())), frame);
    assert_eq!(Reply::decode(&frame), Ok((1, ours)));
    assert!(their_reading(&frame).is_err());
}

/// Names are bytes: one that is no UTF-8 exists on disks and must be reached. `rs9p` refuses the message.
#[test]
fn names_that_are_no_text_only_pass_here() {
    let request = Request::Rename { fid: 1, dfid: 2, name: b"caf\xe9" };
    let frame = our_bytes(1, &Ours::Request(request.clone()));
    assert_eq!(Request::decode(&frame), Ok((1, request)));
    assert!(their_reading(&frame).is_err());
}

/// Bytes behind the last field are refused here; `rs9p` drops them in silence.
#[test]
fn trailing_bytes_are_only_refused_here() {
    let mut frame = their_bytes(1, &FCall::TClunk { fid: 9 });
    frame.push(0);
    frame[0] += 1;
    assert!(Request::decode(&frame).is_err());
    assert_eq!(their_reading(&frame).unwrap().body, FCall::TClunk { fid: 9 });
}

/// `walk(5)`: at most 16 names (MAXWELEM). `rs9p` takes any number.
#[test]
fn long_walks_are_only_refused_here() {
    let wnames = vec!["x".to_owned(); 17];
    let theirs = FCall::TWalk { fid: 1, newfid: 2, wnames };
    let frame = their_bytes(1, &theirs);
    assert!(Request::decode(&frame).is_err());
    assert_eq!(their_reading(&frame).unwrap().body, theirs);
}

/// `Rgetattr` ends with birth time, generation and data version; `rs9p` reads past them and loses them.
#[test]
fn the_peer_loses_the_end_of_attributes() {
    let btime = Time { sec: 5, nsec: 6 };
    let attr = Attr { valid: Attr::BASIC | Attr::BTIME, btime, data_version: 9, ..Attr::default() };
    let frame = our_bytes(1, &Ours::Reply(Reply::Getattr { attr }));
    let read = their_reading(&frame).unwrap().body;
    let again = their_bytes(1, &read);
    assert_eq!(again.len(), frame.len());
    assert_eq!(again[..frame.len() - 32], frame[..frame.len() - 32]);
    assert_eq!(again[frame.len() - 32..], [0; 32]);
}

/// Unknown bits of flags and kinds reach our server, which refuses them; `rs9p` drops them while reading,
/// so that a lock of kind 4 becomes a read lock.
#[test]
fn unknown_kinds_of_locks_are_only_kept_here() {
    let request = Request::Lock {
        fid: 1,
        kind: 4,
        flags: 0,
        start: 0,
        length: 0,
        proc_id: 0,
        client_id: b"x",
    };
    let frame = our_bytes(1, &Ours::Request(request.clone()));
    assert_eq!(Request::decode(&frame), Ok((1, request)));
    let FCall::TLock { flock, .. } = their_reading(&frame).unwrap().body else { panic!() };
    assert_eq!(flock.typ, rs9p::LockType::RDLOCK);
}
