//! Serves the control tree: on a unix socket on every board, and on the inter-board link: all of it on the
//! storage board, release files alone on the compute board.

use crate::AgentError;
use crate::tree::{self, Places};
use goblin_core_ninep::{Limits, Stream, serve};
use goblin_core_trust::PublicKey;
use goblin_core_types::{LinkStatus, Role, paths};
use goblin_sys::board::role;
use goblin_sys::socket::{Listener, Peer};
use goblin_tls::{Acceptor, Identity, Service};
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

/// Local programs connected at one time at most.
const LOCAL_CONNECTIONS_MAX: usize = 48;
/// Connections of the other board at one time at most.
const LINK_CONNECTIONS_MAX: usize = 32;
/// Interfaces listened on at most; more than any board has.
const INTERFACES_MAX: usize = 16;
/// Longest time from a connection's first byte to the end of its handshake.
const SHAKE_LIMIT: Duration = Duration::from_secs(5);
/// Pause before the keys of a provisioning file that cannot be used are read again.
const KEY_PAUSE: Duration = Duration::from_secs(30);
/// `size[4] Tversion tag[2] msize[4] version[s]` (9P2000.L, version): what the agent asks itself to see that it
/// answers.
const TVERSION: &[u8] = b"\x15\0\0\0\x64\xff\xff\0\x20\0\0\x08\09P2000.L";
/// Pause between looks at the link.
const LOOK: Duration = Duration::from_secs(1);

/// What one connection may hold. An open file's content lies in memory, a waiting read holds a thread: all
/// connections together must fit what the unit may have (`rootfs/units/control.toml`).
fn limits() -> Limits {
    Limits {
        msize_max: 64 * 1024,
        fids_max: 64,
        events_max: 8,
        disk_jobs_max: 4,
        ..Limits::default()
    }
}

/// Serves the control tree until a fatal error.
///
/// # Errors
/// [`AgentError::Listen`] when the local socket cannot be made or broke.
pub fn run_control() -> Result<(), AgentError> {
    let path = Path::new(paths::CONTROL_SOCKET);
    let refused = |source| AgentError::Listen { address: path.display().to_string(), source };
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent).map_err(refused)?;
    }
    let listener = Listener::unix(path, 0o600).map_err(refused)?;
    thread::Builder::new()
        .name("control-link".into())
        .spawn(watch_link)
        .map_err(|source| AgentError::Thread { name: "control-link", source })?;
    goblin_sys::notify::ready();
    goblin_sys::notify::ping_while_answering(path, TVERSION)
        .map_err(|source| AgentError::Thread { name: "pulse", source })?;
    tracing::info!(socket = %path.display(), "serving the control tree");
    let full = |peer| tracing::warn!(?peer, "too many connections to the control tree");
    let never = listener.serve(LOCAL_CONNECTIONS_MAX, full, |socket, _| talk(socket));
    never.map(|never| match never {}).map_err(refused)
}

/// The role is asked at each connection, because this agent starts before it is known.
fn talk<S: Stream>(stream: Arc<S>) {
    let tree = tree::build(&Places::of_this_board(role()));
    let end = serve(stream, Arc::new(tree), limits());
    tracing::debug!(%end, "connection to the control tree ended");
}

/// What the other board is shown of this one.
fn talk_to_other<S: Stream>(stream: Arc<S>) {
    let tree = tree::build_for_link(&Places::of_this_board(role()));
    let end = serve(stream, Arc::new(tree), limits());
    tracing::debug!(%end, "the other board's connection ended");
}

/// Listens on the interface of the link, for the other board's key alone. An interface that was the link before
/// keeps its socket, which refuses everyone until it is the link again.
fn watch_link() {
    while role().is_none() {
        thread::sleep(LOOK);
    }
    if !matches!(role(), Some(Role::Storage | Role::Compute)) {
        return;
    }
    let acceptor = loop {
        match acceptor() {
            Ok(acceptor) => break acceptor,
            // The file is read once the provisioning agent is done; until then nothing is refused by it.
            Err(err) => {
                tracing::warn!(%err, "the control tree is not served on the link");
                thread::sleep(KEY_PAUSE);
            }
        }
    };
    let mut listening = BTreeSet::new();
    loop {
        if let Some((name, index)) = link_interface()
            && listening.len() < INTERFACES_MAX
            && !listening.contains(&index)
        {
            match listen_on(name.clone(), acceptor.clone()) {
                Ok(()) => {
                    tracing::info!(interface = name, "serving the control tree on the link");
                    listening.insert(index);
                }
                Err(err) => {
                    tracing::warn!(interface = name, %err, "cannot serve the control tree on the link");
                }
            }
        }
        thread::sleep(LOOK);
    }
}

/// Shakes hands with the other board of the box, and with nobody else.
fn acceptor() -> Result<Acceptor, Box<dyn std::error::Error>> {
    let keys = goblin_sys::provision::load()?.keys;
    let me = Identity::from_seed(&keys.board_private.0)?;
    let other = PublicKey::from_bytes(keys.peer_public.0)?;
    let admit: goblin_tls::Admit = Arc::new(move |key: &PublicKey| *key == other);
    Ok(Acceptor::new(&me, vec![(Service::Control, admit)])?)
}

fn listen_on(interface: String, acceptor: Acceptor) -> std::io::Result<()> {
    let listener = Listener::tcp(paths::PORT_CONTROL, Some(&interface))?;
    thread::Builder::new().name("control-tcp".into()).spawn(move || {
        let full = |peer| tracing::warn!(?peer, "too many connections over the link");
        let end = listener.serve(LINK_CONNECTIONS_MAX, full, move |socket, peer| {
            if !may_enter(&peer, link_interface().map(|(_, index)| index)) {
                tracing::warn!(?peer, "refused a connection that did not come over the link");
                return;
            }
            match acceptor.accept(&socket, SHAKE_LIMIT) {
                Ok(accepted) => talk_to_other(Arc::new(accepted.stream)),
                Err(err) => tracing::warn!(?peer, %err, "refused a connection over the link"),
            }
        });
        let Err(err) = end;
        tracing::warn!(interface, %err, "the control tree's listener broke");
    })?;
    Ok(())
}

fn link_interface() -> Option<(String, u32)> {
    let name = goblin_sys::state::read::<LinkStatus>("link")?.interface?;
    let index = goblin_sys::peer::interface_index(&name)?;
    Some((name, index))
}

/// Only a link-local address on the link itself: such packets are not routed from anywhere else.
fn may_enter(peer: &Peer, link_index: Option<u32>) -> bool {
    match peer {
        Peer::Network(SocketAddr::V6(address)) => {
            address.ip().is_unicast_link_local() && link_index == Some(address.scope_id())
        }
        Peer::Network(SocketAddr::V4(_)) | Peer::Process { .. } => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::SocketAddrV6;

    #[test]
    fn only_the_link_may_enter() {
        let from = |ip: &str, scope| {
            Peer::Network(SocketAddr::V6(SocketAddrV6::new(ip.parse().unwrap(), 9, 0, scope)))
        };
        assert!(may_enter(&from("fe80::2", 3), Some(3)));
        assert!(!may_enter(&from("fe80::2", 3), Some(4)));
        assert!(!may_enter(&from("fe80::2", 3), None));
        assert!(!may_enter(&from("2001:db8::2", 3), Some(3)));
        assert!(!may_enter(&from("::ffff:10.0.2.2", 3), Some(3)));
        assert!(!may_enter(&Peer::Network("10.0.2.2:9".parse().unwrap()), Some(3)));
    }
}
