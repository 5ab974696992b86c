//! One connection's server side: one frame in, one reply out, or a job whose reply comes later.

use crate::dispatch::{self, Done, Effect};
use crate::message::{HEADER_BYTES, Header, KIND_GOB1_MIN, Reply, Request};
use crate::spliced::{Outgoing, Spliced};
use crate::wire::{Data, WireError};
use crate::{Attr, Backend, Cancel, Errno, Job, Limits, Session, WaitsFor};
use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What a fid stands for.
pub(crate) struct Fid<B: Backend> {
    pub node: Arc<B::Node>,
    pub state: State<B>,
}

pub(crate) enum State<B: Backend> {
    Idle,
    /// An open is on its way; the number tells apart one open from a later one.
    Opening(u64),
    Open(Arc<B::Open>),
    XattrRead(XattrRead),
    XattrWrite(XattrWrite),
}

/// A value that is being read.
pub(crate) struct XattrRead {
    pub value: Arc<[u8]>,
    pub _room: XattrRoom,
}

/// Bytes of a value, counted for as long as this lives.
pub(crate) struct XattrRoom {
    held: Arc<AtomicUsize>,
    bytes: usize,
}

impl Drop for XattrRoom {
    fn drop(&mut self) {
        self.held.fetch_sub(self.bytes, Ordering::AcqRel);
    }
}

/// A value that is being written; set on clunk when it is whole.
pub(crate) struct XattrWrite {
    pub name: Vec<u8>,
    pub value: Vec<u8>,
    pub size: usize,
    pub flags: u32,
    pub _room: XattrRoom,
}

pub(crate) struct Shared<B: Backend> {
    pub backend: Arc<B>,
    /// Held for a few map operations, never across a call of the backend.
    session: Mutex<Session<Fid<B>>>,
    /// Bytes of attribute values that fids hold.
    xattr_held: Arc<AtomicUsize>,
    limits: Limits,
    pub takes: Takes,
    /// Requests for a disk that have not ended, also those that were flushed meanwhile, and their bytes.
    disk_queue: Arc<DiskQueue>,
}

/// What the stream of a connection takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Takes {
    /// Bytes of this program's memory.
    Bytes,
    /// Also what the kernel holds.
    Spliced,
}

#[derive(Default)]
struct DiskQueue {
    jobs: AtomicUsize,
    bytes: AtomicUsize,
}

/// The place of one request among those that wait for a disk.
struct DiskRoom {
    queue: Arc<DiskQueue>,
    bytes: usize,
}

impl Drop for DiskRoom {
    fn drop(&mut self) {
        self.queue.jobs.fetch_sub(1, Ordering::AcqRel);
        self.queue.bytes.fetch_sub(self.bytes, Ordering::AcqRel);
    }
}

impl<B: Backend> Shared<B> {
    pub fn session(&self) -> MutexGuard<'_, Session<Fid<B>>> {
        // The session's maps are whole between any two statements, also after a panic elsewhere.
        self.session.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Room for an attribute value of so many bytes.
    ///
    /// # Errors
    /// `ENOMEM` when fids of this connection hold too much already.
    pub fn xattr_room(&self, bytes: usize) -> Result<XattrRoom, Errno> {
        let max = self.limits.xattr_bytes_max;
        let more = |held: usize| held.checked_add(bytes).filter(|all| *all <= max);
        self.xattr_held
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, more)
            .map(|_| XattrRoom { held: self.xattr_held.clone(), bytes })
            .map_err(|_| Errno::ENOMEM)
    }

    /// A place for a request that waits for a disk; only the thread that reads frames takes them.
    fn disk_room(&self, bytes: usize) -> Option<DiskRoom> {
        let queue = &self.disk_queue;
        let held = queue.bytes.load(Ordering::Acquire).saturating_add(bytes);
        if queue.jobs.load(Ordering::Acquire) >= self.limits.disk_queue_max
            || held > self.limits.disk_queue_bytes_max
        {
            return None;
        }
        queue.jobs.fetch_add(1, Ordering::AcqRel);
        queue.bytes.fetch_add(bytes, Ordering::AcqRel);
        Some(DiskRoom { queue: queue.clone(), bytes })
    }

    pub fn close_fids(&self, fids: Vec<Fid<B>>) {
        for fid in fids {
            if let State::Open(open) = &fid.state {
                self.backend.clunk(open);
            }
        }
    }
}

/// What a deferred `Tgopen` found; its fid is bound when it takes effect.
pub(crate) struct Gopened<B: Backend> {
    pub newfid: u32,
    pub node: Arc<B::Node>,
    pub open: Arc<B::Open>,
    pub attr: Attr,
    pub iounit: u32,
    pub eof: u8,
    pub data: Vec<u8>,
}

/// Room for one reply, used again for the next one.
#[derive(Debug, Default)]
pub struct ReplyBuf {
    small: Vec<u8>,
    /// Only grows, so that its bytes are made ready once and not for every read.
    bulk: Vec<u8>,
    bulk_len: usize,
    /// Data that follows the bytes.
    spliced: Option<Box<dyn Spliced>>,
}

const READ_HEADER_BYTES: usize = HEADER_BYTES + 4;

/// `size[4] type[1] tag[2] count[4]` of a message of `len` bytes that ends with counted data.
fn counted_header(kind: u8, tag: u16, len: usize) -> [u8; READ_HEADER_BYTES] {
    let count = len.saturating_sub(READ_HEADER_BYTES);
    let [s0, s1, s2, s3] = u32::try_from(len).unwrap_or(u32::MAX).to_le_bytes();
    let [t0, t1] = tag.to_le_bytes();
    let [c0, c1, c2, c3] = u32::try_from(count).unwrap_or(u32::MAX).to_le_bytes();
    [s0, s1, s2, s3, kind, t0, t1, c0, c1, c2, c3]
}

/// The header of an `Rread` of spliced data.
fn put_spliced_header(tag: u16, spliced: &dyn Spliced, out: &mut Vec<u8>) {
    let kind = Reply::Read { data: Data(&[]) }.kind();
    let len = READ_HEADER_BYTES.saturating_add(spliced.bytes());
    out.extend_from_slice(&counted_header(kind, tag, len));
}

impl ReplyBuf {
    /// Empty room.
    pub fn new() -> Self {
        Self::default()
    }

    /// The reply; of one with spliced data what comes before that.
    pub fn bytes(&self) -> &[u8] {
        match self.bulk_len {
            0 => &self.small,
            len => self.bulk.get(..len).unwrap_or(&[]),
        }
    }

    /// Bytes of the whole message.
    fn message_bytes(&self) -> usize {
        let spliced = self.spliced.as_ref().map_or(0, |spliced| spliced.bytes());
        self.bytes().len().saturating_add(spliced)
    }

    /// Spliced data that is to be sent after the bytes.
    pub(crate) const fn take_spliced(&mut self) -> Option<Box<dyn Spliced>> {
        self.spliced.take()
    }

    pub(crate) fn put(&mut self, tag: u16, reply: &Reply<'_>) {
        reply.encode(tag, self.small());
    }

    /// Puts an `Rread` of spliced data.
    pub(crate) fn put_spliced(&mut self, tag: u16, spliced: Box<dyn Spliced>) {
        put_spliced_header(tag, &*spliced, self.small());
        self.spliced = Some(spliced);
    }

    /// Where the data of an `Rread` goes.
    pub(crate) fn read_room(&mut self, count: usize) -> &mut [u8] {
        let end = READ_HEADER_BYTES.saturating_add(count);
        if self.bulk.len() < end {
            self.bulk.resize(end, 0);
        }
        self.bulk.get_mut(READ_HEADER_BYTES..end).unwrap_or(&mut [])
    }

    /// Completes an `Rread` whose `count` bytes are in [`read_room`](Self::read_room).
    pub(crate) fn put_read(&mut self, tag: u16, count: usize) {
        let len = READ_HEADER_BYTES.saturating_add(count).min(self.bulk.len());
        let kind = Reply::Read { data: Data(&[]) }.kind();
        if let Some(place) = self.bulk.first_chunk_mut() {
            *place = counted_header(kind, tag, len);
            self.bulk_len = len;
            self.spliced = None;
        }
    }

    /// Where the entries of an `Rreaddir` go: behind the header, which comes last.
    pub(crate) fn list_room(&mut self) -> &mut Vec<u8> {
        let small = self.small();
        small.extend_from_slice(&[0; READ_HEADER_BYTES]);
        small
    }

    /// Completes an `Rreaddir`, or the `Rgreaddir` of type `kind`, whose entries are in [`list_room`](Self::list_room).
    pub(crate) fn put_list(&mut self, tag: u16, kind: u8) {
        let len = self.small.len();
        if let Some(place) = self.small.first_chunk_mut() {
            *place = counted_header(kind, tag, len);
        }
    }

    /// Puts an `Rgopen` whose data `fill` writes behind it; `fill` answers how many bytes that were, and whether they
    /// are the file's last.
    ///
    /// # Errors
    /// Those of `fill`; the buffer then holds nothing of use.
    pub(crate) fn gopen_room(
        &mut self,
        tag: u16,
        attr: Attr,
        iounit: u32,
        room: usize,
        fill: impl FnOnce(&mut [u8]) -> Result<(usize, bool), Errno>,
    ) -> Result<(), Errno> {
        let small = self.small();
        Reply::Gopen { attr, iounit, eof: 0, data: Data(&[]) }.encode(tag, small);
        let head = small.len();
        small.resize(head.saturating_add(room), 0);
        let (got, ended) = fill(small.get_mut(head..).unwrap_or(&mut []))?;
        let got = got.min(room);
        small.truncate(head.saturating_add(got));
        let number = |value: usize| u32::try_from(value).unwrap_or(u32::MAX).to_le_bytes();
        let size = number(small.len());
        if let Some(place) = small.first_chunk_mut() {
            *place = size;
        }
        // `eof[1] count[4]` are the last before the data.
        if let Some([eof, count @ ..]) = small.get_mut(head.saturating_sub(5)..head) {
            *eof = u8::from(ended);
            count.copy_from_slice(&number(got));
        }
        Ok(())
    }

    pub(crate) fn small(&mut self) -> &mut Vec<u8> {
        self.bulk_len = 0;
        self.spliced = None;
        self.small.clear();
        &mut self.small
    }
}

/// What became of a frame.
#[derive(Debug)]
pub enum Handled<B: Backend> {
    /// The reply is in the buffer.
    Reply,
    /// Run this, on another thread, and send what it commits.
    Later(Deferred<B>),
    /// There is no place for it to wait: send what is at hand, then run this and send what it commits, before the
    /// next frame.
    Here(Deferred<B>),
    /// Nothing to send now: another reply will carry the answer.
    Silent,
    /// The peer cannot be understood any more: close the stream.
    Hangup(WireError),
}

/// Whether a deferred request opens its fid.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Opens {
    Yes,
    No,
}

/// Whether the connection ends with its handle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ends {
    Yes,
    No,
}

/// One connection. Owned by the thread that reads its frames.
pub struct Connection<B: Backend> {
    pub(crate) shared: Arc<Shared<B>>,
    /// Token of the request that is being answered.
    call: Cancel,
    /// Session in which it came.
    epoch: u64,
    ends: Ends,
}

impl<B: Backend> fmt::Debug for Connection<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let session = self.shared.session();
        f.debug_struct("Connection")
            .field("msize", &session.msize())
            .field("fids", &session.fid_count())
            .finish_non_exhaustive()
    }
}

impl<B: Backend> Connection<B> {
    /// A connection on which nothing was said yet.
    pub fn new(backend: Arc<B>, limits: Limits) -> Self {
        Self::over(Takes::Bytes, backend, limits)
    }

    /// As [`new`](Self::new), over a stream that takes so much.
    pub(crate) fn over(takes: Takes, backend: Arc<B>, limits: Limits) -> Self {
        let session = Mutex::new(Session::new(limits));
        let xattr_held = Arc::new(AtomicUsize::new(0));
        let disk_queue = Arc::default();
        let shared = Shared { backend, session, xattr_held, limits, takes, disk_queue };
        Self { shared: Arc::new(shared), call: Cancel::new(), epoch: 0, ends: Ends::Yes }
    }

    /// The same connection for another thread, which reads on while this one answers; it does not end with this handle.
    pub(crate) fn other(&self) -> Self {
        Self { shared: self.shared.clone(), call: Cancel::new(), epoch: 0, ends: Ends::No }
    }

    /// The token of the request that [`handle`](Self::handle) is to answer next.
    pub(crate) fn next_call(&mut self) -> Cancel {
        self.call.renew();
        self.call.clone()
    }

    /// The session, for an effect of the request that is being answered.
    ///
    /// # Errors
    /// `EINTR` when it was flushed, or its session is over: it must have no effect any more.
    pub(crate) fn effect(&self) -> Result<MutexGuard<'_, Session<Fid<B>>>, Errno> {
        let session = self.shared.session();
        if session.epoch() == self.epoch && self.call.commit() {
            Ok(session)
        } else {
            Err(Errno::EINTR)
        }
    }

    /// Whether the request that is being answered may have an effect outside the session.
    ///
    /// # Errors
    /// `EINTR` when it was flushed.
    pub(crate) fn commit(&self) -> Result<(), Errno> {
        if self.call.commit() { Ok(()) } else { Err(Errno::EINTR) }
    }

    /// Largest frame to accept now, in bytes.
    pub fn msize(&self) -> u32 {
        self.shared.session().msize()
    }

    /// True once a tree is attached.
    pub fn is_attached(&self) -> bool {
        self.shared.session().is_attached()
    }

    /// Answers one whole frame, `size[4]` included.
    pub fn handle(&mut self, frame: &[u8], out: &mut ReplyBuf) -> Handled<B> {
        let (header, body) = match Header::split(frame) {
            Ok(split) => split,
            Err(err) => return Handled::Hangup(err),
        };
        let msize = self.msize();
        if header.size > msize {
            return Handled::Hangup(WireError::Size { says: header.size, got: frame.len() });
        }
        match self.answer(header, body, out) {
            Ok(Done::Sent) => {
                if u32::try_from(out.message_bytes()).is_ok_and(|len| len <= msize) {
                    return Handled::Reply;
                }
                out.put(header.tag, &Reply::Error { ecode: Errno::EMSGSIZE.0 });
                Handled::Reply
            }
            Ok(Done::Silent) => Handled::Silent,
            Ok(Done::Later(fid, job)) => self.admit(header.tag, fid, job, out, Opens::No),
            Ok(Done::OpensLater(fid, job)) => self.admit(header.tag, fid, job, out, Opens::Yes),
            Err(errno) => {
                out.put(header.tag, &Reply::Error { ecode: errno.0 });
                Handled::Reply
            }
        }
    }

    fn answer(
        &mut self,
        header: Header,
        body: &[u8],
        out: &mut ReplyBuf,
    ) -> Result<Done<B>, Errno> {
        let request = Request::decode_body(header.kind, body).map_err(|err| match err {
            WireError::UnknownType { .. } => Errno::EOPNOTSUPP,
            _ => Errno::EPROTO,
        })?;
        {
            let session = self.shared.session();
            self.epoch = session.epoch();
            let is_version = matches!(request, Request::Version { .. });
            if !is_version
                && (!session.is_agreed() || session.tag_of_another(header.tag, &self.call))
            {
                return Err(Errno::EPROTO);
            }
            if header.kind >= KIND_GOB1_MIN && !session.is_extended() {
                return Err(Errno::EOPNOTSUPP);
            }
        }
        self.shared.backend.asked();
        if dispatch::changes(&request) {
            self.commit()?;
        }
        self.dispatch(header.tag, &request, out)
    }

    fn admit(
        &mut self,
        tag: u16,
        fid: u32,
        job: Job<Effect<B>>,
        out: &mut ReplyBuf,
        opens: Opens,
    ) -> Handled<B> {
        let room = match job.waits_for {
            WaitsFor::Disk => self.shared.disk_room(job.bytes),
            WaitsFor::Event => None,
        };
        let no_place = job.waits_for == WaitsFor::Disk && room.is_none();
        let admitted = self.shared.session().admit(tag, fid, job.waits_for, &self.call);
        let result = match admitted {
            Ok((serial, cancel)) => {
                if opens == Opens::Yes
                    && let Ok(fid) = self.shared.session().fid_mut(fid)
                {
                    fid.state = State::Opening(serial);
                }
                let shared = self.shared.clone();
                let deferred = Deferred { tag, serial, fid, cancel, shared, job, _room: room };
                return if no_place { Handled::Here(deferred) } else { Handled::Later(deferred) };
            }
            Err(errno) => job.at_limit.ok_or(errno),
        };
        let reply = out.small();
        let effect = result.and_then(|effect| self.shared.apply(fid, None, effect));
        out.spliced = put_effect(tag, effect, reply);
        Handled::Reply
    }

    /// Ends the connection: cancels what waits and closes every fid.
    pub fn close(&mut self) {
        let fids = self.shared.session().reset();
        self.shared.close_fids(fids);
    }
}

impl<B: Backend> Drop for Connection<B> {
    fn drop(&mut self) {
        if self.ends == Ends::Yes {
            self.close();
        }
    }
}

impl<B: Backend> Shared<B> {
    /// Lets the result of a job take effect. `opening` is the serial of the open that was deferred.
    pub(crate) fn apply(
        &self,
        fid: u32,
        opening: Option<u64>,
        effect: Effect<B>,
    ) -> Result<Effect<B>, Errno> {
        let opened = match effect {
            Effect::Opened(opened) => opened,
            Effect::Gopened(done) => return self.bind_gopened(done),
            effect => return Ok(effect),
        };
        let open = Arc::new(opened.open);
        let mut session = self.session();
        let wanted = match session.fid_mut(fid) {
            Ok(Fid { state, .. }) => match (&state, opening) {
                (State::Idle, None) => Some(state),
                (State::Opening(serial), Some(ours)) if *serial == ours => Some(state),
                _ => None,
            },
            Err(_) => None,
        };
        let Some(state) = wanted else {
            drop(session);
            self.backend.clunk(&open);
            return Err(Errno::EINTR);
        };
        *state = State::Open(open);
        Ok(Effect::OpenedAs { qid: opened.qid, iounit: opened.iounit })
    }

    fn bind_gopened(&self, done: Box<Gopened<B>>) -> Result<Effect<B>, Errno> {
        let fid = Fid { node: done.node.clone(), state: State::Open(done.open.clone()) };
        let bound = self.session().bind(done.newfid, fid);
        if bound.is_err() {
            self.backend.clunk(&done.open);
        }
        bound.map(|()| Effect::Gopened(done))
    }

    fn abandon_opening(&self, fid: u32, serial: u64) {
        let mut session = self.session();
        if let Ok(Fid { state, .. }) = session.fid_mut(fid)
            && matches!(state, State::Opening(ours) if *ours == serial)
        {
            *state = State::Idle;
        }
    }
}

/// Puts the reply; answers the spliced data that follows it.
pub(crate) fn put_effect<B: Backend>(
    tag: u16,
    effect: Result<Effect<B>, Errno>,
    out: &mut Vec<u8>,
) -> Option<Box<dyn Spliced>> {
    let reply = match &effect {
        Ok(Effect::Spliced(spliced, room)) if spliced.bytes() > *room => {
            Reply::Error { ecode: Errno::EMSGSIZE.0 }
        }
        Ok(Effect::Spliced(..)) => {
            let Ok(Effect::Spliced(spliced, _)) = effect else { return None };
            put_spliced_header(tag, &*spliced, out);
            return Some(spliced);
        }
        Ok(Effect::Data(bytes)) => Reply::Read { data: Data(bytes) },
        Ok(Effect::Count(count)) => Reply::Write { count: *count },
        Ok(Effect::Status(status)) => Reply::Lock { status: *status },
        Ok(Effect::Synced) => Reply::Fsync {},
        Ok(Effect::OpenedAs { qid, iounit }) => Reply::Lopen { qid: *qid, iounit: *iounit },
        Ok(Effect::Gopened(done)) => {
            let Gopened { attr, iounit, eof, data, .. } = &**done;
            Reply::Gopen { attr: *attr, iounit: *iounit, eof: *eof, data: Data(data) }
        }
        Ok(Effect::Gcreated { attr, iounit, count }) => {
            Reply::Gcreate { attr: **attr, iounit: *iounit, count: *count }
        }
        Ok(Effect::SyncedTo(token)) => Reply::Gsync { token: *token },
        Ok(Effect::Changes(token, data)) => Reply::Gchanges { token: *token, data: Data(data) },
        // `apply` has turned it into one of those above.
        Ok(Effect::Opened(_)) => Reply::Error { ecode: Errno::EIO.0 },
        Err(errno) => Reply::Error { ecode: errno.0 },
    };
    reply.encode(tag, out);
    None
}

/// Puts what is to be sent for a request that was answered late: nothing when it was flushed. As
/// [`Finished::commit`], under the lock of the stream's writing side.
pub(crate) fn commit_late<B: Backend>(
    shared: &Shared<B>,
    (tag, serial): (u16, Option<u64>),
    reply: &mut ReplyBuf,
    out: &mut Outgoing,
) {
    let flushes = match serial {
        None => Vec::new(),
        Some(serial) => match shared.session().finish(tag, serial) {
            Some((flushes, _)) => flushes,
            None => return,
        },
    };
    out.before.extend_from_slice(reply.bytes());
    out.spliced = reply.take_spliced();
    for flush in flushes {
        Reply::Flush {}.encode(flush, out.end());
    }
}

/// A request that is answered later.
pub struct Deferred<B: Backend> {
    tag: u16,
    serial: u64,
    fid: u32,
    cancel: Cancel,
    shared: Arc<Shared<B>>,
    job: Job<Effect<B>>,
    _room: Option<DiskRoom>,
}

impl<B: Backend> fmt::Debug for Deferred<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Deferred").field("tag", &self.tag).field("fid", &self.fid).finish()
    }
}

impl<B: Backend> Deferred<B> {
    /// Does the work; may block until it is cancelled.
    pub fn run(self) -> Finished<B> {
        let Self { tag, serial, fid, cancel, shared, job, _room } = self;
        let result = if cancel.is_cancelled() { Err(Errno::EINTR) } else { (job.work)(&cancel) };
        Finished { tag, serial, fid, shared, result }
    }

    /// What the work waits for.
    pub const fn waits_for(&self) -> WaitsFor {
        self.job.waits_for
    }

    /// Gives up before the work has begun, for want of a thread.
    pub fn refuse(self, errno: Errno) -> Finished<B> {
        let Self { tag, serial, fid, shared, job, .. } = self;
        Finished { tag, serial, fid, shared, result: job.at_limit.ok_or(errno) }
    }
}

/// Work that has ended and whose reply is to be sent.
pub struct Finished<B: Backend> {
    tag: u16,
    serial: u64,
    fid: u32,
    shared: Arc<Shared<B>>,
    result: Result<Effect<B>, Errno>,
}

impl<B: Backend> fmt::Debug for Finished<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Finished").field("tag", &self.tag).field("fid", &self.fid).finish()
    }
}

impl<B: Backend> Finished<B> {
    /// Appends what is to be sent; nothing when the request was flushed.
    ///
    /// Call it, and write `out`, **under the lock of the stream's writing side**: after this call the tag
    /// is free, and a flush answered in between would overtake the reply.
    pub fn commit(self, out: &mut Outgoing) {
        let Self { tag, serial, fid, shared, result } = self;
        let finished = shared.session().finish(tag, serial);
        let effect = match (&finished, result) {
            (Some((_, Ok(()))), Ok(effect)) => shared.apply(fid, Some(serial), effect),
            (Some((_, Err(errno))), Ok(effect)) => {
                shared.discard(effect);
                Err(*errno)
            }
            (_, Err(errno)) => Err(errno),
            (None, Ok(effect)) => {
                shared.discard(effect);
                Err(Errno::EINTR)
            }
        };
        if effect.is_err() {
            shared.abandon_opening(fid, serial);
        }
        let Some((flushes, _)) = finished else { return };
        out.spliced = put_effect(tag, effect, &mut out.before);
        for flush in flushes {
            Reply::Flush {}.encode(flush, out.end());
        }
    }
}

impl<B: Backend> Shared<B> {
    fn discard(&self, effect: Effect<B>) {
        match effect {
            Effect::Opened(opened) => self.backend.clunk(&Arc::new(opened.open)),
            Effect::Gopened(done) => self.backend.clunk(&done.open),
            _ => {}
        }
    }
}
