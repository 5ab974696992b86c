//! Minimal roots of Debian packages: what the peers of a benchmark and the programs of a test live in.

use crate::apt::{Closure, Package, Suite, fetch_tree};
use crate::initramfs::Initramfs;
use anyhow::Result;

/// What no boot reads.
const LEFT_OUT: &[&str] = &[
    "usr/share/doc",
    "usr/share/man",
    "usr/share/locale",
    "usr/share/perl",
    "usr/share/info",
    "usr/share/zoneinfo",
    "boot",
];

/// Packages of Debian trixie with all that they depend on, in one tree with the directories of a root.
/// Maintainer scripts do not run.
///
/// # Errors
/// When a package cannot be fetched or read.
pub fn debian_root(packages: &[&str]) -> Result<(Initramfs, Vec<Package>)> {
    let (tree, found) = fetch_tree(packages, Suite::Trixie, Closure::WithDependencies)?;
    let mut initramfs = Initramfs::default();
    initramfs.folder(&tree, &|name| !LEFT_OUT.iter().any(|left| name.starts_with(left)))?;
    for (name, target) in
        [("bin", "usr/bin"), ("sbin", "usr/sbin"), ("lib", "usr/lib"), ("lib64", "usr/lib64")]
    {
        if std::fs::symlink_metadata(tree.join(name)).is_err() {
            initramfs.link(name, target);
        }
    }
    for name in ["dev", "proc", "sys", "run", "tmp", "root"] {
        if !tree.join(name).exists() {
            initramfs.dir(name);
        }
    }
    if !tree.join("var/run").exists() {
        initramfs.link("var/run", "/run");
    }
    Ok((initramfs, found))
}
