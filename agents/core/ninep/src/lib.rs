//! 9P2000.L: codec, session rules, server and client over any stream, synthetic trees.
//!
//! What it does **not** do: open files or sockets, read a clock, know who the peer is. A file tree is a
//! [`Backend`] (host directories live in the share agent, synthetic trees in [`synthetic`]); a stream is
//! a [`Stream`] (`goblin_sys::socket` implements it for TCP and unix sockets).
//!
//! ```text
//!   bytes <-> wire, body, message      no I/O, borrows, never panics
//!             session, ledger, feed    fids, tags, msize; changes done once, told, kept: pure
//!             connection               one frame in, one reply out or a job for later
//!             serve, turn              threads: reads frames, writes replies, runs jobs
//! ```
//!
//! Invariants:
//! - Any bytes are answered or refused; none panics. Memory for one connection is bounded by
//!   [`Limits`] and msize.
//! - No message larger than the agreed msize is accepted or sent, and none that says more than it holds: data that the
//!   kernel holds is counted before its header is written.
//! - A fid is bound only by a complete walk, and never over one in use; clunk and remove always free it.
//! - One request that waits never delays another: what is known to wait runs on a helper thread. What waits for a disk
//!   has a few threads and a queue of [`Limits::disk_queue_max`] requests; only beyond it the reading thread does the
//!   work. What turns out to wait while the reading thread does it costs the others some milliseconds: then another
//!   thread reads on, up to [`Limits::late_max`] times at once.
//! - Requests are begun in the order in which they came. What needs a fid that an earlier request makes waits for it, so
//!   a client may send both at once; other requests may overtake each other.
//! - After a connection's end none of its requests has an effect any more, unless a disk takes longer than seconds.
//! - `Tflush` is answered at once unless the old request has passed its point of no return; then right after
//!   it. After the answer the old tag is never answered, and the old request has no effect any more.
//! - Names with a slash or NUL, empty, `.` or longer than 255 bytes reach no backend.
//!
//! Boards speak [`gob1`] to each other: 9P2000.L with fewer round trips and changes that may be sent twice.
//!
//! Called by the share agent, the control agent and the mount agent; the command line uses [`client`].

mod body;
mod cancel;
pub mod client;
mod connection;
mod dispatch;
mod errno;
mod extended;
mod feed;
pub mod gob1;
mod ledger;
mod message;
mod qid;
mod serve;
mod server;
mod session;
mod spliced;
pub mod synthetic;
mod talk;
mod turn;
pub mod wire;

pub use body::{Attr, AttrEntry, DirEntry, Names, Qids, SetAttr, StatFs, Time};
pub use cancel::Cancel;
pub use connection::{Connection, Deferred, Finished, Handled, ReplyBuf};
pub use errno::Errno;
pub use feed::{CHANGES_KEPT_MAX, Change, Feed, Token, What};
pub use ledger::{Ledger, OPS_KEPT_MAX, SERIES_MAX};
pub use message::{
    HEADER_BYTES, Header, KIND_GOB1_MIN, NO_FID, NO_TAG, Reply, Request, VERSION_9P2000L,
    VERSION_GOB1, lock,
};
pub use qid::Qid;
pub use serve::{End, Stream, serve};
pub use server::{
    Answer, AttachRequest, Backend, Created, DirPage, Job, LockRange, NewNode, Opened, ReadAnswer,
    SpliceAnswer, WaitsFor,
};
pub use session::{Agreed, Flush, Limits, MSIZE_MAX, MSIZE_MIN, Session};
pub use spliced::{Content, Outgoing, Spliced};
pub use wire::WireError;

/// Most names in one walk (MAXWELEM of `walk(5)`).
pub const WALK_NAMES_MAX: usize = 16;
/// Longest name in bytes (NAME_MAX of Linux).
pub const NAME_BYTES_MAX: usize = 255;
