//! Kernel interfaces behind safe functions: the only home of `unsafe` outside PID 1.
//!
//! One file per interface. Functions take and return owned or borrowed descriptors, slices and enums,
//! never raw integers or pointers. Nothing here decides anything: policy lives in core crates and
//! agents.

pub mod files;
pub mod notify;
pub mod state;
