//! What a boot says about an upgrade that was armed before it.
//!
//! The boot record says what was wanted, the names on the ESP say what the loader did, the release that
//! runs says how it ended. Nothing else is believed: no clock, no memory of an earlier process.

use crate::slots::{EspStep, NEW_FILE, TRIES_MAX, file_name, loader_pick};
use goblin_core_types::{
    Attempt, AttemptStage, BootRecord, FailReason, Pending, QUARANTINE_KEPT_MAX, Quarantined,
    REPORTS_KEPT_MAX, SlotState, SlotStatus, UpdateOutcome, UpdateReport, Version,
};

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

    /// Leaves the files of pinned releases where they are: a person wants to look at them, and the loader
    /// prefers every other one.
    pub fn spare(&mut self, slots: &[SlotStatus], pins: &[Version]) {
        let pinned =
            |file: &str| slots.iter().any(|slot| slot.file == file && pins.contains(&slot.version));
        self.cleanup.retain(|step| !matches!(step, EspStep::Delete { file } if pinned(file)));
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
            let excess = record.quarantine.len().saturating_sub(QUARANTINE_KEPT_MAX);
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
    let Some(pending) = &record.pending else {
        // A cut between the verdict and its cleanup left a failed release on the disk: the loader may
        // fall back to it when nothing else has tries left.
        let cleanup = leftovers(record, slots, boot);
        return Settled { cleanup, ..Settled::open(Verdict::Nothing) };
    };
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
    let tried = !tries(record, pending).is_empty();
    let rebooted = pending.boot > 0 && record.boot_count > pending.boot;
    let interrupted = |why| interrupted(pending, target, slots, boot, at_unix_s, why);
    match target.map(|slot| slot.state) {
        Some(SlotState::Good | SlotState::Trial { .. }) if picked && !rebooted => {
            Settled::open(Verdict::Armed)
        }
        // The board was started again, and not into what the loader should have taken.
        Some(SlotState::Good) if picked => interrupted(Why::PassedOver),
        Some(SlotState::Trial { .. }) if picked && !tried => interrupted(Why::PassedOver),
        Some(SlotState::Trial { left: TRIES_MAX, done: 0 } | SlotState::Good) => {
            interrupted(Why::CutOff)
        }
        // Set aside before, with less tries behind it than the loader would have counted.
        Some(SlotState::Bad { done }) if done < TRIES_MAX && !tried => interrupted(Why::CutOff),
        None if !tried => interrupted(Why::CutOff),
        None | Some(SlotState::Trial { .. } | SlotState::Bad { .. }) => {
            fell_back(record, pending, slots, boot, at_unix_s)
        }
    }
}

/// Files of quarantined releases that used up their tries.
fn leftovers(record: &BootRecord, slots: &[SlotStatus], boot: Boot) -> Vec<EspStep> {
    let failed = |slot: &&SlotStatus| {
        matches!(slot.state, SlotState::Bad { .. })
            && slot.version != boot.running
            && record.quarantine.iter().any(|known| known.version == slot.version)
    };
    slots.iter().filter(failed).map(|slot| EspStep::Delete { file: slot.file.clone() }).collect()
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
        written: pending.written,
    }
}

/// Why an armed release was not tried.
#[derive(Debug, Clone, Copy)]
enum Why {
    /// The power was cut, or a step failed, before the loader could see it.
    CutOff,
    /// The loader started another one.
    PassedOver,
}

fn interrupted(
    pending: &Pending,
    target: Option<&SlotStatus>,
    slots: &[SlotStatus],
    boot: Boot,
    at_unix_s: u64,
    why: Why,
) -> Settled {
    let mut esp = restore(slots, pending, boot);
    if let Some(slot) = target.filter(|slot| matches!(slot.state, SlotState::Trial { .. })) {
        // Going back means to a release that was good; one that was staged returns to where it was, for
        // a name the loader sees is only for armed releases.
        let to = if pending.rollback {
            file_name(slot.version, SlotState::Good)
        } else {
            NEW_FILE.to_owned()
        };
        esp.push(EspStep::Rename { from: slot.file.clone(), to });
    }
    let (to, running) = (pending.to, boot.running);
    let reason = match why {
        Why::CutOff => format!(
            "release {to} was not armed: the change was cut off; nothing was changed, try again"
        ),
        Why::PassedOver => format!(
            "release {to} was armed, but the boot loader started release {running}: it was chosen in the loader's menu, or set as its default there; clear that default and try again"
        ),
    };
    let report = UpdateReport {
        from: pending.from,
        to: pending.to,
        outcome: UpdateOutcome::Refused,
        reason,
        last_lines: Vec::new(),
        at_unix_s,
        written: pending.written,
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
    let tries = tries(record, pending);
    let reason = reason(pending.to, &tries);
    let last_lines = tries.iter().rev().find(|a| !a.last_lines.is_empty());
    let report = UpdateReport {
        from: pending.from,
        to: pending.to,
        outcome: UpdateOutcome::FellBack,
        reason: reason.clone(),
        last_lines: last_lines.map(|attempt| attempt.last_lines.clone()).unwrap_or_default(),
        at_unix_s,
        written: pending.written,
    };
    let failed = Quarantined { version: pending.to, uki: pending.uki, reason };
    let bad = slots.iter().filter(|slot| slot.version == pending.to);
    Settled {
        verdict: Verdict::FellBack,
        esp: restore(slots, pending, boot),
        report: Some(report),
        quarantine: Some(failed),
        clear_pending: true,
        cleanup: bad.map(|slot| EspStep::Delete { file: slot.file.clone() }).collect(),
    }
}

/// The release that armed the flip proved itself before it was marked to be passed over: its good name
/// is given back. Any other one that runs has to pass its checks first.
fn restore(slots: &[SlotStatus], pending: &Pending, boot: Boot) -> Vec<EspStep> {
    slots
        .iter()
        .filter(|slot| {
            slot.version == boot.running
                && slot.version == pending.from
                && matches!(slot.state, SlotState::Bad { .. })
        })
        .map(|slot| EspStep::Rename {
            from: slot.file.clone(),
            to: file_name(slot.version, SlotState::Good),
        })
        .collect()
}

/// The boots of the pending release since it was armed, oldest first.
fn tries<'r>(record: &'r BootRecord, pending: &Pending) -> Vec<&'r Attempt> {
    let mut tries: Vec<&Attempt> = record
        .attempts
        .iter()
        .rev()
        .skip_while(|attempt| attempt.version != pending.to)
        .take_while(|attempt| attempt.version == pending.to && attempt.boot > pending.boot)
        .filter(|attempt| attempt.trial)
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
    // What says most: a failure, then an end by order, then silence.
    let told = fails()
        .find(|fail| {
            !matches!(fail, FailReason::Stopped { .. }) && fail.why_ended_early().is_none()
        })
        .or_else(|| fails().find(|fail| fail.why_ended_early().is_some()))
        .or_else(|| fails().next());
    let was_healthy = tries.iter().filter(|a| a.stage >= AttemptStage::Healthy).count();
    let mut may_be_power = false;
    let text = match told {
        Some(FailReason::Panic { message }) => {
            format!("release {to} stopped after {} {count}: {message}", stage(last.stage))
        }
        Some(fail @ FailReason::Unhealthy { checks, deadline_s }) => match fail.why_ended_early() {
            Some(why) => {
                may_be_power = true;
                format!("release {to} was ended before its checks were done {count}: {why}")
            }
            None => format!(
                "release {to} did not become healthy within {deadline_s} s, {count}: {}",
                checks.join("; ")
            ),
        },
        Some(FailReason::HandOver { message }) => {
            format!("release {to} could not hand over to its base image {count}: {message}")
        }
        Some(FailReason::Stopped { .. }) | None if was_healthy > 0 => {
            may_be_power = true;
            format!(
                "release {to} was healthy {}, but the board stopped each time before it was accepted",
                times(was_healthy)
            )
        }
        Some(FailReason::Stopped { after }) => {
            may_be_power = true;
            format!("release {to} stopped without a word after {} {count}", stage(*after))
        }
        None => {
            may_be_power = true;
            format!("release {to} stopped without a word after {} {count}", stage(last.stage))
        }
    };
    let mut text: String =
        text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(REASON_CHARS_MAX).collect();
    if may_be_power {
        text.push_str(
            "; if it only lost power or was switched off, `goblin quarantine clear` for this board lets it be tried again",
        );
    }
    text
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
            pool_missing: false,
            at_unix_s: 0,
            boot: 0,
            written: None,
        }
    }

    fn attempt(version: u32, stage: AttemptStage, fail: Option<FailReason>) -> Attempt {
        let trial = fail.is_some() || stage != AttemptStage::Healthy;
        let last_lines = fail.iter().map(|_| "last words".to_owned()).collect();
        Attempt {
            version: v(version),
            boot: 1,
            trial,
            stage,
            fail,
            last_lines,
            at_unix_s: 0,
            end: None,
        }
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
        let by_name = Pending { rollback: false, ..pending(1, 2) };
        let older = BootRecord { pending: Some(by_name), ..BootRecord::default() };
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
    fn set_aside_release_whose_arming_was_cut_is_not_condemned() {
        // Rolled back to 1 before; `goblin upgrade` wrote what it would do, and the power went.
        let record = BootRecord { pending: Some(pending(2, 1)), ..BootRecord::default() };
        let settled = judge(&record, &["goblinux_1.efi", "goblinux_2+0-1.efi"], 1, false);
        assert_eq!(settled.verdict, Verdict::Interrupted);
        assert_eq!((settled.quarantine, settled.esp, settled.cleanup), (None, vec![], vec![]));
    }

    #[test]
    fn tries_from_before_the_arming_do_not_count() {
        let mut record = panicked();
        record.boot_count = 5;
        for (boot, attempt) in (1..).zip(&mut record.attempts) {
            attempt.boot = boot;
        }
        record.pending = Some(Pending { boot: 4, ..pending(3, 2) });
        let settled = judge(&record, &["goblinux_2.efi", ".new"], 2, false);
        assert_eq!((settled.verdict, settled.quarantine), (Verdict::Interrupted, None));
    }

    #[test]
    fn rollback_that_was_cut_keeps_the_older_release_good() {
        let record = BootRecord { pending: Some(pending(1, 2)), ..BootRecord::default() };
        let settled = judge(&record, &["goblinux_2.efi", "goblinux_1+3.efi"], 2, false);
        let good = EspStep::Rename { from: "goblinux_1+3.efi".into(), to: "goblinux_1.efi".into() };
        assert_eq!((settled.verdict, settled.esp), (Verdict::Interrupted, vec![good]));
    }

    #[test]
    fn release_that_the_loader_passed_over_does_not_stay_pending() {
        let armed = Pending { boot: 4, ..pending(3, 2) };
        let mut record =
            BootRecord { boot_count: 4, pending: Some(armed), ..BootRecord::default() };
        let names = ["goblinux_2.efi", "goblinux_3+3.efi"];
        assert_eq!(judge(&record, &names, 2, false).verdict, Verdict::Armed);
        // Another boot came, and somebody's choice at the loader was the old release.
        record.boot_count = 5;
        let settled = judge(&record, &names, 2, false);
        assert_eq!((settled.verdict, settled.clear_pending), (Verdict::Interrupted, true));
        assert!(settled.report.unwrap().reason.contains("the boot loader started release 2"));
        assert!(settled.quarantine.is_none());
    }

    #[test]
    fn power_cuts_are_told_apart_from_failures_and_name_the_way_out() {
        let told = |stage, fail: Option<FailReason>| {
            let mut attempts: Vec<_> = (0..3).map(|_| attempt(3, stage, fail.clone())).collect();
            attempts.iter_mut().for_each(|attempt| attempt.trial = true);
            let record =
                BootRecord { attempts, pending: Some(pending(3, 2)), ..BootRecord::default() };
            let settled = judge(&record, &["goblinux_2.efi", "goblinux_3+0-3.efi"], 2, false);
            settled.report.unwrap().reason
        };
        let healthy = told(AttemptStage::Healthy, None);
        assert!(healthy.contains("was healthy three times, but"), "{healthy}");
        let off = told(AttemptStage::Init, Some(FailReason::ended_early("power button", 180)));
        assert!(
            off.contains("was ended before its checks were done three times: power button"),
            "{off}"
        );
        let cut = told(AttemptStage::Init, Some(FailReason::Stopped { after: AttemptStage::Init }));
        for reason in [healthy, off, cut] {
            assert!(reason.contains("goblin quarantine clear"), "{reason}");
        }
    }

    #[test]
    fn failed_file_that_a_cut_left_behind_is_removed_later() {
        let mut record = panicked();
        let names = ["goblinux_2.efi", "goblinux_3+0-3.efi"];
        judge(&record, &names, 2, false).apply(&mut record);
        let later = judge(&record, &names, 2, false);
        assert_eq!(later.verdict, Verdict::Nothing);
        assert_eq!(later.cleanup, [EspStep::Delete { file: "goblinux_3+0-3.efi".into() }]);
    }

    #[test]
    fn only_the_release_that_armed_the_flip_gets_its_good_name_back() {
        let record = BootRecord { pending: Some(pending(1, 2)), ..BootRecord::default() };
        let names = ["goblinux_3+0-2.efi", "goblinux_2+0-1.efi", "goblinux_1+0-3.efi"];
        assert_eq!(judge(&record, &names, 3, true).esp, []);
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
