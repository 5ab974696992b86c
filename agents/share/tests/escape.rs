//! What a client must not reach, whatever it sends.

mod common;

use common::Served;
use goblin_core_ninep::{Errno, NO_FID, Names, Reply, Request};
use std::os::unix::fs::{FileTypeExt, symlink};

#[test]
fn names_that_are_no_names_are_refused_everywhere() {
    let served = Served::new();
    let mut raw = served.raw(8192);
    raw.walk(1, &[]);
    let long = [b'x'; 256];
    let bad: [(&[u8], Errno); 7] = [
        (b"", Errno::EINVAL),
        (b".", Errno::EINVAL),
        (b"../outside", Errno::EINVAL),
        (b"a/../..", Errno::EINVAL),
        (b"/etc", Errno::EINVAL),
        (b"nul\0name", Errno::EINVAL),
        (&long, Errno::ENAMETOOLONG),
    ];
    for (name, errno) in bad {
        let names = Names::new(&[name]).unwrap();
        assert_eq!(raw.refused(&Request::Walk { fid: 0, newfid: 9, names }), errno);
        for name in [name, b".."] {
            let errno = if name == b".." { Errno::EINVAL } else { errno };
            let (mode, gid) = (0o644, 0);
            for request in [
                Request::Lcreate { fid: 1, name, flags: 2, mode, gid },
                Request::Mkdir { dfid: 0, name, mode, gid },
                Request::Symlink { fid: 0, name, target: b"x", gid },
                Request::Mknod { dfid: 0, name, mode, major: 0, minor: 0, gid },
                Request::Link { dfid: 0, fid: 0, name },
                Request::Rename { fid: 1, dfid: 0, name },
                Request::Renameat { olddirfid: 0, oldname: name, newdirfid: 0, newname: b"b" },
                Request::Renameat { olddirfid: 0, oldname: b"b", newdirfid: 0, newname: name },
                Request::Unlinkat { dirfid: 0, name, flags: 0 },
            ] {
                assert_eq!(raw.refused(&request), errno, "{request:?}");
            }
        }
    }
    assert!(served.outside().join("outside/secret").exists());
}

#[test]
fn dotdot_ends_at_the_root_of_the_share() {
    let served = Served::new();
    std::fs::create_dir_all(served.path("a/b")).unwrap();
    let mut raw = served.raw(8192);
    raw.walk(1, &[b"a", b"b", b"..", b"..", b"..", b".."]);
    let root = raw.ask(1, &Request::Getattr { fid: 0, mask: 0 });
    let Reply::Getattr { attr: root } = root else { panic!() };
    let Reply::Getattr { attr } = raw.ask(1, &Request::Getattr { fid: 1, mask: 0 }) else {
        panic!()
    };
    assert_eq!(attr.qid.path, root.qid.path);
    // A walk out and into the directory beside stops.
    let names = Names::new(&[b"..", b"outside", b"secret"]).unwrap();
    let Reply::Walk { qids } = raw.ask(1, &Request::Walk { fid: 0, newfid: 7, names }) else {
        panic!()
    };
    assert_eq!(qids.len(), 1);
    assert_eq!(raw.refused(&Request::Getattr { fid: 7, mask: 0 }), Errno::EBADF);
}

#[test]
fn a_directory_moved_under_a_fid_opens_no_way_out() {
    let served = Served::new();
    std::fs::create_dir_all(served.path("a/b")).unwrap();
    let mut raw = served.raw(8192);
    raw.walk(1, &[b"a", b"b"]);
    std::fs::rename(served.path("a/b"), served.outside().join("outside/b")).unwrap();
    // Its own `..` is outside by now; the way back is the way it came.
    let names = Names::new(&[b"..", b"secret"]).unwrap();
    let Reply::Walk { qids } = raw.ask(1, &Request::Walk { fid: 1, newfid: 7, names }) else {
        panic!()
    };
    assert_eq!(qids.len(), 1);
}

#[test]
fn links_are_shown_and_not_followed() {
    let served = Served::new();
    symlink("../outside", served.path("dir")).unwrap();
    symlink("../outside/secret", served.path("file")).unwrap();
    let mut raw = served.raw(8192);
    raw.walk(1, &[b"file"]);
    assert_eq!(
        raw.ask(1, &Request::Readlink { fid: 1 }),
        Reply::Readlink { target: b"../outside/secret" }
    );
    assert_eq!(raw.refused(&Request::Lopen { fid: 1, flags: 0 }), Errno::ELOOP);
    let names = Names::new(&[b"dir", b"secret"]).unwrap();
    let Reply::Walk { qids } = raw.ask(1, &Request::Walk { fid: 0, newfid: 2, names }) else {
        panic!()
    };
    assert_eq!(qids.len(), 1);
    // Creating "over" a link does not write through it.
    raw.walk(3, &[]);
    let create = Request::Lcreate { fid: 3, name: b"file", flags: 0o1101, mode: 0o644, gid: 0 };
    assert_eq!(raw.refused(&create), Errno::ELOOP);
    let attr = goblin_core_ninep::SetAttr { valid: 8, ..Default::default() };
    assert_eq!(raw.refused(&Request::Setattr { fid: 1, attr }), Errno::ELOOP);
    assert_eq!(std::fs::read(served.outside().join("outside/secret")).unwrap(), b"secret");
}

#[test]
fn devices_fifos_and_sockets_are_shown_and_not_opened() {
    let served = Served::new();
    let _socket = std::os::unix::net::UnixListener::bind(served.path("socket")).unwrap();
    let mut raw = served.raw(8192);
    let node = |mode| Request::Mknod { dfid: 0, name: b"n", mode, major: 1, minor: 3, gid: 0 };
    assert_eq!(raw.refused(&node(0o020_666)), Errno::EPERM);
    assert_eq!(raw.refused(&node(0o060_666)), Errno::EPERM);
    raw.ok(1, &node(0o010_640));
    assert!(std::fs::metadata(served.path("n")).unwrap().file_type().is_fifo());
    raw.walk(1, &[b"n"]);
    raw.walk(2, &[b"socket"]);
    for fid in [1, 2] {
        raw.ok(1, &Request::Getattr { fid, mask: 0 });
        for flags in [0, 1, 2, 0o4000] {
            assert_eq!(raw.refused(&Request::Lopen { fid, flags }), Errno::EPERM);
        }
    }
    raw.walk(3, &[]);
    let create = Request::Lcreate { fid: 3, name: b"n", flags: 0o101, mode: 0o644, gid: 0 };
    assert_eq!(raw.refused(&create), Errno::EPERM);
}

#[test]
fn only_provisioned_shares_can_be_attached() {
    let served = Served::new();
    let mut raw = served.raw(8192);
    for aname in [&b"outside"[..], b"", b"/", b"data/..", b"..", b"/data/", b"//data"] {
        let attach = Request::Attach { fid: 5, afid: NO_FID, uname: b"root", aname, n_uname: 0 };
        assert_eq!(raw.refused(&attach), Errno::ENOENT);
    }
    raw.attach(5, "/data");
    let auth = Request::Auth { afid: 8, uname: b"root", aname: b"data", n_uname: 0 };
    assert_eq!(raw.refused(&auth), Errno::EOPNOTSUPP);
}

#[test]
fn a_read_only_share_refuses_every_change() {
    let served = Served::new();
    std::fs::write(served.outside().join("fixed/file"), b"fixed").unwrap();
    let mut raw = served.raw(8192);
    raw.attach(10, "fixed");
    let names = Names::new(&[b"file"]).unwrap();
    raw.ok(1, &Request::Walk { fid: 10, newfid: 11, names });
    let (mode, gid, name) = (0o644, 0, &b"new"[..]);
    let attr = goblin_core_ninep::SetAttr { valid: 1, mode: 0, ..Default::default() };
    for request in [
        Request::Lopen { fid: 11, flags: 1 },
        Request::Lopen { fid: 11, flags: 2 },
        Request::Lopen { fid: 11, flags: 0o1000 },
        Request::Setattr { fid: 11, attr },
        Request::Lcreate { fid: 10, name, flags: 1, mode, gid },
        Request::Mkdir { dfid: 10, name, mode, gid },
        Request::Symlink { fid: 10, name, target: b"x", gid },
        Request::Mknod { dfid: 10, name, mode, major: 0, minor: 0, gid },
        Request::Link { dfid: 10, fid: 11, name },
        Request::Rename { fid: 11, dfid: 10, name },
        Request::Renameat { olddirfid: 10, oldname: b"file", newdirfid: 10, newname: name },
        Request::Unlinkat { dirfid: 10, name: b"file", flags: 0 },
        Request::Xattrcreate { fid: 11, name: b"user.a", size: 1, flags: 0 },
    ] {
        assert_eq!(raw.refused(&request), Errno::EROFS, "{request:?}");
    }
    // Between shares nothing moves, not even out of a read-only one.
    let rename =
        Request::Renameat { olddirfid: 10, oldname: b"file", newdirfid: 0, newname: b"file" };
    assert_eq!(raw.refused(&rename), Errno::EXDEV);
    assert_eq!(raw.refused(&Request::Link { dfid: 0, fid: 11, name }), Errno::EXDEV);
    raw.open(11, 0);
    assert_eq!(raw.refused(&Request::Remove { fid: 11 }), Errno::EROFS);
    assert_eq!(std::fs::read(served.outside().join("fixed/file")).unwrap(), b"fixed");
}

#[test]
fn a_stranger_does_not_become_owner() {
    let served = Served::new();
    std::fs::write(served.path("file"), b"").unwrap();
    let mut raw = served.raw(8192);
    raw.walk(1, &[b"file"]);
    let Reply::Getattr { attr } = raw.ask(1, &Request::Getattr { fid: 1, mask: 0 }) else {
        panic!()
    };
    let same =
        goblin_core_ninep::SetAttr { valid: 6, uid: attr.uid, gid: attr.gid, ..Default::default() };
    raw.ok(1, &Request::Setattr { fid: 1, attr: same });
    let other = goblin_core_ninep::SetAttr { uid: attr.uid + 1, ..same };
    assert_eq!(raw.refused(&Request::Setattr { fid: 1, attr: other }), Errno::EPERM);
}
