//! What uses a box's shares: client PCs, and the compute board as a client of the storage board.
//!
//! ```text
//!   boxes   the PC's key and the boxes it is enrolled with      login   enrolment by a one-time code
//!   dial    connections, and their errors in plain words        relay   outlives connections
//!   discover  boxes on the local network
//!   kernel  a mount of the kernel's 9P client over a relay      mounts  who holds which mount
//!   fuse    a mount by FUSE over a relay
//!   copy    files and trees without a mount
//!   remote  a share without a mount                            worker  the compute board's mounts
//! ```
//!
//! The kernel's client neither times out nor reconnects; the [`relay`] below every mount does. Its process's
//! end ends every call in the mount, whatever state the other end is in.
//!
//! It does **not** cache for longer than the call that asked, and does not write offline: while a box is away, calls wait and then fail.
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

pub mod boxes;
pub mod copy;
mod dial;
pub mod discover;
pub mod fuse;
pub mod kernel;
pub mod login;
pub mod mounts;
mod place;
pub mod relay;
pub mod remote;
mod worker;

pub use dial::DialError;

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
    /// The keys of the provisioning file cannot be used.
    #[error("keys of the provisioning file: {source}")]
    Keys {
        /// What is wrong.
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
    let wanted = provision.filter(|found| found.role == Role::Compute);
    let Some(provision) = wanted.filter(|found| !found.shares.is_empty()) else {
        goblin_sys::notify::ready();
        tracing::info!("no share to mount");
        loop {
            thread::park();
        }
    };
    let keys = worker::Keys::of(&provision).map_err(|source| MountError::Keys { source })?;
    let names: Vec<&str> = provision.shares.iter().map(|share| share.name.as_str()).collect();
    place::prepare(Path::new(paths::SHARES), &names)
        .map_err(|source| MountError::Place { source })?;
    let (reports, inbox) = mpsc::sync_channel::<MountStatus>(REPORTS_MAX);
    for share in &provision.shares {
        let (share, keys, reports) = (share.clone(), keys.clone(), reports.clone());
        let name = share.name.clone();
        thread::Builder::new()
            .name(format!("share-{name}"))
            .spawn(move || worker::run(&share, &keys, &reports))
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
    let problem = "waiting for the storage board";
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
