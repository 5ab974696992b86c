//! Connections: who may have one, and what it gets.

use crate::DbusError;
use crate::ask::Init;
use crate::init::{self, Init1};
use crate::unit::{self, Unit};
use crate::update::{self, Update1};
use crate::watch::{self, Known};
use goblin_core_types::{UnitStatus, paths};
use rustix::net::sockopt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio::sync::broadcast::error::RecvError;
use zbus::Connection;
use zbus::connection::Builder;

/// Most connections at once.
const CONNECTIONS_MAX: usize = 16;
/// Longest wait for a peer to say who it is.
const HANDSHAKE_LIMIT: Duration = Duration::from_secs(10);
/// Pause after a connection could not be taken for want of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);
/// Root's user id.
const ROOT: u32 = 0;

/// Where the agent listens and whom it asks.
#[derive(Debug, Clone)]
pub struct Places {
    /// Its own socket.
    pub socket: PathBuf,
    /// PID 1's control socket.
    pub init: PathBuf,
}

impl Default for Places {
    fn default() -> Self {
        Self { socket: paths::DBUS_SOCKET.into(), init: paths::INIT_SOCKET.into() }
    }
}

/// Runs the agent on a board until a fatal error.
///
/// # Errors
/// See [`DbusError`].
pub fn run() -> Result<(), DbusError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(DbusError::Start)?;
    runtime.block_on(serve(Places::default(), goblin_sys::notify::ready))
}

/// Serves these places; `ready` is called once peers can connect. Ends on a fatal error only.
///
/// # Errors
/// When the socket cannot be made.
pub async fn serve(places: Places, ready: impl FnOnce()) -> Result<(), DbusError> {
    let listen = |source| DbusError::Listen { path: places.socket.display().to_string(), source };
    let listener = bind(&places.socket).map_err(listen)?;
    let init = Init::at(places.init);
    let known = Known::new();
    tokio::spawn(watch::run(init.clone(), known.clone()));
    let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    ready();
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(err) => {
                tracing::warn!(err = err.to_string(), "cannot take a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let Some(uid) = peer(&stream).filter(|uid| is_allowed(*uid)) else {
            tracing::warn!(uid = peer(&stream), "a peer that may not speak to PID 1 is cut off");
            continue;
        };
        let Ok(seat) = room.clone().try_acquire_owned() else {
            tracing::warn!(uid, "too many connections");
            continue;
        };
        let (init, known) = (init.clone(), known.clone());
        tokio::spawn(async move {
            if let Err(err) = talk(stream, init, known).await {
                tracing::debug!(uid, err = err.to_string(), "connection ended");
            }
            drop(seat);
        });
    }
}

fn bind(path: &Path) -> std::io::Result<UnixListener> {
    let _ = std::fs::remove_file(path);
    let listener = UnixListener::bind(path)?;
    // Whoever may not connect is told so by the file system already.
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// User at the other end, as the kernel says (`SO_PEERCRED`, `unix(7)`).
fn peer(stream: &UnixStream) -> Option<u32> {
    sockopt::socket_peercred(stream).ok().map(|credentials| credentials.uid.as_raw())
}

fn is_allowed(uid: u32) -> bool {
    uid == ROOT || uid == rustix::process::geteuid().as_raw()
}

/// One connection to its end: objects first, then changes as they come.
async fn talk(stream: UnixStream, init: Init, known: Known) -> zbus::Result<()> {
    // Subscribed before the first look, so that nothing falls in between.
    let mut changes = known.changes();
    if let Ok(overview) = init.overview().await {
        known.take(overview.units);
    }
    let mut builder = Builder::unix_stream(stream.into_std()?)
        .server(zbus::Guid::generate())
        .p2p()
        .serve_at(init::PATH, Init1::new(init))
        .serve_at(update::PATH, Update1);
    for name in known.names() {
        builder = builder.serve_at(unit::path(&name)?, Unit::new(name, known.clone()));
    }
    let connection = match tokio::time::timeout(HANDSHAKE_LIMIT, builder.build()).await {
        Ok(connection) => connection?,
        Err(_) => return Err(zbus::Error::Handshake("not in time".into())),
    };
    loop {
        tokio::select! {
            change = changes.recv() => match change {
                Ok(unit) => tell(&connection, &unit).await?,
                Err(RecvError::Lagged(count)) => tracing::debug!(count, "changes left out"),
                Err(RecvError::Closed) => return Ok(()),
            },
            () = connection.closed() => return Ok(()),
        }
    }
}

async fn tell(connection: &Connection, status: &UnitStatus) -> zbus::Result<()> {
    let objects = connection.object_server();
    let manager = objects.interface::<_, Init1>(init::PATH).await?;
    let (phase, pid) = (unit::word(&status.phase), status.pid.unwrap_or_default());
    let emitter = manager.signal_emitter();
    Init1::unit_changed(emitter, &status.name, &phase, pid, &status.detail).await?;
    let Ok(object) = objects.interface::<_, Unit>(unit::path(&status.name)?).await else {
        // A unit that came later has no object on this connection.
        return Ok(());
    };
    let emitter = object.signal_emitter();
    let unit = object.get().await;
    unit.phase_changed(emitter).await?;
    unit.pid_changed(emitter).await?;
    unit.restarts_changed(emitter).await?;
    unit.detail_changed(emitter).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_root_and_the_agents_own_user_may_speak() {
        let own = rustix::process::geteuid().as_raw();
        assert!(is_allowed(ROOT) && is_allowed(own));
        assert!(!is_allowed(own.wrapping_add(1_000)));
    }

    #[tokio::test]
    async fn the_kernel_says_who_is_at_the_other_end() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        let listener = bind(&path).unwrap();
        let _client = std::os::unix::net::UnixStream::connect(&path).unwrap();
        let (stream, _) = listener.accept().await.unwrap();
        assert_eq!(peer(&stream), Some(rustix::process::geteuid().as_raw()));
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
}
