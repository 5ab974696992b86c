//! Where results go: text for people, JSON for programs, colours only for a terminal.

use crate::error::CliError;
use serde::Serialize;
use std::io::{self, BufWriter, IsTerminal, Stdout, Write};

/// Meaning of a word, which decides its colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tone {
    /// Works.
    Good,
    /// A person should look.
    Warn,
    /// A person must act.
    Bad,
    /// Less important.
    Dim,
    /// A heading.
    Strong,
}

/// Paints words, or leaves them as they are.
#[derive(Debug, Clone, Copy, Default)]
pub struct Paint {
    on: bool,
}

impl Paint {
    /// For a terminal, unless `NO_COLOR` is set (no-color.org).
    pub fn for_stdout() -> Self {
        let wanted = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        Self { on: wanted && io::stdout().is_terminal() }
    }

    /// The text in the colour of its meaning.
    pub fn paint(self, tone: Tone, text: &str) -> String {
        if !self.on || text.is_empty() {
            return text.to_owned();
        }
        let code = match tone {
            Tone::Good => "32",
            Tone::Warn => "33",
            Tone::Bad => "31",
            Tone::Dim => "2",
            Tone::Strong => "1",
        };
        format!("\x1b[{code}m{text}\x1b[0m")
    }
}

/// Standard output, in one of two languages.
#[derive(Debug)]
pub struct Output {
    to: BufWriter<Stdout>,
    /// Print JSON.
    pub json: bool,
    /// Colours.
    pub paint: Paint,
}

impl Output {
    /// Standard output.
    pub fn new(json: bool) -> Self {
        Self { to: BufWriter::new(io::stdout()), json, paint: Paint::for_stdout() }
    }

    /// Prints text and a newline.
    pub fn line(&mut self, text: &str) -> Result<(), CliError> {
        self.to.write_all(text.as_bytes())?;
        Ok(self.to.write_all(b"\n")?)
    }

    /// Prints a value as one line of JSON.
    pub fn json_line<T: Serialize>(&mut self, value: &T) -> Result<(), CliError> {
        serde_json::to_writer(&mut self.to, value).map_err(io::Error::from)?;
        Ok(self.to.write_all(b"\n")?)
    }

    /// Prints a whole result as indented JSON.
    pub fn json_value<T: Serialize>(&mut self, value: &T) -> Result<(), CliError> {
        serde_json::to_writer_pretty(&mut self.to, value).map_err(io::Error::from)?;
        Ok(self.to.write_all(b"\n")?)
    }

    /// Hands everything on; for answers that grow.
    pub fn flush(&mut self) -> Result<(), CliError> {
        Ok(self.to.flush()?)
    }
}
