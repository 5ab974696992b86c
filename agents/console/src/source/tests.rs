use super::*;
use goblin_core_ninep::synthetic::{Dir, ReplyWriter, Tree};
use goblin_core_ninep::{Cancel, Limits, serve};
use goblin_core_types::UpdateCommand;
use goblin_sys::socket::Listener;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::thread;

fn places(dir: &Path, role: &str) -> Places {
    let places = Places { control: dir.join("c"), init: dir.join("i"), role: dir.join("r") };
    std::fs::write(&places.role, role).unwrap();
    places
}

/// A box whose storage board is out of reach and whose updater answers with `replies`.
fn tree(replies: Vec<UpdateReply>) -> Tree {
    let status = |_: &Cancel| {
        let status = BoardStatus { host: "attic".into(), ..BoardStatus::default() };
        serde_json::to_vec(&status).map_err(|_| Errno::EIO)
    };
    let answer = move |line: Vec<u8>, mut out: ReplyWriter| {
        serde_json::from_slice::<UpdateCommand>(&line).map_err(|_| Errno::EINVAL)?;
        for reply in &replies {
            let mut line = serde_json::to_vec(reply).map_err(|_| Errno::EIO)?;
            line.push(b'\n');
            out.write_all(&line)?;
        }
        Ok(())
    };
    let here = Dir::new().file("status", status).dir("update", Dir::new().lines("ctl", answer));
    let away = Dir::new().file("status", |_| Err(Errno::EHOSTDOWN));
    Tree::new(
        "control",
        Dir::new().dir("boards", Dir::new().dir("compute", here).dir("storage", away)),
    )
}

fn serve_box(places: &Places, replies: Vec<UpdateReply>) {
    let listener = Listener::unix(&places.control, 0o600).unwrap();
    let tree = Arc::new(tree(replies));
    thread::spawn(move || {
        while let Ok((socket, _)) = listener.accept() {
            let tree = Arc::clone(&tree);
            thread::spawn(move || serve(Arc::new(socket), tree, Limits::default()));
        }
    });
}

#[test]
fn both_boards_are_asked_through_the_control_tree() {
    let dir = tempfile::tempdir().unwrap();
    let places = places(dir.path(), "compute\n");
    serve_box(&places, Vec::new());
    let board = Board::new(places);
    assert_eq!(board.status(Side::Here).unwrap().host, "attic");
    assert!(matches!(board.status(Side::Other), Err(SourceError::OutOfReach)));
}

#[test]
fn a_service_that_is_not_there_is_a_sentence() {
    let dir = tempfile::tempdir().unwrap();
    let board = Board::new(places(dir.path(), ""));
    assert!(matches!(board.status(Side::Here), Err(SourceError::Connect { .. })));
    assert!(matches!(board.status(Side::Other), Err(SourceError::NoRole)));
    assert!(board.logs(10).unwrap_err().to_string().starts_with("its socket does not answer"));
}

#[test]
fn an_order_reports_its_progress_and_its_end() {
    let dir = tempfile::tempdir().unwrap();
    let places = places(dir.path(), "compute");
    let progress =
        UpdateReply::Progress { message: "Fetching".into(), done_bytes: 1, total_bytes: 4 };
    let done = UpdateReply::Done { message: "Upgraded".into(), version: None };
    serve_box(&places, vec![progress, done]);
    let mut told = Vec::new();
    let request = Request::Update(UpdateCommand::Check);
    Board::new(places).order(Side::Here, &request, &mut |state| told.push(state));
    let running = TaskState::Running { message: "Fetching".into(), permille: Some(250) };
    assert_eq!(told, [running, TaskState::Done { message: "Upgraded".into() }]);
}

#[test]
fn an_order_without_a_verdict_counts_as_failed() {
    let dir = tempfile::tempdir().unwrap();
    let places = places(dir.path(), "compute");
    serve_box(&places, Vec::new());
    let mut told = Vec::new();
    let request = Request::Update(UpdateCommand::Check);
    Board::new(places).order(Side::Here, &request, &mut |state| told.push(state));
    assert!(matches!(told.as_slice(), [TaskState::Failed { .. }]), "{told:?}");
}

#[test]
fn log_lines_end_with_the_listing() {
    let dir = tempfile::tempdir().unwrap();
    let places = places(dir.path(), "");
    let listener = UnixListener::bind(&places.init).unwrap();
    let asked = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut line = String::new();
        BufReader::new(stream.try_clone().unwrap()).read_line(&mut line).unwrap();
        let text = r#"{"re":"line","seq":1,"at_ms":5,"unit":"net","level":"warn","text":"no cable"}
{"re":"done"}
"#;
        stream.write_all(text.as_bytes()).unwrap();
        serde_json::from_str::<InitRequest>(&line).unwrap()
    });
    let lines = Board::new(places).logs(7).unwrap();
    assert_eq!(lines.len(), 1);
    let wanted = LogFilter { lines_max: 7, ..LogFilter::default() };
    assert_eq!(asked.join().unwrap(), InitRequest::Logs(wanted));
}

#[test]
fn a_reply_that_is_not_understood_is_told() {
    let odd = &b"{\"re\":\"line\"}\n"[..];
    assert!(matches!(read_log(odd, 5), Err(SourceError::Shape { .. })));
    assert!(read_log(&b""[..], 5).unwrap().is_empty());
}

#[test]
fn a_service_that_no_longer_accepts_is_not_waited_for_without_end() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("hung");
    let flags = net::SocketFlags::CLOEXEC;
    let listener =
        net::socket_with(net::AddressFamily::UNIX, net::SocketType::STREAM, flags, None).unwrap();
    net::bind(&listener, &net::SocketAddrUnix::new(&path).unwrap()).unwrap();
    net::listen(&listener, 0).unwrap();
    let limit = Duration::from_millis(50);
    let _waiting = connect_within(&path, limit).unwrap();
    assert_eq!(connect_within(&path, limit).unwrap_err().kind(), io::ErrorKind::WouldBlock);
}

struct Slow;

impl Source for Slow {
    fn status(&self, _: Side) -> Result<BoardStatus, SourceError> {
        thread::sleep(Duration::from_secs(60));
        Err(SourceError::NoRole)
    }

    fn logs(&self, _: u32) -> Result<Vec<LogLine>, SourceError> {
        Ok(Vec::new())
    }

    fn clients(&self) -> Result<Clients, SourceError> {
        Err(SourceError::NoRole)
    }

    fn order(&self, _: Side, _: &Request, tell: &mut dyn FnMut(TaskState)) {
        tell(TaskState::Done { message: "done".into() });
    }
}

#[test]
fn a_silent_service_blocks_neither_the_screen_nor_orders() {
    let feed = Feed::start(Slow).unwrap();
    assert!(feed.take().is_empty());
    feed.order(Action {
        task: 7,
        side: Side::Here,
        request: Request::Update(UpdateCommand::Check),
    });
    let event = feed.events.recv_timeout(Duration::from_secs(10)).unwrap();
    assert!(matches!(event, Event::Task { id: 7, state: TaskState::Done { .. } }));
}
