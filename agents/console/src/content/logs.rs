//! Page 5: newest log lines of this board, newest first.

use super::{Card, LogRow, Part, Row};
use crate::clock;
use crate::model::Model;
use crate::words::{self, Tone};

/// Longest log line shown, in characters.
const LINE_CHARS_MAX: usize = 600;

pub(super) fn page(model: &Model) -> Vec<Row> {
    let mut rows = Vec::new();
    if let Some(why) = model.logs_problem() {
        rows.push(Row::Cards(vec![(
            1,
            Card {
                title: "No fresh lines".to_owned(),
                parts: vec![Part::Note(Tone::Warn, words::capital(why))],
                ..Card::default()
            },
        )]));
    }
    let lines: Vec<LogRow> = model
        .logs()
        .map(|line| {
            let (level, tone) = words::level(line.level);
            LogRow {
                at: clock::since_start(line.at_ms),
                unit: words::clean_to(&line.unit, 24),
                tone,
                level,
                text: words::clean_line(&line.text, LINE_CHARS_MAX),
            }
        })
        .collect();
    if lines.is_empty() {
        let (level, _) = words::level(model.level());
        rows.push(Row::Cards(vec![(
            1,
            Card {
                title: "Log of this board".to_owned(),
                parts: vec![Part::Text(format!("No lines of severity {level} or above."))],
                ..Card::default()
            },
        )]));
    } else {
        rows.push(Row::Log(lines));
    }
    rows
}
