//! One function for each request: looks up fids, checks names, asks the backend, encodes the reply.

use crate::connection::{Connection, Fid, Gopened, ReplyBuf, State, Takes, XattrRead, XattrWrite};
use crate::extended::{Creation, Opening};
use crate::message::{HEADER_BYTES, NO_FID, Reply, Request};
use crate::server::Listing;
use crate::session::Flush;
use crate::wire::Data;
use crate::{
    Answer, AttachRequest, Attr, Backend, Content, DirPage, Errno, Job, LockRange, NAME_BYTES_MAX,
    Names, NewNode, Opened, Qid, Qids, ReadAnswer, SpliceAnswer, Spliced, Token, lock,
};
use std::sync::Arc;

/// Largest extended attribute in bytes (XATTR_SIZE_MAX of Linux).
const XATTR_BYTES_MAX: u64 = 65_536;

/// `O_TRUNC` of `Tlopen`.
const TRUNCATE: u32 = 0o1000;

/// What became of a request.
pub(crate) enum Done<B: Backend> {
    Sent,
    Silent,
    Later(u32, Job<Effect<B>>),
    /// Like `Later`; the fid is being opened until then.
    OpensLater(u32, Job<Effect<B>>),
}

/// Result of a job.
pub(crate) enum Effect<B: Backend> {
    Data(Vec<u8>),
    /// And the most that there is room for.
    Spliced(Box<dyn Spliced>, usize),
    Count(u32),
    Status(u8),
    Synced,
    Opened(Opened<B::Open>),
    OpenedAs {
        qid: Qid,
        iounit: u32,
    },
    Gopened(Box<Gopened<B>>),
    Gcreated {
        attr: Box<Attr>,
        iounit: u32,
        count: u32,
    },
    SyncedTo(Token),
    Changes(Token, Vec<u8>),
}

pub(crate) type Outcome<B> = Result<Done<B>, Errno>;

/// What a fid points at, and what it has open.
type Target<B> = (Arc<<B as Backend>::Node>, Option<Arc<<B as Backend>::Open>>);

/// The qids of what a walk found, and the end or why it was not reached.
type Way<B> = (Qids, Result<Arc<<B as Backend>::Node>, Errno>);

/// Whether a request is past the point of no return as soon as it is asked: a flush then waits for its reply.
pub(crate) const fn changes(request: &Request<'_>) -> bool {
    match request {
        Request::Lopen { flags, .. } | Request::Gopen { flags, .. } => *flags & TRUNCATE != 0,
        Request::Clunk { .. }
        | Request::Remove { .. }
        | Request::Write { .. }
        | Request::Setattr { .. }
        | Request::Lcreate { .. }
        | Request::Symlink { .. }
        | Request::Mknod { .. }
        | Request::Mkdir { .. }
        | Request::Link { .. }
        | Request::Rename { .. }
        | Request::Renameat { .. }
        | Request::Unlinkat { .. }
        | Request::Gcreate { .. }
        | Request::Once { .. } => true,
        _ => false,
    }
}

/// A name that can be created, removed or looked up in a directory.
pub(crate) fn checked(name: &[u8]) -> Result<&[u8], Errno> {
    if name.len() > NAME_BYTES_MAX {
        return Err(Errno::ENAMETOOLONG);
    }
    let odd = matches!(name, b"" | b"." | b"..");
    if odd || name.iter().any(|byte| matches!(byte, b'/' | 0)) {
        return Err(Errno::EINVAL);
    }
    Ok(name)
}

impl<B: Backend> Connection<B> {
    pub(crate) fn dispatch(
        &mut self,
        tag: u16,
        request: &Request<'_>,
        out: &mut ReplyBuf,
    ) -> Outcome<B> {
        let reply = match *request {
            Request::Read { fid, offset, count } => return self.read(tag, fid, offset, count, out),
            Request::Write { fid, offset, data } => {
                return self.write(tag, fid, offset, data.0, out);
            }
            Request::Readdir { fid, offset, count } => {
                return self.list(tag, (fid, offset, count), Listing::Plain, out);
            }
            Request::Lopen { fid, flags } => return self.lopen(tag, fid, flags, out),
            Request::Fsync { fid, datasync } => return self.fsync(tag, fid, datasync.0 != 0, out),
            Request::Lock { fid, kind, flags, start, length, proc_id, .. } => {
                let range = LockRange { kind, start, length, proc_id };
                return self.lock(tag, fid, range, flags & lock::FLAG_BLOCK != 0, out);
            }
            Request::Readlink { fid } => {
                let target = self.shared.backend.readlink(&self.node(fid)?)?;
                out.put(tag, &Reply::Readlink { target: &target });
                return Ok(Done::Sent);
            }
            Request::Flush { oldtag } => {
                let flush = self.shared.session().flush(tag, oldtag);
                match flush {
                    Flush::Now => Reply::Flush {},
                    Flush::AfterReply => return Ok(Done::Silent),
                    Flush::TooMany => return Err(Errno::EAGAIN),
                }
            }
            Request::Walk { fid, newfid, names } => self.walk(fid, newfid, &names)?,
            Request::Getattr { fid, mask } => {
                Reply::Getattr { attr: self.shared.backend.getattr(&self.node(fid)?, mask)? }
            }
            Request::Clunk { fid } => self.clunk(fid)?,
            Request::Gwalk { fid, newfid, names } => self.gwalk(fid, newfid, &names)?,
            Request::Greaddir { fid, offset, count } => {
                return self.list(tag, (fid, offset, count), Listing::Attributes, out);
            }
            Request::Gopen { fid, newfid, flags, count, names } => {
                return self.gopen(tag, &Opening { fid, newfid, flags, count }, &names, out);
            }
            Request::Gcreate { dfid, newfid, flags, mode, gid, name, data } => {
                let new = NewNode { mode, gid };
                let wish = Creation { dfid, newfid, flags, new, name, data: data.0 };
                return self.gcreate(tag, &wish, out);
            }
            Request::Once { series, number, kind, body } => {
                return self.once(tag, (series, number), kind, body.0, out);
            }
            Request::Gsync { fid, token } => return self.gsync(tag, fid, token, out),
            Request::Gchanges { fid, token, count } => {
                return self.gchanges(tag, (fid, token, count), out);
            }
            _ => self.dispatch_rare(request)?,
        };
        out.put(tag, &reply);
        Ok(Done::Sent)
    }

    fn dispatch_rare(&mut self, request: &Request<'_>) -> Result<Reply<'static>, Errno> {
        let backend = self.shared.backend.clone();
        Ok(match *request {
            Request::Version { msize, version } => {
                let (agreed, old) = self.shared.session().version(msize, version)?;
                self.shared.close_fids(old);
                Reply::Version { msize: agreed.msize, version: agreed.version }
            }
            Request::Attach { fid, afid, uname, aname, n_uname } => {
                self.attach(fid, afid, &AttachRequest { uname, aname, n_uname })?
            }
            Request::Remove { fid } => self.remove(fid)?,
            Request::StatFs { fid } => Reply::StatFs { stat: backend.statfs(&self.node(fid)?)? },
            Request::Setattr { fid, attr } => {
                let (node, open) = self.node_and_open(fid)?;
                backend.setattr(&node, open.as_ref(), &attr)?;
                Reply::Setattr {}
            }
            Request::Xattrwalk { fid, newfid, name } => self.xattrwalk(fid, newfid, name)?,
            Request::Xattrcreate { fid, name, size, flags } => {
                self.xattrcreate(fid, name, size, flags)?
            }
            Request::Gtoken { fid } => {
                let (token, durable) = self.feed(&self.node(fid)?)?.token();
                Reply::Gtoken { token, durable }
            }
            Request::Getlock { fid, kind, start, length, proc_id, .. } => {
                let range = LockRange { kind, start, length, proc_id };
                let held = backend.getlock(&self.open_file(fid)?, range)?;
                let LockRange { kind, start, length, proc_id } = held;
                Reply::Getlock { kind, start, length, proc_id, client_id: b"" }
            }
            Request::Rename { fid, dfid, name } => {
                backend.rename(&self.node(fid)?, &self.node(dfid)?, checked(name)?)?;
                Reply::Rename {}
            }
            Request::Link { dfid, fid, name } => {
                backend.link(&self.node(dfid)?, &self.node(fid)?, checked(name)?)?;
                Reply::Link {}
            }
            Request::Renameat { olddirfid, oldname, newdirfid, newname } => {
                let (old_dir, new_dir) = (self.node(olddirfid)?, self.node(newdirfid)?);
                backend.rename_at(&old_dir, checked(oldname)?, &new_dir, checked(newname)?)?;
                Reply::Renameat {}
            }
            Request::Unlinkat { dirfid, name, flags } => {
                backend.unlink_at(&self.node(dirfid)?, checked(name)?, flags)?;
                Reply::Unlinkat {}
            }
            _ => self.dispatch_new(request)?,
        })
    }

    /// Requests that make a name.
    fn dispatch_new(&mut self, request: &Request<'_>) -> Result<Reply<'static>, Errno> {
        let backend = self.shared.backend.clone();
        Ok(match *request {
            Request::Lcreate { fid, name, flags, mode, gid } => {
                self.lcreate(fid, checked(name)?, flags, NewNode { mode, gid })?
            }
            Request::Symlink { fid, name, target, .. } => {
                Reply::Symlink { qid: backend.symlink(&self.node(fid)?, checked(name)?, target)? }
            }
            Request::Mknod { dfid, name, mode, major, minor, gid } => {
                let new = NewNode { mode, gid };
                let dir = self.node(dfid)?;
                Reply::Mknod { qid: backend.mknod(&dir, checked(name)?, new, (major, minor))? }
            }
            Request::Mkdir { dfid, name, mode, gid } => {
                let new = NewNode { mode, gid };
                Reply::Mkdir { qid: backend.mkdir(&self.node(dfid)?, checked(name)?, new)? }
            }
            // `Tauth`: the connection is what is authenticated, before 9P begins.
            _ => return Err(Errno::EOPNOTSUPP),
        })
    }

    pub(crate) fn node(&self, fid: u32) -> Result<Arc<B::Node>, Errno> {
        self.node_and_open(fid).map(|(node, _)| node)
    }

    pub(crate) fn node_and_open(&self, fid: u32) -> Result<Target<B>, Errno> {
        let session = self.shared.session();
        let fid = session.fid(fid)?;
        match &fid.state {
            State::Idle | State::Opening(_) => Ok((fid.node.clone(), None)),
            State::Open(open) => Ok((fid.node.clone(), Some(open.clone()))),
            State::XattrRead(_) | State::XattrWrite(_) => Err(Errno::EBADF),
        }
    }

    pub(crate) fn open_file(&self, fid: u32) -> Result<Arc<B::Open>, Errno> {
        self.node_and_open(fid)?.1.ok_or(Errno::EBADF)
    }

    /// Most bytes of data that fit a reply with `count[4]`, and are wanted.
    pub(crate) fn data_room(&self, count: u32) -> usize {
        let room = self.msize().saturating_sub(u32::try_from(HEADER_BYTES + 4).unwrap_or(u32::MAX));
        usize::try_from(count.min(room)).unwrap_or(0)
    }

    fn attach(
        &mut self,
        fid: u32,
        afid: u32,
        request: &AttachRequest<'_>,
    ) -> Result<Reply<'static>, Errno> {
        if afid != NO_FID {
            return Err(Errno::EINVAL);
        }
        self.shared.session().check_new_fid(fid)?;
        let (node, qid) = self.shared.backend.attach(request)?;
        self.effect()?.attach(fid, Fid { node, state: State::Idle })?;
        Ok(Reply::Attach { qid })
    }

    fn walk(&mut self, fid: u32, newfid: u32, names: &Names<'_>) -> Result<Reply<'static>, Errno> {
        let (qids, end) = self.steps(fid, newfid, names)?;
        match end {
            Ok(node) => self.bind_end(fid, newfid, names, node)?,
            Err(errno) if qids.is_empty() => return Err(errno),
            // walk(5): a walk that stops half way says how far it came and makes no fid.
            Err(_) => {}
        }
        Ok(Reply::Walk { qids })
    }

    /// Goes along names: the qids of what was found, and the end or why it was not reached.
    pub(crate) fn steps(&self, fid: u32, newfid: u32, names: &Names<'_>) -> Result<Way<B>, Errno> {
        let (mut node, open) = self.node_and_open(fid)?;
        if newfid != fid {
            self.shared.session().check_new_fid(newfid)?;
        } else if open.is_some() && !names.is_empty() {
            return Err(Errno::EBUSY);
        }
        let mut qids = Qids::default();
        for name in names.iter() {
            let step = match *name {
                b".." => self.shared.backend.walk(&node, b".."),
                name => checked(name).and_then(|name| self.shared.backend.walk(&node, name)),
            };
            match step {
                Ok((next, qid)) => {
                    node = next;
                    qids.push(qid);
                }
                Err(errno) => return Ok((qids, Err(errno))),
            }
        }
        Ok((qids, Ok(node)))
    }

    /// Binds the end of a whole walk.
    pub(crate) fn bind_end(
        &self,
        fid: u32,
        newfid: u32,
        names: &Names<'_>,
        node: Arc<B::Node>,
    ) -> Result<(), Errno> {
        let mut session = self.effect()?;
        if newfid != fid {
            session.bind(newfid, Fid { node, state: State::Idle })?;
        } else if !names.is_empty() {
            *session.fid_mut(fid)? = Fid { node, state: State::Idle };
        }
        Ok(())
    }

    fn clunk(&mut self, fid: u32) -> Result<Reply<'static>, Errno> {
        let Fid { node, state } = self.shared.session().unbind(fid)?;
        match state {
            State::Open(open) => self.shared.backend.clunk(&open),
            State::XattrWrite(write) if write.value.len() == write.size => {
                self.shared.backend.set_xattr(&node, &write.name, &write.value, write.flags)?;
            }
            State::XattrWrite(_) => return Err(Errno::EINVAL),
            State::Idle | State::Opening(_) | State::XattrRead(_) => {}
        }
        Ok(Reply::Clunk {})
    }

    fn remove(&mut self, fid: u32) -> Result<Reply<'static>, Errno> {
        let Fid { node, state } = self.shared.session().unbind(fid)?;
        let removed = match &state {
            State::XattrRead(_) | State::XattrWrite(_) => Err(Errno::EBADF),
            _ => self.shared.backend.remove(&node),
        };
        if let State::Open(open) = &state {
            self.shared.backend.clunk(open);
        }
        removed.map(|()| Reply::Remove {})
    }

    fn lopen(&mut self, tag: u16, fid: u32, flags: u32, out: &mut ReplyBuf) -> Outcome<B> {
        let node = {
            let session = self.shared.session();
            let fid = session.fid(fid)?;
            if !matches!(fid.state, State::Idle) {
                return Err(Errno::EBUSY);
            }
            fid.node.clone()
        };
        match self.shared.backend.open(&node, flags)? {
            Answer::Now(opened) => {
                let reply = Reply::Lopen { qid: opened.qid, iounit: opened.iounit };
                self.put_open(fid, &node, None, opened.open)?;
                out.put(tag, &reply);
                Ok(Done::Sent)
            }
            Answer::Later(job) => Ok(Done::OpensLater(fid, job.map(Effect::Opened))),
        }
    }

    /// A fid that still stands for `was` and has nothing open stands for an open file from now on, that of `now` where
    /// it is another one.
    fn put_open(
        &self,
        fid: u32,
        was: &Arc<B::Node>,
        now: Option<Arc<B::Node>>,
        open: B::Open,
    ) -> Result<(), Errno> {
        let open = Arc::new(open);
        let put = self.effect().and_then(|mut session| {
            let place = session.fid_mut(fid)?;
            if !matches!(place.state, State::Idle) || !Arc::ptr_eq(&place.node, was) {
                return Err(Errno::EBUSY);
            }
            let node = now.unwrap_or_else(|| was.clone());
            *place = Fid { node, state: State::Open(open.clone()) };
            Ok(())
        });
        if put.is_err() {
            self.shared.backend.clunk(&open);
        }
        put
    }

    fn lcreate(
        &mut self,
        fid: u32,
        name: &[u8],
        flags: u32,
        new: NewNode,
    ) -> Result<Reply<'static>, Errno> {
        let (dir, open) = self.node_and_open(fid)?;
        if open.is_some() {
            return Err(Errno::EBUSY);
        }
        let (node, opened) = self.shared.backend.create(&dir, name, flags, new)?;
        let reply = Reply::Lcreate { qid: opened.qid, iounit: opened.iounit };
        self.put_open(fid, &dir, Some(node), opened.open)?;
        Ok(reply)
    }

    fn read(
        &mut self,
        tag: u16,
        fid: u32,
        offset: u64,
        count: u32,
        out: &mut ReplyBuf,
    ) -> Outcome<B> {
        let room = self.data_room(count);
        let value = match &self.shared.session().fid(fid)?.state {
            State::XattrRead(XattrRead { value, .. }) => Some(value.clone()),
            _ => None,
        };
        if let Some(value) = value {
            let start = usize::try_from(offset).unwrap_or(usize::MAX).min(value.len());
            let rest = value.get(start..).unwrap_or(&[]);
            out.put(tag, &Reply::Read { data: Data(rest.get(..room).unwrap_or(rest)) });
            return Ok(Done::Sent);
        }
        let open = self.open_file(fid)?;
        if self.shared.takes == Takes::Spliced {
            match self.shared.backend.splice(&open, offset, room)? {
                SpliceAnswer::Now(spliced) => {
                    out.put_spliced(tag, spliced);
                    return Ok(Done::Sent);
                }
                SpliceAnswer::Later(job) => {
                    return Ok(Done::Later(
                        fid,
                        job.map(move |content| match content {
                            Content::Bytes(mut bytes) => {
                                bytes.truncate(room);
                                Effect::Data(bytes)
                            }
                            Content::Spliced(spliced) => Effect::Spliced(spliced, room),
                        }),
                    ));
                }
                SpliceAnswer::Read => {}
            }
        }
        match self.shared.backend.read(&open, offset, out.read_room(room))? {
            ReadAnswer::Now(got) => {
                out.put_read(tag, got.min(room));
                Ok(Done::Sent)
            }
            ReadAnswer::Later(job) => Ok(Done::Later(
                fid,
                job.map(move |mut bytes| {
                    bytes.truncate(room);
                    Effect::Data(bytes)
                }),
            )),
        }
    }

    fn write(
        &mut self,
        tag: u16,
        fid: u32,
        offset: u64,
        data: &[u8],
        out: &mut ReplyBuf,
    ) -> Outcome<B> {
        if let State::XattrWrite(write) = &mut self.shared.session().fid_mut(fid)?.state {
            let in_order = u64::try_from(write.value.len()) == Ok(offset);
            if !in_order || write.value.len().saturating_add(data.len()) > write.size {
                return Err(Errno::EINVAL);
            }
            write.value.extend_from_slice(data);
            let count = u32::try_from(data.len()).unwrap_or(u32::MAX);
            out.put(tag, &Reply::Write { count });
            return Ok(Done::Sent);
        }
        let open = self.open_file(fid)?;
        match self.shared.backend.write(&open, offset, data)? {
            Answer::Now(count) => {
                out.put(tag, &Reply::Write { count });
                Ok(Done::Sent)
            }
            Answer::Later(job) => Ok(Done::Later(fid, job.map(Effect::Count))),
        }
    }

    /// `Treaddir` and `Tgreaddir`: entries after a cookie, as many as fit.
    fn list(
        &mut self,
        tag: u16,
        (fid, offset, count): (u32, u64, u32),
        listing: Listing,
        out: &mut ReplyBuf,
    ) -> Outcome<B> {
        let open = self.open_file(fid)?;
        let mut page = DirPage::new(out.list_room(), self.data_room(count), listing);
        self.shared.backend.readdir(&open, offset, &mut page)?;
        if page.too_small() {
            return Err(Errno::EINVAL);
        }
        let kind = match listing {
            Listing::Plain => Reply::Readdir { data: Data(&[]) }.kind(),
            Listing::Attributes => Reply::Greaddir { data: Data(&[]) }.kind(),
        };
        out.put_list(tag, kind);
        Ok(Done::Sent)
    }

    fn fsync(&mut self, tag: u16, fid: u32, data_only: bool, out: &mut ReplyBuf) -> Outcome<B> {
        match self.shared.backend.fsync(&self.open_file(fid)?, data_only)? {
            Answer::Now(()) => {
                out.put(tag, &Reply::Fsync {});
                Ok(Done::Sent)
            }
            Answer::Later(job) => Ok(Done::Later(fid, job.map(|()| Effect::Synced))),
        }
    }

    fn lock(
        &mut self,
        tag: u16,
        fid: u32,
        range: LockRange,
        block: bool,
        out: &mut ReplyBuf,
    ) -> Outcome<B> {
        let open = self.open_file(fid)?;
        match self.shared.backend.lock(&open, range, block)? {
            Answer::Now(status) => {
                if self.commit().is_err() {
                    // Flushed meanwhile: nobody knows of this lock.
                    let none = LockRange { kind: lock::UNLOCK, ..range };
                    self.shared.backend.lock(&open, none, false)?;
                    return Err(Errno::EINTR);
                }
                out.put(tag, &Reply::Lock { status });
                Ok(Done::Sent)
            }
            Answer::Later(job) => Ok(Done::Later(fid, job.map(Effect::Status))),
        }
    }

    fn xattrwalk(&mut self, fid: u32, newfid: u32, name: &[u8]) -> Result<Reply<'static>, Errno> {
        let node = self.node(fid)?;
        self.shared.session().check_new_fid(newfid)?;
        let value: Arc<[u8]> = self.shared.backend.xattr(&node, checked_xattr(name)?)?.into();
        let size = u64::try_from(value.len()).unwrap_or(u64::MAX);
        let room = self.shared.xattr_room(value.len())?;
        let state = State::XattrRead(XattrRead { value, _room: room });
        self.effect()?.bind(newfid, Fid { node, state })?;
        Ok(Reply::Xattrwalk { size })
    }

    fn xattrcreate(
        &mut self,
        fid: u32,
        name: &[u8],
        size: u64,
        flags: u32,
    ) -> Result<Reply<'static>, Errno> {
        let (node, open) = self.node_and_open(fid)?;
        if open.is_some() || name.is_empty() {
            return Err(Errno::EINVAL);
        }
        let size_known = usize::try_from(size).ok().filter(|_| size <= XATTR_BYTES_MAX);
        let name = checked_xattr(name)?;
        self.shared.backend.may_set_xattr(&node, name, size, flags)?;
        let size = size_known.ok_or(Errno::ENOSPC)?;
        let room = self.shared.xattr_room(size)?;
        let write = XattrWrite { name: name.to_vec(), value: Vec::new(), size, flags, _room: room };
        self.effect()?.fid_mut(fid)?.state = State::XattrWrite(write);
        Ok(Reply::Xattrcreate {})
    }
}

/// Names of attributes may hold slashes, but no NUL. Empty asks for the list.
fn checked_xattr(name: &[u8]) -> Result<&[u8], Errno> {
    if name.len() > NAME_BYTES_MAX {
        return Err(Errno::ERANGE);
    }
    if name.contains(&0) { Err(Errno::EINVAL) } else { Ok(name) }
}
