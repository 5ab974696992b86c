//! A USB stick is plugged in and pulled out while both boards run: its names come and go, and the agents that
//! listen hear of it.

use anyhow::{Result, bail};
use goblin_tests::channel::Channel;
use goblin_tests::qemu::Board;
use std::path::Path;
use std::time::{Duration, Instant};

const LIMIT: Duration = Duration::from_secs(120);
/// Pause between two looks into a board's log.
const PAUSE: Duration = Duration::from_secs(2);
const STICK_BYTES: u64 = 64 << 20;
const SERIAL: &str = "STICK-4711";

/// Plugs a stick into the storage board, and out again.
pub fn a_stick_comes_and_goes(storage: &mut Board, channel: &Channel, dir: &Path) -> Result<()> {
    let image = dir.join("stick.img");
    std::fs::File::create(&image)?.set_len(STICK_BYTES)?;
    storage.plug_stick(&image, SERIAL)?;
    let bytes = format!("bytes={STICK_BYTES}");
    wait_log(channel, "devices", &["USB disk plugged in", SERIAL, &bytes])?;
    // The pool heard of it by the event, and knows the name that stays.
    wait_log(channel, "pool", &["USB disk seen", "/dev/disk/by-id/usb-", SERIAL])?;
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
