//! Three agents that speak about the whole board: the control tree, the role checks, the host channel.
//!
//! - [`run_control`] joins what every agent, PID 1 and the kernel say into one status, and serves it with
//!   the orders to the updater and to PID 1 as a 9P tree (see `tree`). On the compute board the tree also
//!   holds the storage board's, reached over the inter-board link.
//! - [`run_health`] judges whether the board does what its role needs. Its readiness is the gate that
//!   PID 1 waits for before a trial is accepted.
//! - [`run_channel`] answers `goblin` commands of a virtual machine's host, where provisioning allows it.
//!
//! What they do **not** do: decide about releases (the updater does), restart anything (PID 1 does), keep
//! state of their own. Each can be killed at any moment and started again.
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

mod channel;
mod error;
mod forward;
mod health;
mod lines;
mod logs;
mod probe;
mod proc;
mod server;
mod status;
mod tree;
mod watch;

pub use channel::run_channel;
pub use error::AgentError;
pub use server::run_control;
pub use watch::run_health;
