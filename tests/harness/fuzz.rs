//! Hostile bytes for every parser of what comes from outside.
//!
//! Plain code on stable Rust: each [`Target`] is a function over bytes that must return, quickly, whatever it
//! is given, and may assert what holds for bytes it accepts. The driver takes the seeds of
//! `tests/data/fuzz/<target>/`, changes them and runs the target; it does not measure coverage. An input is a
//! function of `(target, seed, iteration)` alone, so that a failure is repeated by these three.
//!
//! It does **not** replace the property tests beside the parsers, which know what they generate.

mod mutate;
mod seeds;
mod targets;

use std::fmt;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

pub use seeds::write as write_seeds;
pub use targets::TARGETS;

/// Longest time one input may take; what takes longer is a way to stop a board.
pub const INPUT_LIMIT: Duration = Duration::from_secs(5);

/// A parser and what is known of its inputs.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// Its name, and the folder of its seeds.
    pub name: &'static str,
    /// Reads one input. A panic is a failure.
    pub run: fn(&[u8]),
    /// Longest input worth trying, in bytes.
    pub bytes_max: usize,
}

impl Target {
    /// The target of this name.
    pub fn named(name: &str) -> Option<&'static Self> {
        TARGETS.iter().find(|target| target.name == name)
    }
}

/// When a run ends.
#[derive(Debug, Clone, Copy)]
pub enum Bound {
    /// After so many inputs.
    Inputs(u64),
    /// After so long.
    Time(Duration),
}

/// An input on which a target panicked or took too long.
#[derive(Debug, thiserror::Error)]
pub struct Failure {
    /// The target.
    pub target: &'static str,
    /// Seed of the run.
    pub seed: u64,
    /// Number of the input in the run, from 0.
    pub iteration: u64,
    /// The input.
    pub input: Vec<u8>,
    /// What happened.
    pub what: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { target, seed, iteration, input, what } = self;
        write!(
            f,
            "{target}: {what}; repeat with `cargo xtask fuzz {target} --seed {seed} --from {iteration}`; the \
             input has {} bytes: {}",
            input.len(),
            input.escape_ascii().to_string().chars().take(400).collect::<String>()
        )
    }
}

/// Folder of a target's seeds.
pub fn seed_folder(target: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("data/fuzz").join(target)
}

/// The seeds of a target, in the order of their names.
///
/// # Errors
/// When the folder cannot be read.
pub fn seeds(target: &Target) -> io::Result<Vec<Vec<u8>>> {
    let mut paths: Vec<PathBuf> = std::fs::read_dir(seed_folder(target.name))?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<io::Result<_>>()?;
    paths.sort();
    paths.iter().map(std::fs::read).collect()
}

/// Runs a target from input number `from` on, and returns how many inputs it took. The first inputs are the
/// seeds as they are.
///
/// # Errors
/// The first [`Failure`].
pub fn run(
    target: &Target,
    corpus: &[Vec<u8>],
    seed: u64,
    from: u64,
    bound: Bound,
) -> Result<u64, Box<Failure>> {
    let start = Instant::now();
    let mut done = 0u64;
    loop {
        let over = match bound {
            Bound::Inputs(count) => done >= count,
            Bound::Time(limit) => start.elapsed() >= limit,
        };
        if over {
            return Ok(done);
        }
        let iteration = from + done;
        let input = mutate::input(corpus, seed, iteration, target.bytes_max);
        if let Some(what) = failure(target, &input) {
            let target = target.name;
            return Err(Box::new(Failure { target, seed, iteration, input, what }));
        }
        done += 1;
    }
}

/// What goes wrong with one input.
pub fn failure(target: &Target, input: &[u8]) -> Option<String> {
    let start = Instant::now();
    // Nothing is used again after a panic but the input, which cannot be changed.
    let ended = catch_unwind(AssertUnwindSafe(|| (target.run)(input)));
    match ended {
        Err(panic) => {
            let text = panic
                .downcast_ref::<String>()
                .cloned()
                .or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
            Some(format!("panicked: {}", text.unwrap_or_default()))
        }
        Ok(()) if start.elapsed() > INPUT_LIMIT => {
            Some(format!("took {} s", start.elapsed().as_secs()))
        }
        Ok(()) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Enough to meet every kind of change several times, and few seconds.
    const INPUTS: u64 = 3_000;

    #[test]
    fn every_parser_answers_hostile_bytes() {
        for target in TARGETS {
            let corpus = seeds(target).unwrap();
            assert!(!corpus.is_empty(), "{} has no seeds", target.name);
            if let Err(failure) = run(target, &corpus, 1, 0, Bound::Inputs(INPUTS)) {
                panic!("{failure}");
            }
        }
    }

    /// A seed that is refused at the first byte teaches nothing.
    #[test]
    fn seeds_reach_the_inside_of_their_parsers() {
        let read =
            |target: &str, name: &str| std::fs::read(seed_folder(target).join(name)).unwrap();
        goblin_core_config::parse_bytes(&read("provision", "storage.toml")).unwrap();
        let table = goblin_image::gpt::parse(&mut io::Cursor::new(read("gpt", "two-partitions")));
        assert_eq!(table.unwrap().gpt.partitions().len(), 2);
        let record = goblin_image::record::decode(&read("record", "one-attempt"), &[]);
        assert_eq!(record.record.attempts.len(), 1);
        let root = read("tuf", "root.json");
        goblin_core_manifest::client::TrustedState::from_root(&root).unwrap();
        let sections =
            goblin_image::uki::parse_sections(&mut io::Cursor::new(read("uki", "two-sections")));
        assert_eq!(sections.unwrap().len(), 2);
        let release = read("manifest", "release.json");
        goblin_core_manifest::release::Manifest::<goblin_image::UkiRecipe>::parse(&release)
            .unwrap();
        let map: goblin_image::disk::DiskMap =
            serde_json::from_slice(&read("disk-map", "map.json")).unwrap();
        map.check().unwrap();
    }

    #[test]
    fn seeds_are_as_the_writers_make_them() {
        for seed in seeds::made() {
            let kept = std::fs::read(seed.path()).unwrap_or_default();
            assert!(
                kept == seed.bytes,
                "{}: a format has changed; write the seeds anew with `cargo xtask fuzz --reseed`",
                seed.path().display()
            );
        }
    }

    #[test]
    fn a_failure_is_found_and_repeats() {
        fn picky(bytes: &[u8]) {
            assert!(bytes.len() < 64 || bytes.first() == Some(&b'a'), "here it is");
        }
        let target = Target { name: "picky", run: picky, bytes_max: 1_000 };
        let corpus = vec![vec![b'a'; 100]];
        let first = run(&target, &corpus, 7, 0, Bound::Inputs(10_000)).unwrap_err();
        assert!(first.what.contains("here it is"));
        let again = run(&target, &corpus, 7, first.iteration, Bound::Inputs(1)).unwrap_err();
        assert_eq!(first.input, again.input);
    }
}
