//! Page 3: releases on both boards, what is offered, how the last upgrades ended.

use super::{Card, Icon, Part, Row, fact, history, overview, problem};
use crate::clock;
use crate::model::Model;
use crate::orders;
use crate::words::{self, Badge, Tone};
use goblin_core_types::{
    BoardStatus, RebootPolicy, Role, Schedule, ScheduleMode, UpdateLife, UpdateOutcome,
    UpdateReport,
};

/// Upgrades shown of each board.
const REPORTS_MAX: usize = 4;
/// Last lines of a failed boot that are shown.
const LINES_MAX: usize = 8;
/// Releases in quarantine that are shown.
const QUARANTINE_MAX: usize = 4;

pub(super) fn page(model: &Model) -> Vec<Row> {
    let Some(local) = model.local() else {
        return vec![Row::Cards(vec![(
            1,
            Card {
                title: "Updates".to_owned(),
                parts: vec![Part::Text("Waiting for the first status of this board.".to_owned())],
                ..Card::default()
            },
        )])];
    };
    let mut boards = vec![(1, board_card(model, local, false))];
    if let Some(peer) = model.peer() {
        boards.push((1, board_card(model, peer, !model.peer_present())));
    }
    vec![Row::Cards(vec![(1, offer_card(model, local))]), Row::Cards(boards)]
}

fn offer_card(model: &Model, local: &BoardStatus) -> Card {
    let update = &local.update;
    let mut parts = Vec::new();
    let failed = orders::offered(model).and_then(|version| orders::failed_on(model, version));
    let (title, badge) = match orders::offered(model) {
        Some(version) if failed.is_some() => {
            (format!("Release {version} is offered"), Badge::new(Tone::Warn, "Failed before"))
        }
        Some(version) => (format!("Release {version} is offered"), Badge::new(Tone::Good, "New")),
        None if update.source.is_none() => {
            ("New releases".to_owned(), Badge::new(Tone::Quiet, "No source set up"))
        }
        None if update.offered.is_some() => {
            ("Newest release".to_owned(), Badge::new(Tone::Good, "Up to date"))
        }
        None => ("New releases".to_owned(), Badge::new(Tone::Quiet, "Not checked yet")),
    };
    if orders::offered(model).is_some() {
        if let Some(notes) =
            update.offered_notes.as_deref().map(words::clean).filter(|n| !n.is_empty())
        {
            parts.push(Part::Text(notes));
        }
        parts.push(match failed {
            Some(board) => Part::Note(Tone::Warn, format!(
                "It failed its trial on the {board} and is refused there. Wait for a newer release."
            )),
            None => Part::Text("Upgrade both boards on page 6.".to_owned()),
        });
    }
    overview::upgrade_parts(&mut parts, local);
    problem(&mut parts, Tone::Warn, update.problem.as_deref());
    failure(local, &mut parts);
    if let Some(waiting) = &update.waiting {
        parts.push(Part::Note(Tone::Quiet, words::capital(&words::clean_to(waiting, 200))));
    }
    if let Some(channel) = &update.channel {
        fact(&mut parts, "Channel", words::clean_to(channel, 40));
    }
    fact(&mut parts, "Unasked", schedule(&update.settings.schedule).to_owned());
    fact(
        &mut parts,
        "Source",
        match &update.source {
            Some(source) => words::clean_to(source, 160),
            None => "none set up".to_owned(),
        },
    );
    Card { title, badge: Some(badge), parts, ..Card::default() }
}

/// What failed before anything was armed: it is in no report, and outlives a restart.
fn failure(board: &BoardStatus, parts: &mut Vec<Part>) {
    let update = &board.update;
    let in_report = update.last.as_ref().is_some_and(|last| last.reason == update.life.reason);
    if update.life.state == UpdateLife::Failed && update.problem.is_none() && !in_report {
        let what = update
            .life
            .version
            .map_or_else(|| "The last order".to_owned(), |version| format!("Release {version}"));
        let text = format!("{what} failed: {}", words::clean_to(&update.life.reason, 240));
        parts.push(Part::Note(Tone::Warn, text));
    }
}

fn schedule(schedule: &Schedule) -> &'static str {
    match (schedule.mode, schedule.reboot) {
        (ScheduleMode::Off, _) => "nothing; set it with `goblin schedule`",
        (ScheduleMode::Check, _) => "looks for releases",
        (ScheduleMode::Install, RebootPolicy::Ask) => "upgrades while no client uses the shares",
        (ScheduleMode::Install, RebootPolicy::Anyway) => "upgrades",
    }
}

fn board_card(model: &Model, board: &BoardStatus, stale: bool) -> Card {
    let mut parts = vec![Part::Slots(overview::slots(board))];
    let notes = words::clean(&board.boot.notes);
    fact(&mut parts, "This release", notes);
    let local = model.local().is_some_and(|l| std::ptr::eq(l, board));
    if !local {
        overview::upgrade_parts(&mut parts, board);
        problem(&mut parts, Tone::Warn, board.update.problem.as_deref());
    }
    if !local {
        failure(board, &mut parts);
    }
    let pins: Vec<String> = board.update.settings.pins.iter().map(ToString::to_string).collect();
    if !pins.is_empty() {
        fact(&mut parts, "Pinned", pins.join(", "));
    }
    reports(model, board, &mut parts);
    let icon = if board.role == Some(Role::Storage) { Icon::Storage } else { Icon::Compute };
    let badge = if stale { Some(Badge::new(Tone::Bad, "Not in sight")) } else { None };
    Card {
        icon: Some(icon),
        title: words::board(board.role).to_owned(),
        subtitle: words::host(board),
        badge,
        parts,
        stale,
    }
}

/// How the newest upgrades ended, what is not tried again, and a failed start that no report tells of.
fn reports(model: &Model, board: &BoardStatus, parts: &mut Vec<Part>) {
    let reports: Vec<_> = history::reports(board).take(REPORTS_MAX).collect();
    if reports.is_empty() {
        parts.push(Part::Text("No upgrade so far.".to_owned()));
    }
    let with_lines = reports.iter().position(|report| !report.last_lines.is_empty());
    for (index, report) in reports.iter().enumerate() {
        report_parts(model, report, with_lines == Some(index), parts);
    }
    let told = |version| reports.iter().any(|report| report.to == version);
    for bad in board.update.quarantine.iter().rev().take(QUARANTINE_MAX) {
        let version = bad.version;
        let reason = match told(version) {
            true => String::new(),
            false => format!(": {}", words::about(&bad.reason, version, 200)),
        };
        let text = format!("Release {version} is not tried again{reason}");
        parts.push(Part::Note(Tone::Warn, text));
    }
    let failed = board.boot.attempts.iter().rev().find_map(|a| Some((a.version, a.fail.as_ref()?)));
    if let Some((version, reason)) = failed.filter(|(version, _)| !told(*version)) {
        parts.push(Part::Heading(format!("Last failed start, release {version}")));
        parts.push(Part::Text(words::capital(&words::fail(reason))));
    }
}

fn report_parts(model: &Model, report: &UpdateReport, lines: bool, parts: &mut Vec<Part>) {
    let badge = words::outcome(report.outcome);
    let when = clock::moment(report.at_unix_s, model.unix_s(), model.zone()).unwrap_or_default();
    let (from, to) = (report.from, report.to);
    let way = match report.outcome {
        UpdateOutcome::Good | UpdateOutcome::RolledBack => format!("{from} → {to}"),
        UpdateOutcome::FellBack => format!("{from} → {to} → {from}"),
        UpdateOutcome::Refused => format!("{from} stays, {to} refused"),
    };
    parts.push(Part::Heading(format!("{way}   {when}").trim_end().to_owned()));
    let reason = words::clean(&report.reason);
    let sentence = if reason.is_empty() { badge.word } else { format!("{}: {reason}", badge.word) };
    parts.push(Part::Note(badge.tone, sentence));
    if lines {
        parts.push(Part::Text("Last lines of that boot:".to_owned()));
        let skip = report.last_lines.len().saturating_sub(LINES_MAX);
        let lines = report.last_lines.iter().skip(skip).map(|l| words::clean_line(l, 160));
        parts.push(Part::Lines(lines.collect()));
    }
}
