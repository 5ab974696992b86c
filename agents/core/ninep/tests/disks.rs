//! A disk that stands still: what waits for it delays nothing else, and what waits is bounded.
// The server under test runs on threads.
#![allow(clippy::disallowed_methods)]

mod gate;
mod pipe;

use gate::Gate;
use goblin_core_ninep::{
    Answer, AttachRequest, Attr, Backend, DirPage, Errno, Job, Limits, NO_FID, Names as Path,
    Opened, Qid, ReadAnswer, Reply, Request, wire,
};
use pipe::{Pipe, start};
use std::io::{Read, Write};
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// A disk behind a gate. Files open at once; what is written or synced waits in a job, and so does the name `slow`,
/// in the thread that reads frames.
struct Disk(Arc<Gate>);

impl Backend for Disk {
    type Node = ();
    type Open = ();

    fn attach(&self, _: &AttachRequest<'_>) -> Result<(Arc<()>, Qid), Errno> {
        Ok((Arc::new(()), Qid::default()))
    }

    fn walk(&self, _: &Arc<()>, name: &[u8]) -> Result<(Arc<()>, Qid), Errno> {
        if name == b"slow" {
            self.0.pass();
        }
        Ok((Arc::new(()), Qid::default()))
    }

    fn getattr(&self, _: &Arc<()>, _: u64) -> Result<Attr, Errno> {
        Ok(Attr::default())
    }

    fn open(&self, _: &Arc<()>, _: u32) -> Result<Answer<Opened<()>>, Errno> {
        Ok(Answer::Now(Opened { open: (), qid: Qid::default(), iounit: 0 }))
    }

    fn read(&self, _: &Arc<()>, _: u64, _: &mut [u8]) -> Result<ReadAnswer, Errno> {
        Ok(ReadAnswer::Now(0))
    }

    fn readdir(&self, _: &Arc<()>, _: u64, _: &mut DirPage<'_>) -> Result<(), Errno> {
        Err(Errno::ENOTDIR)
    }

    fn write(&self, _: &Arc<()>, _: u64, data: &[u8]) -> Result<Answer<u32>, Errno> {
        let (gate, data) = (self.0.clone(), data.to_vec());
        let bytes = data.len();
        let job = Job::disk(move |cancel| {
            if !cancel.commit() {
                return Err(Errno::EINTR);
            }
            gate.pass();
            Ok(u32::try_from(data.len()).unwrap())
        });
        Ok(Answer::Later(job.holding(bytes)))
    }

    fn fsync(&self, _: &Arc<()>, _: bool) -> Result<Answer<()>, Errno> {
        let gate = self.0.clone();
        Ok(Answer::Later(Job::disk(move |_| {
            gate.pass();
            Ok(())
        })))
    }

    fn unlink_at(&self, _: &Arc<()>, _: &[u8], _: u32) -> Result<(), Errno> {
        self.0.pass();
        Ok(())
    }
}

struct Client(Pipe);

impl Client {
    fn attached(gate: &Arc<Gate>, limits: Limits) -> Self {
        let mut client = Self(start(Disk(gate.clone()), limits).0);
        client.hello();
        client
    }

    fn hello(&mut self) {
        let version = Request::Version { msize: 8192, version: b"9P2000.L" };
        assert!(matches!(self.ask(u16::MAX, &version), (u16::MAX, 101)));
        let attach = Request::Attach { fid: 0, afid: NO_FID, uname: b"", aname: b"", n_uname: 0 };
        self.ask(0, &attach);
    }

    /// With fid 1 open.
    fn new(gate: &Arc<Gate>, limits: Limits) -> Self {
        let mut client = Self::attached(gate, limits);
        client.ask(0, &Request::Walk { fid: 0, newfid: 1, names: Path::NONE });
        assert_eq!(client.ask(0, &Request::Lopen { fid: 1, flags: 2 }).1, 13);
        client
    }

    fn send(&mut self, tag: u16, request: &Request<'_>) {
        let mut frame = Vec::new();
        request.encode(tag, &mut frame);
        self.0.write_all(&frame).unwrap();
    }

    /// Tag and type of the next reply.
    fn receive(&mut self) -> (u16, u8) {
        let mut frame = vec![0; 4];
        self.0.read_exact(&mut frame).unwrap();
        let size = u32::from_le_bytes([frame[0], frame[1], frame[2], frame[3]]);
        frame.resize(size as usize, 0);
        self.0.read_exact(&mut frame[4..]).unwrap();
        let (tag, reply) = Reply::decode(&frame).unwrap();
        (tag, reply.kind())
    }

    fn ask(&mut self, tag: u16, request: &Request<'_>) -> (u16, u8) {
        self.send(tag, request);
        self.receive()
    }
}

const FSYNC: Request<'static> = Request::Fsync { fid: 1, datasync: wire::LateU32(0) };
const GETATTR: Request<'static> = Request::Getattr { fid: 0, mask: 0x7ff };

#[test]
fn requests_that_wait_for_a_disk_delay_no_other_and_can_be_flushed() {
    let gate = Arc::new(Gate::default());
    let mut client = Client::new(&gate, Limits { disk_jobs_max: 2, ..Limits::default() });
    for tag in 100..140 {
        client.send(tag, &FSYNC);
    }
    assert_eq!(client.ask(1, &GETATTR), (1, 25));
    assert_eq!(client.ask(2, &Request::Flush { oldtag: 130 }), (2, 109));
    gate.open();
    let mut tags: Vec<u16> = (0..39).map(|_| client.receive().0).collect();
    tags.sort_unstable();
    let wanted: Vec<u16> = (100..140).filter(|tag| *tag != 130).collect();
    assert_eq!(tags, wanted);
    assert!(gate.most.load(Ordering::SeqCst) <= 2, "more threads than allowed");
}

#[test]
fn what_waits_is_bounded_also_when_it_is_flushed() {
    let gate = Arc::new(Gate::default());
    let limits = Limits { disk_jobs_max: 1, disk_queue_max: 5, ..Limits::default() };
    let mut client = Client::new(&gate, limits);
    for tag in 100..105 {
        client.send(tag, &FSYNC);
        while gate.inside.load(Ordering::SeqCst) == 0 {
            std::thread::yield_now();
        }
        client.send(tag + 100, &Request::Flush { oldtag: tag });
        assert_eq!(client.receive(), (tag + 100, 109));
    }
    // The sixth has no place left although nobody waits for the others any more: it holds the reader.
    client.send(105, &FSYNC);
    client.send(1, &GETATTR);
    std::thread::sleep(std::time::Duration::from_millis(50));
    assert_eq!(gate.inside.load(Ordering::SeqCst), 2);
    gate.open();
    assert_eq!([client.receive().0, client.receive().0], [105, 1]);
}

#[test]
fn bytes_that_wait_are_bounded() {
    let gate = Arc::new(Gate::default());
    let limits = Limits { disk_jobs_max: 1, disk_queue_bytes_max: 3000, ..Limits::default() };
    let mut client = Client::new(&gate, limits);
    let write = Request::Write { fid: 1, offset: 0, data: wire::Data(&[7; 1000]) };
    for tag in 100..103 {
        client.send(tag, &write);
    }
    assert_eq!(client.ask(1, &GETATTR), (1, 25));
    client.send(103, &write);
    std::thread::sleep(std::time::Duration::from_millis(50));
    assert_eq!(gate.inside.load(Ordering::SeqCst), 2, "the fourth is done by the reader");
    gate.open();
    let mut tags: Vec<u16> = (0..4).map(|_| client.receive().0).collect();
    tags.sort_unstable();
    assert_eq!(tags, [100, 101, 102, 103]);
}

#[test]
fn answers_that_are_ready_do_not_wait_for_a_disk() {
    let gate = Arc::new(Gate::default());
    let limits = Limits { disk_jobs_max: 1, disk_queue_max: 1, ..Limits::default() };
    let mut client = Client::new(&gate, limits);
    client.send(100, &FSYNC);
    // In one piece, so that the second is at hand when the first is answered; the queue has no place for it.
    let mut both = Vec::new();
    GETATTR.encode(1, &mut both);
    FSYNC.encode(101, &mut both);
    client.0.write_all(&both).unwrap();
    assert_eq!(client.receive(), (1, 25));
    gate.open();
    let mut tags = [client.receive().0, client.receive().0];
    tags.sort_unstable();
    assert_eq!(tags, [100, 101]);
}

const UNLINK: Request<'static> = Request::Unlinkat { dirfid: 0, name: b"slow", flags: 0 };

fn slow_walk(newfid: u32) -> Request<'static> {
    Request::Walk { fid: 0, newfid, names: Path::new(&[b"slow"]).unwrap() }
}

#[test]
fn a_name_on_a_disk_that_stands_still_delays_no_other() {
    let gate = Arc::new(Gate::default());
    let mut client = Client::attached(&gate, Limits::default());
    client.send(100, &slow_walk(7));
    client.send(101, &UNLINK);
    for tag in 1..5 {
        assert_eq!(client.ask(tag, &GETATTR), (tag, 25));
    }
    assert_eq!(gate.inside.load(Ordering::SeqCst), 2);
    gate.open();
    let mut replies = [client.receive(), client.receive()];
    replies.sort_unstable();
    assert_eq!(replies, [(100, 111), (101, 77)]);
    assert_eq!(client.ask(1, &Request::Clunk { fid: 7 }), (1, 121), "the walk took effect");
}

#[test]
fn a_late_walk_that_is_flushed_binds_nothing_and_a_late_change_holds_its_flush() {
    let gate = Arc::new(Gate::default());
    let mut client = Client::attached(&gate, Limits::default());
    client.send(100, &slow_walk(7));
    assert_eq!(client.ask(1, &GETATTR), (1, 25));
    assert_eq!(client.ask(2, &Request::Flush { oldtag: 100 }), (2, 109));
    // Its fid is free at once, and not taken away later.
    let copy = Request::Walk { fid: 0, newfid: 7, names: Path::NONE };
    assert_eq!(client.ask(1, &copy), (1, 111));
    assert_eq!(client.ask(1, &Request::Clunk { fid: 7 }), (1, 121));
    client.send(101, &UNLINK);
    assert_eq!(client.ask(1, &GETATTR), (1, 25));
    client.send(3, &Request::Flush { oldtag: 101 });
    assert_eq!(client.ask(1, &GETATTR), (1, 25));
    gate.open();
    assert_eq!([client.receive(), client.receive()], [(101, 77), (3, 109)]);
    while gate.inside.load(Ordering::SeqCst) > 0 {
        std::thread::yield_now();
    }
    assert_eq!(client.ask(1, &Request::Clunk { fid: 7 }), (1, 7), "nobody knows this fid");
    assert_eq!(client.ask(100, &GETATTR), (100, 25), "the tag is free");
}

#[test]
fn what_needs_the_fid_of_a_late_request_comes_after_it() {
    let gate = Arc::new(Gate::default());
    let mut client = Client::attached(&gate, Limits::default());
    client.send(100, &slow_walk(7));
    assert_eq!(client.ask(1, &GETATTR), (1, 25));
    client.send(101, &Request::Lopen { fid: 7, flags: 0 });
    gate.open();
    assert_eq!([client.receive(), client.receive()], [(100, 111), (101, 13)]);
}

#[test]
fn a_session_that_begins_anew_hears_nothing_of_late_requests() {
    let gate = Arc::new(Gate::default());
    let mut client = Client::attached(&gate, Limits::default());
    client.send(100, &slow_walk(7));
    assert_eq!(client.ask(1, &GETATTR), (1, 25));
    client.hello();
    gate.open();
    while gate.inside.load(Ordering::SeqCst) > 0 {
        std::thread::yield_now();
    }
    assert_eq!(client.ask(1, &Request::Clunk { fid: 7 }), (1, 7), "nobody knows this fid");
}

#[test]
fn late_requests_are_bounded() {
    let gate = Arc::new(Gate::default());
    let mut client = Client::attached(&gate, Limits { late_max: 2, ..Limits::default() });
    for tag in 100..104 {
        client.send(tag, &slow_walk(u32::from(tag)));
    }
    while gate.inside.load(Ordering::SeqCst) < 3 {
        std::thread::yield_now();
    }
    gate.open();
    let mut tags: Vec<u16> = (0..4).map(|_| client.receive().0).collect();
    tags.sort_unstable();
    assert_eq!(tags, [100, 101, 102, 103]);
    assert!(gate.most.load(Ordering::SeqCst) <= 3, "two are late, the third holds the connection");
}
