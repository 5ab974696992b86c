//! The loop around a [`Connection`]: reads frames, writes replies, runs what may block on helper threads.
//!
//! ```text
//!   reading thread: frame -> Connection::handle -> reply ---------------\
//!                                         \-> Deferred -> queue          +-> writing side (one lock)
//!   helper threads:                             run -> commit + write --/
//! ```
//!
//! The reading thread writes its own replies: a client that does not read slows itself down and costs no
//! memory. The stream's own write time limit ends a client that reads nothing at all.

use crate::{Backend, Connection, Deferred, Errno, Handled, Limits, ReplyBuf, WaitsFor, WireError};
use std::collections::VecDeque;
use std::fmt;
use std::io;
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
    let connection = Connection::new(backend, limits);
    let helpers = Arc::new(Helpers {
        stream: stream.clone(),
        writing: Mutex::new(()),
        queue: Mutex::new(Queue {
            jobs: VecDeque::new(),
            idle: 0,
            closed: false,
            disk_running: 0,
            disk_waiting: VecDeque::new(),
        }),
        wake: Condvar::new(),
        idle_disk: Condvar::new(),
        disk_jobs_max: limits.disk_jobs_max.max(1),
    });
    let reader = FrameReader { buf: vec![0; READ_ROOM_BYTES], start: 0, end: 0 };
    let mut server =
        Server { stream, connection, helpers, reader, limits, reads_left: HANDSHAKE_READS_MAX };
    let end = match server.run() {
        Ok(never) => match never {},
        Err(end) => end,
    };
    server.stream.shutdown();
    server.connection.close();
    server.helpers.close();
    end
}

struct Server<S: Stream, B: Backend> {
    stream: Arc<S>,
    connection: Connection<B>,
    helpers: Arc<Helpers<S, B>>,
    reader: FrameReader,
    limits: Limits,
    /// 0 once attached.
    reads_left: u32,
}

impl<S: Stream, B: Backend> Server<S, B> {
    fn run(&mut self) -> Result<std::convert::Infallible, End> {
        let mut reply = ReplyBuf::new();
        let mut gathered = Vec::new();
        loop {
            let msize = self.connection.msize();
            let Some(length) = self.reader.frame_length(msize).map_err(End::Protocol)? else {
                self.fill()?;
                continue;
            };
            let frame = self.reader.frame(length);
            let handled = self.connection.handle(frame, &mut reply);
            self.reader.consume(length);
            let more = matches!(self.reader.frame_length(msize), Ok(Some(_)));
            match handled {
                Handled::Reply if gathered.is_empty() && !more => self.helpers.write(reply.bytes()),
                Handled::Reply => {
                    gathered.extend_from_slice(reply.bytes());
                    Ok(())
                }
                Handled::Later(deferred) => {
                    self.helpers.submit(deferred);
                    Ok(())
                }
                Handled::Here(deferred) => {
                    // Answers that are ready do not wait for a disk.
                    let sent = self.helpers.write(&gathered);
                    gathered.clear();
                    if sent.is_ok() {
                        self.helpers.answer_with(|| deferred.run());
                    }
                    sent
                }
                Handled::Silent => Ok(()),
                Handled::Hangup(err) => return Err(End::Protocol(err)),
            }
            .map_err(End::Cut)?;
            if !gathered.is_empty() && (!more || gathered.len() > GATHERED_BYTES_MAX) {
                self.helpers.write(&gathered).map_err(End::Cut)?;
                gathered.clear();
            }
            if self.reads_left > 0 && self.connection.is_attached() {
                self.reads_left = 0;
                self.stream.set_read_timeout(None).map_err(End::Cut)?;
            }
        }
    }

    fn fill(&mut self) -> Result<(), End> {
        let before_attach = self.reads_left > 0;
        if before_attach {
            self.reads_left = self.reads_left.saturating_sub(1);
            if self.reads_left == 0 {
                return Err(End::Handshake);
            }
            // Each wait may take half as long as the one before, so that all of them take no longer than twice the
            // first: a peer that sends a byte now and then is put out as one that sends none.
            let spent = HANDSHAKE_READS_MAX.saturating_sub(self.reads_left).saturating_sub(1);
            let wait = self.limits.handshake.checked_div(1 << spent.min(20));
            let wait = wait.unwrap_or_default().max(HANDSHAKE_READ_MIN);
            self.stream.set_read_timeout(Some(wait)).map_err(End::Cut)?;
        }
        let inside = self.reader.has_part();
        let got = loop {
            match self.stream.read(self.reader.room()) {
                Err(err) if err.kind() == io::ErrorKind::Interrupted => {}
                Err(err) if before_attach && is_timeout(&err) => return Err(End::Handshake),
                other => break other.map_err(End::Cut)?,
            }
        };
        match got {
            0 if inside => Err(End::Cut(io::ErrorKind::UnexpectedEof.into())),
            0 => Err(End::Closed),
            got => {
                self.reader.filled(got);
                Ok(())
            }
        }
    }
}

fn is_timeout(err: &io::Error) -> bool {
    matches!(err.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
}

/// Cuts a byte stream into frames.
struct FrameReader {
    buf: Vec<u8>,
    start: usize,
    end: usize,
}

impl FrameReader {
    /// Length of the next frame, when all of it is here. Makes room for it otherwise.
    fn frame_length(&mut self, msize: u32) -> Result<Option<usize>, WireError> {
        let here = self.buf.get(self.start..self.end).unwrap_or(&[]);
        let Some(size) = here.first_chunk::<4>().copied().map(u32::from_le_bytes) else {
            return Ok(None);
        };
        if size > msize || size < 7 {
            return Err(WireError::Size { says: size, got: here.len() });
        }
        let length = usize::try_from(size).unwrap_or(usize::MAX);
        if here.len() >= length {
            return Ok(Some(length));
        }
        if self.buf.len() < length {
            self.buf.resize(length, 0);
        }
        Ok(None)
    }

    fn frame(&self, length: usize) -> &[u8] {
        self.buf.get(self.start..self.start.saturating_add(length)).unwrap_or(&[])
    }

    const fn consume(&mut self, length: usize) {
        self.start = self.start.saturating_add(length);
        if self.start >= self.end {
            (self.start, self.end) = (0, 0);
        }
    }

    const fn has_part(&self) -> bool {
        self.start < self.end
    }

    /// Room behind what is here; never empty while a frame is incomplete.
    fn room(&mut self) -> &mut [u8] {
        // The rest of a frame must fit behind its beginning; small rests are moved rarely, because the
        // buffer is emptied whenever all its frames are answered.
        if self.start > 0 {
            self.buf.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end.saturating_sub(self.start));
        }
        self.buf.get_mut(self.end..).unwrap_or(&mut [])
    }

    fn filled(&mut self, got: usize) {
        self.end = self.end.saturating_add(got).min(self.buf.len());
    }
}

struct Queue<B: Backend> {
    jobs: VecDeque<Deferred<B>>,
    idle: usize,
    closed: bool,
    /// Requests that a disk works on.
    disk_running: usize,
    /// Requests for a disk beyond [`Limits::disk_jobs_max`]; the connection limits how many.
    disk_waiting: VecDeque<Deferred<B>>,
}

/// Threads for requests that may block. For events as many as there are such requests at one time, which the
/// session limits, so that none waits behind another; a few for the disk, which does not get faster by more. The
/// reading thread waits for none of them, so that a `Tflush` is always read.
struct Helpers<S: Stream, B: Backend> {
    disk_jobs_max: usize,
    stream: Arc<S>,
    writing: Mutex<()>,
    queue: Mutex<Queue<B>>,
    wake: Condvar,
    /// Rung when a disk works on one request less.
    idle_disk: Condvar,
}

impl<S: Stream, B: Backend> Helpers<S, B> {
    fn write(&self, bytes: &[u8]) -> io::Result<()> {
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        self.stream.write_all(bytes)
    }

    fn queue(&self) -> MutexGuard<'_, Queue<B>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn submit(self: &Arc<Self>, deferred: Deferred<B>) {
        let mut queue = self.queue();
        if deferred.waits_for() == WaitsFor::Disk {
            if queue.disk_running >= self.disk_jobs_max {
                queue.disk_waiting.push_back(deferred);
                return;
            }
            queue.disk_running = queue.disk_running.saturating_add(1);
        }
        if queue.idle > queue.jobs.len() {
            queue.jobs.push_back(deferred);
            drop(queue);
            self.wake.notify_one();
            return;
        }
        drop(queue);
        // Handed over by the queue and not by the closure, so that it is still here when there is no
        // thread to be had.
        let first = Arc::new(Mutex::new(Some(deferred)));
        let (helpers, theirs) = (self.clone(), first.clone());
        let spawned = std::thread::Builder::new()
            .name("9p-helper".into())
            .stack_size(HELPER_STACK_BYTES)
            .spawn(move || helpers.work(take(&theirs)));
        if spawned.is_err()
            && let Some(deferred) = take(&first)
        {
            // A disk answers soon, so this thread can do it; an error would be taken for the file's.
            match deferred.waits_for() {
                WaitsFor::Disk => self.disk_work(deferred),
                WaitsFor::Event => self.answer_with(|| deferred.refuse(Errno::EAGAIN)),
            }
        }
    }

    fn answer_with(&self, finished: impl FnOnce() -> crate::Finished<B>) {
        let finished = finished();
        let mut out = Vec::new();
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        finished.commit(&mut out);
        if !out.is_empty() && self.stream.write_all(&out).is_err() {
            // The reading thread sees the end and tidies up.
            self.stream.shutdown();
        }
    }

    fn work(&self, mut next: Option<Deferred<B>>) {
        while let Some(deferred) = next {
            match deferred.waits_for() {
                WaitsFor::Disk => self.disk_work(deferred),
                WaitsFor::Event => self.answer_with(|| deferred.run()),
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

    fn wait(&self) -> Option<Deferred<B>> {
        let mut queue = self.queue();
        queue.idle = queue.idle.saturating_add(1);
        let (mut queue, _) = self
            .wake
            .wait_timeout_while(queue, HELPER_IDLE, |queue| queue.jobs.is_empty() && !queue.closed)
            .unwrap_or_else(PoisonError::into_inner);
        queue.idle = queue.idle.saturating_sub(1);
        queue.jobs.pop_front()
    }

    /// Ends the helpers, and waits until those that a disk works on have come back: nothing of this connection is to
    /// land after its end. A disk that does not answer holds nobody for longer than [`LAST_JOBS_LIMIT`].
    fn close(&self) {
        let mut queue = self.queue();
        queue.closed = true;
        self.wake.notify_all();
        let busy = |queue: &mut Queue<B>| queue.disk_running > 0;
        drop(self.idle_disk.wait_timeout_while(queue, LAST_JOBS_LIMIT, busy));
    }
}

fn take<T>(place: &Mutex<Option<T>>) -> Option<T> {
    place.lock().unwrap_or_else(PoisonError::into_inner).take()
}
