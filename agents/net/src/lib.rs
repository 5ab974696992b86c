//! Network, the hello between boards, and the clock: two services.
//!
//! [`run_net`] brings every wired card up, gets addresses by DHCPv4 (IPv6 addresses are the kernel's
//! work), writes the resolver's configuration, and finds the other board by a signed hello that both send
//! once a second to all neighbours of every card. The card on which the other board is heard is the link.
//! [`run_time`] keeps the clock by SNTP. [`discovery`] tells clients where the board is.
//!
//! It does not serve anything and knows nothing of shares; other agents learn addresses and the link from
//! [`NetStatus`] and [`LinkStatus`].
//!
//! Invariants: only a hello signed with the provisioned key, by the board of the other role, makes the
//! link; words of strangers never take an established link down; the clock never goes behind the release's
//! own date; nothing here needs a restart when cables, servers or the other board come and go.
//!
//! [`NetStatus`]: goblin_core_types::NetStatus
//! [`LinkStatus`]: goblin_core_types::LinkStatus
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

mod dhcp;
mod discipline;
pub mod discovery;
mod error;
mod hello;
mod hello_socket;
mod kernel;
mod lease;
mod link;
mod net;
mod time;
mod view;

/// Whether a datagram is a hello whose signature fits the key it names. For tests that throw bytes at it.
pub fn is_hello(datagram: &[u8]) -> bool {
    hello::decode(datagram).is_ok()
}

pub use error::NetError;
pub use net::run_net;
pub use time::run_time;
