//! Manifests that somebody with the keys signed, or a server slipped in: refused before a content is asked
//! for, with the board as it was.

use crate::board::*;
use goblin_core_manifest::publish::{Lifetimes, Publisher};
use goblin_core_manifest::release::{MANIFEST_BYTES_MAX, MANIFEST_PACKED};
use goblin_core_manifest::time::Instant;
use goblin_core_manifest::tuf::ReleaseCustom;
use goblin_core_types::{Role, UpdateCommand, UpdateReply};
use goblin_sys::mount::{self, MountFlags};
use serde_json::{Value, json};
use std::fs;
use std::io::Write;
use std::sync::Arc;

const STAGE: UpdateCommand = UpdateCommand::Stage { to: None, from: None };

/// A board, and a server whose release 2 has this manifest, signed as it is.
fn offered(manifest: Vec<u8>) -> (Server, Board) {
    offered_packed(manifest, None)
}

/// [`offered`], with this as the manifest's compressed form.
fn offered_packed(manifest: Vec<u8>, packed: Option<Vec<u8>>) -> (Server, Board) {
    let (server, keys) = (Server::start(), keys(1));
    publish(&server, &keys, 1, &[1, 2], NOW);
    let mut publisher = Publisher { version: 1, ..Publisher::empty() };
    let uki = Some(release(2).manifest.uki.uki_digest);
    let custom = ReleaseCustom { version: v(2), channel: "stable".into(), uki, waves: None };
    let path = publisher.add_release(&custom, &manifest).unwrap();
    let mut files = server.files.lock().unwrap();
    if let Some(packed) = packed {
        publisher.note_packed(&path, packed.len() as u64);
        files.insert(format!("{path}{MANIFEST_PACKED}"), packed);
    }
    files.insert(path, manifest);
    let now = Instant::from_unix_s(NOW);
    for written in publisher.publish(&keys, now, Lifetimes::default()).unwrap() {
        files.insert(written.path, written.bytes);
    }
    drop(files);
    let board = Board::new(Role::Storage, &server, &keys);
    (server, board)
}

/// The words with which a manifest is refused, with nothing changed and no content asked for.
fn refusal(manifest: Vec<u8>) -> String {
    let (server, board) = offered(manifest);
    let before = board.fixed();
    let reply = tell(&mut board.updater(), &STAGE);
    let UpdateReply::Failed { message, .. } = reply else { panic!("taken: {reply:?}") };
    assert_eq!(board.fixed(), before, "{message}");
    let asked = server.requests.lock().unwrap().clone();
    assert!(!asked.iter().any(|path| path.contains("blobs/")), "{message}: {asked:?}");
    message
}

fn edited(edit: &dyn Fn(&mut Value)) -> Vec<u8> {
    let mut value = serde_json::to_value(release(2).manifest).unwrap();
    edit(&mut value);
    serde_json::to_vec(&value).unwrap()
}

/// The manifest with one more entry in its tree.
fn with_entry(entry: &Value) -> Vec<u8> {
    edited(&|manifest| manifest["uki"]["base"].as_array_mut().unwrap().push(entry.clone()))
}

#[test]
fn the_manifest_as_it_is_would_be_taken() {
    let (_server, board) = offered(edited(&|_| {}));
    assert_eq!(done(&tell(&mut board.updater(), &STAGE)), Some(v(2)));
}

#[test]
fn paths_that_lead_elsewhere_are_refused_by_name() {
    let long = format!("/{}", "a/".repeat(600));
    for path in [
        "etc/passwd",
        "/../etc/passwd",
        "/usr/../../etc/passwd",
        "/usr/./x",
        "/usr//x",
        "/usr/x/",
        "",
        "..",
        "/a\u{0}b",
        long.as_str(),
    ] {
        let message = refusal(with_entry(&json!({ "path": path, "mode": 420, "kind": "dir" })));
        assert!(message.contains("path"), "{path:?}: {message}");
    }
}

#[test]
fn paths_that_occur_twice_or_lie_below_a_file_are_refused() {
    let twice =
        refusal(with_entry(&json!({ "path": "/etc/os-release", "mode": 420, "kind": "dir" })));
    assert!(twice.contains("/etc/os-release") && twice.contains("twice"), "{twice}");
    let below =
        refusal(with_entry(&json!({ "path": "/etc/os-release/x", "mode": 420, "kind": "dir" })));
    assert!(below.contains("/etc/os-release") && below.contains("not a directory"), "{below}");
}

#[test]
fn devices_pipes_and_strange_modes_are_refused() {
    for kind in ["char-device", "block", "fifo", "socket", "device", "hardlink", ""] {
        let entry = json!({ "path": "/dev/x", "mode": 420, "kind": kind, "major": 1, "minor": 1 });
        let message = refusal(with_entry(&entry));
        assert!(message.contains("kind") || message.contains("variant"), "{kind}: {message}");
    }
    // A file type hidden in the mode's upper bits.
    let message = refusal(with_entry(&json!({ "path": "/dev/x", "mode": 0o60600, "kind": "dir" })));
    assert!(message.contains("mode"), "{message}");
}

#[test]
fn numbers_that_overflow_are_refused() {
    let digest = |n: u8| hash(&[n]).to_string();
    let file = |n: u8, size: Value| json!({ "path": format!("/big{n}"), "mode": 420, "kind": "file", "size": size, "digest": digest(n) });
    for size in [json!(u64::MAX), json!(u64::MAX - 100), json!(5u64 << 30), json!(-1), json!(1e300)]
    {
        refusal(with_entry(&file(1, size)));
    }
    // Each of them would do, all of them wrap around.
    let sum = refusal(edited(&|manifest| {
        let base = manifest["uki"]["base"].as_array_mut().unwrap();
        base.extend((0..8).map(|n| file(n, json!(1u64 << 61))));
    }));
    assert!(sum.contains("exceed") || sum.contains("bytes"), "{sum}");
    for odd in [json!(u64::MAX), json!(-1), json!("1")] {
        refusal(edited(&|manifest| manifest["uki"]["uki_size"] = odd.clone()));
    }
    for part in ["stub", "kernel", "preinit"] {
        refusal(edited(&|manifest| manifest["uki"][part]["size"] = json!(u64::MAX)));
    }
}

#[test]
fn too_many_entries_are_refused_whether_they_fit_the_manifest_or_not() {
    let many = |count: usize| {
        edited(&|manifest| {
            let base = manifest["uki"]["base"].as_array_mut().unwrap();
            let entry = |n| json!({ "path": format!("/{n}"), "mode": 0, "kind": "dir" });
            base.extend((0..count).map(entry));
        })
    };
    let some = many(70_000);
    assert!((some.len() as u64) < MANIFEST_BYTES_MAX);
    let message = refusal(some);
    assert!(message.contains("65536 entries"), "{message}");
    let million = many(1_000_000);
    assert!((million.len() as u64) > MANIFEST_BYTES_MAX);
    // Its signed length alone is enough: it is not read.
    let (server, board) = offered(million);
    let before = board.fixed();
    let reply = tell(&mut board.updater(), &STAGE);
    assert!(matches!(reply, UpdateReply::Failed { .. }), "{reply:?}");
    assert_eq!(board.fixed(), before);
    let asked = server.requests.lock().unwrap().clone();
    assert!(!asked.iter().any(|path| path.ends_with("manifest.json")), "{asked:?}");
}

#[test]
fn values_nested_without_end_are_refused() {
    let deep = format!("{}1{}", "[".repeat(100_000), "]".repeat(100_000));
    refusal(deep.clone().into_bytes());
    refusal(format!("{{\"schema\":1,\"uki\":{deep}}}").into_bytes());
}

#[test]
fn compressed_manifest_that_unpacks_without_end_is_borne() {
    // What is signed of the packed form is its size alone: a server can put anything there.
    let (server, board) = offered_packed(edited(&|_| {}), Some(zstd_of_zeros(1 << 30)));
    assert_eq!(done(&tell(&mut board.updater(), &STAGE)), Some(v(2)));
    let asked = server.requests.lock().unwrap().clone();
    assert!(asked.iter().any(|path| path.ends_with(MANIFEST_PACKED)), "{asked:?}");
}

/// A frame of so many zeros.
fn zstd_of_zeros(bytes: usize) -> Vec<u8> {
    let zeros = vec![0u8; 1 << 20];
    let pieces: Vec<&[u8]> = (0..bytes >> 20).map(|_| &zeros[..]).collect();
    goblin_core_delta::frame::compress(&pieces, goblin_core_delta::frame::Effort::Quick).unwrap()
}

#[test]
fn boot_disk_that_takes_no_writes_is_refused_with_everything_as_it_was() {
    let server = Server::start();
    publish(&server, &keys(1), 1, &[1, 2], NOW);
    let board = Board::new(Role::Storage, &server, &keys(1));
    let esp = board.dir.path().join("esp");
    if let Err(err) = mount::mount("tmpfs", &esp, "tmpfs", MountFlags::empty(), "size=16m") {
        println!("skipped: cannot mount a tmpfs: {err}");
        return;
    }
    fs::create_dir_all(board.linux()).unwrap();
    fs::write(board.linux().join("goblinux_1.efi"), release(1).uki).unwrap();
    mount::remount(&esp, MountFlags::RDONLY, "").unwrap();
    let before = board.fixed();
    let reply = tell(&mut board.updater(), &STAGE);
    let UpdateReply::Failed { kind, message } = reply else { panic!("{reply:?}") };
    assert!(kind == "esp" && message.contains("Read-only"), "{kind}: {message}");
    assert_eq!(board.fixed(), before);
    board.check_store();
    // Writable again, the same board goes on with what it fetched.
    mount::remount(&esp, MountFlags::empty(), "").unwrap();
    assert_eq!(done(&tell(&mut board.updater(), &STAGE)), Some(v(2)));
    mount::umount_lazy(&esp).unwrap();
}

#[test]
fn boot_disk_that_fills_up_meanwhile_is_refused_with_nothing_of_it_left() {
    let server = Server::start();
    publish(&server, &keys(1), 1, &[1, 2], NOW);
    let board = Board::new(Role::Storage, &server, &keys(1));
    let esp = board.dir.path().join("esp");
    // Room for the release and the spare room that is asked for, until somebody takes it.
    if let Err(err) = mount::mount("tmpfs", &esp, "tmpfs", MountFlags::empty(), "size=3m") {
        println!("skipped: cannot mount a tmpfs: {err}");
        return;
    }
    fs::create_dir_all(board.linux()).unwrap();
    fs::write(board.linux().join("goblinux_1.efi"), release(1).uki).unwrap();
    let filler = esp.join("someone-else");
    let fill = move || {
        let mut file = fs::File::create(&filler).unwrap();
        while file.write(&[0u8; 4096]).is_ok_and(|n| n > 0) {}
    };
    *server.fault.lock().unwrap() = Fault::Before("blobs/", Arc::new(fill));
    let before = board.fixed();
    let reply = tell(&mut board.updater(), &STAGE);
    let UpdateReply::Failed { kind, message } = reply else { panic!("{reply:?}") };
    assert!(kind == "space" && message.contains("the boot disk"), "{kind}: {message}");
    assert_eq!(board.fixed(), before);
    mount::umount_lazy(&esp).unwrap();
}
