//! Brings a folder from one release to the next as a board would, for `cargo xtask bench update`: metadata,
//! manifest, contents, and the image of them. What runs is a plain folder instead of a base in memory.
//!
//! `fetch-tree OLD-FOLDER OLD-VERSION URL ROOT.json WORK-FOLDER IMAGE`; prints one line of JSON.

use goblin_agent_update::fetch::Fetcher;
use goblin_agent_update::held::Held;
use goblin_agent_update::obtain::{Wanted, obtain};
use goblin_agent_update::store::Store;
use goblin_core_manifest::client::{Client, TrustedState};
use goblin_core_manifest::offer;
use goblin_core_manifest::release::{MANIFEST_PACKED, Manifest};
use goblin_core_manifest::time::Instant;
use goblin_core_types::{Digest, Version};
use goblin_image::erofs::{Layout, Params};
use goblin_image::recipe::BlobRef;
use goblin_image::{Contents, Guid, Kind, Tree};
use std::collections::BTreeMap;
use std::error::Error;
use std::fs::File;
use std::io::{self, BufWriter, Read, Write};
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// What the benchmark publishes in place of a UKI's recipe.
#[derive(serde::Serialize, serde::Deserialize)]
struct Recipe {
    tree: Tree,
    image: Digest,
}

struct Sources<'a>(Store, &'a Held);

impl Contents for Sources<'_> {
    fn open(&mut self, digest: &Digest, size: u64) -> io::Result<Box<dyn Read + '_>> {
        if self.1.has(digest, size) {
            return Ok(Box::new(self.1.open(digest)?));
        }
        self.0.open(digest, size)
    }
}

/// Hashes what it hands on.
struct Hashing<W>(W, blake3::Hasher);

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.0.write(bytes)?;
        self.1.update(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [old, running, url, root, work, image] = &args[..] else {
        return Err("see the head of the source".into());
    };
    let fetcher = Fetcher::new(url, Duration::from_millis(100));
    let store = Store::new(work.into());
    let running: Version = running.parse()?;
    let manifest = manifest(&fetcher, &std::fs::read(root)?)?;
    let blobs = blobs(&manifest.uki.tree);
    let mut held = Held::list(Path::new(old), None);
    let version = manifest.version;
    let wanted = Wanted { version, running, blobs: &blobs, parcels: manifest.parcels.as_ref() };
    let choice = obtain(&wanted, &fetcher, &store, &mut held, 0, &mut |_, _| {})?;
    let params = Params { uuid: Guid::derive(&[b"bench"]), build_time: 1 };
    let layout = Layout::plan(&manifest.uki.tree, &params)?;
    let mut out =
        Hashing(BufWriter::with_capacity(1 << 20, File::create(image)?), blake3::Hasher::new());
    layout.write(&mut out, &mut Sources(store, &held))?;
    out.flush()?;
    if *out.1.finalize().as_bytes() != manifest.uki.image.0 {
        return Err("the image is not what was published".into());
    }
    let way = choice.cost.way;
    println!(
        "{}",
        serde_json::json!({"way": way, "requests": fetcher.requests(), "explain": choice.explain()})
    );
    Ok(())
}

fn manifest(fetcher: &Fetcher, root: &[u8]) -> Result<Manifest<Recipe>, Box<dyn Error>> {
    let now = Instant::from_unix_s(SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs());
    let mut client = Client::new(TrustedState::from_root(root)?, now)?;
    goblin_agent_update::walk(&mut client, fetcher)?;
    let releases = offer::releases(&client.offered()?);
    let newest = releases.first().ok_or("no release")?;
    let packed_bytes = newest.target.packed_bytes().ok_or("no packed manifest")?;
    let packed = fetcher.read(&format!("{}{MANIFEST_PACKED}", newest.path), packed_bytes)?;
    let mut bytes = Vec::new();
    let unpacked = goblin_core_delta::frame::open(&packed[..])?;
    unpacked.take(newest.target.length + 1).read_to_end(&mut bytes)?;
    newest.target.check(&newest.path, &bytes)?;
    Ok(Manifest::parse(&bytes)?)
}

fn blobs(tree: &Tree) -> Vec<BlobRef> {
    let files = tree.entries().iter().filter_map(|entry| match entry.kind {
        Kind::File { size, digest } => Some((digest, size)),
        Kind::Dir | Kind::Symlink { .. } => None,
    });
    let sizes: BTreeMap<Digest, u64> = files.collect();
    sizes.into_iter().map(|(digest, size)| BlobRef { digest, size }).collect()
}
