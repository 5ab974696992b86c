//! The host's apt configuration: which mirrors it uses, and how they are reached.

use crate::host;
use anyhow::{Context, Result, bail};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Debian's archive keys, of the package `debian-archive-keyring`.
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// Transport settings of the host that hold for the private root too: proxies, certificates, and the
/// dates that a mirror of the past needs.
const TRANSPORT: &[&str] = &[
    "Acquire::http",
    "Acquire::https",
    "Acquire::Check-Valid-Until ",
    "Acquire::Check-Date ",
    "Acquire::ForceIPv4 ",
    "Acquire::ForceIPv6 ",
];

/// One mirror and the part of the archive that it serves.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Mirror {
    uri: String,
    /// What follows the release's name: nothing, `-security`, `-updates`.
    suffix: String,
}

/// The host's release, `VERSION_CODENAME` of its os-release.
pub(super) fn host_codename() -> Result<String> {
    let text = std::fs::read_to_string("/etc/os-release").context("cannot read /etc/os-release")?;
    let value = |key: &str| {
        text.lines().find_map(|line| {
            Some(line.strip_prefix(key)?.strip_prefix('=')?.trim_matches('"').to_owned())
        })
    };
    if value("ID").as_deref() != Some("debian") {
        bail!("the host is not Debian; goblinux is built on Debian 12 or newer");
    }
    value("VERSION_CODENAME").context("/etc/os-release has no VERSION_CODENAME")
}

/// The text of a `sources.list` for a release, from the host's own mirrors.
pub(super) fn for_suite(codename: &str) -> Result<String> {
    if !Path::new(KEYRING).exists() {
        bail!("{KEYRING} is missing; `cargo xtask setup` installs debian-archive-keyring");
    }
    let host = host_codename()?;
    let mut mirrors = from_lists(&host);
    if !mirrors.iter().any(|mirror| mirror.suffix.is_empty()) {
        mirrors = from_files(&host)?;
    }
    if !mirrors.iter().any(|mirror| mirror.suffix.is_empty()) {
        bail!(
            "no mirror of Debian {host} in /etc/apt/sources.list or /etc/apt/sources.list.d; \
             add one there, its address is used for Debian {codename} too"
        );
    }
    Ok(mirrors
        .iter()
        .map(|m| format!("deb [signed-by={KEYRING}] {} {codename}{} main\n", m.uri, m.suffix))
        .collect())
}

/// Mirrors whose signed lists apt has already read and that call themselves Debian's.
fn from_lists(host: &str) -> BTreeSet<Mirror> {
    let mut command = Command::new("apt-get");
    command.args([
        "indextargets",
        "--format",
        "$(ORIGIN)|$(COMPONENT)|$(RELEASE)|$(REPO_URI)",
        "Identifier: Packages",
    ]);
    let text = host::output(&mut command, "reading apt's sources").unwrap_or_default();
    text.lines()
        .filter_map(|line| {
            let (suite, uri) = line.strip_prefix("Debian|main|")?.split_once('|')?;
            let suffix = suffix_of(suite, host)?.to_owned();
            Some(Mirror { uri: uri.trim_end_matches('/').to_owned(), suffix })
        })
        .collect()
}

/// Mirrors as the files of the configuration name them: for a host whose lists were never read. An
/// archive that is not Debian's may be among them; its signature is then refused.
fn from_files(host: &str) -> Result<BTreeSet<Mirror>> {
    let mut mirrors = BTreeSet::new();
    for path in source_files()? {
        let text = String::from_utf8_lossy(&host::read(&path)?).into_owned();
        mirrors.extend(match path.extension() {
            Some(extension) if extension == "sources" => deb822(&text, host),
            _ => one_line(&text, host),
        });
    }
    Ok(mirrors)
}

fn source_files() -> Result<Vec<PathBuf>> {
    let mut files = vec![PathBuf::from("/etc/apt/sources.list")];
    if let Ok(entries) = std::fs::read_dir("/etc/apt/sources.list.d") {
        for entry in entries {
            files.push(entry.context("cannot list /etc/apt/sources.list.d")?.path());
        }
    }
    files.retain(|path| {
        path.is_file() && path.extension().is_some_and(|e| e == "list" || e == "sources")
    });
    files.sort();
    Ok(files)
}

/// The suffix of a suite that belongs to the host's release, or nothing for another's.
fn suffix_of<'a>(suite: &'a str, host: &str) -> Option<&'a str> {
    let rest = [host, "oldoldstable", "oldstable", "stable"]
        .iter()
        .find_map(|name| suite.strip_prefix(name))?;
    matches!(rest, "" | "-security" | "-updates").then_some(rest)
}

/// Stanzas of `Key: value` lines, apart by an empty line.
fn deb822(text: &str, host: &str) -> Vec<Mirror> {
    let mut mirrors = Vec::new();
    for stanza in text.split("\n\n") {
        let value = |key: &str| {
            let mut words = Vec::new();
            let mut inside = false;
            for line in stanza.lines().filter(|line| !line.starts_with('#')) {
                if line.starts_with([' ', '\t']) {
                    if inside {
                        words.extend(line.split_whitespace());
                    }
                    continue;
                }
                inside = false;
                if let Some((name, rest)) = line.split_once(':')
                    && name.eq_ignore_ascii_case(key)
                {
                    inside = true;
                    words.extend(rest.split_whitespace());
                }
            }
            words
        };
        let enabled = value("Enabled").first().is_none_or(|word| !word.eq_ignore_ascii_case("no"));
        if !enabled || !value("Types").contains(&"deb") || !value("Components").contains(&"main") {
            continue;
        }
        for uri in value("URIs") {
            for suite in value("Suites") {
                mirrors.extend(suffix_of(suite, host).map(|suffix| Mirror {
                    uri: uri.trim_end_matches('/').to_owned(),
                    suffix: suffix.to_owned(),
                }));
            }
        }
    }
    mirrors
}

/// `deb [options] URI SUITE COMPONENT..` lines.
fn one_line(text: &str, host: &str) -> Vec<Mirror> {
    text.lines()
        .filter_map(|line| {
            let rest = line.trim().strip_prefix("deb ")?.trim_start();
            let rest = match rest.strip_prefix('[') {
                Some(options) => options.split_once(']')?.1,
                None => rest,
            };
            let mut words = rest.split_whitespace();
            let (uri, suite) = (words.next()?, words.next()?);
            let suffix = suffix_of(suite, host)?;
            words.any(|component| component == "main").then(|| Mirror {
                uri: uri.trim_end_matches('/').to_owned(),
                suffix: suffix.to_owned(),
            })
        })
        .collect()
}

/// The host's transport settings, as configuration lines.
pub(super) fn host_transport() -> String {
    let Ok(text) = host::output(Command::new("apt-config").arg("dump"), "reading apt's settings")
    else {
        return String::new();
    };
    text.lines()
        .filter(|line| TRANSPORT.iter().any(|key| line.starts_with(key)))
        .fold(String::new(), |all, line| all + line + "\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_formats_name_the_same_mirrors() {
        let stanzas = "Types: deb\n# a comment\nURIs: http://mirror.example/debian/\n\
                       Suites: bookworm bookworm-updates\nComponents: main contrib\n\n\
                       Types: deb\nURIs: http://other.example/x\nSuites: nodistro\nComponents: main\n";
        let lines = "# deb http://off.example bookworm main\n\
                     deb [arch=amd64 signed-by=/k] http://mirror.example/debian bookworm main\n\
                     deb http://mirror.example/debian bookworm-updates main contrib\n\
                     deb http://tools.example/apt tools-bookworm main\n\
                     deb-src http://mirror.example/debian bookworm main\n";
        let found = deb822(stanzas, "bookworm");
        assert_eq!(found.len(), 2);
        assert_eq!(found, one_line(lines, "bookworm"));
    }

    #[test]
    fn folded_and_disabled_stanzas_are_understood() {
        let text = "Enabled: no\nTypes: deb\nURIs: http://a.example\nSuites: stable\nComponents: main\n\n\
                    Types: deb deb-src\nURIs:\n http://b.example\n http://c.example\nSuites: stable-security\n\
                    Components: main\n";
        let found = deb822(text, "bookworm");
        assert_eq!(found.len(), 2);
        assert!(found.iter().all(|mirror| mirror.suffix == "-security"));
    }
}
