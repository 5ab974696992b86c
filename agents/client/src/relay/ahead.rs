//! What the relay does before the kernel asks for it, and what it says before the server does. Pure.
//!
//! Linux's client asks for one thing at a time, and waits each time. Much of it can be foreseen:
//!
//! ```text
//!   Twalk of names       -> forwarded with a Tgetattr of its end   the Tgetattr that follows -> answered from that, once
//!   Twalk of no names    -> answered; goes out before the next request
//!   Tclunk               -> answered; goes out before the next request, at once where a file was open
//!   Txattrwalk for security.capability -> answered: a box keeps none
//! ```
//!
//! What is foreseen has tags of its own, from [`OWN_TAG_MIN`] on, which no client of a relay uses.
//!
//! Invariants:
//! - Attributes answer one request, the next one about their fid, and only while they are [fresh](FRESH): the call that
//!   asks is the one that walked. What others have changed before a call began is seen by it.
//! - A change that the kernel asks for takes back all that was learned before it.
//! - Requests go out in the order in which they were taken, the relay's own among them.

use goblin_core_ninep::{NO_TAG, Names, Request};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// The first tag of the relay itself.
pub const OWN_TAG_MIN: u16 = 0xc000;
/// Requests of its own without an answer at most.
const OWN_MAX: usize = 1024;
/// Longest time between an answer about attributes and its use.
const FRESH: Duration = Duration::from_millis(100);
/// Bytes of requests that wait for the next one at most.
const LATER_BYTES_MAX: usize = 4096;
/// All attributes that 9P2000.L knows, as Linux's client asks for them.
const ALL_ATTRIBUTES: u64 = 0x3fff;
/// Type of a reply about attributes.
const RGETATTR: u8 = 25;

/// A request of the relay itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Own {
    /// Attributes of the end of a walk.
    Getattr(u32),
    /// A second fid of a file.
    Clone(u32),
    /// A fid that is given back.
    Clunk,
}

/// Attributes of a fid that was just walked to.
#[derive(Debug)]
enum Attributes {
    /// Asked for by this request; the kernel waits under the second tag.
    Asked(u16, Option<u16>),
    /// The reply, and when it came.
    Here(Box<[u8]>, Instant),
}

/// What to do about a `Tgetattr`.
#[derive(Debug, PartialEq, Eq)]
pub enum Known {
    /// This is the reply, under another tag.
    Reply(Box<[u8]>),
    /// It is on its way.
    Soon,
    /// Nothing is known.
    Not,
}

/// Frames to send around a request.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Parcel {
    pub before: Vec<u8>,
    pub after: Vec<u8>,
}

/// Requests of the relay itself, and what came of them.
#[derive(Debug, Default)]
pub struct Ahead {
    own: BTreeMap<u16, Own>,
    attributes: BTreeMap<u32, Attributes>,
    parcel: Parcel,
    /// What waits shall not wait for another request.
    is_due: bool,
    next: u16,
}

impl Ahead {
    fn own_tag(&mut self, own: Own) -> Option<u16> {
        if self.own.len() >= OWN_MAX {
            return None;
        }
        // Fewer than the tags there are, so one is free.
        loop {
            let tag = OWN_TAG_MIN | self.next;
            self.next = self.next.wrapping_add(1) & !OWN_TAG_MIN;
            if tag != NO_TAG && !self.own.contains_key(&tag) {
                self.own.insert(tag, own);
                return Some(tag);
            }
        }
    }

    /// The relay's own request that had this tag.
    pub fn answered(&mut self, tag: u16) -> Option<Own> {
        self.own.remove(&tag)
    }

    /// Asks for the attributes of the end of a walk, right behind it.
    pub fn ask_attributes(&mut self, fid: u32) {
        if let Some(tag) = self.own_tag(Own::Getattr(fid)) {
            Request::Getattr { fid, mask: ALL_ATTRIBUTES }.encode(tag, &mut self.parcel.after);
            self.attributes.insert(fid, Attributes::Asked(tag, None));
        }
    }

    /// Makes a second fid of a file; the tag of the request. `None` when too much is under way.
    pub fn clone_fid(&mut self, fid: u32, newfid: u32) -> Option<u16> {
        let names = Names::new(&[])?;
        let tag = self.own_tag(Own::Clone(newfid))?;
        Request::Walk { fid, newfid, names }.encode(tag, &mut self.parcel.before);
        Some(tag)
    }

    /// Gives a fid back, at once if `is_open`; false when too much is under way.
    pub fn clunk(&mut self, fid: u32, is_open: bool) -> bool {
        let Some(tag) = self.own_tag(Own::Clunk) else { return false };
        Request::Clunk { fid }.encode(tag, &mut self.parcel.before);
        self.is_due |= is_open;
        true
    }

    /// The kernel asks for attributes under `tag`.
    pub fn attributes(&mut self, fid: u32, tag: u16, now: Instant) -> Known {
        match self.attributes.remove(&fid) {
            Some(Attributes::Here(reply, at)) if now.saturating_duration_since(at) < FRESH => {
                Known::Reply(reply)
            }
            Some(Attributes::Asked(own, None)) => {
                self.attributes.insert(fid, Attributes::Asked(own, Some(tag)));
                Known::Soon
            }
            // A second one asks for what is so now; who waits already is answered all the same.
            Some(waits @ Attributes::Asked(..)) => {
                self.attributes.insert(fid, waits);
                Known::Not
            }
            _ => Known::Not,
        }
    }

    /// The reply to the relay's own `Tgetattr` with `own`; answers under which tag the kernel waits for it.
    pub fn learn(&mut self, fid: u32, own: u16, reply: &[u8], now: Instant) -> Option<u16> {
        match self.attributes.get(&fid) {
            Some(Attributes::Asked(asked, waits)) if *asked == own => {
                let waits = *waits;
                self.attributes.remove(&fid);
                if waits.is_none() && reply.get(4) == Some(&RGETATTR) {
                    self.attributes.insert(fid, Attributes::Here(reply.into(), now));
                }
                waits
            }
            _ => None,
        }
    }

    /// Another request is about this fid, or it is no more.
    pub fn touched(&mut self, fid: u32) {
        if !matches!(self.attributes.get(&fid), Some(Attributes::Asked(_, Some(_)))) {
            self.attributes.remove(&fid);
        }
    }

    /// Something is to be changed.
    pub fn forget(&mut self) {
        // Who asked before the change may be told what was before it.
        self.attributes.retain(|_, known| matches!(known, Attributes::Asked(_, Some(_))));
    }

    /// The kernel waits no longer under this tag.
    pub fn flushed(&mut self, tag: u16) {
        self.attributes.retain(
            |_, known| !matches!(known, Attributes::Asked(_, Some(waits)) if *waits == tag),
        );
    }

    /// What is to be sent around a request that is forwarded.
    pub fn take(&mut self) -> Parcel {
        self.is_due = false;
        std::mem::take(&mut self.parcel)
    }

    /// What is to be sent although no request is.
    pub fn take_due(&mut self) -> Parcel {
        if self.is_due || self.parcel.before.len() > LATER_BYTES_MAX {
            self.take()
        } else {
            Parcel::default()
        }
    }

    /// The connection is gone, or a session begins.
    pub fn reset(&mut self) {
        *self = Self { next: self.next, ..Self::default() };
    }
}
