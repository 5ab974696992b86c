//! No source file is longer than a person reads in one sitting.

use crate::host;
use anyhow::{Context, Result, bail};
use std::path::Path;

/// Most lines of a source file; split it by meaning before.
const LINES_MAX: usize = 800;
/// Folders that hold no source of ours.
const SKIPPED: &[&str] = &["target"];

pub(super) fn check() -> Result<()> {
    let mut long = Vec::new();
    walk(&host::root(), &mut long)?;
    if !long.is_empty() {
        bail!("longer than {LINES_MAX} lines, split them by meaning:\n    {}", long.join("\n    "));
    }
    Ok(())
}

fn walk(folder: &Path, long: &mut Vec<String>) -> Result<()> {
    let list = || format!("cannot list {}", folder.display());
    for entry in std::fs::read_dir(folder).with_context(list)? {
        let entry = entry.with_context(list)?;
        let (name, path) = (entry.file_name().to_string_lossy().into_owned(), entry.path());
        if name.starts_with('.') || SKIPPED.contains(&name.as_str()) {
            continue;
        }
        if entry.file_type().with_context(list)?.is_dir() {
            walk(&path, long)?;
        } else if name.ends_with(".rs") {
            let lines = host::read(&path)?.iter().filter(|&&byte| byte == b'\n').count();
            if lines > LINES_MAX {
                long.push(format!("{}: {lines}", path.display()));
            }
        }
    }
    Ok(())
}
