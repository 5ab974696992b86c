//! `goblin disks`: the system disk of a board and its mirror.

use crate::cli::{Board, Disks, DisksWhat};
use crate::control;
use crate::error::CliError;
use crate::output::Output;
use crate::render::words;
use goblin_core_types::{DisksCommand, DisksReply, MirrorState, MirrorStatus};
use std::ops::ControlFlow;

/// Runs `goblin disks`.
pub fn run(wanted: Disks, board: Board, output: &mut Output) -> Result<(), CliError> {
    let command = match wanted.what {
        None | Some(DisksWhat::Show) => return show(board, output),
        Some(DisksWhat::Mirror { serial }) => DisksCommand::Mirror { serial },
        Some(DisksWhat::Forget) => DisksCommand::Forget,
    };
    let mut reply = None;
    control::converse(board, control::DISKS, &command, |said: DisksReply| {
        reply = Some(said);
        Ok(ControlFlow::Break(()))
    })?;
    match reply.ok_or_else(|| CliError::CutShort { board: board.as_str().into() })? {
        DisksReply::Failed { kind, message } => Err(CliError::Refused { kind, message }),
        done if output.json => output.json_value(&done),
        DisksReply::Done { message } => output.line(&words::plain(&message)),
    }
}

fn show(board: Board, output: &mut Output) -> Result<(), CliError> {
    let status = control::status(board)?;
    if output.json {
        return output.json_value(&status.disks.unwrap_or_default());
    }
    let Some(disks) = status.disks else {
        return output.line("one system disk; `goblin disks mirror SERIAL` gives it a mirror");
    };
    lines(&disks, &status.time.zone).iter().try_for_each(|line| output.line(line))
}

fn lines(disks: &MirrorStatus, zone: &str) -> Vec<String> {
    let other = disks.other.as_deref().map_or_else(|| "-".into(), words::plain);
    let since = disks.alone_since_unix_s.map(|since| words::moment(since, zone));
    let missing = since.map_or_else(|| "not there".into(), |at| format!("not there since {at}"));
    let stands = match disks.state {
        MirrorState::InStep => "in step".into(),
        MirrorState::Making => "being filled".into(),
        MirrorState::Split => "written without the first".into(),
        MirrorState::Foreign => "not this board's".into(),
        MirrorState::Wanted => "no mirror yet".into(),
        MirrorState::Alone | MirrorState::Single | MirrorState::Unknown => missing,
    };
    vec![
        format!("{:<24} the board works from it", words::plain(&disks.booted)),
        format!("{other:<24} {stands}"),
        words::plain(&disks.detail),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_disk_is_told_with_its_time() {
        let alone = MirrorStatus {
            state: MirrorState::Alone,
            booted: "A1".into(),
            alone_since_unix_s: Some(1_800_000_000),
            detail: "words".into(),
            ..MirrorStatus::default()
        };
        let told = lines(&alone, "");
        assert!(told[0].starts_with("A1 ") && told[2] == "words", "{told:?}");
        assert!(told[1].ends_with("not there since 2027-01-15 08:00 UTC"), "{told:?}");
        let whole = MirrorStatus { state: MirrorState::InStep, other: Some("B2".into()), ..alone };
        assert_eq!(lines(&whole, "")[1], format!("{:<24} in step", "B2"));
    }
}
