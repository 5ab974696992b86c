//! First boot: applies the provisioning file that was flashed, once, and tells PID 1 the board's role.
//!
//! A task: runs after STATE and the ESP are mounted, ends before any unit with a role starts, and ends
//! with success whatever it finds, so that every board comes up as far as its console. What it found is
//! in [`ProvisionStatus`].
//!
//! Invariants: a board that holds a valid applied file keeps it, whatever lies on the ESP; the ESP's
//! copy is scrubbed only after STATE holds the file durably; a refused file changes nothing.
//!
//! It does not mount anything (it remounts the ESP for the scrubbing), and it does not touch disks.
//!
//! [`ProvisionStatus`]: goblin_core_types::ProvisionStatus

mod decide;
mod effects;

use decide::{Decision, Found, decide};
use effects::Places;
use goblin_core_types::{ProvisionOutcome, ProvisionStatus, Role};
use goblin_sys::{notify, state};
use std::io;

/// Host name of a board without a role.
const HOST_UNPROVISIONED: &str = "goblin";

/// Why the outcome could not be told to anyone.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
    /// The role's file could not be written: PID 1 starts no unit that has a role.
    #[error("the role could not be written to {path}: {source}")]
    RoleFile {
        /// The file.
        path: String,
        /// What the kernel said.
        source: io::Error,
    },
}

/// Applies the provisioning file on first boot, or takes note that it was applied earlier.
///
/// # Errors
/// Only when the run-time directory cannot be written to; a missing or refused file is no error.
pub fn run() -> Result<(), RunError> {
    let places = Places::on_board();
    let (status, role, host) = settle(&places);
    match status.outcome {
        ProvisionOutcome::Applied => {
            tracing::info!(detail = %status.detail, "provisioning applied")
        }
        _ => tracing::warn!(detail = %status.detail, "the board has no role"),
    }
    if role.is_some()
        && let Err(err) = places.share_keys()
    {
        tracing::warn!(%err, "units that are not root cannot read their keys");
    }
    if let Err(err) = effects::set_host_name(&host) {
        tracing::warn!(%err, host, "host name not set");
    }
    if let Err(err) = state::write("provision", &status) {
        tracing::warn!(%err, "status not published");
    }
    notify::status(&status.detail);
    let word = role.map_or("none", Role::as_str);
    places
        .write_role(word)
        .map_err(|source| RunError::RoleFile { path: places.role.display().to_string(), source })
}

/// Looks, decides, acts. Returns what to publish, the role and the host name.
fn settle(places: &Places) -> (ProvisionStatus, Option<Role>, String) {
    if let Some(detail) = places.state_problem() {
        let status =
            ProvisionStatus { outcome: ProvisionOutcome::Refused, detail, ..Default::default() };
        return (status, None, HOST_UNPROVISIONED.into());
    }
    let applied = effects::look(&places.applied);
    let offered = effects::look(&places.offered);
    match decide(&applied, &offered) {
        Decision::Keep { scrub, detail } => keep(places, &applied, scrub, detail),
        Decision::Apply { detail } => apply(places, &offered, detail),
        Decision::Stay { outcome, detail } => {
            let status = ProvisionStatus { outcome, detail, ..Default::default() };
            (status, None, HOST_UNPROVISIONED.into())
        }
    }
}

fn keep(
    places: &Places,
    applied: &Found,
    scrub: bool,
    detail: String,
) -> (ProvisionStatus, Option<Role>, String) {
    let mut status = places.read_result().unwrap_or_default();
    status.outcome = ProvisionOutcome::Applied;
    status.detail = detail;
    status.digest = applied.digest();
    if scrub {
        scrub_or_warn(places, &mut status);
    }
    with_identity(status, applied)
}

fn apply(
    places: &Places,
    offered: &Found,
    detail: String,
) -> (ProvisionStatus, Option<Role>, String) {
    let mut status = ProvisionStatus {
        outcome: ProvisionOutcome::Applied,
        detail,
        digest: offered.digest(),
        at_unix_s: goblin_sys::clock::now_unix().as_secs(),
    };
    // Order: file, result, scrub. After a power cut at any point the next boot finds either nothing
    // applied and the ESP untouched, or the file applied, and scrubs what is left.
    if let Err(err) = places.store(offered, &status) {
        let detail = format!(
            "the provisioning file is good but could not be kept in {}: {err}; it stays on the ESP, \
             and the next start tries again",
            places.applied.display()
        );
        let status =
            ProvisionStatus { outcome: ProvisionOutcome::Refused, detail, ..Default::default() };
        return (status, None, HOST_UNPROVISIONED.into());
    }
    scrub_or_warn(places, &mut status);
    with_identity(status, offered)
}

fn scrub_or_warn(places: &Places, status: &mut ProvisionStatus) {
    if let Err(err) = places.scrub() {
        tracing::warn!(%err, "copy of the provisioning file on the ESP not scrubbed");
        status.detail.push_str(
            "; its copy on the ESP, which holds the board's private key, could not be overwritten: \
             the next start tries again",
        );
    }
}

fn with_identity(
    status: ProvisionStatus,
    found: &Found,
) -> (ProvisionStatus, Option<Role>, String) {
    match found {
        Found::Valid { provision, .. } => (status, Some(provision.role), provision.host.clone()),
        Found::Missing | Found::Refused { .. } | Found::Unreadable { .. } => {
            (status, None, HOST_UNPROVISIONED.into())
        }
    }
}

#[cfg(test)]
mod tests;
