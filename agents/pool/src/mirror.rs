//! The mirror of the system disk: how STATE of two disks is mounted, and the service that makes the second disk,
//! keeps it in step, and takes one in anew that was away.
//!
//! STATE is one btrfs on both; RECORD and ESP are carried over by this service. What each disk holds of STATE is
//! told by the labels of `goblin_core_update::mirror`, which are written before what they tell of.

use crate::PoolError;
use crate::esp_twins;
use crate::mirror_disk::{btrfs, by_serial, failed, is_blank, members, partition, state_of, wipe};
use crate::mirror_esp::{self, Files};
use crate::mirror_orders::{self, Wanted};
use crate::plugs::Plugs;
use crate::sniff::{Content, classify, read_samples};
use crate::state::{self as system, random_guid};
use goblin_core_types::{DiskLabel, MirrorState, MirrorStatus, SlotState, paths};
use goblin_core_update::mirror::{self as rules, BootPlan, Standing};
use goblin_core_update::slots;
use goblin_sys::block::{self, Disk, Partition};
use goblin_sys::mirror::{self as disks, Member};
use goblin_sys::mount::{self, MountFlags};
use goblin_sys::{board, clock, files, notify, record, state};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Patience with the other disk at a boot, before STATE is mounted without it.
const OTHER_WAIT: Duration = Duration::from_secs(5);
/// Pace of looking after the disks while nothing is heard of one.
const PAUSE: Duration = Duration::from_secs(3);
/// The same after one came or went: the kernel tells it before all traces of a disk are gone.
const SOON: Duration = Duration::from_millis(200);
/// The same where there is nothing to look after until a disk comes.
const IDLE_PAUSE: Duration = Duration::MAX;
/// Disks that may be missing from the file system at once; each time a disk is taken in anew and that is cut off
/// leaves one more.
const MISSING_MAX: usize = 16;
/// Serial of the blank disk that is being made the mirror: what is on it is ours.
const MAKING_NOTE: &str = "config/mirror-making";
const NOTE_BYTES_MAX: usize = 256;

fn fresh() -> String {
    random_guid().to_string()
}

fn ran_alone(label: &DiskLabel) -> Option<DiskLabel> {
    rules::ran_alone(label, fresh(), clock::now_unix().as_secs())
}

/// How STATE of this disk is mounted: alone, as ever, or together with the other one. That it is mounted without the
/// other one is written down here, before it is.
pub(crate) fn mount_options(disk: &Disk) -> Result<String, PoolError> {
    let read = PoolError::device(&disk.dev_path, "read");
    let Some(label) = disks::label_of(disk).map_err(read)? else { return Ok(String::new()) };
    let other = disks::await_other(disk, &label, OTHER_WAIT).ok().flatten();
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
            if other.label.making && !is_part(theirs, disk) {
                // The power was cut after it was labelled and before STATE was laid on it.
                return alone(disk);
            }
            // One that is being filled stands in for one that the file system still misses.
            let degraded = if other.label.making { ",degraded" } else { "" };
            Ok(format!("device={}{degraded}", theirs.dev_path.display()))
        }
        BootPlan::Alone => alone(disk),
    }
}

/// True when both partitions hold parts of one file system.
fn is_part(theirs: &Partition, disk: &Disk) -> bool {
    let fsid = |device: &Path| match classify(&read_samples(device).ok()?) {
        Content::Btrfs(btrfs) => Some(btrfs.fsid),
        _ => None,
    };
    let own = disk.partition(paths::PART_STATE).and_then(|own| fsid(&own.dev_path));
    own.is_some() && own == fsid(&theirs.dev_path)
}

/// Writes down that STATE of this disk is written without the other one.
pub(crate) fn alone(disk: &Disk) -> Result<String, PoolError> {
    let written = || PoolError::device(&disk.dev_path, "written");
    if let Some(label) = disks::label_of(disk).map_err(written())?
        && let Some(label) = ran_alone(&label)
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
/// When orders cannot be taken; whatever else is wrong is in the published status, and is tried again.
pub fn run_disks() -> Result<(), PoolError> {
    let mut keeper = Keeper::new();
    let plugs = Plugs::listen(|_, _| {});
    mirror_orders::listen(plugs.waker())?;
    notify::ready();
    let mut published = None;
    let mut woken = false;
    loop {
        let status = keeper.turn(&mut |status| publish(status, &mut published));
        publish(&status, &mut published);
        woken = plugs.wait(match status.state {
            _ if woken => SOON,
            MirrorState::Single | MirrorState::Foreign => IDLE_PAUSE,
            _ => PAUSE,
        });
        if woken {
            keeper.wanted = mirror_orders::wanted();
        }
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
    wanted: Wanted,
    /// The disk that the board works from.
    booted: Option<Disk>,
    /// False while the board was not moved to that disk yet.
    is_moved: bool,
    /// What was seen last, so that sleeping disks are not read for nothing.
    seen: Vec<(String, Option<String>)>,
    label: Option<DiskLabel>,
    other: Option<Member>,
    /// What the mirror's ESP is known to hold.
    brought: Option<Files>,
    /// Going back to one disk has to wait until STATE is mounted anew.
    waits_for_boot: bool,
    status: MirrorStatus,
}

impl Keeper {
    fn new() -> Self {
        let booted = disks::system_disk().ok().flatten();
        let label = booted.as_ref().and_then(|disk| disks::label_of(disk).ok().flatten());
        let wanted = mirror_orders::wanted();
        let status = MirrorStatus::default();
        Self {
            wanted,
            booted,
            is_moved: true,
            seen: Vec::new(),
            label,
            other: None,
            brought: None,
            waits_for_boot: false,
            status,
        }
    }

    fn turn(&mut self, publish: Publish<'_>) -> MirrorStatus {
        let Some(booted) = &self.booted else { return MirrorStatus::default() };
        if self.label.is_none() && self.wanted.serial.is_none() {
            return of_another_pair(booted).unwrap_or_default();
        }
        match self.look(publish) {
            Ok((state, detail)) => (self.status.state, self.status.detail) = (state, detail),
            Err(err) => {
                tracing::warn!(%err, "the mirror is not in step");
                self.status.detail = format!("{err}; it is tried again");
                // Whatever stood in the way may have changed what was seen.
                self.seen.clear();
            }
        }
        let label = self.label.as_ref().filter(|label| label.alone && !label.single);
        self.status.alone_since_unix_s =
            label.map(|label| label.alone_since_unix_s).filter(|since| *since > 0);
        self.status.other = self.other.as_ref().and_then(|other| other.disk.serial.clone());
        self.status.clone()
    }

    fn look(&mut self, publish: Publish<'_>) -> Result<(MirrorState, String), PoolError> {
        let all = block::disks().map_err(failed("disks cannot be listed"))?;
        let names: Vec<_> =
            all.iter().map(|disk| (disk.name.clone(), disk.serial.clone())).collect();
        let changed = names != self.seen;
        self.seen = names;
        if changed {
            self.relook(&all)?;
        }
        let Some(booted) = &self.booted.clone() else {
            return Ok((MirrorState::Single, String::new()));
        };
        self.status.booted = booted.serial.clone().unwrap_or_else(|| booted.name.clone());
        if !self.is_moved {
            system::work_from(booted)?;
            self.is_moved = true;
        }
        let Some(label) = self.label.clone() else {
            return self.begin(booted, &all, publish);
        };
        let named = self.wanted.serial.as_deref();
        let named = named.and_then(|serial| by_serial(&all, serial, booted));
        if (self.wanted.is_given_up || label.single) && named.is_none() {
            return match self.other.as_ref().map(|other| other.disk.serial.as_deref()) {
                Some(serial) => Ok((MirrorState::Foreign, left_over(serial.unwrap_or("")))),
                None => self.give_up(booted, &label, publish),
            };
        }
        let Some(other) = self.other.clone() else {
            if named.is_some() {
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
    fn relook(&mut self, all: &[Disk]) -> Result<(), PoolError> {
        let (Some(label), Some(booted)) = (self.label.clone(), self.booted.clone()) else {
            return Ok(());
        };
        self.brought = None;
        if !all.iter().any(|seen| seen.name == booted.name && seen.serial == booted.serial) {
            return self.take_over(&label, &booted);
        }
        self.other = disks::other(&booted, &label).map_err(failed("disks cannot be listed"))?;
        system::link_other(self.other.as_ref().map(|other| &other.disk));
        if self.other.is_none() {
            self.set_label(&booted, ran_alone(&label))?;
        }
        Ok(())
    }

    /// The disk that the board worked from is gone. The base is in memory and STATE goes on on the other one, which is
    /// the newer from now on.
    fn take_over(&mut self, label: &DiskLabel, gone: &Disk) -> Result<(), PoolError> {
        let other = self.other.take().filter(|other| rules::may_take_over(label, &other.label));
        let Some(mut other) = other else {
            let message = format!("{} does not answer any more", self.status.booted);
            return Err(PoolError::Mirror { what: "system disk", message });
        };
        if let Some(alone) = ran_alone(&other.label) {
            if let Err(err) = disks::write_label(&other.disk, &alone) {
                self.other = Some(other);
                return Err(failed("label")(err));
            }
            other.label = alone;
        }
        tracing::warn!(gone = gone.name, disk = other.disk.name, "the system disk is gone");
        (self.booted, self.label, self.is_moved) = (Some(other.disk), Some(other.label), false);
        Ok(())
    }

    fn set_label(&mut self, booted: &Disk, label: Option<DiskLabel>) -> Result<(), PoolError> {
        let Some(label) = label else { return Ok(()) };
        disks::write_label(booted, &label).map_err(failed("the label of the system disk"))?;
        self.label = Some(label);
        Ok(())
    }

    /// Goes back to one disk: STATE gets its second copies on this one, and forgets the other.
    fn give_up(
        &mut self,
        booted: &Disk,
        label: &DiskLabel,
        publish: Publish<'_>,
    ) -> Result<(MirrorState, String), PoolError> {
        if !label.single {
            let own = state_of(booted)?;
            let both = [own.clone(), own];
            // A disk that went while it was in use counts as one with room, and the second copies would be put there.
            self.waits_for_boot = self.waits_for_boot || members(&both)?.has_gone;
            if self.waits_for_boot {
                let detail = "the board goes back to one system disk when it is started the next time: until then the \
                              disk that was pulled has its place";
                return Ok((MirrorState::Alone, detail.into()));
            }
            self.status.state = MirrorState::Alone;
            self.status.detail = "the board is taken back to one system disk".into();
            publish(&self.status);
            let convert = ["-dconvert=single,soft", "-mconvert=dup,soft"];
            btrfs(&["balance", "start", "-f", convert[0], convert[1], paths::STATE])?;
            drop_others(&both)?;
            self.set_label(booted, Some(rules::given_up(label)))?;
        }
        Ok((MirrorState::Single, String::new()))
    }

    /// Makes the named disk one of two, if it may be taken.
    fn begin(
        &mut self,
        booted: &Disk,
        all: &[Disk],
        publish: Publish<'_>,
    ) -> Result<(MirrorState, String), PoolError> {
        let Some(serial) = self.wanted.serial.clone() else {
            return Ok((MirrorState::Single, String::new()));
        };
        let Some(disk) = by_serial(all, &serial, booted) else {
            return Ok((MirrorState::Wanted, format!("disk {serial} is not there")));
        };
        // A release that is taken back may be followed by one that cannot mount STATE of two disks.
        if !is_decided() {
            let detail =
                format!("disk {serial} is made the mirror once the release that runs is accepted");
            return Ok((MirrorState::Wanted, detail));
        }
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
        system::link_other(Some(&made));
        self.other = Some(Member { disk: made, label: theirs });
        self.look(publish)
    }

    /// Takes the other disk in, if it is not yet, and brings it all.
    fn fill(
        &mut self,
        booted: &Disk,
        label: &DiskLabel,
        mut other: Member,
    ) -> Result<(MirrorState, String), PoolError> {
        let device = state_of(&other.disk)?;
        let own = [state_of(booted)?, device.clone()];
        if !rules::shares_state(label, &other.label) {
            let theirs = rules::emptied(label, fresh());
            disks::write_label(&other.disk, &theirs)
                .map_err(failed("the label of the other disk"))?;
            wipe(&device).map_err(failed("STATE of the other disk cannot be emptied"))?;
            let (here, there) = rules::taken_in(label, fresh());
            self.set_label(booted, Some(here))?;
            disks::write_label(&other.disk, &there)
                .map_err(failed("the label of the other disk"))?;
            other.label = there;
            self.other = Some(other.clone());
        }
        // After the labels: from here on a part of STATE may lie on that disk alone, so a boot must take both.
        if !members(&own)?.has_mirror {
            btrfs(&["device", "add", "-f", "-K", &device.display().to_string(), paths::STATE])?;
        }
        drop_others(&own)?;
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
        esp_twins::mend(&esp.dev_path);
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

/// Lets the file system go on without the disks that are gone.
fn drop_others(own: &[PathBuf; 2]) -> Result<(), PoolError> {
    // Each leaves when what it held has its second copy elsewhere.
    for _ in 0..MISSING_MAX {
        if btrfs(&["device", "remove", "missing", paths::STATE]).is_err() {
            break;
        }
    }
    for gone in members(own)?.strangers {
        btrfs(&["device", "remove", &gone, paths::STATE])?;
    }
    Ok(())
}

fn left_over(serial: &str) -> String {
    format!(
        "disk {serial} was one of two system disks and is not used: erase it elsewhere or take it out, or take it in \
         with `goblin disks mirror {serial}` where this board can"
    )
}

/// A freshly flashed disk, beside one of a pair that knows nothing of it.
fn of_another_pair(booted: &Disk) -> Option<MirrorStatus> {
    let serial = |disk: &Disk| disk.serial.clone().unwrap_or_else(|| disk.name.clone());
    let mut others = block::disks().ok()?.into_iter().filter(|disk| disk.name != booted.name);
    let found = others.find(|disk| disks::label_of(disk).ok().flatten().is_some())?;
    Some(MirrorStatus {
        state: MirrorState::Foreign,
        booted: serial(booted),
        other: found.serial.clone(),
        alone_since_unix_s: None,
        detail: left_over(&serial(&found)),
    })
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
