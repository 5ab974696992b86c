//! `cargo xtask test v9fs`: what people and programs do with files, through the kernel's own 9P client, on the share
//! server. Guests with Debian's stock kernels; the server is a process of this machine.
//!
//! Each piece of work is a script in `tests/data/v9fs`, run on a fresh directory; its exit status is the verdict.
//! What cannot hold on such a mount, and why, is said where it is left out: in the script, or for `pjdfstest` in
//! its list of expected failures. An expected failure that no longer fails is a failure too.

use super::conformance::{self, Peer};
use crate::apt::{Closure, Suite, fetch_tree};
use crate::client_guest::{self, Place};
use crate::debian_root::debian_root;
use crate::initramfs::Initramfs;
use crate::{host, kernel, setup};
use anyhow::{Context, Result, bail};
use goblin_tests::client::{Client, ClientRequest, Target};
use goblin_tests::ninep::raw::Address;
use goblin_tests::ninep::server::{Program, Server, Setup};
use serde::Serialize;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

/// `cargo xtask test v9fs`
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  cargo xtask test v9fs                          both kernels, no cache: half an hour\n  \
    cargo xtask test v9fs git sqlite               the works whose name holds a word\n  \
    cargo xtask test v9fs --kernel trixie --cache loose\n  \
    cargo xtask test v9fs --peer diod              how Debian's diod does with the same\n\nThe report is \
    target/v9fs/report.json; what each work printed is beside it. Exit status 1 when any failed."
)]
pub(super) struct Args {
    /// Only works whose name holds one of these words
    words: Vec<String>,
    /// The client's kernel; both when absent
    #[arg(long)]
    kernel: Option<Kernel>,
    /// The client's cache mode
    #[arg(long, default_value = "none")]
    cache: Cache,
    /// Try another server; its failures are no failure of the command
    #[arg(long)]
    peer: Option<Peer>,
    /// Install missing host packages without asking
    #[arg(long)]
    yes: bool,
}

/// Debian releases whose stock kernel is tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Kernel {
    /// The host's own: Debian 12, Linux 6.1
    Host,
    /// Debian 13, Linux 6.12
    Trixie,
}

/// Modes of v9fs (Documentation/filesystems/9p.rst).
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Cache {
    None,
    /// From Linux 6.4 on
    Readahead,
    Mmap,
    Loose,
}

impl Cache {
    const fn word(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Readahead => "readahead",
            Self::Mmap => "mmap",
            Self::Loose => "loose",
        }
    }
}

/// A piece of work: its name and its script.
struct Work {
    name: &'static str,
    script: &'static str,
}

macro_rules! works {
    ($($name:literal),* $(,)?) => {
        &[$(Work {
            name: $name,
            script: include_str!(concat!("../../../tests/data/v9fs/", $name, ".sh")),
        }),*]
    };
}

/// Served from memory: disks have a limit of hard links, of 65,000 or so, and the suite makes them all where it is known.
const IN_MEMORY: &[&str] = &["pjdfstest"];
const WORKS: &[Work] =
    works!["fsx", "sqlite", "git", "home", "tree", "dbench", "fio", "stress", "pjdfstest"];
/// What all scripts begin with: where they work, and which cache mode the mount has.
const HEAD: &str = "set -eu; export HOME=/root LC_ALL=C PATH=/usr/sbin:/usr/bin; cd /mnt/work";
/// What the works run, beside the two crates.
const PACKAGES: &[&str] = &[
    "bash",
    "dash",
    "coreutils",
    "findutils",
    "diffutils",
    "grep",
    "sed",
    "tar",
    "git",
    "sqlite3",
    "dbench",
    "fio",
    "stress-ng",
    "mount",
    "util-linux",
    "libacl1",
    "libgcc-s1",
];
/// Test suites from the crate registry: name and version.
const CRATES: &[(&str, &str)] = &[("fsx", "0.3.2"), ("pjdfstest", "0.2.2")];
/// What pjdfstest's ACL library is linked with.
const ACL_PACKAGES: &[&str] = &["libacl1-dev", "libacl1", "libattr1-dev", "libattr1"];
/// Its settings, with the failures that are expected and why.
const PJDFSTEST: &str = include_str!("../../../tests/data/v9fs/pjdfstest.toml");
/// Users that pjdfstest turns into.
const PASSWD: &str = "root:x:0:0:root:/root:/usr/bin/bash\nnobody:x:65534:65534::/:/usr/bin/bash\n\
                      tests:x:1001:1001::/:/usr/bin/bash\n";
const GROUP: &str = "root:x:0:\nnobody:x:65534:\ntests:x:1001:\n";
/// Memory of the guest: it holds all programs, twice while it starts.
const MEMORY_MIB: u32 = 3072;
const BOOT_LIMIT: Duration = Duration::from_secs(300);
/// Longest silence of the guest: it says every few seconds that it is alive.
const SILENCE_LIMIT: Duration = Duration::from_secs(120);

/// What became of a work; `target/v9fs/report.json` lists these.
#[derive(Debug, Serialize)]
struct Outcome {
    server: &'static str,
    kernel: String,
    cache: &'static str,
    name: &'static str,
    ok: bool,
    seconds: u64,
    detail: String,
}

pub(super) fn run(args: &Args) -> Result<()> {
    setup::ensure(setup::Purpose::Test, args.yes)?;
    let folder = host::target("v9fs")?;
    let wanted = |work: &&Work| {
        args.words.is_empty() || args.words.iter().any(|word| work.name.contains(word.as_str()))
    };
    let works: Vec<&Work> = WORKS.iter().filter(wanted).collect();
    if works.is_empty() {
        let names: Vec<&str> = WORKS.iter().map(|work| work.name).collect();
        bail!("no work has such a name; there are {}", names.join(", "));
    }
    let program = conformance::program(args.peer)?;
    let source = folder.join("source");
    kernel::source_trees(&source)?;
    let mut outcomes = Vec::new();
    for kernel in [Kernel::Host, Kernel::Trixie] {
        if args.kernel.is_none_or(|wanted| wanted == kernel) {
            let place =
                Place { source: &source, dir: &folder, name: "v9fs", memory_mib: MEMORY_MIB };
            outcomes.extend(on_kernel(&place, kernel, args.cache, &program, &works)?);
        }
    }
    let name = if program.is_ours() { "report.json" } else { "report-diod.json" };
    let path = folder.join(name);
    host::write_whole(&path, &serde_json::to_vec_pretty(&outcomes)?)?;
    println!("written to {}", path.display());
    let failed = outcomes.iter().filter(|outcome| !outcome.ok).count();
    println!("{} passed, {failed} failed", outcomes.len().saturating_sub(failed));
    if failed > 0 && program.is_ours() {
        // Every failure was printed; the count must be the last line.
        std::process::exit(1);
    }
    Ok(())
}

fn on_kernel(
    place: &Place<'_>,
    kernel: Kernel,
    cache: Cache,
    program: &Program,
    works: &[&Work],
) -> Result<Vec<Outcome>> {
    let suite = match kernel {
        Kernel::Host => Suite::Host,
        Kernel::Trixie => Suite::Trixie,
    };
    let spec = client_guest::on(place, suite, root()?)?;
    let mut client = Client::start(&spec, BOOT_LIMIT)?;
    let mut outcomes = Vec::new();
    for work in works {
        let start = Instant::now();
        let done = one(&mut client, place.dir, cache, program, work);
        let (ok, detail) = match done {
            Ok(detail) => (true, detail),
            Err(err) => (false, format!("{err:#}")),
        };
        let seconds = start.elapsed().as_secs();
        let word = if ok { "ok" } else { "FAILED" };
        let release = &client.kernel_release;
        println!(
            "{word:6} {:10} Linux {release} cache={} {seconds} s: {detail}",
            work.name,
            cache.word()
        );
        outcomes.push(Outcome {
            server: if program.is_ours() { "ours" } else { "diod" },
            kernel: client.kernel_release.clone(),
            cache: cache.word(),
            name: work.name,
            ok,
            seconds,
            detail,
        });
    }
    // The guest ends when it is dropped; an orderly end only spares its journal, which it has not.
    let _ = client.ask(&ClientRequest::PowerOff, SILENCE_LIMIT);
    Ok(outcomes)
}

/// One work on a fresh directory of a fresh server; its last line.
fn one(
    client: &mut Client,
    folder: &Path,
    cache: Cache,
    program: &Program,
    work: &Work,
) -> Result<String> {
    let memory = Path::new("/dev/shm");
    let parent = if IN_MEMORY.contains(&work.name) && memory.is_dir() { memory } else { folder };
    let server = Server::start(program, &Setup { tcp: true, ..Setup::default() }, parent)?;
    let Address::Tcp(address) = server.address else { bail!("the server does not listen on TCP") };
    let target = Target {
        host: String::new(),
        port: address.port(),
        share: server.aname.clone(),
        cache: cache.word().into(),
    };
    client.ask(&ClientRequest::Mount { target, dir: "/mnt".into() }, SILENCE_LIMIT)?;
    std::fs::create_dir(server.path("work"))?;
    let script = format!("{HEAD}; cache={}\n{}", cache.word(), work.script);
    let ran = client.run(&["/usr/bin/bash", "-c", &script], None, SILENCE_LIMIT);
    let ended = client.ask(&ClientRequest::Umount { dir: "/mnt".into() }, SILENCE_LIMIT);
    let ran = ran?;
    let said = format!("{}{}", ran.out, ran.err);
    let log = folder.join(format!("{}-{}-{}.log", work.name, client.kernel_release, cache.word()));
    host::write_whole(&log, said.as_bytes())?;
    let last =
        |text: &str| text.lines().rev().find(|line| !line.trim().is_empty()).map(str::to_owned);
    if ran.code != 0 {
        let why = last(&ran.err).or_else(|| last(&ran.out)).unwrap_or_default();
        bail!("exit status {}: {why}; all of it is in {}", ran.code, log.display());
    }
    ended.context("the share cannot be unmounted afterwards")?;
    Ok(last(&ran.out).unwrap_or_default())
}

/// The guest's root: Debian's programs and the two suites.
fn root() -> Result<Initramfs> {
    let mut root = debian_root(PACKAGES)?.0;
    root.file("etc/passwd", 0o644, PASSWD.into()).file("etc/group", 0o644, GROUP.into()).file(
        "etc/pjdfstest.toml",
        0o644,
        PJDFSTEST.into(),
    );
    for (name, version) in CRATES {
        root.file(&format!("usr/bin/{name}"), 0o755, host::read(&suite_crate(name, version)?)?);
    }
    Ok(root)
}

/// A suite from the crate registry, built once into the user's cache.
fn suite_crate(name: &str, version: &str) -> Result<PathBuf> {
    let folder = host::cache("suites")?.join(format!("{name}-{version}"));
    let program = folder.join("bin").join(name);
    if program.is_file() {
        return Ok(program);
    }
    host::say(format!("building {name} {version}, once"));
    let (tree, _) = fetch_tree(ACL_PACKAGES, Suite::Host, Closure::Named)?;
    let libraries = tree.join("usr/lib/x86_64-linux-gnu");
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command
        .args(["install", "--quiet", "--locked", "--version", version, "--root"])
        .arg(&folder)
        .arg(name)
        .env("CARGO_TARGET_DIR", folder.join("build"))
        .env("LIBRARY_PATH", libraries);
    host::run_shown(&mut command, &format!("building {name}"))?;
    // Only the program is wanted from now on; what remains costs room and nothing else.
    let _ = std::fs::remove_dir_all(folder.join("build"));
    Ok(program)
}
