//! Two system disks of one board: which of them is newer, and what a boot may do with them.
//!
//! ```text
//!   in step --- one is not there: it is written down, then STATE is written ---> alone
//!      ^                                                                           |
//!      '--- the other disk is emptied, taken in anew and filled <--- it is behind -'
//!                                         both were alone: split, nothing is joined
//! ```
//! A disk that missed writes is never read for STATE again: btrfs would mix two ages of one file system.

use goblin_core_types::{DiskLabel, EPOCHS_KEPT_MAX, STATE_OF_TWO_LINE, Version};

/// Version of [`DiskLabel`].
pub const SCHEMA: u32 = 1;
/// Times a board goes on to its newer disk before it is believed that the firmware does not do it.
pub const SENT_ON_MAX: u32 = 2;

/// A release that knows no mirrors, on a board that has one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "release {version} is from before mirrored system disks and could not mount STATE, which lies on two disks here; \
     choose a newer release"
)]
pub struct KnowsNoMirror {
    /// The release.
    pub version: Version,
}

/// Refuses to arm a release that could not mount STATE. `os_release` is the text that it describes itself with, `label`
/// what the system disk says of itself: a disk that is one of two holds a STATE of two.
///
/// # Errors
/// [`KnowsNoMirror`]; nothing was armed.
pub fn may_run(
    version: Version,
    os_release: &str,
    label: Option<&DiskLabel>,
) -> Result<(), KnowsNoMirror> {
    let knows = os_release.lines().any(|line| line == STATE_OF_TWO_LINE);
    if knows || label.is_none_or(|label| label.single) {
        Ok(())
    } else {
        Err(KnowsNoMirror { version })
    }
}

/// One disk seen from the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// Neither missed anything.
    InStep,
    /// The other one is newer.
    Behind,
    /// The other one missed what was written here.
    Ahead,
    /// Each missed what was written on the other.
    Split,
    /// The other one belongs to another pair.
    Strangers,
}

/// Compares what two disks say.
pub fn standing(this: &DiskLabel, other: &DiskLabel) -> Standing {
    if this.set != other.set || this.set.is_empty() {
        return Standing::Strangers;
    }
    match (this.making, other.making) {
        (true, false) => return Standing::Behind,
        (false, true) => return Standing::Ahead,
        _ => {}
    }
    if this.epoch == other.epoch {
        Standing::InStep
    } else if other.history.contains(&this.epoch) {
        Standing::Behind
    } else if this.history.contains(&other.epoch) {
        Standing::Ahead
    } else {
        Standing::Split
    }
}

/// True when both disks hold every write of the present epoch, so that STATE may be mounted from both. One that is
/// still being filled is among them.
pub fn shares_state(this: &DiskLabel, other: &DiskLabel) -> bool {
    !this.set.is_empty() && this.set == other.set && this.epoch == other.epoch && !this.alone
}

/// True when the board can go on from the other disk, should this one go while it runs.
pub fn may_take_over(this: &DiskLabel, other: &DiskLabel) -> bool {
    standing(this, other) == Standing::InStep && !other.making && shares_state(this, other)
}

/// What a boot does with the disks that it finds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BootPlan {
    /// The disk is none of two.
    Single,
    /// STATE is mounted from both.
    Together,
    /// STATE is mounted from this disk, once [`ran_alone`] is written down on it.
    Alone,
    /// The other disk is newer: the board starts again, from that one.
    SendOn,
    /// The other disk is newer or has to be there, and the board cannot go on to it: STATE is not mounted.
    Stop,
}

/// Decides for the disk the board was started from.
pub fn boot_plan(booted: Option<&DiskLabel>, other: Option<&DiskLabel>) -> BootPlan {
    let Some(booted) = booted else { return BootPlan::Single };
    let Some(other) = other else {
        return if booted.making { BootPlan::Stop } else { BootPlan::Alone };
    };
    match standing(booted, other) {
        Standing::Behind if booted.sent_on < SENT_ON_MAX => BootPlan::SendOn,
        Standing::Behind => BootPlan::Stop,
        _ if booted.making => BootPlan::Stop,
        _ if shares_state(booted, other) => BootPlan::Together,
        _ => BootPlan::Alone,
    }
}

/// The first label of a disk that shall be one of two.
pub fn founded(set: String, epoch: String) -> DiskLabel {
    DiskLabel { schema: SCHEMA, set, epoch, alone: true, ..DiskLabel::default() }
}

/// The label to write before STATE is written without the other disk, now; nothing where it says so already.
pub fn ran_alone(label: &DiskLabel, fresh: String, now_unix_s: u64) -> Option<DiskLabel> {
    (!label.alone).then(|| DiskLabel {
        alone: true,
        alone_since_unix_s: now_unix_s,
        ..next(label, fresh)
    })
}

/// The label of a disk whose pair is given up. It stays labelled: an older disk of the pair is still told from it.
pub fn given_up(label: &DiskLabel) -> DiskLabel {
    DiskLabel { single: true, alone_since_unix_s: 0, ..label.clone() }
}

/// The label of a disk that is about to be emptied for `label`'s: whatever it held is not worth having.
pub fn emptied(label: &DiskLabel, fresh: String) -> DiskLabel {
    DiskLabel { making: true, ..founded(label.set.clone(), fresh) }
}

/// The labels of the disk that has all, and of the one that was just taken in: from here on both get every write.
pub fn taken_in(label: &DiskLabel, fresh: String) -> (DiskLabel, DiskLabel) {
    let (alone, single, sent_on) = (false, false, 0);
    let label = DiskLabel { alone, single, sent_on, alone_since_unix_s: 0, ..next(label, fresh) };
    let other = DiskLabel { making: true, ..label.clone() };
    (label, other)
}

/// The label of a disk that was filled.
pub fn filled(label: &DiskLabel) -> DiskLabel {
    DiskLabel { making: false, ..label.clone() }
}

fn next(label: &DiskLabel, fresh: String) -> DiskLabel {
    let mut history = label.history.clone();
    history.push(label.epoch.clone());
    history.drain(..history.len().saturating_sub(EPOCHS_KEPT_MAX));
    DiskLabel { schema: SCHEMA, epoch: fresh, history, ..label.clone() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A disk: its label and the writes that it has of STATE, `None` while that is not whole.
    #[derive(Debug, Clone, Default)]
    struct Disk {
        label: Option<DiskLabel>,
        data: Option<Vec<u32>>,
        /// STATE's file system counts it among its disks.
        is_part: bool,
    }

    /// Two disks under a board that boots, writes, loses disks and takes them in, one effect at a time.
    #[derive(Debug, Default)]
    struct World {
        disks: [Disk; 2],
        count: u32,
    }

    #[derive(Debug, Clone)]
    enum Act {
        Write,
        /// The other disk goes; it is noticed at once.
        Pull,
        /// The disk that the board works from goes; it is noticed at once.
        Die,
        /// The next so many effects of taking the other disk in.
        Join(usize),
    }

    #[derive(Debug, Clone)]
    struct Session {
        first: usize,
        both: bool,
        acts: Vec<Act>,
    }

    /// A board that runs.
    struct Boot {
        /// The disk that it works from.
        at: usize,
        /// The other one is there.
        others: bool,
        /// STATE of both is written.
        together: bool,
    }

    impl World {
        fn fresh(&mut self) -> u32 {
            self.count += 1;
            self.count
        }

        /// Effects, in the agent's order; stops after `effects` of them, as a power cut or a pull would.
        fn join(&mut self, at: usize, together: &mut bool, mut effects: usize) {
            let other = 1 - at;
            let mut left = || {
                let is_left = effects > 0;
                effects = effects.saturating_sub(1);
                is_left
            };
            while left() {
                let fresh = self.fresh().to_string();
                let Some(label) = self.disks[at].label.clone() else {
                    self.disks[at].label = Some(founded("s".into(), fresh));
                    continue;
                };
                let Some(theirs) = self.disks[other].label.clone() else {
                    let label = Some(emptied(&label, fresh));
                    self.disks[other] = Disk { label, ..Disk::default() };
                    continue;
                };
                match standing(&label, &theirs) {
                    Standing::InStep | Standing::Split | Standing::Strangers | Standing::Behind => {
                        return;
                    }
                    Standing::Ahead if shares_state(&label, &theirs) => {
                        if !self.disks[other].is_part {
                            // From here on it gets every write.
                            self.disks[other].is_part = true;
                            *together = true;
                        } else if self.disks[other].data.is_none() {
                            self.disks[other].data = self.disks[at].data.clone();
                        } else {
                            self.disks[other].label = Some(filled(&theirs));
                        }
                    }
                    Standing::Ahead => {
                        self.disks[other].label = Some(emptied(&label, fresh.clone()));
                        if !left() {
                            return;
                        }
                        (self.disks[other].data, self.disks[other].is_part) = (None, false);
                        if !left() {
                            return;
                        }
                        let (here, there) = taken_in(&label, fresh + "t");
                        self.disks[at].label = Some(here);
                        // A cut between the two labels leaves the other one behind.
                        if !left() {
                            return;
                        }
                        self.disks[other].label = Some(there);
                    }
                }
            }
        }

        fn run(&mut self, session: &Session) {
            let Some(mut boot) = self.boot(session) else { return };
            for act in &session.acts {
                if !self.act(&mut boot, act) {
                    return;
                }
            }
        }

        /// Which disk is booted, and how; `None` when none is.
        fn boot(&mut self, session: &Session) -> Option<Boot> {
            let mut at = session.first;
            let others = session.both;
            let label = |disk: &Disk| disk.label.clone();
            let mut plan = BootPlan::Stop;
            for _ in 0..2 {
                let theirs = if others { label(&self.disks[1 - at]) } else { None };
                plan = boot_plan(self.disks[at].label.as_ref(), theirs.as_ref());
                if plan != BootPlan::SendOn {
                    break;
                }
                at = 1 - at;
            }
            let (here, there) = (self.disks[at].clone(), self.disks[1 - at].clone());
            let is_laid = there.is_part || !there.label.as_ref().is_some_and(|label| label.making);
            if plan == BootPlan::Together && !is_laid {
                plan = BootPlan::Alone;
            }
            let together = match plan {
                BootPlan::SendOn => panic!("both disks call the other newer: {:?}", self.disks),
                BootPlan::Stop => {
                    assert!(
                        here.label.is_some_and(|label| label.making),
                        "a whole disk can be gone on with"
                    );
                    return None;
                }
                BootPlan::Single => {
                    // A disk without a label and without STATE is not a system disk.
                    here.data.as_ref()?;
                    false
                }
                BootPlan::Together => true,
                BootPlan::Alone => {
                    let fresh = self.fresh().to_string();
                    if let Some(alone) = ran_alone(here.label.as_ref().unwrap(), fresh, 1) {
                        self.disks[at].label = Some(alone);
                    }
                    false
                }
            };
            let mine = here.data.expect("what is booted holds STATE");
            if let Some(theirs) = there.data.filter(|_| others && there.label.is_some()) {
                // Split disks are told of, even where one was mounted and not written.
                let labels = [here.label.clone(), there.label.clone()];
                let split =
                    matches!(labels, [Some(a), Some(b)] if standing(&a, &b) == Standing::Split);
                let older = theirs.len() > mine.len() && theirs.starts_with(&mine);
                assert!(split || !older, "a stale disk was booted: {:?}", self.disks);
                assert!(!together || theirs == mine, "two ages are mounted: {:?}", self.disks);
            }
            Some(Boot { at, others, together })
        }

        /// False when the board ends with it.
        fn act(&mut self, boot: &mut Boot, act: &Act) -> bool {
            let at = boot.at;
            match act {
                Act::Write => {
                    let write = self.fresh();
                    self.disks[at].data.as_mut().unwrap().push(write);
                    if boot.together
                        && let Some(data) = &mut self.disks[1 - at].data
                    {
                        data.push(write);
                    }
                }
                Act::Pull if boot.others => {
                    let fresh = self.fresh().to_string();
                    if boot.together {
                        let label = self.disks[at].label.clone().unwrap();
                        self.disks[at].label = ran_alone(&label, fresh, 1).or(Some(label));
                    }
                    (boot.others, boot.together) = (false, false);
                }
                Act::Die => {
                    let labels = self.disks.each_ref().map(|disk| disk.label.clone());
                    let pair = labels[at].as_ref().zip(labels[1 - at].as_ref());
                    let pair = pair.filter(|(a, b)| boot.together && may_take_over(a, b));
                    let Some((_, theirs)) = pair else { return false };
                    let alone = ran_alone(theirs, self.fresh().to_string(), 1);
                    self.disks[1 - at].label = alone.or(labels[1 - at].clone());
                    *boot = Boot { at: 1 - at, others: false, together: false };
                }
                Act::Join(effects) if boot.others => self.join(at, &mut boot.together, *effects),
                Act::Pull | Act::Join(_) => {}
            }
            true
        }
    }

    fn act() -> impl Strategy<Value = Act> {
        prop_oneof![
            3 => Just(Act::Write),
            1 => Just(Act::Pull),
            1 => Just(Act::Die),
            4 => (0usize..12).prop_map(Act::Join),
        ]
    }

    fn session() -> impl Strategy<Value = Session> {
        (0usize..2, any::<bool>(), prop::collection::vec(act(), 0..8))
            .prop_map(|(first, both, acts)| Session { first, both, acts })
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]
        /// Either disk is pulled between any two effects, and comes back first or second in boot order: what is
        /// booted is never older than the other disk, and two ages are never mounted together.
        #[test]
        fn no_stale_disk_is_ever_booted(sessions in prop::collection::vec(session(), 1..12)) {
            let mut world = World::default();
            world.disks[0].data = Some(vec![]);
            for session in &sessions {
                world.run(session);
            }
            // Then the faults stop: disks that were not written apart are in step again, whichever is first.
            let calm = Session { first: 0, both: true, acts: vec![Act::Join(20), Act::Write] };
            world.run(&calm);
            if let [Some(a), Some(b)] = world.disks.each_ref().map(|disk| disk.label.clone())
                && standing(&a, &b) != Standing::Split
            {
                prop_assert_eq!(&world.disks[0].data, &world.disks[1].data);
            }
        }
    }

    #[test]
    fn a_release_from_before_mirrors_is_not_run_on_one() {
        let (old, label) = (Version::new(1, 0, 0), founded("s".into(), "1".into()));
        let refused = Err(KnowsNoMirror { version: old });
        let of = |line: &str| format!("ID=goblinux\n{line}\nIMAGE_VERSION=1\n");
        let (knows, similar) = (of(STATE_OF_TWO_LINE), of("X=\"GOBLIN_STATE_DISKS_MAX=2\""));
        for (text, label, expected) in [
            (&of(""), Some(&label), refused),
            (&similar, Some(&label), refused),
            (&of(""), None, Ok(())),
            (&knows, Some(&label), Ok(())),
            (&of(""), Some(&given_up(&label)), Ok(())),
        ] {
            assert_eq!(may_run(old, text, label), expected, "{text}");
        }
    }

    #[test]
    fn two_disks_that_were_each_alone_are_split() {
        let base = DiskLabel { alone: false, ..founded("s".into(), "1".into()) };
        let a = ran_alone(&base, "a".into(), 1).unwrap();
        let b = ran_alone(&base, "b".into(), 1).unwrap();
        assert_eq!(standing(&a, &b), Standing::Split);
        assert_eq!(boot_plan(Some(&a), Some(&b)), BootPlan::Alone);
        assert_eq!(standing(&a, &base), Standing::Ahead);
        assert_eq!(boot_plan(Some(&base), Some(&a)), BootPlan::SendOn);
        let tired = DiskLabel { sent_on: SENT_ON_MAX, ..base.clone() };
        assert_eq!(boot_plan(Some(&tired), Some(&a)), BootPlan::Stop);
        assert_eq!(ran_alone(&a, "c".into(), 1), None);
        assert_eq!(standing(&a, &DiskLabel::default()), Standing::Strangers);
    }
}
