//! A repository as a board reads it: metadata by the first root, manifests by the metadata, contents by
//! the manifests; and every UKI rebuilt from contents alone.

use super::repository::{self, Blobs};
use super::{FIRST_ROOT, now};
use crate::host;
use anyhow::{Context, Result, bail, ensure};
use goblin_core_manifest::client::{Client, TrustedState};
use goblin_core_manifest::offer;
use goblin_core_manifest::release::{MANIFEST_PACKED, Manifest};
use goblin_core_manifest::tuf::Targets;
use goblin_image::UkiRecipe;
use std::io;
use std::path::Path;

/// Runs `cargo xtask release verify`.
pub(super) fn command(folder: &Path) -> Result<()> {
    let targets = metadata(folder)?;
    let releases = offer::releases(&targets);
    for (path, target) in &targets.targets {
        let bytes = host::read(&folder.join(path))?;
        target.check(path, &bytes).with_context(|| format!("{path} is not what was signed"))?;
    }
    let mut manifests = Vec::new();
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
        if let Some(packed_bytes) = release.target.packed_bytes() {
            let path = format!("{}{MANIFEST_PACKED}", release.path);
            let packed = host::read(&folder.join(&path))?;
            ensure!(packed.len() as u64 == packed_bytes, "{path} has another size than was signed");
            let unpacked = zstd::bulk::decompress(&packed, bytes.len())
                .with_context(|| format!("{path} cannot be unpacked"))?;
            ensure!(unpacked == bytes, "{path} is not the manifest");
        }
        manifests.push(manifest);
    }
    for manifest in &manifests {
        repository::verify(folder, manifest, &manifests)?;
        let patches = manifest.parcels.as_ref().map_or(0, |parcels| parcels.patches.len());
        println!(
            "release {}  channel {}  {} contents, pack and {patches} patches, rebuilt bit for bit",
            manifest.version,
            manifest.channel,
            manifest.uki.blobs().len()
        );
    }
    println!("{}: {} releases, all as signed", folder.display(), releases.len());
    Ok(())
}

/// The targets, as a board that trusts the first root reads them.
pub(super) fn metadata(folder: &Path) -> Result<Targets> {
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
    client.offered().context("cannot read what the repository names")
}
