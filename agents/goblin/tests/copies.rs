//! `goblin get` and `goblin put` against the file server itself, over connections that break.

use goblin_agent_client::copy::{
    self, Clobber, CopyError, Event, Folders, Options, Source, Summary,
};
use goblin_agent_share::{HostTree, Share};
use goblin_core_ninep::client::{Client, Fid, open};
use goblin_core_ninep::{Limits, MSIZE_MAX, serve};
use goblin_sys::socket::Socket;
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tempfile::TempDir;

const STEP: u64 = 32 << 20;
const ALL: Options = Options { folders: Folders::Copy, clobber: Clobber::Replace };

/// A share `data`, and a folder of the PC beside it.
struct World {
    dir: TempDir,
    shares: Arc<[Arc<Share>]>,
}

/// A connection that ends after so many bytes.
struct Fragile {
    socket: Socket,
    left: usize,
}

impl Fragile {
    fn take(&mut self, bytes: usize) -> io::Result<()> {
        match self.left.checked_sub(bytes) {
            Some(left) => self.left = left,
            None => return Err(io::ErrorKind::ConnectionReset.into()),
        }
        Ok(())
    }
}

impl Read for Fragile {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let got = self.socket.read(into)?;
        self.take(got)?;
        Ok(got)
    }
}

impl Write for Fragile {
    fn write(&mut self, from: &[u8]) -> io::Result<usize> {
        let sent = self.socket.write(from)?;
        self.take(sent)?;
        Ok(sent)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.socket.flush()
    }
}

impl World {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        for name in ["data", "pc"] {
            std::fs::create_dir(dir.path().join(name)).unwrap();
        }
        let share = Share::new("data", &dir.path().join("data"), false).unwrap();
        Self { shares: Arc::from([Arc::new(share)]), dir }
    }

    fn share(&self, name: &str) -> PathBuf {
        self.dir.path().join("data").join(name)
    }

    fn pc(&self, name: &str) -> PathBuf {
        self.dir.path().join("pc").join(name)
    }

    fn fragile(&self, bytes: usize) -> (Client<Fragile>, Fid) {
        let (ours, theirs) = Socket::pair().unwrap();
        let tree = Arc::new(HostTree::new(self.shares.clone()));
        std::thread::spawn(move || serve(Arc::new(theirs), tree, Limits::default()));
        let stream = Fragile { socket: ours, left: bytes };
        let mut client = Client::connect_extended(stream, MSIZE_MAX).unwrap();
        let root = client.attach("data", "").unwrap();
        (client, root)
    }

    fn put(&self, from: &str, to: &str) -> Result<Summary, CopyError> {
        self.put_over(usize::MAX, from, to, &mut |_| ())
    }

    fn put_over(
        &self,
        bytes: usize,
        from: &str,
        to: &str,
        told: &mut dyn FnMut(Event),
    ) -> Result<Summary, CopyError> {
        let (mut client, root) = self.fragile(bytes);
        copy::put(&mut client, &root, "pc", Source::Path(&self.pc(from)), to, ALL, told)
    }

    fn get(&self, from: &str, to: &str) -> Result<Summary, CopyError> {
        self.get_over(usize::MAX, from, to, &mut |_| ())
    }

    fn get_over(
        &self,
        bytes: usize,
        from: &str,
        to: &str,
        told: &mut dyn FnMut(Event),
    ) -> Result<Summary, CopyError> {
        let (mut client, root) = self.fragile(bytes);
        copy::get(&mut client, (&root, "data"), "box", from, &self.pc(to), ALL, told)
    }
}

fn aged(path: &Path, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    let time = SystemTime::UNIX_EPOCH + Duration::new(1_000_000_000, 123_456_789);
    std::fs::File::open(path).unwrap().set_modified(time).unwrap();
}

/// Kind, permission bits, time and content of everything below a folder.
fn picture(root: &Path) -> Vec<(PathBuf, u32, i64, i64, Vec<u8>)> {
    let mut found = Vec::new();
    let mut waiting = vec![root.to_path_buf()];
    while let Some(path) = waiting.pop() {
        let meta = path.symlink_metadata().unwrap();
        let (mut mode, mut time) = (meta.mode(), (meta.mtime(), meta.mtime_nsec()));
        let content = if meta.is_dir() {
            waiting.extend(std::fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
            Vec::new()
        } else if meta.is_symlink() {
            (mode, time) = (0, (0, 0));
            std::fs::read_link(&path).unwrap().into_os_string().into_encoded_bytes()
        } else {
            std::fs::read(&path).unwrap()
        };
        found.push((path.strip_prefix(root).unwrap().into(), mode, time.0, time.1, content));
    }
    found.sort();
    found
}

/// Names of unfinished copies in a folder.
fn parts(dir: &Path) -> usize {
    let names = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name());
    names.filter(|name| name.to_string_lossy().starts_with(".goblin-part-")).count()
}

/// Bytes of which no two pages are alike.
fn long(bytes: u64) -> Vec<u8> {
    (0..bytes / 8)
        .flat_map(|number| number.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes())
        .collect()
}

#[test]
fn a_tree_goes_there_and_back_with_its_modes_and_times() {
    let world = World::new();
    let tree = world.pc("tree");
    std::fs::create_dir_all(tree.join("deep/er")).unwrap();
    std::fs::write(tree.join("deep/er/file"), b"text").unwrap();
    std::fs::write(tree.join("deep/empty"), b"").unwrap();
    std::fs::write(tree.join("long"), long(3 << 20)).unwrap();
    symlink("../../etc/passwd", tree.join("deep/link")).unwrap();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        tree.join("fifo"),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RWXU,
        0,
    )
    .unwrap();
    aged(&tree.join("deep/er/file"), 0o640);
    aged(&tree.join("long"), 0o555);
    aged(&tree.join("deep/er"), 0o750);
    aged(&tree.join("deep"), 0o500);
    let done = world.put("tree", "").unwrap();
    assert_eq!((done.files, done.folders, done.links, done.left_out), (3, 3, 1, 1));
    std::fs::remove_file(tree.join("fifo")).unwrap();
    let there = picture(&world.share("tree"));
    let here = picture(&tree);
    assert_eq!(there[1..], here[1..], "the root's time changed with the FIFO's end");
    let back = world.get("tree", "back").unwrap();
    assert_eq!((back.files, back.folders, back.links), (3, 3, 1));
    assert_eq!(picture(&world.pc("back")), there);
    // Into a folder that is there, by its own name; and again, when nothing is left to do.
    std::fs::create_dir(world.pc("into")).unwrap();
    world.get("tree", "into").unwrap();
    let again = world.get("tree", "into").unwrap();
    assert_eq!((again.files, again.same, again.moved_bytes), (0, 4, 0));
    let again = world.put("tree", "").unwrap();
    assert_eq!((again.files, again.same, again.moved_bytes), (0, 4, 0));
}

#[test]
fn a_put_that_breaks_off_leaves_the_old_file_and_goes_on_later() {
    let world = World::new();
    std::fs::write(world.share("film"), b"old").unwrap();
    std::fs::write(world.pc("film"), long(STEP + (8 << 20))).unwrap();
    let broken = world.put_over(36 << 20, "film", "", &mut |_| ()).unwrap_err();
    assert!(broken.to_string().contains("run the same command again"), "{broken}");
    assert_eq!(std::fs::read(world.share("film")).unwrap(), b"old");
    assert_eq!(parts(&world.share("")), 1);
    let mut resumed = 0;
    let mut told = |event| {
        if let Event::Begin { resumed: sure, .. } = event {
            resumed = sure;
        }
    };
    let done = world.put_over(usize::MAX, "film", "", &mut told).unwrap();
    assert_eq!((resumed, done.moved_bytes), (STEP, 8 << 20));
    assert!(
        std::fs::read(world.share("film")).unwrap() == std::fs::read(world.pc("film")).unwrap()
    );
    assert_eq!(parts(&world.share("")), 0);
}

#[test]
fn a_get_that_breaks_off_leaves_the_old_file_and_goes_on_later() {
    let world = World::new();
    std::fs::write(world.pc("film"), b"old").unwrap();
    std::fs::write(world.share("film"), long(STEP + (8 << 20))).unwrap();
    world.get_over(36 << 20, "film", "film", &mut |_| ()).unwrap_err();
    assert_eq!(std::fs::read(world.pc("film")).unwrap(), b"old");
    let done = world.get("film", "film").unwrap();
    assert_eq!(done.moved_bytes, 8 << 20);
    assert!(
        std::fs::read(world.share("film")).unwrap() == std::fs::read(world.pc("film")).unwrap()
    );
    assert_eq!(parts(&world.pc("")), 0);
}

#[test]
fn what_is_left_of_another_content_is_not_gone_on_from() {
    let world = World::new();
    std::fs::write(world.pc("film"), long(STEP + (8 << 20))).unwrap();
    world.put_over(36 << 20, "film", "", &mut |_| ()).unwrap_err();
    let mut other = long(STEP + (8 << 20));
    other.reverse();
    std::fs::write(world.pc("film"), &other).unwrap();
    let done = world.put("film", "").unwrap();
    assert_eq!(done.moved_bytes, STEP + (8 << 20));
    assert!(std::fs::read(world.share("film")).unwrap() == other);
    assert_eq!(parts(&world.share("")), 0, "the first one's part is gone");
}

#[test]
fn a_source_that_changes_is_not_taken_for_whole() {
    let world = World::new();
    std::fs::write(world.share("log"), vec![1; 3 << 20]).unwrap();
    std::fs::write(world.pc("log"), b"old").unwrap();
    let growing = world.share("log");
    let mut told = |event| {
        if matches!(event, Event::Moved { .. }) {
            let mut file = std::fs::File::options().append(true).open(&growing).unwrap();
            file.write_all(b"more").unwrap();
        }
    };
    let err = world.get_over(usize::MAX, "log", "log", &mut told).unwrap_err();
    assert!(matches!(err, CopyError::Changed { .. }), "{err}");
    assert_eq!(std::fs::read(world.pc("log")).unwrap(), b"old");
    assert_eq!(parts(&world.pc("")), 0);
    let growing = world.pc("log");
    let mut told = |event| {
        if matches!(event, Event::Moved { .. }) {
            std::fs::write(&growing, b"other").unwrap();
        }
    };
    let err = world.put_over(usize::MAX, "log", "new", &mut told).unwrap_err();
    assert!(matches!(err, CopyError::Changed { .. }), "{err}");
    assert!(!world.share("new").exists());
    assert_eq!(parts(&world.share("")), 0);
}

#[test]
fn two_copies_to_one_name_do_not_mix() {
    let world = World::new();
    std::fs::write(world.pc("a"), b"mine").unwrap();
    std::fs::write(world.share("a"), b"old").unwrap();
    let mut seen = None;
    let mut told = |event| {
        if matches!(event, Event::Moved { .. }) && seen.is_none() {
            seen = Some(world.put("a", "a").unwrap_err().to_string());
        }
    };
    world.put_over(usize::MAX, "a", "a", &mut told).unwrap();
    assert!(seen.as_ref().unwrap().contains("another copy to a is under way"), "{seen:?}");
    assert_eq!(std::fs::read(world.share("a")).unwrap(), b"mine");
    let mut seen = None;
    let mut told = |event| {
        if matches!(event, Event::Moved { .. }) && seen.is_none() {
            seen = Some(world.get("a", "b").unwrap_err().to_string());
        }
    };
    world.get_over(usize::MAX, "a", "b", &mut told).unwrap();
    assert!(seen.unwrap().contains("under way"));
}

#[test]
fn links_here_lead_no_copy_elsewhere() {
    let world = World::new();
    std::fs::create_dir_all(world.share("tree/sub")).unwrap();
    std::fs::write(world.share("tree/sub/evil"), b"evil").unwrap();
    std::fs::write(world.share("tree/file"), b"new").unwrap();
    std::fs::create_dir_all(world.pc("outside")).unwrap();
    std::fs::write(world.pc("victim"), b"mine").unwrap();
    std::fs::create_dir_all(world.pc("tree")).unwrap();
    symlink("../outside", world.pc("tree/sub")).unwrap();
    symlink("../victim", world.pc("tree/file")).unwrap();
    let done = world.get("tree", "").unwrap();
    assert_eq!((done.failed, done.files), (1, 1));
    assert!(!world.pc("outside/evil").exists());
    assert_eq!(std::fs::read(world.pc("victim")).unwrap(), b"mine");
    assert_eq!(std::fs::read(world.pc("tree/file")).unwrap(), b"new");
}

#[test]
fn what_is_asked_for_is_done_and_nothing_else() {
    let world = World::new();
    std::fs::create_dir(world.pc("dir")).unwrap();
    std::fs::write(world.pc("a"), b"new").unwrap();
    std::fs::write(world.share("a"), b"old").unwrap();
    std::fs::create_dir(world.share("taken")).unwrap();
    let (mut client, root) = world.fragile(usize::MAX);
    let only = Options { folders: Folders::Refuse, clobber: Clobber::Keep };
    let mut put = |from: &str, to: &str| {
        copy::put(&mut client, &root, "pc", Source::Path(&world.pc(from)), to, only, &mut |_| ())
    };
    assert!(matches!(put("dir", ""), Err(CopyError::Folder { .. })));
    assert_eq!(put("a", "a").unwrap().same, 1);
    assert_eq!(std::fs::read(world.share("a")).unwrap(), b"old");
    assert!(put("absent", "").unwrap_err().to_string().contains("absent"));
    assert!(put("a", "no/such/folder").unwrap_err().to_string().contains("folder"));
    assert_eq!(put("a", "taken").unwrap().files, 1, "into the folder");
    assert_eq!(std::fs::read(world.share("taken/a")).unwrap(), b"new");
    std::fs::create_dir(world.share("dir2")).unwrap();
    std::fs::write(world.pc("dir2"), b"").unwrap();
    std::fs::create_dir(world.share("dir2/dir2")).unwrap();
    assert!(matches!(world.put("dir2", ""), Err(CopyError::Kind { .. })));
    // What comes as a stream replaces whole, too.
    let mut bytes: &[u8] = b"streamed";
    copy::put(&mut client, &root, "pc", Source::Stream(&mut bytes), "a", ALL, &mut |_| ()).unwrap();
    assert_eq!(std::fs::read(world.share("a")).unwrap(), b"streamed");
    // Nothing is left open at the box.
    let fid = client.walk(&root, "a").unwrap();
    client.open(&fid, open::READ).unwrap();
}
