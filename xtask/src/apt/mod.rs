//! Packages of another Debian release, fetched without touching the host's own apt.
//!
//! A private apt root in the cache folder has its own lists and archive; its sources are the host's
//! mirrors with the release's name replaced, so no mirror is named here, and `apt-get` checks every
//! file against the archive's signature with Debian's keyring. Nothing is installed: packages are only
//! unpacked.

mod sources;

use crate::host;
use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

/// Lists older than this are fetched again, so that security fixes arrive.
const LISTS_AGE_MAX: Duration = Duration::from_secs(24 * 3600);

/// Which Debian release a package comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Suite {
    /// Debian 13: what boards carry.
    Trixie,
    /// The host's own release: the stock kernel of a client PC.
    Host,
}

impl Suite {
    /// The release's code name.
    ///
    /// # Errors
    /// When the host does not say which Debian it is.
    pub fn codename(self) -> Result<String> {
        match self {
            Self::Trixie => Ok("trixie".into()),
            Self::Host => sources::host_codename(),
        }
    }
}

/// Whether dependencies come along.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Closure {
    /// Only the packages named.
    Named,
    /// Also everything they depend on, down to the C library.
    WithDependencies,
}

/// One package as it was fetched; `packages.json` of a release lists these.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Package {
    /// Name.
    pub name: String,
    /// Debian version.
    pub version: String,
    /// Architecture, `amd64` or `all`.
    pub architecture: String,
    /// Code name of the Debian release.
    pub suite: String,
}

impl Package {
    /// The name apt gives to the package's file.
    fn file_name(&self) -> String {
        format!("{}_{}_{}.deb", self.name, self.version.replace(':', "%3a"), self.architecture)
    }
}

/// A private apt root for one suite.
#[derive(Debug)]
pub struct AptRoot {
    dir: PathBuf,
    codename: String,
    _lock: std::fs::File,
}

impl AptRoot {
    /// Opens the root of a suite, making it and fetching its lists when needed.
    ///
    /// # Errors
    /// When the host's apt names no Debian mirror, or there are no lists and none can be fetched.
    pub fn open(suite: Suite) -> Result<Self> {
        let codename = suite.codename()?;
        let dir = host::cache(&format!("apt/{codename}"))?;
        let root = Self { _lock: host::lock(&dir)?, dir, codename };
        for folder in ["lists/partial", "archives/partial", "etc/preferences.d"] {
            let path = root.dir.join(folder);
            std::fs::create_dir_all(&path)
                .with_context(|| format!("cannot make the folder {}", path.display()))?;
        }
        // An empty status file: as far as this root knows, nothing is installed.
        host::write_whole(&root.dir.join("status"), b"")?;
        host::write_whole(&root.dir.join("apt.conf"), root.configuration().as_bytes())?;
        let lines = sources::for_suite(&root.codename)?;
        let listed = root.dir.join("sources.list");
        let changed = std::fs::read_to_string(&listed).ok().as_deref() != Some(lines.as_str());
        host::write_whole(&listed, lines.as_bytes())?;
        if changed || root.lists_age().is_none_or(|age| age > LISTS_AGE_MAX) {
            root.update(changed)?;
        }
        Ok(root)
    }

    fn configuration(&self) -> String {
        let dir = self.dir.display();
        let mut text = format!(
            "Dir \"{dir}\";\nDir::State \"{dir}\";\nDir::State::status \"{dir}/status\";\n\
             Dir::Cache \"{dir}\";\nDir::Etc \"{dir}/etc\";\n\
             Dir::Etc::sourcelist \"{dir}/sources.list\";\nDir::Etc::sourceparts \"/dev/null\";\n\
             Dir::Etc::main \"/dev/null\";\nDir::Etc::parts \"/dev/null\";\n\
             APT::Architecture \"amd64\";\nAPT::Architectures {{ \"amd64\"; }};\n\
             APT::Install-Recommends \"false\";\nAPT::Sandbox::User \"\";\n\
             Acquire::Languages \"none\";\nAcquire::Retries \"3\";\n"
        );
        text.push_str(&sources::host_transport());
        text
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.env("APT_CONFIG", self.dir.join("apt.conf")).env("LC_ALL", "C.UTF-8");
        command
    }

    fn lists_age(&self) -> Option<Duration> {
        let stamp = std::fs::metadata(self.dir.join("updated")).ok()?.modified().ok()?;
        // A stamp from the future (the clock was wrong) counts as too old.
        Some(SystemTime::now().duration_since(stamp).unwrap_or(Duration::MAX))
    }

    fn update(&self, required: bool) -> Result<()> {
        host::say(format!("reading Debian {}'s package lists", self.codename));
        let doing = format!("reading Debian {}'s package lists", self.codename);
        // Without the option a mirror that does not answer is only a warning.
        let mut command = self.command("apt-get");
        command.args(["--quiet", "-oAPT::Update::Error-Mode=any", "update"]);
        match host::output(&mut command, &doing) {
            Ok(_) => host::write_whole(&self.dir.join("updated"), b""),
            Err(err) if !required && self.dir.join("updated").exists() => {
                host::warn(format!("going on with older lists: {err:#}"));
                Ok(())
            }
            Err(err) => Err(err.context("the mirrors of the host's apt configuration were asked")),
        }
    }

    /// What a package control field says, for the newest version known.
    fn field(&self, package: &str, field: &str) -> Result<String> {
        let mut command = self.command("apt-cache");
        command.args(["show", "--no-all-versions", package]);
        let doing = format!("looking for `{package}` in Debian {}", self.codename);
        let text = host::output(&mut command, &doing)?;
        let prefix = format!("{field}: ");
        text.lines()
            .find_map(|line| line.strip_prefix(&prefix))
            .map(str::to_owned)
            .with_context(|| format!("{doing}: no `{field}`"))
    }

    /// The first dependency of a package whose name starts so: from `linux-image-amd64` to the
    /// package that holds the kernel.
    ///
    /// # Errors
    /// When there is none.
    pub fn dependency(&self, package: &str, prefix: &str) -> Result<String> {
        let depends = self.field(package, "Depends")?;
        depends
            .split(',')
            .filter_map(|one| one.split_whitespace().next())
            .find(|name| name.starts_with(prefix))
            .map(str::to_owned)
            .with_context(|| format!("`{package}` depends on no `{prefix}...`, only on: {depends}"))
    }

    /// The `Source` field of a package, from its file where it was fetched; empty when it has none.
    ///
    /// # Errors
    /// When the file is damaged.
    pub fn source_field(&self, package: &Package) -> Result<String> {
        let file = self.dir.join("archives").join(package.file_name());
        if !file.exists() {
            return Ok(self.field(&package.name, "Source").unwrap_or_default());
        }
        let mut command = Command::new("dpkg-deb");
        command.arg("--field").arg(&file).arg("Source");
        host::output(&mut command, "reading a package's source").map(|text| text.trim().to_owned())
    }

    fn resolve(&self, packages: &[&str], closure: Closure) -> Result<Vec<Package>> {
        if closure == Closure::Named {
            return packages
                .iter()
                .map(|name| {
                    Ok(Package {
                        name: (*name).to_owned(),
                        version: self.field(name, "Version")?,
                        architecture: self.field(name, "Architecture")?,
                        suite: self.codename.clone(),
                    })
                })
                .collect();
        }
        let mut command = self.command("apt-get");
        command.args(["--simulate", "install"]).args(packages);
        let text = host::output(&mut command, &format!("resolving {}", packages.join(" ")))?;
        let found: Vec<_> = text.lines().filter_map(|l| simulated(l, &self.codename)).collect();
        if found.is_empty() {
            bail!("apt resolved {} to nothing", packages.join(" "));
        }
        Ok(found)
    }

    /// Fetches packages into this root's archive and returns them with the paths of their files.
    ///
    /// # Errors
    /// When a package is unknown, cannot be fetched, or does not match the signed lists.
    pub fn fetch(&self, packages: &[&str], closure: Closure) -> Result<Vec<(Package, PathBuf)>> {
        let resolved = self.resolve(packages, closure)?;
        let archives = self.dir.join("archives");
        let absent: Vec<&Package> =
            resolved.iter().filter(|p| !archives.join(p.file_name()).exists()).collect();
        if !absent.is_empty() {
            let names: Vec<String> =
                absent.iter().map(|p| format!("{}={}", p.name, p.version)).collect();
            let what = match names.as_slice() {
                [name] => name.clone(),
                _ => format!("{} packages", names.len()),
            };
            host::say(format!("fetching from Debian {}: {what}", self.codename));
            // apt-get download leaves files in the working folder only once they are verified; they
            // are moved into the archive when all are there.
            let folder =
                tempfile::tempdir_in(&self.dir).context("cannot write the cache folder")?;
            let mut command = self.command("apt-get");
            command.args(["--quiet", "download"]).args(&names).current_dir(folder.path());
            host::output(&mut command, "fetching packages")?;
            for package in absent {
                let name = package.file_name();
                std::fs::rename(folder.path().join(&name), archives.join(&name))
                    .with_context(|| format!("apt-get download left no {name}"))?;
            }
        }
        Ok(resolved
            .into_iter()
            .map(|package| {
                let path = archives.join(package.file_name());
                (package, path)
            })
            .collect())
    }
}

/// `Inst NAME (VERSION ORIGIN [ARCH])` of a simulated installation.
fn simulated(line: &str, codename: &str) -> Option<Package> {
    let rest = line.strip_prefix("Inst ")?;
    let (name, rest) = rest.split_once(" (")?;
    let (version, rest) = rest.split_once(' ')?;
    let (_, architecture) = rest.split_once('[')?;
    let (architecture, _) = architecture.split_once(']')?;
    Some(Package {
        name: name.split_whitespace().next()?.to_owned(),
        version: version.to_owned(),
        architecture: architecture.to_owned(),
        suite: codename.to_owned(),
    })
}

/// Fetches packages and unpacks them all into one folder, which is made; the versions are returned
/// sorted by name.
///
/// # Errors
/// As [`AptRoot::fetch`], or when a package cannot be unpacked.
pub fn fetch_and_extract(
    packages: &[&str],
    suite: Suite,
    closure: Closure,
    dest: &Path,
) -> Result<Vec<Package>> {
    let fetched = AptRoot::open(suite)?.fetch(packages, closure)?;
    for (_, deb) in &fetched {
        unpack(deb, dest)?;
    }
    Ok(sorted(fetched))
}

/// What [`fetch_tree`] remembers of a question, so that asking again costs nothing while the lists are
/// fresh.
#[derive(Debug, Serialize, Deserialize)]
struct Answer {
    tree: PathBuf,
    packages: Vec<Package>,
    /// When the lists were read, seconds since 1970.
    lists_s: u64,
}

impl Answer {
    fn read(path: &Path) -> Option<Self> {
        let answer: Self = serde_json::from_slice(&std::fs::read(path).ok()?).ok()?;
        let age = seconds_now().checked_sub(answer.lists_s)?;
        (age < LISTS_AGE_MAX.as_secs() && answer.tree.is_dir()).then_some(answer)
    }
}

fn seconds_now() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// As [`fetch_and_extract`], into a folder of the cache that is made once for each set of versions.
///
/// # Errors
/// As [`fetch_and_extract`].
pub fn fetch_tree(
    packages: &[&str],
    suite: Suite,
    closure: Closure,
) -> Result<(PathBuf, Vec<Package>)> {
    let trees = host::cache("trees")?;
    let question = format!("{} {closure:?} {packages:?}", suite.codename()?);
    let remembered = trees.join(format!("{}.json", short_hash(&question)));
    if let Some(answer) = Answer::read(&remembered) {
        return Ok((answer.tree, answer.packages));
    }
    let root = AptRoot::open(suite)?;
    let fetched = root.fetch(packages, closure)?;
    let mut names: Vec<String> = fetched.iter().map(|(package, _)| package.file_name()).collect();
    names.sort();
    let tree = trees.join(short_hash(&names.join("\n")));
    if !tree.is_dir() {
        let fresh = tempfile::tempdir_in(&trees).context("cannot write the cache folder")?;
        for (_, deb) in &fetched {
            unpack(deb, fresh.path())?;
        }
        let fresh = fresh.keep();
        std::fs::rename(&fresh, &tree)
            .with_context(|| format!("cannot rename {} into place", fresh.display()))?;
    }
    let age = root.lists_age().map_or(0, |age| age.as_secs());
    let lists_s = seconds_now().saturating_sub(age);
    let answer = Answer { tree, packages: sorted(fetched), lists_s };
    host::write_whole(&remembered, &serde_json::to_vec_pretty(&answer)?)?;
    Ok((answer.tree, answer.packages))
}

fn short_hash(text: &str) -> String {
    let mut hash = blake3::hash(text.as_bytes()).to_hex().to_string();
    hash.truncate(16);
    hash
}

fn sorted(fetched: Vec<(Package, PathBuf)>) -> Vec<Package> {
    let mut packages: Vec<Package> = fetched.into_iter().map(|(package, _)| package).collect();
    packages.sort();
    packages
}

fn unpack(deb: &Path, dest: &Path) -> Result<()> {
    std::fs::create_dir_all(dest)
        .with_context(|| format!("cannot make the folder {}", dest.display()))?;
    let mut command = Command::new("dpkg-deb");
    command.arg("--extract").arg(deb).arg(dest);
    let unpacked = host::output(&mut command, &format!("unpacking {}", deb.display()));
    if unpacked.is_err() {
        // A damaged file in the cache must not fail every later run.
        let _ = std::fs::remove_file(deb);
    }
    unpacked.map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_simulated_line_is_read() {
        let line = "Inst libc6 (1:2.41-12+deb13u4 Debian:13.7/stable [amd64]) []";
        let package = simulated(line, "trixie").unwrap();
        assert_eq!(package.file_name(), "libc6_1%3a2.41-12+deb13u4_amd64.deb");
        assert!(simulated("Conf libc6 (2.41 Debian:13.7/stable [amd64])", "trixie").is_none());
    }
}
