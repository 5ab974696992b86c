//! Connections to a box, and what goes wrong with them, in words that say what to do next.

use crate::boxes::{KnownBox, with_port};
use crate::discover;
use goblin_core_trust::PublicKey;
use goblin_core_types::Greeting;
use goblin_sys::socket::Socket;
use goblin_tls::{Expect, Identity, Records, Service, TlsError, TlsStream, greeting};
use std::io;
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

/// Longest wait for the box to take the connection.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);
/// Longest time of a handshake, and of the greeting after it.
pub(crate) const SHAKE_LIMIT: Duration = Duration::from_secs(10);
/// Longest time in which a box takes not one byte of what is sent to it: longer than its disk needs to start.
pub(crate) const SEND_LIMIT: Duration = Duration::from_secs(15);

/// Why there is no connection to a box.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DialError {
    /// The name means nothing here.
    #[error(
        "{address} is not known to this network: {source}; give the box's address as it shows it"
    )]
    Name {
        /// As it was given.
        address: String,
        /// The resolver's word.
        source: io::Error,
    },
    /// Nobody answers.
    #[error("{address} does not answer: {source}; is the box on, and is this its address?")]
    Connect {
        /// Where.
        address: String,
        /// The kernel's word.
        source: io::Error,
    },
    /// Something answers, but it is not this box.
    #[error(
        "{address} is not the box this PC was enrolled with: its key is another one. If the box was set \
         up anew, run `goblin login {address} CODE` with a new code"
    )]
    OtherBox {
        /// Where.
        address: String,
    },
    /// The box does not know this PC.
    #[error(
        "the box at {address} does not admit this PC (any more): get a code with `goblin client add` at the \
         box, then run `goblin login {address} CODE`"
    )]
    NotEnrolled {
        /// Where.
        address: String,
    },
    /// No goblinux there.
    #[error("{address} does not speak as a goblinux box does: {source}")]
    Foreign {
        /// Where.
        address: String,
        /// What was wrong.
        source: TlsError,
    },
    /// This PC's key cannot be used.
    #[error("this PC's own key cannot be used: {0}")]
    OwnKey(TlsError),
}

impl From<DialError> for io::Error {
    /// `PermissionDenied` where trying again is of no use.
    fn from(err: DialError) -> Self {
        let kind = match err {
            DialError::NotEnrolled { .. } | DialError::OtherBox { .. } => {
                io::ErrorKind::PermissionDenied
            }
            _ => io::ErrorKind::NotConnected,
        };
        Self::new(kind, err)
    }
}

/// Connects over TCP to `address` (`host:port`), first come first served among what the name means.
pub(crate) fn tcp(address: &str) -> Result<Arc<Socket>, DialError> {
    let named = |source| DialError::Name { address: address.into(), source };
    let found: Vec<SocketAddr> = address.to_socket_addrs().map_err(named)?.take(8).collect();
    first_of(&found)
        .map(|(_, socket)| socket)
        .map_err(|source| DialError::Connect { address: address.into(), source })
}

/// The first of some addresses that takes a connection.
fn first_of(all: &[SocketAddr]) -> io::Result<(SocketAddr, Arc<Socket>)> {
    let mut last = io::ErrorKind::NotFound.into();
    for one in all {
        match to(*one) {
            Ok(socket) => return Ok((*one, socket)),
            Err(err) => last = err,
        }
    }
    Err(last)
}

/// Connects to a box this PC is enrolled with: where it was, or where it says on the local network that it is now.
/// Whoever says so falsely does not have its key.
pub(crate) fn known(known: &KnownBox) -> Result<Arc<Socket>, DialError> {
    let err = match tcp(&known.address) {
        Ok(socket) => return Ok(socket),
        Err(err) => err,
    };
    first_of(&discover::by_key(&known.key)).map(|(_, socket)| socket).map_err(|_| err)
}

/// Connects to a box by its address, or by the name by which it is known on the local network. Answers the address.
pub(crate) fn named(text: &str) -> Result<(String, Arc<Socket>), DialError> {
    let address = with_port(text);
    let err = match tcp(&address) {
        Ok(socket) => return Ok((address, socket)),
        Err(err) => err,
    };
    first_of(&discover::by_name(text)).map(|(at, socket)| (at.to_string(), socket)).map_err(|_| err)
}

/// Connects to one address, with a socket that notices within a quarter of a minute that the other end
/// is gone.
pub(crate) fn to(address: SocketAddr) -> io::Result<Arc<Socket>> {
    let stream = TcpStream::connect_timeout(&address, CONNECT_LIMIT)?;
    goblin_sys::peer::tune(&stream)?;
    Ok(Arc::new(Socket::from(OwnedFd::from(stream))))
}

/// Opens a session with the file server behind `socket`.
pub(crate) fn files(
    address: &str,
    socket: &Arc<Socket>,
    me: &Identity,
    key: PublicKey,
) -> Result<(TlsStream, Greeting), DialError> {
    files_as(address, socket, me, key, Records::Here)
}

/// As [`files`]; `records` says whether the kernel is to carry it on.
pub(crate) fn files_as(
    address: &str,
    socket: &Arc<Socket>,
    me: &Identity,
    key: PublicKey,
    records: Records,
) -> Result<(TlsStream, Greeting), DialError> {
    let failed = |err| explain(address, err);
    let expect = Expect::Key(key);
    let (stream, _) =
        goblin_tls::connect_as(socket, me, expect, Service::Files, SHAKE_LIMIT, records)
            .map_err(failed)?;
    let hear = || {
        socket.set_limits(Some(SHAKE_LIMIT), Some(SHAKE_LIMIT))?;
        let greeting = greeting::receive(&stream)?;
        socket.set_limits(None, Some(SEND_LIMIT))?;
        Ok(greeting)
    };
    let greeting = hear().map_err(|err: io::Error| match err.downcast::<TlsError>() {
        Ok(err) => failed(err),
        Err(source) => DialError::Connect { address: address.into(), source },
    })?;
    Ok((stream, greeting))
}

/// What a failed handshake means to a person.
pub(crate) fn explain(address: &str, err: TlsError) -> DialError {
    let address = address.to_owned();
    match err {
        TlsError::Io(source) => DialError::Connect { address, source },
        TlsError::TimedOut => {
            DialError::Connect { address, source: io::ErrorKind::TimedOut.into() }
        }
        TlsError::Stranger => DialError::OtherBox { address },
        TlsError::Unknown => DialError::NotEnrolled { address },
        TlsError::OwnKey(_) => DialError::OwnKey(err),
        source => DialError::Foreign { address, source },
    }
}
