//! What scenarios share: the release under test, built once, and folders with short paths.

use anyhow::{Context, Result};
use goblin_core_types::{BoardStatus, BoxStatus, LinkState, Role, Version, paths};
use goblin_tests::channel::Channel;
use goblin_tests::qemu::{Board, LINK_DEVICE};
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use xtask::image::Addition;
use xtask::lab;
use xtask::release::{self, ReleaseSpec};

/// Longest until a board misses the other one.
const LINK_LIMIT: Duration = Duration::from_secs(120);

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
    let built = publish(&dir.join("www"), 1, additions)?;
    lab_spec_from(dir, built.image)
}

/// A box that is flashed with an image of the repository in its folder.
pub fn lab_spec_from(dir: &std::path::Path, image: PathBuf) -> Result<(lab::LabSpec, lab::Ports)> {
    let ports = lab::Ports::of(dir)?;
    let spec = lab::LabSpec {
        dir: dir.into(),
        image,
        trust_root: release::trust_root(&dir.join("www"))?,
        data_disk_bytes: 2 << 30,
        data_disks: 2,
        vnc: false,
        update_url: lab::guest_url(ports),
        box_name: "test box".into(),
    };
    Ok((spec, ports))
}

/// Copies a folder and all below it.
pub fn copy_folder(from: &std::path::Path, to: &std::path::Path) -> Result<()> {
    std::fs::create_dir(to)?;
    for entry in std::fs::read_dir(from).with_context(|| from.display().to_string())? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_folder(&entry.path(), &target)?;
        } else {
            std::fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}

/// The cable between the boards out, until that is noticed, and in again.
pub fn pull_cable(compute: &mut Board, storage: &mut Board, channel: &Channel) -> Result<()> {
    for board in [&mut *compute, &mut *storage] {
        board.qmp().set_cable(LINK_DEVICE, false)?;
    }
    channel.wait_status("the link is lost", LINK_LIMIT, &mut |status| {
        board(status, Role::Compute).is_some_and(|board| board.link.state == LinkState::Lost)
    })?;
    for board in [compute, storage] {
        board.qmp().set_cable(LINK_DEVICE, true)?;
    }
    Ok(())
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
