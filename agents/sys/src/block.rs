//! Disks and partitions: what the kernel sees, reading past its cache, telling it about new partitions.
//!
//! Sources: `Documentation/ABI/stable/sysfs-block`, `include/uapi/linux/blkpg.h` of the kernel; UEFI
//! specification, section 5.3 (GPT).
#![allow(unsafe_code, reason = "ioctls BLKRRPART and BLKPG have no safe wrapper")]

use goblin_core_types::Digest;
use rustix::fs::{Mode, OFlags};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// Size of a sector as sysfs counts, whatever the disk's own sectors are, in bytes.
pub const SECTOR_BYTES: u64 = 512;
/// Longest sysfs attribute read, in bytes.
const ATTRIBUTE_BYTES_MAX: usize = 4096;
/// Bytes read at once past the cache.
const DIRECT_CHUNK_BYTES: usize = 1 << 20;
/// Alignment that every disk accepts for reads past the cache, in bytes.
const DIRECT_ALIGN_BYTES: usize = 4096;
/// Most partitions looked at on one disk.
const GPT_ENTRIES_MAX: u32 = 256;

/// A whole disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Disk {
    /// The kernel's name, like `nvme0n1`; not the same after every boot.
    pub name: String,
    /// Its device file, like `/dev/nvme0n1`.
    pub dev_path: PathBuf,
    /// Serial number without blanks around it, where the disk tells one.
    pub serial: Option<String>,
    /// Model, empty where the disk tells none.
    pub model: String,
    /// Size in bytes.
    pub size_bytes: u64,
    /// True for USB sticks and the like.
    pub removable: bool,
    /// By number.
    pub partitions: Vec<Partition>,
}

/// One partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Partition {
    /// The kernel's name, like `nvme0n1p2`.
    pub name: String,
    /// Its device file.
    pub dev_path: PathBuf,
    /// Number in the partition table, from 1.
    pub number: u32,
    /// GPT name, where it has one.
    pub part_name: Option<String>,
    /// GPT unique GUID as 36 lower-case characters; absent on a disk without a GPT.
    pub part_uuid: Option<String>,
    /// First sector, in units of [`SECTOR_BYTES`].
    pub start_sector: u64,
    /// Length in units of [`SECTOR_BYTES`].
    pub sectors: u64,
}

/// Every disk, by name. Loop devices, RAM disks, optical drives, and boot areas of eMMC are not disks.
///
/// # Errors
/// When sysfs is not mounted. A disk that cannot be read any further is listed with what is known.
pub fn disks() -> io::Result<Vec<Disk>> {
    disks_below(Path::new("/sys/class/block"), Path::new("/dev"))
}

/// The disk of this kernel name, like `sda`, or `None` when there is no such disk.
pub fn disk(name: &str) -> Option<Disk> {
    if name.is_empty() || name.contains('/') || name.starts_with('.') {
        return None;
    }
    read_disk(&Path::new("/sys/class/block").join(name), name.to_owned(), Path::new("/dev"))
}

/// The disk that holds the ESP with this PARTUUID (upper or lower case), or `None`.
///
/// # Errors
/// As [`disks`].
pub fn system_disk(esp_part_uuid: &str) -> io::Result<Option<Disk>> {
    Ok(disks()?.into_iter().find(|disk| {
        disk.partitions.iter().any(|partition| {
            partition
                .part_uuid
                .as_deref()
                .is_some_and(|uuid| uuid.eq_ignore_ascii_case(esp_part_uuid))
        })
    }))
}

impl Disk {
    /// The partition with this GPT name.
    pub fn partition(&self, part_name: &str) -> Option<&Partition> {
        self.partitions.iter().find(|partition| partition.part_name.as_deref() == Some(part_name))
    }
}

fn disks_below(sysfs: &Path, dev: &Path) -> io::Result<Vec<Disk>> {
    let mut disks = Vec::new();
    for entry in std::fs::read_dir(sysfs)? {
        let entry = entry?;
        let Ok(name) = entry.file_name().into_string() else { continue };
        if let Some(disk) = read_disk(&entry.path(), name, dev) {
            disks.push(disk);
        }
    }
    disks.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(disks)
}

fn read_disk(sysfs: &Path, name: String, dev: &Path) -> Option<Disk> {
    let odd = ["sr", "fd"].iter().any(|prefix| name.starts_with(prefix))
        || name.contains("boot")
        || name.contains("rpmb");
    let is_disk = sysfs.join("device").exists() && !sysfs.join("partition").exists();
    if odd || !is_disk || attribute_u64(sysfs, "hidden") == Some(1) {
        return None;
    }
    let dev_path = dev.join(&name);
    let mut disk = Disk {
        serial: serial(sysfs),
        model: attribute(sysfs, "device/model").unwrap_or_default(),
        size_bytes: attribute_u64(sysfs, "size").unwrap_or(0).saturating_mul(SECTOR_BYTES),
        removable: attribute_u64(sysfs, "removable") == Some(1),
        partitions: Vec::new(),
        name,
        dev_path,
    };
    for entry in std::fs::read_dir(sysfs).into_iter().flatten().flatten() {
        if let Some(partition) = read_partition(&entry.path(), dev) {
            disk.partitions.push(partition);
        }
    }
    disk.partitions.sort_by_key(|partition| partition.number);
    // Kernels before 6.13 do not name the GUID in the uevent; the table itself does.
    if disk.partitions.iter().any(|partition| partition.part_uuid.is_none()) {
        let uuids = File::open(&disk.dev_path).and_then(|file| gpt_part_uuids(&file));
        for (number, uuid) in uuids.unwrap_or_default() {
            for partition in &mut disk.partitions {
                if partition.number == number && partition.part_uuid.is_none() {
                    partition.part_uuid = Some(uuid.clone());
                }
            }
        }
    }
    Some(disk)
}

fn read_partition(sysfs: &Path, dev: &Path) -> Option<Partition> {
    let number = attribute(sysfs, "partition")?.parse().ok()?;
    let name = sysfs.file_name()?.to_str()?.to_owned();
    let uevent = attribute(sysfs, "uevent").unwrap_or_default();
    let word = |key: &str| {
        uevent.lines().find_map(|line| line.strip_prefix(key)).filter(|value| !value.is_empty())
    };
    Some(Partition {
        dev_path: dev.join(&name),
        name,
        number,
        part_name: word("PARTNAME=").map(str::to_owned),
        part_uuid: word("PARTUUID=").map(str::to_ascii_lowercase),
        start_sector: attribute_u64(sysfs, "start")?,
        sectors: attribute_u64(sysfs, "size")?,
    })
}

fn attribute(sysfs: &Path, name: &str) -> Option<String> {
    let bytes = crate::files::read_bounded(&sysfs.join(name), ATTRIBUTE_BYTES_MAX).ok()?;
    Some(String::from_utf8_lossy(&bytes).trim_matches(['\0', ' ', '\n', '\t']).to_owned())
}

fn attribute_u64(sysfs: &Path, name: &str) -> Option<u64> {
    attribute(sysfs, name)?.parse().ok()
}

/// virtio tells it on the disk, nvme on the device; SCSI and SATA in vital product data page 0x80,
/// `type[1] page[1] length[2] serial[length]`, else in the wwid.
fn serial(sysfs: &Path) -> Option<String> {
    let text = attribute(sysfs, "serial")
        .or_else(|| attribute(sysfs, "device/serial"))
        .or_else(|| {
            let path = sysfs.join("device/vpd_pg80");
            let page = crate::files::read_bounded(&path, ATTRIBUTE_BYTES_MAX).ok()?;
            Some(String::from_utf8_lossy(page.get(4..)?).trim_matches(['\0', ' ']).to_owned())
        })
        .or_else(|| attribute(sysfs, "device/wwid"))?;
    if text.is_empty() { None } else { Some(text) }
}

/// `(number, GUID)` of every used entry of the GPT on `disk`; empty without a GPT. Only names are taken
/// from it, so its checksums are the kernel's business.
fn gpt_part_uuids(disk: &File) -> io::Result<Vec<(u32, String)>> {
    for sector_bytes in [512u64, 4096] {
        let mut header = [0u8; 92];
        disk.read_exact_at(&mut header, sector_bytes)?;
        if header.starts_with(b"EFI PART") {
            return gpt_entries(disk, &header, sector_bytes);
        }
    }
    Ok(Vec::new())
}

fn gpt_entries(
    disk: &File,
    header: &[u8; 92],
    sector_bytes: u64,
) -> io::Result<Vec<(u32, String)>> {
    let first_lba = u64::from_le_bytes(field(header, 72));
    let count = u32::from_le_bytes(field(header, 80)).min(GPT_ENTRIES_MAX);
    let entry_bytes = u64::from(u32::from_le_bytes(field(header, 84)));
    let mut uuids = Vec::new();
    for index in 0..count {
        let offset = first_lba
            .saturating_mul(sector_bytes)
            .saturating_add(u64::from(index).saturating_mul(entry_bytes));
        let mut entry = [0u8; 32];
        disk.read_exact_at(&mut entry, offset)?;
        let [kind, unique]: [[u8; 16]; 2] = [field(&entry, 0), field(&entry, 16)];
        if kind != [0; 16] {
            uuids.push((index.saturating_add(1), guid_text(&unique)));
        }
    }
    Ok(uuids)
}

/// `N` bytes at `offset`, zeros where the source is shorter.
fn field<const N: usize>(bytes: &[u8], offset: usize) -> [u8; N] {
    bytes.get(offset..).and_then(<[u8]>::first_chunk).copied().unwrap_or([0; N])
}

/// A GUID's text form: the first three groups are stored little endian.
fn guid_text(guid: &[u8; 16]) -> String {
    let a = u32::from_le_bytes(field(guid, 0));
    let b = u16::from_le_bytes(field(guid, 4));
    let c = u16::from_le_bytes(field(guid, 6));
    let d = u16::from_be_bytes(field(guid, 8));
    let tail: [u8; 6] = field(guid, 10);
    let mut text = format!("{a:08x}-{b:04x}-{c:04x}-{d:04x}-");
    for byte in tail {
        text.push_str(&format!("{byte:02x}"));
    }
    text
}

/// Reads a file or device past the kernel's cache, so that the bytes come from the disk, and hands them
/// out piece by piece, in order, at most `bytes_max` in all. Returns how many bytes were read.
///
/// On a file system that has no such reads (tmpfs, overlay) the cache is asked to forget the file first.
///
/// # Errors
/// The disk's, or what `on_bytes` returned.
pub fn read_direct(
    path: &Path,
    bytes_max: u64,
    mut on_bytes: impl FnMut(&[u8]) -> io::Result<()>,
) -> io::Result<u64> {
    let file = open_uncached(path)?;
    let mut room = vec![0u8; DIRECT_CHUNK_BYTES.saturating_add(DIRECT_ALIGN_BYTES)];
    let skew = room.as_ptr().align_offset(DIRECT_ALIGN_BYTES);
    let end = skew.saturating_add(DIRECT_CHUNK_BYTES);
    let buffer = room.get_mut(skew..end).ok_or(io::ErrorKind::OutOfMemory)?;
    let mut total = 0u64;
    while total < bytes_max {
        // Offsets stay aligned: only the last piece of a file can be shorter than the buffer, and the
        // read after it would start unaligned, so a short piece ends the loop.
        let got = read_piece(&file, buffer, total)?;
        let wanted = usize::try_from(bytes_max.saturating_sub(total)).unwrap_or(usize::MAX);
        let piece = buffer.get(..got.min(wanted)).unwrap_or_default();
        on_bytes(piece)?;
        total = total.saturating_add(piece.len() as u64);
        if got < DIRECT_CHUNK_BYTES {
            break;
        }
    }
    Ok(total)
}

/// blake3 of a file's first `bytes_max` bytes as the disk has them.
///
/// # Errors
/// The disk's.
pub fn digest_direct(path: &Path, bytes_max: u64) -> io::Result<Digest> {
    let mut hasher = blake3::Hasher::new();
    read_direct(path, bytes_max, |piece| {
        hasher.update(piece);
        Ok(())
    })?;
    Ok(Digest(*hasher.finalize().as_bytes()))
}

/// Fills `buffer` from `offset` unless the file ends; goes on after short reads as long as they end on
/// an aligned offset.
fn read_piece(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut filled = 0usize;
    while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match file.read_at(rest, offset.saturating_add(filled as u64)) {
            Ok(0) => break,
            Ok(got) => filled = filled.saturating_add(got),
            Err(err) if err.kind() == io::ErrorKind::Interrupted => continue,
            Err(err) => return Err(err),
        }
        if !filled.is_multiple_of(DIRECT_ALIGN_BYTES) {
            break;
        }
    }
    Ok(filled)
}

fn open_uncached(path: &Path) -> io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    match rustix::fs::open(path, flags | OFlags::DIRECT, Mode::empty()) {
        Ok(fd) => Ok(fd.into()),
        Err(rustix::io::Errno::INVAL) => {
            let file: File = rustix::fs::open(path, flags, Mode::empty())?.into();
            rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed)?;
            Ok(file)
        }
        Err(err) => Err(err.into()),
    }
}

/// True while the kernel uses the device: mounted, part of a mounted btrfs, swap, held by device mapper,
/// or, for a whole disk, one of its partitions is.
///
/// # Errors
/// When the device cannot be opened for another reason.
pub fn is_in_use(dev_path: &Path) -> io::Result<bool> {
    // Mounting claims a device exclusively, and so does O_EXCL on a block device (open(2)).
    match rustix::fs::open(dev_path, OFlags::RDONLY | OFlags::EXCL | OFlags::CLOEXEC, Mode::empty())
    {
        Ok(_) => Ok(false),
        Err(rustix::io::Errno::BUSY) => Ok(true),
        Err(err) => Err(err.into()),
    }
}

/// True while a file system of this device is mounted somewhere. For a disk of a btrfs made of several
/// only [`is_in_use`] tells.
///
/// # Errors
/// When the mount table cannot be read.
pub fn is_mounted(dev_path: &Path) -> io::Result<bool> {
    let real = dev_path.canonicalize().unwrap_or_else(|_| dev_path.to_owned());
    Ok(crate::mount::mounts()?.iter().any(|mount| mount.source == dev_path || mount.source == real))
}

/// The macros make public functions; the module keeps them in here.
mod ioctl {
    nix::ioctl_none!(blkrrpart, 0x12, 95);
    nix::ioctl_write_ptr_bad!(blkpg, nix::request_code_none!(0x12, 105), super::BlkpgArg);
}

/// `struct blkpg_ioctl_arg`.
#[repr(C)]
struct BlkpgArg {
    op: libc::c_int,
    flags: libc::c_int,
    data_bytes: libc::c_int,
    data: *mut BlkpgPartition,
}

/// `struct blkpg_partition`.
#[repr(C)]
struct BlkpgPartition {
    start_bytes: libc::c_longlong,
    length_bytes: libc::c_longlong,
    number: libc::c_int,
    device_name: [u8; 64],
    volume_name: [u8; 64],
}

const BLKPG_ADD_PARTITION: libc::c_int = 1;

/// Makes the kernel read the partition table of `disk` again.
///
/// # Errors
/// `EBUSY` while any partition of the disk is in use: then [`add_partition`] helps.
pub fn reread_partitions(disk: impl AsFd) -> io::Result<()> {
    // SAFETY: the descriptor is borrowed for the length of the call; BLKRRPART takes no argument.
    unsafe { ioctl::blkrrpart(disk.as_fd().as_raw_fd()) }?;
    Ok(())
}

/// Tells the kernel of a partition that was just written to the table of `disk`, while others are in
/// use. Its name and GUID are known to the kernel only after the next boot or a full reread.
///
/// # Errors
/// `EBUSY` when the number is taken or the range overlaps another partition.
pub fn add_partition(
    disk: impl AsFd,
    number: u32,
    start_sector: u64,
    sectors: u64,
) -> io::Result<()> {
    let bytes = |count: u64| {
        count
            .checked_mul(SECTOR_BYTES)
            .and_then(|bytes| libc::c_longlong::try_from(bytes).ok())
            .ok_or(io::ErrorKind::InvalidInput)
    };
    let mut partition = BlkpgPartition {
        start_bytes: bytes(start_sector)?,
        length_bytes: bytes(sectors)?,
        number: libc::c_int::try_from(number).map_err(|_| io::ErrorKind::InvalidInput)?,
        device_name: [0; 64],
        volume_name: [0; 64],
    };
    let argument = BlkpgArg {
        op: BLKPG_ADD_PARTITION,
        flags: 0,
        data_bytes: size_of::<BlkpgPartition>() as libc::c_int,
        data: &raw mut partition,
    };
    // SAFETY: the descriptor is borrowed for the length of the call; `argument` has the layout of
    // blkpg_ioctl_arg and its `data` points to a blkpg_partition of `data_bytes` bytes; both outlive the
    // call.
    unsafe { ioctl::blkpg(disk.as_fd().as_raw_fd(), &raw const argument) }?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn put(path: &Path, text: &str) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// A GPT of 512-byte sectors whose second entry is used.
    fn gpt() -> Vec<u8> {
        let mut disk = vec![0u8; 512 * 40];
        disk[512..520].copy_from_slice(b"EFI PART");
        disk[512 + 72..512 + 80].copy_from_slice(&2u64.to_le_bytes());
        disk[512 + 80..512 + 84].copy_from_slice(&128u32.to_le_bytes());
        disk[512 + 84..512 + 88].copy_from_slice(&128u32.to_le_bytes());
        let entry = 1024 + 128;
        disk[entry..entry + 16].fill(0x11);
        let guid: Vec<u8> = (0u8..16).collect();
        disk[entry + 16..entry + 32].copy_from_slice(&guid);
        disk
    }

    #[test]
    fn disks_are_read_with_names_serials_and_guids() {
        let root = tempfile::tempdir().unwrap();
        let (sysfs, dev) = (root.path().join("block"), root.path().join("dev"));
        fs::create_dir_all(&dev).unwrap();
        fs::write(dev.join("vda"), gpt()).unwrap();
        put(&sysfs.join("vda/device/vendor"), "0x1af4");
        put(&sysfs.join("vda/size"), "4096\n");
        put(&sysfs.join("vda/serial"), "SYS-1");
        put(&sysfs.join("vda/vda2/partition"), "2\n");
        put(&sysfs.join("vda/vda2/start"), "2048\n");
        put(&sysfs.join("vda/vda2/size"), "128\n");
        put(&sysfs.join("vda/vda2/uevent"), "PARTN=2\nPARTNAME=goblin-record\n");
        put(&sysfs.join("sda/device/model"), "Model X  \n");
        fs::write(sysfs.join("sda/device/vpd_pg80"), b"\0\x80\0\x06  S123").unwrap();
        put(&sysfs.join("loop0/size"), "0\n");
        put(&sysfs.join("sr0/device/vendor"), "x");

        let disks = disks_below(&sysfs, &dev).unwrap();
        let [sda, vda] = disks.as_slice() else { panic!("{disks:?}") };
        assert_eq!((sda.model.as_str(), sda.serial.as_deref()), ("Model X", Some("S123")));
        assert_eq!((vda.size_bytes, vda.serial.as_deref()), (4096 * 512, Some("SYS-1")));
        let record = vda.partition("goblin-record").unwrap();
        assert_eq!(record.part_uuid.as_deref(), Some("03020100-0504-0706-0809-0a0b0c0d0e0f"));
        assert_eq!((record.number, record.start_sector, record.sectors), (2, 2048, 128));
    }

    #[test]
    fn a_disk_without_gpt_or_with_a_torn_one_has_no_guids() {
        let root = tempfile::tempdir().unwrap();
        for (name, bytes) in
            [("empty", vec![]), ("zeros", vec![0u8; 8192]), ("torn", gpt()[..1200].to_vec())]
        {
            let path = root.path().join(name);
            fs::write(&path, bytes).unwrap();
            assert!(gpt_part_uuids(&File::open(&path).unwrap()).unwrap_or_default().is_empty());
        }
    }

    #[test]
    fn direct_reads_give_the_whole_file_and_no_more_than_asked() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("file");
        let bytes: Vec<u8> = (0..DIRECT_CHUNK_BYTES * 2 + 777).map(|n| (n % 251) as u8).collect();
        fs::write(&path, &bytes).unwrap();
        File::open(&path).unwrap().sync_all().unwrap();
        for bytes_max in [u64::MAX, 5000, 0, 1 << 20] {
            let mut got = Vec::new();
            let count = read_direct(&path, bytes_max, |piece| {
                got.extend_from_slice(piece);
                Ok(())
            })
            .unwrap();
            let want = &bytes[..bytes.len().min(usize::try_from(bytes_max).unwrap())];
            assert_eq!(count, want.len() as u64);
            assert!(got == want);
        }
    }
}
