//! One host at a time: its requests in, replies of at most [`COMMANDS_MAX`] commands out.

use super::command::{self, Running};
use crate::AgentError;
use goblin_core_types::{HostReply, HostRequest};
use goblin_sys::lines::LineBuffer;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread;
use std::time::Duration;

/// Commands that run at the same time at most; a further one is refused.
pub(super) const COMMANDS_MAX: usize = 8;
/// Longest request in bytes.
const REQUEST_BYTES_MAX: usize = 64 * 1024;
/// Replies that wait for a slow host at most; then the commands wait.
const REPLIES_MAX: usize = 256;
/// Longest wait before the two threads look at each other, in milliseconds.
const TICK_MS: u64 = 200;
/// Exit status of a request that was refused because too many run: `EX_TEMPFAIL` of `sysexits.h`.
const EXIT_BUSY: i32 = 75;

/// Serves one host after the other on an open port. Returns when the port itself broke.
///
/// # Errors
/// [`AgentError`] when no thread can be started.
pub(super) fn serve_forever(port: &File, program: &Path) -> Result<(), AgentError> {
    loop {
        match wait_for_host(port) {
            Ok(()) => {}
            Err(err) => {
                tracing::warn!(%err, "the host channel broke");
                return Ok(());
            }
        }
        tracing::info!("the host opened the channel");
        serve(port, program)?;
        tracing::info!("the host closed the channel");
    }
}

/// The kernel reports a port without a host as hung up, at once and always: look again by the clock.
fn wait_for_host(port: &File) -> io::Result<()> {
    loop {
        let flags = wait(port, PollFlags::OUT)?;
        if flags.contains(PollFlags::ERR) {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        if !flags.contains(PollFlags::HUP) && flags.contains(PollFlags::OUT) {
            return Ok(());
        }
        if flags.contains(PollFlags::HUP) {
            thread::sleep(Duration::from_millis(TICK_MS));
        }
    }
}

/// Waits at most [`TICK_MS`] for `wanted`, an error or the host's leaving.
fn wait(port: &File, wanted: PollFlags) -> io::Result<PollFlags> {
    let mut fds = [PollFd::new(port, wanted)];
    let nanoseconds = i64::try_from(TICK_MS.saturating_mul(1_000_000)).unwrap_or(0);
    let tick = Timespec { tv_sec: 0, tv_nsec: nanoseconds };
    match poll(&mut fds, Some(&tick)) {
        Ok(_) | Err(rustix::io::Errno::INTR) => {
            Ok(fds.first().map_or(PollFlags::empty(), PollFd::revents))
        }
        Err(err) => Err(err.into()),
    }
}

/// Serves the host that is there until it goes. Its commands are killed then.
pub(super) fn serve(port: &File, program: &Path) -> Result<(), AgentError> {
    let (replies, outbox) = sync_channel::<HostReply>(REPLIES_MAX);
    let gone = AtomicBool::new(false);
    thread::scope(|scope| {
        let writer = || {
            if let Err(err) = write_replies(port, &outbox, &gone) {
                tracing::debug!(%err, "cannot write to the host");
            }
            gone.store(true, Ordering::Release);
            // Commands that wait for room would otherwise wait for ever.
            drop(outbox);
        };
        thread::Builder::new()
            .name("channel-write".into())
            .spawn_scoped(scope, writer)
            .map_err(|source| AgentError::Thread { name: "channel-write", source })?;
        let _ = replies.send(hello(false));
        let mut running = Vec::new();
        if let Err(err) = read_requests(port, program, &replies, &gone, &mut running) {
            tracing::debug!(%err, "cannot read from the host");
        }
        gone.store(true, Ordering::Release);
        running.iter().for_each(Running::kill);
        Ok(())
    })
}

fn hello(asked: bool) -> HostReply {
    HostReply::Hello { boot_id: goblin_sys::board::boot_id(), asked }
}

fn write_replies(port: &File, outbox: &Receiver<HostReply>, gone: &AtomicBool) -> io::Result<()> {
    // A board that was reset, or an agent that was killed, in the middle of a line left half of one behind.
    write_all(port, b"\n", gone)?;
    while !gone.load(Ordering::Acquire) {
        let reply = match outbox.recv_timeout(Duration::from_millis(TICK_MS)) {
            Ok(reply) => reply,
            Err(RecvTimeoutError::Timeout) => continue,
            Err(RecvTimeoutError::Disconnected) => return Ok(()),
        };
        let mut line = serde_json::to_vec(&reply)?;
        line.push(b'\n');
        write_all(port, &line, gone)?;
    }
    Ok(())
}

fn write_all(mut port: &File, mut bytes: &[u8], gone: &AtomicBool) -> io::Result<()> {
    while !bytes.is_empty() {
        if gone.load(Ordering::Acquire) {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        match port.write(bytes) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(count) => bytes = bytes.get(count..).unwrap_or_default(),
            Err(err) if err.kind() == io::ErrorKind::WouldBlock => {
                let flags = wait(port, PollFlags::OUT)?;
                if flags.intersects(PollFlags::HUP | PollFlags::ERR) {
                    return Err(io::ErrorKind::BrokenPipe.into());
                }
            }
            Err(err) if err.kind() == io::ErrorKind::Interrupted => {}
            Err(err) => return Err(err),
        }
    }
    Ok(())
}

fn read_requests(
    mut port: &File,
    program: &Path,
    replies: &SyncSender<HostReply>,
    gone: &AtomicBool,
    running: &mut Vec<Running>,
) -> io::Result<()> {
    let mut lines = LineBuffer::new(REQUEST_BYTES_MAX);
    let mut chunk = [0u8; 4096];
    while !gone.load(Ordering::Acquire) {
        match port.read(&mut chunk) {
            Ok(0) => return Ok(()),
            Ok(count) => lines.push(chunk.get(..count).unwrap_or_default()),
            Err(err) if err.kind() == io::ErrorKind::WouldBlock => {
                let flags = wait(port, PollFlags::IN)?;
                if flags.contains(PollFlags::HUP) && !flags.contains(PollFlags::IN) {
                    return Ok(());
                }
                continue;
            }
            Err(err) if err.kind() == io::ErrorKind::Interrupted => continue,
            Err(err) => return Err(err),
        }
        loop {
            match lines.next_line() {
                Ok(Some(line)) => {
                    running.retain(|command| !command.finished());
                    answer(line, program, replies, running);
                }
                Ok(None) => break,
                Err(err) => tracing::warn!(%err, "dropped a request"),
            }
        }
    }
    Ok(())
}

fn answer(
    line: &[u8],
    program: &Path,
    replies: &SyncSender<HostReply>,
    running: &mut Vec<Running>,
) {
    if line.trim_ascii().is_empty() {
        // A host that closed and opened between two looks at the port was never seen to leave.
        running.drain(..).for_each(|command| command.kill());
        let _ = replies.send(hello(true));
        return;
    }
    let request: HostRequest = match serde_json::from_slice(line) {
        Ok(request) => request,
        Err(err) => {
            tracing::warn!(%err, "dropped a request that is not understood");
            return;
        }
    };
    let id = request.id;
    let refuse = |text: String, code| {
        // Fails only when the host is gone, which the reader notices by itself.
        let _ = replies.send(HostReply::Err { id, text });
        let _ = replies.send(HostReply::Exit { id, code });
    };
    if running.len() >= COMMANDS_MAX {
        refuse(format!("{COMMANDS_MAX} commands run already; wait for one to end\n"), EXIT_BUSY);
        return;
    }
    match command::start(program, id, &request.argv, replies.clone()) {
        Ok(command) => running.push(command),
        Err(err) => refuse(format!("cannot start the command: {err}\n"), 1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{BufRead, BufReader};
    use std::os::fd::OwnedFd;
    use std::os::unix::net::UnixStream;

    fn start(program: &'static str) -> (UnixStream, thread::JoinHandle<()>) {
        let (host, port) = UnixStream::pair().unwrap();
        port.set_nonblocking(true).unwrap();
        let port = File::from(OwnedFd::from(port));
        let served = thread::spawn(move || serve(&port, Path::new(program)).unwrap());
        (host, served)
    }

    fn request(host: &mut UnixStream, id: u64, argv: &[&str]) {
        let argv = argv.iter().map(|word| (*word).to_owned()).collect();
        let mut line = serde_json::to_vec(&HostRequest { id, argv }).unwrap();
        line.push(b'\n');
        host.write_all(&line).unwrap();
    }

    fn reply(reader: &mut impl BufRead) -> HostReply {
        let mut line = String::new();
        while line.trim().is_empty() {
            line.clear();
            assert!(reader.read_line(&mut line).unwrap() > 0, "the agent left");
        }
        serde_json::from_str(&line).unwrap()
    }

    #[test]
    fn a_command_answers_with_both_streams_and_its_status() {
        let (mut host, served) = start("/bin/sh");
        let mut reader = BufReader::new(host.try_clone().unwrap());
        assert!(matches!(reply(&mut reader), HostReply::Hello { .. }));
        host.write_all(b"nonsense\n").unwrap();
        request(&mut host, 7, &["-c", "echo out; echo err >&2; exit 3"]);
        let mut seen = vec![reply(&mut reader), reply(&mut reader)];
        seen.sort_by_key(|reply| format!("{reply:?}"));
        assert_eq!(
            seen,
            [
                HostReply::Err { id: 7, text: "err\n".into() },
                HostReply::Out { id: 7, text: "out\n".into() }
            ]
        );
        assert_eq!(reply(&mut reader), HostReply::Exit { id: 7, code: 3 });
        drop((host, reader));
        served.join().unwrap();
    }

    #[test]
    fn half_a_line_of_an_agent_before_takes_no_hello_with_it() {
        let (host, served) = start("/bin/sh");
        let mut reader = BufReader::new(host.try_clone().unwrap());
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        assert_eq!(line, "\n");
        assert!(matches!(reply(&mut reader), HostReply::Hello { asked: false, .. }));
        drop((host, reader));
        served.join().unwrap();
    }

    #[test]
    fn an_empty_line_starts_over() {
        let (mut host, served) = start("/bin/sleep");
        let mut reader = BufReader::new(host.try_clone().unwrap());
        reply(&mut reader);
        request(&mut host, 4, &["1000"]);
        host.write_all(b"\n").unwrap();
        let seen = [reply(&mut reader), reply(&mut reader)];
        let greeted = |reply: &HostReply| matches!(reply, HostReply::Hello { asked: true, .. });
        assert!(seen.iter().any(greeted), "{seen:?}");
        assert!(seen.contains(&HostReply::Exit { id: 4, code: 128 + 9 }), "{seen:?}");
        drop((host, reader));
        served.join().unwrap();
    }

    #[test]
    fn one_command_too_many_is_refused_and_the_rest_die_with_the_host() {
        let (mut host, served) = start("/bin/sleep");
        let mut reader = BufReader::new(host.try_clone().unwrap());
        reply(&mut reader);
        for id in 0..=COMMANDS_MAX as u64 {
            request(&mut host, id, &["1000"]);
        }
        let last = COMMANDS_MAX as u64;
        assert!(matches!(reply(&mut reader), HostReply::Err { id, .. } if id == last));
        assert_eq!(reply(&mut reader), HostReply::Exit { id: last, code: EXIT_BUSY });
        let started = std::time::Instant::now();
        drop((host, reader));
        served.join().unwrap();
        assert!(started.elapsed() < Duration::from_secs(10));
    }
}
