//! Every message of 9P2000.L, read without copying and written into a `Vec`.
//!
//! Shapes are those of the "9P2000.L protocol" page and of Linux's `net/9p/client.c`. A message is
//! `size[4] type[1] tag[2] body`; `size` counts itself.

use crate::wire::{Data, Field, LateU32, Reader, Rest, WireError};
use crate::{Attr, Names, Qid, Qids, SetAttr, StatFs, Token};

/// Bytes of `size[4] type[1] tag[2]`.
pub const HEADER_BYTES: usize = 7;
/// Tag of `Tversion`, which belongs to no request of a session.
pub const NO_TAG: u16 = 0xffff;
/// Fid that stands for "no fid", as in the `afid` of an attach without authentication.
pub const NO_FID: u32 = 0xffff_ffff;
/// The dialect spoken here.
pub const VERSION_9P2000L: &[u8] = b"9P2000.L";
/// The dialect with everything of `9P2000.L` and the messages of [`gob1`](crate::gob1).
pub const VERSION_GOB1: &[u8] = b"9P2000.L.gob1";
/// First message type of [`gob1`](crate::gob1); types of `9P2000.L` are smaller.
pub const KIND_GOB1_MIN: u8 = 128;

macro_rules! messages {
    ($(#[$enum_doc:meta])* $enum:ident<$life:lifetime> {
        $($(#[$doc:meta])* $name:ident = $kind:literal {
            $($(#[$field_doc:meta])* $field:ident: $type:ty),* $(,)?
        })*
    }) => {
        $(#[$enum_doc])*
        #[derive(Debug, Clone, PartialEq, Eq)]
        // One lives on the stack at a time; a box for the names of a walk would cost an allocation.
        #[allow(clippy::large_enum_variant)]
        #[non_exhaustive]
        pub enum $enum<$life> {
            $($(#[$doc])* $name { $($(#[$field_doc])* $field: $type),* },)*
            /// Never made; keeps the lifetime in use.
            #[doc(hidden)]
            Unused(std::convert::Infallible, std::marker::PhantomData<&$life ()>),
        }

        impl<$life> $enum<$life> {
            /// `type[1]` of the message.
            pub const fn kind(&self) -> u8 {
                match self {
                    $(Self::$name { .. } => $kind,)*
                    Self::Unused(never, _) => match *never {},
                }
            }

            /// The message's name without its `T` or `R`.
            pub const fn name(&self) -> &'static str {
                match self {
                    $(Self::$name { .. } => stringify!($name),)*
                    Self::Unused(never, _) => match *never {},
                }
            }

            /// Appends the whole message, header included.
            pub fn encode(&self, tag: u16, out: &mut Vec<u8>) {
                let start = out.len();
                out.extend_from_slice(&[0; 4]);
                self.kind().put(out);
                tag.put(out);
                match self {
                    $(Self::$name { $($field),* } => { $(Field::put($field, out);)* })*
                    Self::Unused(never, _) => match *never {},
                }
                let size = u32::try_from(out.len().saturating_sub(start)).unwrap_or(u32::MAX);
                if let Some(field) = out.get_mut(start..start.saturating_add(4)) {
                    field.copy_from_slice(&size.to_le_bytes());
                }
            }

            /// Reads the body of a message of type `kind`.
            ///
            /// # Errors
            /// [`WireError`]; the sender broke the protocol.
            pub fn decode_body(kind: u8, body: &$life [u8]) -> Result<Self, WireError> {
                #[allow(unused_mut)] // Bodies without fields read nothing.
                let mut from = Reader::new(body);
                let message = match kind {
                    $($kind => Self::$name { $($field: from.get()?),* },)*
                    _ => return Err(WireError::UnknownType { kind }),
                };
                from.end()?;
                Ok(message)
            }

            /// Reads one whole message.
            ///
            /// # Errors
            /// [`WireError`]; the sender broke the protocol.
            pub fn decode(frame: &$life [u8]) -> Result<(u16, Self), WireError> {
                let (header, body) = Header::split(frame)?;
                Ok((header.tag, Self::decode_body(header.kind, body)?))
            }
        }
    };
}

/// The first 7 bytes of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Bytes of the message, these included.
    pub size: u32,
    /// Type.
    pub kind: u8,
    /// Request id.
    pub tag: u16,
}

impl Header {
    /// Separates the header of a whole message from its body.
    ///
    /// # Errors
    /// [`WireError`] when `size` does not match the bytes.
    pub fn split(frame: &[u8]) -> Result<(Self, &[u8]), WireError> {
        let mut from = Reader::new(frame);
        let header = Self { size: from.get()?, kind: from.get()?, tag: from.get()? };
        if usize::try_from(header.size) != Ok(frame.len()) {
            return Err(WireError::Size { says: header.size, got: frame.len() });
        }
        Ok((header, from.rest()))
    }
}

messages! {
    /// What a client asks.
    Request<'a> {
        /// Opens a session: largest message and dialect. Resets everything before it.
        Version = 100 {
            /// Largest message the client takes, in bytes.
            msize: u32,
            /// Dialect.
            version: &'a [u8],
        }
        /// Opens an authentication conversation.
        Auth = 102 {
            /// Fid for the conversation.
            afid: u32,
            /// User name.
            uname: &'a [u8],
            /// Tree.
            aname: &'a [u8],
            /// Numeric user, never trusted here.
            n_uname: u32,
        }
        /// Binds a fid to the root of a tree.
        Attach = 104 {
            /// New fid.
            fid: u32,
            /// Authentication fid or [`NO_FID`].
            afid: u32,
            /// User name.
            uname: &'a [u8],
            /// Tree.
            aname: &'a [u8],
            /// Numeric user, never trusted here.
            n_uname: u32,
        }
        /// Cancels a request.
        Flush = 108 {
            /// Tag of the request.
            oldtag: u16,
        }
        /// Follows names from a fid.
        Walk = 110 {
            /// Start.
            fid: u32,
            /// Fid for the end.
            newfid: u32,
            /// Names, none to copy the fid.
            names: Names<'a>,
        }
        /// Reads from an open file.
        Read = 116 {
            /// Open fid.
            fid: u32,
            /// Where, in bytes.
            offset: u64,
            /// How much at most, in bytes.
            count: u32,
        }
        /// Writes to an open file.
        Write = 118 {
            /// Open fid.
            fid: u32,
            /// Where, in bytes.
            offset: u64,
            /// The bytes.
            data: Data<'a>,
        }
        /// Forgets a fid.
        Clunk = 120 {
            /// The fid.
            fid: u32,
        }
        /// Removes a fid's file and forgets the fid, even on failure.
        Remove = 122 {
            /// The fid.
            fid: u32,
        }
        /// Asks about the file system.
        StatFs = 8 {
            /// Any fid in it.
            fid: u32,
        }
        /// Opens a fid with Linux `open(2)` flags.
        Lopen = 12 {
            /// The fid.
            fid: u32,
            /// Flags.
            flags: u32,
        }
        /// Creates a file in a directory and opens it; the fid moves to the file.
        Lcreate = 14 {
            /// The directory, then the file.
            fid: u32,
            /// Name.
            name: &'a [u8],
            /// `open(2)` flags.
            flags: u32,
            /// Permission bits.
            mode: u32,
            /// Group wanted.
            gid: u32,
        }
        /// Makes a symbolic link.
        Symlink = 16 {
            /// Directory.
            fid: u32,
            /// Name.
            name: &'a [u8],
            /// What it points to.
            target: &'a [u8],
            /// Group wanted.
            gid: u32,
        }
        /// Makes a device, FIFO, socket or plain file.
        Mknod = 18 {
            /// Directory.
            dfid: u32,
            /// Name.
            name: &'a [u8],
            /// Type and permission bits.
            mode: u32,
            /// Device number.
            major: u32,
            /// Device number.
            minor: u32,
            /// Group wanted.
            gid: u32,
        }
        /// Moves a fid's file into a directory.
        Rename = 20 {
            /// The file.
            fid: u32,
            /// The directory.
            dfid: u32,
            /// The new name.
            name: &'a [u8],
        }
        /// Reads a symbolic link.
        Readlink = 22 {
            /// The link.
            fid: u32,
        }
        /// Asks for attributes.
        Getattr = 24 {
            /// The file.
            fid: u32,
            /// Which ones, see [`Attr`].
            mask: u64,
        }
        /// Changes attributes.
        Setattr = 26 {
            /// The file.
            fid: u32,
            /// The changes.
            attr: SetAttr,
        }
        /// Opens an extended attribute for reading, or their list.
        Xattrwalk = 30 {
            /// The file.
            fid: u32,
            /// Fid for the value.
            newfid: u32,
            /// Name; empty for the list.
            name: &'a [u8],
        }
        /// Turns a fid into one to which a value is written; clunk sets it.
        Xattrcreate = 32 {
            /// The file.
            fid: u32,
            /// Name.
            name: &'a [u8],
            /// Bytes that will be written; 0 removes the attribute.
            size: u64,
            /// `setxattr(2)` flags.
            flags: u32,
        }
        /// Lists a directory.
        Readdir = 40 {
            /// Open directory.
            fid: u32,
            /// Cookie of the last entry seen; 0 starts over.
            offset: u64,
            /// Most bytes of entries.
            count: u32,
        }
        /// Waits until a file is on the disk.
        Fsync = 50 {
            /// Open file.
            fid: u32,
            /// Not 0: metadata that is not needed to read the data may wait.
            datasync: LateU32,
        }
        /// Takes or releases a lock.
        Lock = 52 {
            /// Open file.
            fid: u32,
            /// [`lock::READ`], [`lock::WRITE`] or [`lock::UNLOCK`].
            kind: u8,
            /// [`lock::FLAG_BLOCK`].
            flags: u32,
            /// First byte.
            start: u64,
            /// Bytes; 0 for all to the end.
            length: u64,
            /// The client's process, never trusted here.
            proc_id: u32,
            /// The client's name, never trusted here.
            client_id: &'a [u8],
        }
        /// Asks who holds a lock.
        Getlock = 54 {
            /// Open file.
            fid: u32,
            /// Kind that would be taken.
            kind: u8,
            /// First byte.
            start: u64,
            /// Bytes.
            length: u64,
            /// The client's process.
            proc_id: u32,
            /// The client's name.
            client_id: &'a [u8],
        }
        /// Makes a hard link.
        Link = 70 {
            /// Directory.
            dfid: u32,
            /// The file.
            fid: u32,
            /// New name.
            name: &'a [u8],
        }
        /// Makes a directory.
        Mkdir = 72 {
            /// Parent.
            dfid: u32,
            /// Name.
            name: &'a [u8],
            /// Permission bits.
            mode: u32,
            /// Group wanted.
            gid: u32,
        }
        /// Moves a name.
        Renameat = 74 {
            /// From.
            olddirfid: u32,
            /// From.
            oldname: &'a [u8],
            /// To.
            newdirfid: u32,
            /// To.
            newname: &'a [u8],
        }
        /// Removes a name.
        Unlinkat = 76 {
            /// Directory.
            dirfid: u32,
            /// Name.
            name: &'a [u8],
            /// `AT_REMOVEDIR` (0x200) for a directory.
            flags: u32,
        }
        /// Walks and asks for the attributes of the end; see [`gob1`](crate::gob1).
        Gwalk = 128 {
            /// Start.
            fid: u32,
            /// Fid for the end.
            newfid: u32,
            /// Names, none to copy the fid.
            names: Names<'a>,
        }
        /// Lists a directory with attributes; see [`gob1`](crate::gob1).
        Greaddir = 130 {
            /// Open directory.
            fid: u32,
            /// Cookie of the last entry seen; 0 starts over.
            offset: u64,
            /// Most bytes of entries.
            count: u32,
        }
        /// Walks, opens and reads the beginning; see [`gob1`](crate::gob1).
        Gopen = 132 {
            /// Start.
            fid: u32,
            /// Fid for the open file.
            newfid: u32,
            /// `open(2)` flags.
            flags: u32,
            /// Most bytes of the file's beginning to send along.
            count: u32,
            /// Names, none for the file of `fid` itself.
            names: Names<'a>,
        }
        /// Creates and writes the beginning; see [`gob1`](crate::gob1).
        Gcreate = 134 {
            /// Directory.
            dfid: u32,
            /// Fid for the open file; [`NO_FID`] closes it at once.
            newfid: u32,
            /// `open(2)` flags.
            flags: u32,
            /// Permission bits.
            mode: u32,
            /// Group wanted.
            gid: u32,
            /// Name.
            name: &'a [u8],
            /// The beginning.
            data: Data<'a>,
        }
        /// Does one change at most once, however often it is sent; see [`gob1`](crate::gob1).
        Once = 136 {
            /// The client's series of changes: random, chosen by the client.
            series: u64,
            /// Number of the change in its series, from 0, one more for each.
            number: u64,
            /// Type of the request inside.
            kind: u8,
            /// Its body.
            body: Rest<'a>,
        }
        /// Asks how far a tree is; see [`gob1`](crate::gob1).
        Gtoken = 138 {
            /// Any fid in it.
            fid: u32,
        }
        /// Waits until a tree is on its disk up to a token; see [`gob1`](crate::gob1).
        Gsync = 140 {
            /// Any fid in it.
            fid: u32,
            /// How far.
            token: Token,
        }
        /// Waits for changes of a tree; see [`gob1`](crate::gob1).
        Gchanges = 142 {
            /// Any fid in it.
            fid: u32,
            /// What is known already.
            token: Token,
            /// Most bytes of changes.
            count: u32,
        }
    }
}

messages! {
    /// What the server answers.
    Reply<'a> {
        /// The request failed.
        Error = 7 {
            /// Linux error number.
            ecode: u32,
        }
        /// Session opened.
        Version = 101 {
            /// Largest message of the session.
            msize: u32,
            /// Dialect, or `unknown`.
            version: &'a [u8],
        }
        /// Authentication conversation opened.
        Auth = 103 {
            /// Its qid.
            aqid: Qid,
        }
        /// Attached.
        Attach = 105 {
            /// Root.
            qid: Qid,
        }
        /// The old request will not be answered any more.
        Flush = 109 {}
        /// Walked.
        Walk = 111 {
            /// One for each name that was found.
            qids: Qids,
        }
        /// Bytes read.
        Read = 117 {
            /// None at the end of the file.
            data: Data<'a>,
        }
        /// Bytes written.
        Write = 119 {
            /// How many.
            count: u32,
        }
        /// Forgotten.
        Clunk = 121 {}
        /// Removed.
        Remove = 123 {}
        /// The file system.
        StatFs = 9 {
            /// Its numbers.
            stat: StatFs,
        }
        /// Opened.
        Lopen = 13 {
            /// The file.
            qid: Qid,
            /// Most bytes of one read or write that is not split; 0 for msize - 24.
            iounit: u32,
        }
        /// Created and opened.
        Lcreate = 15 {
            /// The file.
            qid: Qid,
            /// As in [`Reply::Lopen`].
            iounit: u32,
        }
        /// Link made.
        Symlink = 17 {
            /// The link.
            qid: Qid,
        }
        /// Node made.
        Mknod = 19 {
            /// The node.
            qid: Qid,
        }
        /// Moved.
        Rename = 21 {}
        /// What the link points to.
        Readlink = 23 {
            /// The bytes.
            target: &'a [u8],
        }
        /// Attributes.
        Getattr = 25 {
            /// The values.
            attr: Attr,
        }
        /// Changed.
        Setattr = 27 {}
        /// The value can be read from the new fid.
        Xattrwalk = 31 {
            /// Its bytes.
            size: u64,
        }
        /// The value can be written.
        Xattrcreate = 33 {}
        /// Entries `qid[13] offset[8] type[1] name[s]`, whole ones only.
        Readdir = 41 {
            /// Encoded entries.
            data: Data<'a>,
        }
        /// On the disk.
        Fsync = 51 {}
        /// What became of the lock.
        Lock = 53 {
            /// [`lock::SUCCESS`] and its siblings.
            status: u8,
        }
        /// Who holds a lock.
        Getlock = 55 {
            /// [`lock::UNLOCK`] when nobody does.
            kind: u8,
            /// First byte.
            start: u64,
            /// Bytes.
            length: u64,
            /// Process.
            proc_id: u32,
            /// Client.
            client_id: &'a [u8],
        }
        /// Linked.
        Link = 71 {}
        /// Directory made.
        Mkdir = 73 {
            /// The directory.
            qid: Qid,
        }
        /// Moved.
        Renameat = 75 {}
        /// Removed.
        Unlinkat = 77 {}
        /// Walked. On a walk that stopped half way `attr.valid` is 0 and nothing was bound.
        Gwalk = 129 {
            /// The end's attributes.
            attr: Attr,
            /// One for each name that was found.
            qids: Qids,
        }
        /// Entries `offset[8] type[1] name[s] attr[153]`, whole ones only.
        Greaddir = 131 {
            /// Encoded entries.
            data: Data<'a>,
        }
        /// Opened.
        Gopen = 133 {
            /// The file's attributes before it was read.
            attr: Attr,
            /// As in [`Reply::Lopen`].
            iounit: u32,
            /// 1 when the file ends with `data`; 0 when there may be more.
            eof: u8,
            /// The beginning; may be shorter than asked for, also empty.
            data: Data<'a>,
        }
        /// Created.
        Gcreate = 135 {
            /// The file's attributes after the write.
            attr: Attr,
            /// As in [`Reply::Lopen`].
            iounit: u32,
            /// Bytes of the beginning that were taken.
            count: u32,
        }
        /// What the request inside was answered, now or when it was done.
        Once = 137 {
            /// Type of the reply inside.
            kind: u8,
            /// Its body.
            body: Rest<'a>,
        }
        /// How far the tree is.
        Gtoken = 139 {
            /// Now.
            token: Token,
            /// Number of the last change that is on the disk.
            durable: u64,
        }
        /// The tree is on its disk.
        Gsync = 141 {
            /// Up to here, or further than was asked for.
            token: Token,
        }
        /// Changes `number[8] what[1] dir[8] file[8] name[s]`, whole ones only.
        Gchanges = 143 {
            /// To ask with next.
            token: Token,
            /// Encoded changes.
            data: Data<'a>,
        }
    }
}

/// Numbers of `Tlock` and `Tgetlock`.
pub mod lock {
    /// Shared lock.
    pub const READ: u8 = 0;
    /// Exclusive lock.
    pub const WRITE: u8 = 1;
    /// No lock.
    pub const UNLOCK: u8 = 2;
    /// Wait until the lock is free.
    pub const FLAG_BLOCK: u32 = 1;
    /// Granted or released.
    pub const SUCCESS: u8 = 0;
    /// Somebody else holds it.
    pub const BLOCKED: u8 = 1;
    /// Failed.
    pub const ERROR: u8 = 2;
    /// The server is in its grace period.
    pub const GRACE: u8 = 3;
}
