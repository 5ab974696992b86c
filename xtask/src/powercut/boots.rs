//! Boots a few of the states for real, and lets one of them upgrade again.

use super::cuts::Dice;
use super::record;
use super::replay::{self, State};
use super::report::{Failure, Report, describe};
use super::{Places, host};
use crate::lab::{self, BOOT_LIMIT};
use anyhow::{Context, Result};
use goblin_tests::qemu::{Board, BoardSpec};
use goblin_tests::writelog::WriteLog;
use std::time::Duration;

/// Longest a board may take to switch itself off.
const OFF_LIMIT: Duration = Duration::from_secs(90);

/// The states to boot: first the three that are hardest to come back from, then a seeded choice.
pub(super) fn sample(states: &[State], count: usize, seed: u64) -> Vec<&State> {
    if count >= states.len() {
        return states.iter().collect();
    }
    let worst: [&dyn Fn(&State) -> bool; 3] = [
        &|state| state.marks.is_new_damaged && state.marks.is_disordered,
        &|state| {
            state.marks.is_scrubbed && state.phase == "first boot" && state.marks.is_disordered
        },
        &|state| state.marks.is_trial && state.marks.is_disordered,
    ];
    let mut chosen: Vec<usize> = Vec::new();
    let mut dice = Dice::new(seed, 0);
    for wanted in worst {
        let fitting = || (0..states.len()).filter(|&index| states.get(index).is_some_and(wanted));
        let skipped = usize::try_from(dice.below(fitting().count() as u64)).unwrap_or(0);
        chosen.extend(fitting().nth(skipped).filter(|index| !chosen.contains(index)));
    }
    while chosen.len() < count {
        let index = usize::try_from(dice.below(states.len() as u64)).unwrap_or(0);
        if !chosen.contains(&index) {
            chosen.push(index);
        }
    }
    chosen.truncate(count);
    chosen.into_iter().filter_map(|index| states.get(index)).collect()
}

/// Boots each state; a failure is counted, not returned.
pub(super) fn boot_all(
    places: &Places,
    log: &WriteLog,
    states: &[&State],
    report: &mut Report,
) -> Result<()> {
    if states.is_empty() {
        return Ok(());
    }
    let (lab, ports) = record::lab(places)?;
    let _web = lab::serve(&places.repository(), ports)?;
    for (number, state) in states.iter().enumerate() {
        let name = format!("boot{number}");
        let spec = BoardSpec {
            name: name.clone(),
            system_disk: places.dir.join(format!("{name}.img")),
            ..record::alone(&lab)
        };
        let words = format!(
            "{} of {}, flushed {}, written {}",
            number + 1,
            states.len(),
            state.flushed,
            describe(&state.cut)
        );
        host::say(format!("booting {words}"));
        replay::materialize(log, state, report.seed, &places.before(), &spec.system_disk)?;
        let disk = spec.system_disk.clone();
        let _ = std::fs::remove_file(places.dir.join(format!("{name}.nvram")));
        report.booted += 1;
        match boot(spec, state.marks.is_new_damaged) {
            Ok(()) => {
                report.boots.push(words);
                std::fs::remove_file(&disk)?;
            }
            Err(err) => {
                let problems = vec![format!("{err:#}"), format!("disk: {}", disk.display())];
                let failure =
                    Failure::new(report.seed, state.flushed, &state.cut, &state.phase, problems);
                // The disk is kept where it is.
                let _ = report.failed(failure);
            }
        }
    }
    Ok(())
}

fn boot(spec: BoardSpec, upgrades: bool) -> Result<()> {
    let board = Board::start(spec)?;
    let channel = board.channel()?;
    let played = record::wait(&channel, "up again", BOOT_LIMIT, &record::serves_any)
        .and_then(|()| if upgrades { record::upgrade(&channel) } else { Ok(()) })
        .with_context(|| format!("the board's last lines:\n{}", board.serial.tail(15)));
    // A board that does not switch itself off is another failure than one that does not start.
    played.and_then(|()| board.power_off(OFF_LIMIT))
}
