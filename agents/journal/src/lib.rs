//! The journal agent: follows PID 1's log and keeps it on STATE, so that it outlasts the boot.
//!
//! ```text
//! units, kernel -> PID 1: ring in memory -> INIT_SOCKET -> here -> /state/journal/*.gj
//! ```
//! PID 1 never waits for a disk; this agent does in its place. Promised, as long as the disk takes
//! anything: a warning or an error is on the disk at once (or a quarter of a second after the flush
//! before), any other line within five seconds. A power cut costs what is younger, and nothing else.
//!
//! - The format is `goblin_init_core::journal`; when lines are written is decided in [`keeper`]; [`store`]
//!   has the files. Readers (`goblin logs`, through the control agent) read the files themselves.
//! - The journal never takes more than 32 MiB, and does not grow while STATE has less than 64 MiB left: it
//!   then reuses its own room. A STATE that is full or read-only is said once and tried again; lines wait
//!   in PID 1's ring meanwhile, and those that it had to drop are counted in the journal.
//! - Each line has the time since the kernel started, which orders it, and the wall clock, which may jump.
//!
//! It does **not** judge lines, and holds nothing that is not in the ring or on the disk: it can be killed at
//! any moment and goes on where the journal ends.
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

mod follow;
pub mod keeper;
pub mod store;

pub use follow::{JournalError, run};
