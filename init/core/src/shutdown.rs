//! The order and the deadlines of a shutdown. Pure.
//!
//! A unit is told to stop once everything that depends on it has stopped, so that for example the shares
//! stop before the pool below them. Units that do not depend on each other stop together.

use crate::graph;
use crate::unit::Unit;

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

/// Of the units that `runs` says still run, those on which no other running unit depends. `units` and
/// `runs` have the same order. Where running units depend on each other in a circle, all of them.
pub fn next_to_stop(units: &[&Unit], runs: &[bool]) -> Vec<usize> {
    let running = || units.iter().zip(runs).enumerate().filter(|(_, (_, runs))| **runs);
    let needed = |name: &str| {
        running().any(|(_, (unit, _))| {
            unit.name != name && graph::dependencies(unit).any(|(_, dependency)| dependency == name)
        })
    };
    let free: Vec<usize> =
        running().filter(|(_, (unit, _))| !needed(&unit.name)).map(|(index, _)| index).collect();
    if free.is_empty() { running().map(|(index, _)| index).collect() } else { free }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unit(name: &str, requires: &[&str]) -> Unit {
        let text = format!(
            "description = 'd'\nkind = 'service'\nexec = ['/x']\nrequires = {requires:?}\n"
        );
        crate::unit::parse(name, &text).unwrap()
    }

    #[test]
    fn users_stop_before_what_they_use() {
        let units = [unit("pool", &[]), unit("share", &["pool"]), unit("net", &[])];
        let units: Vec<&Unit> = units.iter().collect();
        assert_eq!(next_to_stop(&units, &[true, true, true]), [1, 2]);
        assert_eq!(next_to_stop(&units, &[true, false, true]), [0, 2]);
        assert!(next_to_stop(&units, &[false, false, false]).is_empty());
    }

    #[test]
    fn a_circle_does_not_hold_up_the_end() {
        let units = [unit("a", &["b"]), unit("b", &["a"])];
        let units: Vec<&Unit> = units.iter().collect();
        assert_eq!(next_to_stop(&units, &[true, true]), [0, 1]);
    }
}
