//! The seed of property tests. `cargo xtask test` says something about a commit, so it throws the same dice each
//! time; new ones are thrown, and many more, by `cargo xtask fuzz --properties`.

use crate::host;
use anyhow::{Context, Result, bail};

/// Variable that proptest reads its seed from.
pub const SEED_VARIABLE: &str = "PROPTEST_RNG_SEED";
/// The seed of `cargo xtask test`; any number does.
pub const SEED: &str = "9";

/// Tries every property of the crates with `cases` inputs from a seed. What fails is kept by proptest beside the
/// crate, and tried again first from then on.
///
/// # Errors
/// When a property does not hold.
pub fn soak(seed: u64, cases: u32) -> Result<()> {
    host::say(format!("every property with {cases} inputs (seed {seed})"));
    let status = super::cargo_test()?
        .env(SEED_VARIABLE, seed.to_string())
        .env("PROPTEST_CASES", cases.to_string())
        // Quick programs: unoptimised ones would spend the time on their own checks.
        .args(["--profile", "image", "--workspace", "--lib", "--no-fail-fast", "--quiet"])
        .status()
        .context("cannot start cargo")?;
    if !status.success() {
        bail!(
            "a property does not hold; repeat it with `cargo xtask fuzz --properties --seed {seed} --cases {cases}`"
        );
    }
    Ok(())
}
