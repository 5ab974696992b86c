//! Where the console's facts come from and its orders go to: the control tree for both boards, PID 1's
//! socket for the log. Every wait happens in a thread of its own; the screen never waits.

use crate::model::{Clients, Code, Event, LOG_LINES_MAX, Page, TASKS_MAX, TaskState};
use crate::orders::{Action, Request, Side};
use crate::words;
use goblin_core_ninep::Errno;
use goblin_core_ninep::client::{Client, ClientError, Fid};
use goblin_core_types::{
    BoardStatus, InitReply, InitRequest, LogFilter, LogLine, Role, ShareCommand, ShareReply,
    UpdateReply, paths,
};
use rustix::event::{EventfdFlags, eventfd};
use rustix::net;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::Thread;
use std::time::Duration;

/// Pause between two looks at a board, and between two at the log.
const PERIOD: Duration = Duration::from_secs(1);
/// Longest wait for an answer. Above the 5 s that the control service allows the other board.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(8);
/// Longest silence between two words about an order: a download may stall that long.
const ORDER_TIMEOUT: Duration = Duration::from_secs(600);
/// Largest 9P message.
const MSIZE_BYTES: u32 = 64 << 10;
/// Longest status.
const STATUS_BYTES_MAX: usize = 4 << 20;
/// Longest line of a reply.
const LINE_BYTES_MAX: usize = 64 << 10;
/// Events waiting for the screen; a status beyond is dropped, the next one tells the same.
const EVENTS_MAX: usize = 64;

/// Why a board or service gave no answer; each reads as a sentence on the screen.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SourceError {
    /// The service's socket is absent or refuses: it is starting, or being started again.
    #[error("its socket does not answer ({source})")]
    Connect {
        /// The kernel's error.
        source: io::Error,
    },
    /// The other board is out of reach.
    #[error("the other board does not answer over the link")]
    OutOfReach,
    /// This board has no role, so no other board is looked for.
    #[error("this board has no role yet")]
    NoRole,
    /// The conversation broke.
    #[error("the conversation with it broke: {0}")]
    Broken(ClientError),
    /// What came back is not understood.
    #[error("its answer is not understood: {source}")]
    Shape {
        /// Where it differs.
        source: serde_json::Error,
    },
    /// The service refused, with its sentence.
    #[error("{message}")]
    Refused {
        /// Sentence of the service.
        message: String,
    },
}

impl From<ClientError> for SourceError {
    fn from(err: ClientError) -> Self {
        match err {
            ClientError::Refused(Errno::EHOSTDOWN | Errno::ETIMEDOUT) => Self::OutOfReach,
            other => Self::Broken(other),
        }
    }
}

/// What the threads ask. Calls may take seconds.
pub trait Source: Send + Sync + 'static {
    /// A board's status.
    ///
    /// # Errors
    /// When there is none now.
    fn status(&self, side: Side) -> Result<BoardStatus, SourceError>;

    /// The newest log lines of this board, oldest first.
    ///
    /// # Errors
    /// When there are none now.
    fn logs(&self, lines_max: u32) -> Result<Vec<LogLine>, SourceError>;

    /// Who is enrolled with the storage board's file server, and who is connected.
    ///
    /// # Errors
    /// When it does not say now.
    fn clients(&self) -> Result<Clients, SourceError>;

    /// Carries an order out and tells how it stands; the last word is `Done` or `Failed`.
    fn order(&self, side: Side, request: &Request, tell: &mut dyn FnMut(TaskState));
}

/// Where a running board keeps its sockets.
#[derive(Debug, Clone)]
pub struct Places {
    /// The control tree.
    pub control: PathBuf,
    /// PID 1.
    pub init: PathBuf,
    /// Word of this board's role.
    pub role: PathBuf,
}

impl Default for Places {
    fn default() -> Self {
        Self {
            control: paths::CONTROL_SOCKET.into(),
            init: paths::INIT_SOCKET.into(),
            role: paths::ROLE_FILE.into(),
        }
    }
}

/// The running board.
#[derive(Debug, Default)]
pub struct Board {
    places: Places,
}

impl Board {
    /// With sockets elsewhere.
    pub fn new(places: Places) -> Self {
        Self { places }
    }

    fn folder(&self, side: Side) -> Result<&'static str, SourceError> {
        let word = std::fs::read_to_string(&self.places.role).unwrap_or_default();
        let role: Option<Role> = word.trim().parse().ok();
        match (side, role) {
            (Side::Here, Some(role)) => Ok(role.as_str()),
            (Side::Here, None) => Ok("local"),
            (Side::Other, Some(role)) => Ok(role.peer().as_str()),
            (Side::Other, None) => Err(SourceError::NoRole),
        }
    }

    fn tree(&self) -> Result<(Client<UnixStream>, Fid, UnixStream), SourceError> {
        let connect = |source| SourceError::Connect { source };
        let stream = connect_within(&self.places.control, ANSWER_TIMEOUT).map_err(connect)?;
        let handle = stream.try_clone().map_err(connect)?;
        let mut client = Client::connect(stream, MSIZE_BYTES)?;
        let root = client.attach("control", "root")?;
        Ok((client, root, handle))
    }

    fn share(&self, side: Side, command: &ShareCommand) -> Result<ShareReply, SourceError> {
        let path = format!("boards/{}/share/ctl", self.folder(side)?);
        let mut answer = None;
        self.converse(&path, command, &mut |reply| {
            answer = Some(reply);
            false
        })?;
        let silent = "the file server ended the conversation without an answer; try again";
        answer.ok_or_else(|| SourceError::Refused { message: silent.into() })
    }

    fn converse<Q: Serialize, R: DeserializeOwned>(
        &self,
        path: &str,
        request: &Q,
        each: &mut dyn FnMut(R) -> bool,
    ) -> Result<(), SourceError> {
        let shape = |source| SourceError::Shape { source };
        let line = serde_json::to_vec(request).map_err(shape)?;
        let (mut client, root, handle) = self.tree()?;
        let fid = client.converse(&root, path, &line)?;
        handle
            .set_read_timeout(Some(ORDER_TIMEOUT))
            .map_err(|source| SourceError::Connect { source })?;
        let (mut pending, mut offset) = (Vec::new(), 0u64);
        loop {
            let part = client.read(&fid, offset, u32::MAX)?;
            offset = offset.saturating_add(part.len() as u64);
            let end = part.is_empty();
            pending.extend_from_slice(part);
            while let Some(at) = pending.iter().position(|b| *b == b'\n') {
                let line: Vec<u8> = pending.drain(..=at).collect();
                if !each(serde_json::from_slice(&line).map_err(shape)?) {
                    return Ok(());
                }
            }
            if end || pending.len() > LINE_BYTES_MAX {
                return Ok(());
            }
        }
    }
}

impl Source for Board {
    fn status(&self, side: Side) -> Result<BoardStatus, SourceError> {
        let path = format!("boards/{}/status", self.folder(side)?);
        let (mut client, root, _) = self.tree()?;
        let bytes = client.read_file(&root, &path, STATUS_BYTES_MAX)?;
        serde_json::from_slice(&bytes).map_err(|source| SourceError::Shape { source })
    }

    fn logs(&self, lines_max: u32) -> Result<Vec<LogLine>, SourceError> {
        let connect = |source| SourceError::Connect { source };
        let mut stream = connect_within(&self.places.init, ANSWER_TIMEOUT).map_err(connect)?;
        let request = InitRequest::Logs(LogFilter { lines_max, ..LogFilter::default() });
        let mut line =
            serde_json::to_vec(&request).map_err(|source| SourceError::Shape { source })?;
        line.push(b'\n');
        stream.write_all(&line).map_err(connect)?;
        read_log(stream, lines_max)
    }

    fn clients(&self) -> Result<Clients, SourceError> {
        match self.share(Side::Other, &ShareCommand::ListClients)? {
            ShareReply::Failed { message, .. } => Err(SourceError::Refused { message }),
            listing => Clients::of(listing).ok_or_else(|| SourceError::Refused {
                message: "the file server answered something else".into(),
            }),
        }
    }

    fn order(&self, side: Side, request: &Request, tell: &mut dyn FnMut(TaskState)) {
        let outcome = match request {
            Request::Update(command) => self.folder(side).and_then(|folder| {
                let mut last = None;
                self.converse(&format!("boards/{folder}/update/ctl"), command, &mut |reply| {
                    let state = update_state(reply);
                    let more = matches!(state, TaskState::Running { .. });
                    if more { tell(state) } else { last = Some(state) }
                    more
                })?;
                Ok(last.unwrap_or(TaskState::Failed {
                    message: "The updater ended the conversation without a result; page 3 shows where it stands.".to_owned(),
                }))
            }),
            Request::Init(command) => self.folder(side).and_then(|folder| {
                // A board that restarts may well be gone before it can say so.
                let mut state = TaskState::Done { message: "The board was told to.".to_owned() };
                self.converse(&format!("boards/{folder}/init/ctl"), command, &mut |reply| {
                    if let InitReply::Refused { message } = reply {
                        state = TaskState::Failed { message };
                    }
                    false
                })?;
                Ok(state)
            }),
            Request::Share(command) => self.share(side, command).map(share_state),
        };
        tell(outcome.unwrap_or_else(|err| TaskState::Failed { message: order_failed(&err) }));
    }
}

/// Connects to a socket, with `limit` for this and for each later read and write. A service that hangs
/// no longer accepts, and once its queue is full the kernel would let a caller wait without end.
fn connect_within(path: &Path, limit: Duration) -> io::Result<UnixStream> {
    let (family, flags) = (net::AddressFamily::UNIX, net::SocketFlags::CLOEXEC);
    let socket = net::socket_with(family, net::SocketType::STREAM, flags, None)?;
    let stream = UnixStream::from(socket);
    stream.set_read_timeout(Some(limit))?;
    stream.set_write_timeout(Some(limit))?;
    net::connect(&stream, &net::SocketAddrUnix::new(path)?)?;
    Ok(stream)
}

fn order_failed(err: &SourceError) -> String {
    match err {
        SourceError::Connect { .. } => {
            format!("The control service was not reached: {err}. Nothing was changed; try again.")
        }
        SourceError::OutOfReach => {
            "The other board does not answer over the link. Look at its power and the cable."
                .to_owned()
        }
        other => words::capital(&other.to_string()),
    }
}

fn update_state(reply: UpdateReply) -> TaskState {
    match reply {
        UpdateReply::Progress { message, done_bytes, total_bytes } => {
            let permille = (total_bytes > 0).then(|| words::permille(done_bytes, total_bytes));
            TaskState::Running { message, permille }
        }
        UpdateReply::Done { message, .. } => TaskState::Done { message },
        // The console asks for neither.
        UpdateReply::Plan(_) | UpdateReply::Diff(_) => {
            TaskState::Running { message: String::new(), permille: None }
        }
        UpdateReply::Failed { message, .. } => TaskState::Failed { message },
    }
}

fn share_state(reply: ShareReply) -> TaskState {
    match reply {
        ShareReply::Code { code, life_s, address } => {
            TaskState::Code(Code { code, life_s, address })
        }
        // What the console orders is undone by a new code, not by a command.
        ShareReply::Done { message, undo: _ } => TaskState::Done { message },
        ShareReply::Failed { message, .. } => TaskState::Failed { message },
        // The console orders no listing.
        ShareReply::Clients { .. } | ShareReply::Rights { .. } => {
            TaskState::Done { message: String::new() }
        }
    }
}

fn read_log(stream: impl Read, lines_max: u32) -> Result<Vec<LogLine>, SourceError> {
    let mut reader = BufReader::new(stream);
    let mut lines = Vec::new();
    // One line more than asked for: the end of the listing.
    for _ in 0..=lines_max {
        let mut bytes = Vec::new();
        let limit = LINE_BYTES_MAX as u64;
        let got = reader.by_ref().take(limit).read_until(b'\n', &mut bytes);
        if got.map_err(|source| SourceError::Connect { source })? == 0 {
            break;
        }
        match serde_json::from_slice(&bytes).map_err(|source| SourceError::Shape { source })? {
            InitReply::Line(line) => lines.push(line),
            InitReply::Refused { message } => return Err(SourceError::Refused { message }),
            InitReply::Units { .. } | InitReply::Unit(_) | InitReply::Done => break,
        }
    }
    Ok(lines)
}

/// The threads' end of the way to the screen.
#[derive(Debug, Clone)]
struct Outbox {
    events: SyncSender<Event>,
    wake: Arc<OwnedFd>,
}

impl Outbox {
    fn offer(&self, event: Event) {
        // A full queue means that the screen is behind; the next look brings newer facts.
        if self.events.try_send(event).is_ok() {
            self.ring();
        }
    }

    fn deliver(&self, event: Event) {
        // How an order ended is said once, so it waits for its place.
        if self.events.send(event).is_ok() {
            self.ring();
        }
    }

    fn ring(&self) {
        // A counter that is full rings already.
        let _ = rustix::io::write(&self.wake, &1u64.to_ne_bytes());
    }
}

/// Running threads and what they found.
#[derive(Debug)]
pub struct Feed<S> {
    source: Arc<S>,
    outbox: Outbox,
    events: Receiver<Event>,
    logs: Option<OnDemand>,
    clients: Option<OnDemand>,
    orders: Arc<AtomicUsize>,
}

/// A thread that looks only while a page shows what it finds.
#[derive(Debug)]
struct OnDemand {
    wanted: Arc<AtomicBool>,
    thread: Thread,
}

impl OnDemand {
    fn want(&self, wanted: bool) {
        if !self.wanted.swap(wanted, Ordering::Relaxed) && wanted {
            self.thread.unpark();
        }
    }
}

impl<S: Source> Feed<S> {
    /// Starts looking at both boards.
    ///
    /// # Errors
    /// When the kernel gives no descriptor or thread.
    pub fn start(source: S) -> io::Result<Self> {
        let (sender, events) = sync_channel(EVENTS_MAX);
        let wake = Arc::new(eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC)?);
        let mut feed = Self {
            source: Arc::new(source),
            outbox: Outbox { events: sender, wake },
            events,
            logs: None,
            clients: None,
            orders: Arc::default(),
        };
        feed.watch(Side::Here, Event::Local)?;
        feed.watch(Side::Other, Event::Peer)?;
        feed.logs = Some(feed.watch_on_demand("logs", |source| {
            let lines_max = u32::try_from(LOG_LINES_MAX).unwrap_or(u32::MAX);
            Event::Logs(source.logs(lines_max).map_err(|err| err.to_string()))
        })?);
        feed.clients = Some(feed.watch_on_demand("clients", |source| {
            Event::Clients(source.clients().map(Box::new).map_err(|err| err.to_string()))
        })?);
        Ok(feed)
    }

    fn watch(
        &self,
        side: Side,
        event: fn(Result<Box<BoardStatus>, String>) -> Event,
    ) -> io::Result<()> {
        let (source, outbox) = (Arc::clone(&self.source), self.outbox.clone());
        spawn("status", move || {
            loop {
                let answer = source.status(side).map(Box::new).map_err(|err| err.to_string());
                // Right after the start the service is a moment away: look again soon.
                let pause = if answer.is_err() && side == Side::Here { PERIOD / 4 } else { PERIOD };
                outbox.offer(event(answer));
                std::thread::sleep(pause);
            }
        })
        .map(drop)
    }

    fn watch_on_demand(&self, name: &str, look: fn(&S) -> Event) -> io::Result<OnDemand> {
        let (source, outbox) = (Arc::clone(&self.source), self.outbox.clone());
        let wanted: Arc<AtomicBool> = Arc::default();
        let flag = Arc::clone(&wanted);
        let thread = spawn(name, move || {
            loop {
                if flag.load(Ordering::Relaxed) {
                    outbox.offer(look(&source));
                    std::thread::park_timeout(PERIOD);
                } else {
                    std::thread::park();
                }
            }
        })?;
        Ok(OnDemand { wanted, thread })
    }

    /// Which of the facts that only one page shows are worth fetching now.
    pub fn want(&self, page: Page) {
        if let (Some(logs), Some(clients)) = (&self.logs, &self.clients) {
            logs.want(page == Page::Logs);
            clients.want(page == Page::Clients);
        }
    }

    /// Carries an order out in a thread of its own; its end comes as [`Event::Task`].
    pub fn order(&self, action: Action) {
        let (source, outbox) = (Arc::clone(&self.source), self.outbox.clone());
        let orders = Arc::clone(&self.orders);
        let id = action.task;
        let failed = |message: &str| {
            self.outbox.offer(Event::Task {
                id,
                state: TaskState::Failed { message: message.to_owned() },
            });
        };
        if orders.fetch_add(1, Ordering::SeqCst) >= TASKS_MAX {
            orders.fetch_sub(1, Ordering::SeqCst);
            failed("Too many orders are under way; wait for one to end.");
            return;
        }
        let running = Arc::clone(&orders);
        let started = spawn("order", move || {
            source.order(action.side, &action.request, &mut |state| {
                outbox.deliver(Event::Task { id, state });
            });
            orders.fetch_sub(1, Ordering::SeqCst);
        });
        if started.is_err() {
            running.fetch_sub(1, Ordering::SeqCst);
            failed("The board has no room for another thread; try again.");
        }
    }

    /// Becomes readable when there is something to take.
    pub fn descriptor(&self) -> BorrowedFd<'_> {
        self.outbox.wake.as_fd()
    }

    /// What was found since the last call.
    pub fn take(&self) -> Vec<Event> {
        let mut count = [0u8; 8];
        // Not readable means that nothing rang; the queue is looked at all the same.
        let _ = rustix::io::read(&self.outbox.wake, &mut count);
        self.events.try_iter().take(EVENTS_MAX).collect()
    }
}

fn spawn(name: &str, body: impl FnOnce() + Send + 'static) -> io::Result<Thread> {
    let handle = std::thread::Builder::new().name(name.to_owned()).spawn(body)?;
    Ok(handle.thread().clone())
}

#[cfg(test)]
mod tests;
