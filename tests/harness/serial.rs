//! The serial console of a virtual machine: kept as lines, copied to a log file.

use crate::lines::Lines;
use anyhow::{Context, Result, bail};
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Lines of a serial console as they come.
#[derive(Debug, Clone)]
pub struct Serial {
    lines: Lines,
    log: PathBuf,
}

impl Serial {
    /// Reads `source` to its end in a thread of its own; every line goes to `log` too, stamped with
    /// milliseconds since this call.
    ///
    /// # Errors
    /// When the log file cannot be made.
    pub fn follow(source: impl Read + Send + 'static, log: &Path) -> Result<Self> {
        let lines = Lines::default();
        let mut file = File::options()
            .create(true)
            .append(true)
            .open(log)
            .with_context(|| format!("cannot write the serial log {}", log.display()))?;
        let sink = lines.clone();
        std::thread::spawn(move || {
            let start = Instant::now();
            let mut reader = BufReader::new(source);
            let mut raw = Vec::new();
            loop {
                raw.clear();
                match reader.read_until(b'\n', &mut raw) {
                    Ok(0) | Err(_) => break,
                    Ok(_) => {}
                }
                let text = clean(&raw);
                // The log is for people; a full disk must not stop the test.
                let _ = writeln!(file, "{:8} {text}", start.elapsed().as_millis());
                sink.push(text);
            }
            sink.close();
        });
        Ok(Self { lines, log: log.to_path_buf() })
    }

    /// Number of lines so far; the place to start a later [`Self::wait_from`].
    pub fn position(&self) -> usize {
        self.lines.count()
    }

    /// Waits for a line containing `text`, from the line number `from` on.
    ///
    /// # Errors
    /// At the deadline, with the last lines seen and the log's path.
    pub fn wait_from(&self, from: usize, text: &str, limit: Duration) -> Result<(usize, String)> {
        let found = self.lines.wait(from, Instant::now() + limit, &|line| line.contains(text));
        match found {
            Some(found) => Ok(found),
            None => bail!(
                "no line with `{text}` within {} s; last lines:\n{}\nwhole log: {}",
                limit.as_secs(),
                self.tail(20),
                self.log.display()
            ),
        }
    }

    /// The last `count` lines, joined.
    pub fn tail(&self, count: usize) -> String {
        let lines = self.lines.snapshot();
        let start = lines.len().saturating_sub(count);
        lines.get(start..).unwrap_or_default().join("\n")
    }

    /// Every line so far.
    pub fn all(&self) -> Vec<String> {
        self.lines.snapshot()
    }
}

/// Drops escape sequences of firmware and loader, and what is not printable.
fn clean(raw: &[u8]) -> String {
    let text = String::from_utf8_lossy(raw);
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        if c == '\u{1b}' {
            if chars.peek() == Some(&'[') {
                chars.next();
                for c in chars.by_ref() {
                    if c.is_ascii_alphabetic() {
                        break;
                    }
                }
            }
        } else if c == '\t' || !c.is_control() {
            out.push(c);
        }
    }
    out
}
