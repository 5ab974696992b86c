//! One board against a real web server: the good way, and every bad input met with a clear word and the
//! board as it was.

use crate::board::*;
use goblin_core_types::{Pending, Role, UpdateCommand, UpdateOutcome, UpdatePhase, UpdateReply};
use goblin_sys::mount::{self, MountFlags};
use std::fs;
use std::sync::Arc;
use std::sync::atomic::Ordering;

const STAGE: UpdateCommand = UpdateCommand::Stage { to: None, from: None };

fn setup(releases: &[u32]) -> (Server, Board) {
    let server = Server::start();
    publish(&server, &keys(1), 1, releases, NOW);
    let board = Board::new(Role::Storage, &server, &keys(1));
    (server, board)
}

/// Stages, expects the refusal, and checks that the board stayed as it was.
fn refused(board: &Board, expected: &str) -> String {
    let mut updater = board.updater();
    let before = board.fixed();
    let reply = tell(&mut updater, &STAGE);
    assert_eq!(kind(&reply), expected, "{reply:?}");
    assert_eq!(board.fixed(), before);
    board.check_store();
    let status = board.status().update;
    assert_eq!(status.phase, UpdatePhase::Idle);
    let UpdateReply::Failed { message, .. } = reply else { unreachable!() };
    assert_eq!(status.problem.as_ref(), Some(&message));
    message
}

#[test]
fn release_is_fetched_built_tried_and_blessed() {
    let (_server, mut board) = setup(&[1, 2]);
    let mut updater = board.updater();
    let mut steps = Vec::new();
    updater.command(&STAGE, &mut |reply| steps.push(reply));
    assert_eq!(done(steps.last().unwrap()), Some(v(2)));
    assert!(steps.iter().any(|reply| matches!(reply, UpdateReply::Progress { message, .. } if message.contains("fetching"))));
    assert_eq!(fs::read(board.linux().join(".new")).unwrap(), release(2).uki);
    assert_eq!(board.boot_record().pending, None);
    board.check_store();

    // A restart of the service, or of the board, keeps it staged.
    let mut updater = board.updater();
    assert_eq!(board.status().update.phase, UpdatePhase::Staged);
    assert_eq!(kind(&tell(&mut updater, &UpdateCommand::Activate { to: v(3) })), "refused");
    assert_eq!(done(&tell(&mut updater, &UpdateCommand::Activate { to: v(2) })), Some(v(2)));
    assert_eq!(board.names(), ["goblinux_1.efi", "goblinux_2+3.efi"]);
    assert_eq!(board.boot_record().pending.unwrap().to, v(2));
    assert_eq!(board.seen.reboots.load(Ordering::Relaxed), 1);

    board.boot();
    assert_eq!(board.running, 2);
    assert_eq!(board.names(), ["goblinux_1.efi", "goblinux_2.efi"]);
    let record = board.boot_record();
    assert_eq!(record.pending, None);
    assert_eq!(record.reports.last().unwrap().outcome, UpdateOutcome::Good);
    assert_eq!(board.status().update.phase, UpdatePhase::Idle);
}

#[test]
fn an_upgrade_writes_its_image_once_and_tells_how_much_it_wrote() {
    let (_server, mut board) = setup(&[1, 2]);
    let mut updater = board.updater();
    done(&tell(&mut updater, &STAGE));
    done(&tell(&mut updater, &UpdateCommand::Activate { to: v(2) }));
    board.boot();
    let written = board.boot_record().reports.last().unwrap().written.unwrap();
    let new = release(2);
    assert_eq!(written.esp.bytes, new.uki.len() as u64, "the image once, and nothing else");
    // Made, written in pieces of a MiB; on the disk before it is read back.
    assert!(written.esp.changes <= 2 + written.esp.bytes.div_ceil(1 << 20), "{written:?}");
    assert!((1..=3).contains(&written.esp.syncs), "{written:?}");
    let contents: u64 = new.blobs.values().map(|bytes| bytes.len() as u64).sum();
    // Every content once; metadata and notes beside it.
    let beside = written.state.bytes.checked_sub(contents);
    assert!(beside.is_some_and(|bytes| bytes < 64 << 10), "{written:?}, contents have {contents}");
    done(&tell(&mut board.updater(), &UpdateCommand::Rollback { to: None }));
    board.boot();
    assert_eq!(board.boot_record().reports.last().unwrap().written, None, "nothing was fetched");
}

#[test]
fn discarded_release_leaves_no_contents_to_reuse() {
    let (server, board) = setup(&[1, 2]);
    let mut updater = board.updater();
    done(&tell(&mut updater, &STAGE));
    done(&tell(&mut updater, &UpdateCommand::Discard));
    assert_eq!(board.names(), ["goblinux_1.efi"]);
    server.requests.lock().unwrap().clear();
    // Its contents are gone too: they come anew.
    done(&tell(&mut updater, &STAGE));
    assert!(server.requests.lock().unwrap().iter().any(|path| path.starts_with("blobs/")));
}

#[test]
fn check_says_what_is_offered_and_changes_nothing() {
    let (_server, board) = setup(&[1, 2]);
    let mut updater = board.updater();
    let before = board.fixed();
    assert_eq!(done(&tell(&mut updater, &UpdateCommand::Check)), Some(v(2)));
    assert_eq!(board.fixed(), before);
    let status = board.status().update;
    assert_eq!(
        (status.offered, status.offered_notes.as_deref()),
        (Some(v(2)), Some("what release 2 brings"))
    );
}

#[test]
fn nothing_newer_is_no_error() {
    let (_server, board) = setup(&[1]);
    assert_eq!(done(&tell(&mut board.updater(), &STAGE)), None);
}

#[test]
fn release_that_fails_its_trial_is_left_with_its_reason_and_not_tried_again() {
    let (_server, mut board) = setup(&[1, 2]);
    board.broken = vec![2];
    let mut updater = board.updater();
    done(&tell(&mut updater, &STAGE));
    done(&tell(&mut updater, &UpdateCommand::Activate { to: v(2) }));
    let mut updater = board.boot();
    assert_eq!(board.running, 1);
    assert_eq!(board.names(), ["goblinux_1.efi"]);
    let report = board.boot_record().reports.pop().unwrap();
    assert_eq!(report.outcome, UpdateOutcome::FellBack);
    assert_eq!(
        report.reason,
        "release 2 stopped after preinit three times: Kernel panic - not syncing: Attempted to kill init!"
    );
    assert_eq!(kind(&tell(&mut updater, &STAGE)), "quarantined");
    done(&tell(&mut updater, &UpdateCommand::ClearQuarantine { release: None }));
    assert_eq!(done(&tell(&mut updater, &STAGE)), Some(v(2)));
}

#[test]
fn rollback_boots_the_older_release_and_the_newer_can_come_back() {
    let (server, mut board) = setup(&[1, 2]);
    let mut updater = board.updater();
    assert_eq!(kind(&tell(&mut updater, &UpdateCommand::Rollback { to: None })), "not-found");
    done(&tell(&mut updater, &STAGE));
    done(&tell(&mut updater, &UpdateCommand::Activate { to: v(2) }));
    let mut updater = board.boot();
    assert_eq!(done(&tell(&mut updater, &UpdateCommand::Rollback { to: None })), Some(v(1)));
    // Counted like any other try: should 1 not come up any more, the loader takes 2 again.
    assert_eq!(board.names(), ["goblinux_1+3.efi", "goblinux_2+0-1.efi"]);
    let mut updater = board.boot();
    assert_eq!(board.running, 1);
    assert_eq!(board.names(), ["goblinux_1.efi", "goblinux_2+0-1.efi"]);
    assert_eq!(board.boot_record().reports.last().unwrap().outcome, UpdateOutcome::RolledBack);

    // Its image is on the disk: nothing is fetched or written, and it gets fresh tries.
    fs::remove_dir_all(board.store().join("blobs")).unwrap();
    server.requests.lock().unwrap().clear();
    done(&tell(&mut updater, &STAGE));
    done(&tell(&mut updater, &UpdateCommand::Activate { to: v(2) }));
    assert_eq!(board.names(), ["goblinux_1.efi", "goblinux_2+3.efi"]);
    board.boot();
    assert_eq!(board.running, 2);
}

#[test]
fn release_from_before_mirrors_is_refused_on_two_disks() {
    let (_server, mut board) = setup(&[1, 2, KNOWS_MIRRORS]);
    let mut updater = board.updater();
    let stage = |n| UpdateCommand::Stage { to: Some(v(n)), from: None };
    done(&tell(&mut updater, &stage(2)));
    // A mirror is made while an older release is staged.
    let label = goblin_core_types::DiskLabel { set: "s".into(), ..Default::default() };
    goblin_sys::mirror::write_label_at(&board.dir.path().join("record"), &label).unwrap();
    let before = board.fixed();
    let refused = tell(&mut updater, &UpdateCommand::Activate { to: v(2) });
    assert_eq!(kind(&refused), "refused");
    assert!(format!("{refused:?}").contains("release 2 is from before mirrored"), "{refused:?}");
    assert_eq!(kind(&tell(&mut updater, &stage(2))), "refused");
    let (record, esp, _) = board.fixed();
    assert_eq!((record, esp), (before.0, before.1));
    done(&tell(&mut updater, &stage(KNOWS_MIRRORS)));
    done(&tell(&mut updater, &UpdateCommand::Activate { to: v(KNOWS_MIRRORS) }));
    let mut updater = board.boot();
    let before = board.fixed();
    assert_eq!(kind(&tell(&mut updater, &UpdateCommand::Rollback { to: None })), "refused");
    assert_eq!(board.fixed(), before);
}

#[test]
fn what_was_missing_when_a_release_was_armed_is_written_down_with_it() {
    let (_server, board) = setup(&[1, 2]);
    let mut updater = board.updater();
    done(&tell(&mut updater, &STAGE));
    board.seen.pool_missing.store(true, Ordering::Relaxed);
    done(&tell(&mut updater, &UpdateCommand::Activate { to: v(2) }));
    let pending = board.boot_record().pending.unwrap();
    assert!(pending.pool_missing && pending.peer_expected);
}

#[test]
fn older_release_that_does_not_come_up_any_more_is_left_again() {
    let (_server, mut board) = setup(&[1, 2]);
    let mut updater = board.updater();
    done(&tell(&mut updater, &STAGE));
    done(&tell(&mut updater, &UpdateCommand::Activate { to: v(2) }));
    let mut updater = board.boot();
    board.broken = vec![1];
    done(&tell(&mut updater, &UpdateCommand::Rollback { to: None }));
    board.boot();
    assert_eq!(board.running, 2);
    assert_eq!(board.names(), ["goblinux_2.efi"]);
    let report = board.boot_record().reports.pop().unwrap();
    assert_eq!((report.to, report.outcome), (v(1), UpdateOutcome::FellBack));
}

#[test]
fn release_set_aside_survives_a_cut_before_it_is_armed_again() {
    let (_server, mut board) = setup(&[1, 2]);
    let mut updater = board.updater();
    done(&tell(&mut updater, &STAGE));
    done(&tell(&mut updater, &UpdateCommand::Activate { to: v(2) }));
    let mut updater = board.boot();
    done(&tell(&mut updater, &UpdateCommand::Rollback { to: None }));
    let mut updater = board.boot();
    done(&tell(&mut updater, &STAGE));
    let pending = Pending {
        to: v(2),
        from: v(1),
        rollback: false,
        uki: hash(&release(2).uki),
        peer_expected: false,
        pool_missing: false,
        at_unix_s: NOW,
        boot: board.boot_record().boot_count,
        written: None,
    };
    board.record().update(|record| record.pending = Some(pending)).unwrap();
    let mut updater = board.boot();
    assert_eq!(board.names(), ["goblinux_1.efi", "goblinux_2+0-1.efi"]);
    assert_eq!(board.boot_record().quarantine, []);
    done(&tell(&mut updater, &UpdateCommand::Activate { to: v(2) }));
    board.boot();
    assert_eq!(board.running, 2);
}

#[test]
fn release_that_the_loader_passes_over_does_not_block_the_updater() {
    let (_server, mut board) = setup(&[1, 2]);
    let mut updater = board.updater();
    done(&tell(&mut updater, &STAGE));
    done(&tell(&mut updater, &UpdateCommand::Activate { to: v(2) }));
    board.chosen = Some(1);
    let mut updater = board.boot();
    assert_eq!((board.running, board.status().update.phase), (1, UpdatePhase::Idle));
    let report = board.boot_record().reports.pop().unwrap();
    assert!(report.reason.contains("set as its default there"), "{}", report.reason);
    board.chosen = None;
    done(&tell(&mut updater, &STAGE));
    done(&tell(&mut updater, &UpdateCommand::Activate { to: v(2) }));
    board.boot();
    assert_eq!(board.running, 2);
}

#[test]
fn clock_that_was_years_ahead_does_not_lock_the_board_out() {
    let (_server, board) = setup(&[1, 2]);
    board.seen.now.store(NOW + 20 * 365 * 86_400, Ordering::Relaxed);
    assert!(refused(&board, "expired").contains("correct the board's clock"));
    board.seen.now.store(NOW, Ordering::Relaxed);
    assert_eq!(done(&tell(&mut board.updater(), &STAGE)), Some(v(2)));
}

#[test]
fn dead_clock_does_not_revive_what_expired() {
    let (server, board) = setup(&[1]);
    done(&tell(&mut board.updater(), &UpdateCommand::Check));
    board.seen.now.store(5, Ordering::Relaxed);
    assert_eq!(done(&tell(&mut board.updater(), &UpdateCommand::Check)), None);
    publish(&server, &keys(1), 2, &[1, 2], NOW - 400 * 86_400);
    refused(&board, "expired");
}

#[test]
fn files_of_others_on_the_boot_disk_are_left_alone() {
    let (_server, mut board) = setup(&[1, 2]);
    // More of them leave no room for a name that changes safely: they lie in a folder of their own.
    fs::create_dir(board.linux().join("x")).unwrap();
    let others = ["x/debian.efi", "x/goblinux_2.efi.bak", "goblinux_9.EFI"];
    for name in others {
        fs::write(board.linux().join(name), name).unwrap();
    }
    board.broken = vec![2];
    let mut updater = board.updater();
    done(&tell(&mut updater, &STAGE));
    done(&tell(&mut updater, &UpdateCommand::Activate { to: v(2) }));
    board.boot();
    for name in others {
        assert_eq!(fs::read(board.linux().join(name)).unwrap(), name.as_bytes());
    }
}

#[test]
fn verdict_that_cannot_be_reached_at_the_start_is_reached_later() {
    let (_server, board) = setup(&[1, 2]);
    let mut updater = board.updater();
    done(&tell(&mut updater, &STAGE));
    done(&tell(&mut updater, &UpdateCommand::Activate { to: v(2) }));
    let (linux, away) = (board.linux(), board.linux().with_file_name("away"));
    fs::rename(&linux, &away).unwrap();
    let mut updater = board.updater();
    assert_eq!(kind(&tell(&mut updater, &UpdateCommand::Rollback { to: None })), "esp");
    fs::rename(&away, &linux).unwrap();
    updater.tick();
    assert_eq!(board.status().update.phase, UpdatePhase::Armed);
}

#[test]
fn at_most_three_images_stay() {
    let (server, mut board) = setup(&[1]);
    for n in 2..=5 {
        publish(&server, &keys(1), u64::from(n), &[n], NOW);
        let mut updater = board.boot();
        done(&tell(&mut updater, &STAGE));
        done(&tell(&mut updater, &UpdateCommand::Activate { to: v(n) }));
        board.boot();
        assert_eq!(board.running, n);
    }
    assert_eq!(board.names(), ["goblinux_3.efi", "goblinux_4.efi", "goblinux_5.efi"]);
}

#[test]
fn other_keys_are_refused() {
    let (server, board) = setup(&[1]);
    publish(&server, &keys(2), 2, &[1, 2], NOW);
    assert!(refused(&board, "signature").contains("not signed by the keys this board trusts"));
}

#[test]
fn changed_manifest_is_refused() {
    let (server, board) = setup(&[1, 2]);
    let path = "releases/2/manifest.json";
    let mut files = server.files.lock().unwrap();
    let text = String::from_utf8(files[path].clone()).unwrap().replace("quiet", "debug");
    files.insert(path.into(), text.into_bytes());
    drop(files);
    refused(&board, "signature");
}

#[test]
fn expired_repository_is_refused() {
    let (server, board) = setup(&[1]);
    publish(&server, &keys(1), 1, &[1, 2], NOW - 400 * 86_400);
    assert!(refused(&board, "expired").contains("timestamp.json expired at"));
}

#[test]
fn past_state_of_the_repository_is_refused() {
    let (server, board) = setup(&[1]);
    publish(&server, &keys(1), 7, &[1], NOW);
    done(&tell(&mut board.updater(), &UpdateCommand::Check));
    publish(&server, &keys(1), 6, &[1, 2], NOW);
    refused(&board, "older");
}

#[test]
fn older_release_is_not_offered_but_may_be_named() {
    let (server, mut board) = setup(&[1, 2]);
    let mut updater = board.updater();
    done(&tell(&mut updater, &STAGE));
    done(&tell(&mut updater, &UpdateCommand::Activate { to: v(2) }));
    board.boot();
    publish(&server, &keys(1), 3, &[1], NOW);
    assert!(refused(&board, "older").contains("`goblin upgrade --to 1`"));
    let mut updater = board.updater();
    done(&tell(&mut updater, &UpdateCommand::Stage { to: Some(v(1)), from: None }));
    done(&tell(&mut updater, &UpdateCommand::Activate { to: v(1) }));
    board.boot();
    assert_eq!(board.running, 1);
}

#[test]
fn damaged_content_is_refused_and_not_kept() {
    let (server, board) = setup(&[1, 2]);
    for (path, bytes) in server.files.lock().unwrap().iter_mut() {
        if path.starts_with("blobs/") && bytes.len() == LARGE_BYTES {
            bytes[1000] ^= 1;
        }
    }
    refused(&board, "blob-mismatch");
}

#[test]
fn content_of_another_length_is_refused() {
    let (server, board) = setup(&[1, 2]);
    for (path, bytes) in server.files.lock().unwrap().iter_mut() {
        if path.starts_with("blobs/") && bytes.len() == LARGE_BYTES {
            bytes.push(0);
        }
    }
    refused(&board, "blob-mismatch");
}

#[test]
fn content_that_rots_in_the_store_is_noticed_and_fetched_anew() {
    let (_server, board) = setup(&[1, 2]);
    let mut updater = board.updater();
    done(&tell(&mut updater, &STAGE));
    // As a power cut leaves them that comes before the image is staged.
    let contents: Vec<_> = fs::read_dir(board.store().join("blobs"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .map(|path| (path.clone(), fs::read(path).unwrap()))
        .collect();
    done(&tell(&mut updater, &UpdateCommand::Discard));
    for (path, mut bytes) in contents {
        if bytes.len() == LARGE_BYTES {
            bytes[7] ^= 1;
        }
        fs::write(&path, bytes).unwrap();
    }
    refused(&board, "blob-mismatch");
    assert_eq!(done(&tell(&mut board.updater(), &STAGE)), Some(v(2)));
}

#[test]
fn server_that_stops_for_good_is_refused_and_one_that_stumbles_is_not() {
    let (server, board) = setup(&[1, 2]);
    *server.fault.lock().unwrap() = Fault::Cut("blobs/", u32::MAX);
    assert!(refused(&board, "network").contains("it stopped after"));
    *server.fault.lock().unwrap() = Fault::Cut("blobs/", 2);
    assert_eq!(done(&tell(&mut board.updater(), &STAGE)), Some(v(2)));
}

#[test]
fn absent_server_is_refused() {
    let (server, mut board) = setup(&[1, 2]);
    server.files.lock().unwrap().clear();
    refused(&board, "network");
    board.source.url = "http://127.0.0.1:1/repo".into();
    refused(&board, "network");
}

#[test]
fn full_state_is_refused_before_anything_is_fetched() {
    let (server, mut board) = setup(&[1, 2]);
    board.spare_bytes = u64::MAX / 2;
    let message = refused(&board, "space");
    assert!(message.contains("bytes free and"), "{message}");
    assert!(!server.requests.lock().unwrap().iter().any(|path| path.starts_with("blobs/")));
}

#[test]
fn state_that_fills_up_meanwhile_is_refused_and_nothing_is_left() {
    let (server, board) = setup(&[1, 2]);
    let store = board.store();
    if let Err(err) = mount::mount("tmpfs", &store, "tmpfs", MountFlags::empty(), "size=768k") {
        println!("skipped: cannot mount a small tmpfs: {err}");
        return;
    }
    let filler = store.join("someone-else");
    let fill = move || {
        // Until not one more page fits.
        let mut file = fs::File::create(&filler).unwrap();
        while std::io::Write::write(&mut file, &[0u8; 4096]).is_ok_and(|n| n > 0) {}
    };
    *server.fault.lock().unwrap() = Fault::Before("blobs/", Arc::new(fill));
    let message = refused(&board, "space");
    assert!(message.contains("the state partition"), "{message}");
    // What others wrote is still there; of the release nothing is.
    let left: Vec<_> = fs::read_dir(store.join("blobs")).unwrap().flatten().collect();
    assert!(left.is_empty(), "{left:?}");
    mount::umount_lazy(&store).unwrap();
}

/// A small btrfs like STATE, mounted over a folder until dropped.
struct SmallBtrfs(std::path::PathBuf);

impl SmallBtrfs {
    fn mount(image: &std::path::Path, at: &std::path::Path) -> Result<Self, String> {
        let run = |program: &str, args: &[&std::ffi::OsStr]| {
            let out = std::process::Command::new(program).args(args).output();
            let out = out.map_err(|err| format!("{program}: {err}"))?;
            let said = || format!("{program}: {}", String::from_utf8_lossy(&out.stderr));
            if out.status.success() { Ok(()) } else { Err(said()) }
        };
        fs::File::create(image)
            .and_then(|file| file.set_len(160 << 20))
            .map_err(|e| e.to_string())?;
        run("mkfs.btrfs", &["-q".as_ref(), image.as_ref()])?;
        run("mount", &["-o".as_ref(), "loop".as_ref(), image.as_ref(), at.as_ref()])?;
        Ok(Self(at.to_owned()))
    }
}

impl Drop for SmallBtrfs {
    fn drop(&mut self) {
        // Not lazily: the loop device goes with the last user.
        let _ = std::process::Command::new("umount").arg(&self.0).status();
    }
}

#[test]
fn full_btrfs_is_refused_with_its_usage_as_before() {
    let (server, board) = setup(&[1, 2]);
    let store = board.store();
    let mounted = match SmallBtrfs::mount(&board.dir.path().join("state.img"), &store) {
        Ok(mounted) => mounted,
        Err(why) => {
            println!("skipped: cannot mount a small btrfs: {why}");
            return;
        }
    };
    let filler = store.join("someone-else");
    let full = filler.clone();
    let fill = move || {
        let mut file = fs::File::create(&full).unwrap();
        for piece in [1 << 20, 4096] {
            while std::io::Write::write_all(&mut file, &vec![7u8; piece]).is_ok() {}
        }
        let _ = file.sync_all();
    };
    *server.fault.lock().unwrap() = Fault::Before("blobs/", Arc::new(fill));
    let message = refused(&board, "space");
    assert!(message.contains("the state partition"), "{message}");
    let left: Vec<_> = fs::read_dir(store.join("blobs")).unwrap().flatten().collect();
    assert!(left.is_empty(), "{left:?}");
    // With the room given back the same board goes on.
    *server.fault.lock().unwrap() = Fault::None;
    fs::remove_file(filler).unwrap();
    // btrfs gives room back when it commits, not when the file goes.
    rustix::fs::syncfs(fs::File::open(&store).unwrap()).unwrap();
    assert_eq!(done(&tell(&mut board.updater(), &STAGE)), Some(v(2)));
    drop(mounted);
}

#[test]
fn staged_image_that_rots_is_not_armed() {
    let (_server, board) = setup(&[1, 2]);
    let mut updater = board.updater();
    done(&tell(&mut updater, &STAGE));
    let mut bytes = fs::read(board.linux().join(".new")).unwrap();
    bytes[2000] ^= 1;
    fs::write(board.linux().join(".new"), bytes).unwrap();
    let reply = tell(&mut updater, &UpdateCommand::Activate { to: v(2) });
    assert_eq!(kind(&reply), "esp");
    assert_eq!(board.seen.reboots.load(Ordering::Relaxed), 0);
    assert!(!board.names().iter().any(|name| name.starts_with("goblinux_2")));
    assert_eq!(board.boot_record().pending, None);
    assert_eq!(board.status().update.phase, UpdatePhase::Idle);
    done(&tell(&mut updater, &STAGE));
    assert_eq!(done(&tell(&mut updater, &UpdateCommand::Activate { to: v(2) })), Some(v(2)));
}

#[test]
fn foreign_or_damaged_stored_metadata_begins_anew() {
    let (_server, board) = setup(&[1, 2]);
    for garbage in ["", "{}", "not json"] {
        fs::write(board.store().join("trusted.json"), garbage).unwrap();
        assert_eq!(done(&tell(&mut board.updater(), &UpdateCommand::Check)), Some(v(2)));
    }
}

#[test]
fn board_without_record_or_source_says_so() {
    let (_server, board) = setup(&[1, 2]);
    let mut env = board.env(false);
    env.record = None;
    assert_eq!(kind(&tell(&mut goblin_agent_update::Updater::start(env), &STAGE)), "esp");
    let mut env = board.env(false);
    env.source = None;
    assert_eq!(kind(&tell(&mut goblin_agent_update::Updater::start(env), &STAGE)), "not-found");
}
