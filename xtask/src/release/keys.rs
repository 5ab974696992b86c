//! The signing keys of a repository: made on first use, files that only their owner can read.
//!
//! `root.json` names all others and may be kept elsewhere once a repository was begun; `targets.json` signs
//! releases; `online.json` says what is newest, and is all that `release renew` needs. Keys that a root to
//! come will name lie beside them as `next-*.json`.

use crate::host;
use crate::provision::write_secret;
use anyhow::{Context, Result, bail};
use goblin_core_manifest::keys::Key;
use goblin_core_manifest::publish::{RepositoryKeys, Seed};
use goblin_core_manifest::roots::{Signers, Voices};
use goblin_core_manifest::tuf::{Kind, Root};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// What says what is newest. Folders of older releases hold the keys of releases in it too.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Newest {
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    targets: Vec<Seed>,
    snapshot: Vec<Seed>,
    timestamp: Vec<Seed>,
}

/// All keys but those of the root. Without `targets` what is published can be renewed, and nothing added.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Online {
    targets: Vec<Seed>,
    snapshot: Vec<Seed>,
    timestamp: Vec<Seed>,
}

impl Online {
    fn made() -> Result<Self> {
        Ok(Self { targets: vec![seed()?], snapshot: vec![seed()?], timestamp: vec![seed()?] })
    }

    /// The public halves, each of which must sign, beside these root keys.
    pub(super) fn signers(&self, root: Voices) -> Signers {
        let voices =
            |seeds: &[Seed]| Voices::all(seeds.iter().map(|seed| Key::of_seed(&seed.0)).collect());
        Signers {
            root,
            targets: voices(&self.targets),
            snapshot: voices(&self.snapshot),
            timestamp: voices(&self.timestamp),
        }
    }

    /// These keys and those of another set, each once.
    pub(super) fn with(&self, other: &Self) -> RepositoryKeys {
        let both = |a: &[Seed], b: &[Seed]| {
            let more = b.iter().filter(|seed| !a.contains(seed)).cloned();
            a.iter().cloned().chain(more).collect()
        };
        RepositoryKeys {
            root: Vec::new(),
            targets: both(&self.targets, &other.targets),
            snapshot: both(&self.snapshot, &other.snapshot),
            timestamp: both(&self.timestamp, &other.timestamp),
        }
    }

    /// True when `root` names a key of each role that is there.
    fn is_named_by(&self, root: &Root) -> Result<bool> {
        for (kind, seeds) in [
            (Kind::Targets, &self.targets),
            (Kind::Snapshot, &self.snapshot),
            (Kind::Timestamp, &self.timestamp),
        ] {
            let named = &root.role(kind).context("the root lacks a role")?.keyids;
            let mut own = seeds.iter().map(|seed| Key::of_seed(&seed.0).id());
            let is_absent = kind == Kind::Targets && seeds.is_empty();
            if !is_absent && !own.any(|id| named.contains(&id)) {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

fn paths(folder: &Path, which: &str) -> (PathBuf, PathBuf) {
    (folder.join(format!("{which}targets.json")), folder.join(format!("{which}online.json")))
}

fn read_set(folder: &Path, which: &str) -> Result<Online> {
    let (targets_path, online_path) = paths(folder, which);
    let Newest { mut targets, snapshot, timestamp } = read(&online_path)?;
    if targets_path.exists() {
        targets = read(&targets_path)?;
    }
    Ok(Online { targets, snapshot, timestamp })
}

fn write_set(folder: &Path, which: &str, online: &Online) -> Result<()> {
    let (targets_path, online_path) = paths(folder, which);
    let Online { targets, snapshot, timestamp } = online.clone();
    let newest = Newest { targets: Vec::new(), snapshot, timestamp };
    // The online file last: without it nothing counts as made.
    write_secret(&targets_path, &serde_json::to_string_pretty(&targets)?)?;
    write_secret(&online_path, &serde_json::to_string_pretty(&newest)?)
}

fn make_folder(folder: &Path) -> Result<()> {
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .with_context(|| format!("cannot make the folder {}", folder.display()))
}

/// The keys in use.
pub(super) fn read_online(folder: &Path) -> Result<Online> {
    read_set(folder, "")
}

/// The keys in use, made where there are none.
pub(super) fn open_online(folder: &Path) -> Result<Online> {
    if !paths(folder, "").1.exists() {
        host::say(format!("making signing keys in {}", folder.display()));
        make_folder(folder)?;
        write_set(folder, "", &Online::made()?)?;
    }
    read_online(folder)
}

/// Makes the keys that the next root will name; those of an earlier draft are kept.
pub(super) fn make_next(folder: &Path) -> Result<Online> {
    if !paths(folder, NEXT).1.exists() {
        write_set(folder, NEXT, &Online::made()?)?;
    }
    read_set(folder, NEXT)
}

/// The set of keys, in use or to come, that a root names.
pub(super) fn naming(folder: &Path, root: &Root) -> Result<Online> {
    let now = read_online(folder)?;
    if now.is_named_by(root)? {
        return Ok(now);
    }
    if paths(folder, NEXT).1.exists() {
        let next = read_set(folder, NEXT)?;
        if next.is_named_by(root)? {
            return Ok(next);
        }
    }
    bail!("root {} names other online keys than those in {}", root.version, folder.display())
}

/// Takes the keys to come into use, if they are those that a published root names.
pub(super) fn settle_next(folder: &Path, root: &Root) -> Result<()> {
    let (next, now) = (paths(folder, NEXT), paths(folder, ""));
    if !next.1.exists() || !read_set(folder, NEXT)?.is_named_by(root)? {
        return Ok(());
    }
    // The online file last: until then a repetition does it again.
    for (from, to) in [(next.0, now.0), (next.1, now.1)] {
        if from.exists() {
            std::fs::rename(&from, &to)
                .with_context(|| format!("cannot put {} into use", from.display()))?;
        }
    }
    Ok(())
}

/// In front of the names of keys to come.
const NEXT: &str = "next-";

/// The keys at hand; those of the root may be absent.
#[derive(Debug)]
pub(super) struct Keys {
    /// By role.
    pub(super) repository: RepositoryKeys,
}

/// Opens the keys, or makes them for a repository that has no root yet.
pub(super) fn open(folder: &Path, repository: &Path) -> Result<Keys> {
    let (root_path, online_path) = (folder.join("root.json"), folder.join("online.json"));
    let begun = repository.join("metadata/root.json").exists();
    if !online_path.exists() {
        if !begun && root_path.exists() {
            bail!(
                "{} is there but {} is not: making the keys was interrupted, or the second file was lost. \
                 Restore it from your copy; if nothing was ever published with these keys, remove the first \
                 and try again",
                root_path.display(),
                online_path.display()
            );
        }
        if begun {
            bail!(
                "the keys of {} are not in {}: name their folder with --keys",
                repository.display(),
                folder.display()
            );
        }
        make(folder, &root_path)?;
    }
    if begun {
        // A rotation that was cut off after its root was published.
        settle_next(folder, &super::root::newest(repository)?)?;
    }
    let online = read_online(folder)?;
    let root = if root_path.exists() { read(&root_path)? } else { Vec::new() };
    if root.is_empty() && !begun {
        bail!("beginning a repository needs {}", root_path.display());
    }
    if begun && !online.is_named_by(&super::root::newest(repository)?)? {
        bail!(
            "{} was begun with other keys than those given: name their folder with --keys, or \
             another --out",
            repository.display()
        );
    }
    let Online { targets, snapshot, timestamp } = online;
    Ok(Keys { repository: RepositoryKeys { root, targets, snapshot, timestamp } })
}

fn make(folder: &Path, root_path: &Path) -> Result<()> {
    host::say(format!("making signing keys in {}", folder.display()));
    make_folder(folder)?;
    // The root first: without the online file nothing counts as made.
    write_secret(root_path, &serde_json::to_string_pretty(&[seed()?])?)?;
    write_set(folder, "", &Online::made()?)
}

/// A new private key.
pub(super) fn seed() -> Result<Seed> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes)
        .map_err(|err| anyhow::anyhow!("the system gives no random bytes: {err}"))?;
    Ok(Seed(bytes))
}

/// Reads a file that only its owner may read.
pub(super) fn read<T: DeserializeOwned>(path: &Path) -> Result<T> {
    let mode = std::fs::metadata(path)
        .with_context(|| format!("cannot read {}", path.display()))?
        .permissions()
        .mode();
    if mode & 0o077 != 0 {
        bail!("others can read {0}: run `chmod 600 {0}`", path.display());
    }
    serde_json::from_slice(&host::read(path)?)
        .with_context(|| format!("{} is damaged; restore it from your copy", path.display()))
}
