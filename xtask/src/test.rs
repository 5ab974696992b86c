//! `cargo xtask test`: installs what is missing, then every test there is. The last line counts them.

mod conformance;
pub mod properties;
mod reproducible;
mod units;
mod v9fs;

use crate::check::{self, Tally};
use crate::{host, python, setup};
use anyhow::{Context, Result, bail};
use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};

/// `cargo xtask test`
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  cargo xtask test          everything, as CI does\n  \
    cargo xtask test --lints  with clippy\n  cargo xtask test --fast   without virtual \
    machines\n\nThe whole output of the tests is in target/test. Exit status 1 when anything failed; the last line is `N passed, N failed`. \
    On a CI machine (the variable CI) a skipped test counts as failed.")]
#[command(args_conflicts_with_subcommands = true)]
pub struct TestArgs {
    /// One part alone
    #[command(subcommand)]
    part: Option<Part>,
    /// Install missing host packages without asking
    #[arg(long)]
    yes: bool,
    /// Run clippy too
    #[arg(long)]
    lints: bool,
    /// Leave out the tests that boot whole boards under QEMU
    #[arg(long)]
    fast: bool,
}

/// Parts of the tests that write a report of their own.
#[derive(Debug, clap::Subcommand)]
enum Part {
    /// What a 9P server must do, each line against the share server; report in target/conformance
    Conformance(conformance::Args),
    /// Programs at work through the kernel's 9P client, on Debian's stock kernels; report in target/v9fs
    V9fs(v9fs::Args),
    /// Units of `goblin mount --print-unit` under a real systemd
    Units(units::Args),
}

/// One run of `cargo test`.
struct Suite {
    /// What a person reads, and the stem of its log in target/test.
    name: &'static str,
    arguments: &'static [&'static str],
}

/// Unit and property tests, and everything that needs no virtual machine.
const FAST: Suite =
    Suite { name: "unit", arguments: &["--workspace", "--no-fail-fast", "--", "--show-output"] };

/// Scenarios with real firmware, kernel and disks; one after the other, for each fills both cores.
const WHOLE_BOARDS: Suite = Suite {
    name: "boards",
    // The whole workspace, as above: one package alone would have its dependencies compiled anew, with
    // only the features that it asks for.
    arguments: &[
        "--workspace",
        "--features",
        "goblin-tests/e2e",
        "--test",
        "e2e",
        "--no-fail-fast",
        "--",
        "--test-threads=1",
        "--nocapture",
    ],
};

/// Runs `cargo xtask test`.
///
/// # Errors
/// When anything fails; the count is printed in any case.
pub fn command(args: &TestArgs) -> Result<()> {
    match &args.part {
        Some(Part::Conformance(args)) => return conformance::run(args),
        Some(Part::V9fs(args)) => return v9fs::run(args),
        Some(Part::Units(args)) => return units::run(args),
        None => {}
    }
    setup::ensure(setup::Purpose::Test, args.yes)?;
    python::ensure_there()?;
    let mut tally = check::quick();
    if args.lints {
        tally.add(check::lints());
    }
    reproducible::note(&mut tally, !args.fast);
    let mut suites: Vec<Suite> = vec![FAST];
    if !args.fast {
        suites.push(WHOLE_BOARDS);
    }
    for suite in suites {
        match cargo_tests(&suite) {
            Ok(found) => tally.add(found),
            Err(err) => tally.note(suite.name, Err(err)),
        }
    }
    println!("{} passed, {} failed", tally.passed, tally.failed);
    std::io::stdout().flush().context("cannot write the result")?;
    if tally.failed > 0 {
        // Not an error to explain: everything was said, and the count must be the last line.
        std::process::exit(1);
    }
    Ok(())
}

/// What a run of `cargo test` said.
#[derive(Debug, Default)]
struct Outcome {
    tally: Tally,
    skipped: Vec<String>,
    ignored: u64,
    complaints: Complaints,
}

/// What failed tests said of themselves, to be said again at the end: a log of many boots is long, and who
/// reads only its last lines must find the reason there.
#[derive(Debug, Default)]
struct Complaints {
    lines: Vec<String>,
    /// Where something panicked already: a property that fails is tried over and over for a smaller input.
    places: BTreeSet<String>,
    inside: bool,
    of_success: bool,
}

/// A complaint's first line without the thread's number.
fn place(line: &str) -> &str {
    line.split_once(" panicked at ").map_or(line, |(_, place)| place)
}

impl Complaints {
    /// Lines kept of one complaint: the last words of both boards are among them.
    const MOST_LINES: usize = 80;

    fn read(&mut self, line: &str) {
        match line {
            "successes:" => self.of_success = true,
            "failures:" => self.of_success = false,
            _ => self.of_success &= !line.starts_with("test result: "),
        }
        if self.of_success {
            self.inside = false;
        } else if line.starts_with("Error: ") || line.contains(" panicked at ") {
            self.inside = self.places.insert(place(line).to_owned());
            if self.inside {
                self.lines.push(String::new());
            }
        } else if ["Stack backtrace:", "test ", "==> "].iter().any(|end| line.starts_with(end)) {
            self.inside = false;
        }
        if let Some(complaint) = self.lines.last_mut().filter(|_| self.inside)
            && complaint.lines().count() < Self::MOST_LINES
        {
            complaint.push_str(line);
            complaint.push('\n');
        }
    }
}

impl Outcome {
    /// Reads one line; true when a person should see it at once.
    fn read(&mut self, line: &str) -> bool {
        self.complaints.read(line);
        if let Some(counts) = line.strip_prefix("test result: ") {
            let mut words = counts.split_whitespace().peekable();
            while let Some(word) = words.next() {
                let (Ok(count), Some(kind)) = (word.parse::<u64>(), words.peek()) else { continue };
                match kind.trim_end_matches(';') {
                    "passed" => self.tally.passed += count,
                    "failed" => self.tally.failed += count,
                    "ignored" => self.ignored += count,
                    _ => {}
                }
            }
            return counts.starts_with("FAILED");
        }
        // Tests say so when a program they compare with is absent: `skipped 1: the reason`.
        if line.starts_with("skipped ") {
            self.skipped.push(line.to_owned());
            return true;
        }
        (line.starts_with("test ") && line.ends_with("FAILED"))
            || line.starts_with('[')
            || line.starts_with("    ok after")
            || line.starts_with("    FAILED after")
            || line.contains("panicked at")
            || line.starts_with("error")
    }
}

/// `cargo test` of this checkout, with what tests are told by variables.
fn cargo_test() -> Result<Command> {
    // The UKI writer is tested on the very stub that releases carry.
    let stub = crate::debian::boot_parts()?.stub;
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.env("GOBLIN_TEST_STUB", stub).args(["test", "--locked"]);
    command.current_dir(host::root()).stdin(Stdio::null());
    Ok(command)
}

fn cargo_tests(suite: &Suite) -> Result<Tally> {
    let log_path = host::target("test")?.join(format!("{}.log", suite.name));
    let mut log = std::fs::File::create(&log_path)
        .with_context(|| format!("cannot write {}", log_path.display()))?;
    host::say(format!("tests: {} (log: {})", suite.name, log_path.display()));
    let mut command = cargo_test()?;
    if std::env::var_os(properties::SEED_VARIABLE).is_none() {
        command.env(properties::SEED_VARIABLE, properties::SEED);
    }
    let mut child = command
        // The frames of an error's making say less than its chain of reasons, and bury it.
        .env("RUST_LIB_BACKTRACE", "0")
        .args(suite.arguments)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("cannot start cargo")?;
    let mut outcome = Outcome::default();
    let mut errors = Complaints::default();
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let mut log_of_errors = log.try_clone().context("cannot write the log")?;
    std::thread::scope(|scope| {
        let aside = scope.spawn(|| {
            each_line(stderr, |line| {
                eprintln!("{line}");
                errors.read(line);
                writeln!(log_of_errors, "{line}")
            })
        });
        let read = each_line(stdout, |line| {
            if outcome.read(line) {
                println!("{line}");
            }
            writeln!(log, "{line}")
        });
        read.and(aside.join().unwrap_or(Ok(())))
    })
    .with_context(|| format!("cannot write {}", log_path.display()))?;
    let status = child.wait().context("waiting for cargo")?;
    let mut tally = outcome.tally;
    if !outcome.skipped.is_empty() && std::env::var_os("CI").is_some() {
        tally.failed += outcome.skipped.len() as u64;
    }
    if outcome.ignored > 0 {
        println!("{} tests are only run by name (ignored)", outcome.ignored);
    }
    if !status.success() && tally.failed == 0 {
        bail!(
            "cargo test did not get to its end; its output is above and in {}",
            log_path.display()
        );
    }
    if tally.failed > 0 {
        // What a test that passes says beside its captured output is no complaint.
        let aside = suite.arguments.contains(&"--nocapture").then_some(errors.lines);
        for complaint in aside.iter().flatten().chain(&outcome.complaints.lines) {
            println!("{}", complaint.trim_end());
        }
        println!("the whole output is in {}", log_path.display());
    }
    Ok(tally)
}

/// Hands over each line of a program's output as it comes.
fn each_line(
    from: Option<impl std::io::Read>,
    mut take: impl FnMut(&str) -> std::io::Result<()>,
) -> std::io::Result<()> {
    let Some(from) = from else { return Ok(()) };
    for line in BufReader::new(from).split(b'\n').map_while(Result::ok) {
        take(&String::from_utf8_lossy(&line))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_read_from_cargo() {
        let mut outcome = Outcome::default();
        let line = "test result: ok. 12 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; \
                    finished in 0.02s";
        assert!(!outcome.read(line));
        assert!(outcome.read("test result: FAILED. 3 passed; 2 failed; 0 ignored; 0 measured"));
        assert!(outcome.read("test a::b ... FAILED"));
        assert!(!outcome.read("test a::c ... ok"));
        assert!(outcome.read("skipped 1: the program cpio is not installed"));
        assert_eq!(outcome.tally, Tally { passed: 15, failed: 2 });
        assert_eq!((outcome.ignored, outcome.skipped.len()), (1, 1));
    }

    #[test]
    fn a_failed_test_s_own_words_are_kept() {
        let mut complaints = Complaints::default();
        for line in [
            "Booting",
            "Error: the client's reading never came back",
            "",
            "Caused by:",
            "    0: no answer",
            "==> compiling",
            "Stack backtrace:",
            "   0: somewhere",
            "thread 'a::b' (7) panicked at tests/x.rs:1:2:",
            "uki_bytes is 9",
            "stack backtrace:",
            "thread 'a::b' (7) panicked at tests/x.rs:1:2:",
            "uki_bytes is 8",
            "test a::c ... ok",
            "successes:",
            "thread 'a::c' (8) panicked at tests/x.rs:9:9:",
            "test result: ok. 2 passed",
        ] {
            complaints.read(line);
        }
        assert_eq!(
            complaints.lines,
            [
                "Error: the client's reading never came back\n\nCaused by:\n    0: no answer\n",
                "thread 'a::b' (7) panicked at tests/x.rs:1:2:\nuki_bytes is 9\nstack backtrace:\n"
            ]
        );
    }
}
