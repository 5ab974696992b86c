//! `cargo xtask fuzz`: hostile bytes for the parsers, for as long as one likes, or many inputs for the property tests. The targets and the driver are
//! `goblin_tests::fuzz`, which `cargo test` runs briefly.

use crate::host;
use crate::test::properties;
use anyhow::{Context, Result, bail};
use goblin_tests::fuzz::{self, Bound, TARGETS, Target};
use std::path::PathBuf;
use std::time::Duration;

/// `cargo xtask fuzz`
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  cargo xtask fuzz                       every target for ten seconds\n  \
    cargo xtask fuzz gpt --seconds 600     one target for ten minutes\n  cargo xtask fuzz gpt --replay FILE     \
    one input again\n  cargo xtask fuzz --properties          every property test, with many more inputs\n\nAn input that fails is kept in target/fuzz, and the message says how to repeat it. \
    Put what taught something into tests/data/fuzz/<target>/."
)]
pub struct FuzzArgs {
    /// Only this target; without one, each in turn
    target: Option<String>,
    /// How long each target is tried
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    /// Seed of the run; without one, a new one
    #[arg(long)]
    seed: Option<u64>,
    /// Number of the first input
    #[arg(long, default_value_t = 0)]
    from: u64,
    /// Run the target on this file and nothing else
    #[arg(long, requires = "target")]
    replay: Option<PathBuf>,
    /// Try the property tests instead, with new inputs
    #[arg(long, conflicts_with_all = ["target", "replay", "reseed"])]
    properties: bool,
    /// Inputs for each property
    #[arg(long, default_value_t = 4096, requires = "properties")]
    cases: u32,
    /// Write the seeds that our own writers make anew
    #[arg(long)]
    reseed: bool,
}

/// Runs `cargo xtask fuzz`.
///
/// # Errors
/// On the first input that fails, and for a target that does not exist.
pub fn command(args: &FuzzArgs) -> Result<()> {
    if args.reseed {
        fuzz::write_seeds().context("cannot write tests/data/fuzz")?;
        host::say("the seeds in tests/data/fuzz are as the writers make them".to_owned());
        return Ok(());
    }
    let chosen: Vec<&Target> = match &args.target {
        None => TARGETS.iter().collect(),
        Some(name) => match Target::named(name) {
            Some(target) => vec![target],
            None => {
                let names: Vec<&str> = TARGETS.iter().map(|target| target.name).collect();
                bail!("there is no target `{name}`; there are {}", names.join(", "));
            }
        },
    };
    if let (Some(path), [target]) = (&args.replay, chosen.as_slice()) {
        return match fuzz::failure(target, &host::read(path)?) {
            Some(what) => bail!("{}: {what}", target.name),
            None => {
                host::say(format!("{} answers this input", target.name));
                Ok(())
            }
        };
    }
    let seed = match args.seed {
        Some(seed) => seed,
        None => fresh_seed()?,
    };
    if args.properties {
        return properties::soak(seed, args.cases);
    }
    chosen.into_iter().try_for_each(|target| try_one(target, seed, args))
}

fn fresh_seed() -> Result<u64> {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes).map_err(|err| anyhow::anyhow!("no random seed: {err}"))?;
    Ok(u64::from_le_bytes(bytes))
}

fn try_one(target: &Target, seed: u64, args: &FuzzArgs) -> Result<()> {
    let folder = fuzz::seed_folder(target.name);
    let corpus =
        fuzz::seeds(target).with_context(|| format!("cannot read {}", folder.display()))?;
    let bound = Bound::Time(Duration::from_secs(args.seconds));
    match fuzz::run(target, &corpus, seed, args.from, bound) {
        Ok(inputs) => {
            host::say(format!("{}: {inputs} inputs answered (seed {seed})", target.name));
            Ok(())
        }
        Err(failure) => {
            let name = format!("{}-{seed}-{}", failure.target, failure.iteration);
            let path = host::target("fuzz")?.join(name);
            std::fs::write(&path, &failure.input)
                .with_context(|| format!("cannot write {}", path.display()))?;
            bail!("{failure}\nthe input is kept as {}", path.display())
        }
    }
}
