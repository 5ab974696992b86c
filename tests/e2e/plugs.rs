//! A USB stick is plugged in and pulled out while both boards run: its names come and go, the agents that listen
//! hear of it, and the releases on it are offered as long as it is there.

use anyhow::{Result, bail, ensure};
use goblin_tests::channel::Channel;
use goblin_tests::qemu::Board;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

const LIMIT: Duration = Duration::from_secs(120);
/// Pause between two looks into a board's log.
const PAUSE: Duration = Duration::from_secs(2);
const STICK_BYTES: u64 = 1 << 30;
/// Longest wait for an order to the updater.
const ORDER_LIMIT: Duration = Duration::from_secs(300);
const SERIAL: &str = "STICK-4711";

/// Plugs a stick with release 2 on it into the storage board, and out again.
pub fn a_stick_comes_and_goes(storage: &mut Board, channel: &Channel, dir: &Path) -> Result<()> {
    let image = dir.join("stick.img");
    std::fs::File::create(&image)?.set_len(STICK_BYTES)?;
    // Without a partition table, as many sticks are; the folder lies on the stick itself.
    let mut mkfs = Command::new("mke2fs");
    mkfs.args(["-q", "-t", "ext4", "-d"]).arg(dir.join("www")).arg(&image);
    ensure!(mkfs.status()?.success(), "mke2fs cannot fill the stick");
    let look = |from: &str| {
        let words = ["upgrade", "--board", "storage", "--dry-run", "--from", from, "--json"];
        channel.run(&words, ORDER_LIMIT)
    };
    let absent = look("usb")?;
    ensure!(absent.code != 0 && absent.err.contains("no USB stick"), "no stick: {absent:?}");
    let fed = look("board")?;
    ensure!(fed.code == 0 && fed.out.contains("\"to\":\"2\""), "from the other board: {fed:?}");
    storage.plug_stick(&image, SERIAL)?;
    let bytes = format!("bytes={STICK_BYTES}");
    wait_log(channel, "devices", &["USB disk plugged in", SERIAL, &bytes])?;
    // The pool heard of it by the event, and knows the name that stays.
    wait_log(channel, "pool", &["USB disk seen", "/dev/disk/by-id/usb-", SERIAL])?;
    let there = look("usb")?;
    ensure!(there.code == 0 && there.out.contains("\"to\":\"2\""), "from a stick: {there:?}");
    storage.pull_stick()?;
    wait_log(channel, "devices", &["USB disk pulled out", SERIAL])?;
    wait_log(channel, "pool", &["USB disk gone"])
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
