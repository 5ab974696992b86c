//! What PID 1 owes to people on a whole board: it is spoken to over D-Bus, it says which of a person's settings
//! it could not use and works without them, and it says why a release did not pass its trial.

use crate::bench::{addition, board, unit_file};
use crate::full_state;
use anyhow::{Context, Result, ensure};
use goblin_core_types::{CheckState, Role, UpdateOutcome, Version};
use goblin_tests::channel::Channel;
use goblin_tests::qemu::Board;
use std::path::Path;
use std::time::Duration;
use xtask::image::Addition;
use xtask::lab::{self, BOOT_LIMIT, Lab};
use xtask::{compile, host, units};

const LIMIT: Duration = Duration::from_secs(120);
/// Three tries of a release, each up to its gate's deadline.
const TRIAL_LIMIT: Duration = Duration::from_secs(900);
/// The program of the unit below.
const PROGRAM: &str = "/usr/lib/goblin/evil";
/// A unit that speaks D-Bus to PID 1.
const JUDGE: &str = "bus-judge";
/// A unit that no board of release 1 misses for its health.
const TUNED: &str = "time";
/// A unit without which the compute board is not healthy.
const NEEDED: &str = "mount";
/// What its file names in the release that is never healthy.
const ABSENT: &str = "/usr/bin/absent";

/// A unit that looks at the board through the D-Bus door, once in each boot.
pub fn bus_judge() -> Result<Vec<Addition>> {
    let unit = format!(
        "description = \"A program that speaks D-Bus\"\nkind = \"task\"\n\
         exec = [\"{PROGRAM}\", \"judge\", \"bus\"]\nafter = [\"dbus\", \"{TUNED}\"]\n\
         roles = [\"compute\"]\n"
    );
    let program = host::read(&compile::test_binaries()?.evil_unit)?;
    Ok(vec![unit_file(JUDGE, unit), addition(PROGRAM, 0o755, program)])
}

/// The units of a release whose compute board lacks a program, with little patience for it.
pub fn never_healthy() -> Result<Vec<Addition>> {
    let text = |name: &str| -> Result<String> {
        let path = units::folder().join(format!("{name}.toml"));
        Ok(String::from_utf8(host::read(&path)?)?)
    };
    let (needed, gate) = (text(NEEDED)?, text("health")?);
    let broken = needed.replacen("/usr/bin/goblin", ABSENT, 1);
    let hasty = gate.replacen("gate_deadline_s = 180", "gate_deadline_s = 30", 1);
    ensure!(broken != needed && hasty != gate, "the units are written otherwise");
    Ok(vec![unit_file(NEEDED, broken), unit_file("health", hasty)])
}

/// The judge ran when the board started, and heard and saw what it should.
pub fn the_bus_answers(channel: &Channel) -> Result<()> {
    let mut said = String::new();
    channel.wait_status("the judge of the bus has spoken", LIMIT, &mut |_| {
        let logs = ["logs", "--unit", JUDGE];
        said = channel.run_ok(&logs, LIMIT).unwrap_or_default();
        said.contains("bus ok") || said.contains("bus FAILED")
    })?;
    ensure!(said.contains("bus ok") && !said.contains("FAILED"), "{said}");
    println!("{}", said.trim());
    Ok(())
}

/// Settings of a unit as a torn write left them: the unit runs as it was shipped, and the screen says why.
pub fn settings_that_cannot_be_used(lab: &Lab, work: &Path) -> Result<(Board, Channel)> {
    let disk = lab.spec().disk(Role::Compute);
    let name = format!("units/{TUNED}.toml");
    full_state::put_config(&disk, work, &name, b"nice = 5\nmemory_ma")?;
    let compute = lab.start(Role::Compute)?;
    let channel = compute.channel()?;
    let status = lab::wait_both(&channel, Version::new(1, 0, 0), BOOT_LIMIT)?;
    let checks = board(&status, Role::Compute).map(|board| &board.health.checks);
    let told = checks.context("no compute board")?.iter().find(|check| check.name == "settings");
    let told = told.context("nothing is said of settings that cannot be used")?;
    ensure!(
        told.state == CheckState::Warn
            && told.detail.contains(&format!("{TUNED}.toml:2"))
            && told.detail.contains("correct the line or remove the file"),
        "{told:?}"
    );
    lab::wait_screen(&channel, |text| {
        let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
        text.contains("settings ignored") && text.contains(&format!("{TUNED}.toml:2"))
    })?;
    println!("settings that cannot be used: {}", told.detail);
    // The way out that is named, without another computer.
    channel.run_ok(&["units", "set", TUNED, "nice", "4"], LIMIT)?;
    let shown = channel.run_ok(&["units", "show", TUNED], LIMIT)?;
    ensure!(shown.contains("nice = 4") && !shown.contains("ignored"), "{shown}");
    channel.run_ok(&["units", "unset", TUNED, "nice"], LIMIT)?;
    Ok((compute, channel))
}

/// Release 2 starts, and the gate does not open: the board comes back by itself and says which check it was, and
/// what the unit said last.
pub fn a_release_that_is_never_healthy_falls_back(channel: &Channel) -> Result<()> {
    let _lost = channel.run(&["upgrade", "--board", "compute"], TRIAL_LIMIT);
    let fell_back = |report: &goblin_core_types::UpdateReport| {
        report.to == Version::new(2, 0, 0) && report.outcome == UpdateOutcome::FellBack
    };
    let status =
        channel.wait_status("the board fell back from release 2", TRIAL_LIMIT, &mut |status| {
            lab::both_healthy(status, Some(Version::new(1, 0, 0)))
                && board(status, Role::Compute)
                    .and_then(|board| board.update.last.as_ref())
                    .is_some_and(fell_back)
        })?;
    let compute = board(&status, Role::Compute).context("no compute board")?;
    let report = compute.update.last.as_ref().context("no report")?;
    ensure!(report.reason.contains(NEEDED), "the reason is only: {}", report.reason);
    ensure!(
        report.last_lines.iter().any(|line| line.contains(NEEDED) && line.contains("No such file")),
        "the last lines do not say what failed: {:#?}",
        report.last_lines
    );
    ensure!(
        compute.update.quarantine.iter().any(|bad| bad.version == Version::new(2, 0, 0)),
        "release 2 would be tried again: {:?}",
        compute.update.quarantine
    );
    let history = channel.run_ok(&["history", "--board", "compute"], LIMIT)?;
    ensure!(history.contains("fell back") && history.contains("No such file"), "{history}");
    println!("a release that is never healthy: {}", report.reason);
    Ok(())
}
