//! Provisioning files: what a board is told once, when it is flashed.
//!
//! A provisioning file is TOML, one per board, at most [`PROVISION_BYTES_MAX`] bytes; unknown keys are
//! refused. [`parse`] turns text into a checked [`Provision`] or names place, field and remedy;
//! [`parse_bytes`] does the same for what lies on a disk, which may be blank or torn. This crate reads
//! no file and knows no board: agents hand it text. `data/` holds one example for each role.
//!
//! Errors never repeat a line of the file: it holds a private key.
#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects
)]
#![cfg_attr(
    test,
    allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::arithmetic_side_effects)
)]

mod check;
mod error;
mod parse;
mod provision;
mod seal;
#[cfg(test)]
mod tests;

pub use check::{DATA_DISKS_MAX, MIRRORS_MAX, NTP_SERVERS_MAX, SHARES_MAX};
pub use error::{Place, Problem, ProvisionError};
pub use parse::{parse, parse_bytes};
pub use provision::{
    BoxSection, DebugSection, DiskSection, HexKey, KeySection, NetworkSection, PROVISION_BYTES_MAX,
    Provision, ShareSection, UpdateSection,
};
pub use seal::seal;
