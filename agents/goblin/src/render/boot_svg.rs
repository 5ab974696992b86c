//! A boot as a picture: one row for each unit, a bar from its start to its readiness, a line from what it
//! waited for. Plain SVG 1.1 without scripts or fonts of its own. Pure.

use super::units::needs;
use goblin_core_types::{UnitDetail, UnitPhase};
use std::collections::BTreeMap;
use std::fmt::Write;

/// Width of the picture, of the names beside the bars, and of the rim, in pixels.
const WIDTH: u64 = 1200;
const NAMES: u64 = 190;
const RIM: u64 = 28;
/// Height of a row, of a bar in it, and of the head above the rows.
const ROW: u64 = 30;
const BAR: u64 = 16;
const HEAD: u64 = 96;
/// Room behind the last moment, for the figure of a bar that ends there.
const TAIL: u64 = 90;
/// About so many marks on the time line.
const MARKS: u64 = 10;
/// Most units in a picture; the first ones to start.
const ROWS_MAX: usize = 400;

const STYLE: &str = "text{font-family:system-ui,sans-serif;fill:#1f2933}\
.title{font-size:20px;font-weight:600}.sub{font-size:13px;fill:#64748b}.name{font-size:13px}\
.time{font-size:11px;fill:#64748b}.grid{stroke:#e6ebf1}.need{fill:none;stroke:#94a3b8;stroke-width:1.2;opacity:.55}\
.last{stroke:#e07a1f;stroke-width:1.8;opacity:.95}";

/// A unit with a place.
struct Row<'a> {
    unit: &'a UnitDetail,
    start_ms: u64,
    ready_ms: Option<u64>,
}

/// The picture.
pub fn draw(units: &[UnitDetail], board: &str) -> String {
    let mut rows: Vec<Row<'_>> = units
        .iter()
        .filter_map(|unit| {
            Some(Row { unit, start_ms: unit.started_ms?, ready_ms: unit.status.ready_ms })
        })
        .collect();
    rows.sort_by(|a, b| {
        let key = |row: &Row<'_>| (row.start_ms, row.ready_ms.unwrap_or(u64::MAX));
        key(a).cmp(&key(b)).then_with(|| a.unit.status.name.cmp(&b.unit.status.name))
    });
    let left_out = rows.len().saturating_sub(ROWS_MAX);
    rows.truncate(ROWS_MAX);
    let end_ms = rows.iter().map(|row| row.ready_ms.unwrap_or(row.start_ms)).max().unwrap_or(0);
    let picture = Picture { rows, end_ms: end_ms.max(1), left_out };
    let mut out = String::new();
    // Writing to a String cannot fail.
    let _ = picture.write(&mut out, board);
    out
}

struct Picture<'a> {
    rows: Vec<Row<'a>>,
    end_ms: u64,
    left_out: usize,
}

impl Picture<'_> {
    fn x(&self, ms: u64) -> u64 {
        let room = WIDTH.saturating_sub(NAMES).saturating_sub(RIM).saturating_sub(TAIL);
        let at = ms.min(self.end_ms).saturating_mul(room).checked_div(self.end_ms).unwrap_or(0);
        NAMES.saturating_add(at)
    }

    /// Middle of a row.
    fn y(row: usize) -> u64 {
        let row = u64::try_from(row).unwrap_or(0);
        HEAD.saturating_add(row.saturating_mul(ROW)).saturating_add(ROW / 2)
    }

    fn write(&self, out: &mut String, board: &str) -> std::fmt::Result {
        let height = Self::y(self.rows.len()).saturating_add(RIM);
        write!(
            out,
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height}\" \
             viewBox=\"0 0 {WIDTH} {height}\">\n<style>{STYLE}</style>\n\
             <rect width=\"100%\" height=\"100%\" fill=\"#fbfcfe\"/>\n"
        )?;
        let ready = self.rows.iter().filter(|row| row.ready_ms.is_some()).count();
        let more =
            if self.left_out > 0 { format!(", {} more", self.left_out) } else { String::new() };
        writeln!(
            out,
            "<text class=\"title\" x=\"{RIM}\" y=\"38\">Boot of the {} board</text>\n\
             <text class=\"sub\" x=\"{RIM}\" y=\"60\">{ready} units ready {} after PID 1 began{more}; \
             a bar is the time from start to ready, a line what it waited for, orange the last of it</text>",
            escape(board),
            short(self.end_ms)
        )?;
        self.write_grid(out)?;
        self.write_needs(out)?;
        for (at, row) in self.rows.iter().enumerate() {
            self.write_row(out, at, row)?;
        }
        out.push_str("</svg>\n");
        Ok(())
    }

    fn write_grid(&self, out: &mut String) -> std::fmt::Result {
        let step = step_ms(self.end_ms);
        let bottom = Self::y(self.rows.len());
        let marks = (0..=MARKS).map(|mark| mark.saturating_mul(step));
        for ms in marks.take_while(|ms| *ms <= self.end_ms) {
            let x = self.x(ms);
            let (top, text) = (HEAD.saturating_sub(4), HEAD.saturating_sub(10));
            writeln!(
                out,
                "<line class=\"grid\" x1=\"{x}\" x2=\"{x}\" y1=\"{top}\" y2=\"{bottom}\"/>\
                 <text class=\"time\" x=\"{x}\" y=\"{text}\" text-anchor=\"middle\">{}</text>",
                short(ms)
            )?;
        }
        Ok(())
    }

    /// A curve from the end of each bar to the start of those that waited for it.
    fn write_needs(&self, out: &mut String) -> std::fmt::Result {
        let places: BTreeMap<&str, usize> = self
            .rows
            .iter()
            .enumerate()
            .map(|(at, row)| (row.unit.status.name.as_str(), at))
            .collect();
        for (at, row) in self.rows.iter().enumerate() {
            let needed = needs(row.unit).filter_map(|(_, name)| {
                let place = *places.get(name)?;
                let ready_ms = self.rows.get(place)?.ready_ms.filter(|ms| *ms <= row.start_ms)?;
                Some((ready_ms, place))
            });
            let mut needed: Vec<(u64, usize)> = needed.collect();
            needed.sort_unstable();
            needed.dedup();
            let last = needed.last().copied();
            for (ready_ms, place) in needed {
                let class = if last == Some((ready_ms, place)) { "need last" } else { "need" };
                let (x1, y1) = (self.x(ready_ms), Self::y(place));
                let (x2, y2) = (self.x(row.start_ms), Self::y(at));
                let (bend1, bend2) = (x1.saturating_add(18), x2.saturating_sub(18));
                writeln!(
                    out,
                    "<path class=\"{class}\" d=\"M{x1} {y1} C{bend1} {y1} {bend2} {y2} {x2} {y2}\"/>"
                )?;
            }
        }
        Ok(())
    }

    fn write_row(&self, out: &mut String, at: usize, row: &Row<'_>) -> std::fmt::Result {
        let status = &row.unit.status;
        let y = Self::y(at);
        let (x, top) = (self.x(row.start_ms), y.saturating_sub(BAR / 2));
        let end = row.ready_ms.map_or_else(|| self.x(self.end_ms), |ms| self.x(ms));
        let width = end.saturating_sub(x).max(3);
        let colour = colour(status.phase, row.ready_ms.is_some());
        let took = row
            .ready_ms
            .map_or_else(|| "not ready".to_owned(), |ms| short(ms.saturating_sub(row.start_ms)));
        let (text_x, text_y) = (x.saturating_add(width).saturating_add(6), y.saturating_add(4));
        let name_x = NAMES.saturating_sub(14);
        writeln!(
            out,
            "<g><title>{}: {}</title>\
             <text class=\"name\" x=\"{name_x}\" y=\"{text_y}\" text-anchor=\"end\">{}</text>\
             <rect x=\"{x}\" y=\"{top}\" width=\"{width}\" height=\"{BAR}\" rx=\"3\" fill=\"{colour}\"/>\
             <text class=\"time\" x=\"{text_x}\" y=\"{text_y}\">{took}</text></g>",
            escape(&status.name),
            escape(&status.description),
            escape(&status.name),
        )
    }
}

const fn colour(phase: UnitPhase, was_ready: bool) -> &'static str {
    match (phase, was_ready) {
        (UnitPhase::Failed | UnitPhase::BackOff, _) => "#d64545",
        (_, true) => "#3f8f6b",
        (_, false) => "#d9a520",
    }
}

/// A round step of 1, 2 or 5 times a power of ten.
fn step_ms(end_ms: u64) -> u64 {
    let mut step = 1u64;
    for factor in [2, 5, 10].into_iter().cycle().take(60) {
        if end_ms.checked_div(step).unwrap_or(0) <= MARKS {
            break;
        }
        let power = 10u64.saturating_pow(step.checked_ilog10().unwrap_or(0));
        step = power.saturating_mul(factor);
    }
    step.max(1)
}

fn short(ms: u64) -> String {
    if ms < 1000 { format!("{ms} ms") } else { format!("{}.{:02} s", ms / 1000, ms % 1000 / 10) }
}

/// Text of a board inside XML; characters that XML has no place for are left out.
fn escape(text: &str) -> String {
    let mut out = String::new();
    for letter in text.chars().filter(|letter| !letter.is_control()) {
        match letter {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            other => out.push(other),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::super::units::tests::unit;
    use super::*;

    #[test]
    fn a_boot_has_a_bar_for_each_unit_and_a_line_for_each_wait() {
        let units = [
            unit("state", &[], Some((0, Some(100)))),
            unit("pool", &["state"], Some((100, Some(900)))),
            unit("share<", &["pool", "state"], Some((900, None))),
            unit("off", &["share<"], None),
        ];
        let picture = draw(&units, "storage");
        assert_eq!(picture.matches("<rect x=").count(), 3);
        assert_eq!(picture.matches("<path").count(), 3);
        assert_eq!(picture.matches("need last").count(), 2);
        assert!(picture.contains("share&lt;") && !picture.contains("share<"));
        assert!(picture.contains("not ready"));
    }

    #[test]
    fn an_empty_boot_and_a_huge_one_are_drawn() {
        assert!(draw(&[], "local").ends_with("</svg>\n"));
        let units: Vec<UnitDetail> =
            (0..1000).map(|at| unit(&format!("u{at}"), &[], Some((at, Some(u64::MAX))))).collect();
        let picture = draw(&units, "local");
        assert!(picture.contains("600 more") && picture.len() < 1 << 20);
    }

    #[test]
    fn steps_are_round() {
        for (end_ms, step) in [(1, 1), (10, 1), (11, 2), (99, 10), (1234, 200), (9_999, 1000)] {
            assert_eq!(step_ms(end_ms), step, "{end_ms}");
        }
    }
}
