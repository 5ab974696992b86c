//! `cargo xtask COMMAND`: builds, publishes, flashes, runs and checks goblinux. This file is only the
//! table of commands; each is a module.

use clap::{Parser, Subcommand};
use std::process::ExitCode;
use xtask::{
    bench, check, compile, demo, flash, fuzz, image, kernel, powercut, provision, release, run,
    setup, test,
};

/// Builds, publishes, flashes, runs and checks goblinux
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Install the Debian packages that the other commands need
    Setup(setup::SetupArgs),
    /// Build the boards' kernel, or say where it is
    Kernel(kernel::KernelArgs),
    /// Compile the boards' programs
    Build(compile::BuildArgs),
    /// Build a disk image for both boards
    Image(image::ImageArgs),
    /// Publish a release into a folder for a web server, or check such a folder
    Release(release::ReleaseArgs),
    /// Make the provisioning files of a box, with fresh keys
    Provision(provision::ProvisionArgs),
    /// Write an image and a provisioning file to a disk or a file
    Flash(flash::FlashArgs),
    /// Check format, lints, the crate graph and lengths
    Check(check::CheckArgs),
    /// Run every test there is
    Test(test::TestArgs),
    /// Throw hostile bytes at the parsers
    Fuzz(fuzz::FuzzArgs),
    /// Run the whole box under QEMU, until Ctrl-C
    Run(run::Args),
    /// Run the box's own command on its compute board
    Goblin(run::GoblinArgs),
    /// Do the main job on a folder of yours, every step checked
    Demo(demo::Args),
    /// Cut the power at every write of a board's system disk and look at what is left
    Powercut(powercut::Args),
    /// Measure beside peers
    Bench(bench::Args),
}

fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Setup(args) => setup::command(&args),
        Command::Kernel(args) => kernel::command(&args),
        Command::Build(args) => compile::command(&args),
        Command::Image(args) => image::command(&args),
        Command::Release(args) => release::command(&args),
        Command::Provision(args) => provision::command(&args),
        Command::Flash(args) => flash::command(&args),
        Command::Check(args) => check::command(&args),
        Command::Test(args) => test::command(&args),
        Command::Fuzz(args) => fuzz::command(&args),
        Command::Run(args) => run::run(&args),
        Command::Goblin(args) => run::goblin(&args),
        Command::Demo(args) => demo::run(&args),
        Command::Powercut(args) => powercut::run(&args),
        Command::Bench(args) => bench::run(&args),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(err) => {
            eprintln!("error: {err:#}");
            ExitCode::FAILURE
        }
    }
}
