//! Packs and patches over a web server that is friendly, and over one that is not.

use crate::board::{
    Board, Fault, Release, Rude, Server, done, hash, keys, kind, publish, release, tell, v,
};
use goblin_core_delta::frame::{self, Effort};
use goblin_core_delta::pack::Index;
use goblin_core_delta::patch::{self, New};
use goblin_core_manifest::publish::{Lifetimes, Publisher, RepositoryKeys};
use goblin_core_manifest::release::{
    PackFile, Parcels, PatchFile, blob_path, pack_path, patch_path,
};
use goblin_core_manifest::time::Instant;
use goblin_core_manifest::tuf::ReleaseCustom;
use goblin_core_types::{Digest, Role, UpdateCommand};
use std::fs;

const STAGE: UpdateCommand = UpdateCommand::Stage { to: None, from: None };

/// What of a release is published.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum With {
    /// Single contents alone.
    Nothing,
    Pack,
    PackAndPatch,
}

/// Contents of a release, in the order of its manifest.
fn contents(release: &Release) -> Vec<(Digest, Vec<u8>)> {
    release.blobs.iter().map(|(digest, bytes)| (*digest, bytes.clone())).collect()
}

/// Publishes release `to` with parcels, which lead from release 1; `blobs` tells whether single contents
/// lie there too.
pub(crate) fn publish_parcels(
    server: &Server,
    keys: &RepositoryKeys,
    mut new: Release,
    with: With,
    blobs: bool,
) {
    let (old, to) = (release(1), new.manifest.version);
    let all = contents(&new);
    let frames: Vec<Vec<u8>> =
        all.iter().map(|(_, bytes)| frame::compress(&[bytes], Effort::Quick).unwrap()).collect();
    let sizes = frames.iter().zip(0..).map(|(frame, i)| (frame.len() as u64, vec![i])).collect();
    let (index, head) = Index::new(sizes).unwrap();
    let pack = [head.clone(), frames.concat()].concat();
    let pack_file =
        PackFile { bytes: index.pack_bytes, index_bytes: head.len() as u64, index: hash(&head) };
    let mut files = server.files.lock().unwrap();
    files.clear();
    files.insert(pack_path(to), pack);
    let mut patches = Vec::new();
    if with == With::PackAndPatch {
        let held = base(&old);
        let sources: Vec<(Digest, &[u8])> =
            held.iter().map(|bytes| (hash(bytes), &bytes[..])).collect();
        let lacking = all
            .iter()
            .zip(0..)
            .filter(|((digest, _), _)| !sources.iter().any(|(held, _)| held == digest));
        let targets: Vec<New<'_>> =
            lacking.map(|((_, bytes), ordinal)| New { ordinal, bytes, source: Some(0) }).collect();
        let patch = patch::encode(&sources, &targets, Effort::Quick).unwrap();
        let (bytes, digest) = (patch.len() as u64, hash(&patch));
        patches.push(PatchFile { from: v(1), bytes, digest });
        files.insert(patch_path(v(1), to), patch);
    }
    new.manifest.parcels = (with != With::Nothing).then_some(Parcels { pack: pack_file, patches });
    let mut publisher = Publisher::empty();
    let bytes = new.manifest.to_bytes().unwrap();
    let uki = Some(new.manifest.uki.uki_digest);
    let custom = ReleaseCustom { version: to, channel: "stable".into(), uki, waves: None };
    let path = publisher.add_release(&custom, &bytes).unwrap();
    files.insert(path, bytes);
    if blobs {
        files.extend(new.blobs.into_iter().map(|(digest, bytes)| (blob_path(&digest), bytes)));
    }
    let now = Instant::from_unix_s(crate::board::NOW);
    for written in publisher.publish(keys, now, Lifetimes::default()).unwrap() {
        files.insert(written.path, written.bytes);
    }
}

/// What the base of a release holds, the large program first.
fn base(release: &Release) -> Vec<Vec<u8>> {
    let mut files: Vec<Vec<u8>> = release
        .blobs
        .values()
        .filter(|bytes| bytes.len() == crate::board::LARGE_BYTES || bytes.len() < 3)
        .cloned()
        .collect();
    files.sort_by_key(|bytes| std::cmp::Reverse(bytes.len()));
    files
}

/// A board that runs release 1, with its base where the updater finds it.
fn setup(with: With, blobs: bool) -> (Server, Board) {
    let (server, keys) = (Server::start(), keys(1));
    publish_parcels(&server, &keys, release(2), with, blobs);
    let board = Board::new(Role::Storage, &server, &keys);
    let folder = board.dir.path().join("base");
    fs::create_dir_all(&folder).unwrap();
    for (place, bytes) in base(&release(1)).into_iter().enumerate() {
        fs::write(folder.join(format!("file-{place}")), bytes).unwrap();
    }
    (server, board)
}

fn asked(server: &Server, part: &str) -> usize {
    server.requests.lock().unwrap().iter().filter(|path| path.contains(part)).count()
}

#[test]
fn patch_makes_what_the_running_system_lacks_in_few_requests() {
    let (server, board) = setup(With::PackAndPatch, false);
    assert_eq!(done(&tell(&mut board.updater(), &STAGE)), Some(v(2)));
    assert_eq!((asked(&server, ".patch"), asked(&server, "/pack")), (1, 0));
    let requests = server.requests.lock().unwrap().len();
    assert!(requests <= 10, "{requests} requests");
    board.check_store();
}

#[test]
fn pack_serves_a_board_that_no_patch_is_for() {
    let (server, mut board) = setup(With::PackAndPatch, false);
    // The same contents under another version: no patch leads from it.
    fs::rename(board.linux().join("goblinux_1.efi"), board.linux().join("goblinux_0.efi")).unwrap();
    board.running = 0;
    assert_eq!(done(&tell(&mut board.updater(), &STAGE)), Some(v(2)));
    assert_eq!(asked(&server, ".patch"), 0);
    let requests = server.requests.lock().unwrap().len();
    assert!(requests <= 10, "{requests} requests");
    board.check_store();
}

#[test]
fn patch_that_is_not_for_this_system_gives_way_to_the_pack() {
    let (server, board) = setup(With::PackAndPatch, false);
    fs::write(board.dir.path().join("base/file-0"), b"of another build").unwrap();
    assert_eq!(done(&tell(&mut board.updater(), &STAGE)), Some(v(2)));
    assert!(asked(&server, ".patch") == 1 && asked(&server, "/pack") > 1);
    board.check_store();
}

#[test]
fn damaged_patch_gives_way_to_the_pack_and_damaged_pack_is_refused() {
    let (server, board) = setup(With::PackAndPatch, false);
    *server.fault.lock().unwrap() = Fault::Rude(".patch", Rude::FlipsBit);
    assert_eq!(done(&tell(&mut board.updater(), &STAGE)), Some(v(2)));
    let (server, board) = setup(With::Pack, false);
    let before = board.fixed();
    *server.fault.lock().unwrap() = Fault::Rude("/pack", Rude::FlipsBit);
    assert_eq!(kind(&tell(&mut board.updater(), &STAGE)), "blob-mismatch");
    assert_eq!(board.fixed(), before);
    board.check_store();
}

#[test]
fn repository_without_its_pack_is_read_content_by_content() {
    let (server, board) = setup(With::Pack, true);
    server.files.lock().unwrap().remove(&pack_path(v(2)));
    assert_eq!(done(&tell(&mut board.updater(), &STAGE)), Some(v(2)));
    assert!(asked(&server, "blobs/") > 0);
}

#[test]
fn release_of_an_older_publisher_is_read_content_by_content() {
    let (server, board) = setup(With::Pack, true);
    publish(&server, &keys(1), 2, &[1, 3], crate::board::NOW);
    assert_eq!(done(&tell(&mut board.updater(), &STAGE)), Some(v(3)));
    assert_eq!(asked(&server, "/pack"), 0);
}

#[test]
fn servers_that_misbehave_are_borne_where_that_is_safe() {
    for rude in [Rude::IgnoresRange, Rude::SendsTooMuch, Rude::Redirects, Rude::Drips] {
        let (server, board) = setup(With::PackAndPatch, false);
        *server.fault.lock().unwrap() = Fault::Rude("releases/2/from", rude);
        assert_eq!(done(&tell(&mut board.updater(), &STAGE)), Some(v(2)), "{rude:?}");
        let (server, board) = setup(With::Pack, false);
        *server.fault.lock().unwrap() = Fault::Rude("/pack", rude);
        if rude != Rude::Drips {
            assert_eq!(done(&tell(&mut board.updater(), &STAGE)), Some(v(2)), "{rude:?}");
        }
        board.check_store();
    }
}

#[test]
fn servers_that_lie_are_refused_with_nothing_changed() {
    let lies = [
        Rude::LiesAboutRange,
        Rude::Compresses,
        Rude::RedirectsForEver,
        Rude::Fails,
        Rude::CutsAfter(0),
    ];
    for rude in lies {
        let (server, board) = setup(With::Pack, false);
        let before = board.fixed();
        *server.fault.lock().unwrap() = Fault::Rude("/pack", rude);
        assert_eq!(kind(&tell(&mut board.updater(), &STAGE)), "network", "{rude:?}");
        assert_eq!(board.fixed(), before, "{rude:?}");
        board.check_store();
    }
}

#[test]
fn servers_that_never_end_are_hung_up_on() {
    let parts = [
        ("timestamp.json", 16 << 10),
        ("snapshot.json", 64 << 10),
        ("targets.json", 2 << 20),
        ("manifest.json", 4 << 20),
        ("/pack", 1 << 20),
        ("blobs/", 1 << 20),
    ];
    for (part, useful_bytes) in parts {
        let with = if part == "blobs/" { With::Nothing } else { With::Pack };
        let (server, board) = setup(with, part == "blobs/");
        let before = board.fixed();
        *server.fault.lock().unwrap() = Fault::Rude(part, Rude::NeverEnds);
        let reply = tell(&mut board.updater(), &STAGE);
        assert!(
            matches!(reply, goblin_core_types::UpdateReply::Failed { .. }),
            "{part}: {reply:?}"
        );
        assert_eq!(board.fixed(), before, "{part}");
        board.check_store();
        let asked = asked(&server, part) as u64;
        assert!(asked > 0, "{part} was never asked for");
        // What is of use, and what two ends hold between them, each time it was asked for.
        let taken = server.endless_bytes.load(std::sync::atomic::Ordering::Relaxed);
        assert!(
            taken <= asked * (useful_bytes + (16 << 20)),
            "{part}: {taken} bytes in {asked} tries"
        );
    }
}

#[test]
fn cut_piece_goes_on_where_it_was() {
    let (server, board) = setup(With::Pack, false);
    let pack_bytes = server.files.lock().unwrap()[&pack_path(v(2))].len();
    *server.fault.lock().unwrap() = Fault::Rude("/pack", Rude::CutsAfter(pack_bytes / 6));
    assert_eq!(done(&tell(&mut board.updater(), &STAGE)), Some(v(2)));
    assert!(asked(&server, "/pack") > 4);
    board.check_store();
}

#[test]
fn patch_that_was_cut_off_for_good_goes_on_next_time() {
    let (server, board) = setup(With::PackAndPatch, false);
    let patch_bytes = server.files.lock().unwrap()[&patch_path(v(1), v(2))].len();
    server.files.lock().unwrap().remove(&pack_path(v(2)));
    *server.fault.lock().unwrap() = Fault::Cut(".patch", 1);
    let digest = hash(&server.files.lock().unwrap()[&patch_path(v(1), v(2))]);
    // As a power cut leaves it: half of it, and no note.
    let half = server.files.lock().unwrap()[&patch_path(v(1), v(2))][..patch_bytes / 2].to_vec();
    fs::create_dir_all(board.store()).unwrap();
    fs::write(board.store().join(format!("patch-{digest}")), &half).unwrap();
    fs::write(board.store().join(format!("patch-{}", hash(b"of an older release"))), b"x").unwrap();
    assert_eq!(done(&tell(&mut board.updater(), &STAGE)), Some(v(2)));
    let patch = patch_path(v(1), v(2));
    let rest = patch_bytes - patch_bytes / 2;
    let began = [patch_bytes / 2, patch_bytes / 2 + rest / 2].map(|at| (patch.clone(), at));
    assert_eq!(*server.began.lock().unwrap(), began);
    let left = fs::read_dir(board.store()).unwrap().flatten();
    let patches = left.filter(|e| e.file_name().to_string_lossy().starts_with("patch-"));
    assert_eq!(patches.count(), 0);
}

#[test]
fn second_server_helps_out_and_a_folder_serves_as_well() {
    let (server, mut board) = setup(With::PackAndPatch, false);
    board.source.url = format!("http://127.0.0.1:9/repo {}", server.url);
    assert_eq!(done(&tell(&mut board.updater(), &STAGE)), Some(v(2)));

    let (server, mut board) = setup(With::PackAndPatch, false);
    let folder = board.dir.path().join("stick");
    for (path, bytes) in server.files.lock().unwrap().iter() {
        let path = folder.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
    board.source.url = folder.display().to_string();
    assert_eq!(done(&tell(&mut board.updater(), &STAGE)), Some(v(2)));
    assert_eq!(server.requests.lock().unwrap().len(), 0);
}

#[test]
fn damaged_pack_or_content_of_one_server_is_taken_from_the_next() {
    for (with, blobs, part) in [(With::Pack, false, "/pack"), (With::Pack, true, "blobs/")] {
        let (server, mut board) = setup(with, blobs);
        let mirror = Server::start();
        *mirror.files.lock().unwrap() = server.files.lock().unwrap().clone();
        if part == "blobs/" {
            for each in [&server, &mirror] {
                each.files.lock().unwrap().retain(|path, _| !path.ends_with("/pack"));
            }
        }
        *server.fault.lock().unwrap() = Fault::Rude(part, Rude::FlipsBit);
        board.source.url = format!("{} {}", server.url, mirror.url);
        assert_eq!(done(&tell(&mut board.updater(), &STAGE)), Some(v(2)), "{part}");
        assert!(asked(&mirror, part) > 0, "{part}");
        board.check_store();
    }
}

#[test]
fn contents_that_came_before_a_cut_are_kept() {
    let (server, board) = setup(With::Pack, false);
    // The last frame is the damaged one: what lies before it stays.
    let path = pack_path(v(2));
    let good = server.files.lock().unwrap()[&path].clone();
    let last = good.len() - 3;
    server.files.lock().unwrap().get_mut(&path).unwrap()[last] ^= 0xff;
    let refused = tell(&mut board.updater(), &STAGE);
    assert_eq!(kind(&refused), "blob-mismatch");
    let kept = fs::read_dir(board.store().join("blobs")).unwrap().count();
    assert!(kept > 0, "{refused:?}");
    board.check_store();
    server.files.lock().unwrap().insert(path, good);
    assert_eq!(done(&tell(&mut board.updater(), &STAGE)), Some(v(2)));
}
