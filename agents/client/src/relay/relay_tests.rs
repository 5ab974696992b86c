//! A relay between a 9P client and a server that comes and goes, over real sockets.

use super::*;
use goblin_core_ninep::client::{Client, ClientError, open};
use goblin_core_ninep::synthetic::{Dir, Tree};
use goblin_core_ninep::{Limits, serve};
use goblin_core_trust::PublicKey;
use goblin_sys::socket::Listener as TcpListener;
use goblin_tls::{Acceptor, Expect, Identity, Service, greeting};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

const SERVER: [u8; 32] = [1; 32];
const CLIENT: [u8; 32] = [2; 32];
const LIMIT: Duration = Duration::from_secs(10);

/// Connects to a file server at a port of this machine, by the seeds of its key and ours.
pub(super) fn dial(port: u16, server: &[u8; 32], client: &[u8; 32]) -> Dial {
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    let (key, me) = (PublicKey::of_seed(server), Identity::from_seed(client).unwrap());
    Box::new(move || {
        let socket = Arc::new(Socket::connect_tcp(address, None, LIMIT)?);
        let expect = Expect::Key(key);
        let (stream, _) = goblin_tls::connect(&socket, &me, expect, Service::Files, LIMIT)?;
        let word = greeting::receive(&stream)?;
        Ok((stream, word))
    })
}

/// A file server that can be told to drop everybody, and to admit nobody for a while.
struct Box9 {
    port: u16,
    open: Arc<AtomicBool>,
    live: Arc<Mutex<Vec<Arc<Socket>>>>,
    served: Arc<AtomicU32>,
}

impl Box9 {
    fn start() -> Self {
        let listener = TcpListener::tcp_at(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        let port = listener.local_port().unwrap();
        let me = Identity::from_seed(&SERVER).unwrap();
        let admit: goblin_tls::Admit = Arc::new(|key| *key == PublicKey::of_seed(&CLIENT));
        let acceptor = Acceptor::new(&me, vec![(Service::Files, admit)]).unwrap();
        let open = Arc::new(AtomicBool::new(true));
        let live: Arc<Mutex<Vec<Arc<Socket>>>> = Arc::default();
        let served = Arc::new(AtomicU32::new(0));
        let (is_open, sockets, count) = (open.clone(), live.clone(), served.clone());
        thread::spawn(move || {
            listener.serve(
                8,
                |_| {},
                move |socket, _| {
                    if !is_open.load(Ordering::SeqCst) {
                        return;
                    }
                    lock(&sockets).push(socket.clone());
                    let Ok(accepted) = acceptor.accept(&socket, LIMIT) else { return };
                    count.fetch_add(1, Ordering::SeqCst);
                    let word = Greeting { boot_id: "1".into(), ..Greeting::default() };
                    greeting::send(&accepted.stream, &word).unwrap();
                    let dir = Dir::new().file("file", |_| Ok(vec![7; 3000]));
                    let tree = Tree::new("home", Dir::new().dir("deep", dir));
                    serve(Arc::new(accepted.stream), Arc::new(tree), Limits::default());
                },
            )
        });
        Self { port, open, live, served }
    }

    fn drop_everybody(&self) {
        for socket in lock(&self.live).drain(..) {
            Stream::shutdown(&*socket);
        }
    }

    fn dial(&self) -> Dial {
        dial(self.port, &SERVER, &CLIENT)
    }

    /// A relay and the 9P client in the kernel's place.
    fn client(&self, patience: Duration) -> (Relay, Client<Socket>) {
        let (kernel, ours) = Socket::pair().unwrap();
        kernel.set_limits(Some(Duration::from_secs(20)), None).unwrap();
        let mut dial = self.dial();
        let first = dial().unwrap();
        let relay =
            Relay::start(ours, first, dial, Patience(patience), Owner::ROOT, Box::new(|_| {}))
                .unwrap();
        (relay, Client::connect(kernel, 8192).unwrap())
    }
}

#[test]
fn an_open_file_is_read_on_after_the_connection_was_lost() {
    let server = Box9::start();
    let (relay, mut client) = server.client(LIMIT);
    let root = client.attach("home", "root").unwrap();
    let fid = client.walk(&root, "deep/file").unwrap();
    client.open(&fid, open::READ).unwrap();
    assert_eq!(client.read(&fid, 0, 100).unwrap(), [7; 100]);
    for _ in 0..3 {
        server.drop_everybody();
        assert_eq!(client.read(&fid, 2000, 100).unwrap(), [7; 100]);
        relay.cut();
        assert_eq!(client.read(&fid, 0, 10).unwrap(), [7; 10]);
    }
    assert!(server.served.load(Ordering::SeqCst) >= 4);
    client.clunk(fid).unwrap();
    // Numbers are free for new files.
    let again = client.walk(&root, "deep").unwrap();
    client.getattr(&again).unwrap();
}

#[test]
fn calls_fail_when_patience_is_over_and_work_when_the_box_is_back() {
    let server = Box9::start();
    let (_relay, mut client) = server.client(Duration::from_millis(300));
    let root = client.attach("home", "root").unwrap();
    server.open.store(false, Ordering::SeqCst);
    server.drop_everybody();
    let err = client.getattr(&root).unwrap_err();
    assert!(matches!(err, ClientError::Refused(goblin_core_ninep::Errno::EIO)), "{err}");
    server.open.store(true, Ordering::SeqCst);
    let start = Instant::now();
    while client.getattr(&root).is_err() {
        assert!(start.elapsed() < Duration::from_secs(20));
        thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn the_end_of_the_relay_is_the_end_of_every_call() {
    let server = Box9::start();
    let (relay, mut client) = server.client(LIMIT);
    let root = client.attach("home", "root").unwrap();
    drop(relay);
    assert!(matches!(client.getattr(&root), Err(ClientError::Io(_))));
}

#[test]
fn the_end_of_the_mount_is_the_end_of_the_relay() {
    let server = Box9::start();
    let (relay, client) = server.client(LIMIT);
    drop(client);
    assert!(relay.wait(Duration::from_secs(10)));
}

#[test]
fn what_a_server_took_is_kept_by_its_kernel_or_by_an_end_in_order() {
    let word = |boot_id: &str, ended: &[&str]| Greeting {
        boot_id: boot_id.into(),
        run: "now".into(),
        ended: ended.iter().map(|run| (*run).to_owned()).collect(),
        ..Greeting::default()
    };
    assert!(has_kept("a", "then", &word("a", &[])));
    assert!(has_kept("a", "then", &word("b", &["before", "then"])));
    assert!(!has_kept("a", "then", &word("b", &["before"])), "it was cut off");
    assert!(!has_kept("", "", &word("", &["", "before"])), "a server that says nothing");
}
