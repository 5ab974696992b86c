//! What fids point at: files held by O_PATH descriptors.

use crate::attributes;
use crate::share::Share;
use crate::usage::Held;
use crate::waiters::FileId;
use goblin_core_ninep::{Attr, Errno, Qid, What};
use goblin_sys::beneath::{self, Kind, Meta};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long what a walk saw may answer the getattr that follows it. Linux's client asks within a round
/// trip; changes by other 9P clients are known at once, this bounds those made on the board itself.
const FRESH: Duration = Duration::from_millis(20);

struct Seen {
    meta: Meta,
    at: Instant,
    changes: u64,
}

/// Directories between a share's root and a file at most: as many as a path of Linux can name (PATH_MAX).
/// Every one of them is held by a descriptor.
const DEPTH_MAX: u32 = 2048;

/// A held file.
pub struct Node {
    /// O_PATH, but for a file that was created by its fid: that one shares the descriptor it was created with.
    fd: Arc<OwnedFd>,
    pub(crate) share: Arc<Share>,
    /// The directory it was walked from, and its name there; `None` at the root of the share. A later
    /// rename does not change it, so it is checked before it is used.
    pub(crate) place: Option<(Arc<Self>, Vec<u8>)>,
    pub(crate) dev: u64,
    pub(crate) ino: u64,
    pub(crate) kind: Kind,
    depth: u32,
    seen: Mutex<Option<Seen>>,
    _held: Held,
}

/// One after the other: the compiler's own way takes some stack for every directory above.
impl Drop for Node {
    fn drop(&mut self) {
        let mut above = self.place.take();
        while let Some((node, _)) = above {
            above = Arc::into_inner(node).and_then(|mut node| node.place.take());
        }
    }
}

impl std::fmt::Debug for Node {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Node").field("dev", &self.dev).field("ino", &self.ino).finish()
    }
}

impl AsFd for Node {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Node {
    /// Looks at a file and holds it.
    pub(crate) fn new(
        fd: impl Into<Arc<OwnedFd>>,
        share: Arc<Share>,
        place: Option<(Arc<Self>, Vec<u8>)>,
    ) -> Result<(Arc<Self>, Qid), Errno> {
        let fd = fd.into();
        let _held = share.hold()?;
        // Counted before looking: a change in between makes what was seen untrue.
        let changes = share.change_count();
        let meta = beneath::stat(&fd)?;
        let qid = attributes::qid(&meta);
        let seen = Mutex::new(Some(Seen { meta, at: Instant::now(), changes }));
        let (dev, ino, kind) = (meta.dev, meta.ino, meta.kind());
        let depth = place.as_ref().map_or(0, |(above, _)| above.depth.saturating_add(1));
        Ok((Arc::new(Self { fd, share, place, dev, ino, kind, depth, seen, _held }), qid))
    }

    /// Attributes as of now, or as the walk saw them a moment ago.
    pub(crate) fn attr(&self) -> Result<Attr, Errno> {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner).take();
        let seen = seen
            .filter(|seen| seen.changes == self.share.change_count() && seen.at.elapsed() < FRESH);
        let meta = match seen {
            Some(seen) => seen.meta,
            None => beneath::stat(&self.fd)?,
        };
        Ok(attributes::attr(&meta))
    }

    /// Attributes as of now.
    pub(crate) fn meta(&self) -> Result<Meta, Errno> {
        Ok(beneath::stat(&self.fd)?)
    }

    /// `qid.path` of the file.
    pub(crate) const fn path(&self) -> u64 {
        attributes::qid_path(self.dev, self.ino)
    }

    /// Tells the feed that the file has changed; call it before the reply.
    pub(crate) fn note(&self, what: What) {
        self.share.feed().note(what, 0, self.path(), b"");
    }

    /// Tells the feed that a name in this directory has changed; call it before the reply.
    pub(crate) fn note_name(&self, what: What, file: u64, name: &[u8]) {
        self.share.feed().note(what, self.path(), file, name);
    }

    /// Which file it is on this machine.
    pub(crate) const fn id(&self) -> FileId {
        (self.dev, self.ino)
    }

    /// One step to a name below.
    pub(crate) fn child(self: &Arc<Self>, name: &[u8]) -> Result<(Arc<Self>, Qid), Errno> {
        if self.kind != Kind::Directory {
            return Err(Errno::ENOTDIR);
        }
        if self.depth >= DEPTH_MAX {
            return Err(Errno::ENAMETOOLONG);
        }
        let fd = beneath::step(&self.fd, name)?;
        Self::new(fd, self.share.clone(), Some((self.clone(), name.to_vec())))
    }

    /// The directory above; the root of a share is its own.
    pub(crate) fn parent(self: &Arc<Self>) -> Arc<Self> {
        self.place.as_ref().map_or_else(|| self.clone(), |(parent, _)| parent.clone())
    }

    /// Directory and name under which the file can be found now.
    ///
    /// # Errors
    /// `EBUSY` for the root of a share; `ESTALE` when the name leads to another file by now.
    pub(crate) fn found_at(&self) -> Result<(&Arc<Self>, &[u8]), Errno> {
        let (parent, name) = self.place.as_ref().ok_or(Errno::EBUSY)?;
        let there = beneath::stat(beneath::step(&parent.fd, name)?)?;
        if (there.dev, there.ino) == (self.dev, self.ino) {
            Ok((parent, name))
        } else {
            Err(Errno::ESTALE)
        }
    }

    /// The share, when it may be changed.
    pub(crate) fn writable(&self) -> Result<&Arc<Share>, Errno> {
        if self.share.read_only { Err(Errno::EROFS) } else { Ok(&self.share) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deep_tree_needs_no_deep_stack() {
        let dir = tempfile::tempdir().unwrap();
        let share = Arc::new(Share::new("data", dir.path(), false).unwrap());
        let hold = || share.root.try_clone().unwrap();
        let (mut node, _) = Node::new(hold(), share.clone(), None).unwrap();
        for _ in 0..800 {
            node = Node::new(hold(), share.clone(), Some((node, b"x".to_vec()))).unwrap().0;
        }
        let small = std::thread::Builder::new().stack_size(32 * 1024);
        small.spawn(move || drop(node)).unwrap().join().unwrap();
        assert_eq!(Arc::strong_count(&share), 1, "every directory was let go");
    }

    #[test]
    fn depth_has_a_limit() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("x")).unwrap();
        let share = Arc::new(Share::new("data", dir.path(), false).unwrap());
        let (root, _) = Node::new(share.root.try_clone().unwrap(), share.clone(), None).unwrap();
        let mut deep = Arc::into_inner(root).unwrap();
        deep.depth = DEPTH_MAX;
        assert_eq!(Arc::new(deep).child(b"x").unwrap_err(), Errno::ENAMETOOLONG);
    }
}
