//! Both boards as one step: storage tries first, then compute; both stay or both return.
//!
//! ```text
//! Staging -Staged-> StorageTrial -StorageRuns-> ComputeTrial -ComputeRuns-> done
//!    |                   |     \_______lost______.    |
//!  failed             failed: discard           failed: Returning -StorageRuns-> told
//!                                                       (lost: again, until it answers)
//! ```
//! Runs in the update agent of the compute board. The plan is in its boot record; every effect may be
//! carried out again after a cut, so that [`Event::Resumed`] only has to name it once more.

use goblin_core_types::{PairPlan, PairStep, Role, UpdateSource, Version};

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The compute board was started again with this plan in its record.
    Resumed,
    /// Both boards have the release on their disks, verified, or run it.
    Staged,
    /// The storage board runs the release (the old one, while returning) and is blessed.
    StorageRuns,
    /// The compute board runs the release and is blessed.
    ComputeRuns,
    /// The storage board was told, and has not been heard to decide in time: what it runs is not known.
    Lost {
        /// What was seen last.
        reason: String,
    },
    /// A board refused, failed or fell back: it runs what it ran before.
    Failed {
        /// Which.
        role: Role,
        /// In its own words.
        reason: String,
    },
}

/// What to do, in order. Each may be carried out again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Write the plan into the boot record.
    Persist(PairPlan),
    /// Let both boards fetch, rebuild and verify, then [`Event::Staged`].
    StageBoth,
    /// Make the storage board run the plan's release, if it does not, and wait for its verdict.
    BringStorage,
    /// Make this board run the plan's release, if it does not; that reboots it.
    BringCompute,
    /// Make the storage board run what the compute board runs, and wait for it.
    ReturnStorage,
    /// Let both boards forget what they staged.
    DiscardBoth,
    /// Remove the plan from the boot record.
    Clear,
    /// Tell whoever asked, and the log.
    Tell(Outcome),
}

/// How a pair's step ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Both boards run it.
    Done {
        /// The release.
        to: Version,
        /// A person asked to go back.
        rollback: bool,
    },
    /// Neither board runs it.
    Failed {
        /// The board that could not.
        role: Role,
        /// Why, in its words.
        reason: String,
    },
    /// The compute board could not, and the storage board could not return: they run different
    /// releases, which work together, until a person decides.
    Apart {
        /// Why the storage board could not return.
        reason: String,
    },
}

/// Times that fetching is begun anew after the compute board was restarted in the middle of it.
pub const STAGINGS_MAX: u32 = 3;

/// An event that does not belong to the step.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{event:?} does not belong to the step {step:?} of the plan for both boards")]
pub struct Refused {
    /// Step.
    pub step: PairStep,
    /// Event.
    pub event: Event,
}

/// Begins an upgrade to a release, taken from elsewhere than each board's own source where `from` says so.
pub fn begin_upgrade(to: Version, from: Option<UpdateSource>) -> (PairPlan, Vec<Effect>) {
    let plan = PairPlan { to, rollback: false, step: PairStep::Staging, orders: 0, from };
    (plan.clone(), vec![Effect::Persist(plan), Effect::StageBoth])
}

/// Begins the way back to a release that both boards have.
pub fn begin_rollback(to: Version) -> (PairPlan, Vec<Effect>) {
    // Nothing to stage: the older release is on both disks, which was asked before.
    let step = PairStep::StorageTrial;
    let plan = PairPlan { to, rollback: true, step, orders: 0, from: None };
    (plan.clone(), vec![Effect::Persist(plan), Effect::BringStorage])
}

/// Takes an event. `None` as the next plan: it is over.
///
/// # Errors
/// [`Refused`]; the plan stays.
pub fn step(plan: PairPlan, event: Event) -> Result<(Option<PairPlan>, Vec<Effect>), Refused> {
    use Effect as E;
    let to_step = |step: PairStep, effect: E| {
        let next = PairPlan { step, ..plan.clone() };
        (Some(next.clone()), vec![E::Persist(next), effect])
    };
    Ok(match (plan.step, event) {
        (PairStep::Staging, Event::Resumed) if plan.orders >= STAGINGS_MAX => {
            let reason = format!(
                "the compute board was restarted {} times while releases were fetched; try again",
                plan.orders
            );
            (None, failed(Role::Compute, reason))
        }
        (PairStep::Staging, Event::Resumed) => {
            // What was fetched is in the stores; counted, so that a release that brings the board down
            // while it is built does not do so for ever.
            let counted = PairPlan { orders: plan.orders.saturating_add(1), ..plan.clone() };
            (Some(counted.clone()), vec![E::Persist(counted), E::StageBoth])
        }
        (PairStep::Staging, Event::Staged) => {
            let next = PairPlan { step: PairStep::StorageTrial, orders: 0, ..plan };
            (Some(next.clone()), vec![E::Persist(next), E::BringStorage])
        }
        (PairStep::Staging, Event::Failed { role, reason }) => (None, failed(role, reason)),
        // Unless it says itself that it runs the old one, the storage board may have flipped, be on trial or
        // even be good: the plan is not over before it is known to be back.
        (PairStep::StorageTrial, Event::Failed { role, reason }) => (None, failed(role, reason)),
        (PairStep::StorageTrial, Event::Lost { .. }) => {
            to_step(PairStep::Returning, E::ReturnStorage)
        }
        (PairStep::Returning, Event::Lost { .. }) => (Some(plan), vec![]),
        (PairStep::StorageTrial, Event::Resumed) => (Some(plan), vec![E::BringStorage]),
        (PairStep::StorageTrial, Event::StorageRuns) => {
            to_step(PairStep::ComputeTrial, E::BringCompute)
        }
        (PairStep::ComputeTrial, Event::Resumed) => (Some(plan), vec![E::BringCompute]),
        (PairStep::ComputeTrial, Event::ComputeRuns) => {
            let done = Outcome::Done { to: plan.to, rollback: plan.rollback };
            (None, vec![E::Clear, E::Tell(done)])
        }
        (PairStep::ComputeTrial, Event::Failed { .. }) => {
            to_step(PairStep::Returning, E::ReturnStorage)
        }
        (PairStep::Returning, Event::Resumed) => (Some(plan), vec![E::ReturnStorage]),
        (PairStep::Returning, Event::StorageRuns) => {
            let reason = format!(
                "the compute board could not run release {}, so the storage board returned too",
                plan.to
            );
            (None, failed(Role::Compute, reason))
        }
        (PairStep::Returning, Event::Failed { reason, .. }) => {
            (None, vec![E::Clear, E::Tell(Outcome::Apart { reason })])
        }
        (step, event) => return Err(Refused { step, event }),
    })
}

fn failed(role: Role, reason: String) -> Vec<Effect> {
    vec![Effect::DiscardBoth, Effect::Clear, Effect::Tell(Outcome::Failed { role, reason })]
}

/// One sentence for `goblin status`.
pub fn sentence(plan: &PairPlan) -> String {
    let verb = if plan.rollback { "going back" } else { "upgrading" };
    let step = match plan.step {
        PairStep::Staging => "both boards fetch and check it",
        PairStep::StorageTrial => "the storage board goes first",
        PairStep::ComputeTrial => "the storage board runs it, the compute board follows",
        PairStep::Returning => "the compute board could not, the storage board returns",
    };
    format!("{verb} both boards to release {}: {step}", plan.to)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TO: Version = Version::new(3, 0, 0);

    fn fail(role: Role) -> Event {
        Event::Failed { role, reason: "panic".into() }
    }

    fn last_word(events: &[Event]) -> Option<Outcome> {
        let (mut plan, _) = begin_upgrade(TO, None);
        for event in events {
            match step(plan.clone(), event.clone()).unwrap() {
                (Some(next), _) => plan = next,
                (None, effects) => {
                    return effects.into_iter().find_map(|effect| match effect {
                        Effect::Tell(outcome) => Some(outcome),
                        _ => None,
                    });
                }
            }
        }
        None
    }

    #[test]
    fn storage_goes_first_and_both_arrive() {
        let told =
            last_word(&[Event::Staged, Event::StorageRuns, Event::Resumed, Event::ComputeRuns]);
        assert_eq!(told, Some(Outcome::Done { to: TO, rollback: false }));
    }

    #[test]
    fn storage_that_falls_back_stops_compute_before_its_turn() {
        let told = last_word(&[Event::Staged, fail(Role::Storage)]);
        assert_eq!(told, Some(Outcome::Failed { role: Role::Storage, reason: "panic".into() }));
    }

    #[test]
    fn compute_that_falls_back_takes_storage_along() {
        let events = [Event::Staged, Event::StorageRuns, fail(Role::Compute), Event::StorageRuns];
        assert!(matches!(last_word(&events), Some(Outcome::Failed { role: Role::Compute, .. })));
        let events = [Event::Staged, Event::StorageRuns, fail(Role::Compute), fail(Role::Storage)];
        assert_eq!(last_word(&events), Some(Outcome::Apart { reason: "panic".into() }));
    }

    #[test]
    fn storage_that_was_told_and_fell_silent_is_taken_back_before_the_plan_ends() {
        let lost = || Event::Lost { reason: "silent".into() };
        let (plan, _) = begin_upgrade(TO, None);
        let (plan, _) = step(plan, Event::Staged).unwrap();
        let (plan, effects) = step(plan.unwrap(), lost()).unwrap();
        let plan = plan.expect("the plan goes on");
        assert_eq!(plan.step, PairStep::Returning);
        assert_eq!(effects.last(), Some(&Effect::ReturnStorage));
        let (plan, effects) = step(plan, lost()).unwrap();
        assert_eq!((plan.map(|p| p.step), effects), (Some(PairStep::Returning), vec![]));
    }

    #[test]
    fn fetching_goes_on_after_a_restart_but_not_for_ever() {
        let (mut plan, _) = begin_upgrade(TO, None);
        for _ in 0..STAGINGS_MAX {
            let (next, effects) = step(plan, Event::Resumed).unwrap();
            assert_eq!(effects.last(), Some(&Effect::StageBoth));
            plan = next.unwrap();
        }
        let (next, effects) = step(plan.clone(), Event::Resumed).unwrap();
        assert_eq!(next, None);
        assert!(matches!(effects.last(), Some(Effect::Tell(Outcome::Failed { .. }))));
        let (next, _) = step(plan, Event::Staged).unwrap();
        assert_eq!(next.unwrap().orders, 0, "restarts into the release are counted anew");
    }

    fn any_event() -> impl Strategy<Value = Event> {
        prop_oneof![
            Just(Event::Resumed),
            Just(Event::Staged),
            Just(Event::StorageRuns),
            Just(Event::ComputeRuns),
            Just(fail(Role::Storage)),
            Just(fail(Role::Compute)),
            Just(Event::Lost { reason: "silent".into() }),
        ]
    }

    proptest! {
        #[test]
        fn compute_moves_only_after_storage_did_and_every_step_is_persisted_first(
            rollback: bool, events in proptest::collection::vec(any_event(), 0..12),
        ) {
            let (mut plan, first) =
                if rollback { begin_rollback(TO) } else { begin_upgrade(TO, None) };
            prop_assert_eq!(first.first(), Some(&Effect::Persist(plan.clone())));
            let mut storage_ran = false;
            for event in events {
                let Ok((next, effects)) = step(plan.clone(), event.clone()) else { continue };
                storage_ran |= event == Event::StorageRuns;
                if effects.contains(&Effect::BringCompute) {
                    prop_assert!(storage_ran);
                }
                let Some(next) = next else {
                    prop_assert!(effects.contains(&Effect::Clear));
                    prop_assert!(matches!(effects.last(), Some(Effect::Tell(_))));
                    return Ok(());
                };
                if next != plan {
                    prop_assert_eq!(effects.first(), Some(&Effect::Persist(next.clone())));
                }
                plan = next;
            }
        }
    }
}
