//! Questions to PID 1, over its control socket.

use goblin_core_types::{InitReply, InitRequest, UnitDetail, UnitStatus};
use std::io;
use std::path::PathBuf;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use zbus::fdo;

/// Longest wait for a whole answer.
const ANSWER_LIMIT: Duration = Duration::from_secs(5);
/// Longest answer in bytes.
const ANSWER_BYTES_MAX: u64 = 4 << 20;

/// PID 1, at the other end of its control socket.
#[derive(Debug, Clone)]
pub struct Init {
    socket: PathBuf,
}

/// What the units are doing, and the boot.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Overview {
    /// By name.
    pub units: Vec<UnitStatus>,
    /// The boot counts as a trial, and the verdict is open.
    pub trial: bool,
    /// Lines that the log dropped.
    pub dropped_lines: u64,
    /// Milliseconds since the kernel started when PID 1 began.
    pub init_start_ms: u64,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// PID 1 cannot be reached, or said nothing in time.
    #[error("PID 1 does not answer: {0}")]
    Unreachable(#[from] io::Error),
    /// PID 1 refused.
    #[error("{0}")]
    Refused(String),
    /// The answer is not one to this question.
    #[error("PID 1 answered something else")]
    Strange,
}

impl From<AskError> for fdo::Error {
    fn from(err: AskError) -> Self {
        let text = err.to_string();
        match err {
            AskError::Unreachable(err) if err.kind() == io::ErrorKind::TimedOut => {
                Self::NoReply(text)
            }
            AskError::Unreachable(_) | AskError::Strange => Self::Failed(text),
            AskError::Refused(_) => Self::InvalidArgs(text),
        }
    }
}

impl Init {
    /// PID 1 at this socket.
    pub fn at(socket: PathBuf) -> Self {
        Self { socket }
    }

    /// What all units are doing.
    pub async fn overview(&self) -> Result<Overview, AskError> {
        match self.ask(&InitRequest::Units).await? {
            InitReply::Units { units, init_start_ms, trial, dropped_lines } => {
                Ok(Overview { units, trial, dropped_lines, init_start_ms })
            }
            _ => Err(AskError::Strange),
        }
    }

    /// Everything that is known of a unit.
    pub async fn detail(&self, unit: &str) -> Result<UnitDetail, AskError> {
        match self.ask(&InitRequest::Show { unit: unit.to_owned() }).await? {
            InitReply::Unit(detail) => Ok(*detail),
            _ => Err(AskError::Strange),
        }
    }

    /// Gives an order.
    pub async fn order(&self, order: &InitRequest) -> Result<(), AskError> {
        match self.ask(order).await? {
            InitReply::Done => Ok(()),
            _ => Err(AskError::Strange),
        }
    }

    /// The first reply to a question.
    async fn ask(&self, request: &InitRequest) -> Result<InitReply, AskError> {
        let conversation = async {
            let mut stream = UnixStream::connect(&self.socket).await?;
            let mut line = serde_json::to_vec(request).map_err(io::Error::other)?;
            line.push(b'\n');
            stream.write_all(&line).await?;
            let mut answer = Vec::new();
            BufReader::new(stream.take(ANSWER_BYTES_MAX)).read_until(b'\n', &mut answer).await?;
            io::Result::Ok(answer)
        };
        let answer = match tokio::time::timeout(ANSWER_LIMIT, conversation).await {
            Ok(answer) => answer?,
            Err(_) => return Err(io::Error::from(io::ErrorKind::TimedOut).into()),
        };
        match serde_json::from_slice(&answer) {
            Ok(InitReply::Refused { message }) => Err(AskError::Refused(message)),
            Ok(reply) => Ok(reply),
            Err(_) => Err(AskError::Strange),
        }
    }
}
