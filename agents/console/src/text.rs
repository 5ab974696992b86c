//! The visible text of the screen as lines, from top to bottom: for tests and screen readers.

use crate::content::{Card, Part, Row, Screen};

/// Lines of the screen. Blank lines are left out; cells of a table are joined by ` | `.
pub fn lines(screen: &Screen) -> Vec<String> {
    let mut out = Vec::new();
    let header = &screen.header;
    out.push(header.name.clone());
    out.push(header.detail.clone());
    out.push(header.verdict.word.clone());
    out.push(format!("{} {}", header.clock, header.date));
    let tab = |t: &crate::content::Tab| {
        let mark = if t.selected { "*" } else { "" };
        format!("{} {}{mark}", t.key, t.page.title())
    };
    out.push(screen.tabs.iter().map(tab).collect::<Vec<_>>().join(" | "));
    screen.body.iter().for_each(|row| row_lines(row, &mut out));
    if let Some(dialog) = &screen.dialog {
        out.push(dialog.title.clone());
        out.extend(dialog.sentences.iter().cloned());
        let focus = |on: bool, word: &str| if on { format!("[{word}]") } else { word.to_owned() };
        out.push(focus(!dialog.yes_focused, &dialog.no));
        out.push(focus(dialog.yes_focused, &dialog.yes));
    }
    let hints: Vec<String> =
        screen.hints.iter().map(|h| format!("{} {}", h.keys, h.what)).collect();
    out.push(hints.join(" | "));
    out.retain(|line| !line.trim().is_empty());
    out
}

fn row_lines(row: &Row, out: &mut Vec<String>) {
    match row {
        Row::Pair { left, cable, right } => {
            card_lines(left, out);
            out.push(format!("{} {}", cable.badge.word, cable.detail).trim_end().to_owned());
            card_lines(right, out);
        }
        Row::Band(card) => card_lines(card, out),
        Row::Cards(cards) => cards.iter().for_each(|(_, card)| card_lines(card, out)),
        Row::Poster(poster) => {
            out.push(poster.headline.clone());
            out.extend(poster.sentences.iter().chain(&poster.remedy).cloned());
        }
        Row::Log(lines) => {
            out.extend(
                lines.iter().map(|l| format!("{} {} {}: {}", l.at, l.level, l.unit, l.text)),
            );
        }
        Row::Menu { items, side } => {
            for item in items {
                let mark = if item.selected { "> " } else { "" };
                let off = if item.enabled { "" } else { " (not now)" };
                out.push(format!("{mark}{}{off}: {}", item.title, item.detail));
            }
            card_lines(side, out);
        }
    }
}

fn card_lines(card: &Card, out: &mut Vec<String>) {
    let badge = card.badge.as_ref().map_or("", |b| b.word.as_str());
    let head = [card.title.as_str(), card.subtitle.as_str(), badge];
    out.push(head.iter().filter(|t| !t.is_empty()).copied().collect::<Vec<_>>().join(" | "));
    for part in &card.parts {
        match part {
            Part::Note(_, text) | Part::Text(text) | Part::Heading(text) => {
                out.push(text.clone());
            }
            Part::Fact(label, value) => out.push(format!("{label}: {value}")),
            Part::Bar { label, text, .. } => out.push(format!("{label}: {text}")),
            Part::Slots(slots) => {
                out.extend(
                    slots.iter().map(|(version, badge)| format!("{version} {}", badge.word)),
                );
            }
            Part::Table { columns, rows } => {
                let titles: Vec<&str> = columns.iter().map(|c| c.0).collect();
                out.push(titles.join(" | "));
                for row in rows {
                    let cells: Vec<String> =
                        row.iter().map(|c| c.text.replace('\n', ", ")).collect();
                    out.push(cells.join(" | "));
                }
            }
            Part::Events(events) => {
                for event in events {
                    let colon = if event.reason.is_empty() { "" } else { ": " };
                    let (word, reason) = (&event.badge.word, &event.reason);
                    out.push(format!("{} {} {word}{colon}{reason}", event.at, event.who));
                }
            }
            Part::Code(lines) | Part::Lines(lines) => out.extend(lines.iter().cloned()),
        }
    }
}
