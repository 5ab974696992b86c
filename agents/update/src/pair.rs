//! Both boards as one step, led by the compute board: carries out the effects of
//! [`goblin_core_update::pair`].

use crate::error::UpdateError;
use crate::updater::{Replies, Updater, done};
use goblin_core_types::{
    BoardStatus, PairPlan, ResetLevel, Role, SlotState, UpdateCommand, UpdateOutcome, UpdatePhase,
    UpdateReply, UpdateSource, Version,
};
use goblin_core_update::machine::State;
use goblin_core_update::pair::{self, Effect, Event, Outcome};
use goblin_core_update::slots;
use std::time::{Duration, Instant};

/// Longest wait until the storage board has decided: three tries with their deadlines, and a slow boot
/// after them.
const STORAGE_WAIT: Duration = Duration::from_secs(30 * 60);
/// Looks in a row that a storage board which shall return may leave unanswered, before others get their turn.
const RETURN_LOOKS: u32 = 5;
/// Looks at a storage board that is busy, before an order to both is refused.
const BUSY_LOOKS: u32 = 4;
/// Times a board is told the same thing.
const ORDERS_MAX: u32 = 3;
/// A restart takes less; after this people should look.
const SILENCE_LONG: Duration = Duration::from_secs(3 * 60);

/// The other board.
pub trait Peer: Send {
    /// Its status, fresh.
    ///
    /// # Errors
    /// [`PeerError`].
    fn status(&mut self) -> Result<BoardStatus, PeerError>;

    /// Gives its updater a command; `each` is told the progress. Answers the last reply.
    ///
    /// # Errors
    /// [`PeerError`], also when it stopped answering in the middle.
    fn command(
        &mut self,
        command: &UpdateCommand,
        each: &mut dyn FnMut(UpdateReply),
    ) -> Result<UpdateReply, PeerError>;
}

/// Why the other board could not be asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PeerError {
    /// It is off, restarting, or the cable is out.
    #[error("it does not answer")]
    Silent,
    /// It answers with an error, or what it says cannot be understood; one phrase.
    #[error("{0}")]
    Failed(String),
}

/// What the storage board shall do to run another release.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// Activate what it staged.
    Activate,
    /// Boot a good release it has, or fetch one it no longer has.
    Return,
}

/// How the leading goes on.
enum Step {
    /// This happened.
    Event(Event),
    /// This board restarts, or its trial is open: the plan is taken up again later.
    Later,
}

/// What became of an order.
enum Order {
    Taken,
    NotNow,
}

/// Leads both boards.
pub struct Leader<'a> {
    updater: &'a mut Updater,
    peer: &'a mut dyn Peer,
    pause: Duration,
    /// The word of the first refusal.
    kind: Option<String>,
}

impl std::fmt::Debug for Leader<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Leader").field("updater", &self.updater).finish_non_exhaustive()
    }
}

impl<'a> Leader<'a> {
    /// Leads this board and the other one, with `pause` between two looks at the latter.
    pub fn new(updater: &'a mut Updater, peer: &'a mut dyn Peer, pause: Duration) -> Self {
        Self { updater, peer, pause, kind: None }
    }

    /// Notes the word of a refusal, and makes an event of its sentence.
    fn refused(&mut self, role: Role, kind: &str, reason: String) -> Event {
        self.kind.get_or_insert_with(|| kind.to_owned());
        Event::Failed { role, reason }
    }

    /// Carries out a command for both boards: [`UpdateCommand::UpgradePair`], [`UpdateCommand::RollbackPair`] or
    /// [`UpdateCommand::FactoryResetPair`].
    pub fn command(&mut self, command: &UpdateCommand, replies: &mut dyn FnMut(UpdateReply)) {
        let result = match *command {
            UpdateCommand::UpgradePair { to, ref from } => self.upgrade(to, from.clone(), replies),
            UpdateCommand::RollbackPair { to } => self.rollback(to, replies),
            UpdateCommand::FactoryResetPair { level, ref why } => {
                self.factory_reset(level, why, replies).map(|()| None)
            }
            _ => Err(UpdateError::NotLeading),
        };
        self.updater.note_end(command, result.as_ref().err());
        if let Err(err) = &result {
            tracing::warn!(kind = err.kind(), %err, "pair command failed");
            self.updater.status.problem = Some(err.to_string());
        }
        self.updater.publish();
        match result {
            Ok(Some(last)) => replies(last),
            Ok(None) => {}
            Err(err) => replies(err.reply()),
        }
    }

    /// Goes on with a plan that an earlier boot left in the record.
    pub fn resume(&mut self) {
        // An armed release waits for its reboot; the next boot goes on.
        if self.updater.status.pair.is_none() || matches!(self.updater.state, State::Armed { .. }) {
            return;
        }
        let plan = self.updater.read_record().ok().and_then(|record| record.pair);
        let Some(plan) = plan else { return };
        tracing::info!(to = %plan.to, step = ?plan.step, "going on with the plan for both boards");
        let mut quiet = |_: UpdateReply| {};
        match self.go(plan, Event::Resumed, &mut quiet) {
            Ok(Some(last)) => tracing::info!(?last, "the plan for both boards is done"),
            Ok(None) => {}
            Err(err) => {
                let told = Some(err.to_string());
                // A storage board that stays away is looked for every few seconds.
                if self.updater.status.problem != told {
                    tracing::warn!(kind = err.kind(), %err, "the plan for both boards failed");
                }
                self.updater.status.problem = told;
            }
        }
        self.updater.publish();
    }

    fn upgrade(
        &mut self,
        to: Option<Version>,
        from: Option<UpdateSource>,
        replies: Replies<'_>,
    ) -> Result<Option<UpdateReply>, UpdateError> {
        let storage = self.both_ready()?;
        let running = self.updater.env.running;
        let to = match to {
            Some(to) => to,
            None => {
                self.updater.with_source(own_source(from.as_ref()).as_ref(), |updater| {
                    updater.carry_out(&UpdateCommand::Check, replies)
                })?;
                // Nothing newer here; but the storage board may be behind, or, where the compute board was
                // replaced, ahead of all that is offered: it is not taken back unasked.
                let newest = self.updater.status.offered.unwrap_or(running);
                storage.boot.version.map_or(newest, |there| there.max(newest))
            }
        };
        if running == to && storage.boot.version == Some(to) {
            let message = match self.updater.held_back {
                Some(_) => self.updater.nothing_newer(),
                None => format!("both boards run release {to}, and nothing newer is offered"),
            };
            return Ok(Some(done(message, None)));
        }
        let (plan, effects) = pair::begin_upgrade(to, from);
        self.carry_on(plan, effects, replies)
    }

    fn rollback(
        &mut self,
        to: Option<Version>,
        replies: Replies<'_>,
    ) -> Result<Option<UpdateReply>, UpdateError> {
        let storage = self.both_ready()?;
        let running = self.updater.env.running;
        let here = self.updater.slots()?;
        let has = |all: &[goblin_core_types::SlotStatus], version| {
            all.iter().any(|slot| slot.version == version && slot.state == SlotState::Good)
        };
        let to = match to {
            Some(to) => to,
            None => {
                // With the boards on different releases the newer one is what to go back from.
                let newest = storage.boot.version.map_or(running, |there| there.max(running));
                here.iter()
                    .map(|slot| slot.version)
                    .filter(|&v| v < newest && has(&here, v) && has(&storage.slots, v))
                    .max()
                    .ok_or_else(|| nothing_in_common(newest, &here, &storage.slots))?
            }
        };
        if running != to {
            slots::rollback_target(&here, running, Some(to))?;
            // Before the storage board is sent where this one cannot follow.
            self.updater.check_slot_runs(to)?;
        }
        if storage.boot.version != Some(to) && !has(&storage.slots, to) {
            return Err(UpdateError::Board {
                role: Role::Storage,
                kind: "not-found".into(),
                message: format!(
                    "release {to} is not on its boot disk as a good one; name another"
                ),
            });
        }
        if running == to && storage.boot.version == Some(to) {
            return Err(slots::SlotError::Running { version: to }.into());
        }
        let (plan, effects) = pair::begin_rollback(to);
        self.carry_on(plan, effects, replies)
    }

    /// The storage board first: this one cannot tell it anything once it restarts.
    fn factory_reset(
        &mut self,
        level: ResetLevel,
        why: &str,
        replies: Replies<'_>,
    ) -> Result<(), UpdateError> {
        self.both_ready()?;
        self.updater.may_reset()?;
        let command = UpdateCommand::FactoryReset { level, why: why.to_owned() };
        let role = Role::Storage;
        match self.peer.command(&command, &mut |reply| replies(named(role, reply))) {
            Ok(UpdateReply::Done { message, .. }) => {
                let message = format!("{role}: {message}");
                replies(UpdateReply::Progress { message, done_bytes: 0, total_bytes: 0 });
            }
            Ok(UpdateReply::Failed { kind, message }) => {
                return Err(UpdateError::Board { role, kind, message });
            }
            Ok(_) => {
                let message = "its updater stopped in the middle".into();
                return Err(UpdateError::Board { role, kind: "peer".into(), message });
            }
            Err(err) => return Err(UpdateError::Peer { detail: err.to_string() }),
        }
        self.updater.factory_reset(level, why, replies)
    }

    /// Refuses before anything is begun: not the leading board, a plan under way, the other board out of
    /// reach or itself busy.
    fn both_ready(&mut self) -> Result<BoardStatus, UpdateError> {
        if self.updater.role() != Some(Role::Compute) {
            return Err(UpdateError::NotLeading);
        }
        self.updater.follow_disk();
        if self.updater.read_record()?.pair.is_some() {
            return Err(goblin_core_update::machine::Refused::Busy.into());
        }
        if self.updater.on_trial() {
            return Err(goblin_core_update::machine::Refused::OnTrial.into());
        }
        for look in 1.. {
            let status =
                self.peer.status().map_err(|err| UpdateError::Peer { detail: err.to_string() })?;
            if matches!(status.update.phase, UpdatePhase::Idle | UpdatePhase::Staged) {
                return Ok(status);
            }
            // A trial that just passed, or a look at the repository, is over soon.
            if look > BUSY_LOOKS {
                break;
            }
            std::thread::sleep(self.pause);
        }
        Err(UpdateError::Board {
            role: Role::Storage,
            kind: "busy".into(),
            message: "its updater is busy; try again when `goblin status` shows it idle".into(),
        })
    }

    fn go(
        &mut self,
        plan: PairPlan,
        event: Event,
        replies: Replies<'_>,
    ) -> Result<Option<UpdateReply>, UpdateError> {
        let (next, effects) = pair::step(plan.clone(), event).map_err(|err| {
            tracing::error!(%err, "the plan for both boards cannot go on");
            UpdateError::Refused(goblin_core_update::machine::Refused::Busy)
        })?;
        self.carry_on(next.unwrap_or(plan), effects, replies)
    }

    /// Carries out effects, and those of the events that follow, until the plan ends or this board
    /// restarts.
    fn carry_on(
        &mut self,
        mut plan: PairPlan,
        mut effects: Vec<Effect>,
        replies: Replies<'_>,
    ) -> Result<Option<UpdateReply>, UpdateError> {
        // Why the step before failed: the words of the board, for the last answer.
        let mut reason = None;
        let mut lost = None;
        loop {
            let mut event = None;
            for effect in effects {
                if let Effect::Tell(outcome) = effect {
                    return self.tell(outcome, reason).map(Some);
                }
                match self.apply(&plan, effect, replies)? {
                    Some(Step::Event(next)) => event = Some(next),
                    Some(Step::Later) => return Ok(None),
                    None => {}
                }
            }
            let Some(event) = event else {
                // The plan stays, and is taken up again every few seconds.
                return lost.map_or(Ok(None), |detail: String| {
                    Err(UpdateError::StorageLost { to: plan.to, detail })
                });
            };
            if let Event::Lost { reason } = &event {
                lost = Some(reason.clone());
            }
            if let Event::Failed { reason: words, .. } = &event
                && reason.is_none()
            {
                reason = Some(words.clone());
            }
            let (next, following) = pair::step(plan.clone(), event).map_err(|err| {
                tracing::error!(%err, "the plan for both boards cannot go on");
                UpdateError::Refused(goblin_core_update::machine::Refused::Busy)
            })?;
            plan = next.unwrap_or(plan);
            effects = following;
        }
    }

    fn tell(&self, outcome: Outcome, reason: Option<String>) -> Result<UpdateReply, UpdateError> {
        match outcome {
            Outcome::Done { to, rollback: false } => {
                Ok(done(format!("both boards run release {to}"), Some(to)))
            }
            Outcome::Done { to, rollback: true } => {
                Ok(done(format!("both boards run release {to} again"), Some(to)))
            }
            Outcome::Failed { role, reason: words } => {
                let message = match reason {
                    Some(first) if first != words => format!("{words}: {first}"),
                    _ => words,
                };
                let kind = self.kind.clone().unwrap_or_else(|| "refused".into());
                Err(UpdateError::Board { role, kind, message })
            }
            Outcome::Apart { reason: words } => Err(UpdateError::Board {
                role: Role::Storage,
                kind: "peer".into(),
                message: format!(
                    "it could not return ({words}), so the boards run different releases; they work together, try `goblin upgrade` or `goblin rollback` again"
                ),
            }),
        }
    }

    fn apply(
        &mut self,
        plan: &PairPlan,
        effect: Effect,
        replies: Replies<'_>,
    ) -> Result<Option<Step>, UpdateError> {
        Ok(match effect {
            Effect::Persist(plan) => {
                self.keep(Some(plan))?;
                None
            }
            Effect::Clear => {
                self.keep(None)?;
                None
            }
            Effect::StageBoth => Some(Step::Event(self.stage_both(plan, replies))),
            Effect::BringStorage => {
                let way = if plan.rollback { Way::Return } else { Way::Activate };
                Some(Step::Event(self.bring_storage(plan.to, way, STORAGE_WAIT, replies)))
            }
            Effect::ReturnStorage => {
                let running = self.updater.env.running;
                // Nobody waits for it, and others want the updater.
                let patience = self.pause.saturating_mul(RETURN_LOOKS);
                Some(Step::Event(self.bring_storage(running, Way::Return, patience, replies)))
            }
            Effect::BringCompute => Some(self.bring_compute(plan, replies)),
            Effect::DiscardBoth => {
                // Leftovers cost space, not safety: what cannot be discarded now is replaced later.
                let mut quiet = |_: UpdateReply| {};
                let there = self.peer.command(&UpdateCommand::Discard, &mut quiet);
                let here = self.updater.carry_out(&UpdateCommand::Discard, &mut quiet);
                if there.is_err() || here.is_err() {
                    tracing::info!(
                        ?there,
                        here = here.is_ok(),
                        "a staged release could not be discarded"
                    );
                }
                None
            }
            Effect::Tell(_) => None,
        })
    }

    fn keep(&mut self, plan: Option<PairPlan>) -> Result<(), UpdateError> {
        self.updater.record()?.update(|record| record.pair = plan).map_err(UpdateError::Record)?;
        self.updater.publish();
        Ok(())
    }

    /// The compute board fetches, then feeds the storage board.
    fn stage_both(&mut self, plan: &PairPlan, replies: Replies<'_>) -> Event {
        let to = plan.to;
        let from = own_source(plan.from.as_ref());
        if self.updater.env.running != to {
            let stage = UpdateCommand::Stage { to: Some(to), from: from.clone() };
            let mut named_replies = |reply| replies(named(Role::Compute, reply));
            if let Err(err) = self.updater.carry_out(&stage, &mut named_replies) {
                return self.refused(Role::Compute, err.kind(), err.to_string());
            }
        }
        let taken = match self.updater.open_source(from.as_ref()) {
            Ok(taken) => taken,
            Err(err) => return self.refused(Role::Compute, err.kind(), err.to_string()),
        };
        // What this board itself lacks, because it runs the release already, comes from the same place.
        self.updater.feeder.lend(taken.fetcher.clone());
        let mut staged = self.stage_storage(to, Some(UpdateSource::Board), replies);
        self.updater.feeder.lend(self.updater.fetcher.clone());
        if let (Err((kind, message)), true) = (&staged, has_own_way(plan.from.as_ref()))
            && !is_verdict(kind)
        {
            tracing::warn!(kind, message, "the storage board is not fed; it fetches by itself");
            staged = self.stage_storage(to, from, replies);
        }
        match staged {
            Ok(()) => Event::Staged,
            Err((kind, message)) => self.refused(Role::Storage, &kind, message),
        }
    }

    /// Has the storage board stage a release; answers the word of its refusal and its sentence.
    fn stage_storage(
        &mut self,
        to: Version,
        from: Option<UpdateSource>,
        replies: Replies<'_>,
    ) -> Result<(), (String, String)> {
        let stage = UpdateCommand::Stage { to: Some(to), from };
        let since = Instant::now();
        let mut waits = String::new();
        loop {
            let there =
                self.peer.command(&stage, &mut |reply| replies(named(Role::Storage, reply)));
            match there {
                // It goes on by itself with what a restart interrupted.
                Ok(UpdateReply::Failed { kind, .. })
                    if kind == "busy" && since.elapsed() < STORAGE_WAIT =>
                {
                    self.tell_waiting(replies, &mut waits, "its updater is at work".into());
                    std::thread::sleep(self.pause);
                }
                Ok(UpdateReply::Done { .. }) => return Ok(()),
                Ok(UpdateReply::Failed { kind, message }) => return Err((kind, message)),
                Ok(_) => {
                    return Err(("peer".into(), "its updater stopped in the middle".into()));
                }
                Err(err) => return Err(("peer".into(), err.to_string())),
            }
        }
    }

    /// Makes the storage board run `to` and waits until it does for good, or does not. One that is silent, and was not
    /// told yet, is waited for as long as `patience` allows.
    fn bring_storage(
        &mut self,
        to: Version,
        way: Way,
        patience: Duration,
        replies: Replies<'_>,
    ) -> Event {
        let since = Instant::now();
        let mut orders = 0u32;
        let mut silent_since = None;
        let mut asked = false;
        let mut last_seen = String::from("it has not answered yet");
        while since.elapsed() < STORAGE_WAIT {
            let status = match self.peer.status() {
                Ok(status) => status,
                Err(err) => {
                    // Restarting, or the cable is out: both end.
                    let silence = silent_since.get_or_insert_with(Instant::now).elapsed();
                    let what = absence(&err, asked, silence);
                    self.tell_waiting(replies, &mut last_seen, what);
                    if !asked && silence >= patience {
                        return Event::Lost { reason: last_seen };
                    }
                    std::thread::sleep(self.pause);
                    continue;
                }
            };
            silent_since = None;
            match judge(&status, to) {
                Seen::Runs => return Event::StorageRuns,
                Seen::Failed(reason) => return self.refused(Role::Storage, "fell-back", reason),
                Seen::Moving(what) => {
                    self.tell_waiting(replies, &mut last_seen, what);
                    std::thread::sleep(self.pause);
                    continue;
                }
                Seen::Still if orders >= ORDERS_MAX => {
                    let reason =
                        format!("it was told {orders} times to run release {to} and does not");
                    return self.refused(Role::Storage, "refused", reason);
                }
                Seen::Still => {}
            }
            asked = true;
            match self.order_storage(&status, to, way, replies) {
                Ok(Order::Taken) => orders = orders.saturating_add(1),
                Ok(Order::NotNow) => {}
                Err((kind, reason)) => return self.refused(Role::Storage, &kind, reason),
            }
            std::thread::sleep(self.pause);
        }
        let minutes = STORAGE_WAIT.as_secs() / 60;
        Event::Lost { reason: format!("it did not decide within {minutes} minutes: {last_seen}") }
    }

    fn order_storage(
        &mut self,
        status: &BoardStatus,
        to: Version,
        way: Way,
        replies: Replies<'_>,
    ) -> Result<Order, (String, String)> {
        let staged = status.update.phase == UpdatePhase::Staged && status.update.target == Some(to);
        let good =
            status.slots.iter().any(|slot| slot.version == to && slot.state == SlotState::Good);
        let command = match way {
            Way::Return if good => UpdateCommand::Rollback { to: Some(to) },
            Way::Return if !staged => UpdateCommand::Stage { to: Some(to), from: None },
            Way::Activate | Way::Return => UpdateCommand::Activate { to },
        };
        match self.peer.command(&command, &mut |reply| replies(named(Role::Storage, reply))) {
            Ok(UpdateReply::Failed { kind, .. }) if kind == "busy" => Ok(Order::NotNow),
            Ok(UpdateReply::Failed { kind, message }) => Err((kind, message)),
            Ok(last) => {
                replies(named(Role::Storage, last));
                Ok(Order::Taken)
            }
            // It may have taken the order and restarted before it could say so: its status will tell.
            Err(_) => Ok(Order::NotNow),
        }
    }

    fn tell_waiting(&mut self, replies: Replies<'_>, last: &mut String, what: String) {
        if *last == what {
            return;
        }
        let message = format!("storage: {what}");
        replies(UpdateReply::Progress { message, done_bytes: 0, total_bytes: 0 });
        *last = what;
    }

    /// Makes this board run the plan's release; that restarts it, and the next boot goes on from here.
    fn bring_compute(&mut self, plan: &PairPlan, replies: Replies<'_>) -> Step {
        let to = plan.to;
        if self.updater.env.running == to {
            return if self.updater.on_trial() {
                Step::Later
            } else {
                Step::Event(Event::ComputeRuns)
            };
        }
        if matches!(self.updater.state, State::Armed { .. }) {
            return Step::Later;
        }
        let record = match self.updater.read_record() {
            Ok(record) => record,
            Err(err) => {
                return Step::Event(self.refused(Role::Compute, err.kind(), err.to_string()));
            }
        };
        let last = record.reports.last().filter(|report| report.to == to);
        if let Some(report) = last.filter(|report| report.outcome == UpdateOutcome::FellBack)
            && record.quarantine.iter().any(|known| known.version == to)
        {
            return Step::Event(self.refused(Role::Compute, "fell-back", report.reason.clone()));
        }
        if plan.orders >= ORDERS_MAX {
            let reason = match last {
                Some(report) => report.reason.clone(),
                None => format!("it restarted {} times and does not run release {to}", plan.orders),
            };
            return Step::Event(self.refused(Role::Compute, "refused", reason));
        }
        let counted = PairPlan { orders: plan.orders.saturating_add(1), ..plan.clone() };
        if let Err(err) = self.keep(Some(counted)) {
            return Step::Event(self.refused(Role::Compute, err.kind(), err.to_string()));
        }
        let command = if plan.rollback {
            UpdateCommand::Rollback { to: Some(to) }
        } else {
            UpdateCommand::Activate { to }
        };
        let mut named_replies = |reply| {
            replies(match reply {
                UpdateReply::Done { version, .. } => done(
                    format!("the storage board runs release {to}; this board restarts into it now"),
                    version,
                ),
                other => named(Role::Compute, other),
            });
        };
        match self.updater.carry_out(&command, &mut named_replies) {
            Ok(_) => Step::Later,
            Err(err) => Step::Event(self.refused(Role::Compute, err.kind(), err.to_string())),
        }
    }
}

/// Where the compute board itself takes a release from, when both shall have it.
fn own_source(from: Option<&UpdateSource>) -> Option<UpdateSource> {
    from.filter(|from| **from != UpdateSource::Board).cloned()
}

/// Whether the storage board can get at the source without the compute board.
const fn has_own_way(from: Option<&UpdateSource>) -> bool {
    matches!(from, None | Some(UpdateSource::Url(_)))
}

/// Whether a refusal is about the release or the board, so that another way would end the same.
fn is_verdict(kind: &str) -> bool {
    matches!(kind, "signature" | "expired" | "older" | "space" | "quarantined" | "busy" | "esp")
}

fn nothing_in_common(
    newest: Version,
    here: &[goblin_core_types::SlotStatus],
    there: &[goblin_core_types::SlotStatus],
) -> UpdateError {
    let good = |all: &[goblin_core_types::SlotStatus]| {
        let good = all.iter().filter(|slot| slot.state == SlotState::Good);
        let names: Vec<String> = good.map(|slot| slot.version.to_string()).collect();
        if names.is_empty() { "none".into() } else { names.join(", ") }
    };
    UpdateError::NothingInCommon { newest, compute: good(here), storage: good(there) }
}

/// What to tell people while the storage board cannot be asked.
fn absence(err: &PeerError, ordered: bool, silence: Duration) -> String {
    match err {
        PeerError::Silent if silence >= SILENCE_LONG => format!(
            "it has not answered for {} minutes; still waiting, look at its power and at the cable between the boards",
            silence.as_secs() / 60
        ),
        PeerError::Silent if ordered => "the storage board is restarting".into(),
        PeerError::Silent => "it does not answer; waiting for it".into(),
        PeerError::Failed(detail) => format!("waiting for it ({detail})"),
    }
}

/// What the storage board's status says about a release.
#[derive(Debug, PartialEq, Eq)]
enum Seen {
    Runs,
    Moving(String),
    Failed(String),
    Still,
}

fn judge(status: &BoardStatus, to: Version) -> Seen {
    let update = &status.update;
    if status.boot.version == Some(to) {
        let good =
            status.slots.iter().any(|slot| slot.version == to && slot.state == SlotState::Good);
        return if good && update.phase != UpdatePhase::Trial {
            Seen::Runs
        } else {
            Seen::Moving(format!("release {to} is on trial"))
        };
    }
    match update.phase {
        UpdatePhase::Armed => return Seen::Moving(format!("restarting into release {to}")),
        UpdatePhase::Trial
        | UpdatePhase::Checking
        | UpdatePhase::Fetching
        | UpdatePhase::Building => {
            return Seen::Moving("its updater is at work".into());
        }
        // An updater that has not shown itself since the boot; a board that stages has a source.
        UpdatePhase::Idle if update.source.is_none() => {
            return Seen::Moving("its updater is starting".into());
        }
        UpdatePhase::Idle | UpdatePhase::Staged => {}
    }
    let last = update.last.as_ref().filter(|report| report.to == to);
    if let Some(report) = last.filter(|report| report.outcome == UpdateOutcome::FellBack)
        && update.quarantine.iter().any(|known| known.version == to)
    {
        return Seen::Failed(report.reason.clone());
    }
    Seen::Still
}

/// A reply with the board's name in front of its words.
fn named(role: Role, reply: UpdateReply) -> UpdateReply {
    match reply {
        UpdateReply::Progress { message, done_bytes, total_bytes } => {
            UpdateReply::Progress { message: format!("{role}: {message}"), done_bytes, total_bytes }
        }
        // Only the plan as a whole has a last word.
        UpdateReply::Done { message, .. } | UpdateReply::Failed { message, .. } => {
            UpdateReply::Progress {
                message: format!("{role}: {message}"),
                done_bytes: 0,
                total_bytes: 0,
            }
        }
        other @ (UpdateReply::Plan(_) | UpdateReply::Diff(_)) => other,
    }
}
