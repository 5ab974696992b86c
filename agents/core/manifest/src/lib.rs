//! Releases: the manifest format and the signed repository metadata that vouches for it.
//!
//! A repository is a plain folder. `metadata/` holds TUF 1.0 metadata (see [`tuf`]), `releases/` one
//! [`release::Manifest`] per release, named by the targets metadata with its length and sha256. The
//! manifest in turn names every file content by blake3 and the recipe that rebuilds the exact image.
//!
//! - [`tuf`]: metadata types, signature thresholds.
//! - [`keys`]: public keys, and what each type takes for a good signature.
//! - [`client`]: what a device believes, and the checks by which it believes more.
//! - [`delegation`]: files handed on to other signers, and who speaks for a path.
//! - [`publish`]: builds and signs the metadata of a repository.
//! - [`roots`]: who may sign, and how that changes.
//! - [`release`]: the manifest of one release and its limits.
//! - [`sbom`]: what a release is made of, and how two differ in that.
//! - [`offer`]: which release a board should run next.
//! - [`waves`]: releases handed out by and by.
//!
//! What it does **not** do: no clock, no file, no network. The update agent fetches bytes and hands
//! them in together with the time; `cargo xtask release` writes what [`publish`] returns.
//!
//! Invariants: nothing is believed before a threshold of keys signed it; no version ever goes back; no
//! length, count or name is unbounded; any bytes are answered with a value, never a panic.
#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects
    )
)]

pub mod canonical;
pub mod client;
pub mod delegation;
pub mod keys;
pub mod offer;
pub mod publish;
pub mod release;
pub mod roots;
pub mod sbom;
pub mod time;
pub mod tuf;
pub mod waves;

#[cfg(test)]
mod client_tests;
#[cfg(test)]
mod delegation_tests;
