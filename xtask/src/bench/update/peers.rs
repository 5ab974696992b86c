//! The peers, as their own manuals say to use them.

use super::server::Server;
use super::{Cost, Pair};
use crate::host;
use anyhow::{Context, Result, ensure};
use std::path::Path;
use std::process::Command;

/// A peer and what is compared with it.
pub(super) struct Peer {
    pub(super) name: &'static str,
    pub(super) goal: &'static str,
    pub(super) run: fn(&Pair, &Path, &Server, &Path) -> Result<Cost>,
}

/// Those that need nothing prepared for a pair.
pub(super) const ANY: &[Peer] = &[
    Peer { name: "casync 16K", goal: "on tar; goal 0.90", run: casync },
    Peer { name: "zchunk", goal: "on erofs; goal 0.60", run: zchunk },
    Peer { name: "zsync", goal: "on tar, 4 KiB blocks", run: zsync },
    Peer { name: "ostree objects", goal: "archive repository", run: ostree_objects },
];

/// Those with a file from just this version to just that one.
pub(super) const PREPARED: &[Peer] = &[
    Peer { name: "ostree delta", goal: "static delta; goal 1.0", run: ostree_delta },
    Peer { name: "xdelta3", goal: "-9 -S lzma on tar; goal 0.60", run: xdelta3 },
    Peer { name: "zstd", goal: "-9 --patch-from on tar", run: zstd },
];

/// Runs a client and says what it took.
pub(super) fn timed(command: &[&str], folder: &Path) -> Result<(Cost, String)> {
    let log = folder.join("time");
    let mut timed = Command::new("time");
    timed.arg("-o").arg(&log).args(["-f", "%U %S %M"]).args(command).current_dir(folder);
    let out = host::output(&mut timed, &format!("running {}", command.first().unwrap_or(&"")))?;
    let text = String::from_utf8(host::read(&log)?)?;
    let numbers: Vec<f64> = text.split_whitespace().filter_map(|word| word.parse().ok()).collect();
    let [.., user, system, rss] = numbers[..] else { anyhow::bail!("time said {text:?}") };
    Ok((Cost { cpu_s: user + system, rss_mib: rss / 1024.0, ..Cost::default() }, out))
}

fn quiet(command: &[&str], folder: &Path) -> Result<String> {
    let (program, args) = command.split_first().context("no command")?;
    host::output(
        Command::new(program).args(args).current_dir(folder),
        &format!("running {program}"),
    )
}

fn counted(mut cost: Cost, server: &Server) -> Cost {
    let (bytes, requests) = server.take();
    (cost.bytes, cost.requests) = (bytes as f64, requests as f64);
    cost
}

fn same(made: &Path, wanted: &Path) -> Result<()> {
    let equal = Command::new("cmp").arg("-s").arg(made).arg(wanted).status()?.success();
    ensure!(equal, "{} is not {}", made.display(), wanted.display());
    Ok(())
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap_or_default()
}

/// A fresh folder among those that are served, or beside them.
fn fresh(folder: &Path, name: &str) -> Result<std::path::PathBuf> {
    let folder = folder.join(name);
    if folder.exists() {
        std::fs::remove_dir_all(&folder)?;
    }
    std::fs::create_dir_all(&folder)?;
    Ok(folder)
}

fn casync(pair: &Pair, site: &Path, server: &Server, work: &Path) -> Result<Cost> {
    let www = fresh(site, "casync")?;
    quiet(
        &[
            "casync",
            "make",
            "--chunk-size=16384",
            "--store=s.castr",
            "i.caibx",
            text(&pair.new.tar),
        ],
        &www,
    )?;
    let here = fresh(work, "casync")?;
    let url = format!("{}/casync", server.url);
    let (seed, store) =
        (format!("--seed={}", text(&pair.old.tar)), format!("--store={url}/s.castr"));
    let index = format!("{url}/i.caibx");
    server.take();
    let command = ["casync", "extract", &store, &seed, "--chunk-size=16384", &index, "out"];
    let (cost, _) = timed(&command, &here)?;
    same(&here.join("out"), &pair.new.tar)?;
    Ok(counted(cost, server))
}

fn zchunk(pair: &Pair, site: &Path, server: &Server, work: &Path) -> Result<Cost> {
    let (www, here) = (fresh(site, "zchunk")?, fresh(work, "zchunk")?);
    quiet(&["zck", "-o", "new.zck", text(&pair.new.erofs)], &www)?;
    quiet(&["zck", "-o", "old.zck", text(&pair.old.erofs)], &here)?;
    server.take();
    let url = format!("{}/zchunk/new.zck", server.url);
    let (cost, _) = timed(&["zckdl", "-s", "old.zck", &url], &here)?;
    same(&here.join("new.zck"), &www.join("new.zck"))?;
    Ok(counted(cost, server))
}

fn zsync(pair: &Pair, site: &Path, server: &Server, work: &Path) -> Result<Cost> {
    let (www, here) = (fresh(site, "zsync")?, fresh(work, "zsync")?);
    std::fs::copy(&pair.new.tar, www.join("new"))?;
    let url = format!("{}/zsync/new", server.url);
    quiet(&["zsyncmake", "-b", "4096", "-u", &url, "-o", "new.zsync", "new"], &www)?;
    server.take();
    let command = ["zsync", "-q", "-i", text(&pair.old.tar), "-o", "out", &format!("{url}.zsync")];
    let (cost, _) = timed(&command, &here)?;
    same(&here.join("out"), &pair.new.tar)?;
    std::fs::remove_file(www.join("new"))?;
    Ok(counted(cost, server))
}

fn xdelta3(pair: &Pair, _: &Path, _: &Server, work: &Path) -> Result<Cost> {
    let here = fresh(work, "xdelta3")?;
    let (old, new) = (text(&pair.old.tar), text(&pair.new.tar));
    quiet(
        &["xdelta3", "-f", "-e", "-9", "-S", "lzma", "-B", "536870912", "-s", old, new, "patch"],
        &here,
    )?;
    let command = ["xdelta3", "-f", "-d", "-B", "536870912", "-s", old, "patch", "out"];
    let (cost, _) = timed(&command, &here)?;
    same(&here.join("out"), &pair.new.tar)?;
    Ok(Cost { bytes: here.join("patch").metadata()?.len() as f64, requests: 1.0, ..cost })
}

fn zstd(pair: &Pair, _: &Path, _: &Server, work: &Path) -> Result<Cost> {
    let here = fresh(work, "zstd")?;
    let from = format!("--patch-from={}", text(&pair.old.tar));
    quiet(
        &["zstd", "-q", "-f", "-9", "--long=30", &from, text(&pair.new.tar), "-o", "patch"],
        &here,
    )?;
    let (cost, _) =
        timed(&["zstd", "-q", "-d", "-f", "--long=30", &from, "patch", "-o", "out"], &here)?;
    same(&here.join("out"), &pair.new.tar)?;
    Ok(Cost { bytes: here.join("patch").metadata()?.len() as f64, requests: 1.0, ..cost })
}

/// Commits both trees and brings a client to the old one: the two commits, and the client's folder.
fn ostree(pair: &Pair, site: &Path, server: &Server, work: &Path) -> Result<[String; 2]> {
    let (www, here) = (fresh(site, "ostree")?, fresh(work, "ostree")?);
    quiet(&["ostree", "--repo=r", "init", "--mode=archive"], &www)?;
    let commit = |root: &Path| -> Result<String> {
        let tree = format!("--tree=dir={}", text(root));
        let said = quiet(
            &[
                "ostree",
                "--repo=r",
                "commit",
                "-b",
                "os",
                &tree,
                "--no-xattrs",
                "-s",
                "x",
                "--timestamp=2023-11-14 22:13:20 +0000",
                "--canonical-permissions",
            ],
            &www,
        )?;
        quiet(&["ostree", "--repo=r", "summary", "-u"], &www)?;
        Ok(said.lines().last().unwrap_or_default().to_owned())
    };
    let url = format!("{}/ostree/r", server.url);
    let old = commit(&pair.old.root)?;
    quiet(&["ostree", "--repo=c", "init", "--mode=bare-user"], &here)?;
    quiet(&["ostree", "--repo=c", "remote", "add", "--no-gpg-verify", "s", &url], &here)?;
    quiet(&["ostree", "--repo=c", "pull", "s", "os"], &here)?;
    let new = commit(&pair.new.root)?;
    server.take();
    Ok([old, new])
}

fn ostree_objects(pair: &Pair, site: &Path, server: &Server, work: &Path) -> Result<Cost> {
    let [_, new] = ostree(pair, site, server, work)?;
    let here = work.join("ostree");
    let (cost, _) = timed(&["ostree", "--repo=c", "pull", "s", "os"], &here)?;
    let cost = counted(cost, server);
    let got = quiet(&["ostree", "--repo=c", "rev-parse", "s:os"], &here)?;
    ensure!(got.trim() == new, "ostree pulled {got}");
    Ok(cost)
}

/// Applied from its file: pulled over HTTP, Debian's version fetches loose objects beside it.
fn ostree_delta(pair: &Pair, site: &Path, server: &Server, work: &Path) -> Result<Cost> {
    let [old, new] = ostree(pair, site, server, work)?;
    let (www, here) = (site.join("ostree"), work.join("ostree"));
    let (from, to) = (format!("--from={old}"), format!("--to={new}"));
    quiet(&["ostree", "--repo=r", "static-delta", "generate", &from, &to], &www)?;
    let deltas = www.join("r/deltas");
    let prefix = std::fs::read_dir(&deltas)?.flatten().next().context("no delta")?.path();
    let delta = std::fs::read_dir(prefix)?.flatten().next().context("no delta")?.path();
    let mut bytes = 0;
    let mut files = 0;
    for entry in std::fs::read_dir(&delta)?.flatten() {
        bytes += entry.metadata()?.len();
        files += 1;
    }
    let command = ["ostree", "--repo=c", "static-delta", "apply-offline", text(&delta)];
    let (cost, _) = timed(&command, &here)?;
    quiet(&["ostree", "--repo=c", "ls", &new], &here)?;
    Ok(Cost { bytes: bytes as f64, requests: f64::from(files), ..cost })
}
