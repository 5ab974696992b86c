//! Why a command did not do what it was asked to.

use std::io;

/// Exit status of a command line that is not understood, as clap has it.
pub const USAGE_STATUS: u8 = 2;

/// Why a command ended without its result. Its text is one sentence for a person.
#[derive(Debug, thiserror::Error)]
pub enum CliError {
    /// A board's control tree cannot be reached.
    #[error("the {board} board cannot be reached: {reason}")]
    Unreachable {
        /// Board.
        board: String,
        /// One clause.
        reason: String,
    },
    /// The board understood and said no.
    #[error("{}", refusal(kind, message))]
    Refused {
        /// A stable word for scripts.
        kind: String,
        /// What is wrong and what to do.
        message: String,
    },
    /// A conversation ended before its last word.
    #[error("the {board} board stopped answering before it was done; see `goblin status`")]
    CutShort {
        /// Board.
        board: String,
    },
    /// A board answered something this release does not understand.
    #[error("the {board} board answered something this release does not understand: {source}")]
    Shape {
        /// Board.
        board: String,
        /// The parser's word.
        #[source]
        source: serde_json::Error,
    },
    /// A file or folder of a share cannot be read.
    #[error(transparent)]
    File(#[from] goblin_sys::listing::WalkError),
    /// What a PC does with a box failed.
    #[error("{source}")]
    Pc {
        /// What and why, with the remedy.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The result cannot be printed.
    #[error("cannot print: {source}")]
    Print {
        /// The kernel's word.
        #[from]
        source: io::Error,
    },
}

/// The kind is for scripts; a person reads it only where it says more than "refused".
fn refusal(kind: &str, message: &str) -> String {
    if kind == "refused" {
        format!("refused: {message}")
    } else {
        format!("refused ({kind}): {message}")
    }
}

impl CliError {
    /// Exit status, as `goblin --help` lists them.
    pub const fn exit_status(&self) -> u8 {
        match self {
            Self::Unreachable { .. } => 3,
            Self::Refused { .. } => 4,
            Self::CutShort { .. }
            | Self::Shape { .. }
            | Self::File { .. }
            | Self::Pc { .. }
            | Self::Print { .. } => 1,
        }
    }

    /// From an error of the PC's side.
    pub fn pc(source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self::Pc { source: source.into() }
    }

    /// True when the reader of our output went away, which is no failure: `goblin logs | head`.
    pub fn is_closed_pipe(&self) -> bool {
        matches!(self, Self::Print { source } if source.kind() == io::ErrorKind::BrokenPipe)
    }

    /// A stable word for scripts.
    pub fn kind(&self) -> &str {
        match self {
            Self::Unreachable { .. } => "unreachable",
            Self::Refused { kind, .. } => kind,
            Self::CutShort { .. } => "cut-short",
            Self::Shape { .. } => "shape",
            Self::File { .. } => "file",
            Self::Pc { .. } => "pc",
            Self::Print { .. } => "print",
        }
    }
}
