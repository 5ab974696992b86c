//! Which accelerator virtual machines use: KVM where a guest really starts under it, else emulation.
//!
//! That `/dev/kvm` is there says little: under a host that is itself a guest, a machine may hang before its
//! first line. So the boards' kernel is started once with PID 1 alone, and its first words are waited for.
//! The answer holds until the host starts again.

use crate::initramfs::Initramfs;
use crate::{compile, host, kernel};
use anyhow::{Context, Result};
use goblin_tests::qemu::{self, ACCEL_OVERRIDE, TCG};
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::path::Path;
use std::sync::Once;
use std::time::Duration;

const KVM: &str = "/dev/kvm";
/// A guest under KVM says its first words within a second.
const PROBE_LIMIT: Duration = Duration::from_secs(10);
/// Longest that a killed QEMU may take to go; one that hangs in the kernel is left behind.
const END_LIMIT: Duration = Duration::from_secs(3);
/// PID 1's first words.
const FIRST_WORDS: &str = "goblin-init: start";

/// What a probe found, in `target/accel.json`.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Probed {
    /// The host's boot id: another one makes the answer void.
    boot_id: String,
    works: bool,
}

/// Finds out, tells, and sets it for every machine that this process starts.
///
/// # Errors
/// When what the probe boots cannot be built.
pub fn settle() -> Result<()> {
    static ONCE: Once = Once::new();
    let mut result = Ok(());
    ONCE.call_once(|| result = choose());
    result
}

fn choose() -> Result<()> {
    if let Ok(named) = std::env::var(ACCEL_OVERRIDE)
        && !named.is_empty()
    {
        host::say(format!("virtual machines: {named} ({ACCEL_OVERRIDE})"));
        return Ok(());
    }
    let (accel, why) = match File::options().read(true).write(true).open(KVM) {
        Err(err) if err.kind() == std::io::ErrorKind::NotFound => (TCG, format!("no {KVM}")),
        Err(err) => (TCG, format!("{KVM}: {err}; members of the group kvm may use it")),
        Ok(_) if works()? => ("kvm", "a guest starts under it".into()),
        Ok(_) => {
            let limit = PROBE_LIMIT.as_secs();
            (TCG, format!("{KVM} is there, but no guest started under it within {limit} s"))
        }
    };
    qemu::set_accelerator(accel);
    let name = if accel == TCG { "emulation (slow)" } else { accel };
    host::say(format!("virtual machines: {name}: {why}; {ACCEL_OVERRIDE} overrides"));
    Ok(())
}

/// The remembered answer, or a new one.
fn works() -> Result<bool> {
    let boot_id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id")
        .context("cannot read the host's boot id")?;
    let path = host::target("")?.join("accel.json");
    let known = std::fs::read(&path).ok().and_then(|text| serde_json::from_slice(&text).ok());
    if let Some(Probed { boot_id: then, works }) = known
        && then == boot_id
    {
        return Ok(works);
    }
    host::say(format!("trying KVM (once, {} s at most)", PROBE_LIMIT.as_secs()));
    let kernel = kernel::bzimage()?;
    let init = compile::binaries(compile::Lto::Off)?.init;
    let dir = tempfile::tempdir_in(host::target("tmp")?).context("cannot write into target/tmp")?;
    let mut initramfs = Initramfs::default();
    initramfs.dir("dev").dir("proc").dir("sys").dir("run");
    initramfs.file("init", 0o755, host::read(&init)?);
    let archive = dir.path().join("probe.cpio");
    host::write_whole(&archive, &initramfs.pack()?)?;
    let works = starts("kvm", &kernel, &archive, &dir.path().join("probe.log"))?;
    host::write_whole(&path, &serde_json::to_vec(&Probed { boot_id, works })?)?;
    Ok(works)
}

/// True when a guest comes as far as PID 1.
fn starts(accel: &str, kernel: &Path, archive: &Path, log: &Path) -> Result<bool> {
    let mut args = qemu::accelerator_options(accel);
    args.extend(
        "-nodefaults -no-user-config -display none -M q35 -smp 2 -m 512 -serial stdio -no-reboot"
            .split(' ')
            .map(String::from),
    );
    for (key, value) in [("-kernel", kernel), ("-initrd", archive)] {
        args.extend([key.to_owned(), value.display().to_string()]);
    }
    args.extend(["-append".into(), "console=ttyS0 rdinit=/init panic=-1 loglevel=4".into()]);
    let (mut child, serial) = qemu::spawn(&args, log)?;
    let said = serial.wait_from(0, FIRST_WORDS, PROBE_LIMIT).is_ok();
    let _ = child.kill();
    if !qemu::exits_within(&mut child, END_LIMIT) {
        host::warn(format!("QEMU {} does not end: the kernel holds it", child.id()));
    }
    Ok(said)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_that_never_speaks_is_no_answer() {
        let dir = tempfile::tempdir().unwrap();
        let absent = dir.path().join("absent");
        let log = dir.path().join("log");
        // QEMU refuses at once, or is not installed: neither may wait or fail the caller's work.
        if let Ok(works) = starts("no-such-accelerator", &absent, &absent, &log) {
            assert!(!works);
        }
    }
}
