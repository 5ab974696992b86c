//! The machine of every measured guest: one processor whose clock counts instructions, no disk, no network.

use crate::image;
use anyhow::Result;
use goblin_tests::qemu;
use goblin_tests::serial::Serial;
use std::path::Path;
use std::process::Child;

/// 2^SHIFT nanoseconds of virtual time for one instruction.
const SHIFT: u32 = 2;
/// Memory of every measured guest.
const MEMORY_MIB: u32 = 1024;
/// What every guest's command line ends with: marks are warnings or worse, stamped by the kernel. Where
/// things lie in memory costs instructions too, so it is the same each time.
const APPEND: &str = "loglevel=5 printk.time=1 nokaslr norandmaps";

/// Starts a guest; `append` are further words of its kernel's command line.
///
/// # Errors
/// When QEMU cannot be started, or the log cannot be written.
pub(super) fn start(
    kernel: &Path,
    initramfs: &Path,
    append: &str,
    log: &Path,
) -> Result<(Child, Serial)> {
    // The log is appended to; only this run's lines are of use.
    let _ = std::fs::remove_file(log);
    let append = format!("{} {append} {APPEND}", image::CMDLINE);
    let icount = format!("shift={SHIFT},sleep=off");
    let memory = MEMORY_MIB.to_string();
    let (kernel, initramfs) = (kernel.display().to_string(), initramfs.display().to_string());
    let mut args: Vec<&str> =
        "-accel tcg -cpu max -M q35 -nodefaults -no-user-config -display none \
        -device bochs-display -serial stdio -no-reboot -smp 1 -seed 1 \
        -rtc base=2026-01-01,clock=vm -nic none"
            .split_whitespace()
            .collect();
    args.extend(["-icount", &icount, "-m", &memory, "-kernel", &kernel, "-initrd", &initramfs]);
    args.extend(["-append", &append]);
    let args: Vec<String> = args.into_iter().map(String::from).collect();
    qemu::spawn(&args, log)
}

/// Millions of instructions in so many seconds of virtual time.
pub(super) fn mi(seconds: f64) -> f64 {
    seconds * 1e9 / f64::from(1 << SHIFT) / 1e6
}
