//! One mounted share: the connection below it, the mount, and a look at whether both are alive.

use crate::place;
use goblin_sys::mount::{self, MountFlags};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::io;
use std::net::{Shutdown, SocketAddrV6, TcpStream};
use std::os::fd::{AsFd, AsRawFd};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::thread;
use std::time::Duration;

/// Longest 9P message asked for, in bytes: 24 of header and 128 pages, so that reads stay aligned.
const MSIZE_BYTES: u32 = 24 + 128 * 4096;
/// Longest wait for the storage board to take the connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Longest wait for the kernel's version and attach, and for an answer to a probe.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// Why a share is not mounted, or not any more.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LossError {
    /// The storage board does not take the connection.
    #[error("the storage board does not take the connection: {source}")]
    Connect {
        /// The kernel's word.
        #[source]
        source: io::Error,
    },
    /// The storage board has no share of this name.
    #[error("the storage board serves no share of this name; compare both provisioning files")]
    NotServed,
    /// The kernel's client could not attach.
    #[error("the storage board refused the share: {source}")]
    Mount {
        /// The kernel's word.
        #[source]
        source: io::Error,
    },
    /// The share did not answer in time.
    #[error("the storage board did not answer for {} seconds", ANSWER_TIMEOUT.as_secs())]
    Silent,
    /// The storage board closed the connection, or the cable is out.
    #[error("the connection to the storage board broke")]
    Broken,
    /// A thread or a descriptor is not to be had.
    #[error("this board is short of resources: {source}")]
    Resources {
        /// The kernel's word.
        #[source]
        source: io::Error,
    },
}

/// A mounted share. Dropping it takes the mount away and makes every call that hangs in it fail.
#[derive(Debug)]
pub struct Connection {
    /// Our duplicate of the socket the kernel speaks on. Never read or written here.
    socket: TcpStream,
    target: PathBuf,
}

impl Connection {
    /// Connects to the storage board and mounts `share` on `target`.
    ///
    /// # Errors
    /// [`LossError`]; nothing is mounted then.
    pub fn open(
        address: SocketAddrV6,
        share: &str,
        read_only: bool,
        target: &Path,
    ) -> Result<Self, LossError> {
        let socket = goblin_sys::peer::connect(address, CONNECT_TIMEOUT)
            .map_err(|source| LossError::Connect { source })?;
        let connection = Self { socket, target: target.to_owned() };
        let options = options(share, connection.socket.as_raw_fd());
        let mut flags = MountFlags::NOSUID | MountFlags::NODEV;
        if read_only {
            flags |= MountFlags::RDONLY;
        }
        let (name, target) = (format!("storage:{share}"), connection.target.clone());
        connection
            .within_deadline(move || mount::mount(name, target, "9p", flags, &options))?
            .map_err(|source| match source.kind() {
                io::ErrorKind::NotFound => LossError::NotServed,
                _ => LossError::Mount { source },
            })?;
        Ok(connection)
    }

    /// Waits up to `wait` for the connection to break.
    ///
    /// # Errors
    /// [`LossError::Broken`] when it did.
    pub fn watch(&self, wait: Duration) -> Result<(), LossError> {
        let mut fds = [PollFd::from_borrowed_fd(self.socket.as_fd(), PollFlags::RDHUP)];
        let wait = Timespec::try_from(wait).unwrap_or(Timespec { tv_sec: 1, tv_nsec: 0 });
        match poll(&mut fds, Some(&wait)) {
            Ok(0) | Err(rustix::io::Errno::INTR) => Ok(()),
            Ok(_) => Err(LossError::Broken),
            Err(err) => Err(LossError::Resources { source: err.into() }),
        }
    }

    /// Asks the share for its size, which the kernel always sends to the server.
    ///
    /// # Errors
    /// [`LossError::Silent`] when no answer came in time, [`LossError::Broken`] when the mount is dead.
    pub fn probe(&self) -> Result<(), LossError> {
        let target = self.target.clone();
        match self.within_deadline(move || rustix::fs::statfs(&target))? {
            Ok(_) => Ok(()),
            Err(_) => Err(LossError::Broken),
        }
    }

    /// Runs a call that may hang in the kernel, in a thread of its own. Past the deadline the socket is
    /// shut down, which ends the call with an error.
    fn within_deadline<T: Send + 'static>(
        &self,
        call: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, LossError> {
        let (give, take) = sync_channel(1);
        thread::Builder::new()
            .name("share-call".into())
            .spawn(move || give.send(call()))
            .map_err(|source| LossError::Resources { source })?;
        match take.recv_timeout(ANSWER_TIMEOUT) {
            Ok(answer) => Ok(answer),
            Err(RecvTimeoutError::Timeout) => {
                self.shut_down();
                // Wait for the call to fail: a mount that came after all would be left behind.
                let _ = take.recv_timeout(ANSWER_TIMEOUT);
                Err(LossError::Silent)
            }
            Err(RecvTimeoutError::Disconnected) => Err(LossError::Broken),
        }
    }

    fn shut_down(&self) {
        // A connection that is gone already is what was wanted.
        let _ = self.socket.shutdown(Shutdown::Both);
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.shut_down();
        if let Err(err) = place::detach_all(&self.target) {
            tracing::warn!(target = %self.target.display(), %err, "cannot take a dead mount away");
        }
    }
}

/// Options of the kernel's client. `access=any` keeps every local user on the one attach; `readahead`
/// reads each file anew when it is opened, so that changes on the storage board are seen.
fn options(share: &str, socket: i32) -> String {
    format!(
        "trans=fd,rfdno={socket},wfdno={socket},version=9p2000.L,aname={share},uname=root,access=any,\
         msize={MSIZE_BYTES},cache=readahead"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    fn connection() -> (Connection, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let socket = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (server, _) = listener.accept().unwrap();
        (Connection { socket, target: "/nonexistent/share".into() }, server)
    }

    #[test]
    fn options_name_the_socket_and_the_share() {
        let text = options("main", 7);
        assert!(
            text.starts_with("trans=fd,rfdno=7,wfdno=7,version=9p2000.L,aname=main,"),
            "{text}"
        );
        assert!(text.contains("msize=524312"), "{text}");
    }

    #[test]
    fn a_server_that_closes_is_noticed_and_one_that_is_idle_is_not() {
        let (connection, server) = connection();
        connection.watch(Duration::from_millis(10)).unwrap();
        drop(server);
        assert!(matches!(connection.watch(Duration::from_secs(5)), Err(LossError::Broken)));
    }

    #[test]
    fn a_share_that_cannot_be_asked_is_broken() {
        let (connection, _server) = connection();
        assert!(matches!(connection.probe(), Err(LossError::Broken)));
    }
}
