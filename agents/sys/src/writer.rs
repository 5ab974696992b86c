//! Changes of files through one hand, which counts them and tells a witness of each.
//!
//! Whoever must say how much a disk was written, or prove in which order things became durable, changes
//! files through a [`Writer`]. Counted is what the program asks for; what a file system writes beside it,
//! tables and directories, is not.

use crate::files;
use std::fmt::Debug;
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// One change, or one wait for the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change<'a> {
    /// A file was made, or emptied.
    Create(&'a Path),
    /// A folder was made.
    CreateFolder(&'a Path),
    /// Bytes were written at an offset of a file or device.
    Write(&'a Path, u64, &'a [u8]),
    /// A name was moved, over what had it.
    Rename(&'a Path, &'a Path),
    /// A name was removed.
    Remove(&'a Path),
    /// A file is on the disk, with its place and size.
    SyncFile(&'a Path),
    /// The names of a folder are on the disk.
    SyncFolder(&'a Path),
    /// All of a file system is on the disk.
    SyncAll(&'a Path),
}

/// Who is told of each change once it was made.
pub trait Witness: Debug + Send + Sync {
    /// Something changed.
    fn saw(&self, change: Change<'_>);
}

/// What a [`Writer`] wrote so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Changes of content and names.
    pub changes: u64,
    /// Bytes of contents.
    pub bytes: u64,
    /// Waits for the disk.
    pub syncs: u64,
}

/// Makes changes; its copies count together.
#[derive(Debug, Clone, Default)]
pub struct Writer(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    changes: AtomicU64,
    bytes: AtomicU64,
    syncs: AtomicU64,
    witness: Option<Arc<dyn Witness>>,
}

impl Writer {
    /// A writer that tells `witness`.
    pub fn watched(witness: Arc<dyn Witness>) -> Self {
        Self(Arc::new(Inner { witness: Some(witness), ..Inner::default() }))
    }

    /// What was written since it was made.
    pub fn counts(&self) -> Counts {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let Inner { changes, bytes, syncs, .. } = &*self.0;
        Counts { changes: read(changes), bytes: read(bytes), syncs: read(syncs) }
    }

    /// Counts a change that somebody else made, and tells of it.
    pub(crate) fn note(&self, change: Change<'_>) {
        let Inner { changes, bytes, syncs, witness } = &*self.0;
        match change {
            Change::Create(_)
            | Change::CreateFolder(_)
            | Change::Rename(..)
            | Change::Remove(_) => {
                changes.fetch_add(1, Ordering::Relaxed);
            }
            Change::Write(_, _, piece) => {
                changes.fetch_add(1, Ordering::Relaxed);
                bytes.fetch_add(u64::try_from(piece.len()).unwrap_or(u64::MAX), Ordering::Relaxed);
            }
            Change::SyncFile(_) | Change::SyncFolder(_) | Change::SyncAll(_) => {
                syncs.fetch_add(1, Ordering::Relaxed);
            }
        }
        if let Some(witness) = witness {
            witness.saw(change);
        }
    }

    /// Makes a file, or empties it.
    ///
    /// # Errors
    /// The file system's.
    pub fn create(&self, path: &Path) -> io::Result<Open> {
        let file = File::create(path)?;
        self.note(Change::Create(path));
        Ok(Open { file, path: path.into(), at: 0, writer: self.clone() })
    }

    /// Makes a folder of a FAT, and waits until the disk has its name.
    ///
    /// # Errors
    /// The file system's or the disk's.
    pub fn create_folder_whole(&self, path: &Path) -> io::Result<()> {
        std::fs::create_dir(path)?;
        self.note(Change::CreateFolder(path));
        self.keep_name(path)
    }

    /// Opens a file to write on from its end; made when absent.
    ///
    /// # Errors
    /// The file system's.
    pub fn append(&self, path: &Path) -> io::Result<Open> {
        let is_new = !path.exists();
        let file = File::options().create(true).append(true).open(path)?;
        if is_new {
            self.note(Change::Create(path));
        }
        let at = file.metadata()?.len();
        Ok(Open { file, path: path.into(), at, writer: self.clone() })
    }

    /// Moves a name.
    ///
    /// # Errors
    /// The file system's.
    pub fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        std::fs::rename(from, to)?;
        self.note(Change::Rename(from, to));
        Ok(())
    }

    /// Removes a file.
    ///
    /// # Errors
    /// The file system's.
    pub fn remove(&self, path: &Path) -> io::Result<()> {
        std::fs::remove_file(path)?;
        self.note(Change::Remove(path));
        Ok(())
    }

    /// Removes a folder with everything in it; links in it are not followed.
    ///
    /// # Errors
    /// The file system's; some of it may be gone.
    pub fn remove_tree(&self, path: &Path) -> io::Result<()> {
        std::fs::remove_dir_all(path)?;
        self.note(Change::Remove(path));
        Ok(())
    }

    /// Waits until a file is on the disk; `path` is its present name.
    ///
    /// # Errors
    /// The disk's.
    pub fn sync_file(&self, file: &File, path: &Path) -> io::Result<()> {
        file.sync_all()?;
        self.note(Change::SyncFile(path));
        Ok(())
    }

    /// Waits until the names of a folder are on the disk.
    ///
    /// # Errors
    /// The disk's.
    pub fn sync_folder(&self, path: &Path) -> io::Result<()> {
        File::open(path)?.sync_all()?;
        self.note(Change::SyncFolder(path));
        Ok(())
    }

    /// Waits until the whole file system of a folder is on the disk.
    ///
    /// # Errors
    /// The disk's.
    pub fn sync_all(&self, path: &Path) -> io::Result<()> {
        rustix::fs::syncfs(File::open(path)?)?;
        self.note(Change::SyncAll(path));
        Ok(())
    }

    /// Waits until the disk has the names in the folder of `path`, of a FAT, as they are now.
    fn keep_name(&self, path: &Path) -> io::Result<()> {
        let Some(folder) = path.parent() else { return Ok(()) };
        self.sync_folder(folder)?;
        // FAT keeps the allocation table beside the directory.
        self.sync_all(folder)
    }

    /// Removes a file of a FAT so that the disk loses its name before its place is free, and waits until the name
    /// is gone.
    ///
    /// Linux's vfat frees the place of a removed file as soon as nobody has it open, and the disk may write that
    /// first: a power cut would leave a name whose place is free, or is another file's by then. While it is
    /// open, the name alone goes; a cut then leaves a place without a name, which harms nobody.
    ///
    /// # Errors
    /// The disk's.
    pub fn remove_whole(&self, path: &Path) -> io::Result<()> {
        let file = File::open(path)?;
        self.remove(path)?;
        self.keep_name(path)?;
        drop(file);
        Ok(())
    }

    /// Renames a file of a FAT, within its folder, so that the disk gets its new name together with its place and
    /// size, and waits until the new name is there and the old one gone.
    ///
    /// Linux's vfat writes a new name with size 0 and no first cluster, and fills both in when it writes the
    /// inode. Syncing the directory first would make an empty file durable under the new name, the old name
    /// gone; syncing the file first puts all of it into one write of one sector.
    ///
    /// A file that had the new name is kept open until its place is nobody's, as in [`Self::remove_whole`].
    ///
    /// # Errors
    /// The disk's.
    pub fn rename_whole(&self, from: &Path, to: &Path) -> io::Result<()> {
        let (file, old) = (File::open(from)?, File::open(to));
        self.rename(from, to)?;
        self.sync_file(&file, to)?;
        self.keep_name(to)?;
        drop(old);
        Ok(())
    }

    /// [`files::replace`], told and counted.
    ///
    /// # Errors
    /// Whatever the file system says; the old content is then still there.
    pub fn replace(&self, path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
        files::replace_told(path, bytes, mode, &|change| self.note(change))
    }
}

/// A file that is being written.
#[derive(Debug)]
pub struct Open {
    file: File,
    path: PathBuf,
    at: u64,
    writer: Writer,
}

impl Open {
    /// Waits until it is on the disk.
    ///
    /// # Errors
    /// The disk's.
    pub fn sync(&self) -> io::Result<()> {
        self.writer.sync_file(&self.file, &self.path)
    }
}

impl Write for Open {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        let piece = bytes.get(..written).unwrap_or(bytes);
        self.writer.note(Change::Write(&self.path, self.at, piece));
        self.at = self.at.saturating_add(u64::try_from(written).unwrap_or(u64::MAX));
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;

    #[derive(Debug, Default)]
    struct Lines(Mutex<Vec<String>>);

    impl Witness for Lines {
        fn saw(&self, change: Change<'_>) {
            let name = |path: &Path| path.file_name().unwrap().to_str().unwrap().to_owned();
            let line = match change {
                Change::Create(path) => format!("create {}", name(path)),
                Change::CreateFolder(path) => format!("folder {}", name(path)),
                Change::Write(path, at, bytes) => {
                    format!("write {} {at}+{}", name(path), bytes.len())
                }
                Change::Rename(from, to) => format!("rename {} {}", name(from), name(to)),
                Change::Remove(path) => format!("remove {}", name(path)),
                Change::SyncFile(path) => format!("sync {}", name(path)),
                Change::SyncFolder(_) => "sync folder".into(),
                Change::SyncAll(_) => "sync all".into(),
            };
            self.0.lock().unwrap().push(line);
        }
    }

    #[test]
    fn every_change_is_counted_and_told_in_its_order() {
        let dir = tempfile::tempdir().unwrap();
        let lines = Arc::new(Lines::default());
        let writer = Writer::watched(lines.clone());
        let (a, b) = (dir.path().join("a"), dir.path().join("b"));
        let mut open = writer.create(&a).unwrap();
        open.write_all(b"one").unwrap();
        open.sync().unwrap();
        writer.append(&a).unwrap().write_all(b"more").unwrap();
        writer.rename(&a, &b).unwrap();
        writer.sync_folder(dir.path()).unwrap();
        writer.sync_all(dir.path()).unwrap();
        assert_eq!(std::fs::read(&b).unwrap(), b"onemore");
        writer.clone().remove(&b).unwrap();
        let told = lines.0.lock().unwrap().clone();
        let wanted = [
            "create a",
            "write a 0+3",
            "sync a",
            "write a 3+4",
            "rename a b",
            "sync folder",
            "sync all",
            "remove b",
        ];
        assert_eq!(told, wanted);
        assert_eq!(writer.counts(), Counts { changes: 5, bytes: 7, syncs: 3 });
    }

    #[test]
    fn each_name_of_a_fat_is_waited_for_once_and_after_the_file_it_names() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("folder");
        let [a, b] = ["a", "b"].map(|name| folder.join(name));
        let told = |work: &dyn Fn(&Writer)| {
            let lines = Arc::new(Lines::default());
            work(&Writer::watched(lines.clone()));
            lines.0.lock().unwrap().clone()
        };
        let made = told(&|writer| writer.create_folder_whole(&folder).unwrap());
        assert_eq!(made, ["folder folder", "sync folder", "sync all"]);
        // A name that nobody had, and one that another file had.
        for _ in 0..2 {
            std::fs::write(&a, "new").unwrap();
            let renamed = told(&|writer| writer.rename_whole(&a, &b).unwrap());
            assert_eq!(renamed, ["rename a b", "sync b", "sync folder", "sync all"]);
        }
        let removed = told(&|writer| writer.remove_whole(&b).unwrap());
        assert_eq!(removed, ["remove b", "sync folder", "sync all"]);
    }

    #[test]
    fn replaced_file_is_on_the_disk_before_it_has_its_name() {
        let dir = tempfile::tempdir().unwrap();
        let lines = Arc::new(Lines::default());
        let path = dir.path().join("note");
        Writer::watched(lines.clone()).replace(&path, b"x", 0o600).unwrap();
        let told = lines.0.lock().unwrap().clone();
        let kinds: Vec<&str> = told.iter().filter_map(|line| line.split(' ').next()).collect();
        assert_eq!(kinds, ["create", "write", "sync", "rename", "sync"]);
    }
}
