//! `cargo xtask bench update`: what an update costs to fetch, beside casync, zchunk, zsync, xdelta3,
//! `zstd --patch-from` and ostree, in one run on the same trees.
//!
//! Bytes are those of a server on loopback, headers included, with all metadata; for prepared files of peers
//! the size of the file. Processor time and memory are the client's own. Ours ends with a verified erofs
//! image, casync's and xdelta3's with a tar, ostree's with its repository.

mod images;
mod ours;
mod peers;
mod server;

use super::table::{self, Row};
use crate::host;
use anyhow::Result;
use std::path::{Path, PathBuf};

/// `cargo xtask bench update`
#[derive(Debug, clap::Args)]
pub(super) struct UpdateArgs {
    /// Repository whose two newest releases are measured too, if it has two
    #[arg(long, value_name = "DIR", default_value = "target/release-repository")]
    repository: PathBuf,
    /// Measure only the pair with this name: v2u, v2k or goblinux
    #[arg(long, value_name = "NAME")]
    only: Option<String>,
}

/// Two trees and the forms of them that peers move.
#[derive(Debug)]
struct Pair {
    name: String,
    old: Form,
    new: Form,
}

/// A tree: a folder, and images of it.
#[derive(Debug, Clone)]
struct Form {
    root: PathBuf,
    tar: PathBuf,
    erofs: PathBuf,
}

/// What one client took.
#[derive(Debug, Clone, Copy, Default)]
struct Cost {
    bytes: f64,
    requests: f64,
    cpu_s: f64,
    rss_mib: f64,
}

/// Runs `cargo xtask bench update`.
///
/// # Errors
/// When an image cannot be made, or a client does not end with what it should.
pub(super) fn run(args: &UpdateArgs) -> Result<()> {
    images::install_peers()?;
    let wanted = |name: &str| args.only.as_deref().is_none_or(|only| only == name);
    let work =
        tempfile::Builder::new().prefix("bench-update").tempdir_in(host::target("bench")?)?;
    let mut pairs = Vec::new();
    if wanted("v2u") || wanted("v2k") {
        let folder = images::folder()?;
        let form = |name: &str| Form {
            root: folder.join(name),
            tar: images::file(&folder, name, "tar"),
            erofs: images::file(&folder, name, "erofs"),
        };
        for new in images::NAMES.iter().skip(1).filter(|name| wanted(name)) {
            pairs.push(Pair { name: (*new).into(), old: form(images::NAMES[0]), new: form(new) });
        }
    }
    if wanted("goblinux") {
        match ours::releases(&args.repository, &work.path().join("releases"))? {
            Some(pair) => pairs.push(pair),
            None => host::warn(format!(
                "{} holds no two releases: `cargo xtask release --version N` twice adds a pair",
                args.repository.display()
            )),
        }
    }
    let client = ours::client()?;
    let mut rows = Vec::new();
    for pair in &pairs {
        measure(pair, &client, &work.path().join(&pair.name), &mut rows)?;
    }
    table::publish("update", &rows)
}

fn measure(pair: &Pair, client: &Path, work: &Path, rows: &mut Vec<Row>) -> Result<()> {
    let site = work.join("www");
    std::fs::create_dir_all(&site)?;
    let server = server::Server::start(&site)?;
    let name = &pair.name;
    host::say(format!("{name}: publishing and fetching with ours"));
    let ours = ours::measure(pair, client, &site, &server, work)?;
    let floor = ours.floor_bytes;
    let any = ours.any;
    let two = ours.pair;
    host::say(format!("{name}: ours {any:?} {two:?}"));
    let mut row = |metric, unit, ours, peer: &str, theirs, note: &str| {
        rows.push(Row::new(metric, unit, ours, peer, theirs, &format!("{name}: {note}")));
    };
    let mut casync = Cost::default();
    for peer in peers::ANY {
        host::say(format!("{name}: {}", peer.name));
        let cost = (peer.run)(pair, &site, &server, work)?;
        if peer.name.starts_with("casync") {
            casync = cost;
        }
        row("any_version_bytes", "bytes", any.bytes, peer.name, cost.bytes, peer.goal);
        row("requests", "", any.requests, peer.name, cost.requests, "any version; goal 10");
    }
    let note = "floor: whole contents, zstd -19 each, and the manifest; goal 1.05";
    row("any_version_bytes", "bytes", any.bytes, "floor", floor, note);
    let note = "any version; goal 0.3";
    row("client_cpu_s", "s", any.cpu_s, "casync 16K", casync.cpu_s, note);
    row("client_rss_mib", "MiB", any.rss_mib, "casync 16K", casync.rss_mib, "any version; goal 64");
    for peer in peers::PREPARED {
        host::say(format!("{name}: {}", peer.name));
        let cost = (peer.run)(pair, &site, &server, work)?;
        row("pair_bytes", "bytes", two.bytes, peer.name, cost.bytes, peer.goal);
        row("client_cpu_s", "s", two.cpu_s, peer.name, cost.cpu_s, "prepared pair");
        row("client_rss_mib", "MiB", two.rss_mib, peer.name, cost.rss_mib, "prepared; goal 64");
    }
    row("requests", "", two.requests, "goal", 10.0, "prepared pair, metadata included");
    Ok(())
}
