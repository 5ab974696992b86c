//! The 9P server agent: serves directories of the pool to client PCs and to the compute board.
//!
//! ```text
//!   provisioning -> wait for the pool -> /pool/shares/NAME -> TCP port 564 -> one thread for each client
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
//! - A read-only share answers every change with `EROFS`. Names do not move between shares (`EXDEV`).
//! - A full disk is `ENOSPC` for the request; the session goes on.
//! - `n_uname`, user names, lock owners and modes of access sent by the client prove nothing here and decide
//!   nothing. **One user**: whoever reaches the port acts as the board's root inside the shares, new files
//!   belong to root (0:0), and a change of owner is refused unless it changes nothing. That is why plain
//!   TCP is off unless `network.allow_plain_9p` asks for it.
//!
//! It does not encrypt, does not authenticate, does not know users, and formats or mounts nothing.
//!
//! The agent publishes a `Vec<ShareStatus>` as `share`. It is ready as soon as that status is true, also
//! while it still waits for the pool: then every share is `served: false` with the reason.

mod agent;
mod attributes;
mod file;
mod host;
mod node;
mod share;

pub use agent::{ShareError, run};
pub use file::HostOpen;
pub use host::HostTree;
pub use node::Node;
pub use share::Share;
