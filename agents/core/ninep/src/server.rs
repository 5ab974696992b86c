//! What a file tree must offer to be served: the [`Backend`].
//!
//! A backend answers with names, attributes and bytes; it never sees fids, tags or message sizes. It
//! answers at once, on the connection's own thread, whatever cannot block ([`Answer::Now`]), and hands
//! out a [`Job`] for what can ([`Answer::Later`]).

use crate::wire::Field;
use crate::{
    Attr, AttrEntry, Cancel, Content, DirEntry, Errno, Feed, Ledger, Qid, SetAttr, Spliced, StatFs,
};
use std::fmt;
use std::sync::Arc;

/// What a deferred job waits for; decides what happens when too many wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WaitsFor {
    /// Something that ends by itself soon, such as a disk. Beyond the limit of threads it waits for one; beyond the
    /// limit of what may wait the connection's own thread does the work, which slows the client down.
    Disk,
    /// Something that may never end, such as an event or a lock. Beyond the limit the request is refused
    /// with `EAGAIN`, or answered as [`Job::or_at_limit`] says.
    Event,
}

type Work<T> = Box<dyn FnOnce(&Cancel) -> Result<T, Errno> + Send>;

/// Work that may block; runs on a helper thread.
pub struct Job<T> {
    /// What it waits for.
    pub waits_for: WaitsFor,
    /// The work. Looks at the token, see [`Cancel`].
    pub work: Work<T>,
    /// The answer where there is no place to wait; without one the request is refused.
    pub at_limit: Option<T>,
    /// Bytes that it holds while it waits for its turn.
    pub bytes: usize,
}

impl<T> Job<T> {
    /// Work that ends by itself soon.
    pub fn disk(work: impl FnOnce(&Cancel) -> Result<T, Errno> + Send + 'static) -> Self {
        Self { waits_for: WaitsFor::Disk, work: Box::new(work), at_limit: None, bytes: 0 }
    }

    /// Work that may wait for ever unless cancelled.
    pub fn event(work: impl FnOnce(&Cancel) -> Result<T, Errno> + Send + 'static) -> Self {
        Self { waits_for: WaitsFor::Event, work: Box::new(work), at_limit: None, bytes: 0 }
    }

    /// Answers `answer` instead of refusing when too many requests wait already.
    #[must_use]
    pub fn or_at_limit(self, answer: T) -> Self {
        Self { at_limit: Some(answer), ..self }
    }

    /// Says how many bytes it holds while it waits for its turn.
    #[must_use]
    pub fn holding(self, bytes: usize) -> Self {
        Self { bytes, ..self }
    }

    pub(crate) fn map<U: 'static>(
        self,
        then: impl FnOnce(T) -> U + Clone + Send + 'static,
    ) -> Job<U>
    where
        T: 'static,
    {
        let work = self.work;
        let at_limit = self.at_limit.map(then.clone());
        let work = Box::new(move |cancel: &Cancel| work(cancel).map(then));
        Job { waits_for: self.waits_for, work, at_limit, bytes: self.bytes }
    }
}

impl<T> fmt::Debug for Job<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Job").field("waits_for", &self.waits_for).finish_non_exhaustive()
    }
}

/// An answer, or the work that will find it.
#[derive(Debug)]
pub enum Answer<T> {
    /// Here it is.
    Now(T),
    /// It may block.
    Later(Job<T>),
}

/// Answer of [`Backend::read`].
#[derive(Debug)]
pub enum ReadAnswer {
    /// So many bytes were put at the start of the buffer; 0 at the end of the file.
    Now(usize),
    /// It may block. More bytes than were asked for are cut.
    Later(Job<Vec<u8>>),
}

/// Answer of [`Backend::splice`].
#[derive(Debug)]
pub enum SpliceAnswer {
    /// Here they are; none at the end of the file.
    Now(Box<dyn Spliced>),
    /// It may block. Bytes beyond those that were asked for are cut, spliced ones must not be more.
    Later(Job<Content>),
    /// They are to be read.
    Read,
}

/// An opened file.
#[derive(Debug)]
pub struct Opened<O> {
    /// What reads and writes go to.
    pub open: O,
    /// The file.
    pub qid: Qid,
    /// Most bytes that one read or write carries unsplit; 0 for what msize allows.
    pub iounit: u32,
}

/// A file that was made and opened.
pub type Created<B> = (Arc<<B as Backend>::Node>, Opened<<B as Backend>::Open>);

/// Who attaches to what. Everything here is what the peer says of itself.
#[derive(Debug, Clone, Copy)]
pub struct AttachRequest<'a> {
    /// User name.
    pub uname: &'a [u8],
    /// Tree.
    pub aname: &'a [u8],
    /// Numeric user.
    pub n_uname: u32,
}

/// What a new name gets.
#[derive(Debug, Clone, Copy)]
pub struct NewNode {
    /// Permission bits, for `mknod` also the type.
    pub mode: u32,
    /// Group the client wishes.
    pub gid: u32,
}

/// A lock wanted or asked about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LockRange {
    /// [`crate::lock::READ`], [`crate::lock::WRITE`] or [`crate::lock::UNLOCK`].
    pub kind: u8,
    /// First byte.
    pub start: u64,
    /// Bytes; 0 for all to the end.
    pub length: u64,
    /// Process: the client's word, or the holder's.
    pub proc_id: u32,
}

/// Which listing is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Listing {
    /// `Rreaddir`.
    Plain,
    /// `Rgreaddir` of [`gob1`](crate::gob1).
    Attributes,
}

/// Collects entries of one `Rreaddir` or `Rgreaddir`.
#[derive(Debug)]
pub struct DirPage<'a> {
    out: &'a mut Vec<u8>,
    room: usize,
    listing: Listing,
    full: bool,
    pushed: bool,
}

impl<'a> DirPage<'a> {
    pub(crate) const fn new(out: &'a mut Vec<u8>, room: usize, listing: Listing) -> Self {
        Self { out, room, listing, full: false, pushed: false }
    }

    /// Appends an entry; false when it does not fit, and then the listing of this page is over. `attr` is asked only
    /// when the entry fits and its attributes are wanted; `None` for a file that went away meanwhile, which is named all
    /// the same.
    pub fn push(&mut self, entry: &DirEntry<'_>, attr: impl FnOnce() -> Option<Attr>) -> bool {
        let DirEntry { qid, offset, kind, name } = *entry;
        match self.listing {
            Listing::Plain => self.take(entry.wire_bytes()) && self.put(entry),
            Listing::Attributes => {
                self.take(AttrEntry::wire_bytes_of(name)) && {
                    let attr = attr().unwrap_or_else(|| Attr { qid, ..Attr::default() });
                    self.put(&AttrEntry { offset, kind, name, attr })
                }
            }
        }
    }

    fn take(&mut self, wire_bytes: usize) -> bool {
        match self.room.checked_sub(wire_bytes).filter(|_| !self.full) {
            Some(left) => self.room = left,
            None => self.full = true,
        }
        !self.full
    }

    fn put<'e>(&mut self, entry: &impl Field<'e>) -> bool {
        entry.put(self.out);
        self.pushed = true;
        true
    }

    /// True when there were entries and not even one fitted.
    pub(crate) const fn too_small(&self) -> bool {
        self.full && !self.pushed
    }
}

/// A file tree.
///
/// Nodes are what fids point at, opens what reads and writes go to; both are shared by reference count,
/// so that a request on its way keeps them alive when the fid is clunked. Names handed in are never
/// empty, `.`, longer than 255 bytes, and hold neither `/` nor NUL; `..` only reaches
/// [`walk`](Backend::walk), which must not leave the attached tree by it.
///
/// Every method's error goes to the client as `Rlerror`. Methods not overridden answer `EOPNOTSUPP`.
#[allow(unused_variables)] // The names of the parameters are part of the documentation.
pub trait Backend: Send + Sync + Sized + 'static {
    /// What a fid points at.
    type Node: Send + Sync + 'static;
    /// What an open fid reads and writes.
    type Open: Send + Sync + 'static;

    /// The root of the tree `aname`.
    fn attach(&self, request: &AttachRequest<'_>) -> Result<(Arc<Self::Node>, Qid), Errno>;

    /// One step from a node.
    fn walk(&self, from: &Arc<Self::Node>, name: &[u8]) -> Result<(Arc<Self::Node>, Qid), Errno>;

    /// A request was understood; called before anything else is done for it.
    fn asked(&self) {}

    /// Attributes; `mask` says which are wanted.
    fn getattr(&self, node: &Arc<Self::Node>, mask: u64) -> Result<Attr, Errno>;

    /// Opens a node with Linux flags, of which the client's word is not to be trusted.
    fn open(&self, node: &Arc<Self::Node>, flags: u32)
    -> Result<Answer<Opened<Self::Open>>, Errno>;

    /// Reads into the front of `into`.
    fn read(
        &self,
        open: &Arc<Self::Open>,
        offset: u64,
        into: &mut [u8],
    ) -> Result<ReadAnswer, Errno>;

    /// Reads up to `count` bytes without their passing through this program; asked before [`read`](Self::read) where the
    /// stream takes such bytes.
    ///
    /// # Errors
    /// Those of the file. What only cannot be done this way is [`SpliceAnswer::Read`].
    fn splice(
        &self,
        open: &Arc<Self::Open>,
        offset: u64,
        count: usize,
    ) -> Result<SpliceAnswer, Errno> {
        Ok(SpliceAnswer::Read)
    }

    /// Lists entries after the cookie `offset`; 0 starts over.
    fn readdir(
        &self,
        open: &Arc<Self::Open>,
        offset: u64,
        page: &mut DirPage<'_>,
    ) -> Result<(), Errno>;

    /// Where changes that are done at most once are remembered (`Tonce` of [`gob1`](crate::gob1)): one ledger for
    /// all connections of one client. Without one such requests are refused.
    fn ledger(&self) -> Option<&Ledger> {
        None
    }

    /// Where the changes of the tree of a node are numbered (`Tgtoken` and its siblings of [`gob1`](crate::gob1)): one
    /// feed for all connections. Without one such requests are refused.
    fn feed(&self, node: &Arc<Self::Node>) -> Option<Feed> {
        None
    }

    /// Has everything of the tree of a node on its disk, as the work of a job.
    ///
    /// # Errors
    /// The disk's: nobody knows then what it has kept.
    fn sync_tree(&self, node: &Arc<Self::Node>) -> Result<(), Errno> {
        Err(Errno::EOPNOTSUPP)
    }

    /// Writes; answers how many bytes were taken.
    fn write(
        &self,
        open: &Arc<Self::Open>,
        offset: u64,
        data: &[u8],
    ) -> Result<Answer<u32>, Errno> {
        Err(Errno::EOPNOTSUPP)
    }

    /// The fid of an open file is clunked: whatever blocks on it must end.
    fn clunk(&self, open: &Arc<Self::Open>) {}

    /// Changes attributes.
    fn setattr(
        &self,
        node: &Arc<Self::Node>,
        open: Option<&Arc<Self::Open>>,
        change: &SetAttr,
    ) -> Result<(), Errno> {
        Err(Errno::EOPNOTSUPP)
    }

    /// Creates and opens a file.
    fn create(
        &self,
        dir: &Arc<Self::Node>,
        name: &[u8],
        flags: u32,
        new: NewNode,
    ) -> Result<Created<Self>, Errno> {
        Err(Errno::EOPNOTSUPP)
    }

    /// Makes a symbolic link.
    fn symlink(&self, dir: &Arc<Self::Node>, name: &[u8], target: &[u8]) -> Result<Qid, Errno> {
        Err(Errno::EOPNOTSUPP)
    }

    /// Makes a file that is not a directory or link; `device` is major and minor.
    fn mknod(
        &self,
        dir: &Arc<Self::Node>,
        name: &[u8],
        new: NewNode,
        device: (u32, u32),
    ) -> Result<Qid, Errno> {
        Err(Errno::EOPNOTSUPP)
    }

    /// Makes a directory.
    fn mkdir(&self, dir: &Arc<Self::Node>, name: &[u8], new: NewNode) -> Result<Qid, Errno> {
        Err(Errno::EOPNOTSUPP)
    }

    /// Makes a hard link.
    fn link(
        &self,
        dir: &Arc<Self::Node>,
        file: &Arc<Self::Node>,
        name: &[u8],
    ) -> Result<(), Errno> {
        Err(Errno::EOPNOTSUPP)
    }

    /// Moves the file of a node to another directory and name.
    fn rename(
        &self,
        file: &Arc<Self::Node>,
        dir: &Arc<Self::Node>,
        name: &[u8],
    ) -> Result<(), Errno> {
        Err(Errno::EOPNOTSUPP)
    }

    /// Moves a name, over an existing one if there is one.
    fn rename_at(
        &self,
        old_dir: &Arc<Self::Node>,
        old_name: &[u8],
        new_dir: &Arc<Self::Node>,
        new_name: &[u8],
    ) -> Result<(), Errno> {
        Err(Errno::EOPNOTSUPP)
    }

    /// Removes a name; `flags` may hold `AT_REMOVEDIR` (0x200).
    fn unlink_at(&self, dir: &Arc<Self::Node>, name: &[u8], flags: u32) -> Result<(), Errno> {
        Err(Errno::EOPNOTSUPP)
    }

    /// Removes the file of a node.
    fn remove(&self, node: &Arc<Self::Node>) -> Result<(), Errno> {
        Err(Errno::EOPNOTSUPP)
    }

    /// What a symbolic link points to.
    fn readlink(&self, node: &Arc<Self::Node>) -> Result<Vec<u8>, Errno> {
        Err(Errno::EOPNOTSUPP)
    }

    /// Waits until a file is on the disk.
    fn fsync(&self, open: &Arc<Self::Open>, data_only: bool) -> Result<Answer<()>, Errno> {
        Err(Errno::EOPNOTSUPP)
    }

    /// Takes or releases a lock; answers a status of [`crate::lock`].
    fn lock(
        &self,
        open: &Arc<Self::Open>,
        range: LockRange,
        block: bool,
    ) -> Result<Answer<u8>, Errno> {
        Err(Errno::EOPNOTSUPP)
    }

    /// Who stands in the way of a lock; kind [`crate::lock::UNLOCK`] when nobody does.
    fn getlock(&self, open: &Arc<Self::Open>, range: LockRange) -> Result<LockRange, Errno> {
        Err(Errno::EOPNOTSUPP)
    }

    /// Numbers of the file system.
    fn statfs(&self, node: &Arc<Self::Node>) -> Result<StatFs, Errno> {
        Err(Errno::EOPNOTSUPP)
    }

    /// Value of an extended attribute; with an empty name the names, each with a NUL.
    fn xattr(&self, node: &Arc<Self::Node>, name: &[u8]) -> Result<Vec<u8>, Errno> {
        Err(Errno::EOPNOTSUPP)
    }

    /// Whether [`set_xattr`](Backend::set_xattr) would be let to try; asked before the value comes.
    fn may_set_xattr(
        &self,
        node: &Arc<Self::Node>,
        name: &[u8],
        size: u64,
        flags: u32,
    ) -> Result<(), Errno> {
        Err(Errno::EOPNOTSUPP)
    }

    /// Sets an extended attribute. `flags` are those of `setxattr(2)`; Linux's client removes with an empty
    /// value and `XATTR_REPLACE`.
    fn set_xattr(
        &self,
        node: &Arc<Self::Node>,
        name: &[u8],
        value: &[u8],
        flags: u32,
    ) -> Result<(), Errno> {
        Err(Errno::EOPNOTSUPP)
    }
}
