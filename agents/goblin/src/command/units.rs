//! `goblin units`: what PID 1 of a board looks after.

use crate::cli::{Board, Units, UnitsCommand};
use crate::control;
use crate::error::CliError;
use crate::output::Output;
use crate::render::{boot_svg, units as render};
use goblin_core_types::{InitReply, InitRequest, UnitDetail, UnitPhase};
use std::ops::ControlFlow;
use std::path::Path;
use std::time::{Duration, Instant};

/// Longest wait for a unit to do what was ordered; then it is said where it stands.
const PATIENCE: Duration = Duration::from_secs(30);
/// Longest wait for settings to be on the disk.
const SETTINGS_PATIENCE: Duration = Duration::from_secs(8);
/// Pause between two looks.
const PAUSE: Duration = Duration::from_millis(50);

/// Runs `goblin units`.
pub fn run(units: Units, output: &mut Output) -> Result<(), CliError> {
    let board = units.board.unwrap_or_else(control::local_board);
    match units.what.unwrap_or(UnitsCommand::List) {
        UnitsCommand::List => list(board, output),
        UnitsCommand::Show { unit } => show(board, &unit, output),
        UnitsCommand::Start { unit } => {
            order(board, &unit, &InitRequest::Start { unit: unit.clone() }, output)
        }
        UnitsCommand::Stop { unit } => {
            order(board, &unit, &InitRequest::Stop { unit: unit.clone() }, output)
        }
        UnitsCommand::Restart { unit } => {
            order(board, &unit, &InitRequest::Restart { unit: unit.clone() }, output)
        }
        UnitsCommand::Set { unit, key, value } => set(board, (unit, key, Some(value)), output),
        UnitsCommand::Unset { unit, key } => set(board, (unit, key, None), output),
        UnitsCommand::Tree { svg } => tree(board, svg.as_deref(), output),
        UnitsCommand::Blame => blame(board, output),
    }
}

fn list(board: Board, output: &mut Output) -> Result<(), CliError> {
    let units = control::ask_init(board, &InitRequest::Units, |reply| match reply {
        InitReply::Units { units, .. } => Some(units),
        _ => None,
    })?;
    if output.json {
        return output.json_value(&units);
    }
    print(render::list(&units, output.paint), output)
}

fn show(board: Board, unit: &str, output: &mut Output) -> Result<(), CliError> {
    let unit = look(board, unit)?;
    if output.json {
        return output.json_value(&unit);
    }
    print(render::show(&unit, output.paint), output)
}

fn tree(board: Board, svg: Option<&Path>, output: &mut Output) -> Result<(), CliError> {
    let units = all(board)?;
    let Some(path) = svg else {
        if output.json {
            return output.json_value(&units);
        }
        return print(render::tree(&units, output.paint), output);
    };
    let picture = boot_svg::draw(&units, board.as_str());
    if path == Path::new("-") {
        return output.line(picture.trim_end());
    }
    std::fs::write(path, picture)?;
    Ok(())
}

fn blame(board: Board, output: &mut Output) -> Result<(), CliError> {
    let units = all(board)?;
    let rows = render::blame_rows(&units);
    if output.json {
        return output.json_value(&rows);
    }
    print(render::blame(&rows, output.paint), output)
}

fn print(lines: Vec<String>, output: &mut Output) -> Result<(), CliError> {
    lines.iter().try_for_each(|line| output.line(line))
}

fn look(board: Board, unit: &str) -> Result<UnitDetail, CliError> {
    control::ask_init(board, &InitRequest::Show { unit: unit.to_owned() }, |reply| match reply {
        InitReply::Unit(unit) => Some(*unit),
        _ => None,
    })
}

/// Every unit, by name.
fn all(board: Board) -> Result<Vec<UnitDetail>, CliError> {
    let mut units = Vec::new();
    control::converse(board, control::INIT, &InitRequest::Graph, |reply: InitReply| match reply {
        InitReply::Unit(unit) => {
            units.push(*unit);
            Ok(ControlFlow::Continue(()))
        }
        InitReply::Refused { message } => {
            Err(CliError::Refused { kind: "refused".into(), message })
        }
        _ => Ok(ControlFlow::Break(())),
    })?;
    Ok(units)
}

/// Changes a unit's settings and waits until the board has them.
fn set(
    board: Board,
    (unit, key, value): (String, String, Option<String>),
    output: &mut Output,
) -> Result<(), CliError> {
    let before = look(board, &unit)?;
    let has = |now: &UnitDetail| {
        let starts = |line: &str| line.trim_start_matches('[').starts_with(&key);
        now.settings.lines().any(starts) == value.is_some() && now.settings != before.settings
    };
    let request = InitRequest::Set { unit: unit.clone(), key: key.clone(), value: value.clone() };
    control::ask_init(board, &request, |reply| matches!(reply, InitReply::Done).then_some(()))?;
    let begin = Instant::now();
    let mut now = look(board, &unit)?;
    while begin.elapsed() < SETTINGS_PATIENCE && !has(&now) {
        std::thread::sleep(PAUSE);
        now = look(board, &unit)?;
    }
    if output.json {
        return output.json_value(&now);
    }
    match (has(&now), now.settings.trim()) {
        (false, _) => output.line(&format!("{unit}: nothing changed; `goblin logs` tells why")),
        (true, "") => output.line(&format!("{unit}: as it was shipped, from its next start on")),
        (true, text) => {
            output.line(&format!("{unit}, from its next start on:"))?;
            text.lines().try_for_each(|line| output.line(&format!("  {line}")))
        }
    }
}

/// Gives an order and waits for what comes of it.
fn order(
    board: Board,
    unit: &str,
    request: &InitRequest,
    output: &mut Output,
) -> Result<(), CliError> {
    let before = look(board, unit)?;
    let begin = Instant::now();
    control::ask_init(board, request, |reply| matches!(reply, InitReply::Done).then_some(()))?;
    let stop = matches!(request, InitRequest::Stop { .. });
    let anew = matches!(request, InitRequest::Restart { .. });
    let fulfilled = |now: &UnitDetail| {
        let ran = !matches!(before.status.phase, UnitPhase::Off | UnitPhase::Waiting);
        let again = !anew || !ran || now.status.restarts != before.status.restarts;
        match now.status.phase {
            UnitPhase::Off | UnitPhase::Failed => stop || now.status.phase == UnitPhase::Failed,
            UnitPhase::Ready => !stop && again,
            UnitPhase::BackOff => !stop,
            _ => false,
        }
    };
    let mut now = look(board, unit);
    // The unit may be the one that is asked: it is not there for a moment.
    while begin.elapsed() < PATIENCE && !now.as_ref().is_ok_and(fulfilled) {
        std::thread::sleep(PAUSE);
        now = look(board, unit);
    }
    let now = now?;
    let wanted = if stop { UnitPhase::Off } else { UnitPhase::Ready };
    if now.status.phase != wanted {
        let message = render::sentence(&now.status);
        return Err(CliError::Refused { kind: "unit".into(), message });
    }
    if output.json {
        return output.json_value(&now);
    }
    let spent_ms = u64::try_from(begin.elapsed().as_millis()).unwrap_or(u64::MAX);
    output.line(&format!("{} after {}", render::sentence(&now.status), render::seconds(spent_ms)))
}
