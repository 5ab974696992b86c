//! `goblin history`.

use crate::cli::Board;
use crate::control;
use crate::error::CliError;
use crate::output::{Output, Tone};
use crate::render;
use goblin_core_types::{Attempt, Quarantined, Role, UpdateReport};
use serde::Serialize;

/// The history of one board, as `goblin history --json` prints it.
#[derive(Debug, Serialize)]
struct BoardHistory {
    role: Option<Role>,
    host: String,
    reports: Vec<UpdateReport>,
    attempts: Vec<Attempt>,
    quarantine: Vec<Quarantined>,
}

/// Prints past upgrades and boots of one board, or of every board that can be seen from here.
pub fn log(board: Option<Board>, output: &mut Output) -> Result<(), CliError> {
    let here = control::local_board();
    let boards = match board {
        Some(board) => vec![board],
        None if here == Board::Compute => vec![Board::Compute, Board::Storage],
        None => vec![here],
    };
    let mut histories = Vec::new();
    for (index, name) in boards.into_iter().enumerate() {
        match control::status(name) {
            Ok(status) if output.json => histories.push(BoardHistory {
                role: status.role,
                host: status.host,
                reports: status.boot.reports,
                attempts: status.boot.attempts,
                quarantine: status.update.quarantine,
            }),
            Ok(status) => {
                for line in render::history::lines(&status, output.paint) {
                    output.line(&line)?;
                }
            }
            // The other board may be away; this one may not.
            Err(err) if index > 0 && !output.json => {
                let text = output.paint.paint(Tone::Warn, &err.to_string());
                output.line(&text)?;
            }
            Err(_) if index > 0 => {}
            Err(err) => return Err(err),
        }
    }
    if output.json { output.json_value(&histories) } else { Ok(()) }
}
