//! Releases handed out by and by: a mistake reaches few boxes before it is noticed.
//!
//! ```text
//! share of the boxes   1 % ----- 10 % ------------ 100 %
//!                      from t0   from t1           from t2        halted: no further box begins
//! ```
//! Steps and halt are part of the signed metadata. Each box finds its place in the line by itself, from its
//! id and the release: no server counts boxes, and it is not the same ones that go first each time.

use crate::time::Instant;
use goblin_core_types::{BoxId, Version};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// All boxes, in the unit of [`Place`] and [`Step`].
pub const PLACES: u16 = 10_000;
/// Most steps of a release.
pub const STEPS_MAX: usize = 16;
/// Longest reason of a halt in bytes.
pub const REASON_BYTES_MAX: usize = 200;
/// Separates this use of the hash from all others.
const PLACE_CONTEXT: &str = "goblinux 2026 place of a box among those that wait for a release";

/// Place of a box in the line for one release, from 0 to [`PLACES`] - 1; lower comes earlier.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place(u16);

impl Place {
    /// The place of a box: the same on both boards, and another one for each release.
    pub fn of(id: BoxId, version: Version) -> Self {
        let mut hasher = blake3::Hasher::new_derive_key(PLACE_CONTEXT);
        hasher.update(&id.0);
        hasher.update(version.to_string().as_bytes());
        let mut first = [0; 8];
        hasher.finalize_xof().fill(&mut first);
        // 64 bits over 10000 places: no place is likelier than another by more than 1 in 10^15.
        let place = u64::from_le_bytes(first).checked_rem(PLACES.into()).unwrap_or(0);
        Self(u16::try_from(place).unwrap_or(0))
    }
}

/// From when on how many boxes may take a release.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Step {
    /// When it begins.
    pub from: Instant,
    /// Boxes, in ten-thousandths of all.
    pub places: u16,
}

/// How a release is handed out.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Waves {
    /// In the order of their times, each for more boxes. Without any, all boxes may.
    #[serde(default)]
    pub steps: Vec<Step>,
    /// Why no further box shall begin; a box that began goes on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub halted: Option<String>,
}

/// Why a box does not take a release yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Hold {
    /// Its turn comes.
    Until(Instant),
    /// No step says when.
    Unknown,
    /// The publisher stopped it.
    Halted(String),
}

impl fmt::Display for Hold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Until(at) => write!(f, "it comes to this box on {at}"),
            Self::Unknown => f.write_str("its publisher has not said when it comes to this box"),
            Self::Halted(reason) if reason.is_empty() => f.write_str("its publisher halted it"),
            Self::Halted(reason) => write!(f, "its publisher halted it ({reason})"),
        }
    }
}

/// Steps that make no sense.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WavesError {
    /// More than [`STEPS_MAX`].
    #[error("{got} steps, at most {STEPS_MAX} are allowed; leave some out")]
    TooMany {
        /// How many.
        got: usize,
    },
    /// Not later than the one before, or not for more boxes.
    #[error("step {ordinal} is not later and for more boxes than the one before it")]
    Order {
        /// Which, from 1 on.
        ordinal: usize,
    },
    /// No box, or more than all.
    #[error("step {ordinal} is not for 0.01 to 100 percent of the boxes")]
    Places {
        /// Which, from 1 on.
        ordinal: usize,
    },
    /// Longer than [`REASON_BYTES_MAX`], or more than one line.
    #[error("the reason of the halt is not one line of at most {REASON_BYTES_MAX} bytes")]
    Reason,
}

impl Waves {
    /// Checks what a publisher wrote.
    ///
    /// # Errors
    /// [`WavesError`].
    pub fn check(&self) -> Result<(), WavesError> {
        if self.steps.len() > STEPS_MAX {
            return Err(WavesError::TooMany { got: self.steps.len() });
        }
        let mut before: Option<&Step> = None;
        for (ordinal, step) in (1usize..).zip(&self.steps) {
            if step.places == 0 || step.places > PLACES {
                return Err(WavesError::Places { ordinal });
            }
            if before.is_some_and(|b| step.from <= b.from || step.places <= b.places) {
                return Err(WavesError::Order { ordinal });
            }
            before = Some(step);
        }
        let plain =
            |text: &String| text.len() <= REASON_BYTES_MAX && !text.chars().any(char::is_control);
        if self.halted.as_ref().is_none_or(plain) { Ok(()) } else { Err(WavesError::Reason) }
    }

    /// What keeps a box at `place` from the release at `now`; `None` when nothing does. Steps in any order
    /// are answered, for they come from outside.
    pub fn hold(&self, place: Place, now: Instant) -> Option<Hold> {
        if let Some(reason) = &self.halted {
            return Some(Hold::Halted(reason.chars().take(REASON_BYTES_MAX).collect()));
        }
        if self.steps.is_empty() {
            return None;
        }
        let mine = self.steps.iter().take(STEPS_MAX).filter(|step| place.0 < step.places);
        match mine.map(|step| step.from).min() {
            Some(from) if from <= now => None,
            Some(from) => Some(Hold::Until(from)),
            None => Some(Hold::Unknown),
        }
    }
}

/// A step as a publisher writes it: `PERCENT@TIME`, the time as `2026-11-20T16:00:00Z`, or `+3d`, `+12h`
/// from now on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StepText {
    places: u16,
    when: When,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum When {
    At(Instant),
    In { hours: u32 },
}

/// A text that is no step.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{text}` is no step: write a percentage and a time, like 1@+0h, 10.5@+3d or 100@2026-11-20T16:00:00Z"
)]
pub struct ParseStepError {
    text: String,
}

impl StepText {
    /// The step, for a publisher at `now`.
    pub fn at(self, now: Instant) -> Step {
        let from = match self.when {
            When::At(from) => from,
            When::In { hours } => {
                let seconds = u64::from(hours).saturating_mul(3600);
                Instant::from_unix_s(now.unix_s().saturating_add(seconds))
            }
        };
        Step { from, places: self.places }
    }
}

fn places(text: &str) -> Option<u16> {
    let (whole, part) = text.split_once('.').unwrap_or((text, ""));
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || whole.len() > 3 || part.len() > 2 || !digits(whole) || !digits(part) {
        return None;
    }
    let whole: u16 = whole.parse().ok()?;
    let part: u16 = format!("{part:0<2}").parse().ok()?;
    let places = whole.checked_mul(100)?.checked_add(part)?;
    (1..=PLACES).contains(&places).then_some(places)
}

impl FromStr for StepText {
    type Err = ParseStepError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parsed = || {
            let (share, when) = text.split_once('@')?;
            let places = places(share.strip_suffix('%').unwrap_or(share))?;
            let number = |text: &str| -> Option<u32> {
                (text.len() <= 5 && text.bytes().all(|byte| byte.is_ascii_digit()))
                    .then(|| text.parse().ok())?
            };
            let when = match when.strip_prefix('+') {
                Some(rest) => match (rest.strip_suffix('h'), rest.strip_suffix('d')) {
                    (Some(hours), _) => When::In { hours: number(hours)? },
                    (_, Some(days)) => When::In { hours: number(days)?.checked_mul(24)? },
                    _ => return None,
                },
                None => When::At(when.parse().ok()?),
            };
            Some(Self { places, when })
        };
        parsed().ok_or_else(|| ParseStepError { text: text.chars().take(40).collect() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const T0: Instant = Instant::from_unix_s(1_800_000_000);

    fn waves(text: &[&str]) -> Waves {
        let steps = text.iter().map(|text| text.parse::<StepText>().unwrap().at(T0)).collect();
        Waves { steps, halted: None }
    }

    fn id(n: u64) -> BoxId {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&n.to_le_bytes());
        BoxId(bytes)
    }

    #[test]
    fn each_step_reaches_about_its_share_and_the_last_one_all() {
        let waves = waves(&["1@+0h", "25@+1d", "100@+3d"]);
        waves.check().unwrap();
        let version = Version::new(7, 0, 0);
        let reached = |days: u32| {
            let may =
                |n: &u64| waves.hold(Place::of(id(*n), version), T0.plus_days(days)).is_none();
            (0..4000).filter(may).count()
        };
        assert!((10..100).contains(&reached(0)), "{}", reached(0));
        assert!((850..1150).contains(&reached(1)), "{}", reached(1));
        assert_eq!(reached(3), 4000);
    }

    #[test]
    fn other_boxes_go_first_with_another_release() {
        let place = |n, version| Place::of(id(n), Version::new(version, 0, 0));
        assert_eq!(place(1, 2), place(1, 2));
        assert!(
            (0..16).any(|n| place(n, 2) < place(n, 3))
                && (0..16).any(|n| place(n, 2) > place(n, 3))
        );
    }

    #[test]
    fn place_of_a_box_is_the_same_for_ever() {
        // A change would shuffle the line of a release that is being handed out.
        assert_eq!(Place::of(id(7), Version::new(3, 1, 0)), Place(2344));
    }

    #[test]
    fn halt_holds_every_box_whatever_its_turn() {
        let mut waves = waves(&["100@+0h"]);
        assert_eq!(waves.hold(Place(0), T0), None);
        waves.halted = Some("fans stop".into());
        let hold = waves.hold(Place(0), T0).unwrap();
        assert_eq!(hold.to_string(), "its publisher halted it (fans stop)");
    }

    #[test]
    fn box_is_told_when_its_turn_comes() {
        let waves = waves(&["1@+0h", "50@+2d"]);
        assert_eq!(waves.hold(Place(4999), T0), Some(Hold::Until(T0.plus_days(2))));
        assert_eq!(waves.hold(Place(5000), T0.plus_days(9)), Some(Hold::Unknown));
        assert_eq!(Waves::default().hold(Place(9999), Instant::from_unix_s(0)), None);
    }

    #[test]
    fn steps_that_go_back_are_refused() {
        assert_eq!(waves(&["10@+1d", "5@+2d"]).check(), Err(WavesError::Order { ordinal: 2 }));
        assert_eq!(waves(&["10@+1d", "50@+1d"]).check(), Err(WavesError::Order { ordinal: 2 }));
        let long = Waves { steps: Vec::new(), halted: Some("x".repeat(201)) };
        assert_eq!(long.check(), Err(WavesError::Reason));
    }

    #[test]
    fn odd_steps_are_no_steps() {
        for odd in ["", "10", "@+1d", "0@+1d", "101@+1d", "1.234@+1d", "5@1d", "5@+1w", "-1@+1d"] {
            assert!(odd.parse::<StepText>().is_err(), "{odd}");
        }
        let step: StepText = "12.5%@2027-01-15T08:00:00Z".parse().unwrap();
        assert_eq!(step.at(T0), Step { from: T0, places: 1250 });
    }

    proptest! {
        // Once a box may, it may at any later time: a turn is never taken back.
        #[test]
        fn turn_stays(
            steps in proptest::collection::vec((0u64..1_000_000, 0u16..20_000), 0..20),
            place in 0u16..PLACES, now in 0u64..1_000_000, later in 0u64..1_000_000,
        ) {
            let steps = steps.into_iter()
                .map(|(from, places)| Step { from: Instant::from_unix_s(from), places });
            let waves = Waves { steps: steps.collect(), halted: None };
            let may = |at| waves.hold(Place(place), Instant::from_unix_s(at)).is_none();
            prop_assert!(!may(now) || may(now + later));
        }

        #[test]
        fn any_text_is_answered(text in ".{0,40}") {
            let _ = text.parse::<StepText>();
        }
    }
}
