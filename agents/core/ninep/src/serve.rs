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
/// Room for frames at the start; grows to the largest frame that came.
const READ_ROOM_BYTES: usize = 64 * 1024;
/// Replies gathered before they are written, while more requests are at hand.
const GATHERED_BYTES_MAX: usize = 64 * 1024;
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
        queue: Mutex::new(Queue { jobs: VecDeque::new(), idle: 0, closed: false }),
        wake: Condvar::new(),
    });
    let reader = FrameReader { buf: vec![0; READ_ROOM_BYTES], start: 0, end: 0 };
    let mut server =
        Server { stream, connection, helpers, reader, limits, reads_left: HANDSHAKE_READS_MAX };
    let end = match server.run() {
        Ok(never) => match never {},
        Err(end) => end,
    };
    server.connection.close();
    server.helpers.close();
    server.stream.shutdown();
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
        self.stream.set_read_timeout(Some(self.limits.handshake)).map_err(End::Cut)?;
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
}

/// Threads for requests that may block. As many as there are such requests at one time, which the
/// session limits; so none waits behind another.
struct Helpers<S: Stream, B: Backend> {
    stream: Arc<S>,
    writing: Mutex<()>,
    queue: Mutex<Queue<B>>,
    wake: Condvar,
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
                WaitsFor::Disk => self.answer_with(|| deferred.run()),
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
            self.answer_with(|| deferred.run());
            next = self.wait();
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

    fn close(&self) {
        self.queue().closed = true;
        self.wake.notify_all();
    }
}

fn take<T>(place: &Mutex<Option<T>>) -> Option<T> {
    place.lock().unwrap_or_else(PoisonError::into_inner).take()
}
