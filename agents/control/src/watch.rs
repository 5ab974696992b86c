//! The health agent: gathers evidence, has it judged, publishes what changed.

use crate::health::{self, Evidence, ShareProbe};
use crate::status::Parts;
use crate::{AgentError, lines, probe, proc};
use goblin_core_config::Provision;
use goblin_core_types::{
    Check, Health, InitReply, InitRequest, Notify, Pending, PoolState, Role, paths,
};
use goblin_sys::mount;
use std::path::Path;
use std::time::{Duration, Instant};

/// Name of this agent's part of the status.
const PART: &str = "health";
/// Pause between looks.
const PAUSE: Duration = Duration::from_secs(2);
/// Pause between questions to agents that answered the last one; those that did not are asked each time.
const PROBE_PAUSE: Duration = Duration::from_secs(10);

/// Silences in a row after which an updater that answered before counts as hung.
const UPDATER_FAILURES: u32 = 3;

/// Runs the role checks until a fatal error: publishes a [`Health`] whenever it changes, tells PID 1 the
/// checks that are still open, and is ready once none is.
///
/// # Errors
/// [`AgentError::Publish`] when the verdict cannot be written.
pub fn run_health() -> Result<(), AgentError> {
    let mut watch = Watch::default();
    let mut told: Option<Health> = None;
    let mut ready = false;
    loop {
        let found = health::judge(&watch.gather());
        if told.as_ref() != Some(&found) {
            goblin_sys::state::write(PART, &found)
                .map_err(|source| AgentError::Publish { part: PART, source })?;
            log_changes(told.as_ref(), &found);
            let open = health::open_checks(&found);
            goblin_sys::notify::send(&Notify::Status { text: open.join("\n") });
            if open.is_empty() && !ready {
                goblin_sys::notify::ready();
                ready = true;
            }
            told = Some(found);
        }
        goblin_sys::notify::ping();
        std::thread::sleep(PAUSE);
    }
}

fn log_changes(before: Option<&Health>, after: &Health) {
    let same = |check: &Check| {
        before.is_some_and(|health| {
            health.checks.iter().any(|old| old.name == check.name && old.state == check.state)
        })
    };
    for check in after.checks.iter().filter(|check| !same(check)) {
        tracing::info!(check = check.name, state = ?check.state, detail = check.detail, "check changed");
    }
}

/// What the boot record says of the box at the moment a trial was armed.
#[derive(Debug, Default, Clone, Copy)]
struct Armed {
    peer_expected: bool,
    pool_missing: bool,
}

/// What is remembered between looks: answers that are not worth asking for every two seconds.
#[derive(Debug, Default)]
struct Watch {
    provision: Option<Provision>,
    armed: Option<Armed>,
    shares_asked: Option<Instant>,
    probes: Vec<ShareProbe>,
    updater_asked: Option<Instant>,
    updater_problem: Option<String>,
    updater_failures: u32,
}

impl Watch {
    fn gather(&mut self) -> Evidence {
        let parts = Parts::read();
        if self.provision.is_none() {
            self.provision = goblin_sys::provision::load().ok();
        }
        let (units, trial) = match lines::ask(Path::new(paths::INIT_SOCKET), &InitRequest::Units) {
            Ok(InitReply::Units { units, trial, .. }) => (units, trial),
            _ => (Vec::new(), false),
        };
        let role = self.provision.as_ref().map(|provision| provision.role);
        let armed = if trial { self.armed() } else { Armed::default() };
        let mut evidence = Evidence {
            role,
            provision: parts.provision,
            shares_named: self.share_names(),
            trial,
            peer_expected: armed.peer_expected,
            pool_missing: armed.pool_missing,
            uptime_s: proc::uptime_s(),
            clock_unix_s: goblin_sys::clock::now_unix().as_secs(),
            time: parts.time,
            link: parts.link,
            pool: parts.pool,
            disks: parts.disks,
            shares: parts.shares,
            probes: Vec::new(),
            mounts: parts.mounts,
            console_drawn: goblin_sys::state::read::<Vec<String>>("console")
                .is_some_and(|text| !text.is_empty()),
            state_problem: state_problem(),
            updater_problem: None,
            units,
        };
        if role.is_some() {
            evidence.updater_problem = self.ask_updater();
        }
        if role == Some(Role::Storage) && shares_expected(&evidence) {
            evidence.probes = self.ask_shares(&evidence.shares_named);
        }
        evidence
    }

    fn share_names(&self) -> Vec<String> {
        let shares =
            self.provision.as_ref().map(|found| found.shares.as_slice()).unwrap_or_default();
        shares.iter().map(|share| share.name.clone()).collect()
    }

    /// How the box was when this trial was armed. Asked until the record answers.
    fn armed(&mut self) -> Armed {
        if self.armed.is_none() {
            let record = goblin_sys::record::find().ok().flatten();
            let record = record.and_then(|partition| partition.read().ok());
            self.armed = record.map(|record| match record.pending {
                Some(Pending { peer_expected, pool_missing, .. }) => {
                    Armed { peer_expected, pool_missing }
                }
                None => Armed::default(),
            });
        }
        self.armed.unwrap_or_default()
    }

    fn ask_shares(&mut self, names: &[String]) -> Vec<ShareProbe> {
        let well =
            !self.probes.is_empty() && self.probes.iter().all(|probe| probe.problem.is_none());
        if !(well && recent(self.shares_asked)) {
            let keys = self.provision.as_ref().map(|found| &found.keys);
            self.probes =
                keys.map_or(Vec::new(), |keys| probe::shares(&keys.board_private.0, names));
            self.shares_asked = Some(Instant::now());
        }
        self.probes.clone()
    }

    fn ask_updater(&mut self) -> Option<String> {
        let late = self.updater_problem.is_some() || self.updater_failures > 0;
        if late || !recent(self.updater_asked) {
            let problem = probe::updater(Path::new(paths::UPDATE_SOCKET)).err();
            self.updater_failures = match problem {
                Some(_) => self.updater_failures.saturating_add(1),
                None => 0,
            };
            let known = self.updater_asked.is_some() && self.updater_problem.is_none();
            // A board that is busy writing a release may answer late once.
            self.updater_problem = problem
                .filter(|_| !known || self.updater_failures >= UPDATER_FAILURES)
                .map(|err| format!("the updater does not answer: {err}"));
            self.updater_asked = Some(Instant::now());
        }
        self.updater_problem.clone()
    }
}

fn state_problem() -> Option<String> {
    match mount::mount_at(paths::STATE) {
        Ok(Some(found)) if found.read_only() || found.fs_read_only() => Some(
            "STATE cannot be written to any more: the file system stopped writing after an error; check \
             the system disk, then start the board again"
                .into(),
        ),
        Ok(Some(_)) => None,
        Ok(None) => Some("STATE is not mounted: `goblin logs --unit state` says why".into()),
        Err(err) => Some(format!("the mount table cannot be read: {err}")),
    }
}

fn recent(asked: Option<Instant>) -> bool {
    asked.is_some_and(|at| at.elapsed() < PROBE_PAUSE)
}

fn shares_expected(evidence: &Evidence) -> bool {
    let mounted = |state| matches!(state, PoolState::Mounted | PoolState::Degraded);
    evidence.pool.as_ref().is_some_and(|pool| mounted(pool.state))
}
