//! What happened: the upgrades and rollbacks of both boards as one list, newest first.

use super::Happening;
use crate::clock;
use crate::model::Model;
use crate::words::{self, Badge};
use goblin_core_types::{BoardStatus, REPORTS_KEPT_MAX, Role, UpdateOutcome, UpdateReport};

/// Both boards report the same step within this time: one event of both. The second one starts only
/// after the first proved itself, which takes minutes.
const TOGETHER_S: u64 = 3600;
/// Characters of an event, its reason included; page 3 has the long form.
const EVENT_CHARS_MAX: usize = 172;
/// Characters that fit one line of the card; a longer event takes two.
const LINE_CHARS: usize = 84;

/// One report, and whose it is.
struct Told<'a> {
    report: &'a UpdateReport,
    role: Option<Role>,
    both: bool,
    /// By the board's clock, but never later than what the same board reported afterwards.
    at_unix_s: u64,
}

/// The newest events that fit `lines_max` lines; at least one, where there is any.
pub(super) fn newest(model: &Model, lines_max: usize) -> Vec<Happening> {
    let now = model.unix_s();
    let mut mine = model.local().map_or_else(Vec::new, |board| told(board, now));
    let mut theirs = model.peer().map_or_else(Vec::new, |board| told(board, now));
    for event in &mut mine {
        let same = |other: &Told<'_>| event.same_step(other) && event.near(other);
        if let Some(at) = theirs.iter().position(same) {
            event.at_unix_s = event.at_unix_s.max(theirs.remove(at).at_unix_s);
            event.both = true;
        }
    }
    mine.append(&mut theirs);
    // Stable: events of one moment stay in the order in which their board reported them.
    mine.sort_by_key(|event| std::cmp::Reverse(event.at_unix_s));
    let mut lines = 0usize;
    let mut shown = Vec::new();
    for event in &mine {
        let next = event.in_words(model, &mine);
        lines = lines.saturating_add(next.lines());
        if lines > lines_max && !shown.is_empty() {
            break;
        }
        shown.push(next);
    }
    shown
}

/// A board's reports, newest first.
pub(super) fn reports(board: &BoardStatus) -> impl Iterator<Item = &UpdateReport> {
    let key = |r: &UpdateReport| (r.from, r.to, r.at_unix_s);
    let kept = &board.boot.reports;
    let last = board.update.last.as_ref();
    // The updater and the boot record tell of the same report, save while one of them is silent.
    let last = last.filter(|last| kept.iter().all(|known| key(known) != key(last)));
    last.into_iter().chain(kept.iter().rev()).take(REPORTS_KEPT_MAX)
}

fn told(board: &BoardStatus, now_unix_s: u64) -> Vec<Told<'_>> {
    let mut bound = now_unix_s;
    let mut list = Vec::new();
    for report in reports(board) {
        // The record's order is certain, its times are not: the clock may have been wrong or not set.
        if clock::plausible(report.at_unix_s) {
            bound = bound.min(report.at_unix_s);
        }
        list.push(Told { report, role: board.role, both: false, at_unix_s: bound });
    }
    list
}

impl Told<'_> {
    fn same_step(&self, other: &Self) -> bool {
        let key = |t: &Self| (t.report.from, t.report.to, t.report.outcome);
        key(self) == key(other)
    }

    fn near(&self, other: &Self) -> bool {
        self.at_unix_s.abs_diff(other.at_unix_s) <= TOGETHER_S
    }

    fn in_words(&self, model: &Model, all: &[Self]) -> Happening {
        let report = self.report;
        let (from, to) = (report.from, report.to);
        let follows = |other: &&Self| {
            other.report.outcome == UpdateOutcome::FellBack
                && (other.report.from, other.report.to) == (to, from)
                && other.role != self.role
                && other.near(self)
        };
        let sentence = match report.outcome {
            UpdateOutcome::Good => format!("Upgraded {from} → {to}"),
            UpdateOutcome::RolledBack => match all.iter().find(follows) {
                Some(first) if !self.both => {
                    let board = words::board(first.role).to_lowercase();
                    format!("Back from {from} to {to} with the {board}")
                }
                _ => format!("Rolled back {from} → {to}, as asked"),
            },
            UpdateOutcome::FellBack => format!("Release {to} failed its trial, back on {from}"),
            UpdateOutcome::Refused => format!("Release {to} was refused, still on {from}"),
        };
        let reason = match report.outcome {
            // What went as asked needs no reason.
            UpdateOutcome::Good | UpdateOutcome::RolledBack => String::new(),
            UpdateOutcome::FellBack | UpdateOutcome::Refused => {
                let room = EVENT_CHARS_MAX.saturating_sub(sentence.chars().count());
                words::about(&report.reason, to, room)
            }
        };
        let who = if self.both { "Both boards" } else { words::board(self.role) };
        let at = clock::moment_short(report_time(self), model.unix_s(), model.zone());
        let badge = Badge { word: sentence, ..words::outcome(report.outcome) };
        Happening { at: at.unwrap_or_else(|| "undated".to_owned()), who, badge, reason }
    }
}

/// The time to show: the board's own, unless no clock was set then.
fn report_time(told: &Told<'_>) -> u64 {
    if clock::plausible(told.report.at_unix_s) { told.at_unix_s } else { 0 }
}

impl Happening {
    /// Lines it takes on the screen.
    fn lines(&self) -> usize {
        let chars = self.badge.word.chars().count().saturating_add(self.reason.chars().count());
        if chars > LINE_CHARS { 2 } else { 1 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Event;
    use crate::release::Release;
    use goblin_core_types::{BoxStatus, Version};

    const NOW: u64 = 1_795_192_920;

    fn report(from: u32, to: u32, outcome: UpdateOutcome, at_unix_s: u64) -> UpdateReport {
        let version = |n| Version::new(n, 0, 0);
        let reason = format!("release {to} stopped");
        let (from, to) = (version(from), version(to));
        UpdateReport { from, to, outcome, reason, last_lines: Vec::new(), at_unix_s, written: None }
    }

    fn lines(compute: Vec<UpdateReport>, storage: Vec<UpdateReport>, max: usize) -> Vec<String> {
        let board = |role, reports| {
            let mut board = BoardStatus { role: Some(role), ..BoardStatus::default() };
            board.boot.reports = reports;
            board
        };
        let boards = vec![board(Role::Compute, compute), board(Role::Storage, storage)];
        let mut model = Model::new(Release::default());
        model.step(Event::Tick { unix_s: NOW, mono_s: 0 });
        for event in Model::events_of(BoxStatus { boards, ..BoxStatus::default() }) {
            model.step(event);
        }
        let line = |e: Happening| format!("{} {} {} {}", e.at, e.who, e.badge.word, e.reason);
        newest(&model, max).into_iter().map(|e| line(e).trim_end().to_owned()).collect()
    }

    #[test]
    fn the_same_step_of_both_boards_is_one_event() {
        use UpdateOutcome::{Good, RolledBack};
        let storage = vec![
            report(1, 2, Good, NOW - 500),
            report(2, 1, RolledBack, NOW - 300),
            report(1, 2, Good, NOW - 90),
        ];
        let compute = vec![
            report(1, 2, Good, NOW - 450),
            report(2, 1, RolledBack, NOW - 250),
            report(1, 2, Good, NOW - 60),
        ];
        assert_eq!(
            lines(compute, storage, 9),
            [
                "16:41 Both boards Upgraded 1 → 2",
                "16:37 Both boards Rolled back 2 → 1, as asked",
                "16:34 Both boards Upgraded 1 → 2",
            ]
        );
    }

    #[test]
    fn a_board_that_returns_with_the_other_was_not_asked_by_a_person() {
        use UpdateOutcome::{FellBack, RolledBack};
        let compute = vec![report(2, 3, FellBack, NOW - 120)];
        let storage = vec![report(3, 2, RolledBack, NOW - 60)];
        assert_eq!(
            lines(compute, storage, 9),
            [
                "16:41 Storage board Back from 3 to 2 with the compute board",
                "16:40 Compute board Release 3 failed its trial, back on 2 stopped",
            ]
        );
    }

    #[test]
    fn a_wrong_clock_does_not_change_the_order() {
        use UpdateOutcome::{Good, Refused};
        let compute = vec![
            report(1, 2, Good, NOW + 99_999_999),
            report(2, 3, Refused, 12),
            report(2, 4, Good, NOW - 60),
        ];
        assert_eq!(
            lines(compute, Vec::new(), 9),
            [
                "16:41 Compute board Upgraded 2 → 4",
                "undated Compute board Release 3 was refused, still on 2 stopped",
                "16:41 Compute board Upgraded 1 → 2",
            ]
        );
    }

    #[test]
    fn only_what_fits_is_listed_but_always_the_newest() {
        let many: Vec<_> = (1..9)
            .map(|n| report(n, n + 1, UpdateOutcome::Good, NOW - 900 + u64::from(n)))
            .collect();
        assert_eq!(lines(many.clone(), Vec::new(), 4).len(), 4);
        let mut long = report(9, 10, UpdateOutcome::FellBack, NOW);
        long.reason = "x".repeat(5000);
        let lines = lines(vec![long], many, 1);
        assert_eq!(lines.len(), 1);
        assert!(lines[0].chars().count() < EVENT_CHARS_MAX + 40, "{lines:?}");
    }
}
