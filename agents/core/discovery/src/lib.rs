//! Boards found by name on the local network: multicast DNS (RFC 6762) and DNS-based service discovery (RFC 6763),
//! as much of them as a box and its clients need.
//!
//! ```text
//!   name     domain names, compressed or not        message  whole messages: questions and records
//!   notice   what a board says of itself            browse   what a PC makes of what it hears
//! ```
//!
//! What it does **not** do: open sockets, read a clock, cache records, or believe anything. Whoever finds an address
//! here still asks the box for its key.
//!
//! Invariants:
//! - Any bytes are a message or an error; none panics, loops or costs more than a few times their own length.
//! - An answer is never larger than [`MESSAGE_BYTES_MAX`], and no answer causes another one.
//!
//! Called by the net agent on the boards, and by the command line on PCs.
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

mod browse;
mod message;
mod name;
mod notice;

pub use browse::{Browser, Found};
pub use message::{Data, DnsError, Message, Question, Record};
pub use name::Name;
pub use notice::{Notice, Role, Via};

use std::net::Ipv4Addr;

/// The group that all speak to (RFC 6762, section 3).
pub const GROUP: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 251);
/// Its port.
pub const PORT: u16 = 5353;
/// Longest message that is sent or looked at, in bytes: one Ethernet frame.
pub const MESSAGE_BYTES_MAX: usize = 1440;
/// Type of every board.
pub const SERVICE_BOX: &str = "_goblinux._tcp.local";
/// Type of boards that serve files.
pub const SERVICE_FILES: &str = "_9p._tcp.local";
/// What asks for the list of types (RFC 6763, section 9).
pub const SERVICE_TYPES: &str = "_services._dns-sd._udp.local";
