//! The `state` task: finds the system disk, makes and mounts STATE, mounts the ESP.

use crate::PoolError;
use crate::esp_twins;
use crate::mirror;
use crate::mkfs::{self, Overwrite};
use crate::reset;
use crate::sniff::{classify, read_samples};
use crate::state_partition::{self, LABEL, Next};
use crate::superblock;
use goblin_core_types::paths;
use goblin_image::Guid;
use goblin_sys::block::{self, Disk};
use goblin_sys::mount::{self, MountFlags};
use goblin_sys::{efivar, notify};
use std::fs::{DirBuilder, File};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How long a slow disk may take to appear.
const DISK_WAIT: Duration = Duration::from_secs(30);
/// How long the kernel may take to show a new partition.
const PARTITION_WAIT: Duration = Duration::from_secs(5);
const LOOK_AGAIN: Duration = Duration::from_millis(100);
/// File system of STATE.
const FS_TYPE: &str = "btrfs";
/// Room for STATE in memory, on a board that was not started from a disk.
const TMPFS_DATA: &str = "mode=0755,size=256m";
/// Partitions that others look for.
const OWN_PARTITIONS: [&str; 3] = [paths::PART_ESP, paths::PART_RECORD, paths::PART_STATE];
/// Directories of STATE that others rely on.
const STATE_DIRS: [&str; 3] = ["config", "update", "journal"];

/// Mounts STATE and the ESP of the disk this board was booted from, making STATE on first boot. On a
/// board that was not started by the boot loader STATE is kept in memory.
///
/// # Errors
/// [`PoolError`] with a sentence for a person; the board goes on without what could not be mounted.
pub fn run_state() -> Result<(), PoolError> {
    let Some(esp) = efivar::loader_device_part_uuid() else {
        tracing::warn!("not started by the boot loader: state is kept in memory");
        mount_state(Path::new("tmpfs"), "tmpfs", TMPFS_DATA)?;
        notify::status("kept in memory, this board was not started from a disk");
        return make_dirs();
    };
    let disk = wait_for_disk(&esp)?;
    link_partitions(&disk);
    let label = goblin_sys::mirror::label_of(&disk).ok().flatten();
    let other = label.and_then(|label| goblin_sys::mirror::other(&disk, &label).ok().flatten());
    link_other(other.as_ref().map(|other| &other.disk));
    // Both are tried: without the ESP a provisioned board works, without STATE the console says why.
    let state = mount_state_of(&disk);
    let esp = mount_esp(&disk);
    state.and(esp)?;
    notify::status(format!("on {}", disk.name));
    Ok(())
}

/// Says where the partitions are. Without it others look into the disks themselves, as far as they may.
fn link_partitions(disk: &Disk) {
    for partition in &disk.partitions {
        let name = partition.part_name.as_deref().filter(|name| OWN_PARTITIONS.contains(name));
        if let Some(name) = name {
            link(name, Some(&partition.dev_path));
        }
    }
}

/// Says which disk is the mirror: PID 1 counts it among the system's.
pub(crate) fn link_other(other: Option<&Disk>) {
    let record = other.and_then(|other| other.partition(paths::PART_RECORD));
    link(paths::OTHER_RECORD, record.map(|record| record.dev_path.as_path()));
}

/// Makes a link lead there, at every instant to the old or to the new place.
fn link(name: &str, to: Option<&Path>) {
    let link = Path::new(paths::SYSTEM_DISK).join(name);
    let new = link.with_extension("new");
    let _ = std::fs::remove_file(&new);
    let done = match to {
        Some(to) if std::fs::read_link(&link).is_ok_and(|old| old == to) => Ok(()),
        Some(to) => {
            std::os::unix::fs::symlink(to, &new).and_then(|()| std::fs::rename(&new, &link))
        }
        None => std::fs::remove_file(&link).or_else(|err| match err.kind() {
            io::ErrorKind::NotFound => Ok(()),
            _ => Err(err),
        }),
    };
    if let Err(err) = done {
        tracing::warn!(%err, link = %link.display(), "partition not linked");
    }
}

/// Lets the board work from another disk than it did: its boot record and its ESP take the places of those of a disk
/// that is gone. What is open on that one stays open, and fails.
pub(crate) fn work_from(disk: &Disk) -> Result<(), PoolError> {
    link_other(None);
    link_partitions(disk);
    let esp = Path::new(paths::ESP);
    if mount::mount_at(esp).ok().flatten().is_some() {
        let left = rustix::mount::unmount(esp, rustix::mount::UnmountFlags::DETACH);
        left.map_err(io::Error::from).map_err(PoolError::device(esp, "unmounted"))?;
    }
    mount_esp(disk)
}

fn wait_for_disk(esp: &str) -> Result<Disk, PoolError> {
    let since = Instant::now();
    loop {
        match block::system_disk(esp) {
            Ok(Some(disk)) => return Ok(disk),
            Ok(None) => {}
            Err(err) => tracing::warn!(%err, "disks cannot be listed"),
        }
        if since.elapsed() > DISK_WAIT {
            let waited_s = DISK_WAIT.as_secs();
            return Err(PoolError::NoSystemDisk { esp: esp.to_owned(), waited_s });
        }
        std::thread::sleep(LOOK_AGAIN);
    }
}

fn mount_state_of(disk: &Disk) -> Result<(), PoolError> {
    let device = state_device(disk)?;
    let samples = read_samples(&device).map_err(PoolError::device(&device, "read"))?;
    let content = classify(&samples);
    match state_partition::decide(&content) {
        Next::Mount => {}
        Next::Format => {
            tracing::info!(device = %device.display(), "making the STATE file system");
            mkfs::make(LABEL, None, &[&device], Overwrite::Unfinished)?;
        }
        Next::Refuse => {
            return Err(PoolError::ForeignState { device, found: content.to_string() });
        }
    }
    // Where this task runs once more in a boot, others have STATE already: the next boot does it then.
    let is_first = mount::mount_at(paths::STATE).is_ok_and(|mounted| mounted.is_none());
    let options = mirror::mount_options(disk)?;
    if let Err(err) = mount_or_mend(&device, &options) {
        if !options.starts_with("device=") {
            return Err(err);
        }
        // One bad disk of two is no reason to be without STATE.
        tracing::error!(%err, "STATE cannot be mounted from both system disks");
        mount_state(&device, FS_TYPE, &mirror::alone(disk)?)?;
    }
    if is_first {
        reset::carry_out();
    }
    make_dirs()
}

/// The device of STATE; makes the partition when there is none.
fn state_device(disk: &Disk) -> Result<PathBuf, PoolError> {
    if let Some(partition) = disk.partition(paths::PART_STATE) {
        return Ok(partition.dev_path.clone());
    }
    let made = state_partition::ensure(&disk.dev_path, random_guid())?;
    let number = match &made {
        Some(made) => {
            tracing::info!(disk = disk.name, bytes = made.size_bytes(), "STATE partition made");
            let file =
                File::open(&disk.dev_path).map_err(PoolError::device(&disk.dev_path, "opened"))?;
            // Told one by one: a full reread is refused while another partition is open.
            block::add_partition(&file, made.number, made.first_lba, made.sectors())
                .map_err(PoolError::device(&disk.dev_path, "told of its new partition"))?;
            made.number
        }
        // The table has it, the kernel did not see it: nothing a new start would not mend.
        None => return Err(PoolError::NoNewPartition { disk: disk.dev_path.clone() }),
    };
    let since = Instant::now();
    while since.elapsed() < PARTITION_WAIT {
        let disks = block::disks().unwrap_or_default();
        let found = disks
            .iter()
            .filter(|seen| seen.name == disk.name)
            .flat_map(|seen| &seen.partitions)
            .find(|partition| partition.number == number && partition.dev_path.exists());
        if let Some(partition) = found {
            return Ok(partition.dev_path.clone());
        }
        std::thread::sleep(LOOK_AGAIN);
    }
    Err(PoolError::NoNewPartition { disk: disk.dev_path.clone() })
}

/// Mounts STATE, in a second try with a superblock that a power cut tore mended.
fn mount_or_mend(device: &Path, options: &str) -> Result<(), PoolError> {
    let Err(err) = mount_state(device, FS_TYPE, options) else { return Ok(()) };
    match superblock::mend(device) {
        Ok(true) => {
            tracing::warn!(%err, "the superblock of STATE was torn and is mended from its copy");
            mount_state(device, FS_TYPE, options)
        }
        Ok(false) => Err(err),
        Err(mending) => {
            tracing::error!(err = %mending, "the superblock of STATE cannot be looked at");
            Err(err)
        }
    }
}

fn mount_state(source: &Path, fs_type: &str, data: &str) -> Result<(), PoolError> {
    let target = Path::new(paths::STATE);
    let flags = MountFlags::NOATIME | MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    mount_once(source, target, fs_type, flags, data)
}

fn mount_esp(disk: &Disk) -> Result<(), PoolError> {
    let partition = disk
        .partition(paths::PART_ESP)
        .ok_or_else(|| PoolError::NoPartition { disk: disk.name.clone(), name: paths::PART_ESP })?;
    let flags = MountFlags::RDONLY | MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    let target = Path::new(paths::ESP);
    if mount::mount_at(target).ok().flatten().is_none() {
        esp_twins::mend(&partition.dev_path);
    }
    mount_once(&partition.dev_path, target, "vfat", flags, "umask=0077,utf8")
}

/// Mounts unless something is mounted there already: the task may be run again.
fn mount_once(
    source: &Path,
    target: &Path,
    fs_type: &str,
    flags: MountFlags,
    data: &str,
) -> Result<(), PoolError> {
    if mount::mount_at(target).ok().flatten().is_some() {
        return Ok(());
    }
    if !target.is_dir() {
        std::fs::create_dir_all(target).map_err(PoolError::device(target, "made"))?;
    }
    mount::mount(source, target, fs_type, flags, data).map_err(PoolError::device(source, "mounted"))
}

fn make_dirs() -> Result<(), PoolError> {
    for name in STATE_DIRS {
        let dir = Path::new(paths::STATE).join(name);
        let made = DirBuilder::new().recursive(true).mode(0o700).create(&dir);
        made.map_err(PoolError::device(&dir, "made"))?;
    }
    Ok(())
}

/// A GUID of random bits, version 4 (RFC 9562, section 5.4).
pub(crate) fn random_guid() -> Guid {
    let mut bytes = [0u8; 16];
    // Cannot fail for so few bytes once the kernel's pool is filled, which the call waits for.
    let _ = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty());
    let [.., version, _, variant, _, _, _, _, _, _, _] = &mut bytes;
    *version = (*version & 0x0f) | 0x40;
    *variant = (*variant & 0x3f) | 0x80;
    Guid(bytes)
}
