//! The TUF project's own Python library, in a folder of its own below `target/`: an independent writer of
//! repositories for the tests of our client.

use crate::host;
use anyhow::{Context, Result, ensure};
use std::path::PathBuf;
use std::process::Command;

/// What is installed, each with its version: another version may write something else.
const REQUIREMENTS: &[&str] =
    &["tuf==7.0.1", "securesystemslib[crypto]==1.6.0", "cryptography==50.0.2"];
/// Says which requirements the folder holds.
const STAMP: &str = "requirements.txt";

fn folder() -> PathBuf {
    host::root().join("target/python-tuf")
}

fn wanted() -> String {
    let mut text = REQUIREMENTS.join("\n");
    text.push('\n');
    text
}

/// True when it is there, in the right versions.
pub fn is_there() -> bool {
    std::fs::read_to_string(folder().join(STAMP)).is_ok_and(|held| held == wanted())
}

/// Installs it where it is not there.
///
/// # Errors
/// When Python or its packages cannot be had.
pub fn ensure_there() -> Result<()> {
    if is_there() {
        return Ok(());
    }
    let folder = folder();
    host::say("installing python-tuf in target/python-tuf");
    if folder.exists() {
        std::fs::remove_dir_all(&folder)
            .with_context(|| format!("cannot remove {}", folder.display()))?;
    }
    let doing = "making a Python environment";
    host::output(Command::new("python3").args(["-m", "venv"]).arg(&folder), doing)?;
    let pip = folder.join("bin/pip");
    host::output(
        Command::new(&pip).args(["install", "--quiet", "--only-binary=:all:"]).args(REQUIREMENTS),
        "installing the TUF project's Python library",
    )?;
    host::write_whole(&folder.join(STAMP), wanted().as_bytes())?;
    ensure!(is_there(), "{} cannot be read back", folder.display());
    Ok(())
}
