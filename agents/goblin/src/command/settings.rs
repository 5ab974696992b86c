//! `goblin pin`, `unpin`, `channel`, `schedule` and `quarantine list`: what a person sets about upgrades.

use super::release::{in_sight, order};
use crate::cli::{Board, Clients, Pin, ScheduleArgs, Unasked};
use crate::control;
use crate::error::CliError;
use crate::output::Output;
use crate::render::words;
use goblin_core_types::{
    Quarantined, RebootPolicy, Schedule, ScheduleMode, UpdateCommand, UpdateSettings,
};
use serde::Serialize;

/// Pins a release, or lets it go.
pub fn pin(wanted: Pin, pin: bool, output: &mut Output) -> Result<(), CliError> {
    let release = wanted.release;
    let command =
        if pin { UpdateCommand::Pin { release } } else { UpdateCommand::Unpin { release } };
    each(wanted.board, &command, output)
}

/// Gives an order to one board, or to all in sight, and says which one speaks.
fn each(
    board: Option<Board>,
    command: &UpdateCommand,
    output: &mut Output,
) -> Result<(), CliError> {
    let boards = board.map_or_else(|| in_sight(control::local_board()), |board| vec![board]);
    for board in boards {
        if !output.json {
            output.line(&format!("{}:", board.as_str()))?;
        }
        order(board, command, output)?;
    }
    Ok(())
}

/// A board's settings, as `--json` prints them.
#[derive(Debug, Serialize)]
struct BoardSettings {
    board: &'static str,
    channel: Option<String>,
    settings: UpdateSettings,
    waiting: Option<String>,
}

fn settings(board: Board) -> Result<BoardSettings, CliError> {
    let update = control::status(board)?.update;
    Ok(BoardSettings {
        board: board.as_str(),
        channel: update.channel,
        settings: update.settings,
        waiting: update.waiting,
    })
}

/// Shows or sets the channel.
pub fn channel(name: Option<String>, reset: bool, output: &mut Output) -> Result<(), CliError> {
    if name.is_some() || reset {
        return each(None, &UpdateCommand::SetChannel { channel: name }, output);
    }
    let boards = in_sight(control::local_board());
    let known = boards.into_iter().map(settings).collect::<Result<Vec<_>, _>>()?;
    if output.json {
        return output.json_value(&known);
    }
    for board in known {
        let channel = board.channel.as_deref().map_or_else(|| "none".into(), words::plain);
        let whose = match board.settings.channel {
            Some(_) => "set by `goblin channel`",
            None => "of the provisioning file",
        };
        output.line(&format!("{}  {channel}, {whose}", board.board))?;
    }
    Ok(())
}

/// Shows or sets what is done unasked; the compute board does it for both.
pub fn schedule(wanted: &ScheduleArgs, output: &mut Output) -> Result<(), CliError> {
    let here = control::local_board();
    if let Some(mode) = wanted.mode {
        let schedule = Schedule {
            mode: match mode {
                Unasked::Off => ScheduleMode::Off,
                Unasked::Check => ScheduleMode::Check,
                Unasked::Install => ScheduleMode::Install,
            },
            window: wanted.window,
            reboot: match wanted.clients {
                Clients::Ask => RebootPolicy::Ask,
                Clients::Anyway => RebootPolicy::Anyway,
            },
        };
        return order(here, &UpdateCommand::SetSchedule { schedule }, output).map(|_| ());
    }
    let known = settings(here)?;
    if output.json {
        return output.json_value(&known);
    }
    output.line(&sentence(&known.settings.schedule))?;
    known.waiting.iter().try_for_each(|waiting| output.line(&words::plain(waiting)))
}

/// A schedule in words.
fn sentence(schedule: &Schedule) -> String {
    let window = || schedule.window.map_or_else(|| "at any time".into(), |w| format!("in {w}"));
    match schedule.mode {
        ScheduleMode::Off => "nothing is done unasked".into(),
        ScheduleMode::Check => "new releases are looked for and told of, not installed".into(),
        ScheduleMode::Install => match schedule.reboot {
            RebootPolicy::Ask => {
                format!("both boards are upgraded {}, while no client uses the shares", window())
            }
            RebootPolicy::Anyway => {
                format!("both boards are upgraded {}, whoever uses the shares", window())
            }
        },
    }
}

/// Lists releases that failed on a board.
pub fn quarantine(board: Board, output: &mut Output) -> Result<(), CliError> {
    let failed: Vec<Quarantined> = control::status(board)?.update.quarantine;
    if output.json {
        return output.json_value(&failed);
    }
    if failed.is_empty() {
        return output.line("no release failed here");
    }
    failed.iter().try_for_each(|failed| {
        output.line(&format!("{}  {}", failed.version, words::plain(&failed.reason)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schedules_are_told_in_one_sentence() {
        assert_eq!(sentence(&Schedule::default()), "nothing is done unasked");
        let nightly = Schedule {
            mode: ScheduleMode::Install,
            window: Some("02:00-05:00".parse().unwrap()),
            reboot: RebootPolicy::Ask,
        };
        assert_eq!(
            sentence(&nightly),
            "both boards are upgraded in 02:00-05:00, while no client uses the shares"
        );
    }
}
