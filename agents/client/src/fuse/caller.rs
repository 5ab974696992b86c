//! Whether a program that waits for a call is to be let go.
//!
//! FUSE tells of it by `FUSE_INTERRUPT`, which the library does not pass on; the kernel keeps such a call until it is
//! answered, also for a program that is killed. So who waits for the box looks now and then whether a signal waits for
//! the program (`proc_pid_status(5)`).

use std::cell::Cell;
use std::time::Duration;

/// Pause between two looks at a program that waits.
pub const LOOK: Duration = Duration::from_millis(250);
/// `SIGKILL` of `signal(7)`, as the kernel prints sets of signals: bit 0 is signal 1.
const KILLED: u64 = 1 << 8;

/// Which signals end a wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EndedBy {
    /// Those that kill.
    Kill,
    /// All that the program takes: for what `signal(7)` lists as interrupted by a handler, such as a wait for a lock.
    Any,
}

/// Who waits for a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Caller {
    /// Thread, 0 when it is not known here.
    pid: u32,
    ended_by: EndedBy,
}

thread_local! {
    static NOW: Cell<u32> = const { Cell::new(0) };
}

/// The call that this thread answers from now on is of this program's thread.
pub fn answers(pid: u32) {
    NOW.set(pid);
}

impl Caller {
    /// Of the call that this thread answers.
    pub fn now(ended_by: EndedBy) -> Self {
        Self { pid: NOW.get(), ended_by }
    }

    /// Whether nobody waits for the answer any more.
    pub fn is_gone(self) -> bool {
        if self.pid == 0 {
            return false;
        }
        // A thread that ended before it was looked at waits for nothing.
        let path = format!("/proc/{}/status", self.pid);
        std::fs::read_to_string(path).map_or(true, |status| self.is_ended(&status))
    }

    fn is_ended(self, status: &str) -> bool {
        let set = |key: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(key));
            line.and_then(|text| u64::from_str_radix(text.trim(), 16).ok()).unwrap_or(0)
        };
        // The kernel marks every thread of a program that a signal is to end as killed.
        let pending = set("SigPnd:") | set("ShdPnd:");
        let counts = match self.ended_by {
            EndedBy::Kill => KILLED,
            EndedBy::Any => KILLED | !(set("SigBlk:") | set("SigIgn:")),
        };
        pending & counts != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ended(by: EndedBy, pending: &str, blocked: &str) -> bool {
        let status = format!(
            "Name:\tx\nSigPnd:\t{pending}\nShdPnd:\t0\nSigBlk:\t{blocked}\nSigIgn:\t1000\n"
        );
        Caller { pid: 7, ended_by: by }.is_ended(&status)
    }

    #[test]
    fn a_killed_program_waits_for_nothing() {
        for by in [EndedBy::Kill, EndedBy::Any] {
            assert!(ended(by, "0000000000000100", "0"));
            assert!(!ended(by, "0", "0"));
        }
    }

    #[test]
    fn other_signals_end_a_wait_for_a_lock_when_the_program_takes_them() {
        assert!(ended(EndedBy::Any, "2", "0") && !ended(EndedBy::Kill, "2", "0"));
        assert!(!ended(EndedBy::Any, "2", "2"), "blocked");
        assert!(!ended(EndedBy::Any, "1000", "0"), "ignored");
    }

    #[test]
    fn this_thread_waits_and_nobody_is_not_gone() {
        answers(std::process::id());
        assert!(!Caller::now(EndedBy::Kill).is_gone());
        answers(0);
        assert!(!Caller::now(EndedBy::Any).is_gone());
    }
}
