//! Units that want more than their limits give, and the judge that asks the kernel's counters whether the limits
//! held: `survive: NAME ok ..` or `survive: NAME FAILED: why`.

use crate::judge::{self, Phase, unit};
use crate::look::{self, LOOK, PATIENCE, ready, wait_for};
use crate::park;
use goblin_core_types::UnitStatus;
use rustix::fs::{Mode, OFlags};
use rustix::process::{Pid, Signal};
use std::io::{self, Write};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

type Judged = Result<String, Box<dyn std::error::Error>>;

/// Where the units' groups are.
const GROUPS: &str = "/sys/fs/cgroup/units";
/// The disk that is written to, and what lies on the other one.
const DISK: &str = "/dev/vda";
const ON_DISK: &str = "/run/disk/kept";
/// What became of the greedy child of `spares`.
const SPARED: &str = "/run/spared";
/// Times that a limit of processor time is to be seen biting.
const THROTTLED_MIN: u64 = 5;
/// Processes of `crowd`, as its file says.
const PIDS_MAX: u64 = 6;
/// Memory of `swells` in MiB: three times what its file says.
const SWOLLEN_MIB: usize = 24;
/// Operations a second of `writes`, as its file says.
const OPS_PER_S: f64 = 10.0;
/// Time over which they are counted, by the guest's clock, and how many may come at once in it.
const COUNTED: Duration = Duration::from_secs(5);
const OPS_AT_ONCE: f64 = 10.0;
/// Bytes of each.
const BLOCK_BYTES: usize = 4096;

/// What a unit that may open disks tries to open, to write and to read, in this order; with what it is told of it.
const OPENED: [(&str, bool); 6] = [
    ("/dev/vda", true),
    ("/dev/vdc", true),
    ("/dev/vdc1", true),
    ("/dev/vdc1", false),
    ("/dev/kmsg", true),
    ("/dev/null", true),
];
/// The same of those that may write to data disks, to the system's, which is the third one here, and to none.
const MAY_OPEN: [(&str, &str); 3] = [
    ("writes-data", "ok 1 1 ok 1 ok"),
    ("writes-system", "1 ok ok ok 1 ok"),
    ("writes-none", "1 1 1 1 1 ok"),
];

const LOOKS: [Phase; 8] = [
    ("cpu", cpu),
    ("memory-high", memory_high),
    ("memory-max", memory_max),
    ("oom-one", oom_one),
    ("pids", pids),
    ("again", again),
    ("io", disk),
    ("disks", disks),
];

/// Looks at everything, then ends the board.
pub(crate) fn judge() {
    look::all(&LOOKS)
}

/// What a unit of this guest does.
pub(crate) fn act(words: &[&str]) {
    let done = match words {
        ["spin"] => spin(),
        ["swell"] => swell(),
        ["swell-child"] => {
            crate::fill(0);
            Ok(())
        }
        ["greedy"] => greedy(),
        ["crowd"] => crowd(),
        ["write"] => write(),
        ["keep"] => keep(),
        ["open"] => open(),
        other => Err(io::Error::other(format!("no such deed: {other:?}"))),
    };
    if let Err(err) = done {
        eprintln!("{err}");
        std::process::exit(1)
    }
}

fn spin() -> ! {
    loop {
        std::hint::spin_loop();
    }
}

/// Holds more than it should, and lives: the kernel makes it wait longer and longer for each piece.
fn swell() -> io::Result<()> {
    goblin_sys::notify::ready();
    let mut held: Vec<Vec<u8>> = Vec::new();
    for number in 0..SWOLLEN_MIB {
        held.push(vec![number as u8 | 1; 1 << 20]);
    }
    loop {
        std::thread::park();
        std::hint::black_box(&held);
    }
}

fn child(words: &[&str]) -> io::Result<Child> {
    Command::new("/proc/self/exe").args(words).spawn()
}

/// Its child takes all memory; it tells what became of it, if it lives to tell.
fn greedy() -> io::Result<()> {
    let ended = child(&["limits", "swell-child"])?.wait()?;
    std::fs::write(SPARED, format!("{:?}", ended.signal()))?;
    park()
}

/// Starts processes until it is refused.
fn crowd() -> io::Result<()> {
    let mut children = Vec::new();
    let refused = loop {
        match child(&["serve"]) {
            Ok(child) => children.push(child),
            Err(err) => break err,
        }
    };
    eprintln!("{} processes: {refused}", children.len());
    goblin_sys::notify::ready();
    park()
}

/// Writes to the disk, one block after the other and past every cache.
fn write() -> io::Result<()> {
    #[repr(align(4096))]
    struct Block([u8; BLOCK_BYTES]);
    let flags = OFlags::WRONLY | OFlags::DIRECT | OFlags::CLOEXEC;
    let disk = rustix::fs::open(DISK, flags, Mode::empty())?;
    let block = Block([7; BLOCK_BYTES]);
    loop {
        rustix::io::pwrite(&disk, &block.0, 0)?;
    }
}

/// Writes to a file of the mounted disk for as long as it may.
fn keep() -> io::Result<()> {
    let mut file = std::fs::File::create(ON_DISK)?;
    goblin_sys::notify::ready();
    loop {
        file.write_all(&[1; BLOCK_BYTES])?;
        std::thread::sleep(LOOK);
    }
}

/// Tells which devices it can open.
fn open() -> io::Result<()> {
    let word = |(path, write): (&str, bool)| {
        let access = if write { OFlags::RDWR } else { OFlags::RDONLY };
        match rustix::fs::open(path, access | OFlags::CLOEXEC, Mode::empty()) {
            Ok(_) => "ok".to_owned(),
            Err(err) => err.raw_os_error().to_string(),
        }
    };
    let unit = std::env::var("GOBLIN_UNIT").unwrap_or_default();
    std::fs::write(opened_by(&unit), OPENED.map(word).join(" "))?;
    park()
}

fn opened_by(unit: &str) -> String {
    format!("{}/{unit}/opened", goblin_core_types::paths::RUN_STATE)
}

fn read(unit: &str, file: &str) -> io::Result<String> {
    std::fs::read_to_string(format!("{GROUPS}/{unit}/{file}"))
}

/// The number behind a word in a file of a group: `word 7`, or `word=7` among others of a line.
fn counter(unit: &str, file: &str, word: &str) -> Result<u64, Box<dyn std::error::Error>> {
    let text = read(unit, file)?;
    let mut words = text.split([' ', '\n', '=']);
    let found = words.find(|found| *found == word).and_then(|_| words.next());
    let found = found.ok_or_else(|| format!("{file} of {unit} has no `{word}`: {text}"))?;
    Ok(found.trim().parse()?)
}

fn number(unit: &str, file: &str) -> Result<u64, Box<dyn std::error::Error>> {
    Ok(read(unit, file)?.trim().parse()?)
}

/// Waits until a counter has reached a number.
fn reaches(
    unit: &str,
    file: &str,
    word: &str,
    least: u64,
) -> Result<u64, Box<dyn std::error::Error>> {
    let until = Instant::now() + PATIENCE;
    loop {
        // A controller is handed down when the first unit asks for it.
        match counter(unit, file, word) {
            Ok(value) if value >= least => return Ok(value),
            other if Instant::now() > until => {
                return Err(format!("`{word}` of {unit}'s {file} is {other:?}").into());
            }
            _ => std::thread::sleep(LOOK),
        }
    }
}

/// Kills a unit's process.
fn kill(name: &str) -> Result<(), Box<dyn std::error::Error>> {
    let pid = unit(name)?.pid.and_then(|pid| Pid::from_raw(pid.cast_signed()));
    Ok(rustix::process::kill_process(pid.ok_or("no process")?, Signal::KILL)?)
}

/// Never started anew: nothing has ended it.
fn was_spared(name: &str) -> Result<(), Box<dyn std::error::Error>> {
    let found = unit(name)?;
    if found.restarts == 0 && found.pid.is_some() {
        Ok(())
    } else {
        Err(format!("{found:?}").into())
    }
}

fn cpu() -> Judged {
    let times = reaches("spins", "cpu.stat", "nr_throttled", THROTTLED_MIN)?;
    was_spared("spins")?;
    // Its instructions are the guest's time; the rest needs it no more.
    kill("spins")?;
    Ok(format!("stopped {times} times"))
}

/// Beyond `memory.high` a unit is slowed down and not ended.
fn memory_high() -> Judged {
    wait_for("swells", "is not ready", ready)?;
    let times = reaches("swells", "memory.events", "high", 1)?;
    let waited_us = reaches("swells", "memory.pressure", "total", 1)?;
    was_spared("swells")?;
    for word in ["oom", "oom_kill"] {
        if counter("swells", "memory.events", word)? != 0 {
            return Err(read("swells", "memory.events")?.into());
        }
    }
    Ok(format!("{times} times over the mark, waited for {waited_us} us"))
}

/// Beyond `memory.max` a unit is ended as a whole: the one that took the memory is its child.
fn memory_max() -> Judged {
    let groups = reaches("bursts", "memory.events", "oom_group_kill", 1)?;
    // PID 1 hears of it a moment later: the parent, which took nothing, is gone too.
    let killed = |unit: &UnitStatus| unit.pid.is_none() && unit.detail.contains("signal 9");
    wait_for("bursts", "was not killed whole", killed)?;
    let max = counter("bursts", "memory.events", "max")?;
    let killed = counter("bursts", "memory.events", "oom_kill")?;
    if max == 0 || killed < groups * 2 {
        return Err(read("bursts", "memory.events")?.into());
    }
    Ok(format!("{killed} killed in {groups} groups"))
}

/// The same with `oom_group = false`: the child alone.
fn oom_one() -> Judged {
    reaches("spares", "memory.events", "oom_kill", 1)?;
    let until = Instant::now() + PATIENCE;
    while !std::path::Path::new(SPARED).exists() {
        if Instant::now() > until {
            return Err("its parent does not tell".into());
        }
        std::thread::sleep(LOOK);
    }
    let told = std::fs::read_to_string(SPARED)?;
    was_spared("spares")?;
    let groups = counter("spares", "memory.events", "oom_group_kill")?;
    if told != "Some(9)" || groups != 0 {
        return Err(format!("the child's signal is {told}, {groups} groups were killed").into());
    }
    Ok(String::new())
}

fn pids() -> Judged {
    wait_for("crowd", "is not ready", ready)?;
    let times = reaches("crowd", "pids.events", "max", 1)?;
    let (now, peak) = (number("crowd", "pids.current")?, number("crowd", "pids.peak")?);
    if now > PIDS_MAX || peak != PIDS_MAX {
        return Err(format!("{now} processes, once {peak}").into());
    }
    Ok(format!("refused {times} times"))
}

/// A unit that starts anew finds its limits, though nobody writes them again.
fn again() -> Judged {
    let before = unit("crowd")?;
    let refused = counter("crowd", "pids.events", "max")?;
    kill("crowd")?;
    reaches("crowd", "pids.events", "max", refused + 1)?;
    wait_for("crowd", "is not ready", ready)?;
    let limit = read("crowd", "pids.max")?;
    if limit.trim() != PIDS_MAX.to_string() || number("crowd", "pids.current")? > PIDS_MAX {
        return Err(format!("the limit is {limit}").into());
    }
    let after = unit("crowd")?;
    if after.restarts > before.restarts {
        Ok(String::new())
    } else {
        Err(format!("{after:?}").into())
    }
}

/// Of what a unit wants to write, so much reaches the disk as its file says.
fn disk() -> Judged {
    let begun = reaches("writes", "io.stat", "wios", 1)?;
    let at = Instant::now();
    std::thread::sleep(COUNTED);
    let count = counter("writes", "io.stat", "wios")?.saturating_sub(begun);
    let bytes = counter("writes", "io.stat", "wbytes")?;
    let most = at.elapsed().as_secs_f64() * OPS_PER_S + OPS_AT_ONCE;
    was_spared("writes")?;
    if count == 0 || count as f64 > most {
        return Err(format!("{count} operations, at most {most:.0} are allowed").into());
    }
    if bytes < count * BLOCK_BYTES as u64 {
        return Err(format!("{count} operations, {bytes} bytes").into());
    }
    judge::units()?;
    Ok(format!("{count} operations, at most {most:.0}"))
}

/// Who sees all of the board's devices opens those that its file gives.
fn disks() -> Judged {
    for (name, expected) in MAY_OPEN {
        let until = Instant::now() + PATIENCE;
        let told = loop {
            match std::fs::read_to_string(opened_by(name)) {
                Ok(told) if !told.is_empty() => break told,
                _ if Instant::now() > until => return Err(format!("{:?}", unit(name)?).into()),
                _ => std::thread::sleep(LOOK),
            }
        };
        if told != expected {
            return Err(format!("{name}: {OPENED:?}: {told}, not {expected}").into());
        }
    }
    Ok(String::new())
}
