//! The word of a program about a system call that its sandbox refused.
//!
//! The filter of a unit answers a call that is not on its list with the signal SIGSYS instead of doing it
//! (seccomp(2), `SECCOMP_RET_TRAP`). [`report_refusals`] turns that into one line of log with the call's
//! number and the answer `EPERM`: a refusal is never silent, and a path that nobody thought of fails with
//! an error instead of taking the program down.
#![allow(unsafe_code, reason = "a signal handler that looks at the call which was refused")]

use std::sync::atomic::{AtomicU32, Ordering};

/// Lines of one process; further refusals are only counted by the kernel's own means.
const LINES_MAX: u32 = 64;

static LINES: AtomicU32 = AtomicU32::new(0);

/// From now on a refused system call is a line on standard error and the error `EPERM`. Programs that
/// this one starts do not inherit it; they end by SIGSYS.
pub fn report_refusals() {
    let handler: extern "C" fn(libc::c_int, *mut libc::siginfo_t, *mut libc::c_void) = refused;
    // SAFETY: all-zero bytes are a valid `sigaction`: no flags, an empty mask, the default disposition.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = handler as libc::sighandler_t;
    action.sa_flags = libc::SA_SIGINFO | libc::SA_RESTART;
    // SAFETY: `action` is a whole `sigaction` whose handler has the signature that SA_SIGINFO asks for and
    // makes only calls that signal-safety(7) lists; the old action is not wanted.
    let _ = unsafe { libc::sigaction(libc::SIGSYS, &raw const action, std::ptr::null_mut()) };
}

extern "C" fn refused(_: libc::c_int, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    if info.is_null() || context.is_null() {
        return;
    }
    let context = context.cast::<libc::ucontext_t>();
    // SAFETY: with SA_SIGINFO the kernel passes a `ucontext_t` of this thread that is valid, aligned and
    // not shared until the handler returns; it was checked not to be null.
    let registers = unsafe { &mut (*context).uc_mcontext.gregs };
    let Some(answer) = registers.get_mut(libc::REG_RAX as usize) else { return };
    // When a filter traps, the register holds the number of the call (seccomp(2)).
    let number = *answer;
    *answer = -i64::from(libc::EPERM);
    if LINES.fetch_add(1, Ordering::Relaxed) < LINES_MAX {
        let mut line = [0u8; 160];
        let length = write_line(&mut line, number.unsigned_abs());
        // SAFETY: `line` has at least `length` bytes; write(2) is safe in a handler, and descriptor 2 may
        // be closed without harm.
        let _ = unsafe { libc::write(2, line.as_ptr().cast(), length) };
    }
}

/// The line as PID 1 reads it, made without allocating.
fn write_line(line: &mut [u8; 160], number: u64) -> usize {
    let mut digits = [0u8; 20];
    let mut start = digits.len();
    let mut rest = number;
    loop {
        start = start.saturating_sub(1);
        if let Some(digit) = digits.get_mut(start) {
            *digit = b'0'.saturating_add(u8::try_from(rest % 10).unwrap_or(0));
        }
        rest /= 10;
        if rest == 0 || start == 0 {
            break;
        }
    }
    let parts: [&[u8]; 3] = [
        br#"{"level":"error","text":"the sandbox refused a system call","number":"#,
        digits.get(start..).unwrap_or_default(),
        b"}\n",
    ];
    let mut length = 0usize;
    for byte in parts.iter().flat_map(|part| part.iter()) {
        if let Some(place) = line.get_mut(length) {
            *place = *byte;
            length = length.saturating_add(1);
        }
    }
    length
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_names_the_call() {
        for (number, digits) in [(0, "0"), (165, "165"), (u64::MAX, "18446744073709551615")] {
            let mut line = [0u8; 160];
            let length = write_line(&mut line, number);
            let text = std::str::from_utf8(&line[..length]).unwrap();
            assert!(text.ends_with(&format!("\"number\":{digits}}}\n")), "{text}");
        }
    }
}
