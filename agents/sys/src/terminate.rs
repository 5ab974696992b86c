//! The request to stop, as a descriptor: for agents that have something to finish first.
//!
//! Source: signalfd(2).

use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};

/// Readable once PID 1 has asked this process to stop. The process must end by itself then, or it is killed
/// after its `stop_timeout_ms`.
#[derive(Debug)]
pub struct Terminate {
    signals: SignalFd,
}

impl Terminate {
    /// Takes `SIGTERM` over. Call it before threads are started, which inherit what is blocked.
    ///
    /// # Errors
    /// The kernel's, when it is out of descriptors or memory.
    pub fn take_over() -> io::Result<Self> {
        let signals: SigSet = std::iter::once(Signal::SIGTERM).collect();
        signals.thread_block()?;
        let flags = SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC;
        Ok(Self { signals: SignalFd::with_flags(&signals, flags)? })
    }

    /// True when the request has come, once for each time it came.
    pub fn came(&self) -> bool {
        matches!(self.signals.read_signal(), Ok(Some(_)))
    }
}

impl AsFd for Terminate {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.signals.as_fd()
    }
}
