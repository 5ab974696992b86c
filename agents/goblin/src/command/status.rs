//! `goblin status` and `goblin screen`.

use crate::cli::Board;
use crate::control;
use crate::error::CliError;
use crate::output::Output;
use crate::render;
use goblin_core_types::{BoxStatus, LinkState, LinkStatus, STATUS_SCHEMA};

/// Prints one board, or every board that can be seen from here. A board that is away is said to be away;
/// it is no failure unless it was asked for by name.
pub fn status(board: Option<Board>, output: &mut Output) -> Result<(), CliError> {
    let mut found = BoxStatus { schema: STATUS_SCHEMA, ..BoxStatus::default() };
    match board {
        Some(board) => found.boards.push(control::status(board)?),
        None => {
            let here = control::local_board();
            let local = control::status(here)?;
            if here == Board::Compute {
                match control::status(Board::Storage) {
                    Ok(status) => found.boards.push(status),
                    Err(err) => found.absent.push(absence(&local.link, err).to_string()),
                }
            }
            found.boards.insert(0, local);
        }
    }
    if output.json {
        return output.json_value(&found);
    }
    let paint = output.paint;
    render::status::lines(&found, paint).iter().try_for_each(|line| output.line(line))
}

/// Why the other board is not in the list. Where a wrong board is at the other end, that is the reason, and
/// looking at cables would not help.
fn absence(link: &LinkStatus, err: CliError) -> CliError {
    match (err, link.state, &link.problem) {
        (
            CliError::Unreachable { board, .. },
            LinkState::Conflict | LinkState::Foreign,
            Some(problem),
        ) => CliError::Unreachable { board, reason: problem.clone() },
        (err, ..) => err,
    }
}

/// Prints what the console of a board shows.
pub fn screen(board: Board, output: &mut Output) -> Result<(), CliError> {
    let lines = control::screen(board)?;
    if output.json {
        return output.json_value(&lines);
    }
    lines.iter().try_for_each(|line| output.line(&render::words::plain(line)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_board_at_the_other_end_is_the_reason_why_the_right_one_is_absent() {
        let unreachable = || CliError::Unreachable {
            board: "storage".into(),
            reason: "check its power and the cable".into(),
        };
        let mut link = LinkStatus { state: LinkState::Lost, ..LinkStatus::default() };
        link.problem = Some("it needs its own file of the pair".into());
        assert!(absence(&link, unreachable()).to_string().contains("power"));
        link.state = LinkState::Conflict;
        let told = absence(&link, unreachable()).to_string();
        assert!(told.contains("its own file") && !told.contains("power"), "{told}");
    }
}
