//! The supervisor's actions as system calls, and the children that write the boot record.

use super::{INIT, Runtime, Source, now_ms};
use crate::cgroup::{self, Holds};
use crate::finish::signal_one;
use crate::log_ring::Lines;
use crate::record::{Job, now_unix_s};
use crate::spawn::{Child, Program};
use goblin_core_types::{FailReason, LAST_LINES_MAX, LogLevel, OrderedEnd, Role, UnitPhase, paths};
use goblin_init_core::supervise::{Action, Event, Exit, UnitIndex};
use goblin_init_core::unit::Unit;
use goblin_sys::files;
use rustix::process::Signal;
use std::io;
use std::os::fd::AsFd;
use std::path::Path;

/// Jobs for the boot record that wait for the one before; more are dropped.
const JOBS_MAX: usize = 8;
/// Lines of a failed unit that go to the console.
const FAILED_LINES_MAX: usize = 5;
/// Outputs of earlier starts of a unit that are still listened to.
const OLD_OUTPUTS_MAX: usize = 3;
/// Longest role file.
const ROLE_BYTES_MAX: usize = 64;

impl Runtime {
    pub(super) fn apply(&mut self, action: Action) -> Option<Event> {
        match action {
            Action::Spawn(index) => return Some(self.spawn(index)),
            Action::Unmount(index) => return Some(self.unmount(index)),
            Action::Listen(index) => return Some(self.listen(index)),
            Action::CloseSocket(index) => drop(self.sockets.remove(&index)),
            Action::Probe(index) => return self.probe(index),
            Action::Terminate(index) => {
                if let Some(pid) = self.supervisor.pid(index) {
                    signal_one(pid, Signal::TERM);
                }
            }
            Action::Kill(index) => {
                cgroup::kill(&self.name(index));
                if let Some(pid) = self.supervisor.pid(index) {
                    signal_one(pid, Signal::KILL);
                }
            }
            Action::ReadSettings => return self.read_settings(),
            Action::ReadRole => return Some(Event::RoleRead(read_role())),
            Action::Changed(index) => self.tell(index),
            Action::AllReady => {
                self.say(LogLevel::Info, "ready");
                self.hear_kernel();
            }
            Action::Healthy { trial } => {
                self.say(LogLevel::Info, if trial { "healthy: trial passed" } else { "healthy" });
                self.queue_job(Job::Healthy);
            }
            Action::RecordFail(reason) => return self.record_fail(reason),
            Action::RecordEnd(end) => {
                self.queue_job(Job::End(OrderedEnd { at_unix_s: now_unix_s(), ..end }));
            }
            Action::Finish(how) => self.finish = Some(how),
        }
        None
    }

    pub(super) fn name(&self, index: UnitIndex) -> String {
        self.supervisor.unit(index).map(|unit| unit.name.clone()).unwrap_or_default()
    }

    fn spawn(&mut self, index: UnitIndex) -> Event {
        let Some(unit) = self.supervisor.unit(index) else {
            return Event::NotStarted(index, "no such unit".into());
        };
        let sockets: Vec<_> = self
            .supervisor
            .required(index)
            .filter_map(|of| {
                Some((self.supervisor.unit(of)?.name.as_str(), self.sockets.get(&of)?.as_fd()))
            })
            .collect();
        let program = match &unit.mount {
            None => Program::with_sockets(unit, &sockets, self.holds(index)),
            Some(place) => Program::of_unit(&itself(
                unit,
                &["mount", &place.what, &place.target, &place.fs_type, &place.options],
            )),
        };
        let child = program.and_then(|program| program.start());
        let (name, log_rate) = (unit.name.clone(), unit.log_rate);
        // Until it is known that this process came so far.
        self.set_holds(index, false);
        self.ring.limit(now_ms(), &name, log_rate);
        self.forked(index, name, child)
    }

    fn holds(&self, index: UnitIndex) -> Holds {
        match self.group_holds.get(index) {
            Some(true) => Holds::ItsLimits,
            _ => Holds::Unknown,
        }
    }

    /// A unit's process has written its limits, or may not have done so.
    pub(super) fn set_holds(&mut self, index: UnitIndex, holds: bool) {
        if let Some(known) = self.group_holds.get_mut(index) {
            *known = holds;
        }
    }

    fn unmount(&mut self, index: UnitIndex) -> Event {
        let Some(unit) = self.supervisor.unit(index) else {
            return Event::NotStarted(index, "no such unit".into());
        };
        let target = unit.mount.as_ref().map_or("", |place| place.target.as_str());
        let program = Program::of_unit(&itself(unit, &["unmount", target]));
        let child = program.and_then(|program| program.start());
        let name = unit.name.clone();
        self.forked(index, name, child)
    }

    fn forked(&mut self, index: UnitIndex, name: String, child: io::Result<Child>) -> Event {
        let pid = child.and_then(|child| {
            let pid = child.pid;
            // One that nobody listens to must not run beside the next try.
            self.listen_to(index, name, child).inspect_err(|_| signal_one(pid, Signal::KILL))?;
            Ok(pid)
        });
        match pid {
            Ok(pid) => Event::Forked(index, pid),
            Err(err) => Event::NotStarted(index, format!("not started: {err}")),
        }
    }

    fn listen_to(&mut self, index: UnitIndex, unit: String, child: Child) -> io::Result<()> {
        let Child { pid: _, log, notify, status } = child;
        self.forget_old_outputs(index);
        let lines = Lines::default;
        self.add(Source::Log { unit, index: Some(index), pipe: log, lines: lines() })?;
        self.add(Source::Notify { index, pipe: notify, lines: lines() })?;
        self.add(Source::Status { index, pipe: status })?;
        Ok(())
    }

    /// Output is listened to until nobody holds its other end; whoever hands that end on, start after start, must
    /// not use up PID 1's descriptors.
    fn forget_old_outputs(&mut self, of: UnitIndex) {
        let own =
            |source: &Source| matches!(source, Source::Log { index, .. } if *index == Some(of));
        let tokens = self.sources.iter().filter(|(_, source)| own(source)).map(|(token, _)| *token);
        let tokens: Vec<u64> = tokens.collect();
        let old = tokens.len().saturating_sub(OLD_OUTPUTS_MAX);
        for token in tokens.iter().take(old) {
            self.sources.remove(token);
        }
    }

    /// A unit changed its phase: one line in the log, and the important ones on the console.
    fn tell(&mut self, index: UnitIndex) {
        let Some(status) = self.supervisor.status(index) else { return };
        let (name, detail) = (&status.name, &status.detail);
        match status.phase {
            UnitPhase::Ready if detail.is_empty() => {
                self.say(LogLevel::Info, &format!("{name} ready"));
            }
            UnitPhase::Ready => self.say(LogLevel::Info, &format!("{name} ready: {detail}")),
            UnitPhase::BackOff => {
                self.say(
                    LogLevel::Warn,
                    &format!("{name} back-off: {detail} (restarts {})", status.restarts),
                );
                self.tell_last_lines(index, name);
            }
            UnitPhase::Failed => {
                self.say(LogLevel::Error, &format!("{name} failed: {detail}"));
                self.tell_last_lines(index, name);
            }
            UnitPhase::Stopping => self.log(LogLevel::Info, &format!("{name} stopping: {detail}")),
            UnitPhase::Off => self.log(LogLevel::Info, &format!("{name} off: {detail}")),
            UnitPhase::Waiting | UnitPhase::Starting => {}
        }
    }

    fn tell_last_lines(&mut self, index: UnitIndex, name: &str) {
        let shown_seq = self.shown_seq.insert(index, self.ring.next_seq()).unwrap_or(0);
        let new =
            self.ring.newest(FAILED_LINES_MAX, Some(name)).filter(|line| line.seq >= shown_seq);
        for line in new {
            self.kmsg.say(now_ms(), &format!("goblin-init: {name} | {}", line.text));
        }
    }

    fn record_fail(&mut self, reason: FailReason) -> Option<Event> {
        self.say(LogLevel::Error, &format!("trial failed: {}", describe(&reason)));
        let last_lines = self
            .ring
            .last_words(LAST_LINES_MAX)
            .map(|line| format!("{}: {}", line.unit, line.text))
            .collect();
        if !self.has_record {
            return Some(Event::RecordWritten);
        }
        self.queue_job(Job::Fail { reason, last_lines });
        None
    }

    pub fn queue_job(&mut self, job: Job) {
        if !self.has_record {
            return;
        }
        if self.jobs.len() < JOBS_MAX {
            self.jobs.push_back(job);
        }
        self.start_job();
    }

    /// Starts the next job, if none runs.
    fn start_job(&mut self) {
        while self.job.is_none()
            && let Some(job) = self.jobs.pop_front()
        {
            let decides = matches!(job, Job::Fail { .. });
            let started = serde_json::to_string(&job)
                .map_err(io::Error::from)
                .and_then(|job| self.helper(&["record".to_owned(), job]));
            match started {
                Ok(pid) => self.job = Some((pid, decides)),
                Err(err) => self.log(LogLevel::Error, &format!("boot record: {err}")),
            }
        }
    }

    /// Starts this very program with other words; its output goes to the log.
    ///
    /// # Errors
    /// The kernel's.
    pub fn helper(&mut self, words: &[String]) -> io::Result<u32> {
        let exec: Vec<String> =
            std::iter::once("/proc/self/exe".to_owned()).chain(words.iter().cloned()).collect();
        let child = Program::helper(&exec)?.start()?;
        self.add(Source::Log {
            unit: INIT.into(),
            index: None,
            pipe: child.log,
            lines: Lines::default(),
        })?;
        Ok(child.pid)
    }

    pub(super) fn job_ended(&mut self, exit: Exit, decides: bool) {
        if exit != Exit::Status(0) {
            self.say(LogLevel::Error, &format!("boot record: child {exit}"));
        }
        // Nothing is started any more when the board ends before its first job was done.
        self.start_units();
        self.start_job();
        if decides {
            self.event(Event::RecordWritten);
        }
    }

    /// True while the boot record is being written.
    pub fn record_is_busy(&self) -> bool {
        self.job.is_some()
    }
}

/// A unit that runs this very program with these words.
fn itself(unit: &Unit, words: &[&str]) -> Unit {
    let words = words.iter().map(|word| (*word).to_owned());
    Unit {
        exec: std::iter::once("/proc/self/exe".to_owned()).chain(words).collect(),
        ..unit.clone()
    }
}

/// The role that provisioning wrote down; a word that is no role is no role.
fn read_role() -> Option<Role> {
    let bytes = files::read_bounded(Path::new(paths::ROLE_FILE), ROLE_BYTES_MAX).ok()?;
    String::from_utf8_lossy(&bytes).trim().parse().ok()
}

fn describe(reason: &FailReason) -> String {
    match reason {
        FailReason::Unhealthy { checks, deadline_s } => {
            format!("unhealthy (deadline {deadline_s} s): {}", checks.join("; "))
        }
        FailReason::Stopped { after } => format!("stopped after {after:?}"),
        FailReason::Panic { message } | FailReason::HandOver { message } => message.clone(),
    }
}
