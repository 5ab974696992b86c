//! A day in the life of one board, with every write and flush of its system disk logged.

use super::Places;
use crate::lab::{self, BOOT_LIMIT, Lab, LabSpec, Ports};
use crate::release::{self, ReleaseSpec};
use crate::{host, powercut::copy_sparse};
use anyhow::{Context, Result, bail, ensure};
use goblin_core_types::{
    BoardStatus, BoxStatus, HealthState, ResetLevel, ResetReport, Role, UpdateOutcome, Version,
};
use goblin_tests::channel::Channel;
use goblin_tests::qemu::{Board, BoardSpec};
use goblin_tests::writelog;
use serde::{Deserialize, Serialize};
use std::path::Path;
use std::time::Duration;

/// Longest an upgrade of the one board may take: download, rebuild, reboot.
const UPGRADE_LIMIT: Duration = Duration::from_secs(600);
/// Longest a board may take to switch itself off.
const OFF_LIMIT: Duration = Duration::from_secs(90);

/// A stretch of the log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Phase {
    /// What the board went through.
    pub(super) name: String,
    /// Number of the first log entry after it.
    pub(super) end: u64,
}

impl Phase {
    pub(super) fn new(name: &str, end: u64) -> Self {
        Self { name: name.into(), end }
    }
}

/// Phase in which the board is provisioned.
pub(super) const FIRST_BOOT: &str = "first boot";
/// Phase in which settings are written.
pub(super) const SETTINGS: &str = "settings";
/// Phase from the order to upgrade until the new release is good.
pub(super) const UPGRADE: &str = "upgrade";
/// Phase in which a release fails its trial.
pub(super) const FALL_BACK: &str = "fall back";
/// Phase of the factory reset.
pub(super) const RESET: &str = "factory reset";
/// Phase after all orders.
pub(super) const POWER_OFF: &str = "power off";

/// The release that the board is flashed with, and that it pins.
pub(super) const FIRST: Version = Version::new(1, 0, 0);
/// The release that is upgraded to.
pub(super) const SECOND: Version = Version::new(2, 0, 0);
/// A release whose PID 1 ends.
pub(super) const BROKEN: Version = Version::new(3, 0, 0);

/// Plays first boot, a setting, an upgrade, one that falls back, a rollback and a factory reset on a freshly flashed
/// compute board that is alone.
pub(super) fn record(places: &Places) -> Result<Vec<Phase>> {
    let repository = places.repository();
    publish(&repository)?;
    let (lab, ports) = lab(places)?;
    copy_sparse(&lab.spec().disk(Role::Compute), &places.before())?;
    let web = lab::serve(&repository, ports)?;
    let spec = BoardSpec { write_log: Some(places.log()), ..alone(&lab) };
    let board = Board::start(spec)?;
    let channel = board.channel()?;
    let mut phases = Vec::new();
    let played = play(&channel, places, &mut phases)
        .with_context(|| format!("the board's last lines:\n{}", board.serial.tail(15)));
    match played {
        Ok(()) => board.power_off(OFF_LIMIT)?,
        Err(err) => return Err(err),
    }
    drop(web);
    mark(places, &mut phases, POWER_OFF)?;
    host::write_whole(&places.phases(), &serde_json::to_vec_pretty(&phases)?)?;
    Ok(phases)
}

/// The compute board without its cable.
pub(super) fn alone(lab: &Lab) -> BoardSpec {
    BoardSpec { cable: None, ..lab.board_spec(Role::Compute) }
}

/// The box whose compute board is recorded; its disks are made when absent.
pub(super) fn lab(places: &Places) -> Result<(Lab, Ports)> {
    let repository = places.repository();
    let ports = Ports::of(&places.dir)?;
    let image = release::published_image(&repository, FIRST).context("release 1 is gone")?;
    let spec = LabSpec {
        dir: places.dir.clone(),
        image,
        trust_root: release::trust_root(&repository)?,
        data_disk_bytes: 1 << 30,
        data_disks: 0,
        vnc: false,
        update_url: lab::guest_url(ports),
        box_name: "power cut".into(),
    };
    Ok((Lab::prepare(spec, ports)?, ports))
}

fn publish(repository: &Path) -> Result<()> {
    for (version, notes) in [(FIRST, "The first."), (SECOND, "The second.")] {
        release::publish(&ReleaseSpec::new(version, notes), repository)?;
    }
    let broken = ReleaseSpec::new(BROKEN, "Ends its own PID 1.").broken_init();
    release::publish(&broken, repository).map(drop)
}

fn mark(places: &Places, phases: &mut Vec<Phase>, name: &str) -> Result<()> {
    let end = writelog::entry_count(&places.log())?;
    host::say(format!("recorded: {name}, {end} log entries"));
    phases.push(Phase::new(name, end));
    Ok(())
}

fn play(channel: &Channel, places: &Places, phases: &mut Vec<Phase>) -> Result<()> {
    wait(channel, "first boot", BOOT_LIMIT, &|board| serves(board, FIRST))?;
    mark(places, phases, FIRST_BOOT)?;
    command(channel, &["pin", "1", "--board", "compute"])?;
    mark(places, phases, SETTINGS)?;
    upgrade(channel)?;
    mark(places, phases, UPGRADE)?;
    // The answer is lost with the board's restart, or tells of the failure: what the board says later counts.
    let _ = channel.run(&["upgrade", "--to", "3", "--board", "compute"], UPGRADE_LIMIT);
    wait(channel, "fell back to release 2", UPGRADE_LIMIT, &|board| {
        serves(board, SECOND) && reported(board, UpdateOutcome::FellBack)
    })?;
    mark(places, phases, FALL_BACK)?;
    command(channel, &["rollback", "--board", "compute"])?;
    wait(channel, "back on release 1", UPGRADE_LIMIT, &|board| {
        serves(board, FIRST) && reported(board, UpdateOutcome::RolledBack)
    })?;
    mark(places, phases, "rollback")?;
    command(channel, &["factory-reset", "--level", "system", "--board", "compute", "--yes"])?;
    wait(channel, "up after the factory reset", UPGRADE_LIMIT, &|board| {
        let done = |reset: &ResetReport| reset.done && reset.level == ResetLevel::System;
        serves(board, FIRST) && board.boot.last_reset.as_ref().is_some_and(done)
    })?;
    mark(places, phases, RESET)
}

/// Takes the board to release 2 and waits until it is good.
pub(super) fn upgrade(channel: &Channel) -> Result<()> {
    command(channel, &["upgrade", "--to", "2", "--board", "compute"])?;
    wait(channel, "good on release 2", UPGRADE_LIMIT, &|board| {
        serves(board, SECOND) && reported(board, UpdateOutcome::Good)
    })
}

fn reported(board: &BoardStatus, outcome: UpdateOutcome) -> bool {
    board.boot.reports.last().is_some_and(|report| report.outcome == outcome)
}

/// Up on a release, not as a trial. Without its peer a board is degraded at best.
fn serves(board: &BoardStatus, version: Version) -> bool {
    serves_any(board) && board.boot.version == Some(version)
}

/// Up on a good release, with the settings that a board has after `phase`.
pub(super) fn goes_on(board: &BoardStatus, phase: &str) -> bool {
    let is_kept = match phase {
        // A cut may leave the old settings or the new ones; before, there is nothing to lose.
        FIRST_BOOT | SETTINGS | RESET => true,
        POWER_OFF => board.update.settings.pins.is_empty(),
        _ => board.update.settings.pins == [FIRST],
    };
    serves_any(board) && board.boot.version != Some(BROKEN) && is_kept
}

/// Up on whatever release, not as a trial.
fn serves_any(board: &BoardStatus) -> bool {
    matches!(board.health.state, HealthState::Healthy | HealthState::Degraded) && !board.boot.trial
}

/// Waits until the compute board is as wanted.
pub(super) fn wait(
    channel: &Channel,
    what: &str,
    limit: Duration,
    wanted: &dyn Fn(&BoardStatus) -> bool,
) -> Result<()> {
    let seen = |status: &BoxStatus| {
        status.boards.iter().any(|board| board.role == Some(Role::Compute) && wanted(board))
    };
    channel.wait_status(what, limit, &mut |status| seen(status)).map(drop)
}

/// Runs a command that ends with a reboot: a lost answer is expected, a refusal is not.
fn command(channel: &Channel, argv: &[&str]) -> Result<()> {
    match channel.run(argv, UPGRADE_LIMIT) {
        Ok(output) if output.code != 0 => bail!("{argv:?} failed: {}", output.err.trim()),
        Ok(_) | Err(_) => Ok(()),
    }
}

/// The phases of an earlier recording.
pub(super) fn read_phases(places: &Places) -> Result<Vec<Phase>> {
    let bytes = host::read(&places.phases()).context("there is no recording to replay")?;
    let phases: Vec<Phase> = serde_json::from_slice(&bytes)?;
    ensure!(!phases.is_empty(), "the recording has no phases");
    Ok(phases)
}
