use crate::bytes::COPY_BYTES;
use crate::{cpio::CpioError, erofs::ErofsError, recipe::RecipeError, uki::UkiError};
use goblin_core_types::Digest;
use std::collections::BTreeMap;
use std::io::{self, Read, Write};

/// Gives the contents of files by their digest: a folder of blobs, a store, memory.
///
/// A source need not check what it gives: every writer of this crate compares size and blake3 digest
/// while it copies, and stops with [`BuildError`] at the first difference.
pub trait Contents {
    /// A reader over the content with this digest, of which exactly `size` bytes are wanted.
    ///
    /// # Errors
    /// Whatever keeps the source from giving it; `NotFound` when it does not hold the content.
    fn open(&mut self, digest: &Digest, size: u64) -> io::Result<Box<dyn Read + '_>>;
}

/// Why an image could not be built. Nothing that was written so far may be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// The output could not be written: full disk, broken device. The caller may try again.
    #[error("cannot write the image")]
    Write(#[source] io::Error),
    /// The source could not give a content.
    #[error("cannot read content {digest}")]
    Read {
        /// Content that was wanted.
        digest: Digest,
        /// The source's error.
        #[source]
        source: io::Error,
    },
    /// A content is shorter or longer than its tree entry says; it has to be fetched again.
    #[error("content {digest} should have {expected} bytes, but has {}{got}", if got > expected { "at least " } else { "" })]
    ContentSize {
        /// Content that was wanted.
        digest: Digest,
        /// Size that was promised, in bytes.
        expected: u64,
        /// Bytes that came.
        got: u64,
    },
    /// A content is not what its name says; it has to be fetched again.
    #[error("content {expected} is damaged: its blake3 digest is {got}")]
    ContentDigest {
        /// Digest that was wanted.
        expected: Digest,
        /// Digest of what came.
        got: Digest,
    },
    /// A part of the image wrote more or fewer bytes than were planned for it.
    #[error("`{part}` was planned with {planned} bytes, but {got} were written")]
    PartSize {
        /// Section or file.
        part: String,
        /// Bytes planned.
        planned: u64,
        /// Bytes written.
        got: u64,
    },
    /// The base tree does not fit the erofs format.
    #[error(transparent)]
    Erofs(#[from] ErofsError),
    /// The initramfs cannot be expressed as cpio.
    #[error(transparent)]
    Cpio(#[from] CpioError),
    /// The stub is not a PE image that sections can be added to.
    #[error(transparent)]
    Uki(#[from] UkiError),
    /// The recipe contradicts itself.
    #[error(transparent)]
    Recipe(#[from] RecipeError),
}

/// Copies a content of `size` bytes to `out` and checks size and digest.
pub(crate) fn copy_content<W: Write + ?Sized, C: Contents + ?Sized>(
    out: &mut W,
    contents: &mut C,
    digest: &Digest,
    size: u64,
) -> Result<(), BuildError> {
    let read_error = |source| BuildError::Read { digest: *digest, source };
    let mut reader = contents.open(digest, size).map_err(read_error)?;
    let mut buf = vec![0u8; COPY_BYTES];
    let mut hasher = blake3::Hasher::new();
    let mut got = 0u64;
    loop {
        let n = match reader.read(&mut buf) {
            Ok(0) => break,
            Ok(n) => n,
            Err(err) if err.kind() == io::ErrorKind::Interrupted => continue,
            Err(err) => return Err(read_error(err)),
        };
        got = got.saturating_add(n as u64);
        if got > size {
            // Checked before writing, so that a lying source cannot shift what follows.
            return Err(BuildError::ContentSize { digest: *digest, expected: size, got });
        }
        let piece = buf.get(..n).unwrap_or_default();
        hasher.update(piece);
        out.write_all(piece).map_err(BuildError::Write)?;
    }
    if got != size {
        return Err(BuildError::ContentSize { digest: *digest, expected: size, got });
    }
    let found = Digest(*hasher.finalize().as_bytes());
    if found != *digest {
        return Err(BuildError::ContentDigest { expected: *digest, got: found });
    }
    Ok(())
}

/// Contents held in memory; for small parts and tests.
#[derive(Debug, Default, Clone)]
pub struct MemoryContents {
    blobs: BTreeMap<Digest, Vec<u8>>,
}

impl MemoryContents {
    /// An empty source.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a content and gives its digest.
    pub fn insert(&mut self, bytes: impl Into<Vec<u8>>) -> Digest {
        let bytes = bytes.into();
        let digest = Digest(*blake3::hash(&bytes).as_bytes());
        self.blobs.insert(digest, bytes);
        digest
    }
}

impl Contents for MemoryContents {
    fn open(&mut self, digest: &Digest, _size: u64) -> io::Result<Box<dyn Read + '_>> {
        match self.blobs.get(digest) {
            Some(bytes) => Ok(Box::new(bytes.as_slice())),
            None => Err(io::Error::new(io::ErrorKind::NotFound, "no such content in memory")),
        }
    }
}
