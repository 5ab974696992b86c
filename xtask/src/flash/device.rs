//! Disks of the host: what they are, and whether they may be written.

use anyhow::{Context, Result, bail};
use std::fs::{File, OpenOptions};
use std::io::{Seek, SeekFrom};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// True for a block device; false for a file, or where nothing is yet.
pub(super) fn is_block(path: &Path) -> Result<bool> {
    match std::fs::metadata(path) {
        Ok(found) if found.file_type().is_block_device() => Ok(true),
        Ok(found) if found.is_file() => Ok(false),
        Ok(_) => bail!("{} is neither a disk nor a file", path.display()),
        Err(err) if err.kind() == std::io::ErrorKind::NotFound => {
            if path.starts_with("/dev") {
                bail!("there is no {}; `lsblk` lists the disks", path.display());
            }
            Ok(false)
        }
        Err(err) => Err(err).with_context(|| format!("cannot read {}", path.display())),
    }
}

/// The kernel's folder about a block device.
fn about(path: &Path) -> Result<PathBuf> {
    let number =
        std::fs::metadata(path).with_context(|| format!("cannot read {}", path.display()))?.rdev();
    let (major, minor) = (rustix::fs::major(number), rustix::fs::minor(number));
    let link = format!("/sys/dev/block/{major}:{minor}");
    Path::new(&link).canonicalize().with_context(|| format!("the kernel has no {link}"))
}

/// One line about a disk; refuses a partition, a write-protected disk and one in use.
pub(super) fn describe(path: &Path) -> Result<String> {
    let folder = about(path)?;
    let text = |name: &str| {
        let read = std::fs::read_to_string(folder.join(name)).unwrap_or_default();
        read.trim().to_owned()
    };
    if folder.join("partition").exists() {
        bail!("{} is a partition; name the whole disk", path.display());
    }
    if text("ro") == "1" {
        bail!("{} is write-protected", path.display());
    }
    let users = mounted(&folder)?;
    if !users.is_empty() {
        bail!("{} is in use: {}; unmount it first", path.display(), users.join(", "));
    }
    let sectors: u64 = text("size").parse().unwrap_or(0);
    let mut line = format!("{} ({:.1} GB", path.display(), sectors as f64 * 512.0 / 1e9);
    for (label, value) in [
        ("", [text("device/vendor"), text("device/model")].join(" ")),
        ("serial ", [text("device/serial"), text("serial")].concat()),
    ] {
        let value = value.trim();
        if !value.is_empty() {
            line.push_str(&format!(", {label}{value}"));
        }
    }
    line.push(')');
    Ok(line)
}

/// Where the disk or one of its partitions is mounted, or what else holds it.
fn mounted(folder: &Path) -> Result<Vec<String>> {
    let mut parts = vec![folder.to_path_buf()];
    let list = || format!("cannot list {}", folder.display());
    for entry in std::fs::read_dir(folder).with_context(list)? {
        let path = entry.with_context(list)?.path();
        if path.join("partition").exists() {
            parts.push(path);
        }
    }
    let mounts =
        std::fs::read_to_string("/proc/self/mountinfo").context("cannot read the mount table")?;
    let swaps = std::fs::read_to_string("/proc/swaps").unwrap_or_default();
    let mut users = Vec::new();
    for part in parts {
        let number = std::fs::read_to_string(part.join("dev")).unwrap_or_default();
        let name = part.file_name().unwrap_or_default().to_string_lossy().into_owned();
        // mountinfo (proc(5)): id, parent, major:minor, root, mount point.
        users.extend(mounts.lines().filter_map(|line| {
            let mut fields = line.split(' ').skip(2);
            (fields.next()? == number.trim()).then(|| fields.nth(1).map(str::to_owned))?
        }));
        if swaps.lines().any(|line| line.starts_with(&format!("/dev/{name} "))) {
            users.push("swap".into());
        }
        if let Ok(holders) = std::fs::read_dir(part.join("holders")) {
            users.extend(holders.flatten().map(|h| h.file_name().to_string_lossy().into_owned()));
        }
    }
    Ok(users)
}

/// Opens a disk for writing, for this process alone.
pub(super) fn open(path: &Path) -> Result<File> {
    // O_EXCL on a block device: EBUSY while it or a partition of it is mounted or held (open(2)).
    let exclusive = i32::try_from(rustix::fs::OFlags::EXCL.bits()).unwrap_or(0);
    OpenOptions::new().read(true).write(true).custom_flags(exclusive).open(path).with_context(
        || format!("cannot open {} for writing: are you root, and is it unused?", path.display()),
    )
}

/// Size of a disk or file in bytes.
pub(super) fn size(mut disk: &File) -> Result<u64> {
    let end = disk.seek(SeekFrom::End(0))?;
    disk.rewind()?;
    Ok(end)
}
