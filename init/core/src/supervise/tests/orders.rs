//! People, kinds of units, watchdogs.

use super::*;
use proptest::prelude::*;

/// A unit with a process that is ready.
fn run(board: &mut Supervisor, now_ms: u64, index: UnitIndex) -> Vec<Action> {
    board.step(now_ms, Event::Forked(index, 100 + index as u32));
    board.step(now_ms, Event::Ready(index))
}

#[test]
fn what_requires_a_failed_unit_goes_down_and_comes_back_with_it() {
    let units = vec![unit("pool", ""), unit("share", "requires = ['pool']")];
    let mut board = board(units, false);
    start(&mut board);
    run(&mut board, 0, 0);
    run(&mut board, 0, 1);
    let actions = board.step(100, Event::Ended(0, Exit::Signal(9)));
    assert!(actions.contains(&Action::Terminate(1)), "{actions:?}");
    assert_eq!(detail(&board, 1), "needs pool, which went down");
    board.step(110, Event::Ended(1, Exit::Status(0)));
    assert_eq!(detail(&board, 1), "waits for pool");
    assert_eq!(started(&board.step(600, Event::Tick)), [0]);
    assert_eq!(started(&run(&mut board, 605, 0)), [0; 0], "its own pause is not over");
    assert_eq!(started(&board.step(610, Event::Tick)), [1]);
    assert_eq!(board.status(1).unwrap().restarts, 1);
}

#[test]
fn a_milestone_that_was_reached_may_end() {
    let units = vec![unit("pool", ""), unit("share", "milestone = ['pool']")];
    let mut board = board(units, false);
    assert_eq!(start(&mut board), [0]);
    assert_eq!(started(&run(&mut board, 0, 0)), [1]);
    run(&mut board, 0, 1);
    board.step(1, Event::Ended(0, Exit::Signal(9)));
    assert_eq!(phase(&board, 1), UnitPhase::Ready);
}

#[test]
fn people_stop_and_start_with_all_that_hangs_on_it() {
    let units = vec![unit("pool", ""), unit("share", "requires = ['pool']"), unit("x", "")];
    let mut board = board(units, false);
    start(&mut board);
    (0..3).for_each(|index| drop(run(&mut board, 0, index)));
    let actions = board.step(10, Event::Order(0, Order::Stop));
    assert_eq!(actions, [Action::Terminate(1), Action::Changed(1)], "users first");
    let actions = board.step(11, Event::Ended(1, Exit::Status(0)));
    assert!(actions.contains(&Action::Terminate(0)));
    board.step(12, Event::Ended(0, Exit::Status(0)));
    assert_eq!(
        (phase(&board, 0), detail(&board, 0).as_str()),
        (UnitPhase::Off, "stopped by a person")
    );
    assert_eq!(detail(&board, 1), "needs pool, which is off");
    assert_eq!(board.step(100_000, Event::Tick), []);
    // Who wants the shares wants the pool.
    assert_eq!(started(&board.step(100_000, Event::Order(1, Order::Start))), [0]);
    assert_eq!(started(&run(&mut board, 100_001, 0)), [1]);
    assert_eq!(phase(&board, 2), UnitPhase::Ready);
}

#[test]
fn a_restart_by_a_person_is_at_once_and_forgives() {
    let mut board =
        board(vec![unit("a", "restarts_max = 1"), unit("b", "refuse_stop = true")], false);
    start(&mut board);
    run(&mut board, 0, 0);
    run(&mut board, 0, 1);
    board.step(5, Event::Order(0, Order::Restart));
    assert_eq!(started(&board.step(6, Event::Ended(0, Exit::Signal(15)))), [0]);
    for now_ms in [10, 1000] {
        board.step(now_ms, Event::Forked(0, 9));
        board.step(now_ms, Event::Ended(0, Exit::Status(1)));
        board.step(now_ms + 900, Event::Tick);
    }
    assert_eq!(phase(&board, 0), UnitPhase::Failed);
    assert_eq!(detail(&board, 0), "ended with status 1, given up after 2 failures");
    assert_eq!(started(&board.step(3000, Event::Order(0, Order::Start))), [0]);
    assert!(board.refusal(1, Order::Stop).is_some());
    assert_eq!(board.step(3000, Event::Order(1, Order::Stop)), []);
}

#[test]
fn a_unit_may_say_not_to_start_it_again() {
    let mut board = board(vec![unit("a", "no_restart_status = [78]")], false);
    start(&mut board);
    run(&mut board, 0, 0);
    board.step(1, Event::Ended(0, Exit::Status(78)));
    assert_eq!(phase(&board, 0), UnitPhase::Failed);
    assert_eq!(detail(&board, 0), "ended with status 78, which says not to start it again");
}

#[test]
fn silence_is_killed_and_a_stuck_critical_unit_starves_the_hardware_watchdog() {
    let mut board = board(vec![unit("a", "critical = true\nwatchdog_ms = 1000")], false);
    start(&mut board);
    run(&mut board, 0, 0);
    assert_eq!(board.step(900, Event::Ping(0)), []);
    assert_eq!(board.step(1899, Event::Tick), []);
    assert_eq!(board.step(1900, Event::Tick), [Action::Kill(0), Action::Changed(0)]);
    assert_eq!(detail(&board, 0), "gave no sign of life for 1000 ms");
    assert!(board.may_feed(1900 + STUCK_MS - 1));
    assert!(!board.may_feed(1900 + STUCK_MS));
    board.step(40_000, Event::Ended(0, Exit::Signal(9)));
    assert!(board.may_feed(40_000));
    assert_eq!(phase(&board, 0), UnitPhase::BackOff);
}

#[test]
fn kinds_without_a_process_start_stop_and_order_others() {
    let units = vec![
        unit("disk", "kind = 'device'\ndevice = 'block:sda'"),
        unit(
            "data",
            "kind = 'mount'\nrequires = ['disk']\n[mount]\nwhat = '/dev/sda'\nwhere = '/data'\ntype = 'btrfs'",
        ),
        unit("door", "kind = 'socket'\nlisten = 'tcp:[::]:564'"),
        unit("share", "requires = ['data', 'door']"),
        unit("all", "kind = 'milestone'\nrequires = ['share']"),
    ];
    let mut board = board(units, false);
    let mut actions = board.step(0, Event::Start);
    actions.extend(board.step(0, Event::RoleRead(None)));
    assert!(actions.contains(&Action::Listen(2)) && started(&actions).is_empty());
    assert_eq!(detail(&board, 0), "waits for block:sda");
    board.step(1, Event::Listening(2));
    let there = |present| Event::Device { name: "block:sda".into(), present };
    assert_eq!(started(&board.step(2, there(true))), [1]);
    board.step(2, Event::Forked(1, 10));
    assert_eq!(started(&board.step(3, Event::Ended(1, Exit::Status(0)))), [3]);
    board.step(3, Event::Forked(3, 11));
    assert!(board.step(4, Event::Ready(3)).contains(&Action::AllReady));
    assert_eq!(phase(&board, 4), UnitPhase::Ready);
    // The disk is pulled out: its users stop, then the mount is taken away by a child.
    assert!(board.step(10, there(false)).contains(&Action::Terminate(3)));
    assert_eq!(phase(&board, 4), UnitPhase::Waiting);
    assert!(board.step(11, Event::Ended(3, Exit::Status(0))).contains(&Action::Unmount(1)));
    board.step(11, Event::Forked(1, 12));
    board.step(12, Event::Ended(1, Exit::Status(0)));
    assert_eq!(phase(&board, 1), UnitPhase::Waiting);
    assert_eq!(phase(&board, 2), UnitPhase::Ready, "the socket stays open");
    let actions = board.step(13, end(How::Reboot, "x"));
    assert!(actions.contains(&Action::CloseSocket(2)));
    assert_eq!(actions.last(), Some(&Action::Finish(How::Reboot)));
}

#[test]
fn a_mount_that_is_busy_is_told() {
    let mount = "kind = 'mount'\n[mount]\nwhat = 'tmpfs'\nwhere = '/data'\ntype = 'tmpfs'";
    let mut board = board(vec![unit("data", mount)], false);
    start(&mut board);
    board.step(0, Event::Forked(0, 10));
    board.step(1, Event::Ended(0, Exit::Status(0)));
    assert!(board.step(2, Event::Order(0, Order::Stop)).contains(&Action::Unmount(0)));
    board.step(2, Event::Forked(0, 11));
    board.step(3, Event::Ended(0, Exit::Status(1)));
    assert_eq!(phase(&board, 0), UnitPhase::Failed);
    assert_eq!(detail(&board, 0), "stays mounted: ended with status 1");
    assert_eq!(started(&board.step(4, Event::Order(0, Order::Start))), [0]);
}

#[test]
fn a_schedule_repeats_without_overlap() {
    let units = vec![
        unit("scrub", "kind = 'task'\ndelay_ms = 5000\nevery_ms = 1000"),
        unit("user", "requires = ['scrub']"),
    ];
    let mut board = board(units, false);
    assert!(start(&mut board).is_empty());
    assert_eq!(board.next_deadline_ms(), Some(5000));
    assert_eq!(started(&board.step(5000, Event::Tick)), [0]);
    board.step(5000, Event::Forked(0, 10));
    // A run that takes longer than the interval is not started a second time.
    assert_eq!(board.step(6500, Event::Tick), []);
    assert_eq!(started(&board.step(6600, Event::Ended(0, Exit::Status(0)))), [1]);
    run(&mut board, 6600, 1);
    assert_eq!(started(&board.step(6800, Event::Tick)), [0]);
    assert_eq!(phase(&board, 1), UnitPhase::Ready, "what was done once is done");
    board.step(6800, Event::Forked(0, 11));
    board.step(6900, Event::Ended(0, Exit::Status(3)));
    assert_eq!(phase(&board, 0), UnitPhase::Failed);
    assert_eq!(started(&board.step(7800, Event::Tick)), [0], "the next time comes all the same");
}

#[test]
fn readiness_is_asked_for_until_it_is_there() {
    let mut board = board(vec![unit("a", "ready = '9p:unix:/run/x'")], false);
    start(&mut board);
    board.step(0, Event::Forked(0, 1));
    assert_eq!(board.step(1, Event::Executed(0)), [Action::Probe(0)]);
    assert_eq!(board.step(2, Event::Probed(0, false)), []);
    assert_eq!(board.step(2 + PROBE_PAUSE_MS, Event::Tick), [Action::Probe(0)]);
    // No answer at all: another question.
    let late_ms = 2 + PROBE_PAUSE_MS + PROBE_PATIENCE_MS;
    assert_eq!(board.step(late_ms, Event::Tick), [Action::Probe(0)]);
    board.step(late_ms, Event::Probed(0, true));
    assert_eq!(phase(&board, 0), UnitPhase::Ready);
}

#[test]
fn what_does_not_start_by_itself_starts_when_it_is_needed() {
    let units = vec![
        unit("a", "autostart = false"),
        unit("b", "autostart = false\nwants = ['c']"),
        unit("c", "autostart = false"),
        unit("d", "wants = ['a', 'nobody']"),
    ];
    let mut board = board(units, false);
    assert_eq!(start(&mut board), [0]);
    assert_eq!(detail(&board, 1), "only when it is needed");
    assert_eq!(started(&board.step(1, Event::Order(1, Order::Start))), [2]);
    board.step(2, Event::Forked(0, 9));
    // Wanted, not required: it may fail.
    assert_eq!(started(&board.step(3, Event::Ended(0, Exit::Status(1)))), [3]);
}

#[test]
fn a_thousand_units_cost_little() {
    let name = |at: usize| format!("u{at}");
    let units: Vec<Unit> = (0..1000)
        .map(|at: usize| {
            let below: Vec<String> =
                [1, 7, 40].iter().filter_map(|d| Some(name(at.checked_sub(*d)?))).collect();
            unit(&name(at), &format!("requires = {below:?}"))
        })
        .collect();
    let begin = std::time::Instant::now();
    let mut board = board(units, false);
    let mut to_start = start(&mut board);
    let mut count = 0;
    while let Some(index) = to_start.pop() {
        count += 1;
        to_start.extend(started(&run(&mut board, 1, index)));
    }
    assert_eq!(count, 1000);
    board.step(2, end(How::Reboot, "x"));
    let mut stopping: Vec<UnitIndex> =
        (0..1000).filter(|at| phase(&board, *at) == UnitPhase::Stopping).collect();
    let mut finished = false;
    while let Some(index) = stopping.pop() {
        for action in board.step(3, Event::Ended(index, Exit::Status(0))) {
            match action {
                Action::Terminate(index) => stopping.push(index),
                Action::Finish(_) => finished = true,
                _ => {}
            }
        }
    }
    assert!(finished);
    // 4000 events without optimisation, on a busy machine; a fault of the order of the whole would take minutes.
    println!("1000 units up and down in {:?}", begin.elapsed());
    assert!(begin.elapsed() < std::time::Duration::from_secs(5));
}

proptest! {
    #[test]
    fn any_order_to_any_unit_is_answered(orders in prop::collection::vec((0usize..6, 0u8..3), 0..40)) {
        let units = vec![unit("a", ""), unit("b", "requires = ['a']"), unit("c", "requires = ['gone']")];
        let mut board = Supervisor::new(
            units, vec![("odd".into(), "why".into())],
            Boot { trial: false, last_resort: false, start_ms: 0 },
        );
        start(&mut board);
        for (index, order) in orders {
            let order = [Order::Start, Order::Stop, Order::Restart][usize::from(order)];
            let _ = board.refusal(index, order);
            board.step(1, Event::Order(index, order));
        }
        prop_assert_eq!(board.statuses().len(), 4);
    }
}
