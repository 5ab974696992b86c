//! Units of every kind doing what they are for, and the judge that looks whether they did. Each thing that is
//! looked at is told as `survive: NAME ok ..` or `survive: NAME FAILED: why`.

use crate::judge::{unit, units};
use crate::look::{self, LOOK, PATIENCE, ready, wait_for};
use goblin_core_types::{InitRequest, UnitPhase, UnitStatus, paths};
use rustix::event::{PollFd, PollFlags};
use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, Signal};
use std::io::{self, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::time::{Duration, Instant};

/// Has one byte for each run of the task with a schedule.
const COUNT: &str = "/run/count";
/// Where PID 1 listens for the service `answer`.
const DOOR: &str = "/run/door.sock";
/// Where the service that is asked with 9P listens.
const NINEP: &str = "/run/ninep.sock";
/// Where the mount unit mounts.
const MOUNTED: &str = "/run/in-memory";
/// The group of a unit of which a person set something, and what was set.
const TUNED_GROUP: &str = "/sys/fs/cgroup/units/tuned";
const TUNED_FILE: &str = "/state/config/units/tuned.toml";
/// Connections while the service behind the door is killed.
const CONNECTIONS: u32 = 60;
/// Of them, so many come between two kills.
const BETWEEN_KILLS: u32 = 12;
/// Runs of the task with a schedule that are waited for.
const SCHEDULED: u64 = 4;
/// Least time that they take.
const SCHEDULED_MIN: Duration = Duration::from_secs(2);

type Judged = Result<String, Box<dyn std::error::Error>>;

const LOOKS: [crate::judge::Phase; 12] = [
    ("mount", mount),
    ("device", device),
    ("socket", socket),
    ("schedule", schedule),
    ("probe", probe),
    ("last-will", last_will),
    ("stages", stages),
    ("milestone", milestone),
    ("watchdog", watchdog),
    ("needs", needs),
    ("settings", settings),
    ("torn-settings", torn_settings),
];

/// What a unit of this guest does.
pub(crate) fn act(words: &[&str]) {
    let done = match words {
        ["answer"] => answer(),
        ["count"] => count(),
        ["ninep"] => ninep(),
        ["exit", code] => std::process::exit(code.parse().unwrap_or(1)),
        other => Err(io::Error::other(format!("no such deed: {other:?}"))),
    };
    if let Err(err) = done {
        eprintln!("{err}");
        std::process::exit(1)
    }
}

/// Looks at everything, then ends the board.
pub(crate) fn judge() {
    look::all(&LOOKS)
}

/// Answers one byte to each connection of the socket that PID 1 opened.
fn answer() -> io::Result<()> {
    let own = rustix::process::pidfd_open(rustix::process::getpid(), PidfdFlags::empty())?;
    let socket = rustix::process::pidfd_getfd(&own, 3, PidfdGetfdFlags::empty())?;
    let door = UnixListener::from(socket);
    goblin_sys::notify::ready();
    loop {
        let (mut visitor, _) = door.accept()?;
        visitor.write_all(b"!")?;
    }
}

fn count() -> io::Result<()> {
    std::fs::OpenOptions::new().append(true).create(true).open(COUNT)?.write_all(b".")
}

/// Listens a second after its start, and answers as a 9P server would from the third question on.
fn ninep() -> io::Result<()> {
    std::thread::sleep(Duration::from_secs(1));
    let listener = UnixListener::bind(NINEP)?;
    for number in 0u32.. {
        let (mut peer, _) = listener.accept()?;
        let mut asked = [0; 64];
        let taken = peer.read(&mut asked)?;
        let version: &[u8] = b"\x15\0\0\0\x65\xff\xff\0\x20\0\0\x08\x009P2000.L";
        if taken > 0 && number >= 2 {
            peer.write_all(version)?;
        }
    }
    Ok(())
}

fn order(request: &InitRequest) -> io::Result<()> {
    let mut socket = UnixStream::connect(paths::INIT_SOCKET)?;
    let mut line = serde_json::to_vec(request)?;
    line.push(b'\n');
    socket.write_all(&line)?;
    socket.read(&mut [0; 512]).map(drop)
}

fn is_mounted() -> io::Result<bool> {
    let table = std::fs::read_to_string("/proc/self/mounts")?;
    Ok(table.lines().any(|line| line.contains(&format!(" {MOUNTED} tmpfs ro,nosuid"))))
}

/// A file system comes, with its options, and goes.
fn mount() -> Judged {
    wait_for("in-memory", "not mounted", ready)?;
    if !is_mounted()? {
        return Err("it is ready, but the kernel's table does not have it".into());
    }
    order(&InitRequest::Stop { unit: "in-memory".into() })?;
    wait_for("in-memory", "not taken away", |unit| unit.phase == UnitPhase::Off)?;
    if is_mounted()? { Err("it is off, but still mounted".into()) } else { Ok(String::new()) }
}

/// One that is there, and one that is not, for which another waits.
fn device() -> Judged {
    wait_for("null", "the kernel's own device is not seen", ready)?;
    let haunted = unit("haunted")?;
    if haunted.phase == UnitPhase::Waiting && haunted.detail.contains("ghost") {
        Ok(haunted.detail)
    } else {
        Err(format!("{haunted:?} does not wait for its device").into())
    }
}

/// Kills a process and waits until it is gone. One that was killed may still take a visitor on its way out, and
/// that visitor is lost with it.
fn end(pid: u32) -> Result<(), Box<dyn std::error::Error>> {
    let pid = Pid::from_raw(pid.cast_signed()).ok_or("no number")?;
    let process = rustix::process::pidfd_open(pid, PidfdFlags::empty())?;
    rustix::process::pidfd_send_signal(&process, Signal::KILL)?;
    let patience = rustix::time::Timespec::try_from(PATIENCE)?;
    let mut gone = [PollFd::new(&process, PollFlags::IN)];
    if rustix::event::poll(&mut gone, Some(&patience))? == 0 {
        return Err("a killed process is still there".into());
    }
    Ok(())
}

/// No connection is lost while the service behind a socket is dead, again and again.
fn socket() -> Judged {
    let mut deaths = 0u32;
    for number in 0..CONNECTIONS {
        if number % BETWEEN_KILLS == 0 {
            let now = wait_for("answer", "does not run", |unit| unit.pid.is_some())?;
            end(now.pid.ok_or("no number")?)?;
            deaths += 1;
        }
        let mut visitor = UnixStream::connect(DOOR)?;
        visitor.set_read_timeout(Some(PATIENCE))?;
        let mut got = [0; 1];
        if let Err(err) = visitor.read_exact(&mut got) {
            return Err(format!("connection {number} was lost: {err}").into());
        }
    }
    let restarts = wait_for("answer", "did not come back", ready)?.restarts;
    if restarts < deaths {
        return Err(format!("{deaths} deaths, but {restarts} restarts").into());
    }
    Ok(format!("{CONNECTIONS} connections over {restarts} restarts"))
}

/// A task that is due every second, first two seconds after the start. A slow board may be late, none is early.
fn schedule() -> Judged {
    let runs = || std::fs::metadata(COUNT).map_or(0, |found| found.len());
    let (before, began) = (runs(), Instant::now());
    let more = loop {
        let more = runs() - before;
        if more >= SCHEDULED {
            break more;
        }
        if began.elapsed() > PATIENCE {
            return Err(format!("{more} runs in {PATIENCE:?}").into());
        }
        std::thread::sleep(LOOK);
    };
    let took = began.elapsed();
    // The first of them may come at once, and each may reach its line late.
    if took < SCHEDULED_MIN {
        return Err(format!("{more} runs in {took:?}").into());
    }
    let first_ms = unit("clockwork")?.ready_ms.ok_or("it never ran")?;
    if first_ms < 2000 {
        return Err(format!("the first run came after {first_ms} ms").into());
    }
    Ok(format!("{more} runs in {took:?}"))
}

/// Ready is when it answers, not when it runs or accepts.
fn probe() -> Judged {
    let ready_ms = wait_for("ninep", "never ready", ready)?.ready_ms.ok_or("no time")?;
    if ready_ms < 1000 {
        Err(format!("ready after {ready_ms} ms").into())
    } else {
        Ok(format!("after {ready_ms} ms"))
    }
}

/// An exit status that means "not again".
fn last_will() -> Judged {
    let over = |unit: &UnitStatus| matches!(unit.phase, UnitPhase::Failed | UnitPhase::Off);
    let left = wait_for("leaver", "still tried", over)?;
    if left.restarts == 0 { Ok(left.detail) } else { Err(format!("{left:?}").into()) }
}

/// What cannot start says at which step, and does not keep the others from starting.
fn stages() -> Judged {
    for (name, words) in [
        ("absent", "exec: No such file"),
        ("garbled", "garbled.toml: line 2"),
        ("unlisted", "sandbox: /usr/lib/goblin/seccomp/unlisted.bpf"),
        ("circle-a", "circle-b"),
    ] {
        let found = unit(name)?;
        if !found.detail.contains(words) {
            return Err(format!("{name} says `{}`, not `{words}`", found.detail).into());
        }
    }
    Ok(String::new())
}

fn milestone() -> Judged {
    wait_for("reached", "not reached", ready).map(|_| String::new())
}

/// A service that is silent for longer than it may be is killed and started again.
fn watchdog() -> Judged {
    let again = wait_for("deaf", "never killed", |unit| unit.restarts > 0)?;
    Ok(format!("{} restarts", again.restarts))
}

/// What a person set counts: limits from the next start on, and no longer once it is taken back.
fn settings() -> Judged {
    let tuned = wait_for("tuned", "not ready", ready)?;
    let limit = || std::fs::read_to_string(format!("{TUNED_GROUP}/memory.max"));
    let nice = rustix::process::getpriority_process(
        tuned.pid.and_then(|pid| Pid::from_raw(pid.cast_signed())),
    )?;
    if nice != 5 || limit()?.trim() != "67108864" {
        return Err(format!("nice {nice}, memory.max {}", limit()?).into());
    }
    let unit = || "tuned".to_owned();
    order(&InitRequest::Set { unit: unit(), key: "memory_max_mib".into(), value: None })?;
    let until = Instant::now() + PATIENCE;
    while std::fs::read_to_string(TUNED_FILE)?.contains("memory") {
        if Instant::now() > until {
            return Err("the file still has the key".into());
        }
        std::thread::sleep(LOOK);
    }
    order(&InitRequest::Restart { unit: unit() })?;
    wait_for("tuned", "did not start anew", |unit| ready(unit) && unit.pid != tuned.pid)?;
    let limit = limit()?;
    if limit.trim() == "max" { Ok(String::new()) } else { Err(format!("still {limit}").into()) }
}

/// Settings that are torn, or of nobody, keep no unit from running as it was shipped, and are told.
fn torn_settings() -> Judged {
    let torn = wait_for("leaf", "not ready", ready)?;
    if torn.note.contains("leaf.toml") {
        Ok(torn.note)
    } else {
        Err(format!("the unit says `{}`", torn.note).into())
    }
}

/// What requires a unit goes down with it and comes back with it.
fn needs() -> Judged {
    let before = wait_for("leaf", "not ready", ready)?.pid;
    order(&InitRequest::Restart { unit: "root".into() })?;
    wait_for("leaf", "did not start anew", |unit| ready(unit) && unit.pid != before)?;
    let sum = units()?.len();
    Ok(format!("of {sum} units"))
}
