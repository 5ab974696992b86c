//! `cargo xtask check`: what must hold for the source, beyond that it compiles.

mod crates;
mod expression;
mod lengths;

use crate::{host, units};
use anyhow::{Result, bail};
use std::process::Command;

/// `cargo xtask check`
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  cargo xtask check            everything: format, lints, crate \
    graph, lengths\n  cargo xtask check --quick    without clippy: seconds\n\nRules about other \
    people's crates are in xtask/deny.toml."
)]
pub struct CheckArgs {
    /// Leave clippy out
    #[arg(long)]
    quick: bool,
    /// Write what is generated from the source anew: the table of what units may do
    #[arg(long)]
    renew: bool,
}

/// How many checks or tests held.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// Held.
    pub passed: u64,
    /// Did not.
    pub failed: u64,
}

impl Tally {
    /// Adds another count.
    pub fn add(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
    }

    /// Counts one result and shows it; a failure is told whole.
    pub fn note(&mut self, name: &str, result: Result<()>) {
        match result {
            Ok(()) => {
                self.passed += 1;
                println!("ok      {name}");
            }
            Err(err) => {
                self.failed += 1;
                println!("FAILED  {name}\n{err:#}\n");
            }
        }
    }
}

/// Runs `cargo xtask check`.
///
/// # Errors
/// When a check fails; all are run and each says what is wrong.
pub fn command(args: &CheckArgs) -> Result<()> {
    if args.renew {
        units::check(units::Table::Write)?;
    }
    let mut tally = quick();
    if !args.quick {
        tally.add(lints());
    }
    if tally.failed > 0 {
        bail!("{} of {} checks failed", tally.failed, tally.passed + tally.failed);
    }
    Ok(())
}

/// The checks that cost seconds.
pub fn quick() -> Tally {
    let mut tally = Tally::default();
    tally.note(
        "format: cargo fmt",
        cargo(
            &["fmt", "--all", "--check", "--", "-l"],
            "run `cargo fmt --all` for the files above",
        ),
    );
    let rules = crates::Rules::load();
    match rules.and_then(|rules| Ok((rules, crates::Graph::load()?))) {
        Ok((rules, graph)) => {
            tally.note("crates: arrows point down", graph.arrows());
            tally.note("crates: licences", graph.licences(&rules));
            tally.note("crates: bans", graph.bans(&rules));
            tally.note("crates: one version each", graph.duplicates(&rules));
        }
        Err(err) => tally.note("crates: the graph", Err(err)),
    }
    tally.note("source: length of files", lengths::check());
    tally.note("units: a board can start them all", units::check(units::Table::Compare));
    tally
}

/// clippy, twice: all targets, then the pure crates for calls to clock, files and network. The second
/// only looks at their libraries, for their tests may do what they like.
pub fn lints() -> Tally {
    let mut tally = Tally::default();
    let all = ["clippy", "--locked", "--workspace", "--all-features", "--all-targets", "--"];
    let flags =
        ["-D", "warnings", "-D", "clippy::too_many_lines", "-A", "clippy::disallowed_methods"];
    tally.note("lints: cargo clippy", cargo(&[&all[..], &flags].concat(), "see the output above"));
    let pure = match crates::Graph::load() {
        Ok(graph) => graph.pure_packages(),
        Err(err) => {
            tally.note("lints: pure crates", Err(err));
            return tally;
        }
    };
    let mut args = vec!["clippy", "--locked", "--lib"];
    for name in &pure {
        args.extend(["--package", name]);
    }
    args.extend(["--", "-D", "clippy::disallowed_methods", "-D", "clippy::disallowed_types"]);
    tally.note("lints: pure crates touch no clock, file or network", cargo(&args, "see above"));
    tally
}

/// Runs cargo with its output shown.
fn cargo(args: &[&str], remedy: &str) -> Result<()> {
    let program = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let status = Command::new(program).args(args).current_dir(host::root()).status()?;
    if !status.success() {
        bail!("`cargo {}` failed: {remedy}", args.join(" "));
    }
    Ok(())
}
