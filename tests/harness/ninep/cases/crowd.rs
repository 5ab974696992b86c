//! Many clients, slow clients, clients that vanish; the server's memory is bounded and printed.

use crate::ninep::raw::{Raw, walk_body};
use crate::ninep::server::Server;
use crate::ninep::wire::{Body, t};
use anyhow::{Context, Result, ensure};
use std::io::{Read, Write};
use std::time::{Duration, Instant};

/// Most KiB that one idle connection may cost.
const KIB_PER_CONNECTION: u64 = 160;
/// Most bytes that one open fid may cost.
const BYTES_PER_FID: u64 = 2048;

/// Median time of an attribute request, in microseconds.
fn latency_us(raw: &mut Raw) -> Result<u128> {
    let mut times = Vec::new();
    for _ in 0..400 {
        let start = Instant::now();
        raw.getattr(0)?;
        times.push(start.elapsed().as_micros());
    }
    times.sort_unstable();
    Ok(times[times.len() / 2])
}

pub(super) fn a_thousand_connections_cost_little(server: &mut Server) -> Result<()> {
    let mut good = server.client()?;
    let (alone, before) = (latency_us(&mut good)?, server.resident_kib()?);
    let mut crowd = Vec::new();
    for index in 0..1000 {
        crowd.push(server.client().with_context(|| format!("connection {index}"))?);
    }
    let (crowded, after) = (latency_us(&mut good)?, server.resident_kib()?);
    let each = after.saturating_sub(before) / 1000;
    println!(
        "    1000 connections: {after} KiB in all, {each} KiB each; latency {alone} us alone, \
         {crowded} us beside them"
    );
    ensure!(each <= KIB_PER_CONNECTION, "{each} KiB for a connection");
    // Other work of this machine is in both figures.
    ensure!(crowded <= alone * 2 + 200, "latency {crowded} us, {alone} us alone");
    for raw in crowd.iter_mut().step_by(50) {
        raw.getattr(0)?;
    }
    drop(crowd);
    good.getattr(0).map(drop)
}

pub(super) fn a_hundred_thousand_fids_cost_little(server: &mut Server) -> Result<()> {
    std::fs::create_dir(server.path("dir"))?;
    for index in 0..1000 {
        std::fs::write(server.path(format!("dir/file-{index}")), b"x")?;
    }
    // A file, its directory and its open file are a descriptor each; where this machine gives too few of them, the other fids
    // are copies of one that holds its file already.
    let opened = ((server.descriptors_max()?.saturating_sub(1000)) / 30).min(10_000);
    let before = server.resident_kib()?;
    let mut clients = Vec::new();
    for _ in 0..10 {
        let mut raw = server.client()?;
        for first in (0..10_000u32).step_by(500) {
            let (mut burst, mut count) = (Vec::new(), 0);
            for (index, tag) in (first..first + 500).zip((0..).step_by(2)) {
                let name = format!("file-{}", index % 1000);
                if u64::from(index) < opened {
                    let names = [&b"dir"[..], name.as_bytes()];
                    burst.extend(walk_body(0, 1000 + index, &names).frame(t::WALK, tag));
                    burst.extend(Body::new().d(1000 + index).d(0).frame(t::LOPEN, tag + 1));
                    count += 2;
                } else {
                    burst.extend(walk_body(1000, 1000 + index, &[]).frame(t::WALK, tag));
                    count += 1;
                }
            }
            let mut pipe = raw.pipe.try_clone()?;
            let writer = std::thread::spawn(move || pipe.write_all(&burst));
            for _ in 0..count {
                let reply = raw.receive()?;
                ensure!(reply.errno().is_none(), "refused with error {:?}", reply.errno());
            }
            writer.join().map_err(|_| anyhow::anyhow!("the writer panicked"))??;
        }
        clients.push(raw);
    }
    let after = server.resident_kib()?;
    let each = after.saturating_sub(before) * 1024 / 100_000;
    println!(
        "    100000 fids, {} of them open: {after} KiB in all, {each} bytes each",
        opened * 10
    );
    ensure!(each <= BYTES_PER_FID, "{each} bytes for a fid");
    for raw in &mut clients {
        ensure!(raw.getattr(10_999)?.size == 1, "the last of them is lost");
        ensure!(raw.read(1001, 0, 10)? == b"x", "an open one cannot be read");
    }
    drop(clients);
    descriptors_fall(server, 64)
}

/// Waits until the server holds few descriptors again.
fn descriptors_fall(server: &Server, most: usize) -> Result<()> {
    let start = Instant::now();
    loop {
        let open = std::fs::read_dir(format!("/proc/{}/fd", server.pid()))?.count();
        if open <= most {
            return Ok(());
        }
        ensure!(start.elapsed() < Duration::from_secs(20), "{open} descriptors are still held");
        std::thread::sleep(Duration::from_millis(20));
    }
}

pub(super) fn fids_have_a_limit(server: &mut Server) -> Result<()> {
    let mut raw = server.client()?;
    let mut refused = None;
    'all: for block in 0..200u32 {
        let mut burst = Vec::new();
        for index in 0..1000 {
            burst.extend(walk_body(0, 10 + block * 1000 + index, &[]).frame(t::WALK, 1));
        }
        let mut pipe = raw.pipe.try_clone()?;
        let writer = std::thread::spawn(move || pipe.write_all(&burst));
        for _ in 0..1000 {
            let reply = raw.receive()?;
            refused = refused.or(reply.errno());
        }
        writer.join().map_err(|_| anyhow::anyhow!("the writer panicked"))??;
        if refused.is_some() {
            break 'all;
        }
    }
    ensure!(refused.is_some(), "200,000 fids on one connection and no end");
    raw.clunk(10)?;
    raw.walk(0, 10, &[]).context("a fid after one was given back").map(drop)
}

pub(super) fn running_out_of_descriptors_passes(server: &mut Server) -> Result<()> {
    let mut good = server.client()?;
    good.getattr(0)?;
    // Far more than the server may have; the rest waits in the backlog or is closed.
    let crowd: Vec<Raw> = (0..60).filter_map(|_| Raw::silent(&server.address).ok()).collect();
    std::thread::sleep(Duration::from_millis(300));
    good.getattr(0).context("a client that was there before")?;
    drop(crowd);
    let start = Instant::now();
    while let Err(err) = server.client() {
        ensure!(start.elapsed() < Duration::from_secs(10), "nobody is served any more: {err:#}");
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}

pub(super) fn clients_that_vanish_harm_nobody(server: &mut Server) -> Result<()> {
    std::fs::write(server.path("big"), vec![1; 4 << 20])?;
    let mut good = server.client()?;
    for _ in 0..20 {
        let mut raw = Raw::attached_with(&server.address, &server.aname, 512 * 1024)?;
        raw.open(1, b"big", 0)?;
        let mut burst = Vec::new();
        for tag in 0..16 {
            burst.extend(Body::new().d(1).q(0).d(raw.msize).frame(t::READ, tag));
        }
        raw.send_bytes(&burst)?;
        raw.pipe.read_exact(&mut [0; 100])?;
    }
    good.getattr(0)?;
    if server.lives() {
        descriptors_fall(server, 64)?;
    }
    Ok(())
}

pub(super) fn clients_that_vanish_over_the_network_harm_nobody(server: &mut Server) -> Result<()> {
    clients_that_vanish_harm_nobody(server)
}

pub(super) fn slow_readers_cost_little(server: &mut Server) -> Result<()> {
    std::fs::write(server.path("big"), vec![1; 4 << 20])?;
    let mut good = server.client()?;
    let (alone, before) = (latency_us(&mut good)?, server.resident_kib()?);
    let mut slow = Vec::new();
    for _ in 0..50 {
        let mut raw = Raw::attached_with(&server.address, &server.aname, 512 * 1024)?;
        raw.open(1, b"big", 0)?;
        let mut burst = Vec::new();
        // 100 MB are asked for, and not a byte is read.
        for tag in 0..200 {
            burst.extend(Body::new().d(1).q(0).d(raw.msize).frame(t::READ, tag));
        }
        raw.send_bytes(&burst)?;
        slow.push(raw);
    }
    std::thread::sleep(Duration::from_millis(500));
    let (beside, after) = (latency_us(&mut good)?, server.resident_kib()?);
    let each = after.saturating_sub(before) / 50;
    println!(
        "    50 clients that read nothing: {after} KiB in all, {each} KiB each; latency {alone} us \
         alone, {beside} us beside them"
    );
    ensure!(each <= 3 * 512 + KIB_PER_CONNECTION, "{each} KiB for a client that reads nothing");
    ensure!(beside <= alone * 2 + 200, "latency {beside} us, {alone} us alone");
    Ok(())
}

pub(super) fn requests_on_their_way_are_bounded(server: &mut Server) -> Result<()> {
    std::fs::write(server.path("file"), b"")?;
    let before = server.resident_kib()?;
    let mut raw = Raw::attached_with(&server.address, &server.aname, 512 * 1024)?;
    raw.open(1, b"file", 2)?;
    let data = vec![3; raw.msize as usize - 24];
    let mut pipe = raw.pipe.try_clone()?;
    let writer = std::thread::spawn(move || -> std::io::Result<()> {
        for tag in 0..400u16 {
            let body = Body::new().d(1).q(u64::from(tag % 8) * 4096).data(&data);
            pipe.write_all(&body.frame(t::WRITE, tag))?;
            pipe.write_all(&Body::new().d(1).d(1).frame(t::FSYNC, 1000 + tag))?;
        }
        Ok(())
    });
    let mut most = 0;
    for _ in 0..800 {
        ensure!(raw.receive()?.errno().is_none(), "a request was refused");
        most = most.max(server.resident_kib()?);
    }
    writer.join().map_err(|_| anyhow::anyhow!("the writer panicked"))??;
    let more = most.saturating_sub(before);
    println!("    400 writes of 512 KiB and as many syncs at once: {more} KiB more at most");
    ensure!(more < 16 * 1024, "{more} KiB for one connection");
    Ok(())
}
