//! `org.goblinux.Update1`: how the updater fares. Orders go through `goblin` and the control tree, which
//! know of both boards.

use goblin_core_types::UpdateStatus;
use serde::Serialize;
use zbus::{fdo, interface};

/// Path of the object.
pub const PATH: &str = "/org/goblinux/Update1";
/// The updater's part of the board's status.
const PART: &str = "update";

/// The interface.
#[derive(Debug)]
pub struct Update1;

fn status() -> fdo::Result<UpdateStatus> {
    let absent = || fdo::Error::Failed("the updater has said nothing yet".into());
    goblin_sys::state::read(PART).ok_or_else(absent)
}

fn word(value: Option<impl Serialize>) -> String {
    value.and_then(|value| serde_json::to_value(value).ok()).map_or_else(String::new, |value| {
        value.as_str().map_or_else(|| value.to_string(), str::to_owned)
    })
}

#[interface(name = "org.goblinux.Update1")]
impl Update1 {
    /// Everything, as the JSON text of `goblin_core_types::UpdateStatus`.
    fn status(&self) -> fdo::Result<String> {
        serde_json::to_string(&status()?).map_err(|err| fdo::Error::Failed(err.to_string()))
    }

    /// What it does, in one word.
    #[zbus(property(emits_changed_signal = "false"))]
    fn phase(&self) -> fdo::Result<String> {
        Ok(word(Some(status()?.phase)))
    }

    /// Release being fetched, staged or tried; empty when there is none.
    #[zbus(property(emits_changed_signal = "false"))]
    fn target(&self) -> fdo::Result<String> {
        Ok(word(status()?.target))
    }

    /// Newest release that the last check found; empty before.
    #[zbus(property(emits_changed_signal = "false"))]
    fn offered(&self) -> fdo::Result<String> {
        Ok(word(status()?.offered))
    }

    /// Bytes done of the present phase.
    #[zbus(property(emits_changed_signal = "false"))]
    fn done_bytes(&self) -> fdo::Result<u64> {
        Ok(status()?.done_bytes)
    }

    /// Bytes that the present phase needs.
    #[zbus(property(emits_changed_signal = "false"))]
    fn total_bytes(&self) -> fdo::Result<u64> {
        Ok(status()?.total_bytes)
    }

    /// The last error with its remedy; empty when there is none.
    #[zbus(property(emits_changed_signal = "false"))]
    fn problem(&self) -> fdo::Result<String> {
        Ok(status()?.problem.unwrap_or_default())
    }

    /// Where the newest upgrade stands, in one word: `idle`, `checking`, `fetching`, `building`, `staged`,
    /// `armed`, `trial`, `good`, `failed`, `rolled-back` or `quarantined`.
    #[zbus(property(emits_changed_signal = "false"))]
    fn life(&self) -> fdo::Result<String> {
        Ok(status()?.life.state.as_str().to_owned())
    }

    /// The release that it is about; empty when there is none.
    #[zbus(property(emits_changed_signal = "false"))]
    fn life_version(&self) -> fdo::Result<String> {
        Ok(word(status()?.life.version))
    }

    /// Why it ended so, in one sentence; empty while it goes on.
    #[zbus(property(emits_changed_signal = "false"))]
    fn life_reason(&self) -> fdo::Result<String> {
        Ok(status()?.life.reason)
    }

    /// What the upgrade of both boards is doing; empty when there is none, and on the storage board.
    #[zbus(property(emits_changed_signal = "false"))]
    fn pair(&self) -> fdo::Result<String> {
        Ok(status()?.pair.unwrap_or_default())
    }

    /// What an upgrade that nobody asked for waits for; empty when there is none.
    #[zbus(property(emits_changed_signal = "false"))]
    fn waiting(&self) -> fdo::Result<String> {
        Ok(status()?.waiting.unwrap_or_default())
    }

    /// Channel that is followed; empty when the board has no source.
    #[zbus(property(emits_changed_signal = "false"))]
    fn channel(&self) -> fdo::Result<String> {
        Ok(status()?.channel.unwrap_or_default())
    }

    /// Releases that are neither deleted nor replaced.
    #[zbus(property(emits_changed_signal = "false"))]
    fn pinned(&self) -> fdo::Result<Vec<String>> {
        Ok(status()?.settings.pins.iter().map(ToString::to_string).collect())
    }

    /// Releases that failed here and are not tried again, each with its reason.
    #[zbus(property(emits_changed_signal = "false"))]
    fn quarantine(&self) -> fdo::Result<Vec<(String, String)>> {
        let failed = status()?.quarantine.into_iter();
        Ok(failed.map(|failed| (failed.version.to_string(), failed.reason)).collect())
    }

    /// How the last upgrade that was armed ended: its outcome and its reason; empty before.
    #[zbus(property(emits_changed_signal = "false"))]
    fn last(&self) -> fdo::Result<(String, String)> {
        let last = status()?.last;
        Ok(last.map_or_else(Default::default, |last| (word(Some(last.outcome)), last.reason)))
    }
}
