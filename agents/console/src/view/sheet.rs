//! A strip of shapes laid out from top to bottom, measured first and placed afterwards, so that cards
//! side by side can have one height.

use super::{art, theme};
use crate::content::{Cell, Happening, Part};
use crate::words::{Badge, Tone};
use egui::text::{LayoutJob, TextFormat, TextWrapping};
use egui::{
    Align, Color32, CornerRadius, FontId, Galley, Painter, Pos2, Rect, Shape, Stroke, StrokeKind,
    Vec2, pos2, vec2,
};
use std::sync::Arc;

/// Rows to which a text may wrap.
const TEXT_ROWS_MAX: usize = 8;
/// Space between commands: more than between the lines of one that is wrapped.
const COMMAND_GAP: f32 = 10.0;
/// Space between the lines of a log.
const LINE_GAP: f32 = 5.0;
/// Space between two events.
const EVENT_GAP: f32 = 9.0;
/// Shortest bar that is drawn on one line with its name and numbers.
const INLINE_BAR_MIN: f32 = 110.0;
/// Width of the names of facts.
const LABEL_WIDTH: f32 = 138.0;

/// Shapes from `y` 0 downwards, `width` points wide.
pub struct Sheet<'a> {
    painter: &'a Painter,
    width: f32,
    /// Points used so far.
    pub height: f32,
    shapes: Vec<Shape>,
    text: Color32,
    accent: Color32,
}

impl<'a> Sheet<'a> {
    /// An empty strip. Dim strips show what is no longer current.
    pub fn new(painter: &'a Painter, width: f32, accent: Color32, dim: bool) -> Self {
        let text = if dim { theme::SOFT } else { theme::TEXT };
        Self { painter, width: width.max(1.0), height: 0.0, shapes: Vec::new(), text, accent }
    }

    /// Lays a text out, wrapped at `width` and cut with an ellipsis after `rows`.
    pub fn galley(
        &self,
        text: &str,
        font: FontId,
        colour: Color32,
        width: f32,
        rows: usize,
    ) -> Arc<Galley> {
        galley(self.painter, text, font, colour, width, rows)
    }

    /// Adds shapes made for this strip.
    pub fn add(&mut self, shapes: impl IntoIterator<Item = Shape>) {
        self.shapes.extend(shapes);
    }

    /// Moves on.
    pub fn skip(&mut self, points: f32) {
        self.height += points;
    }

    /// Puts a laid out text at a place.
    pub fn put(&mut self, at: Pos2, galley: Arc<Galley>) {
        self.shapes.push(Shape::galley(at.round(), galley, theme::TEXT));
    }

    /// Draws the strip with its top left corner at `at`.
    pub fn paint(self, painter: &Painter, at: Pos2) {
        let by = at.round().to_vec2();
        painter.extend(self.shapes.into_iter().map(|mut shape| {
            shape.translate(by);
            shape
        }));
    }

    /// A wrapped text across the whole width.
    pub fn paragraph(&mut self, text: &str, font: FontId, colour: Color32) {
        let galley = self.galley(text, font, colour, self.width, TEXT_ROWS_MAX);
        let height = galley.size().y;
        self.put(pos2(0.0, self.height), galley);
        self.skip(height);
    }

    /// A part of a card.
    pub fn part(&mut self, part: &Part) {
        match part {
            Part::Note(tone, text) => self.note(*tone, text),
            Part::Text(text) => self.paragraph(text, theme::plain(18.0), theme::SOFT),
            Part::Heading(text) => {
                self.skip(4.0);
                self.paragraph(text, theme::bold(18.0), self.text);
            }
            Part::Fact(label, value) => self.fact(label, value),
            Part::Bar { label, permille, text, tone } => self.bar(label, *permille, text, *tone),
            Part::Slots(slots) => self.slots(slots),
            Part::Table { columns, rows } => self.table(columns, rows),
            Part::Events(events) => self.events(events),
            Part::Code(lines) => self.inset(lines, 17.0, COMMAND_GAP, 3, self.accent),
            Part::Lines(lines) => self.inset(lines, 15.0, LINE_GAP, 2, theme::TEXT),
        }
    }

    fn note(&mut self, tone: Tone, text: &str) {
        let font = theme::plain(19.0);
        let indent = 32.0;
        let colour = if tone == Tone::Quiet { theme::SOFT } else { theme::TEXT };
        let galley = self.galley(text, font, colour, self.width - indent, TEXT_ROWS_MAX);
        let first = first_row(&galley);
        let centre = pos2(11.0, self.height + first / 2.0);
        self.add(art::sign(tone, centre, 21.0, theme::CARD));
        let height = galley.size().y;
        self.put(pos2(indent, self.height), galley);
        self.skip(height);
    }

    fn fact(&mut self, label: &str, value: &str) {
        let name = self.galley(label, theme::plain(18.0), theme::SOFT, LABEL_WIDTH - 8.0, 2);
        let width = self.width - LABEL_WIDTH;
        let value = self.galley(value, theme::plain(18.0), self.text, width, TEXT_ROWS_MAX);
        let height = name.size().y.max(value.size().y);
        self.put(pos2(0.0, self.height), name);
        self.put(pos2(LABEL_WIDTH, self.height), value);
        self.skip(height);
    }

    fn events(&mut self, events: &[Happening]) {
        let font = || theme::plain(19.0);
        let column = |text: &str, colour| self.galley(text, font(), colour, 190.0, 1);
        let laid: Vec<_> = events
            .iter()
            .map(|e| (column(&e.at, theme::SOFT), column(e.who, self.text), e))
            .collect();
        let widest =
            |least: f32, widths: &mut dyn Iterator<Item = f32>| widths.fold(least, f32::max);
        let who_left = widest(46.0, &mut laid.iter().map(|l| l.0.size().x)) + 16.0;
        let sign_left = who_left + widest(0.0, &mut laid.iter().map(|l| l.1.size().x)) + 16.0;
        let text_left = sign_left + 28.0;
        for (index, (at, who, event)) in laid.into_iter().enumerate() {
            self.skip(if index == 0 { 0.0 } else { EVENT_GAP });
            let mut job = LayoutJob::default();
            let mut add = |text: &str, colour| {
                let mut format = TextFormat::simple(font(), colour);
                format.valign = Align::Center;
                job.append(text, 0.0, format);
            };
            add(&event.badge.word, self.text);
            if !event.reason.is_empty() {
                add(": ", self.text);
                add(&event.reason, theme::SOFT);
            }
            job.wrap.max_width = (self.width - text_left).max(8.0);
            job.wrap.max_rows = 2;
            let text = self.painter.layout_job(job);
            let centre = pos2(sign_left + 10.0, self.height + first_row(&text) / 2.0);
            self.add(art::sign(event.badge.tone, centre, 19.0, theme::CARD));
            let height = text.size().y;
            self.put(pos2(0.0, self.height), at);
            self.put(pos2(who_left, self.height), who);
            self.put(pos2(text_left, self.height), text);
            self.skip(height);
        }
    }

    fn bar(&mut self, label: &str, permille: u16, text: &str, tone: Tone) {
        let text = self.galley(text, theme::plain(18.0), self.text, self.width * 0.6, 1);
        let short = self.galley(label, theme::plain(18.0), theme::SOFT, f32::INFINITY, 1);
        let room = self.width - LABEL_WIDTH - text.size().x - 16.0;
        if short.size().x < LABEL_WIDTH - 8.0 && room >= INLINE_BAR_MIN {
            let height = short.size().y;
            let line = Rect::from_min_size(
                pos2(LABEL_WIDTH, self.height + (height - 12.0) / 2.0),
                vec2(room, 12.0),
            );
            self.gauge(line, permille, tone);
            self.put(pos2(0.0, self.height), short);
            self.put(pos2(self.width - text.size().x, self.height), text);
            self.skip(height);
            return;
        }
        let left = self.width - text.size().x - 16.0;
        let name = self.galley(label, theme::plain(18.0), theme::SOFT, left, 2);
        let height = name.size().y.max(text.size().y);
        let at = pos2(self.width - text.size().x, self.height);
        self.put(pos2(0.0, self.height), name);
        self.put(at, text);
        self.skip(height + 7.0);
        let whole = Rect::from_min_size(pos2(0.0, self.height), vec2(self.width, 12.0));
        self.gauge(whole, permille, tone);
        self.skip(13.0);
    }

    fn gauge(&mut self, whole: Rect, permille: u16, tone: Tone) {
        let share = whole.width() * f32::from(permille.min(1000)) / 1000.0;
        let round = CornerRadius::same(6);
        self.add([Shape::rect_filled(whole, round, theme::LINE)]);
        if share >= 1.0 {
            let done = Rect::from_min_size(whole.min, vec2(share.max(12.0), whole.height()));
            self.add([Shape::rect_filled(done, round, theme::tone(tone))]);
        }
    }

    fn slots(&mut self, slots: &[(String, Badge)]) {
        let gap = 10.0;
        let count = slots.len().clamp(1, 4);
        let columns = count.max(3) as f32;
        let width = (self.width - gap * (columns - 1.0)) / columns;
        let top = self.height;
        let mut height = 0.0f32;
        let laid: Vec<_> = slots
            .iter()
            .take(count)
            .map(|(version, badge)| {
                let points = if version.chars().count() > 6 { 17.0 } else { 22.0 };
                let version = self.galley(version, theme::bold(points), self.text, width - 24.0, 1);
                let word = self.galley(
                    &badge.word,
                    theme::plain(16.0),
                    theme::tone(badge.tone),
                    width - 24.0,
                    2,
                );
                height = height.max(version.size().y + word.size().y + 18.0);
                (version, word, badge.tone)
            })
            .collect();
        for (index, (version, word, tone)) in laid.into_iter().enumerate() {
            let left = index as f32 * (width + gap);
            let tile = Rect::from_min_size(pos2(left, top), vec2(width, height));
            let running = index == 0;
            let frame =
                if running { Stroke::new(2.0, self.accent) } else { Stroke::new(1.0, theme::LINE) };
            self.add([
                Shape::rect_filled(tile, CornerRadius::same(8), theme::INSET),
                Shape::rect_stroke(tile, CornerRadius::same(8), frame, StrokeKind::Inside),
            ]);
            let below = top + 8.0 + version.size().y;
            // The word says it too: where the version needs the room, the sign gives way.
            if tone != Tone::Quiet && version.size().x + 44.0 < width {
                let centre = pos2(tile.right() - 19.0, top + 8.0 + version.size().y / 2.0);
                self.add(art::sign(tone, centre, 16.0, theme::INSET));
            }
            self.put(pos2(left + 12.0, top + 8.0), version);
            self.put(pos2(left + 12.0, below), word);
        }
        self.skip(height);
    }

    fn table(&mut self, columns: &[(&'static str, u16)], rows: &[Vec<Cell>]) {
        let gap = 14.0;
        let total: f32 = columns.iter().map(|c| f32::from(c.1)).sum::<f32>().max(1.0);
        let space = self.width - gap * columns.len().saturating_sub(1) as f32;
        let widths: Vec<f32> = columns.iter().map(|c| space * f32::from(c.1) / total).collect();
        let mut left = 0.0;
        for ((title, _), width) in columns.iter().zip(&widths) {
            let galley = self.galley(title, theme::plain(16.0), theme::SOFT, *width, 1);
            self.put(pos2(left, self.height), galley);
            left += width + gap;
        }
        self.skip(25.0);
        if rows.is_empty() {
            self.rule();
            self.paragraph("none", theme::plain(18.0), theme::SOFT);
        }
        for row in rows {
            self.rule();
            let mut left = 0.0;
            let mut height = 0.0f32;
            for (cell, width) in row.iter().zip(&widths) {
                height = height.max(self.cell(cell, left, *width));
                left += width + gap;
            }
            self.skip(height);
        }
    }

    fn cell(&mut self, cell: &Cell, left: f32, width: f32) -> f32 {
        let marked = cell.tone != Tone::Quiet;
        let indent = if marked { 24.0 } else { 0.0 };
        let galley = self.galley(&cell.text, theme::plain(17.0), self.text, width - indent, 3);
        if marked {
            let centre = pos2(left + 9.0, self.height + first_row(&galley) / 2.0);
            self.add(art::sign(cell.tone, centre, 17.0, theme::CARD));
        }
        let height = galley.size().y;
        self.put(pos2(left + indent, self.height), galley);
        height
    }

    fn rule(&mut self) {
        self.skip(5.0);
        let y = self.height.round() + 0.5;
        self.add([Shape::line_segment(
            [pos2(0.0, y), pos2(self.width, y)],
            Stroke::new(1.0, theme::LINE),
        )]);
        self.skip(7.0);
    }

    fn inset(&mut self, lines: &[String], points: f32, gap: f32, rows: usize, colour: Color32) {
        let pad = vec2(14.0, 9.0);
        let width = self.width - pad.x * 2.0;
        let laid: Vec<_> = lines
            .iter()
            .map(|l| self.galley(l, theme::mono(points), colour, width, rows))
            .collect();
        let height: f32 = laid.iter().map(|g| g.size().y + gap).sum();
        let frame = Rect::from_min_size(
            pos2(0.0, self.height),
            vec2(self.width, height + pad.y * 2.0 - gap),
        );
        self.add([Shape::rect_filled(frame, CornerRadius::same(8), theme::INSET)]);
        let mut y = self.height + pad.y;
        for galley in laid {
            let by = galley.size().y + gap;
            self.put(pos2(pad.x, y), galley);
            y += by;
        }
        self.skip(frame.height());
    }
}

/// Lays a text out, wrapped at `width` and cut with an ellipsis after `rows`.
pub fn galley(
    painter: &Painter,
    text: &str,
    font: FontId,
    colour: Color32,
    width: f32,
    rows: usize,
) -> Arc<Galley> {
    let mut format = TextFormat::simple(font, colour);
    format.valign = Align::Center;
    let mut job = LayoutJob::single_section(text.to_owned(), format);
    // A word longer than the row, such as a path, breaks anywhere; only one-row texts are cut.
    job.wrap = TextWrapping {
        max_width: width.max(8.0),
        max_rows: rows,
        break_anywhere: rows == 1,
        ..Default::default()
    };
    painter.layout_job(job)
}

/// Height of the first row: where a sign beside the text belongs.
fn first_row(galley: &Galley) -> f32 {
    galley.rows.first().map_or(0.0, |row| row.rect().height())
}

/// A pill with a sign and a word; its right top corner is at `right_top`. Returns its size.
pub fn pill(
    painter: &Painter,
    badge: &Badge,
    right_top: Pos2,
    points: f32,
    width_max: f32,
) -> (Vec<Shape>, Vec2) {
    let colour = theme::tone(badge.tone);
    let sign = points * 1.05;
    let word =
        galley(painter, &badge.word, theme::bold(points), colour, width_max - sign - 40.0, 1);
    let size = vec2(word.size().x + sign + 38.0, word.size().y + 14.0);
    let rect = Rect::from_min_size(pos2(right_top.x - size.x, right_top.y), size);
    let round = CornerRadius::same((size.y / 2.0).min(120.0) as u8);
    let ground = theme::mix(theme::CARD, colour, 0.14);
    let mut shapes = vec![
        Shape::rect_filled(rect, round, ground),
        Shape::rect_stroke(
            rect,
            round,
            Stroke::new(1.5, theme::mix(theme::CARD, colour, 0.55)),
            StrokeKind::Inside,
        ),
    ];
    shapes.extend(art::sign(
        badge.tone,
        pos2(rect.left() + 15.0 + sign / 2.0, rect.center().y),
        sign,
        ground,
    ));
    let at = pos2(rect.left() + sign + 23.0, rect.center().y - word.size().y / 2.0);
    shapes.push(Shape::galley(at.round(), word, theme::TEXT));
    (shapes, size)
}
