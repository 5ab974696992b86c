//! Gets the contents of a release that a board lacks, the cheapest way.
//!
//! ```text
//! running system, store -> missing -> choose: patch -> store.  What fails falls back:
//!                                             pack  -> store.  patch -> pack -> one file for each content
//!                                             files -> store.
//! ```
//! Whatever way: each content is compared with its digest from the signed manifest before it gets its
//! name in the store, and what was got stays there when the rest cannot be had.

use crate::error::UpdateError;
use crate::fetch::{Deadline, Fetcher, cause};
use crate::held::Held;
use crate::store::Store;
use goblin_core_delta::choose::{self, Choice, Question, Way};
use goblin_core_delta::pack::{INDEX_BYTES_MAX, Index, PackError};
use goblin_core_delta::patch::{HEAD_BYTES, Patch, PatchError, ReadAt, parse_head};
use goblin_core_delta::ranges::Range;
use goblin_core_delta::{Content, frame};
use goblin_core_manifest::release::{
    PackFile, Parcels, PatchFile, blob_path, pack_path, patch_path,
};
use goblin_core_types::{Digest, Version};
use goblin_image::recipe::BlobRef;
use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Read, Write};

/// Room left for a patch beside the contents it makes, as one in so many bytes of them.
const PATCH_ROOM: u64 = 2;

/// Times contents are asked for anew after they were cut off; each time fewer are missing.
const CUTS_MAX: u32 = 3;

/// A release whose contents are wanted, and where from.
#[derive(Debug)]
pub struct Wanted<'a> {
    /// Its version.
    pub version: Version,
    /// The release that runs.
    pub running: Version,
    /// Its contents, in the order of digests.
    pub blobs: &'a [BlobRef],
    /// How they come in few requests, if they do.
    pub parcels: Option<&'a Parcels>,
}

/// Told of bytes that came and bytes in all.
pub type Moved<'a> = &'a mut dyn FnMut(u64, u64);

/// What is wrong with one way, when another may still do.
enum Failure {
    /// This way leads nowhere.
    Way(UpdateError),
    /// No way does.
    All(UpdateError),
}

impl From<UpdateError> for Failure {
    fn from(err: UpdateError) -> Self {
        match err {
            UpdateError::Space { .. } | UpdateError::Store { .. } => Self::All(err),
            other => Self::Way(other),
        }
    }
}

/// Work on one release.
struct Work<'a> {
    wanted: &'a Wanted<'a>,
    fetcher: Fetcher,
    store: &'a Store,
    contents: Vec<Content>,
}

/// What an upgrade would fetch, without fetching more than the pack's index.
///
/// # Errors
/// [`UpdateError`] when the index cannot be had.
pub fn preview(
    wanted: &Wanted<'_>,
    fetcher: &Fetcher,
    store: &Store,
    held: &mut Held,
) -> Result<Choice, UpdateError> {
    let work = Work::new(wanted, fetcher, store, held);
    let missing = work.missing(held);
    let (patch, pack) = work.parcels();
    work.choose(&missing, patch, pack).map(|(choice, _)| choice)
}

/// Brings every content into the store that neither it nor the running system holds. Answers the way that
/// was taken.
///
/// # Errors
/// [`UpdateError`]; what came until then stays in the store, but for want of room.
pub fn obtain(
    wanted: &Wanted<'_>,
    fetcher: &Fetcher,
    store: &Store,
    held: &mut Held,
    spare_bytes: u64,
    moved: Moved<'_>,
) -> Result<Choice, UpdateError> {
    let mut work = Work::new(wanted, fetcher, store, held);
    let mut mirrors_left = fetcher.mirrors().saturating_sub(1);
    let (mut patch, mut pack) = work.parcels();
    let mut cuts_left = CUTS_MAX;
    store.drop_patches(patch.map(|patch| &patch.digest))?;
    let room = work.lacking(&work.missing(held));
    let room = room.saturating_add(patch.map_or(0, |patch| patch.bytes.min(room / PATCH_ROOM)));
    store.check_room(room, spare_bytes)?;
    loop {
        let missing = work.missing(held);
        let (choice, index) = match work.choose(&missing, patch, pack) {
            Err(err) if is_damage(&err) && mirrors_left > 0 => {
                tracing::warn!(%err, "the next server is asked");
                mirrors_left = mirrors_left.saturating_sub(1);
                work.fetcher.turn();
                continue;
            }
            other => other?,
        };
        tracing::info!(version = %wanted.version, cost = %choice.cost, "contents are fetched");
        let done = match (&choice.way, &index, patch) {
            (Way::Nothing, ..) => Ok(()),
            (Way::Patch, _, Some(file)) => work.by_patch(file, &missing, held, moved),
            (Way::Pack(ranges), Some(index), _) => work.by_pack(index, ranges, &missing, moved),
            _ if work.fetcher.contents_max() > 0 => work.by_contents(&missing, moved),
            _ => work.by_files(&missing, moved).map_err(Failure::All),
        };
        let was_patch = choice.way == Way::Patch;
        match done {
            Ok(()) => {
                store.drop_patches(None)?;
                return Ok(choice);
            }
            Err(Failure::Way(err)) if was_patch && patch.is_some() => {
                tracing::warn!(%err, "the patch cannot be used; the pack is");
                patch = None;
            }
            // What came whole stays; the rest may be whole elsewhere.
            Err(Failure::Way(err) | Failure::All(err)) if is_damage(&err) && mirrors_left > 0 => {
                tracing::warn!(%err, "the next server is asked");
                mirrors_left = mirrors_left.saturating_sub(1);
                work.fetcher.turn();
            }
            Err(Failure::Way(err)) if work.fetcher.contents_max() > 0 && cuts_left > 0 => {
                tracing::warn!(%err, "contents were cut off, the rest is asked for");
                cuts_left = cuts_left.saturating_sub(1);
            }
            // A server that has no pack, perhaps an older publisher's copy, may have the contents.
            Err(Failure::Way(err)) if pack.is_some() && is_absent(&err) => {
                tracing::warn!(%err, "the pack cannot be had; single contents are fetched");
                pack = None;
            }
            Err(Failure::Way(err) | Failure::All(err)) => {
                if matches!(err, UpdateError::Space { .. }) {
                    work.give_back(&missing);
                }
                return Err(err);
            }
        }
    }
}

/// What a server gave is not what was signed.
fn is_damage(err: &UpdateError) -> bool {
    matches!(err, UpdateError::Blob { .. })
}

fn is_absent(err: &UpdateError) -> bool {
    matches!(err, UpdateError::Absent { .. })
}

impl<'a> Work<'a> {
    fn new(wanted: &'a Wanted<'a>, fetcher: &Fetcher, store: &'a Store, held: &mut Held) -> Self {
        held.read_sizes(&wanted.blobs.iter().map(|blob| blob.size).collect());
        let content = |blob: &BlobRef| Content { digest: blob.digest, size: blob.size };
        let contents = wanted.blobs.iter().map(content).collect();
        Self { wanted, fetcher: fetcher.clone(), store, contents }
    }

    fn patch(&self) -> Option<&'a PatchFile> {
        let patches = &self.wanted.parcels?.patches;
        patches.iter().find(|patch| patch.from == self.wanted.running)
    }

    /// Patch and pack, where they may be used: who gives contents by digest needs neither.
    fn parcels(&self) -> (Option<&'a PatchFile>, Option<&'a PackFile>) {
        if self.fetcher.contents_max() > 0 { (None, None) } else { (self.patch(), self.pack()) }
    }

    fn pack(&self) -> Option<&'a PackFile> {
        self.wanted.parcels.map(|parcels| &parcels.pack)
    }

    fn missing(&self, held: &Held) -> Vec<bool> {
        let is_here = |b: &BlobRef| held.has(&b.digest, b.size) || self.store.has(b);
        self.wanted.blobs.iter().map(|blob| !is_here(blob)).collect()
    }

    fn lacking(&self, missing: &[bool]) -> u64 {
        let lacking = self.wanted.blobs.iter().zip(missing).filter(|(_, missing)| **missing);
        lacking.fold(0u64, |sum, (blob, _)| sum.saturating_add(blob.size))
    }

    /// The way to go, and the pack's index where it had to be read.
    fn choose(
        &self,
        missing: &[bool],
        patch: Option<&PatchFile>,
        pack: Option<&PackFile>,
    ) -> Result<(Choice, Option<Index>), UpdateError> {
        let patch_bytes = patch.map(|patch| patch.bytes.saturating_sub(self.patch_here(patch)));
        let contents = &self.contents;
        let mut question = Question { contents, missing, patch_bytes, index: None };
        let index = match pack.filter(|_| choose::index_matters(&question)) {
            Some(pack) => match self.index(pack) {
                Err(err) if is_absent(&err) || patch.is_some() => {
                    tracing::warn!(%err, "the pack's index cannot be had");
                    None
                }
                other => Some(other?),
            },
            None => None,
        };
        question.index = index.as_ref();
        Ok((choose::choose(&question), index))
    }

    fn index(&self, pack: &PackFile) -> Result<Index, UpdateError> {
        let wrong = |detail: String| UpdateError::Blob { digest: pack.index, detail };
        let path = pack_path(self.wanted.version);
        if pack.index_bytes > INDEX_BYTES_MAX {
            let (field, got, max) = ("index size in bytes", pack.index_bytes, INDEX_BYTES_MAX);
            return Err(wrong(PackError::Limit { field, got, max }.to_string()));
        }
        let mut bytes = Vec::new();
        let read = self.fetcher.pull(&path, 0, pack.index_bytes).read_to_end(&mut bytes);
        read.map_err(|err| self.fetch_error(err, &path))?;
        let found = Digest(*blake3::hash(&bytes).as_bytes());
        if found != pack.index {
            return Err(wrong(format!("the pack's index has blake3 digest {found}")));
        }
        Index::decode(&bytes, self.contents.len(), pack.bytes).map_err(|err| wrong(err.to_string()))
    }

    fn fetch_error(&self, err: io::Error, path: &str) -> UpdateError {
        cause(err).unwrap_or_else(|err| self.fetcher.network(path, err.to_string()))
    }

    fn by_pack(
        &self,
        index: &Index,
        ranges: &[Range],
        missing: &[bool],
        moved: Moved<'_>,
    ) -> Result<(), Failure> {
        let total = ranges.iter().fold(0u64, |sum, range| sum.saturating_add(range.bytes));
        let mut before = 0u64;
        let mut batch = self.store.batch()?;
        for range in ranges {
            let told = &mut |done: u64| moved(before.saturating_add(done), total);
            let done = self.piece(index, range, missing, &mut batch, told);
            // Also after a failure: what came stays.
            batch.name()?;
            done?;
            before = before.saturating_add(range.bytes);
        }
        Ok(())
    }

    fn piece(
        &self,
        index: &Index,
        range: &Range,
        missing: &[bool],
        batch: &mut crate::store::Batch<'_>,
        told: &mut dyn FnMut(u64),
    ) -> Result<(), UpdateError> {
        let path = pack_path(self.wanted.version);
        let mut pull = self.fetcher.pull(&path, range.at, range.bytes);
        for place in range.frames.clone() {
            let Some(held) = index.frames.get(place) else { break };
            let mut limited = pull.by_ref().take(held.bytes);
            let places =
                held.contents.iter().map(|ordinal| usize::try_from(*ordinal).unwrap_or(usize::MAX));
            let lacks = |place: &usize| missing.get(*place).copied().unwrap_or(false);
            if places.clone().any(|place| lacks(&place)) {
                let mut from =
                    frame::open(&mut limited).map_err(|err| self.fetch_error(err, &path))?;
                for place in places {
                    let Some(blob) = self.wanted.blobs.get(place) else { break };
                    if lacks(&place) {
                        batch.put(blob, &mut |out| self.unpack(&mut from, out, blob, &path))?;
                    } else {
                        self.unpack(&mut from, &mut io::sink(), blob, &path)?;
                    }
                }
            }
            io::copy(&mut limited, &mut io::sink()).map_err(|err| self.fetch_error(err, &path))?;
            told(pull.at().saturating_sub(range.at));
        }
        Ok(())
    }

    /// Copies one content out of a frame; what is no frame is damage of the content.
    fn unpack(
        &self,
        from: &mut dyn Read,
        out: &mut dyn Write,
        blob: &BlobRef,
        path: &str,
    ) -> Result<(), UpdateError> {
        match io::copy(&mut from.take(blob.size), out) {
            Ok(_) => Ok(()),
            Err(err) => Err(cause(err).unwrap_or_else(|err| UpdateError::Blob {
                digest: blob.digest,
                detail: format!("{path} cannot be unpacked ({err})"),
            })),
        }
    }

    /// Bytes of the patch that an earlier try left.
    fn patch_here(&self, patch: &PatchFile) -> u64 {
        let here = self.store.patch(&patch.digest).metadata().map_or(0, |meta| meta.len());
        if here > patch.bytes { 0 } else { here }
    }

    fn by_patch(
        &self,
        patch: &PatchFile,
        missing: &[bool],
        held: &mut Held,
        moved: Moved<'_>,
    ) -> Result<(), Failure> {
        self.fetch_patch(patch, moved)?;
        let path = self.store.patch(&patch.digest);
        let opened = File::open(&path).map_err(|source| UpdateError::Store { path, source });
        self.apply(patch, &opened?, missing, held)
    }

    /// Brings the patch into the store, from where an earlier try ended.
    fn fetch_patch(&self, patch: &PatchFile, moved: Moved<'_>) -> Result<(), Failure> {
        let place = self.store.patch(&patch.digest);
        let store_error = |source: io::Error| match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => UpdateError::Space {
                place: "the state partition",
                needed_bytes: patch.bytes,
                free_bytes: 0,
            },
            _ => UpdateError::Store { path: place.clone(), source },
        };
        let here = self.patch_here(patch);
        if here == 0 {
            self.store.drop_patches(None)?;
        }
        let mut file = self.store.write_patch(&patch.digest).map_err(store_error)?;
        let path = patch_path(patch.from, self.wanted.version);
        let mut pull = self.fetcher.pull(&path, here, patch.bytes.saturating_sub(here));
        let mut piece = vec![0; 64 << 10];
        loop {
            let read = pull.read(&mut piece).map_err(|err| self.fetch_error(err, &path))?;
            if read == 0 {
                break;
            }
            file.write_all(piece.get(..read).unwrap_or_default()).map_err(store_error)?;
            moved(pull.at(), patch.bytes);
        }
        let mut hasher = blake3::Hasher::new();
        File::open(&place)
            .and_then(|mut whole| io::copy(&mut whole, &mut hasher))
            .map_err(store_error)?;
        let found = Digest(*hasher.finalize().as_bytes());
        if found != patch.digest {
            self.store.drop_patches(None)?;
            let detail = format!("{path} has blake3 digest {found}");
            return Err(UpdateError::Blob { digest: patch.digest, detail }.into());
        }
        Ok(())
    }

    fn apply(
        &self,
        file: &PatchFile,
        from: &File,
        missing: &[bool],
        held: &mut Held,
    ) -> Result<(), Failure> {
        let wrong =
            |err: PatchError| UpdateError::Blob { digest: file.digest, detail: err.to_string() };
        let mut head = [0; HEAD_BYTES];
        let part = |at: u64, bytes: u64| Part { file: from, at, left: bytes };
        part(0, file.bytes).read_exact(&mut head).map_err(|err| wrong(PatchError::Stream(err)))?;
        let streams = parse_head(&head, file.bytes).map_err(wrong)?;
        let readers = streams.map(|stream| part(stream.at, stream.bytes));
        let mut patch = Patch::open(&streams, readers).map_err(wrong)?;
        held.read_sizes(&patch.sources().iter().map(|source| source.size).collect::<BTreeSet<_>>());
        if let Some(lost) = patch.sources().iter().find(|s| !held.has(&s.digest, s.size)) {
            let detail = "the running system does not hold it, so the patch is not for it".into();
            return Err(UpdateError::Blob { digest: lost.digest, detail }.into());
        }
        let sources: Vec<Digest> = patch.sources().iter().map(|source| source.digest).collect();
        let mut batch = self.store.batch()?;
        while let Some(target) = patch.next_target().map_err(wrong)? {
            let unknown = PatchError::Malformed { what: "it makes a content that is not wanted" };
            let blob = self.wanted.blobs.get(target.ordinal).ok_or_else(|| wrong(unknown))?;
            let source = target.source.and_then(|place| sources.get(place));
            let opened = source.map(|digest| held.open(digest)).transpose();
            let mut old = opened.map_err(|err| wrong(PatchError::Old(err)))?;
            let mut fill = |out: &mut dyn Write| {
                let old = old.as_mut().map(|old| old as &mut dyn ReadAt);
                patch.write(blob.size, old, out).map_err(wrong)
            };
            if missing.get(target.ordinal).copied().unwrap_or(false) {
                batch.put(blob, &mut fill)?;
            } else {
                fill(&mut io::sink())?;
            }
        }
        batch.name()?;
        if let Some((blob, _)) =
            self.wanted.blobs.iter().zip(missing).find(|(b, m)| **m && !self.store.has(b))
        {
            let detail = "the patch does not make it".into();
            return Err(UpdateError::Blob { digest: blob.digest, detail }.into());
        }
        Ok(())
    }

    fn by_contents(&self, missing: &[bool], moved: Moved<'_>) -> Result<(), Failure> {
        let total = self.lacking(missing);
        let deadline = Deadline::of(total);
        let lacks = self.wanted.blobs.iter().zip(missing).filter(|(_, missing)| **missing);
        let lacks: Vec<BlobRef> = lacks.map(|(blob, _)| *blob).collect();
        let cut = |err: io::Error| self.fetcher.network("contents of the release", err.to_string());
        let mut batch = self.store.batch()?;
        let mut before = 0u64;
        for part in lacks.chunks(self.fetcher.contents_max().max(1)) {
            deadline.check(|detail| self.fetcher.network("contents of the release", detail))?;
            let mut body = self.fetcher.contents(part)?.body;
            let done = part.iter().try_for_each(|blob| {
                batch.put(blob, &mut |out| {
                    io::copy(&mut body.by_ref().take(blob.size), out).map(drop).map_err(cut)
                })?;
                before = before.saturating_add(blob.size);
                moved(before, total);
                Ok::<(), UpdateError>(())
            });
            // Also after a failure: what came stays.
            batch.name()?;
            done?;
        }
        Ok(())
    }

    fn by_files(&self, missing: &[bool], moved: Moved<'_>) -> Result<(), UpdateError> {
        let total = self.lacking(missing);
        let deadline = Deadline::of(total);
        let mut before = 0u64;
        for (blob, _) in self.wanted.blobs.iter().zip(missing).filter(|(_, missing)| **missing) {
            let path = blob_path(&blob.digest);
            self.fetcher.download(&path, blob.size, |body| {
                deadline.check(|detail| self.fetcher.network(&path, detail))?;
                self.store.receive(blob, body, &mut |got| moved(before.saturating_add(got), total))
            })?;
            before = before.saturating_add(blob.size);
        }
        Ok(())
    }

    /// Others filled STATE up meanwhile: they need the room more than a release that cannot be fetched.
    fn give_back(&self, missing: &[bool]) {
        for (blob, _) in self.wanted.blobs.iter().zip(missing).filter(|(_, missing)| **missing) {
            let _ = self.store.remove_blob(&blob.digest);
        }
        let _ = self.store.drop_patches(None);
    }
}

/// A part of a file, read without moving its position.
struct Part<'f> {
    file: &'f File,
    at: u64,
    left: u64,
}

impl Read for Part<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        use std::os::unix::fs::FileExt;
        let length = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        let read = self.file.read_at(buffer.get_mut(..length).unwrap_or_default(), self.at)?;
        let moved = u64::try_from(read).unwrap_or(u64::MAX);
        (self.at, self.left) = (self.at.saturating_add(moved), self.left.saturating_sub(moved));
        Ok(read)
    }
}
