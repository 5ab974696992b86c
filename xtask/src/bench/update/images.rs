//! Two security updates of a Debian system, as roots and as the images that peers move: made once, kept in
//! the user's cache folder.
//!
//! `v1` has the packages as Debian released them, `v2u` all updates but the kernel's, `v2k` the kernel's too.

use crate::host;
use anyhow::{Context, Result, bail};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Makes the images; `$1` is the folder. What is there already stays.
const SCRIPT: &str = include_str!("images.sh");

/// The roots.
pub(super) const NAMES: [&str; 3] = ["v1", "v2u", "v2k"];

/// The folder of the images.
pub(super) fn folder() -> Result<PathBuf> {
    let folder = host::cache("bench-update")?;
    let made = |name: &str| ["tar", "erofs"].iter().all(|form| file(&folder, name, form).is_file());
    if NAMES.iter().all(|name| made(name)) {
        return Ok(folder);
    }
    host::say("making two updates of a Debian system to measure with; some ten minutes, once");
    let mut command = Command::new("nice");
    command.args(["-n", "10", "bash", "-c", SCRIPT, "images"]).arg(&folder);
    host::run_shown(&mut command, "making the images")?;
    if let Some(name) = NAMES.iter().find(|name| !made(name)) {
        bail!("{name} was not made in {}", folder.display());
    }
    Ok(folder)
}

/// An image of a root.
pub(super) fn file(folder: &Path, name: &str, form: &str) -> PathBuf {
    folder.join(format!("{name}.{form}"))
}

/// Installs the peers.
pub(super) fn install_peers() -> Result<()> {
    let peers = [
        "casync",
        "zchunk",
        "zsync",
        "xdelta3",
        "zstd",
        "ostree",
        "mmdebstrap",
        "erofs-utils",
        "time",
    ];
    let there = |name: &&str| {
        Command::new("dpkg-query").args(["-W", name]).output().is_ok_and(|out| out.status.success())
    };
    let missing: Vec<&str> = peers.iter().filter(|name| !there(name)).copied().collect();
    if missing.is_empty() {
        return Ok(());
    }
    let mut command = Command::new("apt-get");
    command.args(["install", "-y", "--no-install-recommends"]).args(&missing);
    host::output(&mut command, "installing the peers")
        .map(drop)
        .context("the peers of this benchmark")
}
