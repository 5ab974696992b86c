//! `goblin log`: what was tried, and why it went as it did.

use super::words;
use crate::output::{Paint, Tone};
use goblin_core_types::{
    Attempt, AttemptStage, BoardStatus, FailReason, UpdateOutcome, UpdateReport,
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
        lines.extend(last_lines(&report.last_lines, paint));
    }
    lines.push("  boots".into());
    if board.boot.attempts.is_empty() {
        lines.push("    none recorded: this board was not started by its boot loader".into());
    }
    for attempt in &board.boot.attempts {
        lines.push(format!("    {}", attempt_line(attempt, zone, paint)));
        lines.extend(last_lines(&attempt.last_lines, paint));
    }
    lines
}

fn last_lines(texts: &[String], paint: Paint) -> Vec<String> {
    texts
        .iter()
        .map(|text| paint.paint(Tone::Dim, &format!("      | {}", words::plain(text))))
        .collect()
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
}
