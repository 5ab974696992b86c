//! Listening and connected stream sockets, TCP and unix, as the 9P server and its clients want them:
//! no Nagle delay, dead peers noticed, no SIGPIPE, descriptors never inherited.

use goblin_core_ninep::{Spliced, Stream};
use nix::sys::socket::sockopt::BindToDevice;
use rustix::io::Errno;
use rustix::net::sockopt::{self, Timeout};
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, Shutdown, SocketAddrUnix, SocketFlags, SocketType,
};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Connections that wait to be accepted.
const BACKLOG: i32 = 1024;
/// Silence after which a TCP peer is asked whether it lives.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(30);
/// Pause between two such questions.
const KEEPALIVE_PAUSE: Duration = Duration::from_secs(10);
/// Unanswered questions after which it is dead.
const KEEPALIVE_TRIES: u32 = 3;
/// Longest time sent bytes stay unacknowledged, and longest wait of one write; a write that takes several waits ends
/// at the first one beyond it.
const SEND_LIMIT: Duration = Duration::from_secs(120);
/// Longest wait for a process of this board to take a connection.
const LOCAL_CONNECT_LIMIT: Duration = Duration::from_secs(5);
/// Pause after an accept failed for want of descriptors or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Stack of a connection's thread.
const CONNECTION_STACK_BYTES: usize = 512 * 1024;

/// Sockets of this process so far.
static OPENED: AtomicU64 = AtomicU64::new(0);

/// A connected stream socket. Any thread may use it: one reads while others write.
#[derive(Debug)]
pub struct Socket(OwnedFd, u64);

/// Who is at the other end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Peer {
    /// Over the network; the address proves nothing.
    Network(SocketAddr),
    /// A process of this board, as the kernel says (SO_PEERCRED, `unix(7)`).
    Process {
        /// Process id when it connected.
        pid: i32,
        /// User.
        uid: u32,
        /// Group.
        gid: u32,
    },
}

impl Socket {
    fn new(fd: OwnedFd) -> Self {
        Self(fd, OPENED.fetch_add(1, Ordering::Relaxed))
    }

    /// Its number in the order in which this process opened or accepted its sockets. The thread that serves a
    /// connection may start long after others that came later.
    pub fn order(&self) -> u64 {
        self.1
    }

    /// Connects over TCP within `limit`; `device` binds the connection to one interface.
    ///
    /// # Errors
    /// Whatever the kernel says; `TimedOut` after `limit`.
    pub fn connect_tcp(
        address: SocketAddr,
        device: Option<&str>,
        limit: Duration,
    ) -> io::Result<Self> {
        let family = family_of(&address);
        let fd = stream_socket(family)?;
        bind_to_device(fd.as_fd(), device)?;
        // On Linux the send time limit also bounds connect (`socket(7)`).
        sockopt::set_socket_timeout(&fd, Timeout::Send, Some(limit))?;
        match rustix::net::connect(&fd, &address) {
            Err(Errno::INPROGRESS | Errno::AGAIN) => return Err(io::ErrorKind::TimedOut.into()),
            other => other?,
        }
        let socket = Self::new(fd);
        socket.prepare_tcp()?;
        Ok(socket)
    }

    /// Connects to a unix socket, within five seconds.
    ///
    /// # Errors
    /// As [`connect_unix_within`](Self::connect_unix_within).
    pub fn connect_unix(path: &Path) -> io::Result<Self> {
        Self::connect_unix_within(path, LOCAL_CONNECT_LIMIT)
    }

    /// Connects to a unix socket within `limit`: with a process that lives but accepts nobody the wait for
    /// a place in its queue has no end otherwise.
    ///
    /// # Errors
    /// Whatever the kernel says; `TimedOut` after `limit`.
    pub fn connect_unix_within(path: &Path, limit: Duration) -> io::Result<Self> {
        let fd = stream_socket(AddressFamily::UNIX)?;
        sockopt::set_socket_timeout(&fd, Timeout::Send, Some(limit))?;
        match rustix::net::connect(&fd, &SocketAddrUnix::new(path)?) {
            Err(Errno::AGAIN) => return Err(io::ErrorKind::TimedOut.into()),
            other => other?,
        }
        sockopt::set_socket_timeout(&fd, Timeout::Send, None)?;
        Ok(Self::new(fd))
    }

    /// Two connected sockets.
    ///
    /// # Errors
    /// Whatever the kernel says.
    pub fn pair() -> io::Result<(Self, Self)> {
        let flags = SocketFlags::CLOEXEC;
        let (a, b) = rustix::net::socketpair(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
        Ok((Self::new(a), Self::new(b)))
    }

    fn prepare_tcp(&self) -> io::Result<()> {
        let fd = &self.0;
        sockopt::set_tcp_nodelay(fd, true)?;
        sockopt::set_socket_keepalive(fd, true)?;
        sockopt::set_tcp_keepidle(fd, KEEPALIVE_IDLE)?;
        sockopt::set_tcp_keepintvl(fd, KEEPALIVE_PAUSE)?;
        sockopt::set_tcp_keepcnt(fd, KEEPALIVE_TRIES)?;
        let limit_ms = u32::try_from(SEND_LIMIT.as_millis()).unwrap_or(u32::MAX);
        sockopt::set_tcp_user_timeout(fd, limit_ms)?;
        sockopt::set_socket_timeout(fd, Timeout::Send, Some(SEND_LIMIT))?;
        Ok(())
    }

    /// Sets the longest wait of one read and of one write.
    ///
    /// # Errors
    /// Whatever the kernel says.
    pub fn set_limits(&self, read: Option<Duration>, write: Option<Duration>) -> io::Result<()> {
        sockopt::set_socket_timeout(&self.0, Timeout::Recv, read)?;
        sockopt::set_socket_timeout(&self.0, Timeout::Send, write)?;
        Ok(())
    }

    /// Looks at the first bytes without taking them; waits until all have come, within the read limit.
    /// Fewer are there when the peer closed.
    ///
    /// # Errors
    /// Whatever the kernel says; `WouldBlock` when the limit passed.
    pub fn peek(&self, into: &mut [u8]) -> io::Result<usize> {
        let (got, _) = rustix::net::recv(&self.0, into, RecvFlags::PEEK | RecvFlags::WAITALL)?;
        Ok(got)
    }

    /// Another handle of the same socket.
    ///
    /// # Errors
    /// When the process has no descriptor left.
    pub fn try_clone(&self) -> io::Result<Self> {
        self.0.try_clone().map(|fd| Self(fd, self.1))
    }

    /// The descriptor, to hand to a kernel mount (`trans=fd`).
    pub fn into_fd(self) -> OwnedFd {
        self.0
    }
}

impl From<OwnedFd> for Socket {
    fn from(fd: OwnedFd) -> Self {
        Self::new(fd)
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Stream for Socket {
    fn read(&self, into: &mut [u8]) -> io::Result<usize> {
        let (got, _) = rustix::net::recv(&self.0, into, RecvFlags::empty())?;
        Ok(got)
    }

    fn write_all(&self, bytes: &[u8]) -> io::Result<()> {
        self.write_within(bytes, SendFlags::empty(), SEND_LIMIT)
    }

    fn takes_spliced(&self) -> bool {
        true
    }

    fn write_spliced(&self, bytes: &[u8], spliced: &mut dyn Spliced) -> io::Result<()> {
        // In one packet with what follows, if anything does.
        let more = if spliced.bytes() > 0 { SendFlags::MORE } else { SendFlags::empty() };
        self.write_within(bytes, more, SEND_LIMIT)?;
        send_all(spliced.bytes(), SEND_LIMIT, |_| spliced.move_to(self.as_fd()))
    }

    fn set_read_timeout(&self, limit: Option<Duration>) -> io::Result<()> {
        Ok(sockopt::set_socket_timeout(&self.0, Timeout::Recv, limit)?)
    }

    fn shutdown(&self) {
        // Fails only when the peer has gone already.
        let _ = rustix::net::shutdown(&self.0, Shutdown::Both);
    }
}

impl Socket {
    fn write_within(&self, bytes: &[u8], flags: SendFlags, limit: Duration) -> io::Result<()> {
        send_all(bytes.len(), limit, |sent| {
            let rest = bytes.get(sent..).unwrap_or(&[]);
            Ok(rustix::net::send(&self.0, rest, SendFlags::NOSIGNAL | flags)?)
        })
    }
}

/// Has `send` send until it has sent so many bytes; it is told how many it has, and answers how many more.
fn send_all(
    bytes: usize,
    limit: Duration,
    mut send: impl FnMut(usize) -> io::Result<usize>,
) -> io::Result<()> {
    // Taken when a write did not take everything at once, which is rare.
    let mut since: Option<Instant> = None;
    let mut sent = 0usize;
    while sent < bytes {
        match send(sent) {
            // No stream takes nothing for ever: it waits.
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(more) => sent = sent.saturating_add(more),
            Err(err) if err.kind() == io::ErrorKind::Interrupted => continue,
            Err(err) => return Err(err),
        }
        // The kernel's limit begins anew with every call: a peer that takes a byte now and then would hold this thread
        // for ever.
        if sent < bytes && since.get_or_insert_with(Instant::now).elapsed() > limit {
            return Err(io::ErrorKind::TimedOut.into());
        }
    }
    Ok(())
}

impl Read for Socket {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        Stream::read(self, into)
    }
}

impl Write for Socket {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(rustix::net::send(&self.0, bytes, SendFlags::NOSIGNAL)?)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A listening socket.
#[derive(Debug)]
pub struct Listener {
    fd: OwnedFd,
    unix: bool,
}

impl Listener {
    /// Listens on TCP `port`, IPv6 and IPv4 at once; `device` takes only what comes in by that interface.
    /// Port 0 chooses a free one, see [`local_port`](Self::local_port).
    ///
    /// # Errors
    /// `AddrInUse` while another process holds the port; `NoSuchDevice`-like errors for `device`.
    pub fn tcp(port: u16, device: Option<&str>) -> io::Result<Self> {
        let fd = stream_socket(AddressFamily::INET6)?;
        sockopt::set_socket_reuseaddr(&fd, true)?;
        sockopt::set_ipv6_v6only(&fd, false)?;
        bind_to_device(fd.as_fd(), device)?;
        rustix::net::bind(&fd, &SocketAddrV6::new(Ipv6Addr::UNSPECIFIED, port, 0, 0))?;
        rustix::net::listen(&fd, BACKLOG)?;
        Ok(Self { fd, unix: false })
    }

    /// Listens on one TCP address.
    ///
    /// # Errors
    /// As [`tcp`](Self::tcp).
    pub fn tcp_at(address: SocketAddr) -> io::Result<Self> {
        let fd = stream_socket(family_of(&address))?;
        sockopt::set_socket_reuseaddr(&fd, true)?;
        rustix::net::bind(&fd, &address)?;
        rustix::net::listen(&fd, BACKLOG)?;
        Ok(Self { fd, unix: false })
    }

    /// Listens on a unix socket with permission bits `mode`. A socket file left by an earlier process is
    /// replaced.
    ///
    /// # Errors
    /// Whatever the file system says.
    pub fn unix(path: &Path, mode: u32) -> io::Result<Self> {
        let fd = stream_socket(AddressFamily::UNIX)?;
        // Made beside and renamed over, so that clients never meet a socket nobody listens on, nor one
        // with the wrong mode.
        let mut name = OsString::from(path);
        name.push(".new");
        let beside = Path::new(&name);
        if let Err(err) = std::fs::remove_file(beside)
            && err.kind() != io::ErrorKind::NotFound
        {
            return Err(err);
        }
        rustix::net::bind(&fd, &SocketAddrUnix::new(beside)?)?;
        rustix::fs::chmod(beside, rustix::fs::Mode::from_raw_mode(mode))?;
        rustix::net::listen(&fd, BACKLOG)?;
        std::fs::rename(beside, path)?;
        Ok(Self { fd, unix: true })
    }

    /// Port of a TCP listener.
    ///
    /// # Errors
    /// `InvalidInput` for a unix socket.
    pub fn local_port(&self) -> io::Result<u16> {
        let address = rustix::net::getsockname(&self.fd)?;
        let address = SocketAddr::try_from(address).map_err(io::Error::from)?;
        Ok(address.port())
    }

    /// Waits for one connection.
    ///
    /// # Errors
    /// Whatever the kernel says; see [`serve`](Self::serve) for those that pass.
    pub fn accept(&self) -> io::Result<(Socket, Peer)> {
        let socket = self.accept_bare()?;
        let peer = self.identify(&socket)?;
        Ok((socket, peer))
    }

    fn accept_bare(&self) -> io::Result<Socket> {
        Ok(Socket::new(rustix::net::accept_with(&self.fd, SocketFlags::CLOEXEC)?))
    }

    fn identify(&self, socket: &Socket) -> io::Result<Peer> {
        if self.unix {
            let credentials = sockopt::socket_peercred(&socket.0)?;
            sockopt::set_socket_timeout(&socket.0, Timeout::Send, Some(SEND_LIMIT))?;
            return Ok(Peer::Process {
                pid: credentials.pid.as_raw_nonzero().get(),
                uid: credentials.uid.as_raw(),
                gid: credentials.gid.as_raw(),
            });
        }
        socket.prepare_tcp()?;
        let address = rustix::net::getpeername(&socket.0)?.ok_or(Errno::NOTCONN)?;
        Ok(Peer::Network(SocketAddr::try_from(address).map_err(io::Error::from)?))
    }

    /// Accepts for ever; each connection gets a thread that runs `handle`. At most `connections_max` at
    /// one time, and over the network at most half of them from one address: further ones are closed at
    /// once, and `refused` is told. The board's own connections over its loopback count for nothing, so
    /// that no crowd outside keeps it from looking after itself. Running out of descriptors or memory
    /// only costs a pause.
    ///
    /// # Errors
    /// Only what makes the listener useless.
    pub fn serve(
        &self,
        connections_max: usize,
        refused: impl Fn(Peer),
        handle: impl Fn(Arc<Socket>, Peer) + Send + Sync + 'static,
    ) -> io::Result<std::convert::Infallible> {
        let handle = Arc::new(handle);
        let places = Arc::new(Mutex::new(BTreeMap::new()));
        let per_address_max = connections_max.div_ceil(2);
        loop {
            let socket = match self.accept_bare() {
                Ok(socket) => socket,
                Err(err) if passes(&err) => {
                    std::thread::sleep(ACCEPT_PAUSE);
                    continue;
                }
                Err(err) => return Err(err),
            };
            // A peer that has left again already.
            let Ok(peer) = self.identify(&socket) else { continue };
            let Some(place) = Place::take(&places, &peer, connections_max, per_address_max) else {
                refused(peer);
                continue;
            };
            let handle = handle.clone();
            let spawned = std::thread::Builder::new()
                .name("connection".into())
                .stack_size(CONNECTION_STACK_BYTES)
                .spawn(move || {
                    let _place = place;
                    handle(Arc::new(socket), peer);
                });
            if spawned.is_err() {
                refused(peer);
                std::thread::sleep(ACCEPT_PAUSE);
            }
        }
    }
}

/// Connections by the address they come from; `None` for those of processes of this board.
type Places = Arc<Mutex<BTreeMap<Option<IpAddr>, usize>>>;

/// Counts one connection for as long as it lives.
struct Place {
    places: Places,
    /// `None` for one that is not counted.
    from: Option<Option<IpAddr>>,
}

impl Place {
    /// `None` when there is no room.
    fn take(places: &Places, peer: &Peer, all_max: usize, per_address_max: usize) -> Option<Self> {
        let from = match peer {
            Peer::Process { .. } => None,
            Peer::Network(address) if address.ip().to_canonical().is_loopback() => {
                return Some(Self { places: places.clone(), from: None });
            }
            Peer::Network(address) => Some(address.ip().to_canonical()),
        };
        let mut counts = places.lock().unwrap_or_else(PoisonError::into_inner);
        let all = counts.values().fold(0usize, |sum, count| sum.saturating_add(*count));
        let here = counts.get(&from).copied().unwrap_or(0);
        if all >= all_max || (from.is_some() && here >= per_address_max) {
            return None;
        }
        counts.insert(from, here.saturating_add(1));
        drop(counts);
        Some(Self { places: places.clone(), from: Some(from) })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let Some(from) = self.from else { return };
        let mut counts = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get_mut(&from) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                counts.remove(&from);
            }
        }
    }
}

/// Errors of `accept(2)` that belong to one connection or to a shortage, not to the listener.
fn passes(err: &io::Error) -> bool {
    const SHORTAGE: [Errno; 4] = [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM];
    const PEER: [Errno; 12] = [
        Errno::CONNABORTED,
        Errno::INTR,
        Errno::AGAIN,
        Errno::NETDOWN,
        Errno::PROTO,
        Errno::NOPROTOOPT,
        Errno::HOSTDOWN,
        Errno::NONET,
        Errno::HOSTUNREACH,
        Errno::NETUNREACH,
        Errno::OPNOTSUPP,
        Errno::PERM,
    ];
    Errno::from_io_error(err)
        .is_some_and(|errno| SHORTAGE.contains(&errno) || PEER.contains(&errno))
}

const fn family_of(address: &SocketAddr) -> AddressFamily {
    match address {
        SocketAddr::V4(_) => AddressFamily::INET,
        SocketAddr::V6(_) => AddressFamily::INET6,
    }
}

fn stream_socket(family: AddressFamily) -> io::Result<OwnedFd> {
    Ok(rustix::net::socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, None)?)
}

fn bind_to_device(fd: BorrowedFd<'_>, device: Option<&str>) -> io::Result<()> {
    let Some(device) = device else { return Ok(()) };
    nix::sys::socket::setsockopt(&fd, BindToDevice, &OsString::from(device))
        .map_err(io::Error::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_that_is_gone_is_an_error_and_no_signal() {
        let (a, b) = Socket::pair().unwrap();
        drop(b);
        assert!(Stream::write_all(&a, b"x").is_err());
    }

    #[test]
    fn a_unix_peer_is_known_by_the_kernels_word() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("socket");
        // Twice: the file of an earlier process is no obstacle.
        drop(Listener::unix(&path, 0o600).unwrap());
        let listener = Listener::unix(&path, 0o600).unwrap();
        let _client = Socket::connect_unix(&path).unwrap();
        let (_, peer) = listener.accept().unwrap();
        let pid = i32::try_from(std::process::id()).unwrap();
        assert!(matches!(peer, Peer::Process { pid: theirs, .. } if theirs == pid));
    }

    #[test]
    fn one_address_takes_at_most_half_and_the_board_itself_is_never_shut_out() {
        let places = Places::default();
        let take = |peer: &Peer| Place::take(&places, peer, 4, 2);
        let from = |text: &str| Peer::Network(text.parse().unwrap());
        let (rude, other, own) = (from("10.0.0.1:1"), from("[fe80::1]:2"), from("[::1]:3"));
        // The same machine over IPv4 and over IPv4 in IPv6 is one.
        let first = [take(&rude), take(&from("[::ffff:10.0.0.1]:9"))];
        assert!(first.iter().all(Option::is_some));
        assert!(take(&rude).is_none());
        let second = [take(&other), take(&other)];
        assert!(second.iter().all(Option::is_some));
        assert!(take(&from("10.0.0.2:1")).is_none());
        assert!(take(&own).is_some());
        assert!(take(&from("127.0.0.1:3")).is_some());
        drop(first);
        assert!(take(&rude).is_some());
        drop(second);
        assert!(places.lock().unwrap().is_empty());
    }

    #[test]
    fn a_connection_to_a_process_that_accepts_nobody_gives_up() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("socket");
        // The shortest queue there is.
        let (family, kind) = (AddressFamily::UNIX, SocketType::STREAM);
        let deaf = rustix::net::socket(family, kind, None).unwrap();
        rustix::net::bind(&deaf, &SocketAddrUnix::new(&path).unwrap()).unwrap();
        rustix::net::listen(&deaf, 0).unwrap();
        let mut waiting = Vec::new();
        let limit = Duration::from_millis(50);
        let err = loop {
            match Socket::connect_unix_within(&path, limit) {
                Ok(socket) => waiting.push(socket),
                Err(err) => break err,
            }
            assert!(waiting.len() < 10);
        };
        assert_eq!(err.kind(), io::ErrorKind::TimedOut);
    }

    #[test]
    fn a_peer_that_takes_a_little_now_and_then_is_given_up() {
        let (a, b) = Socket::pair().unwrap();
        a.set_limits(None, Some(Duration::from_millis(50))).unwrap();
        let reader = std::thread::spawn(move || {
            let mut some = vec![0; 4096];
            while b.read(&mut some).is_ok_and(|got| got > 0) {
                std::thread::sleep(Duration::from_millis(10));
            }
        });
        let bytes = vec![0; 16 << 20];
        let start = Instant::now();
        let err =
            a.write_within(&bytes, SendFlags::empty(), Duration::from_millis(300)).unwrap_err();
        assert!(matches!(err.kind(), io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock));
        assert!(start.elapsed() < Duration::from_secs(10));
        drop(a);
        reader.join().unwrap();
    }

    #[test]
    fn a_read_limit_passes() {
        let (a, _b) = Socket::pair().unwrap();
        a.set_limits(Some(Duration::from_millis(10)), None).unwrap();
        let err = Stream::read(&a, &mut [0; 1]).unwrap_err();
        assert_eq!(err.kind(), io::ErrorKind::WouldBlock);
    }

    #[test]
    fn both_address_families_reach_one_listener() {
        let listener = Listener::tcp(0, None).unwrap();
        let port = listener.local_port().unwrap();
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        let _client = Socket::connect_tcp(address, None, Duration::from_secs(5)).unwrap();
        assert!(matches!(listener.accept().unwrap().1, Peer::Network(_)));
    }
}
