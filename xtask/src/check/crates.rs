//! The crate graph: our own arrows, and what other people's crates may be.

use super::expression;
use crate::host;
use anyhow::{Context, Result, bail};
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

/// `xtask/deny.toml`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Rules {
    licences: Licences,
    bans: BTreeMap<String, String>,
    duplicates: BTreeMap<String, String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Licences {
    allow: Vec<String>,
    clarify: BTreeMap<String, String>,
}

impl Rules {
    pub(super) fn load() -> Result<Self> {
        let path = host::root().join("xtask/deny.toml");
        let text = String::from_utf8_lossy(&host::read(&path)?).into_owned();
        toml::from_str(&text).with_context(|| format!("{}", path.display()))
    }
}

/// What is needed of `cargo metadata`, format 1.
#[derive(Debug, Deserialize)]
pub(super) struct Graph {
    packages: Vec<Package>,
    workspace_root: String,
}

#[derive(Debug, Deserialize)]
struct Package {
    name: String,
    version: String,
    license: Option<String>,
    source: Option<String>,
    manifest_path: String,
    dependencies: Vec<Dependency>,
}

#[derive(Debug, Deserialize)]
struct Dependency {
    name: String,
    kind: Option<String>,
    path: Option<String>,
}

/// Layers of the workspace, lowest first; an arrow goes to a lower layer, or as [`allowed`] says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Layer {
    /// `agents/core/types`.
    Types,
    /// `agents/core/*`, `init/core`.
    Core,
    /// `image`, `board`.
    Formats,
    /// `agents/sys`.
    Sys,
    /// `agents/tls`: sockets with keys. Apart from `sys`, for PID 1 wants no cryptography.
    Tls,
    /// `agents/<name>`.
    Agent,
    /// `init`, and `agents/goblin`, the one binary that holds every agent.
    Program,
    /// `tests`.
    Tests,
    /// `xtask`.
    Xtask,
}

fn layer(folder: &str) -> Option<Layer> {
    Some(match folder {
        "agents/core/types" => Layer::Types,
        "image" | "board" => Layer::Formats,
        "agents/sys" => Layer::Sys,
        "agents/tls" => Layer::Tls,
        "agents/goblin" | "init" => Layer::Program,
        "tests" => Layer::Tests,
        "xtask" => Layer::Xtask,
        "init/core" => Layer::Core,
        _ if folder.starts_with("agents/core/") => Layer::Core,
        _ if folder.starts_with("agents/") => Layer::Agent,
        _ => return None,
    })
}

fn allowed(from: &str, to: &str) -> bool {
    let (Some(a), Some(b)) = (layer(from), layer(to)) else { return false };
    match (a, b) {
        // Core crates may use lower core crates; cargo itself refuses cycles.
        (Layer::Core, Layer::Core) => true,
        // PID 1 starts agents, it does not contain them.
        (Layer::Program, Layer::Agent) => from == "agents/goblin",
        _ => b < a,
    }
}

impl Graph {
    /// The graph for the one target.
    pub(super) fn load() -> Result<Self> {
        let program = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let mut command = Command::new(program);
        command.current_dir(host::root()).args([
            "metadata",
            "--locked",
            "--format-version",
            "1",
            "--filter-platform",
            "x86_64-unknown-linux-gnu",
        ]);
        let text = host::output(&mut command, "reading the crate graph")?;
        serde_json::from_str(&text).context("`cargo metadata` said something unexpected")
    }

    fn folder<'a>(&self, path: &'a str) -> Option<&'a str> {
        Some(path.strip_prefix(&self.workspace_root)?.trim_start_matches('/'))
    }

    fn own(&self) -> impl Iterator<Item = (&Package, &str)> {
        self.packages.iter().filter(|package| package.source.is_none()).filter_map(|package| {
            let folder = self.folder(&package.manifest_path)?.strip_suffix("/Cargo.toml")?;
            Some((package, folder))
        })
    }

    fn foreign(&self) -> impl Iterator<Item = &Package> {
        self.packages.iter().filter(|package| package.source.is_some())
    }

    /// Crates that must stay without effects.
    pub(super) fn pure_packages(&self) -> Vec<String> {
        self.own()
            .filter(|(_, folder)| layer(folder).is_some_and(|layer| layer <= Layer::Formats))
            .map(|(package, _)| package.name.clone())
            .collect()
    }

    pub(super) fn arrows(&self) -> Result<()> {
        let mut wrong = Vec::new();
        for (package, from) in self.own() {
            if layer(from).is_none() {
                wrong
                    .push(format!("{from} has no layer: give it one in xtask/src/check/crates.rs"));
            }
            for dependency in &package.dependencies {
                let Some(to) = dependency.path.as_deref().and_then(|path| self.folder(path)) else {
                    continue;
                };
                let kind = dependency.kind.as_deref().unwrap_or("normal");
                // End-to-end tests drive the commands' own functions.
                let tests_drive = kind == "dev" && from == "tests" && to == "xtask";
                if !allowed(from, to) && !tests_drive {
                    wrong.push(format!("{from} -> {to} ({kind}, `{}`)", dependency.name));
                }
            }
        }
        verdict("these arrows do not point down", wrong)
    }

    pub(super) fn licences(&self, rules: &Rules) -> Result<()> {
        let mut wrong = Vec::new();
        for package in self.foreign() {
            let clarified = rules.licences.clarify.get(&package.name);
            let licence = package.license.as_ref().or(clarified).map_or("", String::as_str);
            if !expression::is_met(licence, &rules.licences.allow) {
                wrong.push(format!("{} {}: `{licence}`", package.name, package.version));
            }
        }
        verdict("these licences are not in the list of xtask/deny.toml", wrong)
    }

    pub(super) fn bans(&self, rules: &Rules) -> Result<()> {
        let wrong = self
            .foreign()
            .filter_map(|package| {
                let why = rules.bans.get(&package.name)?;
                Some(format!("{} {}: {why}", package.name, package.version))
            })
            .collect();
        verdict("these crates are banned by xtask/deny.toml; `cargo tree -i NAME` says who", wrong)
    }

    pub(super) fn duplicates(&self, rules: &Rules) -> Result<()> {
        let mut versions: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        for package in self.foreign() {
            versions.entry(&package.name).or_default().insert(&package.version);
        }
        let twice = |name: &str| versions.get(name).is_some_and(|found| found.len() > 1);
        let mut wrong: Vec<String> = versions
            .iter()
            .filter(|(name, found)| found.len() > 1 && !rules.duplicates.contains_key(**name))
            .map(|(name, found)| format!("{name}: {found:?}"))
            .collect();
        let stale = rules.duplicates.keys().filter(|name| !twice(name));
        wrong.extend(stale.map(|name| format!("{name} is there once: take it off the list")));
        verdict("crates in several versions that xtask/deny.toml does not allow", wrong)
    }
}

fn verdict(what: &str, wrong: Vec<String>) -> Result<()> {
    if !wrong.is_empty() {
        bail!("{what}:\n    {}", wrong.join("\n    "));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arrows_point_down() {
        for (from, to, may) in [
            ("agents/core/types", "agents/core/config", false),
            ("agents/core/config", "agents/core/types", true),
            ("agents/core/update", "agents/core/manifest", true),
            ("agents/core/ninep", "image", false),
            ("agents/core/ninep", "agents/sys", false),
            ("image", "board", false),
            ("image", "agents/core/types", true),
            ("agents/sys", "image", true),
            ("agents/update", "agents/sys", true),
            ("agents/update", "agents/net", false),
            ("agents/share", "agents/tls", true),
            ("agents/tls", "agents/sys", true),
            ("agents/sys", "agents/tls", false),
            ("agents/console", "agents/goblin", false),
            ("agents/goblin", "agents/net", true),
            ("init", "agents/sys", true),
            ("init", "agents/net", false),
            ("agents/net", "tests", false),
            ("tests", "agents/share", true),
            ("xtask", "tests", true),
            ("tests", "xtask", false),
            ("xtask", "somewhere", false),
        ] {
            assert_eq!(allowed(from, to), may, "{from} -> {to}");
        }
    }
}
