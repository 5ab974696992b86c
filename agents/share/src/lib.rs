//! The 9P server agent: serves directories of the pool to client PCs and to the compute board.
//!
//! ```text
//!   provisioning -> wait for the pool -> /pool/shares/NAME -> TLS on TCP port 564 -> one thread for each client
//! ```
//!
//! [`HostTree`] is the backend: it turns the requests of one connection into system calls of
//! `goblin_sys::beneath`. Codec, fids, tags, flush and threads are `goblin_core_ninep`'s.
//!
//! Invariants:
//! - A client never leaves the share it attached: files are held by O_PATH descriptors, every step is one
//!   `openat2` with RESOLVE_BENEATH, `..` is the directory walked from and ends at the share's root.
//! - Symbolic links are shown and never followed. Devices, FIFOs and sockets are shown and never opened;
//!   devices are never made.
//! - `qid.path` names one file among all shares; `qid.version` is never 0 and changes with the content.
//! - What a walk saw answers the getattr that follows, unless any client changed anything in between.
//! - A lock that a client lets go is granted to who waits for it at once; locks end with their fid or connection.
//! - A read-only share answers every change with `EROFS`. Names do not move between shares (`EXDEV`).
//! - A full disk is `ENOSPC` for the request; the session goes on.
//! - A peer is who its key says (`goblin_tls`): the other board, an enrolled client, or this board looking at
//!   itself. A key that is not admitted does not finish the handshake. What a user may not read he does not
//!   see; what he may not write is read-only to him. A key that is revoked has no connection left.
//! - Strangers keep nobody out: few connections shake hands at one time, and the oldest of them gives way. Each key
//!   has a limit of connections, all clients together have one, and the boards' keys have places of their own.
//! - One connection cannot take what all need: descriptors are counted for each ([`Usage`]). The first
//!   [`ROOMY_MAX`] clients get long messages and queues, the others of [`CLIENTS_MAX`] get short ones, so that all of
//!   them at their limits fit into the unit's memory.
//! - Asked to stop, the agent cuts everybody and puts on the disks what it took; clients of a run that ended so need not
//!   fear for what they have not synced (`runs`).
//! - A mount that comes again (`goblin-mount:NAME` as its user name) takes over from its former connection: that one
//!   is cut, and its locks and writes have ended before the new one attaches.
//! - `n_uname`, user names, lock owners and modes of access sent by the client prove nothing here and decide
//!   nothing. On the disk there is **one owner**: new files belong to root (0:0), and a change of owner is
//!   refused unless it changes nothing. Rights are per share, not per file.
//! - Without keys nobody is served, unless `network.allow_plain_9p` asks for it: then whoever reaches the port
//!   may change everything.
//!
//! ```text
//!   enter    handshake -> greeting -> 9P, or enrolment by a code
//!   gate     keys, rights, codes, live connections; kept in /state/config/access.json
//!   command  /run/goblin/share.sock: clients, shares, groups, rights
//!   runs     runs of the agent that ended in order; kept in /state/config/share-runs.json
//!   shelf    the shares of now        history  changes of late, each with what undoes it
//! ```
//!
//! It formats or mounts nothing.
//!
//! The agent publishes a `Vec<ShareStatus>` as `share`. It is ready as soon as that status is true, also
//! while it still waits for the pool: then every share is `served: false` with the reason.

mod agent;
mod attributes;
mod command;
mod enter;
mod file;
mod gate;
mod history;
mod host;
mod node;
mod runs;
mod shaking;
mod share;
mod shelf;
mod usage;
mod waiters;

pub use agent::{ShareError, end_in_order, run};
pub use enter::{Entrance, Introduction, Plain};
pub use file::HostOpen;
pub use gate::{
    BoardKeys, CLIENTS_MAX, CONNECTIONS_OF_ONE_MAX, Changed, Entry, Gate, GateError, NoEntry,
    ROOMY_MAX, Room, TAKE_OVER_LIMIT,
};
pub use host::{Arrives, Caller, HostTree};
pub use node::Node;
pub use runs::Runs;
pub use shaking::SHAKING_MAX;
pub use share::Share;
pub use shelf::{Shelf, ShelfError};
pub use usage::{DESCRIPTORS_OF_ALL_MAX, DESCRIPTORS_OF_ONE_MAX, Usage};
