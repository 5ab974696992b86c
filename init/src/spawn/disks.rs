//! Which disks a unit may write to, as numbers for the guard of its group.
//!
//! A unit that mounts for the whole board cannot be given nodes: partitions are made and disks plugged in while it
//! runs. So the disks that it must leave alone are listed when it starts, and all others are its own. sysfs tells
//! them; no disk is read for it.

use goblin_core_types::paths;
use goblin_init_core::sandbox::WriteDisks;
use goblin_sys::files;
use std::collections::BTreeSet;
use std::io;
use std::path::Path;

/// Where the kernel lists disks and partitions alike.
const BLOCK: &str = "/sys/class/block";
/// Most of them.
const ENTRIES_MAX: usize = 512;
/// Longest attribute read, in bytes.
const ATTRIBUTE_BYTES_MAX: usize = 4096;

/// A disk or a partition.
#[derive(Debug)]
struct Entry {
    /// The kernel's name of it, of a partition that of its disk.
    disk: String,
    name: String,
    /// Major and minor.
    number: (u32, u32),
    /// GPT name of a partition.
    part_name: Option<String>,
}

/// Numbers of the disks and partitions that a unit must not write to.
///
/// # Errors
/// When the disks cannot be listed: a unit does not start without its guard.
pub(super) fn forbidden(may_write: WriteDisks) -> io::Result<Vec<(u32, u32)>> {
    let records = [paths::PART_RECORD, paths::OTHER_RECORD].map(|name| {
        let device = std::fs::read_link(Path::new(paths::SYSTEM_DISK).join(name)).ok();
        device.and_then(|device| Some(device.file_name()?.to_str()?.to_owned()))
    });
    let [record, other] = records.each_ref().map(Option::as_deref);
    Ok(split(&entries(Path::new(BLOCK))?, may_write, [record, other]))
}

/// `records` are the kernel's names of the partition with the boot record, once it is known for sure, and of the
/// mirror's, if there is one; before, every disk with a partition of that name may be the system's.
fn split(entries: &[Entry], may_write: WriteDisks, records: [Option<&str>; 2]) -> Vec<(u32, u32)> {
    let find = |record: Option<&str>| entries.iter().find(|entry| record == Some(&*entry.name));
    let [known, other] = records.map(find);
    let systems: BTreeSet<&str> = match known {
        Some(entry) => [Some(entry), other].iter().flatten().map(|e| e.disk.as_str()).collect(),
        None => {
            let named = |entry: &&Entry| entry.part_name.as_deref() == Some(paths::PART_RECORD);
            entries.iter().filter(named).map(|entry| entry.disk.as_str()).collect()
        }
    };
    let is_forbidden = |entry: &&Entry| {
        let of_system = systems.contains(entry.disk.as_str());
        match may_write {
            WriteDisks::System => !of_system,
            WriteDisks::Data => of_system,
            WriteDisks::All => false,
        }
    };
    entries.iter().filter(is_forbidden).map(|entry| entry.number).collect()
}

fn entries(sysfs: &Path) -> io::Result<Vec<Entry>> {
    let mut entries = Vec::new();
    for found in std::fs::read_dir(sysfs)? {
        let path = found?.path();
        match read(&path) {
            Ok(entry) => entries.extend(entry),
            // Pulled out while it was looked at.
            Err(err) if err.kind() == io::ErrorKind::NotFound => {}
            Err(err) => return Err(err),
        }
        if entries.len() > ENTRIES_MAX {
            return Err(io::Error::other(format!("more than {ENTRIES_MAX} disks and partitions")));
        }
    }
    Ok(entries)
}

/// `None` for what has no number.
fn read(path: &Path) -> io::Result<Option<Entry>> {
    let text = |name: &str| -> io::Result<String> {
        let bytes = files::read_bounded(&path.join(name), ATTRIBUTE_BYTES_MAX)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    let number = text("dev")?;
    let number = number
        .trim()
        .split_once(':')
        .and_then(|(major, minor)| Some((major.parse().ok()?, minor.parse().ok()?)));
    let Some(number) = number else { return Ok(None) };
    // `../../devices/../vda/vda1`
    let real = path.canonicalize()?;
    let named = |path: Option<&Path>| {
        path.and_then(Path::file_name).map(|name| name.to_string_lossy().into_owned())
    };
    let name = named(Some(&real)).unwrap_or_default();
    let is_partition = real.join("partition").exists();
    let disk = if is_partition { named(real.parent()).unwrap_or_default() } else { name.clone() };
    let uevent = text("uevent").unwrap_or_default();
    let part_name = uevent.lines().find_map(|line| line.strip_prefix("PARTNAME="));
    let part_name = part_name.map(str::to_owned);
    Ok(Some(Entry { disk, name, number, part_name }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    /// sysfs of a board: its system disk, a disk for data, and one that was another board's.
    fn sysfs() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("class")).unwrap();
        for (path, number, name) in [
            ("vda", "254:0", ""),
            ("vda/vda1", "254:1", "goblin-esp"),
            ("vda/vda2", "254:2", "goblin-record"),
            ("nvme0n1", "259:0", ""),
            ("nvme0n1/nvme0n1p1", "259:1", ""),
            ("sda", "8:0", ""),
            ("sda/sda1", "8:1", "goblin-record"),
        ] {
            let folder = dir.path().join("devices").join(path);
            fs::create_dir_all(&folder).unwrap();
            fs::write(folder.join("dev"), format!("{number}\n")).unwrap();
            fs::write(folder.join("uevent"), format!("PARTNAME={name}\n")).unwrap();
            if path.contains('/') {
                fs::write(folder.join("partition"), "1\n").unwrap();
            }
            let link = dir.path().join("class").join(folder.file_name().unwrap());
            std::os::unix::fs::symlink(&folder, link).unwrap();
        }
        dir
    }

    #[test]
    fn the_system_disk_is_told_from_the_others() {
        let dir = sysfs();
        let entries = entries(&dir.path().join("class")).unwrap();
        let forbidden = |may_write, record| {
            let mut numbers = split(&entries, may_write, [record, None]);
            numbers.sort_unstable();
            numbers
        };
        let system = [(254, 0), (254, 1), (254, 2)];
        let (data, old) = ([(259, 0), (259, 1)], [(8, 0), (8, 1)]);
        let known = Some("vda2");
        assert_eq!(forbidden(WriteDisks::Data, known), system);
        assert_eq!(forbidden(WriteDisks::System, known), [old, data].concat());
        // As long as it is not known, both may be it.
        assert_eq!(forbidden(WriteDisks::Data, None), [&old[..], &system[..]].concat());
        assert_eq!(forbidden(WriteDisks::System, None), data);
        assert_eq!(forbidden(WriteDisks::System, Some("gone")), data);
        assert_eq!(forbidden(WriteDisks::All, known), []);
        // A mirror is the system's too.
        let mut numbers = split(&entries, WriteDisks::System, [known, Some("sda1")]);
        numbers.sort_unstable();
        assert_eq!(numbers, data);
    }

    #[test]
    fn without_a_list_there_is_no_guard() {
        let dir = sysfs();
        assert!(entries(&dir.path().join("absent")).is_err());
        let class = dir.path().join("class");
        for number in 0..=ENTRIES_MAX {
            let link = class.join(format!("x{number}"));
            std::os::unix::fs::symlink(dir.path().join("devices/sda"), link).unwrap();
        }
        assert!(entries(&class).is_err());
        // One that goes while it is looked at is none.
        fs::remove_dir_all(dir.path().join("devices")).unwrap();
        assert_eq!(entries(&class).unwrap().len(), 0);
    }
}
