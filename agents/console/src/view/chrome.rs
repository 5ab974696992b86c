//! Header, tabs, footer, dialog.

use super::sheet::{Sheet, galley, pill};
use super::{clicked, theme};
use crate::content::{DialogBox, Header, Hint, Screen};
use crate::model::Event;
use egui::{Color32, CornerRadius, Painter, Rect, Shape, Stroke, StrokeKind, Ui, pos2, vec2};

pub(super) fn header(painter: &Painter, header: &Header, area: Rect, accent: Color32) {
    painter.rect_filled(area, CornerRadius::ZERO, theme::RAIL);
    let left = area.left() + theme::MARGIN;
    let bar =
        Rect::from_min_max(pos2(left, area.top() + 17.0), pos2(left + 6.0, area.bottom() - 15.0));
    painter.rect_filled(bar, CornerRadius::same(3), accent);

    let right = area.right() - theme::MARGIN;
    let clock = galley(painter, &header.clock, theme::bold(30.0), theme::TEXT, 200.0, 1);
    let date = galley(painter, &header.date, theme::plain(17.0), theme::SOFT, 360.0, 1);
    let clock_width = clock.size().x.max(date.size().x);
    painter.galley(pos2(right - clock.size().x, area.top() + 11.0).round(), clock, theme::TEXT);
    painter.galley(pos2(right - date.size().x, area.top() + 48.0).round(), date, theme::TEXT);

    let pill_right = right - clock_width - 32.0;
    let (shapes, size) =
        pill(painter, &header.verdict, pos2(pill_right, area.center().y - 19.0), 19.0, 380.0);
    painter.extend(shapes);

    let name_left = left + 22.0;
    let name_width = pill_right - size.x - 24.0 - name_left;
    let name = galley(painter, &header.name, theme::bold(28.0), theme::TEXT, name_width, 1);
    let detail = galley(painter, &header.detail, theme::plain(17.0), theme::SOFT, name_width, 1);
    painter.galley(pos2(name_left, area.top() + 12.0).round(), name, theme::TEXT);
    painter.galley(pos2(name_left, area.top() + 48.0).round(), detail, theme::TEXT);
}

pub(super) fn tabs(ui: &Ui, screen: &Screen, area: Rect, accent: Color32, events: &mut Vec<Event>) {
    let painter = ui.painter();
    painter.rect_filled(area, CornerRadius::ZERO, theme::RAIL);
    let y = area.bottom() - 0.5;
    painter
        .line_segment([pos2(area.left(), y), pos2(area.right(), y)], Stroke::new(1.0, theme::LINE));
    let mut left = area.left() + theme::MARGIN - 12.0;
    for (index, tab) in screen.tabs.iter().enumerate() {
        let key = galley(painter, &tab.key.to_string(), theme::bold(16.0), theme::SOFT, 40.0, 1);
        let font = if tab.selected { theme::bold(20.0) } else { theme::plain(20.0) };
        let colour = if tab.selected { theme::TEXT } else { theme::SOFT };
        let title = galley(painter, tab.page.title(), font, colour, 240.0, 1);
        let width = 12.0 + 26.0 + 10.0 + title.size().x + 12.0;
        let rect = Rect::from_min_size(pos2(left, area.top()), vec2(width, area.height()));
        let (hit, hovered) = clicked(ui, rect, "tab", index);
        if hit {
            events.push(Event::Go(tab.page));
        }
        if hovered && !tab.selected {
            let ground = rect.shrink2(vec2(2.0, 6.0));
            painter.rect_filled(ground, CornerRadius::same(8), theme::CARD);
        }
        let cap =
            Rect::from_center_size(pos2(left + 25.0, rect.center().y - 1.0), vec2(26.0, 26.0));
        let (fill, ink) =
            if tab.selected { (accent, theme::INK) } else { (theme::INSET, theme::SOFT) };
        painter.rect_filled(cap, CornerRadius::same(6), fill);
        if !tab.selected {
            let frame = Stroke::new(1.0, theme::LINE);
            painter.rect_stroke(cap, CornerRadius::same(6), frame, StrokeKind::Inside);
        }
        let at = cap.center() - key.size() / 2.0;
        painter.galley_with_override_text_color(at.round(), key, ink);
        let at = pos2(left + 48.0, rect.center().y - 1.0 - title.size().y / 2.0);
        painter.galley(at.round(), title, colour);
        if tab.selected {
            let under = Rect::from_min_max(
                pos2(left + 12.0, area.bottom() - 4.0),
                pos2(rect.right() - 12.0, area.bottom()),
            );
            painter.rect_filled(under, CornerRadius { nw: 2, ne: 2, sw: 0, se: 0 }, accent);
        }
        left += width + 8.0;
    }
}

pub(super) fn footer(painter: &Painter, hints: &[Hint], area: Rect) {
    painter.rect_filled(area, CornerRadius::ZERO, theme::RAIL);
    let y = area.top() + 0.5;
    painter
        .line_segment([pos2(area.left(), y), pos2(area.right(), y)], Stroke::new(1.0, theme::LINE));
    let mut left = area.left() + theme::MARGIN;
    for hint in hints {
        let keys = galley(painter, hint.keys, theme::bold(16.0), theme::TEXT, 160.0, 1);
        let what = galley(painter, &hint.what, theme::plain(17.0), theme::SOFT, 420.0, 1);
        let cap = Rect::from_min_size(
            pos2(left, area.center().y - 14.0),
            vec2(keys.size().x + 18.0, 28.0),
        );
        painter.rect_filled(cap, CornerRadius::same(6), theme::CARD);
        painter.rect_stroke(
            cap,
            CornerRadius::same(6),
            Stroke::new(1.0, theme::LINE),
            StrokeKind::Inside,
        );
        let at = cap.center() - keys.size() / 2.0;
        painter.galley(at.round(), keys, theme::TEXT);
        let at = pos2(cap.right() + 10.0, area.center().y - what.size().y / 2.0);
        left = at.x + what.size().x + 28.0;
        painter.galley(at.round(), what, theme::SOFT);
    }
}

pub(super) fn dialog(
    ui: &Ui,
    dialog: &DialogBox,
    full: Rect,
    accent: Color32,
    events: &mut Vec<Event>,
) {
    let painter = ui.painter();
    painter.rect_filled(full, CornerRadius::ZERO, Color32::from_black_alpha(190));
    let (width, pad) = (760.0, 34.0);
    let inner = width - pad * 2.0;
    let mut sheet = Sheet::new(painter, inner, accent, false);
    sheet.paragraph(&dialog.title, theme::bold(30.0), theme::TEXT);
    sheet.skip(14.0);
    for sentence in &dialog.sentences {
        sheet.paragraph(sentence, theme::plain(20.0), theme::TEXT);
        sheet.skip(8.0);
    }
    sheet.skip(20.0);
    let height = sheet.height + 56.0 + pad * 2.0;
    let frame = Rect::from_center_size(full.center(), vec2(width, height)).round_ui();
    painter.rect_filled(frame, CornerRadius::same(16), theme::CARD);
    painter.rect_stroke(
        frame,
        CornerRadius::same(16),
        Stroke::new(2.0, theme::LINE),
        StrokeKind::Inside,
    );
    sheet.paint(painter, frame.min + vec2(pad, pad));

    let mut right = frame.right() - pad;
    let buttons =
        [(&dialog.yes, true, dialog.yes_focused), (&dialog.no, false, !dialog.yes_focused)];
    for (index, (word, yes, focused)) in buttons.into_iter().enumerate() {
        let ink = if focused { theme::INK } else { theme::TEXT };
        let word = galley(painter, word, theme::bold(20.0), ink, 320.0, 1);
        let size = vec2(word.size().x + 48.0, 56.0);
        let rect = Rect::from_min_size(pos2(right - size.x, frame.bottom() - pad - size.y), size);
        let fill = if focused { accent } else { theme::INSET };
        painter.rect_filled(rect, CornerRadius::same(10), fill);
        let (hit, hovered) = clicked(ui, rect, "dialog", index);
        let edge = if focused || hovered { accent } else { theme::LINE };
        painter.add(Shape::rect_stroke(
            rect,
            CornerRadius::same(10),
            Stroke::new(2.0, edge),
            StrokeKind::Inside,
        ));
        let at = rect.center() - word.size() / 2.0;
        painter.galley(at.round(), word, ink);
        if hit {
            events.push(Event::Answer(yes));
        }
        right = rect.left() - 16.0;
    }
}

trait RoundUi {
    fn round_ui(self) -> Self;
}

impl RoundUi for Rect {
    fn round_ui(self) -> Self {
        Self::from_min_max(self.min.round(), self.max.round())
    }
}
