//! The updater's store on STATE: verified metadata, what is staged, and file contents by blake3.
//!
//! `trusted.json` what is believed · `staged.json` what is staged · `blobs/<blake3>` whole, verified contents ·
//! `incoming` the one being written · `patch-<blake3>` a patch as it comes. Every file is replaced whole, so a power cut leaves old or new.

use crate::error::UpdateError;
use crate::fetch::Received;
use goblin_core_manifest::client::TrustedState;
use goblin_core_manifest::tuf::{self, TufError};
use goblin_core_types::{Digest, Version};
use goblin_core_update::machine::{Chosen, OnDisk};
use goblin_core_update::slots::FlipSource;
use goblin_image::Contents;
use goblin_image::recipe::BlobRef;
use goblin_sys::files;
use goblin_sys::writer::{Open, Writer};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

/// Largest stored metadata in bytes.
const TRUSTED_BYTES_MAX: usize = 1 << 20;
/// Largest note of a staged release in bytes.
const STAGED_BYTES_MAX: usize = 4096;
/// Bytes moved at once.
const CHUNK_BYTES: usize = 256 << 10;
/// Room left on STATE for everyone else, in bytes.
pub const SPARE_BYTES: u64 = 16 << 20;

/// What the name of a patch begins with.
const PATCH_PREFIX: &str = "patch-";
/// Most contents that are made durable together.
const BATCH_MAX: usize = 256;
/// Most of their bytes: what a power cut costs.
const BATCH_BYTES_MAX: u64 = 32 << 20;

/// STATE, as people are told of it.
const STATE: &str = "the state partition";

/// What is believed about the repository, and the root it began with.
#[derive(Debug, Serialize, Deserialize)]
struct Trusted {
    /// sha256 of the provisioned root: with another one everything begins anew.
    anchor: String,
    state: TrustedState,
}

/// The staged release across reboots.
#[derive(Debug, Serialize, Deserialize)]
struct Staged {
    schema: u32,
    version: Version,
    uki: Digest,
    /// True when it lies under its own name, false under the temporary one.
    existing: bool,
}

const STAGED_SCHEMA: u32 = 1;

/// The store.
#[derive(Debug, Clone)]
pub struct Store {
    root: PathBuf,
    writer: Writer,
}

impl Store {
    /// Uses the folder `root`; made when first written to.
    pub fn new(root: PathBuf) -> Self {
        Self { root, writer: Writer::default() }
    }

    /// Lets `writer` make its changes.
    #[must_use]
    pub fn written_by(self, writer: Writer) -> Self {
        Self { writer, ..self }
    }

    fn remove(&self, path: &Path) -> Result<(), UpdateError> {
        match self.writer.remove(path) {
            Err(err) if err.kind() != io::ErrorKind::NotFound => Err(Self::error(path)(err)),
            _ => Ok(()),
        }
    }

    fn error(path: &Path) -> impl Fn(io::Error) -> UpdateError {
        let path = path.to_owned();
        move |source| match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => UpdateError::Space {
                place: STATE,
                needed_bytes: SPARE_BYTES,
                free_bytes: path.parent().and_then(|dir| free_bytes(dir).ok()).unwrap_or(0),
            },
            _ => UpdateError::Store { path: path.clone(), source },
        }
    }

    fn blobs(&self) -> PathBuf {
        self.root.join("blobs")
    }

    fn blob(&self, digest: &Digest) -> PathBuf {
        self.blobs().join(digest.to_string())
    }

    fn make_folders(&self) -> Result<(), UpdateError> {
        let blobs = self.blobs();
        std::fs::create_dir_all(&blobs).map_err(Self::error(&blobs))
    }

    /// What is believed about the repository; begins anew from the provisioned root when nothing, or
    /// something damaged, or the state of another root is stored.
    ///
    /// # Errors
    /// [`UpdateError::Tuf`] when the provisioned root itself is unusable.
    pub fn trusted(&self, provisioned_root: &str) -> Result<TrustedState, UpdateError> {
        let path = self.root.join("trusted.json");
        let anchor = tuf::sha256_hex(provisioned_root.as_bytes());
        let stored = files::read_bounded(&path, TRUSTED_BYTES_MAX).and_then(|bytes| {
            serde_json::from_slice::<Trusted>(&bytes)
                .map_err(|err| io::Error::new(io::ErrorKind::InvalidData, err))
        });
        match stored {
            Ok(stored) if stored.anchor == anchor => return Ok(stored.state),
            Ok(_) => tracing::warn!("the trust root was changed by provisioning; beginning anew"),
            Err(err) if err.kind() == io::ErrorKind::NotFound => {}
            Err(err) => {
                tracing::warn!(%err, path = %path.display(), "stored metadata is unusable; beginning anew");
            }
        }
        Ok(TrustedState::from_root(provisioned_root.as_bytes())?)
    }

    /// Stores what is believed now, if it changed.
    ///
    /// # Errors
    /// [`UpdateError::Store`]; the old state stays.
    pub fn keep_trusted(
        &self,
        provisioned_root: &str,
        state: &TrustedState,
    ) -> Result<(), UpdateError> {
        let path = self.root.join("trusted.json");
        let anchor = tuf::sha256_hex(provisioned_root.as_bytes());
        let bytes =
            serde_json::to_vec(&Trusted { anchor, state: state.clone() }).map_err(|err| {
                UpdateError::Tuf(TufError::Malformed {
                    file: "trusted.json".into(),
                    detail: err.to_string(),
                })
            })?;
        if files::read_bounded(&path, TRUSTED_BYTES_MAX).is_ok_and(|old| old == bytes) {
            return Ok(());
        }
        self.make_folders()?;
        self.writer.replace(&path, &bytes, 0o600).map_err(Self::error(&path))
    }

    /// The staged release, as remembered; whether its file is still there is the ESP's to say.
    pub fn staged(&self) -> Option<OnDisk> {
        let path = self.root.join("staged.json");
        let bytes = files::read_bounded(&path, STAGED_BYTES_MAX).ok()?;
        let staged: Staged = serde_json::from_slice(&bytes).ok()?;
        let release = Chosen { version: staged.version, uki: staged.uki };
        let source = if staged.existing { FlipSource::Existing } else { FlipSource::New };
        (staged.schema == STAGED_SCHEMA).then_some(OnDisk { release, source })
    }

    /// Remembers the staged release.
    ///
    /// # Errors
    /// [`UpdateError::Store`].
    pub fn keep_staged(&self, on_disk: OnDisk) -> Result<(), UpdateError> {
        let path = self.root.join("staged.json");
        let staged = Staged {
            schema: STAGED_SCHEMA,
            version: on_disk.release.version,
            uki: on_disk.release.uki,
            existing: on_disk.source == FlipSource::Existing,
        };
        self.make_folders()?;
        let bytes = serde_json::to_vec(&staged)
            .map_err(|err| UpdateError::Store { path: path.clone(), source: err.into() })?;
        self.writer.replace(&path, &bytes, 0o600).map_err(Self::error(&path))
    }

    /// Forgets the staged release.
    ///
    /// # Errors
    /// [`UpdateError::Store`].
    pub fn drop_staged(&self) -> Result<(), UpdateError> {
        self.remove(&self.root.join("staged.json"))
    }

    /// True when a content is there, by name and size. Its digest was checked when it came and is
    /// checked again when it is built in.
    pub fn has(&self, blob: &BlobRef) -> bool {
        self.blob(&blob.digest)
            .metadata()
            .is_ok_and(|meta| meta.is_file() && meta.len() == blob.size)
    }

    /// Removes a content that turned out damaged.
    ///
    /// # Errors
    /// [`UpdateError::Store`].
    pub fn remove_blob(&self, digest: &Digest) -> Result<(), UpdateError> {
        self.remove(&self.blob(digest))
    }

    /// Removes every content that is not in `wanted`, and what an interrupted download left.
    ///
    /// # Errors
    /// [`UpdateError::Store`].
    pub fn keep_only(&self, wanted: &[BlobRef]) -> Result<(), UpdateError> {
        let blobs = self.blobs();
        self.remove(&self.root.join("incoming"))?;
        self.remove_temporary()?;
        let wanted: BTreeSet<String> = wanted.iter().map(|blob| blob.digest.to_string()).collect();
        let entries = match std::fs::read_dir(&blobs) {
            Ok(entries) => entries,
            Err(err) if err.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(err) => return Err(Self::error(&blobs)(err)),
        };
        for entry in entries.flatten() {
            if !entry.file_name().to_str().is_some_and(|name| wanted.contains(name)) {
                self.remove(&entry.path())?;
            }
        }
        Ok(())
    }

    /// What a power cut left of files that were being replaced, `.NAME.PID.new`.
    fn remove_temporary(&self) -> Result<(), UpdateError> {
        for entry in std::fs::read_dir(&self.root).into_iter().flatten().flatten() {
            let name = entry.file_name();
            if name.to_str().is_some_and(|name| name.starts_with('.') && name.ends_with(".new")) {
                self.remove(&entry.path())?;
            }
        }
        Ok(())
    }

    /// Refuses early what would not fit.
    ///
    /// # Errors
    /// [`UpdateError::Space`] with the numbers.
    pub fn check_room(&self, needed_bytes: u64, spare_bytes: u64) -> Result<(), UpdateError> {
        self.make_folders()?;
        let failed = Self::error(&self.root);
        let needed_bytes = needed_bytes.saturating_add(spare_bytes);
        if free_bytes(&self.root).map_err(&failed)? >= needed_bytes {
            return Ok(());
        }
        // btrfs counts what was just deleted as free only once that is on the disk.
        self.writer.sync_all(&self.root).map_err(&failed)?;
        let free_bytes = free_bytes(&self.root).map_err(&failed)?;
        if free_bytes >= needed_bytes {
            return Ok(());
        }
        Err(UpdateError::Space { place: STATE, needed_bytes, free_bytes })
    }

    /// Writes a content as it comes, checks it and gives it its name. `moved` is told of every piece.
    ///
    /// # Errors
    /// [`UpdateError::Blob`] when it is not what its name says, [`UpdateError::Space`] or
    /// [`UpdateError::Store`] when it cannot be written; nothing of it stays.
    pub fn receive(
        &self,
        blob: &BlobRef,
        body: &mut dyn Read,
        moved: &mut dyn FnMut(u64),
    ) -> Result<Received<()>, UpdateError> {
        self.make_folders()?;
        let incoming = self.root.join("incoming");
        let received = self.receive_to(&incoming, blob, body, moved);
        if !matches!(received, Ok(Received::Whole(()))) {
            // The error that is reported says more than that its leftovers could not be removed.
            let _ = self.remove(&incoming);
        }
        match received {
            Err(UpdateError::Space { place, free_bytes, .. }) => {
                let needed_bytes = blob.size.saturating_add(SPARE_BYTES);
                Err(UpdateError::Space { place, needed_bytes, free_bytes })
            }
            other => other,
        }
    }

    fn receive_to(
        &self,
        incoming: &Path,
        blob: &BlobRef,
        body: &mut dyn Read,
        moved: &mut dyn FnMut(u64),
    ) -> Result<Received<()>, UpdateError> {
        let failed = Self::error(incoming);
        let wrong = |detail: String| UpdateError::Blob { digest: blob.digest, detail };
        let mut file = self.writer.create(incoming).map_err(&failed)?;
        let mut hasher = blake3::Hasher::new();
        let mut buffer = vec![0u8; CHUNK_BYTES];
        let mut got = 0u64;
        loop {
            let read = match body.read(&mut buffer) {
                Ok(0) => break,
                Ok(read) => read,
                Err(err) if err.kind() == io::ErrorKind::Interrupted => continue,
                Err(err) => return Ok(Received::Cut { got, detail: err.to_string() }),
            };
            let piece = buffer.get(..read).unwrap_or_default();
            got = got.saturating_add(u64::try_from(read).unwrap_or(u64::MAX));
            if got > blob.size {
                return Err(wrong(format!("it has more than its {} bytes", blob.size)));
            }
            hasher.update(piece);
            file.write_all(piece).map_err(&failed)?;
            moved(got);
        }
        if got < blob.size {
            return Ok(Received::Cut { got, detail: "the server ended it".into() });
        }
        let found = Digest(*hasher.finalize().as_bytes());
        if found != blob.digest {
            return Err(wrong(format!("its blake3 digest is {found}")));
        }
        file.sync().map_err(&failed)?;
        let path = self.blob(&blob.digest);
        self.writer.rename(incoming, &path).map_err(&failed)?;
        let blobs = self.blobs();
        self.writer.sync_folder(&blobs).map_err(Self::error(&blobs))?;
        Ok(Received::Whole(()))
    }
}

/// Contents that are written and checked, and get their names together: one flush for many.
#[derive(Debug)]
pub struct Batch<'s> {
    store: &'s Store,
    written: Vec<Digest>,
    bytes: u64,
}

impl Store {
    /// Begins a batch.
    ///
    /// # Errors
    /// [`UpdateError::Store`].
    pub fn batch(&self) -> Result<Batch<'_>, UpdateError> {
        self.make_folders()?;
        Ok(Batch { store: self, written: Vec::new(), bytes: 0 })
    }

    fn unnamed(&self, digest: &Digest) -> PathBuf {
        self.blobs().join(format!("new-{digest}"))
    }

    /// Opens a patch to write on where an earlier try ended.
    pub(crate) fn write_patch(&self, digest: &Digest) -> io::Result<Open> {
        self.writer.append(&self.patch(digest))
    }

    /// Where a patch is kept while it comes.
    pub(crate) fn patch(&self, digest: &Digest) -> PathBuf {
        self.root.join(format!("{PATCH_PREFIX}{digest}"))
    }

    /// Removes every patch but this one.
    ///
    /// # Errors
    /// [`UpdateError::Store`].
    pub(crate) fn drop_patches(&self, but: Option<&Digest>) -> Result<(), UpdateError> {
        let kept = but.map(|digest| self.patch(digest));
        for entry in std::fs::read_dir(&self.root).into_iter().flatten().flatten() {
            let path = entry.path();
            let is_patch =
                entry.file_name().to_str().is_some_and(|name| name.starts_with(PATCH_PREFIX));
            if is_patch && kept.as_ref() != Some(&path) {
                self.remove(&path)?;
            }
        }
        Ok(())
    }
}

impl Batch<'_> {
    /// Writes a content: `fill` writes all of it, in order. It is checked before it counts as written.
    ///
    /// # Errors
    /// [`UpdateError::Blob`] when it is not what its name says, what `fill` answers, [`UpdateError::Space`]
    /// or [`UpdateError::Store`]; nothing of it stays.
    pub fn put(
        &mut self,
        blob: &BlobRef,
        fill: &mut dyn FnMut(&mut dyn Write) -> Result<(), UpdateError>,
    ) -> Result<(), UpdateError> {
        let path = self.store.unnamed(&blob.digest);
        let put = self.put_to(&path, blob, fill);
        if put.is_err() {
            // The error that is reported says more.
            let _ = self.store.remove(&path);
            return put;
        }
        self.written.push(blob.digest);
        self.bytes = self.bytes.saturating_add(blob.size);
        if self.written.len() >= BATCH_MAX || self.bytes >= BATCH_BYTES_MAX {
            self.name()?;
        }
        Ok(())
    }

    fn put_to(
        &self,
        path: &Path,
        blob: &BlobRef,
        fill: &mut dyn FnMut(&mut dyn Write) -> Result<(), UpdateError>,
    ) -> Result<(), UpdateError> {
        let file = self.store.writer.create(path).map_err(Store::error(path))?;
        let mut out =
            Checked { file, hasher: blake3::Hasher::new(), left: blob.size, failed: None };
        let filled = fill(&mut out);
        if let Some(source) = out.failed {
            return Err(Store::error(path)(source));
        }
        filled?;
        let found = Digest(*out.hasher.finalize().as_bytes());
        if out.left > 0 || found != blob.digest {
            let detail = if out.left > 0 {
                format!("{} of its {} bytes are missing", out.left, blob.size)
            } else {
                format!("its blake3 digest is {found}")
            };
            return Err(UpdateError::Blob { digest: blob.digest, detail });
        }
        Ok(())
    }

    /// Makes what was written durable under its names.
    ///
    /// # Errors
    /// [`UpdateError::Store`].
    pub fn name(&mut self) -> Result<(), UpdateError> {
        if self.written.is_empty() {
            return Ok(());
        }
        let blobs = self.store.blobs();
        let failed = Store::error(&blobs);
        let writer = &self.store.writer;
        writer.sync_all(&blobs).map_err(&failed)?;
        for digest in self.written.drain(..) {
            writer
                .rename(&self.store.unnamed(&digest), &self.store.blob(&digest))
                .map_err(&failed)?;
        }
        self.bytes = 0;
        writer.sync_folder(&blobs).map_err(&failed)
    }
}

/// Hashes what it writes, and takes no more than it should.
struct Checked {
    file: Open,
    hasher: blake3::Hasher,
    left: u64,
    failed: Option<io::Error>,
}

impl Write for Checked {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let length = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        self.left = self.left.checked_sub(length).ok_or(io::ErrorKind::InvalidData)?;
        if let Err(err) = self.file.write_all(bytes) {
            let kind = err.kind();
            self.failed = Some(err);
            return Err(kind.into());
        }
        self.hasher.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Contents for Store {
    fn open(&mut self, digest: &Digest, _size: u64) -> io::Result<Box<dyn Read + '_>> {
        Ok(Box::new(File::open(self.blob(digest))?))
    }
}

/// Bytes that an unprivileged writer still finds on the file system of `path`.
pub fn free_bytes(path: &Path) -> io::Result<u64> {
    let stat = rustix::fs::statvfs(path)?;
    Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
}
