//! Running Debian's mkfs.btrfs.

use crate::PoolError;
use goblin_image::Guid;
use std::path::Path;
use std::process::{Command, Stdio};

const MKFS: &str = "/usr/bin/mkfs.btrfs";
/// Kept of what the tool said, in characters.
const MESSAGE_CHARS_MAX: usize = 400;

/// Whether the tool may overwrite what it recognises.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Overwrite {
    /// No: its own look at the device is a second guard.
    Never,
    /// The remains of a run of ours that a power cut ended.
    Unfinished,
}

/// Makes a btrfs over one device, or mirrored over two.
pub(crate) fn make(
    label: &str,
    fsid: Option<Guid>,
    devices: &[&Path],
    overwrite: Overwrite,
) -> Result<(), PoolError> {
    let failed = |message: String| PoolError::Mkfs { message };
    let mut command = Command::new(MKFS);
    command.args(["--quiet", "--label", label]);
    if devices.len() > 1 {
        command.args(["--data", "raid1", "--metadata", "raid1"]);
    } else {
        command.args(["--data", "single", "--metadata", "dup"]);
    }
    if let Some(fsid) = fsid {
        command.args(["--uuid", &fsid.to_string()]);
    }
    if overwrite == Overwrite::Unfinished {
        command.arg("--force");
    }
    let output = command
        .args(devices)
        .stdin(Stdio::null())
        .output()
        .map_err(|err| failed(format!("{MKFS} cannot be started: {err}")))?;
    if output.status.success() {
        return Ok(());
    }
    let words = String::from_utf8_lossy(&output.stderr);
    let line: String = words.split_whitespace().collect::<Vec<_>>().join(" ");
    Err(failed(format!(
        "{}: {}",
        output.status,
        line.chars().take(MESSAGE_CHARS_MAX).collect::<String>()
    )))
}
