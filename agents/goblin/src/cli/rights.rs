//! Words about shares, groups and rights.

use clap::Subcommand;

/// Who a right is about.
fn who(text: &str) -> Result<String, String> {
    let name = text.strip_prefix('@').unwrap_or(text);
    match text {
        "everyone" | "*" => Ok("*".into()),
        _ if name.is_empty() => Err("name a user, @GROUP, or everyone".into()),
        _ => Ok(text.into()),
    }
}

/// Looks after shares and who may use them.
#[derive(Debug, Subcommand)]
pub enum Share {
    /// List shares, and who may do what with each
    List,
    /// Serve another share; its folder on the pool is made when it is not there
    #[command(after_help = "\
Examples:
  goblin share add photos
  goblin share add manuals --read-only")]
    Add {
        /// Its name
        name: String,
        /// Refuse every change to everyone
        #[arg(long)]
        read_only: bool,
    },
    /// Serve a share no more; its files stay on the pool, and `goblin share add` brings it back
    Remove {
        /// Its name
        name: String,
    },
    /// Let somebody use a share
    #[command(after_help = "\
Examples:
  goblin share allow films anna              read and write
  goblin share allow films @family --read    a group, to read only
  goblin share allow films everyone --read   whoever has no rule of his own
A user's own rule goes first, then the most that a group of his may, then everyone's. Whom no rule names
may write.")]
    Allow {
        /// Share
        share: String,
        /// A user, @GROUP, or everyone
        #[arg(value_parser = who)]
        who: String,
        /// Only to read
        #[arg(long)]
        read: bool,
    },
    /// Let somebody not even see a share; his connections end at once
    #[command(after_help = "\
Examples:
  goblin share deny diary everyone
  goblin share allow diary anna")]
    Deny {
        /// Share
        share: String,
        /// A user, @GROUP, or everyone
        #[arg(value_parser = who)]
        who: String,
    },
    /// Take a rule away
    #[command(after_help = "Example:\n  goblin share reset films @family")]
    Reset {
        /// Share
        share: String,
        /// A user, @GROUP, or everyone
        #[arg(value_parser = who)]
        who: String,
    },
    /// Show the changes of late, each with the command that undoes it
    History,
}

/// Looks after groups of users.
#[derive(Debug, Subcommand)]
pub enum Group {
    /// List groups and their users
    List,
    /// Make a group
    #[command(after_help = "\
Examples:
  goblin group add family anna ben
  goblin share allow films @family")]
    Add {
        /// Its name
        name: String,
        /// Its users
        users: Vec<String>,
    },
    /// Forget a group that no rule names
    Remove {
        /// Its name
        name: String,
    },
    /// Take users into a group
    Join {
        /// The group
        group: String,
        /// The users
        #[arg(required = true)]
        users: Vec<String>,
    },
    /// Put users out of a group
    Leave {
        /// The group
        group: String,
        /// The users
        #[arg(required = true)]
        users: Vec<String>,
    },
}
