//! The mirror of the system disk: how STATE of two disks is mounted, and the service that makes the second disk,
//! keeps it in step, and takes one in anew that was away.
//!
//! STATE is one btrfs on both; RECORD and ESP are carried over by this service. What each disk holds of STATE is
//! told by the labels of `goblin_core_update::mirror`, which are written before what they tell of.

use crate::PoolError;
use crate::mirror_esp::{self, Files};
use crate::sniff::{
    BTRFS_SUPER_BYTES, BTRFS_SUPERS, Content, classify, is_blank_throughout, samples_of,
};
use crate::state::random_guid;
use crate::state_partition;
use goblin_core_types::{DiskLabel, MirrorState, MirrorStatus, SlotState, paths};
use goblin_core_update::mirror::{self as rules, BootPlan, Standing};
use goblin_core_update::slots;
use goblin_image::disk::{DiskPlan, DiskSpec, ESP_BYTES};
use goblin_sys::block::{self, Disk};
use goblin_sys::mirror::{self as disks, Member};
use goblin_sys::mount::{self, MountFlags};
use goblin_sys::{board, efivar, files, notify, provision, record, state};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const BTRFS: &str = "/usr/bin/btrfs";
/// Patience with the other disk at a boot, before STATE is mounted without it.
const OTHER_WAIT: Duration = Duration::from_secs(5);
const LOOK_AGAIN: Duration = Duration::from_millis(100);
/// Pace of looking after the disks.
const PAUSE: Duration = Duration::from_secs(3);
/// The same where there is nothing to look after: provisioning is done once.
const IDLE_PAUSE: Duration = Duration::from_secs(3600);
/// Kept of what the tool said, in characters.
const MESSAGE_CHARS_MAX: usize = 400;
/// Disks that may be missing from the file system at once; each time a disk is taken in anew and that is cut off
/// leaves one more.
const MISSING_MAX: usize = 16;
/// Serial of the blank disk that is being made the mirror: what is on it is ours.
const MAKING_NOTE: &str = "config/mirror-making";
const NOTE_BYTES_MAX: usize = 256;

fn fresh() -> String {
    random_guid().to_string()
}

fn failed<E: std::fmt::Display>(what: &'static str) -> impl Fn(E) -> PoolError {
    move |err| PoolError::Mirror { what, message: err.to_string() }
}

/// How STATE of this disk is mounted: alone, as ever, or together with the other one. That it is mounted without the
/// other one is written down here, before it is.
pub(crate) fn mount_options(disk: &Disk) -> Result<String, PoolError> {
    let read = PoolError::device(&disk.dev_path, "read");
    let Some(label) = disks::label_of(disk).map_err(read)? else { return Ok(String::new()) };
    let since = Instant::now();
    let find = || disks::other(disk, &label).ok().flatten();
    let mut other = find();
    while other.is_none() && !label.alone && since.elapsed() < OTHER_WAIT {
        std::thread::sleep(LOOK_AGAIN);
        other = find();
    }
    match rules::boot_plan(Some(&label), other.as_ref().map(|other| &other.label)) {
        BootPlan::Single => Ok(String::new()),
        BootPlan::Stop | BootPlan::SendOn => {
            let serial = other.and_then(|other| other.disk.serial);
            Err(PoolError::StaleDisk {
                other: serial.map_or_else(String::new, |s| format!(" {s}")),
            })
        }
        BootPlan::Together => {
            let theirs = other.as_ref().and_then(|o| o.disk.partition(paths::PART_STATE));
            let Some((theirs, other)) = theirs.zip(other.as_ref()) else { return alone(disk) };
            // One that is being filled stands in for one that the file system still misses.
            let degraded = if other.label.making { ",degraded" } else { "" };
            Ok(format!("device={}{degraded}", theirs.dev_path.display()))
        }
        BootPlan::Alone => alone(disk),
    }
}

/// Writes down that STATE of this disk is written without the other one.
pub(crate) fn alone(disk: &Disk) -> Result<String, PoolError> {
    let written = || PoolError::device(&disk.dev_path, "written");
    if let Some(label) = disks::label_of(disk).map_err(written())?
        && let Some(label) = rules::ran_alone(&label, fresh())
    {
        tracing::warn!(
            disk = disk.name,
            "the other system disk is missing: STATE is mounted without it"
        );
        disks::write_label(disk, &label).map_err(written())?;
    }
    Ok("degraded".to_owned())
}

/// Keeps the mirror: makes it on the disk that the provisioning file names, keeps it in step, takes it in anew, and
/// publishes how the disks stand.
///
/// # Errors
/// None at present: whatever is wrong is in the published status, and is tried again.
pub fn run_disks() -> Result<(), PoolError> {
    let mut keeper = Keeper::new();
    notify::ready();
    let mut published = None;
    loop {
        let status = keeper.turn(&mut |status| publish(status, &mut published));
        publish(&status, &mut published);
        std::thread::sleep(if status.state == MirrorState::Single { IDLE_PAUSE } else { PAUSE });
    }
}

fn publish(status: &MirrorStatus, published: &mut Option<MirrorStatus>) {
    if published.as_ref() == Some(status) {
        return;
    }
    notify::status(&status.detail);
    tracing::info!(state = ?status.state, detail = status.detail, "system disks changed");
    match state::write("disks", status) {
        Ok(()) => *published = Some(status.clone()),
        Err(err) => tracing::warn!(%err, "status of the system disks not published"),
    }
}

type Publish<'a> = &'a mut dyn FnMut(&MirrorStatus);

#[derive(Debug)]
struct Keeper {
    /// Serial that the provisioning file names.
    wanted: Option<String>,
    booted: Option<Disk>,
    /// What was seen last, so that sleeping disks are not read for nothing.
    seen: Vec<(String, Option<String>)>,
    label: Option<DiskLabel>,
    other: Option<Member>,
    /// What the mirror's ESP is known to hold.
    brought: Option<Files>,
    status: MirrorStatus,
}

impl Keeper {
    fn new() -> Self {
        let esp = efivar::loader_device_part_uuid();
        let booted = esp.and_then(|esp| block::system_disk(&esp).ok().flatten());
        let label = booted.as_ref().and_then(|disk| disks::label_of(disk).ok().flatten());
        let wanted = provision::load().ok().and_then(|file| file.disk.system_mirror);
        let status = MirrorStatus::default();
        Self { wanted, booted, seen: Vec::new(), label, other: None, brought: None, status }
    }

    fn turn(&mut self, publish: Publish<'_>) -> MirrorStatus {
        let Some(booted) = self.booted.clone() else { return MirrorStatus::default() };
        if self.label.is_none() && self.wanted.is_none() {
            return MirrorStatus::default();
        }
        self.status.booted = booted.serial.clone().unwrap_or_else(|| booted.name.clone());
        match self.look(&booted, publish) {
            Ok((state, detail)) => (self.status.state, self.status.detail) = (state, detail),
            Err(err) => {
                tracing::warn!(%err, "the mirror is not in step");
                self.status.detail = format!("{err}; it is tried again");
                // Whatever stood in the way may have changed what was seen.
                self.seen.clear();
            }
        }
        self.status.other = self.other.as_ref().and_then(|other| other.disk.serial.clone());
        self.status.clone()
    }

    fn look(
        &mut self,
        booted: &Disk,
        publish: Publish<'_>,
    ) -> Result<(MirrorState, String), PoolError> {
        let all = block::disks().map_err(failed("disks cannot be listed"))?;
        let names: Vec<_> =
            all.iter().map(|disk| (disk.name.clone(), disk.serial.clone())).collect();
        let changed = names != self.seen;
        self.seen = names;
        if changed {
            self.relook(booted, &all)?;
        }
        let Some(label) = self.label.clone() else {
            return self.begin(booted, &all, publish);
        };
        let Some(other) = self.other.clone() else {
            if self
                .wanted
                .as_deref()
                .is_some_and(|serial| by_serial(&all, serial, booted).is_some())
            {
                return self.begin(booted, &all, publish);
            }
            let detail = "the other system disk is not there: the board works from this one; a disk that was away \
                          is filled anew when it is put back in";
            return Ok((MirrorState::Alone, detail.into()));
        };
        let serial = other.disk.serial.clone().unwrap_or_else(|| other.disk.name.clone());
        match rules::standing(&label, &other.label) {
            Standing::InStep => {
                self.carry(booted, &other)?;
                Ok((
                    MirrorState::InStep,
                    format!("either of {} and {serial} can be pulled", self.status.booted),
                ))
            }
            Standing::Ahead => {
                self.status.state = MirrorState::Making;
                let why =
                    if other.label.making { "is new here" } else { "was away and missed writes" };
                self.status.detail =
                    format!("disk {serial} {why}: it is filled from {}", self.status.booted);
                publish(&self.status);
                self.fill(booted, &label, other)
            }
            Standing::Split | Standing::Strangers | Standing::Behind => Ok((
                MirrorState::Split,
                format!(
                    "{} and {serial} were each written without the other, and nothing of {serial} is taken: to give it \
                     up, erase it elsewhere and put it back in; to have it instead, start the board with it alone",
                    self.status.booted
                ),
            )),
        }
    }

    /// Disks came or went.
    fn relook(&mut self, booted: &Disk, all: &[Disk]) -> Result<(), PoolError> {
        let there = |disk: &Disk| {
            all.iter().any(|seen| seen.name == disk.name && seen.serial == disk.serial)
        };
        let Some(label) = self.label.clone() else { return Ok(()) };
        if !there(booted) {
            // The base is in memory, STATE goes on on the other disk: that one is the newer from now on.
            if let Some(other) = &mut self.other
                && let Some(alone) = rules::ran_alone(&other.label, fresh())
            {
                disks::write_label(&other.disk, &alone).map_err(failed("label"))?;
                other.label = alone;
            }
            return Err(PoolError::Mirror {
                what: "system disk",
                message: format!("{} does not answer any more", self.status.booted),
            });
        }
        self.other = disks::other(booted, &label).map_err(failed("disks cannot be listed"))?;
        self.brought = None;
        if self.other.is_none() {
            self.set_label(booted, rules::ran_alone(&label, fresh()))?;
        }
        Ok(())
    }

    fn set_label(&mut self, booted: &Disk, label: Option<DiskLabel>) -> Result<(), PoolError> {
        let Some(label) = label else { return Ok(()) };
        disks::write_label(booted, &label).map_err(failed("the label of the system disk"))?;
        self.label = Some(label);
        Ok(())
    }

    /// Makes the named disk one of two, if it may be taken.
    fn begin(
        &mut self,
        booted: &Disk,
        all: &[Disk],
        publish: Publish<'_>,
    ) -> Result<(MirrorState, String), PoolError> {
        let Some(serial) = self.wanted.clone() else {
            return Ok((MirrorState::Single, String::new()));
        };
        let Some(disk) = by_serial(all, &serial, booted) else {
            return Ok((MirrorState::Wanted, format!("disk {serial} is not there")));
        };
        let note = Path::new(paths::STATE).join(MAKING_NOTE);
        let noted =
            files::read_bounded(&note, NOTE_BYTES_MAX).is_ok_and(|n| n == serial.as_bytes());
        if !noted && !is_blank(&disk).map_err(failed("the second disk cannot be read"))? {
            let detail = format!(
                "disk {serial} is not blank and was not touched: erase it elsewhere if nothing on it is needed"
            );
            return Ok((MirrorState::Wanted, detail));
        }
        self.status.state = MirrorState::Making;
        self.status.detail = format!("disk {serial} is made the mirror");
        publish(&self.status);
        files::replace(&note, serial.as_bytes(), 0o600)
            .map_err(failed("the note that the disk is ours"))?;
        let made = partition(&disk)?;
        let label = match self.label.clone() {
            Some(label) => label,
            None => rules::founded(fresh(), fresh()),
        };
        self.set_label(booted, Some(label.clone()))?;
        let theirs = rules::emptied(&label, fresh());
        disks::write_label(&made, &theirs).map_err(failed("the label of the second disk"))?;
        self.other = Some(Member { disk: made, label: theirs });
        self.look(booted, publish)
    }

    /// Takes the other disk in, if it is not yet, and brings it all.
    fn fill(
        &mut self,
        booted: &Disk,
        label: &DiskLabel,
        mut other: Member,
    ) -> Result<(MirrorState, String), PoolError> {
        if !rules::shares_state(label, &other.label) {
            let device = state_of(&other.disk)?;
            let theirs = rules::emptied(label, fresh());
            disks::write_label(&other.disk, &theirs)
                .map_err(failed("the label of the other disk"))?;
            wipe(&device).map_err(failed("STATE of the other disk cannot be emptied"))?;
            btrfs(&["device", "add", "-f", "-K", &device.display().to_string(), paths::STATE])?;
            let (here, there) = rules::taken_in(label, fresh());
            self.set_label(booted, Some(here))?;
            disks::write_label(&other.disk, &there)
                .map_err(failed("the label of the other disk"))?;
            other.label = there;
            self.other = Some(other.clone());
        }
        // Each leaves when what it held has its second copy elsewhere.
        for _ in 0..MISSING_MAX {
            if btrfs(&["device", "remove", "missing", paths::STATE]).is_err() {
                break;
            }
        }
        for gone in strangers(&[state_of(booted)?, state_of(&other.disk)?])? {
            btrfs(&["device", "remove", &gone, paths::STATE])?;
        }
        let convert = ["-dconvert=raid1,soft", "-mconvert=raid1,soft"];
        btrfs(&["balance", "start", convert[0], convert[1], paths::STATE])?;
        if !self.carry(booted, &other)? {
            return Ok((
                MirrorState::Making,
                "the release that runs is not accepted yet; the mirror gets it then".into(),
            ));
        }
        let whole = rules::filled(&other.label);
        disks::write_label(&other.disk, &whole).map_err(failed("the label of the other disk"))?;
        let _ = std::fs::remove_file(Path::new(paths::STATE).join(MAKING_NOTE));
        other.label = whole;
        self.other = Some(other);
        tracing::info!("the mirror of the system disk is whole");
        Ok((MirrorState::InStep, "either disk can be pulled".into()))
    }

    /// Brings record and ESP over; false while nothing is to be brought because a release is not decided yet.
    fn carry(&mut self, booted: &Disk, other: &Member) -> Result<bool, PoolError> {
        disks::carry_record(booted, &other.disk)
            .map_err(failed("the boot record of the mirror"))?;
        let files = mirror_esp::files(Path::new(paths::ESP)).map_err(failed("the ESP"))?;
        if self.brought.as_ref() == Some(&files) {
            return Ok(true);
        }
        if !is_decided() {
            return Ok(false);
        }
        let esp = other.disk.partition(paths::PART_ESP).ok_or_else(|| PoolError::NoPartition {
            disk: other.disk.name.clone(),
            name: paths::PART_ESP,
        })?;
        let place = Path::new(paths::RUN_STATE).join("disks/esp");
        std::fs::create_dir_all(&place).map_err(failed("the mirror's ESP"))?;
        let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
        mount::mount(&esp.dev_path, &place, "vfat", flags, "umask=0077,utf8")
            .map_err(failed("the mirror's ESP cannot be mounted"))?;
        let brought = mirror_esp::bring(Path::new(paths::ESP), &place, &files);
        let left = rustix::mount::unmount(&place, rustix::mount::UnmountFlags::empty());
        brought.map_err(failed("the mirror's ESP"))?;
        left.map_err(failed("the mirror's ESP cannot be let go"))?;
        self.brought = Some(files);
        Ok(true)
    }
}

/// The release that runs is good, and none is armed.
fn is_decided() -> bool {
    let Some(running) = board::release().version else { return false };
    let good = slots::file_name(running, SlotState::Good);
    let pending = record::find()
        .ok()
        .flatten()
        .and_then(|record| record.read().ok())
        .is_none_or(|record| record.pending.is_some());
    !pending && Path::new(paths::ESP).join(paths::ESP_LINUX).join(good).is_file()
}

/// The one other disk with this serial.
fn by_serial(all: &[Disk], serial: &str, booted: &Disk) -> Option<Disk> {
    let mut matching = all
        .iter()
        .filter(|disk| disk.serial.as_deref() == Some(serial) && disk.name != booted.name);
    let found = matching.next().cloned();
    found.filter(|_| matching.next().is_none())
}

fn is_blank(disk: &Disk) -> io::Result<bool> {
    let file = File::open(&disk.dev_path)?;
    let free = disk.partitions.is_empty() && !block::is_in_use(&disk.dev_path)?;
    Ok(free && classify(&samples_of(&file)?) == Content::Blank && is_blank_throughout(&file)?)
}

/// Makes the partitions of a system disk, with nothing in them: no loader yet, so the firmware passes it over.
fn partition(disk: &Disk) -> Result<Disk, PoolError> {
    let broken = failed::<goblin_image::disk::DiskError>("the second disk cannot be laid out");
    let seed = random_guid().0;
    let spec = DiskSpec { esp_bytes: ESP_BYTES, ..DiskSpec::derived(&seed, Vec::new()) };
    let plan = DiskPlan::new(&spec).map_err(&broken)?;
    let open = File::options().read(true).write(true).open(&disk.dev_path);
    let mut device = open.map_err(failed("the second disk cannot be opened"))?;
    plan.write(&mut device, |_| Err(io::ErrorKind::NotFound.into())).map_err(&broken)?;
    device.sync_all().map_err(failed("the second disk cannot be written"))?;
    state_partition::ensure(&disk.dev_path, random_guid())?;
    block::reread_partitions(&device).map_err(failed("partitions of the second disk"))?;
    drop(device);
    let since = Instant::now();
    loop {
        let seen = block::disk(&disk.name).filter(|seen| {
            let names = [paths::PART_ESP, paths::PART_RECORD, paths::PART_STATE];
            names.iter().all(|name| seen.partition(name).is_some_and(|p| p.dev_path.exists()))
        });
        match seen {
            Some(seen) => return Ok(seen),
            None if since.elapsed() > OTHER_WAIT => {
                return Err(PoolError::NoNewPartition { disk: disk.dev_path.clone() });
            }
            None => std::thread::sleep(LOOK_AGAIN),
        }
    }
}

fn state_of(disk: &Disk) -> Result<PathBuf, PoolError> {
    // A partition that was made in this boot has no name yet for the kernel; ours are the only ones there.
    let unnamed = || disk.partitions.iter().rfind(|partition| partition.part_name.is_none());
    let partition = disk.partition(paths::PART_STATE).or_else(unnamed).ok_or_else(|| {
        PoolError::NoPartition { disk: disk.name.clone(), name: paths::PART_STATE }
    })?;
    Ok(partition.dev_path.clone())
}

/// Takes every superblock of a partition away, so that nobody mixes what it held with what is.
fn wipe(device: &Path) -> io::Result<()> {
    let file = File::options().read(true).write(true).open(device)?;
    let length = io::Seek::seek(&mut &file, io::SeekFrom::End(0))?;
    for offset in BTRFS_SUPERS {
        if offset.saturating_add(BTRFS_SUPER_BYTES as u64) <= length {
            file.write_all_at(&[0; BTRFS_SUPER_BYTES], offset)?;
        }
    }
    file.sync_all()
}

/// Numbers of disks that the file system still counts as its own and that are none of `own`.
fn strangers(own: &[PathBuf]) -> Result<Vec<String>, PoolError> {
    let text = btrfs(&["filesystem", "show", paths::STATE])?;
    Ok(parse_strangers(&text, own))
}

/// Lines are `devid N size S used U path P`.
fn parse_strangers(text: &str, own: &[PathBuf]) -> Vec<String> {
    let line = |line: &str| {
        let mut words = line.split_whitespace();
        let id = (words.next()? == "devid").then(|| words.next())??;
        let path = line.rsplit(" path ").next()?.trim();
        (!own.iter().any(|own| own == Path::new(path))).then(|| id.to_owned())
    };
    text.lines().filter_map(line).collect()
}

fn btrfs(words: &[&str]) -> Result<String, PoolError> {
    const WHAT: &str = "STATE of the second system disk";
    let output =
        Command::new(BTRFS).args(words).stdin(Stdio::null()).output().map_err(failed(WHAT))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let said: String = said.split_whitespace().collect::<Vec<_>>().join(" ");
    let said: String = said.chars().take(MESSAGE_CHARS_MAX).collect();
    Err(PoolError::Mirror { what: WHAT, message: format!("btrfs {}: {said}", words.join(" ")) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn disks_that_left_are_told_from_those_that_are_there() {
        let text = "Label: 'goblin-state'  uuid: 4f\n\tTotal devices 3 FS bytes used 1.1MiB\n\
                    \tdevid    1 size 2.99GiB used 352.00MiB path /dev/vda3\n\
                    \tdevid    2 size 2.99GiB used 352.00MiB path /dev/vdb3\n\
                    \tdevid    3 size 0 used 0 path <missing disk> MISSING\n";
        let own = ["/dev/vda3", "/dev/vdc3"].map(PathBuf::from);
        assert_eq!(parse_strangers(text, &own), ["2", "3"]);
    }
}
