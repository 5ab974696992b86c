//! How much memory an update takes, measured in a process of its own: 64 MiB are allowed, whatever the size of
//! the contents and whatever a server makes of them.

use crate::board::*;
use crate::parcels::{With, publish_parcels};
use goblin_agent_update::esp::Guard;
use goblin_agent_update::{Env, Source, Updater, Writers};
use goblin_core_delta::frame::{self, Effort};
use goblin_core_manifest::release::pack_path;
use goblin_core_types::{Role, UpdateCommand, UpdateReply};
use goblin_sys::record::RecordPartition;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// Names the folder of the board whose updater the process shall be.
const FOLDER: &str = "GOBLIN_TEST_BOARD";
/// Names the server.
const SERVER: &str = "GOBLIN_TEST_SERVER";
/// What the budget allows, in KiB.
const PEAK_KIB_MAX: u64 = 64 << 10;
/// A content that does not fit the budget.
const HUGE_BYTES: usize = 80 << 20;

/// Bytes that do not compress.
fn noise(bytes: usize) -> Vec<u8> {
    let mut hasher = blake3::Hasher::new().finalize_xof();
    let mut noise = vec![0; bytes];
    hasher.fill(&mut noise);
    noise
}

/// Stages what the server offers in a process of its own: its reply as text, and its peak in KiB.
fn staged_apart(board: &Board, server: &Server) -> (String, u64) {
    std::fs::write(board.dir.path().join("root.json"), &board.source.root).unwrap();
    let out = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "bounds::updater_alone", "--ignored", "--nocapture"])
        .env(FOLDER, board.dir.path())
        .env(SERVER, &server.url)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&out.stdout).into_owned();
    let line = said.lines().find_map(|line| line.split_once("peak "));
    let line = line.unwrap_or_else(|| panic!("{said}{}", String::from_utf8_lossy(&out.stderr))).1;
    let (peak_kib, reply) = line.split_once(' ').unwrap();
    (reply.to_owned(), peak_kib.parse().unwrap())
}

#[test]
#[ignore = "the process whose memory the other tests here measure"]
fn updater_alone() {
    let folder = std::env::var_os(FOLDER).expect("run by the other tests here");
    let dir = Path::new(&folder);
    let seen = Seen::default();
    seen.now.store(NOW, Ordering::Relaxed);
    let env = Env {
        store: dir.join("store"),
        base: dir.join("base"),
        esp: dir.join("esp"),
        guard: Guard::Writable,
        record: Some(RecordPartition::open(&dir.join("record")).unwrap()),
        running: v(1),
        trial: false,
        box_id: None,
        role: Some(Role::Storage),
        source: Some(Source {
            url: std::env::var(SERVER).unwrap(),
            mirrors: Vec::new(),
            proxy: None,
            channel: "stable".into(),
            root: std::fs::read_to_string(dir.join("root.json")).unwrap(),
        }),
        retry_pause: Duration::from_millis(1),
        spare_bytes: 0,
        writers: Writers::default(),
        hooks: Box::new(seen),
    };
    let mut last = None;
    let stage = UpdateCommand::Stage { to: None, from: None };
    Updater::start(env).command(&stage, &mut |reply| last = Some(reply));
    let last = match last.unwrap() {
        UpdateReply::Done { version, .. } => format!("done {version:?}"),
        UpdateReply::Failed { kind, message } => format!("{kind}: {message}"),
        other => format!("{other:?}"),
    };
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    println!("peak {} {last}", peak.trim().trim_end_matches(" kB"));
}

#[test]
fn content_larger_than_the_budget_is_fetched_and_built_within_it() {
    let (server, keys) = (Server::start(), keys(1));
    let new = build(2, vec![("/usr/bin/huge", noise(HUGE_BYTES))]);
    for (with, way) in [(With::Pack, "in a pack"), (With::Nothing, "as a file")] {
        publish_parcels(&server, &keys, new.clone(), with, with == With::Nothing);
        let board = Board::new(Role::Storage, &server, &keys);
        let (reply, peak_kib) = staged_apart(&board, &server);
        println!("{HUGE_BYTES} bytes {way}: peak {peak_kib} KiB");
        assert!(reply.starts_with("done"), "{way}: {reply}");
        assert!(peak_kib <= PEAK_KIB_MAX, "{way}: {peak_kib} KiB, {PEAK_KIB_MAX} are allowed");
    }
}

#[test]
fn frame_that_unpacks_without_end_is_refused_within_the_budget() {
    let (server, keys) = (Server::start(), keys(1));
    let content = noise(1 << 20);
    let whole = frame::compress(&[&content], Effort::Quick).unwrap();
    publish_parcels(&server, &keys, build(2, vec![("/usr/bin/large", content)]), With::Pack, false);
    // Of a frame its place and size are signed, not its bytes.
    let zeros = vec![0u8; 64 << 20];
    let mut bomb = frame::compress(&[&zeros[..]; 32], Effort::Quick).unwrap();
    assert!(bomb.len() < whole.len());
    bomb.resize(whole.len(), 0);
    let mut files = server.files.lock().unwrap();
    let pack = files.get_mut(&pack_path(v(2))).unwrap();
    let at = pack.windows(whole.len()).position(|window| window == whole).unwrap();
    pack[at..at + whole.len()].copy_from_slice(&bomb);
    drop(files);
    let board = Board::new(Role::Storage, &server, &keys);
    let before = board.fixed();
    let (reply, peak_kib) = staged_apart(&board, &server);
    println!("2 GiB in a frame of {} bytes: peak {peak_kib} KiB", whole.len());
    assert!(reply.starts_with("blob-mismatch"), "{reply}");
    assert_eq!(board.fixed(), before);
    board.check_store();
    assert!(peak_kib <= PEAK_KIB_MAX, "{peak_kib} KiB, {PEAK_KIB_MAX} are allowed");
}
