//! The power goes at every step of the updater's own code, and the next boot has to find a board.
//!
//! Each path is walked once by the real updater while a [`tape`] takes down what it does to the disks. Then
//! every state that a power cut can leave is looked at, booted, and brought to the end of the upgrade.
//! Last, one precaution at a time is taken out of the tape, and the same look has to find it.

mod tape;

use crate::board::*;
use goblin_core_types::{
    BootRecord, Role, Schedule, ScheduleMode, SlotState, UpdateCommand, Version, reset_entry_name,
    reset_entry_version,
};
use goblin_core_update::menu;
use goblin_core_update::slots::{self, EspFile, NEW_FILE, TRIES_MAX, loader_pick};
use goblin_image::record;
use goblin_sys::writer::Writer;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::FileExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use tape::{Files, State, Step, Tape, each_state};

const STAGE: UpdateCommand = UpdateCommand::Stage { to: None, from: None };
const LINUX: &str = "esp/EFI/Linux/";
const ENTRIES: &str = "esp/loader/entries/";
/// One of so many states is brought to the end of the upgrade, and not only booted.
const GOES_ON_EACH: usize = 5;

/// One path through the updater, recorded.
struct Path {
    server: Server,
    before: Files,
    steps: Vec<Step>,
    /// Releases that do not come up.
    broken: Vec<u32>,
    /// blake3 of each whole content that a note of the store had.
    notes: BTreeMap<String, BTreeSet<Vec<u8>>>,
    ukis: BTreeMap<Version, Vec<u8>>,
}

/// A board that records, walked by `prepare` first and by `walk` on the tape.
fn walked(broken: &[u32], prepare: &dyn Fn(&mut Board), walk: &dyn Fn(&mut Board)) -> Path {
    let server = Server::start();
    publish(&server, &keys(1), 1, &[1, 2], NOW);
    let mut board = Board::new(Role::Storage, &server, &keys(1));
    board.broken = broken.to_vec();
    let tape = Arc::new(Tape::new(board.dir.path()));
    board.writers.esp = Writer::watched(tape.clone());
    board.writers.state = Writer::watched(tape.clone());
    board.record_writer = Writer::watched(tape.clone());
    prepare(&mut board);
    tape.take();
    let before = files_of(&board);
    walk(&mut board);
    let steps = tape.take();
    let (played, found) = (tape::played(&before, &steps), files_of(&board));
    let names = |files: &Files| files.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&played), names(&found), "the tape missed a change");
    assert_eq!(tape::digest(&played), tape::digest(&found), "the tape missed a write");
    let notes = notes_of(&before, &steps);
    let ukis = [1, 2].map(|n| (v(n), release(n).uki)).into();
    Path { server, before, steps, broken: broken.to_vec(), notes, ukis }
}

/// Everything on the disks of a board.
fn files_of(board: &Board) -> Files {
    let mut files = Files::new();
    for folder in ["esp/EFI/Linux", "esp/loader/entries", "store", "store/blobs"] {
        for entry in fs::read_dir(board.dir.path().join(folder)).into_iter().flatten().flatten() {
            if entry.path().is_file() {
                let name = format!("{folder}/{}", entry.file_name().to_str().unwrap());
                files.insert(name, fs::read(entry.path()).unwrap());
            }
        }
    }
    let device = fs::File::open(board.dir.path().join("record")).unwrap();
    for at in [record::COPY_A_OFFSET, record::COPY_B_OFFSET] {
        let mut copy = vec![0; record::COPY_READ_BYTES];
        device.read_exact_at(&mut copy, at).unwrap();
        let used = copy.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        copy.truncate(used.next_multiple_of(4096));
        if !copy.is_empty() {
            files.insert(format!("record@{at}"), copy);
        }
    }
    files
}

fn is_note(name: &str) -> bool {
    name.strip_prefix("store/").is_some_and(|name| name.ends_with(".json") && !name.contains('/'))
}

/// Every whole content that each note had at some time.
fn notes_of(before: &Files, steps: &[Step]) -> BTreeMap<String, BTreeSet<Vec<u8>>> {
    let mut notes: BTreeMap<String, BTreeSet<Vec<u8>>> = BTreeMap::new();
    let mut written: BTreeMap<&str, &[u8]> = BTreeMap::new();
    for (name, content) in before.iter().filter(|(name, _)| is_note(name)) {
        notes.entry(name.clone()).or_default().insert(content.clone());
    }
    for step in steps {
        match step {
            Step::Write(path, 0, bytes) => drop(written.insert(path, bytes)),
            Step::Rename(from, to) if is_note(to) => {
                let content = written[from.as_str()].to_vec();
                notes.entry(to.clone()).or_default().insert(content);
            }
            _ => {}
        }
    }
    notes
}

fn decoded(files: &Files) -> record::Decoded {
    let copy = |at: u64| files.get(&format!("record@{at}")).map_or(&[][..], |copy| copy);
    record::decode(copy(record::COPY_A_OFFSET), copy(record::COPY_B_OFFSET))
}

impl Path {
    /// What a state is at first sight, as the loader and the updater find it.
    fn glance(&self, files: &Files, floor: u64) -> Result<(), String> {
        let names = files.keys().filter_map(|name| name.strip_prefix(LINUX));
        let listed: Vec<EspFile> =
            names.map(|name| EspFile { name: name.into(), size_bytes: 1 }).collect();
        let all = slots::slots(&listed, v(0));
        let pick = loader_pick(&all).ok_or("nothing is left to boot")?;
        for slot in &all {
            if files[&format!("{LINUX}{}", slot.file)] != self.ukis[&slot.version] {
                return Err(format!("{} is not the release's bytes", slot.file));
            }
        }
        let found = decoded(files);
        if found.sequence < floor {
            return Err(format!(
                "the boot record fell back to {}, {floor} was kept",
                found.sequence
            ));
        }
        let armed = pick.state == SlotState::Trial { left: TRIES_MAX, done: 0 };
        if armed && found.record.pending.is_none_or(|pending| pending.to != pick.version) {
            return Err(format!("{} is armed, and the boot record does not know", pick.file));
        }
        for (name, content) in files {
            let entry = name.strip_prefix(ENTRIES).and_then(reset_entry_version);
            if entry.is_some_and(|version| menu::entry_text(version).as_bytes() != content) {
                return Err(format!("{name} is not what its name says"));
            }
            let blob = name.strip_prefix("store/blobs/").filter(|blob| !blob.starts_with("new-"));
            if blob.is_some_and(|blob| hash(content).to_string() != blob) {
                return Err(format!("{name} is not what its name says"));
            }
            if is_note(name) && !self.notes.get(name).is_some_and(|had| had.contains(content)) {
                return Err(format!("{name} is neither old nor new"));
            }
        }
        Ok(())
    }

    /// A board with these disks.
    fn board(&self, files: &Files) -> Board {
        let mut board = Board::new(Role::Storage, &self.server, &keys(1));
        board.broken.clone_from(&self.broken);
        for folder in [board.linux(), board.entries()] {
            fs::remove_dir_all(&folder).unwrap();
            fs::create_dir_all(&folder).unwrap();
        }
        fs::create_dir_all(board.store().join("blobs")).unwrap();
        let device = fs::File::options().write(true).open(board.dir.path().join("record")).unwrap();
        device.set_len(0).unwrap();
        device.set_len(record::RECORD_BYTES).unwrap();
        for (name, content) in files {
            match name.strip_prefix("record@") {
                Some(at) => device.write_all_at(content, at.parse().unwrap()).unwrap(),
                None => fs::write(board.dir.path().join(name), content).unwrap(),
            }
        }
        board
    }

    /// Boots a state, and where it `goes_on` brings the upgrade to its end.
    fn boot(&self, files: &Files, goes_on: bool) -> Result<(), String> {
        let mut board = self.board(files);
        let played = catch_unwind(AssertUnwindSafe(|| {
            let mut updater = board.boot();
            let record = board.boot_record();
            self.settled(&record, board.running)?;
            let wanted = [reset_entry_name(v(board.running))];
            if board.menu() != wanted {
                return Err(format!("{:?} in the boot menu, not {wanted:?}", board.menu()));
            }
            if goes_on && self.broken.is_empty() && board.running == 1 {
                done(&tell(&mut updater, &STAGE));
                done(&tell(&mut updater, &UpdateCommand::Activate { to: v(2) }));
                board.boot();
                if board.running != 2 {
                    return Err(format!("the upgrade did not go on: {:?}", board.names()));
                }
                board.check_store();
            }
            Ok(())
        }));
        played.unwrap_or_else(|panic| {
            let said = panic.downcast_ref::<String>().cloned();
            Err(format!("the board does not go on: {}", said.unwrap_or_default()))
        })
    }

    fn settled(&self, record: &BootRecord, running: u32) -> Result<(), String> {
        let tried = record.attempts.iter().any(|try_| try_.version == v(2) && try_.fail.is_some());
        let failed = record.quarantine.iter().any(|known| known.version == v(2));
        if record.pending.is_some() {
            return Err("a decided upgrade stays open".into());
        }
        if self.broken.contains(&running) {
            return Err("a release that does not come up runs".into());
        }
        if failed != (tried && self.broken.contains(&2)) {
            return Err(format!("tried {tried}, quarantined {failed}"));
        }
        let told = record.reports.iter().any(|report| !report.reason.is_empty());
        if failed && !told { Err("nobody says why it fell back".into()) } else { Ok(()) }
    }

    /// Looks at every state that a cut can leave of `steps`; how many there are, or what is wrong.
    fn look(&self, steps: &[Step], boots: bool) -> Result<usize, String> {
        let (mut count, mut problem, mut floor) = (0, None, 0);
        each_state(&self.before, steps, &mut |State { at, files, certain }| {
            if certain {
                floor = decoded(&files).sequence;
            }
            count += 1;
            let seen = self.glance(&files, floor);
            let goes_on = count % GOES_ON_EACH == 0;
            let seen = seen.and_then(|()| if boots { self.boot(&files, goes_on) } else { Ok(()) });
            problem = seen.err().map(|problem| {
                let last = at.checked_sub(1).map(|last| short(&steps[last]));
                format!("cut after step {at}, {last:?}: {problem}")
            });
            problem.is_none()
        });
        problem.map_or(Ok(count), Err)
    }

    /// Every state is as it should be.
    fn stands(&self, name: &str, states_min: usize) {
        let count =
            self.look(&self.steps, true).unwrap_or_else(|problem| panic!("{name}: {problem}"));
        println!("{name}: {} steps, {count} states booted", self.steps.len());
        assert!(count >= states_min, "{name} has {count} states only: the tape is not looked at");
    }

    /// Without a precaution something is wrong.
    fn falls(&self, without: &str, steps: Vec<Step>) {
        assert_ne!(steps, self.steps, "the tape has no {without}");
        // At first sight, or when it is booted.
        match self.look(&steps, false).and_then(|_| self.look(&steps, true)) {
            Err(problem) => println!("without {without}: {problem}"),
            Ok(count) => panic!("{count} states, and nobody misses {without}"),
        }
    }
}

/// A step without its bytes.
fn short(step: &Step) -> Step {
    match step {
        Step::Write(path, at, bytes) => {
            Step::Write(path.clone(), *at, bytes[..bytes.len().min(4)].into())
        }
        other => other.clone(),
    }
}

fn upgrade(board: &mut Board) {
    let mut updater = board.updater();
    done(&tell(&mut updater, &STAGE));
    done(&tell(&mut updater, &UpdateCommand::Activate { to: v(2) }));
    board.boot();
}

fn rollback(board: &mut Board) {
    done(&tell(&mut board.updater(), &UpdateCommand::Rollback { to: None }));
    board.boot();
    assert_eq!(board.running, 1);
}

/// The place of the first step that is so.
fn place(steps: &[Step], is: impl Fn(&Step) -> bool) -> usize {
    steps.iter().position(is).expect("the tape has no such step")
}

/// The place of the step that gives the new image the name by which it is booted.
fn naming(steps: &[Step]) -> usize {
    let new = format!("{LINUX}{NEW_FILE}");
    place(steps, |step| matches!(step, Step::Rename(from, _) if *from == new))
}

/// Without the waits for a disk between two places.
fn unsynced(steps: &[Step], disk: &str, from: usize, to: usize) -> Vec<Step> {
    let goes = |index: usize, step: &Step| {
        (from..to).contains(&index) && step.is_sync() && step.disk() == disk
    };
    let stays = steps.iter().enumerate().filter(|(index, step)| !goes(*index, step));
    stays.map(|(_, step)| step.clone()).collect()
}

#[test]
fn power_cut_at_any_step_of_an_upgrade_leaves_a_board_that_goes_on() {
    let path = walked(&[], &|_| {}, &upgrade);
    path.stands("upgrade", 60);

    let steps = &path.steps;
    let new = format!("{LINUX}{NEW_FILE}");
    let named = naming(steps);
    let Step::Rename(_, armed) = steps[named].clone() else { unreachable!() };
    let written = place(steps, |step| matches!(step, Step::Write(path, ..) if *path == new));
    path.falls("the flush of the image before it is named", unsynced(steps, "esp", written, named));

    let in_place =
        steps.iter().filter(|step| !matches!(step, Step::Rename(from, _) if *from == new));
    let in_place = in_place.cloned().map(|step| match step {
        Step::Create(path) if path == new => Step::Create(armed.clone()),
        Step::Write(path, at, bytes) if path == new => Step::Write(armed.clone(), at, bytes),
        Step::SyncFile(path) if path == new => Step::SyncFile(armed.clone()),
        other => other,
    });
    path.falls("a name of its own for an image that is not whole", in_place.collect());

    let mut misread = steps.clone();
    let Step::Write(_, _, bytes) = &mut misread[written] else { unreachable!() };
    bytes[700] ^= 1;
    path.falls("the read-back of the image", misread);

    let mut folder_first = steps.clone();
    let filled = named + place(&steps[named..], |step| *step == Step::SyncFile(armed.clone()));
    folder_first.remove(filled);
    path.falls("the flush of a renamed file before its folder's", folder_first);

    let recorded =
        steps[..named].iter().rposition(|step| step.disk() == "record" && !step.is_sync());
    let recorded = recorded.expect("the boot record is written before a release is armed");
    path.falls(
        "the flush of the boot record before a release is armed",
        unsynced(steps, "record", recorded, named),
    );

    let mut late = steps.clone();
    let entry: Vec<Step> = late.drain(recorded..recorded + 2).collect();
    let durable = named - 2 + place(&late[named - 2..], |step| matches!(step, Step::SyncAll(_)));
    late.splice(durable + 1..durable + 1, entry);
    path.falls("the boot record before a release is armed", late);

    let mut one_copy = steps.clone();
    let Step::Write(copy, ..) = &mut one_copy[recorded] else { unreachable!() };
    let [a, b] = [record::COPY_A_OFFSET, record::COPY_B_OFFSET].map(|at| format!("record@{at}"));
    *copy = if *copy == a { b } else { a };
    path.falls("two copies of the boot record", one_copy);

    let is_content =
        |step: &Step| matches!(step, Step::Rename(_, to) if to.starts_with("store/blobs/"));
    let contents = place(steps, is_content);
    let content = steps[..contents]
        .iter()
        .rposition(|step| step.disk() == "store" && step.is_sync())
        .expect("contents are waited for");
    let mut unwaited = steps.clone();
    unwaited.remove(content);
    path.falls("the flush of contents before their names", unwaited);

    let entry = format!("{ENTRIES}{}", reset_entry_name(v(2)));
    let entry = place(steps, |step| matches!(step, Step::Rename(_, to) if *to == entry));
    let name = "the flush of the boot menu's entry before its name";
    path.falls(name, unsynced(steps, "esp", entry - 2, entry));
}

#[test]
fn power_cut_while_a_release_falls_back_loses_neither_the_board_nor_the_reason() {
    let path = walked(&[2], &|_| {}, &|board| {
        upgrade(board);
        assert_eq!(board.running, 1);
    });
    path.stands("fall back", 60);
}

#[test]
fn power_cut_while_a_person_goes_back_leaves_a_board_that_goes_on() {
    let path = walked(&[], &upgrade, &rollback);
    path.stands("rollback", 20);
    let steps = &path.steps;
    let armed = place(steps, |step| matches!(step, Step::Rename(..)) && step.disk() == "esp");
    let recorded = steps[..armed].iter().rposition(|step| matches!(step, Step::Write(..))).unwrap();
    path.falls(
        "the flush of the boot record before the older release is armed",
        unsynced(steps, "record", recorded, armed),
    );
}

#[test]
fn power_cut_while_a_release_set_aside_is_taken_up_again_leaves_a_board_that_goes_on() {
    let set_aside = |board: &mut Board| {
        upgrade(board);
        rollback(board);
    };
    walked(&[], &set_aside, &upgrade).stands("set aside, taken up again", 20);
}

#[test]
fn power_cut_while_a_staged_release_is_given_up_leaves_a_board_that_goes_on() {
    let path = walked(&[], &|_| {}, &|board| {
        let mut updater = board.updater();
        done(&tell(&mut updater, &STAGE));
        done(&tell(&mut updater, &UpdateCommand::Discard));
    });
    path.stands("discard", 30);
}

#[test]
fn power_cut_while_settings_are_written_leaves_the_old_or_the_new_ones() {
    let schedule = Schedule { mode: ScheduleMode::Check, ..Schedule::default() };
    let path = walked(
        &[],
        &|board| {
            done(&tell(&mut board.updater(), &UpdateCommand::Pin { release: v(1) }));
        },
        &|board| {
            let mut updater = board.updater();
            let set = UpdateCommand::SetSchedule { schedule: schedule.clone() };
            done(&tell(&mut updater, &set));
            let channel = Some("stable".to_owned());
            done(&tell(&mut updater, &UpdateCommand::SetChannel { channel }));
        },
    );
    path.stands("settings", 4);
    let steps = &path.steps;
    let named = place(steps, |step| matches!(step, Step::Rename(..)));
    path.falls("the flush of settings before their name", unsynced(steps, "store", 0, named));
}
