//! A web server on loopback that counts: requests, and bytes sent with their headers. It knows ranges, also
//! several at once, which zchunk asks for.

use anyhow::{Context, Result};
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

const BOUNDARY: &str = "b0undary";

/// Counters of a server.
#[derive(Debug, Default)]
struct Counters {
    requests: AtomicU64,
    bytes: AtomicU64,
}

/// A running server; it ends with the process.
#[derive(Debug)]
pub(super) struct Server {
    pub(super) url: String,
    counters: Arc<Counters>,
}

impl Server {
    pub(super) fn start(root: &Path) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").context("no port on loopback")?;
        let url = format!("http://{}", listener.local_addr()?);
        let counters = Arc::new(Counters::default());
        let (root, shared) = (root.to_path_buf(), Arc::clone(&counters));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (root, counters) = (root.clone(), Arc::clone(&shared));
                // A client that hangs up is its own business.
                std::thread::spawn(move || serve(&stream, &root, &counters).ok());
            }
        });
        Ok(Self { url, counters })
    }

    /// Bytes and requests since the last call.
    pub(super) fn take(&self) -> (u64, u64) {
        let take = |counter: &AtomicU64| counter.swap(0, Ordering::Relaxed);
        (take(&self.counters.bytes), take(&self.counters.requests))
    }
}

fn serve(stream: &TcpStream, root: &Path, counters: &Counters) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut reader = BufReader::new(stream);
    let mut out = stream;
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Ok(());
        }
        // HTTP/1.0, which zsync speaks, ends a body by hanging up.
        let (mut range, mut close) = (None, line.trim_end().ends_with("HTTP/1.0"));
        loop {
            let mut header = String::new();
            reader.read_line(&mut header)?;
            let header = header.trim().to_ascii_lowercase();
            if header.is_empty() {
                break;
            }
            if let Some(ranges) = header.strip_prefix("range: bytes=") {
                range = Some(ranges.to_owned());
            }
            close |= header == "connection: close";
        }
        let mut words = line.split(' ');
        let (method, path) = (words.next().unwrap_or(""), words.next().unwrap_or(""));
        counters.requests.fetch_add(1, Ordering::Relaxed);
        let answer = answer(root, path, range.as_deref())?;
        let body = if method == "HEAD" { &[][..] } else { &answer.1 };
        counters.bytes.fetch_add((answer.0.len() + body.len()) as u64, Ordering::Relaxed);
        out.write_all(answer.0.as_bytes())?;
        out.write_all(body)?;
        if close {
            return Ok(());
        }
    }
}

/// Headers and body.
fn answer(root: &Path, path: &str, range: Option<&str>) -> std::io::Result<(String, Vec<u8>)> {
    let Some(mut file) = resolve(root, path).and_then(|path| File::open(path).ok()) else {
        return Ok(("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n".into(), Vec::new()));
    };
    let size = file.metadata()?.len();
    let mut piece = |from: u64, to: u64| -> std::io::Result<Vec<u8>> {
        let mut bytes = vec![0; usize::try_from(to - from).unwrap_or(0)];
        file.seek(SeekFrom::Start(from))?;
        file.read_exact(&mut bytes)?;
        Ok(bytes)
    };
    let ranges: Vec<(u64, u64)> = range
        .into_iter()
        .flat_map(|ranges| ranges.split(','))
        .filter_map(|range| {
            let (from, to) = range.trim().split_once('-')?;
            let from = from.parse::<u64>().ok()?;
            let to = to.parse::<u64>().map_or(size, |last| (last + 1).min(size));
            (from < to).then_some((from, to))
        })
        .collect();
    let accepts = "Accept-Ranges: bytes\r\n";
    match &ranges[..] {
        [] => {
            let body = piece(0, size)?;
            Ok((format!("HTTP/1.1 200 OK\r\n{accepts}Content-Length: {size}\r\n\r\n"), body))
        }
        [(from, to)] => {
            let body = piece(*from, *to)?;
            let head = format!(
                "HTTP/1.1 206 Partial Content\r\n{accepts}Content-Length: {}\r\nContent-Range: bytes {from}-{}/{size}\r\n\r\n",
                body.len(),
                to - 1
            );
            Ok((head, body))
        }
        many => {
            let mut body = Vec::new();
            for (from, to) in many {
                body.extend_from_slice(
                    format!("\r\n--{BOUNDARY}\r\nContent-Type: application/octet-stream\r\nContent-Range: bytes {from}-{}/{size}\r\n\r\n", to - 1).as_bytes(),
                );
                body.extend_from_slice(&piece(*from, *to)?);
            }
            body.extend_from_slice(format!("\r\n--{BOUNDARY}--\r\n").as_bytes());
            let head = format!(
                "HTTP/1.1 206 Partial Content\r\n{accepts}Content-Type: multipart/byteranges; boundary={BOUNDARY}\r\nContent-Length: {}\r\n\r\n",
                body.len()
            );
            Ok((head, body))
        }
    }
}

fn resolve(root: &Path, path: &str) -> Option<PathBuf> {
    let relative = Path::new(path.split('?').next()?.trim_start_matches('/'));
    let plain = relative.components().all(|part| matches!(part, Component::Normal(_)));
    let path = root.join(relative);
    (plain && path.is_file()).then_some(path)
}
