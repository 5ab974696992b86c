//! Where a repository can lie: on a web server, or in a folder.

use goblin_image::recipe::BlobRef;
use goblin_sys::beneath::{self, OpenMode};
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Redirects followed.
const REDIRECTS_MAX: u32 = 3;
/// Longest silence of the server.
const SILENCE_MAX: Duration = Duration::from_secs(30);
/// Longest wait for a connection.
const CONNECT_MAX: Duration = Duration::from_secs(15);
/// Slowest download worth waiting for, in bytes a second, beyond the longest silence.
pub(crate) const SLOWEST_BYTES_PER_S: u64 = 16 << 10;

/// What is wanted of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Piece {
    /// Where it begins.
    pub at: u64,
    /// Its size; `None` for the whole file.
    pub bytes: Option<u64>,
    /// What the caller reads at most, by which time is given.
    pub bytes_max: u64,
}

/// The piece as it comes. It may be longer than what was asked for; the caller stops in time.
pub struct Opened {
    /// Begins with the first byte that was asked for.
    pub body: Box<dyn Read + Send>,
}

impl std::fmt::Debug for Opened {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Opened")
    }
}

/// Why a file could not be opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OpenError {
    /// Worth another try.
    Again(String),
    /// Not worth one.
    Final(String),
    /// It is not there.
    Absent,
}

/// Gives files of a repository by their path in it. Nothing it gives is believed: what is read is
/// compared with what was signed, whatever it came from.
pub trait Origin: Send + Sync + std::fmt::Debug {
    /// Opens a piece of a file; each request is counted in `requests`.
    ///
    /// # Errors
    /// [`OpenError`].
    fn open(&self, path: &str, piece: Piece, requests: &AtomicU64) -> Result<Opened, OpenError>;

    /// The file's address, for people.
    fn address(&self, path: &str) -> String;

    /// Most contents that [`Origin::contents`] gives at once; 0 where it knows files only.
    fn contents_max(&self) -> usize {
        0
    }

    /// Opens contents by their digests: all of their bytes, one after another in this order.
    ///
    /// # Errors
    /// [`OpenError`].
    fn contents(&self, _wanted: &[BlobRef], _requests: &AtomicU64) -> Result<Opened, OpenError> {
        Err(OpenError::Absent)
    }
}

/// A folder on a web server.
#[derive(Debug)]
pub struct Web {
    agent: ureq::Agent,
    base: String,
}

impl Web {
    /// The folder at an `http://` or `https://` address, over a proxy where one is given; one that is not
    /// the address of a proxy is left out with a warning.
    pub fn new(base: &str, proxy: Option<&str>) -> Self {
        let proxy = proxy.and_then(|address| {
            ureq::Proxy::new(address)
                .map_err(|err| tracing::warn!(%err, "the proxy cannot be used"))
                .ok()
        });
        let config = ureq::Agent::config_builder()
            .timeout_connect(Some(CONNECT_MAX))
            .timeout_recv_response(Some(SILENCE_MAX))
            .timeout_per_read(Some(SILENCE_MAX))
            .max_redirects(0)
            .max_redirects_will_error(false)
            .http_status_as_error(false)
            .accept_encoding("identity")
            .user_agent("goblinux")
            .proxy(proxy)
            .build();
        Self { agent: config.into(), base: base.trim_end_matches('/').to_owned() }
    }

    fn ask(&self, url: &str, piece: Piece) -> Result<Answer, OpenError> {
        let again = |err: ureq::Error| OpenError::Again(err.to_string());
        let whole =
            SILENCE_MAX.saturating_add(Duration::from_secs(piece.bytes_max / SLOWEST_BYTES_PER_S));
        let mut request = self.agent.get(url);
        if let Some(bytes) = piece.bytes {
            let last = piece.at.saturating_add(bytes).saturating_sub(1);
            request = request.header("range", format!("bytes={}-{last}", piece.at));
        }
        let request = request.config().timeout_recv_body(Some(whole)).build();
        let response = request.call().map_err(again)?;
        let header = |name: &str| {
            response.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned)
        };
        let status = response.status().as_u16();
        let encoding = header("content-encoding").filter(|encoding| encoding != "identity");
        if let (Some(encoding), 200 | 206) = (encoding, status) {
            let detail = format!("the server compresses it ({encoding}), which was not asked for");
            return Err(OpenError::Final(detail));
        }
        match status {
            200 => Ok(Answer::Body { body: Box::new(response.into_body().into_reader()), from: 0 }),
            206 => {
                let range = header("content-range").unwrap_or_default();
                check_range(&range, piece)?;
                Ok(Answer::Body {
                    body: Box::new(response.into_body().into_reader()),
                    from: piece.at,
                })
            }
            // Object stores say "forbidden" where listing is not allowed.
            403 | 404 | 410 => Err(OpenError::Absent),
            301 | 302 | 303 | 307 | 308 => Ok(Answer::Redirect(
                redirect(url, &header("location").unwrap_or_default()).ok_or_else(|| {
                    OpenError::Final("the server redirects to another kind of address".into())
                })?,
            )),
            416 => {
                Err(OpenError::Final("the server's file is shorter than what was signed".into()))
            }
            500..=599 | 408 | 429 => Err(OpenError::Again(format!("the server answered {status}"))),
            _ => Err(OpenError::Final(format!("the server answered {status}"))),
        }
    }
}

enum Answer {
    Body { body: Box<dyn Read + Send>, from: u64 },
    Redirect(String),
}

/// Checks `bytes FIRST-LAST/SIZE` (RFC 9110, section 14.4): it has to begin where it was asked to, and may
/// end early, after which the rest is asked for.
fn check_range(range: &str, piece: Piece) -> Result<(), OpenError> {
    let first = range
        .strip_prefix("bytes ")
        .and_then(|rest| rest.split_once('-'))
        .and_then(|(first, _)| first.parse::<u64>().ok());
    if piece.bytes.is_some() && first == Some(piece.at) {
        return Ok(());
    }
    let detail = format!("the server was asked for the bytes from {} and says {range:?}", piece.at);
    Err(OpenError::Final(detail))
}

impl Origin for Web {
    fn open(&self, path: &str, piece: Piece, requests: &AtomicU64) -> Result<Opened, OpenError> {
        let mut url = self.address(path);
        for _ in 0..=REDIRECTS_MAX {
            requests.fetch_add(1, Ordering::Relaxed);
            match self.ask(&url, piece)? {
                Answer::Redirect(next) => url = next,
                Answer::Body { mut body, from } => {
                    // A server that knows no ranges sends all of it, from the start.
                    let before = piece.at.saturating_sub(from);
                    let skipped = io::copy(&mut body.by_ref().take(before), &mut io::sink())
                        .map_err(|err| OpenError::Again(err.to_string()))?;
                    if skipped < before {
                        return Err(OpenError::Again(format!("it stopped after {skipped} bytes")));
                    }
                    return Ok(Opened { body });
                }
            }
        }
        Err(OpenError::Final("the server redirects in circles".into()))
    }

    fn address(&self, path: &str) -> String {
        format!("{}/{path}", self.base)
    }
}

/// A folder, such as one on a stick. What is in it may be anybody's: links are not followed, and nothing but
/// plain files is opened.
#[derive(Debug)]
pub struct Folder {
    root: PathBuf,
    /// What its files are called by, where that is not `root`.
    name: Option<String>,
}

impl Folder {
    /// The repository at `root`.
    pub fn new(root: PathBuf) -> Self {
        Self { root, name: None }
    }

    /// The repository at `root`, of which people are told by another name.
    pub fn named(root: PathBuf, name: &str) -> Self {
        Self { root, name: Some(name.to_owned()) }
    }
}

impl Origin for Folder {
    fn open(&self, path: &str, piece: Piece, requests: &AtomicU64) -> Result<Opened, OpenError> {
        requests.fetch_add(1, Ordering::Relaxed);
        if !is_plain(path) {
            return Err(OpenError::Final("that is no path inside a repository".into()));
        }
        let failed = |err: io::Error| match err.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => OpenError::Absent,
            // A stick that was pulled does not come back by itself.
            _ => OpenError::Final(err.to_string()),
        };
        let root = self.root.canonicalize().and_then(|root| beneath::root(&root));
        let held = root.and_then(|root| beneath::walk(&root, path)).map_err(failed)?;
        if beneath::stat(&held).map_err(failed)?.kind() != beneath::Kind::RegularFile {
            return Err(OpenError::Final("that is no file".into()));
        }
        let mode = OpenMode { read: true, ..OpenMode::default() };
        let mut file = File::from(beneath::open_file(held.as_fd(), mode).map_err(failed)?);
        file.seek(SeekFrom::Start(piece.at)).map_err(failed)?;
        Ok(Opened { body: Box::new(file) })
    }

    fn address(&self, path: &str) -> String {
        match &self.name {
            Some(name) => format!("{name}: {path}"),
            None => self.root.join(path).display().to_string(),
        }
    }
}

/// True for a path of a file inside a repository.
pub(crate) fn is_plain(path: &str) -> bool {
    // The separator alone would hide an empty name.
    path.split('/').all(|part| !matches!(part, "" | "." | ".."))
        && !path.chars().any(char::is_control)
}

/// Where a redirect leads: the same kind of address or `https`, never a file or another protocol.
fn redirect(from: &str, location: &str) -> Option<String> {
    let (scheme, rest) = from.split_once("://")?;
    if location.starts_with("https://") || (scheme == "http" && location.starts_with("http://")) {
        return Some(location.to_owned());
    }
    if location.starts_with('/') && !location.starts_with("//") {
        let host = rest.split('/').next()?;
        return Some(format!("{scheme}://{host}{location}"));
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redirects_stay_with_the_web() {
        let from = "http://a/x/y";
        assert_eq!(redirect(from, "https://b/z").as_deref(), Some("https://b/z"));
        assert_eq!(redirect(from, "/z").as_deref(), Some("http://a/z"));
        assert_eq!(redirect("https://a/x", "http://a/x"), None);
        for bad in ["file:///etc/passwd", "ftp://a/x", "//b/z", "", "z"] {
            assert_eq!(redirect(from, bad), None, "{bad}");
        }
    }

    #[test]
    fn ranges_begin_where_they_were_asked_to() {
        let piece = Piece { at: 100, bytes: Some(50), bytes_max: 50 };
        for good in ["bytes 100-149/1000", "bytes 100-120/1000", "bytes 100-149/*"] {
            assert_eq!(check_range(good, piece), Ok(()), "{good}");
        }
        for bad in ["", "bytes 0-149/1000", "bytes 101-149/1000", "bytes */1000", "100-149"] {
            assert!(matches!(check_range(bad, piece), Err(OpenError::Final(_))), "{bad}");
        }
        let whole = Piece { at: 0, bytes: None, bytes_max: 50 };
        assert!(check_range("bytes 0-49/50", whole).is_err());
    }

    #[test]
    fn folder_gives_pieces_and_stays_inside() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("file"), b"0123456789").unwrap();
        let (folder, count) = (Folder::new(dir.path().to_owned()), AtomicU64::new(0));
        let piece = Piece { at: 3, bytes: Some(4), bytes_max: 4 };
        let mut got = String::new();
        folder.open("file", piece, &count).unwrap().body.take(4).read_to_string(&mut got).unwrap();
        assert_eq!(got, "3456");
        assert_eq!(folder.open("none", piece, &count).err(), Some(OpenError::Absent));
        for bad in ["../file", "/etc/passwd", "a/../../b", "."] {
            assert!(matches!(folder.open(bad, piece, &count), Err(OpenError::Final(_))), "{bad}");
        }
        // What a stranger's stick may hold: links out of it, and what blocks whoever opens it.
        std::os::unix::fs::symlink("/etc/passwd", dir.path().join("link")).unwrap();
        let fifo = dir.path().join("fifo");
        let mode = rustix::fs::Mode::from_raw_mode(0o600);
        let kind = rustix::fs::FileType::Fifo;
        rustix::fs::mknodat(rustix::fs::CWD, &fifo, kind, mode, 0).unwrap();
        for bad in ["link", "fifo"] {
            assert!(matches!(folder.open(bad, piece, &count), Err(OpenError::Final(_))), "{bad}");
        }
    }
}
