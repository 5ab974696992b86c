//! Cancelling, and requests that wait.

use super::locks::lock_body;
use crate::ninep::raw::walk_body;
use crate::ninep::server::Server;
use crate::ninep::wire::{Body, t};
use anyhow::{Context, Result, ensure};
use std::time::{Duration, Instant};

/// Tag of the request that waits, beyond those that the client takes by itself.
const OLD: u16 = 0x7140;
/// Longest time of anything that must not wait.
const SOON: Duration = Duration::from_secs(2);

/// A client with the lock, and one whose request [`OLD`] waits for it.
fn blocked(server: &Server) -> Result<(crate::ninep::raw::Raw, crate::ninep::raw::Raw)> {
    let mut holder = server.client()?;
    holder.create(1, b"locked", 2)?;
    let mut status = holder.ok(t::LOCK, &lock_body(1, 1, 0, 0, 0))?;
    ensure!(status.b()? == 0, "a free lock was not granted");
    let mut waiter = server.client()?;
    waiter.open(1, b"locked", 2)?;
    waiter.send(t::LOCK, OLD, &lock_body(1, 1, 1, 0, 0))?;
    ensure!(waiter.is_quiet(Duration::from_millis(100))?, "the lock was not waited for");
    Ok((holder, waiter))
}

pub(super) fn flush_cancels_what_waits(server: &mut Server) -> Result<()> {
    let (mut holder, mut waiter) = blocked(server)?;
    let start = Instant::now();
    waiter.send(t::FLUSH, 0x7141, &Body::new().h(OLD))?;
    let reply = waiter.receive().context("the flush")?;
    // An answer to the old request may come before the flush's, never after it.
    let reply = if reply.tag == OLD { waiter.receive()? } else { reply };
    ensure!((reply.tag, reply.kind) == (0x7141, t::FLUSH + 1), "the flush was not answered");
    ensure!(start.elapsed() < SOON, "the flush took {:?}", start.elapsed());
    holder.clunk(1)?;
    ensure!(waiter.is_quiet(Duration::from_millis(200))?, "an answer came after its flush's");
    // The flushed request has no effect: the lock is free.
    let mut third = server.client()?;
    third.open(1, b"locked", 2)?;
    ensure!(third.ok(t::LOCK, &lock_body(1, 1, 0, 0, 0))?.b()? == 0, "the flushed lock is held");
    Ok(())
}

pub(super) fn flush_of_what_is_over_is_answered(server: &mut Server) -> Result<()> {
    let mut raw = server.client()?;
    raw.getattr(0)?;
    for oldtag in [0, 1, 999, 0xfffe, u16::MAX] {
        raw.ok(t::FLUSH, &Body::new().h(oldtag)).with_context(|| format!("tag {oldtag}"))?;
    }
    // Its own tag, and a flush of a flush.
    raw.send(t::FLUSH, 50, &Body::new().h(50))?;
    ensure!(raw.receive().context("a flush of itself")?.tag == 50, "a flush of itself");
    raw.send(t::FLUSH, 51, &Body::new().h(52))?;
    raw.send(t::FLUSH, 52, &Body::new().h(51))?;
    let both = [raw.receive()?.tag, raw.receive()?.tag];
    ensure!(both.contains(&51) && both.contains(&52), "{both:?} were answered");
    raw.getattr(0).map(drop)
}

pub(super) fn flush_follows_what_it_cannot_cancel(server: &mut Server) -> Result<()> {
    std::fs::write(server.path("file"), vec![1; 100_000])?;
    let mut raw = server.client()?;
    raw.open(1, b"file", 2)?;
    for round in 0..200u16 {
        let mut burst = Body::new().d(1).q(0).data(&round.to_le_bytes()).frame(t::WRITE, 60);
        burst.extend(Body::new().h(60).frame(t::FLUSH, 61));
        raw.send_bytes(&burst)?;
        let mut written = false;
        loop {
            let reply = raw.receive()?;
            match reply.tag {
                60 => written = true,
                61 => break,
                other => anyhow::bail!("tag {other} was answered"),
            }
        }
        if written {
            ensure!(raw.read(1, 0, 2)? == round.to_le_bytes(), "an answered write is not there");
        }
    }
    Ok(())
}

pub(super) fn a_blocked_request_delays_no_other(server: &mut Server) -> Result<()> {
    std::fs::write(server.path("file"), vec![1; 100_000])?;
    std::fs::create_dir_all(server.path("a/b/c"))?;
    let (mut holder, mut waiter) = blocked(server)?;
    let start = Instant::now();
    for fid in 100..164 {
        waiter.walk(0, fid, &[b"a", b"b", b"c"]).context("a walk beside a blocked request")?;
        waiter.getattr(fid)?;
    }
    waiter.open(2, b"file", 2)?;
    ensure!(waiter.read(2, 0, 4096)?.len() == 4096, "a short read");
    waiter.write(2, 0, b"beside")?;
    waiter.ok(t::FSYNC, &Body::new().d(2).d(0)).context("fsync beside a blocked request")?;
    waiter.create(3, b"made", 2)?;
    waiter.walk(0, 4, &[])?;
    waiter.lopen(4, 0o200_000)?;
    ensure!(waiter.list(4, 8192)?.len() == 4, "the listing is wrong");
    waiter.clunk(3)?;
    waiter.ok(t::UNLINKAT, &Body::new().d(0).s(b"made").d(0))?;
    ensure!(start.elapsed() < SOON, "that took {:?}", start.elapsed());
    holder.clunk(1)?;
    let reply = waiter.receive()?;
    ensure!((reply.tag, reply.kind) == (OLD, t::LOCK + 1), "the lock was not granted");
    Ok(())
}

pub(super) fn many_blocked_requests_delay_no_other(server: &mut Server) -> Result<()> {
    let mut holder = server.client()?;
    let mut waiter = server.client()?;
    for index in 0..48u32 {
        let name = format!("locked-{index}");
        holder.create(100 + index, name.as_bytes(), 2)?;
        holder.ok(t::LOCK, &lock_body(100 + index, 1, 0, 0, 0))?;
        waiter.open(100 + index, name.as_bytes(), 2)?;
    }
    for index in 0..48u16 {
        waiter.send(t::LOCK, 0x7100 + index, &lock_body(100 + u32::from(index), 1, 1, 0, 0))?;
    }
    let start = Instant::now();
    for _ in 0..50 {
        waiter.getattr(0).context("beside 48 blocked requests")?;
    }
    ensure!(start.elapsed() < SOON, "that took {:?}", start.elapsed());
    for index in (0..48).rev() {
        holder.clunk(100 + index)?;
    }
    let mut granted: Vec<u16> =
        (0..48).map(|_| Ok(waiter.receive()?.tag)).collect::<Result<_>>()?;
    granted.sort_unstable();
    ensure!(granted == (0x7100..0x7100 + 48).collect::<Vec<u16>>(), "some were not granted");
    Ok(())
}

pub(super) fn clunk_ends_what_waits_on_the_fid(server: &mut Server) -> Result<()> {
    let (mut holder, mut waiter) = blocked(server)?;
    waiter.send(t::CLUNK, 0x7142, &Body::new().d(1))?;
    let mut answered = [waiter.receive()?, waiter.receive().context("the blocked request")?];
    answered.sort_by_key(|reply| reply.tag);
    ensure!(answered[0].errno().is_some(), "a lock was granted on a fid that is gone");
    ensure!(answered[1].kind == t::CLUNK + 1, "the clunk failed");
    holder.clunk(1)
}

pub(super) fn version_cancels_what_waits(server: &mut Server) -> Result<()> {
    let (mut holder, mut waiter) = blocked(server)?;
    waiter.version(8192).context("Tversion beside a blocked request")?;
    holder.clunk(1)?;
    ensure!(waiter.is_quiet(Duration::from_millis(200))?, "an answer of the session before came");
    waiter.attach(0, &server.aname, 0)?;
    waiter.open(1, b"locked", 2)?;
    ensure!(waiter.ok(t::LOCK, &lock_body(1, 1, 0, 0, 0))?.b()? == 0, "the lock was not let go");
    Ok(())
}

pub(super) fn a_client_that_goes_leaves_no_lock_behind(server: &mut Server) -> Result<()> {
    let (holder, waiter) = blocked(server)?;
    drop(waiter);
    drop(holder);
    let mut third = server.client()?;
    third.open(1, b"locked", 2)?;
    third.send(t::LOCK, 9, &lock_body(1, 1, 1, 0, 0))?;
    let start = Instant::now();
    let reply = third.receive().context("the lock of clients that are gone")?;
    ensure!((reply.kind, reply.body.as_slice()) == (t::LOCK + 1, &[0][..]), "not granted");
    ensure!(start.elapsed() < SOON, "that took {:?}", start.elapsed());
    Ok(())
}

pub(super) fn pipelined_requests_are_all_answered(server: &mut Server) -> Result<()> {
    std::fs::create_dir_all(server.path("a/b"))?;
    let mut raw = server.client()?;
    let mut burst = Vec::new();
    for tag in 0..1000u16 {
        burst.extend(walk_body(0, 1000 + u32::from(tag), &[b"a", b"b"]).frame(t::WALK, tag));
    }
    let mut pipe = raw.pipe.try_clone()?;
    let writer = std::thread::spawn(move || std::io::Write::write_all(&mut pipe, &burst));
    let mut seen = vec![false; 1000];
    for _ in 0..1000 {
        let reply = raw.receive()?;
        ensure!(!std::mem::replace(&mut seen[usize::from(reply.tag)], true), "answered twice");
        reply.of(t::WALK)?;
    }
    writer.join().map_err(|_| anyhow::anyhow!("the writer panicked"))??;
    Ok(())
}
