//! What a person wants of the system disks: taken on a socket, written down, and carried out by the keeper.

use crate::PoolError;
use crate::mirror_disk::{by_serial, failed};
use goblin_core_types::{DisksCommand, DisksReply, MirrorState, MirrorStatus, paths};
use goblin_core_update::mirror::{Standing, standing};
use goblin_sys::block::{self, Disk};
use goblin_sys::socket::{Listener, Socket};
use goblin_sys::{files, mirror as disks, provision, state};
use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::SyncSender;
use std::time::Duration;

/// Conversations at one time.
const CONNECTIONS_MAX: usize = 4;
/// Longest command line and longest note of it, in bytes.
const LINE_BYTES_MAX: u64 = 1024;
/// Longest wait for a command, and for its reader.
const PATIENCE: Duration = Duration::from_secs(10);

/// What the board shall have.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Wanted {
    /// Serial of the disk that shall be the mirror.
    pub(crate) serial: Option<String>,
    /// A person wants one system disk again.
    pub(crate) is_given_up: bool,
}

/// As a person said, else as the provisioning file says.
pub(crate) fn wanted() -> Wanted {
    let bytes = usize::try_from(LINE_BYTES_MAX).unwrap_or(usize::MAX);
    let said = files::read_bounded(Path::new(paths::SYSTEM_MIRROR), bytes).ok();
    match said.and_then(|bytes| serde_json::from_slice::<Option<String>>(&bytes).ok()) {
        Some(serial) => Wanted { is_given_up: serial.is_none(), serial },
        None => {
            let serial = provision::load().ok().and_then(|file| file.disk.system_mirror);
            Wanted { serial, is_given_up: false }
        }
    }
}

/// Takes commands; each one that is written down wakes the keeper.
pub(crate) fn listen(wake: SyncSender<()>) -> Result<(), PoolError> {
    const WHAT: &str = "orders about the system disks cannot be taken";
    let listener = Listener::unix(Path::new(paths::DISKS_SOCKET), 0o600).map_err(failed(WHAT))?;
    let serve = move || {
        let full = |peer| tracing::warn!(?peer, "too many ask about the system disks");
        let Err(err) = listener.serve(CONNECTIONS_MAX, full, move |socket, _| {
            if let Err(err) = converse(&socket, &wake) {
                tracing::debug!(%err, "a conversation ended early");
            }
        });
        tracing::error!(%err, "orders about the system disks are not taken any more");
    };
    let thread = std::thread::Builder::new().name("orders".into()).spawn(serve);
    thread.map(drop).map_err(failed(WHAT))
}

fn converse(socket: &Arc<Socket>, wake: &SyncSender<()>) -> std::io::Result<()> {
    socket.set_limits(Some(PATIENCE), Some(PATIENCE))?;
    let mut line = Vec::new();
    BufReader::new(socket.try_clone()?.take(LINE_BYTES_MAX)).read_until(b'\n', &mut line)?;
    let reply = match serde_json::from_slice::<DisksCommand>(&line) {
        Ok(command) => carry_out(&command),
        Err(err) => refused(format!("the command cannot be read: {err}")),
    };
    if matches!(reply, DisksReply::Done { .. }) {
        // A full channel: it is woken anyway.
        let _ = wake.try_send(());
    }
    let mut bytes = serde_json::to_vec(&reply)?;
    bytes.push(b'\n');
    socket.try_clone()?.write_all(&bytes)
}

fn refused(message: String) -> DisksReply {
    DisksReply::Failed { kind: "refused".into(), message }
}

fn carry_out(command: &DisksCommand) -> DisksReply {
    let storage = |err: std::io::Error| DisksReply::Failed {
        kind: "storage".into(),
        message: format!("{err}; look at the disk's health in `goblin status`"),
    };
    let checked = block::disks().and_then(|all| Ok((disks::system_disk()?, all)));
    let (booted, all) = match checked {
        Ok((Some(booted), all)) => (booted, all),
        Ok((None, _)) => {
            return refused("this board was not started from a system disk".into());
        }
        Err(err) => return storage(err),
    };
    let now = state::read::<MirrorStatus>("disks").unwrap_or_default();
    let (serial, message) = match decide(command, &now, &booted, &all) {
        Ok(decided) => decided,
        Err(reply) => return reply,
    };
    let written = serde_json::to_vec(&serial)
        .map_err(std::io::Error::from)
        .and_then(|bytes| files::replace(Path::new(paths::SYSTEM_MIRROR), &bytes, 0o600));
    written.map_or_else(storage, |()| DisksReply::Done { message })
}

/// The serial to write down, and what to answer.
fn decide(
    command: &DisksCommand,
    now: &MirrorStatus,
    booted: &Disk,
    all: &[Disk],
) -> Result<(Option<String>, String), DisksReply> {
    if let (MirrorState::InStep | MirrorState::Making, Some(other)) = (now.state, &now.other) {
        return Err(refused(format!(
            "disk {other} is the mirror now; take it out first, and say this again"
        )));
    }
    let DisksCommand::Mirror { serial } = command else {
        let message = "the board is taken back to one system disk; `goblin disks` says when it is";
        return Ok((None, message.into()));
    };
    let Some(disk) = by_serial(all, serial, booted) else {
        let others: Vec<&str> = all
            .iter()
            .filter(|disk| disk.name != booted.name)
            .filter_map(|disk| disk.serial.as_deref())
            .collect();
        let message = match others.as_slice() {
            [] => format!("no disk {serial} is there, nor any other beside the system disk"),
            others => format!("no disk {serial} is there; there are: {}", others.join(", ")),
        };
        return Err(DisksReply::Failed { kind: "not-found".into(), message });
    };
    let label = |disk: &Disk| disks::label_of(disk).ok().flatten();
    let is_older = label(booted)
        .zip(label(&disk))
        .is_some_and(|(ours, theirs)| standing(&ours, &theirs) == Standing::Ahead);
    if !disk.partitions.is_empty() && !is_older {
        return Err(refused(format!(
            "disk {serial} is not blank and is not touched: erase it elsewhere if nothing on it is needed"
        )));
    }
    Ok((
        Some(serial.clone()),
        format!("disk {serial} becomes the mirror; `goblin disks` says how far it is"),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn disk(name: &str, partitions: usize) -> Disk {
        let partition = block::Partition {
            name: format!("{name}1"),
            dev_path: format!("/nowhere/{name}1").into(),
            number: 1,
            part_name: None,
            part_uuid: None,
            start_sector: 0,
            sectors: 0,
        };
        Disk {
            name: name.into(),
            dev_path: format!("/nowhere/{name}").into(),
            serial: Some(name.to_uppercase()),
            model: String::new(),
            size_bytes: 0,
            removable: false,
            partitions: vec![partition; partitions],
        }
    }

    #[test]
    fn only_a_blank_disk_beside_the_system_disk_is_taken() {
        let all = [disk("a", 3), disk("b", 0), disk("c", 1)];
        let alone = MirrorStatus { state: MirrorState::Alone, ..MirrorStatus::default() };
        let ask = |now: &MirrorStatus, serial: &str| {
            let command = DisksCommand::Mirror { serial: serial.into() };
            match decide(&command, now, &all[0], &all) {
                Ok((serial, _)) => serial.unwrap(),
                Err(DisksReply::Failed { kind, message }) => format!("{kind}: {message}"),
                Err(done) => panic!("{done:?}"),
            }
        };
        assert_eq!(ask(&alone, "B"), "B");
        assert!(ask(&alone, "A").starts_with("not-found: no disk A is there; there are: B, C"));
        assert!(ask(&alone, "C").starts_with("refused: disk C is not blank"));
        let other = Some("X".into());
        let whole = MirrorStatus { state: MirrorState::InStep, other, ..alone.clone() };
        assert!(ask(&whole, "B").starts_with("refused: disk X is the mirror now"));
        assert_eq!(decide(&DisksCommand::Forget, &alone, &all[0], &all).unwrap().0, None);
        assert!(decide(&DisksCommand::Forget, &whole, &all[0], &all).is_err());
    }
}
