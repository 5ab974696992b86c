//! Through the proxy: networks that are slow, cut in the middle, or repeat themselves.

use super::locks::lock_body;
use crate::ninep::proxy::{Fate, Proxy, Seen, Way};
use crate::ninep::raw::{Raw, walk_body};
use crate::ninep::server::Server;
use crate::ninep::wire::{Body, t};
use anyhow::{Context, Result, ensure};
use std::time::{Duration, Instant};

fn through(
    server: &Server,
    rule: impl Fn(&Seen) -> Fate + Send + Sync + 'static,
) -> Result<(Proxy, Raw)> {
    let proxy = Proxy::start(&server.address, server.around.path(), rule)?;
    let raw = Raw::attached(&proxy.address, &server.aname)?;
    Ok((proxy, raw))
}

pub(super) fn single_bytes_make_whole_messages(server: &mut Server) -> Result<()> {
    let (proxy, mut raw) = through(server, |seen| match seen.way {
        Way::Request if seen.kind != t::VERSION && seen.kind != t::ATTACH => Fate::Dribble,
        _ => Fate::Pass,
    })?;
    raw.create(1, b"file", 2)?;
    let data: Vec<u8> = (0..2000u32).map(|i| (i % 251) as u8).collect();
    ensure!(raw.write(1, 0, &data)? == 2000, "a short write");
    ensure!(raw.read(1, 0, 4096)? == data, "other bytes");
    let kinds: Vec<u8> = proxy
        .trace()
        .iter()
        .filter(|seen| seen.way == Way::Request)
        .map(|seen| seen.kind)
        .collect();
    let sent = [t::VERSION, t::ATTACH, t::WALK, t::LCREATE, t::WRITE, t::READ];
    ensure!(kinds == sent, "the client sent {kinds:?}");
    Ok(())
}

pub(super) fn replayed_requests_are_survived(server: &mut Server) -> Result<()> {
    let (_proxy, mut raw) = through(server, |seen| match seen.way {
        Way::Request if seen.kind == t::WALK || seen.kind == t::CLUNK => Fate::Twice,
        _ => Fate::Pass,
    })?;
    std::fs::create_dir(server.path("dir"))?;
    for fid in 1..20 {
        raw.send(t::WALK, 5, &walk_body(0, fid, &[b"dir"]))?;
        let (first, second) = (raw.receive()?, raw.receive()?);
        ensure!(first.errno().is_none(), "the first walk was refused");
        ensure!(second.errno().is_some(), "a replayed walk bound the fid a second time");
        raw.getattr(fid)?;
        raw.send(t::CLUNK, 6, &Body::new().d(fid))?;
        let (first, second) = (raw.receive()?, raw.receive()?);
        ensure!(first.errno().is_none() && second.errno().is_some(), "a replayed clunk worked");
    }
    Ok(())
}

pub(super) fn a_cut_inside_a_message_frees_everything(server: &mut Server) -> Result<()> {
    let (_proxy, mut raw) = through(server, |seen| match (seen.way, seen.kind) {
        (Way::Request, t::WRITE) => Fate::CutAfter(seen.bytes / 2),
        _ => Fate::Pass,
    })?;
    raw.create(1, b"file", 2)?;
    raw.ok(t::LOCK, &lock_body(1, 1, 0, 0, 0))?;
    let mut other = server.client()?;
    other.open(1, b"file", 2)?;
    other.send(t::LOCK, 9, &lock_body(1, 1, 1, 0, 0))?;
    ensure!(raw.write(1, 0, &[5; 4000]).is_err(), "half a message was answered");
    let reply = other.receive().context("the lock of a connection that was cut")?;
    ensure!(reply.body == [0], "the lock was not granted");
    ensure!(other.getattr(1)?.size == 0, "half a message was written");
    Ok(())
}

pub(super) fn a_lost_reply_blocks_no_other(server: &mut Server) -> Result<()> {
    let (_proxy, mut raw) = through(server, |seen| match (seen.way, seen.kind) {
        (Way::Reply, kind) if kind == t::STATFS + 1 => Fate::Drop,
        _ => Fate::Pass,
    })?;
    raw.send(t::STATFS, 70, &Body::new().d(0))?;
    raw.getattr(0).context("after a reply was lost")?;
    // The client gives it up; its tag can be used again afterwards.
    raw.ok(t::FLUSH, &Body::new().h(70))?;
    raw.send(t::GETATTR, 70, &Body::new().d(0).q(0x7ff))?;
    ensure!(raw.receive()?.tag == 70, "the tag is lost");
    Ok(())
}

pub(super) fn a_slow_network_keeps_the_order(server: &mut Server) -> Result<()> {
    let (_proxy, mut raw) = through(server, |seen| match seen.way {
        Way::Request => Fate::Delay(Duration::from_millis(2)),
        Way::Reply => Fate::Pass,
    })?;
    raw.create(1, b"file", 2)?;
    let mut burst = Vec::new();
    for round in 0..50u16 {
        burst.extend(Body::new().d(1).q(0).data(&round.to_le_bytes()).frame(t::WRITE, round));
    }
    burst.extend(Body::new().d(1).q(0).d(2).frame(t::READ, 60));
    raw.send_bytes(&burst)?;
    for _ in 0..50 {
        raw.receive()?.of(t::WRITE)?;
    }
    let mut read = raw.receive()?.of(t::READ)?;
    read.d()?;
    ensure!(read.h()? == 49, "writes of one fid changed places");
    Ok(())
}

pub(super) fn held_replies_hold_nobody_else(server: &mut Server) -> Result<()> {
    std::fs::write(server.path("file"), vec![1; 1 << 20])?;
    let (proxy, mut held) = through(server, |seen| match (seen.way, seen.kind) {
        (Way::Reply, kind) if kind == t::READ + 1 => Fate::Hold,
        _ => Fate::Pass,
    })?;
    held.open(1, b"file", 0)?;
    let mut burst = Vec::new();
    for tag in 0..64 {
        burst.extend(Body::new().d(1).q(0).d(60_000).frame(t::READ, tag));
    }
    held.send_bytes(&burst)?;
    let start = Instant::now();
    let mut other = server.client()?;
    for _ in 0..100 {
        other.getattr(0)?;
    }
    ensure!(
        start.elapsed() < Duration::from_secs(2),
        "others wait for a client that does not read"
    );
    proxy.release();
    for _ in 0..64 {
        held.receive().context("a reply that was held")?.of(t::READ)?;
    }
    Ok(())
}
