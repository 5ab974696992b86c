//! rtnetlink, wrapped: its interface changes with every release, so it is named in this file only.

use futures_util::TryStreamExt;
use rtnetlink::packet_route::address::{AddressAttribute, AddressHeaderFlags, AddressScope};
use rtnetlink::{Handle, LinkUnspec, RouteMessageBuilder};
use std::io;
use std::net::{IpAddr, Ipv4Addr};

/// Addresses of one board looked at; more are ignored.
const ADDRESSES_MAX: usize = 256;

/// One address of an interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Address {
    /// Interface index.
    pub(crate) interface: u32,
    /// The address.
    pub(crate) ip: IpAddr,
    /// Prefix length.
    pub(crate) prefix: u8,
    /// Reachable from other networks: neither link-local, nor tentative, nor going away.
    pub(crate) global: bool,
}

/// The kernel's routing socket.
#[derive(Debug, Clone)]
pub(crate) struct Kernel {
    handle: Handle,
}

impl Kernel {
    /// Opens the socket and starts its task on the present runtime.
    pub(crate) fn open() -> io::Result<Self> {
        let (connection, handle, _) = rtnetlink::new_connection()?;
        tokio::spawn(connection);
        Ok(Self { handle })
    }

    /// Brings an interface up.
    pub(crate) async fn bring_up(&self, interface: u32) -> io::Result<()> {
        let message = LinkUnspec::new_with_index(interface).up().build();
        self.handle.link().change(message).execute().await.map_err(to_io)
    }

    /// Every address.
    pub(crate) async fn addresses(&self) -> io::Result<Vec<Address>> {
        let mut found = Vec::new();
        let mut messages = std::pin::pin!(self.handle.address().get().execute());
        while let Some(message) = messages.try_next().await.map_err(to_io)? {
            // IPv4 names the own address `Local`; IPv6 has `Address` only.
            let own = message.attributes.iter().find_map(|attribute| match attribute {
                AddressAttribute::Local(ip) => Some(*ip),
                _ => None,
            });
            let any = message.attributes.iter().find_map(|attribute| match attribute {
                AddressAttribute::Address(ip) => Some(*ip),
                _ => None,
            });
            let header = &message.header;
            let unsettled = AddressHeaderFlags::Tentative
                | AddressHeaderFlags::Deprecated
                | AddressHeaderFlags::Dadfailed;
            if let Some(ip) = own.or(any)
                && found.len() < ADDRESSES_MAX
            {
                found.push(Address {
                    interface: header.index,
                    ip,
                    prefix: header.prefix_len,
                    global: header.scope == AddressScope::Universe
                        && !header.flags.intersects(unsettled),
                });
            }
        }
        Ok(found)
    }

    /// Gives an interface an IPv4 address, or leaves it as it has it.
    pub(crate) async fn add_address(
        &self,
        interface: u32,
        ip: Ipv4Addr,
        prefix: u8,
    ) -> io::Result<()> {
        let request = self.handle.address().add(interface, ip.into(), prefix).replace();
        request.execute().await.map_err(to_io)
    }

    /// Takes an IPv4 address from an interface; its routes go with it.
    pub(crate) async fn remove_address(&self, interface: u32, ip: Ipv4Addr) -> io::Result<()> {
        let get = self.handle.address().get().set_link_index_filter(interface);
        let mut messages = std::pin::pin!(get.set_address_filter(ip.into()).execute());
        while let Some(message) = messages.try_next().await.map_err(to_io)? {
            self.handle.address().del(message).execute().await.map_err(to_io)?;
        }
        Ok(())
    }

    /// Routes a destination over a gateway, with a metric of its own for each interface.
    pub(crate) async fn add_route(
        &self,
        interface: u32,
        destination: (Ipv4Addr, u8),
        gateway: Ipv4Addr,
    ) -> io::Result<()> {
        let mut route = RouteMessageBuilder::<Ipv4Addr>::new()
            .destination_prefix(destination.0, destination.1)
            .output_interface(interface)
            .priority(ROUTE_METRIC_MIN.saturating_add(interface));
        if !gateway.is_unspecified() {
            route = route.gateway(gateway);
        }
        self.handle.route().add(route.build()).replace().execute().await.map_err(to_io)
    }
}

/// Metric of the first interface's routes; the interface's index is added, so that two default routes
/// do not replace each other.
const ROUTE_METRIC_MIN: u32 = 100;

fn to_io(err: rtnetlink::Error) -> io::Error {
    match err {
        rtnetlink::Error::NetlinkError(message) => message.to_io(),
        other => io::Error::other(other.to_string()),
    }
}
