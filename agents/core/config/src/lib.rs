//! Provisioning files: what a board is told once, when it is flashed.
//!
//! A provisioning file is TOML, one per board, at most [`PROVISION_BYTES_MAX`] bytes; unknown keys are
//! refused. [`parse`] turns text into a checked [`Provision`] or names the field and the remedy. This
//! crate reads no file and knows no board: agents hand it text.

mod provision;

pub use provision::{
    BoxSection, DebugSection, DiskSection, HexKey, KeySection, NetworkSection, Provision,
    ProvisionError, PROVISION_BYTES_MAX, ShareSection, UpdateSection, parse,
};
