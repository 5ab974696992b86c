//! The base tree of a release as a value: the files of `rootfs/`, the boards' programs, Debian's tools
//! and what is generated, each by digest, all of root.

use crate::apt::Package;
use crate::compile::Binaries;
use crate::debian::Tools;
use crate::host;
use crate::modules;
use crate::units;
use anyhow::{Context, Result, bail};
use goblin_core_types::{Digest, STATE_OF_TWO_LINE, Version};
use goblin_image::{BlobRef, Contents, Entry, Kind, Tree};
use goblin_init_core::seccomp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// Most programs that a base may carry.
const EXECUTABLES_MAX: usize = 12;
/// Programs of goblinux in every base.
pub const PROGRAMS: [&str; 3] =
    ["/usr/bin/goblin", "/usr/bin/goblin-console", "/usr/lib/goblin/init"];
/// What a release says about itself, inside its base and to the loader.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct About {
    /// Version.
    pub version: Version,
    /// One line of what it brings.
    pub notes: String,
    /// Channel it is offered in.
    pub channel: String,
    /// The console's accent colour, `#rrggbb`; empty for its own.
    pub accent: String,
}

impl About {
    /// Text of `/etc/os-release`, also the UKI's `.osrel` by which the loader sorts.
    pub fn os_release(&self) -> String {
        let version = self.version;
        format!(
            "NAME=goblinux\nID=goblinux\nPRETTY_NAME=\"goblinux {version}\"\nVERSION_ID={version}\n\
             IMAGE_ID=goblinux\nIMAGE_VERSION={version}\n{STATE_OF_TWO_LINE}\n"
        )
    }
}

/// Where a content comes from.
#[derive(Debug, Clone)]
enum Origin {
    File(PathBuf),
    Bytes(Vec<u8>),
}

/// Contents on the host, by digest.
#[derive(Debug, Clone, Default)]
pub struct HostContents {
    origins: BTreeMap<Digest, Origin>,
}

impl HostContents {
    /// Adds a file of the host.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn add_file(&mut self, path: &Path) -> Result<BlobRef> {
        let read = || format!("cannot read {}", path.display());
        let file = std::fs::File::open(path).with_context(read)?;
        let mut hasher = blake3::Hasher::new();
        hasher.update_reader(&file).with_context(read)?;
        let digest = Digest(*hasher.finalize().as_bytes());
        self.origins.insert(digest, Origin::File(path.to_path_buf()));
        Ok(BlobRef { digest, size: hasher.count() })
    }

    /// Adds bytes made here.
    pub fn add_bytes(&mut self, bytes: Vec<u8>) -> BlobRef {
        let digest = Digest(*blake3::hash(&bytes).as_bytes());
        let size = bytes.len() as u64;
        self.origins.insert(digest, Origin::Bytes(bytes));
        BlobRef { digest, size }
    }
}

impl Contents for HostContents {
    fn open(&mut self, digest: &Digest, _size: u64) -> io::Result<Box<dyn Read + '_>> {
        match self.origins.get(digest) {
            Some(Origin::File(path)) => Ok(Box::new(std::fs::File::open(path)?)),
            Some(Origin::Bytes(bytes)) => Ok(Box::new(bytes.as_slice())),
            None => Err(io::Error::from(io::ErrorKind::NotFound)),
        }
    }
}

/// What plain files cannot say, `rootfs/modes.toml`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Modes {
    dir: BTreeMap<String, u16>,
    link: BTreeMap<String, String>,
    mode: BTreeMap<String, u16>,
}

/// A base tree being put together.
#[derive(Debug)]
struct Staging {
    entries: Vec<Entry>,
    contents: HostContents,
    modes: Modes,
}

impl Staging {
    fn push(&mut self, path: String, mode: u16, kind: Kind) {
        let mode = self.modes.mode.remove(&path).unwrap_or(mode);
        self.entries.push(Entry { path, mode, uid: 0, gid: 0, kind });
    }

    fn file(&mut self, path: impl Into<String>, mode: u16, source: &Path) -> Result<()> {
        let BlobRef { digest, size } = self.contents.add_file(source)?;
        self.push(path.into(), mode, Kind::File { size, digest });
        Ok(())
    }

    fn text(&mut self, path: &str, text: impl Into<Vec<u8>>) {
        let BlobRef { digest, size } = self.contents.add_bytes(text.into());
        self.push(path.to_owned(), 0o644, Kind::File { size, digest });
    }

    /// A folder of the host with everything below it. Editors' and hidden files stay behind.
    fn folder(&mut self, at: &str, source: &Path) -> Result<()> {
        let list = || format!("cannot list {}", source.display());
        let mut found = Vec::new();
        for entry in std::fs::read_dir(source).with_context(list)? {
            found.push(entry.with_context(list)?);
        }
        found.sort_by_key(std::fs::DirEntry::file_name);
        self.push(at.to_owned(), 0o755, Kind::Dir);
        for entry in found {
            let name = entry.file_name();
            let name = name.to_str().with_context(|| {
                format!("{} has a name that is not UTF-8: rename it", entry.path().display())
            })?;
            // Hidden files, editors' copies, and words for people who read the source.
            if name.starts_with('.') || name.ends_with('~') || name.ends_with(".md") {
                continue;
            }
            let (path, kind) = (format!("{at}/{name}"), entry.file_type().with_context(list)?);
            if kind.is_dir() {
                self.folder(&path, &entry.path())?;
            } else if kind.is_file() {
                self.file(path, 0o644, &entry.path())?;
            } else {
                bail!(
                    "{} is neither file nor folder: links go into rootfs/modes.toml",
                    entry.path().display()
                );
            }
        }
        Ok(())
    }
}

/// A complete base tree with its contents.
#[derive(Debug)]
pub struct Base {
    /// The tree.
    pub tree: Tree,
    /// Contents of its files; more may be added for the UKI's other parts.
    pub contents: HostContents,
    /// Programs in it.
    pub executables: usize,
}

/// A file that only a measured guest has in its base.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Addition {
    /// Absolute path in the base.
    pub path: String,
    /// Permission bits.
    pub mode: u16,
    /// Content.
    pub bytes: Vec<u8>,
}

impl Base {
    /// Puts files into the tree; one with the path of another takes its place.
    ///
    /// # Errors
    /// When a path has no folder in the base.
    pub fn add(&mut self, additions: &[Addition]) -> Result<()> {
        if additions.is_empty() {
            return Ok(());
        }
        let replaced = |entry: &&Entry| additions.iter().all(|added| added.path != entry.path);
        let mut entries: Vec<Entry> =
            self.tree.entries().iter().filter(replaced).cloned().collect();
        for Addition { path, mode, bytes } in additions {
            let BlobRef { digest, size } = self.contents.add_bytes(bytes.clone());
            let kind = Kind::File { size, digest };
            entries.push(Entry { path: path.clone(), mode: *mode, uid: 0, gid: 0, kind });
        }
        self.tree = Tree::new(entries).context("the base tree with its additions")?;
        Ok(())
    }
}

/// Puts a base tree together. `init` is the program that becomes PID 1, `modules` are files by their path.
///
/// # Errors
/// When a source file cannot be read or two of them claim the same path.
pub fn stage(
    about: &About,
    binaries: &Binaries,
    init: &Path,
    tools: &Tools,
    modules: &[(String, PathBuf)],
    packages: &[Package],
) -> Result<Base> {
    let shipped = host::root().join("rootfs");
    let modes_path = shipped.join("modes.toml");
    let modes = String::from_utf8_lossy(&host::read(&modes_path)?).into_owned();
    let modes: Modes = toml::from_str(&modes)
        .with_context(|| format!("{} is not as it should be", modes_path.display()))?;
    let mut staging = Staging { entries: Vec::new(), contents: HostContents::default(), modes };
    add_shipped(&mut staging, &shipped)?;
    staging.file("/usr/bin/goblin", 0o755, &binaries.goblin)?;
    staging.file("/usr/bin/goblin-console", 0o755, &binaries.console)?;
    staging.file("/usr/lib/goblin/init", 0o755, init)?;
    for (path, source) in &tools.files {
        // Libraries are mapped, not executed; only the dynamic linker and programs need the bit.
        let program = path.starts_with("/usr/bin/") || path.starts_with("/usr/lib64/");
        staging.file(path.as_str(), if program { 0o755 } else { 0o644 }, source)?;
    }
    for folder in modules::folders(modules) {
        staging.push(folder, 0o755, Kind::Dir);
    }
    for (path, source) in modules {
        staging.file(path.as_str(), 0o644, source)?;
    }
    add_filters(&mut staging, &shipped)?;
    staging.text("/etc/os-release", about.os_release());
    staging.text("/usr/lib/goblin/release.json", json(about)?);
    staging.text("/usr/lib/goblin/packages.json", json(&packages)?);
    if let Some(path) = staging.modes.mode.keys().next() {
        bail!("rootfs/modes.toml gives a mode to `{path}`, which the base does not have");
    }
    let tree = Tree::new(staging.entries).context("the base tree")?;
    let executables = tree
        .entries()
        .iter()
        .filter(|entry| matches!(entry.kind, Kind::File { .. }) && entry.mode & 0o111 != 0)
        .count();
    if executables > EXECUTABLES_MAX {
        bail!("the base has {executables} programs, at most {EXECUTABLES_MAX} are allowed");
    }
    Ok(Base { tree, contents: staging.contents, executables })
}

fn add_shipped(staging: &mut Staging, shipped: &Path) -> Result<()> {
    staging.folder("/etc", &shipped.join("etc"))?;
    staging.folder("/usr/lib/goblin/units", &shipped.join("units"))?;
    let modes = &mut staging.modes;
    let (dirs, links) = (std::mem::take(&mut modes.dir), std::mem::take(&mut modes.link));
    for (path, mode) in dirs {
        staging.push(path, mode, Kind::Dir);
    }
    for (path, target) in links {
        staging.push(path, 0o777, Kind::Symlink { target });
    }
    Ok(())
}

/// The units' lists of system calls, compiled; refuses units that no board could start.
fn add_filters(staging: &mut Staging, shipped: &Path) -> Result<()> {
    let programs: Vec<String> = staging
        .entries
        .iter()
        .filter(|entry| matches!(entry.kind, Kind::File { .. }) && entry.mode & 0o111 != 0)
        .map(|entry| entry.path.clone())
        .collect();
    let units = units::load(&shipped.join("units"), |path| programs.iter().any(|p| p == path))?;
    staging.push(seccomp::FOLDER.to_owned(), 0o755, Kind::Dir);
    for (path, bytes) in units::filters(&units) {
        staging.text(&path, bytes);
    }
    Ok(())
}

fn json(value: &impl Serialize) -> Result<Vec<u8>> {
    let mut bytes = serde_json::to_vec_pretty(value).context("cannot express a value as JSON")?;
    bytes.push(b'\n');
    Ok(bytes)
}
