//! Shares: what is served, and what is counted.

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
        })
    }

    /// The same share for a user who may only read it. Counts go to the same places.
    #[must_use]
    pub fn read_only_view(&self) -> Self {
        Self {
            name: self.name.clone(),
            read_only: true,
            root: self.root.clone(),
            counts: self.counts.clone(),
        }
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
        self.counts.read_bytes.fetch_add(u64::try_from(bytes).unwrap_or(0), Ordering::Relaxed);
    }

    pub(crate) fn count_written(&self, bytes: usize) {
        self.counts.written_bytes.fetch_add(u64::try_from(bytes).unwrap_or(0), Ordering::Relaxed);
    }
}
