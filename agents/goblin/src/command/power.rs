//! `goblin reboot` and `goblin poweroff`.

use crate::cli::Board;
use crate::control;
use crate::error::CliError;
use crate::output::Output;
use goblin_core_types::{InitReply, InitRequest};

/// Said in the board's log and on its screen.
const REASON: &str = "asked for on the command line";

/// Restarts a board.
pub fn reboot(board: Board, output: &mut Output) -> Result<(), CliError> {
    order(board, &InitRequest::Reboot { reason: REASON.into() })?;
    say(board, "restarts", output)
}

/// Switches a board off.
pub fn power_off(board: Board, output: &mut Output) -> Result<(), CliError> {
    order(board, &InitRequest::PowerOff { reason: REASON.into() })?;
    say(board, "switches itself off", output)
}

/// Switches both boards off: the storage board first, for it can only be reached through the other. When
/// it is away, this board stays on, so that the person who asked for both learns of it.
pub fn power_off_all(output: &mut Output) -> Result<(), CliError> {
    let here = control::local_board();
    if here == Board::Compute {
        power_off(Board::Storage, output)?;
    }
    power_off(here, output)
}

fn order(board: Board, request: &InitRequest) -> Result<(), CliError> {
    control::ask_init(board, request, |reply| matches!(reply, InitReply::Done).then_some(()))
}

fn say(board: Board, what: &str, output: &mut Output) -> Result<(), CliError> {
    if output.json {
        output.json_line(&serde_json::json!({"board": board.as_str(), "done": what}))?;
    } else {
        output.line(&format!("the {} board {what}", board.as_str()))?;
    }
    // The board may be gone before this process ends.
    output.flush()
}
