//! The kernel's own terminal on the screen: switched off while a program draws there.
//!
//! Source: `linux/kd.h`, `console_ioctl(2)`.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;

const KDSETMODE: libc::Ioctl = 0x4b3a;
const KDGKBMODE: libc::Ioctl = 0x4b44;
const KDSKBMODE: libc::Ioctl = 0x4b45;
const KD_TEXT: libc::c_int = 0;
const KD_GRAPHICS: libc::c_int = 1;
const K_OFF: libc::c_int = 4;

/// Terminals that are tried, best first: the one in the foreground, then the first.
const TERMINALS: [&str; 2] = ["/dev/tty0", "/dev/tty1"];

/// While this lives, the kernel's terminal draws no text and no cursor, and reads no keys: what a person
/// types reaches only the program that reads evdev devices. Dropping it gives the terminal back.
#[derive(Debug)]
pub struct GraphicsMode {
    terminal: File,
    keyboard: Option<libc::c_int>,
}

impl GraphicsMode {
    /// Takes the terminal in the foreground.
    ///
    /// # Errors
    /// The kernel's, when there is no terminal (a kernel without `CONFIG_VT`) or it is not ours to take;
    /// the caller may draw all the same.
    pub fn enter() -> io::Result<Self> {
        let mut last = io::Error::from(io::ErrorKind::NotFound);
        for path in TERMINALS {
            match OpenOptions::new().read(true).write(true).open(path).and_then(Self::take) {
                Ok(mode) => return Ok(mode),
                Err(err) => last = err,
            }
        }
        Err(last)
    }

    fn take(terminal: File) -> io::Result<Self> {
        set(&terminal, KDSETMODE, KD_GRAPHICS)?;
        let keyboard = keyboard_mode(&terminal).ok();
        // A terminal that cannot be muted is still ours to draw on; keys then also reach the kernel's
        // line discipline, where nobody reads them.
        let _ = set(&terminal, KDSKBMODE, K_OFF);
        Ok(Self { terminal, keyboard })
    }
}

impl Drop for GraphicsMode {
    fn drop(&mut self) {
        if let Some(mode) = self.keyboard.filter(|mode| *mode != K_OFF) {
            let _ = set(&self.terminal, KDSKBMODE, mode);
        }
        // Nothing can be done about a terminal that does not come back; the next program sets it again.
        let _ = set(&self.terminal, KDSETMODE, KD_TEXT);
    }
}

#[allow(unsafe_code, reason = "ioctl has no safe wrapper for these requests")]
fn set(terminal: &File, request: libc::Ioctl, value: libc::c_int) -> io::Result<()> {
    // SAFETY: the descriptor is open for the length of the call, because `terminal` is borrowed; both
    // requests used here, KDSETMODE and KDSKBMODE, take their argument by value and write no memory.
    let result = unsafe { libc::ioctl(terminal.as_raw_fd(), request, libc::c_long::from(value)) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[allow(unsafe_code, reason = "ioctl has no safe wrapper for this request")]
fn keyboard_mode(terminal: &File) -> io::Result<libc::c_int> {
    let mut mode: libc::c_int = 0;
    // SAFETY: the descriptor is open for the length of the call, because `terminal` is borrowed; KDGKBMODE
    // writes one int, and `mode` is one int that outlives the call and that nothing else refers to.
    let result = unsafe { libc::ioctl(terminal.as_raw_fd(), KDGKBMODE, &raw mut mode) };
    if result == 0 { Ok(mode) } else { Err(io::Error::last_os_error()) }
}
