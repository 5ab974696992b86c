//! The share agent's entrance: what a client with a key meets while strangers crowd the door.

use crate::ninep::raw::{Address, Raw};
use crate::ninep::server::Server;
use crate::ninep::wire::{Body, t};
use anyhow::{Context, Result, bail, ensure};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Most KiB that strangers at the door may cost together.
const KIB_OF_STRANGERS: u64 = 32 * 1024;

fn port(server: &Server) -> Result<SocketAddr> {
    match server.address {
        Address::Tls(address) => Ok(address),
        _ => bail!("the server has no keys"),
    }
}

fn median_us(raw: &mut Raw) -> Result<u128> {
    let mut times = Vec::new();
    for _ in 0..200 {
        let start = Instant::now();
        raw.getattr(0)?;
        times.push(start.elapsed().as_micros());
    }
    times.sort_unstable();
    Ok(times[times.len() / 2])
}

pub(super) fn large_files_come_whole_through_keys(server: &mut Server) -> Result<()> {
    let content: Vec<u8> = (0..3_000_000u32).map(|index| (index % 251) as u8).collect();
    let mut raw = Raw::attached_with(&server.address, &server.aname, 512 * 1024)?;
    raw.create(1, b"large", 2)?;
    let step = 100_000;
    for (index, part) in content.chunks(step).enumerate() {
        let wrote = raw.write(1, (index * step) as u64, part)?;
        ensure!(wrote as usize == part.len(), "{wrote} bytes of {} were taken", part.len());
    }
    let mut back = Vec::new();
    while back.len() < content.len() {
        let part = raw.read(1, back.len() as u64, 400_000)?;
        ensure!(!part.is_empty(), "the file ends after {} bytes", back.len());
        back.extend(part);
    }
    ensure!(back == content, "other bytes came back");
    ensure!(std::fs::read(server.path("large"))? == content, "other bytes were kept");
    Ok(())
}

pub(super) fn without_a_key_nothing_is_said(server: &mut Server) -> Result<()> {
    let mut stream = TcpStream::connect(port(server)?)?;
    stream.set_read_timeout(Some(Duration::from_secs(15)))?;
    stream.write_all(&Body::new().d(8192).s(b"9P2000.L").frame(t::VERSION, 0xffff))?;
    let mut answer = Vec::new();
    // Closed, or closed with an alert of TLS (21).
    let _ = stream.read_to_end(&mut answer);
    ensure!(answer.first().is_none_or(|byte| *byte == 21), "it answered {answer:?}");
    Ok(())
}

pub(super) fn half_open_peers_cost_little(server: &mut Server) -> Result<()> {
    let mut good = server.client()?;
    let before = server.resident_kib()?;
    let address = port(server)?;
    let mut strangers = Vec::new();
    for _ in 0..400 {
        let mut stream = TcpStream::connect(address)?;
        // The beginning of a handshake, and no more.
        stream.write_all(&[22, 3, 1, 2, 0, 1])?;
        strangers.push(stream);
    }
    let start = Instant::now();
    server.client().context("a client that comes beside them")?.getattr(0)?;
    let came = start.elapsed();
    let more = server.resident_kib()?.saturating_sub(before);
    println!(
        "    400 half-open peers: {more} KiB more; a client came in within {} ms",
        came.as_millis()
    );
    ensure!(more <= KIB_OF_STRANGERS, "{more} KiB for peers that say nothing");
    good.getattr(0).map(drop)
}

pub(super) fn a_flood_of_handshakes_keeps_nobody_out(server: &mut Server) -> Result<()> {
    let mut good = server.client()?;
    let (alone, before) = (median_us(&mut good)?, server.resident_kib()?);
    let address = port(server)?;
    let (over, tried) = (AtomicBool::new(false), AtomicU64::new(0));
    let (beside, more, came) = std::thread::scope(|scope| -> Result<_> {
        for _ in 0..4 {
            scope.spawn(|| {
                let mut held = std::collections::VecDeque::new();
                while !over.load(Ordering::Relaxed) {
                    let Ok(mut stream) = TcpStream::connect(address) else { continue };
                    let _ = stream.write_all(&[22, 3, 1, 2, 0, 1]);
                    held.push_back(stream);
                    if held.len() > 100 {
                        held.pop_front();
                    }
                    tried.fetch_add(1, Ordering::Relaxed);
                    std::thread::sleep(Duration::from_millis(1));
                }
            });
        }
        let measured = (|| {
            std::thread::sleep(Duration::from_millis(300));
            let beside = median_us(&mut good)?;
            let more = server.resident_kib()?.saturating_sub(before);
            let start = Instant::now();
            // A handshake may be among the oldest at the door; whoever comes again gets in.
            while let Err(err) = server.client() {
                ensure!(start.elapsed() < Duration::from_secs(15), "nobody comes in: {err:#}");
            }
            Ok((beside, more, start.elapsed()))
        })();
        over.store(true, Ordering::Relaxed);
        measured
    })?;
    println!(
        "    {} handshakes begun and left: {more} KiB more; latency {alone} us alone, {beside} us beside \
         them; a client came in within {} ms",
        tried.load(Ordering::Relaxed),
        came.as_millis()
    );
    ensure!(more <= KIB_OF_STRANGERS, "{more} KiB for peers that say nothing");
    Ok(())
}
