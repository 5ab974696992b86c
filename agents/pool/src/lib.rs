//! The system disk's STATE partition and the storage board's pool of data disks.
//!
//! [`run_state`] is a task, early in the boot of every board: it finds the disk the board was booted
//! from, makes the STATE partition on first boot, mounts STATE and (read-only) the ESP. [`run_pool`] is
//! a service of the storage board: it waits for the data disks the provisioning file names, makes the
//! pool on blank ones, mounts it, and says how it fares.
//!
//! Invariants: a partition or disk that holds anything this box did not make is never written to; a
//! power cut at any point leaves a disk that the next boot finishes; a disk counts as this box's by the
//! file system's UUID, which is derived from the box's identity, never by its label.
//!
//! It does not repair, scrub, replace disks or take snapshots, and it does not serve the shares.
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

mod decide;
mod error;
mod esp_twins;
mod memory;
mod mirror;
mod mirror_disk;
mod mirror_esp;
mod mirror_orders;
mod mkfs;
mod plugs;
mod pool;
mod reset;
mod sniff;
mod state;
mod state_partition;
mod superblock;

pub use error::PoolError;
pub use mirror::run_disks;
pub use pool::run_pool;
pub use state::run_state;
