//! A storage board that falls back again and again: what goes wrong once in many times shows here.

use crate::bench::{folder, lab_spec, turn};
use anyhow::{Context, Result, ensure};
use goblin_core_types::{Role, Version};
use goblin_tests::channel::Channel;
use std::time::Duration;
use xtask::lab::{self, BOOT_LIMIT, Lab};
use xtask::release::{self, ReleaseSpec};

/// Three boots that fail and one that does not.
const LIMIT: Duration = Duration::from_secs(600);
/// Times, unless `GOBLIN_TIMES` says otherwise.
const TIMES: u32 = 10;

#[test]
#[ignore = "a soak; run it by name"]
fn a_box_falls_back_again_and_again() -> Result<()> {
    let _turn = turn();
    let dir = folder("again")?;
    let (spec, ports) = lab_spec(&dir)?;
    let _web = lab::serve(&dir.join("www"), ports)?;
    let lab = Lab::prepare(spec, ports)?;
    let storage = lab.start(Role::Storage)?;
    let compute = lab.start(Role::Compute)?;
    let channel = compute.channel()?;
    lab::wait_both(&channel, Version::new(1, 0, 0), BOOT_LIMIT)?;
    let broken = ReleaseSpec::new(Version::new(2, 0, 0), "Ends its own PID 1.").broken_init();
    release::publish(&broken, &dir.join("www"))?;
    let times = std::env::var("GOBLIN_TIMES").ok().and_then(|times| times.parse().ok());
    for time in 1..=times.unwrap_or(TIMES) {
        let fallen = fall_back(&channel);
        fallen.with_context(|| {
            format!("time {time}\n{}", lab::evidence(&channel, &compute, &storage))
        })?;
        println!("fell back {time} times");
    }
    compute.power_off(BOOT_LIMIT)?;
    storage.power_off(BOOT_LIMIT)
}

fn fall_back(channel: &Channel) -> Result<()> {
    let output = channel.run(&["upgrade"], LIMIT)?;
    ensure!(output.err.contains("fell-back"), "{output:?}");
    lab::wait_both(channel, Version::new(1, 0, 0), BOOT_LIMIT)?;
    channel.run_ok(&["quarantine", "clear", "--board", Role::Storage.as_str()], BOOT_LIMIT)?;
    Ok(())
}
