//! PID 1's control socket: one request line in, reply lines out. Every buffer has a limit, and nobody
//! who reads slowly makes PID 1 wait.
//!
//! Log lines and units are copied only when there is room in the connection's buffer, so that a slow
//! reader costs no memory: what the ring drops before the reader takes it is a gap in the numbers, and each
//! unit of a listing is as it was when it was sent.

use crate::log_ring::LogRing;
use goblin_core_types::{EndBy, InitReply, InitRequest, LogFilter};
use goblin_init_core::shutdown::How;
use goblin_init_core::supervise::{Order, Supervisor, UnitIndex};
use rustix::fs::{Mode, OFlags};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

/// Connections at one time; more are closed at once.
pub const CONNECTIONS_MAX: usize = 16;
/// Connections at one time of a unit that may only ask: it must not keep those out that may do more.
pub const ASKERS_MAX: usize = CONNECTIONS_MAX / 4;
/// Longest request in bytes.
const REQUEST_BYTES_MAX: usize = 4096;
/// Longest from a connection to its whole request, in milliseconds.
const REQUEST_LIMIT_MS: u64 = 5_000;
/// Longest that a reader may take nothing of what waits for it, in milliseconds.
const READER_LIMIT_MS: u64 = 30_000;
/// Connections that follow the log at one time; the other seats are for questions and orders.
pub const FOLLOWERS_MAX: usize = CONNECTIONS_MAX - 4;
/// Most characters of a wrong name that are repeated.
const NAME_CHARS_MAX: usize = 40;
/// Replies waiting for a slow reader, in bytes; log lines wait in the ring instead.
const OUT_BYTES_MAX: usize = 16 * 1024;
/// Where the units stand in the answer to [`InitRequest::Units`], when there are none.
const NO_UNITS: &str = "\"units\":[]";

/// The listening socket.
#[derive(Debug)]
pub struct Listener {
    socket: OwnedFd,
    /// Given up for a moment to refuse a connection when no more descriptors are to be had: one that is
    /// left waiting would be reported for ever.
    spare: Option<OwnedFd>,
}

/// What came of accepting.
#[derive(Debug)]
pub enum Accepted {
    /// A connection.
    Socket(OwnedFd),
    /// One that was closed at once, or that left by itself: the next one may be asked for.
    Lost,
    /// No more are waiting.
    None,
    /// Some may be waiting, but there is no descriptor for them, not even to refuse them.
    Full,
}

impl Listener {
    /// Listens at a path; what was there before is replaced. Only root may connect.
    ///
    /// # Errors
    /// The kernel's.
    pub fn bind(path: &Path) -> io::Result<Self> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket =
            rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
        match std::fs::remove_file(path) {
            Err(err) if err.kind() != io::ErrorKind::NotFound => return Err(err),
            _ => {}
        }
        let old_mask = rustix::process::umask(Mode::from_raw_mode(0o177));
        let bound = rustix::net::bind(&socket, &SocketAddrUnix::new(path)?);
        rustix::process::umask(old_mask);
        bound?;
        rustix::net::listen(&socket, 8)?;
        Ok(Self { socket, spare: spare() })
    }

    /// The next connection, if one waits.
    pub fn accept(&mut self) -> Accepted {
        use rustix::io::Errno;
        match self.take() {
            Ok(socket) => {
                self.spare = self.spare.take().or_else(spare);
                Accepted::Socket(socket)
            }
            Err(Errno::MFILE | Errno::NFILE) => {
                drop(self.spare.take());
                let taken = self.take().map(drop);
                self.spare = spare();
                match taken {
                    Ok(()) => Accepted::Lost,
                    Err(Errno::AGAIN) => Accepted::None,
                    Err(_) => Accepted::Full,
                }
            }
            Err(Errno::INTR | Errno::CONNABORTED) => Accepted::Lost,
            Err(_) => Accepted::None,
        }
    }

    fn take(&self) -> rustix::io::Result<OwnedFd> {
        rustix::net::accept_with(&self.socket, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK)
    }
}

fn spare() -> Option<OwnedFd> {
    rustix::fs::open("/dev/null", OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).ok()
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// What a connection shall be told, by the owner of the state.
#[derive(Debug)]
pub struct Answers<'a> {
    /// The log.
    pub ring: &'a LogRing,
    /// Every unit, and the verdict over a trial.
    pub supervisor: &'a Supervisor,
    /// When PID 1 began.
    pub start_ms: u64,
    /// Now.
    pub now_ms: u64,
}

/// What a connection wants from the owner.
#[derive(Debug, PartialEq, Eq)]
pub enum Wish {
    /// Nothing.
    None,
    /// The end of the board, and why.
    End(How, String),
    /// Something of a unit.
    Order(UnitIndex, Order),
    /// A unit's settings become this text.
    Settings(UnitIndex, String),
}

#[derive(Debug)]
enum Talk {
    /// The request is not whole yet.
    Reading(Vec<u8>),
    /// Log lines from this number on.
    Logs { next_seq: u64, until_seq: Option<u64>, unit: Option<String> },
    /// Units, by these places in the supervisor, each as a reply of its own.
    Units(std::vec::IntoIter<usize>),
    /// Units in one reply, which goes on with `tail`.
    List { places: std::vec::IntoIter<usize>, first: bool, tail: String },
    /// Everything was said; the rest of the buffer goes out.
    Ending,
}

/// One connection.
#[derive(Debug)]
pub struct Connection {
    socket: OwnedFd,
    talk: Talk,
    out: Vec<u8>,
    broken: bool,
    /// When it is closed, if it neither asks nor takes anything until then.
    due_ms: u64,
    may_order: bool,
    peer: EndBy,
}

/// Whether a peer may do more than ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rights {
    /// Questions only.
    Ask,
    /// Orders too.
    Order,
}

impl Connection {
    /// A connection that has said nothing yet; `peer` is who may end the board over it.
    pub fn new(socket: OwnedFd, rights: Rights, peer: EndBy, now_ms: u64) -> Self {
        Self {
            socket,
            talk: Talk::Reading(Vec::new()),
            out: Vec::new(),
            broken: false,
            due_ms: now_ms.saturating_add(REQUEST_LIMIT_MS),
            may_order: rights == Rights::Order,
            peer,
        }
    }

    /// Who is at the other end, as the record names who ends a boot.
    pub fn peer(&self) -> &EndBy {
        &self.peer
    }

    /// When it is to be closed if nothing comes of it; a follower with nothing to read may wait for ever.
    pub fn deadline_ms(&self) -> Option<u64> {
        let waits = matches!(self.talk, Talk::Reading(_)) || !self.out.is_empty();
        (waits && !self.broken).then_some(self.due_ms)
    }

    /// True when it follows the log.
    pub fn follows(&self) -> bool {
        matches!(self.talk, Talk::Logs { until_seq: None, .. })
    }

    /// Refuses one more that follows.
    pub fn refuse_to_follow(&mut self) {
        self.out.clear();
        self.refuse(format!("{FOLLOWERS_MAX} follow the log already; end one of them"));
    }

    /// True when it can be closed.
    pub fn is_over(&self) -> bool {
        self.broken || (matches!(self.talk, Talk::Ending) && self.out.is_empty())
    }

    /// Reads what came, answers a whole request.
    pub fn readable(&mut self, answers: &Answers<'_>) -> Wish {
        let mut room = [0u8; 1024];
        let mut wish = Wish::None;
        loop {
            match rustix::io::read(&self.socket, &mut room) {
                // A reader that closed its sending half may still read; one that is gone shows itself
                // when something is sent.
                Ok(0) => {
                    self.broken =
                        matches!(self.talk, Talk::Reading(_) | Talk::Logs { until_seq: None, .. });
                    break;
                }
                Ok(count) => match self.take(room.get(..count).unwrap_or_default(), answers) {
                    Wish::None => {}
                    other => wish = other,
                },
                Err(rustix::io::Errno::INTR) => {}
                Err(rustix::io::Errno::AGAIN) => break,
                Err(_) => {
                    self.broken = true;
                    break;
                }
            }
        }
        wish
    }

    fn take(&mut self, bytes: &[u8], answers: &Answers<'_>) -> Wish {
        // After the request the reader has nothing more to say.
        let Talk::Reading(request) = &mut self.talk else { return Wish::None };
        let room = REQUEST_BYTES_MAX.saturating_sub(request.len());
        request.extend_from_slice(bytes.get(..bytes.len().min(room)).unwrap_or_default());
        let Some(line) = request.split_inclusive(|byte| *byte == b'\n').next() else {
            return Wish::None;
        };
        if !line.ends_with(b"\n") {
            if room < bytes.len() {
                self.refuse(format!("the request is longer than {REQUEST_BYTES_MAX} bytes"));
            }
            return Wish::None;
        }
        self.due_ms = answers.now_ms.saturating_add(READER_LIMIT_MS);
        match serde_json::from_slice::<InitRequest>(line) {
            Ok(request) if is_order(&request) && !self.may_order => {
                self.refuse(
                    "this unit may not give orders; `orders = true` in its file allows it".into(),
                );
                Wish::None
            }
            Ok(request) => self.answer(request, answers),
            Err(err) => {
                self.refuse(format!("not a request this release knows: {err}"));
                Wish::None
            }
        }
    }

    fn answer(&mut self, request: InitRequest, answers: &Answers<'_>) -> Wish {
        self.talk = Talk::Ending;
        match request {
            InitRequest::Units => {
                self.begin_list(answers);
                Wish::None
            }
            InitRequest::Logs(LogFilter { unit, follow, lines_max }) => {
                let count_max = usize::try_from(lines_max).unwrap_or(usize::MAX);
                self.talk = Talk::Logs {
                    next_seq: answers.ring.seq_of_newest(count_max, unit.as_deref()),
                    until_seq: (!follow).then(|| answers.ring.next_seq()),
                    unit,
                };
                Wish::None
            }
            InitRequest::Graph => {
                self.talk = Talk::Units(by_name(answers.supervisor));
                Wish::None
            }
            InitRequest::Show { unit } => {
                if let Some(place) = self.find(&unit, answers) {
                    self.talk = Talk::Units(vec![place].into_iter());
                }
                Wish::None
            }
            InitRequest::Start { unit } => self.order(&unit, Order::Start, answers),
            InitRequest::Stop { unit } => self.order(&unit, Order::Stop, answers),
            InitRequest::Restart { unit } => self.order(&unit, Order::Restart, answers),
            InitRequest::Set { unit, key, value } => {
                self.set(&unit, &key, value.as_deref(), answers)
            }
            InitRequest::Reboot { reason } => {
                self.reply(&InitReply::Done);
                Wish::End(How::Reboot, reason)
            }
            InitRequest::PowerOff { reason } => {
                self.reply(&InitReply::Done);
                Wish::End(How::PowerOff, reason)
            }
        }
    }

    /// The answer about all units is one line, of which only a buffer's worth is ever there.
    fn begin_list(&mut self, answers: &Answers<'_>) {
        self.reply(&InitReply::Units {
            units: Vec::new(),
            init_start_ms: answers.start_ms,
            trial: answers.supervisor.trial_open(),
            dropped_lines: answers.ring.dropped(),
        });
        let line = String::from_utf8_lossy(&self.out);
        if let Some((head, tail)) = line.split_once(NO_UNITS) {
            let head = format!("{head}{}", NO_UNITS.trim_end_matches(']'));
            let tail = format!("]{tail}");
            self.talk = Talk::List { places: by_name(answers.supervisor), first: true, tail };
            self.out = head.into_bytes();
        }
    }

    fn find(&mut self, name: &str, answers: &Answers<'_>) -> Option<usize> {
        let place = answers.supervisor.find(name);
        if place.is_none() {
            let name: String = name.chars().take(NAME_CHARS_MAX).collect();
            self.refuse(format!("there is no unit `{name}`; `goblin units` lists them"));
        }
        place
    }

    fn order(&mut self, name: &str, order: Order, answers: &Answers<'_>) -> Wish {
        let Some(place) = self.find(name, answers) else { return Wish::None };
        if let Some(message) = answers.supervisor.refusal(place, order) {
            self.refuse(message);
            return Wish::None;
        }
        self.reply(&InitReply::Done);
        Wish::Order(place, order)
    }

    fn set(&mut self, name: &str, key: &str, value: Option<&str>, answers: &Answers<'_>) -> Wish {
        let Some(place) = self.find(name, answers) else { return Wish::None };
        match answers.supervisor.set(place, key, value) {
            Ok(text) => {
                self.reply(&InitReply::Done);
                Wish::Settings(place, text)
            }
            Err(message) => {
                self.refuse(message);
                Wish::None
            }
        }
    }

    fn refuse(&mut self, message: String) {
        self.talk = Talk::Ending;
        self.reply(&InitReply::Refused { message });
    }

    fn reply(&mut self, reply: &InitReply) {
        let before = self.out.len();
        match serde_json::to_writer(&mut self.out, reply) {
            Ok(()) => self.out.push(b'\n'),
            Err(_) => self.out.truncate(before),
        }
    }

    /// Fills the buffer from the ring and sends what the reader takes.
    pub fn pump(&mut self, answers: &Answers<'_>) {
        self.broken |= self.deadline_ms().is_some_and(|due_ms| due_ms <= answers.now_ms);
        loop {
            self.fill(answers);
            if self.out.is_empty() || self.broken {
                return;
            }
            match rustix::net::send(&self.socket, &self.out, rustix::net::SendFlags::NOSIGNAL) {
                Ok(count) => {
                    self.due_ms = answers.now_ms.saturating_add(READER_LIMIT_MS);
                    drop(self.out.drain(..count.min(self.out.len())));
                }
                Err(rustix::io::Errno::INTR) => {}
                Err(rustix::io::Errno::AGAIN) => return,
                Err(_) => self.broken = true,
            }
        }
    }

    fn fill(&mut self, answers: &Answers<'_>) {
        let ring = answers.ring;
        while self.out.len() < OUT_BYTES_MAX {
            match &mut self.talk {
                Talk::Reading(_) | Talk::Ending => return,
                Talk::Units(places) => {
                    let unit = places.next().map(|place| answers.supervisor.detail(place));
                    if unit.is_none() {
                        self.talk = Talk::Ending;
                    }
                    let unit = unit.map(|unit| unit.map(|unit| InitReply::Unit(Box::new(unit))));
                    unit.unwrap_or(Some(InitReply::Done))
                        .iter()
                        .for_each(|reply| self.reply(reply));
                }
                Talk::List { places, first, tail } => match places.next() {
                    Some(place) => {
                        let Some(unit) = answers.supervisor.place_status(place) else { continue };
                        if !std::mem::take(first) {
                            self.out.push(b',');
                        }
                        // Numbers and words only: there is nothing that could not be written.
                        let _ = serde_json::to_writer(&mut self.out, &unit);
                    }
                    None => {
                        self.out.extend_from_slice(tail.as_bytes());
                        self.talk = Talk::Ending;
                    }
                },
                Talk::Logs { next_seq, until_seq, unit } => {
                    let line = ring.at_or_after(*next_seq, unit.as_deref());
                    match line.filter(|line| until_seq.is_none_or(|until| line.seq < until)) {
                        Some(line) => {
                            *next_seq = line.seq.saturating_add(1);
                            self.reply(&InitReply::Line(line));
                        }
                        None if until_seq.is_some() => {
                            self.talk = Talk::Ending;
                            self.reply(&InitReply::Done);
                        }
                        None => {
                            *next_seq = ring.next_seq();
                            return;
                        }
                    }
                }
            }
        }
    }
}

/// Whether a request changes something.
fn is_order(request: &InitRequest) -> bool {
    match request {
        InitRequest::Units
        | InitRequest::Graph
        | InitRequest::Show { .. }
        | InitRequest::Logs(_) => false,
        InitRequest::Start { .. }
        | InitRequest::Stop { .. }
        | InitRequest::Restart { .. }
        | InitRequest::Set { .. }
        | InitRequest::Reboot { .. }
        | InitRequest::PowerOff { .. } => true,
    }
}

/// Places of all units in the order of their names.
fn by_name(supervisor: &Supervisor) -> std::vec::IntoIter<usize> {
    let mut places: Vec<usize> = (0..supervisor.count()).collect();
    let name = |place: &usize| supervisor.name(*place).unwrap_or_default();
    places.sort_unstable_by(|a, b| name(a).cmp(name(b)));
    places.into_iter()
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use goblin_core_types::LogLevel;
    use goblin_init_core::supervise::Boot;
    use std::io::{BufRead, Read, Write};
    use std::os::unix::net::UnixStream;

    fn pair() -> (Connection, UnixStream) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        theirs.set_nonblocking(true).unwrap();
        (Connection::new(ours.into(), Rights::Order, EndBy::Program, 0), theirs)
    }

    fn ask(connection: &mut Connection, peer: &mut UnixStream, text: &str, ring: &LogRing) -> Wish {
        peer.write_all(text.as_bytes()).unwrap();
        let supervisor = supervisor(3);
        let answers = Answers { ring, supervisor: &supervisor, start_ms: 5, now_ms: 0 };
        let wish = connection.readable(&answers);
        connection.pump(&answers);
        wish
    }

    fn pump(connection: &mut Connection, ring: &LogRing) {
        let supervisor = supervisor(0);
        connection.pump(&Answers { ring, supervisor: &supervisor, start_ms: 5, now_ms: 0 });
    }

    fn supervisor(count: usize) -> Supervisor {
        let units = (0..count).rev().map(|number| {
            let text = "description = 'd'\nkind = 'service'\nexec = ['/x']\nrefuse_stop = true\n";
            goblin_init_core::unit::parse(&format!("u{number:04}"), text).unwrap()
        });
        let boot = Boot { trial: true, last_resort: false, start_ms: 5 };
        Supervisor::new(units.collect(), vec![("odd".into(), "odd.toml: why".into())], boot)
    }

    fn arrived(peer: &mut UnixStream) -> Vec<u8> {
        let mut bytes = Vec::new();
        // Ends with an error when nothing more is there; what was read stays.
        let _ = peer.read_to_end(&mut bytes);
        bytes
    }

    fn parsed(bytes: &[u8]) -> Vec<InitReply> {
        bytes.lines().map(|line| serde_json::from_str(&line.unwrap()).unwrap()).collect()
    }

    fn replies(peer: &mut UnixStream) -> Vec<InitReply> {
        parsed(&arrived(peer))
    }

    fn ring(count: usize) -> LogRing {
        let mut ring = LogRing::new(1 << 20);
        for number in 0..count {
            ring.push(0, if number % 2 == 0 { "a" } else { "b" }, LogLevel::Info, &"x".repeat(100));
        }
        ring
    }

    #[test]
    fn a_request_in_pieces_is_answered_once() {
        let (mut connection, mut peer) = pair();
        let ring = ring(0);
        assert_eq!(ask(&mut connection, &mut peer, "{\"op\":\"un", &ring), Wish::None);
        assert!(!connection.is_over());
        ask(&mut connection, &mut peer, "its\"}\n{\"op\":\"units\"}\n", &ring);
        assert!(connection.is_over());
        let replies = replies(&mut peer);
        assert!(matches!(
            replies.as_slice(),
            [InitReply::Units { init_start_ms: 5, trial: true, .. }]
        ));
    }

    #[test]
    fn who_may_only_ask_gives_no_orders() {
        let (ours, mut peer) = UnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        peer.set_nonblocking(true).unwrap();
        let mut connection = Connection::new(ours.into(), Rights::Ask, EndBy::Program, 0);
        let text = "{\"op\":\"reboot\",\"reason\":\"r\"}\n";
        assert_eq!(ask(&mut connection, &mut peer, text, &ring(0)), Wish::None);
        let replies = replies(&mut peer);
        assert!(
            matches!(replies.as_slice(), [InitReply::Refused { message }] if message.contains("orders"))
        );
    }

    #[test]
    fn seats_are_not_held_by_who_says_or_takes_nothing() {
        let (ring, supervisor) = (ring(4000), supervisor(0));
        let at = |now_ms| Answers { ring: &ring, supervisor: &supervisor, start_ms: 5, now_ms };
        let (mut silent, _peer) = pair();
        silent.pump(&at(REQUEST_LIMIT_MS - 1));
        assert!(!silent.is_over());
        silent.pump(&at(REQUEST_LIMIT_MS));
        assert!(silent.is_over());
        let (mut lazy, mut peer) = pair();
        peer.write_all(b"{\"op\":\"logs\"}\n").unwrap();
        lazy.readable(&at(0));
        lazy.pump(&at(1));
        assert!(lazy.deadline_ms() == Some(1 + READER_LIMIT_MS));
        lazy.pump(&at(1 + READER_LIMIT_MS));
        assert!(lazy.is_over());
        let (mut follower, mut peer) = pair();
        peer.write_all(b"{\"op\":\"logs\",\"follow\":true,\"lines_max\":1}\n").unwrap();
        follower.readable(&at(0));
        follower.pump(&at(1));
        follower.pump(&at(u64::MAX));
        assert!(follower.follows() && !follower.is_over(), "nothing is there for it to take");
    }

    #[test]
    fn nonsense_and_floods_are_refused() {
        for text in ["what\n".to_owned(), "x".repeat(5000), "{\"op\":\"dance\"}\n".into()] {
            let (mut connection, mut peer) = pair();
            ask(&mut connection, &mut peer, &text, &ring(0));
            assert!(connection.is_over(), "{text}");
            assert!(matches!(replies(&mut peer).as_slice(), [InitReply::Refused { .. }]));
        }
    }

    #[test]
    fn reboot_is_handed_to_the_owner() {
        let (mut connection, mut peer) = pair();
        let wish =
            ask(&mut connection, &mut peer, "{\"op\":\"reboot\",\"reason\":\"r\"}\n", &ring(0));
        assert_eq!(wish, Wish::End(How::Reboot, "r".into()));
        assert_eq!(replies(&mut peer), [InitReply::Done]);
    }

    #[test]
    fn a_listing_ends_and_a_slow_reader_costs_little() {
        let (mut connection, mut peer) = pair();
        let mut ring = ring(4000);
        ask(&mut connection, &mut peer, "{\"op\":\"logs\",\"unit\":\"a\"}\n", &ring);
        let mut got = Vec::new();
        for _ in 0..1000 {
            assert!(connection.out.len() < OUT_BYTES_MAX + 2048);
            got.extend(arrived(&mut peer));
            // Lines that come after the request are not part of the listing.
            ring.push(0, "a", LogLevel::Info, "late");
            pump(&mut connection, &ring);
            if connection.is_over() {
                break;
            }
        }
        got.extend(arrived(&mut peer));
        let got = parsed(&got);
        assert_eq!(got.len(), 2001);
        assert_eq!(got.last(), Some(&InitReply::Done));
    }

    #[test]
    fn followers_get_new_lines_until_they_leave() {
        let (mut connection, mut peer) = pair();
        let mut ring = ring(10);
        ask(
            &mut connection,
            &mut peer,
            "{\"op\":\"logs\",\"follow\":true,\"lines_max\":2}\n",
            &ring,
        );
        assert_eq!(replies(&mut peer).len(), 2);
        ring.push(0, "c", LogLevel::Warn, "new");
        pump(&mut connection, &ring);
        assert!(
            matches!(replies(&mut peer).as_slice(), [InitReply::Line(line)] if line.text == "new")
        );
        drop(peer);
        ring.push(0, "c", LogLevel::Warn, "new");
        pump(&mut connection, &ring);
        assert!(connection.is_over());
    }

    #[test]
    fn units_come_by_name_and_one_can_be_asked_for() {
        let (mut connection, mut peer) = pair();
        ask(&mut connection, &mut peer, "{\"op\":\"graph\"}\n", &ring(0));
        assert!(connection.is_over());
        let names: Vec<_> = replies(&mut peer)
            .into_iter()
            .filter_map(|reply| match reply {
                InitReply::Unit(unit) => Some(unit.status.name),
                _ => None,
            })
            .collect();
        assert_eq!(names, ["odd", "u0000", "u0001", "u0002"]);
        let (mut connection, mut peer) = pair();
        ask(&mut connection, &mut peer, "{\"op\":\"show\",\"unit\":\"u0001\"}\n", &ring(0));
        let replies = replies(&mut peer);
        assert!(
            matches!(replies.as_slice(), [InitReply::Unit(unit), InitReply::Done] if unit.status.name == "u0001")
        );
    }

    #[test]
    fn orders_are_handed_over_or_refused_with_the_reason() {
        let order = |op: &str, unit: &str| {
            let (mut connection, mut peer) = pair();
            let text = format!("{{\"op\":\"{op}\",\"unit\":\"{unit}\"}}\n");
            let wish = ask(&mut connection, &mut peer, &text, &ring(0));
            (wish, replies(&mut peer))
        };
        assert_eq!(
            order("restart", "u0000"),
            (Wish::Order(2, Order::Restart), vec![InitReply::Done])
        );
        for (op, unit, why) in [
            ("start", "nobody", "no unit"),
            ("stop", "u0000", "restart it"),
            ("start", "odd", "why"),
        ] {
            let (wish, replies) = order(op, unit);
            assert_eq!(wish, Wish::None);
            assert!(
                matches!(replies.as_slice(), [InitReply::Refused { message }] if message.contains(why)),
                "{replies:?}"
            );
        }
    }

    #[test]
    fn a_thousand_units_go_through_a_small_buffer() {
        let (ring, supervisor) = (ring(0), supervisor(1000));
        let answers = Answers { ring: &ring, supervisor: &supervisor, start_ms: 5, now_ms: 0 };
        let ask = |op: &str| {
            let (mut connection, mut peer) = pair();
            peer.write_all(format!("{{\"op\":\"{op}\"}}\n").as_bytes()).unwrap();
            assert_eq!(connection.readable(&answers), Wish::None);
            let mut got = Vec::new();
            while !connection.is_over() {
                connection.pump(&answers);
                assert!(connection.out.len() < OUT_BYTES_MAX + 4096);
                got.extend(arrived(&mut peer));
            }
            got.extend(arrived(&mut peer));
            parsed(&got)
        };
        assert_eq!(ask("graph").len(), 1002);
        let listed = ask("units");
        let [InitReply::Units { units, init_start_ms: 5, trial: true, dropped_lines: 0 }] =
            listed.as_slice()
        else {
            panic!("{listed:?}")
        };
        let names: Vec<&str> = units.iter().map(|unit| unit.name.as_str()).collect();
        assert_eq!((names.len(), names[0], names[1]), (1001, "odd", "u0000"));
        assert!(names.is_sorted());
    }
}
