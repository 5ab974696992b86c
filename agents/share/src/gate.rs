//! Who comes in: the keys that are admitted, what each may do, the connections of each, and the codes that
//! admit new ones. One lock holds all of it, so that a key that is revoked has no moment to slip through.

use crate::history::History;
use crate::host::Arrives;
use crate::shelf::{Shelf, ShelfError};
use crate::usage::Usage;
use goblin_core_ninep::Ledger;
use goblin_core_trust::door::{CODE_LIFE_MS, Door, Invitation, Try, WaitError};
use goblin_core_trust::{
    ACCESS_BYTES_MAX, Access, AccessError, ClientRecord, Code, Grant, PublicKey, ShareSpec,
    mount_name,
};
use goblin_core_types::{
    AccessChange, ClientStatus, ConnectionStatus, May, PastChange, ShareReply, ShareRight,
    ShareRights,
};
use goblin_sys::files;
use goblin_sys::socket::{Peer, Socket};
use rustix::rand::{GetRandomFlags, getrandom};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

/// Tries to find a code whose slot is free; more than enough for the few that wait.
const SLOT_TRIES_MAX: usize = 64;
/// Numbers tried behind a name that another PC has.
const NAME_TRIES_MAX: u32 = 99;
/// Connections that enrolled clients may have together.
pub const CLIENTS_MAX: usize = 1000;
/// Of which so many get all the room that one connection may have; those that come later get less.
pub const ROOMY_MAX: usize = 128;
/// Connections that one key may have; the boards' keys are not counted with the others.
pub const CONNECTIONS_OF_ONE_MAX: usize = 32;
/// Longest wait for the connection that a mount had before.
pub const TAKE_OVER_LIMIT: Duration = Duration::from_secs(5);
/// File of the changes of late, beside the rights.
const HISTORY: &str = "access-history.json";
/// Client and user that the other board is shown as.
const BOARD: &str = "compute-board";
/// Client and user that this board's own look at its shares is shown as.
pub(crate) const SELF: &str = "self-check";

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
    /// The folder of a share cannot be used.
    #[error(transparent)]
    Shelf(#[from] ShelfError),
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
    client: String,
    user: String,
    since_unix_s: u64,
    usage: Arc<Usage>,
    room: Room,
    /// Which mount of the client it is, when it says so.
    mount: Option<Vec<u8>>,
}

struct State {
    access: Access,
    /// By `access` and the provisioning file.
    served: Vec<ShareSpec>,
    /// Where they are, once there is a pool.
    shelf: Option<Shelf>,
    history: History,
    door: Door,
    live: BTreeMap<u64, Live>,
    next_live: u64,
    /// The agent ends: nobody comes in any more.
    closed: bool,
    /// For each key that is, or was, connected: no more than there are keys.
    ledgers: BTreeMap<PublicKey, Arc<Ledger>>,
}

/// The gate of one file server.
pub struct Gate {
    path: PathBuf,
    boards: BoardKeys,
    provisioned: Vec<ShareSpec>,
    started: Instant,
    state: Mutex<State>,
    /// Rung when a connection has left.
    left: Condvar,
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
    /// What it uses.
    pub usage: Arc<Usage>,
    /// Changes of this client that are done once.
    pub ledger: Arc<Ledger>,
    /// How much room it gets.
    pub room: Room,
}

/// How much memory one connection may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Room {
    /// What a busy client wants.
    Roomy,
    /// What is left for each of a crowd.
    Crowded,
}

impl Entry {
    /// What to call when the connection attaches, with its user name: a mount that comes again takes its place from
    /// the connection it had before, which may not have noticed yet that it is dead and still hold its locks. Waits
    /// until that one has ended, its writes included, or [`TAKE_OVER_LIMIT`] has passed.
    pub fn arrival(&self) -> Arrives {
        let (gate, id) = (self.gate.clone(), self.id);
        Box::new(move |uname| {
            if let Some(mount) = mount_name(uname) {
                gate.take_over(id, mount);
            }
        })
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.gate.lock().live.remove(&self.id);
        self.gate.left.notify_all();
    }
}

impl Gate {
    /// Reads the rights at `path`; a file that is not there admits only the boards. `provisioned` are the shares of
    /// the provisioning file.
    ///
    /// # Errors
    /// [`GateError::File`], [`GateError::Access`] for a damaged file: nobody is admitted by guess.
    pub fn open(
        path: &Path,
        boards: BoardKeys,
        provisioned: Vec<ShareSpec>,
    ) -> Result<Self, GateError> {
        let access = match files::read_bounded(path, ACCESS_BYTES_MAX) {
            Ok(bytes) => Access::parse(&bytes)?,
            Err(err) if err.kind() == io::ErrorKind::NotFound => Access::default(),
            Err(source) => return Err(GateError::File { path: path.into(), source }),
        };
        let state = State {
            served: access.served(&provisioned),
            access,
            shelf: None,
            history: History::open(&path.with_file_name(HISTORY)),
            door: Door::default(),
            live: BTreeMap::new(),
            next_live: 0,
            closed: false,
            ledgers: BTreeMap::new(),
        };
        Ok(Self {
            path: path.into(),
            boards,
            provisioned,
            started: Instant::now(),
            state: Mutex::new(state),
            left: Condvar::new(),
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

    /// The shares that are served now.
    pub fn served(&self) -> Vec<ShareSpec> {
        self.lock().served.clone()
    }

    /// Has the shares served from there, now and after each change.
    ///
    /// # Errors
    /// [`ShelfError`].
    pub fn serve_from(&self, parent: &Path) -> Result<Shelf, ShelfError> {
        let mut state = self.lock();
        let shelf = Shelf::open(parent, &state.served)?;
        state.shelf = Some(shelf.clone());
        Ok(shelf)
    }

    /// What a key may do by these rights.
    fn grant(&self, key: &PublicKey, access: &Access, served: &[ShareSpec]) -> Option<Grant> {
        let names = || served.iter().map(|share| share.name.as_str());
        let all = |name: &str, may: May| {
            let shares = names().map(|share| ShareRight { name: share.into(), may }).collect();
            Some(Grant { client: name.into(), user: name.into(), shares })
        };
        if *key == self.boards.peer {
            all(BOARD, May::Write)
        } else if *key == self.boards.own {
            all(SELF, May::Read)
        } else {
            access.grant(key, names())
        }
    }

    /// Lets a connection in.
    ///
    /// # Errors
    /// [`NoEntry`]; the connection is to be closed.
    pub fn enter(
        self: &Arc<Self>,
        key: PublicKey,
        peer: Peer,
        socket: &Arc<Socket>,
    ) -> Result<Entry, NoEntry> {
        let mut state = self.lock();
        if state.closed {
            return Err(NoEntry::Closed);
        }
        let is_board = |key: &PublicKey| *key == self.boards.peer || *key == self.boards.own;
        let own = state.live.values().filter(|live| live.key == key).count();
        let others = state.live.values().filter(|live| !is_board(&live.key)).count();
        if own >= CONNECTIONS_OF_ONE_MAX || (!is_board(&key) && others >= CLIENTS_MAX) {
            return Err(NoEntry::TooMany);
        }
        let grant = self.grant(&key, &state.access, &state.served).ok_or(NoEntry::Revoked)?;
        let roomy = state.live.values().filter(|live| live.room == Room::Roomy);
        let roomy = roomy.filter(|live| !is_board(&live.key)).count();
        let room = if is_board(&key) || roomy < ROOMY_MAX { Room::Roomy } else { Room::Crowded };
        let id = state.next_live;
        state.next_live = id.wrapping_add(1);
        let usage = Arc::<Usage>::default();
        let live = Live {
            key,
            peer,
            socket: socket.clone(),
            client: grant.client.clone(),
            user: grant.user.clone(),
            since_unix_s: now_unix_s(),
            usage: usage.clone(),
            room,
            mount: None,
        };
        state.live.insert(id, live);
        let ledger = state.ledgers.entry(key).or_default().clone();
        drop(state);
        Ok(Entry { gate: self.clone(), id, grant, usage, ledger, room })
    }

    /// Lets nobody in any more and cuts everybody: nothing is answered from now on. How many there were.
    pub fn close(&self) -> usize {
        let mut state = self.lock();
        state.closed = true;
        cut(&state, |_| true)
    }

    fn take_over(&self, id: u64, mount: &[u8]) {
        let mut state = self.lock();
        let Some(ours) = state.live.get_mut(&id) else { return };
        ours.mount = Some(mount.to_vec());
        let key = ours.key;
        let is_former = |(other, live): &(&u64, &Live)| {
            **other != id && live.key == key && live.mount.as_deref() == Some(mount)
        };
        let former: Vec<u64> = state.live.iter().filter(is_former).map(|(id, _)| *id).collect();
        for id in &former {
            if let Some(live) = state.live.get(id) {
                goblin_core_ninep::Stream::shutdown(&*live.socket);
            }
        }
        let stays = |state: &mut State| former.iter().any(|id| state.live.contains_key(id));
        drop(self.left.wait_timeout_while(state, TAKE_OVER_LIMIT, stays));
    }

    fn connections(state: &State) -> Vec<ConnectionStatus> {
        let status = |live: &Live| ConnectionStatus {
            client: live.client.clone(),
            user: live.user.clone(),
            from: from_text(live.peer),
            since_unix_s: live.since_unix_s,
            operations: live.usage.operations(),
            read_bytes: live.usage.read_bytes(),
            written_bytes: live.usage.written_bytes(),
        };
        state.live.values().map(status).collect()
    }

    /// Every live connection and what it did up to now, by when they came.
    pub fn connected(&self) -> Vec<ConnectionStatus> {
        Self::connections(&self.lock())
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
        let added_unix_s = now_unix_s();
        let mut access = state.access.clone();
        access.add(ClientRecord { name, key, user, added_unix_s })?;
        self.keep(&mut state, access)?;
        Ok(self.grant(&key, &state.access, &state.served))
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
        state.ledgers.remove(&key);
        Ok(cut(&state, |live| live.key == key))
    }

    /// Sets a right, as [`change`](Self::change) does.
    ///
    /// # Errors
    /// [`GateError`]; the right is then as it was.
    pub fn set(&self, user: &str, share: &str, may: May) -> Result<usize, GateError> {
        let (who, share) = (user.to_owned(), share.to_owned());
        Ok(self.change(&AccessChange::SetRight { who, share, may })?.cut)
    }

    /// Changes shares, groups or rights, and cuts the connections that may less than before, or otherwise, with a
    /// share they may use: it holds at once, also for those. Others go on.
    ///
    /// # Errors
    /// [`GateError`]; everything is then as it was.
    pub fn change(&self, change: &AccessChange) -> Result<Changed, GateError> {
        let mut state = self.lock();
        let mut access = state.access.clone();
        let Some(undo) = access.apply(change, &self.provisioned)? else {
            return Ok(Changed { undo: None, cut: 0 });
        };
        let served = access.served(&self.provisioned);
        if let Some(shelf) = &state.shelf {
            shelf.set(&served)?;
        }
        let (old_access, old_served) = (state.access.clone(), state.served.clone());
        if let Err(err) = self.keep(&mut state, access) {
            if let Some(shelf) = &state.shelf {
                shelf.set(&old_served)?;
            }
            return Err(err);
        }
        state.served = served;
        let past =
            PastChange { unix_s: now_unix_s(), command: change.command(), undo: undo.command() };
        state.history.note(past);
        let changed = |key: &PublicKey| {
            let old = self.grant(key, &old_access, &old_served);
            let new = self.grant(key, &state.access, &state.served);
            let may =
                |share: &ShareRight| new.as_ref().map_or(May::Nothing, |g| g.may(&share.name));
            old.is_some_and(|old| old.shares.iter().any(|share| may(share) != share.may))
        };
        let keys: BTreeSet<PublicKey> = state.live.values().map(|live| live.key).collect();
        let keys: BTreeSet<PublicKey> = keys.into_iter().filter(changed).collect();
        let cut = cut(&state, |live| keys.contains(&live.key));
        Ok(Changed { undo: Some(undo), cut })
    }

    /// Shares, groups, rules, and the changes of late.
    pub fn rights(&self) -> ShareReply {
        let state = self.lock();
        let share = |share: &ShareSpec| ShareRights {
            name: share.name.clone(),
            read_only: share.read_only,
            rules: state.access.rules_of(&share.name),
        };
        ShareReply::Rights {
            shares: state.served.iter().map(share).collect(),
            groups: state.access.groups().to_vec(),
            changes: state.history.all().to_vec(),
        }
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
                .map(|live| from_text(live.peer))
                .collect(),
            shares: self
                .grant(&client.key, &state.access, &state.served)
                .map_or(Vec::new(), |grant| grant.shares),
        };
        let clients = state.access.clients().iter().map(status).collect();
        let connections = Self::connections(&state);
        ShareReply::Clients { clients, connections, codes_waiting }
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

/// What a change did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Changed {
    /// What undoes it; nothing when it was so already.
    pub undo: Option<AccessChange>,
    /// Connections that were cut.
    pub cut: usize,
}

/// Why a key that is known does not come in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoEntry {
    /// It was revoked during the handshake.
    #[error("the key was revoked during the handshake")]
    Revoked,
    /// It has, or all clients have, too many connections.
    #[error("there are too many connections; close some of them")]
    TooMany,
    /// The agent ends.
    #[error("the server is about to end; try again in a moment")]
    Closed,
}

fn now_unix_s() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

fn from_text(peer: Peer) -> String {
    match peer {
        Peer::Network(address) => address.to_string(),
        Peer::Process { pid, .. } => format!("process {pid}"),
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
