//! Devices that come and go: their drivers, their names, and who wants to know.
//!
//! [`run_devices`] listens to the kernel, looks at what was there before, and for each device
//! - loads the kernel modules that it asks for, as far as the image's list allows them ([`modules`](self));
//! - gives it names that stay: links below `/dev/disk`, further names for network cards (`names.rs`);
//! - tells every program that listens at [`goblin_core_types::paths::DEVICES_SOCKET`].
//!
//! What it decides is in `names.rs` and `registry.rs`, without an effect; which module a device may call in
//! is in `goblin_init_core::modalias`.
//!
//! Invariants: a name belongs to the device that had it first for as long as that is there, so that a stick
//! with the labels of the system disk takes none of them away; a module that the list does not allow is not
//! loaded whatever a device says; a slow listener is dropped, never waited for; everything kept is bounded.
//!
//! It mounts nothing, formats nothing, renames no interface, and unloads no module. Where it does not
//! run, boards work as far as the drivers built into the kernel go: nothing else waits for it.
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

mod facts;
mod keeper;
mod links;
mod modules;
mod names;
mod registry;
mod stream;

pub use keeper::run_devices;

/// Why the agent ends; PID 1 starts it again.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DevicesError {
    /// The kernel's announcements cannot be heard.
    #[error("cannot listen to the kernel's device events: {0}")]
    Uevents(#[source] std::io::Error),
    /// `/sys` cannot be read.
    #[error("cannot look at the devices in /sys: {0}")]
    Sysfs(#[source] std::io::Error),
    /// The socket for listeners cannot be made.
    #[error("cannot listen on {path}: {source}")]
    Listen {
        /// Its path.
        path: String,
        /// The kernel's word.
        #[source]
        source: std::io::Error,
    },
}
