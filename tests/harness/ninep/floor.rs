//! A server that does no work: what the same messages cost anyone on this machine who receives and answers them.
//!
//! Every reply is made up, but for reads, whose bytes come from a real file by one `pread`, and writes, whose bytes go
//! there by one `pwrite`. One thread, one `read` and one `write` of the socket for all messages that are at hand.

use crate::ninep::wire::{Body, HEADER_BYTES, t};
use anyhow::{Context, Result, ensure};
use std::fs::File;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::FileExt;
use std::path::Path;

/// Largest message.
const MSIZE: u32 = 24 + 4096 * 128;
/// Replies at one time that may be as large.
const LANES_MAX: usize = 16;
const WALK_NAMES_MAX: u16 = 16;
const QID_BYTES: usize = 13;
/// Bytes of an `Rgetattr`'s body.
const ATTR_BYTES: usize = 153;

/// Answers one connection after the other. Says `ready PORT`.
///
/// # Errors
/// When it cannot listen.
pub fn serve(port: u16, dir: &Path) -> Result<()> {
    let listener = TcpListener::bind(("127.0.0.1", port)).context("cannot listen")?;
    println!("ready {}", listener.local_addr()?.port());
    for stream in listener.incoming() {
        // The file is made after the start; a load that ends early is not the end.
        let file = File::options().read(true).write(true).open(dir.join("bulk"));
        if let Err(err) = file.context("no file to read").and_then(|file| answer(&stream?, &file)) {
            eprintln!("{err:#}");
        }
    }
    Ok(())
}

/// Replies that are not sent yet, in room that is made ready once.
struct Replies {
    bytes: Vec<u8>,
    end: usize,
}

impl Replies {
    /// Puts a header and answers where the body goes.
    fn body(&mut self, kind: u8, tag: u16, body_bytes: usize) -> Result<&mut [u8]> {
        let size = HEADER_BYTES + body_bytes;
        let place = self.bytes.get_mut(self.end..self.end + size).context("too many replies")?;
        self.end += size;
        let (head, body) = place.split_at_mut(HEADER_BYTES);
        head[..4].copy_from_slice(&u32::try_from(size)?.to_le_bytes());
        head[4] = kind;
        head[5..].copy_from_slice(&tag.to_le_bytes());
        Ok(body)
    }
}

fn answer(mut stream: &TcpStream, file: &File) -> Result<()> {
    stream.set_nodelay(true)?;
    let mut buffer = vec![0; LANES_MAX * MSIZE as usize];
    let mut replies = Replies { bytes: vec![0; LANES_MAX * MSIZE as usize], end: 0 };
    let mut filled = 0;
    loop {
        let got = stream.read(&mut buffer[filled..])?;
        if got == 0 {
            return Ok(());
        }
        filled += got;
        let mut at = 0;
        while let Some(head) = buffer.get(at..filled).and_then(|b| b.first_chunk::<4>()) {
            let size = u32::from_le_bytes(*head);
            ensure!((7..=MSIZE).contains(&size), "a message of {size} bytes");
            let Some(message) = buffer.get(at..filled).and_then(|b| b.get(..size as usize)) else {
                break;
            };
            reply(message, file, &mut replies)?;
            at += size as usize;
        }
        buffer.copy_within(at..filled, 0);
        filled -= at;
        stream.write_all(&replies.bytes[..replies.end])?;
        replies.end = 0;
    }
}

fn reply(message: &[u8], file: &File, replies: &mut Replies) -> Result<()> {
    let (kind, tag) = (message[4], u16::from_le_bytes([message[5], message[6]]));
    let field = |at: usize| message.get(HEADER_BYTES + at..).context("half a message");
    let word = |at: usize| -> Result<u32> {
        Ok(u32::from_le_bytes(*field(at)?.first_chunk().context("half a message")?))
    };
    let offset = || -> Result<u64> {
        Ok(u64::from_le_bytes(*field(4)?.first_chunk().context("half a message")?))
    };
    let mut put = |body: &[u8]| -> Result<()> {
        replies.body(kind + 1, tag, body.len())?.copy_from_slice(body);
        Ok(())
    };
    match kind {
        t::VERSION => put(Body::new().d(MSIZE).s(b"9P2000.L").bytes()),
        t::WALK => {
            let [low, high, ..] = *field(8)? else { anyhow::bail!("half a walk") };
            let names = u16::from_le_bytes([low, high]).min(WALK_NAMES_MAX);
            let mut body = [0; 2 + QID_BYTES * WALK_NAMES_MAX as usize];
            body[..2].copy_from_slice(&names.to_le_bytes());
            put(&body[..2 + QID_BYTES * usize::from(names)])
        }
        t::ATTACH => put(&[0; QID_BYTES]),
        t::LOPEN | t::LCREATE => put(&[0; QID_BYTES + 4]),
        t::GETATTR => put(&[0; ATTR_BYTES]),
        t::CLUNK => put(&[]),
        t::READ => {
            let count = word(12)?;
            let body = replies.body(kind + 1, tag, 4 + count as usize)?;
            let (head, data) = body.split_at_mut(4);
            head.copy_from_slice(&count.to_le_bytes());
            Ok(file.read_exact_at(data, offset()?)?)
        }
        t::WRITE => {
            let data = field(16)?;
            file.write_all_at(data, offset()?)?;
            put(&u32::try_from(data.len())?.to_le_bytes())
        }
        kind => anyhow::bail!("a message of type {kind}"),
    }
}
