//! Judges who go through a list of looks, once each: `survive: NAME ok ..` or `survive: NAME FAILED: why`.

use crate::judge::{Phase, unit};
use crate::{park, say, signal_init};
use goblin_core_types::{UnitPhase, UnitStatus};
use rustix::process::Signal;
use std::time::{Duration, Instant};

/// Longest that anything here may take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
/// Between two looks.
pub(crate) const LOOK: Duration = Duration::from_millis(100);

/// Goes through the looks and then ends the board.
pub(crate) fn all(looks: &[Phase]) {
    for (name, look) in looks {
        match look() {
            Ok(told) => say(&format!("{name} ok {told}")),
            Err(err) => say(&format!("{name} FAILED: {err}")),
        }
    }
    say("end");
    signal_init(Signal::POWER);
    park()
}

/// Waits until a unit is as it should be.
pub(crate) fn wait_for(
    name: &str,
    what: &str,
    fits: impl Fn(&UnitStatus) -> bool,
) -> Result<UnitStatus, Box<dyn std::error::Error>> {
    let until = Instant::now() + PATIENCE;
    loop {
        let now = unit(name)?;
        if fits(&now) {
            return Ok(now);
        }
        if Instant::now() > until {
            return Err(format!("{what}: {now:?}").into());
        }
        std::thread::sleep(LOOK);
    }
}

/// Fits a unit that is ready.
pub(crate) fn ready(unit: &UnitStatus) -> bool {
    unit.phase == UnitPhase::Ready
}
