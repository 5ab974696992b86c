//! The agent's life: provisioning, pool, listener, status.

use crate::command;
use crate::enter::{Entrance, Introduction, Plain};
use crate::gate::{BoardKeys, CLIENTS_MAX, CONNECTIONS_OF_ONE_MAX, Gate, GateError};
use crate::runs::Runs;
use crate::shaking::SHAKING_MAX;
use crate::shelf::{Shelf, ShelfError};
use goblin_core_config::{Provision, ShareSection};
use goblin_core_ninep::Limits;
use goblin_core_trust::{KeyError, PublicKey, ShareSpec};
use goblin_core_types::{ConnectionStatus, PoolState, PoolStatus, ShareStatus, paths};
use goblin_sys::provision::LoadError;
use goblin_sys::socket::Listener;
use goblin_sys::terminate::Terminate;
use goblin_sys::{notify, provision, state};
use goblin_tls::{Identity, TlsError};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Resource, Rlimit};
use std::io;
use std::path::Path;
use std::sync::{Arc, mpsc};
use std::time::Duration;
use tracing::{info, warn};

/// Connections at one time: those admitted, those at the door, and those that are just being put out. The board that
/// is the other half of this one is never kept out by the number of clients.
const CONNECTIONS_MAX: usize = CLIENTS_MAX + 2 * CONNECTIONS_OF_ONE_MAX + 4 * SHAKING_MAX;
/// What one connection may have under way; threads and memory are the unit's (`rootfs/units/share.toml`). Beyond the
/// threads of the unit the connection's own thread does the work.
const LIMITS_OF_ONE: Limits =
    Limits { events_max: 8, disk_jobs_max: 4, disk_queue_bytes_max: 1 << 20, ..Limits::DEFAULT };
/// Descriptors at one time: fids, their parents and open files of all connections.
const DESCRIPTORS_MAX: u64 = 524_288;
/// Pause between two looks at the pool while it is not there.
const POOL_PAUSE: Duration = Duration::from_millis(250);
/// Pause between two publications of the counters.
const STATUS_PAUSE: Duration = Duration::from_secs(1);

const _: () = assert!(CONNECTIONS_MAX > 0 && DESCRIPTORS_MAX > 4096);

/// Why the agent ended.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ShareError {
    /// There is no provisioning to work with.
    #[error(transparent)]
    Provision(#[from] LoadError),
    /// Clients and rights cannot be read: nobody is admitted by guess.
    #[error(transparent)]
    Gate(#[from] GateError),
    /// This board's key cannot be used.
    #[error(transparent)]
    Key(#[from] TlsError),
    /// The other board's key in the provisioning file cannot be used.
    #[error("keys.peer_public of the provisioning file: {0}")]
    PeerKey(#[from] KeyError),
    /// A share's directory cannot be used.
    #[error(transparent)]
    Directory(#[from] ShelfError),
    /// The port cannot be listened on.
    #[error("TCP port {port} cannot be listened on: {source}")]
    Listen {
        /// The port.
        port: u16,
        /// What the kernel said.
        source: io::Error,
    },
    /// The listener broke.
    #[error("no more connections can be accepted: {0}")]
    Accept(io::Error),
    /// The request to stop cannot be waited for.
    #[error("the request to stop cannot be waited for: {0}")]
    Terminate(io::Error),
    /// The status could not be published.
    #[error("the shares' status cannot be published: {0}")]
    Publish(io::Error),
}

/// Serves the provisioned shares until it is asked to stop; then ends in order ([`end_in_order`]).
///
/// # Errors
/// [`ShareError`]; the supervisor starts the agent again.
pub fn run() -> Result<(), ShareError> {
    // Clients send the permission bits they want, their own umask applied.
    rustix::process::umask(rustix::fs::Mode::empty());
    raise_descriptor_limit();
    let terminate = Terminate::take_over().map_err(ShareError::Terminate)?;
    let provision = provision::load()?;
    let mut publisher = Publisher::default();
    let gate = open_gate(&provision)?;
    let for_commands = gate.clone();
    std::thread::Builder::new()
        .name("commands".into())
        .spawn(move || {
            let Err(err) = command::listen(Path::new(paths::SHARE_SOCKET), for_commands);
            warn!(%err, "clients cannot be added or revoked until the agent starts again");
        })
        .map_err(ShareError::Accept)?;
    // Ready means that the agent runs and its status is true; whether shares are served is the health
    // check's question, and a missing disk must not keep the board from starting.
    if !wait_for_pool(&gate, &mut publisher, &terminate)? {
        return Ok(());
    }
    let shelf = gate.serve_from(Path::new(paths::POOL_SHARES))?;
    let port = paths::PORT_SHARES;
    let listener =
        Listener::tcp(port, None).map_err(|source| ShareError::Listen { port, source })?;
    let runs = Runs::begin(Path::new(paths::SHARE_RUNS)).map_err(GateError::Random)?;
    let entrance = open_entrance(&provision, gate.clone(), &shelf, runs.clone())?;
    info!(port, shares = shelf.all().len(), "shares are served");
    publish_while_serving(listener, entrance, &shelf, &gate, (&mut publisher, &terminate))?;
    match end_in_order(&gate, &shelf, runs) {
        Ok(cut) => info!(connections = cut, "all that clients wrote is on the disks"),
        // Clients hear that they have to look; nothing else hangs on it.
        Err(err) => warn!(%err, "whether all that clients wrote is on the disks is not known"),
    }
    Ok(())
}

/// Ends a run: nobody comes in, nothing is answered any more, what was taken is put on the disks, and the run is written
/// down as one that ended in order. How many connections there were.
///
/// # Errors
/// A disk's, or the list's: the run then counts as cut off.
pub fn end_in_order(gate: &Gate, shelf: &Shelf, runs: Runs) -> io::Result<usize> {
    let cut = gate.close();
    shelf.sync()?;
    runs.end()?;
    Ok(cut)
}

fn open_gate(provision: &Provision) -> Result<Arc<Gate>, ShareError> {
    let boards = BoardKeys {
        own: PublicKey::of_seed(&provision.keys.board_private.0),
        peer: PublicKey::from_bytes(provision.keys.peer_public.0)?,
    };
    let spec =
        |share: &ShareSection| ShareSpec { name: share.name.clone(), read_only: share.read_only };
    let shares = provision.shares.iter().map(spec).collect();
    Ok(Arc::new(Gate::open(Path::new(paths::ACCESS), boards, shares)?))
}

fn open_entrance(
    provision: &Provision,
    gate: Arc<Gate>,
    shelf: &Shelf,
    runs: Runs,
) -> Result<Entrance, ShareError> {
    let me = Identity::from_seed(&provision.keys.board_private.0)?;
    let plain = if provision.network.allow_plain_9p { Plain::Allowed } else { Plain::Refused };
    if plain == Plain::Allowed {
        warn!(
            "shares are also served without keys: whoever reaches the port may change everything"
        );
    }
    let box_name = provision.the_box.name.clone();
    let about = Introduction { box_name, boot_id: boot_id(), runs: Some(runs) };
    Ok(Entrance::new(&me, gate, shelf.clone(), plain, LIMITS_OF_ONE, about)?)
}

/// This run of the kernel; a name of its own where the kernel does not say, so that no client takes two
/// runs for one.
fn boot_id() -> String {
    let path = Path::new("/proc/sys/kernel/random/boot_id");
    let bytes = goblin_sys::files::read_bounded(path, 64).unwrap_or_default();
    match String::from_utf8_lossy(&bytes).trim() {
        "" => crate::gate::random::<16>().map_or_else(|_| String::new(), hex_of),
        id => id.to_owned(),
    }
}

/// A name made of random bytes.
pub(crate) fn hex_of(bytes: [u8; 16]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn raise_descriptor_limit() {
    let most = Some(DESCRIPTORS_MAX);
    if rustix::process::setrlimit(Resource::Nofile, Rlimit { current: most, maximum: most }).is_ok()
    {
        return;
    }
    let hard = rustix::process::getrlimit(Resource::Nofile).maximum;
    let limit = Rlimit { current: hard, maximum: hard };
    if let Err(err) = rustix::process::setrlimit(Resource::Nofile, limit) {
        warn!(err = %err, "the descriptor limit stays as it is");
    }
}

fn not_served(shares: &[ShareSpec], problem: &str) -> Vec<ShareStatus> {
    let status = |share: &ShareSpec| ShareStatus {
        name: share.name.clone(),
        served: false,
        clients: 0,
        read_bytes: 0,
        written_bytes: 0,
        problem: Some(problem.to_owned()),
    };
    shares.iter().map(status).collect()
}

/// Publishes what is new.
#[derive(Default)]
struct Publisher {
    last: Option<Vec<ShareStatus>>,
    connections: Option<Vec<ConnectionStatus>>,
}

impl Publisher {
    fn publish(&mut self, status: Vec<ShareStatus>) -> Result<(), ShareError> {
        if self.last.as_ref() != Some(&status) {
            state::write("share", &status).map_err(ShareError::Publish)?;
            self.last = Some(status);
        }
        Ok(())
    }
}

impl Publisher {
    fn publish_connections(&mut self, now: Vec<ConnectionStatus>) -> Result<(), ShareError> {
        if self.connections.as_ref() != Some(&now) {
            state::write("connections", &now).map_err(ShareError::Publish)?;
            self.connections = Some(now);
        }
        Ok(())
    }
}

/// Why the pool cannot be served from yet; `None` when it can.
pub(crate) fn pool_problem(pool: Option<&PoolStatus>) -> Option<String> {
    let Some(pool) = pool else { return Some("waiting for the pool".into()) };
    let plain = match pool.state {
        PoolState::Mounted | PoolState::Degraded => return None,
        PoolState::None => "there is no pool: name its disks as disk.data in the provisioning file",
        PoolState::Searching => "waiting for the pool's disks",
        PoolState::Formatting => "the pool is being made",
        PoolState::Absent => "a disk of the pool is not there: connect it",
        PoolState::Foreign => "a disk of the pool holds something else; it was not touched",
        PoolState::Failed => "the pool cannot be used",
    };
    Some(pool.problem.clone().unwrap_or_else(|| plain.into()))
}

/// Waits until there is a pool; false when the agent is asked to stop before.
fn wait_for_pool(
    gate: &Gate,
    publisher: &mut Publisher,
    terminate: &Terminate,
) -> Result<bool, ShareError> {
    let mut told = false;
    let mut pulse = notify::Pulse::default();
    loop {
        let pool: Option<PoolStatus> = state::read("pool");
        let Some(problem) = pool_problem(pool.as_ref()) else { return Ok(true) };
        publisher.publish(not_served(&gate.served(), &problem))?;
        if !told {
            notify::ready();
            told = true;
            info!("waiting for the pool");
        }
        pulse.beat();
        if asked_to_stop(terminate, POOL_PAUSE) {
            return Ok(false);
        }
    }
}

/// Pauses, at most until the request to stop comes; true when it came.
fn asked_to_stop(terminate: &Terminate, pause: Duration) -> bool {
    let pause = Timespec::try_from(pause).unwrap_or_default();
    // A wait that fails is a short one.
    let _ = poll(&mut [PollFd::new(terminate, PollFlags::IN)], Some(&pause));
    terminate.came()
}

fn publish_while_serving(
    listener: Listener,
    entrance: Entrance,
    shelf: &Shelf,
    gate: &Gate,
    (publisher, terminate): (&mut Publisher, &Terminate),
) -> Result<(), ShareError> {
    let (ended, end) = mpsc::channel();
    let accept = move || {
        let result = listener.serve(
            CONNECTIONS_MAX,
            |peer| warn!(?peer, limit = CONNECTIONS_MAX, "connection refused: too many"),
            move |socket, peer| entrance.serve(socket, peer),
        );
        // The receiver only goes away with the process.
        let _ = ended.send(result);
    };
    std::thread::Builder::new().name("accept".into()).spawn(accept).map_err(ShareError::Accept)?;
    publisher.publish(shelf.all().iter().map(|share| share.status()).collect())?;
    notify::ready();
    let mut pulse = notify::Pulse::default();
    loop {
        pulse.beat();
        if asked_to_stop(terminate, STATUS_PAUSE) {
            return Ok(());
        }
        match end.try_recv() {
            Ok(Ok(never)) => match never {},
            Ok(Err(err)) => return Err(ShareError::Accept(err)),
            Err(mpsc::TryRecvError::Disconnected) => {
                return Err(ShareError::Accept(io::ErrorKind::BrokenPipe.into()));
            }
            Err(mpsc::TryRecvError::Empty) => {
                publisher.publish_connections(gate.connected())?;
                publisher.publish(shelf.all().iter().map(|share| share.status()).collect())?;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_mounted_pool_is_served() {
        assert!(pool_problem(None).is_some());
        for state in [PoolState::None, PoolState::Absent, PoolState::Foreign, PoolState::Failed] {
            let pool = PoolStatus { state, ..PoolStatus::default() };
            assert!(pool_problem(Some(&pool)).is_some());
        }
        let degraded = PoolStatus { state: PoolState::Degraded, ..PoolStatus::default() };
        assert_eq!(pool_problem(Some(&degraded)), None);
    }

    #[test]
    fn the_pools_own_words_are_shown() {
        let problem = Some("disk ABC has an ext4 file system".to_owned());
        let pool = PoolStatus { state: PoolState::Foreign, problem, ..PoolStatus::default() };
        assert_eq!(pool_problem(Some(&pool)).unwrap(), "disk ABC has an ext4 file system");
    }
}
