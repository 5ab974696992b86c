//! A share in a temporary directory, served over a socket pair, and a client that speaks bytes.
#![allow(dead_code)] // Not every test program uses every helper.

use goblin_agent_share::{Caller, HostTree, Share};
use goblin_core_ninep::client::{Client, ClientError};
use goblin_core_ninep::{
    End, Errno, Ledger, Limits, MSIZE_MAX, NO_FID, Names, Reply, Request, serve,
};
use goblin_sys::socket::Socket;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use tempfile::TempDir;

/// A directory that is served as `data` (writable) and `fixed` (read-only), and one beside it that must
/// stay out of reach.
pub struct Served {
    pub dir: TempDir,
    pub shares: Arc<[Arc<Share>]>,
    pub ledger: Arc<Ledger>,
}

impl Served {
    pub fn new() -> Self {
        // Modes are compared below; the agent does the same at its start.
        rustix::process::umask(rustix::fs::Mode::empty());
        let dir = tempfile::tempdir().unwrap();
        for name in ["data", "fixed", "outside"] {
            std::fs::create_dir(dir.path().join(name)).unwrap();
        }
        std::fs::write(dir.path().join("outside/secret"), b"secret").unwrap();
        let share = |name: &str, read_only| {
            Arc::new(Share::new(name, &dir.path().join(name), read_only).unwrap())
        };
        let shares = Arc::from([share("data", false), share("fixed", true)]);
        Self { dir, shares, ledger: Arc::default() }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join("data").join(name)
    }

    pub fn outside(&self) -> &Path {
        self.dir.path()
    }

    pub fn connect(&self) -> (Socket, JoinHandle<End>) {
        let (client, server) = Socket::pair().unwrap();
        let caller = Caller { ledger: self.ledger.clone(), ..Caller::default() };
        let tree = Arc::new(HostTree::with(self.shares.clone(), caller));
        let thread = std::thread::spawn(move || serve(Arc::new(server), tree, Limits::default()));
        (client, thread)
    }

    pub fn client(&self) -> Client<Socket> {
        Client::connect(self.connect().0, MSIZE_MAX).unwrap()
    }

    /// A client that speaks the dialect of the boards.
    pub fn extended(&self) -> Client<Socket> {
        let client = Client::connect_extended(self.connect().0, MSIZE_MAX).unwrap();
        assert!(client.is_extended());
        client
    }

    /// A byte client with fid 0 at the root of `data`.
    pub fn raw(&self, msize: u32) -> Raw {
        let mut raw = Raw::new(self.connect().0);
        raw.ok(u16::MAX, &Request::Version { msize, version: b"9P2000.L" });
        raw.attach(0, "data");
        raw
    }
}

pub fn refused<T: std::fmt::Debug>(result: Result<T, ClientError>) -> Errno {
    match result.unwrap_err() {
        ClientError::Refused(errno) => errno,
        other => panic!("{other}"),
    }
}

pub struct Raw {
    pub socket: Socket,
    frame: Vec<u8>,
}

impl Raw {
    pub fn new(socket: Socket) -> Self {
        Self { socket, frame: Vec::new() }
    }

    pub fn send(&mut self, tag: u16, request: &Request<'_>) {
        let mut frame = Vec::new();
        request.encode(tag, &mut frame);
        self.socket.write_all(&frame).unwrap();
    }

    pub fn receive(&mut self) -> (u16, Reply<'_>) {
        let mut size = [0; 4];
        self.socket.read_exact(&mut size).unwrap();
        self.frame = size.to_vec();
        self.frame.resize(u32::from_le_bytes(size) as usize, 0);
        self.socket.read_exact(&mut self.frame[4..]).unwrap();
        Reply::decode(&self.frame).unwrap()
    }

    pub fn ask(&mut self, tag: u16, request: &Request<'_>) -> Reply<'_> {
        self.send(tag, request);
        let (got, reply) = self.receive();
        assert_eq!(got, tag);
        reply
    }

    pub fn ok(&mut self, tag: u16, request: &Request<'_>) {
        let name = request.name();
        let reply = self.ask(tag, request);
        assert!(!matches!(reply, Reply::Error { .. }), "{name}: {reply:?}");
    }

    pub fn refused(&mut self, request: &Request<'_>) -> Errno {
        match self.ask(1, request) {
            Reply::Error { ecode } => Errno(ecode),
            other => panic!("{} was answered {other:?}", request.name()),
        }
    }

    pub fn attach(&mut self, fid: u32, aname: &str) {
        let aname = aname.as_bytes();
        self.ok(1, &Request::Attach { fid, afid: NO_FID, uname: b"x", aname, n_uname: 1234 });
    }

    pub fn walk(&mut self, newfid: u32, names: &[&[u8]]) {
        let wanted = names.len();
        let names = Names::new(names).unwrap();
        match self.ask(1, &Request::Walk { fid: 0, newfid, names }) {
            Reply::Walk { qids } => assert_eq!(qids.len(), wanted),
            other => panic!("{other:?}"),
        }
    }

    pub fn open(&mut self, fid: u32, flags: u32) {
        self.ok(1, &Request::Lopen { fid, flags });
    }

    pub fn clunk(&mut self, fid: u32) {
        self.ok(1, &Request::Clunk { fid });
    }
}
