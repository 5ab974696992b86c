//! Who comes in and who does not, over real sockets: keys, codes, rights, and bytes that are no TLS.

use goblin_agent_share::{
    BoardKeys, Caller, Entrance, Gate, HostTree, Introduction, Plain, Runs, Share, Shelf, Usage,
    end_in_order,
};
use goblin_core_ninep::client::{Client, ClientError, open};
use goblin_core_ninep::{Errno, Limits, Names, Request, Stream};
use goblin_core_trust::door::{Invitation, TRIES_MAX};
use goblin_core_trust::pairing::{HELLO_BYTES, Hello, VERDICT_BYTES, Verdict};
use goblin_core_trust::{Code, Exchange, PublicKey, Side};
use goblin_core_types::{AccessChange, Greeting, May, ShareReply};
use goblin_sys::socket::{Listener, Socket};
use goblin_tls::{Expect, Identity, Service, TlsError, TlsStream, greeting};
use std::io::Read;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;

const STORAGE: [u8; 32] = [1; 32];
const COMPUTE: [u8; 32] = [2; 32];
const PC: [u8; 32] = [3; 32];
const LIMIT: Duration = Duration::from_secs(10);

struct TestBox {
    dir: TempDir,
    gate: Arc<Gate>,
    shelf: Shelf,
    runs: Runs,
    address: SocketAddr,
}

fn gate(dir: &TempDir) -> Gate {
    let boards =
        BoardKeys { own: PublicKey::of_seed(&STORAGE), peer: PublicKey::of_seed(&COMPUTE) };
    let names = vec!["home".into(), "films".into()];
    Gate::open(&dir.path().join("access.json"), boards, names).unwrap()
}

impl TestBox {
    fn start(plain: Plain) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let share = |name: &str| {
            let path = dir.path().join(name);
            std::fs::create_dir(&path).unwrap();
            std::fs::write(path.join("file"), name).unwrap();
            Arc::new(Share::new(name, &path, false).unwrap())
        };
        let shares: Arc<[Arc<Share>]> = Arc::from([share("home"), share("films")]);
        let gate = Arc::new(gate(&dir));
        let me = Identity::from_seed(&STORAGE).unwrap();
        let shelf = Shelf::from(shares);
        let runs = Runs::begin(&dir.path().join("runs.json")).unwrap();
        let about = Introduction {
            box_name: "test box".into(),
            boot_id: "boot".into(),
            runs: Some(runs.clone()),
        };
        let entrance =
            Entrance::new(&me, gate.clone(), shelf.clone(), plain, Limits::default(), about)
                .unwrap();
        let listener = Listener::tcp_at(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        let address = SocketAddr::from(([127, 0, 0, 1], listener.local_port().unwrap()));
        std::thread::spawn(move || {
            listener.serve(64, |_| {}, move |socket, peer| entrance.serve(socket, peer))
        });
        Self { dir, gate, shelf, runs, address }
    }

    fn socket(&self) -> Arc<Socket> {
        let socket = Socket::connect_tcp(self.address, None, LIMIT).unwrap();
        socket.set_limits(Some(LIMIT), Some(LIMIT)).unwrap();
        Arc::new(socket)
    }

    fn tls(&self, seed: &[u8; 32], service: Service) -> Result<TlsStream, TlsError> {
        let me = Identity::from_seed(seed).unwrap();
        let expect = match service {
            Service::Enrol => Expect::AnyForEnrolment,
            _ => Expect::Key(PublicKey::of_seed(&STORAGE)),
        };
        let (stream, _) = goblin_tls::connect(&self.socket(), &me, expect, service, LIMIT)?;
        stream.socket().set_limits(Some(LIMIT), Some(LIMIT)).unwrap();
        Ok(stream)
    }

    fn files(&self, seed: &[u8; 32]) -> std::io::Result<(Client<TlsStream>, Greeting)> {
        let stream = self.tls(seed, Service::Files)?;
        let word = greeting::receive(&stream)?;
        Ok((Client::connect(stream, 8192).map_err(std::io::Error::other)?, word))
    }

    fn code(&self) -> Code {
        self.gate.invite(&Invitation { name: None, user: None }).unwrap().0
    }

    fn enrol(&self, seed: &[u8; 32], code: &Code) -> Verdict {
        let stream = self.tls(seed, Service::Enrol).unwrap();
        enrol_over(&stream, seed, code).unwrap()
    }
}

/// The PC's side; `seed` is who the exchange says it is.
fn enrol_over(stream: &TlsStream, seed: &[u8; 32], code: &Code) -> std::io::Result<Verdict> {
    let binding = stream.binding()?;
    let exchange = Exchange::new(Side::Initiator, &code.secret(), &binding, &[9; 64]);
    let hello = Hello { slot: code.slot(), share: exchange.share(), name: "laptop".into() };
    Stream::write_all(stream, &hello.encode())?;
    let mut share = [0; 32];
    greeting::read_exact(stream, &mut share)?;
    let (own, other) = (PublicKey::of_seed(seed), PublicKey::of_seed(&STORAGE));
    let confirmation = exchange.finish(&share, own.as_bytes(), other.as_bytes()).unwrap();
    Stream::write_all(stream, &confirmation.own)?;
    let mut verdict = [0; VERDICT_BYTES];
    greeting::read_exact(stream, &mut verdict)?;
    let verdict = Verdict::decode(&verdict);
    if let Verdict::Welcome(proof) = verdict {
        assert!(confirmation.is_right(&proof), "the box does not know its own code");
    }
    Ok(verdict)
}

fn welcome(verdict: Verdict) -> bool {
    matches!(verdict, Verdict::Welcome(_))
}

/// A bit of the secret turned, the checksum set right.
fn wrong(code: &Code) -> Code {
    (0..=255u8)
        .flat_map(|a| (0..=255u8).map(move |b| Code::from_random([a, b, 0, 0, 0, 0, 0, 0])))
        .find(|other| other.slot() == code.slot() && other.secret() != code.secret())
        .unwrap()
}

#[test]
fn a_key_is_enrolled_by_a_code_and_stays_so_after_a_restart() {
    let test = TestBox::start(Plain::Refused);
    let err = test.files(&PC).unwrap_err();
    assert_eq!(err.kind(), std::io::ErrorKind::PermissionDenied, "{err}");
    assert!(welcome(test.enrol(&PC, &test.code())));
    let (mut client, word) = test.files(&PC).unwrap();
    assert_eq!(
        (word.client.as_str(), word.user.as_str(), word.boot_id.as_str()),
        ("laptop", "laptop", "boot")
    );
    let root = client.attach("home", "whoever").unwrap();
    assert_eq!(client.read_file(&root, "file", 100).unwrap(), b"home");
    assert!(gate(&test.dir).admits(&PublicKey::of_seed(&PC)));
}

#[test]
fn a_code_is_good_once_and_the_messages_of_another_session_are_worth_nothing() {
    let test = TestBox::start(Plain::Refused);
    let code = test.code();
    // Somebody in between: TLS sessions of his own on both sides, the PC's words passed on.
    let middle = test.tls(&[8; 32], Service::Enrol).unwrap();
    let verdict = enrol_over(&middle, &PC, &code).unwrap();
    assert_eq!(verdict, Verdict::Wrong);
    assert!(welcome(test.enrol(&PC, &code)));
    assert_eq!(test.enrol(&[4; 32], &code), Verdict::Wrong);
}

#[test]
fn a_code_that_was_guessed_at_is_void_and_guesses_are_slowed() {
    let test = TestBox::start(Plain::Refused);
    let code = test.code();
    let bad = wrong(&code);
    for _ in 0..TRIES_MAX {
        assert_eq!(test.enrol(&PC, &bad), Verdict::Wrong);
    }
    assert_eq!(test.enrol(&PC, &code), Verdict::Wrong);
    assert_eq!(test.enrol(&PC, &code), Verdict::Busy);
    assert!(test.files(&PC).is_err());
}

#[test]
fn a_code_nobody_made_looks_like_a_wrong_one() {
    let test = TestBox::start(Plain::Refused);
    assert_eq!(test.enrol(&PC, &Code::from_random([1; 8])), Verdict::Wrong);
}

#[test]
fn revoking_cuts_what_is_open_and_keeps_it_cut() {
    let test = TestBox::start(Plain::Refused);
    assert!(welcome(test.enrol(&PC, &test.code())));
    let (mut client, _) = test.files(&PC).unwrap();
    let root = client.attach("home", "x").unwrap();
    assert_eq!(test.gate.revoke("laptop").unwrap(), 1);
    assert!(matches!(client.getattr(&root), Err(ClientError::Io(_))));
    assert!(test.files(&PC).is_err());
    assert!(!gate(&test.dir).admits(&PublicKey::of_seed(&PC)));
    assert!(test.gate.revoke("laptop").is_err());
}

#[test]
fn rights_are_the_users_and_hold_at_once() {
    let test = TestBox::start(Plain::Refused);
    assert!(welcome(test.enrol(&PC, &test.code())));
    let (mut before, _) = test.files(&PC).unwrap();
    let root = before.attach("home", "x").unwrap();
    test.gate.set("laptop", "home", May::Read).unwrap();
    test.gate.set("*", "films", May::Nothing).unwrap();
    assert!(before.getattr(&root).is_err());
    let (mut client, word) = test.files(&PC).unwrap();
    assert_eq!(word.shares.len(), 1);
    let root = client.attach("home", "root").unwrap();
    let file = client.walk(&root, "file").unwrap();
    let refused = client.open(&file, open::WRITE).unwrap_err();
    assert!(matches!(refused, ClientError::Refused(Errno::EROFS)), "{refused}");
    let refused = client.mkdir(&root, b"d", 0o755).unwrap_err();
    assert!(matches!(refused, ClientError::Refused(Errno::EROFS)), "{refused}");
    let hidden = client.attach("films", "root").unwrap_err();
    assert!(matches!(hidden, ClientError::Refused(Errno::ENOENT)), "{hidden}");
    // The other board is bound by none of this.
    let (mut board, _) = test.files(&COMPUTE).unwrap();
    let root = board.attach("films", "root").unwrap();
    board.mkdir(&root, b"d", 0o755).unwrap();
    // And this board only looks at itself.
    let (mut own, _) = test.files(&STORAGE).unwrap();
    let root = own.attach("films", "root").unwrap();
    assert!(own.mkdir(&root, b"e", 0o755).is_err());
    assert!(test.gate.set("x", "no-such-share", May::Read).is_err());
}

fn set(who: &str, share: &str, may: May) -> AccessChange {
    AccessChange::SetRight { who: who.into(), share: share.into(), may }
}

#[test]
fn rights_that_shrink_cut_those_they_concern_and_nobody_else() {
    let test = TestBox::start(Plain::Refused);
    assert!(welcome(test.enrol(&PC, &test.code())));
    let change = |change: AccessChange| test.gate.change(&change).unwrap();
    let users = vec!["laptop".to_owned()];
    change(AccessChange::AddGroup { name: "family".into(), users: users.clone() });
    assert_eq!(change(set("@family", "home", May::Write)).cut, 0);
    let (mut client, _) = test.files(&PC).unwrap();
    let root = client.attach("home", "x").unwrap();
    let (mut board, _) = test.files(&COMPUTE).unwrap();
    let boards_root = board.attach("home", "x").unwrap();
    // It was so already for this user, by another rule: nobody notices.
    assert_eq!(change(set("*", "home", May::Read)).cut, 0);
    client.mkdir(&root, b"before", 0o755).unwrap();
    let left = change(AccessChange::Leave { group: "family".into(), users });
    assert_eq!(left.cut, 1);
    assert!(client.mkdir(&root, b"after", 0o755).is_err());
    board.getattr(&boards_root).unwrap();
    let (mut client, word) = test.files(&PC).unwrap();
    assert_eq!(word.shares[0].may, May::Read);
    let root = client.attach("home", "x").unwrap();
    assert!(client.mkdir(&root, b"after", 0o755).is_err());
    // Undone, it is as it was.
    assert!(change(left.undo.unwrap()).cut >= 1);
    assert_eq!(test.files(&PC).unwrap().1.shares[0].may, May::Write);
    assert!(test.dir.path().join("home/before").exists());
    assert!(!test.dir.path().join("home/after").exists());
}

#[test]
fn shares_come_and_go_while_clients_are_connected() {
    let test = TestBox::start(Plain::Refused);
    assert!(welcome(test.enrol(&PC, &test.code())));
    let pool = test.dir.path().join("pool");
    test.gate.serve_from(&pool).unwrap();
    let change = |change: AccessChange| test.gate.change(&change).unwrap();
    let (mut client, _) = test.files(&PC).unwrap();
    let root = client.attach("home", "x").unwrap();
    let added = change(AccessChange::AddShare { name: "new".into(), read_only: true });
    assert_eq!(added.cut, 0, "nobody loses anything");
    assert!(pool.join("new").is_dir());
    client.getattr(&root).unwrap();
    assert!(test.files(&PC).unwrap().1.shares.iter().any(|share| share.name == "new"));
    std::fs::write(pool.join("new/file"), b"x").unwrap();
    // What holds is what is kept: a gate that opens anew knows it.
    assert!(gate(&test.dir).served().iter().any(|share| share.name == "new" && share.read_only));
    let removed = change(added.undo.unwrap());
    assert!(removed.cut >= 1);
    assert!(client.getattr(&root).is_err());
    assert!(pool.join("new/file").exists(), "files stay");
    assert!(!gate(&test.dir).served().iter().any(|share| share.name == "new"));
    // A change that cannot be carried out changes nothing.
    std::fs::write(pool.join("taken"), b"").unwrap();
    let taken = AccessChange::AddShare { name: "taken".into(), read_only: false };
    assert!(test.gate.change(&taken).is_err());
    assert!(!test.gate.served().iter().any(|share| share.name == "taken"));
    let ShareReply::Rights { changes, .. } = test.gate.rights() else { panic!() };
    assert_eq!(changes.last().unwrap().undo, "goblin share add new --read-only");
}

#[test]
fn enrolment_opens_no_files_and_files_need_no_enrolments_name() {
    let test = TestBox::start(Plain::Refused);
    // A stranger who asks for the board's own service is refused by the first one's rules.
    let err = test.tls(&PC, Service::Control).unwrap_err();
    assert!(matches!(err, TlsError::Protocol(_)), "{err}");
    // Tversion instead of a hello: closed without an answer.
    let stream = test.tls(&PC, Service::Enrol).unwrap();
    let mut noise = [0u8; HELLO_BYTES];
    noise[4] = 100;
    Stream::write_all(&stream, &noise).unwrap();
    assert!(Stream::read(&stream, &mut [0; 1]).is_err());
}

#[test]
fn bytes_that_are_no_tls_get_no_9p() {
    let test = TestBox::start(Plain::Refused);
    let version = b"\x15\0\0\0\x64\xff\xff\0\x20\0\0\x08\x009P2000.L";
    let mut socket = test.socket().try_clone().unwrap();
    socket.write_all(version).unwrap();
    let mut answer = Vec::new();
    let _ = socket.read_to_end(&mut answer);
    // At most TLS's own alert: type 21.
    assert!(answer.is_empty() || answer[0] == 21, "{answer:?}");
    let open = TestBox::start(Plain::Allowed);
    let mut client = Client::connect(open.socket().try_clone().unwrap(), 8192).unwrap();
    client.attach("home", "x").unwrap();
    // The switch opens a second door and leaves the first as it is.
    assert!(open.files(&PC).is_err());
    open.files(&COMPUTE).unwrap();
}

/// A ClientHello of TLS 1.2 with one suite that ring has, and no extension that names 1.3.
fn hello_of_tls12() -> Vec<u8> {
    let mut body = vec![3, 3];
    body.extend([7; 32]);
    body.extend([0, 0, 2, 0xc0, 0x2b, 1, 0]);
    // supported_groups, signature_algorithms
    body.extend([0, 16, 0, 10, 0, 4, 0, 2, 0, 29, 0, 13, 0, 4, 0, 2, 8, 7]);
    let mut handshake = vec![1, 0, 0, u8::try_from(body.len()).unwrap()];
    handshake.extend(body);
    let mut record = vec![22, 3, 3, 0, u8::try_from(handshake.len()).unwrap()];
    record.extend(handshake);
    record
}

#[test]
fn an_older_tls_is_refused() {
    let test = TestBox::start(Plain::Refused);
    let mut socket = test.socket().try_clone().unwrap();
    socket.write_all(&hello_of_tls12()).unwrap();
    let mut answer = Vec::new();
    let _ = socket.read_to_end(&mut answer);
    // A fatal alert (level 2), `protocol_version` or `handshake_failure`; no ServerHello.
    assert_eq!(answer.first(), Some(&21), "{answer:?}");
    assert!(matches!(answer.get(6), Some(70 | 40)), "{answer:?}");
}

#[test]
fn a_server_with_another_key_is_not_the_box() {
    let test = TestBox::start(Plain::Refused);
    let me = Identity::from_seed(&COMPUTE).unwrap();
    let expect = Expect::Key(PublicKey::of_seed(&[9; 32]));
    let err = goblin_tls::connect(&test.socket(), &me, expect, Service::Files, LIMIT).unwrap_err();
    assert!(matches!(err, TlsError::Stranger), "{err}");
}

#[test]
fn random_bytes_harm_nobody_else() {
    let test = TestBox::start(Plain::Refused);
    let (mut good, _) = test.files(&COMPUTE).unwrap();
    let root = good.attach("home", "x").unwrap();
    let mut seed = 1u64;
    for round in 0..40 {
        let mut noise: Vec<u8> = (0..400)
            .map(|_| {
                seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                (seed >> 56) as u8
            })
            .collect();
        if round % 2 == 0 {
            // Far enough into TLS to be read as a ClientHello.
            noise[..6].copy_from_slice(&[22, 3, 1, 1, 100, 1]);
        }
        let _ = test.socket().write_all(&noise);
    }
    good.getattr(&root).unwrap();
}

#[test]
fn strangers_who_hold_their_handshakes_keep_nobody_out() {
    let open = TestBox::start(Plain::Refused);
    let flood: Vec<Arc<Socket>> = (0..200)
        .map(|_| {
            let socket = open.socket();
            Stream::write_all(&*socket, &[22]).unwrap();
            socket
        })
        .collect();
    // Sooner than any of them is sent away for being slow.
    let start = std::time::Instant::now();
    let (mut client, _) = open.files(&COMPUTE).unwrap();
    client.attach("home", "").unwrap();
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    let is_held = |socket: &&Arc<Socket>| {
        socket.set_limits(Some(Duration::from_millis(5)), None).unwrap();
        !matches!(Stream::read(&***socket, &mut [0; 64]), Ok(0))
    };
    // Each is put out by its own thread, or by that of one that came later.
    wait_until(|| flood.iter().filter(is_held).count() <= goblin_agent_share::SHAKING_MAX);
}

#[test]
fn one_key_has_a_limit_of_connections() {
    let open = TestBox::start(Plain::Refused);
    let mut clients: Vec<_> = (0..goblin_agent_share::CONNECTIONS_OF_ONE_MAX)
        .map(|_| open.files(&STORAGE).unwrap().0)
        .collect();
    assert!(open.files(&STORAGE).is_err());
    open.files(&COMPUTE).unwrap().0.attach("home", "").unwrap();
    clients.pop();
    wait_until(|| open.files(&STORAGE).is_ok());
}

fn wait_until(mut holds: impl FnMut() -> bool) {
    let start = std::time::Instant::now();
    while !holds() {
        assert!(start.elapsed() < LIMIT);
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn connections_are_listed_with_what_they_did() {
    let open = TestBox::start(Plain::Refused);
    let (mut client, _) = open.files(&COMPUTE).unwrap();
    let root = client.attach("home", "").unwrap();
    assert_eq!(client.read_file(&root, "file", 100).unwrap(), b"home");
    let connected = open.gate.connected();
    assert_eq!(connected.len(), 1);
    let one = &connected[0];
    assert_eq!((one.client.as_str(), one.read_bytes, one.written_bytes), ("compute-board", 4, 0));
    // Version, attach, walk, open, twice read, clunk.
    assert_eq!(one.operations, 7);
    assert!(one.from.starts_with("127.0.0.1:"), "{}", one.from);
    drop(client);
    wait_until(|| open.gate.connected().is_empty());
}

/// One request and the type of its reply.
fn ask(stream: &TlsStream, request: &Request<'_>) -> std::io::Result<(u8, Vec<u8>)> {
    let mut frame = Vec::new();
    request.encode(1, &mut frame);
    Stream::write_all(stream, &frame)?;
    let mut size = [0; 4];
    greeting::read_exact(stream, &mut size)?;
    let mut rest = vec![0; u32::from_le_bytes(size) as usize - 4];
    greeting::read_exact(stream, &mut rest)?;
    Ok((rest[0], rest.split_off(3)))
}

/// A mount of the other board that has locked the file.
fn locked(open: &TestBox, mount: &str) -> (TlsStream, Vec<u8>) {
    let stream = open.tls(&COMPUTE, Service::Files).unwrap();
    greeting::receive(&stream).unwrap();
    let uname = format!("goblin-mount:{mount}");
    let (afid, uname, aname) = (u32::MAX, uname.as_bytes(), &b"home"[..]);
    let names = Names::new(&[b"file"]).unwrap();
    let lock = Request::Lock {
        fid: 1,
        kind: 1,
        flags: 0,
        start: 0,
        length: 0,
        proc_id: 1,
        client_id: b"pc",
    };
    let mut last = Vec::new();
    for request in [
        Request::Version { msize: 8192, version: b"9P2000.L" },
        Request::Attach { fid: 0, afid, uname, aname, n_uname: 0 },
        Request::Walk { fid: 0, newfid: 1, names },
        Request::Lopen { fid: 1, flags: 2 },
        lock,
    ] {
        let (kind, body) = ask(&stream, &request).unwrap();
        assert_eq!(kind, request.kind() + 1);
        last = body;
    }
    (stream, last)
}

#[test]
fn a_mount_that_comes_again_takes_over_its_locks() {
    let open = TestBox::start(Plain::Refused);
    let (first, granted) = locked(&open, "0123456789abcdef");
    assert_eq!(granted, [0]);
    let (_other, granted) = locked(&open, "fedcba9876543210");
    assert_eq!(granted, [1], "another mount is another owner");
    // The first connection is dead for its client, and the server does not know.
    let (again, granted) = locked(&open, "0123456789abcdef");
    assert_eq!(granted, [0]);
    let attr = Request::Getattr { fid: 0, mask: 0x7ff };
    assert!(ask(&first, &attr).is_err(), "the former connection is over");
    ask(&again, &attr).unwrap();
    assert_eq!(open.gate.connected().len(), 2);
}

#[test]
fn one_client_cannot_take_all_descriptors() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(dir.path().join("a/b/c/d")).unwrap();
    let usage = Arc::new(Usage::limited(40));
    let share = Share::new("home", dir.path(), false).unwrap().view(false, &usage);
    let caller = Caller { usage: usage.clone(), ..Caller::default() };
    let tree = HostTree::with(Arc::from([Arc::new(share)]), caller);
    let (ours, theirs) = Socket::pair().unwrap();
    let served = std::thread::spawn(move || {
        goblin_core_ninep::serve(Arc::new(theirs), Arc::new(tree), Limits::default())
    });
    let mut client = Client::connect(ours, 8192).unwrap();
    let root = client.attach("home", "").unwrap();
    let mut fids = Vec::new();
    let refused = loop {
        match client.walk(&root, "a/b/c/d") {
            Ok(fid) => fids.push(fid),
            Err(err) => break err.errno(),
        }
        assert!(fids.len() < 100);
    };
    // Each walk holds the four directories that it came along.
    assert_eq!((refused, fids.len()), (Errno::ENOENT, 9));
    client.getattr(&fids[0]).unwrap();
    client.clunk(fids.pop().unwrap()).unwrap();
    client.walk(&root, "a/b/c/d").unwrap();
    drop(client);
    served.join().unwrap();
    assert_eq!(usage.descriptors(), 0);
}

#[test]
fn an_end_in_order_cuts_everybody_and_is_known_to_the_next_run() {
    let here = TestBox::start(Plain::Refused);
    let (mut client, word) = here.files(&COMPUTE).unwrap();
    let root = client.attach("home", "").unwrap();
    assert_eq!((word.run.as_str(), word.ended.len()), (here.runs.own(), 0));
    assert_eq!(end_in_order(&here.gate, &here.shelf, here.runs.clone()).unwrap(), 1);
    assert!(client.getattr(&root).is_err(), "nothing is answered any more");
    assert!(here.files(&COMPUTE).is_err(), "nobody comes in any more");
    let next = Runs::begin(&here.dir.path().join("runs.json")).unwrap();
    assert_eq!(next.ended(), [word.run]);
}
