//! What people set and ask, and what they are told, across restarts.

use crate::board::*;
use goblin_agent_update::{Peer, PeerError, Unasked};
use goblin_core_types::{
    BoardStatus, Role, Schedule, ScheduleMode, ShareStatus, UpdateCommand, UpdateLife, UpdateReply,
    UpdateSource, UpgradePlan,
};
use std::fs;
use std::time::Duration;

const STAGE: UpdateCommand = UpdateCommand::Stage { to: None, from: None };

fn setup(releases: &[u32]) -> (Server, Board) {
    let server = Server::start();
    publish(&server, &keys(1), 1, releases, NOW);
    let board = Board::new(Role::Storage, &server, &keys(1));
    (server, board)
}

fn upgrade(board: &mut Board, to: u32) {
    let mut updater = board.updater();
    done(&tell(&mut updater, &UpdateCommand::Stage { to: Some(v(to)), from: None }));
    done(&tell(&mut updater, &UpdateCommand::Activate { to: v(to) }));
    board.boot();
}

fn preview(board: &Board) -> UpgradePlan {
    let mut plan = None;
    let command = UpdateCommand::Preview { to: None, from: None };
    board.updater().command(&command, &mut |reply| {
        if let UpdateReply::Plan(found) = reply {
            plan = Some(found);
        }
    });
    plan.expect("a plan")
}

fn life(board: &Board) -> UpdateLife {
    board.status().update.life.state
}

#[test]
fn pinned_release_outlives_those_after_it() {
    let (_server, mut board) = setup(&[1, 2, 3, 4, 5]);
    let pin = UpdateCommand::Pin { release: v(1) };
    done(&tell(&mut board.updater(), &pin));
    for to in 2..=4 {
        upgrade(&mut board, to);
    }
    assert_eq!(board.names(), ["goblinux_1.efi", "goblinux_3.efi", "goblinux_4.efi"]);
    assert_eq!(preview(&board).deletes, [v(3)], "and not the older, pinned one");
    done(&tell(&mut board.updater(), &UpdateCommand::Pin { release: v(3) }));
    let before = board.fixed();
    let reply = tell(&mut board.updater(), &STAGE);
    assert_eq!(kind(&reply), "space", "{reply:?}");
    assert_eq!(board.fixed(), before);
    assert!(preview(&board).problems[0].contains("goblin unpin"));
    done(&tell(&mut board.updater(), &UpdateCommand::Unpin { release: v(1) }));
    upgrade(&mut board, 5);
    assert_eq!(board.names(), ["goblinux_3.efi", "goblinux_4.efi", "goblinux_5.efi"]);
    assert_eq!(board.status().update.settings.pins, [v(3)]);
    assert_eq!(
        kind(&tell(&mut board.updater(), &UpdateCommand::Pin { release: v(9) })),
        "not-found"
    );
}

#[test]
fn boot_menu_asks_for_a_reset_by_the_release_that_is_good() {
    let (_server, mut board) = setup(&[1, 2]);
    // As a disk was flashed before there was such an entry.
    fs::remove_dir_all(board.entries()).unwrap();
    let mut updater = board.updater();
    assert_eq!(board.menu(), ["reset_1.conf"]);
    fs::write(board.entries().join("other.conf"), "efi /loader\n").unwrap();
    done(&tell(&mut updater, &STAGE));
    done(&tell(&mut updater, &UpdateCommand::Activate { to: v(2) }));
    assert_eq!(board.menu(), ["other.conf", "reset_1.conf"], "it is what would be gone back to");
    board.boot();
    assert_eq!(board.menu(), ["other.conf", "reset_2.conf"]);
    let written = board.writers.esp.counts();
    done(&tell(&mut board.updater(), &UpdateCommand::Check));
    assert_eq!(board.writers.esp.counts(), written, "what is right is not written again");
    done(&tell(&mut board.updater(), &UpdateCommand::Rollback { to: None }));
    assert_eq!(board.menu(), ["other.conf"], "no release is good until one proves itself");
    board.boot();
    assert_eq!(board.menu(), ["other.conf", "reset_1.conf"]);
    // A damaged one is written anew.
    fs::write(board.entries().join("reset_1.conf"), "title half").unwrap();
    board.updater();
    assert_eq!(board.menu(), ["other.conf", "reset_1.conf"]);
}

#[test]
fn preview_tells_what_would_happen_and_does_none_of_it() {
    let (server, board) = setup(&[1, 2]);
    let before = board.fixed();
    let plan = preview(&board);
    assert_eq!((plan.from, plan.to, plan.deletes.len()), (v(1), Some(v(2)), 0));
    assert!(plan.fetch_bytes > LARGE_BYTES as u64 && plan.fetch_count == 5, "{plan:?}");
    assert_eq!(plan.fetch_requests, 5, "a repository without packs: {plan:?}");
    assert!(plan.ways.iter().any(|way| way.starts_with("chosen: ")), "{plan:?}");
    assert_eq!(plan.image_bytes, release(2).uki.len() as u64);
    assert!(plan.problems.is_empty());
    assert_eq!(board.fixed(), before);
    assert!(!server.requests.lock().unwrap().iter().any(|path| path.starts_with("blobs/")));
}

#[test]
fn two_releases_are_compared_by_what_the_repository_says() {
    let (_server, board) = setup(&[1, 2]);
    let mut found = None;
    let command = UpdateCommand::Diff { a: None, b: v(2) };
    board.updater().command(&command, &mut |reply| {
        if let UpdateReply::Diff(diff) = reply {
            found = Some(*diff);
        }
    });
    let diff = found.expect("a comparison");
    assert_eq!((diff.a, diff.b), (v(1), v(2)));
    let paths: Vec<&str> = diff.files.iter().map(|file| file.path.as_str()).collect();
    assert_eq!(paths, ["/etc/os-release", "/usr/bin/goblin"]);
    assert_eq!(diff.parts[0].name, "kernel");
    let absent = UpdateCommand::Diff { a: Some(v(1)), b: v(7) };
    assert_eq!(kind(&tell(&mut board.updater(), &absent)), "not-found");
}

#[test]
fn channel_set_by_a_person_stays_and_can_be_taken_back() {
    let (_server, board) = setup(&[1, 2]);
    let set = |name: Option<&str>| UpdateCommand::SetChannel { channel: name.map(str::to_owned) };
    assert_eq!(kind(&tell(&mut board.updater(), &set(Some("No Such")))), "refused");
    done(&tell(&mut board.updater(), &set(Some("edge"))));
    let mut updater = board.updater();
    assert_eq!(board.status().update.channel.as_deref(), Some("edge"));
    assert_eq!(kind(&tell(&mut updater, &UpdateCommand::Check)), "not-found");
    done(&tell(&mut updater, &set(None)));
    assert_eq!(done(&tell(&mut updater, &UpdateCommand::Check)), Some(v(2)));
    assert_eq!(board.status().update.channel.as_deref(), Some("stable"));
}

#[test]
fn release_is_taken_from_where_it_was_asked_for() {
    let (_server, board) = setup(&[1]);
    let other = Server::start();
    publish(&other, &keys(1), 1, &[1, 2], NOW);
    let from = Some(UpdateSource::Url(other.url.clone()));
    let mut updater = board.updater();
    let stage = UpdateCommand::Stage { to: None, from };
    assert_eq!(done(&tell(&mut updater, &stage)), Some(v(2)));
    // Other keys are refused wherever they come from.
    let foreign = Server::start();
    publish(&foreign, &keys(2), 1, &[1, 3], NOW);
    let from = Some(UpdateSource::Url(foreign.url.clone()));
    assert_eq!(kind(&tell(&mut updater, &UpdateCommand::Stage { to: None, from })), "signature");
}

#[test]
fn life_of_an_upgrade_is_told_the_same_after_every_restart() {
    let (_server, mut board) = setup(&[1, 2, 3]);
    let mut updater = board.updater();
    assert_eq!(life(&board), UpdateLife::Idle);
    let two = UpdateCommand::Stage { to: Some(v(2)), from: None };
    done(&tell(&mut updater, &two));
    assert_eq!(life(&board), UpdateLife::Staged);
    let mut updater = board.updater();
    assert_eq!(life(&board), UpdateLife::Staged);
    done(&tell(&mut updater, &UpdateCommand::Activate { to: v(2) }));
    assert_eq!(life(&board), UpdateLife::Armed);
    board.updater();
    assert_eq!(life(&board), UpdateLife::Armed);
    board.boot();
    assert_eq!(life(&board), UpdateLife::Good);

    board.broken = vec![3];
    let mut updater = board.updater();
    done(&tell(&mut updater, &STAGE));
    done(&tell(&mut updater, &UpdateCommand::Activate { to: v(3) }));
    let mut updater = board.boot();
    assert_eq!(life(&board), UpdateLife::Quarantined);
    let clear = |n| UpdateCommand::ClearQuarantine { release: Some(v(n)) };
    assert_eq!(kind(&tell(&mut updater, &clear(9))), "not-found");
    done(&tell(&mut updater, &clear(3)));
    assert_eq!(life(&board), UpdateLife::Failed);
    done(&tell(&mut updater, &UpdateCommand::Rollback { to: Some(v(1)) }));
    board.boot();
    assert_eq!(life(&board), UpdateLife::RolledBack);
}

#[test]
fn failure_is_told_after_a_restart_until_something_newer_happens() {
    let (server, board) = setup(&[1, 2]);
    server.files.lock().unwrap().retain(|path, _| !path.starts_with("blobs/"));
    assert_eq!(kind(&tell(&mut board.updater(), &STAGE)), "network");
    board.updater();
    let told = board.status().update.life;
    assert_eq!((told.state, told.version), (UpdateLife::Failed, Some(v(2))));
    assert!(told.reason.contains("cannot fetch"), "{}", told.reason);
    publish(&server, &keys(1), 2, &[1, 2], NOW);
    done(&tell(&mut board.updater(), &STAGE));
    assert_eq!(life(&board), UpdateLife::Staged);
}

#[test]
fn fetch_that_a_power_cut_interrupted_goes_on_by_itself_but_not_for_ever() {
    let (server, board) = setup(&[1, 2]);
    // What a cut in the middle of a fetch leaves.
    let intent = board.store().join("intent.json");
    fs::write(&intent, r#"{"to":"2","resumes":0}"#).unwrap();
    let mut updater = board.updater();
    updater.resume_intent();
    assert_eq!(life(&board), UpdateLife::Staged);
    assert!(!intent.exists());

    done(&tell(&mut updater, &UpdateCommand::Discard));
    fs::write(&intent, r#"{"to":"2","resumes":3}"#).unwrap();
    server.requests.lock().unwrap().clear();
    let mut updater = board.updater();
    updater.resume_intent();
    assert_eq!(life(&board), UpdateLife::Failed);
    assert!(server.requests.lock().unwrap().is_empty() && !intent.exists());
}

#[test]
fn boot_disk_with_fifty_files_of_others_is_refused_before_a_byte_is_fetched() {
    let (server, board) = setup(&[1, 2]);
    for n in 0..50 {
        fs::write(board.linux().join(format!("other{n}.efi")), "x").unwrap();
    }
    let before = board.fixed();
    let reply = tell(&mut board.updater(), &STAGE);
    assert_eq!(kind(&reply), "space");
    let UpdateReply::Failed { message, .. } = reply else { unreachable!() };
    assert!(message.contains("50 files"), "{message}");
    assert_eq!(board.fixed(), before);
    assert!(!server.requests.lock().unwrap().iter().any(|path| path.starts_with("blobs/")));
}

/// A storage board that runs release 1 and is used by so many clients.
struct Used(u32, u32);

impl Peer for Used {
    fn status(&mut self) -> Result<BoardStatus, PeerError> {
        self.1 += 1;
        let share = ShareStatus {
            name: "main".into(),
            served: true,
            clients: self.0,
            read_bytes: 0,
            written_bytes: 0,
            problem: None,
        };
        Ok(BoardStatus { shares: vec![share], ..BoardStatus::default() })
    }

    fn command(
        &mut self,
        _: &UpdateCommand,
        _: &mut dyn FnMut(UpdateReply),
    ) -> Result<UpdateReply, PeerError> {
        let message = "asked".into();
        Ok(UpdateReply::Failed { kind: "space".into(), message })
    }
}

#[test]
fn scheduled_upgrade_waits_for_clients_and_says_so() {
    let server = Server::start();
    publish(&server, &keys(1), 1, &[1, 2], NOW);
    let board = Board::new(Role::Compute, &server, &keys(1));
    let mut updater = board.updater();
    let schedule = Schedule { mode: ScheduleMode::Install, ..Schedule::default() };
    done(&tell(&mut updater, &UpdateCommand::SetSchedule { schedule }));
    let mut updater = board.updater();
    let (mut unasked, mut peer) = (Unasked::default(), Used(2, 0));
    unasked.tick(&mut updater, &mut peer, Duration::from_millis(1));
    assert_eq!(
        (board.status().update.offered, peer.1),
        (Some(v(2)), 0),
        "looked, nobody disturbed"
    );
    unasked.tick(&mut updater, &mut peer, Duration::from_millis(1));
    let waiting = board.status().update.waiting.expect("it waits");
    assert!(waiting.contains("2 client connections"), "{waiting}");
    // They are gone: it goes on, fails here, and does not try again at once.
    peer.0 = 0;
    unasked.tick(&mut updater, &mut peer, Duration::from_millis(1));
    assert_eq!(life(&board), UpdateLife::Failed);
    let asked = peer.1;
    unasked.tick(&mut updater, &mut peer, Duration::from_millis(1));
    assert_eq!(peer.1, asked);
}

/// Publishes release 2 so that it comes to all boxes `days` days from now, or is halted.
fn hand_out(server: &Server, version: u64, days: u32, halted: Option<&str>) {
    use goblin_core_manifest::time::Instant;
    use goblin_core_manifest::waves::{PLACES, Step, Waves};
    let from = Instant::from_unix_s(NOW).plus_days(days);
    let halted = halted.map(str::to_owned);
    let waves = Waves { steps: vec![Step { from, places: PLACES }], halted };
    publish_edited(server, &keys(1), version, &[1, 2], NOW, &|_, custom| {
        if custom.version == v(2) {
            custom.waves = Some(waves.clone());
        }
    });
}

fn said(reply: &UpdateReply) -> &str {
    match reply {
        UpdateReply::Done { message, .. } | UpdateReply::Failed { message, .. } => message,
        other => panic!("{other:?}"),
    }
}

#[test]
fn release_in_waves_waits_for_the_turn_of_the_box_unless_a_person_does_not() {
    let (server, board) = setup(&[1]);
    hand_out(&server, 2, 3, None);
    let mut updater = board.updater();
    let check = tell(&mut updater, &UpdateCommand::Check);
    assert_eq!(done(&check), None);
    assert!(said(&check).contains("2027-01-18") && said(&check).contains("--now"), "{check:?}");
    assert_eq!(done(&tell(&mut updater, &STAGE)), None);
    assert_eq!(board.status().update.offered, None);
    assert_eq!(done(&tell(&mut updater, &UpdateCommand::CheckNow)), Some(v(2)));
    // Not for good.
    assert_eq!(done(&tell(&mut updater, &UpdateCommand::Check)), None);
    let named = UpdateCommand::Stage { to: Some(v(2)), from: None };
    assert_eq!(done(&tell(&mut updater, &named)), Some(v(2)));
    done(&tell(&mut updater, &UpdateCommand::Discard));
    // The turn comes.
    board.seen.now.store(NOW + 3 * 86_400, std::sync::atomic::Ordering::Relaxed);
    assert_eq!(done(&tell(&mut updater, &STAGE)), Some(v(2)));
}

#[test]
fn halted_release_does_not_start_and_one_that_started_goes_on() {
    let (server, mut board) = setup(&[1]);
    hand_out(&server, 2, 0, None);
    assert_eq!(done(&tell(&mut board.updater(), &STAGE)), Some(v(2)));
    hand_out(&server, 3, 0, Some("fans stop"));
    let mut updater = board.updater();
    let check = tell(&mut updater, &UpdateCommand::Check);
    assert!(said(&check).contains("halted it (fans stop)"), "{check:?}");
    done(&tell(&mut updater, &UpdateCommand::Activate { to: v(2) }));
    board.boot();
    assert_eq!(board.running, 2);
}

#[test]
fn release_that_could_not_speak_with_the_other_board_is_refused_before_a_byte_is_fetched() {
    use goblin_core_manifest::release::ProtocolRange;
    let (server, board) = setup(&[1]);
    publish_edited(&server, &keys(1), 2, &[1, 2], NOW, &|manifest, _| {
        if manifest.version == v(2) {
            manifest.protocol = ProtocolRange { min: 7, max: 9 };
        }
    });
    let before = board.fixed();
    let refused = tell(&mut board.updater(), &STAGE);
    assert_eq!(kind(&refused), "refused");
    assert!(said(&refused).contains("in between"), "{refused:?}");
    assert!(!server.requests.lock().unwrap().iter().any(|path| path.starts_with("blobs/")));
    assert_eq!(board.fixed(), before);
}

/// Every file of the store and of the boot disk with its size.
fn usage(board: &Board) -> Vec<(std::path::PathBuf, u64)> {
    let mut found = Vec::new();
    let mut folders = vec![board.store(), board.linux()];
    while let Some(folder) = folders.pop() {
        let Ok(entries) = fs::read_dir(&folder) else { continue };
        for entry in entries.map(Result::unwrap) {
            let meta = entry.metadata().unwrap();
            if meta.is_dir() {
                folders.push(entry.path());
            } else {
                found.push((entry.path(), meta.len()));
            }
        }
    }
    found.sort();
    found
}

/// What an update may leave: what it believes of the repository, and why it failed. No contents.
fn bulk(board: &Board) -> Vec<(std::path::PathBuf, u64)> {
    let mut all = usage(board);
    all.retain(|(path, _)| path.extension().is_none_or(|word| word != "json"));
    all
}

#[test]
fn discarded_update_leaves_the_disks_as_full_as_they_were() {
    let (_server, board) = setup(&[1, 2]);
    let before = bulk(&board);
    let mut updater = board.updater();
    assert_eq!(done(&tell(&mut updater, &STAGE)), Some(v(2)));
    assert_ne!(bulk(&board), before);
    done(&tell(&mut updater, &UpdateCommand::Discard));
    assert_eq!(bulk(&board), before);
}

#[test]
fn decided_update_leaves_no_contents_whether_it_is_good_or_fell_back() {
    for broken in [vec![], vec![2]] {
        let (_server, mut board) = setup(&[1, 2]);
        board.broken = broken;
        upgrade(&mut board, 2);
        let _ = board.updater();
        let left: Vec<_> = usage(&board)
            .into_iter()
            .filter(|(path, _)| path.starts_with(board.store()))
            .filter(|(path, _)| path.extension().is_none_or(|word| word != "json"))
            .collect();
        assert_eq!(left, []);
    }
}

#[test]
fn comparison_names_the_packages_that_changed_and_refuses_a_list_nobody_signed() {
    let (server, board) = setup(&[1, 2]);
    let packages = || {
        let mut found = None;
        let diff = UpdateCommand::Diff { a: None, b: v(2) };
        board.updater().command(&diff, &mut |reply| {
            if let UpdateReply::Diff(diff) = reply {
                found = Some(diff.packages);
            }
        });
        found.expect("a comparison")
    };
    let changed = packages().expect("both releases list their packages");
    let told: Vec<_> =
        changed.iter().map(|c| (c.name.as_str(), c.a.as_deref(), c.b.as_deref())).collect();
    assert_eq!(told, [("libc6", Some("1"), Some("2"))]);
    for bytes in server.files.lock().unwrap().iter_mut().filter(|(path, _)| path.contains("sbom")) {
        bytes.1.push(b' ');
    }
    assert_eq!(packages(), None);
}

#[test]
fn factory_reset_is_in_the_record_before_the_board_restarts_and_waits_for_an_upgrade() {
    use goblin_core_types::ResetLevel;
    let (_server, board) = setup(&[1, 2]);
    let reset =
        |level| UpdateCommand::FactoryReset { level, why: "asked for in a test".to_owned() };
    let mut updater = board.updater();
    done(&tell(&mut updater, &STAGE));
    done(&tell(&mut updater, &reset(ResetLevel::System)));
    let ordered = board.boot_record().reset.unwrap();
    assert_eq!((ordered.level, ordered.tries), (ResetLevel::System, 0));
    assert_eq!(board.seen.reboots.load(std::sync::atomic::Ordering::Relaxed), 1);

    let (_server, board) = setup(&[1, 2]);
    let mut updater = board.updater();
    done(&tell(&mut updater, &STAGE));
    done(&tell(&mut updater, &UpdateCommand::Activate { to: v(2) }));
    let before = board.fixed();
    assert_eq!(kind(&tell(&mut updater, &reset(ResetLevel::All))), "refused");
    assert_eq!(board.fixed(), before);
    let both = UpdateCommand::FactoryResetPair { level: ResetLevel::All, why: String::new() };
    assert_eq!(kind(&tell(&mut updater, &both)), "refused");
}
