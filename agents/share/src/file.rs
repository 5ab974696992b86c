//! Open files and directories: reads, writes, listings, locks.

use crate::attributes::{self, qid_path};
use crate::node::Node;
use crate::share::Share;
use crate::usage::Held;
use crate::waiters;
use goblin_core_ninep::{
    Answer, Cancel, Content, DirEntry, DirPage, Errno, Job, LockRange, Qid, ReadAnswer,
    SpliceAnswer, Spliced, What, lock,
};
use goblin_sys::beneath::{self, Hold, Kind, OpenMode, Range, ReadNow, WriteNow};
use goblin_sys::splice::{self, Pages, Taken};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

/// Entries are asked of the kernel in pieces of this many bytes.
const LIST_BYTES: usize = 32 * 1024;

/// Reads of fewer bytes are copied: a pipe costs more than it saves.
const SPLICE_BYTES_MIN: usize = 32 * 1024;

/// Every page of memory begins at a multiple of this many bytes, whatever the machine's pages are.
const PAGE_BYTES_MIN: u64 = 4096;

/// Whether a read would wait for a disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Disk {
    No,
    Perhaps,
}

/// An open file or directory.
#[derive(Debug)]
pub struct HostOpen {
    pub(crate) node: Arc<Node>,
    pub(crate) fd: Arc<OwnedFd>,
    pub(crate) mode: OpenMode,
    /// Set once the file system has said that it cannot tell whether a write would wait.
    always_waits: AtomicBool,
    /// Set once it has said the same of reads.
    reads_unknown: AtomicBool,
    /// Set once the file system has said that it gives no pages of this file away.
    never_spliced: AtomicBool,
    /// Set once the file was seen to hold enough for reads without copies. Of a small one nobody asks how large it is.
    worth_splicing: AtomicBool,
    /// Whether the file system has no disk.
    in_memory: OnceLock<bool>,
    /// Its own descriptor: a lock may need an access that the open does not have.
    lock_fd: OnceLock<(OwnedFd, Held)>,
    closed: AtomicBool,
    /// For a descriptor of its own.
    _held: Option<Held>,
}

impl HostOpen {
    /// `size` is the file's when it was opened; `held` is the room of a descriptor that the node has not got.
    pub(crate) fn new(
        node: Arc<Node>,
        fd: impl Into<Arc<OwnedFd>>,
        mode: OpenMode,
        size: u64,
        held: Option<Held>,
    ) -> Self {
        Self {
            node,
            fd: fd.into(),
            mode,
            always_waits: AtomicBool::new(false),
            reads_unknown: AtomicBool::new(false),
            never_spliced: AtomicBool::new(false),
            worth_splicing: AtomicBool::new(is_worth_splicing(size)),
            in_memory: OnceLock::new(),
            lock_fd: OnceLock::new(),
            closed: AtomicBool::new(false),
            _held: held,
        }
    }

    fn share(&self) -> &Arc<Share> {
        &self.node.share
    }

    /// Whatever waits on this file is to end.
    pub(crate) fn close(&self) {
        self.closed.store(true, Ordering::Release);
        if self.lock_fd.get().is_none() {
            return;
        }
        // Here and not with the descriptor: a request on its way may keep that open for a while. A failure
        // only means that the lock goes with the descriptor.
        let all = Range { hold: Hold::Nothing, start: 0, length: 0 };
        let _ = self.lock_fd.get().map(|(fd, _)| beneath::try_lock(fd, all));
        waiters::let_go(self.node.id());
    }

    fn file(&self) -> Result<(), Errno> {
        if self.node.kind == Kind::Directory { Err(Errno::EISDIR) } else { Ok(()) }
    }

    pub(crate) fn read(
        self: &Arc<Self>,
        offset: u64,
        into: &mut [u8],
    ) -> Result<ReadAnswer, Errno> {
        self.file()?;
        if !self.mode.read {
            return Err(Errno::EBADF);
        }
        if self.reads_unknown.load(Ordering::Relaxed) {
            return self.read_unknown(offset, into);
        }
        let got = match beneath::read_now(&self.fd, offset, into)? {
            ReadNow::Got(got) => got,
            ReadNow::WouldWait => return Ok(self.read_later(offset, into.len())),
            ReadNow::Unknown => {
                self.reads_unknown.store(true, Ordering::Relaxed);
                return self.read_unknown(offset, into);
            }
        };
        let end = offset.saturating_add(u64::try_from(got).unwrap_or(u64::MAX));
        // Less than wanted is the end of the file, or the end of what is in memory, and that one is a page's.
        if got > 0
            && got < into.len()
            && end.is_multiple_of(PAGE_BYTES_MIN)
            && end < beneath::stat(&self.fd)?.size
        {
            return Ok(self.read_later(offset, into.len()));
        }
        self.note_read(got);
        Ok(ReadAnswer::Now(got))
    }

    /// On a file system that cannot tell whether a read would wait: in memory it never does.
    fn read_unknown(self: &Arc<Self>, offset: u64, into: &mut [u8]) -> Result<ReadAnswer, Errno> {
        if !*self.in_memory.get_or_init(|| beneath::is_in_memory(&self.fd)) {
            return Ok(self.read_later(offset, into.len()));
        }
        let got = beneath::read_at(&self.fd, offset, into)?;
        self.note_read(got);
        Ok(ReadAnswer::Now(got))
    }

    fn read_later(self: &Arc<Self>, offset: u64, count: usize) -> ReadAnswer {
        let this = self.clone();
        ReadAnswer::Later(Job::disk(move |_| this.read_wait(offset, count)))
    }

    fn read_wait(&self, offset: u64, count: usize) -> Result<Vec<u8>, Errno> {
        let mut bytes = vec![0; count];
        let got = beneath::read_at(&self.fd, offset, &mut bytes)?;
        bytes.truncate(got);
        self.note_read(got);
        Ok(bytes)
    }

    /// So many bytes were copied.
    fn note_read(&self, got: usize) {
        if got >= SPLICE_BYTES_MIN {
            self.worth_splicing.store(true, Ordering::Relaxed);
        }
        self.share().count_read(got);
    }

    /// As [`read`](Self::read), without copies; of what is worth it. A file that was small when it was opened and has
    /// grown since is copied until a read has shown that.
    pub(crate) fn splice(
        self: &Arc<Self>,
        offset: u64,
        count: usize,
    ) -> Result<SpliceAnswer, Errno> {
        let never = !self.worth_splicing.load(Ordering::Relaxed)
            || !self.mode.read
            || self.node.kind != Kind::RegularFile
            || self.never_spliced.load(Ordering::Relaxed);
        if count < SPLICE_BYTES_MIN || never {
            return Ok(SpliceAnswer::Read);
        }
        // Clients ask for more than is left of a file.
        let size = beneath::stat(&self.fd)?.size;
        let count = usize::try_from(size.saturating_sub(offset)).unwrap_or(usize::MAX).min(count);
        if count < SPLICE_BYTES_MIN {
            return Ok(SpliceAnswer::Read);
        }
        if self.disk_of(offset, count)? == Disk::Perhaps {
            let this = self.clone();
            return Ok(SpliceAnswer::Later(Job::disk(move |_| this.read_spliced(offset, count))));
        }
        Ok(match self.pages(offset, count) {
            Some(pages) => SpliceAnswer::Now(Box::new(pages)),
            None => SpliceAnswer::Read,
        })
    }

    /// Looks at the first and the last byte of a read: the disk is asked for many at once, so seldom does only one
    /// between them lie there still.
    fn disk_of(&self, offset: u64, count: usize) -> Result<Disk, Errno> {
        let last =
            offset.saturating_add(u64::try_from(count).unwrap_or(u64::MAX)).saturating_sub(1);
        for at in [offset, last] {
            if self.reads_unknown.load(Ordering::Relaxed) {
                let in_memory = self.in_memory.get_or_init(|| beneath::is_in_memory(&self.fd));
                return Ok(if *in_memory { Disk::No } else { Disk::Perhaps });
            }
            match beneath::read_now(&self.fd, at, &mut [0])? {
                ReadNow::Got(_) => {}
                ReadNow::WouldWait => return Ok(Disk::Perhaps),
                ReadNow::Unknown => self.reads_unknown.store(true, Ordering::Relaxed),
            }
        }
        Ok(Disk::No)
    }

    /// Pages of the file; `None` when they are to be read, also for an error, which the read then finds.
    fn pages(&self, offset: u64, count: usize) -> Option<Pages> {
        match splice::take(&self.fd, offset, count) {
            Ok(Taken::Pages(pages)) => {
                self.share().count_read(pages.bytes());
                return Some(pages);
            }
            Ok(Taken::Never) => self.never_spliced.store(true, Ordering::Relaxed),
            Ok(Taken::NotNow) | Err(_) => {}
        }
        None
    }

    fn read_spliced(&self, offset: u64, count: usize) -> Result<Content, Errno> {
        match self.pages(offset, count) {
            Some(pages) => Ok(Content::Spliced(Box::new(pages))),
            None => self.read_wait(offset, count).map(Content::Bytes),
        }
    }

    pub(crate) fn write(self: &Arc<Self>, offset: u64, data: &[u8]) -> Result<Answer<u32>, Errno> {
        self.file()?;
        if !self.mode.write {
            return Err(Errno::EBADF);
        }
        if data.is_empty() {
            return Ok(Answer::Now(0));
        }
        if !self.always_waits.load(Ordering::Relaxed) {
            match beneath::write_now(&self.fd, offset, data)? {
                WriteNow::Took(count) => return Ok(Answer::Now(self.written(count))),
                WriteNow::WouldWait => return Ok(Answer::Later(self.write_later(offset, data))),
                WriteNow::Unknown => self.always_waits.store(true, Ordering::Relaxed),
            }
        }
        self.write_wait(offset, data).map(Answer::Now)
    }

    fn write_later(self: &Arc<Self>, offset: u64, data: &[u8]) -> Job<u32> {
        let (this, data, bytes) = (self.clone(), data.to_vec(), data.len());
        let job = Job::disk(move |cancel| {
            // From here on a flush waits for the write: one that landed after its flush was answered
            // could overwrite what the client wrote since.
            if !cancel.commit() {
                return Err(Errno::EINTR);
            }
            this.write_wait(offset, &data)
        });
        job.holding(bytes)
    }

    fn write_wait(&self, offset: u64, data: &[u8]) -> Result<u32, Errno> {
        Ok(self.written(beneath::write_at(&self.fd, offset, data)?))
    }

    fn written(&self, count: usize) -> u32 {
        self.share().changed();
        self.node.note(What::Content);
        self.share().count_written(count);
        u32::try_from(count).unwrap_or(u32::MAX)
    }

    pub(crate) fn sync(self: &Arc<Self>, data_only: bool) -> Answer<()> {
        let this = self.clone();
        Answer::Later(Job::disk(move |_| Ok(beneath::sync(&this.fd, data_only)?)))
    }

    /// Lists entries after a cookie, with attributes where the page wants them. Entries of which there is nothing to be
    /// seen any more are named all the same.
    pub(crate) fn list(&self, offset: u64, page: &mut DirPage<'_>) -> Result<(), Errno> {
        if self.node.kind != Kind::Directory {
            return Err(Errno::ENOTDIR);
        }
        let node = &self.node;
        beneath::list(self.fd.as_fd(), offset, LIST_BYTES, |entry| {
            // What is above the root of a share is nobody's business.
            let outside = entry.name == b".." && node.place.is_none();
            let ino = if outside { node.ino } else { entry.ino };
            let kind = Qid::kind_of_mode(u32::from(entry.kind) << 12);
            let qid = Qid { kind, version: 0, path: qid_path(node.dev, ino) };
            let (offset, kind, name) = (entry.next, entry.kind, entry.name);
            page.push(&DirEntry { qid, offset, kind, name }, || {
                let meta = match name {
                    b"." => node.meta(),
                    b".." => node.parent().meta(),
                    name => beneath::stat_at(&self.fd, name).map_err(Errno::from),
                };
                meta.ok().map(|meta| attributes::attr(&meta))
            })
        })?;
        Ok(())
    }

    fn lock_file(&self) -> Result<&OwnedFd, Errno> {
        if let Some((fd, _)) = self.lock_fd.get() {
            return Ok(fd);
        }
        let held = self.share().hold()?;
        let write = !self.share().read_only;
        let mode = OpenMode { read: true, write, ..OpenMode::default() };
        let fd = beneath::open_file_of(self.node.as_fd(), self.node.kind, mode)?;
        // Another thread may have been quicker; its descriptor may hold locks, ours does not.
        Ok(&self.lock_fd.get_or_init(|| (fd, held)).0)
    }

    pub(crate) fn lock(
        self: &Arc<Self>,
        range: LockRange,
        block: bool,
    ) -> Result<Answer<u8>, Errno> {
        self.file()?;
        let range = to_range(range)?;
        if beneath::try_lock(self.lock_file()?, range)? {
            // Also a lock that becomes a shared one lets others in.
            if range.hold != Hold::Exclusive {
                waiters::let_go(self.node.id());
            }
            return Ok(Answer::Now(lock::SUCCESS));
        }
        if !block {
            return Ok(Answer::Now(lock::BLOCKED));
        }
        let this = self.clone();
        // Linux's client asks again for a lock that is `BLOCKED`; any error would reach the program.
        let wait = Job::event(move |cancel| this.lock_wait(range, cancel));
        Ok(Answer::Later(wait.or_at_limit(lock::BLOCKED)))
    }

    fn lock_wait(&self, range: Range, cancel: &Cancel) -> Result<u8, Errno> {
        let fd = self.lock_file()?;
        waiters::wait(self.node.id(), cancel, || {
            if cancel.is_cancelled() || self.closed.load(Ordering::Acquire) {
                return Some(Err(Errno::EINTR));
            }
            match beneath::try_lock(fd, range) {
                Ok(false) => None,
                Ok(true) if cancel.commit() => Some(Ok(lock::SUCCESS)),
                Ok(true) => Some(self.unlock_again(fd, range)),
                Err(err) => Some(Err(err.into())),
            }
        })
    }

    /// The request was cancelled while its lock was granted: it must have no effect.
    fn unlock_again(&self, fd: &OwnedFd, range: Range) -> Result<u8, Errno> {
        beneath::try_lock(fd, Range { hold: Hold::Nothing, ..range })?;
        waiters::let_go(self.node.id());
        Err(Errno::EINTR)
    }

    pub(crate) fn lock_holder(&self, wanted: LockRange) -> Result<LockRange, Errno> {
        self.file()?;
        let held = beneath::lock_holder(self.lock_file()?, to_range(wanted)?)?;
        let kind = match held.hold {
            Hold::Shared => lock::READ,
            Hold::Exclusive => lock::WRITE,
            Hold::Nothing => return Ok(LockRange { kind: lock::UNLOCK, ..wanted }),
        };
        // The holder is a file handle; whose process is behind it is not known.
        Ok(LockRange { kind, start: held.start, length: held.length, proc_id: 0 })
    }
}

fn is_worth_splicing(size: u64) -> bool {
    usize::try_from(size).unwrap_or(usize::MAX) >= SPLICE_BYTES_MIN
}

fn to_range(range: LockRange) -> Result<Range, Errno> {
    let hold = match range.kind {
        lock::READ => Hold::Shared,
        lock::WRITE => Hold::Exclusive,
        lock::UNLOCK => Hold::Nothing,
        _ => return Err(Errno::EINVAL),
    };
    Ok(Range { hold, start: range.start, length: range.length })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(dir: &tempfile::TempDir) -> Arc<HostOpen> {
        std::fs::write(dir.path().join("file"), b"old").unwrap();
        let share = Arc::new(Share::new("data", dir.path(), false).unwrap());
        let (root, _) = Node::new(share.root.try_clone().unwrap(), share.clone(), None).unwrap();
        let (node, _) = root.child(b"file").unwrap();
        let mode = OpenMode { read: true, write: true, ..OpenMode::default() };
        let fd = beneath::open_file(node.as_fd(), mode).unwrap();
        let size = beneath::stat(&fd).unwrap().size;
        Arc::new(HostOpen::new(node, fd, mode, size, None))
    }

    #[test]
    fn what_is_small_or_has_no_pages_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let open = file(&dir);
        let spliced = |offset, count| match open.splice(offset, count).unwrap() {
            SpliceAnswer::Now(spliced) => Some(spliced.bytes()),
            SpliceAnswer::Later(job) => match (job.work)(&Cancel::new()).unwrap() {
                Content::Spliced(spliced) => Some(spliced.bytes()),
                Content::Bytes(bytes) => panic!("{} bytes were copied", bytes.len()),
            },
            SpliceAnswer::Read => None,
        };
        assert_eq!(spliced(0, 1 << 19), None, "the file has three bytes");
        let size = SPLICE_BYTES_MIN + 100;
        std::fs::write(dir.path().join("file"), vec![7; size]).unwrap();
        assert_eq!(spliced(0, 1 << 19), None, "nobody looks whether a small file has grown");
        let copied = |count: usize| match open.read(0, &mut vec![0; count]).unwrap() {
            ReadAnswer::Now(got) => got,
            ReadAnswer::Later(job) => (job.work)(&Cancel::new()).unwrap().len(),
        };
        assert_eq!(copied(SPLICE_BYTES_MIN - 1), SPLICE_BYTES_MIN - 1);
        assert_eq!(spliced(0, 1 << 19), None, "and no small read shows it");
        assert_eq!(copied(1 << 19), size);
        assert_eq!(spliced(0, 1 << 19), Some(size), "a large one does");
        assert_eq!(spliced(0, SPLICE_BYTES_MIN - 1), None);
        assert_eq!(spliced(0, SPLICE_BYTES_MIN), Some(SPLICE_BYTES_MIN));
        assert_eq!(spliced(100, 1 << 19), Some(SPLICE_BYTES_MIN));
        assert_eq!(spliced(101, 1 << 19), None, "too little is left");
        assert_eq!(spliced(u64::MAX, 1 << 19), None);
        open.never_spliced.store(true, Ordering::Relaxed);
        assert_eq!(spliced(0, 1 << 19), None);
        // A read that has begun to wait for the disk is not given up for it.
        let later = open.read_spliced(1, 1 << 19).unwrap();
        assert!(matches!(later, Content::Spliced(pages) if pages.bytes() == size - 1));
    }

    #[test]
    fn a_file_that_is_large_when_it_is_opened_is_never_copied() {
        let dir = tempfile::tempdir().unwrap();
        let small = file(&dir);
        for (size, first) in [(SPLICE_BYTES_MIN - 1, false), (SPLICE_BYTES_MIN, true)] {
            std::fs::write(dir.path().join("file"), vec![7; size]).unwrap();
            let opened = crate::host::open_node(&small.node, 0).unwrap();
            let open = Arc::new(opened.open);
            assert_eq!(open.worth_splicing.load(Ordering::Relaxed), first, "{size} bytes");
            let answer = open.splice(0, 1 << 19).unwrap();
            assert_eq!(!matches!(answer, SpliceAnswer::Read), first, "{size} bytes");
        }
    }

    #[test]
    fn what_is_in_memory_in_part_is_read_whole() {
        let dir = tempfile::tempdir().unwrap();
        let open = file(&dir);
        let content: Vec<u8> = (0..3 * 4096 + 5u32).map(|i| (i % 251) as u8).collect();
        std::fs::write(dir.path().join("file"), &content).unwrap();
        beneath::sync(&open.fd, false).unwrap();
        for pages in 0..=3 {
            for advice in [rustix::fs::Advice::DontNeed, rustix::fs::Advice::Random] {
                rustix::fs::fadvise(&open.fd, 0, None, advice).unwrap();
            }
            beneath::read_at(&open.fd, 0, &mut vec![0; pages * 4096]).unwrap();
            let mut into = vec![0; 1 << 15];
            match open.read(0, &mut into).unwrap() {
                ReadAnswer::Now(got) => into.truncate(got),
                ReadAnswer::Later(job) => into = (job.work)(&Cancel::new()).unwrap(),
            }
            assert!(into == content, "{pages} pages in memory gave {} bytes", into.len());
        }
    }

    #[test]
    fn a_flushed_write_never_lands_and_a_begun_one_holds_the_flush() {
        let dir = tempfile::tempdir().unwrap();
        let open = file(&dir);
        let flushed = Cancel::new();
        assert!(flushed.cancel());
        assert_eq!((open.write_later(0, b"new").work)(&flushed), Err(Errno::EINTR));
        assert_eq!(std::fs::read(dir.path().join("file")).unwrap(), b"old");
        let begun = Cancel::new();
        assert_eq!((open.write_later(0, b"new").work)(&begun), Ok(3));
        assert!(!begun.cancel(), "the flush must wait for the reply");
    }
}
