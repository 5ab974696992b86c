//! The command line's words.

use clap::{Args, Parser, Subcommand, ValueEnum};
use goblin_core_types::Version;

/// Looks after a goblinux box: both boards, their releases, shares and logs.
#[derive(Debug, Parser)]
#[command(name = "goblin", version, max_term_width = 100, after_help = EXAMPLES)]
pub struct Cli {
    /// Print JSON: one value, or one line per event where the answer grows
    #[arg(long, global = true)]
    pub json: bool,
    /// What to do
    #[command(subcommand)]
    pub command: Command,
}

const EXAMPLES: &str = "\
Examples:
  goblin status                      both boards at a glance
  goblin check                       is there a newer release?
  goblin upgrade                     upgrade both boards, storage first
  goblin rollback                    go back to the release before, on both boards
  goblin logs --board storage -f     follow the storage board's log
  goblin shares tree main --json     list a share with a digest for every file

Exit status:
  0 done   1 failed   2 wrong usage   3 a board is out of reach   4 the board refused";

/// A board, as people call it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Board {
    /// The board with the screen
    Compute,
    /// The board with the disks
    Storage,
    /// This board, while it has no role
    Local,
}

impl Board {
    /// Its folder in the control tree.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Compute => "compute",
            Self::Storage => "storage",
            Self::Local => "local",
        }
    }
}

/// Which board a command is about.
#[derive(Debug, Clone, Copy, Default, Args)]
pub struct Target {
    /// Board; this one when absent
    #[arg(long, short, value_name = "BOARD")]
    pub board: Option<Board>,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Show both boards: release, health, link, disks, shares, last upgrade
    Status {
        /// Only this board
        #[arg(long, short, value_name = "BOARD")]
        board: Option<Board>,
    },
    /// Ask the update source what it offers
    Check(Target),
    /// Upgrade both boards as one step: storage tries first, then compute
    #[command(after_help = "\
Examples:
  goblin upgrade                     both boards to the newest release
  goblin upgrade --to 2              both boards to release 2
  goblin upgrade --board storage     only the storage board")]
    Upgrade(Move),
    /// Go back to an older release that is still on the boards
    #[command(after_help = "\
Examples:
  goblin rollback                    both boards to the newest older release that both have
  goblin rollback --to 1 --board compute")]
    Rollback(Move),
    /// Show past upgrades and boots, with the reason of each failure
    Log {
        /// Only this board
        #[arg(long, short, value_name = "BOARD")]
        board: Option<Board>,
    },
    /// Show log lines of a board
    #[command(after_help = "\
Examples:
  goblin logs -n 50                  the newest 50 lines of this board
  goblin logs -b storage -u share -f follow one service of the storage board")]
    Logs {
        /// Board; this one when absent
        #[arg(long, short, value_name = "BOARD")]
        board: Option<Board>,
        /// Only this service
        #[arg(long, short)]
        unit: Option<String>,
        /// Keep printing new lines
        #[arg(long, short)]
        follow: bool,
        /// At most this many of the newest lines; 0 for all that are kept
        #[arg(short = 'n', long = "lines", default_value_t = 200)]
        lines: u32,
    },
    /// List the services of a board
    Units(Target),
    /// Restart a board
    Reboot(Target),
    /// Switch a board off
    Poweroff {
        /// Board; this one when absent
        #[arg(long, short, value_name = "BOARD", conflicts_with = "all")]
        board: Option<Board>,
        /// Both boards, storage first
        #[arg(long)]
        all: bool,
    },
    /// Print the text that the console shows
    Screen(Target),
    /// Look into the shares mounted on this board
    #[command(subcommand)]
    Shares(Shares),
    /// Look after the updater
    #[command(subcommand)]
    Update(Update),
    /// Print a completion script for a shell
    #[command(after_help = "Example:\n  goblin completions bash > /etc/bash_completion.d/goblin")]
    Completions {
        /// Shell
        shell: clap_complete::Shell,
    },
    /// Run an agent (for PID 1)
    #[command(hide = true)]
    Agent {
        /// Its name
        name: Agent,
    },
}

/// A change of release.
#[derive(Debug, Clone, Copy, Args)]
pub struct Move {
    /// Release; the newest possible when absent
    #[arg(long, value_name = "VERSION")]
    pub to: Option<Version>,
    /// Only this board; both as one step when absent
    #[arg(long, short, value_name = "BOARD")]
    pub board: Option<Board>,
}

/// Looks into shares.
#[derive(Debug, Subcommand)]
pub enum Shares {
    /// List shares, served here or mounted here
    Ls,
    /// List everything in a mounted share
    #[command(after_help = "\
With --json, one line per entry, folder by folder, sorted by name:
  {\"path\":\"a/b\",\"kind\":\"file\",\"mode\":420,\"mtime_ns\":1700000000000000000,\"size\":3,\"blake3\":\"..\"}
kind is file, dir, link or other; links have \"target\" instead of \"blake3\". In path and target a byte
that is not UTF-8 is written \\xNN and a backslash \\\\.")]
    Tree {
        /// Share
        name: String,
        /// Leave out the digests, which need every byte to be read
        #[arg(long)]
        no_digest: bool,
    },
}

/// Looks after the updater.
#[derive(Debug, Subcommand)]
pub enum Update {
    /// Allow releases that failed here to be tried again
    ClearQuarantine(Target),
}

/// The agents of a board.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Agent {
    /// Finds the system disk, makes and mounts STATE
    State,
    /// Applies the provisioning file
    Provision,
    /// Interfaces, addresses, the link
    Net,
    /// The clock
    Time,
    /// The control tree
    Control,
    /// The data disks
    Pool,
    /// The file server
    Share,
    /// The mounts of the storage board's shares
    Mount,
    /// The updater
    Update,
    /// Accepts a trial
    Bless,
    /// The role checks
    Health,
    /// The host channel
    Channel,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_words_do_not_contradict_each_other() {
        Cli::command().debug_assert();
    }

    #[test]
    fn json_may_stand_anywhere() {
        assert!(Cli::parse_from(["goblin", "status", "--json"]).json);
        assert!(Cli::parse_from(["goblin", "--json", "shares", "ls"]).json);
    }

    #[test]
    fn a_bad_version_is_wrong_usage() {
        assert!(Cli::try_parse_from(["goblin", "upgrade", "--to", "two"]).is_err());
    }
}
