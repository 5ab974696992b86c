//! Two clients over relays on one file, while the box loses its power in the middle of writes: what was acknowledged as
//! synced is there, and a reader sees records whole, in order, and none missing that was acknowledged before it asked.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use goblin_agent_client::relay::{Dial, Owner, Patience, Relay};
use goblin_core_ninep::client::{Client, open};
use goblin_core_ninep::{
    Answer, AttachRequest, Attr, Backend, DirPage, Errno, Limits, Opened, Qid, ReadAnswer, Stream,
    serve,
};
use goblin_core_trust::PublicKey;
use goblin_core_types::Greeting;
use goblin_sys::socket::{Listener, Socket};
use goblin_tls::{Acceptor, Admit, Expect, Identity, Service, greeting};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

const SERVER: [u8; 32] = [5; 32];
const CLIENT: [u8; 32] = [6; 32];
const LIMIT: Duration = Duration::from_secs(20);
const RECORD_BYTES: usize = 16;
/// All of them fit one read.
const RECORDS: usize = 400;
const MSIZE: u32 = 8192;
/// Operations between two losses of power, about.
const BETWEEN: usize = 60;

/// A small generator (xorshift): the schedule is the seed's.
struct Chance(u64);

impl Chance {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % limit as u64).unwrap()
    }
}

/// A file on a disk that forgets what was not synced.
struct Disk {
    /// What is read.
    now: Vec<u8>,
    /// What a loss of power leaves.
    kept: Vec<u8>,
    /// Writes since the last sync.
    since: Vec<(usize, Vec<u8>)>,
    /// Counts losses of power.
    boot: usize,
    operations: usize,
    cut_at: usize,
    chance: Chance,
}

fn put(file: &mut Vec<u8>, at: usize, data: &[u8]) {
    file.resize(file.len().max(at + data.len()), 0);
    file[at..at + data.len()].copy_from_slice(data);
}

#[derive(Clone)]
struct Box9 {
    disk: Arc<Mutex<Disk>>,
    live: Arc<Mutex<Vec<Arc<Socket>>>>,
}

impl Box9 {
    fn new(seed: u64) -> Self {
        let mut chance = Chance(seed);
        let cut_at = BETWEEN / 2 + chance.below(BETWEEN);
        let (now, kept, since) = Default::default();
        let disk = Disk { now, kept, since, boot: 0, operations: 0, cut_at, chance };
        Self { disk: Arc::new(Mutex::new(disk)), live: Arc::default() }
    }

    /// An operation of a connection of this boot. The power goes before it, after it and before its answer, or not.
    fn operate(&self, boot: usize, work: impl FnOnce(&mut Disk)) -> Result<(), Errno> {
        let mut disk = self.disk.lock().unwrap();
        if disk.boot != boot {
            return Err(Errno::EIO);
        }
        disk.operations += 1;
        if disk.operations < disk.cut_at {
            work(&mut disk);
            return Ok(());
        }
        if disk.chance.below(2) == 0 {
            work(&mut disk);
        }
        disk.boot += 1;
        disk.cut_at = disk.operations + BETWEEN / 2 + disk.chance.below(BETWEEN);
        // A disk may have written some of what it was not told to sync.
        let since = std::mem::take(&mut disk.since);
        let some = disk.chance.below(since.len() + 1);
        for (at, data) in &since[..some] {
            put(&mut disk.kept, *at, data);
        }
        disk.now = disk.kept.clone();
        for socket in self.live.lock().unwrap().drain(..) {
            Stream::shutdown(&*socket);
        }
        Err(Errno::EIO)
    }

    fn start(&self) -> u16 {
        let listener = Listener::tcp_at(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        let port = listener.local_port().unwrap();
        let me = Identity::from_seed(&SERVER).unwrap();
        let admit: Admit = Arc::new(|key| *key == PublicKey::of_seed(&CLIENT));
        let acceptor = Acceptor::new(&me, vec![(Service::Files, admit)]).unwrap();
        let the_box = self.clone();
        thread::spawn(move || {
            listener.serve(
                8,
                |_| {},
                move |socket, _| {
                    let boot = {
                        let disk = the_box.disk.lock().unwrap();
                        the_box.live.lock().unwrap().push(socket.clone());
                        disk.boot
                    };
                    let Ok(accepted) = acceptor.accept(&socket, LIMIT) else { return };
                    let word = Greeting { boot_id: boot.to_string(), ..Greeting::default() };
                    if greeting::send(&accepted.stream, &word).is_ok() {
                        let tree = Tree { the_box: the_box.clone(), boot };
                        serve(Arc::new(accepted.stream), Arc::new(tree), Limits::default());
                    }
                },
            )
        });
        port
    }
}

/// One connection's view: a folder, 0, and the file in it, 1.
struct Tree {
    the_box: Box9,
    boot: usize,
}

fn qid(node: u64) -> Qid {
    Qid { kind: if node == 0 { 0x80 } else { 0 }, version: 1, path: node }
}

impl Backend for Tree {
    type Node = u64;
    type Open = u64;

    fn attach(&self, _: &AttachRequest<'_>) -> Result<(Arc<u64>, Qid), Errno> {
        Ok((Arc::new(0), qid(0)))
    }

    fn walk(&self, _: &Arc<u64>, _: &[u8]) -> Result<(Arc<u64>, Qid), Errno> {
        Ok((Arc::new(1), qid(1)))
    }

    fn getattr(&self, node: &Arc<u64>, _: u64) -> Result<Attr, Errno> {
        let size = self.the_box.disk.lock().unwrap().now.len();
        Ok(Attr { qid: qid(**node), size: size as u64, ..Attr::default() })
    }

    fn open(&self, node: &Arc<u64>, _: u32) -> Result<Answer<Opened<u64>>, Errno> {
        Ok(Answer::Now(Opened { open: **node, qid: qid(**node), iounit: 0 }))
    }

    fn read(&self, _: &Arc<u64>, offset: u64, into: &mut [u8]) -> Result<ReadAnswer, Errno> {
        let disk = self.the_box.disk.lock().unwrap();
        let rest = disk.now.get(usize::try_from(offset).unwrap()..).unwrap_or_default();
        let count = rest.len().min(into.len());
        into[..count].copy_from_slice(&rest[..count]);
        Ok(ReadAnswer::Now(count))
    }

    fn readdir(&self, _: &Arc<u64>, _: u64, _: &mut DirPage<'_>) -> Result<(), Errno> {
        Ok(())
    }

    fn write(&self, _: &Arc<u64>, offset: u64, data: &[u8]) -> Result<Answer<u32>, Errno> {
        let at = usize::try_from(offset).unwrap();
        self.the_box.operate(self.boot, |disk| {
            put(&mut disk.now, at, data);
            disk.since.push((at, data.to_vec()));
        })?;
        Ok(Answer::Now(u32::try_from(data.len()).unwrap()))
    }

    fn fsync(&self, _: &Arc<u64>, _: bool) -> Result<Answer<()>, Errno> {
        self.the_box.operate(self.boot, |disk| {
            disk.kept = disk.now.clone();
            disk.since.clear();
        })?;
        Ok(Answer::Now(()))
    }
}

fn client(port: u16) -> (Relay, Client<Socket>) {
    let me = Identity::from_seed(&CLIENT).unwrap();
    let mut dial: Dial = Box::new(move || {
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        let socket = Arc::new(Socket::connect_tcp(address, None, LIMIT)?);
        let expect = Expect::Key(PublicKey::of_seed(&SERVER));
        let (stream, _) = goblin_tls::connect(&socket, &me, expect, Service::Files, LIMIT)?;
        let word = greeting::receive(&stream)?;
        Ok((stream, word))
    });
    let (kernel, ours) = Socket::pair().unwrap();
    kernel.set_limits(Some(LIMIT), None).unwrap();
    let first = dial().unwrap();
    let relay =
        Relay::start(ours, first, dial, Patience(LIMIT), Owner::ROOT, Box::new(|_| {})).unwrap();
    (relay, Client::connect(kernel, MSIZE).unwrap())
}

fn record(number: usize) -> [u8; RECORD_BYTES] {
    let number = number as u64 + 1;
    let mut record = [0; RECORD_BYTES];
    record[..8].copy_from_slice(&number.to_le_bytes());
    record[8..].copy_from_slice(&(!number).to_le_bytes());
    record
}

/// How many records there are: all from the first one, each whole.
fn records(bytes: &[u8]) -> usize {
    assert_eq!(bytes.len() % RECORD_BYTES, 0, "a part of a record");
    for (number, found) in bytes.chunks(RECORD_BYTES).enumerate() {
        assert_eq!(found, record(number), "record {number}");
    }
    bytes.len() / RECORD_BYTES
}

/// As a database does: what a sync did not acknowledge is written again.
fn write_all(port: u16, seed: u64, acknowledged: &AtomicUsize) {
    let (_relay, mut client) = client(port);
    let root = client.attach("data", "writer").unwrap();
    let fid = client.walk(&root, "file").unwrap();
    client.open(&fid, open::READ_WRITE).unwrap();
    let mut chance = Chance(seed);
    let (mut next, mut synced) = (0, 0);
    while synced < RECORDS {
        let at = (next * RECORD_BYTES) as u64;
        let mut done = client.write(&fid, at, &record(next)).is_ok();
        next += 1;
        if done && (next == RECORDS || chance.below(4) == 0) {
            done = client.fsync(&fid).is_ok();
            if done {
                synced = next;
                acknowledged.store(synced, Ordering::SeqCst);
            }
        }
        if !done {
            next = synced;
        }
    }
}

fn read_all(port: u16, acknowledged: &AtomicUsize, is_over: &AtomicBool) -> usize {
    let (_relay, mut client) = client(port);
    let root = client.attach("data", "reader").unwrap();
    let mut reads = 0;
    while !is_over.load(Ordering::SeqCst) {
        let before = acknowledged.load(Ordering::SeqCst);
        let fid = client.walk(&root, "file").unwrap();
        let size = client.getattr(&fid).unwrap().size;
        assert!(size >= (before * RECORD_BYTES) as u64, "{size} bytes of {before} records");
        client.open(&fid, open::READ).unwrap();
        for _ in 0..4 {
            let before = acknowledged.load(Ordering::SeqCst);
            let seen = records(client.read(&fid, 0, MSIZE).unwrap());
            assert!(seen >= before, "{seen} records seen, {before} were acknowledged");
            reads += 1;
        }
        client.clunk(fid).unwrap();
    }
    reads
}

#[test]
fn nothing_acknowledged_is_lost_and_nothing_torn_is_seen() {
    for seed in [0x9e37_79b9_7f4a_7c15, 0x2545_f491_4f6c_dd1d, 0xdead_beef_cafe_f00d] {
        let the_box = Box9::new(seed);
        let port = the_box.start();
        let (acknowledged, is_over) = (AtomicUsize::new(0), AtomicBool::new(false));
        let reads = thread::scope(|scope| {
            let reader = scope.spawn(|| read_all(port, &acknowledged, &is_over));
            let writer = scope.spawn(|| write_all(port, seed, &acknowledged));
            let written = writer.join();
            is_over.store(true, Ordering::SeqCst);
            written.unwrap();
            reader.join().unwrap()
        });
        let disk = the_box.disk.lock().unwrap();
        assert_eq!(records(&disk.kept), RECORDS);
        assert!(disk.boot >= 3 && reads > 0, "{} losses of power, {reads} reads", disk.boot);
        println!("seed {seed:#x}: {} losses of power, {reads} reads", disk.boot);
    }
}
