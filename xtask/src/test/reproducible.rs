//! Same input, same bytes: a release is built twice, in two folders, and every file is compared. Boards
//! rebuild releases by this promise, and anybody can check a published one by it.

use crate::check::Tally;
use crate::image::{self, ReleaseSpec};
use crate::{host, kernel};
use anyhow::{Context, Result, bail, ensure};
use goblin_core_types::Version;
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};

/// Bytes compared at once.
const CHUNK_BYTES: usize = 1 << 20;

/// Builds twice, compares, and counts the result. `kernel_may_be_built`: minutes may be spent on a kernel
/// that is not cached.
pub(super) fn note(tally: &mut Tally, kernel_may_be_built: bool) {
    let name = "images: the same input makes the same bytes";
    match kernel::cached() {
        Ok(None) if !kernel_may_be_built => {
            println!("skipped 1: {name}: no kernel is built yet, `cargo xtask kernel` does it");
        }
        Ok(_) => tally.note(name, check()),
        Err(err) => tally.note(name, Err(err)),
    }
}

/// # Errors
/// With the first file that differs, and where.
fn check() -> Result<()> {
    let folder =
        tempfile::tempdir_in(host::target("tmp")?).context("cannot write into target/tmp")?;
    let first = build(&folder.path().join("first"))?;
    // Another depth and name: neither may reach the bytes.
    let second = build(&folder.path().join("a/second"))?;
    for (one, other) in first.iter().zip(&second) {
        same(one, other)?;
    }
    Ok(())
}

fn build(folder: &Path) -> Result<[PathBuf; 3]> {
    std::fs::create_dir_all(folder)
        .with_context(|| format!("cannot make the folder {}", folder.display()))?;
    let version = Version::new(1, 0, 0);
    let uki = image::build_uki(&ReleaseSpec::new(version, "built twice"), folder)?;
    let disk = image::build_disk(&uki, version, folder)?;
    Ok([uki.path, disk.image, disk.map])
}

fn same(one: &Path, other: &Path) -> Result<()> {
    ensure!(one.file_name() == other.file_name(), "{} became another name", one.display());
    let open = |path: &Path| {
        File::open(path)
            .map(|file| BufReader::with_capacity(CHUNK_BYTES, file))
            .with_context(|| format!("cannot read {}", path.display()))
    };
    let (mut left, mut right) = (open(one)?, open(other)?);
    let (mut a, mut b) = (Vec::new(), Vec::new());
    let mut offset = 0u64;
    loop {
        for (reader, bytes) in [(&mut left, &mut a), (&mut right, &mut b)] {
            bytes.clear();
            reader.take(CHUNK_BYTES as u64).read_to_end(bytes)?;
        }
        if a != b {
            let at = a.iter().zip(&b).take_while(|(x, y)| x == y).count() as u64;
            bail!("{} differs from {} at byte {}", other.display(), one.display(), offset + at);
        }
        if a.is_empty() {
            return Ok(());
        }
        offset += a.len() as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_difference_is_found() {
        let dir = tempfile::tempdir().unwrap();
        for (name, bytes) in [("a/x", b"same".as_slice()), ("b/x", b"same"), ("c/x", b"some")] {
            let path = dir.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, bytes).unwrap();
        }
        let at = |name: &str| dir.path().join(name);
        assert!(same(&at("a/x"), &at("b/x")).is_ok());
        let err = same(&at("a/x"), &at("c/x")).unwrap_err().to_string();
        assert!(err.ends_with("at byte 1"), "{err}");
    }
}
