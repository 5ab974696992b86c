//! One command of the host: a child process whose output is sent on as it comes.

use goblin_core_types::HostReply;
use rustix::process::{Pid, PidfdFlags, Signal};
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::SyncSender;
use std::thread;

/// Bytes of output sent in one reply at most.
const CHUNK_BYTES: usize = 8 * 1024;

/// A running command. Dropping it does not end it; [`Running::kill`] does.
#[derive(Debug)]
pub(super) struct Running {
    process: OwnedFd,
    thread: thread::JoinHandle<()>,
}

impl Running {
    /// True after the last reply was handed over.
    pub(super) fn finished(&self) -> bool {
        self.thread.is_finished()
    }

    /// Ends the process, if it still runs. The descriptor keeps its number from being taken over.
    pub(super) fn kill(&self) {
        // A process that is gone already is what was wanted.
        let _ = rustix::process::pidfd_send_signal(&self.process, Signal::KILL);
    }
}

/// Starts `program argv` and a thread that sends its output and its exit status to `replies`.
///
/// # Errors
/// The kernel's, when the process or a thread cannot be started; nothing runs then.
pub(super) fn start(
    program: &Path,
    id: u64,
    argv: &[String],
    replies: SyncSender<HostReply>,
) -> io::Result<Running> {
    let mut child = Command::new(program)
        .args(argv)
        .env_remove(goblin_sys::notify::NOTIFY_ENV)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let followed = open_pidfd(&child).and_then(|process| {
        let out = child.stdout.take().ok_or(io::ErrorKind::BrokenPipe)?;
        let err = child.stderr.take().ok_or(io::ErrorKind::BrokenPipe)?;
        let errors = replies.clone();
        let err_thread = thread::Builder::new().name("channel-err".into()).spawn(move || {
            forward(err, |text| errors.send(HostReply::Err { id, text }).is_ok());
        })?;
        Ok((process, out, err_thread))
    });
    let (process, out, err_thread) = match followed {
        Ok(parts) => parts,
        Err(err) => {
            abandon(child);
            return Err(err);
        }
    };
    let (give, take) = std::sync::mpsc::sync_channel::<Child>(1);
    let spawned = thread::Builder::new().name("channel-out".into()).spawn(move || {
        let Ok(mut child) = take.recv() else { return };
        forward(out, |text| replies.send(HostReply::Out { id, text }).is_ok());
        // Exit comes after the last piece of both streams.
        let _ = err_thread.join();
        let code = child.wait().map_or(1, exit_code);
        let _ = replies.send(HostReply::Exit { id, code });
    });
    match spawned {
        Ok(thread) => {
            let _ = give.send(child);
            Ok(Running { process, thread })
        }
        Err(err) => {
            abandon(child);
            Err(err)
        }
    }
}

/// Ends and reaps a child that nobody will follow.
fn abandon(mut child: Child) {
    let _ = child.kill();
    let _ = child.wait();
}

fn open_pidfd(child: &Child) -> io::Result<OwnedFd> {
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    let pid = pid.ok_or(io::ErrorKind::InvalidInput)?;
    Ok(rustix::process::pidfd_open(pid, PidfdFlags::empty())?)
}

fn exit_code(status: ExitStatus) -> i32 {
    status.code().unwrap_or_else(|| status.signal().unwrap_or(0).saturating_add(128))
}

/// Sends what `from` gives, until its end or until `send` says that nobody listens. A character that is
/// cut by the end of a piece is kept for the next.
fn forward(mut from: impl Read, mut send: impl FnMut(String) -> bool) {
    let mut bytes: Vec<u8> = Vec::with_capacity(CHUNK_BYTES);
    let mut chunk = [0u8; CHUNK_BYTES];
    loop {
        let count = match from.read(&mut chunk) {
            Ok(0) => break,
            Ok(count) => count,
            Err(err) if err.kind() == io::ErrorKind::Interrupted => continue,
            Err(_) => break,
        };
        bytes.extend_from_slice(chunk.get(..count).unwrap_or_default());
        let rest = bytes.split_off(whole_characters(&bytes));
        let piece = std::mem::replace(&mut bytes, rest);
        if !piece.is_empty() && !send(String::from_utf8_lossy(&piece).into_owned()) {
            return;
        }
    }
    if !bytes.is_empty() {
        send(String::from_utf8_lossy(&bytes).into_owned());
    }
}

/// Length of `bytes` without a character that is cut at its end.
fn whole_characters(bytes: &[u8]) -> usize {
    match std::str::from_utf8(bytes) {
        // No length of the error means that the text ends inside a character.
        Err(err) if err.error_len().is_none() => err.valid_up_to(),
        _ => cut_at_end(bytes),
    }
}

/// As [`whole_characters`], for bytes with an invalid sequence somewhere before the end.
fn cut_at_end(bytes: &[u8]) -> usize {
    let tail_start = bytes.len().saturating_sub(3);
    for start in tail_start..bytes.len() {
        let Some(tail) = bytes.get(start..) else { break };
        let cut = |err: std::str::Utf8Error| err.error_len().is_none() && err.valid_up_to() == 0;
        if std::str::from_utf8(tail).is_err_and(cut) {
            return start;
        }
    }
    bytes.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn characters_are_not_cut_between_pieces() {
        assert_eq!(whole_characters("größe".as_bytes()), 7);
        assert_eq!(whole_characters(b"gr\xc3"), 2);
        assert_eq!(whole_characters(b"\xff\xffgr\xc3"), 4);
        assert_eq!(whole_characters(b"\xff"), 1);
        let mut sent = Vec::new();
        forward(&b"a\xe2\x82\xac"[..], |text| {
            sent.push(text);
            true
        });
        assert_eq!(sent.concat(), "a€");
    }
}
