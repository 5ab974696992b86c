//! Listings.

use crate::ninep::raw::Raw;
use crate::ninep::server::Server;
use crate::ninep::wire::{Body, t};
use anyhow::{Context, Result, ensure};
use std::collections::BTreeSet;
use std::time::Instant;

/// Says how many files the largest directory has instead of 100,000.
const ENTRIES: &str = "GOBLIN_TEST_ENTRIES";
const DIRECTORY: u32 = 0o200_000;

fn open_root(server: &Server, msize: u32) -> Result<Raw> {
    let mut raw = Raw::attached_with(&server.address, &server.aname, msize)?;
    raw.walk(0, 1, &[])?;
    raw.lopen(1, DIRECTORY)?;
    Ok(raw)
}

pub(super) fn large_directories_are_listed_once(server: &mut Server) -> Result<()> {
    let count = std::env::var(ENTRIES).ok().and_then(|n| n.parse().ok()).unwrap_or(100_000usize);
    for index in 0..count {
        std::fs::write(server.path(format!("f{index}")), b"")?;
    }
    let before = server.resident_kib()?;
    let mut raw = open_root(server, 512 * 1024)?;
    let start = Instant::now();
    let room = raw.msize - 24;
    let entries = raw.list(1, room)?;
    let took = start.elapsed();
    ensure!(entries.len() == count, "{} of {count} entries", entries.len());
    let names: BTreeSet<Vec<u8>> = entries.into_iter().map(|entry| entry.name).collect();
    ensure!(names.len() == count, "{} different names of {count}", names.len());
    let more = server.resident_kib()?.saturating_sub(before);
    println!("    {count} entries were listed in {took:?}; the server grew by {more} KiB");
    ensure!(more < 16 * 1024, "a listing cost the server {more} KiB");
    Ok(())
}

pub(super) fn small_pages_lose_nothing(server: &mut Server) -> Result<()> {
    let names: BTreeSet<Vec<u8>> =
        (0..300).map(|i| format!("{:0width$}", i, width = 3 + i % 200).into_bytes()).collect();
    for name in &names {
        std::fs::write(server.path(String::from_utf8_lossy(name).as_ref()), b"")?;
    }
    for (msize, count) in [(4096, 300), (8192, 1000), (65_536, 65_000)] {
        let mut raw = open_root(server, msize)?;
        let listed: Vec<_> = raw.list(1, count)?.into_iter().map(|entry| entry.name).collect();
        ensure!(listed.len() == names.len(), "{} entries in pages of {count}", listed.len());
        ensure!(listed.into_iter().collect::<BTreeSet<_>>() == names, "names in pages of {count}");
        // Not even one entry fits: that is no end of the directory.
        let reply = raw.ask(t::READDIR, &Body::new().d(1).q(0).d(10))?;
        ensure!(reply.errno().is_some(), "an empty page where an entry did not fit");
    }
    Ok(())
}

pub(super) fn cookies_go_on_where_they_were(server: &mut Server) -> Result<()> {
    for index in 0..200 {
        std::fs::write(server.path(format!("f{index}")), b"")?;
    }
    let mut raw = open_root(server, 8192)?;
    let first = raw.readdir(1, 0, 2000)?;
    let cookie = first.last().context("an empty directory")?.cookie;
    let second = raw.readdir(1, cookie, 2000)?;
    // The same page again, by the same fid and by another one.
    let again = raw.readdir(1, cookie, 2000)?;
    raw.walk(0, 2, &[])?;
    raw.lopen(2, DIRECTORY)?;
    let other = raw.readdir(2, cookie, 2000)?;
    let names = |page: &[crate::ninep::wire::Entry]| -> Vec<Vec<u8>> {
        page.iter().map(|entry| entry.name.clone()).collect()
    };
    ensure!(names(&second) == names(&again), "a page differs when asked for again");
    ensure!(names(&second) == names(&other), "a page differs by another fid");
    // From the start again, with what is new.
    std::fs::write(server.path("new"), b"")?;
    let all = raw.list(1, 4000)?;
    ensure!(all.iter().any(|entry| entry.name == b"new"), "a listing from the start is old");
    ensure!(all.len() == 201, "{} entries", all.len());
    Ok(())
}

pub(super) fn removing_while_listing_misses_nothing(server: &mut Server) -> Result<()> {
    for index in 0..3000 {
        std::fs::write(server.path(format!("f{index}")), b"")?;
    }
    let mut raw = open_root(server, 8192)?;
    let mut cookie = 0;
    loop {
        let page = raw.readdir(1, cookie, 8000)?;
        let Some(last) = page.last() else { break };
        cookie = last.cookie;
        for entry in page.iter().filter(|entry| entry.name != b"." && entry.name != b"..") {
            raw.ok(t::UNLINKAT, &Body::new().d(0).s(&entry.name).d(0))?;
        }
    }
    let left = std::fs::read_dir(&server.root)?.count();
    ensure!(left == 0, "{left} files were never listed");
    Ok(())
}

pub(super) fn entries_say_what_they_are(server: &mut Server) -> Result<()> {
    std::fs::create_dir(server.path("dir"))?;
    std::fs::write(server.path("file"), b"")?;
    std::os::unix::fs::symlink("file", server.path("link"))?;
    let mut raw = open_root(server, 8192)?;
    for entry in raw.list(1, 8000)? {
        let (kind, qid) = match entry.name.as_slice() {
            b"dir" => (4, 0x80),
            b"file" => (8, 0),
            _ => (10, 0x02),
        };
        let shown = String::from_utf8_lossy(&entry.name).into_owned();
        ensure!((entry.kind, entry.qid.kind) == (kind, qid), "{shown}: {:?}", entry);
        raw.reach(5, &[&entry.name])?;
        ensure!(raw.getattr(5)?.qid.path == entry.qid.path, "{shown}: another qid in the listing");
        raw.clunk(5)?;
    }
    // What is above the root is nobody's business.
    let root = raw.getattr(0)?.qid.path;
    for entry in raw.readdir(1, 0, 8000)?.iter().filter(|entry| entry.name == b"..") {
        ensure!(entry.qid.path == root, "`..` of the root shows another directory");
    }
    Ok(())
}

pub(super) fn full_and_absent_directories_are_told_apart(server: &mut Server) -> Result<()> {
    std::fs::create_dir_all(server.path("full/inner"))?;
    std::fs::write(server.path("file"), b"")?;
    let mut raw = server.client()?;
    let unlink = |name: &[u8], flags| Body::new().d(0).s(name).d(flags);
    for (name, flags, errno) in
        [(&b"full"[..], 0x200, 39), (b"full", 0, 21), (b"file", 0x200, 20), (b"none", 0, 2)]
    {
        let got = raw.refused(t::UNLINKAT, &unlink(name, flags))?;
        ensure!(got == errno, "{}: error {got}, not {errno}", String::from_utf8_lossy(name));
    }
    raw.reach(1, &[b"full"])?;
    raw.ok(t::UNLINKAT, &Body::new().d(1).s(b"inner").d(0x200))?;
    raw.ok(t::UNLINKAT, &unlink(b"full", 0x200))?;
    let got = raw.refused(t::MKDIR, &Body::new().d(0).s(b"file").d(0o755).d(0))?;
    ensure!(got == 17, "error {got} instead of EEXIST");
    Ok(())
}
