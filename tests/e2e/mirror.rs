//! A board with two system disks: either is pulled, and a stale one comes back first in boot order.

use crate::bench::{board, folder, lab_spec, publish, turn};
use anyhow::{Context, Result, ensure};
use goblin_core_types::{BoardStatus, MirrorState, Role, Version};
use goblin_tests::channel::Channel;
use goblin_tests::http::Web;
use goblin_tests::qemu::{Board, DataDisk};
use std::path::{Path, PathBuf};
use std::time::Duration;
use xtask::lab::{self, BOOT_LIMIT, Lab, SYSTEM_DISK_BYTES};

const LIMIT: Duration = Duration::from_secs(120);
const COMMAND_LIMIT: Duration = Duration::from_secs(300);
/// Serial of the disk that a board is flashed on.
const FIRST: &str = "system";
/// Serial of the disk that becomes the mirror.
const SECOND: &str = "second";
/// Serial of the disk that takes the place of the second one.
const THIRD: &str = "third";
/// Times that the power is cut while a disk is filled anew.
const CUTS: usize = 3;
/// What preinit says on the disk that missed writes.
const STALE_WORDS: &str = "this system disk is older than the other one";

/// What a person does over the years, longer than a test of each change may be: `cargo test --workspace --features
/// goblin-tests/e2e --test e2e -- --test-threads=1 --nocapture --ignored mirror`.
#[test]
#[ignore = "a quarter of an hour; run it by name after changes to the mirror"]
fn a_mirror_is_filled_through_cuts_replaced_given_up_and_not_taken_back_unasked() -> Result<()> {
    let _turn = turn();
    let (lab, _web, [first, second, third]) = three_disks("mirror-long")?;
    let both = [(second.as_path(), SECOND)];

    // Away for a while; the power is cut again and again while it is filled anew.
    let (mut machine, channel) = start(&lab, &first, &both)?;
    let made = wait(&channel, "the mirror is made", MirrorState::InStep, 1)?;
    machine.pull_disk(SECOND)?;
    wait(&channel, "the first disk alone", MirrorState::Alone, 1)?;
    // Put back in without a restart.
    machine.plug_disk(&DataDisk { path: second.clone(), serial: SECOND.into() })?;
    wait(&channel, "in step without a restart", MirrorState::InStep, 1)?;
    machine.pull_disk(SECOND)?;
    wait(&channel, "the first disk alone again", MirrorState::Alone, 1)?;
    channel.run_ok(&["units", "set", "time", "nice", "3"], COMMAND_LIMIT)?;
    machine.power_off(LIMIT)?;
    for _ in 0..CUTS {
        let (machine, channel) = start(&lab, &first, &both)?;
        wait(&channel, "it is filled anew", MirrorState::Making, 1)?;
        machine.cut_power();
    }
    let (machine, channel) = start(&lab, &first, &both)?;
    wait(&channel, "in step after cuts", MirrorState::InStep, 1)?;
    machine.power_off(LIMIT)?;

    // The filled disk has what was written while it was away.
    let (machine, channel) = start(&lab, &second, &[])?;
    let last = wait(&channel, "the second disk alone", MirrorState::Alone, 1)?;
    ensure!(made.box_id.is_some() && last.box_id == made.box_id, "another STATE: {last:?}");
    let shown = channel.run_ok(&["units", "show", "time"], COMMAND_LIMIT)?;
    ensure!(shown.contains("nice = 3"), "{shown}");
    machine.power_off(LIMIT)?;

    // Another disk takes the place of the first one, which lies about and is put in beside both one day.
    let (machine, channel) = start(&lab, &second, &[(&third, THIRD)])?;
    channel.run_ok(&["disks", "mirror", THIRD], COMMAND_LIMIT)?;
    wait(&channel, "another disk is in step", MirrorState::InStep, 1)?;
    machine.power_off(LIMIT)?;
    let (mut machine, channel) = start(&lab, &second, &[(&third, THIRD), (&first, SECOND)])?;
    wait(&channel, "three disks", MirrorState::InStep, 1)?;
    let told = channel.run_ok(&["disks"], COMMAND_LIMIT)?;
    println!("three disks: {told}");
    machine.pull_disk(SECOND)?;
    wait(&channel, "the old one is out", MirrorState::InStep, 1)?;

    // Back to one disk; the other one is a stranger from then on.
    let refused = channel.run(&["disks", "forget"], COMMAND_LIMIT)?;
    ensure!(refused.code == 4 && refused.err.contains("take it out first"), "{refused:?}");
    machine.pull_disk(THIRD)?;
    wait(&channel, "the third is out", MirrorState::Alone, 1)?;
    channel.run_ok(&["disks", "forget"], COMMAND_LIMIT)?;
    // The file system still counts on the disk that went while it was mounted.
    channel.wait_status("it is told when", BOOT_LIMIT, &mut |status| {
        let disks = board(status, Role::Compute).and_then(|board| board.disks.as_ref());
        disks.is_some_and(|disks| disks.detail.contains("started the next time"))
    })?;
    machine.power_off(LIMIT)?;
    let (machine, channel) = start(&lab, &second, &[])?;
    // A board with one disk says nothing of it in its status; nor does one that has not looked yet.
    channel.wait_status("one disk again", BOOT_LIMIT, &mut |_| {
        let told = channel.run_ok(&["logs", "--unit", "disks"], COMMAND_LIMIT);
        told.is_ok_and(|lines| lines.contains("state=Single"))
    })?;
    channel.run_ok(&["units", "set", "time", "nice", "5"], COMMAND_LIMIT)?;
    machine.power_off(LIMIT)?;
    let (machine, channel) = start(&lab, &second, &[(&third, THIRD)])?;
    let told = wait(&channel, "a stranger", MirrorState::Foreign, 1)?;
    let detail = told.disks.map(|disks| disks.detail).unwrap_or_default();
    ensure!(detail.contains(THIRD) && told.box_id == made.box_id, "{detail}");
    println!("a disk that was given up: {detail}");
    machine.power_off(LIMIT)
}

/// A box whose compute board is flashed on the first of three disks, the others blank.
fn three_disks(name: &str) -> Result<(Lab, Web, [PathBuf; 3])> {
    let dir = folder(name)?;
    let (spec, ports) = lab_spec(&dir)?;
    let web = lab::serve(&dir.join("www"), ports)?;
    let lab = Lab::prepare(spec, ports)?;
    let first = lab.spec().disk(Role::Compute);
    let text = format!("{}\n[disk]\nsystem_mirror = \"{SECOND}\"\n", lab.pair.compute);
    xtask::flash::write_disk_image(&lab.spec().image, &text, &first, SYSTEM_DISK_BYTES)?;
    let [second, third] = ["second.img", "third.img"].map(|name| dir.join(name));
    for blank in [&second, &third] {
        std::fs::File::create(blank)?.set_len(SYSTEM_DISK_BYTES)?;
    }
    Ok((lab, web, [first, second, third]))
}

#[test]
fn either_system_disk_can_be_pulled_and_a_stale_one_is_not_booted() -> Result<()> {
    let _turn = turn();
    let (lab, _web, [first, second, third]) = three_disks("mirror")?;

    // A blank second disk becomes the mirror, also where the power is cut in the middle of it.
    let both = [(second.as_path(), SECOND)];
    let (machine, channel) = start(&lab, &first, &both)?;
    wait(&channel, "the mirror is begun", MirrorState::Making, 1)?;
    machine.cut_power();
    let (mut machine, channel) = start(&lab, &first, &both)?;
    let made = wait(&channel, "the mirror is made", MirrorState::InStep, 1)?;

    // The disk that the board was started from dies while it works: it goes on from the other one.
    publish(&lab.spec().dir.join("www"), 2, Vec::new())?;
    machine.pull_disk(FIRST)?;
    let alone = wait(&channel, "the second disk alone", MirrorState::Alone, 1)?;
    let works_from = alone.disks.as_ref().map(|disks| disks.booted.as_str());
    ensure!(works_from == Some(SECOND), "{:?}", alone.disks);
    // The answer is cut off by the reboot at times; the status tells.
    let said = channel.run(&["upgrade", "--board", "compute", "--yes"], COMMAND_LIMIT);
    let newer = wait(&channel, "upgraded on one disk", MirrorState::Alone, 2)
        .with_context(|| format!("the upgrade said: {said:?}"))?;
    ensure!(made.box_id.is_some() && newer.box_id == made.box_id, "another STATE: {newer:?}");
    machine.power_off(LIMIT)?;

    // The first one missed that, and comes first in boot order.
    let (machine, channel) = start(&lab, &first, &both)?;
    machine.serial.wait_from(0, STALE_WORDS, BOOT_LIMIT)?;
    let newer = wait(&channel, "in step again", MirrorState::InStep, 2)?;
    ensure!(
        newer.boot.reports.iter().any(|report| report.to == Version::new(2, 0, 0)),
        "{newer:?}"
    );
    machine.power_off(LIMIT)?;

    // And has it all now; another disk takes the place of the second one, which is lost.
    let (machine, channel) = start(&lab, &first, &[(&third, THIRD)])?;
    let last = wait(&channel, "the first disk alone", MirrorState::Alone, 2)?;
    ensure!(last.box_id == made.box_id, "another STATE: {last:?}");
    let refused = channel.run(&["disks", "mirror", FIRST], COMMAND_LIMIT)?;
    ensure!(refused.code == 4 && refused.err.contains(THIRD), "{refused:?}");
    channel.run_ok(&["disks", "mirror", THIRD], COMMAND_LIMIT)?;
    wait(&channel, "another disk is in step", MirrorState::InStep, 2)?;
    let told = channel.run_ok(&["disks"], COMMAND_LIMIT)?;
    ensure!(told.contains(FIRST) && told.contains(THIRD) && told.contains("in step"), "{told}");
    machine.power_off(LIMIT)
}

/// The compute board alone, with its system disk and others of these serials; they are in boot order.
fn start(lab: &Lab, first: &Path, others: &[(&Path, &str)]) -> Result<(Board, Channel)> {
    let mut spec = lab.board_spec(Role::Compute);
    spec.cable = None;
    spec.hot_disks = true;
    spec.system_disk = first.into();
    let disk = |(path, serial): &(&Path, &str)| DataDisk {
        path: path.to_path_buf(),
        serial: (*serial).into(),
    };
    spec.data_disks = others.iter().map(disk).collect();
    let board = Board::start(spec)?;
    let channel = board.channel()?;
    Ok((board, channel))
}

/// Waits until the disks stand so and this release runs, not as a trial.
fn wait(channel: &Channel, what: &str, state: MirrorState, release: u32) -> Result<BoardStatus> {
    let is_so = |found: &BoardStatus| {
        found.disks.as_ref().is_some_and(|disks| disks.state == state)
            && found.boot.version == Some(Version::new(release, 0, 0))
            && !found.boot.trial
    };
    let mut seen = None;
    let status = channel
        .wait_status(what, BOOT_LIMIT * 2, &mut |status| {
            let found = board(status, Role::Compute);
            seen = found.map(|found| (found.disks.clone(), found.boot.version, found.boot.trial));
            found.is_some_and(is_so)
        })
        .with_context(|| format!("seen last: {seen:?}"))?;
    board(&status, Role::Compute).cloned().context("no compute board")
}
