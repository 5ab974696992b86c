//! A client that says whatever it is told to, right or wrong.

use crate::ninep::wire::{
    Attr, Body, Entry, Fields, HEADER_BYTES, NO_FID, NO_TAG, Qid, RLERROR, frame, t,
};
use anyhow::{Context, Result, bail, ensure};
use goblin_core_ninep::Stream;
use goblin_tls::TlsStream;
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// Longest wait for a reply: a server that answers nothing is a failure, not a hang.
const PATIENCE: Duration = Duration::from_secs(20);
/// Largest reply ever taken; larger ones are damage.
const REPLY_BYTES_MAX: usize = 8 << 20;
/// What clients ask for unless told otherwise.
pub const MSIZE: u32 = 64 * 1024;

/// Where a server listens.
#[derive(Debug, Clone)]
pub enum Address {
    /// A socket file.
    Unix(PathBuf),
    /// A port.
    Tcp(SocketAddr),
    /// A port where keys are asked for, see [`tls`](crate::ninep::tls).
    Tls(SocketAddr),
}

/// A connected stream.
#[derive(Debug)]
pub enum Pipe {
    /// A unix socket.
    Unix(UnixStream),
    /// A TCP connection without Nagle's delay.
    Tcp(TcpStream),
    /// With keys.
    Tls(Arc<TlsStream>),
}

impl Pipe {
    /// Connects.
    ///
    /// # Errors
    /// Whatever the kernel says.
    pub fn connect(address: &Address) -> io::Result<Self> {
        Ok(match address {
            Address::Unix(path) => Self::Unix(UnixStream::connect(path)?),
            Address::Tcp(address) => {
                let stream = TcpStream::connect(address)?;
                stream.set_nodelay(true)?;
                Self::Tcp(stream)
            }
            Address::Tls(address) => {
                let stream = crate::ninep::tls::connect(*address).map_err(io::Error::other)?;
                Self::Tls(Arc::new(stream))
            }
        })
    }

    /// Another handle of the same stream.
    ///
    /// # Errors
    /// Whatever the kernel says.
    pub fn try_clone(&self) -> io::Result<Self> {
        Ok(match self {
            Self::Unix(stream) => Self::Unix(stream.try_clone()?),
            Self::Tcp(stream) => Self::Tcp(stream.try_clone()?),
            Self::Tls(stream) => Self::Tls(stream.clone()),
        })
    }

    /// Sets the longest wait of one read.
    ///
    /// # Errors
    /// Whatever the kernel says.
    pub fn set_patience(&self, limit: Option<Duration>) -> io::Result<()> {
        match self {
            Self::Unix(stream) => stream.set_read_timeout(limit),
            Self::Tcp(stream) => stream.set_read_timeout(limit),
            Self::Tls(stream) => Stream::set_read_timeout(&**stream, limit),
        }
    }

    /// Ends both directions.
    pub fn shutdown(&self) {
        // Fails only when the peer has gone already.
        let _ = match self {
            Self::Unix(stream) => stream.shutdown(Shutdown::Both),
            Self::Tcp(stream) => stream.shutdown(Shutdown::Both),
            Self::Tls(stream) => {
                Stream::shutdown(&**stream);
                Ok(())
            }
        };
    }
}

impl Read for Pipe {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Unix(stream) => stream.read(into),
            Self::Tcp(stream) => stream.read(into),
            Self::Tls(stream) => Stream::read(&**stream, into),
        }
    }
}

impl Write for Pipe {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Unix(stream) => stream.write(bytes),
            Self::Tcp(stream) => stream.write(bytes),
            Self::Tls(stream) => Stream::write_all(&**stream, bytes).map(|()| bytes.len()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A reply as it came.
#[derive(Debug, Clone)]
pub struct Reply {
    /// Type.
    pub kind: u8,
    /// Request it answers.
    pub tag: u16,
    /// Fields.
    pub body: Vec<u8>,
}

impl Reply {
    /// The error number, when it is one.
    pub fn errno(&self) -> Option<u32> {
        let number = <[u8; 4]>::try_from(self.body.as_slice()).ok()?;
        (self.kind == RLERROR).then(|| u32::from_le_bytes(number))
    }

    /// The fields of the answer to a request of type `kind`.
    ///
    /// # Errors
    /// When it is an error or the answer to something else.
    pub fn of(self, kind: u8) -> Result<Fields> {
        if let Some(errno) = self.errno() {
            bail!(
                "request of type {kind} was refused: {}",
                io::Error::from_raw_os_error(errno as i32)
            );
        }
        ensure!(self.kind == kind + 1, "type {} answers a request of type {kind}", self.kind);
        Ok(Fields::new(self.body))
    }
}

/// A client.
#[derive(Debug)]
pub struct Raw {
    /// The stream, to be misused.
    pub pipe: Pipe,
    /// Message size agreed on.
    pub msize: u32,
    next_tag: u16,
    buffer: Vec<u8>,
}

impl Raw {
    /// Connects and says nothing.
    ///
    /// # Errors
    /// When nobody listens.
    pub fn silent(address: &Address) -> Result<Self> {
        let pipe = Pipe::connect(address).context("nobody listens")?;
        pipe.set_patience(Some(PATIENCE))?;
        Ok(Self { pipe, msize: MSIZE, next_tag: 0, buffer: Vec::new() })
    }

    /// Connects and agrees on a version.
    ///
    /// # Errors
    /// When the server does not speak 9P2000.L.
    pub fn versioned(address: &Address, msize: u32) -> Result<Self> {
        let mut raw = Self::silent(address)?;
        raw.version(msize)?;
        Ok(raw)
    }

    /// Connects, agrees on a version and attaches fid 0 to `aname`.
    ///
    /// # Errors
    /// When the server refuses.
    pub fn attached(address: &Address, aname: &str) -> Result<Self> {
        Self::attached_with(address, aname, MSIZE)
    }

    /// As [`attached`](Self::attached), with another message size.
    ///
    /// # Errors
    /// When the server refuses.
    pub fn attached_with(address: &Address, aname: &str, msize: u32) -> Result<Self> {
        let mut raw = Self::versioned(address, msize)?;
        raw.attach(0, aname, 0)?;
        Ok(raw)
    }

    /// Sends bytes.
    ///
    /// # Errors
    /// When the server is gone.
    pub fn send_bytes(&mut self, bytes: &[u8]) -> Result<()> {
        self.pipe.write_all(bytes).context("the server closed the connection")
    }

    /// Sends a message with a tag of the caller's choice.
    ///
    /// # Errors
    /// When the server is gone.
    pub fn send(&mut self, kind: u8, tag: u16, body: &Body) -> Result<()> {
        self.send_bytes(&frame(kind, tag, body.bytes()))
    }

    /// Waits for a reply, whatever it answers.
    ///
    /// # Errors
    /// When none comes in time, or it is larger than msize.
    pub fn receive(&mut self) -> Result<Reply> {
        loop {
            if let Some(reply) = self.parse()? {
                return Ok(reply);
            }
            let mut part = [0; 64 * 1024];
            match self.pipe.read(&mut part) {
                Ok(0) => bail!("the server closed the connection"),
                Ok(got) => self.buffer.extend_from_slice(&part[..got]),
                Err(err) if err.kind() == io::ErrorKind::Interrupted => {}
                Err(err) => return Err(err).context("no reply"),
            }
        }
    }

    fn parse(&mut self) -> Result<Option<Reply>> {
        let Some(size) = self.buffer.first_chunk::<4>().copied().map(u32::from_le_bytes) else {
            return Ok(None);
        };
        let length = size as usize;
        ensure!((HEADER_BYTES..REPLY_BYTES_MAX).contains(&length), "a reply of {size} bytes");
        ensure!(size <= self.msize, "a reply of {size} bytes; msize is {}", self.msize);
        if self.buffer.len() < length {
            return Ok(None);
        }
        let whole: Vec<u8> = self.buffer.drain(..length).collect();
        let tag = u16::from_le_bytes([whole[5], whole[6]]);
        Ok(Some(Reply { kind: whole[4], tag, body: whole[HEADER_BYTES..].to_vec() }))
    }

    /// True when nothing comes within `wait`.
    ///
    /// # Errors
    /// When the server is gone.
    pub fn is_quiet(&mut self, wait: Duration) -> Result<bool> {
        self.pipe.set_patience(Some(wait))?;
        let got = self.receive();
        self.pipe.set_patience(Some(PATIENCE))?;
        match got {
            Ok(_) => Ok(false),
            Err(err) => match err.downcast_ref::<io::Error>() {
                Some(err)
                    if matches!(
                        err.kind(),
                        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut
                    ) =>
                {
                    Ok(true)
                }
                _ => Err(err),
            },
        }
    }

    /// True when the server ends the connection in time, having said whatever it had to say.
    pub fn is_hung_up(&mut self, wait: Duration) -> bool {
        let start = std::time::Instant::now();
        while start.elapsed() < wait {
            if self.pipe.set_patience(Some(wait)).is_err() {
                return true;
            }
            match self.pipe.read(&mut [0; 4096]) {
                Ok(0) => return true,
                Ok(_) => {}
                Err(err)
                    if matches!(
                        err.kind(),
                        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut
                    ) =>
                {
                    return false;
                }
                Err(_) => return true,
            }
        }
        false
    }

    /// A tag that is not in use, as long as callers use few of their own.
    pub fn tag(&mut self) -> u16 {
        self.next_tag = (self.next_tag + 1) % 0x7000;
        self.next_tag
    }

    /// Sends and waits for the reply.
    ///
    /// # Errors
    /// When none comes or it answers another request.
    pub fn ask(&mut self, kind: u8, body: &Body) -> Result<Reply> {
        let tag = if kind == t::VERSION { NO_TAG } else { self.tag() };
        self.send(kind, tag, body)?;
        let reply = self.receive()?;
        ensure!(reply.tag == tag, "tag {} answers request {tag} of type {kind}", reply.tag);
        Ok(reply)
    }

    /// The fields of a request that must work.
    ///
    /// # Errors
    /// When it does not.
    pub fn ok(&mut self, kind: u8, body: &Body) -> Result<Fields> {
        self.ask(kind, body)?.of(kind)
    }

    /// The error number of a request that must fail.
    ///
    /// # Errors
    /// When it works.
    pub fn refused(&mut self, kind: u8, body: &Body) -> Result<u32> {
        let reply = self.ask(kind, body)?;
        reply.errno().with_context(|| format!("a request of type {kind} was not refused"))
    }

    /// `Tversion`.
    ///
    /// # Errors
    /// When the server does not agree.
    pub fn version(&mut self, msize: u32) -> Result<()> {
        // The reply itself may come before the new limit counts.
        self.msize = self.msize.max(msize);
        let mut reply = self.ok(t::VERSION, &Body::new().d(msize).s(b"9P2000.L"))?;
        let (agreed, version) = (reply.d()?, reply.s()?);
        ensure!(version == b"9P2000.L", "the server offers {}", String::from_utf8_lossy(&version));
        ensure!(agreed <= msize, "msize {agreed} was agreed, {msize} was asked for");
        self.msize = agreed;
        Ok(())
    }

    /// `Tattach`.
    ///
    /// # Errors
    /// When the server refuses.
    pub fn attach(&mut self, fid: u32, aname: &str, n_uname: u32) -> Result<Qid> {
        self.ok(t::ATTACH, &attach_body(fid, aname, n_uname))?.qid()
    }

    /// `Twalk`; as many qids as names were found.
    ///
    /// # Errors
    /// When the server refuses.
    pub fn walk(&mut self, fid: u32, newfid: u32, names: &[&[u8]]) -> Result<Vec<Qid>> {
        let mut reply = self.ok(t::WALK, &walk_body(fid, newfid, names))?;
        let count = reply.h()?;
        let qids = (0..count).map(|_| reply.qid()).collect::<Result<Vec<_>>>()?;
        reply.end()?;
        Ok(qids)
    }

    /// A walk that must find every name.
    ///
    /// # Errors
    /// When it does not.
    pub fn reach(&mut self, newfid: u32, names: &[&[u8]]) -> Result<()> {
        let found = self.walk(0, newfid, names)?.len();
        ensure!(found == names.len(), "only {found} of {} names were found", names.len());
        Ok(())
    }

    /// Walks to a file of the root and opens it.
    ///
    /// # Errors
    /// When the server refuses.
    pub fn open(&mut self, fid: u32, name: &[u8], flags: u32) -> Result<Qid> {
        self.reach(fid, &[name])?;
        self.lopen(fid, flags)
    }

    /// `Tlopen`.
    ///
    /// # Errors
    /// When the server refuses.
    pub fn lopen(&mut self, fid: u32, flags: u32) -> Result<Qid> {
        self.ok(t::LOPEN, &Body::new().d(fid).d(flags))?.qid()
    }

    /// Makes a file in the root and opens it.
    ///
    /// # Errors
    /// When the server refuses.
    pub fn create(&mut self, fid: u32, name: &[u8], flags: u32) -> Result<Qid> {
        self.walk(0, fid, &[])?;
        self.ok(t::LCREATE, &Body::new().d(fid).s(name).d(flags).d(0o644).d(0))?.qid()
    }

    /// `Tread`.
    ///
    /// # Errors
    /// When the server refuses or sends more than it was asked for.
    pub fn read(&mut self, fid: u32, offset: u64, count: u32) -> Result<Vec<u8>> {
        let mut reply = self.ok(t::READ, &Body::new().d(fid).q(offset).d(count))?;
        let got = reply.d()?;
        ensure!(got <= count, "{got} bytes came, {count} were asked for");
        let data = reply.take(got as usize)?.to_vec();
        reply.end()?;
        Ok(data)
    }

    /// `Twrite`.
    ///
    /// # Errors
    /// When the server refuses.
    pub fn write(&mut self, fid: u32, offset: u64, data: &[u8]) -> Result<u32> {
        self.ok(t::WRITE, &Body::new().d(fid).q(offset).data(data))?.d()
    }

    /// `Tclunk`.
    ///
    /// # Errors
    /// When the server refuses.
    pub fn clunk(&mut self, fid: u32) -> Result<()> {
        self.ok(t::CLUNK, &Body::new().d(fid)).map(drop)
    }

    /// `Tgetattr`.
    ///
    /// # Errors
    /// When the server refuses.
    pub fn getattr(&mut self, fid: u32) -> Result<Attr> {
        Attr::read(self.ok(t::GETATTR, &Body::new().d(fid).q(0x7ff))?)
    }

    /// One page of a listing.
    ///
    /// # Errors
    /// When the server refuses.
    pub fn readdir(&mut self, fid: u32, cookie: u64, count: u32) -> Result<Vec<Entry>> {
        let mut reply = self.ok(t::READDIR, &Body::new().d(fid).q(cookie).d(count))?;
        let bytes = reply.d()?;
        ensure!(bytes <= count, "{bytes} bytes of entries, {count} were asked for");
        ensure!(reply.left() == bytes as usize, "the count of a listing is wrong");
        let mut entries = Vec::new();
        while reply.left() > 0 {
            let (qid, cookie, kind) = (reply.qid()?, reply.q()?, reply.b()?);
            entries.push(Entry { qid, cookie, kind, name: reply.s()? });
        }
        Ok(entries)
    }

    /// Everything an open directory holds, without `.` and `..`.
    ///
    /// # Errors
    /// When the server refuses.
    pub fn list(&mut self, fid: u32, count: u32) -> Result<Vec<Entry>> {
        let mut all = Vec::new();
        let mut cookie = 0;
        loop {
            let page = self.readdir(fid, cookie, count)?;
            let Some(last) = page.last() else { return Ok(all) };
            cookie = last.cookie;
            all.extend(page.into_iter().filter(|entry| entry.name != b"." && entry.name != b".."));
        }
    }
}

/// `Tattach` of a user who says who he is.
pub fn attach_body(fid: u32, aname: &str, n_uname: u32) -> Body {
    Body::new().d(fid).d(NO_FID).s(b"root").s(aname.as_bytes()).d(n_uname)
}

/// `Twalk`.
pub fn walk_body(fid: u32, newfid: u32, names: &[&[u8]]) -> Body {
    let count = u16::try_from(names.len()).unwrap_or(u16::MAX);
    names.iter().fold(Body::new().d(fid).d(newfid).h(count), |body, name| body.s(name))
}
