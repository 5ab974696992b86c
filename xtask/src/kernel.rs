//! The boards' kernel: Debian's source, our fragment, one bzImage, cached by everything that goes in.

use crate::apt::{Closure, Suite};
use crate::host::{self, Progress};
use anyhow::{Context, Result, bail};
use goblin_board::{FRAGMENT, KernelConfig};
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

/// Where the package leaves the source.
const SOURCE: &str = "usr/src/linux-source-6.12.tar.xz";
/// Debian's package of the source, from one release whatever the host's is: every host builds the same
/// kernel.
const SOURCE_PACKAGE: &str = "linux-source-6.12";
/// Parts of it that tests and benchmarks work on.
const TREES: &[&str] = &["include", "fs", "scripts"];
/// Names a bzImage to take instead of building one.
const OVERRIDE: &str = "GOBLIN_KERNEL";
/// What boards read of depmod's indexes.
pub const MODULE_INDEXES: [&str; 2] = ["modules.alias", "modules.dep"];
/// Changes with everything below that has a say in the bytes made.
const RECIPE: &str = "2";
/// What the kernel calls its build; fixed, so that the same input makes the same bytes.
const BUILD_ENV: &[(&str, &str)] = &[
    ("KBUILD_BUILD_USER", "goblin"),
    ("KBUILD_BUILD_HOST", "goblinux"),
    ("KBUILD_BUILD_TIMESTAMP", "2026-01-01 00:00:00 +0000"),
    ("KBUILD_BUILD_VERSION", "1"),
    ("LC_ALL", "C.UTF-8"),
    ("TZ", "UTC"),
];
/// Objects of a build with the shipped fragment, about: what progress is shown against.
const OBJECTS_EXPECTED: usize = 3080;
/// Room that unpacking and building take, in bytes.
const BUILD_ROOM_BYTES: u64 = 5 << 30;

/// A built kernel.
#[derive(Debug, Clone)]
pub struct Kernel {
    /// The bootable file.
    pub bzimage: PathBuf,
    /// Folder with its modules and their indexes, as `/lib/modules/RELEASE` has them; absent for a kernel given
    /// by hand.
    pub modules: Option<PathBuf>,
    /// What `uname -r` will say.
    pub release: String,
    /// Version of Debian's source package; absent for a kernel given by hand.
    pub source_version: Option<String>,
}

/// `cargo xtask kernel`
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  cargo xtask kernel            build it, or say where it is\n  \
    cargo xtask kernel --check    only see that the fragment is taken whole\n\n\
    GOBLIN_KERNEL=/path/bzImage makes every command take that file instead."
)]
pub struct KernelArgs {
    /// Configure and verify the options, build nothing
    #[arg(long)]
    check: bool,
}

/// Runs `cargo xtask kernel`.
///
/// # Errors
/// When an option of the fragment is lost, or the build fails.
pub fn command(args: &KernelArgs) -> Result<()> {
    if args.check {
        let work = host::target("kernel")?;
        let _lock = host::lock(&work)?;
        let tree = unpacked(&source()?.0, &work)?;
        let taken = configure(&tree)?;
        std::fs::remove_dir_all(&tree)
            .with_context(|| format!("cannot remove {}", tree.display()))?;
        println!("all {taken} options of board/kernel.config are in force");
        return Ok(());
    }
    let kernel = ensure()?;
    println!("{}  {}", kernel.release, kernel.bzimage.display());
    Ok(())
}

/// The kernel for the fragment as it is now: from the cache, or built.
///
/// # Errors
/// When the source is missing, an option is lost, or the build fails.
pub fn ensure() -> Result<Kernel> {
    // The key is a digest over 150 MB of source: computed once in a run.
    static FOUND: OnceLock<Kernel> = OnceLock::new();
    if let Some(kernel) = FOUND.get() {
        return Ok(kernel.clone());
    }
    let kernel = find(Missing::Build)?.context("the kernel was neither found nor built")?;
    Ok(FOUND.get_or_init(|| kernel).clone())
}

/// The kernel, if it is there already.
///
/// # Errors
/// When what is there is no kernel, or cannot be read.
pub fn cached() -> Result<Option<Kernel>> {
    find(Missing::Tell)
}

/// What to do about a kernel that was never built.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Missing {
    Build,
    Tell,
}

fn find(missing: Missing) -> Result<Option<Kernel>> {
    if let Some(path) = std::env::var_os(OVERRIDE).map(PathBuf::from) {
        let release = release_of(&path).with_context(|| format!("the kernel of {OVERRIDE}"))?;
        host::say(format!("kernel {release} from {OVERRIDE}"));
        return Ok(Some(Kernel { bzimage: path, modules: None, release, source_version: None }));
    }
    let folder = host::cache("kernel")?;
    // Where no kernel was ever built, the source is not fetched just to say so.
    if missing == Missing::Tell && !holds_a_kernel(&folder) {
        return Ok(None);
    }
    let (tarball, source_version) = source()?;
    let key = cache_key(&tarball)?;
    let bzimage = folder.join(format!("bzImage-{key}"));
    let modules =
        KernelConfig::parse(FRAGMENT).has_modules().then(|| folder.join(format!("modules-{key}")));
    let _lock = host::lock(&folder)?;
    if !bzimage.exists() {
        if missing == Missing::Tell {
            return Ok(None);
        }
        build(&tarball, &bzimage, modules.as_deref())?;
    }
    let release = release_of(&bzimage)?;
    Ok(Some(Kernel { bzimage, modules, release, source_version }))
}

/// The bootable file of [`ensure`].
///
/// # Errors
/// As [`ensure`].
pub fn bzimage() -> Result<PathBuf> {
    Ok(ensure()?.bzimage)
}

fn holds_a_kernel(folder: &Path) -> bool {
    std::fs::read_dir(folder).is_ok_and(|entries| {
        entries.flatten().any(|entry| entry.file_name().as_encoded_bytes().starts_with(b"bzImage-"))
    })
}

/// The tarball of the kernel's source, as Debian signed it.
///
/// # Errors
/// When it can neither be fetched nor found in the cache.
pub fn source_archive() -> Result<PathBuf> {
    Ok(source()?.0)
}

/// The source's tarball and its package's version.
fn source() -> Result<(PathBuf, Option<String>)> {
    let (tree, packages) = crate::apt::fetch_tree(&[SOURCE_PACKAGE], Suite::Trixie, Closure::Named)
        .context("the kernel's source is not to be had")?;
    let version = packages.first().map(|package| package.version.clone());
    Ok((tree.join(SOURCE), version))
}

fn cache_key(tarball: &Path) -> Result<String> {
    let mut hasher = blake3::Hasher::new();
    let file = std::fs::File::open(tarball)
        .with_context(|| format!("cannot read {}", tarball.display()))?;
    hasher.update_reader(file).with_context(|| format!("cannot read {}", tarball.display()))?;
    let mut toolchain = String::new();
    for tool in ["gcc", "ld"] {
        let text = host::output(Command::new(tool).arg("--version"), "asking for tool versions")?;
        toolchain.push_str(text.lines().next().unwrap_or_default());
        toolchain.push('\n');
    }
    let parts = [FRAGMENT.as_bytes(), toolchain.as_bytes(), RECIPE.as_bytes()];
    for part in parts {
        hasher.update(blake3::hash(part).as_bytes());
    }
    let mut key = hasher.finalize().to_hex().to_string();
    key.truncate(24);
    Ok(key)
}

/// The kernel's release string, from the setup header: at 0x20e, little-endian, less 0x200, the
/// offset of a text (Documentation/arch/x86/boot.rst, `kernel_version`).
///
/// # Errors
/// When the file is no bzImage.
pub fn release_of(bzimage: &Path) -> Result<String> {
    let mut head = Vec::new();
    std::fs::File::open(bzimage)
        .and_then(|file| file.take(0x10200).read_to_end(&mut head))
        .with_context(|| format!("cannot read {}", bzimage.display()))?;
    let offset = match (head.get(0x202..0x206), head.get(0x20e..0x210)) {
        (Some(b"HdrS"), Some(&[low, high])) => usize::from(u16::from_le_bytes([low, high])) + 0x200,
        _ => bail!("{} is not a bzImage", bzimage.display()),
    };
    let text = head.get(offset..).unwrap_or_default();
    let end = text.iter().position(|&b| b == b' ' || b == 0).unwrap_or(0);
    let release = String::from_utf8_lossy(text.get(..end).unwrap_or_default()).into_owned();
    if release.is_empty() {
        bail!("{} does not say its release", bzimage.display());
    }
    Ok(release)
}

fn build(tarball: &Path, bzimage: &Path, modules: Option<&Path>) -> Result<()> {
    let work = host::target("kernel")?;
    let room = rustix::fs::statvfs(&work).map(|s| s.f_bavail.saturating_mul(s.f_frsize));
    if room.is_ok_and(|bytes| bytes < BUILD_ROOM_BYTES) {
        bail!("building the kernel takes {} GiB below {}", BUILD_ROOM_BYTES >> 30, work.display());
    }
    let tree = unpacked(tarball, &work)?;
    let taken = configure(&tree)?;
    host::say(format!(
        "building the kernel ({taken} options; once, 10 to 30 minutes on two cores)"
    ));
    let map = format!("-ffile-prefix-map={}=.", tree.display());
    let jobs = std::thread::available_parallelism().map_or(2, std::num::NonZero::get);
    let (jobs, map) = (format!("-j{jobs}"), format!("KCFLAGS={map}"));
    let targets: &[&str] = if modules.is_some() { &["bzImage", "modules"] } else { &["bzImage"] };
    make(&tree, &[&[jobs.as_str(), map.as_str()], targets].concat())?;
    if let Some(modules) = modules {
        install_modules(&tree, modules)?;
    }
    // Last: where the kernel is, its modules are.
    let made = tree.join("arch/x86/boot/bzImage");
    host::write_whole(bzimage, &host::read(&made)?)?;
    // Two gigabytes that nothing needs any more; the cache answers from now on.
    std::fs::remove_dir_all(&tree).with_context(|| format!("cannot remove {}", tree.display()))
}

/// Puts the modules, without what only debuggers read, and depmod's indexes into a folder.
fn install_modules(tree: &Path, folder: &Path) -> Result<()> {
    let staged = tree.join("installed");
    let target = format!("INSTALL_MOD_PATH={}", staged.display());
    let mut install = make_command(tree);
    install.args([target.as_str(), "INSTALL_MOD_STRIP=1", "modules_install"]);
    host::output(&mut install, "installing the kernel's modules")?;
    let all = staged.join("lib/modules");
    let release = std::fs::read_dir(&all)
        .ok()
        .and_then(|mut entries| entries.next()?.ok())
        .with_context(|| format!("the kernel's build left nothing in {}", all.display()))?
        .path();
    for index in MODULE_INDEXES {
        let path = release.join(index);
        let written = std::fs::metadata(&path).is_ok_and(|found| found.len() > 0);
        anyhow::ensure!(
            written,
            "no {index}: is depmod installed? `cargo xtask setup` installs kmod"
        );
    }
    // Links to the tree, which is gone soon and lies elsewhere for everyone.
    for link in ["build", "source"] {
        let _ = std::fs::remove_file(release.join(link));
    }
    if folder.exists() {
        std::fs::remove_dir_all(folder)
            .with_context(|| format!("cannot remove {}", folder.display()))?;
    }
    // Both below the same home usually; where not, a copy does.
    if std::fs::rename(&release, folder).is_err() {
        let mut copy = Command::new("cp");
        copy.arg("--recursive").arg(&release).arg(folder);
        host::output(&mut copy, "keeping the kernel's modules")?;
    }
    Ok(())
}

/// Unpacks afresh: a tree left by an interrupted build has files of another configuration.
fn unpacked(tarball: &Path, work: &Path) -> Result<PathBuf> {
    let tree = work.join("linux");
    if tree.exists() {
        std::fs::remove_dir_all(&tree)
            .with_context(|| format!("cannot remove {}", tree.display()))?;
    }
    std::fs::create_dir_all(&tree).with_context(|| format!("cannot make {}", tree.display()))?;
    host::say(format!("unpacking {}", tarball.display()));
    let mut tar = Command::new("tar");
    tar.arg("--extract").arg("--file").arg(tarball).arg("--directory").arg(&tree);
    tar.args(["--strip-components=1", "--no-same-owner"]);
    host::output(&mut tar, "unpacking the kernel's source")?;
    Ok(tree)
}

/// Applies the fragment over `allnoconfig` and returns how many options it sets.
fn configure(tree: &Path) -> Result<usize> {
    let fragment = tree.with_file_name("kernel.config");
    host::write_whole(&fragment, FRAGMENT.as_bytes())?;
    let doing = "configuring the kernel";
    host::output(make_command(tree).args(["allnoconfig"]), doing)?;
    let mut merge = Command::new("sh");
    merge.arg("scripts/kconfig/merge_config.sh").args(["-m", ".config"]).arg(&fragment);
    merge.current_dir(tree).envs(BUILD_ENV.iter().copied());
    host::output(&mut merge, doing)?;
    host::output(make_command(tree).arg("olddefconfig"), doing)?;
    let wanted = KernelConfig::parse(FRAGMENT);
    let taken = String::from_utf8_lossy(&host::read(&tree.join(".config"))?).into_owned();
    let lost = wanted.lost(&KernelConfig::parse(&taken));
    if !lost.is_empty() {
        bail!(
            "the kernel did not take these options of board/kernel.config (a dependency is missing, \
             or the option was renamed):\n    {}",
            lost.join("\n    ")
        );
    }
    Ok(wanted.len())
}

fn make_command(tree: &Path) -> Command {
    let mut command = Command::new("make");
    command.current_dir(tree).envs(BUILD_ENV.iter().copied()).arg("ARCH=x86_64");
    // Flags of an outer make or of cargo's environment have no say here.
    for var in ["MAKEFLAGS", "MFLAGS", "CFLAGS", "LDFLAGS", "KCONFIG_CONFIG"] {
        command.env_remove(var);
    }
    command
}

fn make(tree: &Path, args: &[&str]) -> Result<()> {
    let log_path = tree.with_file_name("build.log");
    let mut command = make_command(tree);
    let errors = std::fs::File::create(&log_path)
        .with_context(|| format!("cannot write {}", log_path.display()))?;
    let mut child = command
        .args(args)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(errors)
        .spawn()
        .context("cannot start `make`; `cargo xtask setup` installs it")?;
    let mut progress = Progress::new("kernel");
    let mut objects = 0usize;
    if let Some(stdout) = child.stdout.take() {
        for line in BufReader::new(stdout).split(b'\n').map_while(Result::ok) {
            let line = String::from_utf8_lossy(&line);
            let mut words = line.split_whitespace();
            if matches!(words.next(), Some("CC" | "AS" | "AR" | "LD")) {
                objects += 1;
                let percent = (objects * 100 / OBJECTS_EXPECTED).min(99);
                progress
                    .at(format!("{percent} %, {objects} files, {}", words.next().unwrap_or("")));
            }
        }
    }
    let status = child.wait().context("waiting for `make`")?;
    let took = progress.done();
    if !status.success() {
        let said = std::fs::read(&log_path).unwrap_or_default();
        bail!(
            "building the kernel failed ({status}); the last lines, all are in {}:\n{}",
            log_path.display(),
            host::last_lines(&String::from_utf8_lossy(&said))
        );
    }
    host::say(format!("kernel built in {} s, {objects} files", took.as_secs()));
    Ok(())
}

/// Parts of the kernel's source for tests and benchmarks to work on, in a folder: `tree.tar`, and `tree.sums` with what
/// each file must hold. Made once.
///
/// # Errors
/// When the source cannot be fetched or unpacked, or the folder cannot be written.
pub fn source_trees(source: &Path) -> Result<()> {
    let (archive, sums) = (source.join("tree.tar"), source.join("tree.sums"));
    if archive.is_file() && sums.is_file() {
        return Ok(());
    }
    std::fs::create_dir_all(source).with_context(|| format!("cannot make {}", source.display()))?;
    let package = source_archive()?;
    let fresh = tempfile::tempdir_in(source).context("cannot make a folder")?;
    let mut unpack = Command::new("tar");
    unpack.args(["--extract", "--strip-components=1", "--file"]).arg(&package);
    unpack.arg("--directory").arg(fresh.path());
    unpack.args(TREES.iter().map(|tree| format!("{SOURCE_PACKAGE}/{tree}")));
    host::output(&mut unpack, "unpacking a part of the kernel's source")?;
    let script = "find . -type f -print0 | LC_ALL=C sort -z | xargs -0 sha256sum > ../tree.sums.part && \
                  tar --sort=name --create --file ../tree.tar.part . && \
                  mv ../tree.sums.part ../tree.sums && mv ../tree.tar.part ../tree.tar";
    let mut pack = Command::new("sh");
    pack.args(["-ec", script]).current_dir(fresh.path());
    host::output(&mut pack, "packing it for the guest").map(drop)
}
