//! The part of PID 1 that strangers talk to: its control socket, and the log that is read over it.
//!
//! A library of its own so that hostile bytes can be tried on it in a process that may panic
//! (`cargo xtask fuzz init-control`). The program is `main.rs`; nobody else uses this.
#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects
    )
)]

pub mod control;
pub mod log_ring;
