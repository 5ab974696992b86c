//! What the units were doing when they were last looked at, and what changed since.

use crate::ask::Init;
use goblin_core_types::UnitStatus;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::broadcast;

/// Pause between looks; only while someone is connected.
const PAUSE: Duration = Duration::from_secs(1);
/// Changes that a connection may be behind; one that is further behind loses the oldest.
const CHANGES_MAX: usize = 256;

/// Units by name, shared by all connections.
#[derive(Debug, Clone)]
pub struct Known {
    units: Arc<Mutex<BTreeMap<String, UnitStatus>>>,
    changes: broadcast::Sender<UnitStatus>,
}

impl Known {
    /// Nothing is known yet.
    pub fn new() -> Self {
        Self { units: Arc::default(), changes: broadcast::channel(CHANGES_MAX).0 }
    }

    /// One unit.
    pub fn unit(&self, name: &str) -> Option<UnitStatus> {
        self.units.lock().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
    }

    /// Names of all units.
    pub fn names(&self) -> Vec<String> {
        self.units.lock().unwrap_or_else(PoisonError::into_inner).keys().cloned().collect()
    }

    /// Changes from now on.
    pub fn changes(&self) -> broadcast::Receiver<UnitStatus> {
        self.changes.subscribe()
    }

    /// Takes what PID 1 says now, and tells what is another than before.
    pub fn take(&self, units: Vec<UnitStatus>) {
        let mut known = self.units.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|name, _| units.iter().any(|unit| unit.name == *name));
        for unit in units {
            let before = known.insert(unit.name.clone(), unit.clone());
            if before.is_some_and(|before| before != unit) {
                // Without a connection nobody is told.
                let _ = self.changes.send(unit);
            }
        }
    }
}

/// Looks again and again; while nobody is connected PID 1 is left alone.
pub async fn run(init: Init, known: Known) {
    loop {
        tokio::time::sleep(PAUSE).await;
        if known.changes.receiver_count() > 0
            && let Ok(overview) = init.overview().await
        {
            known.take(overview.units);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use goblin_core_types::UnitPhase;

    fn unit(name: &str, phase: UnitPhase) -> UnitStatus {
        UnitStatus {
            name: name.into(),
            description: String::new(),
            phase,
            pid: None,
            restarts: 0,
            detail: String::new(),
            ready_ms: None,
            note: String::new(),
        }
    }

    #[test]
    fn only_changes_are_told() {
        let known = Known::new();
        let mut changes = known.changes();
        known.take(vec![unit("a", UnitPhase::Starting), unit("b", UnitPhase::Ready)]);
        assert!(changes.try_recv().is_err(), "the first look is no change");
        known.take(vec![unit("a", UnitPhase::Ready), unit("b", UnitPhase::Ready)]);
        assert_eq!(changes.try_recv().unwrap().name, "a");
        assert!(changes.try_recv().is_err());
        known.take(vec![unit("a", UnitPhase::Ready)]);
        assert_eq!(known.names(), ["a"]);
    }
}
