//! The client PC of the demonstration: Debian's stock kernel, its 9p modules, and one static program.

use crate::apt::Suite;
use crate::compile::{self, Lto};
use crate::initramfs::Initramfs;
use crate::{debian, host};
use anyhow::{Context, Result};
use goblin_tests::client::{ClientSpec, GOBLIN};
use std::path::Path;

/// Memory of the client guest in MiB.
const CLIENT_MEMORY_MIB: u32 = 768;

/// Makes the guest's initramfs and says how to start it; `source` is shown to it read-only.
///
/// # Errors
/// When Debian's kernel cannot be fetched or the program cannot be built.
pub fn spec(source: &Path, dir: &Path) -> Result<ClientSpec> {
    on(
        &Place { source, dir, name: "client", memory_mib: CLIENT_MEMORY_MIB },
        Suite::Host,
        Initramfs::default(),
    )
}

/// Where a client guest lives on the host, and how large it is.
#[derive(Debug, Clone, Copy)]
pub struct Place<'a> {
    /// Folder shown to it read-only.
    pub source: &'a Path,
    /// Folder for sockets and logs.
    pub dir: &'a Path,
    /// Name for sockets and logs.
    pub name: &'a str,
    /// Memory in MiB.
    pub memory_mib: u32,
}

/// As [`spec`], with the kernel of another Debian release and on a root that holds more programs.
///
/// # Errors
/// As [`spec`].
pub fn on(place: &Place<'_>, suite: Suite, root: Initramfs) -> Result<ClientSpec> {
    let Place { source, dir, name, memory_mib } = *place;
    let kernel = debian::client_kernel(suite, &[])?;
    let programs = compile::test_binaries()?;
    let shown = dir.join(format!("{name}.input"));
    let _ = std::fs::remove_file(&shown);
    // QEMU's options take no name with a comma, or that is not UTF-8: it gets a plain name instead.
    std::os::unix::fs::symlink(source, &shown)
        .with_context(|| format!("cannot make {}", shown.display()))?;
    let initramfs = dir.join(format!("{name}.cpio"));
    let goblin = compile::goblin(Lto::Off)?;
    host::write_whole(&initramfs, &archive(root, &programs.client_init, &goblin, &kernel)?)?;
    Ok(ClientSpec {
        kernel: kernel.vmlinuz,
        initramfs,
        source: shown,
        dir: dir.into(),
        name: name.into(),
        memory_mib,
    })
}

fn archive(
    mut initramfs: Initramfs,
    init: &Path,
    goblin: &Path,
    kernel: &debian::ClientKernel,
) -> Result<Vec<u8>> {
    for dir in ["dev", "etc", "proc", "run", "sys", "tmp", "modules"] {
        initramfs.dir(dir);
    }
    initramfs.file("init", 0o755, host::read(init)?);
    initramfs.file(GOBLIN.trim_start_matches('/'), 0o755, host::read(goblin)?);
    add_modules(&mut initramfs, kernel)?;
    initramfs.pack()
}

/// Adds a kernel's modules as `/modules`, with `/modules/order`: their names in the order to load them, one a line.
///
/// # Errors
/// When one cannot be read.
pub fn add_modules(initramfs: &mut Initramfs, kernel: &debian::ClientKernel) -> Result<()> {
    let mut order = String::new();
    for module in &kernel.modules {
        let name = module.file_name().context("a module has no name")?.to_string_lossy();
        order.push_str(&name);
        order.push('\n');
        initramfs.file(&format!("modules/{name}"), 0o644, host::read(module)?);
    }
    initramfs.file("modules/order", 0o644, order.into_bytes());
    Ok(())
}
