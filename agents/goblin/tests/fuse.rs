//! A share mounted by FUSE on this machine, beside a client that speaks 9P with the same server.

use goblin_agent_client::fuse::FuseMount;
use goblin_agent_share::{HostTree, Share};
use goblin_core_ninep::client::{Client, open};
use goblin_core_ninep::{Limits, MSIZE_MAX, serve};
use goblin_sys::socket::Socket;
use rustix::fs::{
    FlockOperation, XattrFlags, fcntl_lock, flock, getxattr, listxattr, removexattr, setxattr,
};
use std::fs::File;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;
use tempfile::TempDir;

struct World {
    dir: TempDir,
    shares: Arc<[Arc<Share>]>,
}

impl World {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        for name in ["data", "mount"] {
            std::fs::create_dir(dir.path().join(name)).unwrap();
        }
        std::fs::write(dir.path().join("data/file"), b"content").unwrap();
        let share = Share::new("data", &dir.path().join("data"), false).unwrap();
        Self { shares: Arc::from([Arc::new(share)]), dir }
    }

    fn connection(&self) -> Socket {
        let (ours, theirs) = Socket::pair().unwrap();
        let tree = Arc::new(HostTree::new(self.shares.clone()));
        std::thread::spawn(move || serve(Arc::new(theirs), tree, Limits::default()));
        ours
    }

    fn file(&self) -> PathBuf {
        self.dir.path().join("mount/file")
    }

    /// `None` where this machine does not let us mount.
    fn mounted(&self) -> Option<FuseMount> {
        let target = self.dir.path().join("mount");
        match FuseMount::over(self.connection(), ("data", "tests"), true, "tests:data", &target) {
            Ok(mount) => Some(mount),
            Err(err) => {
                println!("skipped: {err}");
                None
            }
        }
    }
}

#[test]
fn extended_attributes_are_those_at_the_box() {
    let world = World::new();
    let Some(_mount) = world.mounted() else { return };
    let (file, there) = (world.file(), world.dir.path().join("data/file"));
    let large = vec![7u8; 3000];
    if setxattr(&there, "user.probe", b"x", XattrFlags::empty()).is_err() {
        println!("skipped: the temporary folder keeps no attributes");
        return;
    }
    removexattr(&there, "user.probe").unwrap();
    setxattr(&file, "user.large", &large, XattrFlags::CREATE).unwrap();
    setxattr(&file, "user.empty", b"", XattrFlags::empty()).unwrap();
    let mut room = vec![0; 4000];
    assert_eq!(getxattr(&there, "user.large", &mut room), Ok(3000));
    assert_eq!((getxattr(&file, "user.large", &mut room), &room[..3000]), (Ok(3000), &large[..]));
    assert_eq!(getxattr(&file, "user.large", &mut [0u8; 9]), Err(rustix::io::Errno::RANGE));
    assert_eq!(getxattr(&file, "user.none", &mut room), Err(rustix::io::Errno::NODATA));
    let count = listxattr(&file, &mut room).unwrap();
    let mut names: Vec<&[u8]> = room[..count].split(|byte| *byte == 0).collect();
    names.sort_unstable();
    assert_eq!(names, [&b""[..], b"user.empty", b"user.large"]);
    removexattr(&file, "user.large").unwrap();
    assert_eq!(removexattr(&file, "user.large"), Err(rustix::io::Errno::NODATA));
}

#[test]
fn locks_are_held_at_the_box() {
    let world = World::new();
    let Some(_mount) = world.mounted() else { return };
    let mut other = Client::connect(world.connection(), MSIZE_MAX).unwrap();
    let root = other.attach("data", "").unwrap();
    let theirs = other.walk(&root, "file").unwrap();
    other.open(&theirs, open::READ_WRITE).unwrap();
    let file = File::options().read(true).write(true).open(world.file()).unwrap();
    fcntl_lock(&file, FlockOperation::NonBlockingLockExclusive).unwrap();
    assert!(!other.try_lock(&theirs).unwrap(), "locked here is locked there");
    drop(file);
    assert!(other.try_lock(&theirs).unwrap(), "closed is let go");
    let file = File::options().read(true).write(true).open(world.file()).unwrap();
    let held = Err(rustix::io::Errno::AGAIN);
    assert_eq!(flock(&file, FlockOperation::NonBlockingLockExclusive), held);
    // Who waits gets it when it is let go.
    let waits = std::thread::spawn(move || fcntl_lock(&file, FlockOperation::LockExclusive));
    other.clunk(theirs).unwrap();
    assert_eq!(waits.join().unwrap(), Ok(()));
}

#[test]
fn a_program_that_waits_for_a_lock_can_be_killed() {
    let world = World::new();
    let Some(_mount) = world.mounted() else { return };
    let mut other = Client::connect(world.connection(), MSIZE_MAX).unwrap();
    let root = other.attach("data", "").unwrap();
    let theirs = other.walk(&root, "file").unwrap();
    other.open(&theirs, open::READ_WRITE).unwrap();
    assert!(other.try_lock(&theirs).unwrap());
    let mut program = Command::new("flock");
    let Ok(mut child) = program.arg(world.file()).arg("true").stdout(Stdio::null()).spawn() else {
        println!("skipped: this machine has no flock");
        return;
    };
    // Until it waits: the kernel shows in which call a thread that sleeps does so, `flock` of x86-64 here.
    let call = format!("/proc/{}/syscall", child.id());
    while std::fs::read_to_string(&call).is_ok_and(|text| !text.starts_with("73 ")) {
        std::thread::yield_now();
    }
    child.kill().unwrap();
    assert!(!child.wait().unwrap().success());
}
