//! One disk as the mirror of the other: what may be taken for it, its partitions, and btrfs's view of both.

use crate::PoolError;
use crate::sniff::{
    BTRFS_SUPER_BYTES, BTRFS_SUPERS, Content, classify, is_blank_throughout, samples_of,
};
use crate::state::random_guid;
use crate::state_partition;
use crate::superblock::BTRFS;
use goblin_core_types::paths;
use goblin_image::disk::{DiskPlan, DiskSpec, ESP_BYTES};
use goblin_sys::block::{self, Disk};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Patience with partitions that were just made.
const PARTITION_WAIT: Duration = Duration::from_secs(5);
const LOOK_AGAIN: Duration = Duration::from_millis(100);
/// Kept of what the tool said, in characters.
const MESSAGE_CHARS_MAX: usize = 400;

/// For `map_err`: what was tried, and the words of what failed.
pub(crate) fn failed<E: std::fmt::Display>(what: &'static str) -> impl Fn(E) -> PoolError {
    move |err| PoolError::Mirror { what, message: err.to_string() }
}

/// The one other disk with this serial.
pub(crate) fn by_serial(all: &[Disk], serial: &str, booted: &Disk) -> Option<Disk> {
    let mut matching = all
        .iter()
        .filter(|disk| disk.serial.as_deref() == Some(serial) && disk.name != booted.name);
    let found = matching.next().cloned();
    found.filter(|_| matching.next().is_none())
}

pub(crate) fn is_blank(disk: &Disk) -> io::Result<bool> {
    let file = File::open(&disk.dev_path)?;
    let free = disk.partitions.is_empty() && !block::is_in_use(&disk.dev_path)?;
    Ok(free && classify(&samples_of(&file)?) == Content::Blank && is_blank_throughout(&file)?)
}

/// Makes the partitions of a system disk, with nothing in them: no loader yet, so the firmware passes it over.
pub(crate) fn partition(disk: &Disk) -> Result<Disk, PoolError> {
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
            None if since.elapsed() > PARTITION_WAIT => {
                return Err(PoolError::NoNewPartition { disk: disk.dev_path.clone() });
            }
            None => std::thread::sleep(LOOK_AGAIN),
        }
    }
}

pub(crate) fn state_of(disk: &Disk) -> Result<PathBuf, PoolError> {
    // A partition that was made in this boot has no name yet for the kernel; ours are the only ones there.
    let unnamed = || disk.partitions.iter().rfind(|partition| partition.part_name.is_none());
    let partition = disk.partition(paths::PART_STATE).or_else(unnamed).ok_or_else(|| {
        PoolError::NoPartition { disk: disk.name.clone(), name: paths::PART_STATE }
    })?;
    Ok(partition.dev_path.clone())
}

/// Takes every superblock of a partition away, so that nobody mixes what it held with what is.
pub(crate) fn wipe(device: &Path) -> io::Result<()> {
    let file = File::options().read(true).write(true).open(device)?;
    let length = io::Seek::seek(&mut &file, io::SeekFrom::End(0))?;
    for offset in BTRFS_SUPERS {
        if offset.saturating_add(BTRFS_SUPER_BYTES as u64) <= length {
            file.write_all_at(&[0; BTRFS_SUPER_BYTES], offset)?;
        }
    }
    file.sync_all()
}

/// What STATE is made of.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Members {
    /// The second one of our own is among them.
    pub(crate) has_mirror: bool,
    /// Numbers of disks that the file system still counts as its own and that are none of ours.
    pub(crate) strangers: Vec<String>,
    /// One of these went while it was mounted: the kernel still has it open, and finds room for new data on it.
    pub(crate) has_gone: bool,
}

/// Looks at the file system of this system disk's STATE and its mirror's.
pub(crate) fn members(own: &[PathBuf; 2]) -> Result<Members, PoolError> {
    Ok(parse_members(&btrfs(&["filesystem", "show", paths::STATE])?, own))
}

/// Lines are `devid N size S used U path P`.
fn parse_members(text: &str, own: &[PathBuf; 2]) -> Members {
    let mut members = Members::default();
    for line in text.lines() {
        let mut words = line.split_whitespace();
        let Some(id) = (words.next() == Some("devid")).then(|| words.next()).flatten() else {
            continue;
        };
        let path = Path::new(line.rsplit(" path ").next().unwrap_or_default().trim());
        let [first, mirror] = own;
        if path == mirror {
            members.has_mirror = true;
        } else if path != first {
            members.strangers.push(id.to_owned());
            members.has_gone |= path.is_absolute();
        }
    }
    members
}

pub(crate) fn btrfs(words: &[&str]) -> Result<String, PoolError> {
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
        let of = |mirror: &str| parse_members(text, &["/dev/vda3", mirror].map(PathBuf::from));
        let strangers = |ids: &[&str]| ids.iter().map(|id| (*id).to_owned()).collect();
        let expected =
            Members { has_mirror: false, strangers: strangers(&["2", "3"]), has_gone: true };
        assert_eq!(of("/dev/vdc3"), expected);
        let expected = Members { has_mirror: true, strangers: strangers(&["3"]), has_gone: false };
        assert_eq!(of("/dev/vdb3"), expected);
    }
}
