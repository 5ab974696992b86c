//! PID 1 and preinit.

fn main() {}
