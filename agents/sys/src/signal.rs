//! Signals by number, the real-time ones included, for which there are no names; and signal 0, which only asks.
#![allow(unsafe_code, reason = "kill(2) and pidfd_send_signal(2) with numbers that have no name")]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// Sends a signal to one process.
///
/// # Errors
/// `EINVAL` for what is no signal, else the kernel's.
pub fn send(pid: u32, number: i32) -> io::Result<()> {
    let Some(pid) = libc::pid_t::try_from(pid).ok().filter(|pid| *pid > 0) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    // SAFETY: kill takes any two integers; a positive first one names one process.
    if unsafe { libc::kill(pid, number) } < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Whether the process of a pidfd is still known by its number: it lives, or its parent has not taken it away yet.
/// As long as it is, nobody else has that number.
///
/// # Errors
/// The kernel's, but for `ESRCH`, which is the answer no.
pub fn is_there(process: BorrowedFd<'_>) -> io::Result<bool> {
    let nothing = std::ptr::null::<libc::siginfo_t>();
    // SAFETY: the descriptor is open while it is borrowed; signal 0 with no further information is not sent, so no
    // pointer is looked at (`pidfd_send_signal(2)`).
    let asked =
        unsafe { libc::syscall(libc::SYS_pidfd_send_signal, process.as_raw_fd(), 0, nothing, 0) };
    match asked {
        0.. => Ok(true),
        _ => match io::Error::last_os_error() {
            err if err.raw_os_error() == Some(libc::ESRCH) => Ok(false),
            err => Err(err),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_there_until_it_is_taken_away() {
        use rustix::process::{Pid, PidfdFlags, pidfd_open};
        use std::os::fd::AsFd;
        let mut child = std::process::Command::new("/bin/cat")
            .stdin(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let pid = Pid::from_raw(child.id().cast_signed()).unwrap();
        let process = pidfd_open(pid, PidfdFlags::empty()).unwrap();
        assert!(is_there(process.as_fd()).unwrap());
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(!is_there(process.as_fd()).unwrap());
        let file = std::fs::File::open("/dev/null").unwrap();
        assert!(is_there(file.as_fd()).is_err());
    }

    #[test]
    fn the_kernel_answers_for_every_number() {
        // 0 only asks whether one could be sent.
        assert!(send(std::process::id(), 0).is_ok());
        assert_eq!(send(std::process::id(), 65).unwrap_err().raw_os_error(), Some(libc::EINVAL));
        for nobody in [0, u32::MAX] {
            assert_eq!(send(nobody, 0).unwrap_err().kind(), io::ErrorKind::InvalidInput);
        }
    }
}
