//! A repository, a web server and a board in temporary folders: enough of each to upgrade for real.

use goblin_agent_update::esp::Guard;
use goblin_agent_update::feed::{Ask, Feeder};
use goblin_agent_update::origin::OpenError;
use goblin_agent_update::{Env, Hooks, Source, Stick, UpdateError, Updater, Writers, bless};
use goblin_core_manifest::publish::{Lifetimes, Publisher, RepositoryKeys, Seed, sign};
use goblin_core_manifest::release::{MANIFEST_SCHEMA, Manifest, ProtocolRange, blob_path};
use goblin_core_manifest::sbom::sbom_path;
use goblin_core_manifest::time::Instant;
use goblin_core_manifest::tuf::{Hashes, ReleaseCustom, Target, sha256_hex};
use goblin_core_types::{
    Attempt, AttemptStage, BoardStatus, BootRecord, Digest, FailReason, Role, STATE_OF_TWO_LINE,
    SlotState, SlotStatus, UpdateCommand, UpdateReply, UpdateStatus, Version, reset_entry_name,
};
use goblin_core_update::menu;
use goblin_core_update::slots::{self, EspFile, counted, file_name, loader_pick};
use goblin_core_update::stick::StickError;
use goblin_image::recipe::{BlobRef, RECIPE_FORMAT, UkiRecipe};
use goblin_image::{Entry, Guid, Kind, MemoryContents, Tree};
use goblin_sys::record::RecordPartition;
use goblin_sys::writer::Writer;
use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tempfile::TempDir;

/// The time of every test, seconds since 1970.
pub const NOW: u64 = 1_800_000_000;
/// The first release that can mount STATE of two disks.
pub const KNOWS_MIRRORS: u32 = 3;
/// Size of the largest content of a release.
pub const LARGE_BYTES: usize = 300 << 10;

pub fn v(n: u32) -> Version {
    Version::new(n, 0, 0)
}

pub fn keys(n: u8) -> RepositoryKeys {
    let seed = |role: u8| vec![Seed([n * 10 + role; 32])];
    RepositoryKeys { root: seed(0), targets: seed(1), snapshot: seed(2), timestamp: seed(3) }
}

/// What the server does with a request.
#[derive(Clone)]
pub enum Fault {
    None,
    /// Ends the connection in the middle of files whose path holds this, so many times.
    Cut(&'static str, u32),
    /// Does this before it answers for a file whose path holds this.
    Before(&'static str, Arc<dyn Fn() + Send + Sync>),
    /// Misbehaves so for files whose path holds this.
    Rude(&'static str, Rude),
}

/// What a server can do to a request for a piece of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rude {
    /// Sends the whole file instead of the piece.
    IgnoresRange,
    /// Says that it sends another piece.
    LiesAboutRange,
    /// Sends more than the piece.
    SendsTooMuch,
    /// Says that it compressed the piece.
    Compresses,
    /// Sends elsewhere, to the same file.
    Redirects,
    /// Sends in circles.
    RedirectsForEver,
    /// Ends every connection after so many bytes.
    CutsAfter(usize),
    /// Flips a bit of the piece.
    FlipsBit,
    /// Answers that it has a problem.
    Fails,
    /// Sends a byte at a time.
    Drips,
    /// Says nothing of an end, and sends until the board hangs up.
    NeverEnds,
}

/// Files of a web server, and what is wrong with it.
#[derive(Clone)]
pub struct Server {
    pub url: String,
    pub files: Arc<Mutex<BTreeMap<String, Vec<u8>>>>,
    pub fault: Arc<Mutex<Fault>>,
    pub requests: Arc<Mutex<Vec<String>>>,
    /// Where each piece began that was asked for.
    pub began: Arc<Mutex<Vec<(String, usize)>>>,
    /// Bytes of answers without end that were taken.
    pub endless_bytes: Arc<AtomicU64>,
}

impl Server {
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let server = Self {
            url: format!("http://{}/repo", listener.local_addr().unwrap()),
            files: Arc::default(),
            fault: Arc::new(Mutex::new(Fault::None)),
            requests: Arc::default(),
            began: Arc::default(),
            endless_bytes: Arc::default(),
        };
        let served = server.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let served = served.clone();
                std::thread::spawn(move || served.answer(stream));
            }
        });
        server
    }

    fn answer(&self, mut stream: std::net::TcpStream) -> Option<()> {
        let mut lines = BufReader::new(stream.try_clone().ok()?).lines();
        let request = lines.next()?.ok()?;
        let mut range = None;
        loop {
            let line = lines.next()?.ok()?.to_ascii_lowercase();
            if line.is_empty() {
                break;
            }
            let bytes = line.strip_prefix("range: bytes=").and_then(|rest| rest.split_once('-'));
            let number = |text: &str| text.trim().parse::<usize>().ok();
            range = range.or(bytes.and_then(|(from, to)| Some((number(from)?, number(to)?))));
        }
        let path = request.split(' ').nth(1)?.strip_prefix("/repo/")?.to_owned();
        self.requests.lock().unwrap().push(path.clone());
        if let Some((from, _)) = range {
            self.began.lock().unwrap().push((path.clone(), from));
        }
        let fault = self.fault.lock().unwrap().clone();
        let path = path.strip_prefix("moved/").map(str::to_owned).unwrap_or(path);
        let Some(bytes) = self.files.lock().unwrap().get(&path).cloned() else {
            let _ = stream.write_all(
                b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
            );
            return None;
        };
        let rude = match &fault {
            Fault::Rude(part, rude) if path.contains(part) => Some(*rude),
            _ => None,
        };
        let whole = bytes.len();
        let range = range
            .filter(|_| rude != Some(Rude::IgnoresRange))
            .map(|(from, to)| (from, to.saturating_add(1).min(whole)));
        let (from, to) = range.unwrap_or((0, whole));
        let moved = self.requests.lock().unwrap().last().is_some_and(|p| p.starts_with("moved/"));
        let mut sent = bytes[from.min(to)..to].to_vec();
        let mut head = rude_head(range, rude, &path, whole, moved);
        match rude {
            Some(Rude::Compresses) => head.push_str("Content-Encoding: gzip\r\n"),
            Some(Rude::SendsTooMuch) => sent.extend_from_slice(&[7; 5000]),
            Some(Rude::FlipsBit) => {
                let middle = sent.len() / 2;
                sent[middle] ^= 1;
            }
            _ => {}
        }
        if rude == Some(Rude::NeverEnds) {
            self.never_end(&mut stream, &head);
            return None;
        }
        let head = format!("{head}Content-Length: {}\r\nConnection: close\r\n\r\n", sent.len());
        let _ = stream.write_all(head.as_bytes());
        match (fault, rude) {
            (Fault::Cut(part, times), _) if path.contains(part) && times > 0 => {
                *self.fault.lock().unwrap() = Fault::Cut(part, times - 1);
                let _ = stream.write_all(&sent[..sent.len() / 2]);
                return None;
            }
            (Fault::Before(part, act), _) if path.contains(part) => act(),
            (_, Some(Rude::CutsAfter(bytes))) => sent.truncate(bytes),
            (_, Some(Rude::Drips)) => {
                for byte in &sent {
                    let _ = stream.write_all(&[*byte]);
                }
                return Some(());
            }
            _ => {}
        }
        let _ = stream.write_all(&sent);
        Some(())
    }

    /// Sends until the board hangs up.
    fn never_end(&self, stream: &mut std::net::TcpStream, head: &str) {
        let _ = stream.write_all(format!("{head}Connection: close\r\n\r\n").as_bytes());
        let piece = [b' '; 8192];
        while stream.write_all(&piece).is_ok() {
            self.endless_bytes.fetch_add(piece.len() as u64, Ordering::Relaxed);
        }
    }
}

/// The first lines of an answer: with a range, or with what `rude` makes of it.
fn rude_head(
    range: Option<(usize, usize)>,
    rude: Option<Rude>,
    path: &str,
    whole: usize,
    moved: bool,
) -> String {
    match (range, rude) {
        (_, Some(Rude::Redirects)) if !moved => {
            format!("HTTP/1.1 302 Found\r\nLocation: /repo/moved/{path}\r\n")
        }
        (_, Some(Rude::RedirectsForEver)) => {
            format!("HTTP/1.1 302 Found\r\nLocation: /repo/{path}\r\n")
        }
        (_, Some(Rude::Fails)) => "HTTP/1.1 500 Broken\r\n".into(),
        (Some((_, to)), Some(Rude::LiesAboutRange)) => {
            format!("HTTP/1.1 206 Partial\r\nContent-Range: bytes 1-{to}/{whole}\r\n")
        }
        (Some((from, to)), _) => {
            format!("HTTP/1.1 206 Partial\r\nContent-Range: bytes {from}-{}/{whole}\r\n", to - 1)
        }
        (None, _) => "HTTP/1.1 200 OK\r\n".to_owned(),
    }
}

/// The least PE32+ image: one section, room for more headers.
fn stub() -> Vec<u8> {
    let mut pe = vec![0u8; 0x600];
    let mut put = |at: usize, bytes: &[u8]| pe[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, b"MZ");
    put(0x3c, &0x80u32.to_le_bytes());
    put(0x80, b"PE\0\0");
    put(0x84, &0x8664u16.to_le_bytes());
    put(0x86, &1u16.to_le_bytes());
    put(0x94, &240u16.to_le_bytes());
    let optional = 0x98;
    put(optional, &0x20bu16.to_le_bytes());
    put(optional + 32, &4096u32.to_le_bytes());
    put(optional + 36, &512u32.to_le_bytes());
    put(optional + 56, &0x2000u32.to_le_bytes());
    put(optional + 60, &0x400u32.to_le_bytes());
    put(optional + 108, &16u32.to_le_bytes());
    let section = optional + 240;
    put(section, b".text");
    put(section + 8, &0x10u32.to_le_bytes());
    put(section + 12, &0x1000u32.to_le_bytes());
    put(section + 16, &0x200u32.to_le_bytes());
    put(section + 20, &0x400u32.to_le_bytes());
    pe
}

/// A release with all its contents.
#[derive(Clone)]
pub struct Release {
    pub manifest: Manifest<UkiRecipe>,
    pub blobs: BTreeMap<Digest, Vec<u8>>,
    pub uki: Vec<u8>,
}

/// Release `n`, built once in a run.
pub fn release(n: u32) -> Release {
    static BUILT: Mutex<BTreeMap<u32, Release>> = Mutex::new(BTreeMap::new());
    BUILT.lock().unwrap().entry(n).or_insert_with(|| build(n, Vec::new())).clone()
}

/// Release `n` with more files than the others have.
pub fn build(n: u32, more: Vec<(&str, Vec<u8>)>) -> Release {
    let mut contents = MemoryContents::new();
    let mut blobs = BTreeMap::new();
    let mut add = |bytes: Vec<u8>| {
        let size = bytes.len() as u64;
        let digest = contents.insert(bytes.clone());
        blobs.insert(digest, bytes);
        BlobRef { digest, size }
    };
    let large: Vec<u8> = (0..LARGE_BYTES).map(|i| (i as u32 * 7 + n) as u8).collect();
    let (kernel, preinit, stub) =
        (add(format!("kernel {n}").into_bytes()), add(b"preinit".to_vec()), add(stub()));
    let files = [("/usr/bin/goblin", large), ("/etc/os-release", format!("{n}").into_bytes())];
    let entries = files.into_iter().chain(more).map(|(path, bytes)| {
        let BlobRef { digest, size } = add(bytes);
        let kind = Kind::File { size, digest };
        Entry { path: path.into(), mode: 0o755, uid: 0, gid: 0, kind }
    });
    let base = Tree::new(entries.collect()).unwrap();
    let mut recipe = UkiRecipe {
        format: RECIPE_FORMAT,
        stub,
        kernel,
        cmdline: "quiet".into(),
        os_release: format!(
            "IMAGE_VERSION={n}\n{}",
            if n < KNOWS_MIRRORS { "" } else { STATE_OF_TWO_LINE }
        ),
        uname: "6.12".into(),
        preinit,
        base,
        erofs_uuid: Guid::derive(&[b"test"]),
        erofs_time: 1,
        uki_size: 0,
        uki_digest: Digest([0; 32]),
    };
    recipe.seal(&mut contents).unwrap();
    let mut uki = Vec::new();
    recipe.build(&mut uki, &mut contents).unwrap();
    let manifest = Manifest {
        schema: MANIFEST_SCHEMA,
        version: v(n),
        channel: "stable".into(),
        notes: format!("what release {n} brings"),
        accent: String::new(),
        created: None,
        protocol: ProtocolRange { min: 1, max: 1 },
        roles: Role::ALL.to_vec(),
        parcels: None,
        uki: recipe,
    };
    Release { manifest, blobs, uki }
}

pub fn root_json(keys: &RepositoryKeys) -> String {
    let root = keys.root(1, Instant::from_unix_s(NOW).plus_days(1000));
    String::from_utf8(sign(&root, &keys.root).unwrap()).unwrap()
}

/// Publishes releases as one state of the repository.
pub fn publish(server: &Server, keys: &RepositoryKeys, version: u64, releases: &[u32], at: u64) {
    publish_edited(server, keys, version, releases, at, &|_, _| {});
}

/// [`publish`], with releases that are not as the others.
pub fn publish_edited(
    server: &Server,
    keys: &RepositoryKeys,
    version: u64,
    releases: &[u32],
    at: u64,
    edit: &dyn Fn(&mut Manifest<UkiRecipe>, &mut ReleaseCustom),
) {
    let mut publisher = Publisher { version, ..Publisher::empty() };
    let mut files = server.files.lock().unwrap();
    files.clear();
    for &n in releases {
        let mut release = release(n);
        let uki = Some(release.manifest.uki.uki_digest);
        let mut custom =
            ReleaseCustom { version: v(n), channel: "stable".into(), uki, waves: None };
        edit(&mut release.manifest, &mut custom);
        let bytes = release.manifest.to_bytes().unwrap();
        files.insert(publisher.add_release(&custom, &bytes).unwrap(), bytes);
        let (path, list) = package_list(n);
        let length = list.len() as u64;
        let hashes = Hashes::sha256(sha256_hex(&list));
        publisher.targets.insert(path.clone(), Target { length, hashes, custom: None });
        files.insert(path, list);
        for (digest, bytes) in release.blobs {
            files.insert(blob_path(&digest), bytes);
        }
    }
    let now = Instant::from_unix_s(at);
    for written in publisher.publish(keys, now, Lifetimes::default()).unwrap() {
        files.insert(written.path, written.bytes);
    }
}

/// What a release says it is made of: a library of its own version, and one that is always the same.
fn package_list(n: u32) -> (String, Vec<u8>) {
    let list = format!(
        r#"{{"bomFormat": "CycloneDX", "components": [
            {{"name": "libc6", "version": "{n}", "purl": "pkg:deb/debian/libc6@{n}"}},
            {{"name": "serde", "version": "1", "purl": "pkg:cargo/serde@1"}}]}}"#
    );
    (sbom_path(v(n)), list.into_bytes())
}

/// What the updater of a test showed and asked.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    pub reboots: Arc<AtomicU32>,
    pub pool_missing: Arc<AtomicBool>,
    pub now: Arc<AtomicU64>,
    pub status: Arc<Mutex<(UpdateStatus, Vec<SlotStatus>)>>,
    pub stick: Arc<Mutex<Option<TestStick>>>,
    pub cable: Cable,
}

/// The cable between the boards, as the storage board's updater sees it.
#[derive(Debug, Clone, Default)]
pub struct Cable {
    /// The updater at the other end; without one nobody answers.
    pub feeder: Arc<Mutex<Option<Arc<Feeder>>>>,
    /// Bytes after which the next answer ends.
    pub cut_after: Arc<Mutex<Option<usize>>>,
    /// Questions that were answered.
    pub asked: Arc<Mutex<Vec<String>>>,
}

impl Ask for Cable {
    fn ask(&self, line: &[u8]) -> Result<Box<dyn Read + Send>, OpenError> {
        let Some(feeder) = self.feeder.lock().unwrap().clone() else {
            return Err(OpenError::Again("the compute board does not answer".into()));
        };
        self.asked.lock().unwrap().push(String::from_utf8_lossy(line).into_owned());
        let mut answer = Vec::new();
        let _ = feeder.answer(line, &mut answer);
        if answer.len() > 200
            && let Some(bytes) = self.cut_after.lock().unwrap().take()
        {
            answer.truncate(bytes);
        }
        Ok(Box::new(std::io::Cursor::new(answer)))
    }
}

/// A stick in a temporary folder, which goes when it is pulled out.
#[derive(Debug, Clone)]
pub struct TestStick {
    pub dir: Arc<TempDir>,
    pub pulled: Arc<AtomicBool>,
}

impl TestStick {
    /// With the files of a server.
    pub fn with(server: &Server) -> Self {
        let dir = TempDir::new().unwrap();
        for (path, bytes) in server.files.lock().unwrap().iter() {
            let path = dir.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, bytes).unwrap();
        }
        Self { dir: Arc::new(dir), pulled: Arc::default() }
    }

    /// Pulls it out before this file is read; those before it still come.
    pub fn pull_before(&self, path: &str) {
        self.pulled.store(true, Ordering::Relaxed);
        fs::remove_file(self.dir.path().join(path)).unwrap();
    }
}

impl Stick for TestStick {
    fn folder(&self) -> &Path {
        self.dir.path()
    }

    fn name(&self) -> &str {
        "the stick `Test` (sda1)"
    }

    fn is_there(&self) -> bool {
        !self.pulled.load(Ordering::Relaxed)
    }
}

impl Hooks for Seen {
    fn now_unix_s(&self) -> u64 {
        self.now.load(Ordering::Relaxed)
    }

    fn clock_is_sure(&self) -> bool {
        true
    }

    fn peer_in_sight(&self) -> bool {
        true
    }

    fn pool_missing(&self, _: Option<Role>) -> bool {
        self.pool_missing.load(Ordering::Relaxed)
    }

    fn local_minute(&self) -> Option<u16> {
        Some(180)
    }

    fn stick(&self) -> Result<Box<dyn Stick>, UpdateError> {
        match self.stick.lock().unwrap().clone() {
            Some(stick) => Ok(Box::new(stick)),
            None => Err(StickError::None.into()),
        }
    }

    fn other_board(&self) -> Arc<dyn Ask> {
        Arc::new(self.cable.clone())
    }

    fn reboot(&self, _: &str) -> Result<(), String> {
        self.reboots.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    fn publish(&self, update: &UpdateStatus, slots: &[SlotStatus]) {
        *self.status.lock().unwrap() = (update.clone(), slots.to_vec());
    }
}

/// A board in a temporary folder.
pub struct Board {
    pub dir: TempDir,
    pub role: Role,
    pub source: Source,
    pub running: u32,
    pub seen: Seen,
    /// Releases that stop after preinit.
    pub broken: Vec<u32>,
    pub spare_bytes: u64,
    /// The loader's default, as its menu sets it.
    pub chosen: Option<u32>,
    /// What changes its ESP and its store.
    pub writers: Writers,
    /// What changes its boot record.
    pub record_writer: Writer,
}

impl Board {
    pub fn new(role: Role, server: &Server, keys: &RepositoryKeys) -> Self {
        let dir = TempDir::new().unwrap();
        fs::create_dir_all(dir.path().join("esp/EFI/Linux")).unwrap();
        fs::create_dir_all(dir.path().join("esp/loader/entries")).unwrap();
        fs::create_dir_all(dir.path().join("store")).unwrap();
        fs::File::create(dir.path().join("record")).unwrap().set_len(4 << 20).unwrap();
        let source = Source {
            url: server.url.clone(),
            mirrors: Vec::new(),
            proxy: None,
            channel: "stable".into(),
            root: root_json(keys),
        };
        let seen = Seen::default();
        seen.now.store(NOW, Ordering::Relaxed);
        let board = Self {
            dir,
            role,
            source,
            running: 1,
            seen,
            broken: Vec::new(),
            spare_bytes: 0,
            chosen: None,
            writers: Writers::default(),
            record_writer: Writer::default(),
        };
        fs::write(board.linux().join(file_name(v(1), SlotState::Good)), release(1).uki).unwrap();
        fs::write(board.entries().join(reset_entry_name(v(1))), menu::entry_text(v(1))).unwrap();
        // The boot that runs.
        board.record().update(|record| record.boot_count = 1).unwrap();
        board
    }

    pub fn store(&self) -> PathBuf {
        self.dir.path().join("store")
    }

    pub fn linux(&self) -> PathBuf {
        self.dir.path().join("esp/EFI/Linux")
    }

    pub fn entries(&self) -> PathBuf {
        self.dir.path().join("esp/loader/entries")
    }

    /// What the boot menu shows beside the releases, as the loader looks for the files that entries start.
    pub fn menu(&self) -> Vec<String> {
        let listed = |name: &String| {
            let text = fs::read_to_string(self.entries().join(name)).unwrap();
            let efi = text.lines().find_map(|line| line.strip_prefix("efi /"));
            name.ends_with(".conf")
                && efi.is_some_and(|efi| self.dir.path().join("esp").join(efi).exists())
        };
        let mut names: Vec<String> = fs::read_dir(self.entries())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(listed)
            .collect();
        names.sort();
        names
    }

    pub fn record(&self) -> RecordPartition {
        let record = RecordPartition::open(&self.dir.path().join("record")).unwrap();
        record.counted_by(self.record_writer.clone())
    }

    pub fn boot_record(&self) -> BootRecord {
        self.record().read().unwrap()
    }

    pub fn env(&self, trial: bool) -> Env {
        Env {
            store: self.store(),
            base: self.dir.path().join("base"),
            esp: self.dir.path().join("esp"),
            guard: Guard::Writable,
            record: Some(self.record()),
            running: v(self.running),
            trial,
            box_id: Some(goblin_core_types::BoxId([7; 16])),
            role: Some(self.role),
            source: Some(self.source.clone()),
            retry_pause: Duration::from_millis(1),
            spare_bytes: self.spare_bytes,
            writers: self.writers.clone(),
            hooks: Box::new(self.seen.clone()),
        }
    }

    pub fn updater(&self) -> Updater {
        Updater::start(self.env(false))
    }

    pub fn names(&self) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(self.linux())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    /// Everything that a refused operation must leave alone: boot record, ESP, the staged note.
    pub fn fixed(&self) -> (BootRecord, Vec<(String, Digest)>, Option<Vec<u8>>) {
        let esp = self
            .names()
            .into_iter()
            .map(|name| {
                let digest = hash(&fs::read(self.linux().join(&name)).unwrap());
                (name, digest)
            })
            .collect();
        (self.boot_record(), esp, fs::read(self.store().join("staged.json")).ok())
    }

    /// Checks that the store holds only whole contents.
    pub fn check_store(&self) {
        assert!(!self.store().join("incoming").exists(), "a part of a content was left");
        for entry in fs::read_dir(self.store().join("blobs")).into_iter().flatten() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            assert_eq!(hash(&fs::read(&path).unwrap()).to_string(), name);
        }
    }

    /// What loader, preinit and PID 1 do, until a release comes up; then the updater is started and a
    /// trial blessed.
    pub fn boot(&mut self) -> Updater {
        for _ in 0..8 {
            let files: Vec<EspFile> =
                self.names().into_iter().map(|name| EspFile { name, size_bytes: 1 }).collect();
            let all = slots::slots(&files, v(0));
            let chosen = all.iter().find(|slot| Some(slot.version) == self.chosen.map(v));
            let pick = chosen.or(loader_pick(&all)).unwrap();
            let name = counted(pick);
            // The loader writes past every cache.
            let (from, to) = (self.linux().join(&pick.file), self.linux().join(&name));
            self.writers.esp.rename(&from, &to).unwrap();
            self.writers.esp.sync_all(&self.linux()).unwrap();
            let trial = pick.state != SlotState::Good;
            let n = pick.version.to_string().parse().unwrap();
            let broken = self.broken.contains(&n);
            self.record().update(|record| begin(record, pick.version, trial, broken)).unwrap();
            if broken {
                continue;
            }
            self.running = n;
            let mut updater = Updater::start(self.env(trial));
            if trial {
                bless(&self.env(trial)).unwrap();
                updater.tick();
            }
            return updater;
        }
        panic!("the board does not come up: {:?}", self.names());
    }

    pub fn status(&self) -> BoardStatus {
        let (update, slots) = self.seen.status.lock().unwrap().clone();
        let mut status =
            BoardStatus { role: Some(self.role), slots, update, ..BoardStatus::default() };
        status.boot.version = Some(v(self.running));
        status
    }
}

fn begin(record: &mut BootRecord, version: Version, trial: bool, broken: bool) {
    record.boot_count += 1;
    let message = "Kernel panic - not syncing: Attempted to kill init!".into();
    record.attempts.push(Attempt {
        version,
        boot: record.boot_count,
        trial,
        stage: AttemptStage::Preinit,
        fail: broken.then_some(FailReason::Panic { message }),
        last_lines: Vec::new(),
        at_unix_s: NOW,
        end: None,
    });
}

pub fn hash(bytes: &[u8]) -> Digest {
    Digest(*blake3::hash(bytes).as_bytes())
}

/// Gives a command and returns the last reply.
pub fn tell(updater: &mut Updater, command: &UpdateCommand) -> UpdateReply {
    let mut last = None;
    updater.command(command, &mut |reply| last = Some(reply));
    last.expect("a command is answered")
}

pub fn kind(reply: &UpdateReply) -> &str {
    match reply {
        UpdateReply::Failed { kind, .. } => kind,
        other => panic!("not refused: {other:?}"),
    }
}

pub fn done(reply: &UpdateReply) -> Option<Version> {
    match reply {
        UpdateReply::Done { version, .. } => *version,
        other => panic!("not done: {other:?}"),
    }
}
