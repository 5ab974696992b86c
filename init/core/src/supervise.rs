//! What PID 1 does about its units: `(state, event, time) -> (state, actions)`. Pure.
//!
//! ```text
//!        needs met                ready
//!   Off -> Waiting -> Starting --------> Ready
//!     ^      ^           | ended           | ended      (task, mount: ended with 0 -> Ready)
//!     |      | pause     v                 v
//!     |      +------- BackOff <------------+----> Failed, where `restart` and its limits say so
//!     |      |
//!     |      +---------------------------------------+ lost what it requires; restarted by a person
//!     +---- Stopping <- Starting, Ready: not wanted, | or not ready in time, or silent
//! ```
//!
//! **Desired and current.** A unit is *wanted* when it is for this board and starts by itself, or a person
//! started it, or a wanted unit needs it; never when a person stopped it or the board shuts down. Its
//! *phase* follows.
//!
//! **Order.** A unit starts when all it `requires` is ready, every `milestone` was ready once, and the first
//! start of what it `wants` and comes `after` is over. When a required unit goes down, however that came,
//! the unit is stopped too; it is started again, by itself, once the required one is ready again. Asked to
//! stop, a unit stays until all that require it are down. At the end of the board every dependency counts.
//!
//! **Pauses.** Nothing that ended by itself, or with what it requires, is started again before the first of
//! `backoff_ms` is over; only a person's order starts at once, and the first start after a minute of being
//! ready.
//!
//! **Cost.** A step looks at the units whose dependencies changed, not at all of them, and allocates nothing
//! but sentences for units that change their phase.
//!
//! The verdict over a trial is decided here too: the gate unit's readiness accepts it; its deadline, the
//! health agent's word, or the end of a critical unit refuse it. Refused, the reason is written to the
//! boot record (at most [`RECORD_TIMEOUT_MS`]) and the board reboots.

mod configure;
mod flow;
mod orders;
pub mod rehearsal;
mod report;
mod slot;
mod timers;
mod verdict;

use self::configure::Reading;
use self::slot::Slot;
use self::timers::{Clock, Timers};
use crate::graph::{self, Graph};
use crate::settings::Found;
use crate::shutdown::{How, KILL_GRACE_MS, SHUTDOWN_MAX_MS};
use crate::unit::{Kind, ReadyBy, Unit};
use goblin_core_types::{
    END_WHY_BYTES_MAX, EndBy, EndKind, FailReason, OrderedEnd, Role, UnitPhase,
};
use std::collections::VecDeque;

/// Time for the reason of a failed trial to reach the disk before the reboot, in milliseconds.
pub const RECORD_TIMEOUT_MS: u64 = 10_000;
/// Pause before a unit that was not ready is asked again, in milliseconds.
pub const PROBE_PAUSE_MS: u64 = 100;
/// Time for the answer to that question, in milliseconds.
pub const PROBE_PATIENCE_MS: u64 = 2_000;
/// A critical unit that is silent, and does not end though it was killed, keeps the hardware watchdog from
/// being fed after this time, in milliseconds: only a reset cures a process that is stuck in the kernel.
pub const STUCK_MS: u64 = 30_000;
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
    /// What a person sets of a unit is being kept; [`Event::SettingsRead`] follows.
    SettingsChange,
    /// What people set of units was read from STATE, or why that was not possible.
    SettingsRead(Result<Vec<Found>, String>),
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
    /// A unit says that its loop turns.
    Ping(UnitIndex),
    /// A unit was asked whether it accepts connections: it does, or not yet.
    Probed(UnitIndex, bool),
    /// A socket listens.
    Listening(UnitIndex),
    /// The kernel reported a device, or that it is gone.
    Device {
        /// As the key `device` names it: `block:sda1`.
        name: String,
        /// It is there.
        present: bool,
    },
    /// A person wants something of a unit.
    Order(UnitIndex, Order),
    /// A unit's process was reaped.
    Ended(UnitIndex, Exit),
    /// The health agent refuses the trial.
    TrialFailed(FailReason),
    /// The child that writes a failed trial to the boot record has ended.
    RecordWritten,
    /// Someone wants the board to end, for a reason.
    Shutdown(How, EndBy, String),
}

/// What a person wants of a unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// It shall run, and all that it requires.
    Start,
    /// It shall be down.
    Stop,
    /// It shall end and start anew.
    Restart,
}

impl std::fmt::Display for Order {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Start => "start",
            Self::Stop => "stop",
            Self::Restart => "restart",
        })
    }
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
    /// Start a unit's process, of a mount the one that mounts; answer with [`Event::Forked`] or
    /// [`Event::NotStarted`].
    Spawn(UnitIndex),
    /// Start the process that takes a mount away; answered like [`Action::Spawn`].
    Unmount(UnitIndex),
    /// Open a socket; answer with [`Event::Listening`] or [`Event::NotStarted`].
    Listen(UnitIndex),
    /// Close a socket.
    CloseSocket(UnitIndex),
    /// Ask a unit whether it accepts connections, instead of any earlier question; answer with
    /// [`Event::Probed`].
    Probe(UnitIndex),
    /// Ask a unit's process to end.
    Terminate(UnitIndex),
    /// Kill everything in a unit's cgroup.
    Kill(UnitIndex),
    /// Read the role file; answer with [`Event::RoleRead`].
    ReadRole,
    /// Read what people set of units from STATE; answer with [`Event::SettingsRead`].
    ReadSettings,
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
    /// Write to the boot record who ended this boot, and why; the clock's time is to be added. Nobody waits
    /// for it.
    RecordEnd(OrderedEnd),
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
    graph: Graph,
    timers: Timers,
    /// Process of each unit, 0 for none: what is looked through when a child ended.
    pids: Vec<u32>,
    /// Units to be looked at; each stands in it once.
    queue: VecDeque<UnitIndex>,
    /// Units in each phase.
    counts: [u32; 7],
    /// Units that are starting, ready or stopping.
    active: u32,
    /// Critical units with a watchdog.
    guarded: Vec<UnitIndex>,
    wanted_scratch: Vec<bool>,
    open_scratch: Vec<UnitIndex>,
    /// Names of files that are no units, and why.
    refused: Vec<(String, String)>,
    boot: Boot,
    begun: bool,
    role: RoleState,
    reading: Reading,
    /// Why settings are ignored that are no unit's.
    stray_settings: Vec<String>,
    verdict: Verdict,
    shutdown: Option<(How, u64)>,
    all_ready: bool,
    finished: bool,
}

impl Supervisor {
    /// Units in any order; `refused` are those whose file could not be understood.
    pub fn new(units: Vec<Unit>, refused: Vec<(String, String)>, boot: Boot) -> Self {
        let errors = graph::check(&units);
        let graph = Graph::new(&units);
        let slots: Vec<Slot> = units
            .into_iter()
            .map(|unit| {
                let error = errors.get(&unit.name).map(ToString::to_string);
                Slot::new(unit, error)
            })
            .collect();
        let count = slots.len();
        let guards = |slot: &Slot| slot.unit.critical && slot.unit.watchdog_ms.is_some();
        let guarded =
            slots.iter().enumerate().filter(|(_, slot)| guards(slot)).map(|(at, _)| at).collect();
        let mut counts = [0; 7];
        counts[0] = u32::try_from(count).unwrap_or(u32::MAX);
        Self {
            slots,
            graph,
            timers: Timers::new(count),
            pids: vec![0; count],
            queue: VecDeque::with_capacity(count),
            counts,
            active: 0,
            guarded,
            wanted_scratch: Vec::with_capacity(count),
            open_scratch: Vec::with_capacity(count),
            refused,
            boot,
            begun: false,
            role: RoleState::Unknown,
            reading: Reading::NotYet,
            stray_settings: Vec::new(),
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
        self.pids.iter().position(|known| *known == pid && pid != 0)
    }

    /// The units that a unit requires.
    pub fn required(&self, index: UnitIndex) -> impl Iterator<Item = UnitIndex> {
        let needs = self.graph.needs(index).iter();
        needs.filter(|(need, _)| *need == graph::Need::Requires).map(|(_, to)| *to)
    }

    pub(super) fn can_be_refused(&self) -> bool {
        self.boot.trial && !self.boot.last_resort
    }

    /// True while the boot is a trial without a verdict.
    pub fn trial_open(&self) -> bool {
        self.boot.trial && self.verdict == Verdict::Open
    }

    /// True once the end of the board was ordered.
    pub fn ends(&self) -> bool {
        self.shutdown.is_some()
    }

    /// True while the hardware watchdog may be fed: no critical unit is silent and stuck. A unit that fails
    /// again and again is not: its restarts have their own limits, and a board that says what is wrong is
    /// worth more than one that resets itself for ever.
    pub fn may_feed(&self, now_ms: u64) -> bool {
        self.guarded.iter().filter_map(|index| self.slots.get(*index)).all(|slot| {
            slot.hung_ms.is_none_or(|since_ms| now_ms.saturating_sub(since_ms) < STUCK_MS)
        })
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
        let settings = match self.reading {
            Reading::Until(until_ms) => Some(until_ms),
            Reading::NotYet | Reading::Over => None,
        };
        [self.timers.next_ms(), verdict, shutdown, settings].into_iter().flatten().min()
    }

    /// Takes an event in and adds what follows to `out`; `now_ms` are milliseconds since the kernel started
    /// and never go back.
    pub fn step_into(&mut self, now_ms: u64, event: Event, out: &mut Vec<Action>) {
        if self.finished {
            return;
        }
        self.take(now_ms, event, out);
        self.check_settings(now_ms);
        self.check_clocks(now_ms, out);
        self.check_refused(now_ms, out);
        self.drain(now_ms, out);
        self.check_verdict(now_ms, out);
        self.drain(now_ms, out);
        if let Some((how, until_ms)) = self.shutdown {
            if self.active == 0 || now_ms >= until_ms {
                self.finished = true;
                out.push(Action::Finish(how));
            }
        } else if !self.all_ready && self.all_are_ready() {
            self.all_ready = true;
            out.push(Action::AllReady);
        }
    }

    /// [`Supervisor::step_into`] with a new list.
    pub fn step(&mut self, now_ms: u64, event: Event) -> Vec<Action> {
        let mut out = Vec::new();
        self.step_into(now_ms, event, &mut out);
        out
    }

    fn take(&mut self, now_ms: u64, event: Event, out: &mut Vec<Action>) {
        match event {
            Event::Start => self.begin(out),
            Event::Tick => {}
            Event::RoleRead(role) => self.set_role(role),
            Event::SettingsChange => self.settings_change(now_ms),
            Event::SettingsRead(found) => self.configure(found),
            Event::Forked(index, pid) => self.forked(index, pid, out),
            Event::Executed(index) => match self.unit(index).map(|unit| unit.ready) {
                Some(ReadyBy::Start) => self.ready(now_ms, index, out),
                Some(ReadyBy::Probe) => self.timers.set(index, Clock::Probe, now_ms),
                _ => {}
            },
            Event::NotStarted(index, why) => self.not_started(now_ms, index, why, out),
            Event::Ready(index) => {
                if self.unit(index).is_some_and(|unit| unit.ready == ReadyBy::Notify) {
                    self.ready(now_ms, index, out);
                }
            }
            Event::Ping(index) => {
                let silence_ms = self.slots.get(index).and_then(|slot| slot.unit.watchdog_ms);
                if let Some(ms) = silence_ms.filter(|_| self.timers.is_set(index, Clock::Watchdog))
                {
                    self.timers.set(index, Clock::Watchdog, now_ms.saturating_add(ms));
                }
            }
            Event::Probed(index, answered) => self.probed(now_ms, index, answered, out),
            Event::Listening(index) => {
                if self.unit(index).is_some_and(|unit| unit.kind == Kind::Socket) {
                    self.ready(now_ms, index, out);
                }
            }
            Event::Device { name, present } => self.device(now_ms, &name, present, out),
            Event::Order(index, order) => self.order(index, order, out),
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
                    self.end_trial(now_ms, out);
                }
            }
            Event::Shutdown(how, by, why) => self.ordered_shutdown(now_ms, (how, by, why), out),
        }
    }

    fn begin(&mut self, out: &mut Vec<Action>) {
        self.begun = true;
        for index in 0..self.slots.len() {
            let Some(slot) = self.slots.get_mut(index) else { continue };
            slot.not_before_ms = match slot.unit.delay_ms {
                0 => 0,
                delay_ms => self.boot.start_ms.saturating_add(delay_ms),
            };
            if slot.broken {
                slot.settled = true;
                self.set_phase(index, UnitPhase::Failed);
                out.push(Action::Changed(index));
            }
        }
        self.settle_wanted();
        // Without a unit that decides the role, the file says all there is.
        if !self.slots.iter().any(|slot| slot.unit.name == PROVISION) {
            out.push(Action::ReadRole);
        }
    }

    fn forked(&mut self, index: UnitIndex, pid: u32, out: &mut Vec<Action>) {
        let Some(slot) = self.slots.get_mut(index) else { return };
        slot.pid = Some(pid);
        // It was stopped before anybody knew its process.
        if slot.phase == UnitPhase::Stopping && !slot.unmounting {
            out.push(Action::Terminate(index));
        }
        if let Some(known) = self.pids.get_mut(index) {
            *known = pid;
        }
    }

    fn not_started(&mut self, now_ms: u64, index: UnitIndex, why: String, out: &mut Vec<Action>) {
        let Some(slot) = self.slots.get_mut(index) else { return };
        slot.detail = why;
        let socket = slot.unit.kind == Kind::Socket && slot.phase == UnitPhase::Starting;
        if slot.alive && slot.pid.is_none() {
            self.ended(now_ms, index, None, out);
        } else if socket {
            self.failed(now_ms, index, None, out);
        }
    }

    fn probed(&mut self, now_ms: u64, index: UnitIndex, answered: bool, out: &mut Vec<Action>) {
        let asked = |slot: &&Slot| {
            slot.unit.ready == ReadyBy::Probe && slot.alive && slot.phase == UnitPhase::Starting
        };
        if self.slots.get(index).filter(asked).is_none() {
            return;
        }
        if answered {
            self.ready(now_ms, index, out);
        } else {
            self.timers.set(index, Clock::Probe, now_ms.saturating_add(PROBE_PAUSE_MS));
        }
    }

    /// Somebody asked for the end. A trial that has no verdict yet is refused by it: the record says why
    /// the loader counted a try for nothing.
    fn ordered_shutdown(
        &mut self,
        now_ms: u64,
        (how, by, why): (How, EndBy, String),
        out: &mut Vec<Action>,
    ) {
        if self.trial_open() && self.shutdown.is_none() {
            let reason = FailReason::ended_early(&why, self.gate_deadline_s());
            out.push(Action::RecordFail(reason));
        }
        self.begin_shutdown(now_ms, (how, by, why), out);
    }

    /// A release that failed its trial makes way.
    fn end_trial(&mut self, now_ms: u64, out: &mut Vec<Action>) {
        let why = "the release failed its trial".to_owned();
        self.begin_shutdown(now_ms, (How::Reboot, EndBy::Trial, why), out);
    }

    fn begin_shutdown(
        &mut self,
        now_ms: u64,
        (how, by, mut why): (How, EndBy, String),
        out: &mut Vec<Action>,
    ) {
        if self.shutdown.is_some() {
            return;
        }
        why.truncate(why.floor_char_boundary(END_WHY_BYTES_MAX));
        let kind = match how {
            How::Reboot => EndKind::Reboot,
            How::PowerOff => EndKind::PowerOff,
        };
        out.push(Action::RecordEnd(OrderedEnd { how: kind, by, why, done: false, at_unix_s: 0 }));
        self.shutdown = Some((how, now_ms.saturating_add(SHUTDOWN_MAX_MS)));
        self.settle_wanted();
        for index in 0..self.slots.len() {
            self.touch(index);
            // One that a running board has waited for without a limit has one now.
            let stuck = self.slots.get(index).is_some_and(|slot| slot.phase == UnitPhase::Stopping);
            if stuck && !self.timers.is_set(index, Clock::Phase) {
                self.timers.set(index, Clock::Phase, now_ms.saturating_add(KILL_GRACE_MS));
            }
        }
    }
}

#[cfg(test)]
mod tests;
