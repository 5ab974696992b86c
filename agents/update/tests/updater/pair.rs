//! Two boards, each with its own disk, led by the compute board.

use crate::board::*;
use crate::pair_faults::until_cut;
use crate::wire;
use goblin_agent_update::{Leader, Peer, PeerError, Updater};
use goblin_core_types::{BoardStatus, Role, UpdateCommand, UpdatePhase, UpdateReply};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::sync::atomic::Ordering;
use std::time::Duration;

pub const UPGRADE: UpdateCommand = UpdateCommand::UpgradePair { to: None, from: None };
pub const ROLLBACK: UpdateCommand = UpdateCommand::RollbackPair { to: None };

/// The storage board as a peer: out of reach while it restarts.
pub struct Storage {
    pub board: Board,
    pub updater: Updater,
    cable: bool,
    /// Times that it was asked or told something.
    pub calls: u32,
    /// From which call on, and to which, the cable is out, and whether what is said still arrives there.
    pub outage: Option<(u32, u32, bool)>,
    /// Its power went.
    off: bool,
}

impl Storage {
    fn new(board: Board) -> Self {
        let updater = board.updater();
        Self { board, updater, cable: true, calls: 0, outage: None, off: false }
    }

    fn reach(&mut self) -> Result<(), PeerError> {
        if !self.cable {
            return Err(PeerError::Silent);
        }
        if self.off || self.board.seen.reboots.swap(0, Ordering::Relaxed) > 0 {
            self.off = true;
            self.updater = until_cut(|| self.board.boot()).ok_or(PeerError::Silent)?;
            self.off = false;
            return Err(PeerError::Silent);
        }
        Ok(())
    }

    /// One question or order through the cable.
    fn call<T>(
        &mut self,
        play: impl FnOnce(&mut Self) -> Result<T, PeerError>,
    ) -> Result<T, PeerError> {
        let call = self.calls;
        self.calls += 1;
        let outage = self.outage.filter(|(from, to, _)| (*from..*to).contains(&call));
        if matches!(outage, Some((.., false))) {
            return Err(PeerError::Silent);
        }
        self.reach()?;
        let answer = until_cut(|| play(self));
        self.off |= answer.is_none();
        answer.filter(|_| outage.is_none()).unwrap_or(Err(PeerError::Silent))
    }
}

impl Peer for Storage {
    fn status(&mut self) -> Result<BoardStatus, PeerError> {
        self.call(|storage| Ok(storage.board.status()))
    }

    fn command(
        &mut self,
        command: &UpdateCommand,
        each: &mut dyn FnMut(UpdateReply),
    ) -> Result<UpdateReply, PeerError> {
        self.call(|storage| {
            let mut last = None;
            storage.updater.command(command, &mut |reply| {
                if let Some(before) = last.replace(reply) {
                    each(before);
                }
            });
            last.ok_or(PeerError::Silent)
        })
    }
}

/// The storage board in the words of an earlier release: it says what that one said, and refuses what that
/// one did not know.
struct Earlier<'a> {
    storage: &'a mut Storage,
    refused: usize,
}

fn reread<T: DeserializeOwned>(said: &impl Serialize) -> T {
    serde_json::from_slice(&serde_json::to_vec(said).unwrap()).unwrap()
}

impl Peer for Earlier<'_> {
    fn status(&mut self) -> Result<BoardStatus, PeerError> {
        let said: wire::BoardStatus = reread(&self.storage.status()?);
        Ok(reread(&said))
    }

    fn command(
        &mut self,
        command: &UpdateCommand,
        each: &mut dyn FnMut(UpdateReply),
    ) -> Result<UpdateReply, PeerError> {
        let line = serde_json::to_vec(command).unwrap();
        let Ok(understood) = serde_json::from_slice::<wire::UpdateCommand>(&line) else {
            self.refused += 1;
            let message = "the command cannot be read".into();
            return Ok(UpdateReply::Failed { kind: "refused".into(), message });
        };
        let said = |reply: &UpdateReply| reread(&reread::<wire::UpdateReply>(reply));
        let last = self.storage.command(&reread(&understood), &mut |reply| each(said(&reply)))?;
        Ok(said(&last))
    }
}

pub struct Pair {
    server: Server,
    pub compute: Board,
    pub updater: Updater,
    pub storage: Storage,
}

impl Pair {
    pub fn new(releases: &[u32]) -> Self {
        let server = Server::start();
        publish(&server, &keys(1), 1, releases, NOW);
        let compute = Board::new(Role::Compute, &server, &keys(1));
        let storage = Storage::new(Board::new(Role::Storage, &server, &keys(1)));
        let updater = compute.updater();
        let pair = Self { server, compute, updater, storage };
        pair.plug();
        pair
    }

    /// Lets the storage board ask the updater that runs on the compute board.
    pub fn plug(&self) {
        let feeder = Some(self.updater.feeder());
        *self.storage.board.seen.cable.feeder.lock().unwrap() = feeder;
    }

    fn unplug(&self) {
        *self.storage.board.seen.cable.feeder.lock().unwrap() = None;
    }

    /// Two boards, of which the storage board reaches no server.
    fn with_storage_offline(releases: &[u32]) -> Self {
        let mut pair = Self::new(releases);
        pair.storage.board.source.url = "http://127.0.0.1:9/nothing".into();
        pair.storage.updater = pair.storage.board.updater();
        pair
    }

    /// Contents that the server was asked for, each as often as it was.
    fn fetched(&self) -> Vec<String> {
        let requests = self.server.requests.lock().unwrap();
        requests.iter().filter(|path| path.starts_with("blobs/")).cloned().collect()
    }

    pub fn tell(&mut self, command: &UpdateCommand) -> Vec<UpdateReply> {
        let mut replies = Vec::new();
        Leader::new(&mut self.updater, &mut self.storage, Duration::from_millis(1))
            .command(command, &mut |reply| replies.push(reply));
        replies
    }

    /// Restarts the compute board where it asked for it, and lets it go on with its plan.
    fn settle(&mut self) {
        for _ in 0..4 {
            if self.compute.seen.reboots.swap(0, Ordering::Relaxed) > 0 {
                self.updater = self.compute.boot();
                self.plug();
            }
            self.resume();
        }
    }

    /// Lets the compute board go on with its plan.
    pub fn resume(&mut self) {
        Leader::new(&mut self.updater, &mut self.storage, Duration::from_millis(1)).resume();
    }

    pub fn run(&self) -> (u32, u32) {
        (self.compute.running, self.storage.board.running)
    }
}

#[test]
fn both_boards_go_up_and_back_together() {
    let mut pair = Pair::new(&[1, 2]);
    let replies = pair.tell(&UPGRADE);
    assert_eq!(done(replies.last().unwrap()), Some(v(2)));
    assert_eq!(pair.run(), (1, 2), "storage goes first");
    let told = |word: &str| {
        replies
            .iter()
            .any(|r| matches!(r, UpdateReply::Progress { message, .. } if message.contains(word)))
    };
    assert!(told("storage: fetching") && told("compute: fetching"), "{replies:?}");
    pair.settle();
    assert_eq!(pair.run(), (2, 2));
    assert_eq!(pair.compute.boot_record().pair, None);
    assert_eq!(done(pair.tell(&UPGRADE).last().unwrap()), None);

    done(pair.tell(&ROLLBACK).last().unwrap());
    pair.settle();
    assert_eq!(pair.run(), (1, 1));
    assert_eq!(pair.compute.boot_record().pair, None);
}

#[test]
fn storage_that_falls_back_keeps_both_on_the_old_release() {
    let mut pair = Pair::new(&[1, 2]);
    pair.storage.board.broken = vec![2];
    let replies = pair.tell(&UPGRADE);
    let last = replies.last().unwrap();
    assert_eq!(kind(last), "fell-back");
    let UpdateReply::Failed { message, .. } = last else { unreachable!() };
    assert!(
        message.starts_with("the storage board: release 2 stopped after preinit three times"),
        "{message}"
    );
    assert_eq!(pair.run(), (1, 1));
    assert_eq!(pair.compute.names(), ["goblinux_1.efi"], "what compute staged is discarded");
    assert_eq!(pair.compute.boot_record().pair, None);
    assert_eq!(pair.compute.seen.reboots.load(Ordering::Relaxed), 0);
}

#[test]
fn compute_that_falls_back_takes_storage_along() {
    let mut pair = Pair::new(&[1, 2]);
    pair.compute.broken = vec![2];
    done(pair.tell(&UPGRADE).last().unwrap());
    assert_eq!(pair.run(), (1, 2));
    pair.settle();
    assert_eq!(pair.run(), (1, 1));
    assert_eq!(pair.compute.boot_record().pair, None);
    let problem = pair.compute.status().update.problem.unwrap();
    assert!(problem.contains("so the storage board returned too: release 2 stopped"), "{problem}");
}

#[test]
fn board_out_of_reach_is_refused_at_the_beginning() {
    let mut pair = Pair::new(&[1, 2]);
    pair.storage.cable = false;
    let before = pair.compute.fixed();
    assert_eq!(kind(pair.tell(&UPGRADE).last().unwrap()), "peer");
    assert_eq!(kind(pair.tell(&ROLLBACK).last().unwrap()), "peer");
    assert_eq!(pair.compute.fixed(), before);
}

#[test]
fn release_that_storage_refuses_is_staged_on_neither() {
    let mut pair = Pair::new(&[1, 2]);
    pair.storage.board.spare_bytes = u64::MAX / 2;
    pair.storage.updater = pair.storage.board.updater();
    assert_eq!(kind(pair.tell(&UPGRADE).last().unwrap()), "space");
    assert_eq!(pair.compute.names(), ["goblinux_1.efi"]);
    assert_eq!(pair.compute.boot_record().pair, None);
}

#[test]
fn storage_that_is_behind_catches_up_alone() {
    let mut pair = Pair::new(&[1, 2]);
    done(&tell(&mut pair.updater, &UpdateCommand::Stage { to: None, from: None }));
    done(&tell(&mut pair.updater, &UpdateCommand::Activate { to: v(2) }));
    pair.settle();
    assert_eq!(pair.run(), (2, 1));
    assert_eq!(done(pair.tell(&UPGRADE).last().unwrap()), Some(v(2)));
    assert_eq!(pair.run(), (2, 2));
    assert_eq!(pair.compute.seen.reboots.load(Ordering::Relaxed), 0);
}

#[test]
fn storage_that_is_ahead_of_all_that_is_offered_is_not_taken_back_unasked() {
    let mut pair = Pair::new(&[1, 2, 3]);
    let stage = UpdateCommand::Stage { to: Some(v(3)), from: None };
    done(&tell(&mut pair.storage.updater, &stage));
    done(&tell(&mut pair.storage.updater, &UpdateCommand::Activate { to: v(3) }));
    let _ = pair.storage.reach();
    publish(&pair.server, &keys(1), 2, &[1, 2], NOW);
    let replies = pair.tell(&UPGRADE);
    let UpdateReply::Failed { message, .. } = replies.last().unwrap() else {
        panic!("{replies:?}")
    };
    assert!(message.contains("compute board: release 3 is not in the repository"), "{message}");
    assert_eq!(pair.run(), (1, 3));
    // Where it is offered, the compute board catches up.
    publish(&pair.server, &keys(1), 3, &[1, 2, 3], NOW);
    done(pair.tell(&UPGRADE).last().unwrap());
    pair.settle();
    assert_eq!(pair.run(), (3, 3));
}

#[test]
fn boards_that_run_different_releases_go_back_to_what_both_have() {
    for ahead in [Role::Compute, Role::Storage] {
        let mut pair = Pair::new(&[1, 2]);
        let (stage, activate) =
            (UpdateCommand::Stage { to: None, from: None }, UpdateCommand::Activate { to: v(2) });
        let updater = match ahead {
            Role::Storage => &mut pair.storage.updater,
            _ => &mut pair.updater,
        };
        done(&tell(updater, &stage));
        done(&tell(updater, &activate));
        let _ = pair.storage.reach();
        pair.settle();
        done(pair.tell(&ROLLBACK).last().unwrap());
        pair.settle();
        assert_eq!(pair.run(), (1, 1), "{ahead:?} was ahead");
        let replies = pair.tell(&ROLLBACK);
        let UpdateReply::Failed { message, .. } = replies.last().unwrap() else { panic!() };
        assert!(message.starts_with("no release older than 1 is good on both boards"), "{message}");
    }
}

#[test]
fn loader_that_passes_a_release_over_does_not_restart_the_board_for_ever() {
    for command in [UPGRADE, ROLLBACK] {
        let mut pair = Pair::new(&[1, 2]);
        if command == ROLLBACK {
            done(pair.tell(&UPGRADE).last().unwrap());
            pair.settle();
        }
        let before = pair.run();
        pair.compute.chosen = Some(before.0);
        done(pair.tell(&command).last().unwrap());
        for _ in 0..3 {
            pair.settle();
        }
        assert_eq!(pair.compute.boot_record().pair, None);
        assert_eq!(pair.run(), before);
    }
}

#[test]
fn restart_of_the_storage_board_is_told_in_plain_words() {
    let mut pair = Pair::new(&[1, 2]);
    let replies = pair.tell(&UPGRADE);
    let told = |text: &str| {
        replies
            .iter()
            .any(|r| matches!(r, UpdateReply::Progress { message, .. } if message == text))
    };
    assert!(told("storage: the storage board is restarting"), "{replies:?}");
}

#[test]
fn plan_survives_a_restart_at_every_step() {
    use goblin_core_types::{PairPlan, PairStep};
    for step in [PairStep::Staging, PairStep::StorageTrial, PairStep::ComputeTrial] {
        let mut pair = Pair::new(&[1, 2]);
        let stage = UpdateCommand::Stage { to: Some(v(2)), from: None };
        done(&tell(&mut pair.updater, &stage));
        done(&tell(&mut pair.storage.updater, &stage));
        let plan = PairPlan { to: v(2), rollback: false, step, orders: 0, from: None };
        pair.compute.record().update(|record| record.pair = Some(plan)).unwrap();
        if step == PairStep::ComputeTrial {
            done(&tell(&mut pair.storage.updater, &UpdateCommand::Activate { to: v(2) }));
            let _ = pair.storage.reach();
        }
        pair.updater = pair.compute.boot();
        pair.settle();
        assert_eq!(pair.run(), (2, 2), "{step:?}");
        assert_eq!(pair.compute.boot_record().pair, None);
    }
    assert!(!Pair::new(&[1]).server.url.is_empty());
}

#[test]
fn source_named_by_a_person_survives_a_restart() {
    use goblin_core_types::{PairPlan, PairStep, UpdateSource};
    let mut pair = Pair::new(&[1, 2]);
    let named = Server::start();
    *named.files.lock().unwrap() = std::mem::take(&mut *pair.server.files.lock().unwrap());
    let from = Some(UpdateSource::Url(named.url.clone()));
    let plan = PairPlan { to: v(2), rollback: false, step: PairStep::Staging, orders: 0, from };
    pair.compute.record().update(|record| record.pair = Some(plan)).unwrap();
    pair.updater = pair.compute.boot();
    pair.settle();
    assert_eq!(pair.run(), (2, 2));
}

#[test]
fn storage_is_fed_by_compute_and_needs_no_server() {
    let mut pair = Pair::with_storage_offline(&[1, 2]);
    done(pair.tell(&UPGRADE).last().unwrap());
    pair.settle();
    assert_eq!(pair.run(), (2, 2));
    let mut fetched = pair.fetched();
    let asked = fetched.len();
    fetched.sort();
    fetched.dedup();
    assert!(asked > 0 && fetched.len() == asked, "each content is fetched once for both");
    pair.storage.board.check_store();
}

#[test]
fn storage_that_is_behind_alone_gets_what_compute_does_not_hold_through_it() {
    let mut pair = Pair::with_storage_offline(&[1, 2]);
    pair.compute.running = 2;
    let good = goblin_core_update::slots::file_name(v(2), goblin_core_types::SlotState::Good);
    std::fs::write(pair.compute.linux().join(good), release(2).uki).unwrap();
    pair.updater = pair.compute.updater();
    pair.plug();
    done(pair.tell(&UPGRADE).last().unwrap());
    pair.settle();
    assert_eq!(pair.run(), (2, 2));
}

#[test]
fn answer_that_is_cut_off_is_asked_for_again_from_where_it_ended() {
    let mut pair = Pair::with_storage_offline(&[1, 2]);
    let cable = pair.storage.board.seen.cable.clone();
    *cable.cut_after.lock().unwrap() = Some(LARGE_BYTES / 2);
    done(pair.tell(&UPGRADE).last().unwrap());
    pair.settle();
    assert_eq!(pair.run(), (2, 2));
    assert!(cable.cut_after.lock().unwrap().is_none());
}

#[test]
fn storage_that_cannot_be_fed_fetches_by_itself_unless_only_compute_has_it() {
    let mut pair = Pair::new(&[1, 2]);
    pair.unplug();
    done(pair.tell(&UPGRADE).last().unwrap());
    pair.settle();
    assert_eq!(pair.run(), (2, 2));

    let mut pair = Pair::new(&[1, 2]);
    pair.unplug();
    let from = Some(goblin_core_types::UpdateSource::Board);
    let fed = UpdateCommand::UpgradePair { to: None, from };
    assert_eq!(kind(pair.tell(&fed).last().unwrap()), "network");
    assert_eq!(pair.run(), (1, 1));
    pair.plug();
    done(pair.tell(&fed).last().unwrap());
    pair.settle();
    assert_eq!(pair.run(), (2, 2));
}

#[test]
fn stick_in_the_compute_board_is_enough_for_both() {
    let mut pair = Pair::with_storage_offline(&[1]);
    let there = Server::start();
    publish(&there, &keys(1), 1, &[1, 2], NOW);
    *pair.compute.seen.stick.lock().unwrap() = Some(TestStick::with(&there));
    let from = Some(goblin_core_types::UpdateSource::Usb);
    let upgrade = UpdateCommand::UpgradePair { to: None, from };
    done(pair.tell(&upgrade).last().unwrap());
    pair.settle();
    assert_eq!(pair.run(), (2, 2));
    assert_eq!(pair.fetched(), Vec::<String>::new());
}

#[test]
fn compute_is_not_fed_by_storage() {
    let mut pair = Pair::new(&[1, 2]);
    let from = Some(goblin_core_types::UpdateSource::Board);
    let stage = UpdateCommand::Stage { to: None, from };
    let reply = tell(&mut pair.updater, &stage);
    assert_eq!(kind(&reply), "refused");
    assert_eq!(done(&tell(&mut pair.storage.updater, &stage)), Some(v(2)));
}

#[test]
fn both_boards_are_reset_or_neither() {
    use goblin_core_types::ResetLevel;
    let mut pair = Pair::new(&[1]);
    let reset = UpdateCommand::FactoryResetPair { level: ResetLevel::Settings, why: "x".into() };
    pair.storage.cable = false;
    assert_eq!(kind(pair.tell(&reset).last().unwrap()), "peer");
    assert_eq!(pair.compute.boot_record().reset, None);
    assert_eq!(pair.compute.seen.reboots.load(Ordering::Relaxed), 0);
    pair.storage.cable = true;
    done(pair.tell(&reset).last().unwrap());
    for board in [&pair.compute, &pair.storage.board] {
        assert_eq!(board.boot_record().reset.unwrap().level, ResetLevel::Settings);
        assert_eq!(board.seen.reboots.load(Ordering::Relaxed), 1);
    }
}

/// The storage board, whose updater is at work for so many looks.
struct Busy<'a> {
    storage: &'a mut Storage,
    looks: u32,
}

impl Peer for Busy<'_> {
    fn status(&mut self) -> Result<BoardStatus, PeerError> {
        let mut status = self.storage.status()?;
        if self.looks > 0 {
            self.looks -= 1;
            status.update.phase = UpdatePhase::Checking;
        }
        Ok(status)
    }

    fn command(
        &mut self,
        command: &UpdateCommand,
        each: &mut dyn FnMut(UpdateReply),
    ) -> Result<UpdateReply, PeerError> {
        self.storage.command(command, each)
    }
}

#[test]
fn storage_board_that_is_busy_is_waited_for_a_moment_and_no_longer() {
    let mut pair = Pair::new(&[1, 2]);
    for (looks, expected) in [(u32::MAX, true), (3, false)] {
        let mut peer = Busy { storage: &mut pair.storage, looks };
        let mut last = None;
        Leader::new(&mut pair.updater, &mut peer, Duration::from_millis(1))
            .command(&UPGRADE, &mut |reply| last = Some(reply));
        let is_busy = matches!(&last, Some(UpdateReply::Failed { kind, .. }) if kind == "busy");
        assert_eq!(is_busy, expected, "{last:?}");
    }
}

#[test]
fn storage_board_of_the_release_before_is_led_up_and_back() {
    let mut pair = Pair::new(&[1, 2]);
    let mut refused = 0;
    for (order, expected) in [(UPGRADE, (2, 2)), (ROLLBACK, (1, 1))] {
        let mut peer = Earlier { storage: &mut pair.storage, refused: 0 };
        let mut last = None;
        Leader::new(&mut pair.updater, &mut peer, Duration::from_millis(1))
            .command(&order, &mut |reply| last = Some(reply));
        assert!(!matches!(last, Some(UpdateReply::Failed { .. })), "{last:?}");
        for _ in 0..4 {
            if pair.compute.seen.reboots.swap(0, Ordering::Relaxed) > 0 {
                pair.updater = pair.compute.boot();
            }
            Leader::new(&mut pair.updater, &mut peer, Duration::from_millis(1)).resume();
        }
        refused += peer.refused;
        assert_eq!(pair.run(), expected);
    }
    // Being fed is what it does not know; it was asked for, and done without.
    assert!(refused > 0, "the earlier release was never asked for anything new");
}
