//! The dialect `9P2000.L.gob1` on host directories: fewer messages, and changes that are done once.

mod common;

use common::{Raw, Served, refused};
use goblin_core_ninep::client::{Client, NewFile, Series, open};
use goblin_core_ninep::wire::Rest;
use goblin_core_ninep::{
    Attr, Errno, MSIZE_MAX, Names, Reply, Request, VERSION_9P2000L, VERSION_GOB1,
};
use goblin_sys::socket::Socket;
use std::io::{Read, Write};
use std::os::unix::fs::MetadataExt;

fn raw(served: &Served) -> Raw {
    let mut raw = served.raw(8192);
    raw.ok(u16::MAX, &Request::Version { msize: 8192, version: VERSION_GOB1 });
    raw.attach(0, "data");
    raw
}

fn names<'a>(names: &[&'a [u8]]) -> Names<'a> {
    Names::new(names).unwrap()
}

fn tree(served: &Served) {
    std::fs::create_dir_all(served.path("a/b")).unwrap();
    std::fs::write(served.path("a/b/file"), b"content").unwrap();
}

#[test]
fn plain_sessions_know_nothing_of_it() {
    let served = Served::new();
    let mut raw = served.raw(8192);
    let request = Request::Gwalk { fid: 0, newfid: 1, names: Names::NONE };
    assert_eq!(raw.refused(&request), Errno::EOPNOTSUPP);
}

#[test]
fn a_walk_answers_the_ends_attributes() {
    let served = Served::new();
    tree(&served);
    let mut raw = raw(&served);
    let walk = Request::Gwalk { fid: 0, newfid: 1, names: names(&[b"a", b"b", b"file"]) };
    let Reply::Gwalk { attr, qids } = raw.ask(1, &walk) else { panic!("not walked") };
    assert_eq!((qids.len(), attr.size, attr.qid), (3, 7, qids[2]));
    assert_eq!(attr.valid & Attr::BASIC, Attr::BASIC);
    raw.clunk(1);
}

#[test]
fn a_walk_that_stops_half_way_binds_nothing() {
    let served = Served::new();
    tree(&served);
    let mut raw = raw(&served);
    let walk = Request::Gwalk { fid: 0, newfid: 1, names: names(&[b"a", b"none", b"file"]) };
    let Reply::Gwalk { attr, qids } = raw.ask(1, &walk) else { panic!("not walked") };
    assert_eq!((qids.len(), attr.valid), (1, 0));
    assert_eq!(raw.refused(&Request::Clunk { fid: 1 }), Errno::EBADF);
    let walk = Request::Gwalk { fid: 0, newfid: 1, names: names(&[b"none"]) };
    assert_eq!(raw.refused(&walk), Errno::ENOENT);
}

#[test]
fn names_that_lead_out_are_refused_here_too() {
    let served = Served::new();
    tree(&served);
    std::os::unix::fs::symlink("../outside", served.path("out")).unwrap();
    let mut raw = raw(&served);
    for path in [&[b"..", &b".."[..], b"outside"][..], &[b"a/b"], &[b""], &[b"out", b"secret"]] {
        for request in [
            Request::Gwalk { fid: 0, newfid: 1, names: names(path) },
            Request::Gopen { fid: 0, newfid: 1, flags: 0, count: 9, names: names(path) },
        ] {
            match raw.ask(1, &request) {
                Reply::Error { .. } => {}
                Reply::Gwalk { attr, .. } => assert_eq!(attr.valid, 0, "{path:?}"),
                other => panic!("{path:?}: {other:?}"),
            }
        }
        assert_eq!(raw.refused(&Request::Clunk { fid: 1 }), Errno::EBADF);
    }
}

#[test]
fn an_open_brings_the_beginning() {
    let served = Served::new();
    tree(&served);
    let mut raw = raw(&served);
    let file = names(&[b"a", b"b", b"file"]);
    let request = Request::Gopen { fid: 0, newfid: 1, flags: 0, count: 100, names: file };
    let Reply::Gopen { attr, eof, data, .. } = raw.ask(1, &request) else { panic!("not opened") };
    assert_eq!((attr.size, eof, data.0), (7, 1, &b"content"[..]));
    let request = Request::Gopen { fid: 0, newfid: 2, flags: 0, count: 3, names: file };
    let Reply::Gopen { eof, data, .. } = raw.ask(1, &request) else { panic!("not opened") };
    assert_eq!((eof, data.0), (0, &b"con"[..]));
    let read = Request::Read { fid: 2, offset: 3, count: 100 };
    let Reply::Read { data } = raw.ask(1, &read) else { panic!("not read") };
    assert_eq!(data.0, b"tent");
    let dir = Request::Gopen { fid: 0, newfid: 3, flags: 0, count: 100, names: names(&[b"a"]) };
    let Reply::Gopen { eof, data, .. } = raw.ask(1, &dir) else { panic!("not opened") };
    assert_eq!((eof, data.0.len()), (0, 0));
    let used = Request::Gopen { fid: 0, newfid: 1, flags: 0, count: 3, names: file };
    assert_eq!(raw.refused(&used), Errno::EBADF);
}

#[test]
fn a_long_beginning_fits_msize() {
    let served = Served::new();
    std::fs::write(served.path("big"), vec![7; 100_000]).unwrap();
    let mut raw = raw(&served);
    let big = names(&[b"big"]);
    let request = Request::Gopen { fid: 0, newfid: 1, flags: 0, count: u32::MAX, names: big };
    raw.send(1, &request);
    let mut size = [0; 4];
    raw.socket.read_exact(&mut size).unwrap();
    let size = u32::from_le_bytes(size);
    assert!(size > 7000 && size <= 8192, "{size}");
}

#[test]
fn files_are_read_and_made_by_one_message_or_by_many() {
    let served = Served::new();
    for (mut client, prefix) in [(served.extended(), "x"), (served.client(), "y")] {
        let root = client.attach("data", "").unwrap();
        for (bytes, name) in [(0, "empty"), (4096, "small"), (2 << 20, "large")] {
            let name = format!("{prefix}-{name}");
            let data: Vec<u8> = (0..bytes).map(|i: u32| (i % 251) as u8).collect();
            let file = NewFile { name: name.as_bytes(), mode: 0o640, data: &data };
            client.create_file(&root, &file).unwrap();
            assert_eq!(refused(client.create_file(&root, &file)), Errno::EEXIST);
            assert_eq!(std::fs::read(served.path(&name)).unwrap(), data);
            assert_eq!(std::fs::metadata(served.path(&name)).unwrap().mode(), 0o100_640);
            assert_eq!(client.read_file(&root, &name, data.len()).unwrap(), data);
            if bytes > 0 {
                assert!(client.read_file(&root, &name, data.len() - 1).is_err());
            }
        }
        assert_eq!(refused(client.read_file(&root, "none", 9)), Errno::ENOENT);
    }
}

#[test]
fn listings_carry_attributes_with_or_without_the_dialect() {
    let served = Served::new();
    for index in 0..3000u32 {
        std::fs::write(served.path(&format!("file-{index}")), vec![0; index as usize % 50])
            .unwrap();
    }
    std::os::unix::fs::symlink("/etc", served.path("link")).unwrap();
    std::fs::create_dir(served.path("dir")).unwrap();
    let mut listings = Vec::new();
    for mut client in [served.extended(), served.client()] {
        let root = client.attach("data", "").unwrap();
        let dir = client.walk(&root, "").unwrap();
        client.open(&dir, open::READ | open::DIRECTORY).unwrap();
        let mut entries = client.read_dir_attr(&dir, 4 << 20).unwrap();
        entries.sort_by(|(a, _), (b, _)| a.name.cmp(&b.name));
        let seen: Vec<_> = entries
            .into_iter()
            .map(|(entry, attr)| {
                let attr = attr.unwrap();
                let meta = std::fs::symlink_metadata(
                    served.path(&String::from_utf8(entry.name.clone()).unwrap()),
                );
                let meta = meta.unwrap();
                assert_eq!(
                    (attr.mode, attr.size, attr.nlink),
                    (meta.mode(), meta.size(), meta.nlink())
                );
                (entry.name, entry.kind, attr)
            })
            .collect();
        listings.push(seen);
    }
    assert_eq!(listings[0].len(), 3002);
    assert_eq!(listings[0], listings[1]);
}

#[test]
fn a_change_sent_again_after_a_cut_is_done_once() {
    let served = Served::new();
    let mut series = Series::new(77);
    let (make, remove, again) = (series.next_op(), series.next_op(), series.next_op());
    let file = NewFile { name: b"file", mode: 0o600, data: b"text" };
    {
        let mut client = served.extended();
        let root = client.attach("data", "").unwrap();
        client.create_file_once(make, &root, &file).unwrap();
        client.unlink_once(remove, &root, b"file", 0).unwrap();
    }
    // The answers were lost, says the client; somebody else has made the name anew meanwhile.
    std::fs::write(served.path("file"), b"somebody else's").unwrap();
    let mut client = served.extended();
    let root = client.attach("data", "").unwrap();
    client.create_file_once(make, &root, &file).unwrap();
    client.unlink_once(remove, &root, b"file", 0).unwrap();
    assert_eq!(std::fs::read(served.path("file")).unwrap(), b"somebody else's");
    // An error is remembered as well.
    assert_eq!(refused(client.mkdir_once(again, &root, b"file", 0o755)), Errno::EEXIST);
    std::fs::remove_file(served.path("file")).unwrap();
    assert_eq!(refused(client.mkdir_once(again, &root, b"file", 0o755)), Errno::EEXIST);
    let to = (&root, &b"renamed"[..]);
    std::fs::write(served.path("old"), b"").unwrap();
    let moved = series.next_op();
    client.rename_once(moved, (&root, b"old"), to).unwrap();
    client.rename_once(moved, (&root, b"old"), to).unwrap();
    assert!(served.path("renamed").exists());
}

#[test]
fn a_server_that_ran_anew_does_not_guess() {
    let mut served = Served::new();
    let mut series = Series::new(5);
    let (first, second) = (series.next_op(), series.next_op());
    let mut client = served.extended();
    let root = client.attach("data", "").unwrap();
    client.mkdir_once(first, &root, b"one", 0o755).unwrap();
    client.mkdir_once(second, &root, b"two", 0o755).unwrap();
    served.ledger = Default::default();
    let mut client = served.extended();
    let root = client.attach("data", "").unwrap();
    assert_eq!(refused(client.mkdir_once(second, &root, b"two", 0o755)), Errno::ESTALE);
}

#[test]
fn what_keeps_state_is_not_done_once() {
    let served = Served::new();
    let mut raw = raw(&served);
    let mut refuse = |inner: Request<'_>| {
        let mut frame = Vec::new();
        inner.encode(0, &mut frame);
        let body = Rest(&frame[7..]);
        let once = Request::Once { series: 1, number: 0, kind: inner.kind(), body };
        assert_eq!(raw.refused(&once), Errno::EINVAL, "{}", inner.name());
    };
    refuse(Request::Clunk { fid: 0 });
    refuse(Request::Read { fid: 0, offset: 0, count: 1 });
    refuse(Request::Version { msize: 8192, version: VERSION_9P2000L });
    let name = &b"name"[..];
    let data = goblin_core_ninep::wire::Data(b"");
    refuse(Request::Gcreate { dfid: 0, newfid: 9, flags: 1, mode: 0o600, gid: 0, name, data });
    refuse(Request::Once { series: 1, number: 1, kind: 72, body: Rest(b"") });
    // A refusal before any effect keeps nothing: the same number can be used.
    let mut frame = Vec::new();
    Request::Mkdir { dfid: 50, name, mode: 0o755, gid: 0 }.encode(0, &mut frame);
    let once = Request::Once { series: 1, number: 0, kind: 72, body: Rest(&frame[7..]) };
    assert_eq!(raw.refused(&once), Errno::EBADF);
    frame.clear();
    Request::Mkdir { dfid: 0, name, mode: 0o755, gid: 0 }.encode(0, &mut frame);
    let once = Request::Once { series: 1, number: 0, kind: 72, body: Rest(&frame[7..]) };
    assert!(matches!(raw.ask(1, &once), Reply::Once { kind: 73, .. }));
}

#[test]
fn a_read_only_share_stays_as_it_is() {
    let served = Served::new();
    let mut client = served.extended();
    let root = client.attach("fixed", "").unwrap();
    let file = NewFile { name: b"file", mode: 0o600, data: b"text" };
    assert_eq!(refused(client.create_file(&root, &file)), Errno::EROFS);
    let op = Series::new(1).next_op();
    assert_eq!(refused(client.create_file_once(op, &root, &file)), Errno::EROFS);
}

#[test]
fn a_file_is_bound_again_only_when_it_is_the_same() {
    let served = Served::new();
    tree(&served);
    let path: [&[u8]; 3] = [b"a", b"b", b"file"];
    let mut client = served.extended();
    let root = client.attach("data", "").unwrap();
    let (_, attr) = client.walk_attr(&root, &path).unwrap();
    let mut client = served.extended();
    let root = client.attach("data", "").unwrap();
    client.rebind(&root, &path, attr.qid.path).unwrap();
    std::fs::write(served.path("new"), b"other").unwrap();
    std::fs::rename(served.path("new"), served.path("a/b/file")).unwrap();
    assert_eq!(refused(client.rebind(&root, &path, attr.qid.path)), Errno::ESTALE);
}

/// A server that knows only plain dialects, played from a script.
fn scripted(answers: &'static [&'static [u8]]) -> Socket {
    let (ours, mut theirs) = Socket::pair().unwrap();
    std::thread::spawn(move || {
        for version in answers {
            let mut size = [0; 4];
            theirs.read_exact(&mut size).unwrap();
            let mut rest = vec![0; u32::from_le_bytes(size) as usize - 4];
            theirs.read_exact(&mut rest).unwrap();
            let mut frame = Vec::new();
            Reply::Version { msize: 8192, version }.encode(u16::MAX, &mut frame);
            theirs.write_all(&frame).unwrap();
        }
        let _ = theirs.read(&mut [0; 1]);
    });
    ours
}

#[test]
fn other_servers_are_spoken_to_plainly() {
    for answers in [&[VERSION_9P2000L][..], &[b"unknown", VERSION_9P2000L]] {
        let client = Client::connect_extended(scripted(answers), MSIZE_MAX).unwrap();
        assert!(!client.is_extended());
    }
    assert!(Client::connect_extended(scripted(&[b"unknown", b"unknown"]), MSIZE_MAX).is_err());
}
