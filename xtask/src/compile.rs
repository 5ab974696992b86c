//! The boards' programs: compiled by cargo, static, for one target, without paths of this machine.

use crate::host::{self, Progress};
use anyhow::{Context, Result, bail};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The only target.
const TARGET: &str = "x86_64-unknown-linux-gnu";
/// Crates and build scripts of a first build, about: what progress is shown against.
const PARTS_EXPECTED: usize = 420;
/// How every program is compiled. The base lives in RAM, so bytes count: a program that aborts on a panic
/// needs no unwind tables, and relative relocations, which a static program at a random address has by the ten
/// thousand, take a bit each in `DT_RELR` instead of 24 bytes (glibc applies them since 2.36).
const RUSTFLAGS: [&str; 3] = [
    "-Ctarget-feature=+crt-static",
    "-Cforce-unwind-tables=no",
    "-Clink-arg=-Wl,-z,pack-relative-relocs",
];
/// Names a folder of finished programs to take instead of compiling.
const OVERRIDE: &str = "GOBLIN_BINARIES";

/// How much the linker works.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Lto {
    /// Seconds for one changed line: images for trying and testing.
    #[default]
    Off,
    /// What a published release carries.
    Fat,
}

impl Lto {
    fn profile(self) -> &'static str {
        match self {
            Self::Off => "image",
            Self::Fat => "release",
        }
    }
}

/// The programs of the base image.
#[derive(Debug, Clone)]
pub struct Binaries {
    /// preinit and PID 1.
    pub init: PathBuf,
    /// Agents and command line.
    pub goblin: PathBuf,
    /// The console.
    pub console: PathBuf,
}

/// Programs that only tests and the demonstration use.
#[derive(Debug, Clone)]
pub struct TestBinaries {
    /// Init of the client guest.
    pub client_init: PathBuf,
    /// An init that fails on purpose.
    pub broken_init: PathBuf,
    /// An init that only prints: the floor of the boot benchmark.
    pub print_only_init: PathBuf,
    /// Start, services and driver of guests in which inits are measured.
    pub bench_guest: PathBuf,
    /// Units that do PID 1 harm, and their judge.
    pub evil_unit: PathBuf,
}

/// `cargo xtask build`
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  cargo xtask build          programs for trying and testing\n  \
    cargo xtask build --lto    as published: smaller, minutes slower"
)]
pub struct BuildArgs {
    /// Link with fat LTO, as for a published release
    #[arg(long)]
    lto: bool,
    /// Also the programs that only guests of tests run
    #[arg(long)]
    tests: bool,
}

/// Runs `cargo xtask build`.
///
/// # Errors
/// When something does not compile.
pub fn command(args: &BuildArgs) -> Result<()> {
    let binaries = binaries(if args.lto { Lto::Fat } else { Lto::Off })?;
    let mut paths = vec![binaries.init, binaries.goblin, binaries.console];
    if args.tests {
        let tests = test_binaries()?;
        paths.extend([tests.client_init, tests.broken_init, tests.print_only_init]);
        paths.extend([tests.bench_guest, tests.evil_unit]);
    }
    for path in paths {
        let bytes = std::fs::metadata(&path).map_or(0, |m| m.len());
        println!("{:>10}  {}", bytes, path.display());
    }
    Ok(())
}

/// Compiles the programs of the base image; unchanged sources cost a second.
///
/// # Errors
/// When something does not compile; the compiler's words are shown.
pub fn binaries(lto: Lto) -> Result<Binaries> {
    let packages = ["goblin-init", "goblin", "goblin-console"];
    let folder = match std::env::var_os(OVERRIDE) {
        Some(folder) => PathBuf::from(folder),
        None => cargo_build(lto, &packages.map(|name| ["--package", name]).concat())?,
    };
    Ok(Binaries {
        init: existing(&folder, "goblin-init")?,
        goblin: existing(&folder, "goblin")?,
        console: existing(&folder, "goblin-console")?,
    })
}

/// Compiles the program of one package, which has the package's name.
fn one(lto: Lto, name: &str) -> Result<PathBuf> {
    let folder = match std::env::var_os(OVERRIDE) {
        Some(folder) => PathBuf::from(folder),
        None => cargo_build(lto, &["--package", name])?,
    };
    existing(&folder, name)
}

/// Compiles preinit and PID 1 alone.
///
/// # Errors
/// As [`binaries`].
pub fn init(lto: Lto) -> Result<PathBuf> {
    one(lto, "goblin-init")
}

/// Compiles agents and command line alone.
///
/// # Errors
/// As [`binaries`].
pub fn goblin(lto: Lto) -> Result<PathBuf> {
    one(lto, "goblin")
}

/// Compiles the share server that tests and benchmarks talk to, and their client.
///
/// # Errors
/// As [`binaries`].
pub fn share_server() -> Result<(PathBuf, PathBuf)> {
    let folder = match std::env::var_os(OVERRIDE) {
        Some(folder) => PathBuf::from(folder),
        None => {
            let what =
                ["--package", "goblin-tests", "--bin", "share-server", "--bin", "ninep-client"];
            cargo_build(Lto::Off, &what)?
        }
    };
    Ok((existing(&folder, "share-server")?, existing(&folder, "ninep-client")?))
}

/// Compiles an example of a package as the programs of the base image are.
///
/// # Errors
/// As [`binaries`].
pub fn example(package: &str, name: &str) -> Result<PathBuf> {
    let folder = cargo_build(Lto::Off, &["--package", package, "--example", name])?;
    existing(&folder.join("examples"), name)
}

/// Compiles the programs that only guests of tests run.
///
/// # Errors
/// As [`binaries`].
pub fn test_binaries() -> Result<TestBinaries> {
    let folder = match std::env::var_os(OVERRIDE) {
        Some(folder) => PathBuf::from(folder),
        None => cargo_build(Lto::Off, &["--package", "goblin-tests", "--bins"])?,
    };
    Ok(TestBinaries {
        client_init: existing(&folder, "client-init")?,
        broken_init: existing(&folder, "broken-init")?,
        print_only_init: existing(&folder, "print-only-init")?,
        bench_guest: existing(&folder, "bench-guest")?,
        evil_unit: existing(&folder, "evil-unit")?,
    })
}

/// Compiles the program that tries to get out of a unit's sandbox.
///
/// # Errors
/// As [`binaries`].
pub fn escape() -> Result<PathBuf> {
    let folder = match std::env::var_os(OVERRIDE) {
        Some(folder) => PathBuf::from(folder),
        None => cargo_build(Lto::Off, &["--package", "goblin-init", "--example", "escape"])?,
    };
    existing(&folder, "examples/escape")
}

fn existing(folder: &Path, name: &str) -> Result<PathBuf> {
    let path = folder.join(name);
    std::fs::metadata(&path).with_context(|| format!("the build left no {}", path.display()))?;
    Ok(path)
}

fn cargo_build(lto: Lto, what: &[&str]) -> Result<PathBuf> {
    let target_dir = host::target("box")?;
    let made = target_dir.join(TARGET).join(lto.profile());
    let first = if made.exists() { "" } else { "; the first time 3 to 8 minutes on two cores" };
    host::say(format!("compiling the boards' programs (profile {}{first})", lto.profile()));
    let map = path_map();
    let rustflags = map
        .iter()
        .map(|(from, to)| format!("--remap-path-prefix={from}={to}"))
        .fold(RUSTFLAGS.join(" "), |all, flag| all + " " + &flag);
    let cflags: Vec<String> =
        map.iter().map(|(from, to)| format!("-ffile-prefix-map={from}={to}")).collect();
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command
        .current_dir(host::root())
        .args(["build", "--locked", "--profile", lto.profile(), "--target", TARGET])
        .args(["--quiet", "--message-format", "json-render-diagnostics"])
        .args(what)
        .arg("--target-dir")
        .arg(&target_dir)
        .env("CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUSTFLAGS", rustflags)
        .env("CFLAGS_x86_64_unknown_linux_gnu", cflags.join(" "));
    // `cargo run` tells its child about xtask itself; crates that read these would be built again.
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("CARGO_PKG_") || text.starts_with("CARGO_MANIFEST") {
            command.env_remove(&name);
        }
    }
    for name in ["RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS", "CARGO_BUILD_RUSTFLAGS"] {
        command.env_remove(name);
    }
    counted(&mut command)?;
    Ok(made)
}

/// Runs cargo with one line of progress; only what the compiler complains about is shown besides.
fn counted(command: &mut Command) -> Result<()> {
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot start cargo: install Rust with rustup")?;
    let mut progress = Progress::new("programs");
    let mut parts = 0usize;
    if let Some(stdout) = child.stdout.take() {
        for line in BufReader::new(stdout).split(b'\n').map_while(Result::ok) {
            let Ok(Message { reason, target: Some(target), fresh: false }) =
                serde_json::from_slice(&line)
            else {
                continue;
            };
            if reason == "compiler-artifact" {
                parts += 1;
                progress.at(format!("{parts} of at most {PARTS_EXPECTED}, {}", target.name));
            }
        }
    }
    let status = child.wait().context("waiting for cargo")?;
    let took = progress.done();
    if !status.success() {
        bail!("the boards' programs do not compile ({status}); the compiler's words are above");
    }
    if parts > 0 {
        host::say(format!("programs compiled in {} s", took.as_secs()));
    }
    Ok(())
}

/// One line of cargo's, as far as it is of use (cargo's reference, "External tools").
#[derive(Debug, serde::Deserialize)]
struct Message {
    reason: String,
    #[serde(default)]
    target: Option<Part>,
    #[serde(default)]
    fresh: bool,
}

#[derive(Debug, serde::Deserialize)]
struct Part {
    name: String,
}

/// Paths of this machine that would reach the programs, and what stands for them.
fn path_map() -> Vec<(String, &'static str)> {
    let home = |var: &str, name: &str| {
        std::env::var_os(var)
            .map(PathBuf::from)
            .or_else(|| std::env::home_dir().map(|home| home.join(name)))
            .map(|path| path.display().to_string())
    };
    let mut map = vec![(host::root().display().to_string(), "goblinux")];
    map.extend(home("CARGO_HOME", ".cargo").map(|path| (path, "cargo")));
    map.extend(home("RUSTUP_HOME", ".rustup").map(|path| (path, "rustup")));
    // Flags are split at blanks; a path with one stays as it is.
    map.retain(|(from, _)| !from.contains(char::is_whitespace));
    map
}
