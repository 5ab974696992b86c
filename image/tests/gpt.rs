//! Partition tables: edits, torn writes, hostile disks.
#![allow(clippy::disallowed_methods, reason = "tests use files and programs")]

mod common;

use common::{run, tool};
use goblin_image::Guid;
use goblin_image::gpt::{self, Copies, Gpt, GptError, NewPartition, Partition};
use proptest::prelude::*;
use std::io::Cursor;

const SECTORS: u64 = 4096;

fn partition(number: u32, first_lba: u64, last_lba: u64) -> Partition {
    Partition {
        number,
        type_guid: gpt::TYPE_ESP,
        unique_guid: Guid::derive(&[&number.to_le_bytes()]),
        name: format!("part-{number}"),
        first_lba,
        last_lba,
        attributes: 0,
    }
}

fn table() -> Gpt {
    let partitions = vec![partition(1, 34, 99), partition(3, 100, 199)];
    Gpt::new(Guid::derive(&[b"disk"]), SECTORS, partitions).unwrap()
}

fn state() -> NewPartition {
    NewPartition {
        type_guid: gpt::TYPE_STATE,
        unique_guid: Guid([9; 16]),
        name: "goblin-state".into(),
    }
}

fn disk(gpt: &Gpt, sectors: u64) -> Vec<u8> {
    let mut disk = Cursor::new(vec![0u8; (sectors * 512) as usize]);
    gpt.write(&mut disk).unwrap();
    disk.into_inner()
}

#[test]
fn a_written_table_reads_back() {
    let found = gpt::parse(&mut Cursor::new(disk(&table(), SECTORS))).unwrap();
    assert_eq!((found.gpt, found.copies), (table(), Copies::Both));
}

#[test]
fn the_well_known_types_have_their_texts() {
    assert_eq!(gpt::TYPE_ESP.to_string(), "c12a7328-f81f-11d2-ba4b-00a0c93ec93b");
    assert_eq!(gpt::TYPE_RECORD.to_string(), "6bd5a9f0-4c0e-4e39-9a6f-5d7d3c1e20b4");
    assert_eq!(gpt::TYPE_STATE.to_string(), "0fc63daf-8483-4772-8e79-3d69d8477de4");
}

#[test]
fn a_flashed_image_grows_to_its_disk() {
    let larger = SECTORS * 4;
    let mut bytes = disk(&table(), SECTORS);
    bytes.resize((larger * 512) as usize, 0);
    let found = gpt::parse(&mut Cursor::new(&bytes)).unwrap();
    assert_eq!((found.gpt.sectors(), found.copies), (SECTORS, Copies::PrimaryOnly));
    let grown = found.gpt.relocated(larger).unwrap().with_partition_in_rest(state(), 2048).unwrap();
    let added = grown.by_name("goblin-state").unwrap();
    assert_eq!((added.number, added.first_lba, added.last_lba), (2, 2048, 14_335));
    grown.write(&mut Cursor::new(&mut bytes)).unwrap();
    let again = gpt::parse(&mut Cursor::new(&bytes)).unwrap();
    assert_eq!((again.gpt, again.copies), (grown, Copies::Both));
}

#[test]
fn a_partition_needs_room() {
    assert!(matches!(table().with_partition_in_rest(state(), 2048), Err(GptError::Size { .. })));
    assert!(table().with_partition(state(), 150, 10).is_err());
    assert!(table().with_partition(state(), 200, 0).is_err());
    assert!(table().with_partition(state(), 200, u64::MAX).is_err());
    assert!(table().relocated(150).is_err());
    assert!(table().relocated(u64::MAX).is_err());
    let full = (0..128).map(|n| partition(n as u32 + 1, 34 + n, 34 + n)).collect();
    let full = Gpt::new(Guid::ZERO, SECTORS, full).unwrap();
    assert!(matches!(full.with_partition(state(), 300, 1), Err(GptError::Full)));
}

#[test]
fn no_table_says_what_is_wrong_with_both() {
    let mut bytes = disk(&table(), SECTORS);
    bytes[512 + 20] ^= 1;
    assert_eq!(gpt::parse(&mut Cursor::new(&bytes)).unwrap().copies, Copies::BackupOnly);
    let last = bytes.len() - 512;
    bytes[last] = 0;
    let text = gpt::parse(&mut Cursor::new(&bytes)).unwrap_err().to_string();
    assert_eq!(
        text,
        "no valid partition table: the primary has a wrong checksum, the backup has no signature"
    );
    assert!(gpt::parse(&mut Cursor::new(vec![])).is_err());
}

/// The sectors that a series of steps writes, in order.
fn sector_writes(gpt: &Gpt) -> Vec<(usize, Vec<u8>)> {
    let steps = gpt.steps();
    let sectors = steps.iter().flat_map(|step| {
        let first = (step.offset_bytes / 512) as usize;
        step.bytes.chunks(512).enumerate().map(move |(at, bytes)| (first + at, bytes.to_vec()))
    });
    sectors.collect()
}

#[test]
fn every_power_cut_of_an_edit_leaves_the_old_or_the_new_table() {
    let larger = SECTORS * 4;
    let mut before = disk(&table(), SECTORS);
    before.resize((larger * 512) as usize, 0);
    let new = table().relocated(larger).unwrap().with_partition_in_rest(state(), 1).unwrap();
    let writes = sector_writes(&new);
    for cut in 0..=writes.len() {
        let mut bytes = before.clone();
        for (sector, data) in &writes[..cut] {
            bytes[sector * 512..][..512].copy_from_slice(data);
        }
        let found = gpt::parse(&mut Cursor::new(&bytes)).unwrap().gpt;
        assert!(found == new || found == table(), "cut after {cut} sectors");
    }
}

#[test]
fn sfdisk_accepts_the_table() {
    let Some(mut sfdisk) = tool("sfdisk") else { return };
    let image = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(image.path(), disk(&table(), SECTORS)).unwrap();
    let text = run(sfdisk.arg("--verify").arg(image.path()));
    assert!(text.contains("No errors"), "{text}");
}

proptest! {
    #[test]
    fn damage_to_one_copy_leaves_the_other(at in 512usize..34 * 512, byte: u8, backup: bool) {
        let mut bytes = disk(&table(), SECTORS);
        let at = if backup { bytes.len() - 33 * 512 + at - 512 } else { at };
        bytes[at] = byte;
        prop_assert_eq!(gpt::parse(&mut Cursor::new(&bytes)).unwrap().gpt, table());
    }

    #[test]
    fn any_headers_are_answered(
        fields in proptest::collection::vec((0usize..92, any::<u8>()), 0..8), resum: bool
    ) {
        let mut bytes = disk(&table(), SECTORS);
        for (at, byte) in fields {
            bytes[512 + at] = byte;
        }
        if resum {
            bytes[512 + 16..][..4].fill(0);
            let sum = crc32fast::hash(&bytes[512..512 + 92]);
            bytes[512 + 16..][..4].copy_from_slice(&sum.to_le_bytes());
        }
        let end = bytes.len();
        bytes[end - 512] = 0;
        let _ = gpt::parse(&mut Cursor::new(&bytes));
    }

    #[test]
    fn any_edit_is_answered(first: u64, sectors: u64, disk_sectors: u64) {
        let _ = table().with_partition(state(), first, sectors);
        let _ = table().relocated(disk_sectors).map(|gpt| gpt.with_partition_in_rest(state(), sectors));
        let _ = Gpt::new(Guid::ZERO, disk_sectors, vec![partition(1, first, sectors)]);
    }
}
