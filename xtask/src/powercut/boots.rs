//! Boots a few of the states for real, and lets one of them upgrade again.

use super::cuts::{Cut, Dice, How};
use super::disk::{Disk, no_key};
use super::fsck::{self, SECOND_NAME};
use super::inspect;
use super::landmarks::STAGE;
use super::record::{self, FIRST_BOOT};
use super::replay::{self, Marks, State};
use super::report::{Failure, Report, describe};
use super::{Places, host};
use crate::lab::{self, BOOT_LIMIT};
use anyhow::{Context, Result, ensure};
use goblin_core_types::{BoardStatus, paths};
use goblin_tests::qemu::{Board, BoardSpec};
use goblin_tests::writelog::WriteLog;
use std::collections::BTreeMap;
use std::time::Duration;

/// Longest a board may take to switch itself off.
const OFF_LIMIT: Duration = Duration::from_secs(90);

/// The states to boot: first the four that are hardest to come back from, then a seeded choice that goes round
/// the phases.
pub(super) fn sample(states: &[State], count: usize, seed: u64) -> Vec<&State> {
    if count >= states.len() {
        return states.iter().collect();
    }
    let worst: [&dyn Fn(&State) -> bool; 4] = [
        &|state| state.marks.is_new_damaged && state.phase == STAGE && state.marks.is_disordered,
        &|state| state.marks.is_scrubbed && state.phase == FIRST_BOOT && state.marks.is_disordered,
        &|state| state.marks.is_trial && state.marks.is_disordered,
        &|state| state.marks.is_super_torn,
    ];
    let mut chosen: Vec<usize> = Vec::new();
    let mut dice = Dice::new(seed, 0);
    for wanted in worst {
        let fitting = || (0..states.len()).filter(|&index| states.get(index).is_some_and(wanted));
        let skipped = usize::try_from(dice.below(fitting().count() as u64)).unwrap_or(0);
        chosen.extend(fitting().nth(skipped).filter(|index| !chosen.contains(index)));
    }
    let mut left: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for (index, state) in states.iter().enumerate().filter(|(index, _)| !chosen.contains(index)) {
        left.entry(&state.phase).or_default().push(index);
    }
    while chosen.len() < count {
        for of_phase in left.values_mut().filter(|of_phase| !of_phase.is_empty()) {
            let index = usize::try_from(dice.below(of_phase.len() as u64)).unwrap_or(0);
            chosen.push(of_phase.swap_remove(index));
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
            "{} of {}, {}, flushed {}, written {}",
            number + 1,
            states.len(),
            state.phase,
            state.flushed,
            describe(&state.cut)
        );
        host::say(format!("booting {words}"));
        replay::materialize(log, state, report.seed, &places.before(), &spec.system_disk)?;
        let disk = spec.system_disk.clone();
        let _ = std::fs::remove_file(places.dir.join(format!("{name}.nvram")));
        report.booted += 1;
        *report.booted_by_phase.entry(state.phase.clone()).or_default() += 1;
        let upgrades = state.marks.is_new_damaged && state.phase == STAGE;
        match boot(spec, &state.phase, upgrades) {
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

/// Boots the disk as it was before an entry of the log, lets it upgrade, and says what its ESP is like then.
///
/// # Errors
/// When it does not come up or does not upgrade, or its ESP is damaged afterwards.
pub(super) fn boot_at(places: &Places, entry: usize) -> Result<()> {
    let log = WriteLog::open(&places.log())?;
    let (lab, ports) = record::lab(places)?;
    let _web = lab::serve(&places.repository(), ports)?;
    let disk = places.dir.join("at.img");
    let spec = BoardSpec { name: "at".into(), system_disk: disk.clone(), ..record::alone(&lab) };
    let cut = Cut { how: How::Prefix, pieces: Vec::new() };
    let (phase, marks) = (String::new(), Marks::default());
    let state = State { flushed: entry, cut, phase, marks };
    replay::materialize(&log, &state, 0, &places.before(), &disk)?;
    let _ = std::fs::remove_file(places.dir.join("at.nvram"));
    // Whether the settings are there depends on the entry, and is not asked.
    let booted = boot(spec, FIRST_BOOT, true);
    let after = Disk::copy_of(&disk, &places.dir.join("at.after.img"), no_key())?;
    let esp = fsck::check(&after.esp_path)?;
    println!("{:?}: {esp:?}", inspect::list(&after, paths::ESP_LINUX)?);
    booted?;
    let is_whole = esp.damage.is_empty() && !esp.harmless.iter().any(|name| name == SECOND_NAME);
    ensure!(is_whole, "the ESP is damaged after the board went on");
    Ok(())
}

fn boot(spec: BoardSpec, phase: &str, upgrades: bool) -> Result<()> {
    let board = Board::start(spec)?;
    let channel = board.channel()?;
    let goes_on = |board: &BoardStatus| record::goes_on(board, phase);
    let played = record::wait(&channel, "up again", BOOT_LIMIT, &goes_on)
        .and_then(|()| if upgrades { record::upgrade(&channel) } else { Ok(()) })
        .with_context(|| format!("the board's last lines:\n{}", board.serial.tail(15)));
    // A board that does not switch itself off is another failure than one that does not start.
    played.and_then(|()| board.power_off(OFF_LIMIT))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_phase_is_booted_before_one_is_booted_again() {
        let state = |(flushed, phase): (usize, &str)| State {
            flushed,
            cut: Cut { how: How::Prefix, pieces: Vec::new() },
            phase: phase.into(),
            marks: Marks::default(),
        };
        let phases = [FIRST_BOOT, "rollback", STAGE];
        let of_states = (0..90).map(|at| (at, if at < 2 { phases[at] } else { STAGE }));
        let states: Vec<State> = of_states.map(state).collect();
        for seed in 1..9 {
            let booted: Vec<&str> =
                sample(&states, 5, seed).iter().map(|state| state.phase.as_str()).collect();
            assert_eq!(booted, [FIRST_BOOT, "rollback", STAGE, STAGE, STAGE]);
        }
    }
}
