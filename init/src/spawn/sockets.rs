//! Listening sockets that a unit finds open: the descriptors from 3 on.
//!
//! The variables are those of `sd_listen_fds(3)`, which many programs understand: `LISTEN_FDS` counts them,
//! `LISTEN_FDNAMES` names them, `LISTEN_PID` is the process they are for. `GOBLIN_SOCKETS` says the same in
//! one word, `NAME=3:NAME=4`, the names being those of the socket units.

use super::FIRST_FD;
use super::kernel::duplicate;
use std::cell::Cell;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd, RawFd};

/// Start of the word that the child completes.
const PID_WORD: &[u8] = b"LISTEN_PID=";
/// Most digits of a process id.
const DIGITS: usize = 10;
/// The word, its digits and a NUL.
const PID_WORD_BYTES: usize = PID_WORD.len() + DIGITS + 1;

/// Sockets for one child, above all descriptors that it will have, so that none is overwritten before its
/// turn.
#[derive(Debug, Default)]
pub(super) struct Passed {
    names: Vec<String>,
    sockets: Vec<OwnedFd>,
}

impl Passed {
    pub(super) fn new(sockets: &[(&str, BorrowedFd<'_>)]) -> io::Result<Self> {
        let floor = number(sockets.len()).saturating_add(1);
        let copies = sockets.iter().map(|(_, fd)| rustix::io::fcntl_dupfd_cloexec(fd, floor));
        Ok(Self {
            names: sockets.iter().map(|(name, _)| (*name).to_owned()).collect(),
            sockets: copies.collect::<Result<_, _>>()?,
        })
    }

    pub(super) fn is_empty(&self) -> bool {
        self.sockets.is_empty()
    }

    /// Descriptor of the notify pipe in the child.
    pub(super) fn notify_fd(&self) -> RawFd {
        number(self.sockets.len())
    }

    pub(super) fn env(&self) -> Vec<String> {
        if self.is_empty() {
            return Vec::new();
        }
        let ours = self.names.iter().enumerate().map(|(at, name)| format!("{name}={}", number(at)));
        let ours: Vec<String> = ours.collect();
        vec![
            format!("LISTEN_FDS={}", self.sockets.len()),
            format!("LISTEN_FDNAMES={}", self.names.join(":")),
            format!("GOBLIN_SOCKETS={}", ours.join(":")),
        ]
    }

    /// In the child.
    pub(super) fn install(&self) -> rustix::io::Result<()> {
        for (at, socket) in self.sockets.iter().enumerate() {
            duplicate(socket, number(at))?;
        }
        Ok(())
    }
}

fn number(at: usize) -> RawFd {
    RawFd::try_from(at).unwrap_or(RawFd::MAX).saturating_add(FIRST_FD)
}

/// `LISTEN_PID=` and room for the number: made before the fork, completed by the child, which must not
/// allocate.
#[derive(Debug)]
pub(super) struct PidWord {
    bytes: [Cell<u8>; PID_WORD_BYTES],
}

impl PidWord {
    pub(super) fn new() -> Self {
        let byte = |at: usize| Cell::new(PID_WORD.get(at).copied().unwrap_or(0));
        Self { bytes: std::array::from_fn(byte) }
    }

    pub(super) fn pointer(&self) -> *const libc::c_char {
        self.bytes.as_ptr().cast()
    }

    /// Writes this process' id behind the word.
    pub(super) fn fill(&self) {
        let mut id = std::process::id();
        let mut digits = [0u8; DIGITS];
        let mut count = 0usize;
        for digit in &mut digits {
            *digit = b'0'.saturating_add(u8::try_from(id % 10).unwrap_or(0));
            id /= 10;
            count = count.saturating_add(1);
            if id == 0 {
                break;
            }
        }
        let places = self.bytes.iter().skip(PID_WORD.len());
        for (place, digit) in places.zip(digits.iter().take(count).rev()) {
            place.set(*digit);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Program, Started, explain};
    use super::*;
    use std::io::{Read, Write};
    use std::os::fd::AsFd;
    use std::os::unix::net::{UnixListener, UnixStream};

    #[test]
    fn the_word_is_this_process() {
        let word = PidWord::new();
        word.fill();
        let bytes: Vec<u8> =
            word.bytes.iter().map(Cell::get).take_while(|byte| *byte != 0).collect();
        assert_eq!(bytes, format!("LISTEN_PID={}", std::process::id()).into_bytes());
    }

    #[test]
    fn a_child_finds_its_sockets_open_and_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.sock");
        let listener = UnixListener::bind(&path).unwrap();
        // A client that comes before the program waits in the queue of the socket.
        let mut client = UnixStream::connect(&path).unwrap();
        client.write_all(b"early").unwrap();
        let text = "description = 'd'\nkind = 'service'\nexec = ['/bin/sh', '-c',             'test $LISTEN_PID = $$ && echo $LISTEN_FDS $LISTEN_FDNAMES $GOBLIN_SOCKETS $GOBLIN_NOTIFY; readlink /proc/self/fd/3']\n";
        let unit = goblin_init_core::unit::parse("x", text).unwrap();
        let sockets = [("web", listener.as_fd()), ("web2", listener.as_fd())];
        let env = std::iter::empty();
        let passed = Passed::new(&sockets).unwrap();
        let child = Program::new(unit.exec.iter(), env, None, passed).unwrap().start().unwrap();
        let pid = rustix::process::Pid::from_raw(child.pid as i32);
        rustix::process::waitpid(pid, rustix::process::WaitOptions::empty()).unwrap();
        assert_eq!(explain(child.status.as_fd()), Started::Executed);
        let mut text = String::new();
        std::fs::File::from(child.log).read_to_string(&mut text).unwrap();
        let mut lines = text.lines();
        assert_eq!(lines.next(), Some("2 web:web2 web=3:web2=4 /proc/self/fd/5"));
        assert!(lines.next().unwrap().starts_with("socket:"));
        let mut got = [0; 5];
        listener.accept().unwrap().0.read_exact(&mut got).unwrap();
        assert_eq!(&got, b"early");
    }
}
