//! The local sockets of PID 1 and the updater: one JSON line out, JSON lines back.

use goblin_sys::socket::Socket;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

/// Longest line accepted from a local socket, in bytes, its end included. The longest honest one is the
/// list of units.
pub const LINE_BYTES_MAX: usize = 1 << 20;
/// Longest wait for a local agent that is alive to say a word, in milliseconds.
const LOCAL_TIMEOUT_MS: u64 = 2_000;

/// Why a local agent gave no answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AskError {
    /// The socket is not there, nobody listens, or nothing came in time.
    #[error("{path} does not answer: {source}")]
    Io {
        /// The socket.
        path: String,
        /// The kernel's word.
        #[source]
        source: io::Error,
    },
    /// The other end closed before it answered.
    #[error("{path} closed without an answer")]
    Closed {
        /// The socket.
        path: String,
    },
    /// The answer is not of the expected shape.
    #[error("{path} answered something this release does not understand: {source}")]
    Shape {
        /// The socket.
        path: String,
        /// The parser's word.
        #[source]
        source: serde_json::Error,
    },
}

/// Sends one request and returns the first reply.
///
/// # Errors
/// [`AskError`] when no reply of the wanted shape came within two seconds.
pub fn ask<Q: Serialize, R: DeserializeOwned>(path: &Path, request: &Q) -> Result<R, AskError> {
    let name = path.display().to_string();
    let io_error = |source| AskError::Io { path: name.clone(), source };
    let shape_error = |source| AskError::Shape { path: name.clone(), source };
    let limit = Duration::from_millis(LOCAL_TIMEOUT_MS);
    let mut stream = connect(path, limit).map_err(io_error)?;
    let timeout = Some(limit);
    stream.set_read_timeout(timeout).map_err(io_error)?;
    stream.set_write_timeout(timeout).map_err(io_error)?;
    let mut line = serde_json::to_vec(request).map_err(shape_error)?;
    line.push(b'\n');
    stream.write_all(&line).map_err(io_error)?;
    match read_line(&mut BufReader::new(stream)).map_err(io_error)? {
        Some(reply) => serde_json::from_slice(&reply).map_err(shape_error),
        None => Err(AskError::Closed { path: name }),
    }
}

/// Connects to a local agent; one that lives but accepts nobody costs `limit` and no more.
///
/// # Errors
/// The kernel's; `TimedOut` after `limit`.
pub fn connect(path: &Path, limit: Duration) -> io::Result<UnixStream> {
    Ok(Socket::connect_unix_within(path, limit)?.into_fd().into())
}

/// Reads one line without its end, or `None` at the end of the stream. A last line without an end is
/// a torn one and counts as the end.
///
/// # Errors
/// `InvalidData` for a line longer than [`LINE_BYTES_MAX`]; otherwise the stream's own.
pub fn read_line(reader: &mut impl BufRead) -> io::Result<Option<Vec<u8>>> {
    let mut line = Vec::new();
    let limit = u64::try_from(LINE_BYTES_MAX).unwrap_or(u64::MAX);
    reader.take(limit).read_until(b'\n', &mut line)?;
    if line.pop() == Some(b'\n') {
        return Ok(Some(line));
    }
    if line.len().saturating_add(1) >= LINE_BYTES_MAX {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            format!("a line is longer than the {LINE_BYTES_MAX} bytes allowed"),
        ));
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use goblin_core_types::{InitReply, InitRequest};
    use std::os::unix::net::UnixListener;

    #[test]
    fn lines_are_bounded_and_torn_ends_dropped() {
        let mut text: &[u8] = b"one\ntwo";
        assert_eq!(read_line(&mut text).unwrap().unwrap(), b"one");
        assert_eq!(read_line(&mut text).unwrap(), None);
        let long = vec![b'x'; LINE_BYTES_MAX + 5];
        assert_eq!(read_line(&mut long.as_slice()).unwrap_err().kind(), io::ErrorKind::InvalidData);
    }

    #[test]
    fn a_question_gets_the_first_reply() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("init.sock");
        let listener = UnixListener::bind(&path).unwrap();
        let server = std::thread::spawn(move || {
            let (stream, _) = listener.accept().unwrap();
            let mut reader = BufReader::new(stream);
            let line = read_line(&mut reader).unwrap().unwrap();
            assert_eq!(serde_json::from_slice::<InitRequest>(&line).unwrap(), InitRequest::Units);
            reader.get_mut().write_all(b"{\"re\":\"done\"}\n").unwrap();
        });
        assert_eq!(ask::<_, InitReply>(&path, &InitRequest::Units).unwrap(), InitReply::Done);
        server.join().unwrap();
    }

    #[test]
    fn silence_and_nonsense_are_told_apart() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("init.sock");
        assert!(matches!(
            ask::<_, InitReply>(&path, &InitRequest::Units),
            Err(AskError::Io { .. })
        ));
        let listener = UnixListener::bind(&path).unwrap();
        let server = std::thread::spawn(move || {
            let (mut nonsense, _) = listener.accept().unwrap();
            nonsense.write_all(b"what?\n").unwrap();
            drop(nonsense);
            let _closed = listener.accept().unwrap();
        });
        assert!(matches!(
            ask::<_, InitReply>(&path, &InitRequest::Units),
            Err(AskError::Shape { .. })
        ));
        let closed = ask::<_, InitReply>(&path, &InitRequest::Units);
        assert!(matches!(closed, Err(AskError::Closed { .. } | AskError::Io { .. })));
        server.join().unwrap();
    }
}
