//! One line on a terminal that says how far a copy is.

use goblin_agent_client::copy::Event;
use rustix::termios::tcgetwinsize;
use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

/// Shortest time between two pictures.
const PAUSE: Duration = Duration::from_millis(200);
/// Width of a terminal that does not say.
const COLUMNS: usize = 80;

/// The line; nothing where standard error is no terminal.
#[derive(Debug)]
pub struct Progress {
    on: bool,
    state: State,
    started: Instant,
    shown: Option<Instant>,
}

/// What is known.
#[derive(Debug, Default, Clone)]
struct State {
    path: String,
    bytes: u64,
    here: u64,
    moved: u64,
    files: u64,
}

impl Progress {
    pub fn new(quiet: bool) -> Self {
        let on = !quiet && io::stderr().is_terminal();
        Self { on, state: State::default(), started: Instant::now(), shown: None }
    }

    pub fn note(&mut self, event: &Event) {
        let state = &mut self.state;
        match event {
            Event::Begin { path, bytes, resumed } => {
                (state.path, state.bytes, state.here) = (path.clone(), *bytes, *resumed);
            }
            Event::Moved { bytes } => {
                state.here = state.here.saturating_add(*bytes);
                state.moved = state.moved.saturating_add(*bytes);
            }
            Event::Done { .. } | Event::Same { .. } => state.files = state.files.saturating_add(1),
            _ => {}
        }
        if self.on && self.shown.is_none_or(|shown| shown.elapsed() >= PAUSE) {
            self.shown = Some(Instant::now());
            let columns = tcgetwinsize(io::stderr()).map_or(0, |size| usize::from(size.ws_col));
            let columns = if columns == 0 { COLUMNS } else { columns };
            let line = line(&self.state, self.started.elapsed(), columns);
            // A terminal that is gone needs no picture.
            let _ = write!(io::stderr(), "\r\x1b[K{line}").and_then(|()| io::stderr().flush());
        }
    }

    /// Prints a line that stays.
    pub fn say(&mut self, text: &str) {
        self.end();
        let _ = writeln!(io::stderr(), "goblin: {text}");
    }

    /// Takes the line away.
    pub fn end(&mut self) {
        if self.shown.take().is_some() {
            let _ = write!(io::stderr(), "\r\x1b[K").and_then(|()| io::stderr().flush());
        }
    }
}

fn line(state: &State, time: Duration, columns: usize) -> String {
    let whole = u128::from(state.here).saturating_mul(100);
    let percent = whole.checked_div(u128::from(state.bytes)).map(|percent| percent.min(100));
    let moved = u128::from(state.moved).saturating_mul(1000);
    let rate = moved.checked_div(time.as_millis()).unwrap_or(moved);
    let front = match percent {
        Some(percent) => format!("{percent:>3} %"),
        None => "     ".into(),
    };
    let rate = u64::try_from(rate).unwrap_or(u64::MAX);
    let (here, rate) = (size(state.here), size(rate));
    let front = format!("{front} {here:>10} {rate:>10}/s {:>6} done  ", state.files);
    // The last column is left free: some terminals go on to the next line when it is written.
    let room = columns.saturating_sub(front.chars().count()).saturating_sub(1);
    let length = state.path.chars().count();
    let path: String = match length.checked_sub(room) {
        // The end of a path tells more than its beginning.
        Some(over) if over > 0 => {
            let tail = state.path.chars().skip(over.saturating_add(1));
            std::iter::once('~').chain(tail).take(room).collect()
        }
        _ => state.path.clone(),
    };
    let all = format!("{front}{path}");
    all.chars().take(columns.saturating_sub(1)).collect()
}

fn size(bytes: u64) -> String {
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut tenths = u128::from(bytes).saturating_mul(10);
    let mut name = "B";
    for unit in ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"] {
        tenths /= 1024;
        name = unit;
        if tenths < 10_240 {
            break;
        }
    }
    format!("{}.{} {name}", tenths / 10, tenths % 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_fits_its_terminal_and_keeps_the_end_of_a_path() {
        let path = "photos/2026/".repeat(20) + "last.jpg";
        let state = State { path, bytes: 4 << 20, here: 1 << 20, moved: 1 << 20, files: 3 };
        let text = line(&state, Duration::from_secs(2), 80);
        assert_eq!(text.chars().count(), 79);
        assert!(text.starts_with(" 25 %    1.0 MiB  512.0 KiB/s"), "{text}");
        assert!(text.ends_with("last.jpg"), "{text}");
        assert!(line(&state, Duration::ZERO, 1).is_empty());
        let unknown = State { here: 5, ..State::default() };
        assert!(line(&unknown, Duration::ZERO, 80).starts_with("      "), "no total, no percent");
    }

    #[test]
    fn sizes_are_short() {
        assert_eq!(size(1023), "1023 B");
        assert_eq!(size(1536), "1.5 KiB");
        assert_eq!(size(u64::MAX), "15.9 EiB");
    }
}
