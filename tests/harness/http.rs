//! A plain web server over one folder, on the host's loopback, that can be told to misbehave.

use anyhow::{Context, Result, anyhow};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::net::SocketAddr;
use std::ops::Range;
use std::path::{Component, Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use tiny_http::{Header, Request, Response, Server, StatusCode};

/// How the server treats files whose path contains a given text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// Sends half of the file and closes the connection.
    StopHalfway,
    /// Flips a bit in the middle.
    FlipBit,
    /// Answers 404.
    Missing,
}

/// A running server; it stops when dropped.
#[derive(Debug)]
pub struct Web {
    server: Arc<ServerHandle>,
    address: SocketAddr,
    faults: Arc<Mutex<Vec<(String, Fault)>>>,
    requests: Arc<Mutex<Vec<String>>>,
}

struct ServerHandle(Server);

impl std::fmt::Debug for ServerHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Server")
    }
}

impl Web {
    /// Serves `folder` on a free port of 127.0.0.1.
    ///
    /// # Errors
    /// When no port can be had.
    pub fn serve(folder: &Path) -> Result<Self> {
        Self::serve_on(folder, 0)
    }

    /// Serves `folder` on the given port of 127.0.0.1; 0 takes a free one.
    ///
    /// # Errors
    /// When the port is taken.
    pub fn serve_on(folder: &Path, port: u16) -> Result<Self> {
        let server = Server::http(("127.0.0.1", port))
            .map_err(|err| anyhow!("cannot serve on port {port}: {err}"))?;
        let address = server.server_addr().to_ip().context("the server has no address")?;
        let web = Self {
            server: Arc::new(ServerHandle(server)),
            address,
            faults: Arc::default(),
            requests: Arc::default(),
        };
        for _ in 0..2 {
            let (server, faults, requests) =
                (Arc::clone(&web.server), Arc::clone(&web.faults), Arc::clone(&web.requests));
            let folder = folder.to_path_buf();
            std::thread::spawn(move || {
                while let Ok(request) = server.0.recv() {
                    answer(&folder, request, &faults, &requests);
                }
            });
        }
        Ok(web)
    }

    /// The port on the host's loopback.
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// The address as a guest with user networking sees it.
    pub fn guest_url(&self) -> String {
        format!("http://10.0.2.2:{}/", self.port())
    }

    /// Misbehaves from now on for paths that contain `text`.
    pub fn break_paths(&self, text: &str, fault: Fault) {
        self.faults.lock().unwrap_or_else(PoisonError::into_inner).push((text.into(), fault));
    }

    /// Behaves again.
    pub fn repair(&self) {
        self.faults.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// Paths that were asked for, in order.
    pub fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Web {
    fn drop(&mut self) {
        for _ in 0..2 {
            self.server.0.unblock();
        }
    }
}

fn answer(
    folder: &Path,
    request: Request,
    faults: &Mutex<Vec<(String, Fault)>>,
    requests: &Mutex<Vec<String>>,
) {
    let path = request.url().split('?').next().unwrap_or_default().to_string();
    requests.lock().unwrap_or_else(PoisonError::into_inner).push(path.clone());
    let fault = faults
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .iter()
        .find(|(text, _)| path.contains(text.as_str()))
        .map(|(_, fault)| fault.clone());
    let file = resolve(folder, &path).and_then(|path| File::open(path).ok());
    // A client that hangs up is its own business.
    let _ = match (file, fault) {
        (None, _) | (_, Some(Fault::Missing)) => {
            request.respond(Response::from_string("not found\n").with_status_code(404))
        }
        (Some(file), fault) => respond_with(file, request, fault),
    };
}

fn respond_with(mut file: File, request: Request, fault: Option<Fault>) -> std::io::Result<()> {
    let size = file.metadata()?.len();
    let range = range_of(&request, size);
    let status = StatusCode(if range.is_some() { 206 } else { 200 });
    let mut headers = Vec::new();
    if let Some(Range { start, end }) = range {
        let value = format!("bytes {start}-{}/{size}", end.saturating_sub(1));
        headers.extend(Header::from_bytes("Content-Range", value));
    }
    let Range { start, end } = range.unwrap_or(0..size);
    let length = end.saturating_sub(start);
    file.seek(SeekFrom::Start(start))?;
    let mut file = file.take(length);
    let body: Box<dyn Read + Send> = match fault {
        Some(Fault::FlipBit) => {
            let mut bytes = Vec::new();
            file.read_to_end(&mut bytes)?;
            let middle = bytes.len() / 2;
            if let Some(byte) = bytes.get_mut(middle) {
                *byte ^= 1;
            }
            Box::new(std::io::Cursor::new(bytes))
        }
        Some(Fault::StopHalfway) => Box::new(file.take(length / 2)),
        _ => Box::new(file),
    };
    let length = usize::try_from(length).unwrap_or(usize::MAX);
    request.respond(Response::new(status, headers, body, Some(length), None))
}

/// The bytes that are asked for, of a file of this size: `bytes=FIRST-` or `bytes=FIRST-LAST`.
fn range_of(request: &Request, size: u64) -> Option<Range<u64>> {
    let header = request.headers().iter().find(|header| header.field.equiv("Range"))?;
    let (first, last) = header.value.as_str().strip_prefix("bytes=")?.split_once('-')?;
    let start = first.parse().ok().filter(|start| *start < size)?;
    let end = match last {
        "" => size,
        last => last.parse::<u64>().ok()?.saturating_add(1).min(size),
    };
    (start < end).then_some(start..end)
}

/// The file behind a request path, or `None` for anything that would leave the folder.
fn resolve(folder: &Path, url_path: &str) -> Option<PathBuf> {
    let relative = Path::new(url_path.trim_start_matches('/'));
    let plain = relative.components().all(|part| matches!(part, Component::Normal(_)));
    let path = folder.join(relative);
    (plain && path.is_file()).then_some(path)
}
