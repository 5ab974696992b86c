//! Makes a new connection know what the old one knew: dialect, fids, open files, locks.

use super::fid::{Fate, Fid};
use goblin_core_ninep::{
    Errno, HEADER_BYTES, NO_FID, NO_TAG, Names, Qid, Reply, Request, Stream, VERSION_9P2000L,
    WALK_NAMES_MAX, lock,
};
use goblin_tls::greeting::read_exact;
use std::io;

/// Asks one thing at a time on a connection that nobody else uses yet.
struct Asker<'a, S> {
    stream: &'a S,
    msize: u32,
    frame: Vec<u8>,
}

/// What to make of a lock that somebody holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Locks {
    /// It may still be the lost session's: begin again a little later.
    Wait,
    /// It is another's now.
    Lose,
}

/// Why a fid cannot be bound again.
enum Failure {
    /// The connection failed too.
    Io(io::Error),
    /// The server says no, or another file is there.
    Refused,
}

impl From<io::Error> for Failure {
    fn from(err: io::Error) -> Self {
        Self::Io(err)
    }
}

fn broken(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.to_owned())
}

impl<S: Stream> Asker<'_, S> {
    fn ask(&mut self, tag: u16, request: &Request<'_>) -> io::Result<Reply<'_>> {
        let mut out = Vec::new();
        request.encode(tag, &mut out);
        self.stream.write_all(&out)?;
        let mut size = [0; 4];
        read_exact(self.stream, &mut size)?;
        let length = u32::from_le_bytes(size);
        let bytes = usize::try_from(length).unwrap_or(usize::MAX);
        if length > self.msize || bytes < HEADER_BYTES {
            return Err(broken("the server's reply has an impossible size"));
        }
        self.frame.clear();
        self.frame.extend_from_slice(&size);
        self.frame.resize(bytes, 0);
        read_exact(self.stream, self.frame.get_mut(4..).unwrap_or_default())?;
        let (got, reply) = Reply::decode(&self.frame).map_err(|err| broken(&err.to_string()))?;
        if got == tag { Ok(reply) } else { Err(broken("the server answered another request")) }
    }

    fn qid(&mut self, request: &Request<'_>) -> Result<Qid, Failure> {
        match self.ask(0, request)? {
            Reply::Attach { qid } | Reply::Lopen { qid, .. } => Ok(qid),
            _ => Err(Failure::Refused),
        }
    }

    fn bind(&mut self, number: u32, fid: &Fid, locks: Locks) -> Result<(), Failure> {
        let root = self.qid(&Request::Attach {
            fid: number,
            afid: NO_FID,
            uname: &fid.root.uname,
            aname: &fid.root.aname,
            n_uname: fid.root.n_uname,
        })?;
        let found = self.bind_below(number, fid, root, locks);
        if matches!(found, Err(Failure::Refused)) {
            // The number must be free when the kernel uses it anew.
            self.ask(0, &Request::Clunk { fid: number })?;
        }
        found
    }

    fn bind_below(
        &mut self,
        number: u32,
        fid: &Fid,
        root: Qid,
        locks: Locks,
    ) -> Result<(), Failure> {
        let mut qid = root;
        for part in fid.path.chunks(WALK_NAMES_MAX) {
            let part: Vec<&[u8]> = part.iter().map(Vec::as_slice).collect();
            let names = Names::new(&part).ok_or(Failure::Refused)?;
            let request = Request::Walk { fid: number, newfid: number, names };
            match self.ask(0, &request)? {
                Reply::Walk { qids } if qids.len() == part.len() => {
                    qid = qids.last().copied().unwrap_or(qid);
                }
                _ => return Err(Failure::Refused),
            }
        }
        if !fid.is_same(qid, root) {
            return Err(Failure::Refused);
        }
        if let Some(flags) = fid.open {
            let opened = self.qid(&Request::Lopen { fid: number, flags })?;
            // Between the two somebody may have put another file there.
            if !fid.is_same(opened, root) {
                return Err(Failure::Refused);
            }
        }
        for held in &fid.locks {
            let request = Request::Lock {
                fid: number,
                kind: held.kind,
                flags: 0,
                start: held.start,
                length: held.length,
                proc_id: held.proc_id,
                client_id: &held.client_id,
            };
            match self.ask(0, &request)? {
                Reply::Lock { status } if status == lock::SUCCESS => {}
                Reply::Lock { status } if status == lock::BLOCKED && locks == Locks::Wait => {
                    return Err(Failure::Io(io::Error::new(
                        io::ErrorKind::WouldBlock,
                        "a lock is held, perhaps still by the connection that was lost",
                    )));
                }
                _ => return Err(Failure::Refused),
            }
        }
        Ok(())
    }
}

/// Binds `fids` on a fresh connection of a session with `msize`; answers which are not well.
/// `kept`: what the server took is still there, although not synced.
///
/// # Errors
/// The connection's; begin again with another one.
pub fn restore<S: Stream>(
    stream: &S,
    msize: u32,
    fids: &[(u32, Fid)],
    kept: bool,
    locks: Locks,
) -> io::Result<Vec<(u32, Fate)>> {
    let mut asker = Asker { stream, msize, frame: Vec::new() };
    let version = Request::Version { msize, version: VERSION_9P2000L };
    match asker.ask(NO_TAG, &version)? {
        Reply::Version { msize: offered, version }
            if offered >= msize && version == VERSION_9P2000L => {}
        Reply::Error { ecode } => return Err(Errno(ecode).into()),
        _ => return Err(broken("the server offers less than it did before")),
    }
    let mut fates = Vec::new();
    for (number, fid) in fids {
        let fate = if fid.passing || fid.fate == Fate::Lost {
            Fate::Lost
        } else {
            match asker.bind(*number, fid, locks) {
                Err(Failure::Io(err)) => return Err(err),
                Err(Failure::Refused) => Fate::Lost,
                Ok(()) if fid.fate == Fate::Unsure || (fid.dirty && !kept) => Fate::Unsure,
                Ok(()) => continue,
            }
        };
        fates.push((*number, fate));
    }
    Ok(fates)
}

/// Gives fids back on a connection that nobody else uses yet.
///
/// # Errors
/// The connection's.
pub fn clunk<S: Stream>(stream: &S, msize: u32, fids: &[u32]) -> io::Result<()> {
    let mut asker = Asker { stream, msize, frame: Vec::new() };
    for fid in fids {
        // One that was not bound is refused, which is as good.
        asker.ask(0, &Request::Clunk { fid: *fid })?;
    }
    Ok(())
}
