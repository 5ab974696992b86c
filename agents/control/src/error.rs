//! Why an agent of this crate ends.

use std::io;

/// Why an agent of this crate cannot go on. PID 1 starts it again.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AgentError {
    /// A socket of our own cannot be made or listened on.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// Path or address.
        address: String,
        /// The kernel's word.
        #[source]
        source: io::Error,
    },
    /// A thread cannot be started: the board is out of memory or of process numbers.
    #[error("cannot start the thread {name}: {source}")]
    Thread {
        /// What the thread was for.
        name: &'static str,
        /// The kernel's word.
        #[source]
        source: io::Error,
    },
    /// The agent's part of the status cannot be published.
    #[error("cannot write the status part {part}: {source}")]
    Publish {
        /// Name of the part.
        part: &'static str,
        /// The kernel's word.
        #[source]
        source: io::Error,
    },
}
