//! The hardware watchdog: a timer in the chipset that resets the board unless it is fed.
//!
//! Source: `Documentation/watchdog/watchdog-api.rst` and `include/uapi/linux/watchdog.h` of the kernel.
#![allow(unsafe_code, reason = "ioctl WDIOC_SETTIMEOUT has no safe wrapper")]

use rustix::fs::{Mode, OFlags};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

/// The macro makes a public function; the module keeps it in here.
mod ioctl {
    nix::ioctl_readwrite!(wdioc_settimeout, b'W', 6, libc::c_int);
}

/// The first watchdog of the board.
pub const DEVICE: &str = "/dev/watchdog0";

/// Where its driver says what the hardware remembers of the time before this boot.
const BOOT_STATUS: &str = "/sys/class/watchdog/watchdog0/bootstatus";
/// `WDIOF_CARDRESET`: the watchdog had reset the board.
const CARD_RESET: u32 = 0x0020;
/// Longest number of a status.
const STATUS_BYTES_MAX: usize = 64;

/// True when this boot began by the watchdog's reset of the board. False also where the hardware does not
/// remember.
pub fn has_reset() -> bool {
    let bytes = crate::files::read_bounded(Path::new(BOOT_STATUS), STATUS_BYTES_MAX);
    bytes.is_ok_and(|bytes| tells_reset(&String::from_utf8_lossy(&bytes)))
}

fn tells_reset(text: &str) -> bool {
    text.trim().parse::<u32>().is_ok_and(|status| status & CARD_RESET != 0)
}

/// An armed watchdog. Dropping it, even by death of the process, leaves it armed: the board is then
/// reset after the timeout. Only [`Watchdog::disarm`] stops it.
#[derive(Debug)]
pub struct Watchdog {
    fd: OwnedFd,
}

impl Watchdog {
    /// Opens and thereby arms a watchdog device, usually [`DEVICE`].
    ///
    /// # Errors
    /// `NotFound` on a board without one; `EBUSY` when another process holds it.
    pub fn open(device: &Path) -> io::Result<Self> {
        let fd = rustix::fs::open(device, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())?;
        Ok(Self { fd })
    }

    /// Takes over a watchdog that was armed by the program before this one.
    pub fn from_fd(fd: OwnedFd) -> Self {
        Self { fd }
    }

    /// Sets the time in seconds after which an unfed watchdog resets the board; returns what the
    /// hardware made of it.
    ///
    /// # Errors
    /// `EINVAL` outside the hardware's range, `EOPNOTSUPP` where it is fixed. The watchdog is armed
    /// with its own default then.
    pub fn set_timeout(&self, timeout_s: u32) -> io::Result<u32> {
        let mut value =
            libc::c_int::try_from(timeout_s).map_err(|_| io::ErrorKind::InvalidInput)?;
        // SAFETY: the descriptor is open for the length of the call (borrowed from `self.fd`), and
        // WDIOC_SETTIMEOUT reads and writes exactly one int, which `value` is and outlives the call.
        unsafe { ioctl::wdioc_settimeout(self.fd.as_raw_fd(), &raw mut value) }?;
        Ok(u32::try_from(value).unwrap_or(timeout_s))
    }

    /// Feeds it: the timeout starts over.
    ///
    /// # Errors
    /// The driver's.
    pub fn keepalive(&self) -> io::Result<()> {
        rustix::io::write(&self.fd, b"k")?;
        Ok(())
    }

    /// Stops it, by the letter that the kernel calls the magic close.
    ///
    /// # Errors
    /// The driver's; with `nowayout` the watchdog runs on whatever is written.
    pub fn disarm(self) -> io::Result<()> {
        rustix::io::write(&self.fd, b"V")?;
        Ok(())
    }

    /// Lets the descriptor survive an `exec`, so that the next program can go on feeding.
    ///
    /// # Errors
    /// The kernel's.
    pub fn keep_over_exec(&self) -> io::Result<()> {
        Ok(rustix::io::fcntl_setfd(&self.fd, rustix::io::FdFlags::empty())?)
    }
}

impl AsFd for Watchdog {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_reset_of_its_own_is_told() {
        assert!(tells_reset("32\n") && tells_reset("33"));
        for other in ["0\n", "1", "", "x", "-1"] {
            assert!(!tells_reset(other), "{other}");
        }
    }
}
