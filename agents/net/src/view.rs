//! What the cards, leases and the link look like to people: pure.

use crate::kernel::Address;
use crate::lease::Lease;
use goblin_core_types::{InterfaceStatus, NetStatus};
use goblin_sys::netdev::Nic;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

/// Everything the view is made of.
#[derive(Debug)]
pub(crate) struct Scene<'a> {
    pub(crate) nics: &'a [Nic],
    pub(crate) addresses: &'a [Address],
    /// By interface index.
    pub(crate) leases: &'a BTreeMap<u32, Lease>,
    /// Card of the link.
    pub(crate) link: Option<u32>,
    pub(crate) dns: &'a [Ipv4Addr],
    /// Cards on which a DHCP server is waited for, with seconds waited.
    pub(crate) waiting_s: &'a BTreeMap<u32, u64>,
    /// A named card that is not there.
    pub(crate) missing_card: Option<String>,
}

/// Waiting for a DHCP server becomes a problem after this time.
const DHCP_PATIENCE_S: u64 = 20;

/// The network's part of the status.
pub(crate) fn net_status(scene: &Scene<'_>) -> NetStatus {
    let mut status = NetStatus {
        dns: scene.dns.iter().map(Ipv4Addr::to_string).collect(),
        problem: problem(scene),
        ..NetStatus::default()
    };
    for nic in scene.nics {
        let own: Vec<&Address> =
            scene.addresses.iter().filter(|address| address.interface == nic.index).collect();
        let is_lan = scene.leases.contains_key(&nic.index)
            || own.iter().any(|address| address.global && scene.link != Some(nic.index));
        if is_lan {
            let reachable = own.iter().filter(|address| address.global);
            status.lan_addresses.extend(reachable.map(|address| address.ip.to_string()));
        }
        let purpose = match (scene.link == Some(nic.index), is_lan) {
            (true, _) => "link",
            (false, true) => "lan",
            (false, false) => "idle",
        };
        status.interfaces.push(InterfaceStatus {
            name: nic.name.clone(),
            mac: nic.mac.clone(),
            carrier: nic.carrier,
            purpose: purpose.to_owned(),
            addresses: own.iter().map(|a| format!("{}/{}", a.ip, a.prefix)).collect(),
        });
    }
    // IPv4 first: it is what people type.
    status.lan_addresses.sort_by_key(|ip| ip.parse::<IpAddr>().is_ok_and(|ip| ip.is_ipv6()));
    status
}

fn problem(scene: &Scene<'_>) -> Option<String> {
    if let Some(card) = &scene.missing_card {
        return Some(format!(
            "the card {card} named by the provisioning file is not in this board: name another one or \
             none, and flash the board again"
        ));
    }
    if scene.nics.is_empty() {
        return Some("no wired network card was found in this board".into());
    }
    if !scene.nics.iter().any(|nic| nic.carrier) {
        return Some("no cable is plugged in, or the other end of it is switched off".into());
    }
    if !scene.leases.is_empty() {
        return None;
    }
    let (interface, waited) = scene
        .waiting_s
        .iter()
        .filter(|(interface, waited)| {
            **waited >= DHCP_PATIENCE_S && scene.link != Some(**interface)
        })
        .max_by_key(|(_, waited)| **waited)?;
    let name = scene.nics.iter().find(|nic| nic.index == *interface).map_or("?", |nic| &nic.name);
    Some(format!(
        "no address for {waited} s on {name}: check that its cable leads to a router that gives out \
         addresses (DHCP)"
    ))
}

/// One sentence for the list of units.
pub(crate) fn sentence(status: &NetStatus, link_up_with: Option<&str>) -> String {
    let lan = match status.lan_addresses.first() {
        Some(address) => format!("reachable at {address}"),
        None => "no address on the LAN yet".to_owned(),
    };
    match link_up_with {
        Some(host) => format!("{lan}; linked with {host}"),
        None => lan,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nic(index: u32, carrier: bool) -> Nic {
        Nic {
            name: format!("eth{index}"),
            index,
            mac: "52:54:00:00:00:01".into(),
            mac_bytes: [0x52, 0x54, 0, 0, 0, 1],
            up: true,
            carrier,
        }
    }

    fn address(interface: u32, ip: &str, global: bool) -> Address {
        Address { interface, ip: ip.parse().unwrap(), prefix: 24, global }
    }

    fn lease() -> Lease {
        Lease {
            address: Ipv4Addr::new(10, 0, 2, 15),
            prefix: 24,
            routes: vec![],
            dns: vec![],
            ntp: vec![],
            domain: None,
            valid_s: 60,
        }
    }

    #[test]
    fn cards_get_their_purposes_and_clients_their_addresses() {
        let nics = [nic(2, true), nic(3, true), nic(4, false)];
        let addresses = [
            address(2, "fe80::1", false),
            address(2, "2001:db8::1", true),
            address(2, "10.0.2.15", true),
            address(3, "fe80::2", false),
        ];
        let leases = BTreeMap::from([(2, lease())]);
        let scene = Scene {
            nics: &nics,
            addresses: &addresses,
            leases: &leases,
            link: Some(3),
            dns: &[],
            waiting_s: &BTreeMap::new(),
            missing_card: None,
        };
        let status = net_status(&scene);
        let purposes: Vec<_> = status.interfaces.iter().map(|i| i.purpose.as_str()).collect();
        assert_eq!(purposes, ["lan", "link", "idle"]);
        assert_eq!(status.lan_addresses, ["10.0.2.15", "2001:db8::1"]);
        assert_eq!(status.problem, None);
        assert_eq!(sentence(&status, Some("disks")), "reachable at 10.0.2.15; linked with disks");
    }

    #[test]
    fn each_trouble_has_its_sentence() {
        let nics = [nic(2, true), nic(3, false)];
        let waiting = BTreeMap::from([(2, 25)]);
        let empty = BTreeMap::new();
        let base = |nics, waiting_s, link| Scene {
            nics,
            addresses: &[],
            leases: &empty,
            link,
            dns: &[],
            waiting_s,
            missing_card: None,
        };
        let none = BTreeMap::new();
        let text = |scene: Scene<'_>| net_status(&scene).problem;
        assert!(text(base(&[], &none, None)).unwrap().contains("no wired network card"));
        assert!(text(base(&nics[1..], &none, None)).unwrap().contains("no cable"));
        assert!(text(base(&nics, &waiting, None)).unwrap().contains("25 s on eth2"));
        assert_eq!(text(base(&nics, &waiting, Some(2))), None);
        let named = Scene { missing_card: Some("52:..".into()), ..base(&nics, &none, None) };
        assert!(text(named).unwrap().contains("named by the provisioning file"));
    }
}
