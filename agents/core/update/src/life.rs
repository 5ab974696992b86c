//! Where the life of the newest upgrade stands, from what is durable: boot record, boot disk, and a note
//! on STATE of what failed before anything was armed. Console, command line and D-Bus show its answer.

use goblin_core_types::{
    LifeStatus, Quarantined, UpdateLife, UpdateOutcome, UpdatePhase, UpdateReport, Version,
};

/// An operation that ended before anything was armed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failed {
    /// The release it was about, where one was chosen.
    pub version: Option<Version>,
    /// Why, with the remedy.
    pub reason: String,
}

/// What is known.
#[derive(Debug, Clone, Copy)]
pub struct Known<'a> {
    /// What the updater does now.
    pub phase: UpdatePhase,
    /// The release it does it to.
    pub target: Option<Version>,
    /// The newest report of the boot record.
    pub last: Option<&'a UpdateReport>,
    /// Releases that are not tried again.
    pub quarantine: &'a [Quarantined],
    /// What failed since that report.
    pub failed: Option<&'a Failed>,
}

/// Tells where the newest upgrade stands.
pub fn life(known: &Known<'_>) -> LifeStatus {
    let going = |state| LifeStatus { state, version: known.target, reason: String::new() };
    match known.phase {
        UpdatePhase::Checking => return going(UpdateLife::Checking),
        UpdatePhase::Fetching => return going(UpdateLife::Fetching),
        UpdatePhase::Building => return going(UpdateLife::Building),
        UpdatePhase::Staged => return going(UpdateLife::Staged),
        UpdatePhase::Armed => return going(UpdateLife::Armed),
        UpdatePhase::Trial => return going(UpdateLife::Trial),
        UpdatePhase::Idle => {}
    }
    if let Some(failed) = known.failed {
        let state = UpdateLife::Failed;
        return LifeStatus { state, version: failed.version, reason: failed.reason.clone() };
    }
    let Some(last) = known.last else { return LifeStatus::default() };
    let state = match last.outcome {
        UpdateOutcome::Good => UpdateLife::Good,
        UpdateOutcome::RolledBack => UpdateLife::RolledBack,
        UpdateOutcome::Refused => UpdateLife::Failed,
        UpdateOutcome::FellBack => {
            let kept = known.quarantine.iter().any(|failed| failed.version == last.to);
            if kept { UpdateLife::Quarantined } else { UpdateLife::Failed }
        }
    };
    LifeStatus { state, version: Some(last.to), reason: last.reason.clone() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use goblin_core_types::Digest;

    const TWO: Version = Version::new(2, 0, 0);

    fn report(outcome: UpdateOutcome) -> UpdateReport {
        UpdateReport {
            from: Version::new(1, 0, 0),
            to: TWO,
            outcome,
            reason: "why".into(),
            last_lines: Vec::new(),
            at_unix_s: 0,
            written: None,
        }
    }

    fn state(
        phase: UpdatePhase,
        last: Option<&UpdateReport>,
        quarantine: &[Quarantined],
    ) -> UpdateLife {
        life(&Known { phase, target: Some(TWO), last, quarantine, failed: None }).state
    }

    #[test]
    fn what_goes_on_is_told_before_what_was() {
        let last = report(UpdateOutcome::FellBack);
        assert_eq!(state(UpdatePhase::Staged, Some(&last), &[]), UpdateLife::Staged);
        assert_eq!(state(UpdatePhase::Trial, Some(&last), &[]), UpdateLife::Trial);
    }

    #[test]
    fn every_end_has_its_word() {
        let quarantine = [Quarantined { version: TWO, uki: Digest([2; 32]), reason: "why".into() }];
        for (outcome, quarantine, expected) in [
            (UpdateOutcome::Good, &quarantine[..0], UpdateLife::Good),
            (UpdateOutcome::RolledBack, &quarantine[..0], UpdateLife::RolledBack),
            (UpdateOutcome::Refused, &quarantine[..0], UpdateLife::Failed),
            (UpdateOutcome::FellBack, &quarantine[..], UpdateLife::Quarantined),
            (UpdateOutcome::FellBack, &quarantine[..0], UpdateLife::Failed),
        ] {
            assert_eq!(state(UpdatePhase::Idle, Some(&report(outcome)), quarantine), expected);
        }
        assert_eq!(state(UpdatePhase::Idle, None, &[]), UpdateLife::Idle);
    }

    #[test]
    fn a_fetch_that_failed_is_the_newest_news() {
        let failed = Failed { version: Some(TWO), reason: "no server".into() };
        let last = report(UpdateOutcome::Good);
        let told = life(&Known {
            phase: UpdatePhase::Idle,
            target: None,
            last: Some(&last),
            quarantine: &[],
            failed: Some(&failed),
        });
        assert_eq!((told.state, told.reason.as_str()), (UpdateLife::Failed, "no server"));
    }
}
