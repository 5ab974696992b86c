//! Any graph in any world: programs that crash, hang and refuse, people who order about, devices that come
//! and go.

use super::*;
use proptest::prelude::*;
use std::collections::{BTreeMap, VecDeque};

/// A world that answers the supervisor: any program may start, fail, be ready, ignore signals.
struct World {
    board: Supervisor,
    now_ms: u64,
    processes: BTreeMap<UnitIndex, u32>,
    ended_ms: BTreeMap<UnitIndex, u64>,
    next_pid: u32,
    /// Answers to give, used up round and round.
    dice: Vec<u8>,
    throws: usize,
    role: Option<Role>,
    finished: bool,
    shutdown_ms: Option<u64>,
    /// People have a say; then pauses are not what the world checks.
    orders: bool,
    /// Everything does what it should.
    calm: bool,
}

impl World {
    fn throw(&mut self) -> u8 {
        self.throws += 1;
        self.dice[self.throws % self.dice.len()]
    }

    fn one_in(&mut self, count: u8) -> bool {
        self.throw().is_multiple_of(count)
    }

    fn event(&mut self, event: Event) {
        let mut events = VecDeque::from([event]);
        while let Some(event) = events.pop_front() {
            for action in self.board.step(self.now_ms, event) {
                events.extend(self.apply(action));
            }
            if let Some(deadline_ms) = self.board.next_deadline_ms() {
                assert!(deadline_ms > self.now_ms, "a busy loop");
            }
        }
    }

    fn apply(&mut self, action: Action) -> Option<Event> {
        assert!(!self.finished, "nothing follows the end");
        match action {
            Action::Spawn(index) => return Some(self.spawn(index)),
            Action::Unmount(index) => return Some(self.fork(index)),
            Action::Listen(index) => {
                self.check_start(index);
                let refused = !self.calm && self.one_in(4);
                if refused {
                    self.ended_ms.insert(index, self.now_ms);
                }
                return Some(match refused {
                    false => Event::Listening(index),
                    true => Event::NotStarted(index, "in use".into()),
                });
            }
            Action::Probe(index) if self.calm || self.one_in(3) => {
                return Some(Event::Probed(index, self.calm || self.one_in(2)));
            }
            Action::Terminate(index) if self.outlived(index) => {
                panic!("{} goes before those that it outlives", self.board.slots[index].unit.name)
            }
            // Some end at once, some later, some never.
            Action::Terminate(index) if self.calm || self.one_in(3) => self.gone(index),
            Action::Kill(index) if self.calm || !self.one_in(4) => self.gone(index),
            Action::ReadRole => return Some(Event::RoleRead(self.role)),
            Action::RecordFail(_) if self.one_in(2) => return Some(Event::RecordWritten),
            Action::Finish(_) => self.finished = true,
            _ => {}
        }
        None
    }

    /// At the end of the board: something is still there that should have gone before.
    fn outlived(&self, index: UnitIndex) -> bool {
        let slot = &self.board.slots[index];
        let by_itself = slot.after_stop == slot::AfterStop::Off;
        let users = self.board.graph.users(index).iter();
        let mut gone_before = users.filter(|(need, _)| *need == graph::Need::Outlives);
        self.board.shutdown.is_some()
            && by_itself
            && gone_before.any(|(_, user)| slot::is_active(self.board.slots[*user].phase))
    }

    /// What a unit needs is there whenever something of it is started.
    fn check_start(&self, index: UnitIndex) {
        assert!(self.shutdown_ms.is_none(), "nothing starts after the order to end");
        let unit = self.board.unit(index).unwrap();
        for name in unit.requires.iter() {
            let other = &self.board.slots[self.board.find(name).unwrap()];
            assert!(other.serves(), "{} starts before {name}", unit.name);
        }
        for name in unit.milestone.iter() {
            let other = self.board.status(self.board.find(name).unwrap()).unwrap();
            assert!(other.ready_ms.is_some(), "{} starts before {name} was reached", unit.name);
        }
        if let Some(ended_ms) = self.ended_ms.get(&index).filter(|_| !self.orders) {
            let floor_ms = if unit.every_ms.is_some() {
                crate::unit::BACKOFF_FLOOR_MS
            } else {
                unit.backoff_ms.0
            };
            assert!(self.now_ms >= ended_ms + floor_ms, "{} starts too soon", unit.name);
        }
    }

    fn spawn(&mut self, index: UnitIndex) -> Event {
        self.check_start(index);
        self.fork(index)
    }

    fn fork(&mut self, index: UnitIndex) -> Event {
        assert!(!self.processes.contains_key(&index), "one process at a time");
        if !self.calm && self.one_in(8) {
            self.ended_ms.insert(index, self.now_ms);
            return Event::NotStarted(index, "fork".into());
        }
        self.next_pid += 1;
        self.processes.insert(index, self.next_pid);
        Event::Forked(index, self.next_pid)
    }

    /// A process will be found dead at the next turn.
    fn gone(&mut self, index: UnitIndex) {
        if let Some(pid) = self.processes.get_mut(&index) {
            *pid = 0;
        }
    }

    fn turn(&mut self) {
        let dead: Vec<_> =
            self.processes.iter().filter(|(_, pid)| **pid == 0).map(|(index, _)| *index).collect();
        for index in dead {
            self.end(index, Exit::Signal(15));
        }
        let alive: Vec<_> = self.processes.keys().copied().collect();
        for index in alive {
            if self.calm {
                self.behave(index);
                continue;
            }
            match self.throw() % 16 {
                0 => self.end(index, Exit::Status(0)),
                1 => self.end(index, Exit::Status(1)),
                2..=5 => self.event(Event::Ready(index)),
                6 => self.event(Event::Executed(index)),
                7 => self.event(Event::NotStarted(index, "late".into())),
                8..=11 => self.event(Event::Ping(index)),
                12 => self.event(Event::Probed(index, true)),
                _ => {}
            }
        }
        if !self.calm {
            self.meddle();
        }
        let step_ms = u64::from(self.throw()) * 7;
        let next = self.board.next_deadline_ms().unwrap_or(self.now_ms + 1000);
        self.now_ms = match (self.calm, self.one_in(2)) {
            // Often enough for the watchdogs.
            (true, _) => next.min(self.now_ms + 500),
            (false, true) => next,
            (false, false) => next.min(self.now_ms + step_ms),
        };
        self.event(Event::Tick);
    }

    /// Devices come and go, people order about.
    fn meddle(&mut self) {
        if self.one_in(4) {
            let present = self.one_in(2);
            self.event(Event::Device { name: "block:x".into(), present });
        }
        if self.orders && self.one_in(4) {
            let index = usize::from(self.throw() % 9);
            let order = [Order::Start, Order::Stop, Order::Restart][usize::from(self.throw() % 3)];
            self.event(Event::Order(index, order));
        }
    }

    fn behave(&mut self, index: UnitIndex) {
        // What was stuck in the kernel comes loose.
        if self.board.slots[index].phase == UnitPhase::Stopping && self.board.slots[index].killed {
            return self.end(index, Exit::Signal(9));
        }
        if self.board.unit(index).unwrap().kind != Kind::Service {
            return self.end(index, Exit::Status(0));
        }
        self.event(Event::Executed(index));
        self.event(Event::Ready(index));
        self.event(Event::Ping(index));
    }

    fn end(&mut self, index: UnitIndex, exit: Exit) {
        if self.processes.remove(&index).is_some() {
            if self.board.slots[index].ran_steadily(self.now_ms) {
                self.ended_ms.remove(&index);
            } else {
                self.ended_ms.insert(index, self.now_ms);
            }
            self.event(Event::Ended(index, exit));
        }
    }

    /// When all goes well again, every unit is where it should be or says why not.
    fn settle(&mut self) {
        self.calm = true;
        self.event(Event::Device { name: "block:x".into(), present: true });
        for _ in 0..600 {
            self.turn();
            if self.finished || self.board.ends() {
                return;
            }
        }
        for index in 0..self.board.slots.len() {
            let status = self.board.status(index).unwrap();
            let slot = &self.board.slots[index];
            let scheduled = slot.unit.every_ms.is_some();
            match status.phase {
                UnitPhase::Ready => assert!(slot.wanted, "{status:?}"),
                UnitPhase::Off => assert!(!slot.wanted && !status.detail.is_empty(), "{status:?}"),
                UnitPhase::Failed | UnitPhase::Waiting => {
                    assert!(scheduled || !status.detail.is_empty(), "{status:?}");
                }
                _ => assert!(scheduled, "{status:?}"),
            }
            if status.phase == UnitPhase::Waiting && !scheduled {
                let blocker = self.board.blocker(self.now_ms, index);
                assert!(blocker.is_some(), "{status:?} waits for nothing");
            }
        }
        // What is counted is what is there.
        let active = self.board.slots.iter().filter(|slot| slot::is_active(slot.phase)).count();
        assert_eq!(usize::try_from(self.board.active).unwrap(), active);
    }
}

prop_compose! {
    /// Any graph, with circles and missing units in it.
    fn graph()(rows in prop::collection::vec(
        (
            prop::collection::vec(0usize..9, 0..3), prop::collection::vec(0usize..9, 0..2),
            prop::collection::vec(0usize..9, 0..2), prop::collection::vec(0usize..9, 0..2), 0u8..21,
        ),
        1..9
    )) -> Vec<Unit> {
        let name = |index: usize| if index == 0 { "provision".to_owned() } else { format!("u{index}") };
        rows.iter().enumerate().map(|(index, (requires, milestone, wants, after, shape))| {
            let names = |list: &[usize]| {
                // Mostly backwards, so that most graphs are good ones.
                list.iter().map(|to| name(if *to == 8 { 9 } else { to % (index + 1) }))
                    .filter(|to| *to != name(index) || *shape == 11).collect::<Vec<_>>()
            };
            let (requires, milestone) = (names(requires), names(milestone));
            let (wants, after) = (names(wants), names(after));
            // Keys come before tables.
            let (kind, table) = match shape {
                0..=2 => ("kind = 'task'\nrestart = 'on-failure'", ""),
                3 => ("kind = 'task'", ""),
                4 => ("roles = ['storage']", ""),
                5 => ("roles = ['none']\nrestart = 'never'", ""),
                6 => ("ready = 'start'\nstart_timeout_ms = 0", ""),
                7 => ("gate = true\ngate_deadline_s = 20", ""),
                8 => ("trial_only = true", ""),
                9 => ("critical = true\nrestart = 'on-failure'", ""),
                10 => ("critical = true\nwatchdog_ms = 3000", ""),
                12 => ("kind = 'mount'\nrestart = 'on-failure'", "[mount]\nwhat = 'a'\nwhere = '/a'\ntype = 'a'"),
                13 => ("kind = 'device'\ndevice = 'block:x'", ""),
                14 => ("kind = 'socket'\nlisten = 'unix:/x'", ""),
                15 => ("kind = 'milestone'", ""),
                16 => ("ready = 'unix:/x'\nrestarts_max = 3", ""),
                17 => ("kind = 'task'\nevery_ms = 4000\ndelay_ms = 700", ""),
                18 => ("autostart = false\nno_restart_status = [1]", ""),
                19 => ("stop_last = true", ""),
                _ => ("start_timeout_ms = 2000", ""),
            };
            let lists = format!(
                "requires = {requires:?}\nmilestone = {milestone:?}\nwants = {wants:?}\nafter = {after:?}\n"
            );
            unit(&name(index), &format!("{kind}\n{lists}{table}"))
        }).collect()
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]
    #[test]
    fn any_world_keeps_the_order_the_floor_and_the_end(
        units in graph(), dice in prop::collection::vec(any::<u8>(), 16..64),
        trial: bool, storage: bool, orders: bool, settle: bool, turns in 0usize..80,
    ) {
        let board = board(units, trial);
        let role = storage.then_some(Role::Storage);
        let mut world = World {
            board, dice, role, now_ms: 0, processes: BTreeMap::new(), ended_ms: BTreeMap::new(), next_pid: 0,
            throws: 0, finished: false, shutdown_ms: None, orders, calm: false,
        };
        world.event(Event::Start);
        for _ in 0..turns {
            world.turn();
        }
        if settle && !world.finished {
            world.settle();
            world.calm = false;
        }
        if !world.finished {
            world.event(end(How::Reboot, "test"));
            // A failed trial may have begun the end already; it is bounded from its own begin.
            let begin_ms = world.now_ms;
            world.shutdown_ms = Some(begin_ms);
            for _ in 0..10_000 {
                if world.finished {
                    break;
                }
                world.turn();
            }
            prop_assert!(world.finished);
            prop_assert!(world.now_ms <= begin_ms + SHUTDOWN_MAX_MS);
        }
    }
}
