//! Loading kernel modules.
//!
//! Source: `finit_module(2)`, `init_module(2)`.

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use std::io;
use std::path::Path;

/// What became of a module.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loaded {
    /// It was loaded.
    Now,
    /// It was there already, or is built into the kernel.
    Before,
}

/// Loads the module in a file, without parameters. The kernel reads the file itself, so that it can tell
/// from which file system it comes.
///
/// # Errors
/// `PermissionDenied` without `CAP_SYS_MODULE` or when the kernel is locked; `NotFound` for an unknown
/// symbol (what it needs is not loaded) or a missing file; `ENOEXEC` for a module of another kernel.
pub fn load(path: &Path) -> io::Result<Loaded> {
    let file = rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    match rustix::system::finit_module(&file, c"", 0) {
        Ok(()) => Ok(Loaded::Now),
        Err(Errno::EXIST) => Ok(Loaded::Before),
        Err(err) => Err(err.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_module_is_refused() {
        let file = tempfile::NamedTempFile::new().unwrap();
        assert!(load(file.path()).is_err());
        assert_eq!(load(Path::new("/none/such.ko")).unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
