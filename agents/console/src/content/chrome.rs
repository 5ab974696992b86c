//! What surrounds a page: header, tabs, key hints, the open question.

use super::{DialogBox, Header, Hint, Tab};
use crate::clock;
use crate::model::{Model, PAGES, Page};
use crate::words::{self, Badge, Tone};
use goblin_core_types::{HealthState, LinkState, ProvisionOutcome};

/// Digits of the box's identity that are shown: enough to tell boxes apart at a glance.
const BOX_DIGITS: usize = 8;

pub(super) fn header(model: &Model) -> Header {
    let local = model.local();
    let mut detail = Vec::new();
    if let Some(board) = local {
        detail.push(match board.boot.version {
            Some(version) => format!("Release {version}"),
            None => "Unknown release".to_owned(),
        });
        if let Some(id) = board.box_id {
            let digits: String = id.to_string().chars().take(BOX_DIGITS).collect();
            detail.push(format!("Box {digits}"));
        }
    }
    let set = clock::date(model.unix_s(), model.zone());
    let synced = local.is_none_or(|b| b.time.synced);
    let date = match (set.is_empty(), synced) {
        (true, _) => "Clock not set".to_owned(),
        (false, false) => format!("{set} · not synced"),
        (false, true) => set,
    };
    Header {
        name: local.map_or_else(|| "goblinux".to_owned(), words::host),
        detail: detail.join("  ·  "),
        verdict: verdict(model),
        clock: clock::hour(model.unix_s(), model.zone()),
        date,
    }
}

/// One word for the whole box; the worst that is known.
fn verdict(model: &Model) -> Badge {
    let Some(local) = model.local() else {
        return match model.silent() {
            Some(_) => Badge::new(Tone::Bad, "No answer"),
            None => Badge::new(Tone::Busy, "Starting"),
        };
    };
    if model.silent().is_some() {
        return Badge::new(Tone::Bad, "No answer");
    }
    if local.role.is_none() {
        return words::provision(match local.provision.outcome {
            ProvisionOutcome::Applied => ProvisionOutcome::Unknown,
            other => other,
        });
    }
    if words::phase(&local.update).is_some() && local.update.target.is_some()
        || local.update.pair.is_some()
    {
        return Badge::new(Tone::Busy, "Upgrading");
    }
    let own = words::health(local.health.state);
    if !model.peer_present() {
        let searching = matches!(local.link.state, LinkState::Searching | LinkState::Up);
        let absent = match searching && model.peer().is_none() {
            true => Badge::new(Tone::Busy, "Other board awaited"),
            false => Badge::new(Tone::Bad, "Other board away"),
        };
        return if own.tone > absent.tone { own } else { absent };
    }
    let worst = model.peer().map_or(HealthState::Starting, |b| b.health.state);
    let other = words::health(worst);
    let badge = if other.tone > own.tone { other } else { own };
    if badge.tone == Tone::Good { Badge::new(Tone::Good, "All well") } else { badge }
}

pub(super) fn tabs(model: &Model) -> Vec<Tab> {
    let tab = |(key, page): (u8, Page)| Tab { page, key, selected: page == model.page() };
    (1u8..).zip(PAGES).map(tab).collect()
}

pub(super) fn hints(model: &Model) -> Vec<Hint> {
    let hint = |keys, what: &str| Hint { keys, what: what.to_owned() };
    if model.dialog().is_some() {
        return vec![
            hint("← →", "choose"),
            hint("Enter", "confirm"),
            hint("Esc", "leave as it is"),
        ];
    }
    let mut hints = vec![hint("← →", "page"), hint("1 – 7", "go to page")];
    let scroll = model.scrolls().then(|| hint("↑ ↓", "scroll"));
    match model.page() {
        Page::Actions | Page::Clients => {
            hints.push(hint("↑ ↓", "choose"));
            hints.push(hint("Enter", "carry out"));
        }
        Page::Logs => {
            hints.extend(scroll);
            let (level, _) = words::level(model.level());
            hints.push(Hint { keys: "Enter", what: format!("severity: {level} and above") });
        }
        _ => hints.extend(scroll),
    }
    if model.page() != Page::Overview {
        hints.push(hint("Esc", "overview"));
    }
    hints
}

pub(super) fn dialog(model: &Model) -> Option<DialogBox> {
    let dialog = model.dialog()?;
    let question = dialog.order.question(model)?;
    Some(DialogBox {
        title: question.title,
        sentences: question.sentences,
        no: "Leave as it is".to_owned(),
        yes: question.yes,
        yes_focused: dialog.yes,
    })
}
