//! Extended attributes of held files.

use super::proc_path;
use rustix::fs::XattrFlags;
use rustix::io::Errno;
use std::ffi::CString;
use std::io;
use std::os::fd::BorrowedFd;

/// Value of an extended attribute of a held file that is not a symbolic link.
///
/// # Errors
/// `ENODATA` when there is none; whatever the file system says.
pub fn xattr(held: BorrowedFd<'_>, name: &[u8], bytes_max: usize) -> io::Result<Vec<u8>> {
    let mut value = vec![0; bytes_max];
    let name = CString::new(name)?;
    let got = rustix::fs::getxattr(proc_path(held), &name, value.as_mut_slice())?;
    value.truncate(got);
    Ok(value)
}

/// Names of the extended attributes of a held file that is not a symbolic link, each with a NUL.
///
/// # Errors
/// Whatever the file system says.
pub fn xattr_names(held: BorrowedFd<'_>, bytes_max: usize) -> io::Result<Vec<u8>> {
    let mut names = vec![0; bytes_max];
    let got = rustix::fs::listxattr(proc_path(held), names.as_mut_slice())?;
    names.truncate(got);
    Ok(names)
}

/// Sets an extended attribute; `flags` as in `setxattr(2)`.
///
/// # Errors
/// Whatever the file system says.
pub fn set_xattr(held: BorrowedFd<'_>, name: &[u8], value: &[u8], flags: u32) -> io::Result<()> {
    let flags = XattrFlags::from_bits(flags).ok_or(Errno::INVAL)?;
    Ok(rustix::fs::setxattr(proc_path(held), CString::new(name)?, value, flags)?)
}

/// Removes an extended attribute.
///
/// # Errors
/// `ENODATA` when there is none; whatever the file system says.
pub fn remove_xattr(held: BorrowedFd<'_>, name: &[u8]) -> io::Result<()> {
    Ok(rustix::fs::removexattr(proc_path(held), CString::new(name)?)?)
}
