//! Open files: data, flags, names that change beneath them.

use crate::ninep::server::Server;
use crate::ninep::wire::{Body, t};
use anyhow::{Context, Result, ensure};
use std::os::unix::fs::MetadataExt;

const ENOSPC: u32 = 28;
const EDQUOT: u32 = 122;
const EROFS: u32 = 30;
/// Flags of `open(2)` that are no business of a server.
const O_NOCTTY: u32 = 0o400;
const O_NONBLOCK: u32 = 0o4000;
const O_DIRECT: u32 = 0o40_000;
const O_APPEND: u32 = 0o2000;
const O_TRUNC: u32 = 0o1000;
const O_EXCL: u32 = 0o200;

pub(super) fn appends_go_to_the_end(server: &mut Server) -> Result<()> {
    std::fs::write(server.path("log"), b"start ")?;
    let mut raw = server.client()?;
    raw.open(1, b"log", 1 | O_APPEND)?;
    raw.open(2, b"log", 2)?;
    raw.write(1, 0, b"one ")?;
    raw.write(2, 10, b"two ")?;
    // The client's idea of the end is old by now.
    raw.write(1, 10, b"three")?;
    let text = std::fs::read_to_string(server.path("log"))?;
    ensure!(text == "start one two three", "{text:?}");
    raw.create(3, b"new", 1 | O_APPEND)?;
    raw.write(3, 0, b"a")?;
    raw.write(3, 0, b"b")?;
    ensure!(std::fs::read(server.path("new"))? == b"ab", "O_APPEND of a created file");
    Ok(())
}

pub(super) fn flags_for_the_client_only_are_masked(server: &mut Server) -> Result<()> {
    std::fs::write(server.path("file"), b"0123456789")?;
    let mut raw = server.client()?;
    for extra in [O_DIRECT, O_NONBLOCK, O_NOCTTY, O_DIRECT | O_NONBLOCK | O_NOCTTY] {
        raw.open(1, b"file", 2 | extra).with_context(|| format!("flags {extra:#o}"))?;
        // With O_DIRECT in force neither would be aligned.
        ensure!(
            raw.read(1, 3, 5).with_context(|| format!("flags {extra:#o}"))? == b"34567",
            "read"
        );
        raw.write(1, 1, b"1").with_context(|| format!("flags {extra:#o}"))?;
        raw.clunk(1)?;
    }
    Ok(())
}

pub(super) fn access_is_what_was_opened(server: &mut Server) -> Result<()> {
    std::fs::write(server.path("file"), b"data")?;
    std::fs::create_dir(server.path("dir"))?;
    let mut raw = server.client()?;
    let read = |fid| Body::new().d(fid).q(0).d(10);
    let write = |fid| Body::new().d(fid).q(0).data(b"x");
    raw.open(1, b"file", 0)?;
    raw.refused(t::WRITE, &write(1)).context("written through a fid open for reading")?;
    raw.open(2, b"file", 1)?;
    raw.refused(t::READ, &read(2)).context("read through a fid open for writing")?;
    raw.reach(3, &[b"file"])?;
    raw.refused(t::READ, &read(3)).context("read through a fid that is not open")?;
    raw.refused(t::LOPEN, &Body::new().d(1).d(0)).context("opened twice")?;
    raw.refused(t::READDIR, &Body::new().d(1).q(0).d(4096)).context("a file was listed")?;
    raw.reach(4, &[b"dir"])?;
    raw.refused(t::LOPEN, &Body::new().d(4).d(2)).context("a directory open for writing")?;
    raw.lopen(4, 0o200_000)?;
    raw.refused(t::READ, &read(4)).context("a directory was read")?;
    raw.refused(t::WRITE, &write(4)).context("a directory was written")?;
    ensure!(std::fs::read(server.path("file"))? == b"data", "the file was harmed");
    Ok(())
}

pub(super) fn create_and_cut_do_what_they_say(server: &mut Server) -> Result<()> {
    let mut raw = server.client()?;
    raw.create(1, b"file", 2)?;
    raw.write(1, 0, b"content")?;
    raw.walk(0, 2, &[])?;
    let again = Body::new().d(2).s(b"file").d(2 | O_EXCL).d(0o644).d(0);
    let errno = raw.refused(t::LCREATE, &again).context("O_EXCL of a file that is there")?;
    ensure!(errno == 17, "error {errno} instead of EEXIST");
    raw.getattr(2).context("the directory's fid after the error")?;
    raw.open(3, b"file", 2 | O_TRUNC)?;
    ensure!(raw.getattr(1)?.size == 0, "O_TRUNC did not cut");
    ensure!(raw.read(1, 0, 10)?.is_empty(), "the old content is still read");
    Ok(())
}

pub(super) fn an_open_file_outlives_its_name(server: &mut Server) -> Result<()> {
    let mut raw = server.client()?;
    raw.create(1, b"gone", 2)?;
    raw.write(1, 0, b"before")?;
    raw.ok(t::UNLINKAT, &Body::new().d(0).s(b"gone").d(0))?;
    raw.write(1, 6, b" and after")?;
    ensure!(raw.read(1, 0, 100)? == b"before and after", "the content is lost");
    let attr = raw.getattr(1).context("attributes of an open file without a name")?;
    ensure!((attr.size, attr.nlink) == (16, 0), "size {} links {}", attr.size, attr.nlink);
    let cut = Body::new().d(1).d(8).d(0).d(0).d(0).q(3).q(0).q(0).q(0).q(0);
    raw.ok(t::SETATTR, &cut).context("cutting an open file without a name")?;
    ensure!(raw.read(1, 0, 100)? == b"bef", "it was not cut");
    raw.clunk(1)
}

pub(super) fn a_rename_replaces_and_disturbs_no_fid(server: &mut Server) -> Result<()> {
    std::fs::write(server.path("old"), b"old content")?;
    std::fs::write(server.path("new"), b"new content")?;
    std::fs::create_dir(server.path("dir"))?;
    let mut raw = server.client()?;
    raw.open(1, b"old", 2)?;
    raw.open(2, b"new", 2)?;
    raw.reach(3, &[b"new"])?;
    raw.ok(t::RENAMEAT, &Body::new().d(0).s(b"new").d(0).s(b"old"))?;
    ensure!(raw.read(1, 0, 100)? == b"old content", "the fid of the replaced file moved");
    ensure!(raw.read(2, 0, 100)? == b"new content", "the fid of the moved file is lost");
    ensure!(raw.getattr(3).context("a fid whose file was renamed")?.size == 11, "another file");
    raw.lopen(3, 0).context("opening a fid whose file was renamed")?;
    ensure!(!server.path("new").exists(), "the old name is still there");
    ensure!(std::fs::read(server.path("old"))? == b"new content", "it was not replaced");
    // Of a directory above.
    std::fs::write(server.path("dir/inner"), b"inner")?;
    raw.reach(4, &[b"dir", b"inner"])?;
    std::fs::rename(server.path("dir"), server.path("elsewhere"))?;
    raw.lopen(4, 0).context("opening a fid whose directory was renamed")?;
    ensure!(raw.read(4, 0, 100)? == b"inner", "another file");
    raw.refused(t::RENAMEAT, &Body::new().d(0).s(b"none").d(0).s(b"x")).map(drop)
}

pub(super) fn hard_links_are_one_file(server: &mut Server) -> Result<()> {
    let mut raw = server.client()?;
    raw.create(1, b"one", 2)?;
    raw.ok(t::LINK, &Body::new().d(0).d(1).s(b"two"))?;
    raw.reach(2, &[b"two"])?;
    let (one, two) = (raw.getattr(1)?, raw.getattr(2)?);
    ensure!((one.nlink, two.nlink) == (2, 2), "{} and {} links", one.nlink, two.nlink);
    ensure!(one.qid.path == two.qid.path, "two files");
    raw.write(1, 0, b"shared")?;
    raw.lopen(2, 0)?;
    ensure!(raw.read(2, 0, 10)? == b"shared", "two contents");
    raw.refused(t::LINK, &Body::new().d(0).d(0).s(b"dir")).context("a link to a directory")?;
    raw.ok(t::UNLINKAT, &Body::new().d(0).s(b"one").d(0))?;
    ensure!(raw.getattr(2)?.nlink == 1, "the count did not fall");
    Ok(())
}

pub(super) fn holes_cost_nothing(server: &mut Server) -> Result<()> {
    let mut raw = server.client()?;
    raw.create(1, b"sparse", 2)?;
    let far = 1 << 33;
    raw.write(1, far, b"end")?;
    let attr = raw.getattr(1)?;
    ensure!(attr.size == far + 3, "size {}", attr.size);
    ensure!(attr.blocks < 1024, "{} blocks", attr.blocks);
    ensure!(raw.read(1, far / 2, 4096)? == vec![0; 4096], "a hole is not zeros");
    ensure!(raw.read(1, far, 10)? == b"end", "the end");
    ensure!(raw.read(1, far + 3, 10)?.is_empty(), "behind the end");
    Ok(())
}

pub(super) fn offsets_beyond_2_to_63_are_refused(server: &mut Server) -> Result<()> {
    let mut raw = server.client()?;
    raw.create(1, b"file", 2)?;
    raw.write(1, 0, b"content")?;
    for offset in [1 << 63, u64::MAX - 1, u64::MAX] {
        let reply = raw.ask(t::READ, &Body::new().d(1).q(offset).d(10))?;
        let nothing = reply.errno().is_some() || reply.body == [0, 0, 0, 0];
        ensure!(nothing, "something was read at {offset}");
        raw.refused(t::WRITE, &Body::new().d(1).q(offset).data(b"x"))
            .with_context(|| format!("written at {offset}"))?;
        let cut = Body::new().d(1).d(8).d(0).d(0).d(0).q(offset).q(0).q(0).q(0).q(0);
        raw.refused(t::SETATTR, &cut).with_context(|| format!("a size of {offset}"))?;
    }
    let last = raw.ask(t::READ, &Body::new().d(1).q(i64::MAX as u64).d(10))?;
    ensure!(last.errno().is_some() || last.body == [0, 0, 0, 0], "something is at the last offset");
    // Just beyond what a file may have.
    raw.refused(t::WRITE, &Body::new().d(1).q(i64::MAX as u64).data(b"xy")).context("too far")?;
    raw.walk(0, 2, &[])?;
    raw.lopen(2, 0o200_000)?;
    for cookie in [1 << 63, u64::MAX] {
        raw.ask(t::READDIR, &Body::new().d(2).q(cookie).d(4096))?;
    }
    ensure!(std::fs::metadata(server.path("file"))?.len() == 7, "the size changed");
    Ok(())
}

pub(super) fn fsync_is_answered_by_files_and_directories(server: &mut Server) -> Result<()> {
    std::fs::create_dir(server.path("dir"))?;
    let mut raw = server.client()?;
    raw.create(1, b"file", 2)?;
    raw.write(1, 0, b"data")?;
    for datasync in [0, 1] {
        raw.ok(t::FSYNC, &Body::new().d(1).d(datasync)).context("a file")?;
    }
    raw.ok(t::FSYNC, &Body::new().d(1)).context("the short form of old clients")?;
    // Programs sync a directory after a rename in it.
    raw.reach(2, &[b"dir"])?;
    raw.lopen(2, 0o200_000)?;
    raw.ok(t::FSYNC, &Body::new().d(2).d(0)).context("a directory")?;
    raw.refused(t::FSYNC, &Body::new().d(0).d(0)).context("a fid that is not open").map(drop)
}

pub(super) fn large_writes_and_reads_are_whole(server: &mut Server) -> Result<()> {
    let mut raw = server.client()?;
    raw.version(512 * 1024 + 24)?;
    raw.attach(0, &server.aname, 0)?;
    raw.create(1, b"big", 2)?;
    let count = raw.msize - 24;
    let mut pattern = Vec::new();
    for block in 0..40u64 {
        let part: Vec<u8> =
            (0..u64::from(count)).map(|i| ((i * 7 + block * 13) % 251) as u8).collect();
        let mut sent = 0;
        while sent < part.len() {
            let took = raw.write(1, (pattern.len() + sent) as u64, &part[sent..])?;
            ensure!(took > 0, "nothing was taken");
            sent += took as usize;
        }
        pattern.extend(part);
    }
    let mut read = Vec::new();
    while read.len() < pattern.len() {
        let part = raw.read(1, read.len() as u64, count)?;
        ensure!(!part.is_empty(), "it ends at {}", read.len());
        read.extend(part);
    }
    ensure!(read == pattern, "other bytes came back");
    ensure!(std::fs::read(server.path("big"))? == pattern, "other bytes are on the disk");
    Ok(())
}

/// Writes until it is refused; the error and the bytes that were taken.
fn fill(raw: &mut crate::ninep::raw::Raw, fid: u32, most: u64) -> Result<(u32, u64)> {
    let block = vec![0xee; 32 * 1024];
    let mut at = 0;
    while at < most {
        let reply = raw.ask(t::WRITE, &Body::new().d(fid).q(at).data(&block))?;
        if let Some(errno) = reply.errno() {
            return Ok((errno, at));
        }
        at += u64::from(reply.of(t::WRITE)?.d()?);
    }
    Ok((0, at))
}

pub(super) fn a_full_disk_is_an_error_and_no_end(server: &mut Server) -> Result<()> {
    let mut raw = server.client()?;
    raw.reach(1, &[b"small"])?;
    raw.ok(t::LCREATE, &Body::new().d(1).s(b"file").d(2).d(0o644).d(0))?;
    let (errno, taken) = fill(&mut raw, 1, 64 << 20)?;
    ensure!(errno == ENOSPC, "error {errno} instead of ENOSPC after {taken} bytes");
    ensure!(raw.getattr(1)?.size == taken, "the size is not what was taken");
    ensure!(raw.read(1, 0, 4)? == [0xee; 4], "the content is lost");
    // The other disk is as it was, and room that is given back can be used.
    raw.create(2, b"elsewhere", 2)?;
    raw.write(2, 0, b"fine")?;
    let cut = Body::new().d(1).d(8).d(0).d(0).d(0).q(0).q(0).q(0).q(0).q(0);
    raw.ok(t::SETATTR, &cut)?;
    ensure!(raw.write(1, 0, b"again")? == 5, "room that was given back");
    Ok(())
}

pub(super) fn a_spent_quota_is_an_error_and_no_end(server: &mut Server) -> Result<()> {
    let mut raw = server.client()?;
    raw.reach(1, &[b"small", b"limited"])?;
    raw.ok(t::LCREATE, &Body::new().d(1).s(b"file").d(2).d(0o644).d(0))?;
    let (mut errno, taken) = fill(&mut raw, 1, 32 << 20)?;
    // A file system that allocates late says so when it is synced or written the next time.
    if errno == 0 {
        errno = raw.ask(t::FSYNC, &Body::new().d(1).d(0))?.errno().unwrap_or(0);
    }
    ensure!(errno == EDQUOT, "error {errno} instead of EDQUOT after {taken} bytes");
    raw.getattr(1)?;
    raw.create(2, b"elsewhere", 2)?;
    raw.write(2, 0, b"fine").map(drop)
}

pub(super) fn a_disk_that_turns_read_only_is_an_error(server: &mut Server) -> Result<()> {
    let mut raw = server.client()?;
    raw.reach(1, &[b"small"])?;
    raw.ok(t::LCREATE, &Body::new().d(1).s(b"file").d(2).d(0o644).d(0))?;
    raw.write(1, 0, b"before")?;
    raw.clunk(1)?;
    server.in_mounts("mount -o remount,ro small")?;
    raw.reach(1, &[b"small"])?;
    let make = Body::new().d(1).s(b"dir").d(0o755).d(0);
    let errno = raw.refused(t::MKDIR, &make).context("made on a read-only disk")?;
    ensure!(errno == EROFS, "error {errno} instead of EROFS");
    raw.reach(2, &[b"small", b"file"])?;
    let errno = raw.refused(t::LOPEN, &Body::new().d(2).d(2)).context("opened for writing")?;
    ensure!(errno == EROFS, "error {errno} instead of EROFS");
    raw.lopen(2, 0)?;
    ensure!(raw.read(2, 0, 10)? == b"before", "it cannot be read");
    Ok(())
}

pub(super) fn new_files_get_the_mode_that_was_asked_for(server: &mut Server) -> Result<()> {
    let mut raw = server.client()?;
    for mode in [0o600, 0o644, 0o755, 0o777, 0o400] {
        let name = format!("mode-{mode:o}");
        raw.walk(0, 1, &[])?;
        raw.ok(t::LCREATE, &Body::new().d(1).s(name.as_bytes()).d(1).d(mode).d(0))?;
        let made = std::fs::metadata(server.path(&name))?.mode() & 0o7777;
        ensure!(made == mode, "{made:o} instead of {mode:o}");
        raw.clunk(1)?;
    }
    raw.ok(t::MKDIR, &Body::new().d(0).s(b"dir").d(0o711).d(0))?;
    let made = std::fs::metadata(server.path("dir"))?.mode() & 0o7777;
    ensure!(made == 0o711, "{made:o} instead of 711");
    Ok(())
}
