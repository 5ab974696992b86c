//! Manifests of releases that are named, to compare them.

use crate::env::Env;
use crate::error::UpdateError;
use crate::fetch::Fetcher;
use crate::repository;
use crate::store::Store;
use goblin_core_manifest::client::Client;
use goblin_core_manifest::offer::{self, OfferError};
use goblin_core_manifest::release::{MANIFEST_BYTES_MAX, Manifest};
use goblin_core_manifest::sbom::{Packages, SBOM_BYTES_MAX, sbom_path};
use goblin_core_manifest::time::Instant;
use goblin_core_manifest::tuf::Targets;
use goblin_core_types::Version;
use goblin_image::recipe::UkiRecipe;

/// A release with what it is made of, where it says so.
pub(crate) struct Known {
    pub(crate) manifest: Manifest<UkiRecipe>,
    pub(crate) packages: Option<Packages>,
}

/// Reads the manifests of these releases, in this order.
///
/// # Errors
/// [`UpdateError`] of the repository; [`OfferError::NotFound`] for a release that it does not have.
pub(crate) fn releases(
    env: &Env,
    store: &Store,
    fetcher: &Fetcher,
    versions: &[Version],
) -> Result<Vec<Known>, UpdateError> {
    let source = env.source.as_ref().ok_or(UpdateError::NoSource)?;
    let now = Instant::from_unix_s(env.hooks.now_unix_s());
    let mut client = Client::new(store.trusted(&source.root)?, now)?;
    let walked = repository::walk(&mut client, fetcher);
    store.keep_trusted(&source.root, client.state())?;
    walked?;
    let targets = client.offered()?;
    let all = offer::releases(&targets);
    let known = || {
        let names: Vec<String> = all.iter().map(|r| r.custom.version.to_string()).collect();
        names.join(", ")
    };
    versions
        .iter()
        .map(|&to| {
            let release = all
                .iter()
                .find(|release| release.custom.version == to)
                .ok_or_else(|| OfferError::NotFound { to, known: known() })?;
            let wanted = client.wanted_target(&release.path, &release.target)?;
            let bytes = fetcher.read(&wanted.path, wanted.bytes_max.min(MANIFEST_BYTES_MAX))?;
            release.target.check(&release.path, &bytes)?;
            let manifest = Manifest::<UkiRecipe>::parse(&bytes)?;
            let packages = packages(&client, &targets, fetcher, to).unwrap_or_else(|err| {
                tracing::warn!(%err, "the list of a release's packages cannot be read");
                None
            });
            Ok(Known { manifest, packages })
        })
        .collect()
}

/// What a release is made of; `None` where its publisher said nothing.
fn packages(
    client: &Client,
    targets: &Targets,
    fetcher: &Fetcher,
    version: Version,
) -> Result<Option<Packages>, UpdateError> {
    let path = sbom_path(version);
    let Some(target) = targets.targets.get(&path) else { return Ok(None) };
    let wanted = client.wanted_target(&path, target)?;
    let bytes = fetcher.read(&wanted.path, wanted.bytes_max.min(SBOM_BYTES_MAX))?;
    target.check(&path, &bytes)?;
    Ok(Some(Packages::parse(&bytes)?))
}
