//! EFI system partitions and whole disk images, against dosfstools and mtools.
#![allow(clippy::disallowed_methods, reason = "tests use files and programs")]

mod common;

use common::{digest, noise, run, tool};
use goblin_image::disk::{DiskMap, DiskPlan, DiskSpec, PROVISION_BYTES, provision_bytes};
use goblin_image::esp::{EspError, EspFile, EspParams, EspPlan};
use goblin_image::gpt;
use std::collections::BTreeMap;
use std::io::{self, Cursor, Read};
use std::path::Path;

const ESP_BYTES: u64 = 40 << 20;

fn files() -> BTreeMap<String, Vec<u8>> {
    let mut files = BTreeMap::from([
        ("EFI/BOOT/BOOTX64.EFI".into(), noise(1, 140_891)),
        ("EFI/Linux/goblinux_1.efi".into(), noise(2, 3 << 20)),
        ("EFI/Linux/goblinux_2026.11.1+3.efi".into(), noise(3, 4096)),
        ("loader/loader.conf".into(), b"timeout 0\n".to_vec()),
        ("loader/empty".into(), vec![]),
        ("notes with spaces.txt".into(), noise(4, 513)),
    ]);
    for number in 0..60 {
        files.insert(format!("many/a rather long name, number {number}.txt"), vec![number; 10]);
    }
    files
}

fn list(files: &BTreeMap<String, Vec<u8>>) -> Vec<EspFile> {
    files
        .iter()
        .map(|(path, bytes)| EspFile { path: path.clone(), size: bytes.len() as u64 })
        .collect()
}

#[allow(clippy::needless_lifetimes, reason = "an elided one would be that of the path")]
fn open<'f>(
    files: &'f BTreeMap<String, Vec<u8>>,
) -> impl FnMut(&str) -> io::Result<Box<dyn Read + 'f>> {
    |path| match files.get(path) {
        Some(bytes) => Ok(Box::new(bytes.as_slice())),
        None => Err(io::ErrorKind::NotFound.into()),
    }
}

fn params(size_bytes: u64) -> EspParams {
    EspParams {
        size_bytes,
        volume_id: 0x1234_5678,
        label: "GOBLIN-ESP".into(),
        hidden_sectors: 2048,
    }
}

/// Writes an ESP into a sparse file of its size.
fn esp(path: &Path, size_bytes: u64) -> EspPlan {
    let files = files();
    let plan = EspPlan::new(&params(size_bytes), &list(&files)).unwrap();
    let mut file = std::fs::File::create(path).unwrap();
    file.set_len(plan.size()).unwrap();
    plan.write(&mut file, 0, open(&files)).unwrap();
    plan
}

#[test]
fn fsck_and_mtools_accept_small_and_large_partitions() {
    let (Some(_), Some(_)) = (tool("fsck.fat"), tool("mdir")) else { return };
    for size in [ESP_BYTES, 300 << 20, 1 << 30] {
        let image = tempfile::NamedTempFile::new().unwrap();
        let plan = esp(image.path(), size);
        let text = run(tool("fsck.fat").unwrap().arg("-n").arg("-v").arg(image.path()));
        assert!(!text.contains("differences") && !text.contains("wrong"), "{text}");
        assert!(text.contains(&format!("{} files", files().len() + 6)), "{text}");
        let free = run(tool("mdir").unwrap().arg("-i").arg(image.path()).arg("::/"));
        let digits: String = free
            .lines()
            .find(|line| line.ends_with("bytes free"))
            .unwrap()
            .chars()
            .filter(char::is_ascii_digit)
            .collect();
        assert_eq!(digits, plan.free_bytes().to_string(), "{free}");
        for (path, bytes) in files() {
            let out = tool("mtype")
                .unwrap()
                .arg("-i")
                .arg(image.path())
                .arg(format!("::/{path}"))
                .output()
                .unwrap();
            assert!(out.status.success() && out.stdout == bytes, "{path}: {out:?}");
        }
    }
}

#[test]
fn other_programs_rename_and_add_files() {
    let (Some(mut rename), Some(mut copy)) = (tool("mren"), tool("mcopy")) else { return };
    let image = tempfile::NamedTempFile::new().unwrap();
    esp(image.path(), ESP_BYTES);
    run(rename
        .arg("-i")
        .arg(image.path())
        .arg("::/EFI/Linux/goblinux_2026.11.1+3.efi")
        .arg("goblinux_2026.11.1+2-1.efi"));
    let extra = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(extra.path(), noise(8, 100_000)).unwrap();
    run(copy.arg("-i").arg(image.path()).arg(extra.path()).arg("::/EFI/Linux/.new"));
    run(tool("fsck.fat").unwrap().arg("-n").arg(image.path()));
    let listing =
        run(tool("mdir").unwrap().arg("-b").arg("-i").arg(image.path()).arg("::/EFI/Linux"));
    assert!(
        listing.contains("goblinux_2026.11.1+2-1.efi") && listing.contains(".new"),
        "{listing}"
    );
}

#[test]
fn the_offsets_of_files_are_where_their_data_lies() {
    let image = tempfile::NamedTempFile::new().unwrap();
    let plan = esp(image.path(), ESP_BYTES);
    let bytes = std::fs::read(image.path()).unwrap();
    for placed in plan.files() {
        let at = placed.offset_bytes as usize;
        assert!(bytes[at..at + placed.size as usize] == files()[&placed.path], "{}", placed.path);
    }
}

#[test]
fn what_does_not_fit_is_refused() {
    let file = |size| [EspFile { path: "a".into(), size }];
    assert!(matches!(
        EspPlan::new(&params(ESP_BYTES), &file(64 << 20)),
        Err(EspError::Full { .. })
    ));
    assert!(matches!(EspPlan::new(&params(ESP_BYTES), &file(1 << 32)), Err(EspError::Path { .. })));
    assert!(EspPlan::new(&params(1 << 20), &file(1)).is_err());
    assert!(EspPlan::new(&params(ESP_BYTES + 1), &file(1)).is_err());
    assert!(
        EspPlan::new(&EspParams { label: "lower".into(), ..params(ESP_BYTES) }, &file(1)).is_err()
    );
    let plan = EspPlan::new(&params(ESP_BYTES), &file(5)).unwrap();
    let mut out = Cursor::new(Vec::new());
    for wrong in [&b"four"[..], b"sixsix"] {
        let result = plan.write(&mut out, 0, |_| Ok(Box::new(wrong)));
        assert!(matches!(result, Err(EspError::FileSize { expected: 5, .. })), "{result:?}");
    }
}

fn disk(path: &Path) -> (DiskPlan, DiskMap) {
    let files = files();
    let spec = DiskSpec { esp_bytes: ESP_BYTES, ..DiskSpec::derived(b"test", list(&files)) };
    let plan = DiskPlan::new(&spec).unwrap();
    let mut file = std::fs::File::options().write(true).open(path).unwrap();
    let map = plan.write(&mut file, open(&files)).unwrap();
    (plan, map)
}

#[test]
fn the_same_input_gives_the_same_image_and_map() {
    let [one, two] = [(); 2].map(|()| tempfile::NamedTempFile::new().unwrap());
    let (plan, map) = disk(one.path());
    let (_, again) = disk(two.path());
    assert_eq!(map, again);
    let [one, two] = [one, two].map(|image| std::fs::read(image.path()).unwrap());
    assert!(one == two);
    assert_eq!(one.len() as u64, plan.size());
    map.check().unwrap();
    let json = serde_json::to_string(&map).unwrap();
    assert_eq!(serde_json::from_str::<DiskMap>(&json).unwrap(), map);
    for range in &map.ranges {
        let at = range.offset_bytes as usize;
        assert_eq!(digest(&one[at..at + range.length_bytes as usize]), range.digest);
    }
    let found = gpt::parse(&mut Cursor::new(&one)).unwrap();
    assert_eq!((&found.gpt, found.copies), (plan.gpt(), gpt::Copies::Both));
}

#[test]
fn writing_the_ranges_over_an_old_disk_is_enough() {
    let Some(mut fsck) = tool("fsck.fat") else { return };
    let image = tempfile::NamedTempFile::new().unwrap();
    let (plan, map) = disk(image.path());
    let image = std::fs::read(image.path()).unwrap();
    // A larger disk full of old data; the mapped ranges are all that is copied.
    let mut target = noise(5, plan.size() as usize + (3 << 20));
    for range in &map.ranges {
        let span = range.offset_bytes as usize..(range.offset_bytes + range.length_bytes) as usize;
        target[span.clone()].copy_from_slice(&image[span]);
    }
    let text = provision_bytes(b"role = \"storage\"\n").unwrap();
    target[map.provision_offset_bytes as usize..][..text.len()].copy_from_slice(&text);
    let esp = &target[1 << 20..(1 << 20) + ESP_BYTES as usize];
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), esp).unwrap();
    run(fsck.arg("-n").arg(file.path()));
    let shown = run(tool("mtype").unwrap().arg("-i").arg(file.path()).arg("::/provision.toml"));
    assert_eq!(shown.trim_end(), "role = \"storage\"");
    let found = gpt::parse(&mut Cursor::new(&target)).unwrap();
    assert_eq!((&found.gpt, found.copies), (plan.gpt(), gpt::Copies::PrimaryOnly));
    let record = found.gpt.by_name("goblin-record").unwrap();
    let at = record.offset_bytes() as usize;
    let b = at + goblin_image::record::COPY_B_OFFSET as usize;
    assert_eq!(goblin_image::record::decode(&target[at..b], &target[b..]).which, None);
    // Where STATE will begin, nothing of an older file system is left.
    let after = at + record.size_bytes() as usize;
    assert!(target[after..after + (512 << 10)].iter().all(|byte| *byte == 0));
}

#[test]
fn the_provisioning_file_has_one_place() {
    let spec = DiskSpec::derived(b"x", vec![EspFile { path: "Provision.toml".into(), size: 1 }]);
    assert!(DiskPlan::new(&spec).is_err());
    assert!(provision_bytes(&vec![b'x'; PROVISION_BYTES as usize + 1]).is_err());
    let image = tempfile::NamedTempFile::new().unwrap();
    let (_, map) = disk(image.path());
    let bytes = std::fs::read(image.path()).unwrap();
    let at = map.provision_offset_bytes as usize;
    assert!(bytes[at..at + PROVISION_BYTES as usize].iter().all(|byte| *byte == b'\n'));
    // Its own range: the digests of all others stay true after it is filled in.
    assert!(
        map.ranges.iter().any(|r| (r.offset_bytes, r.length_bytes) == (at as u64, PROVISION_BYTES))
    );
}

#[test]
fn damaged_maps_are_refused() {
    let image = tempfile::NamedTempFile::new().unwrap();
    let (_, map) = disk(image.path());
    let refused = |change: fn(&mut DiskMap)| {
        let mut bad = map.clone();
        change(&mut bad);
        assert!(bad.check().is_err());
    };
    refused(|map| map.schema = 2);
    refused(|map| map.ranges.swap(0, 1));
    refused(|map| map.ranges[0].length_bytes = 0);
    refused(|map| map.size_bytes = 4096);
    refused(|map| map.provision_offset_bytes = u64::MAX);
}
