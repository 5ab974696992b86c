//! `cargo xtask bench NAME`: measures, side by side with peers, into target/bench/NAME.json.

mod boot;
mod table;

use anyhow::Result;

/// Measures ours beside peers, in one run; results go to target/bench/NAME.json.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  cargo xtask bench boot")]
pub struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// Guest instructions from kernel start to preinit, PID 1 and all services ready.
    Boot,
}

/// Runs a benchmark.
///
/// # Errors
/// When a guest does not come as far as it should.
pub fn run(args: &Args) -> Result<()> {
    match args.what {
        What::Boot => boot::run(),
    }
}
