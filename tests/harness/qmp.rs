//! QEMU's machine protocol: one JSON object per line over a unix socket.

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

/// A connection to one virtual machine.
#[derive(Debug)]
pub struct Qmp {
    reader: BufReader<UnixStream>,
    writer: UnixStream,
}

impl Qmp {
    /// Connects, waiting until QEMU has made the socket.
    ///
    /// # Errors
    /// At the deadline, or when the greeting is not QMP's.
    pub fn connect(socket: &Path, limit: Duration) -> Result<Self> {
        let stream = connect_when_there(socket, limit)?;
        stream.set_read_timeout(Some(Duration::from_secs(60)))?;
        let mut qmp = Self { reader: BufReader::new(stream.try_clone()?), writer: stream };
        qmp.read().context("QEMU did not greet")?;
        qmp.execute("qmp_capabilities", json!({}))?;
        Ok(qmp)
    }

    fn read(&mut self) -> Result<Value> {
        let mut line = String::new();
        if self.reader.read_line(&mut line)? == 0 {
            bail!("QEMU closed its control socket");
        }
        Ok(serde_json::from_str(&line)?)
    }

    /// Runs a command and gives its result; events in between are skipped.
    ///
    /// # Errors
    /// When QEMU refuses the command or is gone.
    pub fn execute(&mut self, command: &str, arguments: Value) -> Result<Value> {
        let mut line = json!({"execute": command, "arguments": arguments}).to_string();
        line.push('\n');
        self.writer.write_all(line.as_bytes())?;
        loop {
            let answer = self.read()?;
            if let Some(result) = answer.get("return") {
                return Ok(result.clone());
            }
            if let Some(error) = answer.get("error") {
                bail!("QEMU refused {command}: {error}");
            }
        }
    }

    /// Writes the screen as a PNG file.
    ///
    /// # Errors
    /// When the machine has no screen or the file cannot be written.
    pub fn screenshot(&mut self, png: &Path) -> Result<()> {
        let path = std::path::absolute(png)?;
        self.execute("screendump", json!({"filename": path, "format": "png"}))?;
        Ok(())
    }

    /// Presses and releases one key, named by QEMU's `qcode` (`ret`, `f2`, `a`).
    ///
    /// # Errors
    /// When QEMU does not know the key.
    pub fn press(&mut self, qcode: &str) -> Result<()> {
        let keys = json!({"keys": [{"type": "qcode", "data": qcode}], "hold-time": 60});
        self.execute("send-key", keys)?;
        Ok(())
    }

    /// Pulls (`false`) or plugs (`true`) the cable of a network device.
    ///
    /// # Errors
    /// When there is no such device.
    pub fn set_cable(&mut self, device: &str, up: bool) -> Result<()> {
        self.execute("set_link", json!({"name": device, "up": up}))?;
        Ok(())
    }
}

/// Connects to a unix socket that another process is about to make.
pub(crate) fn connect_when_there(socket: &Path, limit: Duration) -> Result<UnixStream> {
    let deadline = Instant::now() + limit;
    loop {
        match UnixStream::connect(socket) {
            Ok(stream) => return Ok(stream),
            // There is no event for "QEMU has bound its socket": look again until the deadline.
            Err(_) if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(20)),
            Err(err) => {
                return Err(err).with_context(|| format!("cannot reach {}", socket.display()));
            }
        }
    }
}
