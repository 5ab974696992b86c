//! Tells the local network where this board is: multicast DNS, on a thread of its own. What it says and answers is
//! `goblin_core_discovery`'s.

use ed25519_dalek::SigningKey;
use goblin_core_config::Provision;
use goblin_core_discovery::{GROUP, Message, Notice, PORT, Role as Says, Via};
use goblin_core_types::{NetStatus, Role, paths};
use goblin_sys::multicast::Multicast;
use goblin_sys::{provision, state};
use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, SocketAddr, SocketAddrV4};
use std::thread;
use std::time::{Duration, Instant};

/// Pause between looks at what is said.
const LOOK: Duration = Duration::from_secs(2);
/// Pause after the socket failed.
const RETRY: Duration = Duration::from_secs(10);
/// Longest datagram looked at, in bytes.
const DATAGRAM_BYTES_MAX: usize = 9000;
/// Answers in one second; a household asks seldom.
const ANSWERS_MAX: u32 = 50;

/// What this board says, and to whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Here {
    /// The board.
    pub notice: Notice,
    /// Networks it is in, as an address and a prefix length. Others get no answers: this board is no mirror for
    /// datagrams with a forged sender from far away.
    pub networks: Vec<(IpAddr, u8)>,
}

/// Starts the thread.
///
/// # Errors
/// When there is no thread to be had.
pub(crate) fn start() -> io::Result<()> {
    let forever = || {
        loop {
            let Err(err) = serve(&|| here(&provision::load().ok()?));
            tracing::warn!(%err, "this board is not announced for now");
            thread::sleep(RETRY);
        }
    };
    thread::Builder::new().name("discovery".into()).spawn(forever).map(drop)
}

/// What this board has to say; nothing before it has a name and an address.
fn here(provision: &Provision) -> Option<Here> {
    let net: NetStatus = state::read("net")?;
    let addresses: Vec<IpAddr> =
        net.lan_addresses.iter().filter_map(|text| text.parse().ok()).collect();
    if addresses.is_empty() {
        return None;
    }
    let key = SigningKey::from_bytes(&provision.keys.board_private.0);
    let (role, port) = match provision.role {
        Role::Storage => (Says::Storage, paths::PORT_SHARES),
        Role::Compute => (Says::Compute, 0),
    };
    let notice = Notice {
        box_name: provision.the_box.name.clone(),
        role,
        key: hex::encode(key.verifying_key().to_bytes()),
        port,
        addresses,
        named_twice: false,
    };
    let lan = net.interfaces.iter().filter(|interface| interface.purpose == "lan");
    let networks = lan.flat_map(|interface| &interface.addresses).filter_map(|text| network(text));
    Some(Here { networks: networks.collect(), notice })
}

/// `ADDRESS/LENGTH`
fn network(text: &str) -> Option<(IpAddr, u8)> {
    let (address, length) = text.split_once('/')?;
    Some((address.parse().ok()?, length.parse().ok()?))
}

fn is_near(networks: &[(IpAddr, u8)], other: IpAddr) -> bool {
    let bits = |address: IpAddr| match address {
        IpAddr::V4(address) => (u128::from(address.to_bits()), 32u8),
        IpAddr::V6(address) => (address.to_bits(), 128),
    };
    networks.iter().any(|(own, length)| {
        let ((own, width), (other, other_width)) = (bits(*own), bits(other));
        let rest = u32::from(width.saturating_sub(*length));
        width == other_width && own.checked_shr(rest) == other.checked_shr(rest)
    })
}

/// Announces and answers until the socket fails.
///
/// # Errors
/// What the kernel says.
pub fn serve(here: &dyn Fn() -> Option<Here>) -> io::Result<Infallible> {
    let mut socket = Multicast::member(SocketAddrV4::new(GROUP, PORT))?;
    let mut says: Option<Here> = None;
    let mut named_twice = false;
    let mut looked: Option<Instant> = None;
    let (mut second, mut answers) = (Instant::now(), 0u32);
    let mut buffer = vec![0; DATAGRAM_BYTES_MAX];
    loop {
        if looked.is_none_or(|looked| looked.elapsed() >= LOOK) {
            looked = Some(Instant::now());
            let mut now = here();
            if let Some(now) = &mut now {
                now.notice.named_twice = named_twice;
            }
            announce(&mut socket, &mut says, now);
        }
        let Some((got, from)) = socket.receive(&mut buffer, LOOK)? else { continue };
        let Some(here) = &says else { continue };
        let Ok(message) = Message::decode(buffer.get(..got).unwrap_or_default()) else { continue };
        if here.notice.collides(&message) && !named_twice {
            tracing::warn!(
                name = here.notice.box_name,
                "another box on this network has this name"
            );
            (named_twice, looked) = (true, None);
            continue;
        }
        if second.elapsed() >= Duration::from_secs(1) {
            (second, answers) = (Instant::now(), 0);
        }
        if answers < ANSWERS_MAX && is_near(&here.networks, from.ip()) {
            answers =
                answers.saturating_add(u32::from(answer(&socket, &here.notice, &message, from)));
        }
    }
}

/// Says what is new, and takes back what is not true any more.
fn announce(socket: &mut Multicast, says: &mut Option<Here>, now: Option<Here>) {
    let changed = *says != now;
    if let Some(old) = says.as_ref().filter(|_| changed) {
        socket.tell(&old.notice.farewell());
    }
    let addresses = now.as_ref().map_or(&[][..], |here| &here.notice.addresses);
    let moved = socket.use_interfaces(addresses);
    if let Some(here) = now.as_ref().filter(|_| changed || moved) {
        socket.tell(&here.notice.announcement());
    }
    *says = now;
}

/// Whether there was something to answer.
fn answer(socket: &Multicast, notice: &Notice, message: &Message, from: SocketAddr) -> bool {
    let Some((bytes, via)) = notice.answer(message, from.port()) else { return false };
    match via {
        Via::Group => {
            socket.tell(&bytes);
        }
        Via::Asker => {
            // Whoever asked asks again.
            let _ = socket.answer(&bytes, from);
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_neighbours_are_near() {
        let networks = [network("192.0.2.7/24").unwrap(), network("2001:db8::7/64").unwrap()];
        let near = |text: &str| is_near(&networks, text.parse().unwrap());
        assert!(near("192.0.2.200") && near("2001:db8::1"));
        assert!(!near("192.0.3.1") && !near("2001:db8:1::1") && !near("::ffff:192.0.2.1"));
        assert!(is_near(&[network("10.0.0.1/0").unwrap()], "1.2.3.4".parse().unwrap()));
        assert_eq!(network("10.0.0.1"), None);
    }
}
