//! `cargo xtask powercut`: what a board finds on its system disk when the power fails at any instant.
//!
//! A compute board under UEFI goes through first boot, a setting, an upgrade, another that falls back, a rollback
//! and a factory reset while QEMU logs each write and flush of its system disk. The log is then replayed onto the flashed disk.
//! Between two flushes a disk may have kept anything, so prefixes, torn requests, lost and overtaking ones
//! are tried. Each disk is looked at without booting it: partition table, boot record, ESP, the releases on
//! it, the loader, the provisioning file. A few are booted, and must still have what was set before.
//!
//! Then each precaution is taken away from the log, one at a time, and the replay has to notice
//! ([`mutants`]).
//!
//! STATE is not looked into: cuts of it, torn superblocks among them, are among the states that are booted.
//!
//! What this does not show: tears inside a sector, sectors damaged beside a write, wrong data read back,
//! and whether STATE's own file system survives, beyond the states that are booted.

mod boots;
mod cuts;
mod disk;
mod fsck;
mod inspect;
mod landmarks;
mod mutants;
mod record;
mod replay;
mod report;

use crate::lab::SYSTEM_DISK_BYTES;
use crate::{host, setup};
use anyhow::{Context, Result, ensure};
use cuts::Depth;
use disk::{Disk, Key};
use goblin_core_manifest::release::Manifest;
use goblin_core_types::{Digest, Version};
use goblin_image::UkiRecipe;
use goblin_tests::writelog::WriteLog;
use inspect::{Expected, Inspector};
use landmarks::Landmarks;
use replay::{Replay, State};
use report::Report;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

/// What the line of the private key begins with, in a provisioning file.
const KEY_LINE: &[u8] = b"board_private = \"";
/// Length of that key in hexadecimal digits.
const KEY_DIGITS: usize = 64;

/// `cargo xtask powercut`
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  cargo xtask powercut              a few hundred states, 4 booted\n  \
    cargo xtask powercut --full       every prefix, every state booted: many hours\n  \
    cargo xtask powercut --full --boots 10\n  \
    cargo xtask powercut --again --seed 7   other choices, the same recording\n\n\
    Writes target/powercut/report.json; disks of failures stay beside it."
)]
pub struct Args {
    /// Look at every prefix and at more choices, and boot every state
    #[arg(long)]
    full: bool,
    /// States to boot for real
    #[arg(long, value_name = "COUNT")]
    boots: Option<usize>,
    /// Where the choices come from
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Replay the recording of the last run
    #[arg(long)]
    again: bool,
    /// Only boot the disk of the last recording as it was before this entry of the log, upgrade it, and look at its
    /// ESP
    #[arg(long, value_name = "ENTRY", conflicts_with_all = ["full", "boots", "again"])]
    at: Option<usize>,
    /// Install missing host packages without asking
    #[arg(long)]
    yes: bool,
}

/// States that a sampled run boots.
const BOOTS_SAMPLED: usize = 4;

/// Files of a run.
#[derive(Debug, Clone)]
struct Places {
    dir: PathBuf,
}

impl Places {
    /// The release repository.
    fn repository(&self) -> PathBuf {
        self.dir.join("www")
    }

    /// The system disk as it was flashed.
    fn before(&self) -> PathBuf {
        self.dir.join("before.img")
    }

    /// The log of its writes.
    fn log(&self) -> PathBuf {
        self.dir.join("writes.log")
    }

    /// Where each phase ends in the log.
    fn phases(&self) -> PathBuf {
        self.dir.join("phases.json")
    }

    /// The disk of a failure.
    fn failure(&self, number: usize) -> PathBuf {
        self.dir.join(format!("failure{number}.img"))
    }
}

/// Copies a disk image, holes and all.
fn copy_sparse(from: &Path, to: &Path) -> Result<()> {
    let mut command = Command::new("cp");
    command.args(["--sparse=always", "--reflink=auto"]).arg(from).arg(to);
    host::output(&mut command, "copying a disk image").map(drop)
}

/// Runs `cargo xtask powercut`.
///
/// # Errors
/// When the recording cannot be made, or any state fails.
pub fn run(args: &Args) -> Result<()> {
    setup::ensure(setup::Purpose::Test, args.yes)?;
    let places = Places { dir: host::target("powercut")? };
    if let Some(entry) = args.at {
        return boots::boot_at(&places, entry);
    }
    let mut report = Report { seed: args.seed, full: args.full, ..Report::default() };
    let began = Instant::now();
    let phases = if args.again {
        record::read_phases(&places)?
    } else {
        std::fs::remove_dir_all(&places.dir)
            .with_context(|| format!("cannot clear {}", places.dir.display()))?;
        record::record(&places)?
    };
    report.seconds.insert("recording", began.elapsed().as_secs());
    let log = WriteLog::open(&places.log())?;
    report.log_entries = log.entries().len() as u64;
    let began = Instant::now();
    let (disk, inspector) = fresh(&places)?;
    let marks = Landmarks::find(&log, &phases, disk, inspector.sealed())?;
    let phases = marks.divide(&phases);
    let states = replay_log(args, &places, &log, &phases, &mut report)?;
    report.seconds.insert("replay", began.elapsed().as_secs());
    let began = Instant::now();
    report.mutants_seen = mutants::run(&log, &marks, args.seed, fresh(&places)?)?;
    report.mutants = report.mutants_seen.len() as u64;
    report.mutants_killed = report.mutants_seen.iter().filter(|m| m.killed).count() as u64;
    report.mutants_seen.iter().for_each(|mutant| host::say(mutant.sentence()));
    report.seconds.insert("mutants", began.elapsed().as_secs());
    report.write(&places.dir.join("report.json"))?;
    let count = args.boots.unwrap_or(if args.full { usize::MAX } else { BOOTS_SAMPLED });
    let began = Instant::now();
    let sample = boots::sample(&states, count, args.seed);
    boots::boot_all(&places, &log, &sample, &mut report)?;
    report.seconds.insert("boots", began.elapsed().as_secs());
    let path = places.dir.join("report.json");
    report.write(&path)?;
    println!("{} of {} mutants noticed", report.mutants_killed, report.mutants);
    println!(
        "{} states ({} cuts, {} flushes), {} booted, {} failed; {}",
        report.states,
        report.examined,
        report.flushes,
        report.booted,
        report.failed,
        path.display()
    );
    for failure in report.failures.iter().take(5) {
        println!("  {failure:?}");
    }
    ensure!(
        report.mutants_killed == report.mutants,
        "the replay is blind to {} precautions",
        report.mutants - report.mutants_killed
    );
    ensure!(report.failed == 0, "{} states failed", report.failed);
    Ok(())
}

fn replay_log(
    args: &Args,
    places: &Places,
    log: &WriteLog,
    phases: &[record::Phase],
    report: &mut Report,
) -> Result<Vec<State>> {
    let (disk, inspector) = fresh(places)?;
    let depth = if args.full { Depth::Full } else { Depth::Sample };
    Replay::new(log, phases, (depth, args.seed), (disk, inspector), report).run(places)
}

/// A fresh copy of the flashed disk, and what judges it.
fn fresh(places: &Places) -> Result<(Disk, Inspector)> {
    let text = String::from_utf8(host::read(&places.dir.join("compute.toml"))?)?;
    let sealed = goblin_core_config::seal(&text)?;
    let disk = Disk::copy_of(&places.before(), &places.dir.join("replay.img"), key(&sealed)?)?;
    ensure!(disk.layout.sectors * 512 == SYSTEM_DISK_BYTES, "a disk of another size");
    let expected = Expected::of(&disk, published(&places.repository())?, sealed)?;
    Ok((disk, Inspector::new(expected)))
}

/// The private key in the provisioning file, and its place in its sector.
fn key(sealed: &[u8]) -> Result<Key> {
    let line = sealed.windows(KEY_LINE.len()).position(|window| window == KEY_LINE);
    let start = line.context("the provisioning file has no key")? + KEY_LINE.len();
    let text = sealed.get(start..start + KEY_DIGITS).context("half a key")?;
    let offset = start % 512;
    // Half of it is enough to know it, should the line cross a sector.
    let text = text.get(..KEY_DIGITS.min(512 - offset)).unwrap_or_default();
    ensure!(text.len() >= 16, "the key's line crosses a sector: name the box otherwise");
    Ok(Key { text: text.into(), offset })
}

/// The digest of every published release's UKI.
fn published(repository: &Path) -> Result<BTreeMap<Version, Digest>> {
    let mut ukis = BTreeMap::new();
    for folder in std::fs::read_dir(repository.join("releases"))? {
        let bytes = host::read(&folder?.path().join("manifest.json"))?;
        let manifest: Manifest<UkiRecipe> = Manifest::parse(&bytes)?;
        ukis.insert(manifest.version, manifest.uki.uki_digest);
    }
    Ok(ukis)
}
