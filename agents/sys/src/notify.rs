//! A unit's words to PID 1, over the descriptor that PID 1 passed on: one JSON [`Notify`] per line.

use goblin_core_types::Notify;
use std::fs::OpenOptions;
use std::io::Write;

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

/// A sentence for `goblin status`.
pub fn status(text: impl Into<String>) {
    send(&Notify::Status { text: text.into() });
}
