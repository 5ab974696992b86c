//! `cargo xtask test conformance`: the 9P must-pass list of `goblin_tests::ninep`, against our server or a peer.

use crate::{compile, debian, host};
use anyhow::{Context, Result};
use goblin_tests::ninep::server::Program;
use goblin_tests::ninep::suite::{self, Report};

/// `cargo xtask test conformance`
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  cargo xtask test conformance             ours\n  cargo xtask test \
    conformance locks       the cases about locks\n  cargo xtask test conformance --peer diod how many of them \
    Debian's diod fails\n\nThe report is target/conformance/report.json, for a peer report-PEER.json. The largest \
    directory has 100,000 files; GOBLIN_TEST_ENTRIES=1000000 makes it a million."
)]
pub(super) struct Args {
    /// Only cases whose name holds this
    filter: Option<String>,
    /// Try another server; its failures are no failure of the command
    #[arg(long)]
    peer: Option<Peer>,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
pub(super) enum Peer {
    /// diod, as Debian packages it
    Diod,
}

/// The server to try: ours, unless a peer is named.
pub(super) fn program(peer: Option<Peer>) -> Result<Program> {
    Ok(match peer {
        None => Program::Ours(compile::share_server()?.0),
        Some(Peer::Diod) => Program::Diod(debian::diod()?.0),
    })
}

pub(super) fn run(args: &Args) -> Result<()> {
    let folder = host::target("conformance")?;
    let site = folder.join("site");
    std::fs::create_dir_all(&site).context("cannot make the folder of the tests")?;
    let filter = args.filter.as_deref().unwrap_or_default();
    let program = program(args.peer)?;
    let report = suite::run(&program, &site, filter)?;
    let name = match args.peer {
        None => "report.json",
        Some(Peer::Diod) => "report-diod.json",
    };
    let path = folder.join(name);
    host::write_whole(&path, &serde_json::to_vec_pretty(&report)?)?;
    println!("written to {}", path.display());
    if args.peer.is_some() {
        println!("{} fails {} of {}", report.server, report.failed, report.names.len());
        return Ok(());
    }
    verdict(&report)
}

fn verdict(report: &Report) -> Result<()> {
    let skipped = if std::env::var_os("CI").is_some() { report.skipped.len() } else { 0 };
    println!("{} passed, {} failed", report.passed, report.failed + skipped);
    if report.failed + skipped > 0 {
        // Every failure was printed; the count must be the last line.
        std::process::exit(1);
    }
    Ok(())
}
