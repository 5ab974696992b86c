//! The guests that ours is measured beside.

use crate::debian_root::debian_root;
use crate::initramfs::Initramfs;
use crate::{compile, host};
use anyhow::Result;
use std::path::{Path, PathBuf};

/// Debian's PID 1 with what a machine has at least: devices, journal, bus, a login prompt.
const PACKAGES: &[&str] =
    &["systemd", "udev", "dbus", "base-files", "base-passwd", "util-linux", "libc-bin"];
/// The last unit of the boot.
const READY_UNIT: &str = "[Unit]\nAfter=multi-user.target\n[Service]\nType=oneshot\n\
                          ExecStart=/usr/lib/print-only --once\n";
const READY_TARGET: &str = "[Unit]\nRequires=multi-user.target goblin-ready.service\n\
                            After=multi-user.target\n";
/// Says that /etc and /var are as new as /usr (systemd.unit(5), `ConditionNeedsUpdate=`).
const UPDATED: &str = "TIMESTAMP_NSEC=1767225600000000000\n";
/// Users and groups that the packages' maintainer scripts would make: those do not run here.
const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\nmessagebus:x:100:100::/:/usr/sbin/nologin\n\
                      systemd-network:x:998:998::/:/usr/sbin/nologin\n";
const GROUP: &str = "root:x:0:\nadm:x:4:\nmessagebus:x:100:\ntty:x:5:\ndisk:x:6:\nlp:x:7:\nkmem:x:15:\n\
                     dialout:x:20:\ncdrom:x:24:\ntape:x:26:\nutmp:x:43:\naudio:x:29:\nvideo:x:44:\n\
                     input:x:101:\nsgx:x:102:\nkvm:x:103:\nrender:x:104:\nclock:x:105:\n\
                     systemd-journal:x:997:\nsystemd-network:x:998:\n";

/// The smallest PID 1.
pub(super) fn print_only(dir: &Path) -> Result<PathBuf> {
    let mut initramfs = Initramfs::default();
    initramfs.dir("dev").file("init", 0o755, program()?);
    write(dir, "print-only", &mut initramfs)
}

/// Debian's systemd on a minimal root.
pub(super) fn systemd(dir: &Path) -> Result<PathBuf> {
    let mut initramfs = debian_root(PACKAGES)?.0;
    let units = "usr/lib/systemd/system";
    initramfs
        .file("etc/passwd", 0o644, PASSWD.into())
        .file("etc/group", 0o644, GROUP.into())
        .file("etc/machine-id", 0o444, b"0123456789abcdef0123456789abcdef\n".to_vec())
        // An installed system is not built up at each start: hardware database, catalogues, linker cache.
        .file("etc/.updated", 0o644, UPDATED.into())
        .file("var/.updated", 0o644, UPDATED.into())
        .file("usr/lib/print-only", 0o755, program()?)
        .file(&format!("{units}/goblin-ready.service"), 0o644, READY_UNIT.into())
        .file(&format!("{units}/goblin-ready.target"), 0o644, READY_TARGET.into())
        .link("etc/systemd/system/default.target", &format!("/{units}/goblin-ready.target"));
    write(dir, "systemd", &mut initramfs)
}

fn program() -> Result<Vec<u8>> {
    host::read(&compile::test_binaries()?.print_only_init)
}

fn write(dir: &Path, name: &str, initramfs: &mut Initramfs) -> Result<PathBuf> {
    let path = dir.join(format!("{name}.cpio"));
    host::write_whole(&path, &initramfs.pack()?)?;
    Ok(path)
}
