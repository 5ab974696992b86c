//! Serves one directory on the loopback as a box does, with keys, to try `goblin login` and `goblin mount`:
//! `cargo run -p goblin-agent-share --example serve_keys -- DIRECTORY STATE-FOLDER [PORT]`; the share is `data`.
//! Prints a code. Lines on standard input: `make code`, `cut all` ends every connection, `revoke NAME` forgets
//! a client, `end now` ends as the agent does when it is asked to stop.

use goblin_agent_share::{
    BoardKeys, Entrance, Gate, Introduction, Plain, Runs, Share, Shelf, end_in_order,
};
use goblin_core_ninep::{Limits, Stream};
use goblin_core_trust::PublicKey;
use goblin_core_trust::door::Invitation;
use goblin_sys::socket::{Listener, Socket};
use goblin_tls::Identity;
use std::io::BufRead;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

/// Published here: good for trying only.
const SEED: [u8; 32] = [1; 32];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args_os().skip(1);
    let directory = PathBuf::from(arguments.next().ok_or("name the directory to serve")?);
    let state = PathBuf::from(arguments.next().ok_or("name a folder for the list of clients")?);
    let port = match arguments.next() {
        Some(text) => text.to_str().ok_or("the port is not a number")?.parse()?,
        None => 5640,
    };
    rustix::process::umask(rustix::fs::Mode::empty());
    let shares: Arc<[Arc<Share>]> = Arc::from([Arc::new(Share::new("data", &directory, false)?)]);
    let me = Identity::from_seed(&SEED)?;
    let boards = BoardKeys { own: me.public(), peer: PublicKey::of_seed(&[2; 32]) };
    let gate = Gate::open(&state.join("access.json"), boards, vec!["data".into()])?;
    let gate = Arc::new(gate);
    let shelf = Shelf::from(shares);
    let runs = Runs::begin(&state.join("runs.json"))?;
    // As if the machine started with this program.
    let boot_id = std::process::id().to_string();
    let about = Introduction { box_name: "trial box".into(), boot_id, runs: Some(runs.clone()) };
    let entrance =
        Entrance::new(&me, gate.clone(), shelf.clone(), Plain::Refused, Limits::default(), about)?;
    let listener = Listener::tcp_at(SocketAddr::from(([127, 0, 0, 1], port)))?;
    println!("serving {} on 127.0.0.1:{}", directory.display(), listener.local_port()?);
    let live: Arc<Mutex<Vec<Arc<Socket>>>> = Arc::default();
    let known = live.clone();
    std::thread::spawn(move || {
        let refuse = |peer| eprintln!("refused {peer:?}: too many connections");
        listener.serve(64, refuse, move |socket, peer| {
            known.lock().unwrap_or_else(PoisonError::into_inner).push(socket.clone());
            entrance.serve(socket, peer);
            println!("{peer:?} left");
        })
    });
    let invite = || -> Result<(), Box<dyn std::error::Error>> {
        let (code, _) = gate.invite(&Invitation { name: None, user: None })?;
        println!("code {code}");
        Ok(())
    };
    invite()?;
    for line in std::io::stdin().lock().lines() {
        match line?.trim().split_once(' ').unwrap_or_default() {
            ("revoke", name) => println!("{} connections cut", gate.revoke(name)?),
            ("make", "code") => invite()?,
            ("cut", _) => {
                for socket in live.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
                    socket.shutdown();
                }
            }
            ("end", _) => {
                println!("{} connections cut", end_in_order(&gate, &shelf, runs)?);
                return Ok(());
            }
            _ => println!("say `make code`, `cut all`, `revoke NAME` or `end now`"),
        }
    }
    loop {
        std::thread::park();
    }
}
