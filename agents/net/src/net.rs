//! The network service: cards up, leases applied, hello sent and heard. Thin: what it decides is in
//! `link`, `lease` and `view`.

mod publish;

use crate::NetError;
use crate::dhcp::{self, DhcpEvent};
use crate::hello::{self, HELLO_BYTES_MAX, HELLO_SCHEMA, Hello};
use crate::hello_socket::HelloSocket;
use crate::kernel::{Address, Kernel};
use crate::lease::{self, DNS_MAX, Lease};
use crate::link::{From, Heard, Identity, Link};
use ed25519_dalek::SigningKey;
use goblin_core_config::Provision;
use goblin_core_types::{Digest, LinkState, LinkStatus, NetStatus, Version, paths};
use goblin_sys::netdev::{self, Nic};
use goblin_sys::{board, files, notify, provision, state};
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::MissedTickBehavior;

/// Pace of the hello and of looking at the cards.
const TICK: Duration = Duration::from_secs(1);
/// Leases waiting to be applied.
const EVENTS_MAX: usize = 32;
/// A card on which the other board was heard for this long and no DHCP server answered is the cable
/// between the boards: asking on is useless there.
const CABLE_SURE_MS: u64 = 20_000;
/// Host name told to DHCP servers before there is a provisioned one.
const HOST_UNPROVISIONED: &str = "goblin";
/// Name under which the time service finds what DHCP said; a `Vec<String>` of addresses.
pub(crate) const NTP_PART: &str = "ntp";

/// Runs the network service: brings wired cards up, gets addresses by DHCP, finds the other board.
///
/// # Errors
/// Only when the kernel's routing socket cannot be opened; cards, cables and servers may come and go.
pub fn run_net() -> Result<(), NetError> {
    if let Err(err) = crate::discovery::start() {
        tracing::warn!(%err, "this board is not announced");
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(NetError::Start)?;
    runtime.block_on(serve())
}

async fn serve() -> Result<(), NetError> {
    let (events, mut granted) = mpsc::channel(EVENTS_MAX);
    let mut service = Service::new(Kernel::open().map_err(NetError::Start)?, events);
    let mut tick = tokio::time::interval(TICK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut socket: Option<HelloSocket> = None;
    let mut ready = false;
    let mut pulse = notify::Pulse::default();
    let mut buffer = [0u8; HELLO_BYTES_MAX + 1];
    loop {
        tokio::select! {
            _ = tick.tick() => {
                if service.link.is_some() && socket.is_none() {
                    socket = HelloSocket::open()
                        .inspect_err(|err| tracing::warn!(%err, "hello socket not open"))
                        .ok();
                }
                service.tick(socket.as_ref()).await;
                if !ready {
                    ready = true;
                    notify::ready();
                }
                pulse.beat();
            }
            Some(event) = granted.recv() => service.apply(event).await,
            heard = receive(socket.as_ref(), &mut buffer) => match heard {
                Ok((from, length)) => service.heard(from, buffer.get(..length).unwrap_or_default()),
                Err(err) => {
                    // Opened again at the next tick.
                    tracing::warn!(%err, "hello socket failed");
                    socket = None;
                }
            },
        }
    }
}

/// Waits for ever without a socket.
async fn receive(
    socket: Option<&HelloSocket>,
    buffer: &mut [u8; HELLO_BYTES_MAX + 1],
) -> std::io::Result<(From, usize)> {
    match socket {
        Some(socket) => socket.receive(buffer).await,
        None => std::future::pending().await,
    }
}

/// A running DHCP client.
#[derive(Debug)]
struct Client {
    task: JoinHandle<()>,
    since_ms: u64,
}

/// A lease that was applied.
#[derive(Debug)]
struct Held {
    lease: Lease,
    until_ms: u64,
}

struct Service {
    kernel: Kernel,
    events: mpsc::Sender<DhcpEvent>,
    provision: Option<Provision>,
    key: Option<SigningKey>,
    boot_id: String,
    version: Option<Version>,
    nics: Vec<Nic>,
    addresses: Vec<Address>,
    clients: BTreeMap<u32, Client>,
    held: BTreeMap<u32, Held>,
    link: Option<Link>,
    link_since: Option<(u32, u64)>,
    resolv: String,
    published_net: Option<NetStatus>,
    published_link: Option<(LinkStatus, u64)>,
    sentence: String,
}

impl Service {
    fn new(kernel: Kernel, events: mpsc::Sender<DhcpEvent>) -> Self {
        let provision = match provision::load() {
            Ok(provision) => Some(provision),
            Err(provision::LoadError::NotProvisioned) => None,
            Err(err) => {
                tracing::error!(%err, "cards get addresses, but the other board is not looked for");
                None
            }
        };
        let boot_id = board::boot_id();
        let key = provision.as_ref().map(|file| SigningKey::from_bytes(&file.keys.board_private.0));
        let link = provision.as_ref().zip(key.as_ref()).map(|(file, key)| {
            Link::new(Identity {
                box_id: file.the_box.id,
                role: file.role,
                own_key: Digest(key.verifying_key().to_bytes()),
                peer_key: Digest(file.keys.peer_public.0),
                boot_id: boot_id.clone(),
            })
        });
        Self {
            kernel,
            events,
            provision,
            key,
            boot_id,
            version: board::release().version,
            nics: Vec::new(),
            addresses: Vec::new(),
            clients: BTreeMap::new(),
            held: BTreeMap::new(),
            link,
            link_since: None,
            resolv: String::new(),
            published_net: None,
            published_link: None,
            sentence: String::new(),
        }
    }

    async fn tick(&mut self, socket: Option<&HelloSocket>) {
        let now_ms = now_ms();
        self.look_at_cards().await;
        self.expire(now_ms).await;
        self.choose_clients(now_ms);
        if let Some(socket) = socket {
            self.send_hello(socket, now_ms).await;
        }
        let leases: Vec<u32> = self.held.keys().copied().collect();
        if let Some(link) = &mut self.link {
            link.tick(now_ms, |index| u32::from(leases.contains(&index)));
            let chosen = link.interface();
            if self.link_since.map(|(index, _)| index) != chosen {
                self.link_since = chosen.map(|index| (index, now_ms));
            }
        }
        self.write_resolver();
        self.publish(now_ms);
    }

    async fn look_at_cards(&mut self) {
        match netdev::wired() {
            Ok(nics) => self.nics = nics,
            Err(err) => tracing::warn!(%err, "network cards cannot be listed"),
        }
        for nic in self.nics.iter().filter(|nic| !nic.up) {
            match self.kernel.bring_up(nic.index).await {
                Ok(()) => tracing::info!(interface = nic.name, mac = nic.mac, "card brought up"),
                Err(err) => tracing::warn!(interface = nic.name, %err, "card not brought up"),
            }
        }
        match self.kernel.addresses().await {
            Ok(addresses) => self.addresses = addresses,
            Err(err) => tracing::warn!(%err, "addresses cannot be listed"),
        }
    }

    /// Takes back what the servers no longer grant.
    async fn expire(&mut self, now_ms: u64) {
        let ended: Vec<u32> = self
            .held
            .iter()
            .filter(|(_, held)| held.until_ms < now_ms)
            .map(|(index, _)| *index)
            .collect();
        for index in ended {
            if let Some(held) = self.held.remove(&index) {
                tracing::warn!(interface = index, address = %held.lease.address, "lease ended");
                self.forget_address(index, &held.lease).await;
            }
        }
    }

    async fn forget_address(&self, index: u32, lease: &Lease) {
        if let Err(err) = self.kernel.remove_address(index, lease.address).await {
            tracing::debug!(interface = index, %err, "old address not removed");
        }
    }

    /// Starts a client on each card with a cable, stops it where the cable is out: a new cable may lead
    /// elsewhere.
    fn choose_clients(&mut self, now_ms: u64) {
        let wanted: Vec<Nic> =
            self.nics.iter().filter(|nic| self.wants_dhcp(nic, now_ms)).cloned().collect();
        self.clients.retain(|index, client| {
            let keep = wanted.iter().any(|nic| nic.index == *index) && !client.task.is_finished();
            if !keep {
                client.task.abort();
            }
            keep
        });
        let host = self.provision.as_ref().map_or(HOST_UNPROVISIONED, |file| file.host.as_str());
        for nic in &wanted {
            self.clients.entry(nic.index).or_insert_with(|| Client {
                task: dhcp::start(nic, host, self.events.clone()),
                since_ms: now_ms,
            });
        }
    }

    fn wants_dhcp(&self, nic: &Nic, now_ms: u64) -> bool {
        let network = self.provision.as_ref().map(|file| &file.network);
        let named_link = network.and_then(|network| network.link.as_deref());
        let named_lan = network.and_then(|network| network.lan.as_deref());
        let is_cable = self.link_since.is_some_and(|(index, since_ms)| {
            index == nic.index
                && !self.held.contains_key(&index)
                && now_ms.saturating_sub(since_ms) > CABLE_SURE_MS
        });
        nic.carrier
            && named_link != Some(nic.mac.as_str())
            && named_lan.is_none_or(|mac| mac == nic.mac)
            && (named_lan.is_some() || !is_cable)
    }

    async fn apply(&mut self, event: DhcpEvent) {
        let DhcpEvent { interface, lease } = event;
        let old = self.held.remove(&interface).map(|held| held.lease);
        if let Some(old) = &old
            && (old.address, old.prefix) != (lease.address, lease.prefix)
        {
            self.forget_address(interface, old).await;
        }
        if let Err(err) = self.kernel.add_address(interface, lease.address, lease.prefix).await {
            tracing::error!(interface, address = %lease.address, %err, "address not set");
            return;
        }
        for (destination, gateway) in &lease.routes {
            if let Err(err) = self.kernel.add_route(interface, *destination, *gateway).await {
                tracing::warn!(interface, %gateway, %err, "route not set");
            }
        }
        if old.as_ref() != Some(&lease) {
            tracing::info!(interface, address = %lease.address, prefix = lease.prefix, "address granted");
        }
        let until_ms = now_ms().saturating_add(u64::from(lease.valid_s).saturating_mul(1_000));
        self.held.insert(interface, Held { lease, until_ms });
        self.write_resolver();
    }

    fn write_resolver(&mut self) {
        let leases = || self.held.values().map(|held| &held.lease);
        let mut dns: Vec<_> = leases().flat_map(|lease| lease.dns.iter().copied()).collect();
        dns.truncate(DNS_MAX);
        let domain = leases().find_map(|lease| lease.domain.clone());
        let text = lease::resolv_conf(&dns, domain.as_deref());
        if text == self.resolv {
            return;
        }
        let ntp: Vec<String> =
            leases().flat_map(|lease| lease.ntp.iter().map(ToString::to_string)).collect();
        let written = std::fs::create_dir_all(paths::RUN)
            .and_then(|()| {
                files::replace_volatile(Path::new(paths::RESOLV_CONF), text.as_bytes(), 0o644)
            })
            .and_then(|()| state::write(NTP_PART, &ntp));
        match written {
            Ok(()) => self.resolv = text,
            Err(err) => tracing::warn!(%err, "resolver configuration not written"),
        }
    }

    async fn send_hello(&self, socket: &HelloSocket, now_ms: u64) {
        let (Some(file), Some(key)) = (&self.provision, &self.key) else { return };
        let hello = Hello {
            schema: HELLO_SCHEMA,
            box_id: file.the_box.id,
            role: file.role,
            host: file.host.clone(),
            version: self.version,
            boot_id: self.boot_id.clone(),
            seq: now_ms,
            key: Digest(key.verifying_key().to_bytes()),
        };
        let datagram = hello::encode(&hello, key);
        for nic in self.nics.iter().filter(|nic| nic.carrier && self.may_be_link(nic)) {
            // Until the card's link-local address has settled, for a second, there is none to send from.
            if let Err(err) = socket.send(nic.index, &datagram).await {
                tracing::debug!(interface = nic.name, %err, "hello not sent");
            }
        }
    }

    fn may_be_link(&self, nic: &Nic) -> bool {
        let network = self.provision.as_ref().map(|file| &file.network);
        network.and_then(|network| network.link.as_deref()).is_none_or(|mac| mac == nic.mac)
    }

    fn heard(&mut self, from: From, datagram: &[u8]) {
        let named =
            self.nics.iter().any(|nic| nic.index == from.interface && self.may_be_link(nic));
        let Some(link) = self.link.as_mut().filter(|_| named) else { return };
        let now_ms = now_ms();
        let heard = link.heard(from, hello::decode(datagram), now_ms);
        if heard == Heard::Trouble {
            tracing::debug!(interface = from.interface, peer = %from.address, "strange hello");
        }
        // A board that comes back shall be seen at once, not at the next tick; strangers can wait.
        let up = self.published_link.as_ref().is_some_and(|(old, _)| old.state == LinkState::Up);
        if heard == Heard::Peer && !up {
            let leases: Vec<u32> = self.held.keys().copied().collect();
            link.tick(now_ms, |index| u32::from(leases.contains(&index)));
            self.publish(now_ms);
        }
    }
}

/// Milliseconds since the kernel started; goes on while the board sleeps, and never back.
fn now_ms() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    let millis = u64::try_from(time.tv_nsec / 1_000_000).unwrap_or(0);
    seconds.saturating_mul(1_000).saturating_add(millis)
}
