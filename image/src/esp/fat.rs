//! Geometry, boot sector, FSInfo and allocation table of a FAT32 volume.

use super::{ESP_BYTES_MAX, ESP_BYTES_MIN, EspError, EspParams};
use crate::bytes::{align_up, padding, put};

pub(super) const FAT_COUNT: u64 = 2;
pub(super) const ROOT_CLUSTER: u64 = 2;

const SECTOR_BYTES: u64 = 512;
const RESERVED_SECTORS_MIN: u64 = 32;
const FSINFO_SECTOR: u16 = 1;
const BACKUP_SECTOR: u16 = 6;
/// From this size on clusters have 4096 bytes, below 512; as mkfs.fat chooses.
const LARGE_BYTES: u64 = 260 << 20;
/// Fewest clusters of a FAT32: with less, readers take it for FAT16.
const CLUSTERS_MIN: u64 = 65_525;
const END_OF_CHAIN: u32 = 0x0fff_ffff;
const MEDIA: u8 = 0xf8;

/// Where the parts of a volume lie.
#[derive(Debug)]
pub(super) struct Volume {
    pub(super) size_bytes: u64,
    pub(super) cluster_bytes: u64,
    pub(super) cluster_count: u64,
    pub(super) fat_bytes: u64,
    /// Padded with spaces.
    pub(super) label: [u8; 11],
    reserved_sectors: u64,
    volume_id: u32,
    hidden_sectors: u32,
}

impl Volume {
    pub(super) fn new(params: &EspParams) -> Result<Self, EspError> {
        let size_bytes = params.size_bytes;
        if !(ESP_BYTES_MIN..=ESP_BYTES_MAX).contains(&size_bytes)
            || !size_bytes.is_multiple_of(4096)
        {
            return Err(EspError::Params {
                what: "its size must be 36 MiB to 32 GiB, in whole 4096 bytes",
            });
        }
        let cluster_bytes: u64 = if size_bytes >= LARGE_BYTES { 4096 } else { 512 };
        // A few entries more than clusters remain after the tables themselves: never too few.
        let entries = size_bytes.div_ceil(cluster_bytes).saturating_add(ROOT_CLUSTER);
        let fat_bytes = align_up(entries.saturating_mul(4), SECTOR_BYTES);
        let tables = fat_bytes.saturating_mul(FAT_COUNT);
        // Reserved sectors fill up so that clusters lie aligned.
        let least = RESERVED_SECTORS_MIN.saturating_mul(SECTOR_BYTES);
        let gap = padding(least.saturating_add(tables), cluster_bytes);
        let reserved = least.saturating_add(gap);
        let data = size_bytes.saturating_sub(reserved).saturating_sub(tables);
        let cluster_count = data.checked_div(cluster_bytes).unwrap_or(0);
        if cluster_count < CLUSTERS_MIN {
            return Err(EspError::Params { what: "it is too small for FAT32" });
        }
        Ok(Self {
            size_bytes,
            cluster_bytes,
            cluster_count,
            fat_bytes,
            label: label(&params.label)?,
            reserved_sectors: reserved.checked_div(SECTOR_BYTES).unwrap_or(0),
            volume_id: params.volume_id,
            hidden_sectors: params.hidden_sectors,
        })
    }

    pub(super) fn clusters_of(&self, bytes: u64) -> u64 {
        bytes.div_ceil(self.cluster_bytes.max(1))
    }

    /// Offset of a cluster in the partition in bytes.
    pub(super) fn cluster_offset(&self, cluster: u64) -> u64 {
        let tables = self.fat_bytes.saturating_mul(FAT_COUNT);
        let start = self.reserved_sectors.saturating_mul(SECTOR_BYTES).saturating_add(tables);
        start
            .saturating_add(cluster.saturating_sub(ROOT_CLUSTER).saturating_mul(self.cluster_bytes))
    }

    pub(super) fn free_clusters(&self, next: u64) -> u64 {
        self.cluster_count.saturating_sub(next.saturating_sub(ROOT_CLUSTER))
    }

    /// The reserved sectors: boot sector and FSInfo, and their copies.
    pub(super) fn reserved_bytes(&self, next_cluster: u64) -> Vec<u8> {
        let mut bytes = vec![0u8; self.reserved_sectors.saturating_mul(SECTOR_BYTES) as usize];
        let boot = self.boot_sector();
        let info = self.info_sector(next_cluster);
        for first in [0, BACKUP_SECTOR] {
            let at = usize::from(first).saturating_mul(512);
            put(&mut bytes, at, &boot);
            put(
                &mut bytes,
                at.saturating_add(usize::from(FSINFO_SECTOR).saturating_mul(512)),
                &info,
            );
        }
        bytes
    }

    fn boot_sector(&self) -> [u8; 512] {
        let sectors = |bytes: u64| bytes.checked_div(SECTOR_BYTES).unwrap_or(0);
        let mut sector = [0u8; 512];
        put(&mut sector, 0, &[0xeb, 0x58, 0x90]);
        put(&mut sector, 3, b"GOBLIN  ");
        put(&mut sector, 11, &(SECTOR_BYTES as u16).to_le_bytes());
        put(&mut sector, 13, &[sectors(self.cluster_bytes) as u8]);
        put(&mut sector, 14, &(self.reserved_sectors as u16).to_le_bytes());
        put(&mut sector, 16, &[FAT_COUNT as u8]);
        put(&mut sector, 21, &[MEDIA]);
        // Sectors per track and heads: nobody uses them, checkers want them to be there.
        put(&mut sector, 24, &63u16.to_le_bytes());
        put(&mut sector, 26, &255u16.to_le_bytes());
        put(&mut sector, 28, &self.hidden_sectors.to_le_bytes());
        put(&mut sector, 32, &(sectors(self.size_bytes) as u32).to_le_bytes());
        put(&mut sector, 36, &(sectors(self.fat_bytes) as u32).to_le_bytes());
        put(&mut sector, 44, &(ROOT_CLUSTER as u32).to_le_bytes());
        put(&mut sector, 48, &FSINFO_SECTOR.to_le_bytes());
        put(&mut sector, 50, &BACKUP_SECTOR.to_le_bytes());
        put(&mut sector, 64, &[0x80, 0, 0x29]);
        put(&mut sector, 67, &self.volume_id.to_le_bytes());
        put(&mut sector, 71, &self.label);
        put(&mut sector, 82, b"FAT32   ");
        // Whoever boots it by BIOS gets a halted processor, not random code: hlt, jmp to it.
        put(&mut sector, 90, &[0xf4, 0xeb, 0xfd]);
        put(&mut sector, 510, &[0x55, 0xaa]);
        sector
    }

    fn info_sector(&self, next_cluster: u64) -> [u8; 512] {
        let mut sector = [0u8; 512];
        put(&mut sector, 0, b"RRaA");
        put(&mut sector, 484, b"rrAa");
        put(&mut sector, 488, &(self.free_clusters(next_cluster) as u32).to_le_bytes());
        put(&mut sector, 492, &(next_cluster as u32).to_le_bytes());
        put(&mut sector, 510, &[0x55, 0xaa]);
        sector
    }
}

fn label(text: &str) -> Result<[u8; 11], EspError> {
    let allowed = |b: u8| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_' || b == b'-';
    if text.is_empty() || text.len() > 11 || !text.bytes().all(allowed) {
        return Err(EspError::Params {
            what: "its label must be 1 to 11 of A-Z, 0-9, `_` and `-`",
        });
    }
    let mut label = [b' '; 11];
    put(&mut label, 0, text.as_bytes());
    Ok(label)
}

/// An allocation table filled with chains of neighbouring clusters.
#[derive(Debug)]
pub(super) struct Table {
    entries: Vec<u32>,
}

impl Table {
    pub(super) fn new() -> Self {
        // Media byte, then "clean, no errors".
        Self { entries: vec![0x0fff_ff00 | MEDIA as u32, END_OF_CHAIN] }
    }

    /// The next `count` clusters are one chain.
    pub(super) fn chain(&mut self, count: u64) {
        for left in (0..count).rev() {
            let next = (self.entries.len() as u32).saturating_add(1);
            self.entries.push(if left == 0 { END_OF_CHAIN } else { next });
        }
    }

    pub(super) fn into_bytes(self) -> Vec<u8> {
        self.entries.into_iter().flat_map(u32::to_le_bytes).collect()
    }
}
