//! Every message in the peer's words, and the same in ours.

use goblin_core_ninep::wire::Data;
use goblin_core_ninep::{Attr, Names, Qid, Qids, Reply, Request, SetAttr, StatFs, Time};
use proptest::prelude::*;
use rs9p::FCall::{self, *};
use rs9p::{
    Flock, GetAttrMask, Getlock, LockFlag, LockStatus, LockType, QId, QIdType, SetAttrMask,
};

/// What the fields of messages are filled with.
#[derive(Debug, Clone)]
pub struct Values {
    pub numbers: [u32; 5],
    pub large: [u64; 14],
    pub small: u8,
    pub names: Vec<String>,
    pub data: Vec<u8>,
}

impl Values {
    pub fn any() -> impl Strategy<Value = Self> {
        let names = prop::collection::vec("\\PC{0,24}", 2..=16);
        let data = prop::collection::vec(any::<u8>(), 0..300);
        (any::<[u32; 5]>(), any::<[u64; 14]>(), any::<u8>(), names, data).prop_map(
            |(numbers, large, small, names, data)| Self { numbers, large, small, names, data },
        )
    }

    pub fn sample() -> Self {
        let names = vec!["a".into(), "b".into()];
        Self { numbers: [1; 5], large: [2; 14], small: 3, names, data: vec![4] }
    }

    fn qid(&self, salt: u64) -> QId {
        let typ = QIdType::from_bits_truncate(self.small);
        QId { typ, version: self.numbers[0], path: self.large[0] ^ salt }
    }

    fn qids(&self) -> Vec<QId> {
        (0..self.names.len() as u64).map(|salt| self.qid(salt)).collect()
    }

    fn time(&self, at: usize) -> rs9p::Time {
        rs9p::Time { sec: self.large[at], nsec: self.large[at + 1] }
    }
}

pub fn every_message(v: &Values) -> Vec<FCall> {
    let mut all = requests(v);
    all.extend(requests_of_files(v));
    all.extend(replies(v));
    all.extend(replies_with_records(v));
    all
}

fn requests(v: &Values) -> Vec<FCall> {
    let [fid, b, c, d, e] = v.numbers;
    let [x, y, ..] = v.large;
    let (name, other) = (v.names[0].clone(), v.names[1].clone());
    vec![
        TVersion { msize: fid, version: name.clone() },
        TAuth { afid: fid, uname: name.clone(), aname: other.clone(), n_uname: b },
        TAttach { fid, afid: b, uname: name.clone(), aname: other.clone(), n_uname: c },
        TFlush { oldtag: (fid & 0xffff) as u16 },
        TWalk { fid, newfid: b, wnames: v.names.clone() },
        TWalk { fid, newfid: b, wnames: Vec::new() },
        TRead { fid, offset: x, count: b },
        TWrite { fid, offset: x, data: rs9p::Data(v.data.clone()) },
        TClunk { fid },
        TRemove { fid },
        TStatFs { fid },
        TlOpen { fid, flags: b },
        TlCreate { fid, name: name.clone(), flags: b, mode: c, gid: d },
        TSymlink { fid, name: name.clone(), symtgt: other.clone(), gid: b },
        TMkNod { dfid: fid, name: name.clone(), mode: b, major: c, minor: d, gid: e },
        TRename { fid, dfid: b, name: name.clone() },
        TReadLink { fid },
        TxAttrWalk { fid, newfid: b, name: name.clone() },
        TxAttrCreate { fid, name: name.clone(), attr_size: x, flags: b },
        TReadDir { fid, offset: y, count: b },
        TLink { dfid: fid, fid: b, name: name.clone() },
        TMkDir { dfid: fid, name: name.clone(), mode: b, gid: c },
        TRenameAt { olddirfid: fid, oldname: name.clone(), newdirfid: b, newname: other },
        TUnlinkAt { dirfd: fid, name, flags: b },
    ]
}

fn requests_of_files(v: &Values) -> Vec<FCall> {
    let [fid, b, c, d, _] = v.numbers;
    let [start, length, size, ..] = v.large;
    let typ = LockType::from_bits_truncate(v.small);
    let client_id = v.names[0].clone();
    let stat = rs9p::SetAttr { mode: b, uid: c, gid: d, size, atime: v.time(3), mtime: v.time(5) };
    let flags = LockFlag::from_bits_truncate(b);
    let flock = Flock { typ, flags, start, length, proc_id: c, client_id: client_id.clone() };
    vec![
        TGetAttr { fid, req_mask: GetAttrMask::from_bits_truncate(start) },
        TSetAttr { fid, valid: SetAttrMask::from_bits_truncate(c), stat },
        TLock { fid, flock },
        TGetLock { fid, flock: Getlock { typ, start, length, proc_id: c, client_id } },
    ]
}

fn replies(v: &Values) -> Vec<FCall> {
    let [a, ..] = v.numbers;
    let (qid, name) = (v.qid(0), v.names[0].clone());
    vec![
        RlError { ecode: a },
        RVersion { msize: a, version: name.clone() },
        RAuth { aqid: qid },
        RAttach { qid },
        RFlush,
        RWalk { wqids: v.qids() },
        RWalk { wqids: Vec::new() },
        RRead { data: rs9p::Data(v.data.clone()) },
        RWrite { count: a },
        RClunk,
        RRemove,
        RlOpen { qid, iounit: a },
        RlCreate { qid, iounit: a },
        RSymlink { qid },
        RMkNod { qid },
        RRename,
        RReadLink { target: name },
        RSetAttr,
        RxAttrWalk { size: v.large[0] },
        RxAttrCreate,
        RFSync,
        RLock { status: LockStatus::from_bits_truncate(v.small) },
        RLink,
        RMkDir { qid },
        RRenameAt,
        RUnlinkAt,
    ]
}

fn replies_with_records(v: &Values) -> Vec<FCall> {
    let [a, b, c, ..] = v.numbers;
    let l = v.large;
    let statfs = rs9p::StatFs {
        typ: a,
        bsize: b,
        blocks: l[0],
        bfree: l[1],
        bavail: l[2],
        files: l[3],
        ffree: l[4],
        fsid: l[5],
        namelen: c,
    };
    let stat = rs9p::Stat {
        mode: a,
        uid: b,
        gid: c,
        nlink: l[0],
        rdev: l[1],
        size: l[2],
        blksize: l[3],
        blocks: l[4],
        atime: v.time(5),
        mtime: v.time(7),
        ctime: v.time(9),
    };
    let typ = LockType::from_bits_truncate(v.small);
    let client_id = v.names[0].clone();
    let valid = GetAttrMask::from_bits_truncate(l[11]);
    vec![
        RStatFs { statfs },
        RGetAttr { valid, qid: v.qid(1), stat },
        RGetLock { flock: Getlock { typ, start: l[0], length: l[1], proc_id: a, client_id } },
    ]
}

/// The same message in our words.
#[derive(Debug)]
pub enum Ours<'a> {
    Request(Request<'a>),
    Reply(Reply<'a>),
}

fn qid(theirs: QId) -> Qid {
    Qid { kind: theirs.typ.bits(), version: theirs.version, path: theirs.path }
}

fn time(theirs: rs9p::Time) -> Time {
    Time { sec: theirs.sec, nsec: theirs.nsec }
}

pub fn ours(theirs: &FCall) -> Ours<'_> {
    our_request(theirs)
        .or_else(|| our_request_of_file(theirs))
        .map(Ours::Request)
        .or_else(|| our_reply(theirs).or_else(|| our_record_reply(theirs)).map(Ours::Reply))
        .unwrap_or_else(|| panic!("{theirs:?} is not compared"))
}

fn our_request(theirs: &FCall) -> Option<Request<'_>> {
    Some(match theirs {
        TVersion { msize, version } => {
            Request::Version { msize: *msize, version: version.as_bytes() }
        }
        TAuth { afid, uname, aname, n_uname } => Request::Auth {
            afid: *afid,
            uname: uname.as_bytes(),
            aname: aname.as_bytes(),
            n_uname: *n_uname,
        },
        TAttach { fid, afid, uname, aname, n_uname } => Request::Attach {
            fid: *fid,
            afid: *afid,
            uname: uname.as_bytes(),
            aname: aname.as_bytes(),
            n_uname: *n_uname,
        },
        TFlush { oldtag } => Request::Flush { oldtag: *oldtag },
        TWalk { fid, newfid, wnames } => {
            let names: Vec<&[u8]> = wnames.iter().map(|name| name.as_bytes()).collect();
            Request::Walk { fid: *fid, newfid: *newfid, names: Names::new(&names).unwrap() }
        }
        TRead { fid, offset, count } => Request::Read { fid: *fid, offset: *offset, count: *count },
        TWrite { fid, offset, data } => {
            Request::Write { fid: *fid, offset: *offset, data: Data(&data.0) }
        }
        TClunk { fid } => Request::Clunk { fid: *fid },
        TRemove { fid } => Request::Remove { fid: *fid },
        TStatFs { fid } => Request::StatFs { fid: *fid },
        TlOpen { fid, flags } => Request::Lopen { fid: *fid, flags: *flags },
        TReadLink { fid } => Request::Readlink { fid: *fid },
        TGetAttr { fid, req_mask } => Request::Getattr { fid: *fid, mask: req_mask.bits() },
        TReadDir { fid, offset, count } => {
            Request::Readdir { fid: *fid, offset: *offset, count: *count }
        }
        TSetAttr { fid, valid, stat } => Request::Setattr {
            fid: *fid,
            attr: SetAttr {
                valid: valid.bits(),
                mode: stat.mode,
                uid: stat.uid,
                gid: stat.gid,
                size: stat.size,
                atime: time(stat.atime),
                mtime: time(stat.mtime),
            },
        },
        _ => return None,
    })
}

fn our_request_of_file(theirs: &FCall) -> Option<Request<'_>> {
    Some(match theirs {
        TlCreate { fid, name, flags, mode, gid } => {
            let name = name.as_bytes();
            Request::Lcreate { fid: *fid, name, flags: *flags, mode: *mode, gid: *gid }
        }
        TSymlink { fid, name, symtgt, gid } => {
            let (name, target) = (name.as_bytes(), symtgt.as_bytes());
            Request::Symlink { fid: *fid, name, target, gid: *gid }
        }
        TMkNod { dfid, name, mode, major, minor, gid } => Request::Mknod {
            dfid: *dfid,
            name: name.as_bytes(),
            mode: *mode,
            major: *major,
            minor: *minor,
            gid: *gid,
        },
        TRename { fid, dfid, name } => {
            Request::Rename { fid: *fid, dfid: *dfid, name: name.as_bytes() }
        }
        TxAttrWalk { fid, newfid, name } => {
            Request::Xattrwalk { fid: *fid, newfid: *newfid, name: name.as_bytes() }
        }
        TxAttrCreate { fid, name, attr_size, flags } => {
            let name = name.as_bytes();
            Request::Xattrcreate { fid: *fid, name, size: *attr_size, flags: *flags }
        }
        TLock { fid, flock } => Request::Lock {
            fid: *fid,
            kind: flock.typ.bits(),
            flags: flock.flags.bits(),
            start: flock.start,
            length: flock.length,
            proc_id: flock.proc_id,
            client_id: flock.client_id.as_bytes(),
        },
        TGetLock { fid, flock } => Request::Getlock {
            fid: *fid,
            kind: flock.typ.bits(),
            start: flock.start,
            length: flock.length,
            proc_id: flock.proc_id,
            client_id: flock.client_id.as_bytes(),
        },
        TLink { dfid, fid, name } => {
            Request::Link { dfid: *dfid, fid: *fid, name: name.as_bytes() }
        }
        TMkDir { dfid, name, mode, gid } => {
            Request::Mkdir { dfid: *dfid, name: name.as_bytes(), mode: *mode, gid: *gid }
        }
        TRenameAt { olddirfid, oldname, newdirfid, newname } => Request::Renameat {
            olddirfid: *olddirfid,
            oldname: oldname.as_bytes(),
            newdirfid: *newdirfid,
            newname: newname.as_bytes(),
        },
        TUnlinkAt { dirfd, name, flags } => {
            Request::Unlinkat { dirfid: *dirfd, name: name.as_bytes(), flags: *flags }
        }
        _ => return None,
    })
}

fn our_reply(theirs: &FCall) -> Option<Reply<'_>> {
    Some(match theirs {
        RlError { ecode } => Reply::Error { ecode: *ecode },
        RVersion { msize, version } => {
            Reply::Version { msize: *msize, version: version.as_bytes() }
        }
        RAuth { aqid } => Reply::Auth { aqid: qid(*aqid) },
        RAttach { qid: q } => Reply::Attach { qid: qid(*q) },
        RFlush => Reply::Flush {},
        RWalk { wqids } => {
            let mut qids = Qids::default();
            assert!(wqids.iter().all(|q| qids.push(qid(*q))));
            Reply::Walk { qids }
        }
        RRead { data } => Reply::Read { data: Data(&data.0) },
        RWrite { count } => Reply::Write { count: *count },
        RClunk => Reply::Clunk {},
        RRemove => Reply::Remove {},
        RlOpen { qid: q, iounit } => Reply::Lopen { qid: qid(*q), iounit: *iounit },
        RlCreate { qid: q, iounit } => Reply::Lcreate { qid: qid(*q), iounit: *iounit },
        RSymlink { qid: q } => Reply::Symlink { qid: qid(*q) },
        RMkNod { qid: q } => Reply::Mknod { qid: qid(*q) },
        RRename => Reply::Rename {},
        RReadLink { target } => Reply::Readlink { target: target.as_bytes() },
        RSetAttr => Reply::Setattr {},
        RxAttrWalk { size } => Reply::Xattrwalk { size: *size },
        RxAttrCreate => Reply::Xattrcreate {},
        RFSync => Reply::Fsync {},
        RLock { status } => Reply::Lock { status: status.bits() },
        RLink => Reply::Link {},
        RMkDir { qid: q } => Reply::Mkdir { qid: qid(*q) },
        RRenameAt => Reply::Renameat {},
        RUnlinkAt => Reply::Unlinkat {},
        _ => return None,
    })
}

fn our_record_reply(theirs: &FCall) -> Option<Reply<'_>> {
    Some(match theirs {
        RStatFs { statfs } => Reply::StatFs {
            stat: StatFs {
                kind: statfs.typ,
                block_bytes: statfs.bsize,
                blocks: statfs.blocks,
                blocks_free: statfs.bfree,
                blocks_available: statfs.bavail,
                files: statfs.files,
                files_free: statfs.ffree,
                fsid: statfs.fsid,
                name_bytes_max: statfs.namelen,
            },
        },
        RGetAttr { valid, qid: q, stat } => Reply::Getattr {
            attr: Attr {
                valid: valid.bits(),
                qid: qid(*q),
                mode: stat.mode,
                uid: stat.uid,
                gid: stat.gid,
                nlink: stat.nlink,
                rdev: stat.rdev,
                size: stat.size,
                blksize: stat.blksize,
                blocks: stat.blocks,
                atime: time(stat.atime),
                mtime: time(stat.mtime),
                ctime: time(stat.ctime),
                // The peer has no fields for the rest, and writes zeros.
                ..Attr::default()
            },
        },
        RGetLock { flock } => Reply::Getlock {
            kind: flock.typ.bits(),
            start: flock.start,
            length: flock.length,
            proc_id: flock.proc_id,
            client_id: flock.client_id.as_bytes(),
        },
        _ => return None,
    })
}
