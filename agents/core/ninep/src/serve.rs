//! The loop around a [`Connection`]: reads frames, writes replies, runs what may block on helper threads.
//!
//! ```text
//!   reading thread: frame -> Connection::handle -> reply ---------------\
//!                                         \-> Deferred -> queue          +-> writing side (one lock)
//!   helper threads:                             run -> commit + write --/
//! ```
//!
//! A thread that takes long over one frame loses its turn to read to a helper thread ([`turn`](crate::turn)).
//!
//! The reading thread writes its own replies: a client that does not read slows itself down and costs no
//! memory. The stream's own write time limit ends a client that reads nothing at all.

use crate::connection::{Takes, commit_late};
use crate::message::{HEADER_BYTES, Header, NO_FID};
use crate::spliced::{Outgoing, Spliced};
use crate::turn::{self, Look, Mark, Turn, Watched};
use crate::{
    Backend, Cancel, Connection, Deferred, Errno, Handled, Limits, ReplyBuf, WaitsFor, WireError,
};
use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Reads before the first attach: a peer that sends single bytes does not hold its place for ever.
const HANDSHAKE_READS_MAX: u32 = 64;
/// Shortest wait of one of them.
const HANDSHAKE_READ_MIN: Duration = Duration::from_millis(20);
/// Room for frames at the start; grows to the largest frame that came.
const READ_ROOM_BYTES: usize = 64 * 1024;
/// Replies gathered before they are written, while more requests are at hand.
const GATHERED_BYTES_MAX: usize = 64 * 1024;
/// Longest wait, at a connection's end, for requests that a disk works on.
const LAST_JOBS_LIMIT: Duration = Duration::from_secs(4);
/// `Tversion` and `Tflush`.
const KIND_VERSION: u8 = 100;
const KIND_FLUSH: u8 = 108;
/// Stack of a helper thread.
const HELPER_STACK_BYTES: usize = 1024 * 1024;
/// How long an idle helper thread waits for more work.
const HELPER_IDLE: Duration = Duration::from_secs(10);

/// A two-way byte stream that two threads use at once.
pub trait Stream: Send + Sync + 'static {
    /// Reads some bytes; 0 at the end.
    ///
    /// # Errors
    /// Whatever the stream says; `WouldBlock` or `TimedOut` when the time limit passed.
    fn read(&self, into: &mut [u8]) -> io::Result<usize>;
    /// Writes all bytes.
    ///
    /// # Errors
    /// Whatever the stream says; the connection then ends.
    fn write_all(&self, bytes: &[u8]) -> io::Result<()>;
    /// Whether it takes what [`write_spliced`](Self::write_spliced) moves.
    fn takes_spliced(&self) -> bool {
        false
    }
    /// Writes all bytes, and after them all that is spliced.
    ///
    /// # Errors
    /// Whatever the stream says; the connection then ends.
    fn write_spliced(&self, _bytes: &[u8], _spliced: &mut dyn Spliced) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }
    /// Sets the longest wait of one read.
    ///
    /// # Errors
    /// Whatever the stream says.
    fn set_read_timeout(&self, limit: Option<Duration>) -> io::Result<()>;
    /// Ends both directions; blocked reads and writes return.
    fn shutdown(&self);
}

/// Why a connection ended.
#[derive(Debug)]
#[non_exhaustive]
pub enum End {
    /// The peer closed it between two messages.
    Closed,
    /// The stream failed, or the peer closed it inside a message.
    Cut(io::Error),
    /// The peer broke the framing.
    Protocol(WireError),
    /// The peer was silent, or slow, before it attached.
    Handshake,
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Closed => f.write_str("closed by the peer"),
            Self::Cut(err) => write!(f, "cut: {err}"),
            Self::Protocol(err) => write!(f, "not 9P: {err}"),
            Self::Handshake => f.write_str("no attach in time"),
        }
    }
}

/// Serves one connection until it ends. Blocks; give it a thread of its own.
pub fn serve<S: Stream, B: Backend>(stream: Arc<S>, backend: Arc<B>, limits: Limits) -> End {
    let takes = if stream.takes_spliced() { Takes::Spliced } else { Takes::Bytes };
    let connection = Connection::over(takes, backend, limits);
    let helpers = Arc::new(Helpers {
        stream,
        writing: Mutex::new(()),
        queue: Mutex::new(Queue {
            tasks: VecDeque::new(),
            idle: 0,
            closed: false,
            disk_running: 0,
            late: Vec::new(),
            next_late: 0,
            disk_waiting: VecDeque::new(),
            end: None,
        }),
        wake: Condvar::new(),
        idle_disk: Condvar::new(),
        ended: Condvar::new(),
        turn: Turn::new(),
        late_count: AtomicUsize::new(0),
        // For the helpers, which make theirs of it; the one that reads first ends it.
        connection: connection.other(),
        limits,
    });
    turn::watch(&helpers);
    let reading = Reading {
        frames: FrameReader::new(),
        gathered: Vec::new(),
        reads_left: HANDSHAKE_READS_MAX,
    };
    // Kept until the end: the connection goes with it.
    let mut first = Server { helpers, connection };
    first.read(reading);
    first.helpers.wait_for_end()
}

/// What the thread whose turn it is reads with.
struct Reading {
    frames: FrameReader,
    /// Replies that are not sent yet.
    gathered: Vec<u8>,
    /// 0 once attached.
    reads_left: u32,
}

/// What it puts down while it answers a frame.
struct Luggage {
    reading: Reading,
    tag: u16,
    call: Cancel,
    /// The fid that the request makes or changes.
    makes: Option<u32>,
}

/// Why a thread reads no more.
enum Stop {
    /// The connection is over.
    End(End),
    /// Another thread reads on.
    Lost,
}

/// One thread that reads, or did.
struct Server<S: Stream, B: Backend> {
    helpers: Arc<Helpers<S, B>>,
    connection: Connection<B>,
}

impl<S: Stream, B: Backend> Server<S, B> {
    /// Reads until the connection is over or another thread reads on.
    fn read(&mut self, mut reading: Reading) {
        let mut reply = ReplyBuf::new();
        let end = loop {
            match self.step(reading, &mut reply) {
                Ok(next) => reading = next,
                Err(Stop::End(end)) => break end,
                Err(Stop::Lost) => return,
            }
        };
        self.helpers.stream.shutdown();
        self.connection.close();
        self.helpers.close(end);
    }

    /// Reads some bytes, or answers one frame.
    fn step(&mut self, mut reading: Reading, reply: &mut ReplyBuf) -> Result<Reading, Stop> {
        let msize = self.connection.msize();
        let next = reading.frames.frame(msize).map_err(|err| Stop::End(End::Protocol(err)))?;
        let Some(frame) = next else {
            // Another thread may have left some.
            self.send_gathered(&mut reading)?;
            self.fill(&mut reading).map_err(Stop::End)?;
            return Ok(reading);
        };
        let call = self.connection.next_call();
        let handled = match frame.header() {
            // Neither waits for a disk, and both are about others.
            Some(Header { kind: KIND_VERSION | KIND_FLUSH, .. }) | None => {
                self.connection.handle(frame.bytes(), reply)
            }
            Some(Header { tag, kind, .. }) => {
                let fids = Fids::of(kind, frame.bytes());
                self.helpers.after_those_of(fids.uses);
                let makes = fids.makes;
                let count = self.helpers.turn.put_down(Luggage { reading, tag, call, makes });
                let handled = self.connection.handle(frame.bytes(), reply);
                match self.helpers.turn.pick_up(count) {
                    Ok(luggage) => reading = luggage.reading,
                    Err(mark) => {
                        self.helpers.late(handled, (tag, mark), reply);
                        return Err(Stop::Lost);
                    }
                }
                handled
            }
        };
        drop(frame);
        self.settle(handled, &mut reading, reply)?;
        if reading.reads_left > 0 && self.connection.is_attached() {
            reading.reads_left = 0;
            self.helpers.stream.set_read_timeout(None).map_err(cut)?;
        }
        Ok(reading)
    }

    /// Sends or gathers a reply, or passes on what is to be answered later.
    fn settle(
        &self,
        handled: Handled<B>,
        reading: &mut Reading,
        reply: &mut ReplyBuf,
    ) -> Result<(), Stop> {
        let more = reading.frames.has_whole();
        let spliced = reply.take_spliced();
        match handled {
            Handled::Reply if spliced.is_some() => {
                reading.gathered.extend_from_slice(reply.bytes());
                self.helpers.write(&reading.gathered, spliced).map_err(cut)?;
                reading.gathered.clear();
            }
            Handled::Reply if reading.gathered.is_empty() && !more => {
                self.helpers.write(reply.bytes(), None).map_err(cut)?;
            }
            Handled::Reply => reading.gathered.extend_from_slice(reply.bytes()),
            Handled::Later(deferred) => self.helpers.submit(Task::Job(deferred)),
            Handled::Here(deferred) => {
                // Answers that are ready do not wait for a disk.
                self.send_gathered(reading)?;
                self.helpers.answer_with(|| deferred.run());
            }
            Handled::Silent => {}
            Handled::Hangup(err) => return Err(Stop::End(End::Protocol(err))),
        }
        if !more || reading.gathered.len() > GATHERED_BYTES_MAX {
            self.send_gathered(reading)?;
        }
        Ok(())
    }

    fn send_gathered(&self, reading: &mut Reading) -> Result<(), Stop> {
        if !reading.gathered.is_empty() {
            self.helpers.write(&reading.gathered, None).map_err(cut)?;
            reading.gathered.clear();
        }
        Ok(())
    }

    fn fill(&self, reading: &mut Reading) -> Result<(), End> {
        let stream = &self.helpers.stream;
        let before_attach = reading.reads_left > 0;
        if before_attach {
            reading.reads_left = reading.reads_left.saturating_sub(1);
            if reading.reads_left == 0 {
                return Err(End::Handshake);
            }
            // Each wait may take half as long as the one before, so that all of them take no longer than twice the
            // first: a peer that sends a byte now and then is put out as one that sends none.
            let spent = HANDSHAKE_READS_MAX.saturating_sub(reading.reads_left).saturating_sub(1);
            let wait = self.helpers.limits.handshake.checked_div(1 << spent.min(20));
            let wait = wait.unwrap_or_default().max(HANDSHAKE_READ_MIN);
            stream.set_read_timeout(Some(wait)).map_err(End::Cut)?;
        }
        let inside = reading.frames.has_part();
        let got = loop {
            match stream.read(reading.frames.room()) {
                Err(err) if err.kind() == io::ErrorKind::Interrupted => {}
                Err(err) if before_attach && is_timeout(&err) => return Err(End::Handshake),
                other => break other.map_err(End::Cut)?,
            }
        };
        match got {
            0 if inside => Err(End::Cut(io::ErrorKind::UnexpectedEof.into())),
            0 => Err(End::Closed),
            got => {
                reading.frames.filled(got);
                Ok(())
            }
        }
    }
}

const fn cut(err: io::Error) -> Stop {
    Stop::End(End::Cut(err))
}

fn is_timeout(err: &io::Error) -> bool {
    matches!(err.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
}

/// Cuts a byte stream into frames.
struct FrameReader {
    /// Shared with the frame that is being answered, and longer only when another thread reads on meanwhile.
    buf: Arc<Vec<u8>>,
    start: usize,
    end: usize,
    /// Bytes of the frame that begins here, 0 when not even its size is known.
    wanted: usize,
}

/// A whole frame, and the bytes in which it lies.
struct Frame {
    buf: Arc<Vec<u8>>,
    start: usize,
    end: usize,
}

impl Frame {
    fn bytes(&self) -> &[u8] {
        self.buf.get(self.start..self.end).unwrap_or(&[])
    }

    fn header(&self) -> Option<Header> {
        Header::split(self.bytes()).ok().map(|(header, _)| header)
    }
}

/// What a request does with fids, by its type and where they stand in it: enough to keep requests in order that concern
/// one fid.
struct Fids {
    /// The one that means something else after it, or another content.
    makes: Option<u32>,
    /// Those that it needs as they are.
    uses: [u32; 2],
}

impl Fids {
    fn of(kind: u8, frame: &[u8]) -> Self {
        let word = |at: usize| {
            let field = frame.get(HEADER_BYTES.saturating_add(at)..).and_then(|b| b.first_chunk());
            field.copied().map_or(NO_FID, u32::from_le_bytes)
        };
        let (first, second) = (word(0), word(4));
        let (makes, other) = match kind {
            // Twalk, Tgwalk, Tgopen, Txattrwalk and Tgcreate: fid, newfid.
            110 | 128 | 132 | 30 | 134 => (second, second),
            // Tattach, Tlopen, Tlcreate, Txattrcreate, Twrite, Tclunk and Tremove.
            104 | 12 | 14 | 32 | 118 | 120 | 122 => (first, NO_FID),
            // Trename and Tlink: two files.
            20 | 70 => (NO_FID, second),
            // Trenameat: the second directory stands behind a name.
            74 => {
                let length =
                    frame.get(HEADER_BYTES.saturating_add(4)..).and_then(|b| b.first_chunk());
                let length = length.copied().map_or(0, u16::from_le_bytes);
                (NO_FID, word(usize::from(length).saturating_add(6)))
            }
            // Tonce: a number first.
            136 => return Self { makes: None, uses: [NO_FID; 2] },
            _ => (NO_FID, NO_FID),
        };
        Self { makes: (makes != NO_FID).then_some(makes), uses: [first, other] }
    }
}

impl FrameReader {
    fn new() -> Self {
        Self { buf: Arc::new(vec![0; READ_ROOM_BYTES]), start: 0, end: 0, wanted: 0 }
    }

    fn here(&self) -> &[u8] {
        self.buf.get(self.start..self.end).unwrap_or(&[])
    }

    fn next_bytes(&self) -> Option<u32> {
        self.here().first_chunk::<4>().copied().map(u32::from_le_bytes)
    }

    /// The next frame, when all of it is here.
    fn frame(&mut self, msize: u32) -> Result<Option<Frame>, WireError> {
        self.wanted = 0;
        let Some(size) = self.next_bytes() else { return Ok(None) };
        if size > msize || size < 7 {
            return Err(WireError::Size { says: size, got: self.here().len() });
        }
        let length = usize::try_from(size).unwrap_or(usize::MAX);
        if self.here().len() < length {
            self.wanted = length;
            return Ok(None);
        }
        let (start, end) = (self.start, self.start.saturating_add(length));
        self.start = end;
        if self.start >= self.end {
            (self.start, self.end) = (0, 0);
        }
        Ok(Some(Frame { buf: self.buf.clone(), start, end }))
    }

    /// Whether another frame is here to its last byte.
    fn has_whole(&self) -> bool {
        let length = self.next_bytes().and_then(|size| usize::try_from(size).ok());
        length.is_some_and(|length| self.here().len() >= length)
    }

    const fn has_part(&self) -> bool {
        self.start < self.end
    }

    /// Room behind what is here; never empty while a frame is incomplete.
    fn room(&mut self) -> &mut [u8] {
        let rest = self.start..self.end;
        let kept = self.end.saturating_sub(self.start);
        let bytes = self.wanted.max(READ_ROOM_BYTES);
        match Arc::get_mut(&mut self.buf) {
            Some(buf) => {
                // The rest of a frame must fit behind its beginning; small rests are moved rarely, because the
                // buffer is emptied whenever all its frames are answered.
                if rest.start > 0 {
                    buf.copy_within(rest, 0);
                }
                if buf.len() < self.wanted {
                    buf.resize(self.wanted, 0);
                }
            }
            // A frame in it is still being answered.
            None => {
                let mut fresh = Vec::with_capacity(bytes);
                fresh.extend_from_slice(self.here());
                fresh.resize(bytes, 0);
                self.buf = Arc::new(fresh);
            }
        }
        (self.start, self.end) = (0, kept);
        // Nobody else has it: this makes no copy.
        Arc::make_mut(&mut self.buf).get_mut(kept..).unwrap_or(&mut [])
    }

    fn filled(&mut self, got: usize) {
        self.end = self.end.saturating_add(got).min(self.buf.len());
    }
}

/// Work for a helper thread.
enum Task<B: Backend> {
    /// A request that may block.
    Job(Deferred<B>),
    /// To read on in another thread's stead.
    Read(Reading),
}

/// A request that is late.
struct Late {
    number: u64,
    /// The fid that it makes.
    makes: Option<u32>,
    call: Cancel,
}

struct Queue<B: Backend> {
    tasks: VecDeque<Task<B>>,
    idle: usize,
    closed: bool,
    /// Requests that a disk works on.
    disk_running: usize,
    /// Requests that cost their readers the turn and are not answered yet.
    late: Vec<Late>,
    next_late: u64,
    /// Requests for a disk beyond [`Limits::disk_jobs_max`]; the connection limits how many.
    disk_waiting: VecDeque<Deferred<B>>,
    end: Option<End>,
}

/// Threads for requests that may block. For events as many as there are such requests at one time, which the
/// session limits, so that none waits behind another; a few for the disk, which does not get faster by more. The
/// reading thread waits for none of them, so that a `Tflush` is always read.
struct Helpers<S: Stream, B: Backend> {
    stream: Arc<S>,
    writing: Mutex<()>,
    queue: Mutex<Queue<B>>,
    wake: Condvar,
    /// Rung when a disk works on one request less.
    idle_disk: Condvar,
    /// Rung at the end.
    ended: Condvar,
    turn: Turn<Luggage>,
    /// As many as are in `late` of the queue.
    late_count: AtomicUsize,
    connection: Connection<B>,
    limits: Limits,
}

impl<S: Stream, B: Backend> Watched for Helpers<S, B> {
    fn look(self: Arc<Self>) -> Look {
        self.turn.look(self.limits.late_max, |Luggage { reading, tag, call, makes }| {
            let late = self.more_late(makes, call.clone());
            // Before anybody reads on: the next frame may be its flush. Its own thread waits for the turn's lock before
            // it picks up, so it finds the mark.
            let serial = self.connection.shared.session().late(tag, &call);
            match self.hand_over(Task::Read(reading)) {
                Ok(()) => Ok(Mark { late, serial }),
                Err(Task::Read(reading)) => {
                    self.less_late(late);
                    // Nobody has read a flush of it.
                    let _ =
                        serial.map(|serial| self.connection.shared.session().finish(tag, serial));
                    Err(Luggage { reading, tag, call, makes })
                }
                Err(Task::Job(_)) => Ok(Mark::default()),
            }
        })
    }
}

impl<S: Stream, B: Backend> Helpers<S, B> {
    fn write(&self, bytes: &[u8], spliced: Option<Box<dyn Spliced>>) -> io::Result<()> {
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        match spliced {
            Some(mut spliced) => self.stream.write_spliced(bytes, &mut *spliced),
            None => self.stream.write_all(bytes),
        }
    }

    fn queue(&self) -> MutexGuard<'_, Queue<B>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn more_late(&self, makes: Option<u32>, call: Cancel) -> u64 {
        let mut queue = self.queue();
        let number = queue.next_late;
        queue.next_late = number.wrapping_add(1);
        queue.late.push(Late { number, makes, call });
        self.late_count.store(queue.late.len(), Ordering::Release);
        number
    }

    fn less_late(&self, late: u64) {
        let mut queue = self.queue();
        queue.late.retain(|one| one.number != late);
        self.late_count.store(queue.late.len(), Ordering::Release);
        self.idle_disk.notify_all();
    }

    /// Requests that concern one fid do not overtake each other: waits for those that are late and make one of these.
    fn after_those_of(&self, fids: [u32; 2]) {
        // Most of the time none is late. Only who took the turn from one that is asks, and knows it.
        if self.late_count.load(Ordering::Acquire) > 0 {
            // One that was flushed makes nothing any more.
            let makes = |late: &Late| {
                late.makes.is_some_and(|fid| fids.contains(&fid)) && !late.call.is_cancelled()
            };
            let same = |queue: &mut Queue<B>| queue.late.iter().any(makes);
            drop(self.idle_disk.wait_while(self.queue(), same));
        }
    }

    fn submit(self: &Arc<Self>, task: Task<B>) {
        let task = {
            let mut queue = self.queue();
            match task {
                Task::Job(deferred) if deferred.waits_for() == WaitsFor::Disk => {
                    if queue.disk_running >= self.limits.disk_jobs_max.max(1) {
                        queue.disk_waiting.push_back(deferred);
                        return;
                    }
                    queue.disk_running = queue.disk_running.saturating_add(1);
                    Task::Job(deferred)
                }
                task => task,
            }
        };
        if let Err(Task::Job(deferred)) = self.hand_over(task) {
            // A disk answers soon, so this thread can do it; an error would be taken for the file's.
            match deferred.waits_for() {
                WaitsFor::Disk => self.disk_work(deferred),
                WaitsFor::Event => self.answer_with(|| deferred.refuse(Errno::EAGAIN)),
            }
        }
    }

    /// Has an idle helper do it, or a new one.
    ///
    /// # Errors
    /// Gives the task back when there is no thread to be had.
    fn hand_over(self: &Arc<Self>, task: Task<B>) -> Result<(), Task<B>> {
        let mut queue = self.queue();
        if queue.idle > queue.tasks.len() {
            queue.tasks.push_back(task);
            drop(queue);
            self.wake.notify_one();
            return Ok(());
        }
        drop(queue);
        // Handed over by this place and not by the closure, so that it is still here when there is no thread.
        let first = Arc::new(Mutex::new(Some(task)));
        let (helpers, theirs) = (self.clone(), first.clone());
        let spawned = std::thread::Builder::new()
            .name("9p-helper".into())
            .stack_size(HELPER_STACK_BYTES)
            .spawn(move || helpers.work(take(&theirs)));
        match spawned {
            Ok(_) => Ok(()),
            Err(_) => take(&first).map_or(Ok(()), Err),
        }
    }

    fn answer_with(&self, finished: impl FnOnce() -> crate::Finished<B>) {
        let finished = finished();
        self.send(|out| finished.commit(out));
    }

    /// Puts and writes what is to be sent under one lock.
    fn send(&self, put: impl FnOnce(&mut Outgoing)) {
        let mut out = Outgoing::default();
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        put(&mut out);
        let Outgoing { before, spliced, after } = out;
        let mut sent = Ok(());
        if let Some(mut spliced) = spliced {
            sent = self.stream.write_spliced(&before, &mut *spliced);
        } else if !before.is_empty() {
            sent = self.stream.write_all(&before);
        }
        if sent.is_ok() && !after.is_empty() {
            sent = self.stream.write_all(&after);
        }
        if sent.is_err() {
            // The reading thread sees the end and tidies up.
            self.stream.shutdown();
        }
    }

    /// Does what is left to do for a frame whose reader has lost its turn over it.
    fn late(self: &Arc<Self>, handled: Handled<B>, request: (u16, Mark), reply: &mut ReplyBuf) {
        match handled {
            Handled::Reply => {
                let (tag, mark) = request;
                let known = (tag, mark.serial);
                self.send(|out| commit_late(&self.connection.shared, known, reply, out));
            }
            Handled::Later(deferred) => self.submit(Task::Job(deferred)),
            Handled::Here(deferred) => self.answer_with(|| deferred.run()),
            Handled::Silent => {}
            Handled::Hangup(_) => self.stream.shutdown(),
        }
        self.less_late(request.1.late);
    }

    fn work(self: &Arc<Self>, mut next: Option<Task<B>>) {
        while let Some(task) = next {
            match task {
                Task::Job(deferred) if deferred.waits_for() == WaitsFor::Disk => {
                    self.disk_work(deferred);
                }
                Task::Job(deferred) => self.answer_with(|| deferred.run()),
                Task::Read(reading) => {
                    let connection = self.connection.other();
                    Server { helpers: self.clone(), connection }.read(reading);
                }
            }
            next = self.wait();
        }
    }

    /// Does a request for a disk, and then those that have waited for a thread.
    fn disk_work(&self, first: Deferred<B>) {
        let mut next = Some(first);
        while let Some(deferred) = next {
            self.answer_with(|| deferred.run());
            let mut queue = self.queue();
            next = queue.disk_waiting.pop_front();
            if next.is_none() {
                queue.disk_running = queue.disk_running.saturating_sub(1);
                self.idle_disk.notify_all();
            }
        }
    }

    fn wait(&self) -> Option<Task<B>> {
        let mut queue = self.queue();
        queue.idle = queue.idle.saturating_add(1);
        let idle = |queue: &mut Queue<B>| queue.tasks.is_empty() && !queue.closed;
        let (mut queue, _) = self
            .wake
            .wait_timeout_while(queue, HELPER_IDLE, idle)
            .unwrap_or_else(PoisonError::into_inner);
        queue.idle = queue.idle.saturating_sub(1);
        queue.tasks.pop_front()
    }

    /// Ends the helpers, and waits until those that a disk works on have come back: nothing of this connection is to
    /// land after its end. A disk that does not answer holds nobody for longer than [`LAST_JOBS_LIMIT`].
    fn close(&self, end: End) {
        let mut queue = self.queue();
        queue.closed = true;
        self.wake.notify_all();
        let busy = |queue: &mut Queue<B>| queue.disk_running > 0 || !queue.late.is_empty();
        let waited = self.idle_disk.wait_timeout_while(queue, LAST_JOBS_LIMIT, busy);
        let (mut queue, _) = waited.unwrap_or_else(PoisonError::into_inner);
        queue.end = Some(end);
        self.ended.notify_all();
    }

    fn wait_for_end(&self) -> End {
        let running = |queue: &mut Queue<B>| queue.end.is_none();
        let ended = self.ended.wait_while(self.queue(), running);
        let mut queue = ended.unwrap_or_else(PoisonError::into_inner);
        queue.end.take().unwrap_or(End::Closed)
    }
}

fn take<T>(place: &Mutex<Option<T>>) -> Option<T> {
    place.lock().unwrap_or_else(PoisonError::into_inner).take()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Data;
    use crate::{Names, Request};

    fn fids(request: &Request<'_>) -> (Option<u32>, [u32; 2]) {
        let mut frame = Vec::new();
        request.encode(1, &mut frame);
        let Fids { makes, uses } = Fids::of(request.kind(), &frame);
        (makes, uses)
    }

    #[test]
    fn fids_are_found_where_they_stand() {
        let walk = Request::Walk { fid: 1, newfid: 2, names: Names::NONE };
        assert_eq!(fids(&walk), (Some(2), [1, 2]));
        assert_eq!(fids(&Request::Lopen { fid: 3, flags: 0 }), (Some(3), [3, NO_FID]));
        let write = Request::Write { fid: 4, offset: 0, data: Data(b"x") };
        assert_eq!(fids(&write), (Some(4), [4, NO_FID]));
        assert_eq!(fids(&Request::Getattr { fid: 5, mask: 0 }), (None, [5, NO_FID]));
        let (oldname, newname) = (&b"from"[..], &b"to"[..]);
        let moved = Request::Renameat { olddirfid: 6, oldname, newdirfid: 7, newname };
        assert_eq!(fids(&moved), (None, [6, 7]));
        let unlink = Request::Unlinkat { dirfid: 0, name: b"slow", flags: 0 };
        assert_eq!(fids(&unlink), (None, [0, NO_FID]), "a directory serves others meanwhile");
    }
}
