//! `goblin clients`: who is connected to the shares, from where, and what each connection did so far.

use crate::command::client;
use crate::error::CliError;
use crate::output::Output;
use crate::render::words;
use goblin_core_types::{ConnectionStatus, ShareCommand, ShareReply};
use std::time::{Duration, SystemTime};

/// Runs `goblin clients`.
pub fn run(output: &mut Output) -> Result<(), CliError> {
    let connections = match client::ask(&ShareCommand::ListClients)? {
        ShareReply::Clients { connections, .. } => connections,
        ShareReply::Failed { kind, message } => return Err(CliError::Refused { kind, message }),
        ShareReply::Code { .. } | ShareReply::Done { .. } | ShareReply::Rights { .. } => Vec::new(),
    };
    if output.json {
        return output.json_value(&connections);
    }
    if connections.is_empty() {
        return output.line("nobody is connected");
    }
    let now_unix_s = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or(Duration::ZERO)
        .as_secs();
    output.line(&format!(
        "{:<20} {:<14} {:<28} {:>9} {:>12} {:>10} {:>10}",
        "CLIENT", "USER", "FROM", "FOR", "OPERATIONS", "READ", "WRITTEN"
    ))?;
    connections.iter().try_for_each(|one| output.line(&row(one, now_unix_s)))
}

fn row(one: &ConnectionStatus, now_unix_s: u64) -> String {
    format!(
        "{:<20} {:<14} {:<28} {:>9} {:>12} {:>10} {:>10}",
        words::plain(&one.client),
        words::plain(&one.user),
        words::plain(&one.from),
        // The clock of the other board may be ahead of this one's.
        age(now_unix_s.saturating_sub(one.since_unix_s)),
        one.operations,
        size(one.read_bytes),
        size(one.written_bytes),
    )
}

fn age(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min", seconds / 60),
        3600..172_800 => format!("{} h", seconds / 3600),
        _ => format!("{} d", seconds / 86_400),
    }
}

fn size(bytes: u64) -> String {
    const UNITS: [(u32, &str); 4] = [(0, "B"), (10, "KiB"), (20, "MiB"), (30, "GiB")];
    let (shift, unit) =
        UNITS.into_iter().find(|(shift, _)| bytes >> shift < 10_240).unwrap_or((40, "TiB"));
    format!("{} {unit}", bytes >> shift)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_says_who_from_where_and_how_much() {
        let one = ConnectionStatus {
            client: "laptop".into(),
            user: "anna".into(),
            from: "192.168.1.30:51000".into(),
            since_unix_s: 1000,
            operations: 42,
            read_bytes: 20 << 20,
            written_bytes: 9000,
        };
        let row = row(&one, 1000 + 7200);
        let words: Vec<&str> = row.split_whitespace().collect();
        let wanted =
            ["laptop", "anna", "192.168.1.30:51000", "2", "h", "42", "20", "MiB", "9000", "B"];
        assert_eq!(words, wanted);
    }

    #[test]
    fn a_clock_that_is_behind_shows_no_age() {
        assert_eq!(age(0), "0 s");
        assert_eq!(size(u64::MAX), "16777215 TiB");
    }
}
