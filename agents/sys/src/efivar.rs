//! EFI variables, and what the boot loader left in them.
//!
//! Sources: `Documentation/filesystems/efivarfs.rst` of the kernel; the Boot Loader Interface of
//! systemd (variables of vendor [`LOADER_VENDOR`]).

use crate::{files, mount};
use rustix::mount::MountFlags;
use std::io;
use std::path::{Path, PathBuf};

/// Where the variables are mounted.
pub const EFIVARS: &str = "/sys/firmware/efi/efivars";
/// Vendor of the boot loader's variables.
pub const LOADER_VENDOR: &str = "4a67b082-0a4c-41cf-b6c7-440b29bb8c4f";
/// Largest variable read, in bytes.
const VARIABLE_BYTES_MAX: usize = 16 * 1024;
/// Attributes in front of the value: `attributes[4]`, little endian.
const ATTRIBUTE_BYTES: usize = 4;

/// Mounts efivarfs, read-only so that nobody breaks the firmware by removing a file. Nothing happens
/// on a board that was not started by UEFI, or when it is mounted already.
///
/// # Errors
/// The kernel's.
pub fn mount_efivarfs() -> io::Result<()> {
    if !Path::new(EFIVARS).is_dir() || std::fs::read_dir(EFIVARS)?.next().is_some() {
        return Ok(());
    }
    let flags = MountFlags::RDONLY | MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    match mount::mount("efivarfs", EFIVARS, "efivarfs", flags, "") {
        Err(err) if err.raw_os_error() == Some(libc::EBUSY) => Ok(()),
        other => other,
    }
}

/// Reads the value of a variable, without its attributes.
///
/// # Errors
/// `NotFound` when it does not exist, `InvalidData` when it is shorter than its attributes or longer
/// than 16 KiB.
pub fn read(name: &str, vendor: &str) -> io::Result<Vec<u8>> {
    let path = PathBuf::from(EFIVARS).join(format!("{name}-{vendor}"));
    let bytes = files::read_bounded(&path, VARIABLE_BYTES_MAX)?;
    bytes.get(ATTRIBUTE_BYTES..).map(<[u8]>::to_vec).ok_or_else(|| {
        io::Error::new(io::ErrorKind::InvalidData, "EFI variable is shorter than its attributes")
    })
}

/// A text variable of the boot loader, or `None` where it does not exist or cannot be read.
pub fn loader_text(name: &str) -> Option<String> {
    let text = decode_utf16(&read(name, LOADER_VENDOR).ok()?);
    if text.is_empty() { None } else { Some(text) }
}

/// Identity of the entry that was started, like `goblinux_2.efi`, as the loader names it: the file
/// name, with or without its counter depending on the loader's release.
pub fn loader_entry_selected() -> Option<String> {
    loader_text("LoaderEntrySelected")
}

/// PARTUUID of the ESP the loader came from, in lower case. `None` means that the board was not started
/// by the boot loader.
pub fn loader_device_part_uuid() -> Option<String> {
    loader_text("LoaderDevicePartUUID").map(|text| text.to_ascii_lowercase())
}

/// Path of the counted entry on the ESP after this try was counted, with `/` between its parts, like
/// `/EFI/Linux/goblinux_2+2-1.efi`. `Some` means that this boot is a trial.
pub fn loader_boot_count_path() -> Option<String> {
    loader_text("LoaderBootCountPath").map(|text| text.replace('\\', "/"))
}

/// UTF-16, little endian, up to the first NUL; what is not valid becomes U+FFFD.
pub fn decode_utf16(bytes: &[u8]) -> String {
    let units = bytes.as_chunks::<2>().0.iter().map(|pair| u16::from_le_bytes(*pair));
    char::decode_utf16(units.take_while(|unit| *unit != 0))
        .map(|unit| unit.unwrap_or(char::REPLACEMENT_CHARACTER))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_ends_at_nul_and_odd_bytes_are_ignored() {
        assert_eq!(decode_utf16(b"a\0b\0\0\0c\0"), "ab");
        assert_eq!(decode_utf16(b"a\0b"), "a");
        assert_eq!(decode_utf16(&[0x00, 0xd8]), "\u{fffd}");
        assert_eq!(decode_utf16(&[]), "");
    }
}
