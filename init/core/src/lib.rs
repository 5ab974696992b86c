//! What PID 1 decides, without an effect: unit files, their graph, what starts and stops when.
//!
//! It takes text, events and the time, and gives units, actions and reasons. It reads no file, no clock
//! and no random number, and starts nothing: `goblin-init` does that. `xtask` uses it too, to refuse an
//! image whose units cannot all start.
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

pub mod bus_name;
pub mod graph;
pub mod journal;
pub mod limits;
pub mod log_rate;
pub mod modalias;
pub mod sandbox;
pub mod seccomp;
pub mod settings;
pub mod shutdown;
pub mod supervise;
pub mod uevent;
pub mod unit;
pub mod words;
