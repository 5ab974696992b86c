//! Files of the repository over HTTP, bounded in size and time, tried again when the network fails.

use crate::error::UpdateError;
use std::io::Read;
use std::time::{Duration, Instant};

/// Times a file is asked for.
const TRIES_MAX: u32 = 3;
/// Redirects followed.
const REDIRECTS_MAX: u32 = 3;
/// Longest silence of the server.
const SILENCE_MAX: Duration = Duration::from_secs(30);
/// Longest wait for a connection.
const CONNECT_MAX: Duration = Duration::from_secs(15);
/// Slowest download worth waiting for, in bytes a second, beyond [`SILENCE_MAX`].
const SLOWEST_BYTES_PER_S: u64 = 16 << 10;

/// Longest silences, all together, that a whole release is worth.
const RELEASE_SILENCE_MAX: Duration = Duration::from_secs(15 * 60);

/// When the contents of a release must have come. Each file has its own limit, but a server that is as
/// slow as is allowed with each of thousands would keep the updater from going back for days.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Deadline {
    since: Instant,
    limit: Duration,
}

impl Deadline {
    /// For so many bytes, beginning now.
    pub(crate) fn of(bytes: u64) -> Self {
        let moving = Duration::from_secs(bytes / SLOWEST_BYTES_PER_S);
        Self { since: Instant::now(), limit: RELEASE_SILENCE_MAX.saturating_add(moving) }
    }

    /// # Errors
    /// What `error` makes of the sentence, once the time is over.
    pub(crate) fn check<E>(&self, error: impl FnOnce(String) -> E) -> Result<(), E> {
        if self.since.elapsed() <= self.limit {
            return Ok(());
        }
        let minutes = self.limit.as_secs() / 60;
        Err(error(format!(
            "the server is too slow: the release did not come within {minutes} minutes"
        )))
    }
}

/// A folder on a web server.
#[derive(Debug, Clone)]
pub struct Fetcher {
    agent: ureq::Agent,
    base: String,
    pause: Duration,
}

/// Why one try failed.
enum TryError {
    /// Worth another try.
    Again(String),
    /// Not worth one.
    Final(UpdateError),
    /// The file is not there.
    Absent,
}

impl Fetcher {
    /// A fetcher for the folder at `base`, an `http://` or `https://` address. `pause` is waited before
    /// the second try, and twice as long before each further one.
    pub fn new(base: &str, pause: Duration) -> Self {
        let config = ureq::Agent::config_builder()
            .timeout_connect(Some(CONNECT_MAX))
            .timeout_recv_response(Some(SILENCE_MAX))
            .timeout_per_read(Some(SILENCE_MAX))
            .max_redirects(0)
            .max_redirects_will_error(false)
            .http_status_as_error(false)
            .accept_encoding("identity")
            .user_agent("goblinux")
            .build();
        Self { agent: config.into(), base: base.trim_end_matches('/').to_owned(), pause }
    }

    /// Reads a small file whole.
    ///
    /// # Errors
    /// [`UpdateError::Network`], also for a file that is not there or longer than `bytes_max`.
    pub fn read(&self, path: &str, bytes_max: u64) -> Result<Vec<u8>, UpdateError> {
        self.read_if_there(path, bytes_max)?
            .ok_or_else(|| self.network(path, "the server does not have it".into()))
    }

    /// Reads a small file whole; `None` when the server does not have it.
    ///
    /// # Errors
    /// [`UpdateError::Network`].
    pub fn read_if_there(
        &self,
        path: &str,
        bytes_max: u64,
    ) -> Result<Option<Vec<u8>>, UpdateError> {
        self.tries(path, |fetcher| {
            let mut body = fetcher.open(path, bytes_max)?;
            let mut bytes = Vec::new();
            // One byte more tells a longer file from one of just this length.
            let read = body.by_ref().take(bytes_max.saturating_add(1)).read_to_end(&mut bytes);
            read.map_err(|err| TryError::Again(err.to_string()))?;
            if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > bytes_max {
                let detail = format!("it is longer than the {bytes_max} bytes allowed");
                return Err(TryError::Final(fetcher.network(path, detail)));
            }
            Ok(bytes)
        })
    }

    /// Hands the body of a file of `size` bytes to `receive`, again from its start after a network
    /// failure. `receive` answers `Ok(None)` when the body ended early.
    ///
    /// # Errors
    /// [`UpdateError::Network`], or what `receive` answered.
    pub fn download<T>(
        &self,
        path: &str,
        size: u64,
        mut receive: impl FnMut(&mut dyn Read) -> Result<Received<T>, UpdateError>,
    ) -> Result<T, UpdateError> {
        let got = self.tries(path, |fetcher| {
            let mut body = fetcher.open(path, size)?;
            match receive(&mut body).map_err(TryError::Final)? {
                Received::Whole(value) => Ok(value),
                Received::Cut { got, detail } => Err(TryError::Again(format!(
                    "it stopped after {got} of {size} bytes ({detail})"
                ))),
            }
        })?;
        got.ok_or_else(|| self.network(path, "the server does not have it".into()))
    }

    fn tries<T>(
        &self,
        path: &str,
        mut attempt: impl FnMut(&Self) -> Result<T, TryError>,
    ) -> Result<Option<T>, UpdateError> {
        let mut pause = self.pause;
        let mut tried = 0u32;
        loop {
            tried = tried.saturating_add(1);
            match attempt(self) {
                Ok(value) => return Ok(Some(value)),
                Err(TryError::Absent) => return Ok(None),
                Err(TryError::Final(err)) => return Err(err),
                Err(TryError::Again(detail)) if tried >= TRIES_MAX => {
                    return Err(self.network(path, format!("{detail}, {tried} times")));
                }
                Err(TryError::Again(detail)) => {
                    tracing::warn!(path, detail, tried, "fetch failed, trying again");
                    std::thread::sleep(pause);
                    pause = pause.saturating_mul(2);
                }
            }
        }
    }

    pub(crate) fn network(&self, path: &str, detail: String) -> UpdateError {
        UpdateError::Network { url: format!("{}/{path}", self.base), detail }
    }

    fn open(&self, path: &str, size: u64) -> Result<impl Read + use<>, TryError> {
        let mut url = format!("{}/{path}", self.base);
        let whole = SILENCE_MAX.saturating_add(Duration::from_secs(size / SLOWEST_BYTES_PER_S));
        for _ in 0..=REDIRECTS_MAX {
            let request = self.agent.get(&url).config().timeout_recv_body(Some(whole)).build();
            let response = request.call().map_err(|err| TryError::Again(err.to_string()))?;
            let status = response.status().as_u16();
            match status {
                200 => return Ok(response.into_body().into_reader()),
                // Object stores say "forbidden" where listing is not allowed.
                403 | 404 | 410 => return Err(TryError::Absent),
                301 | 302 | 303 | 307 | 308 => {
                    let location = response.headers().get("location").and_then(|v| v.to_str().ok());
                    url = redirect(&url, location.unwrap_or_default()).ok_or_else(|| {
                        let detail = "the server redirects to another kind of address".into();
                        TryError::Final(self.network(path, detail))
                    })?;
                }
                500..=599 | 408 | 429 => {
                    return Err(TryError::Again(format!("the server answered {status}")));
                }
                _ => {
                    let detail = format!("the server answered {status}");
                    return Err(TryError::Final(self.network(path, detail)));
                }
            }
        }
        Err(TryError::Final(self.network(path, "the server redirects in circles".into())))
    }
}

/// How a body ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Received<T> {
    /// All of it came.
    Whole(T),
    /// The network failed inside it.
    Cut {
        /// Bytes that came.
        got: u64,
        /// What the network said.
        detail: String,
    },
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
    fn release_that_drips_has_an_end() {
        let late = Deadline { since: Instant::now(), limit: Duration::ZERO };
        std::thread::sleep(Duration::from_millis(2));
        assert!(late.check(|text| text).unwrap_err().contains("too slow"));
        assert!(Deadline::of(60 << 20).check(|text| text).is_ok());
    }

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
}
