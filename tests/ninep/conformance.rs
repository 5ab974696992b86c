//! The must-pass list of `goblin_tests::ninep` against our server; each case is a line, as `cargo test` prints
//! them.

fn main() {
    goblin_tests::ninep::suite::main_for_cargo(env!("CARGO_BIN_EXE_share-server"))
}
