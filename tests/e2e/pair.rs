//! Two boards that do not have an easy day: one is late, disks are missing or foreign, the cable is
//! pulled, the repository lies. Each time the box says what is wrong, and recovers when it is put right.

use crate::bench::{board, copy_folder, folder, lab_spec_of, publish, pull_cable, turn};
use crate::full_state;
use crate::{menu, plugs, trial};
use anyhow::{Context, Result, ensure};

use goblin_core_manifest::time::Instant;
use goblin_core_types::{
    BoardStatus, BootListed, BoxStatus, CheckState, HealthState, LinkState, PoolState, Role,
    Version,
};
use goblin_tests::channel::Channel;
use goblin_tests::http::{Fault, Web};
use goblin_tests::qemu::Board;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use xtask::lab::{self, BOOT_LIMIT, Lab};
use xtask::release;

const LIMIT: Duration = Duration::from_secs(120);
const COMMAND_LIMIT: Duration = Duration::from_secs(300);
/// A system disk whose STATE is soon full.
const SMALL_DISK_BYTES: u64 = 1700 << 20;
/// Said to two boards with one provisioning file.
const TWIN_WORDS: &str = "each board needs its own file of the pair";
/// Folder of the repository's metadata as it was before release 2.
const FIRST_METADATA: &str = "first-metadata";

#[test]
fn a_box_with_a_hard_day_recovers() -> Result<()> {
    let _turn = turn();
    let dir = folder("pair")?;
    let (spec, ports) = lab_spec_of(&dir, trial::bus_judge()?)?;
    let web = lab::serve(&dir.join("www"), ports)?;
    let lab = Lab::prepare(spec, ports)?;
    let mut compute = lab.start(Role::Compute)?;
    let channel = compute.channel()?;
    compute_is_alone(&channel)?;
    twin_of_the_compute_board(&lab, &channel)?;
    // What the repository said before it had release 2.
    copy_folder(&dir.join("www/metadata"), &dir.join("www").join(FIRST_METADATA))?;
    publish(&dir.join("www"), 2, trial::never_healthy()?)?;
    useless_disks_and_no_room(&lab, &channel)?;
    let mut storage = lab.start(Role::Storage)?;
    lab::wait_both(&channel, Version::new(1, 0, 0), BOOT_LIMIT)?;
    commands_answer(&channel)?;
    plugs::cards_have_names_that_stay(&channel)?;
    plugs::a_stick_comes_and_goes(&mut storage, &channel, &dir)?;
    plugs::devices_call_in_what_they_may(&mut storage, &channel)?;
    earlier_boots_are_remembered(&channel)?;
    cable_is_pulled(&mut compute, &mut storage, &channel)?;
    lying_repository(&channel, &web, &dir.join("www"))?;
    trial::the_bus_answers(&channel)?;
    compute.power_off(LIMIT)?;
    let (compute, channel) = trial::settings_that_cannot_be_used(&lab, &dir)?;
    trial::a_release_that_is_never_healthy_falls_back(&channel)?;
    compute.power_off(LIMIT)?;
    let compute = menu::everything_is_reset_from_the_boot_menu(&lab)?;
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

/// The storage board was flashed with the compute board's file: the box says so, and nothing of the
/// compute board changes. The next flash puts it right.
fn twin_of_the_compute_board(lab: &Lab, channel: &Channel) -> Result<()> {
    let disk = lab.spec().disk(Role::Storage);
    let flash = |text: &str| {
        xtask::flash::write_disk_image(&lab.spec().image, text, &disk, SMALL_DISK_BYTES)
    };
    let before = channel.status(LIMIT)?;
    flash(&lab.pair.compute)?;
    let twin = lab.start(Role::Storage)?;
    let status = channel.wait_status("the twin is noticed", BOOT_LIMIT, &mut |status| {
        board(status, Role::Compute).is_some_and(|board| {
            board.link.state == LinkState::Conflict
                && board.health.checks.iter().any(|check| check.detail.contains(TWIN_WORDS))
        })
    })?;
    let told = channel.run_ok(&["status"], LIMIT)?;
    ensure!(told.contains("both boards claim the same role"), "`goblin status` of a twin:\n{told}");
    lab::wait_screen(channel, |text| text.contains(TWIN_WORDS))?;
    let (was, is) = (board(&before, Role::Compute), board(&status, Role::Compute));
    ensure!(
        was.map(|b| (b.role, &b.provision)) == is.map(|b| (b.role, &b.provision)),
        "{status:?}"
    );
    let refused = channel.run(&["upgrade"], COMMAND_LIMIT)?;
    ensure!(refused.code != 0, "an upgrade of both boards without a storage board: {refused:?}");
    drop(twin);
    flash(&lab.pair.storage)
}

/// Boots the storage board with disks that it must not use, and looks at them afterwards; then once
/// without room for a release.
fn useless_disks_and_no_room(lab: &Lab, channel: &Channel) -> Result<()> {
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
    let disk = spec.system_disk.clone();
    full_state::fill(&disk, &lab.spec().dir)?;
    spec.data_disks.pop();
    std::fs::File::create(&foreign)?.set_len(lab.spec().data_disk_bytes)?;
    let storage = Board::start(spec)?;
    wait_pool(channel, PoolState::Absent)?;
    no_room_for_a_release(channel)?;
    storage.power_off(LIMIT)?;
    full_state::empty(&disk, &lab.spec().dir)
}

/// With STATE full an upgrade is refused in words, and the board is what it was.
fn no_room_for_a_release(channel: &Channel) -> Result<()> {
    let before = channel.status(LIMIT)?;
    let output = channel.run(&["upgrade", "--board", "storage"], COMMAND_LIMIT)?;
    ensure!(
        output.code != 0
            && output.err.contains("the state partition has")
            && output.err.contains("free some space"),
        "an upgrade without room: {output:?}"
    );
    let well = |board: &BoardStatus| {
        board.health.checks.iter().all(|check| check.state != CheckState::Fail)
            && board.health.checks.iter().any(|c| c.name == "state" && c.state == CheckState::Ok)
    };
    let after = channel.wait_status("the board is well without room", LIMIT, &mut |status| {
        board(status, Role::Storage).is_some_and(well)
    })?;
    let what = |status: &BoxStatus| {
        board(status, Role::Storage)
            .map(|board| (board.slots.clone(), board.provision.clone(), board.boot.boot_id.clone()))
    };
    ensure!(what(&before) == what(&after), "before {before:?}\nafter {after:?}");
    println!("without room an upgrade is refused: {}", output.err.trim());
    Ok(())
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
    for (words, expected) in [
        ("show share", "Ready"),
        ("tree", "share"),
        ("blame", "share"),
        ("set time nice 3", "nice = 3"),
        ("restart time", "time"),
        ("show time", "nice = 3"),
        ("unset time nice", "as it was shipped"),
        ("stop time", "time"),
        ("start time", "time"),
    ] {
        let words: Vec<&str> =
            ["units", "--board", "storage"].into_iter().chain(words.split(' ')).collect();
        let said = channel.run_ok(&words, COMMAND_LIMIT)?;
        ensure!(said.to_lowercase().contains(&expected.to_lowercase()), "{words:?}:\n{said}");
    }
    let wrong = channel.run(&["frobnicate"], COMMAND_LIMIT)?;
    ensure!(wrong.code == 2, "an unknown command exits {}", wrong.code);
    Ok(())
}

/// The storage board was without its disks, and switched off: what it said then is still there.
fn earlier_boots_are_remembered(channel: &Channel) -> Result<()> {
    let ask = |words: &[&str]| -> Result<String> {
        let mut all = vec!["logs", "--board", "storage", "--lines", "0"];
        all.extend(words);
        channel.run_ok(&all, COMMAND_LIMIT)
    };
    let boots: Vec<BootListed> = serde_json::from_str(&ask(&["--list-boots", "--json"])?)?;
    let running = boots.last().map_or(0, |boot| boot.number);
    // The boot before the last had no room for its log; the one before that had.
    let foreign = boots.iter().find(|boot| boot.number + 2 == running);
    let foreign = foreign.with_context(|| format!("boots in the journal: {boots:?}"))?;
    ensure!(foreign.lines > 0 && foreign.lost == 0, "boots in the journal: {boots:?}");
    let number = foreign.number.to_string();
    let then = ask(&["--boot", &number])?;
    for words in ["init", "pool", "power off"] {
        ensure!(then.contains(words), "no `{words}` in boot {number}:\n{then}");
    }
    let now = ask(&["--unit", "init"])?;
    ensure!(!now.contains("power off"), "an earlier boot's end in this one:\n{now}");
    let kernel = ask(&["--unit", "kernel", "--boot", &number, "--level", "debug"])?;
    ensure!(kernel.contains("Linux version"), "the kernel's words of an earlier boot:\n{kernel}");
    Ok(())
}

/// The cable out and in again, with the share mounted on the compute board.
fn cable_is_pulled(compute: &mut Board, storage: &mut Board, channel: &Channel) -> Result<()> {
    pull_cable(compute, storage, channel)?;
    lab::wait_both(channel, Version::new(1, 0, 0), LIMIT)?;
    channel.run_ok(&["shares", "tree", lab::SHARE, "--no-digest"], COMMAND_LIMIT)?;
    Ok(())
}

/// Releases that must not be taken: each is refused with its kind, and nothing changes.
fn lying_repository(channel: &Channel, web: &Web, repository: &Path) -> Result<()> {
    let timestamp = "metadata/timestamp.json";
    for (faults, role, kind) in [
        (vec![(timestamp, Fault::FlipBit)], "compute", "signature"),
        // Each way to the contents, or the next one is taken. It had no room a boot ago, and looks at that
        // before it fetches.
        (
            vec![(".patch", Fault::FlipBit), ("/pack", Fault::Missing), ("blobs/", Fault::FlipBit)],
            "storage",
            "blob-mismatch",
        ),
        (vec![("metadata/targets.json", Fault::StopHalfway)], "compute", "network"),
        (vec![(timestamp, Fault::Missing)], "compute", "network"),
    ] {
        for (path, fault) in &faults {
            web.break_paths(path, fault.clone());
        }
        let refused = is_refused(channel, &["upgrade", "--board", role], kind);
        web.repair();
        refused.with_context(|| format!("{faults:?}"))?;
    }
    let offered = channel.run_ok(&["check"], COMMAND_LIMIT)?;
    ensure!(offered.contains('2'), "`goblin check` does not offer release 2: {offered}");
    stale_repository(channel, repository)
}

/// The metadata of long ago, and what nobody has signed anew for too long.
fn stale_repository(channel: &Channel, repository: &Path) -> Result<()> {
    let (metadata, newer) = (repository.join("metadata"), repository.join("newer"));
    std::fs::rename(&metadata, &newer)?;
    std::fs::rename(repository.join(FIRST_METADATA), &metadata)?;
    is_refused(channel, &["check"], "older")?;
    is_refused(channel, &["upgrade", "--board", "compute"], "older")?;
    std::fs::remove_dir_all(&metadata)?;
    std::fs::rename(&newer, &metadata)?;
    let keys = xtask::host::target("keys")?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    release::renew_as_of(repository, &keys, Instant::from_unix_s(now - 400 * 86_400))?;
    is_refused(channel, &["check"], "expired")?;
    is_refused(channel, &["upgrade", "--board", "compute"], "expired")?;
    release::renew_as_of(repository, &keys, Instant::from_unix_s(now))?;
    let offered = channel.run_ok(&["check"], COMMAND_LIMIT)?;
    ensure!(offered.contains('2'), "signed anew, release 2 is not offered: {offered}");
    Ok(())
}

/// Both boards refuse this with this word and stay as they are.
fn is_refused(channel: &Channel, command: &[&str], kind: &str) -> Result<()> {
    let output = channel.run(&[command, &["--json"]].concat(), COMMAND_LIMIT)?;
    ensure!(output.code != 0, "{command:?} was done: {output:?}");
    let said = format!("{}{}", output.out, output.err);
    ensure!(said.contains(kind), "{command:?}: wanted `{kind}`, got {said}");
    lab::wait_both(channel, Version::new(1, 0, 0), LIMIT)
        .with_context(|| format!("after {kind}"))?;
    println!("{command:?} is refused: {}", said.trim());
    Ok(())
}
