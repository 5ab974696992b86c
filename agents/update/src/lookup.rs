//! Manifests of releases that are named, to compare them.

use crate::env::Env;
use crate::error::UpdateError;
use crate::fetch::Fetcher;
use crate::repository;
use crate::store::Store;
use goblin_core_manifest::client::Client;
use goblin_core_manifest::offer::{self, OfferError};
use goblin_core_manifest::release::{MANIFEST_BYTES_MAX, Manifest};
use goblin_core_manifest::time::Instant;
use goblin_core_manifest::tuf::TufError;
use goblin_core_types::Version;
use goblin_image::recipe::UkiRecipe;

/// Reads the manifests of these releases, in this order.
///
/// # Errors
/// [`UpdateError`] of the repository; [`OfferError::NotFound`] for a release that it does not have.
pub(crate) fn manifests(
    env: &Env,
    store: &Store,
    fetcher: &Fetcher,
    versions: &[Version],
) -> Result<Vec<Manifest<UkiRecipe>>, UpdateError> {
    let source = env.source.as_ref().ok_or(UpdateError::NoSource)?;
    let now = Instant::from_unix_s(env.hooks.now_unix_s());
    let mut client = Client::new(store.trusted(&source.root)?, now)?;
    let walked = repository::walk(&mut client, fetcher);
    store.keep_trusted(&source.root, client.state())?;
    walked?;
    let early = || TufError::Unnamed { file: "targets.json".into() };
    let all = offer::releases(client.targets().ok_or_else(early)?);
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
            Ok(Manifest::<UkiRecipe>::parse(&bytes)?)
        })
        .collect()
}
