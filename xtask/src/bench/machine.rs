//! The machine of every measured guest: one processor whose clock counts instructions, no disk, no network.

use crate::image;
use anyhow::Result;
use goblin_tests::qemu;
use goblin_tests::serial::Serial;
use std::path::Path;
use std::process::Child;

/// 2^SHIFT nanoseconds of virtual time for one instruction.
const SHIFT: u32 = 2;
/// Memory of a guest that has little in it.
const MEMORY_MIB: u32 = 1024;
/// What every guest's command line ends with. Where things lie in memory costs instructions too, so it is the same
/// each time.
const APPEND: &str = "nokaslr norandmaps";
/// Marks are warnings or worse, stamped by the kernel.
const MARKS: &str = "loglevel=5 printk.time=1";

/// What a guest is made of.
#[derive(Debug)]
pub(crate) struct Machine<'a> {
    pub(crate) kernel: &'a Path,
    pub(crate) initramfs: &'a Path,
    pub(crate) command_line: &'a str,
    pub(crate) memory_mib: u32,
    /// QEMU's `-cpu`.
    pub(crate) processor: &'a str,
}

/// Starts a guest with a board's command line; `append` are further words of it.
///
/// # Errors
/// As [`start`].
pub(super) fn start_board(
    kernel: &Path,
    initramfs: &Path,
    append: &str,
    log: &Path,
) -> Result<(Child, Serial)> {
    let command_line = format!("{} {append} {MARKS}", image::CMDLINE);
    let machine = Machine {
        kernel,
        initramfs,
        command_line: &command_line,
        memory_mib: MEMORY_MIB,
        processor: "max",
    };
    start(&machine, log)
}

/// Starts a guest.
///
/// # Errors
/// When QEMU cannot be started, or the log cannot be written.
pub(crate) fn start(machine: &Machine<'_>, log: &Path) -> Result<(Child, Serial)> {
    // The log is appended to; only this run's lines are of use.
    let _ = std::fs::remove_file(log);
    let append = format!("{} {APPEND}", machine.command_line);
    let icount = format!("shift={SHIFT},sleep=off");
    let memory = machine.memory_mib.to_string();
    let (kernel, initramfs) =
        (machine.kernel.display().to_string(), machine.initramfs.display().to_string());
    let mut args: Vec<&str> = "-accel tcg -M q35 -nodefaults -no-user-config -display none \
        -device bochs-display -serial stdio -no-reboot -smp 1 -seed 1 \
        -rtc base=2026-01-01,clock=vm -nic none"
        .split_whitespace()
        .collect();
    args.extend(["-cpu", machine.processor, "-icount", &icount, "-m", &memory]);
    args.extend(["-kernel", &kernel, "-initrd", &initramfs, "-append", &append]);
    let args: Vec<String> = args.into_iter().map(String::from).collect();
    qemu::spawn(&args, log)
}

/// Millions of instructions in so many seconds of virtual time.
pub(super) fn mi(seconds: f64) -> f64 {
    seconds * 1e9 / f64::from(1 << SHIFT) / 1e6
}
