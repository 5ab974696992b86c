//! Requests of the dialect [`gob1`](crate::gob1).

use crate::connection::{Connection, Fid, Gopened, ReplyBuf, State};
use crate::dispatch::{Done, Effect, Outcome, checked};
use crate::ledger::Known;
use crate::message::{HEADER_BYTES, NO_FID, Reply, Request};
use crate::wire::{Data, Rest};
use crate::{
    Answer, Attr, Backend, Cancel, Change, Errno, Feed, Job, Names, NewNode, Opened, ReadAnswer,
    Token,
};
use std::sync::Arc;

/// Bytes of a token.
const TOKEN_BYTES: usize = 16;
/// Bytes of an `Rgopen` without its data.
const GOPEN_BYTES: usize = HEADER_BYTES + Attr::BYTES + 4 + 1 + 4;

/// What a `Tgcreate` asks for.
pub(crate) struct Creation<'a> {
    pub dfid: u32,
    pub newfid: u32,
    pub flags: u32,
    pub new: NewNode,
    pub name: &'a [u8],
    pub data: &'a [u8],
}

/// What a `Tgopen` asks for.
pub(crate) struct Opening {
    pub fid: u32,
    pub newfid: u32,
    pub flags: u32,
    pub count: u32,
}

/// Fills `into` from the start of an open file with what can be had without waiting; answers how much that is, and
/// whether the file ends there.
fn beginning<B: Backend>(
    backend: &B,
    open: &Arc<B::Open>,
    into: &mut [u8],
) -> Result<(usize, bool), Errno> {
    let mut filled = 0usize;
    while let Some(rest) = into.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        let offset = u64::try_from(filled).unwrap_or(u64::MAX);
        match backend.read(open, offset, rest)? {
            ReadAnswer::Now(0) => return Ok((filled, true)),
            ReadAnswer::Now(got) => filled = filled.saturating_add(got.min(rest.len())),
            ReadAnswer::Later(_) => break,
        }
    }
    Ok((filled, false))
}

/// Writes all of `data` at the start of a file, as far as that can be done without waiting; the rest is a job whose
/// answer counts from the start. A disk that gets full in between is no error: the count says so.
fn write_beginning<B: Backend>(
    backend: &B,
    open: &Arc<B::Open>,
    data: &[u8],
) -> Result<Answer<u32>, Errno> {
    let mut written = 0u32;
    loop {
        let at = usize::try_from(written).unwrap_or(usize::MAX);
        let rest = data.get(at..).unwrap_or(&[]);
        if rest.is_empty() {
            return Ok(Answer::Now(written));
        }
        match backend.write(open, u64::from(written), rest) {
            Ok(Answer::Now(0)) => return Ok(Answer::Now(written)),
            Ok(Answer::Now(count)) => written = written.saturating_add(count),
            Ok(Answer::Later(job)) => {
                return Ok(Answer::Later(job.map(move |count| written.saturating_add(count))));
            }
            Err(_) if written > 0 => return Ok(Answer::Now(written)),
            Err(errno) => return Err(errno),
        }
    }
}

/// Bytes worth asking for, when the size is known.
fn wanted(attr: &Attr, room: usize) -> usize {
    match (attr.qid.is_dir(), usize::try_from(attr.size)) {
        (true, _) => 0,
        // Synthetic files say nothing of their size.
        (false, Ok(0) | Err(_)) => room,
        (false, Ok(size)) => room.min(size),
    }
}

fn is_whole(attr: &Attr, got: usize) -> bool {
    attr.size > 0 && u64::try_from(got).is_ok_and(|got| got >= attr.size)
}

impl<B: Backend> Connection<B> {
    pub(crate) fn gwalk(
        &mut self,
        fid: u32,
        newfid: u32,
        names: &Names<'_>,
    ) -> Result<Reply<'static>, Errno> {
        let (qids, end) = self.steps(fid, newfid, names)?;
        let node = match end {
            Ok(node) => node,
            Err(errno) if qids.is_empty() => return Err(errno),
            Err(_) => return Ok(Reply::Gwalk { attr: Attr::default(), qids }),
        };
        let attr = self.shared.backend.getattr(&node, Attr::BASIC)?;
        self.bind_end(fid, newfid, names, node)?;
        Ok(Reply::Gwalk { attr, qids })
    }

    pub(crate) fn gopen(
        &mut self,
        tag: u16,
        opening: &Opening,
        names: &Names<'_>,
        out: &mut ReplyBuf,
    ) -> Outcome<B> {
        let Opening { fid, newfid, flags, count } = *opening;
        if newfid == fid {
            return Err(Errno::EINVAL);
        }
        let node = self.steps(fid, newfid, names)?.1?;
        let backend = self.shared.backend.clone();
        let attr = backend.getattr(&node, Attr::BASIC)?;
        let most = self.msize().saturating_sub(u32::try_from(GOPEN_BYTES).unwrap_or(u32::MAX));
        let room = usize::try_from(count.min(most)).unwrap_or(0);
        let job = match backend.open(&node, flags)? {
            Answer::Now(opened) => {
                let (iounit, open) = (opened.iounit, Arc::new(opened.open));
                let state = State::Open(open.clone());
                let bound = self.effect().and_then(|mut now| now.bind(newfid, Fid { node, state }));
                if let Err(errno) = bound {
                    backend.clunk(&open);
                    return Err(errno);
                }
                let got = out.gopen_room(tag, attr, iounit, wanted(&attr, room), |into| {
                    let (got, ended) = beginning(&*backend, &open, into)?;
                    Ok((got, ended || is_whole(&attr, got)))
                });
                if got.is_err() {
                    // Opened, but it cannot be read: the client finds out by reading.
                    out.put(tag, &Reply::Gopen { attr, iounit, eof: 0, data: Data(&[]) });
                }
                return Ok(Done::Sent);
            }
            Answer::Later(job) => job,
        };
        let work = move |cancel: &Cancel| {
            let opened = (job.work)(cancel)?;
            let open = Arc::new(opened.open);
            let mut data = vec![0; wanted(&attr, room)];
            let (mut got, eof) = beginning(&*backend, &open, &mut data).unwrap_or((0, false));
            if got == 0
                && !eof
                && !data.is_empty()
                && let Ok(ReadAnswer::Later(read)) = backend.read(&open, 0, &mut data)
            {
                data = (read.work)(cancel)?;
                data.truncate(room);
                got = data.len();
            }
            data.truncate(got);
            let (iounit, eof) = (opened.iounit, u8::from(eof || is_whole(&attr, got)));
            let done = Gopened { newfid, node, open, attr, iounit, eof, data };
            Ok(Effect::Gopened(Box::new(done)))
        };
        let job = Job { waits_for: job.waits_for, work: Box::new(work), at_limit: None, bytes: 0 };
        Ok(Done::Later(fid, job))
    }

    pub(crate) fn gcreate(
        &mut self,
        tag: u16,
        wish: &Creation<'_>,
        out: &mut ReplyBuf,
    ) -> Outcome<B> {
        let (dir, open) = self.node_and_open(wish.dfid)?;
        if open.is_some() {
            return Err(Errno::EBUSY);
        }
        let name = checked(wish.name)?;
        if wish.newfid != NO_FID {
            self.shared.session().check_new_fid(wish.newfid)?;
        }
        let backend = self.shared.backend.clone();
        let (node, Opened { open, iounit, .. }) =
            backend.create(&dir, name, wish.flags, wish.new)?;
        let open = Arc::new(open);
        let closes = wish.newfid == NO_FID;
        let answer = write_beginning(&*backend, &open, wish.data);
        if closes && !matches!(answer, Ok(Answer::Later(_))) {
            backend.clunk(&open);
        }
        let answer = answer?;
        if !closes {
            let state = State::Open(open.clone());
            let fid = Fid { node: node.clone(), state };
            let bound = self.effect().and_then(|mut now| now.bind(wish.newfid, fid));
            if let Err(errno) = bound {
                backend.clunk(&open);
                return Err(errno);
            }
        }
        match answer {
            Answer::Now(count) => {
                let attr = backend.getattr(&node, Attr::BASIC)?;
                out.put(tag, &Reply::Gcreate { attr, iounit, count });
                Ok(Done::Sent)
            }
            Answer::Later(job) => Ok(Done::Later(
                wish.dfid,
                job.map(move |count| {
                    if closes {
                        backend.clunk(&open);
                    }
                    let attr = backend.getattr(&node, Attr::BASIC).unwrap_or_default();
                    Effect::Gcreated { attr: Box::new(attr), iounit, count }
                }),
            )),
        }
    }

    pub(crate) fn once(
        &mut self,
        tag: u16,
        key: (u64, u64),
        kind: u8,
        body: &[u8],
        out: &mut ReplyBuf,
    ) -> Outcome<B> {
        let backend = self.shared.backend.clone();
        let ledger = backend.ledger().ok_or(Errno::EOPNOTSUPP)?;
        let request = Request::decode_body(kind, body).map_err(|_| Errno::EPROTO)?;
        if !may_be_repeated(&request) {
            return Err(Errno::EINVAL);
        }
        let (series, number) = key;
        let reply = match ledger.begin(series, number)? {
            Known::Done(reply) => reply,
            Known::New => match self.perform(tag, &request, out) {
                Ok(reply) => {
                    ledger.end(series, number, Some(reply.clone()));
                    reply
                }
                Err(errno) => {
                    ledger.end(series, number, None);
                    return Err(errno);
                }
            },
        };
        let (kind, body) = reply.split_first().ok_or(Errno::EIO)?;
        out.put(tag, &Reply::Once { kind: *kind, body: Rest(body) });
        Ok(Done::Sent)
    }

    pub(crate) fn feed(&self, node: &Arc<B::Node>) -> Result<Feed, Errno> {
        self.shared.backend.feed(node).ok_or(Errno::EOPNOTSUPP)
    }

    pub(crate) fn gsync(&self, tag: u16, fid: u32, token: Token, out: &mut ReplyBuf) -> Outcome<B> {
        let node = self.node(fid)?;
        let feed = self.feed(&node)?;
        let Some(began) = feed.begin_sync(token)? else {
            let (now, durable) = feed.token();
            out.put(tag, &Reply::Gsync { token: Token { number: durable, ..now } });
            return Ok(Done::Sent);
        };
        let backend = self.shared.backend.clone();
        let work = move |_: &Cancel| match backend.sync_tree(&node) {
            Ok(()) => feed.end_sync(began).map(Effect::SyncedTo),
            Err(errno) => {
                feed.lose(began);
                Err(errno)
            }
        };
        Ok(Done::Later(fid, Job::disk(work)))
    }

    pub(crate) fn gchanges(
        &self,
        tag: u16,
        (fid, token, count): (u32, Token, u32),
        out: &mut ReplyBuf,
    ) -> Outcome<B> {
        let feed = self.feed(&self.node(fid)?)?;
        let head = u32::try_from(HEADER_BYTES + TOKEN_BYTES + 4).unwrap_or(u32::MAX);
        let room = usize::try_from(count.min(self.msize().saturating_sub(head))).unwrap_or(0);
        if room < Change::BYTES_MAX {
            return Err(Errno::EINVAL);
        }
        if let Some((token, data)) = feed.after(token, room)? {
            out.put(tag, &Reply::Gchanges { token, data: Data(&data) });
            return Ok(Done::Sent);
        }
        let work = move |cancel: &Cancel| {
            feed.wait_after(token, room, cancel).map(|(token, data)| Effect::Changes(token, data))
        };
        Ok(Done::Later(fid, Job::event(work)))
    }

    /// Does a change to its end, and hands out `type[1] body` of its reply. What waits for a disk waits here: a reply
    /// that is not kept when the connection ends would be of no use.
    ///
    /// # Errors
    /// What came before any effect.
    fn perform(
        &mut self,
        tag: u16,
        request: &Request<'_>,
        out: &mut ReplyBuf,
    ) -> Result<Arc<[u8]>, Errno> {
        match self.dispatch(tag, request, out) {
            Ok(Done::Later(fid, job) | Done::OpensLater(fid, job)) => {
                let effect = (job.work)(&Cancel::new());
                let effect = effect.and_then(|effect| self.shared.apply(fid, None, effect));
                // No read is among what may be repeated, so nothing is spliced.
                let _ = crate::connection::put_effect(tag, effect, out.small());
            }
            Ok(Done::Sent) => {}
            Ok(Done::Silent) => return Err(Errno::EIO),
            Err(errno @ (Errno::EBADF | Errno::EPROTO | Errno::EMFILE | Errno::EBUSY)) => {
                return Err(errno);
            }
            Err(errno) => out.put(tag, &Reply::Error { ecode: errno.0 }),
        }
        let reply = out.bytes();
        // `type[1]` is the fifth byte, the body follows the header.
        let kind = reply.get(4).ok_or(Errno::EIO)?;
        let body = reply.get(HEADER_BYTES..).ok_or(Errno::EIO)?;
        Ok(std::iter::once(*kind).chain(body.iter().copied()).collect())
    }
}

const fn may_be_repeated(request: &Request<'_>) -> bool {
    match request {
        Request::Symlink { .. }
        | Request::Mknod { .. }
        | Request::Rename { .. }
        | Request::Setattr { .. }
        | Request::Link { .. }
        | Request::Mkdir { .. }
        | Request::Renameat { .. }
        | Request::Unlinkat { .. } => true,
        Request::Gcreate { newfid, .. } => *newfid == NO_FID,
        _ => false,
    }
}
