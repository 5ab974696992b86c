//! The updater of one board: commands in, the state machine's effects out.

use crate::env::Env;
use crate::error::UpdateError;
use crate::esp::Esp;
use crate::feed::Feeder;
use crate::fetch::Fetcher;
use crate::notes::Notes;
use crate::repository::Job;
use crate::store::Store;
use goblin_core_manifest::waves::Hold;
use goblin_core_types::{
    BootRecord, Role, SlotState, SlotStatus, UpdateCommand, UpdateReply, UpdateSettings,
    UpdateSource, UpdateStatus, Version, Written,
};
use goblin_core_update::life::{self, Known};
use goblin_core_update::machine::{Chosen, Event, OnDisk, State};
use goblin_core_update::pair;
use goblin_core_update::settle::{self, Boot, Verdict};
use goblin_core_update::slots::{self, FlipSource};
use goblin_sys::record::{self, RecordPartition};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Shortest time between two progress lines.
const PROGRESS_PAUSE: Duration = Duration::from_millis(250);

/// Where progress and the last word of an operation go.
pub(crate) type Replies<'a> = &'a mut dyn FnMut(UpdateReply);

/// The updater of one board.
#[derive(Debug)]
pub struct Updater {
    pub(crate) env: Env,
    pub(crate) store: Store,
    pub(crate) esp: Esp,
    pub(crate) fetcher: Option<Fetcher>,
    /// Gives release files to the other board.
    pub(crate) feeder: Arc<Feeder>,
    pub(crate) state: State,
    pub(crate) job: Option<Job>,
    pub(crate) wanted: Option<Version>,
    pub(crate) status: UpdateStatus,
    progress_at: Option<Instant>,
    /// What an earlier boot left pending could not be judged yet.
    pub(crate) unsettled: bool,
    pub(crate) notes: Notes,
    /// What a person set.
    pub(crate) settings: UpdateSettings,
    pub(crate) provisioned_channel: Option<String>,
    /// A newer release that is not for this box yet, and why.
    pub(crate) held_back: Option<(Version, Hold)>,
    /// The present order does not wait for the box's turn.
    pub(crate) at_once: bool,
    /// Where the present order takes its release from, when not from the board's own source.
    pub(crate) from: Option<UpdateSource>,
    /// The schedule gave the present order, not a person.
    pub(crate) unasked: bool,
    /// What was written before the present release began to be fetched.
    pub(crate) written_before: Written,
}

impl Updater {
    /// Takes over the board: settles what an earlier boot left pending, and finds what is staged.
    pub fn start(env: Env) -> Self {
        let store = Store::new(env.store.clone()).written_by(env.writers.state.clone());
        let esp = Esp::new(env.esp.clone(), env.guard).written_by(env.writers.esp.clone());
        let fetcher = env.source.as_ref().map(|source| {
            let all = std::iter::once(&source.url).chain(&source.mirrors);
            let all: Vec<&str> = all.map(String::as_str).collect();
            Fetcher::with_proxy(&all.join(" "), source.proxy.as_deref(), env.retry_pause)
        });
        let feeder = Feeder::new(store.clone(), env.base.clone(), esp.clone(), env.running);
        feeder.lend(fetcher.clone());
        let status = UpdateStatus {
            source: env.source.as_ref().map(|s| s.url.clone()),
            ..UpdateStatus::default()
        };
        let notes = Notes::new(env.store.clone(), env.writers.state.clone());
        let settings = notes.settings();
        let provisioned_channel = env.source.as_ref().map(|source| source.channel.clone());
        let mut updater = Self {
            env,
            store,
            esp,
            fetcher,
            feeder: Arc::new(feeder),
            state: State::Idle,
            job: None,
            wanted: None,
            status,
            progress_at: None,
            unsettled: false,
            notes,
            settings: UpdateSettings::default(),
            provisioned_channel,
            held_back: None,
            at_once: false,
            from: None,
            unasked: false,
            written_before: Written::default(),
        };
        updater.take_settings(settings);
        if let Err(err) = updater.settle() {
            tracing::error!(%err, "an earlier upgrade cannot be settled");
            updater.status.problem = Some(err.to_string());
            updater.unsettled = true;
        }
        updater.publish();
        updater
    }

    /// Settles now what could not be settled at the start: before that nothing is known of this boot.
    fn settle_late(&mut self) -> Result<(), UpdateError> {
        if self.unsettled {
            self.settle()?;
            self.unsettled = false;
            self.status.problem = None;
            self.publish();
        }
        Ok(())
    }

    /// Goes on with the boot record of the disk that the board works from now, where that is another one; the ESP is
    /// another one under the same name by then.
    pub(crate) fn follow_disk(&mut self) {
        if !self.env.record.as_ref().is_some_and(RecordPartition::is_left) {
            return;
        }
        match record::find() {
            Ok(Some(record)) => {
                tracing::warn!("the board works from its other system disk");
                self.env.record = Some(record);
                self.unsettled = true;
            }
            // This process was started before there was another disk, and may not open it; the next one may.
            other => {
                tracing::warn!(
                    ?other,
                    "the board works from another disk: the updater starts anew"
                );
                std::process::exit(0);
            }
        }
    }

    /// Carries out a command of this board alone. The last reply is `Done` or `Failed`.
    pub fn command(&mut self, command: &UpdateCommand, replies: &mut dyn FnMut(UpdateReply)) {
        let result = self.carry_out(command, replies);
        self.note_end(command, result.as_ref().err());
        let last = match result {
            Ok(Some(last)) => last,
            // The operation told its last word itself, before the reboot.
            Ok(None) => {
                self.publish();
                return;
            }
            Err(err) => {
                tracing::warn!(kind = err.kind(), %err, "update command failed");
                self.status.problem = Some(err.to_string());
                err.reply()
            }
        };
        self.publish();
        replies(last);
    }

    pub(crate) fn carry_out(
        &mut self,
        command: &UpdateCommand,
        replies: Replies<'_>,
    ) -> Result<Option<UpdateReply>, UpdateError> {
        self.follow_disk();
        self.settle_late()?;
        self.status.problem = None;
        match *command {
            UpdateCommand::Check => {
                self.wanted = None;
                self.drive(Event::CheckAsked, replies)?;
                Ok(Some(self.offer()))
            }
            UpdateCommand::CheckNow => {
                self.wanted = None;
                self.at_once = true;
                let checked = self.drive(Event::CheckAsked, replies);
                self.at_once = false;
                checked.map(|()| Some(self.offer()))
            }
            UpdateCommand::Stage { to, ref from } => {
                self.wanted = to;
                self.with_source(from.as_ref(), |updater| {
                    updater.drive(Event::StageAsked, replies)
                })?;
                Ok(Some(match self.state {
                    State::Staged(OnDisk { release, .. }) if self.job.is_some() => done(
                        format!("release {} is on the disk, verified", release.version),
                        Some(release.version),
                    ),
                    _ => self.offer(),
                }))
            }
            UpdateCommand::Activate { to } => {
                self.drive(Event::ActivateAsked { to }, replies)?;
                Ok(None)
            }
            UpdateCommand::Rollback { to } => {
                let release = self.rollback_release(to)?;
                self.drive(Event::RollbackAsked(release), replies)?;
                Ok(None)
            }
            UpdateCommand::Discard => {
                self.drive(Event::DiscardAsked, replies)?;
                self.free_contents();
                Ok(Some(done("nothing is staged".into(), None)))
            }
            UpdateCommand::ClearQuarantine { release } => self.clear_quarantine(release).map(Some),
            UpdateCommand::Preview { to, ref from } => {
                self.with_source(from.as_ref(), |updater| updater.preview(to, replies)).map(Some)
            }
            UpdateCommand::Diff { a, b } => self.diff(a, b, replies).map(Some),
            UpdateCommand::Pin { release } => self.pin(release, true).map(Some),
            UpdateCommand::Unpin { release } => self.pin(release, false).map(Some),
            UpdateCommand::SetChannel { ref channel } => {
                self.set_channel(channel.as_deref()).map(Some)
            }
            UpdateCommand::FactoryReset { level, ref why } => {
                self.factory_reset(level, why, replies).map(|()| None)
            }
            UpdateCommand::SetSchedule { ref schedule } => self.set_schedule(schedule).map(Some),
            UpdateCommand::Bless => Err(UpdateError::NotByCommand),
            UpdateCommand::UpgradePair { .. }
            | UpdateCommand::RollbackPair { .. }
            | UpdateCommand::FactoryResetPair { .. } => Err(UpdateError::NotLeading),
        }
    }

    fn offer(&self) -> UpdateReply {
        match &self.job {
            Some(job) => {
                let (version, notes) = (job.manifest.version, &job.manifest.notes);
                done(format!("release {version} is offered: {notes}"), Some(version))
            }
            None => done(self.nothing_newer(), None),
        }
    }

    /// Why there is nothing to install.
    pub(crate) fn nothing_newer(&self) -> String {
        let running = self.env.running;
        match &self.held_back {
            Some((version, hold)) => format!(
                "release {running} runs; release {version} is handed out in waves and {hold}. `goblin upgrade --now` does not wait"
            ),
            None => format!("release {running} runs, and nothing newer is offered"),
        }
    }

    /// Gives back the room that contents and patches take.
    fn free_contents(&self) {
        let freed = self.store.keep_only(&[]).and_then(|()| self.store.drop_patches(None));
        if let Err(err) = freed {
            tracing::warn!(%err, "contents that nothing needs stay in the store");
        }
    }

    fn rollback_release(&self, to: Option<Version>) -> Result<Chosen, UpdateError> {
        self.record()?;
        let all = self.slots()?;
        let version = slots::rollback_target(&all, self.env.running, to)?;
        let good = |slot: &&SlotStatus| slot.version == version && slot.state == SlotState::Good;
        let slot = all.iter().find(good).ok_or(slots::SlotError::NotGood { version })?;
        Ok(Chosen { version, uki: self.esp.digest(&slot.file, slot.size_bytes)? })
    }

    /// Takes an event through the machine, with everything that follows from it.
    pub(crate) fn drive(&mut self, event: Event, replies: Replies<'_>) -> Result<(), UpdateError> {
        if event != Event::CheckAsked {
            self.record()?;
        }
        let mut next_event = Some(event);
        let mut failure: Option<UpdateError> = None;
        while let Some(event) = next_event.take() {
            let effects = match self.state.step(event) {
                Ok((state, effects)) => {
                    self.state = state;
                    self.note_intent();
                    self.publish();
                    effects
                }
                // What came back was refused: the operation fails, once.
                Err(refused) if failure.is_none() && matches!(event, Event::Verified { .. }) => {
                    failure = Some(refused.into());
                    next_event = Some(Event::Failed);
                    continue;
                }
                Err(refused) => return Err(failure.unwrap_or(refused.into())),
            };
            for effect in effects {
                match self.apply(effect, replies) {
                    Ok(Some(result)) => next_event = Some(result),
                    Ok(None) => {}
                    Err(err) => {
                        // The first failure is the cause; those of the way back are logged.
                        match &failure {
                            Some(_) => tracing::error!(%err, "cannot undo a failed step"),
                            None => failure = Some(err),
                        }
                        next_event = Some(Event::Failed);
                        break;
                    }
                }
            }
        }
        failure.map_or(Ok(()), Err)
    }

    /// Judges a flip that an earlier boot, or a failed step of this one, left pending.
    pub(crate) fn settle(&mut self) -> Result<(), UpdateError> {
        let Some(partition) = &self.env.record else { return Ok(()) };
        let record = partition.read().map_err(UpdateError::Record)?;
        let all = self.slots()?;
        let blessed = all.iter().any(|slot| slot.running && slot.state == SlotState::Good);
        // A bless that was cut off before the record knew of it still is one.
        let trial = self.env.trial && !blessed;
        let boot = Boot { running: self.env.running, trial };
        let mut settled = settle::settle(&record, &all, boot, self.env.hooks.now_unix_s());
        settled.spare(&all, &self.settings.pins);
        self.esp.apply(&settled.esp)?;
        if settled.clear_pending {
            partition.update(|record| settled.apply(record)).map_err(UpdateError::Record)?;
        }
        if let Some(report) = &settled.report {
            tracing::info!(outcome = ?report.outcome, reason = report.reason, "an upgrade was settled");
            // Decided: the contents are in what runs, or are not wanted.
            self.free_contents();
            // What failed before is older news than this.
            let _ = self.notes.keep_failed(None);
        }
        self.esp.apply(&settled.cleanup)?;
        if blessed && !trial {
            self.keep_menu();
        }
        self.state = match (settled.verdict, &record.pending) {
            (Verdict::Armed, Some(pending)) => {
                State::Armed { release: Chosen { version: pending.to, uki: pending.uki } }
            }
            (Verdict::OnTrial, _) => State::Trial,
            (Verdict::Nothing, _) if trial => State::Trial,
            _ => State::resumed(self.staged()?),
        };
        Ok(())
    }

    /// Without its entry in the boot menu a board is as good as with it, so this fails nothing.
    fn keep_menu(&self) {
        if let Err(err) = self.esp.keep_menu(self.env.running) {
            tracing::warn!(%err, "the boot menu's entry for a factory reset is not up to date");
        }
    }

    /// The staged release, if its file is still where it was.
    fn staged(&self) -> Result<Option<OnDisk>, UpdateError> {
        let Some(on_disk) = self.store.staged() else { return Ok(None) };
        let OnDisk { release, source } = on_disk;
        let version = release.version;
        let named = self.slots()?.iter().any(|slot| slot.version == version);
        let source = match source {
            FlipSource::New => self.esp.has_new().then_some(source),
            FlipSource::Existing | FlipSource::Blessed if named => Some(source),
            // A flip that was cut off took its name back.
            FlipSource::Existing | FlipSource::Blessed => {
                self.esp.has_new().then_some(FlipSource::New)
            }
        };
        match source.filter(|_| version != self.env.running) {
            Some(source) => Ok(Some(OnDisk { release, source })),
            None => {
                self.forget_staged();
                Ok(None)
            }
        }
    }

    /// What gives release files to the other board, also while an order is carried out.
    pub fn feeder(&self) -> Arc<Feeder> {
        self.feeder.clone()
    }

    /// Notices that the trial passed; called every few seconds.
    pub fn tick(&mut self) {
        self.follow_disk();
        // Its error is shown since the start.
        let _ = self.settle_late();
        if matches!(self.state, State::Idle | State::Staged(_)) && record::is_mirror_out_of_reach()
        {
            // While nothing is under way, so that an order need not wait for it on the day the disk dies.
            tracing::info!("the system disk got a mirror: the updater starts anew to reach it");
            std::process::exit(0);
        }
        if self.state != State::Trial {
            return;
        }
        let blessed = self
            .slots()
            .is_ok_and(|all| all.iter().any(|slot| slot.running && slot.state == SlotState::Good));
        let decided =
            self.record().and_then(|record| record.read().map_err(UpdateError::Record)).is_ok_and(
                |record| record.pending.is_none_or(|pending| pending.to != self.env.running),
            );
        if blessed && decided {
            tracing::info!(version = %self.env.running, "the trial passed");
            // They are in what runs.
            self.free_contents();
            self.keep_menu();
            // A bless has no effects of its own.
            if let Ok((state, _)) = self.state.step(Event::Blessed) {
                self.state = state;
            }
            self.publish();
        }
    }

    /// True while this boot is a try without a verdict.
    pub fn on_trial(&self) -> bool {
        self.state == State::Trial || self.unsettled
    }

    pub(crate) fn role(&self) -> Option<Role> {
        self.env.role
    }

    pub(crate) fn record(&self) -> Result<&RecordPartition, UpdateError> {
        self.env.record.as_ref().ok_or(UpdateError::NotLoaded)
    }

    pub(crate) fn read_record(&self) -> Result<BootRecord, UpdateError> {
        self.record()?.read().map_err(UpdateError::Record)
    }

    pub(crate) fn slots(&self) -> Result<Vec<SlotStatus>, UpdateError> {
        self.esp.slots(self.env.running)
    }

    /// Tells whoever asked, at most every [`PROGRESS_PAUSE`] while bytes move.
    pub(crate) fn progress(
        &mut self,
        replies: Replies<'_>,
        message: String,
        done: u64,
        total: u64,
    ) {
        let now = Instant::now();
        let soon = self.progress_at.is_some_and(|at| now.duration_since(at) < PROGRESS_PAUSE);
        if soon && done != 0 && done != total {
            return;
        }
        self.progress_at = Some(now);
        (self.status.done_bytes, self.status.total_bytes) = (done, total);
        self.publish();
        replies(UpdateReply::Progress { message, done_bytes: done, total_bytes: total });
    }

    /// Shows where the updater stands.
    pub(crate) fn publish(&mut self) {
        // Nothing in the record changes while bytes move, and this is called a few times a second.
        let moving = matches!(self.state, State::Fetching { .. } | State::Building { .. });
        let status = &mut self.status;
        status.phase = self.state.phase();
        status.target = match self.state {
            State::Trial => Some(self.env.running),
            state => state.target().map(|release| release.version),
        };
        if !moving {
            (status.done_bytes, status.total_bytes) = (0, 0);
        }
        if let Some(Ok(record)) =
            self.env.record.as_ref().filter(|_| !moving).map(RecordPartition::read)
        {
            status.last = record.reports.last().cloned();
            status.quarantine = record.quarantine;
            status.pair = record.pair.as_ref().map(pair::sentence);
        }
        if !moving {
            let failed = self.notes.failed();
            status.life = life::life(&Known {
                phase: status.phase,
                target: status.target,
                last: status.last.as_ref(),
                quarantine: &status.quarantine,
                failed: failed.as_ref(),
            });
        } else {
            status.life = life::life(&Known {
                phase: status.phase,
                target: status.target,
                last: None,
                quarantine: &[],
                failed: None,
            });
        }
        let slots = self.esp.slots(self.env.running).unwrap_or_default();
        self.env.hooks.publish(&self.status, &slots);
    }
}

pub(crate) fn done(message: String, version: Option<Version>) -> UpdateReply {
    UpdateReply::Done { message, version }
}

/// Blesses the running release: its name on the ESP loses the counter, the record says that it is good.
/// Repeating it changes nothing.
///
/// # Errors
/// [`UpdateError`]; the trial stays open and is blessed by a repetition.
pub fn bless(env: &Env) -> Result<(), UpdateError> {
    let record = env.record.as_ref().ok_or(UpdateError::NotLoaded)?;
    let esp = Esp::new(env.esp.clone(), env.guard).written_by(env.writers.esp.clone());
    let all = esp.slots(env.running)?;
    if let Some(step) = slots::bless(&all, env.running)? {
        esp.apply(&[step])?;
    }
    let at_unix_s = env.hooks.now_unix_s();
    record
        .update(|record| settle::blessed(record, env.running, at_unix_s))
        .map_err(UpdateError::Record)
}
