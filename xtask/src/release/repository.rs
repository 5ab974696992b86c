//! The pack and the patches of a release, from its recipe and the blobs of the repository; and their check.

use super::parcels::{self, View};
use crate::host;
use anyhow::{Context, Result, bail, ensure};
use goblin_core_delta::frame::{self, Effort};
use goblin_core_delta::pack::Index;
use goblin_core_delta::patch::{HEAD_BYTES, Patch, ReadAt, parse_head};
use goblin_core_manifest::release::{
    Manifest, PackFile, Parcels, PatchFile, blob_path, pack_path, patch_path,
};
use goblin_core_types::Digest;
use goblin_image::recipe::BlobRef;
use goblin_image::{Contents, Kind, UkiRecipe, uki};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Cursor, Read};
use std::path::{Path, PathBuf};

/// Contents from a repository's blobs.
pub(super) struct Blobs(pub(super) PathBuf);

impl Contents for Blobs {
    fn open(&mut self, digest: &Digest, _size: u64) -> io::Result<Box<dyn Read + '_>> {
        Ok(Box::new(File::open(self.0.join(blob_path(digest)))?))
    }
}

/// A release that boards run: its view, and what is in its UKI only.
struct Running {
    view: View,
    head: (Digest, Vec<u8>),
}

/// Path of the boot program among the contents.
const STUB: &str = "boot/stub";

/// Writes pack and patches of a release whose older ones are `older`, newest first.
pub(super) fn write(
    repository: &Path,
    manifest: &Manifest<UkiRecipe>,
    older: &[Manifest<UkiRecipe>],
    patches_max: usize,
    effort: Effort,
) -> Result<Parcels> {
    let version = manifest.version;
    let new = view(&manifest.uki);
    let running =
        older.iter().map(|old| running(repository, &old.uki)).collect::<Result<Vec<_>>>()?;
    let heads: BTreeMap<Digest, &[u8]> =
        running.iter().map(|old| (old.head.0, old.head.1.as_slice())).collect();
    let load = |digest: &Digest| match heads.get(digest) {
        Some(head) => Ok(head.to_vec()),
        None => host::read(&repository.join(blob_path(digest))),
    };
    let views: Vec<&View> = running.iter().map(|old| &old.view).collect();
    host::say(format!("packing release {version}"));
    let path = repository.join(pack_path(version));
    let pack = parcels::write_pack(&new, &views, &load, (effort, effort), &path)?;
    let mut patches = Vec::new();
    for (old, view) in older.iter().zip(&views).take(patches_max) {
        host::say(format!("comparing release {} with {version}", old.version));
        let path = repository.join(patch_path(old.version, version));
        patches.extend(parcels::write_patch((old.version, view), &new, &load, effort, &path)?);
    }
    Ok(Parcels { pack, patches })
}

/// The contents of a release, each with a path where it is used.
fn view(recipe: &UkiRecipe) -> View {
    let mut view = View::default();
    let mut add = |blob: BlobRef, path: &str| {
        view.contents.entry(blob.digest).or_insert_with(|| (blob.size, path.to_owned()));
    };
    for entry in recipe.base.entries() {
        if let Kind::File { size, digest } = entry.kind {
            add(BlobRef { digest, size }, &entry.path);
        }
    }
    add(recipe.kernel, "boot/kernel");
    add(recipe.preinit, "boot/preinit");
    add(recipe.stub, STUB);
    let files = recipe.base.entries().iter().filter_map(|entry| match entry.kind {
        Kind::File { digest, .. } => Some(digest),
        Kind::Dir | Kind::Symlink { .. } => None,
    });
    view.held = files.chain([recipe.kernel.digest]).collect();
    view
}

/// A release with what only its UKI holds: the boot program with the headers of all sections.
fn running(repository: &Path, recipe: &UkiRecipe) -> Result<Running> {
    let mut view = view(recipe);
    let mut whole = Vec::new();
    recipe
        .build(&mut whole, &mut Blobs(repository.to_path_buf()))
        .context("an older release cannot be rebuilt")?;
    let sections = uki::parse_sections(&mut Cursor::new(&whole)).context("an older UKI")?;
    let first = sections.iter().find(|section| section.name == ".osrel");
    let head_bytes = usize::try_from(first.context("an older UKI has no .osrel")?.file_offset)?;
    whole.truncate(head_bytes);
    let digest = Digest(*blake3::hash(&whole).as_bytes());
    view.contents.insert(digest, (whole.len() as u64, STUB.to_owned()));
    view.held.insert(digest);
    Ok(Running { view, head: (digest, whole) })
}

/// Unpacks pack and patches of a release and compares every content.
pub(super) fn verify(
    repository: &Path,
    manifest: &Manifest<UkiRecipe>,
    all: &[Manifest<UkiRecipe>],
) -> Result<()> {
    let Some(parcels) = &manifest.parcels else { return Ok(()) };
    let blobs = manifest.uki.blobs();
    verify_pack(&repository.join(pack_path(manifest.version)), &parcels.pack, &blobs)
        .with_context(|| format!("the pack of release {}", manifest.version))?;
    for patch in &parcels.patches {
        let what = || format!("the patch from {} to {}", patch.from, manifest.version);
        let old = all.iter().find(|old| old.version == patch.from).with_context(what)?;
        let running = running(repository, &old.uki).with_context(what)?;
        verify_patch(repository, manifest, patch, &running).with_context(what)?;
    }
    Ok(())
}

fn verify_pack(path: &Path, pack: &PackFile, blobs: &[BlobRef]) -> Result<()> {
    let bytes = host::read(path)?;
    let (head, _) = usize::try_from(pack.index_bytes)
        .ok()
        .and_then(|size| bytes.split_at_checked(size))
        .context("it is shorter than its index")?;
    ensure!(*blake3::hash(head).as_bytes() == pack.index.0, "the index is not what was signed");
    let index = Index::decode(head, blobs.len(), bytes.len() as u64)?;
    ensure!(index.pack_bytes == pack.bytes, "it has another size than was signed");
    for held in &index.frames {
        let at = usize::try_from(held.at)?;
        let packed = &bytes[at..at + usize::try_from(held.bytes)?];
        let mut from = frame::open(packed)?;
        for ordinal in &held.contents {
            compare(&mut from, &blobs[*ordinal as usize])?;
        }
        ensure!(from.read(&mut [0])? == 0, "a frame holds more than its contents");
    }
    Ok(())
}

fn compare(from: &mut dyn Read, blob: &BlobRef) -> Result<()> {
    let mut hasher = blake3::Hasher::new();
    let read = io::copy(&mut from.take(blob.size), &mut hasher)?;
    if read != blob.size || *hasher.finalize().as_bytes() != blob.digest.0 {
        bail!("content {} is damaged in it", blob.digest);
    }
    Ok(())
}

fn verify_patch(
    repository: &Path,
    manifest: &Manifest<UkiRecipe>,
    file: &PatchFile,
    running: &Running,
) -> Result<()> {
    let bytes = host::read(&repository.join(patch_path(file.from, manifest.version)))?;
    ensure!(*blake3::hash(&bytes).as_bytes() == file.digest.0, "it is not what was signed");
    let head = bytes.first_chunk::<HEAD_BYTES>().context("it is too short")?;
    let streams = parse_head(head, bytes.len() as u64)?;
    let part = |at: u64, size: u64| {
        let at = usize::try_from(at).unwrap_or(usize::MAX);
        bytes.get(at..).and_then(|rest| rest.get(..usize::try_from(size).ok()?)).unwrap_or_default()
    };
    let mut patch = Patch::open(&streams, streams.map(|stream| part(stream.at, stream.bytes)))?;
    let old: Vec<Vec<u8>> = patch
        .sources()
        .iter()
        .map(|source| {
            ensure!(
                running.view.held.contains(&source.digest),
                "a board does not hold {}",
                source.digest
            );
            if source.digest == running.head.0 {
                return Ok(running.head.1.clone());
            }
            host::read(&repository.join(blob_path(&source.digest)))
        })
        .collect::<Result<_>>()?;
    let mut missing = manifest.uki.blobs();
    missing.retain(|blob| !running.view.held.contains(&blob.digest));
    let blobs = manifest.uki.blobs();
    while let Some(target) = patch.next_target()? {
        let blob = blobs.get(target.ordinal).context("it makes an unknown content")?;
        let mut source = target.source.and_then(|place| old.get(place)).map(Vec::as_slice);
        let mut made = Vec::new();
        patch.write(blob.size, source.as_mut().map(|old| old as &mut dyn ReadAt), &mut made)?;
        compare(&mut &made[..], blob)?;
        missing.retain(|lacking| lacking.digest != blob.digest);
    }
    ensure!(missing.is_empty(), "{} contents are missing in it", missing.len());
    Ok(())
}
