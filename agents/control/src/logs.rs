//! `logs/ctl`: lines of this boot from the journal and PID 1's ring as one, lines of earlier boots from the
//! journal, and the list of boots.
//!
//! The ring holds the newest lines and the journal the older ones; where both hold a line, it is taken from
//! the ring. A journal that cannot be read costs the older lines and a warning, not the answer.

mod journal;

use crate::lines::{connect, read_line};
use goblin_core_ninep::Errno;
use goblin_core_ninep::synthetic::ReplyWriter;
use goblin_core_types::{
    BootChoice, BootListed, InitReply, InitRequest, KeptLine, LogFilter, LogLine, LogsFilter,
    LogsReply, LogsRequest, Since,
};
use goblin_init_core::journal::BootId;
use journal::{Earliest, Journal, Wanted};
use std::io::{self, BufReader, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

/// Longest wait for PID 1's next word while it gives out what it holds.
const PATIENCE: Duration = Duration::from_secs(2);
/// Replies are handed on in pieces of this size, in bytes.
const PIECE_BYTES: usize = 16 * 1024;
/// Boots listed at most; the newest.
const BOOTS_LISTED_MAX: usize = 1000;
/// Fewest characters of a boot's id that name it.
const ID_CHARACTERS_MIN: usize = 4;

/// Where the lines are.
#[derive(Debug, Clone)]
pub struct LogPlaces {
    /// The journal's directory.
    pub journal: PathBuf,
    /// PID 1's socket.
    pub init: PathBuf,
    /// The running boot.
    pub boot: BootId,
}

/// Why lines cannot be given.
#[derive(Debug, thiserror::Error)]
enum LogsError {
    /// The asker is gone, or cannot be answered.
    #[error("cannot answer: {0}")]
    Reply(io::Error),
    #[error("PID 1 does not give its log: {0}")]
    Init(io::Error),
    #[error("the journal cannot be read: {0}; see `goblin logs --unit journal`")]
    Journal(io::Error),
    #[error("no boot `{name}` is in the journal; `goblin logs --list-boots` shows which are")]
    NoSuchBoot { name: String },
    #[error("several boots are called `{name}`; give more characters of the id")]
    Ambiguous { name: String },
    #[error("only the running boot can be followed; leave `--boot` or `--follow` out")]
    FollowThePast,
}

/// Answers one request line.
///
/// # Errors
/// `EPIPE` and the like when the asker is gone; everything else is told in the answer.
pub fn answer(places: &LogPlaces, line: &[u8], reply: ReplyWriter) -> Result<(), Errno> {
    let mut sink = Sink { reply, piece: Vec::new() };
    let result = match serde_json::from_slice::<LogsRequest>(line) {
        Ok(LogsRequest::Boots) => boots(places, &mut sink),
        Ok(LogsRequest::Lines(filter)) => lines(places, &filter, &mut sink),
        Err(err) => {
            let message = format!("not a request this release knows: {err}");
            sink.give(&LogsReply::Refused { message }).map_err(LogsError::Reply)
        }
    };
    match result {
        Ok(()) => {}
        Err(LogsError::Reply(err)) => return Err(err.into()),
        Err(err) => sink.give(&LogsReply::Refused { message: err.to_string() })?,
    }
    Ok(sink.flush()?)
}

/// Where replies go, in pieces.
struct Sink {
    reply: ReplyWriter,
    piece: Vec<u8>,
}

impl Sink {
    fn give(&mut self, reply: &LogsReply) -> io::Result<()> {
        serde_json::to_writer(&mut self.piece, reply)?;
        self.piece.push(b'\n');
        if self.piece.len() >= PIECE_BYTES { self.flush() } else { Ok(()) }
    }

    fn line(&mut self, line: KeptLine) -> Result<(), LogsError> {
        self.give(&LogsReply::Line(line)).map_err(LogsError::Reply)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.reply.write_all(&std::mem::take(&mut self.piece))
    }
}

fn boots(places: &LogPlaces, sink: &mut Sink) -> Result<(), LogsError> {
    let mut boots = listed(places)?;
    let surplus = boots.len().saturating_sub(BOOTS_LISTED_MAX);
    boots.drain(..surplus);
    sink.give(&LogsReply::Boots { boots }).map_err(LogsError::Reply)
}

fn listed(places: &LogPlaces) -> Result<Vec<BootListed>, LogsError> {
    let journal = Journal::open(&places.journal).map_err(LogsError::Journal)?;
    journal.boots(places.boot).map_err(LogsError::Journal)
}

/// The boot that is meant.
fn choose(places: &LogPlaces, choice: &BootChoice) -> Result<BootId, LogsError> {
    let name = match choice {
        BootChoice::Running | BootChoice::Back(0) => return Ok(places.boot),
        BootChoice::Back(back) => format!("-{back}"),
        BootChoice::Named(name) => name.to_ascii_lowercase(),
    };
    let boots = listed(places)?;
    let is_meant = |boot: &BootListed| match choice {
        BootChoice::Back(back) => boot.back == *back,
        _ => {
            let by_number = name.parse() == Ok(boot.number) && boot.number > 0;
            by_number || (name.len() >= ID_CHARACTERS_MIN && boot.boot_id.starts_with(&name))
        }
    };
    let mut found = boots.iter().filter(|boot| is_meant(boot)).map(|boot| boot.boot_id.parse());
    match (found.next(), found.next()) {
        (Some(Ok(boot)), None) => Ok(boot),
        (Some(_), Some(_)) => Err(LogsError::Ambiguous { name }),
        _ => Err(LogsError::NoSuchBoot { name }),
    }
}

fn lines(places: &LogPlaces, filter: &LogsFilter, sink: &mut Sink) -> Result<(), LogsError> {
    let boot = choose(places, &filter.boot)?;
    let mut wanted = Wanted {
        boot,
        before_seq: u64::MAX,
        unit: filter.unit.as_deref(),
        level: filter.level,
        from: None,
    };
    let now = Now::read();
    let count_max = usize::try_from(filter.lines_max).unwrap_or(usize::MAX);
    if boot == places.boot {
        wanted.from = filter.since.map(|since| match since {
            // The wall clock may have jumped since; the time since the start did not.
            Since::AgoMs(ago_ms) => Earliest::AtMs(now.at_ms.saturating_sub(ago_ms)),
            Since::UnixMs(unix_ms) => Earliest::UnixMs(unix_ms),
        });
        return lines_of_this_boot(places, &wanted, count_max, filter.follow, sink);
    }
    if filter.follow {
        return Err(LogsError::FollowThePast);
    }
    wanted.from = filter.since.map(|since| match since {
        Since::AgoMs(ago_ms) => Earliest::UnixMs(now.unix_ms.saturating_sub(ago_ms)),
        Since::UnixMs(unix_ms) => Earliest::UnixMs(unix_ms),
    });
    let journal = Journal::open(&places.journal).map_err(LogsError::Journal)?;
    journal.newest(&wanted, count_max, &mut |line| sink.line(line))?;
    sink.give(&LogsReply::Done).map_err(LogsError::Reply)
}

fn lines_of_this_boot(
    places: &LogPlaces,
    wanted: &Wanted<'_>,
    count_max: usize,
    follow: bool,
    sink: &mut Sink,
) -> Result<(), LogsError> {
    let held = held_by_init(places)?;
    let first_seq = held.first().map_or(u64::MAX, |line| line.seq);
    let last_seq = held.last().map_or(0, |line| line.seq);
    let now = Now::read();
    let mut held: Vec<KeptLine> =
        held.into_iter().map(|line| now.keep(line, wanted.boot)).collect();
    held.retain(|line| wanted.takes(line));
    let surplus = if count_max == 0 { 0 } else { held.len().saturating_sub(count_max) };
    held.drain(..surplus);
    if count_max == 0 || held.len() < count_max {
        let older = Wanted { before_seq: first_seq, ..*wanted };
        let count_max = count_max.saturating_sub(held.len());
        let given = Journal::open(&places.journal)
            .map_err(LogsError::Journal)
            .and_then(|journal| journal.newest(&older, count_max, &mut |line| sink.line(line)));
        match given {
            Err(LogsError::Journal(err)) => tracing::warn!(%err, "the journal cannot be read"),
            other => other?,
        }
    }
    for line in held {
        sink.line(line)?;
    }
    if follow {
        return follow_init(places, wanted, last_seq, sink);
    }
    sink.give(&LogsReply::Done).map_err(LogsError::Reply)
}

/// Everything that PID 1's ring holds.
fn held_by_init(places: &LogPlaces) -> Result<Vec<LogLine>, LogsError> {
    let stream = ask(places, false).map_err(LogsError::Init)?;
    stream.set_read_timeout(Some(PATIENCE)).map_err(LogsError::Init)?;
    let mut reader = BufReader::new(stream);
    let mut held = Vec::new();
    loop {
        let line = read_line(&mut reader).map_err(LogsError::Init)?;
        let line = line.ok_or_else(|| LogsError::Init(io::ErrorKind::UnexpectedEof.into()))?;
        match serde_json::from_slice(&line).map_err(|err| LogsError::Init(err.into()))? {
            InitReply::Line(line) => held.push(line),
            _ => return Ok(held),
        }
    }
}

/// Hands on what comes after line `last_seq`, until the asker leaves or PID 1 closes.
fn follow_init(
    places: &LogPlaces,
    wanted: &Wanted<'_>,
    last_seq: u64,
    sink: &mut Sink,
) -> Result<(), LogsError> {
    sink.flush().map_err(LogsError::Reply)?;
    let stream = ask(places, true).map_err(LogsError::Init)?;
    let for_close = stream.try_clone().map_err(LogsError::Init)?;
    sink.reply.on_closed(move || {
        // What waits for the next line notices by this that nobody listens any more.
        let _ = for_close.shutdown(Shutdown::Both);
    });
    let mut reader = BufReader::new(stream);
    while let Some(line) = read_line(&mut reader).map_err(LogsError::Init)? {
        let reply = serde_json::from_slice(&line).map_err(|err| LogsError::Init(err.into()))?;
        let InitReply::Line(line) = reply else { continue };
        if line.seq > last_seq {
            let line = Now::read().keep(line, wanted.boot);
            if wanted.takes(&line) {
                sink.line(line)?;
            }
        }
        // More that is there already goes into the same piece.
        if reader.buffer().is_empty() {
            sink.flush().map_err(LogsError::Reply)?;
        }
    }
    Ok(())
}

fn ask(places: &LogPlaces, follow: bool) -> io::Result<UnixStream> {
    let mut stream = connect(&places.init, PATIENCE)?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let request = InitRequest::Logs(LogFilter { follow, ..LogFilter::default() });
    let mut line = serde_json::to_vec(&request)?;
    line.push(b'\n');
    stream.write_all(&line)?;
    Ok(stream)
}

/// Both clocks at one moment.
#[derive(Debug, Clone, Copy)]
struct Now {
    at_ms: u64,
    unix_ms: u64,
}

impl Now {
    fn read() -> Self {
        let since = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
        let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        Self {
            at_ms: Duration::try_from(since).map_or(0, millis),
            unix_ms: millis(goblin_sys::clock::now_unix()),
        }
    }

    /// A line of the ring, with the wall clock's time as the wall clock stands now.
    fn keep(self, line: LogLine, boot: BootId) -> KeptLine {
        let ago_ms = self.at_ms.saturating_sub(line.at_ms);
        let unix_ms = self.unix_ms.saturating_sub(ago_ms);
        KeptLine { line, unix_ms, boot_id: boot.to_string() }
    }
}

#[cfg(test)]
#[path = "logs_tests.rs"]
mod tests;
