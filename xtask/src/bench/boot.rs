//! Boot cost in guest instructions. QEMU counts them (`-icount`), and with no block device and no network
//! nothing depends on the host's threads: the figures are the same from run to run, under any load.
//!
//! Three guests with one kernel, one command line and one machine shape:
//!
//! - **ours**: the release's own initramfs, as a compute board that is provisioned. There is no disk to
//!   hold the provisioning file, so the base carries one, and a first unit copies it into STATE (in memory
//!   here). Ready is when every unit of the role is ready but the role checks (`health`): whether they pass
//!   hangs on the other board and on a network, not on instructions. A last unit then prints the mark.
//! - **print-only**: the smallest PID 1 there can be; the floor that the kernel sets.
//! - **systemd**: Debian's, on a minimal root; ready is the same program as a unit after
//!   `multi-user.target`.
//!
//! With `sleep=off` the clock jumps over times in which the guest waits. They are no instructions, and a
//! minimal root waits for things that a whole one has: so both sides' waiting is taken off `ready_mi`, as
//! the guest's kernel counts it, and told in the note.

mod peers;

use super::machine::{self, mi};
use super::table::{Row, publish};
use crate::image::{self, Addition, ReleaseSpec};
use crate::{compile, host, kernel, provision, setup};
use anyhow::{Context, Result, bail};
use goblin_core_types::{Version, paths};
use goblin_tests::serial::Serial;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Longest a guest may take from one mark to the next, on a slow host.
const LIMIT: Duration = Duration::from_secs(300);
/// The line of the smallest PID 1, and of the last unit of the other guests.
const PRINTED: &str = "print-only: ready";
/// The last line of that unit.
const COUNTED: &str = "print-only: end";
/// Units of a compute board; `health` is told about in the module's words.
const UNITS: [&str; 13] = [
    "state",
    "provision",
    "disks",
    "net",
    "time",
    "control",
    "channel",
    "mount",
    "update",
    "console",
    "devices",
    "journal",
    "dbus",
];
/// Where the measured base carries the provisioning file.
const SEED_FILE: &str = "/usr/lib/goblin/measured.toml";
/// The program that copies it.
const SEED_PROGRAM: &str = "/usr/lib/goblin/print-only";

/// A guest to measure.
struct Guest<'a> {
    name: &'a str,
    initramfs: PathBuf,
    /// Further words of the command line.
    append: &'a str,
    /// Each mark is passed once all of its lines were printed.
    marks: Vec<Vec<String>>,
}

/// What a guest left.
struct Boot {
    /// Millions of instructions at each mark.
    marks: Vec<f64>,
    /// Seconds in which the guest had nothing to do until its last unit; the smallest PID 1 does not say.
    idle_s: f64,
    /// Services that the systemd guest ran at the end.
    services: usize,
}

impl Boot {
    fn idle_mi(&self) -> f64 {
        mi(self.idle_s)
    }
}

/// Measures and publishes.
///
/// # Errors
/// When a guest does not print its marks.
pub fn run() -> Result<()> {
    setup::ensure(setup::Purpose::Run, false)?;
    let kernel = kernel::bzimage()?;
    let dir = host::target("bench")?;
    let one = |line: &str| vec![line.to_owned()];
    let ready = UNITS.iter().map(|unit| format!("goblin-init: {unit} ready")).collect();
    let ours = Guest {
        name: "goblinux",
        initramfs: ours(&dir)?,
        append: "",
        marks: vec![
            one("goblin-preinit: start"),
            one("goblin-init: start"),
            ready,
            one(PRINTED),
            one(COUNTED),
        ],
    };
    let ours = measure(&kernel, &dir, &ours)?;
    let floor = Guest {
        name: "print-only",
        initramfs: peers::print_only(&dir)?,
        append: "rdinit=/init",
        marks: vec![one(PRINTED)],
    };
    let floor = measure(&kernel, &dir, &floor)?;
    let systemd = Guest {
        name: "systemd",
        initramfs: peers::systemd(&dir)?,
        append: "rdinit=/usr/lib/systemd/systemd",
        marks: vec![one("systemd[1]: "), one(PRINTED), one(COUNTED)],
    };
    let systemd = measure(&kernel, &dir, &systemd)?;
    publish("boot", &rows(&ours, &floor, &systemd)?)
}

fn rows(ours: &Boot, floor: &Boot, systemd: &Boot) -> Result<Vec<Row>> {
    let ([preinit, pid1, units, last, _], [printed], [started, settled, _]) =
        (ours.marks.as_slice(), floor.marks.as_slice(), systemd.marks.as_slice())
    else {
        bail!("a guest left too few marks");
    };
    if units > last {
        bail!("the last unit did not wait for the others");
    }
    let (ready, settled) = (&(last - ours.idle_mi()), &(settled - systemd.idle_mi()));
    let row = |metric, ours: &f64, peer, theirs: &f64, note: &str| {
        Row::new(metric, "Mi instructions", *ours, peer, *theirs, note)
    };
    let same = "same kernel, command line and machine; no disk, no network";
    let counted = format!(
        "ours: {} units of a provisioned compute board ready ({}), first frame on the screen drawn, \
         role checks running but not waited for; systemd: a unit after multi-user.target, {} services \
         running (journal, devices, bus, logins), no network, clock, updater, mounts or screen; waiting \
         taken off: {:.2} s of ours, {:.2} s of systemd's",
        UNITS.len(),
        UNITS.join(" "),
        systemd.services,
        ours.idle_s,
        systemd.idle_s,
    );
    let first = "systemd has no preinit: to its first warning; it says nothing louder before";
    Ok(vec![
        row("preinit_mi", preinit, "print-only", printed, same),
        row("preinit_mi", preinit, "systemd", started, first),
        row("pid1_mi", pid1, "print-only", printed, same),
        row("pid1_mi", pid1, "systemd", started, "to systemd's first warning"),
        row("ready_mi", ready, "print-only", printed, "the floor runs no service at all"),
        row("ready_mi", ready, "systemd", settled, &counted),
    ])
}

/// The release's own initramfs: preinit and the whole base, with a provisioning file in it.
fn ours(dir: &Path) -> Result<PathBuf> {
    let path = dir.join("goblinux.cpio");
    let mut spec = ReleaseSpec::new(Version::new(1, 0, 0), "");
    spec.additions = vec![
        addition(SEED_FILE, 0o644, provisioning(dir)?.into_bytes()),
        addition(SEED_PROGRAM, 0o755, host::read(&compile::test_binaries()?.print_only_init)?),
        addition(&unit_path("seed"), 0o644, seed_unit().into_bytes()),
        addition(&unit_path("last"), 0o644, last_unit().into_bytes()),
        addition(&unit_path("provision"), 0o644, provision_unit()?.into_bytes()),
    ];
    image::write_initramfs(&spec, &path)?;
    Ok(path)
}

fn addition(path: &str, mode: u16, bytes: Vec<u8>) -> Addition {
    Addition { path: path.into(), mode, bytes }
}

fn unit_path(name: &str) -> String {
    format!("{}/{name}.toml", paths::UNITS)
}

/// The compute board's file of a box without a network. Kept, so that the keys in it, and what is computed
/// with them, are the same in each run.
fn provisioning(dir: &Path) -> Result<String> {
    let kept = dir.join("compute.toml");
    if let Ok(text) = std::fs::read_to_string(&kept)
        && goblin_core_config::parse(&text).is_ok()
    {
        return Ok(text);
    }
    let spec = provision::PairSpec {
        box_name: "measured box".into(),
        shares: vec!["home".into()],
        allow_plain_9p: true,
        host_channel: true,
        ..provision::PairSpec::default()
    };
    let pair = provision::make_pair(&spec)?;
    provision::write_secret(&kept, &pair.compute)?;
    Ok(pair.compute)
}

fn seed_unit() -> String {
    format!(
        "description = \"Provisioning file of a measured guest\"\nkind = \"task\"\n\
         exec = [\"{SEED_PROGRAM}\", \"--copy\", \"{SEED_FILE}\", \"{}\"]\nrequires = [\"state\"]\n",
        paths::PROVISION
    )
}

fn last_unit() -> String {
    format!(
        "description = \"Mark of a measured guest\"\nkind = \"task\"\n\
         exec = [\"{SEED_PROGRAM}\", \"--once\"]\nafter = {UNITS:?}\n"
    )
}

/// The release's own unit, made to wait for the file.
fn provision_unit() -> Result<String> {
    let path = host::root().join("rootfs/units/provision.toml");
    let text = String::from_utf8(host::read(&path)?).context("a unit is not text")?;
    let own = "after = [\"state\"]";
    if !text.contains(own) {
        bail!("{} no longer has `{own}`: adapt the benchmark", path.display());
    }
    Ok(text.replace(own, "after = [\"state\", \"seed\"]"))
}

/// Starts one guest and follows it to its last mark.
fn measure(kernel: &Path, dir: &Path, guest: &Guest<'_>) -> Result<Boot> {
    host::say(format!("measuring {} (half a minute to two)", guest.name));
    let log = dir.join(format!("boot-{}.log", guest.name));
    let (mut child, serial) = machine::start_board(kernel, &guest.initramfs, guest.append, &log)?;
    let boot = follow(&serial, &guest.marks);
    let _ = child.kill();
    let _ = child.wait();
    boot.with_context(|| format!("the {} guest; its log is {}", guest.name, log.display()))
}

fn follow(serial: &Serial, marks: &[Vec<String>]) -> Result<Boot> {
    let mut found = Vec::new();
    for mark in marks {
        let mut last: f64 = 0.0;
        for line in mark {
            let (_, line) = serial.wait_from(0, line, LIMIT)?;
            last = last.max(instructions(&line)?);
        }
        found.push(last);
    }
    let said: Vec<String> = serial
        .all()
        .iter()
        .filter_map(|line| Some(line.split_once("print-only: ")?.1.to_owned()))
        .collect();
    let idle_s = said.iter().find_map(|line| line.strip_prefix("idle ")?.parse().ok());
    // The printing unit is no service of the guest's own.
    let own = |line: &&String| line.starts_with("beside ") && !line.contains("goblin-ready");
    let services = said.iter().filter(own).count();
    Ok(Boot { marks: found, idle_s: idle_s.unwrap_or(0.0), services })
}

/// `[   12.345678] text`: the kernel's clock, which `-icount` ties to instructions.
fn instructions(line: &str) -> Result<f64> {
    let stamp = line
        .split_once('[')
        .and_then(|(_, rest)| rest.split_once(']'))
        .and_then(|(stamp, _)| stamp.trim().parse::<f64>().ok())
        .with_context(|| format!("no time in `{line}`"))?;
    Ok(mi(stamp))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_clock_is_read_as_instructions() {
        assert!((instructions("[    1.500000] goblin-init: ready").unwrap() - 375.0).abs() < 1e-9);
        assert!(instructions("no clock here").is_err());
    }

    #[test]
    fn every_unit_of_the_role_is_waited_for() {
        let dir = host::root().join("rootfs/units");
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_none_or(|extension| extension != "toml") {
                continue;
            }
            let unit: toml::Table = std::fs::read_to_string(&path).unwrap().parse().unwrap();
            let name = path.file_stem().unwrap().to_str().unwrap();
            let roles = unit.get("roles").map(ToString::to_string).unwrap_or_default();
            let here = (roles.is_empty() || roles.contains("compute"))
                && !unit.contains_key("trial_only")
                && !unit.contains_key("gate");
            assert_eq!(UNITS.contains(&name), here, "unit {name}");
        }
        assert!(provision_unit().unwrap().contains("seed"));
    }
}
