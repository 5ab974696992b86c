//! `goblin factory-reset`.

use super::release::{in_sight, order};
use crate::cli::{Board, FactoryReset};
use crate::control;
use crate::error::CliError;
use crate::output::{Output, Tone};
use goblin_core_types::{ResetLevel, UpdateCommand};
use serde::Serialize;
use std::io::{BufRead, IsTerminal, Read};

/// Written down with the order, and shown by `goblin history`.
const WHY: &str = "asked for on the command line";

/// What a reset would do, as `--json` prints it.
#[derive(Debug, Serialize)]
struct Plan {
    boards: Vec<&'static str>,
    level: ResetLevel,
    goes: &'static [&'static str],
    stays: &'static [&'static str],
    dry_run: bool,
}

/// Says what goes and what stays, asks, and orders it: the storage board first, for it can only be reached
/// through the other.
pub fn reset(wanted: FactoryReset, output: &mut Output) -> Result<(), CliError> {
    let level = wanted.level;
    let mut boards =
        wanted.board.map_or_else(|| in_sight(control::local_board()), |board| vec![board]);
    boards.sort_by_key(|board| *board != Board::Storage);
    if wanted.dry_run || !output.json {
        say(&boards, level, wanted.dry_run, output)?;
    }
    if wanted.dry_run {
        return Ok(());
    }
    if !wanted.yes && !agreed(&boards, level, output)? {
        return output.line("nothing was changed");
    }
    let why = WHY.to_owned();
    let (board, command) = match wanted.board {
        // Led by the compute board, so that half a box is not reset for want of the other half.
        None if control::local_board() == Board::Compute => {
            (Board::Compute, UpdateCommand::FactoryResetPair { level, why })
        }
        None => (control::local_board(), UpdateCommand::FactoryReset { level, why }),
        Some(board) => (board, UpdateCommand::FactoryReset { level, why }),
    };
    order(board, &command, output).map(|_| ())
}

fn say(
    boards: &[Board],
    level: ResetLevel,
    dry_run: bool,
    output: &mut Output,
) -> Result<(), CliError> {
    let names: Vec<&'static str> = boards.iter().map(|board| board.as_str()).collect();
    if output.json {
        let (goes, stays) = (level.goes(), level.stays());
        return output.json_value(&Plan { boards: names, level, goes, stays, dry_run });
    }
    let title = format!("factory reset ({level}) of {}", names.join(" and "));
    let title = output.paint.paint(Tone::Strong, &title);
    output.line(&title)?;
    for (word, tone, phrases) in
        [("goes", Tone::Bad, level.goes()), ("stays", Tone::Good, level.stays())]
    {
        let word = output.paint.paint(tone, word);
        output.line(&format!("  {word}"))?;
        phrases.iter().try_for_each(|phrase| output.line(&format!("    {phrase}")))?;
    }
    Ok(())
}

/// Asks, where a person sits; a script has to say `--yes`.
fn agreed(boards: &[Board], level: ResetLevel, output: &mut Output) -> Result<bool, CliError> {
    if output.json || !std::io::stdin().is_terminal() {
        let message = "a factory reset asks before it begins; say --yes to answer".into();
        return Err(CliError::Refused { kind: "refused".into(), message });
    }
    let what = if boards.len() > 1 { "Both boards restart" } else { "The board restarts" };
    output.line(&format!("{what}. Type {level} to go on: "))?;
    output.flush()?;
    let mut answer = String::new();
    std::io::stdin().lock().take(32).read_line(&mut answer)?;
    Ok(answer.trim() == level.as_str())
}
