//! Writer of `newc` cpio archives, the form the kernel unpacks as initramfs
//! (kernel documentation, driver-api/early-userspace/buffer-format).
//!
//! Inode numbers count up from 1 in the order of writing, every mtime is 0 and every owner is root, so
//! the same calls give the same bytes. Sizes are known before contents: the archive is a stream.

use crate::bytes::{Counted, align_up};
use crate::contents::BuildError;
use std::io::Write;

/// Largest file in bytes: the size field has 8 hexadecimal digits.
pub const FILE_BYTES_MAX: u64 = u32::MAX as u64;
/// Longest name in bytes (the kernel's PATH_MAX, its NUL included).
pub const NAME_BYTES_MAX: usize = 4095;

const HEADER_BYTES: u64 = 110;
const ALIGN: u64 = 4;
const TRAILER: &str = "TRAILER!!!";
const S_IFDIR: u32 = 0o040_000;
const S_IFREG: u32 = 0o100_000;
const S_IFLNK: u32 = 0o120_000;
const S_IFCHR: u32 = 0o020_000;

/// Why an entry cannot be expressed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CpioError {
    /// Empty, too long, absolute, or with NUL.
    #[error(
        "`{name}` cannot be a name in a cpio archive: it must be relative, 1 to 4095 bytes, without NUL"
    )]
    Name {
        /// The name, shortened.
        name: String,
    },
    /// Larger than [`FILE_BYTES_MAX`].
    #[error("`{name}` has {size} bytes, more than a cpio archive can hold")]
    TooLarge {
        /// The name.
        name: String,
        /// Its size in bytes.
        size: u64,
    },
}

/// Bytes that an entry takes, header and padding included.
pub fn entry_bytes(name: &str, data_bytes: u64) -> u64 {
    let head = HEADER_BYTES.saturating_add(name.len() as u64).saturating_add(1);
    align_up(head, ALIGN).saturating_add(align_up(data_bytes, ALIGN))
}

/// Bytes that the end of the archive takes.
pub fn trailer_bytes() -> u64 {
    entry_bytes(TRAILER, 0)
}

/// An archive being written. Names are relative to the root (`dev/console`, not `/dev/console`);
/// a directory must be written before what it holds.
#[derive(Debug)]
pub struct Archive<'a, W: Write + ?Sized> {
    out: Counted<'a, W>,
    inode: u32,
}

struct Head<'n> {
    name: &'n str,
    mode: u32,
    links: u32,
    size: u64,
    device: (u32, u32),
}

impl<'a, W: Write + ?Sized> Archive<'a, W> {
    /// Begins an archive at the present place of `out`.
    pub fn new(out: &'a mut W) -> Self {
        Self { out: Counted::new(out), inode: 0 }
    }

    /// Adds a directory.
    ///
    /// # Errors
    /// [`BuildError::Cpio`] for a name that cannot be expressed, [`BuildError::Write`].
    pub fn dir(&mut self, name: &str, mode: u16) -> Result<(), BuildError> {
        let mode = S_IFDIR | u32::from(mode);
        self.head(&Head { name, mode, links: 2, size: 0, device: (0, 0) })
    }

    /// Adds a character device.
    ///
    /// # Errors
    /// As [`Archive::dir`].
    pub fn char_device(
        &mut self,
        name: &str,
        mode: u16,
        major: u32,
        minor: u32,
    ) -> Result<(), BuildError> {
        let mode = S_IFCHR | u32::from(mode);
        self.head(&Head { name, mode, links: 1, size: 0, device: (major, minor) })
    }

    /// Adds a symbolic link.
    ///
    /// # Errors
    /// As [`Archive::dir`].
    pub fn symlink(&mut self, name: &str, target: &str) -> Result<(), BuildError> {
        let size = target.len() as u64;
        self.head(&Head { name, mode: S_IFLNK | 0o777, links: 1, size, device: (0, 0) })?;
        self.out.write_all(target.as_bytes()).map_err(BuildError::Write)?;
        self.out.pad(ALIGN).map_err(BuildError::Write)
    }

    /// Adds a file of exactly `size` bytes, which `fill` writes.
    ///
    /// # Errors
    /// As [`Archive::dir`], what `fill` answers, and [`BuildError::PartSize`] when it wrote another
    /// number of bytes.
    pub fn file(
        &mut self,
        name: &str,
        mode: u16,
        size: u64,
        fill: impl FnOnce(&mut dyn Write) -> Result<(), BuildError>,
    ) -> Result<(), BuildError> {
        self.head(&Head { name, mode: S_IFREG | u32::from(mode), links: 1, size, device: (0, 0) })?;
        let mut part = Counted::new(&mut self.out);
        fill(&mut part)?;
        let got = part.count;
        if got != size {
            return Err(BuildError::PartSize { part: name.to_owned(), planned: size, got });
        }
        self.out.pad(ALIGN).map_err(BuildError::Write)
    }

    /// Ends the archive; the number of bytes written in all.
    ///
    /// # Errors
    /// [`BuildError::Write`].
    pub fn finish(mut self) -> Result<u64, BuildError> {
        self.inode = u32::MAX;
        self.head(&Head { name: TRAILER, mode: 0, links: 1, size: 0, device: (0, 0) })?;
        Ok(self.out.count)
    }

    fn head(&mut self, head: &Head<'_>) -> Result<(), BuildError> {
        check_name(head.name)?;
        let size = u32::try_from(head.size)
            .map_err(|_| CpioError::TooLarge { name: head.name.to_owned(), size: head.size })?;
        // The trailer is number 0; real inodes count from 1.
        self.inode = self.inode.wrapping_add(1);
        let name_bytes = head.name.len().saturating_add(1);
        write!(
            self.out,
            "070701{:08X}{:08X}{:08X}{:08X}{:08X}{:08X}{:08X}{:08X}{:08X}{:08X}{:08X}{:08X}{:08X}{}\0",
            self.inode, head.mode, 0, 0, head.links, 0, size, 0, 0, head.device.0, head.device.1, name_bytes, 0,
            head.name,
        )
        .map_err(BuildError::Write)?;
        self.out.pad(ALIGN).map_err(BuildError::Write)
    }
}

fn check_name(name: &str) -> Result<(), CpioError> {
    let bad = name.is_empty()
        || name.len() > NAME_BYTES_MAX
        || name.starts_with('/')
        || name.contains('\0');
    if bad {
        return Err(CpioError::Name { name: name.chars().take(120).collect() });
    }
    Ok(())
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "compares with the program cpio")]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};

    fn sample() -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut archive = Archive::new(&mut bytes);
        archive.dir("dev", 0o755).unwrap();
        archive.char_device("dev/console", 0o600, 5, 1).unwrap();
        archive.symlink("link", "dev/console").unwrap();
        archive
            .file("init", 0o755, 5, |out| out.write_all(b"hello").map_err(BuildError::Write))
            .unwrap();
        archive.finish().unwrap();
        bytes
    }

    #[test]
    fn sizes_are_known_before_writing() {
        let names = [("dev", 0), ("dev/console", 0), ("link", 11), ("init", 5)];
        let planned: u64 = names.iter().map(|(name, size)| entry_bytes(name, *size)).sum();
        assert_eq!(sample().len() as u64, planned + trailer_bytes());
        assert_eq!(sample(), sample());
    }

    #[test]
    fn wrong_amounts_and_names_are_refused() {
        let mut bytes = Vec::new();
        let mut archive = Archive::new(&mut bytes);
        let short =
            archive.file("a", 0o644, 5, |out| out.write_all(b"x").map_err(BuildError::Write));
        assert!(matches!(short, Err(BuildError::PartSize { planned: 5, got: 1, .. })));
        assert!(archive.dir("/a", 0o755).is_err());
        assert!(archive.dir("", 0o755).is_err());
        assert!(archive.file("a", 0o644, 1 << 33, |_| Ok(())).is_err());
    }

    #[test]
    fn the_cpio_program_lists_it() {
        let Ok(mut child) =
            Command::new("cpio").arg("-itv").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()
        else {
            println!("skipped 1: the program cpio is not installed");
            return;
        };
        child.stdin.take().unwrap().write_all(&sample()).unwrap();
        let listing = String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap();
        let lines: Vec<&str> = listing.lines().collect();
        assert_eq!(lines.len(), 4, "{listing}");
        assert!(lines[1].starts_with("crw-------") && lines[1].contains("5,   1"), "{listing}");
        assert!(lines[2].ends_with("link -> dev/console"), "{listing}");
    }
}
