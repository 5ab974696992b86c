//! The storage board's control tree, reached over the inter-board link.
//!
//! Every open makes a connection of its own: a board that vanished costs one open its time limit and
//! nothing else, and no state has to be repaired when it returns.

use goblin_core_ninep::client::{Client, ClientError, Fid, open};
use goblin_core_ninep::synthetic::{CONTENT_BYTES_MAX, ReplyWriter, Talker};
use goblin_core_ninep::{Cancel, Errno, Stream};
use goblin_core_types::{LinkStatus, paths};
use goblin_sys::socket::Socket;
use std::io::{self, Write};
use std::net::{SocketAddrV6, TcpStream};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

/// Longest wait for another board's tree to be reached and a file in it to be opened or read.
pub const REMOTE_TIMEOUT: Duration = Duration::from_secs(5);
/// Message size of a session between boards, in bytes.
const MSIZE_BYTES: u32 = 64 * 1024;

/// Where the other board's tree is, as long as the link is up.
///
/// # Errors
/// `EHOSTDOWN` while the other board is not in sight.
pub fn peer_address() -> Result<SocketAddrV6, Errno> {
    let link = goblin_sys::state::read::<LinkStatus>("link").unwrap_or_default();
    goblin_sys::peer::address(&link, paths::PORT_CONTROL).ok_or(Errno::EHOSTDOWN)
}

/// Reads a whole file of the tree at `address`.
///
/// # Errors
/// `ETIMEDOUT` after [`REMOTE_TIMEOUT`]; what the other board says.
pub fn read_file(address: SocketAddrV6, path: &str, cancel: &Cancel) -> Result<Vec<u8>, Errno> {
    let mut session = Session::open(address, cancel)?;
    let fid = session.open_file(path, open::READ)?;
    let mut content = Vec::new();
    loop {
        session.limit()?;
        let offset = u64::try_from(content.len()).unwrap_or(u64::MAX);
        let part = session.client.read(&fid, offset, u32::MAX).map_err(errno)?;
        if part.is_empty() {
            return Ok(content);
        }
        if content.len().saturating_add(part.len()) > CONTENT_BYTES_MAX {
            return Err(Errno::EFBIG);
        }
        content.extend_from_slice(part);
    }
}

/// Opens a conversation of the tree at `address`. What is answered sends the client's line on and
/// brings the reply back until its end, however long that takes.
///
/// # Errors
/// `ETIMEDOUT` after [`REMOTE_TIMEOUT`]; what the other board says.
pub fn converse(address: SocketAddrV6, path: &str, cancel: &Cancel) -> Result<Talker, Errno> {
    let mut session = Session::open(address, cancel)?;
    let fid = session.open_file(path, open::READ_WRITE)?;
    Ok(Box::new(move |line, reply| session.bring(&fid, line, reply)))
}

struct Session {
    client: Client<Socket>,
    /// Duplicate of the client's socket, to end what waits on it.
    handle: Socket,
    root: Fid,
    deadline: Instant,
}

impl Session {
    fn open(address: SocketAddrV6, cancel: &Cancel) -> Result<Self, Errno> {
        let deadline = deadline();
        let stream: TcpStream =
            goblin_sys::peer::connect(address, REMOTE_TIMEOUT).map_err(io_errno)?;
        let socket = Socket::from(OwnedFd::from(stream));
        let handle = socket.try_clone().map_err(io_errno)?;
        let for_cancel = socket.try_clone().map_err(io_errno)?;
        cancel.on_cancel(move || for_cancel.shutdown());
        let limit = Some(left(deadline)?);
        socket.set_limits(limit, limit).map_err(io_errno)?;
        let mut client = Client::connect(socket, MSIZE_BYTES).map_err(errno)?;
        let root = client.attach("control", "root").map_err(errno)?;
        Ok(Self { client, handle, root, deadline })
    }

    /// Lets the next request take what is left of the time.
    fn limit(&self) -> Result<(), Errno> {
        let limit = Some(left(self.deadline)?);
        self.handle.set_limits(limit, limit).map_err(io_errno)
    }

    fn open_file(&mut self, path: &str, flags: u32) -> Result<Fid, Errno> {
        self.limit()?;
        let fid = self.client.walk(&self.root, path).map_err(errno)?;
        self.limit()?;
        self.client.open(&fid, flags).map_err(errno)?;
        Ok(fid)
    }

    fn bring(mut self, fid: &Fid, mut line: Vec<u8>, mut reply: ReplyWriter) -> Result<(), Errno> {
        let for_close = self.handle.try_clone().map_err(io_errno)?;
        reply.on_closed(move || for_close.shutdown());
        self.deadline = deadline();
        self.limit()?;
        line.push(b'\n');
        self.client.write_all(fid, 0, &line).map_err(errno)?;
        // The next word may take minutes; a board that is gone is noticed by the keep-alive probes.
        self.handle.set_limits(None, Some(REMOTE_TIMEOUT)).map_err(io_errno)?;
        let mut offset = 0u64;
        loop {
            let part = self.client.read(fid, offset, u32::MAX).map_err(errno)?;
            if part.is_empty() {
                return Ok(());
            }
            offset = offset.saturating_add(u64::try_from(part.len()).unwrap_or(0));
            reply.write_all(part).map_err(io_errno)?;
        }
    }
}

fn deadline() -> Instant {
    let now = Instant::now();
    now.checked_add(REMOTE_TIMEOUT).unwrap_or(now)
}

fn left(deadline: Instant) -> Result<Duration, Errno> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() { Err(Errno::ETIMEDOUT) } else { Ok(left) }
}

fn errno(err: ClientError) -> Errno {
    match err {
        ClientError::Io(err) => io_errno(err),
        other => other.errno(),
    }
}

/// A time limit of a socket passes as `EAGAIN`, which would tell the asker to try at once again.
fn io_errno(err: io::Error) -> Errno {
    match err.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => Errno::ETIMEDOUT,
        _ => err.into(),
    }
}
