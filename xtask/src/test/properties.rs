//! The seed of property tests. `cargo xtask test` says something about a commit, so it throws the same dice each
//! time; new ones are thrown, and many more, by `cargo xtask fuzz --properties`.

use crate::host;
use anyhow::{Context, Result, bail};
use std::process::{Command, Stdio};

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
    let program = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let stub = crate::debian::boot_parts()?.stub;
    let status = Command::new(program)
        .env("GOBLIN_TEST_STUB", stub)
        .env(SEED_VARIABLE, seed.to_string())
        .env("PROPTEST_CASES", cases.to_string())
        // Quick programs: unoptimised ones would spend the time on their own checks.
        .args([
            "test",
            "--locked",
            "--profile",
            "image",
            "--workspace",
            "--lib",
            "--no-fail-fast",
            "--quiet",
        ])
        .current_dir(host::root())
        .stdin(Stdio::null())
        .status()
        .context("cannot start cargo")?;
    if !status.success() {
        bail!(
            "a property does not hold; repeat it with `cargo xtask fuzz --properties --seed {seed} --cases {cases}`"
        );
    }
    Ok(())
}
