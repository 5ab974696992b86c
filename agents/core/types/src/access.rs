//! Messages about client PCs: who is enrolled, and what each user may do with a share.

use serde::{Deserialize, Serialize};

/// What a user may do with a share.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum May {
    /// Not even see it.
    Nothing,
    /// Read.
    Read,
    /// Read and write.
    Write,
}

impl May {
    /// Its word in files and on the command line.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Nothing => "nothing",
            Self::Read => "read",
            Self::Write => "write",
        }
    }
}

/// A share as one user sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShareRight {
    /// The share.
    pub name: String,
    /// What the user may do.
    pub may: May,
}

/// The file server's first word on every connection over TLS, after it knows the peer:
/// `bytes[4] LE, JSON[bytes]`, then 9P.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Greeting {
    /// Name of the box, for people.
    pub box_name: String,
    /// The kernel's boot id: what was written and not synced is still there while it stays the same.
    pub boot_id: String,
    /// Name of this run of the server, used once; empty from one that has none.
    pub run: String,
    /// Runs before it that ended in order: all that they took is on the disks, synced or not.
    pub ended: Vec<String>,
    /// Name the peer is enrolled by.
    pub client: String,
    /// The user it stands for.
    pub user: String,
    /// Shares it may use.
    pub shares: Vec<ShareRight>,
}

/// Longest [`Greeting`] in bytes.
pub const GREETING_BYTES_MAX: usize = 64 * 1024;

/// Asked of the file server over [`crate::paths::SHARE_SOCKET`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "kebab-case", deny_unknown_fields)]
pub enum ShareCommand {
    /// Make a one-time code.
    AddClient {
        /// Name the client gets; absent for the one it proposes.
        name: Option<String>,
        /// User it stands for; absent for its name.
        user: Option<String>,
    },
    /// Enrolled clients, rights and connections.
    ListClients,
    /// Forget a client and cut its connections.
    RevokeClient {
        /// Its name.
        name: String,
    },
    /// Set what a user may do with a share, as [`AccessChange::SetRight`] does.
    SetRight {
        /// User, `*` for everyone without a rule of his own.
        user: String,
        /// Share.
        share: String,
        /// What he may do.
        may: May,
    },
    /// Change shares, groups or rights. Connections of those whose rights change are cut, so that it holds at once.
    Change {
        /// What to change.
        change: AccessChange,
    },
    /// Shares, groups, rights, and the changes of late.
    ListRights,
}

/// One change of shares, groups and rights. Each has another one that undoes it.
///
/// `who` is a user, `@GROUP`, or `*` for everyone without a rule of his own or of a group of his.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "change", rename_all = "kebab-case", deny_unknown_fields)]
pub enum AccessChange {
    /// Serve a share.
    AddShare {
        /// Its name, and its folder's on the pool.
        name: String,
        /// Refuse every change to everyone.
        read_only: bool,
    },
    /// Serve a share no more. Its files stay on the pool.
    RemoveShare {
        /// Its name.
        name: String,
    },
    /// Say what somebody may do with a share.
    SetRight {
        /// Who.
        who: String,
        /// Share.
        share: String,
        /// What.
        may: May,
    },
    /// Say nothing about it any more.
    ClearRight {
        /// Who.
        who: String,
        /// Share.
        share: String,
    },
    /// Make a group.
    AddGroup {
        /// Its name.
        name: String,
        /// Its first users.
        users: Vec<String>,
    },
    /// Forget a group that no rule names.
    RemoveGroup {
        /// Its name.
        name: String,
    },
    /// Take users into a group.
    Join {
        /// The group.
        group: String,
        /// The users.
        users: Vec<String>,
    },
    /// Put users out of a group.
    Leave {
        /// The group.
        group: String,
        /// The users.
        users: Vec<String>,
    },
}

impl AccessChange {
    /// The command that makes this change. Names need no quotes: those that would are refused.
    pub fn command(&self) -> String {
        // A shell would put file names in a star's place.
        let who = |who: &str| if who == "*" { "everyone".to_owned() } else { who.to_owned() };
        match self {
            Self::AddShare { name, read_only } => {
                format!("goblin share add {name}{}", if *read_only { " --read-only" } else { "" })
            }
            Self::RemoveShare { name } => format!("goblin share remove {name}"),
            Self::SetRight { who: user, share, may } => match may {
                May::Nothing => format!("goblin share deny {share} {}", who(user)),
                May::Read => format!("goblin share allow {share} {} --read", who(user)),
                May::Write => format!("goblin share allow {share} {}", who(user)),
            },
            Self::ClearRight { who: user, share } => {
                format!("goblin share reset {share} {}", who(user))
            }
            Self::AddGroup { name, users } => {
                [&["goblin group add", name], words(users).as_slice()].concat().join(" ")
            }
            Self::RemoveGroup { name } => format!("goblin group remove {name}"),
            Self::Join { group, users } => {
                [&["goblin group join", group], words(users).as_slice()].concat().join(" ")
            }
            Self::Leave { group, users } => {
                [&["goblin group leave", group], words(users).as_slice()].concat().join(" ")
            }
        }
    }
}

fn words(users: &[String]) -> Vec<&str> {
    users.iter().map(String::as_str).collect()
}

/// A rule of a share.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RightStatus {
    /// A user, `@GROUP`, or `*`.
    pub who: String,
    /// What he may do.
    pub may: May,
}

/// A share and who may do what with it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShareRights {
    /// Its name.
    pub name: String,
    /// Whether everyone only reads it.
    pub read_only: bool,
    /// The rules that name it. Everyone whom none of them names may write.
    pub rules: Vec<RightStatus>,
}

/// A group of users.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Group {
    /// Its name, without the `@`.
    pub name: String,
    /// Its users, sorted.
    pub users: Vec<String>,
}

/// A change that was made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PastChange {
    /// Seconds since 1970.
    pub unix_s: u64,
    /// The command that makes it.
    pub command: String,
    /// The command that undoes it.
    pub undo: String,
}

/// One enrolled client.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClientStatus {
    /// Name.
    pub name: String,
    /// The user it stands for.
    pub user: String,
    /// Its public key.
    pub key: String,
    /// Seconds since 1970 when it was enrolled.
    pub added_unix_s: u64,
    /// Addresses it is connected from.
    pub connected_from: Vec<String>,
    /// Shares and rights.
    pub shares: Vec<ShareRight>,
}

/// One live connection to the file server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConnectionStatus {
    /// The client; a board for the boards themselves.
    pub client: String,
    /// The user it stands for.
    pub user: String,
    /// Address and port it comes from.
    pub from: String,
    /// Seconds since 1970 when it came.
    pub since_unix_s: u64,
    /// Requests answered.
    pub operations: u64,
    /// Bytes of files sent to it.
    pub read_bytes: u64,
    /// Bytes of files received from it.
    pub written_bytes: u64,
}

/// Answered by the file server: one reply to each command.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "re", rename_all = "kebab-case")]
pub enum ShareReply {
    /// A code was made.
    Code {
        /// What a person types at the PC.
        code: String,
        /// Seconds it is good for.
        life_s: u64,
        /// Address of the file server, as a PC reaches it, when one is known.
        address: Option<String>,
    },
    /// Who is enrolled.
    Clients {
        /// By name.
        clients: Vec<ClientStatus>,
        /// By when they came, the boards' own among them.
        #[serde(default)]
        connections: Vec<ConnectionStatus>,
        /// Codes that wait to be used.
        codes_waiting: u32,
    },
    /// What is served, and who may do what.
    Rights {
        /// In the order in which clients see them.
        shares: Vec<ShareRights>,
        /// By name.
        groups: Vec<Group>,
        /// The newest last.
        changes: Vec<PastChange>,
    },
    /// Carried out.
    Done {
        /// One sentence.
        message: String,
        /// The command that undoes it, where there is one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        undo: Option<String>,
    },
    /// Not carried out.
    Failed {
        /// A stable word for scripts: `not-found`, `exists`, `full`, `storage`, `refused`.
        kind: String,
        /// What is wrong and what to do.
        message: String,
    },
}
