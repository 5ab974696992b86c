//! A relay and a server that does the wrong thing at the wrong moment: every reply is scripted.

use super::*;
use goblin_core_ninep::wire::{Data, LateU32};
use goblin_core_ninep::{Errno, NO_FID, NO_TAG, Names, Qid, Qids, Reply, Request, lock as locks};
use goblin_core_trust::PublicKey;
use goblin_sys::socket::Listener as TcpListener;
use goblin_tls::{Acceptor, Identity, Service, greeting};
use std::net::SocketAddr;

const SERVER: [u8; 32] = [3; 32];
const CLIENT: [u8; 32] = [4; 32];
const LIMIT: Duration = Duration::from_secs(10);

/// What the server does about one request.
#[derive(Clone, Copy)]
enum Act {
    /// The reply of a server that works.
    Work,
    /// Nothing, and it reads on.
    Silence,
    /// Nothing, and the connection ends.
    Die,
    /// `Rlock` with this status.
    Locked(u8),
}

/// Chooses by the number of the connection, from 0, and the request.
type Script = Arc<dyn Fn(usize, &Request<'_>) -> Act + Send + Sync>;

struct Scripted {
    port: u16,
    /// Names of the requests seen, connection by connection.
    seen: Arc<Mutex<Vec<Vec<&'static str>>>>,
}

fn name_of(request: &Request<'_>) -> &'static str {
    match request {
        Request::Version { .. } => "version",
        Request::Attach { .. } => "attach",
        Request::Walk { .. } => "walk",
        Request::Lopen { .. } => "open",
        Request::Write { .. } => "write",
        Request::Mkdir { .. } => "mkdir",
        Request::StatFs { .. } => "statfs",
        Request::Lock { .. } => "lock",
        Request::Flush { .. } => "flush",
        Request::Fsync { .. } => "fsync",
        _ => "other",
    }
}

fn working(tag: u16, request: &Request<'_>, status: u8) -> Vec<u8> {
    let qid = Qid { kind: 0, version: 1, path: 7 };
    let mut out = Vec::new();
    let reply = match request {
        Request::Version { msize, version } => Reply::Version { msize: *msize, version },
        Request::Attach { .. } => Reply::Attach { qid },
        Request::Walk { names, .. } => {
            let mut qids = Qids::default();
            (0..names.len()).for_each(|_| assert!(qids.push(qid)));
            Reply::Walk { qids }
        }
        Request::Lopen { .. } => Reply::Lopen { qid, iounit: 0 },
        Request::Write { data, .. } => Reply::Write { count: u32::try_from(data.0.len()).unwrap() },
        Request::Lock { .. } => Reply::Lock { status },
        Request::Clunk { .. } => Reply::Clunk {},
        Request::Flush { .. } => Reply::Flush {},
        Request::Fsync { .. } => Reply::Fsync {},
        _ => Reply::Error { ecode: Errno::ENOENT.0 },
    };
    reply.encode(tag, &mut out);
    out
}

impl Scripted {
    fn start(script: Script) -> Self {
        let listener = TcpListener::tcp_at(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        let port = listener.local_port().unwrap();
        let me = Identity::from_seed(&SERVER).unwrap();
        let admit: goblin_tls::Admit = Arc::new(|key| *key == PublicKey::of_seed(&CLIENT));
        let acceptor = Acceptor::new(&me, vec![(Service::Files, admit)]).unwrap();
        let seen: Arc<Mutex<Vec<Vec<&'static str>>>> = Arc::default();
        let all = seen.clone();
        thread::spawn(move || {
            listener.serve(
                8,
                |_| {},
                move |socket, _| {
                    let Ok(accepted) = acceptor.accept(&socket, LIMIT) else { return };
                    let word = Greeting { boot_id: "1".into(), ..Greeting::default() };
                    greeting::send(&accepted.stream, &word).unwrap();
                    let number = {
                        let mut all = lock(&all);
                        all.push(Vec::new());
                        all.len() - 1
                    };
                    while let Some(frame) = read_frame(&accepted.stream) {
                        let (tag, request) = Request::decode(&frame).unwrap();
                        lock(&all)[number].push(name_of(&request));
                        let reply = match script(number, &request) {
                            Act::Work => working(tag, &request, locks::SUCCESS),
                            Act::Locked(status) => working(tag, &request, status),
                            Act::Silence => continue,
                            Act::Die => return,
                        };
                        if Stream::write_all(&accepted.stream, &reply).is_err() {
                            return;
                        }
                    }
                },
            )
        });
        Self { port, seen }
    }

    fn relay(&self, patience: Duration) -> (Relay, Kernel) {
        let mut dial = super::tests::dial(self.port, &SERVER, &CLIENT);
        let (kernel, ours) = Socket::pair().unwrap();
        kernel.set_limits(Some(LIMIT), None).unwrap();
        let first = dial().unwrap();
        let owner = Owner { uid: 1000, gid: 100 };
        let relay =
            Relay::start(ours, first, dial, Patience(patience), owner, Box::new(|_| {})).unwrap();
        let kernel = Kernel(kernel);
        kernel.ask(NO_TAG, &Request::Version { msize: 8192, version: b"9P2000.L" });
        kernel.ask(
            1,
            &Request::Attach { fid: 0, afid: NO_FID, uname: b"u", aname: b"home", n_uname: 0 },
        );
        kernel.ask(1, &Request::Walk { fid: 0, newfid: 2, names: Names::new(&[b"f"]).unwrap() });
        kernel.ask(1, &Request::Lopen { fid: 2, flags: 2 });
        (relay, kernel)
    }

    fn count(&self, name: &str) -> usize {
        lock(&self.seen).iter().flatten().filter(|seen| **seen == name).count()
    }
}

/// The kernel's end of the pair.
struct Kernel(Socket);

impl Kernel {
    fn send(&self, tag: u16, request: &Request<'_>) {
        let mut out = Vec::new();
        request.encode(tag, &mut out);
        Stream::write_all(&self.0, &out).unwrap();
    }

    /// Waits for a reply: its tag, its kind of message and, of an error, its number.
    fn hear(&self) -> (u16, u8, Option<u32>) {
        let frame = read_frame(&self.0).expect("the relay does not answer");
        let (tag, reply) = Reply::decode(&frame).unwrap();
        let errno = match reply {
            Reply::Error { ecode } => Some(ecode),
            _ => None,
        };
        (tag, frame[4], errno)
    }

    fn ask(&self, tag: u16, request: &Request<'_>) -> Option<u32> {
        self.send(tag, request);
        let (answered, _, errno) = self.hear();
        assert_eq!(answered, tag);
        errno
    }
}

/// Nothing that the relay asks for itself.
const STATFS: Request<'_> = Request::StatFs { fid: 2 };
const WRITE: Request<'_> = Request::Write { fid: 2, offset: 5, data: Data(b"words") };
const LOCK: Request<'_> =
    Request::Lock { fid: 2, kind: 1, flags: 0, start: 0, length: 0, proc_id: 1, client_id: b"pc" };
const RFLUSH: u8 = 109;

#[test]
fn somebody_who_is_killed_ends_though_the_box_does_not_answer() {
    let server = Scripted::start(Arc::new(|_, request| match request {
        Request::StatFs { .. } | Request::Flush { .. } => Act::Silence,
        _ => Act::Work,
    }));
    let (_relay, kernel) = server.relay(LIMIT);
    kernel.send(1, &STATFS);
    kernel.send(2, &Request::Flush { oldtag: 1 });
    let start = Instant::now();
    assert_eq!(kernel.hear(), (2, RFLUSH, None));
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    // The mount goes on, on a new connection with the same open file.
    assert_eq!(kernel.ask(1, &WRITE), None);
    assert_eq!(lock(&server.seen).len(), 2);
}

#[test]
fn a_box_that_takes_connections_and_says_nothing_more_is_given_up() {
    let server = Scripted::start(Arc::new(|number, request| match request {
        Request::StatFs { .. } => Act::Die,
        _ if number > 0 => Act::Silence,
        _ => Act::Work,
    }));
    let (_relay, kernel) = server.relay(Duration::from_millis(100));
    assert_eq!(kernel.ask(1, &STATFS), Some(Errno::EIO.0));
    assert_eq!(kernel.ask(2, &Request::Flush { oldtag: 1 }), None);
}

#[test]
fn a_lock_that_the_lost_session_still_holds_is_taken_over_when_it_ends() {
    let server = Scripted::start(Arc::new(|number, request| match request {
        Request::StatFs { .. } if number == 0 => Act::Die,
        Request::Lock { .. } if (1..4).contains(&number) => Act::Locked(locks::BLOCKED),
        _ => Act::Work,
    }));
    let (_relay, kernel) = server.relay(Duration::from_secs(60));
    assert_eq!(kernel.ask(1, &LOCK), None);
    // A file that is not there is this server's answer; `EIO` would be the relay's.
    assert_eq!(kernel.ask(1, &STATFS), Some(Errno::ENOENT.0));
    assert_eq!(kernel.ask(1, &WRITE), None);
    assert_eq!(server.count("lock"), 5);
}

#[test]
fn what_is_under_way_is_done_again_only_where_twice_is_as_good_as_once() {
    let server = Scripted::start(Arc::new(|number, request| match request {
        Request::Write { .. } if number == 0 => Act::Die,
        Request::Mkdir { .. } => Act::Die,
        _ => Act::Work,
    }));
    let (_relay, kernel) = server.relay(LIMIT);
    assert_eq!(kernel.ask(1, &WRITE), None);
    assert_eq!(server.count("write"), 2);
    let mkdir = Request::Mkdir { dfid: 0, name: b"d", mode: 0o755, gid: 0 };
    assert_eq!(kernel.ask(1, &mkdir), Some(Errno::EIO.0));
    assert_eq!(server.count("mkdir"), 1);
    assert_eq!(kernel.ask(1, &Request::Fsync { fid: 2, datasync: LateU32(0) }), None);
}
