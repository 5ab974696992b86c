//! One board's upgrade, as a state machine with effects.
//!
//! ```text
//! Idle -StageAsked-> Checking -Offered-> Fetching -Fetched-> Building -Verified-> Staged
//!   ^                    |                  |                   |                   |
//!   +---- Failed --------+------------------+-------------------+        ActivateAsked
//!                                                                                   v
//! Idle <-Blessed- Trial <~~~ reboot ~~~ Armed <-Flipped- Arming <-RollbackAsked- Idle
//! ```
//! `Trial` is entered by the first boot of the new release, from what [`crate::settle`] found.

use crate::slots::FlipSource;
use goblin_core_types::{Digest, UpdatePhase, Version};

/// A release by version and by the exact bytes of its UKI.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Chosen {
    /// Version.
    pub version: Version,
    /// blake3 of the UKI.
    pub uki: Digest,
}

/// A release whose image on the disk was read back and is what was signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OnDisk {
    /// Release.
    pub release: Chosen,
    /// Where its image lies: under the temporary name, or under its own from before.
    pub source: FlipSource,
}

/// What a question to the repository is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// Only to tell.
    Look,
    /// To fetch, build and write what it offers.
    Stage,
}

/// Where one board stands.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum State {
    /// Nothing under way.
    #[default]
    Idle,
    /// The repository is being asked.
    Checking {
        /// What for.
        purpose: Purpose,
        /// A release that was staged before; it stays unless another takes its place.
        staged: Option<OnDisk>,
    },
    /// File contents are being downloaded.
    Fetching {
        /// Of this release.
        release: Chosen,
    },
    /// The UKI is being rebuilt, written, and read back.
    Building {
        /// Of this release.
        release: Chosen,
    },
    /// Written, read back and equal to what was signed; not armed.
    Staged(OnDisk),
    /// The boot record and the names on the ESP are being changed.
    Arming {
        /// To boot this release next.
        release: Chosen,
    },
    /// The next boot runs it.
    Armed {
        /// This release.
        release: Chosen,
    },
    /// This boot is the try of the release that runs.
    Trial,
}

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// A person or the other board wants to know what is offered.
    CheckAsked,
    /// A person or the other board wants a release on the disk.
    StageAsked,
    /// The repository has nothing else to run.
    NothingNew,
    /// The repository offers this release, and it may be tried here.
    Offered(Chosen),
    /// Every content is in the store.
    Fetched,
    /// What was read back from the disk has this digest.
    Verified {
        /// blake3 of what was read back.
        uki: Digest,
        /// Where it lies.
        source: FlipSource,
    },
    /// The staged release shall be tried.
    ActivateAsked {
        /// The release that was agreed on.
        to: Version,
    },
    /// The staged release shall be forgotten.
    DiscardAsked,
    /// A good release on the ESP shall run instead.
    RollbackAsked(Chosen),
    /// Every name on the ESP is as wanted.
    Flipped,
    /// The last effect failed and left things as they were before it.
    Failed,
    /// The trial passed: the running release is blessed.
    Blessed,
}

/// What to do. In order; each durable before the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// Ask the repository, then [`Event::Offered`] or [`Event::NothingNew`].
    Consult,
    /// Download what the store lacks, then [`Event::Fetched`].
    Fetch(Chosen),
    /// Delete old UKIs until there is room for one more.
    MakeRoom,
    /// Rebuild, write, read back, then [`Event::Verified`].
    Build(Chosen),
    /// Remember across boots that this release is staged.
    KeepStaged(OnDisk),
    /// Forget the staged release and remove its file.
    DropStaged,
    /// Write down in the boot record what is about to be flipped.
    WritePending {
        /// What shall run.
        to: Chosen,
        /// A person asked to go back.
        rollback: bool,
    },
    /// Rename on the ESP so that the loader boots it next, then [`Event::Flipped`].
    Flip {
        /// What shall run.
        to: Chosen,
        /// Where it comes from.
        source: FlipSource,
    },
    /// Undo what a flip that failed half-way did, and clear the pending entry.
    Abandon,
    /// Answer whoever asked, then ask PID 1 to reboot.
    Reboot,
}

/// An event that is not possible in a state. Nothing was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refused {
    /// Another operation is under way.
    #[error("the updater is busy; try again when `goblin status` shows it idle")]
    Busy,
    /// The running release has not proved itself yet.
    #[error("the running release is on trial; try again when it is blessed, in a few minutes")]
    OnTrial,
    /// A flip awaits its reboot.
    #[error("release {to} is armed already; reboot to try it")]
    Armed {
        /// What is armed.
        to: Version,
    },
    /// The release to activate is not the staged one.
    #[error("release {to} is not staged; fetch it first with `goblin upgrade --to {to}`")]
    NotStaged {
        /// Asked for.
        to: Version,
    },
    /// What was read back is not what was signed.
    #[error(
        "the image read back from the disk has digest {got} instead of {expected}; the disk may be failing, try again"
    )]
    WrongDigest {
        /// Read back.
        got: Digest,
        /// Signed.
        expected: Digest,
    },
    /// The effect this event belongs to is not under way: a mistake of the agent.
    #[error("{event:?} does not belong to the present state {state:?}")]
    Unexpected {
        /// State.
        state: State,
        /// Event.
        event: Event,
    },
}

impl State {
    /// The state a board wakes up in when a staged release was remembered.
    pub const fn resumed(staged: Option<OnDisk>) -> Self {
        match staged {
            Some(on_disk) => Self::Staged(on_disk),
            None => Self::Idle,
        }
    }

    /// The word shown to people.
    pub const fn phase(self) -> UpdatePhase {
        match self {
            Self::Idle => UpdatePhase::Idle,
            Self::Checking { .. } => UpdatePhase::Checking,
            Self::Fetching { .. } => UpdatePhase::Fetching,
            Self::Building { .. } => UpdatePhase::Building,
            Self::Staged(_) => UpdatePhase::Staged,
            Self::Arming { .. } | Self::Armed { .. } => UpdatePhase::Armed,
            Self::Trial => UpdatePhase::Trial,
        }
    }

    /// The release it is about.
    pub const fn target(self) -> Option<Chosen> {
        match self {
            Self::Idle | Self::Trial => None,
            Self::Checking { .. } | Self::Staged(_) => match self.staged() {
                Some(on_disk) => Some(on_disk.release),
                None => None,
            },
            Self::Fetching { release }
            | Self::Building { release }
            | Self::Arming { release }
            | Self::Armed { release } => Some(release),
        }
    }

    /// What is staged, also while a question to the repository is under way.
    pub const fn staged(self) -> Option<OnDisk> {
        match self {
            Self::Staged(on_disk) => Some(on_disk),
            Self::Checking { staged, .. } => staged,
            _ => None,
        }
    }

    /// Takes an event. Apply the effects in order, each durable before the next.
    ///
    /// # Errors
    /// [`Refused`]: the state is the old one and nothing is to be done.
    pub fn step(self, event: Event) -> Result<(Self, Vec<Effect>), Refused> {
        use Effect as E;
        use State as S;
        Ok(match (self, event) {
            (S::Idle | S::Staged(_), Event::CheckAsked) => {
                (S::Checking { purpose: Purpose::Look, staged: self.staged() }, vec![E::Consult])
            }
            (S::Idle | S::Staged(_), Event::StageAsked) => {
                (S::Checking { purpose: Purpose::Stage, staged: self.staged() }, vec![E::Consult])
            }
            (S::Checking { staged, .. }, Event::NothingNew | Event::Failed) => {
                (S::resumed(staged), vec![])
            }
            (S::Checking { purpose: Purpose::Look, staged }, Event::Offered(_)) => {
                (S::resumed(staged), vec![])
            }
            (S::Checking { purpose: Purpose::Stage, staged }, Event::Offered(release)) => {
                match staged {
                    Some(same) if same.release == release => (S::Staged(same), vec![]),
                    // Room for the new one; and one staged release is all a board remembers.
                    Some(_) => (S::Fetching { release }, vec![E::DropStaged, E::Fetch(release)]),
                    None => (S::Fetching { release }, vec![E::Fetch(release)]),
                }
            }
            (S::Fetching { .. }, Event::Failed) => (S::Idle, vec![]),
            (S::Fetching { release }, Event::Fetched) => {
                (S::Building { release }, vec![E::Build(release)])
            }
            (S::Building { .. }, Event::Failed) => (S::Idle, vec![E::DropStaged]),
            (S::Building { release }, Event::Verified { uki, .. }) if uki != release.uki => {
                return Err(Refused::WrongDigest { got: uki, expected: release.uki });
            }
            (S::Building { release }, Event::Verified { source, .. }) => {
                let on_disk = OnDisk { release, source };
                // Room for its name is made only now: a build that fails costs no older release.
                (S::Staged(on_disk), vec![E::MakeRoom, E::KeepStaged(on_disk)])
            }
            (S::Staged(OnDisk { release, source }), Event::ActivateAsked { to })
                if release.version == to =>
            {
                (
                    S::Arming { release },
                    vec![
                        E::WritePending { to: release, rollback: false },
                        E::Flip { to: release, source },
                    ],
                )
            }
            (S::Idle | S::Staged(_), Event::ActivateAsked { to }) => {
                return Err(Refused::NotStaged { to });
            }
            // Failed: it could not be remembered, as on a full disk, so it must not lie there either.
            (S::Staged(_) | S::Idle, Event::DiscardAsked) | (S::Staged(_), Event::Failed) => {
                (S::Idle, vec![E::DropStaged])
            }
            (S::Idle | S::Staged(_), Event::RollbackAsked(release)) => (
                S::Arming { release },
                vec![
                    E::DropStaged,
                    E::WritePending { to: release, rollback: true },
                    E::Flip { to: release, source: FlipSource::Blessed },
                ],
            ),
            (S::Arming { release }, Event::Flipped) => (S::Armed { release }, vec![E::Reboot]),
            (S::Arming { .. }, Event::Failed) => (S::Idle, vec![E::Abandon]),
            // The reboot was refused: the flip stands, and the next boot takes it whoever asks for it.
            (S::Armed { release }, Event::Failed) => (S::Armed { release }, vec![]),
            (S::Trial, Event::Blessed) => (S::Idle, vec![]),
            (state, event) => return Err(refusal(state, event)),
        })
    }
}

fn refusal(state: State, event: Event) -> Refused {
    let asked = matches!(
        event,
        Event::CheckAsked
            | Event::StageAsked
            | Event::ActivateAsked { .. }
            | Event::DiscardAsked
            | Event::RollbackAsked(_)
    );
    match state {
        State::Trial if asked => Refused::OnTrial,
        State::Armed { release } if asked => Refused::Armed { to: release.version },
        _ if asked => Refused::Busy,
        _ => Refused::Unexpected { state, event },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TWO: Chosen = Chosen { version: Version::new(2, 0, 0), uki: Digest([2; 32]) };
    const THREE: Chosen = Chosen { version: Version::new(3, 0, 0), uki: Digest([3; 32]) };

    fn staged() -> State {
        State::Staged(OnDisk { release: TWO, source: FlipSource::New })
    }

    #[test]
    fn release_is_recorded_before_it_is_flipped_and_flipped_before_the_reboot() {
        let (arming, effects) = staged().step(Event::ActivateAsked { to: TWO.version }).unwrap();
        let flip = Effect::Flip { to: TWO, source: FlipSource::New };
        assert_eq!(effects, [Effect::WritePending { to: TWO, rollback: false }, flip]);
        let (armed, effects) = arming.step(Event::Flipped).unwrap();
        assert_eq!(effects, [Effect::Reboot]);
        assert_eq!(armed.phase(), UpdatePhase::Armed);
    }

    #[test]
    fn image_that_reads_back_differently_is_not_staged() {
        let building = State::Building { release: TWO };
        let wrong = Event::Verified { uki: THREE.uki, source: FlipSource::New };
        assert!(matches!(building.step(wrong), Err(Refused::WrongDigest { .. })));
        assert_eq!(building.step(Event::Failed), Ok((State::Idle, vec![Effect::DropStaged])));
    }

    #[test]
    fn only_the_staged_release_is_activated() {
        let refused = staged().step(Event::ActivateAsked { to: THREE.version });
        assert_eq!(refused, Err(Refused::NotStaged { to: THREE.version }));
        let refused = State::Idle.step(Event::ActivateAsked { to: TWO.version });
        assert_eq!(refused, Err(Refused::NotStaged { to: TWO.version }));
    }

    #[test]
    fn failed_look_leaves_the_staged_release_alone() {
        let (checking, _) = staged().step(Event::StageAsked).unwrap();
        assert_eq!(checking.step(Event::Failed), Ok((staged(), vec![])));
        assert_eq!(checking.step(Event::Offered(TWO)), Ok((staged(), vec![])));
        let (_, effects) = checking.step(Event::Offered(THREE)).unwrap();
        assert_eq!(effects, [Effect::DropStaged, Effect::Fetch(THREE)]);
    }

    #[test]
    fn nothing_is_begun_during_a_trial_or_before_a_reboot() {
        for event in [Event::StageAsked, Event::RollbackAsked(TWO), Event::DiscardAsked] {
            assert_eq!(State::Trial.step(event), Err(Refused::OnTrial));
            let armed = State::Armed { release: THREE };
            assert_eq!(armed.step(event), Err(Refused::Armed { to: THREE.version }));
            let fetching = State::Fetching { release: THREE };
            assert_eq!(fetching.step(event), Err(Refused::Busy));
        }
    }
}
