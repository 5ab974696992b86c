use super::slot::STEADY_MS;
use super::*;
use crate::unit::GATE_DEADLINE_DEFAULT_S;

fn unit(name: &str, text: &str) -> Unit {
    let kind = if text.contains("kind") { "" } else { "kind = 'service'\n" };
    let program = !kind.is_empty() || text.contains("'task'");
    let exec = if program { "exec = ['/x']\n" } else { "" };
    crate::unit::parse(name, &format!("description = 'd'\n{exec}{kind}{text}")).unwrap()
}

fn board(units: Vec<Unit>, trial: bool) -> Supervisor {
    Supervisor::new(units, vec![], Boot { trial, last_resort: false, start_ms: 0 })
}

fn started(actions: &[Action]) -> Vec<UnitIndex> {
    let spawned =
        |action: &Action| if let Action::Spawn(index) = action { Some(*index) } else { None };
    actions.iter().filter_map(spawned).collect()
}

/// Starts a board without roles.
fn start(board: &mut Supervisor) -> Vec<UnitIndex> {
    let mut all = board.step(0, Event::Start);
    all.extend(board.step(0, Event::RoleRead(None)));
    started(&all)
}

/// An order to end, by the unit `control`.
fn end(how: How, why: &str) -> Event {
    Event::Shutdown(how, EndBy::Unit { name: "control".into() }, why.into())
}

/// What the record is told of it.
fn told(how: EndKind, why: &str) -> Action {
    let by = EndBy::Unit { name: "control".into() };
    Action::RecordEnd(OrderedEnd { how, by, why: why.into(), done: false, at_unix_s: 0 })
}

fn phase(board: &Supervisor, index: UnitIndex) -> UnitPhase {
    board.status(index).unwrap().phase
}

fn detail(board: &Supervisor, index: UnitIndex) -> String {
    board.status(index).unwrap().detail
}

#[test]
fn units_start_when_what_they_require_is_ready() {
    let mut board = board(vec![unit("a", ""), unit("b", "requires = ['a']")], false);
    assert_eq!(start(&mut board), [0]);
    assert_eq!(detail(&board, 1), "waits for a");
    board.step(1, Event::Forked(0, 10));
    assert!(started(&board.step(2, Event::Executed(0))).is_empty(), "notify means notify");
    assert_eq!(started(&board.step(3, Event::Ready(0))), [1]);
    board.step(3, Event::Forked(1, 11));
    let actions = board.step(4, Event::Ready(1));
    assert!(actions.contains(&Action::AllReady));
    assert!(!board.step(5, Event::Ready(1)).contains(&Action::AllReady), "told once");
}

#[test]
fn after_waits_for_an_end_of_the_first_start_whatever_it_was() {
    let units =
        vec![unit("a", "kind = 'task'"), unit("b", "after = ['a']"), unit("c", "requires = ['a']")];
    let mut board = board(units, false);
    assert_eq!(start(&mut board), [0]);
    board.step(1, Event::Forked(0, 10));
    assert_eq!(started(&board.step(2, Event::Ended(0, Exit::Status(1)))), [1]);
    assert_eq!(phase(&board, 0), UnitPhase::Failed);
    assert_eq!(detail(&board, 2), "needs a, which failed");
}

#[test]
fn pauses_double_up_to_the_limit_and_are_left_out_after_a_steady_run() {
    let mut board = board(vec![unit("a", "backoff_ms = [200, 700]")], false);
    start(&mut board);
    let mut now = 0;
    for pause_ms in [200, 400, 700, 700] {
        board.step(now, Event::Forked(0, 1));
        board.step(now, Event::Ended(0, Exit::Signal(6)));
        assert_eq!(phase(&board, 0), UnitPhase::BackOff);
        assert_eq!(detail(&board, 0), "ended by signal 6");
        assert_eq!(board.next_deadline_ms(), Some(now + pause_ms));
        assert!(started(&board.step(now + pause_ms - 1, Event::Tick)).is_empty());
        now += pause_ms;
        assert_eq!(started(&board.step(now, Event::Tick)), [0]);
    }
    board.step(now, Event::Forked(0, 1));
    board.step(now, Event::Ready(0));
    now += STEADY_MS;
    board.step(now, Event::Ended(0, Exit::Status(0)));
    assert_eq!(phase(&board, 0), UnitPhase::BackOff, "it is told");
    assert_eq!(started(&board.step(now + 1, Event::Tick)), [0], "but nothing is waited for");
    assert_eq!(board.status(0).unwrap().restarts, 5);
    board.step(now + 1, Event::Forked(0, 1));
    board.step(now + 1, Event::Ended(0, Exit::Status(0)));
    assert_eq!(board.next_deadline_ms(), Some(now + 201));
}

#[test]
fn a_unit_that_is_not_ready_in_time_is_stopped_killed_and_started_again() {
    let mut board = board(vec![unit("a", "start_timeout_ms = 1000\nstop_timeout_ms = 100")], false);
    start(&mut board);
    board.step(0, Event::Forked(0, 1));
    assert_eq!(board.step(1000, Event::Tick), [Action::Terminate(0), Action::Changed(0)]);
    assert_eq!(board.step(1100, Event::Tick), [Action::Kill(0)]);
    board.step(1101, Event::Ended(0, Exit::Signal(9)));
    assert_eq!(
        (phase(&board, 0), detail(&board, 0).as_str()),
        (UnitPhase::BackOff, "not ready within 1000 ms")
    );
}

#[test]
fn a_program_that_cannot_run_is_explained() {
    let mut board =
        board(vec![unit("a", "restart = 'never'"), unit("b", "restart = 'never'")], false);
    start(&mut board);
    board.step(0, Event::NotStarted(0, "fork".into()));
    assert_eq!((phase(&board, 0), detail(&board, 0).as_str()), (UnitPhase::Failed, "fork"));
    board.step(0, Event::Forked(1, 1));
    board.step(0, Event::NotStarted(1, "not started: exec: x".into()));
    board.step(0, Event::Ended(1, Exit::Status(127)));
    assert_eq!(detail(&board, 1), "not started: exec: x");
}

#[test]
fn the_role_decides_and_may_come_late() {
    let units = vec![
        unit("provision", "kind = 'task'\nrestart = 'on-failure'"),
        unit("screen", "roles = ['none', 'compute']"),
        unit("share", "roles = ['storage']"),
        unit("any", ""),
    ];
    let mut board = board(units, false);
    assert_eq!(started(&board.step(0, Event::Start)), [0, 3]);
    assert_eq!(detail(&board, 1), "waits for the role");
    board.step(0, Event::Forked(0, 10));
    assert!(board.step(1, Event::Ended(0, Exit::Status(1))).contains(&Action::ReadRole));
    assert_eq!(started(&board.step(1, Event::RoleRead(None))), [1]);
    board.step(1, Event::Forked(1, 11));
    assert_eq!(phase(&board, 2), UnitPhase::Off);
    // Provisioning succeeds at its second try: the board becomes a storage board.
    board.step(600, Event::Tick);
    board.step(600, Event::Forked(0, 12));
    board.step(601, Event::Ended(0, Exit::Status(0)));
    let actions = board.step(601, Event::RoleRead(Some(Role::Storage)));
    assert!(actions.contains(&Action::Terminate(1)));
    assert_eq!(started(&actions), [2]);
    board.step(602, Event::Ended(1, Exit::Signal(15)));
    assert_eq!(phase(&board, 1), UnitPhase::Off);
}

#[test]
fn the_gate_accepts_a_trial_and_lets_bless_run() {
    let bless = "kind = 'task'\ntrial_only = true\nrequires = ['health']";
    let units = || vec![unit("bless", bless), unit("health", "gate = true\nstart_timeout_ms = 0")];
    let mut trial = board(units(), true);
    start(&mut trial);
    trial.step(0, Event::Forked(1, 1));
    assert_eq!(trial.next_deadline_ms(), Some(180_000));
    let actions = trial.step(5000, Event::Ready(1));
    assert!(actions.contains(&Action::Healthy { trial: true }));
    assert_eq!(started(&actions), [0]);
    trial.step(5001, Event::Forked(0, 2));
    trial.step(5002, Event::Ended(0, Exit::Status(0)));
    assert_eq!(trial.step(200_000, Event::Tick), []);
    assert_eq!(
        trial.step(200_000, Event::TrialFailed(FailReason::Panic { message: "late".into() })),
        []
    );

    let mut plain = board(units(), false);
    assert_eq!(start(&mut plain), [1]);
    plain.step(0, Event::Forked(1, 1));
    assert!(plain.step(999_000, Event::Ready(1)).contains(&Action::Healthy { trial: false }));
    assert_eq!(phase(&plain, 0), UnitPhase::Off);
}

#[test]
fn a_missed_gate_is_recorded_and_then_reboots() {
    let mut board = board(vec![unit("health", "gate = true\ngate_deadline_s = 5")], true);
    start(&mut board);
    board.step(0, Event::Forked(0, 1));
    board.step(1, Event::Said(0, "clock: not set\n\n link: no cable ".into()));
    let checks = vec!["clock: not set".into(), "link: no cable".into()];
    let reason = FailReason::Unhealthy { checks, deadline_s: 5 };
    assert_eq!(board.step(5000, Event::Tick), [Action::RecordFail(reason)]);
    assert!(!board.trial_open());
    let actions = board.step(5001, Event::RecordWritten);
    let [Action::RecordEnd(end), rest @ ..] = actions.as_slice() else { panic!("{actions:?}") };
    assert_eq!((end.how, &end.by), (EndKind::Reboot, &EndBy::Trial));
    assert_eq!(rest, [Action::Terminate(0), Action::Changed(0)]);
    let actions = board.step(5002, Event::Ended(0, Exit::Signal(15)));
    assert_eq!(actions.last(), Some(&Action::Finish(How::Reboot)));
}

#[test]
fn a_dead_disk_does_not_hold_up_the_fall_back() {
    let mut board = board(vec![], true);
    start(&mut board);
    let deadline_ms = u64::from(GATE_DEADLINE_DEFAULT_S) * 1000;
    let checks = vec!["no unit is the gate".into()];
    let reason = FailReason::Unhealthy { checks, deadline_s: GATE_DEADLINE_DEFAULT_S };
    assert_eq!(board.step(deadline_ms, Event::Tick), [Action::RecordFail(reason)]);
    let late_ms = deadline_ms + RECORD_TIMEOUT_MS;
    assert_eq!(board.next_deadline_ms(), Some(late_ms));
    let actions = board.step(late_ms, Event::Tick);
    assert!(matches!(actions.as_slice(), [Action::RecordEnd(_), Action::Finish(How::Reboot)]));
}

#[test]
fn nothing_starts_in_the_step_that_ends_a_trial() {
    let late_ms = u64::from(GATE_DEADLINE_DEFAULT_S) * 1000 + RECORD_TIMEOUT_MS;
    let backoff =
        format!("restart = 'on-failure'\nkind = 'task'\nbackoff_ms = [{late_ms}, {late_ms}]");
    let mut board = board(vec![unit("a", &backoff)], true);
    start(&mut board);
    board.step(0, Event::Forked(0, 1));
    board.step(0, Event::Ended(0, Exit::Status(1)));
    board.step(late_ms - RECORD_TIMEOUT_MS, Event::Tick);
    let actions = board.step(late_ms, Event::Tick);
    assert!(!actions.contains(&Action::Spawn(0)), "{actions:?}");
    assert_eq!(actions.last(), Some(&Action::Finish(How::Reboot)));
}

#[test]
fn the_end_of_a_critical_unit_ends_a_trial_only() {
    let units = || vec![unit("a", "critical = true\nrestart = 'never'"), unit("h", "gate = true")];
    for trial in [true, false] {
        let mut board = board(units(), trial);
        start(&mut board);
        board.step(0, Event::Forked(0, 1));
        let actions = board.step(1, Event::Ended(0, Exit::Status(3)));
        assert_eq!(actions.iter().any(|action| matches!(action, Action::RecordFail(_))), trial);
    }
}

#[test]
fn a_board_with_no_tries_left_stays_up_and_can_still_be_accepted() {
    let units = vec![unit("health", "gate = true\nstart_timeout_ms = 0")];
    let mut board =
        Supervisor::new(units, vec![], Boot { trial: true, last_resort: true, start_ms: 0 });
    start(&mut board);
    board.step(0, Event::Forked(0, 1));
    assert_eq!(board.next_deadline_ms(), None);
    assert_eq!(board.step(999_000, Event::Tick), []);
    assert_eq!(
        board.step(999_000, Event::TrialFailed(FailReason::Panic { message: "x".into() })),
        []
    );
    assert!(board.step(999_001, Event::Ready(0)).contains(&Action::Healthy { trial: true }));
}

#[test]
fn an_ordered_end_of_a_trial_is_not_a_silent_one() {
    let mut board = board(vec![unit("health", "gate = true")], true);
    start(&mut board);
    let actions = board.step(1, end(How::Reboot, "a person"));
    let [Action::RecordFail(FailReason::Unhealthy { checks, .. }), ..] = actions.as_slice() else {
        panic!("{actions:?}")
    };
    assert_eq!(checks, &["ended before the verdict: a person"]);
}

#[test]
fn shutdown_stops_users_first_and_kills_what_stays() {
    let mut board = board(vec![unit("pool", ""), unit("share", "requires = ['pool']")], false);
    start(&mut board);
    board.step(0, Event::Forked(0, 1));
    board.step(0, Event::Ready(0));
    board.step(0, Event::Forked(1, 2));
    board.step(0, Event::Ready(1));
    let actions = board.step(10, end(How::PowerOff, "test"));
    let told = told(EndKind::PowerOff, "test");
    assert_eq!(actions, [told, Action::Terminate(1), Action::Changed(1)]);
    assert!(board.step(11, Event::Ended(1, Exit::Status(0))).contains(&Action::Terminate(0)));
    assert_eq!(board.step(11 + 5000, Event::Tick), [Action::Kill(0)]);
    let actions = board.step(11 + 5000 + KILL_GRACE_MS, Event::Tick);
    assert_eq!(actions, [Action::Changed(0), Action::Finish(How::PowerOff)]);
    assert_eq!(board.next_deadline_ms(), None);
}

#[test]
fn who_keeps_the_log_hears_everybody_out() {
    let units = vec![
        unit("disk", ""),
        unit("journal", "stop_last = true\nrequires = ['disk']"),
        unit("share", "requires = ['disk']"),
        unit("lone", ""),
    ];
    let mut board = board(units, false);
    start(&mut board);
    for index in [0, 1, 2, 3] {
        board.step(0, Event::Forked(index, 10 + u32::try_from(index).unwrap()));
        board.step(0, Event::Ready(index));
    }
    let stopped = |actions: &[Action]| -> Vec<UnitIndex> {
        let of = |action: &Action| match action {
            Action::Terminate(index) => Some(*index),
            _ => None,
        };
        actions.iter().filter_map(of).collect()
    };
    // On a running board it stops when a person says so.
    assert_eq!(stopped(&board.step(1, Event::Order(1, Order::Restart))), [1]);
    board.step(1, Event::Ended(1, Exit::Status(0)));
    board.step(1, Event::Forked(1, 20));
    board.step(1, Event::Ready(1));
    let actions = board.step(2, end(How::Reboot, "first"));
    assert_eq!(stopped(&actions), [2, 3]);
    assert!(actions.contains(&told(EndKind::Reboot, "first")));
    assert_eq!(board.step(2, end(How::PowerOff, "second")), [], "the first word counts");
    assert_eq!(stopped(&board.step(3, Event::Ended(2, Exit::Status(0)))), []);
    assert_eq!(stopped(&board.step(4, Event::Ended(3, Exit::Status(0)))), [1]);
    assert_eq!(stopped(&board.step(5, Event::Ended(1, Exit::Status(0)))), [0]);
    let last = board.step(6, Event::Ended(0, Exit::Status(0)));
    assert_eq!(last.last(), Some(&Action::Finish(How::Reboot)));
}

#[test]
fn a_long_reason_is_cut_between_characters() {
    let mut board = board(vec![], false);
    start(&mut board);
    let actions = board.step(1, end(How::Reboot, &"\u{fc}".repeat(END_WHY_BYTES_MAX)));
    let Some(Action::RecordEnd(end)) = actions.first() else { panic!("{actions:?}") };
    assert_eq!(end.why.len(), END_WHY_BYTES_MAX);
}

#[test]
fn broken_units_are_failed_and_named() {
    let refused = vec![("odd".to_owned(), "odd.toml: why".to_owned())];
    let units = vec![unit("a", "requires = ['nobody']"), unit("b", "")];
    let mut board =
        Supervisor::new(units, refused, Boot { trial: false, last_resort: false, start_ms: 0 });
    assert_eq!(start(&mut board), [1]);
    let phases: Vec<_> = board.statuses().into_iter().map(|unit| (unit.name, unit.phase)).collect();
    let expected =
        [("a", UnitPhase::Failed), ("b", UnitPhase::Starting), ("odd", UnitPhase::Failed)];
    assert_eq!(phases, expected.map(|(name, phase)| (name.to_owned(), phase)));
}

mod orders;
mod world;
