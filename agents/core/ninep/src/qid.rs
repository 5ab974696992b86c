//! The server's identity of a file.

/// `type[1] version[4] path[8]`, 13 bytes: what a file is, which content it has, which file it is.
///
/// `version` changes with the content; 0 means "do not cache" to the Linux client, and is what
/// synthetic files carry. `path` is unique among all files that live at one time on the server.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Qid {
    /// Kind of file, see [`Qid::DIR`] and its siblings.
    pub kind: u8,
    /// Version of the content.
    pub version: u32,
    /// Identity of the file.
    pub path: u64,
}

impl Qid {
    /// Bytes on the wire.
    pub const BYTES: usize = 13;
    /// A directory.
    pub const DIR: u8 = 0x80;
    /// A symbolic link.
    pub const SYMLINK: u8 = 0x02;
    /// Everything else.
    pub const FILE: u8 = 0x00;

    /// True for a directory.
    pub const fn is_dir(self) -> bool {
        self.kind & Self::DIR != 0
    }

    /// The kind that belongs to the file type bits of `st_mode`.
    pub const fn kind_of_mode(mode: u32) -> u8 {
        match mode & 0o170_000 {
            0o040_000 => Self::DIR,
            0o120_000 => Self::SYMLINK,
            _ => Self::FILE,
        }
    }
}
