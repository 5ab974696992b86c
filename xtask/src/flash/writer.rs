//! Writes an image to a disk by its block map, with the board's own bytes laid over it, and reads all
//! of it back.

use super::Wanted;
use crate::host::Progress;
use anyhow::{Context, Result, bail};
use goblin_core_types::Digest;
use goblin_image::Guid;
use goblin_image::disk::MapRange;
use goblin_image::gpt::{Gpt, Partition, SECTOR_BYTES};
use std::fs::File;
use std::io::{BufReader, Read};
use std::os::unix::fs::FileExt;

/// Bytes skipped or read at once.
const PIECE_BYTES: usize = 1 << 20;

/// Bytes that replace what the image has at their place.
#[derive(Debug)]
struct Overlay {
    offset: u64,
    bytes: Vec<u8>,
}

/// What must be on the disk in the end.
#[derive(Debug)]
struct Written {
    offset: u64,
    length: usize,
    digest: Digest,
}

/// Writes, makes durable, reads back.
pub(super) fn write(wanted: &Wanted, disk: File, disk_bytes: u64) -> Result<()> {
    let overlays = overlays(wanted, disk_bytes)?;
    let mut image = open_image(wanted)?;
    let mut written = Vec::new();
    let mut progress = Progress::new("writing");
    let total: u64 = wanted.map.ranges.iter().map(|range| range.length_bytes).sum();
    let (mut at, mut done) = (0, 0);
    for range in &wanted.map.ranges {
        skip(&mut image, range.offset_bytes - at)?;
        let mut bytes = read_range(&mut image, range)?;
        at = range.offset_bytes + range.length_bytes;
        for overlay in &overlays {
            overlay.patch(range.offset_bytes, &mut bytes);
        }
        put(&disk, range.offset_bytes, &bytes, &mut written)?;
        done += range.length_bytes;
        progress.at(format!("{} of {} MiB", done >> 20, total >> 20));
    }
    // Once more whole: the table's second copy lies where the image has nothing.
    for overlay in &overlays {
        put(&disk, overlay.offset, &overlay.bytes, &mut written)?;
    }
    disk.sync_all().context("the disk did not take the data")?;
    progress.done();
    verify(&disk, &written)
}

fn put(disk: &File, offset: u64, bytes: &[u8], written: &mut Vec<Written>) -> Result<()> {
    disk.write_all_at(bytes, offset).with_context(|| format!("cannot write at byte {offset}"))?;
    let digest = Digest(*blake3::hash(bytes).as_bytes());
    written.push(Written { offset, length: bytes.len(), digest });
    Ok(())
}

fn open_image(wanted: &Wanted) -> Result<Box<dyn Read>> {
    let path = &wanted.image;
    let file = File::open(path).with_context(|| format!("cannot read {}", path.display()))?;
    Ok(if path.extension().is_some_and(|extension| extension == "zst") {
        Box::new(zstd::Decoder::new(file).context("cannot start zstd")?)
    } else {
        Box::new(BufReader::new(file))
    })
}

fn skip(image: &mut dyn Read, bytes: u64) -> Result<()> {
    let mut piece = vec![0; PIECE_BYTES];
    let mut left = bytes;
    while left > 0 {
        let want = usize::try_from(left).map_or(PIECE_BYTES, |left| left.min(PIECE_BYTES));
        let (now, _) = piece.split_at_mut(want);
        image.read_exact(now).context("the image is damaged or shorter than its block map says")?;
        left -= want as u64;
    }
    Ok(())
}

fn read_range(image: &mut dyn Read, range: &MapRange) -> Result<Vec<u8>> {
    // The map was checked: a range has at most a few MiB.
    let mut bytes = vec![0; usize::try_from(range.length_bytes).context("a range is too long")?];
    image
        .read_exact(&mut bytes)
        .context("the image is damaged or shorter than its block map says")?;
    if Digest(*blake3::hash(&bytes).as_bytes()) != range.digest {
        bail!(
            "the image differs from its block map at byte {}: copy both files again",
            range.offset_bytes
        );
    }
    Ok(bytes)
}

impl Overlay {
    /// Lays itself over a piece of the image that begins at `offset`.
    fn patch(&self, offset: u64, bytes: &mut [u8]) {
        let end = offset + bytes.len() as u64;
        let (from, to) =
            (self.offset.max(offset), (self.offset + self.bytes.len() as u64).min(end));
        if from >= to {
            return;
        }
        let place = |at: u64, base: u64| usize::try_from(at - base).unwrap_or(usize::MAX);
        let into = bytes.get_mut(place(from, offset)..place(to, offset));
        let out_of = self.bytes.get(place(from, self.offset)..place(to, self.offset));
        if let (Some(into), Some(out_of)) = (into, out_of) {
            into.copy_from_slice(out_of);
        }
    }
}

/// The image's table made for this disk and this board, its old second copy blanked, and the
/// provisioning file.
fn overlays(wanted: &Wanted, disk_bytes: u64) -> Result<Vec<Overlay>> {
    let map = &wanted.map;
    let id = wanted.provision.the_box.id;
    let role = wanted.provision.role.as_str().as_bytes();
    let own = |what: &str| Guid::derive(&[what.as_bytes(), &id.0, role]);
    let partitions = map
        .partitions
        .iter()
        .map(|partition| Partition {
            number: partition.number,
            type_guid: partition.type_guid,
            unique_guid: own(&partition.name),
            name: partition.name.clone(),
            first_lba: partition.offset_bytes / SECTOR_BYTES,
            last_lba: ((partition.offset_bytes + partition.size_bytes) / SECTOR_BYTES)
                .saturating_sub(1),
            attributes: 0,
        })
        .collect();
    let gpt = Gpt::new(own("goblinux disk"), disk_bytes / SECTOR_BYTES, partitions)
        .context("the image's partitions do not fit this disk")?;
    let steps = gpt.steps();
    let copy_bytes = steps.first().map_or(0, |backup| backup.bytes.len());
    let old_copy = map.size_bytes.saturating_sub(copy_bytes as u64);
    let mut overlays = vec![
        Overlay { offset: old_copy, bytes: vec![0; copy_bytes] },
        Overlay { offset: map.provision_offset_bytes, bytes: wanted.sealed.clone() },
    ];
    overlays.extend(steps.map(|step| Overlay { offset: step.offset_bytes, bytes: step.bytes }));
    Ok(overlays)
}

fn verify(disk: &File, written: &[Written]) -> Result<()> {
    // Best effort: without it the kernel may answer from memory what it has just been given.
    let _ = rustix::fs::fadvise(disk, 0, None, rustix::fs::Advice::DontNeed);
    let mut progress = Progress::new("reading back");
    let total: usize = written.iter().map(|piece| piece.length).sum();
    let mut done = 0;
    for piece in written {
        let mut bytes = vec![0; piece.length];
        disk.read_exact_at(&mut bytes, piece.offset)
            .with_context(|| format!("cannot read back at byte {}", piece.offset))?;
        if Digest(*blake3::hash(&bytes).as_bytes()) != piece.digest {
            bail!(
                "the disk does not hold what was written at byte {}: it is failing",
                piece.offset
            );
        }
        done += piece.length;
        progress.at(format!("{} of {} MiB", done >> 20, total >> 20));
    }
    progress.done();
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_overlay_changes_only_what_it_covers() {
        let overlay = Overlay { offset: 10, bytes: vec![1, 2, 3, 4] };
        let patched = |offset, length| {
            let mut bytes = vec![0; length];
            overlay.patch(offset, &mut bytes);
            bytes
        };
        assert_eq!(patched(8, 4), [0, 0, 1, 2]);
        assert_eq!(patched(12, 4), [3, 4, 0, 0]);
        assert_eq!(patched(11, 2), [2, 3]);
        assert_eq!(patched(14, 2), [0, 0]);
        assert_eq!(patched(0, 10), [0; 10]);
    }
}
