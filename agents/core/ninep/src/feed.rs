//! What has changed in a tree, in order, and how much of it is on the disk: the change feed and the durability token of
//! [`gob1`](crate::gob1). A structure behind one lock; who waits for news waits on it.
//!
//! ```text
//!   note: number 41, 42, 43 ..        every change gets the next number, after it was done and before its reply
//!   kept: [dropped] 38 39 40 .. 43    the last CHANGES_KEPT_MAX of them
//!   on the disk: ------> 40           after a sync that began when the number was 40
//! ```

use crate::wire::{Field, Reader, WireError};
use crate::{Cancel, Errno, NAME_BYTES_MAX};
use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

/// Changes that a feed keeps for those who have not asked yet.
pub const CHANGES_KEPT_MAX: usize = 4096;

/// A point in the life of a tree: everything that was answered before it was handed out is at or before it. On the
/// wire `epoch[8] number[8]`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Token {
    /// Differs whenever nobody knows any more what was done before: the server ran anew, or its disk failed.
    pub epoch: u64,
    /// Number of the last change.
    pub number: u64,
}

impl<'a> Field<'a> for Token {
    fn put(&self, out: &mut Vec<u8>) {
        self.epoch.put(out);
        self.number.put(out);
    }

    fn get(from: &mut Reader<'a>) -> Result<Self, WireError> {
        Ok(Self { epoch: from.get()?, number: from.get()? })
    }
}

/// What a change did; `what[1]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum What {
    /// The content of `file`.
    Content = 1,
    /// Other attributes of `file`, extended ones too.
    Attributes = 2,
    /// `name` in `dir` is `file` now, and was nothing before or was replaced.
    Made = 3,
    /// `name` in `dir` is gone; `file` is 0.
    Removed = 4,
    /// `name` in `dir` is gone: it is the name of the next change now; `file` is 0.
    MovedFrom = 5,
    /// `name` in `dir` is what the change before names; `file` is 0.
    MovedTo = 6,
}

impl What {
    const ALL: [Self; 6] = [
        Self::Content,
        Self::Attributes,
        Self::Made,
        Self::Removed,
        Self::MovedFrom,
        Self::MovedTo,
    ];
}

/// One change; on the wire `number[8] what[1] dir[8] file[8] name[s]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Its number.
    pub number: u64,
    /// What it did.
    pub what: What,
    /// `qid.path` of the directory; 0 where none is concerned.
    pub dir: u64,
    /// `qid.path` of the file; 0 where it is not known.
    pub file: u64,
    /// The name in `dir`.
    pub name: Vec<u8>,
}

impl Change {
    /// Most bytes on the wire.
    pub const BYTES_MAX: usize = 8 + 1 + 8 + 8 + 2 + NAME_BYTES_MAX;

    fn wire_bytes(&self) -> usize {
        Self::BYTES_MAX.saturating_sub(NAME_BYTES_MAX).saturating_add(self.name.len())
    }
}

impl<'a> Field<'a> for Change {
    fn put(&self, out: &mut Vec<u8>) {
        self.number.put(out);
        (self.what as u8).put(out);
        self.dir.put(out);
        self.file.put(out);
        self.name.as_slice().put(out);
    }

    fn get(from: &mut Reader<'a>) -> Result<Self, WireError> {
        let number = from.get()?;
        let kind: u8 = from.get()?;
        let what = What::ALL.into_iter().find(|what| *what as u8 == kind);
        let what = what.ok_or(WireError::UnknownType { kind })?;
        let (dir, file) = (from.get()?, from.get()?);
        let name: &[u8] = from.get()?;
        Ok(Self { number, what, dir, file, name: name.to_vec() })
    }
}

/// The feed of one tree. Clones are the same feed.
#[derive(Clone)]
pub struct Feed(Arc<Inner>);

struct Inner {
    state: Mutex<State>,
    news: Condvar,
}

struct State {
    epoch: u64,
    number: u64,
    /// The last number that is on the disk.
    durable: u64,
    /// The last number that is not kept any more.
    dropped: u64,
    kept: VecDeque<Change>,
    waiting: usize,
}

impl fmt::Debug for Feed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.state();
        f.debug_struct("Feed").field("token", &state.token()).finish_non_exhaustive()
    }
}

impl State {
    const fn token(&self) -> Token {
        Token { epoch: self.epoch, number: self.number }
    }

    /// # Errors
    /// `ESTALE` for a token of another epoch, `EINVAL` for one that was never handed out.
    const fn check(&self, token: Token) -> Result<(), Errno> {
        if token.epoch != self.epoch {
            return Err(Errno::ESTALE);
        }
        if token.number > self.number { Err(Errno::EINVAL) } else { Ok(()) }
    }

    /// Changes after a token, as many as fit; `None` when there are none.
    fn after(&self, token: Token, room: usize) -> Result<Option<(Token, Vec<u8>)>, Errno> {
        self.check(token)?;
        if token.number < self.dropped {
            return Err(Errno::ESTALE);
        }
        if token.number == self.number {
            return Ok(None);
        }
        let mut data = Vec::new();
        let mut last = token.number;
        let from = self.kept.partition_point(|change| change.number <= token.number);
        for change in self.kept.iter().skip(from) {
            if data.len().saturating_add(change.wire_bytes()) > room {
                break;
            }
            change.put(&mut data);
            last = change.number;
        }
        Ok(Some((Token { number: last, ..token }, data)))
    }
}

impl Feed {
    /// An empty feed. `epoch` must differ from every one before: a random number.
    pub fn new(epoch: u64) -> Self {
        let state =
            State { epoch, number: 0, durable: 0, dropped: 0, kept: VecDeque::new(), waiting: 0 };
        Self(Arc::new(Inner { state: Mutex::new(state), news: Condvar::new() }))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A change was done: call it before the reply. `dir` and `file` are `qid.path`s, 0 where there is none.
    pub fn note(&self, what: What, dir: u64, file: u64, name: &[u8]) {
        self.put(&mut self.state(), what, (dir, file), name);
    }

    /// A name was moved: as [`note`](Self::note), `qid.path` of the directory and name, of before and of now.
    pub fn moved(&self, from: (u64, &[u8]), to: (u64, &[u8])) {
        // Under one lock, so that the two are neighbours.
        let mut state = self.state();
        self.put(&mut state, What::MovedFrom, (from.0, 0), from.1);
        self.put(&mut state, What::MovedTo, (to.0, 0), to.1);
    }

    fn put(&self, state: &mut State, what: What, (dir, file): (u64, u64), name: &[u8]) {
        state.number = state.number.saturating_add(1);
        let number = state.number;
        match state.kept.back_mut() {
            // Who has seen the one before sees this one, who has not misses nothing.
            Some(last) if what == What::Content && (last.what, last.file) == (what, file) => {
                last.number = number;
            }
            _ => state.kept.push_back(Change { number, what, dir, file, name: name.to_vec() }),
        }
        if state.kept.len() > CHANGES_KEPT_MAX
            && let Some(oldest) = state.kept.pop_front()
        {
            state.dropped = oldest.number;
        }
        if state.waiting > 0 {
            self.0.news.notify_all();
        }
    }

    /// Where the tree is now, and the last number that is on the disk.
    pub fn token(&self) -> (Token, u64) {
        let state = self.state();
        (state.token(), state.durable)
    }

    /// What a sync that begins now will have on the disk; `None` when a token is there already.
    ///
    /// # Errors
    /// `ESTALE` for a token of another epoch, `EINVAL` for one that was never handed out.
    pub fn begin_sync(&self, token: Token) -> Result<Option<Token>, Errno> {
        let state = self.state();
        state.check(token)?;
        Ok((token.number > state.durable).then(|| state.token()))
    }

    /// Such a sync has succeeded, and answers how far the disk is now. A feed of another epoch learns nothing by it.
    ///
    /// # Errors
    /// `ESTALE` when another sync has failed meanwhile.
    pub fn end_sync(&self, synced: Token) -> Result<Token, Errno> {
        let mut state = self.state();
        state.check(synced)?;
        state.durable = state.durable.max(synced.number);
        Ok(Token { number: state.durable, ..synced })
    }

    /// A sync has failed: nobody knows which changes are lost. Every token of before is void.
    pub fn lose(&self, synced: Token) {
        let mut state = self.state();
        if state.epoch == synced.epoch {
            state.epoch = state.epoch.wrapping_add(1);
            state.dropped = state.number;
            state.kept.clear();
            self.0.news.notify_all();
        }
    }

    /// Encoded changes after a token, as many as fit, and the token to ask with next; `None` when there are none yet.
    ///
    /// # Errors
    /// `ESTALE` when the token is of another epoch or the changes after it are not kept any more: look at everything
    /// and begin anew. `EINVAL` for a token that was never handed out.
    pub fn after(&self, token: Token, room: usize) -> Result<Option<(Token, Vec<u8>)>, Errno> {
        self.state().after(token, room)
    }

    /// As [`after`](Self::after), and waits until there are some.
    ///
    /// # Errors
    /// As [`after`](Self::after); `EINTR` when cancelled.
    pub fn wait_after(
        &self,
        token: Token,
        room: usize,
        cancel: &Cancel,
    ) -> Result<(Token, Vec<u8>), Errno> {
        let inner = self.0.clone();
        cancel.on_cancel(move || {
            // Under the lock, so that nobody is between looking and waiting.
            let _state = inner.state.lock().unwrap_or_else(PoisonError::into_inner);
            inner.news.notify_all();
        });
        let mut state = self.state();
        state.waiting = state.waiting.saturating_add(1);
        let found = loop {
            if cancel.is_cancelled() {
                break Err(Errno::EINTR);
            }
            match state.after(token, room) {
                Ok(Some(found)) => break Ok(found),
                Ok(None) => {}
                Err(errno) => break Err(errno),
            }
            state = self.0.news.wait(state).unwrap_or_else(PoisonError::into_inner);
        };
        state.waiting = state.waiting.saturating_sub(1);
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(feed: &Feed, from: u64) -> Result<Option<Vec<u64>>, Errno> {
        let token = Token { epoch: 7, number: from };
        let Some((next, data)) = feed.after(token, 1 << 20)? else { return Ok(None) };
        let mut reader = Reader::new(&data);
        let mut numbers = Vec::new();
        while !reader.rest().is_empty() {
            numbers.push(reader.get::<Change>().unwrap().number);
        }
        assert_eq!(numbers.last(), Some(&next.number));
        Ok(Some(numbers))
    }

    #[test]
    fn changes_come_in_order_and_once() {
        let feed = Feed::new(7);
        assert_eq!(numbers(&feed, 0), Ok(None));
        for name in [b"a", b"b", b"c"] {
            feed.note(What::Made, 1, 2, name);
        }
        assert_eq!(numbers(&feed, 0), Ok(Some(vec![1, 2, 3])));
        assert_eq!(numbers(&feed, 2), Ok(Some(vec![3])));
        assert_eq!(numbers(&feed, 3), Ok(None));
        assert_eq!(numbers(&feed, 4), Err(Errno::EINVAL));
        let other = Token { epoch: 8, number: 0 };
        assert_eq!(feed.after(other, 100), Err(Errno::ESTALE));
    }

    #[test]
    fn a_page_holds_whole_changes_and_the_next_goes_on() {
        let feed = Feed::new(7);
        (0..9).for_each(|_| feed.note(What::Made, 1, 2, b"name"));
        let start = Token { epoch: 7, number: 0 };
        let (next, data) = feed.after(start, 70).unwrap().unwrap();
        assert_eq!((next.number, data.len()), (2, 62));
        assert_eq!(numbers(&feed, next.number).unwrap().unwrap().first(), Some(&3));
    }

    #[test]
    fn writes_to_one_file_are_one_change_that_everybody_sees() {
        let feed = Feed::new(7);
        feed.note(What::Content, 0, 5, b"");
        feed.note(What::Content, 0, 5, b"");
        assert_eq!(numbers(&feed, 0), Ok(Some(vec![2])));
        assert_eq!(numbers(&feed, 1), Ok(Some(vec![2])), "who saw the first one sees it");
        feed.note(What::Content, 0, 6, b"");
        assert_eq!(numbers(&feed, 0), Ok(Some(vec![2, 3])));
    }

    #[test]
    fn what_is_not_kept_is_not_passed_over() {
        let feed = Feed::new(7);
        (0..=CHANGES_KEPT_MAX).for_each(|_| feed.note(What::Removed, 1, 0, b"x"));
        assert_eq!(numbers(&feed, 0), Err(Errno::ESTALE));
        assert_eq!(numbers(&feed, 1).unwrap().unwrap().len(), CHANGES_KEPT_MAX);
    }

    #[test]
    fn the_disk_has_what_was_done_before_its_sync_began() {
        let feed = Feed::new(7);
        feed.note(What::Made, 1, 2, b"a");
        let (token, durable) = feed.token();
        assert_eq!((token.number, durable), (1, 0));
        let began = feed.begin_sync(token).unwrap().unwrap();
        feed.note(What::Made, 1, 2, b"b");
        assert_eq!(feed.end_sync(began), Ok(token));
        assert_eq!(feed.token().1, 1);
        assert_eq!(feed.begin_sync(token), Ok(None));
        assert_eq!(feed.begin_sync(Token { number: 3, ..token }), Err(Errno::EINVAL));
    }

    #[test]
    fn a_failed_sync_voids_what_came_before() {
        let feed = Feed::new(7);
        feed.note(What::Made, 1, 2, b"a");
        let (token, _) = feed.token();
        let [first, second] = [(); 2].map(|()| feed.begin_sync(token).unwrap().unwrap());
        feed.lose(first);
        feed.lose(second);
        assert_eq!(feed.end_sync(second), Err(Errno::ESTALE));
        assert_eq!(feed.after(token, 100), Err(Errno::ESTALE));
        assert_eq!(feed.token(), (Token { epoch: 8, number: 1 }, 0));
    }

    #[test]
    fn who_waits_hears_of_news_and_of_its_end() {
        let feed = Feed::new(7);
        let (token, _) = feed.token();
        let cancel = Cancel::new();
        let wait = |cancel: Cancel| {
            let feed = feed.clone();
            std::thread::Builder::new()
                .spawn(move || feed.wait_after(token, 1000, &cancel).map(|(next, _)| next.number))
                .unwrap()
        };
        let (hears, ends) = (wait(Cancel::new()), wait(cancel.clone()));
        cancel.cancel();
        assert_eq!(ends.join().unwrap(), Err(Errno::EINTR));
        feed.note(What::Made, 1, 2, b"a");
        assert_eq!(hears.join().unwrap(), Ok(1));
    }

    #[test]
    fn changes_read_back() {
        let name = vec![0xff; NAME_BYTES_MAX];
        let change = Change { number: 1, what: What::MovedTo, dir: 2, file: 3, name };
        let mut bytes = Vec::new();
        change.put(&mut bytes);
        assert_eq!((bytes.len(), change.wire_bytes()), (Change::BYTES_MAX, Change::BYTES_MAX));
        assert_eq!(Reader::new(&bytes).get::<Change>(), Ok(change));
    }
}
