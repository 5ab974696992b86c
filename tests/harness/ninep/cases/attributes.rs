//! Attributes, qids, extended attributes, numbers of the file system.

use crate::ninep::raw::Raw;
use crate::ninep::server::Server;
use crate::ninep::wire::{Body, t};
use anyhow::{Context, Result, ensure};
use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt;

const MODE: u32 = 0x1;
const UID: u32 = 0x2;
const SIZE: u32 = 0x8;
const ATIME: u32 = 0x10;
const MTIME: u32 = 0x20;
const ATIME_SET: u32 = 0x80;
const MTIME_SET: u32 = 0x100;

fn setattr(fid: u32, valid: u32, mode: u32, size: u64, mtime: (u64, u64)) -> Body {
    let body = Body::new().d(fid).d(valid).d(mode).d(0).d(0).q(size);
    body.q(0).q(0).q(mtime.0).q(mtime.1)
}

pub(super) fn attributes_are_the_files(server: &mut Server) -> Result<()> {
    std::fs::write(server.path("file"), b"12345")?;
    std::fs::create_dir(server.path("dir"))?;
    let mut raw = server.client()?;
    for (fid, name) in (1..).zip(["file", "dir"]) {
        raw.reach(fid, &[name.as_bytes()])?;
        let (attr, meta) = (raw.getattr(fid)?, std::fs::metadata(server.path(name))?);
        ensure!((attr.mode, attr.size) == (meta.mode(), meta.size()), "{name}: {attr:?}");
        ensure!((attr.nlink, attr.uid) == (meta.nlink(), meta.uid()), "{name}: {attr:?}");
        ensure!((attr.qid.kind == 0x80) == meta.is_dir(), "{name}: qid {:?}", attr.qid);
        let mtime = (meta.mtime().cast_unsigned(), meta.mtime_nsec().cast_unsigned());
        ensure!(attr.mtime == mtime, "{name}: {attr:?}");
    }
    Ok(())
}

pub(super) fn changes_of_attributes_are_kept(server: &mut Server) -> Result<()> {
    let mut raw = server.client()?;
    raw.create(1, b"file", 2)?;
    raw.write(1, 0, b"0123456789")?;
    raw.reach(2, &[b"file"])?;
    raw.ok(t::SETATTR, &setattr(2, MODE, 0o640, 0, (0, 0)))?;
    ensure!(raw.getattr(1)?.mode & 0o7777 == 0o640, "the mode");
    raw.ok(t::SETATTR, &setattr(2, SIZE, 0, 4, (0, 0)))?;
    ensure!((raw.getattr(1)?.size, raw.read(1, 0, 20)?) == (4, b"0123".to_vec()), "cut");
    raw.ok(t::SETATTR, &setattr(1, SIZE, 0, 8, (0, 0)))?;
    ensure!(raw.read(1, 0, 20)? == b"0123\0\0\0\0", "grown");
    let time = (1_234_567_890, 987_654_321);
    raw.ok(t::SETATTR, &setattr(2, MTIME | MTIME_SET, 0, 0, time))?;
    ensure!(raw.getattr(2)?.mtime == time, "the time: {:?}", raw.getattr(2)?.mtime);
    raw.ok(t::SETATTR, &setattr(2, ATIME | MTIME, 0, 0, (0, 0)))?;
    ensure!(raw.getattr(2)?.mtime.0 > time.0, "the time of now");
    // 1969, as two's complement.
    let before = ((-86_400i64).cast_unsigned(), 5);
    raw.ok(t::SETATTR, &setattr(2, MTIME | MTIME_SET, 0, 0, before)).context("1969")?;
    ensure!(raw.getattr(2)?.mtime == before, "1969: {:?}", raw.getattr(2)?.mtime);
    Ok(())
}

pub(super) fn a_refused_change_changes_nothing(server: &mut Server) -> Result<()> {
    std::fs::write(server.path("file"), b"0123456789")?;
    let mut raw = server.client()?;
    raw.reach(1, &[b"file"])?;
    let bad = setattr(1, SIZE | MTIME | MTIME_SET, 0, 3, (5, 1_000_000_000));
    raw.refused(t::SETATTR, &bad).context("1,000,000,000 nanoseconds")?;
    ensure!(std::fs::metadata(server.path("file"))?.len() == 10, "cut in spite of the error");
    let bad = setattr(1, ATIME | ATIME_SET | UID, 0, 0, (0, 0));
    // To the owner it has is no change; that may be answered either way.
    raw.ask(t::SETATTR, &bad)?;
    std::fs::create_dir(server.path("dir"))?;
    raw.reach(2, &[b"dir"])?;
    raw.refused(t::SETATTR, &setattr(2, SIZE, 0, 3, (0, 0))).context("a directory's size")?;
    Ok(())
}

pub(super) fn qid_versions_change_with_the_content(server: &mut Server) -> Result<()> {
    let mut raw = server.client()?;
    raw.create(1, b"file", 2)?;
    raw.reach(2, &[b"file"])?;
    let mut last = raw.getattr(2)?.qid.version;
    for round in 0..200u8 {
        // Same size, a moment later.
        raw.write(1, 0, &[round])?;
        let version = raw.getattr(2)?.qid.version;
        ensure!(version != 0, "version 0 keeps Linux's client from caching");
        ensure!(version != last || round == 0, "write {round} changed no version");
        last = version;
    }
    ensure!(raw.getattr(2)?.qid.version == last, "the version changes by itself");
    ensure!(raw.open(3, b"file", 0)?.version == last, "an open has another version");
    ensure!(raw.walk(0, 4, &[b"file"])?[0].version == last, "a walk has another version");
    // By somebody on the server itself.
    std::fs::write(server.path("file"), b"elsewhere")?;
    ensure!(raw.walk(0, 5, &[b"file"])?[0].version != last, "a change on the server is not seen");
    Ok(())
}

pub(super) fn qid_paths_are_unique(server: &mut Server) -> Result<()> {
    let mut raw = server.client()?;
    let mut paths = BTreeSet::new();
    let mut inodes = BTreeSet::new();
    let mut files = 0;
    for dir in [&b"small"[..], b"second"] {
        for index in 0..20 {
            let name = format!("file-{index}");
            raw.reach(1, &[dir])?;
            raw.ok(t::LCREATE, &Body::new().d(1).s(name.as_bytes()).d(2).d(0o644).d(0))?;
            paths.insert(raw.getattr(1)?.qid.path);
            raw.clunk(1)?;
            files += 1;
        }
        raw.reach(2, &[dir])?;
        inodes.insert(raw.getattr(2)?.qid.path);
        raw.clunk(2)?;
    }
    ensure!(paths.len() == files, "{files} files have {} qid paths", paths.len());
    ensure!(inodes.len() == 2, "the roots of two file systems are one");
    Ok(())
}

fn xattr(raw: &mut Raw, fid: u32, name: &[u8]) -> Result<Vec<u8>> {
    let mut reply = raw.ok(t::XATTRWALK, &Body::new().d(fid).d(90).s(name))?;
    let size = reply.q()?;
    let mut value = Vec::new();
    loop {
        let part = raw.read(90, value.len() as u64, 4096)?;
        if part.is_empty() {
            break;
        }
        value.extend(part);
    }
    raw.clunk(90)?;
    ensure!(value.len() as u64 == size, "{size} bytes announced, {} came", value.len());
    Ok(value)
}

fn set_xattr(raw: &mut Raw, name: &[u8], value: &[u8], flags: u32, parts: usize) -> Result<()> {
    raw.walk(1, 91, &[])?;
    let size = value.len() as u64;
    let created = raw.ok(t::XATTRCREATE, &Body::new().d(91).s(name).q(size).d(flags));
    if let Err(err) = created {
        raw.clunk(91)?;
        return Err(err);
    }
    for (index, part) in value.chunks(parts.max(1)).enumerate() {
        raw.write(91, (index * parts) as u64, part)?;
    }
    raw.clunk(91)
}

pub(super) fn extended_attributes_are_kept(server: &mut Server) -> Result<()> {
    let mut raw = server.client()?;
    raw.create(2, b"file", 2)?;
    raw.reach(1, &[b"file"])?;
    set_xattr(&mut raw, b"user.one", b"value", 0, 100)?;
    set_xattr(&mut raw, b"user.two", &[9; 900], 0, 100).context("in nine parts")?;
    ensure!(xattr(&mut raw, 1, b"user.one")? == b"value", "another value");
    ensure!(xattr(&mut raw, 1, b"user.two")? == [9; 900], "another value");
    let list = xattr(&mut raw, 1, b"")?;
    let names: BTreeSet<&[u8]> = list.split(|byte| *byte == 0).collect();
    ensure!(names.contains(&b"user.one"[..]) && names.contains(&b"user.two"[..]), "{list:?}");
    ensure!(set_xattr(&mut raw, b"user.one", b"x", 1, 1).is_err(), "XATTR_CREATE of one there");
    ensure!(set_xattr(&mut raw, b"user.none", b"x", 2, 1).is_err(), "XATTR_REPLACE of none");
    // How Linux's client removes.
    set_xattr(&mut raw, b"user.one", b"", 2, 1)?;
    let gone = raw.refused(t::XATTRWALK, &Body::new().d(1).d(90).s(b"user.one"))?;
    ensure!(gone == 61, "error {gone} instead of ENODATA");
    // Asked for before every write that is not cached.
    let none = raw.refused(t::XATTRWALK, &Body::new().d(1).d(90).s(b"security.capability"))?;
    ensure!(none == 61, "error {none} instead of ENODATA");
    Ok(())
}

pub(super) fn access_lists_are_kept(server: &mut Server) -> Result<()> {
    let mut raw = server.client()?;
    raw.create(2, b"file", 2)?;
    raw.reach(1, &[b"file"])?;
    // Version 2; owner rw, user 1000 r, group r, mask r, others none (`acl(5)`, as in the kernel's xattr form).
    let mut acl = 2u32.to_le_bytes().to_vec();
    for (tag, permissions, id) in [
        (1u16, 6u16, u32::MAX),
        (2, 4, 1000),
        (4, 4, u32::MAX),
        (0x10, 4, u32::MAX),
        (0x20, 0, u32::MAX),
    ] {
        acl.extend(tag.to_le_bytes());
        acl.extend(permissions.to_le_bytes());
        acl.extend(id.to_le_bytes());
    }
    set_xattr(&mut raw, b"system.posix_acl_access", &acl, 0, 1000)?;
    ensure!(xattr(&mut raw, 1, b"system.posix_acl_access")? == acl, "another list");
    ensure!(raw.getattr(1)?.mode & 0o777 == 0o640, "the mode does not follow the list");
    let bad = set_xattr(&mut raw, b"system.posix_acl_access", b"nonsense", 0, 100);
    ensure!(bad.is_err(), "nonsense was taken for a list");
    Ok(())
}

pub(super) fn attributes_of_any_size_are_bounded(server: &mut Server) -> Result<()> {
    let mut raw = server.client()?;
    raw.create(2, b"file", 2)?;
    let mut held = 0;
    for fid in 100..400 {
        raw.reach(fid, &[b"file"])?;
        // Sizes no file system takes are refused before any byte is held.
        let huge = Body::new().d(fid).s(b"user.x").q(1 << 40).d(0);
        raw.refused(t::XATTRCREATE, &huge).context("a TiB was agreed to")?;
        let large = Body::new().d(fid).s(b"user.x").q(65_536).d(0);
        if raw.ask(t::XATTRCREATE, &large)?.errno().is_none() {
            held += 1;
            raw.refused(t::WRITE, &Body::new().d(fid).q(65_530).data(&[1; 100]))
                .context("beyond")?;
        }
    }
    ensure!(held <= 64, "one client may make the server hold {held} values of 64 KiB");
    Ok(())
}

pub(super) fn numbers_of_the_file_system_make_sense(server: &mut Server) -> Result<()> {
    let mut raw = server.client()?;
    let mut reply = raw.ok(t::STATFS, &Body::new().d(0))?;
    let (_kind, block) = (reply.d()?, reply.d()?);
    let (blocks, free, available) = (reply.q()?, reply.q()?, reply.q()?);
    let (files, files_free, _fsid, name) = (reply.q()?, reply.q()?, reply.q()?, reply.d()?);
    reply.end()?;
    ensure!(block.is_power_of_two() && blocks > 0, "{blocks} blocks of {block}");
    ensure!(
        free <= blocks && available <= blocks && files_free <= files,
        "more free than there is"
    );
    ensure!(name == 255, "names of {name}");
    Ok(())
}
