//! The table of commands.

fn main() {}
