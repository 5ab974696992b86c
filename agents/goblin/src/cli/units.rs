//! Words of `goblin units`.

use super::Board;
use clap::{Args, Subcommand};
use std::path::PathBuf;

/// Which units, and what to do with them.
#[derive(Debug, Clone, Args)]
pub struct Units {
    /// Board; this one when absent
    #[arg(long, short, value_name = "BOARD", global = true)]
    pub board: Option<Board>,
    /// What to do; `list` when absent
    #[command(subcommand)]
    pub what: Option<UnitsCommand>,
}

/// What to do with units.
#[derive(Debug, Clone, Subcommand)]
pub enum UnitsCommand {
    /// List every unit and where it stands
    List,
    /// Show everything that is known of one unit
    Show {
        /// Its name
        unit: String,
    },
    /// Start a unit, and all that it requires
    Start {
        /// Its name
        unit: String,
    },
    /// Stop a unit until someone starts it; what requires it goes down first, and comes back with it
    Stop {
        /// Its name
        unit: String,
    },
    /// Stop a unit and start it anew
    Restart {
        /// Its name
        unit: String,
    },
    /// Set a key of a unit's settings, which outlast releases
    #[command(after_help = "\
Keys: enabled, nice, memory_high_mib, memory_max_mib, cpu_weight, cpu_max_percent, pids_max, io_weight, io_max,
log_rate. A unit that the board cannot do without is never switched off nor given less than it was shipped with.
Limits count from the unit's next start on.

Examples:
  goblin units set dbus enabled false
  goblin units set update nice 10
  goblin units set update io_max '{ write_kib_per_s = 20480 }'")]
    Set {
        /// The unit's name
        unit: String,
        /// The key
        key: String,
        /// The value, as TOML writes it
        #[arg(allow_hyphen_values = true)]
        value: String,
    },
    /// Take a key of a unit's settings away
    Unset {
        /// The unit's name
        unit: String,
        /// The key
        key: String,
    },
    /// Draw what needs what
    #[command(after_help = "\
Examples:
  goblin units tree                       as text
  goblin units tree --svg boot.svg        the boot as a picture: times, bars, dependencies
  goblin units tree --svg - > boot.svg    the same through a pipe")]
    Tree {
        /// Write a picture of the boot to this file instead; `-` for standard output
        #[arg(long, value_name = "FILE")]
        svg: Option<PathBuf>,
    },
    /// Show what the boot waited for: time to ready of each unit, the slowest first
    Blame,
}
