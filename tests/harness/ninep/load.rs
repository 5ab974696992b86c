//! The load of the benchmark: one thread, requests pipelined by tag, replies counted and hardly looked at, so
//! that what is measured is the server. The same for every server.

use crate::ninep::raw::{Address, Pipe, Raw, walk_body};
use crate::ninep::wire::{Body, RLERROR, frame, t};
use anyhow::{Context, Result, bail, ensure};
use nix::time::clock_getcpuclockid;
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};
use std::io::{Read, Write};
use std::path::Path;
use std::time::{Duration, Instant};

/// Files of the directory that is listed.
pub const LISTED: usize = 10_000;
/// Bytes of the file that is read.
pub const BULK_BYTES: u64 = 64 << 20;
/// Bytes of a small file.
const SMALL_BYTES: usize = 4096;
/// Bytes of a file that is read whole, as clients read whose files are smaller than a message.
const LITTLE_BYTES: usize = 5000;
/// Message size that is asked for: 128 pages and a header.
const MSIZE: u32 = 24 + 4096 * 128;

/// What one scene gave.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Figure {
    /// Scene.
    pub scene: String,
    /// Units done: messages, files, MB or listings.
    pub units: f64,
    /// Time they took, in microseconds.
    pub wall_us: f64,
    /// Processor time of the server meanwhile, in microseconds.
    pub cpu_us: f64,
    /// Processor time of the load itself.
    pub load_cpu_us: f64,
}

/// Makes the files that the scenes need.
///
/// # Errors
/// When the directory cannot be written.
pub fn prepare(root: &Path) -> Result<()> {
    std::fs::create_dir_all(root.join("a"))?;
    std::fs::write(root.join("a/b"), b"b")?;
    std::fs::create_dir_all(root.join("small"))?;
    std::fs::write(root.join("little"), vec![0x5a; LITTLE_BYTES])?;
    std::fs::create_dir_all(root.join("listed"))?;
    for index in 0..LISTED {
        std::fs::write(root.join(format!("listed/entry-{index:05}")), b"")?;
    }
    let block = vec![0x5a; 1 << 20];
    let mut bulk = std::fs::File::create(root.join("bulk"))?;
    for _ in 0..BULK_BYTES >> 20 {
        bulk.write_all(&block)?;
    }
    Ok(())
}

/// Processor time of a process up to now, threads that have ended included.
fn cpu_us(pid: u32) -> Result<f64> {
    let clock =
        clock_getcpuclockid(Pid::from_raw(pid.try_into()?)).context("the server is gone")?;
    let time = Duration::from(clock.now().context("the server is gone")?);
    Ok(time.as_secs_f64() * 1e6)
}

/// A pipelined connection: `lanes` sequences of requests, each of which sends its next one when the last is
/// answered.
struct Lanes {
    pipe: Pipe,
    buffer: Vec<u8>,
    filled: usize,
    out: Vec<u8>,
}

impl Lanes {
    fn new(raw: Raw) -> Self {
        let buffer = vec![0; 2 << 20];
        Self { pipe: raw.pipe, buffer, filled: 0, out: Vec::new() }
    }

    /// Runs until `until`; `next` gives request `step` of a lane and its type. Answers how many requests of
    /// all lanes were answered. A lane ends only after a multiple of `steps`.
    fn run(
        &mut self,
        lanes: u16,
        steps: u64,
        until: Instant,
        mut next: impl FnMut(u16, u64, &mut Vec<u8>),
    ) -> Result<u64> {
        let mut step = vec![0u64; usize::from(lanes)];
        self.out.clear();
        for lane in 0..lanes {
            next(lane, 0, &mut self.out);
        }
        let (mut done, mut open) = (0, lanes);
        while open > 0 {
            self.pipe.write_all(&self.out).context("the server closed the connection")?;
            self.out.clear();
            let over = Instant::now() >= until;
            let got = self.pipe.read(&mut self.buffer[self.filled..])?;
            ensure!(got > 0, "the server closed the connection");
            self.filled += got;
            let mut at = 0;
            while let Some(head) =
                self.buffer.get(at..self.filled).and_then(|b| b.first_chunk::<7>())
            {
                let size = u32::from_le_bytes([head[0], head[1], head[2], head[3]]) as usize;
                if self.filled - at < size {
                    break;
                }
                let lane = u16::from_le_bytes([head[5], head[6]]);
                let count = &mut step[usize::from(lane)];
                if head[4] == RLERROR {
                    bail!("request {} of a lane was refused", *count % steps);
                }
                at += size;
                done += 1;
                *count += 1;
                if over && *count % steps == 0 {
                    open -= 1;
                } else {
                    next(lane, *count, &mut self.out);
                }
            }
            self.buffer.copy_within(at..self.filled, 0);
            self.filled -= at;
        }
        Ok(done)
    }
}

/// Runs every scene whose name holds `filter` for about `each`.
///
/// # Errors
/// When the server refuses something.
pub fn run(
    address: &Address,
    aname: &str,
    pid: u32,
    each: Duration,
    filter: &str,
) -> Result<Vec<Figure>> {
    let mut figures = Vec::new();
    let mut measure = |scene: &str, raw: Raw, body: &mut dyn FnMut(Raw, Instant) -> Result<f64>| {
        if !scene.contains(filter) {
            return Ok(());
        }
        let own = std::process::id();
        let (cpu, load_cpu, start) = (cpu_us(pid)?, cpu_us(own)?, Instant::now());
        let units = body(raw, start + each).with_context(|| scene.to_owned())?;
        let wall_us = start.elapsed().as_secs_f64() * 1e6;
        let (cpu_us, load_cpu_us) = (cpu_us(pid)? - cpu, cpu_us(own)? - load_cpu);
        figures.push(Figure { scene: scene.into(), units, wall_us, cpu_us, load_cpu_us });
        anyhow::Ok(())
    };
    let client = || Raw::attached_with(address, aname, MSIZE);
    for lanes in [1, 16] {
        measure(&format!("metadata_qd{lanes}"), client()?, &mut |raw, until| {
            metadata(raw, lanes, until)
        })?;
        measure(&format!("small_qd{lanes}"), client()?, &mut |raw, until| {
            small(raw, lanes, until)
        })?;
        measure(&format!("read4k_qd{lanes}"), client()?, &mut |raw, until| {
            random(raw, lanes, until)
        })?;
    }
    measure("whole_qd1", client()?, &mut whole)?;
    measure("bulk_read", client()?, &mut |raw, until| bulk(raw, t::READ, until))?;
    measure("bulk_write", client()?, &mut |raw, until| bulk(raw, t::WRITE, until))?;
    measure("list10k", client()?, &mut listings)?;
    Ok(figures)
}

/// Walk of two names, attributes, clunk. Units are messages.
fn metadata(raw: Raw, lanes: u16, until: Instant) -> Result<f64> {
    let mut pipe = Lanes::new(raw);
    let done = pipe.run(lanes, 3, until, |lane, step, out| {
        let fid = 100 + u32::from(lane);
        out.extend(match step % 3 {
            0 => walk_body(0, fid, &[b"a", b"b"]).frame(t::WALK, lane),
            1 => Body::new().d(fid).q(0x7ff).frame(t::GETATTR, lane),
            _ => Body::new().d(fid).frame(t::CLUNK, lane),
        });
    })?;
    Ok(done as f64)
}

/// A copy of the directory's fid, create, 4 KiB written, clunk. Units are files.
fn small(mut raw: Raw, lanes: u16, until: Instant) -> Result<f64> {
    raw.reach(1, &[b"small"])?;
    let data = [0x33; SMALL_BYTES];
    let mut pipe = Lanes::new(raw);
    let done = pipe.run(lanes, 4, until, |lane, step, out| {
        let fid = 100 + u32::from(lane);
        // Names come again after a while, so that the directory stays small; the file is cut then.
        let name = format!("file-{lane}-{}", step / 4 % 512);
        out.extend(match step % 4 {
            0 => walk_body(1, fid, &[]).frame(t::WALK, lane),
            1 => {
                let body = Body::new().d(fid).s(name.as_bytes()).d(0o1002).d(0o644).d(0);
                body.frame(t::LCREATE, lane)
            }
            2 => Body::new().d(fid).q(0).data(&data).frame(t::WRITE, lane),
            _ => Body::new().d(fid).frame(t::CLUNK, lane),
        });
    })?;
    Ok(done as f64 / 4.0)
}

/// 4 KiB from anywhere in the large file. Units are messages.
fn random(mut raw: Raw, lanes: u16, until: Instant) -> Result<f64> {
    raw.open(1, b"bulk", 0)?;
    let mut seed = 1u64;
    let mut pipe = Lanes::new(raw);
    let done = pipe.run(lanes, 1, until, |lane, _, out| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let offset = (seed >> 20) % (BULK_BYTES / 4096) * 4096;
        out.extend(Body::new().d(1).q(offset).d(4096).frame(t::READ, lane));
    })?;
    Ok(done as f64)
}

/// Walk to a little file, open, a read of as much as a message holds, clunk. Units are files.
fn whole(raw: Raw, until: Instant) -> Result<f64> {
    let count = (raw.msize - 24) & !4095;
    let mut pipe = Lanes::new(raw);
    let done = pipe.run(1, 4, until, |lane, step, out| {
        out.extend(match step % 4 {
            0 => walk_body(0, 100, &[b"little"]).frame(t::WALK, lane),
            1 => Body::new().d(100).d(0).frame(t::LOPEN, lane),
            2 => Body::new().d(100).q(0).d(count).frame(t::READ, lane),
            _ => Body::new().d(100).frame(t::CLUNK, lane),
        });
    })?;
    Ok(done as f64 / 4.0)
}

/// The large file from its start to its end, again and again, in messages as large as agreed. Units are MB.
fn bulk(mut raw: Raw, kind: u8, until: Instant) -> Result<f64> {
    let name: &[u8] = if kind == t::READ { b"bulk" } else { b"written" };
    if kind == t::READ {
        raw.open(1, name, 0)?;
    } else {
        raw.create(1, name, 2)?;
    }
    let count = (raw.msize - 24) & !4095;
    let data = vec![0x77; count as usize];
    let mut pipe = Lanes::new(raw);
    let done = pipe.run(1, 1, until, |lane, step, out| {
        let offset = step * u64::from(count) % (BULK_BYTES / u64::from(count) * u64::from(count));
        let body = Body::new().d(1).q(offset);
        let body = if kind == t::READ { body.d(count) } else { body.data(&data) };
        out.extend(frame(kind, lane, body.bytes()));
    })?;
    Ok(done as f64 * f64::from(count) / 1e6)
}

/// The directory of 10,000 files from its start to its end. Units are listings.
fn listings(mut raw: Raw, until: Instant) -> Result<f64> {
    let mut done = 0.0;
    while done == 0.0 || Instant::now() < until {
        raw.open(1, b"listed", 0o200_000)?;
        let (mut cookie, mut seen) = (0, 0);
        loop {
            let count = raw.msize - 24;
            let mut reply = raw.ok(t::READDIR, &Body::new().d(1).q(cookie).d(count))?;
            let bytes = reply.d()? as usize;
            let page = reply.take(bytes)?;
            if page.is_empty() {
                break;
            }
            // `qid[13] offset[8] type[1] name[s]`, of which only the cookie and the length matter.
            let mut rest = page;
            while let Some(head) = rest.first_chunk::<24>() {
                cookie = u64::from_le_bytes(head[13..21].try_into()?);
                let length = usize::from(u16::from_le_bytes([head[22], head[23]]));
                rest = rest.get(24 + length..).context("half an entry")?;
                seen += 1;
            }
        }
        ensure!(seen >= LISTED, "{seen} of {LISTED} entries were listed");
        raw.clunk(1)?;
        done += 1.0;
    }
    Ok(done)
}
