//! From source to files a board boots: base tree, UKI, disk image, block map.

use crate::apt::Package;
use crate::compile::{self, Lto};
pub use crate::rootfs::Addition;
use crate::rootfs::{self, About, HostContents};
use crate::{debian, host, kernel, modules};
use anyhow::{Context, Result, bail};
pub use goblin_board::COMMAND_LINE as CMDLINE;
use goblin_core_types::{Version, paths, reset_entry_name};
use goblin_core_update::menu;
use goblin_image::disk::{DiskPlan, DiskSpec};
use goblin_image::esp::EspFile;
use goblin_image::recipe::RECIPE_FORMAT;
use goblin_image::{Guid, UkiRecipe};
use std::fs::File;
use std::io::{BufWriter, Cursor, Read, Seek, Write};
use std::path::{Path, PathBuf};

/// Modification time of everything in the base: 2026-01-01, so that no build date gets in.
const BASE_TIME: u64 = 1_767_225_600;
/// Most bytes of a base image; it lives in RAM.
const BASE_BYTES_MAX: u64 = 64 << 20;
/// Most bytes of a UKI.
const UKI_BYTES_MAX: u64 = 40 << 20;
/// How hard zstd tries: a gigabyte of zeroes with a UKI in it, written once for each release.
const ZSTD_LEVEL: i32 = 9;
/// What the loader is told: start at once, offer nothing that an image does not hold.
pub const LOADER_CONF: &str = "timeout 0\neditor no\nauto-entries no\nauto-firmware no\n";

/// What a release shall be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReleaseSpec {
    /// What it says about itself.
    pub about: About,
    /// How much the linker works.
    pub lto: Lto,
    /// Put an init into the base that fails on purpose.
    pub broken_init: bool,
    /// Put beside or in place of the base's own files; only in guests that are measured and releases that tests throw
    /// away.
    pub additions: Vec<Addition>,
}

impl ReleaseSpec {
    /// A release of the channel `stable`, quickly linked.
    pub fn new(version: Version, notes: impl Into<String>) -> Self {
        let about =
            About { version, notes: notes.into(), channel: "stable".into(), accent: String::new() };
        Self { about, lto: Lto::Off, broken_init: false, additions: Vec::new() }
    }

    /// With an accent colour for the console, `#rrggbb`.
    #[must_use]
    pub fn with_accent(mut self, accent: impl Into<String>) -> Self {
        self.about.accent = accent.into();
        self
    }

    /// With an init that fails on purpose, so that the board has to fall back.
    #[must_use]
    pub fn broken_init(mut self) -> Self {
        self.broken_init = true;
        self
    }
}

/// A UKI with everything that went into it.
#[derive(Debug)]
pub struct BuiltUki {
    /// The file.
    pub path: PathBuf,
    /// From what it can be rebuilt, bit for bit.
    pub recipe: UkiRecipe,
    /// The contents the recipe names.
    pub contents: HostContents,
    /// The loader that goes beside it on the ESP.
    pub loader: PathBuf,
    /// Debian packages inside, sorted by name.
    pub packages: Vec<Package>,
    /// Size of the base image in bytes.
    pub base_bytes: u64,
    /// Programs in the base.
    pub executables: usize,
}

/// `cargo xtask image`
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  cargo xtask image                          \
    target/images/goblinux-1.img.zst\n  cargo xtask image --version 7 --lto        \
    small and slow to link, as published\n\n`cargo xtask release` also publishes it, `cargo xtask \
    flash` writes it to a disk.")]
pub struct ImageArgs {
    /// Version of the release: one to three numbers joined by dots
    #[arg(long, default_value = "1")]
    version: Version,
    /// One line of what it brings
    #[arg(long, default_value = "")]
    notes: String,
    /// Accent colour of the console, #rrggbb
    #[arg(long, default_value = "")]
    accent: String,
    /// Link with fat LTO
    #[arg(long)]
    lto: bool,
    /// Install missing host packages without asking
    #[arg(long)]
    yes: bool,
}

/// Runs `cargo xtask image`.
///
/// # Errors
/// When a part cannot be built.
pub fn command(args: &ImageArgs) -> Result<()> {
    crate::setup::ensure(crate::setup::Purpose::Build, args.yes)?;
    let mut spec = ReleaseSpec::new(args.version, args.notes.as_str()).with_accent(&args.accent);
    spec.lto = if args.lto { Lto::Fat } else { Lto::Off };
    let folder = host::target("images")?;
    let uki = build_uki(&spec, &folder)?;
    let disk = build_disk(&uki, args.version, &folder)?;
    for path in [&uki.path, &disk.image, &disk.map] {
        println!("{:>10}  {}", std::fs::metadata(path).map_or(0, |m| m.len()), path.display());
    }
    println!("Base {} bytes, {} programs", uki.base_bytes, uki.executables);
    Ok(())
}

/// Builds the UKI of a release into a folder. What does not depend on the release is reused: a second
/// release costs seconds.
///
/// # Errors
/// When a part cannot be built, or the base breaks its budget.
pub fn build_uki(spec: &ReleaseSpec, folder: &Path) -> Result<BuiltUki> {
    let version = spec.about.version;
    let kernel = kernel::ensure()?;
    let boot = debian::boot_parts()?;
    let tools = debian::btrfs_tools()?;
    let binaries = compile::binaries(spec.lto)?;
    let broken = spec.broken_init.then(compile::test_binaries).transpose()?;
    let init = broken.as_ref().map_or(&binaries.init, |programs| &programs.broken_init);
    let mut packages = [boot.packages.as_slice(), tools.packages.as_slice()].concat();
    packages.extend(kernel.source_version.as_ref().map(|version| Package {
        name: "linux-source-6.12".into(),
        version: version.clone(),
        architecture: "all".into(),
        suite: "trixie".into(),
    }));
    packages.sort();
    host::say(format!("assembling release {version}"));
    let modules = modules::files(&kernel)?;
    let mut base = rootfs::stage(&spec.about, &binaries, init, &tools, &modules, &packages)?;
    base.add(&spec.additions)?;
    let mut contents = base.contents;
    let mut recipe = UkiRecipe {
        format: RECIPE_FORMAT,
        stub: contents.add_file(&boot.stub)?,
        kernel: contents.add_file(&kernel.bzimage)?,
        cmdline: CMDLINE.into(),
        os_release: spec.about.os_release(),
        uname: kernel.release.clone(),
        preinit: contents.add_file(&binaries.init)?,
        base: base.tree,
        erofs_uuid: Guid::derive(&[b"goblinux base", version.to_string().as_bytes()]),
        erofs_time: BASE_TIME,
        uki_size: 0,
        uki_digest: goblin_core_types::Digest([0; 32]),
    };
    recipe.seal(&mut contents).context("cannot lay out the UKI")?;
    let base_bytes = recipe.base_bytes().context("cannot lay out the base")?;
    check_budget(spec.lto, "base", base_bytes, BASE_BYTES_MAX)?;
    check_budget(spec.lto, "UKI", recipe.uki_size, UKI_BYTES_MAX)?;
    let path = folder.join(format!("goblinux-{version}.efi"));
    write_uki(&recipe, &mut contents, &path)?;
    Ok(BuiltUki {
        path,
        recipe,
        contents,
        loader: boot.loader,
        packages,
        base_bytes,
        executables: base.executables,
    })
}

/// A published release keeps its budgets; one that was linked quickly, and is larger for it, is told.
fn check_budget(lto: Lto, what: &str, bytes: u64, bytes_max: u64) -> Result<()> {
    let text = format!("the {what} has {bytes} bytes, its budget is {bytes_max}");
    match lto {
        _ if bytes <= bytes_max => Ok(()),
        Lto::Off => {
            host::warn(text);
            Ok(())
        }
        Lto::Fat => bail!("{text}: find out what grew"),
    }
}

/// Writes the UKI as a board would rebuild it, the digest compared.
fn write_uki(recipe: &UkiRecipe, contents: &mut HostContents, path: &Path) -> Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    std::fs::create_dir_all(folder)
        .with_context(|| format!("cannot make the folder {}", folder.display()))?;
    let file = tempfile::NamedTempFile::new_in(folder)
        .with_context(|| format!("cannot write into {}", folder.display()))?;
    let mut out = BufWriter::with_capacity(1 << 20, file);
    recipe.build(&mut out, contents).context("cannot build the UKI")?;
    out.flush().with_context(|| format!("cannot write {}", path.display()))?;
    let file = out.into_inner().map_err(std::io::IntoInnerError::into_error)?;
    host::persist(file, path)
}

/// Writes the initramfs of a release alone, for a kernel that QEMU starts directly; the UKI it is taken
/// from lies beside it.
///
/// # Errors
/// As [`build_uki`].
pub fn write_initramfs(spec: &ReleaseSpec, path: &Path) -> Result<()> {
    let uki = build_uki(spec, path.parent().unwrap_or(Path::new(".")))?;
    let mut file =
        File::open(&uki.path).with_context(|| format!("cannot read {}", uki.path.display()))?;
    let initramfs = goblin_image::uki::read_section(&mut file, ".initrd", UKI_BYTES_MAX)
        .context("the UKI cannot be read")?
        .context("the UKI has no initramfs")?;
    host::write_whole(path, &initramfs)
}

/// A disk image for both boards.
#[derive(Debug, Clone)]
pub struct BuiltDisk {
    /// The image, `.img.zst`.
    pub image: PathBuf,
    /// Its block map, `.bmap.json`.
    pub map: PathBuf,
}

/// Lays the UKI out on a disk image with an empty provisioning file, compressed, with its block map.
///
/// # Errors
/// When a file cannot be read or written.
pub fn build_disk(uki: &BuiltUki, version: Version, folder: &Path) -> Result<BuiltDisk> {
    let size = |path: &Path| {
        let found = std::fs::metadata(path);
        found.map(|m| m.len()).with_context(|| format!("cannot read {}", path.display()))
    };
    let loader_path = "EFI/BOOT/BOOTX64.EFI".to_owned();
    let conf_path = "loader/loader.conf".to_owned();
    let uki_path = format!("EFI/Linux/goblinux_{version}.efi");
    let entry_path = format!("{}/{}", paths::ESP_ENTRIES, reset_entry_name(version));
    let entry = menu::entry_text(version);
    let files = vec![
        EspFile { path: loader_path.clone(), size: size(&uki.loader)? },
        EspFile { path: conf_path.clone(), size: LOADER_CONF.len() as u64 },
        EspFile { path: uki_path, size: size(&uki.path)? },
        EspFile { path: entry_path.clone(), size: entry.len() as u64 },
    ];
    let spec = DiskSpec::derived(&uki.recipe.uki_digest.0, files);
    let plan = DiskPlan::new(&spec).context("cannot lay out the disk image")?;
    let mut raw = tempfile::tempfile_in(folder)
        .with_context(|| format!("cannot write into {}", folder.display()))?;
    let map = plan
        .write(&mut raw, |path| -> std::io::Result<Box<dyn Read>> {
            Ok(if path == conf_path {
                Box::new(Cursor::new(LOADER_CONF))
            } else if path == entry_path {
                Box::new(Cursor::new(entry.as_bytes()))
            } else {
                Box::new(File::open(if path == loader_path { &uki.loader } else { &uki.path })?)
            })
        })
        .context("cannot write the disk image")?;
    // What lies behind the last write is zeroes too.
    raw.set_len(map.size_bytes).context("cannot write the disk image")?;
    let image = folder.join(format!("goblinux-{version}.img.zst"));
    compress(&mut raw, map.size_bytes, &image)?;
    let map_path = folder.join(format!("goblinux-{version}.bmap.json"));
    let mut json = serde_json::to_vec_pretty(&map).context("cannot express the block map")?;
    json.push(b'\n');
    host::write_whole(&map_path, &json)?;
    Ok(BuiltDisk { image, map: map_path })
}

fn compress(raw: &mut File, bytes: u64, image: &Path) -> Result<()> {
    let write = || format!("cannot write {}", image.display());
    let folder = image.parent().unwrap_or(Path::new("."));
    let file = tempfile::NamedTempFile::new_in(folder).with_context(write)?;
    let mut encoder =
        zstd::Encoder::new(BufWriter::new(file), ZSTD_LEVEL).context("cannot start zstd")?;
    encoder.include_checksum(true).context("cannot start zstd")?;
    encoder.set_pledged_src_size(Some(bytes)).context("cannot start zstd")?;
    raw.rewind().with_context(write)?;
    let mut buffer = vec![0; 1 << 20];
    loop {
        let count = raw.read(&mut buffer).context("cannot read the disk image back")?;
        let Some(piece) = buffer.get(..count).filter(|piece| !piece.is_empty()) else { break };
        encoder.write_all(piece).with_context(write)?;
    }
    let file = encoder.finish().and_then(|out| Ok(out.into_inner()?)).with_context(write)?;
    host::persist(file, image)
}
