//! `goblin check`, `upgrade`, `rollback` and `update`: orders to a board's updater.

use crate::cli::{Board, Move};
use crate::control;
use crate::error::CliError;
use crate::output::{Output, Tone};
use crate::render::words;
use goblin_core_types::{UpdateCommand, UpdateReply, Version};
use std::ops::ControlFlow;

/// Asks a board's update source what it offers.
pub fn check(board: Board, output: &mut Output) -> Result<(), CliError> {
    order(board, &UpdateCommand::Check, output).map(|_| ())
}

/// Upgrades both boards, or one.
pub fn upgrade(change: Move, output: &mut Output) -> Result<(), CliError> {
    let Some(board) = change.board else {
        let command = UpdateCommand::UpgradePair { to: change.to };
        return order(control::local_board(), &command, output).map(|_| ());
    };
    let staged = order(board, &UpdateCommand::Stage { to: change.to }, output)?;
    let Some(to) = staged.or(change.to) else {
        // Nothing newer is offered: the updater has said so.
        return Ok(());
    };
    order(board, &UpdateCommand::Activate { to }, output).map(|_| ())
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
pub fn clear_quarantine(board: Board, output: &mut Output) -> Result<(), CliError> {
    order(board, &UpdateCommand::ClearQuarantine, output).map(|_| ())
}

/// Gives an order and prints what comes back until it is done. Returns the release it was about.
fn order(
    board: Board,
    command: &UpdateCommand,
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
