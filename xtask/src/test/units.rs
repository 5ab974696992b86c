//! `cargo xtask test units`: the units of `goblin mount --print-unit` under a real systemd. A guest of Debian's kernel
//! and systemd is the PC and, in another unit, the box.

use crate::apt::Suite;
use crate::bench::machine::{self, Machine};
use crate::compile::{self, Lto};
use crate::debian_root::debian_root;
use crate::{client_guest, debian, host, setup};
use anyhow::{Context, Result, bail};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What systemd runs.
const SCRIPT: &str = include_str!("../../../tests/data/units.sh");
/// Loads modules first: systemd looks once whether there are automounts.
const START: &str = "#!/usr/bin/bash\nPATH=/usr/sbin:/usr/bin\nwhile read -r module; do insmod \"/modules/$module\"; \
    done < /modules/order\nexec /usr/lib/systemd/systemd\n";
/// How its lines begin.
const WORD: &str = "units: ";
const PACKAGES: &[&str] = &[
    "systemd",
    "base-files",
    "libc-bin",
    "bash",
    "coreutils",
    "grep",
    "sed",
    "mount",
    "kmod",
    "iproute2",
];
const UNIT: &str = "[Unit]\nDescription=Tries a share\nAfter=basic.target\nRequires=basic.target\n\n\
    [Service]\nType=oneshot\nTimeoutStartSec=infinity\nExecStart=/usr/bin/bash /try.sh\n";
const CMDLINE: &str = "console=ttyS0 rdinit=/init panic=-1 loglevel=3 \
    systemd.show_status=false systemd.log_level=warning";
const MEMORY_MIB: u32 = 2048;
/// Longest silence of the guest.
const LIMIT: Duration = Duration::from_secs(600);

/// `cargo xtask test units`
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  cargo xtask test units     five minutes and what is to be compiled\n\n\
    The guest's log is target/units/units.log. Exit status 1 when something failed."
)]
pub(super) struct Args {
    /// Install missing host packages without asking
    #[arg(long)]
    yes: bool,
}

pub(super) fn run(args: &Args) -> Result<()> {
    setup::ensure(setup::Purpose::Test, args.yes)?;
    let dir = host::target("units")?;
    let stock = debian::client_kernel(Suite::Trixie, &["autofs4"])?;
    let initramfs = guest(&dir, &stock)?;
    let log = dir.join("units.log");
    let machine = Machine {
        kernel: &stock.vmlinuz,
        initramfs: &initramfs,
        command_line: CMDLINE,
        memory_mib: MEMORY_MIB,
        processor: "max",
    };
    let (mut child, serial) = machine::start(&machine, &log)?;
    let mut from = 0;
    let mut seen = 0;
    let followed = loop {
        match serial.wait_from(from, WORD, LIMIT) {
            Ok((at, line)) => {
                from = at;
                let said = line.split_once(WORD).map_or("", |(_, said)| said).trim();
                if said == "end" {
                    break Ok(());
                }
                println!("{said}");
                if said.starts_with("failed") {
                    break Err(anyhow::anyhow!("{said}"));
                }
                seen += 1;
            }
            Err(err) => break Err(err),
        }
    };
    // What it knows of a failure comes after its word.
    if followed.is_err() {
        let _ = serial.wait_from(from, WORD, Duration::from_secs(60));
    }
    let _ = child.kill();
    let _ = child.wait();
    followed.with_context(|| format!("the guest's log is {}", log.display()))?;
    if seen == 0 {
        bail!("the guest said nothing; its log is {}", log.display());
    }
    println!("{seen} passed, 0 failed");
    Ok(())
}

fn guest(dir: &Path, stock: &debian::ClientKernel) -> Result<PathBuf> {
    let (mut root, _) = debian_root(PACKAGES)?;
    let serve_keys = compile::example("goblin-agent-share", "serve_keys")?;
    let units = "usr/lib/systemd/system";
    root.file("init", 0o755, START.into())
        .file("try.sh", 0o755, SCRIPT.into())
        .file("usr/bin/serve-keys", 0o755, host::read(&serve_keys)?)
        .file("usr/bin/goblin", 0o755, host::read(&compile::goblin(Lto::Off)?)?)
        .file(&format!("{units}/try.service"), 0o644, UNIT.into())
        .file(&format!("{units}/try.target"), 0o644, "[Unit]\nWants=try.service\n".into())
        .file("etc/machine-id", 0o444, b"0123456789abcdef0123456789abcdef\n".to_vec())
        .file("etc/passwd", 0o644, b"root:x:0:0:root:/root:/usr/bin/bash\n".to_vec())
        .file(
            "etc/group",
            0o644,
            b"root:x:0:\nadm:x:4:\ntty:x:5:\nutmp:x:43:\nsystemd-journal:x:997:\n".to_vec(),
        );
    root.link("etc/systemd/system/default.target", &format!("/{units}/try.target"));
    client_guest::add_modules(&mut root, stock)?;
    let path = dir.join("units.cpio");
    host::write_whole(&path, &root.pack()?)?;
    Ok(path)
}
