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
    /// Set what a user may do with a share. Connections of the user are cut, so that it holds at once.
    SetRight {
        /// User, `*` for everyone without a rule of his own.
        user: String,
        /// Share.
        share: String,
        /// What he may do.
        may: May,
    },
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
    /// Carried out.
    Done {
        /// One sentence.
        message: String,
    },
    /// Not carried out.
    Failed {
        /// A stable word for scripts: `not-found`, `exists`, `full`, `storage`, `refused`.
        kind: String,
        /// What is wrong and what to do.
        message: String,
    },
}
