//! GUID partition tables (UEFI 2.10, section 5.3), for disks with 512-byte logical sectors.
//!
//! A [`Gpt`] is a value: it is read with [`parse`], changed by pure edits, and written back as the
//! [`Step`]s of [`Gpt::steps`]. **Order and safety**: the steps are backup table, primary table,
//! protective MBR, each made durable before the next. While one table is torn the other is whole: the
//! old primary until the backup is complete, the new backup while the primary is rewritten. A reader
//! takes the primary if header and entries check out, else the backup in the disk's last sector.
//!
//! Images are flashed onto larger disks, so their backup lies where the image ended.
//! [`Gpt::relocated`] moves the end; it comes before [`Gpt::with_partition_in_rest`].

use crate::Guid;
use crate::bytes::{align_up, get, get_u32, get_u64, put, read_full};
use std::io::{self, Read, Seek, SeekFrom, Write};

/// Logical sector in bytes; disks with larger ones are refused when their table does not parse.
pub const SECTOR_BYTES: u64 = 512;
/// Partitions begin at multiples of this many sectors (1 MiB).
pub const ALIGN_SECTORS: u64 = 2048;
/// Entries in a table.
pub const ENTRIES_MAX: u32 = 128;
/// Longest partition name in UTF-16 units.
pub const NAME_UNITS_MAX: usize = 36;

/// Type of an EFI system partition.
pub const TYPE_ESP: Guid =
    Guid(*b"\xc1\x2a\x73\x28\xf8\x1f\x11\xd2\xba\x4b\x00\xa0\xc9\x3e\xc9\x3b");
/// Type of the boot record's partition (goblinux): 6bd5a9f0-4c0e-4e39-9a6f-5d7d3c1e20b4.
pub const TYPE_RECORD: Guid =
    Guid(*b"\x6b\xd5\xa9\xf0\x4c\x0e\x4e\x39\x9a\x6f\x5d\x7d\x3c\x1e\x20\xb4");
/// Type of the STATE partition: Linux filesystem data, 0fc63daf-8483-4772-8e79-3d69d8477de4.
pub const TYPE_STATE: Guid =
    Guid(*b"\x0f\xc6\x3d\xaf\x84\x83\x47\x72\x8e\x79\x3d\x69\xd8\x47\x7d\xe4");

const ENTRY_BYTES: usize = 128;
const HEADER_BYTES: usize = 92;
const TABLE_SECTORS: u64 = 32;
/// First sector that partitions may use: after MBR, header and entries.
const FIRST_USABLE: u64 = 2 + TABLE_SECTORS;
/// Sectors at the end of the disk: entries and header.
const BACKUP_SECTORS: u64 = 1 + TABLE_SECTORS;
/// Largest disk in sectors; far beyond real ones, so that byte offsets fit in 63 bits.
const DISK_SECTORS_MAX: u64 = 1 << 52;
const SIGNATURE: [u8; 8] = *b"EFI PART";
const REVISION: u32 = 0x0001_0000;

const _: () = assert!(ENTRIES_MAX as u64 * ENTRY_BYTES as u64 == TABLE_SECTORS * SECTOR_BYTES);

/// Why a table cannot be read or changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GptError {
    /// The disk could not be read or written.
    #[error("cannot access the partition table")]
    Io(#[from] io::Error),
    /// Neither copy is a valid table.
    #[error("no valid partition table: the primary {primary}, the backup {backup}")]
    NoTable {
        /// What is wrong with the copy at the beginning.
        primary: &'static str,
        /// What is wrong with the copy at the end.
        backup: &'static str,
    },
    /// The disk is too small for the table and its partitions, or too large to be true.
    #[error("a disk of {sectors} sectors does not hold the table: {why}")]
    Size {
        /// Sectors of 512 bytes.
        sectors: u64,
        /// What does not fit.
        why: &'static str,
    },
    /// A partition breaks a rule.
    #[error("partition {number} `{name}` {rule}")]
    Partition {
        /// Its number, from 1.
        number: u32,
        /// Its name.
        name: String,
        /// The rule it breaks.
        rule: &'static str,
    },
    /// All entries are used.
    #[error("the table has no free entry")]
    Full,
}

/// One used entry of the table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Partition {
    /// Place in the table, from 1 to [`ENTRIES_MAX`]: what Linux calls the partition's number.
    pub number: u32,
    /// What it is for.
    pub type_guid: Guid,
    /// Which one it is.
    pub unique_guid: Guid,
    /// Its name, at most [`NAME_UNITS_MAX`] UTF-16 units.
    pub name: String,
    /// First sector.
    pub first_lba: u64,
    /// Last sector, inclusive.
    pub last_lba: u64,
    /// Attribute bits.
    pub attributes: u64,
}

impl Partition {
    /// Sectors it has.
    pub fn sectors(&self) -> u64 {
        self.last_lba.saturating_sub(self.first_lba).saturating_add(1)
    }

    /// Offset of its first byte on the disk.
    pub fn offset_bytes(&self) -> u64 {
        self.first_lba.saturating_mul(SECTOR_BYTES)
    }

    /// Its size in bytes.
    pub fn size_bytes(&self) -> u64 {
        self.sectors().saturating_mul(SECTOR_BYTES)
    }
}

/// A partition that is to be added.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewPartition {
    /// What it is for.
    pub type_guid: Guid,
    /// Which one it is.
    pub unique_guid: Guid,
    /// Its name.
    pub name: String,
}

/// A partition table whose partitions lie inside the disk and do not overlap.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gpt {
    disk_guid: Guid,
    sectors: u64,
    partitions: Vec<Partition>,
}

/// Bytes to write at one place; made durable before the next step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// Offset on the disk in bytes, a multiple of 512.
    pub offset_bytes: u64,
    /// The bytes, whole sectors.
    pub bytes: Vec<u8>,
}

/// Which copies of a table were whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Copies {
    /// The primary is whole, and the backup lies at the end of the disk and agrees.
    Both,
    /// Only the primary: the backup is missing, torn, elsewhere or of another state.
    PrimaryOnly,
    /// Only the backup: the primary is torn.
    BackupOnly,
}

/// A table as it was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The table. Its size is the one it was written for, which is smaller than the disk after an image was flashed.
    pub gpt: Gpt,
    /// Which copies were whole. Writing the steps repairs both.
    pub copies: Copies,
}

impl Gpt {
    /// A table for a disk of `sectors` sectors.
    ///
    /// # Errors
    /// [`GptError`] names the partition that is outside, overlaps, or has a number or name that does not fit.
    pub fn new(
        disk_guid: Guid,
        sectors: u64,
        mut partitions: Vec<Partition>,
    ) -> Result<Self, GptError> {
        if sectors > DISK_SECTORS_MAX {
            return Err(GptError::Size { sectors, why: "it is larger than any disk" });
        }
        let last_usable =
            last_usable(sectors).ok_or(GptError::Size { sectors, why: "no sector is left" })?;
        partitions.sort_by_key(|partition| partition.number);
        let mut number_before = 0;
        for partition in &partitions {
            let refuse = |rule| refuse(partition, rule);
            if partition.number <= number_before || partition.number > ENTRIES_MAX {
                return Err(refuse("has a number that is taken or out of range"));
            }
            number_before = partition.number;
            if partition.type_guid == Guid::ZERO {
                return Err(refuse("has the type of an unused entry"));
            }
            if partition.name.encode_utf16().count() > NAME_UNITS_MAX
                || partition.name.contains('\0')
            {
                return Err(refuse("has a name longer than 36 characters, or with NUL"));
            }
            if partition.first_lba > partition.last_lba {
                return Err(refuse("ends before it begins"));
            }
            if partition.first_lba < FIRST_USABLE || partition.last_lba > last_usable {
                return Err(refuse("lies outside the usable sectors of the disk"));
            }
        }
        let mut by_place: Vec<&Partition> = partitions.iter().collect();
        by_place.sort_by_key(|partition| partition.first_lba);
        for (before, after) in by_place.iter().zip(by_place.iter().skip(1)) {
            if after.first_lba <= before.last_lba {
                return Err(refuse(after, "overlaps another partition"));
            }
        }
        Ok(Self { disk_guid, sectors, partitions })
    }

    /// The disk's GUID.
    pub fn disk_guid(&self) -> Guid {
        self.disk_guid
    }

    /// Sectors of the disk the table was written for.
    pub fn sectors(&self) -> u64 {
        self.sectors
    }

    /// The partitions in the order of their numbers.
    pub fn partitions(&self) -> &[Partition] {
        &self.partitions
    }

    /// The partition of this name; the first when there are several.
    pub fn by_name(&self, name: &str) -> Option<&Partition> {
        self.partitions.iter().find(|partition| partition.name == name)
    }

    /// The same partitions on a disk of `sectors` sectors: what to write after an image was flashed
    /// onto a larger disk.
    ///
    /// # Errors
    /// [`GptError`] when a partition would lie outside.
    pub fn relocated(&self, sectors: u64) -> Result<Self, GptError> {
        Self::new(self.disk_guid, sectors, self.partitions.clone())
    }

    /// Adds a partition at the first free number, at `first_lba`, with `sectors` sectors.
    ///
    /// # Errors
    /// [`GptError::Full`], or [`GptError::Partition`] when it does not fit there.
    pub fn with_partition(
        &self,
        new: NewPartition,
        first_lba: u64,
        sectors: u64,
    ) -> Result<Self, GptError> {
        let taken =
            |number: &u32| self.partitions.iter().any(|partition| partition.number == *number);
        let number = (1..=ENTRIES_MAX).find(|number| !taken(number)).ok_or(GptError::Full)?;
        let mut partitions = self.partitions.clone();
        let NewPartition { type_guid, unique_guid, name } = new;
        // No sectors: the last one lies before the first, which `new` refuses.
        let last_lba = first_lba.saturating_add(sectors).saturating_sub(1);
        partitions.push(Partition {
            number,
            type_guid,
            unique_guid,
            name,
            first_lba,
            last_lba,
            attributes: 0,
        });
        Self::new(self.disk_guid, self.sectors, partitions)
    }

    /// Adds a partition that takes everything after the last one, both ends aligned to 1 MiB.
    ///
    /// # Errors
    /// [`GptError::Size`] when fewer than `sectors_min` sectors are left there; else as [`Gpt::with_partition`].
    pub fn with_partition_in_rest(
        &self,
        new: NewPartition,
        sectors_min: u64,
    ) -> Result<Self, GptError> {
        let used = self.partitions.iter().map(|partition| partition.last_lba).max();
        let first = align_up(used.map_or(FIRST_USABLE, |lba| lba.saturating_add(1)), ALIGN_SECTORS);
        let end = last_usable(self.sectors).unwrap_or(0).saturating_add(1);
        let aligned_end = end.saturating_sub(end.checked_rem(ALIGN_SECTORS).unwrap_or(0));
        let sectors = aligned_end.saturating_sub(first);
        if sectors < sectors_min.max(1) {
            return Err(GptError::Size {
                sectors: self.sectors,
                why: "too little space is left after the partitions",
            });
        }
        self.with_partition(new, first, sectors)
    }

    /// The writes that put this table on its disk, in the order that keeps one whole table at every
    /// instant. Each must be durable before the next.
    pub fn steps(&self) -> [Step; 3] {
        let entries = self.entries_bytes();
        let last = self.sectors.saturating_sub(1);
        let backup_table = self.sectors.saturating_sub(BACKUP_SECTORS);
        let mut backup = entries.clone();
        backup.extend_from_slice(&self.header_bytes(&entries, last, 1, backup_table));
        let mut primary = self.header_bytes(&entries, 1, last, 2).to_vec();
        primary.extend_from_slice(&entries);
        [
            Step { offset_bytes: backup_table.saturating_mul(SECTOR_BYTES), bytes: backup },
            Step { offset_bytes: SECTOR_BYTES, bytes: primary },
            Step { offset_bytes: 0, bytes: self.mbr_bytes().to_vec() },
        ]
    }

    /// Writes all steps, with a flush after each. On a device the caller needs `fsync` between them
    /// and applies [`Gpt::steps`] itself; this is for new images.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn write<W: Write + Seek + ?Sized>(&self, out: &mut W) -> io::Result<()> {
        for step in self.steps() {
            out.seek(SeekFrom::Start(step.offset_bytes))?;
            out.write_all(&step.bytes)?;
            out.flush()?;
        }
        Ok(())
    }

    fn entries_bytes(&self) -> Vec<u8> {
        let mut table = vec![0u8; ENTRY_BYTES.saturating_mul(ENTRIES_MAX as usize)];
        for partition in &self.partitions {
            let at = (partition.number.saturating_sub(1) as usize).saturating_mul(ENTRY_BYTES);
            put(&mut table, at, &partition.type_guid.to_disk());
            put(&mut table, at.saturating_add(16), &partition.unique_guid.to_disk());
            put(&mut table, at.saturating_add(32), &partition.first_lba.to_le_bytes());
            put(&mut table, at.saturating_add(40), &partition.last_lba.to_le_bytes());
            put(&mut table, at.saturating_add(48), &partition.attributes.to_le_bytes());
            let name: Vec<u8> = partition.name.encode_utf16().flat_map(u16::to_le_bytes).collect();
            put(&mut table, at.saturating_add(56), &name);
        }
        table
    }

    fn header_bytes(
        &self,
        entries: &[u8],
        my_lba: u64,
        other_lba: u64,
        table_lba: u64,
    ) -> [u8; 512] {
        let mut header = [0u8; 512];
        put(&mut header, 0, &SIGNATURE);
        put(&mut header, 8, &REVISION.to_le_bytes());
        put(&mut header, 12, &(HEADER_BYTES as u32).to_le_bytes());
        put(&mut header, 24, &my_lba.to_le_bytes());
        put(&mut header, 32, &other_lba.to_le_bytes());
        put(&mut header, 40, &FIRST_USABLE.to_le_bytes());
        put(&mut header, 48, &last_usable(self.sectors).unwrap_or(0).to_le_bytes());
        put(&mut header, 56, &self.disk_guid.to_disk());
        put(&mut header, 72, &table_lba.to_le_bytes());
        put(&mut header, 80, &ENTRIES_MAX.to_le_bytes());
        put(&mut header, 84, &(ENTRY_BYTES as u32).to_le_bytes());
        put(&mut header, 88, &crc32fast::hash(entries).to_le_bytes());
        let crc = crc32fast::hash(header.get(..HEADER_BYTES).unwrap_or_default());
        put(&mut header, 16, &crc.to_le_bytes());
        header
    }

    fn mbr_bytes(&self) -> [u8; 512] {
        let mut mbr = [0u8; 512];
        // One entry of type 0xee over the whole disk: CHS first, type, CHS last, first sector, sectors.
        put(&mut mbr, 446, &[0, 0, 2, 0, 0xee, 0xff, 0xff, 0xff, 1, 0, 0, 0]);
        let sectors = u32::try_from(self.sectors.saturating_sub(1)).unwrap_or(u32::MAX);
        put(&mut mbr, 458, &sectors.to_le_bytes());
        put(&mut mbr, 510, &[0x55, 0xaa]);
        mbr
    }
}

fn refuse(partition: &Partition, rule: &'static str) -> GptError {
    GptError::Partition { number: partition.number, name: partition.name.clone(), rule }
}

fn last_usable(sectors: u64) -> Option<u64> {
    let last = sectors.checked_sub(BACKUP_SECTORS)?.checked_sub(1)?;
    (last >= FIRST_USABLE).then_some(last)
}

/// Reads the table of a disk: the primary if it is whole, else the backup at the end of the disk.
///
/// # Errors
/// [`GptError::NoTable`] when neither is whole, [`GptError::Io`] when the disk cannot be read.
pub fn parse<R: Read + Seek + ?Sized>(disk: &mut R) -> Result<Found, GptError> {
    let sectors = disk.seek(SeekFrom::End(0))?.checked_div(SECTOR_BYTES).unwrap_or(0);
    let Some(last) = sectors.checked_sub(1).filter(|last| *last > FIRST_USABLE) else {
        return Err(GptError::Size { sectors, why: "no sector is left" });
    };
    match (parse_copy(disk, 1, sectors)?, parse_copy(disk, last, sectors)?) {
        (Ok(gpt), Ok(backup)) if gpt == backup => Ok(Found { gpt, copies: Copies::Both }),
        (Ok(gpt), _) => Ok(Found { gpt, copies: Copies::PrimaryOnly }),
        (Err(_), Ok(gpt)) => Ok(Found { gpt, copies: Copies::BackupOnly }),
        (Err(primary), Err(backup)) => Err(GptError::NoTable { primary, backup }),
    }
}

/// Reads one copy; the inner error says what is wrong with it.
fn parse_copy<R: Read + Seek + ?Sized>(
    disk: &mut R,
    header_lba: u64,
    sectors: u64,
) -> io::Result<Result<Gpt, &'static str>> {
    let mut header = [0u8; 512];
    if !read_at(disk, header_lba, &mut header)? {
        return Ok(Err("lies beyond the end of the disk"));
    }
    let fields = match Header::parse(&header, header_lba, sectors) {
        Ok(fields) => fields,
        Err(what) => return Ok(Err(what)),
    };
    let mut table = vec![0u8; ENTRY_BYTES.saturating_mul(fields.entry_count as usize)];
    if !read_at(disk, fields.table_lba, &mut table)? {
        return Ok(Err("has entries beyond the end of the disk"));
    }
    if crc32fast::hash(&table) != fields.table_crc {
        return Ok(Err("has entries with a wrong checksum"));
    }
    let mut partitions = Vec::new();
    for (number, entry) in (1..=ENTRIES_MAX).zip(table.chunks_exact(ENTRY_BYTES)) {
        match parse_entry(number, entry) {
            Some(partition) if partition.type_guid != Guid::ZERO => partitions.push(partition),
            _ => {}
        }
    }
    Ok(Gpt::new(fields.disk_guid, fields.sectors, partitions)
        .map_err(|_| "has partitions that overlap or lie outside"))
}

fn read_at<R: Read + Seek + ?Sized>(disk: &mut R, lba: u64, buf: &mut [u8]) -> io::Result<bool> {
    disk.seek(SeekFrom::Start(lba.saturating_mul(SECTOR_BYTES)))?;
    Ok(read_full(disk, buf)? == buf.len())
}

struct Header {
    disk_guid: Guid,
    sectors: u64,
    table_lba: u64,
    entry_count: u32,
    table_crc: u32,
}

impl Header {
    fn parse(bytes: &[u8; 512], lba: u64, disk_sectors: u64) -> Result<Self, &'static str> {
        const SHORT: &str = "is too short";
        let field32 = |at| get_u32(bytes, at).ok_or(SHORT);
        let field64 = |at| get_u64(bytes, at).ok_or(SHORT);
        if get::<8>(bytes, 0) != Some(SIGNATURE) {
            return Err("has no signature");
        }
        let header_bytes = field32(12)? as usize;
        if !(HEADER_BYTES..=bytes.len()).contains(&header_bytes) {
            return Err("has a header of impossible size");
        }
        let mut unsummed = *bytes;
        put(&mut unsummed, 16, &[0; 4]);
        if crc32fast::hash(unsummed.get(..header_bytes).unwrap_or_default()) != field32(16)? {
            return Err("has a wrong checksum");
        }
        if field64(24)? != lba {
            return Err("belongs to another place");
        }
        if field32(84)? as usize != ENTRY_BYTES || !(1..=ENTRIES_MAX).contains(&field32(80)?) {
            return Err("has entries of a number or size that is not handled");
        }
        // The disk it was written for ends with the later of the two headers.
        let sectors = field64(32)?.max(lba).saturating_add(1);
        if sectors > disk_sectors {
            return Err("was written for a larger disk");
        }
        let disk_guid = Guid::from_disk(get(bytes, 56).ok_or(SHORT)?);
        let (table_lba, entry_count, table_crc) = (field64(72)?, field32(80)?, field32(88)?);
        if table_lba >= disk_sectors {
            return Err("has entries beyond the end of the disk");
        }
        Ok(Self { disk_guid, sectors, table_lba, entry_count, table_crc })
    }
}

fn parse_entry(number: u32, entry: &[u8]) -> Option<Partition> {
    let units: Vec<u16> = entry
        .get(56..)?
        .chunks_exact(2)
        .filter_map(|unit| get::<2>(unit, 0).map(u16::from_le_bytes))
        .take_while(|unit| *unit != 0)
        .collect();
    Some(Partition {
        number,
        type_guid: Guid::from_disk(get(entry, 0)?),
        unique_guid: Guid::from_disk(get(entry, 16)?),
        // Lossy: a broken name must not hide the partition.
        name: String::from_utf16_lossy(&units),
        first_lba: get_u64(entry, 32)?,
        last_lba: get_u64(entry, 40)?,
        attributes: get_u64(entry, 48)?,
    })
}
