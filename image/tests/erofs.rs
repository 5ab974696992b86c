//! The erofs writer against `fsck.erofs`.
#![allow(clippy::disallowed_methods, reason = "tests use files and programs")]

mod common;

use common::{digest, rich_tree, run, tool};
use goblin_image::erofs::{Layout, Params};
use goblin_image::{BuildError, Contents, Guid, Kind, MemoryContents, Tree};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

fn params() -> Params {
    Params { uuid: Guid::derive(&[b"test"]), build_time: 1_700_000_000 }
}

fn build(tree: &Tree, contents: &mut MemoryContents) -> Vec<u8> {
    let layout = Layout::plan(tree, &params()).unwrap();
    let mut image = Vec::new();
    layout.write(&mut image, contents).unwrap();
    assert_eq!(image.len() as u64, layout.size());
    image
}

#[test]
fn the_same_tree_gives_the_same_bytes() {
    let mut contents = MemoryContents::new();
    let tree = rich_tree(&mut contents);
    assert!(build(&tree, &mut contents) == build(&tree, &mut contents));
}

#[test]
fn equal_contents_are_stored_once() {
    let mut contents = MemoryContents::new();
    let one = Tree::new(vec![common::file("/a", 0o644, common::noise(1, 1 << 20), &mut contents)])
        .unwrap();
    let again = common::file("/b", 0o600, common::noise(1, 1 << 20), &mut contents);
    let two = Tree::new(one.entries().iter().cloned().chain([again]).collect()).unwrap();
    assert_eq!(build(&one, &mut contents).len(), build(&two, &mut contents).len());
}

#[test]
fn fsck_extracts_what_went_in() {
    let Some(mut fsck) = tool("fsck.erofs") else { return };
    let mut contents = MemoryContents::new();
    let tree = rich_tree(&mut contents);
    let scratch = tempfile::tempdir().unwrap();
    let image = scratch.path().join("base.erofs");
    std::fs::write(&image, build(&tree, &mut contents)).unwrap();
    let out = scratch.path().join("out");
    run(fsck.arg(format!("--extract={}", out.display())).arg(&image));
    assert_eq!(count(&out), tree.entries().len());
    for entry in tree.entries() {
        let path = out.join(entry.path.trim_start_matches('/'));
        let meta = path.symlink_metadata().unwrap();
        match &entry.kind {
            Kind::Dir => assert!(meta.is_dir()),
            Kind::File { size, digest: wanted } => {
                let bytes = std::fs::read(&path).unwrap();
                assert_eq!(
                    (bytes.len() as u64, digest(&bytes)),
                    (*size, *wanted),
                    "{}",
                    entry.path
                );
            }
            Kind::Symlink { target } => {
                assert_eq!(std::fs::read_link(&path).unwrap(), Path::new(target))
            }
        }
        if !meta.is_symlink() {
            // Set-id bits get lost when fsck gives the file its owner after its mode.
            assert_eq!(
                meta.permissions().mode() & 0o1777,
                u32::from(entry.mode & 0o1777),
                "{}",
                entry.path
            );
            assert_eq!(meta.mtime(), 1_700_000_000, "{}", entry.path);
        }
        // Only root can give files away.
        if out.metadata().unwrap().uid() == 0 {
            assert_eq!((meta.uid(), meta.gid()), (entry.uid, entry.gid), "{}", entry.path);
        }
    }
}

fn count(dir: &Path) -> usize {
    let children = std::fs::read_dir(dir).unwrap().map(|child| {
        let child = child.unwrap();
        if child.file_type().unwrap().is_dir() { count(&child.path()) } else { 1 }
    });
    1 + children.sum::<usize>()
}

/// Gives every content with one change.
struct Lying(MemoryContents, fn(Vec<u8>) -> Vec<u8>);

impl Contents for Lying {
    fn open(
        &mut self,
        digest: &goblin_core_types::Digest,
        size: u64,
    ) -> io::Result<Box<dyn Read + '_>> {
        let mut bytes = Vec::new();
        self.0.open(digest, size)?.read_to_end(&mut bytes)?;
        Ok(Box::new(io::Cursor::new((self.1)(bytes))))
    }
}

#[test]
fn wrong_contents_are_found_while_copying() {
    let mut contents = MemoryContents::new();
    let tree = rich_tree(&mut contents);
    let layout = Layout::plan(&tree, &params()).unwrap();
    let write = |change| layout.write(&mut io::sink(), &mut Lying(contents.clone(), change));
    let longer = write(|mut bytes| {
        bytes.push(0);
        bytes
    });
    assert!(matches!(longer, Err(BuildError::ContentSize { .. })), "{longer:?}");
    let shorter = write(|mut bytes| {
        bytes.pop();
        bytes
    });
    assert!(matches!(shorter, Err(BuildError::ContentSize { .. })), "{shorter:?}");
    let flipped = write(|mut bytes| {
        bytes.iter_mut().take(1).for_each(|byte| *byte ^= 1);
        bytes
    });
    assert!(matches!(flipped, Err(BuildError::ContentDigest { .. })), "{flipped:?}");
    let absent = layout.write(&mut io::sink(), &mut MemoryContents::new());
    assert!(matches!(absent, Err(BuildError::Read { .. })), "{absent:?}");
}
