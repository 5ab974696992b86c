//! Which release a board should run next.
//!
//! Without a version asked for: the newest of the followed channel, never one older than what runs,
//! never one that failed here. A version asked for by name may be older and of any channel, but not
//! one that failed here. Waves hold back only what nobody asked for by name.

use crate::time::Instant;
use crate::tuf::{ReleaseCustom, Target, Targets};
use crate::waves::{Hold, Place};
use goblin_core_types::{BoxId, Quarantined, Version};

/// What is known about the board.
#[derive(Debug, Clone, Copy)]
pub struct Question<'a> {
    /// Release that runs.
    pub running: Version,
    /// Channel it follows.
    pub channel: &'a str,
    /// Release a person asked for by name.
    pub to: Option<Version>,
    /// Releases that failed here.
    pub quarantine: &'a [Quarantined],
    /// Whether it waits for its turn.
    pub turn: Turn,
}

/// Whether a box waits for its turn when a release is handed out in waves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// A person asked for what is newest.
    Now,
    /// It does.
    Wait {
        /// The box.
        id: BoxId,
        /// The time.
        now: Instant,
    },
}

impl Turn {
    /// What keeps the box from a release.
    fn hold(self, custom: &ReleaseCustom) -> Option<Hold> {
        match (self, &custom.waves) {
            (Self::Wait { id, now }, Some(waves)) => waves.hold(Place::of(id, custom.version), now),
            _ => None,
        }
    }
}

/// A release in the repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Release {
    /// Its version, channel and UKI.
    pub custom: ReleaseCustom,
    /// Path of its manifest.
    pub path: String,
    /// Length and digest of its manifest.
    pub target: Target,
}

/// The answer where nothing is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Offer {
    /// Nothing newer, or the release that was asked for runs already.
    UpToDate,
    /// There is a newer one, and it is not this box's turn.
    Held {
        /// The newest.
        version: Version,
        /// Why not now.
        hold: Hold,
    },
    /// This one.
    Release(Box<Release>),
}

/// Why there is nothing to run.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OfferError {
    /// The release that was asked for is not in the repository.
    #[error("release {to} is not in the repository; it offers {known}")]
    NotFound {
        /// Asked for.
        to: Version,
        /// Versions that are there, newest first, as text.
        known: String,
    },
    /// The channel holds no release.
    #[error("the repository offers nothing in the channel `{channel}`; it offers {known}")]
    EmptyChannel {
        /// Channel.
        channel: String,
        /// Versions in other channels, as text.
        known: String,
    },
    /// Everything there is older than what runs.
    #[error(
        "the newest release offered is {newest}, older than the running {running}; to go back on purpose, name it: `goblin upgrade --to {newest}`"
    )]
    Older {
        /// Newest in the channel.
        newest: Version,
        /// What runs.
        running: Version,
    },
    /// It failed here before.
    #[error(
        "release {version} failed on this board before: {reason}; wait for a newer one, or forget the failure with `goblin quarantine clear`"
    )]
    Quarantined {
        /// Version.
        version: Version,
        /// How it failed.
        reason: String,
    },
}

/// Releases shown in an error.
const SHOWN_MAX: usize = 8;

/// Every release the targets name, newest first.
pub fn releases(targets: &Targets) -> Vec<Release> {
    let mut found: Vec<Release> = targets
        .targets
        .iter()
        .filter_map(|(path, target)| {
            let custom = target.release()?;
            Some(Release { custom, path: path.clone(), target: target.clone() })
        })
        .collect();
    found.sort_by(|a, b| b.custom.version.cmp(&a.custom.version).then(a.path.cmp(&b.path)));
    found
}

/// Finds the release to run next.
///
/// # Errors
/// [`OfferError`] with the remedy.
pub fn choose(targets: &Targets, question: &Question<'_>) -> Result<Offer, OfferError> {
    let all = releases(targets);
    if let Some(to) = question.to {
        return by_name(all, to, question);
    }
    let known = names(&all);
    let mine: Vec<Release> =
        all.into_iter().filter(|release| release.custom.channel == question.channel).collect();
    let Some(newest) = mine.first().map(|release| release.custom.version) else {
        return Err(OfferError::EmptyChannel { channel: question.channel.into(), known });
    };
    if newest < question.running {
        return Err(OfferError::Older { newest, running: question.running });
    }
    let newer = mine.into_iter().filter(|release| release.custom.version > question.running);
    // The newest that neither failed here nor waits; one in between is still a step forward.
    let (mut held, mut failed) = (None, None);
    for release in newer {
        let custom = &release.custom;
        if let Some(known) = quarantined(custom, question.quarantine) {
            failed.get_or_insert_with(|| known.clone());
        } else if let Some(hold) = question.turn.hold(custom) {
            held.get_or_insert((custom.version, hold));
        } else {
            return Ok(Offer::Release(Box::new(release)));
        }
    }
    match (held, failed) {
        (Some((version, hold)), _) => Ok(Offer::Held { version, hold }),
        (None, Some(Quarantined { version, reason, .. })) => {
            Err(OfferError::Quarantined { version, reason })
        }
        (None, None) => Ok(Offer::UpToDate),
    }
}

fn by_name(all: Vec<Release>, to: Version, question: &Question<'_>) -> Result<Offer, OfferError> {
    if to == question.running {
        return Ok(Offer::UpToDate);
    }
    let known = names(&all);
    let Some(release) = all.into_iter().find(|release| release.custom.version == to) else {
        return Err(OfferError::NotFound { to, known });
    };
    match quarantined(&release.custom, question.quarantine) {
        Some(failed) => {
            Err(OfferError::Quarantined { version: failed.version, reason: failed.reason.clone() })
        }
        None => Ok(Offer::Release(Box::new(release))),
    }
}

/// The failure that keeps a release from being tried: the same UKI, or the same version where the
/// metadata does not say which UKI it has (the manifest will).
fn quarantined<'q>(
    custom: &ReleaseCustom,
    quarantine: &'q [Quarantined],
) -> Option<&'q Quarantined> {
    quarantine.iter().find(|failed| {
        failed.version == custom.version && custom.uki.is_none_or(|uki| uki == failed.uki)
    })
}

fn names(releases: &[Release]) -> String {
    let mut names: Vec<String> =
        releases.iter().take(SHOWN_MAX).map(|r| r.custom.version.to_string()).collect();
    if releases.len() > SHOWN_MAX {
        names.push("older ones".into());
    }
    if names.is_empty() { "none at all".into() } else { names.join(", ") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::publish::Publisher;
    use crate::time::Instant;
    use goblin_core_types::Digest;

    fn version(n: u32) -> Version {
        Version::new(n, 0, 0)
    }

    fn targets(releases: &[(u32, &str)]) -> Targets {
        let mut publisher = Publisher::empty();
        for &(n, channel) in releases {
            let uki = Some(Digest([u8::try_from(n).unwrap(); 32]));
            let custom =
                ReleaseCustom { version: version(n), channel: channel.into(), uki, waves: None };
            publisher.add_release(&custom, b"{}").unwrap();
        }
        Targets::new(1, Instant::from_unix_s(0), publisher.targets)
    }

    fn failed(n: u32, uki: u8) -> Quarantined {
        Quarantined { version: version(n), uki: Digest([uki; 32]), reason: "panic".into() }
    }

    fn ask(
        releases: &[(u32, &str)],
        to: Option<u32>,
        quarantine: &[Quarantined],
    ) -> Result<Option<u32>, OfferError> {
        let to = to.map(version);
        let turn = Turn::Now;
        let question = Question { running: version(2), channel: "stable", to, quarantine, turn };
        choose(&targets(releases), &question).map(|offer| match offer {
            Offer::UpToDate => None,
            Offer::Held { .. } => unreachable!("nobody waits"),
            Offer::Release(found) => Some(found.custom.version.to_string().parse().unwrap()),
        })
    }

    #[test]
    fn newest_of_the_channel_is_offered() {
        let known = [(1, "stable"), (3, "stable"), (10, "stable"), (11, "edge")];
        assert_eq!(ask(&known, None, &[]), Ok(Some(10)));
    }

    #[test]
    fn going_back_needs_the_version_by_name() {
        assert!(matches!(ask(&[(1, "stable")], None, &[]), Err(OfferError::Older { .. })));
        assert_eq!(ask(&[(1, "stable")], Some(1), &[]), Ok(Some(1)));
        assert_eq!(ask(&[(1, "stable"), (2, "stable")], None, &[]), Ok(None));
    }

    #[test]
    fn what_failed_here_is_passed_over() {
        let known = [(3, "stable"), (4, "stable")];
        assert_eq!(ask(&known, None, &[failed(4, 4)]), Ok(Some(3)));
        let all = [failed(3, 3), failed(4, 4)];
        let refused = ask(&known, None, &all);
        assert!(
            matches!(refused, Err(OfferError::Quarantined { version: v, .. }) if v == version(4))
        );
        assert!(matches!(ask(&known, Some(4), &all), Err(OfferError::Quarantined { .. })));
    }

    #[test]
    fn release_in_waves_waits_and_one_in_between_does_not() {
        let now = Instant::from_unix_s(1_800_000_000);
        let turn = Turn::Wait { id: goblin_core_types::BoxId([7; 16]), now };
        let later = crate::waves::Step { from: now.plus_days(2), places: crate::waves::PLACES };
        let mut targets = targets(&[(3, "stable"), (4, "stable")]);
        let hand_out = |targets: &mut Targets, n: u32, waves: crate::waves::Waves| {
            let path = format!("releases/{n}/manifest.json");
            let custom = targets.targets.get_mut(&path).unwrap().custom.as_mut().unwrap();
            custom["waves"] = serde_json::to_value(waves).unwrap();
        };
        let ask = |targets: &Targets, to: Option<u32>, turn| {
            let to = to.map(version);
            let question =
                Question { running: version(2), channel: "stable", to, quarantine: &[], turn };
            choose(targets, &question).unwrap()
        };
        let is = |offer: &Offer, n| matches!(offer, Offer::Release(found) if found.custom.version == version(n));
        let waits = crate::waves::Waves { steps: vec![later], halted: None };
        hand_out(&mut targets, 4, waits.clone());
        assert!(is(&ask(&targets, None, turn), 3));
        assert!(is(&ask(&targets, None, Turn::Now), 4));
        let halted = crate::waves::Waves { steps: vec![], halted: Some("fans stop".into()) };
        hand_out(&mut targets, 3, halted);
        let held = Offer::Held { version: version(4), hold: Hold::Until(now.plus_days(2)) };
        assert_eq!(ask(&targets, None, turn), held);
        assert!(is(&ask(&targets, Some(3), turn), 3), "asked for by name");
        let after = Turn::Wait { id: goblin_core_types::BoxId([7; 16]), now: now.plus_days(2) };
        assert!(is(&ask(&targets, None, after), 4));
    }

    #[test]
    fn rebuilt_release_of_a_failed_version_is_another_release() {
        assert_eq!(ask(&[(4, "stable")], None, &[failed(4, 99)]), Ok(Some(4)));
    }

    #[test]
    fn absent_release_and_empty_channel_say_what_is_there() {
        let refused = ask(&[(1, "stable"), (3, "edge")], Some(7), &[]).unwrap_err();
        assert_eq!(refused.to_string(), "release 7 is not in the repository; it offers 3, 1");
        assert!(matches!(ask(&[(3, "edge")], None, &[]), Err(OfferError::EmptyChannel { .. })));
    }
}
