//! What becomes of a change that is sent again: the ledger of `Tonce`. A pure structure behind one lock.
//!
//! ```text
//!   unknown number, next in its series  -> New        do it, then keep its reply
//!   kept number                         -> Done       answer as the first time
//!   being done on another connection    -> Running    ask again
//!   forgotten number or unknown series  -> Forgotten  nobody knows whether it was done
//! ```

use crate::Errno;
use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Replies that a ledger keeps; a client sends far fewer before it hears an answer.
pub const OPS_KEPT_MAX: usize = 1024;
/// Series that a ledger knows; the one not used for longest gives way to a new one.
pub const SERIES_MAX: usize = 32;

/// Remembers changes of one client over all its connections, for as long as the server runs.
#[derive(Default)]
pub struct Ledger(Mutex<State>);

#[derive(Default)]
struct State {
    /// By series: the number that comes next, and when it was last used.
    series: BTreeMap<u64, Series>,
    ops: BTreeMap<(u64, u64), Op>,
    /// Finished ones, oldest first.
    order: VecDeque<(u64, u64)>,
    uses: u64,
}

struct Series {
    next: u64,
    used: u64,
}

enum Op {
    Running,
    /// `type[1] body` of the reply.
    Done(Arc<[u8]>),
}

/// What is known of a change.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Known {
    /// Nothing: it is to be done, and [`Ledger::end`] called.
    New,
    /// It was answered by this `type[1] body`.
    Done(Arc<[u8]>),
}

impl fmt::Debug for Ledger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ledger").field("kept", &self.state().ops.len()).finish()
    }
}

impl Ledger {
    /// An empty ledger.
    pub fn new() -> Self {
        Self::default()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A change was asked for.
    ///
    /// # Errors
    /// `EAGAIN` while it is being done; `ESTALE` when nobody knows whether it was done.
    pub(crate) fn begin(&self, series: u64, number: u64) -> Result<Known, Errno> {
        let mut state = self.state();
        match state.ops.get(&(series, number)) {
            Some(Op::Running) => return Err(Errno::EAGAIN),
            Some(Op::Done(reply)) => return Ok(Known::Done(reply.clone())),
            None => {}
        }
        let known = state.series.get(&series).map_or(0, |series| series.next);
        // A series that does not begin at 0 was begun with a server that ran before this one.
        let is_next = number >= known && (known > 0 || number == 0);
        if !is_next {
            return Err(Errno::ESTALE);
        }
        state.make_room(series);
        state.uses = state.uses.wrapping_add(1);
        let used = state.uses;
        state.series.insert(series, Series { next: number.saturating_add(1), used });
        state.ops.insert((series, number), Op::Running);
        Ok(Known::New)
    }

    /// A change that [`begin`](Self::begin) called new has ended: with a reply to keep, or without any effect, so
    /// that it may be tried again.
    pub(crate) fn end(&self, series: u64, number: u64, reply: Option<Arc<[u8]>>) {
        let mut state = self.state();
        let Some(reply) = reply else {
            state.ops.remove(&(series, number));
            if let Some(series) = state.series.get_mut(&series)
                && series.next == number.saturating_add(1)
            {
                series.next = number;
            }
            return;
        };
        state.ops.insert((series, number), Op::Done(reply));
        state.order.push_back((series, number));
        if state.order.len() > OPS_KEPT_MAX
            && let Some(oldest) = state.order.pop_front()
        {
            state.ops.remove(&oldest);
        }
    }
}

impl State {
    fn make_room(&mut self, wanted: u64) {
        if self.series.len() < SERIES_MAX || self.series.contains_key(&wanted) {
            return;
        }
        let oldest = self.series.iter().min_by_key(|(_, series)| series.used).map(|(id, _)| *id);
        if let Some(id) = oldest {
            self.series.remove(&id);
            self.ops.retain(|(series, _), _| *series != id);
            self.order.retain(|(series, _)| *series != id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn done(ledger: &Ledger, series: u64, number: u64) {
        assert_eq!(ledger.begin(series, number), Ok(Known::New));
        ledger.end(series, number, Some(Arc::from(&b"reply"[..])));
    }

    #[test]
    fn a_change_sent_again_is_answered_and_not_done() {
        let ledger = Ledger::new();
        done(&ledger, 7, 0);
        assert_eq!(ledger.begin(7, 0), Ok(Known::Done(Arc::from(&b"reply"[..]))));
    }

    #[test]
    fn a_change_that_is_being_done_is_not_begun_twice() {
        let ledger = Ledger::new();
        assert_eq!(ledger.begin(7, 0), Ok(Known::New));
        assert_eq!(ledger.begin(7, 0), Err(Errno::EAGAIN));
    }

    #[test]
    fn a_change_without_effect_may_be_tried_again() {
        let ledger = Ledger::new();
        assert_eq!(ledger.begin(7, 0), Ok(Known::New));
        ledger.end(7, 0, None);
        assert_eq!(ledger.begin(7, 0), Ok(Known::New));
    }

    #[test]
    fn after_a_restart_nobody_guesses() {
        assert_eq!(Ledger::new().begin(7, 5), Err(Errno::ESTALE));
    }

    #[test]
    fn what_is_forgotten_is_not_done_again() {
        let ledger = Ledger::new();
        for number in 0..OPS_KEPT_MAX as u64 + 10 {
            done(&ledger, 7, number);
        }
        assert_eq!(ledger.begin(7, 3), Err(Errno::ESTALE));
        assert!(ledger.state().ops.len() <= OPS_KEPT_MAX);
    }

    #[test]
    fn series_have_a_limit() {
        let ledger = Ledger::new();
        for series in 0..SERIES_MAX as u64 * 3 {
            done(&ledger, series, 0);
            done(&ledger, series, 1);
        }
        let state = ledger.state();
        assert_eq!(state.series.len(), SERIES_MAX);
        assert_eq!(state.ops.len(), SERIES_MAX * 2);
        drop(state);
        assert_eq!(ledger.begin(0, 2), Err(Errno::ESTALE));
    }
}
