//! Where everything on the screen goes and how it looks. Draws a [`Screen`] and reports clicks as
//! events; it changes no word and keeps no state.

mod art;
mod chrome;
mod rows;
mod sheet;
pub mod theme;

use crate::content::Screen;
use crate::model::Event;
use egui::{CornerRadius, Rect, Sense, Ui, pos2};

const HEADER_HEIGHT: f32 = 82.0;
const TABS_HEIGHT: f32 = 52.0;
const FOOTER_HEIGHT: f32 = 46.0;

/// Draws the screen over the whole of `ui`. Returns what the pointer did and how long the page is.
pub fn draw(ui: &mut Ui, screen: &Screen) -> Vec<Event> {
    let full = ui.max_rect();
    let painter = ui.painter().clone();
    painter.rect_filled(full, CornerRadius::ZERO, theme::GROUND);
    let mut events = Vec::new();
    let accent = theme::accent(screen.accent);

    let header = Rect::from_min_size(full.min, egui::vec2(full.width(), HEADER_HEIGHT));
    let tabs = Rect::from_min_size(header.left_bottom(), egui::vec2(full.width(), TABS_HEIGHT));
    let footer = Rect::from_min_max(pos2(full.left(), full.bottom() - FOOTER_HEIGHT), full.max);
    let body = Rect::from_min_max(
        pos2(full.left() + theme::MARGIN, tabs.bottom() + theme::GAP),
        pos2(full.right() - theme::MARGIN, footer.top() - theme::GAP),
    );

    rows::draw(ui, screen, body, accent, &mut events);
    chrome::header(&painter, &screen.header, header, accent);
    chrome::tabs(ui, screen, tabs, accent, &mut events);
    chrome::footer(&painter, &screen.hints, footer);
    if let Some(dialog) = &screen.dialog {
        chrome::dialog(ui, dialog, full, accent, &mut events);
    }
    events
}

/// True when `rect` was clicked.
fn clicked(ui: &Ui, rect: Rect, name: &str, index: usize) -> (bool, bool) {
    let response = ui.interact(rect, egui::Id::new((name, index)), Sense::click());
    (response.clicked(), response.hovered())
}
