//! How a blocked request learns that nobody waits for it any more.

use std::fmt;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

const RUNNING: u8 = 0;
const COMMITTED: u8 = 1;
const CANCELLED: u8 = 2;

type Waker = Arc<dyn Fn() + Send + Sync>;

/// Shared by a request that waits and by whoever may cancel it (`Tflush`, clunk, the connection's end).
///
/// ```text
/// Running -commit-> Committed     the reply will be sent; a flush waits for it
/// Running -cancel-> Cancelled     the request must have no effect any more
/// ```
///
/// A job that consumes something on success (a message from a queue, a lock) calls [`Cancel::commit`]
/// right before: when that says no, it leaves the thing where it is and answers `EINTR`.
#[derive(Clone, Default)]
pub struct Cancel(Arc<Inner>);

#[derive(Default)]
struct Inner {
    state: AtomicU8,
    waker: Mutex<Option<Waker>>,
}

impl fmt::Debug for Cancel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cancel").field("cancelled", &self.is_cancelled()).finish()
    }
}

impl Cancel {
    /// A token nobody has cancelled.
    pub fn new() -> Self {
        Self::default()
    }

    /// True once the request is cancelled.
    pub fn is_cancelled(&self) -> bool {
        self.0.state.load(Ordering::Acquire) == CANCELLED
    }

    /// Passes the point of no return; false when the request was cancelled before.
    pub fn commit(&self) -> bool {
        let swap =
            self.0.state.compare_exchange(RUNNING, COMMITTED, Ordering::AcqRel, Ordering::Acquire);
        matches!(swap, Ok(_) | Err(COMMITTED))
    }

    /// Makes a token for the next request: this one, where nobody else has it.
    pub(crate) fn renew(&mut self) {
        match Arc::get_mut(&mut self.0) {
            Some(inner) => *inner.state.get_mut() = RUNNING,
            None => *self = Self::new(),
        }
    }

    /// Whether both are tokens of one request.
    pub(crate) fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// Cancels the request and wakes it; false when it had committed.
    pub fn cancel(&self) -> bool {
        let swap =
            self.0.state.compare_exchange(RUNNING, CANCELLED, Ordering::AcqRel, Ordering::Acquire);
        if swap == Err(COMMITTED) {
            return false;
        }
        // Cloned out, so that the waker may look at this token.
        let waker = self.0.waker.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(wake) = waker {
            wake();
        }
        true
    }

    /// Has `wake` called when the request is cancelled; at once when it already is. `wake` must not
    /// block: it typically takes the lock of a condition variable and notifies.
    pub fn on_cancel(&self, wake: impl Fn() + Send + Sync + 'static) {
        let wake: Waker = Arc::new(wake);
        *self.0.waker.lock().unwrap_or_else(PoisonError::into_inner) = Some(wake.clone());
        if self.is_cancelled() {
            wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicU32;

    #[test]
    fn the_first_of_commit_and_cancel_wins() {
        let cancel = Cancel::new();
        assert!(cancel.commit());
        assert!(!cancel.cancel());
        assert!(!cancel.is_cancelled());
        let cancel = Cancel::new();
        assert!(cancel.cancel());
        assert!(!cancel.commit());
    }

    #[test]
    fn a_waker_set_too_late_is_called_at_once() {
        let cancel = Cancel::new();
        cancel.cancel();
        let calls = Arc::new(AtomicU32::new(0));
        let seen = calls.clone();
        cancel.on_cancel(move || {
            seen.fetch_add(1, Ordering::Relaxed);
        });
        assert_eq!(calls.load(Ordering::Relaxed), 1);
    }
}
