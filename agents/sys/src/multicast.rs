//! Datagrams to and from a multicast group on every interface, over IPv4.

use nix::ifaddrs::getifaddrs;
use nix::net::if_::InterfaceFlags;
use rustix::net::sockopt;
use rustix::net::{AddressFamily, SocketFlags, SocketType};
use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4, UdpSocket};
use std::time::Duration;

/// Interfaces that are used at most.
const INTERFACES_MAX: usize = 32;
/// Hops of what is sent: receivers take it as a sign that it comes from this network (RFC 6762, section 11).
const HOPS: u32 = 255;

/// The addresses of this machine's interfaces that are up, without the loopback's, sorted.
///
/// # Errors
/// When the kernel does not list them.
pub fn addresses() -> io::Result<Vec<IpAddr>> {
    let mut found = BTreeSet::new();
    for interface in getifaddrs()? {
        let is_up = interface.flags.contains(InterfaceFlags::IFF_UP);
        if !is_up || interface.flags.contains(InterfaceFlags::IFF_LOOPBACK) {
            continue;
        }
        let Some(address) = interface.address else { continue };
        if let Some(v4) = address.as_sockaddr_in() {
            found.insert(IpAddr::V4(v4.ip()));
        } else if let Some(v6) = address.as_sockaddr_in6() {
            found.insert(IpAddr::V6(v6.ip()));
        }
    }
    Ok(found.into_iter().collect())
}

/// A socket for one group.
#[derive(Debug)]
pub struct Multicast {
    socket: UdpSocket,
    group: SocketAddrV4,
    joined: BTreeSet<Ipv4Addr>,
}

impl Multicast {
    /// A member of the group, beside other programs of this machine that are.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn member(group: SocketAddrV4) -> io::Result<Self> {
        Self::bound(group, group.port())
    }

    /// One that asks the group from a port of its own, and hears only answers to itself.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn asker(group: SocketAddrV4) -> io::Result<Self> {
        Self::bound(group, 0)
    }

    fn bound(group: SocketAddrV4, port: u16) -> io::Result<Self> {
        let flags = SocketFlags::CLOEXEC;
        let fd = rustix::net::socket_with(AddressFamily::INET, SocketType::DGRAM, flags, None)?;
        if port != 0 {
            sockopt::set_socket_reuseaddr(&fd, true)?;
        }
        sockopt::set_ip_multicast_ttl(&fd, HOPS)?;
        rustix::net::bind(&fd, &SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, port))?;
        Ok(Self { socket: fd.into(), group, joined: BTreeSet::new() })
    }

    /// Uses the interfaces of these addresses from now on; a member also hears there. Answers whether they changed.
    pub fn use_interfaces(&mut self, addresses: &[IpAddr]) -> bool {
        let v4 = |address: &IpAddr| match address {
            IpAddr::V4(address) => Some(*address),
            IpAddr::V6(_) => None,
        };
        let wanted: BTreeSet<Ipv4Addr> =
            addresses.iter().filter_map(v4).take(INTERFACES_MAX).collect();
        if wanted == self.joined {
            return false;
        }
        let is_member = self.socket.local_addr().is_ok_and(|own| own.port() == self.group.port());
        if is_member {
            // An interface that is gone, or two addresses of one interface: the membership is what it should be.
            for gone in self.joined.difference(&wanted) {
                let _ = self.socket.leave_multicast_v4(self.group.ip(), gone);
            }
            for new in wanted.difference(&self.joined) {
                let _ = self.socket.join_multicast_v4(self.group.ip(), new);
            }
        }
        self.joined = wanted;
        true
    }

    /// Sends to the group on every interface; answers on how many.
    pub fn tell(&self, bytes: &[u8]) -> usize {
        let send = |interface: &&Ipv4Addr| {
            sockopt::set_ip_multicast_if(&self.socket, interface)
                .map_err(io::Error::from)
                .and_then(|()| self.socket.send_to(bytes, self.group))
                .is_ok()
        };
        self.joined.iter().filter(send).count()
    }

    /// Sends to one.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn answer(&self, bytes: &[u8], to: SocketAddr) -> io::Result<()> {
        self.socket.send_to(bytes, to).map(drop)
    }

    /// Waits for a datagram; `None` when the time is over.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn receive(
        &self,
        into: &mut [u8],
        limit: Duration,
    ) -> io::Result<Option<(usize, SocketAddr)>> {
        self.socket.set_read_timeout(Some(limit.max(Duration::from_millis(1))))?;
        match self.socket.recv_from(into) {
            Ok(got) => Ok(Some(got)),
            Err(err) if is_over(&err) => Ok(None),
            Err(err) => Err(err),
        }
    }
}

fn is_over(err: &io::Error) -> bool {
    matches!(
        err.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut | io::ErrorKind::Interrupted
    )
}
