//! What a DHCP server granted, checked: pure.

use mozim::DhcpV4Lease;
use std::net::Ipv4Addr;

/// Name servers used; glibc reads no more (`MAXNS`).
pub(crate) const DNS_MAX: usize = 3;
/// Routes taken from one lease.
const ROUTES_MAX: usize = 16;
/// Time servers taken from one lease.
const NTP_MAX: usize = 4;
/// Longest search domain, RFC 1035.
const DOMAIN_CHARS_MAX: usize = 253;

/// A destination `(address, prefix)` and its gateway.
pub(crate) type Route = ((Ipv4Addr, u8), Ipv4Addr);

/// A usable lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Lease {
    /// This board's address.
    pub(crate) address: Ipv4Addr,
    /// Its prefix length.
    pub(crate) prefix: u8,
    /// Routes.
    pub(crate) routes: Vec<Route>,
    /// Name servers.
    pub(crate) dns: Vec<Ipv4Addr>,
    /// Time servers.
    pub(crate) ntp: Vec<Ipv4Addr>,
    /// Search domain.
    pub(crate) domain: Option<String>,
    /// Seconds it holds from when it was granted.
    pub(crate) valid_s: u32,
}

/// Takes what is sane from a server's answer; `None` when the address itself is not usable.
pub(crate) fn check(granted: &DhcpV4Lease) -> Option<Lease> {
    let address = granted.yiaddr;
    let prefix = prefix_length(granted.subnet_mask, address)?;
    if !is_host(address) {
        return None;
    }
    // RFC 3442: where classless routes are given, the gateway option is ignored.
    let routes: Vec<Route> = match &granted.classless_routes {
        Some(routes) => routes
            .iter()
            .filter(|route| route.prefix_length <= 32)
            .map(|route| ((route.destination, route.prefix_length), route.router))
            .collect(),
        None => granted
            .gateways
            .iter()
            .flatten()
            .filter(|gateway| is_host(**gateway))
            .take(1)
            .map(|gateway| ((Ipv4Addr::UNSPECIFIED, 0), *gateway))
            .collect(),
    };
    let hosts = |list: &Option<Vec<Ipv4Addr>>, max: usize| -> Vec<Ipv4Addr> {
        list.iter().flatten().copied().filter(|ip| is_host(*ip)).take(max).collect()
    };
    Some(Lease {
        address,
        prefix,
        routes: routes.into_iter().take(ROUTES_MAX).collect(),
        dns: hosts(&granted.dns_srvs, DNS_MAX),
        ntp: hosts(&granted.ntp_srvs, NTP_MAX),
        domain: granted.domain_name.clone().filter(|name| is_domain(name)),
        valid_s: granted.lease_time_sec,
    })
}

fn is_host(ip: Ipv4Addr) -> bool {
    !(ip.is_unspecified() || ip.is_loopback() || ip.is_multicast() || ip.is_broadcast())
}

/// The text goes into a file that a parser of another program reads.
fn is_domain(text: &str) -> bool {
    (1..=DOMAIN_CHARS_MAX).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_'))
}

/// Length of a mask; a missing mask means the class of the address (RFC 950).
fn prefix_length(mask: Ipv4Addr, address: Ipv4Addr) -> Option<u8> {
    let bits = u32::from(mask);
    if bits == 0 {
        return match address.octets() {
            [0..=127, ..] => Some(8),
            [128..=191, ..] => Some(16),
            [192..=223, ..] => Some(24),
            _ => None,
        };
    }
    let ones = bits.leading_ones();
    (ones == bits.count_ones()).then(|| u8::try_from(ones).ok()).flatten()
}

/// The text of `resolv.conf`. With no server an empty list: then nothing is asked of this machine.
pub(crate) fn resolv_conf(dns: &[Ipv4Addr], domain: Option<&str>) -> String {
    let mut text = String::from("# Written by the network agent.\n");
    if let Some(domain) = domain {
        text.push_str(&format!("search {domain}\n"));
    }
    for server in dns.iter().take(DNS_MAX) {
        text.push_str(&format!("nameserver {server}\n"));
    }
    // Short waits: a dead name server must not hold an agent up for the usual half minute.
    text.push_str("options timeout:2 attempts:2\n");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn granted() -> DhcpV4Lease {
        let mut lease = DhcpV4Lease::default();
        lease.yiaddr = Ipv4Addr::new(10, 0, 2, 15);
        lease.subnet_mask = Ipv4Addr::new(255, 255, 255, 0);
        lease.gateways = Some(vec![Ipv4Addr::new(10, 0, 2, 2)]);
        lease.dns_srvs = Some(vec![Ipv4Addr::new(10, 0, 2, 3), Ipv4Addr::UNSPECIFIED]);
        lease.lease_time_sec = 86_400;
        lease
    }

    #[test]
    fn a_usual_lease_gives_address_route_and_dns() {
        let lease = check(&granted()).unwrap();
        assert_eq!((lease.address, lease.prefix), (Ipv4Addr::new(10, 0, 2, 15), 24));
        assert_eq!(lease.routes, [((Ipv4Addr::UNSPECIFIED, 0), Ipv4Addr::new(10, 0, 2, 2))]);
        assert_eq!(lease.dns, [Ipv4Addr::new(10, 0, 2, 3)]);
        assert_eq!(
            resolv_conf(&lease.dns, Some("home.example")),
            "# Written by the network agent.\nsearch home.example\nnameserver 10.0.2.3\n\
             options timeout:2 attempts:2\n"
        );
    }

    #[test]
    fn nonsense_is_refused() {
        for (address, mask) in [
            ([0, 0, 0, 0], [255, 255, 255, 0]),
            ([127, 0, 0, 1], [255, 0, 0, 0]),
            ([224, 0, 0, 1], [255, 255, 255, 0]),
            ([10, 0, 0, 1], [255, 0, 255, 0]),
        ] {
            let mut lease = granted();
            (lease.yiaddr, lease.subnet_mask) = (address.into(), mask.into());
            assert_eq!(check(&lease), None, "{address:?}");
        }
        let mut lease = granted();
        lease.domain_name = Some("a\nnameserver 6.6.6.6".into());
        assert_eq!(check(&lease).unwrap().domain, None);
        lease.subnet_mask = Ipv4Addr::UNSPECIFIED;
        assert_eq!(check(&lease).unwrap().prefix, 8);
    }
}
