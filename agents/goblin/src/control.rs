//! The command line's end of the control tree. Each question opens a session of its own.

use crate::cli::Board;
use crate::error::CliError;
use goblin_core_ninep::Errno;
use goblin_core_ninep::client::{Client, ClientError, Fid};
use goblin_core_types::{BoardStatus, InitReply, InitRequest, Role, paths};
use goblin_sys::lines::LineBuffer;
use goblin_sys::socket::Socket;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::ops::ControlFlow;
use std::path::Path;
use std::time::Duration;

/// File of a board's updater, below the board's folder.
pub const UPDATE: &str = "update/ctl";
/// File of a board's PID 1, below the board's folder.
pub const INIT: &str = "init/ctl";
/// File of a board's log lines, below the board's folder.
pub const LOGS: &str = "logs/ctl";
/// File of a board's file server, below the board's folder.
pub const SHARE: &str = "share/ctl";
/// File of the keeper of a board's system disks, below the board's folder.
pub const DISKS: &str = "disks/ctl";
/// Name the tree is attached by.
const ANAME: &str = "control";
/// Message size asked for, in bytes.
const MSIZE_BYTES: u32 = 64 * 1024;
/// Longest file read from the tree, in bytes.
const FILE_BYTES_MAX: usize = 4 << 20;
/// Longest reply line, in bytes.
const LINE_BYTES_MAX: usize = 1 << 20;
/// Longest wait for one answer while a file is read; more than another board may take to be given up.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// The folder of the board this process runs on.
pub fn local_board() -> Board {
    match goblin_sys::board::role() {
        Some(Role::Compute) => Board::Compute,
        Some(Role::Storage) => Board::Storage,
        None => Board::Local,
    }
}

/// A board's status.
pub fn status(board: Board) -> Result<BoardStatus, CliError> {
    read_json(board, "status")
}

/// What a board's console shows.
pub fn screen(board: Board) -> Result<Vec<String>, CliError> {
    read_json(board, "screen")
}

/// Asks PID 1 of a board and takes the first reply that `wanted` accepts.
pub fn ask_init<T>(
    board: Board,
    request: &InitRequest,
    wanted: impl Fn(InitReply) -> Option<T>,
) -> Result<T, CliError> {
    let mut found = None;
    converse(board, INIT, request, |reply| {
        if let InitReply::Refused { message } = reply {
            return Err(CliError::Refused { kind: "refused".into(), message });
        }
        found = wanted(reply);
        Ok(if found.is_some() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
    })?;
    found.ok_or_else(|| CliError::CutShort { board: board.as_str().into() })
}

/// Sends one request to a board's `file` and hands every reply to `each`, until that breaks off.
///
/// # Errors
/// [`CliError::CutShort`] when the replies end before.
pub fn converse<Q: Serialize, R: DeserializeOwned>(
    board: Board,
    file: &str,
    request: &Q,
    mut each: impl FnMut(R) -> Result<ControlFlow<()>, CliError>,
) -> Result<(), CliError> {
    let shape = |source| CliError::Shape { board: board.as_str().into(), source };
    let line = serde_json::to_vec(request).map_err(shape)?;
    let (mut client, root) = connect(board)?;
    let fid = client
        .converse(&root, &format!("boards/{}/{file}", board.as_str()), &line)
        .map_err(|err| unreachable(board, err))?;
    // The next word of an upgrade or of a log may take any time.
    let _ = client.stream().set_limits(None, Some(ANSWER_TIMEOUT));
    let cut_short = || CliError::CutShort { board: board.as_str().into() };
    let mut lines = LineBuffer::new(LINE_BYTES_MAX);
    let mut offset = 0u64;
    loop {
        let part = client.read(&fid, offset, u32::MAX).map_err(|_| cut_short())?;
        if part.is_empty() {
            return Err(cut_short());
        }
        offset = offset.saturating_add(u64::try_from(part.len()).unwrap_or(0));
        lines.push(part);
        while let Some(line) = lines.next_line().map_err(|_| cut_short())? {
            if each(serde_json::from_slice(line).map_err(shape)?)?.is_break() {
                return Ok(());
            }
        }
    }
}

fn read_json<T: DeserializeOwned>(board: Board, file: &str) -> Result<T, CliError> {
    let (mut client, root) = connect(board)?;
    let bytes = client
        .read_file(&root, &format!("boards/{}/{file}", board.as_str()), FILE_BYTES_MAX)
        .map_err(|err| unreachable(board, err))?;
    serde_json::from_slice(&bytes)
        .map_err(|source| CliError::Shape { board: board.as_str().into(), source })
}

fn connect(board: Board) -> Result<(Client<Socket>, Fid), CliError> {
    let open = || -> Result<(Client<Socket>, Fid), ClientError> {
        let socket = Socket::connect_unix(Path::new(paths::CONTROL_SOCKET))?;
        socket.set_limits(Some(ANSWER_TIMEOUT), Some(ANSWER_TIMEOUT))?;
        let mut client = Client::connect(socket, MSIZE_BYTES)?;
        let root = client.attach(ANAME, "root")?;
        Ok((client, root))
    };
    open().map_err(|err| CliError::Unreachable {
        board: board.as_str().into(),
        reason: format!("this board's control agent does not answer: {err}"),
    })
}

fn unreachable(board: Board, err: ClientError) -> CliError {
    let reason = match &err {
        ClientError::Refused(Errno::EHOSTDOWN) => {
            "it has not been heard on the inter-board link; check its power and the cable".into()
        }
        ClientError::Refused(Errno::ETIMEDOUT) => "it did not answer in time".into(),
        ClientError::Refused(Errno::ECONNREFUSED) => {
            "the agent that is asked does not run there (yet)".into()
        }
        ClientError::Refused(Errno::ENOENT) => {
            format!(
                "there is no board `{}` to be seen from here, or its release does not know this question",
                board.as_str()
            )
        }
        other => other.to_string(),
    };
    CliError::Unreachable { board: board.as_str().into(), reason }
}
