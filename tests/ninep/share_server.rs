//! The share agent's backend and session core as a program of their own: serves directories of this machine, for
//! the conformance suite and the benchmark. No provisioning and no pool; encryption only when asked for.
//!
//! `share-server ADDRESS HANDSHAKE_MS NAME=DIR...`; ADDRESS is a socket file or `IP:PORT`, `tls:IP:PORT` for the agent's
//! own entrance with the keys of `goblin_tests::ninep::tls`. A name that begins with `ro:` is served read-only. Says
//! `ready` and the port on standard output.

use anyhow::{Context, Result};
use goblin_agent_share::{HostTree, Share};
use goblin_core_ninep::{Limits, serve};
use goblin_sys::socket::Listener;
use goblin_tests::ninep::tls;
use rustix::process::{Resource, Rlimit};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// Connections at one time.
const CONNECTIONS_MAX: usize = 4096;
/// Descriptors at one time, where the kernel lets us.
const DESCRIPTORS_MAX: u64 = 524_288;

/// Descriptors, as the agent raises them; nothing where the caller has lowered them on purpose.
fn descriptor_limit() -> Option<Rlimit> {
    let now = rustix::process::getrlimit(Resource::Nofile);
    if now.maximum.is_some_and(|hard| hard < 1024) {
        return None;
    }
    let most = Some(DESCRIPTORS_MAX);
    let wanted = Rlimit { current: most, maximum: most };
    if rustix::process::setrlimit(Resource::Nofile, wanted).is_ok() {
        return Some(wanted);
    }
    Some(Rlimit { current: now.maximum, maximum: now.maximum })
}

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let mut next = || arguments.next().context("share-server ADDRESS HANDSHAKE_MS NAME=DIR...");
    let (address, handshake) = (next()?, next()?);
    let handshake = Duration::from_millis(handshake.parse().context("HANDSHAKE_MS")?);
    let shares = arguments
        .map(|share| {
            let (name, dir) = share.split_once('=').context("NAME=DIR")?;
            let (name, read_only) = name.strip_prefix("ro:").map_or((name, false), |n| (n, true));
            let share = Share::new(name, Path::new(dir), read_only);
            Ok(Arc::new(share.with_context(|| dir.to_owned())?))
        })
        .collect::<Result<Arc<[_]>>>()?;
    rustix::process::umask(rustix::fs::Mode::empty());
    if let Some(limit) = descriptor_limit() {
        rustix::process::setrlimit(Resource::Nofile, limit)?;
    }
    let (address, is_tls) = match address.strip_prefix("tls:") {
        Some(address) => (address.to_owned(), true),
        None => (address, false),
    };
    let (listener, port) = if address.starts_with('/') {
        (Listener::unix(Path::new(&address), 0o600)?, 0)
    } else {
        let listener = Listener::tcp_at(address.parse().context("IP:PORT")?)?;
        let port = listener.local_port()?;
        (listener, port)
    };
    println!("ready {port}");
    let limits = Limits { handshake, ..Limits::DEFAULT };
    if is_tls {
        let entrance = tls::entrance(shares, limits)?;
        match listener.serve(
            CONNECTIONS_MAX,
            |_| (),
            move |socket, peer| {
                entrance.serve(socket, peer);
            },
        )? {}
    }
    match listener.serve(
        CONNECTIONS_MAX,
        |_| (),
        move |socket, _| {
            serve(socket, Arc::new(HostTree::new(shares.clone())), limits);
        },
    )? {}
}
