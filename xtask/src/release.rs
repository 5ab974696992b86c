//! `cargo xtask release`: a release into a plain folder that any web server can serve, and the check of
//! such a folder as a board would do it.
//!
//! What boards fetch: `releases/VERSION/pack` with every content, `from-OLDER.patch` beside it for the
//! last releases, and the manifest that names both. `blobs/` has each content once more by itself, for
//! boards of releases that know of no packs.
//!
//! Order of writing: blobs, pack, patches, images, manifest, then metadata with the timestamp last, each file whole under
//! its name. Boards may read all the while: who reads between the last three files is told that they do
//! not belong together, and asks again. A publish that was cut off before them left the folder as its
//! readers knew it; one cut off between them is repaired by the next, or by `release renew`.

mod keys;
pub(crate) mod parcels;
mod repository;
mod root;
mod sbom;
#[cfg(test)]
mod tests;
mod verify;
mod wave;

use crate::apt::Package;
use crate::compile::Lto;
pub use crate::image::ReleaseSpec;
use crate::image::{self, BuiltUki};
use crate::rootfs::About;
use crate::{host, sources};
use anyhow::{Context, Result, bail};
use goblin_core_delta::frame::Effort;
use goblin_core_manifest::publish::{Lifetimes, Publisher, Written, sign};
use goblin_core_manifest::release::{
    MANIFEST_PACKED, MANIFEST_SCHEMA, Manifest, SPOKEN, blob_path,
};
use goblin_core_manifest::sbom::{changelog_path, sbom_path};
use goblin_core_manifest::time::Instant;
use goblin_core_manifest::tuf::{Hashes, Kind, ReleaseCustom, Target, sha256_hex};
use goblin_core_types::{Digest, Role, Version};
use goblin_image::{Contents, UkiRecipe};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Releases before a new one that boards get a patch from, where nothing else is said.
const PATCHES_DEFAULT: usize = 3;
/// How hard zstd tries with a manifest.
const MANIFEST_LEVEL: i32 = 19;
/// Where the first root lies in a repository: what a provisioning file carries.
const FIRST_ROOT: &str = "metadata/1.root.json";

/// A published release.
#[derive(Debug, Clone)]
pub struct BuiltRelease {
    /// Its version.
    pub version: Version,
    /// The flashable image inside the repository, `.img.zst`, its block map beside it.
    pub image: PathBuf,
    /// The UKI as a board will rebuild it.
    pub uki: PathBuf,
    /// Size of the UKI in bytes.
    pub uki_bytes: u64,
    /// Size of the base image in bytes.
    pub base_bytes: u64,
    /// Programs in the base.
    pub executables: usize,
}

/// `cargo xtask release`
#[derive(Debug, clap::Args)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "Examples:\n  cargo xtask release --version 2 --notes \"Quieter fans\"\n  \
    cargo xtask release --version 3 --lto --channel edge --out /srv/www/releases\n  \
    cargo xtask release verify /srv/www/releases\n  \
    cargo xtask release renew /srv/www/releases\n\nThe keys are made on first use in \
    target/keys; keep that folder, and root.json of it offline: who has lost it cannot publish for \
    the boards that trust it. targets.json signs releases; a server that only renews needs online.json alone. Several \
    holders of root keys: `cargo xtask release root --help`."
)]
pub struct ReleaseArgs {
    #[command(subcommand)]
    command: Option<ReleaseCommand>,
    #[command(flatten)]
    publish: PublishArgs,
}

#[derive(Debug, clap::Subcommand)]
enum ReleaseCommand {
    /// Check a repository as a board would, and rebuild every release in it
    Verify {
        /// The repository
        folder: PathBuf,
    },
    /// Who may sign for a repository: several offline keys, rotation, more time
    #[command(subcommand)]
    Root(root::RootCommand),
    /// Hand a release out in waves, to few boxes first; halt it
    #[command(subcommand)]
    Wave(wave::WaveCommand),
    /// Sign the metadata of a repository anew, so that boards go on believing it; needs only online.json
    Renew {
        /// The repository
        folder: PathBuf,
        /// Folder of the signing keys
        #[arg(long, value_name = "DIR")]
        keys: Option<PathBuf>,
    },
}

#[derive(Debug, clap::Args)]
struct PublishArgs {
    /// Version: one to three numbers joined by dots, higher than any before
    #[arg(long, required = true)]
    version: Option<Version>,
    /// Channel it is offered in
    #[arg(long, default_value = "stable")]
    channel: String,
    /// One line of what it brings
    #[arg(long, default_value = "")]
    notes: String,
    /// Accent colour of the console, #rrggbb
    #[arg(long, default_value = "")]
    accent: String,
    /// The repository's folder; made or extended
    #[arg(long, value_name = "DIR", default_value = "target/release-repository")]
    out: PathBuf,
    /// Folder of the signing keys; made on first use
    #[arg(long, value_name = "DIR")]
    keys: Option<PathBuf>,
    /// Link with fat LTO: smaller programs, minutes more
    #[arg(long)]
    lto: bool,
    /// From how many releases before this one boards get a patch
    #[arg(long, value_name = "N", default_value_t = PATCHES_DEFAULT)]
    patches: usize,
    /// Install missing host packages without asking
    #[arg(long)]
    yes: bool,
}

/// Runs `cargo xtask release`.
///
/// # Errors
/// When a part cannot be built, the keys are not the repository's, or the version is taken.
pub fn command(args: &ReleaseArgs) -> Result<()> {
    match &args.command {
        Some(ReleaseCommand::Verify { folder }) => return verify::command(folder),
        Some(ReleaseCommand::Renew { folder, keys }) => {
            let keys = keys.clone().map_or_else(|| host::target("keys"), Ok)?;
            renew(folder, &keys)?;
            println!("{}: signed anew", folder.display());
            say_expiry();
            return Ok(());
        }
        Some(ReleaseCommand::Root(command)) => return root::command(command),
        Some(ReleaseCommand::Wave(command)) => return wave::command(command),
        None => {}
    }
    let args = &args.publish;
    let version = args.version.context("say which --version this is")?;
    crate::setup::ensure(crate::setup::Purpose::Build, args.yes)?;
    let mut spec = ReleaseSpec::new(version, args.notes.as_str()).with_accent(&args.accent);
    spec.about.channel.clone_from(&args.channel);
    spec.lto = if args.lto { Lto::Fat } else { Lto::Off };
    let keys = args.keys.clone().map_or_else(|| host::target("keys"), Ok)?;
    let built = publish_as(&spec, &args.out, &keys, (args.patches, Effort::Best))?;
    println!("release {version} is in {}", args.out.display());
    println!("  UKI    {} bytes, base {} bytes", built.uki_bytes, built.base_bytes);
    println!("  flash  {}", built.image.display());
    println!("  trust  {}", args.out.join(FIRST_ROOT).display());
    say_expiry();
    Ok(())
}

fn say_expiry() {
    let until = now().plus_days(Lifetimes::default().timestamp_days);
    println!("  good   until {until}; publish or `cargo xtask release renew` before then");
}

/// Signs the metadata of a repository anew with everything in it as it is.
fn renew(repository: &Path, keys: &Path) -> Result<()> {
    if !repository.join(FIRST_ROOT).exists() {
        bail!("{} is no repository of releases", repository.display());
    }
    renew_as_of(repository, keys, now())
}

/// Signs the metadata of a repository anew as if `at` were now: with a time long ago, what boards say
/// to metadata that has expired can be seen.
///
/// # Errors
/// When the repository or its keys cannot be read, or the metadata cannot be written.
pub fn renew_as_of(repository: &Path, keys: &Path, at: Instant) -> Result<()> {
    let _lock = lock(repository)?;
    let keys = keys::open(keys, repository)?;
    let publisher = resume(repository)?;
    if !keys.repository.targets.is_empty() {
        return write_metadata(&publisher, &keys, repository, at);
    }
    // What was released stays as it was signed; only how new it is, is said anew.
    let targets = host::read(&repository.join("metadata/targets.json"))?;
    let files = publisher
        .refresh(&targets, &keys.repository, at, Lifetimes::default())
        .context("cannot sign the metadata")?;
    write_all(&files, repository)
}

/// Holds the repository's folder itself, so that no file of ours lies among those that are served: two
/// publishers at once wait for each other.
fn lock(repository: &Path) -> Result<std::fs::File> {
    let cannot = || format!("cannot lock {}", repository.display());
    let folder = std::fs::File::open(repository).with_context(cannot)?;
    folder.lock().with_context(cannot)?;
    Ok(folder)
}

/// Builds a release and adds it to a repository with the keys of this checkout.
///
/// # Errors
/// As [`publish_with`].
pub fn publish(spec: &ReleaseSpec, repository: &Path) -> Result<BuiltRelease> {
    publish_with(spec, repository, &host::target("keys")?)
}

/// Builds a release and adds it to a repository; both are made when absent.
///
/// # Errors
/// When a part cannot be built, the version was published with other content, or the keys are not
/// those that the repository's root names.
pub fn publish_with(spec: &ReleaseSpec, repository: &Path, keys: &Path) -> Result<BuiltRelease> {
    // What is tried and thrown away need not be as small as it gets.
    publish_as(spec, repository, keys, (PATCHES_DEFAULT, Effort::Quick))
}

fn publish_as(
    spec: &ReleaseSpec,
    repository: &Path,
    keys: &Path,
    (patches, effort): (usize, Effort),
) -> Result<BuiltRelease> {
    let version = spec.about.version;
    std::fs::create_dir_all(repository)
        .with_context(|| format!("cannot make the folder {}", repository.display()))?;
    let _lock = lock(repository)?;
    let keys = keys::open(keys, repository)?;
    if keys.repository.targets.is_empty() {
        bail!("adding a release needs targets.json beside online.json of the keys");
    }
    let mut publisher = resume(repository)?;
    // Checked before minutes of building are spent.
    check_notes(spec)?;
    let plain = spec.additions.is_empty();
    if !plain && !matches!(effort, Effort::Quick) {
        bail!("a release with files of a test or a measurement in it is not for people's boards");
    }
    let images = host::target("images")?;
    let source = sources::digest()?;
    let mut uki = image::build_uki(spec, &images)?;
    if plain {
        sources::remember(&uki.recipe.uki_digest, &source)?;
    }
    let mut manifest = manifest(spec, &uki);
    let path = format!("releases/{version}/manifest.json");
    let known =
        publisher.targets.contains_key(&path).then(|| stored(repository, &path)).transpose()?;
    if let Some(known) = &known {
        // What older releases there were when it was published, its patches tell.
        if (Manifest { parcels: None, ..known.clone() }) != manifest {
            bail!(
                "release {version} was published in {} with other content, which boards may run: \
                 choose a higher version",
                repository.display()
            );
        }
        host::say(format!("release {version} is published already, unchanged"));
    }
    write_blobs(&mut uki, repository)?;
    manifest.parcels = match known {
        Some(known) => known.parcels,
        None => {
            let older = older(&publisher, repository, version)?;
            Some(repository::write(repository, &manifest, &older, patches, effort)?)
        }
    };
    let manifest = manifest.to_bytes().context("the manifest cannot be written")?;
    let disk = image::build_disk(&uki, version, &repository_folder(repository, "images")?)?;
    for file in [&disk.image, &disk.map] {
        add_target(&mut publisher, repository, file)?;
    }
    add_papers(&mut publisher, repository, &spec.about, &uki.packages)?;
    let custom = ReleaseCustom {
        version,
        channel: spec.about.channel.clone(),
        uki: Some(uki.recipe.uki_digest),
        waves: None,
    };
    let path = publisher.add_release(&custom, &manifest).context("cannot add the release")?;
    let packed =
        zstd::bulk::compress(&manifest, MANIFEST_LEVEL).context("cannot pack the manifest")?;
    host::write_whole(&repository.join(format!("{path}{MANIFEST_PACKED}")), &packed)?;
    publisher.note_packed(&path, packed.len() as u64);
    host::write_whole(&repository.join(path), &manifest)?;
    write_metadata(&publisher, &keys, repository, now())?;
    Ok(BuiltRelease {
        version,
        image: disk.image,
        uki_bytes: uki.recipe.uki_size,
        uki: uki.path,
        base_bytes: uki.base_bytes,
        executables: uki.executables,
    })
}

/// Text of a repository's first root: what a provisioning file carries.
///
/// # Errors
/// When nothing was published there yet.
pub fn trust_root(repository: &Path) -> Result<String> {
    let path = repository.join(FIRST_ROOT);
    let bytes = host::read(&path)
        .with_context(|| format!("{} is no repository of releases", repository.display()))?;
    String::from_utf8(bytes).with_context(|| format!("{} is not text", path.display()))
}

/// The flashable image of a release that a repository holds, if it was published there before.
pub fn published_image(repository: &Path, version: Version) -> Option<PathBuf> {
    let publisher = resume(repository).ok()?;
    publisher.targets.get(&format!("releases/{version}/manifest.json"))?;
    let path = repository.join(format!("images/goblinux-{version}.img.zst"));
    path.is_file().then_some(path)
}

/// The newest release that a repository holds, with the digest of its UKI.
pub fn newest(repository: &Path) -> Option<(Version, Digest)> {
    let publisher = resume(repository).ok()?;
    let version = |path: &String| -> Option<Version> {
        path.strip_prefix("releases/")?.strip_suffix("/manifest.json")?.parse().ok()
    };
    let newest = publisher.targets.keys().filter_map(version).max()?;
    let bytes = host::read(&repository.join(format!("releases/{newest}/manifest.json"))).ok()?;
    let manifest: Manifest<UkiRecipe> = serde_json::from_slice(&bytes).ok()?;
    Some((newest, manifest.uki.uki_digest))
}

/// Now, as metadata writes it.
fn now() -> Instant {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    Instant::from_unix_s(since.as_secs())
}

fn resume(repository: &Path) -> Result<Publisher> {
    let file = |kind: Kind| repository.join(format!("metadata/{kind}"));
    if !file(Kind::Timestamp).exists() {
        return Ok(Publisher::empty());
    }
    let read = |kind: Kind| host::read(&file(kind));
    Publisher::resume(&read(Kind::Targets)?, &read(Kind::Timestamp)?)
        .with_context(|| format!("{} holds damaged metadata", repository.display()))
}

fn check_notes(spec: &ReleaseSpec) -> Result<()> {
    let about = &spec.about;
    let probe = Manifest {
        schema: MANIFEST_SCHEMA,
        version: about.version,
        channel: about.channel.clone(),
        notes: about.notes.clone(),
        accent: about.accent.clone(),
        created: None,
        protocol: SPOKEN,
        roles: Role::ALL.to_vec(),
        parcels: None,
        uki: (),
    };
    probe.to_bytes().map(drop).context("the release is not allowed so")
}

fn manifest(spec: &ReleaseSpec, uki: &BuiltUki) -> Manifest<UkiRecipe> {
    let about = &spec.about;
    Manifest {
        schema: MANIFEST_SCHEMA,
        version: about.version,
        channel: about.channel.clone(),
        notes: about.notes.clone(),
        accent: about.accent.clone(),
        created: None,
        protocol: SPOKEN,
        roles: Role::ALL.to_vec(),
        parcels: None,
        uki: uki.recipe.clone(),
    }
}

fn stored(repository: &Path, path: &str) -> Result<Manifest<UkiRecipe>> {
    let bytes = host::read(&repository.join(path))?;
    Manifest::parse(&bytes).with_context(|| format!("{path} is damaged"))
}

/// Releases older than `version`, newest first. Those of formats that are no longer read are passed over:
/// their boards fetch more.
fn older(
    publisher: &Publisher,
    repository: &Path,
    version: Version,
) -> Result<Vec<Manifest<UkiRecipe>>> {
    let named = |path: &String| -> Option<Version> {
        path.strip_prefix("releases/")?.strip_suffix("/manifest.json")?.parse().ok()
    };
    let mut found = Vec::new();
    for path in publisher.targets.keys().filter(|path| named(path).is_some_and(|v| v < version)) {
        match stored(repository, path) {
            Ok(manifest) => found.push(manifest),
            Err(err) => host::warn(format!("{path} is passed over: {err:#}")),
        }
    }
    found.sort_by_key(|manifest| std::cmp::Reverse(manifest.version));
    Ok(found)
}

fn repository_folder(repository: &Path, name: &str) -> Result<PathBuf> {
    let folder = repository.join(name);
    std::fs::create_dir_all(&folder)
        .with_context(|| format!("cannot make the folder {}", folder.display()))?;
    Ok(folder)
}

/// Every content that boards need to rebuild the UKI and that is not there yet.
fn write_blobs(uki: &mut BuiltUki, repository: &Path) -> Result<()> {
    for blob in uki.recipe.blobs() {
        let path = repository.join(blob_path(&blob.digest));
        // Blobs are written whole under their digest: one of the right size is the right one.
        if std::fs::metadata(&path).is_ok_and(|found| found.len() == blob.size) {
            continue;
        }
        let mut bytes = Vec::new();
        let mut reader = uki.contents.open(&blob.digest, blob.size).context("a content is gone")?;
        std::io::Read::read_to_end(&mut reader, &mut bytes).context("a content cannot be read")?;
        if blake3::hash(&bytes).as_bytes() != &blob.digest.0 {
            bail!("an input changed while the release was built: build it again");
        }
        host::write_whole(&path, &bytes)?;
    }
    Ok(())
}

/// What the release is made of and what it brings, as signed targets.
fn add_papers(
    publisher: &mut Publisher,
    repository: &Path,
    about: &About,
    packages: &[Package],
) -> Result<()> {
    let version = about.version;
    let list = sbom::list(version, packages)?;
    let before = publisher.releases().into_iter().rfind(|older| *older < version);
    let before = before
        .map(|older| (older, repository.join(sbom_path(older))))
        .filter(|(_, path)| path.exists())
        .map(|(older, path)| host::read(&path).map(|bytes| (older, bytes)))
        .transpose()?;
    let before = before.as_ref().map(|(older, bytes)| (*older, bytes.as_slice()));
    let changelog = sbom::changelog(version, &about.notes, &list, before)?;
    for (path, bytes) in
        [(sbom_path(version), list), (changelog_path(version), changelog.into_bytes())]
    {
        let path = repository.join(path);
        host::write_whole(&path, &bytes)?;
        add_target(publisher, repository, &path)?;
    }
    Ok(())
}

fn add_target(publisher: &mut Publisher, repository: &Path, file: &Path) -> Result<()> {
    let bytes = host::read(file)?;
    let path = file
        .strip_prefix(repository)
        .ok()
        .and_then(Path::to_str)
        .with_context(|| format!("{} is outside the repository", file.display()))?;
    let target = Target {
        length: bytes.len() as u64,
        hashes: Hashes::sha256(sha256_hex(&bytes)),
        custom: None,
    };
    publisher.targets.insert(path.to_owned(), target);
    Ok(())
}

fn write_metadata(
    publisher: &Publisher,
    keys: &keys::Keys,
    repository: &Path,
    at: Instant,
) -> Result<()> {
    let lifetimes = Lifetimes::default();
    let first = repository.join(FIRST_ROOT);
    if !first.exists() {
        let root = keys.repository.root(1, at.plus_days(lifetimes.root_days));
        let bytes = sign(&root, &keys.repository.root).context("cannot sign the root")?;
        host::write_whole(&first, &bytes)?;
        host::write_whole(&repository.join("metadata/root.json"), &bytes)?;
    }
    let files =
        publisher.publish(&keys.repository, at, lifetimes).context("cannot sign the metadata")?;
    write_all(&files, repository)
}

fn write_all(files: &[Written], repository: &Path) -> Result<()> {
    files.iter().try_for_each(|file| host::write_whole(&repository.join(&file.path), &file.bytes))
}
