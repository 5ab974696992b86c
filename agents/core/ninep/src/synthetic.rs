//! Synthetic trees: directories and files that exist only as functions.
//!
//! ```
//! use goblin_core_ninep::synthetic::{Dir, Tree};
//! use std::io::Write;
//!
//! let tree = Tree::new(
//!     "control",
//!     Dir::new()
//!         .file("version", |_| Ok(b"1\n".to_vec()))
//!         .dir("echo", Dir::new().lines("ctl", |line, mut reply| {
//!             reply.write_all(&line)?;
//!             Ok(())
//!         })),
//! );
//! # let _ = tree;
//! ```
//!
//! - A [file](Dir::file)'s content is made at every open, on a helper thread, and stays as it is until the
//!   fid is clunked.
//! - A [conversation](Dir::conversation): the client writes one line, then reads the reply to its end.
//!   Reads wait, and are cancelled by `Tflush` and clunk; a cancelled read loses no bytes. The file's
//!   offsets mean nothing: bytes come in the order in which they were written.
//!
//! Every qid has version 0, so that Linux's client caches nothing of the tree.

use crate::talk::Talk;
use crate::{
    Answer, AttachRequest, Attr, Backend, Cancel, DirEntry, DirPage, Errno, Job, Opened, Qid,
    ReadAnswer, SetAttr, StatFs,
};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

pub use crate::talk::{LINE_BYTES_MAX, REPLY_BYTES_MAX, ReplyWriter};

/// Largest content of a produced file in bytes.
pub const CONTENT_BYTES_MAX: usize = 4 << 20;

/// What answers one line; runs on a thread of its own. Ends the reply by returning; an error reaches the
/// client's next read after the bytes written so far.
pub type Talker = Box<dyn FnOnce(Vec<u8>, ReplyWriter) -> Result<(), Errno> + Send>;

type Produce = Box<dyn Fn(&Cancel) -> Result<Vec<u8>, Errno> + Send + Sync>;
type OpenTalk = Box<dyn Fn(&Cancel) -> Result<Talker, Errno> + Send + Sync>;

enum Kind {
    Dir(BTreeMap<Vec<u8>, usize>),
    File(Arc<Produce>),
    Talk(Arc<OpenTalk>),
}

enum Plan {
    Dir(Dir),
    File(Arc<Produce>),
    Talk(Arc<OpenTalk>),
}

/// A directory that is being put together.
#[derive(Default)]
pub struct Dir {
    entries: BTreeMap<Vec<u8>, Plan>,
}

impl fmt::Debug for Dir {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set()
            .entries(self.entries.keys().map(|name| String::from_utf8_lossy(name)))
            .finish()
    }
}

impl Dir {
    /// An empty directory.
    pub fn new() -> Self {
        Self::default()
    }

    fn with(mut self, name: &str, plan: Plan) -> Self {
        self.entries.insert(name.as_bytes().to_vec(), plan);
        self
    }

    /// Adds a directory. A name that exists is replaced.
    #[must_use]
    pub fn dir(self, name: &str, dir: Self) -> Self {
        self.with(name, Plan::Dir(dir))
    }

    /// Adds a read-only file whose content is made at every open; the function may block, and should look
    /// at the token when it does. At most [`CONTENT_BYTES_MAX`] bytes, or the open fails with `EFBIG`.
    #[must_use]
    pub fn file(
        self,
        name: &str,
        produce: impl Fn(&Cancel) -> Result<Vec<u8>, Errno> + Send + Sync + 'static,
    ) -> Self {
        self.with(name, Plan::File(Arc::new(Box::new(produce))))
    }

    /// Adds a conversation. `open` runs at every open and may block and fail (a peer out of reach); what
    /// it answers is called with the client's line, without its newline.
    #[must_use]
    pub fn conversation(
        self,
        name: &str,
        open: impl Fn(&Cancel) -> Result<Talker, Errno> + Send + Sync + 'static,
    ) -> Self {
        self.with(name, Plan::Talk(Arc::new(Box::new(open))))
    }

    /// Adds a conversation whose open always succeeds.
    #[must_use]
    pub fn lines(
        self,
        name: &str,
        answer: impl Fn(Vec<u8>, ReplyWriter) -> Result<(), Errno> + Send + Sync + 'static,
    ) -> Self {
        let answer = Arc::new(answer);
        self.conversation(name, move |_| {
            let answer = answer.clone();
            Ok(Box::new(move |line, reply| answer(line, reply)))
        })
    }
}

struct Entry {
    parent: usize,
    kind: Kind,
}

/// A finished tree; serve it with [`crate::serve`].
pub struct Tree {
    name: Vec<u8>,
    /// The root is the first; an entry's index is its identity.
    entries: Vec<Entry>,
}

impl fmt::Debug for Tree {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tree").field("entries", &self.entries.len()).finish_non_exhaustive()
    }
}

impl Tree {
    /// A tree that clients attach by `name`, by `/name`, or by nothing.
    pub fn new(name: &str, root: Dir) -> Self {
        let mut tree = Self { name: name.as_bytes().to_vec(), entries: Vec::new() };
        tree.add_dir(0, root);
        tree
    }

    fn add_dir(&mut self, parent: usize, dir: Dir) -> usize {
        let own = self.entries.len();
        self.entries.push(Entry { parent, kind: Kind::Dir(BTreeMap::new()) });
        let mut names = BTreeMap::new();
        for (name, plan) in dir.entries {
            let index = match plan {
                Plan::Dir(dir) => self.add_dir(own, dir),
                Plan::File(produce) => self.add(own, Kind::File(produce)),
                Plan::Talk(open) => self.add(own, Kind::Talk(open)),
            };
            names.insert(name, index);
        }
        if let Some(entry) = self.entries.get_mut(own) {
            entry.kind = Kind::Dir(names);
        }
        own
    }

    fn add(&mut self, parent: usize, kind: Kind) -> usize {
        self.entries.push(Entry { parent, kind });
        self.entries.len().saturating_sub(1)
    }

    fn entry(&self, index: usize) -> Result<&Entry, Errno> {
        self.entries.get(index).ok_or(Errno::ESTALE)
    }

    fn attr(&self, index: usize) -> Result<Attr, Errno> {
        let mode = match &self.entry(index)?.kind {
            Kind::Dir(_) => 0o040_555,
            Kind::File(_) => 0o100_444,
            Kind::Talk(_) => 0o100_666,
        };
        let qid = self.qid(index);
        Ok(Attr { valid: Attr::BASIC, qid, mode, nlink: 1, blksize: 4096, ..Attr::default() })
    }

    fn qid(&self, index: usize) -> Qid {
        let dir = matches!(self.entries.get(index), Some(Entry { kind: Kind::Dir(_), .. }));
        let kind = if dir { Qid::DIR } else { Qid::FILE };
        Qid { kind, version: 0, path: u64::try_from(index).unwrap_or(0).saturating_add(1) }
    }
}

/// An open file of a [`Tree`].
#[derive(Debug)]
pub struct SyntheticOpen(Opening);

#[derive(Debug)]
enum Opening {
    /// Its entries, in the order of their cookies: index, parent's index.
    Dir(usize),
    Content(Vec<u8>),
    Talk(Arc<Talk>),
}

const ACCESS_MODE: u32 = 3;
const WRITE_ONLY: u32 = 1;
const READ_WRITE: u32 = 2;

impl Backend for Tree {
    type Node = usize;
    type Open = SyntheticOpen;

    fn attach(&self, request: &AttachRequest<'_>) -> Result<(Arc<usize>, Qid), Errno> {
        let name = request.aname.strip_prefix(b"/").unwrap_or(request.aname);
        if !name.is_empty() && name != self.name {
            return Err(Errno::ENOENT);
        }
        Ok((Arc::new(0), self.qid(0)))
    }

    fn walk(&self, from: &Arc<usize>, name: &[u8]) -> Result<(Arc<usize>, Qid), Errno> {
        let entry = self.entry(**from)?;
        let Kind::Dir(names) = &entry.kind else { return Err(Errno::ENOTDIR) };
        let index = match name {
            b".." => entry.parent,
            name => *names.get(name).ok_or(Errno::ENOENT)?,
        };
        Ok((Arc::new(index), self.qid(index)))
    }

    fn getattr(&self, node: &Arc<usize>, _mask: u64) -> Result<Attr, Errno> {
        self.attr(**node)
    }

    fn setattr(
        &self,
        node: &Arc<usize>,
        _open: Option<&Arc<SyntheticOpen>>,
        change: &SetAttr,
    ) -> Result<(), Errno> {
        // A shell's `echo line > ctl` truncates first; there is nothing to cut off.
        let only_size = change.valid & (SetAttr::MODE | SetAttr::UID | SetAttr::GID) == 0;
        match &self.entry(**node)?.kind {
            Kind::Talk(_) if only_size && change.size == 0 => Ok(()),
            _ => Err(Errno::EPERM),
        }
    }

    fn open(&self, node: &Arc<usize>, flags: u32) -> Result<Answer<Opened<SyntheticOpen>>, Errno> {
        let index = **node;
        let qid = self.qid(index);
        let opened = move |open| Opened { open: SyntheticOpen(open), qid, iounit: 0 };
        let writes = matches!(flags & ACCESS_MODE, WRITE_ONLY | READ_WRITE);
        match &self.entry(index)?.kind {
            Kind::Dir(_) if writes => Err(Errno::EISDIR),
            Kind::Dir(_) => Ok(Answer::Now(opened(Opening::Dir(index)))),
            Kind::File(_) if writes => Err(Errno::EACCES),
            Kind::File(produce) => {
                let produce = produce.clone();
                Ok(Answer::Later(Job::event(move |cancel| {
                    let content = produce(cancel)?;
                    if content.len() > CONTENT_BYTES_MAX {
                        return Err(Errno::EFBIG);
                    }
                    Ok(opened(Opening::Content(content)))
                })))
            }
            Kind::Talk(open) => {
                let open = open.clone();
                Ok(Answer::Later(Job::event(move |cancel| {
                    Ok(opened(Opening::Talk(Talk::new(open(cancel)?))))
                })))
            }
        }
    }

    fn read(
        &self,
        open: &Arc<SyntheticOpen>,
        offset: u64,
        into: &mut [u8],
    ) -> Result<ReadAnswer, Errno> {
        match &open.0 {
            Opening::Dir(_) => Err(Errno::EISDIR),
            Opening::Content(content) => {
                let start = usize::try_from(offset).unwrap_or(usize::MAX).min(content.len());
                let rest = content.get(start..).unwrap_or(&[]);
                let count = rest.len().min(into.len());
                if let (Some(to), Some(from)) = (into.get_mut(..count), rest.get(..count)) {
                    to.copy_from_slice(from);
                }
                Ok(ReadAnswer::Now(count))
            }
            Opening::Talk(talk) => {
                let (talk, count) = (talk.clone(), into.len());
                Ok(ReadAnswer::Later(Job::event(move |cancel| talk.read(count, cancel))))
            }
        }
    }

    fn write(
        &self,
        open: &Arc<SyntheticOpen>,
        _offset: u64,
        data: &[u8],
    ) -> Result<Answer<u32>, Errno> {
        match &open.0 {
            Opening::Talk(talk) => talk.write(data).map(Answer::Now),
            Opening::Dir(_) | Opening::Content(_) => Err(Errno::EBADF),
        }
    }

    fn readdir(
        &self,
        open: &Arc<SyntheticOpen>,
        offset: u64,
        page: &mut DirPage<'_>,
    ) -> Result<(), Errno> {
        let Opening::Dir(index) = open.0 else { return Err(Errno::ENOTDIR) };
        let entry = self.entry(index)?;
        let Kind::Dir(names) = &entry.kind else { return Err(Errno::ENOTDIR) };
        let dots = [(&b"."[..], index), (b"..", entry.parent)];
        let all = dots.into_iter().chain(names.iter().map(|(name, i)| (name.as_slice(), *i)));
        let skip = usize::try_from(offset).unwrap_or(usize::MAX);
        for ((name, index), cookie) in all.zip(1u64..).skip(skip) {
            let qid = self.qid(index);
            let kind = if qid.is_dir() { 4 } else { 8 };
            let entry = DirEntry { qid, offset: cookie, kind, name };
            if !page.push(&entry, || self.attr(index).ok()) {
                break;
            }
        }
        Ok(())
    }

    fn clunk(&self, open: &Arc<SyntheticOpen>) {
        if let Opening::Talk(talk) = &open.0 {
            talk.close();
        }
    }

    fn fsync(&self, _open: &Arc<SyntheticOpen>, _data_only: bool) -> Result<Answer<()>, Errno> {
        Ok(Answer::Now(()))
    }

    fn statfs(&self, _node: &Arc<usize>) -> Result<StatFs, Errno> {
        // V9FS_MAGIC: there is no disk below.
        Ok(StatFs {
            kind: 0x0102_1997,
            block_bytes: 4096,
            files: u64::try_from(self.entries.len()).unwrap_or(0),
            name_bytes_max: 255,
            ..StatFs::default()
        })
    }
}
