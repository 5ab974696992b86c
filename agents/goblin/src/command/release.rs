//! `goblin check`, `upgrade`, `rollback`, `diff` and `quarantine clear`: orders to a board's updater.

use crate::cli::{Board, Move, Upgrade};
use crate::control;
use crate::error::CliError;
use crate::output::{Output, Tone};
use crate::render::release::Explain;
use crate::render::{self, words};
use goblin_core_types::{UpdateCommand, UpdateReply, Version};
use std::io::{BufRead, IsTerminal, Read};
use std::ops::ControlFlow;

/// Asks a board's update source what it offers.
pub fn check(board: Board, output: &mut Output) -> Result<(), CliError> {
    order(board, &UpdateCommand::Check, output).map(|_| ())
}

/// Upgrades both boards, or one.
pub fn upgrade(wanted: &Upgrade, output: &mut Output) -> Result<(), CliError> {
    let (mut to, from) = (wanted.change.to, wanted.from.clone());
    let here = control::local_board();
    if wanted.now {
        let asked = wanted.change.board.unwrap_or(here);
        to = order(asked, &UpdateCommand::CheckNow, output)?;
        if to.is_none() {
            return Ok(());
        }
    }
    if wanted.dry_run || wanted.explain {
        let explain = if wanted.explain { Explain::Ways } else { Explain::Steps };
        let boards = match wanted.change.board {
            Some(board) => vec![board],
            None => in_sight(here),
        };
        let command = UpdateCommand::Preview { to, from };
        return boards.into_iter().try_for_each(|board| {
            if !output.json {
                let name = output.paint.paint(Tone::Strong, board.as_str());
                output.line(&name)?;
            }
            order_with(board, &command, explain, output).map(|_| ())
        });
    }
    if !wanted.yes && !agreed(wanted.change.board, output)? {
        return output.line("nothing was changed");
    }
    let Some(board) = wanted.change.board else {
        return order(here, &UpdateCommand::UpgradePair { to, from }, output).map(|_| ());
    };
    let staged = order(board, &UpdateCommand::Stage { to, from }, output)?;
    let Some(to) = staged.or(to) else {
        // Nothing newer is offered: the updater has said so.
        return Ok(());
    };
    order(board, &UpdateCommand::Activate { to }, output).map(|_| ())
}

/// The boards of the box that an order for all of them goes to.
pub(super) fn in_sight(here: Board) -> Vec<Board> {
    if here == Board::Compute { vec![Board::Compute, Board::Storage] } else { vec![here] }
}

/// Asks before clients lose their shares; only where a person sits.
fn agreed(board: Option<Board>, output: &mut Output) -> Result<bool, CliError> {
    if board == Some(Board::Compute) || output.json || !std::io::stdin().is_terminal() {
        return Ok(true);
    }
    let storage = match control::local_board() {
        Board::Compute => Board::Storage,
        here => here,
    };
    // A board that cannot be asked is refused by the upgrade itself, with better words.
    let Ok(status) = control::status(storage) else { return Ok(true) };
    let clients = status.shares.iter().fold(0u32, |sum, share| sum.saturating_add(share.clients));
    if clients == 0 {
        return Ok(true);
    }
    let who = if clients == 1 { "1 client uses".into() } else { format!("{clients} clients use") };
    output.line(&format!("{who} the shares and will lose them for some minutes. Go on? [y/N] "))?;
    output.flush()?;
    let mut answer = String::new();
    std::io::stdin().lock().take(16).read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

/// Shows how two releases differ.
pub fn diff(
    board: Board,
    a: Version,
    b: Option<Version>,
    output: &mut Output,
) -> Result<(), CliError> {
    let (a, b) = b.map_or((None, a), |b| (Some(a), b));
    order(board, &UpdateCommand::Diff { a, b }, output).map(|_| ())
}

/// Takes both boards back, or one.
pub fn rollback(change: Move, output: &mut Output) -> Result<(), CliError> {
    let (board, command) = match change.board {
        None => (control::local_board(), UpdateCommand::RollbackPair { to: change.to }),
        Some(board) => (board, UpdateCommand::Rollback { to: change.to }),
    };
    order(board, &command, output).map(|_| ())
}

/// Allows releases that failed on a board to be tried there again.
pub fn clear_quarantine(
    board: Board,
    release: Option<Version>,
    output: &mut Output,
) -> Result<(), CliError> {
    order(board, &UpdateCommand::ClearQuarantine { release }, output).map(|_| ())
}

/// Gives an order and prints what comes back until it is done. Returns the release it was about.
pub(super) fn order(
    board: Board,
    command: &UpdateCommand,
    output: &mut Output,
) -> Result<Option<Version>, CliError> {
    order_with(board, command, Explain::Steps, output)
}

/// [`order`], with a plan shown as far as `explain` says.
fn order_with(
    board: Board,
    command: &UpdateCommand,
    explain: Explain,
    output: &mut Output,
) -> Result<Option<Version>, CliError> {
    let mut version_done = None;
    let mut last_message = String::new();
    control::converse(board, control::UPDATE, command, |reply: UpdateReply| {
        if output.json {
            output.json_line(&reply)?;
        }
        let step = match reply {
            UpdateReply::Progress { message, done_bytes, total_bytes } => {
                // Byte counts change many times a second; a person wants to read each sentence once.
                if !output.json && (message != last_message || done_bytes == total_bytes) {
                    let text = progress_text(&message, done_bytes, total_bytes);
                    output.line(&text)?;
                    last_message = message;
                }
                ControlFlow::Continue(())
            }
            UpdateReply::Plan(plan) => {
                if !output.json {
                    let lines = render::release::plan(&plan, explain);
                    lines.iter().try_for_each(|line| output.line(line))?;
                }
                ControlFlow::Continue(())
            }
            UpdateReply::Diff(diff) => {
                if !output.json {
                    render::release::diff(&diff).iter().try_for_each(|line| output.line(line))?;
                }
                ControlFlow::Continue(())
            }
            UpdateReply::Done { message, version } => {
                version_done = version;
                if !output.json {
                    let text = output.paint.paint(Tone::Good, &words::plain(&message));
                    output.line(&text)?;
                }
                ControlFlow::Break(())
            }
            UpdateReply::Failed { kind, message } => {
                return Err(CliError::Refused { kind, message: words::plain(&message) });
            }
        };
        output.flush()?;
        Ok(step)
    })?;
    Ok(version_done)
}

fn progress_text(message: &str, done_bytes: u64, total_bytes: u64) -> String {
    let message = words::plain(message);
    if total_bytes == 0 {
        return message;
    }
    format!("{message} ({} of {})", words::bytes(done_bytes), words::bytes(total_bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_told_only_where_they_are_counted() {
        assert_eq!(progress_text("reading metadata", 0, 0), "reading metadata");
        assert_eq!(progress_text("fetching", 1_500, 3_000), "fetching (1.5 kB of 3.0 kB)");
    }
}
