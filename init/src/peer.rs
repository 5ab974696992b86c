//! Who is at the other end of a control connection: the process that connected, and the unit it belongs to.
//!
//! The kernel tells a number (`SO_PEERCRED`), and the group is read by that number. A number that was given to
//! somebody else meanwhile would lend the rights of one unit to another one, so the process itself is held
//! (`SO_PEERPIDFD`, Linux 6.5) while its group is read: the number is its own as long as it can be sent a signal.

use crate::cgroup::{self, Place};
use nix::sys::socket::{getsockopt, sockopt};
use std::io;
use std::os::fd::{AsFd, OwnedFd};

/// A process of this board.
#[derive(Debug, PartialEq, Eq)]
pub struct Peer {
    /// Its number.
    pub pid: u32,
    /// Where it is in the tree of groups; `None` on a board without one.
    pub place: Option<Place>,
}

/// The process that made a connection.
///
/// # Errors
/// When it is gone, or the kernel does not tell.
pub fn of(socket: &OwnedFd) -> io::Result<Peer> {
    let process = getsockopt(socket, sockopt::PeerPidfd)?;
    let credentials = rustix::net::sockopt::socket_peercred(socket)?;
    let pid = credentials.pid.as_raw_pid().unsigned_abs();
    let place = cgroup::is_there().then(|| cgroup::place_of(pid)).transpose()?;
    match goblin_sys::signal::is_there(process.as_fd())? {
        true => Ok(Peer { pid, place }),
        false => Err(io::ErrorKind::NotFound.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::{UnixListener, UnixStream};
    use std::process::{Command, Stdio};

    #[test]
    fn a_peer_is_itself() {
        let (ours, _theirs) = UnixStream::pair().unwrap();
        // No test makes a tree.
        assert_eq!(of(&ours.into()).unwrap(), Peer { pid: std::process::id(), place: None });
    }

    /// Names the socket to the child of the test below.
    const SOCKET: &str = "GOBLIN_TEST_SOCKET";

    #[test]
    fn one_that_is_gone_is_nobody() {
        if let Some(path) = std::env::var_os(SOCKET) {
            // Its child: connects and ends.
            return drop(UnixStream::connect(path).unwrap());
        }
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x");
        let listener = UnixListener::bind(&path).unwrap();
        let ended = Command::new("/proc/self/exe")
            .args(["--exact", "peer::tests::one_that_is_gone_is_nobody"])
            .env(SOCKET, &path)
            .stdout(Stdio::null())
            .status()
            .unwrap();
        assert!(ended.success());
        // It has connected, and somebody else may have its number by now.
        let socket = listener.accept().unwrap().0;
        assert!(of(&socket.into()).is_err());
    }
}
