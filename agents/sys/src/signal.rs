//! Signals by number, the real-time ones included, for which there are no names.
#![allow(unsafe_code, reason = "kill(2) with a number that has no name")]

use std::io;

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

#[cfg(test)]
mod tests {
    use super::*;

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
