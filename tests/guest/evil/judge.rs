//! The judge: what is done to PID 1 from outside its units, and how it is looked at.

use crate::{PHASE, park, say, signal_init, signal_init_raw};
use goblin_core_types::{InitReply, InitRequest, LogFilter, UnitPhase, UnitStatus, paths};
use rustix::process::{Pid, Resource, Rlimit, Signal};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

/// How many restarts the guest is asked to see.
const RESTARTS: &str = "/usr/lib/evil/restarts";
/// Most memory of PID 1, in KiB.
const RSS_KIB_MAX: u64 = 4096;
/// How long evil is done in a phase.
const EVIL: Duration = Duration::from_secs(4);
/// Longest that PID 1 may take to answer, or a unit to come back.
const PATIENCE: Duration = Duration::from_secs(60);
/// Most processor time of PID 1 while it can start nothing, in milliseconds: dozens of units try five times a
/// second, and a loop without a pause would take all of the time.
const BUSY_MS_MAX: u64 = 2500;
/// Between two looks.
const LOOK: Duration = Duration::from_millis(200);
/// The unit that does nothing wrong.
const CANARY: &str = "canary";
/// A unit that is killed to see that PID 1 still starts units.
const LAZARUS: &str = "lazarus";

type Judged = Result<String, Box<dyn std::error::Error>>;
/// A phase: its name, and what the judge does in it.
pub(crate) type Phase = (&'static str, fn() -> Judged);

/// Phases of the guest with evil units.
pub(crate) const EVILS: [Phase; 11] = [
    ("quiet", wait),
    ("bomb", wait),
    ("fill", wait),
    ("fill-all", wait),
    ("flood", wait),
    ("files", wait),
    ("descriptors", descriptors),
    ("garbage", garbage),
    ("state", state),
    ("clock", clock),
    ("crash", restarts),
];
/// Phases of the guest with as many units as a board may have.
pub(crate) const MANY: [Phase; 2] = [("quiet", wait), ("many", many)];

/// Goes through the phases and then ends the board under a storm of signals.
pub(crate) fn run(phases: &[Phase]) {
    // The one who looks must not be the kernel's choice when memory is short.
    if let Err(err) = std::fs::write("/proc/self/oom_score_adj", "-1000") {
        say(&format!("judge FAILED: {err}"));
    }
    let before = match unit(CANARY) {
        Ok(canary) => canary,
        Err(err) => return say(&format!("judge FAILED: {err}")),
    };
    for (name, act) in phases {
        let began = Instant::now();
        // A phase that cannot be told is one in which nothing happens, and its name is not told either.
        let judged = std::fs::write(PHASE, name).map_err(Into::into).and_then(|()| act());
        let over = std::fs::write(PHASE, "").map_err(Into::into);
        let judged = judged.and_then(|said| over.and_then(|()| whole(&before)).map(|()| said));
        match (judged, memory()) {
            (Ok(said), Ok([rss, peak, own])) if peak <= RSS_KIB_MAX => {
                let took = began.elapsed().as_millis();
                say(&format!(
                    "{name} ok in {took} ms, PID 1 holds {rss} KiB, {own} of them its own, at most {peak}{said}"
                ));
            }
            (Ok(_), Ok([rss, peak, _])) => say(&format!("{name} FAILED: {rss} KiB, once {peak}")),
            (Err(err), _) | (_, Err(err)) => say(&format!("{name} FAILED: {err}")),
        }
    }
    storm();
    say("end");
    // Which of these is heard first ends the board; the others change nothing.
    for _ in 0..1000 {
        for signal in [Signal::POWER, Signal::TERM, Signal::INT] {
            signal_init(signal);
        }
    }
    park()
}

/// Leaves the evil units to themselves.
fn wait() -> Judged {
    std::thread::sleep(EVIL);
    // In the middle of it too.
    units()?;
    Ok(String::new())
}

/// PID 1 answers, the harmless unit was left alone, and units can be started.
fn whole(before: &UnitStatus) -> Result<(), Box<dyn std::error::Error>> {
    let canary = unit(CANARY)?;
    if (canary.phase, canary.pid, canary.restarts) != (UnitPhase::Ready, before.pid, 0) {
        return Err(format!("the harmless unit is {canary:?}").into());
    }
    revive()
}

/// A unit that was killed comes back.
fn revive() -> Result<(), Box<dyn std::error::Error>> {
    let dead = kill_lazarus()?;
    comes_back(&dead)
}

fn kill_lazarus() -> Result<UnitStatus, Box<dyn std::error::Error>> {
    let until = Instant::now() + PATIENCE;
    loop {
        let status = unit(LAZARUS)?;
        let pid = status.pid.and_then(|pid| Pid::from_raw(pid.cast_signed()));
        match pid {
            Some(pid) if status.phase == UnitPhase::Ready => {
                rustix::process::kill_process(pid, Signal::KILL)?;
                return Ok(status);
            }
            _ if Instant::now() > until => return Err(format!("{status:?} does not run").into()),
            _ => std::thread::sleep(LOOK),
        }
    }
}

fn comes_back(dead: &UnitStatus) -> Result<(), Box<dyn std::error::Error>> {
    let until = Instant::now() + PATIENCE;
    loop {
        let status = unit(LAZARUS)?;
        if status.phase == UnitPhase::Ready && status.restarts > dead.restarts {
            return Ok(());
        }
        if Instant::now() > until {
            return Err(format!("{status:?} was not started again").into());
        }
        std::thread::sleep(LOOK);
    }
}

/// PID 1 may open no file more: it cannot start a unit, and does so when it can again.
fn descriptors() -> Judged {
    let init = Pid::from_raw(1);
    let before = rustix::process::getrlimit(Resource::Nofile);
    // Every lower number is taken, so no new one is given.
    let none = Rlimit { current: Some(4), maximum: before.maximum };
    let dead = kill_lazarus()?;
    rustix::process::prlimit(init, Resource::Nofile, none)?;
    // It cannot be taken, and PID 1 must not try without a pause.
    let waiting = UnixStream::connect(paths::INIT_SOCKET);
    let busy = busy_ms()?;
    std::thread::sleep(EVIL);
    let busy = busy_ms()?.saturating_sub(busy);
    rustix::process::prlimit(init, Resource::Nofile, before)?;
    let detail = unit(LAZARUS)?.detail;
    comes_back(&dead)?;
    ask(waiting?).map_err(|err| format!("the one who waited got no answer: {err}"))?;
    if busy > BUSY_MS_MAX {
        return Err(format!("PID 1 was busy for {busy} ms with nothing to be done").into());
    }
    Ok(format!(", busy for {busy} ms, after {detail:?}"))
}

/// Processor time of PID 1 so far, in milliseconds: `utime` and `stime` in hundredths of a second (proc(5)).
fn busy_ms() -> Result<u64, Box<dyn std::error::Error>> {
    let stat = std::fs::read_to_string("/proc/1/stat")?;
    let (_, fields) = stat.rsplit_once(')').ok_or("no name")?;
    let times: Vec<u64> =
        fields.split_whitespace().skip(11).take(2).filter_map(|field| field.parse().ok()).collect();
    Ok(times.iter().sum::<u64>() * 10)
}

/// Talks nonsense to PID 1, more connections at once than it takes, and some that say nothing at all.
fn garbage() -> Judged {
    let mut seed = 0x9e37_79b9_7f4a_7c15u64;
    let mut silent = Vec::new();
    for number in 0..600u32 {
        let Ok(mut socket) = UnixStream::connect(paths::INIT_SOCKET) else { continue };
        socket.set_write_timeout(Some(LOOK))?;
        socket.set_read_timeout(Some(Duration::from_millis(20)))?;
        // What PID 1 closes while it is being written is PID 1's right.
        let _ = socket.write_all(&nonsense(number, &mut seed));
        if number % 7 == 0 {
            silent.push(socket);
            silent.truncate(10);
        } else if number % 3 == 0 {
            let _ = socket.read(&mut [0; 512]);
        }
    }
    drop(silent);
    // Readers that ask for everything and take nothing.
    let line = b"{\"op\":\"logs\",\"follow\":true}\n";
    let mut lazy = Vec::new();
    for _ in 0..40 {
        if let Ok(mut socket) = UnixStream::connect(paths::INIT_SOCKET) {
            let _ = socket.write_all(line);
            lazy.push(socket);
        }
    }
    std::thread::sleep(EVIL);
    drop(lazy);
    Ok(String::new())
}

/// Bytes that are no request: at random, too long, too deep, cut off, of the right shape with wrong words.
fn nonsense(number: u32, seed: &mut u64) -> Vec<u8> {
    let mut random = |count: usize| -> Vec<u8> {
        (0..count)
            .map(|_| {
                *seed ^= *seed << 13;
                *seed ^= *seed >> 7;
                *seed ^= *seed << 17;
                seed.to_le_bytes()[0]
            })
            .collect()
    };
    match number % 8 {
        0 => random(64),
        1 => random(20_000),
        2 => vec![b'['; 4000],
        3 => vec![b'\n'; 3000],
        4 => b"{\"op\":\"logs\",\"lines_max\":99999999999999999999}\n".to_vec(),
        5 => b"{\"op\":\"units\"".to_vec(),
        6 => [b"{\"op\":\"show\",\"unit\":\"".as_slice(), &random(200), b"\"}\n"].concat(),
        _ => Vec::new(),
    }
}

/// STATE is full, and then read-only.
fn state() -> Judged {
    use rustix::mount::{MountFlags, mount, mount_remount};
    let dir = paths::STATE;
    std::fs::create_dir_all(dir)?;
    mount("tmpfs", dir, "tmpfs", MountFlags::empty(), Some(c"size=256k"))?;
    let mut file = std::fs::File::create(format!("{dir}/all"))?;
    while file.write_all(&[1; 4096]).is_ok() {}
    std::thread::sleep(EVIL);
    units()?;
    drop(file);
    mount_remount(dir, MountFlags::RDONLY, "")?;
    std::thread::sleep(EVIL);
    units()?;
    Ok(String::new())
}

/// The clock of the day goes forward and back by years; what PID 1 waits for does not hang on it.
fn clock() -> Judged {
    use rustix::time::{ClockId, Timespec, clock_gettime, clock_settime};
    let now = clock_gettime(ClockId::Realtime);
    for years in [30, -20, 5, 0] {
        let tv_sec = now.tv_sec + years * 365 * 86_400;
        clock_settime(ClockId::Realtime, Timespec { tv_sec, tv_nsec: 0 })?;
        revive()?;
    }
    Ok(String::new())
}

/// Units that end at once and are started again, until there were enough restarts.
fn restarts() -> Judged {
    let wanted: u32 = std::fs::read_to_string(RESTARTS)?.trim().parse()?;
    let began = Instant::now();
    loop {
        let units = units()?;
        let sum: u32 =
            units.iter().filter(|u| u.name.starts_with("crash")).map(|u| u.restarts).sum();
        if sum >= wanted {
            return Ok(format!(", {sum} restarts"));
        }
        if began.elapsed() > 30 * PATIENCE {
            return Err(format!("only {sum} restarts").into());
        }
        std::thread::sleep(Duration::from_secs(2));
    }
}

/// As many units as a board may have: all of them come up.
fn many() -> Judged {
    let until = Instant::now() + 5 * PATIENCE;
    loop {
        let units = units()?;
        let ready = units.iter().filter(|unit| unit.phase == UnitPhase::Ready).count();
        // The judge itself is among them.
        if ready == units.len() {
            fill_the_log()?;
            return Ok(format!(", {ready} units"));
        }
        if Instant::now() > until {
            let odd = units.iter().find(|unit| unit.phase != UnitPhase::Ready);
            return Err(format!("{ready} of {} units ready, {odd:?}", units.len()).into());
        }
        std::thread::sleep(LOOK);
    }
}

/// More lines than the board's log has room for, as many as a unit may write at once.
fn fill_the_log() -> io::Result<()> {
    let mut out = io::stdout().lock();
    let line = "a line of a full log ".repeat(48);
    for _ in 0..900 {
        writeln!(out, "{line}")?;
    }
    out.flush()
}

/// Waits for the units that try to get out, and tells what each of them said of it.
pub(crate) fn tell_escapes() {
    let over = |unit: &UnitStatus| {
        matches!(unit.phase, UnitPhase::Ready | UnitPhase::Failed | UnitPhase::Off)
    };
    let until = Instant::now() + 2 * PATIENCE;
    let found = loop {
        match units() {
            Ok(units) if units.iter().all(over) || Instant::now() > until => break units,
            Ok(_) => std::thread::sleep(LOOK),
            Err(err) => return say(&format!("FAILED: {err}")),
        }
    };
    for unit in found {
        let lines = UnixStream::connect(paths::INIT_SOCKET)
            .and_then(|socket| lines_of(socket, &unit.name))
            .unwrap_or_else(|err| vec![err.to_string()]);
        let said = lines.iter().find(|line| line.starts_with("escape "));
        match said {
            Some(line) => say(line),
            None => {
                say(&format!("silent {} {:?} {} {lines:?}", unit.name, unit.phase, unit.detail))
            }
        }
    }
    say("end");
    signal_init(Signal::POWER);
    park()
}

/// The last lines that a unit wrote.
fn lines_of(mut socket: UnixStream, unit: &str) -> io::Result<Vec<String>> {
    socket.set_read_timeout(Some(Duration::from_secs(10)))?;
    let filter = LogFilter { unit: Some(unit.to_owned()), follow: false, lines_max: 5 };
    let mut request = serde_json::to_vec(&InitRequest::Logs(filter))?;
    request.push(b'\n');
    socket.write_all(&request)?;
    let mut lines = Vec::new();
    for line in BufReader::new(socket).lines() {
        match serde_json::from_str(&line?)? {
            InitReply::Line(line) => lines.push(line.text),
            _ => break,
        }
    }
    Ok(lines)
}

/// The kernel's first real-time signal, and its last (signal(7)); the C library keeps some of them to itself.
const REAL_TIME_FIRST: i32 = 32;
const SIGNAL_LAST: i32 = 64;

/// Every signal there is, but those that ask for an end.
fn storm() {
    let ends = [Signal::POWER, Signal::TERM, Signal::INT];
    for _ in 0..200 {
        // Up to the last of the real-time signals, which queue up one by one where others merge.
        (REAL_TIME_FIRST..=SIGNAL_LAST).for_each(signal_init_raw);
        for number in 1..REAL_TIME_FIRST {
            if let Some(signal) = Signal::from_named_raw(number)
                && !ends.contains(&signal)
            {
                signal_init(signal);
            }
        }
    }
    match units() {
        Ok(_) => say("storm ok"),
        Err(err) => say(&format!("storm FAILED: {err}")),
    }
}

/// Memory of PID 1: `VmRSS`, its peak, `VmHWM`, and what no file holds too, `RssAnon`, in KiB (proc(5)).
fn memory() -> Result<[u64; 3], Box<dyn std::error::Error>> {
    let status = std::fs::read_to_string("/proc/1/status")?;
    let field = |name: &str| -> Result<u64, Box<dyn std::error::Error>> {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).ok_or("no such line")?;
        Ok(line.split_whitespace().next().ok_or("no number")?.parse()?)
    };
    Ok([field("VmRSS:")?, field("VmHWM:")?, field("RssAnon:")?])
}

pub(crate) fn unit(name: &str) -> Result<UnitStatus, Box<dyn std::error::Error>> {
    let found = units()?.into_iter().find(|unit| unit.name == name);
    found.ok_or_else(|| format!("there is no unit {name}").into())
}

/// Asks PID 1, again while it is busy with others.
pub(crate) fn units() -> Result<Vec<UnitStatus>, Box<dyn std::error::Error>> {
    let until = Instant::now() + PATIENCE;
    loop {
        match UnixStream::connect(paths::INIT_SOCKET).and_then(ask) {
            Ok(units) => return Ok(units),
            Err(err) if Instant::now() > until => return Err(format!("no answer: {err}").into()),
            Err(_) => std::thread::sleep(LOOK),
        }
    }
}

fn ask(mut socket: UnixStream) -> io::Result<Vec<UnitStatus>> {
    socket.set_read_timeout(Some(Duration::from_secs(10)))?;
    let mut request = serde_json::to_vec(&InitRequest::Units)?;
    request.push(b'\n');
    socket.write_all(&request)?;
    let mut line = String::new();
    BufReader::new(socket).read_line(&mut line)?;
    match serde_json::from_str(&line)? {
        InitReply::Units { units, .. } => Ok(units),
        other => Err(io::Error::other(format!("an answer to something else: {other:?}"))),
    }
}
