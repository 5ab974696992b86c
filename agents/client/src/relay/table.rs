//! What the relay remembers of a session: fids, and requests without an answer. Pure.
//!
//! ```text
//!   request  -> Answer   the relay's own word: the server is away for too long, or the file is lost
//!            -> Forward  to the server; also kept until its reply comes
//!            -> Hold     kept until the server is back, or until what is under way already is answered
//!   reply    -> to the kernel, and the table learns from it; or it is the relay's own (`ahead`)
//!   lost     -> requests that can be asked again stay; the others are answered now
//! ```
//!
//! Asked again after a loss: what reads, what names a new fid, and what leaves the same result when done
//! twice (a write at an offset, a change of attributes). Not asked again, because nobody knows whether it
//! was done: making, moving and removing names, writes that append. Those fail with `EIO`, once.

use super::ahead::{Ahead, Known, OWN_TAG_MIN, Own, Parcel};
use super::fid::{Fate, Fid, Held, Root};
use goblin_core_ninep::{Errno, Header, NO_FID, NO_TAG, Qids, Reply, Request, SetAttr, lock};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Instant;

/// A whole message.
pub type Frame = Arc<[u8]>;

/// Fids at most; as many as the server allows a connection.
const FIDS_MAX: usize = 65_536;

/// Bytes of requests that are kept while the server is away; what comes beyond fails.
const WAITING_BYTES_MAX: usize = 64 << 20;

/// The attribute that Linux asks for before a write that is not cached. A box keeps none of that name.
const CAPABILITY: &[u8] = b"security.capability";

/// What to do with a reply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Heard {
    /// Send it to the kernel.
    Kernel,
    /// Send this to the kernel.
    Answer(Vec<u8>),
    /// Nobody waits for it.
    Nobody,
}

/// What to do with a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Send this to the kernel.
    Answer(Vec<u8>),
    /// Send this to the server.
    Forward(Frame),
    /// Nothing now.
    Hold,
}

#[derive(Debug)]
struct Waiting {
    frame: Frame,
    order: u64,
}

/// Whether the server can be reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Server {
    /// Connected.
    Here,
    /// Gone, for not too long.
    Away,
    /// Gone for longer than anybody shall wait.
    Gone,
}

/// The session's memory.
#[derive(Debug)]
pub struct Table {
    fids: BTreeMap<u32, Fid>,
    waiting: BTreeMap<u16, Waiting>,
    /// Requests to ask again on the present connection, oldest first.
    again: VecDeque<(u16, Frame)>,
    next_order: u64,
    msize: Option<u32>,
    pub server: Server,
    ahead: Ahead,
    /// The time of what is done now.
    now: Instant,
}

impl Default for Table {
    fn default() -> Self {
        Self {
            fids: BTreeMap::new(),
            waiting: BTreeMap::new(),
            again: VecDeque::new(),
            next_order: 0,
            msize: None,
            server: Server::Here,
            ahead: Ahead::default(),
            now: Instant::now(),
        }
    }
}

fn error(tag: u16, errno: Errno) -> Vec<u8> {
    encoded(tag, &Reply::Error { ecode: errno.0 })
}

/// A reply under another tag.
fn retagged(frame: &[u8], tag: u16) -> Vec<u8> {
    let mut frame = frame.to_vec();
    if let Some(place) = frame.get_mut(5..7) {
        place.copy_from_slice(&tag.to_le_bytes());
    }
    frame
}

fn encoded(tag: u16, reply: &Reply<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    reply.encode(tag, &mut out);
    out
}

/// `O_TRUNC`.
const TRUNCATE: u32 = 0o1000;

/// Whether what was seen before a request may be another thing after it; a lock too, for it is taken to see what others
/// did before.
const fn alters(request: &Request<'_>) -> bool {
    match request {
        Request::Lopen { flags, .. } => *flags & TRUNCATE != 0,
        Request::Version { .. }
        | Request::Attach { .. }
        | Request::Flush { .. }
        | Request::Walk { .. }
        | Request::Getattr { .. }
        | Request::Read { .. }
        | Request::Readdir { .. }
        | Request::Readlink { .. }
        | Request::StatFs { .. }
        | Request::Xattrwalk { .. }
        | Request::Getlock { .. }
        | Request::Clunk { .. } => false,
        _ => true,
    }
}

/// The fid whose file a request is about.
const fn subject(request: &Request<'_>) -> Option<u32> {
    match request {
        Request::Walk { fid, .. }
        | Request::Read { fid, .. }
        | Request::Write { fid, .. }
        | Request::StatFs { fid }
        | Request::Lopen { fid, .. }
        | Request::Lcreate { fid, .. }
        | Request::Symlink { fid, .. }
        | Request::Mknod { dfid: fid, .. }
        | Request::Rename { fid, .. }
        | Request::Readlink { fid }
        | Request::Getattr { fid, .. }
        | Request::Setattr { fid, .. }
        | Request::Xattrwalk { fid, .. }
        | Request::Xattrcreate { fid, .. }
        | Request::Readdir { fid, .. }
        | Request::Fsync { fid, .. }
        | Request::Lock { fid, .. }
        | Request::Getlock { fid, .. }
        | Request::Link { dfid: fid, .. }
        | Request::Mkdir { dfid: fid, .. }
        | Request::Renameat { olddirfid: fid, .. }
        | Request::Unlinkat { dirfid: fid, .. } => Some(*fid),
        _ => None,
    }
}

impl Table {
    /// Says what time it is.
    pub const fn at(&mut self, now: Instant) -> &mut Self {
        self.now = now;
        self
    }

    /// The kernel asks. Frames that cannot be read are forwarded: the server says what is wrong.
    pub fn request(&mut self, frame: Frame) -> Verdict {
        let Ok((tag, request)) = Request::decode(&frame) else { return self.keep(frame) };
        if tag >= OWN_TAG_MIN && tag != NO_TAG {
            return Verdict::Answer(error(tag, Errno::EIO));
        }
        if let Some(verdict) = self.own_word(tag, &request) {
            return verdict;
        }
        if self.server == Server::Here
            && let Some(verdict) = self.foreseen(tag, &request, &frame)
        {
            return verdict;
        }
        self.keep(frame.clone())
    }

    /// A request that was taken before and is asked again: nothing is foreseen.
    fn request_again(&mut self, frame: Frame) -> Verdict {
        let Ok((tag, request)) = Request::decode(&frame) else { return self.keep(frame) };
        match self.own_word(tag, &request) {
            Some(verdict) => verdict,
            None => self.keep(frame.clone()),
        }
    }

    /// What is to be sent together with a request that had this verdict.
    pub fn parcel(&mut self, verdict: &Verdict) -> Parcel {
        match verdict {
            Verdict::Forward(_) => self.ahead.take(),
            Verdict::Answer(_) | Verdict::Hold => self.ahead.take_due(),
        }
    }

    /// What waits for a next request that does not come.
    pub fn idle(&mut self) -> Parcel {
        self.ahead.take()
    }

    /// Answers what needs no server, and asks ahead.
    fn foreseen(&mut self, tag: u16, request: &Request<'_>, frame: &Frame) -> Option<Verdict> {
        if alters(request) {
            self.ahead.forget();
        }
        let answer = |reply: &Reply<'_>| Some(Verdict::Answer(encoded(tag, reply)));
        match request {
            Request::Getattr { fid, .. } => match self.ahead.attributes(*fid, tag, self.now) {
                Known::Reply(reply) => Some(Verdict::Answer(retagged(&reply, tag))),
                Known::Soon => {
                    self.insert_waiting(tag, frame.clone());
                    Some(Verdict::Hold)
                }
                Known::Not => None,
            },
            Request::Walk { fid, newfid, names } => {
                self.ahead.touched(*fid);
                let is_new = *newfid != NO_FID && newfid != fid && !self.fids.contains_key(newfid);
                if !is_new || self.fids.len() >= FIDS_MAX {
                    return None;
                }
                if !names.is_empty() {
                    self.ahead.ask_attributes(*newfid);
                    return None;
                }
                let from = self.fids.get(fid).filter(|from| !from.passing)?;
                let mut cloned = from.walked(names, &Qids::default());
                cloned.asked_as = Some(self.ahead.clone_fid(*fid, *newfid)?);
                self.bind(*newfid, cloned);
                answer(&Reply::Walk { qids: Qids::default() })
            }
            Request::Clunk { fid } => {
                self.ahead.touched(*fid);
                let known = self.fids.get(fid)?;
                // The value of an attribute is set by the end of its fid, and whoever waits for a lock shall have it.
                if known.passing || !known.locks.is_empty() {
                    return None;
                }
                if known.refused.is_none() && !self.ahead.clunk(*fid, known.open.is_some()) {
                    return None;
                }
                self.fids.remove(fid);
                answer(&Reply::Clunk {})
            }
            Request::Xattrwalk { fid, name, .. } if *name == CAPABILITY => {
                self.fids.get(fid)?;
                answer(&Reply::Error { ecode: Errno::ENODATA.0 })
            }
            _ => {
                if let Some(fid) = subject(request) {
                    self.ahead.touched(fid);
                }
                None
            }
        }
    }

    fn own_word(&mut self, tag: u16, request: &Request<'_>) -> Option<Verdict> {
        let known = subject(request).and_then(|fid| self.fids.get(&fid));
        let (fate, refused) = (known.map(|fid| fid.fate), known.and_then(|fid| fid.refused));
        let answer = |reply: Vec<u8>| Some(Verdict::Answer(reply));
        match request {
            Request::Clunk { fid } | Request::Remove { fid }
                if self.fids.get(fid).is_some_and(|fid| fid.fate == Fate::Lost) =>
            {
                self.fids.remove(fid);
                let gone = matches!(request, Request::Clunk { .. });
                answer(if gone { encoded(tag, &Reply::Clunk {}) } else { error(tag, Errno::EIO) })
            }
            Request::Clunk { fid } if self.server != Server::Here => {
                // The server forgot all fids with the connection.
                self.fids.remove(fid);
                answer(encoded(tag, &Reply::Clunk {}))
            }
            Request::Flush { oldtag }
                if self.server != Server::Here
                    || self.again.iter().any(|(waiting, _)| waiting == oldtag) =>
            {
                self.waiting.remove(oldtag);
                self.again.retain(|(waiting, _)| waiting != oldtag);
                answer(encoded(tag, &Reply::Flush {}))
            }
            _ if self.server == Server::Gone => answer(error(tag, Errno::EIO)),
            _ if fate == Some(Fate::Lost) => answer(error(tag, Errno::EIO)),
            Request::Clunk { .. } => None,
            _ if refused.is_some() => answer(encoded(tag, &Reply::Error { ecode: refused? })),
            Request::Fsync { fid, .. } | Request::Write { fid, .. }
                if fate == Some(Fate::Unsure) =>
            {
                if let Some(fid) = self.fids.get_mut(fid) {
                    fid.fate = Fate::Well;
                }
                answer(error(tag, Errno::EIO))
            }
            _ => None,
        }
    }

    fn keep(&mut self, frame: Frame) -> Verdict {
        let Ok((header, _)) = Header::split(&frame) else { return Verdict::Forward(frame) };
        if self.server != Server::Here && self.waiting_bytes() > WAITING_BYTES_MAX {
            return Verdict::Answer(error(header.tag, Errno::EIO));
        }
        self.insert_waiting(header.tag, frame.clone());
        if self.server == Server::Here { Verdict::Forward(frame) } else { Verdict::Hold }
    }

    fn insert_waiting(&mut self, tag: u16, frame: Frame) {
        let order = self.next_order;
        self.next_order = order.wrapping_add(1);
        self.waiting.insert(tag, Waiting { frame, order });
    }

    fn waiting_bytes(&self) -> usize {
        self.waiting.values().fold(0, |sum, waiting| sum.saturating_add(waiting.frame.len()))
    }

    /// The server answers.
    pub fn reply(&mut self, frame: &[u8]) -> Heard {
        let Ok((header, _)) = Header::split(frame) else { return Heard::Nobody };
        if let Some(own) = self.ahead.answered(header.tag) {
            return self.own_reply(own, header.tag, frame);
        }
        let Some(asked) = self.waiting.remove(&header.tag) else { return Heard::Nobody };
        if let (Ok((_, request)), Ok((_, reply))) =
            (Request::decode(&asked.frame), Reply::decode(frame))
        {
            if alters(&request) {
                self.ahead.forget();
            }
            self.learn(&request, &reply);
            let refused = subject(&request).and_then(|fid| self.fids.get(&fid)?.refused);
            if let (Reply::Error { .. }, Some(ecode)) = (&reply, refused) {
                return Heard::Answer(encoded(header.tag, &Reply::Error { ecode }));
            }
        }
        Heard::Kernel
    }

    /// The server answers what the relay itself asked.
    fn own_reply(&mut self, own: Own, own_tag: u16, frame: &[u8]) -> Heard {
        match own {
            Own::Getattr(fid) => {
                let waits = self.ahead.learn(fid, own_tag, frame, self.now);
                match waits.filter(|tag| self.waiting.remove(tag).is_some()) {
                    Some(tag) => Heard::Answer(retagged(frame, tag)),
                    None => Heard::Nobody,
                }
            }
            Own::Clone(newfid) => {
                if let Some(fid) = self.fids.get_mut(&newfid)
                    && fid.asked_as == Some(own_tag)
                {
                    fid.asked_as = None;
                    if let Ok((_, Reply::Error { ecode })) = Reply::decode(frame) {
                        fid.refused = Some(ecode);
                    }
                }
                Heard::Nobody
            }
            Own::Clunk => Heard::Nobody,
        }
    }

    fn bind(&mut self, number: u32, fid: Fid) {
        if self.fids.len() < FIDS_MAX || self.fids.contains_key(&number) {
            self.fids.insert(number, fid);
        }
    }

    fn learn(&mut self, request: &Request<'_>, reply: &Reply<'_>) {
        match (request, reply) {
            (Request::Version { .. }, Reply::Version { msize, .. }) => {
                self.fids.clear();
                self.ahead.reset();
                self.msize = Some(*msize);
            }
            (Request::Attach { fid, uname, aname, n_uname, .. }, Reply::Attach { qid }) => {
                let (uname, aname) = (uname.to_vec(), aname.to_vec());
                let root = Root { uname, aname, n_uname: *n_uname, qid: *qid };
                self.bind(*fid, Fid::attached(root));
            }
            (Request::Walk { fid, newfid, names }, Reply::Walk { qids })
                if names.len() == qids.len() =>
            {
                if let Some(walked) = self.fids.get(fid).map(|from| from.walked(names, qids)) {
                    self.bind(*newfid, walked);
                }
            }
            (Request::Clunk { fid } | Request::Remove { fid }, _) => {
                self.fids.remove(fid);
            }
            (Request::Flush { oldtag }, Reply::Flush {}) => {
                self.waiting.remove(oldtag);
                self.ahead.flushed(*oldtag);
            }
            (Request::Xattrwalk { fid, newfid, .. }, Reply::Xattrwalk { .. }) => {
                if let Some(from) = self.fids.get(fid) {
                    let fid = Fid { passing: true, ..from.walked(&[], &[]) };
                    self.bind(*newfid, fid);
                }
            }
            (Request::Rename { fid, dfid, name }, Reply::Rename {}) => {
                let from = self.fids.get(fid).map(|fid| fid.path.clone());
                self.moved(from, *dfid, name);
            }
            (Request::Renameat { olddirfid, oldname, newdirfid, newname }, Reply::Renameat {}) => {
                let from = self
                    .fids
                    .get(olddirfid)
                    .map(|dir| dir.path.iter().cloned().chain([oldname.to_vec()]).collect());
                self.moved(from, *newdirfid, newname);
            }
            _ => self.learn_of_file(request, reply),
        }
    }

    fn learn_of_file(&mut self, request: &Request<'_>, reply: &Reply<'_>) {
        let Some(fid) = subject(request).and_then(|number| self.fids.get_mut(&number)) else {
            return;
        };
        match (request, reply) {
            (Request::Lopen { flags, .. }, Reply::Lopen { qid, .. }) => fid.opened(*flags, *qid),
            (Request::Lcreate { name, flags, .. }, Reply::Lcreate { qid, .. }) => {
                fid.path.push(name.to_vec());
                fid.opened(*flags, *qid);
            }
            (Request::Write { .. }, Reply::Write { .. }) => fid.dirty = true,
            (Request::Setattr { attr, .. }, Reply::Setattr {})
                if attr.valid & SetAttr::SIZE != 0 =>
            {
                fid.dirty = true;
            }
            (Request::Fsync { .. }, Reply::Fsync {}) => fid.dirty = false,
            (Request::Xattrcreate { .. }, Reply::Xattrcreate {}) => fid.passing = true,
            (
                Request::Lock { kind, start, length, proc_id, client_id, .. },
                Reply::Lock { status },
            ) if *status == lock::SUCCESS => fid.locked(Held {
                kind: *kind,
                start: *start,
                length: *length,
                proc_id: *proc_id,
                client_id: client_id.to_vec(),
            }),
            _ => {}
        }
    }

    /// A name was moved: everything that was reached through it is at the new place now.
    fn moved(&mut self, from: Option<Vec<Vec<u8>>>, dir: u32, name: &[u8]) {
        let Some((from, dir)) = from.zip(self.fids.get(&dir)) else { return };
        let aname = dir.root.aname.clone();
        let to: Vec<Vec<u8>> = dir.path.iter().cloned().chain([name.to_vec()]).collect();
        for fid in self.fids.values_mut().filter(|fid| fid.root.aname == aname) {
            if let Some(rest) = fid.path.strip_prefix(from.as_slice()) {
                fid.path = to.iter().chain(rest).cloned().collect();
            }
        }
    }

    /// The connection is lost: answers, at once, what cannot be asked again. The rest waits.
    pub fn lost(&mut self) -> Vec<Vec<u8>> {
        self.server = Server::Away;
        self.again.clear();
        // Fids that were made or given back are so on the next connection.
        self.ahead.reset();
        let mut answers = Vec::new();
        for (tag, waiting) in std::mem::take(&mut self.waiting) {
            match self.after_loss(tag, &waiting.frame) {
                Some(answer) => answers.push(answer),
                None => {
                    self.waiting.insert(tag, waiting);
                }
            }
        }
        answers
    }

    fn after_loss(&mut self, tag: u16, frame: &[u8]) -> Option<Vec<u8>> {
        let Ok((_, request)) = Request::decode(frame) else { return Some(error(tag, Errno::EIO)) };
        match request {
            Request::Clunk { fid } => {
                self.fids.remove(&fid);
                Some(encoded(tag, &Reply::Clunk {}))
            }
            // What was to be forgotten is forgotten: its own answer is not waited for any more.
            Request::Flush { oldtag } => {
                self.waiting.remove(&oldtag);
                Some(encoded(tag, &Reply::Flush {}))
            }
            Request::Remove { fid } => {
                self.fids.remove(&fid);
                Some(error(tag, Errno::EIO))
            }
            Request::Write { fid, .. } => {
                let fid = self.fids.get(&fid)?;
                (fid.appends() || fid.passing).then(|| error(tag, Errno::EIO))
            }
            Request::Read { fid, .. } => {
                self.fids.get(&fid)?.passing.then(|| error(tag, Errno::EIO))
            }
            Request::Version { .. }
            | Request::Attach { .. }
            | Request::Walk { .. }
            | Request::Lopen { .. }
            | Request::Getattr { .. }
            | Request::Readdir { .. }
            | Request::StatFs { .. }
            | Request::Readlink { .. }
            | Request::Xattrwalk { .. }
            | Request::Getlock { .. }
            | Request::Setattr { .. }
            | Request::Fsync { .. }
            | Request::Lock { .. } => None,
            _ => Some(error(tag, Errno::EIO)),
        }
    }

    /// Nobody shall wait longer: everything that waits fails, and so does what comes, until the server is
    /// back.
    pub fn give_up(&mut self) -> Vec<Vec<u8>> {
        self.server = Server::Gone;
        let waiting = std::mem::take(&mut self.waiting);
        waiting.into_keys().map(|tag| error(tag, Errno::EIO)).collect()
    }

    /// Largest message of the session; `None` before the kernel opened one.
    pub const fn msize(&self) -> Option<u32> {
        self.msize
    }

    /// Fids to bind again, and how.
    pub fn fids(&self) -> Vec<(u32, Fid)> {
        self.fids.iter().map(|(number, fid)| (*number, fid.clone())).collect()
    }

    /// What binding a fid again came to; `None` when it is well.
    pub fn set_fate(&mut self, number: u32, fate: Fate) {
        if let Some(fid) = self.fids.get_mut(&number) {
            fid.dirty = false;
            fid.fate = fate;
        }
    }

    /// The oldest `Tflush` that the server was sent and has not answered, as a number that no later one has.
    pub fn oldest_flush(&self) -> Option<u64> {
        if self.server != Server::Here {
            return None;
        }
        let flushes = self.waiting.values().filter(|waiting| {
            Request::decode(&waiting.frame)
                .is_ok_and(|(_, request)| matches!(request, Request::Flush { .. }))
        });
        flushes.map(|waiting| waiting.order).min()
    }

    /// Whether a fid is bound.
    pub fn has(&self, number: u32) -> bool {
        self.fids.contains_key(&number)
    }

    /// The server is back: what waits is asked again by [`next_again`](Self::next_again). Requests about
    /// files that are lost are answered instead.
    pub fn back(&mut self) -> Vec<Vec<u8>> {
        self.server = Server::Here;
        let mut waiting: Vec<(u16, Waiting)> =
            std::mem::take(&mut self.waiting).into_iter().collect();
        waiting.sort_by_key(|(_, waiting)| waiting.order);
        let mut answers = Vec::new();
        for (tag, waiting) in waiting {
            match self.request_again(waiting.frame) {
                Verdict::Forward(frame) => self.again.push_back((tag, frame)),
                Verdict::Answer(answer) => answers.push(answer),
                Verdict::Hold => {}
            }
        }
        answers
    }

    /// The next request to ask again; send it before anything that comes later.
    pub fn next_again(&mut self) -> Option<Frame> {
        self.again.pop_front().map(|(_, frame)| frame)
    }
}

#[cfg(test)]
#[path = "table_tests.rs"]
mod tests;
