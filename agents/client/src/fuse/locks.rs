//! Locks of programs, held at the box.
//!
//! At the box a lock belongs to an open file; here it belongs to an owner, which the kernel names: a process for
//! `fcntl(2)`. So each owner has a fid of its own for each file it locks, open for as long as it may hold something.

use super::caller::{Caller, EndedBy};
use super::mux::Mux;
use goblin_core_ninep::{Errno, LockRange, Names, Reply, Request, lock};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Locks that are waited for at one time; each holds a thread.
const WAITING_MAX: usize = 64;

/// Kinds of locks (`fcntl(2)`).
const F_RDLCK: i32 = 0;
const F_WRLCK: i32 = 1;
const F_UNLCK: i32 = 2;
/// The last byte a file can have (OFFSET_MAX of Linux): a lock up to there holds all to the end.
const END_MAX: u64 = i64::MAX.unsigned_abs();
/// File and owner.
pub type Who = (u64, u64);

/// The fids, and how many wait.
#[derive(Default)]
pub struct Locks(Mutex<State>);

#[derive(Default)]
struct State {
    fids: BTreeMap<Who, u32>,
    waiting: usize,
}

/// A place among those that wait.
pub struct Waiting(Arc<Locks>);

impl Drop for Waiting {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.waiting = state.waiting.saturating_sub(1);
    }
}

impl Locks {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place for one that waits.
    ///
    /// # Errors
    /// `ENOLCK` when too many wait.
    pub fn wait(self: &Arc<Self>) -> Result<Waiting, Errno> {
        let mut state = self.state();
        if state.waiting >= WAITING_MAX {
            return Err(Errno::ENOLCK);
        }
        state.waiting = state.waiting.saturating_add(1);
        Ok(Waiting(self.clone()))
    }

    /// Whether an owner may hold something of a file.
    pub fn knows(&self, who: Who) -> bool {
        self.state().fids.contains_key(&who)
    }

    /// The fid of an owner; `node` is the file's own.
    fn fid(&self, mux: &Mux, who: Who, node: u32) -> Result<u32, Errno> {
        if let Some(fid) = self.state().fids.get(&who) {
            return Ok(*fid);
        }
        let newfid = mux.new_fid();
        let walk = Request::Walk { fid: node, newfid, names: Names::NONE };
        let walked = mux.ask(&walk, |reply| matches!(reply, Reply::Walk { .. }).then_some(()));
        if let Err(errno) = walked {
            mux.free_fid(newfid);
            return Err(errno);
        }
        let open = Request::Lopen { fid: newfid, flags: 0 };
        let opened = mux.ask(&open, |reply| matches!(reply, Reply::Lopen { .. }).then_some(()));
        if let Err(errno) = opened {
            let _ = mux.clunk(newfid);
            return Err(errno);
        }
        let known = *self.state().fids.entry(who).or_insert(newfid);
        if known != newfid {
            // Another thread of the owner was quicker.
            let _ = mux.clunk(newfid);
        }
        Ok(known)
    }

    /// Takes or releases; waits for a lock that somebody else holds where `flags` say so.
    ///
    /// # Errors
    /// `EAGAIN` when it is held and not waited for, `EINTR` when a signal ends the wait.
    pub fn set(
        &self,
        mux: &Mux,
        (who, node): (Who, u32),
        range: LockRange,
        flags: u32,
        caller: Caller,
    ) -> Result<(), Errno> {
        if range.kind == lock::UNLOCK && !self.knows(who) {
            return Ok(());
        }
        let fid = self.fid(mux, who, node)?;
        let LockRange { kind, start, length, proc_id } = range;
        let request = Request::Lock { fid, kind, flags, start, length, proc_id, client_id: b"" };
        loop {
            let status = mux.ask_for(caller, &request, |reply| match reply {
                Reply::Lock { status } => Some(*status),
                _ => None,
            })?;
            match status {
                lock::SUCCESS => return Ok(()),
                // The box has no place left for one that waits: it is asked again.
                lock::BLOCKED if flags & lock::FLAG_BLOCK != 0 => {
                    std::thread::sleep(super::caller::LOOK);
                    if caller.is_gone() {
                        return Err(Errno::EINTR);
                    }
                }
                lock::BLOCKED => return Err(Errno::EAGAIN),
                _ => return Err(Errno::ENOLCK),
            }
        }
    }

    /// Who stands in the way.
    ///
    /// # Errors
    /// The box's.
    pub fn holder(
        &self,
        mux: &Mux,
        (who, node): (Who, u32),
        range: LockRange,
    ) -> Result<LockRange, Errno> {
        let fid = self.fid(mux, who, node)?;
        let LockRange { kind, start, length, proc_id } = range;
        let request = Request::Getlock { fid, kind, start, length, proc_id, client_id: b"" };
        mux.ask_for(Caller::now(EndedBy::Kill), &request, |reply| match *reply {
            Reply::Getlock { kind, start, length, proc_id, .. } => {
                Some(LockRange { kind, start, length, proc_id })
            }
            _ => None,
        })
    }

    /// An owner has closed the file, which ends all its locks there (`fcntl(2)`).
    pub fn let_go(&self, mux: &Mux, who: Who) {
        let fid = self.state().fids.remove(&who);
        if let Some(fid) = fid {
            // The box lets go of them with the fid.
            let _ = mux.clunk(fid);
        }
    }
}

/// A lock as FUSE has it, `end` being its last byte (`fcntl(2)`), in 9P's words.
///
/// # Errors
/// `EINVAL` for a kind that there is not.
pub fn range(start: u64, end: u64, kind: i32, pid: u32) -> Result<LockRange, Errno> {
    let kind = match kind {
        F_RDLCK => lock::READ,
        F_WRLCK => lock::WRITE,
        F_UNLCK => lock::UNLOCK,
        _ => return Err(Errno::EINVAL),
    };
    let whole = end >= END_MAX;
    let length = if whole { 0 } else { end.saturating_sub(start).saturating_add(1) };
    Ok(LockRange { kind, start, length, proc_id: pid })
}

/// First byte, last byte and kind of a lock as FUSE has it.
pub const fn shown_range(held: LockRange) -> (u64, u64, i32) {
    let kind = match held.kind {
        lock::READ => F_RDLCK,
        lock::WRITE => F_WRLCK,
        _ => F_UNLCK,
    };
    let last = held.start.saturating_add(held.length).saturating_sub(1);
    (held.start, if held.length == 0 { END_MAX } else { last }, kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_those_of_fcntl() {
        let whole = range(0, END_MAX, F_WRLCK, 7).unwrap();
        assert_eq!((whole.start, whole.length, whole.kind), (0, 0, lock::WRITE));
        assert_eq!(shown_range(whole), (0, END_MAX, F_WRLCK));
        let part = range(10, 19, F_RDLCK, 7).unwrap();
        assert_eq!((part.start, part.length, part.proc_id), (10, 10, 7));
        assert_eq!(shown_range(part), (10, 19, F_RDLCK));
        assert_eq!(range(0, 1, 9, 7), Err(Errno::EINVAL));
    }
}
