//! Looks at a disk as firmware, loader and board will find it, without starting the board.

use super::disk::{Digests, Disk};
use super::fsck;
use crate::host;
use anyhow::{Context, Result, ensure};
use goblin_core_types::{Digest, SlotState, Version, paths, reset_entry_version};
use goblin_core_update::menu;
use goblin_core_update::slots::{self, EspFile, NEW_FILE};
use goblin_image::gpt::GptError;
use goblin_image::record;
use goblin_tests::writelog::SECTOR_BYTES;
use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::process::{Command, Stdio};

/// Files that never change after flashing.
const FIXED_FILES: [&str; 2] = ["EFI/BOOT/BOOTX64.EFI", "loader/loader.conf"];

/// What every state must have.
#[derive(Debug)]
pub(super) struct Expected {
    /// blake3 of each published release's UKI.
    pub(super) ukis: BTreeMap<Version, Digest>,
    /// The provisioning file as it was flashed.
    pub(super) sealed: Vec<u8>,
    fixed: Vec<(&'static str, Digest)>,
}

/// What was durable at the last flush.
#[derive(Debug, Clone, Default)]
pub(super) struct Floor {
    /// Sequence number of the boot record.
    pub(super) sequence: u64,
    /// STATE was in the partition table.
    pub(super) has_state: bool,
    /// The table's copies were both whole.
    pub(super) table_is_whole: bool,
}

/// What lies on the ESP.
#[derive(Debug, Clone, Default)]
pub(super) struct EspView {
    /// What must not be.
    pub(super) problems: Vec<String>,
    /// What a power cut may leave on a FAT file system without harm.
    pub(super) notes: Vec<String>,
    /// The provisioning file is as flashed.
    pub(super) is_offered: bool,
    /// The file the loader boots now.
    pub(super) pick: Option<String>,
    /// The release in it.
    picked: Option<Version>,
    /// The release whose first try is the next boot.
    armed: Option<Version>,
}

/// Reads ESPs, each state once.
#[derive(Debug)]
pub(super) struct Inspector {
    expected: Expected,
    seen: HashMap<u128, EspView>,
}

impl Expected {
    /// Takes what must stay from the flashed disk itself.
    pub(super) fn of(
        disk: &Disk,
        ukis: BTreeMap<Version, Digest>,
        sealed: Vec<u8>,
    ) -> Result<Self> {
        let mut fixed = Vec::new();
        for name in FIXED_FILES {
            fixed.push((name, digest_of(&read_file(disk, name)?)));
        }
        ensure!(read_file(disk, paths::ESP_PROVISION)? == sealed, "flashed with another file");
        Ok(Self { ukis, sealed, fixed })
    }
}

fn digest_of(bytes: &[u8]) -> Digest {
    Digest(*blake3::hash(bytes).as_bytes())
}

/// `disk@@offset`, as mtools names a partition.
fn mtools_name(disk: &Disk) -> String {
    format!("{}@@{}", disk.path.display(), disk.layout.esp.start * SECTOR_BYTES)
}

/// A file of the ESP.
pub(super) fn read_file(disk: &Disk, name: &str) -> Result<Vec<u8>> {
    let out = Command::new("mcopy")
        .args(["-n", "-i", &mtools_name(disk), &format!("::/{name}"), "-"])
        .stdin(Stdio::null())
        .output()
        .context("cannot start mcopy; `cargo xtask setup` installs mtools")?;
    let said = String::from_utf8_lossy(&out.stderr);
    ensure!(out.status.success() && said.trim().is_empty(), "{name}: {}", said.trim());
    Ok(out.stdout)
}

/// Names in a folder of the ESP.
pub(super) fn list(disk: &Disk, folder: &str) -> Result<Vec<String>> {
    let mut command = Command::new("mdir");
    command.args(["-a", "-b", "-i", &mtools_name(disk), &format!("::/{folder}")]);
    let text = host::output(&mut command, "listing a folder of the ESP")?;
    let names = text.lines().filter_map(|line| Path::new(line.trim()).file_name());
    Ok(names.map(|name| name.to_string_lossy().into_owned()).collect())
}

impl Inspector {
    pub(super) fn new(expected: Expected) -> Self {
        Self { expected, seen: HashMap::new() }
    }

    /// The provisioning file as it was flashed.
    pub(super) fn sealed(&self) -> &[u8] {
        &self.expected.sealed
    }

    /// What the disk's durable state demands of every state after it.
    pub(super) fn floor(disk: &Disk) -> Result<Floor> {
        let table = disk.table().ok();
        Ok(Floor {
            sequence: sequence(disk)?,
            has_state: table.as_ref().is_some_and(|t| t.gpt.by_name(paths::PART_STATE).is_some()),
            table_is_whole: table.is_some_and(|t| t.copies == goblin_image::gpt::Copies::Both),
        })
    }

    /// The ESP, and everything that is wrong with the disk.
    pub(super) fn inspect(&mut self, disk: &Disk, floor: &Floor) -> Result<(EspView, Vec<String>)> {
        let mut problems = Vec::new();
        table_problems(disk, floor, &mut problems);
        let newest = newest_record(disk)?;
        let found = newest.sequence;
        if found < floor.sequence {
            problems.push(format!(
                "the boot record fell back to number {found}, {} was flushed",
                floor.sequence
            ));
        }
        let key = disk.digests.esp;
        let view = match self.seen.get(&key) {
            Some(view) => view.clone(),
            None => {
                let view = self.look(disk)?;
                self.seen.insert(key, view.clone());
                view
            }
        };
        problems.extend(view.problems.iter().cloned());
        if let Some(armed) = view.armed
            && newest.record.pending.as_ref().is_none_or(|pending| pending.to != armed)
        {
            // A fall back could not be told from a cut, and would not be explained.
            problems.push(format!("release {armed} is armed, and the boot record does not know"));
        }
        let is_given_up =
            |picked: Version| newest.record.quarantine.iter().any(|known| known.version == picked);
        if let Some(picked) = view.picked.filter(|&picked| is_given_up(picked)) {
            problems.push(format!("the loader starts release {picked}, which was given up"));
        }
        if !view.is_offered && disk.digests.keys.is_empty() {
            problems.push("the provisioning file is gone from the ESP and not in STATE".into());
        }
        Ok((view, problems))
    }

    fn look(&self, disk: &Disk) -> Result<EspView> {
        let mut view = EspView::default();
        let fsck = fsck::check(&disk.esp_path)?;
        view.problems.extend(fsck.damage);
        view.notes.extend(fsck.harmless);
        for (name, wanted) in &self.expected.fixed {
            match read_file(disk, name) {
                Ok(bytes) if digest_of(&bytes) == *wanted => {}
                Ok(_) => view.problems.push(format!("{name} changed")),
                Err(err) => view.problems.push(format!("{err:#}")),
            }
        }
        match read_file(disk, paths::ESP_PROVISION) {
            Ok(bytes) => view.is_offered = bytes == self.expected.sealed,
            Err(err) => view.problems.push(format!("{err:#}")),
        }
        match list(disk, paths::ESP_LINUX) {
            Ok(names) => self.slots(disk, &names, &mut view),
            Err(err) => view.problems.push(format!("{err:#}")),
        }
        match list(disk, paths::ESP_ENTRIES) {
            Ok(names) => entries(disk, &names, &mut view),
            Err(err) => view.problems.push(format!("{err:#}")),
        }
        Ok(view)
    }

    fn slots(&self, disk: &Disk, names: &[String], view: &mut EspView) {
        let files: Vec<EspFile> =
            names.iter().map(|name| EspFile { name: name.clone(), size_bytes: 0 }).collect();
        let slots = slots::slots(&files, Version::new(0, 0, 0));
        let picked = slots::loader_pick(&slots);
        view.picked = picked.map(|slot| slot.version);
        let pick = picked.map(|slot| slot.file.clone());
        if pick.is_none() {
            view.problems.push(format!("nothing to boot among {names:?}"));
        }
        let mut known: Vec<&str> = vec![NEW_FILE];
        for slot in &slots {
            known.push(&slot.file);
            let path = format!("{}/{}", paths::ESP_LINUX, slot.file);
            let digest = read_file(disk, &path).map(|bytes| digest_of(&bytes));
            let wanted = self.expected.ukis.get(&slot.version);
            let wrong = match digest {
                Ok(digest) if Some(&digest) == wanted => continue,
                Ok(_) => "is not the release's bytes".into(),
                Err(err) => format!("cannot be read: {err:#}"),
            };
            let what = if pick.as_deref() == Some(slot.file.as_str()) {
                "what the loader boots"
            } else {
                "the spare release"
            };
            view.problems.push(format!("{what}, {}, {wrong}", slot.file));
        }
        for name in names.iter().filter(|name| !known.contains(&name.as_str())) {
            view.problems.push(format!("unknown file {name} in {}", paths::ESP_LINUX));
        }
        view.pick = pick;
        view.armed = armed(names);
    }
}

/// The entries of the boot menu beside the releases. One that is missing costs nothing but itself; one that is
/// not what its name says could start anything.
fn entries(disk: &Disk, names: &[String], view: &mut EspView) {
    for name in names.iter().filter(|name| *name != menu::NEW_FILE) {
        let folder = paths::ESP_ENTRIES;
        let wanted = reset_entry_version(name).map(menu::entry_text);
        match read_file(disk, &format!("{folder}/{name}")) {
            Ok(bytes) if Some(&bytes[..]) == wanted.as_deref().map(str::as_bytes) => {}
            Ok(_) => view.problems.push(format!("{name} in {folder} is not what its name says")),
            Err(err) => view.problems.push(format!("{err:#}")),
        }
    }
}

fn table_problems(disk: &Disk, floor: &Floor, problems: &mut Vec<String>) {
    match disk.table() {
        Err(GptError::NoTable { .. }) => problems.push("no partition table is whole".into()),
        Err(err) => problems.push(format!("partition table: {err}")),
        Ok(found) => {
            let at = |name: &str| found.gpt.by_name(name).map(|partition| partition.first_lba);
            if at(paths::PART_ESP) != Some(disk.layout.esp.start)
                || at(paths::PART_RECORD) != Some(disk.layout.record.start)
            {
                problems.push("the partition table lost the ESP or the record".into());
            }
            if floor.has_state && floor.table_is_whole && at(paths::PART_STATE).is_none() {
                problems.push("the partition table lost STATE".into());
            }
        }
    }
}

/// The release whose first try is the loader's next boot.
pub(super) fn armed(names: &[String]) -> Option<Version> {
    let files: Vec<EspFile> =
        names.iter().map(|name| EspFile { name: name.clone(), size_bytes: 0 }).collect();
    let slots = slots::slots(&files, Version::new(0, 0, 0));
    let fresh = SlotState::Trial { left: slots::TRIES_MAX, done: 0 };
    slots::loader_pick(&slots).filter(|slot| slot.state == fresh).map(|slot| slot.version)
}

/// Sequence number of the newest whole boot record.
fn sequence(disk: &Disk) -> Result<u64> {
    Ok(newest_record(disk)?.sequence)
}

pub(super) fn newest_record(disk: &Disk) -> Result<record::Decoded> {
    let copy = |offset: u64| {
        disk.read(disk.layout.record.start + offset / SECTOR_BYTES, record::COPY_READ_BYTES)
    };
    Ok(record::decode(&copy(record::COPY_A_OFFSET)?, &copy(record::COPY_B_OFFSET)?))
}

/// True when two states start a board equally.
pub(super) fn state_digest(digests: &Digests) -> (u128, u128, u128, bool) {
    (digests.table, digests.esp, digests.record, digests.keys.is_empty())
}
