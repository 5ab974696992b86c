//! `goblin logs` and `goblin units`: what PID 1 of a board tells.

use crate::cli::Board;
use crate::control;
use crate::error::CliError;
use crate::output::{Output, Tone};
use crate::render::words;
use goblin_core_types::{
    InitReply, InitRequest, LogFilter, LogLevel, LogLine, UnitPhase, UnitStatus,
};
use std::ops::ControlFlow;

/// Prints log lines, and new ones as they come where that is asked for.
pub fn logs(
    board: Board,
    unit: Option<String>,
    follow: bool,
    lines_max: u32,
    output: &mut Output,
) -> Result<(), CliError> {
    let request = InitRequest::Logs(LogFilter { unit, follow, lines_max });
    control::converse(board, control::INIT, &request, |reply: InitReply| match reply {
        InitReply::Line(line) => {
            if output.json {
                output.json_line(&line)?;
            } else {
                let text = log_text(&line, output);
                output.line(&text)?;
            }
            if follow {
                output.flush()?;
            }
            Ok(ControlFlow::Continue(()))
        }
        InitReply::Refused { message } => {
            Err(CliError::Refused { kind: "refused".into(), message })
        }
        InitReply::Done | InitReply::Units { .. } => Ok(ControlFlow::Break(())),
    })
}

fn log_text(line: &LogLine, output: &Output) -> String {
    let (word, tone) = match line.level {
        LogLevel::Debug => ("debug", Tone::Dim),
        LogLevel::Info => ("info", Tone::Good),
        LogLevel::Warn => ("warn", Tone::Warn),
        LogLevel::Error => ("error", Tone::Bad),
    };
    let seconds = line.at_ms / 1000;
    let millis = line.at_ms % 1000;
    format!(
        "{seconds:>7}.{millis:03} {:<10} {} {}",
        words::plain(&line.unit),
        output.paint.paint(tone, &format!("{word:<5}")),
        words::plain(&line.text)
    )
}

/// Lists the services of a board.
pub fn units(board: Board, output: &mut Output) -> Result<(), CliError> {
    let units = control::ask_init(board, &InitRequest::Units, |reply| match reply {
        InitReply::Units { units, .. } => Some(units),
        _ => None,
    })?;
    if output.json {
        return output.json_value(&units);
    }
    let width = units.iter().map(|unit| unit.name.chars().count()).max().unwrap_or(0);
    for unit in &units {
        let text = unit_text(unit, width, output);
        output.line(&text)?;
    }
    Ok(())
}

fn unit_text(unit: &UnitStatus, width: usize, output: &Output) -> String {
    let (word, tone) = match unit.phase {
        UnitPhase::Off => ("off", Tone::Dim),
        UnitPhase::Waiting => ("waiting", Tone::Warn),
        UnitPhase::Starting => ("starting", Tone::Warn),
        UnitPhase::Ready => ("ready", Tone::Good),
        UnitPhase::BackOff => ("back-off", Tone::Warn),
        UnitPhase::Stopping => ("stopping", Tone::Warn),
        UnitPhase::Failed => ("failed", Tone::Bad),
    };
    let pid = unit.pid.map_or_else(String::new, |pid| pid.to_string());
    let restarts = if unit.restarts > 0 {
        format!(" started again {}x", unit.restarts)
    } else {
        String::new()
    };
    let detail = if unit.detail.is_empty() { &unit.description } else { &unit.detail };
    format!(
        "{:<width$}  {} {pid:>6}  {}{restarts}",
        words::plain(&unit.name),
        output.paint.paint(tone, &format!("{word:<8}")),
        words::plain(detail),
    )
}
