//! Sockets that PID 1 opens: those it holds for services, and those by which it asks whether one is ready.
//! None of it waits: a connection under way is a source of the loop.

use super::{Runtime, Source};
use goblin_init_core::bus_name::{Asking, Next};
use goblin_init_core::supervise::{Event, UnitIndex};
use goblin_init_core::unit::{Address, Probe, ProbeKind};
use rustix::event::epoll::EventFlags;
use rustix::io::Errno;
use rustix::net::{AddressFamily, SendFlags, SocketAddrUnix, SocketFlags, SocketType, sockopt};
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// Connections that wait for a service, while it is started again too.
const BACKLOG: i32 = 1024;
/// `size[4] Tversion tag[2] msize[4] version[s]`: 8 KiB, `9P2000.L`.
const TVERSION: &[u8] = b"\x15\0\0\0\x64\xff\xff\0\x20\0\0\x08\x009P2000.L";
/// `Rversion` (9P2000, version).
const RVERSION: u8 = 101;
/// Bytes of a 9P answer up to its type.
const HEAD_BYTES: usize = 5;
/// Bytes of an answer taken at once.
const ANSWER_TURN_BYTES: usize = 512;

/// A question to a unit, under way.
#[derive(Debug)]
pub struct Question {
    pub(super) index: UnitIndex,
    socket: OwnedFd,
    talk: Talk,
    sent: bool,
}

/// What is said, once the connection stands.
#[derive(Debug)]
enum Talk {
    Nothing,
    /// The head of the answer, as far as it came.
    NineP(Vec<u8>),
    Bus(Asking),
}

impl Talk {
    fn new(kind: &ProbeKind) -> Self {
        match kind {
            ProbeKind::Connect => Self::Nothing,
            ProbeKind::NineP => Self::NineP(Vec::new()),
            ProbeKind::BusName(name) => Self::Bus(Asking::new(name)),
        }
    }

    /// What is sent first; `None`: that the connection stands is the answer.
    fn first(&self) -> Option<&'static [u8]> {
        match self {
            Self::Nothing => None,
            Self::NineP(_) => Some(TVERSION),
            Self::Bus(_) => Some(Asking::first()),
        }
    }

    fn take(&mut self, bytes: &[u8]) -> Next {
        match self {
            Self::Nothing => Next::Answered(true),
            Self::NineP(head) => {
                head.extend_from_slice(bytes);
                match head.get(HEAD_BYTES.saturating_sub(1)) {
                    Some(kind) => Next::Answered(*kind == RVERSION),
                    None => Next::Wait,
                }
            }
            Self::Bus(asking) => asking.take(bytes),
        }
    }
}

impl AsFd for Question {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Question {
    /// Begins to ask.
    fn ask(index: UnitIndex, probe: &Probe) -> io::Result<Self> {
        let socket = open(&probe.address)?;
        let done = match &probe.address {
            Address::Unix(path) => rustix::net::connect(&socket, &SocketAddrUnix::new(path)?),
            Address::Tcp(address) => rustix::net::connect(&socket, address),
        };
        match done {
            Ok(()) | Err(Errno::INPROGRESS) => {
                Ok(Self { index, socket, talk: Talk::new(&probe.question), sent: false })
            }
            Err(err) => Err(err.into()),
        }
    }

    /// The answer, as far as it is there.
    pub(super) fn turn(&mut self) -> Option<bool> {
        if !self.sent {
            if !matches!(sockopt::socket_error(&self.socket), Ok(Ok(()))) {
                return Some(false);
            }
            let Some(first) = self.talk.first() else { return Some(true) };
            match self.send(first) {
                Ok(true) => self.sent = true,
                // The buffer of a new connection has room for so little, or there is none yet.
                Err(Errno::AGAIN | Errno::NOTCONN) => return None,
                _ => return Some(false),
            }
        }
        let mut room = [0; ANSWER_TURN_BYTES];
        loop {
            match rustix::io::read(&self.socket, &mut room) {
                Ok(0) => return Some(false),
                Ok(count) => match self.talk.take(room.get(..count).unwrap_or_default()) {
                    Next::Wait => {}
                    Next::Answered(answer) => return Some(answer),
                    // So little fits into the buffer of a peer that has read all so far.
                    Next::Send(bytes) => match self.send(&bytes) {
                        Ok(true) => {}
                        _ => return Some(false),
                    },
                },
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return None,
                Err(_) => return Some(false),
            }
        }
    }

    /// True when all of it was taken.
    fn send(&self, bytes: &[u8]) -> rustix::io::Result<bool> {
        let sent = rustix::net::send(&self.socket, bytes, SendFlags::NOSIGNAL)?;
        Ok(sent == bytes.len())
    }
}

fn open(address: &Address) -> io::Result<OwnedFd> {
    let family = match address {
        Address::Unix(_) => AddressFamily::UNIX,
        Address::Tcp(SocketAddr::V4(_)) => AddressFamily::INET,
        Address::Tcp(SocketAddr::V6(_)) => AddressFamily::INET6,
    };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    Ok(rustix::net::socket_with(family, SocketType::STREAM, flags, None)?)
}

/// A listening socket; a path that is left over is replaced, and only root may connect to it.
fn listen(address: &Address) -> io::Result<OwnedFd> {
    let socket = open(address)?;
    match address {
        Address::Unix(path) => {
            if let Some(folder) = path.parent() {
                std::fs::create_dir_all(folder)?;
            }
            match std::fs::remove_file(path) {
                Err(err) if err.kind() != io::ErrorKind::NotFound => return Err(err),
                _ => {}
            }
            let old_mask = rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o177));
            let bound = rustix::net::bind(&socket, &SocketAddrUnix::new(path)?);
            rustix::process::umask(old_mask);
            bound?;
        }
        Address::Tcp(address) => {
            sockopt::set_socket_reuseaddr(&socket, true)?;
            rustix::net::bind(&socket, address)?;
        }
    }
    rustix::net::listen(&socket, BACKLOG)?;
    // A service expects to wait in `accept`.
    rustix::io::ioctl_fionbio(&socket, false)?;
    Ok(socket)
}

impl Runtime {
    /// Opens a unit's socket, unless it is open.
    pub(super) fn listen(&mut self, index: UnitIndex) -> Event {
        if self.sockets.contains_key(&index) {
            return Event::Listening(index);
        }
        let Some(address) = self.supervisor.unit(index).and_then(|unit| unit.listen.as_deref())
        else {
            return Event::NotStarted(index, "no address".into());
        };
        match listen(address) {
            Ok(socket) => {
                self.sockets.insert(index, socket);
                Event::Listening(index)
            }
            Err(err) => Event::NotStarted(index, format!("{address}: {err}")),
        }
    }

    /// Asks a unit whether it accepts connections, instead of any earlier question.
    pub(super) fn probe(&mut self, index: UnitIndex) -> Option<Event> {
        self.forget_question(index);
        let probe = self.supervisor.unit(index)?.probe.as_deref()?;
        // Refused or absent: it is asked again after a pause, up to the limit of its start.
        let Ok(mut question) = Question::ask(index, probe) else {
            return Some(Event::Probed(index, false));
        };
        match question.turn_of_unix() {
            Some(answered) => Some(Event::Probed(index, answered)),
            None => match self.add(Source::Question(question)) {
                Ok(_) => None,
                Err(_) => Some(Event::Probed(index, false)),
            },
        }
    }

    pub(super) fn forget_question(&mut self, of: UnitIndex) {
        self.sources.retain(|_, source| !matches!(source, Source::Question(q) if q.index == of));
    }
}

impl Question {
    /// A unix socket is connected at once or not at all; TCP is waited for.
    fn turn_of_unix(&mut self) -> Option<bool> {
        match rustix::net::getpeername(&self.socket) {
            Ok(_) => self.turn(),
            Err(_) => None,
        }
    }

    pub(super) const fn flags() -> EventFlags {
        EventFlags::IN.union(EventFlags::OUT).union(EventFlags::RDHUP).union(EventFlags::ET)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::os::unix::net::UnixListener;

    fn answer_of(probe: &Probe) -> bool {
        let Ok(mut question) = Question::ask(0, probe) else { return false };
        for _ in 0..200 {
            if let Some(answer) = question.turn() {
                return answer;
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        false
    }

    #[test]
    fn a_socket_that_nobody_holds_is_not_ready() {
        let dir = tempfile::tempdir().unwrap();
        let address = Address::Unix(dir.path().join("deep/x.sock"));
        let probe = Probe { address, question: ProbeKind::Connect };
        assert!(!answer_of(&probe));
        let held = listen(&probe.address).unwrap();
        assert!(answer_of(&probe));
        drop(held);
        assert!(!answer_of(&probe), "a path without a listener");
        assert!(listen(&probe.address).is_ok(), "what is left over is replaced");
        assert!(!answer_of(&Probe::parse("tcp:127.0.0.1:1").unwrap()));
    }

    #[test]
    fn tcp_is_asked_on_the_loopback() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = Address::Tcp(listener.local_addr().unwrap());
        assert!(answer_of(&Probe { address, question: ProbeKind::Connect }));
    }

    #[test]
    fn only_a_9p_answer_is_one() {
        for (answer, good) in [(&b"\x15\0\0\0\x65\xff\xff"[..], true), (b"HTTP/1.1 400", false)] {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("x");
            let listener = UnixListener::bind(&path).unwrap();
            let server = std::thread::spawn(move || {
                let (mut peer, _) = listener.accept().unwrap();
                let mut asked = [0; TVERSION.len()];
                peer.read_exact(&mut asked).unwrap();
                assert_eq!(asked, TVERSION);
                peer.write_all(answer).unwrap();
            });
            let address = Address::Unix(path);
            assert_eq!(answer_of(&Probe { address, question: ProbeKind::NineP }), good);
            server.join().unwrap();
        }
    }

    /// Debian's own bus answers, and knows who has a name.
    #[test]
    fn a_name_on_a_bus_is_asked_for() {
        let daemon = "/usr/bin/dbus-daemon";
        if !rustix::process::geteuid().is_root() || !std::path::Path::new(daemon).exists() {
            println!("skipped 1: needs root and dbus-daemon");
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("bus");
        let config = dir.path().join("bus.conf");
        let text = format!(
            "<!DOCTYPE busconfig PUBLIC \"-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN\" \"\">\
             <busconfig><type>session</type><listen>unix:path={}</listen><policy context=\"default\">\
             <allow send_destination=\"*\" eavesdrop=\"true\"/><allow eavesdrop=\"true\"/><allow own=\"*\"/></policy></busconfig>",
            path.display()
        );
        std::fs::write(&config, text).unwrap();
        let config = format!("--config-file={}", config.display());
        let mut bus =
            std::process::Command::new(daemon).args([&config, "--nofork"]).spawn().unwrap();
        let answer = |name: &str| {
            let question = ProbeKind::BusName(name.into());
            answer_of(&Probe { address: Address::Unix(path.clone()), question })
        };
        // The bus itself always has its name; nobody has the other one.
        let up = (0..100).any(|_| {
            std::thread::sleep(std::time::Duration::from_millis(50));
            answer("org.freedesktop.DBus")
        });
        let nobody = answer("org.example.Nobody");
        bus.kill().unwrap();
        bus.wait().unwrap();
        assert!(up && !nobody);
    }

    #[test]
    fn the_question_has_the_size_it_says() {
        assert_eq!(TVERSION.len(), usize::from(TVERSION[0]));
    }
}
