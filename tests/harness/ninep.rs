//! A raw 9P2000.L client, a proxy that misbehaves, the conformance suite and the load of the benchmark.
//!
//! The client and the proxy work on bytes and share nothing with the server's code. The suite runs against any
//! server that listens on a socket and serves a directory of this machine ([`server::Program`]).

mod cases;
pub mod floor;
pub mod load;
mod proxy;
pub mod raw;
pub mod server;
pub mod suite;
pub mod tls;
pub mod wire;
