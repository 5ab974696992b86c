//! Whole boards under QEMU: real firmware, loader, kernel, disks and cable. `cargo xtask test` runs
//! these after everything faster; by hand: `cargo test -p goblin-tests --features e2e`.
//!
//! Each scenario boots once and asks many questions; boots are what costs time here.

mod again;
mod bench;
mod client;
mod escape;
mod full_state;
mod init;
mod kinds;
mod limits;
mod main_job;
mod menu;
mod mirror;
mod pair;
mod plugs;
mod previous;
mod provisioning;
mod trial;
