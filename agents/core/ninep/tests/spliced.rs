//! Data that the kernel holds, in the answers of a server: whole, in one piece, and never of a request that was flushed.
// The server under test runs on threads.
#![allow(clippy::disallowed_methods)]

mod gate;
mod pipe;

use gate::Gate;
use goblin_core_ninep::{
    Answer, AttachRequest, Attr, Backend, Content, DirPage, Errno, Job, Limits, NO_FID,
    Names as Path, Opened, Qid, ReadAnswer, Reply, Request, SpliceAnswer, Spliced,
};
use pipe::{Pipe, start};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Bytes that go a few at a time, as into a socket that is nearly full.
#[derive(Debug)]
struct Held {
    bytes: Vec<u8>,
    /// How many of these there are.
    count: Arc<AtomicUsize>,
}

impl Spliced for Held {
    fn bytes(&self) -> usize {
        self.bytes.len()
    }

    fn move_to(&mut self, stream: BorrowedFd<'_>) -> io::Result<usize> {
        let count = self.bytes.len().min(5);
        File::from(stream.try_clone_to_owned()?).write_all(&self.bytes[..count])?;
        self.bytes.drain(..count);
        Ok(count)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.count.fetch_sub(1, Ordering::SeqCst);
    }
}

const AT_ONCE: u64 = 0;
/// In a job behind the gate.
const LATER: u64 = 1;
/// In the thread that reads frames, behind the gate.
const LATE: u64 = 2;
const COPIED: u64 = 3;
const COPIED_LATER: u64 = 4;
/// As `LATER`, past its point of no return.
const COMMITTED: u64 = 5;

#[derive(Clone, Default)]
struct Disk {
    gate: Arc<Gate>,
    count: Arc<AtomicUsize>,
    /// Jobs that were begun.
    inside: Arc<AtomicUsize>,
    /// So many bytes are given whatever was asked for.
    too_many: Option<usize>,
}

fn content(offset: u64, count: usize) -> Vec<u8> {
    (0..count).map(|at| (at % 251) as u8 ^ offset as u8).collect()
}

impl Disk {
    fn held(&self, offset: u64, count: usize) -> Box<Held> {
        self.count.fetch_add(1, Ordering::SeqCst);
        let bytes = content(offset, self.too_many.unwrap_or(count));
        Box::new(Held { bytes, count: self.count.clone() })
    }
}

impl Backend for Disk {
    type Node = ();
    type Open = ();

    fn attach(&self, _: &AttachRequest<'_>) -> Result<(Arc<()>, Qid), Errno> {
        Ok((Arc::new(()), Qid::default()))
    }

    fn walk(&self, _: &Arc<()>, _: &[u8]) -> Result<(Arc<()>, Qid), Errno> {
        Ok((Arc::new(()), Qid::default()))
    }

    fn getattr(&self, _: &Arc<()>, _: u64) -> Result<Attr, Errno> {
        Ok(Attr::default())
    }

    fn open(&self, _: &Arc<()>, _: u32) -> Result<Answer<Opened<()>>, Errno> {
        Ok(Answer::Now(Opened { open: (), qid: Qid::default(), iounit: 0 }))
    }

    fn read(&self, _: &Arc<()>, offset: u64, into: &mut [u8]) -> Result<ReadAnswer, Errno> {
        into.copy_from_slice(&content(offset, into.len()));
        Ok(ReadAnswer::Now(into.len()))
    }

    fn splice(&self, _: &Arc<()>, offset: u64, count: usize) -> Result<SpliceAnswer, Errno> {
        let this = self.clone();
        match offset {
            LATE => self.gate.pass(),
            COPIED => return Ok(SpliceAnswer::Read),
            LATER | COPIED_LATER | COMMITTED => {
                return Ok(SpliceAnswer::Later(Job::disk(move |cancel| {
                    if offset == COMMITTED && !cancel.commit() {
                        return Err(Errno::EINTR);
                    }
                    this.inside.fetch_add(1, Ordering::SeqCst);
                    this.gate.pass();
                    Ok(match offset {
                        COPIED_LATER => Content::Bytes(content(offset, count + 1)),
                        _ => Content::Spliced(this.held(offset, count)),
                    })
                })));
            }
            _ => {}
        }
        Ok(SpliceAnswer::Now(self.held(offset, count)))
    }

    fn readdir(&self, _: &Arc<()>, _: u64, _: &mut DirPage<'_>) -> Result<(), Errno> {
        Err(Errno::ENOTDIR)
    }
}

struct Client(Pipe);

impl Client {
    /// With fid 1 open.
    fn new(disk: &Disk) -> Self {
        let mut client = Self(start(disk.clone(), Limits::default()).0);
        client.ask(u16::MAX, &Request::Version { msize: 8192, version: b"9P2000.L" });
        let attach = Request::Attach { fid: 0, afid: NO_FID, uname: b"", aname: b"", n_uname: 0 };
        client.ask(0, &attach);
        client.ask(0, &Request::Walk { fid: 0, newfid: 1, names: Path::NONE });
        assert_eq!(client.ask(0, &Request::Lopen { fid: 1, flags: 2 }).1, 13);
        client
    }

    fn send(&mut self, tag: u16, request: &Request<'_>) {
        let mut frame = Vec::new();
        request.encode(tag, &mut frame);
        self.0.write_all(&frame).unwrap();
    }

    /// Tag, type and data of the next reply.
    fn receive(&mut self) -> (u16, u8, Vec<u8>) {
        let mut frame = vec![0; 4];
        self.0.read_exact(&mut frame).unwrap();
        let size = u32::from_le_bytes([frame[0], frame[1], frame[2], frame[3]]);
        frame.resize(size as usize, 0);
        self.0.read_exact(&mut frame[4..]).unwrap();
        let (tag, reply) = Reply::decode(&frame).unwrap();
        let data = if let Reply::Read { data } = reply { data.0.to_vec() } else { Vec::new() };
        (tag, reply.kind(), data)
    }

    fn ask(&mut self, tag: u16, request: &Request<'_>) -> (u16, u8) {
        self.send(tag, request);
        let (tag, kind, _) = self.receive();
        (tag, kind)
    }

    fn receive_read(&mut self, tag: u16, offset: u64, count: usize) {
        let (got, kind, data) = self.receive();
        assert_eq!((got, kind, data.len()), (tag, 117, count));
        assert!(data == content(offset, count), "other bytes");
    }
}

const GETATTR: Request<'static> = Request::Getattr { fid: 0, mask: 0x7ff };

const fn read(offset: u64, count: u32) -> Request<'static> {
    Request::Read { fid: 1, offset, count }
}

#[test]
fn answers_are_whole_and_each_is_its_own() {
    let disk = Disk::default();
    let mut client = Client::new(&disk);
    // In one piece, so that some are gathered before and after what is spliced.
    let mut all = Vec::new();
    for tag in [1, 4, 7] {
        GETATTR.encode(tag, &mut all);
        read(AT_ONCE, 100 * u32::from(tag)).encode(tag + 1, &mut all);
        read(COPIED, 50 * u32::from(tag)).encode(tag + 2, &mut all);
    }
    client.0.write_all(&all).unwrap();
    // A thread that gets no processor for long answers late, and others before it.
    let mut replies: Vec<_> = (0..9).map(|_| client.receive()).collect();
    replies.sort_unstable();
    let wanted = |tag: u16| {
        let (spliced, copied) = (100 * usize::from(tag), 50 * usize::from(tag));
        [
            (tag, 25, Vec::new()),
            (tag + 1, 117, content(AT_ONCE, spliced)),
            (tag + 2, 117, content(COPIED, copied)),
        ]
    };
    assert!(replies == [1, 4, 7].map(wanted).concat(), "other answers");
    client.send(1, &read(AT_ONCE, 0));
    client.receive_read(1, AT_ONCE, 0);
    // As much as fits a message.
    client.send(1, &read(AT_ONCE, u32::MAX));
    client.receive_read(1, AT_ONCE, 8192 - 11);
    assert_eq!(disk.count.load(Ordering::SeqCst), 0);
}

#[test]
fn what_comes_later_delays_no_other_and_holds_a_flush_only_when_it_is_sent() {
    let disk = Disk::default();
    let mut client = Client::new(&disk);
    client.send(100, &read(LATER, 3000));
    client.send(101, &read(LATE, 2000));
    client.send(102, &read(COPIED_LATER, 1000));
    client.send(103, &read(LATER, 400));
    client.send(104, &read(LATE, 300));
    assert_eq!(client.ask(1, &GETATTR), (1, 25));
    for (tag, oldtag) in [(2, 103), (3, 104)] {
        assert_eq!(client.ask(tag, &Request::Flush { oldtag }), (tag, 109));
    }
    disk.gate.open();
    let mut replies = [client.receive(), client.receive(), client.receive()];
    replies.sort_unstable();
    assert_eq!(replies[0], (100, 117, content(LATER, 3000)));
    assert_eq!(replies[1], (101, 117, content(LATE, 2000)));
    assert_eq!(replies[2], (102, 117, content(COPIED_LATER, 1000)));
    // Those that were flushed are not answered: their tags are free, and nothing is held for them.
    assert_eq!(client.ask(103, &GETATTR), (103, 25));
    assert_eq!(client.ask(104, &GETATTR), (104, 25));
    while disk.count.load(Ordering::SeqCst) > 0 {
        std::thread::yield_now();
    }
}

#[test]
fn a_flush_that_has_to_wait_comes_after_all_of_the_data() {
    let disk = Disk::default();
    let mut client = Client::new(&disk);
    client.send(100, &read(COMMITTED, 3000));
    while disk.inside.load(Ordering::SeqCst) == 0 {
        std::thread::yield_now();
    }
    client.send(2, &Request::Flush { oldtag: 100 });
    assert_eq!(client.ask(1, &GETATTR), (1, 25), "it is not answered yet");
    disk.gate.open();
    client.receive_read(100, COMMITTED, 3000);
    assert_eq!(client.receive(), (2, 109, Vec::new()));
}

#[test]
fn more_than_fits_a_message_is_an_error_and_not_sent() {
    let disk = Disk { too_many: Some(8192), ..Disk::default() };
    disk.gate.open();
    let mut client = Client::new(&disk);
    assert_eq!(client.ask(1, &read(AT_ONCE, 100)), (1, 7));
    assert_eq!(client.ask(1, &read(LATER, 100)), (1, 7));
    assert_eq!(client.ask(1, &GETATTR), (1, 25));
}
