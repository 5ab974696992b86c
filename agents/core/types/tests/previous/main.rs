//! Releases N and N-1 understand each other: what this release says is read by the frozen types of an
//! earlier one, and what that one says is read here.

#[allow(dead_code, reason = "frozen as it was; not every part is looked at")]
mod wire;

use goblin_core_types as now;
use serde::Serialize;
use serde::de::DeserializeOwned;

const ONE: now::Version = now::Version::new(1, 0, 0);
const TWO: now::Version = now::Version::new(2, 0, 0);

fn read<T: DeserializeOwned>(said: &impl Serialize) -> T {
    let text = serde_json::to_string(said).unwrap();
    serde_json::from_str(&text).unwrap_or_else(|err| panic!("{err}: {text}"))
}

/// The same words for every value of an enum without fields.
fn same_words<A: Serialize, B: Serialize + DeserializeOwned>(all: &[A]) {
    for value in all {
        let back: B = read(value);
        assert_eq!(serde_json::to_value(value).unwrap(), serde_json::to_value(&back).unwrap());
    }
}

/// A boot on trial that failed, with everything there.
fn attempt() -> now::Attempt {
    use now::{Attempt, AttemptStage, BootEnd, EndBy, EndKind, FailReason, OrderedEnd};
    let end = OrderedEnd {
        how: EndKind::Reboot,
        by: EndBy::Unit { name: "update".into() },
        why: "release 2 takes over".into(),
        done: true,
        at_unix_s: 5,
    };
    Attempt {
        version: TWO,
        boot: 7,
        trial: true,
        stage: AttemptStage::Init,
        fail: Some(FailReason::Unhealthy { checks: vec!["pool".into()], deadline_s: 120 }),
        last_lines: vec!["a line".into()],
        at_unix_s: 4,
        end: Some(BootEnd::Ordered(end)),
    }
}

/// How its upgrade ended.
fn report() -> now::UpdateReport {
    let count = now::WriteCount { bytes: 1, changes: 2, syncs: 3 };
    now::UpdateReport {
        from: ONE,
        to: TWO,
        outcome: now::UpdateOutcome::FellBack,
        reason: "it did not come up".into(),
        last_lines: vec!["a line".into()],
        at_unix_s: 6,
        written: Some(now::Written { esp: count, state: count }),
    }
}

/// The boot that runs, and what went before it.
fn boot() -> now::BootStatus {
    now::BootStatus {
        version: Some(ONE),
        attempts: vec![attempt()],
        reports: vec![report()],
        last_reset: Some(now::ResetReport {
            level: now::ResetLevel::Settings,
            done: true,
            reason: "asked".into(),
            at_unix_s: 1,
        }),
        ..now::BootStatus::default()
    }
}

/// A status in which everything is there.
fn status() -> now::BoardStatus {
    use now::{
        BoardStatus, Check, CheckState, Health, HealthState, PoolState, PoolStatus, Quarantined,
        SlotState, SlotStatus, UpdatePhase, UpdateSettings, UpdateStatus,
    };
    let slot = SlotStatus {
        version: TWO,
        file: "goblinux_2+3.efi".into(),
        state: SlotState::Trial { left: 3, done: 0 },
        running: false,
        size_bytes: 9,
    };
    BoardStatus {
        role: Some(now::Role::Storage),
        boot: boot(),
        slots: vec![slot],
        health: Health {
            state: HealthState::Degraded,
            checks: vec![Check {
                name: "pool".into(),
                state: CheckState::Warn,
                detail: "?".into(),
            }],
        },
        pool: Some(PoolStatus { state: PoolState::Degraded, ..PoolStatus::default() }),
        update: UpdateStatus {
            phase: UpdatePhase::Staged,
            target: Some(TWO),
            last: Some(report()),
            quarantine: vec![Quarantined {
                version: TWO,
                uki: now::Digest([2; 32]),
                reason: "it did not come up".into(),
            }],
            settings: UpdateSettings { pins: vec![ONE], ..UpdateSettings::default() },
            channel: Some("stable".into()),
            waiting: Some("clients".into()),
            ..UpdateStatus::default()
        },
        ..BoardStatus::default()
    }
}

#[test]
fn status_of_this_release_is_read_by_the_one_before() {
    let read: wire::BoardStatus = read(&status());
    assert_eq!(read.boot.version, Some(ONE));
    assert_eq!((read.update.phase, read.update.target), (wire::UpdatePhase::Staged, Some(TWO)));
    assert_eq!(read.slots[0].state, wire::SlotState::Trial { left: 3, done: 0 });
    assert_eq!(read.boot.reports[0].outcome, wire::UpdateOutcome::FellBack);
    assert_eq!(read.update.quarantine[0].version, TWO);
    assert_eq!(read.health.state, wire::HealthState::Degraded);
}

#[test]
fn status_of_the_release_before_is_read_by_this_one() {
    let before: wire::BoardStatus = read(&status());
    let back: now::BoardStatus = read(&before);
    let whole = status();
    assert_eq!((back.slots, back.health), (whole.slots, whole.health));
    assert_eq!(back.update.quarantine, whole.update.quarantine);
    assert_eq!((back.boot.reports[0].written, back.boot.attempts[0].end.clone()), (None, None));
    let empty: now::BoardStatus = read(&wire::BoardStatus::default());
    assert_eq!(empty.update.phase, now::UpdatePhase::Idle);
}

#[test]
fn every_word_of_a_status_is_a_word_of_the_release_before() {
    use now::{
        CheckState, HealthState, LinkState, PoolState, UnitPhase, UpdateOutcome, UpdatePhase,
    };
    same_words::<_, wire::HealthState>(&[
        HealthState::Starting,
        HealthState::Healthy,
        HealthState::Degraded,
        HealthState::Failing,
    ]);
    same_words::<_, wire::CheckState>(&[
        CheckState::Waiting,
        CheckState::Ok,
        CheckState::Warn,
        CheckState::Fail,
    ]);
    same_words::<_, wire::LinkState>(&[
        LinkState::Searching,
        LinkState::Up,
        LinkState::Lost,
        LinkState::Conflict,
        LinkState::Foreign,
    ]);
    same_words::<_, wire::PoolState>(&[
        PoolState::None,
        PoolState::Searching,
        PoolState::Absent,
        PoolState::Foreign,
        PoolState::Formatting,
        PoolState::Mounted,
        PoolState::Degraded,
        PoolState::Failed,
    ]);
    same_words::<_, wire::UnitPhase>(&[
        UnitPhase::Off,
        UnitPhase::Waiting,
        UnitPhase::Starting,
        UnitPhase::Ready,
        UnitPhase::BackOff,
        UnitPhase::Stopping,
        UnitPhase::Failed,
    ]);
    same_words::<_, wire::UpdateOutcome>(&[
        UpdateOutcome::Good,
        UpdateOutcome::FellBack,
        UpdateOutcome::RolledBack,
        UpdateOutcome::Refused,
    ]);
    same_words::<_, wire::UpdatePhase>(&[
        UpdatePhase::Idle,
        UpdatePhase::Checking,
        UpdatePhase::Fetching,
        UpdatePhase::Building,
        UpdatePhase::Staged,
        UpdatePhase::Armed,
        UpdatePhase::Trial,
    ]);
}

#[test]
fn orders_within_the_pair_are_orders_of_the_release_before() {
    use now::UpdateCommand as Now;
    use wire::UpdateCommand as Then;
    let stage = |to| Now::Stage { to, from: None };
    assert_eq!(read::<Then>(&stage(Some(TWO))), Then::Stage { to: Some(TWO) });
    assert_eq!(read::<Then>(&Now::Activate { to: TWO }), Then::Activate { to: TWO });
    assert_eq!(read::<Then>(&Now::Rollback { to: Some(ONE) }), Then::Rollback { to: Some(ONE) });
    assert_eq!(read::<Then>(&Now::Discard), Then::Discard);
    assert_eq!(read::<Then>(&Now::ClearQuarantine { release: None }), Then::ClearQuarantine);
    // And back: what an earlier compute board orders is understood.
    for (then, now) in [
        (Then::Stage { to: None }, stage(None)),
        (Then::Activate { to: TWO }, Now::Activate { to: TWO }),
        (Then::Rollback { to: None }, Now::Rollback { to: None }),
        (Then::Discard, Now::Discard),
        (Then::Check, Now::Check),
        (Then::ClearQuarantine, Now::ClearQuarantine { release: None }),
    ] {
        assert_eq!(read::<Now>(&then), now);
    }
    // What is new is refused there, not misunderstood: the compute board then asks in the old way.
    let fed = Now::Stage { to: Some(TWO), from: Some(now::UpdateSource::Board) };
    assert!(serde_json::from_str::<Then>(&serde_json::to_string(&fed).unwrap()).is_err());
}

#[test]
fn replies_are_read_on_both_sides() {
    use now::UpdateReply as Now;
    use wire::UpdateReply as Then;
    let told = Now::Progress { message: "fetching".into(), done_bytes: 1, total_bytes: 2 };
    let done = Now::Done { message: "done".into(), version: Some(TWO) };
    let failed = Now::Failed { kind: "space".into(), message: "full".into() };
    for reply in [told, done, failed] {
        let then: Then = read(&reply);
        assert_eq!(read::<Now>(&then), reply);
    }
}

#[test]
fn boot_record_of_this_release_is_read_by_the_one_it_falls_back_to_and_back() {
    let status = status();
    let record = now::BootRecord {
        schema: 1,
        boot_count: 7,
        attempts: status.boot.attempts,
        reports: status.boot.reports,
        quarantine: status.update.quarantine,
        pending: Some(now::Pending {
            to: TWO,
            from: ONE,
            rollback: false,
            uki: now::Digest([2; 32]),
            peer_expected: true,
            pool_missing: true,
            at_unix_s: 3,
            boot: 7,
            written: Some(now::Written::default()),
        }),
        pair: Some(now::PairPlan {
            to: TWO,
            rollback: false,
            step: now::PairStep::Staging,
            orders: 1,
            from: Some(now::UpdateSource::Usb),
        }),
        ..now::BootRecord::default()
    };
    let then: wire::BootRecord = read(&record);
    let pending = then.pending.as_ref().unwrap();
    assert_eq!((pending.to, pending.from, pending.uki), (TWO, ONE, now::Digest([2; 32])));
    assert_eq!((then.boot_count, then.quarantine.len(), then.reports.len()), (7, 1, 1));
    let back: now::BootRecord = read(&then);
    assert_eq!(back.pending.unwrap().written, None);
    assert_eq!(back.quarantine, record.quarantine);
}
