//! `goblin ls`, `get` and `put`: files of a share without a mount.

use super::files::known;
use super::progress::Progress;
use crate::cli::CopyArgs;
use crate::error::CliError;
use crate::output::Output;
use goblin_agent_client::boxes::split_place;
use goblin_agent_client::copy::{Clobber, CopyError, Event, Folders, Options, Source, Summary};
use goblin_agent_client::remote::Remote;
use goblin_core_types::escape_bytes;
use std::io;
use std::path::Path;

fn place(text: &str) -> Result<(&str, &str, &str), CliError> {
    split_place(text).ok_or_else(|| CliError::Refused {
        kind: "refused".into(),
        message: format!("`{text}` names no share: write BOX:SHARE, or BOX:SHARE/PATH"),
    })
}

fn open(text: &str) -> Result<(Remote, &str), CliError> {
    let (the_box, share, path) = place(text)?;
    let remote = Remote::open(&known()?, the_box, share).map_err(CliError::pc)?;
    Ok((remote, path))
}

/// `goblin ls`
pub fn ls(text: &str, long: bool, output: &mut Output) -> Result<(), CliError> {
    let (mut remote, path) = open(text)?;
    for (entry, attr) in remote.list(path).map_err(CliError::pc)? {
        let name = escape_bytes(&entry.name);
        if output.json {
            let line = serde_json::json!({
                "name": name, "mode": attr.mode, "size": attr.size, "mtime_s": attr.mtime.sec,
            });
            output.json_line(&line)?;
            continue;
        }
        let slash = if attr.mode & 0o170_000 == 0o040_000 { "/" } else { "" };
        if long {
            let (bits, time) = (bits(attr.mode), time(attr.mtime.sec));
            output.line(&format!("{bits} {:>14}  {time}  {name}{slash}", attr.size))?;
        } else {
            output.line(&format!("{name}{slash}"))?;
        }
    }
    Ok(())
}

/// Kind and permission bits as `ls -l` shows them.
fn bits(mode: u32) -> String {
    let kind = match mode & 0o170_000 {
        0o040_000 => 'd',
        0o120_000 => 'l',
        0o100_000 => '-',
        0o020_000 => 'c',
        0o060_000 => 'b',
        0o010_000 => 'p',
        0o140_000 => 's',
        _ => '?',
    };
    let bit = |index: u32, c: char| if mode & (0o400 >> index) == 0 { '-' } else { c };
    std::iter::once(kind).chain((0..9).zip("rwxrwxrwx".chars()).map(|(i, c)| bit(i, c))).collect()
}

/// `2026-05-01 12:00:00` in UTC; a time before 1970 is two's complement.
fn time(seconds: u64) -> String {
    let seconds = i64::from_le_bytes(seconds.to_le_bytes());
    let Ok(stamp) = jiff::Timestamp::from_second(seconds) else { return format!("{seconds:>19}") };
    stamp.strftime("%Y-%m-%d %H:%M:%S").to_string()
}

const fn options(how: CopyArgs) -> Options {
    Options {
        folders: if how.recursive { Folders::Copy } else { Folders::Refuse },
        clobber: if how.no_clobber { Clobber::Keep } else { Clobber::Replace },
    }
}

/// `goblin get`
pub fn get(
    text: &str,
    to: Option<&Path>,
    how: CopyArgs,
    output: &mut Output,
) -> Result<(), CliError> {
    let (mut remote, path) = open(text)?;
    if to == Some(Path::new("-")) {
        if how.recursive {
            return Err(CliError::Refused {
                kind: "refused".into(),
                message: "a folder cannot go to standard output: name a folder".into(),
            });
        }
        remote.print(path, &mut io::stdout().lock()).map_err(CliError::pc)?;
        return Ok(());
    }
    let to = to.unwrap_or(Path::new("."));
    copied(how, output, "", |told| remote.get(path, to, options(how), told))
}

/// `goblin put`
pub fn put(from: &Path, text: &str, how: CopyArgs, output: &mut Output) -> Result<(), CliError> {
    let (mut remote, path) = open(text)?;
    let mut stdin = io::stdin().lock();
    let source =
        if from == Path::new("-") { Source::Stream(&mut stdin) } else { Source::Path(from) };
    copied(how, output, ", on the box's disks", |told| remote.put(source, path, options(how), told))
}

/// Tells what happens while it does, and what was done in the end.
fn copied(
    how: CopyArgs,
    output: &mut Output,
    note: &str,
    copy: impl FnOnce(&mut dyn FnMut(Event)) -> Result<Summary, CopyError>,
) -> Result<(), CliError> {
    let mut progress = Progress::new(output.json || how.quiet);
    let mut unprinted = Ok(());
    let mut told = |event: Event| {
        let said = if output.json { print_event(&event, output) } else { Ok(()) };
        if let Event::Failed { problem } = &event
            && !output.json
        {
            progress.say(problem);
        }
        progress.note(&event);
        if unprinted.is_ok() {
            unprinted = said;
        }
    };
    let done = copy(&mut told);
    progress.end();
    let done = done.map_err(CliError::pc)?;
    unprinted?;
    if output.json {
        output.json_line(&serde_json::json!({
            "event": "end", "files": done.files, "folders": done.folders, "links": done.links,
            "same": done.same, "left_out": done.left_out, "failed": done.failed,
            "moved_bytes": done.moved_bytes,
        }))?;
    } else {
        output.line(&summary(&done, note))?;
    }
    match done.failed {
        0 => Ok(()),
        1 => Err(CliError::pc("one could not be copied; all others are there")),
        some => Err(CliError::pc(format!("{some} could not be copied; all others are there"))),
    }
}

fn print_event(event: &Event, output: &mut Output) -> Result<(), CliError> {
    let line = match event {
        Event::Begin { path, bytes, resumed } => {
            serde_json::json!({"event": "begin", "path": path, "bytes": bytes, "resumed": resumed})
        }
        Event::Done { path } => serde_json::json!({"event": "done", "path": path}),
        Event::Same { path } => serde_json::json!({"event": "same", "path": path}),
        Event::LeftOut { path } => serde_json::json!({"event": "left-out", "path": path}),
        Event::Failed { problem } => serde_json::json!({"event": "failed", "problem": problem}),
        _ => return Ok(()),
    };
    output.json_line(&line)?;
    output.flush()
}

fn summary(done: &Summary, note: &str) -> String {
    let mut text = format!("{} file(s), {} bytes{note}", done.files, done.moved_bytes);
    for (count, what) in [
        (done.folders, "folder(s)"),
        (done.links, "link(s)"),
        (done.same, "there already"),
        (done.left_out, "left out: neither file, folder nor link"),
    ] {
        if count > 0 {
            text.push_str(&format!("; {count} {what}"));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_and_times_are_shown_as_people_know_them() {
        assert_eq!(bits(0o100_644), "-rw-r--r--");
        assert_eq!(bits(0o040_751), "drwxr-x--x");
        assert_eq!(time(1_777_636_800), "2026-05-01 12:00:00");
        assert_eq!(time(u64::MAX), "1969-12-31 23:59:59");
        assert_eq!(time(u64::MAX / 2).trim(), i64::MAX.to_string());
    }

    #[test]
    fn only_what_there_is_is_summed_up() {
        let mut done = Summary::default();
        assert_eq!(summary(&done, ""), "0 file(s), 0 bytes");
        (done.files, done.moved_bytes, done.same) = (1, 5, 2);
        assert_eq!(summary(&done, "!"), "1 file(s), 5 bytes!; 2 there already");
    }
}
