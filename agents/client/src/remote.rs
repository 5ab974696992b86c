//! A box's shares without any mount: listing, reading and writing files over one session.

use crate::boxes::{Boxes, BoxesError, KnownBox};
use crate::copy::{self, CopyError, Options, Source, Summary, Told};
use crate::dial::{self, DialError};
use goblin_core_ninep::Attr;
use goblin_core_ninep::client::{Client, ClientError, Entry, Fid, open};
use goblin_core_types::Greeting;
use goblin_tls::{Identity, Records, TlsStream};
use std::io::{self, Write};
use std::path::Path;
use std::time::Duration;

/// Message size asked for, in bytes.
const MSIZE_BYTES: u32 = crate::kernel::MSIZE_BYTES;
/// Longest wait for one answer.
const ANSWER_LIMIT: Duration = Duration::from_secs(60);
/// Longest listing of one directory in bytes.
const LISTING_BYTES_MAX: usize = 64 << 20;
/// Kind bits of a folder.
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
    /// The local end.
    #[error("this end: {0}")]
    Local(#[from] io::Error),
}

/// Connects to a box this PC is enrolled with.
///
/// # Errors
/// [`DialError`].
pub fn connect(known: &KnownBox, me: &Identity) -> Result<(TlsStream, Greeting), DialError> {
    let socket = dial::known(known)?;
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
    let socket = dial::known(known)?;
    dial::files_as(&known.address, &socket, me, known.key, Records::Kernel)
}

/// A share, attached.
#[derive(Debug)]
pub struct Remote {
    client: Client<TlsStream>,
    root: Fid,
    share: String,
    /// The box and the share, and this PC as the box knows it.
    place: String,
    me: String,
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
        let mut client = Client::connect_extended(stream, MSIZE_BYTES).map_err(failed)?;
        let root = client.attach(share, &known.user).map_err(failed)?;
        let place = format!("{}:{share}", known.key);
        Ok(Self { client, root, share: share.into(), place, me: known.client.clone() })
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
        let entries = self.client.read_dir_attr(&fid, LISTING_BYTES_MAX)?;
        self.client.clunk(fid)?;
        // One that was removed meanwhile has no attributes.
        let there = |(entry, attr): (Entry, Option<Attr>)| attr.map(|attr| (entry, attr));
        let mut out: Vec<(Entry, Attr)> = entries.into_iter().filter_map(there).collect();
        out.sort_by(|a, b| a.0.name.cmp(&b.0.name));
        Ok(out)
    }

    /// Writes the bytes of a file to `to`; answers how many.
    ///
    /// # Errors
    /// [`RemoteError`].
    pub fn print(&mut self, path: &str, to: &mut impl Write) -> Result<u64, RemoteError> {
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

    /// Copies a file or folder of the share here ([`copy::get`]).
    ///
    /// # Errors
    /// [`CopyError`].
    pub fn get(
        &mut self,
        path: &str,
        to: &Path,
        options: Options,
        told: Told<'_>,
    ) -> Result<Summary, CopyError> {
        let root = (&self.root, self.share.as_str());
        copy::get(&mut self.client, root, &self.place, path, to, options, told)
    }

    /// Copies a file or folder of this machine into the share ([`copy::put`]).
    ///
    /// # Errors
    /// [`CopyError`].
    pub fn put(
        &mut self,
        from: Source<'_>,
        path: &str,
        options: Options,
        told: Told<'_>,
    ) -> Result<Summary, CopyError> {
        copy::put(&mut self.client, &self.root, &self.me, from, path, options, told)
    }
}
