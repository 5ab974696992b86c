//! The handshake of both ends, each within one deadline.

use crate::TlsError;
use crate::config::{self, Records, Service};
use crate::identity::Identity;
use crate::stream::TlsStream;
use crate::verify::Admit;
use goblin_core_ninep::Stream;
use goblin_core_trust::{PublicKey, pairing};
use goblin_sys::socket::Socket;
use rustls::pki_types::ServerName;
use rustls::server::Acceptor as HelloReader;
use rustls::{ClientConnection, Connection, ServerConfig};
use std::io::{self, Read, Write};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// First bytes of a TLS handshake record: its type, and the major part of its version (RFC 8446,
/// section 5.1). A 9P `Tversion` begins with its size, whose second byte is 0.
const RECORD_HEAD: [u8; 2] = [22, 3];

/// Which key the server must have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expect {
    /// This one.
    Key(PublicKey),
    /// Any: for enrolment, where the code proves who the server is.
    AnyForEnrolment,
}

/// A client that shook hands.
#[derive(Debug)]
pub struct Accepted {
    /// The connection.
    pub stream: TlsStream,
    /// Who it is: a key that was admitted, and whose private half the client has.
    pub key: PublicKey,
    /// What it came for.
    pub service: Service,
}

/// The server's side: one for a listener.
#[derive(Debug, Clone)]
pub struct Acceptor {
    public: PublicKey,
    services: Vec<(Service, Arc<ServerConfig>)>,
}

impl Acceptor {
    /// Offers these services, each to the keys it admits.
    ///
    /// # Errors
    /// [`TlsError::OwnKey`].
    pub fn new(me: &Identity, services: Vec<(Service, Admit)>) -> Result<Self, TlsError> {
        let ready = |(service, admit)| Ok((service, config::server(me, service, admit)?));
        let services = services.into_iter().map(ready).collect::<Result<_, TlsError>>()?;
        Ok(Self { public: me.public(), services })
    }

    /// This end's key.
    pub const fn public(&self) -> PublicKey {
        self.public
    }

    /// Shakes hands within `limit`.
    ///
    /// # Errors
    /// [`TlsError`]; the socket is of no more use.
    pub fn accept(&self, socket: &Arc<Socket>, limit: Duration) -> Result<Accepted, TlsError> {
        let mut io = Deadline::new(socket, limit);
        let mut hello = HelloReader::default();
        let accepted = loop {
            match hello.accept() {
                Ok(Some(accepted)) => break accepted,
                Ok(None) => {
                    if hello.read_tls(&mut io).map_err(TlsError::of_io)? == 0 {
                        return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
                    }
                }
                Err((err, mut alert)) => {
                    let _ = alert.write_all(&mut io);
                    return Err(TlsError::of(err));
                }
            }
        };
        let offered: Vec<&[u8]> =
            accepted.client_hello().alpn().into_iter().flatten().take(8).collect();
        // A client that names none of ours gets the first one's refusal (`no_application_protocol`).
        let wanted = self.services.iter().find(|(service, _)| offered.contains(&service.alpn()));
        let Some((_, config)) = wanted.or(self.services.first()) else {
            return Err(TlsError::Protocol(rustls::Error::General("no service".into())));
        };
        let config = config.clone();
        let mut connection = match accepted.into_connection(config) {
            Ok(connection) => Connection::from(connection),
            Err((err, mut alert)) => {
                let _ = alert.write_all(&mut io);
                return Err(TlsError::of(err));
            }
        };
        finish(&mut connection, &mut io)?;
        let service = agreed(&connection)?;
        let key = peer_key(&connection)?;
        io.lift()?;
        Ok(Accepted { stream: TlsStream::new(socket.clone(), connection), key, service })
    }
}

/// The client's side: shakes hands within `limit`. Whether the server admits our key is only known by its
/// first word.
///
/// # Errors
/// [`TlsError`]; the socket is of no more use.
pub fn connect(
    socket: &Arc<Socket>,
    me: &Identity,
    expect: Expect,
    service: Service,
    limit: Duration,
) -> Result<(TlsStream, PublicKey), TlsError> {
    connect_as(socket, me, expect, service, limit, Records::Here)
}

/// As [`connect`]; with [`Records::Kernel`] the connection can be given to the kernel afterwards, by
/// [`TlsStream::into_kernel`].
///
/// # Errors
/// [`TlsError`]; the socket is of no more use.
pub fn connect_as(
    socket: &Arc<Socket>,
    me: &Identity,
    expect: Expect,
    service: Service,
    limit: Duration,
    records: Records,
) -> Result<(TlsStream, PublicKey), TlsError> {
    let admit: Admit = match expect {
        Expect::Key(wanted) => Arc::new(move |key| *key == wanted),
        Expect::AnyForEnrolment => Arc::new(|_| true),
    };
    let config = config::client(me, service, admit, records)?;
    // The name is not sent and not looked at: the key is the identity.
    let name = ServerName::try_from("goblin").map_err(|_| rustls::Error::General("name".into()));
    let name = name.map_err(TlsError::Protocol)?;
    let connection = ClientConnection::new(config, name).map_err(TlsError::of)?;
    let mut connection = Connection::from(connection);
    let mut io = Deadline::new(socket, limit);
    finish(&mut connection, &mut io)?;
    agreed(&connection)?;
    let key = peer_key(&connection)?;
    io.lift()?;
    Ok((TlsStream::new(socket.clone(), connection), key))
}

/// Whether the first two bytes of a connection are TLS's rather than 9P's.
pub fn looks_like_tls(first: &[u8]) -> bool {
    first == RECORD_HEAD
}

fn finish(connection: &mut Connection, io: &mut Deadline<'_>) -> Result<(), TlsError> {
    while connection.is_handshaking() || connection.wants_write() {
        let (read, written) = connection.complete_io(io).map_err(TlsError::of_io)?;
        if read == 0 && written == 0 && connection.is_handshaking() {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
    }
    Ok(())
}

/// A peer that does not answer our ALPN would speak something else inside.
fn agreed(connection: &Connection) -> Result<Service, TlsError> {
    let name = connection.alpn_protocol();
    let found = Service::ALL.into_iter().find(|service| Some(service.alpn()) == name);
    found.ok_or(TlsError::Protocol(rustls::Error::NoApplicationProtocol))
}

fn peer_key(connection: &Connection) -> Result<PublicKey, TlsError> {
    let spki = connection.peer_certificates().and_then(<[_]>::first);
    spki.and_then(|spki| PublicKey::from_spki(spki).ok()).ok_or(TlsError::Stranger)
}

/// Value that both ends of one session share and no other session has (RFC 8446, section 7.5).
pub(crate) fn exporter(connection: &Connection) -> Result<[u8; 32], TlsError> {
    let label = pairing::EXPORTER_LABEL;
    connection.export_keying_material([0; 32], label, None).map_err(TlsError::of)
}

/// A socket whose every call ends by one moment.
struct Deadline<'a> {
    socket: &'a Socket,
    at: Option<Instant>,
}

impl<'a> Deadline<'a> {
    fn new(socket: &'a Socket, limit: Duration) -> Self {
        Self { socket, at: Instant::now().checked_add(limit) }
    }

    /// Sets what is left as the socket's own limit.
    fn arm(&self) -> io::Result<()> {
        let left = self.at.map(|at| at.saturating_duration_since(Instant::now()));
        if left.is_some_and(|left| left.is_zero()) {
            return Err(io::ErrorKind::TimedOut.into());
        }
        self.socket.set_limits(left, left)
    }

    /// Gives the socket back with the limits of one that serves.
    fn lift(&self) -> io::Result<()> {
        self.socket.set_limits(None, Some(crate::stream::WRITE_LIMIT))
    }
}

impl Read for Deadline<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.arm()?;
        Stream::read(self.socket, into)
    }
}

impl Write for Deadline<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.arm()?;
        Stream::write_all(self.socket, bytes)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
