//! The storage board's control tree, reached over the inter-board link.
//!
//! Every open makes a connection of its own: a board that vanished costs one open its time limit and
//! nothing else, and no state has to be repaired when it returns.

use goblin_core_ninep::client::{Client, ClientError, Fid, open};
use goblin_core_ninep::synthetic::{CONTENT_BYTES_MAX, ReplyWriter, Talker};
use goblin_core_ninep::{Cancel, Errno, Stream};
use goblin_core_trust::PublicKey;
use goblin_core_types::{LinkStatus, paths};
use goblin_sys::socket::Socket;
use goblin_tls::{Expect, Identity, Service, TlsError, TlsStream};
use std::io::{self, Write};
use std::net::{SocketAddrV6, TcpStream};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Longest wait for another board's tree to be reached and a file in it to be opened or read.
pub const REMOTE_TIMEOUT: Duration = Duration::from_secs(5);
/// Message size of a session between boards, in bytes.
const MSIZE_BYTES: u32 = 64 * 1024;

/// The other board: where it is, and the keys of both ends.
#[derive(Debug, Clone)]
pub struct Remote {
    /// Its control tree's address.
    pub address: SocketAddrV6,
    /// This board.
    pub me: Identity,
    /// The other board's key.
    pub key: PublicKey,
}

/// The other board, as long as the link is up.
///
/// # Errors
/// `EHOSTDOWN` while the other board is not in sight, `EACCES` without usable keys.
pub fn peer() -> Result<Remote, Errno> {
    let link = goblin_sys::state::read::<LinkStatus>("link").unwrap_or_default();
    let address = goblin_sys::peer::address(&link, paths::PORT_CONTROL).ok_or(Errno::EHOSTDOWN)?;
    let keys = goblin_sys::provision::load().map_err(|_| Errno::EACCES)?.keys;
    let me = Identity::from_seed(&keys.board_private.0).map_err(|_| Errno::EACCES)?;
    let key = PublicKey::from_bytes(keys.peer_public.0).map_err(|_| Errno::EACCES)?;
    Ok(Remote { address, me, key })
}

/// Reads a whole file of the tree of `remote`.
///
/// # Errors
/// `ETIMEDOUT` after [`REMOTE_TIMEOUT`]; what the other board says.
pub fn read_file(remote: &Remote, path: &str, cancel: &Cancel) -> Result<Vec<u8>, Errno> {
    let mut session = Session::open(remote, cancel)?;
    // Where the other board speaks the boards' dialect, this is one round trip.
    session.client.read_file(&session.root, path, CONTENT_BYTES_MAX).map_err(errno)
}

/// Opens a conversation of the tree of `remote`. What is answered sends the client's line on and
/// brings the reply back until its end, however long that takes.
///
/// # Errors
/// `ETIMEDOUT` after [`REMOTE_TIMEOUT`]; what the other board says.
pub fn converse(remote: &Remote, path: &str, cancel: &Cancel) -> Result<Talker, Errno> {
    let mut session = Session::open(remote, cancel)?;
    let fid = session.open_file(path, open::READ_WRITE)?;
    Ok(Box::new(move |line, reply| session.bring(&fid, line, reply)))
}

struct Session {
    client: Client<TlsStream>,
    /// Duplicate of the client's socket, to end what waits on it.
    handle: Arc<Socket>,
    root: Fid,
    deadline: Instant,
}

impl Session {
    fn open(remote: &Remote, cancel: &Cancel) -> Result<Self, Errno> {
        let deadline = deadline();
        let stream: TcpStream =
            goblin_sys::peer::connect(remote.address, REMOTE_TIMEOUT).map_err(io_errno)?;
        let handle = Arc::new(Socket::from(OwnedFd::from(stream)));
        let for_cancel = handle.clone();
        cancel.on_cancel(move || for_cancel.shutdown());
        let expect = Expect::Key(remote.key);
        let (stream, _) =
            goblin_tls::connect(&handle, &remote.me, expect, Service::Control, left(deadline)?)
                .map_err(tls_errno)?;
        let limit = Some(left(deadline)?);
        handle.set_limits(limit, limit).map_err(io_errno)?;
        let mut client = Client::connect_extended(stream, MSIZE_BYTES).map_err(errno)?;
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
        let for_close = self.handle.clone();
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

/// A board with another key is not the one that was asked for.
fn tls_errno(err: TlsError) -> Errno {
    match err {
        TlsError::Io(err) => io_errno(err),
        TlsError::TimedOut => Errno::ETIMEDOUT,
        _ => Errno::EACCES,
    }
}

/// A time limit of a socket passes as `EAGAIN`, which would tell the asker to try at once again.
fn io_errno(err: io::Error) -> Errno {
    match err.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => Errno::ETIMEDOUT,
        _ => err.into(),
    }
}
