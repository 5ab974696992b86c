//! A growing list of lines that one thread fills and others wait on.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

#[derive(Debug, Default)]
struct Inner {
    lines: Vec<String>,
    closed: bool,
}

/// Shared lines; clones see the same list.
#[derive(Debug, Clone, Default)]
pub(crate) struct Lines(Arc<(Mutex<Inner>, Condvar)>);

impl Lines {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn push(&self, line: String) {
        self.lock().lines.push(line);
        self.0.1.notify_all();
    }

    pub(crate) fn close(&self) {
        self.lock().closed = true;
        self.0.1.notify_all();
    }

    pub(crate) fn snapshot(&self) -> Vec<String> {
        self.lock().lines.clone()
    }

    pub(crate) fn count(&self) -> usize {
        self.lock().lines.len()
    }

    /// Waits for the first line at or after index `from` that `wanted` accepts; gives the index after
    /// it and the line, or `None` at the deadline or when the source ended.
    pub(crate) fn wait(
        &self,
        from: usize,
        deadline: Instant,
        wanted: &dyn Fn(&str) -> bool,
    ) -> Option<(usize, String)> {
        let mut next = from;
        let mut inner = self.lock();
        loop {
            while let Some(line) = inner.lines.get(next) {
                next += 1;
                if wanted(line) {
                    return Some((next, line.clone()));
                }
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if inner.closed || left == Duration::ZERO {
                return None;
            }
            inner = self.0.1.wait_timeout(inner, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}
