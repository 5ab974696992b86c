//! Copies of files and trees between this machine and a share, without a mount.
//!
//! ```text
//!   part   names of unfinished copies, and where they go on (pure)     local  this machine's folders
//!   get    out of a share                                              put    into a share
//! ```
//!
//! Invariants:
//! - A file gets its name only when it is whole and on the disk, with its permission bits and its time of change.
//!   Until then the old file of that name is untouched, whatever happens.
//! - A copy that was interrupted goes on: files that are there already (same size, same time of change) are not
//!   sent again, and a long one continues where it was last known to be on the disk.
//! - Two copies to one name do not mix: the unfinished file is locked, and whoever holds the lock makes sure that
//!   it still is the unfinished file.
//! - What a share says about names is not trusted: nothing is written outside of the folder that was named, and
//!   symbolic links in it are not followed.
//! - A source that changes while it is copied is an error, and its copy is not kept.
//!
//! Symbolic links are copied as links, hard links as files of their own; devices, FIFOs and sockets are left out.
//! Set-user-ID and its siblings are left out of the permission bits, owners are those of the other side.

mod get;
mod local;
mod part;
mod put;

pub use get::get;
pub use put::{Source, put};

use goblin_core_ninep::Errno;
use goblin_core_ninep::client::ClientError;
use goblin_core_types::escape_bytes;
use std::io;

/// Folders inside each other that are copied at most; each holds a descriptor on both sides.
const DEPTH_MAX: usize = 256;
/// Longest listing of one folder in bytes.
const LISTING_BYTES_MAX: usize = 64 << 20;
/// Permission bits that are kept.
const MODE_BITS: u32 = 0o777;
/// Kind bits of `st_mode`, and the kinds that are copied.
const KIND: u32 = 0o170_000;
const KIND_DIR: u32 = 0o040_000;
const KIND_FILE: u32 = 0o100_000;
const KIND_LINK: u32 = 0o120_000;

/// Whether folders are copied with all that is in them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Folders {
    /// `-r`.
    Copy,
    /// A folder is an error.
    Refuse,
}

/// What happens to another file that has the name already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Clobber {
    /// It is replaced.
    Replace,
    /// It stays.
    Keep,
}

/// How to copy.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Folders.
    pub folders: Folders,
    /// Files that are there.
    pub clobber: Clobber,
}

/// What happens, as it happens. Paths are shown as bytes that are not text are escaped.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// A file begins.
    Begin {
        /// Where it goes.
        path: String,
        /// Its bytes; 0 when that is not known.
        bytes: u64,
        /// Of which so many are there from an earlier run.
        resumed: u64,
    },
    /// Bytes of the present file went over the network.
    Moved {
        /// How many.
        bytes: u64,
    },
    /// A file, folder or link is whole.
    Done {
        /// Where it is.
        path: String,
    },
    /// It was there already, or is to stay as it is.
    Same {
        /// Where it is.
        path: String,
    },
    /// It is of a kind that is not copied.
    LeftOut {
        /// Its path.
        path: String,
    },
    /// It could not be copied; the others go on.
    Failed {
        /// Why.
        problem: String,
    },
}

/// Whoever wants to know what happens.
pub type Told<'a> = &'a mut dyn FnMut(Event);

/// What was done in all.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Summary {
    /// Files copied.
    pub files: u64,
    /// Folders made or brought up to date.
    pub folders: u64,
    /// Links made.
    pub links: u64,
    /// Files and links that were there already.
    pub same: u64,
    /// Devices, FIFOs and sockets.
    pub left_out: u64,
    /// What could not be copied.
    pub failed: u64,
    /// Bytes sent or received.
    pub moved_bytes: u64,
}

/// Why something was not copied.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CopyError {
    /// The box says no, or is gone.
    #[error("{path}: {source}{}", if is_gone(source) { "; run the same command again, it goes on from there" } else { "" })]
    Remote {
        /// Path in the share.
        path: String,
        /// What it said.
        source: ClientError,
    },
    /// This machine says no.
    #[error("{path}: {source}")]
    Local {
        /// Path here.
        path: String,
        /// What it said.
        source: io::Error,
    },
    /// A folder where a file was named.
    #[error("{path} is a folder: add -r to copy it with all that is in it")]
    Folder {
        /// The folder.
        path: String,
    },
    /// A folder and something else have one name.
    #[error("{path} is {is} and {wanted} is to be copied there: remove it, or choose another name")]
    Kind {
        /// Where.
        path: String,
        /// What is there.
        is: &'static str,
        /// What is to be there.
        wanted: &'static str,
    },
    /// The source is a device, a FIFO or a socket.
    #[error("{path} is neither a file, a folder nor a link")]
    Special {
        /// Its path.
        path: String,
    },
    /// The source changed.
    #[error("{path} changed while it was copied: run the command again when it is at rest")]
    Changed {
        /// Its path.
        path: String,
    },
    /// Another copy writes to that name.
    #[error("another copy to {path} is under way: wait for its end")]
    Busy {
        /// Where.
        path: String,
    },
    /// Too many folders inside each other.
    #[error("{path} is more than {DEPTH_MAX} folders deep")]
    Deep {
        /// Its path.
        path: String,
    },
    /// A name that no file can have.
    #[error("the box names a file `{name}`, which is no name of a file")]
    Name {
        /// The name.
        name: String,
    },
}

impl CopyError {
    /// Whether nothing that comes after it can succeed.
    fn ends_all(&self) -> bool {
        match self {
            Self::Remote { source: ClientError::Refused(errno), .. } => {
                matches!(*errno, Errno::ENOSPC | Errno::EDQUOT | Errno::EROFS)
            }
            Self::Remote { .. } => true,
            Self::Local { source, .. } => matches!(
                source.kind(),
                io::ErrorKind::StorageFull
                    | io::ErrorKind::QuotaExceeded
                    | io::ErrorKind::ReadOnlyFilesystem
            ),
            _ => false,
        }
    }
}

impl CopyError {
    /// Whether the connection is lost.
    const fn is_gone(&self) -> bool {
        matches!(self, Self::Remote { source, .. } if is_gone(source))
    }

    const fn is_changed(&self) -> bool {
        matches!(self, Self::Changed { .. })
    }
}

const fn is_gone(err: &ClientError) -> bool {
    matches!(err, ClientError::Io(_))
}

/// A path as messages show it.
fn join(path: &str, name: &[u8]) -> String {
    let name = escape_bytes(name);
    if path.is_empty() { name } else { format!("{}/{name}", path.trim_end_matches('/')) }
}

fn kind_word(mode: u32) -> &'static str {
    match mode & KIND {
        KIND_DIR => "a folder",
        KIND_FILE => "a file",
        KIND_LINK => "a link",
        _ => "no file",
    }
}

/// Counts, tells, and decides whether a copy of many goes on after an error.
struct Report<'a> {
    told: Told<'a>,
    summary: Summary,
}

impl Report<'_> {
    fn begin(&mut self, path: &str, bytes: u64, resumed: u64) {
        (self.told)(Event::Begin { path: path.into(), bytes, resumed });
    }

    fn moved(&mut self, bytes: u64) {
        self.summary.moved_bytes = self.summary.moved_bytes.saturating_add(bytes);
        (self.told)(Event::Moved { bytes });
    }

    fn done(&mut self, path: &str, mode: u32) {
        let place = match mode & KIND {
            KIND_DIR => &mut self.summary.folders,
            KIND_LINK => &mut self.summary.links,
            _ => &mut self.summary.files,
        };
        *place = place.saturating_add(1);
        (self.told)(Event::Done { path: path.into() });
    }

    fn same(&mut self, path: &str) {
        self.summary.same = self.summary.same.saturating_add(1);
        (self.told)(Event::Same { path: path.into() });
    }

    fn left_out(&mut self, path: &str) {
        self.summary.left_out = self.summary.left_out.saturating_add(1);
        (self.told)(Event::LeftOut { path: path.into() });
    }

    /// An error of one among many.
    fn one_of_many(&mut self, result: Result<(), CopyError>) -> Result<(), CopyError> {
        match result {
            Err(err) if !err.ends_all() => {
                self.summary.failed = self.summary.failed.saturating_add(1);
                (self.told)(Event::Failed { problem: err.to_string() });
                Ok(())
            }
            other => other,
        }
    }
}
