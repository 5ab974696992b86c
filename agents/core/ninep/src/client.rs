//! A simple client: one request at a time over any stream.
//!
//! Limits: a reply is never larger than the agreed msize, a tree is listed and read only up to the limit
//! the caller names. Time limits are the stream's (`set_read_timeout`): after one has passed the client
//! must be dropped, since the reply may still come.

use crate::message::{
    HEADER_BYTES, NO_FID, NO_TAG, Reply, Request, VERSION_9P2000L, VERSION_GOB1, lock,
};
use crate::wire::{Data, Reader, WireError};
use crate::{Attr, DirEntry, Errno, MSIZE_MIN, Names, Qid, SetAttr, WALK_NAMES_MAX};
use std::io::{self, Read, Write};

mod extended;

pub use extended::{NewFile, Op, Series};

/// Flags of `open(2)` for [`Client::open`].
pub mod open {
    /// Read only.
    pub const READ: u32 = 0;
    /// Write only.
    pub const WRITE: u32 = 1;
    /// Read and write.
    pub const READ_WRITE: u32 = 2;
    /// Only a file that was not there, for [`Client::create`](super::Client::create).
    pub const EXCLUSIVE: u32 = 0o200;
    /// Cut to no bytes.
    pub const TRUNCATE: u32 = 0o1000;
    /// Only a directory.
    pub const DIRECTORY: u32 = 0o200_000;
}

/// Why a request failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// The stream failed or ended: connect again.
    #[error("the connection failed: {0}")]
    Io(#[from] io::Error),
    /// The server refused; the session goes on.
    #[error("the server refused: {0}")]
    Refused(Errno),
    /// The server's bytes are not an answer to the request: drop the connection.
    #[error("the server does not speak 9P2000.L: {0}")]
    Wire(#[from] WireError),
    /// The server answered something else than it was asked: drop the connection.
    #[error("the server answered {got} instead of {wanted}")]
    Unexpected {
        /// Reply that was wanted.
        wanted: &'static str,
        /// Reply that came.
        got: &'static str,
    },
    /// The server offers another dialect.
    #[error("the server offers `{offered}`, not 9P2000.L")]
    Version {
        /// What it offered.
        offered: String,
    },
    /// More bytes than the caller allows.
    #[error("more than the {limit} bytes allowed")]
    TooLong {
        /// The caller's limit.
        limit: usize,
    },
}

impl ClientError {
    /// The number to hand on to whoever asked for the file.
    pub fn errno(self) -> Errno {
        match self {
            Self::Io(err) => err.into(),
            Self::Refused(errno) => errno,
            Self::TooLong { .. } => Errno::EFBIG,
            Self::Wire(_) | Self::Unexpected { .. } | Self::Version { .. } => Errno::EPROTO,
        }
    }
}

/// A file handle of a [`Client`]. Give it back with [`Client::clunk`]; one that is dropped stays in use on
/// the server until the connection ends.
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct Fid(u32);

/// A directory entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Identity.
    pub qid: Qid,
    /// `d_type` of `getdents(2)`.
    pub kind: u8,
    /// Name.
    pub name: Vec<u8>,
}

/// A session with a server.
#[derive(Debug)]
pub struct Client<S> {
    stream: S,
    msize: u32,
    /// Whether [`gob1`](crate::gob1) is spoken.
    extended: bool,
    next_fid: u32,
    free_fids: Vec<u32>,
    out: Vec<u8>,
    frame: Vec<u8>,
}

/// One request, one matching reply.
macro_rules! ask {
    ($client:expr, $request:expr, $reply:ident { $($field:ident),* }) => {
        match $client.ask(&$request)? {
            Reply::$reply { $($field),* } => Ok(($($field),*)),
            other => Err(ClientError::Unexpected { wanted: stringify!($reply), got: other.name() }),
        }
    };
}

impl<S: Read + Write> Client<S> {
    /// Opens a session with messages of at most `msize` bytes (at least [`MSIZE_MIN`]).
    ///
    /// # Errors
    /// [`ClientError::Version`] when the server speaks another dialect.
    pub fn connect(stream: S, msize: u32) -> Result<Self, ClientError> {
        let mut client = Self::unversioned(stream, msize);
        client.agree(&[VERSION_9P2000L])?;
        Ok(client)
    }

    /// As [`connect`](Self::connect), and speaks [`gob1`](crate::gob1) where the server does.
    ///
    /// # Errors
    /// As [`connect`](Self::connect).
    pub fn connect_extended(stream: S, msize: u32) -> Result<Self, ClientError> {
        let mut client = Self::unversioned(stream, msize);
        client.agree(&[VERSION_GOB1, VERSION_9P2000L])?;
        Ok(client)
    }

    fn unversioned(stream: S, msize: u32) -> Self {
        Self {
            stream,
            msize: msize.max(MSIZE_MIN),
            extended: false,
            next_fid: 0,
            free_fids: Vec::new(),
            out: Vec::new(),
            frame: Vec::new(),
        }
    }

    /// Offers one dialect after the other until the server takes one.
    fn agree(&mut self, dialects: &[&[u8]]) -> Result<(), ClientError> {
        let msize = self.msize;
        let mut offered = String::new();
        for dialect in dialects {
            let request = Request::Version { msize, version: dialect };
            let (agreed, version) = match self.exchange(NO_TAG, &request)? {
                Reply::Version { msize, version } => (msize, version.to_vec()),
                other => {
                    return Err(ClientError::Unexpected { wanted: "Version", got: other.name() });
                }
            };
            let known = version == VERSION_9P2000L || version == *dialect;
            if known && agreed >= MSIZE_MIN {
                self.msize = msize.min(agreed);
                self.extended = version == VERSION_GOB1;
                return Ok(());
            }
            offered = String::from_utf8_lossy(&version).chars().take(40).collect();
        }
        Err(ClientError::Version { offered })
    }

    /// True when [`gob1`](crate::gob1) is spoken.
    pub const fn is_extended(&self) -> bool {
        self.extended
    }

    /// Largest message of the session in bytes.
    pub const fn msize(&self) -> u32 {
        self.msize
    }

    /// The stream, for its time limits.
    pub const fn stream(&self) -> &S {
        &self.stream
    }

    fn ask(&mut self, request: &Request<'_>) -> Result<Reply<'_>, ClientError> {
        self.exchange(0, request)
    }

    fn exchange(&mut self, tag: u16, request: &Request<'_>) -> Result<Reply<'_>, ClientError> {
        self.out.clear();
        request.encode(tag, &mut self.out);
        if u32::try_from(self.out.len()).map_or(true, |len| len > self.msize) {
            return Err(ClientError::Refused(Errno::EMSGSIZE));
        }
        self.stream.write_all(&self.out)?;
        self.stream.flush()?;
        let mut size = [0u8; 4];
        self.stream.read_exact(&mut size)?;
        let says = u32::from_le_bytes(size);
        let length = usize::try_from(says).unwrap_or(usize::MAX);
        if says > self.msize || length < HEADER_BYTES {
            return Err(WireError::Size { says, got: 0 }.into());
        }
        self.frame.clear();
        self.frame.extend_from_slice(&size);
        self.frame.resize(length, 0);
        self.stream.read_exact(self.frame.get_mut(size.len()..).unwrap_or(&mut []))?;
        let (got, reply) = Reply::decode(&self.frame)?;
        match reply {
            _ if got != tag => Err(ClientError::Unexpected { wanted: "own tag", got: "other tag" }),
            Reply::Error { ecode } => Err(ClientError::Refused(Errno(ecode))),
            reply => Ok(reply),
        }
    }

    fn new_fid(&mut self) -> u32 {
        self.free_fids.pop().unwrap_or_else(|| {
            let fid = self.next_fid;
            self.next_fid = self.next_fid.saturating_add(1);
            fid
        })
    }

    /// Keeps the number when the server bound it, frees it otherwise.
    fn settle(&mut self, fid: u32, result: Result<(), ClientError>) -> Result<Fid, ClientError> {
        if result.is_err() {
            self.free_fids.push(fid);
        }
        result.map(|()| Fid(fid))
    }

    /// Attaches to the tree `aname`.
    ///
    /// # Errors
    /// `Refused(ENOENT)` when the server has no such tree.
    pub fn attach(&mut self, aname: &str, uname: &str) -> Result<Fid, ClientError> {
        let fid = self.new_fid();
        let request = Request::Attach {
            fid,
            afid: NO_FID,
            uname: uname.as_bytes(),
            aname: aname.as_bytes(),
            n_uname: u32::MAX,
        };
        let result = ask!(self, request, Attach { qid }).map(|_| ());
        self.settle(fid, result)
    }

    /// Walks along `names`, any number of them; none copies the fid.
    ///
    /// # Errors
    /// `Refused(ENOENT)` when a name is not there.
    pub fn walk_names(&mut self, from: &Fid, names: &[&[u8]]) -> Result<Fid, ClientError> {
        let (first, mut rest) = names.split_at(names.len().min(WALK_NAMES_MAX));
        let fid = self.new_fid();
        let result = self.walk_once(from.0, fid, first);
        let own = self.settle(fid, result)?;
        while !rest.is_empty() {
            let (part, after) = rest.split_at(rest.len().min(WALK_NAMES_MAX));
            if let Err(err) = self.walk_once(own.0, own.0, part) {
                // The first error is the one that explains; the fid is free either way.
                let _ = self.clunk(own);
                return Err(err);
            }
            rest = after;
        }
        Ok(own)
    }

    /// Walks along a path of names joined by slashes; empty ones are skipped.
    ///
    /// # Errors
    /// As [`walk_names`](Self::walk_names).
    pub fn walk(&mut self, from: &Fid, path: &str) -> Result<Fid, ClientError> {
        let names: Vec<&[u8]> =
            path.split('/').filter(|name| !name.is_empty()).map(str::as_bytes).collect();
        self.walk_names(from, &names)
    }

    fn walk_once(&mut self, fid: u32, newfid: u32, names: &[&[u8]]) -> Result<(), ClientError> {
        let wanted = names.len();
        let names = Names::new(names).unwrap_or(Names::NONE);
        let qids = ask!(self, Request::Walk { fid, newfid, names }, Walk { qids })?;
        // The server stopped at a name that is not there, and bound nothing.
        if qids.len() == wanted { Ok(()) } else { Err(ClientError::Refused(Errno::ENOENT)) }
    }

    /// Opens a fid with flags of [`open`].
    ///
    /// # Errors
    /// What the server says; `EHOSTDOWN` and `ETIMEDOUT` when it speaks for a board out of reach.
    pub fn open(&mut self, fid: &Fid, flags: u32) -> Result<Qid, ClientError> {
        ask!(self, Request::Lopen { fid: fid.0, flags }, Lopen { qid, iounit }).map(|(qid, _)| qid)
    }

    /// Creates and opens a file in the directory `fid`, which then stands for the file.
    ///
    /// # Errors
    /// What the server says.
    pub fn create(
        &mut self,
        fid: &Fid,
        name: &[u8],
        flags: u32,
        mode: u32,
    ) -> Result<Qid, ClientError> {
        let request = Request::Lcreate { fid: fid.0, name, flags, mode, gid: 0 };
        ask!(self, request, Lcreate { qid, iounit }).map(|(qid, _)| qid)
    }

    /// Makes a directory.
    ///
    /// # Errors
    /// What the server says.
    pub fn mkdir(&mut self, dir: &Fid, name: &[u8], mode: u32) -> Result<Qid, ClientError> {
        ask!(self, Request::Mkdir { dfid: dir.0, name, mode, gid: 0 }, Mkdir { qid })
    }

    /// Makes a symbolic link.
    ///
    /// # Errors
    /// What the server says.
    pub fn symlink(&mut self, dir: &Fid, name: &[u8], target: &[u8]) -> Result<Qid, ClientError> {
        ask!(self, Request::Symlink { fid: dir.0, name, target, gid: 0 }, Symlink { qid })
    }

    /// Where a symbolic link points to.
    ///
    /// # Errors
    /// What the server says.
    pub fn read_link(&mut self, link: &Fid) -> Result<Vec<u8>, ClientError> {
        ask!(self, Request::Readlink { fid: link.0 }, Readlink { target }).map(<[u8]>::to_vec)
    }

    /// Takes the lock of a whole open file without waiting; false while somebody else holds it. It ends with the fid.
    ///
    /// # Errors
    /// What the server says.
    pub fn try_lock(&mut self, fid: &Fid) -> Result<bool, ClientError> {
        let request = Request::Lock {
            fid: fid.0,
            kind: lock::WRITE,
            flags: 0,
            start: 0,
            length: 0,
            proc_id: 0,
            client_id: b"",
        };
        match ask!(self, request, Lock { status })? {
            lock::SUCCESS => Ok(true),
            lock::BLOCKED => Ok(false),
            lock::GRACE => Err(ClientError::Refused(Errno::EAGAIN)),
            _ => Err(ClientError::Refused(Errno::EIO)),
        }
    }

    /// Removes a name; a directory when `flags` hold `AT_REMOVEDIR` (0x200).
    ///
    /// # Errors
    /// What the server says.
    pub fn unlink(&mut self, dir: &Fid, name: &[u8], flags: u32) -> Result<(), ClientError> {
        ask!(self, Request::Unlinkat { dirfid: dir.0, name, flags }, Unlinkat {})
    }

    /// Moves a name.
    ///
    /// # Errors
    /// What the server says.
    pub fn rename(&mut self, from: (&Fid, &[u8]), to: (&Fid, &[u8])) -> Result<(), ClientError> {
        let request = Request::Renameat {
            olddirfid: from.0.0,
            oldname: from.1,
            newdirfid: to.0.0,
            newname: to.1,
        };
        ask!(self, request, Renameat {})
    }

    /// Reads at most `count` bytes, as many as one message carries; none at the end of the file.
    ///
    /// # Errors
    /// What the server says.
    pub fn read(&mut self, fid: &Fid, offset: u64, count: u32) -> Result<&[u8], ClientError> {
        let count = count.min(self.payload_max());
        let data = ask!(self, Request::Read { fid: fid.0, offset, count }, Read { data })?;
        if u32::try_from(data.0.len()).is_ok_and(|got| got <= count) {
            Ok(data.0)
        } else {
            Err(ClientError::Unexpected { wanted: "Read", got: "longer Read" })
        }
    }

    /// Most bytes that one read or write carries.
    pub const fn payload_max(&self) -> u32 {
        self.msize.saturating_sub(24)
    }

    /// Reads an open file to its end.
    ///
    /// # Errors
    /// [`ClientError::TooLong`] beyond `bytes_max`.
    pub fn read_to_end(&mut self, fid: &Fid, bytes_max: usize) -> Result<Vec<u8>, ClientError> {
        self.read_on(fid, Vec::new(), bytes_max)
    }

    /// Reads what comes after `all`, the beginning of an open file.
    fn read_on(
        &mut self,
        fid: &Fid,
        mut all: Vec<u8>,
        bytes_max: usize,
    ) -> Result<Vec<u8>, ClientError> {
        loop {
            let offset = u64::try_from(all.len()).unwrap_or(u64::MAX);
            let part = self.read(fid, offset, u32::MAX)?;
            if part.is_empty() {
                return Ok(all);
            }
            if all.len().saturating_add(part.len()) > bytes_max {
                return Err(ClientError::TooLong { limit: bytes_max });
            }
            all.extend_from_slice(part);
        }
    }

    /// Opens, reads and closes the file at `path` below `root`.
    ///
    /// # Errors
    /// [`ClientError::TooLong`] beyond `bytes_max`; what the server says.
    pub fn read_file(
        &mut self,
        root: &Fid,
        path: &str,
        bytes_max: usize,
    ) -> Result<Vec<u8>, ClientError> {
        if let Some(result) = self.read_file_extended(root, path, bytes_max) {
            return result;
        }
        let fid = self.walk(root, path)?;
        let result = self.open(&fid, open::READ).and_then(|_| self.read_to_end(&fid, bytes_max));
        let clunked = self.clunk(fid);
        result.and_then(|bytes| clunked.map(|()| bytes))
    }

    /// Opens the conversation at `path` below `root` and sends `line`, to which a newline is added. Read
    /// the reply with [`read`](Self::read) until no bytes come, then [`clunk`](Self::clunk).
    ///
    /// # Errors
    /// What the server says.
    pub fn converse(&mut self, root: &Fid, path: &str, line: &[u8]) -> Result<Fid, ClientError> {
        let fid = self.walk(root, path)?;
        let mut bytes = line.to_vec();
        bytes.push(b'\n');
        let sent = self.open(&fid, open::READ_WRITE).and_then(|_| self.write_all(&fid, 0, &bytes));
        match sent {
            Ok(()) => Ok(fid),
            Err(err) => {
                // The first error is the one that explains.
                let _ = self.clunk(fid);
                Err(err)
            }
        }
    }

    /// Writes as many bytes as one message carries; answers how many were taken.
    ///
    /// # Errors
    /// What the server says.
    pub fn write(&mut self, fid: &Fid, offset: u64, data: &[u8]) -> Result<u32, ClientError> {
        let room = usize::try_from(self.payload_max()).unwrap_or(0).min(data.len());
        let data = Data(data.get(..room).unwrap_or(data));
        let count = ask!(self, Request::Write { fid: fid.0, offset, data }, Write { count })?;
        if usize::try_from(count).is_ok_and(|count| count <= room) {
            Ok(count)
        } else {
            Err(ClientError::Unexpected { wanted: "Write", got: "longer Write" })
        }
    }

    /// Writes all bytes.
    ///
    /// # Errors
    /// What the server says; some bytes may then be written. `EIO` when it takes none.
    pub fn write_all(
        &mut self,
        fid: &Fid,
        mut offset: u64,
        mut data: &[u8],
    ) -> Result<(), ClientError> {
        while !data.is_empty() {
            let count = self.write(fid, offset, data)?;
            if count == 0 {
                return Err(ClientError::Refused(Errno::EIO));
            }
            offset = offset.saturating_add(u64::from(count));
            data = data.get(usize::try_from(count).unwrap_or(data.len())..).unwrap_or(&[]);
        }
        Ok(())
    }

    /// Lists an open directory, without `.` and `..`.
    ///
    /// # Errors
    /// [`ClientError::TooLong`] beyond `bytes_max` bytes of names and fixed parts.
    pub fn read_dir(&mut self, fid: &Fid, bytes_max: usize) -> Result<Vec<Entry>, ClientError> {
        let mut entries = Vec::new();
        let (mut offset, mut bytes) = (0u64, 0usize);
        loop {
            let count = self.payload_max();
            let request = Request::Readdir { fid: fid.0, offset, count };
            let data = ask!(self, request, Readdir { data })?;
            if data.0.is_empty() {
                return Ok(entries);
            }
            bytes = bytes.saturating_add(data.0.len());
            if bytes > bytes_max {
                return Err(ClientError::TooLong { limit: bytes_max });
            }
            let mut from = Reader::new(data.0);
            while !from.rest().is_empty() {
                let entry: DirEntry<'_> = from.get()?;
                offset = entry.offset;
                if !matches!(entry.name, b"." | b"..") {
                    let DirEntry { qid, kind, name, .. } = entry;
                    entries.push(Entry { qid, kind, name: name.to_vec() });
                }
            }
        }
    }

    /// Everything `stat(2)` knows of a file.
    ///
    /// # Errors
    /// What the server says.
    pub fn getattr(&mut self, fid: &Fid) -> Result<Attr, ClientError> {
        ask!(self, Request::Getattr { fid: fid.0, mask: Attr::BASIC }, Getattr { attr })
    }

    /// Changes attributes.
    ///
    /// # Errors
    /// What the server says.
    pub fn setattr(&mut self, fid: &Fid, attr: SetAttr) -> Result<(), ClientError> {
        ask!(self, Request::Setattr { fid: fid.0, attr }, Setattr {})
    }

    /// Waits until an open file is on the server's disk.
    ///
    /// # Errors
    /// What the server says.
    pub fn fsync(&mut self, fid: &Fid) -> Result<(), ClientError> {
        let datasync = crate::wire::LateU32(0);
        ask!(self, Request::Fsync { fid: fid.0, datasync }, Fsync {})
    }

    /// Gives a fid back; it is free even when the server reports an error.
    ///
    /// # Errors
    /// What the server says.
    pub fn clunk(&mut self, fid: Fid) -> Result<(), ClientError> {
        let result = ask!(self, Request::Clunk { fid: fid.0 }, Clunk {});
        self.free_fids.push(fid.0);
        result
    }
}
