//! A program that knows PID 1 and the updater only by D-Bus, on a board of the release under test: it reads, orders,
//! waits for signals, and is refused what it may not have. One line for the unit's log: `bus ok ..` or
//! `bus FAILED: why`.

use futures_util::StreamExt;
use goblin_core_types::{UpdateStatus, paths};
use std::collections::HashMap;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::time::Duration;
use zbus::{Connection, OwnedObjectPath, OwnedVariant, Proxy, fdo};

/// Longest wait for a signal, or for a unit to be as ordered.
const PATIENCE: Duration = Duration::from_secs(60);
/// Between two looks.
const LOOK: Duration = Duration::from_millis(100);
const INIT: (&str, &str) = ("/org/goblinux/Init1", "org.goblinux.Init1");
const UPDATE: (&str, &str) = ("/org/goblinux/Update1", "org.goblinux.Update1");
/// A unit that a board can do without for a moment.
const UNIT: &str = "time";
/// Its object.
const OBJECT: (&str, &str) = ("/org/goblinux/Init1/unit/time", "org.goblinux.Init1.Unit");
/// A user that has nothing on a board.
const NOBODY: u32 = 65_534;

type Judged<T> = Result<T, Box<dyn std::error::Error>>;
/// A unit in the list: name, description, object, phase, process, restarts, detail.
type Listed = (String, String, OwnedObjectPath, String, u32, u32, String);

/// Looks at everything once.
pub(crate) fn judge() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let judged = runtime.map_err(Into::into).and_then(|runtime| runtime.block_on(look()));
    match judged {
        Ok(said) => println!("bus ok {said}"),
        Err(err) => println!("bus FAILED: {err}"),
    }
}

/// Tries the door as another user.
pub(crate) fn stranger() {
    let code = match UnixStream::connect(paths::DBUS_SOCKET) {
        Err(err) if err.kind() == std::io::ErrorKind::PermissionDenied => 0,
        _ => 1,
    };
    std::process::exit(code)
}

async fn look() -> Judged<String> {
    let stream = UnixStream::connect(paths::DBUS_SOCKET)?;
    let connection = zbus::connection::Builder::unix_stream(stream).p2p().build().await?;
    let init = proxy(&connection, INIT).await?;
    let units: Vec<Listed> = init.call("ListUnits", &()).await?;
    let listed = |name: &str| {
        units.iter().find(|unit| unit.0 == name).ok_or(format!("{name} is not in {units:?}"))
    };
    let (control, unit) = (listed("control")?, listed(UNIT)?);
    if control.3 != "ready" || control.4 == 0 {
        return Err(format!("control is {control:?}").into());
    }
    let shown: HashMap<String, OwnedVariant> = init.call("ShowUnit", &("control",)).await?;
    let pid = shown.get("Pid").cloned().ok_or("no pid")?;
    if u32::try_from(pid)? != control.4 {
        return Err(format!("control has two processes: {shown:?}, {control:?}").into());
    }
    let (before, after) = restarted(&connection, &init).await?;
    ordered(&connection, &init, "StopUnit", "off").await?;
    ordered(&connection, &init, "StartUnit", "ready").await?;
    refused(&init).await?;
    if init.get_property::<bool>("Trial").await? {
        return Err("a board that is not on trial says that it is".into());
    }
    let update = proxy(&connection, UPDATE).await?;
    let text: String = update.call("Status", &()).await?;
    let status: UpdateStatus = serde_json::from_str(&text)?;
    let life: String = update.get_property("Life").await?;
    if life != status.life.state.as_str() {
        return Err(format!("the updater is {life} and {:?}", status.life).into());
    }
    let stranger = Command::new("/proc/self/exe").args(["bus", "stranger"]).uid(NOBODY).status()?;
    if !stranger.success() {
        return Err("any user comes to the door".into());
    }
    Ok(format!(
        "{} units, {} restarted from {before} to {after}, updater {life}",
        units.len(),
        unit.0
    ))
}

/// Without a bus nobody has a name: any stands for the other end.
async fn proxy(
    connection: &Connection,
    object: (&'static str, &'static str),
) -> Judged<Proxy<'static>> {
    Ok(Proxy::new(connection, "org.goblinux", object.0, object.1).await?)
}

/// A restart is heard as a signal with another process, and the unit's object has that one.
async fn restarted(connection: &Connection, init: &Proxy<'_>) -> Judged<(u32, u32)> {
    let before: u32 = proxy(connection, OBJECT).await?.get_property("Pid").await?;
    let mut changes = init.receive_signal("UnitChanged").await?;
    let _: () = init.call("RestartUnit", &(UNIT,)).await?;
    let after = tokio::time::timeout(PATIENCE, async {
        while let Some(change) = changes.next().await {
            let (name, phase, pid, _): (String, String, u32, String) =
                change.body().deserialize()?;
            if name == UNIT && phase == "ready" && pid != before {
                return zbus::Result::Ok(pid);
            }
        }
        Err(zbus::Error::Failure("the connection ended".into()))
    })
    .await??;
    // The signal and the property are of one moment; a proxy of before may hold an older one.
    let now: u32 = proxy(connection, OBJECT).await?.get_property("Pid").await?;
    if now == after { Ok((before, after)) } else { Err(format!("{now} is not {after}").into()) }
}

async fn ordered(
    connection: &Connection,
    init: &Proxy<'_>,
    order: &str,
    wanted: &str,
) -> Judged<()> {
    let _: () = init.call(order, &(UNIT,)).await?;
    let reached = async {
        loop {
            let object = proxy(connection, OBJECT).await?;
            let phase: String = object.get_property("Phase").await?;
            if phase == wanted {
                return Judged::Ok(());
            }
            tokio::time::sleep(LOOK).await;
        }
    };
    tokio::time::timeout(PATIENCE, reached)
        .await
        .map_err(|_| format!("{order}: {UNIT} does not become {wanted}"))?
}

/// A unit that is not there, and one that must not be stopped.
async fn refused(init: &Proxy<'_>) -> Judged<()> {
    for (order, unit) in [("StartUnit", "nobody"), ("StopUnit", "control")] {
        let refused: zbus::Result<()> = init.call(order, &(unit,)).await;
        match refused.map_err(fdo::Error::from) {
            Err(fdo::Error::InvalidArgs(why)) if why.contains(unit) => {}
            other => return Err(format!("{order} {unit}: {other:?}").into()),
        }
    }
    Ok(())
}
