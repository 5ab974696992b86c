//! One file per group of commands; here is the choice, and what happens to errors.

mod client;
mod clients;
mod copies;
mod disks;
mod files;
mod history;
mod logs;
mod mount;
pub mod mount_helper;
mod mount_unit;
mod power;
mod progress;
mod release;
mod reset;
mod rights;
mod settings;
mod shares;
mod status;
mod units;

use crate::cli::{Board, Cli, Command, Quarantine, Shares, Update};
use crate::control;
use crate::error::CliError;
use crate::output::{Output, Tone};
use clap::CommandFactory;
use std::process::ExitCode;

/// Runs a command, prints its result or its error, and says how the process ends.
pub fn run(command: Command, mut output: Output) -> ExitCode {
    let result = choose(command, &mut output).and_then(|()| output.flush());
    let Err(err) = result else { return ExitCode::SUCCESS };
    if err.is_closed_pipe() {
        return ExitCode::SUCCESS;
    }
    // What was printed before the error comes first; that it cannot be printed is no news any more.
    let _ = output.flush();
    if output.json {
        let line = serde_json::json!({"error": err.kind(), "message": err.to_string()});
        eprintln!("{line}");
    } else {
        eprintln!("{}: {err}", output.paint.paint(Tone::Bad, "goblin"));
    }
    ExitCode::from(err.exit_status())
}

fn choose(command: Command, output: &mut Output) -> Result<(), CliError> {
    match command {
        Command::Status { board: None } if files::is_pc() => mount::status(output),
        Command::Status { board } => status::status(board, output),
        Command::Check(target) => release::check(here(target.board), output),
        Command::Upgrade(wanted) => release::upgrade(&wanted, output),
        Command::Rollback(change) => release::rollback(change, output),
        Command::History { board } => history::log(board, output),
        Command::Pin(pin) => settings::pin(pin, true, output),
        Command::Unpin(pin) => settings::pin(pin, false, output),
        Command::Diff { a, b, board } => release::diff(here(board), a, b, output),
        Command::Channel { name, reset } => settings::channel(name, reset, output),
        Command::Schedule(wanted) => settings::schedule(&wanted, output),
        Command::Quarantine(Quarantine::List(target)) => {
            settings::quarantine(here(target.board), output)
        }
        Command::Quarantine(Quarantine::Clear { release, board }) => {
            release::clear_quarantine(here(board), release, output)
        }
        Command::Logs(wanted) if wanted.list_boots => logs::boots(here(wanted.board), output),
        Command::Logs(wanted) => logs::logs(here(wanted.board), wanted, output),
        Command::Units(wanted) => units::run(wanted, output),
        Command::Disks(wanted) => {
            let board = here(wanted.board);
            disks::run(wanted, board, output)
        }
        Command::Reboot(target) => power::reboot(here(target.board), output),
        Command::Poweroff { all: true, .. } => power::power_off_all(output),
        Command::Poweroff { board, .. } => power::power_off(here(board), output),
        Command::FactoryReset(wanted) => reset::reset(wanted, output),
        Command::Screen(target) => status::screen(here(target.board), output),
        Command::Shares { what: Some(what), .. } => shares::run(what, output),
        Command::Shares { the_box, what: None } if files::is_pc() => {
            files::shares(the_box.as_deref(), output)
        }
        Command::Shares { .. } => shares::run(Shares::Ls, output),
        Command::Client(what) => client::run(what, output),
        Command::Share(what) => rights::share(what, output),
        Command::Group(what) => rights::group(what, output),
        Command::Clients => clients::run(output),
        Command::Discover { timeout } => files::discover(timeout, output),
        Command::Login { address, code, name } => {
            files::login(&address, &code, name.as_deref(), output)
        }
        Command::Mount(wanted) => mount::mount(&wanted, output),
        Command::Umount { dir, force } => mount::umount(&dir, force, output),
        Command::Ls { place, long } => copies::ls(&place, long, output),
        Command::Get { place, to, how } => copies::get(&place, to.as_deref(), how, output),
        Command::Put { from, place, how } => copies::put(&from, &place, how, output),
        Command::Update(Update::ClearQuarantine(target)) => {
            release::clear_quarantine(here(target.board), None, output)
        }
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "goblin", &mut script);
            output.line(String::from_utf8_lossy(&script).trim_end())
        }
        // Chosen before an output exists; agents print nothing.
        Command::Agent { .. } => Ok(()),
    }
}

fn here(board: Option<Board>) -> Board {
    board.unwrap_or_else(control::local_board)
}
