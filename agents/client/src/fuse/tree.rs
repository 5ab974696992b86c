//! FUSE's calls as 9P's. A node of the kernel is a fid; an open file is another one.

use super::caller::{Caller, EndedBy, answers};
use super::locks::{Locks, range, shown_range};
use super::mux::Mux;
use super::xattrs;
use fuser::{
    FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation, INodeNo, InitFlags,
    KernelConfig, LockOwner, OpenFlags, RenameFlags, ReplyAttr, ReplyCreate, ReplyData,
    ReplyDirectory, ReplyEmpty, ReplyEntry, ReplyLock, ReplyOpen, ReplyStatfs, ReplyWrite,
    ReplyXattr, Request as Call, TimeOrNow, WriteFlags,
};
use goblin_core_ninep::wire::{Data, LateU32, Reader};
use goblin_core_ninep::{Attr, DirEntry, Errno, Names, Qid, Reply, Request, SetAttr, Time, lock};
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// How long the kernel may keep attributes and names: others change them too.
const TTL: Duration = Duration::from_secs(1);
/// Flags of `open(2)` that have had their effect in the kernel, or mean nothing at the box: `O_CREAT`, `O_EXCL`,
/// `O_NOCTTY`.
const SPENT: u32 = 0o100 | 0o200 | 0o400;
/// `O_DIRECTORY`.
const DIRECTORY: u32 = 0o200_000;
/// `AT_REMOVEDIR`.
const REMOVE_DIR: u32 = 0x200;
/// Bytes of one `Rreaddir` asked for: about what FUSE takes at once.
const READDIR_BYTES: u32 = 16 * 1024;

struct Node {
    fid: u32,
    qid: Qid,
    lookups: u64,
}

#[derive(Default)]
struct Nodes {
    by_number: BTreeMap<u64, Node>,
    by_path: BTreeMap<u64, u64>,
    next: u64,
}

pub struct Tree {
    mux: Arc<Mux>,
    nodes: Mutex<Nodes>,
    locks: Arc<Locks>,
}

fn raw(errno: Errno) -> fuser::Errno {
    fuser::Errno::from_i32(i32::try_from(errno.0).unwrap_or(5))
}

fn time_of(time: Time) -> SystemTime {
    let nanos = u32::try_from(time.nsec).unwrap_or(0);
    UNIX_EPOCH.checked_add(Duration::new(time.sec, nanos)).unwrap_or(UNIX_EPOCH)
}

fn time_from(time: SystemTime) -> Time {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    Time { sec: since.as_secs(), nsec: u64::from(since.subsec_nanos()) }
}

const fn kind_of(mode: u32) -> FileType {
    match mode & 0o170_000 {
        0o040_000 => FileType::Directory,
        0o120_000 => FileType::Symlink,
        0o010_000 => FileType::NamedPipe,
        0o020_000 => FileType::CharDevice,
        0o060_000 => FileType::BlockDevice,
        0o140_000 => FileType::Socket,
        _ => FileType::RegularFile,
    }
}

fn shown(number: u64, attr: &Attr) -> FileAttr {
    FileAttr {
        ino: INodeNo(number),
        size: attr.size,
        blocks: attr.blocks,
        atime: time_of(attr.atime),
        mtime: time_of(attr.mtime),
        ctime: time_of(attr.ctime),
        crtime: UNIX_EPOCH,
        kind: kind_of(attr.mode),
        perm: u16::try_from(attr.mode & 0o7777).unwrap_or(0),
        nlink: u32::try_from(attr.nlink).unwrap_or(u32::MAX),
        uid: attr.uid,
        gid: attr.gid,
        rdev: 0,
        blksize: 4096,
        flags: 0,
    }
}

/// A reply that says only that it was done.
macro_rules! done {
    ($tree:expr, $request:expr, $reply:pat) => {
        $tree.mux.ask(&$request, |reply| matches!(reply, $reply).then_some(()))
    };
}

impl Tree {
    /// Over a session whose fid 0 is the share's root.
    pub fn new(mux: Arc<Mux>) -> Self {
        let root = Node { fid: 0, qid: Qid::default(), lookups: u64::MAX };
        let nodes = Nodes {
            by_number: BTreeMap::from([(INodeNo::ROOT.0, root)]),
            by_path: BTreeMap::new(),
            next: INodeNo::ROOT.0.saturating_add(1),
        };
        Self { mux, nodes: Mutex::new(nodes), locks: Arc::default() }
    }

    fn nodes(&self) -> MutexGuard<'_, Nodes> {
        self.nodes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn fid(&self, number: INodeNo) -> Result<u32, Errno> {
        self.nodes().by_number.get(&number.0).map(|node| node.fid).ok_or(Errno::ESTALE)
    }

    /// A new fid, by a walk along at most one name.
    fn walk(&self, from: u32, name: Option<&OsStr>) -> Result<u32, Errno> {
        let newfid = self.mux.new_fid();
        let bytes: Vec<&[u8]> = name.iter().map(|name| name.as_bytes()).collect();
        let names = Names::new(&bytes).ok_or(Errno::ENAMETOOLONG)?;
        let request = Request::Walk { fid: from, newfid, names };
        let walked = self.mux.ask(&request, |reply| match reply {
            Reply::Walk { qids } => Some(qids.len() == bytes.len()),
            _ => None,
        });
        match walked {
            Ok(true) => Ok(newfid),
            other => {
                self.mux.free_fid(newfid);
                other.and(Err(Errno::ENOENT))
            }
        }
    }

    fn attr(&self, fid: u32) -> Result<Attr, Errno> {
        self.mux.ask(&Request::Getattr { fid, mask: Attr::BASIC }, |reply| match reply {
            Reply::Getattr { attr } => Some(*attr),
            _ => None,
        })
    }

    /// Looks a name up and counts that the kernel knows it.
    fn enter(&self, parent: INodeNo, name: &OsStr) -> Result<FileAttr, Errno> {
        let fid = self.walk(self.fid(parent)?, Some(name))?;
        let attr = match self.attr(fid) {
            Ok(attr) => attr,
            Err(err) => {
                let _ = self.mux.clunk(fid);
                return Err(err);
            }
        };
        let (number, spare) = {
            let mut nodes = self.nodes();
            let known = nodes.by_path.get(&attr.qid.path).copied();
            let node = known.and_then(|known| nodes.by_number.get_mut(&known).zip(Some(known)));
            match node {
                Some((node, known)) if node.qid.kind == attr.qid.kind => {
                    node.lookups = node.lookups.saturating_add(1);
                    (known, Some(fid))
                }
                _ => {
                    let number = nodes.next;
                    nodes.next = number.saturating_add(1);
                    nodes.by_path.insert(attr.qid.path, number);
                    nodes.by_number.insert(number, Node { fid, qid: attr.qid, lookups: 1 });
                    (number, None)
                }
            }
        };
        if let Some(spare) = spare {
            let _ = self.mux.clunk(spare);
        }
        Ok(shown(number, &attr))
    }

    fn answer(&self, parent: INodeNo, name: &OsStr, made: Result<(), Errno>, reply: ReplyEntry) {
        match made.and_then(|()| self.enter(parent, name)) {
            Ok(attr) => reply.entry(&TTL, &attr, Generation(0)),
            Err(err) => reply.error(raw(err)),
        }
    }

    fn open_fid(&self, number: INodeNo, flags: u32) -> Result<u32, Errno> {
        let fid = self.walk(self.fid(number)?, None)?;
        let opened = done!(self, Request::Lopen { fid, flags }, Reply::Lopen { .. });
        opened.map(|()| fid).inspect_err(|_| {
            let _ = self.mux.clunk(fid);
        })
    }

    fn read_all(&self, fid: u32, start: u64, size: u32) -> Result<Vec<u8>, Errno> {
        let mut all = Vec::with_capacity(usize::try_from(size).unwrap_or(0));
        self.mux.in_parts(size.into(), |done, count| {
            let offset = start.saturating_add(done);
            self.mux.ask(&Request::Read { fid, offset, count }, |reply| match reply {
                Reply::Read { data } => {
                    all.extend_from_slice(data.0);
                    u32::try_from(data.0.len()).ok()
                }
                _ => None,
            })
        })?;
        Ok(all)
    }

    fn write_all(&self, fid: u32, start: u64, data: &[u8]) -> Result<(), Errno> {
        let size = u64::try_from(data.len()).unwrap_or(u64::MAX);
        let done = self.mux.in_parts(size, |done, count| {
            let at = usize::try_from(done).unwrap_or(usize::MAX);
            let rest = data.get(at..).unwrap_or(&[]);
            let part = rest.get(..usize::try_from(count).unwrap_or(0)).unwrap_or(rest);
            let offset = start.saturating_add(done);
            self.mux.ask(&Request::Write { fid, offset, data: Data(part) }, |reply| match reply {
                Reply::Write { count } => Some(*count),
                _ => None,
            })
        })?;
        if done == size { Ok(()) } else { Err(Errno::EIO) }
    }

    fn remove(&self, parent: INodeNo, name: &OsStr, flags: u32) -> Result<(), Errno> {
        let request = Request::Unlinkat { dirfid: self.fid(parent)?, name: name.as_bytes(), flags };
        done!(self, request, Reply::Unlinkat {})
    }

    fn made(
        &self,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        flags: u32,
    ) -> Result<(u32, FileAttr), Errno> {
        let fid = self.walk(self.fid(parent)?, None)?;
        let request = Request::Lcreate { fid, name: name.as_bytes(), flags, mode, gid: 0 };
        let made = done!(self, request, Reply::Lcreate { .. });
        let entered = made.and_then(|()| self.enter(parent, name));
        entered.map(|attr| (fid, attr)).inspect_err(|_| {
            let _ = self.mux.clunk(fid);
        })
    }
}

/// A value for a program that has room for so many bytes; 0 asks how many there are.
fn value(found: Result<Vec<u8>, Errno>, room: u32, reply: ReplyXattr) {
    match found.map(|value| (u32::try_from(value.len()).unwrap_or(u32::MAX), value)) {
        Ok((bytes, _)) if room == 0 => reply.size(bytes),
        Ok((bytes, value)) if bytes <= room => reply.data(&value),
        Ok(_) => reply.error(raw(Errno::ERANGE)),
        Err(err) => reply.error(raw(err)),
    }
}

fn empty(result: Result<(), Errno>, reply: ReplyEmpty) {
    match result {
        Ok(()) => reply.ok(),
        Err(err) => reply.error(raw(err)),
    }
}

fn handle(fid: u32) -> FileHandle {
    FileHandle(u64::from(fid))
}

fn fid_of(handle: FileHandle) -> u32 {
    u32::try_from(handle.0).unwrap_or(u32::MAX)
}

impl Filesystem for Tree {
    fn init(&mut self, _: &Call, config: &mut KernelConfig) -> std::io::Result<()> {
        // A kernel without them keeps locks to itself.
        for locks in [InitFlags::FUSE_POSIX_LOCKS, InitFlags::FUSE_FLOCK_LOCKS] {
            let _ = config.add_capabilities(locks);
        }
        Ok(())
    }

    fn destroy(&mut self) {
        self.mux.end();
    }

    fn lookup(&self, call: &Call, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        answers(call.pid());
        self.answer(parent, name, Ok(()), reply);
    }

    fn forget(&self, call: &Call, number: INodeNo, count: u64) {
        answers(call.pid());
        let gone = {
            let mut nodes = self.nodes();
            let Some(node) = nodes.by_number.get_mut(&number.0) else { return };
            node.lookups = node.lookups.saturating_sub(count);
            if node.lookups > 0 || number == INodeNo::ROOT {
                return;
            }
            let (fid, path) = (node.fid, node.qid.path);
            nodes.by_number.remove(&number.0);
            if nodes.by_path.get(&path) == Some(&number.0) {
                nodes.by_path.remove(&path);
            }
            fid
        };
        let _ = self.mux.clunk(gone);
    }

    fn getattr(&self, call: &Call, number: INodeNo, open: Option<FileHandle>, reply: ReplyAttr) {
        answers(call.pid());
        let fid = open.map_or_else(|| self.fid(number), |open| Ok(fid_of(open)));
        match fid.and_then(|fid| self.attr(fid)) {
            Ok(attr) => reply.attr(&TTL, &shown(number.0, &attr)),
            Err(err) => reply.error(raw(err)),
        }
    }

    fn setattr(
        &self,
        call: &Call,
        number: INodeNo,
        mode: Option<u32>,
        uid: Option<u32>,
        gid: Option<u32>,
        size: Option<u64>,
        atime: Option<TimeOrNow>,
        mtime: Option<TimeOrNow>,
        _ctime: Option<SystemTime>,
        open: Option<FileHandle>,
        _crtime: Option<SystemTime>,
        _chgtime: Option<SystemTime>,
        _bkuptime: Option<SystemTime>,
        _flags: Option<fuser::BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        answers(call.pid());
        let mut attr = SetAttr::default();
        let mut set = |bit: u32, given: bool| {
            if given {
                attr.valid |= bit;
            }
        };
        set(SetAttr::MODE, mode.is_some());
        set(SetAttr::UID, uid.is_some());
        set(SetAttr::GID, gid.is_some());
        set(SetAttr::SIZE, size.is_some());
        set(SetAttr::ATIME, atime.is_some());
        set(SetAttr::MTIME, mtime.is_some());
        set(SetAttr::ATIME_SET, matches!(atime, Some(TimeOrNow::SpecificTime(_))));
        set(SetAttr::MTIME_SET, matches!(mtime, Some(TimeOrNow::SpecificTime(_))));
        attr.mode = mode.unwrap_or(0) & 0o7777;
        (attr.uid, attr.gid) = (uid.unwrap_or(0), gid.unwrap_or(0));
        attr.size = size.unwrap_or(0);
        let at = |time: Option<TimeOrNow>| match time {
            Some(TimeOrNow::SpecificTime(time)) => time_from(time),
            _ => Time::default(),
        };
        (attr.atime, attr.mtime) = (at(atime), at(mtime));
        let fid = open.map_or_else(|| self.fid(number), |open| Ok(fid_of(open)));
        let done = fid.and_then(|fid| {
            done!(self, Request::Setattr { fid, attr }, Reply::Setattr {})?;
            self.attr(fid)
        });
        match done {
            Ok(attr) => reply.attr(&TTL, &shown(number.0, &attr)),
            Err(err) => reply.error(raw(err)),
        }
    }

    fn readlink(&self, call: &Call, number: INodeNo, reply: ReplyData) {
        answers(call.pid());
        let target = self.fid(number).and_then(|fid| {
            self.mux.ask(&Request::Readlink { fid }, |reply| match reply {
                Reply::Readlink { target } => Some(target.to_vec()),
                _ => None,
            })
        });
        match target {
            Ok(target) => reply.data(&target),
            Err(err) => reply.error(raw(err)),
        }
    }

    fn mknod(
        &self,
        call: &Call,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        _device: u32,
        reply: ReplyEntry,
    ) {
        answers(call.pid());
        let made = self.fid(parent).and_then(|dfid| {
            let (name, mode) = (name.as_bytes(), mode & !umask);
            let request = Request::Mknod { dfid, name, mode, major: 0, minor: 0, gid: 0 };
            done!(self, request, Reply::Mknod { .. })
        });
        self.answer(parent, name, made, reply);
    }

    fn mkdir(
        &self,
        call: &Call,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        reply: ReplyEntry,
    ) {
        answers(call.pid());
        let made = self.fid(parent).and_then(|dfid| {
            let (name, mode) = (name.as_bytes(), mode & !umask);
            done!(self, Request::Mkdir { dfid, name, mode, gid: 0 }, Reply::Mkdir { .. })
        });
        self.answer(parent, name, made, reply);
    }

    fn unlink(&self, call: &Call, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        answers(call.pid());
        empty(self.remove(parent, name, 0), reply);
    }

    fn rmdir(&self, call: &Call, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        answers(call.pid());
        empty(self.remove(parent, name, REMOVE_DIR), reply);
    }

    fn symlink(
        &self,
        call: &Call,
        parent: INodeNo,
        name: &OsStr,
        target: &Path,
        reply: ReplyEntry,
    ) {
        answers(call.pid());
        let made = self.fid(parent).and_then(|fid| {
            let (link, target) = (name.as_bytes(), target.as_os_str().as_bytes());
            let request = Request::Symlink { fid, name: link, target, gid: 0 };
            done!(self, request, Reply::Symlink { .. })
        });
        self.answer(parent, name, made, reply);
    }

    fn rename(
        &self,
        call: &Call,
        parent: INodeNo,
        name: &OsStr,
        newparent: INodeNo,
        newname: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        answers(call.pid());
        let moved = || {
            if !flags.is_empty() {
                return Err(Errno::EINVAL);
            }
            let request = Request::Renameat {
                olddirfid: self.fid(parent)?,
                oldname: name.as_bytes(),
                newdirfid: self.fid(newparent)?,
                newname: newname.as_bytes(),
            };
            done!(self, request, Reply::Renameat {})
        };
        empty(moved(), reply);
    }

    fn link(
        &self,
        call: &Call,
        number: INodeNo,
        newparent: INodeNo,
        newname: &OsStr,
        reply: ReplyEntry,
    ) {
        answers(call.pid());
        let linked = || {
            let (dfid, fid) = (self.fid(newparent)?, self.fid(number)?);
            done!(self, Request::Link { dfid, fid, name: newname.as_bytes() }, Reply::Link {})
        };
        self.answer(newparent, newname, linked(), reply);
    }

    fn open(&self, call: &Call, number: INodeNo, flags: OpenFlags, reply: ReplyOpen) {
        answers(call.pid());
        let flags = u32::try_from(flags.0).unwrap_or(0) & !SPENT;
        match self.open_fid(number, flags) {
            Ok(fid) => reply.opened(handle(fid), FopenFlags::empty()),
            Err(err) => reply.error(raw(err)),
        }
    }

    fn read(
        &self,
        call: &Call,
        _: INodeNo,
        open: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        answers(call.pid());
        match self.read_all(fid_of(open), offset, size) {
            Ok(bytes) => reply.data(&bytes),
            Err(err) => reply.error(raw(err)),
        }
    }

    fn write(
        &self,
        call: &Call,
        _: INodeNo,
        open: FileHandle,
        offset: u64,
        data: &[u8],
        _: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        answers(call.pid());
        match self.write_all(fid_of(open), offset, data) {
            Ok(()) => reply.written(u32::try_from(data.len()).unwrap_or(u32::MAX)),
            Err(err) => reply.error(raw(err)),
        }
    }

    fn flush(
        &self,
        call: &Call,
        number: INodeNo,
        _: FileHandle,
        owner: LockOwner,
        reply: ReplyEmpty,
    ) {
        answers(call.pid());
        self.locks.let_go(&self.mux, (number.0, owner.0));
        reply.ok();
    }

    fn getlk(
        &self,
        call: &Call,
        number: INodeNo,
        _: FileHandle,
        owner: LockOwner,
        start: u64,
        end: u64,
        kind: i32,
        pid: u32,
        reply: ReplyLock,
    ) {
        answers(call.pid());
        let held = range(start, end, kind, pid).and_then(|range| {
            let who = ((number.0, owner.0), self.fid(number)?);
            self.locks.holder(&self.mux, who, range)
        });
        match held {
            Ok(held) => {
                let (start, end, kind) = shown_range(held);
                reply.locked(start, end, kind, held.proc_id);
            }
            Err(err) => reply.error(raw(err)),
        }
    }

    fn setlk(
        &self,
        call: &Call,
        number: INodeNo,
        _: FileHandle,
        owner: LockOwner,
        start: u64,
        end: u64,
        kind: i32,
        pid: u32,
        sleep: bool,
        reply: ReplyEmpty,
    ) {
        answers(call.pid());
        let (locks, mux) = (self.locks.clone(), self.mux.clone());
        let caller = Caller::now(EndedBy::Any);
        let wanted = range(start, end, kind, pid)
            .and_then(|range| Ok((((number.0, owner.0), self.fid(number)?), range)));
        let (who, range) = match wanted {
            Ok(wanted) => wanted,
            Err(err) => return reply.error(raw(err)),
        };
        if !sleep {
            return empty(locks.set(&mux, who, range, 0, caller), reply);
        }
        let place = match locks.wait() {
            Ok(place) => place,
            Err(err) => return reply.error(raw(err)),
        };
        // A thread of its own: those that answer calls are few. Without one the reply goes with the closure, and the
        // kernel hears `EIO`.
        let waits = move || {
            let _place = place;
            empty(locks.set(&mux, who, range, lock::FLAG_BLOCK, caller), reply);
        };
        let _ = std::thread::Builder::new().name("fuse-lock".into()).spawn(waits);
    }

    fn setxattr(
        &self,
        call: &Call,
        number: INodeNo,
        name: &OsStr,
        value: &[u8],
        flags: i32,
        _: u32,
        reply: ReplyEmpty,
    ) {
        answers(call.pid());
        let flags = u32::try_from(flags).unwrap_or(0);
        let set = |fid| xattrs::set(&self.mux, fid, name.as_bytes(), value, flags);
        empty(self.fid(number).and_then(set), reply);
    }

    fn getxattr(&self, call: &Call, number: INodeNo, name: &OsStr, size: u32, reply: ReplyXattr) {
        answers(call.pid());
        let get = |fid| xattrs::get(&self.mux, fid, name.as_bytes());
        value(self.fid(number).and_then(get), size, reply);
    }

    fn listxattr(&self, call: &Call, number: INodeNo, size: u32, reply: ReplyXattr) {
        answers(call.pid());
        value(self.fid(number).and_then(|fid| xattrs::get(&self.mux, fid, b"")), size, reply);
    }

    fn removexattr(&self, call: &Call, number: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        answers(call.pid());
        let remove = |fid| xattrs::remove(&self.mux, fid, name.as_bytes());
        empty(self.fid(number).and_then(remove), reply);
    }

    fn release(
        &self,
        call: &Call,
        number: INodeNo,
        open: FileHandle,
        _: OpenFlags,
        owner: Option<LockOwner>,
        _: bool,
        reply: ReplyEmpty,
    ) {
        answers(call.pid());
        // `flock(2)` is the open file's own.
        if let Some(owner) = owner {
            self.locks.let_go(&self.mux, (number.0, owner.0));
        }
        empty(self.mux.clunk(fid_of(open)), reply);
    }

    fn fsync(&self, call: &Call, _: INodeNo, open: FileHandle, data_only: bool, reply: ReplyEmpty) {
        answers(call.pid());
        let datasync = LateU32(u32::from(data_only));
        empty(done!(self, Request::Fsync { fid: fid_of(open), datasync }, Reply::Fsync {}), reply);
    }

    fn opendir(&self, call: &Call, number: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        answers(call.pid());
        match self.open_fid(number, DIRECTORY) {
            Ok(fid) => reply.opened(handle(fid), FopenFlags::empty()),
            Err(err) => reply.error(raw(err)),
        }
    }

    fn readdir(
        &self,
        call: &Call,
        _: INodeNo,
        open: FileHandle,
        offset: u64,
        mut reply: ReplyDirectory,
    ) {
        answers(call.pid());
        let count = READDIR_BYTES.min(self.mux.payload_max());
        let request = Request::Readdir { fid: fid_of(open), offset, count };
        let listed = self.mux.ask(&request, |answer| {
            let Reply::Readdir { data } = answer else { return None };
            let mut from = Reader::new(data.0);
            while !from.rest().is_empty() {
                let entry: DirEntry<'_> = from.get().ok()?;
                let kind = kind_of(u32::from(entry.kind).checked_shl(12)?);
                // Numbers are only shown: the kernel looks every name up before it uses it.
                let number = INodeNo(entry.qid.path.max(2));
                if reply.add(number, entry.offset, kind, OsStr::from_bytes(entry.name)) {
                    break;
                }
            }
            Some(())
        });
        match listed {
            Ok(()) => reply.ok(),
            Err(err) => reply.error(raw(err)),
        }
    }

    fn releasedir(
        &self,
        call: &Call,
        _: INodeNo,
        open: FileHandle,
        _: OpenFlags,
        reply: ReplyEmpty,
    ) {
        answers(call.pid());
        empty(self.mux.clunk(fid_of(open)), reply);
    }

    fn fsyncdir(
        &self,
        call: &Call,
        number: INodeNo,
        open: FileHandle,
        data_only: bool,
        reply: ReplyEmpty,
    ) {
        self.fsync(call, number, open, data_only, reply);
    }

    fn statfs(&self, call: &Call, number: INodeNo, reply: ReplyStatfs) {
        answers(call.pid());
        let found = self.fid(number).and_then(|fid| {
            self.mux.ask(&Request::StatFs { fid }, |reply| match reply {
                Reply::StatFs { stat } => Some(*stat),
                _ => None,
            })
        });
        match found {
            Ok(stat) => reply.statfs(
                stat.blocks,
                stat.blocks_free,
                stat.blocks_available,
                stat.files,
                stat.files_free,
                stat.block_bytes,
                stat.name_bytes_max,
                stat.block_bytes,
            ),
            Err(err) => reply.error(raw(err)),
        }
    }

    fn create(
        &self,
        call: &Call,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        flags: i32,
        reply: ReplyCreate,
    ) {
        answers(call.pid());
        // `O_CREAT` and `O_EXCL` mean something here.
        let flags = u32::try_from(flags).unwrap_or(0) & !0o400;
        match self.made(parent, name, mode & !umask, flags) {
            Ok((fid, attr)) => {
                reply.created(&TTL, &attr, Generation(0), handle(fid), FopenFlags::empty());
            }
            Err(err) => reply.error(raw(err)),
        }
    }
}
