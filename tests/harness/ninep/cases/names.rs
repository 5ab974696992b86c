//! Names, and what must stay out of reach.

use crate::ninep::raw::walk_body;
use crate::ninep::server::Server;
use crate::ninep::wire::{Body, t};
use anyhow::{Context, Result, ensure};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::time::{Duration, Instant};

/// Every request that makes, moves or removes a name, with this one.
fn naming(name: &[u8]) -> Vec<(u8, Body)> {
    let b = Body::new;
    vec![
        (t::LCREATE, b().d(1).s(name).d(2).d(0o644).d(0)),
        (t::MKDIR, b().d(0).s(name).d(0o755).d(0)),
        (t::SYMLINK, b().d(0).s(name).s(b"target").d(0)),
        (t::MKNOD, b().d(0).s(name).d(0o100_644).d(0).d(0).d(0)),
        (t::LINK, b().d(0).d(2).s(name)),
        (t::RENAME, b().d(2).d(0).s(name)),
        (t::RENAMEAT, b().d(0).s(b"file").d(0).s(name)),
        (t::RENAMEAT, b().d(0).s(name).d(0).s(b"renamed")),
        (t::UNLINKAT, b().d(0).s(name).d(0)),
        (t::UNLINKAT, b().d(0).s(name).d(0x200)),
    ]
}

pub(super) fn names_that_are_no_names_are_refused(server: &mut Server) -> Result<()> {
    std::fs::create_dir_all(server.path("a/b"))?;
    std::fs::write(server.path("file"), b"file")?;
    let mut raw = server.client()?;
    raw.walk(0, 1, &[])?;
    raw.reach(2, &[b"file"])?;
    let long = [b'x'; 256];
    let bad: [&[u8]; 11] = [
        b"",
        b".",
        b"..",
        b"../secret",
        b"../made",
        b"a/../../made",
        b"/etc",
        b"a/made",
        b"made/",
        b"nul\0made",
        &long,
    ];
    for name in bad {
        for (kind, body) in naming(name) {
            let shown = String::from_utf8_lossy(name).into_owned();
            raw.refused(kind, &body).with_context(|| format!("name {shown:?}, type {kind}"))?;
        }
    }
    let around: Vec<_> = std::fs::read_dir(server.around.path())?.flatten().collect();
    ensure!(!around.iter().any(|entry| entry.file_name() == "made"), "made outside");
    ensure!(std::fs::read(server.around.path().join("secret"))? == b"secret", "harmed outside");
    ensure!(std::fs::read(server.path("file"))? == b"file", "the file was moved or harmed");
    ensure!(!server.path("a/made").exists(), "a name with a slash was taken");
    Ok(())
}

pub(super) fn walks_of_names_that_are_no_names_find_nothing(server: &mut Server) -> Result<()> {
    std::fs::create_dir_all(server.path("a/b"))?;
    let mut raw = server.client()?;
    let bad: [&[u8]; 8] =
        [b"", b"../secret", b"a/b", b"a/../../secret", b"/etc", b"/", b"a\0", &[b'x'; 256]];
    for name in bad {
        let shown = String::from_utf8_lossy(name).into_owned();
        raw.refused(t::WALK, &walk_body(0, 9, &[name])).with_context(|| format!("{shown:?}"))?;
    }
    Ok(())
}

pub(super) fn dotdot_ends_at_the_root(server: &mut Server) -> Result<()> {
    std::fs::create_dir_all(server.path("a/b"))?;
    let mut raw = server.client()?;
    let root = raw.getattr(0)?.qid.path;
    raw.walk(0, 1, &[b"a", b"b", b"..", b"..", b"..", b"..", b".."]).context("dotdot")?;
    if let Ok(attr) = raw.getattr(1) {
        ensure!(attr.qid.path == root, "`..` left the tree");
    }
    for names in [&[&b".."[..], b"secret"][..], &[b"a", b"..", b"..", b"secret"]] {
        let found = raw.walk(0, 7, names).map_or(0, |qids| qids.len());
        ensure!(found < names.len(), "`..` and a name reached what is outside");
    }
    Ok(())
}

pub(super) fn dotdot_of_a_moved_directory_opens_no_way_out(server: &mut Server) -> Result<()> {
    std::fs::create_dir_all(server.path("a/b"))?;
    let mut raw = server.client()?;
    raw.reach(1, &[b"a", b"b"])?;
    std::fs::rename(server.path("a/b"), server.around.path().join("b"))?;
    let found = raw.walk(1, 7, &[b"..", b"secret"]).map_or(0, |qids| qids.len());
    ensure!(found < 2, "a directory that was moved out leads out");
    Ok(())
}

pub(super) fn a_partial_walk_binds_nothing(server: &mut Server) -> Result<()> {
    std::fs::create_dir_all(server.path("a"))?;
    let mut raw = server.client()?;
    ensure!(raw.walk(0, 1, &[b"a", b"none", b"x"])?.len() == 1, "wrong number of qids");
    raw.refused(t::GETATTR, &Body::new().d(1).q(0x7ff)).context("newfid is bound")?;
    raw.refused(t::WALK, &walk_body(0, 1, &[b"none"])).context("the first name is not there")?;
    raw.refused(t::GETATTR, &Body::new().d(1).q(0x7ff)).context("newfid is bound")?;
    // With newfid the same as fid, fid stays where it was.
    raw.walk(0, 2, &[])?;
    let before = raw.getattr(2)?.qid.path;
    ensure!(raw.walk(2, 2, &[b"a", b"none"])?.len() == 1, "wrong number of qids");
    ensure!(raw.getattr(2)?.qid.path == before, "fid moved half way");
    Ok(())
}

pub(super) fn seventeen_names_are_too_many(server: &mut Server) -> Result<()> {
    let sixteen: Vec<&[u8]> = vec![b"d"; 16];
    std::fs::create_dir_all(server.path("d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d"))?;
    let mut raw = server.client()?;
    ensure!(raw.walk(0, 1, &sixteen)?.len() == 16, "sixteen names");
    let seventeen: Vec<&[u8]> = vec![b"d"; 17];
    raw.refused(t::WALK, &walk_body(0, 2, &seventeen)).context("seventeen names")?;
    raw.refused(t::GETATTR, &Body::new().d(2).q(0x7ff)).context("newfid is bound")?;
    raw.getattr(1).map(drop)
}

pub(super) fn names_are_bytes(server: &mut Server) -> Result<()> {
    let mut raw = server.client()?;
    let mut names: Vec<Vec<u8>> = Vec::new();
    // Every byte but NUL and the slash, 50 at a time.
    let bytes: Vec<u8> = (1..=255).filter(|byte| *byte != b'/').collect();
    names.extend(bytes.chunks(50).map(<[u8]>::to_vec));
    names.extend(bytes.iter().filter(|byte| **byte != b'.').map(|byte| vec![*byte]));
    names.push(b"caf\xe9".to_vec());
    names.push("caf\u{e9}".as_bytes().to_vec());
    names.push("cafe\u{301}".as_bytes().to_vec());
    let odd: [&[u8]; 9] = [
        b"...",
        b"-rf",
        b"a b",
        b"line\nfeed",
        b"\"quoted\"",
        b"back\\slash",
        b"CON",
        b"trailing.",
        b"~1",
    ];
    names.extend(odd.iter().map(|name| name.to_vec()));
    for name in &names {
        raw.create(1, name, 2).with_context(|| format!("{name:?}"))?;
        raw.write(1, 0, name)?;
        raw.clunk(1)?;
        ensure!(std::fs::read(server.path(OsStr::from_bytes(name)))? == *name, "{name:?} is lost");
        raw.open(1, name, 0).with_context(|| format!("{name:?}"))?;
        ensure!(raw.read(1, 0, 1000)? == *name, "{name:?} leads to another file");
        raw.clunk(1)?;
    }
    raw.walk(0, 2, &[])?;
    raw.lopen(2, 0o200_000)?;
    let mut listed: Vec<_> = raw.list(2, 8192)?.into_iter().map(|entry| entry.name).collect();
    listed.sort();
    names.sort();
    ensure!(listed == names, "the listing has other names");
    Ok(())
}

pub(super) fn names_of_255_bytes_work(server: &mut Server) -> Result<()> {
    let mut raw = server.client()?;
    let (long, longer) = ([b'n'; 255], [b'n'; 256]);
    raw.create(1, &long, 2)?;
    ensure!(raw.walk(0, 2, &[&long])?.len() == 1, "it is not found");
    let errno = raw.refused(t::WALK, &walk_body(0, 3, &[&longer])).context("256 bytes")?;
    ensure!(errno == 36, "error {errno} instead of ENAMETOOLONG");
    Ok(())
}

pub(super) fn trees_deeper_than_a_path_work(server: &mut Server) -> Result<()> {
    let mut raw = server.client()?;
    let name = [b'd'; 200];
    raw.walk(0, 1, &[])?;
    // 40 * 201 bytes: twice what a path may have.
    for level in 0..40 {
        let made = raw.ok(t::MKDIR, &Body::new().d(1).s(&name).d(0o755).d(0));
        made.with_context(|| format!("level {level}"))?;
        ensure!(raw.walk(1, 1, &[&name])?.len() == 1, "level {level} is not found");
    }
    raw.walk(1, 2, &[])?;
    raw.ok(t::LCREATE, &Body::new().d(2).s(b"deep").d(2).d(0o644).d(0))?;
    raw.write(2, 0, b"deep")?;
    ensure!(raw.read(2, 0, 10)? == b"deep", "the file at the bottom");
    Ok(())
}

pub(super) fn symbolic_links_are_shown_and_never_followed(server: &mut Server) -> Result<()> {
    let secret = server.around.path().join("secret");
    symlink(&secret, server.path("absolute"))?;
    symlink("../secret", server.path("relative"))?;
    symlink("..", server.path("up"))?;
    symlink("inside", server.path("alias"))?;
    std::fs::create_dir(server.path("inside"))?;
    std::fs::write(server.path("inside/file"), b"x")?;
    let mut raw = server.client()?;
    for (fid, name) in (1..).zip([&b"absolute"[..], b"relative", b"up", b"alias"]) {
        ensure!(raw.walk(0, fid, &[name])?[0].kind & 0x02 != 0, "the qid is no link's");
        ensure!(raw.getattr(fid)?.mode & 0o170_000 == 0o120_000, "the mode is no link's");
        for flags in [0, 1, 2, 0o1002] {
            raw.refused(t::LOPEN, &Body::new().d(fid).d(flags)).context("a link was opened")?;
        }
        raw.refused(t::WALK, &walk_body(fid, 50, &[b"file"])).context("a link was followed")?;
        raw.refused(t::WALK, &walk_body(fid, 50, &[b"secret"])).context("a link was followed")?;
    }
    let mut target = raw.ok(t::READLINK, &Body::new().d(2))?;
    ensure!(target.s()? == b"../secret", "another target");
    // Creating over a link neither follows nor replaces it.
    raw.walk(0, 9, &[])?;
    let body = Body::new().d(9).s(b"relative").d(0o1002).d(0o644).d(0);
    raw.refused(t::LCREATE, &body).context("created through a link")?;
    // A link to anything can be made; bytes are kept.
    raw.ok(t::SYMLINK, &Body::new().d(0).s(b"odd").s(b"\xff/nowhere/\n").d(0))?;
    raw.reach(10, &[b"odd"])?;
    ensure!(raw.ok(t::READLINK, &Body::new().d(10))?.s()? == b"\xff/nowhere/\n", "other bytes");
    ensure!(std::fs::read(&secret)? == b"secret", "harmed outside");
    Ok(())
}

pub(super) fn a_link_put_in_a_directorys_place_is_not_followed(server: &mut Server) -> Result<()> {
    std::fs::create_dir(server.path("dir"))?;
    std::fs::write(server.path("dir/secret"), b"inner")?;
    let mut raw = server.client()?;
    raw.reach(1, &[b"dir"])?;
    raw.reach(2, &[b"dir", b"secret"])?;
    std::fs::rename(server.path("dir"), server.path("moved"))?;
    symlink("..", server.path("dir"))?;
    // Fids are files, not paths: both are where they were.
    ensure!(raw.walk(1, 3, &[b"secret"])?.len() == 1, "the directory is lost");
    for fid in [2, 3] {
        raw.lopen(fid, 0).context("the file is lost")?;
        ensure!(raw.read(fid, 0, 100)? == b"inner", "another file was opened");
    }
    Ok(())
}

pub(super) fn devices_fifos_and_sockets_are_never_opened(server: &mut Server) -> Result<()> {
    let mut raw = server.client()?;
    let fifo = server.path("fifo").display().to_string();
    std::process::Command::new("mkfifo").arg(&fifo).status()?;
    let _socket = std::os::unix::net::UnixListener::bind(server.path("sock"))?;
    let start = Instant::now();
    for (fid, name) in (1..).zip([&b"fifo"[..], b"sock"]) {
        raw.reach(fid, &[name])?;
        raw.getattr(fid)?;
        for flags in [0, 1, 2, 0o4000] {
            raw.refused(t::LOPEN, &Body::new().d(fid).d(flags))
                .with_context(|| format!("{} with {flags:#o}", String::from_utf8_lossy(name)))?;
        }
    }
    // Character device 1:3 is /dev/null. It may be refused to be made, or made and not opened.
    let made = raw.ask(t::MKNOD, &Body::new().d(0).s(b"null").d(0o020_666).d(1).d(3).d(0))?;
    if made.errno().is_none() {
        raw.reach(8, &[b"null"])?;
        raw.refused(t::LOPEN, &Body::new().d(8).d(2)).context("a device was opened")?;
    }
    ensure!(start.elapsed() < Duration::from_secs(5), "that took {:?}", start.elapsed());
    Ok(())
}
