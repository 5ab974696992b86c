//! A box's shares without any mount: listing, reading and writing files over one session.

use crate::boxes::{Boxes, BoxesError, KnownBox};
use crate::dial::{self, DialError};
use goblin_core_ninep::client::{Client, ClientError, Entry, Fid, open};
use goblin_core_ninep::{Attr, Errno};
use goblin_core_types::Greeting;
use goblin_tls::{Identity, Records, TlsStream};
use std::io::{self, Read, Write};
use std::time::Duration;

/// Message size asked for, in bytes.
const MSIZE_BYTES: u32 = crate::kernel::MSIZE_BYTES;
/// Longest wait for one answer.
const ANSWER_LIMIT: Duration = Duration::from_secs(60);
/// Longest listing of one directory in bytes.
const LISTING_BYTES_MAX: usize = 64 << 20;
/// Permission bits of new files.
const FILE_MODE: u32 = 0o644;
/// Access mode and kind bits.
const DIRECTORY: u32 = 0o040_000;

/// Why a file of a share cannot be worked with.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RemoteError {
    /// This PC's own files.
    #[error(transparent)]
    Boxes(#[from] BoxesError),
    /// No connection.
    #[error(transparent)]
    Dial(#[from] DialError),
    /// The box has no such share for this user.
    #[error("the box has no share `{share}` for this user; see `goblin shares {the_box}`")]
    NoShare {
        /// The share.
        share: String,
        /// The box.
        the_box: String,
    },
    /// The box says no.
    #[error("{path}: {source}")]
    File {
        /// Path in the share.
        path: String,
        /// What it said.
        source: ClientError,
    },
    /// The local end of a copy.
    #[error("the local file: {0}")]
    Local(#[from] io::Error),
}

/// Connects to a box this PC is enrolled with.
///
/// # Errors
/// [`DialError`].
pub fn connect(known: &KnownBox, me: &Identity) -> Result<(TlsStream, Greeting), DialError> {
    let socket = dial::tcp(&known.address)?;
    dial::files(&known.address, &socket, me, known.key)
}

/// As [`connect`], for a connection that the kernel is to carry on.
///
/// # Errors
/// [`DialError`].
pub fn connect_for_kernel(
    known: &KnownBox,
    me: &Identity,
) -> Result<(TlsStream, Greeting), DialError> {
    let socket = dial::tcp(&known.address)?;
    dial::files_as(&known.address, &socket, me, known.key, Records::Kernel)
}

/// A share, attached.
#[derive(Debug)]
pub struct Remote {
    client: Client<TlsStream>,
    root: Fid,
}

impl Remote {
    /// Attaches to a share of a box.
    ///
    /// # Errors
    /// [`RemoteError`].
    pub fn open(boxes: &Boxes, the_box: &str, share: &str) -> Result<Self, RemoteError> {
        let known = boxes.find(the_box)?;
        let (stream, greeting) = connect(known, &boxes.identity()?)?;
        if !greeting.shares.iter().any(|right| right.name == share) {
            return Err(RemoteError::NoShare { share: share.into(), the_box: the_box.into() });
        }
        stream.socket().set_limits(Some(ANSWER_LIMIT), Some(ANSWER_LIMIT))?;
        let failed = |source| RemoteError::File { path: share.into(), source };
        let mut client = Client::connect(stream, MSIZE_BYTES).map_err(failed)?;
        let root = client.attach(share, &known.user).map_err(failed)?;
        Ok(Self { client, root })
    }

    /// Entries of a directory with their attributes, or the one entry of a file, sorted by name.
    ///
    /// # Errors
    /// [`RemoteError::File`].
    pub fn list(&mut self, path: &str) -> Result<Vec<(Entry, Attr)>, RemoteError> {
        let failed = |source| RemoteError::File { path: path.into(), source };
        self.list_inner(path).map_err(failed)
    }

    fn list_inner(&mut self, path: &str) -> Result<Vec<(Entry, Attr)>, ClientError> {
        let fid = self.client.walk(&self.root, path)?;
        let attr = self.client.getattr(&fid)?;
        if attr.mode & 0o170_000 != DIRECTORY {
            self.client.clunk(fid)?;
            let name = path.rsplit('/').next().unwrap_or(path).as_bytes().to_vec();
            return Ok(vec![(Entry { qid: attr.qid, kind: 8, name }, attr)]);
        }
        self.client.open(&fid, open::READ | open::DIRECTORY)?;
        let mut entries = self.client.read_dir(&fid, LISTING_BYTES_MAX)?;
        self.client.clunk(fid)?;
        entries.retain(|entry| entry.name != b"." && entry.name != b"..");
        entries.sort_by(|a, b| a.name.cmp(&b.name));
        let dir = self.client.walk(&self.root, path)?;
        let mut out = Vec::new();
        for entry in entries {
            // One that was removed meanwhile is left out.
            let fid = match self.client.walk_names(&dir, &[&entry.name]) {
                Ok(fid) => fid,
                Err(ClientError::Refused(Errno::ENOENT)) => continue,
                Err(err) => return Err(err),
            };
            let attr = self.client.getattr(&fid);
            self.client.clunk(fid)?;
            out.push((entry, attr?));
        }
        self.client.clunk(dir)?;
        Ok(out)
    }

    /// Copies a file of the share into `to`; answers its bytes.
    ///
    /// # Errors
    /// [`RemoteError`].
    pub fn get(&mut self, path: &str, to: &mut impl Write) -> Result<u64, RemoteError> {
        let failed = |source| RemoteError::File { path: path.into(), source };
        let fid = self.client.walk(&self.root, path).map_err(failed)?;
        self.client.open(&fid, open::READ).map_err(failed)?;
        let mut offset = 0u64;
        loop {
            let part = self.client.read(&fid, offset, u32::MAX).map_err(failed)?;
            if part.is_empty() {
                break;
            }
            to.write_all(part)?;
            offset = offset.saturating_add(u64::try_from(part.len()).unwrap_or(0));
        }
        self.client.clunk(fid).map_err(failed)?;
        Ok(offset)
    }

    /// Copies `from` into a file of the share, which is on the box's disks when this returns. The file gets
    /// its name only when it is whole.
    ///
    /// # Errors
    /// [`RemoteError`]; the old file of that name is then still there.
    pub fn put(&mut self, from: &mut impl Read, path: &str) -> Result<u64, RemoteError> {
        let failed = |source| RemoteError::File { path: path.into(), source };
        let (dir, name) = path.rsplit_once('/').unwrap_or(("", path));
        let parent = self.client.walk(&self.root, dir).map_err(failed)?;
        let part = format!(".{name}.part-{}", std::process::id());
        let fid = self.client.walk(&self.root, dir).map_err(failed)?;
        let flags = open::WRITE | open::TRUNCATE;
        self.client.create(&fid, part.as_bytes(), flags, FILE_MODE).map_err(failed)?;
        let written = self.fill(&fid, from).map_err(|err| match err {
            Fill::Local(err) => RemoteError::Local(err),
            Fill::Remote(source) => failed(source),
        });
        self.client.clunk(fid).map_err(failed)?;
        let named = written.and_then(|bytes| {
            let (from, to) = ((&parent, part.as_bytes()), (&parent, name.as_bytes()));
            self.client.rename(from, to).map_err(failed)?;
            Ok(bytes)
        });
        if named.is_err() {
            // The first error is the one to report.
            let _ = self.client.unlink(&parent, part.as_bytes(), 0);
        }
        self.client.clunk(parent).map_err(failed)?;
        named
    }

    fn fill(&mut self, fid: &Fid, from: &mut impl Read) -> Result<u64, Fill> {
        let room = usize::try_from(self.client.payload_max()).unwrap_or(4096);
        let mut chunk = vec![0; room];
        let mut offset = 0u64;
        loop {
            let got = from.read(&mut chunk).map_err(Fill::Local)?;
            let Some(part) = chunk.get(..got).filter(|part| !part.is_empty()) else { break };
            self.client.write_all(fid, offset, part).map_err(Fill::Remote)?;
            offset = offset.saturating_add(u64::try_from(got).unwrap_or(0));
        }
        self.client.fsync(fid).map_err(Fill::Remote)?;
        Ok(offset)
    }
}

enum Fill {
    Local(io::Error),
    Remote(ClientError),
}
