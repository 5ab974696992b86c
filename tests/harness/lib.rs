//! What end-to-end tests, `cargo xtask run` and `cargo xtask demo` share: virtual boards and clients
//! under QEMU, the ways to talk to them, and a plain web server that can misbehave.
//!
//! Nothing here knows how images are built; callers hand in disks. Every wait is for an event (a line,
//! a reply, an exit) with a deadline that only turns a hang into an error.

pub mod channel;
pub mod client;
pub mod fuzz;
pub mod http;
pub mod ninep;
pub mod qemu;
pub mod qmp;
pub mod serial;
pub mod writelog;

mod lines;
