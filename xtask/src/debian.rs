//! What the images take from Debian: the loader, the UKI's first part, the file system tools with
//! their libraries; and, for tests only, a client PC's stock kernel.

use crate::apt::{self, Closure, Package, Suite};
use crate::host;
use anyhow::{Context, Result, bail};
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Package of systemd-boot's EFI programs.
const BOOT_PACKAGE: &str = "systemd-boot-efi";
/// Where that package keeps them.
const BOOT_FOLDER: &str = "usr/lib/systemd/boot/efi";
/// Package of the tools for the state partition and the pool.
const BTRFS_PACKAGE: &str = "btrfs-progs";
/// Its programs that boards carry.
const BTRFS_PROGRAMS: &[&str] = &["mkfs.btrfs", "btrfs"];
/// The dynamic linker's name.
const LINKER: &str = "ld-linux-x86-64.so.2";
/// Where Debian keeps libraries; also where the dynamic linker looks without any configuration.
const LIBRARIES: &str = "usr/lib/x86_64-linux-gnu";
/// Most libraries that the tools may pull in.
const LIBRARIES_MAX: usize = 32;
/// Modules that a stock kernel needs as a client guest.
/// The last five for mounts whose TLS the kernel carries, and for those by FUSE.
const CLIENT_MODULES: &[&str] = &[
    "virtio_pci",
    "virtio_net",
    "virtio_console",
    "9pnet_fd",
    "9pnet_virtio",
    "9p",
    "tls",
    "chacha20poly1305",
    "chacha_generic",
    "poly1305_generic",
    "fuse",
];

/// Programs that start a board.
#[derive(Debug, Clone)]
pub struct BootParts {
    /// systemd-boot.
    pub loader: PathBuf,
    /// The PE program that a UKI begins with.
    pub stub: PathBuf,
    /// What they came from.
    pub packages: Vec<Package>,
}

/// Fetches systemd-boot.
///
/// # Errors
/// When it can neither be fetched nor found in the cache.
pub fn boot_parts() -> Result<BootParts> {
    let (tree, packages) = apt::fetch_tree(&[BOOT_PACKAGE], Suite::Trixie, Closure::Named)?;
    let part = |name: &str| {
        let path = tree.join(BOOT_FOLDER).join(name);
        path.is_file().then_some(path).with_context(|| format!("{BOOT_PACKAGE} has no {name}"))
    };
    Ok(BootParts {
        loader: part("systemd-bootx64.efi")?,
        stub: part("linuxx64.efi.stub")?,
        packages,
    })
}

/// Files for the base image, by their path there.
#[derive(Debug, Clone)]
pub struct Tools {
    /// Path in the image, file on the host.
    pub files: BTreeMap<String, PathBuf>,
    /// What they came from: only packages that a file was taken of.
    pub packages: Vec<Package>,
}

/// Fetches the btrfs tools and exactly the libraries that they load.
///
/// # Errors
/// When they cannot be fetched, or a library is nowhere to be found.
pub fn btrfs_tools() -> Result<Tools> {
    let (tree, packages) =
        apt::fetch_tree(&[BTRFS_PACKAGE], Suite::Trixie, Closure::WithDependencies)?;
    let mut files = BTreeMap::new();
    let mut waiting = Vec::new();
    for name in BTRFS_PROGRAMS {
        let found = ["usr/bin", "usr/sbin", "bin", "sbin"]
            .iter()
            .map(|folder| tree.join(folder).join(name))
            .find(|path| path.exists())
            .with_context(|| format!("{BTRFS_PACKAGE} has no {name}"))?;
        let found = found.canonicalize().with_context(|| format!("cannot read {name}"))?;
        waiting.push(found.clone());
        files.insert(format!("/usr/bin/{name}"), found);
    }
    let mut seen = BTreeSet::new();
    while let Some(path) = waiting.pop() {
        for name in needed(&path)? {
            if !seen.insert(name.clone()) {
                continue;
            }
            if seen.len() > LIBRARIES_MAX {
                bail!("{BTRFS_PACKAGE} loads more than {LIBRARIES_MAX} libraries");
            }
            let found = library(&tree, &name)?;
            // Programs name their dynamic linker by this path and no other.
            let at = if name == LINKER { "usr/lib64" } else { LIBRARIES };
            files.insert(format!("/{at}/{name}"), found.clone());
            waiting.push(found);
        }
    }
    if !seen.contains(LINKER) {
        files.insert(format!("/usr/lib64/{LINKER}"), library(&tree, LINKER)?);
    }
    Ok(Tools { packages: owners(packages, &seen), files })
}

fn library(tree: &Path, name: &str) -> Result<PathBuf> {
    [LIBRARIES, "lib/x86_64-linux-gnu"]
        .iter()
        .find_map(|folder| tree.join(folder).join(name).canonicalize().ok())
        .filter(|path| path.is_file())
        .with_context(|| {
            format!("{BTRFS_PACKAGE} loads {name}, which its dependencies do not hold")
        })
}

/// Names of the libraries that an ELF file asks for.
fn needed(path: &Path) -> Result<Vec<String>> {
    let mut command = Command::new("readelf");
    command.args(["--dynamic", "--wide"]).arg(path).env("LC_ALL", "C");
    let text = host::output(&mut command, "reading which libraries a program needs")?;
    Ok(text
        .lines()
        .filter(|line| line.contains("(NEEDED)"))
        .filter_map(|line| Some(line.split_once('[')?.1.split_once(']')?.0.to_owned()))
        .collect())
}

/// Packages that hold one of these libraries, by Debian's rule for library package names: `libz.so.1`
/// is in `zlib1g`, the rest begins with the library's name.
fn owners(packages: Vec<Package>, libraries: &BTreeSet<String>) -> Vec<Package> {
    let stem = |name: &String| name.split(".so").next().unwrap_or_default().replace('_', "-");
    let stems: Vec<String> = libraries.iter().map(stem).collect();
    packages
        .into_iter()
        .filter(|package| {
            let name = package.name.as_str();
            name == BTRFS_PACKAGE
                || (name == "zlib1g" && stems.iter().any(|s| s == "libz"))
                || stems.iter().any(|stem| {
                    let rest = name.strip_prefix(stem.as_str());
                    rest.is_some_and(|rest| {
                        rest.starts_with(|c: char| c.is_ascii_digit() || c == '-')
                    })
                })
        })
        .collect()
}

/// Fetches diod, the 9P server that ours is measured against; its command line up to the options, and its version.
/// It runs from the cache with its own libraries and is not installed.
///
/// # Errors
/// When it cannot be fetched.
pub fn diod() -> Result<(Vec<OsString>, String)> {
    let name = "diod";
    let (tree, packages) = apt::fetch_tree(&[name], Suite::Trixie, Closure::WithDependencies)?;
    let version = packages.iter().find(|package| package.name == name);
    let version = version.context("apt fetched no diod")?.version.clone();
    let libraries = tree.join(LIBRARIES);
    let words =
        [libraries.join(LINKER), "--library-path".into(), libraries, tree.join("usr/sbin/diod")];
    Ok((words.into_iter().map(PathBuf::into_os_string).collect(), version))
}

/// A stock Debian kernel with the modules that a client guest loads.
#[derive(Debug, Clone)]
pub struct ClientKernel {
    /// The kernel.
    pub vmlinuz: PathBuf,
    /// Its release string.
    pub release: String,
    /// Module files, uncompressed, in the order in which they must be loaded.
    pub modules: Vec<PathBuf>,
    /// The Debian package.
    pub package: Package,
}

/// Fetches the stock amd64 kernel of a Debian release: what a client PC runs; `further` modules beside those that every
/// client loads.
///
/// # Errors
/// When it cannot be fetched or has not the modules that are needed.
pub fn client_kernel(suite: Suite, further: &[&str]) -> Result<ClientKernel> {
    let name = apt::AptRoot::open(suite)?.dependency("linux-image-amd64", "linux-image-")?;
    let (tree, packages) = apt::fetch_tree(&[&name], suite, Closure::Named)?;
    let package = packages.into_iter().next().context("apt fetched no kernel")?;
    let release = name.trim_start_matches("linux-image-").to_owned();
    let vmlinuz = tree.join(format!("boot/vmlinuz-{release}"));
    if !vmlinuz.is_file() {
        bail!("{name} has no boot/vmlinuz-{release}");
    }
    let modules = ["lib/modules", "usr/lib/modules"]
        .iter()
        .map(|folder| tree.join(folder).join(&release))
        .find(|path| path.is_dir())
        .with_context(|| format!("{name} has no modules"))?;
    let ordered = load_order(&modules, &[CLIENT_MODULES, further].concat())?;
    let modules = ordered.iter().map(|path| uncompressed(path)).collect::<Result<_>>()?;
    Ok(ClientKernel { vmlinuz, release, modules, package })
}

/// Module files by name; `-` and `_` are the same to the kernel.
fn module_files(folder: &Path, found: &mut BTreeMap<String, PathBuf>) -> Result<()> {
    let list = || format!("cannot list {}", folder.display());
    for entry in std::fs::read_dir(folder).with_context(list)? {
        let entry = entry.with_context(list)?;
        let path = entry.path();
        if entry.file_type().with_context(list)?.is_dir() {
            module_files(&path, found)?;
        } else if let Some((name, _)) = entry.file_name().to_string_lossy().split_once(".ko") {
            found.insert(name.replace('-', "_"), path);
        }
    }
    Ok(())
}

/// The modules and all they depend on, dependencies first. A name without a file is built in.
fn load_order(modules: &Path, names: &[&str]) -> Result<Vec<PathBuf>> {
    let mut files = BTreeMap::new();
    module_files(modules, &mut files)?;
    let builtin = std::fs::read_to_string(modules.join("modules.builtin"))
        .unwrap_or_default()
        .replace('-', "_");
    let mut order = Vec::new();
    for name in names {
        if files.contains_key(*name) {
            add_module(name, &files, &mut order)?;
        } else if !builtin.contains(&format!("/{name}.ko")) {
            bail!("the stock kernel has no module `{name}`, nor is it built in");
        }
    }
    Ok(order)
}

fn add_module(
    name: &str,
    files: &BTreeMap<String, PathBuf>,
    order: &mut Vec<PathBuf>,
) -> Result<()> {
    let Some(path) = files.get(name).filter(|path| !order.contains(path)) else {
        return Ok(());
    };
    let mut command = Command::new("modinfo");
    command.args(["--field", "depends"]).arg(path);
    let depends = host::output(&mut command, "reading a module's dependencies")?;
    for depend in depends.trim().split(',').filter(|depend| !depend.is_empty()) {
        add_module(&depend.replace('-', "_"), files, order)?;
    }
    order.push(path.clone());
    Ok(())
}

/// The module itself, or an unpacked copy beside it.
fn uncompressed(path: &Path) -> Result<PathBuf> {
    let tool = match path.extension().and_then(|e| e.to_str()) {
        Some("xz") => "xz",
        Some("zst") => "zstd",
        _ => return Ok(path.to_path_buf()),
    };
    let plain = path.with_extension("");
    if !plain.exists() {
        let out = Command::new(tool).args(["--decompress", "--stdout"]).arg(path).output();
        let out = out.with_context(|| format!("cannot start `{tool}`"))?;
        if !out.status.success() {
            bail!("{} is damaged", path.display());
        }
        host::write_whole(&plain, &out.stdout)?;
    }
    Ok(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn package(name: &str) -> Package {
        Package {
            name: name.into(),
            version: "1".into(),
            architecture: "amd64".into(),
            suite: "trixie".into(),
        }
    }

    #[test]
    fn only_packages_whose_libraries_are_taken_are_listed() {
        let packages =
            ["btrfs-progs", "gcc-14-base", "libblkid1", "libc6", "libcom-err2", "zlib1g"]
                .map(package);
        let libraries = ["libblkid.so.1", "libz.so.1", "libc.so.6"].map(str::to_owned);
        let taken = owners(packages.to_vec(), &BTreeSet::from(libraries));
        let names: Vec<_> = taken.into_iter().map(|p| p.name).collect();
        assert_eq!(names, ["btrfs-progs", "libblkid1", "libc6", "zlib1g"]);
    }
}
