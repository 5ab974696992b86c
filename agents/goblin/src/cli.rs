//! The command line's words.

use clap::{Args, Parser, Subcommand, ValueEnum};
use goblin_core_types::{BootChoice, LogLevel, ResetLevel, Since, UpdateSource, Version, Window};
use std::path::PathBuf;

mod disks;
mod rights;
mod units;
mod when;

pub use disks::{Disks, DisksWhat};
pub use rights::{Group, Share};
pub use units::{Units, UnitsCommand};

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
  goblin client add                  a code with which a PC enrols itself
On a PC:
  sudo goblin login ADDRESS CODE     enrol this PC
  sudo goblin mount attic:home /mnt  mount a share

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
  goblin upgrade --board storage     only the storage board
  goblin upgrade --dry-run           what would be fetched, written and deleted
  goblin upgrade --explain           and why it is fetched that way
  goblin upgrade --from http://192.168.1.5/releases
  goblin upgrade --from usb          from a stick in this board, also for the storage board
  goblin upgrade --from board        the storage board takes nothing but what this board gives it
  goblin upgrade --now               the newest, although it is not this box's turn yet

A release may be handed out in waves, to few boxes first; `goblin check` says when it comes to this one.
--now, --to and --from do not wait.

A stick holds a folder as `cargo xtask release` makes it, on FAT32 or ext4, alone or one folder deep; it is
read only, and checked like any other source. What the compute board fetches it gives to the storage board.

On a terminal it asks before it cuts clients off; --yes answers.")]
    Upgrade(Upgrade),
    /// Go back to an older release that is still on the boards
    #[command(after_help = "\
Examples:
  goblin rollback                    both boards to the newest older release that both have
  goblin rollback --to 1 --board compute")]
    Rollback(Move),
    /// Show past upgrades and boots, with the reason of each failure
    #[command(alias = "log")]
    History {
        /// Only this board
        #[arg(long, short, value_name = "BOARD")]
        board: Option<Board>,
    },
    /// Keep a good release on the boot disk whatever comes after it
    #[command(after_help = "Example:\n  goblin pin 2                       on both boards")]
    Pin(Pin),
    /// Let a pinned release go
    Unpin(Pin),
    /// Show how two releases differ: kernel, files, sizes
    #[command(after_help = "\
Examples:
  goblin diff 2 3                    what release 3 changes
  goblin diff 3                      the same, from the running one")]
    Diff {
        /// Release; with one alone, the running one is compared with it
        #[arg(value_name = "A")]
        a: Version,
        /// The other one
        #[arg(value_name = "B")]
        b: Option<Version>,
        /// Board that asks its source; this one when absent
        #[arg(long, short, value_name = "BOARD")]
        board: Option<Board>,
    },
    /// Show which channel the boards follow, or follow another
    #[command(after_help = "\
Examples:
  goblin channel                     what is followed
  goblin channel edge                both boards
  goblin channel --reset             the one of the provisioning file again")]
    Channel {
        /// Channel to follow
        #[arg(conflicts_with = "reset")]
        name: Option<String>,
        /// Follow the one of the provisioning file
        #[arg(long)]
        reset: bool,
    },
    /// Show or change what is done about new releases unasked
    #[command(after_help = "\
Examples:
  goblin schedule                                    what is set
  goblin schedule check                              look every six hours, and say so
  goblin schedule install --window 02:00-05:00       upgrade both boards at night
  goblin schedule install --clients anyway           also while clients use the shares
  goblin schedule off

Times are those of the compute board's zone. With --clients ask, the default, an upgrade waits while
clients use the shares, says so on the console, and goes on when none does or you say `goblin upgrade`.")]
    Schedule(ScheduleArgs),
    /// Look at releases that failed here, or let them be tried again
    #[command(subcommand)]
    Quarantine(Quarantine),
    /// Show log lines of a board
    #[command(after_help = "\
Examples:
  goblin logs -n 50                  the newest 50 lines of this board
  goblin logs -b storage -u share -f follow one service of the storage board
  goblin logs --boot -1 --level warn warnings and errors of the boot before this one
  goblin logs --since 2h             the last two hours of this boot
  goblin logs --list-boots           the boots that are kept

Lines of earlier boots are kept on the board's own disk, the newest 32 MiB. Times in front are the board's
clock in UTC, which may have been wrong, and seconds since the kernel started.")]
    Logs(Logs),
    /// Look at the units of a board, start and stop them, see what the boot waited for
    #[command(after_help = "\
Examples:
  goblin units                       every unit of this board and where it stands
  goblin units -b storage blame      what the storage board's boot waited for
  goblin units restart share         stop a unit and start it anew
  goblin units tree --svg boot.svg   the boot as a picture")]
    Units(Units),
    /// Look at the system disks of a board, and make one the mirror of the other
    #[command(after_help = "\
Examples:
  goblin disks                       how the system disks of this board stand
  goblin disks -b storage --json
  goblin disks mirror S3Z8NB0K       a blank disk becomes the mirror, also in place of one that died
  goblin disks forget                back to one system disk; take the other one out first

The disks of the pool are no system disks; `goblin status` shows them.")]
    Disks(Disks),
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
    /// Take a board back to how it came, without touching a file on the shares
    #[command(after_help = "\
Examples:
  goblin factory-reset --level settings --dry-run    what would go and what would stay
  goblin factory-reset --level system                both boards, storage first; asks before
  goblin factory-reset --level all -b storage --yes  one board, without asking

settings  what people set since the provisioning file was applied
system    that, the log, downloads and the memory of upgrades; the board keeps its name and keys
all       everything but data: the board needs its provisioning file again

The pool's disks are not touched at any level. What is ordered is written to the boot record, and the next
boot carries it out before anything else; a power cut only delays it.")]
    FactoryReset(FactoryReset),
    /// Print the text that the console shows
    Screen(Target),
    /// Show the shares of a board, or of the boxes this PC is enrolled with
    #[command(args_conflicts_with_subcommands = true)]
    Shares {
        /// On a PC: only this box
        #[arg(value_name = "BOX")]
        the_box: Option<String>,
        /// On a board: what to look at
        #[command(subcommand)]
        what: Option<Shares>,
    },
    /// At the box: enrol PCs, see them, take their rights away
    #[command(subcommand)]
    Client(Client),
    /// At the box: add and remove shares, and say who may use them
    #[command(subcommand)]
    Share(Share),
    /// At the box: groups of users
    #[command(subcommand)]
    Group(Group),
    /// At the box: show who is connected to the shares, from where, and what each does
    Clients,
    /// On a PC: find boxes on the local network
    #[command(after_help = "\
Examples:
  goblin discover                    every board that answers within two seconds
  goblin discover --timeout 10 --json
Anybody on the network can answer. `goblin login` and `goblin mount` ask a box for its key.")]
    Discover {
        /// Seconds to wait for answers
        #[arg(long, value_name = "SECONDS", default_value_t = 2, value_parser = clap::value_parser!(u64).range(1..=60))]
        timeout: u64,
    },
    /// On a PC: enrol this PC with a box, by a code of `goblin client add`
    #[command(after_help = "\
Examples:
  sudo goblin login 192.168.1.21 7KQ2M-9XTDA
  sudo goblin login attic 7KQ2M-9XTDA        by its name, on the local network")]
    Login {
        /// Address of the box, as `goblin client add` shows it, or its name
        address: String,
        /// The code
        code: String,
        /// What to call the box here; its own name when absent
        #[arg(long)]
        name: Option<String>,
    },
    /// On a PC: mount a share, and keep it mounted across losses of the box
    #[command(after_help = "\
Examples:
  sudo goblin mount attic:home /mnt
  goblin mount attic:home /srv/home --print-unit     units for systemd, and how to use them
  goblin mount attic:home ~/home --fuse     without root, or without the kernel's 9P client")]
    Mount(Mount),
    /// On a PC: take a mount away
    Umount {
        /// Where it is mounted
        dir: PathBuf,
        /// Also while files in it are open: programs that use them get an error
        #[arg(long)]
        force: bool,
    },
    /// On a PC: list a folder of a share, without a mount
    #[command(after_help = "\
Examples:
  goblin ls attic:home               names alone, folders with a slash
  goblin ls -l attic:home/photos     permission bits, bytes, time of change in UTC")]
    Ls {
        /// BOX:SHARE or BOX:SHARE/PATH
        place: String,
        /// Also show permission bits, bytes and the time of change
        #[arg(long, short)]
        long: bool,
    },
    /// On a PC: copy files out of a share, without a mount
    #[command(after_help = "\
Examples:
  goblin get attic:home/letter.odt             into this folder
  goblin get -r attic:home/photos ~/Pictures   a folder with all that is in it
  goblin get attic:home/notes.txt -            to standard output
A file gets its name when it is whole. After an interruption the same command goes on: what is there
already (same size and time of change) is not fetched again.")]
    Get {
        /// BOX:SHARE/PATH
        place: String,
        /// File or folder here; this folder when absent, `-` for standard output
        to: Option<PathBuf>,
        /// How
        #[command(flatten)]
        how: CopyArgs,
    },
    /// On a PC: copy files into a share, without a mount
    #[command(after_help = "\
Examples:
  goblin put letter.odt attic:home/            by its own name
  goblin put -r photos attic:home              a folder with all that is in it
  pg_dump shop | goblin put - attic:backup/shop.sql
A file gets its name when it is whole and on the box's disks; until then the old one stays. After an
interruption the same command goes on.")]
    Put {
        /// File or folder here, `-` for standard input
        from: PathBuf,
        /// BOX:SHARE/PATH
        place: String,
        /// How
        #[command(flatten)]
        how: CopyArgs,
    },
    /// Look after the updater (older words)
    #[command(subcommand, hide = true)]
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

/// How files are copied.
#[derive(Debug, Clone, Copy, Args)]
pub struct CopyArgs {
    /// Copy folders with all that is in them; links stay links, devices are left out
    #[arg(long, short)]
    pub recursive: bool,
    /// Leave files alone that are there already
    #[arg(long, short)]
    pub no_clobber: bool,
    /// Show no progress
    #[arg(long, short)]
    pub quiet: bool,
}

/// Which log lines.
#[derive(Debug, Clone, Args)]
pub struct Logs {
    /// Board; this one when absent
    #[arg(long, short, value_name = "BOARD")]
    pub board: Option<Board>,
    /// Only this service; `init`, `kernel` and `journal` are names too
    #[arg(long, short)]
    pub unit: Option<String>,
    /// Keep printing new lines
    #[arg(long, short, conflicts_with = "boot")]
    pub follow: bool,
    /// Boot: 0 the running one, -1 the one before, a number or the first characters of an id
    #[arg(long, value_name = "ID|-N", allow_hyphen_values = true, value_parser = when::boot)]
    pub boot: Option<BootChoice>,
    /// Only lines that are at least this severe
    #[arg(long, default_value = "info")]
    pub level: Level,
    /// Only lines since then: 30s, 10m, 2h, 3d ago, or a time like 2026-05-01T12:00:00Z
    #[arg(long, value_name = "TIME", value_parser = when::since)]
    pub since: Option<Since>,
    /// At most this many of the newest lines; 0 for all that are kept
    #[arg(short = 'n', long = "lines", default_value_t = 200)]
    pub lines: u32,
    /// List the boots that are kept instead
    #[arg(long, conflicts_with_all = ["unit", "follow", "boot", "since"])]
    pub list_boots: bool,
}

/// Severity of a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Level {
    /// Everything, the kernel's details too
    Debug,
    /// State changes and worse
    Info,
    /// Worse but working, and errors
    Warn,
    /// What a person must act on
    Error,
}

impl From<Level> for LogLevel {
    fn from(level: Level) -> Self {
        match level {
            Level::Debug => Self::Debug,
            Level::Info => Self::Info,
            Level::Warn => Self::Warn,
            Level::Error => Self::Error,
        }
    }
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

/// An upgrade.
#[derive(Debug, Clone, Args)]
pub struct Upgrade {
    /// Release and board
    #[command(flatten)]
    pub change: Move,
    /// Take it from there: `board`, `usb`, an http:// or https:// address, or a folder of the board
    #[arg(long, value_name = "SOURCE")]
    pub from: Option<UpdateSource>,
    /// Do not wait for this box's turn where a release is handed out in waves, nor for a halt to end
    #[arg(long, conflicts_with_all = ["to", "from"])]
    pub now: bool,
    /// Say what would happen, and do nothing
    #[arg(long)]
    pub dry_run: bool,
    /// As --dry-run, and say why releases are fetched in this way
    #[arg(long)]
    pub explain: bool,
    /// Do not ask before clients are cut off
    #[arg(long, short)]
    pub yes: bool,
}

/// A factory reset.
#[derive(Debug, Clone, Copy, Args)]
pub struct FactoryReset {
    /// How much
    #[arg(long)]
    pub level: ResetLevel,
    /// Only this board; every board in sight when absent
    #[arg(long, short, value_name = "BOARD")]
    pub board: Option<Board>,
    /// Say what would go and what would stay, and do nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Do not ask
    #[arg(long, short)]
    pub yes: bool,
}

/// A release to keep, and where.
#[derive(Debug, Clone, Copy, Args)]
pub struct Pin {
    /// Release
    pub release: Version,
    /// Only this board; every board in sight when absent
    #[arg(long, short, value_name = "BOARD")]
    pub board: Option<Board>,
}

/// What is done unasked.
#[derive(Debug, Clone, Args)]
pub struct ScheduleArgs {
    /// How much
    pub mode: Option<Unasked>,
    /// When boards may be restarted, HH:MM-HH:MM; any time when absent
    #[arg(long, requires = "mode")]
    pub window: Option<Window>,
    /// While clients use the shares
    #[arg(long, requires = "mode", default_value = "ask")]
    pub clients: Clients,
}

/// How much is done unasked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Unasked {
    /// Nothing
    Off,
    /// Look for releases and say so
    Check,
    /// Upgrade both boards
    Install,
}

/// What an upgrade that nobody waits for does while clients use the shares.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Clients {
    /// Wait until none does, or somebody says so
    Ask,
    /// Go on
    Anyway,
}

/// Looks after releases that failed.
#[derive(Debug, Subcommand)]
pub enum Quarantine {
    /// List them, with the reason
    List(Target),
    /// Let them be tried again
    #[command(after_help = "\
Examples:
  goblin quarantine clear            every release, on this board
  goblin quarantine clear 3 -b storage")]
    Clear {
        /// Only this one
        release: Option<Version>,
        /// Board; this one when absent
        #[arg(long, short, value_name = "BOARD")]
        board: Option<Board>,
    },
}

/// Looks after enrolled PCs.
#[derive(Debug, Subcommand)]
pub enum Client {
    /// Make a one-time code for a PC; it is good for ten minutes
    #[command(after_help = "\
Examples:
  goblin client add                     the PC brings its own name
  goblin client add laptop --user anna  named by you, standing for the user anna")]
    Add {
        /// Name the PC gets; its own when absent
        name: Option<String>,
        /// User it stands for; the PC's name when absent
        #[arg(long)]
        user: Option<String>,
    },
    /// List enrolled PCs, their users and rights, and where they are connected from
    List,
    /// Forget a PC; its connections end at once
    Revoke {
        /// Its name
        name: String,
    },
    /// Say what a user may do with a share; everyone may write where nothing is said
    #[command(after_help = "\
Examples:
  goblin client allow anna films read
  goblin client allow '*' private nothing    everyone without a rule of his own")]
    Allow {
        /// User, `*` for everyone without a rule of his own
        user: String,
        /// Share
        share: String,
        /// What he may do
        may: Right,
    },
}

/// What a user may do with a share.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Right {
    /// Not even see it
    Nothing,
    /// Read
    Read,
    /// Read and write
    Write,
}

/// `UID[:GID]`; without a group the user's number is the group's too, as Debian numbers people.
fn owner(text: &str) -> Result<(u32, u32), String> {
    let number = |text: &str| {
        text.parse::<u32>()
            .ok()
            .filter(|number| *number != u32::MAX)
            .ok_or_else(|| "give numbers, as `id -u` and `id -g` print them".to_owned())
    };
    match text.split_once(':') {
        Some((uid, gid)) => Ok((number(uid)?, number(gid)?)),
        None => number(text).map(|uid| (uid, uid)),
    }
}

/// How a share is mounted.
#[derive(Debug, Clone, Args)]
pub struct Mount {
    /// BOX:SHARE
    pub place: String,
    /// Folder to mount it on
    pub dir: PathBuf,
    /// Refuse every change
    #[arg(long)]
    pub read_only: bool,
    /// Seconds that programs wait for a box that is away, before they get an error
    #[arg(long, value_name = "SECONDS", default_value_t = 300)]
    pub wait: u64,
    /// Let the kernel carry the connection itself, TLS included: fastest, but lost for good with the connection
    #[arg(long, conflicts_with_all = ["fuse", "owner", "foreground"])]
    pub direct: bool,
    /// By FUSE: for kernels without a 9P client, and without root
    #[arg(long)]
    pub fuse: bool,
    /// Whose files they are on this PC; who called `sudo`, or you, when absent
    #[arg(long, value_name = "UID[:GID]", value_parser = owner)]
    pub owner: Option<(u32, u32)>,
    /// Cache mode of the kernel's 9P client; chosen by the kernel's release when absent
    #[arg(long, conflicts_with = "fuse")]
    pub cache: Option<String>,
    /// Stay in the foreground, as a service manager wants it
    #[arg(long)]
    pub foreground: bool,
    /// Print systemd units for this mount, at the first access or at start, and do nothing
    #[arg(long)]
    pub print_unit: bool,
    /// Write the units into this folder instead of printing them
    #[arg(long, value_name = "FOLDER", requires = "print_unit")]
    pub unit_dir: Option<PathBuf>,
    /// Say "mounted" on standard output, then nothing more (for `goblin mount` itself)
    #[arg(long, hide = true, requires = "foreground")]
    pub announce: bool,
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
    /// The mirror of the system disk
    Disks,
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
    /// The journal
    Journal,
    /// Drivers, names and hot-plug
    Devices,
    /// PID 1 over D-Bus
    Dbus,
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
    fn words_of_upgrades_are_understood() {
        let parse = |line: &str| Cli::try_parse_from(line.split(' '));
        for good in [
            "goblin upgrade --dry-run --from usb",
            "goblin upgrade --explain",
            "goblin upgrade --to 2 --board storage -y",
            "goblin history",
            "goblin log",
            "goblin pin 2 -b compute",
            "goblin diff 2 3",
            "goblin channel",
            "goblin channel --reset",
            "goblin schedule",
            "goblin schedule install --window 23:00-05:00 --clients anyway",
            "goblin quarantine clear 3",
            "goblin update clear-quarantine -b storage",
            "goblin factory-reset --level all -b compute --dry-run",
        ] {
            assert!(parse(good).is_ok(), "{good}");
        }
        for bad in [
            "goblin upgrade --from nowhere",
            "goblin schedule --window 02:00-05:00",
            "goblin schedule install --window 2-5",
            "goblin channel edge --reset",
            "goblin pin",
            "goblin factory-reset",
            "goblin factory-reset --level everything",
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_bad_version_is_wrong_usage() {
        assert!(Cli::try_parse_from(["goblin", "upgrade", "--to", "two"]).is_err());
    }

    #[test]
    fn an_earlier_boot_is_an_option_with_a_minus() {
        let cli = Cli::parse_from(["goblin", "logs", "--boot", "-1", "-n", "5"]);
        let Command::Logs(logs) = cli.command else { panic!() };
        assert_eq!((logs.boot, logs.lines), (Some(BootChoice::Back(1)), 5));
        assert!(Cli::try_parse_from(["goblin", "logs", "-f", "--boot", "-1"]).is_err());
        assert!(Cli::try_parse_from(["goblin", "logs", "--since", "soon"]).is_err());
    }
}
