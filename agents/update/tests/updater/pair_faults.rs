//! Two boards, and at every step of their upgrade or of their way back something goes wrong: the power of either
//! board, the cable between them, a clock. Both end on one release with no plan left, and what was ordered can be had
//! afterwards.
//!
//! A board whose power is cut has kept everything that it wrote until then; what a disk may lose of it is what the
//! recordings of one board show.

use crate::board::*;
use crate::pair::{Pair, ROLLBACK, UPGRADE};
use goblin_core_types::{UpdateCommand, UpdateReply};
use goblin_sys::writer::{Change, Witness, Writer};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

/// No change of a disk is so late.
const NEVER: u32 = u32::MAX;
/// One change of so many is where something goes wrong, from another first one for each fault.
const EACH: usize = 32;
/// Environment: another number in its place; 1 takes every change, which is a matter of minutes.
const EACH_NAMED: &str = "GOBLIN_FAULT_EACH";
/// Calls of the storage board that an outage of the cable swallows.
const OUTAGE_CALLS: u32 = 3;
/// Seconds since 1970 of a clock that stands at its beginning, and of one that ran away.
const WRONG_CLOCKS: [u64; 2] = [0, 4_300_000_000];

/// What unwinds a board whose power is gone.
struct Cut;

/// Counts the changes of a board's disks, and lets one thing happen after one of them.
#[derive(Debug)]
struct Fate {
    seen: AtomicU32,
    at: AtomicU32,
    /// The clock, and what it jumps to; otherwise the power is cut.
    clock: Option<(Arc<AtomicU64>, u64)>,
}

impl Witness for Fate {
    fn saw(&self, _: Change<'_>) {
        if self.seen.fetch_add(1, Relaxed) != self.at.load(Relaxed) {
            return;
        }
        match &self.clock {
            Some((clock, to)) => clock.store(*to, Relaxed),
            None => resume_unwind(Box::new(Cut)),
        }
    }
}

/// Lets a board's disks be watched.
fn watch(board: &mut Board, at: u32, clock: Option<u64>) -> Arc<Fate> {
    let clock = clock.map(|to| (board.seen.now.clone(), to));
    let fate = Arc::new(Fate { seen: AtomicU32::new(0), at: AtomicU32::new(at), clock });
    board.writers.esp = Writer::watched(fate.clone());
    board.writers.state = Writer::watched(fate.clone());
    board.record_writer = Writer::watched(fate.clone());
    fate
}

/// What `play` answers, or `None` when the power was cut in it.
pub fn until_cut<T>(play: impl FnOnce() -> T) -> Option<T> {
    match catch_unwind(AssertUnwindSafe(play)) {
        Ok(value) => Some(value),
        Err(panic) if panic.is::<Cut>() => None,
        Err(panic) => resume_unwind(panic),
    }
}

/// An order to both boards.
#[derive(Debug, Clone, Copy)]
struct Way {
    order: &'static UpdateCommand,
    from: u32,
    to: u32,
}

const WAYS: [Way; 2] =
    [Way { order: &UPGRADE, from: 1, to: 2 }, Way { order: &ROLLBACK, from: 2, to: 1 }];

impl Way {
    /// Two boards that have it before them.
    fn pair(self) -> Pair {
        let mut pair = Pair::new(&[1, 2]);
        if self.from == 2 {
            assert_eq!(play(&mut pair, &UPGRADE), (2, 2));
        }
        pair
    }
}

/// A pair whose boards are watched: after `compute` and `storage` changes the fault comes.
fn watched(way: Way, compute: u32, storage: u32, clock: Option<u64>) -> (Pair, [Arc<Fate>; 2]) {
    let mut pair = way.pair();
    let fates =
        [watch(&mut pair.compute, compute, clock), watch(&mut pair.storage.board, storage, clock)];
    pair.updater = pair.compute.updater();
    pair.storage.updater = pair.storage.board.updater();
    pair.plug();
    (pair, fates)
}

/// Plays an order to its end; how it ended.
fn play(pair: &mut Pair, order: &UpdateCommand) -> (u32, u32) {
    let mut up = until_cut(|| pair.tell(order)).is_some();
    for _ in 0..20 {
        if !up || pair.compute.seen.reboots.swap(0, Relaxed) > 0 {
            let booted = until_cut(|| pair.compute.boot());
            up = booted.is_some();
            let Some(updater) = booted else { continue };
            pair.updater = updater;
            pair.plug();
        }
        up = until_cut(|| pair.resume()).is_some();
        let is_quiet = pair.compute.seen.reboots.load(Relaxed) == 0;
        if up && is_quiet && pair.compute.boot_record().pair.is_none() {
            break;
        }
    }
    pair.run()
}

/// Both boards are on one release and nothing is left open; then what was ordered is had without a fault.
fn stands(way: Way, mut pair: Pair, when: &str) {
    let when = &format!("from {} to {}, {when}", way.from, way.to);
    let ended = play(&mut pair, way.order);
    assert!(matches!(ended, (1, 1) | (2, 2)), "{when}: {ended:?}");
    assert_eq!(pair.compute.boot_record().pair, None, "{when}: a plan is left");
    for board in [&pair.compute, &pair.storage.board] {
        board.seen.now.store(NOW, Relaxed);
        assert_eq!(board.boot_record().pending, None, "{when}: {:?} has not decided", board.role);
        assert_eq!(
            board.boot_record().quarantine,
            [],
            "{when}: nothing was wrong with the release"
        );
    }
    if ended.0 == way.from {
        pair.storage.outage = None;
        let again = play(&mut pair, way.order);
        assert_eq!(again, (way.to, way.to), "{when}: and not when nothing is wrong any more");
    }
}

fn each() -> usize {
    std::env::var(EACH_NAMED).map_or(EACH, |named| named.parse().expect("a number"))
}

/// Changes that an order without a fault makes on both boards.
fn changes(way: Way) -> [u32; 2] {
    let (mut pair, fates) = watched(way, NEVER, NEVER, None);
    assert_eq!(play(&mut pair, way.order), (way.to, way.to));
    fates.map(|fate| fate.seen.load(Relaxed))
}

#[test]
fn power_cut_of_either_board_at_any_change_of_its_disks_ends_with_both_on_one_release() {
    for way in WAYS {
        let [compute, storage] = changes(way);
        assert!(compute > 10 && storage > 10, "{compute} and {storage} changes are watched");
        for at in (0..compute).step_by(each()) {
            let pair = watched(way, at, NEVER, None).0;
            stands(way, pair, &format!("compute cut after change {at}"));
        }
        for at in (1..storage).step_by(each()) {
            let pair = watched(way, NEVER, at, None).0;
            stands(way, pair, &format!("storage cut after change {at}"));
        }
        // Both, each at its own time.
        for at in (2..compute.min(storage)).step_by(each()) {
            let other = storage - 1 - at;
            let when = format!("compute cut after change {at}, storage after {other}");
            stands(way, watched(way, at, other, None).0, &when);
        }
    }
}

#[test]
fn clock_that_jumps_at_any_change_ends_with_both_on_one_release() {
    for way in WAYS {
        let [compute, storage] = changes(way);
        for to in WRONG_CLOCKS {
            for at in (3..compute).step_by(2 * each()) {
                let when = format!("the compute board's clock jumps to {to} after change {at}");
                stands(way, watched(way, at, NEVER, Some(to)).0, &when);
            }
            for at in (3..storage).step_by(2 * each()) {
                let when = format!("the storage board's clock jumps to {to} after change {at}");
                stands(way, watched(way, NEVER, at, Some(to)).0, &when);
            }
        }
    }
}

#[test]
fn cable_that_is_out_for_a_while_at_any_call_ends_with_both_on_one_release() {
    for way in WAYS {
        let mut pair = way.pair();
        let before = pair.storage.calls;
        assert_eq!(play(&mut pair, way.order), (way.to, way.to));
        let calls = pair.storage.calls;
        assert!(calls > before + 3, "{calls} calls, {before} before, are looked at");
        for at in before..calls {
            for answer_alone in [false, true] {
                let mut pair = way.pair();
                pair.storage.outage = Some((at, at + OUTAGE_CALLS, answer_alone));
                let what =
                    if answer_alone { "the answers are lost" } else { "nothing comes through" };
                stands(way, pair, &format!("{what} from call {at} on"));
            }
        }
    }
}

#[test]
fn way_back_waits_for_a_storage_board_that_was_not_told_yet() {
    let way = WAYS[1];
    let mut pair = way.pair();
    // It answers whether it is ready, and then restarts for longer than one that nobody waits for may take.
    let next = pair.storage.calls + 1;
    pair.storage.outage = Some((next, next + 20 * OUTAGE_CALLS, false));
    assert_eq!(play(&mut pair, way.order), (way.to, way.to));
}

#[test]
fn clock_that_ran_away_is_told_before_anything_is_begun() {
    let mut pair = Pair::new(&[1, 2]);
    pair.compute.seen.now.store(WRONG_CLOCKS[1], Relaxed);
    let before = pair.compute.fixed();
    let replies = pair.tell(&UPGRADE);
    assert_eq!(kind(replies.last().unwrap()), "expired", "{replies:?}");
    assert!(!replies.iter().any(|reply| matches!(reply, UpdateReply::Done { .. })));
    assert_eq!((pair.compute.fixed(), pair.run()), (before, (1, 1)));
}
