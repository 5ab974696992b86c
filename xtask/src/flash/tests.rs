//! Flashing into files, with an image small enough for a unit test.

use super::*;
use crate::provision::{PairSpec, make_pair};
use goblin_image::disk::{DiskPlan, DiskSpec};
use goblin_image::esp::EspFile;
use goblin_image::gpt;
use std::io::Read;
use std::os::unix::fs::{FileExt, PermissionsExt};

const DISK_BYTES: u64 = 1 << 30;

/// An image with one file of noise, and its block map.
fn image(folder: &Path) -> PathBuf {
    let noise: Vec<u8> =
        (0u32..40_000).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
    let files = vec![EspFile { path: "EFI/Linux/a.efi".into(), size: noise.len() as u64 }];
    let spec = DiskSpec { esp_bytes: 64 << 20, ..DiskSpec::derived(b"test", files) };
    let path = folder.join("small.img");
    let mut file = std::fs::File::create(&path).unwrap();
    let plan = DiskPlan::new(&spec).unwrap();
    let map = plan.write(&mut file, |_| Ok(Box::new(noise.as_slice()))).unwrap();
    file.set_len(map.size_bytes).unwrap();
    std::fs::write(folder.join("small.bmap.json"), serde_json::to_vec(&map).unwrap()).unwrap();
    path
}

fn compressed(image: &Path) -> PathBuf {
    let packed = image.with_extension("img.zst");
    let bytes = zstd::encode_all(std::fs::File::open(image).unwrap(), 1).unwrap();
    std::fs::write(&packed, bytes).unwrap();
    packed
}

fn provisioning() -> String {
    make_pair(&PairSpec::default()).unwrap().storage
}

#[test]
fn the_disk_holds_image_table_and_provisioning_file() {
    let folder = tempfile::tempdir().unwrap();
    let packed = compressed(&image(folder.path()));
    let (text, dest) = (provisioning(), folder.path().join("disk.img"));
    write_disk_image(&packed, &text, &dest, DISK_BYTES).unwrap();
    let mut disk = std::fs::File::open(&dest).unwrap();
    assert_eq!(disk.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(disk.metadata().unwrap().len(), DISK_BYTES);
    let found = gpt::parse(&mut disk).unwrap();
    assert_eq!(found.copies, gpt::Copies::Both);
    assert_eq!(found.gpt.sectors(), DISK_BYTES / 512);
    let wanted = Wanted::check(&packed, &text).unwrap();
    let mut room = vec![0; wanted.sealed.len()];
    disk.read_exact_at(&mut room, wanted.map.provision_offset_bytes).unwrap();
    assert_eq!(goblin_core_config::parse_bytes(&room).unwrap(), wanted.provision);
    // The image's own second table would otherwise lie in the middle of the disk.
    let mut old = [1; 512];
    disk.read_exact_at(&mut old, wanted.map.size_bytes - 512).unwrap();
    assert_eq!(old, [0; 512]);
}

#[test]
fn two_boards_never_share_a_guid() {
    let folder = tempfile::tempdir().unwrap();
    let image = image(folder.path());
    let pair = make_pair(&PairSpec::default()).unwrap();
    let guids = [&pair.compute, &pair.storage].map(|text| {
        let dest = folder.path().join("disk.img");
        write_disk_image(&image, text, &dest, DISK_BYTES).unwrap();
        let table = gpt::parse(&mut std::fs::File::open(dest).unwrap()).unwrap().gpt;
        (table.disk_guid(), table.partitions().iter().map(|p| p.unique_guid).collect::<Vec<_>>())
    });
    let [(disk_a, parts_a), (disk_b, parts_b)] = guids;
    assert_ne!(disk_a, disk_b);
    assert!(parts_a.iter().all(|guid| !parts_b.contains(guid)));
}

#[test]
fn a_damaged_or_short_image_leaves_no_disk() {
    let folder = tempfile::tempdir().unwrap();
    let path = image(folder.path());
    let dest = folder.path().join("disk.img");
    let mut bytes = Vec::new();
    std::fs::File::open(&path).unwrap().read_to_end(&mut bytes).unwrap();
    let map: DiskMap =
        serde_json::from_slice(&std::fs::read(folder.path().join("small.bmap.json")).unwrap())
            .unwrap();
    let mapped = usize::try_from(map.ranges[1].offset_bytes).unwrap();
    bytes[mapped] ^= 1;
    std::fs::write(&path, &bytes).unwrap();
    let refused = write_disk_image(&path, &provisioning(), &dest, DISK_BYTES).unwrap_err();
    assert!(format!("{refused:#}").contains("differs from its block map"), "{refused:#}");
    bytes[mapped] ^= 1;
    bytes.truncate(bytes.len() / 2);
    std::fs::write(&path, &bytes).unwrap();
    assert!(write_disk_image(&path, &provisioning(), &dest, DISK_BYTES).is_err());
    assert!(!dest.exists());
}

#[test]
fn what_does_not_fit_is_refused_before_writing() {
    let folder = tempfile::tempdir().unwrap();
    let image = image(folder.path());
    let dest = folder.path().join("disk.img");
    let refused = write_disk_image(&image, &provisioning(), &dest, 200 << 20).unwrap_err();
    assert!(format!("{refused:#}").contains("need"), "{refused:#}");
    assert!(write_disk_image(&image, "schema = 1", &dest, DISK_BYTES).is_err());
    std::fs::remove_file(folder.path().join("small.bmap.json")).unwrap();
    let refused = write_disk_image(&image, &provisioning(), &dest, DISK_BYTES).unwrap_err();
    assert!(format!("{refused:#}").contains("block map"), "{refused:#}");
    assert!(!dest.exists());
}
