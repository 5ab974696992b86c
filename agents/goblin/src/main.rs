//! `goblin`: every agent of a board and the command line, in one static binary.
//!
//! `goblin agent NAME` is what PID 1 starts; everything else is for people and scripts, and speaks only
//! with the board's control tree ([`goblin_core_types::paths::CONTROL_SOCKET`]). The agents' work lives
//! in their own crates; here is only the choice.
//!
//! Exit status: 0 done · 1 failed · 2 wrong usage · 3 a board is out of reach · 4 the board refused.
#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects
)]
#![cfg_attr(
    test,
    allow(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects
    )
)]

mod agent;
mod cli;
mod command;
mod control;
mod error;
mod log;
mod output;
mod render;

use clap::Parser;
use command::mount_helper::Asked;
use std::process::ExitCode;

fn main() -> ExitCode {
    goblin_sys::sandbox::report_refusals();
    let cli = match command::mount_helper::asked(std::env::args_os()) {
        None => cli::Cli::parse(),
        Some(Ok(Asked::Nothing)) => return ExitCode::SUCCESS,
        Some(Ok(Asked::Mount(words))) => cli::Cli::parse_from(words),
        Some(Err(err)) => {
            eprintln!("goblin: {err}");
            return ExitCode::from(error::USAGE_STATUS);
        }
    };
    match cli.command {
        cli::Command::Agent { name } => agent::run(name),
        command => command::run(command, output::Output::new(cli.json)),
    }
}
