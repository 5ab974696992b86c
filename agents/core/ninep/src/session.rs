//! Rules of a session: dialect, message size, fids, requests on their way. A pure structure.
//!
//! ```text
//! Fresh -Tversion 9P2000.L-> Agreed -first Tattach-> Attached
//!   ^                          |
//!   +---- Tversion, any time: every fid and request of before is forgotten
//! ```

use crate::message::{VERSION_9P2000L, VERSION_GOB1};
use crate::{Cancel, Errno, WaitsFor};
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::time::Duration;

/// Smallest message size a client may ask for: one page, in which every reply but data fits.
pub const MSIZE_MIN: u32 = 4096;
/// Largest message size offered: 128 pages of data and the 24 bytes that Linux's client takes off for
/// headers, so that its reads are whole pages.
pub const MSIZE_MAX: u32 = 24 + 4096 * 128;

const _: () = assert!(MSIZE_MIN < MSIZE_MAX);

/// Flushes that may wait for one request; an honest client sends one.
const FLUSHES_MAX: usize = 16;

/// Limits of one connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Largest message in bytes.
    pub msize_max: u32,
    /// Fids at one time.
    pub fids_max: usize,
    /// Requests that wait for an event at one time; each may hold a thread.
    pub events_max: usize,
    /// Requests that a disk works on at one time; each holds a thread.
    pub disk_jobs_max: usize,
    /// Requests for a disk at one time, those that wait for a thread included.
    pub disk_queue_max: usize,
    /// Bytes that these may hold together.
    pub disk_queue_bytes_max: usize,
    /// Requests that keep the thread waiting that read them, at one time: each holds a thread, and beyond them the next
    /// one holds up the connection.
    pub late_max: usize,
    /// Bytes of the attribute values that fids hold together: each lies in memory for as long as its fid lives, and
    /// a client may have thousands of fids.
    pub xattr_bytes_max: usize,
    /// Longest silence before the first attach.
    pub handshake: Duration,
}

impl Limits {
    /// Enough for one busy client.
    pub const DEFAULT: Self = Self {
        msize_max: MSIZE_MAX,
        fids_max: 32_768,
        events_max: 64,
        disk_jobs_max: 8,
        disk_queue_max: 64,
        disk_queue_bytes_max: 4 << 20,
        late_max: 16,
        xattr_bytes_max: 1 << 20,
        handshake: Duration::from_secs(10),
    };
}

impl Default for Limits {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// A request that is answered later.
#[derive(Debug)]
pub(crate) struct InFlight {
    /// Tells apart two requests that used one tag after another.
    serial: u64,
    fid: u32,
    waits_for: WaitsFor,
    cancel: Cancel,
    /// Tags of flushes to answer right after it.
    flushes: Vec<u16>,
}

/// What `Tversion` agreed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Agreed {
    /// Largest message.
    pub msize: u32,
    /// Dialect for the reply, `unknown` when there is none in common.
    pub version: &'static [u8],
}

/// What becomes of a flush.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flush {
    /// Answer it now: the old request is cancelled, answered or was never there.
    Now,
    /// The old request has committed; both are answered together.
    AfterReply,
    /// The old request has committed and too many flushes wait for it already.
    TooMany,
}

/// State of one connection. `F` is what the server keeps for a fid.
#[derive(Debug)]
pub struct Session<F> {
    limits: Limits,
    /// 0 until a version is agreed.
    msize: u32,
    attached: bool,
    /// Whether [`VERSION_GOB1`] is agreed.
    extended: bool,
    fids: HashMap<u32, F>,
    in_flight: HashMap<u16, InFlight>,
    next_serial: u64,
    /// Counts sessions of this connection.
    epoch: u64,
}

impl<F> Session<F> {
    /// A fresh session.
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            msize: 0,
            attached: false,
            extended: false,
            fids: HashMap::new(),
            in_flight: HashMap::new(),
            next_serial: 0,
            epoch: 0,
        }
    }

    /// Largest message in bytes, before a version is agreed the largest that is ever accepted.
    pub const fn msize(&self) -> u32 {
        if self.msize == 0 { self.limits.msize_max } else { self.msize }
    }

    /// True once a version is agreed.
    pub const fn is_agreed(&self) -> bool {
        self.msize != 0
    }

    /// True when the messages of [`gob1`](crate::gob1) are agreed.
    pub const fn is_extended(&self) -> bool {
        self.extended
    }

    /// True once a tree is attached.
    pub const fn is_attached(&self) -> bool {
        self.attached
    }

    /// Opens the session anew. Hands out the fids of before, for the server to close.
    ///
    /// # Errors
    /// `EMSGSIZE` for an msize below [`MSIZE_MIN`]: not even an error text would be worth sending.
    pub fn version(&mut self, msize: u32, version: &[u8]) -> Result<(Agreed, Vec<F>), Errno> {
        let old = self.reset();
        if msize < MSIZE_MIN {
            return Err(Errno::EMSGSIZE);
        }
        let msize = msize.min(self.limits.msize_max);
        // intro(5): a server may answer `9P2000.L` to `9P2000.L.anything`.
        let ours = version
            .strip_prefix(VERSION_9P2000L)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with(b"."));
        if !ours {
            return Ok((Agreed { msize, version: b"unknown" }, old));
        }
        self.msize = msize;
        self.extended = version == VERSION_GOB1;
        let version = if self.extended { VERSION_GOB1 } else { VERSION_9P2000L };
        Ok((Agreed { msize, version }, old))
    }

    /// Counts the sessions of the connection: what began in one has no effect on the next.
    pub(crate) const fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Forgets everything: every request is cancelled and will not be answered.
    pub fn reset(&mut self) -> Vec<F> {
        self.epoch = self.epoch.wrapping_add(1);
        self.msize = 0;
        self.attached = false;
        self.extended = false;
        for (_, request) in self.in_flight.drain() {
            request.cancel.cancel();
        }
        self.fids.drain().map(|(_, fid)| fid).collect()
    }

    /// What a fid stands for.
    ///
    /// # Errors
    /// `EBADF` for one the client never made.
    pub fn fid(&self, fid: u32) -> Result<&F, Errno> {
        self.fids.get(&fid).ok_or(Errno::EBADF)
    }

    /// What a fid stands for, to change it.
    ///
    /// # Errors
    /// `EBADF` for one the client never made.
    pub fn fid_mut(&mut self, fid: u32) -> Result<&mut F, Errno> {
        self.fids.get_mut(&fid).ok_or(Errno::EBADF)
    }

    /// Whether a new fid may be made.
    ///
    /// # Errors
    /// `EBADF` when it is in use or reserved, `EMFILE` at the limit.
    pub fn check_new_fid(&self, fid: u32) -> Result<(), Errno> {
        if fid == crate::message::NO_FID || self.fids.contains_key(&fid) {
            return Err(Errno::EBADF);
        }
        if self.fids.len() >= self.limits.fids_max {
            return Err(Errno::EMFILE);
        }
        Ok(())
    }

    /// Makes a fid.
    ///
    /// # Errors
    /// As [`check_new_fid`](Self::check_new_fid).
    pub fn bind(&mut self, fid: u32, value: F) -> Result<(), Errno> {
        self.check_new_fid(fid)?;
        self.fids.insert(fid, value);
        Ok(())
    }

    /// Makes the first fid of a tree.
    ///
    /// # Errors
    /// As [`check_new_fid`](Self::check_new_fid).
    pub fn attach(&mut self, fid: u32, value: F) -> Result<(), Errno> {
        self.bind(fid, value)?;
        self.attached = true;
        Ok(())
    }

    /// Forgets a fid. Requests on it that still wait are cancelled and will be answered with `EINTR`.
    ///
    /// # Errors
    /// `EBADF` for one the client never made.
    pub fn unbind(&mut self, fid: u32) -> Result<F, Errno> {
        let value = self.fids.remove(&fid).ok_or(Errno::EBADF)?;
        for request in self.in_flight.values().filter(|request| request.fid == fid) {
            request.cancel.cancel();
        }
        Ok(value)
    }

    /// Fids in use.
    pub fn fid_count(&self) -> usize {
        self.fids.len()
    }

    /// Requests on their way.
    pub fn in_flight_count(&self) -> usize {
        self.in_flight.len()
    }

    /// True when another request with this tag than that of `call` is on its way, so that it must not be used again.
    /// The one of `call` itself may be known already: when it was late before it was looked at.
    pub(crate) fn tag_of_another(&self, tag: u16, call: &Cancel) -> bool {
        self.in_flight.get(&tag).is_some_and(|request| !request.cancel.is(call))
    }

    /// Gives a place to a request that is answered later: its serial number and its token. `call` is the one it had
    /// while its reader looked at it.
    ///
    /// # Errors
    /// `EAGAIN` when too many wait for an event, `EINVAL` for a tag in use, `EINTR` when it was flushed meanwhile.
    pub(crate) fn admit(
        &mut self,
        tag: u16,
        fid: u32,
        waits_for: WaitsFor,
        call: &Cancel,
    ) -> Result<(u64, Cancel), Errno> {
        let waiting = || self.in_flight.values().filter(|r| r.waits_for == waits_for).count();
        if waits_for == WaitsFor::Event && waiting() >= self.limits.events_max {
            return Err(Errno::EAGAIN);
        }
        let serial = self.next_serial;
        let place = match self.in_flight.entry(tag) {
            Entry::Vacant(place) => place,
            // It was late before it turned out that it waits anyway.
            Entry::Occupied(mut late) if late.get().cancel.is(call) => {
                let request = late.get_mut();
                (request.fid, request.waits_for) = (fid, waits_for);
                return Ok((request.serial, request.cancel.clone()));
            }
            Entry::Occupied(_) => return Err(Errno::EINVAL),
        };
        if call.is_cancelled() {
            return Err(Errno::EINTR);
        }
        self.next_serial = serial.wrapping_add(1);
        let cancel = Cancel::new();
        let flushes = Vec::new();
        place.insert(InFlight { serial, fid, waits_for, cancel: cancel.clone(), flushes });
        Ok((serial, cancel))
    }

    /// A request that keeps its reader waiting can be flushed from now on. Answers its serial number; `None` when it
    /// is known already.
    pub(crate) fn late(&mut self, tag: u16, cancel: &Cancel) -> Option<u64> {
        let Entry::Vacant(place) = self.in_flight.entry(tag) else { return None };
        let serial = self.next_serial;
        self.next_serial = serial.wrapping_add(1);
        let (fid, waits_for) = (crate::message::NO_FID, WaitsFor::Disk);
        let (cancel, flushes) = (cancel.clone(), Vec::new());
        place.insert(InFlight { serial, fid, waits_for, cancel, flushes });
        Some(serial)
    }

    /// Cancels the request `oldtag` for the flush `tag`.
    pub fn flush(&mut self, tag: u16, oldtag: u16) -> Flush {
        let Entry::Occupied(mut request) = self.in_flight.entry(oldtag) else { return Flush::Now };
        if request.get().cancel.cancel() {
            request.remove();
            return Flush::Now;
        }
        if request.get().flushes.len() >= FLUSHES_MAX {
            return Flush::TooMany;
        }
        request.get_mut().flushes.push(tag);
        Flush::AfterReply
    }

    /// A request's work has ended. `None` when it was flushed and must not be answered; otherwise the
    /// flushes to answer after it, and whether its result counts (`Err(EINTR)` when its fid is gone).
    pub(crate) fn finish(
        &mut self,
        tag: u16,
        serial: u64,
    ) -> Option<(Vec<u16>, Result<(), Errno>)> {
        let Entry::Occupied(request) = self.in_flight.entry(tag) else { return None };
        if request.get().serial != serial {
            return None;
        }
        let request = request.remove();
        let counts = if request.cancel.commit() { Ok(()) } else { Err(Errno::EINTR) };
        Some((request.flushes, counts))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn agreed() -> Session<&'static str> {
        let mut session = Session::new(Limits { fids_max: 2, events_max: 1, ..Limits::default() });
        session.version(8192, b"9P2000.L").unwrap();
        session
    }

    fn admit(session: &mut Session<&'static str>, tag: u16) -> (u64, Cancel) {
        session.admit(tag, 1, WaitsFor::Event, &Cancel::new()).unwrap()
    }

    #[test]
    fn msize_is_the_smaller_of_both() {
        let mut session = Session::<()>::new(Limits::default());
        assert_eq!(session.version(u32::MAX, b"9P2000.L").unwrap().0.msize, MSIZE_MAX);
        assert_eq!(session.version(4096, b"9P2000.L.gob1").unwrap().0.msize, 4096);
        assert_eq!(session.version(4095, b"9P2000.L").unwrap_err(), Errno::EMSGSIZE);
    }

    #[test]
    fn the_extended_dialect_is_only_spoken_when_asked_for() {
        let mut session = Session::<()>::new(Limits::default());
        assert_eq!(session.version(8192, VERSION_GOB1).unwrap().0.version, VERSION_GOB1);
        assert!(session.is_extended());
        for other in [VERSION_9P2000L, b"9P2000.L.gob2", b"9P2000.L.gob"] {
            assert_eq!(session.version(8192, other).unwrap().0.version, VERSION_9P2000L);
            assert!(!session.is_extended());
        }
    }

    #[test]
    fn other_dialects_are_unknown_and_open_nothing() {
        let mut session = Session::<()>::new(Limits::default());
        for other in [&b"9P2000.u"[..], b"9P2000", b"9P2000.Lx", b""] {
            assert_eq!(session.version(8192, other).unwrap().0.version, b"unknown");
            assert!(!session.is_agreed());
        }
    }

    #[test]
    fn a_fid_in_use_is_not_bound_again() {
        let mut session = agreed();
        session.bind(1, "a").unwrap();
        assert_eq!(session.bind(1, "b"), Err(Errno::EBADF));
        assert_eq!(session.fid(1), Ok(&"a"));
    }

    #[test]
    fn fids_have_a_limit() {
        let mut session = agreed();
        session.bind(1, "a").unwrap();
        session.bind(2, "b").unwrap();
        assert_eq!(session.bind(3, "c"), Err(Errno::EMFILE));
    }

    #[test]
    fn a_flushed_request_is_not_answered() {
        let mut session = agreed();
        let (serial, cancel) = admit(&mut session, 7);
        assert_eq!(session.flush(8, 7), Flush::Now);
        assert!(cancel.is_cancelled());
        assert!(session.finish(7, serial).is_none());
    }

    #[test]
    fn a_flush_of_a_committed_request_follows_its_reply() {
        let mut session = agreed();
        let (serial, cancel) = admit(&mut session, 7);
        assert!(cancel.commit());
        assert_eq!(session.flush(8, 7), Flush::AfterReply);
        assert_eq!(session.finish(7, serial), Some((vec![8], Ok(()))));
    }

    #[test]
    fn flushes_of_one_request_have_a_limit() {
        let mut session = agreed();
        let (serial, cancel) = admit(&mut session, 7);
        assert!(cancel.commit());
        for tag in 0..100_000u32 {
            session.flush(u16::try_from(tag % 60_000).unwrap(), 7);
        }
        assert_eq!(session.flush(8, 7), Flush::TooMany);
        assert_eq!(session.finish(7, serial).unwrap().0.len(), FLUSHES_MAX);
    }

    #[test]
    fn a_late_end_does_not_touch_the_next_user_of_the_tag() {
        let mut session = agreed();
        let (old, _) = admit(&mut session, 7);
        session.flush(8, 7);
        let (new, _) = admit(&mut session, 7);
        assert!(session.finish(7, old).is_none());
        assert!(session.finish(7, new).is_some());
    }

    #[test]
    fn clunk_interrupts_what_waits_on_the_fid() {
        let mut session = agreed();
        session.bind(1, "a").unwrap();
        let (serial, cancel) = admit(&mut session, 7);
        session.unbind(1).unwrap();
        assert!(cancel.is_cancelled());
        assert_eq!(session.finish(7, serial), Some((vec![], Err(Errno::EINTR))));
    }

    #[test]
    fn waiting_requests_have_a_limit() {
        let mut session = agreed();
        admit(&mut session, 7);
        assert_eq!(
            session.admit(8, 1, WaitsFor::Event, &Cancel::new()).unwrap_err(),
            Errno::EAGAIN
        );
    }

    #[test]
    fn a_late_request_can_be_flushed_and_may_yet_wait() {
        let mut session = agreed();
        let (flushed, waits) = (Cancel::new(), Cancel::new());
        let serial = session.late(7, &flushed).unwrap();
        assert_eq!(session.flush(8, 7), Flush::Now);
        assert!(session.finish(7, serial).is_none());
        assert_eq!(session.admit(7, 1, WaitsFor::Disk, &flushed).unwrap_err(), Errno::EINTR);
        let serial = session.late(7, &waits).unwrap();
        assert_eq!(session.admit(7, 1, WaitsFor::Disk, &waits).unwrap().0, serial);
        assert_eq!(session.late(7, &Cancel::new()), None, "it is known");
        assert!(!session.tag_of_another(7, &waits) && session.tag_of_another(7, &Cancel::new()));
        assert!(session.finish(7, serial).is_some());
    }

    #[test]
    fn version_forgets_everything() {
        let mut session = agreed();
        session.bind(1, "a").unwrap();
        let (serial, cancel) = admit(&mut session, 7);
        assert_eq!(session.version(8192, b"9P2000.L").unwrap().1, ["a"]);
        assert!(cancel.is_cancelled());
        assert!(session.finish(7, serial).is_none());
        assert_eq!(session.fid(1), Err(Errno::EBADF));
    }
}
