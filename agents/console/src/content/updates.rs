//! Page 3: releases on both boards, what is offered, how the last upgrades ended.

use super::{Card, Icon, Part, Row, fact, overview, problem};
use crate::clock;
use crate::model::Model;
use crate::orders;
use crate::words::{self, Badge, Tone};
use goblin_core_types::{BoardStatus, Role, UpdateOutcome};

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
    let (title, badge) = match orders::offered(model) {
        Some(version) => (format!("Release {version} is offered"), Badge::new(Tone::Good, "New")),
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
        parts.push(Part::Text("Upgrade both boards on page 6.".to_owned()));
    }
    overview::upgrade_parts(&mut parts, local);
    problem(&mut parts, Tone::Warn, update.problem.as_deref());
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

fn board_card(model: &Model, board: &BoardStatus, stale: bool) -> Card {
    let mut parts = vec![Part::Slots(overview::slots(board))];
    let notes = words::clean(&board.boot.notes);
    fact(&mut parts, "This release", notes);
    let local = model.local().is_some_and(|l| std::ptr::eq(l, board));
    if !local {
        overview::upgrade_parts(&mut parts, board);
        problem(&mut parts, Tone::Warn, board.update.problem.as_deref());
    }
    last_report(model, board, &mut parts);
    for bad in board.update.quarantine.iter().take(QUARANTINE_MAX) {
        let reason = words::clean_to(&bad.reason, 160);
        parts.push(Part::Note(
            Tone::Warn,
            format!("Release {} is not tried again: {reason}", bad.version),
        ));
    }
    // The report above tells of its own release already.
    let told = board.update.last.as_ref().map(|last| last.to);
    let failed = board.boot.attempts.iter().rev().find_map(|a| Some((a.version, a.fail.as_ref()?)));
    let failed = failed.filter(|(version, _)| Some(*version) != told);
    if let Some((version, reason)) = failed {
        parts.push(Part::Heading(format!("Last failed start, release {version}")));
        parts.push(Part::Text(words::capital(&words::fail(reason))));
    }
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

fn last_report(model: &Model, board: &BoardStatus, parts: &mut Vec<Part>) {
    let Some(last) = &board.update.last else {
        parts.push(Part::Text("No upgrade so far.".to_owned()));
        return;
    };
    let badge = words::outcome(last.outcome);
    let when = clock::moment(last.at_unix_s, model.unix_s(), model.zone()).unwrap_or_default();
    let way = match last.outcome {
        UpdateOutcome::Good | UpdateOutcome::RolledBack => format!("{} → {}", last.from, last.to),
        UpdateOutcome::FellBack => format!("{} → {} → {}", last.from, last.to, last.from),
        UpdateOutcome::Refused => format!("{} stays, {} refused", last.from, last.to),
    };
    fact(parts, "Last upgrade", format!("{way}   {when}").trim_end());
    let reason = words::clean(&last.reason);
    let sentence = if reason.is_empty() { badge.word } else { format!("{}: {reason}", badge.word) };
    parts.push(Part::Note(badge.tone, sentence));
    if !last.last_lines.is_empty() {
        parts.push(Part::Heading("Last lines of that boot".to_owned()));
        let skip = last.last_lines.len().saturating_sub(LINES_MAX);
        let lines = last.last_lines.iter().skip(skip).map(|l| words::clean_line(l, 160));
        parts.push(Part::Lines(lines.collect()));
    }
}
