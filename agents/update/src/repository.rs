//! Asks the repository: metadata through the TUF client, then the manifest of the release to run.

use crate::env::{Env, Source};
use crate::error::UpdateError;
use crate::fetch::Fetcher;
use crate::held::Held;
use crate::store::Store;
use goblin_core_delta::frame;
use goblin_core_manifest::client::Client;
use goblin_core_manifest::offer::{self, Offer, OfferError, Question, Release, Turn};
use goblin_core_manifest::release::{
    BLOB_BYTES_MAX, BLOBS_MAX, MANIFEST_BYTES_MAX, MANIFEST_PACKED, Manifest, SPOKEN, UKI_BYTES_MAX,
};
use goblin_core_manifest::time::Instant;
use goblin_core_manifest::tuf::TufError;
use goblin_core_manifest::waves::Hold;
use goblin_core_types::{Quarantined, Role, Version};
use goblin_image::recipe::{BlobRef, UkiRecipe};
use std::io::Read;

/// A release that may be tried here, with everything needed to build it.
#[derive(Debug, Clone)]
pub(crate) struct Job {
    pub(crate) manifest: Manifest<UkiRecipe>,
    pub(crate) blobs: Vec<BlobRef>,
    /// What the running system holds of it; filled when contents are fetched.
    pub(crate) held: Held,
}

/// What a repository has for this board.
#[derive(Debug, Clone)]
pub(crate) enum Found {
    /// Nothing newer.
    Nothing,
    /// A newer one that is not for this box yet, and why.
    Held(Version, Hold),
    /// This.
    Job(Box<Job>),
}

/// What is asked of a repository.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asked<'a> {
    /// A release by name; the newest without one.
    pub(crate) to: Option<Version>,
    /// A person asked, and does not wait for the box's turn.
    pub(crate) at_once: bool,
    /// What failed here.
    pub(crate) quarantine: &'a [Quarantined],
}

fn quarantined(env: &Env, version: Version, reason: String) -> UpdateError {
    UpdateError::Quarantined { version, reason, role: env.role.unwrap_or(Role::Compute) }
}

/// Answers what the board should run next.
pub(crate) fn consult(
    env: &Env,
    store: &Store,
    fetcher: &Fetcher,
    asked: Asked<'_>,
) -> Result<Found, UpdateError> {
    let source = env.source.as_ref().ok_or(UpdateError::NoSource)?;
    let quarantine = asked.quarantine;
    let found = match ask(env, source, store, fetcher, asked) {
        // A publish was under way between two of our requests: once more shows the new state whole.
        Err(UpdateError::Tuf(TufError::Mismatch { .. })) => {
            std::thread::sleep(env.retry_pause);
            ask(env, source, store, fetcher, asked)?
        }
        other => other?,
    };
    let (release, bytes) = match found {
        Answer::Nothing => return Ok(Found::Nothing),
        Answer::Held(version, hold) => return Ok(Found::Held(version, hold)),
        Answer::Release(release, bytes) => (release, bytes),
    };
    let manifest = Manifest::<UkiRecipe>::parse(&bytes)?;
    match env.role {
        Some(role) => manifest.check_is(release.custom.version, role)?,
        None => return Err(UpdateError::NoSource),
    }
    manifest.check_speaks(SPOKEN)?;
    let uki = manifest.uki.uki_digest;
    let failed = quarantine.iter().find(|known| known.uki == uki);
    if let Some(Quarantined { version, reason, .. }) = failed.cloned() {
        return Err(quarantined(env, version, reason));
    }
    let blobs = checked_blobs(&manifest)?;
    Ok(Found::Job(Box::new(Job { manifest, blobs, held: Held::default() })))
}

/// A release with its manifest, or why there is none.
enum Answer {
    Nothing,
    Held(Version, Hold),
    Release(Box<Release>, Vec<u8>),
}

fn ask(
    env: &Env,
    source: &Source,
    store: &Store,
    fetcher: &Fetcher,
    asked: Asked<'_>,
) -> Result<Answer, UpdateError> {
    let now = Instant::from_unix_s(env.hooks.now_unix_s());
    let state = store.trusted(&source.root)?;
    let mut client = match Client::new(state, now) {
        Ok(client) => client,
        Err(err) => {
            tracing::warn!(%err, "stored metadata is damaged; beginning anew");
            Client::new(
                goblin_core_manifest::client::TrustedState::from_root(source.root.as_bytes())?,
                now,
            )?
        }
    };
    let walked = walk(&mut client, fetcher);
    // Only with metadata that is good at this time: a clock that was set years ahead, by whom ever, would
    // otherwise make everything that is ever published look expired.
    if walked.is_ok() && env.hooks.clock_is_sure() {
        client.note_time();
    }
    // Also after a refusal: a root or timestamp that passed must not be forgotten.
    store.keep_trusted(&source.root, client.state())?;
    walked?;
    let targets = client.offered()?;
    let turn = match env.box_id {
        Some(id) if !asked.at_once => Turn::Wait { id, now: client.now() },
        _ => Turn::Now,
    };
    let question = Question {
        running: env.running,
        channel: &source.channel,
        to: asked.to,
        quarantine: asked.quarantine,
        turn,
    };
    let offer = offer::choose(&targets, &question).map_err(|err| match err {
        OfferError::Quarantined { version, reason } => quarantined(env, version, reason),
        other => other.into(),
    })?;
    let release = match offer {
        Offer::UpToDate => return Ok(Answer::Nothing),
        Offer::Held { version, hold } => return Ok(Answer::Held(version, hold)),
        Offer::Release(release) => release,
    };
    let wanted = client.wanted_target(&release.path, &release.target)?;
    if wanted.bytes_max > MANIFEST_BYTES_MAX {
        let (file, got) = (release.path.clone(), wanted.bytes_max);
        return Err(TufError::TooLong { file, got, max: MANIFEST_BYTES_MAX }.into());
    }
    if let Some(bytes) = packed(fetcher, &release) {
        return Ok(Answer::Release(release, bytes));
    }
    let bytes = fetcher.read(&wanted.path, wanted.bytes_max)?;
    release.target.check(&release.path, &bytes)?;
    Ok(Answer::Release(release, bytes))
}

/// The manifest from its compressed form, if there is one and it is what was signed.
fn packed(fetcher: &Fetcher, release: &Release) -> Option<Vec<u8>> {
    let packed_bytes = release.target.packed_bytes()?;
    let path = format!("{}{MANIFEST_PACKED}", release.path);
    let taken = || -> Result<Option<Vec<u8>>, UpdateError> {
        let bytes_max = packed_bytes.min(MANIFEST_BYTES_MAX);
        let Some(packed) = fetcher.read_if_there(&path, bytes_max)? else { return Ok(None) };
        let mut bytes = Vec::new();
        // One byte more tells a longer one.
        let read = frame::open(&packed[..]).and_then(|from| {
            from.take(release.target.length.saturating_add(1)).read_to_end(&mut bytes)
        });
        read.map_err(|err| fetcher.network(&path, format!("it cannot be unpacked ({err})")))?;
        release.target.check(&release.path, &bytes)?;
        Ok(Some(bytes))
    };
    taken().unwrap_or_else(|err| {
        tracing::warn!(%err, "the packed manifest is passed over");
        None
    })
}

/// Takes the client through everything up to the targets.
///
/// # Errors
/// [`UpdateError`]: a file cannot be had, or is not believed; the client keeps what it believed before.
pub fn walk(client: &mut Client, fetcher: &Fetcher) -> Result<(), UpdateError> {
    while let Some(wanted) = client.wanted_root() {
        let Some(bytes) = fetcher.read_if_there(&wanted.path, wanted.bytes_max)? else { break };
        client.apply_root(&bytes)?;
    }
    let wanted = client.wanted_timestamp();
    client.apply_timestamp(&fetcher.read(&wanted.path, wanted.bytes_max)?)?;
    let wanted = client.wanted_snapshot()?;
    client.apply_snapshot(&fetcher.read(&wanted.path, wanted.bytes_max)?)?;
    let wanted = client.wanted_targets()?;
    client.apply_targets(&fetcher.read(&wanted.path, wanted.bytes_max)?)?;
    while let Some(way) = client.next_delegated()? {
        let wanted = client.wanted_delegated(&way)?;
        client.apply_delegated(&way, &fetcher.read(&wanted.path, wanted.bytes_max)?)?;
    }
    Ok(())
}

/// The contents a release needs, once their number and sizes are within bounds.
fn checked_blobs(manifest: &Manifest<UkiRecipe>) -> Result<Vec<BlobRef>, UpdateError> {
    let recipe = &manifest.uki;
    recipe.check().map_err(|err| UpdateError::Build(err.into()))?;
    let blobs = recipe.blobs();
    let too_many = |what, got: usize, max: usize| {
        UpdateError::Tuf(TufError::TooMany { file: "manifest.json".into(), what, got, max })
    };
    if blobs.len() > BLOBS_MAX {
        return Err(too_many("contents", blobs.len(), BLOBS_MAX));
    }
    let largest = blobs.iter().map(|blob| blob.size).max().unwrap_or(0);
    for (got, max) in [(largest, BLOB_BYTES_MAX), (recipe.uki_size, UKI_BYTES_MAX)] {
        if got > max {
            return Err(TufError::TooLong { file: "a part of the release".into(), got, max }.into());
        }
    }
    Ok(blobs)
}
