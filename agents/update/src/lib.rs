//! The updater: fetches, rebuilds, writes, arms and settles releases, and leads both boards on the
//! compute board.
//!
//! ```text
//! UPDATE_SOCKET -> service -> updater -- core/update decides --> effects: repository (TUF, HTTP), store
//!                                |                               (blobs), esp (UKIs), boot record, PID 1
//!                                +-> pair -> peer (9P) -> the storage board's updater
//! RELEASES_SOCKET -> feed: release files for the storage board, beside the orders
//! sources: HTTP(S), a folder, a stick that is mounted for one order, the other board's `feed`
//! ```
//! What decides lives in `goblin_core_update` and `goblin_core_manifest`; here is what acts: every
//! effect durable before the next, every error a sentence with its remedy, the board as it was before.
//!
//! Invariants: one operation at a time; nothing is armed that was not read back from the disk and found
//! equal to what was signed; the ESP is read-only but while it is written.

mod env;
mod error;
pub mod esp;
pub mod feed;
pub mod fetch;
pub mod held;
mod lookup;
mod notes;
pub mod obtain;
mod orders;
pub mod origin;
mod pair;
mod peer;
mod repository;
mod service;
mod stick;
pub mod store;
mod unasked;
mod updater;
mod work;

pub use env::{Env, Hooks, Source, Writers};
pub use error::UpdateError;
pub use pair::{Leader, Peer, PeerError};
pub use repository::walk;
pub use service::{run, run_bless};
pub use stick::Stick;
pub use unasked::Unasked;
pub use updater::{Updater, bless};
