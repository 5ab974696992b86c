//! A relay between the kernel's 9P client and a server over TLS, which outlives the connection.
//!
//! ```text
//!   kernel v9fs <- socket pair -> up thread   -- frames -->  TLS connection -> server
//!                              <- down thread <-- frames --  (a new one after each loss)
//!                                   | loss: dial, bind fids again (`restore`), ask again (`table`)
//! ```
//!
//! The kernel notices nothing of a loss but the time it takes. What cannot be carried over fails with `EIO`
//! once: see [`table`]. What can be foreseen is asked before the kernel asks: see [`ahead`]. Past the [`Patience`] everything fails at once until the server is back, and the
//! mount stays.
//!
//! Invariants:
//! - The kernel gets exactly one answer to each request, none after `Rflush`.
//! - While the server is away `Tflush` is answered here: a process that is killed ends. A server that is there and
//!   does not answer one in time is cut off, so that it is away.
//! - A server that takes nothing, or does not answer while fids are bound again, is away too.
//! - The end of this process closes the pair: every call in the mount then fails with `EIO`.

mod ahead;
mod fid;
mod frames;
mod owner;
mod restore;
mod table;

pub(crate) use ahead::OWN_TAG_MIN;
pub(crate) use frames::read_frame;
pub use owner::Owner;

use ahead::Parcel;
use frames::Frames;
use goblin_core_ninep::Stream;
use goblin_core_types::Greeting;
use goblin_sys::socket::Socket;
use goblin_tls::TlsStream;
use restore::Locks;
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};
use table::{Heard, Table, Verdict};

/// Largest message from either side: that of the mounts made here (see `kernel::MSIZE_BYTES`), with room.
const FRAME_BYTES_MAX: u32 = 1 << 20;
/// Pause after the first attempt to connect again.
const PAUSE_MIN: Duration = Duration::from_millis(200);
/// Longest pause between attempts.
const PAUSE_MAX: Duration = Duration::from_secs(3);
/// Longest wait for one answer while fids are bound again, and for the server to take what is sent then.
const RESTORE_LIMIT: Duration = Duration::from_secs(if cfg!(test) { 1 } else { 15 });
/// Longest a server may take to answer `Tflush`: somebody was killed, and waits for it.
const FLUSH_LIMIT: Duration = Duration::from_secs(if cfg!(test) { 1 } else { 5 });
/// Pause between looks at what waits.
const WATCH: Duration = Duration::from_millis(500);
/// How long after a loss locks that are still held are taken for our own, held by the session that was lost: until
/// the server has noticed that its end is gone.
const LOCKS_WAIT: Duration = Duration::from_secs(75);

/// How long calls wait for a server that is away before they fail.
#[derive(Debug, Clone, Copy)]
pub struct Patience(pub Duration);

/// Makes connections. Called by the relay's own thread, again and again while the server is away.
pub type Dial = Box<dyn FnMut() -> io::Result<(TlsStream, Greeting)> + Send>;

/// What is told about the connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum News {
    /// The server is there again.
    Back {
        /// Files that could not be carried over.
        lost_files: usize,
    },
    /// The connection broke; calls wait.
    Away {
        /// Why.
        reason: String,
    },
    /// Calls fail at once now.
    GaveUp {
        /// Why the last attempt failed.
        reason: String,
    },
}

/// Is told the news.
pub type Listener = Box<dyn FnMut(&News) + Send>;

struct State {
    table: Table,
    server: Option<Arc<TlsStream>>,
    over: bool,
}

struct Shared {
    state: Mutex<State>,
    ended: Condvar,
    kernel: Socket,
    owner: Owner,
    /// Held while an answer is written to the kernel.
    writing: Mutex<()>,
    /// Held from the decision to send a request until it is sent, so that a flush never overtakes what it
    /// is about. Never taken by the thread that reads replies.
    sending: Mutex<()>,
}

/// A running relay. Dropping it ends it, and with it every call in the mount.
pub struct Relay {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

impl std::fmt::Debug for Relay {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Relay").finish_non_exhaustive()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    fn answer(&self, frame: &[u8]) {
        let _writing = lock(&self.writing);
        if self.kernel.write_all(frame).is_err() {
            // The mount is gone; the up thread sees it too.
            self.kernel.shutdown();
        }
    }

    fn finish(&self) {
        let mut state = self.state();
        state.over = true;
        if let Some(server) = state.server.take() {
            server.shutdown();
        }
        drop(state);
        self.kernel.shutdown();
        self.ended.notify_all();
    }

    /// Waits, unless the relay ends meanwhile; true when it ended.
    fn pause(&self, time: Duration) -> bool {
        let state = self.state();
        let (state, _) = self
            .ended
            .wait_timeout_while(state, time, |state| !state.over)
            .unwrap_or_else(PoisonError::into_inner);
        state.over
    }
}

impl Relay {
    /// Starts between `kernel`, this end of the pair, and a first connection. The files are shown as `owner`'s.
    ///
    /// # Errors
    /// When no thread is to be had.
    pub fn start(
        kernel: Socket,
        first: (TlsStream, Greeting),
        dial: Dial,
        patience: Patience,
        owner: Owner,
        listener: Listener,
    ) -> io::Result<Self> {
        let server = Arc::new(first.0);
        let state = State { table: Table::default(), server: Some(server.clone()), over: false };
        let shared = Arc::new(Shared {
            state: Mutex::new(state),
            ended: Condvar::new(),
            kernel,
            owner,
            writing: Mutex::new(()),
            sending: Mutex::new(()),
        });
        let mut relay = Self { shared: shared.clone(), threads: Vec::new() };
        let for_up = shared.clone();
        let up = thread::Builder::new().name("relay-up".into()).spawn(move || up(&for_up))?;
        relay.threads.push(up);
        let for_watch = shared.clone();
        let watch =
            thread::Builder::new().name("relay-watch".into()).spawn(move || watch(&for_watch))?;
        relay.threads.push(watch);
        let mut down =
            Down { shared, dial, patience, listener, boot_id: first.1.boot_id, run: first.1.run };
        let down =
            thread::Builder::new().name("relay-down".into()).spawn(move || down.run(server))?;
        relay.threads.push(down);
        Ok(relay)
    }

    /// Whether the mount is gone, or the relay was ended.
    pub fn is_over(&self) -> bool {
        self.shared.state().over
    }

    /// Waits for the end of the mount, at most so long; true when it came.
    pub fn wait(&self, time: Duration) -> bool {
        self.shared.pause(time)
    }

    /// Cuts the connection to the server, as if it had broken: the next one is made at once.
    pub fn cut(&self) {
        if let Some(server) = &self.shared.state().server {
            server.shutdown();
        }
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.shared.finish();
        for thread in self.threads.drain(..) {
            // Both end by themselves once the pair is shut, at the latest after one attempt to connect.
            let _ = thread.join();
        }
    }
}

fn up(shared: &Shared) {
    let mut frames = Frames::new();
    while let Some(mut frame) = frames.next(&shared.kernel) {
        if let Some(bytes) = Arc::get_mut(&mut frame) {
            shared.owner.request(bytes);
        }
        let sending = lock(&shared.sending);
        let (verdict, parcel, server) = {
            let mut state = shared.state();
            let verdict = state.table.at(Instant::now()).request(frame);
            let parcel = state.table.parcel(&verdict);
            (verdict, parcel, state.server.clone())
        };
        let forwarded = match verdict {
            Verdict::Answer(mut answer) => {
                shared.owner.reply(&mut answer);
                shared.answer(&answer);
                None
            }
            Verdict::Forward(frame) => Some(frame),
            Verdict::Hold => None,
        };
        if let Some(server) = server {
            send(&server, &parcel, forwarded.as_deref().unwrap_or_default());
        }
        drop(sending);
    }
    shared.finish();
}

/// Sends a request and what goes with it, in one piece where that is small.
fn send(server: &TlsStream, Parcel { before, after }: &Parcel, frame: &[u8]) {
    let sent = if before.is_empty() && after.is_empty() {
        if frame.is_empty() { Ok(()) } else { server.write_all(frame) }
    } else {
        server.write_all(&[before.as_slice(), frame, after.as_slice()].concat())
    };
    if sent.is_err() {
        // The down thread notices, and asks again on the next connection.
        server.shutdown();
    }
}

/// Cuts a connection on which a `Tflush` waits for too long, and sends what waits for a next request that does not come.
fn watch(shared: &Shared) {
    let mut oldest: Option<(u64, Instant)> = None;
    while !shared.pause(WATCH) {
        send_idle(shared);
        let state = shared.state();
        let waits = state.table.oldest_flush();
        match (waits, oldest) {
            (Some(order), Some((before, since))) if order == before => {
                if since.elapsed() > FLUSH_LIMIT
                    && let Some(server) = &state.server
                {
                    server.shutdown();
                    oldest = None;
                }
            }
            (waits, _) => oldest = waits.map(|order| (order, Instant::now())),
        }
    }
}

fn send_idle(shared: &Shared) {
    // Whoever sends now takes it along, and may have to be cut off.
    let Ok(_sending) = shared.sending.try_lock() else { return };
    let (parcel, server) = {
        let mut state = shared.state();
        (state.table.idle(), state.server.clone())
    };
    if let Some(server) = server
        && parcel != Parcel::default()
    {
        send(&server, &parcel, &[]);
    }
}

struct Down {
    shared: Arc<Shared>,
    dial: Dial,
    patience: Patience,
    listener: Listener,
    boot_id: String,
    run: String,
}

impl Down {
    fn run(&mut self, mut server: Arc<TlsStream>) {
        loop {
            let mut frames = Frames::new();
            while let Some(mut frame) = frames.next(&*server) {
                let heard = self.shared.state().table.at(Instant::now()).reply(&frame);
                match heard {
                    Heard::Kernel => {
                        if let Some(bytes) = Arc::get_mut(&mut frame) {
                            self.shared.owner.reply(bytes);
                        }
                        self.shared.answer(&frame);
                    }
                    Heard::Answer(mut answer) => {
                        self.shared.owner.reply(&mut answer);
                        self.shared.answer(&answer);
                    }
                    Heard::Nobody => {}
                }
            }
            server.shutdown();
            match self.come_back() {
                Some(next) => server = next,
                None => return,
            }
        }
    }

    /// From the loss of a connection to the next one; `None` when the relay is over.
    fn come_back(&mut self) -> Option<Arc<TlsStream>> {
        let lost_at = Instant::now();
        let answers = {
            let mut state = self.shared.state();
            if state.over {
                return None;
            }
            state.server = None;
            state.table.lost()
        };
        answers.iter().for_each(|answer| self.shared.answer(answer));
        (self.listener)(&News::Away { reason: "the connection broke".into() });
        let mut pause = PAUSE_MIN;
        let mut told = false;
        loop {
            match self.connect(lost_at) {
                Ok((stream, lost_files)) => {
                    (self.listener)(&News::Back { lost_files });
                    return Some(stream);
                }
                // A key that is not admitted any more is not worth waiting for.
                Err(err)
                    if !told
                        && (lost_at.elapsed() >= self.patience.0
                            || err.kind() == io::ErrorKind::PermissionDenied) =>
                {
                    told = true;
                    let answers = self.shared.state().table.give_up();
                    answers.iter().for_each(|answer| self.shared.answer(answer));
                    (self.listener)(&News::GaveUp { reason: err.to_string() });
                }
                Err(_) => {}
            }
            if self.shared.pause(pause) {
                return None;
            }
            pause = pause.saturating_mul(2).min(PAUSE_MAX);
        }
    }

    /// One attempt: dial, bind the fids, ask again.
    fn connect(&mut self, lost_at: Instant) -> io::Result<(Arc<TlsStream>, usize)> {
        let (stream, greeting) = (self.dial)()?;
        let limit = Some(RESTORE_LIMIT);
        stream.socket().set_limits(limit, limit)?;
        let kept = has_kept(&self.boot_id, &self.run, &greeting);
        let (msize, fids) = {
            let state = self.shared.state();
            (state.table.msize(), state.table.fids())
        };
        // Before the kernel's first word there is nothing to bind.
        let fates = match msize {
            Some(msize) => {
                let locks = if lost_at.elapsed() < LOCKS_WAIT { Locks::Wait } else { Locks::Lose };
                restore::restore(&stream, msize, &fids, kept, locks)?
            }
            None => Vec::new(),
        };
        let lost = fates.iter().filter(|(_, fate)| *fate == fid::Fate::Lost).count();
        let mut bound: Vec<u32> = fids.iter().map(|(number, _)| *number).collect();
        let stream = Arc::new(stream);
        let answers = loop {
            let gone = {
                let mut state = self.shared.state();
                let (gone, left): (Vec<u32>, Vec<u32>) =
                    bound.into_iter().partition(|number| !state.table.has(*number));
                bound = left;
                if gone.is_empty() {
                    for (number, fate) in fates {
                        state.table.set_fate(number, fate);
                    }
                    state.server = Some(stream.clone());
                    break state.table.back();
                }
                gone
            };
            // Given up by the kernel meanwhile: the number must be free when it is used anew.
            restore::clunk(&*stream, msize.unwrap_or(FRAME_BYTES_MAX), &gone)?;
        };
        // Nothing is known any more of how long an answer may take: a disk may have to start.
        stream.socket().set_limits(None, limit)?;
        answers.iter().for_each(|answer| self.shared.answer(answer));
        // Replies must be read while requests are sent, or both ends could wait for each other.
        let (shared, to) = (self.shared.clone(), stream.clone());
        thread::Builder::new().name("relay-again".into()).spawn(move || ask_again(&shared, &to))?;
        (self.boot_id, self.run) = (greeting.boot_id, greeting.run);
        Ok((stream, lost))
    }
}

/// Whether the server still has all that it took on the last connection, in its run `run`: its kernel never stopped, or
/// that run ended in order.
fn has_kept(boot_id: &str, run: &str, greeting: &Greeting) -> bool {
    let is_same = |own: &str, theirs: &str| !own.is_empty() && own == theirs;
    is_same(boot_id, &greeting.boot_id) || greeting.ended.iter().any(|ended| is_same(run, ended))
}

fn ask_again(shared: &Shared, server: &TlsStream) {
    loop {
        let _sending = lock(&shared.sending);
        let Some(frame) = shared.state().table.next_again() else { return };
        if server.write_all(&frame).is_err() {
            server.shutdown();
            return;
        }
    }
}

#[cfg(test)]
#[path = "relay_tests.rs"]
mod tests;

#[cfg(test)]
#[path = "stuck_tests.rs"]
mod stuck_tests;
