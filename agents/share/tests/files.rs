//! Files, directories, attributes, locks and attributes of the user, as Linux's client uses them.

mod common;

use common::{Served, refused};
use goblin_core_ninep::client::open;
use goblin_core_ninep::wire::{Data, LateU32};
use goblin_core_ninep::{Errno, Names, Qid, Reply, Request, SetAttr, Time, lock};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::time::Duration;

const APPEND: u32 = 0o2000;
const DIRECT_NONBLOCK_NOCTTY: u32 = 0o40_000 | 0o4000 | 0o400;

#[test]
fn bytes_modes_and_times_come_back() {
    let served = Served::new();
    let mut client = served.client();
    let root = client.attach("data", "someone").unwrap();
    let content: Vec<u8> = (0..1_500_000u32).map(|i| (i % 251) as u8).collect();
    let fid = client.walk(&root, "").unwrap();
    client.create(&fid, b"file", open::READ_WRITE, 0o640).unwrap();
    client.write_all(&fid, 0, &content).unwrap();
    client.fsync(&fid).unwrap();
    let mtime = Time { sec: 1_234_567_890, nsec: 123_456_789 };
    let change = SetAttr {
        valid: SetAttr::MTIME | SetAttr::MTIME_SET | SetAttr::MODE,
        mode: 0o7751,
        mtime,
        ..SetAttr::default()
    };
    client.setattr(&fid, change).unwrap();
    client.clunk(fid).unwrap();
    assert_eq!(client.read_file(&root, "file", content.len()).unwrap(), content);
    let fid = client.walk(&root, "file").unwrap();
    let attr = client.getattr(&fid).unwrap();
    assert_eq!((attr.mode, attr.mtime, attr.size), (0o107_751, mtime, 1_500_000));
    let meta = std::fs::metadata(served.path("file")).unwrap();
    assert_eq!((meta.mode(), meta.mtime(), meta.ino()), (0o107_751, 1_234_567_890, meta.ino()));
    let status = served.shares[0].status();
    assert_eq!((status.clients, status.written_bytes), (1, 1_500_000));
    assert!(status.read_bytes >= 1_500_000);
}

#[test]
fn names_that_are_not_utf8_stay_reachable() {
    let served = Served::new();
    let name = b"caf\xe9 \x01\xff";
    let mut client = served.client();
    let root = client.attach("data", "").unwrap();
    let fid = client.walk(&root, "").unwrap();
    client.create(&fid, name, open::WRITE, 0o644).unwrap();
    let dir = client.walk(&root, "").unwrap();
    client.open(&dir, open::READ | open::DIRECTORY).unwrap();
    assert_eq!(client.read_dir(&dir, 4096).unwrap()[0].name, name);
    client.walk_names(&root, &[name]).unwrap();
    assert!(served.path("").join(std::ffi::OsStr::from_bytes(name)).exists());
}

#[test]
fn a_partial_walk_binds_nothing_and_a_fid_in_use_is_kept() {
    let served = Served::new();
    std::fs::create_dir(served.path("a")).unwrap();
    let mut raw = served.raw(8192);
    let names = Names::new(&[b"a", b"b", b"c"]).unwrap();
    let Reply::Walk { qids } = raw.ask(1, &Request::Walk { fid: 0, newfid: 1, names }) else {
        panic!()
    };
    assert_eq!(qids.len(), 1);
    assert_eq!(raw.refused(&Request::Clunk { fid: 1 }), Errno::EBADF);
    raw.walk(1, &[b"a"]);
    let clone = Request::Walk { fid: 0, newfid: 1, names: Names::NONE };
    assert_eq!(raw.refused(&clone), Errno::EBADF);
    // In place, half way: the fid stays where it was.
    let names = Names::new(&[b"a", b"b"]).unwrap();
    raw.ok(1, &Request::Walk { fid: 0, newfid: 0, names });
    raw.walk(2, &[b"a"]);
}

#[test]
fn counts_are_cut_to_msize() {
    let served = Served::new();
    std::fs::write(served.path("big"), vec![7; 100_000]).unwrap();
    let mut raw = served.raw(4096);
    raw.walk(1, &[b"big"]);
    raw.open(1, 0);
    let read = Request::Read { fid: 1, offset: 0, count: u32::MAX };
    let Reply::Read { data } = raw.ask(1, &read) else { panic!() };
    assert_eq!(data.0.len(), 4096 - 11);
    for index in 0..200 {
        std::fs::write(served.path(&format!("entry-{index:050}")), b"").unwrap();
    }
    raw.walk(2, &[]);
    raw.open(2, 0o200_000);
    let list = Request::Readdir { fid: 2, offset: 0, count: u32::MAX };
    let Reply::Readdir { data } = raw.ask(1, &list) else { panic!() };
    assert!(data.0.len() <= 4096 - 11 && data.0.len() > 3000);
    let list = Request::Readdir { fid: 2, offset: 0, count: 10 };
    assert_eq!(raw.refused(&list), Errno::EINVAL);
}

#[test]
fn a_large_directory_is_listed_once_and_whole() {
    let served = Served::new();
    for index in 0..3000 {
        std::fs::write(served.path(&format!("entry-{index}")), b"").unwrap();
    }
    let mut client = served.client();
    let root = client.attach("data", "").unwrap();
    let fid = client.walk(&root, "").unwrap();
    client.open(&fid, open::DIRECTORY).unwrap();
    let mut names: Vec<_> =
        client.read_dir(&fid, 1 << 20).unwrap().into_iter().map(|e| e.name).collect();
    names.sort();
    names.dedup();
    assert_eq!(names.len(), 3000);
}

#[test]
fn append_goes_to_the_end_and_odd_flags_are_masked() {
    let served = Served::new();
    std::fs::write(served.path("log"), b"one\n").unwrap();
    let mut raw = served.raw(8192);
    raw.walk(1, &[b"log"]);
    raw.open(1, 1 | APPEND | DIRECT_NONBLOCK_NOCTTY);
    raw.ok(1, &Request::Write { fid: 1, offset: 0, data: Data(b"two\n") });
    assert_eq!(std::fs::read(served.path("log")).unwrap(), b"one\ntwo\n");
    assert_eq!(raw.refused(&Request::Read { fid: 1, offset: 0, count: 1 }), Errno::EBADF);
    raw.walk(2, &[b"log"]);
    raw.open(2, 0o1001);
    assert_eq!(std::fs::metadata(served.path("log")).unwrap().len(), 0);
    assert_eq!(raw.refused(&Request::Lopen { fid: 2, flags: 0 }), Errno::EBUSY);
}

#[test]
fn a_removed_file_lives_while_it_is_open() {
    let served = Served::new();
    std::fs::write(served.path("file"), b"content").unwrap();
    let mut raw = served.raw(8192);
    raw.walk(1, &[b"file"]);
    raw.open(1, 2);
    raw.ok(1, &Request::Unlinkat { dirfid: 0, name: b"file", flags: 0 });
    assert!(!served.path("file").exists());
    raw.ok(1, &Request::Write { fid: 1, offset: 0, data: Data(b"C") });
    let Reply::Read { data } = raw.ask(1, &Request::Read { fid: 1, offset: 0, count: 100 }) else {
        panic!()
    };
    assert_eq!(data.0, b"Content");
    let cut = SetAttr { valid: SetAttr::SIZE, size: 2, ..SetAttr::default() };
    raw.ok(1, &Request::Setattr { fid: 1, attr: cut });
    let Reply::Getattr { attr } = raw.ask(1, &Request::Getattr { fid: 1, mask: 0 }) else {
        panic!()
    };
    assert_eq!((attr.size, attr.nlink), (2, 0));
    // By the name it is gone, and the fid goes with the failed removal.
    assert_eq!(raw.refused(&Request::Remove { fid: 1 }), Errno::ENOENT);
    assert_eq!(raw.refused(&Request::Clunk { fid: 1 }), Errno::EBADF);
}

#[test]
fn renames_go_over_existing_names() {
    let served = Served::new();
    std::fs::write(served.path("old"), b"new content").unwrap();
    std::fs::write(served.path("kept"), b"old content").unwrap();
    std::fs::create_dir(served.path("dir")).unwrap();
    let mut raw = served.raw(8192);
    raw.walk(1, &[b"kept"]);
    raw.open(1, 0);
    raw.walk(2, &[b"dir"]);
    let rename =
        Request::Renameat { olddirfid: 0, oldname: b"old", newdirfid: 0, newname: b"kept" };
    raw.ok(1, &rename);
    assert_eq!(raw.refused(&rename), Errno::ENOENT);
    assert_eq!(std::fs::read(served.path("kept")).unwrap(), b"new content");
    let Reply::Read { data } = raw.ask(1, &Request::Read { fid: 1, offset: 0, count: 100 }) else {
        panic!()
    };
    assert_eq!(data.0, b"old content");
    raw.walk(3, &[b"kept"]);
    raw.ok(1, &Request::Rename { fid: 3, dfid: 2, name: b"moved" });
    assert!(served.path("dir/moved").exists());
    // Its name has moved on; nothing else may be moved in its stead.
    assert_eq!(raw.refused(&Request::Rename { fid: 3, dfid: 0, name: b"x" }), Errno::ENOENT);
    assert_eq!(
        raw.refused(&Request::Unlinkat { dirfid: 0, name: b"dir", flags: 0x200 }),
        Errno(39)
    );
    raw.ok(1, &Request::Unlinkat { dirfid: 2, name: b"moved", flags: 0 });
    raw.ok(1, &Request::Remove { fid: 2 });
    assert!(!served.path("dir").exists());
    assert_eq!(raw.refused(&Request::Remove { fid: 0 }), Errno::EBUSY);
}

#[test]
fn links_and_directories_are_made() {
    let served = Served::new();
    std::fs::write(served.path("file"), b"x").unwrap();
    let mut raw = served.raw(8192);
    raw.walk(1, &[b"file"]);
    raw.ok(1, &Request::Link { dfid: 0, fid: 1, name: b"second" });
    assert_eq!(std::fs::metadata(served.path("second")).unwrap().nlink(), 2);
    raw.ok(1, &Request::Symlink { fid: 0, name: b"soft", target: b"/any/where", gid: 0 });
    assert_eq!(std::fs::read_link(served.path("soft")).unwrap().as_os_str(), "/any/where");
    let mkdir = Request::Mkdir { dfid: 0, name: b"dir", mode: 0o1770, gid: 5 };
    let Reply::Mkdir { qid } = raw.ask(1, &mkdir) else { panic!() };
    assert!(qid.is_dir());
    assert_eq!(raw.refused(&mkdir), Errno::EEXIST);
    assert_eq!(std::fs::metadata(served.path("dir")).unwrap().permissions().mode(), 0o041_770);
    assert_eq!(raw.refused(&Request::Readlink { fid: 1 }), Errno::EINVAL);
    let names = Names::new(&[b"x"]).unwrap();
    assert_eq!(raw.refused(&Request::Walk { fid: 1, newfid: 9, names }), Errno::ENOTDIR);
    raw.walk(4, &[b"soft"]);
    let time = SetAttr {
        valid: SetAttr::MTIME | SetAttr::MTIME_SET,
        mtime: Time { sec: 77, nsec: 0 },
        ..SetAttr::default()
    };
    raw.ok(1, &Request::Setattr { fid: 4, attr: time });
    assert_eq!(std::fs::symlink_metadata(served.path("soft")).unwrap().mtime(), 77);
}

fn qid_of(raw: &mut common::Raw, name: &[u8]) -> Qid {
    raw.walk(99, &[name]);
    let Reply::Getattr { attr } = raw.ask(1, &Request::Getattr { fid: 99, mask: 0 }) else {
        panic!()
    };
    raw.clunk(99);
    attr.qid
}

#[test]
fn qids_follow_content_and_file() {
    let served = Served::new();
    std::fs::write(served.path("a"), b"1").unwrap();
    std::fs::hard_link(served.path("a"), served.path("b")).unwrap();
    std::fs::write(served.path("c"), b"1").unwrap();
    let mut raw = served.raw(8192);
    let before = qid_of(&mut raw, b"a");
    assert_eq!(before, qid_of(&mut raw, b"b"));
    assert_ne!(before.path, qid_of(&mut raw, b"c").path);
    assert_ne!(before.version, 0);
    raw.walk(1, &[b"a"]);
    raw.open(1, 1);
    raw.ok(1, &Request::Write { fid: 1, offset: 1, data: Data(b"2") });
    let after = qid_of(&mut raw, b"a");
    assert_eq!(before.path, after.path);
    assert_ne!(before.version, after.version);
}

#[test]
fn a_getattr_after_a_change_sees_it() {
    let served = Served::new();
    std::fs::write(served.path("file"), b"").unwrap();
    let (mut one, mut two) = (served.raw(8192), served.raw(8192));
    two.walk(1, &[b"file"]);
    two.open(1, 1);
    for size in 1..20u64 {
        one.walk(1, &[b"file"]);
        two.ok(1, &Request::Write { fid: 1, offset: size - 1, data: Data(b"x") });
        let Reply::Getattr { attr } = one.ask(1, &Request::Getattr { fid: 1, mask: 0 }) else {
            panic!()
        };
        assert_eq!(attr.size, size);
        one.clunk(1);
    }
}

#[test]
fn locks_are_granted_waited_for_and_cancelled() {
    let served = Served::new();
    std::fs::write(served.path("file"), b"").unwrap();
    let (mut one, mut two) = (served.raw(8192), served.raw(8192));
    for raw in [&mut one, &mut two] {
        raw.walk(1, &[b"file"]);
        raw.open(1, 0);
    }
    let ask = |kind, flags| Request::Lock {
        fid: 1,
        kind,
        flags,
        start: 10,
        length: 5,
        proc_id: 1,
        client_id: b"me",
    };
    let status = |status| Reply::Lock { status };
    assert_eq!(one.ask(1, &ask(lock::WRITE, 0)), status(lock::SUCCESS));
    assert_eq!(two.ask(1, &ask(lock::WRITE, 0)), status(lock::BLOCKED));
    let getlock = Request::Getlock {
        fid: 1,
        kind: lock::WRITE,
        start: 0,
        length: 0,
        proc_id: 1,
        client_id: b"me",
    };
    let Reply::Getlock { kind, start, length, .. } = two.ask(1, &getlock) else { panic!() };
    assert_eq!((kind, start, length), (lock::WRITE, 10, 5));
    // A waiting lock delays nothing, and is granted on release.
    two.send(5, &ask(lock::WRITE, lock::FLAG_BLOCK));
    two.ok(6, &Request::Getattr { fid: 0, mask: 0 });
    assert_eq!(one.ask(1, &ask(lock::UNLOCK, 0)), status(lock::SUCCESS));
    assert_eq!(two.receive(), (5, status(lock::SUCCESS)));
    // A flushed one is not held.
    one.send(5, &ask(lock::WRITE, lock::FLAG_BLOCK));
    assert_eq!(one.ask(6, &Request::Flush { oldtag: 5 }), Reply::Flush {});
    // Locks end with the fid.
    two.clunk(1);
    std::thread::sleep(Duration::from_millis(120));
    two.walk(1, &[b"file"]);
    two.open(1, 0);
    assert_eq!(two.ask(1, &ask(lock::WRITE, 0)), status(lock::SUCCESS));
}

#[test]
fn the_users_attributes_are_kept_and_others_refused() {
    let served = Served::new();
    std::fs::write(served.path("file"), b"").unwrap();
    let mut raw = served.raw(8192);
    raw.walk(1, &[b"file"]);
    let walk = |newfid, name| Request::Xattrwalk { fid: 1, newfid, name };
    assert_eq!(raw.refused(&walk(2, b"security.capability")), Errno::ENODATA);
    assert_eq!(raw.refused(&walk(2, b"system.posix_acl_access")), Errno::ENODATA);
    assert_eq!(raw.refused(&walk(2, b"trusted.overlay.opaque")), Errno::EOPNOTSUPP);
    raw.walk(3, &[b"file"]);
    let create = |name, size| Request::Xattrcreate { fid: 3, name, size, flags: 0 };
    assert_eq!(raw.refused(&create(b"security.capability", 4)), Errno::EOPNOTSUPP);
    assert_eq!(raw.refused(&create(b"user.big", 1 << 40)), Errno::ENOSPC);
    if raw.refused(&walk(2, b"user.colour")) == Errno::EOPNOTSUPP {
        // The temporary directory's file system keeps none.
        return;
    }
    raw.ok(1, &create(b"user.colour", 4));
    raw.ok(1, &Request::Write { fid: 3, offset: 0, data: Data(b"bl") });
    let twice = Request::Write { fid: 3, offset: 0, data: Data(b"ue") };
    assert_eq!(raw.refused(&twice), Errno::EINVAL);
    raw.ok(1, &Request::Write { fid: 3, offset: 2, data: Data(b"ue") });
    raw.clunk(3);
    assert_eq!(raw.ask(1, &walk(2, b"user.colour")), Reply::Xattrwalk { size: 4 });
    let Reply::Read { data } = raw.ask(1, &Request::Read { fid: 2, offset: 0, count: 100 }) else {
        panic!()
    };
    assert_eq!(data.0, b"blue");
    raw.clunk(2);
    assert_eq!(raw.ask(1, &walk(2, b"")), Reply::Xattrwalk { size: 12 });
    raw.clunk(2);
    raw.walk(3, &[b"file"]);
    raw.ok(1, &Request::Xattrcreate { fid: 3, name: b"user.colour", size: 0, flags: 2 });
    raw.clunk(3);
    assert_eq!(raw.refused(&walk(2, b"user.colour")), Errno::ENODATA);
}

#[test]
fn creating_what_exists_opens_it_unless_exclusive() {
    let served = Served::new();
    std::fs::write(served.path("file"), b"kept").unwrap();
    let mut raw = served.raw(8192);
    let create = |fid, flags| Request::Lcreate { fid, name: b"file", flags, mode: 0o600, gid: 0 };
    raw.walk(1, &[]);
    assert_eq!(raw.refused(&create(1, 0o302)), Errno::EEXIST);
    raw.ok(1, &create(1, 0o102));
    let Reply::Read { data } = raw.ask(1, &Request::Read { fid: 1, offset: 0, count: 9 }) else {
        panic!()
    };
    assert_eq!(data.0, b"kept");
    assert_eq!(raw.refused(&create(1, 0o102)), Errno::EBUSY);
    std::fs::create_dir(served.path("dir")).unwrap();
    raw.walk(2, &[]);
    let over = Request::Lcreate { fid: 2, name: b"dir", flags: 0o102, mode: 0o600, gid: 0 };
    assert_eq!(raw.refused(&over), Errno::EISDIR);
}

#[test]
fn refusals_leave_the_client_usable() {
    let served = Served::new();
    let mut client = served.client();
    let root = client.attach("data", "").unwrap();
    assert_eq!(refused(client.walk(&root, "a/b")), Errno::ENOENT);
    assert_eq!(refused(client.mkdir(&root, b"..", 0o755)), Errno::EINVAL);
    client.mkdir(&root, b"a", 0o755).unwrap();
    let file = client.attach("data", "").unwrap();
    client.create(&file, b"plain", open::WRITE, 0o644).unwrap();
    assert_eq!(refused(client.mkdir(&file, b"x", 0o755)), Errno::ENOTDIR);
    client.rename((&root, b"a"), (&root, b"b")).unwrap();
    client.unlink(&root, b"b", 0x200).unwrap();
}

#[test]
fn statfs_and_fsync_are_answered() {
    let served = Served::new();
    let mut raw = served.raw(8192);
    let Reply::StatFs { stat } = raw.ask(1, &Request::StatFs { fid: 0 }) else { panic!() };
    assert!(stat.blocks > 0 && stat.name_bytes_max == 255);
    raw.walk(1, &[]);
    let create = Request::Lcreate { fid: 1, name: b"f", flags: 2, mode: 0o600, gid: 0 };
    raw.ok(1, &create);
    raw.ok(1, &Request::Fsync { fid: 1, datasync: LateU32(0) });
    raw.ok(1, &Request::Fsync { fid: 1, datasync: LateU32(1) });
}

#[test]
fn a_full_disk_is_an_error_and_not_the_end() {
    let served = Served::new();
    let small = served.outside().join("data");
    let size = Some(c"size=256k");
    let flags = rustix::mount::MountFlags::empty();
    if rustix::mount::mount("none", &small, "tmpfs", flags, size).is_err() {
        println!("skipped: mounting a small tmpfs needs root");
        return;
    }
    let share = goblin_agent_share::Share::new("data", &small, false).unwrap();
    let shares = std::sync::Arc::from([std::sync::Arc::new(share)]);
    let served = Served { shares, ..served };
    {
        let mut client = served.client();
        let root = client.attach("data", "").unwrap();
        let fid = client.walk(&root, "").unwrap();
        client.create(&fid, b"file", open::READ_WRITE, 0o644).unwrap();
        let content = vec![9; 1 << 20];
        assert_eq!(refused(client.write_all(&fid, 0, &content)), Errno::ENOSPC);
        // What was taken is there, and room made is room used.
        let taken = client.getattr(&fid).unwrap().size;
        assert!(taken > 0 && taken <= 256 << 10);
        let cut = SetAttr { valid: SetAttr::SIZE, size: 0, ..SetAttr::default() };
        client.setattr(&fid, cut).unwrap();
        client.write_all(&fid, 0, &content[..1000]).unwrap();
    }
    let lazily = rustix::mount::UnmountFlags::DETACH;
    rustix::mount::unmount(&small, lazily).unwrap();
}

#[test]
fn a_refused_setattr_has_not_cut_the_file() {
    let served = Served::new();
    std::fs::write(served.path("file"), b"precious").unwrap();
    let mut raw = served.raw(8192);
    raw.walk(1, &[b"file"]);
    let attr = SetAttr {
        valid: SetAttr::SIZE | SetAttr::MTIME | SetAttr::MTIME_SET,
        size: 0,
        mtime: Time { sec: 1, nsec: 1_000_000_000 },
        ..SetAttr::default()
    };
    assert_eq!(raw.refused(&Request::Setattr { fid: 1, attr }), Errno::EINVAL);
    assert_eq!(std::fs::read(served.path("file")).unwrap(), b"precious");
}

#[test]
fn attribute_values_that_are_never_set_take_little_memory() {
    let served = Served::new();
    std::fs::write(served.path("file"), b"").unwrap();
    let mut raw = served.raw(8192);
    let create = |fid| Request::Xattrcreate { fid, name: b"user.big", size: 65_536, flags: 0 };
    let mut taken = 0u32;
    let refusal = loop {
        let fid = 10 + taken;
        raw.walk(fid, &[b"file"]);
        match raw.ask(1, &create(fid)) {
            Reply::Error { ecode } => break Errno(ecode),
            _ => taken += 1,
        }
        assert!(taken < 100, "{taken} values of 64 KiB wait in memory");
    };
    assert_eq!(refusal, Errno::ENOMEM);
    // An unfinished value is refused, and its room is free again.
    assert_eq!(raw.refused(&Request::Clunk { fid: 10 }), Errno::EINVAL);
    raw.walk(10, &[b"file"]);
    raw.ok(1, &create(10));
}
