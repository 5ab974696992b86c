//! The updater as a service: its socket, its threads, and the bless task.

use crate::env::{BoardHooks, Env, Source, Writers};
use crate::error::UpdateError;
use crate::esp::Guard;
use crate::feed::Feeder;
use crate::pair::Leader;
use crate::peer::ControlTree;
use crate::store::SPARE_BYTES;
use crate::unasked::Unasked;
use crate::updater::{self, Updater};
use goblin_core_types::{Role, UpdateCommand, UpdateReply, paths};
use goblin_core_update::machine::Refused;
use goblin_sys::provision::LoadError;
use goblin_sys::socket::{Listener, Socket};
use goblin_sys::{board, efivar, notify, provision, record};
use std::io::{BufRead, BufReader, BufWriter, Read, Write};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, TryLockError};
use std::time::{Duration, Instant};

/// Conversations at one time.
const CONNECTIONS_MAX: usize = 16;
/// Longest command line in bytes.
const COMMAND_BYTES_MAX: u64 = 4096;
/// Conversations about release files at one time.
const FEEDS_MAX: usize = 4;
/// Longest line that asks for release files, in bytes; the longest that the control tree brings.
const REQUEST_BYTES_MAX: u64 = 64 << 10;
/// Longest wait for the other board to take a piece: it writes what came to its disk in between.
const FEED_PATIENCE: Duration = Duration::from_secs(150);
/// Bytes of release files sent at once.
const FEED_PIECE_BYTES: usize = 64 << 10;
/// Longest wait for a command, and for a reader of replies.
const PATIENCE: Duration = Duration::from_secs(30);
/// Pause between two looks at the trial, the plan for both boards, and the storage board.
const TICK: Duration = Duration::from_secs(2);
/// Longest time for which such a look, or a short command, keeps others waiting and not away.
const LOOK_MAX: Duration = Duration::from_secs(3);
/// Pause between two tries to have the updater.
const LOCK_PAUSE: Duration = Duration::from_millis(20);
/// Pause before a failed fetch is tried again.
const RETRY_PAUSE: Duration = Duration::from_secs(1);

fn environment() -> Result<Env, UpdateError> {
    let running = board::release().version.ok_or_else(|| UpdateError::Store {
        path: paths::RELEASE.into(),
        source: std::io::Error::new(std::io::ErrorKind::InvalidData, "it names no version"),
    })?;
    let provision = match provision::load() {
        Ok(provision) => Some(provision),
        Err(LoadError::NotProvisioned) => None,
        Err(err) => {
            // Releases can still be rolled back and settled without it.
            tracing::error!(%err, "running without provisioning");
            None
        }
    };
    let record = record::find().unwrap_or_else(|err| {
        tracing::error!(%err, "the boot record cannot be opened; releases cannot be changed");
        None
    });
    Ok(Env {
        store: paths::UPDATE_STORE.into(),
        base: "/".into(),
        esp: paths::ESP.into(),
        guard: Guard::ReadOnly,
        record,
        running,
        trial: efivar::loader_boot_count_path().is_some(),
        box_id: provision.as_ref().map(|provision| provision.the_box.id),
        role: provision.as_ref().map(|provision| provision.role),
        source: provision.and_then(|provision| provision.update).map(|update| Source {
            url: update.url,
            mirrors: update.mirrors,
            proxy: update.proxy,
            channel: update.channel,
            root: update.root,
        }),
        retry_pause: RETRY_PAUSE,
        spare_bytes: SPARE_BYTES,
        writers: Writers::default(),
        hooks: Box::new(BoardHooks),
    })
}

/// Runs the updater: settles an earlier upgrade, then serves [`paths::UPDATE_SOCKET`].
///
/// # Errors
/// Only when the socket cannot be served or the base image does not say its version; PID 1 starts it
/// again.
pub fn run() -> Result<(), UpdateError> {
    let env = environment()?;
    let leads = env.role == Some(Role::Compute);
    let updater = Updater::start(env);
    let feeder = leads.then(|| updater.feeder());
    let updater = Arc::new(Mutex::new(updater));
    let socket = Path::new(paths::UPDATE_SOCKET);
    let broken = |source| UpdateError::Store { path: socket.to_owned(), source };
    let listener = Listener::unix(socket, 0o600).map_err(broken)?;
    let watched = updater.clone();
    std::thread::Builder::new()
        .name("watch".into())
        .spawn(move || watch(&watched, leads))
        .map_err(broken)?;
    if let Some(feeder) = feeder {
        feed(feeder).map_err(broken)?;
    }
    notify::ready();
    // Whatever an upgrade takes: its lock is not asked for. No command at all is refused at once.
    notify::ping_while_answering(socket, b"").map_err(broken)?;
    listener
        .serve(
            CONNECTIONS_MAX,
            |peer| tracing::warn!(?peer, "too many conversations, one was refused"),
            move |socket, _| {
                if let Err(err) = converse(&updater, &socket) {
                    tracing::debug!(%err, "a conversation ended early");
                }
            },
        )
        .map_err(broken)?;
    Ok(())
}

/// Gives release files to the storage board, beside the orders: it asks while this board leads both.
fn feed(feeder: Arc<Feeder>) -> std::io::Result<()> {
    let listener = Listener::unix(Path::new(paths::RELEASES_SOCKET), 0o600)?;
    let answer = move |socket: Arc<Socket>, _| {
        let answered = (|| {
            socket.set_limits(Some(PATIENCE), Some(FEED_PATIENCE))?;
            let mut line = Vec::new();
            let limit = REQUEST_BYTES_MAX;
            BufReader::new(socket.try_clone()?.take(limit)).read_until(b'\n', &mut line)?;
            let mut out = BufWriter::with_capacity(FEED_PIECE_BYTES, socket.try_clone()?);
            feeder.answer(&line, &mut out)?;
            out.flush()
        })();
        if let Err(err) = answered {
            tracing::warn!(%err, "release files for the other board were cut off");
        }
    };
    let serve = move || {
        let full = |peer| tracing::warn!(?peer, "too many askers for release files");
        let Err(err) = listener.serve(FEEDS_MAX, full, answer);
        tracing::error!(%err, "release files are not given to the other board any more");
    };
    std::thread::Builder::new().name("feed".into()).spawn(serve).map(drop)
}

/// Blesses the running release; the task that PID 1 runs once a trial's checks have passed.
///
/// # Errors
/// [`UpdateError`]; PID 1 starts it again, and without it the next boot is one more try.
pub fn run_bless() -> Result<(), UpdateError> {
    let env = environment()?;
    updater::bless(&env)?;
    tracing::info!(version = %env.running, "the running release is blessed");
    Ok(())
}

/// The updater, unless somebody else has it for longer than a look takes.
///
/// An operation that panicked is over; what it left is settled like after a power cut, so its lock is
/// taken over.
fn lock<T>(updater: &Mutex<T>) -> Result<MutexGuard<'_, T>, Refused> {
    let until = Instant::now() + LOOK_MAX;
    loop {
        match updater.try_lock() {
            Ok(guard) => return Ok(guard),
            Err(TryLockError::Poisoned(poisoned)) => return Ok(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) if Instant::now() < until => {
                std::thread::sleep(LOCK_PAUSE);
            }
            Err(TryLockError::WouldBlock) => return Err(Refused::Busy),
        }
    }
}

/// Looks at the trial and at the plan for both boards for ever.
fn watch(updater: &Mutex<Updater>, leads: bool) {
    let mut unasked = Unasked::default();
    loop {
        if let Ok(mut updater) = lock(updater) {
            updater.tick();
            if !updater.on_trial() {
                updater.resume_intent();
                if leads {
                    Leader::new(&mut updater, &mut ControlTree, TICK).resume();
                    unasked.tick(&mut updater, &mut ControlTree, TICK);
                }
            }
        }
        std::thread::sleep(TICK);
    }
}

/// One conversation: a command line in, reply lines out.
fn converse(updater: &Mutex<Updater>, socket: &Socket) -> std::io::Result<()> {
    socket.set_limits(Some(PATIENCE), Some(PATIENCE))?;
    let mut line = Vec::new();
    let mut reader = BufReader::new(socket.try_clone()?.take(COMMAND_BYTES_MAX));
    reader.read_until(b'\n', &mut line)?;
    let mut out = Some(socket.try_clone()?);
    let mut replies = |reply: UpdateReply| {
        // Whoever asked may leave, or stop reading; the operation goes on without waiting for them, and
        // the status tells how it ended.
        let Ok(mut line) = serde_json::to_vec(&reply) else { return };
        line.push(b'\n');
        if out.as_mut().is_some_and(|out| out.write_all(&line).is_err()) {
            out = None;
        }
    };
    let command: UpdateCommand = match serde_json::from_slice(&line) {
        Ok(command) => command,
        Err(err) => {
            let message = format!("the command cannot be read: {err}");
            replies(UpdateReply::Failed { kind: "refused".into(), message });
            return Ok(());
        }
    };
    tracing::info!(?command, "update command");
    let locked = lock(updater).map(|mut updater| {
        // Everybody else may know already that the trial passed.
        if updater.on_trial() {
            updater.tick();
        }
        updater
    });
    match locked {
        Err(busy) => replies(UpdateError::from(busy).reply()),
        Ok(mut updater) => match command {
            UpdateCommand::UpgradePair { .. }
            | UpdateCommand::RollbackPair { .. }
            | UpdateCommand::FactoryResetPair { .. } => {
                let mut peer = ControlTree;
                Leader::new(&mut updater, &mut peer, TICK).command(&command, &mut replies);
            }
            _ => updater.command(&command, &mut replies),
        },
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    #[test]
    fn a_short_look_holds_nobody_off_and_an_operation_does() {
        let updater = Mutex::new(());
        let (has, held) = mpsc::channel();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let guard = updater.lock().unwrap();
                has.send(()).unwrap();
                std::thread::sleep(LOCK_PAUSE * 3);
                drop(guard);
            });
            held.recv().unwrap();
            assert!(lock(&updater).is_ok());
        });
        let _guard = updater.lock().unwrap();
        std::thread::scope(|scope| {
            let second = scope.spawn(|| lock(&updater).map(drop).unwrap_err());
            assert!(matches!(second.join().unwrap(), Refused::Busy));
        });
    }
}
