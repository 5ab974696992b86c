//! Orders that change no release: previews, comparisons, and what a person sets.

use crate::error::UpdateError;
use crate::feed::OtherBoard;
use crate::fetch::Fetcher;
use crate::lookup;
use crate::notes::{Intent, RESUMES_MAX};
use crate::obtain::{self, Wanted};
use crate::origin::Folder;
use crate::repository::Job;
use crate::stick::{self, Stick};
use crate::updater::{Replies, Updater, done};
use goblin_core_delta::choose::Choice;
use goblin_core_types::{
    BootRecord, ResetLevel, Role, Schedule, SlotStatus, UpdateCommand, UpdateReply, UpdateSettings,
    UpdateSource, UpgradePlan, Version, is_channel,
};
use goblin_core_update::life::Failed;
use goblin_core_update::machine::{Event, Refused, State};
use goblin_core_update::reset;
use goblin_core_update::slots::{self, EspStep};
use goblin_image::diff;

/// A source, open for one order.
pub(crate) struct Taken {
    pub(crate) fetcher: Option<Fetcher>,
    /// Mounted for as long as it is held.
    pub(crate) stick: Option<Box<dyn Stick>>,
}

impl Updater {
    /// Opens where one order takes its release from.
    pub(crate) fn open_source(&self, from: Option<&UpdateSource>) -> Result<Taken, UpdateError> {
        let pause = self.env.retry_pause;
        let of = |fetcher| Taken { fetcher, stick: None };
        match from {
            None => Ok(of(self.fetcher.clone())),
            Some(UpdateSource::Url(url)) => {
                let proxy = self.env.source.as_ref().and_then(|source| source.proxy.as_deref());
                Ok(of(Some(Fetcher::with_proxy(url, proxy, pause))))
            }
            Some(UpdateSource::Folder(path)) => {
                let folder = Folder::new(path.into());
                Ok(of(Some(Fetcher::of(vec![Box::new(folder)], pause))))
            }
            Some(UpdateSource::Usb) => {
                let stick = self.env.hooks.stick()?;
                let folder = Folder::named(stick.folder().to_owned(), stick.name());
                let fetcher = Fetcher::of(vec![Box::new(folder)], pause);
                Ok(Taken { fetcher: Some(fetcher), stick: Some(stick) })
            }
            // The compute board is the one that fetches.
            Some(UpdateSource::Board) if self.env.role != Some(Role::Storage) => {
                Err(UpdateError::NotFed)
            }
            Some(UpdateSource::Board) => {
                let other = OtherBoard(self.env.hooks.other_board());
                Ok(of(Some(Fetcher::of(vec![Box::new(other)], pause))))
            }
        }
    }

    /// Lets `work` fetch from elsewhere.
    pub(crate) fn with_source<T>(
        &mut self,
        from: Option<&UpdateSource>,
        work: impl FnOnce(&mut Self) -> Result<T, UpdateError>,
    ) -> Result<T, UpdateError> {
        let taken = self.open_source(from)?;
        let own = std::mem::replace(&mut self.fetcher, taken.fetcher);
        self.from = from.cloned();
        let result = work(self);
        self.fetcher = own;
        self.from = None;
        match taken.stick {
            Some(stick) => result.map_err(|err| stick::explain(err, &*stick)),
            None => result,
        }
    }

    /// Says what an upgrade would do.
    pub(crate) fn preview(
        &mut self,
        to: Option<Version>,
        replies: Replies<'_>,
    ) -> Result<UpdateReply, UpdateError> {
        self.wanted = to;
        self.drive(Event::CheckAsked, replies)?;
        let from = self.env.running;
        let Some(job) = self.job.clone() else {
            return Ok(done(self.nothing_newer(), None));
        };
        let (to, recipe) = (job.manifest.version, &job.manifest.uki);
        let all = self.slots()?;
        let choice = self.way(&job)?;
        let there = all.iter().any(|slot| slot.version == to && slot.size_bytes == recipe.uki_size);
        let image_bytes = if there { 0 } else { recipe.uki_size };
        let mut problems = Vec::new();
        let room = slots::room(&self.esp.names()?, &all, to, &self.settings.pins);
        let deletes = match &room {
            Ok(steps) => deleted(&all, steps),
            Err(err) => {
                problems.push(err.to_string());
                Vec::new()
            }
        };
        if let Err(err) = self.store.check_room(choice.missing_bytes, self.env.spare_bytes) {
            problems.push(err.to_string());
        }
        if let Err(err) = self.esp.check_room(image_bytes) {
            problems.push(err.to_string());
        }
        let message = if problems.is_empty() {
            format!("release {to} can be installed; nothing was changed")
        } else {
            format!("release {to} cannot be installed yet; nothing was changed")
        };
        replies(UpdateReply::Plan(UpgradePlan {
            from,
            to: Some(to),
            notes: job.manifest.notes.clone(),
            fetch_count: choice.missing,
            fetch_bytes: choice.cost.bytes,
            fetch_requests: choice.cost.requests,
            ways: choice.explain().lines().map(str::to_owned).collect(),
            image_bytes,
            deletes,
            problems,
        }));
        Ok(done(message, Some(to)))
    }

    /// The cheapest way to what a release has and this board has not.
    fn way(&self, job: &Job) -> Result<Choice, UpdateError> {
        let fetcher = self.fetcher.as_ref().ok_or(UpdateError::NoSource)?;
        let wanted = Wanted {
            version: job.manifest.version,
            running: self.env.running,
            blobs: &job.blobs,
            parcels: job.manifest.parcels.as_ref(),
        };
        obtain::preview(&wanted, fetcher, &self.store, &mut self.held()?)
    }

    /// Says how two releases differ.
    pub(crate) fn diff(
        &mut self,
        a: Option<Version>,
        b: Version,
        replies: Replies<'_>,
    ) -> Result<UpdateReply, UpdateError> {
        let a = a.unwrap_or(self.env.running);
        let fetcher = self.fetcher.clone().ok_or(UpdateError::NoSource)?;
        let read = lookup::releases(&self.env, &self.store, &fetcher, &[a, b])?;
        let [left, right] = read.as_slice() else { return Err(UpdateError::NoSource) };
        let mut found = diff::diff((a, &left.manifest.uki), (b, &right.manifest.uki));
        if let (Some(left), Some(right)) = (&left.packages, &right.packages) {
            found.packages = Some(left.changes(right));
        }
        let message = format!(
            "{} files differ and {} are equal; {} bytes are new in release {b}",
            found.changed_count, found.equal_count, found.new_bytes
        );
        replies(UpdateReply::Diff(Box::new(found)));
        Ok(done(message, Some(b)))
    }

    /// Pins a release, or lets it go.
    pub(crate) fn pin(&mut self, release: Version, pin: bool) -> Result<UpdateReply, UpdateError> {
        let pins = if pin {
            slots::pin(&self.slots()?, &self.settings.pins, release)?
        } else {
            self.settings.pins.iter().copied().filter(|pinned| *pinned != release).collect()
        };
        self.set(|settings| settings.pins = pins)?;
        let message = if pin {
            format!("release {release} is pinned: it is neither deleted nor replaced")
        } else {
            format!("release {release} is not pinned")
        };
        Ok(done(message, Some(release)))
    }

    /// Follows another channel, or the provisioning file's again.
    pub(crate) fn set_channel(
        &mut self,
        channel: Option<&str>,
    ) -> Result<UpdateReply, UpdateError> {
        if let Some(name) = channel.filter(|name| !is_channel(name)) {
            return Err(UpdateError::Channel { name: name.chars().take(40).collect() });
        }
        self.set(|settings| settings.channel = channel.map(str::to_owned))?;
        let follows = self.status.channel.clone().unwrap_or_else(|| "no channel".into());
        Ok(done(format!("this board follows {follows}"), None))
    }

    /// Changes what is done unasked.
    pub(crate) fn set_schedule(&mut self, schedule: &Schedule) -> Result<UpdateReply, UpdateError> {
        self.set(|settings| settings.schedule = schedule.clone())?;
        self.status.waiting = None;
        Ok(done("the schedule is kept".into(), None))
    }

    /// Refuses a factory reset in the middle of an upgrade.
    pub(crate) fn may_reset(&self) -> Result<(), UpdateError> {
        match self.state {
            State::Idle | State::Staged(_) => Ok(()),
            State::Trial => Err(Refused::OnTrial.into()),
            State::Armed { release } => Err(Refused::Armed { to: release.version }.into()),
            _ => Err(Refused::Busy.into()),
        }
    }

    /// Writes a factory reset down, then has the board restarted, whose next boot carries it out.
    pub(crate) fn factory_reset(
        &mut self,
        level: ResetLevel,
        why: &str,
        replies: Replies<'_>,
    ) -> Result<(), UpdateError> {
        self.may_reset()?;
        let at_unix_s = self.env.hooks.now_unix_s();
        let order = |record: &mut BootRecord| reset::order(record, level, why, at_unix_s);
        self.record()?.update(order).map_err(UpdateError::Record)??;
        let message = format!("the factory reset ({level}) is written down; the board restarts");
        replies(done(message, None));
        let reason = format!("factory reset ({level}): {why}");
        self.env.hooks.reboot(&reason).map_err(|detail| UpdateError::ResetWaits { detail })
    }

    /// Forgets failures.
    pub(crate) fn clear_quarantine(
        &mut self,
        release: Option<Version>,
    ) -> Result<UpdateReply, UpdateError> {
        let forgotten = self
            .record()?
            .update(|record| {
                let before = record.quarantine.len();
                let stays = |version| release.is_some_and(|wanted| wanted != version);
                record.quarantine.retain(|known| stays(known.version));
                before.saturating_sub(record.quarantine.len())
            })
            .map_err(UpdateError::Record)?;
        match release {
            Some(version) if forgotten == 0 => Err(UpdateError::NotQuarantined { version }),
            _ => Ok(done("releases that failed here may be tried again".into(), release)),
        }
    }

    fn set(&mut self, change: impl FnOnce(&mut UpdateSettings)) -> Result<(), UpdateError> {
        let mut settings = self.settings.clone();
        change(&mut settings);
        self.notes.keep_settings(&settings)?;
        self.take_settings(settings);
        Ok(())
    }

    /// Puts settings in force.
    pub(crate) fn take_settings(&mut self, settings: UpdateSettings) {
        let channel = settings.channel.clone().or_else(|| self.provisioned_channel.clone());
        if let (Some(source), Some(channel)) = (&mut self.env.source, &channel) {
            source.channel.clone_from(channel);
        }
        self.status.channel = channel;
        self.status.settings = settings.clone();
        self.settings = settings;
    }

    /// Notes what is being fetched, for a restart in the middle of it.
    pub(crate) fn note_intent(&self) {
        let known = self.notes.intent();
        let kept = match self.state {
            State::Fetching { release } => {
                let resumes = known.filter(|k| k.to == release.version).map_or(0, |k| k.resumes);
                let intent = Intent { to: release.version, from: self.from.clone(), resumes };
                self.notes.keep_intent(Some(&intent))
            }
            State::Idle | State::Staged(_) if known.is_some() => self.notes.keep_intent(None),
            _ => Ok(()),
        };
        if let Err(err) = kept {
            tracing::warn!(%err, "what is under way cannot be noted");
        }
    }

    /// Notes how an order ended, so that people find it after a restart.
    pub(crate) fn note_end(&self, command: &UpdateCommand, err: Option<&UpdateError>) {
        let to = match command {
            UpdateCommand::Stage { to, .. } | UpdateCommand::UpgradePair { to, .. } => *to,
            UpdateCommand::Activate { to } => Some(*to),
            UpdateCommand::Rollback { to } | UpdateCommand::RollbackPair { to } => *to,
            _ => return,
        };
        let failed = match err {
            // Nothing was begun.
            Some(UpdateError::Refused(_) | UpdateError::NotLeading) => return,
            Some(err) => {
                let version = to.or(self.status.offered);
                Some(Failed { version, reason: err.to_string() })
            }
            None => None,
        };
        if let Err(err) = self.notes.keep_failed(failed.as_ref()) {
            tracing::warn!(%err, "how an order ended cannot be noted");
        }
    }

    /// Goes on with what a restart interrupted.
    pub fn resume_intent(&mut self) {
        let Some(mut intent) = self.notes.intent().filter(|_| self.state == State::Idle) else {
            return;
        };
        // The plan for both boards stages anew by itself.
        if self.status.pair.is_some() {
            return;
        }
        intent.resumes = intent.resumes.saturating_add(1);
        let to = intent.to;
        if intent.resumes > RESUMES_MAX || self.notes.keep_intent(Some(&intent)).is_err() {
            let reason = format!(
                "the board was restarted {RESUMES_MAX} times while release {to} was fetched and built; try again with `goblin upgrade --to {to}`"
            );
            let _ = self.notes.keep_failed(Some(&Failed { version: Some(to), reason }));
            let _ = self.notes.keep_intent(None);
            self.publish();
            return;
        }
        tracing::info!(%to, resumes = intent.resumes, "going on with a release that was being fetched");
        let command = UpdateCommand::Stage { to: Some(to), from: intent.from };
        self.command(&command, &mut |_| {});
    }
}

fn deleted(all: &[SlotStatus], steps: &[EspStep]) -> Vec<Version> {
    all.iter()
        .filter(|slot| {
            steps.iter().any(|s| matches!(s, EspStep::Delete { file } if *file == slot.file))
        })
        .map(|slot| slot.version)
        .collect()
}
