//! The effects of the state machine, carried out.

use crate::error::UpdateError;
use crate::held::Held;
use crate::obtain::{Wanted, obtain};
use crate::repository::{self, Asked, Found, Job};
use crate::store::Store;
use crate::updater::{Replies, Updater, done};
use goblin_core_types::{BootRecord, Digest, Pending, SlotStatus, Version};
use goblin_core_update::machine::{Chosen, Effect, Event};
use goblin_core_update::mirror::may_run;
use goblin_core_update::slots::{self, FlipSource, NEW_FILE, SlotError};
use goblin_image::{BuildError, Contents};
use std::io::{self, Read};

/// Contents from the store, else from the running system.
struct Sources<'a> {
    store: Store,
    held: &'a Held,
}

impl Contents for Sources<'_> {
    fn open(&mut self, digest: &Digest, size: u64) -> io::Result<Box<dyn Read + '_>> {
        if self.held.has(digest, size) {
            return Ok(Box::new(self.held.open(digest)?));
        }
        self.store.open(digest, size)
    }
}

impl Updater {
    /// Carries out one effect; answers with the event that follows from it, if one does.
    pub(crate) fn apply(
        &mut self,
        effect: Effect,
        replies: Replies<'_>,
    ) -> Result<Option<Event>, UpdateError> {
        match effect {
            Effect::Consult => self.consult(replies).map(Some),
            Effect::Fetch(_) => {
                self.written_before = self.env.writers.written();
                self.fetch(replies).map(|()| Some(Event::Fetched))
            }
            Effect::MakeRoom => self.make_room().map(|()| None),
            Effect::Build(release) => self.build(release, replies).map(Some),
            Effect::KeepStaged(on_disk) => self.store.keep_staged(on_disk).map(|()| None),
            Effect::DropStaged => {
                self.forget_staged();
                self.esp.remove_new().map(|()| None)
            }
            Effect::WritePending { to, rollback } => {
                self.write_pending(to, rollback).map(|()| None)
            }
            Effect::Flip { to, source } => self.flip(to, source).map(|()| Some(Event::Flipped)),
            Effect::Abandon => {
                let settled = self.settle();
                self.unsettled = settled.is_err();
                settled.map(|()| None)
            }
            Effect::Reboot => self.reboot(replies).map(|()| None),
        }
    }

    fn consult(&mut self, replies: Replies<'_>) -> Result<Event, UpdateError> {
        self.job = None;
        let fetcher = self.fetcher.clone().ok_or(UpdateError::NoSource)?;
        self.progress(replies, "reading the repository".into(), 0, 0);
        let quarantine = match &self.env.record {
            Some(record) => record.read().map_err(UpdateError::Record)?.quarantine,
            None => Vec::new(),
        };
        // Who brings a stick or names a server asks by hand.
        let at_once = self.at_once || self.from.is_some();
        let asked = Asked { to: self.wanted, at_once, quarantine: &quarantine };
        let found = repository::consult(&self.env, &self.store, &fetcher, asked)?;
        self.held_back = None;
        let Found::Job(job) = found else {
            (self.status.offered, self.status.offered_notes) = (None, None);
            if let Found::Held(version, hold) = found {
                tracing::info!(%version, %hold, "a newer release is not for this box yet");
                self.held_back = Some((version, hold));
            }
            return Ok(Event::NothingNew);
        };
        let job = *job;
        self.check_runs(job.manifest.version, || Ok(job.manifest.uki.os_release.clone()))?;
        self.status.offered = Some(job.manifest.version);
        self.status.offered_notes = Some(job.manifest.notes.clone());
        let chosen = Chosen { version: job.manifest.version, uki: job.manifest.uki.uki_digest };
        self.job = Some(job);
        Ok(Event::Offered(chosen))
    }

    fn job(&self) -> Result<Job, UpdateError> {
        self.job.clone().ok_or(UpdateError::NoSource)
    }

    fn fetch(&mut self, replies: Replies<'_>) -> Result<(), UpdateError> {
        let mut job = self.job()?;
        let fetcher = self.fetcher.clone().ok_or(UpdateError::NoSource)?;
        let version = job.manifest.version;
        // Whether it may lie on the boot disk at all, before a byte is fetched.
        slots::room(&self.esp.names()?, &self.slots()?, version, &self.settings.pins)?;
        self.store.keep_only(&job.blobs)?;
        let mut held = self.held()?;
        let (store, spare_bytes) = (self.store.clone(), self.env.spare_bytes);
        let wanted = Wanted {
            version,
            running: self.env.running,
            blobs: &job.blobs,
            parcels: job.manifest.parcels.as_ref(),
        };
        let mut moved = |done, total| {
            self.progress(replies, format!("fetching release {version}"), done, total);
        };
        obtain(&wanted, &fetcher, &store, &mut held, spare_bytes, &mut moved)?;
        job.held = held;
        self.job = Some(job);
        Ok(())
    }

    /// What the running system holds of any release.
    pub(crate) fn held(&self) -> Result<Held, UpdateError> {
        let running = self.slots()?.into_iter().find(|slot| slot.running);
        let uki = running.map(|slot| self.esp.path(&slot.file));
        Ok(Held::list(&self.env.base, uki.as_deref()))
    }

    fn make_room(&mut self) -> Result<(), UpdateError> {
        let job = self.job()?;
        let all = self.slots()?;
        let version = job.manifest.version;
        self.esp.apply(&slots::room(&self.esp.names()?, &all, version, &self.settings.pins)?)
    }

    fn build(&mut self, release: Chosen, replies: Replies<'_>) -> Result<Event, UpdateError> {
        let job = self.job()?;
        let size = job.manifest.uki.uki_size;
        if let Some(slot) = self.slot_of(release)?.filter(|slot| slot.size_bytes == size)
            && self.esp.digest(&slot.file, size)? == release.uki
        {
            return Ok(Event::Verified { uki: release.uki, source: FlipSource::Existing });
        }
        self.esp.remove_new()?;
        if self.esp.check_room(size).is_err() {
            // Older releases make room; usually there is enough beside them.
            self.make_room()?;
            self.esp.check_room(size)?;
        }
        self.progress(replies, format!("building release {}", release.version), 0, size);
        let mut contents = Sources { store: self.store.clone(), held: &job.held };
        let recipe = &job.manifest.uki;
        let written = self.esp.write_new(|out| {
            recipe.write_uki(out, &mut contents).map_err(|err| self.build_error(err, size))
        })?;
        if written != release.uki {
            return Err(UpdateError::Rebuilt { got: written, expected: release.uki });
        }
        self.progress(replies, format!("reading release {} back", release.version), size, size);
        let uki = self.esp.digest(NEW_FILE, size)?;
        Ok(Event::Verified { uki, source: FlipSource::New })
    }

    fn slot_of(&self, release: Chosen) -> Result<Option<SlotStatus>, UpdateError> {
        Ok(self.slots()?.into_iter().find(|slot| slot.version == release.version))
    }

    fn build_error(&self, err: BuildError, size: u64) -> UpdateError {
        let damaged = |digest: Digest, detail: String| {
            // It was whole when it came: fetched anew next time.
            if let Err(err) = self.store.remove_blob(&digest) {
                tracing::warn!(%err, "a damaged content cannot be removed");
            }
            UpdateError::Blob { digest, detail }
        };
        match err {
            BuildError::Write(source) if source.kind() == io::ErrorKind::StorageFull => {
                UpdateError::Space { place: "the boot disk", needed_bytes: size, free_bytes: 0 }
            }
            BuildError::Write(source) => UpdateError::Esp { path: NEW_FILE.into(), source },
            BuildError::ContentDigest { expected, got } => {
                damaged(expected, format!("in the store its blake3 digest is {got}"))
            }
            BuildError::ContentSize { digest, got, .. } => {
                damaged(digest, format!("in the store it has {got} bytes"))
            }
            BuildError::Read { digest, source } => {
                damaged(digest, format!("in the store it cannot be read: {source}"))
            }
            other => UpdateError::Build(other),
        }
    }

    /// Refuses a release that could not mount STATE as it is here.
    fn check_runs(
        &self,
        version: Version,
        os_release: impl FnOnce() -> Result<String, UpdateError>,
    ) -> Result<(), UpdateError> {
        let Some(record) = &self.env.record else { return Ok(()) };
        let label = record.label().map_err(UpdateError::Record)?;
        let text = if label.is_some() { os_release()? } else { String::new() };
        Ok(may_run(version, &text, label.as_ref())?)
    }

    /// As [`Self::check_runs`], of a release on the ESP; one without a slot has the temporary name.
    pub(crate) fn check_slot_runs(&self, version: Version) -> Result<(), UpdateError> {
        let all = self.slots()?;
        let slot = all.iter().find(|slot| slot.version == version);
        let file = slot.map_or(NEW_FILE, |slot| slot.file.as_str());
        self.check_runs(version, || self.esp.os_release(file))
    }

    fn write_pending(&mut self, to: Chosen, rollback: bool) -> Result<(), UpdateError> {
        self.check_slot_runs(to.version)?;
        let mut pending = Pending {
            to: to.version,
            from: self.env.running,
            rollback,
            uki: to.uki,
            peer_expected: self.env.hooks.peer_in_sight(),
            pool_missing: self.env.hooks.pool_missing(self.env.role),
            at_unix_s: self.env.hooks.now_unix_s(),
            boot: 0,
            written: (!rollback).then(|| self.env.writers.written_since(&self.written_before)),
        };
        let write = |record: &mut BootRecord| {
            pending.boot = record.boot_count;
            record.pending = Some(pending);
        };
        self.record()?.update(write).map_err(UpdateError::Record)
    }

    fn flip(&mut self, to: Chosen, source: FlipSource) -> Result<(), UpdateError> {
        let all = self.slots()?;
        if source != FlipSource::Blessed {
            // The file was verified when it was staged, perhaps weeks ago: once more, for the loader
            // cannot recover from an image that does not load.
            let slot = all.iter().find(|slot| slot.version == to.version);
            let file = match (source, slot) {
                (FlipSource::Existing, Some(slot)) => slot.file.as_str(),
                (FlipSource::Existing, None) => {
                    return Err(SlotError::Absent { version: to.version }.into());
                }
                _ => NEW_FILE,
            };
            let got = self.esp.digest(file, u64::MAX)?;
            if got != to.uki {
                // Staged anew it is written again.
                self.forget_staged();
                self.esp.remove_new()?;
                return Err(goblin_core_update::machine::Refused::WrongDigest {
                    got,
                    expected: to.uki,
                }
                .into());
            }
        }
        let steps = slots::flip(&all, to.version, source)?;
        slots::spare_pinned(&all, &steps, to.version, &self.settings.pins)?;
        self.esp.apply(&steps)?;
        self.forget_staged();
        Ok(())
    }

    /// A note that cannot be removed, as on a full or failing STATE, must not keep a board from going
    /// back: it is worth nothing without its file, whose digest is checked before it is armed.
    pub(crate) fn forget_staged(&self) {
        if let Err(err) = self.store.drop_staged() {
            tracing::warn!(%err, "the note of a staged release stays");
        }
    }

    fn reboot(&mut self, replies: Replies<'_>) -> Result<(), UpdateError> {
        let Some(to) = self.state.target().map(|release| release.version) else { return Ok(()) };
        self.publish();
        replies(done(format!("release {to} is armed; the board restarts into it now"), Some(to)));
        let why = if self.unasked { ", as scheduled" } else { "" };
        let reason = format!("release {to} takes over{why}");
        self.env.hooks.reboot(&reason).map_err(|detail| UpdateError::Reboot { to, detail })
    }
}
