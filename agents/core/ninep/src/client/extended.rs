//! What [`gob1`](crate::gob1) saves a client, and how it is done without.

use super::{Client, ClientError, Entry, Fid, open};
use crate::message::{NO_FID, Reply, Request};
use crate::wire::{Data, Reader, Rest};
use crate::{Attr, AttrEntry, Change, Errno, Names, Token};
use std::io::{Read, Write};

/// Bytes of a `Tgcreate` inside a `Tonce` besides its name and data.
const CREATE_OVERHEAD: usize = 7 + 17 + 20 + 2 + 4;

/// One change that is done at most once, however often it is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Op {
    series: u64,
    number: u64,
}

/// Numbers the changes of one run of a client. It outlives connections.
#[derive(Debug)]
pub struct Series {
    series: u64,
    next: u64,
}

impl Series {
    /// A series of its own; `random` must be different for every run of every client of one key.
    pub const fn new(random: u64) -> Self {
        Self { series: random, next: 0 }
    }

    /// The next change. Send it before the one after it; send the same one again after a lost connection.
    pub const fn next_op(&mut self) -> Op {
        let op = Op { series: self.series, number: self.next };
        self.next = self.next.saturating_add(1);
        op
    }
}

/// A new file for [`Client::create_file`].
#[derive(Debug, Clone, Copy)]
pub struct NewFile<'a> {
    /// Name.
    pub name: &'a [u8],
    /// Permission bits.
    pub mode: u32,
    /// All of it.
    pub data: &'a [u8],
}

fn unexpected(wanted: &'static str, got: &Reply<'_>) -> ClientError {
    ClientError::Unexpected { wanted, got: got.name() }
}

impl<S: Read + Write> Client<S> {
    /// Walks along names and answers the attributes of the end, in one message where the server can.
    ///
    /// # Errors
    /// As [`walk_names`](Self::walk_names).
    pub fn walk_attr(&mut self, from: &Fid, names: &[&[u8]]) -> Result<(Fid, Attr), ClientError> {
        let Some(listed) = Names::new(names).filter(|_| self.extended) else {
            let fid = self.walk_names(from, names)?;
            return match self.getattr(&fid) {
                Ok(attr) => Ok((fid, attr)),
                Err(err) => {
                    // The first error is the one that explains.
                    let _ = self.clunk(fid);
                    Err(err)
                }
            };
        };
        let newfid = self.new_fid();
        let result = match self.ask(&Request::Gwalk { fid: from.0, newfid, names: listed }) {
            Ok(Reply::Gwalk { attr, qids }) if qids.len() == names.len() => Ok(attr),
            Ok(Reply::Gwalk { .. }) => Err(ClientError::Refused(Errno::ENOENT)),
            Ok(other) => Err(unexpected("Gwalk", &other)),
            Err(err) => Err(err),
        };
        let attr = result.as_ref().ok().copied();
        let fid = self.settle(newfid, result.map(|_| ()))?;
        Ok((fid, attr.unwrap_or_default()))
    }

    /// After a reconnect: the file that was at `names` and had this `qid.path`, or nothing.
    ///
    /// # Errors
    /// `Refused(ESTALE)` when another file is there now; otherwise as [`walk_attr`](Self::walk_attr).
    pub fn rebind(
        &mut self,
        root: &Fid,
        names: &[&[u8]],
        qid_path: u64,
    ) -> Result<(Fid, Attr), ClientError> {
        let (fid, attr) = self.walk_attr(root, names)?;
        if attr.qid.path == qid_path {
            return Ok((fid, attr));
        }
        self.clunk(fid)?;
        Err(ClientError::Refused(Errno::ESTALE))
    }

    /// Lists an open directory with the attributes of its entries, without `.` and `..`. Attributes are `None` for a
    /// file that went away meanwhile.
    ///
    /// # Errors
    /// As [`read_dir`](Self::read_dir).
    pub fn read_dir_attr(
        &mut self,
        fid: &Fid,
        bytes_max: usize,
    ) -> Result<Vec<(Entry, Option<Attr>)>, ClientError> {
        if self.extended {
            match self.list_attr(fid, bytes_max) {
                Err(ClientError::Refused(Errno::EOPNOTSUPP)) => {}
                other => return other,
            }
        }
        let entries = self.read_dir(fid, bytes_max)?;
        entries
            .into_iter()
            .map(|entry| {
                let attr = match self.attr_of(fid, &entry.name) {
                    Ok(attr) => Some(attr),
                    Err(ClientError::Refused(_)) => None,
                    Err(err) => return Err(err),
                };
                Ok((entry, attr))
            })
            .collect()
    }

    /// Attributes of a name in a directory that may be open; 9P2000.L walks from an open fid, too.
    fn attr_of(&mut self, dir: &Fid, name: &[u8]) -> Result<Attr, ClientError> {
        let (fid, attr) = self.walk_attr(dir, &[name])?;
        self.clunk(fid)?;
        Ok(attr)
    }

    fn list_attr(
        &mut self,
        fid: &Fid,
        bytes_max: usize,
    ) -> Result<Vec<(Entry, Option<Attr>)>, ClientError> {
        let mut entries = Vec::new();
        let (mut offset, mut bytes) = (0u64, 0usize);
        loop {
            let count = self.payload_max();
            let data = match self.ask(&Request::Greaddir { fid: fid.0, offset, count })? {
                Reply::Greaddir { data } => data.0,
                other => return Err(unexpected("Greaddir", &other)),
            };
            if data.is_empty() {
                return Ok(entries);
            }
            bytes = bytes.saturating_add(data.len());
            if bytes > bytes_max {
                return Err(ClientError::TooLong { limit: bytes_max });
            }
            let mut from = Reader::new(data);
            while !from.rest().is_empty() {
                let AttrEntry { offset: next, kind, name, attr } = from.get()?;
                offset = next;
                if !matches!(name, b"." | b"..") {
                    let entry = Entry { qid: attr.qid, kind, name: name.to_vec() };
                    entries.push((entry, (attr.valid != 0).then_some(attr)));
                }
            }
        }
    }

    /// `None` where the server has not got it, or the path is longer than one message walks.
    pub(super) fn read_file_extended(
        &mut self,
        root: &Fid,
        path: &str,
        bytes_max: usize,
    ) -> Option<Result<Vec<u8>, ClientError>> {
        if !self.extended {
            return None;
        }
        let names: Vec<&[u8]> =
            path.split('/').filter(|name| !name.is_empty()).map(str::as_bytes).collect();
        let names = Names::new(&names)?;
        Some(self.open_and_read(root, names, bytes_max))
    }

    fn open_and_read(
        &mut self,
        root: &Fid,
        names: Names<'_>,
        bytes_max: usize,
    ) -> Result<Vec<u8>, ClientError> {
        let newfid = self.new_fid();
        let count = self.payload_max();
        let request = Request::Gopen { fid: root.0, newfid, flags: open::READ, count, names };
        let result = match self.ask(&request) {
            Ok(Reply::Gopen { eof, data, .. }) => Ok((data.0.to_vec(), eof == 1)),
            Ok(other) => Err(unexpected("Gopen", &other)),
            Err(err) => Err(err),
        };
        let (result, beginning) = match result {
            Ok(beginning) => (Ok(()), Some(beginning)),
            Err(err) => (Err(err), None),
        };
        let fid = self.settle(newfid, result)?;
        let (data, eof) = beginning.unwrap_or_default();
        let all = match eof {
            _ if data.len() > bytes_max => Err(ClientError::TooLong { limit: bytes_max }),
            true => Ok(data),
            false => self.read_on(&fid, data, bytes_max),
        };
        let clunked = self.clunk(fid);
        all.and_then(|bytes| clunked.map(|()| bytes))
    }

    /// Makes a file that must not be there, with all its bytes. A file that is small enough for one message is made
    /// by one, where the server can.
    ///
    /// # Errors
    /// `Refused(EEXIST)`; what the server says. An error after the first byte leaves a part of the file.
    pub fn create_file(&mut self, dir: &Fid, file: &NewFile<'_>) -> Result<(), ClientError> {
        let room = usize::try_from(self.msize).unwrap_or(usize::MAX);
        let needs = CREATE_OVERHEAD.saturating_add(file.name.len()).saturating_add(file.data.len());
        if self.extended && needs <= room {
            let written = match self.ask(&creation(dir, file))? {
                Reply::Gcreate { count, .. } => count,
                other => return Err(unexpected("Gcreate", &other)),
            };
            return whole(written, file.data);
        }
        let fid = self.walk_names(dir, &[])?;
        let made = self.create(&fid, file.name, open::WRITE | open::EXCLUSIVE, file.mode);
        let result = made.and_then(|_| self.write_all(&fid, 0, file.data));
        let clunked = self.clunk(fid);
        result.and(clunked)
    }

    /// As [`create_file`](Self::create_file), at most once, in one message.
    ///
    /// # Errors
    /// As [`once`](Self::once); `Refused(EMSGSIZE)` for a file that fits no message.
    pub fn create_file_once(
        &mut self,
        op: Op,
        dir: &Fid,
        file: &NewFile<'_>,
    ) -> Result<(), ClientError> {
        match self.once(op, &creation(dir, file))? {
            Reply::Gcreate { count, .. } => whole(count, file.data),
            other => Err(unexpected("Gcreate", &other)),
        }
    }

    /// Makes a directory, at most once.
    ///
    /// # Errors
    /// As [`once`](Self::once).
    pub fn mkdir_once(
        &mut self,
        op: Op,
        dir: &Fid,
        name: &[u8],
        mode: u32,
    ) -> Result<(), ClientError> {
        self.once(op, &Request::Mkdir { dfid: dir.0, name, mode, gid: 0 }).map(drop)
    }

    /// Removes a name, at most once.
    ///
    /// # Errors
    /// As [`once`](Self::once).
    pub fn unlink_once(
        &mut self,
        op: Op,
        dir: &Fid,
        name: &[u8],
        flags: u32,
    ) -> Result<(), ClientError> {
        self.once(op, &Request::Unlinkat { dirfid: dir.0, name, flags }).map(drop)
    }

    /// Moves a name, at most once.
    ///
    /// # Errors
    /// As [`once`](Self::once).
    pub fn rename_once(
        &mut self,
        op: Op,
        from: (&Fid, &[u8]),
        to: (&Fid, &[u8]),
    ) -> Result<(), ClientError> {
        let request = Request::Renameat {
            olddirfid: from.0.0,
            oldname: from.1,
            newdirfid: to.0.0,
            newname: to.1,
        };
        self.once(op, &request).map(drop)
    }

    /// Where the tree of a fid is now, and the last number that is on its disk.
    ///
    /// # Errors
    /// `Refused(EOPNOTSUPP)` where [`gob1`](crate::gob1) is not spoken.
    pub fn token(&mut self, fid: &Fid) -> Result<(Token, u64), ClientError> {
        match self.ask_extended(&Request::Gtoken { fid: fid.0 })? {
            Reply::Gtoken { token, durable } => Ok((token, durable)),
            other => Err(unexpected("Gtoken", &other)),
        }
    }

    /// Waits until the tree of a fid is on its disk up to a token; answers how far it is.
    ///
    /// # Errors
    /// `Refused(ESTALE)` when nobody knows whether it is; as [`token`](Self::token).
    pub fn sync_to(&mut self, fid: &Fid, token: Token) -> Result<Token, ClientError> {
        match self.ask_extended(&Request::Gsync { fid: fid.0, token })? {
            Reply::Gsync { token } => Ok(token),
            other => Err(unexpected("Gsync", &other)),
        }
    }

    /// Waits for changes of the tree of a fid after a token; answers them and the token to ask with next.
    ///
    /// # Errors
    /// `Refused(ESTALE)` when some are not known any more: look at everything, and begin with a new token; as
    /// [`token`](Self::token).
    pub fn changes(
        &mut self,
        fid: &Fid,
        token: Token,
    ) -> Result<(Token, Vec<Change>), ClientError> {
        let count = self.payload_max();
        let (next, data) =
            match self.ask_extended(&Request::Gchanges { fid: fid.0, token, count })? {
                Reply::Gchanges { token, data } => (token, data.0),
                other => return Err(unexpected("Gchanges", &other)),
            };
        let mut from = Reader::new(data);
        let mut changes = Vec::new();
        while !from.rest().is_empty() {
            changes.push(from.get()?);
        }
        Ok((next, changes))
    }

    fn ask_extended(&mut self, request: &Request<'_>) -> Result<Reply<'_>, ClientError> {
        if !self.extended {
            return Err(ClientError::Refused(Errno::EOPNOTSUPP));
        }
        self.ask(request)
    }

    /// Has one change done at most once.
    ///
    /// # Errors
    /// `Refused(EOPNOTSUPP)` where [`gob1`](crate::gob1) is not spoken or nothing is remembered: there is no safe way
    /// round it. `Refused(EAGAIN)` while it is being done, `Refused(ESTALE)` when nobody knows whether it was.
    fn once(&mut self, op: Op, change: &Request<'_>) -> Result<Reply<'_>, ClientError> {
        if !self.extended {
            return Err(ClientError::Refused(Errno::EOPNOTSUPP));
        }
        let mut inner = Vec::new();
        change.encode(0, &mut inner);
        let body = Rest(inner.get(crate::HEADER_BYTES..).unwrap_or(&[]));
        let Op { series, number } = op;
        let request = Request::Once { series, number, kind: change.kind(), body };
        match self.ask(&request)? {
            Reply::Once { kind, body } => match Reply::decode_body(kind, body.0)? {
                Reply::Error { ecode } => Err(ClientError::Refused(Errno(ecode))),
                reply => Ok(reply),
            },
            other => Err(unexpected("Once", &other)),
        }
    }
}

fn creation<'a>(dir: &Fid, file: &NewFile<'a>) -> Request<'a> {
    let NewFile { name, mode, data } = *file;
    let flags = open::WRITE | open::EXCLUSIVE;
    Request::Gcreate { dfid: dir.0, newfid: NO_FID, flags, mode, gid: 0, name, data: Data(data) }
}

/// A file that was made and not wholly written has met a full disk.
fn whole(written: u32, data: &[u8]) -> Result<(), ClientError> {
    if usize::try_from(written) == Ok(data.len()) {
        Ok(())
    } else {
        Err(ClientError::Refused(Errno::ENOSPC))
    }
}
