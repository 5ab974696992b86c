//! The way to the other board: its address on the inter-board link, and a TCP connection that notices
//! when the cable is pulled.

use crate::files;
use goblin_core_types::{LinkState, LinkStatus};
use rustix::net::sockopt;
use std::io;
use std::net::{Ipv6Addr, SocketAddrV6, TcpStream};
use std::path::Path;
use std::time::Duration;

/// Idle time before the first keep-alive probe, and between probes.
const KEEP_ALIVE: Duration = Duration::from_secs(5);
/// Unanswered probes after which the connection counts as broken.
const KEEP_ALIVE_COUNT: u32 = 3;
/// Longest time sent data may stay unacknowledged, in milliseconds.
const USER_TIMEOUT_MS: u32 = 15_000;

/// Address of the other board's `port`, scoped to the interface it was heard on; `None` while the link
/// is not up or says something that is not a link-local address.
pub fn address(link: &LinkStatus, port: u16) -> Option<SocketAddrV6> {
    if link.state != LinkState::Up {
        return None;
    }
    let ip: Ipv6Addr = link.peer_address.as_deref()?.parse().ok()?;
    if !ip.is_unicast_link_local() {
        return None;
    }
    Some(SocketAddrV6::new(ip, port, 0, interface_index(link.interface.as_deref()?)?))
}

/// Number of an interface, or `None` when there is none of that name.
pub fn interface_index(name: &str) -> Option<u32> {
    if name.is_empty() || name.contains('/') || name.starts_with('.') {
        return None;
    }
    let path = Path::new("/sys/class/net").join(name).join("ifindex");
    String::from_utf8(files::read_bounded(&path, 64).ok()?).ok()?.trim().parse().ok()
}

/// Connects to the other board.
///
/// # Errors
/// `TimedOut` after `timeout`; otherwise the kernel's.
pub fn connect(address: SocketAddrV6, timeout: Duration) -> io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&address.into(), timeout)?;
    tune(&stream)?;
    Ok(stream)
}

/// Makes a connection answer at once, and break within about 15 seconds when the other end is gone.
///
/// # Errors
/// The kernel's.
pub fn tune(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    sockopt::set_socket_keepalive(stream, true)?;
    sockopt::set_tcp_keepidle(stream, KEEP_ALIVE)?;
    sockopt::set_tcp_keepintvl(stream, KEEP_ALIVE)?;
    sockopt::set_tcp_keepcnt(stream, KEEP_ALIVE_COUNT)?;
    sockopt::set_tcp_user_timeout(stream, USER_TIMEOUT_MS)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(state: LinkState, peer: &str, interface: &str) -> LinkStatus {
        LinkStatus {
            state,
            peer_address: Some(peer.into()),
            interface: Some(interface.into()),
            ..LinkStatus::default()
        }
    }

    #[test]
    fn only_a_link_that_is_up_and_local_has_an_address() {
        let up = address(&link(LinkState::Up, "fe80::2", "lo"), 564).unwrap();
        assert_eq!(up.scope_id(), interface_index("lo").unwrap());
        assert_eq!(address(&link(LinkState::Lost, "fe80::2", "lo"), 564), None);
        assert_eq!(address(&link(LinkState::Up, "2001:db8::2", "lo"), 564), None);
        assert_eq!(address(&link(LinkState::Up, "fe80::2", "../lo"), 564), None);
        assert_eq!(address(&link(LinkState::Up, "fe80::2", "absent9"), 564), None);
    }

    #[test]
    fn a_tuned_connection_works() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        tune(&stream).unwrap();
        assert!(stream.nodelay().unwrap());
    }
}
