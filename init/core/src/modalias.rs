//! Which kernel module a device asks for, what that module needs first, and whether it may be loaded.
//!
//! A device says what it is by a `modalias`, like `usb:v0403p6001d0400dc00...`; a module says what it drives
//! by patterns. `modules.alias` lists the patterns of every module beside a kernel, `modules.dep` their files
//! and what must be loaded before them. A device is outside input: anyone can plug in a stick that claims
//! to be a network card. So a module is only loaded when the image's list allows it; what the list names
//! nowhere is refused.
//!
//! Sources: `modules.alias(5)` is not written down; `depmod(8)`, `modules.dep(5)`, `fnmatch(3)`.

use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};

/// Longest `modalias` looked at, in bytes; those of input devices are the longest.
pub const MODALIAS_BYTES_MAX: usize = 2048;
/// Longest of the index files, in bytes.
pub const INDEX_BYTES_MAX: usize = 1 << 20;
/// Longest list of allowed modules, in bytes.
pub const LIST_BYTES_MAX: usize = 64 * 1024;
/// Most modules that one module may need.
const DEPENDS_MAX: usize = 32;
/// Version of the list's format.
const SCHEMA: u32 = 1;

/// The modules beside a kernel.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ModuleIndex {
    /// Pattern and module, in the order of the file.
    aliases: Vec<(String, String)>,
    /// By name: files in the order in which they must be loaded, the module's own last.
    files: BTreeMap<String, Vec<String>>,
}

/// Why an index or a list cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ModulesError {
    /// A file is too long.
    #[error("{file} has {got} bytes, at most {max} are read")]
    TooLong {
        /// Its name.
        file: &'static str,
        /// Its length in bytes.
        got: usize,
        /// The limit in bytes.
        max: usize,
    },
    /// A line is not as `depmod` writes them.
    #[error("{file}, line {line}: {problem}")]
    Line {
        /// Its name.
        file: &'static str,
        /// Number of the line, from 1.
        line: usize,
        /// What is wrong.
        problem: &'static str,
    },
    /// The list is not TOML, or has other keys.
    #[error("modules.toml: {message}")]
    List {
        /// What is wrong, with the line.
        message: String,
    },
    /// The list speaks of a module that is not in the image.
    #[error(
        "modules.toml: there is no module `{module}` in the image; remove the line, or build the module"
    )]
    Unknown {
        /// The name in the list.
        module: String,
    },
    /// The list says yes and no to the same module.
    #[error("modules.toml: `{module}` is allowed and refused; remove one of the lines")]
    Both {
        /// The name in the list.
        module: String,
    },
}

impl ModuleIndex {
    /// Reads `modules.alias` and `modules.dep`. Aliases of modules without a file are left out: those are
    /// built into the kernel.
    ///
    /// # Errors
    /// When a file is too long or not as `depmod` writes it.
    pub fn parse(alias: &str, dep: &str) -> Result<Self, ModulesError> {
        check_length("modules.alias", alias, INDEX_BYTES_MAX)?;
        check_length("modules.dep", dep, INDEX_BYTES_MAX)?;
        let mut index = Self::default();
        for (line, text) in lines(dep) {
            let wrong = |problem| ModulesError::Line { file: "modules.dep", line, problem };
            let (file, needs) = text.split_once(':').ok_or_else(|| wrong("has no `:`"))?;
            let mut files: Vec<&str> = needs.split_whitespace().collect();
            if files.len() > DEPENDS_MAX {
                return Err(wrong("has too many dependencies"));
            }
            // The line names what is needed nearest first; the farthest is loaded first.
            files.reverse();
            files.push(file);
            if !files.iter().all(|file| stays_inside(file)) {
                return Err(wrong("has a path that leaves the folder"));
            }
            let name = module_of(file).ok_or_else(|| wrong("names no .ko file"))?;
            index.files.insert(name, files.into_iter().map(str::to_owned).collect());
        }
        for (line, text) in lines(alias) {
            let wrong = |problem| ModulesError::Line { file: "modules.alias", line, problem };
            let mut words = text.split_whitespace();
            let (Some("alias"), Some(pattern), Some(module), None) =
                (words.next(), words.next(), words.next(), words.next())
            else {
                return Err(wrong("is not `alias PATTERN MODULE`"));
            };
            let module = plain(module);
            if index.files.contains_key(&module) {
                index.aliases.push((pattern.to_owned(), module));
            }
        }
        Ok(index)
    }

    /// Names of all modules.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.files.keys().map(String::as_str)
    }

    /// Modules that drive a device of this `modalias`, each once, in the order of the index.
    pub fn wanted(&self, modalias: &str) -> Vec<&str> {
        if modalias.len() > MODALIAS_BYTES_MAX {
            return Vec::new();
        }
        let mut seen = BTreeSet::new();
        self.aliases
            .iter()
            .filter(|(pattern, module)| {
                !seen.contains(module.as_str())
                    && matches(pattern, modalias)
                    && seen.insert(module.as_str())
            })
            .map(|(_, module)| module.as_str())
            .collect()
    }

    /// Files to load for a module, in this order; empty when there is no such module.
    pub fn files(&self, module: &str) -> &[String] {
        self.files.get(module).map(Vec::as_slice).unwrap_or_default()
    }
}

/// The list of modules that a device may call in, `/etc/modules.toml`: `schema = 1`, and the tables
/// `allow` and `refuse` with a module's name and the reason.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AllowList {
    allow: BTreeMap<String, String>,
    refuse: BTreeMap<String, String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawList {
    schema: u32,
    #[serde(default)]
    allow: BTreeMap<String, String>,
    #[serde(default)]
    refuse: BTreeMap<String, String>,
}

/// Whether a module may be loaded because a device asks for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Permission {
    /// It may.
    Allowed,
    /// It may not.
    Refused {
        /// The list's reason, or that it is not on the list.
        why: String,
    },
}

impl AllowList {
    /// Reads the list.
    ///
    /// # Errors
    /// When it is not TOML, has other keys, another schema, or contradicts itself.
    pub fn parse(text: &str) -> Result<Self, ModulesError> {
        check_length("modules.toml", text, LIST_BYTES_MAX)?;
        let raw: RawList = toml::from_str(text)
            .map_err(|err| ModulesError::List { message: err.to_string().trim_end().to_owned() })?;
        if raw.schema != SCHEMA {
            let message = format!("schema {} is not known; write schema = {SCHEMA}", raw.schema);
            return Err(ModulesError::List { message });
        }
        let plain_names = |table: BTreeMap<String, String>| -> BTreeMap<String, String> {
            table.into_iter().map(|(name, why)| (plain(&name), why)).collect()
        };
        let list = Self { allow: plain_names(raw.allow), refuse: plain_names(raw.refuse) };
        match list.allow.keys().find(|name| list.refuse.contains_key(*name)) {
            Some(module) => Err(ModulesError::Both { module: module.clone() }),
            None => Ok(list),
        }
    }

    /// Checks at build time that every name is a module of the image.
    ///
    /// # Errors
    /// The first name that is not.
    pub fn check(&self, index: &ModuleIndex) -> Result<(), ModulesError> {
        let unknown = |name: &&String| index.files(name).is_empty();
        match self.allow.keys().chain(self.refuse.keys()).find(unknown) {
            Some(module) => Err(ModulesError::Unknown { module: module.clone() }),
            None => Ok(()),
        }
    }

    /// Names of the modules that may be loaded, sorted.
    pub fn allowed(&self) -> impl Iterator<Item = &str> {
        self.allow.keys().map(String::as_str)
    }

    /// Whether a module may be loaded. What an allowed module needs is loaded with it.
    pub fn permission(&self, module: &str) -> Permission {
        if self.allow.contains_key(module) {
            return Permission::Allowed;
        }
        let why = self.refuse.get(module).map_or("it is not on the list", String::as_str);
        Permission::Refused { why: why.to_owned() }
    }
}

/// True when a shell pattern with `*`, `?` and `[...]` describes the whole text. Takes at most the product of
/// both lengths in steps, whatever the pattern is.
pub fn matches(pattern: &str, text: &str) -> bool {
    let (mut pattern, mut text) = (pattern.as_bytes(), text.as_bytes());
    // Where to go on when what follows the last `*` does not fit: that rest, and the text one byte on.
    let mut retry: Option<(&[u8], &[u8])> = None;
    loop {
        if let Some(rest) = pattern.strip_prefix(b"*") {
            pattern = rest;
            retry = Some((rest, text));
            continue;
        }
        let fits = match text.split_first() {
            None if pattern.is_empty() => return true,
            None => return false,
            Some((byte, rest)) => one(pattern, *byte).map(|after| (after, rest)),
        };
        if let Some((after, rest)) = fits {
            (pattern, text) = (after, rest);
            continue;
        }
        let Some((after_star, from)) = retry else { return false };
        let Some((_, from)) = from.split_first() else { return false };
        retry = Some((after_star, from));
        (pattern, text) = (after_star, from);
    }
}

/// Matches one byte against the first element of a pattern and gives the pattern's rest.
fn one(pattern: &[u8], byte: u8) -> Option<&[u8]> {
    match pattern.split_first()? {
        (b'?', rest) => Some(rest),
        (b'[', set) => {
            let (negated, set) = match set.strip_prefix(b"!") {
                Some(set) => (true, set),
                None => (false, set),
            };
            // A `]` at the very beginning stands for itself.
            let end = set.iter().skip(1).position(|b| *b == b']')?.saturating_add(1);
            let (members, rest) = set.split_at_checked(end)?;
            (in_set(members, byte) != negated).then(|| rest.get(1..).unwrap_or_default())
        }
        (same, rest) => (*same == byte).then_some(rest),
    }
}

/// Members of a bracket: single bytes and ranges `a-z`.
fn in_set(mut members: &[u8], byte: u8) -> bool {
    loop {
        match members {
            [from, b'-', to, rest @ ..] => {
                if (*from..=*to).contains(&byte) {
                    return true;
                }
                members = rest;
            }
            [single, rest @ ..] => {
                if *single == byte {
                    return true;
                }
                members = rest;
            }
            [] => return false,
        }
    }
}

fn check_length(file: &'static str, text: &str, max: usize) -> Result<(), ModulesError> {
    let got = text.len();
    if got > max { Err(ModulesError::TooLong { file, got, max }) } else { Ok(()) }
}

/// Lines with their numbers, without empty ones and remarks.
fn lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let numbered = (1..).zip(text.lines().map(str::trim));
    numbered.filter(|(_, line)| !line.is_empty() && !line.starts_with('#'))
}

/// `-` and `_` are the same in a module's name.
fn plain(name: &str) -> String {
    name.replace('-', "_")
}

fn module_of(file: &str) -> Option<String> {
    let name = file.rsplit('/').next()?.strip_suffix(".ko")?;
    (!name.is_empty()).then(|| plain(name))
}

fn stays_inside(file: &str) -> bool {
    !file.contains('\0') && file.split('/').all(|part| !matches!(part, "" | "." | ".."))
}

#[cfg(test)]
mod tests;
