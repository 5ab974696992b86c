//! Versions, message sizes, malformed messages, tags and fids.

use crate::ninep::raw::{Raw, attach_body, walk_body};
use crate::ninep::server::Server;
use crate::ninep::wire::{Body, NO_FID, NO_TAG, RLERROR, frame, t};
use anyhow::{Context, Result, ensure};
use std::time::{Duration, Instant};

/// One good message of every type; fids 0 (root), 1 (open file), 2 (a directory) exist, 50 and up do not.
pub(super) fn every_message() -> Vec<(u8, Body)> {
    let b = Body::new;
    let times = |body: Body| body.q(0).q(0).q(0).q(0).q(0);
    vec![
        (t::STATFS, b().d(0)),
        (t::LOPEN, b().d(50).d(0)),
        (t::LCREATE, b().d(50).s(b"made").d(2).d(0o644).d(0)),
        (t::SYMLINK, b().d(50).s(b"link").s(b"target").d(0)),
        (t::MKNOD, b().d(50).s(b"node").d(0o100_644).d(0).d(0).d(0)),
        (t::RENAME, b().d(50).d(0).s(b"renamed")),
        (t::READLINK, b().d(50)),
        (t::GETATTR, b().d(0).q(0x7ff)),
        (t::SETATTR, times(b().d(50).d(0).d(0).d(0).d(0))),
        (t::XATTRWALK, b().d(50).d(51).s(b"user.x")),
        (t::XATTRCREATE, b().d(50).s(b"user.x").q(3).d(0)),
        (t::READDIR, b().d(50).q(0).d(4096)),
        (t::LOCK, b().d(50).b(0).d(0).q(0).q(0).d(1).s(b"client")),
        (t::GETLOCK, b().d(50).b(0).q(0).q(0).d(1).s(b"client")),
        (t::LINK, b().d(0).d(50).s(b"linked")),
        (t::MKDIR, b().d(50).s(b"dir").d(0o755).d(0)),
        (t::RENAMEAT, b().d(50).s(b"old").d(0).s(b"new")),
        (t::UNLINKAT, b().d(50).s(b"gone").d(0)),
        (t::ATTACH, attach_body(50, "nowhere", 0)),
        (t::AUTH, b().d(50).s(b"root").s(b"data").d(0)),
        (t::WALK, walk_body(50, 51, &[b"a", b"b"])),
        (t::READ, b().d(50).q(0).d(100)),
        (t::WRITE, b().d(50).q(0).data(b"data")),
        (t::CLUNK, b().d(50)),
        (t::REMOVE, b().d(50)),
        // Last: `Tfsync` may end after the fid, as old clients write it.
        (t::FSYNC, b().d(50).d(0)),
    ]
}

pub(super) fn version_resets_the_session(server: &mut Server) -> Result<()> {
    let mut raw = server.client()?;
    raw.create(1, b"file", 2)?;
    raw.version(16 * 1024)?;
    ensure!(raw.msize <= 16 * 1024, "msize stayed {}", raw.msize);
    raw.refused(t::GETATTR, &Body::new().d(0).q(0x7ff)).context("an old fid lives")?;
    raw.refused(t::READ, &Body::new().d(1).q(0).d(1)).context("an old open file lives")?;
    raw.attach(0, &server.aname, 0)?;
    raw.getattr(0).map(drop)
}

pub(super) fn nothing_is_served_before_a_version(server: &mut Server) -> Result<()> {
    let mut raw = Raw::silent(&server.address)?;
    if raw.send(t::ATTACH, 1, &attach_body(0, &server.aname, 0)).is_err() {
        return Ok(());
    }
    match raw.receive() {
        Err(_) => Ok(()),
        Ok(reply) => {
            ensure!(reply.errno().is_some(), "attached without a version");
            Ok(())
        }
    }
}

pub(super) fn other_dialects_are_declined_politely(server: &mut Server) -> Result<()> {
    let mut raw = Raw::silent(&server.address)?;
    for dialect in [&b"9P2000"[..], b"9P2000.u", b"9P3000.X", b""] {
        let reply = raw.ask(t::VERSION, &Body::new().d(8192).s(dialect))?;
        if reply.errno().is_none() {
            let mut fields = reply.of(t::VERSION)?;
            fields.d()?;
            ensure!(fields.s()? == b"unknown", "{dialect:?} was accepted");
        }
    }
    raw.version(8192)
}

pub(super) fn replies_are_cut_to_msize(server: &mut Server) -> Result<()> {
    std::fs::write(server.path("big"), vec![7; 1 << 20])?;
    let mut raw = Raw::attached_with(&server.address, &server.aname, 8192)?;
    raw.open(1, b"big", 0)?;
    // `receive` itself refuses larger ones.
    let got = raw.read(1, 0, 1 << 20)?.len();
    ensure!(got > 4096 && got <= 8192 - 11, "{got} bytes of data");
    for index in 0..500 {
        std::fs::write(server.path(format!("a-rather-long-name-{index}")), b"")?;
    }
    raw.walk(0, 2, &[])?;
    raw.lopen(2, 0o200_000)?;
    let page = raw.readdir(2, 0, 1 << 20)?;
    ensure!(page.len() > 20 && page.len() < 500, "{} entries", page.len());
    ensure!(raw.list(2, u32::MAX)?.len() == 501, "entries were lost");
    Ok(())
}

pub(super) fn requests_beyond_msize_are_not_taken(server: &mut Server) -> Result<()> {
    std::fs::write(server.path("file"), b"")?;
    let mut raw = Raw::attached_with(&server.address, &server.aname, 8192)?;
    raw.open(1, b"file", 1)?;
    let big = Body::new().d(1).q(0).data(&[9; 32 * 1024]);
    // It may end the connection or answer an error; it must not write.
    if raw.send(t::WRITE, 3, &big).is_ok()
        && let Ok(reply) = raw.receive()
    {
        ensure!(reply.kind == RLERROR, "a message of 32 KiB was taken; msize is 8 KiB");
    }
    ensure!(std::fs::metadata(server.path("file"))?.len() == 0, "it was written");
    Ok(())
}

pub(super) fn absurd_sizes_end_only_their_connection(server: &mut Server) -> Result<()> {
    let mut good = server.client()?;
    for size in [0u32, 1, 6, 0x7fff_ffff, u32::MAX] {
        let mut raw = Raw::versioned(&server.address, 8192)?;
        let mut bytes = size.to_le_bytes().to_vec();
        bytes.extend_from_slice(&[t::CLUNK, 1, 0, 0, 0, 0, 0]);
        raw.send_bytes(&bytes)?;
        ensure!(raw.is_hung_up(Duration::from_secs(3)), "size {size} was not refused");
    }
    good.getattr(0).map(drop)
}

pub(super) fn unknown_types_are_answered(server: &mut Server) -> Result<()> {
    let mut raw = server.client()?;
    // Replies, the plain dialect's messages, and types that never were.
    for kind in [0, 1, 6, 7, 9, 28, 60, 78, 98, 107, 112, 114, 124, 126, 127, 200, 255] {
        let reply =
            raw.ask(kind, &Body::new().d(0).d(0)).with_context(|| format!("type {kind}"))?;
        ensure!(reply.kind == RLERROR, "type {kind} was answered by type {}", reply.kind);
    }
    raw.getattr(0).map(drop)
}

pub(super) fn messages_cut_at_every_byte_are_refused(server: &mut Server) -> Result<()> {
    let mut raw = server.client()?;
    for (kind, body) in every_message() {
        for length in 0..body.bytes().len() {
            if kind == t::FSYNC && length == 4 {
                continue;
            }
            raw.send_bytes(&frame(kind, 5, &body.bytes()[..length]))?;
            let reply = raw.receive().with_context(|| format!("type {kind} cut to {length}"))?;
            ensure!(reply.tag == 5, "tag {} answers type {kind} cut to {length}", reply.tag);
            ensure!(reply.kind == RLERROR, "type {kind} cut to {length} bytes was taken");
        }
    }
    raw.getattr(0).map(drop)
}

pub(super) fn strings_longer_than_their_message_are_refused(server: &mut Server) -> Result<()> {
    let mut raw = server.client()?;
    let bodies = [
        (t::WALK, Body::new().d(0).d(9).h(1).h(0xffff).b(b'a')),
        (t::WALK, Body::new().d(0).d(9).h(0xffff)),
        (t::MKDIR, Body::new().d(0).h(200).b(b'a').d(0o755).d(0)),
        (t::WRITE, Body::new().d(0).q(0).d(u32::MAX).b(1)),
    ];
    for (kind, body) in bodies {
        let reply = raw.ask(kind, &body).with_context(|| format!("type {kind}"))?;
        ensure!(reply.kind == RLERROR, "type {kind} was taken");
    }
    raw.getattr(0).map(drop)
}

pub(super) fn streams_cut_at_every_byte_harm_nobody(server: &mut Server) -> Result<()> {
    let mut good = server.client()?;
    let messages = every_message().into_iter().chain([(t::FLUSH, Body::new().h(9))]);
    for (kind, body) in messages {
        let whole = body.frame(kind, 5);
        for length in [1, 4, 7, whole.len() / 2, whole.len() - 1] {
            let mut raw = server.client()?;
            raw.send_bytes(&whole[..length.min(whole.len() - 1)])?;
        }
        good.getattr(0)?;
    }
    Ok(())
}

pub(super) fn random_bytes_end_only_their_connection(server: &mut Server) -> Result<()> {
    let mut good = server.client()?;
    let mut seed = 7u64;
    for round in 0..60 {
        let noise: Vec<u8> = (0..512)
            .map(|_| {
                seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                (seed >> 56) as u8
            })
            .collect();
        let mut raw = server.client()?;
        // Half of them with a believable size, so that the noise reaches the fields.
        let bytes = if round % 2 == 0 { noise } else { frame(noise[0], 1, &noise[..64]) };
        let _ = raw.send_bytes(&bytes);
    }
    good.getattr(0).map(drop)
}

pub(super) fn a_tag_in_use_is_refused(server: &mut Server) -> Result<()> {
    let mut holder = server.client()?;
    holder.create(1, b"locked", 2)?;
    holder.ok(t::LOCK, &super::locks::lock_body(1, 1, 0, 0, 0))?;
    let mut raw = server.client()?;
    raw.open(1, b"locked", 2)?;
    raw.send(t::LOCK, 77, &super::locks::lock_body(1, 1, 1, 0, 0))?;
    ensure!(raw.is_quiet(Duration::from_millis(100))?, "the lock did not wait");
    raw.send(t::GETATTR, 77, &Body::new().d(0).q(0x7ff))?;
    let reply = raw.receive().context("a tag used twice")?;
    ensure!(reply.kind == RLERROR, "two requests with one tag were taken");
    holder.clunk(1)?;
    let reply = raw.receive().context("the request that was there first")?;
    ensure!((reply.tag, reply.kind) == (77, t::LOCK + 1), "it was not granted");
    Ok(())
}

pub(super) fn tags_come_again_at_once(server: &mut Server) -> Result<()> {
    let mut raw = server.client()?;
    for _ in 0..200 {
        raw.send(t::GETATTR, 3, &Body::new().d(0).q(0x7ff))?;
        let reply = raw.receive()?;
        ensure!((reply.tag, reply.kind) == (3, t::GETATTR + 1), "a tag cannot be used again");
    }
    // The tag of Tversion is for Tversion; a request that uses it is answered all the same.
    raw.send(t::GETATTR, NO_TAG, &Body::new().d(0).q(0x7ff))?;
    raw.receive().map(drop)
}

pub(super) fn a_newfid_in_use_is_refused(server: &mut Server) -> Result<()> {
    std::fs::create_dir(server.path("a"))?;
    std::fs::write(server.path("b"), b"b")?;
    let mut raw = server.client()?;
    raw.reach(1, &[b"a"])?;
    raw.reach(2, &[b"b"])?;
    let before = raw.getattr(2)?;
    raw.refused(t::WALK, &walk_body(0, 2, &[b"a"])).context("a fid in use was bound again")?;
    ensure!(raw.getattr(2)?.qid.path == before.qid.path, "the fid moved");
    raw.refused(t::WALK, &walk_body(0, NO_FID, &[])).context("the fid that is none was bound")?;
    raw.refused(t::ATTACH, &attach_body(2, &server.aname, 0)).context("attach over a fid")?;
    Ok(())
}

pub(super) fn unknown_fids_are_refused(server: &mut Server) -> Result<()> {
    let mut raw = server.client()?;
    for (kind, body) in every_message() {
        if matches!(kind, t::STATFS | t::GETATTR) {
            continue;
        }
        raw.refused(kind, &body).with_context(|| format!("type {kind} on a fid that is none"))?;
    }
    raw.getattr(0).map(drop)
}

pub(super) fn fids_can_be_reused_at_once(server: &mut Server) -> Result<()> {
    std::fs::write(server.path("file"), b"x")?;
    let mut raw = server.client()?;
    for _ in 0..500 {
        raw.reach(1, &[b"file"])?;
        raw.clunk(1)?;
    }
    raw.refused(t::CLUNK, &Body::new().d(1)).context("a fid was clunked twice")?;
    // In one write, without waiting for an answer.
    let mut burst = Vec::new();
    for tag in 0..100 {
        burst.extend(walk_body(0, 1, &[b"file"]).frame(t::WALK, tag * 2));
        burst.extend(Body::new().d(1).frame(t::CLUNK, tag * 2 + 1));
    }
    raw.send_bytes(&burst)?;
    for _ in 0..200 {
        let reply = raw.receive()?;
        ensure!(reply.kind != RLERROR, "a walk or clunk was overtaken");
    }
    Ok(())
}

pub(super) fn clunk_frees_the_fid_even_on_error(server: &mut Server) -> Result<()> {
    std::fs::write(server.path("file"), b"x")?;
    let mut raw = server.client()?;
    raw.reach(1, &[b"file"])?;
    // Ten bytes are announced and none comes, so that the clunk cannot set the attribute.
    raw.ok(t::XATTRCREATE, &Body::new().d(1).s(b"user.x").q(10).d(0))?;
    raw.refused(t::CLUNK, &Body::new().d(1)).context("half an attribute was set")?;
    raw.reach(1, &[b"file"]).context("the fid is still in use")
}

pub(super) fn remove_always_clunks(server: &mut Server) -> Result<()> {
    std::fs::create_dir_all(server.path("dir/inner"))?;
    std::fs::write(server.path("file"), b"x")?;
    let mut raw = server.client()?;
    raw.reach(1, &[b"dir"])?;
    raw.refused(t::REMOVE, &Body::new().d(1)).context("a full directory was removed")?;
    raw.refused(t::GETATTR, &Body::new().d(1).q(0x7ff)).context("the fid lives after the error")?;
    raw.reach(1, &[b"file"]).context("the fid is still in use")?;
    raw.ok(t::REMOVE, &Body::new().d(1))?;
    ensure!(!server.path("file").exists(), "the file is still there");
    raw.refused(t::CLUNK, &Body::new().d(1)).context("the fid lives").map(drop)
}

pub(super) fn nobody_becomes_another_by_asking(server: &mut Server) -> Result<()> {
    let mut raw = server.client()?;
    // Names of users prove nothing: what such a user makes does not belong to him.
    if raw.attach(5, &server.aname, 12_345).is_ok() {
        raw.ok(t::MKDIR, &Body::new().d(5).s(b"theirs").d(0o777).d(0)).map(drop).or_else(
            |err| {
                ensure!(!server.path("theirs").exists(), "{err}");
                Ok(())
            },
        )?;
        use std::os::unix::fs::MetadataExt;
        let owner = std::fs::metadata(server.path("theirs")).map_or(0, |meta| meta.uid());
        ensure!(owner != 12_345, "a client acts as user 12345 because it says so");
    }
    raw.refused(t::ATTACH, &attach_body(6, "/etc", 0)).context("a tree that is not offered")?;
    let around = server.around.path().display().to_string();
    raw.refused(t::ATTACH, &attach_body(6, &around, 0)).context("the directory above")?;
    for aname in [format!("{}/..", server.aname), format!("{}/../fixed", server.aname)] {
        raw.refused(t::ATTACH, &attach_body(6, &aname, 0)).with_context(|| aname)?;
    }
    Ok(())
}

pub(super) fn a_silent_peer_is_put_out(server: &mut Server) -> Result<()> {
    let start = Instant::now();
    let mut silent = Raw::silent(&server.address)?;
    let mut half = Raw::silent(&server.address)?;
    half.send_bytes(&[20, 0, 0])?;
    let mut versioned = Raw::versioned(&server.address, 8192)?;
    let mut attached = server.client()?;
    let wait = Duration::from_secs(5);
    ensure!(silent.is_hung_up(wait), "one that says nothing keeps its place");
    ensure!(half.is_hung_up(wait), "one that sent three bytes keeps its place");
    ensure!(versioned.is_hung_up(wait), "one that never attaches keeps its place");
    ensure!(start.elapsed() < wait * 2, "that took {:?}", start.elapsed());
    attached.getattr(0).context("an idle client that is attached was put out").map(drop)
}
