//! UKIs: sections added to a PE image, whole recipes, hostile images.
#![allow(clippy::disallowed_methods, reason = "tests use files and programs")]

mod common;

use common::{digest, file, noise, rich_tree, run, small_pe, stub, tool};
use goblin_core_types::Digest;
use goblin_image::recipe::RECIPE_FORMAT;
use goblin_image::uki::{UkiPlan, parse_sections, read_section};
use goblin_image::{BlobRef, BuildError, Guid, MemoryContents, Tree, UkiRecipe};
use proptest::prelude::*;
use std::io::Cursor;

fn blob(bytes: Vec<u8>, contents: &mut MemoryContents) -> BlobRef {
    BlobRef { size: bytes.len() as u64, digest: contents.insert(bytes) }
}

fn recipe(contents: &mut MemoryContents) -> UkiRecipe {
    UkiRecipe {
        format: RECIPE_FORMAT,
        stub: blob(stub(), contents),
        kernel: blob(noise(2, 100_001), contents),
        cmdline: "rootfstype=ramfs quiet".into(),
        os_release: "ID=goblinux\nIMAGE_VERSION=1\n".into(),
        uname: "6.12.0".into(),
        preinit: blob(noise(3, 9_999), contents),
        base: rich_tree(contents),
        erofs_uuid: Guid::derive(&[b"uki test"]),
        erofs_time: 0,
        uki_size: 0,
        uki_digest: Digest([0; 32]),
    }
}

fn write(plan: &UkiPlan, parts: &[(&str, &[u8])]) -> Result<Vec<u8>, BuildError> {
    let mut out = Vec::new();
    plan.write(&mut out, |name, out| {
        let (_, bytes) = parts.iter().find(|(part, _)| *part == name).unwrap();
        out.write_all(bytes).map_err(BuildError::Write)
    })?;
    Ok(out)
}

#[test]
fn sections_read_back_with_and_without_room_for_their_headers() {
    let parts: [(&str, &[u8]); 3] = [(".osrel", b"ID=x"), (".linux", &[7; 5000]), (".initrd", &[])];
    let sizes = parts.map(|(name, bytes)| (name, bytes.len() as u64));
    for room in [0, 1, 8] {
        let pe = small_pe(room);
        let plan = UkiPlan::new(&pe, &sizes).unwrap();
        let image = write(&plan, &parts).unwrap();
        assert_eq!(image.len() as u64, plan.size());
        for (name, bytes) in parts {
            assert_eq!(
                read_section(&mut Cursor::new(&image), name, 1 << 20).unwrap().unwrap(),
                bytes
            );
        }
        let text = read_section(&mut Cursor::new(&image), ".text", 1 << 20).unwrap().unwrap();
        assert_eq!(text, vec![0x5a; 500]);
        let sections = parse_sections(&mut Cursor::new(&image)).unwrap();
        assert_eq!(sections.len(), 5);
        assert!(sections.iter().all(|s| s.virtual_address % 4096 == 0 && s.file_offset % 512 == 0));
        assert!(sections.windows(2).all(|s| s[0].virtual_address < s[1].virtual_address));
    }
}

#[test]
fn wrong_sizes_and_taken_names_are_refused() {
    let pe = small_pe(2);
    let plan = UkiPlan::new(&pe, &[(".a", 3)]).unwrap();
    assert!(matches!(
        write(&plan, &[(".a", b"four")]),
        Err(BuildError::PartSize { planned: 3, got: 4, .. })
    ));
    assert!(UkiPlan::new(&pe, &[(".text", 3)]).is_err());
    assert!(UkiPlan::new(&pe, &[(".a", 3), (".a", 3)]).is_err());
    assert!(UkiPlan::new(&pe, &[(".muchtoolong", 3)]).is_err());
    assert!(UkiPlan::new(&pe, &[(".a", u64::MAX)]).is_err());
    let names: Vec<String> = (0..95).map(|n| format!(".s{n}")).collect();
    let many: Vec<(&str, u64)> = names.iter().map(|name| (name.as_str(), 0)).collect();
    assert!(UkiPlan::new(&pe, &many).is_err());
    assert!(UkiPlan::new(&pe, &many[..60]).is_ok());
}

#[test]
fn a_recipe_rebuilds_the_same_bytes() {
    let mut contents = MemoryContents::new();
    let mut recipe = recipe(&mut contents);
    recipe.seal(&mut contents).unwrap();
    // Through the manifest's text and back.
    let read: UkiRecipe = serde_json::from_str(&serde_json::to_string(&recipe).unwrap()).unwrap();
    assert_eq!(read, recipe);
    let mut first = Vec::new();
    read.build(&mut first, &mut contents).unwrap();
    let mut second = Vec::new();
    assert_eq!(read.write_uki(&mut second, &mut contents).unwrap(), recipe.uki_digest);
    assert!(first == second);
    assert_eq!((first.len() as u64, digest(&first)), (recipe.uki_size, recipe.uki_digest));
    let section = |name| read_section(&mut Cursor::new(&first), name, 1 << 30).unwrap().unwrap();
    assert_eq!(section(".cmdline"), recipe.cmdline.as_bytes());
    assert_eq!(section(".linux"), noise(2, 100_001));
    let initrd = section(".initrd");
    assert!(initrd.starts_with(b"070701") && initrd.ends_with(b"TRAILER!!!\0\0\0\0"));
}

#[test]
fn format_one_is_frozen() {
    // Boards in the field rebuild with the builder they have. If this digest changes, so must
    // RECIPE_FORMAT, or they refuse the release at the last step.
    let mut contents = MemoryContents::new();
    let mut recipe = recipe(&mut contents);
    recipe.stub = blob(small_pe(2), &mut contents);
    recipe.seal(&mut contents).unwrap();
    assert_eq!(
        recipe.uki_digest.to_string(),
        "483e05e38056e0b7705417f84c6348c2e7ca4c3d821491ce9ba2812a8859aed3"
    );
}

#[test]
fn blobs_of_a_recipe_are_all_it_needs() {
    let mut contents = MemoryContents::new();
    let mut recipe = recipe(&mut contents);
    recipe.seal(&mut contents).unwrap();
    let blobs = recipe.blobs();
    assert!(blobs.windows(2).all(|pair| pair[0].digest < pair[1].digest));
    let mut only = MemoryContents::new();
    for blob in &blobs {
        let mut bytes = Vec::new();
        let mut reader =
            goblin_image::Contents::open(&mut contents, &blob.digest, blob.size).unwrap();
        std::io::Read::read_to_end(&mut reader, &mut bytes).unwrap();
        only.insert(bytes);
    }
    recipe.build(&mut std::io::sink(), &mut only).unwrap();
}

#[test]
fn contradictory_recipes_are_refused() {
    let mut contents = MemoryContents::new();
    let mut good = recipe(&mut contents);
    good.seal(&mut contents).unwrap();
    let refused = |change: fn(&mut UkiRecipe)| {
        let mut bad = good.clone();
        change(&mut bad);
        bad.build(&mut std::io::sink(), &mut contents.clone()).unwrap_err()
    };
    assert!(matches!(refused(|r| r.format = 2), BuildError::Recipe(_)));
    assert!(matches!(refused(|r| r.cmdline = "x".repeat(4000)), BuildError::Recipe(_)));
    assert!(matches!(refused(|r| r.uname = "a\0".into()), BuildError::Recipe(_)));
    assert!(matches!(refused(|r| r.uki_size += 1), BuildError::Recipe(_)));
    assert!(matches!(refused(|r| r.kernel.size += 4096), BuildError::Recipe(_)));
    // Hidden by the padding of the section, found in the content.
    assert!(matches!(refused(|r| r.kernel.size += 1), BuildError::ContentSize { .. }));
    assert!(matches!(refused(|r| r.stub.size = u64::MAX), BuildError::Uki(_)));
    assert!(matches!(
        refused(|r| r.preinit = BlobRef { digest: r.stub.digest, size: 1 }),
        BuildError::Recipe(_)
    ));
    assert!(matches!(refused(|r| r.erofs_time = 1), BuildError::ContentDigest { .. }));
}

#[test]
fn a_newer_program_in_the_base_is_a_visible_change_of_the_digest_only() {
    let mut contents = MemoryContents::new();
    let mut one = recipe(&mut contents);
    let mut two = recipe(&mut contents);
    let program = file("/usr/bin/goblin", 0o755, noise(77, 5000), &mut contents);
    let twin = file("/usr/bin/goblin", 0o755, noise(78, 5000), &mut contents);
    one.base = Tree::new(vec![program]).unwrap();
    two.base = Tree::new(vec![twin]).unwrap();
    one.seal(&mut contents).unwrap();
    two.seal(&mut contents).unwrap();
    assert_eq!(one.uki_size, two.uki_size);
    assert_ne!(one.uki_digest, two.uki_digest);
}

#[test]
fn objdump_reads_the_sections() {
    let Some(mut objdump) = tool("objdump") else { return };
    let mut contents = MemoryContents::new();
    let mut recipe = recipe(&mut contents);
    recipe.seal(&mut contents).unwrap();
    let uki = tempfile::NamedTempFile::new().unwrap();
    recipe.build(&mut uki.as_file(), &mut contents).unwrap();
    let text = run(objdump.arg("-h").arg(uki.path()));
    for name in [".osrel", ".cmdline", ".uname", ".linux", ".initrd"] {
        assert!(text.contains(name), "{text}");
    }
}

proptest! {
    #[test]
    fn damaged_images_are_answered(
        room in 0usize..3,
        changes in proptest::collection::vec((0usize..1024, any::<u8>()), 1..6),
        cut in 0usize..2000
    ) {
        let mut pe = small_pe(room);
        for (at, byte) in changes {
            pe[at] = byte;
        }
        pe.truncate(pe.len().saturating_sub(if cut > 1500 { cut } else { 0 }));
        let _ = parse_sections(&mut Cursor::new(&pe));
        let _ = read_section(&mut Cursor::new(&pe), ".text", 1 << 20);
        if let Ok(plan) = UkiPlan::new(&pe, &[(".linux", 100)]) {
            let image = write(&plan, &[(".linux", &[1; 100])]).unwrap();
            prop_assert_eq!(image.len() as u64, plan.size());
        }
    }

    #[test]
    fn any_bytes_are_answered(bytes: Vec<u8>) {
        let _ = parse_sections(&mut Cursor::new(&bytes));
        let _ = UkiPlan::new(&bytes, &[(".linux", 1)]);
    }
}
