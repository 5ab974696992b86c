//! What scenarios share: the release under test, built once, and folders with short paths.

use anyhow::{Context, Result};
use goblin_core_types::{BoardStatus, BoxStatus, Role, Version, paths};
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};
use xtask::image::Addition;
use xtask::lab;
use xtask::release::{self, ReleaseSpec};

/// Two cores carry two boards and a client, not more: scenarios take turns.
static TURN: Mutex<()> = Mutex::new(());

/// Waits for this scenario's turn.
pub fn turn() -> MutexGuard<'static, ()> {
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A fresh folder for one scenario.
pub fn folder(name: &str) -> Result<PathBuf> {
    let dir = xtask::host::target("e2e")?.join(name);
    if dir.exists() {
        std::fs::remove_dir_all(&dir).with_context(|| format!("cannot clear {}", dir.display()))?;
    }
    std::fs::create_dir_all(&dir)?;
    Ok(dir)
}

/// A file of the base.
pub fn addition(path: &str, mode: u16, bytes: impl Into<Vec<u8>>) -> Addition {
    Addition { path: path.into(), mode, bytes: bytes.into() }
}

/// A unit's file.
pub fn unit_file(name: &str, text: impl Into<Vec<u8>>) -> Addition {
    addition(&format!("{}/{name}.toml", paths::UNITS), 0o644, text)
}

/// Publishes a release into a repository.
pub fn publish(
    repository: &std::path::Path,
    version: u32,
    additions: Vec<Addition>,
) -> Result<release::BuiltRelease> {
    let mut spec = ReleaseSpec::new(Version::new(version, 0, 0), format!("test release {version}"));
    spec.additions = additions;
    release::publish(&spec, repository)
}

/// A box with a repository that holds release 1.
pub fn lab_spec(dir: &std::path::Path) -> Result<(lab::LabSpec, lab::Ports)> {
    lab_spec_of(dir, Vec::new())
}

/// As [`lab_spec`], with files beside or in place of the release's own.
pub fn lab_spec_of(
    dir: &std::path::Path,
    additions: Vec<Addition>,
) -> Result<(lab::LabSpec, lab::Ports)> {
    let repository = dir.join("www");
    let built = publish(&repository, 1, additions)?;
    let ports = lab::Ports::of(dir)?;
    let spec = lab::LabSpec {
        dir: dir.into(),
        image: built.image,
        trust_root: release::trust_root(&repository)?,
        data_disk_bytes: 2 << 30,
        data_disks: 2,
        vnc: false,
        update_url: lab::guest_url(ports),
        box_name: "test box".into(),
    };
    Ok((spec, ports))
}

/// One board of a status.
pub fn board(status: &BoxStatus, role: Role) -> Option<&BoardStatus> {
    status.boards.iter().find(|board| board.role == Some(role))
}

/// Puts raw bytes where `flash` would put the provisioning file: whatever a torn write or a tired
/// person may leave there.
pub fn write_provision(spec: &lab::LabSpec, role: Role, bytes: &[u8]) -> Result<()> {
    use std::os::unix::fs::FileExt;
    let name = spec.image.to_string_lossy().replace(".img.zst", ".bmap.json");
    let map: goblin_image::disk::DiskMap = serde_json::from_slice(&std::fs::read(&name)?)?;
    let mut room = vec![b'\n'; usize::try_from(map.provision_len_bytes)?];
    room.get_mut(..bytes.len()).context("too long a file")?.copy_from_slice(bytes);
    let disk = std::fs::File::options().write(true).open(spec.disk(role))?;
    disk.write_all_at(&room, map.provision_offset_bytes)?;
    Ok(())
}
