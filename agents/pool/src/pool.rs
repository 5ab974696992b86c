//! The `pool` service: looks for the data disks, makes and mounts the pool, watches it.

use crate::PoolError;
use crate::decide::{self, Action, LABEL, Place, Sight, decide, pool_fsid};
use crate::memory::Memory;
use crate::mkfs::{self, Overwrite};
use crate::plugs::{self, Plugs};
use crate::sniff::{Btrfs, Content, classify, is_blank_throughout, read_samples, samples_of};
use goblin_core_types::{PoolState, PoolStatus, paths};
use goblin_image::Guid;
use goblin_sys::block::{self, Disk};
use goblin_sys::mount::{self, MountFlags};
use goblin_sys::{notify, provision, state};
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Pace of looking for disks.
const SEARCH_PAUSE: Duration = Duration::from_secs(2);
/// Pace of looking after a mounted pool.
const WATCH_PAUSE: Duration = Duration::from_secs(5);
/// Tries to make the pool in one run of the service; a disk that fails more often is broken.
const FORMAT_TRIES_MAX: u32 = 3;

/// Keeps the pool: waits for the data disks named by the provisioning file, makes the pool on blank
/// ones, mounts it at [`paths::POOL`], and publishes how it fares. Ready once it is known whether there is
/// a pool, so that a missing disk does not hold up the boot.
///
/// # Errors
/// None at present: whatever is wrong is in the published status, and is tried again.
pub fn run_pool() -> Result<(), PoolError> {
    let mut keeper = Keeper::new();
    let plugs = Plugs::listen(plugs::tell_usb);
    let mut ready = false;
    loop {
        let status = keeper.turn();
        keeper.publish(&status);
        if !ready && decide::is_decided(&status) {
            ready = true;
            notify::ready();
        }
        let settled =
            matches!(status.state, PoolState::Mounted | PoolState::Degraded | PoolState::None);
        plugs.wait(if settled { WATCH_PAUSE } else { SEARCH_PAUSE });
    }
}

/// A mounted pool.
#[derive(Debug)]
struct Mounted {
    state: PoolState,
    problem: Option<String>,
    /// The disks as they were when it was mounted: they are not read again, so that they may sleep.
    sights: Vec<Sight>,
}

#[derive(Debug)]
struct Keeper {
    serials: Vec<String>,
    fsid: Guid,
    since: Instant,
    formats: u32,
    /// Set once something failed for good; shown until the service is started again.
    failed: Option<(PoolState, String)>,
    memory: Memory,
    /// Set while the pool is mounted.
    mounted: Option<Mounted>,
    published: Option<PoolStatus>,
}

impl Keeper {
    fn new() -> Self {
        let (serials, fsid, failed) = match provision::load() {
            Ok(file) => (file.disk.data, pool_fsid(file.the_box.id), None),
            Err(provision::LoadError::NotProvisioned) => (Vec::new(), Guid::ZERO, None),
            Err(err) => (Vec::new(), Guid::ZERO, Some((PoolState::Failed, err.to_string()))),
        };
        Self {
            serials,
            fsid,
            since: Instant::now(),
            formats: 0,
            failed,
            memory: Memory::of_board(),
            mounted: None,
            published: None,
        }
    }

    /// Looks and does the next thing.
    fn turn(&mut self) -> PoolStatus {
        if self.mounted.is_some() && matches!(mount::mount_at(paths::POOL), Ok(None)) {
            tracing::error!("the pool's mount is gone; it is looked for again");
            self.mounted = None;
        }
        let (sights, state, problem) = match &mut self.mounted {
            Some(mounted) => {
                let gave_up = mount::mount_at(paths::POOL).ok().flatten();
                let sights =
                    mounted.watch(&list_disks(), gave_up.is_some_and(|pool| pool.fs_read_only()));
                let (state, problem) = (mounted.state, mounted.problem.clone());
                self.remember_missed(&sights);
                (sights, state, problem)
            }
            None => {
                let sights = self.look();
                let (state, problem) = self.act(&sights);
                (sights, state, problem)
            }
        };
        let mut status = PoolStatus {
            state,
            profile: decide::profile(self.serials.len()).to_owned(),
            disks: decide::disk_status(&sights, self.fsid),
            problem,
            ..PoolStatus::default()
        };
        if self.mounted.is_some()
            && let Ok(space) = rustix::fs::statvfs(paths::POOL)
        {
            let bytes = |blocks: u64| blocks.saturating_mul(space.f_frsize);
            status.total_bytes = bytes(space.f_blocks);
            status.used_bytes = bytes(space.f_blocks.saturating_sub(space.f_bfree));
        }
        status
    }

    fn act(&mut self, sights: &[Sight]) -> (PoolState, Option<String>) {
        if let Some((state, problem)) = &self.failed {
            return (*state, Some(problem.clone()));
        }
        let waited_s = self.since.elapsed().as_secs();
        let (action, state, problem) = decide(sights, self.fsid, self.memory.missed(), waited_s);
        match action {
            Action::Wait => (state, problem),
            Action::Format { unfinished, .. } => self.format(sights, unfinished),
            Action::Mount { devices, degraded } => match self.mount(sights, &devices, degraded) {
                Ok(()) => {
                    if let Err(err) = self.memory.end_making() {
                        tracing::warn!(%err, "the end of making the pool is not written down");
                    }
                    tracing::info!(disks = devices.len(), degraded, "pool mounted");
                    let mounted =
                        Mounted { state, problem: problem.clone(), sights: sights.to_vec() };
                    self.mounted = Some(mounted);
                    (state, problem)
                }
                Err(err) => (
                    PoolState::Failed,
                    Some(format!(
                        "the pool's disks are there, but it cannot be mounted: {err}; it is tried again, \
                         and nothing was changed on the disks"
                    )),
                ),
            },
        }
    }

    /// A pool that is written to without one of its disks: the disk is marked first, so that it is never
    /// taken for the newer half.
    fn mount(&mut self, sights: &[Sight], devices: &[PathBuf], degraded: bool) -> io::Result<()> {
        if degraded {
            let used = |sight: &&Sight| matches!(&sight.place, Place::Found { device, .. } if devices.contains(device));
            let away = sights.iter().filter(|sight| !used(sight)).map(|s| s.serial.clone());
            self.memory.add_missed(away)?;
        }
        mount_pool(devices, degraded)
    }

    fn remember_missed(&mut self, sights: &[Sight]) {
        let gone = sights.iter().filter(|sight| sight.place == Place::Absent);
        // With nobody left there is nobody who is newer.
        if gone.clone().count() < sights.len()
            && let Err(err) = self.memory.add_missed(gone.map(|sight| sight.serial.clone()))
        {
            tracing::error!(%err, "not written down that a data disk misses writes from now on");
        }
    }

    fn format(&mut self, sights: &[Sight], unfinished: bool) -> (PoolState, Option<String>) {
        let held = match self.hold_blank(sights) {
            Ok(held) => held,
            Err(problem) => {
                tracing::error!(problem, "pool not made");
                self.failed = Some((PoolState::Foreign, problem.clone()));
                return (PoolState::Foreign, Some(problem));
            }
        };
        if let Err(err) = self.memory.begin_making(&self.serials) {
            // Only a power cut during the next seconds would need it.
            tracing::warn!(%err, "the start of making the pool is not written down");
        }
        if let Some(published) = &self.published {
            // People shall see what takes so long.
            let state = PoolState::Formatting;
            self.publish(&PoolStatus { state, problem: None, ..published.clone() });
        }
        self.formats = self.formats.saturating_add(1);
        let overwrite = if unfinished { Overwrite::Unfinished } else { Overwrite::Never };
        let paths: Vec<&Path> = held.iter().map(|(path, _)| path.as_path()).collect();
        tracing::info!(disks = paths.len(), "making the pool");
        let made = mkfs::make(LABEL, Some(self.fsid), &paths, overwrite);
        // Held until now: while a device is open, its name is given to no other disk.
        drop(held);
        match made {
            // The next look finds this box's pool and mounts it.
            Ok(()) => (PoolState::Formatting, None),
            Err(err) => {
                let problem = format!("the pool could not be made on the data disks: {err}");
                tracing::error!(problem, "pool not made");
                if self.formats >= FORMAT_TRIES_MAX {
                    self.failed = Some((PoolState::Failed, problem.clone()));
                }
                (PoolState::Failed, Some(problem))
            }
        }
    }

    /// The last look before the disks are overwritten, at disks that are held open: still the named ones,
    /// without partitions, and blank all over or left by an unfinished run of ours.
    fn hold_blank(&self, sights: &[Sight]) -> Result<Vec<(PathBuf, File)>, String> {
        let mut held = Vec::new();
        for sight in sights {
            let serial = &sight.serial;
            let not_blank = |what: &str| {
                format!(
                    "data disk {serial} holds {what}; it was not touched: put in a blank disk, or erase \
                     this one elsewhere if nothing on it is needed, then start the board again"
                )
            };
            let Place::Found { device, .. } = &sight.place else {
                return Err(format!("data disk {serial} went away: start the board again"));
            };
            let unreadable = |err: io::Error| format!("data disk {serial} cannot be read: {err}");
            let file = File::open(device).map_err(unreadable)?;
            let disks = list_disks();
            let (Some(disk), false) = by_serial(&disks, serial) else {
                return Err(format!("data disk {serial} went away: start the board again"));
            };
            if disk.dev_path != *device {
                return Err(format!("data disk {serial} was changed: start the board again"));
            }
            if !disk.partitions.is_empty() {
                return Err(not_blank("partitions"));
            }
            let content = classify(&samples_of(&file).map_err(unreadable)?);
            let ours = |btrfs: &Btrfs| btrfs.fsid == self.fsid && !btrfs.finished;
            let blank = match &content {
                Content::Blank if self.memory.is_making(serial) => true,
                Content::Blank => is_blank_throughout(&file).map_err(unreadable)?,
                Content::Btrfs(btrfs) if ours(btrfs) => true,
                other => return Err(not_blank(&other.to_string())),
            };
            if !blank {
                return Err(not_blank("data of an unknown kind behind a blank start"));
            }
            held.push((device.clone(), file));
        }
        Ok(held)
    }

    fn look(&self) -> Vec<Sight> {
        if self.serials.is_empty() {
            return Vec::new();
        }
        let disks = list_disks();
        // After a restart of this service the pool is still mounted: then the disks are in use by it.
        let user = match mount::mount_at(paths::POOL) {
            Ok(Some(_)) => User::ThisPool,
            _ => User::Nobody,
        };
        let sight =
            |serial: &String| Sight { serial: serial.clone(), place: place(&disks, serial, user) };
        self.serials.iter().map(sight).collect()
    }

    fn publish(&mut self, status: &PoolStatus) {
        if self.published.as_ref() == Some(status) {
            return;
        }
        let old = self.published.as_ref();
        if old.map(|old| (old.state, &old.problem)) != Some((status.state, &status.problem)) {
            notify::status(sentence(status));
            tracing::info!(
                state = ?status.state,
                problem = status.problem.as_deref().unwrap_or(""),
                "pool changed"
            );
        }
        match state::write("pool", status) {
            Ok(()) => self.published = Some(status.clone()),
            Err(err) => tracing::warn!(%err, "pool status not published"),
        }
    }
}

fn sentence(status: &PoolStatus) -> String {
    match (&status.problem, status.state) {
        (Some(problem), _) => problem.clone(),
        (None, PoolState::None) => "no data disks are named".to_owned(),
        (None, PoolState::Formatting) => "making the pool on the data disks".to_owned(),
        (None, _) => format!("mounted, {}", status.profile),
    }
}

fn list_disks() -> Vec<Disk> {
    block::disks()
        .inspect_err(|err| tracing::warn!(%err, "disks cannot be listed"))
        .unwrap_or_default()
}

/// The disk with this serial, and whether there are more of them.
fn by_serial<'a>(disks: &'a [Disk], serial: &str) -> (Option<&'a Disk>, bool) {
    let mut matching = disks.iter().filter(|disk| disk.serial.as_deref() == Some(serial));
    (matching.next(), matching.next().is_some())
}

/// Who may hold a data disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum User {
    Nobody,
    ThisPool,
}

fn place(disks: &[Disk], serial: &str, user: User) -> Place {
    let disk = match by_serial(disks, serial) {
        (None, _) => return Place::Absent,
        (Some(_), true) => return Place::Ambiguous,
        (Some(disk), false) => disk,
    };
    let device = disk.dev_path.clone();
    let unusable = |why: String| Place::Unusable { device: device.clone(), why };
    match block::is_in_use(&device) {
        Ok(false) => {}
        Ok(true) if user == User::ThisPool => {}
        Ok(true) => return unusable("something else on this board uses it".to_owned()),
        Err(err) => return unusable(format!("it cannot be opened: {err}")),
    }
    match read_samples(&device) {
        Ok(samples) => {
            let content = classify(&samples);
            Place::Found { device, size_bytes: disk.size_bytes, content }
        }
        Err(err) => unusable(format!("it cannot be read: {err}")),
    }
}

impl Mounted {
    /// Says when a disk of the pool goes. That stays said: a disk that comes back under another name is
    /// not taken in again by a mounted btrfs.
    fn watch(&mut self, disks: &[Disk], gave_up: bool) -> Vec<Sight> {
        let mut sights = self.sights.clone();
        for sight in &mut sights {
            let Place::Found { device, .. } = &sight.place else { continue };
            let there = by_serial(disks, &sight.serial).0;
            if there.is_none_or(|disk| disk.dev_path != *device) {
                sight.place = Place::Absent;
            }
        }
        if self.state == PoolState::Mounted
            && let Some(sight) = sights.iter().find(|sight| sight.place == Place::Absent)
        {
            let serial = &sight.serial;
            let rest = if sights.len() > 1 {
                "the pool goes on with the other one"
            } else {
                "and there is no other one"
            };
            self.problem = Some(format!(
                "data disk {serial} stopped answering, {rest}; check its cables, then start the board \
                 again"
            ));
            self.state = PoolState::Degraded;
        }
        if gave_up && self.state != PoolState::Failed {
            self.problem = Some(
                "the pool cannot be written to any more: the file system stopped writing after an error, and \
                 what it has can still be read; check the disks and their cables, then start the board again"
                    .to_owned(),
            );
            self.state = PoolState::Failed;
        }
        sights
    }
}

fn mount_pool(devices: &[PathBuf], degraded: bool) -> std::io::Result<()> {
    let target = Path::new(paths::POOL);
    if mount::mount_at(target)?.is_some() {
        return make_share_dir();
    }
    let Some(first) = devices.first() else { return Err(std::io::ErrorKind::NotFound.into()) };
    // Naming every disk spares the kernel a scan of all of them.
    let mut data: Vec<String> =
        devices.iter().map(|device| format!("device={}", device.display())).collect();
    if degraded {
        data.push("degraded".to_owned());
    }
    if !target.is_dir() {
        std::fs::create_dir_all(target)?;
    }
    let flags = MountFlags::NOATIME | MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    mount::mount(first, target, "btrfs", flags, &data.join(","))?;
    make_share_dir()
}

fn make_share_dir() -> std::io::Result<()> {
    std::fs::create_dir_all(paths::POOL_SHARES)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn disk(name: &str, serial: &str, path: &Path) -> Disk {
        Disk {
            name: name.into(),
            dev_path: path.to_owned(),
            serial: Some(serial.into()),
            model: String::new(),
            size_bytes: 1 << 22,
            removable: false,
            partitions: Vec::new(),
        }
    }

    #[test]
    fn disks_are_found_by_serial_and_twins_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("vdb");
        std::fs::File::create(&path).unwrap().set_len(1 << 22).unwrap();
        let one = [disk("vdb", "A", &path)];
        assert!(matches!(place(&one, "A", User::ThisPool), Place::Found { .. }));
        assert_eq!(place(&one, "B", User::ThisPool), Place::Absent);
        let twins = [disk("vdb", "A", &path), disk("vdc", "A", &path)];
        assert_eq!(place(&twins, "A", User::ThisPool), Place::Ambiguous);
        let gone = [disk("vdd", "C", &dir.path().join("vdd"))];
        assert!(matches!(place(&gone, "C", User::ThisPool), Place::Unusable { .. }));
    }

    #[test]
    fn a_disk_that_goes_stays_reported_while_the_pool_is_mounted() {
        let path = Path::new("/dev/vdb");
        let content = crate::sniff::Content::Blank;
        let found = Place::Found { device: path.to_owned(), size_bytes: 1, content };
        let sights = vec![Sight { serial: "A".into(), place: found }];
        let mut mounted = Mounted { state: PoolState::Mounted, problem: None, sights };
        mounted.watch(&[disk("vdb", "A", path)], false);
        assert_eq!((mounted.state, &mounted.problem), (PoolState::Mounted, &None));
        assert_eq!(mounted.watch(&[], false)[0].place, Place::Absent);
        assert!(mounted.problem.as_ref().unwrap().contains("no other one"));
        mounted.watch(&[disk("vdb", "A", path)], false);
        assert_eq!(mounted.state, PoolState::Degraded);
        // A pool that btrfs itself made read-only after an error is not healthy.
        mounted.watch(&[disk("vdb", "A", path)], true);
        assert_eq!(mounted.state, PoolState::Failed);
        assert!(mounted.problem.as_ref().unwrap().contains("cannot be written"));
    }
}
