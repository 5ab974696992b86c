//! What the updater needs of the board around it, so that tests can stand in for it.

use crate::error::UpdateError;
use crate::esp::Guard;
use crate::feed::Ask;
use crate::pair::Peer;
use crate::peer::ControlTree;
use crate::stick::{self, Stick};
use goblin_core_types::{
    BoxId, InitReply, InitRequest, LinkState, LinkStatus, PoolStatus, Role, SlotStatus, TimeStatus,
    UpdateStatus, Version, WriteCount, Written, paths,
};
use goblin_sys::record::RecordPartition;
use goblin_sys::writer::{Counts, Writer};
use goblin_sys::{clock, state};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// Longest wait for PID 1's answer.
const INIT_WAIT: Duration = Duration::from_secs(10);
/// Longest answer of PID 1 that is read, in bytes.
const INIT_REPLY_BYTES_MAX: u64 = 64 << 10;

/// Where releases come from.
#[derive(Debug, Clone)]
pub struct Source {
    /// Address of the repository.
    pub url: String,
    /// Addresses of the same repository elsewhere.
    pub mirrors: Vec<String>,
    /// Proxy that all of them are asked over.
    pub proxy: Option<String>,
    /// Channel followed.
    pub channel: String,
    /// Text of the trust root.
    pub root: String,
}

/// Whose hands change the two places that the updater writes to, beside the boot record.
#[derive(Debug, Clone, Default)]
pub struct Writers {
    /// The ESP.
    pub esp: Writer,
    /// The store on STATE.
    pub state: Writer,
}

impl Writers {
    /// What was written since they were made.
    pub(crate) fn written(&self) -> Written {
        let count = |writer: &Writer| {
            let Counts { changes, bytes, syncs } = writer.counts();
            WriteCount { bytes, changes, syncs }
        };
        Written { esp: count(&self.esp), state: count(&self.state) }
    }

    /// What was written since `before`.
    pub(crate) fn written_since(&self, before: &Written) -> Written {
        let less = |now: WriteCount, then: WriteCount| WriteCount {
            bytes: now.bytes.saturating_sub(then.bytes),
            changes: now.changes.saturating_sub(then.changes),
            syncs: now.syncs.saturating_sub(then.syncs),
        };
        let Written { esp, state } = self.written();
        Written { esp: less(esp, before.esp), state: less(state, before.state) }
    }
}

/// The board around the updater.
#[derive(Debug)]
pub struct Env {
    /// The store on STATE.
    pub store: PathBuf,
    /// Root of the system that runs, where contents are taken from that it shares with the next.
    pub base: PathBuf,
    /// Mount point of the ESP.
    pub esp: PathBuf,
    /// How the ESP is mounted.
    pub guard: Guard,
    /// The boot record; absent when the board was not started by its loader.
    pub record: Option<RecordPartition>,
    /// Release that runs.
    pub running: Version,
    /// The loader counted this boot as a try.
    pub trial: bool,
    /// The box, whose place in the line for a release follows from it; absent while it is not provisioned.
    pub box_id: Option<BoxId>,
    /// What the board is for; absent while it is not provisioned.
    pub role: Option<Role>,
    /// Where releases come from; absent when provisioning names none.
    pub source: Option<Source>,
    /// Pause before a failed fetch is tried again.
    pub retry_pause: Duration,
    /// Room left on STATE for everyone else, in bytes.
    pub spare_bytes: u64,
    /// What changes files, and counts what it writes.
    pub writers: Writers,
    /// Clock, neighbours, PID 1, status.
    pub hooks: Box<dyn Hooks>,
}

/// What the updater asks of the rest of the board, and tells it.
pub trait Hooks: Send + std::fmt::Debug {
    /// Seconds since 1970 by the board's clock.
    fn now_unix_s(&self) -> u64;
    /// True when a time server or the other board agreed with the clock.
    fn clock_is_sure(&self) -> bool;
    /// True while the other board answers.
    fn peer_in_sight(&self) -> bool;
    /// True while the storage board, be it this one or the other, says that its pool cannot be had. False
    /// also where it cannot be asked.
    fn pool_missing(&self, role: Option<Role>) -> bool;
    /// Minute of the day by the board's time zone; `None` while the clock is not sure.
    fn local_minute(&self) -> Option<u16>;
    /// Opens the one stick that holds a release folder; it is let go when the answer is dropped.
    ///
    /// # Errors
    /// [`UpdateError::Stick`].
    fn stick(&self) -> Result<Box<dyn Stick>, UpdateError>;
    /// The other board as a place where the repository lies.
    fn other_board(&self) -> Arc<dyn Ask>;
    /// Asks PID 1 to reboot.
    ///
    /// # Errors
    /// What PID 1 answered, or why it could not be asked.
    fn reboot(&self, reason: &str) -> Result<(), String>;
    /// Shows the updater's part of the status.
    fn publish(&self, update: &UpdateStatus, slots: &[SlotStatus]);
}

/// The hooks of a running board.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BoardHooks;

impl Hooks for BoardHooks {
    fn now_unix_s(&self) -> u64 {
        clock::now_unix().as_secs()
    }

    fn clock_is_sure(&self) -> bool {
        state::read::<TimeStatus>("time").is_some_and(|time| time.synced)
    }

    fn peer_in_sight(&self) -> bool {
        state::read::<LinkStatus>("link").is_some_and(|link| link.state == LinkState::Up)
    }

    fn pool_missing(&self, role: Option<Role>) -> bool {
        let pool = match role {
            Some(Role::Storage) => state::read::<PoolStatus>("pool"),
            // Its shares cannot be mounted here either.
            Some(Role::Compute) if self.peer_in_sight() => {
                ControlTree.status().ok().and_then(|storage| storage.pool)
            }
            Some(Role::Compute) | None => None,
        };
        pool.is_some_and(|pool| pool.state.cannot_be_had())
    }

    fn local_minute(&self) -> Option<u16> {
        let time = state::read::<TimeStatus>("time").filter(|time| time.synced)?;
        let zone = jiff::tz::TimeZone::get(&time.zone).ok()?;
        let now = i64::try_from(self.now_unix_s()).ok()?;
        let local = jiff::Timestamp::from_second(now).ok()?.to_zoned(zone);
        let (hour, minute) = (u16::try_from(local.hour()), u16::try_from(local.minute()));
        hour.ok()?.checked_mul(60)?.checked_add(minute.ok()?)
    }

    fn stick(&self) -> Result<Box<dyn Stick>, UpdateError> {
        stick::open()
    }

    fn other_board(&self) -> Arc<dyn Ask> {
        Arc::new(ControlTree)
    }

    fn reboot(&self, reason: &str) -> Result<(), String> {
        let request = InitRequest::Reboot { reason: reason.into() };
        match ask_init(&request) {
            Ok(InitReply::Refused { message }) => Err(message),
            Ok(_) => Ok(()),
            Err(err) => Err(err.to_string()),
        }
    }

    fn publish(&self, update: &UpdateStatus, slots: &[SlotStatus]) {
        let written = state::write("update", update).and_then(|()| state::write("slots", &slots));
        if let Err(err) = written {
            tracing::warn!(%err, "the updater's status cannot be shown");
        }
    }
}

fn ask_init(request: &InitRequest) -> std::io::Result<InitReply> {
    let mut socket = UnixStream::connect(paths::INIT_SOCKET)?;
    socket.set_read_timeout(Some(INIT_WAIT))?;
    socket.set_write_timeout(Some(INIT_WAIT))?;
    let mut line = serde_json::to_vec(request)?;
    line.push(b'\n');
    socket.write_all(&line)?;
    let mut answer = String::new();
    BufReader::new(socket.take(INIT_REPLY_BYTES_MAX)).read_line(&mut answer)?;
    Ok(serde_json::from_str(&answer)?)
}
