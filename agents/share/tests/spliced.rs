//! Large reads, which go from a file to the socket in a pipe. Its own program: it counts the pipes of the process.

mod common;

use common::{Raw, Served};
use goblin_agent_share::HostTree;
use goblin_core_ninep::{End, Limits, MSIZE_MAX, Reply, Request, serve};
use goblin_sys::socket::{Listener, Socket};
use goblin_sys::splice::PIPES_MAX;
use std::fs::File;
use std::net::SocketAddr;
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

/// Most data of one reply.
const MOST: u32 = MSIZE_MAX - 11;
const FILE_BYTES: usize = 1_500_001;
/// `size[4] type[1] tag[2] count[4]`
const HEADER: usize = 11;

/// One test at a time: all use the pipes of this process.
static ALONE: Mutex<()> = Mutex::new(());
/// Ends of pipes before the first test.
static GIVEN: OnceLock<usize> = OnceLock::new();

fn alone() -> MutexGuard<'static, ()> {
    let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    GIVEN.get_or_init(all_pipe_ends);
    alone
}

/// Ends of pipes that this process has open, besides those it was given.
fn pipe_ends() -> usize {
    all_pipe_ends() - GIVEN.get().unwrap()
}

fn all_pipe_ends() -> usize {
    let is_pipe = |entry: std::fs::DirEntry| {
        std::fs::read_link(entry.path()).is_ok_and(|to| to.to_string_lossy().starts_with("pipe:"))
    };
    std::fs::read_dir("/proc/self/fd").unwrap().flatten().map(is_pipe).filter(|is| *is).count()
}

/// Bytes of which no two stretches of a page are alike.
fn content() -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    (0..FILE_BYTES / 8 + 1).flat_map(|_| next().to_le_bytes()).take(FILE_BYTES).collect()
}

fn served(content: &[u8]) -> Served {
    let served = Served::new();
    std::fs::write(served.path("file"), content).unwrap();
    served
}

/// A client with fid 1 open on `file`.
fn opened(served: &Served) -> (Raw, JoinHandle<End>) {
    let (socket, thread) = served.connect();
    (greeted(socket), thread)
}

fn greeted(socket: Socket) -> Raw {
    let mut raw = Raw::new(socket);
    raw.ok(u16::MAX, &Request::Version { msize: MSIZE_MAX, version: b"9P2000.L" });
    raw.attach(0, "data");
    raw.walk(1, &[b"file"]);
    raw.open(1, 0);
    raw
}

fn over_tcp(served: &Served) -> Raw {
    let listener = Listener::tcp_at(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    let address = SocketAddr::from(([127, 0, 0, 1], listener.local_port().unwrap()));
    let client = Socket::connect_tcp(address, None, Duration::from_secs(30)).unwrap();
    let (socket, _) = listener.accept().unwrap();
    let tree = Arc::new(HostTree::new(served.shares.clone()));
    std::thread::spawn(move || serve(Arc::new(socket), tree, Limits::default()));
    greeted(client)
}

fn read(raw: &mut Raw, offset: u64, count: u32) -> Vec<u8> {
    match raw.ask(7, &Request::Read { fid: 1, offset, count }) {
        Reply::Read { data } => data.0.to_vec(),
        other => panic!("{other:?}"),
    }
}

/// Asks for the most there is and waits until the answer has begun; its end does not fit the socket.
fn half_sent(raw: &mut Raw, tag: u16) {
    raw.send(tag, &Request::Read { fid: 1, offset: 0, count: MOST });
    let mut header = [0; HEADER];
    assert_eq!(raw.socket.peek(&mut header).unwrap(), HEADER);
    assert_eq!(header[7..], MOST.to_le_bytes(), "the answer says how much comes");
}

fn receive_most(raw: &mut Raw, tag: u16, content: &[u8]) {
    let (got, reply) = raw.receive();
    let Reply::Read { data } = reply else { panic!("{reply:?}") };
    assert_eq!(got, tag);
    assert!(data.0 == &content[..MOST as usize], "other bytes than those of the file");
}

#[test]
fn the_bytes_are_those_of_the_file_wherever_they_begin_and_end() {
    let _alone = alone();
    let content = content();
    let served = served(&content);
    let counts = [32_767, 32_768, 32_769, 65_535, 131_072, 262_145, 524_288, MOST];
    let offsets = [0, 1, 4095, 4096, 4097, 65_536, 99_991, 1_000_000];
    for mut raw in [opened(&served).0, over_tcp(&served)] {
        for offset in offsets {
            for count in counts {
                let wanted = content[offset..].iter().take(count.min(MOST) as usize);
                let got = read(&mut raw, offset as u64, count);
                assert!(got.iter().eq(wanted), "{count} bytes at {offset}");
            }
        }
    }
    let status = served.shares[0].status();
    let each: u64 = counts.iter().map(|count| u64::from((*count).min(MOST))).sum();
    let cut: u64 = counts
        .iter()
        .map(|count| u64::from((*count).min(MOST)).saturating_sub(FILE_BYTES as u64 - 1_000_000))
        .sum();
    assert_eq!(status.read_bytes, 2 * (each * offsets.len() as u64 - cut), "each is counted once");
}

#[test]
fn the_end_of_the_file_ends_the_answer() {
    let _alone = alone();
    let content = content();
    let served = served(&content);
    let (mut raw, _) = opened(&served);
    for left in [0, 1, 4096, 32_767, 32_768, 32_769, 400_000] {
        let offset = FILE_BYTES - left;
        assert!(read(&mut raw, offset as u64, MOST) == content[offset..], "{left} bytes left");
    }
    for beyond in [FILE_BYTES as u64 + 1, 1 << 40, 1 << 62] {
        assert_eq!(read(&mut raw, beyond, MOST), b"");
    }
    raw.refused(&Request::Read { fid: 1, offset: u64::MAX, count: MOST });
    let file = File::options().write(true).open(served.path("file")).unwrap();
    file.set_len(10).unwrap();
    assert_eq!(read(&mut raw, 0, MOST), content[..10]);
    // A hole, and something behind it.
    file.write_all_at(b"end", 600_000).unwrap();
    let mut wanted = content[..10].to_vec();
    wanted.resize(600_000, 0);
    wanted.extend_from_slice(b"end");
    assert!(read(&mut raw, 0, MOST) == wanted[..MOST as usize]);
    assert!(read(&mut raw, 500_000, MOST) == wanted[500_000..]);
}

#[test]
fn a_file_that_is_not_in_memory_is_read_all_the_same() {
    let _alone = alone();
    let content = content();
    let served = served(&content);
    let file = File::open(served.path("file")).unwrap();
    let (mut raw, _) = opened(&served);
    for offset in [0, 4097, 1_000_000] {
        file.sync_all().unwrap();
        rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed).unwrap();
        let wanted = content[offset..].iter().take(MOST as usize);
        assert!(read(&mut raw, offset as u64, MOST).iter().eq(wanted), "at {offset}");
    }
}

#[test]
fn many_at_once_are_answered_each_with_its_own() {
    let _alone = alone();
    let content = content();
    let served = served(&content);
    let (mut raw, _) = opened(&served);
    let at = |tag: u16| usize::from(tag) * 70_001;
    for tag in 0..16 {
        raw.send(tag, &Request::Read { fid: 1, offset: at(tag) as u64, count: 200_000 });
        raw.send(100 + tag, &Request::Getattr { fid: 1, mask: 0x7ff });
    }
    let mut seen = Vec::new();
    for _ in 0..32 {
        match raw.receive() {
            (tag, Reply::Read { data }) => {
                assert!(data.0 == &content[at(tag)..at(tag) + 200_000], "tag {tag}");
                seen.push(tag);
            }
            (tag, Reply::Getattr { attr }) => {
                assert_eq!(attr.size, FILE_BYTES as u64);
                seen.push(tag);
            }
            other => panic!("{other:?}"),
        }
    }
    seen.sort_unstable();
    assert!(seen.into_iter().eq((0..16).chain(100..116)));
}

#[test]
fn a_file_that_is_cut_while_it_is_sent_still_gives_what_was_promised() {
    let _alone = alone();
    let content = content();
    let served = served(&content);
    let (mut raw, _) = opened(&served);
    half_sent(&mut raw, 3);
    assert!(pipe_ends() > 0, "the rest lies in a pipe");
    let file = File::options().write(true).open(served.path("file")).unwrap();
    file.set_len(0).unwrap();
    receive_most(&mut raw, 3, &content);
    assert_eq!(read(&mut raw, 0, MOST), b"");
}

#[test]
fn a_flush_comes_after_an_answer_that_is_half_sent() {
    let _alone = alone();
    let content = content();
    let served = served(&content);
    let (mut raw, _) = opened(&served);
    half_sent(&mut raw, 3);
    raw.send(4, &Request::Flush { oldtag: 3 });
    raw.send(5, &Request::Getattr { fid: 1, mask: 0x7ff });
    receive_most(&mut raw, 3, &content);
    assert!(matches!(raw.receive(), (4, Reply::Flush {})));
    assert!(matches!(raw.receive(), (5, Reply::Getattr { .. })));
}

#[test]
fn clients_that_do_not_read_take_the_pipes_and_others_are_served_without() {
    let _alone = alone();
    let content = content();
    let served = served(&content);
    let mut slow: Vec<Raw> = (0..PIPES_MAX + 3).map(|_| opened(&served).0).collect();
    for raw in &mut slow {
        half_sent(raw, 3);
    }
    assert_eq!(pipe_ends(), 2 * PIPES_MAX, "no more and no fewer");
    let (mut quick, _) = opened(&served);
    assert!(read(&mut quick, 4097, MOST) == content[4097..4097 + MOST as usize]);
    for raw in &mut slow {
        receive_most(raw, 3, &content);
    }
    assert!(read(&mut quick, 1, MOST) == content[1..=MOST as usize]);
    assert_eq!(pipe_ends(), 2 * PIPES_MAX, "they are kept");
}

#[test]
fn what_a_dead_connection_has_not_taken_reaches_nobody() {
    let _alone = alone();
    let content = content();
    let served = served(&content);
    // All pipes that there are, so that one that is not emptied is met again.
    let mut dead: Vec<_> = (0..PIPES_MAX).map(|_| opened(&served)).collect();
    for (raw, _) in &mut dead {
        half_sent(raw, 3);
    }
    assert_eq!(pipe_ends(), 2 * PIPES_MAX);
    for (raw, thread) in dead {
        drop(raw);
        assert!(matches!(thread.join().unwrap(), End::Cut(_)));
    }
    assert_eq!(pipe_ends(), 0);
    let (mut raw, _) = opened(&served);
    assert!(read(&mut raw, 99_991, MOST) == content[99_991..99_991 + MOST as usize]);
    assert_eq!(pipe_ends(), 2);
}
