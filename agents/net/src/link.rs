//! The link to the other board as a state machine: pure.
//!
//! ```text
//! Searching -valid hello-> Up -silent for 5 s-> Lost -valid hello-> Up
//! Searching, Lost -other box, bad signature-> Foreign -5 s later-> back
//! any -own key or own role under a trusted key-> Conflict -5 s later-> back
//! ```
//! Words of strangers never take an established link down: on a LAN anyone can speak.

use crate::hello::{Hello, HelloError};
use goblin_core_types::{BoxId, Digest, LinkState, LinkStatus, Role};
use std::collections::VecDeque;
use std::net::Ipv6Addr;

/// A peer that was silent for longer is lost.
pub(crate) const SILENT_MS_MAX: u64 = 5_000;
/// Boot ids of the other board that ended; a hello from one of them is a replay.
const PAST_BOOTS_MAX: usize = 16;
/// Cards on which the other board is remembered.
const PATHS_MAX: usize = 16;
/// How much later than the first the copy of a hello on another card may arrive.
const COPY_MS_MAX: u64 = 1_000;

/// Who this board is.
#[derive(Debug, Clone)]
pub(crate) struct Identity {
    pub(crate) box_id: BoxId,
    pub(crate) role: Role,
    pub(crate) own_key: Digest,
    pub(crate) peer_key: Digest,
    /// The kernel's boot id: tells this board's own echo from a copy of it.
    pub(crate) boot_id: String,
}

/// Where a datagram came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct From {
    pub(crate) interface: u32,
    pub(crate) address: Ipv6Addr,
}

/// The other board heard on one card.
#[derive(Debug, Clone)]
struct Path {
    from: From,
    heard_ms: u64,
    seq: u64,
}

/// A trouble heard lately.
#[derive(Debug, Clone)]
struct Trouble {
    state: LinkState,
    interface: u32,
    at_ms: u64,
    problem: String,
    /// Signed by the peer's or by this board's own key.
    trusted: bool,
}

/// What one datagram meant; for the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Heard {
    /// The other board, now known or still there.
    Peer,
    /// This board's own words on another card.
    Echo,
    /// An old datagram sent again, or one that overtook another.
    Replay,
    /// Somebody else, or a conflict.
    Trouble,
    /// Noise.
    Noise,
}

/// The link.
#[derive(Debug)]
pub(crate) struct Link {
    identity: Identity,
    paths: Vec<Path>,
    chosen: Option<From>,
    newest: Option<Hello>,
    past_boots: VecDeque<String>,
    trouble: Option<Trouble>,
    heard_ms: Option<u64>,
}

impl Link {
    pub(crate) fn new(identity: Identity) -> Self {
        Self {
            identity,
            paths: Vec::new(),
            chosen: None,
            newest: None,
            past_boots: VecDeque::new(),
            trouble: None,
            heard_ms: None,
        }
    }

    /// Takes one datagram.
    pub(crate) fn heard(
        &mut self,
        from: From,
        datagram: Result<Hello, HelloError>,
        now_ms: u64,
    ) -> Heard {
        let hello = match datagram {
            Ok(hello) => hello,
            Err(HelloError::Malformed) => return Heard::Noise,
            Err(err) => {
                let problem = format!("a board that was heard cannot be trusted: {err}");
                return self.trouble(LinkState::Foreign, from, now_ms, problem, false);
            }
        };
        if hello.key == self.identity.own_key {
            return self.own_key_heard(from, &hello, now_ms);
        }
        if hello.key != self.identity.peer_key {
            return self.stranger_heard(from, &hello, now_ms);
        }
        if hello.box_id != self.identity.box_id || hello.role != self.identity.role.peer() {
            let role = self.identity.role;
            let problem = format!(
                "the other board, `{}`, says that it is the {} board too: flash it with the \
                 provisioning file of the {} board",
                hello.host,
                hello.role,
                role.peer()
            );
            return self.trouble(LinkState::Conflict, from, now_ms, problem, true);
        }
        if !self.is_new(from, &hello, now_ms) {
            return Heard::Replay;
        }
        self.remember(from, hello.seq, now_ms);
        Heard::Peer
    }

    fn own_key_heard(&mut self, from: From, hello: &Hello, now_ms: u64) -> Heard {
        if hello.boot_id == self.identity.boot_id {
            return Heard::Echo;
        }
        let problem =
            "another board runs with this board's provisioning file: each board needs its \
                       own file of the pair, made by `cargo xtask provision`"
                .to_owned();
        self.trouble(LinkState::Conflict, from, now_ms, problem, true)
    }

    fn stranger_heard(&mut self, from: From, hello: &Hello, now_ms: u64) -> Heard {
        let (state, problem) = if hello.box_id != self.identity.box_id {
            let problem = format!(
                "only a board of another box was heard (`{}`): check where the cable ends",
                hello.host
            );
            (LinkState::Foreign, problem)
        } else if hello.role == self.identity.role {
            let problem = format!(
                "`{}` claims to be the {} board of this box with an unknown key: the two boards were \
                 flashed with files of different pairs",
                hello.host, hello.role
            );
            (LinkState::Conflict, problem)
        } else {
            let problem = format!(
                "`{}` belongs to this box by its name but not by its key: flash both boards with \
                 files of one pair",
                hello.host
            );
            (LinkState::Foreign, problem)
        };
        self.trouble(state, from, now_ms, problem, false)
    }

    fn trouble(
        &mut self,
        state: LinkState,
        from: From,
        now_ms: u64,
        problem: String,
        trusted: bool,
    ) -> Heard {
        let keep_old = self.trouble.as_ref().is_some_and(|old| {
            old.trusted && !trusted && now_ms.saturating_sub(old.at_ms) <= SILENT_MS_MAX
        });
        if !keep_old {
            let interface = from.interface;
            self.trouble = Some(Trouble { state, interface, at_ms: now_ms, problem, trusted });
        }
        Heard::Trouble
    }

    /// True when the hello is no replay: its number grew, or it is the copy of the newest one that
    /// arrives on another card at nearly the same time.
    fn is_new(&mut self, from: From, hello: &Hello, now_ms: u64) -> bool {
        if self.past_boots.contains(&hello.boot_id) {
            return false;
        }
        if let Some(newest) = &self.newest {
            if newest.boot_id != hello.boot_id {
                self.past_boots.push_back(newest.boot_id.clone());
                if self.past_boots.len() > PAST_BOOTS_MAX {
                    self.past_boots.pop_front();
                }
            } else if hello.seq == newest.seq {
                let seen_here = self
                    .paths
                    .iter()
                    .any(|path| path.from.interface == from.interface && path.seq == hello.seq);
                let late = self.heard_ms.is_none_or(|at| now_ms.saturating_sub(at) > COPY_MS_MAX);
                return !seen_here && !late;
            } else if hello.seq < newest.seq {
                return false;
            }
        }
        self.newest = Some(hello.clone());
        self.heard_ms = Some(now_ms);
        true
    }

    fn remember(&mut self, from: From, seq: u64, now_ms: u64) {
        self.paths.retain(|path| path.from.interface != from.interface);
        if self.paths.len() < PATHS_MAX {
            self.paths.push(Path { from, heard_ms: now_ms, seq });
        }
    }

    /// Lets time pass and chooses the card. `rank` is smaller for a better card: the cable between the
    /// boards, where no DHCP server answers, is better than the LAN.
    pub(crate) fn tick(&mut self, now_ms: u64, rank: impl Fn(u32) -> u32) {
        self.paths.retain(|path| now_ms.saturating_sub(path.heard_ms) <= SILENT_MS_MAX);
        let current = self.chosen.map(|from| from.interface);
        let best = self.paths.iter().min_by_key(|path| {
            let interface = path.from.interface;
            (rank(interface), u8::from(Some(interface) != current), interface)
        });
        // While lost, the last card is kept: that is where the other board is expected back.
        if let Some(path) = best {
            self.chosen = Some(path.from);
        }
        if self.trouble.as_ref().is_some_and(|t| now_ms.saturating_sub(t.at_ms) > SILENT_MS_MAX) {
            self.trouble = None;
        }
    }

    /// Index of the card that is the link; the last one while the other board is lost.
    pub(crate) fn interface(&self) -> Option<u32> {
        self.chosen.map(|from| from.interface)
    }

    /// What to publish. `name_of` gives the name of a card.
    pub(crate) fn status(
        &self,
        now_ms: u64,
        name_of: impl Fn(u32) -> Option<String>,
    ) -> LinkStatus {
        let silent_ms = self.heard_ms.map(|at| now_ms.saturating_sub(at));
        let mut status = LinkStatus {
            silent_ms,
            interface: self.chosen.and_then(|from| name_of(from.interface)),
            peer_address: self.chosen.map(|from| from.address.to_string()),
            peer_version: self.newest.as_ref().and_then(|hello| hello.version),
            peer_host: self.newest.as_ref().map(|hello| hello.host.clone()),
            ..LinkStatus::default()
        };
        let alive = silent_ms.is_some_and(|ms| ms <= SILENT_MS_MAX);
        let other = self.identity.role.peer();
        (status.state, status.problem) = match (&self.trouble, alive, silent_ms) {
            (Some(trouble), alive, _) if trouble.trusted || !alive => {
                if status.interface.is_none() {
                    status.interface = name_of(trouble.interface);
                }
                (trouble.state, Some(trouble.problem.clone()))
            }
            (_, true, _) => (LinkState::Up, None),
            (_, false, Some(ms)) => (LinkState::Lost, Some(lost_sentence(other, ms))),
            (_, false, None) => (
                LinkState::Searching,
                Some(format!(
                    "the {other} board was not heard yet: check that it is switched on and that the \
                     cable between the boards is plugged in at both ends"
                )),
            ),
        };
        status
    }
}

fn lost_sentence(other: Role, silent_ms: u64) -> String {
    let silent_s = silent_ms / 1_000;
    format!(
        "the {other} board has been silent for {silent_s} s: check its power and the cable between \
         the boards; the link comes back by itself"
    )
}

#[cfg(test)]
#[path = "link_tests.rs"]
mod tests;
