//! The guests: every init in the least that it naturally runs in.

use crate::apt::Package;
use crate::compile::{self, Lto};
use crate::debian_root::debian_root;
use crate::host;
use crate::initramfs::Initramfs;
use anyhow::Result;
use std::fmt::Write;
use std::path::{Path, PathBuf};

/// The guest without an init.
pub(super) const FLOOR: &str = "floor";
/// Further words of the command line: every guest starts as the same program.
pub(super) const APPEND: &str = "rdinit=/usr/lib/bench/guest";
/// That program; each service is it too.
const PROGRAM: &str = "/usr/lib/bench/guest";
/// What it becomes.
const INIT: &str = "usr/lib/bench/init";
/// Each service, and those that must be ready before it; the names are the program's.
const SERVICES: [(&str, &[&str]); 12] = [
    ("a", &[]),
    ("b", &[]),
    ("c", &["a"]),
    ("d", &["b"]),
    ("e", &[]),
    ("f", &[]),
    ("g", &[]),
    ("h", &["c", "d"]),
    ("i", &[]),
    ("j", &[]),
    ("k", &[]),
    ("l", &["h"]),
];

/// A guest to measure.
#[derive(Debug)]
pub(super) struct Guest {
    pub(super) name: String,
    pub(super) initramfs: PathBuf,
    /// What its configuration is.
    pub(super) note: String,
}

/// Ours, and those beside it.
pub(super) fn guests(dir: &Path) -> Result<(Guest, Vec<Guest>)> {
    let make = |name: &str, note: String, mut root: Initramfs, init: &str| -> Result<Guest> {
        root.file(PROGRAM.trim_start_matches('/'), 0o755, program()?);
        root.file(INIT, 0o644, init.into());
        let path = dir.join(format!("init-{name}.cpio"));
        host::write_whole(&path, &root.pack()?)?;
        Ok(Guest { name: name.into(), initramfs: path, note })
    };
    let ours = make("goblinux", String::new(), ours()?, "GOBLIN_MOUNTED=1 /usr/lib/goblin/init")?;
    let floor = make(FLOOR, "kernel and services, nothing supervised".into(), bare(), "floor")?;
    let systemd = "/usr/lib/systemd/systemd";
    let (root, version) = systemd_root(Defaults::Kept)?;
    let note = format!("systemd {version}, no udev, no bus; Type=notify, all else by default");
    let whole = make("systemd", note, root, systemd)?;
    let (root, version) = systemd_root(Defaults::Off)?;
    let note =
        format!("systemd {version}, DefaultDependencies=no: neither journal nor basic.target");
    let bare = make("systemd-bare", note, root, systemd)?;
    let (root, version) = runit()?;
    let note = format!(
        "runit {version}; no readiness but `sv start` in run scripts that wait for others, \
         no shell in the rest, no loggers"
    );
    let runit = make("runit", note, root, "/usr/sbin/runit")?;
    let (root, version) = s6()?;
    let note = format!(
        "s6-svscan {version} as PID 1 (Debian has neither s6-rc nor s6-linux-init nor dinit); \
         notification-fd, `s6-svwait -U` where others are waited for, no loggers"
    );
    let s6 = make("s6", note, root, "READY_FD=3 /usr/bin/s6-svscan /etc/service")?;
    Ok((ours, vec![floor, whole, bare, runit, s6]))
}

fn program() -> Result<Vec<u8>> {
    host::read(&compile::test_binaries()?.bench_guest)
}

fn bare() -> Initramfs {
    let mut root = Initramfs::default();
    for name in ["dev", "proc", "sys", "run", "tmp"] {
        root.dir(name);
    }
    root
}

/// PID 1 as published, with nothing but the units.
fn ours() -> Result<Initramfs> {
    let mut root = bare();
    root.file("usr/lib/goblin/init", 0o755, host::read(&compile::init(Lto::Fat)?)?);
    for (name, needs) in SERVICES {
        let unit = format!(
            "description = \"Service {name}\"\nkind = \"service\"\n\
             exec = [\"{PROGRAM}\", \"serve\", \"{name}\"]\nrequires = {needs:?}\n\
             backoff_ms = [200, 200]\n"
        );
        root.file(&format!("usr/lib/goblin/units/{name}.toml"), 0o644, unit.into());
    }
    Ok(root)
}

/// Whether services of systemd wait for what it starts by default.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Defaults {
    Kept,
    Off,
}

fn systemd_root(defaults: Defaults) -> Result<(Initramfs, String)> {
    let (mut root, packages) = debian_root(&["systemd", "base-files", "libc-bin"])?;
    let units = "usr/lib/systemd/system";
    let mut target = String::from("[Unit]\n");
    if defaults == Defaults::Off {
        target.push_str("DefaultDependencies=no\n");
    }
    for (name, needs) in SERVICES {
        writeln!(target, "Requires={name}.service\nAfter={name}.service")?;
        let mut unit = format!("[Unit]\nDescription=Service {name}\n");
        if defaults == Defaults::Off {
            unit.push_str("DefaultDependencies=no\n");
        }
        for need in needs {
            writeln!(unit, "Requires={need}.service\nAfter={need}.service")?;
        }
        // Bursts of restarts are what is measured.
        writeln!(unit, "StartLimitIntervalSec=0\n[Service]\nType=notify\nRestart=always")?;
        writeln!(unit, "ExecStart={PROGRAM} serve {name}")?;
        root.file(&format!("{units}/{name}.service"), 0o644, unit.into());
    }
    root.file(&format!("{units}/bench.target"), 0o644, target.into());
    root.link("etc/systemd/system/default.target", &format!("/{units}/bench.target"));
    root.file("etc/machine-id", 0o444, b"0123456789abcdef0123456789abcdef\n".to_vec());
    root.file("etc/passwd", 0o644, b"root:x:0:0:root:/root:/bin/sh\n".to_vec());
    let group = "root:x:0:\nadm:x:4:\ntty:x:5:\nutmp:x:43:\nsystemd-journal:x:997:\n";
    root.file("etc/group", 0o644, group.into());
    // An installed system is not built up at each start.
    let updated = "TIMESTAMP_NSEC=1767225600000000000\n";
    root.file("etc/.updated", 0o644, updated.into());
    root.file("var/.updated", 0o644, updated.into());
    Ok((root, version(&packages, "systemd")))
}

fn runit() -> Result<(Initramfs, String)> {
    let (mut root, packages) = debian_root(&["runit", "dash", "base-files"])?;
    root.link("usr/bin/sh", "dash");
    // What a first stage does was done before; the program does nothing without words.
    root.link("etc/runit/1", PROGRAM);
    let stage = "#!/bin/sh\nPATH=/usr/sbin:/usr/bin exec runsvdir -P /etc/service\n";
    root.file("etc/runit/2", 0o755, stage.into());
    for (name, needs) in SERVICES {
        let waits: String =
            needs.iter().map(|need| format!("sv start {need} >/dev/null || exit 1\n")).collect();
        let script =
            format!("#!/bin/sh\nexport SVDIR=/etc/service\n{waits}exec {PROGRAM} serve {name}\n");
        service(&mut root, name, needs, script);
    }
    Ok((root, version(&packages, "runit")))
}

fn s6() -> Result<(Initramfs, String)> {
    let (mut root, packages) = debian_root(&["s6", "execline", "base-files"])?;
    for (name, needs) in SERVICES {
        let waits: String = needs
            .iter()
            .map(|need| format!("foreground {{ s6-svwait -U /etc/service/{need} }}\n"))
            .collect();
        let script = format!("#!/usr/bin/execlineb -P\n{waits}{PROGRAM} serve {name}\n");
        service(&mut root, name, needs, script);
        root.file(&format!("etc/service/{name}/notification-fd"), 0o644, b"3\n".to_vec());
    }
    Ok((root, version(&packages, "s6")))
}

/// A service directory of runit's or s6's; one that waits for nobody needs no script.
fn service(root: &mut Initramfs, name: &str, needs: &[&str], script: String) {
    let dir = format!("etc/service/{name}");
    root.dir(&dir);
    let run = if needs.is_empty() { format!("#!{PROGRAM} {name}\n") } else { script };
    root.file(&format!("{dir}/run"), 0o755, run.into());
}

fn version(packages: &[Package], name: &str) -> String {
    let found = packages.iter().find(|package| package.name == name);
    found.map_or_else(|| "?".into(), |package| package.version.clone())
}
