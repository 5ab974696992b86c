//! PID 1's loop: one thread, one epoll. Turns what the kernel reports into events of the supervisor and
//! the supervisor's actions into system calls. Nothing here decides, and nothing here waits for a unit, a
//! reader or a disk; only the very end ([`crate::ending`]) does, with limits.

mod act;
mod settings;
mod sockets;

use self::sockets::Question;
use crate::cgroup::Place;
use crate::control::{
    ASKERS_MAX, Accepted, Answers, CONNECTIONS_MAX, Connection, FOLLOWERS_MAX, Listener, Rights,
    Wish,
};
use crate::ending;
use crate::finish::signal_all;
use crate::kmsg::{KernelLog, KernelRecord, Kmsg};
use crate::log_ring::{Lines, LogRing, RING_BYTES_MAX};
use crate::peer::{self, Peer};
use crate::power::PowerButton;
use crate::record::Job;
use crate::spawn::{self, Started};
use crate::uevents::Uevents;
use goblin_core_types::{EndBy, LogLevel, Notify, paths};
use goblin_init_core::log_rate::LogRate;
use goblin_init_core::shutdown::How;
use goblin_init_core::supervise::{Action, Event, Exit, Supervisor, UnitIndex};
use goblin_sys::watchdog::Watchdog;
use nix::sys::signal::{SigSet, Signal as NixSignal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use rustix::event::epoll;
use rustix::process::{Signal, WaitOptions};
use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

/// The watchdog is fed this often, in milliseconds; far below its timeout.
const FEED_MS: u64 = 10_000;
/// Events taken from the kernel at once.
const EVENTS_MAX: usize = 32;
/// Bytes read from one pipe before others have their turn.
const PIPE_TURN_BYTES: usize = 64 * 1024;
/// Bytes of words taken from one unit before others have their turn: each word has its price.
const NOTIFY_TURN_BYTES: usize = 4 * 1024;
/// Records of the kernel's log taken before others have their turn.
const KERNEL_TURN_RECORDS: usize = 64;
/// What the kernel said is read when every unit is ready, or after this time, in milliseconds: it keeps its words,
/// and no unit shall start later for hundreds of lines about hardware.
const KERNEL_PATIENCE_MS: u64 = 2_000;
/// Units start when the record says that PID 1 runs, or after this time, in milliseconds.
const START_PATIENCE_MS: u64 = 5_000;
/// Signals taken before others have their turn.
const SIGNAL_TURN_COUNT: usize = 64;
/// Dead children taken before others have their turn.
const REAP_TURN_COUNT: usize = 256;
/// Connections taken before others have their turn.
const ACCEPT_TURN_COUNT: usize = 64;
/// Pause before connections are taken again for which there was no descriptor, in milliseconds.
const ACCEPT_PAUSE_MS: u64 = 500;
/// Name under which PID 1 writes to the log.
const INIT: &str = "init";
/// Name of the kernel in the log.
const KERNEL: &str = "kernel";
/// What the kernel may write: its words of a boot are there at once.
const KERNEL_RATE: LogRate = LogRate { per_s: 200, burst: 4000 };

/// Something that can become ready.
#[derive(Debug)]
enum Source {
    Signals(SignalFd),
    Listener(Listener),
    Connection(Connection),
    /// Output of a unit, or of a child that is no unit.
    Log {
        unit: String,
        index: Option<UnitIndex>,
        pipe: OwnedFd,
        lines: Lines,
    },
    Notify {
        index: UnitIndex,
        pipe: OwnedFd,
        lines: Lines,
    },
    Status {
        index: UnitIndex,
        pipe: OwnedFd,
    },
    Power(PowerButton),
    Kernel(KernelLog),
    Devices(Uevents),
    Question(Question),
}

impl AsFd for Source {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Signals(fd) => fd.as_fd(),
            Self::Listener(fd) => fd.as_fd(),
            Self::Connection(fd) => fd.as_fd(),
            Self::Log { pipe, .. } | Self::Notify { pipe, .. } | Self::Status { pipe, .. } => {
                pipe.as_fd()
            }
            Self::Power(fd) => fd.as_fd(),
            Self::Kernel(fd) => fd.as_fd(),
            Self::Devices(fd) => fd.as_fd(),
            Self::Question(fd) => fd.as_fd(),
        }
    }
}

/// Everything PID 1 holds.
#[derive(Debug)]
pub struct Runtime {
    epoll: OwnedFd,
    sources: BTreeMap<u64, Source>,
    next_token: u64,
    supervisor: Supervisor,
    /// Log of the board.
    pub ring: LogRing,
    /// PID 1's words in the kernel's log.
    pub kmsg: Kmsg,
    /// The armed watchdog.
    pub watchdog: Option<Watchdog>,
    fed_ms: u64,
    start_ms: u64,
    /// The board was started by the loader, so there is a boot record.
    has_record: bool,
    jobs: VecDeque<Job>,
    /// Process that writes the boot record, and whether the end of a failed trial waits for it.
    job: Option<(u32, bool)>,
    /// Units start when this has passed, or when the first job is done.
    start_at_ms: Option<u64>,
    finish: Option<How>,
    /// The kernel's log and when it is read at the latest, until then.
    kernel_log: Option<(KernelLog, u64)>,
    /// Process that reads or writes what people set of units.
    settings_child: Option<(u32, settings::Job)>,
    /// First line of each unit that was not shown with a failure yet.
    shown_seq: BTreeMap<UnitIndex, u64>,
    /// Whether each unit's group is known to hold the unit's limits.
    group_holds: Vec<bool>,
    /// Listening sockets of socket units.
    sockets: BTreeMap<UnitIndex, OwnedFd>,
    /// Control connections among the sources.
    connections: usize,
    /// The control socket among the sources, and when it is looked at though nothing new was reported.
    listener: Option<u64>,
    accept_at_ms: Option<u64>,
    /// When a control connection is closed for which nothing happens.
    talk_due_ms: Option<u64>,
    /// More children may be dead than were taken away in one turn.
    reap_again: bool,
    /// The hardware watchdog is not fed, and that was said.
    starved: bool,
    /// Room for events and actions, kept so that a turn needs no memory.
    events: VecDeque<Event>,
    actions: Vec<Action>,
}

/// Milliseconds since the kernel started.
pub fn now_ms() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
    let millis = u64::try_from(now.tv_nsec).unwrap_or(0).checked_div(1_000_000).unwrap_or(0);
    seconds.saturating_mul(1000).saturating_add(millis)
}

impl Runtime {
    /// Opens everything the loop listens to.
    ///
    /// # Errors
    /// When there is no epoll or signalfd: then there can be no PID 1.
    pub fn new(supervisor: Supervisor, start_ms: u64, has_record: bool) -> io::Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let mut runtime = Self {
            epoll,
            sources: BTreeMap::new(),
            next_token: 1,
            group_holds: vec![false; supervisor.count()],
            supervisor,
            ring: LogRing::new(RING_BYTES_MAX),
            kmsg: Kmsg::open(),
            watchdog: None,
            fed_ms: start_ms,
            start_ms,
            has_record,
            jobs: VecDeque::new(),
            job: None,
            start_at_ms: None,
            finish: None,
            kernel_log: None,
            settings_child: None,
            shown_seq: BTreeMap::new(),
            sockets: BTreeMap::new(),
            connections: 0,
            listener: None,
            accept_at_ms: None,
            talk_due_ms: None,
            reap_again: false,
            starved: false,
            events: VecDeque::new(),
            actions: Vec::new(),
        };
        let signals: SigSet =
            [NixSignal::SIGCHLD, NixSignal::SIGINT, NixSignal::SIGTERM, NixSignal::SIGPWR]
                .into_iter()
                .collect();
        signals.thread_block()?;
        let signals =
            SignalFd::with_flags(&signals, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)?;
        runtime.add(Source::Signals(signals))?;
        for button in PowerButton::find() {
            runtime.add(Source::Power(button))?;
        }
        if let Some(log) = KernelLog::open() {
            runtime.ring.limit(start_ms, KERNEL, KERNEL_RATE);
            let at_ms = now_ms().saturating_add(KERNEL_PATIENCE_MS);
            runtime.kernel_log = Some((log, at_ms));
        }
        match Listener::bind(Path::new(paths::INIT_SOCKET)) {
            Ok(listener) => runtime.listener = Some(runtime.add(Source::Listener(listener))?),
            Err(err) => runtime.log(LogLevel::Error, &format!("{}: {err}", paths::INIT_SOCKET)),
        }
        Ok(runtime)
    }

    /// A line of PID 1's own in the log.
    pub fn log(&mut self, level: LogLevel, text: &str) {
        self.ring.push(now_ms(), INIT, level, text);
    }

    /// A line of PID 1's own in the log and on the console.
    pub fn say(&mut self, level: LogLevel, text: &str) {
        let now_ms = now_ms();
        self.ring.push(now_ms, INIT, level, text);
        self.kmsg.say(now_ms, &format!("goblin-init: {text}"));
    }

    /// Listens to the kernel's devices, if a unit waits for one, and tells which are there.
    fn watch_devices(&mut self) {
        let units = (0..self.supervisor.count()).filter_map(|index| self.supervisor.unit(index));
        let wanted = units.filter_map(|unit| unit.device.as_deref().map(str::to_owned)).collect();
        match Uevents::open(wanted) {
            Ok(Some(uevents)) => {
                let there = uevents.look();
                if let Err(err) = self.add(Source::Devices(uevents)) {
                    self.log(LogLevel::Error, &format!("device events: {err}"));
                }
                for (name, present) in there {
                    self.event(Event::Device { name, present });
                }
            }
            Ok(None) => {}
            Err(err) => self.say(LogLevel::Error, &format!("device events: {err}")),
        }
    }

    /// Runs the board until its end.
    pub fn run(mut self, attempt: Option<u64>) -> ! {
        self.watch_devices();
        if self.has_record {
            self.start_at_ms = Some(now_ms().saturating_add(START_PATIENCE_MS));
            self.queue_job(Job::Start { boot: attempt });
        } else {
            self.event(Event::Start);
        }
        loop {
            self.turn();
            if let Some(how) = self.finish {
                ending::end(self, how);
            }
        }
    }

    /// Waits for the kernel once and handles what it reports.
    fn turn(&mut self) {
        let now = now_ms();
        // One that may not be fed is looked at again after the same pause, not at once.
        let fed_ms = if self.starved { now } else { self.fed_ms };
        let feed_ms = self.watchdog.as_ref().map(|_| fed_ms.saturating_add(FEED_MS));
        let reap_ms = self.reap_again.then_some(now);
        let settle_ms = self.ring.settle_due_ms();
        let units_ms = self.supervisor.next_deadline_ms();
        let deadlines = [
            units_ms,
            feed_ms,
            reap_ms,
            self.start_at_ms,
            self.kernel_log.as_ref().map(|(_, at_ms)| *at_ms),
            settle_ms,
            self.accept_at_ms,
            self.talk_due_ms,
        ];
        let timeout = deadlines.into_iter().flatten().min().map(|deadline_ms| {
            // A millisecond more than asked is late by nothing; a millisecond less is one turn too many.
            let wait_ms = deadline_ms.saturating_sub(now).saturating_add(1);
            rustix::time::Timespec::try_from(std::time::Duration::from_millis(wait_ms))
                .unwrap_or_default()
        });
        let mut events: [epoll::Event; EVENTS_MAX] = [epoll::Event {
            flags: epoll::EventFlags::empty(),
            data: epoll::EventData::new_u64(0),
        }; EVENTS_MAX];
        // An error is an interruption; the deadlines are looked at all the same.
        let count = epoll::wait(&self.epoll, &mut events, timeout.as_ref()).unwrap_or(0);
        let tokens: Vec<u64> = events.iter().take(count).map(|event| event.data.u64()).collect();
        for token in tokens {
            self.ready(token);
        }
        if std::mem::take(&mut self.reap_again) {
            self.reap();
        }
        let now = now_ms();
        if self.start_at_ms.is_some_and(|at_ms| at_ms <= now) {
            self.start_units();
        }
        if self.kernel_log.as_ref().is_some_and(|(_, at_ms)| *at_ms <= now) {
            self.hear_kernel();
        }
        if self.accept_at_ms.take_if(|at_ms| *at_ms <= now).is_some()
            && let Some(token) = self.listener
        {
            self.ready(token);
        }
        self.event(Event::Tick);
        self.feed(now);
        self.ring.settle(now);
        self.serve_connections();
    }

    fn serve_connections(&mut self) {
        if self.connections == 0 {
            self.talk_due_ms = None;
            return;
        }
        let answers = Answers {
            ring: &self.ring,
            supervisor: &self.supervisor,
            start_ms: self.start_ms,
            now_ms: now_ms(),
        };
        let mut count = 0usize;
        let mut due_ms: Option<u64> = None;
        self.sources.retain(|_, source| {
            let Source::Connection(connection) = source else { return true };
            connection.pump(&answers);
            let stays = !connection.is_over();
            count = count.saturating_add(usize::from(stays));
            due_ms =
                [due_ms, connection.deadline_ms().filter(|_| stays)].into_iter().flatten().min();
            stays
        });
        self.connections = count;
        self.talk_due_ms = due_ms;
    }

    fn feed(&mut self, now: u64) {
        if !self.supervisor.may_feed(now) {
            if !std::mem::replace(&mut self.starved, true) && self.watchdog.is_some() {
                let text =
                    "a critical unit is silent and cannot be killed: the watchdog is not fed";
                self.say(LogLevel::Error, text);
            }
            return;
        }
        self.starved = false;
        if let Some(watchdog) = &self.watchdog
            && now.saturating_sub(self.fed_ms) >= FEED_MS
        {
            self.fed_ms = now;
            if let Err(err) = watchdog.keepalive() {
                self.log(LogLevel::Error, &format!("watchdog: {err}"));
            }
        }
    }

    fn add(&mut self, source: Source) -> io::Result<u64> {
        let token = self.next_token;
        self.next_token = token.saturating_add(1);
        let flags = match source {
            // Edge-triggered: told once when the reader takes more, instead of always.
            Source::Connection(_) | Source::Question(_) => Question::flags(),
            // Told once as well: what cannot be taken for want of descriptors must not turn the loop.
            Source::Listener(_) => epoll::EventFlags::IN | epoll::EventFlags::ET,
            _ => epoll::EventFlags::IN,
        };
        epoll::add(&self.epoll, &source, epoll::EventData::new_u64(token), flags)?;
        self.sources.insert(token, source);
        Ok(token)
    }

    /// A source is ready. It is taken out while it is handled, and dropped (and thereby closed) when it
    /// is over.
    fn ready(&mut self, token: u64) {
        let Some(mut source) = self.sources.remove(&token) else { return };
        let stays = self.handle(&mut source);
        if stays {
            self.sources.insert(token, source);
        }
    }

    fn handle(&mut self, source: &mut Source) -> bool {
        match source {
            Source::Signals(signals) => {
                // What is left is reported again.
                for _ in 0..SIGNAL_TURN_COUNT {
                    let Ok(Some(signal)) = signals.read_signal() else { break };
                    self.signal(i32::try_from(signal.ssi_signo).unwrap_or(0));
                }
                true
            }
            Source::Listener(listener) => {
                self.accept(listener);
                true
            }
            Source::Connection(connection) => {
                self.talk(connection);
                !connection.is_over()
            }
            Source::Question(question) => {
                let answer = question.turn();
                if let Some(answered) = answer {
                    self.event(Event::Probed(question.index, answered));
                }
                answer.is_none()
            }
            Source::Log { unit, pipe, lines, .. } => self.read_log(unit, pipe, lines),
            Source::Notify { index, pipe, lines } => self.read_notify(*index, pipe, lines),
            Source::Status { index, pipe } => self.read_status(*index, pipe),
            Source::Power(button) => {
                let pressed = button.pressed();
                if pressed == Some(true) {
                    let why = "the power button was pressed".into();
                    self.event(Event::Shutdown(How::PowerOff, EndBy::Button, why));
                }
                pressed.is_some()
            }
            Source::Devices(uevents) => {
                for (name, present) in uevents.read() {
                    self.event(Event::Device { name, present });
                }
                true
            }
            Source::Kernel(log) => {
                self.read_kernel(log);
                true
            }
        }
    }

    fn signal(&mut self, signal: i32) {
        match NixSignal::try_from(signal) {
            Ok(NixSignal::SIGCHLD) => self.reap(),
            Ok(NixSignal::SIGINT) => self.told_to_end(How::Reboot, "ctrl-alt-del"),
            Ok(NixSignal::SIGPWR) => self.told_to_end(How::PowerOff, "power failure"),
            Ok(NixSignal::SIGTERM) => self.told_to_end(How::Reboot, "SIGTERM"),
            _ => {}
        }
    }

    fn told_to_end(&mut self, how: How, name: &str) {
        // A storm of them must not make sentences that nobody reads.
        if !self.supervisor.ends() {
            let by = EndBy::Signal { name: name.into() };
            self.event(Event::Shutdown(how, by, name.into()));
        }
    }

    /// Takes dead children away, units and strangers alike; not more than a turn's worth.
    pub fn reap(&mut self) {
        for _ in 0..REAP_TURN_COUNT {
            let Ok(Some((pid, status))) = rustix::process::wait(WaitOptions::NOHANG) else {
                return;
            };
            let pid = pid.as_raw_pid().unsigned_abs();
            let exit = match (status.exit_status(), status.terminating_signal()) {
                (Some(code), _) => Exit::Status(code),
                (None, Some(signal)) => Exit::Signal(signal),
                // Stopped or continued: not an end.
                (None, None) => continue,
            };
            if let Some(index) = self.supervisor.by_pid(pid) {
                self.drain(index);
                // One that ended by itself had started its program: what did not says so with this status.
                if let Exit::Status(code) = exit
                    && code != spawn::NOT_EXECUTED
                {
                    self.set_holds(index, true);
                }
                self.event(Event::Ended(index, exit));
            } else if let Some((_, decides)) = self.job.take_if(|(job, _)| *job == pid) {
                self.job_ended(exit, decides);
            } else if let Some((_, job)) = self.settings_child.take_if(|(child, _)| *child == pid) {
                self.settings_child_ended(job, exit);
            }
        }
        self.reap_again = true;
    }

    /// A unit's process is dead: its last words are read before its end is told, and pipes that only the
    /// process itself used are closed.
    fn drain(&mut self, of: UnitIndex) {
        self.forget_question(of);
        let tokens: Vec<u64> = self
            .sources
            .iter()
            .filter(|(_, source)| match source {
                Source::Log { index, .. } => *index == Some(of),
                Source::Notify { index, .. } | Source::Status { index, .. } => *index == of,
                _ => false,
            })
            .map(|(token, _)| *token)
            .collect();
        for token in tokens {
            self.ready(token);
            if matches!(
                self.sources.get(&token),
                Some(Source::Notify { .. } | Source::Status { .. })
            ) {
                self.sources.remove(&token);
            }
        }
    }

    fn read_log(&mut self, unit: &str, pipe: &OwnedFd, lines: &mut Lines) -> bool {
        let ring = &mut self.ring;
        let mut take = |line: &str| ring.take(now_ms(), unit, line);
        match read_pipe(pipe, PIPE_TURN_BYTES, |bytes| lines.take(bytes, &mut take)) {
            PipeState::Open => true,
            PipeState::Closed => {
                lines.end(&mut take);
                false
            }
        }
    }

    /// From now on what the kernel says comes into the log, first of all what it said since it started.
    fn hear_kernel(&mut self) {
        let Some((log, _)) = self.kernel_log.take() else { return };
        if let Err(err) = self.add(Source::Kernel(log)) {
            self.log(LogLevel::Error, &format!("the kernel's log: {err}"));
        }
    }

    fn read_kernel(&mut self, log: &mut KernelLog) {
        for _ in 0..KERNEL_TURN_RECORDS {
            match log.read_next() {
                KernelRecord::Line { at_ms, level, text } => {
                    if self.ring.fits(now_ms(), KERNEL) {
                        self.ring.push(at_ms, KERNEL, level, &text);
                    }
                }
                KernelRecord::Skipped => {}
                KernelRecord::Empty => break,
            }
        }
        self.ring.missed(now_ms(), KERNEL, log.take_missed());
    }

    fn read_notify(&mut self, index: UnitIndex, pipe: &OwnedFd, lines: &mut Lines) -> bool {
        let mut words = Vec::new();
        let state = read_pipe(pipe, NOTIFY_TURN_BYTES, |bytes| {
            lines.take(bytes, |line| words.push(serde_json::from_str::<Notify>(line)));
        });
        // Only its program speaks here, after all that comes before exec.
        if words.iter().any(Result::is_ok) {
            self.set_holds(index, true);
        }
        for word in words {
            match word {
                Ok(Notify::Ready) => self.event(Event::Ready(index)),
                Ok(Notify::Status { text }) => self.event(Event::Said(index, text)),
                Ok(Notify::Ping) => self.event(Event::Ping(index)),
                // Whoever else it says has no part in the verdict.
                Ok(Notify::TrialFailed { reason }) if self.is_gate(index) => {
                    self.event(Event::TrialFailed(reason));
                }
                Ok(Notify::TrialFailed { .. }) => {
                    self.complain(index, "is not the gate of a trial");
                }
                Err(err) => self.complain(index, &format!("word not understood: {err}")),
            }
        }
        // A unit may open and close its end as it likes; the source goes when the process does.
        state == PipeState::Open
    }

    /// A line about what a unit did, of those that the unit itself may write: it could make PID 1 write for ever.
    fn complain(&mut self, index: UnitIndex, text: &str) {
        let name = self.name(index);
        if self.ring.fits(now_ms(), &name) {
            self.log(LogLevel::Warn, &format!("{name}: {text}"));
        }
    }

    fn is_gate(&self, index: UnitIndex) -> bool {
        self.supervisor.unit(index).is_some_and(|unit| unit.gate.is_some())
    }

    fn read_status(&mut self, index: UnitIndex, pipe: &OwnedFd) -> bool {
        match spawn::explain(pipe.as_fd()) {
            Started::Executed => self.event(Event::Executed(index)),
            Started::Failed(why) => self.event(Event::NotStarted(index, why)),
            Started::Unknown => return true,
        }
        false
    }

    fn accept(&mut self, listener: &mut Listener) {
        for _ in 0..ACCEPT_TURN_COUNT {
            match listener.accept() {
                Accepted::Socket(socket) => self.connected(socket),
                Accepted::Lost => {}
                Accepted::None => return,
                Accepted::Full => {
                    self.accept_at_ms = Some(now_ms().saturating_add(ACCEPT_PAUSE_MS));
                    return;
                }
            }
        }
        self.accept_at_ms = Some(now_ms());
    }

    fn connected(&mut self, socket: OwnedFd) {
        // Dropping the socket closes it: the peer sees the end before an answer.
        if self.connections >= CONNECTIONS_MAX {
            return;
        }
        let (rights, peer) = self.rights_of(&socket);
        let seats = self
            .sources
            .values()
            .filter(|source| matches!(source, Source::Connection(other) if *other.peer() == peer));
        if rights == Rights::Ask && seats.count() >= ASKERS_MAX {
            return;
        }
        match self.add(Source::Connection(Connection::new(socket, rights, peer, now_ms()))) {
            Ok(_) => self.connections = self.connections.saturating_add(1),
            Err(err) => self.log(LogLevel::Warn, &format!("control connection: {err}")),
        }
    }

    /// What the peer of a connection may do, by the unit whose cgroup it is in, and its name. PID 1 and its own
    /// children, in no unit's, may do all. Who cannot be told may only ask.
    fn rights_of(&self, socket: &OwnedFd) -> (Rights, EndBy) {
        let stranger = (Rights::Ask, EndBy::Program);
        let unit = match peer::of(socket) {
            Ok(Peer { place: Some(Place::Unit(name)), .. }) => self.supervisor.find(&name),
            Ok(Peer { place: Some(Place::Root), .. }) => return (Rights::Order, EndBy::Program),
            // Without groups only the process that PID 1 started itself is known to be a unit's.
            Ok(Peer { pid, place: None }) => self.supervisor.by_pid(pid),
            Ok(Peer { place: Some(Place::Elsewhere), .. }) | Err(_) => None,
        };
        let Some(unit) = unit.and_then(|index| self.supervisor.unit(index)) else {
            return stranger;
        };
        let may_order = unit.orders || unit.sandbox.is_none();
        let rights = if may_order { Rights::Order } else { Rights::Ask };
        (rights, EndBy::Unit { name: unit.name.clone() })
    }

    fn talk(&mut self, connection: &mut Connection) {
        let followers = self
            .sources
            .values()
            .filter(|source| matches!(source, Source::Connection(other) if other.follows()))
            .count();
        let answers = Answers {
            ring: &self.ring,
            supervisor: &self.supervisor,
            start_ms: self.start_ms,
            now_ms: now_ms(),
        };
        let followed = connection.follows();
        let wish = connection.readable(&answers);
        if connection.follows() && !followed && followers >= FOLLOWERS_MAX {
            connection.refuse_to_follow();
        }
        connection.pump(&answers);
        match wish {
            Wish::Order(index, order) => {
                let name = self.name(index);
                self.log(LogLevel::Info, &format!("{name}: a person says {order}"));
                self.event(Event::Order(index, order));
            }
            Wish::Settings(index, text) => self.keep_settings(index, text),
            Wish::None => {}
            Wish::End(how, why) => {
                let by = connection.peer().clone();
                self.event(Event::Shutdown(how, by, why));
            }
        }
    }

    fn start_units(&mut self) {
        if self.start_at_ms.take().is_some() {
            self.event(Event::Start);
        }
    }

    /// Hands an event to the supervisor and carries out what it wants, and what follows from that.
    fn event(&mut self, event: Event) {
        let mut events = std::mem::take(&mut self.events);
        let mut actions = std::mem::take(&mut self.actions);
        events.push_back(event);
        while let Some(event) = events.pop_front() {
            // Said once: a storm of signals must not flood the log.
            if let Event::Shutdown(how, _, why) = &event
                && !self.supervisor.ends()
            {
                let word = if *how == How::Reboot { "reboot" } else { "power off" };
                let text = format!("{word}: {why}");
                self.log(LogLevel::Info, &text);
                self.kmsg.say_always(&format!("goblin-init: {text}"));
            }
            // Limits may be others from now on.
            if matches!(event, Event::SettingsRead(_)) {
                self.group_holds.fill(false);
            }
            self.supervisor.step_into(now_ms(), event, &mut actions);
            for action in actions.drain(..) {
                events.extend(self.apply(action));
            }
        }
        self.events = events;
        self.actions = actions;
    }

    /// Reads everything that lies in the pipes; for the end, when the loop does not turn any more.
    pub fn drain_logs(&mut self) {
        let tokens: Vec<u64> = self
            .sources
            .iter()
            .filter(|(_, source)| matches!(source, Source::Log { .. }))
            .map(|(token, _)| *token)
            .collect();
        for token in tokens {
            self.ready(token);
        }
    }

    /// Sends a signal to every other process.
    pub fn signal_all(&self, signal: Signal) {
        signal_all(signal);
    }
}

#[derive(Debug, PartialEq, Eq)]
enum PipeState {
    Open,
    Closed,
}

/// Reads a pipe's content, not more than one turn's worth.
fn read_pipe(pipe: &OwnedFd, bytes_max: usize, mut on_bytes: impl FnMut(&[u8])) -> PipeState {
    // Not cleared: most turns bring a few bytes.
    let mut room = [MaybeUninit::uninit(); 4096];
    let mut total = 0usize;
    while total < bytes_max {
        match rustix::io::read(pipe, &mut room) {
            Ok(([], _)) => return PipeState::Closed,
            Ok((bytes, _)) => {
                on_bytes(bytes);
                total = total.saturating_add(bytes.len());
            }
            Err(rustix::io::Errno::INTR) => {}
            Err(rustix::io::Errno::AGAIN) => return PipeState::Open,
            Err(_) => return PipeState::Closed,
        }
    }
    PipeState::Open
}
