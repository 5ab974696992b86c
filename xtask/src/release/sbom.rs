//! What a release is made of, for people who audit it: every Debian package with the version of its source,
//! every crate with its licence, as CycloneDX; and what changed since the release before, in words.

use crate::apt::{AptRoot, Package, Suite};
use crate::host;
use anyhow::{Context, Result};
use goblin_core_manifest::sbom::Packages;
use goblin_core_types::Version;
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

/// Packages of this workspace whose programs are in the base.
const PROGRAMS: [&str; 3] = ["goblin-init", "goblin", "goblin-console"];

/// What is needed of `cargo metadata`, format 1.
#[derive(Debug, Deserialize)]
struct Metadata {
    packages: Vec<Crate>,
    resolve: Resolve,
}

#[derive(Debug, Deserialize)]
struct Crate {
    id: String,
    name: String,
    version: String,
    license: Option<String>,
    source: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Resolve {
    nodes: Vec<Node>,
}

#[derive(Debug, Deserialize)]
struct Node {
    id: String,
    deps: Vec<Dep>,
}

#[derive(Debug, Deserialize)]
struct Dep {
    pkg: String,
    dep_kinds: Vec<DepKind>,
}

#[derive(Debug, Deserialize)]
struct DepKind {
    kind: Option<String>,
}

/// The list of a release, the same bytes for the same release.
pub(super) fn list(version: Version, debian: &[Package]) -> Result<Vec<u8>> {
    let mut components = Vec::new();
    for package in debian {
        components.push(debian_component(package, &source_of(package)?));
    }
    if let Some(libc) = host_libc()? {
        components.push(libc);
    }
    components.extend(crates()?);
    let list = json!({
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {"component": {
            "type": "operating-system", "name": "goblinux", "version": version.to_string(),
        }},
        "components": components,
    });
    let mut bytes = serde_json::to_vec_pretty(&list)?;
    bytes.push(b'\n');
    let read = Packages::parse(&bytes).context("boards could not read the list of packages")?;
    host::say(format!("release {version} is made of {} packages", read.count()));
    Ok(bytes)
}

/// A Debian source package with its version.
struct Source {
    name: String,
    version: String,
}

/// `Source: NAME (VERSION)`, where either may be left out when it is the package's own.
fn parse_source(field: &str, package: &Package) -> Source {
    let (name, rest) = field.trim().split_once(' ').unwrap_or((field.trim(), ""));
    let version = rest.trim().trim_start_matches('(').trim_end_matches(')');
    let or = |text: &str, own: &str| if text.is_empty() { own } else { text }.to_owned();
    Source { name: or(name, &package.name), version: or(version, &package.version) }
}

fn source_of(package: &Package) -> Result<Source> {
    let suite = if package.suite == "trixie" { Suite::Trixie } else { Suite::Host };
    let field = AptRoot::open(suite)?.source_field(package)?;
    Ok(parse_source(&field, package))
}

fn debian_component(package: &Package, source: &Source) -> Value {
    let Package { name, version, architecture, suite } = package;
    json!({
        "type": "library",
        "bom-ref": format!("deb:{name}"),
        "name": name,
        "version": version,
        "purl": format!(
            "pkg:deb/debian/{name}@{version}?arch={architecture}&distro={suite}"
        ),
        "properties": [
            {"name": "goblinux:debian:source", "value": source.name},
            {"name": "goblinux:debian:source-version", "value": source.version},
        ],
    })
}

/// The C library that our own programs carry, which is the build machine's.
fn host_libc() -> Result<Option<Value>> {
    let mut command = Command::new("dpkg-query");
    command.args(["--show", "--showformat", "${Version}\t${source:Package}\t${source:Version}"]);
    let text = host::output(command.arg("libc6-dev"), "reading the version of the C library")?;
    let mut words = text.trim().split('\t');
    let (Some(version), Some(source), Some(source_version)) =
        (words.next(), words.next(), words.next())
    else {
        return Ok(None);
    };
    let package = Package {
        name: "libc6-dev".into(),
        version: version.into(),
        architecture: "amd64".into(),
        suite: "build machine".into(),
    };
    let source = Source { name: source.into(), version: source_version.into() };
    let mut component = debian_component(&package, &source);
    component["purl"] = format!("pkg:deb/debian/libc6-dev@{version}?arch=amd64").into();
    Ok(Some(component))
}

/// Other people's crates in the programs of the base.
fn crates() -> Result<Vec<Value>> {
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
    let metadata: Metadata =
        serde_json::from_str(&text).context("`cargo metadata` said something unexpected")?;
    Ok(reachable(&metadata).into_iter().map(crate_component).collect())
}

/// Foreign crates that the programs are linked from, sorted by name and version.
fn reachable(metadata: &Metadata) -> Vec<&Crate> {
    let by_id: BTreeMap<&str, &Crate> =
        metadata.packages.iter().map(|package| (package.id.as_str(), package)).collect();
    let deps: BTreeMap<&str, &Vec<Dep>> =
        metadata.resolve.nodes.iter().map(|node| (node.id.as_str(), &node.deps)).collect();
    let own =
        |package: &&Crate| package.source.is_none() && PROGRAMS.contains(&package.name.as_str());
    let mut waiting: Vec<&str> =
        metadata.packages.iter().filter(own).map(|package| package.id.as_str()).collect();
    let mut seen = BTreeSet::new();
    while let Some(id) = waiting.pop() {
        if !seen.insert(id) {
            continue;
        }
        let linked = deps.get(id).into_iter().flat_map(|deps| deps.iter());
        // Not what only builds or tests it.
        let linked = linked.filter(|dep| dep.dep_kinds.iter().any(|kind| kind.kind.is_none()));
        waiting.extend(linked.map(|dep| dep.pkg.as_str()));
    }
    let mut found: Vec<&Crate> = seen
        .into_iter()
        .filter_map(|id| by_id.get(id).copied())
        .filter(|package| package.source.is_some())
        .collect();
    found.sort_by(|a, b| (&a.name, &a.version).cmp(&(&b.name, &b.version)));
    found
}

fn crate_component(package: &Crate) -> Value {
    let Crate { name, version, license, .. } = package;
    let mut component = json!({
        "type": "library",
        "bom-ref": format!("cargo:{name}@{version}"),
        "name": name,
        "version": version,
        "purl": format!("pkg:cargo/{name}@{version}"),
    });
    if let Some(license) = license {
        // Older crates write `/` where SPDX says OR.
        let expression = license.replace('/', " OR ");
        component["licenses"] = json!([{"expression": expression}]);
    }
    component
}

/// What a release brings, in words: its notes, and the packages that changed since the one before.
pub(super) fn changelog(
    version: Version,
    notes: &str,
    list: &[u8],
    before: Option<(Version, &[u8])>,
) -> Result<String> {
    let mut text = format!("goblinux {version}\n");
    if !notes.is_empty() {
        text.push_str(&format!("{notes}\n"));
    }
    let Some((older, before)) = before else { return Ok(text) };
    let changes = Packages::parse(before)?.changes(&Packages::parse(list)?);
    text.push_str(&format!("\nPackages changed since {older}: {}\n", changes.len()));
    for change in changes {
        let side = |side: Option<String>| side.unwrap_or_else(|| "absent".into());
        let line = format!(
            "  {} {}: {} -> {}\n",
            change.kind,
            change.name,
            side(change.a),
            side(change.b)
        );
        text.push_str(&line);
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn package(name: &str) -> Package {
        Package {
            name: name.into(),
            version: "2.41-12".into(),
            architecture: "amd64".into(),
            suite: "trixie".into(),
        }
    }

    #[test]
    fn source_is_the_package_itself_where_nothing_is_said() {
        let parsed = |field: &str| {
            let source = parse_source(field, &package("libc6"));
            format!("{} {}", source.name, source.version)
        };
        assert_eq!(parsed(""), "libc6 2.41-12");
        assert_eq!(parsed("glibc"), "glibc 2.41-12");
        assert_eq!(parsed("systemd (257.9-1)"), "systemd 257.9-1");
    }

    #[test]
    fn crates_of_the_programs_are_listed_and_those_of_tests_are_not() {
        let listed = crates().unwrap();
        let names: Vec<&str> = listed.iter().filter_map(|c| c["name"].as_str()).collect();
        assert!(names.contains(&"serde") && names.contains(&"blake3"));
        assert!(!names.contains(&"proptest") && !names.contains(&"tempfile"));
        assert!(listed.iter().all(|c| c["licenses"][0]["expression"].is_string()));
    }

    #[test]
    fn changelog_names_what_changed() {
        let list = |version: &str| {
            let mut of = package("libc6");
            of.version = version.into();
            let source = parse_source("glibc", &of);
            json!({"bomFormat": "CycloneDX", "components": [debian_component(&of, &source)]})
                .to_string()
                .into_bytes()
        };
        let v = |n| Version::new(n, 0, 0);
        let text = changelog(v(2), "Quieter fans", &list("2"), Some((v(1), &list("1")))).unwrap();
        assert_eq!(
            text,
            "goblinux 2\nQuieter fans\n\nPackages changed since 1: 1\n  deb libc6: 1 -> 2\n"
        );
    }
}
