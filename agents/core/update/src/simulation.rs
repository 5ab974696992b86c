//! One board with a disk, a loader and power cuts between any two effects.
//!
//! The world below carries out the effects of [`crate::machine`] and [`crate::settle`] the way the agent
//! does. After every step the promises of the crate are checked; a failing case prints its events.

use crate::machine::{Chosen, Effect, Event, OnDisk, State};
use crate::settle::{self, Boot, Verdict};
use crate::slots::{
    self, EspFile, EspStep, FlipSource, NEW_FILE, SLOTS_MAX, counted, file_name, loader_pick,
    parse_file_name,
};
use goblin_core_types::{
    Attempt, AttemptStage, BootRecord, Digest, Pending, SlotState, SlotStatus, Version,
};
use proptest::prelude::*;
use std::collections::BTreeMap;

fn chosen(n: u8) -> Chosen {
    Chosen { version: Version::new(u32::from(n), 0, 0), uki: Digest([n; 32]) }
}

/// What a person, the network or the power does next.
#[derive(Debug, Clone)]
enum Act {
    Stage(u8),
    Activate,
    Rollback,
    Discard,
    Check,
    /// The power is cut before the effect with this number from now.
    Cut(u8),
    /// What is read back from the disk is wrong the next time.
    BadDisk,
}

struct World {
    /// Content by file name: the release, if it is whole.
    esp: BTreeMap<String, Option<Chosen>>,
    record: BootRecord,
    staged: Option<OnDisk>,
    running: Version,
    trial: bool,
    state: State,
    /// Releases that never become healthy.
    broken: Vec<Version>,
    cut_in: Option<u8>,
    bad_disk: bool,
    rebooted: bool,
}

/// The power was cut.
struct Cut;

impl World {
    fn new(broken: Vec<Version>) -> Self {
        let first = chosen(1);
        let name = file_name(first.version, SlotState::Good);
        Self {
            esp: BTreeMap::from([(name, Some(first))]),
            record: BootRecord::default(),
            staged: None,
            running: first.version,
            trial: false,
            state: State::Idle,
            broken,
            cut_in: None,
            bad_disk: false,
            rebooted: false,
        }
    }

    fn slots(&self) -> Vec<SlotStatus> {
        let files: Vec<_> =
            self.esp.keys().map(|name| EspFile { name: name.clone(), size_bytes: 1 }).collect();
        slots::slots(&files, self.running)
    }

    fn tick(&mut self) -> Result<(), Cut> {
        match self.cut_in {
            Some(0) => Err(Cut),
            Some(n) => {
                self.cut_in = Some(n - 1);
                Ok(())
            }
            None => Ok(()),
        }
    }

    fn esp_steps(&mut self, steps: &[EspStep]) -> Result<(), Cut> {
        for step in steps {
            self.tick()?;
            match step {
                EspStep::Delete { file } => {
                    let (version, _) = parse_file_name(file).unwrap();
                    assert_ne!(version, self.running, "the running release's file is deleted");
                    self.esp.remove(file);
                }
                EspStep::Rename { from, to } => {
                    let content = self.esp.remove(from).expect("rename of an absent file");
                    if to != NEW_FILE {
                        let armed = content.expect("a release that was not verified is armed");
                        assert_eq!(Some(armed.version), parse_file_name(to).map(|name| name.0));
                    }
                    self.esp.insert(to.clone(), content);
                }
            }
            self.check();
        }
        Ok(())
    }

    fn check(&self) {
        let all = self.slots();
        assert!(all.len() <= SLOTS_MAX, "{all:?}");
        assert!(all.iter().any(|slot| slot.running), "the running release's file is gone: {all:?}");
        let pick = loader_pick(&all).unwrap();
        assert!(self.esp[&pick.file].is_some(), "the loader would boot a torn file: {all:?}");
        // Something that was good once is on the disk: a blessed name, or one marked to be passed over
        // whose release is not the one on trial.
        let good =
            all.iter().any(|slot| slot.state == SlotState::Good && !self.is_broken(slot.version));
        let marked = all.iter().any(|slot| {
            matches!(slot.state, SlotState::Bad { .. }) && !self.is_broken(slot.version)
        });
        assert!(good || marked || self.trial, "nothing good is left: {all:?}");
        for failed in &self.record.quarantine {
            assert!(self.is_broken(failed.version), "a good release is condemned: {failed:?}");
        }
        for slot in all.iter().filter(|slot| slot.state == SlotState::Good) {
            assert!(!self.is_broken(slot.version), "a broken release is blessed: {all:?}");
        }
    }

    fn is_broken(&self, version: Version) -> bool {
        self.broken.contains(&version)
    }

    fn act(&mut self, effect: Effect, offered: u8) -> Result<Option<Event>, Cut> {
        self.tick()?;
        Ok(match effect {
            Effect::Consult => Some(self.consult(chosen(offered))),
            Effect::Fetch(_) => Some(Event::Fetched),
            Effect::MakeRoom => {
                let State::Staged(OnDisk { release, .. }) = self.state else { panic!() };
                let names: Vec<String> = self.esp.keys().cloned().collect();
                let steps = slots::room(&names, &self.slots(), release.version, &[]).unwrap();
                self.esp_steps(&steps)?;
                None
            }
            Effect::Build(release) => Some(self.build(release)?),
            Effect::KeepStaged(on_disk) => {
                self.staged = Some(on_disk);
                None
            }
            Effect::DropStaged => {
                self.staged = None;
                self.esp.remove(NEW_FILE);
                None
            }
            Effect::WritePending { to, rollback } => {
                self.record.pending = Some(Pending {
                    to: to.version,
                    from: self.running,
                    rollback,
                    uki: to.uki,
                    peer_expected: false,
                    pool_missing: false,
                    at_unix_s: 0,
                    boot: self.record.boot_count,
                    written: None,
                });
                None
            }
            Effect::Flip { to, source } => {
                let steps = slots::flip(&self.slots(), to.version, source).unwrap();
                self.esp_steps(&steps)?;
                assert_eq!(loader_pick(&self.slots()).unwrap().version, to.version);
                self.staged = None;
                Some(Event::Flipped)
            }
            Effect::Abandon => {
                self.record.pending = None;
                None
            }
            Effect::Reboot => {
                self.rebooted = true;
                None
            }
        })
    }

    fn consult(&self, release: Chosen) -> Event {
        let failed = self.record.quarantine.iter().any(|known| known.uki == release.uki);
        if failed || release.version == self.running {
            Event::NothingNew
        } else {
            Event::Offered(release)
        }
    }

    fn build(&mut self, release: Chosen) -> Result<Event, Cut> {
        let existing = self
            .slots()
            .into_iter()
            .find(|slot| slot.version == release.version)
            .map(|slot| slot.file);
        if existing.is_some_and(|file| self.esp[&file] == Some(release)) {
            return Ok(Event::Verified { uki: release.uki, source: FlipSource::Existing });
        }
        self.esp.insert(NEW_FILE.into(), None);
        self.tick()?;
        if std::mem::take(&mut self.bad_disk) {
            return Ok(Event::Verified { uki: Digest([0; 32]), source: FlipSource::New });
        }
        self.esp.insert(NEW_FILE.into(), Some(release));
        Ok(Event::Verified { uki: release.uki, source: FlipSource::New })
    }

    /// Runs an event and all that follows from it.
    fn run(&mut self, event: Event, offered: u8) -> Result<(), Cut> {
        let mut events = vec![event];
        while let Some(event) = events.pop() {
            let effects = match self.state.step(event) {
                Ok((next, effects)) => {
                    self.state = next;
                    effects
                }
                // What the agent does with a refusal of a result: the operation failed.
                Err(_) if matches!(event, Event::Verified { .. }) => {
                    events.push(Event::Failed);
                    continue;
                }
                Err(_) => continue,
            };
            for effect in effects {
                if let Some(result) = self.act(effect, offered)? {
                    events.push(result);
                }
                self.check();
            }
        }
        Ok(())
    }

    /// Boots until something settles: the loader counts, broken releases stop, good ones are judged.
    fn boot(&mut self) {
        for _ in 0..12 {
            let all = self.slots();
            let pick = loader_pick(&all).unwrap().clone();
            let name = counted(&pick);
            let trial = pick.state != SlotState::Good;
            self.record.boot_count += 1;
            self.record.attempts.push(Attempt {
                version: pick.version,
                boot: self.record.boot_count,
                trial,
                stage: AttemptStage::Init,
                fail: None,
                last_lines: Vec::new(),
                at_unix_s: 0,
                end: None,
            });
            let content = self.esp.remove(&pick.file).unwrap();
            self.esp.insert(name, content);
            if self.is_broken(pick.version) {
                assert_ne!(pick.state, SlotState::Good, "a broken release was blessed");
                continue;
            }
            self.running = pick.version;
            self.trial = trial;
            if self.start().is_err() {
                // A cut while settling: the next boot settles again.
                self.cut_in = None;
                continue;
            }
            self.check();
            return;
        }
        panic!("the board does not come up: {:?}", self.slots());
    }

    fn start(&mut self) -> Result<(), Cut> {
        self.rebooted = false;
        let boot = Boot { running: self.running, trial: self.trial };
        let settled = settle::settle(&self.record, &self.slots(), boot, 0);
        self.esp_steps(&settled.esp)?;
        self.tick()?;
        settled.apply(&mut self.record);
        self.esp_steps(&settled.cleanup)?;
        if self.trial {
            // The gate passed.
            if let Some(step) = slots::bless(&self.slots(), self.running).unwrap() {
                self.esp_steps(&[step])?;
            }
            self.tick()?;
            settle::blessed(&mut self.record, self.running, 0);
            self.trial = false;
        }
        if settled.verdict != Verdict::Armed {
            assert_eq!(self.record.pending, None, "a decided flip stays pending");
        }
        self.staged = self.staged.filter(|on_disk| {
            on_disk.release.version != self.running
                && match on_disk.source {
                    FlipSource::New => self.esp.get(NEW_FILE) == Some(&Some(on_disk.release)),
                    FlipSource::Existing | FlipSource::Blessed => {
                        self.slots().iter().any(|slot| slot.version == on_disk.release.version)
                    }
                }
        });
        self.state = State::resumed(self.staged);
        Ok(())
    }
}

fn any_act() -> impl Strategy<Value = Act> {
    prop_oneof![
        4 => (1u8..7).prop_map(Act::Stage),
        4 => Just(Act::Activate),
        2 => Just(Act::Rollback),
        1 => Just(Act::Discard),
        1 => Just(Act::Check),
        3 => (0u8..8).prop_map(Act::Cut),
        1 => Just(Act::BadDisk),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn board_always_comes_up_and_only_on_what_was_verified(
        acts in proptest::collection::vec(any_act(), 1..40),
        broken in proptest::collection::btree_set(2u8..7, 0..4),
    ) {
        let broken = broken.into_iter().map(|n| chosen(n).version).collect();
        let mut world = World::new(broken);
        for act in acts {
            let done = match act {
                Act::Stage(n) => world.run(Event::StageAsked, n),
                Act::Check => world.run(Event::CheckAsked, 5),
                Act::Discard => world.run(Event::DiscardAsked, 1),
                Act::Activate => match world.state.target() {
                    Some(release) => world.run(Event::ActivateAsked { to: release.version }, 1),
                    None => Ok(()),
                },
                Act::Rollback => match slots::rollback_target(&world.slots(), world.running, None) {
                    Ok(to) => {
                        let n = u8::try_from(to.to_string().parse::<u32>().unwrap()).unwrap();
                        world.run(Event::RollbackAsked(chosen(n)), 1)
                    }
                    Err(_) => Ok(()),
                },
                Act::Cut(n) => {
                    world.cut_in = Some(n);
                    Ok(())
                }
                Act::BadDisk => {
                    world.bad_disk = true;
                    Ok(())
                }
            };
            if done.is_err() {
                world.cut_in = None;
                world.boot();
            } else if world.rebooted {
                world.boot();
            }
        }
        // The faults stop; whatever was under way settles.
        world.cut_in = None;
        world.boot();
        prop_assert!(!world.is_broken(world.running));
        prop_assert_eq!(&world.record.pending, &None);
    }
}
