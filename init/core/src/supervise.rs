//! What PID 1 does about its units: `(state, event, time) -> (state, actions)`. Pure.
//!
//! ```text
//!          role, requires, after            ready
//!   Off -> Waiting ------------> Starting --------> Ready
//!            ^                      | ended           | ended      (task: ended with 0 -> Ready)
//!            |     pause over       v                 v
//!            +------------------ BackOff <------------+----> Failed, where `restart` says so
//!   Starting, Ready --told to stop, or not ready in time--> Stopping --ended--> Off, BackOff or Failed
//! ```
//!
//! A unit that depends on one that fails later goes on running; when it is started again itself, it waits
//! until what it requires is ready.
//!
//! The verdict over a trial is decided here too: the gate unit's readiness accepts it; its deadline, the
//! health agent's word, or the end of a critical unit refuse it. Refused, the reason is written to the
//! boot record (at most [`RECORD_TIMEOUT_MS`]) and the board reboots.

mod slot;
mod verdict;

use self::slot::{AfterStop, Slot};
use crate::graph;
use crate::shutdown::{self, How, KILL_GRACE_MS, SHUTDOWN_MAX_MS};
use crate::unit::{Kind, ReadyBy, Restart, RoleWord, Unit};
use goblin_core_types::{FailReason, Role, UnitPhase, UnitStatus};

/// Time for the reason of a failed trial to reach the disk before the reboot, in milliseconds.
pub const RECORD_TIMEOUT_MS: u64 = 10_000;
/// Longest sentence kept of a unit, in bytes.
const SAID_BYTES_MAX: usize = 4096;
/// Unit after whose end the role is read.
const PROVISION: &str = "provision";

/// A unit by its place in the supervisor.
pub type UnitIndex = usize;

/// Something happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// Begin.
    Start,
    /// Nothing but that time has passed.
    Tick,
    /// The role file was read.
    RoleRead(Option<Role>),
    /// A unit's process was forked.
    Forked(UnitIndex, u32),
    /// A unit's process runs its program.
    Executed(UnitIndex),
    /// A unit's process could not be made, or ended before its program ran. For one that was forked,
    /// [`Event::Ended`] follows.
    NotStarted(UnitIndex, String),
    /// A unit says that it is ready.
    Ready(UnitIndex),
    /// A unit says how it fares.
    Said(UnitIndex, String),
    /// A unit's process was reaped.
    Ended(UnitIndex, Exit),
    /// The health agent refuses the trial.
    TrialFailed(FailReason),
    /// The child that writes a failed trial to the boot record has ended.
    RecordWritten,
    /// Someone wants the board to end.
    Shutdown(How, String),
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// By itself.
    Status(i32),
    /// By a signal.
    Signal(i32),
}

impl std::fmt::Display for Exit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Status(code) => write!(f, "ended with status {code}"),
            Self::Signal(signal) => write!(f, "ended by signal {signal}"),
        }
    }
}

/// What to do, in this order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Start a unit's process; answer with [`Event::Forked`] or [`Event::NotStarted`].
    Spawn(UnitIndex),
    /// Ask a unit's process to end.
    Terminate(UnitIndex),
    /// Kill everything in a unit's cgroup.
    Kill(UnitIndex),
    /// Read the role file; answer with [`Event::RoleRead`].
    ReadRole,
    /// A unit changed its phase: tell people.
    Changed(UnitIndex),
    /// Every wanted unit is ready for the first time.
    AllReady,
    /// The gate is ready; `trial` says whether that accepts a trial.
    Healthy {
        /// The boot was a trial.
        trial: bool,
    },
    /// Write the reason of a failed trial to the boot record; answer with [`Event::RecordWritten`].
    RecordFail(FailReason),
    /// Everything has stopped: end the board.
    Finish(How),
}

/// What is known of the boot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Boot {
    /// The loader counts this boot as a try.
    pub trial: bool,
    /// No release on the disk has tries left: a reboot leads to nothing better, so the trial may be
    /// accepted but is never refused.
    pub last_resort: bool,
    /// Milliseconds since the kernel started when PID 1 began.
    pub start_ms: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum RoleState {
    Unknown,
    Known(Option<Role>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    /// The gate is not ready yet.
    Open,
    Passed,
    /// Refused; the reboot follows the record, at this time at the latest.
    Refused {
        reboot_at_ms: u64,
    },
}

/// Every unit and the state of the board.
#[derive(Debug)]
pub struct Supervisor {
    slots: Vec<Slot>,
    /// Names of files that are no units, and why.
    refused: Vec<(String, String)>,
    boot: Boot,
    role: RoleState,
    verdict: Verdict,
    shutdown: Option<(How, u64)>,
    all_ready: bool,
    finished: bool,
}

impl Supervisor {
    /// Units in any order; `refused` are those whose file could not be understood.
    pub fn new(units: Vec<Unit>, refused: Vec<(String, String)>, boot: Boot) -> Self {
        let errors = graph::check(&units);
        let slots = units
            .into_iter()
            .map(|unit| {
                let error = errors.get(&unit.name).map(ToString::to_string);
                Slot::new(unit, error)
            })
            .collect();
        Self {
            slots,
            refused,
            boot,
            role: RoleState::Unknown,
            verdict: Verdict::Open,
            shutdown: None,
            all_ready: false,
            finished: false,
        }
    }

    /// The unit at a place.
    pub fn unit(&self, index: UnitIndex) -> Option<&Unit> {
        self.slots.get(index).map(|slot| &slot.unit)
    }

    /// Process of a unit, while it has one.
    pub fn pid(&self, index: UnitIndex) -> Option<u32> {
        self.slots.get(index).and_then(|slot| slot.pid)
    }

    /// The unit whose process this is.
    pub fn by_pid(&self, pid: u32) -> Option<UnitIndex> {
        self.slots.iter().position(|slot| slot.pid == Some(pid))
    }

    pub(super) fn can_be_refused(&self) -> bool {
        self.boot.trial && !self.boot.last_resort
    }

    /// True while the boot is a trial without a verdict.
    pub fn trial_open(&self) -> bool {
        self.boot.trial && self.verdict == Verdict::Open
    }

    /// When [`Event::Tick`] is due, in milliseconds since the kernel started.
    pub fn next_deadline_ms(&self) -> Option<u64> {
        if self.finished {
            return None;
        }
        let verdict = match self.verdict {
            Verdict::Open if self.can_be_refused() && self.shutdown.is_none() => {
                Some(self.gate_ms())
            }
            Verdict::Refused { reboot_at_ms } if self.shutdown.is_none() => Some(reboot_at_ms),
            _ => None,
        };
        let shutdown = self.shutdown.map(|(_, until_ms)| until_ms);
        let slots = self.slots.iter().filter_map(|slot| slot.deadline_ms);
        slots.chain(verdict).chain(shutdown).min()
    }

    /// State of one unit.
    pub fn status(&self, index: UnitIndex) -> Option<UnitStatus> {
        let slot = self.slots.get(index)?;
        let detail = match slot.phase {
            UnitPhase::Waiting => self.waits_for(slot),
            UnitPhase::Starting | UnitPhase::Ready if slot.detail.is_empty() => slot.said.clone(),
            _ => slot.detail.clone(),
        };
        Some(UnitStatus {
            name: slot.unit.name.clone(),
            description: slot.unit.description.clone(),
            phase: slot.phase,
            pid: slot.pid,
            restarts: slot.restarts,
            detail,
            ready_ms: slot.ready_ms.map(|ms| ms.saturating_sub(self.boot.start_ms)),
        })
    }

    /// State of every unit, by name; files that are no units are listed as failed.
    pub fn statuses(&self) -> Vec<UnitStatus> {
        let refused = self.refused.iter().map(|(name, why)| UnitStatus {
            name: name.clone(),
            description: String::new(),
            phase: UnitPhase::Failed,
            pid: None,
            restarts: 0,
            detail: why.clone(),
            ready_ms: None,
        });
        let mut all: Vec<_> =
            (0..self.slots.len()).filter_map(|index| self.status(index)).chain(refused).collect();
        all.sort_by(|a, b| a.name.cmp(&b.name));
        all
    }

    /// Takes an event in; `now_ms` are milliseconds since the kernel started and never go back.
    pub fn step(&mut self, now_ms: u64, event: Event) -> Vec<Action> {
        let mut out = Vec::new();
        if self.finished {
            return out;
        }
        self.take(now_ms, event, &mut out);
        self.check_deadlines(now_ms, &mut out);
        self.check_verdict(now_ms, &mut out);
        self.advance_shutdown(now_ms, &mut out);
        self.start_waiting(now_ms, &mut out);
        self.check_all_ready(&mut out);
        out
    }

    fn take(&mut self, now_ms: u64, event: Event, out: &mut Vec<Action>) {
        match event {
            Event::Start => self.begin(out),
            Event::Tick => {}
            Event::RoleRead(role) => self.set_role(now_ms, role, out),
            Event::Forked(index, pid) => {
                if let Some(slot) = self.slots.get_mut(index) {
                    slot.pid = Some(pid);
                }
            }
            Event::Executed(index) => {
                if self.unit(index).is_some_and(|unit| unit.ready == ReadyBy::Start) {
                    self.ready(now_ms, index, out);
                }
            }
            Event::NotStarted(index, why) => {
                let Some(slot) = self.slots.get_mut(index) else { return };
                slot.detail = why;
                if slot.alive && slot.pid.is_none() {
                    self.ended(now_ms, index, None, out);
                }
            }
            Event::Ready(index) => {
                if self.unit(index).is_some_and(|unit| unit.ready == ReadyBy::Notify) {
                    self.ready(now_ms, index, out);
                }
            }
            Event::Said(index, mut text) => {
                text.truncate(text.floor_char_boundary(SAID_BYTES_MAX));
                if let Some(slot) = self.slots.get_mut(index) {
                    slot.said = text;
                }
            }
            Event::Ended(index, exit) => self.ended(now_ms, index, Some(exit), out),
            Event::TrialFailed(reason) => self.refuse_trial(now_ms, reason, out),
            Event::RecordWritten => {
                if matches!(self.verdict, Verdict::Refused { .. }) {
                    self.begin_shutdown(now_ms, How::Reboot);
                }
            }
            Event::Shutdown(how, why) => self.ordered_shutdown(now_ms, how, &why, out),
        }
    }

    fn begin(&mut self, out: &mut Vec<Action>) {
        let trial = self.boot.trial;
        for (index, slot) in self.slots.iter_mut().enumerate() {
            if slot.broken {
                slot.phase = UnitPhase::Failed;
                slot.settled = true;
                out.push(Action::Changed(index));
            } else if !slot.unit.trial_only || trial {
                slot.phase = UnitPhase::Waiting;
            } else {
                slot.detail = "only for a trial".into();
            }
        }
        // Without a unit that decides the role, the file says all there is.
        if !self.slots.iter().any(|slot| slot.unit.name == PROVISION) {
            out.push(Action::ReadRole);
        }
    }

    /// The role became known or changed: units that are not for it end, those that are begin.
    fn set_role(&mut self, now_ms: u64, role: Option<Role>, out: &mut Vec<Action>) {
        self.role = RoleState::Known(role);
        if self.shutdown.is_some() {
            return;
        }
        for index in 0..self.slots.len() {
            let Some(slot) = self.slots.get_mut(index) else { continue };
            if slot.broken || (slot.unit.trial_only && !self.boot.trial) {
                continue;
            }
            let wanted = slot.unit.roles.is_empty()
                || slot.unit.roles.iter().any(|word| match word {
                    RoleWord::Role(wanted) => Some(*wanted) == role,
                    RoleWord::Unprovisioned => role.is_none(),
                });
            match (wanted, slot.phase) {
                (true, UnitPhase::Off) => slot.phase = UnitPhase::Waiting,
                (true, UnitPhase::Stopping) => slot.after_stop = AfterStop::Restart,
                (false, UnitPhase::Waiting | UnitPhase::BackOff | UnitPhase::Failed) => {
                    slot.off("not for this role");
                }
                (false, UnitPhase::Starting | UnitPhase::Ready) if slot.alive => {
                    self.stop(now_ms, index, AfterStop::Off, "not for this role", out);
                }
                (false, UnitPhase::Ready) => slot.off("not for this role"),
                _ => {}
            }
        }
    }

    fn ready(&mut self, now_ms: u64, index: UnitIndex, out: &mut Vec<Action>) {
        let Some(slot) = self.slots.get_mut(index) else { return };
        if slot.phase != UnitPhase::Starting {
            return;
        }
        slot.phase = UnitPhase::Ready;
        slot.deadline_ms = None;
        slot.detail.clear();
        slot.ready_ms.get_or_insert(now_ms);
        slot.ready_since_ms = now_ms;
        slot.settled = true;
        out.push(Action::Changed(index));
    }

    /// A unit's process is gone; `exit` is `None` when it could not be forked.
    fn ended(&mut self, now_ms: u64, index: UnitIndex, exit: Option<Exit>, out: &mut Vec<Action>) {
        let Some(slot) = self.slots.get_mut(index) else { return };
        if !slot.alive {
            return;
        }
        let was = slot.phase;
        slot.pid = None;
        slot.alive = false;
        slot.settled = true;
        slot.deadline_ms = None;
        // What the process left behind ends with it.
        out.push(Action::Kill(index));
        if was == UnitPhase::Stopping {
            match slot.after_stop {
                AfterStop::Restart => slot.pause(now_ms),
                AfterStop::Failed => slot.phase = UnitPhase::Failed,
                AfterStop::Off => slot.phase = UnitPhase::Off,
            }
        } else if self.shutdown.is_some() {
            slot.off("shutting down");
        } else if slot.unit.kind == Kind::Task && exit == Some(Exit::Status(0)) {
            slot.phase = UnitPhase::Ready;
            slot.detail.clear();
            slot.ready_ms.get_or_insert(now_ms);
        } else {
            slot.failed(now_ms, was, exit);
        }
        let failed_for_good = slot.phase == UnitPhase::Failed;
        let critical = slot.unit.critical;
        let line = format!("{}: {}", slot.unit.name, slot.detail);
        out.push(Action::Changed(index));
        if slot.unit.name == PROVISION {
            out.push(Action::ReadRole);
        }
        if failed_for_good && critical {
            let reason = self.unhealthy(vec![line]);
            self.refuse_trial(now_ms, reason, out);
        }
    }

    fn stop(
        &mut self,
        now_ms: u64,
        index: UnitIndex,
        then: AfterStop,
        why: &str,
        out: &mut Vec<Action>,
    ) {
        let Some(slot) = self.slots.get_mut(index) else { return };
        slot.phase = UnitPhase::Stopping;
        slot.after_stop = then;
        slot.killed = false;
        slot.detail = why.to_owned();
        slot.deadline_ms = Some(now_ms.saturating_add(slot.unit.stop_timeout_ms));
        out.push(Action::Terminate(index));
        out.push(Action::Changed(index));
    }

    fn check_deadlines(&mut self, now_ms: u64, out: &mut Vec<Action>) {
        for index in 0..self.slots.len() {
            let Some(slot) = self.slots.get_mut(index) else { continue };
            if slot.deadline_ms.is_none_or(|deadline_ms| deadline_ms > now_ms) {
                continue;
            }
            slot.deadline_ms = None;
            match slot.phase {
                UnitPhase::BackOff => {
                    slot.phase = UnitPhase::Waiting;
                    slot.restarts = slot.restarts.saturating_add(1);
                }
                UnitPhase::Starting => {
                    let why = format!("not ready within {} ms", slot.unit.start_timeout_ms);
                    slot.settled = true;
                    let then = match slot.unit.restart {
                        Restart::Never => AfterStop::Failed,
                        Restart::Always | Restart::OnFailure => AfterStop::Restart,
                    };
                    self.stop(now_ms, index, then, &why, out);
                }
                UnitPhase::Stopping if !slot.killed => {
                    slot.killed = true;
                    slot.deadline_ms = Some(now_ms.saturating_add(KILL_GRACE_MS));
                    out.push(Action::Kill(index));
                }
                // Stuck in the kernel: a running board waits for it, a shutdown does not.
                UnitPhase::Stopping if self.shutdown.is_some() => {
                    slot.alive = false;
                    slot.phase = UnitPhase::Failed;
                    slot.detail = "did not end when killed".into();
                    out.push(Action::Changed(index));
                }
                _ => {}
            }
        }
    }

    fn start_waiting(&mut self, now_ms: u64, out: &mut Vec<Action>) {
        if self.shutdown.is_some() {
            return;
        }
        for index in 0..self.slots.len() {
            let may = self.slots.get(index).is_some_and(|slot| {
                slot.phase == UnitPhase::Waiting && !slot.alive && self.waits_for(slot).is_empty()
            });
            let Some(slot) = self.slots.get_mut(index).filter(|_| may) else { continue };
            slot.phase = UnitPhase::Starting;
            slot.alive = true;
            slot.detail.clear();
            slot.said.clear();
            let timeout_ms = slot.unit.start_timeout_ms;
            slot.deadline_ms = (timeout_ms > 0).then(|| now_ms.saturating_add(timeout_ms));
            out.push(Action::Spawn(index));
        }
    }

    /// What a waiting unit waits for, in words; empty when it can start.
    fn waits_for(&self, slot: &Slot) -> String {
        if !slot.unit.roles.is_empty() && self.role == RoleState::Unknown {
            return "waits for the role".into();
        }
        let find = |name: &str| self.slots.iter().find(|other| other.unit.name == name);
        for name in &slot.unit.requires {
            match find(name).map(|other| other.phase) {
                Some(UnitPhase::Ready) => {}
                Some(UnitPhase::Failed) => return format!("needs {name}, which failed"),
                Some(UnitPhase::Off) => return format!("needs {name}, which is off"),
                _ => return format!("waits for {name}"),
            }
        }
        for name in &slot.unit.after {
            if find(name).is_some_and(|other| !other.settled && other.phase != UnitPhase::Off) {
                return format!("waits for {name}");
            }
        }
        String::new()
    }

    fn check_all_ready(&mut self, out: &mut Vec<Action>) {
        let wanted = || self.slots.iter().filter(|slot| slot.phase != UnitPhase::Off);
        let done =
            self.role != RoleState::Unknown && wanted().all(|slot| slot.phase == UnitPhase::Ready);
        if done && !self.all_ready && self.shutdown.is_none() {
            self.all_ready = true;
            out.push(Action::AllReady);
        }
    }

    /// Somebody asked for the end. A trial that has no verdict yet is refused by it: the record says why
    /// the loader counted a try for nothing.
    fn ordered_shutdown(&mut self, now_ms: u64, how: How, why: &str, out: &mut Vec<Action>) {
        if self.trial_open() && self.shutdown.is_none() {
            let reason = FailReason::ended_early(why, self.gate_deadline_s());
            out.push(Action::RecordFail(reason));
        }
        self.begin_shutdown(now_ms, how);
    }

    fn begin_shutdown(&mut self, now_ms: u64, how: How) {
        if self.shutdown.is_some() {
            return;
        }
        self.shutdown = Some((how, now_ms.saturating_add(SHUTDOWN_MAX_MS)));
        for slot in &mut self.slots {
            match slot.phase {
                UnitPhase::Waiting | UnitPhase::BackOff => slot.off("shutting down"),
                UnitPhase::Stopping => slot.after_stop = AfterStop::Off,
                _ => {}
            }
        }
    }

    fn advance_shutdown(&mut self, now_ms: u64, out: &mut Vec<Action>) {
        let Some((how, until_ms)) = self.shutdown else { return };
        let runs: Vec<bool> = self.slots.iter().map(|slot| slot.alive).collect();
        if !runs.contains(&true) || now_ms >= until_ms {
            self.finished = true;
            out.push(Action::Finish(how));
            return;
        }
        let units: Vec<&Unit> = self.slots.iter().map(|slot| &slot.unit).collect();
        for index in shutdown::next_to_stop(&units, &runs) {
            let stopping =
                self.slots.get(index).is_none_or(|slot| slot.phase == UnitPhase::Stopping);
            if !stopping {
                self.stop(now_ms, index, AfterStop::Off, "shutting down", out);
            }
        }
    }
}

#[cfg(test)]
mod tests;
