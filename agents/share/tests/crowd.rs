//! As many connections as the agent admits, with keys, each with open fids: what they cost, and who still comes in.

use goblin_agent_share::{
    BoardKeys, CLIENTS_MAX, CONNECTIONS_OF_ONE_MAX, Entrance, Gate, Introduction, Plain, ROOMY_MAX,
    Share,
};
use goblin_core_ninep::client::Client;
use goblin_core_ninep::{Limits, MSIZE_MAX};
use goblin_core_trust::{Access, ClientRecord, PublicKey};
use goblin_sys::socket::{Listener, Socket};
use goblin_tls::{Expect, Identity, Service, TlsStream, greeting};
use rustix::process::{Resource, Rlimit};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

const STORAGE: [u8; 32] = [1; 32];
const COMPUTE: [u8; 32] = [2; 32];
const LIMIT: Duration = Duration::from_secs(60);
/// Each connection of a key, and one to spare.
const OF_ONE: usize = CONNECTIONS_OF_ONE_MAX - 1;
const KEYS: usize = CLIENTS_MAX / OF_ONE + 1;
/// Fids of each connection: a hundred thousand in all.
const FIDS: usize = 100;
/// Most KiB for both ends of one connection and its fids.
const KIB_EACH: u64 = 400;

fn seed(number: usize) -> [u8; 32] {
    let mut seed = [9; 32];
    seed[..8].copy_from_slice(&(number as u64).to_le_bytes());
    seed
}

fn resident_kib() -> u64 {
    let text = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

fn connect(address: SocketAddr, seed: &[u8; 32]) -> io::Result<Client<TlsStream>> {
    let socket = Arc::new(Socket::connect_tcp(address, None, LIMIT)?);
    socket.set_limits(Some(LIMIT), Some(LIMIT))?;
    let me = Identity::from_seed(seed).map_err(io::Error::other)?;
    let expect = Expect::Key(PublicKey::of_seed(&STORAGE));
    let (stream, _) = goblin_tls::connect(&socket, &me, expect, Service::Files, LIMIT)?;
    greeting::receive(&stream)?;
    Client::connect(stream, MSIZE_MAX).map_err(io::Error::other)
}

/// A box with so many clients enrolled.
fn start(dir: &std::path::Path) -> SocketAddr {
    let mut access = Access::default();
    for number in 0..KEYS {
        let (name, key) = (format!("pc{number}"), PublicKey::of_seed(&seed(number)));
        access.add(ClientRecord { user: name.clone(), name, key, added_unix_s: 0 }).unwrap();
    }
    std::fs::write(dir.join("access.json"), access.to_bytes()).unwrap();
    std::fs::create_dir(dir.join("home")).unwrap();
    for index in 0..FIDS {
        std::fs::write(dir.join(format!("home/file{index}")), b"x").unwrap();
    }
    let me = Identity::from_seed(&STORAGE).unwrap();
    let boards = BoardKeys { own: me.public(), peer: PublicKey::of_seed(&COMPUTE) };
    let gate = Arc::new(Gate::open(&dir.join("access.json"), boards, vec!["home".into()]).unwrap());
    let share = Share::new("home", &dir.join("home"), false).unwrap();
    let shares: Arc<[Arc<Share>]> = Arc::from([Arc::new(share)]);
    let about = Introduction { box_name: "box".into(), boot_id: "boot".into(), runs: None };
    let entrance =
        Entrance::new(&me, gate, shares, Plain::Refused, Limits::default(), about).unwrap();
    let listener = Listener::tcp_at(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    let address = SocketAddr::from(([127, 0, 0, 1], listener.local_port().unwrap()));
    std::thread::spawn(move || {
        listener.serve(CLIENTS_MAX * 2, |_| {}, move |socket, peer| entrance.serve(socket, peer))
    });
    address
}

/// Descriptors that this process may have; as many as it can get.
fn descriptors() -> u64 {
    let wanted = Rlimit { current: Some(300_000), maximum: Some(300_000) };
    if rustix::process::setrlimit(Resource::Nofile, wanted).is_err() {
        let hard = rustix::process::getrlimit(Resource::Nofile).maximum;
        let _ =
            rustix::process::setrlimit(Resource::Nofile, Rlimit { current: hard, maximum: hard });
    }
    rustix::process::getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

#[test]
fn a_thousand_connections_fit_and_the_boards_still_come_in() {
    let room = descriptors();
    if room < 8 * CLIENTS_MAX as u64 {
        println!("skipped: {room} descriptors are too few for {CLIENTS_MAX} connections");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let address = start(dir.path());
    let before = resident_kib();
    // Where there are too few descriptors for that many files, the other fids are copies.
    let files = ((room - 4 * CLIENTS_MAX as u64) / CLIENTS_MAX as u64).min(FIDS as u64) as usize;
    let mut crowd = Vec::new();
    for index in 0..CLIENTS_MAX {
        let mut client = connect(address, &seed(index / OF_ONE)).unwrap();
        let roomy = client.msize() == MSIZE_MAX;
        assert_eq!(roomy, index < ROOMY_MAX, "connection {index} got {}", client.msize());
        let root = client.attach("home", "").unwrap();
        let mut fids = Vec::new();
        for file in 0..FIDS {
            let name = format!("file{file}");
            fids.push(if file < files {
                client.walk(&root, &name).unwrap()
            } else {
                client.walk_names(&fids[0], &[]).unwrap()
            });
        }
        crowd.push((client, root, fids));
    }
    let each = resident_kib().saturating_sub(before) / CLIENTS_MAX as u64;
    println!(
        "{CLIENTS_MAX} connections with {} fids, {} of them files: {} KiB resident, {each} KiB for both \
         ends of each",
        CLIENTS_MAX * FIDS,
        CLIENTS_MAX * files,
        resident_kib()
    );
    assert!(each <= KIB_EACH, "{each} KiB for one connection");
    assert!(connect(address, &seed(KEYS - 1)).is_err(), "one too many");
    let mut board = connect(address, &COMPUTE).unwrap();
    let root = board.attach("home", "").unwrap();
    assert_eq!(
        (board.msize(), board.read_file(&root, "file0", 10).unwrap()),
        (MSIZE_MAX, b"x".to_vec())
    );
    // Each of the crowd is answered still.
    for (client, root, _) in crowd.iter_mut().step_by(37) {
        client.getattr(root).unwrap();
    }
}
