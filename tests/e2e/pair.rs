//! Two boards that do not have an easy day: one is late, disks are missing or foreign, the cable is
//! pulled, the repository lies. Each time the box says what is wrong, and recovers when it is put right.

use crate::bench::{board, folder, lab_spec, publish, turn};
use anyhow::{Context, Result, ensure};
use goblin_core_types::{BoxStatus, HealthState, LinkState, PoolState, Role, Version};
use goblin_tests::channel::Channel;
use goblin_tests::http::{Fault, Web};
use goblin_tests::qemu::{Board, LINK_DEVICE};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::Duration;
use xtask::lab::{self, BOOT_LIMIT, Lab};

const LIMIT: Duration = Duration::from_secs(120);
const COMMAND_LIMIT: Duration = Duration::from_secs(300);

#[test]
fn a_box_with_a_hard_day_recovers() -> Result<()> {
    let _turn = turn();
    let dir = folder("pair")?;
    let (spec, ports) = lab_spec(&dir)?;
    let web = lab::serve(&dir.join("www"), ports)?;
    let lab = Lab::prepare(spec, ports)?;
    let mut compute = lab.start(Role::Compute)?;
    let channel = compute.channel()?;
    compute_is_alone(&channel)?;
    foreign_and_absent_disks(&lab, &channel)?;
    let mut storage = lab.start(Role::Storage)?;
    lab::wait_both(&channel, Version::new(1, 0, 0), BOOT_LIMIT)?;
    commands_answer(&channel)?;
    cable_is_pulled(&mut compute, &mut storage, &channel)?;
    lying_repository(&channel, &web, &dir.join("www"))?;
    compute.power_off(LIMIT)?;
    storage.power_off(LIMIT)
}

/// The other board is not there: this one works, and says so.
fn compute_is_alone(channel: &Channel) -> Result<()> {
    let status =
        channel.wait_status("the compute board is up alone", BOOT_LIMIT, &mut |status| {
            board(status, Role::Compute)
                .is_some_and(|board| board.health.state == HealthState::Degraded)
        })?;
    ensure!(status.boards.len() == 1 && !status.absent.is_empty(), "absent: {:?}", status.absent);
    let board = board(&status, Role::Compute).context("no compute board")?;
    ensure!(board.link.state == LinkState::Searching, "link: {:?}", board.link);
    let refused = channel.run(&["reboot", "--board", "storage"], COMMAND_LIMIT)?;
    ensure!(refused.code != 0 && !refused.err.is_empty(), "rebooting an absent board: {refused:?}");
    Ok(())
}

/// Boots the storage board with disks that it must not use, and looks at them afterwards.
fn foreign_and_absent_disks(lab: &Lab, channel: &Channel) -> Result<()> {
    let mut spec = lab.board_spec(Role::Storage);
    let foreign = spec.data_disks.first().context("no data disk")?.path.clone();
    let mark = foreign_disk(&foreign)?;
    let storage = Board::start(spec.clone())?;
    let status = wait_pool(channel, PoolState::Foreign)?;
    let pool = board(&status, Role::Storage).and_then(|b| b.pool.as_ref()).context("no pool")?;
    ensure!(pool.problem.is_some(), "a foreign disk without a word: {pool:?}");
    storage.power_off(LIMIT)?;
    let mut seen = vec![0u8; mark.len()];
    std::fs::File::open(&foreign)?.read_exact_at(&mut seen, 1024)?;
    ensure!(seen == mark, "the foreign disk was written to");
    spec.data_disks.pop();
    std::fs::File::create(&foreign)?.set_len(lab.spec().data_disk_bytes)?;
    let storage = Board::start(spec)?;
    wait_pool(channel, PoolState::Absent)?;
    storage.power_off(LIMIT)
}

/// The superblock of an ext4 file system, as far as anything needs to recognise it.
fn foreign_disk(path: &Path) -> Result<Vec<u8>> {
    let mut superblock = vec![0u8; 1024];
    superblock.splice(0x38..0x3a, [0x53, 0xef]);
    superblock.splice(0x78..0x80, *b"PRECIOUS");
    std::fs::File::options().write(true).open(path)?.write_all_at(&superblock, 1024)?;
    Ok(superblock)
}

fn wait_pool(channel: &Channel, wanted: PoolState) -> Result<BoxStatus> {
    channel.wait_status(&format!("the pool is {wanted:?}"), BOOT_LIMIT, &mut |status| {
        board(status, Role::Storage)
            .and_then(|board| board.pool.as_ref())
            .is_some_and(|pool| pool.state == wanted)
    })
}

fn commands_answer(channel: &Channel) -> Result<()> {
    for board in ["compute", "storage"] {
        let logs = channel.run_ok(&["logs", "--board", board, "--unit", "init"], COMMAND_LIMIT)?;
        ensure!(!logs.trim().is_empty(), "no log of {board}'s init");
        let units = channel.run_ok(&["units", "--board", board], COMMAND_LIMIT)?;
        ensure!(units.contains("control"), "units of {board}:\n{units}");
    }
    let wrong = channel.run(&["frobnicate"], COMMAND_LIMIT)?;
    ensure!(wrong.code == 2, "an unknown command exits {}", wrong.code);
    Ok(())
}

/// The cable out and in again, with the share mounted on the compute board.
fn cable_is_pulled(compute: &mut Board, storage: &mut Board, channel: &Channel) -> Result<()> {
    for board in [&mut *compute, &mut *storage] {
        board.qmp().set_cable(LINK_DEVICE, false)?;
    }
    channel.wait_status("the link is lost", LIMIT, &mut |status| {
        board(status, Role::Compute).is_some_and(|board| board.link.state == LinkState::Lost)
    })?;
    for board in [&mut *compute, &mut *storage] {
        board.qmp().set_cable(LINK_DEVICE, true)?;
    }
    lab::wait_both(channel, Version::new(1, 0, 0), LIMIT)?;
    channel.run_ok(&["shares", "tree", lab::SHARE, "--no-digest"], COMMAND_LIMIT)?;
    Ok(())
}

/// Releases that must not be taken: each is refused with its kind, and nothing changes.
fn lying_repository(channel: &Channel, web: &Web, repository: &Path) -> Result<()> {
    publish(repository, 2)?;
    for (path, fault, kind) in [
        ("metadata/timestamp.json", Fault::FlipBit, "signature"),
        ("blobs/", Fault::FlipBit, "blob-mismatch"),
        ("blobs/", Fault::StopHalfway, "network"),
        ("metadata/timestamp.json", Fault::Missing, "network"),
    ] {
        web.break_paths(path, fault.clone());
        let output = channel.run(&["upgrade", "--board", "compute", "--json"], COMMAND_LIMIT)?;
        web.repair();
        ensure!(output.code != 0, "{path} with {fault:?} was taken: {output:?}");
        let said = format!("{}{}", output.out, output.err);
        ensure!(said.contains(kind), "{path} with {fault:?}: wanted `{kind}`, got {said}");
        let status = channel.status(LIMIT)?;
        ensure!(lab::both_healthy(&status, Some(Version::new(1, 0, 0))), "after {fault:?}");
    }
    let offered = channel.run_ok(&["check"], COMMAND_LIMIT)?;
    ensure!(offered.contains('2'), "`goblin check` does not offer release 2: {offered}");
    Ok(())
}
