//! The EFI system partition: read-only but for the moments in which the updater writes.

use crate::error::UpdateError;
use crate::store;
use goblin_core_types::{Digest, SlotStatus, Version, paths, reset_entry_name};
use goblin_core_update::menu;
use goblin_core_update::slots::{self, EspFile, EspStep, NEW_FILE};
use goblin_image::recipe::OS_RELEASE_BYTES_MAX;
use goblin_image::uki;
use goblin_sys::mount::{self, MountFlags};
use goblin_sys::writer::Writer;
use goblin_sys::{block, files};
use std::fs::File;
use std::io::{self, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

/// Most names looked at in `EFI/Linux`, ours and those of others.
const FILES_MAX: usize = 4096;
/// Bytes written at once.
const WRITE_BYTES: usize = 1 << 20;
/// Longest entry of the boot menu that is read, in bytes.
const ENTRY_BYTES_MAX: usize = 4096;
/// Section of an image in which a release describes itself.
pub(crate) const OS_RELEASE: &str = ".osrel";
/// Room left on the ESP beside a new UKI, in bytes.
const SPARE_BYTES: u64 = 1 << 20;

/// How the ESP is mounted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Guard {
    /// Read-only outside of its own writes.
    ReadOnly,
    /// A plain writable folder.
    Writable,
}

/// The ESP.
#[derive(Debug, Clone)]
pub struct Esp {
    root: PathBuf,
    guard: Guard,
    writer: Writer,
}

impl Esp {
    /// The ESP mounted at `root`.
    pub fn new(root: PathBuf, guard: Guard) -> Self {
        Self { root, guard, writer: Writer::default() }
    }

    /// Lets `writer` make its changes.
    #[must_use]
    pub fn written_by(self, writer: Writer) -> Self {
        Self { writer, ..self }
    }

    fn linux(&self) -> PathBuf {
        self.root.join(paths::ESP_LINUX)
    }

    /// Where an image lies.
    pub fn path(&self, file: &str) -> PathBuf {
        self.linux().join(file)
    }

    fn error(path: &Path) -> impl Fn(io::Error) -> UpdateError {
        let path = path.to_owned();
        move |source| UpdateError::Esp { path: path.clone(), source }
    }

    /// The UKIs, in the loader's order.
    ///
    /// # Errors
    /// [`UpdateError::Esp`] when the ESP is not mounted or cannot be read.
    pub fn slots(&self, running: Version) -> Result<Vec<SlotStatus>, UpdateError> {
        let linux = self.linux();
        let entries = std::fs::read_dir(&linux).map_err(Self::error(&linux))?;
        let files: Vec<EspFile> = entries
            .take(FILES_MAX)
            .flatten()
            .filter_map(|entry| {
                let name = entry.file_name().into_string().ok()?;
                slots::parse_file_name(&name)?;
                let size_bytes = entry.metadata().ok().filter(std::fs::Metadata::is_file)?.len();
                Some(EspFile { name, size_bytes })
            })
            .collect();
        Ok(slots::slots(&files, running))
    }

    /// Every name in `EFI/Linux`, ours and those of others.
    ///
    /// # Errors
    /// [`UpdateError::Esp`] when the ESP is not mounted or cannot be read.
    pub fn names(&self) -> Result<Vec<String>, UpdateError> {
        let linux = self.linux();
        names_in(&linux).map_err(Self::error(&linux))
    }

    /// Makes the ESP writable, lets `work` change it, makes everything durable and the ESP read-only
    /// again, whatever `work` answers.
    fn change<T>(&self, work: impl FnOnce() -> Result<T, UpdateError>) -> Result<T, UpdateError> {
        let failed = Self::error(&self.root);
        let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
        if self.guard == Guard::ReadOnly {
            mount::remount(&self.root, flags, "").map_err(&failed)?;
        }
        let result = work();
        let synced = self.writer.sync_all(&self.root);
        if self.guard == Guard::ReadOnly
            && let Err(err) = mount::remount(&self.root, flags | MountFlags::RDONLY, "")
        {
            // The files are right; only the seat belt is missing.
            tracing::warn!(%err, "the ESP stays writable");
        }
        let value = result?;
        synced.map_err(&failed)?;
        Ok(value)
    }

    /// Renames and deletes, in order, each durable before the next.
    ///
    /// # Errors
    /// [`UpdateError::Esp`]; the steps before the failed one are done.
    pub fn apply(&self, steps: &[EspStep]) -> Result<(), UpdateError> {
        if steps.is_empty() {
            return Ok(());
        }
        let linux = self.linux();
        self.change(|| {
            for step in steps {
                let (path, done) = match step {
                    EspStep::Rename { from, to } => {
                        let from = linux.join(from);
                        let done = self.writer.rename_whole(&from, &linux.join(to));
                        (from, done)
                    }
                    EspStep::Delete { file } => {
                        let path = linux.join(file);
                        let done = self.writer.remove_whole(&path);
                        (path, done)
                    }
                };
                done.map_err(Self::error(&path))?;
            }
            Ok(())
        })
    }

    /// Removes the temporary file, if there is one.
    ///
    /// # Errors
    /// [`UpdateError::Esp`].
    pub fn remove_new(&self) -> Result<(), UpdateError> {
        if !self.linux().join(NEW_FILE).exists() {
            return Ok(());
        }
        self.apply(&[EspStep::Delete { file: NEW_FILE.into() }])
    }

    /// True when the temporary file is there.
    pub fn has_new(&self) -> bool {
        self.linux().join(NEW_FILE).is_file()
    }

    /// Refuses early what would not fit.
    ///
    /// # Errors
    /// [`UpdateError::Space`] with the numbers.
    pub fn check_room(&self, needed_bytes: u64) -> Result<(), UpdateError> {
        let free_bytes = store::free_bytes(&self.root).map_err(Self::error(&self.root))?;
        let needed_bytes = needed_bytes.saturating_add(SPARE_BYTES);
        if free_bytes >= needed_bytes {
            return Ok(());
        }
        Err(UpdateError::Space { place: "the boot disk", needed_bytes, free_bytes })
    }

    /// Lets `write` fill the temporary file and makes it durable. What a failed write left is removed.
    ///
    /// # Errors
    /// [`UpdateError::Esp`], or what `write` answered.
    pub fn write_new<T>(
        &self,
        write: impl FnOnce(&mut dyn Write) -> Result<T, UpdateError>,
    ) -> Result<T, UpdateError> {
        let path = self.linux().join(NEW_FILE);
        let failed = Self::error(&path);
        self.change(|| {
            let written = (|| {
                let new = self.writer.create(&path).map_err(&failed)?;
                let mut out = BufWriter::with_capacity(WRITE_BYTES, new);
                let value = write(&mut out)?;
                let file = out.into_inner().map_err(|err| failed(err.into_error()))?;
                file.sync().map_err(&failed)?;
                Ok(value)
            })();
            if written.is_err() {
                // The first error is the one to report; the next write truncates the rest anyway.
                let _ = self.writer.remove(&path);
            }
            written
        })
    }

    /// Sees to it that the boot menu has the entry by which the running release asks for a factory reset, and
    /// none of another release. Nothing is written where it is so.
    ///
    /// # Errors
    /// [`UpdateError::Esp`]; a repetition goes on.
    pub fn keep_menu(&self, running: Version) -> Result<(), UpdateError> {
        let folder = self.root.join(paths::ESP_ENTRIES);
        let names = match names_in(&folder) {
            // A disk that was flashed without one.
            Err(err) if err.kind() == io::ErrorKind::NotFound => Vec::new(),
            names => names.map_err(Self::error(&folder))?,
        };
        // One that cannot be read is written anew.
        let present = files::read_bounded(&folder.join(reset_entry_name(running)), ENTRY_BYTES_MAX);
        let change = menu::change(running, present.ok().as_deref(), &names);
        if change == menu::Change::default() {
            return Ok(());
        }
        self.change(|| self.write_menu(&folder, &change).map_err(Self::error(&folder)))
    }

    fn write_menu(&self, folder: &Path, change: &menu::Change) -> io::Result<()> {
        if let Some((name, text)) = &change.write {
            if !folder.is_dir() {
                self.writer.create_folder_whole(folder)?;
            }
            let new = folder.join(menu::NEW_FILE);
            let mut file = self.writer.create(&new)?;
            file.write_all(text.as_bytes())?;
            file.sync()?;
            self.writer.rename_whole(&new, &folder.join(name))?;
        }
        for name in &change.remove {
            // The new file may just have got its name.
            match self.writer.remove_whole(&folder.join(name)) {
                Err(err) if err.kind() == io::ErrorKind::NotFound => {}
                removed => removed?,
            }
        }
        Ok(())
    }

    /// blake3 of a file of `EFI/Linux` as the disk has it, read past the cache.
    ///
    /// # Errors
    /// [`UpdateError::Esp`].
    pub fn digest(&self, file: &str, bytes_max: u64) -> Result<Digest, UpdateError> {
        let path = self.linux().join(file);
        block::digest_direct(&path, bytes_max).map_err(Self::error(&path))
    }

    /// What a release in `EFI/Linux` says of itself; empty where it says nothing.
    ///
    /// # Errors
    /// [`UpdateError::Esp`]: it is not there, or no image that a loader reads.
    pub fn os_release(&self, file: &str) -> Result<String, UpdateError> {
        let path = self.linux().join(file);
        let read = || {
            let mut file = File::open(&path)?;
            let sections = uki::parse_sections(&mut file).map_err(io::Error::other)?;
            let mut text = Vec::new();
            if let Some(section) = sections.iter().find(|section| section.name == OS_RELEASE) {
                file.seek(SeekFrom::Start(section.file_offset))?;
                file.take(section.size.min(OS_RELEASE_BYTES_MAX as u64)).read_to_end(&mut text)?;
            }
            Ok(String::from_utf8_lossy(&text).into_owned())
        };
        read().map_err(Self::error(&path))
    }
}

fn names_in(folder: &Path) -> io::Result<Vec<String>> {
    let name = |entry: std::fs::DirEntry| entry.file_name().to_string_lossy().into_owned();
    Ok(std::fs::read_dir(folder)?.take(FILES_MAX).flatten().map(name).collect())
}
