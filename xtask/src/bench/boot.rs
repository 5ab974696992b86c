//! Boot cost in guest instructions. QEMU counts them (`-icount`), and with no block device nothing
//! depends on the host's threads: the figures are the same from run to run, under any load.

use super::table::{Row, publish};
use crate::apt::{Closure, Suite, fetch_tree};
use crate::initramfs::Initramfs;
use crate::{compile, host, image, kernel, setup};
use anyhow::{Context, Result, bail};
use goblin_tests::serial::Serial;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

/// 2^SHIFT nanoseconds of virtual time for one instruction.
const SHIFT: u32 = 2;
/// Longest a guest may take on a slow host.
const LIMIT: Duration = Duration::from_secs(300);
/// Memory of every measured guest.
const MEMORY_MIB: u32 = 1024;
/// The line of the smallest PID 1, and of the last unit of the systemd guest.
const PRINTED: &str = "print-only: ready";

struct Guest<'a> {
    name: &'a str,
    initramfs: PathBuf,
    append: &'a str,
    marks: &'a [&'a str],
}

/// Measures and publishes.
///
/// # Errors
/// When a guest does not print its marks.
pub fn run() -> Result<()> {
    setup::ensure(setup::Purpose::Run, false)?;
    let kernel = kernel::bzimage()?;
    let dir = host::target("bench")?;
    let ours = run_guest(
        &kernel,
        &dir,
        &Guest {
            name: "goblinux",
            initramfs: ours(&dir)?,
            append: image::CMDLINE,
            marks: &["goblin-preinit: start", "goblin-init: start", "goblin-init: ready"],
        },
    )?;
    let floor = run_guest(
        &kernel,
        &dir,
        &Guest {
            name: "print-only",
            initramfs: floor(&dir)?,
            append: "rdinit=/init",
            marks: &[PRINTED],
        },
    )?;
    let systemd = run_guest(
        &kernel,
        &dir,
        &Guest {
            name: "systemd",
            initramfs: systemd(&dir)?,
            append: "rdinit=/usr/lib/systemd/systemd",
            marks: &["systemd[1]: Detected architecture", PRINTED],
        },
    )?;
    publish("boot", &rows(&ours, &floor, &systemd)?)
}

fn rows(ours: &[f64], floor: &[f64], systemd: &[f64]) -> Result<Vec<Row>> {
    let ([preinit, pid1, ready], [printed], [started, settled]) = (ours, floor, systemd) else {
        bail!("a guest left too few marks");
    };
    let row = |metric, ours: &f64, peer, theirs: &f64, note| {
        Row::new(metric, "Mi instructions", *ours, peer, *theirs, note)
    };
    let note = "same kernel, no block device, icount: exact";
    Ok(vec![
        row("preinit_mi", preinit, "print-only", printed, note),
        row("preinit_mi", preinit, "systemd", started, "systemd has no preinit: its first line"),
        row("pid1_mi", pid1, "print-only", printed, note),
        row("pid1_mi", pid1, "systemd", started, "to systemd's own first line"),
        row("ready_mi", ready, "print-only", printed, note),
        row("ready_mi", ready, "systemd", settled, "minimal root: a unit after multi-user.target"),
    ])
}

/// The release's own initramfs: preinit and the whole base.
fn ours(dir: &Path) -> Result<PathBuf> {
    let path = dir.join("goblinux.cpio");
    image::write_initramfs(&path)?;
    Ok(path)
}

fn floor(dir: &Path) -> Result<PathBuf> {
    let mut initramfs = Initramfs::default();
    initramfs.dir("dev").file(
        "init",
        0o755,
        host::read(&compile::test_binaries()?.print_only_init)?,
    );
    write(dir, "print-only", &mut initramfs)
}

fn systemd(dir: &Path) -> Result<PathBuf> {
    let packages =
        ["systemd", "udev", "dbus", "base-files", "base-passwd", "util-linux", "libc-bin"];
    let (tree, _) = fetch_tree(&packages, Suite::Trixie, Closure::WithDependencies)?;
    let mut initramfs = Initramfs::default();
    initramfs.folder(&tree, &|name| {
        ![
            "usr/share/doc",
            "usr/share/man",
            "usr/share/locale",
            "usr/share/perl",
            "usr/share/info",
            "boot",
        ]
        .iter()
        .any(|skipped| name.starts_with(skipped))
    })?;
    for (name, target) in
        [("bin", "usr/bin"), ("sbin", "usr/sbin"), ("lib", "usr/lib"), ("lib64", "usr/lib64")]
    {
        if std::fs::symlink_metadata(tree.join(name)).is_err() {
            initramfs.link(name, target);
        }
    }
    for name in ["dev", "proc", "sys", "run", "tmp", "root"] {
        if !tree.join(name).exists() {
            initramfs.dir(name);
        }
    }
    let passwd = "root:x:0:0:root:/root:/bin/sh\nmessagebus:x:100:100::/:/usr/sbin/nologin\n\
        systemd-network:x:998:998::/:/usr/sbin/nologin\n";
    let group = "root:x:0:\nmessagebus:x:100:\ntty:x:5:\ndisk:x:6:\nkmem:x:15:\ndialout:x:20:\n\
        audio:x:29:\nvideo:x:44:\nsystemd-journal:x:997:\nsystemd-network:x:998:\n";
    let unit = "[Unit]\nAfter=multi-user.target\n[Service]\nType=oneshot\n\
        ExecStart=/usr/lib/print-only --once\n[Install]\nWantedBy=multi-user.target\n";
    initramfs
        .file("etc/passwd", 0o644, passwd.into())
        .file("etc/group", 0o644, group.into())
        .file("etc/machine-id", 0o444, b"0123456789abcdef0123456789abcdef\n".to_vec())
        .file("usr/lib/print-only", 0o755, host::read(&compile::test_binaries()?.print_only_init)?)
        .file("usr/lib/systemd/system/goblin-ready.service", 0o644, unit.into())
        .dir("etc/systemd/system/graphical.target.wants")
        .link("etc/systemd/system/default.target", "/usr/lib/systemd/system/goblin-ready.target")
        .file(
            "usr/lib/systemd/system/goblin-ready.target",
            0o644,
            b"[Unit]\nRequires=multi-user.target goblin-ready.service\nAfter=multi-user.target\n"
                .to_vec(),
        );
    write(dir, "systemd", &mut initramfs)
}

fn write(dir: &Path, name: &str, initramfs: &mut Initramfs) -> Result<PathBuf> {
    let path = dir.join(format!("{name}.cpio"));
    host::write_whole(&path, &initramfs.pack()?)?;
    Ok(path)
}

/// Starts one guest and gives, for each mark, the millions of instructions since the kernel started.
fn run_guest(kernel: &Path, dir: &Path, guest: &Guest<'_>) -> Result<Vec<f64>> {
    println!("measuring {} ...", guest.name);
    let append = format!("{} console=ttyS0 loglevel=5 printk.time=1", guest.append);
    let mut child = Command::new("qemu-system-x86_64")
        .args(["-accel", "tcg", "-cpu", "max", "-M", "q35", "-nodefaults", "-no-user-config"])
        .args(["-display", "none", "-vga", "none", "-serial", "stdio", "-no-reboot", "-smp", "1"])
        .args(["-icount", &format!("shift={SHIFT},sleep=off"), "-rtc", "base=2026-01-01,clock=vm"])
        .args(["-m", &MEMORY_MIB.to_string()])
        .arg("-kernel")
        .arg(kernel)
        .arg("-initrd")
        .arg(&guest.initramfs)
        .args(["-append", &append])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot start qemu-system-x86_64: run cargo xtask setup")?;
    let log = dir.join(format!("boot-{}.log", guest.name));
    let _ = std::fs::remove_file(&log);
    let serial = Serial::follow(child.stdout.take().context("QEMU has no output")?, &log)?;
    let marks = collect(&serial, guest.marks);
    let _ = child.kill();
    let _ = child.wait();
    marks.with_context(|| format!("the {} guest; its log is {}", guest.name, log.display()))
}

fn collect(serial: &Serial, marks: &[&str]) -> Result<Vec<f64>> {
    let mut from = 0;
    let mut found = Vec::new();
    for mark in marks {
        let (next, line) = serial.wait_from(from, mark, LIMIT)?;
        from = next;
        found.push(instructions(&line)?);
    }
    Ok(found)
}

/// `[   12.345678] text`: the kernel's clock, which `-icount` ties to instructions.
fn instructions(line: &str) -> Result<f64> {
    let stamp = line
        .split_once('[')
        .and_then(|(_, rest)| rest.split_once(']'))
        .and_then(|(stamp, _)| stamp.trim().parse::<f64>().ok())
        .with_context(|| format!("no time in `{line}`"))?;
    Ok(stamp * 1e9 / f64::from(1 << SHIFT) / 1e6)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_clock_is_read_as_instructions() {
        assert!((instructions("[    1.500000] goblin-init: ready").unwrap() - 375.0).abs() < 1e-9);
        assert!(instructions("no clock here").is_err());
    }
}
