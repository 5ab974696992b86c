//! `goblin shares`: what is served or mounted, and a listing of a whole share that can be compared.

use crate::cli::Shares;
use crate::control;
use crate::error::CliError;
use crate::output::Output;
use crate::render::words;
use goblin_core_types::{escape_bytes, paths};
use serde::Serialize;
use std::ffi::OsString;
use std::fs::{File, Metadata};
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Bytes read at once: what one 9P message carries.
const BLOCK_BYTES: usize = 512 * 1024;
/// Deepest folder listed; deeper ones are an error, for a loop is likelier.
const DEPTH_MAX: usize = 256;

/// One file, folder or link of a share.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Entry {
    /// Path below the share, escaped as [`escape_bytes`] does.
    path: String,
    /// `file`, `dir`, `link` or `other`.
    kind: &'static str,
    /// Permission bits, as a number.
    mode: u32,
    /// Nanoseconds since 1970 of the last change of the content.
    mtime_ns: i128,
    /// Bytes; 0 for what is not a file.
    size: u64,
    /// Digest of a file's content.
    #[serde(skip_serializing_if = "Option::is_none")]
    blake3: Option<String>,
    /// What a link points to, escaped like `path`.
    #[serde(skip_serializing_if = "Option::is_none")]
    target: Option<String>,
}

/// Runs `goblin shares ...`.
pub fn run(what: Shares, output: &mut Output) -> Result<(), CliError> {
    match what {
        Shares::Ls => list(output),
        Shares::Tree { name, no_digest } => {
            if name.is_empty() || name.contains('/') || name.starts_with('.') {
                return Err(CliError::Refused {
                    kind: "not-found".into(),
                    message:
                        "a share's name has no slash and no leading dot; see `goblin shares ls`"
                            .into(),
                });
            }
            let root = Path::new(paths::SHARES).join(&name);
            let mounted = goblin_sys::mount::mount_at(&root).ok().flatten().is_some();
            if !mounted {
                return Err(CliError::Refused {
                    kind: "not-mounted".into(),
                    message: format!(
                        "share {name} is not mounted on this board; see `goblin status`"
                    ),
                });
            }
            tree(&root, !no_digest, output)
        }
    }
}

fn list(output: &mut Output) -> Result<(), CliError> {
    let status = control::status(control::local_board())?;
    if output.json {
        let value = serde_json::json!({"served": status.shares, "mounted": status.mounts});
        return output.json_value(&value);
    }
    for share in &status.shares {
        let state =
            share.problem.as_deref().unwrap_or(if share.served { "served" } else { "not served" });
        output.line(&format!("{:<20} {}", share.name, words::plain(state)))?;
    }
    for mount in &status.mounts {
        let state = mount.problem.as_deref().unwrap_or(if mount.mounted {
            &mount.path
        } else {
            "not mounted"
        });
        output.line(&format!("{:<20} {}", mount.name, words::plain(state)))?;
    }
    Ok(())
}

/// Prints every entry below `root`, sorted by path, each as soon as it is known.
fn tree(root: &Path, digest: bool, output: &mut Output) -> Result<(), CliError> {
    walk(root, digest, |entry| {
        if output.json {
            return output.json_line(entry);
        }
        let note = match (&entry.blake3, &entry.target) {
            (Some(digest), _) => digest.get(..16).unwrap_or(digest).to_owned(),
            (None, Some(target)) => format!("-> {}", words::plain(target)),
            (None, None) => String::new(),
        };
        let text = format!(
            "{:<5} {:04o} {:>12}  {:<16}  {}",
            entry.kind,
            entry.mode,
            entry.size,
            note,
            words::plain(&entry.path)
        );
        output.line(&text)
    })
}

fn walk(
    root: &Path,
    digest: bool,
    mut each: impl FnMut(&Entry) -> Result<(), CliError>,
) -> Result<(), CliError> {
    // Names of one folder each, in reverse order: the last is next.
    let mut folders: Vec<(PathBuf, Vec<OsString>)> =
        vec![(PathBuf::new(), names(root, Path::new(""))?)];
    let mut buffer = vec![0u8; BLOCK_BYTES];
    while let Some((folder, left)) = folders.last_mut() {
        let Some(name) = left.pop() else {
            folders.pop();
            continue;
        };
        let path = folder.join(name);
        let full = root.join(&path);
        let meta = std::fs::symlink_metadata(&full).map_err(|source| at(&path, source))?;
        let entry = entry(&full, &path, &meta, digest, &mut buffer)?;
        each(&entry)?;
        if meta.is_dir() {
            if folders.len() >= DEPTH_MAX {
                return Err(at(&path, io::Error::other("folders are nested too deep")));
            }
            let inside = names(root, &path)?;
            folders.push((path, inside));
        }
    }
    Ok(())
}

fn names(root: &Path, folder: &Path) -> Result<Vec<OsString>, CliError> {
    let read = || -> io::Result<Vec<OsString>> {
        std::fs::read_dir(root.join(folder))?
            .map(|entry| entry.map(|found| found.file_name()))
            .collect()
    };
    let mut names = read().map_err(|source| at(folder, source))?;
    names.sort_unstable_by(|a, b| b.cmp(a));
    Ok(names)
}

fn entry(
    full: &Path,
    path: &Path,
    meta: &Metadata,
    digest: bool,
    buffer: &mut [u8],
) -> Result<Entry, CliError> {
    let kind = match meta.file_type() {
        found if found.is_file() => "file",
        found if found.is_dir() => "dir",
        found if found.is_symlink() => "link",
        _ => "other",
    };
    let blake3 = (kind == "file" && digest).then(|| hash(full, buffer)).transpose();
    let target = (kind == "link").then(|| std::fs::read_link(full)).transpose();
    let target = target.map_err(|source| at(path, source))?;
    Ok(Entry {
        path: escape_bytes(path.as_os_str().as_bytes()),
        kind,
        mode: meta.mode() & 0o7777,
        mtime_ns: nanoseconds(meta.mtime(), meta.mtime_nsec()),
        size: if kind == "file" { meta.len() } else { 0 },
        blake3: blake3.map_err(|source| at(path, source))?,
        target: target.map(|target| escape_bytes(target.as_os_str().as_bytes())),
    })
}

/// Cannot overflow: 64 bits of seconds, 30 bits of factor.
fn nanoseconds(seconds: i64, rest: i64) -> i128 {
    i128::from(seconds).saturating_mul(1_000_000_000).saturating_add(i128::from(rest))
}

fn hash(path: &Path, buffer: &mut [u8]) -> io::Result<String> {
    let mut file = File::open(path)?;
    let mut hasher = blake3::Hasher::new();
    loop {
        match file.read(buffer) {
            Ok(0) => return Ok(hasher.finalize().to_hex().to_string()),
            Ok(count) => {
                hasher.update(buffer.get(..count).unwrap_or_default());
            }
            Err(err) if err.kind() == io::ErrorKind::Interrupted => {}
            Err(err) => return Err(err),
        }
    }
}

fn at(path: &Path, source: io::Error) -> CliError {
    CliError::File { path: escape_bytes(path.as_os_str().as_bytes()), source }
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
        walk(root, true, |entry| {
            seen.push((entry.path.clone(), entry.kind, entry.size));
            assert_eq!(entry.blake3.is_some(), entry.kind == "file");
            if entry.size == 3 {
                assert_eq!(entry.blake3.as_deref(), Some(&*blake3::hash(b"abc").to_hex()));
            }
            Ok(())
        })
        .unwrap();
        let expected = [
            ("a\\xff", "file", 3),
            ("b", "dir", 0),
            ("b/c", "dir", 0),
            ("b/c/file", "file", 3),
            ("b.txt", "file", 0),
            ("z", "link", 0),
        ];
        assert_eq!(seen, expected.map(|(path, kind, size)| (path.to_owned(), kind, size)));
    }
}
