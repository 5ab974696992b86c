//! A program that speaks D-Bus, the agent, and a stand-in for PID 1.

use futures_util::StreamExt;
use goblin_agent_dbus::{Places, serve};
use goblin_core_types::{InitReply, InitRequest, UnitDetail, UnitKind, UnitPhase, UnitStatus};
use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use zbus::{Connection, OwnedVariant, Proxy};

/// Longest wait for anything.
const LIMIT: Duration = Duration::from_secs(60);

/// What the stand-in was told, and what it says.
#[derive(Debug, Default)]
struct Board {
    orders: Vec<InitRequest>,
    units: Vec<UnitStatus>,
}

fn unit(name: &str, phase: UnitPhase) -> UnitStatus {
    UnitStatus {
        name: name.into(),
        description: format!("The {name}"),
        phase,
        pid: (phase == UnitPhase::Ready).then_some(42),
        restarts: 1,
        detail: "why".into(),
        ready_ms: Some(7),
        note: String::new(),
    }
}

fn answer(board: &mut Board, request: InitRequest) -> InitReply {
    match request {
        InitRequest::Units => InitReply::Units {
            units: board.units.clone(),
            init_start_ms: 5,
            trial: true,
            dropped_lines: 3,
        },
        InitRequest::Show { unit } => {
            match board.units.iter().find(|known| known.name == unit).cloned() {
                Some(status) => InitReply::Unit(Box::new(detail(status))),
                None => InitReply::Refused { message: format!("there is no unit `{unit}`") },
            }
        }
        order => {
            board.orders.push(order);
            InitReply::Done
        }
    }
}

fn detail(status: UnitStatus) -> UnitDetail {
    UnitDetail {
        status,
        kind: Some(UnitKind::Service),
        wanted: true,
        exec: vec!["/usr/bin/goblin".into(), "agent".into()],
        requires: vec!["state".into()],
        milestone: Vec::new(),
        wants: Vec::new(),
        after: Vec::new(),
        critical: true,
        started_ms: Some(6),
        watchdog_ms: None,
        last_end: String::new(),
        settings: String::new(),
    }
}

/// A stand-in for PID 1 and an agent in front of it.
struct Stage {
    _dir: tempfile::TempDir,
    socket: PathBuf,
    board: Arc<Mutex<Board>>,
}

impl Stage {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (socket, init) = (dir.path().join("dbus"), dir.path().join("init"));
        let units = vec![unit("net", UnitPhase::Ready), unit("a-b", UnitPhase::BackOff)];
        let board = Arc::new(Mutex::new(Board { orders: Vec::new(), units }));
        let listener = UnixListener::bind(&init).unwrap();
        let shared = board.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let mut line = String::new();
                BufReader::new(&stream).read_line(&mut line).unwrap();
                let request = serde_json::from_str(&line).unwrap();
                let reply = answer(&mut shared.lock().unwrap(), request);
                let text = serde_json::to_string(&reply).unwrap();
                // The agent may have heard enough.
                let _ = writeln!(&stream, "{text}");
            }
        });
        let places = Places { socket: socket.clone(), init };
        let (ready, listening) = tokio::sync::oneshot::channel();
        tokio::spawn(serve(places, move || ready.send(()).unwrap()));
        listening.await.unwrap();
        Self { _dir: dir, socket, board }
    }

    async fn connect(&self) -> Connection {
        let stream = UnixStream::connect(&self.socket).unwrap();
        let builder = zbus::connection::Builder::unix_stream(stream).p2p();
        tokio::time::timeout(LIMIT, builder.build()).await.unwrap().unwrap()
    }
}

/// Without a bus nobody has a name: any stands for the other end.
async fn proxy<'a>(connection: &Connection, path: &'a str, interface: &'a str) -> Proxy<'a> {
    Proxy::new(connection, "org.goblinux", path, interface).await.unwrap()
}

const INIT: (&str, &str) = ("/org/goblinux/Init1", "org.goblinux.Init1");

type Listed = (String, String, zbus::OwnedObjectPath, String, u32, u32, String);

#[tokio::test]
async fn units_are_listed_shown_and_ordered_about() {
    let stage = Stage::new().await;
    let connection = stage.connect().await;
    let init = proxy(&connection, INIT.0, INIT.1).await;
    let units: Vec<Listed> = init.call("ListUnits", &()).await.unwrap();
    let brief: Vec<_> = units.iter().map(|u| (u.0.as_str(), u.3.as_str(), u.4)).collect();
    assert_eq!(brief, [("net", "ready", 42), ("a-b", "back-off", 0)]);
    assert_eq!(units[1].2.as_str(), "/org/goblinux/Init1/unit/a_2db");

    let shown: HashMap<String, OwnedVariant> = init.call("ShowUnit", &("net",)).await.unwrap();
    assert_eq!(String::try_from(shown["Kind"].clone()).unwrap(), "service");
    assert!(bool::try_from(shown["Wanted"].clone()).unwrap());

    let _: () = init.call("RestartUnit", &("net",)).await.unwrap();
    let _: () = init.call("StopUnit", &("net",)).await.unwrap();
    let orders = std::mem::take(&mut stage.board.lock().unwrap().orders);
    let unit = || "net".to_owned();
    assert_eq!(orders, [InitRequest::Restart { unit: unit() }, InitRequest::Stop { unit: unit() }]);
    let refused = init.call::<_, _, HashMap<String, OwnedVariant>>("ShowUnit", &("none",)).await;
    assert!(refused.unwrap_err().to_string().contains("no unit `none`"));
    assert!(init.get_property::<bool>("Trial").await.unwrap());
    assert_eq!(init.get_property::<u64>("DroppedLines").await.unwrap(), 3);
}

#[tokio::test]
async fn a_change_is_a_signal_and_a_property() {
    let stage = Stage::new().await;
    let connection = stage.connect().await;
    let init = proxy(&connection, INIT.0, INIT.1).await;
    let mut changes = init.receive_signal("UnitChanged").await.unwrap();
    let object =
        proxy(&connection, "/org/goblinux/Init1/unit/net", "org.goblinux.Init1.Unit").await;
    assert_eq!(object.get_property::<String>("Phase").await.unwrap(), "ready");
    stage.board.lock().unwrap().units[0] = unit("net", UnitPhase::Failed);
    let change = tokio::time::timeout(LIMIT, changes.next()).await.unwrap().unwrap();
    let (name, phase, pid, detail): (String, String, u32, String) =
        change.body().deserialize().unwrap();
    assert_eq!((name.as_str(), phase.as_str(), pid, detail.as_str()), ("net", "failed", 0, "why"));
    let fresh = proxy(&connection, "/org/goblinux/Init1/unit/net", "org.goblinux.Init1.Unit").await;
    assert_eq!(fresh.get_property::<String>("Phase").await.unwrap(), "failed");
}

#[tokio::test]
async fn the_interfaces_say_what_they_are() {
    let stage = Stage::new().await;
    let connection = stage.connect().await;
    let introspect = async |path: &str| {
        let object = proxy(&connection, path, "org.freedesktop.DBus.Introspectable").await;
        object.call::<_, _, String>("Introspect", &()).await.unwrap()
    };
    let init = introspect(INIT.0).await;
    for word in ["org.goblinux.Init1", "ListUnits", "a(ssosuus)", "a{sv}", "UnitChanged", "Trial"] {
        assert!(init.contains(word), "{word} is not in\n{init}");
    }
    let unit = introspect("/org/goblinux/Init1/unit/net").await;
    assert!(unit.contains("\"Phase\" type=\"s\" access=\"read\""), "{unit}");
    let update = introspect("/org/goblinux/Update1").await;
    assert!(update.contains("org.goblinux.Update1") && !update.contains("readwrite"), "{update}");
}
