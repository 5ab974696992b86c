//! How a board changes its release: everything that decides, nothing that acts.
//!
//! - [`slots`]: the UKIs on the ESP, what their names mean to the loader, which to boot, which to delete.
//! - [`machine`]: one board's upgrade, from the question to the trial.
//! - [`settle`]: what a boot says about an upgrade that was armed before it.
//! - [`pair`]: both boards as one step.
//! - [`policy`]: what is done unasked, and what it waits for.
//! - [`reset`]: what a factory reset takes away, and when it is done.
//! - [`menu`]: the boot menu's entry that asks for one.
//! - [`stick`]: which of the sticks that are plugged in holds a release.
//! - [`life`]: where the newest upgrade stands, as people are told.
//!
//! What it does **not** do: no clock, no file, no network. The update agent turns effects into actions,
//! in order, each durable before the next, and feeds back what happened.
//!
//! Invariants, whatever the order of events and wherever the power is cut: nothing is armed that was
//! not verified on the disk; the file of the running release is never written or deleted; the loader
//! always finds a release that proved itself once, or one whose tries are counted.
#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects
    )
)]

pub mod life;
pub mod machine;
pub mod menu;
pub mod mirror;
pub mod pair;
pub mod policy;
pub mod reset;
pub mod settle;
pub mod slots;
pub mod stick;

#[cfg(test)]
mod simulation;
