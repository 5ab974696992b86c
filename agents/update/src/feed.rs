//! Release files from board to board: the compute board fetches once and feeds the storage board, which then
//! needs no way out of the box.
//!
//! ```text
//! storage: Fetcher -> OtherBoard -> its control tree ==9P==> compute's control tree -> RELEASES_SOCKET
//!                                                                                       -> Feeder
//! Feeder: contents by digest from the store, else from the system that runs, else from where the compute
//!         board fetches itself; small files of the repository from there alone.
//! ```
//! Neither believes the other: the storage board checks what comes as if a stranger had sent it.

use crate::esp::Esp;
use crate::fetch::Fetcher;
use crate::held::Held;
use crate::origin::{OpenError, Opened, Origin, Piece};
use crate::store::Store;
use goblin_core_manifest::release::{BLOB_BYTES_MAX, MANIFEST_BYTES_MAX, blob_path};
use goblin_core_types::{ReleasesReply, ReleasesRequest, Version, WantedContent};
use goblin_image::Contents;
use goblin_image::recipe::BlobRef;
use std::io::{self, Read, Write};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// Most contents of one request: their digests fit the longest line of a conversation.
pub const CONTENTS_MAX: usize = 256;
/// Longest first line of an answer in bytes.
const HEAD_BYTES_MAX: usize = 4096;

/// Gives release files to the storage board.
#[derive(Debug)]
pub struct Feeder {
    store: Store,
    base: PathBuf,
    esp: Esp,
    running: Version,
    /// Where it gets what is not on this board.
    upstream: Mutex<Option<Fetcher>>,
}

impl Feeder {
    pub(crate) fn new(store: Store, base: PathBuf, esp: Esp, running: Version) -> Self {
        Self { store, base, esp, running, upstream: Mutex::default() }
    }

    /// Says where to get what is not on this board.
    pub(crate) fn lend(&self, upstream: Option<Fetcher>) {
        *self.upstream.lock().unwrap_or_else(PoisonError::into_inner) = upstream;
    }

    fn upstream(&self) -> Option<Fetcher> {
        self.upstream.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Answers one request: a [`ReleasesReply`] line, and after [`ReleasesReply::Bytes`] so many bytes.
    ///
    /// # Errors
    /// Whatever the asker's connection says; and when a content cannot be had after all, for then there is no
    /// other way to say so than to end early.
    pub fn answer(&self, line: &[u8], out: &mut dyn Write) -> io::Result<()> {
        match serde_json::from_slice::<ReleasesRequest>(line) {
            Ok(ReleasesRequest::File { path, bytes_max }) => self.file(&path, bytes_max, out),
            Ok(ReleasesRequest::Contents { contents }) => self.contents(&contents, out),
            Err(err) => failed(out, format!("the request cannot be read: {err}")),
        }
    }

    fn file(&self, path: &str, bytes_max: u64, out: &mut dyn Write) -> io::Result<()> {
        // It becomes part of an address.
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | '+' | '/');
        if !crate::origin::is_plain(path) || !path.chars().all(plain) {
            return failed(out, "that is no path inside a repository".into());
        }
        let Some(upstream) = self.upstream() else {
            return failed(out, "the compute board has no update source".into());
        };
        match upstream.read_if_there(path, bytes_max.min(MANIFEST_BYTES_MAX)) {
            Ok(Some(bytes)) => {
                head(out, &ReleasesReply::Bytes { bytes: length(bytes.len()) })?;
                out.write_all(&bytes)
            }
            Ok(None) => head(out, &ReleasesReply::Absent),
            Err(err) => failed(out, err.to_string()),
        }
    }

    fn contents(&self, wanted: &[WantedContent], out: &mut dyn Write) -> io::Result<()> {
        let too_large = wanted.iter().any(|content| content.size > BLOB_BYTES_MAX);
        if wanted.len() > CONTENTS_MAX || too_large {
            return failed(out, format!("ask for at most {CONTENTS_MAX} contents of a release"));
        }
        let blob = |content: &WantedContent| BlobRef { digest: content.digest, size: content.size };
        let blobs: Vec<BlobRef> = wanted.iter().map(blob).collect();
        let elsewhere = blobs.iter().filter(|blob| !self.store.has(blob)).map(|blob| blob.size);
        let elsewhere: std::collections::BTreeSet<u64> = elsewhere.collect();
        let mut held = Held::default();
        if !elsewhere.is_empty() {
            let slots = self.esp.slots(self.running).unwrap_or_default();
            let uki = slots.iter().find(|slot| slot.running).map(|slot| self.esp.path(&slot.file));
            held = Held::list(&self.base, uki.as_deref());
            held.read_sizes(&elsewhere);
        }
        let bytes = blobs.iter().fold(0u64, |sum, blob| sum.saturating_add(blob.size));
        head(out, &ReleasesReply::Bytes { bytes })?;
        blobs.iter().try_for_each(|blob| self.content(blob, &held, out))
    }

    fn content(&self, blob: &BlobRef, held: &Held, out: &mut dyn Write) -> io::Result<()> {
        let copied = if self.store.has(blob) {
            let mut store = self.store.clone();
            let from = store.open(&blob.digest, blob.size)?;
            io::copy(&mut from.take(blob.size), out)?
        } else if held.has(&blob.digest, blob.size) {
            io::copy(&mut held.open(&blob.digest)?, out)?
        } else {
            let upstream = self.upstream().ok_or(io::ErrorKind::NotFound)?;
            io::copy(&mut upstream.pull(&blob_path(&blob.digest), 0, blob.size), out)?
        };
        if copied == blob.size { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
    }
}

fn head(out: &mut dyn Write, reply: &ReleasesReply) -> io::Result<()> {
    let mut line = serde_json::to_vec(reply)?;
    line.push(b'\n');
    out.write_all(&line)
}

fn failed(out: &mut dyn Write, mut message: String) -> io::Result<()> {
    message.truncate(message.floor_char_boundary(HEAD_BYTES_MAX / 8));
    head(out, &ReleasesReply::Failed { message })
}

fn length(bytes: usize) -> u64 {
    u64::try_from(bytes).unwrap_or(u64::MAX)
}

/// A way to a [`Feeder`].
pub trait Ask: Send + Sync + std::fmt::Debug {
    /// Sends one line; what comes back is [`Feeder::answer`]'s.
    ///
    /// # Errors
    /// [`OpenError`].
    fn ask(&self, line: &[u8]) -> Result<Box<dyn Read + Send>, OpenError>;
}

/// The other board as a place where a repository lies.
#[derive(Debug)]
pub struct OtherBoard(pub Arc<dyn Ask>);

impl OtherBoard {
    fn ask(&self, request: &ReleasesRequest, requests: &AtomicU64) -> Result<Opened, OpenError> {
        requests.fetch_add(1, Ordering::Relaxed);
        let line = serde_json::to_vec(request).map_err(|err| OpenError::Final(err.to_string()))?;
        let mut from = self.0.ask(&line)?;
        let broken = |err: io::Error| OpenError::Again(err.to_string());
        let mut head = Vec::new();
        let mut byte = [0u8; 1];
        loop {
            match from.read(&mut byte).map_err(broken)? {
                0 => return Err(OpenError::Again("it ended without a word".into())),
                _ if byte == *b"\n" => break,
                _ if head.len() >= HEAD_BYTES_MAX => {
                    return Err(OpenError::Final("its answer cannot be understood".into()));
                }
                _ => head.extend_from_slice(&byte),
            }
        }
        match serde_json::from_slice(&head) {
            Ok(ReleasesReply::Bytes { bytes }) => {
                Ok(Opened { body: Box::new(Exact { from, left: bytes }) })
            }
            Ok(ReleasesReply::Absent) => Err(OpenError::Absent),
            Ok(ReleasesReply::Failed { message }) => Err(OpenError::Final(message)),
            Err(err) => Err(OpenError::Final(format!("its answer cannot be understood: {err}"))),
        }
    }
}

impl Origin for OtherBoard {
    fn open(&self, path: &str, piece: Piece, requests: &AtomicU64) -> Result<Opened, OpenError> {
        if piece.bytes.is_some() {
            // Packs and patches; contents are there one by one, without the network between.
            return Err(OpenError::Absent);
        }
        let request = ReleasesRequest::File { path: path.into(), bytes_max: piece.bytes_max };
        self.ask(&request, requests)
    }

    fn address(&self, path: &str) -> String {
        format!("the compute board: {path}")
    }

    fn contents_max(&self) -> usize {
        CONTENTS_MAX
    }

    fn contents(&self, wanted: &[BlobRef], requests: &AtomicU64) -> Result<Opened, OpenError> {
        let content = |blob: &BlobRef| WantedContent { digest: blob.digest, size: blob.size };
        let contents = wanted.iter().map(content).collect();
        self.ask(&ReleasesRequest::Contents { contents }, requests)
    }
}

/// So many bytes, or an error.
struct Exact {
    from: Box<dyn Read + Send>,
    left: u64,
}

impl Read for Exact {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        let Some(piece) = buffer.get_mut(..most).filter(|piece| !piece.is_empty()) else {
            return Ok(0);
        };
        match self.from.read(piece)? {
            0 => Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the other board ended it")),
            read => {
                self.left = self.left.saturating_sub(length(read));
                Ok(read)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct Says(&'static [u8]);

    impl Ask for Says {
        fn ask(&self, _: &[u8]) -> Result<Box<dyn Read + Send>, OpenError> {
            Ok(Box::new(self.0))
        }
    }

    fn open(says: &'static [u8]) -> Result<Vec<u8>, OpenError> {
        let piece = Piece { at: 0, bytes: None, bytes_max: 100 };
        let mut opened = OtherBoard(Arc::new(Says(says))).open("x", piece, &AtomicU64::new(0))?;
        let mut bytes = Vec::new();
        let read = opened.body.read_to_end(&mut bytes);
        read.map(|_| bytes).map_err(|err| OpenError::Again(err.to_string()))
    }

    #[test]
    fn an_answer_is_whole_or_an_error() {
        assert_eq!(open(b"{\"re\":\"bytes\",\"bytes\":3}\nabcdef").unwrap(), b"abc");
        assert_eq!(open(b"{\"re\":\"bytes\",\"bytes\":0}\n").unwrap(), b"");
        assert!(matches!(open(b"{\"re\":\"bytes\",\"bytes\":3}\nab"), Err(OpenError::Again(_))));
        assert_eq!(open(b"{\"re\":\"absent\"}\n"), Err(OpenError::Absent));
        assert!(matches!(open(b""), Err(OpenError::Again(_))));
        assert!(matches!(open(b"{\"re\":\"later\"}\n"), Err(OpenError::Final(_))));
        assert!(matches!(open(&[b'x'; 5000]), Err(OpenError::Final(_))));
    }

    #[test]
    fn paths_that_lead_elsewhere_are_not_asked_for() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::new(dir.path().into());
        let esp = Esp::new(dir.path().into(), crate::esp::Guard::Writable);
        let feeder = Feeder::new(store, dir.path().into(), esp, Version::new(1, 0, 0));
        std::fs::write(dir.path().join("file"), b"abc").unwrap();
        let repository = dir.path().to_str().unwrap();
        feeder.lend(Some(Fetcher::new(repository, std::time::Duration::ZERO)));
        let answer = |line: &str| {
            let mut out = Vec::new();
            feeder.answer(line.as_bytes(), &mut out).unwrap();
            String::from_utf8(out).unwrap()
        };
        let file = |path: &str| {
            answer(&format!("{{\"op\":\"file\",\"path\":\"{path}\",\"bytes_max\":100}}"))
        };
        assert_eq!(file("file"), "{\"re\":\"bytes\",\"bytes\":3}\nabc");
        assert_eq!(file("none"), "{\"re\":\"absent\"}\n");
        for bad in ["../file", "/etc/passwd", "a//b", "a?b", "a b", ""] {
            assert!(file(bad).contains("no path"), "{bad}");
        }
        assert!(answer("nonsense").contains("cannot be read"));
    }
}
