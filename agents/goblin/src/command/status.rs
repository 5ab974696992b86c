//! `goblin status` and `goblin screen`.

use crate::cli::Board;
use crate::control;
use crate::error::CliError;
use crate::output::Output;
use crate::render;
use goblin_core_types::{BoxStatus, STATUS_SCHEMA};

/// Prints one board, or every board that can be seen from here. A board that is away is said to be away;
/// it is no failure unless it was asked for by name.
pub fn status(board: Option<Board>, output: &mut Output) -> Result<(), CliError> {
    let mut found = BoxStatus { schema: STATUS_SCHEMA, ..BoxStatus::default() };
    match board {
        Some(board) => found.boards.push(control::status(board)?),
        None => {
            let here = control::local_board();
            found.boards.push(control::status(here)?);
            if here == Board::Compute {
                match control::status(Board::Storage) {
                    Ok(status) => found.boards.push(status),
                    Err(err) => found.absent.push(err.to_string()),
                }
            }
        }
    }
    if output.json {
        return output.json_value(&found);
    }
    let paint = output.paint;
    render::status::lines(&found, paint).iter().try_for_each(|line| output.line(line))
}

/// Prints what the console of a board shows.
pub fn screen(board: Board, output: &mut Output) -> Result<(), CliError> {
    let lines = control::screen(board)?;
    if output.json {
        return output.json_value(&lines);
    }
    lines.iter().try_for_each(|line| output.line(&render::words::plain(line)))
}
