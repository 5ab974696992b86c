//! Byte range locks.

use crate::ninep::server::Server;
use crate::ninep::wire::{Body, t};
use anyhow::{Context, Result, ensure};
use std::time::{Duration, Instant};

const READ: u8 = 0;
const WRITE: u8 = 1;
const UNLOCK: u8 = 2;
const SUCCESS: u8 = 0;
const BLOCKED: u8 = 1;

/// `Tlock`; `flags` 1 waits.
pub(super) fn lock_body(fid: u32, kind: u8, flags: u32, start: u64, length: u64) -> Body {
    Body::new().d(fid).b(kind).d(flags).q(start).q(length).d(4242).s(b"client")
}

pub(super) fn ranges_exclude_each_other(server: &mut Server) -> Result<()> {
    let mut a = server.client()?;
    let mut b = server.client()?;
    a.create(1, b"file", 2)?;
    b.open(1, b"file", 2)?;
    let mut lock = |who: bool, kind, start, length| -> Result<u8> {
        let raw = if who { &mut a } else { &mut b };
        raw.ok(t::LOCK, &lock_body(1, kind, 0, start, length))?.b()
    };
    ensure!(lock(true, WRITE, 0, 10)? == SUCCESS, "a free range");
    ensure!(lock(false, WRITE, 10, 10)? == SUCCESS, "the range beside");
    ensure!(lock(false, WRITE, 5, 10)? == BLOCKED, "a range that overlaps");
    ensure!(lock(false, READ, 0, 1)? == BLOCKED, "a shared lock over an exclusive one");
    ensure!(lock(true, UNLOCK, 0, 10)? == SUCCESS, "unlocking");
    ensure!(lock(false, READ, 0, 5)? == SUCCESS, "a range that was let go");
    ensure!(lock(true, READ, 0, 5)? == SUCCESS, "a second shared lock");
    ensure!(lock(true, WRITE, 0, 5)? == BLOCKED, "an exclusive lock over a shared one");
    Ok(())
}

pub(super) fn the_holder_is_told(server: &mut Server) -> Result<()> {
    let mut a = server.client()?;
    let mut b = server.client()?;
    a.create(1, b"file", 2)?;
    b.open(1, b"file", 2)?;
    a.ok(t::LOCK, &lock_body(1, WRITE, 0, 100, 50))?;
    let ask = |start, length| Body::new().d(1).b(WRITE).q(start).q(length).d(1).s(b"other");
    let mut held = b.ok(t::GETLOCK, &ask(120, 10))?;
    let (kind, start, length) = (held.b()?, held.q()?, held.q()?);
    ensure!((kind, start, length) == (WRITE, 100, 50), "{kind} {start} {length}");
    ensure!(b.ok(t::GETLOCK, &ask(0, 10))?.b()? == UNLOCK, "nobody holds that range");
    Ok(())
}

pub(super) fn a_blocked_lock_is_granted_at_once(server: &mut Server) -> Result<()> {
    let mut a = server.client()?;
    let mut b = server.client()?;
    a.create(1, b"file", 2)?;
    b.open(1, b"file", 2)?;
    let mut took = Vec::new();
    for round in 0..8 {
        a.ok(t::LOCK, &lock_body(1, WRITE, 0, 0, 0))?;
        b.send(t::LOCK, 7, &lock_body(1, WRITE, 1, 0, 0))?;
        ensure!(b.is_quiet(Duration::from_millis(60))?, "granted while it is held");
        let start = Instant::now();
        if round % 2 == 0 {
            a.ok(t::LOCK, &lock_body(1, UNLOCK, 0, 0, 0))?;
        } else {
            a.clunk(1)?;
            a.open(1, b"file", 2)?;
        }
        let reply = b.receive().context("the lock was never granted")?;
        ensure!((reply.tag, reply.body.as_slice()) == (7, &[SUCCESS][..]), "not granted");
        took.push(start.elapsed());
        b.ok(t::LOCK, &lock_body(1, UNLOCK, 0, 0, 0))?;
    }
    took.sort_unstable();
    let usual = took.get(took.len() / 2).copied().unwrap_or_default();
    println!("    a lock that is let go is granted within {usual:?}");
    // A server that asks again now and then would need half its pause on average; a busy host may hold up one.
    ensure!(usual < Duration::from_millis(40), "most took {took:?}");
    Ok(())
}

pub(super) fn every_waiter_gets_its_turn(server: &mut Server) -> Result<()> {
    let mut holder = server.client()?;
    holder.create(1, b"file", 2)?;
    holder.ok(t::LOCK, &lock_body(1, WRITE, 0, 0, 0))?;
    let mut waiters = Vec::new();
    for _ in 0..8 {
        let mut raw = server.client()?;
        raw.open(1, b"file", 2)?;
        raw.send(t::LOCK, 7, &lock_body(1, WRITE, 1, 0, 0))?;
        waiters.push(raw);
    }
    std::thread::sleep(Duration::from_millis(50));
    holder.clunk(1)?;
    // Each holds it for a moment and is gone; the order is the server's.
    let threads: Vec<_> = waiters
        .into_iter()
        .map(|mut raw| {
            std::thread::spawn(move || -> Result<()> {
                ensure!(raw.receive()?.kind == t::LOCK + 1, "refused");
                std::thread::sleep(Duration::from_millis(5));
                raw.clunk(1)
            })
        })
        .collect();
    for thread in threads {
        thread.join().map_err(|_| anyhow::anyhow!("a waiter panicked"))??;
    }
    Ok(())
}

pub(super) fn ranges_beyond_the_end_of_numbers_are_refused(server: &mut Server) -> Result<()> {
    let mut raw = server.client()?;
    raw.create(1, b"file", 2)?;
    for (start, length) in [(1 << 63, 1), (u64::MAX, 1), (u64::MAX, u64::MAX)] {
        let reply = raw.ask(t::LOCK, &lock_body(1, WRITE, 0, start, length))?;
        let refused = reply.errno().is_some() || reply.body == [2];
        ensure!(refused, "a lock at {start} was granted");
    }
    for kind in [3, 7, 255] {
        let reply = raw.ask(t::LOCK, &lock_body(1, kind, 0, 0, 0))?;
        ensure!(reply.errno().is_some() || reply.body == [2], "a lock of kind {kind} was granted");
    }
    // To the end, however that is said.
    for length in [0, u64::MAX, (1 << 63) - 1] {
        let mut status = raw.ok(t::LOCK, &lock_body(1, WRITE, 0, 10, length))?;
        ensure!(status.b()? == SUCCESS, "length {length}");
    }
    Ok(())
}
