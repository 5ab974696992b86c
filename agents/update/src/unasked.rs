//! What the compute board does about new releases when nobody asks: [`goblin_core_update::policy`] decides.

use crate::pair::{Leader, Peer};
use crate::updater::Updater;
use goblin_core_types::{UpdateCommand, UpdateReply};
use goblin_core_update::machine::State;
use goblin_core_update::policy::{self, Next, Situation};
use std::time::{Duration, Instant};

/// What is remembered between two looks; a restart of the board forgets it, and looks anew.
#[derive(Debug, Default)]
pub struct Unasked {
    checked: Option<Instant>,
    failed: Option<Instant>,
}

impl Unasked {
    /// Looks whether something is due, and does it.
    pub fn tick(&mut self, updater: &mut Updater, peer: &mut dyn Peer, pause: Duration) {
        let next = self.next(updater, peer);
        match next {
            Next::Nothing => updater.wait_for(None),
            Next::Wait(what) => updater.wait_for(Some(what)),
            Next::Check => {
                self.checked = Some(Instant::now());
                updater.command(&UpdateCommand::Check, &mut |_| {});
            }
            Next::Upgrade(to) => {
                tracing::info!(%to, "upgrading both boards, as scheduled");
                updater.wait_for(None);
                let command = UpdateCommand::UpgradePair { to: Some(to), from: None };
                let failed = &mut self.failed;
                updater.unasked = true;
                Leader::new(updater, peer, pause).command(&command, &mut |reply| {
                    if matches!(reply, UpdateReply::Failed { .. }) {
                        *failed = Some(Instant::now());
                    }
                });
                updater.unasked = false;
            }
        }
    }

    fn next(&self, updater: &Updater, peer: &mut dyn Peer) -> Next {
        let since = |at: Option<Instant>| at.map(|at| at.elapsed().as_secs());
        let situation = Situation {
            minute: updater.env.hooks.local_minute(),
            since_check_s: since(self.checked),
            since_failure_s: since(self.failed),
            offered: updater.status.offered.filter(|to| *to > updater.env.running),
            clients: Some(0),
            is_busy: !matches!(updater.state, State::Idle | State::Staged(_))
                || updater.status.pair.is_some(),
        };
        let schedule = &updater.settings.schedule;
        match policy::next(schedule, &situation) {
            // Only now is it worth asking the storage board.
            Next::Upgrade(_) => {
                let clients = peer.status().ok().map(|storage| {
                    storage.shares.iter().fold(0u32, |sum, share| sum.saturating_add(share.clients))
                });
                policy::next(schedule, &Situation { clients, ..situation })
            }
            other => other,
        }
    }
}

impl Updater {
    /// Shows what an upgrade that nobody asked for waits for.
    pub(crate) fn wait_for(&mut self, what: Option<String>) {
        if self.status.waiting != what {
            if let Some(what) = &what {
                tracing::info!(what, "a scheduled upgrade waits");
            }
            self.status.waiting = what;
            self.publish();
        }
    }
}
