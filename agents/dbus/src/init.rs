//! `org.goblinux.Init1`: units as a whole.

use crate::ask::Init;
use crate::unit;
use goblin_core_types::{InitRequest, UnitStatus};
use std::collections::HashMap;
use zbus::object_server::SignalEmitter;
use zbus::{OwnedObjectPath, OwnedVariant, Type, Variant};
use zbus::{fdo, interface};

/// Path of the object.
pub const PATH: &str = "/org/goblinux/Init1";

/// One unit in a list: `(ssosuus)`.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize, Type)]
pub struct Listed {
    /// Its name.
    pub name: String,
    /// What it is for.
    pub description: String,
    /// Its object.
    pub path: OwnedObjectPath,
    /// Where it stands, in a word of [`goblin_core_types::UnitPhase`]'s JSON form.
    pub phase: String,
    /// Process id; 0 while it has none.
    pub pid: u32,
    /// Times it was started again.
    pub restarts: u32,
    /// Why it is where it is.
    pub detail: String,
}

/// The interface.
#[derive(Debug)]
pub struct Init1 {
    init: Init,
}

impl Init1 {
    /// Speaks for PID 1.
    pub fn new(init: Init) -> Self {
        Self { init }
    }
}

#[interface(name = "org.goblinux.Init1")]
impl Init1 {
    /// Every unit, by name.
    async fn list_units(&self) -> fdo::Result<Vec<Listed>> {
        let overview = self.init.overview().await?;
        overview.units.into_iter().map(listed).collect()
    }

    /// Everything that is known of a unit.
    async fn show_unit(&self, name: &str) -> fdo::Result<HashMap<String, OwnedVariant>> {
        let detail = self.init.detail(name).await?;
        let number = |value: Option<u64>| value.unwrap_or_default();
        let kind = detail.kind.as_ref().map(unit::word).unwrap_or_default();
        let status = detail.status;
        let facts: Vec<(&str, Variant<'_>)> = vec![
            ("Name", status.name.into()),
            ("Description", status.description.into()),
            ("Kind", kind.into()),
            ("Phase", unit::word(&status.phase).into()),
            ("Detail", status.detail.into()),
            ("Wanted", detail.wanted.into()),
            ("Pid", status.pid.unwrap_or_default().into()),
            ("Restarts", status.restarts.into()),
            ("Exec", detail.exec.into()),
            ("Requires", detail.requires.into()),
            ("Milestone", detail.milestone.into()),
            ("Wants", detail.wants.into()),
            ("After", detail.after.into()),
            ("Critical", detail.critical.into()),
            ("StartedMs", number(detail.started_ms).into()),
            ("ReadyMs", number(status.ready_ms).into()),
            ("WatchdogMs", number(detail.watchdog_ms).into()),
            ("LastEnd", detail.last_end.into()),
        ];
        facts
            .into_iter()
            .map(|(key, value)| {
                let value =
                    value.try_to_owned().map_err(|err| fdo::Error::Failed(err.to_string()))?;
                Ok((key.to_owned(), value))
            })
            .collect()
    }

    /// Wants a unit to run, and with it all that it requires.
    async fn start_unit(&self, name: String) -> fdo::Result<()> {
        Ok(self.init.order(&InitRequest::Start { unit: name }).await?)
    }

    /// Wants a unit to be down; what requires it goes down first.
    async fn stop_unit(&self, name: String) -> fdo::Result<()> {
        Ok(self.init.order(&InitRequest::Stop { unit: name }).await?)
    }

    /// Wants a unit to be stopped and started again.
    async fn restart_unit(&self, name: String) -> fdo::Result<()> {
        Ok(self.init.order(&InitRequest::Restart { unit: name }).await?)
    }

    /// A unit's phase, process or reason is another one now.
    #[zbus(signal)]
    pub async fn unit_changed(
        emitter: &SignalEmitter<'_>,
        name: &str,
        phase: &str,
        pid: u32,
        detail: &str,
    ) -> zbus::Result<()>;

    /// The boot counts as a trial, and the verdict is open.
    #[zbus(property(emits_changed_signal = "false"))]
    async fn trial(&self) -> fdo::Result<bool> {
        Ok(self.init.overview().await?.trial)
    }

    /// Lines that PID 1's log dropped since it started.
    #[zbus(property(emits_changed_signal = "false"))]
    async fn dropped_lines(&self) -> fdo::Result<u64> {
        Ok(self.init.overview().await?.dropped_lines)
    }

    /// Milliseconds since the kernel started when PID 1 began.
    #[zbus(property(emits_changed_signal = "const"))]
    async fn start_ms(&self) -> fdo::Result<u64> {
        Ok(self.init.overview().await?.init_start_ms)
    }
}

fn listed(unit: UnitStatus) -> fdo::Result<Listed> {
    let path = unit::path(&unit.name).map_err(|err| fdo::Error::Failed(err.to_string()))?;
    Ok(Listed {
        path,
        phase: unit::word(&unit.phase),
        pid: unit.pid.unwrap_or_default(),
        name: unit.name,
        description: unit.description,
        restarts: unit.restarts,
        detail: unit.detail,
    })
}
