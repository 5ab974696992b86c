//! The role checks as rules: evidence in, verdicts out. Reads nothing.
//!
//! A check that is `Waiting` or `Fail` keeps a trial from being accepted; PID 1 owns the deadline. A
//! board that is not on trial says `Warn` where it can serve without the missing part, because taking
//! a working board down helps nobody.

use goblin_core_types::{
    Check, CheckState, Health, HealthState, LinkState, LinkStatus, MirrorState, MirrorStatus,
    MountStatus, PoolState, PoolStatus, ProvisionOutcome, ProvisionStatus, Role, ShareStatus,
    TimeStatus, UnitPhase, UnitStatus,
};

/// Seconds since 1970 below which a clock cannot be right: 2025-01-01, before the first release.
pub const CLOCK_FLOOR_UNIX_S: u64 = 1_735_689_600;
/// Seconds after the start of the kernel during which a part that has not spoken is only late.
pub const GRACE_S: u64 = 60;

/// Answer of one share to an attach and a look at its root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShareProbe {
    /// Attach name.
    pub name: String,
    /// What went wrong, or nothing.
    pub problem: Option<String>,
}

/// Everything the rules look at, gathered at one moment.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Evidence {
    /// Absent while the board has no role.
    pub role: Option<Role>,
    /// What became of the provisioning file; absent until the agent has written it.
    pub provision: Option<ProvisionStatus>,
    /// Shares that the provisioning file names.
    pub shares_named: Vec<String>,
    /// This boot is a try that may still be taken back.
    pub trial: bool,
    /// The other board was in sight when the trial was armed.
    pub peer_expected: bool,
    /// The storage board had no pool already when the trial was armed.
    pub pool_missing: bool,
    /// Seconds since the kernel started.
    pub uptime_s: u64,
    /// Seconds since 1970 by the board's clock.
    pub clock_unix_s: u64,
    /// The clock's part.
    pub time: Option<TimeStatus>,
    /// The link's part.
    pub link: Option<LinkStatus>,
    /// The pool's part.
    pub pool: Option<PoolStatus>,
    /// Two system disks, where the board has or shall have them.
    pub disks: Option<MirrorStatus>,
    /// The file server's part.
    pub shares: Option<Vec<ShareStatus>>,
    /// What this board's own file server answered to a 9P client; absent where it was not asked.
    pub probes: Vec<ShareProbe>,
    /// The mount agent's part.
    pub mounts: Option<Vec<MountStatus>>,
    /// The console has drawn its first frame.
    pub console_drawn: bool,
    /// Why STATE cannot be kept on, or nothing when it can.
    pub state_problem: Option<String>,
    /// Why the updater's socket does not answer, or nothing when it does.
    pub updater_problem: Option<String>,
    /// Units of PID 1; empty where it could not be asked.
    pub units: Vec<UnitStatus>,
}

impl Evidence {
    /// Verdict over a pool that cannot be had. A new release is blamed for it only where the old one had
    /// it: a box with a lost disk can be upgraded too.
    fn without_disks(&self) -> CheckState {
        if self.trial && !self.pool_missing { CheckState::Fail } else { CheckState::Warn }
    }

    /// Verdict over a wrong board at the other end of the cable; where the right one was not in sight
    /// before, the new release is not to blame.
    fn wrong_peer(&self) -> CheckState {
        if self.trial && self.peer_expected { CheckState::Fail } else { CheckState::Warn }
    }

    /// Verdict over a part that has not spoken: late at first, then lacking.
    fn silent(&self) -> CheckState {
        if self.trial || self.uptime_s < GRACE_S { CheckState::Waiting } else { CheckState::Warn }
    }

    /// Verdict over something the role needs and that should be there by now.
    fn broken(&self) -> CheckState {
        if self.trial || self.uptime_s < GRACE_S { CheckState::Waiting } else { CheckState::Fail }
    }

    /// Verdict over what the pool carries, while there is no pool to carry it.
    fn without_pool(&self) -> CheckState {
        let late =
            |pool: &PoolStatus| matches!(pool.state, PoolState::Searching | PoolState::Formatting);
        if self.pool.as_ref().is_none_or(late) { self.silent() } else { self.without_disks() }
    }
}

/// The verdict over a board: its checks in a fixed order, and the worst of them.
pub fn judge(evidence: &Evidence) -> Health {
    let mut checks = vec![config(evidence)];
    if let Some(role) = evidence.role {
        checks.push(state(evidence));
        checks.extend(disks(evidence));
        checks.push(clock(evidence));
        checks.push(link(evidence, role));
        match role {
            Role::Storage => checks.extend([pool(evidence), shares(evidence)]),
            Role::Compute => checks.extend([mounts(evidence), console(evidence)]),
        }
        checks.push(updater(evidence));
    }
    checks.push(services(evidence));
    Health { state: worst(&checks), checks }
}

/// The checks that keep a trial from being accepted, one sentence each.
pub fn open_checks(health: &Health) -> Vec<String> {
    let open = |check: &&Check| matches!(check.state, CheckState::Waiting | CheckState::Fail);
    health.checks.iter().filter(open).map(|c| format!("{}: {}", c.name, c.detail)).collect()
}

fn worst(checks: &[Check]) -> HealthState {
    let any = |state| checks.iter().any(|check| check.state == state);
    if any(CheckState::Fail) {
        HealthState::Failing
    } else if any(CheckState::Waiting) {
        HealthState::Starting
    } else if any(CheckState::Warn) {
        HealthState::Degraded
    } else {
        HealthState::Healthy
    }
}

fn check(name: &str, state: CheckState, detail: impl Into<String>) -> Check {
    Check { name: name.into(), state, detail: detail.into() }
}

fn config(evidence: &Evidence) -> Check {
    let (state, detail) = match (&evidence.provision, evidence.role) {
        (None, _) => {
            (CheckState::Waiting, "waiting for the provisioning file to be applied".into())
        }
        (Some(found), role) => match (found.outcome, role) {
            (ProvisionOutcome::Unknown, _) => {
                (CheckState::Waiting, "waiting for the provisioning file to be applied".into())
            }
            (ProvisionOutcome::Applied, Some(role)) => {
                (CheckState::Ok, format!("provisioned as the {role} board"))
            }
            (ProvisionOutcome::Applied, None) => (
                CheckState::Fail,
                "the provisioning file was applied but cannot be read back; flash it again".into(),
            ),
            (ProvisionOutcome::Missing, _) => (
                CheckState::Fail,
                "no provisioning file: write one to the board's disk with `cargo xtask flash`"
                    .into(),
            ),
            // A refused new file leaves the board with the role an earlier one gave it.
            (ProvisionOutcome::Refused, role) => (
                if role.is_some() { CheckState::Warn } else { CheckState::Fail },
                sentence(&found.detail, "the provisioning file was refused"),
            ),
        },
    };
    check("config", state, detail)
}

/// Settings, keys and releases: without a place to keep them a board serves, but cannot be upgraded.
fn state(evidence: &Evidence) -> Check {
    match &evidence.state_problem {
        None => check("state", CheckState::Ok, "mounted and writable"),
        Some(problem) => check("state", evidence.broken(), problem),
    }
}

/// A board with one of its two system disks serves, so this keeps no release from being accepted.
fn disks(evidence: &Evidence) -> Option<Check> {
    let disks = evidence.disks.as_ref().filter(|disks| disks.state != MirrorState::Single)?;
    let state = match disks.state {
        MirrorState::InStep => CheckState::Ok,
        _ => CheckState::Warn,
    };
    Some(check("system disks", state, &disks.detail))
}

fn clock(evidence: &Evidence) -> Check {
    let time = evidence.time.clone().unwrap_or_default();
    let (state, detail) = if time.synced {
        let server = time.server.as_deref().unwrap_or("a time server");
        (CheckState::Ok, format!("agrees with {server}"))
    } else if evidence.clock_unix_s >= CLOCK_FLOOR_UNIX_S {
        (CheckState::Ok, "plausible, not yet compared with a time server".into())
    } else {
        let why = time.problem.unwrap_or_else(|| "no time server has answered".into());
        (CheckState::Warn, format!("the clock reads a time before the first release: {why}"))
    };
    check("clock", state, detail)
}

fn link(evidence: &Evidence, role: Role) -> Check {
    let peer = role.peer();
    let (state, detail) = match &evidence.link {
        None => (evidence.silent(), "the network agent has not looked for the link yet".into()),
        Some(link) => link_verdict(evidence, link, peer),
    };
    check("link", state, detail)
}

fn link_verdict(evidence: &Evidence, link: &LinkStatus, peer: Role) -> (CheckState, String) {
    let problem = |fallback: &str| sentence(link.problem.as_deref().unwrap_or(""), fallback);
    let must_return = evidence.trial && evidence.peer_expected;
    match link.state {
        LinkState::Up => {
            let interface = link.interface.as_deref().unwrap_or("the link");
            (CheckState::Ok, format!("the {peer} board answers on {interface}"))
        }
        LinkState::Searching | LinkState::Lost if must_return => (
            CheckState::Waiting,
            format!("the {peer} board was in sight before this try and must be seen again"),
        ),
        LinkState::Searching if evidence.uptime_s < GRACE_S && !evidence.trial => {
            (CheckState::Waiting, format!("listening for the {peer} board"))
        }
        LinkState::Searching => (
            CheckState::Warn,
            problem(&format!(
                "the {peer} board has not been heard yet; check its power and the cable"
            )),
        ),
        LinkState::Lost => (
            CheckState::Warn,
            problem(&format!("the {peer} board has fallen silent; check its power and the cable")),
        ),
        LinkState::Conflict => (
            evidence.wrong_peer(),
            problem(
                "both boards claim the same role; flash one of them with the other provisioning file",
            ),
        ),
        LinkState::Foreign => (
            evidence.wrong_peer(),
            problem(
                "the other board belongs to another box; flash both with one pair of provisioning files",
            ),
        ),
    }
}

fn pool(evidence: &Evidence) -> Check {
    let Some(pool) = &evidence.pool else {
        return check("pool", evidence.silent(), "the pool agent has not looked at the disks yet");
    };
    let problem = |fallback: &str| sentence(pool.problem.as_deref().unwrap_or(""), fallback);
    let (state, detail) = match pool.state {
        PoolState::None => (CheckState::Ok, "no data disks named".into()),
        PoolState::Searching => (CheckState::Waiting, problem("looking for the data disks")),
        PoolState::Formatting => (CheckState::Waiting, problem("making the pool on blank disks")),
        PoolState::Mounted => {
            (CheckState::Ok, format!("mounted, {} disk(s), {}", pool.disks.len(), pool.profile))
        }
        PoolState::Degraded => (CheckState::Warn, problem("a disk of the pool is missing")),
        PoolState::Absent => (evidence.without_disks(), problem("a named data disk is not there")),
        PoolState::Foreign => (
            evidence.without_disks(),
            problem("a named data disk holds something else; it was not touched"),
        ),
        PoolState::Failed if evidence.trial && evidence.pool_missing => {
            (CheckState::Warn, problem("the pool cannot be used, nor could it be before this try"))
        }
        PoolState::Failed => (CheckState::Fail, problem("the pool cannot be used")),
    };
    check("pool", state, detail)
}

fn shares(evidence: &Evidence) -> Check {
    const NAME: &str = "shares";
    if evidence.shares_named.is_empty() {
        return check(NAME, CheckState::Ok, "no shares named");
    }
    let usable = |pool: &PoolStatus| matches!(pool.state, PoolState::Mounted | PoolState::Degraded);
    if !evidence.pool.as_ref().is_some_and(usable) {
        return check(NAME, evidence.without_pool(), "not served: the pool is not mounted");
    }
    let Some(served) = &evidence.shares else {
        return check(NAME, evidence.silent(), "the file server has not started yet");
    };
    for name in &evidence.shares_named {
        let problem = match served.iter().find(|share| &share.name == name) {
            None => Some("it is not served".to_owned()),
            Some(share) if !share.served => {
                Some(share.problem.clone().unwrap_or_else(|| "it is not served".into()))
            }
            Some(_) => match evidence.probes.iter().find(|probe| &probe.name == name) {
                None => Some("it has not been probed yet".into()),
                Some(probe) => probe.problem.clone(),
            },
        };
        if let Some(problem) = problem {
            return check(NAME, evidence.broken(), format!("share {name}: {problem}"));
        }
    }
    check(NAME, CheckState::Ok, format!("{} answer over 9P", evidence.shares_named.join(", ")))
}

fn mounts(evidence: &Evidence) -> Check {
    const NAME: &str = "mounts";
    if evidence.shares_named.is_empty() {
        return check(NAME, CheckState::Ok, "no shares named");
    }
    let Some(mounts) = &evidence.mounts else {
        return check(NAME, evidence.silent(), "the mount agent has not started yet");
    };
    let missing = |name: &&String| !mounts.iter().any(|m| &m.name == *name && m.mounted);
    let Some(name) = evidence.shares_named.iter().find(missing) else {
        return check(
            NAME,
            CheckState::Ok,
            format!("{} mounted", evidence.shares_named.join(", ")),
        );
    };
    let problem = mounts
        .iter()
        .find(|mount| &mount.name == name)
        .and_then(|mount| mount.problem.clone())
        .unwrap_or_else(|| "it is not mounted".into());
    let waits = if evidence.trial {
        evidence.peer_expected && !evidence.pool_missing
    } else {
        evidence.uptime_s < GRACE_S
    };
    let state = if waits { CheckState::Waiting } else { CheckState::Warn };
    check(NAME, state, format!("share {name}: {problem}"))
}

fn console(evidence: &Evidence) -> Check {
    if evidence.console_drawn {
        check("console", CheckState::Ok, "drawn")
    } else {
        check("console", evidence.silent(), "the console has not drawn its first frame")
    }
}

fn updater(evidence: &Evidence) -> Check {
    match &evidence.updater_problem {
        None => check("updater", CheckState::Ok, "answers"),
        Some(problem) => check("updater", evidence.broken(), problem),
    }
}

/// Units that PID 1 keeps starting again, or gave up. Only a warning: what the role needs has a check
/// of its own, and a helper that fails must not undo an upgrade.
fn services(evidence: &Evidence) -> Check {
    let broken: Vec<String> = evidence
        .units
        .iter()
        .filter(|unit| matches!(unit.phase, UnitPhase::Failed | UnitPhase::BackOff))
        .map(|unit| format!("{} ({})", unit.name, sentence(&unit.detail, "ended")))
        .collect();
    if broken.is_empty() {
        check("services", CheckState::Ok, "none failed")
    } else {
        check("services", CheckState::Warn, format!("failed: {}", broken.join(", ")))
    }
}

fn sentence(text: &str, fallback: &str) -> String {
    if text.is_empty() { fallback.into() } else { text.into() }
}

#[cfg(test)]
#[path = "health_tests.rs"]
mod tests;
