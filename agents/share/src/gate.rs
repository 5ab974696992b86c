//! Who comes in: the keys that are admitted, what each may do, the connections of each, and the codes that
//! admit new ones. One lock holds all of it, so that a key that is revoked has no moment to slip through.

use goblin_core_trust::door::{CODE_LIFE_MS, Door, Invitation, Try, WaitError};
use goblin_core_trust::{
    ACCESS_BYTES_MAX, Access, AccessError, ClientRecord, Code, Grant, PublicKey,
};
use goblin_core_types::{ClientStatus, May, ShareReply, ShareRight};
use goblin_sys::files;
use goblin_sys::socket::{Peer, Socket};
use rustix::rand::{GetRandomFlags, getrandom};
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Instant, SystemTime};

/// Tries to find a code whose slot is free; more than enough for the few that wait.
const SLOT_TRIES_MAX: usize = 64;
/// Numbers tried behind a name that another PC has.
const NAME_TRIES_MAX: u32 = 99;
/// Client and user that the other board is shown as.
const BOARD: &str = "compute-board";
/// Client and user that this board's own look at its shares is shown as.
const SELF: &str = "self-check";

/// Why rights cannot be read or kept, or a change is refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GateError {
    /// The file cannot be read or written.
    #[error("{}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the file system said.
        source: io::Error,
    },
    /// The rules say no.
    #[error(transparent)]
    Access(#[from] AccessError),
    /// No code can wait.
    #[error(transparent)]
    Wait(#[from] WaitError),
    /// The kernel gives no random numbers.
    #[error("no random numbers: {0}")]
    Random(io::Error),
    /// The provisioning file names no such share.
    #[error("there is no share `{share}`; see `goblin shares ls --board storage`")]
    NoShare {
        /// Its name.
        share: String,
    },
}

/// The keys of the two boards, which need no enrolment.
#[derive(Debug, Clone, Copy)]
pub struct BoardKeys {
    /// This board's, with which it looks at its own shares; reads only.
    pub own: PublicKey,
    /// The other board's; may do everything.
    pub peer: PublicKey,
}

struct Live {
    key: PublicKey,
    peer: Peer,
    socket: Arc<Socket>,
}

struct State {
    access: Access,
    door: Door,
    live: BTreeMap<u64, Live>,
    next_live: u64,
}

/// The gate of one file server.
pub struct Gate {
    path: PathBuf,
    boards: BoardKeys,
    shares: Vec<String>,
    started: Instant,
    state: Mutex<State>,
}

impl std::fmt::Debug for Gate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Gate").field("path", &self.path).finish_non_exhaustive()
    }
}

/// An admitted connection. While it lives, revoking its key cuts it.
#[derive(Debug)]
pub struct Entry {
    gate: Arc<Gate>,
    id: u64,
    /// What it may do.
    pub grant: Grant,
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.gate.lock().live.remove(&self.id);
    }
}

impl Gate {
    /// Reads the rights at `path`; a file that is not there admits only the boards.
    ///
    /// # Errors
    /// [`GateError::File`], [`GateError::Access`] for a damaged file: nobody is admitted by guess.
    pub fn open(path: &Path, boards: BoardKeys, shares: Vec<String>) -> Result<Self, GateError> {
        let access = match files::read_bounded(path, ACCESS_BYTES_MAX) {
            Ok(bytes) => Access::parse(&bytes)?,
            Err(err) if err.kind() == io::ErrorKind::NotFound => Access::default(),
            Err(source) => return Err(GateError::File { path: path.into(), source }),
        };
        let state = State { access, door: Door::default(), live: BTreeMap::new(), next_live: 0 };
        Ok(Self {
            path: path.into(),
            boards,
            shares,
            started: Instant::now(),
            state: Mutex::new(state),
        })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Whether a key may speak 9P at all; asked during the handshake.
    pub fn admits(&self, key: &PublicKey) -> bool {
        *key == self.boards.peer || *key == self.boards.own || self.lock().access.knows(key)
    }

    fn names(&self) -> impl Iterator<Item = &str> {
        self.shares.iter().map(String::as_str)
    }

    fn all(&self, name: &str, may: May) -> Grant {
        let right = |share: &str| ShareRight { name: share.into(), may };
        let shares = self.names().map(right).collect();
        Grant { client: name.into(), user: name.into(), shares }
    }

    /// Lets a connection in; `None` when its key was revoked since the handshake.
    pub fn enter(
        self: &Arc<Self>,
        key: PublicKey,
        peer: Peer,
        socket: &Arc<Socket>,
    ) -> Option<Entry> {
        let mut state = self.lock();
        let grant = if key == self.boards.peer {
            self.all(BOARD, May::Write)
        } else if key == self.boards.own {
            self.all(SELF, May::Read)
        } else {
            state.access.grant(&key, self.names())?
        };
        let id = state.next_live;
        state.next_live = id.wrapping_add(1);
        state.live.insert(id, Live { key, peer, socket: socket.clone() });
        drop(state);
        Some(Entry { gate: self.clone(), id, grant })
    }

    /// Makes a code.
    ///
    /// # Errors
    /// [`GateError`]; no code waits then.
    pub fn invite(&self, invitation: &Invitation) -> Result<(Code, u64), GateError> {
        let now_ms = self.now_ms();
        let mut state = self.lock();
        for name in [&invitation.name, &invitation.user].into_iter().flatten() {
            if !goblin_core_trust::is_name(name) {
                return Err(AccessError::Name { name: name.chars().take(63).collect() }.into());
            }
        }
        if let Some(name) = invitation.name.as_ref().filter(|n| state.access.client(n).is_some()) {
            return Err(AccessError::Exists { name: name.clone() }.into());
        }
        for _ in 0..SLOT_TRIES_MAX {
            let code = Code::from_random(random::<8>().map_err(GateError::Random)?);
            match state.door.wait(code.clone(), invitation.clone(), now_ms) {
                Ok(()) => return Ok((code, CODE_LIFE_MS)),
                Err(WaitError::SameSlot) => {}
                Err(err) => return Err(err.into()),
            }
        }
        Err(WaitError::Full.into())
    }

    /// A peer begins to enrol.
    pub fn knock(&self, slot: u16) -> Try {
        let now_ms = self.now_ms();
        self.lock().door.begin(slot, now_ms)
    }

    /// Enrols a key that proved the code. `None` when the code was used or expired meanwhile.
    ///
    /// # Errors
    /// [`GateError`] when it cannot be kept; the code is used up then.
    pub fn enrol(
        &self,
        slot: u16,
        secret: &[u8; 8],
        proposed: &str,
        key: PublicKey,
    ) -> Result<Option<Grant>, GateError> {
        let now_ms = self.now_ms();
        let mut state = self.lock();
        let Some(invitation) = state.door.passed(slot, secret, now_ms) else { return Ok(None) };
        let name = match invitation.name {
            Some(name) => name,
            None => free_name(&state.access, proposed, &key),
        };
        let user = invitation.user.unwrap_or_else(|| name.clone());
        let added_unix_s = SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .map_or(0, |since| since.as_secs());
        let mut access = state.access.clone();
        access.add(ClientRecord { name, key, user, added_unix_s })?;
        self.keep(&mut state, access)?;
        Ok(state.access.grant(&key, self.names()))
    }

    /// Forgets a client and cuts its connections.
    ///
    /// # Errors
    /// [`GateError`]; the client then keeps its rights.
    pub fn revoke(&self, name: &str) -> Result<usize, GateError> {
        let mut state = self.lock();
        let mut access = state.access.clone();
        let key = access.revoke(name)?;
        self.keep(&mut state, access)?;
        Ok(cut(&state, |live| live.key == key))
    }

    /// Sets a right, and cuts the connections it concerns, so that it holds at once.
    ///
    /// # Errors
    /// [`GateError`]; the right is then as it was.
    pub fn set(&self, user: &str, share: &str, may: May) -> Result<usize, GateError> {
        if !self.shares.iter().any(|known| known == share) {
            return Err(GateError::NoShare { share: share.chars().take(63).collect() });
        }
        let mut state = self.lock();
        let before = state.access.clone();
        let mut access = before.clone();
        access.set(user, share, may)?;
        self.keep(&mut state, access)?;
        let changed: Vec<PublicKey> = before
            .clients()
            .iter()
            .filter(|c| before.may(&c.user, share) != state.access.may(&c.user, share))
            .map(|c| c.key)
            .collect();
        Ok(cut(&state, |live| changed.contains(&live.key)))
    }

    /// Who is enrolled, and who is connected.
    pub fn list(&self) -> ShareReply {
        let now_ms = self.now_ms();
        let mut state = self.lock();
        let codes_waiting = u32::try_from(state.door.count(now_ms)).unwrap_or(u32::MAX);
        let status = |client: &ClientRecord| ClientStatus {
            name: client.name.clone(),
            user: client.user.clone(),
            key: client.key.to_string(),
            added_unix_s: client.added_unix_s,
            connected_from: state
                .live
                .values()
                .filter(|live| live.key == client.key)
                .map(|live| match live.peer {
                    Peer::Network(address) => address.to_string(),
                    Peer::Process { pid, .. } => format!("process {pid}"),
                })
                .collect(),
            shares: state.access.grant(&client.key, self.names()).map_or(Vec::new(), |g| g.shares),
        };
        let clients = state.access.clients().iter().map(status).collect();
        ShareReply::Clients { clients, codes_waiting }
    }

    /// The file first, the memory after: what holds must also hold after a power cut.
    fn keep(&self, state: &mut State, access: Access) -> Result<(), GateError> {
        let failed = |source| GateError::File { path: self.path.clone(), source };
        if let Some(parent) = self.path.parent() {
            std::fs::create_dir_all(parent).map_err(failed)?;
        }
        files::replace(&self.path, &access.to_bytes(), 0o600).map_err(failed)?;
        state.access = access;
        Ok(())
    }
}

/// Fresh random bytes of the kernel.
pub(crate) fn random<const N: usize>() -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    let got = getrandom(&mut bytes[..], GetRandomFlags::empty())?;
    if got == N { Ok(bytes) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
}

fn cut(state: &State, whose: impl Fn(&Live) -> bool) -> usize {
    let connections = state.live.values().filter(|live| whose(live));
    connections.map(|live| goblin_core_ninep::Stream::shutdown(&*live.socket)).count()
}

/// The proposed name, with a number behind it when another PC has it.
fn free_name(access: &Access, proposed: &str, key: &PublicKey) -> String {
    let free = |name: &String| access.client(name).is_none_or(|other| other.key == *key);
    let base: String = proposed.chars().take(58).collect();
    let numbered = (2..=NAME_TRIES_MAX).map(|n| format!("{base}-{n}"));
    std::iter::once(proposed.to_owned())
        .chain(numbered)
        .find(free)
        .unwrap_or_else(|| proposed.into())
}
