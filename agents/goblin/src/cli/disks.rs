//! Words of `goblin disks`.

use super::Board;
use clap::{Args, Subcommand};

/// Whose system disks, and what to do with them.
#[derive(Debug, Clone, Args)]
pub struct Disks {
    /// Board; this one when absent
    #[arg(long, short, value_name = "BOARD", global = true)]
    pub board: Option<Board>,
    /// What to do; `show` when absent
    #[command(subcommand)]
    pub what: Option<DisksWhat>,
}

/// What to do with the system disks.
#[derive(Debug, Clone, Subcommand)]
pub enum DisksWhat {
    /// Show which they are and how they stand
    Show,
    /// Make a blank disk the mirror of the system disk, also in place of one that died
    #[command(after_help = "\
Example:
  goblin disks mirror S3Z8NB0K -b storage

The disk keeps nothing that was on it, so one with anything on it is refused. One that was the mirror before, and is
older, may be named too: it is filled anew.")]
    Mirror {
        /// Serial of the disk, as on its label
        serial: String,
    },
    /// Go back to one system disk, once the other one is out
    #[command(after_help = "Example:\n  goblin disks forget -b storage")]
    Forget,
}
