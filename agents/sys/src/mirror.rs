//! The labels of two mirrored system disks, and the way from one of them to the other.

use crate::block::{self, Disk, Partition};
use crate::record::RecordPartition;
use crate::{efivar, mount};
use goblin_core_types::{DiskLabel, paths};
use goblin_image::{Guid, record};
use rustix::fs::{Mode, OFlags};
use rustix::mount::MountFlags;
use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, Instant};

/// Vendor of the firmware's own variables (UEFI 2.10, section 3.3).
const GLOBAL_VENDOR: &str = "8be4df61-93ca-11d2-aa0d-00e098032b8c";
/// Number of the boot option that leads to the other disk.
const OPTION: u16 = 0x6b1e;
/// Attributes of both variables: non-volatile, for boot services and for us.
const ATTRIBUTES: u32 = 7;
/// The loader on an ESP.
const LOADER: &str = "\\EFI\\BOOT\\BOOTX64.EFI";

/// Pause between two looks for a disk.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// A system disk that is one of two.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// The disk.
    pub disk: Disk,
    /// What it says of itself.
    pub label: DiskLabel,
}

/// The label of a system disk; `None` where it has none, or no RECORD.
///
/// # Errors
/// The disk's.
pub fn label_of(disk: &Disk) -> io::Result<Option<DiskLabel>> {
    let Some(partition) = disk.partition(paths::PART_RECORD) else { return Ok(None) };
    Ok(read(&File::open(&partition.dev_path)?)?.map(|(label, _)| label))
}

pub(crate) fn read(device: &File) -> io::Result<Option<(DiskLabel, u64)>> {
    let [a, b] = record::LABEL_OFFSETS.map(|offset| {
        let mut copy = vec![0u8; record::LABEL_BYTES];
        device.read_exact_at(&mut copy, offset).map(|()| copy)
    });
    match (a, b) {
        (Err(err), Err(_)) => Err(err),
        (a, b) => Ok(record::decode_label([&a.unwrap_or_default(), &b.unwrap_or_default()])),
    }
}

/// Writes the label of a disk, and waits until the disk has it.
///
/// # Errors
/// The disk's, and `NotFound` where it has no RECORD.
pub fn write_label(disk: &Disk, label: &DiskLabel) -> io::Result<()> {
    let partition = disk.partition(paths::PART_RECORD).ok_or(io::ErrorKind::NotFound)?;
    write_label_at(&partition.dev_path, label)
}

/// As [`write_label`], on the partition.
///
/// # Errors
/// The disk's.
pub fn write_label_at(partition: &Path, label: &DiskLabel) -> io::Result<()> {
    let flags = OFlags::RDWR | OFlags::CLOEXEC | OFlags::DSYNC;
    let device: File = rustix::fs::open(partition, flags, Mode::empty())?.into();
    let sequence = read(&device)?.map_or(0, |(_, sequence)| sequence);
    let (offset, bytes) = record::encode_label(label, sequence.saturating_add(1))
        .map_err(|err| io::Error::new(io::ErrorKind::InvalidData, err))?;
    device.write_all_at(&bytes, offset)?;
    device.sync_data()
}

/// The other disk of a pair, while it is there.
///
/// # Errors
/// When disks cannot be listed; one that cannot be read is not there.
pub fn other(booted: &Disk, label: &DiskLabel) -> io::Result<Option<Member>> {
    let others = block::disks()?.into_iter().filter(|disk| disk.name != booted.name);
    Ok(others
        .filter_map(|disk| {
            let label = label_of(&disk).ok().flatten()?;
            Some(Member { disk, label })
        })
        .find(|member| member.label.set == label.set))
}

/// As [`other`], with patience for a disk that shows up late, where this one did not write without it.
///
/// # Errors
/// As [`other`].
pub fn await_other(
    booted: &Disk,
    label: &DiskLabel,
    patience: Duration,
) -> io::Result<Option<Member>> {
    let start = Instant::now();
    loop {
        let found = other(booted, label)?;
        if found.is_some() || label.alone || start.elapsed() >= patience {
            return Ok(found);
        }
        std::thread::sleep(LOOK_AGAIN);
    }
}

/// The disk that the board works from: where the unit `state` and the keeper of the mirror say that it is, else the
/// one it was started from.
///
/// # Errors
/// When disks cannot be listed.
pub fn system_disk() -> io::Result<Option<Disk>> {
    let link = Path::new(paths::SYSTEM_DISK).join(paths::PART_RECORD);
    if let Ok(device) = std::fs::read_link(link) {
        let holds = |disk: &Disk| disk.partitions.iter().any(|part| part.dev_path == device);
        return Ok(block::disks()?.into_iter().find(holds));
    }
    efivar::loader_device_part_uuid().map_or(Ok(None), |esp| block::system_disk(&esp))
}

/// Brings the boot record of `to` up to that of `from` where that is newer. True when it was.
///
/// # Errors
/// The disks'.
pub fn carry_record(from: &Disk, to: &Disk) -> io::Result<bool> {
    let open = |disk: &Disk| {
        let partition = disk.partition(paths::PART_RECORD).ok_or(io::ErrorKind::NotFound)?;
        RecordPartition::open(&partition.dev_path)
    };
    open(to)?.carry_from(&open(from)?)
}

/// Tells the firmware to start the loader of another disk next time, once.
///
/// # Errors
/// When the disk has no ESP, or the firmware refuses.
pub fn boot_next(disk: &Disk) -> io::Result<()> {
    let esp = disk.partition(paths::PART_ESP).ok_or(io::ErrorKind::NotFound)?;
    let option = load_option(esp).ok_or(io::ErrorKind::InvalidData)?;
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    mount::remount(efivar::EFIVARS, flags, "")?;
    let put = |name: &str, value: &[u8]| -> io::Result<()> {
        let path = Path::new(efivar::EFIVARS).join(format!("{name}-{GLOBAL_VENDOR}"));
        let mut bytes = ATTRIBUTES.to_le_bytes().to_vec();
        bytes.extend_from_slice(value);
        // A variable is what one write brings.
        File::options().create(true).truncate(false).write(true).open(path)?.write_all(&bytes)
    };
    let done = put(&format!("Boot{OPTION:04X}"), &option)
        .and_then(|()| put("BootNext", &OPTION.to_le_bytes()));
    let _ = mount::remount(efivar::EFIVARS, flags | MountFlags::RDONLY, "");
    done
}

/// `EFI_LOAD_OPTION` (UEFI 2.10, section 3.1.3) whose path is the short form: a partition by its GUID, and a file
/// (sections 10.3.5.1 and 10.3.5.4).
fn load_option(esp: &Partition) -> Option<Vec<u8>> {
    let guid: Guid = esp.part_uuid.as_deref()?.parse().ok()?;
    let wide = |text: &str| -> Vec<u8> {
        text.encode_utf16().chain([0]).flat_map(u16::to_le_bytes).collect()
    };
    let file = wide(LOADER);
    let mut path = vec![4, 1, 42, 0];
    path.extend_from_slice(&esp.number.to_le_bytes());
    path.extend_from_slice(&esp.start_sector.to_le_bytes());
    path.extend_from_slice(&esp.sectors.to_le_bytes());
    path.extend_from_slice(&guid.to_disk());
    path.extend_from_slice(&[2, 2, 4, 4]);
    path.extend_from_slice(&u16::try_from(file.len().checked_add(4)?).ok()?.to_le_bytes());
    path.extend_from_slice(&file);
    path.extend_from_slice(&[0x7f, 0xff, 4, 0]);
    let mut option = 1u32.to_le_bytes().to_vec();
    option.extend_from_slice(&u16::try_from(path.len()).ok()?.to_le_bytes());
    option.extend_from_slice(&wide("goblinux, the other system disk"));
    option.extend_from_slice(&path);
    Some(option)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn disk(dir: &Path, name: &str) -> Disk {
        let dev_path = dir.join(name);
        File::create(&dev_path).unwrap().set_len(record::RECORD_BYTES).unwrap();
        let partition = Partition {
            name: name.into(),
            dev_path: dev_path.clone(),
            number: 2,
            part_name: Some(paths::PART_RECORD.into()),
            part_uuid: Some("03020100-0504-0706-0809-0a0b0c0d0e0f".into()),
            start_sector: 2048,
            sectors: 8192,
        };
        Disk {
            name: name.into(),
            dev_path,
            serial: None,
            model: String::new(),
            size_bytes: 0,
            removable: false,
            partitions: vec![partition],
        }
    }

    #[test]
    fn labels_are_read_back_and_leave_the_record_alone() {
        let dir = tempfile::tempdir().unwrap();
        let disk = disk(dir.path(), "a");
        assert_eq!(label_of(&disk).unwrap(), None);
        for epoch in ["1", "2", "3"] {
            let label = DiskLabel { epoch: epoch.into(), ..DiskLabel::default() };
            write_label(&disk, &label).unwrap();
            assert_eq!(label_of(&disk).unwrap(), Some(label));
        }
        let record = crate::record::RecordPartition::open(&disk.dev_path).unwrap();
        record.update(|record| record.boot_count = 7).unwrap();
        assert_eq!(label_of(&disk).unwrap().unwrap().epoch, "3");
        assert_eq!(record.read().unwrap().boot_count, 7);
    }

    #[test]
    fn only_a_newer_record_is_carried_over() {
        let dir = tempfile::tempdir().unwrap();
        let (a, b) = (disk(dir.path(), "a"), disk(dir.path(), "b"));
        let open = |disk: &Disk| crate::record::RecordPartition::open(&disk.dev_path).unwrap();
        for count in 1..=5 {
            open(&a).update(|record| record.boot_count = count).unwrap();
            assert!(carry_record(&a, &b).unwrap());
            assert_eq!(open(&b).read().unwrap().boot_count, count);
        }
        assert!(!carry_record(&b, &a).unwrap());
        open(&b).update(|record| record.boot_count = 9).unwrap();
        assert!(!carry_record(&a, &b).unwrap());
        assert!(carry_record(&b, &a).unwrap());
        assert_eq!(open(&a).read().unwrap().boot_count, 9);
    }

    #[test]
    fn the_boot_option_names_the_partition_and_the_loader() {
        let dir = tempfile::tempdir().unwrap();
        let option = load_option(&disk(dir.path(), "a").partitions[0]).unwrap();
        let text_bytes = 2 * ("goblinux, the other system disk".len() + 1);
        let path = &option[6 + text_bytes..];
        assert_eq!(usize::from(u16::from_le_bytes([option[4], option[5]])), path.len());
        assert_eq!(&path[..8], [4, 1, 42, 0, 2, 0, 0, 0]);
        assert_eq!(&path[24..40], (0u8..16).collect::<Vec<_>>());
        assert_eq!(&path[40..44], [2, 2, 4, 4]);
        assert!(path.ends_with(&[0x7f, 0xff, 4, 0]));
    }
}
