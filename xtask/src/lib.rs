//! What stands behind `cargo xtask`: building, publishing, flashing, running and measuring goblinux. The
//! end-to-end tests use the same functions as the commands, so that what is tested is what is run.
//!
//! Everything written goes below `target/` or into the user's cache folder.

pub mod accel;
pub mod apt;
pub mod bench;
pub mod check;
pub mod client_guest;
pub mod compile;
pub mod debian;
pub mod demo;
pub mod flash;
pub mod fuzz;
pub mod host;
pub mod image;
pub mod initramfs;
pub mod kernel;
pub mod lab;
pub mod powercut;
pub mod provision;
pub mod release;
pub mod rootfs;
pub mod run;
pub mod setup;
pub mod sources;
pub mod test;
