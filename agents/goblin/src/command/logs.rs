//! `goblin logs`: what a board's journal tells.

use crate::cli::{Board, Logs};
use crate::control;
use crate::error::CliError;
use crate::output::{Output, Tone};
use crate::render::words;
use goblin_core_types::{BootListed, KeptLine, LogLevel, LogsFilter, LogsReply, LogsRequest};
use jiff::Timestamp;
use rustix::event::{PollFd, PollFlags, poll};
use std::ops::ControlFlow;

/// Prints log lines, and new ones as they come where that is asked for.
pub fn logs(board: Board, wanted: Logs, output: &mut Output) -> Result<(), CliError> {
    let follow = wanted.follow;
    let request = LogsRequest::Lines(LogsFilter {
        boot: wanted.boot.unwrap_or_default(),
        unit: wanted.unit,
        level: Some(wanted.level.into()),
        since: wanted.since,
        lines_max: wanted.lines,
        follow,
    });
    if follow {
        end_with_the_reader();
    }
    control::converse(board, control::LOGS, &request, |reply: LogsReply| match reply {
        LogsReply::Line(line) => {
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
        LogsReply::Refused { message } => {
            Err(CliError::Refused { kind: "refused".into(), message })
        }
        LogsReply::Done | LogsReply::Boots { .. } => Ok(ControlFlow::Break(())),
    })
}

/// Ends this process when nobody reads its output any more, which would otherwise show with the next line
/// only: on a quiet board, never.
fn end_with_the_reader() {
    let watch = || {
        let output = rustix::stdio::stdout();
        loop {
            // Errors are reported whether or not they are asked for; nothing else is waited for.
            let mut fds = [PollFd::new(&output, PollFlags::empty())];
            match poll(&mut fds, None) {
                Ok(_) if fds.iter().any(|fd| fd.revents().contains(PollFlags::ERR)) => {
                    std::process::exit(0);
                }
                Err(rustix::io::Errno::INTR) => {}
                // A terminal that hung up, or an output that cannot be watched: the next line tells.
                Ok(_) | Err(_) => return,
            }
        }
    };
    // Without the thread the process ends a line later.
    let _ = std::thread::Builder::new().name("reader".into()).spawn(watch);
}

/// Lists the boots whose lines are kept.
pub fn boots(board: Board, output: &mut Output) -> Result<(), CliError> {
    let mut found = None;
    control::converse(board, control::LOGS, &LogsRequest::Boots, |reply| match reply {
        LogsReply::Refused { message } => {
            Err(CliError::Refused { kind: "refused".into(), message })
        }
        LogsReply::Boots { boots } => {
            found = Some(boots);
            Ok(ControlFlow::Break(()))
        }
        LogsReply::Line(_) | LogsReply::Done => Ok(ControlFlow::Continue(())),
    })?;
    let boots = found.unwrap_or_default();
    if output.json {
        return output.json_value(&boots);
    }
    for boot in &boots {
        output.line(&boot_text(boot))?;
    }
    Ok(())
}

fn boot_text(boot: &BootListed) -> String {
    let back = if boot.back == 0 { "0".into() } else { format!("-{}", boot.back) };
    let number = if boot.number == 0 { "?".into() } else { boot.number.to_string() };
    let version = boot.version.map_or_else(|| "?".into(), |version| version.to_string());
    let lost = if boot.lost > 0 { format!(", {} lost", boot.lost) } else { String::new() };
    format!(
        "{back:>5}  boot {number:<5} {}  release {version:<9} {} to {}  {} lines{lost}",
        words::plain(&boot.boot_id),
        wall_clock(boot.first_unix_ms),
        wall_clock(boot.last_unix_ms),
        boot.lines,
    )
}

/// A moment in UTC, to the second; `?` for none.
fn wall_clock(unix_ms: u64) -> String {
    let moment = i64::try_from(unix_ms).ok().filter(|ms| *ms > 0);
    let moment = moment.and_then(|ms| Timestamp::from_millisecond(ms).ok());
    moment.map_or_else(|| "?".into(), |at| at.strftime("%Y-%m-%d %H:%M:%SZ").to_string())
}

fn log_text(kept: &KeptLine, output: &Output) -> String {
    let line = &kept.line;
    let (word, tone) = match line.level {
        LogLevel::Debug => ("debug", Tone::Dim),
        LogLevel::Info => ("info", Tone::Good),
        LogLevel::Warn => ("warn", Tone::Warn),
        LogLevel::Error => ("error", Tone::Bad),
    };
    let seconds = line.at_ms / 1000;
    let millis = line.at_ms % 1000;
    format!(
        "{} {seconds:>7}.{millis:03} {:<10} {} {}",
        output.paint.paint(Tone::Dim, &wall_clock(kept.unix_ms)),
        words::plain(&line.unit),
        output.paint.paint(tone, &format!("{word:<5}")),
        words::plain(&line.text)
    )
}
