//! PID 1 and the updater for programs that speak D-Bus: a thin adapter over their sockets.
//!
//! There is no bus in the base. [`run`] listens at [`goblin_core_types::paths::DBUS_SOCKET`], takes each
//! connection for itself (peer to peer), and only after the kernel has said who is at the other end:
//! root, or whoever the agent itself runs as. Everything it knows it asks of PID 1, in the shapes of
//! `goblin_core_types`; it keeps nothing that a restart would lose. PID 1 itself speaks no D-Bus.
//!
//! | object | interface | |
//! |---|---|---|
//! | `/org/goblinux/Init1` | `org.goblinux.Init1` | list, show, start, stop and restart units; `UnitChanged` |
//! | `/org/goblinux/Init1/unit/NAME` | `org.goblinux.Init1.Unit` | a unit's state as properties |
//! | `/org/goblinux/Update1` | `org.goblinux.Update1` | the updater's state, to be read only |
//!
//! In an object's path a byte of a unit's name that is no letter or digit is `_` and two hexadecimal digits.
//!
//! Invariants: a peer that is not allowed is cut off before a byte of it is read; at most
//! `CONNECTIONS_MAX` peers at once; an answer of PID 1 is waited for only so long.
#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects
)]
#![cfg_attr(
    test,
    allow(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects
    )
)]

mod ask;
mod init;
mod server;
mod unit;
mod update;
mod watch;

pub use server::{Places, run, serve};

/// Why the agent ends; PID 1 starts it again.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DbusError {
    /// The socket cannot be made.
    #[error("cannot listen on {path}: {source}")]
    Listen {
        /// Its path.
        path: String,
        /// The kernel's word.
        #[source]
        source: std::io::Error,
    },
    /// The threads for connections cannot be started.
    #[error("cannot start: {0}")]
    Start(#[source] std::io::Error),
}
