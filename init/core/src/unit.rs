//! A unit's TOML file -> a checked [`Unit`].
//!
//! Unknown keys and words are refused: a misspelt limit must not silently be no limit.

mod kinds;
mod place;

pub use self::place::{Address, MOUNT_FLAGS, MountPlace, Probe, ProbeKind};
use crate::limits::{Limits, OwnLimits};
use crate::log_rate::LogRate;
use crate::sandbox::{RawSandbox, Sandbox};
use crate::words::Words;
use goblin_core_types::Role;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::io;

/// Longest unit file in bytes.
pub const UNIT_BYTES_MAX: usize = 16 * 1024;
/// Most units on a board.
pub const UNITS_MAX: usize = 1024;
/// Most entries of one list in a unit.
const LIST_MAX: usize = 32;
/// Longest name of a unit; it is a directory name of the cgroup tree and a word in every log line.
const NAME_BYTES_MAX: usize = 32;
/// Names under which PID 1 and the kernel write to the log.
const RESERVED_NAMES: [&str; 2] = ["init", "kernel"];
/// Shortest pause before a unit is started again. Below it, a unit that fails at once would be a busy
/// loop.
pub const BACKOFF_FLOOR_MS: u64 = 200;
/// Longest of any time in a unit: a day.
const TIME_MS_MAX: u64 = 24 * 3600 * 1000;
/// Time for a trial to prove itself, where the gate unit does not say.
pub const GATE_DEADLINE_DEFAULT_S: u32 = 180;

/// Most device units' worth of name in bytes.
const DEVICE_BYTES_MAX: usize = 128;
/// Shortest interval of a task with a schedule, in milliseconds.
const EVERY_MS_MIN: u64 = 1000;
/// Shortest silence that a watchdog may be told to bark at, in milliseconds: a busy board is not a hung one.
const WATCHDOG_MS_MIN: u64 = 1000;

/// One thing that PID 1 looks after.
///
/// There may be [`UNITS_MAX`] of them in few megabytes, so what most units do not have lies in a box.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unit {
    /// Stem of its file name.
    pub name: String,
    /// What it is for, one sentence.
    pub description: String,
    /// What it is.
    pub kind: Kind,
    /// Program by absolute path, and its arguments; only services and tasks have one.
    pub exec: Words,
    /// Boards it is for; empty: any.
    pub roles: Box<[RoleWord]>,
    /// Whether it is started without anybody asking; else only when a unit that is started needs it.
    pub autostart: bool,
    /// Units that must be ready before it is started, and as long as it runs.
    pub requires: Words,
    /// Units that must have become ready once before it is started; what becomes of them later is no matter.
    pub milestone: Words,
    /// Units that are started with it and before it; it is started too if they fail.
    pub wants: Words,
    /// Units whose first start must have come to an end, good or bad, before it is started.
    pub after: Words,
    /// When it counts as ready.
    pub ready: ReadyBy,
    /// Whom to ask, for [`ReadyBy::Probe`].
    pub probe: Option<Box<Probe>>,
    /// Whether it is started again after it ended.
    pub restart: Restart,
    /// First and longest pause before it is started again, in milliseconds.
    pub backoff_ms: (u64, u64),
    /// Exit statuses with which it says that it must not be started again, whatever `restart` says.
    pub no_restart_status: Box<[u8]>,
    /// Failures, with no steady run between them, after which it is given up; absent: never.
    pub restarts_max: Option<u32>,
    /// A task is started this long after PID 1 began, at the earliest, in milliseconds.
    pub delay_ms: u64,
    /// A task is started again this long after its last start, in milliseconds, and never twice at a time.
    pub every_ms: Option<u64>,
    /// Once ready, it must say that its loop turns at least this often, in milliseconds; else it is killed.
    pub watchdog_ms: Option<u64>,
    /// A person may restart it but not stop it: the board could not be asked for anything without it.
    pub refuse_stop: bool,
    /// At the end of the board it is stopped after every unit that it does not depend on itself.
    pub stop_last: bool,
    /// It may give PID 1 orders over the control socket: start and stop units, reboot. A unit without a
    /// sandbox may anyway.
    pub orders: bool,
    /// It is started even where there are no control groups, which keep limits and guard devices: it tells people
    /// why the others are not.
    pub even_unguarded: bool,
    /// What a mount mounts.
    pub mount: Option<Box<MountPlace>>,
    /// Device whose presence makes a device unit ready, as the kernel's reports name it: `block:sda1`.
    pub device: Option<Box<str>>,
    /// Where a socket listens.
    pub listen: Option<Box<Address>>,
    /// Without it the board cannot be healthy: when it ends for good during a trial, the trial failed.
    pub critical: bool,
    /// Only started while the boot is a trial.
    pub trial_only: bool,
    /// Its readiness accepts a trial; the value is the deadline in seconds after PID 1 started.
    pub gate: Option<u32>,
    /// From the request to stop to the kill, in milliseconds.
    pub stop_timeout_ms: u64,
    /// From start to readiness, in milliseconds; 0: no limit.
    pub start_timeout_ms: u64,
    /// What it may use.
    pub limits: OwnLimits,
    /// What it may see, touch and ask; `None`: whatever root may.
    pub sandbox: Option<Box<Sandbox>>,
    /// Lines it may write.
    pub log_rate: LogRate,
    /// Added to the environment, each as `NAME=value`.
    pub env: Words,
}

/// What kind of unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// Keeps running.
    Service,
    /// Runs to completion; ready means that it exited with status 0.
    Task,
    /// A file system, mounted and taken away by a child of PID 1.
    Mount,
    /// Ready while the kernel reports a device as present.
    Device,
    /// A listening socket, held open by PID 1 and passed to the services that require it.
    Socket,
    /// Ready when all that it requires is ready.
    Milestone,
}

impl Unit {
    /// The first key of its file that only a control group can keep: a limit, or the sandbox, of which the guards of
    /// devices and of the kernel's settings hang on the group.
    pub fn kept_by_group(&self) -> Option<&'static str> {
        self.limits.kept_by_group().or(self.sandbox.as_ref().map(|_| "sandbox"))
    }
}

impl Kind {
    /// True for units with a program of their own.
    pub const fn has_program(self) -> bool {
        matches!(self, Self::Service | Self::Task)
    }
}

/// When a unit counts as ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReadyBy {
    /// When it says so over `GOBLIN_NOTIFY`.
    Notify,
    /// As soon as its program runs.
    Start,
    /// When it exited with status 0; tasks and mounts only.
    Exit,
    /// When it accepts connections.
    Probe,
    /// Without a process: devices, sockets, milestones.
    State,
}

/// Whether a unit is started again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Restart {
    /// However it ended; services only.
    Always,
    /// When it exited with another status than 0, was killed, or was not ready in time.
    OnFailure,
    /// Not.
    Never,
}

/// A word of `roles`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RoleWord {
    /// A board of this role.
    Role(Role),
    /// A board that was not provisioned.
    Unprovisioned,
}

/// Why a unit file was refused.
#[derive(Debug, thiserror::Error)]
pub enum UnitError {
    /// The file cannot be read.
    #[error("{file}: cannot be read: {source}; make it a readable file of UTF-8 text")]
    Read {
        /// Its name.
        file: String,
        /// The system's reason.
        source: io::Error,
    },
    /// It is not TOML, or has keys and words that units do not have.
    #[error("{file}: line {line}: {message}; {remedy}")]
    Toml {
        /// Its name.
        file: String,
        /// Where, from 1 on.
        line: usize,
        /// Key and what was expected instead.
        message: String,
        /// What to write instead.
        remedy: &'static str,
    },
    /// A value breaks a rule.
    #[error("{file}: `{key}` {problem}; {remedy}")]
    Value {
        /// Its name.
        file: String,
        /// The key.
        key: &'static str,
        /// What is wrong with it.
        problem: String,
        /// What to write instead.
        remedy: &'static str,
    },
    /// There are more files than a board can have units.
    #[error("{file}: more than {UNITS_MAX} units; remove some")]
    TooMany {
        /// The first file that was left out.
        file: String,
    },
}

/// A unit file as written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawUnit {
    description: String,
    kind: Kind,
    #[serde(default)]
    exec: Vec<String>,
    #[serde(default)]
    roles: Vec<String>,
    #[serde(default = "yes")]
    autostart: bool,
    #[serde(default)]
    requires: Vec<String>,
    #[serde(default)]
    milestone: Vec<String>,
    #[serde(default)]
    wants: Vec<String>,
    #[serde(default)]
    after: Vec<String>,
    ready: Option<String>,
    restart: Option<Restart>,
    #[serde(default = "default_backoff")]
    backoff_ms: [u64; 2],
    #[serde(default)]
    no_restart_status: Vec<u8>,
    restarts_max: Option<u32>,
    #[serde(default)]
    delay_ms: u64,
    every_ms: Option<u64>,
    watchdog_ms: Option<u64>,
    #[serde(default)]
    refuse_stop: bool,
    #[serde(default)]
    stop_last: bool,
    #[serde(default)]
    orders: bool,
    #[serde(default)]
    even_unguarded: bool,
    mount: Option<MountPlace>,
    device: Option<String>,
    listen: Option<String>,
    #[serde(default)]
    critical: bool,
    #[serde(default)]
    trial_only: bool,
    #[serde(default)]
    gate: bool,
    gate_deadline_s: Option<u32>,
    #[serde(default = "default_stop_timeout")]
    stop_timeout_ms: u64,
    #[serde(default = "default_start_timeout")]
    start_timeout_ms: u64,
    #[serde(default)]
    limits: Limits,
    sandbox: Option<RawSandbox>,
    #[serde(default)]
    log_rate: LogRate,
    #[serde(default)]
    env: BTreeMap<String, String>,
}

fn yes() -> bool {
    true
}

fn default_backoff() -> [u64; 2] {
    [500, 30_000]
}

fn default_stop_timeout() -> u64 {
    5_000
}

fn default_start_timeout() -> u64 {
    90_000
}

/// The unit files of a directory.
#[derive(Debug, Default)]
pub struct Loaded {
    /// The good ones, by name.
    pub units: Vec<Unit>,
    /// Stems of the others, and why.
    pub refused: Vec<(String, UnitError)>,
}

/// Checks unit files in the order given, each as its stem and content. Files that are refused are told
/// apart, so that one bad unit does not take the others down.
pub fn load(files: impl IntoIterator<Item = (String, io::Result<Vec<u8>>)>) -> Loaded {
    let Loaded { mut units, mut refused } = Loaded::default();
    for (stem, content) in files {
        let file = format!("{stem}.toml");
        if units.len() >= UNITS_MAX {
            refused.push((stem, UnitError::TooMany { file }));
            break;
        }
        let unit = content
            .and_then(|bytes| String::from_utf8(bytes).map_err(io::Error::other))
            .map_err(|source| UnitError::Read { file, source })
            .and_then(|text| parse(&stem, &text));
        match unit {
            Ok(unit) => units.push(unit),
            Err(err) => refused.push((stem, err)),
        }
    }
    Loaded { units, refused }
}

/// Checks the text of `NAME.toml`.
///
/// # Errors
/// The first rule that is broken.
pub fn parse(name: &str, text: &str) -> Result<Unit, UnitError> {
    let file = format!("{name}.toml");
    let raw: RawUnit = toml::from_str(text).map_err(|err| {
        // The message without the picture of the line, which takes several lines of the log.
        let line = err.span().map_or(1, |span| {
            text.get(..span.start).unwrap_or_default().matches('\n').count().saturating_add(1)
        });
        let message = err.message().replace('\n', " ");
        UnitError::Toml { file: file.clone(), line, remedy: remedy_of(&message), message }
    })?;
    Checker { file }.check(name, raw)
}

/// What to do about text that is not as a unit file should be, by the beginning of the parser's sentence.
fn remedy_of(message: &str) -> &'static str {
    const REMEDIES: [(&str, &str); 6] = [
        ("unknown field", "remove the key or write it as one of those"),
        ("missing field", "add the key"),
        ("unknown variant", "write one of those words"),
        ("invalid type", "write a value of the type that is expected"),
        ("invalid value", "write a value as it is expected"),
        ("duplicate key", "remove one of the two"),
    ];
    let known = REMEDIES.iter().find(|(begin, _)| message.starts_with(begin));
    known.map_or("correct the TOML of this line", |(_, remedy)| remedy)
}

struct Checker {
    file: String,
}

impl Checker {
    fn refuse<T>(
        &self,
        key: &'static str,
        problem: impl Into<String>,
        remedy: &'static str,
    ) -> Result<T, UnitError> {
        Err(UnitError::Value { file: self.file.clone(), key, problem: problem.into(), remedy })
    }

    fn check(&self, name: &str, mut raw: RawUnit) -> Result<Unit, UnitError> {
        raw.description.shrink_to_fit();
        self.check_name("file name", name)?;
        self.check_exec(raw.kind, &raw.exec)?;
        self.check_lists(&raw)?;
        self.check_times(&raw)?;
        self.check_kind(&raw)?;
        if let Some((problem, remedy)) = raw.log_rate.problem() {
            return self.refuse("log_rate", problem, remedy);
        }
        let (ready, probe) = self.ready(raw.kind, raw.ready.as_deref())?;
        let listen = self.listen(raw.kind, raw.listen.as_deref())?;
        let restart = self.restart(raw.kind, raw.restart)?;
        let sandbox = raw.sandbox.map(|table| table.check(name, &self.file)).transpose()?;
        if raw.gate_deadline_s.is_some() && !raw.gate {
            return self.refuse(
                "gate_deadline_s",
                "has no `gate`",
                "add `gate = true` or remove it",
            );
        }
        Ok(Unit {
            name: name.to_owned(),
            description: raw.description,
            kind: raw.kind,
            exec: raw.exec.into_iter().collect(),
            roles: self.roles(&raw.roles)?,
            autostart: raw.autostart,
            requires: raw.requires.into_iter().collect(),
            milestone: raw.milestone.into_iter().collect(),
            wants: raw.wants.into_iter().collect(),
            after: raw.after.into_iter().collect(),
            ready,
            probe: probe.map(Box::new),
            restart,
            backoff_ms: (raw.backoff_ms[0], raw.backoff_ms[1]),
            no_restart_status: raw.no_restart_status.into(),
            restarts_max: raw.restarts_max,
            delay_ms: raw.delay_ms,
            every_ms: raw.every_ms,
            watchdog_ms: raw.watchdog_ms,
            refuse_stop: raw.refuse_stop,
            stop_last: raw.stop_last,
            orders: raw.orders,
            even_unguarded: raw.even_unguarded,
            mount: raw.mount.map(Box::new),
            device: raw.device.map(Into::into),
            listen: listen.map(Box::new),
            critical: raw.critical,
            trial_only: raw.trial_only,
            gate: raw.gate.then(|| raw.gate_deadline_s.unwrap_or(GATE_DEADLINE_DEFAULT_S)),
            stop_timeout_ms: raw.stop_timeout_ms,
            start_timeout_ms: raw.start_timeout_ms,
            limits: raw.limits.into(),
            sandbox: sandbox.map(Box::new),
            log_rate: raw.log_rate,
            env: raw.env.iter().map(|(name, value)| format!("{name}={value}")).collect(),
        })
    }

    fn check_name(&self, key: &'static str, name: &str) -> Result<(), UnitError> {
        let good = name
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
        if name.is_empty() || name.len() > NAME_BYTES_MAX || !good || name.starts_with('-') {
            return self.refuse(
                key,
                format!("`{}` is not a unit's name", name.chars().take(40).collect::<String>()),
                "use 1 to 32 of a-z, 0-9 and -, not starting with -",
            );
        }
        if RESERVED_NAMES.contains(&name) {
            return self.refuse(
                key,
                format!("`{name}` is not a unit's name in the log"),
                "rename it",
            );
        }
        Ok(())
    }

    fn check_exec(&self, kind: Kind, exec: &[String]) -> Result<(), UnitError> {
        if !kind.has_program() {
            return match exec {
                [] => Ok(()),
                _ => self.refuse("exec", "is only for services and tasks", "remove it"),
            };
        }
        if !exec.first().is_some_and(|program| program.starts_with('/')) {
            return self.refuse(
                "exec",
                "has no absolute path",
                "write [\"/usr/bin/PROGRAM\", ARGUMENTS..]",
            );
        }
        if exec.len() > LIST_MAX || exec.iter().any(|word| word.contains('\0')) {
            return self.refuse("exec", "is too long or has a NUL", "write at most 32 plain words");
        }
        Ok(())
    }

    fn check_lists(&self, raw: &RawUnit) -> Result<(), UnitError> {
        for (key, list) in [
            ("requires", &raw.requires),
            ("milestone", &raw.milestone),
            ("wants", &raw.wants),
            ("after", &raw.after),
        ] {
            if list.len() > LIST_MAX {
                return self.refuse(key, "is too long", "name at most 32 units");
            }
            for name in list {
                self.check_name(key, name)?;
            }
        }
        if raw.no_restart_status.len() > LIST_MAX {
            return self.refuse("no_restart_status", "is too long", "name at most 32 statuses");
        }
        let odd = |word: &str| word.contains('\0') || word.is_empty();
        let bad = |(key, value): (&String, &String)| {
            odd(key) || key.contains('=') || value.contains('\0')
        };
        if raw.env.len() > LIST_MAX || raw.env.iter().any(bad) {
            return self.refuse(
                "env",
                "cannot be an environment",
                "write at most 32 plain NAME = \"value\"",
            );
        }
        Ok(())
    }

    fn check_times(&self, raw: &RawUnit) -> Result<(), UnitError> {
        let [min, max] = raw.backoff_ms;
        if min < BACKOFF_FLOOR_MS || max < min || max > TIME_MS_MAX {
            return self.refuse(
                "backoff_ms",
                format!("is [{min}, {max}]"),
                "write [FIRST, LONGEST] with 200 <= FIRST <= LONGEST <= 86400000",
            );
        }
        if raw.stop_timeout_ms == 0 || raw.stop_timeout_ms > TIME_MS_MAX {
            return self.refuse("stop_timeout_ms", "is out of range", "write 1 to 86400000");
        }
        if raw.start_timeout_ms > TIME_MS_MAX {
            return self.refuse(
                "start_timeout_ms",
                "is out of range",
                "write 0 (no limit) to 86400000",
            );
        }
        raw.limits.check(&self.file)
    }

    fn roles(&self, words: &[String]) -> Result<Box<[RoleWord]>, UnitError> {
        words
            .iter()
            .map(|word| match word.as_str() {
                "none" => Ok(RoleWord::Unprovisioned),
                other => match other.parse() {
                    Ok(role) => Ok(RoleWord::Role(role)),
                    Err(_) => self.refuse(
                        "roles",
                        format!("has `{}`", other.chars().take(40).collect::<String>()),
                        "write compute, storage or none",
                    ),
                },
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MINIMAL: &str = "description = 'd'\nkind = 'service'\nexec = ['/bin/x']\n";

    fn refusal(extra: &str) -> String {
        parse("x", &format!("{MINIMAL}{extra}")).unwrap_err().to_string()
    }

    #[test]
    fn defaults_depend_on_the_kind() {
        let service = parse("x", MINIMAL).unwrap();
        assert_eq!((service.ready, service.restart), (ReadyBy::Notify, Restart::Always));
        let task = parse("x", &MINIMAL.replace("service", "task")).unwrap();
        assert_eq!((task.ready, task.restart), (ReadyBy::Exit, Restart::Never));
    }

    #[test]
    fn refusals_name_file_key_and_remedy() {
        for (extra, key) in [
            ("memory_max = 3", "memory_max"),
            ("backoff_ms = [10, 20]", "backoff_ms"),
            ("backoff_ms = [300, 200]", "backoff_ms"),
            ("roles = ['nas']", "roles"),
            ("requires = ['../x']", "requires"),
            ("ready = 'exit'", "ready"),
            ("gate_deadline_s = 9", "gate_deadline_s"),
            ("stop_timeout_ms = 0", "stop_timeout_ms"),
            ("[limits]\nmemory_max_mib = 0", "limits.memory_max_mib"),
            ("[env]\n'A=B' = 'x'", "env"),
        ] {
            let text = refusal(extra);
            assert!(text.starts_with("x.toml: ") && text.contains(&format!("`{key}`")), "{text}");
        }
        let text = parse("x", "").unwrap_err().to_string();
        assert!(text.contains("missing field `description`; add the key"), "{text}");
        let text = refusal("kind2 = 1");
        assert!(text.contains("line 4") && text.contains("expected one of"), "{text}");
        assert!(text.ends_with("; remove the key or write it as one of those"), "{text}");
        for (extra, remedy) in [
            ("critical = 3", "write a value of the type that is expected"),
            ("restart = 'maybe'", "write one of those words"),
            ("kind = 'task'", "remove one of the two"),
            ("critical = = true", "correct the TOML of this line"),
        ] {
            let text = refusal(extra);
            assert!(text.contains("line 4") && text.ends_with(&format!("; {remedy}")), "{text}");
        }
        let relative = MINIMAL.replace("/bin/x", "x");
        assert!(parse("x", &relative).unwrap_err().to_string().contains("`exec`"));
        assert!(parse("kernel", MINIMAL).unwrap_err().to_string().contains("in the log"));
        assert!(parse("X y", MINIMAL).unwrap_err().to_string().contains("file name"));
    }

    #[test]
    fn one_bad_file_does_not_hide_the_others() {
        let files = [
            ("bad", Ok(b"x".to_vec())),
            ("good", Ok(MINIMAL.into())),
            ("gone", Err(io::ErrorKind::NotFound.into())),
        ];
        let Loaded { units, refused } =
            load(files.map(|(stem, content)| (stem.to_owned(), content)));
        assert_eq!(units.len(), 1);
        let stems: Vec<_> = refused.iter().map(|(stem, _)| stem.as_str()).collect();
        assert_eq!(stems, ["bad", "gone"]);
    }

    proptest! {
        #[test]
        fn any_text_is_answered(text in "(?s).{0,200}") {
            let _ = parse("x", &text);
        }

        #[test]
        fn any_value_is_answered(key in "[a-z_]{1,12}", value in "[0-9\\[\\]'a-z,-]{0,20}") {
            let _ = parse("x", &format!("{MINIMAL}{key} = {value}\n"));
        }
    }
}
