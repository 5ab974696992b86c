//! Archives for guests that are not boards: client PCs and the peers of benchmarks.

use anyhow::{Context, Result};
use goblin_image::BuildError;
use goblin_image::cpio::Archive;
use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// An archive being collected in memory.
#[derive(Debug, Default)]
pub struct Initramfs {
    dirs: Vec<(String, u16)>,
    links: Vec<(String, String)>,
    files: Vec<(String, u16, Vec<u8>)>,
}

impl Initramfs {
    /// Adds an empty directory.
    pub fn dir(&mut self, name: &str) -> &mut Self {
        self.dirs.push((name.into(), 0o755));
        self
    }

    /// Adds a file.
    pub fn file(&mut self, name: &str, mode: u16, bytes: Vec<u8>) -> &mut Self {
        self.files.push((name.into(), mode, bytes));
        self
    }

    /// Adds a symbolic link.
    pub fn link(&mut self, name: &str, target: &str) -> &mut Self {
        self.links.push((name.into(), target.into()));
        self
    }

    /// Adds everything below a folder of the host, except names that are not text and special files,
    /// and what `keep` refuses.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub fn folder(&mut self, root: &Path, keep: &dyn Fn(&str) -> bool) -> Result<&mut Self> {
        self.below(root, "", keep)?;
        Ok(self)
    }

    fn below(&mut self, dir: &Path, prefix: &str, keep: &dyn Fn(&str) -> bool) -> Result<()> {
        let shown = || format!("cannot read {}", dir.display());
        for entry in std::fs::read_dir(dir).with_context(shown)? {
            let entry = entry.with_context(shown)?;
            let Some(name) = entry.file_name().to_str().map(|name| format!("{prefix}{name}"))
            else {
                continue;
            };
            if !keep(&name) {
                continue;
            }
            let path = entry.path();
            let meta = std::fs::symlink_metadata(&path).with_context(shown)?;
            let mode = u16::try_from(meta.permissions().mode() & 0o7777)?;
            if meta.is_dir() {
                self.dirs.push((name.clone(), mode));
                self.below(&path, &format!("{name}/"), keep)?;
            } else if meta.is_symlink() {
                let target = std::fs::read_link(&path).with_context(shown)?;
                self.link(&name, &target.to_string_lossy());
            } else if meta.is_file() {
                let bytes = std::fs::read(&path).with_context(shown)?;
                self.file(&name, mode, bytes);
            }
        }
        Ok(())
    }

    /// The directories that files and links lie in, where nobody added them.
    fn add_parents(&mut self) {
        let known: BTreeSet<String> = self.dirs.iter().map(|(name, _)| name.clone()).collect();
        let names = self.dirs.iter().map(|(name, _)| name);
        let names = names.chain(self.links.iter().map(|(name, _)| name));
        let names = names.chain(self.files.iter().map(|(name, ..)| name));
        let parents: BTreeSet<String> = names
            .flat_map(|name| name.match_indices('/').map(|(at, _)| name[..at].to_owned()))
            .filter(|parent| !known.contains(parent))
            .collect();
        self.dirs.extend(parents.into_iter().map(|parent| (parent, 0o755)));
    }

    /// The archive's bytes; directories that something lies in need not have been added.
    ///
    /// # Errors
    /// When a name cannot be expressed.
    pub fn pack(&mut self) -> Result<Vec<u8>> {
        self.add_parents();
        self.dirs.sort();
        self.files.sort_by(|a, b| a.0.cmp(&b.0));
        self.links.sort();
        let mut out = Vec::new();
        let mut archive = Archive::new(&mut out);
        for (name, mode) in &self.dirs {
            archive.dir(name, *mode)?;
        }
        for (name, target) in &self.links {
            archive.symlink(name, target)?;
        }
        for (name, mode, bytes) in &self.files {
            archive.file(name, *mode, bytes.len() as u64, |out| {
                out.write_all(bytes).map_err(BuildError::Write)
            })?;
        }
        archive.finish()?;
        Ok(out)
    }
}
