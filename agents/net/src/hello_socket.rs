//! The UDP socket of the hello.

use crate::hello::HELLO_BYTES_MAX;
use crate::link::From;
use goblin_core_types::paths;
use std::io;
use std::net::{Ipv6Addr, SocketAddr, SocketAddrV6};
use tokio::net::UdpSocket;

/// All nodes on a link (RFC 4291, section 2.7.1): switches never filter it, and nobody has to join it.
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);

/// The socket.
#[derive(Debug)]
pub(crate) struct HelloSocket {
    socket: UdpSocket,
}

impl HelloSocket {
    pub(crate) fn open() -> io::Result<Self> {
        let socket = rustix::net::socket_with(
            rustix::net::AddressFamily::INET6,
            rustix::net::SocketType::DGRAM,
            rustix::net::SocketFlags::CLOEXEC | rustix::net::SocketFlags::NONBLOCK,
            None,
        )?;
        rustix::net::sockopt::set_ipv6_v6only(&socket, true)?;
        let any = SocketAddrV6::new(Ipv6Addr::UNSPECIFIED, paths::PORT_HELLO, 0, 0);
        rustix::net::bind(&socket, &any)?;
        let socket = UdpSocket::from_std(socket.into())?;
        socket.set_multicast_loop_v6(false)?;
        Ok(Self { socket })
    }

    /// Sends to everybody behind one card.
    pub(crate) async fn send(&self, interface: u32, datagram: &[u8]) -> io::Result<()> {
        let to = SocketAddrV6::new(ALL_NODES, paths::PORT_HELLO, 0, interface);
        self.socket.send_to(datagram, to).await.map(drop)
    }

    /// The next datagram that came from a neighbour on a link.
    pub(crate) async fn receive(
        &self,
        buffer: &mut [u8; HELLO_BYTES_MAX + 1],
    ) -> io::Result<(From, usize)> {
        loop {
            let (length, sender) = self.socket.recv_from(buffer).await?;
            // Only link-local senders carry the card they were heard on, and none of them was routed.
            if let SocketAddr::V6(sender) = sender
                && sender.ip().is_unicast_link_local()
                && sender.scope_id() != 0
            {
                return Ok((From { interface: sender.scope_id(), address: *sender.ip() }, length));
            }
        }
    }
}
