//! A unit's words to PID 1, over the descriptor that PID 1 passed on: one JSON [`Notify`] per line.

use goblin_core_types::Notify;
use std::fs::OpenOptions;
use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Environment variable naming the path of the descriptor to write to (`/proc/self/fd/N`).
pub const NOTIFY_ENV: &str = "GOBLIN_NOTIFY";

/// Tells PID 1 something. Outside PID 1's supervision, where the variable is unset, nothing happens.
pub fn send(word: &Notify) {
    let Some(path) = std::env::var_os(NOTIFY_ENV) else { return };
    let Ok(mut line) = serde_json::to_vec(word) else { return };
    line.push(b'\n');
    // A word that cannot be delivered means that PID 1 closed its end; the unit's work goes on.
    if let Ok(mut pipe) = OpenOptions::new().write(true).open(path) {
        let _ = pipe.write_all(&line);
    }
}

/// The unit is ready.
pub fn ready() {
    send(&Notify::Ready);
}

/// The unit's loop turns; for units with `watchdog_ms`, which are killed when they stay silent for longer.
pub fn ping() {
    send(&Notify::Ping);
}

/// Pause between two signs of life, far below the `watchdog_ms` of any unit.
const PULSE: Duration = Duration::from_secs(10);
/// Longest that a service may take to answer itself.
const ANSWER_LIMIT: Duration = Duration::from_secs(10);

/// Signs of life of a loop that turns more often than they are wanted.
#[derive(Debug, Default)]
pub struct Pulse {
    last: Option<Instant>,
}

impl Pulse {
    /// The loop turned; every ten seconds PID 1 hears of it.
    pub fn beat(&mut self) {
        if self.last.is_none_or(|last| last.elapsed() >= PULSE) {
            self.last = Some(Instant::now());
            ping();
        }
    }
}

/// For services whose threads wait in `accept`: asks the service's own socket every ten seconds, in a thread
/// of its own, and tells PID 1 that it lives whenever it answered. Any answer will do, and so will a closed
/// connection, for a service that refuses one is not hung.
///
/// # Errors
/// When there can be no thread.
pub fn ping_while_answering(socket: &Path, question: &'static [u8]) -> io::Result<()> {
    let socket = PathBuf::from(socket);
    let ask = move || loop {
        if answers(&socket, question, ANSWER_LIMIT) {
            ping();
        }
        std::thread::sleep(PULSE);
    };
    std::thread::Builder::new().name("pulse".into()).spawn(ask).map(drop)
}

/// Whether a connection is taken and answered, or closed, within the limit.
fn answers(socket: &Path, question: &[u8], limit: Duration) -> bool {
    let asked = UnixStream::connect(socket).and_then(|mut stream| {
        stream.set_read_timeout(Some(limit))?;
        stream.set_write_timeout(Some(limit))?;
        // A peer that closes at once may be gone already: that is an answer too.
        let _ = stream.write_all(question).and_then(|()| stream.shutdown(Shutdown::Write));
        stream.read(&mut [0; 64])
    });
    match asked {
        Ok(_) => true,
        Err(err) => {
            matches!(err.kind(), io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe)
        }
    }
}

/// A sentence for `goblin status`.
pub fn status(text: impl Into<String>) {
    send(&Notify::Status { text: text.into() });
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixListener;

    const SHORT: Duration = Duration::from_millis(200);

    #[test]
    fn only_a_service_whose_loop_turns_answers() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.sock");
        assert!(!answers(&path, b"x", SHORT), "nobody is there");
        // Connections are queued by the kernel, and nobody takes them: a service that hangs.
        let listener = UnixListener::bind(&path).unwrap();
        assert!(!answers(&path, b"x", SHORT));
        let served = std::thread::spawn(move || {
            // The one that gave up waiting comes first.
            drop(listener.accept());
            let (mut peer, _) = listener.accept().unwrap();
            peer.write_all(b"y").unwrap();
            drop(listener.accept());
        });
        assert!(answers(&path, b"x", ANSWER_LIMIT), "an answer");
        assert!(answers(&path, b"x", ANSWER_LIMIT), "a refusal");
        served.join().unwrap();
    }
}
