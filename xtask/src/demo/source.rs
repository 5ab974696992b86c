//! The user's folder: looked at before anything is started, and the measure of every reading.

use anyhow::{Context, Result, bail, ensure};
use goblin_core_types::escape_bytes;
use goblin_sys::listing::{self, Digests, Entry};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// A folder that can be copied.
#[derive(Debug)]
pub struct Source {
    /// Its absolute path.
    pub path: PathBuf,
    /// Bytes of its files.
    pub bytes: u64,
    files: u64,
    special: Vec<String>,
}

/// Looks at the folder without reading contents: names, sizes, and whether each file may be read.
///
/// # Errors
/// When it is no folder, cannot be read somewhere, or holds no file.
pub fn check(path: &Path) -> Result<Source> {
    let shown = path.display();
    let meta = std::fs::metadata(path)
        .with_context(|| format!("cannot use --input {shown}: name a folder that exists"))?;
    ensure!(
        meta.is_dir(),
        "--input {shown} is not a folder: name the folder that holds your files"
    );
    let mut source =
        Source { path: std::fs::canonicalize(path)?, bytes: 0, files: 0, special: Vec::new() };
    let root = source.path.clone();
    source.look(&root).with_context(|| {
        format!(
            "cannot read everything below {shown}: make it readable for this user, or name another"
        )
    })?;
    if source.files == 0 {
        bail!("--input {shown} holds no file: there is nothing to prove with it");
    }
    Ok(source)
}

impl Source {
    fn look(&mut self, dir: &Path) -> Result<()> {
        let shown = || escape_bytes(dir.as_os_str().as_bytes());
        for entry in std::fs::read_dir(dir).with_context(shown)? {
            let path = entry.with_context(shown)?.path();
            let meta = std::fs::symlink_metadata(&path)
                .with_context(|| escape_bytes(path.as_os_str().as_bytes()))?;
            if meta.is_dir() {
                self.look(&path)?;
            } else if meta.is_file() {
                std::fs::File::open(&path)
                    .with_context(|| escape_bytes(path.as_os_str().as_bytes()))?;
                self.files += 1;
                self.bytes += meta.len();
            } else if !meta.is_symlink() {
                self.special.push(escape_bytes(path.as_os_str().as_bytes()));
            }
        }
        Ok(())
    }

    /// One line for the user.
    pub fn summary(&self) -> String {
        let skipped = match self.special.as_slice() {
            [] => String::new(),
            list => format!("; {} sockets, pipes or devices are left out", list.len()),
        };
        format!("{}: {} files, {} bytes{skipped}", self.path.display(), self.files, self.bytes)
    }

    /// What every reading must show: all entries but the special ones.
    ///
    /// # Errors
    /// When the folder changed and can no longer be read.
    pub fn entries(&self) -> Result<Vec<Entry>> {
        let mut all = Vec::new();
        listing::walk::<std::io::Error>(&self.path, Digests::Compute, &mut |entry| {
            if entry.kind != "special" {
                all.push(entry);
            }
            Ok(())
        })?;
        Ok(all)
    }
}

/// Compares a reading with the folder: every name, kind, mode, time, size and byte.
///
/// # Errors
/// With the first difference.
pub fn compare(expected: &[Entry], seen: &[Entry]) -> Result<String> {
    for (want, got) in expected.iter().zip(seen) {
        ensure!(
            want.path == got.path,
            "`{}` is missing; `{}` was seen instead",
            want.path,
            got.path
        );
        ensure!(same(want, got), "`{}` differs: wanted {want:?}, seen {got:?}", want.path);
    }
    if let Some(extra) = seen.get(expected.len()) {
        bail!("`{}` was seen but is not in the folder", extra.path);
    }
    if let Some(lost) = expected.get(seen.len()) {
        bail!("`{}` is missing", lost.path);
    }
    let bytes: u64 = seen.iter().map(|entry| entry.size).sum();
    Ok(format!("{} entries, {bytes} bytes: all equal in content, mode and time", seen.len()))
}

/// Compares what a copy through a stock kernel can keep: a symbolic link has no mode of its own on
/// Linux, and v9fs sets times in whole seconds (its superblock leaves `s_time_gran` at one second).
fn same(want: &Entry, got: &Entry) -> bool {
    let second = |entry: &Entry| entry.mtime_ns.div_euclid(1_000_000_000);
    let mode = if want.kind == "symlink" { want.mode } else { got.mode };
    second(want) == second(got) && want == &Entry { mode, mtime_ns: want.mtime_ns, ..got.clone() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree() -> (tempfile::TempDir, Vec<Entry>) {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("a"), b"one").unwrap();
        std::fs::write(dir.path().join("b"), b"two").unwrap();
        let entries = check(dir.path()).unwrap().entries().unwrap();
        (dir, entries)
    }

    #[test]
    fn any_difference_is_a_lie() {
        let (_dir, entries) = tree();
        assert!(compare(&entries, &entries).is_ok());
        for change in [
            |entry: &mut Entry| entry.mode ^= 1,
            |entry: &mut Entry| entry.mtime_ns += 1_000_000_000,
            |entry: &mut Entry| entry.content.push('0'),
            |entry: &mut Entry| entry.path.push('0'),
        ] {
            let mut other = entries.clone();
            change(&mut other[1]);
            assert!(compare(&entries, &other).is_err());
        }
        assert!(compare(&entries, &entries[..1]).is_err());
        assert!(compare(&entries[..1], &entries).is_err());
    }

    #[test]
    fn an_empty_folder_proves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        assert!(check(dir.path()).unwrap_err().to_string().contains("holds no file"));
        assert!(check(Path::new("/nonexistent/folder")).is_err());
    }
}
