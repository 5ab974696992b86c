//! Ours: a folder published as a release is, and fetched by the updater's own code.

use super::peers::timed;
use super::server::Server;
use super::{Cost, Form, Pair};
use crate::release::parcels::{self, View};
use crate::{compile, host};
use anyhow::{Context, Result, ensure};
use goblin_core_delta::frame::Effort;
use goblin_core_manifest::offer;
use goblin_core_manifest::publish::{Lifetimes, Publisher, RepositoryKeys, Seed, sign};
use goblin_core_manifest::release::{
    MANIFEST_PACKED, MANIFEST_SCHEMA, Manifest, Parcels, ProtocolRange, blob_path, pack_path,
    patch_path,
};
use goblin_core_manifest::time::Instant;
use goblin_core_manifest::tuf::{Envelope, Kind as TufKind, ReleaseCustom, Targets};
use goblin_core_types::{Digest, Role, Version};
use goblin_image::erofs::{Layout, Params};
use goblin_image::{Contents, Entry, Guid, Kind, Tree, UkiRecipe};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

const OLD: Version = Version::new(1, 0, 0);
const NEW: Version = Version::new(2, 0, 0);

/// In place of a UKI's recipe; the client has the same.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Recipe {
    tree: Tree,
    image: Digest,
}

/// What ours took.
#[derive(Debug)]
pub(super) struct Ours {
    pub(super) any: Cost,
    pub(super) pair: Cost,
    pub(super) floor_bytes: f64,
}

/// A folder as a tree, and where each content lies.
struct Scanned {
    tree: Tree,
    view: View,
    places: BTreeMap<Digest, PathBuf>,
}

impl Contents for Scanned {
    fn open(&mut self, digest: &Digest, _size: u64) -> io::Result<Box<dyn Read + '_>> {
        let place = self.places.get(digest).ok_or(io::ErrorKind::NotFound)?;
        Ok(Box::new(File::open(place)?))
    }
}

/// The client, compiled as what boards run.
pub(super) fn client() -> Result<PathBuf> {
    compile::example("goblin-agent-update", "fetch-tree")
}

/// Publishes the pair and fetches it twice: with the pack alone, and with the patch.
pub(super) fn measure(
    pair: &Pair,
    client: &Path,
    site: &Path,
    server: &Server,
    work: &Path,
) -> Result<Ours> {
    let (old, new) = (scan(&pair.old.root)?, scan(&pair.new.root)?);
    let load = |digest: &Digest| -> Result<Vec<u8>> {
        let place = new.places.get(digest).or_else(|| old.places.get(digest));
        host::read(place.context("an unknown content")?)
    };
    let path = site.join(pack_path(NEW));
    // What the old release holds is never fetched here; packing it well would only take minutes.
    let effort = (Effort::Best, Effort::Quick);
    let pack = parcels::write_pack(&new.view, &[&old.view], &load, effort, &path)?;
    let path = site.join(patch_path(OLD, NEW));
    let patch = parcels::write_patch((OLD, &old.view), &new.view, &load, Effort::Best, &path)?;
    let mut floor_bytes = 0;
    for digest in new.view.contents.keys().filter(|digest| !old.view.held.contains(digest)) {
        floor_bytes += zstd::bulk::compress(&load(digest)?, 19)?.len();
    }
    let image = image(
        &new.tree,
        &mut Scanned { tree: new.tree.clone(), view: View::default(), places: new.places.clone() },
    )?;
    let recipe = Recipe { tree: new.tree.clone(), image };
    let root = work.join("root.json");
    let manifest_bytes = publish(site, &root, &recipe, Parcels { pack, patches: Vec::new() })?;
    let any = fetch(pair, client, server, &root, work, "pack-ranges")?;
    publish(site, &root, &recipe, Parcels { pack, patches: patch.into_iter().collect() })?;
    let two = fetch(pair, client, server, &root, work, "patch")?;
    Ok(Ours { any, pair: two, floor_bytes: (floor_bytes + manifest_bytes) as f64 })
}

fn fetch(
    pair: &Pair,
    client: &Path,
    server: &Server,
    root: &Path,
    work: &Path,
    way: &str,
) -> Result<Cost> {
    let store = tempfile::Builder::new().prefix("store").tempdir_in(work)?;
    let image = store.path().join("image");
    let text = |path: &Path| path.to_str().unwrap_or_default().to_owned();
    let command = [
        text(client),
        text(&pair.old.root),
        OLD.to_string(),
        server.url.clone(),
        text(root),
        text(&store.path().join("store")),
        text(&image),
    ];
    server.take();
    let (cost, said) = timed(&command.each_ref().map(String::as_str), work)?;
    let (bytes, requests) = server.take();
    let said: serde_json::Value = serde_json::from_str(&said).context("the client said")?;
    host::say(said["explain"].as_str().unwrap_or_default());
    ensure!(said["way"] == way, "it went by {} instead of {way}", said["way"]);
    ensure!(said["requests"] == requests, "the client and the server count differently");
    Ok(Cost { bytes: bytes as f64, requests: requests as f64, ..cost })
}

/// Writes manifest and metadata; answers the size of the packed manifest.
fn publish(site: &Path, root: &Path, recipe: &Recipe, parcels: Parcels) -> Result<usize> {
    let manifest = Manifest {
        schema: MANIFEST_SCHEMA,
        version: NEW,
        channel: "stable".into(),
        notes: String::new(),
        accent: String::new(),
        created: None,
        protocol: ProtocolRange { min: 1, max: 1 },
        roles: Role::ALL.to_vec(),
        parcels: Some(parcels),
        uki: recipe.clone(),
    };
    let bytes = manifest.to_bytes()?;
    let packed = zstd::bulk::compress(&bytes, 19)?;
    let seed = |role: u8| vec![Seed([role; 32])];
    let keys =
        RepositoryKeys { root: seed(1), targets: seed(2), snapshot: seed(3), timestamp: seed(4) };
    let now = Instant::from_unix_s(SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs());
    let mut publisher = Publisher::empty();
    let custom = ReleaseCustom { version: NEW, channel: "stable".into(), uki: None, waves: None };
    let path = publisher.add_release(&custom, &bytes)?;
    publisher.note_packed(&path, packed.len() as u64);
    host::write_whole(&site.join(format!("{path}{MANIFEST_PACKED}")), &packed)?;
    host::write_whole(&site.join(path), &bytes)?;
    for file in publisher.publish(&keys, now, Lifetimes::default())? {
        host::write_whole(&site.join(&file.path), &file.bytes)?;
    }
    host::write_whole(root, &sign(&keys.root(1, now.plus_days(100)), &keys.root)?)?;
    Ok(packed.len())
}

fn image(tree: &Tree, contents: &mut Scanned) -> Result<Digest> {
    struct Hash(blake3::Hasher);
    impl Write for Hash {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.update(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let params = Params { uuid: Guid::derive(&[b"bench"]), build_time: 1 };
    let mut hash = Hash(blake3::Hasher::new());
    Layout::plan(tree, &params)?.write(&mut hash, contents)?;
    Ok(Digest(*hash.0.finalize().as_bytes()))
}

fn scan(root: &Path) -> Result<Scanned> {
    let (mut entries, mut places, mut view) = (Vec::new(), BTreeMap::new(), View::default());
    let mut folders = vec![root.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder)? {
            let place = entry?.path();
            let meta = place.symlink_metadata()?;
            let inside = place.strip_prefix(root)?.to_str().context("a name is not text")?;
            let path = format!("/{inside}");
            let kind = if meta.is_dir() {
                folders.push(place);
                Kind::Dir
            } else if meta.is_symlink() {
                let target = std::fs::read_link(&place)?;
                Kind::Symlink { target: target.to_str().context("a link is not text")?.to_owned() }
            } else if meta.is_file() {
                let bytes = host::read(&place)?;
                let digest = Digest(*blake3::hash(&bytes).as_bytes());
                let size = meta.len();
                view.contents.entry(digest).or_insert_with(|| (size, path.clone()));
                view.held.insert(digest);
                places.entry(digest).or_insert(place);
                Kind::File { size, digest }
            } else {
                continue;
            };
            let mode = (meta.permissions().mode() & 0o7777) as u16;
            entries.push(Entry { path, mode, uid: 0, gid: 0, kind });
        }
    }
    // The order of a folder's listing is the file system's own.
    entries.sort_by(|a, b| a.path.cmp(&b.path));
    view.contents.clear();
    for entry in &entries {
        if let Kind::File { size, digest } = entry.kind {
            view.contents.entry(digest).or_insert_with(|| (size, entry.path.clone()));
        }
    }
    Ok(Scanned { tree: Tree::new(entries)?, view, places })
}

/// The two newest releases of a repository as folders: the base, and what else the UKI is made of.
pub(super) fn releases(repository: &Path, work: &Path) -> Result<Option<Pair>> {
    let path = repository.join("metadata/targets.json");
    if !path.exists() {
        return Ok(None);
    }
    let file = TufKind::Targets.to_string();
    let targets: Targets =
        Envelope::parse(&file, &host::read(&path)?, TufKind::Targets.bytes_max())?.decode(&file)?;
    let known = offer::releases(&targets);
    let [new, old, ..] = &known[..] else { return Ok(None) };
    let form = |release: &offer::Release| -> Result<Form> {
        let bytes = host::read(&repository.join(&release.path))?;
        let manifest: Manifest<UkiRecipe> = Manifest::parse(&bytes)?;
        let root = work.join(manifest.version.to_string());
        unfold(&manifest.uki, repository, &root)?;
        let image = |form: &str| work.join(format!("{}.{form}", manifest.version));
        let form = Form { tar: image("tar"), erofs: image("erofs"), root };
        let mut tar = Command::new("tar");
        tar.args(["--sort=name", "--mtime=@1", "--numeric-owner", "--format=gnu", "-cf"]);
        host::output(tar.arg(&form.tar).arg("-C").arg(&form.root).arg("."), "running tar")?;
        let mut mkfs = Command::new("mkfs.erofs");
        mkfs.args(["-T1", "-U00000000-0000-4000-8000-000000000001", "--quiet"]);
        host::output(mkfs.arg(&form.erofs).arg(&form.root), "running mkfs.erofs")?;
        Ok(form)
    };
    Ok(Some(Pair { name: "goblinux".into(), old: form(old)?, new: form(new)? }))
}

fn unfold(recipe: &UkiRecipe, repository: &Path, root: &Path) -> Result<()> {
    let copy = |digest: &Digest, path: &str, mode: u32| -> Result<()> {
        let to = root.join(path.trim_start_matches('/'));
        std::fs::create_dir_all(to.parent().context("no folder")?)?;
        std::fs::copy(repository.join(blob_path(digest)), &to)?;
        Ok(std::fs::set_permissions(&to, std::fs::Permissions::from_mode(mode))?)
    };
    for entry in recipe.base.entries() {
        let to = root.join(entry.path.trim_start_matches('/'));
        match &entry.kind {
            Kind::Dir => std::fs::create_dir_all(&to)?,
            Kind::Symlink { target } => std::os::unix::fs::symlink(target, &to)?,
            Kind::File { digest, .. } => copy(digest, &entry.path, u32::from(entry.mode))?,
        }
    }
    copy(&recipe.kernel.digest, "boot/kernel", 0o644)?;
    copy(&recipe.preinit.digest, "boot/preinit", 0o755)?;
    copy(&recipe.stub.digest, "boot/stub", 0o644)
}
