//! From which source a UKI was built: so that `run` can say that its box is older than the checkout.

use crate::host;
use anyhow::{Context, Result};
use goblin_core_types::Digest;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// What goes into a board's programs and base.
const PARTS: &[&str] = &[
    "Cargo.lock",
    "Cargo.toml",
    "agents",
    "board",
    "image",
    "init",
    "rootfs",
    "rust-toolchain.toml",
];
/// UKIs that are remembered; all are forgotten when there are more.
const KNOWN_MAX: usize = 256;

/// Digest over names and contents of the boards' source.
///
/// # Errors
/// When it cannot be read.
pub fn digest() -> Result<Digest> {
    let mut files = Vec::new();
    for part in PARTS {
        collect(&host::root().join(part), &mut files)?;
    }
    files.sort();
    let mut hasher = blake3::Hasher::new();
    for path in files {
        hasher.update(blake3::hash(path.as_os_str().as_encoded_bytes()).as_bytes());
        hasher.update(blake3::hash(&host::read(&path)?).as_bytes());
    }
    Ok(Digest(*hasher.finalize().as_bytes()))
}

fn collect(path: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    let hidden = |name: &std::ffi::OsStr| name.to_string_lossy().starts_with('.');
    if path.file_name().is_some_and(hidden) {
        return Ok(());
    }
    if !path.is_dir() {
        files.push(path.to_path_buf());
        return Ok(());
    }
    let list = || format!("cannot list {}", path.display());
    for entry in std::fs::read_dir(path).with_context(list)? {
        collect(&entry.with_context(list)?.path(), files)?;
    }
    Ok(())
}

/// Source by UKI.
type Known = BTreeMap<String, String>;

fn known(path: &Path) -> Known {
    let text = std::fs::read(path).unwrap_or_default();
    serde_json::from_slice(&text).unwrap_or_default()
}

fn file() -> Result<PathBuf> {
    Ok(host::target("images")?.join("sources.json"))
}

/// Remembers what a UKI was built from.
///
/// # Errors
/// When target/images cannot be written.
pub fn remember(uki: &Digest, source: &Digest) -> Result<()> {
    let path = file()?;
    let mut all = known(&path);
    if all.len() >= KNOWN_MAX {
        all.clear();
    }
    all.insert(uki.to_string(), source.to_string());
    host::write_whole(&path, &serde_json::to_vec_pretty(&all)?)
}

/// Whether a UKI was built from the source as it is now; `None` when nobody remembers.
pub fn built_from_present(uki: &Digest) -> Option<bool> {
    let known = known(&file().ok()?);
    Some(*known.get(&uki.to_string())? == digest().ok()?.to_string())
}
