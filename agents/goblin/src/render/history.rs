//! `goblin log`: what was tried, and why it went as it did.

use super::words;
use crate::output::{Paint, Tone};
use goblin_core_types::{
    Attempt, AttemptStage, BoardStatus, BootEnd, EndBy, EndKind, FailReason, OrderedEnd,
    ResetReport, UpdateOutcome, UpdateReport, WriteCount, Written,
};

/// A board's history, oldest first.
pub fn lines(board: &BoardStatus, paint: Paint) -> Vec<String> {
    let zone = &board.time.zone;
    let name = board.role.map_or("no role", |role| role.as_str());
    let mut lines =
        vec![format!("{}  {}", paint.paint(Tone::Strong, name), words::plain(&board.host))];
    lines.push("  upgrades".into());
    if board.boot.reports.is_empty() {
        lines.push("    none yet".into());
    }
    for report in &board.boot.reports {
        lines.push(format!("    {}", report_line(report, zone, paint)));
        lines.extend(report.written.as_ref().map(written_line));
        lines.extend(last_lines(&report.last_lines, paint));
    }
    lines.extend(board.boot.last_reset.iter().map(|reset| reset_line(reset, zone, paint)));
    lines.push("  boots".into());
    if board.boot.attempts.is_empty() {
        lines.push("    none recorded: this board was not started by its boot loader".into());
    }
    let newest = board.boot.attempts.len().saturating_sub(1);
    for (index, attempt) in board.boot.attempts.iter().enumerate() {
        lines.push(format!("    {}", attempt_line(attempt, zone, paint)));
        let end =
            attempt.end.as_ref().filter(|_| index < newest || attempt.end != Some(BootEnd::Open));
        if let Some((sentence, tone)) = end.and_then(end_sentence) {
            lines.push(format!("      {}", paint.paint(tone, &words::plain(&sentence))));
        }
        lines.extend(last_lines(&attempt.last_lines, paint));
    }
    lines
}

/// What an upgrade wrote to the system disk.
fn written_line(written: &Written) -> String {
    let count = |place: &str, WriteCount { bytes, changes, syncs }: &WriteCount| {
        format!("{} in {changes} writes and {syncs} flushes to {place}", words::bytes(*bytes))
    };
    format!("      wrote {}, {}", count("the ESP", &written.esp), count("STATE", &written.state))
}

fn last_lines(texts: &[String], paint: Paint) -> Vec<String> {
    texts
        .iter()
        .map(|text| paint.paint(Tone::Dim, &format!("      | {}", words::plain(text))))
        .collect()
}

/// The last factory reset: when it was ordered, how much, how it ended.
fn reset_line(reset: &ResetReport, zone: &str, paint: Paint) -> String {
    let (word, tone) = if reset.done { ("done", Tone::Good) } else { ("not done", Tone::Bad) };
    format!(
        "  factory reset\n    {}  {}  {}: {}",
        words::moment(reset.at_unix_s, zone),
        reset.level,
        paint.paint(tone, word),
        words::plain(&reset.reason)
    )
}

/// One upgrade or rollback: when, from where to where, how it ended and why.
pub fn report_line(report: &UpdateReport, zone: &str, paint: Paint) -> String {
    let (word, tone) = match report.outcome {
        UpdateOutcome::Good => ("good", Tone::Good),
        UpdateOutcome::FellBack => ("fell back", Tone::Bad),
        UpdateOutcome::RolledBack => ("rolled back", Tone::Good),
        UpdateOutcome::Refused => ("refused", Tone::Warn),
    };
    format!(
        "{}  {} -> {}  {}: {}",
        words::moment(report.at_unix_s, zone),
        report.from,
        report.to,
        paint.paint(tone, word),
        words::plain(&report.reason)
    )
}

fn attempt_line(attempt: &Attempt, zone: &str, paint: Paint) -> String {
    let (word, tone) = match (&attempt.fail, attempt.stage) {
        (Some(reason), _) => (fail_sentence(reason), Tone::Bad),
        (None, AttemptStage::Preinit) => ("reached preinit".into(), Tone::Warn),
        (None, AttemptStage::Init) => ("reached PID 1".into(), Tone::Warn),
        (None, AttemptStage::Healthy) => ("healthy".into(), Tone::Good),
    };
    let trial = if attempt.trial { ", on trial" } else { "" };
    format!(
        "{}  boot {}  release {}{trial}  {}",
        words::moment(attempt.at_unix_s, zone),
        attempt.boot,
        attempt.version,
        paint.paint(tone, &words::plain(&word)),
    )
}

/// How a boot that is over ended; `None` where a newer release wrote what this one does not know.
pub fn end_sentence(end: &BootEnd) -> Option<(String, Tone)> {
    Some(match end {
        BootEnd::Open => ("ended without an order: power cut, reset or hang".into(), Tone::Warn),
        BootEnd::Ordered(end) if end.done => (order_sentence(end), Tone::Dim),
        BootEnd::Ordered(end) => {
            let text = format!("{}; it did not end in order", order_sentence(end));
            (text, Tone::Warn)
        }
        BootEnd::Watchdog { during: None } => {
            ("the hardware watchdog reset the board: it hung".into(), Tone::Bad)
        }
        BootEnd::Watchdog { during: Some(end) } => {
            let text = format!("{}; the hardware watchdog ended it", order_sentence(end));
            (text, Tone::Bad)
        }
        BootEnd::Unknown => return None,
    })
}

fn order_sentence(end: &OrderedEnd) -> String {
    let how = match end.how {
        EndKind::Reboot => "restarted",
        EndKind::PowerOff => "switched off",
        EndKind::Unknown => "ended",
    };
    let by = match &end.by {
        EndBy::Unit { name } => match name.as_str() {
            "control" => " by a command".to_owned(),
            "console" => " at the console".into(),
            "update" => " by the updater".into(),
            "dbus" => " over D-Bus".into(),
            other => format!(" by {other}"),
        },
        EndBy::Program => " by a program".into(),
        EndBy::Signal { .. } => " by a signal".into(),
        EndBy::Button => " by hand".into(),
        EndBy::Trial => " by the system".into(),
        EndBy::Unknown => String::new(),
    };
    format!("{how}{by}: {}", end.why)
}

fn fail_sentence(reason: &FailReason) -> String {
    if let Some(why) = reason.why_ended_early() {
        return format!("ended before its checks were done: {why}");
    }
    match reason {
        FailReason::Stopped { after } => {
            let after = match after {
                AttemptStage::Preinit => "preinit",
                AttemptStage::Init => "PID 1 started",
                AttemptStage::Healthy => "it was healthy",
            };
            format!("stopped without a word after {after}")
        }
        FailReason::Panic { message } => format!("the kernel panicked: {message}"),
        FailReason::Unhealthy { checks, deadline_s } => {
            format!("not healthy within {deadline_s} s: {}", checks.join("; "))
        }
        FailReason::HandOver { message } => {
            format!("preinit could not hand over to the base image: {message}")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use goblin_core_types::{BootStatus, Version};

    #[test]
    fn a_failed_boot_says_why() {
        let board = BoardStatus {
            boot: BootStatus {
                attempts: vec![Attempt {
                    version: Version::new(3, 0, 0),
                    boot: 7,
                    trial: true,
                    stage: AttemptStage::Init,
                    fail: Some(FailReason::Unhealthy {
                        checks: vec!["shares: share main: timed out".into()],
                        deadline_s: 120,
                    }),
                    last_lines: vec!["share: cannot open".into()],
                    at_unix_s: 1_763_640_000,
                    end: None,
                }],
                ..BootStatus::default()
            },
            ..BoardStatus::default()
        };
        let text = lines(&board, Paint::default()).join("\n");
        assert_eq!(
            text,
            "no role  \n  upgrades\n    none yet\n  boots\n    2025-11-20 12:00 UTC  boot 7  release 3, \
             on trial  not healthy within 120 s: shares: share main: timed out\n      | share: cannot open"
        );
    }

    #[test]
    fn an_upgrade_tells_what_it_wrote() {
        let count = |bytes, changes, syncs| WriteCount { bytes, changes, syncs };
        let written = Some(Written { esp: count(30_000_000, 34, 4), state: count(2_000, 5, 3) });
        let report = UpdateReport {
            from: Version::new(1, 0, 0),
            to: Version::new(2, 0, 0),
            outcome: UpdateOutcome::Good,
            reason: "release 2 passed its trial".into(),
            last_lines: vec![],
            at_unix_s: 0,
            written,
        };
        let board = BoardStatus {
            boot: BootStatus { reports: vec![report], ..BootStatus::default() },
            ..BoardStatus::default()
        };
        let text = lines(&board, Paint::default()).join("\n");
        let line = "wrote 30.0 MB in 34 writes and 4 flushes to the ESP, 2.0 kB in 5 writes and 3 flushes to STATE";
        assert!(text.contains(line), "{text}");
    }

    fn booted(ends: &[Option<BootEnd>]) -> BoardStatus {
        let attempt = |(boot, end): (u64, &Option<BootEnd>)| Attempt {
            version: Version::new(1, 0, 0),
            boot,
            trial: false,
            stage: AttemptStage::Healthy,
            fail: None,
            last_lines: vec![],
            at_unix_s: 0,
            end: end.clone(),
        };
        let attempts = (1..).zip(ends).map(attempt).collect();
        BoardStatus {
            boot: BootStatus { attempts, ..BootStatus::default() },
            ..BoardStatus::default()
        }
    }

    #[test]
    fn each_boot_says_who_ended_it_and_why() {
        let ordered = |name: &str, done| OrderedEnd {
            how: EndKind::Reboot,
            by: EndBy::Unit { name: name.into() },
            why: "because".into(),
            done,
            at_unix_s: 0,
        };
        let board = booted(&[
            None,
            Some(BootEnd::Ordered(ordered("control", true))),
            Some(BootEnd::Ordered(ordered("update", false))),
            Some(BootEnd::Open),
            Some(BootEnd::Watchdog { during: None }),
            Some(BootEnd::Watchdog { during: Some(ordered("console", false)) }),
            Some(BootEnd::Unknown),
            Some(BootEnd::Open),
        ]);
        let lines = lines(&board, Paint::default());
        let ends: Vec<&str> = lines.iter().filter_map(|line| line.strip_prefix("      ")).collect();
        assert_eq!(
            ends,
            [
                "restarted by a command: because",
                "restarted by the updater: because; it did not end in order",
                "ended without an order: power cut, reset or hang",
                "the hardware watchdog reset the board: it hung",
                "restarted at the console: because; the hardware watchdog ended it",
            ]
        );
    }
}
