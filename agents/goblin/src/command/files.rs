//! What a PC does with a box without a mount: `login`, `shares`, `ls`, `get`, `put`.

use crate::error::CliError;
use crate::output::Output;
use crate::render::words;
use goblin_agent_client::boxes::{self, Boxes, KnownBox, split_place};
use goblin_agent_client::login;
use goblin_agent_client::remote::{self, Remote};
use goblin_core_types::{Greeting, escape_bytes, paths};
use std::fs::File;
use std::io;
use std::path::Path;

/// Whether this machine is a PC rather than a board.
pub fn is_pc() -> bool {
    !Path::new(paths::RUN).exists()
}

/// This PC's key and boxes.
pub fn known() -> Result<Boxes, CliError> {
    boxes::folder().and_then(Boxes::open).map_err(CliError::pc)
}

/// `goblin login`
pub fn login(
    address: &str,
    code: &str,
    name: Option<&str>,
    output: &mut Output,
) -> Result<(), CliError> {
    let mut boxes = known()?;
    let (known, greeting) = login::login(&mut boxes, address, code, name).map_err(CliError::pc)?;
    if output.json {
        return output.json_value(&serde_json::json!({"box": known, "shares": greeting.shares}));
    }
    output.line(&format!(
        "This PC is enrolled with {} as {}, for the user {}.",
        words::plain(&known.name),
        words::plain(&known.client),
        words::plain(&known.user)
    ))?;
    for share in &greeting.shares {
        let place = format!("{}:{}", known.name, share.name);
        output.line(&format!("  sudo goblin mount {} /mnt", words::plain(&place)))?;
    }
    Ok(())
}

/// `goblin shares [BOX]` on a PC. A box that is away is said to be away; it is no failure unless it was asked
/// for by name.
pub fn shares(only: Option<&str>, output: &mut Output) -> Result<(), CliError> {
    let boxes = known()?;
    let me = boxes.identity().map_err(CliError::pc)?;
    let chosen: Vec<&KnownBox> = match only {
        Some(name) => vec![boxes.find(name).map_err(CliError::pc)?],
        None => boxes.all().iter().collect(),
    };
    if chosen.is_empty() {
        return output.line(
            "this PC is enrolled with no box: get a code with `goblin client add` at the box, then run \
             `goblin login ADDRESS CODE`",
        );
    }
    for known in chosen {
        match remote::connect(known, &me) {
            Ok((_, greeting)) => show(known, &greeting, output)?,
            Err(err) if only.is_some() => return Err(CliError::pc(err)),
            Err(err) => output.line(&format!("{}: {err}", words::plain(&known.name)))?,
        }
    }
    Ok(())
}

fn show(known: &KnownBox, greeting: &Greeting, output: &mut Output) -> Result<(), CliError> {
    if output.json {
        let line = serde_json::json!({"box": known.name, "shares": greeting.shares});
        return output.json_line(&line);
    }
    if greeting.shares.is_empty() {
        return output.line(&format!("{}: no share for this user", words::plain(&known.name)));
    }
    greeting.shares.iter().try_for_each(|share| {
        let place = words::plain(&format!("{}:{}", known.name, share.name)).to_string();
        output.line(&format!("{place:<40} {}", share.may.as_str()))
    })
}

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
pub fn ls(text: &str, output: &mut Output) -> Result<(), CliError> {
    let (mut remote, path) = open(text)?;
    for (entry, attr) in remote.list(path).map_err(CliError::pc)? {
        let name = escape_bytes(&entry.name);
        if output.json {
            let line = serde_json::json!({
                "name": name, "mode": attr.mode, "size": attr.size, "mtime_s": attr.mtime.sec,
            });
            output.json_line(&line)?;
        } else {
            let kind = match attr.mode & 0o170_000 {
                0o040_000 => 'd',
                0o120_000 => 'l',
                0o100_000 => '-',
                _ => '?',
            };
            let mode = attr.mode & 0o7777;
            output.line(&format!("{kind}{mode:04o} {:>14}  {name}", attr.size))?;
        }
    }
    Ok(())
}

/// `goblin get`
pub fn get(text: &str, to: Option<&Path>, output: &mut Output) -> Result<(), CliError> {
    let (mut remote, path) = open(text)?;
    let name = path.rsplit('/').next().filter(|name| !name.is_empty());
    let Some(name) = name else {
        return Err(CliError::Refused {
            kind: "refused".into(),
            message: format!("`{text}` names a folder: `goblin get` copies one file"),
        });
    };
    let to = to.unwrap_or(Path::new(name));
    if to == Path::new("-") {
        remote.get(path, &mut io::stdout().lock()).map_err(CliError::pc)?;
        return Ok(());
    }
    let made = |err| CliError::pc(format!("{}: {err}", to.display()));
    let mut file = File::options().write(true).create_new(true).open(to).map_err(made)?;
    let copied = remote.get(path, &mut file).map_err(CliError::pc);
    let copied = copied.and_then(|bytes| file.sync_all().map(|()| bytes).map_err(made));
    if copied.is_err() {
        // Half a file under its own name would be taken for the whole.
        let _ = std::fs::remove_file(to);
    }
    let bytes = copied?;
    output.line(&format!("{}: {bytes} bytes", to.display()))
}

/// `goblin put`
pub fn put(from: &Path, text: &str, output: &mut Output) -> Result<(), CliError> {
    let (mut remote, path) = open(text)?;
    let mut path = path.to_owned();
    if path.is_empty() || path.ends_with('/') {
        path.push_str(&from.file_name().unwrap_or_default().to_string_lossy());
    }
    let bytes = if from == Path::new("-") {
        remote.put(&mut io::stdin().lock(), &path)
    } else {
        let shown = |err| CliError::pc(format!("{}: {err}", from.display()));
        remote.put(&mut File::open(from).map_err(shown)?, &path)
    };
    let bytes = bytes.map_err(CliError::pc)?;
    output.line(&format!("{}: {bytes} bytes, on the box's disks", words::plain(&path)))
}
