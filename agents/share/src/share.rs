//! Shares: what is served, and what is counted.

use crate::usage::{DESCRIPTORS_OF_ALL_MAX, Held, Usage};
use goblin_core_ninep::{Errno, Feed};
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
    /// Open since the share is served: a disk's error is told once to each open file.
    all: Arc<OwnedFd>,
    counts: Arc<Counts>,
    usage: Arc<Usage>,
}

/// What all views of a share count together.
#[derive(Debug)]
struct Counts {
    feed: Feed,
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
        let root = beneath::root(path)?;
        let mut epoch = [0; 8];
        rustix::rand::getrandom(&mut epoch, rustix::rand::GetRandomFlags::empty())?;
        let counts = Counts {
            feed: Feed::new(u64::from_le_bytes(epoch)),
            changes: AtomicU64::new(0),
            clients: AtomicU32::new(0),
            read_bytes: AtomicU64::new(0),
            written_bytes: AtomicU64::new(0),
        };
        Ok(Self {
            name: name.to_owned(),
            read_only,
            all: Arc::new(beneath::open_dir(&root)?),
            root: Arc::new(root),
            counts: Arc::new(counts),
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
            all: self.all.clone(),
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

    /// Puts on the disks all that was written to its file system.
    ///
    /// # Errors
    /// The disk's, also one that it had since the share is served.
    pub fn sync(&self) -> io::Result<()> {
        Ok(rustix::fs::syncfs(&*self.all)?)
    }

    /// The count to remember before looking at a file.
    pub(crate) fn change_count(&self) -> u64 {
        self.counts.changes.load(Ordering::Acquire)
    }

    /// Call after every change and before its reply: what was seen before is not true any more.
    pub(crate) fn changed(&self) {
        self.counts.changes.fetch_add(1, Ordering::AcqRel);
    }

    /// Its changes in order.
    pub(crate) fn feed(&self) -> &Feed {
        &self.counts.feed
    }

    /// Waits until everything is on the disk.
    pub(crate) fn sync_all(&self) -> Result<(), Errno> {
        Ok(beneath::sync_all(&self.all)?)
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
