use super::*;

fn storage() -> Evidence {
    Evidence {
        role: Some(Role::Storage),
        provision: Some(ProvisionStatus {
            outcome: ProvisionOutcome::Applied,
            ..ProvisionStatus::default()
        }),
        shares_named: vec!["main".into()],
        uptime_s: 300,
        clock_unix_s: CLOCK_FLOOR_UNIX_S + 1,
        time: Some(TimeStatus::default()),
        link: Some(LinkStatus { state: LinkState::Up, ..LinkStatus::default() }),
        pool: Some(PoolStatus { state: PoolState::Mounted, ..PoolStatus::default() }),
        shares: Some(vec![ShareStatus {
            name: "main".into(),
            served: true,
            clients: 0,
            read_bytes: 0,
            written_bytes: 0,
            problem: None,
        }]),
        probes: vec![ShareProbe { name: "main".into(), problem: None }],
        ..Evidence::default()
    }
}

fn compute() -> Evidence {
    Evidence {
        role: Some(Role::Compute),
        pool: None,
        shares: None,
        probes: Vec::new(),
        mounts: Some(vec![MountStatus {
            name: "main".into(),
            path: "/shares/main".into(),
            mounted: true,
            problem: None,
        }]),
        console_drawn: true,
        ..storage()
    }
}

fn state_of(health: &Health, name: &str) -> CheckState {
    health.checks.iter().find(|check| check.name == name).unwrap().state
}

#[test]
fn boards_with_everything_in_place_are_healthy() {
    for evidence in [storage(), compute()] {
        let health = judge(&evidence);
        assert_eq!(health.state, HealthState::Healthy, "{health:?}");
        assert!(open_checks(&health).is_empty());
    }
}

#[test]
fn a_board_without_a_file_says_how_to_get_one() {
    let evidence = Evidence {
        provision: Some(ProvisionStatus {
            outcome: ProvisionOutcome::Missing,
            ..ProvisionStatus::default()
        }),
        ..Evidence::default()
    };
    let health = judge(&evidence);
    assert_eq!(health.state, HealthState::Failing);
    assert!(health.checks[0].detail.contains("cargo xtask flash"));
}

#[test]
fn an_absent_peer_only_degrades_a_board_that_is_not_on_trial() {
    let mut evidence = storage();
    evidence.link = Some(LinkStatus::default());
    assert_eq!(judge(&evidence).state, HealthState::Degraded);
}

#[test]
fn a_trial_armed_beside_its_peer_must_see_it_again() {
    let mut evidence = storage();
    evidence.link = Some(LinkStatus { state: LinkState::Lost, ..LinkStatus::default() });
    evidence.trial = true;
    evidence.peer_expected = true;
    assert_eq!(state_of(&judge(&evidence), "link"), CheckState::Waiting);
    // A box whose other board was already away cannot blame the new release for that.
    evidence.peer_expected = false;
    assert_eq!(state_of(&judge(&evidence), "link"), CheckState::Warn);
}

#[test]
fn a_lost_disk_fails_a_trial_and_degrades_a_board_that_runs() {
    let mut evidence = storage();
    evidence.pool = Some(PoolStatus { state: PoolState::Absent, ..PoolStatus::default() });
    assert_eq!(judge(&evidence).state, HealthState::Degraded);
    evidence.trial = true;
    let health = judge(&evidence);
    assert_eq!(health.state, HealthState::Failing);
    assert!(open_checks(&health).iter().any(|line| line.starts_with("pool: ")));
}

#[test]
fn a_disk_that_was_lost_before_the_trial_is_not_held_against_it() {
    for lost in [PoolState::Absent, PoolState::Foreign, PoolState::Failed] {
        let mut evidence = storage();
        evidence.pool = Some(PoolStatus { state: lost, ..PoolStatus::default() });
        evidence.probes.clear();
        evidence.trial = true;
        evidence.pool_missing = true;
        let health = judge(&evidence);
        assert_eq!(health.state, HealthState::Degraded, "{health:?}");
        assert!(open_checks(&health).is_empty());
    }
    // Nor are the shares that the other board cannot serve; but a pool that is there has to work.
    let mut evidence = Evidence { trial: true, peer_expected: true, ..compute() };
    evidence.mounts = Some(Vec::new());
    evidence.pool_missing = true;
    assert!(open_checks(&judge(&evidence)).is_empty());
    let mut evidence = Evidence { trial: true, pool_missing: true, ..storage() };
    evidence.probes.clear();
    assert!(open_checks(&judge(&evidence)).iter().any(|line| line.starts_with("shares: ")));
}

#[test]
fn two_boards_of_one_role_before_the_trial_are_not_held_against_it() {
    let mut evidence = storage();
    evidence.link = Some(LinkStatus { state: LinkState::Conflict, ..LinkStatus::default() });
    evidence.trial = true;
    assert!(open_checks(&judge(&evidence)).is_empty());
    evidence.peer_expected = true;
    assert!(!open_checks(&judge(&evidence)).is_empty());
}

#[test]
fn a_share_that_is_listed_but_does_not_answer_is_not_healthy() {
    let mut evidence = storage();
    evidence.probes = vec![ShareProbe { name: "main".into(), problem: Some("timed out".into()) }];
    let health = judge(&evidence);
    assert_eq!(state_of(&health, "shares"), CheckState::Fail);
    assert!(open_checks(&health)[0].contains("timed out"));
    evidence.probes.clear();
    assert_eq!(state_of(&judge(&evidence), "shares"), CheckState::Fail);
}

#[test]
fn a_trial_waits_for_its_mounts_only_when_the_peer_was_there() {
    let mut evidence = compute();
    evidence.mounts = Some(Vec::new());
    evidence.trial = true;
    evidence.peer_expected = true;
    assert_eq!(state_of(&judge(&evidence), "mounts"), CheckState::Waiting);
    evidence.peer_expected = false;
    assert_eq!(state_of(&judge(&evidence), "mounts"), CheckState::Warn);
}

#[test]
fn a_trial_waits_for_the_console_and_the_updater() {
    let mut evidence = compute();
    evidence.trial = true;
    evidence.console_drawn = false;
    evidence.updater_problem = Some("connection refused".into());
    let open = open_checks(&judge(&evidence));
    assert_eq!(open.len(), 2, "{open:?}");
}

#[test]
fn a_clock_before_the_first_release_only_warns() {
    let mut evidence = storage();
    evidence.clock_unix_s = 0;
    evidence.trial = true;
    let health = judge(&evidence);
    assert_eq!(state_of(&health, "clock"), CheckState::Warn);
    assert!(open_checks(&health).is_empty());
}

#[test]
fn a_late_part_is_waited_for_then_missed() {
    let mut evidence = storage();
    evidence.pool = None;
    evidence.uptime_s = 5;
    assert_eq!(state_of(&judge(&evidence), "pool"), CheckState::Waiting);
    evidence.uptime_s = GRACE_S;
    assert_eq!(state_of(&judge(&evidence), "pool"), CheckState::Warn);
}

#[test]
fn a_state_that_cannot_be_written_is_not_healthy() {
    let broken = Evidence { state_problem: Some("read-only".into()), ..storage() };
    assert_eq!(state_of(&judge(&broken), "state"), CheckState::Fail);
    let trial = Evidence { trial: true, ..broken };
    assert!(!open_checks(&judge(&trial)).is_empty());
}

#[test]
fn a_missing_system_disk_is_told_and_blamed_on_no_release() {
    let with = |state| {
        let disks = Some(MirrorStatus { state, ..MirrorStatus::default() });
        judge(&Evidence { disks, trial: true, ..storage() })
    };
    let of = |health: &Health| {
        health.checks.iter().find(|check| check.name == "system disks").map(|check| check.state)
    };
    assert_eq!(of(&judge(&storage())), None);
    assert_eq!(of(&with(MirrorState::Single)), None);
    assert_eq!(of(&with(MirrorState::InStep)), Some(CheckState::Ok));
    let alone = with(MirrorState::Alone);
    assert_eq!(of(&alone), Some(CheckState::Warn));
    assert!(open_checks(&alone).iter().all(|line| !line.starts_with("system disks")));
}
