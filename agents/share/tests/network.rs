//! The server behind a real listener: many clients, rude clients, too few descriptors.

mod common;

use common::Served;
use goblin_agent_share::HostTree;
use goblin_core_ninep::client::{Client, open};
use goblin_core_ninep::{Limits, MSIZE_MAX, Request, serve};
use goblin_sys::socket::{Listener, Socket};
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

const CONNECTIONS_MAX: usize = 8;

fn listen(served: &Served) -> SocketAddr {
    let listener = Listener::tcp_at(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    let address = SocketAddr::from(([127, 0, 0, 1], listener.local_port().unwrap()));
    serve_all(listener, served);
    address
}

fn serve_all(listener: Listener, served: &Served) {
    let shares = served.shares.clone();
    std::thread::spawn(move || {
        listener.serve(
            CONNECTIONS_MAX,
            |_| (),
            move |socket, _| {
                let tree = Arc::new(HostTree::new(shares.clone()));
                serve(socket, tree, Limits::default());
            },
        )
    });
}

fn dial(address: SocketAddr) -> Socket {
    let socket = Socket::connect_tcp(address, None, Duration::from_secs(5)).unwrap();
    socket.set_limits(Some(Duration::from_secs(20)), None).unwrap();
    socket
}

fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < Duration::from_secs(20), "{what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn a_client_that_vanishes_inside_a_reply_harms_nobody() {
    let served = Served::new();
    std::fs::write(served.path("big"), vec![1; 8 << 20]).unwrap();
    let address = listen(&served);
    for _ in 0..5 {
        let mut client = Client::connect(dial(address), MSIZE_MAX).unwrap();
        let root = client.attach("data", "").unwrap();
        let fid = client.walk(&root, "big").unwrap();
        client.open(&fid, open::READ).unwrap();
        let mut burst = Vec::new();
        for tag in 0..16 {
            Request::Read { fid: 1, offset: 0, count: MSIZE_MAX }.encode(tag, &mut burst);
        }
        let mut socket = client.stream().try_clone().unwrap();
        socket.write_all(&burst).unwrap();
        socket.read_exact(&mut [0; 100]).unwrap();
    }
    until("clients leave", || served.shares[0].status().clients == 0);
    let mut client = Client::connect(dial(address), MSIZE_MAX).unwrap();
    let root = client.attach("data", "").unwrap();
    assert_eq!(client.read_file(&root, "big", 8 << 20).unwrap().len(), 8 << 20);
}

#[test]
fn one_connection_too_many_is_closed_and_others_go_on() {
    let served = Served::new();
    // Connections over the loopback are not counted.
    let path = served.outside().join("socket");
    serve_all(Listener::unix(&path, 0o600).unwrap(), &served);
    let connect = || Client::connect(Socket::connect_unix(&path).unwrap(), MSIZE_MAX);
    let mut clients: Vec<_> = (0..CONNECTIONS_MAX).map(|_| connect().unwrap()).collect();
    assert!(connect().is_err());
    for client in &mut clients {
        client.attach("data", "").unwrap();
    }
    assert_eq!(served.shares[0].status().clients, u32::try_from(CONNECTIONS_MAX).unwrap());
    clients.clear();
    until("a place is free again", || connect().is_ok());
}

#[test]
fn random_bytes_end_only_their_own_connection() {
    let served = Served::new();
    let address = listen(&served);
    let mut good = Client::connect(dial(address), MSIZE_MAX).unwrap();
    let root = good.attach("data", "").unwrap();
    let mut seed = 1u64;
    for _ in 0..20 {
        let noise: Vec<u8> = (0..512)
            .map(|_| {
                seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                (seed >> 56) as u8
            })
            .collect();
        // The server may have closed before all is written.
        let _ = dial(address).write_all(&noise);
    }
    good.getattr(&root).unwrap();
}
