use super::*;
use goblin_core_ninep::client::{Client, ClientError};
use goblin_core_ninep::{Limits, serve};
use goblin_core_trust::PublicKey;
use goblin_core_types::{BoardStatus, InitReply, InitRequest, LogFilter};
use goblin_sys::socket::{Listener, Socket};
use goblin_tls::{Identity, Service};
use std::io::BufReader;
use std::net::SocketAddrV6;
use std::os::unix::net::UnixListener;
use std::sync::mpsc::{Receiver, channel};
use std::thread;

fn places(dir: &Path, role: Option<Role>) -> Places {
    Places {
        role,
        init: dir.join("init.sock"),
        update: dir.join("update.sock"),
        journal: dir.join("journal"),
        share: dir.join("share.sock"),
        disks: dir.join("disks.sock"),
        releases: dir.join("releases.sock"),
        sources: Arc::new(move || Sources { role, ..Sources::default() }),
        peer: Arc::new(|| Err(Errno::EHOSTDOWN)),
    }
}

/// Serves the tree on a unix socket in `dir`.
fn serve_tree(dir: &Path, places: Places) -> Client<Socket> {
    let path = dir.join("control.9p");
    let listener = Listener::unix(&path, 0o600).unwrap();
    thread::spawn(move || {
        let (socket, _) = listener.accept().unwrap();
        serve(Arc::new(socket), Arc::new(build(&places)), Limits::default());
    });
    Client::connect(Socket::connect_unix(&path).unwrap(), 8192).unwrap()
}

/// A PID 1 that answers one request: `lines` of reply, then it waits for the client to close.
fn fake_init(path: &Path, lines: Vec<String>) -> (Receiver<InitRequest>, Receiver<()>) {
    let listener = UnixListener::bind(path).unwrap();
    let (give, take) = channel();
    let (closed, was_closed) = channel();
    thread::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        let mut reader = BufReader::new(stream);
        let line = crate::lines::read_line(&mut reader).unwrap().unwrap();
        give.send(serde_json::from_slice(&line).unwrap()).unwrap();
        for line in lines {
            reader.get_mut().write_all(line.as_bytes()).unwrap();
        }
        let mut rest = Vec::new();
        let _ = reader.read_to_end(&mut rest);
        closed.send(()).unwrap();
    });
    (take, was_closed)
}

#[test]
fn a_board_without_a_role_shows_itself_as_local() {
    let dir = tempfile::tempdir().unwrap();
    let mut client = serve_tree(dir.path(), places(dir.path(), None));
    let root = client.attach(ANAME, "root").unwrap();
    let status = client.read_file(&root, "boards/local/status", 1 << 20).unwrap();
    let status: BoardStatus = serde_json::from_slice(&status).unwrap();
    assert_eq!(status.role, None);
    assert!(client.walk(&root, "boards/storage").is_err());
}

#[test]
fn a_conversation_reaches_pid_1_and_ends_when_the_client_leaves() {
    let dir = tempfile::tempdir().unwrap();
    let done = serde_json::to_string(&InitReply::Done).unwrap() + "\n";
    let (asked, closed) = fake_init(&dir.path().join("init.sock"), vec![done.clone()]);
    let mut client = serve_tree(dir.path(), places(dir.path(), Some(Role::Storage)));
    let root = client.attach(ANAME, "root").unwrap();
    let request = InitRequest::Logs(LogFilter { follow: true, ..LogFilter::default() });
    let line = serde_json::to_vec(&request).unwrap();
    let fid = client.converse(&root, "boards/storage/init/ctl", &line).unwrap();
    assert_eq!(client.read(&fid, 0, 4096).unwrap(), done.as_bytes());
    assert_eq!(asked.recv().unwrap(), request);
    client.clunk(fid).unwrap();
    // PID 1 must learn that nobody follows any more.
    closed.recv_timeout(Duration::from_secs(10)).unwrap();
}

#[test]
fn an_agent_that_does_not_run_refuses_the_open() {
    let dir = tempfile::tempdir().unwrap();
    let mut client = serve_tree(dir.path(), places(dir.path(), Some(Role::Compute)));
    let root = client.attach(ANAME, "root").unwrap();
    let err = client.converse(&root, "boards/compute/update/ctl", b"{}").unwrap_err();
    assert!(matches!(err, ClientError::Refused(Errno::ECONNREFUSED)), "{err}");
}

#[test]
fn a_storage_board_out_of_sight_is_down_not_missing() {
    let dir = tempfile::tempdir().unwrap();
    let mut client = serve_tree(dir.path(), places(dir.path(), Some(Role::Compute)));
    let root = client.attach(ANAME, "root").unwrap();
    for path in ["boards/storage/status", "boards/storage/screen"] {
        let err = client.read_file(&root, path, 100).unwrap_err();
        assert!(matches!(err, ClientError::Refused(Errno::EHOSTDOWN)), "{err}");
    }
}

/// The boards' private keys.
const COMPUTE: [u8; 32] = [1; 32];
const STORAGE: [u8; 32] = [2; 32];

fn at(port: u16, seed: &[u8; 32], key: &[u8; 32]) -> Remote {
    Remote {
        address: SocketAddrV6::new(std::net::Ipv6Addr::LOCALHOST, port, 0, 0),
        me: Identity::from_seed(seed).unwrap(),
        key: PublicKey::of_seed(key),
    }
}

/// A storage board's tree on a TCP port of this machine.
fn remote(dir: &Path) -> u16 {
    let listener = Listener::tcp_at("[::1]:0".parse().unwrap()).unwrap();
    let port = listener.local_port().unwrap();
    let places = places(dir, Some(Role::Storage));
    let admit: goblin_tls::Admit = Arc::new(|key| *key == PublicKey::of_seed(&COMPUTE));
    let me = Identity::from_seed(&STORAGE).unwrap();
    let acceptor = goblin_tls::Acceptor::new(&me, vec![(Service::Control, admit)]).unwrap();
    thread::spawn(move || {
        listener.serve(
            8,
            |_| {},
            move |socket, _| {
                let Ok(accepted) = acceptor.accept(&socket, Duration::from_secs(5)) else { return };
                serve(Arc::new(accepted.stream), Arc::new(build(&places)), Limits::default());
            },
        )
    });
    port
}

#[test]
fn only_the_two_boards_of_a_pair_speak_with_each_other() {
    let (near, far) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let port = remote(far.path());
    let stranger = [9; 32];
    for (seed, key) in [(&stranger, &STORAGE), (&COMPUTE, &stranger)] {
        let mut compute = places(near.path(), Some(Role::Compute));
        let remote = at(port, seed, key);
        compute.peer = Arc::new(move || Ok(remote.clone()));
        let mut client = serve_tree(near.path(), compute);
        let root = client.attach(ANAME, "root").unwrap();
        let err = client.read_file(&root, "boards/storage/status", 100).unwrap_err();
        assert!(matches!(err, ClientError::Refused(Errno::EACCES)), "{err}");
    }
}

#[test]
fn the_storage_boards_files_and_conversations_are_forwarded() {
    let (near, far) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let done = serde_json::to_string(&InitReply::Done).unwrap() + "\n";
    let (asked, closed) = fake_init(&far.path().join("init.sock"), vec![done.clone()]);
    let remote = at(remote(far.path()), &COMPUTE, &STORAGE);
    let mut compute = places(near.path(), Some(Role::Compute));
    compute.peer = Arc::new(move || Ok(remote.clone()));
    let mut client = serve_tree(near.path(), compute);
    let root = client.attach(ANAME, "root").unwrap();
    let status = client.read_file(&root, "boards/storage/status", 1 << 20).unwrap();
    let status: BoardStatus = serde_json::from_slice(&status).unwrap();
    assert_eq!(status.role, Some(Role::Storage));
    let line = serde_json::to_vec(&InitRequest::Units).unwrap();
    let fid = client.converse(&root, "boards/storage/init/ctl", &line).unwrap();
    assert_eq!(client.read(&fid, 0, 4096).unwrap(), done.as_bytes());
    assert_eq!(asked.recv().unwrap(), InitRequest::Units);
    client.clunk(fid).unwrap();
    closed.recv_timeout(Duration::from_secs(10)).unwrap();
}

#[test]
fn a_storage_board_that_takes_the_connection_and_is_silent_times_out() {
    let dir = tempfile::tempdir().unwrap();
    let listener = Listener::tcp_at("[::1]:0".parse().unwrap()).unwrap();
    let port = listener.local_port().unwrap();
    let mut compute = places(dir.path(), Some(Role::Compute));
    compute.peer = Arc::new(move || Ok(at(port, &COMPUTE, &STORAGE)));
    let mut client = serve_tree(dir.path(), compute);
    let root = client.attach(ANAME, "root").unwrap();
    let started = std::time::Instant::now();
    let err = client.read_file(&root, "boards/storage/status", 100).unwrap_err();
    assert!(matches!(err, ClientError::Refused(Errno::ETIMEDOUT)), "{err}");
    assert!(started.elapsed() < forward::REMOTE_TIMEOUT * 2);
}

#[test]
fn of_the_compute_board_the_storage_board_gets_release_files_and_nothing_else() {
    let (near, far) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let listener = UnixListener::bind(far.path().join("releases.sock")).unwrap();
    let feeder = thread::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        let mut reader = BufReader::new(stream);
        let line = crate::lines::read_line(&mut reader).unwrap().unwrap();
        reader.get_mut().write_all(b"{\"re\":\"absent\"}\n").unwrap();
        line
    });
    let port = {
        let listener = Listener::tcp_at("[::1]:0".parse().unwrap()).unwrap();
        let port = listener.local_port().unwrap();
        let compute = places(far.path(), Some(Role::Compute));
        let admit: goblin_tls::Admit = Arc::new(|key| *key == PublicKey::of_seed(&STORAGE));
        let me = Identity::from_seed(&COMPUTE).unwrap();
        let acceptor = goblin_tls::Acceptor::new(&me, vec![(Service::Control, admit)]).unwrap();
        thread::spawn(move || {
            let talk = move |socket: Arc<Socket>, _| {
                let accepted = acceptor.accept(&socket, Duration::from_secs(5)).unwrap();
                let tree = Arc::new(build_for_link(&compute));
                serve(Arc::new(accepted.stream), tree, Limits::default());
            };
            listener.serve(8, |_| {}, talk)
        });
        port
    };
    let mut storage = places(near.path(), Some(Role::Storage));
    storage.peer = Arc::new(move || Ok(at(port, &STORAGE, &COMPUTE)));
    let mut client = serve_tree(near.path(), storage);
    let root = client.attach(ANAME, "root").unwrap();
    let fid = client.converse(&root, "boards/compute/releases/ctl", b"{}").unwrap();
    assert_eq!(client.read(&fid, 0, 4096).unwrap(), b"{\"re\":\"absent\"}\n");
    assert_eq!(feeder.join().unwrap(), b"{}");
    for hidden in ["status", "init/ctl", "update/ctl", "logs/ctl"] {
        assert!(client.walk(&root, &format!("boards/compute/{hidden}")).is_err(), "{hidden}");
    }

    // What the compute board itself answers over the link, whoever asks for more there.
    let (a, b) = Socket::pair().unwrap();
    let tree = Arc::new(build_for_link(&places(far.path(), Some(Role::Compute))));
    thread::spawn(move || serve(Arc::new(b), tree, Limits::default()));
    let mut client = Client::connect(a, 8192).unwrap();
    let root = client.attach(ANAME, "root").unwrap();
    assert!(client.walk(&root, "boards/compute/releases/ctl").is_ok());
    for hidden in ["boards/compute/init/ctl", "boards/compute/status", "boards/storage"] {
        assert!(client.walk(&root, hidden).is_err(), "{hidden}");
    }
}
