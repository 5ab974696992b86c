//! The host channel: runs `goblin` commands on the compute board over virtio-serial.

use crate::qmp::connect_when_there;
use anyhow::{Context, Result, bail};
use goblin_core_types::{BoxStatus, HostReply, HostRequest};
use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Longest that a board without a reader may hold up a question.
const WRITE_LIMIT: Duration = Duration::from_secs(10);
/// Lines of a command that did not end which its error repeats.
const LINES_TOLD: usize = 12;

/// What a finished command left.
#[derive(Debug, Clone, Default)]
pub struct Output {
    /// Exit status.
    pub code: i32,
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
}

#[derive(Debug, Default)]
struct Routes {
    waiting: HashMap<u64, Sender<HostReply>>,
    /// Of the last hello; until the first one, replies are for whoever had the port before.
    boot_id: Option<String>,
    next_id: u64,
}

/// A connection to the compute board's host channel; it outlives reboots of the board.
#[derive(Debug)]
pub struct Channel {
    writer: Mutex<UnixStream>,
    routes: Arc<Mutex<Routes>>,
}

impl Channel {
    /// Connects to QEMU's end of the port.
    ///
    /// # Errors
    /// When QEMU has not made the socket within the limit.
    pub fn connect(socket: &Path, limit: Duration) -> Result<Self> {
        let mut stream = connect_when_there(socket, limit)?;
        stream.set_write_timeout(Some(WRITE_LIMIT))?;
        // Ends the commands of a host that had the port before, and is answered by a hello.
        stream.write_all(b"\n")?;
        let reader = BufReader::new(stream.try_clone()?);
        let routes = Arc::new(Mutex::new(Routes { next_id: seed(), ..Routes::default() }));
        let shared = Arc::clone(&routes);
        std::thread::spawn(move || {
            for line in reader.split(b'\n') {
                let Ok(line) = line else { break };
                // A board that is reset in the middle of a line leaves half of one behind.
                if let Ok(reply) = serde_json::from_slice::<HostReply>(&line) {
                    route(&shared, reply);
                }
            }
            // The board lost its power, and answers nothing more.
            shared.lock().unwrap_or_else(PoisonError::into_inner).waiting.clear();
        });
        Ok(Self { writer: Mutex::new(stream), routes })
    }

    /// The boot id the board said when its agent opened the port last.
    pub fn boot_id(&self) -> Option<String> {
        self.routes.lock().unwrap_or_else(PoisonError::into_inner).boot_id.clone()
    }

    /// Runs `goblin ARGV`, handing each piece of output to `on_piece` as it comes.
    ///
    /// # Errors
    /// When the board does not answer within the limit, or is restarted meanwhile.
    pub fn run_streaming(
        &self,
        argv: &[&str],
        limit: Duration,
        on_piece: &mut dyn FnMut(&str),
    ) -> Result<Output> {
        let (id, replies) = self.send(argv)?;
        let answer = collect(&replies, limit, on_piece);
        self.routes.lock().unwrap_or_else(PoisonError::into_inner).waiting.remove(&id);
        answer.with_context(|| format!("`goblin {}` on the compute board", argv.join(" ")))
    }

    /// Runs `goblin ARGV` and gives what it left.
    ///
    /// # Errors
    /// As [`Self::run_streaming`]. An exit status other than 0 is not an error here.
    pub fn run(&self, argv: &[&str], limit: Duration) -> Result<Output> {
        self.run_streaming(argv, limit, &mut |_| {})
    }

    /// Runs `goblin ARGV` and wants success.
    ///
    /// # Errors
    /// Also when the command fails; its standard error is in the message.
    pub fn run_ok(&self, argv: &[&str], limit: Duration) -> Result<String> {
        let output = self.run(argv, limit)?;
        if output.code != 0 {
            bail!("`goblin {}` exited {}: {}", argv.join(" "), output.code, output.err.trim());
        }
        Ok(output.out)
    }

    /// Both boards' status as the compute board sees them.
    ///
    /// # Errors
    /// When the board does not answer or the answer is not a status.
    pub fn status(&self, limit: Duration) -> Result<BoxStatus> {
        let text = self.run_ok(&["status", "--json"], limit)?;
        serde_json::from_str(&text).context("`goblin status --json` is not a status")
    }

    /// Asks for the status again and again until `wanted` accepts it. Between two questions it waits
    /// for the board's answer, never for a fixed time alone.
    ///
    /// # Errors
    /// At the deadline, with the last status or error seen.
    pub fn wait_status(
        &self,
        what: &str,
        limit: Duration,
        wanted: &mut dyn FnMut(&BoxStatus) -> bool,
    ) -> Result<BoxStatus> {
        let deadline = Instant::now() + limit;
        let mut last = String::from("nothing was answered");
        while Instant::now() < deadline {
            match self.status(Duration::from_secs(8)) {
                Ok(status) if wanted(&status) => return Ok(status),
                Ok(status) => last = brief(&status),
                Err(err) => last = format!("{err:#}"),
            }
            // The board offers no event over this port; one question a second costs it little.
            std::thread::sleep(Duration::from_millis(700));
        }
        bail!("{what}: not within {} s; last seen: {last}", limit.as_secs())
    }

    fn send(&self, argv: &[&str]) -> Result<(u64, Receiver<HostReply>)> {
        let (sender, receiver) = channel();
        let id = {
            let mut routes = self.routes.lock().unwrap_or_else(PoisonError::into_inner);
            routes.next_id += 1;
            let id = routes.next_id;
            routes.waiting.insert(id, sender);
            id
        };
        let request = HostRequest { id, argv: argv.iter().map(ToString::to_string).collect() };
        let mut line = serde_json::to_vec(&request)?;
        line.push(b'\n');
        self.writer.lock().unwrap_or_else(PoisonError::into_inner).write_all(&line)?;
        Ok((id, receiver))
    }
}

/// Ids differ between two hosts that use one port one after the other, so that late replies to the
/// first never reach the second.
fn seed() -> u64 {
    u64::from(std::process::id()) << 32
}

fn route(routes: &Mutex<Routes>, reply: HostReply) {
    let mut routes = routes.lock().unwrap_or_else(PoisonError::into_inner);
    let id = match &reply {
        HostReply::Hello { boot_id, asked } => {
            // Whatever was asked of the boot, or of the agent, before is lost with it: drop the senders. The agent
            // that is there answers in order, so that a hello that was asked for comes before what is asked after it.
            if routes.boot_id.as_ref().is_some_and(|old| old != boot_id || !asked) {
                routes.waiting.clear();
            }
            routes.boot_id = Some(boot_id.clone());
            return;
        }
        HostReply::Out { id, .. } | HostReply::Err { id, .. } | HostReply::Exit { id, .. } => *id,
    };
    if routes.boot_id.is_none() {
        return;
    }
    if let Some(sender) = routes.waiting.get(&id) {
        // The asker may have given up; its reply is then nobody's.
        let _ = sender.send(reply);
    }
}

fn collect(
    replies: &Receiver<HostReply>,
    limit: Duration,
    on_piece: &mut dyn FnMut(&str),
) -> Result<Output> {
    let deadline = Instant::now() + limit;
    let mut output = Output::default();
    loop {
        match replies.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(HostReply::Out { text, .. }) => {
                on_piece(&text);
                output.out.push_str(&text);
            }
            Ok(HostReply::Err { text, .. }) => {
                on_piece(&text);
                output.err.push_str(&text);
            }
            Ok(HostReply::Exit { code, .. }) => {
                output.code = code;
                return Ok(output);
            }
            Ok(HostReply::Hello { .. }) => {}
            Err(RecvTimeoutError::Timeout) => {
                bail!("no end within {} s; {}", limit.as_secs(), said_last(&output))
            }
            Err(RecvTimeoutError::Disconnected) => {
                bail!("the board, or its end of the channel, was started again meanwhile")
            }
        }
    }
}

/// The last lines of a command that did not end.
fn said_last(output: &Output) -> String {
    let lines: Vec<&str> = output.out.lines().chain(output.err.lines()).collect();
    let last = lines.get(lines.len().saturating_sub(LINES_TOLD)..).unwrap_or_default();
    if last.is_empty() {
        "it said nothing".into()
    } else {
        format!("it said: {}", last.join(" / "))
    }
}

/// One line that says where each board stands.
pub fn brief(status: &BoxStatus) -> String {
    let boards: Vec<String> = status
        .boards
        .iter()
        .map(|board| {
            let role = board.role.map_or("unprovisioned", |role| role.as_str());
            let version = board.boot.version.map_or_else(|| "?".into(), |v| v.to_string());
            let wrong: Vec<String> = board
                .health
                .checks
                .iter()
                .filter(|check| check.state != goblin_core_types::CheckState::Ok)
                .map(|check| format!("{}: {}", check.name, check.detail))
                .collect();
            format!("{role} {version} {:?} [{}]", board.health.state, wrong.join("; "))
        })
        .collect();
    format!("{} {}", boards.join(" | "), status.absent.join("; "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixListener;

    #[test]
    fn a_new_host_ends_old_commands_and_skips_replies_until_the_hello() {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("port");
        let listener = UnixListener::bind(&socket).unwrap();
        let board = std::thread::spawn(move || {
            let (stream, _) = listener.accept().unwrap();
            let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
            assert_eq!(lines.next().unwrap().unwrap(), "");
            let request: HostRequest =
                serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
            let id = request.id;
            let stale = HostReply::Out { id, text: "stale".into() };
            let hello = HostReply::Hello { boot_id: "b".into(), asked: true };
            let exit = HostReply::Exit { id, code: 7 };
            let say = |reply: HostReply| {
                let mut line = serde_json::to_vec(&reply).unwrap();
                line.push(b'\n');
                (&stream).write_all(&line).unwrap();
            };
            [stale, hello, exit].into_iter().for_each(say);
            // An agent that was started anew knows nothing of this one.
            lines.next().unwrap().unwrap();
            say(HostReply::Hello { boot_id: "b".into(), asked: false });
        });
        let channel = Channel::connect(&socket, Duration::from_secs(5)).unwrap();
        let output = channel.run(&["status"], Duration::from_secs(5)).unwrap();
        assert_eq!((output.code, output.out.as_str()), (7, ""));
        let err = channel.run(&["status"], Duration::from_secs(60)).unwrap_err();
        assert!(format!("{err:#}").contains("started again"), "{err:#}");
        board.join().unwrap();
    }
}
