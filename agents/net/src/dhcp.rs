//! One DHCPv4 client for each card: a task that hands leases to the network service.

use crate::lease::{self, Lease};
use goblin_sys::netdev::Nic;
use mozim::{DhcpV4Client, DhcpV4Config, DhcpV4State};
use std::time::Duration;
use tokio::sync::mpsc::Sender;
use tokio::task::JoinHandle;

/// Pause after the client gave up, doubled up to [`PAUSE_MAX`].
const PAUSE_MIN: Duration = Duration::from_secs(2);
const PAUSE_MAX: Duration = Duration::from_secs(8);
/// One try to get or refresh a lease. The client waits longer and longer between its packets; starting
/// over keeps a board that was switched on before its router from waiting a minute for nothing.
const TRY_S: u32 = 30;

/// A lease was granted or refreshed. Nothing is said when one ends: the service counts its seconds.
#[derive(Debug)]
pub(crate) struct DhcpEvent {
    /// Interface index.
    pub(crate) interface: u32,
    /// The lease now held.
    pub(crate) lease: Lease,
}

/// Starts a client. It runs until the handle is aborted.
pub(crate) fn start(nic: &Nic, host: &str, events: Sender<DhcpEvent>) -> JoinHandle<()> {
    let (nic, host) = (nic.clone(), host.to_owned());
    tokio::spawn(async move {
        let mut pause = PAUSE_MIN;
        loop {
            match acquire(&nic, &host, &events, &mut pause).await {
                Ok(()) => return,
                Err(err) => {
                    tracing::debug!(interface = nic.name, %err, "dhcp client starts over");
                }
            }
            tokio::time::sleep(pause).await;
            pause = pause.saturating_mul(2).min(PAUSE_MAX);
        }
    })
}

/// Runs one client until it fails, or until nobody listens any more.
async fn acquire(
    nic: &Nic,
    host: &str,
    events: &Sender<DhcpEvent>,
    pause: &mut Duration,
) -> Result<(), mozim::DhcpError> {
    let mut config = DhcpV4Config::new(&nic.name);
    config.set_iface_index(nic.index);
    config.set_iface_mac_raw(&nic.mac_bytes)?;
    config.set_host_name(host);
    config.use_mac_as_client_id();
    config.set_timeout_sec(TRY_S);
    let mut client = DhcpV4Client::init(config, None).await?;
    loop {
        let DhcpV4State::Done(granted) = client.run().await? else { continue };
        *pause = PAUSE_MIN;
        match lease::check(&granted) {
            Some(lease) => {
                let event = DhcpEvent { interface: nic.index, lease };
                if events.send(event).await.is_err() {
                    return Ok(());
                }
            }
            None => {
                tracing::warn!(interface = nic.name, address = %granted.yiaddr, "lease not usable");
            }
        }
    }
}
