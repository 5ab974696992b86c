//! What a boot says about an upgrade that was armed before it.
//!
//! The boot record says what was wanted, the names on the ESP say what the loader did, the release that
//! runs says how it ended. Nothing else is believed: no clock, no memory of an earlier process.

use crate::slots::{EspStep, NEW_FILE, TRIES_MAX, file_name, loader_pick};
use goblin_core_types::{
    Attempt, AttemptStage, BootRecord, FailReason, Pending, Quarantined, REPORTS_KEPT_MAX,
    SlotState, SlotStatus, UpdateOutcome, UpdateReport, Version,
};

/// Releases kept in quarantine; older ones are forgotten.
pub const QUARANTINE_MAX: usize = 16;
/// Longest reason in characters.
const REASON_CHARS_MAX: usize = 400;

/// The boot that is going on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Boot {
    /// Release that runs.
    pub running: Version,
    /// The loader counted this boot as a try.
    pub trial: bool,
}

/// How a pending flip stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing was pending.
    Nothing,
    /// This boot is the try; the bless decides.
    OnTrial,
    /// The wanted release runs and is blessed.
    Arrived,
    /// The wanted release used up its tries.
    FellBack,
    /// The reboot is still to come.
    Armed,
    /// The flip was cut off; nothing changed.
    Interrupted,
}

/// What follows from the verdict. Apply `esp`, then the record, then `cleanup`; each durable before the
/// next, and all of them may be applied again after a cut.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settled {
    /// The verdict.
    pub verdict: Verdict,
    /// First.
    pub esp: Vec<EspStep>,
    /// To be added to the record, with the pending entry cleared.
    pub report: Option<UpdateReport>,
    /// To be added to the record's quarantine.
    pub quarantine: Option<Quarantined>,
    /// The pending entry is decided.
    pub clear_pending: bool,
    /// Last.
    pub cleanup: Vec<EspStep>,
}

impl Settled {
    const fn open(verdict: Verdict) -> Self {
        Self {
            verdict,
            esp: Vec::new(),
            report: None,
            quarantine: None,
            clear_pending: false,
            cleanup: Vec::new(),
        }
    }

    /// Writes the decision into the record.
    pub fn apply(&self, record: &mut BootRecord) {
        if self.clear_pending {
            record.pending = None;
        }
        if let Some(report) = &self.report {
            add_report(record, report.clone());
        }
        if let Some(failed) = &self.quarantine {
            record.quarantine.retain(|known| known.uki != failed.uki);
            record.quarantine.push(failed.clone());
            let excess = record.quarantine.len().saturating_sub(QUARANTINE_MAX);
            record.quarantine.drain(..excess);
        }
    }
}

/// Adds a report, dropping the oldest beyond the limit.
pub fn add_report(record: &mut BootRecord, report: UpdateReport) {
    record.reports.push(report);
    let excess = record.reports.len().saturating_sub(REPORTS_KEPT_MAX);
    record.reports.drain(..excess);
}

/// Judges the pending flip of an earlier boot.
pub fn settle(record: &BootRecord, slots: &[SlotStatus], boot: Boot, at_unix_s: u64) -> Settled {
    let Some(pending) = &record.pending else { return Settled::open(Verdict::Nothing) };
    if boot.running == pending.to {
        if boot.trial {
            return Settled::open(Verdict::OnTrial);
        }
        return Settled {
            report: Some(arrived(pending, at_unix_s)),
            clear_pending: true,
            ..Settled::open(Verdict::Arrived)
        };
    }
    let target = slots.iter().find(|slot| slot.version == pending.to);
    let picked = loader_pick(slots).is_some_and(|slot| slot.version == pending.to);
    match target.map(|slot| slot.state) {
        Some(SlotState::Good | SlotState::Trial { .. }) if picked => Settled::open(Verdict::Armed),
        Some(SlotState::Trial { left: TRIES_MAX, done: 0 } | SlotState::Good) => {
            interrupted(pending, target, slots, boot, at_unix_s)
        }
        None if tries(record, pending.to).is_empty() => {
            interrupted(pending, target, slots, boot, at_unix_s)
        }
        None | Some(SlotState::Trial { .. } | SlotState::Bad { .. }) => {
            fell_back(record, pending, slots, boot, at_unix_s)
        }
    }
}

fn arrived(pending: &Pending, at_unix_s: u64) -> UpdateReport {
    let (outcome, reason) = if pending.rollback {
        (UpdateOutcome::RolledBack, format!("release {} runs again, as asked", pending.to))
    } else {
        (UpdateOutcome::Good, format!("release {} passed its trial", pending.to))
    };
    UpdateReport {
        from: pending.from,
        to: pending.to,
        outcome,
        reason,
        last_lines: Vec::new(),
        at_unix_s,
    }
}

fn interrupted(
    pending: &Pending,
    target: Option<&SlotStatus>,
    slots: &[SlotStatus],
    boot: Boot,
    at_unix_s: u64,
) -> Settled {
    let mut esp = restore(slots, boot);
    if let Some(slot) = target.filter(|slot| slot.state != SlotState::Good) {
        // Back to where it was staged: a name the loader sees is only for armed releases.
        esp.push(EspStep::Rename { from: slot.file.clone(), to: NEW_FILE.into() });
    }
    let reason = format!(
        "release {} was not armed: the change was cut off; nothing was changed, try again",
        pending.to
    );
    let report = UpdateReport {
        from: pending.from,
        to: pending.to,
        outcome: UpdateOutcome::Refused,
        reason,
        last_lines: Vec::new(),
        at_unix_s,
    };
    Settled {
        esp,
        report: Some(report),
        clear_pending: true,
        ..Settled::open(Verdict::Interrupted)
    }
}

fn fell_back(
    record: &BootRecord,
    pending: &Pending,
    slots: &[SlotStatus],
    boot: Boot,
    at_unix_s: u64,
) -> Settled {
    let tries = tries(record, pending.to);
    let reason = reason(pending.to, &tries);
    let last_lines = tries.iter().rev().find(|a| !a.last_lines.is_empty());
    let report = UpdateReport {
        from: pending.from,
        to: pending.to,
        outcome: UpdateOutcome::FellBack,
        reason: reason.clone(),
        last_lines: last_lines.map(|attempt| attempt.last_lines.clone()).unwrap_or_default(),
        at_unix_s,
    };
    let failed = Quarantined { version: pending.to, uki: pending.uki, reason };
    let bad = slots.iter().filter(|slot| slot.version == pending.to);
    Settled {
        verdict: Verdict::FellBack,
        esp: restore(slots, boot),
        report: Some(report),
        quarantine: Some(failed),
        clear_pending: true,
        cleanup: bad.map(|slot| EspStep::Delete { file: slot.file.clone() }).collect(),
    }
}

/// The running release proved itself before it was marked to be passed over: its good name is given
/// back.
fn restore(slots: &[SlotStatus], boot: Boot) -> Vec<EspStep> {
    slots
        .iter()
        .filter(|slot| slot.version == boot.running && matches!(slot.state, SlotState::Bad { .. }))
        .map(|slot| EspStep::Rename {
            from: slot.file.clone(),
            to: file_name(slot.version, SlotState::Good),
        })
        .collect()
}

/// The boots of `to` that came before those of the release that runs now.
fn tries(record: &BootRecord, to: Version) -> Vec<&Attempt> {
    let mut tries: Vec<&Attempt> = record
        .attempts
        .iter()
        .rev()
        .skip_while(|attempt| attempt.version != to)
        .take_while(|attempt| attempt.version == to)
        .filter(|attempt| attempt.trial && attempt.stage < AttemptStage::Healthy)
        .take(usize::try_from(TRIES_MAX).unwrap_or(usize::MAX))
        .collect();
    tries.reverse();
    tries
}

/// One sentence: what the tries of a release ended with.
pub fn reason(to: Version, tries: &[&Attempt]) -> String {
    let Some(last) = tries.last() else {
        return format!(
            "release {to} never reached its first program: the firmware, the loader or the kernel could not start it"
        );
    };
    let count = times(tries.len());
    let fails = || tries.iter().rev().filter_map(|attempt| attempt.fail.as_ref());
    // The last one that says more than that it stopped.
    let told =
        fails().find(|fail| !matches!(fail, FailReason::Stopped { .. })).or_else(|| fails().next());
    let text = match told {
        Some(FailReason::Panic { message }) => {
            format!("release {to} stopped after {} {count}: {message}", stage(last.stage))
        }
        Some(FailReason::Unhealthy { checks, deadline_s }) => format!(
            "release {to} did not become healthy within {deadline_s} s, {count}: {}",
            checks.join("; ")
        ),
        Some(FailReason::HandOver { message }) => {
            format!("release {to} could not hand over to its base image {count}: {message}")
        }
        Some(FailReason::Stopped { after }) => {
            format!("release {to} stopped without a word after {} {count}", stage(*after))
        }
        None => format!("release {to} stopped without a word after {} {count}", stage(last.stage)),
    };
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(REASON_CHARS_MAX).collect()
}

const fn stage(stage: AttemptStage) -> &'static str {
    match stage {
        AttemptStage::Preinit => "preinit",
        AttemptStage::Init => "init",
        AttemptStage::Healthy => "the health checks",
    }
}

fn times(count: usize) -> String {
    match count {
        1 => "once".into(),
        2 => "twice".into(),
        3 => "three times".into(),
        _ => format!("{count} times"),
    }
}

/// Writes into the record that the running release passed its trial.
pub fn blessed(record: &mut BootRecord, running: Version, at_unix_s: u64) {
    if let Some(attempt) = record.attempts.last_mut().filter(|attempt| attempt.version == running) {
        attempt.stage = AttemptStage::Healthy;
    }
    let Some(pending) = record.pending.take_if(|pending| pending.to == running) else { return };
    add_report(record, arrived(&pending, at_unix_s));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::slots::{EspFile, slots};
    use goblin_core_types::Digest;

    fn v(n: u32) -> Version {
        Version::new(n, 0, 0)
    }

    fn pending(to: u32, from: u32) -> Pending {
        Pending {
            to: v(to),
            from: v(from),
            rollback: to < from,
            uki: Digest([9; 32]),
            peer_expected: false,
            at_unix_s: 0,
        }
    }

    fn attempt(version: u32, stage: AttemptStage, fail: Option<FailReason>) -> Attempt {
        let trial = fail.is_some() || stage != AttemptStage::Healthy;
        let last_lines = fail.iter().map(|_| "last words".to_owned()).collect();
        Attempt { version: v(version), boot: 1, trial, stage, fail, last_lines, at_unix_s: 0 }
    }

    fn judge(record: &BootRecord, names: &[&str], running: u32, trial: bool) -> Settled {
        let files: Vec<_> =
            names.iter().map(|name| EspFile { name: (*name).into(), size_bytes: 1 }).collect();
        let boot = Boot { running: v(running), trial };
        settle(record, &slots(&files, v(running)), boot, 77)
    }

    fn panicked() -> BootRecord {
        let panic = || FailReason::Panic { message: "Kernel panic - not syncing: sysrq".into() };
        let mut attempts = vec![attempt(2, AttemptStage::Healthy, None)];
        attempts.extend((0..3).map(|_| attempt(3, AttemptStage::Preinit, Some(panic()))));
        attempts.push(attempt(2, AttemptStage::Init, None));
        BootRecord { attempts, pending: Some(pending(3, 2)), ..BootRecord::default() }
    }

    #[test]
    fn fall_back_says_why_and_is_not_repeated() {
        let mut record = panicked();
        let settled = judge(&record, &["goblinux_2.efi", "goblinux_3+0-3.efi"], 2, false);
        assert_eq!(settled.verdict, Verdict::FellBack);
        assert_eq!(settled.cleanup, [EspStep::Delete { file: "goblinux_3+0-3.efi".into() }]);
        settled.apply(&mut record);
        assert_eq!(record.pending, None);
        let report = record.reports.last().unwrap();
        assert_eq!(
            report.reason,
            "release 3 stopped after preinit three times: Kernel panic - not syncing: sysrq"
        );
        assert_eq!(report.last_lines, ["last words"]);
        assert_eq!(record.quarantine[0].version, v(3));
    }

    #[test]
    fn release_that_never_started_is_told_apart() {
        let record = BootRecord { pending: Some(pending(3, 2)), ..BootRecord::default() };
        let settled = judge(&record, &["goblinux_2.efi", "goblinux_3+0-3.efi"], 2, false);
        assert!(settled.report.unwrap().reason.contains("never reached its first program"));
    }

    #[test]
    fn trial_waits_for_the_bless_and_a_lost_report_is_made_up() {
        let record = BootRecord { pending: Some(pending(3, 2)), ..BootRecord::default() };
        let trial = judge(&record, &["goblinux_2.efi", "goblinux_3+2-1.efi"], 3, true);
        assert_eq!(trial, Settled::open(Verdict::OnTrial));
        let settled = judge(&record, &["goblinux_2.efi", "goblinux_3.efi"], 3, false);
        assert_eq!(settled.report.unwrap().outcome, UpdateOutcome::Good);
    }

    #[test]
    fn rollback_settles_at_once() {
        let record = BootRecord { pending: Some(pending(1, 2)), ..BootRecord::default() };
        let settled = judge(&record, &["goblinux_1.efi", "goblinux_2+0-1.efi"], 1, false);
        assert_eq!(settled.report.unwrap().outcome, UpdateOutcome::RolledBack);
        assert!(settled.quarantine.is_none());
    }

    #[test]
    fn cut_before_the_rename_changes_nothing() {
        let record = BootRecord { pending: Some(pending(3, 2)), ..BootRecord::default() };
        let settled = judge(&record, &["goblinux_2.efi", ".new"], 2, false);
        assert_eq!(settled.verdict, Verdict::Interrupted);
        assert!(settled.quarantine.is_none());
        let settled = judge(&record, &["goblinux_2.efi", "goblinux_3+3.efi"], 2, false);
        assert_eq!(settled.verdict, Verdict::Armed);
        let older = BootRecord { pending: Some(pending(1, 2)), ..BootRecord::default() };
        let settled = judge(&older, &["goblinux_2.efi", "goblinux_1+3.efi"], 2, false);
        let back = EspStep::Rename { from: "goblinux_1+3.efi".into(), to: NEW_FILE.into() };
        assert_eq!((settled.verdict, settled.esp), (Verdict::Interrupted, vec![back]));
    }

    #[test]
    fn newer_release_gets_its_name_back_when_the_older_failed() {
        let record = BootRecord { pending: Some(pending(1, 2)), ..BootRecord::default() };
        let settled = judge(&record, &["goblinux_2+0-2.efi", "goblinux_1+0-3.efi"], 2, true);
        assert_eq!(settled.verdict, Verdict::FellBack);
        let good =
            EspStep::Rename { from: "goblinux_2+0-2.efi".into(), to: "goblinux_2.efi".into() };
        assert_eq!(settled.esp, [good]);
    }

    #[test]
    fn bless_reports_and_marks_the_attempt() {
        let attempts = vec![attempt(3, AttemptStage::Init, None)];
        let mut record =
            BootRecord { attempts, pending: Some(pending(3, 2)), ..BootRecord::default() };
        blessed(&mut record, v(3), 5);
        assert_eq!(record.attempts[0].stage, AttemptStage::Healthy);
        assert_eq!(record.reports[0].outcome, UpdateOutcome::Good);
        assert_eq!(record.pending, None);
    }

    #[test]
    fn lists_are_bounded() {
        let mut record = BootRecord::default();
        for _ in 0..40 {
            record.pending = Some(pending(3, 2));
            blessed(&mut record, v(3), 5);
        }
        assert_eq!(record.reports.len(), REPORTS_KEPT_MAX);
    }
}
