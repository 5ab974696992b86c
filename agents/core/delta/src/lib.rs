//! What a release costs to fetch: packs, patches, and the choice between them.
//!
//! A release is a set of file contents, known by blake3 from its signed manifest. A device holds some of
//! them already, in the system that runs and in its store. The rest comes in one of these ways:
//!
//! - [`pack`]: one file with every content of a release, in zstd frames, newest first. A device of any
//!   older version needs about one contiguous piece of it: [`ranges`] says which.
//! - [`patch`]: one file from one older release to this one, made of the differences inside files
//!   ([`bsdiff`] over a [`suffix`] array).
//! - [`choose`]: which of the two is cheaper for a device that holds just this, and why, in plain words.
//!
//! What it does **not** do: no file, no network, no clock. Nor does it vouch for anything: whoever
//! decodes compares each content with the digest in the signed manifest before it is used.
//!
//! Invariants: every parser answers any bytes with a value; memory is bounded by the constants of the
//! modules, never by a number that was read; the same input is encoded into the same bytes.
#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects
    )
)]

pub mod bsdiff;
mod bytes;
pub mod choose;
pub mod frame;
pub mod pack;
pub mod patch;
pub mod ranges;
pub mod suffix;

/// A content as the manifest lists it: digest and size, in the order of digests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Content {
    /// blake3 of the content.
    pub digest: goblin_core_types::Digest,
    /// Size in bytes.
    pub size: u64,
}
