//! Who may do what over the network: keys, one-time codes, users and their rights.
//!
//! ```text
//!   code      the short word a person carries from the box to a PC, with a checksum
//!   pake      CPace: both ends prove that they know the code, and show nothing of it
//!   pairing   the four messages of enrolment, the only bytes parsed before a peer is known
//!   door      codes that wait: expiry, tries, pauses between tries
//!   access    enrolled keys, the user each stands for, rights per share
//!   key       ed25519 keys as TLS carries them (RFC 7250, RFC 8410)
//! ```
//!
//! It does **not** do I/O, read a clock or make random numbers: all are handed in. TLS itself is
//! `goblin_tls`'s.
//!
//! Invariants:
//! - A code admits one key, once, within [`door::CODE_LIFE_MS`], after at most [`door::TRIES_MAX`] tries in
//!   all. A try counts when it begins.
//! - What a wrong code gets to see is independent of the right one, and of whether there is one.
//! - A key stands for one client; a user name sent over 9P stands for nothing.
//! - A file of rights that cannot be read admits nobody.
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

mod access;
mod code;
pub mod door;
mod key;
mod mount_name;
pub mod pairing;
mod pake;

pub use access::{
    ACCESS_BYTES_MAX, Access, AccessError, CLIENTS_MAX, ClientRecord, Grant, ShareSpec, is_name,
};
pub use code::{Code, CodeError, SECRET_BITS};
pub use key::{KeyError, PublicKey, pkcs8};
pub use mount_name::{mount_name, mount_user};
pub use pake::{Confirmation, Exchange, PakeError, Side};
