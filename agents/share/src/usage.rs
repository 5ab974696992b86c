//! What one connection uses: counted for people to see, and limited where one client could take it all.

use goblin_core_ninep::Errno;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// Descriptors that one connection may hold: a fid holds its file, the directories above it and its open file.
pub const DESCRIPTORS_OF_ONE_MAX: usize = 65_536;
/// Descriptors that all connections may hold together.
pub const DESCRIPTORS_OF_ALL_MAX: usize = 262_144;

const _: () = assert!(DESCRIPTORS_OF_ONE_MAX * 2 <= DESCRIPTORS_OF_ALL_MAX);

static HELD_BY_ALL: AtomicUsize = AtomicUsize::new(0);

/// Counters of one connection.
#[derive(Debug)]
pub struct Usage {
    operations: AtomicU64,
    read_bytes: AtomicU64,
    written_bytes: AtomicU64,
    descriptors: AtomicUsize,
    descriptors_max: usize,
}

impl Default for Usage {
    fn default() -> Self {
        Self::limited(DESCRIPTORS_OF_ONE_MAX)
    }
}

impl Usage {
    /// At most so many descriptors at one time.
    pub const fn limited(descriptors_max: usize) -> Self {
        Self {
            operations: AtomicU64::new(0),
            read_bytes: AtomicU64::new(0),
            written_bytes: AtomicU64::new(0),
            descriptors: AtomicUsize::new(0),
            descriptors_max,
        }
    }

    /// Requests that were understood.
    pub fn operations(&self) -> u64 {
        self.operations.load(Ordering::Relaxed)
    }

    /// Bytes of files sent to the client.
    pub fn read_bytes(&self) -> u64 {
        self.read_bytes.load(Ordering::Relaxed)
    }

    /// Bytes of files received from the client.
    pub fn written_bytes(&self) -> u64 {
        self.written_bytes.load(Ordering::Relaxed)
    }

    /// Descriptors held now.
    pub fn descriptors(&self) -> usize {
        self.descriptors.load(Ordering::Relaxed)
    }

    pub(crate) fn count_operation(&self) {
        self.operations.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn count_read(&self, bytes: u64) {
        self.read_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(crate) fn count_written(&self, bytes: u64) {
        self.written_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Room for one descriptor, to be asked for before it is made.
    ///
    /// # Errors
    /// `EMFILE` when this connection holds too many, `ENFILE` when all of them together do.
    pub(crate) fn hold(self: &Arc<Self>) -> Result<Held, Errno> {
        if !up(&self.descriptors, self.descriptors_max) {
            return Err(Errno::EMFILE);
        }
        if !up(&HELD_BY_ALL, DESCRIPTORS_OF_ALL_MAX) {
            self.descriptors.fetch_sub(1, Ordering::AcqRel);
            return Err(Errno::ENFILE);
        }
        Ok(Held(self.clone()))
    }
}

fn up(count: &AtomicUsize, max: usize) -> bool {
    let more = |now: usize| now.checked_add(1).filter(|now| *now <= max);
    count.fetch_update(Ordering::AcqRel, Ordering::Acquire, more).is_ok()
}

/// One descriptor's room.
#[derive(Debug)]
pub(crate) struct Held(Arc<Usage>);

impl Drop for Held {
    fn drop(&mut self) {
        self.0.descriptors.fetch_sub(1, Ordering::AcqRel);
        HELD_BY_ALL.fetch_sub(1, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_connection_cannot_hold_more_than_its_share() {
        let usage = Arc::new(Usage::limited(2));
        let held = [usage.hold().unwrap(), usage.hold().unwrap()];
        assert_eq!(usage.hold().unwrap_err(), Errno::EMFILE);
        drop(held);
        assert_eq!(usage.descriptors(), 0);
        usage.hold().unwrap();
    }
}
