//! Shares: what is served, and what is counted.

use crate::usage::{DESCRIPTORS_OF_ALL_MAX, Held, Usage};
use goblin_core_ninep::Errno;
use goblin_core_types::ShareStatus;
use goblin_sys::beneath;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// One share that is served.
#[derive(Debug)]
pub struct Share {
    pub(crate) name: String,
    pub(crate) read_only: bool,
    pub(crate) root: Arc<OwnedFd>,
    counts: Arc<Counts>,
    usage: Arc<Usage>,
}

/// What all views of a share count together.
#[derive(Debug, Default)]
struct Counts {
    /// Counts changes by all clients. What was seen at one count is true while the count stays.
    changes: AtomicU64,
    clients: AtomicU32,
    read_bytes: AtomicU64,
    written_bytes: AtomicU64,
}

impl Share {
    /// Holds the directory `path` as the share `name`.
    ///
    /// # Errors
    /// When `path` is not a directory.
    pub fn new(name: &str, path: &Path, read_only: bool) -> io::Result<Self> {
        Ok(Self {
            name: name.to_owned(),
            read_only,
            root: Arc::new(beneath::root(path)?),
            counts: Arc::default(),
            usage: Arc::new(Usage::limited(DESCRIPTORS_OF_ALL_MAX)),
        })
    }

    /// The same share as one connection sees and uses it. Counts of the share go to the same places.
    #[must_use]
    pub fn view(&self, read_only: bool, usage: &Arc<Usage>) -> Self {
        Self {
            name: self.name.clone(),
            read_only: self.read_only || read_only,
            root: self.root.clone(),
            counts: self.counts.clone(),
            usage: usage.clone(),
        }
    }

    /// Room for one descriptor of this connection.
    ///
    /// # Errors
    /// `EMFILE`, `ENFILE`.
    pub(crate) fn hold(&self) -> Result<Held, Errno> {
        self.usage.hold()
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Clients and bytes up to now.
    pub fn status(&self) -> ShareStatus {
        ShareStatus {
            name: self.name.clone(),
            served: true,
            clients: self.counts.clients.load(Ordering::Relaxed),
            read_bytes: self.counts.read_bytes.load(Ordering::Relaxed),
            written_bytes: self.counts.written_bytes.load(Ordering::Relaxed),
            problem: None,
        }
    }

    /// The count to remember before looking at a file.
    pub(crate) fn change_count(&self) -> u64 {
        self.counts.changes.load(Ordering::Acquire)
    }

    /// Call after every change and before its reply: what was seen before is not true any more.
    pub(crate) fn changed(&self) {
        self.counts.changes.fetch_add(1, Ordering::AcqRel);
    }

    pub(crate) fn client_came(&self) {
        self.counts.clients.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn client_left(&self) {
        self.counts.clients.fetch_sub(1, Ordering::Relaxed);
    }

    pub(crate) fn count_read(&self, bytes: usize) {
        let bytes = u64::try_from(bytes).unwrap_or(0);
        self.counts.read_bytes.fetch_add(bytes, Ordering::Relaxed);
        self.usage.count_read(bytes);
    }

    pub(crate) fn count_written(&self, bytes: usize) {
        let bytes = u64::try_from(bytes).unwrap_or(0);
        self.counts.written_bytes.fetch_add(bytes, Ordering::Relaxed);
        self.usage.count_written(bytes);
    }
}
