//! QEMU gives the host channel to one process only: `run` keeps it and lets other processes ask through
//! a socket of its own. One JSON array of arguments in, one JSON line per piece of output back.

use anyhow::{Context, Result};
use goblin_tests::channel::Channel;
use serde::{Deserialize, Serialize};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// Longest a command may run; `logs --follow` ends with its asker long before.
const COMMAND_LIMIT: Duration = Duration::from_secs(86_400);

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Piece {
    Text(String),
    Exit(i32),
    Lost(String),
}

/// Serves askers in threads until the process ends.
pub(super) fn serve(socket: &Path, channel: Arc<Channel>) -> Result<()> {
    let _ = std::fs::remove_file(socket);
    let listener = UnixListener::bind(socket)
        .with_context(|| format!("cannot listen at {}", socket.display()))?;
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let channel = Arc::clone(&channel);
            std::thread::spawn(move || {
                // An asker that goes away needs no answer.
                let _ = answer(stream, &channel);
            });
        }
    });
    Ok(())
}

fn answer(stream: UnixStream, channel: &Channel) -> Result<()> {
    let mut line = String::new();
    BufReader::new(stream.try_clone()?).read_line(&mut line)?;
    let argv: Vec<String> = serde_json::from_str(&line)?;
    let argv: Vec<&str> = argv.iter().map(String::as_str).collect();
    let mut writer = stream;
    let mut send = |piece: &Piece| -> Result<()> {
        let mut line = serde_json::to_vec(piece)?;
        line.push(b'\n');
        writer.write_all(&line)?;
        Ok(())
    };
    let result = channel.run_streaming(&argv, COMMAND_LIMIT, &mut |text| {
        let _ = send(&Piece::Text(text.into()));
    });
    send(&match result {
        Ok(output) => Piece::Exit(output.code),
        Err(err) => Piece::Lost(format!("{err:#}")),
    })
}

/// Asks the running box; gives the command's exit status.
pub(super) fn ask(socket: &Path, argv: &[String]) -> Result<i32> {
    let mut stream = UnixStream::connect(socket).with_context(|| {
        format!(
            "no box is running (nothing at {}): start one with cargo xtask run",
            socket.display()
        )
    })?;
    let mut line = serde_json::to_vec(argv)?;
    line.push(b'\n');
    stream.write_all(&line)?;
    for line in BufReader::new(stream).lines() {
        match serde_json::from_str(&line?)? {
            Piece::Text(text) => {
                let mut out = std::io::stdout();
                match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
                    Ok(()) => {}
                    // `| head` has seen enough.
                    Err(err) if err.kind() == std::io::ErrorKind::BrokenPipe => return Ok(0),
                    Err(err) => return Err(err.into()),
                }
            }
            Piece::Exit(code) => return Ok(code),
            Piece::Lost(why) => {
                eprintln!("{why}");
                return Ok(1);
            }
        }
    }
    anyhow::bail!("the box was stopped meanwhile")
}
