//! The image of a system disk: GPT, EFI system partition, RECORD; and its block map.
//!
//! ```text
//! 0      1 MiB           1025 MiB        1029 MiB                          1030 MiB
//! | GPT  | goblin-esp    | goblin-record | zeroes                   | backup |
//! ```
//! The image ends there; STATE is made on first boot in the rest of the disk. The zeroes after RECORD
//! and at the heads of both record copies are part of the map, so that flashing over an older system
//! leaves no record and no STATE superblock of it behind.
//!
//! The ESP holds `provision.toml`, always first, 64 KiB of newlines in one piece: flashing overwrites
//! these bytes in place with [`provision_bytes`].

use crate::Guid;
use crate::bytes::{len64, write_zeroes};
use crate::esp::{EspError, EspFile, EspParams, EspPlan};
use crate::gpt::{self, Gpt, GptError, Partition, SECTOR_BYTES};
use crate::record;
use goblin_core_types::{Digest, paths};
use serde::{Deserialize, Serialize};
use std::io::{self, Read, Seek, SeekFrom, Write};

/// Size of the EFI system partition in bytes.
pub const ESP_BYTES: u64 = 1 << 30;
/// Size of the provisioning file on the ESP in bytes.
pub const PROVISION_BYTES: u64 = 64 << 10;
/// Largest range of a block map in bytes: what a writer checks at once.
pub const RANGE_BYTES_MAX: u64 = 4 << 20;
/// Most ranges of a block map.
pub const RANGES_MAX: usize = 65_536;
/// The block map's version.
pub const MAP_SCHEMA: u32 = 1;

const MIB: u64 = 1 << 20;
const ESP_AT: u64 = MIB;
/// What of a record copy is blanked: the block with its magic.
const RECORD_HEAD_BYTES: u64 = 4096;

/// Why an image or its map is refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DiskError {
    /// The ESP cannot be made.
    #[error(transparent)]
    Esp(#[from] EspError),
    /// The partition table cannot be made.
    #[error(transparent)]
    Gpt(#[from] GptError),
    /// The image could not be written.
    #[error("cannot write the disk image")]
    Write(#[source] io::Error),
    /// `provision.toml` is added by this crate.
    #[error("`provision.toml` is reserved: leave it out of the list of files")]
    Provision,
    /// A provisioning file is larger than the place for it.
    #[error("the provisioning file has {got} bytes, more than {PROVISION_BYTES}")]
    ProvisionSize {
        /// Its size in bytes.
        got: u64,
    },
    /// A block map contradicts itself.
    #[error("the block map is damaged: {what}")]
    Map {
        /// What is wrong.
        what: &'static str,
    },
}

/// What a disk image is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiskSpec {
    /// GUID of the disk.
    pub disk_guid: Guid,
    /// GUID of the ESP: systemd-boot tells it to the kernel as LoaderDevicePartUUID.
    pub esp_guid: Guid,
    /// GUID of RECORD.
    pub record_guid: Guid,
    /// Volume id of the ESP.
    pub volume_id: u32,
    /// Size of the ESP in bytes, whole MiB.
    pub esp_bytes: u64,
    /// Files of the ESP, without `provision.toml`.
    pub files: Vec<EspFile>,
}

impl DiskSpec {
    /// A disk with an ESP of [`ESP_BYTES`] whose GUIDs and volume id follow from `seed`, for example
    /// the digest of the UKI. Images of one release are then equal on every machine.
    pub fn derived(seed: &[u8], files: Vec<EspFile>) -> Self {
        let esp_guid = Guid::derive(&[b"goblinux esp", seed]);
        let volume_id = u32::from_le_bytes(esp_guid.0.first_chunk().copied().unwrap_or_default());
        Self {
            disk_guid: Guid::derive(&[b"goblinux disk", seed]),
            esp_guid,
            record_guid: Guid::derive(&[b"goblinux record", seed]),
            volume_id,
            esp_bytes: ESP_BYTES,
            files,
        }
    }
}

/// A partition in a block map.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MapPartition {
    /// Number, from 1.
    pub number: u32,
    /// GPT name.
    pub name: String,
    /// Type.
    pub type_guid: Guid,
    /// Offset in bytes.
    pub offset_bytes: u64,
    /// Size in bytes.
    pub size_bytes: u64,
}

/// Bytes of the image that matter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MapRange {
    /// Offset in bytes.
    pub offset_bytes: u64,
    /// Length in bytes, at most [`RANGE_BYTES_MAX`].
    pub length_bytes: u64,
    /// blake3 of the bytes.
    pub digest: Digest,
}

/// The block map of an image: which bytes have to be written to a disk; the others do not matter.
/// Stored as JSON beside the image, `.bmap.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiskMap {
    /// [`MAP_SCHEMA`].
    pub schema: u32,
    /// Size of the image in bytes; a disk must be larger.
    pub size_bytes: u64,
    /// Ranges in ascending order, not overlapping.
    pub ranges: Vec<MapRange>,
    /// Where the provisioning file lies.
    pub provision_offset_bytes: u64,
    /// Its size in bytes, [`PROVISION_BYTES`].
    pub provision_len_bytes: u64,
    /// The partitions.
    pub partitions: Vec<MapPartition>,
}

impl DiskMap {
    /// Checks a map that was read: order, limits, and that all lies inside the image.
    ///
    /// # Errors
    /// [`DiskError::Map`].
    pub fn check(&self) -> Result<(), DiskError> {
        let refuse = |what| Err(DiskError::Map { what });
        if self.schema != MAP_SCHEMA {
            return refuse("its schema is unknown to this release");
        }
        if self.ranges.len() > RANGES_MAX {
            return refuse("it has too many ranges");
        }
        let mut end = 0u64;
        for range in &self.ranges {
            if range.offset_bytes < end
                || range.length_bytes == 0
                || range.length_bytes > RANGE_BYTES_MAX
            {
                return refuse("a range is empty, too long, or overlaps the one before");
            }
            end = range.offset_bytes.saturating_add(range.length_bytes);
            if end > self.size_bytes {
                return refuse("a range ends beyond the image");
            }
        }
        let provision_end = self.provision_offset_bytes.checked_add(self.provision_len_bytes);
        if self.provision_len_bytes != PROVISION_BYTES
            || provision_end.is_none_or(|end| end > self.size_bytes)
        {
            return refuse("the provisioning file lies outside the image");
        }
        Ok(())
    }
}

/// A laid-out disk image.
#[derive(Debug)]
pub struct DiskPlan {
    gpt: Gpt,
    esp: EspPlan,
    record_at: u64,
    provision_at: u64,
    size_bytes: u64,
}

impl DiskPlan {
    /// Lays out the image.
    ///
    /// # Errors
    /// [`DiskError`] names what does not fit.
    pub fn new(spec: &DiskSpec) -> Result<Self, DiskError> {
        if spec.files.iter().any(|file| file.path.eq_ignore_ascii_case(paths::ESP_PROVISION)) {
            return Err(DiskError::Provision);
        }
        if !spec.esp_bytes.is_multiple_of(MIB) {
            return Err(EspError::Params { what: "its size must be whole MiB" }.into());
        }
        let mut files = vec![EspFile { path: paths::ESP_PROVISION.into(), size: PROVISION_BYTES }];
        files.extend(spec.files.iter().cloned());
        let params = EspParams {
            size_bytes: spec.esp_bytes,
            volume_id: spec.volume_id,
            label: "GOBLIN-ESP".into(),
            hidden_sectors: sectors(ESP_AT) as u32,
        };
        let esp = EspPlan::new(&params, &files)?;
        let record_at = ESP_AT.saturating_add(spec.esp_bytes);
        let end = record_at.saturating_add(record::RECORD_BYTES);
        let size_bytes = end.saturating_add(MIB);
        let partition = |number, type_guid, unique_guid, name: &str, from, to: u64| Partition {
            number,
            type_guid,
            unique_guid,
            name: name.into(),
            first_lba: sectors(from),
            last_lba: sectors(to).saturating_sub(1),
            attributes: 0,
        };
        let partitions = vec![
            partition(1, gpt::TYPE_ESP, spec.esp_guid, paths::PART_ESP, ESP_AT, record_at),
            partition(2, gpt::TYPE_RECORD, spec.record_guid, paths::PART_RECORD, record_at, end),
        ];
        let gpt = Gpt::new(spec.disk_guid, sectors(size_bytes), partitions)?;
        let in_esp = esp.files().first().map_or(0, |file| file.offset_bytes);
        let provision_at = ESP_AT.saturating_add(in_esp);
        Ok(Self { gpt, esp, record_at, provision_at, size_bytes })
    }

    /// Size of the image in bytes.
    pub fn size(&self) -> u64 {
        self.size_bytes
    }

    /// The partition table.
    pub fn gpt(&self) -> &Gpt {
        &self.gpt
    }

    /// The ESP.
    pub fn esp(&self) -> &EspPlan {
        &self.esp
    }

    /// Writes the image from the start of `out`, front to back, skipping what does not matter; an
    /// empty file becomes sparse. `open` gives the files of the ESP by path.
    ///
    /// # Errors
    /// [`DiskError`]; what was written is useless.
    pub fn write<'r, W: Write + Seek + ?Sized>(
        &self,
        out: &mut W,
        mut open: impl FnMut(&str) -> io::Result<Box<dyn Read + 'r>>,
    ) -> Result<DiskMap, DiskError> {
        let cuts = [self.provision_at, self.provision_at.saturating_add(PROVISION_BYTES)];
        let mut out = Mapper::new(out, cuts);
        let [backup, primary, mbr] = self.gpt.steps();
        self.put(&mut out, mbr.offset_bytes, &mbr.bytes)?;
        self.put(&mut out, primary.offset_bytes, &primary.bytes)?;
        self.esp.write(&mut out, ESP_AT, |path| {
            if path == paths::ESP_PROVISION {
                return Ok(Box::new(io::repeat(b'\n').take(PROVISION_BYTES)));
            }
            open(path)
        })?;
        let [label_a, label_b] = record::LABEL_OFFSETS;
        // In this order on the disk.
        for copy in [record::COPY_A_OFFSET, label_a, record::COPY_B_OFFSET, label_b] {
            out.seek(SeekFrom::Start(self.record_at.saturating_add(copy)))
                .map_err(DiskError::Write)?;
            write_zeroes(&mut out, RECORD_HEAD_BYTES).map_err(DiskError::Write)?;
        }
        let record_end = self.record_at.saturating_add(record::RECORD_BYTES);
        out.seek(SeekFrom::Start(record_end)).map_err(DiskError::Write)?;
        write_zeroes(&mut out, backup.offset_bytes.saturating_sub(record_end))
            .map_err(DiskError::Write)?;
        self.put(&mut out, backup.offset_bytes, &backup.bytes)?;
        out.flush().map_err(DiskError::Write)?;
        let ranges = out.finish();
        Ok(self.map(ranges))
    }

    fn put<W: Write + Seek>(&self, out: &mut W, at: u64, bytes: &[u8]) -> Result<(), DiskError> {
        out.seek(SeekFrom::Start(at)).map_err(DiskError::Write)?;
        out.write_all(bytes).map_err(DiskError::Write)
    }

    fn map(&self, ranges: Vec<MapRange>) -> DiskMap {
        let partitions = self.gpt.partitions().iter().map(|partition| MapPartition {
            number: partition.number,
            name: partition.name.clone(),
            type_guid: partition.type_guid,
            offset_bytes: partition.offset_bytes(),
            size_bytes: partition.size_bytes(),
        });
        DiskMap {
            schema: MAP_SCHEMA,
            size_bytes: self.size_bytes,
            ranges,
            provision_offset_bytes: self.provision_at,
            provision_len_bytes: PROVISION_BYTES,
            partitions: partitions.collect(),
        }
    }
}

/// A provisioning file as it is written over the reserved place: padded with newlines.
///
/// # Errors
/// [`DiskError::ProvisionSize`] when it does not fit.
pub fn provision_bytes(text: &[u8]) -> Result<Vec<u8>, DiskError> {
    if len64(text) > PROVISION_BYTES {
        return Err(DiskError::ProvisionSize { got: len64(text) });
    }
    let mut bytes = text.to_vec();
    bytes.resize(PROVISION_BYTES as usize, b'\n');
    Ok(bytes)
}

fn sectors(bytes: u64) -> u64 {
    bytes.checked_div(SECTOR_BYTES).unwrap_or(0)
}

/// Passes writes on and notes ranges and their digests. Everything is written front to back, so
/// neighbouring writes are one range; ranges end at the cuts and at [`RANGE_BYTES_MAX`].
#[derive(Debug)]
struct Mapper<'a, W: ?Sized> {
    out: &'a mut W,
    cuts: [u64; 2],
    ranges: Vec<MapRange>,
    start: u64,
    at: u64,
    hasher: blake3::Hasher,
}

impl<'a, W: Write + Seek + ?Sized> Mapper<'a, W> {
    fn new(out: &'a mut W, cuts: [u64; 2]) -> Self {
        Self { out, cuts, ranges: Vec::new(), start: 0, at: 0, hasher: blake3::Hasher::new() }
    }

    fn close(&mut self) {
        let length_bytes = self.at.saturating_sub(self.start);
        if length_bytes > 0 {
            let digest = Digest(*self.hasher.finalize().as_bytes());
            self.ranges.push(MapRange { offset_bytes: self.start, length_bytes, digest });
        }
        self.hasher = blake3::Hasher::new();
        self.start = self.at;
    }

    fn finish(mut self) -> Vec<MapRange> {
        self.close();
        self.ranges
    }

    /// Bytes until the present range has to end.
    fn room(&self) -> u64 {
        let limit = self.start.saturating_add(RANGE_BYTES_MAX);
        let cut = self.cuts.iter().copied().filter(|cut| *cut > self.at).min().unwrap_or(u64::MAX);
        limit.min(cut).saturating_sub(self.at)
    }
}

impl<W: Write + Seek + ?Sized> Write for Mapper<'_, W> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        if self.room() == 0 || self.cuts.contains(&self.at) {
            self.close();
        }
        let take = buf.len().min(self.room() as usize);
        let n = self.out.write(buf.get(..take).unwrap_or(buf))?;
        self.hasher.update(buf.get(..n).unwrap_or(buf));
        self.at = self.at.saturating_add(n as u64);
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

impl<W: Write + Seek + ?Sized> Seek for Mapper<'_, W> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let at = self.out.seek(to)?;
        if at != self.at {
            self.close();
            self.start = at;
            self.at = at;
        }
        Ok(at)
    }
}
