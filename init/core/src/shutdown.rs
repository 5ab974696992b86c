//! The limits of a shutdown. Pure.
//!
//! A shutdown is the wish that no unit runs ([`crate::supervise`]): each is told to stop once everything
//! that depends on it, in whatever way, is down, so that for example the shares stop before the pool below
//! them. Units that do not depend on each other stop together.

/// Time for all units together, in milliseconds; then everything that is left is killed.
pub const SHUTDOWN_MAX_MS: u64 = 45_000;
/// From a kill to the moment when a process that still does not end is left behind, in milliseconds. A
/// process stuck in the kernel cannot be killed; it must not hold up the reboot.
pub const KILL_GRACE_MS: u64 = 3_000;

/// How the board ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    /// It starts again.
    Reboot,
    /// It stays off.
    PowerOff,
}
