//! TLS 1.3 with a key on both ends, over blocking sockets. Every 9P connection between machines is one.
//!
//! ```text
//!   identity   an ed25519 seed as a raw public key (RFC 7250): no certificate, no CA, no dates
//!   verify     is the peer's key one that is admitted? and does it hold the private half?
//!   config     one provider (ring), one version, no tickets, no early data
//!   shake      the handshake, with one deadline for all of it; `Acceptor`, `connect`
//!   stream     `TlsStream`: one thread reads while others write
//!   greeting   the file server's first word, in front of 9P
//! ```
//!
//! What a connection is for is its ALPN name ([`Service`]): it decides which keys are admitted before the
//! handshake ends, so that a key that is not enrolled reaches no parser but TLS's own and that of
//! enrolment's fixed-size messages.
//!
//! Invariants:
//! - TLS 1.3 only. No session tickets: a kernel that is handed the keys could not read one, and a revoked
//!   key would come back with one.
//! - A handshake ends within its limit whatever the peer does, a byte at a time included.
//! - [`connect`] returns before the server has judged our key; its verdict is the first read's result. That
//!   is why servers speak first ([`greeting`], or 9P's first reply).
//!
//! It does **not** know who is enrolled, and keeps nothing.
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

mod config;
mod error;
pub mod greeting;
mod identity;
mod shake;
mod stream;
mod verify;

pub use config::{Records, Service};
pub use error::TlsError;
pub use identity::Identity;
pub use shake::{Accepted, Acceptor, Expect, connect, connect_as, looks_like_tls};
pub use stream::TlsStream;
pub use verify::Admit;
