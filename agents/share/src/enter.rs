//! One connection from its first byte to its end: handshake, then 9P or enrolment.

use crate::gate::{CLIENTS_MAX, Gate, ROOMY_MAX, Room, SELF, random};
use crate::runs::Runs;
use crate::shaking::{AtDoor, Shaking};
use crate::shelf::Shelf;
use crate::usage::Usage;
use crate::{Caller, HostTree, Share};
use goblin_core_ninep::{Limits, MSIZE_MAX, Stream, serve};
use goblin_core_trust::door::Try;
use goblin_core_trust::pairing::{HELLO_BYTES, Hello, Verdict};
use goblin_core_trust::{Exchange, Grant, PublicKey, Side};
use goblin_core_types::{Greeting, May};
use goblin_sys::socket::{Peer, Socket};
use goblin_sys::splice::{PIPE_BYTES, PIPES_MAX};
use goblin_tls::{Accepted, Acceptor, Identity, Service, TlsError, TlsStream, greeting};
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tracing::{info, warn};

/// Longest time from the first byte to the end of the handshake.
const SHAKE_LIMIT: Duration = Duration::from_secs(10);
/// Longest wait for each of enrolment's two messages.
const ENROL_LIMIT: Duration = Duration::from_secs(10);

/// Longest message of a connection in a crowd: 24 bytes of header and 16 pages.
const CROWDED_MSIZE: u32 = 24 + 16 * 4096;
/// What its requests may hold while they wait for a disk, and what its fids may hold of attribute values, in bytes.
const CROWDED_QUEUE_BYTES: usize = 128 << 10;
const CROWDED_XATTR_BYTES: usize = 128 << 10;
/// What one connection holds at most, in bytes: frames that came, a reply that is read into, replies that are gathered,
/// what TLS holds on both sides, and what waits.
const fn held_at_most(msize: usize, queue: usize, xattr: usize) -> usize {
    msize * 2 + (64 << 10) + (96 << 10) + queue + xattr
}

const _: () = assert!(
    ROOMY_MAX * held_at_most(MSIZE_MAX as usize, 1 << 20, 1 << 20)
        + (CLIENTS_MAX - ROOMY_MAX)
            * held_at_most(CROWDED_MSIZE as usize, CROWDED_QUEUE_BYTES, CROWDED_XATTR_BYTES)
        + PIPES_MAX * PIPE_BYTES
        < 960 << 20
);

/// The limits of one connection in a crowd.
fn crowded(limits: Limits) -> Limits {
    Limits {
        msize_max: limits.msize_max.min(CROWDED_MSIZE),
        disk_queue_bytes_max: limits.disk_queue_bytes_max.min(CROWDED_QUEUE_BYTES),
        xattr_bytes_max: limits.xattr_bytes_max.min(CROWDED_XATTR_BYTES),
        ..limits
    }
}

/// Whether connections without TLS are served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Plain {
    /// `network.allow_plain_9p`: whoever reaches the port may do everything.
    Allowed,
    /// The rule.
    Refused,
}

/// What every client is told of the server.
#[derive(Debug, Clone, Default)]
pub struct Introduction {
    /// Name of the box, for people.
    pub box_name: String,
    /// This run of the kernel.
    pub boot_id: String,
    /// This run of the agent, and those that ended in order; absent where nobody keeps a list.
    pub runs: Option<Runs>,
}

/// Serves connections of one listener.
#[derive(Debug)]
pub struct Entrance {
    acceptor: Acceptor,
    gate: Arc<Gate>,
    shelf: Shelf,
    plain: Plain,
    limits: Limits,
    about: Introduction,
    shaking: Shaking,
}

impl Entrance {
    /// For the shares of a box.
    ///
    /// # Errors
    /// [`TlsError::OwnKey`].
    pub fn new(
        me: &Identity,
        gate: Arc<Gate>,
        shelf: impl Into<Shelf>,
        plain: Plain,
        limits: Limits,
        about: Introduction,
    ) -> Result<Self, TlsError> {
        let for_files = gate.clone();
        let services: Vec<(Service, goblin_tls::Admit)> = vec![
            (Service::Files, Arc::new(move |key: &PublicKey| for_files.admits(key))),
            // Any key: it is what is to be enrolled.
            (Service::Enrol, Arc::new(|_: &PublicKey| true)),
        ];
        let acceptor = Acceptor::new(me, services)?;
        let shelf = shelf.into();
        Ok(Self { acceptor, gate, shelf, plain, limits, about, shaking: Shaking::default() })
    }

    /// Serves a connection until it ends.
    pub fn serve(&self, socket: Arc<Socket>, peer: Peer) {
        let at_door = self.shaking.begin(&socket);
        if self.plain == Plain::Allowed {
            let mut first = [0; 2];
            let seen = socket
                .set_limits(Some(SHAKE_LIMIT), Some(SHAKE_LIMIT))
                .and_then(|()| socket.peek(&mut first));
            match seen {
                Ok(2) if !goblin_tls::looks_like_tls(&first) => {
                    drop(at_door);
                    return self.serve_plain(socket, peer);
                }
                Ok(2) => {}
                _ => return,
            }
        }
        match self.acceptor.accept(&socket, SHAKE_LIMIT) {
            Ok(Accepted { stream, key, service: Service::Enrol }) => {
                if let Err(err) = self.enrol(&stream, key) {
                    warn!(?peer, %err, "enrolment ended early");
                }
            }
            Ok(Accepted { stream, key, .. }) => self.serve_files(stream, key, peer, at_door),
            Err(err) => info!(?peer, %err, "connection refused"),
        }
    }

    fn serve_plain(&self, socket: Arc<Socket>, peer: Peer) {
        info!(?peer, "client connected without keys");
        if socket.set_limits(None, Some(Duration::from_secs(120))).is_err() {
            return;
        }
        let end = serve(socket, Arc::new(HostTree::new(self.shelf.all())), self.limits);
        info!(?peer, %end, "client left");
    }

    fn serve_files(&self, stream: TlsStream, key: PublicKey, peer: Peer, at_door: AtDoor<'_>) {
        let entry = match self.gate.enter(key, peer, stream.socket()) {
            Ok(entry) => entry,
            Err(err) => {
                warn!(?peer, %err, "client refused");
                return;
            }
        };
        drop(at_door);
        let (client, user) = (&entry.grant.client, &entry.grant.user);
        // This board looks every few seconds, and nobody wants to read that.
        let is_self = client.as_str() == SELF;
        if !is_self {
            info!(?peer, client, user, "client connected");
        }
        if let Err(err) = greeting::send(&stream, &self.greeting(&entry.grant)) {
            info!(?peer, client, %err, "client left before it was greeted");
            return;
        }
        let caller = Caller {
            ledger: entry.ledger.clone(),
            usage: entry.usage.clone(),
            arrives: Some(entry.arrival()),
        };
        let tree = HostTree::with(self.seen_by(&entry.grant, &entry.usage), caller);
        let limits = match entry.room {
            Room::Roomy => self.limits,
            Room::Crowded => crowded(self.limits),
        };
        let end = serve(Arc::new(stream), Arc::new(tree), limits);
        if !is_self {
            info!(?peer, client, %end, "client left");
        }
    }

    fn greeting(&self, grant: &Grant) -> Greeting {
        let runs = self.about.runs.as_ref();
        Greeting {
            box_name: self.about.box_name.clone(),
            boot_id: self.about.boot_id.clone(),
            run: runs.map_or_else(String::new, |runs| runs.own().to_owned()),
            ended: runs.map_or_else(Vec::new, |runs| runs.ended().to_vec()),
            client: grant.client.clone(),
            user: grant.user.clone(),
            shares: grant.shares.clone(),
        }
    }

    /// The shares a grant lets one see, as it lets one see them.
    fn seen_by(&self, grant: &Grant, usage: &Arc<Usage>) -> Arc<[Arc<Share>]> {
        let view = |share: &Arc<Share>| match grant.may(share.name()) {
            May::Nothing => None,
            May::Read => Some(Arc::new(share.view(true, usage))),
            May::Write => Some(Arc::new(share.view(false, usage))),
        };
        self.shelf.all().iter().filter_map(view).collect()
    }

    /// The box's side of enrolment (`goblin_core_trust::pairing`). Every try runs to its end with a secret
    /// of its own, so that a peer cannot tell a wrong code from none.
    fn enrol(&self, stream: &TlsStream, key: PublicKey) -> io::Result<()> {
        let invalid = |err: &dyn std::fmt::Display| {
            io::Error::new(io::ErrorKind::InvalidData, err.to_string())
        };
        stream.set_read_timeout(Some(ENROL_LIMIT))?;
        let mut hello = [0; HELLO_BYTES];
        greeting::read_exact(stream, &mut hello)?;
        let hello = Hello::decode(&hello).map_err(|err| invalid(&err))?;
        let found = self.gate.knock(hello.slot);
        let secret = match found {
            Try::Code { secret } => secret,
            Try::Nothing | Try::Busy => random()?,
        };
        let binding = stream.binding().map_err(|err| invalid(&err))?;
        let exchange = Exchange::new(Side::Responder, &secret, &binding, &random()?);
        Stream::write_all(stream, &exchange.share())?;
        let own = self.acceptor.public();
        let confirmation = exchange
            .finish(&hello.share, own.as_bytes(), key.as_bytes())
            .map_err(|err| invalid(&err))?;
        let mut proof = [0; 32];
        greeting::read_exact(stream, &mut proof)?;
        let mut welcome = None;
        let verdict = match found {
            Try::Busy => Verdict::Busy,
            Try::Code { .. } if confirmation.is_right(&proof) => {
                match self.gate.enrol(hello.slot, &secret, &hello.name, key) {
                    Ok(Some(grant)) => {
                        info!(client = grant.client, user = grant.user, "client enrolled");
                        welcome = Some(grant);
                        Verdict::Welcome(confirmation.own)
                    }
                    Ok(None) => Verdict::Wrong,
                    Err(err) => {
                        warn!(%err, "a client with the right code cannot be enrolled");
                        Verdict::CannotKeep
                    }
                }
            }
            Try::Code { .. } | Try::Nothing => {
                warn!("a wrong code was tried");
                Verdict::Wrong
            }
        };
        Stream::write_all(stream, &verdict.encode())?;
        if let Some(grant) = welcome {
            greeting::send(stream, &self.greeting(&grant))?;
        }
        // The peer closes first: its answer must not be lost in a reset.
        let _ = stream.read(&mut [0; 1]);
        Ok(())
    }
}
