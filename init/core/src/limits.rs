//! `[limits]` of a unit: what it may use of the board.
//!
//! Absent keys are no limit, but for three: a unit leaves no core file, the kernel ends it as a whole
//! when its memory is used up, and it may make a quarter of the processes that the board may have. Source: `Documentation/admin-guide/cgroup-v2.rst`, `setrlimit(2)`.

use crate::unit::UnitError;
use serde::{Deserialize, Serialize};

/// Most memory that a unit file may name, in MiB: beyond any board of this kind, a slip of the pen.
const MEMORY_MIB_MAX: u32 = 1 << 20;
/// Most processes and threads: the kernel's own limit of ids.
const PIDS_MAX: u32 = 1 << 22;
/// Most processors' worth of time, in percent of one: 64 of them.
const CPU_PERCENT_MAX: u32 = 6_400;
/// Most open files: above the kernel's `fs.nr_open` a limit cannot be set.
const NOFILE_MAX: u32 = 1 << 20;
/// Fewest open files with which a program of the base can start.
const NOFILE_MIN: u32 = 16;

/// Least bytes a second, in KiB, and least operations a second that a disk may be given to a unit: below them a
/// unit that reads its own program from the disk would not start in time.
const IO_KIB_PER_S_MIN: u32 = 64;
const IO_OPS_PER_S_MIN: u32 = 10;
/// Most of both: beyond any disk, a slip of the pen.
const IO_KIB_PER_S_MAX: u32 = 1 << 25;
const IO_OPS_PER_S_MAX: u32 = 10_000_000;

/// `io_max` of a unit: for each disk of the board by itself. Not for the ones in memory.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct IoMax {
    /// KiB read in a second (`rbps`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub read_kib_per_s: Option<u32>,
    /// KiB written in a second (`wbps`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub write_kib_per_s: Option<u32>,
    /// Read operations in a second (`riops`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub read_ops_per_s: Option<u32>,
    /// Write operations in a second (`wiops`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub write_ops_per_s: Option<u32>,
}

impl IoMax {
    /// The words after `MAJOR:MINOR` in `io.max`; `None` without a limit.
    pub fn words(&self) -> Option<String> {
        let bytes = |kib: Option<u32>| kib.map(|kib| u64::from(kib).saturating_mul(1024));
        let words = [
            ("rbps", bytes(self.read_kib_per_s)),
            ("wbps", bytes(self.write_kib_per_s)),
            ("riops", self.read_ops_per_s.map(u64::from)),
            ("wiops", self.write_ops_per_s.map(u64::from)),
        ];
        // A key that is left out keeps what an earlier start of the unit had set.
        let word = |(key, value): (&str, Option<u64>)| match value {
            Some(value) => format!("{key}={value}"),
            None => format!("{key}=max"),
        };
        let any = words.iter().any(|(_, value)| value.is_some());
        any.then(|| words.map(word).join(" "))
    }
}

/// The limits of a unit. Most units have none, and then they take no room.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OwnLimits(Option<Box<Limits>>);

impl From<Limits> for OwnLimits {
    fn from(limits: Limits) -> Self {
        Self((limits != Limits::NONE).then(|| Box::new(limits)))
    }
}

impl std::ops::Deref for OwnLimits {
    type Target = Limits;

    fn deref(&self) -> &Limits {
        const NONE: &Limits = &Limits::NONE;
        self.0.as_deref().unwrap_or(NONE)
    }
}

/// What a unit may use.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// Memory in MiB beyond which the kernel reclaims and slows the unit down (`memory.high`).
    pub memory_high_mib: Option<u32>,
    /// Memory in MiB beyond which the unit is ended (`memory.max`).
    pub memory_max_mib: Option<u32>,
    /// Share of processor time against other units, 1 to 10000; the kernel's own is 100 (`cpu.weight`).
    pub cpu_weight: Option<u16>,
    /// Most processor time in percent of one processor (`cpu.max`).
    pub cpu_max_percent: Option<u32>,
    /// Most processes and threads (`pids.max`); absent: a quarter of the board's.
    pub pids_max: Option<u32>,
    /// Share of disk time against other units, 1 to 10000 (`io.weight`). Without a scheduler that has
    /// weights it is no more than a wish.
    pub io_weight: Option<u16>,
    /// Most that it may read from and write to each of the board's disks (`io.max`).
    #[serde(default)]
    pub io_max: IoMax,
    /// Whether all of the unit ends when its memory is used up, instead of one process; absent: all.
    pub oom_group: Option<bool>,
    /// Who goes first when the whole board is out of memory: -1000 (never) to 1000 (first).
    pub oom_score_adj: Option<i16>,
    /// Priority, -20 (first) to 19 (last).
    pub nice: Option<i8>,
    /// Open files of one process.
    pub nofile: Option<u32>,
    /// Largest core file in MiB; absent: none is written.
    pub core_mib: Option<u32>,
    /// Memory that one process may lock, in KiB.
    pub memlock_kib: Option<u32>,
}

impl Limits {
    /// What a unit without `[limits]` has.
    const NONE: Self = Self {
        memory_high_mib: None,
        memory_max_mib: None,
        cpu_weight: None,
        cpu_max_percent: None,
        pids_max: None,
        io_weight: None,
        io_max: IoMax {
            read_kib_per_s: None,
            write_kib_per_s: None,
            read_ops_per_s: None,
            write_ops_per_s: None,
        },
        oom_group: None,
        oom_score_adj: None,
        nice: None,
        nofile: None,
        core_mib: None,
        memlock_kib: None,
    };

    /// The first key that only a control group can keep. Shares (`cpu_weight`, `io_weight`) are wishes and not among
    /// them, and what `oom_group` says is of no use without `memory_max_mib`.
    pub fn kept_by_group(&self) -> Option<&'static str> {
        [
            ("limits.memory_high_mib", self.memory_high_mib.is_some()),
            ("limits.memory_max_mib", self.memory_max_mib.is_some()),
            ("limits.cpu_max_percent", self.cpu_max_percent.is_some()),
            ("limits.pids_max", self.pids_max.is_some()),
            ("limits.io_max", self.io_max != IoMax::default()),
        ]
        .into_iter()
        .find_map(|(key, is_set)| is_set.then_some(key))
    }

    /// Refuses what the kernel would refuse, or what no unit could run with.
    ///
    /// # Errors
    /// The first value that is not possible.
    pub fn check(&self, file: &str) -> Result<(), UnitError> {
        let in_range = |key: &'static str, value: Option<i64>, min: i64, max: i64| match value {
            Some(value) if value < min || value > max => Err(UnitError::Value {
                file: file.to_owned(),
                key,
                problem: format!("is {value}, which is not from {min} to {max}"),
                remedy: "write a number of that range or remove the key",
            }),
            _ => Ok(()),
        };
        let memory = i64::from(MEMORY_MIB_MAX);
        let wide = |value: Option<u32>| value.map(i64::from);
        in_range("limits.memory_high_mib", wide(self.memory_high_mib), 1, memory)?;
        in_range("limits.memory_max_mib", wide(self.memory_max_mib), 1, memory)?;
        in_range("limits.cpu_weight", self.cpu_weight.map(i64::from), 1, 10_000)?;
        let percent = i64::from(CPU_PERCENT_MAX);
        in_range("limits.cpu_max_percent", wide(self.cpu_max_percent), 1, percent)?;
        in_range("limits.pids_max", wide(self.pids_max), 1, i64::from(PIDS_MAX))?;
        in_range("limits.io_weight", self.io_weight.map(i64::from), 1, 10_000)?;
        let kib = (i64::from(IO_KIB_PER_S_MIN), i64::from(IO_KIB_PER_S_MAX));
        let ops = (i64::from(IO_OPS_PER_S_MIN), i64::from(IO_OPS_PER_S_MAX));
        for (key, value, (min, max)) in [
            ("limits.io_max.read_kib_per_s", self.io_max.read_kib_per_s, kib),
            ("limits.io_max.write_kib_per_s", self.io_max.write_kib_per_s, kib),
            ("limits.io_max.read_ops_per_s", self.io_max.read_ops_per_s, ops),
            ("limits.io_max.write_ops_per_s", self.io_max.write_ops_per_s, ops),
        ] {
            in_range(key, wide(value), min, max)?;
        }
        in_range("limits.oom_score_adj", self.oom_score_adj.map(i64::from), -1000, 1000)?;
        in_range("limits.nice", self.nice.map(i64::from), -20, 19)?;
        let files = (i64::from(NOFILE_MIN), i64::from(NOFILE_MAX));
        in_range("limits.nofile", wide(self.nofile), files.0, files.1)?;
        in_range("limits.core_mib", wide(self.core_mib), 0, memory)?;
        if let (Some(high), Some(max)) = (self.memory_high_mib, self.memory_max_mib)
            && high > max
        {
            return Err(UnitError::Value {
                file: file.to_owned(),
                key: "limits.memory_high_mib",
                problem: format!("is {high}, above `memory_max_mib` {max}"),
                remedy: "write at most `memory_max_mib`: beyond it the unit is ended before it is slowed",
            });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str) -> Result<(), String> {
        let limits: Limits = toml::from_str(text).map_err(|err| err.message().to_owned())?;
        limits.check("x.toml").map_err(|err| err.to_string())
    }

    #[test]
    fn possible_limits_are_taken() {
        assert_eq!(check(""), Ok(()));
        let all = "memory_high_mib = 64\nmemory_max_mib = 64\ncpu_weight = 50\ncpu_max_percent = 150\n\
            pids_max = 32\nio_weight = 10\noom_group = false\noom_score_adj = -900\nnice = 5\n\
            nofile = 1024\ncore_mib = 0\nmemlock_kib = 64\n[io_max]\nread_kib_per_s = 64\n\
            write_kib_per_s = 1024\nread_ops_per_s = 10\nwrite_ops_per_s = 500";
        assert_eq!(check(all), Ok(()));
    }

    #[test]
    fn no_limits_take_no_room() {
        assert_eq!(Limits::NONE, Limits::default());
        assert_eq!(OwnLimits::from(Limits::default()), OwnLimits::default());
        assert_eq!(*OwnLimits::default(), Limits::default());
        let some = Limits { nice: Some(0), ..Limits::default() };
        assert_eq!(*OwnLimits::from(some.clone()), some);
    }

    #[test]
    fn impossible_limits_are_named() {
        for (text, key) in [
            ("memory_max_mib = 0", "limits.memory_max_mib"),
            ("memory_high_mib = 9\nmemory_max_mib = 8", "limits.memory_high_mib"),
            ("cpu_weight = 0", "limits.cpu_weight"),
            ("cpu_max_percent = 100000", "limits.cpu_max_percent"),
            ("pids_max = 0", "limits.pids_max"),
            ("io_weight = 10001", "limits.io_weight"),
            ("[io_max]\nwrite_kib_per_s = 0", "limits.io_max.write_kib_per_s"),
            ("[io_max]\nread_kib_per_s = 63", "limits.io_max.read_kib_per_s"),
            ("[io_max]\nread_ops_per_s = 9", "limits.io_max.read_ops_per_s"),
            ("[io_max]\nwrite_ops_per_s = 10000001", "limits.io_max.write_ops_per_s"),
            ("oom_score_adj = -1001", "limits.oom_score_adj"),
            ("nice = 20", "limits.nice"),
            ("nofile = 3", "limits.nofile"),
        ] {
            let text = check(text).unwrap_err();
            assert!(text.contains(key), "{text}");
        }
        assert!(check("memory_max = 1").unwrap_err().contains("unknown field"));
        assert!(check("[io_max]\nread_mib = 1").unwrap_err().contains("unknown field"));
    }

    #[test]
    fn a_limit_of_one_way_lifts_the_others() {
        assert_eq!(IoMax::default().words(), None);
        let some = IoMax { write_kib_per_s: Some(2), read_ops_per_s: Some(30), ..IoMax::default() };
        assert_eq!(some.words().as_deref(), Some("rbps=max wbps=2048 riops=30 wiops=max"));
    }
}
