//! Mends the superblock by which the kernel mounts a btrfs.
//!
//! It is 4096 bytes long, and a disk may promise no more than 512 whole: a power cut can leave it half old, half new,
//! and the kernel looks at no other. btrfs keeps a copy further on, as of the last commit; what was made durable in
//! the seconds since then is lost with the torn one.

use crate::PoolError;
use std::path::Path;
use std::process::{Command, Stdio};

/// Debian's tool.
pub(crate) const BTRFS: &str = "/usr/bin/btrfs";
/// What `btrfs rescue super-recover` ends with when it wrote a good superblock over a bad one (btrfs-progs,
/// `cmds/rescue-super-recover.c`).
const RECOVERED: i32 = 2;

/// Writes a good copy over superblocks that are not whole; false when there was nothing to mend, or nothing to mend
/// it with. Nobody may have the file system mounted.
///
/// # Errors
/// When the tool cannot be started.
pub(crate) fn mend(device: &Path) -> Result<bool, PoolError> {
    let mut command = Command::new(BTRFS);
    let command = command.args(["rescue", "super-recover", "-y"]).arg(device).stdin(Stdio::null());
    let output = command.output().map_err(PoolError::device(device, "mended"))?;
    Ok(output.status.code() == Some(RECOVERED))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::os::unix::fs::FileExt;

    const FIRST: u64 = 64 << 10;
    const COPY: u64 = 64 << 20;
    const BYTES: usize = 4096;

    fn superblock(device: &File, at: u64) -> Vec<u8> {
        let mut bytes = vec![0; BYTES];
        device.read_exact_at(&mut bytes, at).unwrap();
        bytes
    }

    #[test]
    fn torn_superblock_is_mended_from_its_copy_and_a_whole_one_is_left_alone() {
        let disk = tempfile::NamedTempFile::new().unwrap();
        disk.as_file().set_len(256 << 20).unwrap();
        let made = Command::new("mkfs.btrfs").arg("--quiet").arg(disk.path()).status();
        assert!(made.expect("`cargo xtask setup` installs btrfs-progs").success());
        let whole = superblock(disk.as_file(), FIRST);
        assert!(!mend(disk.path()).unwrap());
        // The names of older roots, in the sixth sector of the eight, are those of another commit.
        let torn: Vec<u8> = whole[0xb2b..0xb33].iter().map(|byte| byte ^ 0x5a).collect();
        disk.as_file().write_all_at(&torn, FIRST + 0xb2b).unwrap();
        assert!(mend(disk.path()).unwrap());
        assert_eq!(superblock(disk.as_file(), FIRST), whole);
        for at in [FIRST, COPY] {
            disk.as_file().write_all_at(&torn, at + 0xb2b).unwrap();
        }
        assert!(!mend(disk.path()).unwrap(), "mended with nothing to mend it with");
    }
}
