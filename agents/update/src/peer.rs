//! The storage board, as the compute board's updater sees it: files of the control tree.

use crate::feed::Ask;
use crate::origin::OpenError;
use crate::pair::{Peer, PeerError};
use goblin_core_ninep::Errno;
use goblin_core_ninep::client::{Client, ClientError, Fid};
use goblin_core_types::{BoardStatus, Role, UpdateCommand, UpdateReply, paths};
use goblin_sys::socket::Socket;
use std::io::{self, Read};
use std::path::Path;
use std::time::{Duration, Instant};

/// Largest message of the session in bytes.
const MSIZE: u32 = 64 << 10;
/// Largest status read, in bytes.
const STATUS_BYTES_MAX: usize = 4 << 20;
/// Longest reply line in bytes.
const LINE_BYTES_MAX: usize = 64 << 10;
/// Longest wait for an answer to a short question.
const ANSWER_WAIT: Duration = Duration::from_secs(15);
/// Longest silence inside a command: reading back an image from a slow disk says nothing meanwhile.
const COMMAND_SILENCE_MAX: Duration = Duration::from_secs(300);

/// Longest silence while release files come: the compute board may have to fetch one itself, with its tries.
const FEED_SILENCE_MAX: Duration = Duration::from_secs(150);

/// Longest command: the largest release over the slowest line that is waited for.
const COMMAND_MAX: Duration = Duration::from_secs(6 * 3600);

/// The storage board through the local control tree.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ControlTree;

fn detail(err: ClientError) -> PeerError {
    match err {
        // What this board's tree says for the other one while it cannot be reached.
        ClientError::Refused(
            Errno::EHOSTDOWN | Errno::ETIMEDOUT | Errno::ECONNREFUSED | Errno::ECONNRESET,
        ) => PeerError::Silent,
        ClientError::Refused(errno) => {
            PeerError::Failed(format!("its control tree answers: {errno}"))
        }
        other => PeerError::Failed(other.to_string()),
    }
}

fn connect(wait: Duration) -> Result<(Client<Socket>, Fid), PeerError> {
    let text = |err: std::io::Error| {
        PeerError::Failed(format!("the control tree of this board does not answer: {err}"))
    };
    let socket = Socket::connect_unix(Path::new(paths::CONTROL_SOCKET)).map_err(text)?;
    socket.set_limits(Some(wait), Some(ANSWER_WAIT)).map_err(text)?;
    let mut client = Client::connect(socket, MSIZE).map_err(detail)?;
    let root = client.attach("control", "update").map_err(detail)?;
    Ok((client, root))
}

/// The compute board's release files, through the storage board's own control tree.
impl Ask for ControlTree {
    fn ask(&self, line: &[u8]) -> Result<Box<dyn Read + Send>, OpenError> {
        let open = || {
            let (mut client, root) = connect(FEED_SILENCE_MAX)?;
            let path = format!("boards/{}/releases/ctl", Role::Compute);
            let fid = client.converse(&root, &path, line).map_err(detail)?;
            Ok(Answer { client, fid, offset: 0, piece: Vec::new(), taken: 0 })
        };
        match open() {
            Ok(answer) => Ok(Box::new(answer)),
            Err(PeerError::Silent) => {
                Err(OpenError::Again("the compute board does not answer".into()))
            }
            Err(PeerError::Failed(detail)) => Err(OpenError::Final(detail)),
        }
    }
}

/// What a conversation answers, as a stream.
struct Answer {
    client: Client<Socket>,
    fid: Fid,
    offset: u64,
    piece: Vec<u8>,
    /// Bytes of the piece that were handed on.
    taken: usize,
}

impl Read for Answer {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.taken >= self.piece.len() {
            let piece = self.client.read(&self.fid, self.offset, MSIZE);
            let piece = piece.map_err(|err| io::Error::other(err.to_string()))?;
            self.offset =
                self.offset.saturating_add(u64::try_from(piece.len()).unwrap_or(u64::MAX));
            self.piece.clear();
            self.piece.extend_from_slice(piece);
            self.taken = 0;
        }
        let left = self.piece.get(self.taken..).unwrap_or_default();
        let count = left.len().min(buffer.len());
        if let (Some(to), Some(from)) = (buffer.get_mut(..count), left.get(..count)) {
            to.copy_from_slice(from);
        }
        self.taken = self.taken.saturating_add(count);
        Ok(count)
    }
}

fn path(file: &str) -> String {
    format!("boards/{}/{file}", Role::Storage)
}

impl Peer for ControlTree {
    fn status(&mut self) -> Result<BoardStatus, PeerError> {
        let (mut client, root) = connect(ANSWER_WAIT)?;
        let bytes = client.read_file(&root, &path("status"), STATUS_BYTES_MAX).map_err(detail)?;
        serde_json::from_slice(&bytes)
            .map_err(|err| PeerError::Failed(format!("its status cannot be read: {err}")))
    }

    fn command(
        &mut self,
        command: &UpdateCommand,
        each: &mut dyn FnMut(UpdateReply),
    ) -> Result<UpdateReply, PeerError> {
        let failed = |text: String| Err(PeerError::Failed(text));
        let line = serde_json::to_vec(command).map_err(|err| PeerError::Failed(err.to_string()))?;
        let since = Instant::now();
        let (mut client, root) = connect(COMMAND_SILENCE_MAX)?;
        let fid = client.converse(&root, &path("update/ctl"), &line).map_err(detail)?;
        let mut offset = 0u64;
        let mut pending = Vec::new();
        loop {
            let piece = client.read(&fid, offset, MSIZE).map_err(detail)?;
            if piece.is_empty() {
                return failed("its updater ended the conversation without a last word".into());
            }
            if since.elapsed() > COMMAND_MAX {
                return failed("its updater talks without an end".into());
            }
            offset = offset.saturating_add(u64::try_from(piece.len()).unwrap_or(u64::MAX));
            pending.extend_from_slice(piece);
            while let Some(end) = pending.iter().position(|&byte| byte == b'\n') {
                let line: Vec<u8> = pending.drain(..=end).collect();
                match serde_json::from_slice(&line) {
                    Ok(progress @ UpdateReply::Progress { .. }) => each(progress),
                    Ok(last) => return Ok(last),
                    Err(err) => return failed(format!("its reply cannot be read: {err}")),
                }
            }
            if pending.len() > LINE_BYTES_MAX {
                return failed("its reply is endless".into());
            }
        }
    }
}
