//! Packs and patches of a release, from what boards that run older ones hold.

use crate::host;
use anyhow::{Context, Result};
use goblin_core_delta::frame::{self, Effort};
use goblin_core_delta::pack::{self, Index, Item};
use goblin_core_delta::patch::{self, New};
use goblin_core_delta::{Content, patch::PATCH_BYTES_MAX};
use goblin_core_manifest::release::{PackFile, PatchFile};
use goblin_core_types::{Digest, Version};
use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::path::Path;

/// Ages that are told apart in a pack; what is older lies together.
const AGES_MAX: u32 = 16;

/// A release as a set of contents.
#[derive(Debug, Clone, Default)]
pub(crate) struct View {
    /// Every content with a path where it is used, by digest: the order of the manifest's list.
    pub(crate) contents: BTreeMap<Digest, (u64, String)>,
    /// Contents that a board which runs the release can read there.
    pub(crate) held: BTreeSet<Digest>,
}

impl View {
    pub(crate) fn list(&self) -> Vec<Content> {
        let content = |(digest, (size, _)): (&Digest, &(u64, String))| Content {
            digest: *digest,
            size: *size,
        };
        self.contents.iter().map(content).collect()
    }
}

/// Gives the bytes of a content.
pub(crate) type Load<'a> = &'a dyn Fn(&Digest) -> Result<Vec<u8>>;

/// Writes the pack of `new`, whose older releases are `older`, newest first. The second effort is for what
/// those hold already.
pub(crate) fn write_pack(
    new: &View,
    older: &[&View],
    load: Load<'_>,
    (effort, effort_old): (Effort, Effort),
    path: &Path,
) -> Result<PackFile> {
    let contents = new.list();
    let items = new.contents.iter().zip(0u32..).map(|((digest, (size, used)), ordinal)| Item {
        ordinal,
        size: *size,
        age: age(digest, older),
        path: used.clone(),
    });
    let order = pack::arrange(items.collect(), &contents);
    let mut frames = Vec::new();
    for held in &order {
        let bytes = held
            .iter()
            .map(|ordinal| load(&contents[*ordinal as usize].digest))
            .collect::<Result<Vec<_>>>()?;
        let pieces: Vec<&[u8]> = bytes.iter().map(Vec::as_slice).collect();
        let is_new =
            held.iter().any(|ordinal| age(&contents[*ordinal as usize].digest, older) == 0);
        let effort = if is_new { effort } else { effort_old };
        frames.push(frame::compress(&pieces, effort).context("cannot compress a frame")?);
    }
    let sizes = frames.iter().map(|frame| frame.len() as u64).zip(order).collect();
    let (index, head) = Index::new(sizes).context("the release is too large for a pack")?;
    let mut file = Vec::with_capacity(usize::try_from(index.pack_bytes).unwrap_or(0));
    file.write_all(&head)?;
    frames.iter().try_for_each(|frame| file.write_all(frame))?;
    host::write_whole(path, &file)?;
    Ok(PackFile {
        bytes: index.pack_bytes,
        index_bytes: head.len() as u64,
        index: Digest(*blake3::hash(&head).as_bytes()),
    })
}

/// For how many releases in a row, counted back, boards have held a content.
fn age(digest: &Digest, older: &[&View]) -> u32 {
    let held = older.iter().take_while(|view| view.held.contains(digest)).count();
    u32::try_from(held).unwrap_or(u32::MAX).min(AGES_MAX)
}

/// Writes the patch from `old` to `new`; `None` when it would be larger than a patch may be.
pub(crate) fn write_patch(
    (from, old): (Version, &View),
    new: &View,
    load: Load<'_>,
    effort: Effort,
    path: &Path,
) -> Result<Option<PatchFile>> {
    let bytes = make_patch(old, new, load, effort)?;
    if bytes.len() as u64 > PATCH_BYTES_MAX {
        return Ok(None);
    }
    host::write_whole(path, &bytes)?;
    let digest = Digest(*blake3::hash(&bytes).as_bytes());
    Ok(Some(PatchFile { from, bytes: bytes.len() as u64, digest }))
}

fn make_patch(old: &View, new: &View, load: Load<'_>, effort: Effort) -> Result<Vec<u8>> {
    let held: Vec<(&Digest, &str)> = old
        .contents
        .iter()
        .filter(|(digest, _)| old.held.contains(*digest))
        .map(|(digest, (_, path))| (digest, path.as_str()))
        .collect();
    let mut wanted: Vec<(u32, &Digest, &str)> = new
        .contents
        .iter()
        .zip(0u32..)
        .filter(|((digest, _), _)| !old.held.contains(*digest))
        .map(|((digest, (_, path)), ordinal)| (ordinal, digest, path.as_str()))
        .collect();
    // Likes beside likes: the streams are compressed as one.
    wanted.sort_by_key(|(_, _, path)| pack::likeness(path));
    let old_paths: Vec<&str> = held.iter().map(|(_, path)| *path).collect();
    let new_paths: Vec<&str> = wanted.iter().map(|(_, _, path)| *path).collect();
    let sources = patch::resemblance(&old_paths, &new_paths);
    let mut used = BTreeMap::new();
    let mut old_bytes = Vec::new();
    for place in sources.iter().flatten() {
        if !used.contains_key(place) {
            used.insert(*place, old_bytes.len());
            old_bytes.push((*held[*place].0, load(held[*place].0)?));
        }
    }
    let new_bytes = wanted.iter().map(|(_, digest, _)| load(digest)).collect::<Result<Vec<_>>>()?;
    let old: Vec<(Digest, &[u8])> =
        old_bytes.iter().map(|(digest, bytes)| (*digest, bytes.as_slice())).collect();
    let targets: Vec<New<'_>> = wanted
        .iter()
        .zip(&new_bytes)
        .zip(&sources)
        .map(|(((ordinal, _, _), bytes), source)| New {
            ordinal: *ordinal,
            bytes,
            source: source.and_then(|place| used.get(&place).copied()),
        })
        .collect();
    patch::encode(&old, &targets, effort).context("cannot make the patch")
}
