//! What the updater did to three disks, step by step, and what a power cut leaves of it.
//!
//! The disks are the ESP, STATE and the boot record's partition. A disk keeps what it was waited for; of the
//! steps since then it may have kept any: all, none, one that overtook the others, a write in part, at a
//! boundary of 512 or 4096 bytes. On STATE names change in their order, as btrfs keeps them. On the ESP a
//! file whose new name was waited for is empty until its inode is written, as Linux's vfat does it.
//!
//! What this does not show: tears of a directory's own sectors, which the recording of a whole board does, and
//! a kernel that writes a folder by itself in the moment between a rename and the wait for the file.

use goblin_sys::writer::{Change, Witness};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

/// Files by path below the board's folder. A copy of the boot record is `record@OFFSET`.
pub type Files = BTreeMap<String, Vec<u8>>;

/// Longest write that is one step; longer ones are several, for a disk may keep them apart.
const PIECE_BYTES: usize = 64 << 10;
/// Steps of which every choice is tried.
const ALL_CHOICES_MAX: usize = 5;
/// Seeded choices where there are more.
const CHOICES: u32 = 12;

/// One step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    Create(String),
    Write(String, u64, Vec<u8>),
    Rename(String, String),
    /// The place and size of a renamed file are written behind its new name.
    Fill(String),
    Remove(String),
    SyncFile(String),
    SyncFolder(String),
    SyncAll(String),
}

impl Step {
    /// The path that it is about.
    pub fn path(&self) -> &str {
        match self {
            Self::Create(path)
            | Self::Write(path, ..)
            | Self::Rename(_, path)
            | Self::Fill(path)
            | Self::Remove(path)
            | Self::SyncFile(path)
            | Self::SyncFolder(path)
            | Self::SyncAll(path) => path,
        }
    }

    /// The disk that it is about.
    pub fn disk(&self) -> &str {
        self.path().split(['/', '@']).next().unwrap()
    }

    pub fn is_sync(&self) -> bool {
        matches!(self, Self::SyncFile(_) | Self::SyncFolder(_) | Self::SyncAll(_))
    }

    fn changes_names(&self) -> bool {
        matches!(self, Self::Create(_) | Self::Rename(..) | Self::Remove(_))
    }
}

/// Takes down every step below a folder.
#[derive(Debug)]
pub struct Tape {
    root: PathBuf,
    steps: Mutex<Vec<Step>>,
}

impl Tape {
    pub fn new(root: &Path) -> Self {
        Self { root: root.into(), steps: Mutex::default() }
    }

    /// What was taken down so far; the tape goes on empty.
    pub fn take(&self) -> Vec<Step> {
        std::mem::take(&mut self.steps.lock().unwrap())
    }

    fn name(&self, path: &Path) -> String {
        path.strip_prefix(&self.root).unwrap().to_str().unwrap().to_owned()
    }
}

impl Witness for Tape {
    fn saw(&self, change: Change<'_>) {
        let mut steps = self.steps.lock().unwrap();
        match change {
            Change::Create(path) => steps.push(Step::Create(self.name(path))),
            // Waited for before anything is in it, and without it there is nothing to lose.
            Change::CreateFolder(_) => {}
            Change::Write(path, at, bytes) => {
                let name = self.name(path);
                if name == "record" {
                    steps.push(Step::Write(format!("record@{at}"), 0, bytes.into()));
                    return;
                }
                for (index, piece) in (0u64..).zip(bytes.chunks(PIECE_BYTES)) {
                    let at = at + index * PIECE_BYTES as u64;
                    steps.push(Step::Write(name.clone(), at, piece.into()));
                }
            }
            Change::Rename(from, to) => {
                let (from, to) = (self.name(from), self.name(to));
                let fills = to.starts_with("esp/");
                steps.push(Step::Rename(from, to.clone()));
                steps.extend(fills.then_some(Step::Fill(to)));
            }
            Change::Remove(path) => steps.push(Step::Remove(self.name(path))),
            Change::SyncFile(path) => {
                let name = self.name(path);
                // Both copies lie on one device.
                let is_record = name == "record";
                steps.push(if is_record { Step::SyncAll(name) } else { Step::SyncFile(name) });
            }
            Change::SyncFolder(path) => steps.push(Step::SyncFolder(self.name(path))),
            Change::SyncAll(path) => steps.push(Step::SyncAll(self.name(path))),
        }
    }
}

/// What a disk kept of a step that it was not waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kept {
    Nothing,
    All,
    /// The first bytes of a write.
    Head(usize),
    /// All but the first bytes of it.
    Tail(usize),
}

/// Names and contents, as one run of steps leaves them.
#[derive(Debug, Clone, Default)]
struct Disks {
    names: BTreeMap<String, usize>,
    contents: Vec<Vec<u8>>,
    /// Files whose place and size are not written yet.
    unfilled: BTreeSet<usize>,
}

impl Disks {
    fn of(files: &Files) -> Self {
        let names = files.keys().cloned().zip(0..).collect();
        Self { names, contents: files.values().cloned().collect(), unfilled: BTreeSet::new() }
    }

    fn apply(&mut self, step: &Step, inode: usize, kept: Kept) {
        if kept == Kept::Nothing || step.is_sync() {
            return;
        }
        if self.contents.len() <= inode {
            self.contents.resize(inode + 1, Vec::new());
        }
        match step {
            Step::Create(path) => {
                self.contents[inode].clear();
                self.names.insert(path.clone(), inode);
            }
            Step::Write(path, at, bytes) => {
                let (from, to) = match kept {
                    Kept::Head(end) => (0, end),
                    Kept::Tail(start) => (start, bytes.len()),
                    Kept::All | Kept::Nothing => (0, bytes.len()),
                };
                let content = &mut self.contents[inode];
                let end = usize::try_from(*at).unwrap() + to;
                content.resize(content.len().max(end), 0);
                content[end - (to - from)..end].copy_from_slice(&bytes[from..to]);
                if path.starts_with("record@") {
                    self.names.insert(path.clone(), inode);
                }
            }
            Step::Rename(from, to) => {
                if self.names.get(from) == Some(&inode) {
                    self.names.remove(from);
                }
                self.names.insert(to.clone(), inode);
                if to.starts_with("esp/") {
                    self.unfilled.insert(inode);
                }
            }
            Step::Fill(_) => drop(self.unfilled.remove(&inode)),
            Step::Remove(path) => {
                if self.names.get(path) == Some(&inode) {
                    self.names.remove(path);
                }
            }
            Step::SyncFile(_) | Step::SyncFolder(_) | Step::SyncAll(_) => {}
        }
    }

    fn files(&self) -> Files {
        let content = |inode: &usize| {
            if self.unfilled.contains(inode) {
                return Vec::new();
            }
            self.contents.get(*inode).cloned().unwrap_or_default()
        };
        self.names.iter().map(|(name, inode)| (name.clone(), content(inode))).collect()
    }
}

/// The file behind each step, numbered as [`Disks::of`] does and on.
fn inodes(before: &Files, steps: &[Step]) -> Vec<usize> {
    let mut names: HashMap<String, usize> = before.keys().cloned().zip(0..).collect();
    let mut next = names.len();
    let mut of = |names: &mut HashMap<String, usize>, path: &str| {
        *names.entry(path.to_owned()).or_insert_with(|| {
            next += 1;
            next - 1
        })
    };
    steps
        .iter()
        .map(|step| match step {
            Step::Rename(from, to) => {
                let inode = of(&mut names, from);
                names.remove(from);
                names.insert(to.clone(), inode);
                inode
            }
            Step::Remove(path) => {
                let inode = of(&mut names, path);
                names.remove(path);
                inode
            }
            Step::SyncFolder(_) | Step::SyncAll(_) => usize::MAX,
            step => of(&mut names, step.path()),
        })
        .collect()
}

/// True when the wait `sync` covers the earlier step.
fn covers(sync: (&Step, usize), step: (&Step, usize)) -> bool {
    if sync.0.disk() != step.0.disk() {
        return false;
    }
    match sync.0 {
        Step::SyncAll(_) => true,
        Step::SyncFile(_) => sync.1 == step.1,
        Step::SyncFolder(folder) => {
            let parent = step.0.path().rsplit_once('/').map(|(parent, _)| parent);
            step.0.changes_names() && parent == Some(folder)
        }
        _ => false,
    }
}

/// What is on the disks after all steps.
pub fn played(before: &Files, steps: &[Step]) -> Files {
    let mut disks = Disks::of(before);
    for (step, inode) in steps.iter().zip(inodes(before, steps)) {
        disks.apply(step, inode, Kept::All);
    }
    disks.files()
}

/// One state that a power cut leaves.
#[derive(Debug)]
pub struct State {
    /// Steps that were begun.
    pub at: usize,
    /// What is on the disks.
    pub files: Files,
    /// What is there for certain: of nothing that was not waited for.
    pub certain: bool,
}

/// Goes through every distinct state that a power cut can leave, until `look` answers false.
pub fn each_state(before: &Files, steps: &[Step], look: &mut dyn FnMut(State) -> bool) {
    let inodes = inodes(before, steps);
    let mut seen = BTreeSet::new();
    let mut dice = 0x9e37_79b9_7f4a_7c15_u64;
    for at in 0..=steps.len() {
        if matches!(steps.get(at), Some(Step::Fill(_))) {
            // One step with the renaming before it.
            continue;
        }
        let begun: Vec<(&Step, usize)> = steps[..at].iter().zip(inodes.iter().copied()).collect();
        let open: Vec<usize> = (0..at)
            .filter(|&index| {
                let later = &begun[index + 1..];
                !begun[index].0.is_sync() && !later.iter().any(|&sync| covers(sync, begun[index]))
            })
            .collect();
        for choice in choices(&begun, &open, &mut dice) {
            let mut disks = Disks::of(before);
            for (index, &(step, inode)) in begun.iter().enumerate() {
                let kept = open.iter().position(|&o| o == index).map_or(Kept::All, |o| choice[o]);
                disks.apply(step, inode, kept);
            }
            let files = disks.files();
            let certain = choice.iter().all(|kept| *kept == Kept::Nothing);
            if (seen.insert(digest(&files)) || certain) && !look(State { at, files, certain }) {
                return;
            }
        }
    }
}

/// A digest of everything on the disks.
pub fn digest(files: &Files) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    for (name, content) in files {
        hasher.update(&(name.len() as u64).to_le_bytes());
        hasher.update(name.as_bytes());
        hasher.update(&(content.len() as u64).to_le_bytes());
        hasher.update(content);
    }
    *hasher.finalize().as_bytes()
}

/// What may have been kept of the open steps. The first choice is nothing.
fn choices(begun: &[(&Step, usize)], open: &[usize], dice: &mut u64) -> Vec<Vec<Kept>> {
    let count = open.len();
    let of = |keep: &dyn Fn(usize) -> bool| -> Vec<Kept> {
        (0..count).map(|o| if keep(o) { Kept::All } else { Kept::Nothing }).collect()
    };
    let mut all = vec![of(&|_| false)];
    if count == 0 {
        return all;
    }
    if count <= ALL_CHOICES_MAX {
        all.extend((1u32..1 << count).map(|bits| of(&|o| bits >> o & 1 == 1)));
    } else {
        all.push(of(&|_| true));
        for one in 0..count {
            all.push(of(&|o| o == one));
            all.push(of(&|o| o != one));
        }
        for _ in 0..CHOICES {
            let bits = roll(dice);
            all.push(of(&|o| bits >> (o % 64) & 1 == 1));
        }
    }
    // The last write of each disk in part, all before it whole or lost.
    let is_write = |o: usize| matches!(begun[open[o]].0, Step::Write(..));
    if let Some(torn) = (0..count).rev().find(|&o| is_write(o)) {
        let Step::Write(_, _, bytes) = begun[open[torn]].0 else { unreachable!() };
        for sector in [512, 4096] {
            let sectors = bytes.len().div_ceil(sector);
            if sectors < 2 {
                continue;
            }
            let middle = (1 + roll(dice) as usize % (sectors - 1)) * sector;
            for kept in [Kept::Head(middle), Kept::Tail(middle)] {
                for before in [Kept::All, Kept::Nothing] {
                    let mut choice = vec![before; count];
                    choice[torn] = kept;
                    all.push(choice);
                }
            }
        }
    }
    for choice in &mut all {
        in_order(begun, open, choice);
    }
    all
}

/// Names on STATE change in their order: after a lost change all later ones are lost. A renamed file is filled
/// with its name, unless the name alone was waited for.
fn in_order(begun: &[(&Step, usize)], open: &[usize], choice: &mut [Kept]) {
    let mut lost = false;
    let mut renamed = None;
    for (&index, kept) in open.iter().zip(choice) {
        let step = begun[index].0;
        match step {
            Step::Rename(..) => renamed = Some((begun[index].1, *kept)),
            Step::Fill(_) => {
                if let Some((inode, name)) = renamed.take()
                    && inode == begun[index].1
                {
                    *kept = name;
                }
            }
            _ => {}
        }
        if step.disk() == "store" && step.changes_names() {
            lost |= *kept == Kept::Nothing;
            if lost {
                *kept = Kept::Nothing;
            }
        }
    }
}

/// The next number of a small generator, the same on every machine.
fn roll(dice: &mut u64) -> u64 {
    *dice ^= *dice << 13;
    *dice ^= *dice >> 7;
    *dice ^= *dice << 17;
    *dice >> 8
}

#[test]
fn what_was_waited_for_is_kept_and_of_the_rest_anything() {
    let before = Files::from([("store/a".into(), b"old".to_vec())]);
    let tmp = || "store/.tmp".to_owned();
    let steps = [
        Step::Create(tmp()),
        Step::Write(tmp(), 0, b"new".to_vec()),
        Step::SyncFile(tmp()),
        Step::Rename(tmp(), "store/a".into()),
        Step::SyncFolder("store".into()),
    ];
    let of_a = |steps: &[Step]| {
        let mut found = BTreeSet::new();
        each_state(&before, steps, &mut |state| {
            found.insert(String::from_utf8(state.files["store/a"].clone()).unwrap());
            true
        });
        found
    };
    assert_eq!(of_a(&steps), BTreeSet::from(["old".into(), "new".into()]));
    let unsynced: Vec<Step> = steps.iter().filter(|step| !step.is_sync()).cloned().collect();
    assert_eq!(of_a(&unsynced), BTreeSet::from(["old".into(), "new".into(), String::new()]));
}
