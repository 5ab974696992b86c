//! What lies on a disk or partition, told from a few places of it: pure, but for reading them.
//!
//! Everything that is not known for certain to be blank counts as somebody's data.

use goblin_image::Guid;
use std::fmt;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// Bytes looked at from the start, and at the end.
pub(crate) const EDGE_BYTES: usize = 1 << 20;
/// Where btrfs keeps its superblock and the first two copies
/// (`Documentation/filesystems/btrfs.rst`, on-disk format page of btrfs-progs).
pub(crate) const BTRFS_SUPERS: [u64; 3] = [64 << 10, 64 << 20, 256 << 30];
/// Length of a btrfs superblock.
pub(crate) const BTRFS_SUPER_BYTES: usize = 4096;
const BTRFS_MAGIC: &[u8] = b"_BHRfS_M";
/// What mkfs.btrfs writes while it works, instead of [`BTRFS_MAGIC`].
const BTRFS_MAGIC_UNFINISHED: &[u8] = b"!BHRfS_M";

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Content {
    /// Nothing: every byte looked at is zero, or every byte is 0xff as on fresh flash.
    Blank,
    /// A btrfs.
    Btrfs(Btrfs),
    /// Something else, by its usual name.
    Other(&'static str),
}

/// What a btrfs says about itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Btrfs {
    /// UUID of the file system.
    pub(crate) fsid: Guid,
    /// Its label.
    pub(crate) label: String,
    /// Disks it is made of.
    pub(crate) devices: u64,
    /// False while mkfs works on it, or when a power cut ended mkfs.
    pub(crate) finished: bool,
}

impl fmt::Display for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Blank => f.write_str("nothing"),
            Self::Btrfs(btrfs) => write!(f, "a btrfs labelled `{}`", printable(&btrfs.label)),
            Self::Other(name) => f.write_str(name),
        }
    }
}

fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '?' } else { c }).collect()
}

/// The bytes that are looked at.
#[derive(Debug, Default)]
pub(crate) struct Samples {
    pub(crate) head: Vec<u8>,
    pub(crate) tail: Vec<u8>,
    /// The second and third btrfs superblock, where the device is long enough.
    pub(crate) copies: Vec<Vec<u8>>,
}

/// Bytes from the start that must be blank before a disk is formatted: file systems begin where a lost
/// partition table let the first partition begin, usually at 1 MiB.
const BLANK_HEAD_BYTES: u64 = 16 << 20;
/// Places over the whole disk that must be blank, too. An empty file system of any kind leaves more.
const BLANK_SPOTS: u64 = 1024;
/// Bytes of one such place.
const BLANK_SPOT_BYTES: usize = 4096;

/// The last look before a disk is formatted: false when anything but one fill byte is found in its first
/// 16 MiB or in one of many places all over it.
pub(crate) fn is_blank_throughout(file: &File) -> io::Result<bool> {
    let length = length_of(file)?;
    let spot_bytes = BLANK_SPOT_BYTES as u64;
    let spots = length.checked_div(spot_bytes).unwrap_or(0);
    let head = BLANK_HEAD_BYTES.div_ceil(spot_bytes).min(spots);
    // All places when there are few; the step is odd, so that no even pattern of a file system hides.
    let step = (spots / BLANK_SPOTS).max(1) | 1;
    let step = usize::try_from(step).unwrap_or(usize::MAX);
    let mut fill = None;
    let mut spot = [0u8; BLANK_SPOT_BYTES];
    for index in (0..head).chain((head..spots).step_by(step)) {
        file.read_exact_at(&mut spot, index.saturating_mul(spot_bytes))?;
        let [first, ..] = spot;
        let wanted = *fill.get_or_insert(first);
        if !matches!(wanted, 0 | 0xff) || spot.iter().any(|byte| *byte != wanted) {
            return Ok(false);
        }
    }
    Ok(fill.is_some())
}

/// Length of a file or block device in bytes.
fn length_of(mut file: &File) -> io::Result<u64> {
    use std::io::Seek;
    file.seek(io::SeekFrom::End(0))
}

/// Reads what [`classify`] looks at.
pub(crate) fn read_samples(device: &Path) -> io::Result<Samples> {
    samples_of(&File::open(device)?)
}

/// As [`read_samples`], of an open device.
pub(crate) fn samples_of(file: &File) -> io::Result<Samples> {
    let length = length_of(file)?;
    let read = |offset: u64, wanted: usize| -> io::Result<Vec<u8>> {
        let left = usize::try_from(length.saturating_sub(offset)).unwrap_or(usize::MAX);
        let mut bytes = vec![0u8; wanted.min(left)];
        file.read_exact_at(&mut bytes, offset)?;
        Ok(bytes)
    };
    let mut samples = Samples {
        head: read(0, EDGE_BYTES)?,
        tail: read(length.saturating_sub(EDGE_BYTES as u64), EDGE_BYTES)?,
        copies: Vec::new(),
    };
    for offset in BTRFS_SUPERS.into_iter().skip(1) {
        if length > offset.saturating_add(BTRFS_SUPER_BYTES as u64) {
            samples.copies.push(read(offset, BTRFS_SUPER_BYTES)?);
        }
    }
    Ok(samples)
}

/// Says what the samples are.
pub(crate) fn classify(samples: &Samples) -> Content {
    let head = samples.head.as_slice();
    if let Some(btrfs) = head.get(1 << 16..).and_then(btrfs) {
        return Content::Btrfs(btrfs);
    }
    // MBR last: many boot sectors end with its mark.
    let known: [(&[u8], &[usize], &'static str); 17] = [
        (b"EFI PART", &[512, 4096], "a partition table (GPT)"),
        (b"XFSB", &[0], "an xfs file system"),
        (b"LUKS\xba\xbe", &[0], "an encrypted volume (LUKS)"),
        (b"LABELONE", &[0, 512, 1024, 1536], "an LVM volume"),
        (b"\xfc\x4e\x2b\xa9", &[0, 4096], "a member of a Linux RAID"),
        (b"\x53\xef", &[0x438], "an ext2, ext3 or ext4 file system"),
        (b"\x10\x20\xf5\xf2", &[0x400], "an f2fs file system"),
        (b"SWAPSPACE2", &[4086], "swap space"),
        (b"SWAP-SPACE", &[4086], "swap space"),
        (b"NTFS    ", &[3], "an NTFS file system"),
        (b"EXFAT   ", &[3], "an exFAT file system"),
        (b"FAT1", &[54], "a FAT file system"),
        (b"FAT32", &[82], "a FAT file system"),
        (b"CD001", &[0x8001], "a CD image"),
        (b"\xe2\xe1\xf5\xe0", &[1024], "an erofs image"),
        (b"\xc6\x85\x73\xf6\x4e\x1a\x45\xca", &[0x1018], "a bcache member"),
        (b"\x55\xaa", &[510], "a partition table (MBR)"),
    ];
    for (magic, offsets, name) in known {
        if offsets.iter().any(|&at| head.get(at..).is_some_and(|rest| rest.starts_with(magic))) {
            return Content::Other(name);
        }
    }
    if is_zfs(head) || is_zfs(&samples.tail) {
        return Content::Other("a member of a ZFS pool");
    }
    if let Some(btrfs) = samples.copies.iter().find_map(|copy| btrfs(copy)) {
        // The first superblock is gone, the data may not be.
        return Content::Btrfs(btrfs);
    }
    let blank = |fill: u8| {
        let mut all = samples.copies.iter().chain([&samples.head, &samples.tail]);
        all.all(|bytes| bytes.iter().all(|&byte| byte == fill))
    };
    if !head.is_empty() && (blank(0) || blank(0xff)) {
        return Content::Blank;
    }
    Content::Other("data of an unknown kind")
}

/// `csum[32] fsid[16] bytenr[8] flags[8] magic[8] .. num_devices[8] at 0x88 .. label[256] at 0x12b`,
/// little endian.
fn btrfs(superblock: &[u8]) -> Option<Btrfs> {
    let magic = superblock.get(0x40..0x48)?;
    let finished = magic == BTRFS_MAGIC;
    if !finished && magic != BTRFS_MAGIC_UNFINISHED {
        return None;
    }
    let label = superblock.get(0x12b..0x22b)?;
    let end = label.iter().position(|&byte| byte == 0).unwrap_or(label.len());
    Some(Btrfs {
        fsid: Guid(*superblock.get(0x20..)?.first_chunk()?),
        label: String::from_utf8_lossy(label.get(..end)?).into_owned(),
        devices: u64::from_le_bytes(*superblock.get(0x88..)?.first_chunk()?),
        finished,
    })
}

/// An uberblock of the label's ring: `00bab10c` in either byte order at a multiple of 1 KiB from 128 KiB.
fn is_zfs(edge: &[u8]) -> bool {
    edge.chunks_exact(1024).any(|block| {
        block.starts_with(&[0x0c, 0xb1, 0xba, 0, 0, 0, 0, 0])
            || block.starts_with(&[0, 0, 0, 0, 0, 0xba, 0xb1, 0x0c])
    })
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;

    pub(crate) fn blank() -> Samples {
        Samples {
            head: vec![0; EDGE_BYTES],
            tail: vec![0; EDGE_BYTES],
            copies: vec![vec![0; 4096]],
        }
    }

    fn superblock(fsid: u8, magic: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0u8; BTRFS_SUPER_BYTES];
        bytes[0x20..0x30].fill(fsid);
        bytes[0x40..0x48].copy_from_slice(magic);
        bytes[0x88] = 2;
        bytes[0x12b..0x136].copy_from_slice(b"goblin-pool");
        bytes
    }

    #[test]
    fn zeros_and_fresh_flash_are_blank_and_one_byte_is_not() {
        assert_eq!(classify(&blank()), Content::Blank);
        let mut flash = blank();
        for bytes in flash.copies.iter_mut().chain([&mut flash.head, &mut flash.tail]) {
            bytes.fill(0xff);
        }
        assert_eq!(classify(&flash), Content::Blank);
        for edge in 0..3 {
            let mut samples = blank();
            match edge {
                0 => samples.head[777] = 1,
                1 => samples.tail[EDGE_BYTES - 1] = 1,
                _ => samples.copies[0][9] = 1,
            }
            assert_eq!(classify(&samples), Content::Other("data of an unknown kind"));
        }
        assert_ne!(
            classify(&Samples::default()),
            Content::Blank,
            "an unreadable disk is not blank"
        );
    }

    #[test]
    fn btrfs_is_recognised_finished_or_not_and_by_its_copy() {
        let mut samples = blank();
        samples.head[1 << 16..(1 << 16) + 4096].copy_from_slice(&superblock(7, BTRFS_MAGIC));
        let want =
            Btrfs { fsid: Guid([7; 16]), label: "goblin-pool".into(), devices: 2, finished: true };
        assert_eq!(classify(&samples), Content::Btrfs(want.clone()));
        samples.head[1 << 16..(1 << 16) + 4096]
            .copy_from_slice(&superblock(7, BTRFS_MAGIC_UNFINISHED));
        assert_eq!(classify(&samples), Content::Btrfs(Btrfs { finished: false, ..want.clone() }));
        let mut samples = blank();
        samples.copies = vec![superblock(7, BTRFS_MAGIC)];
        assert_eq!(classify(&samples), Content::Btrfs(want));
    }

    #[test]
    fn usual_neighbours_are_named() {
        for (at, magic, word) in [
            (512, &b"EFI PART"[..], "GPT"),
            (510, b"\x55\xaa", "MBR"),
            (0x438, b"\x53\xef", "ext4"),
            (0, b"XFSB", "xfs"),
            (0, b"LUKS\xba\xbe", "LUKS"),
            (4096, b"\xfc\x4e\x2b\xa9", "RAID"),
            (132 << 10, b"\x0c\xb1\xba\0\0\0\0\0", "ZFS"),
        ] {
            let mut samples = blank();
            samples.head[at..at + magic.len()].copy_from_slice(magic);
            let found = classify(&samples).to_string();
            assert!(found.contains(word), "{found}");
        }
    }

    #[test]
    fn a_disk_with_data_behind_blank_edges_is_not_blank() {
        let file = tempfile::tempfile().unwrap();
        let length = 256u64 << 20;
        file.set_len(length).unwrap();
        assert!(is_blank_throughout(&file).unwrap());
        let mut blank_edges = vec![(1u64 << 20) + 1024, (2 << 20) + 5, (16 << 20) - 1];
        // A file system that lies anywhere is hit somewhere.
        blank_edges.push(128 << 20);
        for at in blank_edges {
            let bytes = vec![0x5a; if at < 16 << 20 { 1 } else { 2 << 20 }];
            file.write_all_at(&bytes, at).unwrap();
            assert_eq!(classify(&samples_of(&file).unwrap()), Content::Blank, "the edges are");
            assert!(!is_blank_throughout(&file).unwrap(), "byte at {at}");
            file.write_all_at(&vec![0; bytes.len()], at).unwrap();
        }
        assert!(is_blank_throughout(&file).unwrap());
    }

    proptest! {
        #[test]
        fn any_bytes_are_answered(head in prop::collection::vec(any::<u8>(), 0..5000)) {
            let _ = classify(&Samples { head, ..Samples::default() }).to_string();
        }
    }
}
