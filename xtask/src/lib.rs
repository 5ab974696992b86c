//! What stands behind `cargo xtask`: building, publishing, flashing, running, testing and measuring goblinux.
//! The end-to-end tests use the same functions as the commands, so that what is tested is what is run.
//!
//! ```text
//!   setup  apt  debian          what comes from Debian: host packages, signed downloads, unpacked trees
//!   kernel  compile  rootfs     kernel, programs, base tree: each cached by what goes in
//!   image  release  provision   UKI and disk image, signed repository, the boards' keys and settings
//!   flash                       an image and a provisioning file onto a disk or into a file
//!   lab  accel  client_guest    a whole box under QEMU, and a stranger's PC beside it
//!   run  demo  bench  powercut  what people call on top of it; test and check are what CI calls
//! ```
//!
//! Invariants: everything written goes below `target/` or into the user's cache folder, or where an option
//! names; files get their names when they are whole, so that a run cut off anywhere is only repeated; what
//! two processes must not do at once is locked; no machine outlives the process that started it; the same
//! source makes the same bytes. It does nothing on a board: boards rebuild images with `goblin-image`.

pub mod accel;
pub mod apt;
pub mod bench;
pub mod check;
pub mod client_guest;
pub mod compile;
pub mod debian;
pub mod debian_root;
pub mod demo;
pub mod flash;
pub mod fuzz;
pub mod host;
pub mod image;
pub mod initramfs;
pub mod kernel;
pub mod lab;
pub mod modules;
pub mod powercut;
pub mod provision;
pub mod python;
pub mod release;
pub mod rootfs;
pub mod run;
pub mod setup;
pub mod sources;
pub mod test;
pub mod units;
