//! The agent's loop: lines from PID 1's socket, flushes when they are due, an end in order.

use crate::keeper::{Keeper, News, Now};
use crate::store::{Boot, Store};
use goblin_core_types::{InitReply, InitRequest, LogFilter, paths};
use goblin_sys::lines::LineBuffer;
use goblin_sys::socket::Socket;
use goblin_sys::terminate::Terminate;
use goblin_sys::{board, clock, notify, record};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

/// Longest wait for PID 1 to accept and to take the request.
const PATIENCE: Duration = Duration::from_secs(2);
/// Pause before PID 1 is asked again, in milliseconds.
const ASK_AGAIN_MS: u64 = 1_000;
/// Longest line from PID 1, in bytes.
const LINE_BYTES_MAX: usize = 64 * 1024;
/// Once the agent was told to stop, it ends when nothing was said for so long, in milliseconds: the other units
/// are down by then (`stop_last`), but a busy PID 1 may still have to hand on what they said.
const QUIET_MS: u64 = 200;
/// It ends after this time in any case, in milliseconds; far below the unit's `stop_timeout_ms`.
const LAST_WORDS_MS: u64 = 1_500;
/// `TMPFS_MAGIC` of `include/uapi/linux/magic.h`.
const TMPFS_MAGIC: u64 = 0x0102_1994;

/// Why the agent cannot work at all. PID 1 starts it again.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JournalError {
    /// `SIGTERM` cannot be taken over.
    #[error("cannot take over SIGTERM: {source}")]
    Signal {
        /// The kernel's word.
        source: io::Error,
    },
}

/// Follows PID 1's log until it is told to stop.
///
/// # Errors
/// [`JournalError`]. A disk that takes nothing is none.
pub fn run() -> Result<(), JournalError> {
    let terminate = Terminate::take_over().map_err(|source| JournalError::Signal { source })?;
    if is_in_memory() {
        notify::ready();
        notify::status("STATE is kept in memory: lines are not kept beyond this boot");
        while !terminate.came() {
            wait(&terminate, None, None);
        }
        return Ok(());
    }
    let boot = this_boot();
    let store = Store::new(paths::JOURNAL.into(), boot.clone());
    let last_seq = store.last_seq().unwrap_or_else(|err| {
        tracing::warn!(%err, dir = paths::JOURNAL, "the journal cannot be read");
        0
    });
    notify::ready();
    let keeper = Keeper::new(boot.id, last_seq);
    Follower { terminate, store, keeper, stop_ms: None, heard_ms: 0 }.run();
    Ok(())
}

fn is_in_memory() -> bool {
    let facts = rustix::fs::statfs(paths::JOURNAL).or_else(|_| rustix::fs::statfs(paths::STATE));
    facts.is_ok_and(|facts| u64::try_from(facts.f_type) == Ok(TMPFS_MAGIC))
}

fn this_boot() -> Boot {
    let partition = record::find().ok().flatten();
    let number = partition.and_then(|partition| partition.read().ok());
    Boot {
        id: board::boot_id().parse().unwrap_or_default(),
        number: number.map_or(0, |record| record.boot_count),
        version: board::release().version.map_or_else(String::new, |version| version.to_string()),
    }
}

fn now() -> Now {
    let since = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    let millis = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    Now { at_ms: Duration::try_from(since).map_or(0, millis), unix_ms: millis(clock::now_unix()) }
}

/// Waits until the agent shall stop, something can be read, or `until_ms` has come.
fn wait(terminate: &Terminate, stream: Option<&UnixStream>, until_ms: Option<u64>) {
    let limit = until_ms.map(|until_ms| {
        let left_ms = until_ms.saturating_sub(now().at_ms).saturating_add(1);
        Timespec::try_from(Duration::from_millis(left_ms)).unwrap_or_default()
    });
    let mut fds = vec![PollFd::new(terminate, PollFlags::IN)];
    fds.extend(stream.map(|stream| PollFd::new(stream, PollFlags::IN)));
    // An error is an interruption; whoever waits looks at everything again.
    let _ = poll(&mut fds, limit.as_ref());
}

struct Follower {
    terminate: Terminate,
    store: Store,
    keeper: Keeper,
    /// When the agent ends in any case, once it was told to stop.
    stop_ms: Option<u64>,
    /// When the last line came.
    heard_ms: u64,
}

impl Follower {
    fn run(mut self) {
        while !self.is_over() {
            match ask() {
                Ok(stream) => {
                    if let Err(err) = self.follow(stream) {
                        tracing::warn!(%err, "following PID 1's log broke off");
                    }
                }
                Err(err) => tracing::warn!(%err, "PID 1 does not give its log"),
            }
            let again_ms = now().at_ms.saturating_add(ASK_AGAIN_MS);
            while !self.is_over() && now().at_ms < again_ms {
                self.turn(None, Some(again_ms));
            }
        }
        self.flush();
    }

    fn is_over(&self) -> bool {
        let now_ms = now().at_ms;
        self.stop_ms.is_some_and(|stop_ms| {
            now_ms >= stop_ms || now_ms.saturating_sub(self.heard_ms) >= QUIET_MS
        })
    }

    /// Takes lines until PID 1 closes or the agent shall end.
    fn follow(&mut self, mut stream: UnixStream) -> io::Result<()> {
        let mut lines = LineBuffer::new(LINE_BYTES_MAX);
        let mut room = vec![0u8; 16 * 1024];
        while !self.is_over() {
            self.turn(Some(&stream), None);
            if !self.keeper.wants_lines() {
                continue;
            }
            match stream.read(&mut room) {
                Ok(0) => return Ok(()),
                Ok(count) => lines.push(room.get(..count).unwrap_or_default()),
                Err(err) if err.kind() == io::ErrorKind::WouldBlock => continue,
                Err(err) if err.kind() == io::ErrorKind::Interrupted => continue,
                Err(err) => return Err(err),
            }
            while let Some(line) = lines.next_line().map_err(io::Error::other)? {
                match serde_json::from_slice(line) {
                    Ok(InitReply::Line(line)) => {
                        let now = now();
                        self.heard_ms = now.at_ms;
                        self.keeper.take(line, now);
                    }
                    Ok(_) => {}
                    Err(err) => return Err(io::Error::other(err)),
                }
            }
        }
        Ok(())
    }

    /// Waits for a line, a due flush, the request to stop, or `until_ms`, and flushes what is due.
    fn turn(&mut self, stream: Option<&UnixStream>, until_ms: Option<u64>) {
        let quiet_ms = self.stop_ms.map(|stop| stop.min(self.heard_ms.saturating_add(QUIET_MS)));
        let due = [until_ms, quiet_ms, self.keeper.flush_due_ms()];
        let stream = stream.filter(|_| self.keeper.wants_lines());
        wait(&self.terminate, stream, due.into_iter().flatten().min());
        if self.terminate.came() && self.stop_ms.is_none() {
            let now_ms = now().at_ms;
            self.heard_ms = now_ms;
            self.stop_ms = Some(now_ms.saturating_add(LAST_WORDS_MS));
        }
        if self.keeper.flush_due_ms().is_some_and(|due_ms| due_ms <= now().at_ms) {
            self.flush();
        }
    }

    fn flush(&mut self) {
        if self.keeper.pending().is_empty() {
            return;
        }
        let news = match self.store.append(self.keeper.pending(), now()) {
            Ok(()) => self.keeper.taken(now()),
            Err(err) => {
                let news = self.keeper.refused(now());
                if news == News::Stopped {
                    tracing::warn!(%err, dir = paths::JOURNAL, "the journal cannot be written; lines wait in memory");
                    notify::status(format!("the journal cannot be written: {err}"));
                }
                news
            }
        };
        if let News::GoesOn { after_ms } = news {
            tracing::info!(after_ms, "the journal is written again");
            notify::status("");
        }
    }
}

/// Asks PID 1 for every line it holds and those that come.
fn ask() -> io::Result<UnixStream> {
    let socket = Socket::connect_unix_within(Path::new(paths::INIT_SOCKET), PATIENCE)?;
    let mut stream: UnixStream = socket.into_fd().into();
    let wanted = LogFilter { follow: true, ..LogFilter::default() };
    let mut line = serde_json::to_vec(&InitRequest::Logs(wanted))?;
    line.push(b'\n');
    stream.set_nonblocking(false)?;
    stream.set_write_timeout(Some(PATIENCE))?;
    stream.write_all(&line)?;
    stream.set_nonblocking(true)?;
    Ok(stream)
}
