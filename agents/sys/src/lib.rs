//! Kernel interfaces behind safe functions: the only home of `unsafe` outside PID 1.
//!
//! One file per interface. Functions take and return owned or borrowed descriptors, slices and enums,
//! never raw integers or pointers. Nothing here decides anything: policy lives in core crates and
//! agents.

pub mod altname;
pub mod beneath;
pub mod block;
pub mod board;
pub mod clock;
pub mod devices;
pub mod efivar;
pub mod files;
pub mod journal;
pub mod ktls;
pub mod lines;
pub mod listing;
pub mod mirror;
pub mod module;
pub mod mount;
pub mod multicast;
pub mod netdev;
pub mod notify;
pub mod peer;
pub mod provision;
pub mod reboot;
pub mod record;
pub mod sandbox;
pub mod signal;
pub mod socket;
pub mod splice;
pub mod state;
pub mod terminate;
pub mod uevent;
pub mod vt;
pub mod watchdog;
pub mod writer;
