//! What boards have in common, as data: the kernel's options and its command line.
//!
//! Options are chosen in `board/kernel.config`, each group with its reason; [`KernelConfig::lost`] tells
//! which of them a configured kernel did not take. This crate builds nothing and reads no file: `xtask`
//! builds the kernel and puts the command line into the UKI. Facts about a single board belong here too,
//! as keys of a TOML file, never as conditions in code.

mod kernel;

pub use kernel::{COMMAND_LINE, FRAGMENT, KernelConfig};
