//! The signing keys of a repository: made on first use, two files that only their owner can read.
//!
//! `root.json` names all others and may be kept elsewhere once a repository was begun; `online.json`
//! signs releases.

use crate::host;
use crate::provision::write_secret;
use anyhow::{Context, Result, bail};
use goblin_core_manifest::publish::{RepositoryKeys, Seed};
use goblin_core_manifest::tuf::{Envelope, Key, Kind, Root};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::Path;

/// Keys that sign releases.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Online {
    targets: Vec<Seed>,
    snapshot: Vec<Seed>,
    timestamp: Vec<Seed>,
}

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
        make(folder, &root_path, &online_path)?;
    }
    let online: Online = read(&online_path)?;
    let root = if root_path.exists() { read(&root_path)? } else { Vec::new() };
    if root.is_empty() && !begun {
        bail!("beginning a repository needs {}", root_path.display());
    }
    let Online { targets, snapshot, timestamp } = online;
    let keys = Keys { repository: RepositoryKeys { root, targets, snapshot, timestamp } };
    if begun {
        keys.check(repository)?;
    }
    Ok(keys)
}

fn make(folder: &Path, root_path: &Path, online_path: &Path) -> Result<()> {
    host::say(format!("making signing keys in {}", folder.display()));
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .with_context(|| format!("cannot make the folder {}", folder.display()))?;
    let online =
        Online { targets: vec![seed()?], snapshot: vec![seed()?], timestamp: vec![seed()?] };
    // The root first: without the online file nothing counts as made.
    write_secret(root_path, &serde_json::to_string_pretty(&[seed()?])?)?;
    write_secret(online_path, &serde_json::to_string_pretty(&online)?)
}

fn seed() -> Result<Seed> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes)
        .map_err(|err| anyhow::anyhow!("the system gives no random bytes: {err}"))?;
    Ok(Seed(bytes))
}

fn read<T: DeserializeOwned>(path: &Path) -> Result<T> {
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

impl Keys {
    /// Compares with what the repository's root names: metadata signed by other keys would lock every
    /// board out.
    fn check(&self, repository: &Path) -> Result<()> {
        let path = repository.join("metadata/root.json");
        let file = Kind::Root.to_string();
        let root: Root = Envelope::parse(&file, &host::read(&path)?, Kind::Root.bytes_max())
            .and_then(|envelope| envelope.decode(&file))
            .with_context(|| format!("{} is damaged", path.display()))?;
        for kind in [Kind::Targets, Kind::Snapshot, Kind::Timestamp] {
            let named = &root.role(kind).context("the root lacks a role")?.keyids;
            let mut own = self.repository.of(kind).iter().map(|seed| Key::of_seed(&seed.0).id());
            if !own.any(|id| named.contains(&id)) {
                bail!(
                    "{} was begun with other keys than those given: name their folder with --keys, or \
                     another --out",
                    repository.display()
                );
            }
        }
        Ok(())
    }
}
