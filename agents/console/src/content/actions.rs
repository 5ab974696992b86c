//! Page 6: what can be ordered, and how the last orders went.

use super::{Card, MenuItem, Part, Row, overview};
use crate::clock;
use crate::model::{Model, Task, TaskState};
use crate::orders::Order;
use crate::words::{self, Tone};

pub(super) fn page(model: &Model) -> Vec<Row> {
    vec![Row::Menu { items: menu(model), side: results(model) }]
}

/// The page's list of orders.
pub(super) fn menu(model: &Model) -> Vec<MenuItem> {
    let item = |(index, order): (usize, Order)| {
        let refusal = order.refusal(model);
        MenuItem {
            title: order.title(),
            enabled: refusal.is_none(),
            detail: refusal.unwrap_or_else(|| order.detail(model)),
            selected: index == model.cursor(),
        }
    };
    model.choices().into_iter().enumerate().map(item).collect()
}

fn results(model: &Model) -> Card {
    let mut parts = Vec::new();
    if let Some(local) = model.local() {
        overview::upgrade_parts(&mut parts, local);
    }
    for task in model.tasks().iter().rev() {
        task_parts(model, task, &mut parts);
    }
    if parts.is_empty() {
        parts.push(Part::Text(
            "What is ordered here and how it went appears in this place.".to_owned(),
        ));
        parts.push(Part::Text(
            "Everything but the check asks once more before it is done.".to_owned(),
        ));
    }
    Card { title: "Progress and results".to_owned(), parts, ..Card::default() }
}

pub(super) fn task_parts(model: &Model, task: &Task, parts: &mut Vec<Part>) {
    let at = clock::hour(task.at_unix_s, model.zone());
    parts.push(Part::Heading(format!("{at}   {}", task.order.title())));
    match &task.state {
        TaskState::Running { message, permille: Some(done) } => parts.push(Part::Bar {
            label: words::clean(message),
            permille: *done,
            text: format!("{} %", done / 10),
            tone: Tone::Busy,
        }),
        TaskState::Running { message, permille: None } => {
            parts.push(Part::Note(Tone::Busy, words::clean(message)));
        }
        TaskState::Done { message } => {
            let text = words::capital(&words::clean(message));
            parts.push(Part::Note(
                Tone::Good,
                if text.is_empty() { "Done".to_owned() } else { text },
            ));
        }
        TaskState::Code(_) => {
            parts.push(Part::Note(Tone::Good, "A code was made; page 7 shows it.".to_owned()));
        }
        TaskState::Failed { message } => {
            parts.push(Part::Note(Tone::Bad, words::capital(&words::clean(message))));
        }
    }
}
