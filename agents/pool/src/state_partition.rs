//! The STATE partition: made once, in the rest of the system disk.

use crate::PoolError;
use crate::sniff::{BTRFS_SUPER_BYTES, BTRFS_SUPERS, Btrfs, Content, EDGE_BYTES};
use goblin_core_types::paths;
use goblin_image::Guid;
use goblin_image::gpt::{self, Gpt, GptError, NewPartition, Partition, TYPE_STATE};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// Label of STATE's file system.
pub(crate) const LABEL: &str = "goblin-state";
/// Smallest STATE worth having: btrfs itself needs 109 MiB.
const STATE_BYTES_MIN: u64 = 512 << 20;

/// What to do with an existing STATE partition.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// It is made.
    Mount,
    /// It was never made to the end.
    Format,
    /// It is somebody else's.
    Refuse,
}

/// Decides: pure. An unfinished or absent file system inside our own partition is the trace of a power
/// cut on first boot; everything else is kept.
pub(crate) fn decide(content: &Content) -> Next {
    match content {
        Content::Blank => Next::Format,
        Content::Btrfs(Btrfs { label, finished, .. }) if label == LABEL => {
            if *finished {
                Next::Mount
            } else {
                Next::Format
            }
        }
        // mkfs sets the label last of all, so an unfinished one may have none.
        Content::Btrfs(Btrfs { label, finished: false, .. }) if label.is_empty() => Next::Format,
        Content::Btrfs(_) | Content::Other(_) => Next::Refuse,
    }
}

/// Adds STATE to the table of a disk: what `disk` says of its size counts, not the table. Pure but for
/// the reading. `None` when the table has it already.
fn plan(disk: &mut File, unique_guid: Guid) -> Result<Option<(Gpt, Partition)>, GptError> {
    use std::io::Seek;
    let bytes = disk.seek(io::SeekFrom::End(0))?;
    let found = gpt::parse(disk)?.gpt;
    if found.by_name(paths::PART_STATE).is_some() {
        return Ok(None);
    }
    let new =
        NewPartition { type_guid: TYPE_STATE, unique_guid, name: paths::PART_STATE.to_owned() };
    let sectors = bytes.checked_div(gpt::SECTOR_BYTES).unwrap_or(0);
    let sectors_min = STATE_BYTES_MIN / gpt::SECTOR_BYTES;
    let table = found.relocated(sectors)?.with_partition_in_rest(new, sectors_min)?;
    let partition = table.by_name(paths::PART_STATE).cloned();
    Ok(partition.map(|partition| (table, partition)))
}

/// Makes the partition on the disk if its table has none, and returns it. Order: the place is blanked
/// first, so that nothing of an earlier owner of the disk is taken for STATE; then the table, whose
/// steps leave one whole copy at every instant.
pub(crate) fn ensure(disk_path: &Path, unique_guid: Guid) -> Result<Option<Partition>, PoolError> {
    let written = || PoolError::device(disk_path, "written");
    let mut disk = File::options()
        .read(true)
        .write(true)
        .open(disk_path)
        .map_err(PoolError::device(disk_path, "opened"))?;
    let planned = plan(&mut disk, unique_guid)
        .map_err(|source| PoolError::Table { disk: disk_path.to_owned(), source })?;
    let Some((table, partition)) = planned else { return Ok(None) };
    blank(&disk, &partition).map_err(written())?;
    for step in table.steps() {
        disk.write_all_at(&step.bytes, step.offset_bytes).map_err(written())?;
        disk.sync_all().map_err(written())?;
    }
    Ok(Some(partition))
}

/// Zeroes what [`crate::sniff`] looks at.
fn blank(disk: &File, partition: &Partition) -> io::Result<()> {
    let zeros = vec![0u8; EDGE_BYTES];
    let zero = |from: u64, length: usize| -> io::Result<()> {
        let end = from.saturating_add(length as u64);
        if end > partition.size_bytes() {
            return Ok(());
        }
        let piece = zeros.get(..length).unwrap_or_default();
        disk.write_all_at(piece, partition.offset_bytes().saturating_add(from))
    };
    zero(0, EDGE_BYTES)?;
    zero(partition.size_bytes().saturating_sub(EDGE_BYTES as u64), EDGE_BYTES)?;
    for offset in BTRFS_SUPERS {
        zero(offset, BTRFS_SUPER_BYTES)?;
    }
    disk.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sniff::{classify, read_samples};
    use goblin_image::gpt::Copies;
    use std::io::Write;

    const MIB: u64 = 1 << 20;

    /// A disk of `mib` MiB onto which an image of 8 MiB with an ESP and a record was flashed.
    fn flashed(dir: &Path, mib: u64, fill: u8) -> std::path::PathBuf {
        let path = dir.join("disk");
        let mut disk = File::create(&path).unwrap();
        disk.set_len(mib * MIB).unwrap();
        disk.write_all_at(&vec![fill; 2 << 20], 8 * MIB).unwrap();
        let part = |number, name: &str, first, last| Partition {
            number,
            type_guid: gpt::TYPE_ESP,
            unique_guid: Guid([u8::try_from(number).unwrap(); 16]),
            name: name.into(),
            first_lba: first,
            last_lba: last,
            attributes: 0,
        };
        let table = Gpt::new(
            Guid([9; 16]),
            8 * MIB / 512,
            vec![part(1, paths::PART_ESP, 2048, 6143), part(2, paths::PART_RECORD, 6144, 8191)],
        );
        table.unwrap().write(&mut disk).unwrap();
        disk.flush().unwrap();
        path
    }

    #[test]
    fn state_takes_the_rest_of_a_larger_disk_once() {
        let dir = tempfile::tempdir().unwrap();
        let path = flashed(dir.path(), 640, 0xaa);
        let made = ensure(&path, Guid([5; 16])).unwrap().unwrap();
        assert_eq!((made.number, made.offset_bytes() % MIB), (3, 0));
        assert!(made.size_bytes() > 620 * MIB);
        let found = gpt::parse(&mut File::open(&path).unwrap()).unwrap();
        assert_eq!((found.copies, found.gpt.partitions().len()), (Copies::Both, 3));
        assert!(ensure(&path, Guid([6; 16])).unwrap().is_none());
    }

    /// The bytes at one place of a file.
    fn bytes_at(path: &Path, offset: u64, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        File::open(path).unwrap().read_exact_at(&mut bytes, offset).unwrap();
        bytes
    }

    #[test]
    fn the_rest_of_an_earlier_owner_is_blanked_inside_the_new_partition_only() {
        let dir = tempfile::tempdir().unwrap();
        let path = flashed(dir.path(), 640, 0xaa);
        let kept = 34 * 512;
        let before = bytes_at(&path, kept, 9 << 20);
        let made = ensure(&path, Guid([5; 16])).unwrap().unwrap();
        let start = made.offset_bytes();
        let length = usize::try_from(start - kept).unwrap();
        assert!(
            bytes_at(&path, kept, length) == before[..length],
            "what lies before STATE is kept"
        );
        // A device that shows the partition alone: the places that are looked at, nothing else.
        let part = dir.path().join("state");
        let device = File::create(&part).unwrap();
        device.set_len(made.size_bytes()).unwrap();
        for offset in [0, 64 * MIB, made.size_bytes() - MIB] {
            device.write_all_at(&bytes_at(&path, start + offset, EDGE_BYTES), offset).unwrap();
        }
        assert_eq!(classify(&read_samples(&part).unwrap()), Content::Blank);
    }

    #[test]
    fn a_power_cut_after_any_step_is_made_good() {
        let dir = tempfile::tempdir().unwrap();
        let path = flashed(dir.path(), 640, 0);
        let mut disk = File::options().read(true).write(true).open(&path).unwrap();
        let (table, _) = plan(&mut disk, Guid([5; 16])).unwrap().unwrap();
        for step in table.steps() {
            // The step torn in its middle, then nothing more.
            disk.write_all_at(&step.bytes[..step.bytes.len() / 1024 * 512], step.offset_bytes)
                .unwrap();
            let found = gpt::parse(&mut disk).unwrap().gpt;
            assert!(found.by_name(paths::PART_ESP).is_some());
            disk.write_all_at(&step.bytes, step.offset_bytes).unwrap();
        }
        assert!(ensure(&path, Guid([5; 16])).unwrap().is_none());
    }

    #[test]
    fn a_small_disk_is_refused_with_its_table_as_it_was() {
        let dir = tempfile::tempdir().unwrap();
        let path = flashed(dir.path(), 64, 0);
        let before = std::fs::read(&path).unwrap();
        assert!(matches!(ensure(&path, Guid([5; 16])), Err(PoolError::Table { .. })));
        assert!(std::fs::read(&path).unwrap() == before);
    }

    #[test]
    fn only_our_own_unfinished_file_system_is_made_again() {
        let btrfs = |label: &str, finished| {
            let label = label.to_owned();
            Content::Btrfs(Btrfs { fsid: Guid([1; 16]), label, devices: 1, finished })
        };
        assert_eq!(decide(&Content::Blank), Next::Format);
        assert_eq!(decide(&btrfs(LABEL, true)), Next::Mount);
        assert_eq!(decide(&btrfs(LABEL, false)), Next::Format);
        assert_eq!(decide(&btrfs("", false)), Next::Format);
        assert_eq!(decide(&btrfs("photos", false)), Next::Refuse);
        assert_eq!(decide(&btrfs("photos", true)), Next::Refuse);
        assert_eq!(decide(&Content::Other("an xfs file system")), Next::Refuse);
    }
}
