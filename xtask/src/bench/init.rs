//! What an init costs, in guest instructions: ours beside Debian's systemd, runit and s6, in one run on the
//! same kernel, with the same twelve services.
//!
//! QEMU counts instructions (`-icount`), so the figures are the same from run to run, under any load. Every
//! guest starts as the same small program, which mounts what an initramfs hands on, marks the start and
//! becomes the init. Ready is when the last service has said so to its init in the way that this init asks
//! for; times in which the machine had nothing to do are taken off, as its kernel counts them. Then one
//! service is killed again and again; a restart costs what the machine does more in three seconds with a
//! kill than in three without, whoever does it and whenever.
//!
//! The **floor** is the same program starting the services without supervising anything: what the kernel and
//! the services themselves cost. What a guest needs above it is its init's.

mod peers;

use super::machine::{self, mi};
use super::table::{Row, publish};
use crate::{host, kernel, setup};
use anyhow::{Context, Result, bail};
use goblin_tests::serial::Serial;
use peers::Guest;
use std::path::Path;
use std::time::Duration;

/// Longest a guest may take to its last line, on a slow host.
const LIMIT: Duration = Duration::from_secs(300);
/// How a guest's own lines begin.
const WORD: &str = "bench: ";
/// Instructions that a slow core does in a microsecond: what turns them into processor time here.
const PER_US: f64 = 1000.0;
/// Goals: ours over systemd's, ours over the smallest peer's, milliseconds of a restart.
const OF_SYSTEMD: f64 = 0.15;
const OF_SMALLEST: f64 = 0.5;
const RESTART_MS: f64 = 2.0;

/// A process of a guest that has come to rest.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Process {
    pid: u32,
    name: String,
    rss_kib: u32,
}

/// What was measured of a guest.
#[derive(Debug, Default)]
struct Found {
    /// Millions of instructions of the kernel alone, until the init began.
    kernel_mi: f64,
    /// From there to all services ready.
    ready_mi: f64,
    /// For one restart.
    restart_mi: f64,
    /// From the kill to the new process's word, pauses included.
    restart_ms: f64,
    processes: Vec<Process>,
}

impl Found {
    fn rss_kib(&self) -> f64 {
        self.processes.iter().filter(|process| process.pid == 1).map(|p| f64::from(p.rss_kib)).sum()
    }

    /// All processes that are no services, and how many they are.
    fn tree(&self) -> (f64, usize) {
        let services = ["guest", "run"];
        let own =
            self.processes.iter().filter(|p| p.pid == 1 || !services.contains(&p.name.as_str()));
        (own.clone().map(|process| f64::from(process.rss_kib)).sum(), own.count())
    }
}

/// Measures and publishes.
///
/// # Errors
/// When a guest does not come to its end.
pub fn run() -> Result<()> {
    setup::ensure(setup::Purpose::Run, false)?;
    let kernel = kernel::bzimage()?;
    let dir = host::target("bench")?;
    let (ours, others) = peers::guests(&dir)?;
    let mut measured = Vec::new();
    let found = measure(&kernel, &dir, &ours)?;
    for peer in others {
        let found = measure(&kernel, &dir, &peer)?;
        measured.push((peer, found));
    }
    publish("init", &rows(&found, &measured))?;
    goals(&found, &measured);
    Ok(())
}

fn measure(kernel: &Path, dir: &Path, guest: &Guest) -> Result<Found> {
    host::say(format!("measuring {} (a quarter of a minute)", guest.name));
    let log = dir.join(format!("init-{}.log", guest.name));
    let (mut child, serial) = machine::start_board(kernel, &guest.initramfs, peers::APPEND, &log)?;
    let found = follow(&serial);
    let _ = child.kill();
    let _ = child.wait();
    found.with_context(|| format!("the {} guest; its log is {}", guest.name, log.display()))
}

fn follow(serial: &Serial) -> Result<Found> {
    serial.wait_from(0, "bench: end", LIMIT)?;
    let lines = serial.all();
    let said: Vec<&str> = lines.iter().filter_map(|line| Some(line.split_once(WORD)?.1)).collect();
    read(&said)
}

/// Reads what the guest's program said.
fn read(said: &[&str]) -> Result<Found> {
    let (mut start, mut ready) = (None, None);
    let (mut quiet, mut killed, mut back) = (Vec::new(), Vec::new(), Vec::new());
    let mut processes = Vec::new();
    for line in said {
        let words: Vec<&str> = line.split_whitespace().collect();
        let number = |word: &str| -> Result<f64> {
            word.parse().with_context(|| format!("the guest said `{line}`"))
        };
        match words.as_slice() {
            // Busy seconds since the machine began.
            ["start", now, idle] => start = Some((number(now)? - number(idle)?) / 1e9),
            ["ready", now, idle] => ready = Some((number(now)? - number(idle)?) / 1e9),
            ["rss", pid, name, rss, _] => processes.push(Process {
                pid: pid.parse()?,
                name: (*name).into(),
                rss_kib: rss.parse()?,
            }),
            ["quiet", ns] => quiet.push(number(ns)?),
            ["killed", ns] => killed.push(number(ns)?),
            ["back", ns] => back.push(number(ns)?),
            ["failed", ..] => bail!("the guest's program failed: {line}"),
            _ => {}
        }
    }
    let (Some(start), Some(ready)) = (start, ready) else { bail!("a mark is missing") };
    if back.len() != killed.len() {
        bail!("{} kills were followed by {} restarts", killed.len(), back.len());
    }
    Ok(Found {
        kernel_mi: mi(start),
        ready_mi: mi(ready - start),
        restart_mi: mi((median(&mut killed) - median(&mut quiet)) / 1e9),
        restart_ms: median(&mut back) / 1e6,
        processes,
    })
}

/// The middle value: a timer of the kernel's that falls into one round says nothing about restarts.
fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}

fn rows(ours: &Found, peers: &[(Guest, Found)]) -> Vec<Row> {
    let mut rows = Vec::new();
    for (guest, found) in peers {
        let (tree, count) = found.tree();
        let mut row = |metric, unit, ours, theirs, note: &str| {
            rows.push(Row::new(metric, unit, ours, &guest.name, theirs, note));
        };
        let kernel =
            format!("kernel alone before: {:.1} Mi, theirs {:.1}", ours.kernel_mi, found.kernel_mi);
        row(
            "ready_mi",
            "Mi instructions",
            ours.ready_mi,
            found.ready_mi,
            &format!("{}; {kernel}", guest.note),
        );
        if guest.name == peers::FLOOR {
            continue;
        }
        row("rss_kib", "KiB", ours.rss_kib(), found.rss_kib(), "PID 1 alone");
        let processes = format!("PID 1 and its helpers, services left out: {count} processes");
        row("rss_tree_kib", "KiB", ours.tree().0, tree, &processes);
        row(
            "restart_mi",
            "Mi instructions",
            ours.restart_mi,
            found.restart_mi,
            "one service killed",
        );
        let slow = "processor time at one instruction for each nanosecond";
        row("restart_cpu_ms", "ms", cpu_ms(ours), cpu_ms(found), slow);
        let pauses = "kill to ready by the guest's clock, with the pause that each init makes";
        row("restart_ms", "ms", ours.restart_ms, found.restart_ms, pauses);
    }
    rows
}

fn cpu_ms(found: &Found) -> f64 {
    found.restart_mi * 1e6 / PER_US / 1e3
}

/// Says which goals hold; one that does not is no error of the measurement.
fn goals(ours: &Found, peers: &[(Guest, Found)]) {
    let floor = peers.iter().find(|(guest, _)| guest.name == peers::FLOOR);
    let floor_mi = floor.map_or(0.0, |(_, found)| found.ready_mi);
    let own = |mi: f64| mi - floor_mi;
    println!("above the floor of {floor_mi:.2} Mi: ours {:.2} Mi", own(ours.ready_mi));
    let mut smallest: Option<f64> = None;
    for (guest, found) in peers.iter().filter(|(guest, _)| guest.name != peers::FLOOR) {
        println!("above the floor: {} {:.2} Mi", guest.name, own(found.ready_mi));
        if guest.name.starts_with("systemd") {
            say_goal(&format!("of {}", guest.name), ours.ready_mi / found.ready_mi, OF_SYSTEMD);
        } else {
            let least = smallest.map_or(found.ready_mi, |mi| mi.min(found.ready_mi));
            smallest = Some(least);
        }
    }
    if let Some(least) = smallest {
        say_goal("of the smallest other", ours.ready_mi / least, OF_SMALLEST);
    }
    say_goal("ms of processor time for a restart", cpu_ms(ours), RESTART_MS);
}

fn say_goal(what: &str, value: f64, limit: f64) {
    let verdict = if value <= limit { "goal kept" } else { "goal MISSED" };
    println!("{verdict}: {value:.3} {what}, at most {limit}");
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAID: [&str; 10] = [
        "start 2000000000 1000000000",
        "ready 4000000000 2000000000",
        "rss 1 init 1000 10",
        "rss 7 guest 500 5",
        "rss 8 helper 300 5",
        "quiet 1000000",
        "killed 9000000",
        "back 5000000",
        "quiet 1000000",
        "end",
    ];

    #[test]
    fn what_a_guest_says_is_read() {
        let found = read(&SAID).unwrap();
        assert!((found.kernel_mi - 250.0).abs() < 1e-6);
        assert!((found.ready_mi - 250.0).abs() < 1e-6, "waiting is taken off");
        assert!((found.restart_mi - 2.0).abs() < 1e-6);
        assert!((cpu_ms(&found) - 2.0).abs() < 1e-6);
        assert!((found.rss_kib() - 1000.0).abs() < 1e-6);
        assert_eq!(found.tree().1, 2, "services are no helpers");
    }

    #[test]
    fn a_guest_that_came_half_way_is_refused() {
        assert!(read(&SAID[1..]).is_err());
        assert!(read(&["failed no such file"]).is_err());
        let without_return: Vec<_> =
            SAID.into_iter().filter(|line| !line.starts_with("back")).collect();
        assert!(read(&without_return).is_err());
    }
}
