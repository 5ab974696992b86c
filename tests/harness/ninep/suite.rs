//! Runs the must-pass list against a server, each case on a server and a directory of its own.

use crate::ninep::cases::CASES;
use crate::ninep::server::{Program, Server, Setup};
use anyhow::{Context, Result, ensure};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde::Serialize;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::time::{Duration, Instant};

/// One line of the must-pass list, or a part of one.
#[derive(Debug, Clone, Copy)]
pub struct Case {
    /// Its name: what holds.
    pub name: &'static str,
    /// How the server is started.
    pub setup: fn() -> Setup,
    /// Fails when it does not hold.
    pub run: fn(&mut Server) -> Result<()>,
}

/// What became of a case.
#[derive(Debug)]
enum Outcome {
    Passed,
    Failed(String),
    /// It cannot be tried here, for this reason.
    Skipped(String),
}

/// What the suite found; `target/conformance/report.json`.
#[derive(Debug, Default, Serialize)]
pub struct Report {
    /// Who was tested.
    pub server: String,
    /// Cases that held.
    pub passed: usize,
    /// Cases that did not.
    pub failed: usize,
    /// All that were tried, in order.
    pub names: Vec<String>,
    /// Those that did not hold, and why.
    pub failures: Vec<Failure>,
    /// Those that could not be tried.
    pub skipped: Vec<Failure>,
}

/// A case and a reason.
#[derive(Debug, Serialize)]
pub struct Failure {
    /// Its name.
    pub name: String,
    /// The reason.
    pub why: String,
}

/// Runs every case whose name holds `filter`, and prints a line for each as `cargo test` does. Directories are
/// made below `parent`.
///
/// # Errors
/// When the server program cannot be started at all.
pub fn run(program: &Program, parent: &Path, filter: &str) -> Result<Report> {
    // The crowd's own ends are descriptors of this process.
    let hard = getrlimit(Resource::Nofile).maximum;
    setrlimit(Resource::Nofile, Rlimit { current: hard, maximum: hard })?;
    drop(Server::start(program, &Setup::default(), parent)?);
    let server = if program.is_ours() { "goblinux" } else { "diod" };
    let mut report = Report { server: server.into(), ..Report::default() };
    for case in CASES.iter().filter(|case| case.name.contains(filter)) {
        let start = Instant::now();
        let outcome = one(case, program, parent);
        let took = start.elapsed();
        report.names.push(case.name.into());
        let late = if took > Duration::from_secs(1) {
            format!(" ({:.1} s)", took.as_secs_f64())
        } else {
            String::new()
        };
        match outcome {
            Outcome::Passed => {
                println!("test {} ... ok{late}", case.name);
                report.passed += 1;
            }
            Outcome::Failed(why) => {
                println!("test {} ... FAILED{late}\n    {why}", case.name);
                report.failed += 1;
                report.failures.push(Failure { name: case.name.into(), why });
            }
            Outcome::Skipped(why) => {
                println!("skipped 1: {}: {why}", case.name);
                report.skipped.push(Failure { name: case.name.into(), why });
            }
        }
    }
    Ok(report)
}

fn one(case: &Case, program: &Program, parent: &Path) -> Outcome {
    let setup = (case.setup)();
    if setup.mounts.is_some() && !rustix::process::geteuid().is_root() {
        return Outcome::Skipped("only root may mount".into());
    }
    if setup.tls && !program.is_ours() {
        return Outcome::Skipped("this server has no keys".into());
    }
    let mut server = match Server::start(program, &setup, parent) {
        Ok(server) => server,
        Err(err) if setup.mounts.is_some() => return Outcome::Skipped(format!("{err:#}")),
        Err(err) => return Outcome::Failed(format!("{err:#}")),
    };
    // A case that indexes beyond a reply has failed; the others go on.
    let result = catch_unwind(AssertUnwindSafe(|| (case.run)(&mut server)));
    let result = result.unwrap_or_else(|_| Err(anyhow::anyhow!("the case panicked")));
    let result = result.and_then(|()| {
        ensure!(server.lives(), "the server has ended");
        server.client().context("the server takes no further client").map(drop)
    });
    match result {
        Ok(()) => Outcome::Passed,
        Err(err) => {
            let last = server.log().lines().last().unwrap_or_default().to_owned();
            let died = if server.lives() { String::new() } else { format!("; it died: {last}") };
            Outcome::Failed(format!("{err:#}{died}"))
        }
    }
}

/// The whole program behind `cargo test --test ninep`: every case against `ours`. Ends the process.
pub fn main_for_cargo(ours: &str) -> ! {
    let words: Vec<String> = std::env::args().skip(1).collect();
    if words.iter().any(|word| word == "--list") {
        CASES.iter().for_each(|case| println!("{}: test", case.name));
        std::process::exit(0);
    }
    let filter = words.iter().find(|word| !word.starts_with('-')).cloned().unwrap_or_default();
    let report = match run(&Program::Ours(ours.into()), &std::env::temp_dir(), &filter) {
        Ok(report) => report,
        Err(err) => {
            eprintln!("error: {err:#}");
            std::process::exit(1);
        }
    };
    let verdict = if report.failed == 0 { "ok" } else { "FAILED" };
    println!(
        "\ntest result: {verdict}. {} passed; {} failed; 0 ignored; 0 measured; 0 filtered out",
        report.passed, report.failed
    );
    std::process::exit(i32::from(report.failed > 0));
}
