//! Releases from a stick: the same checks as from a server, and words of its own when it goes.

use crate::board::*;
use goblin_core_types::{Role, UpdateCommand, UpdateReply, UpdateSource, UpgradePlan};

fn usb() -> Option<UpdateSource> {
    Some(UpdateSource::Usb)
}

/// A board whose own source has nothing new, and a stick with the files of `there`.
fn with_stick(there: &Server) -> (Server, Board, TestStick) {
    let own = Server::start();
    publish(&own, &keys(1), 1, &[1], NOW);
    let board = Board::new(Role::Compute, &own, &keys(1));
    let stick = TestStick::with(there);
    *board.seen.stick.lock().unwrap() = Some(stick.clone());
    (own, board, stick)
}

fn repository(key: u8, releases: &[u32]) -> Server {
    let server = Server::start();
    publish(&server, &keys(key), 1, releases, NOW);
    server
}

#[test]
fn release_on_a_stick_is_staged_without_a_word_to_the_server() {
    let (own, board, _stick) = with_stick(&repository(1, &[1, 2]));
    let mut updater = board.updater();
    let mut plan = None;
    let preview = UpdateCommand::Preview { to: None, from: usb() };
    updater.command(&preview, &mut |reply| {
        if let UpdateReply::Plan(found) = reply {
            plan = Some(found);
        }
    });
    let UpgradePlan { to, fetch_count, .. } = plan.unwrap();
    assert!(to == Some(v(2)) && fetch_count > 0);
    let stage = UpdateCommand::Stage { to: None, from: usb() };
    assert_eq!(done(&tell(&mut updater, &stage)), Some(v(2)));
    assert_eq!(*own.requests.lock().unwrap(), Vec::<String>::new());
    board.check_store();
    // What is not said comes from where it always does.
    publish(&own, &keys(1), 2, &[1, 2], NOW);
    assert_eq!(done(&tell(&mut updater, &UpdateCommand::Check)), Some(v(2)));
    assert!(!own.requests.lock().unwrap().is_empty());
}

#[test]
fn mirror_of_the_provisioning_file_steps_in_for_a_server_that_gives_damage() {
    let damaged = repository(1, &[1, 2]);
    let whole = repository(1, &[1, 2]);
    for (path, bytes) in damaged.files.lock().unwrap().iter_mut() {
        if path.starts_with("blobs/") {
            bytes.fill(0);
        }
    }
    let mut board = Board::new(Role::Compute, &damaged, &keys(1));
    let stage = UpdateCommand::Stage { to: None, from: None };
    assert_eq!(kind(&tell(&mut board.updater(), &stage)), "blob-mismatch");
    board.source.mirrors = vec![whole.url.clone()];
    assert_eq!(done(&tell(&mut board.updater(), &stage)), Some(v(2)));
    board.check_store();
}

#[test]
fn stick_is_believed_no_more_than_a_server() {
    let (_own, board, _stick) = with_stick(&repository(2, &[1, 2]));
    let before = board.fixed();
    let stage = UpdateCommand::Stage { to: None, from: usb() };
    assert_eq!(kind(&tell(&mut board.updater(), &stage)), "signature");
    assert_eq!(board.fixed(), before);

    let (_own, board, stick) = with_stick(&repository(1, &[1, 2]));
    for (digest, bytes) in release(2).blobs {
        let path = goblin_core_manifest::release::blob_path(&digest);
        let damaged = vec![0u8; bytes.len()];
        std::fs::write(stick.dir.path().join(path), damaged).unwrap();
    }
    let before = board.fixed();
    assert_eq!(kind(&tell(&mut board.updater(), &stage)), "blob-mismatch");
    assert_eq!(board.fixed(), before);
    board.check_store();
}

#[test]
fn absent_and_incomplete_sticks_are_told_apart() {
    let (_own, board, stick) = with_stick(&repository(1, &[1, 2]));
    let stage = UpdateCommand::Stage { to: None, from: usb() };
    std::fs::remove_dir_all(stick.dir.path().join("blobs")).unwrap();
    let reply = tell(&mut board.updater(), &stage);
    assert_eq!(kind(&reply), "stick");
    let UpdateReply::Failed { message, .. } = reply else { panic!() };
    assert!(message.contains("`Test`") && message.contains("blobs/"), "{message}");
    *board.seen.stick.lock().unwrap() = None;
    let reply = tell(&mut board.updater(), &stage);
    let UpdateReply::Failed { message, kind } = reply else { panic!() };
    assert!(kind == "stick" && message.contains("no USB stick"), "{message}");
}

#[test]
fn stick_pulled_mid_copy_leaves_the_board_as_it_was_and_the_next_try_goes_on() {
    let there = repository(1, &[1, 2]);
    let (_own, board, stick) = with_stick(&there);
    let mut updater = board.updater();
    let before = board.fixed();
    let stage = UpdateCommand::Stage { to: None, from: usb() };
    // Metadata and the contents before the largest still come.
    let blobs = release(2).blobs;
    let (largest, _) = blobs.iter().max_by_key(|(_, bytes)| bytes.len()).unwrap();
    stick.pull_before(&goblin_core_manifest::release::blob_path(largest));
    let reply = tell(&mut updater, &stage);
    let UpdateReply::Failed { kind, message } = reply else { panic!("{reply:?}") };
    assert!(kind == "stick" && message.contains("pulled out"), "{message}");
    assert_eq!(board.fixed(), before);
    board.check_store();
    let phase = board.status().update.phase;
    assert_eq!(phase, goblin_core_types::UpdatePhase::Idle);
    *board.seen.stick.lock().unwrap() = Some(TestStick::with(&there));
    assert_eq!(done(&tell(&mut updater, &stage)), Some(v(2)));
}
