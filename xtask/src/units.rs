//! The units as shipped: whether a board could start all of them, and what each may do, as a table.

mod table;

use crate::host;
use anyhow::{Context, Result, bail};
use goblin_init_core::supervise::rehearsal::{self, Scene, Stuck};
use goblin_init_core::unit::{self, Kind, Unit, UnitError};
use goblin_init_core::{graph, seccomp};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The generated description of the units, relative to the root of the source.
const README: &str = "rootfs/units/README.md";

/// Folder of the unit files as shipped.
pub fn folder() -> PathBuf {
    host::root().join("rootfs/units")
}

/// Reads the units of a folder and refuses what no board could start. `is_program` says which absolute
/// paths are programs of the base.
///
/// # Errors
/// One line for each thing that is wrong: file, line, key and remedy.
pub fn load(folder: &Path, is_program: impl Fn(&str) -> bool) -> Result<Vec<Unit>> {
    let mut units = Vec::new();
    let mut problems = Vec::new();
    let mut texts = BTreeMap::new();
    for (name, text) in read(folder)? {
        match unit::parse(&name, &text) {
            Ok(unit) => units.push(unit),
            Err(err) => problems.push(located(folder, &text, &err)),
        }
        texts.insert(name, text);
    }
    let mut note_word = |name: &str, (key, word): (&str, Option<&str>), what: String| {
        let line = texts.get(name).map_or(1, |text| line_of_word(text, key, word));
        problems.push(format!("{}:{line}: {what}", folder.join(format!("{name}.toml")).display()));
    };
    for (name, why) in graph::check(&units) {
        note_word(&name, why.at(), why.to_string());
    }
    let mut note = |name: &str, key: &str, what: String| note_word(name, (key, None), what);
    let mut ids: BTreeMap<u32, &str> = BTreeMap::new();
    for unit in &units {
        let program = unit.exec.first().unwrap_or_default();
        if program.is_empty() {
            // A mount, a device: there is nothing to run and to wall in.
            continue;
        }
        if unit.critical && unit.kind == Kind::Service && unit.watchdog_ms.is_none() {
            let what = "`critical`: nobody would notice that it hangs; let it ping and write `watchdog_ms`";
            note(&unit.name, "critical", what.to_owned());
        }
        if !is_program(program) {
            let what = format!("`exec`: the base has no program {program}; name one that it has");
            note(&unit.name, "exec", what);
        }
        let Some(sandbox) = &unit.sandbox else {
            let what = "`sandbox` is missing; write at least an empty table [sandbox]".to_owned();
            note(&unit.name, "description", what);
            continue;
        };
        if sandbox.user.id() != 0
            && let Some(other) = ids.insert(sandbox.user.id(), &unit.name)
        {
            let what = format!(
                "`sandbox.user`: its name gives the same id as `{other}`; rename one of the two"
            );
            note(&unit.name, "user", what);
        }
    }
    // What a graph alone does not show: that what a unit needs is there in every role.
    let mut stuck: BTreeMap<Stuck, Vec<String>> = BTreeMap::new();
    for scene in Scene::all().filter(|_| graph::check(&units).is_empty()) {
        for unit in rehearsal::rehearse(&units, scene) {
            stuck.entry(unit).or_default().push(scene.to_string());
        }
    }
    for (Stuck { unit, key, needs, why }, scenes) in stuck {
        let remedy = match needs {
            Some(_) => "give it the `roles` of what it needs, or need that by `after` only",
            None => "correct the key",
        };
        let what = format!("`{key}`: never becomes ready {}: {why}; {remedy}", scenes.join("; "));
        note_word(&unit, (key, needs.as_deref()), what);
    }
    let gates = units.iter().filter(|unit| unit.gate.is_some()).count();
    if gates != 1 && problems.is_empty() {
        problems.push(format!("{gates} units have `gate`; a trial needs exactly one"));
    }
    if !problems.is_empty() {
        bail!("{}", problems.join("\n"));
    }
    Ok(units)
}

/// The compiled lists of system calls: path in the base and content.
pub fn filters(units: &[Unit]) -> Vec<(String, Vec<u8>)> {
    let sandboxed = units.iter().filter_map(|unit| Some((unit, unit.sandbox.as_deref()?)));
    sandboxed
        .map(|(unit, sandbox)| {
            (format!("{}/{}.bpf", seccomp::FOLDER, unit.name), seccomp::compile(sandbox))
        })
        .collect()
}

/// What to do about the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Table {
    /// Refuse one that is not what the units say.
    Compare,
    /// Write it anew.
    Write,
}

/// Checks the shipped units and the table of what they may do.
///
/// # Errors
/// What is wrong, with the remedy.
pub fn check(table: Table) -> Result<()> {
    let units = load(&folder(), |path| crate::rootfs::PROGRAMS.contains(&path))?;
    let path = host::root().join(README);
    let text = table::render(&units);
    match table {
        Table::Write => host::write_whole(&path, text.as_bytes()),
        Table::Compare => {
            let found = std::fs::read(&path).unwrap_or_default();
            if found != text.as_bytes() {
                bail!("{README} is not what the units say: run `cargo xtask check --renew`");
            }
            Ok(())
        }
    }
}

fn read(folder: &Path) -> Result<Vec<(String, String)>> {
    let list = || format!("cannot list {}", folder.display());
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).with_context(list)? {
        let path = entry.with_context(list)?.path();
        if path.extension().is_some_and(|extension| extension == "toml") {
            let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            let bytes = host::read(&path)?;
            if bytes.len() > unit::UNIT_BYTES_MAX {
                bail!("{}: is longer than {} bytes", path.display(), unit::UNIT_BYTES_MAX);
            }
            files.push((name, String::from_utf8_lossy(&bytes).into_owned()));
        }
    }
    files.sort();
    Ok(files)
}

/// The refusal with the file's whole path and the line.
fn located(folder: &Path, text: &str, err: &UnitError) -> String {
    let line = match err {
        UnitError::Value { key, .. } => Some(line_of(text, key)),
        UnitError::Toml { file, line, message, remedy } => {
            return format!("{}:{line}: {message}; {remedy}", folder.join(file).display());
        }
        _ => None,
    };
    let message = format!("{}/{err}", folder.display());
    match (line, message.split_once(": ")) {
        (Some(line), Some((file, rest))) => format!("{file}:{line}: {rest}"),
        _ => message,
    }
}

/// Line of a key, dotted where it is in a table; of a table within a line that line; the first where it is not
/// written.
fn line_of(text: &str, dotted: &str) -> usize {
    let (table, key) = dotted.rsplit_once('.').unwrap_or(("", dotted));
    let mut current = "";
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            current = name.trim();
        }
        let named = line.split_once('=').is_some_and(|(left, _)| left.trim() == key);
        if named && (table.is_empty() || current == table) {
            return index + 1;
        }
    }
    if table.is_empty() { 1 } else { line_of(text, table) }
}

/// Line of a word in the list of a key, which may go over several lines; the key's own where it is not there.
fn line_of_word(text: &str, key: &str, word: Option<&str>) -> usize {
    let first = line_of(text, key);
    let Some(word) = word else { return first };
    let quoted = ["\"", "'"].map(|quote| format!("{quote}{word}{quote}"));
    for (index, line) in text.lines().enumerate().skip(first.saturating_sub(1)) {
        if quoted.iter().any(|quoted| line.contains(quoted)) {
            return index + 1;
        }
        if line.contains(']') {
            break;
        }
    }
    first
}

#[cfg(test)]
mod tests;
