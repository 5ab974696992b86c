//! What init writes to the boot record: how far this boot came and why an earlier one ended.
//!
//! preinit writes by itself; PID 1 has it written by a short-lived child (`goblin-init record JOB`), so
//! that a slow or dead system disk never stops it.

use goblin_core_types::{
    ATTEMPTS_KEPT_MAX, Attempt, AttemptStage, BootEnd, BootRecord, FailReason, LAST_LINES_MAX,
    OrderedEnd, Version, reset_entry_version,
};
use goblin_sys::{board, efivar, files, record};
use serde::{Deserialize, Serialize};
use std::io;
use std::path::Path;

/// Where the kernel offers what it saved of an earlier panic.
pub const PSTORE: &str = "/sys/fs/pstore";
/// Longest record of an earlier panic read, in bytes.
const PSTORE_BYTES_MAX: usize = 64 * 1024;
/// Most files of earlier panics looked at.
const PSTORE_FILES_MAX: usize = 256;
/// Tries that an armed release gets.
const TRIES_MAX: u32 = 3;
/// Longest message of a failure, in bytes.
const MESSAGE_BYTES_MAX: usize = 240;

/// What the child of PID 1 shall write.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "job", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Job {
    /// PID 1 runs: this boot came as far as [`AttemptStage::Init`]; what an earlier panic left behind is
    /// collected.
    Start {
        /// Number of the attempt that preinit opened; absent when it could not.
        boot: Option<u64>,
    },
    /// Every role check passed.
    Healthy,
    /// The trial failed.
    Fail {
        /// Why.
        reason: FailReason,
        /// The newest lines of the log.
        last_lines: Vec<String>,
    },
    /// Somebody ends this boot.
    End(OrderedEnd),
    /// Every unit is down: the end that was ordered was one in order.
    Ended,
}

/// Does a job. Nothing happens on a board that was not started by the boot loader.
///
/// # Errors
/// The disk's.
pub fn run(job: Job) -> io::Result<()> {
    let Some(partition) = record::find()? else { return Ok(()) };
    match job {
        Job::Start { boot } => {
            let panics = collect_panics(Path::new(PSTORE));
            let version = running_version();
            let trial = efivar::loader_boot_count_path().is_some();
            partition.update(|record| {
                started(record, boot, version, trial);
                blame_panics(record, &panics);
            })?;
            // Only now: a power cut before this line leaves the panics for the next boot.
            clear_panics(Path::new(PSTORE));
            Ok(())
        }
        Job::Healthy => partition.update(|record| {
            if let Some(attempt) = record.attempts.last_mut() {
                attempt.stage = AttemptStage::Healthy;
            }
        }),
        Job::Fail { reason, last_lines } => {
            partition.update(|record| fail(record, reason, last_lines))
        }
        Job::End(end) => partition.update(|record| ordered(record, end)),
        Job::Ended => partition.update(ended),
    }
}

/// Somebody ends the present attempt. The first word counts, as it does for the end itself.
fn ordered(record: &mut BootRecord, end: OrderedEnd) {
    if let Some(attempt) = record.attempts.last_mut()
        && !matches!(attempt.end, Some(BootEnd::Ordered(_)))
    {
        attempt.end = Some(BootEnd::Ordered(end));
    }
}

/// The present attempt ended in order.
fn ended(record: &mut BootRecord) {
    if let Some(BootEnd::Ordered(end)) =
        record.attempts.last_mut().and_then(|last| last.end.as_mut())
    {
        end.done = true;
    }
}

/// The hardware watchdog says that it ended the boot before this one, so before a new attempt is opened.
/// One that PID 1 had asked for may have been overtaken by it.
pub fn blame_watchdog(record: &mut BootRecord) {
    let Some(last) = record.attempts.last_mut() else { return };
    let during = match last.end.take() {
        // All units were down and the file systems were being taken away.
        Some(BootEnd::Ordered(end)) => Some(end),
        // Nothing is made worse by what was found already.
        Some(known @ BootEnd::Watchdog { .. }) => {
            last.end = Some(known);
            return;
        }
        _ => None,
    };
    last.end = Some(BootEnd::Watchdog { during });
}

/// preinit runs: opens a new attempt, and closes the last one where it was a trial that ended without a
/// word.
pub fn begin_attempt(record: &mut BootRecord, version: Version, trial: bool, at_unix_s: u64) {
    if let Some(last) = record.attempts.last_mut()
        && last.trial
        && last.fail.is_none()
        && last.stage < AttemptStage::Healthy
    {
        last.fail = Some(FailReason::Stopped { after: last.stage });
    }
    record.boot_count = record.boot_count.saturating_add(1);
    record.attempts.push(Attempt {
        version,
        boot: record.boot_count,
        trial,
        stage: AttemptStage::Preinit,
        fail: None,
        last_lines: Vec::new(),
        at_unix_s,
        end: Some(BootEnd::Open),
    });
}

/// PID 1 runs. The base image knows its version better than the loader's file name did. Where preinit
/// could not reach the record (`boot` is not the last attempt), this boot is entered now.
fn started(record: &mut BootRecord, boot: Option<u64>, version: Option<Version>, trial: bool) {
    if boot.is_none() || record.attempts.last().map(|last| last.boot) != boot {
        begin_attempt(record, version.unwrap_or(UNKNOWN), trial, now_unix_s());
    }
    if let Some(attempt) = record.attempts.last_mut() {
        attempt.version = version.unwrap_or(attempt.version);
        attempt.stage = attempt.stage.max(AttemptStage::Init);
    }
}

/// The present attempt failed. The first reason stays: later ones follow from it.
pub fn fail(record: &mut BootRecord, reason: FailReason, last_lines: Vec<String>) {
    if let Some(attempt) = record.attempts.last_mut()
        && attempt.fail.is_none()
    {
        attempt.fail = Some(reason);
        attempt.last_lines = last_lines;
    }
}

/// The version of a board whose release cannot be read.
pub const UNKNOWN: Version = Version::new(0, 0, 0);

/// The release of the base image.
pub fn running_version() -> Option<Version> {
    board::release().version
}

/// The version in the name of a UKI, `goblinux_VERSION[+COUNTER].efi`, or of the menu's entry for a reset.
pub fn version_of_entry(entry: &str) -> Option<Version> {
    let name = entry.rsplit(['/', '\\']).next()?.to_ascii_lowercase();
    if let Some(version) = reset_entry_version(&name) {
        return Some(version);
    }
    let name = name.strip_prefix("goblinux_")?;
    let name = name.strip_suffix(".efi").unwrap_or(name);
    name.split('+').next()?.parse().ok()
}

/// True for the name of a UKI that the loader took although it had no tries left, because no other had
/// any. The last of a release's own tries looks the same but for its count.
pub fn is_last_resort(entry: &str) -> bool {
    let counters = entry.rsplit_once('+').and_then(|(_, rest)| rest.split_once('-'));
    let Some((left, done)) = counters else { return false };
    let done = done.split('.').next().and_then(|done| done.parse::<u32>().ok());
    left.parse() == Ok(0u32) && done.is_some_and(|done| done != TRIES_MAX)
}

/// Seconds since 1970 by the board's clock.
pub fn now_unix_s() -> u64 {
    std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}

/// What an earlier panic left behind.
#[derive(Debug, PartialEq, Eq)]
struct Panic {
    message: String,
    last_lines: Vec<String>,
}

/// Boots before this one panicked: the newest panic belongs to the last of them, and so on backwards. A
/// release whose PID 1 never ran leaves several, for only a PID 1 collects them.
fn blame_panics(record: &mut BootRecord, newest_first: &[Panic]) {
    // The last attempt is this boot.
    for (attempt, panic) in record.attempts.iter_mut().rev().skip(1).zip(newest_first) {
        // A verdict by PID 1 came before the panic and says more; a silent stop says less.
        if matches!(attempt.fail, None | Some(FailReason::Stopped { .. })) {
            attempt.fail = Some(FailReason::Panic { message: panic.message.clone() });
            attempt.last_lines.clone_from(&panic.last_lines);
        }
    }
}

fn panic_files(pstore: &Path) -> Vec<std::path::PathBuf> {
    let entries = std::fs::read_dir(pstore).into_iter().flatten().flatten().take(PSTORE_FILES_MAX);
    let mut files: Vec<_> = entries
        .filter(|entry| entry.file_name().to_string_lossy().starts_with("dmesg-"))
        .map(|entry| entry.path())
        .collect();
    files.sort();
    files
}

fn clear_panics(pstore: &Path) {
    for file in panic_files(pstore) {
        // What stays is collected again at the next boot and blamed on the wrong one at worst.
        let _ = std::fs::remove_file(file);
    }
}

/// The panics that were saved, newest first.
///
/// The kernel cuts its log into parts, each a file with a line `Panic#1 Part2` (or `Oops#..`) on top; part 1
/// holds the newest lines and is written first, each part with its own time, which is in its name:
/// `dmesg-efi_pstore-ID`, ID = (seconds * 100 + part) * 1000 + count (drivers/firmware/efi/efi-pstore.c).
/// So a part that does not count on from the one before it begins another panic.
fn collect_panics(pstore: &Path) -> Vec<Panic> {
    let mut parts: Vec<(u64, u32, Vec<String>)> = Vec::new();
    for file in panic_files(pstore) {
        let Ok(bytes) = files::read_bounded(&file, PSTORE_BYTES_MAX) else { continue };
        let text = String::from_utf8_lossy(&bytes);
        let mut lines = text.lines();
        let head = lines.next().unwrap_or_default();
        if head.starts_with("Panic#") {
            let part = head.rsplit("Part").next().and_then(|number| number.trim().parse().ok());
            parts.push((second_of(&file), part.unwrap_or(1), lines.map(without_stamp).collect()));
        }
    }
    parts.sort_by_key(|(second, part, _)| (*second, *part));
    let mut panics: Vec<Vec<(u32, Vec<String>)>> = Vec::new();
    for (_, part, lines) in parts {
        match panics.last_mut() {
            Some(panic) if panic.last().is_some_and(|(last, _)| *last < part) => {
                panic.push((part, lines))
            }
            _ => panics.push(vec![(part, lines)]),
        }
    }
    panics.into_iter().rev().take(ATTEMPTS_KEPT_MAX).map(join_parts).collect()
}

fn second_of(file: &Path) -> u64 {
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    let id: Option<u64> = name.rsplit('-').next().and_then(|id| id.parse().ok());
    id.and_then(|id| id.checked_div(100_000)).unwrap_or(0)
}

fn join_parts(mut parts: Vec<(u32, Vec<String>)>) -> Panic {
    parts.sort_by_key(|(part, _)| std::cmp::Reverse(*part));
    let lines: Vec<String> = parts.into_iter().flat_map(|(_, lines)| lines).collect();
    let place = lines.iter().rposition(|line| line.contains("Kernel panic - not syncing"));
    let found = place.and_then(|place| lines.get(place)).cloned();
    let mut message = found.unwrap_or_else(|| "panic".into());
    message.truncate(message.floor_char_boundary(MESSAGE_BYTES_MAX));
    // What came before the panic says more than the registers after it.
    let end = place.map_or(lines.len(), |place| place.saturating_add(1));
    let first = end.saturating_sub(LAST_LINES_MAX);
    Panic { message, last_lines: lines.get(first..end).unwrap_or_default().to_vec() }
}

/// A line of the kernel's log without `<4>[   12.345678] `.
fn without_stamp(line: &str) -> String {
    let line =
        line.strip_prefix('<').and_then(|rest| rest.split_once('>')).map_or(line, |(_, rest)| rest);
    let line = line
        .strip_prefix('[')
        .and_then(|rest| rest.split_once("] "))
        .map_or(line, |(_, rest)| rest);
    line.replace(char::is_control, " ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use goblin_core_types::{EndBy, EndKind};

    fn record_after(trial: bool, stage: AttemptStage, fail: Option<FailReason>) -> BootRecord {
        let mut record = BootRecord::default();
        begin_attempt(&mut record, Version::new(2, 0, 0), trial, 7);
        let last = record.attempts.last_mut().unwrap();
        last.stage = stage;
        last.fail = fail;
        begin_attempt(&mut record, Version::new(1, 0, 0), false, 9);
        record
    }

    #[test]
    fn entries_name_their_version() {
        assert_eq!(version_of_entry("goblinux_2+3.efi"), Some(Version::new(2, 0, 0)));
        assert_eq!(
            version_of_entry("/EFI/Linux/goblinux_2026.11+2-1.efi"),
            Some(Version::new(2026, 11, 0))
        );
        assert_eq!(version_of_entry("GOBLINUX_3.EFI"), Some(Version::new(3, 0, 0)));
        assert_eq!(version_of_entry("reset_2.conf"), Some(Version::new(2, 0, 0)));
        assert_eq!(version_of_entry("other.efi"), None);
    }

    #[test]
    fn a_spent_entry_is_told_from_a_last_try() {
        for (entry, expected) in [
            ("/EFI/Linux/goblinux_2+2-1.efi", false),
            ("/EFI/Linux/goblinux_2+0-3.efi", false),
            ("/EFI/Linux/goblinux_2+0-2.efi", true),
            ("/EFI/Linux/goblinux_2+0-17.efi", true),
            ("/EFI/Linux/goblinux_2.efi", false),
            ("nonsense+-", false),
        ] {
            assert_eq!(is_last_resort(entry), expected, "{entry}");
        }
    }

    #[test]
    fn only_a_trial_that_ended_early_was_stopped() {
        let stopped = record_after(true, AttemptStage::Init, None);
        let reason = FailReason::Stopped { after: AttemptStage::Init };
        assert_eq!(stopped.attempts[0].fail, Some(reason));
        assert_eq!(stopped.boot_count, 2);
        assert_eq!(record_after(true, AttemptStage::Healthy, None).attempts[0].fail, None);
        assert_eq!(record_after(false, AttemptStage::Init, None).attempts[0].fail, None);
    }

    #[test]
    fn a_panic_explains_a_silent_stop_but_not_a_verdict() {
        let panic = Panic { message: "m".into(), last_lines: vec!["l".into()] };
        let mut record = record_after(true, AttemptStage::Init, None);
        blame_panics(&mut record, std::slice::from_ref(&panic));
        assert_eq!(record.attempts[0].fail, Some(FailReason::Panic { message: "m".into() }));
        let verdict = FailReason::HandOver { message: "x".into() };
        let mut record = record_after(true, AttemptStage::Init, Some(verdict.clone()));
        blame_panics(&mut record, std::slice::from_ref(&panic));
        assert_eq!(record.attempts[0].fail, Some(verdict));
    }

    #[test]
    fn panics_of_several_boots_go_to_the_boots_they_ended() {
        let panic = |message: &str| Panic { message: message.into(), last_lines: vec![] };
        let mut record = BootRecord::default();
        for trial in [false, true, true, false] {
            begin_attempt(&mut record, UNKNOWN, trial, 0);
        }
        blame_panics(&mut record, &[panic("newest"), panic("older")]);
        let reason = |message: &str| Some(FailReason::Panic { message: message.into() });
        let fails: Vec<_> = record.attempts.iter().map(|attempt| attempt.fail.clone()).collect();
        assert_eq!(fails, [None, reason("older"), reason("newest"), None]);
        blame_panics(&mut BootRecord::default(), &[panic("x")]);
    }

    #[test]
    fn parts_of_a_panic_are_joined_oldest_first() {
        let dir = tempfile::tempdir().unwrap();
        let put = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).unwrap();
        let end = "<0>[    2.0] Kernel panic - not syncing: init!\n<4>[ 2.1] Call Trace:\n";
        let newest = format!("Panic#1 Part1\n<3>[  1.5] goblin-init: panicked\n{end}");
        put("dmesg-efi_pstore-179519450001001", &newest);
        put("dmesg-efi_pstore-179519450102001", "Panic#1 Part2\n<6>[  1.0] early\n");
        put("dmesg-efi_pstore-179519440001001", "Panic#1 Part1\nan older one\n");
        put("dmesg-efi_pstore-179519460001001", "Oops#1 Part1\n<6>[  1.0] not this\n");
        let panics = collect_panics(dir.path());
        assert_eq!(panics.len(), 2);
        assert_eq!(panics[0].message, "Kernel panic - not syncing: init!");
        assert_eq!(
            panics[0].last_lines,
            ["early", "goblin-init: panicked", panics[0].message.as_str()]
        );
        assert_eq!(panics[1].last_lines, ["an older one"]);
        clear_panics(dir.path());
        assert_eq!(collect_panics(dir.path()), []);
    }

    #[test]
    fn the_first_reason_stays() {
        let mut record = BootRecord::default();
        begin_attempt(&mut record, UNKNOWN, true, 0);
        started(&mut record, Some(1), Some(Version::new(4, 0, 0)), true);
        fail(&mut record, FailReason::HandOver { message: "1".into() }, vec!["a".into()]);
        fail(&mut record, FailReason::HandOver { message: "2".into() }, vec![]);
        let attempt = record.attempts.last().unwrap();
        assert_eq!((attempt.version, attempt.stage), (Version::new(4, 0, 0), AttemptStage::Init));
        assert_eq!(attempt.last_lines, ["a"]);
    }

    fn order(why: &str) -> OrderedEnd {
        let by = EndBy::Unit { name: "control".into() };
        OrderedEnd { how: EndKind::Reboot, by, why: why.into(), done: false, at_unix_s: 5 }
    }

    fn last_end(record: &BootRecord) -> Option<BootEnd> {
        record.attempts.last().unwrap().end.clone()
    }

    #[test]
    fn an_end_is_first_ordered_and_then_done() {
        let mut record = BootRecord::default();
        ordered(&mut record, order("no attempt"));
        begin_attempt(&mut record, UNKNOWN, false, 0);
        ended(&mut record);
        assert_eq!(last_end(&record), Some(BootEnd::Open), "nobody ordered it");
        ordered(&mut record, order("first"));
        ordered(&mut record, order("second"));
        assert_eq!(last_end(&record), Some(BootEnd::Ordered(order("first"))));
        ended(&mut record);
        let done = OrderedEnd { done: true, ..order("first") };
        assert_eq!(last_end(&record), Some(BootEnd::Ordered(done.clone())));
        begin_attempt(&mut record, UNKNOWN, false, 0);
        assert_eq!(record.attempts[0].end, Some(BootEnd::Ordered(done)));
        assert_eq!(last_end(&record), Some(BootEnd::Open));
    }

    #[test]
    fn a_reset_by_the_watchdog_is_told_with_what_it_cut_off() {
        let mut record = BootRecord::default();
        blame_watchdog(&mut record);
        begin_attempt(&mut record, UNKNOWN, false, 0);
        blame_watchdog(&mut record);
        assert_eq!(last_end(&record), Some(BootEnd::Watchdog { during: None }));
        begin_attempt(&mut record, UNKNOWN, false, 0);
        ordered(&mut record, order("x"));
        blame_watchdog(&mut record);
        let expected = BootEnd::Watchdog { during: Some(order("x")) };
        assert_eq!(last_end(&record), Some(expected.clone()));
        blame_watchdog(&mut record);
        assert_eq!(last_end(&record), Some(expected));
    }

    #[test]
    fn a_boot_that_preinit_missed_is_entered_by_pid_1() {
        let mut record = record_after(false, AttemptStage::Healthy, None);
        started(&mut record, None, None, true);
        started(&mut record, Some(3), None, true);
        let boots: Vec<_> =
            record.attempts.iter().map(|attempt| (attempt.boot, attempt.trial)).collect();
        assert_eq!(boots, [(1, false), (2, false), (3, true)]);
        assert_eq!(record.attempts[1].stage, AttemptStage::Preinit);
        assert_eq!(record.attempts[2].stage, AttemptStage::Init);
    }

    #[test]
    fn jobs_survive_the_command_line() {
        let job = Job::Fail {
            reason: FailReason::Unhealthy { checks: vec!["net: \u{fc}".into()], deadline_s: 3 },
            last_lines: vec!["x".into()],
        };
        let text = serde_json::to_string(&job).unwrap();
        assert_eq!(serde_json::from_str::<Job>(&text).unwrap(), job);
        let end = Job::End(order("\u{fc}"));
        assert_eq!(
            serde_json::from_str::<Job>(&serde_json::to_string(&end).unwrap()).unwrap(),
            end
        );
        let start = Job::Start { boot: Some(3) };
        assert_eq!(serde_json::to_string(&start).unwrap(), r#"{"job":"start","boot":3}"#);
    }
}
