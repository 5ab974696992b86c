//! Who waits for a lock, and who wakes them: a lock that is let go is granted at once.
//!
//! The kernel keeps the locks (open file descriptions, `fcntl(2)`); a wait inside the kernel could not be cancelled
//! without a signal. So waiters sleep here, and everything that lets go of a lock of this process rings for the
//! file. Locks of other processes of the board ring nowhere: for those alone a waiter looks again now and then.

use goblin_core_ninep::Cancel;
use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Pause between two looks at a lock that no client of ours lets go.
const LOOK_AGAIN: Duration = Duration::from_millis(500);

/// Device and inode.
pub(crate) type FileId = (u64, u64);

#[derive(Debug, Default)]
struct Bell {
    /// Counts rings; a waiter that looked before the last one looks again.
    rings: Mutex<u64>,
    rung: Condvar,
}

impl Bell {
    fn count(&self) -> u64 {
        *self.rings.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ring(&self) {
        let mut rings = self.rings.lock().unwrap_or_else(PoisonError::into_inner);
        *rings = rings.wrapping_add(1);
        self.rung.notify_all();
    }

    fn wait(&self, seen: u64) {
        let rings = self.rings.lock().unwrap_or_else(PoisonError::into_inner);
        // Rung or not, the caller looks for itself.
        drop(self.rung.wait_timeout_while(rings, LOOK_AGAIN, |rings| *rings == seen));
    }
}

/// Files on which somebody waits, of all shares: the kernel's locks know no shares either. As many as there are
/// waiting requests at most, which every session limits.
static BELLS: Mutex<BTreeMap<FileId, (usize, Arc<Bell>)>> = Mutex::new(BTreeMap::new());

fn bells() -> MutexGuard<'static, BTreeMap<FileId, (usize, Arc<Bell>)>> {
    BELLS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Somebody let go of a lock of this file, or of its descriptor.
pub(crate) fn let_go(file: FileId) {
    let bell = bells().get(&file).map(|(_, bell)| bell.clone());
    if let Some(bell) = bell {
        bell.ring();
    }
}

/// Calls `look` until it answers something: now, whenever a lock of the file is let go, and when the request is
/// cancelled.
pub(crate) fn wait<T>(file: FileId, cancel: &Cancel, mut look: impl FnMut() -> Option<T>) -> T {
    let waiting = Waiting::start(file);
    let bell = waiting.bell.clone();
    cancel.on_cancel(move || bell.ring());
    loop {
        let seen = waiting.bell.count();
        if let Some(found) = look() {
            return found;
        }
        waiting.bell.wait(seen);
    }
}

/// Keeps the bell of a file for as long as somebody waits.
struct Waiting {
    file: FileId,
    bell: Arc<Bell>,
}

impl Waiting {
    fn start(file: FileId) -> Self {
        let mut bells = bells();
        let (count, bell) = bells.entry(file).or_default();
        *count = count.saturating_add(1);
        Self { file, bell: bell.clone() }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let mut bells = bells();
        if let Some((count, _)) = bells.get_mut(&self.file) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                bells.remove(&self.file);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    #[test]
    fn a_ring_wakes_at_once_and_leaves_nothing_behind() {
        let file = (u64::MAX, 1);
        let (told, heard) = std::sync::mpsc::channel();
        let waiter = std::thread::spawn(move || {
            let mut looks = 0;
            wait(file, &Cancel::new(), || {
                looks += 1;
                let _ = told.send(());
                (looks == 2).then_some(())
            });
        });
        heard.recv().unwrap();
        let start = Instant::now();
        let_go(file);
        waiter.join().unwrap();
        assert!(start.elapsed() < LOOK_AGAIN / 2);
        assert!(!bells().contains_key(&file));
    }

    #[test]
    fn a_cancel_wakes_the_waiter() {
        let cancel = Cancel::new();
        let theirs = cancel.clone();
        let waiter = std::thread::spawn(move || {
            wait((u64::MAX, 2), &theirs, || theirs.is_cancelled().then_some(()))
        });
        cancel.cancel();
        waiter.join().unwrap();
    }
}
