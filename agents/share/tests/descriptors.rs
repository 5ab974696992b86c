//! Alone in its process: it takes every descriptor away.

mod common;

use common::Served;
use goblin_agent_share::HostTree;
use goblin_core_ninep::client::Client;
use goblin_core_ninep::{Limits, serve};
use goblin_sys::socket::{Listener, Socket};
use std::fs::File;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

#[test]
fn running_out_of_descriptors_costs_a_pause_and_not_the_server() {
    let served = Served::new();
    std::fs::create_dir(served.path("dir")).unwrap();
    let listener = Listener::tcp_at(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    let address = SocketAddr::from(([127, 0, 0, 1], listener.local_port().unwrap()));
    let shares = served.shares.clone();
    std::thread::spawn(move || {
        listener.serve(
            8,
            |_| (),
            move |socket, _| {
                serve(socket, Arc::new(HostTree::new(shares.clone())), Limits::default());
            },
        )
    });
    let limit = rustix::process::Rlimit { current: Some(64), maximum: Some(64) };
    rustix::process::setrlimit(rustix::process::Resource::Nofile, limit).unwrap();
    let dial = || Socket::connect_tcp(address, None, Duration::from_secs(5)).unwrap();
    let mut client = Client::connect(dial(), 8192).unwrap();
    let root = client.attach("data", "").unwrap();
    // A second connection waits in the backlog, its own end held already.
    let mut hoard: Vec<File> = Vec::new();
    let mut fill = || {
        while let Ok(file) = File::open("/dev/null") {
            hoard.push(file);
        }
    };
    fill();
    let err = client.walk(&root, "dir").unwrap_err();
    assert_eq!(err.errno(), goblin_core_ninep::Errno::EMFILE);
    drop(hoard.pop());
    let second = dial();
    std::thread::sleep(Duration::from_millis(300));
    drop(hoard);
    let mut second = Client::connect(second, 8192).unwrap();
    let other = second.attach("data", "").unwrap();
    second.walk(&other, "dir").unwrap();
    client.walk(&root, "dir").unwrap();
}
