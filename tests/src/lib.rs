//! End to end: harness.
