//! Deterministic writers and careful readers of every on-disk format a goblinux board boots from.
//!
//! The same input always gives the same bytes: no clock, no random source, no host path, user or
//! directory order reaches the output. That is what lets a board rebuild a released UKI bit for bit
//! from blobs and compare its digest with the signed one.
//!
//! What it does **not** do: it opens no file, device or socket. Writers take [`std::io::Write`] (and
//! `Seek` where a disk image is laid out), readers take slices or `Read + Seek`, and contents of files come from a
//! [`Contents`] source the caller supplies. It signs nothing and trusts nothing: every reader answers
//! hostile bytes with an error, never with a panic, and every size has a named limit.
//!
//! Invariants: contents are checked against their size and blake3 digest while they are copied;
//! writers of trees and UKIs stream, so that memory stays at a few hundred KiB plus the stub; a GPT
//! edit leaves a valid table at every instant; one copy of the boot record is always whole.
//!
//! Called by `xtask` (host: images, releases), the update agent (rebuild on the board), preinit, PID 1
//! and the state agent (record, partition table).
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

mod bytes;
mod contents;
pub mod cpio;
pub mod diff;
pub mod disk;
pub mod erofs;
pub mod esp;
pub mod gpt;
mod guid;
pub mod recipe;
pub mod record;
pub mod tree;
pub mod uki;

pub use contents::{BuildError, Contents, MemoryContents};
pub use guid::{Guid, ParseGuidError};
pub use recipe::{BlobRef, UkiRecipe};
pub use tree::{Entry, Kind, Tree, TreeError};
