//! What the box does about new releases unasked: when it looks, when it upgrades, what it waits for.

use goblin_core_types::{RebootPolicy, Schedule, ScheduleMode, Version};

/// Pause between two looks at the repository.
pub const CHECK_PAUSE_S: u64 = 6 * 3600;
/// Pause after an upgrade that failed, before the next try of the same release.
pub const RETRY_PAUSE_S: u64 = 6 * 3600;

/// What is known when the question is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Situation {
    /// Minute of the day by the board's time zone; absent while the clock is not sure.
    pub minute: Option<u16>,
    /// Seconds since the last look; absent when there was none since the start.
    pub since_check_s: Option<u64>,
    /// Seconds since an upgrade begun unasked failed; absent when none did since the start.
    pub since_failure_s: Option<u64>,
    /// What the last look found newer than what runs.
    pub offered: Option<Version>,
    /// Connections that use a share of the box; absent when a board cannot be asked.
    pub clients: Option<u32>,
    /// Something of an upgrade is under way already.
    pub is_busy: bool,
}

/// What to do now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    /// Nothing.
    Nothing,
    /// Ask the repository.
    Check,
    /// Nothing, and say what for.
    Wait(String),
    /// Upgrade both boards to it.
    Upgrade(Version),
}

/// Decides. Whatever is not known keeps it from restarting anything.
pub fn next(schedule: &Schedule, now: &Situation) -> Next {
    if schedule.mode == ScheduleMode::Off || now.is_busy {
        return Next::Nothing;
    }
    if now.since_check_s.is_none_or(|since| since >= CHECK_PAUSE_S) {
        return Next::Check;
    }
    let Some(to) = now.offered.filter(|_| schedule.mode == ScheduleMode::Install) else {
        return Next::Nothing;
    };
    if now.since_failure_s.is_some_and(|since| since < RETRY_PAUSE_S) {
        return Next::Nothing;
    }
    if let Some(window) = schedule.window {
        match now.minute {
            None => {
                return Next::Wait(format!(
                    "release {to} waits for its window {window}, and the clock is not set"
                ));
            }
            Some(minute) if !window.holds(minute) => {
                return Next::Wait(format!("release {to} waits for its window {window}"));
            }
            Some(_) => {}
        }
    }
    match (schedule.reboot, now.clients) {
        (RebootPolicy::Anyway, _) | (RebootPolicy::Ask, Some(0)) => Next::Upgrade(to),
        (RebootPolicy::Ask, Some(clients)) => Next::Wait(format!(
            "release {to} waits: {clients} client connections use the shares and would be cut; say `goblin upgrade` to go on now"
        )),
        (RebootPolicy::Ask, None) => Next::Wait(format!(
            "release {to} waits: it is not known who uses the shares, for the storage board does not answer"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TWO: Version = Version::new(2, 0, 0);

    fn schedule(mode: ScheduleMode, window: Option<&str>, reboot: RebootPolicy) -> Schedule {
        Schedule { mode, window: window.map(|text| text.parse().unwrap()), reboot }
    }

    fn now() -> Situation {
        Situation {
            minute: Some(180),
            since_check_s: Some(10),
            since_failure_s: None,
            offered: Some(TWO),
            clients: Some(0),
            is_busy: false,
        }
    }

    #[test]
    fn nothing_is_done_unasked_by_default() {
        let asked = Situation { since_check_s: None, ..now() };
        assert_eq!(next(&Schedule::default(), &asked), Next::Nothing);
    }

    #[test]
    fn looking_installs_nothing() {
        let check = schedule(ScheduleMode::Check, None, RebootPolicy::Anyway);
        assert_eq!(next(&check, &Situation { since_check_s: None, ..now() }), Next::Check);
        assert_eq!(next(&check, &now()), Next::Nothing);
    }

    #[test]
    fn clients_are_not_cut_and_the_window_is_kept() {
        let install = schedule(ScheduleMode::Install, Some("02:00-05:00"), RebootPolicy::Ask);
        assert_eq!(next(&install, &now()), Next::Upgrade(TWO));
        for held in [
            Situation { clients: Some(3), ..now() },
            Situation { clients: None, ..now() },
            Situation { minute: Some(700), ..now() },
            Situation { minute: None, ..now() },
        ] {
            assert!(matches!(next(&install, &held), Next::Wait(_)), "{held:?}");
        }
        let failed = Situation { since_failure_s: Some(60), ..now() };
        assert_eq!(next(&install, &failed), Next::Nothing);
        let anyway = schedule(ScheduleMode::Install, None, RebootPolicy::Anyway);
        let used = Situation { clients: Some(3), minute: None, ..now() };
        assert_eq!(next(&anyway, &used), Next::Upgrade(TWO));
    }

    proptest! {
        #[test]
        fn a_busy_box_and_a_window_that_is_shut_are_left_alone(
            minute in proptest::option::of(0u16..1440), clients in proptest::option::of(0u32..9),
            since in proptest::option::of(0u64..100_000), is_busy: bool, anyway: bool,
        ) {
            let reboot = if anyway { RebootPolicy::Anyway } else { RebootPolicy::Ask };
            let schedule = schedule(ScheduleMode::Install, Some("02:00-05:00"), reboot);
            let situation = Situation { minute, clients, since_check_s: since, is_busy, ..now() };
            if let Next::Upgrade(_) = next(&schedule, &situation) {
                prop_assert!(!is_busy && minute.is_some_and(|m| (120..300).contains(&m)));
                prop_assert!(anyway || clients == Some(0));
            }
        }
    }
}
