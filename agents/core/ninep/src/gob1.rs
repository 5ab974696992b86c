//! The dialect `9P2000.L.gob1`: 9P2000.L with fewer round trips, and changes that may be sent twice.
//!
//! A client offers `9P2000.L.gob1` in `Tversion`. A server that speaks it answers the same; one that does not answers
//! `9P2000.L` (or `unknown`, and is asked again with `9P2000.L`), and every message of 9P2000.L is as it was. In a
//! session of plain 9P2000.L the types below are refused with `EOPNOTSUPP`. Stock Linux never asks for it.
//! [`Client::connect_extended`](crate::client::Client::connect_extended) does all of this, and its methods do without
//! where the server has not got it.
//!
//! Every message is `size[4] type[1] tag[2] body`; integers are little-endian, `[s]` is `length[2] bytes`, `attr[153]` is
//! the body of `Rgetattr` with all basic fields.
//!
//! ```text
//! 128 Tgwalk    fid[4] newfid[4] nwname[2] nwname*(wname[s])
//! 129 Rgwalk    attr[153] nwqid[2] nwqid*(qid[13])
//! 130 Tgreaddir fid[4] offset[8] count[4]
//! 131 Rgreaddir count[4] data[count]        entries: offset[8] type[1] name[s] attr[153]
//! 132 Tgopen    fid[4] newfid[4] flags[4] count[4] nwname[2] nwname*(wname[s])
//! 133 Rgopen    attr[153] iounit[4] eof[1] count[4] data[count]
//! 134 Tgcreate  dfid[4] newfid[4] flags[4] mode[4] gid[4] name[s] count[4] data[count]
//! 135 Rgcreate  attr[153] iounit[4] count[4]
//! 136 Tonce     series[8] number[8] type[1] body[..]     a whole request without its size and tag
//! 137 Ronce     type[1] body[..]                         its reply
//! 138 Tgtoken   fid[4]
//! 139 Rgtoken   token[16] durable[8]                     token: epoch[8] number[8]
//! 140 Tgsync    fid[4] token[16]
//! 141 Rgsync    token[16]
//! 142 Tgchanges fid[4] token[16] count[4]
//! 143 Rgchanges token[16] count[4] data[count]           changes: number[8] what[1] dir[8] file[8] name[s]
//! ```
//!
//! - **Tgwalk** is `Twalk` and `Tgetattr` of the end. A walk that stops half way answers the qids of what it found and
//!   an `attr` whose `valid` is 0; nothing is bound then.
//! - **Tgreaddir** is `Treaddir` with the attributes of each entry. An entry that went away meanwhile has `valid` 0.
//!   Cookies are those of `Treaddir`; both may be mixed.
//! - **Tgopen** is `Twalk`, `Tlopen`, `Tgetattr` and the first `Tread`. All names must be found, or the error says
//!   which was not; `newfid` must not be in use and differ from `fid`. The data may be shorter than `count`, also
//!   empty (a directory, a cold disk): read the rest by `Tread`, unless `eof` is 1.
//! - **Tgcreate** is `Twalk` (a copy), `Tlcreate`, the first `Twrite` at offset 0 and, with `newfid` `0xffffffff`,
//!   `Tclunk`. An error after the creation leaves an empty file, as the separate messages would. `count` may be
//!   smaller than what was sent; a full disk is the error of the next write.
//! - **Tonce** does a change at most once, however often it is sent. The client draws a random `series` for each run of
//!   its own and numbers its changes from 0 in the order of sending. When the connection is lost before the answer, the
//!   client connects again, binds its fids again and sends the **same** message (series and number; the fids inside may
//!   differ): the server answers as it did the first time, or does the change now if it never came.
//!   - Inside may be: `Tsymlink Tmknod Trename Tsetattr Tlink Tmkdir Trenameat Tunlinkat`, and `Tgcreate` with `newfid`
//!     `0xffffffff`. Anything else is `EINVAL`.
//!   - The reply inside may be `Rlerror` (7); it is kept and repeated like any other. Errors that come before any
//!     effect (`EBADF`, `EPROTO`, `EINVAL` of this message) are not kept.
//!   - `EAGAIN`: the first one is still being done on another connection; ask again.
//!   - `ESTALE`: nobody knows whether it was done: the server ran anew since, or [`OPS_KEPT_MAX`](crate::OPS_KEPT_MAX)
//!     later changes or [`SERIES_MAX`](crate::SERIES_MAX) other series have pushed it out. Look, and begin a new series.
//!   - The ledger is kept for each client key, in memory.
//!
//! **Binding fids again** after a reconnect needs no message of its own: `Tgwalk` along the old names, and the file is
//! the old one if and only if its `qid.path` is ([`Client::rebind`](crate::client::Client::rebind)); its `qid.version`
//! says whether cached bytes still hold. An open file whose name is gone cannot be bound again.
//!
//! **Tokens.** Every change that a client of this server does to a tree has a number, one more than the one before. A
//! token is such a number in an *epoch*, which differs whenever nobody knows any more what was done before: the server
//! ran anew (as after a power cut), or its disk failed to keep something.
//!
//! - **Tgtoken** answers where the tree is now: every change that was answered before is at or before `token`, and those
//!   up to `durable` are on the disk.
//! - **Tgsync** waits until everything up to `token` is on the disk, as after an `fsync` of every file and directory
//!   concerned, and answers how far it is. So a client writes a thousand files, takes a token, and waits once.
//!   - `ESTALE`: the token is of another epoch. What was not known to be on the disk may be lost: look, and do it again.
//!     `EINVAL`: it was never handed out. `EIO` and the like: the disk failed; the epoch is over.
//!   - The disk is that of the tree's root; what is mounted inside it is not waited for.
//! - **Tgchanges** answers the changes after `token`, as soon as there are any: at least one, and the token to ask with
//!   next. It waits like a read of an event file: `Tflush` and the fid's clunk end it.
//!   - `what` is 1 content, 2 attributes, 3 made, 4 removed, 5 moved from, 6 moved to ([`What`](crate::What)). `file` and
//!     `dir` are `qid.path`s; `name` is a name in `dir`. Both are 0 and empty where they do not apply or are not known. A
//!     move is two changes with consecutive numbers.
//!   - Content that changes again before anything else does is told once, with the last number.
//!   - A client's own changes are told, too. Changes that programs of the board make beside the server are not.
//!   - `ESTALE`: the token is of another epoch, or more than [`CHANGES_KEPT_MAX`](crate::CHANGES_KEPT_MAX) changes came
//!     since: take a new token, look at everything, and go on from there. `EINVAL`: it was never handed out, or `count`
//!     is less than one change can have (282).
//!
//! Not part of it yet: leases.
