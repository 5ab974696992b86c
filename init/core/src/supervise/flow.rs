//! From one phase to the next: what is started, stopped, tried again or given up.

use super::report::Blocker;
use super::slot::{AfterStop, STEADY_PAUSE_MS, is_active};
use super::timers::Clock;
use super::{Action, Exit, PROBE_PATIENCE_MS, PROVISION, RoleState, Supervisor, UnitIndex};
use crate::graph::Need;
use crate::shutdown::KILL_GRACE_MS;
use crate::unit::{BACKOFF_FLOOR_MS, Kind, Restart};
use goblin_core_types::UnitPhase;

/// Places of [`UnitPhase`] in the supervisor's counters.
const fn place(phase: UnitPhase) -> usize {
    match phase {
        UnitPhase::Off => 0,
        UnitPhase::Waiting => 1,
        UnitPhase::Starting => 2,
        UnitPhase::Ready => 3,
        UnitPhase::BackOff => 4,
        UnitPhase::Stopping => 5,
        UnitPhase::Failed => 6,
    }
}

impl Supervisor {
    /// A unit will be looked at before the step ends.
    pub(super) fn touch(&mut self, index: UnitIndex) {
        if let Some(slot) = self.slots.get_mut(index)
            && !slot.queued
        {
            slot.queued = true;
            self.queue.push_back(index);
        }
    }

    pub(super) fn set_phase(&mut self, index: UnitIndex, phase: UnitPhase) {
        let Some(slot) = self.slots.get_mut(index) else { return };
        let old = std::mem::replace(&mut slot.phase, phase);
        if old == phase {
            return;
        }
        if let Some(count) = self.counts.get_mut(place(old)) {
            *count = count.saturating_sub(1);
        }
        if let Some(count) = self.counts.get_mut(place(phase)) {
            *count = count.saturating_add(1);
        }
        let (was, is) = (is_active(old), is_active(phase));
        if was != is {
            let change = |count: &mut u32| {
                *count = if is { count.saturating_add(1) } else { count.saturating_sub(1) };
            };
            change(&mut self.active);
            for (need, to) in self.graph.needs(index) {
                let Some(other) = self.slots.get_mut(*to) else { continue };
                change(&mut other.users);
                if *need == Need::Requires {
                    change(&mut other.requirers);
                }
            }
            for place in 0..self.graph.needs(index).len() {
                if let Some((_, to)) = self.graph.needs(index).get(place) {
                    self.touch(*to);
                }
            }
        }
        self.touch(index);
        self.touch_users(index);
    }

    fn touch_users(&mut self, index: UnitIndex) {
        for place in 0..self.graph.users(index).len() {
            if let Some((_, user)) = self.graph.users(index).get(place) {
                self.touch(*user);
            }
        }
    }

    /// Looks at every unit for which something has changed, until nothing follows any more.
    pub(super) fn drain(&mut self, now_ms: u64, out: &mut Vec<Action>) {
        // Each look brings a unit one phase further or nothing; the bound is for what nobody foresaw.
        let mut looks = self.slots.len().saturating_mul(64).saturating_add(64);
        while looks > 0
            && let Some(index) = self.queue.pop_front()
        {
            looks = looks.saturating_sub(1);
            if let Some(slot) = self.slots.get_mut(index) {
                slot.queued = false;
            }
            self.look(now_ms, index, out);
        }
    }

    fn look(&mut self, now_ms: u64, index: UnitIndex, out: &mut Vec<Action>) {
        let Some(slot) = self.slots.get(index) else { return };
        if slot.broken {
            return;
        }
        match (slot.phase, slot.wanted) {
            (UnitPhase::Off, true) => {
                if let Some(slot) = self.slots.get_mut(index) {
                    slot.detail.clear();
                }
                self.set_phase(index, UnitPhase::Waiting);
            }
            (UnitPhase::Waiting | UnitPhase::BackOff, false) => self.off(index, out),
            // A mount that could not be taken away stays told.
            (UnitPhase::Failed, false) if self.shutdown.is_none() && !slot.unmounting => {
                self.off(index, out);
            }
            (UnitPhase::Waiting, true) if !slot.alive => match self.blocker(now_ms, index) {
                None => self.start(now_ms, index, out),
                Some(Blocker::Pause(until_ms)) => self.timers.set(index, Clock::Phase, until_ms),
                Some(_) => {}
            },
            (UnitPhase::Starting | UnitPhase::Ready, _) => self.keep_or_leave(now_ms, index, out),
            _ => {}
        }
    }

    fn off(&mut self, index: UnitIndex, out: &mut Vec<Action>) {
        if let Some(slot) = self.slots.get_mut(index) {
            slot.detail.clear();
        }
        self.timers.clear_all(index);
        self.set_phase(index, UnitPhase::Off);
        out.push(Action::Changed(index));
    }

    fn start(&mut self, now_ms: u64, index: UnitIndex, out: &mut Vec<Action>) {
        let Some(slot) = self.slots.get_mut(index) else { return };
        slot.detail.clear();
        slot.said.clear();
        slot.first_start_ms.get_or_insert(now_ms);
        slot.start_ms = now_ms;
        slot.hung_ms = None;
        slot.unmounting = false;
        slot.leaving = false;
        slot.again = false;
        let (kind, present, timeout_ms) =
            (slot.unit.kind, slot.present, slot.unit.start_timeout_ms);
        slot.alive = matches!(kind, Kind::Service | Kind::Task | Kind::Mount);
        self.timers.clear_all(index);
        self.set_phase(index, UnitPhase::Starting);
        if timeout_ms > 0 {
            self.timers.set(index, Clock::Phase, now_ms.saturating_add(timeout_ms));
        }
        match kind {
            Kind::Service | Kind::Task | Kind::Mount => out.push(Action::Spawn(index)),
            Kind::Socket => out.push(Action::Listen(index)),
            Kind::Milestone => self.ready(now_ms, index, out),
            Kind::Device if present => self.ready(now_ms, index, out),
            Kind::Device => {}
        }
    }

    pub(super) fn ready(&mut self, now_ms: u64, index: UnitIndex, out: &mut Vec<Action>) {
        let Some(slot) = self.slots.get_mut(index) else { return };
        if slot.phase != UnitPhase::Starting {
            return;
        }
        slot.detail.clear();
        slot.ready_ms.get_or_insert(now_ms);
        slot.ready_since_ms = now_ms;
        slot.settled = true;
        if slot.unit.kind != Kind::Service {
            slot.fresh();
        }
        let (watchdog_ms, every_ms, start_ms) =
            (slot.unit.watchdog_ms, slot.unit.every_ms, slot.start_ms);
        self.timers.clear_all(index);
        if let Some(ms) = watchdog_ms {
            self.timers.set(index, Clock::Watchdog, now_ms.saturating_add(ms));
        }
        self.set_phase(index, UnitPhase::Ready);
        self.read_settings(now_ms, index, out);
        self.plan_next_run(now_ms, index, start_ms, every_ms);
        out.push(Action::Changed(index));
    }

    /// A run that took longer than the interval is followed by the next one after the shortest pause.
    fn plan_next_run(&mut self, now_ms: u64, index: UnitIndex, start_ms: u64, every: Option<u64>) {
        if let Some(every_ms) = every {
            let floor_ms = now_ms.saturating_add(BACKOFF_FLOOR_MS);
            let at_ms = start_ms.saturating_add(every_ms).max(floor_ms);
            self.timers.set(index, Clock::Phase, at_ms);
        }
    }

    /// A unit that is starting or ready goes on, unless it is not wanted, shall start anew, or lost what it
    /// requires. Then those that depend on it go first.
    fn keep_or_leave(&mut self, now_ms: u64, index: UnitIndex, out: &mut Vec<Action>) {
        let Some(slot) = self.slots.get(index) else { return };
        let after = if !slot.wanted {
            Some(AfterStop::Off)
        } else if slot.again {
            Some(AfterStop::Again)
        } else if self.lost(index) {
            Some(AfterStop::Wait)
        } else {
            None
        };
        let shutdown = self.shutdown.is_some();
        let Some(slot) = self.slots.get_mut(index) else { return };
        let was_leaving = std::mem::replace(&mut slot.leaving, after.is_some());
        let held = if shutdown { slot.users } else { slot.requirers };
        if was_leaving != after.is_some() {
            self.touch_users(index);
        }
        if let Some(after) = after
            && held == 0
        {
            self.stop(now_ms, index, after, out);
        }
    }

    fn lost(&self, index: UnitIndex) -> bool {
        self.graph.needs(index).iter().any(|(need, to)| {
            *need == Need::Requires && self.slots.get(*to).is_some_and(|other| !other.serves())
        })
    }

    /// Why a unit goes down, in a word for the log.
    fn why_stopped(&self, index: UnitIndex, after: AfterStop) -> String {
        match after {
            AfterStop::Off if self.shutdown.is_some() => "shutting down".into(),
            AfterStop::Off => "not wanted any more".into(),
            AfterStop::Again => "a person wants it to start anew".into(),
            AfterStop::Wait => {
                let lost = self.graph.needs(index).iter().find_map(|(need, to)| {
                    let other = self.slots.get(*to)?;
                    (*need == Need::Requires && !other.serves()).then_some(&other.unit.name)
                });
                format!("needs {}, which went down", lost.map_or("nothing", String::as_str))
            }
            AfterStop::Failure => String::new(),
        }
    }

    /// Takes a unit down now.
    fn stop(&mut self, now_ms: u64, index: UnitIndex, after: AfterStop, out: &mut Vec<Action>) {
        let why = self.why_stopped(index, after);
        let Some(slot) = self.slots.get_mut(index) else { return };
        slot.after_stop = after;
        slot.killed = false;
        if !why.is_empty() {
            slot.detail = why;
        }
        let unmount = slot.is_mounted();
        if !slot.alive && !unmount {
            if slot.unit.kind == Kind::Socket {
                out.push(Action::CloseSocket(index));
            }
            self.stopped(now_ms, index, out);
            return;
        }
        let has_pid = slot.pid.is_some();
        let until_ms = now_ms.saturating_add(slot.unit.stop_timeout_ms);
        if unmount {
            slot.alive = true;
            slot.unmounting = true;
        }
        self.timers.clear_all(index);
        self.timers.set(index, Clock::Phase, until_ms);
        self.set_phase(index, UnitPhase::Stopping);
        if unmount {
            out.push(Action::Unmount(index));
        } else if has_pid {
            out.push(Action::Terminate(index));
        }
        out.push(Action::Changed(index));
    }

    /// A unit that was told to stop has stopped.
    fn stopped(&mut self, now_ms: u64, index: UnitIndex, out: &mut Vec<Action>) {
        let Some(slot) = self.slots.get_mut(index) else { return };
        slot.leaving = false;
        slot.again = false;
        slot.settled = true;
        if !slot.wanted {
            return self.off(index, out);
        }
        match slot.after_stop {
            AfterStop::Failure => return self.failed(now_ms, index, None, out),
            AfterStop::Again => slot.not_before_ms = 0,
            AfterStop::Off | AfterStop::Wait => {
                slot.not_before_ms = now_ms.saturating_add(slot.unit.backoff_ms.0);
            }
        }
        slot.restarts = slot.restarts.saturating_add(1);
        self.timers.clear_all(index);
        self.set_phase(index, UnitPhase::Waiting);
        out.push(Action::Changed(index));
    }

    /// A unit's process is gone; `exit` is `None` when it could not be forked.
    pub(super) fn ended(
        &mut self,
        now_ms: u64,
        index: UnitIndex,
        exit: Option<Exit>,
        out: &mut Vec<Action>,
    ) {
        let Some(slot) = self.slots.get_mut(index) else { return };
        if !slot.alive {
            return;
        }
        slot.alive = false;
        slot.pid = None;
        slot.hung_ms = None;
        slot.last_end = exit;
        if let Some(pid) = self.pids.get_mut(index) {
            *pid = 0;
        }
        self.timers.clear_all(index);
        // What the process left behind ends with it.
        out.push(Action::Kill(index));
        let (phase, kind, unmounting) = (slot.phase, slot.unit.kind, slot.unmounting);
        let (leaving, good) = (slot.leaving, exit == Some(Exit::Status(0)));
        match phase {
            UnitPhase::Stopping if kind == Kind::Mount && unmounting != good => {
                self.mount_stays(now_ms, index, good, out);
            }
            UnitPhase::Stopping => self.stopped(now_ms, index, out),
            UnitPhase::Starting if good && matches!(kind, Kind::Task | Kind::Mount) => {
                self.ready(now_ms, index, out);
            }
            UnitPhase::Starting | UnitPhase::Ready if leaving => self.stopped(now_ms, index, out),
            UnitPhase::Starting | UnitPhase::Ready => self.failed(now_ms, index, exit, out),
            // It was given up as stuck and has ended after all.
            _ => out.push(Action::Changed(index)),
        }
        if self.unit(index).is_some_and(|unit| unit.name == PROVISION) {
            out.push(Action::ReadRole);
        }
    }

    /// A child that mounted ended well while its unit was being stopped, or one that should unmount did not.
    fn mount_stays(&mut self, now_ms: u64, index: UnitIndex, good: bool, out: &mut Vec<Action>) {
        let Some(slot) = self.slots.get_mut(index) else { return };
        if good {
            slot.alive = true;
            slot.unmounting = true;
            let until_ms = now_ms.saturating_add(slot.unit.stop_timeout_ms);
            self.timers.set(index, Clock::Phase, until_ms);
            out.push(Action::Unmount(index));
        } else {
            slot.leaving = false;
            slot.again = false;
            slot.detail = match slot.last_end {
                Some(exit) => format!("stays mounted: {exit}"),
                None => "stays mounted: no process".into(),
            };
            self.set_phase(index, UnitPhase::Failed);
            out.push(Action::Changed(index));
        }
    }

    /// A unit ended without being told to, or had to be stopped because it did not do what it should.
    pub(super) fn failed(
        &mut self,
        now_ms: u64,
        index: UnitIndex,
        exit: Option<Exit>,
        out: &mut Vec<Action>,
    ) {
        let Some(slot) = self.slots.get_mut(index) else { return };
        slot.settled = true;
        slot.leaving = false;
        slot.again = false;
        if let Some(exit) = exit.filter(|_| slot.detail.is_empty()) {
            slot.detail = exit.to_string();
        }
        let steady = slot.ran_steadily(now_ms);
        if steady {
            slot.fresh();
        }
        slot.failures = slot.failures.saturating_add(1);
        let clean = exit == Some(Exit::Status(0));
        let last_word = matches!(exit, Some(Exit::Status(code))
            if slot.unit.no_restart_status.iter().any(|status| i32::from(*status) == code));
        let given_up = slot.unit.restarts_max.is_some_and(|most| slot.failures > most);
        let again = match slot.unit.restart {
            Restart::Always => true,
            Restart::OnFailure => !clean,
            Restart::Never => false,
        };
        if last_word {
            slot.detail.push_str(", which says not to start it again");
        } else if again && given_up {
            let text = format!(", given up after {} failures", slot.failures);
            slot.detail.push_str(&text);
        }
        let (every_ms, start_ms) = (slot.unit.every_ms, slot.start_ms);
        self.timers.clear_all(index);
        if again && !last_word && !given_up {
            let pause_ms = if steady { STEADY_PAUSE_MS } else { slot.pause_ms };
            let at_ms = now_ms.saturating_add(pause_ms);
            if !steady {
                slot.pause_ms = slot.pause_ms.saturating_mul(2).min(slot.unit.backoff_ms.1);
            }
            self.timers.set(index, Clock::Phase, at_ms);
            self.set_phase(index, UnitPhase::BackOff);
            out.push(Action::Changed(index));
            return;
        }
        let line = slot.unit.critical.then(|| format!("{}: {}", slot.unit.name, slot.detail));
        self.plan_next_run(now_ms, index, start_ms, every_ms);
        self.set_phase(index, UnitPhase::Failed);
        out.push(Action::Changed(index));
        if let Some(line) = line {
            let reason = self.unhealthy(vec![line]);
            self.refuse_trial(now_ms, reason, out);
        }
    }

    /// A clock of a unit has run down.
    pub(super) fn due(
        &mut self,
        now_ms: u64,
        index: UnitIndex,
        clock: Clock,
        out: &mut Vec<Action>,
    ) {
        let Some(slot) = self.slots.get_mut(index) else { return };
        match (clock, slot.phase) {
            (Clock::Phase, UnitPhase::BackOff) => {
                slot.restarts = slot.restarts.saturating_add(1);
                self.set_phase(index, UnitPhase::Waiting);
            }
            (Clock::Phase, UnitPhase::Ready | UnitPhase::Failed) => {
                self.set_phase(index, UnitPhase::Waiting);
            }
            (Clock::Phase, UnitPhase::Waiting) => self.touch(index),
            (Clock::Phase, UnitPhase::Starting) => self.start_took_too_long(now_ms, index, out),
            (Clock::Phase, UnitPhase::Stopping) if !slot.killed => {
                slot.killed = true;
                slot.hung_ms.get_or_insert(now_ms);
                self.timers.set(index, Clock::Phase, now_ms.saturating_add(KILL_GRACE_MS));
                out.push(Action::Kill(index));
            }
            // Stuck in the kernel: a running board waits for it, a shutdown does not.
            (Clock::Phase, UnitPhase::Stopping) if self.shutdown.is_some() => {
                slot.alive = false;
                slot.detail = "did not end when killed".into();
                self.set_phase(index, UnitPhase::Failed);
                out.push(Action::Changed(index));
            }
            (Clock::Watchdog, UnitPhase::Ready) => self.hung(now_ms, index, out),
            (Clock::Probe, UnitPhase::Starting) if slot.alive => {
                self.timers.set(index, Clock::Probe, now_ms.saturating_add(PROBE_PATIENCE_MS));
                out.push(Action::Probe(index));
            }
            _ => {}
        }
    }

    fn start_took_too_long(&mut self, now_ms: u64, index: UnitIndex, out: &mut Vec<Action>) {
        let Some(slot) = self.slots.get_mut(index) else { return };
        let word = if slot.unit.kind == Kind::Device { "absent for" } else { "not ready within" };
        slot.detail = format!("{word} {} ms", slot.unit.start_timeout_ms);
        slot.settled = true;
        if slot.alive {
            self.stop(now_ms, index, AfterStop::Failure, out);
        } else {
            let again = slot.unit.kind != Kind::Device;
            slot.leaving = false;
            if again {
                self.failed(now_ms, index, None, out);
            } else {
                // It may still appear; until then nothing is tried.
                self.set_phase(index, UnitPhase::Failed);
                out.push(Action::Changed(index));
            }
        }
    }

    /// A unit's loop does not turn any more: it cannot end by itself in order.
    fn hung(&mut self, now_ms: u64, index: UnitIndex, out: &mut Vec<Action>) {
        let Some(slot) = self.slots.get_mut(index) else { return };
        let silence_ms = slot.unit.watchdog_ms.unwrap_or_default();
        slot.detail = format!("gave no sign of life for {silence_ms} ms");
        slot.hung_ms = Some(now_ms);
        slot.after_stop = AfterStop::Failure;
        slot.killed = true;
        self.timers.clear_all(index);
        self.timers.set(index, Clock::Phase, now_ms.saturating_add(KILL_GRACE_MS));
        self.set_phase(index, UnitPhase::Stopping);
        out.push(Action::Kill(index));
        out.push(Action::Changed(index));
    }

    /// The kernel reported a device, or that it is gone.
    pub(super) fn device(&mut self, now_ms: u64, name: &str, present: bool, out: &mut Vec<Action>) {
        for index in 0..self.slots.len() {
            let Some(slot) = self.slots.get_mut(index) else { continue };
            if slot.unit.device.as_deref() != Some(name) || slot.present == present {
                continue;
            }
            slot.present = present;
            match (slot.phase, present) {
                (UnitPhase::Starting, true) => self.ready(now_ms, index, out),
                (UnitPhase::Failed, true) if slot.wanted => {
                    self.set_phase(index, UnitPhase::Waiting);
                }
                (UnitPhase::Ready, false) => {
                    slot.leaving = false;
                    slot.again = false;
                    slot.not_before_ms = 0;
                    self.timers.clear_all(index);
                    self.set_phase(index, UnitPhase::Waiting);
                    out.push(Action::Changed(index));
                }
                _ => {}
            }
        }
    }

    /// True once every wanted unit is ready.
    pub(super) fn all_are_ready(&self) -> bool {
        let open = [
            UnitPhase::Waiting,
            UnitPhase::Starting,
            UnitPhase::BackOff,
            UnitPhase::Stopping,
            UnitPhase::Failed,
        ];
        self.begun
            && self.role != RoleState::Unknown
            && open.into_iter().all(|phase| self.counts.get(place(phase)) == Some(&0))
    }
}
