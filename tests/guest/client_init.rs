//! PID 1 of the client guest: loads Debian's own modules, brings the network up, and does what the host
//! asks over virtio-serial. Everything a stranger's PC would do with `mount -t 9p` and `cp -a`.

use goblin_core_types::escape_bytes;
use goblin_sys::listing::{self, Digests};
use goblin_tests::client::{
    CLIENT_PORT, ClientReply, ClientRequest, GOBLIN, HOST_ADDRESS, Ran, ReadingReport, SOURCE_DIR,
    SOURCE_TAG, Target,
};
use rustix::fs::{AtFlags, CWD, Timespec, Timestamps};
use rustix::mount::{MountFlags, UnmountFlags};
use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Longest 9P message of the mounts that are made here, in bytes: as `goblin mount` asks for it.
const MSIZE_BYTES: u32 = 24 + 127 * 4096;

type Port = Arc<Mutex<File>>;

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    if let [what, path] = words.as_slice() {
        let done = match what.as_str() {
            "try" => try_as_user(Path::new(path)),
            "journal" => write_journal(Path::new(path)),
            "mkdir" => std::fs::create_dir_all(path),
            _ => Err(io::Error::other("`try`, `journal` or `mkdir`, and a path")),
        };
        if let Err(err) = done {
            eprintln!("{what} {path}: {err}");
            std::process::exit(1);
        }
        return;
    }
    if let Err(err) = run() {
        eprintln!("client-init: {err}");
    }
    // Ending PID 1 panics the guest, and `-no-reboot` ends QEMU: the host sees that at once.
}

fn run() -> io::Result<()> {
    for (source, dir, kind) in
        [("proc", "/proc", "proc"), ("sys", "/sys", "sysfs"), ("dev", "/dev", "devtmpfs")]
    {
        std::fs::create_dir_all(dir)?;
        let mounted = rustix::mount::mount(source, dir, kind, MountFlags::empty(), None);
        if mounted.is_err() && kind != "devtmpfs" {
            mounted?;
        }
    }
    load_modules()?;
    network().map_err(io::Error::other)?;
    std::fs::create_dir_all(SOURCE_DIR)?;
    let options = c"trans=virtio,version=9p2000.L,msize=524288,access=any";
    rustix::mount::mount(SOURCE_TAG, SOURCE_DIR, "9p", MountFlags::RDONLY, Some(options))?;
    let port = open_port()?;
    let kernel = rustix::system::uname().release().to_string_lossy().into_owned();
    let reader = BufReader::new(port.try_clone()?);
    let port = Arc::new(Mutex::new(port));
    reply(&port, &ClientReply::Up { kernel })?;
    serve(reader, &port)
}

/// Modules in the order in which they need each other, one name per line in `/modules/order`.
fn load_modules() -> io::Result<()> {
    for name in std::fs::read_to_string("/modules/order")?.lines() {
        let module = File::open(Path::new("/modules").join(name))?;
        match rustix::system::finit_module(&module, c"", 0) {
            Ok(()) | Err(rustix::io::Errno::EXIST) => {}
            Err(err) => eprintln!("client-init: module {name}: {err}"),
        }
    }
    Ok(())
}

/// QEMU's user network always hands out 10.0.2.15/24; nothing beyond the host is needed.
fn network() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let (connection, handle, _) = rtnetlink::new_connection()?;
        tokio::spawn(connection);
        let name = first_nic()?;
        let index: u32 =
            std::fs::read_to_string(format!("/sys/class/net/{name}/ifindex"))?.trim().parse()?;
        handle.address().add(index, [10, 0, 2, 15].into(), 24).execute().await?;
        let up = rtnetlink::LinkUnspec::new_with_index(index).up().build();
        handle.link().set(up).execute().await?;
        Ok(())
    })
}

fn first_nic() -> io::Result<String> {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        for entry in std::fs::read_dir("/sys/class/net")? {
            let name = entry?.file_name().to_string_lossy().into_owned();
            if name != "lo" {
                return Ok(name);
            }
        }
        if Instant::now() > deadline {
            return Err(io::Error::other("no network card appeared"));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn open_port() -> io::Result<File> {
    let deadline = Instant::now() + Duration::from_secs(20);
    while Instant::now() < deadline {
        if let Ok(ports) = std::fs::read_dir("/sys/class/virtio-ports") {
            for port in ports.flatten() {
                let name = std::fs::read_to_string(port.path().join("name")).unwrap_or_default();
                if name.trim() == CLIENT_PORT {
                    let device = Path::new("/dev").join(port.file_name());
                    if let Ok(file) = File::options().read(true).write(true).open(device) {
                        return Ok(file);
                    }
                }
            }
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Err(io::Error::other("no control port appeared"))
}

fn reply(port: &Port, answer: &ClientReply) -> io::Result<()> {
    let mut line = serde_json::to_vec(answer)?;
    line.push(b'\n');
    port.lock().unwrap_or_else(PoisonError::into_inner).write_all(&line)
}

fn serve(reader: BufReader<File>, port: &Port) -> io::Result<()> {
    let mut reading: Option<Reading> = None;
    for line in reader.split(b'\n') {
        let request: ClientRequest = serde_json::from_slice(&line?)?;
        let answer = match request {
            ClientRequest::StartReading { target, dir } => {
                reading = Some(Reading::start(target, dir));
                Ok(ClientReply::Done { files: 0, bytes: 0 })
            }
            ClientRequest::Reading => reading
                .as_ref()
                .map(|reading| ClientReply::Reading(reading.report()))
                .ok_or_else(|| io::Error::other("nothing is being read")),
            ClientRequest::StopReading => reading
                .take()
                .map(|reading| ClientReply::Reading(reading.stop()))
                .ok_or_else(|| io::Error::other("nothing is being read")),
            other => carry_out(other, port),
        };
        let answer = answer.unwrap_or_else(|err| ClientReply::Failed { message: err.to_string() });
        reply(port, &answer)?;
    }
    Ok(())
}

/// Tells the host every few seconds that the guest is alive, however long one file takes.
struct Heartbeat {
    done: Arc<AtomicBool>,
    bytes: Arc<AtomicU64>,
}

impl Heartbeat {
    fn start(port: &Port) -> Self {
        let beat = Self { done: Arc::default(), bytes: Arc::default() };
        let (done, bytes, port) = (Arc::clone(&beat.done), Arc::clone(&beat.bytes), port.clone());
        std::thread::spawn(move || {
            let mut said = Instant::now();
            while !done.load(Ordering::SeqCst) {
                std::thread::park_timeout(Duration::from_millis(200));
                if said.elapsed() > Duration::from_secs(3) {
                    said = Instant::now();
                    let working = ClientReply::Working { bytes: bytes.load(Ordering::SeqCst) };
                    if reply(&port, &working).is_err() {
                        return;
                    }
                }
            }
        });
        beat
    }
}

impl Drop for Heartbeat {
    fn drop(&mut self) {
        self.done.store(true, Ordering::SeqCst);
    }
}

/// What a person does with files, as whoever runs this.
fn try_as_user(dir: &Path) -> io::Result<()> {
    let (first, second) = (dir.join("first"), dir.join("second"));
    std::fs::write(&first, "one\n")?;
    File::options().append(true).open(&first)?.write_all(b"two\n")?;
    std::fs::set_permissions(&first, std::fs::Permissions::from_mode(0o600))?;
    std::fs::rename(&first, &second)?;
    let text = std::fs::read_to_string(&second)?;
    let meta = std::fs::metadata(&second)?;
    println!("{text:?} {:o} {}:{}", meta.mode() & 0o7777, meta.uid(), meta.gid());
    std::fs::create_dir(dir.join("folder"))?;
    std::fs::remove_dir(dir.join("folder"))?;
    std::fs::remove_file(&second)
}

/// Records of a journal, one line of 16 bytes each.
const JOURNAL_RECORDS: u64 = 60;

/// Writes records, each with a sync; says for each the number that is acknowledged. A record whose sync failed is
/// written anew with all before it, as a database does.
fn write_journal(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::FileExt;
    let file = File::options().write(true).create(true).truncate(false).open(path)?;
    let record = |number: u64| format!("{number:015}\n");
    let mut failures = 0;
    let mut number = 0;
    while number < JOURNAL_RECORDS {
        let written = file.write_all_at(record(number).as_bytes(), number * 16);
        match written.and_then(|()| file.sync_all()) {
            Ok(()) => {
                println!("{number}");
                number += 1;
                std::thread::sleep(Duration::from_millis(50));
            }
            Err(err) if failures < 20 => {
                failures += 1;
                eprintln!("record {number}: {err}");
                for before in 0..number {
                    file.write_all_at(record(before).as_bytes(), before * 16)?;
                }
            }
            Err(err) => return Err(err),
        }
    }
    Ok(())
}

/// Runs a program to its end.
fn run_program(argv: &[String], uid: Option<u32>) -> io::Result<ClientReply> {
    use std::os::unix::process::CommandExt;
    let (program, arguments) =
        argv.split_first().ok_or_else(|| io::Error::other("no program is named"))?;
    let mut command = Command::new(program);
    command.args(arguments).current_dir("/tmp");
    if let Some(uid) = uid {
        command.uid(uid).gid(uid).env("HOME", "/tmp");
    }
    let output = command.output()?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Ok(ClientReply::Ran(Ran {
        code: output.status.code().unwrap_or(-1),
        out: text(&output.stdout),
        err: text(&output.stderr),
    }))
}

/// Takes the network down a little later, and up again.
fn pull_cable(after: Duration, out: Duration) {
    std::thread::spawn(move || {
        std::thread::sleep(after);
        for (up, pause) in [(false, out), (true, Duration::ZERO)] {
            if let Err(err) = set_link(up) {
                eprintln!("client-init: the cable: {err}");
            }
            std::thread::sleep(pause);
        }
    });
}

fn set_link(up: bool) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let (connection, handle, _) = rtnetlink::new_connection()?;
        tokio::spawn(connection);
        let index: u32 =
            std::fs::read_to_string(format!("/sys/class/net/{}/ifindex", first_nic()?))?
                .trim()
                .parse()?;
        let link = rtnetlink::LinkUnspec::new_with_index(index);
        handle.link().set(if up { link.up() } else { link.down() }.build()).execute().await?;
        Ok(())
    })
}

fn carry_out(request: ClientRequest, port: &Port) -> io::Result<ClientReply> {
    let mut files = 0;
    let mut bytes = 0;
    let heartbeat = Heartbeat::start(port);
    match request {
        ClientRequest::Login { port, code } => {
            goblin(&["login".into(), format!("{HOST_ADDRESS}:{port}"), code])?;
        }
        ClientRequest::Mount { target, dir } => mount(&target, &dir)?,
        ClientRequest::Umount { dir } => rustix::mount::unmount(&dir, UnmountFlags::empty())?,
        ClientRequest::Copy { from, to } => {
            let mut copy = Copy { files: 0, bytes: Arc::clone(&heartbeat.bytes) };
            copy.directory(&from, &to)?;
            (files, bytes) = (copy.files, copy.bytes.load(Ordering::SeqCst));
        }
        ClientRequest::List { root } => listing::walk(&root, Digests::Compute, &mut |entry| {
            files += 1;
            reply(port, &ClientReply::Entry(entry))
        })?,
        ClientRequest::Run { argv, uid } => return run_program(&argv, uid),
        ClientRequest::Cable { after_ms, out_ms } => {
            pull_cable(Duration::from_millis(after_ms), Duration::from_millis(out_ms));
        }
        ClientRequest::PowerOff => {
            rustix::fs::sync();
            rustix::system::reboot(rustix::system::RebootCommand::PowerOff)?;
        }
        ClientRequest::StartReading { .. }
        | ClientRequest::Reading
        | ClientRequest::StopReading => {}
    }
    Ok(ClientReply::Done { files, bytes })
}

/// Runs the program that a person would run, and says what it said where it failed.
fn goblin(arguments: &[String]) -> io::Result<()> {
    let output = Command::new(GOBLIN).args(arguments).output()?;
    if output.status.success() {
        return Ok(());
    }
    Err(io::Error::other(String::from_utf8_lossy(&output.stderr).trim().to_owned()))
}

/// Whether a box is known: `goblin` keeps it there for root.
fn logged_in() -> bool {
    Path::new("/etc/goblin/boxes.json").exists()
}

/// The mount of a person who is enrolled: it outlives the connection.
fn mount_by_goblin(target: &Target, dir: &Path) -> io::Result<()> {
    std::fs::create_dir_all(dir)?;
    let host = if target.host.is_empty() { HOST_ADDRESS } else { &target.host };
    let place = format!("{host}:{}:{}", target.port, target.share);
    let cache = format!("--cache={}", target.cache);
    goblin(&["mount".into(), place, dir.display().to_string(), cache])
}

fn mount(target: &Target, dir: &Path) -> io::Result<()> {
    if logged_in() {
        return mount_by_goblin(target, dir);
    }
    std::fs::create_dir_all(dir)?;
    let options = format!(
        "trans=tcp,port={},version=9p2000.L,aname={},uname=root,access=any,msize={MSIZE_BYTES},cache={}",
        target.port, target.share, target.cache
    );
    let options = std::ffi::CString::new(options)?;
    let source = if target.host.is_empty() { HOST_ADDRESS } else { &target.host };
    rustix::mount::mount(source, dir, "9p", MountFlags::empty(), Some(options.as_c_str()))?;
    Ok(())
}

struct Copy {
    files: u64,
    bytes: Arc<AtomicU64>,
}

impl Copy {
    fn directory(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        let at = |path: &Path, err: io::Error| {
            io::Error::new(
                err.kind(),
                format!("{}: {err}", escape_bytes(path.as_os_str().as_bytes())),
            )
        };
        for entry in std::fs::read_dir(from).map_err(|err| at(from, err))? {
            let entry = entry?;
            let (from, to) = (entry.path(), to.join(entry.file_name()));
            let meta = std::fs::symlink_metadata(&from).map_err(|err| at(&from, err))?;
            let kind = meta.file_type();
            let copied = if kind.is_dir() {
                match std::fs::create_dir(&to) {
                    Ok(()) => self.directory(&from, &to),
                    Err(err) => Err(err),
                }
            } else if kind.is_symlink() {
                std::fs::read_link(&from).and_then(|link| std::os::unix::fs::symlink(link, &to))
            } else if kind.is_file() {
                self.file(&from, &to)
            } else {
                continue;
            };
            copied.map_err(|err| at(&to, err))?;
            if !kind.is_symlink() {
                let mode = std::fs::Permissions::from_mode(meta.mode() & 0o7777);
                std::fs::set_permissions(&to, mode).map_err(|err| at(&to, err))?;
            }
            set_mtime(&to, &meta).map_err(|err| at(&to, err))?;
        }
        Ok(())
    }

    fn file(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        let mut source = File::open(from)?;
        let mut target = File::options().write(true).create_new(true).open(to)?;
        let mut chunk = vec![0u8; 1 << 19];
        loop {
            let count = source.read(&mut chunk)?;
            let Some(part) = chunk.get(..count).filter(|part| !part.is_empty()) else { break };
            target.write_all(part)?;
            self.bytes.fetch_add(count as u64, Ordering::SeqCst);
        }
        self.files += 1;
        Ok(())
    }
}

fn set_mtime(path: &Path, meta: &std::fs::Metadata) -> io::Result<()> {
    let time = Timespec { tv_sec: meta.mtime(), tv_nsec: meta.mtime_nsec() };
    let times = Timestamps { last_access: time, last_modification: time };
    rustix::fs::utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW)?;
    Ok(())
}

/// The household member who keeps reading while the box upgrades.
struct Reading {
    stop: Arc<AtomicBool>,
    report: Arc<Mutex<ReadingReport>>,
    thread: std::thread::JoinHandle<()>,
}

impl Reading {
    fn start(target: Target, dir: PathBuf) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let report = Arc::new(Mutex::new(ReadingReport::default()));
        let (stopped, shared) = (Arc::clone(&stop), Arc::clone(&report));
        let thread = std::thread::spawn(move || read_until(&stopped, &shared, &target, &dir));
        Self { stop, report, thread }
    }

    fn report(&self) -> ReadingReport {
        self.report.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn stop(self) -> ReadingReport {
        self.stop.store(true, Ordering::SeqCst);
        // The thread may sit in a read that only the server can end; the report does not need it.
        let deadline = Instant::now() + Duration::from_secs(30);
        while !self.thread.is_finished() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(20));
        }
        self.report()
    }
}

/// Longest time without one piece of data before the connection counts as dead. A board that is reset
/// may lose its last FIN, and v9fs has no time-out of its own.
const STALL_LIMIT: Duration = Duration::from_secs(15);

/// Cuts a connection on which nothing moves, so that a mount or read that waits on it fails.
struct Guard {
    ticks: Arc<AtomicU64>,
    done: Arc<AtomicBool>,
}

impl Guard {
    fn watch(socket: TcpStream, stop: &Arc<AtomicBool>) -> Self {
        let guard = Self { ticks: Arc::default(), done: Arc::default() };
        let (ticks, done, stop) =
            (Arc::clone(&guard.ticks), Arc::clone(&guard.done), Arc::clone(stop));
        std::thread::spawn(move || {
            let mut seen = (0, Instant::now());
            while !done.load(Ordering::SeqCst) && !stop.load(Ordering::SeqCst) {
                std::thread::park_timeout(Duration::from_millis(200));
                let now = ticks.load(Ordering::SeqCst);
                if now != seen.0 {
                    seen = (now, Instant::now());
                } else if seen.1.elapsed() > STALL_LIMIT {
                    break;
                }
            }
            // Harmless when the mount is gone already.
            let _ = socket.shutdown(std::net::Shutdown::Both);
        });
        guard
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.done.store(true, Ordering::SeqCst);
    }
}

/// Mounts over a connection of our own, which can be cut.
fn mount_guarded(target: &Target, dir: &Path, stop: &Arc<AtomicBool>) -> io::Result<Guard> {
    std::fs::create_dir_all(dir)?;
    let host = if target.host.is_empty() { HOST_ADDRESS } else { &target.host };
    let socket = TcpStream::connect((host, target.port))?;
    let guard = Guard::watch(socket.try_clone()?, stop);
    let options = format!(
        "trans=fd,rfdno={fd},wfdno={fd},version=9p2000.L,aname={},uname=root,access=any,\
         msize={MSIZE_BYTES},cache={}",
        target.share,
        target.cache,
        fd = socket.as_raw_fd(),
    );
    let options = std::ffi::CString::new(options)?;
    rustix::mount::mount(host, dir, "9p", MountFlags::empty(), Some(options.as_c_str()))?;
    Ok(guard)
}

/// Reads every file below `dir`, handing its path, size and digest to `each`.
fn read_files(
    dir: &Path,
    ticks: &AtomicU64,
    each: &mut dyn FnMut(PathBuf, u64, blake3::Hash) -> io::Result<()>,
) -> io::Result<()> {
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        let (path, kind) = (entry.path(), entry.file_type()?);
        ticks.fetch_add(1, Ordering::SeqCst);
        if kind.is_dir() {
            read_files(&path, ticks, each)?;
        } else if kind.is_file() {
            let mut file = File::open(&path)?;
            let mut hasher = blake3::Hasher::new();
            let mut size = 0;
            let mut chunk = vec![0u8; 1 << 19];
            loop {
                let count = file.read(&mut chunk)?;
                let Some(part) = chunk.get(..count).filter(|part| !part.is_empty()) else { break };
                hasher.update(part);
                size += count as u64;
                ticks.fetch_add(1, Ordering::SeqCst);
            }
            each(path, size, hasher.finalize())?;
        }
    }
    Ok(())
}

fn read_until(stop: &Arc<AtomicBool>, report: &Mutex<ReadingReport>, target: &Target, dir: &Path) {
    let mut reader = Reader { stop, report, known: HashMap::new(), last_good: Instant::now() };
    if logged_in() {
        reader.on_one_mount(target, dir);
    } else {
        reader.on_many_mounts(target, dir);
    }
    if let Err(err) = rustix::mount::unmount(dir, UnmountFlags::DETACH) {
        eprintln!("client-init: umount: {err}");
    }
}

/// What is remembered while the same files are read over and over.
struct Reader<'a> {
    stop: &'a Arc<AtomicBool>,
    report: &'a Mutex<ReadingReport>,
    known: HashMap<PathBuf, blake3::Hash>,
    last_good: Instant,
}

impl Reader<'_> {
    fn stopped(&self) -> bool {
        self.stop.load(Ordering::SeqCst)
    }

    fn note(&self, change: impl FnOnce(&mut ReadingReport)) {
        change(&mut self.report.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// Reads everything once.
    fn once(&mut self, dir: &Path, ticks: &AtomicU64) -> io::Result<()> {
        let (stop, report) = (self.stop, self.report);
        let (known, last_good) = (&mut self.known, &mut self.last_good);
        read_files(dir, ticks, &mut |path, size, digest| {
            if stop.load(Ordering::SeqCst) {
                return Err(io::Error::other("told to stop"));
            }
            let gap = u64::try_from(last_good.elapsed().as_millis()).unwrap_or(u64::MAX);
            *last_good = Instant::now();
            let wrong = known.insert(path, digest).is_some_and(|before| before != digest);
            let mut report = report.lock().unwrap_or_else(PoisonError::into_inner);
            report.files += 1;
            report.bytes += size;
            report.wrong += u64::from(wrong);
            report.longest_gap_ms = report.longest_gap_ms.max(gap);
            Ok(())
        })
    }

    /// The mount has to outlive whatever happens to the box.
    fn on_one_mount(&mut self, target: &Target, dir: &Path) {
        while let Err(err) = mount_by_goblin(target, dir) {
            eprintln!("client-init: {err}");
            if self.stopped() {
                return;
            }
            std::thread::sleep(Duration::from_millis(200));
        }
        let ticks = AtomicU64::new(0);
        while !self.stopped() {
            if let Err(err) = self.once(dir, &ticks)
                && !self.stopped()
            {
                eprintln!("client-init: reading failed: {err}");
                self.note(|report| report.failures += 1);
                std::thread::sleep(Duration::from_millis(200));
            }
        }
    }

    /// Without the program every loss of the box is the end of the mount.
    fn on_many_mounts(&mut self, target: &Target, dir: &Path) {
        let mut first = true;
        while !self.stopped() {
            let Ok(guard) = mount_guarded(target, dir, self.stop) else {
                std::thread::sleep(Duration::from_millis(200));
                continue;
            };
            if !std::mem::take(&mut first) {
                self.note(|report| report.remounts += 1);
            }
            while self.once(dir, &guard.ticks).is_ok() && !self.stopped() {}
            drop(guard);
            if let Err(err) = rustix::mount::unmount(dir, UnmountFlags::DETACH) {
                eprintln!("client-init: umount: {err}");
            }
        }
    }
}
