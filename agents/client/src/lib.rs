//! The compute board as a client of the storage board: keeps its shares mounted under
//! [`goblin_core_types::paths::SHARES`] while the inter-board link is up.
//!
//! The kernel's 9P client does the work, on a TCP connection that this agent made and keeps a
//! duplicate of. The kernel's client neither times out nor reconnects, so the agent does: shutting the
//! duplicate down makes every call that hangs in the mount fail at once, whatever state the other end
//! is in. That is also why one thread per share is enough: nothing it waits for lasts longer than a
//! constant of this crate.
//!
//! It does **not** cache and does not write offline: without the storage board a share is an empty,
//! read-only directory.
#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects
)]
#![cfg_attr(
    test,
    allow(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects
    )
)]

mod connection;
mod place;
mod worker;

use goblin_core_config::Provision;
use goblin_core_types::{MountStatus, Role, paths};
use std::io;
use std::path::Path;
use std::sync::mpsc;
use std::thread;

/// Name of this agent's part of the status.
const PART: &str = "mount";
/// Reports of workers that wait to be published at most.
const REPORTS_MAX: usize = 64;

/// Why the agent cannot go on. PID 1 starts it again.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MountError {
    /// The agent's part of the status cannot be published.
    #[error("cannot write the status part mount: {source}")]
    Publish {
        /// The kernel's word.
        #[source]
        source: io::Error,
    },
    /// The directories to mount on cannot be made.
    #[error("cannot make the directories under {}: {source}", paths::SHARES)]
    Place {
        /// The kernel's word.
        #[source]
        source: io::Error,
    },
    /// A share's thread cannot be started, or all of them ended.
    #[error("cannot keep the share {share} mounted: {source}")]
    Worker {
        /// The share.
        share: String,
        /// The kernel's word.
        #[source]
        source: io::Error,
    },
}

/// Keeps the storage board's shares mounted until a fatal error. A board that has nothing to mount says
/// why in its part of the status, and sleeps.
///
/// # Errors
/// [`MountError`].
pub fn run_mount() -> Result<(), MountError> {
    let provision = goblin_sys::provision::load().ok();
    let mut statuses = first_statuses(provision.as_ref());
    publish(&statuses)?;
    let wanted =
        provision.filter(|found| found.role == Role::Compute && found.network.allow_plain_9p);
    let Some(provision) = wanted.filter(|found| !found.shares.is_empty()) else {
        goblin_sys::notify::ready();
        tracing::info!("no share to mount");
        loop {
            thread::park();
        }
    };
    let names: Vec<&str> = provision.shares.iter().map(|share| share.name.as_str()).collect();
    place::prepare(Path::new(paths::SHARES), &names)
        .map_err(|source| MountError::Place { source })?;
    let (reports, inbox) = mpsc::sync_channel::<MountStatus>(REPORTS_MAX);
    for share in &provision.shares {
        let (share, reports) = (share.clone(), reports.clone());
        let name = share.name.clone();
        thread::Builder::new()
            .name(format!("share-{name}"))
            .spawn(move || worker::run(&share, &reports))
            .map_err(|source| MountError::Worker { share: name, source })?;
    }
    drop(reports);
    // Ready without the storage board: it may come an hour later, and the rest of this board must not
    // wait for it.
    goblin_sys::notify::ready();
    for report in inbox {
        if let Some(status) = statuses.iter_mut().find(|status| status.name == report.name)
            && *status != report
        {
            tracing::info!(
                share = report.name,
                mounted = report.mounted,
                problem = report.problem.as_deref().unwrap_or(""),
                "share changed"
            );
            *status = report;
            publish(&statuses)?;
        }
    }
    Err(MountError::Worker { share: names.join(", "), source: io::ErrorKind::BrokenPipe.into() })
}

/// What is said before the first look at the link.
fn first_statuses(provision: Option<&Provision>) -> Vec<MountStatus> {
    let Some(provision) = provision.filter(|found| found.role == Role::Compute) else {
        return Vec::new();
    };
    let problem = if provision.network.allow_plain_9p {
        "waiting for the storage board"
    } else {
        "not mounted: network.allow_plain_9p is off in the provisioning file"
    };
    provision.shares.iter().map(|share| status(&share.name, Some(problem.into()))).collect()
}

fn status(name: &str, problem: Option<String>) -> MountStatus {
    MountStatus {
        name: name.into(),
        path: format!("{}/{name}", paths::SHARES),
        mounted: problem.is_none(),
        problem,
    }
}

fn publish(statuses: &[MountStatus]) -> Result<(), MountError> {
    goblin_sys::state::write(PART, &statuses).map_err(|source| MountError::Publish { source })
}
