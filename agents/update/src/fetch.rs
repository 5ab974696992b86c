//! Files of the repository, bounded in size and time, tried again when the network fails, or elsewhere.

use crate::error::UpdateError;
use crate::origin::{Folder, OpenError, Opened, Origin, Piece, SLOWEST_BYTES_PER_S, Web};
use goblin_image::recipe::BlobRef;
use std::io::{self, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Times a file is asked for.
const TRIES_MAX: u32 = 3;
/// Connections of one piece that may end early.
const CUTS_MAX: u32 = 16;

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

/// A repository's folder on one or more servers, or in a file system.
#[derive(Debug, Clone)]
pub struct Fetcher {
    /// The same repository at each; the first that has what is wanted gives it.
    origins: Arc<[Box<dyn Origin>]>,
    /// Which of them is asked first.
    first: usize,
    pause: Duration,
    requests: Arc<AtomicU64>,
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
    /// A fetcher for the folder at `base`: an `http://` or `https://` address, or the absolute path of a
    /// folder, such as a stick's. Further addresses of the same repository may follow, separated by
    /// spaces. `pause` is waited before the second try, and twice as long before each further one.
    pub fn new(base: &str, pause: Duration) -> Self {
        Self::with_proxy(base, None, pause)
    }

    /// As [`Fetcher::new`], over an HTTP proxy. No variable of the environment is looked at.
    pub fn with_proxy(base: &str, proxy: Option<&str>, pause: Duration) -> Self {
        let origins = base.split_whitespace().map(|base| -> Box<dyn Origin> {
            if base.starts_with('/') {
                Box::new(Folder::new(base.into()))
            } else {
                Box::new(Web::new(base, proxy))
            }
        });
        Self::of(origins.collect(), pause)
    }

    /// A fetcher for any origins, such as the other board.
    pub fn of(origins: Vec<Box<dyn Origin>>, pause: Duration) -> Self {
        Self { origins: origins.into(), first: 0, pause, requests: Arc::default() }
    }

    /// How many servers have the same repository.
    pub(crate) fn mirrors(&self) -> usize {
        self.origins.len()
    }

    /// Asks the next server first from now on: what the first one gave was damaged.
    pub(crate) fn turn(&mut self) {
        self.first = self.first.saturating_add(1).checked_rem(self.origins.len()).unwrap_or(0);
    }

    /// Requests made so far, repetitions and redirects included.
    pub fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }

    /// Reads a small file whole.
    ///
    /// # Errors
    /// [`UpdateError::Absent`] for a file that is not there; [`UpdateError::Network`], also for one that is
    /// longer than `bytes_max`.
    pub fn read(&self, path: &str, bytes_max: u64) -> Result<Vec<u8>, UpdateError> {
        self.read_if_there(path, bytes_max)?.ok_or_else(|| self.absent(path))
    }

    /// Reads a small file whole; `None` when no server has it.
    ///
    /// # Errors
    /// [`UpdateError::Network`].
    pub fn read_if_there(
        &self,
        path: &str,
        bytes_max: u64,
    ) -> Result<Option<Vec<u8>>, UpdateError> {
        self.tries(path, |origin| {
            let mut opened = self.open(origin, path, Piece { at: 0, bytes: None, bytes_max })?;
            let mut bytes = Vec::new();
            // One byte more tells a longer file from one of just this length.
            let read =
                opened.body.by_ref().take(bytes_max.saturating_add(1)).read_to_end(&mut bytes);
            read.map_err(|err| TryError::Again(err.to_string()))?;
            if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > bytes_max {
                let detail = format!("it is longer than the {bytes_max} bytes allowed");
                return Err(TryError::Final(self.network(path, detail)));
            }
            Ok(bytes)
        })
    }

    /// Hands the body of a file of `size` bytes to `receive`, again from its start after a network
    /// failure. `receive` answers [`Received::Cut`] when the body ended early.
    ///
    /// # Errors
    /// [`UpdateError::Absent`], [`UpdateError::Network`], or what `receive` answered.
    pub fn download<T>(
        &self,
        path: &str,
        size: u64,
        mut receive: impl FnMut(&mut dyn Read) -> Result<Received<T>, UpdateError>,
    ) -> Result<T, UpdateError> {
        let got = self.tries(path, |origin| {
            let piece = Piece { at: 0, bytes: None, bytes_max: size };
            let mut opened = self.open(origin, path, piece)?;
            match receive(&mut opened.body).map_err(TryError::Final)? {
                Received::Whole(value) => Ok(value),
                Received::Cut { got, detail } => Err(TryError::Again(format!(
                    "it stopped after {got} of {size} bytes ({detail})"
                ))),
            }
        })?;
        got.ok_or_else(|| self.absent(path))
    }

    /// A reader over `bytes` bytes of a file from `at` on, which goes on where it was when a connection
    /// ends, on the next server if there is one. Its errors are [`UpdateError`]s; see [`cause`].
    pub fn pull<'f>(&'f self, path: &'f str, at: u64, bytes: u64) -> Pull<'f> {
        let deadline = Deadline::of(bytes);
        let end = at.saturating_add(bytes);
        Pull {
            fetcher: self,
            path,
            at,
            end,
            body: None,
            idle: 0,
            cuts: 0,
            origin: self.first,
            deadline,
        }
    }

    /// Most contents that [`Fetcher::contents`] gives at once; 0 where there are files only.
    pub(crate) fn contents_max(&self) -> usize {
        self.origins.iter().map(|origin| origin.contents_max()).min().unwrap_or(0)
    }

    /// Opens contents by their digests: all of their bytes, one after another in this order.
    pub(crate) fn contents(&self, wanted: &[BlobRef]) -> Result<Opened, UpdateError> {
        let what = "contents of the release";
        let opened = self.tries(what, |origin| {
            origin.contents(wanted, &self.requests).map_err(|err| self.try_error(origin, what, err))
        })?;
        opened.ok_or_else(|| self.absent(what))
    }

    fn tries<T>(
        &self,
        path: &str,
        mut attempt: impl FnMut(&dyn Origin) -> Result<T, TryError>,
    ) -> Result<Option<T>, UpdateError> {
        let mut pause = self.pause;
        let mut tried = 0u32;
        let (mut absent, mut origin) = (0usize, self.first);
        loop {
            tried = tried.saturating_add(1);
            let Some(from) = self.origins.get(origin) else { return Ok(None) };
            // The next one, of which there may be one only.
            origin = origin.saturating_add(1).checked_rem(self.origins.len()).unwrap_or(0);
            match attempt(&**from) {
                Ok(value) => return Ok(Some(value)),
                Err(TryError::Absent) => {
                    absent = absent.saturating_add(1);
                    tried = tried.saturating_sub(1);
                    if absent >= self.origins.len() {
                        return Ok(None);
                    }
                }
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

    fn open(&self, origin: &dyn Origin, path: &str, piece: Piece) -> Result<Opened, TryError> {
        origin.open(path, piece, &self.requests).map_err(|err| self.try_error(origin, path, err))
    }

    fn try_error(&self, origin: &dyn Origin, path: &str, err: OpenError) -> TryError {
        match err {
            OpenError::Absent => TryError::Absent,
            OpenError::Again(detail) => TryError::Again(detail),
            OpenError::Final(detail) => {
                TryError::Final(UpdateError::Network { url: origin.address(path), detail })
            }
        }
    }

    fn address(&self, path: &str) -> String {
        self.origins.get(self.first).map_or_else(|| path.to_owned(), |first| first.address(path))
    }

    pub(crate) fn network(&self, path: &str, detail: String) -> UpdateError {
        UpdateError::Network { url: self.address(path), detail }
    }

    pub(crate) fn absent(&self, path: &str) -> UpdateError {
        UpdateError::Absent { url: self.address(path) }
    }
}

/// A piece of a file as it comes; see [`Fetcher::pull`].
pub struct Pull<'f> {
    fetcher: &'f Fetcher,
    path: &'f str,
    at: u64,
    end: u64,
    body: Option<Box<dyn Read + Send>>,
    /// Tries since the last byte.
    idle: u32,
    /// Connections that ended early.
    cuts: u32,
    origin: usize,
    deadline: Deadline,
}

impl std::fmt::Debug for Pull<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pull").field("path", &self.path).field("at", &self.at).finish()
    }
}

impl Pull<'_> {
    /// Where the next byte lies in the file.
    pub fn at(&self) -> u64 {
        self.at
    }

    fn reopen(&mut self) -> Result<(), UpdateError> {
        let fetcher = self.fetcher;
        let mut absent = 0usize;
        loop {
            self.deadline.check(|detail| fetcher.network(self.path, detail))?;
            let count = fetcher.origins.len();
            let place = self.origin.checked_rem(count).unwrap_or(0);
            let Some(origin) = fetcher.origins.get(place) else {
                return Err(fetcher.absent(self.path));
            };
            let left = self.end.saturating_sub(self.at);
            let piece = Piece { at: self.at, bytes: Some(left), bytes_max: left };
            match fetcher.open(&**origin, self.path, piece) {
                Ok(opened) => {
                    self.body = Some(opened.body);
                    return Ok(());
                }
                Err(TryError::Absent) => {
                    absent = absent.saturating_add(1);
                    if absent >= count {
                        return Err(fetcher.absent(self.path));
                    }
                }
                Err(TryError::Again(detail)) => self.failed(detail)?,
                // Another server may do better.
                Err(TryError::Final(err))
                    if self.idle.saturating_add(1) >= TRIES_MAX || count < 2 =>
                {
                    return Err(err);
                }
                Err(TryError::Final(err)) => self.failed(err.to_string())?,
            }
            self.origin = self.origin.saturating_add(1);
        }
    }

    /// Counts a failure, and waits before the next try.
    fn failed(&mut self, detail: String) -> Result<(), UpdateError> {
        self.body = None;
        self.idle = self.idle.saturating_add(1);
        self.cuts = self.cuts.saturating_add(1);
        if self.idle >= TRIES_MAX || self.cuts >= CUTS_MAX {
            let detail = format!("{detail} at byte {}, {} times", self.at, self.cuts);
            return Err(self.fetcher.network(self.path, detail));
        }
        tracing::warn!(
            path = self.path,
            detail,
            at = self.at,
            "fetch was cut, going on from there"
        );
        std::thread::sleep(self.fetcher.pause.saturating_mul(self.idle));
        Ok(())
    }

    fn next(&mut self, buffer: &mut [u8]) -> Result<usize, UpdateError> {
        loop {
            let left = self.end.saturating_sub(self.at);
            let length = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
            if length == 0 {
                return Ok(0);
            }
            if self.body.is_none() {
                self.reopen()?;
            }
            self.deadline.check(|detail| self.fetcher.network(self.path, detail))?;
            let piece = buffer.get_mut(..length).unwrap_or_default();
            let Some(body) = &mut self.body else { continue };
            match body.read(piece) {
                Ok(0) => self.origin_failed("the server ended it".into())?,
                Ok(read) => {
                    self.idle = 0;
                    self.at = self.at.saturating_add(u64::try_from(read).unwrap_or(u64::MAX));
                    return Ok(read);
                }
                Err(err) if err.kind() == io::ErrorKind::Interrupted => {}
                Err(err) => self.origin_failed(err.to_string())?,
            }
        }
    }

    fn origin_failed(&mut self, detail: String) -> Result<(), UpdateError> {
        self.origin = self.origin.saturating_add(1);
        self.failed(detail)
    }
}

impl Read for Pull<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.next(buffer).map_err(io::Error::other)
    }
}

/// The [`UpdateError`] that [`Pull`] wrapped; else the error as it is.
///
/// # Errors
/// The error that came from elsewhere.
pub fn cause(err: io::Error) -> Result<UpdateError, io::Error> {
    err.downcast::<UpdateError>()
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
}
