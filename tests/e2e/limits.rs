//! PID 1 alone with units that want more than their limits give, and two disks: the kernel's counters tell that each
//! limit holds, and the disk's own words tell that nothing was mounted any more when the board went off.

use crate::bench::{folder, turn};
use crate::init::{PHASE_LIMIT, Units};
use anyhow::{Context, Result, bail, ensure};
use goblin_core_types::paths;
use goblin_image::gpt::{self, Gpt, Partition};
use goblin_init_core::{seccomp, unit};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Command;

const QUICK: &str = "backoff_ms = [200, 200]\n";
const SLOW: &str = "backoff_ms = [3600000, 3600000]\n";
const DISK_BYTES: u64 = 16 << 20;
/// Superblock of ext4 (`Documentation/filesystems/ext4/super.rst`): where it lies, `s_mnt_count`, `s_state` with its bit
/// for "clean", `s_feature_incompat` with its bit for a journal that waits to be replayed.
const SUPERBLOCK: u64 = 1024;
const MOUNTS: u64 = 0x34;
const STATE: u64 = 0x3a;
const CLEAN: u16 = 1;
const INCOMPATIBLE: u64 = 0x60;
const RECOVER: u16 = 4;

#[test]
fn every_limit_bites_and_disks_are_left_clean() -> Result<()> {
    let _turn = turn();
    let dir = folder("init-limits")?;
    let (bare, kept) = (dir.join("bare.img"), dir.join("kept.img"));
    for disk in [&bare, &kept] {
        std::fs::File::create(disk)?.set_len(DISK_BYTES)?;
    }
    let made = Command::new("mke2fs").args(["-q", "-t", "ext4"]).arg(&kept).status()?;
    ensure!(made.success(), "mke2fs failed");
    let never_mounted = word_at(&kept, MOUNTS)?;

    let mut units = Units::new()?;
    units.add("judge", &["judge", "limits"], "restart = \"never\"\n");
    let mut add = |name: &str, deed: &str, ready: &str, limits: &str| {
        let kind = format!("kind = \"service\"\nready = \"{ready}\"\n");
        // One end of it is enough; only of `crowd` a second start is wanted.
        let backoff = if name == "crowd" { QUICK } else { SLOW };
        units.write(name, &kind, &["limits", deed], &format!("{backoff}[limits]\n{limits}\n"));
    };
    add("spins", "spin", "start", "cpu_max_percent = 5");
    add("swells", "swell", "notify", "memory_high_mib = 8");
    add("bursts", "greedy", "start", "memory_max_mib = 8");
    add("spares", "greedy", "start", "memory_max_mib = 8\noom_group = false");
    add("crowd", "crowd", "notify", "pids_max = 6");
    add("writes", "write", "start", "io_max = { write_ops_per_s = 10, write_kib_per_s = 4096 }");
    let disk = "description = \"The disk\"\nkind = \"mount\"\n[mount]\nwhat = \"/dev/vdb\"\n\
        where = \"/run/disk\"\ntype = \"ext4\"\noptions = \"nosuid\"\n";
    units.root.file("usr/lib/goblin/units/disk.toml", 0o644, disk.into());
    let service = "kind = \"service\"\nready = \"notify\"\n";
    units.write("keeps", service, &["limits", "keep"], "requires = [\"disk\"]\n");

    for (name, write) in [
        ("writes-data", "write_disks = \"data\"\n"),
        ("writes-system", "write_disks = \"system\"\n"),
        ("writes-none", ""),
    ] {
        opens(&mut units, name, write)?;
    }
    let system = dir.join("system.img");
    system_disk(&system)?;

    let drive = |path: &Path| {
        let path = path.display();
        format!(
            " -blockdev driver=file,filename={path},node-name={{}} -device virtio-blk-pci,drive={{}}"
        )
    };
    let machine = format!(
        "-no-reboot{}{}{}",
        drive(&bare).replace("{}", "bare"),
        drive(&kept).replace("{}", "kept"),
        drive(&system).replace("{}", "system")
    );
    let guest = units.boot_on(&machine, &dir, 256)?;
    for phase in ["cpu", "memory-high", "memory-max", "oom-one", "pids", "again", "io", "disks"] {
        guest.phase(phase)?;
    }
    guest.ends()?;

    let mounts = word_at(&kept, MOUNTS)?;
    ensure!(mounts == never_mounted + 1, "the disk was mounted {mounts} times");
    let state = word_at(&kept, STATE)?;
    ensure!(state & CLEAN != 0, "the file system is not clean: {state:#x}");
    let features = word_at(&kept, INCOMPATIBLE)?;
    if features & RECOVER != 0 {
        bail!("the journal was not written back: {features:#x}")
    }
    Ok(())
}

/// With nothing at `/sys` to mount on there is no tree of control groups: nobody is started without the walls that
/// it asks for, and the board is not dark.
#[test]
fn without_control_groups_only_who_needs_none_is_started() -> Result<()> {
    let _turn = turn();
    let dir = folder("init-no-groups")?;
    let mut units = Units::new()?;
    units.root.file("sys", 0o644, Vec::new());
    let serve = |name: &str, units: &mut Units, more: &str| {
        units.write(name, "kind = \"service\"\nready = \"start\"\n", &["serve"], more);
    };
    serve("plain", &mut units, "");
    serve("limited", &mut units, &format!("{QUICK}[limits]\npids_max = 6\n"));
    serve("walled", &mut units, &format!("{QUICK}[sandbox]\n"));
    serve("lamp", &mut units, "even_unguarded = true\n[limits]\npids_max = 6\n");
    let guest = units.boot(&dir, 256)?;
    for (phase, said) in [
        ("limited back-off", "nothing keeps `limits.pids_max`"),
        ("walled back-off", "nothing keeps `sandbox`"),
        ("plain ready", ""),
        ("lamp ready", ""),
    ] {
        let begins = format!("goblin-init: {phase}");
        let (_, line) = guest.serial.wait_from(0, &begins, PHASE_LIMIT)?;
        ensure!(line.contains(said), "{line}");
        println!("{line}");
    }
    let started = |line: &&String| {
        ["limited", "walled"]
            .iter()
            .any(|unit| line.contains(&format!("goblin-init: {unit} ready")))
    };
    match guest.serial.all().iter().find(started) {
        Some(line) => bail!("started without what it asks for: {line}"),
        None => Ok(()),
    }
}

/// A unit in the board's own tree of mounts, as those are that mount disks for the board.
fn opens(units: &mut Units, name: &str, write: &str) -> Result<()> {
    let walls = format!(
        "[sandbox]\nuser = \"root\"\nmounts = \"host\"\n\
         seccomp = [\"@basic-io\", \"@file-write\", \"@mount\"]\n{write}"
    );
    let service = "kind = \"service\"\nready = \"start\"\n";
    units.write(name, service, &["limits", "open"], &format!("{QUICK}{walls}"));
    let text = format!("description = \"d\"\n{service}exec = [\"/x\"]\n{walls}");
    let sandbox = unit::parse(name, &text)?.sandbox.context("no sandbox")?;
    let list = format!("{}/{name}.bpf", seccomp::FOLDER);
    units.root.file(list.trim_start_matches('/'), 0o644, seccomp::compile(&sandbox));
    Ok(())
}

/// A disk with a partition for the boot record.
fn system_disk(path: &Path) -> Result<()> {
    let sectors = DISK_BYTES / gpt::SECTOR_BYTES;
    let record = Partition {
        number: 1,
        type_guid: gpt::TYPE_RECORD,
        unique_guid: gpt::TYPE_STATE,
        first_lba: 2048,
        last_lba: 4095,
        attributes: 0,
        name: paths::PART_RECORD.into(),
    };
    let table = Gpt::new(gpt::TYPE_STATE, sectors, vec![record])?;
    let mut disk = std::fs::File::create(path)?;
    disk.set_len(DISK_BYTES)?;
    table.write(&mut disk)?;
    Ok(())
}

/// Two bytes of the superblock, little endian.
fn word_at(disk: &Path, offset: u64) -> Result<u16> {
    let mut bytes = [0; 2];
    let file = std::fs::File::open(disk)?;
    file.read_exact_at(&mut bytes, SUPERBLOCK + offset).context("the disk is too short")?;
    Ok(u16::from_le_bytes(bytes))
}
