//! Whose turn it is to read the frames of a connection, and who notices that a turn takes long.
//!
//! The thread that reads a frame answers it itself: handing it over would cost more than most answers. But any answer
//! may need a disk, and a disk may stand still. So a reader puts what it reads with down before it answers, and picks
//! it up afterwards; the watch, one thread for all connections of the process, looks every [`TICK`], and has another
//! thread pick up what has lain there since the look before. The first thread then answers its one request, late, and
//! reads no more.
//!
//! ```text
//!   reading thread:  read -> put down -> answer -> pick up -> read ...
//!                               \
//!   watch:             look ... look: still the same -> another thread picks up -> read ...
//! ```

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::thread;
use std::time::Duration;

/// Pause between two looks: an answer that takes as long as one to two of them holds up no other.
const TICK: Duration = Duration::from_millis(5);
/// Looks at nothing before the watch sleeps until it is called.
const IDLE_LOOKS_MAX: u32 = 200;

/// What a look showed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Look {
    /// Nothing has happened since the look before.
    Idle,
    /// Something is being done.
    Active,
}

/// A connection that is looked at.
pub trait Watched: Send + Sync {
    /// Looks, and gives the turn to another thread when it has to.
    fn look(self: Arc<Self>) -> Look;
}

/// What a reader puts down: `L`.
#[derive(Debug)]
enum Place<L> {
    /// In somebody's hands.
    Held,
    Down(L),
}

/// The turn of one connection.
#[derive(Debug)]
pub struct Turn<L>(Mutex<State<L>>);

#[derive(Debug)]
struct State<L> {
    place: Place<L>,
    /// Counts every time something was put down.
    count: u64,
    /// The count at the look before.
    seen: u64,
    /// Of those whose luggage another thread took: the count, and the mark it left for them.
    late: Vec<(u64, Mark)>,
}

/// Left for the thread of a request that is late.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Mark {
    /// By which it is known among those that are late.
    pub late: u64,
    /// By which the session knows it; `None` when it knew it anyway.
    pub serial: Option<u64>,
}

impl<L> Turn<L> {
    pub const fn new() -> Self {
        Self(Mutex::new(State { place: Place::Held, count: 0, seen: 0, late: Vec::new() }))
    }

    fn state(&self) -> MutexGuard<'_, State<L>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts the luggage down and answers the number to pick it up with. Calls the watch when it sleeps.
    pub fn put_down(&self, luggage: L) -> u64 {
        let mut state = self.state();
        state.count = state.count.wrapping_add(1);
        state.place = Place::Down(luggage);
        let count = state.count;
        // Asked under the lock: the watch says that it sleeps before it looks for the last time.
        let asleep = WATCH.is_asleep();
        drop(state);
        if asleep {
            WATCH.call();
        }
        count
    }

    /// Takes the luggage back.
    ///
    /// # Errors
    /// The mark that another thread left when it took it.
    pub fn pick_up(&self, count: u64) -> Result<L, Mark> {
        let mut state = self.state();
        if state.count == count
            && let Place::Down(luggage) = std::mem::replace(&mut state.place, Place::Held)
        {
            return Ok(luggage);
        }
        let at = state.late.iter().position(|(theirs, _)| *theirs == count);
        Err(at.map(|at| state.late.swap_remove(at).1).unwrap_or_default())
    }

    /// Looks. When the same thing has lain there since the look before, and no more than `late_max` requests are late,
    /// `take` is given it: it answers a mark for the thread that put it down, or gives it back.
    pub fn look(&self, late_max: usize, take: impl FnOnce(L) -> Result<Mark, L>) -> Look {
        let mut state = self.state();
        let (count, since) = (state.count, state.seen);
        state.seen = count;
        if !matches!(state.place, Place::Down(_)) {
            return if count == since { Look::Idle } else { Look::Active };
        }
        if count == since
            && state.late.len() < late_max
            && let Place::Down(luggage) = std::mem::replace(&mut state.place, Place::Held)
        {
            match take(luggage) {
                Ok(mark) => state.late.push((count, mark)),
                Err(luggage) => state.place = Place::Down(luggage),
            }
        }
        Look::Active
    }
}

static WATCH: Watch = Watch {
    state: Mutex::new(WatchState { all: Vec::new(), runs: false }),
    asleep: std::sync::atomic::AtomicBool::new(false),
    called: Condvar::new(),
};

/// The watch of this process.
struct Watch {
    state: Mutex<WatchState>,
    asleep: std::sync::atomic::AtomicBool,
    called: Condvar,
}

struct WatchState {
    all: Vec<Weak<dyn Watched>>,
    runs: bool,
}

/// Has a connection looked at for as long as it lives.
pub fn watch(connection: &Arc<impl Watched + 'static>) {
    let weak = Arc::downgrade(connection);
    let mut state = WATCH.state();
    state.all.push(weak);
    if !state.runs {
        // Without a thread the connections are served all the same; the next one tries again.
        let spawned = thread::Builder::new().name("9p-watch".into()).spawn(|| WATCH.run());
        state.runs = spawned.is_ok();
    }
}

impl Watch {
    fn state(&self) -> MutexGuard<'_, WatchState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_asleep(&self) -> bool {
        self.asleep.load(std::sync::atomic::Ordering::Acquire)
    }

    fn sleeps(&self, asleep: bool) {
        self.asleep.store(asleep, std::sync::atomic::Ordering::Release);
    }

    fn call(&self) {
        let _state = self.state();
        self.sleeps(false);
        self.called.notify_all();
    }

    /// Looks at every connection; those that are gone are forgotten.
    fn look(&self) -> Look {
        let mut state = self.state();
        state.all.retain(|weak| weak.strong_count() > 0);
        let all: Vec<_> = state.all.iter().filter_map(Weak::upgrade).collect();
        drop(state);
        let looks = all.into_iter().map(Watched::look);
        looks.fold(Look::Idle, |sum, look| if look == Look::Active { look } else { sum })
    }

    fn run(&self) {
        let mut idle = 0u32;
        loop {
            idle = if self.look() == Look::Active { 0 } else { idle.saturating_add(1) };
            let state = self.state();
            if idle <= IDLE_LOOKS_MAX {
                drop(self.called.wait_timeout(state, TICK).unwrap_or_else(PoisonError::into_inner));
                continue;
            }
            drop(state);
            self.sleeps(true);
            // What was put down before anybody could know that the watch sleeps is seen now.
            if self.look() == Look::Idle {
                let asleep = |_: &mut WatchState| self.is_asleep();
                drop(self.called.wait_while(self.state(), asleep));
            }
            self.sleeps(false);
            idle = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_answered_in_time_is_picked_up_again() {
        let turn = Turn::new();
        let count = turn.put_down("luggage");
        assert_eq!(turn.look(1, |_| panic!("it was put down just now")), Look::Active);
        assert_eq!(turn.pick_up(count), Ok("luggage"));
        let count = turn.put_down("luggage");
        assert_eq!(turn.look(1, |_| panic!("it is another one")), Look::Active);
        assert_eq!(turn.pick_up(count), Ok("luggage"));
        assert_eq!([turn.look(1, Err), turn.look(1, Err)], [Look::Idle; 2]);
    }

    #[test]
    fn what_lies_for_long_is_given_to_another_up_to_a_limit() {
        let turn = Turn::new();
        let first = turn.put_down(1);
        let mark = Mark { late: 7, serial: Some(8) };
        turn.look(1, Err);
        assert_eq!(turn.look(1, |_| Ok(mark)), Look::Active);
        let second = turn.put_down(2);
        turn.look(1, Err);
        turn.look(1, |_| panic!("one is late already"));
        assert_eq!(turn.pick_up(first), Err(mark));
        turn.look(1, |_| Ok(Mark::default()));
        assert_eq!(turn.pick_up(second), Err(Mark::default()));
    }

    #[test]
    fn what_nobody_can_take_stays() {
        let turn = Turn::new();
        let count = turn.put_down(1);
        turn.look(1, Err);
        turn.look(1, Err);
        assert_eq!(turn.pick_up(count), Ok(1));
    }
}
