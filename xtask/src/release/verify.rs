//! A repository as a board reads it: metadata by the first root, manifests by the metadata, contents by
//! the manifests; and every UKI rebuilt from contents alone.

use super::{FIRST_ROOT, now};
use crate::host;
use anyhow::{Context, Result, bail};
use goblin_core_manifest::client::{Client, TrustedState};
use goblin_core_manifest::offer;
use goblin_core_manifest::release::{Manifest, blob_path};
use goblin_core_manifest::tuf::Targets;
use goblin_core_types::Digest;
use goblin_image::{Contents, UkiRecipe};
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// Contents from a repository's blobs.
struct Blobs(PathBuf);

impl Contents for Blobs {
    fn open(&mut self, digest: &Digest, _size: u64) -> io::Result<Box<dyn Read + '_>> {
        Ok(Box::new(File::open(self.0.join(blob_path(digest)))?))
    }
}

/// Runs `cargo xtask release verify`.
pub(super) fn command(folder: &Path) -> Result<()> {
    let targets = metadata(folder)?;
    let releases = offer::releases(&targets);
    for (path, target) in &targets.targets {
        let bytes = host::read(&folder.join(path))?;
        target.check(path, &bytes).with_context(|| format!("{path} is not what was signed"))?;
    }
    for release in &releases {
        let bytes = host::read(&folder.join(&release.path))?;
        let manifest: Manifest<UkiRecipe> = Manifest::parse(&bytes)
            .with_context(|| format!("{} would be refused by boards", release.path))?;
        let version = manifest.version;
        let recipe = &manifest.uki;
        if version != release.custom.version || release.custom.uki != Some(recipe.uki_digest) {
            bail!("{} is not the release that the metadata names", release.path);
        }
        recipe
            .build(&mut io::sink(), &mut Blobs(folder.to_path_buf()))
            .with_context(|| format!("release {version} cannot be rebuilt from its contents"))?;
        println!(
            "release {version}  channel {}  {} contents, rebuilt bit for bit",
            manifest.channel,
            recipe.blobs().len()
        );
    }
    println!("{}: {} releases, all as signed", folder.display(), releases.len());
    Ok(())
}

fn metadata(folder: &Path) -> Result<Targets> {
    let read = |name: &str| host::read(&folder.join("metadata").join(name));
    let first = host::read(&folder.join(FIRST_ROOT))
        .with_context(|| format!("{} is no repository of releases", folder.display()))?;
    let state = TrustedState::from_root(&first).context("the first root is damaged")?;
    let mut client = Client::new(state, now()).context("the first root")?;
    while let Some(wanted) = client.wanted_root() {
        let path = folder.join(&wanted.path);
        if !path.exists() {
            break;
        }
        client.apply_root(&host::read(&path)?).with_context(|| wanted.path.clone())?;
    }
    client.apply_timestamp(&read("timestamp.json")?).context("timestamp.json")?;
    client.apply_snapshot(&read("snapshot.json")?).context("snapshot.json")?;
    client.apply_targets(&read("targets.json")?).context("targets.json")?;
    client.targets().cloned().context("the repository names no targets")
}
