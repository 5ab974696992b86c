//! The Debian packages that building and running need: found with `dpkg-query`, installed with
//! `apt-get`.

use crate::{host, python};
use anyhow::{Context, Result, bail};
use std::io::{BufRead, IsTerminal, Write};
use std::process::Command;

/// What the packages are for; each purpose includes those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Purpose {
    /// Compile, build the kernel, fetch from Debian, assemble images.
    Build,
    /// Start boards under QEMU.
    Run,
    /// Programs that tests compare our own writers with: everything there is.
    Test,
}

/// Package, what it is for, why.
const PACKAGES: &[(&str, Purpose, &str)] = &[
    ("gcc", Purpose::Build, "links Rust, compiles the kernel"),
    ("libc6-dev", Purpose::Build, "static C library of the boards' programs"),
    ("make", Purpose::Build, "builds the kernel"),
    ("flex", Purpose::Build, "builds the kernel's configurator"),
    ("bison", Purpose::Build, "builds the kernel's configurator"),
    ("bc", Purpose::Build, "kernel build"),
    ("perl", Purpose::Build, "kernel build"),
    ("libelf-dev", Purpose::Build, "kernel build (objtool)"),
    ("libssl-dev", Purpose::Build, "kernel build (certificates)"),
    ("kmod", Purpose::Build, "kernel build, reads module metadata"),
    ("cpio", Purpose::Build, "kernel build"),
    ("xz-utils", Purpose::Build, "unpacks the kernel's source"),
    ("zstd", Purpose::Build, "compresses the kernel"),
    ("debian-archive-keyring", Purpose::Build, "keys that check what is fetched from Debian"),
    ("ca-certificates", Purpose::Build, "fetching from mirrors that speak https"),
    ("qemu-system-x86", Purpose::Run, "runs boards"),
    ("ovmf", Purpose::Run, "UEFI firmware for QEMU"),
    ("erofs-utils", Purpose::Test, "fsck.erofs: checks our erofs writer"),
    ("dosfstools", Purpose::Test, "fsck.fat: checks our FAT32 writer"),
    ("fdisk", Purpose::Test, "sfdisk: checks our partition tables"),
    ("mtools", Purpose::Test, "reads the ESP without mounting it"),
    ("btrfs-progs", Purpose::Test, "reads a board's disks on the host"),
    ("python3-venv", Purpose::Test, "python-tuf writes repositories that our client reads"),
    ("dbus-daemon", Purpose::Test, "a bus for PID 1 to ask about names"),
];

/// `cargo xtask setup`
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  cargo xtask setup          show what is missing, ask, install\n  \
    cargo xtask setup --yes    install without asking\n  cargo xtask setup --check  only tell"
)]
pub struct SetupArgs {
    /// Install without asking
    #[arg(long)]
    yes: bool,
    /// Install nothing; fail when something is missing
    #[arg(long)]
    check: bool,
}

/// Runs `cargo xtask setup`.
///
/// # Errors
/// When something is missing and was not installed.
pub fn command(args: &SetupArgs) -> Result<()> {
    if args.check {
        let mut missing = missing(Purpose::Test)?;
        if !python::is_there() {
            missing.push("python-tuf");
        }
        if missing.is_empty() {
            println!("nothing is missing");
            return Ok(());
        }
        bail!("missing packages: {}\nInstall them with `cargo xtask setup`", missing.join(" "));
    }
    ensure(Purpose::Test, args.yes)?;
    python::ensure_there()?;
    println!("nothing is missing");
    Ok(())
}

/// Makes sure that the packages for this purpose are installed. `yes` agrees in advance; so does a CI
/// machine (the variable `CI`) and a call without a terminal, where there is nobody to ask.
///
/// # Errors
/// When they are missing and cannot be installed: not root, refused by the person, or apt failed.
pub fn ensure(purpose: Purpose, yes: bool) -> Result<()> {
    let wanted = missing(purpose)?;
    if wanted.is_empty() {
        return Ok(());
    }
    if !rustix::process::geteuid().is_root() {
        bail!(
            "these Debian packages are missing: {list}\n\
             Only root can install them. Run:  sudo apt-get install --no-install-recommends {list}",
            list = wanted.join(" ")
        );
    }
    host::say("missing packages");
    for (name, _, why) in PACKAGES.iter().filter(|(name, ..)| wanted.contains(name)) {
        eprintln!("    {name:<24}{why}");
    }
    let asking = !yes && std::env::var_os("CI").is_none() && std::io::stdin().is_terminal();
    if asking && !agreed()? {
        bail!("nothing was installed; without these packages the work cannot go on");
    }
    if wanted.iter().any(|name| !known_to_apt(name)) {
        update_lists()?;
    }
    if install(&wanted).is_err() {
        // Lists older than the mirror name packages that it no longer has.
        host::warn("apt-get install failed; once more after apt-get update");
        update_lists()?;
        install(&wanted)?;
    }
    let left = missing(purpose)?;
    if !left.is_empty() {
        bail!("apt-get succeeded, yet these packages are still missing: {}", left.join(" "));
    }
    Ok(())
}

fn agreed() -> Result<bool> {
    eprint!("Install them with apt-get now? [Y/n] ");
    std::io::stderr().flush()?;
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer).context("cannot read the answer")?;
    Ok(matches!(answer.trim().to_lowercase().as_str(), "" | "y" | "yes"))
}

/// Packages for this purpose that are not installed.
fn missing(purpose: Purpose) -> Result<Vec<&'static str>> {
    let wanted: Vec<&'static str> =
        PACKAGES.iter().filter(|(_, of, _)| *of <= purpose).map(|(name, ..)| *name).collect();
    // Exits 1 as soon as one package is unknown; what it prints is complete all the same.
    let out = Command::new("dpkg-query")
        .args(["--show", "--showformat", "${Package} ${db:Status-Status}\n"])
        .args(&wanted)
        .output()
        .context("cannot start `dpkg-query`: goblinux is built on Debian 12 or newer")?;
    let text = String::from_utf8_lossy(&out.stdout);
    let installed: Vec<&str> =
        text.lines().filter_map(|line| line.strip_suffix(" installed")).collect();
    Ok(wanted.into_iter().filter(|name| !installed.contains(name)).collect())
}

fn known_to_apt(name: &str) -> bool {
    Command::new("apt-cache")
        .args(["show", "--quiet", "--no-all-versions", name])
        .output()
        .is_ok_and(|out| out.status.success() && !out.stdout.is_empty())
}

fn apt_get() -> Command {
    let mut command = Command::new("apt-get");
    command.env("DEBIAN_FRONTEND", "noninteractive").args([
        "--quiet",
        "--assume-yes",
        "-oDPkg::Lock::Timeout=300",
        "-oAcquire::Retries=3",
    ]);
    command
}

fn update_lists() -> Result<()> {
    host::say("apt-get update");
    host::output(apt_get().arg("update"), "reading Debian's package lists").map(drop)
}

fn install(names: &[&str]) -> Result<()> {
    if names.is_empty() {
        return Ok(());
    }
    host::say(format!("apt-get install {}", names.join(" ")));
    host::output(
        apt_get().args(["install", "--no-install-recommends"]).args(names),
        "installing packages",
    )
    .map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_package_is_listed_once() {
        let mut names: Vec<_> = PACKAGES.iter().map(|(name, ..)| name).collect();
        names.sort_unstable();
        let count = names.len();
        names.dedup();
        assert_eq!(names.len(), count);
    }
}
