//! The board's status, joined from the parts that the agents publish and from what the kernel and
//! PID 1 say.

use crate::proc::KernelFacts;
use goblin_core_config::Provision;
use goblin_core_types::{
    BoardStatus, BootRecord, BootStatus, Check, CheckState, Health, HealthState, InitReply,
    InitRequest, LinkStatus, MirrorState, MirrorStatus, MountStatus, NetStatus, PoolStatus,
    ProvisionStatus, Role, STATUS_SCHEMA, ShareStatus, SlotStatus, TimeStatus, UnitPhase,
    UnitStatus, UpdateStatus, paths,
};
use goblin_sys::board::{self, Release};
use std::path::Path;

/// What each agent published; absent where it has not spoken.
#[derive(Debug, Clone, Default)]
pub struct Parts {
    /// Part `net`.
    pub net: Option<NetStatus>,
    /// Part `link`.
    pub link: Option<LinkStatus>,
    /// Part `time`.
    pub time: Option<TimeStatus>,
    /// Part `pool`.
    pub pool: Option<PoolStatus>,
    /// Part `share`.
    pub shares: Option<Vec<ShareStatus>>,
    /// Part `mount`.
    pub mounts: Option<Vec<MountStatus>>,
    /// Part `update`.
    pub update: Option<UpdateStatus>,
    /// Part `slots`.
    pub slots: Option<Vec<SlotStatus>>,
    /// Part `health`.
    pub health: Option<Health>,
    /// Part `disks`.
    pub disks: Option<MirrorStatus>,
    /// Part `provision`.
    pub provision: Option<ProvisionStatus>,
}

impl Parts {
    /// Reads every part that is there.
    pub fn read() -> Self {
        use goblin_sys::state::read;
        Self {
            net: read("net"),
            link: read("link"),
            time: read("time"),
            pool: read("pool"),
            shares: read("share"),
            mounts: read("mount"),
            update: read("update"),
            slots: read("slots"),
            health: read("health"),
            disks: read("disks"),
            provision: read("provision"),
        }
    }
}

/// Everything a status is joined from.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    /// What the board is for.
    pub role: Option<Role>,
    /// The provisioning file that was applied.
    pub provision: Option<Provision>,
    /// What the agents published.
    pub parts: Parts,
    /// PID 1's answer about its units.
    pub init: Option<InitReply>,
    /// What the kernel says.
    pub kernel: KernelFacts,
    /// The running release.
    pub release: Release,
    /// The boot record.
    pub record: Option<BootRecord>,
    /// The loader entry that was started.
    pub entry: Option<String>,
}

impl Sources {
    /// Asks everybody. What does not answer stays absent.
    pub fn read() -> Self {
        let provision = goblin_sys::provision::load().ok();
        let record = goblin_sys::record::find().ok().flatten();
        Self {
            role: provision.as_ref().map(|found| found.role),
            provision,
            parts: Parts::read(),
            init: crate::lines::ask(Path::new(paths::INIT_SOCKET), &InitRequest::Units).ok(),
            kernel: KernelFacts::read(),
            release: board::release(),
            record: record.and_then(|partition| partition.read().ok()),
            entry: goblin_sys::efivar::loader_entry_selected(),
        }
    }
}

/// Joins the sources into one status. A source that is absent leaves its default.
pub fn join(sources: Sources) -> BoardStatus {
    let Sources { role, provision, parts, init, kernel, release, record, entry } = sources;
    let record = record.unwrap_or_default();
    let (units, trial) = match init {
        Some(InitReply::Units { units, trial, .. }) => (units, trial),
        _ => (Vec::new(), false),
    };
    let mut health = fresh_health(parts.health.unwrap_or_default(), &units);
    health.checks.extend(ignored_settings(&units));
    let slots = parts.slots.unwrap_or_default();
    // The loader's variable is absent where the updater can still tell by the version.
    let running = slots.iter().find(|slot| slot.running).map(|slot| slot.file.clone());
    let pool = match role {
        Some(Role::Storage) => Some(parts.pool.unwrap_or_default()),
        _ => None,
    };
    let host = provision.as_ref().map(|provision| provision.host.clone()).unwrap_or(kernel.host);
    BoardStatus {
        schema: STATUS_SCHEMA,
        role,
        host,
        box_id: provision.map(|provision| provision.the_box.id),
        boot: BootStatus {
            version: release.version,
            notes: release.notes,
            kernel: kernel.release,
            boot_id: kernel.boot_id,
            uptime_s: kernel.uptime_s,
            trial,
            entry: entry.or(running).unwrap_or_default(),
            last_reset: record.last_reset,
            attempts: record.attempts,
            reports: record.reports,
        },
        slots,
        health,
        units,
        network: parts.net.unwrap_or_default(),
        link: parts.link.unwrap_or_default(),
        time: parts.time.unwrap_or_default(),
        pool,
        shares: parts.shares.unwrap_or_default(),
        mounts: parts.mounts.unwrap_or_default(),
        update: parts.update.unwrap_or_default(),
        disks: parts.disks.filter(|disks| disks.state != MirrorState::Single),
        provision: parts.provision.unwrap_or_default(),
        memory: kernel.memory,
    }
}

/// The health agent's last verdict, unless that agent has gone: then nobody looks any more, and what was
/// healthy may not be.
fn fresh_health(mut health: Health, units: &[UnitStatus]) -> Health {
    let gone = units.iter().find(|unit| {
        let ended = matches!(unit.phase, UnitPhase::Failed | UnitPhase::BackOff);
        unit.name == "health" && ended
    });
    if let Some(unit) = gone
        && matches!(health.state, HealthState::Healthy | HealthState::Degraded)
    {
        let detail = format!("the health agent does not run, the checks are old: {}", unit.detail);
        health.state = HealthState::Failing;
        health.checks.push(Check { name: "health".into(), state: CheckState::Fail, detail });
    }
    health
}

/// Units whose settings are ignored: the board works, but not as a person wants it.
fn ignored_settings(units: &[UnitStatus]) -> impl Iterator<Item = Check> {
    units.iter().filter(|unit| !unit.note.is_empty()).map(|unit| Check {
        name: "settings".into(),
        state: CheckState::Warn,
        detail: format!("unit {}: {}", unit.name, unit.note),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use goblin_core_types::{PoolState, SlotState, Version};

    #[test]
    fn a_board_that_knows_nothing_still_has_a_status() {
        let status = join(Sources::default());
        assert_eq!(status.schema, STATUS_SCHEMA);
        assert_eq!(status.role, None);
        assert_eq!(status.pool, None);
    }

    #[test]
    fn only_the_storage_board_has_a_pool() {
        let parts = Parts {
            pool: Some(PoolStatus { state: PoolState::Mounted, ..PoolStatus::default() }),
            ..Parts::default()
        };
        let of = |role| join(Sources { role, parts: parts.clone(), ..Sources::default() }).pool;
        assert_eq!(of(Some(Role::Compute)), None);
        assert_eq!(of(Some(Role::Storage)).unwrap().state, PoolState::Mounted);
    }

    #[test]
    fn a_verdict_without_its_judge_is_not_healthy() {
        let healthy = Health { state: HealthState::Healthy, checks: Vec::new() };
        let unit = |phase| UnitStatus {
            name: "health".into(),
            description: String::new(),
            phase,
            pid: None,
            restarts: 1,
            detail: "ended with status 1".into(),
            ready_ms: None,
            note: String::new(),
        };
        assert_eq!(fresh_health(healthy.clone(), &[unit(UnitPhase::Ready)]), healthy);
        let stale = fresh_health(healthy, &[unit(UnitPhase::BackOff)]);
        assert_eq!(stale.state, HealthState::Failing);
        assert!(stale.checks[0].detail.contains("does not run"));
    }

    #[test]
    fn settings_that_are_ignored_are_among_the_checks() {
        let unit = |name: &str, note: &str| UnitStatus {
            name: name.into(),
            description: String::new(),
            phase: UnitPhase::Ready,
            pid: None,
            restarts: 0,
            detail: String::new(),
            ready_ms: None,
            note: note.into(),
        };
        let units = vec![unit("share", "settings ignored: why"), unit("net", "")];
        let init = InitReply::Units { units, init_start_ms: 0, trial: false, dropped_lines: 0 };
        let status = join(Sources { init: Some(init), ..Sources::default() });
        let [check] = status.health.checks.as_slice() else { panic!("{:?}", status.health) };
        assert_eq!(check.detail, "unit share: settings ignored: why");
    }

    #[test]
    fn trial_and_units_come_from_pid_1_and_the_entry_from_the_running_slot() {
        let status = join(Sources {
            init: Some(InitReply::Units {
                units: vec![UnitStatus {
                    name: "net".into(),
                    description: String::new(),
                    phase: UnitPhase::Ready,
                    pid: Some(5),
                    restarts: 0,
                    detail: String::new(),
                    ready_ms: Some(12),
                    note: String::new(),
                }],
                init_start_ms: 1,
                trial: true,
                dropped_lines: 0,
            }),
            parts: Parts {
                slots: Some(vec![SlotStatus {
                    version: Version::new(2, 0, 0),
                    file: "goblinux_2+2-1.efi".into(),
                    state: SlotState::Trial { left: 2, done: 1 },
                    running: true,
                    size_bytes: 1,
                }]),
                ..Parts::default()
            },
            ..Sources::default()
        });
        assert!(status.boot.trial);
        assert_eq!(status.units.len(), 1);
        assert_eq!(status.boot.entry, "goblinux_2+2-1.efi");
    }
}
