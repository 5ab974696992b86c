//! The share server through a kernel's own client, beside other file servers through theirs: part of
//! `cargo xtask bench 9p`.
//!
//! One guest with Debian's stock kernel is server and client at once, so every figure is what a work costs on both
//! sides together, in guest instructions (`-icount`): the same from run to run, whatever else this machine does.
//! Files lie in memory. Mounts have the options that their people would give them, 9P those of `goblin mount`;
//! caches are cold before each work. Three works are done once more with half a millisecond between the two ends, there
//! and back: rows that end with `_far_ms` tell how long everybody waited for that.
//!
//! Ours is there twice: without keys, as the peers are, and by `goblin mount`, over TLS and a relay. `no server` is what
//! a work costs on the served files themselves.

use super::machine::{self, Machine, mi};
use super::table::Row;
use crate::apt::{Package, Suite};
use crate::client_guest;
use crate::compile::{self, Lto};
use crate::debian::{self, ClientKernel};
use crate::debian_root::debian_root;
use crate::{host, kernel};
use anyhow::{Context, Result, bail};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// PID 1 of the guest.
const SCRIPT: &str = include_str!("../../../tests/data/bench/mounts.sh");
/// How its lines begin.
const WORD: &str = "bench: ";
/// What the guest holds beside our server.
const PACKAGES: &[&str] = &[
    "bash",
    "coreutils",
    "mount",
    "util-linux",
    "kmod",
    "iproute2",
    "grep",
    "tar",
    "git",
    "diod",
    "nfs-kernel-server",
    "samba",
];
/// What delays packets, and modules of the other servers and their clients. `cifs` asks for its ciphers by name only, so nothing that reads
/// dependencies finds them.
const MODULES: &[&str] = &[
    "sch_netem",
    "nfsd",
    "nfsv4",
    "cifs",
    "cmac",
    "hmac",
    "md5",
    "sha256_generic",
    "sha512_generic",
    "aes_generic",
    "ecb",
    "ccm",
    "gcm",
    "ghash_generic",
    "ctr",
];
/// A server without names, printers and accounts: who comes in is root, as at the others.
const SAMBA: &str = "[global]\nserver role = standalone server\nmap to guest = bad user\nguest account = root\n\
    disable netbios = yes\nload printers = no\ndisable spoolss = yes\nsmb ports = 445\nlog file = /tmp/smbd.log\n\
    [data]\npath = /srv/samba\nguest ok = yes\nread only = no\nforce user = root\n";
/// Memory of the guest: all programs, and what is served.
const MEMORY_MIB: u32 = 4096;
/// A processor whose string moves are not counted byte by byte: QEMU takes each turn of `rep movsb` for an
/// instruction, and kernels that see these two bits copy everything that way.
const PROCESSOR: &str = "max,erms=off,fsrm=off";
const CMDLINE: &str = "console=ttyS0 rdinit=/init panic=-1 loglevel=3";
/// Longest silence of the guest.
const LIMIT: Duration = Duration::from_secs(1800);

/// A work, and what it is.
const WORKS: [(&str, &str); 5] = [
    (
        "tar_in",
        "four file systems of the kernel's source unpacked: files made, written, given their times",
    ),
    ("tar_out", "the same read"),
    ("git_status", "`git status` on it, nothing changed"),
    ("write", "16 MiB written in order and synced"),
    ("read", "the same read in order"),
];
/// Works that are done again with a network between the two ends.
const FAR: [(&str, &str); 3] = [
    ("tar_in_far", "time waited: the same files made and written"),
    ("tar_out_far", "time waited: the same files read"),
    ("git_status_far", "time waited: `git status` on them"),
];
/// Servers beside ours, with the package whose version is theirs.
const PEERS: [(&str, &str); 4] =
    [("diod", "diod"), ("nfs", "nfs-kernel-server"), ("samba", "samba"), (LOCAL, "")];
const OURS: &str = "ours";
/// Ours by `goblin mount`.
const GOBLIN: &str = "goblin";
/// No server.
const LOCAL: &str = "local";

/// Busy microseconds of a work, by server and work.
type Found = BTreeMap<(String, String), f64>;

/// Measures: a row for each work beside each server that runs.
///
/// # Errors
/// When the guest does not come to its end, or a work fails on our server.
pub(super) fn measure() -> Result<Vec<Row>> {
    let dir = host::target("bench")?;
    let stock = debian::client_kernel(Suite::Trixie, MODULES)?;
    let (initramfs, packages) = guest(&dir, &stock)?;
    host::say("measuring file servers through mounts (ten minutes)");
    let log = dir.join("mounts.log");
    let machine = Machine {
        kernel: &stock.vmlinuz,
        initramfs: &initramfs,
        command_line: CMDLINE,
        memory_mib: MEMORY_MIB,
        processor: PROCESSOR,
    };
    let (mut child, serial) = machine::start(&machine, &log)?;
    let mut said = Vec::new();
    let mut from = 0;
    let followed = loop {
        match serial.wait_from(from, WORD, LIMIT) {
            Ok((at, line)) => {
                from = at;
                let line = line.split_once(WORD).map_or("", |(_, line)| line).trim().to_owned();
                host::say(format!("mounts: {line}"));
                if line == "end" {
                    break Ok(());
                }
                said.push(line);
            }
            Err(err) => break Err(err),
        }
    };
    let _ = child.kill();
    let _ = child.wait();
    followed.with_context(|| format!("the guest's log is {}", log.display()))?;
    rows(&read(&said)?, &packages)
}

fn guest(dir: &Path, stock: &ClientKernel) -> Result<(PathBuf, Vec<Package>)> {
    let (mut root, packages) = debian_root(PACKAGES)?;
    let source = dir.join("source");
    kernel::source_trees(&source)?;
    let (ours, _) = compile::share_server()?;
    let serve_keys = compile::example("goblin-agent-share", "serve_keys")?;
    let goblin = compile::goblin(Lto::Off)?;
    root.file("init", 0o755, SCRIPT.into())
        .file("usr/bin/share-server", 0o755, host::read(&ours)?)
        .file("usr/bin/serve-keys", 0o755, host::read(&serve_keys)?)
        .file("usr/bin/goblin", 0o755, host::read(&goblin)?)
        .file("etc/passwd", 0o644, b"root:x:0:0:root:/root:/usr/bin/bash\n".to_vec())
        .file("etc/group", 0o644, b"root:x:0:\n".to_vec())
        .file("etc/hosts", 0o644, b"127.0.0.1 localhost\n".to_vec())
        .file("etc/nsswitch.conf", 0o644, b"hosts: files\n".to_vec())
        .file("etc/smb.conf", 0o644, SAMBA.into())
        .file("tree.tar", 0o644, host::read(&source.join("tree.tar"))?);
    client_guest::add_modules(&mut root, stock)?;
    let path = dir.join("mounts.cpio");
    host::write_whole(&path, &root.pack()?)?;
    Ok((path, packages))
}

/// Reads what the guest said.
fn read(said: &[String]) -> Result<Found> {
    let mut found = Found::new();
    for line in said {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words.as_slice() {
            ["absent" | "failed", OURS | GOBLIN, ..] => bail!("on our server: {line}"),
            // Said when it came; its rows are missing.
            ["absent" | "failed", ..] => {}
            [server, work, busy] => {
                let busy = busy.parse().with_context(|| format!("the guest said `{line}`"))?;
                found.insert(((*server).to_owned(), (*work).to_owned()), busy);
            }
            _ => bail!("the guest said `{line}`"),
        }
    }
    Ok(found)
}

fn rows(found: &Found, packages: &[Package]) -> Result<Vec<Row>> {
    let of = |server: &str, work: &str| found.get(&(server.to_owned(), work.to_owned())).copied();
    let instructions = |us: f64| mi(us / 1e6);
    let milliseconds = |us: f64| us / 1e3;
    let mut rows = Vec::new();
    let mut add = |work: &str, note: &str, unit: (&str, &str), of_us: &dyn Fn(f64) -> f64| {
        for (who, prefix) in [(OURS, "mount"), (GOBLIN, "goblin_mount")] {
            let ours = of(who, work).with_context(|| format!("{who} did not come to `{work}`"))?;
            for (peer, package) in PEERS {
                let Some(theirs) = of(peer, work) else { continue };
                let version = packages.iter().find(|known| known.name == package);
                let version = version.map_or("", |known| known.version.as_str());
                let name = if peer == LOCAL { "no server" } else { peer };
                rows.push(Row::new(
                    &format!("{prefix}_{work}_{}", unit.0),
                    unit.1,
                    of_us(ours),
                    format!("{name} {version}").trim_end(),
                    of_us(theirs),
                    note,
                ));
            }
        }
        anyhow::Ok(())
    };
    for (work, note) in WORKS {
        let note = format!("{note}; client and server together");
        add(work, &note, ("mi", "Mi instructions"), &instructions)?;
    }
    for (work, note) in FAR {
        add(work, note, ("ms", "ms"), &milliseconds)?;
    }
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(lines: &[&str]) -> Vec<String> {
        lines.iter().map(|line| (*line).to_owned()).collect()
    }

    #[test]
    fn a_peer_that_does_not_run_has_no_rows() {
        let mut lines = Vec::new();
        for server in [OURS, GOBLIN, "diod"] {
            lines.extend(WORKS.map(|(work, _)| format!("{server} {work} 4000000")));
            lines.extend(FAR.map(|(work, _)| format!("{server} {work} 5000")));
        }
        lines.push("absent nfs no such device".into());
        lines.push("failed samba tar_in: no".into());
        let rows = rows(&read(&lines).unwrap(), &[]).unwrap();
        assert_eq!(rows.len(), 2 * (WORKS.len() + FAR.len()));
        let far = rows.iter().find(|row| row.metric == "goblin_mount_tar_in_far_ms").unwrap();
        assert!((far.ours - 5.0).abs() < 1e-6, "{far:?}");
        assert!((rows[0].ours - 1000.0).abs() < 1e-6 && (rows[0].ratio - 1.0).abs() < 1e-6);
    }

    #[test]
    fn ours_has_to_come_to_its_end() {
        assert!(read(&said(&["absent ours refused"])).is_err());
        assert!(read(&said(&["failed ours tar_in: EIO"])).is_err());
        let half = read(&said(&["ours tar_in 5"])).unwrap();
        assert!(rows(&half, &[]).is_err());
        assert!(read(&said(&["diod tar_in much"])).is_err());
    }
}
