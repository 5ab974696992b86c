//! 9P2000.L bytes, written a second time: nothing here is shared with the server's codec, so that a mistake in
//! one is not a mistake in both. Source: the protocol's description and `net/9p/protocol.c` of Linux.

use anyhow::{Context, Result, bail};

/// Types of requests; the reply's is one higher.
pub mod t {
    #![allow(missing_docs)] // The names are the protocol's.
    pub const STATFS: u8 = 8;
    pub const LOPEN: u8 = 12;
    pub const LCREATE: u8 = 14;
    pub const SYMLINK: u8 = 16;
    pub const MKNOD: u8 = 18;
    pub const RENAME: u8 = 20;
    pub const READLINK: u8 = 22;
    pub const GETATTR: u8 = 24;
    pub const SETATTR: u8 = 26;
    pub const XATTRWALK: u8 = 30;
    pub const XATTRCREATE: u8 = 32;
    pub const READDIR: u8 = 40;
    pub const FSYNC: u8 = 50;
    pub const LOCK: u8 = 52;
    pub const GETLOCK: u8 = 54;
    pub const LINK: u8 = 70;
    pub const MKDIR: u8 = 72;
    pub const RENAMEAT: u8 = 74;
    pub const UNLINKAT: u8 = 76;
    pub const VERSION: u8 = 100;
    pub const AUTH: u8 = 102;
    pub const ATTACH: u8 = 104;
    pub const FLUSH: u8 = 108;
    pub const WALK: u8 = 110;
    pub const READ: u8 = 116;
    pub const WRITE: u8 = 118;
    pub const CLUNK: u8 = 120;
    pub const REMOVE: u8 = 122;
}

/// `Rlerror`.
pub const RLERROR: u8 = 7;
/// Bytes of `size[4] type[1] tag[2]`.
pub const HEADER_BYTES: usize = 7;
/// No fid.
pub const NO_FID: u32 = u32::MAX;
/// No tag.
pub const NO_TAG: u16 = u16::MAX;

/// Builds the body of a message.
#[derive(Debug, Clone, Default)]
pub struct Body(Vec<u8>);

impl Body {
    /// Nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// One byte.
    #[must_use]
    pub fn b(mut self, value: u8) -> Self {
        self.0.push(value);
        self
    }

    /// Two bytes.
    #[must_use]
    pub fn h(mut self, value: u16) -> Self {
        self.0.extend_from_slice(&value.to_le_bytes());
        self
    }

    /// Four bytes.
    #[must_use]
    pub fn d(mut self, value: u32) -> Self {
        self.0.extend_from_slice(&value.to_le_bytes());
        self
    }

    /// Eight bytes.
    #[must_use]
    pub fn q(mut self, value: u64) -> Self {
        self.0.extend_from_slice(&value.to_le_bytes());
        self
    }

    /// A string: `length[2] bytes`.
    #[must_use]
    pub fn s(self, value: &[u8]) -> Self {
        let mut body = self.h(u16::try_from(value.len()).unwrap_or(u16::MAX));
        body.0.extend_from_slice(value);
        body
    }

    /// Counted data: `count[4] bytes`.
    #[must_use]
    pub fn data(self, value: &[u8]) -> Self {
        let mut body = self.d(u32::try_from(value.len()).unwrap_or(u32::MAX));
        body.0.extend_from_slice(value);
        body
    }

    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// The whole message.
    pub fn frame(&self, kind: u8, tag: u16) -> Vec<u8> {
        frame(kind, tag, &self.0)
    }
}

/// A whole message of a body.
pub fn frame(kind: u8, tag: u16, body: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(HEADER_BYTES + body.len());
    let size = u32::try_from(HEADER_BYTES + body.len()).unwrap_or(u32::MAX);
    out.extend_from_slice(&size.to_le_bytes());
    out.push(kind);
    out.extend_from_slice(&tag.to_le_bytes());
    out.extend_from_slice(body);
    out
}

/// Reads the body of a reply.
#[derive(Debug, Clone)]
pub struct Fields {
    bytes: Vec<u8>,
    at: usize,
}

impl Fields {
    /// From the first byte on.
    pub const fn new(bytes: Vec<u8>) -> Self {
        Self { bytes, at: 0 }
    }

    /// The next `count` bytes.
    ///
    /// # Errors
    /// When the reply ends before.
    pub fn take(&mut self, count: usize) -> Result<&[u8]> {
        let end = self.at + count;
        let part = self.bytes.get(self.at..end).context("the reply ends too early")?;
        self.at = end;
        Ok(part)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        Ok(<[u8; N]>::try_from(self.take(N)?)?)
    }

    /// One byte.
    ///
    /// # Errors
    /// As [`take`](Self::take), and so are those of the others.
    pub fn b(&mut self) -> Result<u8> {
        Ok(u8::from_le_bytes(self.array()?))
    }

    /// Two bytes.
    ///
    /// # Errors
    /// As [`take`](Self::take).
    pub fn h(&mut self) -> Result<u16> {
        Ok(u16::from_le_bytes(self.array()?))
    }

    /// Four bytes.
    ///
    /// # Errors
    /// As [`take`](Self::take).
    pub fn d(&mut self) -> Result<u32> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    /// Eight bytes.
    ///
    /// # Errors
    /// As [`take`](Self::take).
    pub fn q(&mut self) -> Result<u64> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    /// A string.
    ///
    /// # Errors
    /// As [`take`](Self::take).
    pub fn s(&mut self) -> Result<Vec<u8>> {
        let length = self.h()?;
        Ok(self.take(usize::from(length))?.to_vec())
    }

    /// A qid.
    ///
    /// # Errors
    /// As [`take`](Self::take).
    pub fn qid(&mut self) -> Result<Qid> {
        Ok(Qid { kind: self.b()?, version: self.d()?, path: self.q()? })
    }

    /// Bytes not read yet.
    pub fn left(&self) -> usize {
        self.bytes.len() - self.at
    }

    /// The reply must end here.
    ///
    /// # Errors
    /// When it does not.
    pub fn end(&self) -> Result<()> {
        match self.left() {
            0 => Ok(()),
            left => bail!("the reply has {left} bytes too many"),
        }
    }
}

/// `type[1] version[4] path[8]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Qid {
    /// 0x80 directory, 0x02 symbolic link.
    pub kind: u8,
    /// Content.
    pub version: u32,
    /// File.
    pub path: u64,
}

/// What the cases look at of `Rgetattr`.
#[derive(Debug, Clone, Copy)]
pub struct Attr {
    /// Identity.
    pub qid: Qid,
    /// Type and permission bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Hard links.
    pub nlink: u64,
    /// Bytes.
    pub size: u64,
    /// 512-byte blocks.
    pub blocks: u64,
    /// Seconds and nanoseconds of the last change of the content.
    pub mtime: (u64, u64),
}

impl Attr {
    /// Reads an `Rgetattr`.
    ///
    /// # Errors
    /// When it has not the length of one.
    pub fn read(mut from: Fields) -> Result<Self> {
        from.q()?;
        let qid = from.qid()?;
        let (mode, uid, _gid) = (from.d()?, from.d()?, from.d()?);
        let (nlink, _rdev, size, _blksize, blocks) =
            (from.q()?, from.q()?, from.q()?, from.q()?, from.q()?);
        let _atime = (from.q()?, from.q()?);
        let mtime = (from.q()?, from.q()?);
        // ctime, btime, generation, data version.
        from.take(6 * 8)?;
        from.end()?;
        Ok(Self { qid, mode, uid, nlink, size, blocks, mtime })
    }
}

/// One entry of `Rreaddir`.
#[derive(Debug, Clone)]
pub struct Entry {
    /// Identity.
    pub qid: Qid,
    /// Where a listing goes on.
    pub cookie: u64,
    /// `d_type`.
    pub kind: u8,
    /// Name.
    pub name: Vec<u8>,
}
