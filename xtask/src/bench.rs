//! `cargo xtask bench NAME`: measures, side by side with peers, into target/bench/NAME.json.

mod boot;
mod init;
pub(crate) mod machine;
mod mounts;
mod ninep;
mod table;
mod update;

use anyhow::Result;

/// Measures ours beside peers, in one run; results go to target/bench/NAME.json.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example:\n  cargo xtask bench boot\n  cargo xtask bench init\n  cargo xtask bench 9p\n  cargo xtask bench 9p --only mounts\n  cargo xtask bench update"
)]
pub struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// Guest instructions from kernel start to preinit, PID 1 and all services ready.
    Boot,
    /// PID 1 beside systemd, runit and s6: instructions to all services ready, memory, restarts.
    Init,
    /// The 9P server beside diod: processor time and time of metadata, small files, bulk data, listings; and
    /// through mounts, beside diod, NFS and Samba.
    #[command(name = "9p")]
    Ninep(ninep::NinepArgs),
    /// Fetching an update beside casync, zchunk, zsync, xdelta3, zstd and ostree: bytes, requests, CPU, memory.
    Update(update::UpdateArgs),
}

/// Runs a benchmark.
///
/// # Errors
/// When a guest does not come as far as it should.
pub fn run(args: &Args) -> Result<()> {
    match &args.what {
        What::Boot => boot::run(),
        What::Init => init::run(),
        What::Ninep(args) => ninep::run(args),
        What::Update(args) => update::run(args),
    }
}
