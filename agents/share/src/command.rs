//! The agent's own socket: one [`ShareCommand`] line in, one [`ShareReply`] line out. The control tree
//! leads to it, so that the compute board's command line does.

use crate::gate::{Changed, Gate, GateError};
use goblin_core_ninep::Stream;
use goblin_core_trust::AccessError;
use goblin_core_trust::door::Invitation;
use goblin_core_types::{AccessChange, May, NetStatus, ShareCommand, ShareReply};
use goblin_sys::lines::LineBuffer;
use goblin_sys::socket::{Listener, Socket};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tracing::{info, warn};

/// Longest command line in bytes.
const LINE_BYTES_MAX: usize = 4096;
/// Longest wait for the line.
const LINE_LIMIT: Duration = Duration::from_secs(5);
/// Programs that ask at one time.
const CONNECTIONS_MAX: usize = 8;

/// Answers commands until the socket breaks.
///
/// # Errors
/// When the socket cannot be made or listened on.
pub fn listen(path: &Path, gate: Arc<Gate>) -> std::io::Result<std::convert::Infallible> {
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent)?;
    }
    let listener = Listener::unix(path, 0o600)?;
    let full = |peer| warn!(?peer, "too many programs ask the file server");
    listener.serve(CONNECTIONS_MAX, full, move |socket, _| answer(&socket, &gate))
}

fn answer(socket: &Socket, gate: &Gate) {
    if socket.set_limits(Some(LINE_LIMIT), Some(LINE_LIMIT)).is_err() {
        return;
    }
    let Some(line) = read_line(socket) else { return };
    let reply = match serde_json::from_slice::<ShareCommand>(&line) {
        Ok(command) => carry_out(command, gate),
        Err(err) => failed("refused", &format!("the command cannot be read: {err}")),
    };
    let Ok(mut bytes) = serde_json::to_vec(&reply) else { return };
    bytes.push(b'\n');
    // Whoever asked may have gone.
    let _ = socket.write_all(&bytes);
}

fn read_line(socket: &Socket) -> Option<Vec<u8>> {
    let mut lines = LineBuffer::new(LINE_BYTES_MAX);
    let mut chunk = [0; 512];
    loop {
        let got = Stream::read(socket, &mut chunk).ok().filter(|got| *got > 0)?;
        lines.push(chunk.get(..got)?);
        if let Some(line) = lines.next_line().ok()? {
            return Some(line.to_vec());
        }
    }
}

fn failed(kind: &str, message: &str) -> ShareReply {
    ShareReply::Failed { kind: kind.into(), message: message.into() }
}

fn refused(err: &GateError) -> ShareReply {
    let kind = match err {
        GateError::File { .. } | GateError::Shelf(_) => "storage",
        GateError::Access(
            AccessError::NotFound { .. }
            | AccessError::NoShare { .. }
            | AccessError::NoGroup { .. }
            | AccessError::NoRule { .. },
        ) => "not-found",
        GateError::Access(
            AccessError::Exists { .. }
            | AccessError::GroupExists { .. }
            | AccessError::ShareExists { .. },
        ) => "exists",
        GateError::Wait(_) | GateError::Access(AccessError::Full | AccessError::TooMany) => "full",
        _ => "refused",
    };
    failed(kind, &err.to_string())
}

pub(crate) fn carry_out(command: ShareCommand, gate: &Gate) -> ShareReply {
    let done = |message: String| ShareReply::Done { message, undo: None };
    let result = match command {
        ShareCommand::AddClient { name, user } => {
            gate.invite(&Invitation { name, user }).map(|(code, life_ms)| {
                info!(slot = code.slot(), "a code waits");
                let life_s = life_ms.checked_div(1000).unwrap_or(0);
                ShareReply::Code { code: code.to_string(), life_s, address: address() }
            })
        }
        ShareCommand::ListClients => Ok(gate.list()),
        ShareCommand::RevokeClient { name } => gate.revoke(&name).map(|cut| {
            info!(client = name, connections = cut, "client revoked");
            done(format!("{name} is not enrolled any more; {cut} connections were cut"))
        }),
        ShareCommand::SetRight { user, share, may } => {
            changed(gate, &AccessChange::SetRight { who: user, share, may })
        }
        ShareCommand::Change { change } => changed(gate, &change),
        ShareCommand::ListRights => Ok(gate.rights()),
    };
    result.unwrap_or_else(|err| refused(&err))
}

fn changed(gate: &Gate, change: &AccessChange) -> Result<ShareReply, GateError> {
    let Changed { undo, cut } = gate.change(change)?;
    let Some(undo) = undo else {
        return Ok(ShareReply::Done { message: "it is so already".into(), undo: None });
    };
    info!(change = change.command(), connections = cut, "rights changed");
    let cut = match cut {
        0 => String::new(),
        some => format!("; {some} connections were cut, so that it holds at once"),
    };
    let message = format!("{}{cut}", said(change));
    Ok(ShareReply::Done { message, undo: Some(undo.command()) })
}

fn said(change: &AccessChange) -> String {
    let who = |who: &str| match (who, who.strip_prefix('@')) {
        ("*", _) => "everyone without another rule".to_owned(),
        (_, Some(group)) => format!("the group {group}"),
        (user, None) => user.to_owned(),
    };
    match change {
        AccessChange::AddShare { name, read_only } => {
            format!("{name} is served{}", if *read_only { ", to be read only" } else { "" })
        }
        AccessChange::RemoveShare { name } => {
            format!("{name} is not served any more; its files stay on the pool")
        }
        AccessChange::SetRight { who: user, share, may } => match may {
            May::Nothing => format!("{} may not use {share}", who(user)),
            may => format!("{} may {} in {share}", who(user), may.as_str()),
        },
        AccessChange::ClearRight { who: user, share } => {
            format!("no rule of {share} names {} any more", who(user))
        }
        AccessChange::AddGroup { name, users } => match users.len() {
            0 => format!("there is a group {name}, without users"),
            _ => format!("there is a group {name} of {}", users.join(", ")),
        },
        AccessChange::RemoveGroup { name } => format!("there is no group {name} any more"),
        AccessChange::Join { group, users } => format!("{} belong to {group}", users.join(", ")),
        AccessChange::Leave { group, users } => {
            format!("{} do not belong to {group}", users.join(", "))
        }
    }
}

/// Where a PC reaches this board.
fn address() -> Option<String> {
    let net: NetStatus = goblin_sys::state::read("net")?;
    net.lan_addresses.into_iter().next()
}
