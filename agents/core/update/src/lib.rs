//! The upgrade state machine.
