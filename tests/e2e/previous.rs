//! Releases N-1 and N at the two ends of the cable, in both orders, and each of them leading both boards, with the power
//! cut in the middle. N-1 is a release that an older checkout made:
//!
//! ```text
//! older checkout:  cargo xtask release --version 1 --out DIR --keys THIS/target/keys
//! this one:        GOBLIN_PREVIOUS=DIR cargo test --workspace --features goblin-tests/e2e --test e2e -- \
//!                      --test-threads=1 --nocapture --ignored previous
//! ```

use crate::bench::{board, copy_folder, folder, lab_spec_from, publish, pull_cable, turn};
use anyhow::{Context, Result, ensure};
use goblin_core_types::{BoxStatus, Role, UpdatePhase, Version};
use goblin_tests::channel::Channel;
use goblin_tests::qemu::Board;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use xtask::lab::{self, BOOT_LIMIT, Lab, SHARE};

const LIMIT: Duration = Duration::from_secs(120);
/// Two downloads, two rebuilds, boots with and without cuts.
const UPGRADE_LIMIT: Duration = Duration::from_secs(900);
const OLD: Version = Version::new(1, 0, 0);
const NEW: Version = Version::new(2, 0, 0);
/// Said of a plan while the storage board has its turn.
const TURN: &str = "goes first";
/// Names the repository.
const VARIABLE: &str = "GOBLIN_PREVIOUS";

/// The two boards and the way to them.
struct Both {
    lab: Lab,
    compute: Board,
    storage: Board,
    channel: Arc<Channel>,
}

#[test]
#[ignore = "needs a release of an older checkout"]
fn a_release_before_and_this_one_work_together() -> Result<()> {
    let _turn = turn();
    let previous = std::env::var_os(VARIABLE)
        .with_context(|| format!("{VARIABLE} names no repository with release {OLD}"))?;
    let dir = folder("previous")?;
    let repository = dir.join("www");
    copy_folder(Path::new(&previous), &repository)?;
    let image = repository.join(format!("images/goblinux-{OLD}.img.zst"));
    let (spec, ports) = lab_spec_from(&dir, image)?;
    let _web = lab::serve(&repository, ports)?;
    let lab = Lab::prepare(spec, ports)?;
    let storage = lab.start(Role::Storage)?;
    let compute = lab.start(Role::Compute)?;
    let channel = Arc::new(compute.channel()?);
    lab::wait_both(&channel, OLD, BOOT_LIMIT)?;
    publish(&repository, 2, Vec::new())?;
    let mut both = Both { lab, compute, storage, channel };
    for role in Role::ALL {
        both.mixed(role).with_context(|| format!("release {NEW} on the {role} board alone"))?;
    }
    both.led().with_context(|| lab::evidence(&both.channel, &both.compute, &both.storage))?;
    both.compute.power_off(LIMIT)?;
    both.storage.power_off(LIMIT)
}

impl Both {
    /// One board goes ahead alone, and back.
    fn mixed(&mut self, ahead: Role) -> Result<()> {
        let name = ahead.as_str();
        // The answer is cut off by the compute board's reboot; the status tells.
        let said = self.channel.run(&["upgrade", "--board", name], UPGRADE_LIMIT);
        self.wait_versions(ahead).with_context(|| format!("the upgrade said: {said:?}"))?;
        self.work_together()?;
        pull_cable(&mut self.compute, &mut self.storage, &self.channel)?;
        self.wait_versions(ahead)?;
        self.cut(ahead)?;
        self.wait_versions(ahead)?;
        self.work_together()?;
        let said = self.channel.run(&["rollback", "--board", name], UPGRADE_LIMIT);
        lab::wait_both(&self.channel, OLD, BOOT_LIMIT)
            .with_context(|| format!("the rollback said: {said:?}"))?;
        println!("release {NEW} on the {name} board and {OLD} on the other one: ok");
        Ok(())
    }

    /// Each release leads, and each board loses its power in it.
    fn led(&mut self) -> Result<()> {
        for cut in Role::ALL {
            // The older one leads the way up, the newer one the way back.
            for (command, to) in [("upgrade", NEW), ("rollback", OLD)] {
                // The older one refuses an order while the storage board's updater looks at its trial.
                self.channel.wait_status("both updaters rest", LIMIT, &mut |status| {
                    status.boards.iter().all(|board| board.update.phase == UpdatePhase::Idle)
                })?;
                let channel = self.channel.clone();
                let asked = std::thread::spawn(move || channel.run(&[command], UPGRADE_LIMIT));
                let mut seen = None;
                let begun = self.channel.wait_status("the plan is begun", LIMIT, &mut |status| {
                    seen = board(status, Role::Compute).and_then(|b| b.update.pair.clone());
                    seen.as_ref().is_some_and(|plan| cut == Role::Compute || plan.contains(TURN))
                });
                if begun.is_err() && asked.is_finished() {
                    println!("{command} said: {:?}", asked.join());
                }
                begun?;
                self.cut(cut)?;
                lab::wait_both(&self.channel, to, UPGRADE_LIMIT)
                    .with_context(|| format!("{command} with the {cut} board cut at {seen:?}"))?;
                println!("{command} to {to}, the {cut} board's power cut at {seen:?}: ok");
            }
        }
        Ok(())
    }

    /// Cuts a board's power, and starts it again.
    fn cut(&mut self, role: Role) -> Result<()> {
        match role {
            Role::Storage => {
                self.storage.kill();
                self.storage = self.lab.start(role)?;
            }
            Role::Compute => {
                self.compute.kill();
                self.compute = self.lab.start(role)?;
                self.channel = Arc::new(self.compute.channel()?);
            }
        }
        Ok(())
    }

    fn wait_versions(&self, ahead: Role) -> Result<BoxStatus> {
        let what = format!("release {NEW} on the {ahead} board, {OLD} on the other one");
        self.channel.wait_status(&what, UPGRADE_LIMIT, &mut |status| {
            lab::both_healthy(status, None)
                && Role::ALL.iter().all(|role| {
                    let wanted = if *role == ahead { NEW } else { OLD };
                    let found = board(status, *role);
                    found.is_some_and(|b| b.boot.version == Some(wanted))
                })
        })
    }

    /// Files and control over the cable.
    fn work_together(&self) -> Result<()> {
        let ask = |words: &[&str]| self.channel.run_ok(words, LIMIT);
        for words in [
            &["shares", "tree", SHARE][..],
            &["clients"],
            &["check"],
            &["logs", "--board", "storage", "--unit", "init"],
            &["units", "--board", "storage"],
            &["units", "--board", "storage", "show", "share"],
            &["units", "--board", "storage", "restart", "time"],
            &["history", "--board", "storage"],
            &["status"],
        ] {
            ask(words)?;
        }
        let status = self.channel.status(LIMIT)?;
        ensure!(status.boards.len() == 2, "{status:?}");
        Ok(())
    }
}
