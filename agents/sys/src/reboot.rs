//! The end: reboot and power-off by the kernel, at once and without asking anybody.
//!
//! Only PID 1 calls these, after everything was stopped, unmounted and synced.

use rustix::system::RebootCommand;
use std::io;

/// Restarts the machine. Returns only when the kernel refused.
pub fn reboot() -> io::Error {
    command(RebootCommand::Restart)
}

/// Switches the machine off. Returns only when the kernel refused.
pub fn power_off() -> io::Error {
    command(RebootCommand::PowerOff)
}

/// From now on Ctrl-Alt-Del is a SIGINT to PID 1 instead of an instant reboot without a sync.
///
/// # Errors
/// `EPERM` without the capability.
pub fn ctrl_alt_del_is_a_signal() -> io::Result<()> {
    Ok(rustix::system::reboot(RebootCommand::CadOff)?)
}

fn command(command: RebootCommand) -> io::Error {
    match rustix::system::reboot(command) {
        Ok(()) => io::Error::other("the kernel returned from reboot"),
        Err(err) => err.into(),
    }
}
