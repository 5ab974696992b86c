//! A USB stick is plugged in and pulled out while both boards run: its names come and go, the agents that listen
//! hear of it, and the releases on it are offered as long as it is there.

use crate::full_state::run;
use anyhow::{Context, Result, bail, ensure};
use goblin_tests::channel::Channel;
use goblin_tests::qemu::Board;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

const LIMIT: Duration = Duration::from_secs(120);
/// Pause between two looks into a board's log.
const PAUSE: Duration = Duration::from_secs(2);
const STICK_BYTES: u64 = 1 << 30;
/// Longest wait for an order to the updater.
const ORDER_LIMIT: Duration = Duration::from_secs(300);
/// Serial numbers of the sticks, and how each is filled with a repository.
type Stick = (&'static str, fn(&Path, &Path) -> Result<()>);
const STICKS: [Stick; 2] = [("STICK-4711", fill_fat), ("STICK-4712", fill_ext4)];

/// Plugs sticks with release 2 on them into the storage board, and out again.
pub fn a_stick_comes_and_goes(storage: &mut Board, channel: &Channel, dir: &Path) -> Result<()> {
    let look = |from: &str| {
        let words = ["upgrade", "--board", "storage", "--dry-run", "--from", from, "--json"];
        channel.run(&words, ORDER_LIMIT)
    };
    let absent = look("usb")?;
    ensure!(absent.code != 0 && absent.err.contains("no USB stick"), "no stick: {absent:?}");
    let fed = look("board")?;
    ensure!(fed.code == 0 && fed.out.contains("\"to\":\"2\""), "from the other board: {fed:?}");
    for (serial, fill) in STICKS {
        let image = dir.join("stick.img");
        std::fs::File::create(&image)?.set_len(STICK_BYTES)?;
        fill(&dir.join("www"), &image).with_context(|| format!("filling the stick {serial}"))?;
        storage.plug_stick(&image, serial)?;
        let bytes = format!("bytes={STICK_BYTES}");
        wait_log(channel, "devices", &["USB disk plugged in", serial, &bytes])?;
        // The pool heard of it by the event, and knows the name that stays.
        wait_log(channel, "pool", &["USB disk seen", "/dev/disk/by-id/usb-", serial])?;
        let there = look("usb")?;
        let offered = there.code == 0 && there.out.contains("\"to\":\"2\"");
        ensure!(offered, "from the stick {serial}: {there:?}");
        storage.pull_stick()?;
        wait_log(channel, "devices", &["USB disk pulled out", serial])?;
        wait_log(channel, "pool", &["USB disk gone"])?;
    }
    Ok(())
}

/// A stick as shops sell it: one partition of FAT32.
fn fill_fat(folder: &Path, image: &Path) -> Result<()> {
    const START_SECTOR: u32 = 2048;
    let sectors = u32::try_from(STICK_BYTES / 512)? - START_SECTOR;
    // A partition that no firmware starts, of the type FAT32 by sector numbers, at the first of four places.
    let mut entry = [0; 66];
    entry[4] = 0x0c;
    entry[8..12].copy_from_slice(&START_SECTOR.to_le_bytes());
    entry[12..16].copy_from_slice(&sectors.to_le_bytes());
    entry[64..].copy_from_slice(&[0x55, 0xaa]);
    std::fs::File::options().write(true).open(image)?.write_all_at(&entry, 446)?;
    let mut mkfs = Command::new("mkfs.vfat");
    mkfs.args(["-F", "32", "--offset", &START_SECTOR.to_string()]).arg(image);
    mkfs.arg((sectors / 2).to_string());
    run(&mut mkfs)?;
    let partition = format!("{}@@{}", image.display(), u64::from(START_SECTOR) * 512);
    let mut copy = Command::new("mcopy");
    copy.args(["-s", "-i", &partition]);
    for entry in std::fs::read_dir(folder)? {
        copy.arg(entry?.path());
    }
    run(copy.arg("::/"))
}

/// A stick without a partition table, as many are; the folder lies on the stick itself.
fn fill_ext4(folder: &Path, image: &Path) -> Result<()> {
    run(Command::new("mke2fs").args(["-q", "-t", "ext4", "-d"]).arg(folder).arg(image))
}

/// A cable calls in the module that drives it; a network card that is one by class alone does not.
pub fn devices_call_in_what_they_may(storage: &mut Board, channel: &Channel) -> Result<()> {
    storage.plug_serial_cable()?;
    wait_log(channel, "devices", &["module loaded", "ftdi_sio"])?;
    storage.plug_network_card()?;
    wait_log(
        channel,
        "devices",
        &["a device asks for a module that it may not call in", "cdc_ether"],
    )
}

/// The storage board's network cards have names that stay: by their burnt-in addresses, and by their places.
pub fn cards_have_names_that_stay(channel: &Channel) -> Result<()> {
    for name in ["name=enx525400600102", "name=enx525400600202", "name=enp"] {
        wait_log(channel, "devices", &["network card named", name])?;
    }
    Ok(())
}

/// Waits for one line of a unit on the storage board that has all the words.
fn wait_log(channel: &Channel, unit: &str, words: &[&str]) -> Result<()> {
    let deadline = Instant::now() + LIMIT;
    loop {
        let log = channel.run_ok(&["logs", "--board", "storage", "--unit", unit], LIMIT)?;
        if log.lines().any(|line| words.iter().all(|word| line.contains(word))) {
            return Ok(());
        }
        if Instant::now() > deadline {
            bail!("no line of {unit} has all of {words:?}:\n{log}");
        }
        std::thread::sleep(PAUSE);
    }
}
