//! What the network service says of itself.

use super::Service;
use crate::lease::DNS_MAX;
use crate::link::Link;
use crate::view::{self, Scene};
use goblin_core_types::{LinkState, LinkStatus, NetStatus};
use goblin_sys::{notify, state};

/// The link's silence is published anew at this pace while nothing else changes.
const REFRESH_MS: u64 = 5_000;

impl Service {
    pub(super) fn publish(&mut self, now_ms: u64) {
        let link = self.link.as_ref().map(|link| {
            let name =
                |index| self.nics.iter().find(|nic| nic.index == index).map(|nic| nic.name.clone());
            link.status(now_ms, name)
        });
        let net = self.net_status(now_ms);
        let up_with = link
            .as_ref()
            .filter(|status| status.state == LinkState::Up)
            .and_then(|status| status.peer_host.clone());
        let sentence = view::sentence(&net, up_with.as_deref());
        if self.published_net.as_ref() != Some(&net) {
            match state::write("net", &net) {
                Ok(()) => self.published_net = Some(net),
                Err(err) => tracing::warn!(%err, "network status not published"),
            }
        }
        self.publish_link(link.unwrap_or_default(), now_ms);
        if sentence != self.sentence {
            notify::status(&sentence);
            self.sentence = sentence;
        }
    }

    fn net_status(&self, now_ms: u64) -> NetStatus {
        let leases = self.held.iter().map(|(index, held)| (*index, held.lease.clone())).collect();
        let waiting_s = self
            .clients
            .iter()
            .filter(|(index, _)| !self.held.contains_key(index))
            // Whole tens, so that the sentence does not change every second.
            .map(|(index, client)| {
                (*index, (now_ms.saturating_sub(client.since_ms) / 10_000).saturating_mul(10))
            })
            .collect();
        let network = self.provision.as_ref().map(|file| &file.network);
        let mut named =
            network.into_iter().flat_map(|network| [&network.link, &network.lan]).flatten();
        let missing_card = named.find(|mac| !self.nics.iter().any(|nic| nic.mac == **mac)).cloned();
        let dns: Vec<_> =
            self.held.values().flat_map(|held| held.lease.dns.clone()).take(DNS_MAX).collect();
        view::net_status(&Scene {
            nics: &self.nics,
            addresses: &self.addresses,
            leases: &leases,
            link: self.link.as_ref().and_then(Link::interface),
            dns: &dns,
            waiting_s: &waiting_s,
            missing_card,
        })
    }

    fn publish_link(&mut self, status: LinkStatus, now_ms: u64) {
        let same = self.published_link.as_ref().is_some_and(|(old, at_ms)| {
            let quiet = |status: &LinkStatus| LinkStatus { silent_ms: None, ..status.clone() };
            quiet(old) == quiet(&status) && now_ms.saturating_sub(*at_ms) < REFRESH_MS
        });
        if same {
            return;
        }
        let old_state = self.published_link.as_ref().map(|(old, _)| old.state);
        if old_state != Some(status.state) {
            tracing::info!(
                state = ?status.state,
                interface = status.interface.as_deref().unwrap_or(""),
                problem = status.problem.as_deref().unwrap_or(""),
                "link changed"
            );
        }
        match state::write("link", &status) {
            Ok(()) => self.published_link = Some((status, now_ms)),
            Err(err) => tracing::warn!(%err, "link status not published"),
        }
    }
}
