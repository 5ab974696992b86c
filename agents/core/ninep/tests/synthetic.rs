//! Synthetic trees through the server and the client, over a pipe in memory.
// The server under test runs on threads and has time limits.
#![allow(clippy::disallowed_methods)]

mod pipe;

use goblin_core_ninep::client::{Client, ClientError, open};
use goblin_core_ninep::synthetic::{Dir, REPLY_BYTES_MAX, Tree};
use goblin_core_ninep::{End, Errno, Limits, MSIZE_MAX, NO_FID, Names, Reply, Request};
use pipe::{Pipe, start};
use std::io::{Read, Write};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

fn tree() -> Tree {
    let opens = Arc::new(AtomicU32::new(0));
    Tree::new(
        "control",
        Dir::new()
            .file("count", move |_| {
                Ok(format!("{}\n", opens.fetch_add(1, Ordering::Relaxed)).into_bytes())
            })
            .file("down", |_| Err(Errno::EHOSTDOWN))
            .file("long", |_| Ok(vec![b'x'; 100_000]))
            .dir(
                "talk",
                Dir::new()
                    .lines("echo", |line, mut reply| Ok(reply.write_all(&line)?))
                    .lines("fail", |_, mut reply| {
                        reply.write_all(b"begun\n")?;
                        Err(Errno::EIO)
                    })
                    .lines("silent", |_, reply| {
                        let (tell, told) = mpsc::channel::<()>();
                        reply.on_closed(move || drop(tell));
                        let _ = told.recv();
                        Ok(())
                    })
                    .lines("flood", |_, mut reply| {
                        loop {
                            reply.write_all(&[b'y'; 4096])?;
                        }
                    })
                    .conversation("far", |_| Err(Errno::ETIMEDOUT)),
            ),
    )
}

fn client() -> Client<Pipe> {
    Client::connect(start(tree(), Limits::default()).0, MSIZE_MAX).unwrap()
}

fn refused(err: ClientError) -> Errno {
    match err {
        ClientError::Refused(errno) => errno,
        other => panic!("{other}"),
    }
}

#[test]
fn content_is_made_at_every_open() {
    let mut client = client();
    let root = client.attach("control", "").unwrap();
    assert_eq!(client.read_file(&root, "count", 100).unwrap(), b"0\n");
    assert_eq!(client.read_file(&root, "count", 100).unwrap(), b"1\n");
    assert_eq!(client.read_file(&root, "long", 100_000).unwrap().len(), 100_000);
    assert!(matches!(client.read_file(&root, "long", 9), Err(ClientError::TooLong { limit: 9 })));
}

#[test]
fn a_failed_open_leaves_the_fid_as_it_was() {
    let mut client = client();
    let root = client.attach("/control", "").unwrap();
    let fid = client.walk(&root, "down").unwrap();
    for _ in 0..2 {
        let err = client.open(&fid, open::READ).unwrap_err();
        assert_eq!(refused(err), Errno::EHOSTDOWN);
    }
    assert_eq!(refused(client.read(&fid, 0, 10).unwrap_err()), Errno::EBADF);
    client.clunk(fid).unwrap();
    let err = client.converse(&root, "talk/far", b"hello").unwrap_err();
    assert_eq!(refused(err), Errno::ETIMEDOUT);
}

#[test]
fn a_line_is_answered_to_its_end() {
    let mut client = client();
    let root = client.attach("control", "").unwrap();
    let fid = client.converse(&root, "talk/echo", b"hello").unwrap();
    assert_eq!(client.read_to_end(&fid, 100).unwrap(), b"hello");
    // One line for each open.
    assert_eq!(refused(client.write(&fid, 0, b"more\n").unwrap_err()), Errno::EBUSY);
    client.clunk(fid).unwrap();
    let fid = client.converse(&root, "talk/fail", b"").unwrap();
    assert_eq!(client.read(&fid, 0, 100).unwrap(), b"begun\n");
    assert_eq!(refused(client.read(&fid, 6, 100).unwrap_err()), Errno::EIO);
}

#[test]
fn a_line_may_come_in_pieces() {
    let mut client = client();
    let root = client.attach("control", "").unwrap();
    let fid = client.walk(&root, "talk/echo").unwrap();
    client.open(&fid, open::READ_WRITE).unwrap();
    client.write_all(&fid, 0, b"hel").unwrap();
    client.write_all(&fid, 3, b"lo\n").unwrap();
    assert_eq!(client.read_to_end(&fid, 100).unwrap(), b"hello");
    client.clunk(fid).unwrap();
}

#[test]
fn a_client_that_leaves_ends_a_flood() {
    let mut client = client();
    let root = client.attach("control", "").unwrap();
    let fid = client.converse(&root, "talk/flood", b"").unwrap();
    let mut got = 0usize;
    while got <= 2 * REPLY_BYTES_MAX {
        got += client.read(&fid, 0, u32::MAX).unwrap().len();
    }
    client.clunk(fid).unwrap();
}

#[test]
fn directories_are_listed_in_pages() {
    let mut dir = Dir::new();
    for index in 0..500 {
        dir = dir.file(&format!("entry-with-a-long-name-{index:04}"), |_| Ok(Vec::new()));
    }
    let (pipe, _) = start(Tree::new("t", dir), Limits::default());
    let mut client = Client::connect(pipe, 4096).unwrap();
    let root = client.attach("", "").unwrap();
    let fid = client.walk(&root, "").unwrap();
    client.open(&fid, open::READ | open::DIRECTORY).unwrap();
    let entries = client.read_dir(&fid, 1 << 20).unwrap();
    assert_eq!(entries.len(), 500);
    assert_eq!(entries[499].name, b"entry-with-a-long-name-0499");
}

#[test]
fn nothing_is_above_the_root() {
    let mut client = client();
    let root = client.attach("control", "").unwrap();
    let up = client.walk(&root, "talk/../../..").unwrap();
    let (here, there) = (client.getattr(&root).unwrap(), client.getattr(&up).unwrap());
    assert_eq!(here.qid, there.qid);
    assert_eq!(here.qid.version, 0);
    assert_eq!(refused(client.attach("other", "").unwrap_err()), Errno::ENOENT);
}

#[test]
fn files_that_are_made_at_their_opening_come_in_one_message() {
    let mut client =
        Client::connect_extended(start(tree(), Limits::default()).0, MSIZE_MAX).unwrap();
    assert!(client.is_extended());
    let root = client.attach("control", "").unwrap();
    assert_eq!(client.read_file(&root, "long", 1 << 20).unwrap(), vec![b'x'; 100_000]);
    // Each opening makes the content once, and the fid is given back.
    assert_eq!(client.read_file(&root, "count", 9).unwrap(), b"0\n");
    assert_eq!(client.read_file(&root, "count", 9).unwrap(), b"1\n");
    assert_eq!(refused(client.read_file(&root, "down", 9).unwrap_err()), Errno::EHOSTDOWN);
    assert_eq!(refused(client.read_file(&root, "none", 9).unwrap_err()), Errno::ENOENT);
}

/// A client that speaks bytes.
struct Raw(Pipe);

impl Raw {
    fn new() -> Self {
        let mut raw = Self(start(tree(), Limits::default()).0);
        raw.send(u16::MAX, &Request::Version { msize: 8192, version: b"9P2000.L" });
        raw.receive();
        let attach = Request::Attach { fid: 0, afid: NO_FID, uname: b"", aname: b"", n_uname: 0 };
        raw.send(1, &attach);
        raw.receive();
        raw
    }

    fn send(&mut self, tag: u16, request: &Request<'_>) {
        let mut frame = Vec::new();
        request.encode(tag, &mut frame);
        self.0.write_all(&frame).unwrap();
    }

    fn receive(&mut self) -> (u16, u8, Vec<u8>) {
        let mut size = [0; 4];
        self.0.read_exact(&mut size).unwrap();
        let mut rest = vec![0; u32::from_le_bytes(size) as usize - 4];
        self.0.read_exact(&mut rest).unwrap();
        (u16::from_le_bytes([rest[1], rest[2]]), rest[0], rest[3..].to_vec())
    }

    /// Opens `talk/silent` as fid 1 and says a line.
    fn silence(&mut self) {
        let names = Names::new(&[b"talk", b"silent"]).unwrap();
        self.send(1, &Request::Walk { fid: 0, newfid: 1, names });
        self.receive();
        self.send(1, &Request::Lopen { fid: 1, flags: open::READ_WRITE });
        assert_eq!(self.receive().1, 13);
        let data = goblin_core_ninep::wire::Data(b"line\n");
        self.send(1, &Request::Write { fid: 1, offset: 0, data });
        assert_eq!(self.receive().1, 119);
    }
}

const RFLUSH: u8 = 109;
const RCLUNK: u8 = 121;
const RGETATTR: u8 = 25;
const RLERROR: u8 = 7;

#[test]
fn a_waiting_read_delays_nothing_and_is_cancelled_by_flush() {
    let mut raw = Raw::new();
    raw.silence();
    raw.send(5, &Request::Read { fid: 1, offset: 0, count: 100 });
    raw.send(6, &Request::Getattr { fid: 0, mask: 0 });
    let (tag, kind, _) = raw.receive();
    assert_eq!((tag, kind), (6, RGETATTR));
    raw.send(7, &Request::Flush { oldtag: 5 });
    assert_eq!(raw.receive(), (7, RFLUSH, vec![]));
    // The old tag may be used again, and only its new use is answered.
    raw.send(5, &Request::Getattr { fid: 0, mask: 0 });
    assert_eq!(raw.receive().1, RGETATTR);
    raw.send(8, &Request::Clunk { fid: 1 });
    assert_eq!(raw.receive(), (8, RCLUNK, vec![]));
}

#[test]
fn clunk_ends_a_waiting_read() {
    let mut raw = Raw::new();
    raw.silence();
    raw.send(5, &Request::Read { fid: 1, offset: 0, count: 100 });
    raw.send(6, &Request::Clunk { fid: 1 });
    let mut got = [raw.receive(), raw.receive()];
    got.sort();
    assert_eq!(got[0], (5, RLERROR, Errno::EINTR.0.to_le_bytes().to_vec()));
    assert_eq!(got[1], (6, RCLUNK, vec![]));
}

#[test]
fn flushing_oneself_or_nobody_is_answered() {
    let mut raw = Raw::new();
    raw.send(9, &Request::Flush { oldtag: 9 });
    assert_eq!(raw.receive(), (9, RFLUSH, vec![]));
    raw.send(9, &Request::Flush { oldtag: 1234 });
    assert_eq!(raw.receive(), (9, RFLUSH, vec![]));
}

#[test]
fn more_waiting_reads_than_allowed_are_refused() {
    let limits = Limits { events_max: 2, ..Limits::default() };
    let mut raw = Raw(start(tree(), limits).0);
    raw.send(u16::MAX, &Request::Version { msize: 8192, version: b"9P2000.L" });
    raw.receive();
    raw.send(1, &Request::Attach { fid: 0, afid: NO_FID, uname: b"", aname: b"", n_uname: 0 });
    raw.receive();
    raw.silence();
    for tag in 10..13 {
        raw.send(tag, &Request::Read { fid: 1, offset: 0, count: 100 });
    }
    assert_eq!(raw.receive(), (12, RLERROR, Errno::EAGAIN.0.to_le_bytes().to_vec()));
}

#[test]
fn version_opens_the_session_anew() {
    let mut raw = Raw::new();
    raw.silence();
    raw.send(5, &Request::Read { fid: 1, offset: 0, count: 100 });
    raw.send(u16::MAX, &Request::Version { msize: 4096, version: b"9P2000.L" });
    let (tag, kind, body) = raw.receive();
    assert_eq!((tag, kind, &body[..4]), (u16::MAX, 101, &4096u32.to_le_bytes()[..]));
    raw.send(5, &Request::Getattr { fid: 0, mask: 0 });
    assert_eq!(raw.receive(), (5, RLERROR, Errno::EBADF.0.to_le_bytes().to_vec()));
}

#[test]
fn unknown_types_and_torn_bodies_are_errors_and_not_the_end() {
    let mut raw = Raw::new();
    raw.0.write_all(&[7, 0, 0, 0, 200, 3, 0]).unwrap();
    assert_eq!(raw.receive(), (3, RLERROR, Errno::EOPNOTSUPP.0.to_le_bytes().to_vec()));
    raw.0.write_all(&[9, 0, 0, 0, 120, 3, 0, 1, 2]).unwrap();
    assert_eq!(raw.receive(), (3, RLERROR, Errno::EPROTO.0.to_le_bytes().to_vec()));
    raw.send(4, &Request::Getattr { fid: 0, mask: 0 });
    assert_eq!(raw.receive().1, RGETATTR);
}

#[test]
fn a_frame_beyond_msize_ends_the_connection() {
    let (mut pipe, end) = start(tree(), Limits::default());
    pipe.write_all(&(MSIZE_MAX + 1).to_le_bytes()).unwrap();
    assert!(matches!(end.join().unwrap(), End::Protocol(_)));
}

#[test]
fn silence_before_the_attach_ends_the_connection() {
    let limits = Limits { handshake: Duration::from_millis(30), ..Limits::default() };
    let (_pipe, end) = start(tree(), limits);
    assert!(matches!(end.join().unwrap(), End::Handshake));
}

#[test]
fn single_bytes_before_the_attach_do_not_hold_a_place() {
    let (mut pipe, end) = start(tree(), Limits::default());
    let mut frame = Vec::new();
    Request::Version { msize: 8192, version: &[b'9'; 200] }.encode(u16::MAX, &mut frame);
    for byte in frame {
        std::thread::sleep(Duration::from_millis(1));
        if pipe.write_all(&[byte]).is_err() {
            break;
        }
    }
    assert!(matches!(end.join().unwrap(), End::Handshake));
}

#[test]
fn a_peer_that_leaves_ends_what_waits() {
    let (pipe, end) = start(tree(), Limits::default());
    let mut raw = Raw(pipe);
    raw.send(u16::MAX, &Request::Version { msize: 8192, version: b"9P2000.L" });
    raw.receive();
    raw.send(1, &Request::Attach { fid: 0, afid: NO_FID, uname: b"", aname: b"", n_uname: 0 });
    raw.receive();
    raw.silence();
    raw.send(5, &Request::Read { fid: 1, offset: 0, count: 100 });
    drop(raw);
    assert!(matches!(end.join().unwrap(), End::Closed));
}

#[test]
fn replies_of_a_burst_all_come() {
    let mut raw = Raw::new();
    let mut burst = Vec::new();
    for tag in 0..2000 {
        Request::Getattr { fid: 0, mask: 0 }.encode(tag, &mut burst);
    }
    raw.0.write_all(&burst).unwrap();
    let mut tags = Vec::new();
    for _ in 0..2000 {
        let (tag, kind, body) = raw.receive();
        assert_eq!(kind, RGETATTR);
        assert!(Reply::decode_body(kind, &body).is_ok());
        tags.push(tag);
    }
    // A machine that is busy elsewhere may let one overtake another.
    tags.sort_unstable();
    assert!(tags.into_iter().eq(0..2000));
}
