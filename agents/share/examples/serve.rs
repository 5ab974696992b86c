//! Serves one directory on the loopback, to try a client against the server:
//! `cargo run -p goblin-agent-share --example serve -- DIRECTORY [PORT]`; the attach name is `data`.

use goblin_agent_share::{HostTree, Share};
use goblin_core_ninep::{Limits, serve};
use goblin_sys::socket::Listener;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args_os().skip(1);
    let directory = PathBuf::from(arguments.next().ok_or("name the directory to serve")?);
    let port = match arguments.next() {
        Some(text) => text.to_str().ok_or("the port is not a number")?.parse()?,
        None => 5640,
    };
    rustix::process::umask(rustix::fs::Mode::empty());
    let shares: Arc<[Arc<Share>]> = Arc::from([Arc::new(Share::new("data", &directory, false)?)]);
    let listener = Listener::tcp_at(SocketAddr::from(([127, 0, 0, 1], port)))?;
    println!("serving {} as `data` on 127.0.0.1:{}", directory.display(), listener.local_port()?);
    let refuse = |peer| eprintln!("refused {peer:?}: too many connections");
    match listener.serve(64, refuse, move |socket, peer| {
        let end = serve(socket, Arc::new(HostTree::new(shares.clone())), Limits::default());
        println!("{peer:?}: {end}");
    })? {}
}
