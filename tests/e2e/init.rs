//! PID 1 alone, with units that mean it no good: it answers, stays small, never ends, and still ends the
//! board in order. No firmware, no disk, no network: what is tested is one program on the boards' kernel.
//!
//! The guest's clock counts instructions and jumps over times in which nothing happens, so that a slow
//! host changes how long a scenario takes, not what comes out.

use crate::bench::{folder, turn};
use anyhow::{Context, Result, bail};
use goblin_tests::qemu;
use goblin_tests::serial::Serial;
use std::fmt::Write;
use std::path::Path;
use std::process::Child;
use std::time::{Duration, Instant};
use xtask::compile::{self, Lto};
use xtask::initramfs::Initramfs;
use xtask::{host, kernel};

/// Words of the command line of a guest without preinit.
pub(crate) const PID_1_AT_ONCE: &str = "rdinit=/usr/lib/goblin/init";
/// Longest that a phase may take on a slow host.
pub(crate) const PHASE_LIMIT: Duration = Duration::from_secs(600);
/// Longest end of a board by its own clock: units 45 s, what comes after them 33 s (init/README.md).
const END_S_MAX: f64 = 78.0;
/// Restarts that are waited for; all 10,000 of them with the variable below, about a minute more.
const RESTARTS: u32 = 1000;
/// Longest that one of them may take on a slow host.
const RESTART_LIMIT: Duration = Duration::from_millis(200);
/// Names another number of restarts.
const RESTARTS_OVERRIDE: &str = "GOBLIN_RESTARTS";
/// Units that end at once, so that many restarts come about though each of them pauses.
const CRASHERS: usize = 50;
/// Units of the large guest, its judge and the two looked at included.
const MANY: usize = 1000;
/// The program of every unit.
const PROGRAM: &str = "/usr/lib/evil/unit";
/// The shortest pause there is.
const QUICK: &str = "backoff_ms = [200, 200]\n";

/// An initramfs with PID 1 and units of one program.
pub(crate) struct Units {
    pub(crate) root: Initramfs,
}

impl Units {
    pub(crate) fn new() -> Result<Self> {
        let mut root = Initramfs::default();
        for name in ["dev", "proc", "sys", "run", "tmp", "state"] {
            root.dir(name);
        }
        root.file("usr/lib/goblin/init", 0o755, host::read(&compile::init(Lto::Off)?)?);
        let program = host::read(&compile::test_binaries()?.evil_unit)?;
        root.file(PROGRAM.trim_start_matches('/'), 0o755, program);
        let mut units = Self { root };
        // Neither of them ever does anything; one is killed from time to time.
        units.add("canary", &["serve"], "");
        units.add("lazarus", &["serve"], QUICK);
        Ok(units)
    }

    pub(crate) fn add(&mut self, name: &str, words: &[&str], more: &str) {
        self.write(name, "kind = \"service\"\nready = \"start\"\n", words, more);
    }

    pub(crate) fn write(&mut self, name: &str, kind: &str, words: &[&str], more: &str) {
        let words: Vec<&str> = [PROGRAM].into_iter().chain(words.iter().copied()).collect();
        let unit = format!("description = \"Unit {name}\"\nexec = {words:?}\n{kind}{more}");
        self.root.file(&format!("usr/lib/goblin/units/{name}.toml"), 0o644, unit.into());
    }

    pub(crate) fn boot(self, dir: &Path, memory_mib: u32) -> Result<Guest> {
        self.boot_on("-no-reboot", dir, memory_mib)
    }

    /// `machine` are further words of QEMU's.
    pub(crate) fn boot_on(mut self, machine: &str, dir: &Path, memory_mib: u32) -> Result<Guest> {
        let path = dir.join("guest.cpio");
        host::write_whole(&path, &self.root.pack()?)?;
        Guest::start_on(machine, dir, &path, (memory_mib, PID_1_AT_ONCE))
    }
}

pub(crate) struct Guest {
    child: Child,
    pub(crate) serial: Serial,
}

impl Guest {
    /// `more` are further words of the kernel's command line.
    pub(crate) fn start(dir: &Path, initramfs: &Path, memory_mib: u32, more: &str) -> Result<Self> {
        Self::start_on("-no-reboot", dir, initramfs, (memory_mib, more))
    }

    /// `machine` are further words of QEMU's.
    fn start_on(
        machine: &str,
        dir: &Path,
        initramfs: &Path,
        (memory_mib, more): (u32, &str),
    ) -> Result<Self> {
        let memory = memory_mib.to_string();
        let kernel = kernel::bzimage()?.display().to_string();
        let initramfs = initramfs.display().to_string();
        let mut args: Vec<&str> = "-accel tcg -cpu max -M q35 -nodefaults -no-user-config \
            -display none -serial stdio -smp 1 -nic none -icount shift=2,sleep=off"
            .split_whitespace()
            .chain(machine.split_whitespace())
            .collect();
        args.extend(["-m", &memory, "-kernel", &kernel, "-initrd", &initramfs]);
        let append =
            format!("rootfstype=ramfs console=ttyS0 panic=5 quiet loglevel=4 printk.time=1 {more}");
        args.extend(["-append", &append]);
        let args: Vec<String> = args.into_iter().map(String::from).collect();
        let (child, serial) = qemu::spawn(&args, &dir.join("serial.log"))?;
        Ok(Self { child, serial })
    }

    /// Waits until the judge has told of a phase, and fails when it found something.
    pub(crate) fn phase(&self, name: &str) -> Result<()> {
        self.phase_within(name, PHASE_LIMIT)
    }

    fn phase_within(&self, name: &str, limit: Duration) -> Result<()> {
        let (_, line) = self.serial.wait_from(0, &format!("survive: {name} "), limit)?;
        println!("{line}");
        self.no_complaint()?;
        if line.contains(" ok") { Ok(()) } else { bail!("{line}") }
    }

    fn no_complaint(&self) -> Result<()> {
        // PID 1's own panic; what a unit says of itself comes with the unit's name before it.
        let bad = ["FAILED", "Kernel panic", "Attempted to kill init", "goblin-init: panicked"];
        match self.serial.all().iter().find(|line| bad.iter().any(|word| line.contains(word))) {
            Some(line) => bail!("{line}"),
            None => Ok(()),
        }
    }

    /// The board ends in order and in time, though PID 1 is told to many times over.
    pub(crate) fn ends(mut self) -> Result<()> {
        let (from, told) = self.serial.wait_from(0, "survive: end", PHASE_LIMIT)?;
        let (_, done) = self.serial.wait_from(from, "] reboot: ", PHASE_LIMIT)?;
        // PID 1 said much shortly before; its last word is heard all the same. Which of the signals it took
        // first is the kernel's choice.
        let last = ["goblin-init: goes off now", "goblin-init: reboots now"];
        if !self.serial.all().iter().any(|line| last.iter().any(|word| line.contains(word))) {
            bail!("PID 1's last word was not heard");
        }
        if !self.serial.all().iter().any(|line| line.contains(qemu::ALL_UNMOUNTED)) {
            bail!("PID 1 does not say that nothing stayed mounted");
        }
        let took_s = stamp(&done)? - stamp(&told)?;
        println!("the end took {took_s:.1} s by the guest's clock");
        if took_s > END_S_MAX {
            bail!("the end took {took_s:.1} s");
        }
        self.no_complaint()?;
        let until = Instant::now() + PHASE_LIMIT;
        while self.child.try_wait()?.is_none() {
            if Instant::now() > until {
                bail!("PID 1 said `{done}`, but the machine is still on");
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// `[   12.345678] text`
fn stamp(line: &str) -> Result<f64> {
    let inner = line.split_once('[').and_then(|(_, rest)| rest.split_once(']'));
    inner.and_then(|(stamp, _)| stamp.trim().parse().ok()).with_context(|| format!("`{line}`"))
}

#[test]
fn pid_1_survives_what_units_do() -> Result<()> {
    let _turn = turn();
    let dir = folder("init-evil")?;
    let restarts = match std::env::var(RESTARTS_OVERRIDE) {
        Ok(text) => text.parse().with_context(|| format!("{RESTARTS_OVERRIDE}={text}"))?,
        Err(_) => RESTARTS,
    };
    let mut units = Units::new()?;
    units.root.file("usr/lib/evil/restarts", 0o644, restarts.to_string().into());
    units.add("judge", &["judge", "evil"], "restart = \"never\"\n");
    units.write("stubborn", "kind = \"service\"\nready = \"notify\"\n", &["stubborn"], "");
    units.add("bomb", &["bomb"], &format!("{QUICK}[limits]\npids_max = 64\n"));
    units.add("bomb-free", &["bomb"], QUICK);
    units.add("fill", &["fill"], &format!("{QUICK}[limits]\nmemory_max_mib = 32\n"));
    for name in ["fill-all", "flood", "files"] {
        units.add(name, &[name], QUICK);
    }
    for number in 0..CRASHERS {
        units.add(&format!("crash-{number}"), &["crash"], QUICK);
    }
    let guest = units.boot(&dir, 256)?;
    for phase in [
        "quiet",
        "bomb",
        "fill",
        "fill-all",
        "flood",
        "files",
        "descriptors",
        "garbage",
        "state",
        "clock",
    ] {
        guest.phase(phase)?;
    }
    guest.phase_within("crash", PHASE_LIMIT + RESTART_LIMIT * restarts)?;
    guest.phase("storm")?;
    guest.ends()
}

/// PID 1 is held as a debugger holds a program: its loop does not turn, and no signal and no unit can help it.
#[test]
fn a_board_whose_pid_1_hangs_is_reset_by_the_hardware() -> Result<()> {
    let _turn = turn();
    let dir = folder("init-watchdog")?;
    let mut units = Units::new()?;
    let holder = host::read(&compile::escape()?)?;
    units.root.file("usr/lib/evil/escape", 0o755, holder);
    let unit = "description = \"Holds PID 1\"\nkind = \"service\"\nready = \"start\"\n\
        exec = [\"/usr/lib/evil/escape\", \"hold\"]\n";
    units.root.file("usr/lib/goblin/units/holder.toml", 0o644, unit.into());
    let path = dir.join("guest.cpio");
    host::write_whole(&path, &units.root.pack()?)?;
    let machine = "-device i6300esb -action watchdog=reset";
    let guest = Guest::start_on(machine, &dir, &path, (256, PID_1_AT_ONCE))?;
    let (from, held) = guest.serial.wait_from(0, "hold: PID 1 is held", PHASE_LIMIT)?;
    // Not by a panic, and not by PID 1: nobody says anything before the kernel starts anew.
    let (from, _) = guest.serial.wait_from(from, "goblin-init: start", PHASE_LIMIT)?;
    let (_, told) = guest.serial.wait_from(from, "hold: the watchdog had reset", PHASE_LIMIT)?;
    println!("{held}\n{told}");
    let panics = guest.serial.all().iter().any(|line| line.contains("Kernel panic"));
    if panics { bail!("the kernel panicked before the watchdog") } else { Ok(()) }
}

/// preinit itself is held, in the shipped program, as soon as it goes on from arming the watchdog.
#[test]
fn a_board_whose_preinit_hangs_is_reset_by_the_hardware() -> Result<()> {
    let _turn = turn();
    let dir = folder("preinit-watchdog")?;
    let mut root = Initramfs::default();
    for name in ["dev", "proc", "sys", "run", "root"] {
        root.dir(name);
    }
    root.file("init", 0o755, host::read(&compile::init(Lto::Off)?)?);
    root.file("hold", 0o755, host::read(&compile::escape()?)?);
    // That it is there makes the program preinit; it does not come to mount it.
    root.file("base.erofs", 0o644, Vec::new());
    let path = dir.join("guest.cpio");
    host::write_whole(&path, &root.pack()?)?;
    let machine = "-device i6300esb -action watchdog=reset";
    let guest = Guest::start_on(machine, &dir, &path, (256, "rdinit=/hold"))?;
    let (from, held) = guest.serial.wait_from(0, "hold: ", PHASE_LIMIT)?;
    if !held.contains("hold: /init is held, and has the watchdog open") {
        bail!("{held}");
    }
    let (_, told) = guest.serial.wait_from(from, "hold: the watchdog had reset", PHASE_LIMIT)?;
    println!("{held}\n{told}");
    match guest.serial.all().iter().find(|line| line.contains("Kernel panic")) {
        Some(line) => bail!("the kernel panicked before the watchdog: {line}"),
        None => Ok(()),
    }
}

#[test]
fn a_thousand_units_are_a_board_like_any_other() -> Result<()> {
    let _turn = turn();
    let dir = folder("init-many")?;
    let mut units = Units::new()?;
    units.add("judge", &["judge", "many"], "restart = \"never\"\n");
    // A tree: each waits for the one above it; most run to completion.
    for number in 0..MANY.saturating_sub(3) {
        let mut more = String::new();
        if let Some(below) = number.checked_sub(1) {
            writeln!(more, "requires = [\"u{}\"]", below / 2)?;
        }
        let name = format!("u{number}");
        match number % 10 {
            0 => units.add(&name, &["serve"], &more),
            _ => units.write(&name, "kind = \"task\"\n", &["nothing"], &more),
        }
    }
    let guest = units.boot(&dir, 512)?;
    for phase in ["quiet", "many", "storm"] {
        guest.phase(phase)?;
    }
    guest.ends()
}
