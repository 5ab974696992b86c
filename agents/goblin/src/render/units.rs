//! `goblin units`: lists, trees and the times of a boot.

use super::words;
use crate::output::{Paint, Tone};
use goblin_core_types::{UnitDetail, UnitPhase, UnitStatus};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};

/// Width of a bar in characters.
const BAR_WIDTH: u64 = 40;
/// Most levels of a tree; deeper ones are told by a mark.
const DEPTH_MAX: usize = 32;

/// The word for a phase, and what it means.
pub const fn phase(phase: UnitPhase) -> (&'static str, Tone) {
    match phase {
        UnitPhase::Off => ("off", Tone::Dim),
        UnitPhase::Waiting => ("waiting", Tone::Warn),
        UnitPhase::Starting => ("starting", Tone::Warn),
        UnitPhase::Ready => ("ready", Tone::Good),
        UnitPhase::BackOff => ("back-off", Tone::Warn),
        UnitPhase::Stopping => ("stopping", Tone::Warn),
        UnitPhase::Failed => ("failed", Tone::Bad),
    }
}

/// Milliseconds as seconds.
pub fn seconds(ms: u64) -> String {
    format!("{}.{:03} s", ms / 1000, ms % 1000)
}

/// Where a unit stands.
pub fn sentence(unit: &UnitStatus) -> String {
    let (word, _) = phase(unit.phase);
    let detail = if unit.detail.is_empty() { String::new() } else { format!(": {}", unit.detail) };
    words::plain(&format!("{} is {word}{detail}", unit.name))
}

/// One line for each unit.
pub fn list(units: &[UnitStatus], paint: Paint) -> Vec<String> {
    let width = units.iter().map(|unit| unit.name.chars().count()).max().unwrap_or(0);
    units.iter().map(|unit| list_line(unit, width, paint)).collect()
}

fn list_line(unit: &UnitStatus, width: usize, paint: Paint) -> String {
    let (word, tone) = phase(unit.phase);
    let pid = unit.pid.map_or_else(String::new, |pid| pid.to_string());
    let restarts = match unit.restarts {
        0 => String::new(),
        count => format!(" started again {count}x"),
    };
    let detail = if unit.detail.is_empty() { &unit.description } else { &unit.detail };
    let note = match unit.note.as_str() {
        "" => String::new(),
        note => paint.paint(Tone::Warn, &format!("; {}", words::plain(note))),
    };
    format!(
        "{:<width$}  {} {pid:>6}  {}{restarts}{note}",
        words::plain(&unit.name),
        paint.paint(tone, &format!("{word:<8}")),
        words::plain(detail),
    )
}

/// Everything about one unit.
pub fn show(unit: &UnitDetail, paint: Paint) -> Vec<String> {
    let status = &unit.status;
    let (word, tone) = phase(status.phase);
    let mut lines = vec![format!(
        "{}  {}  {}",
        paint.paint(Tone::Strong, &words::plain(&status.name)),
        paint.paint(tone, word),
        words::plain(&status.description)
    )];
    let mut part = |label: &str, text: String| {
        if !text.is_empty() {
            let label = paint.paint(Tone::Dim, &format!("{label:<10}"));
            lines.push(format!("  {label} {}", words::plain(&text)));
        }
    };
    let kind = unit.kind.and_then(|kind| serde_json::to_value(kind).ok());
    let kind = kind.and_then(|kind| kind.as_str().map(str::to_owned)).unwrap_or_default();
    part("kind", if unit.critical { format!("{kind}, critical") } else { kind });
    part("wanted", if unit.wanted { "yes".into() } else { "no".into() });
    part("because", status.detail.clone());
    part("runs", unit.exec.join(" "));
    part("process", status.pid.map_or_else(String::new, |pid| pid.to_string()));
    part("requires", unit.requires.join(" "));
    part("milestone", unit.milestone.join(" "));
    part("wants", unit.wants.join(" "));
    part("after", unit.after.join(" "));
    part("started", unit.started_ms.map_or_else(String::new, seconds));
    part("ready", status.ready_ms.map_or_else(String::new, seconds));
    part("watchdog", unit.watchdog_ms.map_or_else(String::new, seconds));
    part("last end", unit.last_end.clone());
    part("set", unit.settings.trim().replace('\n', "; "));
    part("beware", status.note.clone());
    if status.restarts > 0 {
        part("restarts", status.restarts.to_string());
    }
    lines
}

/// A unit's part of the boot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BlameRow {
    /// Its name.
    pub name: String,
    /// Where it stands.
    pub phase: UnitPhase,
    /// Milliseconds after PID 1 when it was first started.
    pub started_ms: u64,
    /// Milliseconds after PID 1 when it was first ready; absent if it never was.
    pub ready_ms: Option<u64>,
    /// Milliseconds from the one to the other.
    pub took_ms: Option<u64>,
}

/// The units that were started, the slowest first; what never got ready comes before them.
pub fn blame_rows(units: &[UnitDetail]) -> Vec<BlameRow> {
    let row = |unit: &UnitDetail| {
        let started_ms = unit.started_ms?;
        let ready_ms = unit.status.ready_ms;
        Some(BlameRow {
            name: unit.status.name.clone(),
            phase: unit.status.phase,
            started_ms,
            ready_ms,
            took_ms: ready_ms.map(|ms| ms.saturating_sub(started_ms)),
        })
    };
    let mut rows: Vec<BlameRow> = units.iter().filter_map(row).collect();
    rows.sort_by_key(|row| (std::cmp::Reverse(row.took_ms.unwrap_or(u64::MAX)), row.started_ms));
    rows
}

/// The rows with bars on one time line, from PID 1's start to the last unit's readiness.
pub fn blame(rows: &[BlameRow], paint: Paint) -> Vec<String> {
    let end_ms = rows.iter().filter_map(|row| row.ready_ms).max().unwrap_or(0).max(1);
    let width = rows.iter().map(|row| row.name.chars().count()).max().unwrap_or(0).max(4);
    let mut lines =
        vec![paint.paint(
            Tone::Dim,
            &format!("{:>9}  {:<width$}  0{:>39}", "took", "unit", seconds(end_ms)),
        )];
    for row in rows {
        let place =
            |ms: u64| ms.min(end_ms).saturating_mul(BAR_WIDTH).checked_div(end_ms).unwrap_or(0);
        let first = place(row.started_ms).min(BAR_WIDTH.saturating_sub(1));
        let last = place(row.ready_ms.unwrap_or(end_ms)).clamp(first.saturating_add(1), BAR_WIDTH);
        let bar: String =
            (0..BAR_WIDTH).map(|at| if (first..last).contains(&at) { '█' } else { '·' }).collect();
        let tone = if row.ready_ms.is_some() { Tone::Good } else { Tone::Warn };
        let took = row.took_ms.map_or_else(|| phase(row.phase).0.to_owned(), seconds);
        lines.push(format!(
            "{took:>9}  {:<width$}  {}",
            words::plain(&row.name),
            paint.paint(tone, &bar)
        ));
    }
    lines
}

/// What needs what: each unit that nobody needs, and below it what it needs.
pub fn tree(units: &[UnitDetail], paint: Paint) -> Vec<String> {
    let by_name: BTreeMap<&str, &UnitDetail> =
        units.iter().map(|unit| (unit.status.name.as_str(), unit)).collect();
    let needed: BTreeSet<&str> = units.iter().flat_map(needs).map(|(_, name)| name).collect();
    let mut tree = Tree { by_name, paint, seen: BTreeSet::new(), lines: Vec::new() };
    for unit in units.iter().filter(|unit| !needed.contains(unit.status.name.as_str())) {
        tree.unit(unit, "", "", "", 0);
    }
    // Units of a circle are needed by each other; they too are shown once.
    for unit in units {
        if !tree.seen.contains(unit.status.name.as_str()) {
            tree.unit(unit, "", "", "", 0);
        }
    }
    tree.lines
}

/// What a unit needs, with the mark of the way it does.
pub fn needs(unit: &UnitDetail) -> impl Iterator<Item = (&'static str, &str)> {
    let lists = [
        ("", &unit.requires),
        ("once ", &unit.milestone),
        ("wants ", &unit.wants),
        ("after ", &unit.after),
    ];
    lists.into_iter().flat_map(|(mark, list)| list.iter().map(move |name| (mark, name.as_str())))
}

struct Tree<'a> {
    by_name: BTreeMap<&'a str, &'a UnitDetail>,
    paint: Paint,
    seen: BTreeSet<&'a str>,
    lines: Vec<String>,
}

impl<'a> Tree<'a> {
    fn unit(&mut self, unit: &'a UnitDetail, lead: &str, branch: &str, mark: &str, depth: usize) {
        let status = &unit.status;
        let (word, tone) = phase(status.phase);
        let first = self.seen.insert(&status.name);
        let ready = status.ready_ms.map_or_else(String::new, |ms| format!(" at {}", seconds(ms)));
        let more = !first && needs(unit).next().is_some();
        self.lines.push(format!(
            "{lead}{branch}{}{} {}{}{}",
            self.paint.paint(Tone::Dim, mark),
            words::plain(&status.name),
            self.paint.paint(tone, word),
            self.paint.paint(Tone::Dim, &ready),
            if more { " (above)" } else { "" },
        ));
        if !first || depth >= DEPTH_MAX {
            return;
        }
        let below = match branch {
            "" => String::new(),
            "├─ " => format!("{lead}│  "),
            _ => format!("{lead}   "),
        };
        let needs: Vec<_> = needs(unit).collect();
        for (at, (mark, name)) in needs.iter().enumerate() {
            let last = at.saturating_add(1) == needs.len();
            let branch = if last { "└─ " } else { "├─ " };
            match self.by_name.get(name).copied() {
                Some(next) => self.unit(next, &below, branch, mark, depth.saturating_add(1)),
                None => {
                    self.lines.push(format!("{below}{branch}{mark}{} absent", words::plain(name)))
                }
            }
        }
    }
}

#[cfg(test)]
#[path = "units_tests.rs"]
pub mod tests;
