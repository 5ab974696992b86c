//! A tree as a list of facts: every path with its kind, mode, time and content, for comparing the same
//! files as seen by two machines.

use goblin_core_types::escape_bytes;
use serde::{Deserialize, Serialize};
use std::ffi::OsString;
use std::fs::{File, Metadata};
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Bytes read at once while hashing.
const CHUNK_BYTES: usize = 1 << 18;
/// Deepest directory entered; deeper ones are an error rather than a stack overflow.
const DEPTH_MAX: usize = 512;

/// One entry of a tree.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Entry {
    /// Path below the root, `/`-separated, escaped as [`escape_bytes`] does.
    pub path: String,
    /// `file`, `dir`, `symlink` or `special`.
    pub kind: String,
    /// Permission bits.
    pub mode: u32,
    /// Modification time, nanoseconds since 1970; years before 1678 and after 2261 are cut to the limit.
    pub mtime_ns: i64,
    /// Bytes of a file; 0 for everything else.
    pub size: u64,
    /// blake3 of a file's content, or the escaped target of a symbolic link.
    pub content: String,
}

/// Whether contents are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Digests {
    /// Read every file and give its blake3.
    Compute,
    /// Look at names and attributes only; `content` of files is empty.
    Skip,
}

/// What could not be read.
#[derive(Debug, thiserror::Error)]
#[error("{path}: {source}")]
pub struct WalkError {
    /// Path below the root, escaped; the root itself is empty.
    pub path: String,
    /// The kernel's word.
    pub source: io::Error,
}

impl From<WalkError> for io::Error {
    fn from(err: WalkError) -> Self {
        Self::new(err.source.kind(), err.to_string())
    }
}

/// Walks everything below `root` in byte order of names, handing each entry to `each`. The root itself
/// is not listed. Symbolic links are not followed; special files are named but not opened.
///
/// # Errors
/// The first [`WalkError`] of the file system, or the first error of `each`.
pub fn walk<E: From<WalkError>>(
    root: &Path,
    digests: Digests,
    each: &mut dyn FnMut(Entry) -> Result<(), E>,
) -> Result<(), E> {
    descend(root, "", digests, 0, each)
}

fn descend<E: From<WalkError>>(
    dir: &Path,
    prefix: &str,
    digests: Digests,
    depth: usize,
    each: &mut dyn FnMut(Entry) -> Result<(), E>,
) -> Result<(), E> {
    let here = |source| WalkError { path: prefix.trim_end_matches('/').to_owned(), source };
    if depth > DEPTH_MAX {
        return Err(here(io::Error::other(format!("deeper than {DEPTH_MAX} folders"))).into());
    }
    for name in names(dir).map_err(here)? {
        let path = dir.join(&name);
        let shown = format!("{prefix}{}", escape_bytes(name.as_bytes()));
        let found = std::fs::symlink_metadata(&path)
            .and_then(|meta| entry(&path, shown.clone(), &meta, digests))
            .map_err(|source| WalkError { path: shown.clone(), source })?;
        let is_dir = found.kind == "dir";
        each(found)?;
        if is_dir {
            descend(&path, &format!("{shown}/"), digests, depth.saturating_add(1), each)?;
        }
    }
    Ok(())
}

fn names(dir: &Path) -> io::Result<Vec<OsString>> {
    let mut names = std::fs::read_dir(dir)?
        .map(|entry| entry.map(|entry| entry.file_name()))
        .collect::<io::Result<Vec<_>>>()?;
    names.sort_unstable();
    Ok(names)
}

fn entry(path: &Path, shown: String, meta: &Metadata, digests: Digests) -> io::Result<Entry> {
    let kind = meta.file_type();
    let (kind, size, content) = if kind.is_dir() {
        ("dir", 0, String::new())
    } else if kind.is_symlink() {
        ("symlink", 0, escape_bytes(std::fs::read_link(path)?.as_os_str().as_bytes()))
    } else if kind.is_file() {
        let digest = if digests == Digests::Compute { hash(path)? } else { String::new() };
        ("file", meta.len(), digest)
    } else {
        ("special", 0, String::new())
    };
    Ok(Entry {
        path: shown,
        kind: kind.into(),
        mode: meta.mode() & 0o7777,
        mtime_ns: meta.mtime().saturating_mul(1_000_000_000).saturating_add(meta.mtime_nsec()),
        size,
        content,
    })
}

fn hash(path: &Path) -> io::Result<String> {
    let mut file = File::open(path)?;
    let mut hasher = blake3::Hasher::new();
    let mut chunk = vec![0u8; CHUNK_BYTES];
    loop {
        let count = file.read(&mut chunk)?;
        if count == 0 {
            return Ok(hasher.finalize().to_hex().to_string());
        }
        hasher.update(chunk.get(..count).unwrap_or_default());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::OsStr;

    #[test]
    fn a_tree_lists_every_entry_in_order_with_its_digest() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        std::fs::create_dir_all(root.join("b/c")).unwrap();
        std::fs::write(root.join("b/c/file"), b"abc").unwrap();
        std::fs::write(root.join("b.txt"), b"").unwrap();
        std::fs::write(root.join(OsStr::from_bytes(b"a\xff")), b"abc").unwrap();
        std::os::unix::fs::symlink("b.txt", root.join("z")).unwrap();
        let mut seen = Vec::new();
        walk::<io::Error>(root, Digests::Compute, &mut |entry| {
            if entry.size == 3 {
                assert_eq!(entry.content, *blake3::hash(b"abc").to_hex());
            }
            seen.push((entry.path, entry.kind, entry.size));
            Ok(())
        })
        .unwrap();
        let expected = [
            ("a\\xff", "file", 3),
            ("b", "dir", 0),
            ("b/c", "dir", 0),
            ("b/c/file", "file", 3),
            ("b.txt", "file", 0),
            ("z", "symlink", 0),
        ];
        assert_eq!(seen, expected.map(|(path, kind, size)| (path.into(), kind.into(), size)));
    }
}
