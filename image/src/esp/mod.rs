//! Formats an EFI system partition and puts files into it, in one pass: FAT32 with long names
//! (Microsoft, "FAT32 File System Specification", fatgen103).
//!
//! Write-once: directories first, then every file in one piece, in the order given. The result is an
//! ordinary FAT32 in which firmware, systemd-boot and Linux's vfat may write. Every timestamp is
//! 1980-01-01; names are ASCII. Directories have room for further entries up to a whole cluster.
//!
//! ```text
//! boot sector, FSInfo, ... their copies at 6 | FAT | FAT | cluster 2: root | directories | files | free
//! ```
//! Everything but free clusters is written, zeroes included, so that no byte of an earlier file system is
//! believed; free clusters are left as they are.

mod fat;
mod names;

use crate::bytes::{COPY_BYTES, align_up, len64, write_zeroes};
use std::io::{self, Read, Seek, SeekFrom, Write};

/// Smallest partition in bytes that can be a FAT32.
pub const ESP_BYTES_MIN: u64 = 36 << 20;
/// Largest partition in bytes this writer makes.
pub const ESP_BYTES_MAX: u64 = 32 << 30;
/// Most files.
pub const FILES_MAX: usize = 256;
/// Most entries of one directory, long-name parts included.
pub const DIR_ENTRIES_MAX: usize = 1024;
/// Longest path in bytes.
pub const PATH_BYTES_MAX: usize = 240;
/// Largest file in bytes: sizes have 32 bits.
pub const FILE_BYTES_MAX: u64 = u32::MAX as u64;

/// What the file system is called and where it lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EspParams {
    /// Size of the partition in bytes, a multiple of 4096.
    pub size_bytes: u64,
    /// Volume id.
    pub volume_id: u32,
    /// Volume label: up to 11 of `A-Z 0-9 _ -`.
    pub label: String,
    /// Sectors before the partition.
    pub hidden_sectors: u32,
}

/// A file that goes into the partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EspFile {
    /// Path with `/`, relative to the root: `EFI/BOOT/BOOTX64.EFI`. Directories are made as needed.
    pub path: String,
    /// Size in bytes.
    pub size: u64,
}

/// Where a file lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlacedFile {
    /// Path as given.
    pub path: String,
    /// Size in bytes.
    pub size: u64,
    /// Offset of its data in the partition in bytes; the data is in one piece. Zero for an empty file.
    pub offset_bytes: u64,
}

/// Why a partition cannot be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EspError {
    /// The output could not be written.
    #[error("cannot write the EFI system partition")]
    Write(#[source] io::Error),
    /// The source of a file could not be read.
    #[error("cannot read `{path}` for the EFI system partition")]
    Read {
        /// The file.
        path: String,
        /// The source's error.
        #[source]
        source: io::Error,
    },
    /// A file's source gave another number of bytes than planned.
    #[error("`{path}` should have {expected} bytes, but has {got} or more")]
    FileSize {
        /// The file.
        path: String,
        /// Bytes planned.
        expected: u64,
        /// Bytes that came.
        got: u64,
    },
    /// Size, label or number of files break a limit.
    #[error("cannot make the EFI system partition: {what}")]
    Params {
        /// The limit.
        what: &'static str,
    },
    /// A path breaks a rule.
    #[error("`{path}` cannot be on an EFI system partition: {rule}")]
    Path {
        /// The path.
        path: String,
        /// The rule.
        rule: &'static str,
    },
    /// The files do not fit.
    #[error("the files need {needed} clusters, the EFI system partition has {have}")]
    Full {
        /// Clusters needed.
        needed: u64,
        /// Clusters there are.
        have: u64,
    },
}

/// A laid-out partition.
#[derive(Debug)]
pub struct EspPlan {
    volume: fat::Volume,
    dirs: Vec<names::Dir>,
    files: Vec<PlacedFile>,
    /// First free cluster.
    next_cluster: u64,
}

impl EspPlan {
    /// Lays out the partition with these files.
    ///
    /// # Errors
    /// [`EspError`] names the first path, size or limit that does not fit.
    pub fn new(params: &EspParams, files: &[EspFile]) -> Result<Self, EspError> {
        let volume = fat::Volume::new(params)?;
        if files.len() > FILES_MAX {
            return Err(EspError::Params { what: "more than 256 files" });
        }
        let mut dirs = names::make_dirs(files)?;
        let mut next = fat::ROOT_CLUSTER;
        for dir in &mut dirs {
            let bytes = dir.slot_count(1).saturating_mul(names::SLOT_BYTES);
            dir.first_cluster = next;
            dir.cluster_count = volume.clusters_of(bytes).max(1);
            next = next.saturating_add(dir.cluster_count);
        }
        let mut placed = Vec::with_capacity(files.len());
        let mut first_clusters = Vec::with_capacity(files.len());
        for file in files {
            let count = volume.clusters_of(file.size);
            let first = if count == 0 { 0 } else { next };
            let offset_bytes = if count == 0 { 0 } else { volume.cluster_offset(next) };
            first_clusters.push(first);
            placed.push(PlacedFile { path: file.path.clone(), size: file.size, offset_bytes });
            next = next.saturating_add(count);
        }
        let needed = next.saturating_sub(fat::ROOT_CLUSTER);
        if needed > volume.cluster_count {
            return Err(EspError::Full { needed, have: volume.cluster_count });
        }
        names::set_clusters(&mut dirs, &first_clusters, files);
        Ok(Self { volume, dirs, files: placed, next_cluster: next })
    }

    /// Where the files lie.
    pub fn files(&self) -> &[PlacedFile] {
        &self.files
    }

    /// Size of the partition in bytes.
    pub fn size(&self) -> u64 {
        self.volume.size_bytes
    }

    /// Bytes that files may still take.
    pub fn free_bytes(&self) -> u64 {
        self.volume.free_clusters(self.next_cluster).saturating_mul(self.volume.cluster_bytes)
    }

    /// Writes the partition at `base_bytes` of `out`, front to back. `open` gives the content of each
    /// path, and is called once per file in the order given.
    ///
    /// # Errors
    /// [`EspError::Write`], [`EspError::Read`], [`EspError::FileSize`]; what was written is useless.
    pub fn write<'r, W: Write + Seek + ?Sized>(
        &self,
        out: &mut W,
        base_bytes: u64,
        mut open: impl FnMut(&str) -> io::Result<Box<dyn Read + 'r>>,
    ) -> Result<(), EspError> {
        out.seek(SeekFrom::Start(base_bytes)).map_err(EspError::Write)?;
        let reserved = self.volume.reserved_bytes(self.next_cluster);
        out.write_all(&reserved).map_err(EspError::Write)?;
        for _ in 0..fat::FAT_COUNT {
            self.write_fat(out).map_err(EspError::Write)?;
        }
        for dir in &self.dirs {
            let slots = dir.bytes(&self.dirs, &self.volume.label);
            out.write_all(&slots).map_err(EspError::Write)?;
            let whole = dir.cluster_count.saturating_mul(self.volume.cluster_bytes);
            write_zeroes(out, whole.saturating_sub(len64(&slots))).map_err(EspError::Write)?;
        }
        for file in self.files.iter().filter(|file| file.size > 0) {
            let source = |source| EspError::Read { path: file.path.clone(), source };
            let mut reader = open(&file.path).map_err(source)?;
            copy_file(out, reader.as_mut(), file)?;
            let padded = align_up(file.size, self.volume.cluster_bytes);
            write_zeroes(out, padded.saturating_sub(file.size)).map_err(EspError::Write)?;
        }
        out.flush().map_err(EspError::Write)
    }

    /// One file allocation table: the chains of directories and files, then zeroes.
    fn write_fat<W: Write + ?Sized>(&self, out: &mut W) -> io::Result<()> {
        let mut table = fat::Table::new();
        for dir in &self.dirs {
            table.chain(dir.cluster_count);
        }
        for file in &self.files {
            table.chain(self.volume.clusters_of(file.size));
        }
        let bytes = table.into_bytes();
        out.write_all(&bytes)?;
        write_zeroes(out, self.volume.fat_bytes.saturating_sub(len64(&bytes)))
    }
}

fn copy_file<W: Write + ?Sized>(
    out: &mut W,
    reader: &mut dyn Read,
    file: &PlacedFile,
) -> Result<(), EspError> {
    let mut buf = vec![0u8; COPY_BYTES];
    let mut got = 0u64;
    let wrong_size = |got| EspError::FileSize { path: file.path.clone(), expected: file.size, got };
    loop {
        let n = match reader.read(&mut buf) {
            Ok(0) => break,
            Ok(n) => n,
            Err(err) if err.kind() == io::ErrorKind::Interrupted => continue,
            Err(source) => return Err(EspError::Read { path: file.path.clone(), source }),
        };
        got = got.saturating_add(n as u64);
        if got > file.size {
            return Err(wrong_size(got));
        }
        out.write_all(buf.get(..n).unwrap_or_default()).map_err(EspError::Write)?;
    }
    if got != file.size {
        return Err(wrong_size(got));
    }
    Ok(())
}
