//! One 9P session that many threads ask at one time: each waits for its own tag.

use super::caller::{Caller, EndedBy, LOOK};
use crate::relay::{OWN_TAG_MIN, read_frame};
use goblin_core_ninep::{Errno, NO_FID, NO_TAG, Reply, Request, Stream, VERSION_9P2000L};
use goblin_sys::socket::Socket;
use std::collections::BTreeMap;
use std::io;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

/// Room in a message beside the data of a read or a write, in bytes.
const OVERHEAD_BYTES: u32 = 24;

#[derive(Default)]
struct State {
    waiting: BTreeMap<u16, SyncSender<Arc<[u8]>>>,
    next_tag: u16,
    next_fid: u32,
    free_fids: Vec<u32>,
    over: bool,
}

/// The session.
pub struct Mux {
    socket: Socket,
    sending: Mutex<()>,
    state: Mutex<State>,
    msize: u32,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn of_io(err: &io::Error) -> Errno {
    err.raw_os_error().and_then(|number| u32::try_from(number).ok()).map_or(Errno::EIO, Errno)
}

impl Mux {
    /// Opens a session over one end of a pair, and attaches fid 0 to a share.
    ///
    /// # Errors
    /// The other end's, or of a machine without threads.
    pub fn open(socket: Socket, msize: u32, share: &str, user: &str) -> io::Result<Arc<Self>> {
        let state = State { next_fid: 1, ..State::default() };
        let mut mux = Self { socket, sending: Mutex::new(()), state: Mutex::new(state), msize };
        let version = Request::Version { msize, version: VERSION_9P2000L };
        let mut out = Vec::new();
        version.encode(NO_TAG, &mut out);
        Stream::write_all(&mux.socket, &out)?;
        let frame = read_frame(&mux.socket).ok_or(io::ErrorKind::UnexpectedEof)?;
        match Reply::decode(&frame) {
            Ok((_, Reply::Version { msize, version })) if version == VERSION_9P2000L => {
                mux.msize = mux.msize.min(msize).max(4096);
            }
            _ => return Err(io::ErrorKind::InvalidData.into()),
        }
        let mux = Arc::new(mux);
        let reader = mux.clone();
        thread::Builder::new().name("fuse-replies".into()).spawn(move || reader.hear())?;
        let attach = Request::Attach {
            fid: 0,
            afid: NO_FID,
            uname: user.as_bytes(),
            aname: share.as_bytes(),
            n_uname: u32::MAX,
        };
        mux.ask(&attach, |reply| matches!(reply, Reply::Attach { .. }).then_some(()))
            .map_err(|errno| io::Error::from_raw_os_error(i32::try_from(errno.0).unwrap_or(5)))?;
        Ok(mux)
    }

    /// Most bytes that one read or write carries.
    pub const fn payload_max(&self) -> u32 {
        self.msize.saturating_sub(OVERHEAD_BYTES)
    }

    fn hear(&self) {
        while let Some(frame) = read_frame(&self.socket) {
            let tag = frame.get(5..7).and_then(|tag| tag.try_into().ok()).map(u16::from_le_bytes);
            let waits = tag.and_then(|tag| lock(&self.state).waiting.remove(&tag));
            if let Some(waits) = waits {
                // Room for one was made when it was asked.
                let _ = waits.try_send(frame);
            }
        }
        let mut state = lock(&self.state);
        state.over = true;
        // Whoever waits sees its sender go.
        state.waiting.clear();
    }

    /// Asks for the program whose call this thread answers, and waits for the answer, from which `read` takes what is
    /// wanted. A program that is killed waits no longer.
    ///
    /// # Errors
    /// As [`ask_for`](Self::ask_for).
    pub fn ask<T>(
        &self,
        request: &Request<'_>,
        read: impl FnOnce(&Reply<'_>) -> Option<T>,
    ) -> Result<T, Errno> {
        self.ask_for(Caller::now(EndedBy::Kill), request, read)
    }

    /// As [`ask`](Self::ask) for this caller.
    ///
    /// # Errors
    /// What the server says; `EINTR` when the caller is gone and the request had no effect, `EIO` when the session is
    /// over, `EPROTO` for another reply than `read` knows.
    pub fn ask_for<T>(
        &self,
        caller: Caller,
        request: &Request<'_>,
        read: impl FnOnce(&Reply<'_>) -> Option<T>,
    ) -> Result<T, Errno> {
        let frame = self.sent(request, |tag, from| {
            loop {
                match from.recv_timeout(LOOK) {
                    Ok(frame) => return Ok(frame),
                    Err(RecvTimeoutError::Disconnected) => return Err(Errno::EIO),
                    Err(RecvTimeoutError::Timeout) if caller.is_gone() => {
                        return self.give_up(tag, from);
                    }
                    Err(RecvTimeoutError::Timeout) => {}
                }
            }
        })?;
        match Reply::decode(&frame) {
            Ok((_, Reply::Error { ecode })) => Err(Errno(ecode)),
            Ok((_, reply)) => read(&reply).ok_or(Errno::EPROTO),
            Err(_) => Err(Errno::EPROTO),
        }
    }

    /// Flushes a request. Its reply may have come before the flush's: then that counts.
    fn give_up(&self, oldtag: u16, from: &Receiver<Arc<[u8]>>) -> Result<Arc<[u8]>, Errno> {
        self.sent(&Request::Flush { oldtag }, |_, flushed| flushed.recv().map_err(|_| Errno::EIO))?;
        lock(&self.state).waiting.remove(&oldtag);
        from.try_recv().map_err(|_| Errno::EINTR)
    }

    /// Sends a request under a tag of its own, and has `wait` wait for the reply.
    fn sent(
        &self,
        request: &Request<'_>,
        wait: impl FnOnce(u16, &Receiver<Arc<[u8]>>) -> Result<Arc<[u8]>, Errno>,
    ) -> Result<Arc<[u8]>, Errno> {
        let (to, from) = sync_channel(1);
        let tag = {
            let mut state = lock(&self.state);
            if state.over || state.waiting.len() >= usize::from(OWN_TAG_MIN) {
                return Err(Errno::EIO);
            }
            // The rest are the relay's.
            let after = |tag: u16| tag.wrapping_add(1).checked_rem(OWN_TAG_MIN).unwrap_or(0);
            while state.waiting.contains_key(&state.next_tag) {
                state.next_tag = after(state.next_tag);
            }
            let tag = state.next_tag;
            state.next_tag = after(tag);
            state.waiting.insert(tag, to);
            tag
        };
        let mut out = Vec::new();
        request.encode(tag, &mut out);
        if u32::try_from(out.len()).map_or(true, |bytes| bytes > self.msize) {
            lock(&self.state).waiting.remove(&tag);
            return Err(Errno::EMSGSIZE);
        }
        {
            let _sending = lock(&self.sending);
            Stream::write_all(&self.socket, &out).map_err(|err| of_io(&err))?;
        }
        wait(tag, &from)
    }

    /// Moves `size` bytes in parts that fit a message: `part` is told how many were moved before and how many are wanted,
    /// and answers how many it moved; none is the end. Answers how many were moved.
    ///
    /// # Errors
    /// Those of `part`; `EIO` when it says that it moved more than was wanted.
    pub fn in_parts(
        &self,
        size: u64,
        mut part: impl FnMut(u64, u32) -> Result<u32, Errno>,
    ) -> Result<u64, Errno> {
        let mut done = 0u64;
        while done < size {
            let left = u32::try_from(size.saturating_sub(done)).unwrap_or(u32::MAX);
            let count = left.min(self.payload_max());
            match part(done, count)? {
                0 => break,
                moved if moved > count => return Err(Errno::EIO),
                moved => done = done.saturating_add(moved.into()),
            }
        }
        Ok(done)
    }

    /// A fid that nobody uses.
    pub fn new_fid(&self) -> u32 {
        let mut state = lock(&self.state);
        state.free_fids.pop().unwrap_or_else(|| {
            let fid = state.next_fid;
            state.next_fid = fid.saturating_add(1);
            fid
        })
    }

    /// Gives back a number that was not bound.
    pub fn free_fid(&self, fid: u32) {
        lock(&self.state).free_fids.push(fid);
    }

    /// Gives a fid back; it is free whatever the server says.
    pub fn clunk(&self, fid: u32) -> Result<(), Errno> {
        let done = self
            .ask(&Request::Clunk { fid }, |reply| matches!(reply, Reply::Clunk {}).then_some(()));
        self.free_fid(fid);
        done
    }

    /// Ends the session and every call that waits in it.
    pub fn end(&self) {
        self.socket.shutdown();
    }
}
