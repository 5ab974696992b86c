//! The updater against a real web server, with disks in temporary folders.

mod board;
mod orders;
mod pair;
mod parcels;
mod single;
