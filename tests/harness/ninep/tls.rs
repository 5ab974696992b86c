//! Both ends of a server with keys: the agent's own entrance, and a client that is the other board.

use anyhow::{Context, Result};
use goblin_agent_share::{BoardKeys, Entrance, Gate, Introduction, Plain, Share};
use goblin_core_ninep::Limits;
use goblin_core_trust::PublicKey;
use goblin_sys::socket::Socket;
use goblin_tls::{Expect, Identity, Service, TlsStream, greeting};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

/// Published here: good for tests only.
const SERVER: [u8; 32] = [1; 32];
/// The client's.
const CLIENT: [u8; 32] = [2; 32];
const LIMIT: Duration = Duration::from_secs(10);

/// The entrance of the share agent, as it is shipped.
///
/// # Errors
/// When the keys cannot be used.
pub fn entrance(shares: Arc<[Arc<Share>]>, limits: Limits) -> Result<Entrance> {
    let me = Identity::from_seed(&SERVER)?;
    let boards = BoardKeys { own: me.public(), peer: PublicKey::of_seed(&CLIENT) };
    let names = shares.iter().map(|share| share.name().into()).collect();
    // Nobody is enrolled, so nothing is ever written there.
    let gate = Gate::open("/nonexistent/access.json".as_ref(), boards, names)?;
    let about = Introduction { box_name: "bench".into(), boot_id: "bench".into(), runs: None };
    Ok(Entrance::new(&me, Arc::new(gate), shares, Plain::Refused, limits, about)?)
}

/// A connection that has been greeted.
///
/// # Errors
/// When the server does not let us in.
pub fn connect(address: SocketAddr) -> Result<TlsStream> {
    let socket = Arc::new(Socket::connect_tcp(address, None, LIMIT).context("cannot connect")?);
    let me = Identity::from_seed(&CLIENT)?;
    let expect = Expect::Key(PublicKey::of_seed(&SERVER));
    let (stream, _) = goblin_tls::connect(&socket, &me, expect, Service::Files, LIMIT)?;
    greeting::receive(&stream)?;
    Ok(stream)
}
