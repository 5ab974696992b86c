//! A stick, mounted for one order: read-only, without devices, programs or set-user bits, in the updater's own
//! tree of mounts, so that nobody else on the board ever sees it.
//!
//! The updater has no node of a disk that is plugged in later. For the moment of the mount it makes the
//! kernel's own list of devices visible to itself, which its right to mount covers already; a unit of its own
//! would be one more program that mounts for the whole board.

use crate::error::UpdateError;
use goblin_core_types::{Device, paths};
use goblin_core_update::stick::{self, FileSystem, HEAD_BYTES, MARK, StickError};
use goblin_sys::mount::{self, MountFlags};
use goblin_sys::{beneath, devices};
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// Longest wait for the agent that knows what is plugged in.
const DEVICES_WAIT: Duration = Duration::from_secs(5);
/// Most entries of a stick that are looked at for a release folder.
const ENTRIES_MAX: usize = 512;
/// Where mount points are made: the unit's own, in memory, gone with it.
const OWN: &str = "/tmp";
/// Numbers mount points: one order may have a stick open twice.
static NEXT: AtomicU32 = AtomicU32::new(0);

/// A stick with a release folder, as long as it is held.
pub trait Stick: Send + std::fmt::Debug {
    /// The release folder.
    fn folder(&self) -> &Path;

    /// What people call the stick.
    fn name(&self) -> &str;

    /// False once it was pulled out.
    fn is_there(&self) -> bool;
}

/// Finds the one stick with a release folder and mounts it.
///
/// # Errors
/// [`UpdateError::Stick`].
pub(crate) fn open() -> Result<Box<dyn Stick>, UpdateError> {
    let unknown = |err: io::Error| StickError::Unknown { detail: err.to_string() };
    let devices = devices::snapshot(DEVICES_WAIT).map_err(unknown)?;
    let places = stick::places(&devices, &own_devices());
    let looked: Vec<(String, Result<Vec<String>, String>)> = places
        .iter()
        .map(|place| {
            let folders = Mounted::new(place).and_then(|mounted| folders(mounted.at.path()));
            (stick::name_of(place), folders)
        })
        .collect();
    let found = stick::choose(&looked)?;
    let place = places.get(found.place).copied().ok_or(StickError::None)?;
    let unreadable = |detail| StickError::Unreadable { stick: found.stick.clone(), detail };
    let mut mounted = Mounted::new(place).map_err(unreadable)?;
    mounted.folder = mounted.at.path().join(&found.folder);
    Ok(Box::new(mounted))
}

/// Device files of the disk that this board runs from.
fn own_devices() -> Vec<String> {
    let links = [paths::PART_ESP, paths::PART_RECORD, paths::PART_STATE];
    links
        .iter()
        .filter_map(|name| std::fs::read_link(Path::new(paths::SYSTEM_DISK).join(name)).ok())
        .map(|device| device.to_string_lossy().into_owned())
        .collect()
}

/// Release folders of a stick: itself, or folders on it.
fn folders(root: &Path) -> Result<Vec<String>, String> {
    let failed = |err: io::Error| err.to_string();
    let root = beneath::root(root).map_err(failed)?;
    if has_mark(&root) {
        return Ok(vec![String::new()]);
    }
    let listing = beneath::open_dir(&root).map_err(failed)?;
    let mut names = Vec::new();
    let path = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&listing));
    for entry in std::fs::read_dir(path).map_err(failed)?.take(ENTRIES_MAX) {
        let entry = entry.map_err(failed)?;
        let Ok(name) = entry.file_name().into_string() else { continue };
        if beneath::step(&root, name.as_bytes()).is_ok_and(|folder| has_mark(&folder)) {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}

fn has_mark(folder: &std::os::fd::OwnedFd) -> bool {
    beneath::walk(folder, MARK)
        .and_then(|held| beneath::stat(&held))
        .is_ok_and(|meta| meta.kind() == beneath::Kind::RegularFile)
}

/// A mount that goes with this value.
#[derive(Debug)]
struct Mounted {
    at: Point,
    folder: PathBuf,
    name: String,
    /// The device's folder in `/sys`, which goes with the device.
    sysfs: PathBuf,
}

impl Mounted {
    fn new(place: &Device) -> Result<Self, String> {
        let dev_name = place.dev_path.as_deref().and_then(|path| path.strip_prefix("/dev/"));
        let dev_name =
            dev_name.filter(|name| !name.contains('/')).ok_or("it has no device file")?;
        let failed = |err: io::Error| err.to_string();
        let nodes = Point::new("devices").map_err(failed)?;
        // No flag but those of this mount alone: a read-only one would make the board's /dev read-only, for
        // the file system is the same.
        let flags = MountFlags::NOSUID | MountFlags::NOEXEC;
        mount::mount("devtmpfs", nodes.path(), "devtmpfs", flags, "").map_err(failed)?;
        let node = nodes.path().join(dev_name);
        let (fs_type, options) = match stick::file_system(&head(&node).map_err(failed)?) {
            FileSystem::Fat => ("vfat", "utf8,umask=0077,errors=continue"),
            // The journal is not replayed, for that writes. What a stick says about errors is not followed:
            // it may say that the kernel shall panic.
            FileSystem::Ext => ("ext4", "noload,errors=continue"),
            FileSystem::Other(name) => return Err(format!("it has {name}")),
        };
        let at = Point::new("stick").map_err(failed)?;
        let flags =
            MountFlags::RDONLY | MountFlags::NODEV | MountFlags::NOSUID | MountFlags::NOEXEC;
        mount::mount(&node, at.path(), fs_type, flags, options).map_err(failed)?;
        let sysfs = Path::new("/sys").join(place.path.trim_start_matches('/'));
        let folder = at.path().to_owned();
        Ok(Self { at, folder, name: stick::name_of(place), sysfs })
    }
}

impl Stick for Mounted {
    fn folder(&self) -> &Path {
        &self.folder
    }

    fn name(&self) -> &str {
        &self.name
    }

    fn is_there(&self) -> bool {
        self.sysfs.exists()
    }
}

/// The first bytes of a device.
fn head(node: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let limit = u64::try_from(HEAD_BYTES).unwrap_or(u64::MAX);
    File::open(node)?.take(limit).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// A mount point that is taken away, with what is mounted there, when it is dropped.
#[derive(Debug)]
struct Point(PathBuf);

impl Point {
    fn new(word: &str) -> io::Result<Self> {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = Path::new(OWN).join(format!("{word}-{number}"));
        std::fs::create_dir(&path)?;
        Ok(Self(path))
    }

    fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Point {
    fn drop(&mut self) {
        // Lazily: a stick that was pulled out must not hold up the updater. Nothing is mounted where the
        // mount failed.
        let _ = mount::umount_lazy(&self.0);
        if let Err(err) = std::fs::remove_dir(&self.0) {
            tracing::debug!(%err, path = %self.0.display(), "a mount point stays");
        }
    }
}

/// Says of a failure what the stick has to do with it.
pub(crate) fn explain(err: UpdateError, stick: &dyn Stick) -> UpdateError {
    let is_reading = matches!(
        err,
        UpdateError::Network { .. } | UpdateError::Absent { .. } | UpdateError::Blob { .. }
    );
    if is_reading && !stick.is_there() {
        return StickError::Pulled { stick: stick.name().to_owned() }.into();
    }
    let damaged = |url: String, detail| {
        let path = url.strip_prefix(&format!("{}: ", stick.name())).unwrap_or(&url).to_owned();
        StickError::Damaged { stick: stick.name().to_owned(), path, detail }.into()
    };
    match err {
        UpdateError::Network { url, detail } => damaged(url, detail),
        UpdateError::Absent { url } => damaged(url, "it is not there".into()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn release_folders_are_found_without_following_links() {
        let dir = tempfile::tempdir().unwrap();
        let mark = |folder: &str| {
            let path = dir.path().join(folder).join(MARK);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "{}").unwrap();
        };
        fs::create_dir(dir.path().join("photos")).unwrap();
        fs::write(dir.path().join("a file"), "").unwrap();
        assert_eq!(folders(dir.path()).unwrap(), Vec::<String>::new());
        mark("stable");
        mark("deep/er");
        let outside = tempfile::tempdir().unwrap();
        fs::create_dir_all(outside.path().join("metadata")).unwrap();
        fs::write(outside.path().join(MARK), "{}").unwrap();
        std::os::unix::fs::symlink(outside.path(), dir.path().join("link")).unwrap();
        assert_eq!(folders(dir.path()).unwrap(), ["stable"]);
        mark("");
        assert_eq!(folders(dir.path()).unwrap(), [""], "the stick itself comes first");
    }
}
