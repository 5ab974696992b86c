//! Compound parts of message bodies.

use crate::wire::{Field, Reader, WireError};
use crate::{Qid, WALK_NAMES_MAX};
use std::ops::Deref;

/// Names of a walk: `nwname[2] nwname*(wname[s])`, at most [`WALK_NAMES_MAX`], held without allocation.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Names<'a> {
    names: [&'a [u8]; WALK_NAMES_MAX],
    count: usize,
}

impl<'a> Names<'a> {
    /// No name: a walk that copies the fid.
    pub const NONE: Names<'static> = Names { names: [&[]; WALK_NAMES_MAX], count: 0 };

    /// Up to [`WALK_NAMES_MAX`] names.
    pub fn new(names: &[&'a [u8]]) -> Option<Self> {
        let mut out = Self { names: [&[]; WALK_NAMES_MAX], count: names.len() };
        out.names.get_mut(..names.len())?.copy_from_slice(names);
        Some(out)
    }
}

impl<'a> Deref for Names<'a> {
    type Target = [&'a [u8]];

    fn deref(&self) -> &Self::Target {
        self.names.get(..self.count).unwrap_or(&[])
    }
}

impl std::fmt::Debug for Names<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.iter().map(|name| String::from_utf8_lossy(name))).finish()
    }
}

impl<'a> Field<'a> for Names<'a> {
    fn put(&self, out: &mut Vec<u8>) {
        u16::try_from(self.count).unwrap_or(u16::MAX).put(out);
        self.iter().for_each(|name| name.put(out));
    }

    fn get(from: &mut Reader<'a>) -> Result<Self, WireError> {
        let got: u16 = from.get()?;
        let mut out = Self { names: [&[]; WALK_NAMES_MAX], count: usize::from(got) };
        let room = out
            .names
            .get_mut(..usize::from(got))
            .ok_or(WireError::TooManyNames { got, max: WALK_NAMES_MAX })?;
        for slot in room {
            *slot = from.get()?;
        }
        Ok(out)
    }
}

/// Qids of a walk: `nwqid[2] nwqid*(qid[13])`, at most [`WALK_NAMES_MAX`].
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct Qids {
    qids: [Qid; WALK_NAMES_MAX],
    count: usize,
}

impl Qids {
    /// Appends one; false when there is no room.
    pub fn push(&mut self, qid: Qid) -> bool {
        let Some(slot) = self.qids.get_mut(self.count) else { return false };
        *slot = qid;
        self.count = self.count.saturating_add(1);
        true
    }
}

impl Deref for Qids {
    type Target = [Qid];

    fn deref(&self) -> &Self::Target {
        self.qids.get(..self.count).unwrap_or(&[])
    }
}

impl std::fmt::Debug for Qids {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

impl<'a> Field<'a> for Qids {
    fn put(&self, out: &mut Vec<u8>) {
        u16::try_from(self.count).unwrap_or(u16::MAX).put(out);
        self.iter().for_each(|qid| qid.put(out));
    }

    fn get(from: &mut Reader<'a>) -> Result<Self, WireError> {
        let got: u16 = from.get()?;
        let mut out = Self::default();
        for _ in 0..got {
            if !out.push(from.get()?) {
                return Err(WireError::TooManyNames { got, max: WALK_NAMES_MAX });
            }
        }
        Ok(out)
    }
}

/// Seconds and nanoseconds since 1970, as the protocol carries them: `sec[8] nsec[8]`. Times before
/// 1970 are two's complement, as Linux writes them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Time {
    /// Seconds.
    pub sec: u64,
    /// Nanoseconds, below 1,000,000,000.
    pub nsec: u64,
}

macro_rules! record {
    ($(#[$doc:meta])* $name:ident { $($(#[$field_doc:meta])* $field:ident: $type:ty,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
        pub struct $name {
            $($(#[$field_doc])* pub $field: $type,)*
        }

        impl<'a> Field<'a> for $name {
            fn put(&self, out: &mut Vec<u8>) {
                $(self.$field.put(out);)*
            }

            fn get(from: &mut Reader<'a>) -> Result<Self, WireError> {
                Ok(Self { $($field: from.get()?,)* })
            }
        }
    };
}

impl<'a> Field<'a> for Time {
    fn put(&self, out: &mut Vec<u8>) {
        self.sec.put(out);
        self.nsec.put(out);
    }

    fn get(from: &mut Reader<'a>) -> Result<Self, WireError> {
        Ok(Self { sec: from.get()?, nsec: from.get()? })
    }
}

record! {
    /// Attributes of a file, in the order of `Rgetattr`.
    Attr {
        /// Which fields hold something, see [`Attr::BASIC`].
        valid: u64,
        /// Identity.
        qid: Qid,
        /// Type and permission bits as in `st_mode`.
        mode: u32,
        /// Owner.
        uid: u32,
        /// Group.
        gid: u32,
        /// Hard links.
        nlink: u64,
        /// Device number of a device.
        rdev: u64,
        /// Size in bytes.
        size: u64,
        /// Good size of one read or write in bytes.
        blksize: u64,
        /// 512-byte blocks in use.
        blocks: u64,
        /// Last read.
        atime: Time,
        /// Last change of the content.
        mtime: Time,
        /// Last change of the attributes.
        ctime: Time,
        /// Birth, where `valid` says so.
        btime: Time,
        /// Generation, where `valid` says so.
        generation: u64,
        /// Version of the data, where `valid` says so.
        data_version: u64,
    }
}

impl Attr {
    /// Bytes on the wire.
    pub const BYTES: usize = 153;
    /// Everything that `stat(2)` knows.
    pub const BASIC: u64 = 0x7ff;
    /// `btime`.
    pub const BTIME: u64 = 0x800;
    /// `generation`.
    pub const GENERATION: u64 = 0x1000;
    /// `data_version`.
    pub const DATA_VERSION: u64 = 0x2000;
}

record! {
    /// Changes of attributes, in the order of `Tsetattr`.
    SetAttr {
        /// Which fields are to be used, see [`SetAttr::MODE`] and its siblings.
        valid: u32,
        /// Permission bits.
        mode: u32,
        /// Owner.
        uid: u32,
        /// Group.
        gid: u32,
        /// Size in bytes.
        size: u64,
        /// Last read.
        atime: Time,
        /// Last change of the content.
        mtime: Time,
    }
}

impl SetAttr {
    /// `mode` is to be used.
    pub const MODE: u32 = 0x1;
    /// `uid` is to be used.
    pub const UID: u32 = 0x2;
    /// `gid` is to be used.
    pub const GID: u32 = 0x4;
    /// `size` is to be used.
    pub const SIZE: u32 = 0x8;
    /// The last read changes: to now without [`Self::ATIME_SET`].
    pub const ATIME: u32 = 0x10;
    /// The last change changes: to now without [`Self::MTIME_SET`].
    pub const MTIME: u32 = 0x20;
    /// The attributes' change time changes; the file system does that by itself.
    pub const CTIME: u32 = 0x40;
    /// `atime` is to be used.
    pub const ATIME_SET: u32 = 0x80;
    /// `mtime` is to be used.
    pub const MTIME_SET: u32 = 0x100;
}

record! {
    /// Numbers of a file system, in the order of `Rstatfs`.
    StatFs {
        /// Magic of the kind of file system.
        kind: u32,
        /// Bytes of a block.
        block_bytes: u32,
        /// Blocks in all.
        blocks: u64,
        /// Free blocks.
        blocks_free: u64,
        /// Free blocks for everyone.
        blocks_available: u64,
        /// Files in all.
        files: u64,
        /// Free files.
        files_free: u64,
        /// Identity.
        fsid: u64,
        /// Longest name in bytes.
        name_bytes_max: u32,
    }
}

/// One entry of `Rreaddir`: `qid[13] offset[8] type[1] name[s]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DirEntry<'a> {
    /// Identity.
    pub qid: Qid,
    /// Cookie with which a listing goes on after this entry.
    pub offset: u64,
    /// `d_type` of `getdents(2)`.
    pub kind: u8,
    /// Name.
    pub name: &'a [u8],
}

impl DirEntry<'_> {
    /// Bytes on the wire.
    pub const fn wire_bytes(&self) -> usize {
        (Qid::BYTES + 8 + 1 + 2).saturating_add(self.name.len())
    }
}

impl<'a> Field<'a> for DirEntry<'a> {
    fn put(&self, out: &mut Vec<u8>) {
        // Listings are long: the head of an entry goes out in one piece, and not field by field.
        let [v0, v1, v2, v3] = self.qid.version.to_le_bytes();
        let [p0, p1, p2, p3, p4, p5, p6, p7] = self.qid.path.to_le_bytes();
        let [o0, o1, o2, o3, o4, o5, o6, o7] = self.offset.to_le_bytes();
        out.extend_from_slice(&[
            self.qid.kind,
            v0,
            v1,
            v2,
            v3,
            p0,
            p1,
            p2,
            p3,
            p4,
            p5,
            p6,
            p7, //
            o0,
            o1,
            o2,
            o3,
            o4,
            o5,
            o6,
            o7,
            self.kind,
        ]);
        self.name.put(out);
    }

    fn get(from: &mut Reader<'a>) -> Result<Self, WireError> {
        Ok(Self { qid: from.get()?, offset: from.get()?, kind: from.get()?, name: from.get()? })
    }
}

/// One entry of `Rgreaddir`: `offset[8] type[1] name[s] attr[153]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AttrEntry<'a> {
    /// Cookie with which a listing goes on after this entry.
    pub offset: u64,
    /// `d_type` of `getdents(2)`.
    pub kind: u8,
    /// Name.
    pub name: &'a [u8],
    /// Attributes. Where `valid` is 0 the file had gone when it was looked at, and only `qid` holds something.
    pub attr: Attr,
}

impl AttrEntry<'_> {
    /// Bytes on the wire.
    pub const fn wire_bytes(&self) -> usize {
        Self::wire_bytes_of(self.name)
    }

    /// Bytes on the wire of an entry of this name.
    pub const fn wire_bytes_of(name: &[u8]) -> usize {
        (8 + 1 + 2 + Attr::BYTES).saturating_add(name.len())
    }
}

impl<'a> Field<'a> for AttrEntry<'a> {
    fn put(&self, out: &mut Vec<u8>) {
        self.offset.put(out);
        self.kind.put(out);
        self.name.put(out);
        self.attr.put(out);
    }

    fn get(from: &mut Reader<'a>) -> Result<Self, WireError> {
        Ok(Self { offset: from.get()?, kind: from.get()?, name: from.get()?, attr: from.get()? })
    }
}
