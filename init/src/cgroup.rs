//! cgroup v2: one group per unit, with its limits; killing a group kills all that a unit left behind.
//!
//! Source: `Documentation/admin-guide/cgroup-v2.rst` of the kernel.

use crate::spawn;
use goblin_init_core::limits::Limits;
use goblin_init_core::sandbox::Sandbox;
use goblin_init_core::unit::Unit;
use rustix::fs::{Mode, OFlags};
use std::ffi::CString;
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

/// Where the tree is mounted.
pub const CGROUP: &str = "/sys/fs/cgroup";
/// Parent of the units' groups. PID 1 itself stays in the root group, which has no limits.
const UNITS: &str = "/sys/fs/cgroup/units";
/// Period in which a unit's processor time is counted; the kernel's own.
const CPU_PERIOD_US: u64 = 100_000;
/// Part of the board's processes that a unit without a limit of its own may make: one that does nothing else
/// must leave room for the others, and for those that PID 1 starts.
const PIDS_SHARE: u64 = 4;
/// How many processes and threads the board may have, and how many numbers there are for them.
const PIDS_OF_BOARD: [&str; 2] = ["/proc/sys/kernel/threads-max", "/proc/sys/kernel/pid_max"];
/// Longest description of a process's group.
const GROUP_BYTES_MAX: usize = 4096;
/// The kernel's settings.
const SYSCTLS: &str = "/proc/sys";
/// Where the kernel lists its disks; reading there asks no disk.
const BLOCK: &str = "/sys/block";
/// Most disks that get a unit's limits.
const DISKS_MAX: usize = 64;
/// Longest number of a device in bytes.
const NUMBER_BYTES_MAX: usize = 32;
/// File of the limits of disks.
const IO_MAX: &str = "io.max";
/// What it is told of a disk that has none any more.
const NO_IO_LIMIT: &str = "rbps=max wbps=max riops=max wiops=max";
/// What the other files are told in a group without limits; of `cpu.max` the quota alone, the period stays.
const NO_LIMIT: [(&str, &str); 7] = [
    ("memory.high", "max"),
    ("memory.max", "max"),
    ("memory.oom.group", "0"),
    ("cpu.weight", "100"),
    ("cpu.max", "max"),
    ("pids.max", "max"),
    ("io.weight", "default 100"),
];
/// Controllers that limits of units are for, each named as its files begin.
const CONTROLLERS: [&str; 4] = ["memory", "pids", "cpu", "io"];

/// Whether there is a tree: found out once, by [`prepare`].
static TREE: AtomicBool = AtomicBool::new(false);

/// Why a unit has no group, and is not started therefore.
#[derive(Debug, thiserror::Error)]
pub enum GroupError {
    /// The board has no tree, and the unit's file asks for what only a group can keep.
    #[error(
        "there are no control groups on this board, and without them nothing keeps `{key}`; \
         look for the reason in PID 1's first lines"
    )]
    NoTree {
        /// The key of the unit's file.
        key: &'static str,
    },
    /// A unit has limits of disks, and which disks there are is not to be found out.
    #[error("the disks that `limits.io_max` is for cannot be listed: {BLOCK}: {source}")]
    Disks {
        /// The kernel's reason.
        source: io::Error,
    },
    /// The kernel refused.
    #[error("{doing}: {source}")]
    Kernel {
        /// What was tried.
        doing: &'static str,
        /// Its reason.
        source: io::Error,
    },
}

/// Says what was tried when the kernel refused.
fn trying<T, E: Into<io::Error>>(
    doing: &'static str,
    result: Result<T, E>,
) -> Result<T, GroupError> {
    result.map_err(|err| GroupError::Kernel { doing, source: err.into() })
}

/// Makes the parent group.
///
/// # Errors
/// When the tree is not mounted.
pub fn prepare() -> io::Result<()> {
    fs::create_dir_all(UNITS)?;
    // A folder of that name may be there without a tree in it.
    fs::metadata(Path::new(UNITS).join("cgroup.procs"))?;
    TREE.store(true, Ordering::Relaxed);
    Ok(())
}

/// True when units have groups.
pub fn is_there() -> bool {
    TREE.load(Ordering::Relaxed)
}

/// Hands the controllers of these files down to the units, each when the first unit has a limit that it is for: it
/// costs every group memory and every start of a unit time.
fn hand_down<'a>(files: impl Iterator<Item = &'a str>) {
    static DONE: [AtomicBool; CONTROLLERS.len()] =
        [const { AtomicBool::new(false) }; CONTROLLERS.len()];
    for file in files {
        let known = CONTROLLERS.iter().zip(&DONE);
        let own = |(name, _): &(&&str, _)| file.split('.').next() == Some(**name);
        let Some((name, done)) = known.into_iter().find(own) else { continue };
        if done.swap(true, Ordering::Relaxed) {
            continue;
        }
        for group in [CGROUP, UNITS] {
            // One that the kernel does not have is missed by the file of the limit.
            let _ = fs::write(Path::new(group).join("cgroup.subtree_control"), format!("+{name}"));
        }
    }
}

fn group(name: &str) -> PathBuf {
    Path::new(UNITS).join(name)
}

/// A unit's group, open, and what is to be written there before a process joins it.
///
/// The unit's own process writes: the kernel takes memory back from a group whose limit falls, and waits for
/// requests that a disk has taken when the first limit is set on it. PID 1 waits for neither.
#[derive(Debug)]
pub struct Group {
    /// Its folder.
    pub folder: OwnedFd,
    /// In order.
    pub settings: Vec<Setting>,
}

/// One file of a group and what is written to it.
#[derive(Debug, PartialEq, Eq)]
pub struct Setting {
    /// Its name.
    pub file: CString,
    /// One write.
    pub value: String,
    /// A unit that needs this limit must not run without it. What takes an earlier limit away, or only asks for a
    /// share, is no such thing.
    pub needed: bool,
}

/// What is known of the limits that a unit's group holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Holds {
    /// Nothing: it is new, or its limits changed, or nobody knows how far the last start came.
    Unknown,
    /// What the unit's limits say, for a process that wrote them has run.
    ItsLimits,
}

/// Makes a unit's group and opens it. `None` for one that needs none, on a board without a tree, and for one that is
/// started even there.
///
/// # Errors
/// When there is no group that could keep what the unit's file asks for.
pub fn make(unit: &Unit, holds: Holds) -> Result<Option<Group>, GroupError> {
    if !is_there() {
        return match unit.kept_by_group() {
            Some(key) if !unit.even_unguarded => Err(GroupError::NoTree { key }),
            _ => Ok(None),
        };
    }
    let path = group(&unit.name);
    let settings = match holds {
        // Disks come and go.
        Holds::ItsLimits => to_be_set(Vec::new(), io_limits(&unit.limits, Path::new(BLOCK))?)?,
        Holds::Unknown => all_settings(&path, &unit.limits)?,
    };
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let folder = trying("open", rustix::fs::open(&path, flags, Mode::empty()))?;
    if unit.sandbox.as_deref().is_some_and(|sandbox| !may_write_sysctls(sandbox)) {
        trying("sysctl guard", guard(&folder))?;
    }
    Ok(Some(Group { folder, settings }))
}

/// Makes a group where there is none, and tells all that is to be written there.
fn all_settings(path: &Path, limits: &Limits) -> Result<Vec<Setting>, GroupError> {
    let old = match fs::create_dir(path) {
        Ok(()) => false,
        Err(err) if err.kind() == io::ErrorKind::AlreadyExists => true,
        Err(err) => return trying("make", Err(err)),
    };
    let mut limited = settings(limits, pids_default());
    limited.extend(io_limits(limits, Path::new(BLOCK))?);
    hand_down(limited.iter().map(|(file, _)| *file));
    // What an earlier start was limited to, and this one is not.
    let lifted = if old { lifted(path, &limited) } else { Vec::new() };
    to_be_set(lifted, limited)
}

/// A file and what is written to it.
type Word = (&'static str, String);

fn to_be_set(lifted: Vec<Word>, limited: Vec<Word>) -> Result<Vec<Setting>, GroupError> {
    let setting = |((file, value), needed)| {
        let file = trying("name", CString::new(file).map_err(io::Error::from))?;
        Ok(Setting { file, value, needed })
    };
    let lifted = lifted.into_iter().map(|word| (word, false));
    // There is no such file where no scheduler of disks knows weights: a wish, no limit.
    let limited = limited.into_iter().map(|word| {
        let needed = word.0 != "io.weight";
        (word, needed)
    });
    lifted.chain(limited).map(setting).collect()
}

/// Takes the kernel's settings from a group: root owns them, and a unit of root's that may mount gets past every
/// mount that is read-only.
fn guard(group: &OwnedFd) -> io::Result<()> {
    static PROGRAM: OnceLock<OwnedFd> = OnceLock::new();
    let program = match PROGRAM.get() {
        Some(program) => program,
        None => {
            let program = spawn::sysctl_guard()?;
            PROGRAM.get_or_init(|| program)
        }
    };
    Ok(spawn::guard_sysctls(group, program)?)
}

/// Whether a unit's file names settings of the kernel's among what it writes.
fn may_write_sysctls(sandbox: &Sandbox) -> bool {
    sandbox.write_paths.iter().any(|path| Path::new(path).starts_with(SYSCTLS))
}

/// What a unit's `io.max` is told, one line for each disk that is there; none for a unit without such limits.
fn io_limits(limits: &Limits, sysfs: &Path) -> Result<Vec<Word>, GroupError> {
    let Some(words) = limits.io_max.words() else { return Ok(Vec::new()) };
    let disks = disks(sysfs).map_err(|source| GroupError::Disks { source })?;
    Ok(disks.into_iter().map(|disk| (IO_MAX, format!("{disk} {words}"))).collect())
}

/// What takes limits away that a group has and that are not among `limited`. Files of controllers that were never
/// handed down are not there.
fn lifted(group: &Path, limited: &[Word]) -> Vec<Word> {
    let absent = |file: &str| limited.iter().all(|(limited, _)| *limited != file);
    let none = NO_LIMIT.iter().filter(|(file, _)| absent(file) && group.join(file).exists());
    let mut lifted: Vec<_> = none.map(|(file, value)| (*file, (*value).to_owned())).collect();
    if absent(IO_MAX)
        && let Ok(lines) = goblin_sys::files::read_bounded(&group.join(IO_MAX), GROUP_BYTES_MAX)
    {
        let lines = String::from_utf8_lossy(&lines);
        let disks = lines.lines().filter_map(|line| line.split(' ').next());
        lifted.extend(disks.map(|disk| (IO_MAX, format!("{disk} {NO_IO_LIMIT}"))));
    }
    lifted
}

/// `MAJOR:MINOR` of every disk that is a device; not of partitions, of disks in memory and loops. One that was pulled
/// out while it was looked at is none.
fn disks(sysfs: &Path) -> io::Result<Vec<String>> {
    let mut disks = Vec::new();
    for entry in fs::read_dir(sysfs)? {
        let path = entry?.path();
        if !path.join("device").exists() {
            continue;
        }
        match goblin_sys::files::read_bounded(&path.join("dev"), NUMBER_BYTES_MAX) {
            Ok(number) => disks.push(String::from_utf8_lossy(&number).trim().to_owned()),
            Err(err) if err.kind() == io::ErrorKind::NotFound => {}
            Err(err) => return Err(err),
        }
        if disks.len() > DISKS_MAX {
            return Err(io::Error::other(format!("more than {DISKS_MAX} disks")));
        }
    }
    Ok(disks)
}

/// Processes of a unit whose file has no `pids_max`; none where the kernel does not say how many it has.
fn pids_default() -> Option<u64> {
    static COUNT: OnceLock<Option<u64>> = OnceLock::new();
    *COUNT.get_or_init(|| {
        let counts = PIDS_OF_BOARD.map(|path| fs::read_to_string(path).ok()?.trim().parse().ok());
        let count: u64 = counts.into_iter().flatten().min()?;
        count.checked_div(PIDS_SHARE).map(|count| count.max(1))
    })
}

/// Files of a group and what is written to them; `pids` is for units that do not say how many processes.
fn settings(limits: &Limits, pids: Option<u64>) -> Vec<Word> {
    let bytes = |mib: u32| u64::from(mib).saturating_mul(1 << 20).to_string();
    let mut settings = Vec::new();
    let mut set = |file, value: Option<String>| settings.extend(value.map(|value| (file, value)));
    set("memory.high", limits.memory_high_mib.map(bytes));
    set("memory.max", limits.memory_max_mib.map(bytes));
    // One process of a unit that is out of memory is no use without the others.
    let whole = limits.oom_group.unwrap_or(true);
    let limited = limits.memory_max_mib.is_some() || limits.oom_group.is_some();
    set("memory.oom.group", limited.then(|| u8::from(whole).to_string()));
    set("cpu.weight", limits.cpu_weight.map(|weight| weight.to_string()));
    set("cpu.max", limits.cpu_max_percent.map(cpu_max));
    set("pids.max", limits.pids_max.map(u64::from).or(pids).map(|count| count.to_string()));
    set("io.weight", limits.io_weight.map(|weight| format!("default {weight}")));
    settings
}

/// `QUOTA PERIOD` in microseconds.
fn cpu_max(percent: u32) -> String {
    let quota_us = u64::from(percent).saturating_mul(CPU_PERIOD_US / 100);
    format!("{quota_us} {CPU_PERIOD_US}")
}

/// Where a process is in the tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// In a unit's group, or below it.
    Unit(String),
    /// In none: PID 1, and its children that are no units.
    Root,
    /// Anywhere else, where PID 1 puts nobody.
    Elsewhere,
}

/// Where a process is.
///
/// # Errors
/// When the process is gone.
pub fn place_of(pid: u32) -> io::Result<Place> {
    let path = format!("/proc/{pid}/cgroup");
    let bytes = goblin_sys::files::read_bounded(Path::new(&path), GROUP_BYTES_MAX)?;
    Ok(place_in(&String::from_utf8_lossy(&bytes)))
}

/// The place in `0::/units/NAME/..` (cgroups(7)).
fn place_in(text: &str) -> Place {
    let path = text.lines().find_map(|line| line.strip_prefix("0::"));
    if path == Some("/") {
        return Place::Root;
    }
    let below = path.and_then(|path| path.strip_prefix("/units/"));
    match below.and_then(|below| below.split('/').next()).filter(|name| !name.is_empty()) {
        Some(name) => Place::Unit(name.to_owned()),
        None => Place::Elsewhere,
    }
}

/// Kills every process of every unit.
pub fn kill_all() {
    let _ = fs::write(Path::new(UNITS).join("cgroup.kill"), "1");
}

/// Kills every process of a unit's group. Without a group there is nothing to kill.
pub fn kill(name: &str) {
    let _ = fs::write(group(name).join("cgroup.kill"), "1");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_belongs_to_the_unit_at_the_top() {
        assert_eq!(place_in("0::/units/share\n"), Place::Unit("share".into()));
        assert_eq!(place_in("1:x:/\n0::/units/apps/one\n"), Place::Unit("apps".into()));
        assert_eq!(place_in("0::/\n"), Place::Root);
        // Nobody's children, and so nobody's rights.
        for other in ["0::/units\n", "0::/units/\n", "0::/other\n", "0::/../x\n", "1:x:/\n", ""] {
            assert_eq!(place_in(other), Place::Elsewhere, "{other}");
        }
        assert!(place_of(std::process::id()).is_ok());
        assert!(place_of(u32::MAX).is_err());
    }

    fn unit(more: &str) -> Unit {
        let text = format!("description = 'd'\nkind = 'service'\nexec = ['/x']\n{more}");
        goblin_init_core::unit::parse("x", &text).unwrap()
    }

    /// No test makes a tree.
    #[test]
    fn without_a_tree_nobody_runs_without_what_its_file_asks_for() {
        assert!(!is_there());
        for (more, key) in [
            ("[limits]\nmemory_max_mib = 9\n", "limits.memory_max_mib"),
            ("[limits]\npids_max = 9\n", "limits.pids_max"),
            ("[limits]\nio_max = { read_ops_per_s = 10 }\n", "limits.io_max"),
            ("[limits]\ncpu_max_percent = 9\n", "limits.cpu_max_percent"),
            ("[limits]\nmemory_high_mib = 9\n", "limits.memory_high_mib"),
            ("[sandbox]\n", "sandbox"),
        ] {
            let refused = make(&unit(more), Holds::Unknown);
            let Err(GroupError::NoTree { key: found }) = refused else { panic!("{refused:?}") };
            assert_eq!(found, key);
            let spoken = unit(&format!("even_unguarded = true\n{more}"));
            assert!(make(&spoken, Holds::Unknown).unwrap().is_none(), "{more}");
        }
        // A wish, and what the process carries itself.
        for more in ["", "[limits]\ncpu_weight = 9\nio_weight = 9\nnice = 3\nnofile = 99\n"] {
            assert!(make(&unit(more), Holds::Unknown).unwrap().is_none(), "{more}");
        }
    }

    #[test]
    fn settings_are_for_who_names_them() {
        let sandbox = |paths: &str| {
            let unit = format!(
                "description = 'd'\nkind = 'service'\nexec = ['/x']\n[sandbox]\nwrite_paths = [{paths}]\n"
            );
            *goblin_init_core::unit::parse("x", &unit).unwrap().sandbox.unwrap()
        };
        assert!(may_write_sysctls(&sandbox("'/proc/sys/net'")));
        for other in ["", "'/state'", "'/proc/sysrq-trigger'"] {
            assert!(!may_write_sysctls(&sandbox(other)), "{other}");
        }
    }

    #[test]
    fn every_real_disk_gets_the_limits() {
        let dir = tempfile::tempdir().unwrap();
        for (name, number, real) in
            [("sda", "8:0\n", true), ("loop0", "7:0\n", false), ("nvme0n1", "259:0\n", true)]
        {
            let disk = dir.path().join(name);
            fs::create_dir_all(disk.join(if real { "device" } else { "queue" })).unwrap();
            fs::write(disk.join("dev"), number).unwrap();
        }
        let mut found = disks(dir.path()).unwrap();
        found.sort();
        assert_eq!(found, ["259:0", "8:0"]);
        let absent = dir.path().join("absent");
        assert!(io_limits(&Limits::default(), &absent).unwrap().is_empty());
        let limits = unit("[limits]\nio_max = { read_ops_per_s = 10 }\n").limits;
        assert_eq!(io_limits(&limits, dir.path()).unwrap().len(), 2);
        // Who has such limits does not run without them.
        assert!(matches!(io_limits(&limits, &absent), Err(GroupError::Disks { .. })));
    }

    #[test]
    fn what_was_limited_and_is_no_more_is_lifted() {
        let dir = tempfile::tempdir().unwrap();
        for (file, text) in [
            ("memory.max", "1048576\n"),
            ("memory.high", "max\n"),
            ("pids.max", "7\n"),
            ("io.max", "8:0 rbps=65536 wbps=max riops=max wiops=max\n259:0 rbps=1 wbps=1\n"),
        ] {
            fs::write(dir.path().join(file), text).unwrap();
        }
        let limited = [("memory.high", "5".to_owned()), ("pids.max", "9".to_owned())];
        let lifted = lifted(dir.path(), &limited);
        let words: Vec<String> =
            lifted.iter().map(|(file, value)| format!("{file}: {value}")).collect();
        assert_eq!(
            words,
            [
                "memory.max: max".to_owned(),
                format!("io.max: 8:0 {NO_IO_LIMIT}"),
                format!("io.max: 259:0 {NO_IO_LIMIT}"),
            ]
        );
    }

    #[test]
    fn limits_become_the_kernels_words() {
        let limits = Limits {
            memory_max_mib: Some(2),
            cpu_max_percent: Some(150),
            io_weight: Some(7),
            ..Limits::default()
        };
        let settings = settings(&limits, Some(90));
        let words: Vec<_> = settings.iter().map(|(file, value)| (*file, value.as_str())).collect();
        assert_eq!(
            words,
            [
                ("memory.max", "2097152"),
                ("memory.oom.group", "1"),
                ("cpu.max", "150000 100000"),
                ("pids.max", "90"),
                ("io.weight", "default 7"),
            ]
        );
        assert!(super::settings(&Limits::default(), None).is_empty());
        let own = Limits { pids_max: Some(7), ..Limits::default() };
        assert_eq!(super::settings(&own, Some(90)), [("pids.max", "7".to_owned())]);
    }
}
