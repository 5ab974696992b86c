//! A connection over TLS that one thread reads while others write.
//!
//! ```text
//!   reader: socket -> [state] -> plain bytes        the socket is read without any lock
//!   writer: [sending] ( [state] -> records ) -> socket
//! ```
//!
//! `state` is held only while bytes are sealed or opened, never across a call that may wait; `sending` keeps
//! records in the order of their numbers.

use crate::TlsError;
use crate::shake::exporter;
use goblin_core_ninep::Stream;
use goblin_sys::ktls;
use goblin_sys::socket::Socket;
use rustls::{Connection, ConnectionTrafficSecrets};
use std::io::{self, Read, Write};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Longest wait of one write, as for plain sockets of a server.
pub(crate) const WRITE_LIMIT: Duration = Duration::from_secs(120);
/// Plain bytes sealed at once: four records.
const SEAL_BYTES: usize = 64 * 1024;
/// Bytes read from the socket at once: a few records of at most 16 KiB and their overhead.
const READ_BYTES: usize = 64 * 1024;

/// A connection over TLS. Read by one thread at a time, written by any.
pub struct TlsStream {
    socket: Arc<Socket>,
    state: Mutex<Connection>,
    sending: Mutex<Vec<u8>>,
    /// What came from the socket and was not opened yet, for the one thread that reads.
    incoming: Mutex<Incoming>,
}

struct Incoming {
    buffer: Box<[u8]>,
    start: usize,
    end: usize,
}

impl std::fmt::Debug for TlsStream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TlsStream").field("socket", &self.socket).finish_non_exhaustive()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl TlsStream {
    pub(crate) fn new(socket: Arc<Socket>, mut connection: Connection) -> Self {
        // Every write takes the records out at once, so none can pile up.
        connection.set_buffer_limit(None);
        let buffer = vec![0; READ_BYTES].into_boxed_slice();
        Self {
            socket,
            state: Mutex::new(connection),
            sending: Mutex::new(Vec::new()),
            incoming: Mutex::new(Incoming { buffer, start: 0, end: 0 }),
        }
    }

    /// The socket below: for time limits, and to cut the connection from another thread.
    pub const fn socket(&self) -> &Arc<Socket> {
        &self.socket
    }

    /// Value that both ends of this session share and no other session has.
    ///
    /// # Errors
    /// [`TlsError::Protocol`], which no finished handshake causes.
    pub fn binding(&self) -> Result<[u8; 32], TlsError> {
        exporter(&lock(&self.state))
    }

    /// Gives the connection's TLS to the kernel: the socket is an ordinary one from then on. For connections of
    /// [`connect_as`](crate::connect_as) with [`Records::Kernel`](crate::Records::Kernel) whose peer is silent
    /// until it is asked, so that no record waits half read.
    ///
    /// # Errors
    /// The kernel's, see [`ktls::hand_over`]; `InvalidData` when something that came was not read yet, or the
    /// connection was not made for this. The connection is of no more use then.
    pub fn into_kernel(self) -> io::Result<Arc<Socket>> {
        let invalid = |what: &str| io::Error::new(io::ErrorKind::InvalidData, what.to_owned());
        let Self { socket, state, incoming, .. } = self;
        let incoming = incoming.into_inner().unwrap_or_else(PoisonError::into_inner);
        let mut state = state.into_inner().unwrap_or_else(PoisonError::into_inner);
        if incoming.start != incoming.end || Self::opened(&mut state, &mut [0])?.is_some() {
            return Err(invalid("the peer spoke before it was asked"));
        }
        let secrets = state
            .dangerous_extract_secrets()
            .map_err(|err| io::Error::new(io::ErrorKind::InvalidData, err))?;
        let keys = |(sequence, secrets): (u64, ConnectionTrafficSecrets)| match secrets {
            ConnectionTrafficSecrets::Chacha20Poly1305 { key, iv } => Some(ktls::Keys {
                key: key.as_ref().try_into().ok()?,
                iv: iv.as_ref().try_into().ok()?,
                sequence,
            }),
            _ => None,
        };
        let (send, receive) = keys(secrets.tx)
            .zip(keys(secrets.rx))
            .ok_or_else(|| invalid("the connection was made with another cipher"))?;
        ktls::hand_over(&socket, &send, &receive)?;
        Ok(socket)
    }

    /// Sends what TLS itself has to say.
    fn flush_state(&self) -> io::Result<()> {
        let mut records = lock(&self.sending);
        records.clear();
        {
            let mut state = lock(&self.state);
            while state.wants_write() {
                state.write_tls(&mut *records)?;
            }
        }
        if records.is_empty() { Ok(()) } else { Stream::write_all(&*self.socket, &records) }
    }

    /// Plain bytes that lie opened already: `None` when more must come from the socket first.
    fn opened(state: &mut Connection, into: &mut [u8]) -> io::Result<Option<usize>> {
        match state.reader().read(into) {
            Ok(count) => Ok(Some(count)),
            Err(err) if err.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(err) => Err(err),
        }
    }

    /// Opens what came; answers whether TLS wants to say something itself.
    fn open(&self, incoming: &mut Incoming) -> io::Result<bool> {
        let mut state = lock(&self.state);
        let mut rest = incoming.buffer.get(incoming.start..incoming.end).unwrap_or_default();
        let before = rest.len();
        // Takes what fits its own buffer; the plain bytes are read before it is given more.
        state.read_tls(&mut rest)?;
        incoming.start = incoming.start.saturating_add(before.saturating_sub(rest.len()));
        let opened = state.process_new_packets();
        let wants_write = state.wants_write();
        drop(state);
        if let Err(err) = opened {
            // The alert that says why is on its way, if the socket takes it.
            let _ = self.flush_state();
            return Err(TlsError::of(err).into());
        }
        Ok(wants_write)
    }
}

impl Stream for TlsStream {
    fn read(&self, into: &mut [u8]) -> io::Result<usize> {
        if into.is_empty() {
            return Ok(0);
        }
        let mut incoming = lock(&self.incoming);
        loop {
            if let Some(count) = Self::opened(&mut lock(&self.state), into)? {
                return Ok(count);
            }
            if incoming.start == incoming.end {
                let got = Stream::read(&*self.socket, &mut incoming.buffer)?;
                if got == 0 {
                    // Without TLS's own goodbye: somebody may have cut the end off.
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                (incoming.start, incoming.end) = (0, got);
            }
            if self.open(&mut incoming)? {
                self.flush_state()?;
            }
        }
    }

    fn write_all(&self, bytes: &[u8]) -> io::Result<()> {
        let mut records = lock(&self.sending);
        for part in bytes.chunks(SEAL_BYTES) {
            records.clear();
            {
                let mut state = lock(&self.state);
                state.writer().write_all(part)?;
                while state.wants_write() {
                    state.write_tls(&mut *records)?;
                }
            }
            Stream::write_all(&*self.socket, &records)?;
        }
        Ok(())
    }

    fn set_read_timeout(&self, limit: Option<Duration>) -> io::Result<()> {
        Stream::set_read_timeout(&*self.socket, limit)
    }

    fn shutdown(&self) {
        // No goodbye: it could wait for a peer that does not read.
        self.socket.shutdown();
    }
}

impl Read for &TlsStream {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        Stream::read(*self, into)
    }
}

impl Write for &TlsStream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Stream::write_all(*self, bytes)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Read for TlsStream {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        Stream::read(self, into)
    }
}

impl Write for TlsStream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Stream::write_all(self, bytes)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
