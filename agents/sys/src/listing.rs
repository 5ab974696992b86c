//! A tree as a list of facts: every path with its kind, mode, time and content, for comparing the same
//! files as seen by two machines.

use serde::{Deserialize, Serialize};
use std::ffi::OsStr;
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
    /// Path below the root, `/`-separated; bytes that are not printable UTF-8 and the backslash are
    /// written `\xHH`.
    pub path: String,
    /// `file`, `dir`, `symlink` or `special`.
    pub kind: String,
    /// Permission bits.
    pub mode: u32,
    /// Modification time, nanoseconds since 1970.
    pub mtime_ns: i128,
    /// Bytes of a file; 0 for everything else.
    pub size: u64,
    /// blake3 of a file's content, or the escaped target of a symbolic link.
    pub content: String,
}

/// Writes bytes so that any name survives a line of text.
pub fn escape(name: &OsStr) -> String {
    let mut out = String::with_capacity(name.len());
    for chunk in name.as_bytes().utf8_chunks() {
        for c in chunk.valid().chars() {
            if c == '\\' || c.is_control() {
                let mut buffer = [0u8; 4];
                for byte in c.encode_utf8(&mut buffer).bytes() {
                    out.push_str(&format!("\\x{byte:02x}"));
                }
            } else {
                out.push(c);
            }
        }
        for byte in chunk.invalid() {
            out.push_str(&format!("\\x{byte:02x}"));
        }
    }
    out
}

/// Walks everything below `root` in byte order of names, handing each entry to `each`. The root itself
/// is not listed. Symbolic links are not followed; special files are named but not opened.
///
/// # Errors
/// The first error of the file system, with the path, or of `each`.
pub fn walk(root: &Path, each: &mut dyn FnMut(Entry) -> io::Result<()>) -> io::Result<()> {
    descend(root, "", 0, each)
}

fn descend(
    dir: &Path,
    prefix: &str,
    depth: usize,
    each: &mut dyn FnMut(Entry) -> io::Result<()>,
) -> io::Result<()> {
    if depth > DEPTH_MAX {
        return Err(io::Error::other(format!("{}: deeper than {DEPTH_MAX}", dir.display())));
    }
    let named = |err: io::Error| io::Error::new(err.kind(), format!("{}: {err}", dir.display()));
    let mut names = std::fs::read_dir(dir)
        .map_err(named)?
        .map(|entry| entry.map(|entry| entry.file_name()))
        .collect::<io::Result<Vec<_>>>()
        .map_err(named)?;
    names.sort_by(|a, b| a.as_bytes().cmp(b.as_bytes()));
    for name in names {
        let path = dir.join(&name);
        let shown = format!("{prefix}{}", escape(&name));
        let named = |err: io::Error| io::Error::new(err.kind(), format!("{}: {err}", path.display()));
        let meta = std::fs::symlink_metadata(&path).map_err(named)?;
        each(entry(&path, shown.clone(), &meta).map_err(named)?)?;
        if meta.is_dir() {
            descend(&path, &format!("{shown}/"), depth.saturating_add(1), each)?;
        }
    }
    Ok(())
}

fn entry(path: &Path, shown: String, meta: &Metadata) -> io::Result<Entry> {
    let kind = meta.file_type();
    let (kind, size, content) = if kind.is_dir() {
        ("dir", 0, String::new())
    } else if kind.is_symlink() {
        ("symlink", 0, escape(std::fs::read_link(path)?.as_os_str()))
    } else if kind.is_file() {
        ("file", meta.len(), hash(path)?)
    } else {
        ("special", 0, String::new())
    };
    Ok(Entry {
        path: shown,
        kind: kind.into(),
        mode: meta.mode() & 0o7777,
        mtime_ns: i128::from(meta.mtime())
            .saturating_mul(1_000_000_000)
            .saturating_add(i128::from(meta.mtime_nsec())),
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

    #[test]
    fn names_that_are_not_text_are_escaped() {
        assert_eq!(escape(OsStr::from_bytes(b"a\xffb\\\n\xc3\xa9")), "a\\xffb\\x5c\\x0a\u{e9}");
    }

    #[test]
    fn two_equal_trees_have_equal_lists() {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir(root.path().join("d")).unwrap();
        std::fs::write(root.path().join("d/f"), b"x").unwrap();
        std::os::unix::fs::symlink("d/f", root.path().join("l")).unwrap();
        let list = |root: &Path| {
            let mut all = Vec::new();
            walk(root, &mut |entry| {
                all.push(entry);
                Ok(())
            })
            .unwrap();
            all
        };
        let all = list(root.path());
        assert_eq!(all.iter().map(|e| e.path.as_str()).collect::<Vec<_>>(), ["d", "d/f", "l"]);
        assert_eq!(all, list(root.path()));
    }
}
