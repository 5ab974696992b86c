//! Mounts that this machine's relays hold: each relay keeps one small file while it runs.

use crate::relay::News;
use goblin_sys::files;
use serde::{Deserialize, Serialize};
use std::io;
use std::path::{Path, PathBuf};

/// Where relays keep their files.
pub const RUN: &str = "/run/goblin-mounts";
/// Longest file in bytes.
const FILE_BYTES_MAX: usize = 64 * 1024;
/// Files looked at.
const FILES_MAX: usize = 1024;

/// What carries a mount.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Way {
    /// The kernel's client over a relay of ours.
    #[default]
    Relay,
    /// The kernel alone.
    Direct,
    /// A program of ours, by FUSE.
    Fuse,
}

/// One mount.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MountRecord {
    /// The relay's process.
    pub pid: u32,
    /// What carries it.
    #[serde(default)]
    pub way: Way,
    /// The box, as this PC calls it.
    pub the_box: String,
    /// The share.
    pub share: String,
    /// Where it is mounted.
    pub target: PathBuf,
    /// True while the box answers.
    pub connected: bool,
    /// Times the connection was lost and made again.
    pub reconnects: u32,
    /// Open files that could not be carried over.
    pub lost_files: u64,
    /// One sentence where something is wrong.
    pub problem: Option<String>,
}

/// The file of this process; removed when dropped.
#[derive(Debug)]
pub struct MountFile {
    path: PathBuf,
    record: MountRecord,
}

impl MountFile {
    /// Writes the first one.
    ///
    /// # Errors
    /// The file system's.
    pub fn new(folder: &Path, record: MountRecord) -> io::Result<Self> {
        std::fs::create_dir_all(folder)?;
        let file = Self { path: folder.join(format!("{}.json", record.pid)), record };
        file.write()?;
        Ok(file)
    }

    fn write(&self) -> io::Result<()> {
        files::replace_volatile(&self.path, &serde_json::to_vec(&self.record)?, 0o644)
    }

    /// Keeps the file of a mount that the kernel alone carries; there is no process to remove it.
    ///
    /// # Errors
    /// The file system's.
    pub fn keep_direct(folder: &Path, record: &MountRecord) -> io::Result<()> {
        std::fs::create_dir_all(folder)?;
        let path = folder.join(format!("direct-{}.json", record.pid));
        files::replace_volatile(&path, &serde_json::to_vec(record)?, 0o644)
    }

    /// Writes down what happened.
    ///
    /// # Errors
    /// The file system's; the old file stays.
    pub fn note(&mut self, news: &News) -> io::Result<()> {
        let record = &mut self.record;
        match news {
            News::Back { lost_files } => {
                record.connected = true;
                record.problem = None;
                record.reconnects = record.reconnects.saturating_add(1);
                let lost = u64::try_from(*lost_files).unwrap_or(u64::MAX);
                record.lost_files = record.lost_files.saturating_add(lost);
            }
            News::Away { reason } => {
                record.connected = false;
                record.problem = Some(format!("{reason}; calls wait for the box"));
            }
            News::GaveUp { reason } => {
                record.connected = false;
                record.problem = Some(format!("calls fail until the box is back: {reason}"));
            }
        }
        self.write()
    }
}

impl Drop for MountFile {
    fn drop(&mut self) {
        // A file that stays behind names a process that is gone, and is not shown.
        let _ = std::fs::remove_file(&self.path);
    }
}

/// The mounts of this machine whose relays run, by target.
///
/// # Errors
/// The file system's.
pub fn list(folder: &Path) -> io::Result<Vec<MountRecord>> {
    let entries = match std::fs::read_dir(folder) {
        Err(err) if err.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other?,
    };
    let mut found = Vec::new();
    for entry in entries.take(FILES_MAX) {
        let path = entry?.path();
        let Ok(bytes) = files::read_bounded(&path, FILE_BYTES_MAX) else { continue };
        let Ok(record) = serde_json::from_slice::<MountRecord>(&bytes) else { continue };
        let lives = match record.way {
            Way::Direct => is_mounted(&record),
            Way::Relay | Way::Fuse => Path::new("/proc").join(record.pid.to_string()).exists(),
        };
        if lives {
            found.push(record);
        } else if record.way == Way::Direct {
            // Whoever may not remove it does not see it either.
            let _ = std::fs::remove_file(&path);
        }
    }
    found.sort_by(|a, b| a.target.cmp(&b.target));
    Ok(found)
}

fn is_mounted(record: &MountRecord) -> bool {
    let source = format!("{}:{}", record.the_box, record.share);
    goblin_sys::mount::mount_at(&record.target)
        .ok()
        .flatten()
        .is_some_and(|mount| mount.fs_type == "9p" && mount.source == Path::new(&source))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mount_is_listed_while_its_relay_runs() {
        let dir = tempfile::tempdir().unwrap();
        let record = MountRecord {
            pid: std::process::id(),
            way: Way::Relay,
            the_box: "attic".into(),
            share: "home".into(),
            target: "/mnt".into(),
            connected: true,
            reconnects: 0,
            lost_files: 0,
            problem: None,
        };
        let mut file = MountFile::new(dir.path(), record.clone()).unwrap();
        file.note(&News::Away { reason: "cut".into() }).unwrap();
        assert!(!list(dir.path()).unwrap()[0].connected);
        file.note(&News::Back { lost_files: 2 }).unwrap();
        let seen = list(dir.path()).unwrap().remove(0);
        assert_eq!((seen.connected, seen.reconnects, seen.lost_files), (true, 1, 2));
        drop(file);
        // Nothing is mounted there: what says so is not believed, and goes.
        let gone = MountRecord { way: Way::Direct, ..record };
        MountFile::keep_direct(dir.path(), &gone).unwrap();
        assert!(list(dir.path()).unwrap().is_empty());
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
        assert!(list(&dir.path().join("absent")).unwrap().is_empty());
    }
}
