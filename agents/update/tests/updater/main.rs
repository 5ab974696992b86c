//! The updater against a real web server, a stick or the other board, with disks in temporary folders.

mod board;
mod bounds;
mod hostile;
mod orders;
mod pair;
mod pair_faults;
mod parcels;
mod powercut;
mod single;
mod sources;
#[allow(dead_code, reason = "frozen as it was; not every part is looked at")]
#[path = "../../../core/types/tests/previous/wire.rs"]
mod wire;
