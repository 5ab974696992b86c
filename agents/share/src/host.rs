//! Host directories as a [`Backend`].

use crate::attributes;
use crate::file::HostOpen;
use crate::node::Node;
use crate::share::Share;
use crate::usage::Usage;
use goblin_core_ninep::{
    Answer, AttachRequest, Attr, Backend, DirPage, Errno, Feed, Ledger, LockRange, NewNode, Opened,
    Qid, ReadAnswer, SetAttr, SpliceAnswer, StatFs, What,
};
use goblin_sys::beneath::{self, Kind, OpenMode, Remove};
use std::collections::BTreeSet;
use std::os::fd::AsFd;
use std::sync::{Arc, Mutex, PoisonError};

/// Flags of `Tlopen` and `Tlcreate`: those of `open(2)` on x86, which 9P2000.L uses everywhere. All others
/// are masked: O_DIRECT and O_NONBLOCK are the client's business, O_PATH and O_TMPFILE are not offered.
mod flag {
    pub const ACCESS: u32 = 3;
    pub const WRITE_ONLY: u32 = 1;
    pub const READ_WRITE: u32 = 2;
    pub const EXCLUSIVE: u32 = 0o200;
    pub const TRUNCATE: u32 = 0o1000;
    pub const APPEND: u32 = 0o2000;
    pub const DSYNC: u32 = 0o10_000;
    pub const DIRECTORY: u32 = 0o200_000;
}

/// `AT_REMOVEDIR` of `Tunlinkat`.
const REMOVE_DIR: u32 = 0x200;
/// Largest extended attribute, and longest list of their names, in bytes (Linux's XATTR_SIZE_MAX and
/// XATTR_LIST_MAX).
const XATTR_BYTES_MAX: usize = 65_536;
/// `XATTR_REPLACE` of `setxattr(2)`; with an empty value it is how Linux's client removes.
const XATTR_REPLACE: u32 = 2;

/// Told of the user name of each attach, before it is answered.
pub type Arrives = Box<dyn Fn(&[u8]) + Send + Sync>;

/// What belongs to a connection besides its shares.
#[derive(Default)]
pub struct Caller {
    /// Shared by all connections of one client.
    pub ledger: Arc<Ledger>,
    /// What it uses; the shares it sees must be views that count there, too.
    pub usage: Arc<Usage>,
    /// Told when it attaches.
    pub arrives: Option<Arrives>,
}

impl std::fmt::Debug for Caller {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Caller").field("usage", &self.usage).finish_non_exhaustive()
    }
}

/// The shares as one connection sees them.
#[derive(Debug)]
pub struct HostTree {
    shares: Arc<[Arc<Share>]>,
    /// Shares this connection has attached, to count it once for each.
    attached: Mutex<BTreeSet<usize>>,
    caller: Caller,
}

impl HostTree {
    /// For one connection.
    pub fn new(shares: Arc<[Arc<Share>]>) -> Self {
        Self::with(shares, Caller::default())
    }

    /// For one connection of somebody who is known.
    pub fn with(shares: Arc<[Arc<Share>]>, caller: Caller) -> Self {
        Self { shares, attached: Mutex::new(BTreeSet::new()), caller }
    }
}

impl Drop for HostTree {
    fn drop(&mut self) {
        let attached = self.attached.get_mut().unwrap_or_else(PoisonError::into_inner);
        for share in attached.iter().filter_map(|index| self.shares.get(*index)) {
            share.client_left();
        }
    }
}

fn open_mode(flags: u32) -> Result<OpenMode, Errno> {
    let (read, write) = match flags & flag::ACCESS {
        0 => (true, false),
        flag::WRITE_ONLY => (false, true),
        flag::READ_WRITE => (true, true),
        _ => return Err(Errno::EINVAL),
    };
    Ok(OpenMode {
        read,
        write,
        append: flags & flag::APPEND != 0,
        truncate: flags & flag::TRUNCATE != 0,
        sync: flags & flag::DSYNC != 0,
    })
}

pub(crate) fn open_node(node: &Arc<Node>, flags: u32) -> Result<Opened<HostOpen>, Errno> {
    let mode = open_mode(flags)?;
    if mode.write || mode.truncate {
        node.writable()?;
    }
    let held = node.share.hold()?;
    let fd = match node.kind {
        Kind::Directory if mode.write || mode.truncate => return Err(Errno::EISDIR),
        Kind::Directory => beneath::open_dir(node)?,
        Kind::RegularFile if flags & flag::DIRECTORY != 0 => return Err(Errno::ENOTDIR),
        Kind::RegularFile => beneath::open_file_of(node.as_fd(), node.kind, mode)?,
        Kind::Symlink => return Err(Errno::ELOOP),
        // A FIFO would block, a device would act.
        _ => return Err(Errno::EPERM),
    };
    if mode.truncate {
        node.share.changed();
        node.note(What::Content);
    }
    let meta = beneath::stat(&fd)?;
    let open = HostOpen::new(node.clone(), fd, mode, meta.size, Some(held));
    Ok(Opened { open, qid: attributes::qid(&meta), iounit: 0 })
}

/// Says at its end that a file has changed.
struct Changed<'a>(&'a Node, What);

impl Drop for Changed<'_> {
    fn drop(&mut self) {
        self.0.share.changed();
        self.0.note(self.1);
    }
}

/// A name was made.
fn made(dir: &Arc<Node>, name: &[u8]) -> Result<Qid, Errno> {
    dir.share.changed();
    let (node, qid) = dir.child(name)?;
    dir.note_name(What::Made, node.path(), name);
    Ok(qid)
}

/// Two nodes of one share; names do not move between shares.
fn same_share<'a>(a: &'a Node, b: &Node) -> Result<&'a Arc<Share>, Errno> {
    if !Arc::ptr_eq(&a.share, &b.share) {
        return Err(Errno::EXDEV);
    }
    a.writable()
}

/// Access lists (`acl(5)`), as extended attributes that the kernel understands.
const ACCESS_LISTS: [&[u8]; 2] = [b"system.posix_acl_access", b"system.posix_acl_default"];

/// Extended attributes that are kept: the user's own, and access lists. Lists decide nothing here, where one user
/// owns everything; they are kept for programs that copy them, and for Linux's client, which looks at them itself.
fn is_kept_xattr(name: &[u8]) -> bool {
    (name.len() > 5 && name.starts_with(b"user.")) || ACCESS_LISTS.contains(&name)
}

/// Whether a file can carry such attributes (`xattr(7)`).
fn carries_xattrs(node: &Node) -> bool {
    matches!(node.kind, Kind::RegularFile | Kind::Directory)
}

impl Backend for HostTree {
    type Node = Node;
    type Open = HostOpen;

    fn attach(&self, request: &AttachRequest<'_>) -> Result<(Arc<Node>, Qid), Errno> {
        let name = request.aname.strip_prefix(b"/").unwrap_or(request.aname);
        let found = self.shares.iter().position(|share| share.name.as_bytes() == name);
        let (index, share) =
            found.and_then(|i| self.shares.get(i).map(|share| (i, share))).ok_or(Errno::ENOENT)?;
        if let Some(arrives) = &self.caller.arrives {
            arrives(request.uname);
        }
        let fd = share.root.try_clone()?;
        let root = Node::new(fd, share.clone(), None)?;
        let mut attached = self.attached.lock().unwrap_or_else(PoisonError::into_inner);
        if attached.insert(index) {
            share.client_came();
        }
        Ok(root)
    }

    fn asked(&self) {
        self.caller.usage.count_operation();
    }

    fn walk(&self, from: &Arc<Node>, name: &[u8]) -> Result<(Arc<Node>, Qid), Errno> {
        if name != b".." {
            return from.child(name);
        }
        if from.kind != Kind::Directory {
            return Err(Errno::ENOTDIR);
        }
        let parent = from.parent();
        let qid = attributes::qid(&parent.meta()?);
        Ok((parent, qid))
    }

    fn getattr(&self, node: &Arc<Node>, _mask: u64) -> Result<Attr, Errno> {
        node.attr()
    }

    fn setattr(
        &self,
        node: &Arc<Node>,
        open: Option<&Arc<HostOpen>>,
        change: &SetAttr,
    ) -> Result<(), Errno> {
        node.writable()?;
        let has = |bit| change.valid & bit != 0;
        if has(SetAttr::UID | SetAttr::GID) {
            // One user owns everything here; saying so again is no change.
            let meta = node.meta()?;
            let same = (!has(SetAttr::UID) || change.uid == meta.uid)
                && (!has(SetAttr::GID) || change.gid == meta.gid);
            if !same {
                return Err(Errno::EPERM);
            }
        }
        if has(SetAttr::MODE) && node.kind == Kind::Symlink {
            return Err(Errno::EOPNOTSUPP);
        }
        // Everything that can be refused beforehand is: a request that fails must not have cut the file.
        let access =
            attributes::set_time(has(SetAttr::ATIME), has(SetAttr::ATIME_SET), change.atime)?;
        let modification =
            attributes::set_time(has(SetAttr::MTIME), has(SetAttr::MTIME_SET), change.mtime)?;
        // What fails half way has changed something, too.
        let what = if has(SetAttr::SIZE) { What::Content } else { What::Attributes };
        let _changed = Changed(node, what);
        if has(SetAttr::SIZE) {
            match open.filter(|open| open.mode.write) {
                Some(open) => beneath::cut(&open.fd, change.size)?,
                None => beneath::set_size(node.as_fd(), change.size)?,
            }
        }
        if has(SetAttr::MODE) {
            beneath::set_mode(node.as_fd(), change.mode)?;
        }
        // Last: what comes before moves the times.
        if has(SetAttr::ATIME | SetAttr::MTIME) {
            beneath::set_times(node, access, modification)?;
        }
        Ok(())
    }

    fn open(&self, node: &Arc<Node>, flags: u32) -> Result<Answer<Opened<HostOpen>>, Errno> {
        open_node(node, flags).map(Answer::Now)
    }

    fn create(
        &self,
        dir: &Arc<Node>,
        name: &[u8],
        flags: u32,
        new: NewNode,
    ) -> Result<(Arc<Node>, Opened<HostOpen>), Errno> {
        let share = dir.writable()?;
        let mode = open_mode(flags)?;
        let fd = match beneath::create(dir, name, mode, new.mode).map_err(Errno::from) {
            Err(Errno::EEXIST) if flags & flag::EXCLUSIVE == 0 => {
                let (node, _) = dir.child(name)?;
                if node.kind == Kind::Directory {
                    return Err(Errno::EISDIR);
                }
                let opened = open_node(&node, flags)?;
                return Ok((node, opened));
            }
            other => other?,
        };
        share.changed();
        // Held by its descriptor: the name may lead elsewhere by now.
        let fd = Arc::new(fd);
        let place = Some((dir.clone(), name.to_vec()));
        let (node, qid) = Node::new(fd.clone(), share.clone(), place)?;
        dir.note_name(What::Made, node.path(), name);
        let open = HostOpen::new(node.clone(), fd, mode, 0, None);
        Ok((node, Opened { open, qid, iounit: 0 }))
    }

    fn read(
        &self,
        open: &Arc<HostOpen>,
        offset: u64,
        into: &mut [u8],
    ) -> Result<ReadAnswer, Errno> {
        open.read(offset, into)
    }

    fn splice(
        &self,
        open: &Arc<HostOpen>,
        offset: u64,
        count: usize,
    ) -> Result<SpliceAnswer, Errno> {
        open.splice(offset, count)
    }

    fn write(&self, open: &Arc<HostOpen>, offset: u64, data: &[u8]) -> Result<Answer<u32>, Errno> {
        open.write(offset, data)
    }

    fn readdir(
        &self,
        open: &Arc<HostOpen>,
        offset: u64,
        page: &mut DirPage<'_>,
    ) -> Result<(), Errno> {
        open.list(offset, page)
    }

    fn feed(&self, node: &Arc<Node>) -> Option<Feed> {
        Some(node.share.feed().clone())
    }

    fn sync_tree(&self, node: &Arc<Node>) -> Result<(), Errno> {
        node.share.sync_all()
    }

    fn ledger(&self) -> Option<&Ledger> {
        Some(&self.caller.ledger)
    }

    fn clunk(&self, open: &Arc<HostOpen>) {
        open.close();
    }

    fn symlink(&self, dir: &Arc<Node>, name: &[u8], target: &[u8]) -> Result<Qid, Errno> {
        dir.writable()?;
        beneath::make_link(dir, name, target)?;
        made(dir, name)
    }

    fn mknod(
        &self,
        dir: &Arc<Node>,
        name: &[u8],
        new: NewNode,
        _device: (u32, u32),
    ) -> Result<Qid, Errno> {
        dir.writable()?;
        beneath::make_node(dir, name, new.mode)?;
        made(dir, name)
    }

    fn mkdir(&self, dir: &Arc<Node>, name: &[u8], new: NewNode) -> Result<Qid, Errno> {
        dir.writable()?;
        beneath::make_dir(dir, name, new.mode)?;
        made(dir, name)
    }

    fn link(&self, dir: &Arc<Node>, file: &Arc<Node>, name: &[u8]) -> Result<(), Errno> {
        let share = same_share(dir, file)?;
        beneath::hard_link(file.as_fd(), dir, name)?;
        share.changed();
        dir.note_name(What::Made, file.path(), name);
        Ok(())
    }

    fn rename(&self, file: &Arc<Node>, dir: &Arc<Node>, name: &[u8]) -> Result<(), Errno> {
        let (old_dir, old_name) = file.found_at()?;
        self.rename_at(old_dir, old_name, dir, name)
    }

    fn rename_at(
        &self,
        old_dir: &Arc<Node>,
        old_name: &[u8],
        new_dir: &Arc<Node>,
        new_name: &[u8],
    ) -> Result<(), Errno> {
        let share = same_share(old_dir, new_dir)?;
        beneath::rename(old_dir, old_name, new_dir, new_name)?;
        share.changed();
        share.feed().moved((old_dir.path(), old_name), (new_dir.path(), new_name));
        Ok(())
    }

    fn unlink_at(&self, dir: &Arc<Node>, name: &[u8], flags: u32) -> Result<(), Errno> {
        let share = dir.writable()?;
        let what = match flags {
            0 => Remove::File,
            REMOVE_DIR => Remove::Dir,
            _ => return Err(Errno::EINVAL),
        };
        beneath::remove(dir, name, what)?;
        share.changed();
        dir.note_name(What::Removed, 0, name);
        Ok(())
    }

    fn remove(&self, node: &Arc<Node>) -> Result<(), Errno> {
        let share = node.writable()?;
        let what = if node.kind == Kind::Directory { Remove::Dir } else { Remove::File };
        let (dir, name) = node.found_at()?;
        beneath::remove(dir, name, what)?;
        share.changed();
        dir.note_name(What::Removed, 0, name);
        Ok(())
    }

    fn readlink(&self, node: &Arc<Node>) -> Result<Vec<u8>, Errno> {
        if node.kind != Kind::Symlink {
            return Err(Errno::EINVAL);
        }
        Ok(beneath::read_link(node)?)
    }

    fn fsync(&self, open: &Arc<HostOpen>, data_only: bool) -> Result<Answer<()>, Errno> {
        Ok(open.sync(data_only))
    }

    fn lock(
        &self,
        open: &Arc<HostOpen>,
        range: LockRange,
        block: bool,
    ) -> Result<Answer<u8>, Errno> {
        open.lock(range, block)
    }

    fn getlock(&self, open: &Arc<HostOpen>, range: LockRange) -> Result<LockRange, Errno> {
        open.lock_holder(range)
    }

    fn statfs(&self, node: &Arc<Node>) -> Result<StatFs, Errno> {
        Ok(attributes::stat_fs(&beneath::stat_fs(node)?, node.dev))
    }

    fn xattr(&self, node: &Arc<Node>, name: &[u8]) -> Result<Vec<u8>, Errno> {
        if name.is_empty() {
            if !carries_xattrs(node) {
                return Ok(Vec::new());
            }
            let names = beneath::xattr_names(node.as_fd(), XATTR_BYTES_MAX)?;
            let kept = names
                .split_inclusive(|byte| *byte == 0)
                .filter(|name| is_kept_xattr(name.strip_suffix(&[0]).unwrap_or(name)));
            return Ok(kept.flatten().copied().collect());
        }
        if is_kept_xattr(name) {
            if !carries_xattrs(node) {
                return Err(Errno::ENODATA);
            }
            return Ok(beneath::xattr(node.as_fd(), name, XATTR_BYTES_MAX)?);
        }
        // Linux's client asks for this one before every write that is not cached.
        if name == b"security.capability" { Err(Errno::ENODATA) } else { Err(Errno::EOPNOTSUPP) }
    }

    fn may_set_xattr(
        &self,
        node: &Arc<Node>,
        name: &[u8],
        _size: u64,
        _flags: u32,
    ) -> Result<(), Errno> {
        node.writable()?;
        match (is_kept_xattr(name), carries_xattrs(node)) {
            (true, true) => Ok(()),
            (true, false) => Err(Errno::EPERM),
            (false, _) => Err(Errno::EOPNOTSUPP),
        }
    }

    fn set_xattr(
        &self,
        node: &Arc<Node>,
        name: &[u8],
        value: &[u8],
        flags: u32,
    ) -> Result<(), Errno> {
        self.may_set_xattr(node, name, 0, flags)?;
        if value.is_empty() && flags == XATTR_REPLACE {
            beneath::remove_xattr(node.as_fd(), name)?;
        } else {
            beneath::set_xattr(node.as_fd(), name, value, flags)?;
        }
        node.share.changed();
        node.note(What::Attributes);
        Ok(())
    }
}
