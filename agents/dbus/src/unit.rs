//! `org.goblinux.Init1.Unit`: one unit as properties.

use crate::watch::Known;
use goblin_core_types::UnitStatus;
use serde::Serialize;
use zbus::OwnedObjectPath;
use zbus::{fdo, interface};

/// Folder of the units' objects.
const FOLDER: &str = "/org/goblinux/Init1/unit";

/// Path of a unit's object.
///
/// # Errors
/// Never for a name that PID 1 takes.
pub fn path(name: &str) -> Result<OwnedObjectPath, zbus::Error> {
    let mut path = format!("{FOLDER}/");
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric() {
            path.push(char::from(byte));
        } else {
            path.push_str(&format!("_{byte:02x}"));
        }
    }
    OwnedObjectPath::try_from(path)
}

/// A unit variant as JSON writes it: `back-off`.
pub fn word(value: &impl Serialize) -> String {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(word)) => word,
        _ => String::new(),
    }
}

/// The interface.
#[derive(Debug)]
pub struct Unit {
    name: String,
    known: Known,
}

impl Unit {
    /// The unit of this name, as far as it is known.
    pub fn new(name: String, known: Known) -> Self {
        Self { name, known }
    }

    fn status(&self) -> fdo::Result<UnitStatus> {
        let gone = || fdo::Error::UnknownObject(format!("there is no unit `{}`", self.name));
        self.known.unit(&self.name).ok_or_else(gone)
    }
}

#[interface(name = "org.goblinux.Init1.Unit")]
impl Unit {
    /// Its name.
    #[zbus(property(emits_changed_signal = "const"))]
    fn name(&self) -> String {
        self.name.clone()
    }

    /// What it is for.
    #[zbus(property(emits_changed_signal = "const"))]
    fn description(&self) -> fdo::Result<String> {
        Ok(self.status()?.description)
    }

    /// Where it stands: `off`, `waiting`, `starting`, `ready`, `back-off`, `stopping` or `failed`.
    #[zbus(property)]
    pub fn phase(&self) -> fdo::Result<String> {
        Ok(word(&self.status()?.phase))
    }

    /// Process id; 0 while it has none.
    #[zbus(property)]
    pub fn pid(&self) -> fdo::Result<u32> {
        Ok(self.status()?.pid.unwrap_or_default())
    }

    /// Times it was started again.
    #[zbus(property)]
    pub fn restarts(&self) -> fdo::Result<u32> {
        Ok(self.status()?.restarts)
    }

    /// Why it is where it is.
    #[zbus(property)]
    pub fn detail(&self) -> fdo::Result<String> {
        Ok(self.status()?.detail)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use goblin_core_types::UnitPhase;

    #[test]
    fn names_become_paths_and_back_off_stays_a_word() {
        assert_eq!(path("net").unwrap().as_str(), "/org/goblinux/Init1/unit/net");
        assert_eq!(path("a-b").unwrap().as_str(), "/org/goblinux/Init1/unit/a_2db");
        assert_eq!(word(&UnitPhase::BackOff), "back-off");
    }
}
