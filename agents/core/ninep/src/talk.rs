//! One open conversation: a line in, a stream of reply bytes out.

use crate::synthetic::Talker;
use crate::{Cancel, Errno};
use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

/// Longest line in bytes, without its newline.
pub const LINE_BYTES_MAX: usize = 64 * 1024;
/// Reply bytes that wait for the client; beyond it the writer waits.
pub const REPLY_BYTES_MAX: usize = 256 * 1024;
/// Stack of the thread that answers.
const ANSWER_STACK_BYTES: usize = 1024 * 1024;

type OnClosed = Box<dyn FnOnce() + Send>;

#[derive(Default)]
struct State {
    /// Waits for its line.
    talker: Option<Talker>,
    line: Vec<u8>,
    reply: VecDeque<u8>,
    /// The answer is complete.
    ended: Option<Result<(), Errno>>,
    /// The client is gone.
    closed: bool,
    on_closed: Option<OnClosed>,
}

#[derive(Default)]
struct Inner {
    state: Mutex<State>,
    changed: Condvar,
}

impl Inner {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&self, state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        self.changed.wait(state).unwrap_or_else(PoisonError::into_inner)
    }
}

pub(crate) struct Talk(Arc<Inner>);

impl fmt::Debug for Talk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Talk")
    }
}

impl Drop for Talk {
    fn drop(&mut self) {
        self.close();
    }
}

impl Talk {
    pub fn new(talker: Talker) -> Arc<Self> {
        let inner = Inner::default();
        inner.state().talker = Some(talker);
        Arc::new(Self(Arc::new(inner)))
    }

    /// Takes bytes of the line; the newline starts the answer.
    pub fn write(&self, data: &[u8]) -> Result<u32, Errno> {
        let mut state = self.0.state();
        if state.talker.is_none() {
            // One line for each open.
            return Err(Errno::EBUSY);
        }
        let end = data.iter().position(|byte| *byte == b'\n');
        let part = data.get(..end.unwrap_or(data.len())).unwrap_or(&[]);
        if end.is_some_and(|end| end.saturating_add(1) < data.len()) {
            return Err(Errno::EINVAL);
        }
        if state.line.len().saturating_add(part.len()) > LINE_BYTES_MAX {
            return Err(Errno::EMSGSIZE);
        }
        state.line.extend_from_slice(part);
        if end.is_some()
            && let Some(talker) = state.talker.take()
        {
            let line = std::mem::take(&mut state.line);
            drop(state);
            self.start(talker, line)?;
        }
        Ok(u32::try_from(data.len()).unwrap_or(u32::MAX))
    }

    fn start(&self, talker: Talker, line: Vec<u8>) -> Result<(), Errno> {
        let writer = ReplyWriter(self.0.clone());
        let inner = self.0.clone();
        let answer = move || {
            let result = talker(line, writer);
            let mut state = inner.state();
            state.ended = Some(result);
            // What would tell the talker of the client's end is of no use any more.
            let on_closed = state.on_closed.take();
            drop(state);
            drop(on_closed);
            inner.changed.notify_all();
        };
        let spawned = std::thread::Builder::new()
            .name("9p-answer".into())
            .stack_size(ANSWER_STACK_BYTES)
            .spawn(answer);
        if spawned.is_err() {
            self.0.state().ended = Some(Err(Errno::EAGAIN));
            return Err(Errno::EAGAIN);
        }
        Ok(())
    }

    /// Waits for reply bytes; none at their end.
    pub fn read(&self, count: usize, cancel: &Cancel) -> Result<Vec<u8>, Errno> {
        let waker = self.0.clone();
        cancel.on_cancel(move || {
            // Taking the lock orders this after the reader's look at the token.
            drop(waker.state());
            waker.changed.notify_all();
        });
        let mut state = self.0.state();
        loop {
            if cancel.is_cancelled() || state.closed {
                return Err(Errno::EINTR);
            }
            if !state.reply.is_empty() || count == 0 {
                if !cancel.commit() {
                    return Err(Errno::EINTR);
                }
                let count = count.min(state.reply.len());
                let bytes = state.reply.drain(..count).collect();
                drop(state);
                self.0.changed.notify_all();
                return Ok(bytes);
            }
            match state.ended {
                Some(Ok(())) => return Ok(Vec::new()),
                Some(Err(errno)) => return Err(errno),
                None => state = self.0.wait(state),
            }
        }
    }

    pub fn close(&self) {
        let mut state = self.0.state();
        state.closed = true;
        let (talker, on_closed) = (state.talker.take(), state.on_closed.take());
        drop(state);
        drop(talker);
        self.0.changed.notify_all();
        if let Some(tell) = on_closed {
            tell();
        }
    }
}

/// Where the answer to a line goes. Writing waits while [`REPLY_BYTES_MAX`] bytes are unread, and fails
/// with `BrokenPipe` once the client is gone.
#[derive(Clone)]
pub struct ReplyWriter(Arc<Inner>);

impl fmt::Debug for ReplyWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ReplyWriter")
    }
}

impl ReplyWriter {
    /// True once the client is gone.
    pub fn is_closed(&self) -> bool {
        self.0.state().closed
    }

    /// Has `tell` called when the client goes away before the answer is complete, so that a blocked
    /// source (a socket) can be shut; at once when it is gone already. `tell` must not block.
    pub fn on_closed(&self, tell: impl FnOnce() + Send + 'static) {
        let mut state = self.0.state();
        if state.closed {
            drop(state);
            tell();
        } else {
            state.on_closed = Some(Box::new(tell));
        }
    }
}

impl io::Write for ReplyWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut state = self.0.state();
        loop {
            if state.closed {
                return Err(io::ErrorKind::BrokenPipe.into());
            }
            let room = REPLY_BYTES_MAX.saturating_sub(state.reply.len());
            if room > 0 || bytes.is_empty() {
                let taken = bytes.get(..room.min(bytes.len())).unwrap_or(&[]);
                state.reply.extend(taken);
                drop(state);
                self.0.changed.notify_all();
                return Ok(taken.len());
            }
            state = self.0.wait(state);
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
