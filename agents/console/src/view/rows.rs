//! The page itself: bands of cards, scrolled as one.

use super::sheet::{Sheet, galley, pill};
use super::{art, clicked, theme};
use crate::content::{Cable, Card, LogRow, MenuItem, Poster, Row, Screen};
use crate::model::Event;
use crate::words::Tone;
use egui::{
    Align2, Color32, CornerRadius, Painter, Pos2, Rect, Stroke, StrokeKind, Ui, pos2, vec2,
};

/// Width of the space between the two boards, where the cable is drawn.
const CABLE_WIDTH: f32 = 132.0;
/// Width of the title of a band.
const BAND_TITLE_WIDTH: f32 = 146.0;
/// Space above and below what is in a band.
const BAND_PAD: f32 = 15.0;
/// Side of a card's picture.
const ICON: f32 = 42.0;

pub(super) fn draw(ui: &Ui, screen: &Screen, area: Rect, accent: Color32, events: &mut Vec<Event>) {
    let full = ui.painter().clip_rect();
    let clip = Rect::from_x_y_ranges(full.x_range(), (area.top() - 4.0)..=(area.bottom() + 4.0));
    let painter = ui.painter().with_clip_rect(clip.intersect(full));
    let page = Page { ui, painter, accent, width: area.width(), clip };
    let mut y = area.top() - screen.scroll.round();
    let top = y;
    for row in &screen.body {
        let at = pos2(area.left(), y);
        y += match row {
            Row::Pair { left, cable, right } => page.pair(at, left, cable, right),
            Row::Cards(cards) => page.cards(at, cards),
            Row::Band(card) => page.band(at, card),
            Row::Poster(poster) => page.poster(at, poster, area.height()),
            Row::Log(lines) => page.log(at, lines),
            Row::Menu { items, side } => page.menu(at, items, side, events),
        };
        y += theme::GAP;
    }
    let length = y - theme::GAP - top;
    let range = (length - area.height()).max(0.0).ceil();
    events.push(Event::Range(range));
    if range > 0.0 {
        thumb(ui.painter(), area, length, screen.scroll.min(range));
    }
}

/// A thin mark at the right edge: where the visible part is in the whole.
fn thumb(painter: &Painter, area: Rect, length: f32, scroll: f32) {
    let x = area.right() + theme::MARGIN / 2.0 - 3.0;
    let rail = Rect::from_min_size(pos2(x, area.top()), vec2(6.0, area.height()));
    painter.rect_filled(rail, CornerRadius::same(3), theme::CARD);
    let height = (area.height() * area.height() / length).max(28.0);
    let y = area.top() + scroll / (length - area.height()).max(1.0) * (area.height() - height);
    let mark = Rect::from_min_size(pos2(x, y), vec2(6.0, height));
    painter.rect_filled(mark, CornerRadius::same(3), theme::SOFT);
}

struct Page<'a> {
    ui: &'a Ui,
    painter: Painter,
    accent: Color32,
    width: f32,
    clip: Rect,
}

impl Page<'_> {
    fn card_sheet<'a>(&'a self, card: &Card, width: f32) -> Sheet<'a> {
        let inner = width - theme::PAD * 2.0;
        let mut sheet = Sheet::new(&self.painter, inner, self.accent, card.stale);
        let mut left = 0.0;
        let mut head = 34.0;
        if let Some(icon) = card.icon {
            let colour = if card.stale { theme::SOFT } else { self.accent };
            sheet.add(art::icon(icon, pos2(0.0, 2.0), ICON, colour));
            left = ICON + 16.0;
            head = ICON + 9.0;
        }
        let mut room = inner - left;
        if let Some(badge) = &card.badge {
            let top = if card.icon.is_some() { 4.0 } else { -2.0 };
            let (shapes, size) = pill(&self.painter, badge, pos2(inner, top), 19.0, inner * 0.6);
            sheet.add(shapes);
            room -= size.x + 16.0;
        }
        let title_colour = if card.stale { theme::SOFT } else { theme::TEXT };
        let title = sheet.galley(&card.title, theme::bold(23.0), title_colour, room, 1);
        let subtitle_room = if card.icon.is_some() { room } else { room - title.size().x - 16.0 };
        // Below a picture there is room for a long host name; beside a title there is not.
        let rows = if card.icon.is_some() { 2 } else { 1 };
        let subtitle =
            sheet.galley(&card.subtitle, theme::plain(17.0), theme::SOFT, subtitle_room, rows);
        if card.icon.is_some() {
            head = head.max(25.0 + subtitle.size().y + 4.0);
        }
        let beside = pos2(left + title.size().x + 16.0, 5.0);
        match card.icon {
            Some(_) if card.subtitle.is_empty() => sheet.put(pos2(left, 9.0), title),
            Some(_) => {
                sheet.put(pos2(left, -3.0), title);
                sheet.put(pos2(left, 25.0), subtitle);
            }
            None => {
                sheet.put(pos2(left, 1.0), title);
                if subtitle_room > 40.0 {
                    sheet.put(beside, subtitle);
                }
            }
        }
        sheet.skip(head);
        for part in &card.parts {
            sheet.skip(11.0);
            sheet.part(part);
        }
        sheet
    }

    fn frame(&self, rect: Rect, stale: bool) {
        let fill = if stale { theme::mix(theme::GROUND, theme::CARD, 0.55) } else { theme::CARD };
        self.painter.rect_filled(rect, CornerRadius::same(14), fill);
        let edge = Stroke::new(1.0, theme::LINE);
        self.painter.rect_stroke(rect, CornerRadius::same(14), edge, StrokeKind::Inside);
    }

    fn place(&self, sheet: Sheet<'_>, rect: Rect, stale: bool) {
        if rect.bottom() < self.clip.top() || rect.top() > self.clip.bottom() {
            return;
        }
        self.frame(rect, stale);
        sheet.paint(&self.painter, rect.min + vec2(theme::PAD, theme::PAD));
    }

    fn pair(&self, at: Pos2, left: &Card, cable: &Cable, right: &Card) -> f32 {
        let width = ((self.width - CABLE_WIDTH) / 2.0).floor();
        let sheets = [self.card_sheet(left, width), self.card_sheet(right, width)];
        let height = tallest(sheets.iter().map(|s| s.height));
        let [first, second] = sheets;
        let rects = [at.x, at.x + self.width - width]
            .map(|x| Rect::from_min_size(pos2(x, at.y), vec2(width, height)));
        let [left_rect, right_rect] = rects;
        self.place(first, left_rect, left.stale);
        self.place(second, right_rect, right.stale);
        self.cable(cable, left_rect, right_rect);
        height
    }

    fn cable(&self, cable: &Cable, left: Rect, right: Rect) {
        let y = left.top() + left.height() * 0.36;
        let (from, to) = (pos2(left.right(), y), pos2(right.left(), y));
        self.painter.extend(art::cable(cable.badge.tone, from, to));
        let middle = (from.x + to.x) / 2.0;
        let room = to.x - from.x - 10.0;
        let mut top = y + 32.0;
        let colour = theme::tone(cable.badge.tone);
        let texts = [
            (&cable.badge.word, theme::bold(19.0), colour),
            (&cable.detail, theme::plain(17.0), theme::SOFT),
        ];
        for (text, font, colour) in texts {
            if text.is_empty() {
                continue;
            }
            let mut job = egui::text::LayoutJob::simple(text.clone(), font, colour, room);
            job.halign = egui::Align::Center;
            job.wrap.max_rows = 3;
            let laid = self.painter.layout_job(job);
            let height = laid.size().y;
            self.painter.galley(pos2(middle, top).round(), laid, colour);
            top += height + 3.0;
        }
    }

    fn cards(&self, at: Pos2, cards: &[(u16, Card)]) -> f32 {
        let total: f32 = cards.iter().map(|c| f32::from(c.0)).sum::<f32>().max(1.0);
        let space = self.width - theme::GAP * cards.len().saturating_sub(1) as f32;
        let sheets: Vec<_> = cards
            .iter()
            .map(|(share, card)| {
                let width = (space * f32::from(*share) / total).floor();
                (self.card_sheet(card, width), width, card.stale)
            })
            .collect();
        let height = tallest(sheets.iter().map(|(s, ..)| s.height));
        let mut x = at.x;
        for (sheet, width, stale) in sheets {
            self.place(sheet, Rect::from_min_size(pos2(x, at.y), vec2(width, height)), stale);
            x += width + theme::GAP;
        }
        height
    }

    fn band(&self, at: Pos2, card: &Card) -> f32 {
        let inner = self.width - theme::PAD * 2.0;
        let mut head = Sheet::new(&self.painter, BAND_TITLE_WIDTH, self.accent, card.stale);
        head.paragraph(&card.title, theme::bold(19.0), theme::TEXT);
        if !card.subtitle.is_empty() {
            head.paragraph(&card.subtitle, theme::plain(17.0), theme::SOFT);
        }
        let left = BAND_TITLE_WIDTH + 16.0;
        let mut body = Sheet::new(&self.painter, inner - left, self.accent, card.stale);
        for (index, part) in card.parts.iter().enumerate() {
            body.skip(if index == 0 { 0.0 } else { 11.0 });
            body.part(part);
        }
        let height = (head.height.max(body.height) + BAND_PAD * 2.0).round();
        let rect = Rect::from_min_size(at, vec2(self.width, height));
        if rect.bottom() >= self.clip.top() && rect.top() <= self.clip.bottom() {
            self.frame(rect, card.stale);
            // A single line stands in the middle, a list starts beside its title.
            let body_top = (height - body.height) / 2.0;
            head.paint(&self.painter, at + vec2(theme::PAD, BAND_PAD));
            body.paint(&self.painter, at + vec2(theme::PAD + left, body_top));
        }
        height
    }

    fn poster(&self, at: Pos2, poster: &Poster, room: f32) -> f32 {
        let pad = 64.0;
        let inner = (self.width - pad * 2.0).min(960.0);
        let mut sheet = Sheet::new(&self.painter, inner, self.accent, false);
        sheet.add(art::sign(poster.tone, pos2(34.0, 34.0), 60.0, theme::CARD));
        sheet.skip(88.0);
        sheet.paragraph(&poster.headline, theme::bold(54.0), theme::TEXT);
        sheet.skip(14.0);
        for sentence in &poster.sentences {
            sheet.paragraph(sentence, theme::plain(25.0), theme::TEXT);
            sheet.skip(12.0);
        }
        if !poster.remedy.is_empty() {
            sheet.skip(16.0);
            sheet.paragraph("What to do", theme::bold(25.0), self.accent);
            sheet.skip(10.0);
        }
        for (index, step) in poster.remedy.iter().enumerate() {
            let number = sheet.galley(
                &format!("{}", index.saturating_add(1)),
                theme::bold(22.0),
                theme::SOFT,
                30.0,
                1,
            );
            let text = sheet.galley(step, theme::plain(22.0), theme::TEXT, inner - 36.0, 3);
            let (y, height) = (sheet.height, text.size().y);
            sheet.put(pos2(0.0, y), number);
            sheet.put(pos2(36.0, y), text);
            sheet.skip(height + 10.0);
        }
        let height = (sheet.height + pad * 1.5).max(room);
        let rect = Rect::from_min_size(at, vec2(self.width, height));
        self.frame(rect, false);
        let top = ((height - sheet.height) / 2.0).clamp(24.0, 90.0);
        sheet.paint(&self.painter, at + vec2((self.width - inner) / 2.0, top));
        height
    }

    fn log(&self, at: Pos2, lines: &[LogRow]) -> f32 {
        let inner = self.width - theme::PAD * 2.0;
        let columns = [0.0, 96.0, 220.0, 330.0];
        let mut y = at.y + 16.0;
        let mut rows = Vec::new();
        let [at_x, unit_x, level_x, text_x] = columns;
        for line in lines {
            let colour =
                if line.tone == Tone::Quiet { theme::TEXT } else { theme::tone(line.tone) };
            let text =
                galley(&self.painter, &line.text, theme::mono(16.0), colour, inner - text_x, 4);
            let height = text.size().y + 6.0;
            // Only what can be seen is laid out in full.
            if y + height >= self.clip.top() && y <= self.clip.bottom() {
                let soft = theme::SOFT;
                let tone = theme::tone(line.tone);
                rows.push((
                    at_x,
                    y,
                    galley(&self.painter, &line.at, theme::mono(16.0), soft, 90.0, 1),
                ));
                rows.push((
                    unit_x,
                    y,
                    galley(&self.painter, &line.unit, theme::mono(16.0), soft, 116.0, 1),
                ));
                rows.push((
                    level_x,
                    y,
                    galley(&self.painter, line.level, theme::mono(16.0), tone, 100.0, 1),
                ));
                rows.push((text_x, y, text));
            }
            y += height;
        }
        let height = y - at.y + 12.0;
        self.frame(Rect::from_min_size(at, vec2(self.width, height)), false);
        for (x, y, galley) in rows {
            self.painter.galley(pos2(at.x + theme::PAD + x, y).round(), galley, theme::TEXT);
        }
        height
    }

    fn menu(&self, at: Pos2, items: &[MenuItem], side: &Card, events: &mut Vec<Event>) -> f32 {
        let width = (self.width * 0.52).floor();
        let (height, gap) = (72.0, 10.0);
        let mut y = at.y;
        for (index, item) in items.iter().enumerate() {
            let rect = Rect::from_min_size(pos2(at.x, y), vec2(width, height));
            let (hit, hovered) = clicked(self.ui, rect.intersect(self.clip), "order", index);
            if hit {
                events.push(Event::Pick(index));
            }
            self.menu_item(item, rect, hovered);
            y += height + gap;
        }
        let list = y - gap - at.y;
        let side_width = self.width - width - theme::GAP;
        let sheet = self.card_sheet(side, side_width);
        let side_height = (sheet.height + theme::PAD * 2.0).max(list);
        let rect = Rect::from_min_size(
            pos2(at.x + width + theme::GAP, at.y),
            vec2(side_width, side_height),
        );
        self.place(sheet, rect, side.stale);
        side_height
    }

    fn menu_item(&self, item: &MenuItem, rect: Rect, hovered: bool) {
        let round = CornerRadius::same(12);
        let fill = match (item.selected, hovered && item.enabled) {
            (true, _) => theme::mix(theme::CARD, self.accent, 0.16),
            (false, true) => theme::mix(theme::CARD, theme::TEXT, 0.06),
            (false, false) => theme::CARD,
        };
        let edge = if item.selected {
            Stroke::new(2.5, self.accent)
        } else {
            Stroke::new(1.0, theme::LINE)
        };
        self.painter.rect_filled(rect, round, fill);
        self.painter.rect_stroke(rect, round, edge, StrokeKind::Inside);
        let colour =
            if item.enabled { theme::TEXT } else { theme::mix(theme::CARD, theme::SOFT, 0.8) };
        let room = rect.width() - 70.0;
        let title = galley(&self.painter, &item.title, theme::bold(20.0), colour, room, 1);
        let detail = galley(&self.painter, &item.detail, theme::plain(17.0), theme::SOFT, room, 1);
        self.painter.galley((rect.min + vec2(20.0, 9.0)).round(), title, colour);
        self.painter.galley((rect.min + vec2(20.0, 39.0)).round(), detail, colour);
        if item.enabled {
            let at = pos2(rect.right() - 24.0, rect.center().y);
            let tint = if item.selected { self.accent } else { theme::SOFT };
            self.painter.text(at, Align2::CENTER_CENTER, "›", theme::bold(28.0), tint);
        }
    }
}

fn tallest(heights: impl Iterator<Item = f32>) -> f32 {
    (heights.fold(0.0, f32::max) + theme::PAD * 2.0).round()
}
